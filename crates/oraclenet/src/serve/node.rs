//! The node: started on the database, waited for until it may be read or written, and ended.

use super::boot::{NOTICE, Opened, Stopped};
use super::options::Options;
use super::{Trouble, World, exit};
use crate::db::Durability;
use crate::db::{Owning, Standing};
use litekeep::error::{KeepError, KeepErrorKind};
use litekeep::files::RealFiles;
use litekeep::jobs::Threads;
use litekeep::node::{Node, NodeSettings, Role};
use litekeep::replicator::Env;
use litekeep::{restore, settings};
use litekeep_core::decisions::Decisions;
use litekeep_core::ownership::Times;
use litekeep_store::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

/// How long the replica may be in trouble before the start is given up.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the engine may take to end when the start is given up; what it began stays good for the next start.
const GIVE_UP: Duration = Duration::from_secs(5);
/// The least time between two slots: answers wait for them, so it only bounds the rate of requests.
const SYNC_INTERVAL: Duration = Duration::from_millis(10);
/// How often an idle owner looks for a claim above its own, and a standby for the next slot; more often where a hand-over
/// takes less time, but not more often than that.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const LEAST_LOOK: Duration = Duration::from_millis(100);

/// How long one question for what the replica has may take, before signals are looked at again.
const LOOK: Duration = Duration::from_secs(2);

/// What came of waiting.
pub(super) enum Ready {
    /// It follows or owns.
    Yes(Node),
    /// A signal came.
    Stopped,
    /// Somebody else has begun the replica since this start made a new database.
    Overtaken,
}

/// Starts the node.
pub(super) fn start(
    world: &World,
    options: &Options,
    opened: &Opened,
    database: &Path,
    fresh: bool,
    owning: Arc<Owning>,
) -> Result<Node, Trouble> {
    let env = Env {
        clock: Arc::clone(&world.clock),
        random: Arc::clone(&world.random),
        files: Arc::new(RealFiles),
        vfs: None,
        store: Arc::clone(&opened.store),
        spawner: Arc::new(Threads),
        decisions: Decisions::RIGHT,
    };
    let settings = NodeSettings {
        replication: settings::Settings {
            sync_interval: SYNC_INTERVAL,
            durability: match options.durability {
                Durability::Replicated => settings::Durability::Replicated,
                Durability::Local => settings::Durability::Local,
            },
            ..settings::Settings::default()
        },
        times: Times { hand_over: options.hand_over, ..Times::USUAL },
        // Several times within the hand-over, or the owner would be fenced instead of handing over.
        look_every: LOOK_EVERY.min((options.hand_over / 3).max(LEAST_LOOK)),
        fresh,
        single_writer: options.single_writer,
        ..NodeSettings::default()
    };
    let node = Node::start(env, settings, database, owning).map_err(|error| kept(&error))?;
    tracing::info!(replica = %opened.location, "replicating to");
    Ok(node)
}

/// Waits until the node has reached the end of the chain, or owns; with `own` only then. `fresh` is as it was started.
pub(super) fn ready(
    world: &World,
    node: Node,
    standing: &Standing,
    (fresh, own): (bool, bool),
    stopped: &Stopped,
) -> Result<Ready, Trouble> {
    let mut troubled: Option<Duration> = None;
    while !*stopped.borrow() {
        let state = standing.now();
        if node.ended() || state.role == Role::Ended {
            return match node.when_ended()().as_deref() {
                Some(KeepError::Beside { .. }) if fresh => Ok(Ready::Overtaken),
                Some(error) => Err(kept(error)),
                None => Err(Trouble::new(exit::FAILED, "the replication ended at the start")),
            };
        }
        // An owner serves when the replica has what the file holds.
        let owns = state.open && state.role == Role::Owner && node.sync(LOOK).is_ok();
        if owns || state.role == Role::Standby && !own {
            evidence(&node, state.role);
            return Ok(Ready::Yes(node));
        }
        if own {
            node.ask_to_own();
        }
        let now = world.clock.boot();
        let status = node.status();
        match status.trouble.or_else(|| status.replication?.trouble) {
            Some(error) => {
                if now.saturating_sub(*troubled.get_or_insert(now)) >= PATIENCE {
                    give_up(node);
                    return Err(kept(&error));
                }
            }
            None => troubled = None,
        }
        world.clock.sleep(NOTICE);
    }
    give_up(node);
    Ok(Ready::Stopped)
}

/// Says what the node is, up to where, and in which epoch.
pub(super) fn evidence(node: &Node, role: Role) {
    let status = node.status();
    let told = |what: Option<String>| what.unwrap_or_else(|| "none".to_owned());
    let txid = told(status.txid.map(|txid| txid.to_string()));
    let epoch = told(status.epoch.map(|epoch| epoch.to_string()));
    match role {
        Role::Starting => {}
        Role::Standby => tracing::info!(%txid, "standby: following the replica"),
        Role::Acquiring => tracing::info!(%txid, "asking for the ownership of the replica"),
        Role::Owner => tracing::info!(%txid, %epoch, "owning the replica"),
        Role::Leaving => tracing::info!(%txid, %epoch, "handing the replica over: no more writes are taken"),
        Role::Returning => {
            tracing::warn!(%txid, "the replica was taken over: returning to what is durable");
        }
        Role::Ended => tracing::info!(%txid, "the replication has ended"),
    }
}

/// Ends the node, which may be waiting for a store that does not answer: then without waiting for it.
fn give_up(node: Node) {
    node.begin_stop(GIVE_UP);
    let ended = node.when_ended();
    let (tell, told) = mpsc::channel();
    let waiting = std::thread::Builder::new().name("ended".to_owned()).spawn(move || {
        let _ = tell.send(ended().is_none());
    });
    if waiting.is_err() || told.recv_timeout(GIVE_UP * 2).is_err() {
        tracing::warn!("the replication did not end in time; it ends with the process");
        std::mem::forget(node); // dropping it would wait
    }
}

/// An error of the engine, with its exit code.
pub(super) fn kept(error: &KeepError) -> Trouble {
    let code = match (error, error.kind()) {
        (KeepError::Ended(Some(inner)), _) => return kept(inner),
        (KeepError::Unsent { .. } | KeepError::Uncaptured { .. } | KeepError::Gone { .. }, _) => {
            exit::NOT_SYNCED
        }
        (_, KeepErrorKind::Fenced) => exit::FENCED,
        (KeepError::Wiped { .. }, _) => restore::exit::WIPED,
        (KeepError::Beside { .. } | KeepError::Behind { .. }, _) => exit::BESIDE,
        (KeepError::NoCreateOnly(_), _) => exit::UNFIT,
        (KeepError::Store(error), _) if error.kind() == ErrorKind::DataDamaged => restore::exit::DAMAGED,
        (KeepError::Store(_), _) => restore::exit::UNREACHABLE,
        _ => exit::FAILED,
    };
    let trouble = Trouble::new(code, error.to_string());
    match (error, error.hint()) {
        (KeepError::NoCreateOnly(_), Some(hint)) => trouble.hint(format!("{hint}: --single-writer")),
        (_, Some(hint)) => trouble.hint(hint),
        (_, None) => trouble,
    }
}
