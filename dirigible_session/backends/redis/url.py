"""Where the Redis engine finds its server: what the settings say, parsed and checked.

``redis://``, ``rediss://`` (TLS) and ``unix://`` name one server.
``redis+cluster://host:port,host:port`` names some nodes of a cluster; the client asks them for the
others. ``redis+sentinel://host:port,host:port/service/db`` names the sentinels that know the
primary. Each of these can be written with ``valkey`` in place of ``redis``. Options follow as a
query, see :data:`OPTIONS`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

SETTING = "DIRIGIBLE_SESSION_REDIS_URL"
PASSWORD_SETTING = "DIRIGIBLE_SESSION_REDIS_PASSWORD"  # noqa: S105
EXAMPLE = "redis://localhost:6379/0"
CLUSTER = "+cluster"
SENTINEL = "+sentinel"
#: As redis-py names them; "valkey" may stand for "redis".
SCHEMES = (
    *("redis", "rediss", "unix"),
    *("redis" + CLUSTER, "rediss" + CLUSTER),
    *("redis" + SENTINEL, "rediss" + SENTINEL),
)
DEFAULT_PORT = 6379
SENTINEL_PORT = 26379
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
    if not (value.isascii() and value.isdecimal() and len(value) < 10):
        raise ValueError(value)
    return int(value)


def _requirement(value: str) -> str:
    if value not in ("none", "optional", "required"):
        raise ValueError(value)
    return value


#: The options that a URL may carry, each with what reads it and what its value must be.
OPTIONS: dict[str, tuple[Any, str]] = {
    "prefix": (str, "a text"),
    "db": (_number, "a number"),
    "socket_timeout": (_seconds, "a number of seconds above 0"),
    "socket_connect_timeout": (_seconds, "a number of seconds above 0"),
    "socket_keepalive": (_flag, "true or false"),
    "health_check_interval": (_number, "a whole number of seconds"),
    "client_name": (str, "a text"),
    "username": (str, "a text"),
    "password": (str, "a text"),
    "sentinel_username": (str, "a text"),
    "sentinel_password": (str, "a text"),
    "ssl_ca_certs": (str, "a path"),
    "ssl_ca_path": (str, "a path"),
    "ssl_certfile": (str, "a path"),
    "ssl_keyfile": (str, "a path"),
    "ssl_cert_reqs": (_requirement, "'none', 'optional' or 'required'"),
    "ssl_check_hostname": (_flag, "true or false"),
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
    """One server, one cluster, or what sentinels watch, and the keys that are ours there."""

    keys: Keys
    #: How to name it in a message: without user and password.
    shown: str
    #: The function that makes the clients, if the project has one; the rest does not matter then.
    factory: str | None = None
    #: Host and port of a server, of some nodes of a cluster, or of the sentinels.
    nodes: tuple[tuple[str, int], ...] = ()
    #: The socket of a server that is reached by one.
    path: str = ""
    is_cluster: bool = False
    #: The name by which the sentinels know the primary; "" without sentinels.
    service: str = ""
    uses_tls: bool = False
    #: What a connection is made with, in redis-py's words. It may hold a password.
    options: dict[str, Any] = field(default_factory=dict, repr=False)
    #: What a connection to a sentinel is made with besides.
    sentinel_options: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def is_one_server(self) -> bool:
        """Whether it is one server at a time, to which connections are made here."""
        return self.factory is None and not self.is_cluster

    @property
    def socket_timeout(self) -> float:
        """The seconds that an answer may take."""
        return float(self.options.get("socket_timeout", SOCKET_TIMEOUT))


def parse(url: object, password: object = None, factory: str | None = None) -> Target:
    """Return what the settings name; ValueError, without any password, says what is wrong.

    A password that is not percent-encoded may be anywhere behind the scheme, so nothing of that is
    quoted where it could be one. With a factory, the URL need not be set, and tells the prefix.
    """
    if url is None and factory is not None:
        return _parse_factory(factory)
    if not isinstance(url, str) or not url:
        raise ValueError(f"it is {url!r}, not the URL of a Redis server")
    if password is not None and not isinstance(password, str):
        raise ValueError(f"{PASSWORD_SETTING} is not a str but {type(password).__name__}")
    return _parse(url, password or None, factory)


@lru_cache(maxsize=8)
def _parse_factory(factory: str) -> Target:
    return Target(Keys(DEFAULT_PREFIX), f"behind {factory}", factory)


@lru_cache(maxsize=8)
def _parse(url: str, password: str | None, factory: str | None) -> Target:
    parts = _split(url)
    given = _options(parts.query)
    kind = SENTINEL if parts.scheme.endswith(SENTINEL) else ""
    kind = CLUSTER if parts.scheme.endswith(CLUSTER) else kind
    uses_tls = parts.scheme.startswith("rediss")
    is_socket = parts.scheme == "unix"
    keys = Keys(given.pop("prefix", DEFAULT_PREFIX))
    sentinel_options = {
        name: given.pop(f"sentinel_{name}")
        for name in ("username", "password")
        if f"sentinel_{name}" in given
    }
    _check_options(parts, given, sentinel_options, kind)
    service, database = _service_and_database(parts, kind)
    if kind == CLUSTER and (database or given.get("db")):
        raise ValueError("a cluster has one database only, number 0")
    credentials, _, hosts = parts.netloc.rpartition("@")
    port = SENTINEL_PORT if kind == SENTINEL else DEFAULT_PORT
    nodes = () if is_socket else tuple(_node(host, port) for host in hosts.split(","))
    if len(nodes) > 1 and not kind:
        raise ValueError(
            f"it names several servers; the nodes of a cluster are named by {parts.scheme}"
            f"{CLUSTER}://, sentinels by {parts.scheme}{SENTINEL}://"
        )
    login = _login(credentials, given, password)
    options = {"socket_timeout": SOCKET_TIMEOUT, "socket_connect_timeout": CONNECT_TIMEOUT}
    keepalive = {} if is_socket else {"socket_keepalive": True}
    in_path = {} if kind == CLUSTER else {"db": database}
    shown = f"at {parts.scheme}://" + ",".join(map(_netloc, nodes)) + parts.path
    return Target(
        keys=keys,
        shown=shown if factory is None else f"behind {factory}",
        factory=factory,
        nodes=nodes,
        path=unquote(parts.path) if is_socket else "",
        is_cluster=kind == CLUSTER,
        service=service,
        uses_tls=uses_tls,
        options={**options, **keepalive, **in_path, **given, **login, "protocol": 2},
        sentinel_options=sentinel_options,
    )


def _split(url: str) -> SplitResult:
    if any(map(str.isspace, url)):
        raise ValueError("it has white space in it")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError("it is not a URL") from None
    scheme = parts.scheme.replace("valkey", "redis", 1)
    if scheme not in SCHEMES:
        raise ValueError(
            f"its scheme is {parts.scheme!r}, not one of "
            + ", ".join(f"{s}://" for s in SCHEMES)
            + " (or valkey in place of redis)"
        )
    if "#" in url:
        raise ValueError("it has a '#' in it; in a password, that is written %23")
    if "@" in parts.path + parts.query:
        raise ValueError(
            "it has an '@' behind the host; in a password, '/' is written %2F, '?' %3F, and '@' %40"
        )
    return parts._replace(scheme=scheme)


def _options(query: str) -> dict[str, Any]:
    options = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in OPTIONS:
            raise ValueError(
                f"it has the option {name!r}; the options are " + ", ".join(sorted(OPTIONS))
            )
        read, expected = OPTIONS[name]
        try:
            options[name] = read(value)
        except ValueError:
            raise ValueError(f"its option {name!r} must be {expected}, not {value!r}") from None
    return options


def _check_options(
    parts: SplitResult, given: dict[str, Any], for_sentinels: dict[str, Any], kind: str
) -> None:
    """Raise ValueError for an option that this kind of server has no use for."""
    if for_sentinels and kind != SENTINEL:
        raise ValueError(f"its options for sentinels need a scheme with {SENTINEL}")
    for name in given:
        if name.startswith("ssl_") and not parts.scheme.startswith("rediss"):
            raise ValueError(f"its option {name!r} needs TLS, which rediss:// stands for")
        if name == "socket_keepalive" and parts.scheme == "unix":
            raise ValueError("its option 'socket_keepalive' is not for a socket in a file system")
        if name == "ssl_ca_path" and kind == CLUSTER:
            raise ValueError("its option 'ssl_ca_path' is not for a cluster; ssl_ca_certs is")


def _service_and_database(parts: SplitResult, kind: str) -> tuple[str, int]:
    service, number = "", parts.path.strip("/")
    if parts.scheme == "unix":
        if not number:
            raise ValueError("it names no socket, as unix:///run/redis/redis.sock does")
        return "", 0
    if kind == SENTINEL:
        service, _, number = number.partition("/")
        if not service:
            raise ValueError(
                "it does not name the service that the sentinels watch, as in "
                "redis+sentinel://host:26379,host:26379/mymaster/0"
            )
    try:
        return unquote(service), _number(number or "0")
    except ValueError:
        raise ValueError("its path does not end with the number of a database") from None


def _login(credentials: str, given: dict[str, Any], password: str | None) -> dict[str, str]:
    username, _, in_url = credentials.partition(":")
    login = {"username": unquote(username), "password": unquote(in_url)}
    login = {name: value for name, value in login.items() if value and name not in given}
    if password is None:
        return login
    if "password" in login or "password" in given:
        raise ValueError(f"it has a password, and {PASSWORD_SETTING} is set; only one can be")
    return login | {"password": password}


def _node(host: str, default_port: int) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{host}")
        port = default_port if parts.port is None else parts.port
    except ValueError:
        port = 0
    if not port:
        raise ValueError(f"it does not name a server as host:port, as {EXAMPLE} does")
    if not parts.hostname:
        raise ValueError(f"it names no host, as {EXAMPLE} does")
    return parts.hostname, port


def _netloc(node: tuple[str, int]) -> str:
    host, port = node
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
