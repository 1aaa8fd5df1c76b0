//! One request on a connection of its own, and a stream of server-sent events. Never retries, never follows.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// What is sent, byte for byte.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Option<Vec<u8>>,
}

/// What came back.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The value of a header, by its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        let text = String::from_utf8_lossy(&self.body);
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{} {text:?}: {error}", self.status))
    }
}

/// Sends a request and reads the whole answer.
pub(crate) fn send(address: SocketAddr, request: &Request) -> Answer {
    let what = format!("{} {}", request.method, request.target);
    let mut stream = connect(address);
    // A server may answer and close before it has read a body that it refuses.
    let _ = stream.write_all(&bytes_of(address, request, "close"));
    let mut reader = BufReader::new(stream);
    let (status, headers) = head_of(&mut reader, &what);
    let bare = request.method == "HEAD" || status == 204 || status == 304;
    let body = if bare { Vec::new() } else { body_of(&mut reader, &headers, &what) };
    Answer { status, headers, body }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream =
        TcpStream::connect(address).unwrap_or_else(|error| panic!("no connection to {address}: {error}"));
    stream.set_read_timeout(Some(super::DEADLINE)).expect("a read timeout");
    stream
}

fn bytes_of(address: SocketAddr, request: &Request, connection: &str) -> Vec<u8> {
    let mut head = format!("{} {} HTTP/1.1\r\nHost: {address}\r\n", request.method, request.target);
    for (name, value) in &request.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if request.body.is_some() || !matches!(request.method.as_str(), "GET" | "HEAD" | "OPTIONS" | "DELETE") {
        head.push_str(&format!("Content-Length: {}\r\n", request.body.as_ref().map_or(0, Vec::len)));
    }
    head.push_str(&format!("User-Agent: oraclenet-tests\r\nConnection: {connection}\r\n\r\n"));
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(request.body.as_deref().unwrap_or_default());
    bytes
}

fn head_of(reader: &mut impl BufRead, what: &str) -> (u16, Vec<(String, String)>) {
    let status = line_of(reader, what);
    let code = status.split(' ').nth(1).and_then(|code| code.parse().ok());
    let code = code.unwrap_or_else(|| panic!("{what}: not a status line: {status:?}"));
    let mut headers = Vec::new();
    loop {
        let line = line_of(reader, what);
        let Some((name, value)) = line.split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    (code, headers)
}

fn line_of(reader: &mut impl BufRead, what: &str) -> String {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line).unwrap_or_else(|error| panic!("{what}: no answer: {error}"));
    String::from_utf8_lossy(&line).trim_end().to_owned()
}

fn body_of(reader: &mut impl BufRead, headers: &[(String, String)], what: &str) -> Vec<u8> {
    let value = |name: &str| headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let mut body = Vec::new();
    if value("transfer-encoding") == Some("chunked") {
        while let Some(chunk) = chunk_of(reader, what) {
            body.extend(chunk);
        }
    } else if let Some(length) = value("content-length") {
        body.resize(length.parse().unwrap_or_else(|error| panic!("{what}: {length:?}: {error}")), 0);
        reader.read_exact(&mut body).unwrap_or_else(|error| panic!("{what}: a cut body: {error}"));
    } else {
        reader.read_to_end(&mut body).unwrap_or_else(|error| panic!("{what}: a cut body: {error}"));
    }
    body
}

/// The next chunk; nothing at the last one.
fn chunk_of(reader: &mut impl BufRead, what: &str) -> Option<Vec<u8>> {
    let line = line_of(reader, what);
    let size = usize::from_str_radix(line.split(';').next().unwrap_or_default(), 16);
    let size = size.unwrap_or_else(|error| panic!("{what}: the size of a chunk {line:?}: {error}"));
    let mut chunk = vec![0; size + 2];
    reader.read_exact(&mut chunk).unwrap_or_else(|error| panic!("{what}: a cut chunk: {error}"));
    chunk.truncate(size);
    (size > 0).then_some(chunk)
}

/// One server-sent event.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Frame {
    pub(crate) id: String,
    pub(crate) event: String,
    pub(crate) data: String,
}

/// An open stream of events.
pub(crate) struct Events {
    reader: BufReader<TcpStream>,
    buffer: Vec<u8>,
    /// The head of the answer.
    pub(crate) answer: Answer,
}

impl Events {
    /// Opens `/api/realtime`.
    pub(crate) fn open(address: SocketAddr) -> Self {
        let request = Request {
            method: "GET".to_owned(),
            target: "/api/realtime".to_owned(),
            headers: vec![("Accept".to_owned(), "text/event-stream".to_owned())],
            body: None,
        };
        let mut stream = connect(address);
        stream.write_all(&bytes_of(address, &request, "keep-alive")).expect("the stream was asked for");
        let mut reader = BufReader::new(stream);
        let (status, headers) = head_of(&mut reader, "GET /api/realtime");
        let chunked = headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
        assert!(status == 200 && chunked, "the stream was not opened: {status} {headers:?}");
        Self { reader, buffer: Vec::new(), answer: Answer { status, headers, body: Vec::new() } }
    }

    /// The next event, or nothing when none comes within the time.
    pub(crate) fn next_within(&mut self, time: Duration) -> Option<Frame> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
                let text: Vec<u8> = self.buffer.drain(..end + 2).collect();
                if let Some(frame) = frame_of(&String::from_utf8_lossy(&text)) {
                    return Some(frame);
                }
                continue;
            }
            self.reader.get_ref().set_read_timeout(Some(time)).expect("a read timeout");
            match self.reader.fill_buf() {
                Ok([]) => return None,
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return None;
                }
                Err(error) => panic!("the stream broke: {error}"),
            }
            self.reader.get_ref().set_read_timeout(Some(super::DEADLINE)).expect("a read timeout");
            self.buffer.extend(chunk_of(&mut self.reader, "the stream of events")?);
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let _ = self.reader.get_ref().shutdown(Shutdown::Both);
    }
}

/// The fields of an event; nothing for a comment.
fn frame_of(text: &str) -> Option<Frame> {
    let field = |name: &str| {
        let lines = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let values: Vec<&str> = lines.map(|value| value.strip_prefix(' ').unwrap_or(value)).collect();
        (!values.is_empty()).then(|| values.join("\n"))
    };
    let data = field("data")?;
    Some(Frame { id: field("id").unwrap_or_default(), event: field("event").unwrap_or_default(), data })
}

/// Percent-encodes everything but unreserved characters.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                encoded.push(char::from(byte))
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}
