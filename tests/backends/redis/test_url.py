"""What the URL of the Redis engine may say."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from dirigible_session.backends.redis.client import target
from dirigible_session.backends.redis.library import try_options
from dirigible_session.backends.redis.url import OPTIONS, SCHEMES, SENTINEL, parse


def test_one_server() -> None:
    where = parse("redis://ann:secret@host:7000/2?socket_timeout=0.5&prefix=shop:")
    assert where.nodes == (("host", 7000),)
    assert where.options["username"] == "ann"
    assert where.options["password"] == "secret"
    assert where.options["db"] == 2
    assert where.is_one_server
    assert not where.uses_tls
    assert where.socket_timeout == 0.5
    assert where.keys.session("ab") == b"shop:session:ab"
    assert where.keys.user("7") == b"shop:user:7"


def test_a_cluster_is_named_by_some_of_its_nodes() -> None:
    where = parse("rediss+cluster://:secret@a:7000,b,[::1]:7002")
    assert where.is_cluster
    assert where.uses_tls
    assert where.nodes == (("a", 7000), ("b", 6379), ("::1", 7002))
    assert where.options["password"] == "secret"
    assert not {"username", "db"} & set(where.options)


def test_sentinels_are_named_with_the_service_that_they_watch() -> None:
    where = parse("redis+sentinel://ann:secret@a:7000,b/my%20master/3?sentinel_password=other")
    assert where.is_one_server
    assert where.service == "my master"
    assert where.nodes == (("a", 7000), ("b", 26379))
    assert where.options["db"] == 3
    assert where.options["password"] == "secret"
    assert where.sentinel_options == {"password": "other"}
    assert where.shown == "at redis+sentinel://a:7000,b:26379/my%20master/3"
    assert parse("rediss+sentinel://a/main").options["db"] == 0


@pytest.mark.parametrize(
    ("valkey", "redis"),
    [
        ("valkey://a/1", "redis://a/1"),
        ("valkeys://a:1", "rediss://a:1"),
        ("valkey+cluster://a,b", "redis+cluster://a,b"),
        ("valkeys+cluster://a", "rediss+cluster://a"),
        ("valkey+sentinel://a/main/1", "redis+sentinel://a/main/1"),
        ("valkeys+sentinel://a/main", "rediss+sentinel://a/main"),
    ],
)
def test_valkey_stands_for_redis(valkey: str, redis: str) -> None:
    one, other = asdict(parse(valkey)), asdict(parse(redis))
    assert one.pop("keys").prefix == other.pop("keys").prefix
    assert one == other


def test_a_password_may_stand_in_a_setting_of_its_own() -> None:
    where = parse("redis://ann@host", "se/cr@t")
    assert where.options["username"] == "ann"
    assert where.options["password"] == "se/cr@t"
    assert "se/cr@t" not in repr(where)
    assert "password" not in parse("redis://host", "").options
    for url in ("redis://:secret@host", "redis://host?password=secret"):
        with pytest.raises(ValueError, match="REDIS_PASSWORD is set; only one") as raised:
            parse(url, "secret")
        assert "secret" not in str(raised.value)
    with pytest.raises(ValueError, match="not a str but bytes"):
        parse("redis://host", b"secret")


def test_of_a_url_beside_a_factory_the_prefix_counts() -> None:
    where = parse("redis://host?prefix=shop:", None, "project.clients.make")
    assert where.keys.prefix == "shop:"
    assert where.shown == "behind project.clients.make"
    assert not where.is_one_server
    assert parse(None, None, "project.clients.make").keys.prefix == "dirigible:"


def test_a_socket() -> None:
    where = parse("unix:///run/redis.sock?db=3")
    assert where.path == "/run/redis.sock"
    assert where.options["db"] == 3


def test_nothing_waits_for_ever_and_keys_have_a_prefix_by_default() -> None:
    where = parse("redis://host")
    assert 0 < where.socket_timeout < 60
    assert where.keys.prefix == "dirigible:"


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        (None, "not the URL"),
        ("", "not the URL"),
        (5, "not the URL"),
        ([], "not the URL"),
        ({}, "not the URL"),
        (" redis://host", "white space"),
        ("redis://lo cal", "white space"),
        ("redis://host:0", "as host:port"),
        ("redis://host?db=-1", "'db'"),
        ("rediss://host?ssl_cert_reqs=bogus", "ssl_cert_reqs"),
        ("host:6379", "scheme"),
        ("http://host", "scheme"),
        ("redis://[::1", "not a URL"),
        ("redis://", "no host"),
        ("redis://host:port", "as host:port"),
        ("redis://host:99999", "as host:port"),
        ("redis://a,b", r"redis\+cluster://"),
        ("redis+cluster://a,,b", "no host"),
        ("redis+cluster://a/1", "number 0"),
        ("redis+cluster://a?db=1", "number 0"),
        ("redis://host/db", "number of a database"),
        ("unix://", "no socket"),
        ("redis://host?socket_timeout=0", "socket_timeout"),
        ("redis://host?socket_timeout=never", "'never'"),
        ("redis://host?socket_timeout=inf", "socket_timeout"),
        ("redis://host?socket_keepalive=perhaps", "socket_keepalive"),
        ("redis://host?decode_responses=1", "decode_responses"),
        ("redis://host?health_check_interval=2.5", "a whole number of seconds, not '2.5'"),
        ("redis://host?db=1e3", "'db' must be a number"),
        ("redis://host?ssl_certfile=a", "needs TLS"),
        ("unix:///run/a.sock?socket_keepalive=1", "socket_keepalive"),
        ("redis://host?sentinel_password=a", r"a scheme with \+sentinel"),
        ("rediss+cluster://host?ssl_ca_path=a", "not for a cluster"),
        ("redis+sentinel://a,b", "does not name the service"),
        ("redis+sentinel://a,b/main/x", "number of a database"),
        ("valkey+other://a", "'valkey"),
    ],
)
def test_what_is_wrong_is_said(url: object, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse(url)


def test_a_password_is_shown_nowhere() -> None:
    for url in ("redis://:secret@host", "redis://host?password=secret"):
        assert "secret" not in parse(url).shown
        assert "secret" not in repr(parse(url))
    for url in ("redis://:secret@", "redis://:secret@host:port", "redis://x:secret@a,b"):
        with pytest.raises(ValueError, match="name") as raised:
            parse(url)
        assert "secret" not in str(raised.value)


@pytest.mark.parametrize("mark", "#/?@:[")
@pytest.mark.parametrize("url", ["redis://user:sec{}ret@host:1/0", "redis://:sec{}ret@host"])
def test_nothing_of_a_password_that_is_not_encoded_is_shown(url: str, mark: str) -> None:
    try:
        shown = parse(url.format(mark)).shown
    except ValueError as problem:
        shown = str(problem)
    assert "sec" not in shown
    assert "ret" not in shown


def test_a_password_may_be_encoded() -> None:
    where = parse("redis://:sec%2F%3F%23%40ret@host")
    assert where.options["password"] == "sec/?#@ret"


def test_a_store_without_a_url_says_which_setting_it_needs(settings: Any) -> None:
    settings.DIRIGIBLE_SESSION_REDIS_URL = None
    with pytest.raises(ImproperlyConfigured, match="DIRIGIBLE_SESSION_REDIS_URL"):
        target()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("option", sorted(OPTIONS))
def test_redis_py_takes_what_the_url_may_say(scheme: str, option: str) -> None:
    host = "/run/redis.sock" if scheme == "unix" else "host"
    service = "/main" if scheme.endswith(SENTINEL) else ""
    value = {"db": "0", "ssl_cert_reqs": "required"}.get(option, "1")
    where = None
    with suppress(ValueError):
        where = parse(f"{scheme}://{host}{service}?{option}={value}")
    if where is None:
        return
    try:
        try_options(where)
    except TypeError:
        # One that an older redis-py does not know yet; the check tells.
        assert option == "ssl_ca_path"
