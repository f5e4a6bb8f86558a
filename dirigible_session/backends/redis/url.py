"""What ``DIRIGIBLE_SESSION_REDIS_URL`` says: which server or cluster, how to reach it, which keys.

``redis://``, ``rediss://`` (TLS) and ``unix://`` name one server, in the form that redis-py takes.
``redis+cluster://host:port,host:port`` and ``rediss+cluster://…`` name some nodes of a cluster;
the client asks them for the others. Options follow as a query: see :data:`OPTIONS`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

SETTING = "DIRIGIBLE_SESSION_REDIS_URL"
EXAMPLE = "redis://localhost:6379/0"
CLUSTER = "+cluster"
SCHEMES = ("redis", "rediss", "unix", "redis" + CLUSTER, "rediss" + CLUSTER)
DEFAULT_PORT = 6379
DEFAULT_PREFIX = "dirigible:"

#: Seconds. A page waits for its session, so nothing may wait for ever.
SOCKET_TIMEOUT = 5.0
CONNECT_TIMEOUT = 2.0

_TRUE = ("1", "true", "t", "yes", "y", "on")
_FALSE = ("0", "false", "f", "no", "n", "off")


def _seconds(value: str) -> float:
    seconds = float(value)
    if not 0 < seconds < float("inf"):
        raise ValueError(value)
    return seconds


def _flag(value: str) -> bool:
    if value.lower() not in _TRUE + _FALSE:
        raise ValueError(value)
    return value.lower() in _TRUE


def _number(value: str) -> int:
    if not value.isdecimal():
        raise ValueError(value)
    return int(value)


def _requirement(value: str) -> str:
    if value not in ("none", "optional", "required"):
        raise ValueError(value)
    return value


#: The options that a URL may carry, each with what reads it. All but ``prefix`` are redis-py's.
OPTIONS: dict[str, Any] = {
    "prefix": str,
    "db": _number,
    "socket_timeout": _seconds,
    "socket_connect_timeout": _seconds,
    "socket_keepalive": _flag,
    "health_check_interval": _seconds,
    "client_name": str,
    "username": str,
    "password": str,
    "ssl_ca_certs": str,
    "ssl_ca_path": str,
    "ssl_certfile": str,
    "ssl_keyfile": str,
    "ssl_cert_reqs": _requirement,
    "ssl_check_hostname": _flag,
}


class Keys:
    """The names of the keys that are ours."""

    __slots__ = ("_session", "_user", "prefix")

    def __init__(self, prefix: str) -> None:
        #: What the name of every key begins with.
        self.prefix = prefix
        self._session = f"{prefix}session:".encode()
        self._user = f"{prefix}user:".encode()

    def session(self, digest: str) -> bytes:
        """Return the key of a session's hash."""
        return self._session + digest.encode()

    def user(self, user_id: str) -> bytes:
        """Return the key of the index of a user's sessions."""
        return self._user + user_id.encode("utf-8", "surrogatepass")


@dataclass(frozen=True, eq=False)
class Target:
    """One server, or one cluster, and the keys that are ours there."""

    #: In redis-py's form; of a cluster, its first node. It may hold a password.
    url: str = field(repr=False)
    #: Host and port of the other nodes that the URL names.
    other_nodes: tuple[tuple[str, int], ...]
    is_cluster: bool
    #: Whether it is reached by a socket in the file system.
    is_socket: bool
    keys: Keys
    #: Seconds that an answer may take.
    socket_timeout: float
    #: How to name the server in a message: without user and password.
    shown: str


def parse(url: object) -> Target:
    """Return what a URL names; ValueError, without the URL's password, says what is wrong.

    A password that is not percent-encoded may be anywhere behind the scheme, so nothing of that is
    quoted where it could be one.
    """
    if not isinstance(url, str) or not url:
        raise ValueError(f"it is {url!r}, not the URL of a Redis server")
    return _parse(url)


@lru_cache(maxsize=8)
def _parse(url: str) -> Target:
    if any(map(str.isspace, url)):
        raise ValueError("it has white space in it")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError("it is not a URL") from None
    if parts.scheme not in SCHEMES:
        raise ValueError(
            f"its scheme is {parts.scheme!r}, not one of " + ", ".join(f"{s}://" for s in SCHEMES)
        )
    if "#" in url:
        raise ValueError("it has a '#' in it; in a password, that is written %23")
    if "@" in parts.path + parts.query:
        raise ValueError(
            "it has an '@' behind the host; in a password, '/' is written %2F, '?' %3F, and '@' %40"
        )
    options = _options(parts.query)
    is_cluster = parts.scheme.endswith(CLUSTER)
    _check_database(parts, options, is_cluster=is_cluster)
    credentials, at, hosts = parts.netloc.rpartition("@")
    nodes = [] if parts.scheme == "unix" else [_node(host) for host in hosts.split(",")]
    if len(nodes) > 1 and not is_cluster:
        raise ValueError(
            f"it names several servers; a cluster is named by {parts.scheme}{CLUSTER}://"
        )
    scheme = parts.scheme.removesuffix(CLUSTER)
    netloc = credentials + at + (_netloc(nodes[0]) if nodes else "")
    query = urlencode([(n, v) for n, v in parse_qsl(parts.query) if n != "prefix"])
    return Target(
        url=f"{scheme}://{netloc}{parts.path}" + (f"?{query}" if query else ""),
        other_nodes=tuple(nodes[1:]),
        is_cluster=is_cluster,
        is_socket=parts.scheme == "unix",
        keys=Keys(options.get("prefix", DEFAULT_PREFIX)),
        socket_timeout=options.get("socket_timeout", SOCKET_TIMEOUT),
        shown=f"{parts.scheme}://" + ",".join(map(_netloc, nodes)) + parts.path,
    )


def _options(query: str) -> dict[str, Any]:
    options = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in OPTIONS:
            raise ValueError(
                f"it has the option {name!r}; the options are " + ", ".join(sorted(OPTIONS))
            )
        try:
            options[name] = OPTIONS[name](value)
        except ValueError:
            shown = "" if name == "password" else f" {value!r}"
            raise ValueError(f"its option {name!r} has a value that can't be{shown}") from None
    return options


def _check_database(parts: SplitResult, options: dict[str, Any], *, is_cluster: bool) -> None:
    if parts.scheme == "unix":
        if not parts.path:
            raise ValueError("it names no socket, as unix:///run/redis/redis.sock does")
        return
    number = parts.path.strip("/")
    if number and not number.isdecimal():
        raise ValueError("its path is not the number of a database")
    if is_cluster and (int(number or 0) or options.get("db")):
        raise ValueError("a cluster has one database only, number 0")


def _node(host: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{host}")
        port = DEFAULT_PORT if parts.port is None else parts.port
    except ValueError:
        port = 0
    if not port:
        raise ValueError(f"it names a server not as host:port, as {EXAMPLE} does")
    if not parts.hostname:
        raise ValueError(f"it names no host, as {EXAMPLE} does")
    return parts.hostname, port


def _netloc(node: tuple[str, int]) -> str:
    host, port = node
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
