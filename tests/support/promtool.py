"""Rules and boards held against what the processes really tell, by Prometheus's own tool."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "monitoring"
#: How long the series of a test last, in minutes.
_MINUTES = 60


def found(name: str, package: str) -> str:
    """The program. Without it the test is skipped, but in CI it must be there."""
    path = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/bin")
    if path is None and os.environ.get("CI"):
        pytest.fail(f"{name} is not installed")
    if path is None:
        pytest.skip(f"{name} is not installed (Debian's {package})")
    return path


def promtool(*arguments: str | Path, given: str = "") -> str:
    """What it prints; fails where it finds fault."""
    command = [found("promtool", "prometheus"), *map(str, arguments)]
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def alerts() -> dict[str, str]:
    """Each alert with its expression."""
    rules = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"][0]["rules"]
    return {rule["alert"]: rule["expr"] for rule in rules}


def panels() -> list[str]:
    """Every expression of the board."""
    board = json.loads((FOLDER / "grafana-dashboard.json").read_text())
    return [target["expr"] for panel in board["panels"] for target in panel["targets"]]


def series(scrape: str, job: str) -> dict[str, str]:
    """The samples of a scrape as Prometheus keeps them, under the name of the job."""
    kept = {}
    for line in scrape.splitlines():
        if sample := re.fullmatch(r"([a-z_]+)(?:\{(.*)\})? (\S+)", line):
            name, labels, value = sample.groups()
            own = f'job="{job}",instance="{job}:1"'
            kept[f"{name}{{{','.join(filter(None, [labels, own]))}}}"] = value
    return kept


def firing(folder: Path, scraped: dict[str, str], changed: dict[str, str], *, expected: set[str]) -> None:
    """Let the series stand as they were scraped, but for those that ``changed`` gives other values
    (``0+1x60`` rises by one a minute), and fail unless just these alerts fire after an hour."""
    values = {name: f"{value}x{_MINUTES}" for name, value in scraped.items() if value != "NaN"}
    for name, value in changed.items():
        same = [one for one in values if one.startswith(name)]
        assert same, f"no process tells {name}"
        values |= dict.fromkeys(same, value)
    test: dict[str, Any] = {
        "interval": "1m",
        "input_series": [{"series": name, "values": _repeated(value)} for name, value in values.items()],
        "promql_expr_test": [
            {
                "expr": f'count by (alertname) (ALERTS{{alertname="{alert}",alertstate="firing"}})',
                "eval_time": f"{_MINUTES - 5}m",
                "exp_samples": [],
            }
            for alert in alerts()
            if alert not in expected
        ],
    }
    test["promql_expr_test"] += [
        {
            "expr": f'count(count by (alertname) (ALERTS{{alertname="{alert}",alertstate="firing"}}))',
            "eval_time": f"{_MINUTES - 5}m",
            "exp_samples": [{"labels": "{}", "value": 1}],
        }
        for alert in expected
    ]
    path = folder / "rules-test.yml"
    content = {"rule_files": [str(FOLDER / "alerts.yml")], "evaluation_interval": "1m", "tests": [test]}
    path.write_text(yaml.safe_dump(content))
    promtool("test", "rules", path)


def _repeated(value: str) -> str:
    if re.search(r"[-+]\S+x\d+$", value):
        return value
    return f"{float(value.rpartition('x')[0] or value):f}+0x{_MINUTES}"
