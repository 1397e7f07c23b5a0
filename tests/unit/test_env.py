"""What is wrong with the environment is said at once, one line for each fault, before anything starts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis
from django.core.exceptions import ImproperlyConfigured

from config import env
from generation.db.session_settings import Kind

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
PRODUCTION = {
    "DEBUG": "false",
    "SECRET_KEY": "abcdefgh" * 8,
    "DATABASE_URL": "postgres://user:hidden-password@127.0.0.1:1/nothing",
    "REDIS_URL": "redis://127.0.0.1:1/0",
    "PUBLIC_BASE_URL": "https://images.example.org",
    "TRUSTED_PROXIES": "1",
    "METRICS_TOKEN": "t0ken-" * 8,
}
PROGRAMS = {
    "manage": [sys.executable, "manage.py", "check"],
    "worker": [str(BIN / "celery"), "--app", "config", "--quiet", "worker"],
    "realtime": [str(BIN / "uvicorn"), "config.asgi:application", "--port", "0"],
    "web": [sys.executable, "-c", "import config.wsgi"],
    "dispatcher": [sys.executable, "manage.py", "dispatch"],
    "deliverer": [sys.executable, "manage.py", "deliver"],
    "migrate": [sys.executable, "manage.py", "migrate"],
}


def run(program: str, folder: Path, settings: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "VAR_DIR": str(folder / "var"), **settings}
    return subprocess.run(
        PROGRAMS[program], cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_names_every_fault_in_a_line_of_its_own(program: str, tmp_path: Path) -> None:
    wrong = {
        "DEBUG": "false",
        "PORT": "http",
        "SUBMIT_RATE": "often",
        "REDIS_URL": "amqp://host",
        "PUBLIC_BASE_URL": "images.example.org",
        "METRICS_TOKEN_FILE": str(tmp_path / "nothing"),
        "CORS_ALLOWED_ORIGINS": "https://a.example.org/path",
        "OPENAI_IMAGE_HOSTS": "cdn.example.org,https://b.example.org,c:99999",
    }
    done = run(program, tmp_path, wrong)
    assert done.returncode == 1
    assert sorted(done.stderr.splitlines()) == [
        "error: CORS_ALLOWED_ORIGINS must be origins such as https://studio.example.org, not 'https://a.example.org/path'",
        "error: DATABASE_URL must be set, since DEBUG is off",
        "error: METRICS_TOKEN_FILE cannot be read: No such file or directory",
        "error: OPENAI_IMAGE_HOSTS must name hosts as host or host:port, not 'https://b.example.org', 'c:99999'",
        "error: PORT must be a whole number, not 'http'",
        "error: PUBLIC_BASE_URL must begin with http:// or https://, not 'images.example.org'",
        "error: REDIS_URL must start with redis:// or rediss://",
        "error: SECRET_KEY must be set, since DEBUG is off",
        "error: SUBMIT_RATE must look like 100/15m, not 'often'",
    ]


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:8001/v1", "http://localhost:8001/v1/", "https://a.example.org/v1"]
)
def test_the_service_is_not_its_own_vendor(address: str, tmp_path: Path) -> None:
    wrong = {"DEBUG": "true", "PUBLIC_BASE_URL": "https://a.example.org"}
    done = run("manage", tmp_path, wrong | {"OPENAI_BASE_URL": address, "OPENAI_API_KEY": "vgsk_1"})
    refusal = "error: OPENAI_BASE_URL is the address of this service itself; unset it where servers start"
    assert (done.returncode, done.stderr.strip()) == (1, refusal)


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_sqlite_address_ends_every_program_with_one_line(program: str, tmp_path: Path) -> None:
    done = run(program, tmp_path, {"DEBUG": "true", "DATABASE_URL": "sqlite:////var/db.sqlite3"})
    assert (done.returncode, done.stderr) == (
        1,
        "error: DATABASE_URL: SQLite is not supported: leave it empty for the embedded PostgreSQL server, "
        "or set postgres://user:password@host:5432/name\n",
    )


@pytest.mark.parametrize("program", [*(name for name in PROGRAMS if name != "manage"), "migrate"])
def test_without_a_database_a_program_says_how_to_get_one(program: str, tmp_path: Path) -> None:
    done = run(program, tmp_path, {"DEBUG": "true"})
    assert (done.returncode, done.stderr) == (
        1,
        "error: the embedded PostgreSQL server is not running: start it with `make run`, or set DATABASE_URL\n",
    )


def test_misspelt_names_are_warned_about(tmp_path: Path) -> None:
    misspelt = {
        "QUEUE_PROCESING_INTERVAL": "QUEUE_PROCESSING_INTERVAL",
        "OPENAI_API_KEYS": "OPENAI_API_KEY",
        "DATABASE_URL_PATH": "DATABASE_URL",
        "SECRET_KEYS_FILE": "SECRET_KEY",
        "WEB_WORKER": "WEB_WORKERS",
    }
    done = run("manage", tmp_path, {"DEBUG": "true"} | dict.fromkeys(misspelt, "1"))
    assert done.returncode == 0
    for name, meant in misspelt.items():
        assert f"{name} is not a known setting; did you mean {meant}?" in done.stderr


def test_names_of_others_are_not_warned_about(tmp_path: Path) -> None:
    others = {"GOOGLE_CLOUD_PROJECT": "p", "AWS_PROFILE": "p", "PORTAL": "1", "HOME": "/", "OTEL_SERVICE_NAME": "x"}
    assert "did you mean" not in run("manage", tmp_path, {"DEBUG": "true"} | others).stderr


def test_the_checks_for_deployment_have_nothing_to_say(tmp_path: Path) -> None:
    command = [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "DEBUG"]
    environment = {"PATH": os.environ["PATH"], "VAR_DIR": str(tmp_path)} | PRODUCTION
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


#: Values that some reader of settings would take for something else.
LITERAL = [
    *("$q*secret", "$$q", "${HOME}", "$HOME", "\\$q", "a$HOME", "#q", "a #b", "a#b", "a=b=c", "=", "a'b", '"', 'a"b'),
    *("a\\b", "a\\nb", "100%", "%41", "a b", "é", "{}", "[]", "`id`", "!q", "~"),
]


@pytest.mark.parametrize("value", LITERAL)
def test_a_setting_is_literal_wherever_it_comes_from(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/expanded")
    monkeypatch.setenv("q", "expanded")
    monkeypatch.setenv("SECRET_KEY", value)
    assert env.text("SECRET_KEY") == value
    for mark in ("", "\ufeff"):
        for end in ("", "\n", "\r\n"):
            (tmp_path / "key").write_bytes(f"{mark}{value}{end}".encode())
            monkeypatch.setenv("SECRET_KEY_FILE", str(tmp_path / "key"))
            assert env.text("SECRET_KEY") == value
    monkeypatch.delenv("SECRET_KEY_FILE")
    monkeypatch.delenv("SECRET_KEY")
    (tmp_path / ".env").write_bytes(f"\ufeffSECRET_KEY='{value}'\r\n".encode())
    env.read_file(tmp_path / ".env")
    assert env.text("SECRET_KEY") == value


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("EXAMPLE=$q*x", "$q*x"),
        ("EXAMPLE=a#b # note", "a#b"),
        ("EXAMPLE='a' # it's", "a"),
        ("EXAMPLE=it's", "it's"),
        (r'EXAMPLE="a\"$b\\c"', r'a"$b\c'),
        ("export EXAMPLE = a", "a"),
        ("EXAMPLE=", ""),
        ("EXAMPLE= # note", ""),
        ("EXAMPLE=#a", "#a"),
    ],
)
def test_a_line_of_a_settings_file_is_read(
    line: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXAMPLE", "restored later")
    monkeypatch.delenv("EXAMPLE")
    (tmp_path / ".env").write_text(f"# a comment\n\n{line}\n")
    env.read_file(tmp_path / ".env")
    assert os.environ["EXAMPLE"] == value


@pytest.mark.parametrize("content", [b"A=1\nno assignment: hush\n", "A=1".encode("utf-16"), b"A=1\nB=\0\n"])
def test_a_settings_file_that_cannot_be_read_is_refused(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A", "0")
    (tmp_path / ".env").write_bytes(content)
    with pytest.raises(ImproperlyConfigured) as refused:
        env.read_file(tmp_path / ".env")
    assert str(tmp_path) in str(refused.value)
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize("password", [*LITERAL, "a@b", "a/b", "a?b", "a:b", "a@b/c#d?e", "a@b/c?e", "12/3", "a+b"])
def test_a_password_in_a_url_may_have_any_characters(password: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written = {quote(password, safe="")} if "%41" in password else {quote(password, safe=""), password}
    for one in written:
        monkeypatch.setenv("DATABASE_URL", f"postgres://user:{one}@db.example.org:5432/name?sslmode=require")
        found = env.database("DATABASE_URL", "", pool_size=1, kind=Kind.WEB)
        assert (found["PASSWORD"], found["HOST"], found["NAME"]) == (password, "db.example.org", "name")
        monkeypatch.setenv("REDIS_URL", f"rediss://:{one}@redis.example.org:6380/2")
        client = redis.Redis.from_url(env.redis_url("REDIS_URL", ""))
        options = client.connection_pool.connection_kwargs
        assert (options["password"], options["host"], options["db"]) == (password, "redis.example.org", 2)


@pytest.mark.parametrize(
    "url",
    [
        "redis://h:6379/0?client_name=a@b",
        "redis://[::1]:6379/0",
        "postgres:///name?host=/run/a@b",
        "postgres://u@h1:5432,h2:5433/name",
    ],
)
def test_a_url_without_a_password_stays_as_it_is(url: str) -> None:
    assert env.server_url(url) == url


def test_a_wrong_address_with_a_password_is_not_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "user:hush@gateway.example.org")
    with pytest.raises(ImproperlyConfigured) as refused:
        env.http_url("OPENAI_BASE_URL")
    assert "hush" not in str(refused.value)


def test_printed_settings_hide_credentials(tmp_path: Path) -> None:
    canaries = {
        "SECRET_KEY": "canary-" * 8,
        "OPENAI_API_KEY": "sk-canary-1234",
        "DATABASE_URL": "postgres://user:canary-of-the-database@127.0.0.1:1/name",
        "REDIS_URL": "redis://:canary%40redis@127.0.0.1:1/0",
        "SENTRY_DSN": "https://canary@sentry.example.org/1",
        "OPENAI_BASE_URL": "https://user:canary@gateway.example.org/v1",
        "AWS_ACCESS_KEY_ID": "canary-of-the-account",
    }
    command = [sys.executable, "manage.py", "diffsettings", "--all"]
    environment = {"PATH": os.environ["PATH"], "VAR_DIR": str(tmp_path)} | PRODUCTION | canaries
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert "gateway.example.org" in done.stdout
    assert "canary" not in done.stdout


def test_secrets_come_from_files(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from-a-file-" * 5 + "\n")
    settings = {name: value for name, value in PRODUCTION.items() if name != "SECRET_KEY"}
    command = [
        sys.executable,
        "manage.py",
        "shell",
        "-v0",
        "-c",
        "from django.conf import settings as s; print(s.SECRET_KEY)",
    ]
    environment = {"PATH": os.environ["PATH"], "VAR_DIR": str(tmp_path), "SECRET_KEY_FILE": str(tmp_path / "key")}
    done = subprocess.run(command, cwd=ROOT, env=environment | settings, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "from-a-file-" * 5


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("rediss://:secret@redis.example.org/1", "rediss://:secret@redis.example.org/1?ssl_cert_reqs=required"),
        (
            "rediss://redis.example.org?ssl_ca_certs=/ca",
            "rediss://redis.example.org?ssl_ca_certs=/ca&ssl_cert_reqs=required",
        ),
        ("rediss://redis.example.org?ssl_cert_reqs=none", "rediss://redis.example.org?ssl_cert_reqs=none"),
        ("redis://redis.example.org/1", "redis://redis.example.org/1"),
    ],
)
def test_messages_go_only_to_a_redis_whose_certificate_is_good(url: str, asked: str, tmp_path: Path) -> None:
    """Celery's client would take any, as long as it is not told."""
    command = [sys.executable, "-c", "from config import celery_app; print(celery_app.conf.broker_url)"]
    environment = {"PATH": os.environ["PATH"], "VAR_DIR": str(tmp_path / "var"), "DEBUG": "true", "REDIS_URL": url}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.strip() == asked, done.stderr


@pytest.mark.parametrize("pooled", [True, False])
def test_behind_a_pooler_connections_ask_for_nothing_of_the_session(
    pooled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://vga_app:x@db:6432/vga?keepalives_idle=5")
    found: dict[str, Any] = env.database("DATABASE_URL", "", pool_size=3, kind=Kind.WEB, behind_pooler=pooled)
    assert found["DISABLE_SERVER_SIDE_CURSORS"] is True
    assert found["USER"] == "vga_app"
    assert ("options" in found["OPTIONS"]) is not pooled
    assert found["OPTIONS"]["keepalives_idle"] == 5
    assert found["OPTIONS"]["application_name"] == "vga-web"
    if not pooled:
        assert "-c statement_timeout=10s -c lock_timeout=5s" in found["OPTIONS"]["options"]


@pytest.mark.parametrize("kind", list(Kind))
def test_each_kind_of_process_signs_in_as_its_role(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://vga_{kind}:p%40{kind}@db/vga?application_name=mine")
    found: dict[str, Any] = env.database("DATABASE_URL", "", pool_size=3, kind=kind)
    assert (found["USER"], found["USER_TEMPLATE"], found["KIND"]) == (f"vga_{kind}", "vga_{kind}", kind)
    assert found["PASSWORD"] == "p@{kind}"
    assert found["OPTIONS"]["application_name"] == "mine"
    assert "options" not in found["OPTIONS"]  # the role has the settings, and they can be changed there


@pytest.mark.parametrize(("given", "kept"), [({}, "False"), ({"DATABASE_PREPARED_STATEMENTS": "true"}, "True")])
def test_behind_a_pooler_plans_are_kept_only_where_that_is_said(
    given: dict[str, str], kept: str, tmp_path: Path
) -> None:
    code = "from config import settings; print(settings.DATABASE_PREPARED_STATEMENTS)"
    environment = {"PATH": os.environ["PATH"], "VAR_DIR": str(tmp_path), "DATABASE_POOLER": "true", **given}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, check=True)
    assert done.stdout.decode().strip() == kept
