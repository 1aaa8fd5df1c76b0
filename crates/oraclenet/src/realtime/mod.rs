//! PocketBase's realtime: clients hold an event stream open and say, in requests of their own, what they want to hear.
//!
//! `topics` reads what they ask for, `events` decides who may hear of a change and in which form, `frames` writes it
//! down, `queue` holds it for one client, and `hub` ties them together. Nothing here knows HTTP beyond the bytes of an
//! event stream, and nothing here ever waits for a client: one that does not read is dropped.

mod events;
mod frames;
mod hub;
mod queue;
#[cfg(test)]
mod tests;
mod topics;

pub use hub::{ClientId, Hub, Receiver, Seat};
pub use topics::Subscribe;

/// What realtime may cost.
pub mod limits {
    use std::time::Duration;

    /// Clients that are connected at once.
    pub const CLIENTS: usize = 2048;
    /// Clients of one address.
    pub const OF_ONE: usize = 128;
    /// Subscriptions of one client (PocketBase's).
    pub const SUBSCRIPTIONS: usize = 1000;
    /// Subscriptions of one client that have a filter of its own. PocketBase has no such limit; each costs a query per
    /// change.
    pub const FILTERED: usize = 32;
    /// How long one such query may take before its client is sent away: everybody else's events wait for it.
    pub const ASK_TIME: Duration = Duration::from_secs(1);
    /// How long questions are asked in one read. Far below the time of a read, so that one which is interrupted has
    /// taken longer than [`ASK_TIME`].
    pub const ROUND: Duration = Duration::from_secs(5);
    /// Bytes of one subscription (PocketBase's).
    pub const SUBSCRIPTION_BYTES: usize = 2500;
    /// Bytes of all subscriptions of all clients.
    pub const ALL_SUBSCRIPTION_BYTES: usize = 64 * 1024 * 1024;
    /// Bytes of a client's id in a request (PocketBase's).
    pub const CLIENT_ID_BYTES: usize = 255;
    /// Events that may wait for one client.
    pub const WAITING_EVENTS: usize = 256;
    /// Bytes of them, unless it is a single one.
    pub const WAITING_BYTES: usize = 1024 * 1024;
    /// Commits that may wait to be looked at.
    pub const WAITING_COMMITS: usize = 4096;
    /// A client that gets no event for this long is sent away (PocketBase's).
    pub const IDLE: Duration = Duration::from_secs(300);

    const _: () = assert!(ROUND.as_secs() + ASK_TIME.as_secs() < crate::limits::READ_TIME.as_secs());
}
