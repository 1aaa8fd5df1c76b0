//! What the owner writes before anybody else: what this version of the schema needs, and the first superuser.
//!
//! Each time this server becomes the owner, since another one may have written in between. What there is to do is found
//! out inside the transaction that does it.

use super::{Trouble, World, exit};
use crate::auth::password;
use crate::db::adopt::{self, Superuser};
use crate::db::{open, rows};
use crate::random::{self, Source};
use crate::time;
use litekeep_core::env::Clock;
use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How often the database may be found locked, each time for [`open::WRITER_BUSY`].
const ATTEMPTS: u32 = 15;

/// See the module's text.
#[derive(Clone)]
pub(super) struct Migration {
    pub(super) database: PathBuf,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) source: Arc<dyn Source>,
    /// E-mail address and password.
    pub(super) superuser: Option<(String, String)>,
}

impl Migration {
    /// One transaction. Only the owner gets here.
    pub(super) fn run(&self) -> Result<(), Trouble> {
        let failed = |error: &dyn std::fmt::Display| cannot(&self.database, error);
        let now = time::format(time::now(&*self.clock));
        let connection = open::writer(&self.database).map_err(|error| failed(&error))?;
        let transaction = begun(&connection).map_err(|error| failed(&error))?;
        let found = adopt::look(&transaction, &|| random::secret(&*self.source));
        let found = found.map_err(|error| failed(&error))?;
        if found.plan != adopt::Plan::default() {
            let key = || random::token_key(&*self.source);
            let renewed = adopt::apply(&transaction, &found, &now, &key).map_err(|error| failed(&error))?;
            tracing::info!(plan = ?found.plan, "schema brought up to this version");
            if renewed > 0 {
                tracing::warn!(
                    accounts = renewed,
                    "accounts with a wallet address got a new token key: their tokens end here"
                );
            }
        }
        self.make_superuser(&transaction, &found, &now)?;
        transaction.commit().map_err(|error| failed(&error))
    }

    fn make_superuser(
        &self,
        connection: &Connection,
        found: &adopt::Found,
        now: &str,
    ) -> Result<(), Trouble> {
        let Some((email, password)) = &self.superuser else { return Ok(()) };
        let failed = |error: &dyn std::fmt::Display| cannot(&self.database, error);
        let known = rows::find(connection, found.schema.get("_superusers"), "email = ?1", &[email]);
        if known.map_err(|error| failed(&error))?.is_some() {
            return Ok(());
        }
        let hash = password::hash_now(password, &*self.source).map_err(|error| failed(&error))?;
        let (id, token_key) = (random::record_id(&*self.source), random::token_key(&*self.source));
        let account = Superuser { email, password_hash: &hash, id: &id, token_key: &token_key };
        adopt::upsert_superuser(connection, &found.schema, &account, now).map_err(|error| failed(&error))?;
        tracing::info!(%email, "created the superuser from the environment");
        Ok(())
    }
}

/// The transaction, once no other program holds the database: an end of the replication, and with it of the server, is
/// not what somebody's `sqlite3` should cause.
fn begun(connection: &Connection) -> rusqlite::Result<Transaction<'_>> {
    let mut attempts = 1;
    loop {
        // Immediate: it reads before it writes, and another process's commit in between would make it fail.
        let begun = open::use_wal(connection)
            .and_then(|()| Transaction::new_unchecked(connection, TransactionBehavior::Immediate));
        match begun {
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && attempts < ATTEMPTS =>
            {
                tracing::warn!(
                    seconds = (open::WRITER_BUSY * attempts).as_secs(),
                    "another program holds the database: waiting until it can be written to"
                );
                attempts += 1;
            }
            begun => return begun,
        }
    }
}

fn cannot(database: &Path, error: &dyn std::fmt::Display) -> Trouble {
    Trouble::new(exit::FAILED, format!("cannot prepare {}: {error}", database.display()))
}

/// The superuser that the environment names, in this order of names.
pub(super) fn first_superuser(world: &World) -> Result<Option<(String, String)>, Trouble> {
    for (email, password) in [
        ("ORACLENET_SUPERUSER_EMAIL", "ORACLENET_SUPERUSER_PASSWORD"),
        ("PB_ADMIN_EMAIL", "PB_ADMIN_PASSWORD"),
    ] {
        let file = format!("{password}_FILE");
        let secret = match (world.env(password), world.env(&file)) {
            (Some(secret), _) => Some(secret),
            (None, Some(path)) => {
                let text = std::fs::read_to_string(&path)
                    .map_err(|error| Trouble::usage(format!("{file}: cannot read {path}: {error}")))?;
                Some(text.trim_end_matches(['\r', '\n']).to_owned())
            }
            (None, None) => None,
        };
        match (world.env(email), secret) {
            (Some(address), Some(secret)) => {
                if !crate::records::formats::is_email(&address) {
                    return Err(Trouble::usage(format!("{email} is no e-mail address")));
                }
                if !password::has_good_length(&secret) {
                    return Err(Trouble::usage(format!(
                        "{password} must have 8 characters or more, and 71 bytes at most"
                    )));
                }
                return Ok(Some((address, secret)));
            }
            (None, None) => {}
            (Some(_), None) => return Err(Trouble::usage(format!("{email} is set, and {password} is not"))),
            (None, Some(_)) => return Err(Trouble::usage(format!("{password} is set, and {email} is not"))),
        }
    }
    Ok(None)
}
