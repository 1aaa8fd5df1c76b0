# An application that uses SQLite, told line by line what to do; one line of answer each: "ok ROWS" or "err REASON".
#
#   sql STATEMENT           runs it; rows joined by ";", values by "|"
#   rows N BYTES            N commits of one row each into t(id, body); answers the greatest id
#   many N BYTES            one commit of N rows
#   each N BYTES            as `rows`, with a connection opened and closed for every commit
#   pour FILE BYTES EVERY MODE   commits one row after the other until killed or told "stop" (any line); the id of each
#                           acknowledged commit is appended to FILE; every EVERY commits a checkpoint of MODE (0: none)
#   reopen                  closes the connection and opens it again
#   close                   closes the connection; the next line opens it
#   quit
import os, random, select, sqlite3, sys

path = sys.argv[1]
link = None
chance = random.Random(7)


def connect():
    fresh = sqlite3.connect(path, isolation_level=None, timeout=10)
    fresh.execute("PRAGMA busy_timeout=10000")
    fresh.execute("PRAGMA synchronous=NORMAL")
    return fresh


def db():
    global link
    if link is None:
        link = connect()
    return link


def close():
    global link
    if link is not None:
        link.close()
    link = None


def body(size):
    return chance.randbytes(size)


def insert(connection, size):
    return connection.execute("INSERT INTO t(body) VALUES (?)", (body(size),)).lastrowid


def pour(file, size, every, mode):
    count = 0
    with open(file, "a") as acknowledged:
        while not select.select([sys.stdin], [], [], 0)[0]:
            key = insert(db(), size)
            acknowledged.write("%d\n" % key)
            acknowledged.flush()
            count += 1
            if every and count % every == 0:
                db().execute("PRAGMA wal_checkpoint(%s)" % mode).fetchall()
    sys.stdin.readline()
    return count


def do(word, rest):
    if word == "sql":
        rows = db().execute(rest).fetchall()
        return ";".join("|".join(str(value) for value in row) for row in rows)
    if word == "rows":
        number, size = map(int, rest.split())
        return [insert(db(), size) for _ in range(number)][-1]
    if word == "many":
        number, size = map(int, rest.split())
        db().execute("BEGIN")
        key = [insert(db(), size) for _ in range(number)][-1]
        db().execute("COMMIT")
        return key
    if word == "each":
        number, size = map(int, rest.split())
        key = 0
        for _ in range(number):
            close()
            key = insert(db(), size)
        close()
        return key
    if word == "pour":
        file, size, every, mode = rest.split()
        return pour(file, int(size), int(every), mode)
    if word == "reopen":
        close()
        return db() and ""
    if word == "close":
        return close() or ""
    raise ValueError("no such word: " + word)


# Lines are read without a buffer ahead, so that `select` sees what has not been read.
sys.stdin = open(0, "rb", buffering=0)
for line in iter(sys.stdin.readline, b""):
    word, _, rest = line.decode().rstrip("\n").partition(" ")
    if word == "quit":
        close()
        break
    try:
        print("ok %s" % do(word, rest), flush=True)
    except (sqlite3.Error, ValueError) as reason:
        print("err %s" % str(reason).replace("\n", " "), flush=True)
