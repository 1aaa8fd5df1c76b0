# What a Litestream 0.3 user has in scripts: restore on start, replicate with -exec, the listings, a scrape, a wiped disk, a
# restore to a point in time. Run by sh with `litestream` in PATH; which program that is, nothing here knows.
#
# Each step leaves NAME.out, NAME.err and NAME.code in $OUT.
app=$DATA/app.db
two=$DATA/two.db

step() {
    name=$1
    shift
    "$@" >"$OUT/$name.out" 2>"$OUT/$name.err"
    echo $? >"$OUT/$name.code"
}

# The way in: restore what is missing, then replicate beside the application, and end with it.
start() {
    litestream restore -if-db-not-exists -if-replica-exists "$app" &&
        litestream restore -if-db-not-exists -if-replica-exists "$two" &&
        litestream replicate -exec "$PYTHON $HERE/application.py $*"
}

# What people look for in a log, wherever it went.
proof() {
    litestream restore -o "$DATA/proof.db" "$app" 2>&1 | grep -c "renaming database from temporary location"
    grep -hc -e "initialized db" "$OUT/first.out"
    grep -hc -e "replicating to" "$OUT/first.out"
}

rows() {
    "$PYTHON" "$HERE/rows.py" "$@"
}

# A service: until it is told to stop.
serve() {
    litestream replicate &
    service=$!
    "$PYTHON" "$HERE/application.py" 0
    kill -TERM $service
    wait $service
}

step version litestream version
step databases litestream databases
step nothing litestream restore -if-db-not-exists -if-replica-exists "$app"
step nothing-in-the-bucket litestream restore -if-replica-exists "$two"
step no-backup litestream restore "$app"

step first start 0 "$OUT/moment"
cp "$OUT/scrape" "$OUT/metrics"
step generations litestream generations "$app"
step snapshots litestream snapshots "$app"
step wal litestream wal "$app"

rm -rf "$DATA"
mkdir "$DATA"
step again start 3
step back rows "$app" "$two"
step there litestream restore -if-db-not-exists "$app"
step in-the-way litestream restore "$app"

step elsewhere litestream restore -o "$DATA/elsewhere/a.db" "$app"
step by-name litestream restore -replica backup -o "$DATA/by-name.db" "$app"
step by-url litestream restore -o "$DATA/by-url.db" "file://$BACKUP"
step from-the-bucket litestream restore -o "$DATA/bucket.db" "$two"
step at-the-moment litestream restore -timestamp "$(cat "$OUT/moment")" -o "$DATA/moment.db" "$app"
step at-the-moment-in-the-bucket litestream restore -timestamp "$(cat "$OUT/moment")" -o "$DATA/moment2.db" "$two"
step restored rows "$DATA/elsewhere/a.db" "$DATA/by-name.db" "$DATA/by-url.db" "$DATA/bucket.db"
step restored-moment rows "$DATA/moment.db" "$DATA/moment2.db"
step too-early litestream restore -timestamp 2001-01-01T00:00:00Z -o "$DATA/early.db" "$app"
step proof proof

step service serve
rm -rf "$DATA"
mkdir "$DATA"
step after-service litestream restore "$app"
step after-service-rows rows "$app"

# A backup that Litestream 0.3.13 itself has made.
step old-generations litestream generations "file://$OLD"
step old-snapshots litestream snapshots "file://$OLD"
step old-wal litestream wal "file://$OLD"
generation=$(litestream generations "file://$OLD" | tail -n 1 | awk '{print $2}')
step old-wal-of-one litestream wal -generation "$generation" "file://$OLD"
step old-restore litestream restore -o "$DATA/old.db" "file://$OLD"
step old-generation litestream restore -generation "$generation" -o "$DATA/old2.db" "file://$OLD"
step old-rows rows "$DATA/old.db" "$DATA/old2.db"

step no-arguments litestream
step help litestream help
step help-of-a-command litestream restore -h
step unknown-command litestream nonsense
step unknown-flag litestream restore -nonsense "$app"
step unknown-database litestream restore "$DATA/other.db"
step no-configuration litestream databases -config /no/such/file.yml
step no-url litestream replicate "$app"
