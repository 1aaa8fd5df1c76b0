//! Tables and metadata exactly as PocketBase 0.36 makes them, so that either program opens the other's file.
//!
//! A collection is a table, its indexes, and a row of `_collections` that describes it in JSON.

use crate::schema::{Collection, Field, FieldKind, Index, Kind, Schema, field_id};
use rusqlite::{Connection, params};
use serde_json::{Value, json};

/// PocketBase's own tables that are no collections.
const OWN: &str = "
CREATE TABLE `_migrations` (file VARCHAR(255) PRIMARY KEY NOT NULL, applied INTEGER NOT NULL);
CREATE TABLE `_params` (
  `id` TEXT PRIMARY KEY DEFAULT ('r'||lower(hex(randomblob(7)))) NOT NULL,
  `value` JSON DEFAULT NULL,
  `created` TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%fZ')) NOT NULL,
  `updated` TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%fZ')) NOT NULL
);
CREATE TABLE `_collections` (
  `id` TEXT PRIMARY KEY DEFAULT ('r'||lower(hex(randomblob(7)))) NOT NULL,
  `system` BOOLEAN DEFAULT FALSE NOT NULL,
  `type` TEXT DEFAULT \"base\" NOT NULL,
  `name` TEXT UNIQUE NOT NULL,
  `fields` JSON DEFAULT \"[]\" NOT NULL,
  `indexes` JSON DEFAULT \"[]\" NOT NULL,
  `listRule` TEXT DEFAULT NULL,
  `viewRule` TEXT DEFAULT NULL,
  `createRule` TEXT DEFAULT NULL,
  `updateRule` TEXT DEFAULT NULL,
  `deleteRule` TEXT DEFAULT NULL,
  `options` JSON DEFAULT \"{}\" NOT NULL,
  `created` TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%fZ')) NOT NULL,
  `updated` TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%fZ')) NOT NULL
);
CREATE INDEX idx__collections_type on `_collections` (`type`);
";

/// The migrations that PocketBase and the original's Go program would have applied by now: they find their work done.
const MIGRATIONS: [&str; 13] = [
    "1640988000_aux_init.go",
    "1640988000_init.go",
    "1717233556_v0.23_migrate.go",
    "1717233557_v0.23_migrate2.go",
    "1717233558_v0.23_migrate3.go",
    "1717233559_v0.23_migrate4.go",
    "1763020353_update_default_auth_alert_templates.go",
    "1706745600_init_collections.go",
    "1706745601_add_timestamps.go",
    "1706745602_add_votes.go",
    "1706745604_add_github.go",
    "1706745605_add_wallet.go",
    "1706745610_create_admin.go",
];

/// Makes a new, empty database with every collection of `schema`. `now` is a date in PocketBase's form.
///
/// # Errors
/// SQLite's.
pub fn create(connection: &Connection, schema: &Schema, now: &str, now_micros: i64) -> rusqlite::Result<()> {
    connection.execute_batch(OWN)?;
    for (order, file) in (0_i64..).zip(MIGRATIONS) {
        connection.execute(
            "INSERT INTO _migrations (file, applied) VALUES (?1, ?2)",
            params![file, now_micros + order],
        )?;
    }
    let settings = settings().to_string();
    connection.execute(
        "INSERT INTO _params (id, value, created, updated) VALUES ('settings', ?1, ?2, ?2)",
        [settings.as_str(), now],
    )?;
    schema.all().iter().try_for_each(|collection| add_collection(connection, schema, collection, now))
}

/// Makes one collection: table, indexes, description.
///
/// # Errors
/// SQLite's.
pub fn add_collection(
    connection: &Connection,
    schema: &Schema,
    collection: &Collection,
    now: &str,
) -> rusqlite::Result<()> {
    let columns: Vec<String> = collection.fields.iter().map(column).collect();
    connection.execute_batch(&format!("CREATE TABLE `{}` ({})", collection.name, columns.join(", ")))?;
    add_indexes(connection, collection)?;
    let fields: Vec<Value> =
        collection.fields.iter().map(|field| describe(schema, field, collection)).collect();
    // PocketBase knows its own indexes only; ours beside them are none of its business.
    let indexes: Vec<String> = collection
        .indexes
        .iter()
        .filter(|index| is_pocketbases(index))
        .map(|index| index_sql(collection, index, ""))
        .collect();
    let kind = match collection.kind {
        Kind::Base => "base",
        Kind::Auth => "auth",
    };
    connection.execute(
        "INSERT INTO _collections (id, system, type, name, fields, indexes, listRule, viewRule, createRule, updateRule,
           deleteRule, options, created, updated)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?13)",
        params![
            collection.id,
            collection.system,
            kind,
            collection.name,
            Value::from(fields).to_string(),
            Value::from(indexes).to_string(),
            collection.rules.list,
            collection.rules.view,
            collection.rules.create,
            collection.rules.update,
            collection.rules.delete,
            options(collection).to_string(),
            now,
        ],
    )?;
    Ok(())
}

/// Makes the indexes that are not there yet.
///
/// # Errors
/// SQLite's.
pub fn add_indexes(connection: &Connection, collection: &Collection) -> rusqlite::Result<()> {
    for index in &collection.indexes {
        connection.execute_batch(&index_sql(collection, index, "IF NOT EXISTS "))?;
    }
    Ok(())
}

/// PocketBase defines unique indexes, and all indexes of its own tables; the others are ours, for the feed and the
/// pages.
fn is_pocketbases(index: &Index) -> bool {
    index.unique || index.name.starts_with("idx_mfas_") || index.name.starts_with("idx_otps_")
}

fn index_sql(collection: &Collection, index: &Index, clause: &str) -> String {
    let unique = if index.unique { "UNIQUE " } else { "" };
    let columns: Vec<String> = index.columns.iter().map(|column| format!("`{column}`")).collect();
    let (name, table, columns) = (&index.name, collection.name, columns.join(", "));
    let predicate =
        if index.predicate.is_empty() { String::new() } else { format!(" WHERE {}", index.predicate) };
    format!("CREATE {unique}INDEX {clause}`{name}` ON `{table}` ({columns}){predicate}")
}

/// A column's definition, for `CREATE TABLE` and `ADD COLUMN`.
pub fn column(field: &Field) -> String {
    let kind = match &field.kind {
        FieldKind::Id => "TEXT PRIMARY KEY DEFAULT ('r'||lower(hex(randomblob(7)))) NOT NULL",
        FieldKind::Bool => "BOOLEAN DEFAULT FALSE NOT NULL",
        FieldKind::Number { .. } => "NUMERIC DEFAULT 0 NOT NULL",
        _ if field.is_multiple() => "JSON DEFAULT '[]' NOT NULL",
        _ => "TEXT DEFAULT '' NOT NULL",
    };
    format!("`{}` {kind}", field.name)
}

/// A field as `_collections` describes it.
pub fn describe(schema: &Schema, field: &Field, collection: &Collection) -> Value {
    let (kind, mut specific) = specifics(schema, field, collection);
    let common = json!({
        "hidden": field.hidden, "id": field_id(kind, field.name), "name": field.name, "presentable": false,
        "system": field.system, "type": kind,
    });
    for (name, value) in common.as_object().into_iter().flatten() {
        specific[name] = value.clone();
    }
    if kind != "autodate" {
        specific["required"] = field.required.into();
    }
    specific
}

fn specifics(schema: &Schema, field: &Field, collection: &Collection) -> (&'static str, Value) {
    let text = |min: usize, max: usize, pattern: &str, generate: &str, key: bool| json!({ "autogeneratePattern": generate, "max": max, "min": min, "pattern": pattern, "primaryKey": key });
    match &field.kind {
        FieldKind::Id => ("text", text(15, 15, "^[a-z0-9]+$", "[a-z0-9]{15}", true)),
        FieldKind::TokenKey => ("text", text(30, 60, "", "[a-zA-Z0-9]{50}", false)),
        FieldKind::Text { min, max, pattern } => {
            ("text", text(*min, *max, pattern.map_or("", |pattern| pattern.expression()), "", false))
        }
        FieldKind::Password => {
            let (cost, min) = if collection.is_auth() { (0, 8) } else { (8, 0) };
            ("password", json!({ "cost": cost, "max": 0, "min": min, "pattern": "" }))
        }
        FieldKind::Email => ("email", json!({ "exceptDomains": null, "onlyDomains": null })),
        FieldKind::Url => ("url", json!({ "exceptDomains": null, "onlyDomains": null })),
        FieldKind::Bool => ("bool", json!({})),
        FieldKind::Number { min, max } => (
            "number",
            json!({ "max": max.map(super::rows::real), "min": min.map(super::rows::real), "onlyInt": false }),
        ),
        FieldKind::Autodate { on_update } => ("autodate", json!({ "onCreate": true, "onUpdate": on_update })),
        FieldKind::Date => ("date", json!({ "max": "", "min": "" })),
        FieldKind::Select { values, max } => ("select", json!({ "maxSelect": max, "values": values })),
        FieldKind::Relation { collection, max } => {
            let target = &schema.get(collection).id;
            (
                "relation",
                json!({ "cascadeDelete": false, "collectionId": target, "maxSelect": max, "minSelect": 0 }),
            )
        }
        FieldKind::File => {
            let types = ["image/jpeg", "image/png", "image/svg+xml", "image/gif", "image/webp"];
            (
                "file",
                json!({ "maxSelect": 1, "maxSize": 0, "mimeTypes": types, "protected": false, "thumbs": null }),
            )
        }
    }
}

/// The `options` of a collection. Only the token secrets differ from one database to another.
fn options(collection: &Collection) -> Value {
    let Some(auth) = &collection.auth else { return json!({}) };
    let mail = |subject: &str, action: &str| {
        let body = format!(
            "<p>{subject}.</p>\n<p><a class=\"btn\" href=\"{{APP_URL}}/_/#/auth/{action}/{{TOKEN}}\" \
             target=\"_blank\" rel=\"noopener\">Go on</a></p>\n<p>If you did not ask for this, leave it.</p>"
        );
        json!({ "subject": subject, "body": body })
    };
    let token = |secret: &str, duration: i64| json!({ "secret": secret, "duration": duration });
    let other = |name: &str| derived_secret(&auth.token_secret, name);
    json!({
        "authRule": "", "manageRule": null,
        "authAlert": { "enabled": false, "emailTemplate": {
            "subject": "New sign-in", "body": "<p>Somebody signed in from a new place: {ALERT_INFO}</p>" } },
        "oauth2": { "providers": null, "enabled": false,
            "mappedFields": { "id": "", "name": "", "username": "", "avatarURL": "" } },
        "passwordAuth": { "enabled": true, "identityFields": ["email"] },
        "mfa": { "enabled": false, "duration": 1800, "rule": "" },
        "otp": { "enabled": false, "duration": 180, "length": 8, "emailTemplate": {
            "subject": "Password for one sign-in", "body": "<p>The password for this sign-in: {OTP}</p>" } },
        "authToken": token(&auth.token_secret, auth.token_duration),
        "passwordResetToken": token(&other("passwordReset"), 1800),
        "emailChangeToken": token(&other("emailChange"), 1800),
        "verificationToken": token(&other("verification"), 259_200),
        "fileToken": token(&other("file"), 180),
        "verificationTemplate": mail("Confirm your e-mail address", "confirm-verification"),
        "resetPasswordTemplate": mail("Choose a new password", "confirm-password-reset"),
        "confirmEmailChangeTemplate": mail("Confirm your new e-mail address", "confirm-email-change"),
    })
}

/// Secrets of tokens that this server never gives out; PocketBase would, if it took the file over.
fn derived_secret(secret: &str, name: &str) -> String {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
    let tag = ring::hmac::sign(&key, name.as_bytes());
    tag.as_ref()
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|half| char::from(b'a' + half))
        .take(50)
        .collect()
}

/// PocketBase's settings for a file that this server made.
fn settings() -> Value {
    let s3 = json!({ "enabled": false, "bucket": "", "region": "", "endpoint": "", "accessKey": "", "forcePathStyle": false });
    let rule = |label: &str, seconds: u32, requests: u32| json!({ "label": label, "audience": "", "duration": seconds, "maxRequests": requests });
    json!({
        "smtp": { "enabled": false, "port": 587, "host": "", "username": "", "authMethod": "", "tls": false, "localName": "" },
        "backups": { "cron": "", "cronMaxKeep": 3, "s3": s3.clone() },
        "s3": s3,
        "meta": { "appName": "OracleNet", "appURL": "http://localhost:8090", "senderName": "OracleNet",
            "senderAddress": "noreply@localhost.localdomain", "hideControls": false },
        "rateLimits": { "enabled": true, "rules": [
            rule("*:auth", 3, 2), rule("*:create", 5, 20), rule("/api/batch", 1, 3), rule("/api/", 10, 300)] },
        "trustedProxy": { "headers": [], "useLeftmostIP": false },
        "batch": { "enabled": false, "maxRequests": 50, "timeout": 3, "maxBodySize": 0 },
        "logs": { "maxDays": 5, "minLevel": 0, "logIP": true, "logAuthId": false },
    })
}
