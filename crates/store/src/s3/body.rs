//! A request's body: bytes, or a source that is read while it is sent.

use crate::body::{self, Source};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use ring::digest::{Context, SHA256};
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use tokio::sync::mpsc;

/// How many pieces may be read ahead of the network.
const AHEAD: usize = 2;

/// See the module's text; clones share it.
#[derive(Clone)]
pub(super) struct Body(Arc<dyn Source>);

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self(Arc::new(bytes))
    }
}

impl Body {
    pub(super) fn new(source: Arc<dyn Source>) -> Self {
        Self(source)
    }

    pub(super) fn len(&self) -> u64 {
        self.0.len()
    }

    /// The piece at `offset`, empty at the end.
    pub(super) fn piece(&self, offset: u64) -> io::Result<Bytes> {
        body::piece(&*self.0, offset)
    }

    pub(super) fn sha256(&self) -> io::Result<[u8; 32]> {
        let mut context = Context::new(&SHA256);
        body::pieces(&*self.0, |piece| {
            context.update(piece);
            Ok(())
        })?;
        let mut out = [0; 32];
        out.copy_from_slice(context.finish().as_ref());
        Ok(out)
    }

    /// The body for one try, within the network's runtime. What fits into one piece goes as it is.
    pub(super) fn send(&self) -> io::Result<reqwest::Body> {
        if self.len() <= body::PIECE {
            return Ok(self.piece(0)?.into());
        }
        let (sender, receiver) = mpsc::channel(AHEAD);
        let this = self.clone();
        drop(tokio::task::spawn_blocking(move || {
            let mut at = 0;
            while at < this.len() {
                let piece = this.piece(at);
                at += piece.as_ref().map_or(0, |piece| piece.len() as u64);
                let failed = piece.is_err();
                // Who no longer listens has given the request up.
                if sender.blocking_send(piece).is_err() || failed {
                    return;
                }
            }
        }));
        Ok(reqwest::Body::wrap(Sent { receiver, left: self.len() }))
    }
}

/// Pieces on their way.
struct Sent {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    left: u64,
}

impl http_body::Body for Sent {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let piece = match ready!(self.receiver.poll_recv(context)) {
            Some(Ok(piece)) => piece,
            Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            None => return Poll::Ready(None),
        };
        self.left = self.left.saturating_sub(piece.len() as u64);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
