"""Live updates, served by uvicorn. The HTTP API is served by ``config.wsgi``, which is several times as fast at it."""

import os

from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application
from django.urls import re_path

from config.observing import start_reporting
from config.startup import require_settings, settle

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
require_settings()

http = get_asgi_application()  # loads the applications, which the routes below need

from generation.realtime.counting import counting_connections  # noqa: E402
from generation.realtime.routing import http_urlpatterns, websocket_urlpatterns  # noqa: E402

application = ProtocolTypeRouter(
    {
        "http": URLRouter([*http_urlpatterns, re_path("", http)]),  # type: ignore[arg-type, list-item]
        "websocket": counting_connections(URLRouter(websocket_urlpatterns)),
    }
)
start_reporting("realtime")
settle()
