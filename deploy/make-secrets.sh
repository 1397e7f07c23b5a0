#!/bin/sh
# Generate the secrets that docker-compose.yml mounts. Existing files are not changed.
# Usage: deploy/make-secrets.sh [FOLDER]. Only the owner can enter the folder. The files in it are readable for all
# users, since each container runs as its own user.
set -eu
folder=${1:-deploy/secrets}
mkdir -p "$folder"
chmod 700 "$folder"

random() {
    LC_ALL=C tr -dc 'A-Za-z0-9' </dev/urandom | head -c 64
}

keep() { # NAME VALUE
    [ -e "$folder/$1" ] || printf '%s\n' "$2" >"$folder/$1"
    chmod 444 "$folder/$1"
}

for name in secret_key jwt_secret metrics_token postgres_password postgres_owner_password postgres_app_password \
    valkey_password; do
    keep "$name" "$(random)"
done
# An operator's own password may have any characters, so quote it for URLs and for valkey.conf.
in_url() {
    case $1 in
    *[!A-Za-z0-9]*) printf '%s' "$1" | od -An -v -tx1 | tr -d ' \n' | sed 's/../%&/g' ;;
    *) printf '%s' "$1" ;;
    esac
}

in_quotes() {
    printf '"%s"' "$(printf '%s' "$1" | sed 's/[\\"]/\\&/g')"
}

database=postgres:5432/visual_generation
# Each process replaces {kind} by its kind: vga_web, vga_worker and so on.
keep database_url "postgres://vga_{kind}:$(in_url "$(cat "$folder/postgres_app_password")")@$database"
keep pooled_database_url "postgres://vga_{kind}:$(in_url "$(cat "$folder/postgres_app_password")")@pgbouncer:6432/visual_generation"
keep migration_database_url "postgres://vga_owner:$(in_url "$(cat "$folder/postgres_owner_password")")@$database"
keep redis_url "redis://:$(in_url "$(cat "$folder/valkey_password")")@valkey:6379/0"
# The roles of deploy/roles.sh that sign in through PgBouncer; a quotation mark is doubled in this file.
in_users() {
    printf '%s' "$1" | sed 's/"/""/g'
}
keep pgbouncer_users "$(for kind in web realtime worker dispatcher deliverer command; do
    printf '"vga_%s" "%s"\n' "$kind" "$(in_users "$(cat "$folder/postgres_app_password")")"
done)"
keep valkey_auth "requirepass $(in_quotes "$(cat "$folder/valkey_password")")"
for name in openai_api_key stability_api_key google_api_key; do
    [ -e "$folder/$name" ] || : >"$folder/$name"
    chmod 444 "$folder/$name"
done
echo "The secrets are in $folder. Put the keys of your providers into openai_api_key, stability_api_key or google_api_key."
