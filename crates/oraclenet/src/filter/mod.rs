//! PocketBase's filter and sort language, compiled to SQLite.
//!
//! An expression becomes joins, a condition and an order for a SELECT of one collection's table. The way is `lexer`,
//! `parser`, then for each operand `resolver` (columns and joins), `request`, `macros` and `functions`, then
//! `compare`; `sort` uses the same resolver. Whatever a client sent is a bound parameter: SQL text has constants,
//! names of the schema and generated aliases only. Nothing here opens a database or looks at a clock.
//!
//! Narrower than PocketBase, on purpose: a parenthesis in the place of an operator or operand is refused (`parser`);
//! a client cannot go through a relation to a collection whose list rule is not open to everybody; a function of a
//! hidden e-mail address finds nothing, and nobody but superusers sorts by addresses. Wider: a comment may stand within parentheses, and the right side of `~` may
//! be `@request.body.field:each`, where the original fails. Undecided, there as here: which record counts when a
//! sort's path meets several.

mod compare;
mod functions;
mod lexer;
mod macros;
mod parser;
mod request;
mod resolver;
mod sort;
mod sql;
#[cfg(test)]
mod tests;

use chrono::{DateTime, Utc};
use rusqlite::types::Value as Bound;
use serde_json::{Map, Value};

use crate::schema::{Collection, Schema};
use parser::{Junction, Node, Operand};
use resolver::{Joins, Resolved, Resolver};
use sql::Sql;

/// What an expression may cost.
pub mod limits {
    /// Bytes of one filter.
    pub const FILTER_BYTES: usize = 3500;
    /// Comparisons of one filter.
    pub const COMPARISONS: usize = 200;
    /// Fields of a sort.
    pub const SORT_FIELDS: usize = 8;
    /// Bytes of one field of a sort.
    pub const SORT_BYTES: usize = 255;
    /// Relations that one path may follow.
    pub const RELATIONS: usize = 6;
    /// Joined tables of one query; SQLite joins 64, and the collection's own is one of them.
    pub const JOINS: usize = 63;
}

/// Why an expression cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// It is not written as it must be. 400.
    #[error("the filter or sort cannot be read: {0}")]
    Malformed(String),
    /// It names what is not there, or is not there for this caller. 400.
    #[error("there is no field {0:?} to filter or sort by")]
    UnknownField(String),
    /// It is larger than allowed. 400.
    #[error("too many {0}")]
    Limit(&'static str),
    /// It uses what only rules and superusers may use. 403.
    #[error("only superusers can filter by {0}")]
    Forbidden(&'static str),
}

impl FilterError {
    /// The HTTP status of the answer.
    pub fn status(&self) -> u16 {
        if matches!(self, Self::Forbidden(_)) { 403 } else { 400 }
    }

    /// The answer's message, in PocketBase's words.
    pub fn message(&self) -> String {
        match self {
            Self::Forbidden(what) => format!("Only superusers can filter by {what}"),
            _ => "Something went wrong while processing your request.".to_owned(),
        }
    }

    fn malformed(what: impl Into<String>) -> Self {
        Self::Malformed(what.into())
    }

    fn unknown(name: &str) -> Self {
        Self::UnknownField(name.to_owned())
    }
}

/// What rules and filters may know of the request.
#[derive(Debug, Clone, Default)]
pub struct RequestInfo {
    /// Where the request came from: `default`, `realtime`, `batch`, `expand`, ...
    pub context: &'static str,
    /// The HTTP method.
    pub method: String,
    /// Headers: names in lower case, `_` for `-`.
    pub headers: Map<String, Value>,
    /// The query's parameters.
    pub query: Map<String, Value>,
    /// The body's fields.
    pub body: Map<String, Value>,
    /// Who asks; `None` is a guest.
    pub auth: Option<AuthRecord>,
}

/// Who asks.
#[derive(Debug, Clone)]
pub struct AuthRecord {
    /// The collection's name.
    pub collection: String,
    /// Every column, hidden ones as well, in the types of the schema.
    pub record: Map<String, Value>,
}

/// Whose expression it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// A client's: no hidden fields, no `@request`, no `@collection`.
    Client,
    /// A rule of the schema.
    Rule,
    /// A superuser's.
    Superuser,
}

/// What a SELECT of the collection's table needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// `LEFT JOIN ...`, or nothing.
    pub joins: String,
    /// The condition, or nothing.
    pub conditions: String,
    /// The terms of ORDER BY, or nothing. It has no parameters.
    pub order: String,
    /// The values of `?1` and up, in the order of joins, then conditions.
    pub params: Vec<Bound>,
    /// Whether joins can repeat a row.
    pub distinct: bool,
}

/// Refuses what a client may not say, in the order in which PocketBase looks: before it reads anything else of the
/// query, wherever the words stand.
pub fn check_client(filter: &str, sort: &str) -> Result<(), FilterError> {
    for text in [filter, sort] {
        for reserved in ["@collection.", "@request."] {
            if text.contains(reserved) {
                return Err(FilterError::Forbidden(reserved));
            }
        }
    }
    Ok(())
}

/// Collects conditions and an order for one SELECT.
///
/// The query's main table must be named like the collection, without a database's name before it; a common table
/// expression of that name serves as well, and joins then still reach the real tables.
pub struct Compiler<'a> {
    resolver: Resolver<'a>,
    conditions: Vec<Sql>,
    order: Vec<Sql>,
    comparisons: usize,
}

impl<'a> Compiler<'a> {
    /// A compiler of expressions about `collection`, at the time `now`.
    pub fn new(
        schema: &'a Schema,
        collection: &'a Collection,
        request: &'a RequestInfo,
        now: DateTime<Utc>,
    ) -> Self {
        let resolver = Resolver { schema, collection, request, now, joins: Joins::default() };
        Self { resolver, conditions: Vec::new(), order: Vec::new(), comparisons: 0 }
    }

    /// Adds a condition that must hold as well. An empty expression holds always.
    pub fn condition(&mut self, expression: &str, access: Access) -> Result<(), FilterError> {
        if expression.is_empty() {
            return Ok(());
        }
        let hidden = self.admit(expression, "", access)?;
        let condition = self.node(&parser::parse(expression)?, hidden)?;
        self.conditions.push(condition);
        Ok(())
    }

    /// Adds terms to the order.
    pub fn sort(&mut self, sort: &str, access: Access) -> Result<(), FilterError> {
        let hidden = self.admit("", sort, access)?;
        let terms = sort::order(&mut self.resolver, sort, hidden)?;
        self.order.extend(terms);
        Ok(())
    }

    /// The parts of the query, with parameters from `?1`.
    pub fn finish(self) -> Query {
        self.finish_after(0)
    }

    /// The parts of the query, with parameters from one past `taken`, for a statement with parameters before them.
    pub fn finish_after(self, taken: usize) -> Query {
        let mut params = Vec::new();
        let joins = Sql::join(&self.resolver.joins.clauses, " ");
        Query {
            joins: joins.render(taken, &mut params),
            conditions: Sql::join(&self.conditions, " AND ").render(taken, &mut params),
            order: Sql::join(&self.order, ", ").render(taken, &mut params),
            params,
            distinct: !self.resolver.joins.clauses.is_empty(),
        }
    }

    /// Whether hidden fields may be used.
    fn admit(&self, filter: &str, sort: &str, access: Access) -> Result<bool, FilterError> {
        match access {
            Access::Client => check_client(filter, sort).map(|()| false),
            Access::Rule | Access::Superuser => Ok(true),
        }
    }

    /// A node as a condition that can stand beside AND.
    fn node(&mut self, node: &Node, hidden: bool) -> Result<Sql, FilterError> {
        match node {
            Node::Comparison { left, sign, right } => {
                let left = self.operand(left, hidden)?;
                let right = self.operand(right, hidden)?;
                self.comparisons += 1;
                Ok(compare::condition(&left, *sign, &right, self.comparisons))
            }
            Node::Group(items) => {
                let mut group = Sql::text("(");
                for (index, (junction, item)) in items.iter().enumerate() {
                    match junction {
                        _ if index == 0 => {}
                        Junction::And => group.push_text(" AND "),
                        Junction::Or => group.push_text(" OR "),
                    }
                    group.push(&self.node(item, hidden)?);
                }
                group.push_text(")");
                Ok(group)
            }
        }
    }

    fn operand(&mut self, operand: &Operand, hidden: bool) -> Result<Resolved, FilterError> {
        match operand {
            Operand::Identifier(name) => self.resolver.identifier(name, hidden),
            Operand::Number(number) => Ok(Resolved::new(Sql::value(*number))),
            Operand::Text(text) => Ok(Resolved::new(Sql::value(text.clone()))),
            Operand::Function { name, arguments } => {
                functions::call(name, arguments, &mut |argument| self.operand(argument, hidden))
            }
        }
    }
}
