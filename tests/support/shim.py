"""``docker`` for the commands of docs/operations.md: what would run in a container runs as a plain process.

Reads from ``COMPOSED`` what each service finds in its environment, its folders and the numbers of its processes.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

#: Options that take a value, and those that do not, of the subcommands that are used.
VALUED = {"--since", "--scale"}
PLAIN = {"--rm", "-T", "--detach", "--wait", "--no-deps", "--no-recreate"}


def main() -> None:
    services = json.loads(Path(os.environ["COMPOSED"]).read_text())
    compose, action, *words = sys.argv[1:]
    assert compose == "compose", sys.argv
    while words and words[0].startswith("-"):
        option = words.pop(0)
        assert option in VALUED | PLAIN, option
        if option in VALUED:
            words.pop(0)
    if action in {"exec", "run"}:
        service = services[words[0]]
        command = words[1:] or service["command"]
        for there, here in service["folders"].items():
            command = [part.replace(there, here) for part in command]
        os.chdir(service["cwd"])
        os.execvpe(command[0], command, service["environment"])  # noqa: S606
    assert action in {"build", "up", "stop", "restart", "logs", "ps"}, action
    assert set(words) <= set(services), words
    if action == "stop":
        for pid in [pid for word in words for pid in services[word]["pids"]]:
            os.kill(pid, signal.SIGTERM)
            while Path(f"/proc/{pid}/stat").exists() and " Z " not in Path(f"/proc/{pid}/stat").read_text():
                time.sleep(0.05)


if __name__ == "__main__":
    main()
