"""Typed readers of the environment: one line for each mistake, with the name of the variable.

Between :func:`begin` and :func:`finish` a reader collects mistakes and returns the default instead, so that all of them
are reported at once. At any other time it raises.
"""

from __future__ import annotations

import os
import re
from datetime import timedelta
from decimal import Decimal
from difflib import get_close_matches
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import quote, unquote, urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

from generation.db.session_settings import PLACEHOLDER, Kind, application_name, role, startup_options

T = TypeVar("T")

_faults: list[str] | None = None
#: The names that were read.
_known: set[str] = set()
#: Variables that only the Procfile reads, and variables of other programs that look like ours.
_KNOWN_ELSEWHERE: Final = frozenset(
    {"WEB_WORKERS", "WEB_THREADS", "WORKER_QUEUES", "BIND_HOST", "END_WITH_PARENT", "GOOGLE_CLOUD_PROJECT"}
)
#: Similarity from which a name counts as a misspelling of another.
_ALIKE: Final = 0.88


def begin() -> None:
    """Collect mistakes from here on."""
    global _faults
    _faults = []


def refuse(fault: str, instead: T) -> T:
    """Collect a mistake and return ``instead``, or raise it outside of :func:`begin` and :func:`finish`."""
    if _faults is None:
        raise ImproperlyConfigured(fault)
    _faults.append(fault)
    return instead


def finish() -> None:
    """Raise ``ImproperlyConfigured`` with the collected mistakes, one on each line."""
    global _faults
    faults, _faults = _faults, None
    if faults:
        raise ImproperlyConfigured("\n".join(dict.fromkeys(faults)))


def misspelt() -> dict[str, str]:
    """Return unread names of the environment that resemble one of ours, with that name."""
    known = _known | _KNOWN_ELSEWHERE
    found = {}
    for name in os.environ:
        bare = name.removesuffix("_FILE")
        if bare not in known and (meant := _meant(bare, known)):
            found[name] = meant
    return found


def _meant(name: str, known: set[str] | frozenset[str]) -> str:
    close = get_close_matches(name, sorted(known), n=1, cutoff=_ALIKE)
    longer = [one for one in known if name.startswith(f"{one}_")]
    return close[0] if close else max(longer, key=len, default="")


#: A line of a ``.env`` file, and the three ways to write a value. Text after `` #`` is a comment unless it is quoted.
_ASSIGNMENT: Final = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z_0-9]*)\s*=(.*)")
_IN_SINGLE_QUOTES: Final = re.compile(r"\s*'([^']*)'\s*(?:\s#.*)?|\s*'(.*)'\s*")
_IN_DOUBLE_QUOTES: Final = re.compile(r'\s*"((?:[^"\\]|\\.)*)"\s*(?:\s#.*)?')
_ESCAPED: Final = {"n": "\n", "r": "\r", "t": "\t"}


def read_file(path: Path) -> None:
    """Set the variables of a ``.env`` file, if there is one; a variable that is set already keeps its value.

    Raises ``ImproperlyConfigured`` with the number of a line that cannot be read, and never with its text.
    """
    try:
        content = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return
    except OSError as error:
        refuse(f"{path} cannot be read: {error.strerror}", None)
        return
    except UnicodeDecodeError:
        refuse(f"{path} cannot be read: it is not UTF-8", None)
        return
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if not (found := _ASSIGNMENT.fullmatch(line)) or "\0" in line:
            refuse(f"{path}, line {number}: write NAME=value", None)
        else:
            os.environ.setdefault(found[1], _unquoted(found[2]))


def _unquoted(written: str) -> str:
    """Return the value of an assignment as Docker Compose reads it, except that ``$`` never starts a reference."""
    if found := _IN_SINGLE_QUOTES.fullmatch(written):
        return found[1] if found[1] is not None else found[2]
    if found := _IN_DOUBLE_QUOTES.fullmatch(written):
        return re.sub(r"\\(.)", lambda escape: _ESCAPED.get(escape[1], escape[1]), found[1])
    return re.split(r"\s#", written, maxsplit=1)[0].strip()


def present(name: str) -> bool:
    """Return whether the variable is set and not empty."""
    return bool(text(name))


def text(name: str, default: str = "") -> str:
    """Return the value of ``NAME``, or of the file that ``NAME_FILE`` names, without surrounding white space.

    The value is literal, so a secret may begin with ``$``. Raises ``ImproperlyConfigured`` for a file that cannot be
    read.
    """
    _known.add(name)
    path = os.environ.get(f"{name}_FILE")
    if not path:
        return os.environ.get(name, default).strip()
    try:
        value = Path(path).read_text(encoding="utf-8-sig").strip()
    except OSError as error:
        return refuse(f"{name}_FILE cannot be read: {error.strerror}", default)
    except UnicodeDecodeError:
        value = "\0"
    return refuse(f"{name}_FILE cannot be read: it is not text", default) if "\0" in value else value


def boolean(name: str, default: bool) -> bool:
    """Read ``true``, ``yes``, ``on``, ``1`` or ``false``, ``no``, ``off``, ``0``. Raises ``ImproperlyConfigured``."""
    value = text(name).lower()
    if not value:
        return default
    if value in {"true", "yes", "on", "1"}:
        return True
    if value in {"false", "no", "off", "0"}:
        return False
    return refuse(f"{name} must be true or false, not {value!r}", default)


def integer(name: str, default: int, *, minimum: int, maximum: int) -> int:
    """Read a whole number within the bounds. Raises ``ImproperlyConfigured``."""
    value = text(name)
    if not value:
        return default
    try:
        number = int(value)
    except ValueError:
        return refuse(f"{name} must be a whole number, not {value!r}", default)
    if not minimum <= number <= maximum:
        return refuse(f"{name} must lie between {minimum} and {maximum}, not {number}", default)
    return number


def amount(name: str) -> Decimal | None:
    """Read an amount of money, or ``None``. Raises ``ImproperlyConfigured``."""
    value = text(name)
    if not value:
        return None
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,2})?", value):
        return refuse(f"{name} must be an amount such as 12.50, not {value!r}", None)
    return Decimal(value)


def milliseconds(name: str, default: int, *, minimum: int = 1, maximum: int = 86_400_000) -> timedelta:
    """Read a duration in ms."""
    return timedelta(milliseconds=integer(name, default, minimum=minimum, maximum=maximum))


def rate(name: str, default: str) -> str:
    """Read a rate such as ``100/15m`` (s, m, h, d). Raises ``ImproperlyConfigured``."""
    value = text(name, default)
    if not re.fullmatch(r"[1-9][0-9]{0,8}/[0-9]{0,5}[smhd]", value):
        return refuse(f"{name} must look like 100/15m, not {value!r}", default)
    return value


def words(name: str, default: str = "") -> list[str]:
    """Read a list separated by commas."""
    return [word.strip() for word in text(name, default).split(",") if word.strip()]


def hosts(name: str) -> list[str]:
    """Read a list of hosts, each with or without a port. Raises ``ImproperlyConfigured``."""
    found = words(name)
    shape = re.compile(r"([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,4}|:[1-5][0-9]{4}|:6[0-4][0-9]{3})?")
    if wrong := [one for one in found if not shape.fullmatch(one)]:
        return refuse(f"{name} must name hosts as host or host:port, not {', '.join(map(repr, wrong))}", [])
    return found


def networks(name: str) -> list[IPv4Network | IPv6Network]:
    """Read a list of networks such as ``10.0.0.0/8``. Raises ``ImproperlyConfigured``."""
    try:
        return [ip_network(word) for word in words(name)]
    except ValueError as error:
        return refuse(f"{name} must list networks such as 10.0.0.0/8: {error}", [])


def http_url(name: str, default: str = "") -> str:
    """Read an http:// or https:// address, without a slash at its end. Raises ``ImproperlyConfigured``."""
    value = text(name, default).rstrip("/")
    if value and not re.fullmatch(r"https?://[^/\s?#]+(/[^\s?#]*)?", value):
        shown = "that" if "@" in value else repr(value)  # it may hold a password
        return refuse(f"{name} must begin with http:// or https://, not {shown}", default)
    return value


def location(name: str) -> str:
    """Read a path of our own such as ``/pictures/``, or nothing. Raises ``ImproperlyConfigured``."""
    value = text(name)
    if value and not re.fullmatch(r"/[A-Za-z0-9_-]+/", value):
        return refuse(f"{name} must look like /pictures/, not {value!r}", "")
    return value


def one_of(name: str, default: str, choices: tuple[str, ...]) -> str:
    """Read one of the choices. Raises ``ImproperlyConfigured``."""
    value = text(name, default)
    if value not in choices:
        return refuse(f"{name} must be one of {', '.join(choices)}, not {value!r}", default)
    return value


def directory(name: str, default: Path) -> Path:
    """Read a directory as an absolute path."""
    return Path(text(name) or default).expanduser().resolve()


#: A password may contain ``@``, ``#``, ``?`` and ``/``: the host begins after the first ``@`` that is followed by a
#: host, a path and a query only.
_HOST: Final = r"(?:\[[0-9A-Fa-f:.]+\]|[\w.%-]*)(?::[0-9]+)?"
_HOSTS: Final = f"{_HOST}(?:,{_HOST})*"
_REST: Final = r"(?:/[^@?#]*)?(?:\?[^#@&=]+=[^#]*)?"
_CREDENTIALS: Final = re.compile(rf"([A-Za-z][A-Za-z0-9+.-]*://)((?:[^/].*?)?)@({_HOSTS}{_REST})")
_NO_CREDENTIALS: Final = re.compile(rf"[^:]+://{_HOSTS}{_REST}")


def server_url(url: str) -> str:
    """Return the URL with its user name and password percent-encoded, as every client library expects them."""
    if _NO_CREDENTIALS.fullmatch(url) or not (found := _CREDENTIALS.fullmatch(url)):
        return url
    user, colon, password = found[2].partition(":")
    return f"{found[1]}{quote(unquote(user), safe='')}{colon}{quote(unquote(password), safe='')}@{found[3]}"


def redis_url(name: str, default: str) -> str:
    """Read a ``redis://`` or ``rediss://`` URL. Raises ``ImproperlyConfigured``."""
    url = server_url(text(name) or default)
    if not url.startswith(("redis://", "rediss://")):
        return refuse(f"{name} must start with redis:// or rediss://", default)
    try:
        _ = urlsplit(url).port  # clients would fail on it much later
    except ValueError:
        return refuse(f"{name} is not a Redis URL (redis://:password@host:6379/0)", default)
    return url


_WHICH_DATABASE: Final = (
    "leave it empty for the embedded PostgreSQL server, or set postgres://user:password@host:5432/name"
)


def database(name: str, default: str, *, pool_size: int, kind: Kind, behind_pooler: bool = False) -> dict[str, object]:
    """Return Django's settings for a ``postgres://`` URL in a process of this kind.

    ``default`` may be empty: then there is no server, and connecting says so. ``KIND`` and ``USER_TEMPLATE``, the user
    name as it stands in the URL, are our own. Sessions get time-outs from their role behind a pooler and where the user
    name has ``{kind}``, otherwise from the startup options. Raises ``ImproperlyConfigured``.
    """
    url = text(name) or default
    if url.startswith("sqlite:"):
        refuse(f"{name}: SQLite is not supported: {_WHICH_DATABASE}", None)
        url = default
    elif url and not url.startswith(("postgres://", "postgresql://")):
        refuse(f"{name} must start with postgres://: {_WHICH_DATABASE}", None)
        url = default
    if not url:
        return {"ENGINE": "config.postgresql", "NAME": "", "OPTIONS": {}}
    try:
        settings: dict[str, object] = dict(environ.Env.db_url_config(server_url(url)))
    except Exception:  # the library raises various errors
        return refuse(f"{name} is not a database URL (postgres://user:password@host:5432/name)", {})
    options = dict(settings.pop("OPTIONS", None) or {})  # type: ignore[call-overload]
    # If no server answers, a call fails after 3 s, before clients give up. Idle connections close after 10 s, since
    # other processes may need them.
    options |= {"pool": {"min_size": 1, "max_size": pool_size, "timeout": 3, "max_idle": 10}, "connect_timeout": 3}
    # A server whose machine is gone sends nothing; by default a client waits for hours.
    keepalive = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
    options = {**keepalive, "tcp_user_timeout": 60_000} | options
    user = str(settings.get("USER") or "")
    if not behind_pooler and PLACEHOLDER not in user:
        options = {"options": startup_options(kind)} | options
    options = {"application_name": application_name(kind)} | options
    settings |= {"ENGINE": "config.postgresql", "CONN_MAX_AGE": 0}
    settings |= {"USER": role(user, kind), "USER_TEMPLATE": user, "KIND": kind}
    # A cursor keeps a transaction open while its rows are used, and behind a pooler the next statement may go to
    # another server. Queries of many rows read pages by key.
    settings["DISABLE_SERVER_SIDE_CURSORS"] = True
    return settings | {"OPTIONS": options}
