"""Live updates, waiting calls and ``/v1``, served by uvicorn. It answers all other paths as well.

``config.wsgi`` serves the HTTP API and the pages, which is several times faster there.
"""

import os

from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application
from django.urls import re_path

from config.observability import start_reporting
from config.startup import freeze_gc, require_settings
from generation.db.session_settings import Kind

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
require_settings(Kind.REALTIME)

http = get_asgi_application()  # loads the applications that the routes below need

from generation.realtime.bodies import limited_bodies, without_bodies  # noqa: E402
from generation.realtime.counting import counting_connections  # noqa: E402
from generation.realtime.handshake import only_as_configured  # noqa: E402
from generation.realtime.routing import http_urlpatterns, websocket_urlpatterns  # noqa: E402
from generation.realtime.uploads import EDITS, UPLOADS, spooled_edit, spooled_upload  # noqa: E402
from generation.realtime.waiting import waiting  # noqa: E402

#: Paths that must be answered at once, whatever a client sends.
_FOR_MACHINES = r"^(healthz|readyz|metrics)/?$"

application = ProtocolTypeRouter(
    {
        "http": URLRouter(
            [
                *http_urlpatterns,
                re_path(_FOR_MACHINES, without_bodies(http)),  # type: ignore[list-item, arg-type]
                re_path(UPLOADS, spooled_upload(waiting(http, with_images=True))),  # type: ignore[list-item, arg-type]
                re_path(EDITS, spooled_edit(waiting(http, with_images=True))),  # type: ignore[list-item, arg-type]
                re_path("", limited_bodies(waiting(http))),  # type: ignore[list-item, arg-type]
            ]
        ),
        "websocket": only_as_configured(counting_connections(URLRouter(websocket_urlpatterns))),
    }
)
start_reporting("realtime")
freeze_gc()
