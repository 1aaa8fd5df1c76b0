//! `sort=-created,author.name` into ORDER BY.

use super::resolver::{Nature, Resolver};
use super::sql::{Sql, quote};
use super::{FilterError, limits};

/// The terms of an ORDER BY, in their order.
pub(super) fn order(resolver: &mut Resolver<'_>, text: &str, hidden: bool) -> Result<Vec<Sql>, FilterError> {
    if text.is_empty() {
        return Ok(vec![]);
    }
    let fields: Vec<&str> = text.split(',').map(str::trim).collect();
    if fields.len() > limits::SORT_FIELDS {
        return Err(FilterError::Limit("fields of a sort"));
    }
    fields.into_iter().map(|field| term(resolver, field, hidden)).collect()
}

fn term(resolver: &mut Resolver<'_>, field: &str, hidden: bool) -> Result<Sql, FilterError> {
    let (name, direction) = match field.strip_prefix('-') {
        Some(name) => (name, "DESC"),
        None => (field.strip_prefix('+').unwrap_or(field), "ASC"),
    };
    if name.len() > limits::SORT_BYTES {
        return Err(FilterError::Limit("bytes of a sort field"));
    }
    let expression = match name {
        "@random" => return Ok(Sql::text("RANDOM()")),
        "@rowid" => Sql::text(format!("{}._rowid_", quote(resolver.collection.name))),
        _ => {
            let resolved = resolver.field(name, hidden)?;
            // The order would tell addresses that are hidden, and a condition cannot guard an order.
            if resolved.guard.is_some() {
                return Err(FilterError::unknown(name));
            }
            // A value that is the same for all rows sorts nothing, and a number would mean a column.
            if resolved.nature != Nature::Open || resolved.sql.values().next().is_some() {
                return Err(FilterError::unknown(name));
            }
            resolved.sql
        }
    };
    Ok(Sql::of("{} {}", &[&expression, &Sql::text(direction)]))
}
