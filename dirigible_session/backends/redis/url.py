"""The settings of the Redis engine, parsed and checked.

``redis://``, ``rediss://`` (TLS) and ``unix://`` name a server.
``redis+cluster://host:port,host:port`` names some nodes of a cluster; the client asks them for the
others. ``redis+sentinel://host:port,host:port/service/db`` names the sentinels of a primary.
``valkey`` can replace ``redis`` in each. Options follow as a query, see :data:`OPTIONS`.
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
#: The schemes as redis-py names them; "valkey" can replace "redis".
SCHEMES = (
    *("redis", "rediss", "unix"),
    *("redis" + CLUSTER, "rediss" + CLUSTER),
    *("redis" + SENTINEL, "rediss" + SENTINEL),
)
DEFAULT_PORT = 6379
SENTINEL_PORT = 26379
DEFAULT_PREFIX = "dirigible:"

#: Seconds. A page waits for its session, so each wait needs a limit.
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


#: The options in a URL, each with a function that reads its value and a description of its values.
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
    """The names of the engine's keys."""

    __slots__ = ("_session", "_user", "prefix")

    def __init__(self, prefix: str) -> None:
        #: The beginning of the name of every key.
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
    """A server, a cluster, or a primary with sentinels, and the names of the engine's keys."""

    keys: Keys
    #: Its name in messages, without user and password.
    shown: str
    #: The dotted path of the project's function for clients. Then the following is not used.
    factory: str | None = None
    #: Host and port of a server, of some nodes of a cluster, or of the sentinels.
    nodes: tuple[tuple[str, int], ...] = ()
    #: The path of the server's Unix socket.
    path: str = ""
    is_cluster: bool = False
    #: The name by which the sentinels know the primary; "" without sentinels.
    service: str = ""
    uses_tls: bool = False
    #: The arguments for a connection of redis-py. They may have a password.
    options: dict[str, Any] = field(default_factory=dict, repr=False)
    #: Further arguments for a connection to a sentinel.
    sentinel_options: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def is_one_server(self) -> bool:
        """Whether the engine itself connects to it, which is then one server at a time."""
        return self.factory is None and not self.is_cluster

    @property
    def socket_timeout(self) -> float:
        """The longest time to wait for an answer, in seconds."""
        return float(self.options.get("socket_timeout", SOCKET_TIMEOUT))


def parse(url: object, password: object = None, factory: str | None = None) -> Target:
    """Return the server or cluster in the settings; ValueError, without a password, if wrong.

    A password that is not percent-encoded may be anywhere after the scheme, so messages quote
    nothing that could be a password. With a factory, the URL is optional: only its prefix is used.
    """
    if (url is not None or factory is None) and (not isinstance(url, str) or not url):
        raise ValueError(f"it is {url!r}, not the URL of a Redis server")
    if password is not None and not isinstance(password, str):
        raise ValueError(f"{PASSWORD_SETTING} is not a str but {type(password).__name__}")
    return _parse(url, password or None, factory)


@lru_cache(maxsize=8)
def _parse(url: str | None, password: str | None, factory: str | None) -> Target:
    if url is None:
        return Target(Keys(DEFAULT_PREFIX), f"behind {factory}", factory)
    parts = _split(url)
    kind = SENTINEL if parts.scheme.endswith(SENTINEL) else ""
    kind = CLUSTER if parts.scheme.endswith(CLUSTER) else kind
    given = _options(parts, kind)
    is_socket = parts.scheme == "unix"
    keys = Keys(given.pop("prefix", DEFAULT_PREFIX))
    sentinel_options = {
        name: given.pop(f"sentinel_{name}")
        for name in ("username", "password")
        if f"sentinel_{name}" in given
    }
    service, database = _service_and_database(parts, kind)
    if kind == CLUSTER and (database or given.get("db")):
        raise ValueError("a cluster has one database only, number 0")
    credentials, _, hosts = parts.netloc.rpartition("@")
    port = SENTINEL_PORT if kind == SENTINEL else DEFAULT_PORT
    nodes = () if is_socket else tuple(_node(host, port) for host in hosts.split(","))
    if len(nodes) > 1 and not kind:
        raise ValueError(
            f"it names several servers; for a cluster, begin it with {parts.scheme}{CLUSTER}://, "
            f"for sentinels with {parts.scheme}{SENTINEL}://"
        )
    login = _login(credentials, given, password)
    options = {"socket_timeout": SOCKET_TIMEOUT, "socket_connect_timeout": CONNECT_TIMEOUT}
    keepalive = {} if is_socket else {"socket_keepalive": True}
    in_path = {} if kind == CLUSTER else {"db": database}
    hosts = ",".join(f"[{host}]:{n}" if ":" in host else f"{host}:{n}" for host, n in nodes)
    shown = f"at {parts.scheme}://{hosts}{parts.path}"
    return Target(
        keys=keys,
        shown=shown if factory is None else f"behind {factory}",
        factory=factory,
        nodes=nodes,
        path=unquote(parts.path) if is_socket else "",
        is_cluster=kind == CLUSTER,
        service=service,
        uses_tls=parts.scheme.startswith("rediss"),
        options={**options, **keepalive, **in_path, **given, **login, "protocol": 2},
        sentinel_options=sentinel_options,
    )


def _split(url: str) -> SplitResult:
    if any(map(str.isspace, url)):
        raise ValueError("it has white space")
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
        raise ValueError("it has a '#'; in a password, write %23")
    if "@" in parts.path + parts.query:
        raise ValueError(
            "it has an '@' after the host; in a password, write %2F for '/', %3F for '?' and %40 "
            "for '@'"
        )
    return parts._replace(scheme=scheme)


def _options(parts: SplitResult, kind: str) -> dict[str, Any]:
    options = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in OPTIONS:
            raise ValueError(
                f"it has the option {name!r}; the options are " + ", ".join(sorted(OPTIONS))
            )
        if name.startswith("sentinel_") and kind != SENTINEL:
            raise ValueError(f"its options for sentinels need a scheme with {SENTINEL}")
        if name.startswith("ssl_") and not parts.scheme.startswith("rediss"):
            raise ValueError(f"its option {name!r} needs TLS; the scheme for TLS is rediss://")
        if name == "socket_keepalive" and parts.scheme == "unix":
            raise ValueError("its option 'socket_keepalive' is not for a Unix socket")
        if name == "ssl_ca_path" and kind == CLUSTER:
            raise ValueError("its option 'ssl_ca_path' is not for a cluster; use 'ssl_ca_certs'")
        read, expected = OPTIONS[name]
        try:
            options[name] = read(value)
        except ValueError:
            raise ValueError(f"its option {name!r} must be {expected}, not {value!r}") from None
    return options


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
