"""All addresses of the HTTP server."""

from django.contrib import admin
from django.urls import include, path, re_path

from generation.api import errors, health, prometheus
from generation.dashboard import views as dashboard
from generation.dashboard import webhooks

handler400 = "generation.api.errors.bad_request"
handler404 = "generation.api.errors.page_not_found"
handler500 = "generation.api.errors.server_error"

urlpatterns = [
    # First, since Django tries one after the other and the API has the most calls.
    path("", include("generation.api.urls")),
    path("", dashboard.studio, name="studio"),
    path("requests/<str:request_id>", dashboard.request_page, name="request"),
    path("queue", dashboard.queue, name="queue"),
    path("uploads", dashboard.uploads, name="uploads"),
    path("keys", dashboard.keys, name="keys"),
    path("webhooks", webhooks.webhooks, name="webhooks"),
    path("webhooks/calls", webhooks.webhook_calls, name="webhook-calls"),
    path("webhooks/<str:webhook_id>", webhooks.webhook, name="webhook"),
    path("sign-in", dashboard.SignIn.as_view(), name="sign-in"),
    path("sign-out", dashboard.SignOut.as_view(), name="sign-out"),
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path("metrics", prometheus.metrics, name="metrics"),
    path("admin/", admin.site.urls),
    # Last, for all other paths: with DEBUG on, Django would answer with its own page instead of handler404.
    re_path("", errors.page_not_found),
]
