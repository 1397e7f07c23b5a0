"""PgBouncer between the running deployment and its database, and without it again."""

from __future__ import annotations

from tests.engine.neighbors import ContainerVendor
from tests.engine.project import SERVICES, Project, ended, submit
from tests.support.operations import SCALING, blocks
from tests.support.stack import wait_until


def test_pgbouncer_serves_all_processes(project: Project, vendor: ContainerVendor) -> None:
    (block,) = blocks("ini", "## Behind PgBouncer", SCALING)
    before = dict(project.settings)
    project.write_settings(**dict(line.split("=", 1) for line in block.splitlines()))
    try:
        project.make_secrets()
        project.compose("build", "pgbouncer", seconds=300)
        project.up()
        assert project.health()["pgbouncer"] == ["healthy"]
        (address,) = project.inspect("pgbouncer")["NetworkSettings"]["Networks"].values()
        sessions = "SELECT DISTINCT host(client_addr) FROM pg_stat_activity WHERE usename LIKE 'vga_%'"
        wait_until(lambda: project.sql(sessions) == [[address["IPAddress"]]], what="sessions of PgBouncer alone")
        with project.client("alice") as alice:
            ids = [submit(alice, f"Dragon {number} behind PgBouncer") for number in range(20)]
            assert {ended(alice, request_id)["status"] for request_id in ids} == {"completed"}
        said = project.run("web", "python", "manage.py", "doctor", check=False).stdout
        assert "wrong settings" not in said
    finally:
        project.settings = before
        project.write_settings()
        project.up("--remove-orphans")
    assert {project.health()[name][0] for name in SERVICES} == {"healthy"}
