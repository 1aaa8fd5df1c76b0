//! HTTP/1.1 for the control socket, the pages at `addr` and our own commands: hyper, bounded in size, in time and in number.
//!
//! One thread takes and talks to all connections; each handler has a thread of its own while it works, since it may wait for
//! long. It knows no path.

use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, StatusCode, client, server, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::runtime::{Builder, Handle};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::{self, AbortHandle};
use tokio::time::{sleep, timeout};

/// The request line and the headers, bytes.
const HEAD: usize = 16 << 10;
/// A request's body, bytes.
const BODY: usize = 64 << 10;
/// An answer's body, bytes, as far as our client takes it.
const ANSWER: usize = 64 << 20;
/// Requests of a listener that are answered at the same time; each has a thread.
const PLACES: usize = 32;
/// Connections of a listener that have not asked yet or have their answer; each takes two descriptors.
const IDLE: usize = 64;
/// For the headers: who only holds a connection open is not waited for.
const HEAD_PATIENCE: Duration = Duration::from_secs(2);
/// For the body, and again for the whole answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// For the other side to read the end.
const LINGER: Duration = Duration::from_secs(1);
/// After an accept that failed: descriptors may have run out.
const BREATH: Duration = Duration::from_millis(100);

/// A request, read in full. Who asks with `HEAD` is answered as with `GET`, and the body stays here.
pub(crate) type Request = hyper::Request<Bytes>;

/// The first value of a parameter of the query.
pub(crate) fn parameter(request: &Request, name: &str) -> Option<String> {
    let query = request.uri().query().unwrap_or_default().as_bytes();
    form_urlencoded::parse(query).find(|(known, _)| known == name).map(|(_, value)| value.into_owned())
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

    fn spelled(self) -> hyper::Response<Full<Bytes>> {
        let mut spelled = hyper::Response::new(Full::from(self.body));
        *spelled.status_mut() = StatusCode::from_u16(self.status).expect("BUG: no status of HTTP");
        spelled.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(self.kind));
        spelled
    }
}

/// Whether the client is still there: one that waits long for its answer may have hung up.
pub(crate) type Listens<'a> = &'a dyn Fn() -> bool;

/// Answers a request, and may take its time for it.
pub(crate) type Handler = Arc<dyn Fn(&Request, Listens<'_>) -> Response + Send + Sync>;

/// Where connections come from.
pub(crate) enum Listener {
    /// The pages.
    Tcp(net::TcpListener),
    /// The control socket.
    Unix(unix::net::UnixListener),
}

/// Serves until the process ends.
///
/// # Errors
/// No thread is to be had.
pub(crate) fn serve(name: &'static str, listener: Listener, handler: Handler) -> io::Result<()> {
    let runtime = runtime()?;
    let _within = runtime.enter();
    let door = Door::new(name, handler);
    match listener {
        Listener::Tcp(listener) => {
            listener.set_nonblocking(true)?;
            let listener = TcpListener::from_std(listener)?;
            task::spawn(door.accept(move |context| listener.poll_accept(context)));
        }
        Listener::Unix(listener) => {
            listener.set_nonblocking(true)?;
            let listener = UnixListener::from_std(listener)?;
            task::spawn(door.accept(move |context| listener.poll_accept(context)));
        }
    }
    Ok(())
}

/// The thread for all connections of the process. It is not the one that talks to buckets: how that fares is what it tells.
fn runtime() -> io::Result<Handle> {
    static RUNTIME: Mutex<Option<Handle>> = Mutex::new(None);
    let mut known = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = &*known {
        return Ok(handle.clone());
    }
    let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
    let handle = runtime.handle().clone();
    let work = move || runtime.block_on(std::future::pending::<()>());
    std::thread::Builder::new().name("http".to_owned()).spawn(work)?;
    Ok(known.insert(handle).clone())
}

/// What the connections of a listener share.
struct Door {
    /// Of the threads that answer.
    name: &'static str,
    handler: Handler,
    places: Arc<Semaphore>,
    /// The connections whose client has the word, to ask or to take its answer. The oldest first.
    idle: Mutex<VecDeque<AbortHandle>>,
}

impl Door {
    fn new(name: &'static str, handler: Handler) -> Arc<Self> {
        Arc::new(Self { name, handler, places: Arc::new(Semaphore::new(PLACES)), idle: Mutex::default() })
    }

    async fn accept<S, A>(self: Arc<Self>, mut next: impl FnMut(&mut Context<'_>) -> Poll<io::Result<(S, A)>>)
    where
        S: AsyncRead + AsyncWrite + AsFd + Unpin + Send + 'static,
    {
        loop {
            match poll_fn(&mut next).await {
                Ok((stream, _)) => self.admit(stream),
                Err(error) => {
                    tracing::warn!(%error, "can't take a connection");
                    sleep(BREATH).await;
                }
            }
        }
    }

    /// Begins to talk. Where too many clients have the word, the connection of the oldest is closed: else anybody who opens
    /// connections and says nothing, or does not read, could keep a probe from its answer.
    fn admit<S>(self: &Arc<Self>, stream: S)
    where
        S: AsyncRead + AsyncWrite + AsFd + Unpin + Send + 'static,
    {
        let mut idle = self.idle();
        idle.retain(|connection| !connection.is_finished());
        if idle.len() >= IDLE
            && let Some(oldest) = idle.pop_front()
        {
            oldest.abort();
        }
        match stream.as_fd().try_clone_to_owned() {
            Ok(socket) => {
                let talk = Arc::clone(self).converse(stream, Arc::new(socket));
                idle.push_back(task::spawn(talk).abort_handle());
            }
            Err(error) => tracing::warn!(%error, "can't look after a connection"),
        }
    }

    fn idle(&self) -> MutexGuard<'_, VecDeque<AbortHandle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a request and answers it; whether the client is still there is asked of the socket.
    async fn converse(self: Arc<Self>, stream: impl AsyncRead + AsyncWrite + Unpin, socket: Arc<OwnedFd>) {
        let answered = Notify::new();
        let service = service_fn(|request| {
            Box::pin(async {
                let response = self.answer(request, Arc::clone(&socket)).await;
                answered.notify_one();
                response.map(Response::spelled)
            })
        });
        let mut connection = server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_PATIENCE)
            .max_buf_size(HEAD)
            .keep_alive(false)
            .half_close(true) // who only ended its writing still reads
            .title_case_headers(true)
            .serve_connection(TokioIo::new(stream), service);
        let mut late = pin!(async {
            answered.notified().await;
            sleep(PATIENCE).await;
        });
        poll_fn(|context| match connection.poll_without_shutdown(context) {
            Poll::Ready(_) => Poll::Ready(()),
            Poll::Pending => late.as_mut().poll(context),
        })
        .await;
        leave(connection.into_parts().io.into_inner()).await;
    }

    /// The answer; an error if there is none, which ends the connection.
    async fn answer(
        &self,
        request: hyper::Request<Incoming>,
        socket: Arc<OwnedFd>,
    ) -> Result<Response, oneshot::error::RecvError> {
        let request = match whole(request).await {
            Ok(request) => request,
            Err(refusal) => return Ok(refusal),
        };
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return Ok(Response::text(503, "too many connections\n"));
        };
        // While it waits for us it makes room for nobody.
        let own = {
            let mut idle = self.idle();
            let at = idle.iter().position(|connection| connection.id() == task::id());
            at.and_then(|at| idle.remove(at))
        };
        let response = self.work(request, socket, place).await;
        self.idle().extend(own);
        response
    }

    /// What the handler says, on a thread of its own.
    async fn work(
        &self,
        request: Request,
        socket: Arc<OwnedFd>,
        place: OwnedSemaphorePermit,
    ) -> Result<Response, oneshot::error::RecvError> {
        let (tell, told) = oneshot::channel();
        let handler = Arc::clone(&self.handler);
        let work = move || {
            let response = handler(&request, &|| listens(&socket));
            drop(place);
            let _ = tell.send(response); // whoever went away needs no answer
        };
        if let Err(error) = std::thread::Builder::new().name(self.name.to_owned()).spawn(work) {
            tracing::warn!(%error, "no thread for a connection");
        }
        told.await
    }
}

/// Reads a request to its end, or says why not.
async fn whole(request: hyper::Request<Incoming>) -> Result<Request, Response> {
    let (mut head, body) = request.into_parts();
    let too_long = || Response::text(413, "the body is too long\n");
    if body.size_hint().lower() > BODY as u64 {
        return Err(too_long());
    }
    let body = match timeout(PATIENCE, Limited::new(body, BODY).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(too_long()),
        Ok(Err(_)) => return Err(Response::text(400, "the body can't be read\n")),
        Err(_) => return Err(Response::text(408, "the request took too long\n")),
    };
    if head.method == Method::HEAD {
        head.method = Method::GET;
    }
    Ok(Request::from_parts(head, body))
}

/// A connection that is closed over unread bytes is reset, and the answer with it: they are read first, for a while.
async fn leave(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let read = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
    };
    let _ = timeout(LINGER, read).await; // whoever went away is gone
}

/// Whether the other side has not closed the connection. One that only ended its writing still reads.
fn listens(stream: &impl AsFd) -> bool {
    let mut one = [PollFd::new(stream, PollFlags::empty())];
    let polled = poll(&mut one, Some(&Timespec::default()));
    polled.is_err() || !one[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
}

/// Asks over a socket and waits for the answer: its status and its body.
///
/// # Errors
/// What comes back is no answer, or there is none within the limit.
pub(crate) fn ask(
    stream: unix::net::UnixStream,
    method: &str,
    target: &str,
    body: Vec<u8>,
    limit: Duration,
) -> io::Result<(u16, Bytes)> {
    stream.set_nonblocking(true)?;
    let request = hyper::Request::builder()
        .method(method)
        .uri(target)
        .header(HOST, "localhost")
        .header(CONTENT_TYPE, "application/json")
        .body(Full::<Bytes>::from(body))
        .map_err(io::Error::other)?;
    let asked = async {
        let stream = TokioIo::new(UnixStream::from_std(stream)?);
        let (mut sender, connection) =
            client::conn::http1::handshake(stream).await.map_err(io::Error::other)?;
        task::spawn(connection);
        let response = sender.send_request(request).await.map_err(io::Error::other)?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), ANSWER).collect().await.map_err(io::Error::other)?;
        Ok((status, body.to_bytes()))
    };
    let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
    runtime.block_on(async { timeout(limit, asked).await? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::sync::mpsc;
    use tokio::io::{AsyncReadExt as _, DuplexStream, duplex};
    use tokio::task::JoinHandle;
    use tokio::time::Instant;

    /// The other end of a conversation, which takes so many bytes at once, and its end.
    fn talk(
        takes: usize,
        handler: impl Fn(&Request) -> Response + Send + Sync + 'static,
    ) -> (DuplexStream, JoinHandle<()>) {
        let (ours, theirs) = duplex(takes);
        let (socket, _) = unix::net::UnixStream::pair().expect("a pair");
        let door = Door::new("test", Arc::new(move |request: &Request, _: Listens<'_>| handler(request)));
        (ours, task::spawn(door.converse(theirs, Arc::new(socket.into()))))
    }

    /// What comes back for these bytes, and an end of what is sent.
    async fn served(bytes: impl AsRef<[u8]>) -> String {
        let (mut ours, end) = talk(1 << 20, |request| {
            let parameters = ["path", "n", "no"].map(|name| parameter(request, name));
            let said = (request.method(), request.uri().path(), parameters, request.body());
            Response::text(200, format!("{said:?}"))
        });
        ours.write_all(bytes.as_ref()).await.expect("sent");
        ours.shutdown().await.expect("ended");
        let mut out = String::new();
        ours.read_to_string(&mut out).await.expect("text");
        drop(ours);
        end.await.expect("no panic");
        out
    }

    #[tokio::test]
    async fn a_request_is_read_in_full_and_decoded() {
        let head = "POST /a?path=%2Fx+y&n HTTP/1.1\r\nHost: x\r\n";
        for body in [
            "content-LENGTH: 3\r\n\r\nabcde",
            "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n",
        ] {
            let out = served(format!("{head}{body}")).await;
            let said = "(POST, \"/a\", [Some(\"/x y\"), Some(\"\"), None], b\"abc\")";
            assert!(out.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain"), "{out}");
            assert!(out.contains("\r\nConnection: close\r\n"), "{out}");
            assert!(out.ends_with(&format!("\r\n\r\n{said}")), "{out}");
        }
    }

    #[tokio::test]
    async fn who_asks_for_the_head_alone_gets_what_a_get_gets_without_its_body() {
        let of = async |method: &str| {
            let got = served(format!("{method} /health?n=b HTTP/1.1\r\n\r\n")).await;
            let (head, body) = got.split_once("\r\n\r\n").expect("a head");
            let lines = head.lines().filter(|line| !line.starts_with("Date: "));
            (lines.map(str::to_owned).collect::<Vec<_>>(), body.to_owned())
        };
        let (head, body) = of("GET").await;
        assert!(
            head.contains(&format!("Content-Length: {}", body.len())) && body.contains("GET"),
            "{head:?}"
        );
        assert_eq!(of("HEAD").await, (head, String::new()));
    }

    #[tokio::test]
    async fn what_is_no_request_or_too_large_is_answered_with_its_status() {
        let chunked = |body: &str| {
            let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
            format!("{head}{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
        };
        let counted =
            |len: usize, body: &str| format!("POST / HTTP/1.1\r\nContent-Length: {len}\r\n\r\n{body}");
        let (fits, larger) = ("x".repeat(BODY), "x".repeat(BODY + 1));
        for (bytes, status) in [
            ("GET / HTTP/1.1\r\n\r\n".to_owned(), 200),
            (counted(BODY, &fits), 200),
            (counted(BODY + 1, ""), 413),
            (counted(BODY + 1, &larger), 413),
            (counted(2, "x"), 400),
            (chunked(&fits), 200),
            (chunked(&larger), 413),
            (chunked("").replace("0", "no number"), 400),
            ("hello\r\n\r\n".to_owned(), 400),
            ("GET / HTTP/1.1\r\nno colon\r\n\r\n".to_owned(), 400),
            ("GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n".to_owned(), 400),
            ("GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".to_owned(), 400),
            (format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(2 * HEAD)), 431),
            ("GET / HTTP/2.0\r\n\r\n".to_owned(), 400),
        ] {
            let out = served(&bytes).await;
            let sent = bytes.get(..70).unwrap_or(&bytes);
            assert!(out.starts_with(&format!("HTTP/1.1 {status} ")), "{status} for {sent:?}: {out}");
        }
        assert_eq!(served("GET / HT").await, "");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_go_on_has_its_time() {
        for (bytes, status, time) in [
            ("", "", HEAD_PATIENCE),
            ("GET / HT", "", HEAD_PATIENCE),
            ("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\na", "HTTP/1.1 408 ", PATIENCE),
        ] {
            let (mut ours, _end) = talk(1 << 20, |_| Response::text(200, "too early"));
            let since = Instant::now();
            ours.write_all(bytes.as_bytes()).await.expect("sent");
            let mut out = String::new();
            ours.read_to_string(&mut out).await.expect("text");
            assert_eq!((out.get(..status.len()), since.elapsed().as_secs()), (Some(status), time.as_secs()));
            assert_eq!(out.is_empty(), status.is_empty(), "{out}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_slowly_has_its_time_for_the_whole_answer_and_not_for_each_byte() {
        let (mut ours, end) = talk(64, |_| Response::text(200, "x".repeat(1 << 20)));
        ours.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("sent");
        ours.read_u8().await.expect("the first byte");
        let since = Instant::now();
        let reads = task::spawn(async move {
            while ours.read_u8().await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        });
        end.await.expect("given up");
        assert_eq!(since.elapsed().as_secs(), (PATIENCE + LINGER).as_secs());
        reads.abort();
    }

    #[test]
    fn only_who_closed_the_connection_does_not_listen() {
        let (ours, theirs) = unix::net::UnixStream::pair().expect("a pair");
        assert!(listens(&theirs));
        ours.shutdown(net::Shutdown::Write).expect("ended");
        assert!(listens(&theirs), "it still reads");
        drop(ours);
        assert!(!listens(&theirs));
    }

    #[tokio::test(start_paused = true)]
    async fn where_too_many_clients_have_the_word_the_oldest_makes_room() {
        let door = Door::new("test", Arc::new(|_, _| Response::text(200, "well")));
        let mut clients = Vec::new();
        let mut admit = || {
            let (ours, theirs) = UnixStream::pair().expect("a pair");
            clients.push(ours);
            door.admit(theirs);
        };
        (0..IDLE).for_each(|_| admit());
        let known: Vec<AbortHandle> = door.idle().iter().cloned().collect();
        admit();
        task::yield_now().await;
        let closed: Vec<usize> = (0..IDLE).filter(|at| known[*at].is_finished()).collect();
        assert_eq!((closed, door.idle().len()), (vec![0], IDLE));
    }

    #[test]
    fn connections_that_say_or_read_nothing_keep_nobody_from_an_answer() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("l.sock");
        let listener = unix::net::UnixListener::bind(&path).expect("bound");
        let (go, gone) = mpsc::channel::<()>();
        let gone = Mutex::new(gone);
        let handler = move |request: &Request, _: Listens<'_>| match request.uri().path() {
            "/wait" => {
                let _ = gone.lock().expect("no panic").recv();
                Response::text(200, "well")
            }
            "/long" => Response::text(200, "x".repeat(1 << 20)),
            _ => Response::text(200, "well"),
        };
        serve("test", Listener::Unix(listener), Arc::new(handler)).expect("served");
        let ask = |target: &str| {
            let mut stream = unix::net::UnixStream::connect(&path).expect("connected");
            if !target.is_empty() {
                // What is too long may be answered before all of it is sent: the answer tells.
                let _ = write!(stream, "GET {target} HTTP/1.1\r\n\r\n");
            }
            stream
        };
        let read = |mut stream: unix::net::UnixStream| {
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("an answer, and no reset");
            answer
        };
        let waits = ask("/wait");
        let mut more = Vec::new();
        for _ in 0..2 * IDLE {
            more.extend([ask(""), ask("/long")]);
            let answer = read(ask("/health"));
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        }
        // What is not read of it resets nothing.
        let answer = read(ask(&"/long".repeat(HEAD)));
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
        drop(go);
        let answer = read(waits);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }

    #[test]
    fn an_answer_is_read_however_it_is_framed_and_none_is_waited_for_too_long() {
        let asked = |answer: &'static str| {
            let (ours, mut theirs) = unix::net::UnixStream::pair().expect("a pair");
            let answers = std::thread::spawn(move || {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n{}") {
                    let mut byte = [0];
                    theirs.read_exact(&mut byte).expect("more of the request");
                    request.extend(byte);
                }
                theirs.write_all(answer.as_bytes()).expect("sent");
                theirs
            });
            let limit = Duration::from_millis(if answer.is_empty() { 100 } else { 60_000 });
            let got = ask(ours, "POST", "/sync", b"{}".to_vec(), limit).map_err(|error| error.kind());
            answers.join().expect("no panic");
            got
        };
        for (answer, status) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", 200),
            (
                "HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n",
                404,
            ),
        ] {
            assert_eq!(asked(answer), Ok((status, Bytes::from_static(b"abc"))));
        }
        assert_eq!(asked("what?\r\n\r\n"), Err(io::ErrorKind::Other));
        assert_eq!(asked(""), Err(io::ErrorKind::TimedOut));
    }
}
