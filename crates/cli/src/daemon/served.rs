//! What is served at `addr`: `/metrics` and `/health`.

use super::fleet::Fleet;
use super::http::{self, Listener, Listens, Request, Response};
use super::{health, metrics};
use std::io;
use std::net::TcpListener;
use std::sync::Arc;

/// Serves from now on, where `addr` says: `host:port`, or `:port` for every address of this machine. Port 0 is a free one.
///
/// # Errors
/// The address cannot be had.
pub(crate) fn start(addr: &str, fleet: &Arc<Fleet>) -> io::Result<()> {
    let listener = match addr.strip_prefix(':') {
        Some(port) => TcpListener::bind(format!("[::]:{port}"))
            .or_else(|_| TcpListener::bind(format!("0.0.0.0:{port}")))?,
        None => TcpListener::bind(addr)?,
    };
    let bound = listener.local_addr()?;
    let (served, started) = (Arc::clone(fleet), fleet.clock().wall());
    let answer =
        move |request: &Request, _: Listens<'_>| match (request.method().as_str(), request.uri().path()) {
            ("GET", "/metrics") => Response {
                status: 200,
                kind: "text/plain; version=0.0.4; charset=utf-8",
                body: metrics::text(&served, started).into_bytes(),
            },
            ("GET", "/health") => health::answer(&served, request),
            ("GET", _) => Response::text(404, "there are /metrics and /health\n"),
            _ => Response::text(405, "only GET is answered\n"),
        };
    http::serve("metrics", Listener::Tcp(listener), Arc::new(answer))?;
    tracing::info!(addr = %bound, url = format!("http://{bound}/metrics"), "serving metrics on");
    Ok(())
}
