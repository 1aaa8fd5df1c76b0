//! A server that can be killed, a disk that can be wiped, and a client that keeps a ledger of what was answered.

use crate::common::{ADMIN, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use s3test::Profile;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use testkit::peers::Bucket;

/// Where a replica lies, and what the environment must say for it.
pub(crate) struct Place {
    pub(crate) url: String,
    pub(crate) env: Vec<(&'static str, String)>,
}

impl Place {
    /// A directory beside the disk.
    pub(crate) fn directory(path: &Path) -> Self {
        Self { url: format!("file://{}", path.display()), env: Vec::new() }
    }

    /// A path in a bucket.
    pub(crate) fn bucket(bucket: &Bucket, path: &str) -> Self {
        let Bucket { endpoint, region, name, .. } = bucket;
        let url = format!("s3://{name}/{path}?endpoint={endpoint}&region={region}&forcePathStyle=true");
        let env = vec![
            ("LITESTREAM_ACCESS_KEY_ID", bucket.access_key_id.clone()),
            ("LITESTREAM_SECRET_ACCESS_KEY", bucket.secret_access_key.clone()),
        ];
        Self { url, env }
    }

    /// The S3 server of the tests, as Spaces behaves.
    pub(crate) fn in_process() -> (Self, s3test::Server) {
        Self::with_habits(Profile::Ceph)
    }

    /// The S3 server of the tests.
    pub(crate) fn with_habits(profile: Profile) -> (Self, s3test::Server) {
        let server = s3test::Server::start(profile).expect("an S3 server");
        let bucket = Bucket {
            endpoint: server.endpoint().to_owned(),
            access_key_id: s3test::ACCESS_KEY.to_owned(),
            secret_access_key: s3test::SECRET_KEY.to_owned(),
            region: "us-east-1".to_owned(),
            name: s3test::BUCKET.to_owned(),
        };
        (Self::bucket(&bucket, "oraclenet"), server)
    }
}

/// A server as a child process. Killed when dropped.
pub(crate) struct Running {
    child: Child,
    log: PathBuf,
    pub(crate) address: SocketAddr,
}

/// A start that was refused.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) code: Option<i32>,
    pub(crate) said: String,
}

/// Begins a server on `data` (its folder need not be there); its log is beside that.
pub(crate) fn begin(data: &Path, place: &Place, more: &[&str]) -> (Child, PathBuf) {
    let log = data.with_extension("log");
    let file = File::create(&log).expect("a log");
    let mut command = Command::new(env!("CARGO_BIN_EXE_oraclenet"));
    command.args(["serve", "--http", "127.0.0.1:0", "--rate-limits", "off", "--dir"]).arg(data);
    // A server that was killed has not handed over; who comes after it does not wait for that for long here.
    let hand_over: &[&str] = if more.contains(&"--hand-over") { &[] } else { &["--hand-over", "0.5"] };
    command.args(["--replica", &place.url]).args(hand_over).args(more);
    for name in ["LITESTREAM_ACCESS_KEY_ID", "LITESTREAM_SECRET_ACCESS_KEY", "ORACLENET_REPLICA_URL"] {
        command.env_remove(name);
    }
    command.envs(place.env.iter().map(|(name, value)| (name, value)));
    command.env("ORACLENET_SUPERUSER_EMAIL", ADMIN.0).env("ORACLENET_SUPERUSER_PASSWORD", ADMIN.1);
    command.stdin(Stdio::null()).stdout(file.try_clone().expect("the log twice")).stderr(file);
    (command.spawn().expect("the server"), log)
}

/// Starts a server on `data` and waits until it serves, or has ended.
pub(crate) fn start(data: &Path, place: &Place, more: &[&str]) -> Result<Running, Refused> {
    let (mut child, log) = begin(data, place, more);
    let started = wait_for("the server to serve or to end", || {
        let said = fs::read_to_string(&log).unwrap_or_default();
        if let Some(status) = child.try_wait().expect("a child") {
            return Some(Err(Refused {
                code: status.code(),
                said: fs::read_to_string(&log).unwrap_or(said),
            }));
        }
        let line = said.lines().find_map(|line| line.split_once("Server started at http://"))?.1;
        Some(Ok(line.split_whitespace().next()?.parse().expect("an address")))
    });
    started.map(|address| Running { child, log, address })
}

/// Asks a process to end.
pub(crate) fn terminate(child: &Child) {
    signal(child, Signal::TERM);
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).expect("a signal");
}

impl Running {
    /// The plug is pulled.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("a kill");
        self.child.wait().expect("its end");
    }

    /// Asks it to end; how it ended.
    pub(crate) fn stop(mut self) -> ExitStatus {
        self.terminate();
        self.ended()
    }

    pub(crate) fn signal(&self, which: Signal) {
        signal(&self.child, which);
    }

    pub(crate) fn terminate(&self) {
        terminate(&self.child);
    }

    /// Waits for its end.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        wait_for("the server to end", || self.child.try_wait().expect("a child"))
    }

    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// A request; `None` when there was no answer.
    pub(crate) fn try_call(&self, method: &str, target: &str, token: &str, body: &Value) -> Option<Reply> {
        try_call(self.address, method, target, token, body)
    }

    /// A request that is answered.
    pub(crate) fn call(&self, method: &str, target: &str, token: &str, body: &Value) -> Reply {
        self.try_call(method, target, token, body).unwrap_or_else(|| panic!("{method} {target}: no answer"))
    }

    /// Signs in.
    pub(crate) fn sign_in(&self, collection: &str, identity: &str, password: &str) -> String {
        let target = format!("/api/collections/{collection}/auth-with-password");
        let reply = self.call("POST", &target, "", &json!({ "identity": identity, "password": password }));
        reply.body["token"].as_str().unwrap_or_else(|| panic!("{reply:?}")).to_owned()
    }

    /// Registers and approves an oracle; gives its id and its token. Where an acknowledgement may come too late, each
    /// request is repeated, as a client does.
    pub(crate) fn oracle(&self, name: &str) -> (String, String) {
        let admin = self.sign_in("_superusers", ADMIN.0, ADMIN.1);
        let (email, id) = (format!("{name}@x.io"), format!("{name:0<15}"));
        let body = json!({ "id": id, "name": name, "email": email, "password": "12345678",
            "passwordConfirm": "12345678" });
        let target = format!("/api/collections/oracles/records/{id}");
        for (method, target, token, body) in [
            ("POST", "/api/collections/oracles/records", "", body),
            ("PATCH", &*target, &*admin, json!({ "approved": true })),
        ] {
            wait_for("a new oracle", || {
                let reply = self.call(method, target, token, &body);
                assert!([200, 503].contains(&reply.status), "{reply:?}");
                (reply.status == 200).then_some(())
            });
        }
        let token = self.sign_in("oracles", &email, "12345678");
        (id, token)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            crate::common::say(&format!("{} said:\n{}", self.log.display(), self.said()));
        }
    }
}

/// What came back.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Value,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

/// One request on a connection of its own; `None` if no whole answer came.
pub(crate) fn try_call(
    address: SocketAddr,
    method: &str,
    target: &str,
    token: &str,
    body: &Value,
) -> Option<Reply> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
    let text = if body.is_null() { String::new() } else { body.to_string() };
    let kind = if body.is_null() { "" } else { "Content-Type: application/json\r\n" };
    let auth = if token.is_empty() { String::new() } else { format!("Authorization: {token}\r\n") };
    let request = format!(
        "{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{auth}{kind}Content-Length: {}\r\n\r\n{text}",
        text.len()
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let answer = String::from_utf8(answer).ok()?;
    let (head, content) = answer.split_once("\r\n\r\n")?;
    let status: u16 = head.split(' ').nth(1)?.parse().ok()?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    if length.is_some_and(|length| length != content.len()) {
        return None;
    }
    Some(Reply { status, head: head.to_owned(), body: serde_json::from_str(content).unwrap_or(Value::Null) })
}

/// An id that a client chose: 15 letters, from two numbers.
pub(crate) fn id(writer: usize, number: usize) -> String {
    format!("w{writer:02}n{number:011}")
}
