//! Signing in: `auth-with-password`, `auth-refresh`, `auth-methods`, `impersonate`, and what is switched off.

use super::answer;
use super::error::{ApiError, FieldErrors, field_error, field_error_with};
use super::request::Incoming;
use super::state::AppState;
use crate::auth::password::Stored;
use crate::auth::token::{self, Claims, Key};
use crate::db::Db;
use crate::db::rows::{self, Record};
use crate::filter::AuthRecord;
use crate::records::{self, Context};
use crate::schema::Collection;
use axum::body::Body;
use axum::http::Response;
use serde_json::{Value, json};
use std::sync::Arc;

type Answer = Result<Response<Body>, ApiError>;

/// The longest identity and password of a login, in characters.
const LOGIN_TEXT: usize = 255;

/// An auth collection by name or id.
///
/// # Errors
/// 404 in PocketBase's words.
fn auth_collection<'a>(state: &'a AppState, name: &str) -> Result<&'a Collection, ApiError> {
    let found = super::records::named(state, name);
    let found = found.ok_or_else(|| ApiError::new(404, "Missing or invalid collection context."))?;
    if found.is_auth() {
        Ok(found)
    } else {
        Err(ApiError::new(404, "Missing or invalid auth collection context."))
    }
}

/// `GET ../auth-methods`
///
/// # Errors
/// 404.
pub fn methods(state: &AppState, incoming: &Incoming, collection: &str) -> Answer {
    auth_collection(state, collection)?;
    let methods = json!({
        "password": { "identityFields": ["email"], "enabled": true },
        "oauth2": { "providers": [], "enabled": false },
        "mfa": { "enabled": false, "duration": 0 },
        "otp": { "enabled": false, "duration": 0 },
        "authProviders": null, "usernamePassword": false, "emailPassword": true,
    });
    answer::picked(incoming, methods, false)
}

/// `POST ../auth-with-password`. Writes nothing.
///
/// # Errors
/// 400 for wrong or unreadable input, 429 when too many passwords are being checked, 503 where it is not known whether
/// the password is wrong.
pub async fn with_password(state: &Arc<AppState>, mut incoming: Incoming, collection: &str) -> Answer {
    let collection = auth_collection(state, collection)?;
    let unreadable = || ApiError::bad_request("An error occurred while loading the submitted data.");
    let context = incoming.context(state).await.map_err(|error| {
        if error.status == 400 && error.message.starts_with("Something") { unreadable() } else { error }
    })?;
    let body = &context.request.body;
    let text = |name: &str| match body.get(name) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err(unreadable()),
    };
    let (identity, password, field) = (text("identity")?, text("password")?, text("identityField")?);
    check_login(&identity, &password, &field)?;
    let (schema, name) = (Arc::clone(&state.schema), collection.name);
    let record = state
        .db
        .read(move |connection| {
            rows::find(connection, schema.get(name), "email = ?1 AND email != ''", &[&identity])
                .map_err(ApiError::from)
        })
        .await?;
    let stored = record.as_ref().map(|record| Stored {
        hash: rows::text(record, "password").to_owned(),
        wallet_address: rows::text(record, "wallet_address").to_owned(),
    });
    let right = state.passwords.verify(password, stored).await.map_err(|_| ApiError::too_many(Some(1)))?;
    let Some(record) = record.filter(|_| right) else {
        // The account, or this password, may have been made elsewhere a moment ago.
        let wrong = ApiError::bad_request("Failed to authenticate");
        return Err(answer::not_written(Db::refuse(incoming.arrival, wrong)));
    };
    signed_in(state, &incoming, collection, record, None).await
}

fn check_login(identity: &str, password: &str, field: &str) -> Result<(), ApiError> {
    let mut errors = FieldErrors::new();
    for (name, text) in [("identity", identity), ("password", password)] {
        if text.is_empty() {
            errors.insert(name.to_owned(), field_error("validation_required", "Cannot be blank."));
        } else if text.chars().count() > LOGIN_TEXT {
            let message = format!("The length must be between 1 and {LOGIN_TEXT}");
            let params = json!({ "max": LOGIN_TEXT, "min": 1 });
            errors.insert(
                name.to_owned(),
                field_error_with("validation_length_out_of_range", &message, params),
            );
        }
    }
    if !field.is_empty() && field != "email" {
        errors.insert(
            "identityField".to_owned(),
            field_error("validation_in_invalid", "Must be a valid value"),
        );
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(invalid(errors))
}

/// 400 with what is wrong with each field of a form.
fn invalid(errors: FieldErrors) -> ApiError {
    ApiError::bad_request("An error occurred while validating the submitted data.").with(errors)
}

/// `POST ../auth-refresh`
///
/// # Errors
/// 401, 403 and 404 in PocketBase's words.
pub async fn refresh(state: &Arc<AppState>, incoming: Incoming, collection: &str) -> Answer {
    let found = super::records::named(state, collection);
    let found = found.ok_or_else(|| ApiError::new(404, "Missing or invalid collection context."))?;
    let (Some(auth), Some(token)) = (&incoming.auth, &incoming.token) else {
        return Err(ApiError::unauthorized("The request requires valid record authorization token."));
    };
    if auth.collection != found.name {
        let message = format!("The request requires auth record from {} collection.", auth.collection);
        return Err(ApiError::forbidden(&message));
    }
    let refreshable = token::peek(token).is_some_and(|claims| claims.refreshable);
    let kept = (!refreshable).then(|| token.clone());
    let record = auth.record.clone();
    signed_in(state, &incoming, found, record, kept).await
}

/// `POST ../impersonate/{id}`
///
/// # Errors
/// 401, 403 and 404 in PocketBase's words; 400 for a duration below zero.
pub async fn impersonate(
    state: &Arc<AppState>,
    mut incoming: Incoming,
    collection: &str,
    id: &str,
) -> Answer {
    superuser(&incoming)?;
    let collection = super::records::named(state, collection)
        .filter(|found| found.is_auth())
        .ok_or_else(|| ApiError::new(404, "Missing or invalid auth collection context."))?;
    let unreadable = || ApiError::bad_request("An error occurred while loading the submitted data.");
    let context = incoming.context(state).await.map_err(|_| unreadable())?;
    let duration = match context.request.body.get("duration") {
        None | Some(Value::Null) => 0,
        Some(value) => value.as_i64().ok_or_else(unreadable)?,
    };
    if duration < 0 {
        let problem = field_error_with(
            "validation_min_greater_equal_than_required",
            "Must be no less than 0",
            json!({ "threshold": 0 }),
        );
        let errors = [("duration".to_owned(), problem)].into_iter().collect();
        return Err(invalid(errors));
    }
    let (schema, name, id) = (Arc::clone(&state.schema), collection.name, id.to_owned());
    let find = move |connection: &rusqlite::Connection| {
        rows::find(connection, schema.get(name), "id = ?1", &[&id])?.ok_or_else(ApiError::not_found)
    };
    let record = state.db.check(incoming.arrival, find).await.map_err(answer::not_written)?;
    let token = mint(state, collection, &record, false, duration)?;
    let shown = show(state, &incoming, collection, record).await?;
    answer::picked(&incoming, json!({ "record": shown, "token": token }), false)
}

/// The answer to a login: the record as its owner sees it, and a token (`kept`, or a new one).
///
/// # Errors
/// The database's.
pub async fn signed_in(
    state: &Arc<AppState>,
    incoming: &Incoming,
    collection: &Collection,
    record: Record,
    kept: Option<String>,
) -> Answer {
    let token = match kept {
        Some(token) => token,
        None => mint(state, collection, &record, true, 0)?,
    };
    let shown = show(state, incoming, collection, record).await?;
    answer::picked(incoming, json!({ "record": shown, "token": token }), false)
}

async fn show(
    state: &Arc<AppState>,
    incoming: &Incoming,
    collection: &Collection,
    record: Record,
) -> Result<Value, ApiError> {
    let mut context: Context = incoming.context_with(state, Record::new());
    context.request.auth =
        Some(AuthRecord { collection: collection.name.to_owned(), record: record.clone() });
    let (name, expand) = (collection.name, incoming.param("expand").to_owned());
    state
        .db
        .read(move |connection| {
            records::show_one(connection, &context, context.schema.get(name), record, &expand)
        })
        .await
}

/// A token for an account, for `duration` seconds, or as long as its collection says for 0.
///
/// # Errors
/// 500: there is no secret to sign it with.
pub fn mint(
    state: &AppState,
    collection: &Collection,
    record: &Record,
    refreshable: bool,
    duration: i64,
) -> Result<String, ApiError> {
    let options = collection.auth.as_ref().ok_or_else(ApiError::not_found)?;
    let key = Key::new(rows::text(record, "tokenKey"), &options.token_secret)
        .ok_or_else(|| ApiError::internal(&"an account or its collection has no key to sign tokens with"))?;
    let duration = if duration == 0 { options.token_duration } else { duration };
    let end = crate::time::now(&*state.clock).timestamp().saturating_add(duration);
    Ok(token::mint(&Claims::auth(&collection.id, rows::text(record, "id"), refreshable, end), &key))
}

/// Lets superusers pass.
///
/// # Errors
/// 401 for guests, 403 for everybody else.
pub fn superuser(incoming: &Incoming) -> Result<(), ApiError> {
    match &incoming.auth {
        None => Err(ApiError::unauthorized("The request requires valid record authorization token.")),
        Some(auth) if auth.collection != "_superusers" => {
            Err(ApiError::forbidden("The authorized record is not allowed to perform this action."))
        }
        Some(_) => Ok(()),
    }
}

/// `POST /api/files/token`: there are no files, so nobody needs one.
///
/// # Errors
/// 401 for guests, 403 for everybody else.
pub fn file_token(incoming: &Incoming) -> Answer {
    Err(match incoming.auth {
        None => ApiError::unauthorized("The request requires valid record authorization token."),
        Some(_) => ApiError::forbidden("This server keeps no files"),
    })
}

/// What PocketBase answers for what is switched off here: OAuth2, one-time passwords, mails.
///
/// # Errors
/// Always, but for the requests of mails to anybody, which say nothing.
pub async fn switched_off(
    state: &Arc<AppState>,
    mut incoming: Incoming,
    collection: &str,
    action: &str,
) -> Answer {
    let collection = auth_collection(state, collection)?;
    match action {
        "request-otp" | "auth-with-otp" => {
            Err(ApiError::forbidden("The collection is not configured to allow OTP authentication."))
        }
        "auth-with-oauth2" => {
            Err(ApiError::forbidden("The collection is not configured to allow OAuth2 authentication."))
        }
        "request-password-reset" | "request-verification" => {
            let context = incoming.context(state).await?;
            let email = records::body_text(&context.request.body, "email");
            let problem = match email.as_str() {
                "" => Some(field_error("validation_required", "Cannot be blank.")),
                email if !records::formats::is_email(email) => {
                    Some(field_error("validation_is_email", "Must be a valid email address"))
                }
                _ => None,
            };
            let Some(problem) = problem else { return Ok(answer::empty()) };
            Err(invalid([("email".to_owned(), problem)].into_iter().collect()))
        }
        _ => confirm(state, incoming, collection.name, action).await,
    }
}

/// Confirmations need a token out of a mail that was never sent.
async fn confirm(state: &Arc<AppState>, mut incoming: Incoming, collection: &str, action: &str) -> Answer {
    let changes_email = action == "request-email-change";
    match &incoming.auth {
        None if changes_email => {
            return Err(ApiError::unauthorized("The request requires valid record authorization token."));
        }
        Some(auth) if changes_email && auth.collection != collection => {
            let message = format!("The request requires auth record from {} collection.", auth.collection);
            return Err(ApiError::forbidden(&message));
        }
        _ => {}
    }
    let context = incoming.context(state).await?;
    let text = |name: &str| records::body_text(&context.request.body, name);
    if changes_email {
        return Err(new_email_error(state, &incoming, &text("newEmail")).await?);
    }
    let names: &[&str] = match action {
        "confirm-password-reset" => &["token", "password", "passwordConfirm"],
        "confirm-verification" => &["token"],
        _ => &["token", "password"],
    };
    let mut errors = FieldErrors::new();
    for name in names {
        let problem = match (*name, text(name)) {
            (_, text) if text.is_empty() => field_error("validation_required", "Cannot be blank."),
            ("token", _) => bad_token(action),
            ("password", _) if action == "confirm-email-change" => {
                field_error("validation_invalid_password", "Missing or invalid auth record password.")
            }
            ("password", text) if !(8..=LOGIN_TEXT).contains(&text.len()) => field_error_with(
                "validation_length_out_of_range",
                &format!("The length must be between 8 and {LOGIN_TEXT}"),
                json!({ "max": LOGIN_TEXT, "min": 8 }),
            ),
            ("passwordConfirm", confirm) if confirm != text("password") => {
                field_error("validation_values_mismatch", "Values don't match.")
            }
            _ => continue,
        };
        errors.insert((*name).to_owned(), problem);
    }
    Err(invalid(errors))
}

/// No token opens a confirmation: none was ever sent.
fn bad_token(action: &str) -> Value {
    match action {
        "confirm-verification" => {
            field_error("validation_invalid_token_claims", "Missing email token claim.")
        }
        "confirm-email-change" => {
            let message = "Invalid token payload - newEmail must be set.";
            field_error("validation_invalid_token_payload", message)
        }
        _ => field_error("validation_invalid_token", "Invalid or expired token."),
    }
}

/// Why the mail that would confirm a new address is not sent.
async fn new_email_error(state: &AppState, incoming: &Incoming, email: &str) -> Result<ApiError, ApiError> {
    let problem = match &incoming.auth {
        _ if email.is_empty() => field_error("validation_required", "Cannot be blank."),
        _ if !records::formats::is_email(email) => {
            field_error("validation_is_email", "Must be a valid email address")
        }
        Some(auth) if rows::text(&auth.record, "email") == email => {
            field_error("validation_not_in_invalid", "Must not be in list")
        }
        Some(auth) if is_taken(state, &auth.collection, email).await? => {
            field_error("validation_invalid_new_email", "Invalid new email address")
        }
        _ => return Ok(ApiError::bad_request("Failed to request email change.")),
    };
    Ok(invalid([("newEmail".to_owned(), problem)].into_iter().collect()))
}

async fn is_taken(state: &AppState, collection: &str, email: &str) -> Result<bool, ApiError> {
    let (schema, name, email) = (Arc::clone(&state.schema), collection.to_owned(), email.to_owned());
    let found = state.db.read(move |connection| {
        rows::find(connection, schema.get(&name), "email = ?1", &[&email]).map_err(ApiError::from)
    });
    Ok(found.await?.is_some())
}
