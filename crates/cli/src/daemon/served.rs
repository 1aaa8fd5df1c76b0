//! What is served at `addr`: `/metrics` and `/health`.

use super::fleet::Fleet;
use super::http::{self, Listener, Listens, Request, Response};
use super::{health, metrics};
use std::io;
use std::net::{SocketAddr, TcpListener};
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
    tracing::info!(addr = %bound, url = page(addr, bound), "serving metrics on");
    Ok(())
}

/// Where the metrics are, as Litestream tells it: by the host that was asked for, or `localhost` for every address. The port
/// is the one that was bound.
fn page(asked: &str, bound: SocketAddr) -> String {
    let host = asked.rsplit_once(':').map_or(asked, |(host, _)| host);
    let host = if host.is_empty() { "localhost" } else { host };
    format!("http://{host}:{}/metrics", bound.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_told_as_litestream_tells_it() {
        let bound = |addr: &str| addr.parse().expect("an address");
        for (asked, listens, url) in [
            (":9090", "[::]:9090", "http://localhost:9090/metrics"),
            (":0", "0.0.0.0:4711", "http://localhost:4711/metrics"),
            ("localhost:9090", "127.0.0.1:9090", "http://localhost:9090/metrics"),
            ("127.0.0.1:0", "127.0.0.1:4711", "http://127.0.0.1:4711/metrics"),
            ("[::1]:9090", "[::1]:9090", "http://[::1]:9090/metrics"),
            ("0.0.0.0:9090", "0.0.0.0:9090", "http://0.0.0.0:9090/metrics"),
        ] {
            assert_eq!(page(asked, bound(listens)), url, "{asked}");
        }
    }
}
