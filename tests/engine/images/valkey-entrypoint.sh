#!/bin/sh
# What the entry point of the official image does for docker-compose.yml, which names the server and an unprivileged
# user.
set -e
if [ "${1#-}" != "$1" ] || [ "${1%.conf}" != "$1" ]; then
    set -- valkey-server "$@"
fi
if [ "$(umask)" = 0022 ]; then
    umask 0077
fi
exec "$@"
