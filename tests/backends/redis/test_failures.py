"""When Redis is away, ill or new: a clear error or a session that is as it was, and no hang."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import redis.asyncio
from asgiref.sync import async_to_sync
from django.contrib.sessions.backends.base import UpdateError
from django.core.management import call_command

from dirigible_session.backends.redis.client import AsyncClient, Client, clients
from dirigible_session.backends.redis.record import HALF_DONE
from dirigible_session.exceptions import StoreUnavailable
from tests.redis_servers import Server, running, until
from tests.stores import Api

from .proxy import Proxy
from .sessions import content, is_pointer, listed, loaded, new, store

TIMEOUT = 0.3


@pytest.fixture
def server(settings: Any) -> Iterator[Server]:
    """A server of our own that keeps its data when told to, set up as the store of sessions."""
    settings.SESSION_ENGINE = "dirigible_session.backends.redis"
    with running("--appendonly", "yes", "--appendfsync", "always") as server:
        use(settings, server.port)
        yield server
        clients.close()


def use(settings: Any, port: int) -> None:
    url = f"redis://127.0.0.1:{port}/0?socket_timeout={TIMEOUT}&socket_connect_timeout={TIMEOUT}"
    settings.DIRIGIBLE_SESSION_REDIS_URL = url


def test_a_page_that_only_reads_works_where_no_access_can_be_recorded(
    server: Server, settings: Any, client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.ROOT_URLCONF = "tests.backends.urls"
    settings.DIRIGIBLE_SESSION_TOUCH_INTERVAL = 0
    client.cookies["sessionid"] = new(a=1)
    with server.redis as admin:
        admin.config_set("maxmemory", 1)
        for _ in range(2):
            response = client.get("/read/")
            assert (response.status_code, response.content) == (200, b"1")
        assert "could not be recorded" in caplog.text
        with pytest.raises(StoreUnavailable, match="no memory left"):
            client.get("/set/")
        admin.config_set("maxmemory", 0)


class TestAServerThatIsDown:
    def test_a_load_says_so_and_keeps_the_key(self, server: Server, api: Api) -> None:
        key = new(a=1)
        server.stop()
        session = store(key)
        with pytest.raises(StoreUnavailable, match="can't be reached"):
            api.load(session)
        assert session.session_key == key

    def test_a_save_says_so_and_not_that_the_session_is_gone(
        self, server: Server, api: Api
    ) -> None:
        session = loaded(new(a=1))
        server.stop()
        session["a"] = 2
        with pytest.raises(StoreUnavailable, match=f"127.0.0.1:{server.port}"):
            api.save(session)

    def test_a_touch_a_deletion_and_a_listing_say_so(self, server: Server, api: Api) -> None:
        session = loaded(new(a=1))
        server.stop()
        with pytest.raises(StoreUnavailable):
            api.touch(session, time.time() + 100)
        with pytest.raises(StoreUnavailable):
            api.delete(session)
        with pytest.raises(StoreUnavailable):
            type(session).clear_expired()

    def test_it_is_used_again_when_it_is_back_with_its_data(self, server: Server, api: Api) -> None:
        key = new(a=1)
        session = loaded(key)
        server.stop()
        with pytest.raises(StoreUnavailable):
            api.load(store(key))
        server.start()
        session["b"] = 2
        api.save(session)
        assert content(key) == {"a": 1, "b": 2}

    def test_a_restart_between_two_calls_is_not_noticed(self, server: Server, api: Api) -> None:
        key = new(a=1)
        session = loaded(key)
        server.stop()
        server.start()
        session["b"] = 2
        api.save(session)
        assert content(key) == {"a": 1, "b": 2}

    def test_one_that_is_back_empty_has_no_session_and_gets_none_back(
        self, server: Server, api: Api
    ) -> None:
        key = new(a=1)
        session = loaded(key)
        server.redis.flushall()
        server.stop()
        server.start()
        session["b"] = 2
        with pytest.raises(UpdateError):
            api.save(session)
        assert api.load(store(key)) == {}
        assert server.redis.dbsize() == 0


@pytest.mark.slow
class TestAServerThatRefuses:
    def test_without_memory_it_takes_no_change_and_says_so(self, server: Server, api: Api) -> None:
        key = new(a=1, b=1)
        session = loaded(key)
        server.redis.config_set("maxmemory-policy", "noeviction")
        server.redis.config_set("maxmemory", "1")
        session["a"] = 2
        session["b"] = 2
        with pytest.raises(StoreUnavailable, match=r"no memory left .* Raise its maxmemory"):
            api.save(session)
        with pytest.raises(StoreUnavailable, match="no memory left"):
            api.save(store())
        assert content(key) == {"a": 1, "b": 1}

    def test_without_memory_a_session_stays_its_users(self, server: Server, api: Api) -> None:
        key = new(_auth_user_id="7")
        session = loaded(key)
        server.redis.config_set("maxmemory", "1")
        session["_auth_user_id"] = "8"
        with pytest.raises(StoreUnavailable):
            api.save(session)
        assert [found.digest for found in listed(user_id="7")] == [session.digest]

    def test_without_memory_a_session_can_still_be_ended(self, server: Server, api: Api) -> None:
        key = new(a=1, _auth_user_id="7")
        server.redis.config_set("maxmemory", "1")
        api.flush(loaded(key))
        assert server.redis.dbsize() == 0

    def test_a_replica_says_that_it_takes_no_writes(
        self, server: Server, api: Api, settings: Any
    ) -> None:
        key = new(a=1)
        with running("--replicaof", "127.0.0.1", str(server.port)) as replica:
            until(lambda: replica.redis.info("replication")["master_link_status"] == "up")
            use(settings, replica.port)
            session = loaded(key)
            assert session["a"] == 1
            session["a"] = 2
            with pytest.raises(StoreUnavailable, match="replica"):
                api.save(session)

    def test_one_that_became_the_primary_is_used_again(
        self, server: Server, api: Api, settings: Any
    ) -> None:
        key = new(a=1)
        with running("--replicaof", "127.0.0.1", str(server.port)) as replica:
            until(lambda: replica.redis.info("replication")["master_link_status"] == "up")
            use(settings, replica.port)
            session = loaded(key)
            replica.redis.replicaof("NO", "ONE")
            session["a"] = 2
            api.save(session)
            assert content(key) == {"a": 2}

    def test_a_wrong_password_is_named_as_the_reason_and_not_shown(
        self, server: Server, api: Api, settings: Any
    ) -> None:
        server.redis.config_set("requirepass", "right")
        settings.DIRIGIBLE_SESSION_REDIS_URL = f"redis://:wrong@127.0.0.1:{server.port}/0"
        with pytest.raises(StoreUnavailable, match="password") as raised:
            api.load(store("a" * 32))
        assert "wrong" not in str(raised.value)

    def test_a_key_of_another_kind_is_an_error_and_no_empty_session(
        self, server: Server, api: Api
    ) -> None:
        session = store("a" * 32)
        server.redis.set(f"dirigible:session:{session.digest}", "text")
        with pytest.raises(StoreUnavailable, match="WRONGTYPE"):
            api.load(session)


class TestAServerThatIsReachedAnotherWay:
    def test_by_a_socket(self, api: Api, settings: Any, tmp_path: Any) -> None:
        settings.SESSION_ENGINE = "dirigible_session.backends.redis"
        path = tmp_path / "redis.sock"
        with running("--unixsocket", str(path)):
            settings.DIRIGIBLE_SESSION_REDIS_URL = f"unix://{path}?db=0&socket_timeout=5"
            session = store()
            session["a"] = 1
            api.save(session)
            assert dict(api.items(store(session.session_key))) == {"a": 1}
            clients.close()

    def test_a_node_of_a_cluster_says_how_a_cluster_is_named(
        self, redis_cluster_url: str, api: Api, settings: Any
    ) -> None:
        settings.SESSION_ENGINE = "dirigible_session.backends.redis"
        node = redis_cluster_url.removeprefix("redis+cluster://").partition(",")[0]
        settings.DIRIGIBLE_SESSION_REDIS_URL = f"redis://{node}/0"
        sessions = [store(f"{number:032}") for number in range(100)]
        with pytest.raises(StoreUnavailable, match=r"redis\+cluster://"):
            # Some are on this node.
            any(api.load(session) for session in sessions)
        clients.close()


class TestAChangeOfKeyThatBreaksOff:
    """Wherever it breaks off, who comes with the old key finds the session, whole."""

    @pytest.mark.parametrize("answered", [0, 1, 2])
    def test_leaves_the_old_session_and_nothing_else_for_long(
        self, server: Server, api: Api, monkeypatch: pytest.MonkeyPatch, answered: int
    ) -> None:
        key = new(a=1, _auth_user_id="7")
        session = loaded(key)
        session["b"] = 2
        stall_after(monkeypatch, answered)
        with pytest.raises(StoreUnavailable):
            api.cycle_key(session)
        monkeypatch.undo()
        assert session.session_key == key
        assert api.exists(store(), key)
        assert dict(api.items(store(key))) == {"a": 1, "_auth_user_id": "7"}
        assert server.redis.pttl(f"dirigible:session:{session.digest}") > 60_000
        api.save(session)
        assert content(key) == {"a": 1, "_auth_user_id": "7", "b": 2}
        lasting = [
            name for name in server.redis.scan_iter("*session:*") if server.redis.ttl(name) > 60
        ]
        if answered < 2:
            assert lasting == [f"dirigible:session:{session.digest}".encode()]

    def test_is_not_undone_once_the_session_is_ended(
        self, server: Server, api: Api, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        key = new(a=1)
        session = loaded(key)
        stall_after(monkeypatch, 1)
        with pytest.raises(StoreUnavailable):
            api.cycle_key(session)
        monkeypatch.undo()
        api.delete(store(), key)
        assert api.load(store(key)) == {}
        assert not api.exists(store(), key)

    @pytest.mark.parametrize("answered", [1, 2])
    def test_heals_whenever_the_client_comes(
        self, server: Server, api: Api, monkeypatch: pytest.MonkeyPatch, answered: int
    ) -> None:
        key = new(a=1, _auth_user_id="7")
        session = loaded(key)
        name = f"dirigible:session:{session.digest}"
        kept = server.redis.pttl(name)
        stall_after(monkeypatch, answered)
        with pytest.raises(StoreUnavailable):
            api.cycle_key(session)
        monkeypatch.undo()
        assert not server.redis.hexists(name, "accessed")
        assert server.redis.pttl(name) > kept - 60_000
        assert dict(api.items(store(key))) == {"a": 1, "_auth_user_id": "7"}
        assert server.redis.hexists(name, "accessed")
        assert not server.redis.hexists(name, "moved_at")

    def test_is_a_session_like_any_for_those_who_end_it(
        self, server: Server, api: Api, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        key = new(a=1, _auth_user_id="7")
        session = loaded(key)
        stall_after(monkeypatch, 2)
        with pytest.raises(StoreUnavailable):
            api.cycle_key(session)
        monkeypatch.undo()
        # A minute is more than a change of key takes: after it, the new one is gone by itself.
        (other,) = [
            d.decode()[-40:]
            for d in server.redis.keys("*session:*")
            if session.digest.encode() not in d
        ]
        server.redis.delete(f"dirigible:session:{other}")
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + HALF_DONE + 1)
        (found,) = listed(user_id="7")
        assert found.digest == session.digest
        assert found.data == {"a": 1, "_auth_user_id": "7"}
        call_command("clearsessions")
        assert len(listed(user_id="7")) == 1
        assert type(session).end_stored([found.digest]) == {found.digest}
        assert api.load(store(key)) == {}

    def test_is_not_listed_beside_the_new_one_while_it_is_under_way(
        self, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        key = new(a=1, _auth_user_id="7")
        seen = []
        run = Client.run

        def look(client: Any, calls: Any) -> Any:
            answers = run(client, calls)
            with monkeypatch.context() as patch:
                patch.setattr(Client, "run", run)
                seen.append(len(listed(user_id="7")))
            return answers

        monkeypatch.setattr(Client, "run", look)
        store(key).cycle_key()
        # Loaded, copied, moved, kept, forgotten, no longer in the index.
        assert seen == [1, 2, 1, 1, 1, 1]

    @pytest.mark.parametrize("trip", [1, 2, 3])
    @pytest.mark.parametrize("which", ["old", "listed"])
    def test_ends_where_the_session_is_ended_meanwhile(
        self, server: Server, monkeypatch: pytest.MonkeyPatch, trip: int, which: str
    ) -> None:
        key = new(a=1, _auth_user_id="7")
        session = loaded(key)
        old = session.digest
        run = Client.run
        trips = []

        def end(client: Any, calls: Any) -> Any:
            answers = run(client, calls)
            trips.append(calls)
            if len(trips) == trip:
                monkeypatch.setattr(Client, "run", run)
                found = {old} if which == "old" else {found.digest for found in listed()}
                assert type(session).end_stored([*found]) == found
            return answers

        monkeypatch.setattr(Client, "run", end)
        session.cycle_key()
        with pytest.raises(UpdateError):
            session.save()
        assert listed() == []
        assert all(is_pointer(server.redis, name) for name in server.redis.scan_iter())

    def test_is_taken_over_by_a_later_change_of_key(
        self, server: Server, api: Api, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        key = new(a=1, _auth_user_id="7")
        session, late = loaded(key), loaded(key)
        stall_after(monkeypatch, 1)
        with pytest.raises(StoreUnavailable):
            api.cycle_key(session)
        monkeypatch.undo()
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + HALF_DONE + 1)
        api.cycle_key(late)
        assert content(late.session_key) == {"a": 1, "_auth_user_id": "7"}
        assert is_pointer(server.redis, f"dirigible:session:{session.digest}".encode())


def stall_after(monkeypatch: pytest.MonkeyPatch, answered: int) -> None:
    """Let the server's answers get lost after so many, each of them done."""
    left = [answered]

    def is_lost() -> bool:
        left[0] -= 1
        return left[0] < 0

    run, arun = Client.run, AsyncClient.run

    def lose(client: Any, calls: Any) -> Any:
        answers = run(client, calls)
        if is_lost():
            raise StoreUnavailable("no answer")
        return answers

    async def alose(client: Any, calls: Any) -> Any:
        answers = await arun(client, calls)
        if is_lost():
            raise StoreUnavailable("no answer")
        return answers

    monkeypatch.setattr(Client, "run", lose)
    monkeypatch.setattr(AsyncClient, "run", alose)


class TestALostScriptCache:
    def test_every_operation_goes_on(self, server: Server, api: Api) -> None:
        session = store()
        for step in ("save", "save", "cycle_key", "flush"):
            server.redis.script_flush()
            session["_auth_user_id"] = "7"
            session[step] = 1
            getattr(api, step)(session)
        # Of the session that was ended, there is only where it had been before.
        (name,) = server.redis.keys()
        assert is_pointer(server.redis, name)

    def test_a_touch_goes_on(self, server: Server, api: Api) -> None:
        session = loaded(new(_auth_user_id="7"))
        server.redis.script_flush()
        assert api.touch(session, time.time() + 40 * 24 * 3600) is True


class TestAConnectionThatBreaks:
    """A proxy passes each call on and breaks the connection before the answer, or never answers."""

    @pytest.mark.parametrize("reached", [True, False], ids=["after", "before"])
    @pytest.mark.parametrize("step", ["save", "touch", "cycle_key", "flush", "create"])
    def test_the_call_is_done_once(
        self, server: Server, api: Api, settings: Any, step: str, reached: bool
    ) -> None:
        key = new(a=1, _auth_user_id="7")
        with Proxy(server.port) as proxy:
            use(settings, proxy.port)
            session = loaded(key)
            session["b"] = 2
            proxy.cut_next(reached=reached)
            if step == "touch":
                assert api.touch(session, time.time() + 100) is True
            else:
                getattr(api, step)(session)
            assert proxy.cuts == 1
            names = {stored.digest: dict(stored.data) for stored in listed()}
            mine = {"a": 1, "_auth_user_id": "7"}
            assert (
                names
                == {
                    "save": {session.digest: mine | {"b": 2}},
                    "touch": {session.digest: mine},
                    "cycle_key": {session.digest: mine | {"b": 2}},
                    "flush": {},
                    "create": {session.digest: mine | {"b": 2}, store(key).digest: mine},
                }[step]
            )
            clients.close()

    def test_one_that_breaks_twice_is_a_clear_error(
        self, server: Server, api: Api, settings: Any
    ) -> None:
        with Proxy(server.port) as proxy:
            use(settings, proxy.port)
            proxy.cut_next(2, reached=True)
            session = store()
            session["a"] = 1
            with pytest.raises(StoreUnavailable):
                api.save(session)
            clients.close()

    def test_one_that_never_answers_is_given_up_after_its_time(
        self, server: Server, api: Api
    ) -> None:
        key = new(a=1)
        session = loaded(key)
        server.process.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(StoreUnavailable, match=r"socket_timeout 0\.3 s"):
                api.load(store(key))
            session["a"] = 2
            with pytest.raises(StoreUnavailable, match="in time"):
                api.save(session)
        finally:
            server.process.send_signal(signal.SIGCONT)
        until(server.redis.ping)
        assert content(key)["a"] in (1, 2)

    def test_one_that_is_loading_says_so(
        self, server: Server, api: Api, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def load(*args: Any, **kwargs: Any) -> None:
            raise redis.BusyLoadingError("Redis is loading the dataset in memory")

        for connection in (redis.Connection, redis.asyncio.Connection):
            monkeypatch.setattr(connection, "read_response", load)
        with pytest.raises(StoreUnavailable, match="still loading"):
            api.load(store("a" * 32))
        monkeypatch.undo()


def test_the_async_clients_need_no_loop_that_lives_on(server: Server, settings: Any) -> None:
    # Without the short timeouts, since each loop connects anew.
    settings.DIRIGIBLE_SESSION_REDIS_URL = server.url
    key = new(a=1)

    async def read() -> Any:
        return await store(key).aget("a")

    assert [async_to_sync(read)() for _ in range(3)] == [1, 1, 1]
