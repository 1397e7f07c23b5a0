"""The embedded Valkey server: it keeps its data, and only our own processes can use it."""

from __future__ import annotations

import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis

from config.local.valkey import running_valkey


def url_of(folder: Path) -> str:
    return (folder / "valkey" / "url").read_text().strip()


def test_queued_requests_survive_a_stop(tmp_path: Path) -> None:
    with running_valkey(tmp_path / "valkey", tmp_path / "valkey.log"), redis.Redis.from_url(url_of(tmp_path)) as client:
        client.lpush("normal", "message")
    with running_valkey(tmp_path / "valkey", tmp_path / "valkey.log"), redis.Redis.from_url(url_of(tmp_path)) as client:
        assert client.lrange("normal", 0, -1) == [b"message"]


def test_a_note_that_a_killed_run_left_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "valkey").mkdir()
    (tmp_path / "valkey" / "url").write_text("redis://127.0.0.1:1/0\n")
    with running_valkey(tmp_path / "valkey", tmp_path / "valkey.log"), redis.Redis.from_url(url_of(tmp_path)) as client:
        assert client.ping()
    assert not (tmp_path / "valkey" / "url").exists()


def test_a_connection_needs_the_password_of_this_run(tmp_path: Path) -> None:
    with running_valkey(tmp_path / "valkey", tmp_path / "valkey.log") as server:
        assert (tmp_path / "valkey" / "url").stat().st_mode & 0o077 == 0
        assert str(urlsplit(url_of(tmp_path)).password) not in Path(f"/proc/{server.pid}/cmdline").read_text()
        port = urlsplit(url_of(tmp_path)).port
        with redis.Redis.from_url(f"redis://127.0.0.1:{port}/0") as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()


def test_a_directory_with_a_space_and_quotes_is_fine(tmp_path: Path) -> None:
    folder = tmp_path / 'a "laptop\'s" folder'
    with running_valkey(folder / "valkey", tmp_path / "valkey.log"), redis.Redis.from_url(url_of(folder)) as client:
        assert client.config_get("appendonly") == {"appendonly": "yes"}


def test_a_server_that_does_not_start_is_a_fault_with_its_log(tmp_path: Path) -> None:
    broken = tmp_path / "valkey" / "appendonlydir"
    broken.mkdir(parents=True)
    (broken / "appendonly.aof.manifest").write_text("this is no manifest\n")
    with (
        pytest.raises(RuntimeError, match=r"does not start; see .*valkey\.log"),
        running_valkey(tmp_path / "valkey", tmp_path / "valkey.log"),
    ):
        pass
    assert (tmp_path / "valkey.log").read_text()


def test_it_listens_on_one_address_alone(tmp_path: Path) -> None:
    with running_valkey(tmp_path / "valkey", tmp_path / "valkey.log"):
        port = urlsplit(url_of(tmp_path)).port
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", port), timeout=5)
