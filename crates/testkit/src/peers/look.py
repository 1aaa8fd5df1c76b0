# Reads a whole database and says what is in it: through the Litestream VFS (look.py LIBRARY), or from a file
# (look.py - FILE). Lines that begin with "look ": TXID, integrity, then "table rows hash" for each table.
import hashlib, signal, sqlite3, sys

signal.alarm(60)  # the extension waits for a first backup for ever
if sys.argv[1] == "-":
    link = sqlite3.connect("file:%s?mode=ro" % sys.argv[2], uri=True)
    txid = "-"
else:
    loader = sqlite3.connect(":memory:")
    loader.enable_load_extension(True)
    loader.load_extension(sys.argv[1].removesuffix(".so"))
    link = sqlite3.connect("file:replica.db?vfs=litestream", uri=True)
    txid = link.execute("PRAGMA litestream_txid").fetchone()[0]
print("look %s" % txid)
print("look %s" % "; ".join(row[0].replace("\n", "; ") for row in link.execute("PRAGMA integrity_check")))
names = link.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").fetchall()
for (name,) in names:
    hashed, rows = hashlib.sha256(), 0
    for row in link.execute('SELECT * FROM "%s" ORDER BY rowid' % name.replace('"', '""')):
        hashed.update(repr(row).encode())
        rows += 1
    print("look %s %d %s" % (name, rows, hashed.hexdigest()))
