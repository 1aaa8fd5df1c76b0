//! The real PocketBase with OracleNet's schema (`fixtures/pocketbase`), on a free port and a directory of its own.
//!
//! `cargo xtask ci` fetches it and names it in the environment; a plain `cargo test` takes one that an earlier run left
//! in the cache. A test that lacks it says so and ends, unless the run must leave nothing out.

use super::util::Home;
use serde_json::Value;
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const VARIABLE: &str = "LITEKEEP_TEST_POCKETBASE";
const CACHED: &str = "litekeep-tests/peers/pocketbase-0.36.1/pocketbase";
pub(crate) const ADMIN: [&str; 2] = ["admin@test.local", "testpass123"];
pub(crate) const PASSWORD: &str = "correct horse";

/// A running server. Killed when dropped.
pub(crate) struct PocketBase {
    child: Child,
    pub(crate) url: String,
    pub(crate) port: u16,
    /// The home of its superuser, logged in.
    pub(crate) admin: Home,
    _data: tempfile::TempDir,
}

impl PocketBase {
    /// Starts one; `None`, with a word on stderr, if the program is not here.
    pub(crate) fn start() -> Option<Self> {
        let program = find()?;
        let data = tempfile::tempdir().expect("a temporary directory");
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/pocketbase");
        let command = || {
            let mut command = Command::new(&program);
            command.arg("--dir").arg(data.path().join("pb_data"));
            command.arg("--migrationsDir").arg(fixtures.join("pb_migrations")).stdin(Stdio::null());
            command
        };
        // 0.36.1 ends with 0 even when this fails; the login below would find out.
        let made = command().args(["superuser", "upsert"]).args(ADMIN).output().expect("run PocketBase");
        assert!(made.status.success(), "{made:?}");
        // Another process may take the port in between; then PocketBase ends, and another one is tried.
        let (child, port) = (0..10)
            .find_map(|_| {
                let port = free_port();
                let mut command = command();
                command.arg("serve").arg(format!("--http=127.0.0.1:{port}"));
                command.arg("--hooksDir").arg(fixtures.join("pb_hooks"));
                command.args(["--hooksWatch=false", "--automigrate=false"]);
                let mut child =
                    command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("start PocketBase");
                let mut lines =
                    BufReader::new(child.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
                let up = lines.any(|line| line.contains("Server started"));
                std::thread::spawn(move || lines.for_each(drop));
                if !up {
                    child.wait().expect("PocketBase ends");
                }
                up.then_some((child, port))
            })
            .expect("a PocketBase that serves");
        let url = format!("http://127.0.0.1:{port}");
        let admin = Home::at(&url);
        admin.run(&["login", "--superuser", ADMIN[0], ADMIN[1]]).exits(0);
        Some(Self { child, url, port, admin, _data: data })
    }

    /// The home of a new account, logged in.
    pub(crate) fn register(&self, name: &str) -> Home {
        let home = Home::at(&self.url);
        home.run(&["register", name, &address(name), PASSWORD]).exits(0);
        home
    }

    /// The same, approved.
    pub(crate) fn approved(&self, name: &str) -> Home {
        let home = self.register(name);
        self.admin.run(&["approve", name]).exits(0);
        home
    }

    /// All records of a collection that everybody may list.
    pub(crate) fn records(&self, collection: &str) -> Vec<Value> {
        let answer = super::front::request(
            self.port,
            "GET",
            &format!("/api/collections/{collection}/records?perPage=500"),
            "",
        );
        let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
        let list: Value = serde_json::from_str(body).expect("JSON");
        list["items"].as_array().expect("a list").clone()
    }
}

impl Drop for PocketBase {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The address of a test's account.
pub(crate) fn address(name: &str) -> String {
    let letters: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    format!("{letters}@example.org")
}

/// A port on which nobody listens at the moment.
pub(crate) fn free_port() -> u16 {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    socket.local_addr().expect("its address").port()
}

#[allow(clippy::disallowed_methods, reason = "the one place of these tests that reads the environment")]
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

#[allow(clippy::print_stderr, reason = "a test that leaves something out says so")]
fn find() -> Option<PathBuf> {
    let cache = variable("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| variable("HOME").map(|home| PathBuf::from(home).join(".cache")));
    let cached = || cache.map(|cache| cache.join(CACHED)).filter(|path| path.exists());
    let found = variable(VARIABLE).map(PathBuf::from).or_else(cached);
    if found.is_none() {
        let strict = variable("CI").is_some_and(|value| value == "true");
        assert!(!strict, "{VARIABLE} is not set, and under CI=true nothing may be left out");
        eprintln!("not run: {VARIABLE} is not set; `cargo xtask ci` sets it");
    }
    found
}
