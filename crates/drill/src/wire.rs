//! The way from the containers to the bucket, which can be slow or cut.
//!
//! Plain forwarding for a bucket that is reached by http, and a CONNECT proxy (`HTTPS_PROXY`) for one behind TLS. It reads
//! and changes nothing of what goes through.

use crate::error::DrillError;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// A piece that is forwarded at once, bytes.
const PIECE: usize = 64 << 10;
/// Pieces that may be on their way in one direction of a connection.
const PIECES: usize = 64;
/// The longest head of a CONNECT request, bytes.
const HEAD: usize = 8 << 10;

/// How the way is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// As fast as this machine.
    Fair,
    /// Each piece waits so long, in each direction.
    Slow(Duration),
    /// Connections are cut, and no new ones come through.
    Down,
}

/// Where connections go.
#[derive(Debug, Clone)]
pub enum Way {
    /// All to this `host:port`.
    To(String),
    /// Where each asks to go, by `CONNECT`.
    Connect,
}

/// A wire; it is taken down when dropped.
pub struct Wire {
    /// Where containers connect to.
    pub address: SocketAddr,
    weather: watch::Sender<Weather>,
    task: JoinHandle<()>,
}

impl Wire {
    /// Listens on a free port of this machine.
    ///
    /// # Errors
    /// There is none.
    pub async fn start(way: Way) -> Result<Self, DrillError> {
        let failed = |error: io::Error| DrillError::machine("the way to the bucket", &error);
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (weather, seen) = watch::channel(Weather::Fair);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (way, seen) = (way.clone(), seen.clone());
                tokio::spawn(async move {
                    let mut down = seen.clone();
                    tokio::select! {
                        _ = down.wait_for(|weather| *weather == Weather::Down) => {}
                        _ = connection(client, &way, &seen) => {}
                    }
                });
            }
        });
        Ok(Self { address, weather, task })
    }

    /// Changes the weather, at once and for open connections as well.
    pub fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
        self.weather.send_replace(Weather::Down);
    }
}

async fn connection(mut client: TcpStream, way: &Way, weather: &watch::Receiver<Weather>) -> io::Result<()> {
    client.set_nodelay(true)?;
    let server = match way {
        Way::To(address) => TcpStream::connect(address).await?,
        Way::Connect => {
            let target = asked(&mut client).await?;
            let server = TcpStream::connect(&target).await?;
            client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").await?;
            server
        }
    };
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::try_join!(pump(from_client, to_server, weather), pump(from_server, to_client, weather))?;
    Ok(())
}

/// The target of `CONNECT host:port HTTP/1.1`, with its head read to the end and not a byte further.
async fn asked(client: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= HEAD {
            return Err(io::Error::other("the head of a CONNECT is too long"));
        }
        head.push(client.read_u8().await?);
    }
    let text = String::from_utf8_lossy(&head);
    let target = text.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next());
    target.map(str::to_owned).ok_or_else(|| io::Error::other("not a CONNECT"))
}

/// Each piece is handed on when its time has come, while the next ones are on their way: latency, not a narrow pipe.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    weather: &watch::Receiver<Weather>,
) -> io::Result<()> {
    let (send, mut receive) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES);
    let read = async move {
        let mut piece = vec![0; PIECE];
        loop {
            let count = from.read(&mut piece).await?;
            let now = *weather.borrow();
            let delay = if let Weather::Slow(delay) = now { delay } else { Duration::ZERO };
            // The end takes as long as any piece; it is an empty one.
            let sent = send.send((Instant::now() + delay, piece[..count].to_vec())).await;
            if count == 0 || sent.is_err() {
                return Ok::<(), io::Error>(());
            }
        }
    };
    let write = async move {
        while let Some((due, piece)) = receive.recv().await {
            tokio::time::sleep_until(due).await;
            if piece.is_empty() {
                return to.shutdown().await;
            }
            to.write_all(&piece).await?;
        }
        Ok(())
    };
    tokio::try_join!(read, write)?;
    Ok(())
}
