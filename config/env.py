"""Typed readers of the environment: one line per fault, and the name of the variable in it."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import environ
from django.core.exceptions import ImproperlyConfigured

#: Reads ``NAME``, or the file that ``NAME_FILE`` points to, which is how secrets are mounted into containers.
_env = environ.FileAwareEnv()


def read_file(path: Path) -> None:
    """Take what a ``.env`` file sets, where there is one; what the environment has already wins."""
    if path.exists():
        environ.Env.read_env(path)


def present(name: str) -> bool:
    """Whether the variable is set to something."""
    return bool(text(name))


def text(name: str, default: str = "") -> str:
    """The value without surrounding white space. Raises ``ImproperlyConfigured`` where ``NAME_FILE`` cannot be read."""
    try:
        return str(_env.get_value(name, default=default)).strip()
    except OSError as error:
        raise ImproperlyConfigured(f"{name}_FILE cannot be read: {error.strerror}") from None


def boolean(name: str, default: bool) -> bool:
    """``true``, ``yes``, ``on`` or ``1``; ``false``, ``no``, ``off`` or ``0``. Raises ``ImproperlyConfigured``."""
    value = text(name).lower()
    if not value:
        return default
    if value in {"true", "yes", "on", "1"}:
        return True
    if value in {"false", "no", "off", "0"}:
        return False
    raise ImproperlyConfigured(f"{name} must be true or false, not {value!r}")


def integer(name: str, default: int, *, minimum: int, maximum: int) -> int:
    """A whole number within the bounds. Raises ``ImproperlyConfigured``."""
    value = text(name)
    if not value:
        return default
    try:
        number = int(value)
    except ValueError:
        raise ImproperlyConfigured(f"{name} must be a whole number, not {value!r}") from None
    if not minimum <= number <= maximum:
        raise ImproperlyConfigured(f"{name} must lie between {minimum} and {maximum}, not {number}")
    return number


def amount(name: str) -> Decimal | None:
    """An amount of money, or none. Raises ``ImproperlyConfigured``."""
    value = text(name)
    if not value:
        return None
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,2})?", value):
        raise ImproperlyConfigured(f"{name} must be an amount such as 12.50, not {value!r}")
    return Decimal(value)


def milliseconds(name: str, default: int, *, minimum: int = 1, maximum: int = 86_400_000) -> timedelta:
    """A duration that is written in ms."""
    return timedelta(milliseconds=integer(name, default, minimum=minimum, maximum=maximum))


def rate(name: str, default: str) -> str:
    """So many in such a time: ``100/15m`` (s, m, h, d). Raises ``ImproperlyConfigured``."""
    value = text(name, default)
    if not re.fullmatch(r"[1-9][0-9]{0,8}/[0-9]{0,5}[smhd]", value):
        raise ImproperlyConfigured(f"{name} must look like 100/15m, not {value!r}")
    return value


def words(name: str, default: str = "") -> list[str]:
    """A list separated by commas."""
    return [word.strip() for word in text(name, default).split(",") if word.strip()]


def one_of(name: str, default: str, choices: tuple[str, ...]) -> str:
    """One of the choices. Raises ``ImproperlyConfigured``."""
    value = text(name, default)
    if value not in choices:
        raise ImproperlyConfigured(f"{name} must be one of {', '.join(choices)}, not {value!r}")
    return value


def directory(name: str, default: Path) -> Path:
    """An absolute path."""
    return Path(text(name) or default).expanduser().resolve()


def database(name: str, default: str, *, pool_size: int) -> dict[str, object]:
    """Django's settings for a ``postgres://`` or ``sqlite://`` URL. Raises ``ImproperlyConfigured``."""
    url = text(name) or default
    if not url.startswith(("postgres://", "postgresql://", "sqlite://")):
        raise ImproperlyConfigured(f"{name} must start with postgres:// or sqlite://")
    try:
        settings: dict[str, object] = dict(_env.db_url_config(url))
    except Exception:  # the library raises what its parser happens to raise
        raise ImproperlyConfigured(f"{name} is not a database URL (postgres://… or sqlite://…)") from None
    options = dict(settings.pop("OPTIONS", None) or {})  # type: ignore[call-overload]
    if settings["ENGINE"] == "django.db.backends.postgresql":
        # Without a server a client should hear so soon, and not when its own patience ends. What is not in use is soon
        # given back, since another process may be waiting for it.
        options |= {"pool": {"min_size": 1, "max_size": pool_size, "timeout": 3, "max_idle": 10}, "connect_timeout": 3}
        # Who is paused or cut off in the middle of a transaction must not keep its locks: others wait for them, and its
        # own requests could not be rescued.
        options = {"options": "-c idle_in_transaction_session_timeout=10s"} | options
        settings |= {"ENGINE": "config.postgresql", "CONN_MAX_AGE": 0}
    else:
        # Writers queue at BEGIN instead of failing half-way, which is what makes one file safe for several processes.
        options |= {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        }
    return settings | {"OPTIONS": options}
