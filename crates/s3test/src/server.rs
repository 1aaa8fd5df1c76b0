//! The server around the bucket: a thread, a port, a log, and the faults.

use crate::bucket::Bucket;
use crate::fault::{Fault, Rule};
use crate::{ACCESS_KEY, BUCKET, Profile, SECRET_KEY};
use bytes::Bytes;
use futures::StreamExt as _;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderValue, RANGE};
use hyper::rt::{Read, Write};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use s3s::auth::{S3Auth, SecretKey};
use s3s::host::{S3Host, VirtualHost};
use s3s::service::{S3Service, S3ServiceBuilder};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

type AnyBody = UnsyncBoxBody<Bytes, io::Error>;
type Response = hyper::Response<AnyBody>;

/// The authority behind the certificate of [`Server::start_tls`], PEM. Its own key was thrown away.
pub const AUTHORITY: &str = include_str!("../tls/ca.pem");

/// One request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    /// HTTP method.
    pub method: String,
    /// Path and query, percent-encoded.
    pub target: String,
    /// Headers in lower case.
    pub headers: Vec<(String, String)>,
}

impl Request {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// A running server; it stops when dropped.
pub struct Server {
    endpoint: String,
    shared: Shared,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone)]
struct Shared {
    bucket: Bucket,
    rules: Arc<Mutex<Vec<Rule>>>,
    log: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Starts a server on a free port of this machine.
    pub fn start(profile: Profile) -> io::Result<Self> {
        Self::start_on(profile, 0)
    }

    /// Starts a server that speaks TLS, with a certificate that only [`AUTHORITY`] vouches for.
    pub fn start_tls(profile: Profile) -> io::Result<Self> {
        let mut server = Self::launch(profile, 0, Some(tls_acceptor()?))?;
        server.endpoint = server.endpoint.replacen("http://", "https://", 1);
        Ok(server)
    }

    /// Starts a server on a given port; 0 for a free one.
    pub fn start_on(profile: Profile, port: u16) -> io::Result<Self> {
        Self::launch(profile, port, None)
    }

    fn launch(profile: Profile, port: u16, tls: Option<TlsAcceptor>) -> io::Result<Self> {
        let bucket = Bucket::new(profile);
        let shared = Shared { bucket, rules: Arc::default(), log: Arc::default() };
        let listener = std::net::TcpListener::bind(("127.0.0.1", port))?;
        listener.set_nonblocking(true)?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let for_thread = shared.clone();
        let thread = std::thread::Builder::new().name("s3test".into()).spawn(move || {
            runtime.block_on(serve(listener, tls, for_thread, stopped));
        })?;
        Ok(Self { endpoint, shared, stop: Some(stop), thread: Some(thread) })
    }

    /// `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Makes requests fail. Rules are asked in the order they were added.
    pub fn add_rule(&self, rule: Rule) {
        lock(&self.shared.rules).push(rule);
    }

    /// No request fails any more.
    pub fn clear_rules(&self) {
        lock(&self.shared.rules).clear();
    }

    /// The requests since the last call of this function.
    pub fn take_log(&self) -> Vec<Request> {
        std::mem::take(&mut *lock(&self.shared.log))
    }

    /// From now on listings show the bucket as it is at this moment (`true`), or as it is (`false`).
    pub fn freeze_listing(&self, frozen: bool) {
        let mut state = self.shared.bucket.state();
        state.stale = frozen.then(|| state.objects.clone());
    }

    /// Sets this server's clock ahead (or back) by milliseconds.
    pub fn skew_clock(&self, ms: i64) {
        self.shared.bucket.state().skew_ms = ms;
    }

    /// From now on requests whose time is more than 15 minutes off this server's clock are refused, as AWS does.
    pub fn refuse_skew(&self, refuse: bool) {
        self.shared.bucket.state().refuses_skew = refuse;
    }

    /// From now on requests that are signed for another region than this are refused, as AWS and MinIO do.
    pub fn mind_region(&self, region: &'static str) {
        self.shared.bucket.state().region = Some(region);
    }

    /// From now on puts are answered as in a bucket with versioning; older versions are not really kept.
    pub fn claim_versions(&self, versioned: bool) {
        self.shared.bucket.state().versioned = versioned;
    }

    /// Entries on a page of a listing; 1000 at first.
    pub fn set_page(&self, entries: usize) {
        self.shared.bucket.state().page = entries;
    }

    /// An object's content.
    pub fn object(&self, key: &str) -> Option<Bytes> {
        self.shared.bucket.state().objects.get(key).map(|object| object.body.clone())
    }

    /// All keys, ascending.
    pub fn keys(&self) -> Vec<String> {
        self.shared.bucket.state().objects.keys().cloned().collect()
    }

    /// Removes an object behind everybody's back.
    pub fn remove(&self, key: &str) -> bool {
        self.shared.bucket.state().objects.remove(key).is_some()
    }

    /// Gives an object another content, behind everybody's back; its times and its metadata stay.
    pub fn replace(&self, key: &str, body: Bytes) -> bool {
        self.shared.bucket.state().objects.get_mut(key).map(|object| object.body = body).is_some()
    }

    /// Gives an object another key, behind everybody's back.
    pub fn rename(&self, from: &str, to: &str) -> bool {
        let mut state = self.shared.bucket.state();
        let object = state.objects.remove(from);
        object.is_some_and(|object| state.objects.insert(to.into(), object).is_none())
    }

    /// Drops the metadata of all objects, as a copy by some other tool does.
    pub fn forget_metadata(&self) {
        for object in self.shared.bucket.state().objects.values_mut() {
            object.metadata.clear();
        }
    }

    /// How many multipart uploads are unfinished.
    pub fn uploads(&self) -> usize {
        self.shared.bucket.uploads()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(
    listener: std::net::TcpListener,
    tls: Option<TlsAcceptor>,
    shared: Shared,
    mut stopped: oneshot::Receiver<()>,
) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    let mut builder = S3ServiceBuilder::new(shared.bucket.clone());
    builder.set_auth(OneKey);
    builder.set_host(AnyName);
    let service = builder.build();
    loop {
        tokio::select! {
            _ = &mut stopped => return,
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    tokio::spawn(connection(stream, tls.clone(), service.clone(), shared.clone()));
                }
            }
        }
    }
}

/// Knows one key, and says of others what S3 says.
struct OneKey;

#[async_trait::async_trait]
impl S3Auth for OneKey {
    async fn get_secret_key(&self, access_key: &str) -> s3s::S3Result<SecretKey> {
        if access_key == ACCESS_KEY {
            return Ok(SECRET_KEY.into());
        }
        Err(s3s::s3_error!(
            InvalidAccessKeyId,
            "The AWS Access Key Id you provided does not exist in our records."
        ))
    }
}

/// Answers to every name; one that begins with the bucket's names the bucket.
struct AnyName;

impl S3Host for AnyName {
    fn parse_host_header<'a>(&'a self, host: &'a str) -> s3s::S3Result<VirtualHost<'a>> {
        Ok(match host.split_once('.') {
            Some((BUCKET, domain)) => VirtualHost::new(domain).with_bucket(BUCKET),
            _ => VirtualHost::new(host),
        })
    }
}

async fn connection(stream: TcpStream, tls: Option<TlsAcceptor>, service: S3Service, shared: Shared) {
    match tls {
        None => http(TokioIo::new(stream), service, shared).await,
        Some(tls) => {
            // A client that does not trust us goes away.
            if let Ok(stream) = tls.accept(stream).await {
                http(TokioIo::new(stream), service, shared).await;
            }
        }
    }
}

async fn http<I: Read + Write + Unpin + Send + 'static>(io: I, service: S3Service, shared: Shared) {
    let answer = service_fn(|request: hyper::Request<Incoming>| {
        let (service, shared) = (service.clone(), shared.clone());
        async move { respond(request, service, shared).await }
    });
    // An error here is a fault that was asked for, or a client that went away.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, answer).await;
}

fn tls_acceptor() -> io::Result<TlsAcceptor> {
    let certificates: Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(include_bytes!("../tls/server.pem")).collect();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("../tls/server.key")).map_err(io::Error::other)?;
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(certificates.map_err(io::Error::other)?, key)
        .map_err(io::Error::other)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn respond(
    request: hyper::Request<Incoming>,
    service: S3Service,
    shared: Shared,
) -> Result<Response, io::Error> {
    let method = request.method().to_string();
    let target = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    let headers = request.headers().iter();
    let headers =
        headers.map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into()));
    lock(&shared.log).push(Request {
        method: method.clone(),
        target: target.clone(),
        headers: headers.collect(),
    });
    let fault = lock(&shared.rules)
        .iter_mut()
        .find_map(|rule| rule.strikes(&method, &target).then(|| rule.fault.clone()));
    match &fault {
        Some(Fault::ResetBefore) => return Err(io::Error::other("reset before")),
        Some(Fault::Stall) => std::future::pending().await,
        Some(Fault::Answer { status, code, retry_after }) => {
            drop(request.into_body().collect().await);
            return Ok(dated(error(*status, code, *retry_after), &shared));
        }
        Some(Fault::Page(status)) => {
            drop(request.into_body().collect().await);
            let page = "<!DOCTYPE html><html><body><h1>Hello</h1></body></html>";
            return Ok(dated(answer(*status, page.into()), &shared));
        }
        _ => {}
    }
    if shared.bucket.minds_time() {
        drop(request.into_body().collect().await);
        let message = "The difference between the request time and the current time is too large.";
        return Ok(dated(answer(403, xml("RequestTimeTooSkewed", message, "")), &shared));
    }
    if let Some(region) = shared.bucket.other_region(request.headers().get(AUTHORIZATION)) {
        drop(request.into_body().collect().await);
        let message =
            format!("The authorization header is malformed; the region is wrong; expecting '{region}'");
        let more = format!("<Region>{region}</Region>");
        return Ok(dated(answer(400, xml("AuthorizationHeaderMalformed", &message, &more)), &shared));
    }
    let range = request.headers().get(RANGE).cloned();
    let response =
        service.call(request.map(s3s::Body::from)).await.map_err(|_| io::Error::other("no answer"))?;
    let response = response.map(|body| body.map_err(io::Error::other).boxed_unsync());
    let response = match fault {
        Some(Fault::ResetAfter) => return Err(io::Error::other("reset after")),
        Some(Fault::DoneButFailed) => error(500, "InternalError", None),
        Some(Fault::ErrorInside) => error(200, "InternalError", None),
        Some(Fault::CutAnswer(bytes)) => {
            cut(response, bytes, futures::future::ready(Err(io::Error::other("cut")))).await?
        }
        Some(Fault::StallInside(bytes)) => cut(response, bytes, futures::future::pending()).await?,
        Some(Fault::ShortAnswer(bytes)) => short(response, bytes).await?,
        Some(Fault::IgnoreRange) if range.is_some() => unranged(response, &target, &shared),
        _ => response,
    };
    Ok(dated(response, &shared))
}

/// Sets the `Date` of this server's own clock.
fn dated(mut response: Response, shared: &Shared) -> Response {
    let now = s3s::dto::Timestamp::from(shared.bucket.now());
    let mut text = Vec::new();
    if now.format(s3s::dto::TimestampFormat::HttpDate, &mut text).is_ok()
        && let Ok(value) = HeaderValue::from_bytes(&text)
    {
        response.headers_mut().insert("date", value);
    }
    response
}

fn full(bytes: Bytes) -> AnyBody {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

fn answer(status: u16, text: String) -> Response {
    let mut response = hyper::Response::new(full(text.into()));
    *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or_default();
    response
}

/// The body of an error.
fn xml(code: &str, message: &str, more: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message>{more}</Error>"
    )
}

fn error(status: u16, code: &str, retry_after: Option<&'static str>) -> Response {
    let body = match code {
        "" => String::new(),
        code => xml(code, "asked for by the test", ""),
    };
    let mut response = answer(status, body);
    if let Some(after) = retry_after {
        response.headers_mut().insert("retry-after", HeaderValue::from_static(after));
    }
    response
}

/// The same headers and the beginning of the body, then what `end` comes to.
async fn cut(
    response: Response,
    bytes: usize,
    end: impl Future<Output = io::Result<Frame<Bytes>>> + Send + 'static,
) -> io::Result<Response> {
    let (parts, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    let kept = body.slice(..bytes.min(body.len()));
    let frames = futures::stream::iter([Ok(Frame::data(kept))]).chain(futures::stream::once(end));
    Ok(Response::from_parts(parts, StreamBody::new(frames).boxed_unsync()))
}

/// A shorter body that claims to be whole.
async fn short(response: Response, bytes: usize) -> Result<Response, io::Error> {
    let (mut parts, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    let kept = body.slice(..bytes.min(body.len()));
    parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(kept.len() as u64));
    Ok(Response::from_parts(parts, full(kept)))
}

/// The whole object with status 200, as from a service that knows no ranges.
fn unranged(mut response: Response, target: &str, shared: &Shared) -> Response {
    let path = target.split('?').next().unwrap_or(target);
    let key = path.splitn(3, '/').nth(2).unwrap_or_default();
    let Some(body) = shared.bucket.state().objects.get(key).map(|object| object.body.clone()) else {
        return response;
    };
    *response.status_mut() = hyper::StatusCode::OK;
    response.headers_mut().remove("content-range");
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(body.len() as u64));
    response.map(|_| full(body))
}
