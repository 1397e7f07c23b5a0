"""Check that the process in this container answers ``GET /healthz``: ``python deploy/healthcheck.py PORT``.

Uses only the standard library and no settings, since it runs every ten seconds in every container.
"""

from __future__ import annotations

import http.client
import sys


def main() -> int:
    """Return 0 if it answers with 200, else 1."""
    connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=4)
    try:
        connection.request("GET", "/healthz")
        return int(connection.getresponse().status != 200)
    except (OSError, http.client.HTTPException):
        return 1
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main())
