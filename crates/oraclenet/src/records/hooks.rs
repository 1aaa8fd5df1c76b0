//! What OracleNet adds to PocketBase's record operations: who the author is, what nobody may choose.

use super::Context;
use crate::db::rows::{self, Record};
use crate::http::error::{ApiError, FieldErrors, field_error};
use crate::schema::Collection;
use serde_json::{Value, json};

/// The field that says whose a record is; the server sets it on creation.
pub(super) fn owner_field(collection: &Collection) -> Option<&'static str> {
    match collection.name {
        "posts" | "comments" => Some("author"),
        "heartbeats" | "votes" => Some("oracle"),
        "connections" => Some("follower"),
        _ => None,
    }
}

/// After the create rule, before the checks.
///
/// # Errors
/// 400: somebody follows themselves.
pub(super) fn before_create(
    context: &Context,
    collection: &Collection,
    record: &mut Record,
) -> Result<(), ApiError> {
    if let Some(owner) = owner_field(collection) {
        record.insert(owner.to_owned(), context.owner().unwrap_or_default().into());
    }
    superusers_are_verified(collection, record);
    if collection.name == "oracles" {
        // Also for superusers: approval is always a step of its own.
        record.insert("approved".to_owned(), false.into());
    }
    no_self_follow(collection, record)
}

/// After the update rule, before the checks.
///
/// # Errors
/// 400: somebody follows themselves.
pub(super) fn before_update(
    collection: &Collection,
    old: &Record,
    record: &mut Record,
) -> Result<(), ApiError> {
    superusers_are_verified(collection, record);
    if collection.name == "votes" {
        // A vote stays whose it is: nobody votes as somebody else.
        record.insert("oracle".to_owned(), old.get("oracle").cloned().unwrap_or(Value::Null));
    }
    no_self_follow(collection, record)
}

fn superusers_are_verified(collection: &Collection, record: &mut Record) {
    if collection.is_superusers() {
        record.insert("verified".to_owned(), true.into());
    }
}

fn no_self_follow(collection: &Collection, record: &Record) -> Result<(), ApiError> {
    let both = [rows::text(record, "follower"), rows::text(record, "following")];
    if collection.name == "connections" && !both[0].is_empty() && both[0] == both[1] {
        return Err(ApiError::bad_request("Cannot follow yourself"));
    }
    Ok(())
}

/// The domain of the addresses that accounts of wallets get: one that somebody took beforehand would keep the wallet
/// from ever signing in.
pub(super) const WALLET_DOMAIN: &str = "@wallet.oraclenet";

/// Checks of a new record beyond [`check`]'s: addresses of wallets are given by this server.
pub(super) fn check_new(
    context: &Context,
    collection: &Collection,
    record: &Record,
    errors: &mut FieldErrors,
) {
    let email = rows::text(record, "email").to_ascii_lowercase();
    if collection.name == "oracles" && email.ends_with(WALLET_DOMAIN) && !context.is_superuser() {
        let problem = field_error("validation_invalid_value", "Addresses of this domain belong to wallets");
        errors.entry("email").or_insert(problem);
    }
}

/// Checks beyond the fields' own: a vote is one up or one down, for the one target that its type names.
pub(super) fn check(collection: &Collection, record: &Record, errors: &mut FieldErrors) {
    if collection.name != "votes" {
        return;
    }
    let value = record.get("value").and_then(Value::as_f64).unwrap_or(0.0);
    if value.abs() < 1.0 && value != 0.0 {
        let problem = field_error("validation_invalid_value", "Must be 1 or -1");
        errors.entry("value").or_insert(problem);
    }
    let (target, other) = match rows::text(record, "target_type") {
        "post" => ("target_post", "target_comment"),
        "comment" => ("target_comment", "target_post"),
        _ => return,
    };
    if rows::text(record, target).is_empty() {
        errors.entry(target).or_insert_with(super::validate::required);
    }
    if !rows::text(record, other).is_empty() {
        let problem = field_error("validation_invalid_value", "Must be blank for this target_type");
        errors.entry(other).or_insert(problem);
    }
}

/// The record as it is when nothing is said: every field's zero.
pub(super) fn blank(collection: &Collection) -> Record {
    use crate::schema::FieldKind;
    let zero = |field: &crate::schema::Field| match field.kind {
        FieldKind::Bool => json!(false),
        FieldKind::Number { .. } => json!(0),
        _ if field.is_multiple() => json!([]),
        _ => json!(""),
    };
    collection.fields.iter().map(|field| (field.name.to_owned(), zero(field))).collect()
}
