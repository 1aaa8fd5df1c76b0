//! The server's life: boot, serve, and an end in which nothing accepted is lost.

use super::boot::{self, Booted};
use super::options::Options;
use super::{Trouble, World, exit, listen, log, node};
use crate::auth::password::{Limits, Passwords};
use crate::auth::wallet::Nonces;
use crate::db::adopt::{self, AdoptError};
use crate::db::{Db, Replica, State};
use crate::http::doubts::Doubts;
use crate::http::rate_limit::{MAX_WINDOWS, RateLimits};
use crate::http::router;
use crate::http::state::AppState;
use crate::limits;
use crate::random::{Source, System};
use crate::realtime::Hub;
use crate::replication::{Kept, Replication, Told};
use crate::web::{self, Place};
use litekeep::node::{Node, Role};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;

/// How long requests that are under way may take to finish at the end, beyond the acknowledgement's time.
const FINISH: Duration = Duration::from_secs(2);
/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;
/// How often the lag is measured.
const SAMPLE: Duration = Duration::from_secs(2);

/// Runs the server until a signal, or until it cannot go on.
pub fn run(world: &World, words: &[OsString]) -> ExitCode {
    match serve(world, words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => trouble.tell(),
    }
}

fn serve(world: &World, words: &[OsString]) -> Result<(), Trouble> {
    let mut options = Options::read(world, words)?;
    log::install(options.log);
    let (stop, stopped) = watch::channel(false);
    let stop = Arc::new(stop);
    let asked = Arc::new(OnceLock::new());
    on_signal(&stop, &asked)?;
    // Who reads this may end it in order from here on.
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "oraclenet");
    let source: Arc<dyn Source> =
        Arc::new(System::open().map_err(|error| Trouble::new(exit::FAILED, error.to_string()))?);
    let socket = reserve(options.http)?;
    let Some(booted) = boot::boot(world, &options, &source, &stopped)? else {
        tracing::info!("stopped before serving");
        return Ok(());
    };
    let (node, _marker) = (booted.node.clone(), Arc::clone(&booted.marker));
    if let Some(node) = &node {
        let _ = asked.set(Arc::clone(node)); // the only one
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Trouble::new(exit::FAILED, format!("no runtime: {error}")))?;
    let served = runtime.block_on(async {
        let listener = socket.listen(BACKLOG).map_err(|error| occupied(options.http, &error))?;
        let address = listener.local_addr().map_err(|error| Trouble::new(exit::FAILED, error.to_string()))?;
        if options.config.public_url.is_empty() {
            options.config.public_url = format!("http://{address}");
        }
        let state = state(world, &options, booted, &source)?;
        tell(&format!("Server started at http://{address}"));
        live(&state, listener, &stop, stopped, &options, node.as_ref()).await
    });
    runtime.shutdown_timeout(FINISH);
    let ended = end(node, options.shutdown_timeout);
    served.and(ended)
}

/// Takes the address before anything is owned: a second start by mistake fails here, and the server that runs there
/// keeps its replica. Nobody can connect before the boot is done.
fn reserve(address: SocketAddr) -> Result<TcpSocket, Trouble> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let bound = socket.and_then(|socket| {
        socket.set_reuseaddr(true)?; // connections of the last run may linger; a listener is in the way all the same
        socket.bind(address)?;
        Ok(socket)
    });
    bound.map_err(|error| occupied(address, &error))
}

fn occupied(address: SocketAddr, error: &std::io::Error) -> Trouble {
    Trouble::new(exit::FAILED, format!("cannot listen on {address}: {error}"))
        .hint("is another server running there? --http chooses another address")
}

/// The line that scripts wait for.
fn tell(line: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{line}"); // nobody reads it: no reason to stop
}

/// SIGTERM and SIGINT end the server. SIGUSR1 asks for the ownership: `oraclenet superuser` sends it.
fn on_signal(stop: &Arc<watch::Sender<bool>>, asked: &Arc<OnceLock<Arc<Node>>>) -> Result<(), Trouble> {
    use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
    let failed =
        |error: std::io::Error| Trouble::new(exit::FAILED, format!("cannot listen for signals: {error}"));
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGUSR1]).map_err(failed)?;
    let (stop, asked) = (Arc::clone(stop), Arc::clone(asked));
    let thread = std::thread::Builder::new().name("signals".to_owned());
    thread
        .spawn(move || {
            let mut heard = false; // an end that nobody has signalled yet is not the first signal
            for signal in signals.forever() {
                if signal == SIGUSR1 {
                    // A server that stops takes the data from nobody.
                    if let Some(node) = asked.get().filter(|_| !*stop.borrow()) {
                        node.ask_to_own();
                    }
                    continue;
                }
                stop.send_replace(true);
                if std::mem::replace(&mut heard, true) {
                    tracing::warn!("second signal received, ending at once");
                    std::process::exit(128 + signal);
                }
                tracing::info!(signal, "signal received, shutting down");
            }
        })
        .map_err(failed)?;
    Ok(())
}

fn state(
    world: &World,
    options: &Options,
    booted: Booted,
    source: &Arc<dyn Source>,
) -> Result<Arc<AppState>, Trouble> {
    let schema = Arc::new(booted.schema);
    let hub = Arc::new(Hub::new(Arc::clone(&schema), Arc::clone(source), Arc::clone(&world.clock)));
    let listener = Arc::clone(&hub);
    let keeping = booted.keeping;
    let gate = Arc::clone(&keeping.gate);
    gate.listen(Box::new(move |changes| listener.publish(changes)));
    if let Some(node) = &booted.node {
        gate.ask(Arc::clone(node) as Arc<dyn Replica>);
    }
    let standing = Arc::clone(&keeping.standing);
    let db = Db::start(&booted.database, keeping, options.ack_timeout).map_err(|error| {
        Trouble::new(exit::FAILED, format!("cannot open {}: {error}", booted.database.display()))
    })?;
    let place = booted.replica.as_ref().map_or(Place::Nowhere, |opened| opened.place);
    let kept = booted.node.zip(booted.replica).map(|(node, opened)| Kept {
        node,
        store: opened.store,
        location: opened.location,
    });
    let told = Told { place, durability: options.durability, restore: booted.restore };
    let replication = Replication::new(kept, told, standing, gate, Arc::clone(&world.clock));
    let at_once = std::thread::available_parallelism().map_or(1, usize::from);
    let queue = Limits { at_once, waiting: limits::PASSWORDS_WAITING };
    Ok(Arc::new(AppState {
        schema,
        db,
        clock: Arc::clone(&world.clock),
        source: Arc::clone(source),
        passwords: Passwords::new(queue, Arc::clone(source)),
        nonces: Mutex::new(Nonces::default()),
        doubts: Doubts::default(),
        limits: Mutex::new(RateLimits::new(options.rate_limits.rules(), MAX_WINDOWS)),
        hub,
        replication: Arc::new(replication),
        config: options.config.clone(),
    }))
}

/// Serves until there is a reason to stop, then finishes what was begun.
async fn live(
    state: &Arc<AppState>,
    listener: TcpListener,
    stop: &Arc<watch::Sender<bool>>,
    stopped: watch::Receiver<bool>,
    options: &Options,
    node: Option<&Arc<Node>>,
) -> Result<(), Trouble> {
    let replication = Arc::clone(&state.replication);
    let site = web::Site {
        db: state.db.clone(),
        clock: Arc::clone(&state.clock),
        schema: Arc::clone(&state.schema),
        base_url: state.config.public_url.clone(),
        replication: Arc::new(move || replication.view()),
    };
    let (hub, db) = (Arc::clone(&state.hub), state.db.clone());
    tokio::spawn(async move { hub.run(db).await });
    let sampled = Arc::clone(&state.replication);
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(SAMPLE);
        loop {
            ticks.tick().await;
            sampled.sample();
        }
    });
    if let Some(node) = node {
        stop_with(node, stop)?;
        tokio::spawn(follow_roles(Arc::clone(node), Arc::clone(&state.hub), state.db.watch()));
    }
    let refused = tokio::spawn(watch_mark(state.db.clone(), Arc::clone(stop), stopped.clone()));
    let router = router::router(Arc::clone(state), Arc::new(site));
    let mut ending = stopped.clone();
    let (hub, db) = (Arc::clone(&state.hub), state.db.clone());
    tokio::spawn(async move {
        let _ = ending.wait_for(|stop| *stop).await;
        db.stop_asking();
        hub.close(); // else those who listen would hold the end up
    });
    let trusted = &state.config.trusted;
    listen::serve(listener, router, trusted, stopped, options.ack_timeout + FINISH).await;
    state.db.close().await;
    match refused.await {
        Ok(Some(error)) => Err(Trouble::new(exit::FAILED, error.to_string())),
        Ok(None) | Err(_) => Ok(()),
    }
}

/// Stops a standby when the owner, which is of a later version, has made the database one that this version must not
/// serve; why, or `None` at any other end.
async fn watch_mark(
    db: Db,
    stop: Arc<watch::Sender<bool>>,
    mut stopped: watch::Receiver<bool>,
) -> Option<AdoptError> {
    let mut ticks = tokio::time::interval(SAMPLE);
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => return None,
            _ = ticks.tick() => {}
        }
        // What cannot be read at all is told by whoever reads for an answer.
        if let Err(error @ AdoptError::Newer(_)) = db.read_as_is(adopt::check).await {
            tracing::error!(%error, "the database has become one of a later version, shutting down");
            stop.send_replace(true);
            return Some(error);
        }
    }
}

/// Says each change of the role in the log. When the writing is handed over, those who listen are sent away: what the
/// next owner writes is told there, and a proxy leads them to it when they come back.
async fn follow_roles(node: Arc<Node>, hub: Arc<Hub>, mut states: watch::Receiver<State>) {
    let mut known = *states.borrow_and_update();
    while states.changed().await.is_ok() {
        let state = *states.borrow_and_update();
        if state.handed_over != known.handed_over {
            hub.send_away();
        }
        if state.role != known.role {
            node::evidence(&node, state.role);
        }
        known = state;
    }
}

/// A server whose replication has ended serves nobody: what it would accept could not be kept.
fn stop_with(node: &Arc<Node>, stop: &Arc<watch::Sender<bool>>) -> Result<(), Trouble> {
    let (ended, stop) = (node.when_ended(), Arc::clone(stop));
    let thread = std::thread::Builder::new().name("ended".to_owned());
    let spawned = thread.spawn(move || {
        if let Some(error) = ended() {
            tracing::error!(%error, "replication has ended, shutting down");
            stop.send_replace(true);
        }
    });
    spawned.map(drop).map_err(|error| Trouble::new(exit::FAILED, format!("no thread: {error}")))
}

/// The end of the node: an owner brings its last changes up and closes its epoch. The gate, the pages and the state have
/// let go of it by now, or never will.
fn end(node: Option<Arc<Node>>, limit: Duration) -> Result<(), Trouble> {
    let Some(node) = node else { return Ok(()) };
    let ended = node.when_ended();
    // Not by its epoch: who owns a store that cannot create only has none.
    let owned = matches!(node.status().role, Role::Owner | Role::Leaving);
    node.begin_stop(limit);
    match ended() {
        None if !owned => {
            tracing::info!("a standby has nothing to bring up");
            Ok(())
        }
        None => {
            let txid = node.status().txid.map_or_else(String::new, |txid| txid.to_string());
            tracing::info!(%txid, "replica sync complete");
            Ok(())
        }
        Some(error) => {
            tracing::error!(%error, "final sync failed");
            Err(node::kept(&error))
        }
    }
}
