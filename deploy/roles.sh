#!/bin/sh
# Run once in a new database as its superuser, by the PostgreSQL image or by hand with PGHOST, PGUSER and PGDATABASE set.
# Two roles: vga_owner owns the tables and is for migrations alone; vga_app is what every process signs in as, and can
# read and write rows but make, change or drop nothing.
set -eu
: "${POSTGRES_DB:=${PGDATABASE:-visual_generation}}" "${POSTGRES_USER:=${PGUSER:-postgres}}" "${SECRETS_DIR:=/run/secrets}"
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
    --set owner_password="$(cat "$SECRETS_DIR/postgres_owner_password")" \
    --set app_password="$(cat "$SECRETS_DIR/postgres_app_password")" \
    --set database="$POSTGRES_DB" <<'SQL'
CREATE ROLE vga_owner LOGIN PASSWORD :'owner_password';
CREATE ROLE vga_app LOGIN PASSWORD :'app_password';
REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
GRANT CONNECT, CREATE ON DATABASE :"database" TO vga_owner;
GRANT CONNECT ON DATABASE :"database" TO vga_app;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO vga_owner;
GRANT USAGE ON SCHEMA public TO vga_app;
ALTER DEFAULT PRIVILEGES FOR ROLE vga_owner IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO vga_app;
ALTER DEFAULT PRIVILEGES FOR ROLE vga_owner IN SCHEMA public
    GRANT USAGE, SELECT ON SEQUENCES TO vga_app;
-- As `manage.py set_role_settings` does it, so that a pooler can be put in front at any time.
ALTER ROLE vga_app SET idle_in_transaction_session_timeout = '10s';
ALTER ROLE vga_app SET statement_timeout = '60s';
ALTER ROLE vga_app SET lock_timeout = '20s';
ALTER ROLE vga_app SET jit = 'off';
ALTER ROLE vga_app SET max_parallel_workers_per_gather = '0';
SQL
