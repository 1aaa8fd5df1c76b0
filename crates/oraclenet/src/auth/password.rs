//! Passwords: bcrypt as PocketBase uses it, in a bounded queue of its own.
//!
//! One hash takes a processor for tens of milliseconds, so a flood of logins could take the whole machine. Here a
//! fixed number run at once on blocking threads, a fixed number wait, and the next one is told so ([`Refused::Busy`]).
//! Every attempt costs the same, whether or not the account exists. Passwords are never kept or logged.

use crate::random::{self, Source};
use bcrypt::{HashParts, Version};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task;

/// The longest password, in bytes: bcrypt reads 72 with the NUL that ends it.
pub const MAX_BYTES: usize = 71;
/// The shortest password, in characters.
pub const MIN_CHARACTERS: usize = 8;

/// PocketBase's default; each step doubles the work.
const COST: u32 = 10;
/// The dearest stored hash that is computed: 16 times [`COST`]. A hash of cost 31 would take a day.
const MAX_COST: u32 = 14;

/// How many passwords are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// At the same time; as many as there are processors.
    pub at_once: usize,
    /// Waiting for their turn.
    pub waiting: usize,
}

/// What the account that somebody wants to log in to has stored.
#[derive(Clone, PartialEq, Eq)]
pub struct Stored {
    /// `$2a$10$...`, `$2b$` or `$2y$`; anything else lets nobody in.
    pub hash: String,
    /// The account's wallet, or nothing. The original used it as the password too.
    pub wallet_address: String,
}

impl std::fmt::Debug for Stored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stored").field("wallet_address", &self.wallet_address).finish_non_exhaustive()
    }
}

/// Why a password was not looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Too many are waiting; the same request may succeed in a second.
    #[error("too many logins at once; try again in a second")]
    Busy,
    /// A new password is longer than [`MAX_BYTES`].
    #[error("a password has at most {MAX_BYTES} bytes")]
    TooLong,
}

/// The queue. Clones share it.
#[derive(Clone)]
pub struct Passwords {
    /// One permit for each that runs or waits.
    admitted: Arc<Semaphore>,
    /// One permit for each that runs.
    running: Arc<Semaphore>,
    /// What an attempt on an account that does not exist is compared with.
    dummy: Arc<str>,
    source: Arc<dyn Source>,
}

impl Passwords {
    /// An empty queue. Takes the time of one hash.
    pub fn new(limits: Limits, source: Arc<dyn Source>) -> Self {
        let at_once = limits.at_once.max(1);
        Self {
            admitted: Arc::new(Semaphore::new(at_once + limits.waiting)),
            running: Arc::new(Semaphore::new(at_once)),
            dummy: hash(&random::password(&*source), salt(&*source)).into(),
            source,
        }
    }

    /// Whether `password` opens the account. `None` is an account that does not exist: nobody gets in, after the
    /// same time. A password that was derived from the account's wallet never opens it.
    pub async fn verify(&self, password: String, stored: Option<Stored>) -> Result<bool, Refused> {
        let dummy = Arc::clone(&self.dummy);
        self.run(move || is_right(&password, stored.as_ref(), &dummy)).await
    }

    /// The hash of a new password, as PocketBase writes it.
    pub async fn hash(&self, password: String) -> Result<String, Refused> {
        if password.len() > MAX_BYTES {
            return Err(Refused::TooLong);
        }
        let salt = salt(&*self.source);
        self.run(move || hash(&password, salt)).await
    }

    /// Runs `work` in its turn. Its permits go with the work, not with the request: a client that hangs up neither
    /// stops a hash that has begun nor makes room for another one meanwhile.
    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refused> {
        let admitted = Arc::clone(&self.admitted).try_acquire_owned().map_err(|_| Refused::Busy)?;
        let running = Arc::clone(&self.running).acquire_owned().await.map_err(|_| Refused::Busy)?;
        let permits: [OwnedSemaphorePermit; 2] = [admitted, running];
        let done = task::spawn_blocking(move || {
            let result = work();
            drop(permits);
            result
        });
        // Fails only when the runtime shuts down before the work began: then nobody waits for the answer either.
        done.await.map_err(|_| Refused::Busy)
    }
}

/// Whether a password is the account's wallet address, which everybody can read. The original gave wallet accounts
/// that password.
pub fn is_derived_from_wallet(password: &str, wallet_address: &str) -> bool {
    !wallet_address.is_empty() && password.eq_ignore_ascii_case(wallet_address)
}

/// Whether a password may be stored: its length. The reason is PocketBase's to say.
pub fn has_good_length(password: &str) -> bool {
    password.len() <= MAX_BYTES && password.chars().count() >= MIN_CHARACTERS
}

/// Compares with the stored hash, or, so that it takes as long, with one that lets nobody in.
fn is_right(password: &str, stored: Option<&Stored>, dummy: &str) -> bool {
    let usable = stored.filter(|stored| is_usable(&stored.hash));
    let hash = usable.map_or(dummy, |stored| &stored.hash);
    // Refuses more than 71 bytes: bcrypt would ignore what comes after them.
    let equal = bcrypt::non_truncating_verify(password, hash).unwrap_or(false);
    equal && usable.is_some_and(|stored| !is_derived_from_wallet(password, &stored.wallet_address))
}

/// A bcrypt hash of a version without known faults, at a cost that can be afforded.
fn is_usable(hash: &str) -> bool {
    let version = ["$2a$", "$2b$", "$2y$"].iter().any(|version| hash.starts_with(version));
    version && hash.parse::<HashParts>().is_ok_and(|parts| (4..=MAX_COST).contains(&parts.get_cost()))
}

fn salt(source: &dyn Source) -> [u8; 16] {
    let mut salt = [0; 16];
    source.fill(&mut salt);
    salt
}

/// `$2a$10$...`. The password's length has been looked at.
fn hash(password: &str, salt: [u8; 16]) -> String {
    bcrypt::non_truncating_hash_with_salt(password, COST, salt)
        .expect("BUG: the cost is in range and the length was checked")
        .format_for_version(Version::TwoA)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::System;
    use std::future::poll_fn;
    use std::pin::Pin;
    use std::sync::mpsc;
    use std::task::Poll;

    /// PocketBase 0.36.1 made it for `golden-password`.
    const GOLDEN: &str = "$2a$10$zWyvHhEFkYgfkCDsiynmNOV2MVbO9FcKdZPtflzQ9TdZeBG7nwbjC";
    const WALLET: &str = "0x2c7536e3605d9c16a7a3d7b1898e529396a65c23";

    fn passwords(at_once: usize, waiting: usize) -> Passwords {
        Passwords::new(Limits { at_once, waiting }, Arc::new(System::open().expect("a source")))
    }

    fn on_a_runtime<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .expect("a runtime")
            .block_on(work)
    }

    /// Looks once whether a future is done; it must not be.
    async fn is_pending<T>(future: &mut Pin<Box<impl Future<Output = T>>>) -> bool {
        poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_pending())).await
    }

    /// A cheap hash, cost 4.
    fn cheap(password: &str) -> String {
        bcrypt::hash_with_salt(password, 4, [7; 16]).expect("a hash").format_for_version(Version::TwoB)
    }

    /// (name, the password, the stored hash and wallet, whether it opens)
    type Case<'a> = (&'a str, &'a str, Option<(&'a str, &'a str)>, bool);

    fn check(cases: &[Case<'_>]) {
        let dummy = cheap("the dummy's password");
        for (name, password, stored, good) in cases {
            let stored =
                stored.map(|(hash, wallet)| Stored { hash: hash.into(), wallet_address: wallet.into() });
            assert_eq!(is_right(password, stored.as_ref(), &dummy), *good, "{name}");
        }
    }

    #[test]
    fn hashes_of_pocketbase_and_of_its_relatives_open() {
        let hash = |version: &str| GOLDEN.replacen("$2a$", version, 1);
        check(&[
            ("PocketBase's own", "golden-password", Some((GOLDEN, "")), true),
            ("2b", "golden-password", Some((&hash("$2b$"), "")), true),
            ("2y", "golden-password", Some((&hash("$2y$"), "")), true),
            ("2x has a fault", "golden-password", Some((&hash("$2x$"), "")), false),
            ("another password", "golden-passworD", Some((GOLDEN, "")), false),
            ("no password", "", Some((GOLDEN, "")), false),
            ("a longer one", "golden-password ", Some((GOLDEN, "")), false),
        ]);
    }

    #[test]
    fn what_is_no_hash_lets_nobody_in() {
        let too_dear = GOLDEN.replacen("$10$", "$15$", 1);
        check(&[
            ("no account", "the dummy's password", None, false),
            ("no hash", "", Some(("", "")), false),
            ("no hash, the dummy's password", "the dummy's password", Some(("", "")), false),
            ("locked", "!", Some(("!", "")), false),
            ("plain text", "golden-password", Some(("golden-password", "")), false),
            ("cut short", "golden-password", Some((&GOLDEN[..59], "")), false),
            ("too dear", "golden-password", Some((&too_dear, "")), false),
        ]);
    }

    #[test]
    fn a_wallet_address_is_never_its_account_s_password() {
        let lower = cheap(WALLET);
        let upper = cheap(&WALLET.to_uppercase());
        check(&[
            ("as the original made it", WALLET, Some((&lower, WALLET)), false),
            ("in capitals", &WALLET.to_uppercase(), Some((&upper, WALLET)), false),
            ("of an address in capitals", WALLET, Some((&lower, &WALLET.to_uppercase())), false),
            ("somebody else's address", WALLET, Some((&lower, "0x01")), true),
            ("an account without a wallet", WALLET, Some((&lower, "")), true),
        ]);
        assert!(!is_derived_from_wallet("", ""));
    }

    #[test]
    fn bytes_that_bcrypt_would_ignore_open_nothing() {
        let longest = "x".repeat(MAX_BYTES);
        let hash = bcrypt::hash_with_salt(&longest, 4, [7; 16]).expect("a hash").to_string();
        check(&[
            ("71 bytes", &longest, Some((&hash, "")), true),
            ("one more", &format!("{longest}x"), Some((&hash, "")), false),
            ("the NUL and one more", &format!("{longest}\0y"), Some((&hash, "")), false),
            // bcrypt repeats a short key with its NUL until it has 72 bytes.
            (
                "a wallet, its NUL, and the wallet",
                &format!("{WALLET}\0{WALLET}"),
                Some((&cheap(WALLET), WALLET)),
                false,
            ),
        ]);
    }

    #[test]
    fn new_passwords_are_hashed_as_pocketbase_does() {
        let passwords = passwords(1, 0);
        on_a_runtime(async {
            let longest = "é".repeat(35) + "x";
            let hash = passwords.hash(longest.clone()).await.expect("71 bytes");
            assert!(hash.starts_with("$2a$10$") && hash.len() == 60, "{hash}");
            assert_ne!(passwords.hash(longest.clone()).await.expect("again"), hash, "each has its own salt");
            let stored = Some(Stored { hash, wallet_address: String::new() });
            assert_eq!(passwords.verify(longest.clone(), stored).await, Ok(true));
            assert_eq!(passwords.hash(longest + "y").await, Err(Refused::TooLong));
        });
    }

    #[test]
    fn lengths_are_counted_as_pocketbase_counts_them() {
        for (password, good) in [
            ("1234567".to_owned(), false),
            ("12345678".to_owned(), true),
            ("é".repeat(7), false),
            ("é".repeat(8), true),
            ("x".repeat(71), true),
            ("x".repeat(72), false),
            ("é".repeat(36), false),
        ] {
            assert_eq!(has_good_length(&password), good, "{password}");
        }
    }

    #[test]
    fn an_unknown_account_costs_as_much_as_a_known_one() {
        let passwords = passwords(1, 0);
        let parts: HashParts = passwords.dummy.parse().expect("the dummy is a hash like any other");
        assert_eq!(parts.get_cost(), GOLDEN.parse::<HashParts>().expect("a hash").get_cost());
    }

    #[test]
    fn a_flood_is_told_so_and_those_before_it_are_served() {
        let passwords = passwords(1, 2);
        on_a_runtime(async {
            let (open, gate) = mpsc::channel::<()>();
            let (began, begun) = mpsc::channel();
            let first = {
                let passwords = passwords.clone();
                tokio::spawn(async move {
                    passwords
                        .run(move || {
                            began.send(()).expect("the test waits");
                            gate.recv().expect("the test opens the gate");
                        })
                        .await
                })
            };
            task::spawn_blocking(move || begun.recv().expect("the first runs")).await.expect("no panic");
            let mut waiting: Vec<_> = (0..2).map(|_| Box::pin(passwords.run(|| ()))).collect();
            for wait in &mut waiting {
                assert!(is_pending(wait).await, "there is room to wait");
            }
            assert_eq!(passwords.run(|| ()).await, Err(Refused::Busy), "there is none for a third");
            // One of those that wait gives up: the next one has its place.
            drop(waiting.pop());
            let mut next = Box::pin(passwords.run(|| ()));
            assert!(is_pending(&mut next).await);
            open.send(()).expect("the first waits");
            assert_eq!(first.await.expect("no panic"), Ok(()));
            for wait in waiting {
                assert_eq!(wait.await, Ok(()));
            }
            assert_eq!(next.await, Ok(()));
        });
    }

    #[test]
    fn a_client_that_hangs_up_does_not_make_room_while_its_hash_runs() {
        let passwords = passwords(1, 0);
        on_a_runtime(async {
            let (open, gate) = mpsc::channel::<()>();
            let (ended, end) = mpsc::channel();
            let work = move || {
                gate.recv().expect("the test opens the gate");
                ended.send(()).expect("the test waits");
            };
            let mut request = Box::pin(passwords.run(work));
            assert!(is_pending(&mut request).await);
            drop(request);
            assert_eq!(passwords.run(|| ()).await, Err(Refused::Busy), "it still runs");
            open.send(()).expect("it waits");
            task::spawn_blocking(move || end.recv().expect("it ends")).await.expect("no panic");
            // The permits come back just after the last word of the work.
            drop(passwords.admitted.acquire().await.expect("the queue is open"));
            assert_eq!(passwords.run(|| ()).await, Ok(()));
        });
    }
}
