//! Records as clients see them.

use super::Context;
use crate::db::rows::Record;
use crate::schema::Collection;
use serde_json::Value;

/// A record without its hidden fields. The e-mail address of an account is shown to itself, to superusers, and to
/// everybody if the account wants that.
pub fn public(context: &Context, collection: &Collection, record: &Record) -> Record {
    let shows_email = !collection.is_auth()
        || context.is_superuser()
        || record.get("emailVisibility").and_then(Value::as_bool) == Some(true)
        || context.is_self(collection, record);
    let mut out = Record::new();
    for field in collection.fields.iter().filter(|field| !field.hidden) {
        if field.name == "email" && !shows_email {
            continue;
        }
        out.insert(field.name.to_owned(), record.get(field.name).cloned().unwrap_or(Value::Null));
    }
    out.insert("collectionId".to_owned(), collection.id.clone().into());
    out.insert("collectionName".to_owned(), collection.name.into());
    out
}

/// A member of an object from a client, in whatever case its name is written, as Go reads it; null if it is not there.
pub fn member<'a>(object: &'a Record, name: &str) -> &'a Value {
    let other_case = || object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    object.get(name).or_else(other_case).unwrap_or(&Value::Null)
}
