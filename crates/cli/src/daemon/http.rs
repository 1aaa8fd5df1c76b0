//! Just enough of HTTP/1.1 to answer `curl`, Prometheus and ourselves: one request a connection, bounded in size, in time
//! and in number. It knows no path and no client but the one at the bottom, which asks over a socket.

use litekeep_core::env::Clock;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The request line and the headers, bytes.
const HEAD: usize = 16 << 10;
/// A request's body, bytes.
const BODY: usize = 64 << 10;
/// An answer's body, bytes, as far as our client takes it.
const ANSWER: u64 = 64 << 20;
/// Connections at the same time; each has a thread.
const CONNECTIONS: usize = 32;
/// From the connection to the end of the headers: who only holds a connection open is not waited for.
const HEAD_PATIENCE: Duration = Duration::from_secs(2);
/// From the connection to the whole request, and again for the whole answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// After an accept that failed: descriptors may have run out.
const BREATH: Duration = Duration::from_millis(100);

/// A request, read in full.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Request {
    /// `GET`, `POST`.
    pub(crate) method: String,
    /// Decoded, without the query.
    pub(crate) path: String,
    /// Decoded, in order.
    pub(crate) query: Vec<(String, String)>,
    /// As it came.
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// The first value of a parameter of the query.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Response {
    /// HTTP's number.
    pub(crate) status: u16,
    /// `Content-Type`.
    pub(crate) kind: &'static str,
    /// All of it.
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// Plain text.
    pub(crate) fn text(status: u16, text: impl Into<String>) -> Self {
        Self { status, kind: "text/plain; charset=utf-8", body: text.into().into_bytes() }
    }
}

/// A stream with a limit for each read and write.
pub(crate) trait Stream: Read + Write + AsFd + Send + 'static {
    /// How long the next read or write may take.
    fn limit(&self, limit: Duration) -> io::Result<()>;
    /// Nothing more will be written.
    fn end(&self) -> io::Result<()>;
}

impl Stream for TcpStream {
    fn limit(&self, limit: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(limit))?;
        self.set_write_timeout(Some(limit))
    }

    fn end(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl Stream for UnixStream {
    fn limit(&self, limit: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(limit))?;
        self.set_write_timeout(Some(limit))
    }

    fn end(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

/// Where connections come from.
pub(crate) trait Listener: Send + 'static {
    /// What they are.
    type Stream: Stream;
    /// The next one.
    fn next(&self) -> io::Result<Self::Stream>;
}

impl Listener for TcpListener {
    type Stream = TcpStream;
    fn next(&self) -> io::Result<TcpStream> {
        self.accept().map(|(stream, _)| stream)
    }
}

impl Listener for UnixListener {
    type Stream = UnixStream;
    fn next(&self) -> io::Result<UnixStream> {
        self.accept().map(|(stream, _)| stream)
    }
}

/// Whether the client is still there: one that waits long for its answer may have hung up.
pub(crate) type Listens<'a> = &'a dyn Fn() -> bool;

/// Answers a request.
type Answer = dyn Fn(&Request, Listens<'_>) -> Response + Send + Sync;

/// The same, for each connection.
pub(crate) type Handler = Arc<Answer>;

/// Serves until the process ends, on a thread of its own.
///
/// # Errors
/// No thread is to be had.
pub(crate) fn serve(
    name: &'static str,
    listener: impl Listener,
    handler: Handler,
    clock: Arc<dyn Clock>,
) -> io::Result<()> {
    let places = Arc::<Places>::default();
    let accept = move || loop {
        let stream = match listener.next() {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "can't take a connection");
                clock.sleep(BREATH);
                continue;
            }
        };
        let Some(place) = places.take(&stream) else {
            refuse(stream, &*clock);
            continue;
        };
        let (handler, clock) = (Arc::clone(&handler), Arc::clone(&clock));
        let work = move || {
            // Whoever went away needs no answer.
            let _ = converse(stream, &|| place.asked(), &*handler, &*clock);
        };
        if let Err(error) = std::thread::Builder::new().name(name.to_owned()).spawn(work) {
            tracing::warn!(%error, "no thread for a connection");
        }
    };
    std::thread::Builder::new().name(format!("{name}-accept")).spawn(accept).map(drop)
}

/// The connections that are served at the same time.
#[derive(Default)]
struct Places {
    /// The oldest first.
    taken: Mutex<Vec<Taken>>,
    next: AtomicU64,
}

struct Taken {
    id: u64,
    /// The connection, until its request is here.
    waits: Option<OwnedFd>,
}

impl Places {
    /// A place for a connection. Where none is left, the oldest one that has not asked for anything so far is closed: else
    /// anybody who opens connections and says nothing could keep a probe from its answer.
    fn take(self: &Arc<Self>, stream: &impl AsFd) -> Option<Place> {
        let mut taken = self.lock();
        if taken.len() >= CONNECTIONS {
            let oldest = taken.iter().position(|place| place.waits.is_some())?;
            let waits = taken.remove(oldest).waits?;
            // Its thread reads the end, and ends too. An error says that the other side was gone.
            let _ = rustix::net::shutdown(waits, rustix::net::Shutdown::Both);
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        taken.push(Taken { id, waits: stream.as_fd().try_clone_to_owned().ok() });
        Some(Place { places: Arc::clone(self), id })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Taken>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of them.
struct Place {
    places: Arc<Places>,
    id: u64,
}

impl Place {
    /// Its request is here: it gives its place to nobody any more.
    fn asked(&self) {
        let mut taken = self.places.lock();
        taken.iter_mut().filter(|place| place.id == self.id).for_each(|place| place.waits = None);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().retain(|place| place.id != self.id);
    }
}

/// Tells one too many so, without a thread for it.
fn refuse<S: Stream>(mut stream: S, clock: &dyn Clock) {
    let busy = Response::text(503, "too many connections\n");
    let until = clock.boot() + BREATH;
    let _ = write(&mut stream, &busy, true, until, clock).and_then(|()| leave(&mut stream, until, clock));
}

/// A connection that is closed over unread bytes is reset, and the answer with it: they are read first, for a while.
fn leave<S: Stream>(stream: &mut S, until: Duration, clock: &dyn Clock) -> io::Result<()> {
    stream.end()?;
    let mut piece = [0; 4096];
    loop {
        stream.limit(left(until, clock)?)?;
        if stream.read(&mut piece)? == 0 {
            return Ok(());
        }
    }
}

/// What is left of a time; none is an error.
fn left(until: Duration, clock: &dyn Clock) -> io::Result<Duration> {
    let left = until.saturating_sub(clock.boot());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// Reads a request and answers it; `asked` hears when it is here.
fn converse<S: Stream>(
    mut stream: S,
    asked: &dyn Fn(),
    handler: &Answer,
    clock: &dyn Clock,
) -> io::Result<()> {
    match read(&mut stream, clock) {
        Ok(mut request) => {
            asked();
            let whole = request.method != "HEAD";
            if !whole {
                request.method = "GET".to_owned();
            }
            let response = handler(&request, &|| listens(&stream));
            write(&mut stream, &response, whole, clock.boot() + PATIENCE, clock)
        }
        Err(Unread::Gone) => Ok(()),
        Err(Unread::Bad(status, why)) => {
            let answer = Response::text(status, format!("{why}\n"));
            write(&mut stream, &answer, true, clock.boot() + PATIENCE, clock)?;
            leave(&mut stream, clock.boot() + 10 * BREATH, clock)
        }
    }
}

/// Whether the other side has not closed the connection. One that only ended its writing still reads.
fn listens(stream: &impl AsFd) -> bool {
    let mut one = [PollFd::new(stream, PollFlags::empty())];
    let polled = poll(&mut one, Some(&Timespec::default()));
    polled.is_err() || !one[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
}

/// Why there is no request.
#[derive(Debug, PartialEq, Eq)]
enum Unread {
    /// The other side said nothing, or nothing more.
    Gone,
    /// It is answered with this.
    Bad(u16, &'static str),
}

fn read<S: Stream>(stream: &mut S, clock: &dyn Clock) -> Result<Request, Unread> {
    let since = clock.boot();
    let mut came = Vec::new();
    let head_len = loop {
        if let Some(at) = came.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if came.len() > HEAD {
            return Err(Unread::Bad(431, "the headers are too long"));
        }
        more(stream, &mut came, since + HEAD_PATIENCE, clock)?;
    };
    let body = came.split_off(head_len);
    let head = String::from_utf8(came).map_err(|_| Unread::Bad(400, "the headers are not UTF-8"))?;
    let (mut request, len) = parse_head(&head).map_err(|(status, why)| Unread::Bad(status, why))?;
    request.body = body;
    while request.body.len() < len {
        more(stream, &mut request.body, since + PATIENCE, clock)?;
    }
    request.body.truncate(len);
    Ok(request)
}

fn more<S: Stream>(
    stream: &mut S,
    into: &mut Vec<u8>,
    until: Duration,
    clock: &dyn Clock,
) -> Result<(), Unread> {
    let left = left(until, clock).map_err(|_| Unread::Bad(408, "the request took too long"))?;
    stream.limit(left).map_err(|_| Unread::Gone)?;
    let mut piece = [0; 4096];
    match stream.read(&mut piece) {
        Ok(0) => Err(Unread::Gone),
        Ok(n) => {
            into.extend_from_slice(&piece[..n]);
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            Err(Unread::Bad(408, "the request took too long"))
        }
        Err(_) => Err(Unread::Gone),
    }
}

/// The request line and the headers; with the length of the body.
fn parse_head(head: &str) -> Result<(Request, usize), (u16, &'static str)> {
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err((400, "this is no HTTP request"));
    };
    if !version.starts_with("HTTP/1.") {
        return Err((505, "only HTTP/1.x is spoken here"));
    }
    let mut len = None;
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').ok_or((400, "a header has no colon"))?;
        if name.eq_ignore_ascii_case("content-length") {
            let value = value.trim().parse::<usize>().map_err(|_| (400, "Content-Length is no number"))?;
            if len.replace(value).is_some_and(|before| before != value) {
                return Err((400, "two Content-Length headers differ"));
            }
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            return Err((411, "a body needs its Content-Length"));
        }
    }
    let len = len.unwrap_or(0);
    if len > BODY {
        return Err((413, "the body is too long"));
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Some((decode(name, true)?, decode(value, true)?))
    };
    let pairs = query.split('&').filter(|part| !part.is_empty()).map(pair);
    let query: Option<Vec<_>> = pairs.collect();
    let (Some(path), Some(query)) = (decode(path, false), query) else {
        return Err((400, "the path is not well encoded"));
    };
    Ok((Request { method: method.to_owned(), path, query, body: Vec::new() }, len))
}

/// Takes percent signs, and in a query plus signs, for what they stand for.
fn decode(text: &str, query: bool) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                let digits = std::str::from_utf8(&digits).ok()?;
                out.push(u8::from_str_radix(digits, 16).ok()?);
            }
            b'+' if query => out.push(b' '),
            other => out.push(other),
        }
    }
    String::from_utf8(out).ok()
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        411 => "Length Required",
        413 => "Content Too Large",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Unknown",
    }
}

/// Sends an answer within a time as a whole, however little the other side takes at once.
fn write<S: Stream>(
    stream: &mut S,
    response: &Response,
    whole: bool,
    until: Duration,
    clock: &dyn Clock,
) -> io::Result<()> {
    let Response { status, kind, body } = response;
    let head = format!(
        "HTTP/1.1 {status} {}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        reason(*status),
        body.len()
    );
    let body = if whole { body } else { &[][..] };
    for part in [head.as_bytes(), body] {
        let mut rest = part;
        while !rest.is_empty() {
            stream.limit(left(until, clock)?)?;
            match stream.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(taken) => rest = &rest[taken..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
    stream.flush()
}

/// Asks over a socket and waits for the answer: its status and its body.
///
/// # Errors
/// Nobody listens, or there is no answer within the limit.
pub(crate) fn ask(
    mut stream: UnixStream,
    method: &str,
    target: &str,
    body: &[u8],
    limit: Duration,
) -> io::Result<(u16, Vec<u8>)> {
    stream.limit(limit)?;
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.take(ANSWER).read_to_end(&mut answer)?;
    let no_http = || io::Error::new(io::ErrorKind::InvalidData, "what came back is no HTTP answer");
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").ok_or_else(no_http)?;
    let head = std::str::from_utf8(&answer[..end]).map_err(|_| no_http())?;
    let status = head.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse().ok());
    Ok((status.ok_or_else(no_http)?, answer.split_off(end + 4)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use litekeep::clock::SystemClock;
    use std::sync::mpsc;

    /// What comes back for these bytes.
    fn served(bytes: &[u8]) -> String {
        let (mut ours, theirs) = UnixStream::pair().expect("a pair");
        let answer = std::thread::spawn(move || {
            let handler = |request: &Request, _: Listens<'_>| Response::text(200, format!("{request:?}"));
            converse(theirs, &|| {}, &handler, &SystemClock)
        });
        // The other side may have answered and gone before it had read everything.
        let _ = ours.write_all(bytes);
        let _ = ours.shutdown(std::net::Shutdown::Write);
        let mut out = Vec::new();
        let _ = ours.read_to_end(&mut out);
        let _ = answer.join().expect("no panic");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_request_is_read_in_full_and_decoded() {
        let out = served(b"POST /a%20b?path=%2Fx+y&n HTTP/1.1\r\nHost: x\r\ncontent-LENGTH: 3\r\n\r\nabcde");
        let request = Request {
            method: "POST".to_owned(),
            path: "/a b".to_owned(),
            query: [("path", "/x y"), ("n", "")].map(|(a, b)| (a.to_owned(), b.to_owned())).to_vec(),
            body: b"abc".to_vec(),
        };
        assert!(out.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain"), "{out}");
        assert!(out.ends_with(&format!("\r\n\r\n{request:?}")), "{out}");
    }

    #[test]
    fn who_asks_for_the_head_alone_gets_what_a_get_gets_without_its_body() {
        let of = |method: &str| served(format!("{method} /health?a=b HTTP/1.1\r\n\r\n").as_bytes());
        let got = of("GET");
        let (head, body) = got.split_once("\r\n\r\n").expect("a head");
        assert!(!body.is_empty(), "{got}");
        assert_eq!(of("HEAD"), format!("{head}\r\n\r\n"));
    }

    #[test]
    fn what_is_no_request_or_too_large_is_answered_with_its_status() {
        let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(2 * HEAD));
        let fits = format!("POST / HTTP/1.1\r\nContent-Length: {BODY}\r\n\r\n{}", "x".repeat(BODY));
        let large = format!("POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n", BODY + 1);
        for (bytes, status) in [
            ("GET / HTTP/1.1\r\n\r\n", 200),
            (fits.as_str(), 200),
            ("hello\r\n\r\n", 400),
            ("GET /%zz HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
            (large.as_str(), 413),
            (long.as_str(), 431),
            ("GET / HTTP/2.0\r\n\r\n", 505),
        ] {
            let out = served(bytes.as_bytes());
            assert!(out.starts_with(&format!("HTTP/1.1 {status} ")), "{status}: {out}");
        }
        assert_eq!(served(b"GET / HT"), "");
    }

    /// A clock that goes on by a second whenever a byte is taken.
    #[derive(Clone, Default)]
    struct Seconds(Arc<AtomicU64>);

    impl Clock for Seconds {
        fn wall(&self) -> litekeep_formats::TimestampMs {
            litekeep_formats::TimestampMs(0)
        }
        fn boot(&self) -> Duration {
            Duration::from_secs(self.0.load(Ordering::SeqCst))
        }
        fn sleep(&self, _: Duration) {}
    }

    /// A client that takes a byte a second.
    struct Slow {
        request: &'static [u8],
        seconds: Seconds,
        /// For its descriptor.
        socket: UnixStream,
    }

    impl Read for Slow {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            self.request.read(buf)
        }
    }

    impl Write for Slow {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            self.seconds.0.fetch_add(1, Ordering::SeqCst);
            Ok(buf.len().min(1))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl AsFd for Slow {
        fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
            self.socket.as_fd()
        }
    }

    impl Stream for Slow {
        fn limit(&self, limit: Duration) -> io::Result<()> {
            let taken = self.seconds.boot();
            let most = if self.request.is_empty() { PATIENCE } else { HEAD_PATIENCE };
            assert_eq!(limit, most - taken, "each may take what is left, and no more");
            Ok(())
        }
        fn end(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_client_that_reads_slowly_has_its_time_for_the_whole_answer_and_not_for_each_byte() {
        let seconds = Seconds::default();
        let (socket, _other) = UnixStream::pair().expect("a pair");
        let slow = Slow { request: b"GET / HTTP/1.1\r\n\r\n", seconds: seconds.clone(), socket };
        let handler = |_: &Request, _: Listens<'_>| Response::text(200, "x".repeat(1 << 20));
        let error = converse(slow, &|| {}, &handler, &seconds).expect_err("given up");
        assert_eq!((error.kind(), seconds.boot()), (io::ErrorKind::TimedOut, PATIENCE));
    }

    #[test]
    fn who_is_refused_reads_why_and_the_end_though_its_request_was_not_read() {
        let (mut ours, theirs) = UnixStream::pair().expect("a pair");
        ours.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("sent");
        let refused = std::thread::spawn(move || refuse(theirs, &SystemClock));
        let mut out = String::new();
        ours.read_to_string(&mut out).expect("an answer, and no reset");
        assert!(out.starts_with("HTTP/1.1 503 ") && out.ends_with("too many connections\n"), "{out}");
        drop(ours);
        refused.join().expect("no panic");
    }

    #[test]
    fn only_who_closed_the_connection_does_not_listen() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        assert!(listens(&theirs));
        ours.shutdown(Shutdown::Write).expect("ended");
        assert!(listens(&theirs), "it still reads");
        drop(ours);
        assert!(!listens(&theirs));
    }

    #[test]
    fn where_no_place_is_left_the_oldest_that_has_not_asked_makes_room_and_nobody_else() {
        let pair = || UnixStream::pair().expect("a pair");
        let places = Arc::<Places>::default();
        let pairs: Vec<_> = (0..CONNECTIONS).map(|_| pair()).collect();
        let mut taken: Vec<Place> =
            pairs.iter().map(|(_, theirs)| places.take(theirs).expect("a place")).collect();
        taken[0].asked();
        let late = pair();
        taken.push(places.take(&late.1).expect("a place"));
        let closed: Vec<usize> = (0..CONNECTIONS).filter(|at| !listens(&pairs[*at].0)).collect();
        assert_eq!(closed, [1]);
        taken.iter().for_each(Place::asked);
        assert!(places.take(&late.1).is_none(), "all are being answered");
        drop(taken.remove(1));
        assert!(places.take(&late.1).is_none(), "its place was given away");
        taken.pop();
        assert!(places.take(&late.1).is_some());
    }

    #[test]
    fn connections_that_say_nothing_keep_nobody_from_an_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let (go, gone) = mpsc::channel::<()>();
        let gone = Mutex::new(gone);
        let handler = move |request: &Request, _: Listens<'_>| {
            if request.path == "/wait" {
                let _ = gone.lock().expect("no panic").recv();
            }
            Response::text(200, "well")
        };
        serve("test", listener, Arc::new(handler), Arc::new(SystemClock)).expect("served");
        let connect = || TcpStream::connect(address).expect("connected");
        let _silent: Vec<TcpStream> = (0..CONNECTIONS).map(|_| connect()).collect();
        let mut waits = connect();
        waits.write_all(b"GET /wait HTTP/1.1\r\n\r\n").expect("sent");
        let mut more = Vec::new();
        for _ in 0..2 * CONNECTIONS {
            more.push(connect());
            let mut probe = connect();
            probe.write_all(b"GET /health HTTP/1.1\r\n\r\n").expect("sent");
            let mut answer = String::new();
            probe.read_to_string(&mut answer).expect("an answer");
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        }
        drop(go);
        let mut answer = String::new();
        waits.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
}
