"""Two hosts that share PostgreSQL, Valkey and a bucket, as docs/scaling.md describes them, here two deployments on one
engine. The further host is cut off from the first one, and comes back."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import pytest
from websockets.sync.client import connect

from tests.engine import neighbors
from tests.engine.conftest import KEY, timed
from tests.engine.daemon import Engine
from tests.engine.neighbors import ContainerVendor
from tests.engine.project import SERVICES, Project, deployment, ended, note, submit
from tests.engine.test_many import assert_all_done, assert_paid_once, submit_many
from tests.engine.test_operations import HEADING as UPGRADE
from tests.engine.test_operations import upgraded
from tests.servers import temporary_folder
from tests.support.operations import SCALING, blocks, commands
from tests.support.stack import wait_until

HEADING = "## More hosts"
#: The slots of one worker.
SLOTS = 5
Hosts = tuple[Project, Project]


@pytest.fixture(scope="module")
def address(engine: Engine, name: str) -> Iterator[str]:
    """The address of the first host in the private network, here that of a bridge."""
    network = f"{name}-private"
    engine.docker("network", "create", network)
    try:
        yield json.loads(engine.docker("network", "inspect", network))[0]["IPAM"]["Config"][0]["Gateway"]
    finally:
        engine.docker("network", "rm", network)


@pytest.fixture(scope="module")
def bucket(engine: Engine, name: str, address: str) -> Iterator[str]:
    """The address of a server of S3."""
    container, code = f"{name}-bucket", neighbors.code(temporary_folder())
    engine.docker(
        *("run", "--detach", "--name", container, "--publish", f"{address}:9000:9000", "--no-healthcheck"),
        *("--volume", f"{code}:/app/tests:ro", engine.image, "python", "-m", "tests.engine.bucket_server", "9000"),
    )
    try:
        yield f"http://{address}:9000"
    finally:
        engine.docker("rm", "--force", container)


@pytest.fixture(scope="module")
def hosts(engine: Engine, name: str, usual: dict[str, str], address: str, bucket: str) -> Iterator[Hosts]:
    """A first and a further host."""
    shared, files = (block.split() for block in blocks("ini", HEADING, SCALING))
    settings = usual | dict(line.split("=", 1) for line in shared)
    settings |= {"PRIVATE_ADDRESS": address, "AWS_S3_ENDPOINT_URL": bucket}
    settings |= {"AWS_ACCESS_KEY_ID": "only-for-tests", "AWS_SECRET_ACCESS_KEY": "only-for-tests"}
    first_files, further_files = (line.removeprefix("COMPOSE_FILE=") for line in files)
    with (
        deployment(engine, temporary_folder(), name=f"{name}-first", **settings, COMPOSE_FILE=first_files) as first,
        deployment(
            engine, temporary_folder(), name=f"{name}-further", **settings, COMPOSE_FILE=further_files
        ) as further,
    ):
        first.make_secrets()
        first.set_secret("openai_api_key", KEY)
        with timed("the first host"):
            first.up()
        first.make_people()
        further.write_settings(PUBLIC_BASE_URL=first.url)
        shutil.copytree(first.secrets, further.secrets)
        with timed("the further host"):
            for command in commands(HEADING, SCALING):
                further.type(command)
        yield first, further


@pytest.fixture(scope="module")
def _shared_vendor(hosts: Hosts) -> Iterator[ContainerVendor]:
    first, further = hosts
    with ContainerVendor(first) as vendor, vendor.known_to(further):
        yield vendor


@pytest.fixture
def shared_vendor(_shared_vendor: ContainerVendor) -> ContainerVendor:
    """The vendor, which both hosts reach, without a script and with an empty journal."""
    _shared_vendor.reset()
    return _shared_vendor


@contextmanager
def cut_off(host: Project, address: str) -> Iterator[None]:
    """Drop all packets between the host and this address, without a word to either side."""
    network = json.loads(host.engine.docker("network", "inspect", f"{host.name}_inside"))[0]["Id"]
    bridge = f"br-{network[:12]}"
    rules = [["INPUT", "--in-interface", bridge, "--destination", address, "--jump", "DROP"]]
    rules += [["OUTPUT", "--out-interface", bridge, "--source", address, "--jump", "DROP"]]
    for rule in rules:
        iptables("--insert", *rule)
    try:
        yield
    finally:
        for rule in rules:
            iptables("--delete", *rule)


def iptables(*arguments: str) -> None:
    environment = {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    subprocess.run(["iptables", "--wait", *arguments], env=environment, check=True, capture_output=True)


def workers(host: Project, word: str) -> int:
    """How many workers took requests whose prompt has the word."""
    counted = f"SELECT count(DISTINCT worker) FROM generation_attempts WHERE prompt LIKE '%{word}%'"  # noqa: S608
    ((count,),) = host.sql(counted)
    return int(count)


def test_two_hosts_share_the_work_and_the_images(hosts: Hosts, shared_vendor: ContainerVendor) -> None:
    first, further = hosts
    assert further.health() == {name: ["healthy"] for name in SERVICES if name not in {"postgres", "valkey"}}
    shared_vendor.script(default="delay=0.5")
    prompts = [f"Dragon number {number:02} of two hosts" for number in range(20)]
    with first.client("alice") as here, further.client("alice") as there:
        ids = [submit([here, there][number % 2], prompt) for number, prompt in enumerate(prompts)]
        assert {ended(there, request_id)["status"] for request_id in ids} == {"completed"}
        images = [[client.get(f"/image/{one}").content for one in ids] for client in (here, there)]
        address = ended(there, ids[0])["result"]["imageUrl"]
    assert images[0] == images[1]
    assert httpx2.get(address).content == images[0][0]
    assert workers(first, "of two hosts") == 2
    assert_paid_once(shared_vendor, prompts)


def test_what_happens_on_one_host_is_told_on_the_other(hosts: Hosts, shared_vendor: ContainerVendor) -> None:
    first, further = hosts
    shared_vendor.script(default="hold=1")
    at = further.url.replace("http", "ws", 1)
    with first.client("alice") as here, connect(f"{at}/ws/visual-generation") as there:
        there.send(json.dumps({"type": "authenticate", "token": further.token()}))
        assert json.loads(there.recv(timeout=20)) == {"type": "authenticated"}
        there.send(json.dumps({"type": "subscribe", "requestId": submit(here, "A dragon watched from afar")}))
        wait_until(lambda: shared_vendor.stats().active == 1, seconds=30, what="a call")
        shared_vendor.release()
        statuses: list[str] = []
        while not statuses or statuses[-1] not in {"completed", "failed"}:
            message = json.loads(there.recv(timeout=30))
            if message["type"] in {"subscribed", "update"}:
                statuses.append(message["data"]["status"])
    assert statuses[-1] == "completed"


def test_a_further_host_is_upgraded_and_fails_no_call(hosts: Hosts, shared_vendor: ContainerVendor) -> None:
    first, further = hosts
    build, _, *rest = commands(UPGRADE)
    with further.client("alice") as there:
        with upgraded(further, there) as load:
            for command in (commands(HEADING, SCALING)[0], *rest):
                further.type(command)
        assert {ended(there, request_id)["status"] for request_id in load.ids} == {"completed"}
    assert (build, first.is_ready()) == ("docker compose build", True)


@pytest.mark.skipif(os.geteuid() != 0, reason="cutting a host off needs root")
def test_a_host_that_is_cut_off_costs_no_request_and_comes_back(
    hosts: Hosts, shared_vendor: ContainerVendor, address: str
) -> None:
    first, further = hosts
    shared_vendor.script(default="hold=1")
    with first.client("alice") as here:
        under_way = [f"Dragon number {number:02} at the cut" for number in range(20)]
        submit_many(here, under_way)
        wait_until(lambda: shared_vendor.stats().active == 2 * SLOTS, seconds=30, what="calls of both hosts")
        with cut_off(further, address):
            cut = time.monotonic()
            shared_vendor.script(default="")
            shared_vendor.release()
            wait_until(lambda: not further.is_ready(), seconds=60, what="a host that says that it is cut off")
            note(f"a host that is cut off is not ready after {time.monotonic() - cut:.1f} s")
            during = [f"Dragon number {number:02} in the meantime" for number in range(20)]
            submit_many(here, during)
            assert_all_done(first, under_way + during, seconds=90)
            assert first.is_ready()
    back = time.monotonic()
    further.wait_ready(90)
    note(f"a host that is back is ready after {time.monotonic() - back:.1f} s")
    assert_paid_once(shared_vendor, during)
    paid = [count for prompt, count in shared_vendor.paid().items() if "at the cut" in prompt]
    assert sum(paid) <= len(under_way) + SLOTS
    shared_vendor.script(default="delay=0.5")
    after: list[str] = []
    with further.client("alice") as there:

        def both_work() -> bool:
            more = [f"Dragon number {len(after) + number:03} afterwards" for number in range(10)]
            submit_many(there, more)
            after.extend(more)
            return workers(first, "afterwards") == 2

        wait_until(both_work, seconds=90, what="work of the host that is back")
        note(f"a host that is back works after {time.monotonic() - back:.1f} s")
        assert_all_done(first, after, seconds=90)
    assert_paid_once(shared_vendor, after)
    wait_until(lambda: all(state == ["healthy"] for state in further.health().values()), seconds=60, what="health")
