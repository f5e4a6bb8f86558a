"""What the Redis engine keeps where: hashes, their expiry, the index of sessions by user."""

from __future__ import annotations

import gc
import json
import logging
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.contrib.sessions.backends.base import UpdateError
from django.core.management import call_command

from dirigible_session import handles
from dirigible_session.backends.redis import record
from dirigible_session.backends.redis.listing import BATCH, READ_AT_ONCE
from dirigible_session.backends.redis.scripts import READ
from dirigible_session.lifecycle import COOKIE_LIFETIME, EXPIRY_KEY, LAG, Times
from dirigible_session.stored import Query
from tests.stores import Api

from .sessions import content, is_pointer, listed, loaded, new, store

HOUR = 60 * 60
DAY = 24 * HOUR


class Redis:
    """The server, and what is in it of this test."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.keys = client.where.keys
        self.redis = client.redis

    def names(self) -> set[bytes]:
        """Return the keys of ours, but for what tells where a session is now."""
        found = set(self.redis.scan_iter(match=f"{self.keys.prefix}*", count=1000))
        return {name for name in found if not is_pointer(self.redis, name)}

    def hash(self, key: str) -> dict[bytes, bytes]:
        return self.redis.hgetall(self.keys.session(handles.digest(key)))

    def left(self, name: bytes) -> float:
        return self.redis.pttl(name) / 1000

    def left_of(self, key: str) -> float:
        return self.left(self.keys.session(handles.digest(key)))

    def index(self, user: str) -> dict[str, float]:
        found = self.redis.zrange(self.keys.user(user), 0, -1, withscores=True)
        return {member.decode(): score for member, score in found}

    def expire(self, key: str) -> None:
        """Let a session expire, as Redis does it: without a word to anybody."""
        self.redis.delete(self.keys.session(handles.digest(key)))


@pytest.fixture
def redis(redis_anywhere: Any) -> Redis:
    return Redis(redis_anywhere)


@pytest.fixture
def calls(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands of each round trip, while it is listened to."""
    seen: list[list[str]] = []
    run = redis.client.run

    def watched(calls: Any) -> Any:
        seen.append([str(call.command()[0]) for call in calls])
        return run(calls)

    monkeypatch.setattr(redis.client, "run", watched)
    return seen


class TestAHash:
    def test_has_a_field_for_each_attribute_and_no_key(self, redis: Redis) -> None:
        key = new(cart=[1, "ü"], accessed="mine", _auth_user_id="7")
        fields = redis.hash(key)
        assert fields[b"a:cart"] == b'1 [1,"\\u00fc"]'
        assert fields[b"a:accessed"] == b'2 "mine"'
        assert fields[b"a:_auth_user_id"] == b'3 "7"'
        assert abs(float(fields[b"accessed"]) - time.time()) < 100

    def test_no_session_key_is_anywhere_in_the_keyspace(self, redis: Redis, api: Api) -> None:
        session = store()
        session["_auth_user_id"] = "7"
        keys = []
        for step in ("save", "cycle_key", "save"):
            getattr(api, step)(session)
            api.touch(session, time.time() + 100)
            keys.append(session.session_key)
        everything = []
        for name in redis.names():
            everything.append(name)
            kind = redis.redis.type(name)
            everything.append(
                repr(redis.redis.hgetall(name)).encode()
                if kind == b"hash"
                else repr(redis.redis.zrange(name, 0, -1, withscores=True)).encode()
            )
        text = b"\n".join(everything)
        assert handles.digest(keys[-1]).encode() in text
        assert not [key for key in keys if key.encode() in text or key[:12].encode() in text]

    def test_is_written_only_where_it_changed(self, redis: Redis) -> None:
        key = new(a=1, b=2)
        session = loaded(key)
        name = redis.keys.session(handles.digest(key))
        redis.redis.hset(name, b"a:a", b'1 "put there behind its back"')
        session["b"] = 3
        session.save()
        assert dict(store(key).items()) == {"a": "put there behind its back", "b": 3}

    def test_that_is_damaged_is_logged_and_loads_as_nothing(
        self, redis: Redis, caplog: pytest.LogCaptureFixture, api: Api
    ) -> None:
        for damage in (b"no place", b"1 {", b'1 "a","b"', b"1 \xff", b"1 " + b"[" * 100_000):
            key = new(a=1)
            redis.redis.hset(redis.keys.session(handles.digest(key)), b"a:a", damage)
            assert api.load(store(key)) == {}
            assert "Session data corrupted" in caplog.text
            caplog.clear()
            (stored,) = listed(digest_prefix=handles.digest(key))
            assert stored.data is None
            assert stored.error.startswith("damaged")
            assert stored.size > 0

    @pytest.mark.parametrize(
        ("field", "damage"),
        [
            (b"a:a", b"1 {"),
            (b"a:b", b"1 \xff"),
            (b"a:_session_expiry", b"1 {"),
            *[(name, b"?") for name in (b"created", b"accessed", b"serial", b"listed")],
        ],
    )
    def test_that_is_damaged_can_be_written_again(
        self, redis: Redis, api: Api, field: bytes, damage: bytes
    ) -> None:
        key = new(a=1, _auth_user_id="7")
        redis.redis.hset(redis.keys.session(handles.digest(key)), field, damage)
        session = store(key)
        assert api.get(session, "a") in (1, None)
        assert dict(api.items(session)) == {}
        session["c"] = 1
        api.save(session)
        assert content(key) == {"c": 1}
        (stored,) = listed(digest_prefix=handles.digest(key))
        assert stored.data == {"c": 1}

    def test_with_a_damaged_user_or_time_is_listed_as_damaged_and_can_be_ended(
        self, redis: Redis, api: Api
    ) -> None:
        for field, damage in ((b"a:_auth_user_id", b"1 {"), (b"created", b"then")):
            key = new(_auth_user_id="7")
            redis.redis.hset(redis.keys.session(handles.digest(key)), field, damage)
            (stored,) = listed(digest_prefix=handles.digest(key))
            assert stored.data is None
            api.delete(store(key))
            assert redis.hash(key) == {}


class TestExpiry:
    def test_is_the_end_of_the_session(self, redis: Redis, api: Api) -> None:
        session = store()
        session.set_expiry(HOUR)
        api.save(session)
        assert redis.left_of(session.session_key) == pytest.approx(HOUR, abs=60)
        session.set_expiry(2 * HOUR)
        api.save(session)
        assert redis.left_of(session.session_key) == pytest.approx(2 * HOUR, abs=60)
        api.touch(session, time.time() + HOUR)
        assert redis.left_of(session.session_key) == pytest.approx(3 * HOUR, abs=60)

    def test_without_one_of_its_own_is_the_age_of_the_cookie(
        self, redis: Redis, settings: Any
    ) -> None:
        settings.SESSION_COOKIE_AGE = 3 * HOUR
        assert redis.left_of(new(a=1)) == pytest.approx(3 * HOUR, abs=60)
        for nothing in (0, None, True):
            assert redis.left_of(new(**{EXPIRY_KEY: nothing})) > HOUR

    def test_at_a_fixed_date_does_not_slide(self, redis: Redis, api: Api) -> None:
        session = store()
        from django.utils import timezone

        session.set_expiry(timezone.now() + timezone.timedelta(hours=1))
        api.save(session)
        api.touch(session, time.time() + HOUR / 2)
        assert redis.left_of(session.session_key) == pytest.approx(HOUR, abs=60)
        session.set_expiry(2 * HOUR)
        api.save(session)
        assert redis.left_of(session.session_key) == pytest.approx(2.5 * HOUR, abs=60)

    def test_of_one_that_never_times_out_is_its_cookies_and_is_renewed(
        self, redis: Redis, api: Api
    ) -> None:
        session = store()
        session.times = Times(time.time(), time.time() - DAY, 0)
        session[EXPIRY_KEY] = COOKIE_LIFETIME
        api.save(session)
        assert redis.left_of(session.session_key) == pytest.approx(COOKIE_LIFETIME - DAY, abs=60)
        api.touch(session, time.time())
        assert redis.left_of(session.session_key) == pytest.approx(COOKIE_LIFETIME, abs=60)

    def test_comes_no_later_than_the_absolute_timeout(
        self, redis: Redis, settings: Any, api: Api
    ) -> None:
        settings.DIRIGIBLE_SESSION_ABSOLUTE_TIMEOUT = HOUR
        session = store()
        session.times = Times(time.time() - HOUR / 2, time.time())
        api.save(session)
        api.touch(session, time.time() + 60)
        assert redis.left_of(session.session_key) == pytest.approx(HOUR / 2, abs=60)

    @pytest.mark.parametrize("expiry", [1e300, 10**40])
    def test_beyond_all_dates_is_taken(self, redis: Redis, expiry: float) -> None:
        assert redis.left_of(new(**{EXPIRY_KEY: expiry})) > 1000 * 365 * DAY

    def test_of_a_rival_is_kept_by_a_save_that_did_not_know_it(
        self, redis: Redis, api: Api
    ) -> None:
        key = new(a=1)
        late, rival = loaded(key), loaded(key)
        rival.set_expiry(HOUR)
        api.save(rival)
        late["a"] = 2
        api.save(late)
        assert redis.left_of(key) == pytest.approx(HOUR, abs=60)

    def test_an_interval_that_ends_leaves_no_trace(self, redis: Redis) -> None:
        session = store()
        session.times = Times(time.time(), time.time(), -1)
        session[EXPIRY_KEY] = COOKIE_LIFETIME
        session.save()
        assert redis.hash(session.session_key)[b"interval"] == b"-1"
        session.times = Times(session.times.created, session.times.accessed, None)
        session.set_expiry(HOUR)
        session.save()
        assert b"interval" not in redis.hash(session.session_key)


class TestRoundTrips:
    def test_a_load_a_save_and_a_touch_are_one_each(self, calls: list[list[str]]) -> None:
        session = loaded(new(a=1))
        del calls[:]
        session = loaded(session.session_key)
        session["a"] = 2
        session.save()
        session.touch(time.time() + 100)
        assert calls == [["HGETALL"], ["EVALSHA"], ["EVALSHA"]]

    def test_the_index_is_written_in_the_same_and_only_now_and_then(
        self, calls: list[list[str]], settings: Any
    ) -> None:
        session = loaded(new(_auth_user_id="7"))
        interval = settings.SESSION_COOKIE_AGE
        del calls[:]
        session.save()
        session.touch(time.time() + interval / LAG / 2)
        session.touch(time.time() + 2 * interval / LAG)
        assert calls == [["EVALSHA"], ["EVALSHA"], ["EVALSHA", "EVALSHA"]]

    def test_listing_the_sessions_of_a_user_takes_two(self, redis: Redis) -> None:
        for number in range(9):
            new(n=number, _auth_user_id="7")
            new(n=number, _auth_user_id="8")
        seen: list[Any] = []
        with pytest.MonkeyPatch.context() as patch:
            for name in ("run", "scan_index", "scan", "scan_page"):
                whole = getattr(redis.client, name)
                patch.setattr(
                    redis.client,
                    name,
                    lambda *a, whole=whole, name=name: seen.append(name) or whole(*a),
                )
            assert len(listed(user_id="7", state="active")) == 9
        assert seen == ["scan_index", "run"]


class TestTheIndex:
    def test_names_the_live_sessions_of_a_user(self, redis: Redis, api: Api) -> None:
        session = store()
        session["_auth_user_id"] = "7"
        api.save(session)
        assert set(redis.index("7")) == {session.digest}
        api.cycle_key(session)
        assert set(redis.index("7")) == {session.digest}
        session["_auth_user_id"] = "8"
        api.save(session)
        assert redis.index("7") == {}
        assert set(redis.index("8")) == {session.digest}
        api.flush(session)
        assert redis.names() == set()

    def test_names_a_session_whose_user_comes_back_to_it(self, redis: Redis, api: Api) -> None:
        key = new(_auth_user_id="7")
        session = loaded(key)
        session.pop("_auth_user_id")
        api.save(session)
        assert listed(user_id="7") == []
        again = loaded(key)
        again["_auth_user_id"] = "7"
        api.save(again)
        assert len(listed(user_id="7")) == 1

    def test_names_a_session_whose_user_a_rival_removed_meanwhile(
        self, redis: Redis, api: Api
    ) -> None:
        key = new(_auth_user_id="7")
        session, rival = loaded(key), loaded(key)
        rival.pop("_auth_user_id")
        rival.save()
        session["_auth_user_id"] = "7"
        api.save(session)
        assert len(listed(user_id="7")) == 1

    def test_is_as_it_was_after_a_change_of_user_that_failed(
        self, redis: Redis, api: Api, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        key = new(_auth_user_id="7")
        session = loaded(key)
        session["_auth_user_id"] = "8"
        store(key).flush()
        again = store(key)
        again["_auth_user_id"] = "7"
        again.save(must_create=True)
        store(key).cycle_key()
        with pytest.raises(UpdateError):
            api.save(session)
        assert len(listed(user_id="7")) == 1

    def test_knows_whose_it_knows_a_session_to_be(
        self, redis: Redis, api: Api, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        session = store()
        session["_auth_user_id"] = "1"
        session.set_expiry(100)
        session.save()
        key, start = session.session_key, time.time()
        old, fresh = loaded(key), loaded(key)
        fresh["_auth_user_id"] = "2"
        api.save(fresh)
        monkeypatch.setattr(time, "time", lambda: start + 50)
        # It believes that the session is still the other user's, and that the index must be told.
        assert api.touch(old, start + 50)
        monkeypatch.setattr(time, "time", lambda: start + 52)
        assert api.touch(loaded(key), start + 52)
        assert redis.index("2")[fresh.digest] >= start + 152
        assert [found.digest for found in listed(user_id="2")] == [fresh.digest]

    def test_forgets_a_session_that_was_given_less_time(self, redis: Redis, api: Api) -> None:
        session = loaded(new(_auth_user_id="7"))
        session.set_expiry(HOUR)
        api.save(session)
        assert redis.left(redis.keys.user("7")) < HOUR + HOUR / LAG + 60

    def test_goes_when_the_last_session_of_a_user_goes_by_itself(
        self, redis: Redis, settings: Any
    ) -> None:
        settings.SESSION_COOKIE_AGE = HOUR
        key = new(_auth_user_id="7")
        assert redis.left_of(key) <= redis.left(redis.keys.user("7")) <= HOUR + HOUR / LAG + 1

    def test_leaves_nothing_of_users_that_never_return(self, redis: Redis, settings: Any) -> None:
        settings.SESSION_COOKIE_AGE = 1
        for user in range(20):
            for _ in range(3):
                new(_auth_user_id=str(user), cart=[1])
        end = time.monotonic() + 20
        while redis.names():
            assert time.monotonic() < end
            time.sleep(0.05)

    def test_forgets_what_expired_when_the_user_comes_again(
        self, redis: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for _ in range(5):
            redis.expire(new(_auth_user_id="7"))
        assert len(redis.index("7")) == 5
        later = time.time() + 30 * DAY
        monkeypatch.setattr(time, "time", lambda: later)
        key = new(_auth_user_id="7")
        assert set(redis.index("7")) == {handles.digest(key)}

    def test_lasts_as_long_as_the_longest_session(self, redis: Redis) -> None:
        session = store()
        session["_auth_user_id"] = "7"
        session.set_expiry(300 * DAY)
        session.save()
        new(_auth_user_id="7")
        assert redis.left(redis.keys.user("7")) >= 300 * DAY - 60

    def test_keeps_up_with_a_session_that_lives_on(
        self, redis: Redis, monkeypatch: pytest.MonkeyPatch, settings: Any
    ) -> None:
        settings.SESSION_COOKIE_AGE = HOUR
        session = loaded(new(_auth_user_id="7"))
        start = time.time()
        for minutes in range(0, 600, 2):
            monkeypatch.setattr(time, "time", lambda now=start + 60 * minutes: now)
            assert session.touch(time.time())
            end = float(redis.hash(session.session_key)[b"accessed"]) + HOUR
            assert redis.index("7")[session.digest] >= end

    def test_is_not_believed_blindly(self, redis: Redis) -> None:
        other, gone, mine = new(_auth_user_id="8"), new(_auth_user_id="7"), new(_auth_user_id="7")
        redis.expire(gone)
        redis.redis.zadd(redis.keys.user("7"), {handles.digest(other): time.time() + DAY})
        assert [found.digest for found in listed(user_id="7")] == [handles.digest(mine)]

    def test_takes_any_user_id(self, redis: Redis) -> None:
        for user in ("0b0e", "a b", "ü", "*", "\ud800", "x" * 300):
            key = new(_auth_user_id=user)
            assert [found.digest for found in listed(user_id=user)] == [handles.digest(key)]


class TestListing:
    def test_walks_more_than_one_batch_once_each(self, redis: Redis) -> None:
        keys = {new(n=number) for number in range(3 * BATCH + 1)}
        digests = [found.digest for found in listed()]
        assert len(digests) == len(keys)
        assert set(digests) == set(map(handles.digest, keys))

    def test_reads_no_more_than_a_batch_ahead(
        self, redis: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for number in range(3 * BATCH):
            new(n=number)
        run, read = redis.client.run, []

        def watched(calls: Any) -> Any:
            read.extend(calls)
            return run(calls)

        def count() -> int:
            return sum(call.script is READ for call in read)

        monkeypatch.setattr(redis.client, "run", watched)
        sessions = type(store()).list_stored(Query(now=time.time()))
        next(sessions)
        assert count() == BATCH
        assert len(list(sessions)) == 3 * BATCH - 1

    def test_holds_no_more_bytes_than_it_says(self, redis: Redis) -> None:
        size = 2**20
        for number in range(40):
            new(n=number, text="x" * size)
        sessions = type(store()).list_stored(Query(now=time.time()))
        gc.collect()
        tracemalloc.start()
        try:
            count = 0
            for stored in sessions:
                assert len(stored.data["text"]) == size
                count += 1
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert count == 40
        # The answers, and one session as bytes, as text and parsed.
        assert peak < 3 * READ_AT_ONCE

    def test_gives_a_session_that_is_larger_than_that(self, redis: Redis) -> None:
        for number in range(3):
            new(n=number, text="x" * (READ_AT_ONCE + 1))
        assert sorted(found.data["n"] for found in listed()) == [0, 1, 2]

    def test_by_a_prefix_of_the_digest(self, redis: Redis) -> None:
        keys = [new(n=number) for number in range(40)]
        prefix = handles.digest(keys[0])[:4]
        expected = {d for d in map(handles.digest, keys) if d.startswith(prefix)}
        assert {found.digest for found in listed(digest_prefix=prefix)} == expected

    def test_by_a_user_of_many_sessions(self, redis: Redis) -> None:
        keys = {new(_auth_user_id="7") for _ in range(2 * BATCH + 1)}
        new(_auth_user_id="8")
        assert {found.digest for found in listed(user_id="7")} == set(map(handles.digest, keys))
        digest = handles.digest(next(iter(keys)))
        assert [f.digest for f in listed(user_id="7", digest_prefix=digest[:8])] == [digest]
        assert listed(user_id="8", digest_prefix=digest) == []

    def test_what_a_prefix_of_keys_means_as_a_pattern_is_taken_literally(
        self, redis: Redis, settings: Any
    ) -> None:
        url = settings.DIRIGIBLE_SESSION_REDIS_URL
        here = new(a=1)
        name = redis.keys.prefix.rstrip(":")
        settings.DIRIGIBLE_SESSION_REDIS_URL = url.replace(f"={name}:", f"={name}%5B*%5D%3F%5C:")
        there = new(a=1)
        assert [found.digest for found in listed()] == [handles.digest(there)]
        store(there).flush()
        settings.DIRIGIBLE_SESSION_REDIS_URL = url
        assert [found.digest for found in listed()] == [handles.digest(here)]


class TestClearsessions:
    @pytest.fixture(autouse=True)
    def _log(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "dirigible_session")
        self.log = caplog

    def clear(self, ended: int, removed: int, added: int) -> None:
        self.log.clear()
        call_command("clearsessions")
        assert f"deleted {ended} expired sessions" in self.log.text
        assert f"removed {removed} entries" in self.log.text
        assert f"added {added}." in self.log.text

    def test_leaves_live_sessions_alone(self, redis: Redis) -> None:
        key = new(a=1, _auth_user_id="7")
        before = redis.hash(key), redis.index("7")
        self.clear(0, 0, 0)
        assert (redis.hash(key), redis.index("7")) == before

    def test_deletes_what_is_over_by_limits_that_were_lowered(
        self, redis: Redis, settings: Any
    ) -> None:
        old = store()
        old.times = Times(time.time() - DAY, time.time() - DAY)
        old["_auth_user_id"] = "7"
        old.save()
        live = new(_auth_user_id="7")
        settings.SESSION_COOKIE_AGE = HOUR
        self.clear(1, 0, 0)
        assert redis.hash(old.session_key) == {}
        assert redis.hash(live) != {}
        assert set(redis.index("7")) == {handles.digest(live)}

    def test_removes_what_is_gone_from_the_index(self, redis: Redis) -> None:
        keys = [new(_auth_user_id=str(number % 3)) for number in range(9)]
        for key in keys[:7]:
            redis.expire(key)
        redis.redis.zadd(redis.keys.user("1"), {handles.digest(keys[8]): time.time() + DAY})
        self.clear(0, 8, 0)
        assert redis.index("0") == {}
        assert set(redis.index("1")) == {handles.digest(keys[7])}
        assert set(redis.index("2")) == {handles.digest(keys[8])}

    def test_asks_for_many_at_once(
        self, redis: Redis, settings: Any, calls: list[list[str]]
    ) -> None:
        for _ in range(BATCH):
            old = store()
            old.times = Times(time.time() - DAY, time.time() - DAY)
            old["_auth_user_id"] = "7"
            old.save()
        settings.SESSION_COOKIE_AGE = HOUR
        del calls[:]
        self.clear(BATCH, 0, 0)
        # Redis gives the keys in portions of its own.
        assert sum(len(trip) for trip in calls) >= 2 * BATCH
        assert len(calls) < BATCH / 5

    def test_leaves_alone_what_is_no_session(self, redis: Redis) -> None:
        for name in (b"x", b"\xff" * 40, b"A" * 40):
            redis.redis.hset(redis.keys.session("") + name, "accessed", "1")
        key = new(a=1)
        self.clear(0, 0, 0)
        assert [found.digest for found in listed()] == [handles.digest(key)]

    def test_brings_back_what_the_index_lost(self, redis: Redis) -> None:
        key = new(_auth_user_id="7")
        redis.redis.delete(redis.keys.user("7"))
        assert listed(user_id="7") == []
        self.clear(0, 0, 1)
        assert [found.digest for found in listed(user_id="7")] == [handles.digest(key)]
        assert redis.left(redis.keys.user("7")) > DAY

    def test_spares_a_session_that_is_visited_in_that_moment(
        self, redis: Redis, settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        old = store()
        old.times = Times(time.time() - DAY, time.time() - DAY)
        old.save()
        visitor = loaded(old.session_key)
        settings.SESSION_COOKIE_AGE = HOUR
        run = redis.client.run

        def run_late(calls: Any) -> Any:
            monkeypatch.setattr(redis.client, "run", run)
            visitor.touch(time.time())
            return run(calls)

        monkeypatch.setattr(redis.client, "run", run_late)
        self.clear(0, 0, 0)
        assert redis.hash(old.session_key) != {}


def test_an_undecodable_session_does_not_hide_the_rest(redis: Redis) -> None:
    good, bad = new(a=1), new(a=1)
    redis.redis.hset(redis.keys.session(handles.digest(bad)), b"a:a", b"1 {")
    found = {stored.digest: stored.data for stored in listed(state="active")}
    assert found == {handles.digest(good): {"a": 1}, handles.digest(bad): None}
    assert json.dumps(found)


class TestEndingSeveral:
    def test_takes_two_round_trips_and_keeps_the_index_right(
        self, redis: Redis, calls: list[list[str]]
    ) -> None:
        ended = [new(_auth_user_id=str(number % 2), n=number) for number in range(20)]
        ended.append(new(n=1))
        kept = new(_auth_user_id="0")
        digests = set(map(handles.digest, ended))
        del calls[:]
        assert type(store()).end_stored([*digests, "0" * 40]) == digests
        assert calls == [["EVALSHA"] * 22, ["ZREM"] * 20]
        assert {found.digest for found in listed()} == {handles.digest(kept)}
        assert set(redis.index("0")) == {handles.digest(kept)}
        assert redis.index("1") == {}

    def test_of_none_asks_nothing(self, redis: Redis, calls: list[list[str]]) -> None:
        assert type(store()).end_stored([]) == set()

    def test_goes_on_where_the_scripts_are_lost(self, redis: Redis) -> None:
        ended = {handles.digest(new(n=number)) for number in range(20)}
        redis.redis.script_flush()
        assert type(store()).end_stored(list(ended)) == ended

    def test_is_told_to_one_of_several_who_end_it(self, redis: Redis) -> None:
        digests = [handles.digest(new(n=number)) for number in range(100)]
        with ThreadPoolExecutor(4) as pool:
            told = list(pool.map(type(store()).end_stored, [digests] * 4))
        assert sorted(digest for ended in told for digest in ended) == sorted(digests)


class TestALogin:
    def test_has_a_field_of_its_own_that_begins_the_absolute_timeout(
        self, redis: Redis, api: Api, settings: Any
    ) -> None:
        settings.DIRIGIBLE_SESSION_ABSOLUTE_TIMEOUT = HOUR
        now = time.time()
        session = store()
        session.times = Times(now - HOUR / 2, now)
        api.save(session)
        key = session.session_key
        assert redis.left_of(key) == pytest.approx(HOUR / 2, abs=60)
        session.times = Times(now - HOUR / 2, now, None, now - 100)
        api.save(session)
        assert redis.left_of(key) == pytest.approx(HOUR - 100, abs=60)
        assert loaded(key).times == session.times
        api.touch(loaded(key), now + 60)
        assert redis.left_of(key) == pytest.approx(HOUR - 100, abs=60)
        session.times = Times(now - HOUR / 2, now, None, None)
        api.save(session)
        assert b"authenticated" not in redis.hash(key)
        assert loaded(key).times.authenticated is None

    def test_stays_with_the_session_when_its_key_changes(self, redis: Redis, api: Api) -> None:
        session = loaded(new(a=1))
        login = time.time() - 5
        session.times = Times(session.times.created, session.times.accessed, None, login)
        api.cycle_key(session)
        assert loaded(session.session_key).times.authenticated == login
        api.cycle_key(session)
        assert loaded(session.session_key).times.authenticated == login


def test_long_names_of_attributes_are_not_kept_in_memory(redis: Redis) -> None:
    record._kept_field.cache_clear()
    name = "x" * 1_000_000
    key = new(**{name: 1, "short": 1})
    assert content(key) == {name: 1, "short": 1}
    assert record._kept_field.cache_info().currsize <= 3
