//! The platform's router: one address for clients, whose connections go to the containers that have traffic.
//!
//! It forwards bytes and reads none of them. It never retries and answers nothing itself: a container that is gone is a
//! connection that is cut, so a client sees what the system under test did.

use crate::error::DrillError;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A container that may get traffic.
#[derive(Debug, Clone)]
pub struct Backend {
    /// Where it listens.
    pub address: SocketAddr,
    /// Connections that it has from here.
    pub open: Arc<AtomicUsize>,
}

/// See the module's text. It stops when dropped.
pub struct Proxy {
    /// Where clients connect to.
    pub address: SocketAddr,
    route: Arc<Mutex<Route>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Route {
    backends: Vec<Backend>,
    next: usize,
}

impl Backend {
    /// A container without connections.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Self { address, open: Arc::default() }
    }

    /// How many connections are open.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}

impl Proxy {
    /// Listens on a free port of this machine.
    ///
    /// # Errors
    /// There is none.
    pub async fn start() -> Result<Self, DrillError> {
        let failed = |error: std::io::Error| DrillError::machine("the router's address", &error);
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let route = Arc::<Mutex<Route>>::default();
        let shared = Arc::clone(&route);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // No backend: the connection is cut by being dropped.
                if let Some(backend) = choose(&shared) {
                    tokio::spawn(forward(client, backend));
                }
            }
        });
        Ok(Self { address, route, task })
    }

    /// From now on new connections go to these, in turns.
    pub fn route(&self, backends: Vec<Backend>) {
        self.route.lock().unwrap_or_else(PoisonError::into_inner).backends = backends;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Counts the connection in the same step, so that a drain never misses one.
fn choose(route: &Mutex<Route>) -> Option<Backend> {
    let mut route = route.lock().unwrap_or_else(PoisonError::into_inner);
    let count = route.backends.len();
    route.next = route.next.wrapping_add(1);
    let backend = route.backends.get(route.next.checked_rem(count)?)?.clone();
    backend.open.fetch_add(1, Ordering::SeqCst);
    Some(backend)
}

async fn forward(mut client: TcpStream, backend: Backend) {
    if let Ok(mut server) = TcpStream::connect(backend.address).await {
        let _ = client.set_nodelay(true);
        let _ = server.set_nodelay(true);
        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await; // either side may go away
    }
    backend.open.fetch_sub(1, Ordering::SeqCst);
}
