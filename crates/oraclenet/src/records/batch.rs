//! Several changes in one transaction: all of them, or none and the reason. PocketBase's `/api/batch`.
//!
//! Each request is checked and applied as if it came alone, after those before it, in the name of whoever sent the
//! batch. Passwords are not hashed or compared in here, since that takes long and this holds the writer:
//! [`Batch::password_work`] says what there is to do, and [`Batch::run`] takes what it came to. A batch that changes
//! the same password twice is refused, since the second comparison is with what the first one makes; PocketBase, which
//! does that work in its transaction, allows it.

use super::{
    Context, Passwords, Prepared, account_is_there, check_create, check_delete, check_update, create, delete,
    input, json, pick, show_one, still_signed_in, update,
};
use crate::auth::password::{Stored, has_good_length};
use crate::db::Change;
use crate::db::rows::{self, Record};
use crate::http::error::{ApiError, FieldErrors, field_error, field_error_with};
use crate::schema::Collection;
use rusqlite::Connection;
use serde_json::{Map, Value, json};

/// Requests of one batch (PocketBase's default).
pub(super) const MAX_REQUESTS: usize = 50;
/// Bytes of a request's URL (PocketBase's).
pub(super) const MAX_URL_BYTES: usize = 2000;

/// A batch that can be read. Not each of its requests needs to make sense.
pub struct Batch {
    steps: Vec<Step>,
}

struct Step {
    /// Headers, query and body are its own.
    context: Context,
    target: Option<Target>,
}

/// What a request is about, by its method and path.
struct Target {
    operation: Operation,
    /// As it stands in the path.
    collection: String,
}

enum Operation {
    Create,
    Update(String),
    Delete(String),
    /// Update if the body's id is there, create if not.
    Put,
}

/// What takes long and is to be done before the transaction.
pub struct PasswordWork {
    /// Which request it is for.
    pub request: usize,
    /// The account's collection.
    pub collection: &'static str,
    /// A new password, to be hashed.
    pub hash: Option<String>,
    /// A password, to be compared with what is stored.
    pub compare: Option<(String, Stored)>,
}

impl Batch {
    /// Reads the body of a batch. `context` is that of the whole request; `query` reads a URL's query.
    ///
    /// # Errors
    /// 400 in PocketBase's words.
    pub fn parse(body: &Record, context: &Context, query: impl Fn(&str) -> Record) -> Result<Self, ApiError> {
        let unreadable = || ApiError::bad_request("Failed to read the submitted batch data");
        let requests = match json::member(body, "requests") {
            Value::Null => &Vec::new(),
            Value::Array(requests) => requests,
            _ => return Err(unreadable()),
        };
        let requests: Option<Vec<Request<'_>>> = requests.iter().map(Request::read).collect();
        let requests = requests.ok_or_else(unreadable)?;
        let problem = match requests.len() {
            0 => Some(super::validate::required()),
            count if count > MAX_REQUESTS => Some(too_long(MAX_REQUESTS)),
            _ => {
                let each = requests.iter().enumerate();
                let problems: FieldErrors =
                    each.filter_map(|(at, it)| Some((at.to_string(), it.problem()?))).collect();
                (!problems.is_empty()).then_some(Value::Object(problems))
            }
        };
        if let Some(problem) = problem {
            let data = FieldErrors::from_iter([("requests".to_owned(), problem)]);
            return Err(ApiError::bad_request("Invalid batch request data").with(data));
        }
        Ok(Self { steps: requests.into_iter().map(|request| request.step(context, &query)).collect() })
    }

    /// The collection of each request that makes a record, or may (`PUT`), for rate limits.
    pub fn creates(&self) -> impl Iterator<Item = &'static str> {
        let targets = self.steps.iter().filter_map(Step::target);
        let made = targets.filter(|(it, _)| matches!(it.operation, Operation::Create | Operation::Put));
        made.map(|(_, collection)| collection.name)
    }

    /// The passwords to hash and to compare before [`Batch::run`].
    ///
    /// # Errors
    /// SQLite's.
    pub fn password_work(&self, connection: &Connection) -> Result<Vec<PasswordWork>, ApiError> {
        let mut work = Vec::new();
        for (request, step) in self.steps.iter().enumerate() {
            let Some((target, collection)) = step.target().filter(|(_, it)| it.is_auth()) else { continue };
            if matches!(target.operation, Operation::Delete(_)) {
                continue;
            }
            let hash = Some(step.text("password")).filter(|password| has_good_length(password));
            let (row, replaces) = match &target.operation {
                Operation::Update(id) => (find(connection, collection, id)?, true),
                Operation::Put => (find(connection, collection, &step.text("id"))?, true),
                _ => (find(connection, collection, &step.text("id"))?, false),
            };
            // A create of an account that is there is the repetition of an earlier one, if the password opens it.
            let name = if replaces { "oldPassword" } else { "password" };
            let needed = !(replaces && step.context.is_superuser());
            let password = Some(step.text(name)).filter(|password| needed && !password.is_empty());
            let compare = password.zip(row).map(|(password, row)| {
                let text = |name: &str| rows::text(&row, name).to_owned();
                (password, Stored { hash: text("password"), wallet_address: text("wallet_address") })
            });
            if hash.is_some() || compare.is_some() {
                work.push(PasswordWork { request, collection: collection.name, hash, compare });
            }
        }
        Ok(work)
    }

    /// Checks what can be checked before the transaction: the first request to its end, and of the others, which may
    /// speak of what those before them make, that they make sense and may be made at all.
    ///
    /// # Errors
    /// As [`Batch::run`].
    pub fn check(&self, connection: &Connection, passwords: &[(usize, Passwords)]) -> Result<(), ApiError> {
        for (at, step) in self.steps.iter().enumerate() {
            let checked = match at {
                0 => step.check(connection, &known(passwords, at)),
                _ => step.allowed().map(drop),
            };
            match checked {
                Err(error) if error.status < 500 => return Err(failed(at, &error)),
                checked => checked?,
            }
        }
        Ok(())
    }

    /// Applies all requests, in the caller's transaction, and gives the answers. `passwords` is what the work for each
    /// request came to, for as many as had any.
    ///
    /// # Errors
    /// 400 with the first request that failed; the transaction must be undone then. SQLite's.
    pub fn run(
        &self,
        connection: &Connection,
        passwords: &[(usize, Passwords)],
        changes: &mut Vec<Change>,
    ) -> Result<Value, ApiError> {
        // Once for all: a request may change the password of the account that sends them.
        if let Some(step) = self.steps.first() {
            still_signed_in(connection, &step.context)?;
        }
        let mut answers = Vec::with_capacity(self.steps.len());
        for (at, step) in self.steps.iter().enumerate() {
            match step.run(connection, &known(passwords, at), changes) {
                Ok(Some(body)) => answers.push(json!({ "body": body, "status": 200 })),
                Ok(None) => answers.push(json!({ "body": null, "status": 204 })),
                Err(error) if error.status >= 500 => return Err(error),
                Err(error) => return Err(failed(at, &error)),
            }
        }
        Ok(Value::Array(answers))
    }
}

/// What is known of the passwords of a request.
fn known(passwords: &[(usize, Passwords)], at: usize) -> Passwords {
    let known = passwords.iter().find(|(request, _)| *request == at).map(|(_, known)| known);
    known.cloned().unwrap_or_default()
}

/// The answer to a batch of which this request failed.
fn failed(at: usize, error: &ApiError) -> ApiError {
    let mut problem = Map::new();
    problem.insert("code".to_owned(), "batch_request_failed".into());
    problem.insert("message".to_owned(), "Batch request failed.".into());
    problem.insert("response".to_owned(), error.body());
    let requests = Map::from_iter([(at.to_string(), Value::Object(problem))]);
    let data = FieldErrors::from_iter([("requests".to_owned(), Value::Object(requests))]);
    ApiError::bad_request("Batch transaction failed").with(data)
}

fn too_long(max: usize) -> Value {
    let message = format!("The length must be no more than {max}");
    field_error_with("validation_length_too_long", &message, json!({ "max": max, "min": 0 }))
}

fn find(connection: &Connection, collection: &Collection, id: &str) -> rusqlite::Result<Option<Record>> {
    rows::find(connection, collection, "id = ?1", &[&id])
}

/// A request as the client wrote it.
struct Request<'a> {
    method: &'a str,
    url: &'a str,
    headers: Vec<(&'a str, &'a str)>,
    body: Record,
}

impl<'a> Request<'a> {
    fn read(value: &'a Value) -> Option<Self> {
        let request = value.as_object()?;
        let text = |name: &str| match json::member(request, name) {
            Value::Null => Some(""),
            value => value.as_str(),
        };
        let headers = match json::member(request, "headers") {
            Value::Null => Vec::new(),
            value => {
                let headers = value.as_object()?.iter();
                headers.map(|(name, value)| Some((name.as_str(), value.as_str()?))).collect::<Option<_>>()?
            }
        };
        let body = match json::member(request, "body") {
            Value::Null => Record::new(),
            value => value.as_object()?.clone(),
        };
        Some(Self { method: text("method")?, url: text("url")?, headers, body })
    }

    fn problem(&self) -> Option<Value> {
        let mut errors = FieldErrors::new();
        match self.method {
            "" => drop(errors.insert("method".to_owned(), super::validate::required())),
            "GET" | "POST" | "PUT" | "PATCH" | "DELETE" => {}
            _ => {
                let problem = field_error("validation_in_invalid", "Must be a valid value");
                errors.insert("method".to_owned(), problem);
            }
        }
        match self.url.len() {
            0 => drop(errors.insert("url".to_owned(), super::validate::required())),
            length if length > MAX_URL_BYTES => {
                errors.insert("url".to_owned(), too_long(MAX_URL_BYTES));
            }
            _ => {}
        }
        (!errors.is_empty()).then_some(Value::Object(errors))
    }

    fn step(self, context: &Context, query: &impl Fn(&str) -> Record) -> Step {
        let (path, text) = self.url.split_once('?').unwrap_or((self.url, ""));
        let mut context = context.clone();
        // Who asks is settled by the batch as a whole.
        let own = self.headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("authorization"));
        let own = own.map(|(name, value)| (name.to_lowercase().replace('-', "_"), Value::from(*value)));
        context.request.headers.extend(own);
        context.request.context = "batch";
        context.request.method = self.method.to_owned();
        context.request.query = query(text);
        context.request.body = self.body;
        Step { context, target: Target::of(self.method, path) }
    }
}

impl Target {
    fn of(method: &str, path: &str) -> Option<Self> {
        let mut segments = path.strip_prefix("/api/collections/")?.split('/');
        let collection = segments.next().filter(|name| !name.is_empty())?.to_owned();
        segments.next().filter(|segment| *segment == "records")?;
        let id = segments.next();
        if segments.next().is_some() || id == Some("") {
            return None;
        }
        let operation = match (method, id) {
            ("POST", None) => Operation::Create,
            ("PUT", None) => Operation::Put,
            ("PATCH", Some(id)) => Operation::Update(id.to_owned()),
            ("DELETE", Some(id)) => Operation::Delete(id.to_owned()),
            _ => return None,
        };
        Some(Self { operation, collection })
    }
}

impl Step {
    /// What it is about, if that is there.
    fn target(&self) -> Option<(&Target, &Collection)> {
        let target = self.target.as_ref()?;
        Some((target, self.context.collection(&target.collection).ok()?))
    }

    /// A field of the body, as the record's fields take it.
    fn text(&self, name: &str) -> String {
        self.context.request.body.get(name).map(input::text).unwrap_or_default()
    }

    /// What it is about, if that makes sense and its caller may do it to any record at all.
    fn allowed(&self) -> Result<(&Target, &Collection), ApiError> {
        let target = self.target.as_ref().ok_or_else(ApiError::unreadable)?;
        let collection = self.context.collection(&target.collection)?;
        let rules = &collection.rules;
        let closed = match &target.operation {
            Operation::Create => rules.create.is_none(),
            Operation::Update(_) => rules.update.is_none(),
            Operation::Delete(_) => rules.delete.is_none(),
            Operation::Put => rules.create.is_none() && rules.update.is_none(),
        };
        if closed && !self.context.is_superuser() {
            return Err(ApiError::superusers_only());
        }
        Ok((target, collection))
    }

    /// Checks it on a connection that only reads, as if nothing came before it.
    fn check(&self, connection: &Connection, passwords: &Passwords) -> Result<(), ApiError> {
        let (target, collection) = self.allowed()?;
        let mut context = self.context.clone();
        let update_of = match &target.operation {
            Operation::Delete(id) => return check_delete(connection, &context, collection, id),
            operation => self.update_of(connection, collection, operation)?,
        };
        context.request.method = if update_of.is_some() { "PATCH" } else { "POST" }.to_owned();
        if let Some(id) = update_of {
            return check_update(connection, &context, collection, &id, Some(passwords)).map(drop);
        }
        match check_create(connection, &context, collection)? {
            Prepared::Account(_) if passwords.old_opened.is_none() => Err(account_is_there()),
            _ => Ok(()),
        }
    }

    /// The record that it changes; `None` if it makes one.
    fn update_of(
        &self,
        connection: &Connection,
        collection: &Collection,
        operation: &Operation,
    ) -> Result<Option<String>, ApiError> {
        Ok(match operation {
            Operation::Update(id) => Some(id.clone()),
            Operation::Put => {
                let id = self.text("id");
                find(connection, collection, &id)?.map(|_| id)
            }
            Operation::Create | Operation::Delete(_) => None,
        })
    }

    /// Applies it; the record that there is now, none after a delete.
    fn run(
        &self,
        connection: &Connection,
        passwords: &Passwords,
        changes: &mut Vec<Change>,
    ) -> Result<Option<Value>, ApiError> {
        let target = self.target.as_ref().ok_or_else(ApiError::unreadable)?;
        let collection = self.context.collection(&target.collection)?;
        let mut context = self.context.clone();
        let update_of = match &target.operation {
            Operation::Delete(id) => {
                delete(connection, &context, collection, id, changes)?;
                return Ok(None);
            }
            operation => self.update_of(connection, collection, operation)?,
        };
        if collection.is_auth() && passwords.new_hash.is_none() && has_good_length(&self.text("password")) {
            return Err(ApiError::internal(&"BUG: the new password of a batch was not hashed before it"));
        }
        context.request.method = if update_of.is_some() { "PATCH" } else { "POST" }.to_owned();
        let record = match update_of {
            Some(id) => update(connection, &context, collection, &id, passwords, changes)?,
            None => create(connection, &context, collection, passwords, changes)?,
        };
        let option = |name: &str| rows::text(&context.request.query, name);
        let shown = show_one(connection, &context, collection, record, option("expand"))?;
        let shown = pick(shown, option("fields"), false).map_err(|_| ApiError::unreadable())?;
        Ok(Some(shown))
    }
}

#[cfg(test)]
mod tests;
