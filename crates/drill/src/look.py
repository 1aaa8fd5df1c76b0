# Reads posts, votes and accounts through the official Litestream VFS (look.py LIBRARY) and prints them as JSON.
import json, signal, sqlite3, sys

signal.alarm(300)  # the extension waits for a first backup for ever; a far bucket with many slots takes minutes
loader = sqlite3.connect(":memory:")
loader.enable_load_extension(True)
loader.load_extension(sys.argv[1].removesuffix(".so"))
link = sqlite3.connect("file:replica.db?vfs=litestream", uri=True)
rows = lambda sql: [list(row) for row in link.execute(sql)]
print(json.dumps({
    "integrity": "; ".join(row[0] for row in rows("PRAGMA integrity_check")),
    "posts": rows("SELECT id, title, author, upvotes FROM posts"),
    "votes": rows("SELECT oracle, target_post FROM votes WHERE value = 1"),
    "karma": rows("SELECT id, karma FROM oracles"),
}))
