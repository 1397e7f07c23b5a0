"""The fake vendors can carry the load that the tests put on them, and remember it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from tests.fakes.control import FakeProvider
from tests.support.stack import wait_until

BODY = json.dumps({"prompt": "A friendly dragon"}).encode()
CALL = b"POST /v1/images/generations HTTP/1.1\r\nhost: x\r\nauthorization: Bearer k\r\ncontent-length: %d\r\n\r\n%s" % (
    len(BODY),
    BODY,
)


async def _call(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(CALL)
    status = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return status


def test_300_slow_calls_go_on_at_once() -> None:
    async def crowd(port: int) -> list[bytes]:
        return await asyncio.gather(*(_call(port) for _ in range(300)))

    with FakeProvider() as fake:
        fake.script(default="delay=2")
        statuses = asyncio.run(crowd(int(fake.base_url.rpartition(":")[2])))
        assert {status.split()[1] for status in statuses} == {b"200"}
        assert (fake.stats().count, fake.max_concurrent) == (300, 300)


def test_the_file_of_the_journal_outlives_the_fake_and_its_port_stays(tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    fake = FakeProvider(journal=journal)
    with fake:
        first = fake.base_url
        asyncio.run(_call(int(first.rpartition(":")[2])))
        wait_until(lambda: fake.journal()[0].ended)
        fake.stop()
        fake.start()
        assert (fake.base_url, fake.stats().count) == (first, 0)
    [line] = journal.read_text().splitlines()
    assert json.loads(line)["outcome"] == "200"
