#!/usr/bin/env python
"""Django's command line, with one plain line instead of a trace where a setting is wrong."""

import os
import sys
from pathlib import Path


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line

    from config import env

    env.read_file(Path(__file__).resolve().parent / ".env")
    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as fault:
        sys.exit(f"error: {fault}")


if __name__ == "__main__":
    main()
