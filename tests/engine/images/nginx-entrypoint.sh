#!/bin/sh
# What the entry point of the official image does for docker-compose.yml: fill in the templates with the variables that
# are set, and leave the names of others as they are.
set -eu
names=$(printf '${%s} ' $(env | sed -n 's/^\([A-Z_][A-Z0-9_]*\)=.*/\1/p'))
for template in /etc/nginx/templates/*.template; do
    [ -e "$template" ] || continue
    envsubst "$names" <"$template" >"/etc/nginx/conf.d/$(basename "$template" .template)"
done
exec "$@"
