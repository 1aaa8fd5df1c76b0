//! What an existing file says about itself, and what has to change before this version writes to it.
//!
//! [`look`] only reads and may run before anything is owned; its [`Plan`] is a value; [`apply`] is the one that writes, in
//! one transaction, and only the owner of the replica calls it.

use super::{rows, tables};
use crate::schema::{Collection, Kind, Schema, collections};
use rusqlite::{Connection, OptionalExtension as _, params};
use serde_json::Value;
use std::collections::BTreeSet;

/// The version of the schema that this program writes; in the row `oraclenet` of `_params`.
pub const VERSION: i64 = 1;
/// The lowest version that may serve what this one writes; beside [`VERSION`] in the mark. A migration after which an
/// older program would read or write wrongly raises it; one that only adds does not, so that a rollback works.
pub const COMPATIBLE: i64 = 1;

/// Why a file cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// SQLite.
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
    /// It is no PocketBase database.
    #[error("this is no database of PocketBase or OracleNet: it has no table _collections")]
    Foreign,
    /// Of a later version.
    #[error(
        "this database was written by a later version of OracleNet (schema {0}; this version knows {VERSION})"
    )]
    Newer(i64),
    /// A collection is something else there.
    #[error(
        "the collection {name} is of type {found} in this database, not {expected}: it belongs to a later service that this server does not replace"
    )]
    Kind {
        /// Its name.
        name: &'static str,
        /// What it is there.
        found: String,
        /// What it has to be.
        expected: &'static str,
    },
    /// The description of a collection does not parse.
    #[error("the description of the collection {0} in _collections is damaged: {1}")]
    Description(&'static str, String),
}

/// What [`look`] found.
#[derive(Debug)]
pub struct Found {
    /// The collections, with ids, secrets and token durations of this file.
    pub schema: Schema,
    /// What is missing.
    pub plan: Plan,
    /// What is unusual and stays as it is.
    pub remarks: Vec<String>,
}

/// What has to change. Empty for a file of this version.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Collections that are not there.
    pub collections: Vec<&'static str>,
    /// Columns that are not there.
    pub columns: Vec<(&'static str, &'static str)>,
    /// The file was not written by this server before: token keys of wallet accounts are renewed (their passwords
    /// were guessable), and the mark is set.
    pub first_time: bool,
}

impl Plan {
    /// Whether a query of this version may find less than it asks for.
    pub fn changes_tables(&self) -> bool {
        !self.collections.is_empty() || !self.columns.is_empty()
    }
}

/// Reads what the file is. Writes nothing. A file of a later version is left as it is, if that version says that this
/// one may serve it: a rollback.
///
/// # Errors
/// See [`AdoptError`].
pub fn look(connection: &Connection, secret: &dyn Fn() -> String) -> Result<Found, AdoptError> {
    let there: i64 = connection.query_row(
        "SELECT count(*) FROM main.sqlite_schema WHERE name IN ('_collections', '_params') AND type = 'table'",
        [],
        |row| row.get(0),
    )?;
    if there != 2 {
        return Err(AdoptError::Foreign);
    }
    let mark = served(connection)?;
    let mut schema = Schema::new(collections());
    let mut plan = Plan { first_time: mark.is_none(), ..Plan::default() };
    let mut remarks = Vec::new();
    let later = mark.filter(|mark| mark.schema > VERSION);
    for collection in schema.all_mut() {
        match description(connection, collection.name)? {
            Some(row) => {
                take(collection, row, secret, &mut remarks)?;
                plan.columns.extend(missing_columns(connection, collection)?);
            }
            None => {
                fill_secret(collection, secret);
                plan.collections.push(collection.name);
            }
        }
    }
    if let Some(Mark { schema: version, .. }) = later {
        remarks.push(format!(
            "this database was written by a later version of OracleNet (schema {version}; this version knows \
             {VERSION}), which lets this one serve it: nothing of its schema is changed"
        ));
        plan = Plan::default();
    }
    Ok(Found { schema, plan, remarks })
}

/// Collections for a new file, with secrets of their own.
pub fn fresh(secret: &dyn Fn() -> String) -> Schema {
    let mut schema = Schema::new(collections());
    schema.all_mut().iter_mut().for_each(|collection| fill_secret(collection, secret));
    schema
}

/// Does what the plan says, within the caller's transaction. Returns how many wallet accounts got a new token key.
///
/// # Errors
/// SQLite's.
pub fn apply(
    connection: &Connection,
    found: &Found,
    now: &str,
    token_key: &dyn Fn() -> String,
) -> Result<usize, AdoptError> {
    let Found { schema, plan, .. } = found;
    for name in &plan.collections {
        tables::add_collection(connection, schema, schema.get(name), now)?;
    }
    for (collection, column) in &plan.columns {
        add_column(connection, schema, schema.get(collection), column, now)?;
    }
    for collection in schema.all().iter().filter(|collection| !plan.collections.contains(&collection.name)) {
        tables::add_indexes(connection, collection)?;
    }
    let renewed = if plan.first_time { renew_wallets(connection, token_key)? } else { 0 };
    if plan.first_time {
        set_mark(connection, now)?;
    }
    Ok(renewed)
}

/// Sets the mark of this version.
///
/// # Errors
/// SQLite's.
pub fn set_mark(connection: &Connection, now: &str) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT INTO _params (id, value, created, updated) VALUES ('oraclenet', json_object('schema', ?1, 'compatible', ?2), ?3, ?3)
         ON CONFLICT (id) DO UPDATE SET value = excluded.value, updated = excluded.updated",
        params![VERSION, COMPATIBLE, now],
    )?;
    Ok(())
}

/// Which version wrote a file, and which may still serve it.
#[derive(Debug, Clone, Copy)]
struct Mark {
    schema: i64,
    compatible: i64,
}

/// Whether this version may still serve the file, which another server may have changed since it was looked at.
///
/// # Errors
/// [`AdoptError::Newer`] if not; SQLite's.
pub fn check(connection: &Connection) -> Result<(), AdoptError> {
    served(connection).map(drop)
}

fn served(connection: &Connection) -> Result<Option<Mark>, AdoptError> {
    match mark(connection)? {
        Some(mark) if mark.compatible > VERSION => Err(AdoptError::Newer(mark.schema)),
        mark => Ok(mark),
    }
}

/// A mark without the second number is of the first version, which did not write it.
fn mark(connection: &Connection) -> rusqlite::Result<Option<Mark>> {
    let text =
        "SELECT coalesce(value ->> 'schema', 0), coalesce(value ->> 'compatible', value ->> 'schema', 0)
                FROM _params WHERE id = 'oraclenet'";
    let row = |row: &rusqlite::Row<'_>| Ok(Mark { schema: row.get(0)?, compatible: row.get(1)? });
    connection.query_row(text, [], row).optional()
}

struct Description {
    id: String,
    kind: String,
    rules: [Option<String>; 5],
    options: String,
}

fn description(connection: &Connection, name: &str) -> rusqlite::Result<Option<Description>> {
    let text =
        "SELECT id, type, listRule, viewRule, createRule, updateRule, deleteRule, CAST(options AS TEXT)
                FROM _collections WHERE name = ?1";
    let row = |row: &rusqlite::Row<'_>| {
        let rules = [row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?];
        Ok(Description { id: row.get(0)?, kind: row.get(1)?, rules, options: row.get(7)? })
    };
    connection.query_row(text, [name], row).optional()
}

fn take(
    collection: &mut Collection,
    row: Description,
    secret: &dyn Fn() -> String,
    remarks: &mut Vec<String>,
) -> Result<(), AdoptError> {
    let expected = match collection.kind {
        Kind::Base => "base",
        Kind::Auth => "auth",
    };
    if row.kind != expected {
        return Err(AdoptError::Kind { name: collection.name, found: row.kind, expected });
    }
    collection.id = row.id;
    let ours = &collection.rules;
    let rules = [ours.list, ours.view, ours.create, ours.update, ours.delete];
    if rules.iter().zip(&row.rules).any(|(ours, theirs)| *ours != theirs.as_deref()) {
        remarks.push(format!(
            "the rules of {} were changed in this database; this server keeps its own",
            collection.name
        ));
    }
    let Some(auth) = &mut collection.auth else { return Ok(()) };
    let options: Value = serde_json::from_str(&row.options)
        .map_err(|error| AdoptError::Description(collection.name, error.to_string()))?;
    let token = &options["authToken"];
    match token["secret"].as_str().filter(|secret| secret.len() >= 30) {
        Some(secret) => auth.token_secret = secret.to_owned(),
        None => {
            auth.token_secret = secret();
            remarks.push(format!(
                "{} has no secret for its tokens: they are good until the next start only",
                collection.name
            ));
        }
    }
    if let Some(duration) = token["duration"].as_i64().filter(|duration| *duration > 0) {
        auth.token_duration = duration;
    }
    Ok(())
}

fn fill_secret(collection: &mut Collection, secret: &dyn Fn() -> String) {
    if let Some(auth) = &mut collection.auth {
        auth.token_secret = secret();
    }
}

fn missing_columns(
    connection: &Connection,
    collection: &Collection,
) -> rusqlite::Result<Vec<(&'static str, &'static str)>> {
    let mut statement = connection.prepare("SELECT name FROM pragma_table_info(?1, 'main')")?;
    let there: BTreeSet<String> =
        statement.query_map([collection.name], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let missing = collection.fields.iter().filter(|field| !there.contains(field.name));
    Ok(missing.map(|field| (collection.name, field.name)).collect())
}

fn add_column(
    connection: &Connection,
    schema: &Schema,
    collection: &Collection,
    column: &str,
    now: &str,
) -> rusqlite::Result<()> {
    let Some(field) = collection.field(column) else { return Ok(()) };
    connection.execute_batch(&format!(
        "ALTER TABLE `{}` ADD COLUMN {}",
        collection.name,
        tables::column(field)
    ))?;
    let description = tables::describe(schema, field, collection).to_string();
    connection.execute(
        "UPDATE _collections SET fields = json_insert(CAST(fields AS TEXT), '$[#]', json(?2)), updated = ?3
         WHERE name = ?1",
        params![collection.name, description, now],
    )?;
    Ok(())
}

/// The original gave accounts with a wallet the wallet's address as password (`DIFFERENCES.md`), so whoever knew the
/// address may hold a token. New keys end all of them; the password itself never logs in here.
fn renew_wallets(connection: &Connection, token_key: &dyn Fn() -> String) -> rusqlite::Result<usize> {
    let mut statement = connection.prepare("SELECT id FROM main.oracles WHERE wallet_address != ''")?;
    let ids: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    for id in &ids {
        connection.execute("UPDATE main.oracles SET tokenKey = ?2 WHERE id = ?1", [id, &token_key()])?;
    }
    Ok(ids.len())
}

/// Makes or changes a superuser. Returns whether there was one with this e-mail before.
///
/// # Errors
/// SQLite's.
pub fn upsert_superuser(
    connection: &Connection,
    schema: &Schema,
    account: &Superuser<'_>,
    now: &str,
) -> rusqlite::Result<bool> {
    let collection = schema.get("_superusers");
    let Superuser { email, password_hash, id, token_key } = account;
    let Some(mut old) = rows::find(connection, collection, "email = ?1", &[email])? else {
        let record = serde_json::json!({
            "id": id, "email": email, "password": password_hash, "tokenKey": token_key, "emailVisibility": false,
            "verified": true, "created": now, "updated": now,
        });
        rows::insert(connection, collection, record.as_object().unwrap_or(&rows::Record::new()))?;
        return Ok(false);
    };
    for (name, value) in [("password", *password_hash), ("tokenKey", token_key), ("updated", now)] {
        old.insert(name.to_owned(), value.into());
    }
    rows::update(connection, collection, &old)?;
    Ok(true)
}

/// See [`upsert_superuser`].
#[derive(Debug, Clone, Copy)]
pub struct Superuser<'a> {
    /// Who.
    pub email: &'a str,
    /// A bcrypt hash.
    pub password_hash: &'a str,
    /// The id, if it is new.
    pub id: &'a str,
    /// The new token key: a new password ends all tokens.
    pub token_key: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> String {
        "s".repeat(50)
    }

    fn fresh_file() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        tables::create(&connection, &fresh(&secret), "2026-11-25 20:55:13.000Z", 1_795_640_113_000_000)
            .unwrap();
        set_mark(&connection, "2026-11-25 20:55:13.000Z").unwrap();
        connection
    }

    #[test]
    fn a_file_that_this_server_made_needs_nothing() {
        let found = look(&fresh_file(), &secret).unwrap();
        assert_eq!((found.plan, found.remarks), (Plan::default(), Vec::<String>::new()));
    }

    #[test]
    fn what_is_missing_is_added_and_nothing_else() {
        let connection = fresh_file();
        connection
            .execute_batch(
                "DROP TABLE votes; DELETE FROM _collections WHERE name = 'votes';
                 ALTER TABLE oracles DROP COLUMN karma; DELETE FROM _params WHERE id = 'oraclenet';
                 INSERT INTO oracles (id, name, tokenKey, email, wallet_address) VALUES
                   ('a', 'Ada', 'ka', 'a@x.y', '0x1'), ('b', 'Bob', 'kb', 'b@x.y', '');",
            )
            .unwrap();
        let found = look(&connection, &secret).unwrap();
        let plan = Plan { collections: vec!["votes"], columns: vec![("oracles", "karma")], first_time: true };
        assert_eq!(found.plan, plan);
        assert_eq!(
            apply(&connection, &found, "2026-11-25 20:55:14.000Z", &|| "fresh key".to_owned()).unwrap(),
            1
        );
        let again = look(&connection, &secret).unwrap();
        assert_eq!(again.plan, Plan::default());
        let keys: String =
            connection.query_row("SELECT group_concat(tokenKey) FROM oracles", [], |row| row.get(0)).unwrap();
        assert_eq!(keys, "fresh key,kb");
    }

    #[test]
    fn files_of_others_and_of_later_versions_are_refused() {
        let empty = Connection::open_in_memory().unwrap();
        assert!(matches!(look(&empty, &secret), Err(AdoptError::Foreign)));
        for (mark, served) in [
            (r#"{"schema":1}"#, true),
            (r#"{"schema":1,"compatible":1}"#, true),
            (r#"{"schema":2,"compatible":1}"#, true),
            (r#"{"schema":2,"compatible":2}"#, false),
            (r#"{"schema":2}"#, false),
        ] {
            let later = fresh_file();
            later.execute("UPDATE _params SET value = ?1 WHERE id = 'oraclenet'", [mark]).unwrap();
            later.execute_batch("ALTER TABLE oracles DROP COLUMN karma").unwrap();
            let later_than_this = mark.contains(r#""schema":2"#);
            match look(&later, &secret) {
                Ok(found) => {
                    assert!(served, "{mark}");
                    // What a later version took away is not given back: nothing is migrated there.
                    assert_eq!(found.plan.changes_tables(), !later_than_this, "{mark}");
                    assert_eq!(found.remarks.is_empty(), !later_than_this, "{mark}");
                }
                Err(AdoptError::Newer(2)) => assert!(!served, "{mark}"),
                Err(error) => panic!("{mark}: {error}"),
            }
        }
        let other = fresh_file();
        other.execute("UPDATE _collections SET type = 'base' WHERE name = 'oracles'", []).unwrap();
        assert!(matches!(look(&other, &secret), Err(AdoptError::Kind { name: "oracles", .. })));
    }
}
