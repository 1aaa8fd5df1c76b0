//! HTTP as a client that never retries speaks it: one request, one connection, one answer or none.

use crate::error::DrillError;
use crate::shown::shown;
use reqwest::Method;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// Time to connect.
const CONNECT: Duration = Duration::from_secs(5);
/// Time for a whole answer. The server's own patience with a write is 10 s.
const ANSWER: Duration = Duration::from_secs(30);
/// How much of an error's text is kept, in bytes.
const SAID: usize = 60;

/// A client of one address.
#[derive(Clone)]
pub struct Api {
    client: reqwest::Client,
    base: String,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Whether there is a `Retry-After`.
    pub retry_after: bool,
    /// The body, if it is JSON.
    pub body: Value,
}

impl Reply {
    /// What an answer that is no 2xx says, short.
    #[must_use]
    pub fn said(&self) -> String {
        let mut text = self.body["message"].as_str().unwrap_or_default().to_owned();
        if let Some(outcome) = self.body["data"]["outcome"].as_str() {
            text = format!("{text} ({outcome})");
        }
        let end = (0..=SAID.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text
    }
}

impl Api {
    /// A client for `base` (`http://127.0.0.1:1234`). Nothing is sent yet.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(base: &str) -> Result<Self, DrillError> {
        let failed = |error: &dyn std::fmt::Display| DrillError::machine("the HTTP client", error);
        let secure = base.starts_with("https:");
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls(secure).map_err(|error| failed(&error))?)
            .user_agent(concat!("oraclenet-prove/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .pool_max_idle_per_host(0)
            .connect_timeout(CONNECT)
            .timeout(ANSWER)
            .http1_only();
        if !secure {
            builder = builder.no_proxy(); // what runs here is reached directly
        }
        let client = builder.build().map_err(|error| failed(&error))?;
        Ok(Self { client, base: base.trim_end_matches('/').to_owned() })
    }

    /// Sends a request once; `Err` says how it was cut.
    pub async fn send(&self, method: Method, path: &str, token: &str, body: &Value) -> Result<Reply, String> {
        let mut request =
            self.client.request(method, format!("{}{path}", self.base)).header("connection", "close");
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if !body.is_null() {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let response = request.send().await.map_err(|error| told(&error))?;
        let status = response.status().as_u16();
        let retry_after = response.headers().contains_key("retry-after");
        let bytes = response.bytes().await.map_err(|error| told(&error))?;
        Ok(Reply { status, retry_after, body: serde_json::from_slice(&bytes).unwrap_or(Value::Null) })
    }

    /// `GET`, which must be answered with 200.
    ///
    /// # Errors
    /// It was not.
    pub async fn get(&self, path: &str, token: &str) -> Result<Value, DrillError> {
        self.must(Method::GET, path, token, &Value::Null).await
    }

    /// A request that the harness itself needs, answered with 2xx.
    ///
    /// # Errors
    /// It was not.
    pub async fn must(
        &self,
        method: Method,
        path: &str,
        token: &str,
        body: &Value,
    ) -> Result<Value, DrillError> {
        let what = format!("{method} {path}");
        match self.send(method, path, token, body).await {
            Ok(reply) if (200..300).contains(&reply.status) => Ok(reply.body),
            Ok(reply) => Err(DrillError::system(format!("{what}: {} {}", reply.status, reply.said()))),
            Err(why) => Err(DrillError::system(format!("{what}: {why}"))),
        }
    }
}

/// The deepest cause says most.
fn told(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("no answer within {} s", ANSWER.as_secs());
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    match error.url() {
        Some(url) => cause.to_string().replace(url.as_str(), &shown(url.as_str())),
        None => cause.to_string(),
    }
}

/// rustls with ring and the system's certificates, else the Mozilla roots that come with this program.
///
/// # Errors
/// The versions of TLS cannot be set up.
pub(crate) fn tls(secure: bool) -> Result<rustls::ClientConfig, rustls::Error> {
    let mut roots = rustls::RootCertStore::empty();
    if secure {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
    }
    Ok(rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}
