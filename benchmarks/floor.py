"""An empty DRF view, served as the product is: what Django, DRF and the server cost before anything is done."""

from __future__ import annotations

from django.conf import settings

settings.configure(
    SECRET_KEY="only-for-benchmarks",
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF="benchmarks.floor",
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],  # tells the length of the answer, as the product does
    REST_FRAMEWORK={
        "DEFAULT_AUTHENTICATION_CLASSES": [],
        "DEFAULT_PERMISSION_CLASSES": [],
        "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
        "UNAUTHENTICATED_USER": None,
    },
)

from django.core.wsgi import get_wsgi_application  # noqa: E402  it needs the settings

application = get_wsgi_application()

from django.urls import re_path  # noqa: E402
from rest_framework.decorators import api_view  # noqa: E402
from rest_framework.request import Request  # noqa: E402
from rest_framework.response import Response  # noqa: E402


@api_view(["GET", "POST"])
def nothing(request: Request) -> Response:
    """An answer to everything."""
    return Response({})


urlpatterns = [re_path("", nothing)]
