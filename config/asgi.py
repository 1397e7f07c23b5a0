"""Live updates, served by uvicorn. ``config.wsgi`` serves the HTTP API, which is several times faster there."""

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

from generation.realtime.counting import counting_connections  # noqa: E402
from generation.realtime.handshake import not_found, only_as_configured, without_bodies  # noqa: E402
from generation.realtime.routing import http_urlpatterns, websocket_urlpatterns  # noqa: E402

#: The only paths that Django answers here: Django would store a body of any size in a file.
_FOR_MACHINES = r"^(healthz|readyz|metrics)/?$"

application = ProtocolTypeRouter(
    {
        "http": without_bodies(
            URLRouter([*http_urlpatterns, re_path(_FOR_MACHINES, http), re_path("", not_found)])  # type: ignore[arg-type, list-item]
        ),
        "websocket": only_as_configured(counting_connections(URLRouter(websocket_urlpatterns))),
    }
)
start_reporting("realtime")
freeze_gc()
