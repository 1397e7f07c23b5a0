#!/bin/sh
# Create the roles of a database. Runs as its superuser: by the PostgreSQL image in a new database, or by hand with
# PGHOST, PGUSER and PGDATABASE set. A second run creates missing roles and sets passwords and settings again. vga_owner
# owns the tables and is only for migrations. vga_app may read and write rows but create, change or drop nothing. Each
# kind of process signs in as a member of vga_app with its own time-outs, all with the same password.
set -eu
: "${POSTGRES_DB:=${PGDATABASE:-visual_generation}}" "${POSTGRES_USER:=${PGUSER:-postgres}}" "${SECRETS_DIR:=/run/secrets}"

role() { # NAME PASSWORD_VARIABLE statement_timeout lock_timeout idle_in_transaction_session_timeout
    printf "SELECT 'CREATE ROLE %s' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '%s') \\\\gexec\n" "$1" "$1"
    printf "ALTER ROLE %s LOGIN PASSWORD :'%s';\n" "$1" "$2"
    for setting in "statement_timeout $3" "lock_timeout $4" "idle_in_transaction_session_timeout $5" "jit off" \
        "max_parallel_workers_per_gather 0"; do
        printf "ALTER ROLE %s SET %s = '%s';\n" "$1" "${setting% *}" "${setting#* }"
    done
}

# psql reads the passwords from files: the process list would show arguments.
export SECRETS_DIR
{
    cat <<'SQL'
\set owner_password `cat "$SECRETS_DIR/postgres_owner_password"`
\set app_password `cat "$SECRETS_DIR/postgres_app_password"`
SELECT 'CREATE ROLE vga_app NOLOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'vga_app') \gexec
SQL
    # The same values as in `manage.py set_role_settings`.
    role vga_owner owner_password 0 3s 1min
    role vga_web app_password 10s 5s 10s
    role vga_realtime app_password 10s 5s 10s
    role vga_worker app_password 15s 5s 10s
    role vga_dispatcher app_password 30s 5s 10s
    role vga_deliverer app_password 15s 5s 10s
    role vga_command app_password 10min 10s 10s
    cat <<'SQL'
GRANT vga_app TO vga_web, vga_realtime, vga_worker, vga_dispatcher, vga_deliverer, vga_command;
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
SQL
} | psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
    --set database="$POSTGRES_DB"
