//! One request and its answer, or why there is none. Decides nothing about trying again.
//!
//! Redirects are not followed: a POST would come out of one as a GET, and a token would go where nobody sent it.

use super::credentials::Server;
use super::trouble::Trouble;
use futures::future::{Either, select};
use reqwest::Method;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, LOCATION, RETRY_AFTER};
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use std::cell::RefCell;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// Time to look up, connect and shake hands.
const CONNECT: Duration = Duration::from_secs(5);
/// Time for a whole answer; the server's own patience with a write is 10 s.
const ANSWER: Duration = Duration::from_secs(15);
/// No answer is larger, bytes: a full page of a list, 500 posts of 5000 characters of four bytes, is 10 MB.
const LARGEST_ANSWER: usize = 16 << 20;
const USER_AGENT: &str = concat!("oraclenet/", env!("CARGO_PKG_VERSION"));

/// A request.
#[derive(Clone)]
pub(crate) struct Ask {
    /// GET, POST, PATCH or DELETE.
    pub(crate) method: Method,
    /// From the server's address on; made of constants and ids only.
    pub(crate) path: String,
    /// Name and value, not yet escaped.
    pub(crate) query: Vec<(&'static str, String)>,
    /// Sent as JSON.
    pub(crate) body: Option<Value>,
    /// Sent as `Authorization: Bearer`.
    pub(crate) token: Option<String>,
}

impl Ask {
    /// A request without query, body and token.
    pub(crate) fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), query: Vec::new(), body: None, token: None }
    }
}

/// What a server answered.
#[derive(Debug)]
pub(crate) struct Answer {
    /// HTTP status.
    pub(crate) status: u16,
    /// `Retry-After`, where it is a number of seconds.
    pub(crate) retry_after: Option<Duration>,
    /// Where a redirect points.
    pub(crate) location: Option<String>,
    /// The body; `Err` holds the text of one that is no JSON.
    pub(crate) body: Result<Value, String>,
}

/// There is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// The request never left: nothing happened.
    NotSent(String),
    /// It may have been received, and may have been done.
    Lost(String),
    /// A signal came first.
    Stopped,
}

/// The connection to one server.
pub(crate) struct Http {
    runtime: Runtime,
    client: reqwest::Client,
    server: Server,
    stop: RefCell<watch::Receiver<bool>>,
}

impl Http {
    /// A client for this server; nothing is sent yet. `stop` turns true when everything is to end.
    ///
    /// # Errors
    /// The runtime or TLS cannot be set up.
    pub(crate) fn new(server: Server, stop: watch::Receiver<bool>) -> Result<Self, Trouble> {
        let explain = |why: String| Trouble::new("the HTTP client can't be set up").cause(why);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| explain(error.to_string()))?;
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls(server.is_secure()).map_err(|error| explain(error.to_string()))?)
            .user_agent(USER_AGENT)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .timeout(ANSWER)
            .http1_only()
            .build()
            .map_err(|error| explain(error.to_string()))?;
        Ok(Self { runtime, client, server, stop: RefCell::new(stop) })
    }

    /// The server's address.
    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    /// Sends it once.
    ///
    /// # Errors
    /// There is no answer, or not all of it.
    pub(crate) fn send(&self, ask: &Ask) -> Result<Answer, NoAnswer> {
        let mut stop = self.stop.borrow_mut();
        self.runtime.block_on(async {
            let ended = pin!(stop.wait_for(|stop| *stop));
            match select(ended, pin!(exchange(&self.client, &self.server, ask))).await {
                Either::Left((Ok(_), _)) => Err(NoAnswer::Stopped),
                // Nobody is left who could say stop.
                Either::Left((Err(_), exchange)) => exchange.await,
                Either::Right((answer, _)) => answer,
            }
        })
    }

    /// Waits; `false` if a signal came first.
    pub(crate) fn pause(&self, duration: Duration) -> bool {
        let mut stop = self.stop.borrow_mut();
        self.runtime.block_on(async {
            let ended = pin!(stop.wait_for(|stop| *stop));
            match select(ended, pin!(tokio::time::sleep(duration))).await {
                Either::Left((Ok(_), _)) => false,
                Either::Left((Err(_), sleep)) => {
                    sleep.await;
                    true
                }
                Either::Right(_) => true,
            }
        })
    }
}

async fn exchange(client: &reqwest::Client, server: &Server, ask: &Ask) -> Result<Answer, NoAnswer> {
    let url = format!("{server}{}", ask.path);
    let mut url = reqwest::Url::parse(&url).map_err(|error| NoAnswer::NotSent(error.to_string()))?;
    if !ask.query.is_empty() {
        url.query_pairs_mut().extend_pairs(&ask.query);
    }
    let mut request = client.request(ask.method.clone(), url);
    if let Some(token) = &ask.token {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    if let Some(body) = &ask.body {
        request = request.header(CONTENT_TYPE, "application/json").body(body.to_string());
    }
    let mut response = request.send().await.map_err(transport)?;
    let status = response.status().as_u16();
    let retry_after = header(response.headers(), RETRY_AFTER.as_str())
        .and_then(|text| text.trim().parse().ok())
        .map(Duration::from_secs);
    let location = header(response.headers(), LOCATION.as_str());
    let mut bytes = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(transport)? {
        if bytes.len() + piece.len() > LARGEST_ANSWER {
            return Err(NoAnswer::Lost(format!("the answer is larger than {LARGEST_ANSWER} bytes")));
        }
        bytes.extend_from_slice(&piece);
    }
    let body = match &bytes[..] {
        [] => Ok(Value::Null),
        bytes => serde_json::from_slice(bytes).map_err(|_| String::from_utf8_lossy(bytes).into_owned()),
    };
    Ok(Answer { status, retry_after, location, body })
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// The error and its causes in one line, without the URL.
fn transport(error: reqwest::Error) -> NoAnswer {
    let not_sent = error.is_connect() || error.is_builder();
    let error = error.without_url();
    // The chain begins with "error sending request" and says more the deeper it goes.
    let mut lines: Vec<String> = Vec::new();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        let line = cause.to_string();
        // Which layer it went through is nothing to the reader; what the layer below says is.
        let layer = line.starts_with("client error (") && cause.source().is_some();
        let known = lines.iter().any(|known| known.contains(&line));
        if !(layer || known) {
            lines.push(line);
        }
        source = cause.source();
    }
    let text = match (lines.is_empty(), error.is_timeout()) {
        (_, true) if not_sent => format!("no connection within {} s", CONNECT.as_secs()),
        (_, true) => format!("no answer within {} s", ANSWER.as_secs()),
        (true, false) => error.to_string(),
        (false, false) => lines.join(": "),
    };
    if not_sent { NoAnswer::NotSent(text) } else { NoAnswer::Lost(text) }
}

/// rustls with ring, and the system's certificates; else, in a container that has none, the Mozilla roots that come
/// with this program. They are read only for an https address: no redirect leads from http to it.
fn tls(secure: bool) -> Result<ClientConfig, rustls::Error> {
    let mut roots = RootCertStore::empty();
    if secure {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    if secure && roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    Ok(ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}
