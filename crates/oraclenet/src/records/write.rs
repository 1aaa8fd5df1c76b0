//! Create, update, delete. Each is checked by a function that only reads ([`prepare_create`], [`prepare_update`]), so
//! that a request can be refused before anything is owned, hashed or locked; inside the transaction the same function
//! runs again, and what it returns is written.

use super::rule::{passes, visible};
use super::{Context, hooks, input, note, references, validate, votes};
use crate::db::Change;
use crate::db::rows::{self, Record};
use crate::http::error::{ApiError, FieldErrors, field_error};
use crate::random;
use crate::schema::{Collection, FieldKind};
use rusqlite::{Connection, ErrorCode, OptionalExtension as _, params_from_iter};
use serde_json::Value;
use std::borrow::Cow;

/// What was found out about passwords before the transaction, since it takes long.
#[derive(Clone, Default)]
pub struct Passwords {
    /// The hash of the body's new password.
    pub new_hash: Option<String>,
    /// The stored hash that the body's `oldPassword` opened.
    pub old_opened: Option<String>,
}

/// What a create comes to.
#[derive(Debug)]
pub enum Prepared {
    /// A new record.
    New(Record),
    /// The same create came before: this is what it made.
    Existing(Record),
    /// An account with this id and e-mail is there: the same create came before if the password opens it.
    Account(Record),
}

/// Checks a create.
///
/// # Errors
/// 400 and 403 in PocketBase's words; SQLite's.
pub(super) fn prepare_create(
    connection: &Connection,
    context: &Context,
    collection: &Collection,
) -> Result<Prepared, ApiError> {
    let superuser = context.is_superuser();
    if collection.rules.create.is_none() && !superuser {
        return Err(ApiError::superusers_only());
    }
    let failed = || ApiError::bad_request("Failed to create record");
    let mut record = hooks::blank(collection);
    let context = &*with_resolved_body(context, collection, &record);
    let body = &context.request.body;
    input::apply(collection, &mut record, body, superuser);
    if rows::text(&record, "id").is_empty() {
        record.insert("id".to_owned(), random::record_id(&*context.source).into());
    }
    stamp(context, collection, &mut record, true);
    if !passes(connection, context, collection, collection.rules.create, &record)? {
        return Err(failed());
    }
    if collection.is_auth() && rows::text(&record, "tokenKey").is_empty() {
        record.insert("tokenKey".to_owned(), random::token_key(&*context.source).into());
    }
    hooks::before_create(context, collection, &mut record)?;
    if let Some(found) = existing(connection, collection, &record)? {
        return Ok(found);
    }
    let password = collection.is_auth().then(|| text(body, "password"));
    if let Some(password) = &password {
        let errors = account_form(context, &Record::new(), &record, password, true, true);
        if !errors.is_empty() {
            return Err(failed().with(errors));
        }
    }
    let mut errors = validate::record(connection, &context.schema, collection, &record, password.as_deref())?;
    hooks::check(collection, &record, &mut errors);
    hooks::check_new(context, collection, &record, &mut errors);
    if errors.is_empty() && is_taken(connection, context, collection, &record)? {
        return Err(id_is_taken());
    }
    if errors.is_empty() { Ok(Prepared::New(record)) } else { Err(failed().with(errors)) }
}

/// Whether a new record's id is in use: in its collection, or for an account in any collection of accounts, so that
/// nobody comes by the id that another's records name.
fn is_taken(
    connection: &Connection,
    context: &Context,
    collection: &Collection,
    record: &Record,
) -> rusqlite::Result<bool> {
    let id = rows::text(record, "id");
    let shares =
        |other: &&Collection| other.name == collection.name || collection.is_auth() && other.is_auth();
    for other in context.schema.all().iter().filter(shares) {
        if rows::find(connection, other, "id = ?1", &[&id])?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The context with what the body's modifiers come to in their place.
fn with_resolved_body<'a>(
    context: &'a Context,
    collection: &Collection,
    record: &Record,
) -> Cow<'a, Context> {
    match input::resolved(collection, record, &context.request.body, &*context.source) {
        None => Cow::Borrowed(context),
        Some(body) => {
            let mut context = context.clone();
            context.request.body = body;
            Cow::Owned(context)
        }
    }
}

/// The record that an earlier create with the same id made, if it was the same author's.
fn existing(
    connection: &Connection,
    collection: &Collection,
    record: &Record,
) -> Result<Option<Prepared>, ApiError> {
    let id = rows::text(record, "id");
    let Some(found) = rows::find(connection, collection, "id = ?1", &[&id])? else { return Ok(None) };
    if collection.is_auth() {
        let same = rows::text(&found, "email") == rows::text(record, "email")
            && !rows::text(record, "email").is_empty();
        return Ok(same.then_some(Prepared::Account(found)));
    }
    let Some(owner) = hooks::owner_field(collection) else { return Ok(None) };
    let same =
        rows::text(&found, owner) == rows::text(record, owner) && !rows::text(record, owner).is_empty();
    Ok(same.then_some(Prepared::Existing(found)))
}

/// Checks a create to its end: `prepare_create`, and whether the unique indexes will take the record.
///
/// # Errors
/// As [`create`], for as far as it does not depend on passwords.
pub fn check_create(
    connection: &Connection,
    context: &Context,
    collection: &Collection,
) -> Result<Prepared, ApiError> {
    let prepared = prepare_create(connection, context, collection)?;
    if let Prepared::New(record) = &prepared {
        fits(connection, collection, record, "Failed to create record")?;
    }
    Ok(prepared)
}

/// Whether the unique indexes will take a record, in the words of their refusal.
fn fits(
    connection: &Connection,
    collection: &Collection,
    record: &Record,
    message: &str,
) -> Result<(), ApiError> {
    for index in collection.indexes.iter().filter(|index| index.unique) {
        let columns = index.columns.iter().enumerate();
        let equal: Vec<String> = columns.map(|(at, column)| format!("\"{column}\" = ?{}", at + 2)).collect();
        let predicate = if index.predicate.is_empty() { "TRUE" } else { index.predicate };
        let text = format!(
            "SELECT 1 FROM main.\"{}\" WHERE {} AND id != ?1 AND ({predicate}) LIMIT 1",
            collection.name,
            equal.join(" AND ")
        );
        let values = ["id"].iter().chain(&index.columns);
        let values = values.map(|name| rows::sql(record.get(*name).unwrap_or(&Value::Null)));
        let mut statement = connection.prepare_cached(&text)?;
        if statement.query_row(params_from_iter(values), |_| Ok(())).optional()?.is_some() {
            return Err(ApiError::bad_request(message).with(not_unique(&index.columns)));
        }
    }
    Ok(())
}

/// 400 for a create of an account that is there, by somebody who does not have its password.
pub fn account_is_there() -> ApiError {
    ApiError::bad_request("Failed to create record").with(not_unique(&["email"]))
}

/// Creates within the caller's transaction.
///
/// # Errors
/// As `prepare_create`; 400 where a unique index refuses.
pub fn create(
    connection: &Connection,
    context: &Context,
    collection: &Collection,
    passwords: &Passwords,
    changes: &mut Vec<Change>,
) -> Result<Record, ApiError> {
    let mut record = match prepare_create(connection, context, collection)? {
        Prepared::New(record) => record,
        // An account with this id appeared since the check: its password was compared outside, or not at all.
        Prepared::Account(record)
            if passwords.old_opened.as_deref() == Some(rows::text(&record, "password")) =>
        {
            return Ok(record);
        }
        Prepared::Account(_) => return Err(account_is_there()),
        Prepared::Existing(record) => return Ok(record),
    };
    if let Some(hash) = &passwords.new_hash {
        record.insert("password".to_owned(), hash.clone().into());
    }
    rows::insert(connection, collection, &record)
        .map_err(|error| refused(error, "Failed to create record"))?;
    note(changes, collection, "create", &record);
    if collection.name == "votes" {
        votes::count(connection, context, None, Some(&record), changes)?;
    }
    Ok(record)
}

/// Checks an update. Returns the record as it is and as it will be.
///
/// # Errors
/// 400, 403 and 404 in PocketBase's words; SQLite's.
pub(super) fn prepare_update(
    connection: &Connection,
    context: &Context,
    collection: &Collection,
    id: &str,
    passwords: Option<&Passwords>,
) -> Result<(Record, Record), ApiError> {
    let known = rows::find(connection, collection, "id = ?1", &[&id])?.unwrap_or_default();
    let context = &*with_resolved_body(context, collection, &known);
    let old = visible(connection, context, collection, collection.rules.update, id)?;
    let failed = || ApiError::bad_request("Failed to update record");
    let superuser = context.is_superuser();
    let body = &context.request.body;
    let mut record = old.clone();
    input::apply(collection, &mut record, body, superuser);
    hooks::before_update(collection, &old, &mut record)?;
    stamp(context, collection, &mut record, false);
    let touches_password =
        ["password", "passwordConfirm", "oldPassword"].iter().any(|name| body.contains_key(*name));
    let password = (collection.is_auth() && touches_password).then(|| text(body, "password"));
    if collection.is_auth() {
        let opened =
            passwords.is_none_or(|known| known.old_opened.as_deref() == Some(rows::text(&old, "password")));
        let plain = password.as_deref().unwrap_or_default();
        let errors = account_form(context, &old, &record, plain, false, opened);
        if !errors.is_empty() {
            return Err(failed().with(errors));
        }
    }
    let plain = password.as_deref().filter(|_| body.contains_key("password"));
    let mut errors = validate::record(connection, &context.schema, collection, &record, plain)?;
    if rows::text(&old, "id") != rows::text(&record, "id") {
        errors.insert(
            "id".to_owned(),
            field_error("validation_pk_change", "The record primary key cannot be changed"),
        );
    }
    hooks::check(collection, &record, &mut errors);
    if errors.is_empty() { Ok((old, record)) } else { Err(failed().with(errors)) }
}

/// Checks an update to its end: `prepare_update` with what is known of the passwords, and whether the unique indexes
/// will take the record.
///
/// # Errors
/// As [`update`].
pub fn check_update(
    connection: &Connection,
    context: &Context,
    collection: &Collection,
    id: &str,
    passwords: Option<&Passwords>,
) -> Result<Record, ApiError> {
    let (old, record) = prepare_update(connection, context, collection, id, passwords)?;
    fits(connection, collection, &record, "Failed to update record")?;
    Ok(old)
}

/// Updates within the caller's transaction.
///
/// # Errors
/// As `prepare_update`; 400 where a unique index refuses.
pub fn update(
    connection: &Connection,
    context: &Context,
    collection: &Collection,
    id: &str,
    passwords: &Passwords,
    changes: &mut Vec<Change>,
) -> Result<Record, ApiError> {
    let (old, mut record) = prepare_update(connection, context, collection, id, Some(passwords))?;
    if let Some(hash) = &passwords.new_hash {
        record.insert("password".to_owned(), hash.clone().into());
    }
    let differs = |name: &str| old.get(name) != record.get(name);
    // A new password or address ends every token that was given out before.
    if collection.is_auth() && (differs("password") || differs("email")) && !differs("tokenKey") {
        record.insert("tokenKey".to_owned(), random::token_key(&*context.source).into());
    }
    rows::update(connection, collection, &record)
        .map_err(|error| refused(error, "Failed to update record"))?;
    note(changes, collection, "update", &record);
    if collection.name == "votes" {
        votes::count(connection, context, Some(&old), Some(&record), changes)?;
    }
    Ok(record)
}

/// A record that the caller may delete, as far as it is no matter of what points at it.
fn deletable(
    connection: &Connection,
    context: &Context,
    collection: &Collection,
    id: &str,
) -> Result<Record, ApiError> {
    let record = visible(connection, context, collection, collection.rules.delete, id)?;
    if collection.is_superusers() {
        let others: i64 =
            connection
                .query_row("SELECT count(*) FROM main._superusers WHERE id != ?1", [id], |row| row.get(0))?;
        if others == 0 {
            return Err(ApiError::bad_request("You can't delete the only existing superuser"));
        }
    }
    Ok(record)
}

/// Checks a delete.
///
/// # Errors
/// As [`delete`].
pub fn check_delete(
    connection: &Connection,
    context: &Context,
    collection: &Collection,
    id: &str,
) -> Result<(), ApiError> {
    deletable(connection, context, collection, id)?;
    references::check(connection, context, collection, id)
}

/// Deletes within the caller's transaction.
///
/// # Errors
/// 400, 403 and 404 in PocketBase's words; SQLite's.
pub fn delete(
    connection: &Connection,
    context: &Context,
    collection: &Collection,
    id: &str,
    changes: &mut Vec<Change>,
) -> Result<(), ApiError> {
    let record = deletable(connection, context, collection, id)?;
    references::release(connection, context, collection, id)?;
    rows::delete(connection, collection, id)?;
    note(changes, collection, "delete", &record);
    if collection.name == "votes" {
        votes::count(connection, context, Some(&record), None, changes)?;
    }
    Ok(())
}

/// An account that a wallet opens.
#[derive(Debug, Clone)]
pub struct WalletAccount {
    /// Its name.
    pub name: String,
    /// The wallet's address, small letters.
    pub address: String,
    /// The hash of a password that nobody knows.
    pub hash: String,
    /// Whether it may post at once.
    pub approve: bool,
}

/// Makes the oracle of a wallet within the caller's transaction. Its e-mail address holds the whole address of the
/// wallet: the original's first eight digits could collide.
///
/// # Errors
/// 400 where a unique index refuses.
pub fn create_for_wallet(
    connection: &Connection,
    context: &Context,
    account: &WalletAccount,
    changes: &mut Vec<Change>,
) -> Result<Record, ApiError> {
    let collection = context.schema.get("oracles");
    let record = of_wallet(context, account);
    rows::insert(connection, collection, &record)
        .map_err(|error| refused(error, "Failed to create record"))?;
    note(changes, collection, "create", &record);
    Ok(record)
}

/// Checks [`create_for_wallet`].
///
/// # Errors
/// The same.
pub fn check_for_wallet(
    connection: &Connection,
    context: &Context,
    account: &WalletAccount,
) -> Result<(), ApiError> {
    let collection = context.schema.get("oracles");
    fits(connection, collection, &of_wallet(context, account), "Failed to create record")
}

fn of_wallet(context: &Context, account: &WalletAccount) -> Record {
    let mut record = hooks::blank(context.schema.get("oracles"));
    let digits = account.address.trim_start_matches("0x");
    for (name, value) in [
        ("id", random::record_id(&*context.source)),
        ("tokenKey", random::token_key(&*context.source)),
        ("email", format!("{digits}{}", hooks::WALLET_DOMAIN)),
        ("name", account.name.clone()),
        ("password", account.hash.clone()),
        ("wallet_address", account.address.clone()),
    ] {
        record.insert(name.to_owned(), value.into());
    }
    record.insert("approved".to_owned(), account.approve.into());
    record
}

/// PocketBase's checks of an account's form, which run before and without those of the fields.
fn account_form(
    context: &Context,
    old: &Record,
    record: &Record,
    password: &str,
    is_new: bool,
    old_opened: bool,
) -> FieldErrors {
    let body = &context.request.body;
    let manages = context.is_superuser();
    let (confirm, old_password) = (text(body, "passwordConfirm"), text(body, "oldPassword"));
    let mut errors = FieldErrors::new();
    let mut complain = |name: &str, problem: Value| {
        errors.entry(name).or_insert(problem);
    };
    if !manages {
        if !is_new && old.get("email") != record.get("email") {
            complain("email", validate::mismatch());
        }
        if old.get("verified").and_then(Value::as_bool).unwrap_or(false)
            != (record.get("verified") == Some(&Value::Bool(true)))
        {
            complain("verified", validate::mismatch());
        }
    }
    if password.is_empty() && (is_new || !confirm.is_empty() || !old_password.is_empty()) {
        complain("password", validate::required());
    }
    if confirm.is_empty() && (is_new || !password.is_empty() || !old_password.is_empty()) {
        complain("passwordConfirm", validate::required());
    } else if confirm != password {
        complain("passwordConfirm", validate::mismatch());
    }
    if !is_new && !manages && (!password.is_empty() || !confirm.is_empty()) {
        if old_password.is_empty() {
            complain("oldPassword", validate::required());
        } else if !old_opened {
            complain(
                "oldPassword",
                field_error("validation_invalid_old_password", "Missing or invalid old password"),
            );
        }
    }
    errors
}

/// Sets the dates.
fn stamp(context: &Context, collection: &Collection, record: &mut Record, is_new: bool) {
    for field in &collection.fields {
        if let FieldKind::Autodate { on_update } = field.kind
            && (is_new || on_update)
        {
            record.insert(field.name.to_owned(), context.stamp().into());
        }
    }
}

/// A key of the body as text.
fn text(body: &Record, name: &str) -> String {
    body.get(name).map(input::text).unwrap_or_default()
}

/// SQLite's refusal as the fields' fault, if a unique index was the reason.
fn refused(error: rusqlite::Error, message: &str) -> ApiError {
    let rusqlite::Error::SqliteFailure(code, Some(text)) = &error else { return ApiError::internal(&error) };
    let columns = text.strip_prefix("UNIQUE constraint failed: ");
    let (ErrorCode::ConstraintViolation, Some(columns)) = (code.code, columns) else {
        return ApiError::internal(&error);
    };
    let names: Vec<&str> = columns.split(", ").filter_map(|column| column.rsplit('.').next()).collect();
    ApiError::bad_request(message).with(not_unique(&names))
}

/// 400 for a create whose id is in use.
pub fn id_is_taken() -> ApiError {
    ApiError::bad_request("Failed to create record").with(not_unique(&["id"]))
}

fn not_unique(names: &[&str]) -> FieldErrors {
    let problem = || field_error("validation_not_unique", "Value must be unique");
    names.iter().map(|name| ((*name).to_owned(), problem())).collect()
}
