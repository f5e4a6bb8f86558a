"""What the URL of the Redis engine may say."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from dirigible_session.backends.redis.client import target
from dirigible_session.backends.redis.url import parse


def test_one_server() -> None:
    where = parse("redis://ann:secret@host:7000/2?socket_timeout=0.5&prefix=shop:")
    assert where.url == "redis://ann:secret@host:7000/2?socket_timeout=0.5"
    assert not where.is_cluster
    assert where.socket_timeout == 0.5
    assert where.keys.session("ab") == b"shop:session:ab"
    assert where.keys.user("7") == b"shop:user:7"


def test_a_cluster_is_named_by_some_of_its_nodes() -> None:
    where = parse("rediss+cluster://:secret@a:7000,b,[::1]:7002")
    assert where.is_cluster
    assert where.url == "rediss://:secret@a:7000"
    assert where.other_nodes == (("b", 6379), ("::1", 7002))


def test_a_socket() -> None:
    assert parse("unix:///run/redis.sock?db=3").url == "unix:///run/redis.sock?db=3"


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
        ("redis://host:0", "not as host:port"),
        ("redis://host?db=-1", "'db'"),
        ("rediss://host?ssl_cert_reqs=bogus", "ssl_cert_reqs"),
        ("host:6379", "scheme"),
        ("http://host", "scheme"),
        ("redis://[::1", "not a URL"),
        ("redis://", "no host"),
        ("redis://host:port", "not as host:port"),
        ("redis://host:99999", "not as host:port"),
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
        with pytest.raises(ValueError, match="it names") as raised:
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
    assert where.url == "redis://:sec%2F%3F%23%40ret@host:6379"


def test_a_store_without_a_url_says_which_setting_it_needs(settings: Any) -> None:
    settings.DIRIGIBLE_SESSION_REDIS_URL = None
    with pytest.raises(ImproperlyConfigured, match="DIRIGIBLE_SESSION_REDIS_URL"):
        target()
