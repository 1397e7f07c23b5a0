"""The HTTP API, served by granian."""

import os
from multiprocessing import parent_process

from config.graceful_stop import ending_connections, stop_in_two_steps
from config.local.parent_death import end_with_parent

# First of all: granian's worker loses a SIGTERM that comes before.
if granian := parent_process():
    if os.environ.get(
        "END_WITH_PARENT"
    ):  # on a laptop, granian's workers end with granian, and granian with the launcher
        assert granian.pid is not None  # noqa: S101  it has started us
        end_with_parent(granian.pid)
    else:
        stop_in_two_steps()

from django.core.wsgi import get_wsgi_application

from config.observability import share_counters_between_processes, start_reporting
from config.startup import freeze_gc, require_settings
from generation.db.session_settings import Kind

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
share_counters_between_processes()
require_settings(Kind.WEB)

_django = get_wsgi_application()

from generation.api.chunked import with_length  # noqa: E402  it needs the settings
from generation.api.unread_bodies import drain_unread_bodies  # noqa: E402

application = ending_connections(drain_unread_bodies(with_length(_django)))
start_reporting("web")
freeze_gc()
