#!/bin/bash
set -euo pipefail
# Root prepares what the volume needs, then the application's user goes on.
if [ "$(id -u)" = 0 ]; then
    chown app:app "$APP_HOME/data"
    exec setpriv --reuid=app --regid=app --init-groups "$0" "$@"
fi
if [ "$1" = report ]; then
    . "$APP_HOME/app.conf"
    touch data/here
    exec printf '%s\n' "app $APP_VERSION" "as $(id -un)" "colour $colour" "$(stat -c '%U %a' app.conf)"
fi
exec "$@"
