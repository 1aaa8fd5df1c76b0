//! A follower with real files and real SQLite, against a replica in memory.
