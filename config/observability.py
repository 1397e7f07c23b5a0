"""Logging, metrics shared by processes, traces, and error reports."""

from __future__ import annotations

import atexit
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from pathlib import Path
from typing import Any

import structlog

from generation.telemetry.redaction import Redactor


def secrets_of(options: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the API keys of the providers."""
    return [str(option["api_key"]) for option in options if option.get("api_key")]


# --- Logs -------------------------------------------------------------------------------------------------------------


def _redacting(secrets: Iterable[str], render: Callable[..., Any]) -> Callable[..., str]:
    """Return a renderer that removes the secrets from every line."""
    redact = Redactor(secrets)

    def rendered(logger: Any, name: str, event: MutableMapping[str, Any]) -> str:
        return redact(str(render(logger, name, event)))

    return rendered


def _plain(logger: Any, name: str, event: MutableMapping[str, Any]) -> str:
    """Render a line for a terminal: the message, and the id of its API call."""
    line = f"{event['timestamp']} {event['level'].upper():<7} {event['logger']}: {event['event']}"
    if call := event.get("http_request_id"):
        line += f" [{call}]"
    return "\n".join(filter(None, [line, event.get("exception")]))


def logging_settings(log_format: str, *, secrets: Iterable[str]) -> dict[str, Any]:
    """Return Django's ``LOGGING``: ``console`` for people, or ``json`` with one object a line. The keys of ``extra``
    and the id of the API call are fields of the line."""
    times = structlog.processors.TimeStamper
    clock = times(fmt="%H:%M:%S", utc=False) if log_format == "console" else times(fmt="iso", utc=True)
    render = _plain if log_format == "console" else structlog.processors.JSONRenderer(ensure_ascii=False)
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "line": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": [
                    structlog.contextvars.merge_contextvars,
                    structlog.stdlib.add_log_level,
                    structlog.stdlib.add_logger_name,
                    clock,
                    structlog.stdlib.ExtraAdder(),
                    structlog.processors.format_exc_info,
                ],
                "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, _redacting(secrets, render)],
            }
        },
        "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"handlers": ["console"], "level": "INFO"},
        "loggers": {
            # Errors of clients are in the answer; ours are logged with their cause by the exception handler.
            "django.request": {"level": "CRITICAL"},
            # httpx, and httpx2 of OpenAI's SDK, log whole addresses at INFO, which contain the key of some vendors.
            "httpx": {"level": "WARNING"},
            "httpx2": {"level": "WARNING"},
            # Celery logs each message; our lines on each request say more.
            "celery.worker.strategy": {"level": "WARNING"},
            "celery.app.trace": {"level": "WARNING"},
            # A call with a foreign Host gets a 400; a traceback of each would fill the log.
            "django.security.DisallowedHost": {"level": "CRITICAL"},
            # The servers have their own formats; here all lines have the same.
            **{name: {"handlers": [], "propagate": True} for name in ("uvicorn", "_granian")},
            # At INFO it logs the address of each WebSocket with its query, which may contain a token.
            "uvicorn.error": {"handlers": [], "propagate": True, "level": "WARNING"},
            # Named here: configuring "uvicorn" resets its children, which turned the access log, with the queries in
            # it, on again despite --no-access-log.
            "uvicorn.access": {"handlers": [], "propagate": False, "level": "CRITICAL"},
        },
    }


# --- Counters ---------------------------------------------------------------------------------------------------------


def share_counters_between_processes() -> None:
    """Let this process and its siblings, children of one server, count into files of one folder, so that each of them
    can report the sums. Call it before prometheus_client is imported. The last process deletes the folder."""
    folder = Path(tempfile.gettempdir()) / f"visual-generation-{os.getuid()}" / f"web-{os.getppid()}"
    folder.parent.mkdir(mode=0o700, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    there = folder.parent.stat()
    if there.st_uid != os.getuid() or stat.S_IMODE(there.st_mode) & 0o077:
        return  # another user made it, and could read or change the counts
    for other in folder.parent.iterdir():
        if not Path(f"/proc/{other.name.partition('-')[2]}").exists() and Path("/proc/self").exists():
            shutil.rmtree(other, ignore_errors=True)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)


# --- Traces and faults ------------------------------------------------------------------------------------------------


def start_reporting(kind: str) -> None:
    """Send traces and error reports, if the settings name a destination. Call it once in each serving process."""
    from django.conf import settings

    if settings.SENTRY_DSN:
        _start_sentry(settings.SENTRY_DSN, kind)
    if settings.OTEL_EXPORTER_OTLP_ENDPOINT:
        from generation.telemetry import tracing

        atexit.register(tracing.start(kind))


def _start_sentry(dsn: str, kind: str) -> None:
    import sentry_sdk
    from sentry_sdk.integrations.celery import CeleryIntegration
    from sentry_sdk.integrations.django import DjangoIntegration
    from sentry_sdk.integrations.logging import LoggingIntegration

    from config.version import VERSION

    sentry_sdk.init(
        dsn=dsn,
        release=f"visual-generation@{VERSION}",
        server_name=kind,
        # Bodies, headers and local variables contain prompts, tokens and keys.
        send_default_pii=False,
        max_request_body_size="never",
        include_local_variables=False,
        include_source_context=False,
        max_breadcrumbs=0,
        default_integrations=False,
        integrations=[DjangoIntegration(), CeleryIntegration(), LoggingIntegration(level=None)],
        before_send=_scrub,
    )


def _scrub(event: Any, hint: Any) -> Any:
    """Reduce a report to the route and the id of the call, without data of the client."""
    request = event.get("request") or {}
    event["request"] = {name: request[name] for name in ("method",) if name in request}
    event.pop("user", None)
    event["tags"] = dict(event.get("tags") or {}) | structlog.contextvars.get_contextvars()
    for entry in (event.get("exception") or {}).get("values", ()):
        # The error text of a library or vendor may quote anything.
        entry["value"] = ""
    return event
