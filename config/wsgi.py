"""The HTTP API, served by granian."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

_django = get_wsgi_application()

from generation.api.chunked import with_length  # noqa: E402  it needs the settings

application = with_length(_django)
