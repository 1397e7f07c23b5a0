"""URL routes of the API. Each also works with a trailing slash."""

from __future__ import annotations

from collections.abc import Callable

from django.http.response import HttpResponseBase
from django.urls import URLPattern, re_path

from generation.api.batches import BatchViewSet
from generation.api.images import ImageViewSet, PreviewViewSet, ThumbnailViewSet
from generation.api.keys import KeyViewSet
from generation.api.openai.images import EditsViewSet, ImagesViewSet
from generation.api.openai.models import ModelsViewSet
from generation.api.openai.views import UnknownView
from generation.api.openapi.views import SchemaView, docs
from generation.api.queue import QueueViewSet
from generation.api.requests import GenerationViewSet
from generation.api.tokens import ObtainView, RefreshView, VerifyView
from generation.api.uploads import UploadImageViewSet, UploadViewSet
from generation.api.webhooks import DeliveryViewSet, WebhookViewSet

app_name = "generation"

_PREFIX = "api/visual-generation"
# Any text matches, so that a malformed id gets the same 404 as an unknown id.
_ID = r"(?P<request_id>[^/]+?)"
_BATCH_ID = r"(?P<batch_id>[^/]+?)"
_KEY_ID = r"(?P<key_id>[^/]+?)"
_UPLOAD_ID = r"(?P<upload_id>[^/]+?)"
_WEBHOOK_ID = r"(?P<webhook_id>[^/]+?)"
_DELIVERY_ID = r"(?P<delivery_id>[^/]+?)"
_EXTENSION = r"(?P<extension>(?:\.(?:png|jpeg|webp))?)"


def _at(path: str, view: Callable[..., HttpResponseBase], name: str) -> URLPattern:
    return re_path(rf"^{path}/?$", view, name=name)


urlpatterns = [
    _at("api/schema", SchemaView.as_view(), "schema"),
    _at("api/docs", docs, "docs"),
    _at("api/token", ObtainView.as_view(), "token"),
    _at("api/token/refresh", RefreshView.as_view(), "token-refresh"),
    _at("api/token/verify", VerifyView.as_view(), "token-verify"),
    _at(f"{_PREFIX}/submit", GenerationViewSet.as_view({"post": "submit"}), "submit"),
    _at(f"{_PREFIX}/status/{_ID}", GenerationViewSet.as_view({"get": "retrieve"}), "status"),
    _at(f"{_PREFIX}/requests", GenerationViewSet.as_view({"get": "list"}), "requests"),
    _at(f"{_PREFIX}/requests/{_ID}", GenerationViewSet.as_view({"patch": "partial_update"}), "request"),
    _at(f"{_PREFIX}/requests/{_ID}/provenance", GenerationViewSet.as_view({"get": "provenance"}), "provenance"),
    _at(f"{_PREFIX}/retry/{_ID}", GenerationViewSet.as_view({"post": "retry"}), "retry"),
    _at(f"{_PREFIX}/batch", BatchViewSet.as_view({"post": "create"}), "batches"),
    _at(f"{_PREFIX}/batch/{_BATCH_ID}", BatchViewSet.as_view({"get": "retrieve", "delete": "destroy"}), "batch"),
    _at(f"{_PREFIX}/queue/status", QueueViewSet.as_view({"get": "status"}), "queue-status"),
    _at(f"{_PREFIX}/metrics", QueueViewSet.as_view({"get": "metrics"}), "metrics"),
    _at(f"{_PREFIX}/cancel/{_ID}", GenerationViewSet.as_view({"delete": "cancel"}), "cancel"),
    _at(f"{_PREFIX}/image/{_ID}{_EXTENSION}", ImageViewSet.as_view({"get": "retrieve"}), "image"),
    _at(f"{_PREFIX}/thumbnail/{_ID}{_EXTENSION}", ThumbnailViewSet.as_view({"get": "retrieve"}), "thumbnail"),
    _at(f"{_PREFIX}/preview/{_ID}{_EXTENSION}", PreviewViewSet.as_view({"get": "retrieve"}), "preview"),
    _at(f"{_PREFIX}/keys", KeyViewSet.as_view({"get": "list", "post": "create"}), "keys"),
    _at(
        f"{_PREFIX}/keys/{_KEY_ID}",
        KeyViewSet.as_view({"get": "retrieve", "patch": "partial_update", "delete": "destroy"}),
        "key",
    ),
    _at(f"{_PREFIX}/keys/{_KEY_ID}/rotate", KeyViewSet.as_view({"post": "rotate"}), "key-rotate"),
    _at(f"{_PREFIX}/uploads", UploadViewSet.as_view({"get": "list", "post": "create"}), "uploads"),
    _at(f"{_PREFIX}/uploads/{_UPLOAD_ID}", UploadViewSet.as_view({"get": "retrieve", "delete": "destroy"}), "upload"),
    _at(
        f"{_PREFIX}/upload-image/{_UPLOAD_ID}{_EXTENSION}",
        UploadImageViewSet.as_view({"get": "retrieve"}),
        "upload-image",
    ),
    _at(f"{_PREFIX}/webhooks", WebhookViewSet.as_view({"get": "list", "post": "create"}), "webhooks"),
    # Before the route of one webhook, whose id may be any text.
    _at(f"{_PREFIX}/webhooks/secret", WebhookViewSet.as_view({"get": "secret"}), "webhook-secret"),
    _at(
        f"{_PREFIX}/webhooks/secret/rotate", WebhookViewSet.as_view({"post": "rotate_secret"}), "webhook-secret-rotate"
    ),
    _at(f"{_PREFIX}/webhooks/deliveries", DeliveryViewSet.as_view({"get": "list"}), "deliveries"),
    _at(
        f"{_PREFIX}/webhooks/{_WEBHOOK_ID}",
        WebhookViewSet.as_view({"get": "retrieve", "patch": "partial_update", "delete": "destroy"}),
        "webhook",
    ),
    _at(f"{_PREFIX}/webhooks/{_WEBHOOK_ID}/rotate", WebhookViewSet.as_view({"post": "rotate"}), "webhook-rotate"),
    _at(f"{_PREFIX}/webhooks/{_WEBHOOK_ID}/test", WebhookViewSet.as_view({"post": "test"}), "webhook-test"),
    _at(
        f"{_PREFIX}/webhooks/{_WEBHOOK_ID}/deliveries",
        WebhookViewSet.as_view({"get": "deliveries"}),
        "webhook-deliveries",
    ),
    _at(
        f"{_PREFIX}/webhooks/{_WEBHOOK_ID}/redeliver",
        WebhookViewSet.as_view({"post": "redeliver"}),
        "webhook-redeliver",
    ),
    _at(f"{_PREFIX}/deliveries/{_DELIVERY_ID}/redeliver", DeliveryViewSet.as_view({"post": "redeliver"}), "redeliver"),
    _at("v1/images/generations", ImagesViewSet.as_view({"post": "generate"}), "openai-images"),
    _at("v1/images/edits", EditsViewSet.as_view({"post": "edit"}), "openai-edits"),
    _at("v1/models", ModelsViewSet.as_view({"get": "list"}), "openai-models"),
    _at("v1/models/(?P<model_id>.+?)", ModelsViewSet.as_view({"get": "retrieve"}), "openai-model"),
    # Clients of OpenAI read no other format of an error.
    _at("v1(?:/.*)?", UnknownView.as_view(), "openai-unknown"),
]
