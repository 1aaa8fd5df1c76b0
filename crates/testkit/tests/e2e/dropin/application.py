# The application of a Litestream user, and the checks of its owner: what it commits it looks for in the replica, by
# `litestream restore`, as anybody would. `application.py CODE [MARK]`: writes ten rows into each database; with MARK notes the
# time in that file once they are in the replica, and writes five more; reads the metrics; writes one row more,
# waits for that as well, and ends with CODE.
import os, sqlite3, subprocess, sys, time, urllib.request

code, mark = int(sys.argv[1]), sys.argv[2:]
data, config, out = (os.environ[name] for name in ("DATA", "LITESTREAM_CONFIG", "OUT"))
paths = [os.path.join(data, name) for name in ("app.db", "two.db")]


def connect(path):
    link = sqlite3.connect(path, isolation_level=None, timeout=10)
    link.execute("PRAGMA journal_mode=WAL")
    return link


def open_database(path):
    # It comes as a whole: what a checkpoint writes to the file does not hang on who came first.
    if not os.path.exists(path):
        link = connect(path + ".new")
        link.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT)")
        link.close()
        os.rename(path + ".new", path)
    return connect(path)


def count(link):
    return link.execute("SELECT count(*) FROM t").fetchone()[0]


def in_replica(path):
    probe = os.path.join(out, "probe.db")
    for suffix in ("", "-wal", "-shm"):
        if os.path.exists(probe + suffix):
            os.remove(probe + suffix)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    if subprocess.run(["litestream", "restore", "-o", probe, path], **quiet).returncode != 0:
        return -1
    try:
        return count(sqlite3.connect(probe))
    except sqlite3.Error:
        return -1


def write(rows):
    for link, path in zip(links, paths):
        for _ in range(rows):
            link.execute("INSERT INTO t(v) VALUES (?)", ["row %d of %s" % (count(link) + 1, os.path.basename(path))])
    deadline = time.monotonic() + 60
    for link, path in zip(links, paths):
        while in_replica(path) != count(link):
            if time.monotonic() > deadline:
                sys.exit("application: %s did not reach its replica" % path)
            time.sleep(0.05)


links = [open_database(path) for path in paths]
# Litestream 0.3.13 tells generations and states in a bucket apart by whole seconds.
time.sleep(1.1)
write(10)
for file in mark:
    time.sleep(1.1)
    with open(file, "w") as note:
        note.write(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
    time.sleep(1.1)
    write(5)
# Once more: a restore's time later, what the page says of the replicas has settled.
for path in paths:
    in_replica(path)
with open(os.path.join(out, "scrape"), "wb") as page:
    page.write(urllib.request.urlopen("http://127.0.0.1:%s/metrics" % os.environ["METRICS_PORT"]).read())
print("application: %d rows" % count(links[0]), flush=True)
# In the replica before the end: Litestream 0.3.13 may hang for ever where its last sync meets one that is under way.
write(1)
sys.exit(code)
