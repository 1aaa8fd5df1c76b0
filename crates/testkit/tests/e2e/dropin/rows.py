# What a database holds: the number of its rows, SQLite's own check, and a digest of every row in order. One line for each file.
import hashlib, sqlite3, sys

for path in sys.argv[1:]:
    link = sqlite3.connect(path)
    rows = link.execute("SELECT * FROM t ORDER BY 1").fetchall()
    check = link.execute("PRAGMA integrity_check").fetchone()[0]
    print(len(rows), check, hashlib.sha256(repr(rows).encode()).hexdigest())
