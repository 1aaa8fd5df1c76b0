//! A front that stands before a server and makes its answers go wrong: the faults of networks, proxies and redeploys.
//!
//! One request on each connection. Writes (everything but GET) meet the faults of the list, one each, in order; when
//! the list is empty they go through. Without a server behind it, what goes through is answered with 503.

use serde_json::Value;
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What happens to one write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// None.
    Through,
    /// The connection is cut before the server gets the request.
    CutBefore,
    /// The server does it, and the connection is cut.
    CutAfter,
    /// 503 with `not_applied`: the server does not do it.
    NotApplied,
    /// 503 with `unknown`: the server has done it.
    UnknownDone,
    /// 503 with `unknown`: the server has not done it.
    UnknownLost,
    /// A proxy's own 502, in HTML; the server has done it.
    Proxy,
    /// The connection is cut, and the request arrives just before the next write.
    Late,
}

/// How the server behind takes a create whose id is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeats {
    /// As PocketBase does: 400, `validation_not_unique`.
    Refused,
    /// As our server does: with the record itself.
    Answered,
}

/// The front. Its thread ends with the tests' process.
pub(crate) struct Front {
    pub(crate) url: String,
    faults: Arc<Mutex<VecDeque<Fault>>>,
}

struct Way {
    server: Option<u16>,
    repeats: Repeats,
    faults: Arc<Mutex<VecDeque<Fault>>>,
    late: Mutex<Option<(String, String)>>,
}

impl Front {
    /// Stands before a server on this port.
    pub(crate) fn before(server: Option<u16>, repeats: Repeats) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("its address"));
        let faults = Arc::new(Mutex::new(VecDeque::new()));
        let way = Way { server, repeats, faults: Arc::clone(&faults), late: Mutex::new(None) };
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                if let Some(answer) = read(&mut stream).and_then(|(head, body)| way.answer(&head, &body)) {
                    let _ = stream.write_all(answer.as_bytes());
                }
            }
        });
        Self { url, faults }
    }

    /// Sets what happens to the next writes.
    pub(crate) fn next(&self, faults: &[Fault]) {
        *self.faults.lock().expect("the lock") = faults.iter().copied().collect();
    }

    /// The faults that no write has met yet.
    pub(crate) fn left(&self) -> usize {
        self.faults.lock().expect("the lock").len()
    }
}

impl Way {
    /// What is written back; `None` cuts the connection.
    fn answer(&self, head: &str, body: &str) -> Option<String> {
        if head.starts_with("GET ") {
            return Some(self.pass(head, body));
        }
        let fault = self.faults.lock().expect("the lock").pop_front().unwrap_or(Fault::Through);
        if let Some((head, body)) = self.late.lock().expect("the lock").take() {
            self.pass(&head, &body);
        }
        match fault {
            Fault::Through => Some(self.pass(head, body)),
            Fault::CutBefore => None,
            Fault::CutAfter => {
                self.pass(head, body);
                None
            }
            Fault::NotApplied => Some(busy("not_applied")),
            Fault::UnknownLost => Some(busy("unknown")),
            Fault::UnknownDone => {
                self.pass(head, body);
                Some(busy("unknown"))
            }
            Fault::Proxy => {
                self.pass(head, body);
                Some(spell("502 Bad Gateway", "text/html", "<h1>Bad Gateway</h1>"))
            }
            Fault::Late => {
                *self.late.lock().expect("the lock") = Some((head.to_owned(), body.to_owned()));
                None
            }
        }
    }

    fn pass(&self, head: &str, body: &str) -> String {
        let Some(port) = self.server else { return busy("not_applied") };
        let answer = exchange(port, head, body);
        let again = self.repeats == Repeats::Answered && answer.contains("validation_not_unique");
        let sent: Value = if again { serde_json::from_str(body).expect("JSON") } else { Value::Null };
        let (Some(id), Some(path)) = (sent["id"].as_str(), head.split(' ').nth(1)) else { return answer };
        let there = request(port, "GET", &format!("{path}/{id}"), "");
        if there.starts_with("HTTP/1.1 200") { there } else { answer }
    }
}

fn busy(outcome: &str) -> String {
    let body = format!(r#"{{"data":{{"outcome":"{outcome}"}},"message":"Not writable.","status":503}}"#);
    spell("503 Service Unavailable\r\nRetry-After: 0", "application/json", &body)
}

fn spell(status: &str, kind: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

/// One request to a server on this machine; the whole answer as text.
pub(crate) fn request(port: u16, method: &str, path: &str, body: &str) -> String {
    exchange(port, &format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n"), body)
}

fn exchange(port: u16, head: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the server");
    // HTTP/1.0 keeps the answer in one piece and ends the connection after it.
    let kept = head.lines().skip(1).filter(|line| {
        let name = line.to_ascii_lowercase();
        ["host:", "authorization:", "content-type:"].iter().any(|kept| name.starts_with(kept))
    });
    let first = head.lines().next().expect("a request line").replace("HTTP/1.1", "HTTP/1.0");
    let mut text = format!("{first}\r\nContent-Length: {}\r\n", body.len());
    kept.for_each(|line| text.push_str(&format!("{line}\r\n")));
    stream.write_all(format!("{text}\r\n{body}").as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let answer = answer.replacen("HTTP/1.0", "HTTP/1.1", 1);
    // The client must not keep a connection that this front closes.
    answer.replacen("\r\n", "\r\nConnection: close\r\n", 1)
}

/// Head and body of the request that comes; `None` if none does.
fn read(stream: &mut TcpStream) -> Option<(String, String)> {
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
            });
            if body.len() >= length.unwrap_or(0) {
                return Some((head.to_owned(), body.to_owned()));
            }
        }
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => return None,
            Ok(count) => bytes.extend_from_slice(&piece[..count]),
        }
    }
}
