"""Where the API is reached. Each address also works with a slash at its end."""

from __future__ import annotations

from collections.abc import Callable

from django.http.response import HttpResponseBase
from django.urls import URLPattern, re_path

from generation.api.tokens import ObtainView, RefreshView, VerifyView
from generation.api.views import GenerationViewSet, PictureViewSet

app_name = "generation"

_PREFIX = "api/visual-generation"
# Whatever stands in its place is an id that nobody has, and is answered like any other unknown one.
_ID = r"(?P<request_id>[^/]+?)"
_EXTENSION = r"(?P<extension>(?:\.(?:png|jpeg|webp))?)"


def _at(address: str, view: Callable[..., HttpResponseBase], name: str) -> URLPattern:
    return re_path(rf"^{address}/?$", view, name=name)


urlpatterns = [
    _at("api/token", ObtainView.as_view(), "token"),
    _at("api/token/refresh", RefreshView.as_view(), "token-refresh"),
    _at("api/token/verify", VerifyView.as_view(), "token-verify"),
    _at(f"{_PREFIX}/submit", GenerationViewSet.as_view({"post": "submit"}), "submit"),
    _at(f"{_PREFIX}/status/{_ID}", GenerationViewSet.as_view({"get": "retrieve"}), "status"),
    _at(f"{_PREFIX}/cancel/{_ID}", GenerationViewSet.as_view({"delete": "cancel"}), "cancel"),
    _at(f"{_PREFIX}/image/{_ID}{_EXTENSION}", PictureViewSet.as_view({"get": "retrieve"}, kind="image"), "image"),
    _at(
        f"{_PREFIX}/thumbnail/{_ID}{_EXTENSION}",
        PictureViewSet.as_view({"get": "retrieve"}, kind="thumbnail"),
        "thumbnail",
    ),
]
