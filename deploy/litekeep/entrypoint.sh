#!/bin/sh
# Brings the database back, then runs the application beside its replication: `entrypoint.sh COMMAND [ARGUMENTS]`.
#
#   DB_PATH         the database's file
#   REPLICA_URL     where its replica is: s3://BUCKET/PATH?endpoint=https://..&region=..
#   FIRST_START     `yes` for the very first start alone: there is no backup yet, and the application makes its database
#
# The application starts only with its database. Where there is none and no backup of it, this script ends with 10: a wrong
# URL looks the same. A replica that cannot be reached, is damaged or was wiped ends it with the exit code that says so
# (`litekeep help exit-codes`), whatever FIRST_START is, and nothing is made.
set -eu
: "${DB_PATH:?is not set: the path of the database}"
: "${REPLICA_URL:?is not set: the URL of the replica}"
if [ $# -eq 0 ]; then
    echo "entrypoint: which command? It comes after the image's name, or as CMD" >&2
    exit 1
fi

code=0
litekeep restore -if-db-not-exists -o "$DB_PATH" "$REPLICA_URL" || code=$?
case $code in
    0) ;;
    10)
        if [ "${FIRST_START:-no}" != yes ]; then
            echo "entrypoint: there is no backup, so the application is not started: check REPLICA_URL, or set FIRST_START=yes" \
                "if this is the very first start" >&2
            exit 10
        fi
        echo "entrypoint: the first start: nothing was ever replicated to this place" >&2
        ;;
    *)
        echo "entrypoint: the database did not come back, so the application is not started" >&2
        exit "$code"
        ;;
esac

# -exec takes one line and splits it as a shell does: each word goes there in quotes.
line=
for word; do
    line="$line '$(printf '%s' "$word" | sed "s/'/'\\\\''/g")'"
done
exec litekeep replicate -exec "$line" "$DB_PATH" "$REPLICA_URL"
