"""All settings, read once from the environment. ``.env.example`` explains each variable."""

from __future__ import annotations

import contextlib
import secrets
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from csp.constants import NONE, SELF

from config import env, observability, startup
from config.openapi import description
from config.unfold import UNFOLD as UNFOLD
from generation.db.session_settings import Kind

env.begin()
BASE_DIR = Path(__file__).resolve().parent.parent
VAR_DIR = env.directory("VAR_DIR", BASE_DIR / "var")

# Without DATABASE_URL this is a laptop; with it, a deployment, which must set DEBUG explicitly.
DEBUG = env.boolean("DEBUG", default=not env.present("DATABASE_URL"))
if not DEBUG:
    for _name in ("SECRET_KEY", "DATABASE_URL", "REDIS_URL"):
        if not env.present(_name):
            env.refuse(f"{_name} must be set, since DEBUG is off", None)


def _laptop_secret() -> str:
    """Return a secret that is generated once and stored, so that processes share it and tokens survive a restart."""
    path = VAR_DIR / "secret_key"
    try:
        VAR_DIR.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"secret_key.{secrets.token_hex(4)}")
        if not path.exists():
            draft.touch(mode=0o600)
            draft.write_text(secrets.token_urlsafe(48))
            with contextlib.suppress(FileExistsError):  # another process was first; its secret counts
                path.hardlink_to(draft)
            draft.unlink()
        return path.read_text()
    except OSError as error:
        return env.refuse(f"VAR_DIR {VAR_DIR} cannot be written: {error.strerror}", "")


def _embedded(server: str) -> str:
    """Return the address of a server that the running stack started, or nothing if none is running."""
    try:
        return (VAR_DIR / server / "url").read_text().strip()
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        return env.refuse(f"VAR_DIR {VAR_DIR} cannot be read: {error.strerror}", "")


SECRET_KEY = env.text("SECRET_KEY") or (_laptop_secret() if DEBUG else "")
JWT_SECRET = env.text("JWT_SECRET") or SECRET_KEY
if not DEBUG and 0 < len(JWT_SECRET.encode()) < 32:
    env.refuse("JWT_SECRET (or SECRET_KEY, which stands in for it) must have at least 32 bytes", None)

# --- Where we are reached -------------------------------------------------------------------------------------------
PORT = env.integer("PORT", 8000, minimum=1, maximum=65535)
REALTIME_PORT = env.integer("REALTIME_PORT", 8001, minimum=1, maximum=65535)
PUBLIC_BASE_URL = env.http_url("PUBLIC_BASE_URL", f"http://127.0.0.1:{PORT}")
_HOST = urlsplit(PUBLIC_BASE_URL).hostname or ""
#: Loopback is for health checks and the like. No address in an answer is made from the host name.
ALLOWED_HOSTS = [*env.words("ALLOWED_HOSTS", _HOST), "localhost", "127.0.0.1", "[::1]"]
#: Where the pages open the WebSocket. Empty for their own origin, if a proxy serves both; or, while PUBLIC_BASE_URL is
#: not set, on the page's own host at ``REALTIME_PORT``.
REALTIME_BASE_URL = env.text("REALTIME_BASE_URL").rstrip("/")
REALTIME_HAS_ITS_PORT = not REALTIME_BASE_URL and not env.present("PUBLIC_BASE_URL")
CSRF_TRUSTED_ORIGINS = env.words("CSRF_TRUSTED_ORIGINS")

# --- The application ------------------------------------------------------------------------------------------------
INSTALLED_APPS = [
    # Before the admin, whose templates it replaces.
    "unfold.apps.BasicAppConfig",
    "unfold.contrib.filters",
    "generation.apps.StaffConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "rest_framework",
    "rest_framework_simplejwt.token_blacklist",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "channels",
    "generation",
    "workers",
]
MIDDLEWARE = [
    "generation.api.middleware.observe",
    "django.middleware.security.SecurityMiddleware",
    "generation.api.policies.ContentSecurityPolicy",
    "generation.api.debug_pages.JsonErrors",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "generation.api.probes.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "generation.api.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
ASGI_APPLICATION = "config.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
            "libraries": {"figures": "generation.templatetags.formats"},
        },
    }
]
APPEND_SLASH = False
LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "static/"
STATIC_ROOT = env.directory("STATIC_ROOT", VAR_DIR / "static")
WHITENOISE_USE_FINDERS = DEBUG
WHITENOISE_AUTOREFRESH = DEBUG
MEDIA_ROOT = VAR_DIR / "media"
RESULT_STORAGE = env.one_of("RESULT_STORAGE", "file", ("file", "s3"))
#: The CDN in front of the storage, at whose address clients find the images by their keys.
CDN_BASE_URL = env.http_url("CDN_BASE_URL")
#: The internal location of MEDIA_ROOT at the proxy in front, which then sends the images itself; empty for none.
ACCEL_LOCATION = env.location("ACCEL_LOCATION")
#: Days after which an ended request is deleted with its images; 0 for never.
RESULT_RETENTION_DAYS = env.integer("RESULT_RETENTION_DAYS", 0, minimum=0, maximum=36_500)
#: Days after its last use after which an uploaded image is deleted; 0 for never. And megabytes of one owner's.
UPLOAD_RETENTION_DAYS = env.integer("UPLOAD_RETENTION_DAYS", 30, minimum=0, maximum=36_500)
UPLOAD_QUOTA_MB = env.integer("UPLOAD_QUOTA_MB", 1000, minimum=0, maximum=10_000_000)
#: How long a request waits for the image of one that failed or was cancelled; in days.
REFERENCE_PATIENCE = timedelta(days=env.integer("REFERENCE_PATIENCE", 7, minimum=0, maximum=36_500))
_bucket: dict[str, Any] = {
    "bucket_name": env.text("AWS_STORAGE_BUCKET_NAME"),
    "access_key": env.text("AWS_ACCESS_KEY_ID") or None,
    "secret_key": env.text("AWS_SECRET_ACCESS_KEY") or None,
    "region_name": env.text("AWS_S3_REGION_NAME", "us-east-1"),
    "endpoint_url": env.http_url("AWS_S3_ENDPOINT_URL") or None,
}
if RESULT_STORAGE == "s3" and not _bucket["bucket_name"]:
    env.refuse("AWS_STORAGE_BUCKET_NAME must be set, since RESULT_STORAGE is s3", None)
#: Further origins from which browsers load images.
PICTURE_ORIGINS = [CDN_BASE_URL] if CDN_BASE_URL else []
if RESULT_STORAGE == "s3" and _bucket["bucket_name"] and not CDN_BASE_URL:
    # Imported here, since the SDK is slow to load and few have a bucket.
    from generation.storage.s3 import bucket_address

    try:
        _where = bucket_address(_bucket["bucket_name"], _bucket["region_name"], _bucket["endpoint_url"])
        PICTURE_ORIGINS = [_where.origin]
    except ValueError as _error:
        env.refuse(f"AWS_STORAGE_BUCKET_NAME and AWS_S3_REGION_NAME name no bucket: {_error}", None)
STORAGES = {
    "default": {"BACKEND": "generation.storage.s3.BucketStorage", "OPTIONS": _bucket}
    if RESULT_STORAGE == "s3"
    else {"BACKEND": "generation.storage.filesystem.AtomicFileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
DATA_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024

# --- Database -------------------------------------------------------------------------------------------------------
MAX_CONCURRENT_REQUESTS = env.integer("MAX_CONCURRENT_REQUESTS", 5, minimum=1, maximum=1000)
#: Whether a pooler of transactions, such as PgBouncer, is in front of PostgreSQL.
DATABASE_POOLER = env.boolean("DATABASE_POOLER", default=False)
DATABASES = {
    "default": env.database(
        "DATABASE_URL",
        _embedded("postgresql"),
        # One for each thread of the web. Those of a worker are listed in workers/database.py; a deliverer has two.
        pool_size=4 if startup.kind() in {Kind.WORKER, Kind.DELIVERER} else 14,
        kind=startup.kind(),
        behind_pooler=DATABASE_POOLER,
    )
}
#: Whether frequent statements are prepared. A pooler must support that.
DATABASE_PREPARED_STATEMENTS = env.boolean("DATABASE_PREPARED_STATEMENTS", default=not DATABASE_POOLER)
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]

# --- Redis ----------------------------------------------------------------------------------------------------------
REDIS_URL = env.redis_url("REDIS_URL", _embedded("valkey") or "redis://127.0.0.1:6379/0")
REDIS_PASSWORD = unquote(urlsplit(REDIS_URL).password or "")
CELERY_BROKER_URL = REDIS_URL
if REDIS_URL.startswith("rediss://") and "ssl_cert_reqs" not in REDIS_URL:
    # All other clients verify the certificate by default.
    CELERY_BROKER_URL += ("&" if urlsplit(REDIS_URL).query else "?") + "ssl_cert_reqs=required"
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {
            "hosts": [{"address": REDIS_URL, "socket_timeout": 5, "socket_connect_timeout": 2}],
            "prefix": "vga",
            # Updates contain prompts and signed addresses of images, which Redis need not see.
            "symmetric_encryption_keys": [f"live-updates:{SECRET_KEY}"],
        },
    }
}

CACHES = {
    "default": {
        "BACKEND": "generation.access.rate_limits.CountingCache",
        "LOCATION": REDIS_URL,
        "KEY_PREFIX": "vga",
        # Short, since calls wait for it: without Redis, rates are counted in the process.
        "OPTIONS": {"socket_timeout": 0.5, "socket_connect_timeout": 0.5},
    }
}

# --- Live updates ---------------------------------------------------------------------------------------------------
#: How often each realtime process checks for updates that Redis lost and for revoked users.
REALTIME_RESYNC = env.milliseconds("REALTIME_RESYNC_MS", 20_000, minimum=100)
#: How long an idle connection without subscriptions may last.
REALTIME_IDLE = env.milliseconds("REALTIME_IDLE_MS", 300_000, minimum=100)
#: How often an event stream sends a comment while there are no events.
REALTIME_HEARTBEAT = env.milliseconds("REALTIME_HEARTBEAT_MS", 15_000, minimum=100)
#: The most connections for live updates of one user, and of one address, on each process.
REALTIME_MAX_PER_USER = env.integer("REALTIME_MAX_PER_USER", 100, minimum=1, maximum=1_000_000)
REALTIME_MAX_PER_ADDRESS = env.integer("REALTIME_MAX_PER_ADDRESS", 500, minimum=1, maximum=1_000_000)

#: The most waiting calls of one user on each process, and the longest wait by `Prefer: wait`.
WAITS_PER_USER = env.integer("WAITS_PER_USER", 50, minimum=1, maximum=100_000)
WAIT_MAX = env.integer("WAIT_MAX", 60, minimum=1, maximum=3600)
#: The most seconds for which a call below /v1 is held until its images are ready.
OPENAI_WAIT_SECONDS = env.integer("OPENAI_WAIT_SECONDS", 300, minimum=1, maximum=3600)

# --- The queue ------------------------------------------------------------------------------------------------------
QUEUE_PROCESSING_INTERVAL = env.milliseconds("QUEUE_PROCESSING_INTERVAL", 3000, minimum=50)
RETRY_DELAY = env.milliseconds("RETRY_DELAY_MS", 10_000)
#: A client of an export that reads nothing for this long is disconnected.
READER_TIMEOUT = env.milliseconds("READER_TIMEOUT_MS", 60_000, minimum=1000)
PROVIDER_TIMEOUT = env.milliseconds("PROVIDER_TIMEOUT_MS", 180_000, minimum=100)
#: How long a worker keeps a paid image in memory while it cannot be stored.
STORAGE_PATIENCE = env.milliseconds("STORAGE_PATIENCE_MS", 600_000)
#: The lease of a claim without a heartbeat, and the interval of heartbeats.
LEASE = env.milliseconds("LEASE_MS", 30_000, minimum=1000)
HEARTBEAT_INTERVAL = LEASE / 3
#: After this time an unclaimed message counts as lost and is sent again; longer at each further time.
REDISPATCH_AFTER = LEASE
#: How long a request waits at one weight before it is promoted one step.
PROMOTION_AFTER = env.milliseconds("PROMOTION_AFTER_MS", 600_000, minimum=100)
#: Who takes turns in the queue: owners, their projects or their end users; with off there are no turns.
FAIRNESS = env.one_of("FAIRNESS", "owner", ("owner", "project", "endUser", "off"))
#: The most messages in one queue in Redis. Twice as many as the live workers' slots are enough.
DISPATCH_WINDOW = max(64, 8 * MAX_CONCURRENT_REQUESTS)

# --- Providers ------------------------------------------------------------------------------------------------------
STABILITY_TRANSPORT = env.one_of("STABILITY_TRANSPORT", "rest", ("rest", "grpc"))
_vendors: dict[str, dict[str, Any]] = {
    "openai": {
        "api_key": env.text("OPENAI_API_KEY"),
        "base_url": env.text("OPENAI_BASE_URL", "https://api.openai.com/v1"),
        "image_hosts": env.hosts("OPENAI_IMAGE_HOSTS"),
    },
    "stability": {
        "api_key": env.text("STABILITY_API_KEY"),
        **{
            "rest": {"base_url": env.text("STABILITY_BASE_URL", "https://api.stability.ai")},
            "grpc": {
                "class": "workers.providers.stability_grpc:StabilityGrpcProvider",
                "host": env.text("STABILITY_GRPC_HOST", "grpc.stability.ai:443"),
            },
        }[STABILITY_TRANSPORT],
    },
    "google": {
        "api_key": env.text("GOOGLE_API_KEY"),
        "project": env.text("GOOGLE_CLOUD_PROJECT_ID"),
        "location": env.text("GOOGLE_CLOUD_LOCATION", "global"),
        "base_url": env.text("GOOGLE_BASE_URL"),
    },
}
_own_hosts = {urlsplit(PUBLIC_BASE_URL).netloc, *(f"{host}:{REALTIME_PORT}" for host in ("127.0.0.1", "localhost"))}
_openai_address = urlsplit(_vendors["openai"]["base_url"])
if _vendors["openai"]["api_key"] and _openai_address.netloc in _own_hosts and _openai_address.path.rstrip("/") == "/v1":
    # As in a shell that is set up for clients. Each request would become another one.
    env.refuse("OPENAI_BASE_URL is the address of this service itself; unset it where servers start", None)
#: The default model of each provider.
PROVIDER_MODELS = {
    "openai": env.text("OPENAI_IMAGE_MODEL", "gpt-image-2"),
    "stability": env.text(
        "STABILITY_IMAGE_MODEL", {"rest": "core", "grpc": "stable-diffusion-xl-1024-v1-0"}[STABILITY_TRANSPORT]
    ),
    "google": env.text("GOOGLE_IMAGE_MODEL", "gemini-3.1-flash-image"),
}
#: The provider name of its model rows, if it is another one.
PROVIDER_ROWS = {"stability": "stability-grpc"} if STABILITY_TRANSPORT == "grpc" else {}
_configured = {
    name: options | {"timeout": PROVIDER_TIMEOUT.total_seconds()}
    for name, options in _vendors.items()
    if options["api_key"] or options.get("project")
}
#: The options of each configured provider; a vendor without credentials is not among them. ``class`` replaces the class
#: of the registry.
PROVIDER_OPTIONS: dict[str, dict[str, Any]] = {"clipart": {}, **_configured}
#: The budget of an owner in US dollars a day, unless the admin has another; no limit by default.
DAILY_BUDGET = env.amount("DAILY_BUDGET_USD")
PROVIDERS = env.words("PROVIDERS", ",".join(_configured) or "clipart")

# --- Who may call ---------------------------------------------------------------------------------------------------
SIMPLE_JWT = {
    "ACCESS_TOKEN_LIFETIME": timedelta(minutes=15),
    "REFRESH_TOKEN_LIFETIME": timedelta(days=7),
    "ROTATE_REFRESH_TOKENS": True,
    "BLACKLIST_AFTER_ROTATION": True,
    "CHECK_REVOKE_TOKEN": True,  # a changed password revokes every token
    "ALGORITHM": "HS256",
    "LEEWAY": timedelta(seconds=10),  # the clocks of the machines that issue and check tokens differ
    "SIGNING_KEY": JWT_SECRET,
    "ISSUER": "visual-generation",
    "AUDIENCE": "visual-generation",
    "UPDATE_LAST_LOGIN": False,
}
#: With DEBUG and the embedded database only: the user of a new database.
DEMO_USERNAME = env.text("DEMO_USERNAME", "demo")
DEMO_PASSWORD = env.text("DEMO_PASSWORD")
LOGIN_URL = "sign-in"
LOGIN_REDIRECT_URL = "studio"
LOGOUT_REDIRECT_URL = "sign-in"

#: The rates of submits for each user and for each address.
SUBMIT_RATE = env.rate("SUBMIT_RATE", "100/15m")
#: The rate of sign-ins for each address. All addresses together may try one name 20 times as often.
TOKEN_RATE = env.rate("TOKEN_RATE", "10/m")
TRUSTED_PROXIES = env.integer("TRUSTED_PROXIES", 0, minimum=0, maximum=10)

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "generation.access.authentication.BearerAuthentication",  # first, so that its challenge is sent
        "generation.access.authentication.PageAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["generation.api.permissions.IsAuthenticated"],
    "DEFAULT_PARSER_CLASSES": ["generation.api.parsers.StrictJSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "generation.api.negotiation.IgnoreAcceptNegotiation",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "generation.api.errors.exception_handler",
    "UNAUTHENTICATED_USER": None,
}
#: How long the address of an image in an answer stays valid at least.
IMAGE_URL_LIFETIME = timedelta(hours=24)

SPECTACULAR_SETTINGS = description(PUBLIC_BASE_URL)

# --- Webhooks -------------------------------------------------------------------------------------------------------
#: Networks of the operator that webhooks may reach besides public addresses.
WEBHOOK_ALLOWED_NETWORKS = env.networks("WEBHOOK_ALLOWED_NETWORKS")
WEBHOOK_ALLOW_HTTP = env.boolean("WEBHOOK_ALLOW_HTTP", default=False)
#: A proxy that sends them instead, and that decides which addresses are allowed.
WEBHOOK_PROXY = env.http_url("WEBHOOK_PROXY")
WEBHOOK_TIMEOUT_S = env.integer("WEBHOOK_TIMEOUT_S", 15, minimum=1, maximum=30)

# --- Headers and cookies --------------------------------------------------------------------------------------------
_HTTPS = PUBLIC_BASE_URL.startswith("https://")
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
#: A year, as browsers expect; only over https behind a proxy of ours.
SECURE_HSTS_SECONDS = 31_536_000 if _HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = env.boolean("HSTS_SUBDOMAINS", default=False) and _HTTPS
#: Trusted only behind a proxy; otherwise a client could set the header.
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if TRUSTED_PROXIES else None
SECURE_SSL_REDIRECT = _HTTPS and TRUSTED_PROXIES > 0 and not DEBUG
#: Only the owner of the domain knows whether its subdomains are included.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
#: Paths that monitoring calls at each process directly.
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$", r"^metrics$"]
X_FRAME_OPTIONS = "DENY"
#: Origins that the pages connect to besides their own: the WebSocket, if it has another. A host that begins with a dot
#: includes its subdomains, and an IPv6 host cannot be written in a policy.
_CONNECTED = [REALTIME_BASE_URL] if REALTIME_BASE_URL else []
if REALTIME_HAS_ITS_PORT:
    _CONNECTED = [
        f"ws://{f'*{host}' if host.startswith('.') else host}:{REALTIME_PORT}"
        for host in dict.fromkeys(ALLOWED_HOSTS)
        if not host.startswith("[")
    ]
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "img-src": [SELF, "data:", *PICTURE_ORIGINS],
        "connect-src": [SELF, *_CONNECTED],
        "object-src": [NONE],
        "base-uri": [NONE],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    }
}
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = _HTTPS
SESSION_COOKIE_HTTPONLY = True

#: Origins whose pages may call the API with a token; they get no cookies.
CORS_ALLOWED_ORIGINS = env.words("CORS_ALLOWED_ORIGINS")
CORS_URLS_REGEX = r"^/(api|v1)/"
CORS_EXPOSE_HEADERS = [
    *("Accept-Ranges", "Allow", "Content-Disposition", "Content-Length", "Content-Range", "ETag"),
    *("Idempotent-Replayed", "Location", "Preference-Applied", "RateLimit-Limit", "RateLimit-Remaining"),
    *("RateLimit-Reset", "Retry-After", "WWW-Authenticate", "X-Request-ID"),
    # Of the answers below /v1.
    *("openai-processing-ms", "x-ratelimit-limit-requests", "x-ratelimit-remaining-requests"),
    *("x-ratelimit-reset-requests", "x-should-retry", "x-vga-cost-usd", "x-vga-failed", "x-vga-ignored"),
    "x-vga-request-ids",
]
CORS_ALLOW_HEADERS = [
    *("authorization", "cache-control", "cancel-after", "content-type", "idempotency-key", "if-none-match"),
    *("if-range", "last-event-id", "prefer", "range", "traceparent", "tracestate", "x-request-id"),
    # OpenAI's SDK in a browser sends what it runs on.
    *(f"x-stainless-{name}" for name in ("arch", "helper-method", "lang", "os", "package-version", "retry-count")),
    *("x-stainless-runtime", "x-stainless-runtime-version", "x-stainless-timeout"),
]
for _origin in CORS_ALLOWED_ORIGINS:
    if not (_parts := urlsplit(_origin)).scheme.startswith("http") or not _parts.netloc or _parts.path:
        env.refuse(f"CORS_ALLOWED_ORIGINS must be origins such as https://studio.example.org, not {_origin!r}", None)
if CORS_ALLOWED_ORIGINS:
    INSTALLED_APPS.append("corsheaders")
    MIDDLEWARE.insert(1, "corsheaders.middleware.CorsMiddleware")

# --- Watching -------------------------------------------------------------------------------------------------------
ENABLE_METRICS = env.boolean("ENABLE_METRICS", default=True)
#: How often a dispatcher corrects the queue lengths.
METRICS_COLLECTION_INTERVAL = env.milliseconds("METRICS_COLLECTION_INTERVAL", 60_000, minimum=1000)
METRICS_TOKEN = env.text("METRICS_TOKEN")
#: The port at which workers and dispatchers answer /metrics and /healthz; 0 for none.
METRICS_PORT = env.integer("METRICS_PORT", 0, minimum=0, maximum=65535)
METRICS_HOST = env.text("BIND_HOST", "127.0.0.1")
#: Where traces are sent, by OpenTelemetry's own variable; empty for nowhere.
OTEL_EXPORTER_OTLP_ENDPOINT = env.http_url("OTEL_EXPORTER_OTLP_ENDPOINT")
SENTRY_DSN = env.http_url("SENTRY_DSN")
LOG_FORMAT = env.one_of("LOG_FORMAT", "console" if DEBUG else "json", ("console", "json"))
_database_options: Any = DATABASES["default"].get("OPTIONS", {})
#: Hidden in log lines, debug pages and printed settings.
SECRET_VALUES = [
    str(_bucket["access_key"] or ""),
    str(_bucket["secret_key"] or ""),
    SECRET_KEY,
    JWT_SECRET,
    METRICS_TOKEN,
    DEMO_PASSWORD,
    REDIS_PASSWORD,
    SENTRY_DSN,
    *observability.secrets_of(_vendors.values()),
    str(DATABASES["default"].get("PASSWORD") or ""),
    *(str(_database_options.get(name) or "") for name in ("password", "sslpassword")),
]
LOGGING = observability.logging_settings(LOG_FORMAT, secrets=SECRET_VALUES)
DEFAULT_EXCEPTION_REPORTER = "generation.telemetry.debug_report.RedactingReporter"
DEFAULT_EXCEPTION_REPORTER_FILTER = "generation.telemetry.debug_report.RedactingFilter"

MISSPELT_NAMES = env.misspelt()
env.finish()
