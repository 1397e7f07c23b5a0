#!/usr/bin/env python
"""Django's command line, with one plain line instead of a traceback for a wrong setting."""

import os
import sys
from pathlib import Path


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line

    from config import env
    from config.observability import start_reporting
    from config.startup import begin, kind_of_command, lines, require_database

    try:
        env.read_file(Path(__file__).resolve().parent / ".env")
        begin(kind_of_command("".join(sys.argv[1:2])))
        if process := {"dispatch": "dispatcher", "deliver": "deliverer"}.get("".join(sys.argv[1:2])):
            from config import settings

            require_database(settings.DATABASES["default"])
            start_reporting(process)
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as fault:
        sys.exit(lines(fault))


if __name__ == "__main__":
    main()
