//! Connections: accepted up to a limit, together and for each address, each with bounds on its head, its silence and
//! on how long it may leave unread what it is sent; all ended in order.

use crate::http::client_address::{ClientKey, Network};
use crate::limits;
use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Sleep;
use tower::ServiceExt as _;

/// A pause after an accept that failed, mostly for want of descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// Open connections of one address. Proxies that are trusted, and this machine, may have more: they stand for many.
const OF_ONE: usize = 256;
/// How long a client may take nothing of what waits for it.
const WRITE_TIME: Duration = Duration::from_secs(60);

/// How many connections each address has.
#[derive(Default)]
struct Crowd(Mutex<HashMap<ClientKey, usize>>);

/// A place in the crowd; dropping it frees it.
struct Place {
    crowd: Arc<Crowd>,
    key: Option<ClientKey>,
}

impl Crowd {
    fn counts(&self) -> MutexGuard<'_, HashMap<ClientKey, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` when the address has all that one may have.
    fn enter(self: &Arc<Self>, address: IpAddr, trusted: &[Network]) -> Option<Place> {
        let many = address.to_canonical().is_loopback() || trusted.iter().any(|it| it.contains(address));
        let key = (!many).then(|| ClientKey::from(address));
        if let Some(key) = key {
            let mut counts = self.counts();
            let count = counts.entry(key).or_default();
            if *count >= OF_ONE {
                return None;
            }
            *count += 1;
        }
        Some(Place { crowd: Arc::clone(self), key })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        let mut counts = self.crowd.counts();
        if let Entry::Occupied(mut count) = counts.entry(key) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// A stream whose writes fail when the other side has taken nothing for `time`.
struct Patient<S> {
    stream: S,
    time: Duration,
    /// Runs while a write waits.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    fn new(stream: S, time: Duration) -> Self {
        Self { stream, time, waiting: None }
    }

    /// What a write came to, or that it waited for too long.
    fn within<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<std::io::Result<T>>,
    ) -> Poll<std::io::Result<T>> {
        if written.is_ready() {
            self.waiting = None;
            return written;
        }
        let time = self.time;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(time)));
        waiting.as_mut().poll(context).map(|()| Err(std::io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.within(context, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(context, parts);
        this.within(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

/// Serves until `stop` says so, then lets the requests that are under way finish, for `grace` at most.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    trusted: &[Network],
    stop: watch::Receiver<bool>,
    grace: Duration,
) {
    let crowd = Arc::new(Crowd::default());
    let places = Arc::new(Semaphore::new(limits::CONNECTIONS));
    let mut stopping = stop.clone();
    loop {
        let place = Arc::clone(&places).acquire_owned();
        let accepted = async {
            let place = place.await.expect("BUG: the semaphore is never closed");
            (listener.accept().await, place)
        };
        tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => break,
            (accepted, place) = accepted => match accepted {
                // One too many is closed at once.
                Ok((stream, peer)) => if let Some(of_address) = crowd.enter(peer.ip(), trusted) {
                    let places = (place, of_address);
                    tokio::spawn(connection(stream, peer, router.clone(), stop.clone(), places));
                },
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    let all = u32::try_from(limits::CONNECTIONS).unwrap_or(u32::MAX);
    if tokio::time::timeout(grace, places.acquire_many(all)).await.is_err() {
        let left = limits::CONNECTIONS - places.available_permits();
        tracing::warn!(connections = left, "some requests did not finish in time");
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    mut stop: watch::Receiver<bool>,
    places: (OwnedSemaphorePermit, Place),
) {
    let _ = stream.set_nodelay(true); // only latency
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        router.clone().oneshot(request)
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limits::HEAD_TIME).max_buf_size(limits::HEAD);
    let connection = builder.serve_connection(TokioIo::new(Patient::new(stream, WRITE_TIME)), service);
    tokio::pin!(connection);
    let told = async { stop.wait_for(|stop| *stop).await.map(drop) };
    tokio::select! {
        _ = connection.as_mut() => return, // it ended, or a client went away or broke the protocol
        _ = told => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
    drop(places);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes the first byte of each write, or nothing.
    struct Reader {
        takes: bool,
    }

    impl AsyncWrite for Reader {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<std::io::Result<usize>> {
            if self.takes { Poll::Ready(Ok(1)) } else { Poll::Pending }
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn a_write_that_gets_nowhere_fails_and_one_that_goes_on_does_not() {
        for (takes, wanted) in [(true, Ok(1)), (false, Err(std::io::ErrorKind::TimedOut))] {
            let mut stream = Patient::new(Reader { takes }, Duration::from_millis(10));
            let written =
                std::future::poll_fn(|context| Pin::new(&mut stream).poll_write(context, b"ab")).await;
            assert_eq!(written.map_err(|error| error.kind()), wanted);
        }
    }

    #[test]
    fn an_address_has_so_many_connections_and_those_that_stand_for_many_have_more() {
        let crowd = Arc::new(Crowd::default());
        let trusted: [Network; 1] = ["10.0.0.0/8".parse().unwrap()];
        for (address, limited) in
            [("192.0.2.1", true), ("2001:db8::1", true), ("10.1.2.3", false), ("127.0.0.1", false)]
        {
            let address: IpAddr = address.parse().unwrap();
            let mut places: Vec<_> = (0..OF_ONE).map(|_| crowd.enter(address, &trusted).unwrap()).collect();
            assert_eq!(crowd.enter(address, &trusted).is_none(), limited, "{address}");
            places.pop();
            assert!(crowd.enter(address, &trusted).is_some(), "{address}: one has gone");
        }
        assert!(crowd.counts().is_empty(), "nothing is kept of those who went");
    }
}
