//! `oraclenet superuser`: accounts of superusers, while the server runs or not.
//!
//! It writes to the database like any other SQLite program; a running server replicates that commit like its own. A
//! server that is a standby is asked to become the owner first: what is written beside a standby would be on no replica.
//! It makes a database only where it was told that there is no replica, for a replica might hold another one.

use super::marker::{self, Holder, Serving};
use super::options::{self, Given, Row};
use super::{Trouble, World, boot, exit};
use crate::auth::password;
use crate::db::adopt::{self, Superuser};
use crate::db::{open, rows};
use crate::random::{self, Source, System};
use crate::records::formats::is_email;
use crate::schema::Schema;
use crate::time;
use rusqlite::Connection;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// How long a standby may take to become the owner: a hand-over, and what may lie before it.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often it is asked.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// The flags of `superuser`.
pub(super) const FLAGS: [Row; 2] = [
    ("dir", "DIR", "the folder of the database (default pb_data beside the program)"),
    (
        "replica",
        "none",
        "make the database if there is none: only for a server that runs with --replica none\n\
         (also ORACLENET_REPLICA_URL=none). Any other database is made, or restored, by serve",
    ),
];

/// Does what the words say.
pub fn run(world: &World, words: &[OsString]) -> ExitCode {
    match change(world, words) {
        Ok(line) => {
            use std::io::Write as _;
            let _ = writeln!(std::io::stdout(), "{line}");
            ExitCode::SUCCESS
        }
        Err(trouble) => trouble.tell(),
    }
}

fn change(world: &World, words: &[OsString]) -> Result<String, Trouble> {
    let (given, operands) = Given::parse(&FLAGS, words)?;
    let operands: Vec<&str> = operands.iter().map(String::as_str).collect();
    let dir = options::directory(world, given.get("dir"));
    let database = dir.join("data.db");
    match &operands[..] {
        [action @ ("create" | "upsert" | "update"), email, password] => {
            if !is_email(email) {
                return Err(Trouble::usage(format!("{email:?} is no e-mail address")));
            }
            if !password::has_good_length(password) {
                return Err(Trouble::usage(
                    "the password must have 8 characters or more, and 71 bytes at most",
                ));
            }
            there(world, &database, given.get("replica"))?;
            set(world, &database, action, email, password)
        }
        ["delete", email] => {
            there(world, &database, given.get("replica"))?;
            delete(world, &database, email)
        }
        _ => Err(Trouble::usage("the arguments make no command")
            .hint("`oraclenet help superuser` shows what can be said")),
    }
}

fn set(world: &World, database: &Path, action: &str, email: &str, password: &str) -> Result<String, Trouble> {
    let source = System::open().map_err(|error| Trouble::new(exit::FAILED, error.to_string()))?;
    let hash = password::hash_now(password, &source).map_err(|error| Trouble::usage(error.to_string()))?;
    let (id, token_key) = (random::record_id(&source), random::token_key(&source));
    let now = time::format(time::now(&*world.clock));
    let account = Superuser { email, password_hash: &hash, id: &id, token_key: &token_key };
    let check = |connection: &Connection, schema: &Schema| {
        let known = rows::find(connection, schema.get("_superusers"), "email = ?1", &[&email])?;
        Ok(match (action, known) {
            ("create", Some(_)) => Some(format!("there is a superuser {email:?} already")),
            ("update", None) => Some(format!("there is no superuser {email:?}")),
            _ => None,
        })
    };
    write(world, database, &source, &check, |connection, schema| {
        adopt::upsert_superuser(connection, schema, &account, &now).map(drop)
    })?;
    Ok(match action {
        "create" => format!("Successfully created new superuser {email:?}!"),
        "update" => format!("Successfully changed superuser {email:?} password!"),
        _ => format!("Successfully saved superuser {email:?}!"),
    })
}

fn delete(world: &World, database: &Path, email: &str) -> Result<String, Trouble> {
    let source = System::open().map_err(|error| Trouble::new(exit::FAILED, error.to_string()))?;
    let check = |connection: &Connection, schema: &Schema| {
        let known = rows::find(connection, schema.get("_superusers"), "email = ?1", &[&email])?;
        Ok(known.is_none().then(|| format!("there is no superuser {email:?}")))
    };
    write(world, database, &source, &check, |connection, _| {
        connection.execute("DELETE FROM main._superusers WHERE email = ?1", [email]).map(drop)
    })?;
    Ok(format!("Successfully deleted superuser {email:?}!"))
}

/// Sees to it that there is a database: a new one only where the words or the environment say that no replica can hold
/// another. The server may have been given its replica in a way that is not seen from here.
fn there(world: &World, database: &Path, replica: Option<&str>) -> Result<(), Trouble> {
    if replica.is_some_and(|replica| replica != "none") {
        return Err(Trouble::usage("--replica can only be none here")
            .hint("a database that has a replica is made, or restored, by serve"));
    }
    if boot::is_there(database)? {
        return Ok(());
    }
    let dir = database.parent().unwrap_or(database);
    let named = replica.map(str::to_owned).or_else(|| world.env("ORACLENET_REPLICA_URL"));
    if named.as_deref() != Some("none") {
        return Err(Trouble::new(exit::FAILED, format!("there is no database in {}", dir.display())).hint(
            "start the server first, which makes it, or restores it from the replica; it makes the first superuser \
             of ORACLENET_SUPERUSER_EMAIL and ORACLENET_SUPERUSER_PASSWORD. For data without a replica: --replica none",
        ));
    }
    boot::make_folder(dir)?;
    let source = System::open().map_err(|error| Trouble::new(exit::FAILED, error.to_string()))?;
    boot::create(world, database, &source)
}

/// Waits until the database may be written to: no server runs, or the one that does owns the replica.
fn writable(world: &World, database: &Path) -> Result<Holder, Trouble> {
    let dir = database.parent().unwrap_or(database);
    let begun = world.clock.boot();
    let mut asked = None;
    loop {
        let now = world.clock.boot();
        let serving = match marker::who(dir)? {
            Holder::Server(serving) if !serving.may_write => serving,
            holder => return Ok(holder),
        };
        if now.saturating_sub(begun) >= PATIENCE {
            return Err(standby(&serving));
        }
        if asked.is_none_or(|asked| now.saturating_sub(asked) >= ASK_EVERY) {
            asked = Some(now);
            ask(&serving);
        }
        world.clock.sleep(PAUSE);
    }
}

/// Asks a server to become the owner. The lock on its marker says that the process lives, and whoever takes the lock
/// wipes the number of the one before, so the number is still its.
fn ask(serving: &Serving) {
    if let Some(pid) = serving.reachable().and_then(rustix::process::Pid::from_raw) {
        // One that is not ours to ask stays what it is, and the wait ends with a word about it.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::USR1);
    }
}

fn standby(serving: &Serving) -> Trouble {
    let what = format!(
        "the server here (process {}) is a standby: another one writes to the replica, and this one did not become the \
         owner in {} s",
        serving.pid,
        PATIENCE.as_secs()
    );
    Trouble::new(exit::FAILED, what).hint(
        "run this beside the server that owns (`/status` shows the role), or try again; nothing was changed",
    )
}

/// Does `work` in a transaction, unless `check` says why not: before a standby is asked to move the ownership, and
/// again when nobody else can write any more.
fn write(
    world: &World,
    database: &Path,
    source: &dyn Source,
    check: &dyn Fn(&Connection, &Schema) -> rusqlite::Result<Option<String>>,
    work: impl FnOnce(&Connection, &Schema) -> rusqlite::Result<()>,
) -> Result<(), Trouble> {
    let failed = |error: &dyn std::fmt::Display| {
        Trouble::new(exit::FAILED, format!("{}: {error}", database.display()))
    };
    let refused = |why: Option<String>| match why {
        Some(why) => Err(Trouble::new(exit::FAILED, why)),
        None => Ok(()),
    };
    let look = || {
        let looking = open::look(database).map_err(|error| failed(&error))?;
        let found = adopt::look(&looking, &|| random::secret(source)).map_err(|error| failed(&error))?;
        Ok::<_, Trouble>((looking, found))
    };
    let (looking, found) = look()?;
    // A table may be missing until the server, which may be starting, has brought the database up.
    if !found.plan.changes_tables() {
        refused(check(&looking, &found.schema).map_err(|error| failed(&error))?)?;
    }
    drop(looking);
    let mut holder = writable(world, database)?;
    // Another program's file is refused before anything is written to it.
    let (looking, found) = look()?;
    drop(looking);
    let mut connection = open::writer(database).map_err(|error| failed(&error))?;
    let transaction = connection
        .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
        .map_err(|error| failed(&error))?;
    // A server that hands the data over says so first, and waits for this transaction after that.
    if let Holder::Server(serving) = &mut holder
        && !serving.again().map_err(|error| failed(&error))?.may_write
    {
        return Err(standby(serving));
    }
    refused(check(&transaction, &found.schema).map_err(|error| failed(&error))?)?;
    work(&transaction, &found.schema).map_err(|error| failed(&error))?;
    transaction.commit().map_err(|error| failed(&error))
}
