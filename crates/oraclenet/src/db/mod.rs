//! The database as the server uses it: one writer, a few readers, and the gate that holds an answer back until the
//! replica has what it speaks of.
//!
//! Nothing here knows HTTP or the collections' rules. Every change goes through [`Db::write`]; what it returns is in
//! the replica, or says that it may not be.

mod beats;
mod gate;
mod looks;
mod owning;
mod readers;
mod standing;
#[cfg(test)]
mod tests;
mod writer;

pub mod adopt;
pub mod open;
pub mod rows;
pub mod tables;

pub use beats::{Beat, Beats};
pub use gate::{Durability, Gate, Replica};
pub use looks::Arrival;
pub use owning::{Owning, Step};
pub use standing::{Seen, Standing, State};
pub use writer::Change;

use crate::limits;
use litekeep::node::Role;
use litekeep_core::env::Clock;
use litekeep_formats::Txid;
use looks::Looks;
use readers::Readers;
use rusqlite::Connection;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot, watch};
use writer::Writer;

/// What a change has to pass before it is answered.
#[derive(Clone)]
pub struct Keeping {
    /// Whether writes are taken here.
    pub standing: Arc<Standing>,
    /// Where answers wait.
    pub gate: Arc<Gate>,
    /// The node that keeps the replica, if there is one.
    pub replica: Option<Arc<dyn Replica>>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

impl Keeping {
    /// Without a replica: everything is written here and answered at once.
    pub fn alone(clock: Arc<dyn Clock>) -> Self {
        let (standing, gate) = (Arc::new(Standing::alone()), Gate::free(Arc::clone(&clock)));
        Self { standing, gate, replica: None, clock }
    }
}

/// What a write that went well gives back.
#[derive(Debug)]
pub struct Written<T> {
    /// What the closure gave.
    pub value: T,
    /// The replica's newest transaction when the answer was released; `None` where nothing is replicated.
    pub txid: Option<Txid>,
}

/// Why a refusal is not told.
const BEHIND: &str = "it could not be found out in time whether this server has all that the replica has";

/// A write that is not known to be durable.
#[derive(Debug)]
pub enum WriteError<E> {
    /// The closure refused; nothing was changed.
    Refused(E),
    /// Nothing was changed: too many are waiting, or the server stops or does not own the replica.
    NotApplied(&'static str),
    /// Committed here, and not known to be in the replica: it may yet become durable, or be undone.
    Unknown,
}

/// Handles are cheap to clone.
#[derive(Clone)]
pub struct Db {
    writer: Writer,
    readers: Arc<Readers>,
    keeping: Keeping,
    looks: Arc<Looks>,
    beats: Arc<Beats>,
    /// Places for writes that wait until this server owns.
    places: Arc<Semaphore>,
    ack_timeout: Duration,
    /// A server that stops does not become the owner any more.
    stopping: Arc<watch::Sender<bool>>,
    closing: Arc<AtomicBool>,
}

/// What became of a job.
enum Job<T, W> {
    /// It has run.
    Done(T),
    /// This server may not write any more: here is the work.
    Turned(W),
}

impl Db {
    /// Opens the connections to a database that is there and has its tables.
    ///
    /// # Errors
    /// SQLite's, when the file cannot be opened.
    pub fn start(path: &Path, keeping: Keeping, ack_timeout: Duration) -> rusqlite::Result<Self> {
        let beats = Arc::new(Beats::default());
        let Keeping { standing, gate, replica, clock } = &keeping;
        let connection = open::writer(path)?;
        let (place, gathers) = (Arc::clone(standing), Arc::clone(gate));
        let writer = Writer::start(connection, place, gathers, Arc::clone(&beats), Arc::clone(clock));
        let readers = Readers::new(path.to_owned(), limits::READERS, Arc::clone(&beats));
        let looks = Looks::new(replica.clone(), Arc::clone(standing), Arc::clone(clock), ack_timeout);
        Ok(Self {
            writer,
            readers: Arc::new(readers),
            looks: Arc::new(looks),
            keeping,
            beats,
            places: Arc::new(Semaphore::new(limits::OWNERSHIP_WAITING)),
            ack_timeout,
            stopping: Arc::new(watch::Sender::new(false)),
            closing: Arc::default(),
        })
    }

    /// Runs `query` on a reading connection, off the request threads. A standby looks first whether something was
    /// written elsewhere, if its last look was a while ago.
    ///
    /// # Errors
    /// The query's own; or SQLite's, when a connection cannot be had.
    pub async fn read<T, E>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<rusqlite::Error> + Send + 'static,
    {
        self.looks.fresh().await;
        self.read_as_is(query).await
    }

    /// The same of the local copy as it is, without a look at the replica.
    ///
    /// # Errors
    /// As [`Db::read`].
    pub async fn read_as_is<T, E>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<rusqlite::Error> + Send + 'static,
    {
        Arc::clone(&self.readers).run(query).await
    }

    /// To be taken as soon as a request comes that may write. A standby looks whether something was written elsewhere
    /// meanwhile, as long as it would for a read.
    pub async fn arrive(&self) -> Arrival {
        self.looks.arrive(self.ack_timeout).await
    }

    /// Runs `query` for a request that is to write, and may be refused by it. A copy that may be behind refuses nothing
    /// (what is missing may have been acknowledged elsewhere): it is brought up to the request first, as long as a write
    /// waits. Without an arrival it is a reader's query, as [`Db::read`].
    ///
    /// # Errors
    /// [`WriteError::Refused`] with the query's own; [`WriteError::NotApplied`] when the copy cannot be brought up in that
    /// time, or what was read of the caller before may have changed as well.
    pub async fn check<T, E>(
        &self,
        arrival: Option<Arrival>,
        query: impl Fn(&Connection) -> Result<T, E> + Clone + Send + 'static,
    ) -> Result<T, WriteError<E>>
    where
        T: Send + 'static,
        E: From<rusqlite::Error> + Send + 'static,
    {
        let Some(arrival) = arrival else { return self.read(query).await.map_err(WriteError::Refused) };
        match self.read_as_is(query.clone()).await {
            Err(_) if arrival.behind => {}
            checked => return checked.map_err(WriteError::Refused),
        }
        if self.looks.meet(&arrival).await
            && let Ok(value) = self.read_as_is(query).await
        {
            return Ok(value);
        }
        Err(WriteError::NotApplied(BEHIND))
    }

    /// A refusal for another reason than what a query said, of a request that read what was here: not told by a copy that
    /// may be behind, as in [`Db::check`].
    pub fn refuse<E>(arrival: Option<Arrival>, refusal: E) -> WriteError<E> {
        match arrival {
            Some(arrival) if arrival.behind => WriteError::NotApplied(BEHIND),
            _ => WriteError::Refused(refusal),
        }
    }

    /// Runs `work` in a transaction of its own and waits until the replica has it. `work` also names what changed, for
    /// those who listen; they hear of it once it is durable. A server that does not own asks for that first, so whatever
    /// can be refused without it must have been.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn write<T, E>(
        &self,
        work: impl FnOnce(&Connection, &mut Vec<Change>) -> Result<T, E> + Send + 'static,
    ) -> Result<Written<T>, WriteError<E>>
    where
        T: Send + 'static,
        E: From<rusqlite::Error> + Send + 'static,
    {
        let turn = Arc::new(Turn::default());
        match tokio::time::timeout(self.ack_timeout, self.write_in_turn(work, &turn)).await {
            Ok(result) => result,
            Err(_) if turn.give_up() => Err(WriteError::NotApplied(match self.keeping.standing.now().open {
                true => "too many writes are waiting",
                false => "this server has not become the owner of the data in time",
            })),
            Err(_) => Err(WriteError::Unknown),
        }
    }

    async fn write_in_turn<T, E, W>(&self, mut work: W, turn: &Arc<Turn>) -> Result<Written<T>, WriteError<E>>
    where
        T: Send + 'static,
        E: From<rusqlite::Error> + Send + 'static,
        W: FnOnce(&Connection, &mut Vec<Change>) -> Result<T, E> + Send + 'static,
    {
        loop {
            self.owned().await.map_err(WriteError::NotApplied)?;
            match self.queue(work, turn)?.await {
                // The permit was withdrawn while it was queued: it waits for the next one.
                Ok(Job::Turned(back)) => work = back,
                Ok(Job::Done(result)) => {
                    let (value, durable) = result?;
                    let txid = durable.await.map_err(|_| WriteError::Unknown)?;
                    return Ok(Written { value, txid });
                }
                Err(_) => return Err(WriteError::Unknown),
            }
        }
    }

    /// Waits until this server may write, and asks for it.
    async fn owned(&self) -> Result<(), &'static str> {
        let (mut states, mut stopping) = (self.keeping.standing.watch(), self.stopping.subscribe());
        if states.borrow().open {
            return Ok(());
        }
        let place = self.places.try_acquire();
        let _place = place.map_err(|_| "too many writes wait for the ownership of the data")?;
        loop {
            let state = *states.borrow_and_update();
            match (state, &self.keeping.replica) {
                (State { open: true, .. }, _) => return Ok(()),
                (State { role: Role::Ended, .. }, _) | (_, None) => return Err("replication has ended"),
                _ if *stopping.borrow_and_update() => return Err("the server is stopping"),
                // At each change: it may have owned and lost again before this task got its turn. And from time to time,
                // since a wish passes.
                (_, Some(replica)) => replica.ask_to_own(),
            }
            tokio::select! {
                _ = tokio::time::timeout(limits::ASK_AGAIN, states.changed()) => {}
                _ = stopping.changed() => {}
            }
        }
    }

    /// Gives a write to the writer.
    #[allow(clippy::type_complexity, reason = "what the job tells is taken apart by its one caller")]
    fn queue<T, E, W>(
        &self,
        work: W,
        turn: &Arc<Turn>,
    ) -> Result<
        oneshot::Receiver<Job<Result<(T, oneshot::Receiver<Option<Txid>>), WriteError<E>>, W>>,
        WriteError<E>,
    >
    where
        T: Send + 'static,
        E: From<rusqlite::Error> + Send + 'static,
        W: FnOnce(&Connection, &mut Vec<Change>) -> Result<T, E> + Send + 'static,
    {
        let (tell, told) = oneshot::channel();
        let (turn, closing, patience) = (Arc::clone(turn), Arc::clone(&self.closing), self.ack_timeout * 2);
        let gate = Arc::clone(&self.keeping.gate);
        let sent = self.writer.send(Box::new(move |connection| {
            let Some(connection) = connection else {
                let _ = tell.send(Job::Turned(work)); // whoever asked has gone: nothing was changed
                return;
            };
            let admitted = if closing.load(Ordering::Acquire) {
                Err("the server is stopping")
            } else {
                gate.admits(patience)
            };
            if !turn.begin() {
                return; // whoever asked was told that nothing was changed
            }
            let result = match admitted {
                Err(why) => Err(WriteError::NotApplied(why)),
                Ok(()) => {
                    let mut changes = Vec::new();
                    let result =
                        writer::in_transaction(connection, |connection| work(connection, &mut changes));
                    result.map(|value| (value, gate.enter(changes))).map_err(WriteError::Refused)
                }
            };
            let _ = tell.send(Job::Done(result)); // whoever asked has gone: the commit stands all the same
        }));
        sent.map(|()| told).map_err(WriteError::NotApplied)
    }

    /// To be taken before a read whose durability is asked for later ([`Db::settled`]).
    pub fn seen(&self) -> Seen {
        self.keeping.standing.seen()
    }

    /// Waits until the replica has everything that a reader may have seen since `seen` was taken: for an answer that
    /// speaks of an earlier write whose own answer was `unknown`. An owner always asks: a commit is seen a moment before
    /// it comes to the gate. What a standby shows is from the replica.
    ///
    /// # Errors
    /// [`WriteError::Unknown`] when that takes too long, [`WriteError::NotApplied`] when nothing more may wait.
    pub async fn settled<E>(&self, seen: Seen) -> Result<Option<Txid>, WriteError<E>> {
        self.keeping.gate.admits(self.ack_timeout * 2).map_err(WriteError::NotApplied)?;
        let Some(durable) = self.keeping.gate.follow() else {
            let clear = self.keeping.standing.is_clear_since(seen);
            return if clear { Ok(None) } else { Err(WriteError::Unknown) };
        };
        match tokio::time::timeout(self.ack_timeout, durable).await {
            Ok(Ok(txid)) => Ok(txid),
            Ok(Err(_)) | Err(_) => Err(WriteError::Unknown),
        }
    }

    /// What this server is to its replica, and each change of that.
    pub fn watch(&self) -> watch::Receiver<State> {
        self.keeping.standing.watch()
    }

    /// The presence that is kept in memory.
    pub fn beats(&self) -> &Beats {
        &self.beats
    }

    /// Asks for the ownership no more: a server that is about to end would only take it from one that stays. Writes go on
    /// where it is owned already.
    pub fn stop_asking(&self) {
        self.stopping.send_replace(true);
    }

    /// Takes no further write, and returns when the last one, and the presence, are written down.
    pub async fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.writer.close().await;
    }
}

/// Whether a queued write has begun, or whoever asked gave up before: one of the two, never both.
#[derive(Default)]
struct Turn(AtomicU8);

impl Turn {
    const BEGUN: u8 = 1;
    const GIVEN_UP: u8 = 2;

    fn begin(&self) -> bool {
        self.0.compare_exchange(0, Self::BEGUN, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    fn give_up(&self) -> bool {
        self.0.compare_exchange(0, Self::GIVEN_UP, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}
