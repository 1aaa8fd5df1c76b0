//! `oraclenet superuser`: accounts of superusers, while the server runs or not.
//!
//! It writes to the database like any other SQLite program; a running server replicates that commit like its own. It
//! makes a database only where it was told that there is no replica, for a replica might hold another one.

use super::options::{self, Given, Row};
use super::{Trouble, World, boot, exit};
use crate::auth::password;
use crate::db::adopt::{self, Superuser};
use crate::db::{open, rows};
use crate::random::{self, Source, System};
use crate::records::formats::is_email;
use crate::time;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

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
            delete(&database, email)
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
    let was_there = write(database, &source, |connection, schema| {
        let known = rows::find(connection, schema.get("_superusers"), "email = ?1", &[&email])?;
        match (action, known) {
            ("create", Some(_)) => Ok(Err(format!("there is a superuser {email:?} already"))),
            ("update", None) => Ok(Err(format!("there is no superuser {email:?}"))),
            _ => adopt::upsert_superuser(connection, schema, &account, &now).map(Ok),
        }
    })?;
    Ok(match (action, was_there) {
        ("create", _) => format!("Successfully created new superuser {email:?}!"),
        ("update", _) => format!("Successfully changed superuser {email:?} password!"),
        _ => format!("Successfully saved superuser {email:?}!"),
    })
}

fn delete(database: &Path, email: &str) -> Result<String, Trouble> {
    let source = System::open().map_err(|error| Trouble::new(exit::FAILED, error.to_string()))?;
    write(database, &source, |connection, _| {
        let gone = connection.execute("DELETE FROM main._superusers WHERE email = ?1", [email])?;
        Ok(if gone == 0 { Err(format!("there is no superuser {email:?}")) } else { Ok(true) })
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
    std::fs::create_dir_all(dir).map_err(|error| {
        Trouble::new(exit::FAILED, format!("cannot make the folder {}: {error}", dir.display()))
    })?;
    let source = System::open().map_err(|error| Trouble::new(exit::FAILED, error.to_string()))?;
    boot::create(world, database, &source)
}

fn write<T>(
    database: &Path,
    source: &dyn Source,
    work: impl FnOnce(&rusqlite::Connection, &crate::schema::Schema) -> rusqlite::Result<Result<T, String>>,
) -> Result<T, Trouble> {
    let failed = |error: &dyn std::fmt::Display| {
        Trouble::new(exit::FAILED, format!("{}: {error}", database.display()))
    };
    // Another program's file is refused before anything is written to it.
    let looking = open::look(database).map_err(|error| failed(&error))?;
    let found = adopt::look(&looking, &|| random::secret(source)).map_err(|error| failed(&error))?;
    drop(looking);
    let mut connection = open::writer(database).map_err(|error| failed(&error))?;
    let transaction = connection
        .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
        .map_err(|error| failed(&error))?;
    let done = work(&transaction, &found.schema).map_err(|error| failed(&error))?;
    let value = done.map_err(|why| Trouble::new(exit::FAILED, why))?;
    transaction.commit().map_err(|error| failed(&error))?;
    Ok(value)
}
