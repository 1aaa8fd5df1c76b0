//! Two running daemons that watch a directory each and share a bucket, as in a deployment where the new container starts
//! before the old one has ended.

use crate::daemon::{address, execute, insert, wait_for, wait_for_health};
use crate::restore::make_database;
use crate::util::{Dir, Running, TestCommand};
use rustix::process::Signal;
use s3test::{ACCESS_KEY, BUCKET, Profile, REGION, SECRET_KEY, Server};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// Two directories with a configuration each, and one bucket for both.
struct Pair {
    dir: Dir,
    server: Server,
}

impl Pair {
    fn new() -> Self {
        let (dir, server) = (Dir::new(), Server::start(Profile::Aws).expect("a server"));
        let endpoint = server.endpoint();
        for name in ["one", "two"] {
            fs::create_dir(dir.path(name)).expect("made");
            dir.write(
                &format!("{name}.yml"),
                format!(
                    "addr: 127.0.0.1:0\nsocket:\n  enabled: true\n  path: {name}.sock\ndbs:\n  - dir: {name}\n    \
                     pattern: '*.db'\n    watch: true\n    replica:\n      url: s3://{BUCKET}/d\n      endpoint: {endpoint}\n      \
                     region: {REGION}\n"
                ),
            );
        }
        Self { dir, server }
    }

    fn litekeep(&self, args: &[&str]) -> TestCommand {
        let command = self.dir.litekeep(args);
        command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    }

    /// A daemon, and where it says how it is.
    fn start(&self, name: &str) -> (Running, String) {
        let mut running = self.litekeep(&["replicate", "-config", &format!("{name}.yml")]).starts();
        running.until("serving metrics on").until("control socket listening");
        let addr = address(&running);
        (running, addr)
    }

    /// Puts a database with this one row into a daemon's directory, at once: two that are equal at first are one database.
    fn put(&self, path: &str, value: i64) {
        let draft = self.dir.path("draft.db");
        make_database(&draft);
        execute(&draft, &format!("UPDATE t SET x = {value}; PRAGMA wal_checkpoint(TRUNCATE)"));
        fs::rename(draft, self.dir.path(path)).expect("renamed");
    }

    /// The names and states of a daemon's databases.
    fn list(&self, name: &str) -> Vec<(String, String)> {
        let seen = self.litekeep(&["list", "-json", "-socket", &format!("{name}.sock")]).exits(0);
        let list: Value = serde_json::from_str(&seen.out()).expect("JSON");
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let databases = list["databases"].as_array().expect("a list").iter();
        let file = |path: String| path.rsplit_once('/').expect("a path").1.to_owned();
        databases.map(|it| (file(text(&it["path"])), text(&it["status"]))).collect()
    }

    #[track_caller]
    fn until_list(&self, name: &str, wanted: &[(&str, &str)]) {
        let wanted: Vec<_> = wanted.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        wait_for(&format!("{wanted:?} in {name}"), || (self.list(name) == wanted).then_some(()));
    }

    fn sync(&self, name: &str, database: &str) {
        self.litekeep(&["sync", "-wait", "-socket", &format!("{name}.sock"), database]).exits(0);
    }

    /// What the replica of a database holds.
    fn held(&self, database: &str) -> Vec<i64> {
        let out = self.dir.path("held.db");
        let url = format!("s3://{BUCKET}/d/{database}?endpoint={}&region={REGION}", self.server.endpoint());
        self.litekeep(&["restore", "-force", "-o", "held.db", &url]).exits(0);
        rows(&out)
    }
}

fn rows(database: &Path) -> Vec<i64> {
    let connection = rusqlite::Connection::open(database).expect("opened");
    let mut rows = connection.prepare("SELECT x FROM t ORDER BY x").expect("prepared");
    rows.query_map([], |row| row.get(0)).expect("queried").collect::<Result<_, _>>().expect("read")
}

#[test]
fn a_watched_directory_is_handed_over_database_by_database_as_restored_copies_come_and_back_again() {
    let pair = Pair::new();
    let in_one = |name: &str| pair.dir.path("one").join(name);
    make_database(&in_one("a.db"));
    make_database(&in_one("b.db"));
    let (mut one, one_addr) = pair.start("one");
    pair.sync("one", "one/a.db");
    pair.sync("one", "one/b.db");
    // Nothing lies in the newcomer's directory: it takes nothing from anybody, and restores nothing by itself.
    let (mut two, two_addr) = pair.start("two");
    insert(&in_one("a.db"), 2);
    pair.sync("one", "one/a.db");
    pair.until_list("two", &[]);

    // A restored copy is taken up, and the replica with it: whoever had it hears of that at its next write. A database of
    // the newcomer's own beside a replica that is not empty is refused, and disturbs nobody.
    pair.litekeep(&["restore", "-config", "two.yml", "two/a.db"]).exits(0);
    pair.put("two/b.db", 100);
    pair.until_list("two", &[("a.db", "replicating"), ("b.db", "stopped")]);
    pair.sync("two", "two/a.db");
    insert(&in_one("a.db"), 30);
    pair.until_list("one", &[("a.db", "stopped"), ("b.db", "replicating")]);
    insert(&pair.dir.path("two/a.db"), 3);
    pair.sync("two", "two/a.db");
    insert(&in_one("b.db"), 2);
    pair.sync("one", "one/b.db");
    assert_eq!((pair.held("a.db"), pair.held("b.db")), (vec![1, 2, 3], vec![1, 2]));
    wait_for_health(&one_addr, "", 503, "by somebody else");
    wait_for_health(&two_addr, "", 503, "does not continue the replica");

    // What it lost is not taken back by a start, but by a restore, which is the way back for the whole.
    let start = ["start", "-socket", "one.sock", "one/a.db"];
    pair.litekeep(&start).exits(0);
    pair.until_list("one", &[("a.db", "stopped"), ("b.db", "replicating")]);
    assert_eq!((pair.held("a.db"), rows(&in_one("a.db"))), (vec![1, 2, 3], vec![1, 2, 30]));
    pair.litekeep(&["restore", "-config", "one.yml", "-force", "one/a.db"]).exits(0);
    pair.litekeep(&start).exits(0);
    pair.until_list("one", &[("a.db", "replicating"), ("b.db", "replicating")]);
    insert(&in_one("a.db"), 4);
    pair.sync("one", "one/a.db");
    assert_eq!(pair.held("a.db"), [1, 2, 3, 4]);
    wait_for_health(&one_addr, "", 200, "\"ok\"");
    insert(&pair.dir.path("two/a.db"), 40);
    pair.until_list("two", &[("a.db", "stopped"), ("b.db", "stopped")]);
    one.signal(Signal::TERM);
    one.ends(0);
    two.signal(Signal::TERM);
    assert!(two.ends_anyhow().err_has("Error: ").err().contains("two/"), "it says which");
    assert_eq!(pair.held("a.db"), [1, 2, 3, 4]);
}
