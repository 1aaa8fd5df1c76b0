//! One request to an S3 service and its whole answer: signed, with time limits, redirected to the bucket's region.
//!
//! Keys are spelled here exactly as given. `object_store`'s own S3 verbs are not used for this: its paths can't hold
//! the leading slash that Litestream's keys have when a replica lies at the bucket's top, and its errors hide `Date`,
//! `Retry-After` and the difference between a missing bucket and a missing key. Its credential chain, its renewal and
//! its signing are used, the last except for keys with the segment `.` or `..`, which go a way of their own
//! ([`Verbatim`]).

use super::answer::{Answer, NoAnswer};
use super::body::Body;
use super::sigv4::Signer;
use super::tls;
use super::verbatim::{self, Verbatim};
use crate::body::Source;
use crate::budget::{Budget, Kind, Rates};
use crate::layout::Layout;
use crate::location::{Address, LocationError};
use crate::location::{CredentialSource, Credentials, GIVE_KEYS, Provider, RoleSource, S3Settings};
use bytes::{Bytes, BytesMut};
use litekeep_core::env::Clock;
use litekeep_formats::TimestampMs;
use object_store::aws::{
    AmazonS3Builder, AmazonS3ConfigKey, AwsAuthorizer, AwsCredential, AwsCredentialProvider,
};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse,
    HttpResponseBody, HttpService,
};
use object_store::{BackoffConfig, ClientOptions, RetryConfig, StaticCredentialProvider};
use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, mpsc};
use std::time::Duration;
use tokio::runtime::Runtime;

/// The slowest upload that is waited for, bytes a second; a body's size at this speed adds to the wait for an answer.
const SLOWEST: u64 = 32 * 1024;

/// No answer that is not an object's content is larger, bytes (a page of a listing is below 1 MiB).
const LARGEST_ANSWER: u64 = 16 << 20;

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    /// The key, as it is; `None` for the bucket itself.
    pub(crate) key: Option<String>,
    pub(crate) query: Vec<(&'static str, String)>,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(super) body: Body,
    /// SHA-256 of the body, computed once however often it is sent.
    digest: [u8; 32],
    /// How many bytes of the answer's body are wanted, beginning where.
    pub(crate) wanted: (u64, u64),
}

impl Ask {
    pub(crate) fn new(method: Method, key: Option<String>) -> Self {
        Self {
            method,
            key,
            query: Vec::new(),
            headers: Vec::new(),
            body: Bytes::new().into(),
            digest: sha256(&[]),
            wanted: (0, LARGEST_ANSWER),
        }
    }

    pub(crate) fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn body(mut self, body: Bytes) -> Self {
        self.digest = sha256(&body);
        self.body = body.into();
        self
    }

    /// A body that is read when it is sent; here it is read once for its digest.
    pub(crate) fn source(mut self, source: Arc<dyn Source>) -> io::Result<Self> {
        self.body = Body::new(source);
        self.digest = self.body.sha256()?;
        Ok(self)
    }

    /// Whether the key has a segment that URLs give a meaning of its own.
    fn is_dotted(&self) -> bool {
        self.key.as_deref().is_some_and(verbatim::is_dotted)
    }

    fn has_content(&self) -> bool {
        self.method == Method::PUT || self.method == Method::POST
    }

    /// The body for one try.
    fn content(&self) -> Result<Option<reqwest::Body>, NoAnswer> {
        let body = self.has_content().then(|| self.body.send()).transpose();
        body.map_err(|error| NoAnswer::NotSent(format!("its body: {error}")))
    }
}

/// A signed request, by the way it goes.
enum Ready {
    Usual(reqwest::Request),
    Verbatim(http::Request<reqwest::Body>),
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    let mut out = [0; 32];
    out.copy_from_slice(digest.as_ref());
    out
}

/// The connection to one bucket; clones share it.
#[derive(Clone)]
pub(crate) struct Client {
    shared: Arc<Shared>,
    /// Nothing that it sends is at the log's front.
    chores: bool,
}

struct Shared {
    http: reqwest::Client,
    verbatim: Verbatim,
    credentials: AwsCredentialProvider,
    settings: S3Settings,
    address: RwLock<Arc<Address>>,
    clock: Arc<dyn Clock>,
    /// See [`crate::retry::Policy::answer`].
    patience: Duration,
    /// The service's newest `Date`, and when (`Clock::boot`) it arrived.
    date: Mutex<Option<(TimestampMs, Duration)>>,
    budget: Arc<Budget>,
}

impl Client {
    pub(crate) fn open(
        settings: &S3Settings,
        clock: Arc<dyn Clock>,
        patience: Duration,
    ) -> Result<Self, NoAnswer> {
        let setup = |error: LocationError| NoAnswer::Setup(error.to_string());
        let address = Address::of(settings, encode_path).map_err(setup)?;
        let tls = tls::config(settings)?;
        let verbatim = Verbatim::new(tls.clone());
        let http = tls::client(tls)?;
        let credentials = match settings.static_credentials().map_err(setup)? {
            Some(found) => fixed(found),
            None => role(settings, &address, &http)?,
        };
        let private = address.is_private();
        let bucket = format!("{}{}", address.origin, address.prefix);
        let budget = Budget::shared(&bucket, Rates::of(address.provider, private), &clock);
        let shared = Shared {
            http,
            verbatim,
            credentials,
            settings: settings.clone(),
            address: RwLock::new(Arc::new(address)),
            clock,
            patience,
            date: Mutex::default(),
            budget,
        };
        Ok(Self { shared: Arc::new(shared), chores: false })
    }

    /// The same connection for what gives way to all others.
    pub(crate) fn for_chores(&self) -> Self {
        Self { chores: true, ..self.clone() }
    }

    pub(crate) fn settings(&self) -> &S3Settings {
        &self.shared.settings
    }

    pub(crate) fn provider(&self) -> Provider {
        self.address().provider
    }

    /// The service's clock now: its newest `Date` and the time since.
    pub(crate) fn server_time(&self) -> Option<TimestampMs> {
        let (date, arrived) = (*self.shared.date.lock().unwrap_or_else(PoisonError::into_inner))?;
        let since = self.shared.clock.boot().saturating_sub(arrived);
        Some(TimestampMs(date.0.saturating_add(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))))
    }

    /// Sends a request and waits for its whole answer. Call from any thread.
    pub(crate) fn ask(&self, ask: Ask) -> Result<Answer, NoAnswer> {
        self.begin(ask)?.wait()
    }

    /// Sends a request, as soon as the bucket's budget lets it, without waiting for its answer.
    pub(crate) fn begin(&self, ask: Ask) -> Result<Pending, NoAnswer> {
        self.shared.budget.admit(self.kind(&ask)).map_err(NoAnswer::LeftAlone)?;
        let (sender, receiver) = mpsc::sync_channel(1);
        let client = self.clone();
        spawn(async move {
            let answer = client.ask_in_region(ask).await;
            // The asker may have gone; then nobody needs the answer.
            let _ = sender.send(answer);
        })?;
        Ok(Pending { receiver })
    }

    fn kind(&self, ask: &Ask) -> Kind {
        let put = ask.method == Method::PUT || ask.method == Method::POST;
        let key = ask.key.as_deref().filter(|_| ask.method != Method::DELETE && !self.chores);
        Kind { put, front: key.is_some_and(|key| Layout::Bucket.is_front(key)) }
    }

    fn address(&self) -> Arc<Address> {
        Arc::clone(&self.shared.address.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// AWS tells where a bucket lies when it is asked in the wrong place; then it is asked there, from now on.
    async fn ask_in_region(&self, ask: Ask) -> Result<Answer, NoAnswer> {
        let answer = self.exchange(&ask).await?;
        let address = self.address();
        let Some(region) = answer.other_region() else { return Ok(answer) };
        if address.provider != Provider::Aws || address.region.as_deref() == Some(region.as_str()) {
            return Ok(answer);
        }
        let mut settings = self.shared.settings.clone();
        tracing::info!(bucket = settings.bucket, region, "the bucket lies in this region");
        settings.region = Some(region);
        let Ok(moved) = Address::of(&settings, encode_path) else { return Ok(answer) };
        *self.shared.address.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(moved);
        self.exchange(&ask).await
    }

    async fn exchange(&self, ask: &Ask) -> Result<Answer, NoAnswer> {
        let request = self.signed(ask).await?;
        let within = self.shared.patience + Duration::from_secs(ask.body.len() / SLOWEST);
        let sent = tokio::time::timeout(within, self.send(request)).await;
        let late = |_| NoAnswer::Lost(format!("no answer within {:.1} s", within.as_secs_f64()));
        let response = sent.map_err(late)??;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let answer = Answer { status, headers, body: Bytes::new(), dotted: ask.is_dotted() };
        if let Some(date) = answer.date() {
            let arrived = self.shared.clock.boot();
            *self.shared.date.lock().unwrap_or_else(PoisonError::into_inner) = Some((date, arrived));
        }
        let wanted = if answer.is_success() { ask.wanted } else { (0, LARGEST_ANSWER) };
        let body = collect(response, wanted, self.shared.patience).await?;
        let answer = Answer { body, ..answer };
        if let Some(after) = answer.asks_for_less() {
            self.shared.budget.asked_for_less(after, answer.setback().text);
        }
        Ok(answer)
    }

    async fn send(&self, request: Ready) -> Result<reqwest::Response, NoAnswer> {
        match request {
            Ready::Usual(request) => self.shared.http.execute(request).await.map_err(transport),
            Ready::Verbatim(request) => self.shared.verbatim.send(request).await,
        }
    }

    async fn signed(&self, ask: &Ask) -> Result<Ready, NoAnswer> {
        let address = self.address();
        let credential =
            self.shared.credentials.get_credential().await.map_err(|error| self.no_keys(&error))?;
        check(&credential)?;
        let mut request = unsigned(&address, ask)?;
        let region = address.region.as_deref().unwrap_or("us-east-1");
        let sign_payload = self.shared.settings.sign_payload;
        let unsignable =
            |why: &dyn std::fmt::Display| NoAnswer::Setup(format!("the request can't be signed: {why}"));
        if ask.is_dotted() {
            let signer = Signer { keys: &credential, region, time: self.shared.clock.wall() };
            let digest = sign_payload.then_some(&ask.digest);
            signer.sign(&mut request, digest).map_err(|error| unsignable(&error))?;
            let body = ask.content()?.unwrap_or_default();
            return Ok(Ready::Verbatim(request.map(|_| body)));
        }
        AwsAuthorizer::new(&credential, "s3", region)
            .with_sign_payload(sign_payload)
            .try_authorize(&mut request, Some(&ask.digest))
            .map_err(|error| unsignable(&error))?;
        let url = reqwest::Url::parse(&request.uri().to_string())
            .map_err(|error| NoAnswer::Setup(format!("no request can go to {}: {error}", address.origin)))?;
        let mut out = reqwest::Request::new(ask.method.clone(), url);
        *out.headers_mut() = std::mem::take(request.headers_mut());
        *out.body_mut() = ask.content()?;
        Ok(Ready::Usual(out))
    }

    /// Why there are no keys, and what to do. The same each time: what `object_store` says of it holds the time it took.
    fn no_keys(&self, error: &object_store::Error) -> NoAnswer {
        let CredentialSource::Role(role) = &self.shared.settings.credentials else {
            return NoAnswer::Setup(format!("no keys: {}", innermost(error)));
        };
        let (role, why) = (role.name(), innermost(error));
        NoAnswer::Setup(format!("no keys: {role} gave none ({why}); {GIVE_KEYS}"))
    }
}

/// The last cause of an error, which alone tells something, in one short line.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string().chars().filter(|c| !c.is_control()).take(200).collect()
}

/// Whether a request can be signed with these keys, which a role may have given.
fn check(credential: &AwsCredential) -> Result<(), NoAnswer> {
    let shown = [Some(&credential.key_id), credential.token.as_ref()];
    match shown.into_iter().flatten().all(|text| text.chars().all(|c| c.is_ascii_graphic())) {
        true => Ok(()),
        false => {
            Err(NoAnswer::Setup("the keys hold a line break, a space or what else no key has".to_owned()))
        }
    }
}

/// A request under way.
pub(crate) struct Pending {
    receiver: mpsc::Receiver<Result<Answer, NoAnswer>>,
}

impl Pending {
    pub(crate) fn wait(self) -> Result<Answer, NoAnswer> {
        self.receiver.recv().unwrap_or(Err(NoAnswer::Died))
    }
}

/// The HTTP client of a bucket, for a request that is none of a bucket's.
pub(crate) fn plain(settings: &S3Settings) -> Result<reqwest::Client, NoAnswer> {
    tls::client(tls::config(settings)?)
}

/// One worker thread for all buckets of the process: the work is waiting.
pub(crate) fn spawn(future: impl Future<Output = ()> + Send + 'static) -> Result<(), NoAnswer> {
    static RUNTIME: OnceLock<Result<Runtime, String>> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("litekeep-s3")
            .enable_io()
            .enable_time()
            .build()
            .map_err(|error| error.to_string())
    });
    match runtime {
        Ok(runtime) => drop(runtime.spawn(future)),
        Err(error) => {
            return Err(NoAnswer::Setup(format!("the network thread could not be started: {error}")));
        }
    }
    Ok(())
}

/// Reads the wanted bytes of a body and leaves the rest.
async fn collect(
    mut response: reqwest::Response,
    (mut skip, wanted): (u64, u64),
    patience: Duration,
) -> Result<Bytes, NoAnswer> {
    let mut body = BytesMut::new();
    loop {
        let piece = match tokio::time::timeout(patience, response.chunk()).await {
            Err(_) => {
                let text = format!("the answer stood still for {:.1} s", patience.as_secs_f64());
                return Err(NoAnswer::Lost(text));
            }
            Ok(Err(error)) => return Err(transport(error)),
            Ok(Ok(None)) => return Ok(body.freeze()),
            Ok(Ok(Some(piece))) => piece,
        };
        let skipped = usize::try_from(skip).unwrap_or(usize::MAX).min(piece.len());
        skip -= skipped as u64;
        let room = usize::try_from(wanted - body.len() as u64).unwrap_or(usize::MAX);
        let end = piece.len().min(skipped.saturating_add(room));
        body.extend_from_slice(&piece[skipped..end]);
        if body.len() as u64 == wanted && end < piece.len() {
            return Ok(body.freeze());
        }
    }
}

/// The error and its causes in one line, without the URL.
pub(crate) fn transport(error: reqwest::Error) -> NoAnswer {
    let (connect, error) = (error.is_connect(), error.without_url());
    unanswered(connect, error.to_string(), std::error::Error::source(&error))
}

/// No answer for this reason and its causes: one line, each cause told once.
pub(super) fn unanswered(
    connect: bool,
    mut text: String,
    mut source: Option<&(dyn std::error::Error + 'static)>,
) -> NoAnswer {
    while let Some(cause) = source {
        let line = cause.to_string();
        if !text.contains(&line) {
            text = format!("{text}: {line}");
        }
        source = cause.source();
    }
    match connect {
        true => NoAnswer::NotSent(text),
        false => NoAnswer::Lost(text),
    }
}

/// The request but for what its signature adds.
fn unsigned(address: &Address, ask: &Ask) -> Result<HttpRequest, NoAnswer> {
    let mut request = HttpRequest::new(HttpRequestBody::empty());
    *request.method_mut() = ask.method.clone();
    *request.uri_mut() = url_of(address, ask)
        .parse()
        .map_err(|_| NoAnswer::Setup("the object's URL can't be spelled".into()))?;
    let headers = request.headers_mut();
    for (name, value) in &ask.headers {
        let value = HeaderValue::from_str(value)
            .map_err(|_| NoAnswer::Setup(format!("the header {name} can't hold this value")))?;
        headers.insert(HeaderName::from_static(name), value);
    }
    if address.provider == Provider::Tigris {
        // Tigris lists and reads from the nearest place unless told otherwise (R60).
        headers.insert(HeaderName::from_static("x-tigris-consistent"), HeaderValue::from_static("true"));
    }
    if ask.has_content() {
        // Also when empty: some services insist on a length.
        headers.insert(reqwest::header::CONTENT_LENGTH, HeaderValue::from(ask.body.len()));
    }
    Ok(request)
}

fn url_of(address: &Address, ask: &Ask) -> String {
    let mut url = format!("{}{}", address.origin, address.prefix);
    match &ask.key {
        Some(key) => {
            url.push('/');
            url.push_str(&encode_path(key));
        }
        None if address.prefix.is_empty() => url.push('/'),
        None => {}
    }
    for (index, (name, value)) in ask.query.iter().enumerate() {
        url.push(if index == 0 { '?' } else { '&' });
        url.push_str(name);
        url.push('=');
        url.push_str(&encode(value, ""));
    }
    url
}

/// Percent-encodes a key or base path; slashes stay.
pub(crate) fn encode_path(path: &str) -> String {
    encode(path, "/")
}

fn encode(text: &str, kept: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte.into()),
            byte if kept.as_bytes().contains(&byte) => out.push(byte.into()),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn fixed(found: Credentials) -> AwsCredentialProvider {
    Arc::new(StaticCredentialProvider::new(AwsCredential {
        key_id: found.access_key_id,
        secret_key: found.secret_access_key.expose().into(),
        token: found.session_token.map(|token| token.expose().into()),
    }))
}

/// A role's keys, fetched and renewed by `object_store`.
fn role(
    settings: &S3Settings,
    address: &Address,
    http: &reqwest::Client,
) -> Result<AwsCredentialProvider, NoAnswer> {
    use AmazonS3ConfigKey as Key;
    let CredentialSource::Role(source) = &settings.credentials else {
        return Err(NoAnswer::Setup(format!("no credentials for {}", settings.location())));
    };
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&settings.bucket)
        .with_region(address.region.as_deref().unwrap_or("us-east-1"))
        .with_retry(RetryConfig {
            backoff: BackoffConfig::default(),
            max_retries: 3,
            retry_timeout: Duration::from_secs(15),
        })
        .with_http_connector(Connector(http.clone()));
    let mut set = |key, value: &Option<String>| {
        if let Some(value) = value {
            builder = std::mem::take(&mut builder).with_config(key, value);
        }
    };
    match source {
        RoleSource::WebIdentity { token_file, role_arn, session_name, sts_endpoint } => {
            set(Key::WebIdentityTokenFile, &Some(token_file.clone()));
            set(Key::RoleArn, &Some(role_arn.clone()));
            set(Key::RoleSessionName, session_name);
            set(Key::StsEndpoint, sts_endpoint);
        }
        RoleSource::Task { relative_uri } => {
            set(Key::ContainerCredentialsRelativeUri, &Some(relative_uri.clone()));
        }
        RoleSource::Pod { full_uri, token_file } => {
            set(Key::ContainerCredentialsFullUri, &Some(full_uri.clone()));
            set(Key::ContainerAuthorizationTokenFile, &Some(token_file.clone()));
        }
        RoleSource::Instance { endpoint } => set(Key::MetadataEndpoint, endpoint),
    }
    let built = builder.build().map_err(|error| NoAnswer::Setup(format!("credentials: {error}")))?;
    Ok(Arc::clone(built.credentials()))
}

/// Lets `object_store` fetch a role's keys through our HTTP client.
#[derive(Debug)]
struct Connector(reqwest::Client);

#[derive(Debug)]
struct Service(reqwest::Client);

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Service(self.0.clone())))
    }
}

#[async_trait::async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let wrong = |error: Box<dyn std::error::Error + Send + Sync>| {
            HttpError::new_boxed(HttpErrorKind::Request, error)
        };
        let (parts, body) = request.into_parts();
        let url = reqwest::Url::parse(&parts.uri.to_string()).map_err(|error| wrong(error.into()))?;
        let mut out = reqwest::Request::new(parts.method, url);
        *out.headers_mut() = parts.headers;
        *out.body_mut() = Some(body.as_bytes().cloned().unwrap_or_default().into());
        *out.timeout_mut() = Some(Duration::from_secs(5));
        let response = self.0.execute(out).await.map_err(|error| wrong(error.without_url().into()))?;
        let (status, headers): (_, HeaderMap) = (response.status(), response.headers().clone());
        let bytes = response.bytes().await.map_err(|error| wrong(error.without_url().into()))?;
        let mut answer = HttpResponse::new(HttpResponseBody::from(bytes));
        *answer.status_mut() = status;
        *answer.headers_mut() = headers;
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use crate::location::Secret;
    use crate::retry::Setback;
    use hyper_util::client::proxy::matcher::Matcher;
    use s3test::{Profile, Server};
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::time::SystemTime;

    /// Time goes by only where somebody waits; signatures need the true one.
    #[derive(Default)]
    struct Still(Mutex<Duration>);

    impl Clock for Still {
        fn wall(&self) -> TimestampMs {
            #[allow(clippy::disallowed_methods, reason = "services refuse signatures of another time")]
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
            TimestampMs(i64::try_from(now.as_millis()).unwrap())
        }
        fn boot(&self) -> Duration {
            *self.0.lock().unwrap()
        }
        fn sleep(&self, duration: Duration) {
            *self.0.lock().unwrap() += duration;
        }
    }

    fn settings() -> S3Settings {
        S3Settings {
            endpoint: Some("http://127.0.0.1:1".to_owned()),
            access_key_id: Some("key".to_owned()),
            secret_access_key: Some(Secret::new("secret")),
            ..S3Settings::new("bucket", "db")
        }
    }

    fn client(settings: &S3Settings) -> Result<Client, NoAnswer> {
        Client::open(settings, Arc::new(Still::default()), Duration::from_secs(1))
    }

    #[test]
    fn keys_that_no_header_takes_are_an_error_at_the_door_and_one_of_the_request_where_a_role_gave_them() {
        let bad = "key\n".to_owned();
        let given = S3Settings { access_key_id: Some(bad.clone()), ..settings() };
        let NoAnswer::Setup(text) = client(&given).err().unwrap() else { unreachable!() };
        assert_eq!(
            text,
            "access-key-id ends with a line break; store it without (printf %s adds none, echo does)"
        );

        let good = client(&settings()).unwrap();
        let (secret_key, token) = ("secret".to_owned(), Some("to ken".to_owned()));
        for (key_id, token) in [(bad, None), ("key".to_owned(), token)] {
            let keys = AwsCredential { key_id, secret_key: secret_key.clone(), token };
            let credentials: AwsCredentialProvider = Arc::new(StaticCredentialProvider::new(keys));
            let role = Client { shared: Arc::new(with_keys(&good, credentials)), chores: false };
            let answer = role.ask(Ask::new(Method::GET, None)).err().unwrap().setback();
            assert_eq!((answer.kind, answer.text.contains("the keys hold")), (ErrorKind::FixConfig, true));
        }
    }

    fn with_keys(client: &Client, credentials: AwsCredentialProvider) -> Shared {
        let Shared { http, verbatim, settings, clock, patience, budget, .. } = &*client.shared;
        Shared {
            http: http.clone(),
            verbatim: verbatim.clone(),
            credentials,
            settings: settings.clone(),
            address: RwLock::new(client.address()),
            clock: Arc::clone(clock),
            patience: *patience,
            date: Mutex::default(),
            budget: Arc::clone(budget),
        }
    }

    #[test]
    fn a_request_whose_task_died_is_a_bug_and_not_tried_again() {
        let (sender, receiver) = mpsc::sync_channel(1);
        drop(sender);
        let setback = Pending { receiver }.wait().err().unwrap().setback();
        assert_eq!((setback.kind, setback.ambiguous), (ErrorKind::Bug, true));
    }

    #[test]
    fn a_machine_without_a_role_is_told_the_same_way_each_time_and_what_to_do() {
        let role = RoleSource::Instance { endpoint: Some("http://127.0.0.1:1".to_owned()) };
        let bare =
            S3Settings { credentials: CredentialSource::Role(role), ..S3Settings::new("bucket", "db") };
        let client = client(&bare).unwrap();
        for _ in 0..2 {
            let setback = client.ask(Ask::new(Method::GET, None)).err().unwrap().setback();
            let wanted = format!(
                "no keys: none are set, and this machine's role gave none (Connection refused (os error 111)); {GIVE_KEYS}"
            );
            assert_eq!((setback.kind, setback.text), (ErrorKind::FixConfig, wanted));
        }
    }

    #[test]
    fn a_slot_is_at_the_front_for_whoever_writes_or_looks_and_never_for_a_chore() {
        let client = client(&settings()).unwrap();
        let slot = "db/0000/0000000000000001-0000000000000001.ltx";
        let merged = "db/0001/0000000000000001-0000000000000004.ltx";
        for (method, key, front) in [
            (Method::PUT, slot, true),
            (Method::GET, slot, true),
            (Method::HEAD, slot, true),
            (Method::DELETE, slot, false),
            (Method::GET, merged, false),
            (Method::PUT, merged, false),
        ] {
            let ask = Ask::new(method.clone(), Some(key.to_owned()));
            assert_eq!(client.kind(&ask).front, front, "{method} {key}");
            assert!(!client.for_chores().kind(&ask).front, "{method} {key} of a chore");
        }
    }

    /// A proxy for one connection, which it leads to `server` whatever is asked for; gives its address, and then what
    /// was asked.
    fn tunnel_to(server: &str) -> (String, mpsc::Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (server, (sender, asked)) = (server.to_owned(), mpsc::channel());
        std::thread::spawn(move || {
            let (mut near, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                near.read_exact(&mut byte).unwrap();
                head.extend(byte);
            }
            sender.send(String::from_utf8(head).unwrap()).unwrap();
            near.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            let far = TcpStream::connect(server).unwrap();
            let (mut from, mut to) = (near.try_clone().unwrap(), far.try_clone().unwrap());
            std::thread::spawn(move || io::copy(&mut from, &mut to));
            let _ = io::copy(&mut &far, &mut near);
        });
        (address, asked)
    }

    /// A client of the in-process server whose requests for keys with dots find these proxies in the environment.
    fn behind(proxies: Matcher, endpoint: &str) -> Client {
        let settings = S3Settings {
            endpoint: Some(endpoint.to_owned()),
            region: Some(s3test::REGION.to_owned()),
            force_path_style: Some(false),
            skip_verify: true,
            access_key_id: Some(s3test::ACCESS_KEY.to_owned()),
            secret_access_key: Some(Secret::new(s3test::SECRET_KEY)),
            ..S3Settings::new(s3test::BUCKET, "")
        };
        let mut client = client(&settings).unwrap();
        let tls = tls::config(&settings).unwrap();
        Arc::get_mut(&mut client.shared).unwrap().verbatim = Verbatim::with_proxies(tls, proxies);
        client
    }

    #[test]
    fn a_key_with_dots_goes_through_a_proxys_tunnel_to_a_bucket_named_by_its_host() {
        let server = Server::start_tls(Profile::Aws).unwrap();
        let (proxy, asked) = tunnel_to(server.endpoint().trim_start_matches("https://"));
        let proxies = Matcher::builder().https(format!("http://user:pass@{proxy}")).build();
        let client = behind(proxies, "https://s3.example");
        let ask = |method| Ask::new(method, Some("./0000/../x".to_owned()));
        let put = client.ask(ask(Method::PUT).body(Bytes::from_static(b"content"))).unwrap();
        assert_eq!((put.status, put.code()), (200, String::new()));
        assert_eq!(client.ask(ask(Method::GET)).unwrap().body, "content");
        assert_eq!(server.keys(), ["./0000/../x"]);
        for request in server.take_log() {
            assert_eq!(request.target, "/./0000/../x");
            assert_eq!(request.header("host"), Some("test.s3.example"));
        }
        let asked = asked.recv().unwrap();
        assert!(asked.starts_with("CONNECT test.s3.example:443 HTTP/1.1\r\n"), "{asked}");
        assert!(asked.contains("Proxy-Authorization: Basic dXNlcjpwYXNz\r\n"), "{asked}");
    }

    #[test]
    fn a_proxy_that_no_key_with_dots_can_go_through_is_an_error_and_never_passed_by() {
        let server = Server::start(Profile::Aws).unwrap();
        let ask = || Ask::new(Method::GET, Some("./x".to_owned()));
        for (endpoint, proxy) in [
            (server.endpoint(), "http://user:pass@proxy.example:3128"),
            ("https://s3.example", "https://user:pass@proxy.example"),
            ("https://s3.example", "socks5://user:pass@proxy.example"),
        ] {
            let told = behind(Matcher::builder().all(proxy).build(), endpoint).ask(ask()).err().unwrap();
            let Setback { kind, text, .. } = told.setback();
            let host = if endpoint == server.endpoint() { "127.0.0.1" } else { "test.s3.example" };
            assert_eq!(kind, ErrorKind::FixConfig, "{text}");
            assert!(
                text.contains("proxy.example") && text.contains(&format!("add {host} to NO_PROXY")),
                "{text}"
            );
            assert!(!text.contains("pass"), "{text}");
        }
        assert!(server.take_log().is_empty());
        let spared = Matcher::builder().all("http://proxy.example:3128").no("127.0.0.1").build();
        assert_eq!(behind(spared, server.endpoint()).ask(ask()).unwrap().code(), "NoSuchKey");
    }
}
