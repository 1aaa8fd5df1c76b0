//! Sends requests whose path must arrive as it is spelled: those for keys with the segment `.` or `..`.
//!
//! Litestream writes such keys (`./0000/...`) for a replica whose URL names no path. reqwest can't: its URLs are those
//! of browsers, in which the two segments have a meaning and are gone before anything is sent. Here the request goes
//! to hyper, which reqwest is made of, with the same certificates, time limits and errors. Redirects are never
//! followed. Of the proxies that the environment names, only an HTTP proxy in front of an HTTPS service is used; any
//! other is an error and never passed by.

use super::answer::NoAnswer;
use super::client::unanswered;
use super::tls;
use http::header::{ACCEPT, HeaderValue, USER_AGENT};
use http::uri::Scheme;
use http::{Request, Uri};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use std::error::Error as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::net::TcpStream;
use tower_service::Service;

/// Whether a key has a segment that URLs resolve.
pub(super) fn is_dotted(key: &str) -> bool {
    key.split('/').any(|segment| segment == "." || segment == "..")
}

/// The connections of these requests; clones share them.
#[derive(Clone)]
pub(super) struct Verbatim {
    http: Client<Connector, reqwest::Body>,
    proxies: Arc<Matcher>,
}

impl Verbatim {
    /// With the proxies of the environment, as reqwest reads them.
    pub(super) fn new(tls: ClientConfig) -> Self {
        Self::with_proxies(tls, Matcher::from_system())
    }

    pub(super) fn with_proxies(tls: ClientConfig, proxies: Matcher) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(tls::KEEPALIVE));
        let proxies = Arc::new(proxies);
        let connector = Connector { tcp, tls: Arc::new(tls), proxies: Arc::clone(&proxies) };
        let http = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(tls::IDLE)
            .build(connector);
        Self { http, proxies }
    }

    /// Sends a signed request and waits for the head of its answer. It must have its `Host`.
    pub(super) async fn send(
        &self,
        mut request: Request<reqwest::Body>,
    ) -> Result<reqwest::Response, NoAnswer> {
        if let Some(proxy) = self.proxies.intercept(request.uri())
            && !is_tunnel(&proxy, request.uri())
        {
            return Err(NoAnswer::Setup(no_way(&proxy, request.uri())));
        }
        // As reqwest does.
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("*/*"));
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(tls::USER_AGENT));
        match self.http.request(request).await {
            Ok(response) => Ok(response.map(reqwest::Body::wrap).into()),
            Err(error) => {
                let text = format!("error sending request: {error}");
                Err(unanswered(error.is_connect(), text, error.source()))
            }
        }
    }
}

/// Whether a connection to `to` can be had through the proxy as it is, without the proxy reading what goes through.
fn is_tunnel(proxy: &Intercept, to: &Uri) -> bool {
    proxy.uri().scheme() == Some(&Scheme::HTTP) && to.scheme() == Some(&Scheme::HTTPS)
}

fn no_way(proxy: &Intercept, to: &Uri) -> String {
    let host = to.host().unwrap_or_default();
    format!(
        "a key with the segment . or .. can't go to {host} through the proxy {}: that takes an http:// proxy and an \
         https:// service; add {host} to NO_PROXY to reach it directly",
        proxy.uri()
    )
}

type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Makes connections, directly or through a proxy's tunnel.
#[derive(Clone)]
struct Connector {
    tcp: HttpConnector,
    tls: Arc<ClientConfig>,
    proxies: Arc<Matcher>,
}

impl Connector {
    async fn connect(self, to: Uri) -> Result<Stream, BoxError> {
        let Some(proxy) = self.proxies.intercept(&to) else {
            return HttpsConnector::from((self.tcp, self.tls)).call(to).await;
        };
        let mut tunnel = Tunnel::new(proxy.uri().clone(), self.tcp);
        if let Some(auth) = proxy.basic_auth() {
            tunnel = tunnel.with_auth(auth.clone());
        }
        HttpsConnector::from((tunnel, self.tls)).call(to).await
    }
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let connecting = tokio::time::timeout(tls::CONNECT, self.clone().connect(to));
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "operation timed out");
        Box::pin(async move { connecting.await.map_err(late)? })
    }
}
