//! Identifiers into columns: relation paths, back relations, `@collection`, and the joins that they need.
//!
//! Every relation is reached by a LEFT JOIN of the main query, named by its path so that two uses share it. Where a
//! path can meet several records, the operand also carries a sub-select of all values, because a plain operator
//! holds only if it holds for each of them. Joined tables are spelled `main."name"`, so that a rule which is checked
//! against a common table expression of the collection's name still joins the real tables.
//!
//! The collections of this program have no fields with several values; one that had would be refused here.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::sql::{Sql, quote};
use super::{FilterError, RequestInfo, limits, macros, request};
use crate::schema::{Collection, Field, FieldKind, Schema};

/// An operand in SQL.
#[derive(Debug, Clone)]
pub(super) struct Resolved {
    /// The expression.
    pub(super) sql: Sql,
    /// What is known of its value.
    pub(super) nature: Nature,
    /// How equality treats NULL.
    pub(super) nulls: Nulls,
    /// A sub-select of every value of it, in a column [`EACH`], where there may be several.
    pub(super) each: Option<Sql>,
    /// What must hold as well for a comparison with it to hold.
    pub(super) guard: Option<Sql>,
}

/// The column of [`Resolved::each`].
pub(super) const EACH: &str = "v";

/// What is known of an operand's value beforehand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nature {
    /// It is NULL.
    Null,
    /// It is true, false or a number of this program's making.
    Literal,
    /// It is an item that the client sent.
    Sent,
    /// It is this flag, bound as a number; `~` looks for the word.
    Flag(bool),
    /// It is the outcome of a comparison; the values in it are not its own.
    Outcome,
    /// Whatever its column or value holds.
    Open,
}

/// How equality treats NULL and the empty text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nulls {
    /// NULL equals the empty text; a bound value that is not empty needs no care.
    Auto,
    /// NULL equals the empty text, whatever the bound values in the expression are.
    Enforced,
    /// NULL equals NULL only.
    Disabled,
}

impl Resolved {
    pub(super) fn new(sql: Sql) -> Self {
        Self { sql, nature: Nature::Open, nulls: Nulls::Auto, each: None, guard: None }
    }

    pub(super) fn null() -> Self {
        Self { nature: Nature::Null, ..Self::new(Sql::text("NULL")) }
    }

    pub(super) fn literal(text: &'static str) -> Self {
        Self { nature: Nature::Literal, ..Self::new(Sql::text(text)) }
    }
}

/// Turns identifiers into operands and remembers the joins.
pub(super) struct Resolver<'a> {
    pub(super) schema: &'a Schema,
    pub(super) collection: &'a Collection,
    pub(super) request: &'a RequestInfo,
    pub(super) now: DateTime<Utc>,
    pub(super) joins: Joins,
}

/// The joins of the main query.
#[derive(Default)]
pub(super) struct Joins {
    aliases: BTreeMap<String, String>,
    pub(super) clauses: Vec<Sql>,
    count: usize,
}

impl Joins {
    /// A name that nothing else has.
    fn fresh(&mut self) -> String {
        self.count += 1;
        format!("__j{}", self.count)
    }

    /// The alias of the join `path`, which is made the first time.
    pub(super) fn add(
        &mut self,
        path: &str,
        source: &Sql,
        on: impl FnOnce(&str) -> Sql,
    ) -> Result<String, FilterError> {
        if let Some(alias) = self.aliases.get(path) {
            return Ok(alias.clone());
        }
        if self.clauses.len() >= limits::JOINS {
            return Err(FilterError::Limit("joined tables"));
        }
        let alias = self.fresh();
        self.clauses.push(clause(source, &alias, &on(&alias)));
        self.aliases.insert(path.to_owned(), alias.clone());
        Ok(alias)
    }
}

fn clause(source: &Sql, alias: &str, on: &Sql) -> Sql {
    Sql::of("LEFT JOIN {} AS {} ON {}", &[source, &Sql::text(quote(alias)), on])
}

fn real_table(collection: &Collection) -> Sql {
    Sql::text(format!("main.{}", quote(collection.name)))
}

/// How far a path has come.
pub(super) struct Walk<'a> {
    /// Where it stands.
    collection: &'a Collection,
    /// The main query's table.
    main: &'a str,
    /// The path so far: the name of its join.
    path: String,
    /// Its alias in the main query.
    table: String,
    /// The same walk in a sub-select of its own: alias and joins.
    mirror: String,
    mirror_base: String,
    mirror_joins: Vec<Sql>,
    /// Whether it may have met several records.
    many: bool,
    /// Whether hidden fields may be used.
    hidden: bool,
    /// Whether what does not exist is NULL and not an error.
    lenient: bool,
}

impl<'a> Resolver<'a> {
    /// The operand that `name` means. `hidden` tells whether it may name hidden fields.
    pub(super) fn identifier(&mut self, name: &str, hidden: bool) -> Result<Resolved, FilterError> {
        if let Some(value) = macros::value(name, self.now) {
            return Ok(Resolved::new(Sql::value(value)));
        }
        self.field(name, hidden).or_else(|error| match name.to_ascii_lowercase().as_str() {
            "null" => Ok(Resolved::null()),
            "true" => Ok(Resolved::literal("1")),
            "false" => Ok(Resolved::literal("0")),
            _ => Err(error),
        })
    }

    /// The operand of a field, a request value or another collection's field.
    pub(super) fn field(&mut self, name: &str, hidden: bool) -> Result<Resolved, FilterError> {
        if !is_allowed(name) {
            return Err(FilterError::unknown(name));
        }
        let segments: Vec<&str> = name.split('.').collect();
        match segments[..] {
            ["@collection", collection, ..] => self.other_collection(collection, &segments[2..]),
            ["@request", ..] => request::resolve(self, name, &segments),
            _ => {
                let mut walk = self.walk(hidden);
                self.follow(&mut walk, &segments)
            }
        }
    }

    /// A collection by name (in any case) or id.
    fn find(&self, name: &str) -> Option<&'a Collection> {
        let any_case = || self.schema.all().iter().find(|it| it.name.eq_ignore_ascii_case(name));
        self.schema.find(name).or_else(any_case)
    }

    fn walk(&mut self, hidden: bool) -> Walk<'a> {
        let base = self.joins.fresh();
        Walk {
            collection: self.collection,
            main: self.collection.name,
            path: String::new(),
            table: self.collection.name.to_owned(),
            mirror: base.clone(),
            mirror_base: base,
            mirror_joins: Vec::new(),
            many: false,
            hidden,
            lenient: false,
        }
    }

    /// `@collection.name.field`, `@collection.name:alias.field`: every record of it.
    fn other_collection(&mut self, named: &str, segments: &[&str]) -> Result<Resolved, FilterError> {
        let name = named.split_once(':').map_or(named, |(name, _)| name);
        let target = self.find(name).ok_or_else(|| FilterError::unknown(named))?;
        let mut walk = self.walk(true);
        walk.many = true;
        self.hop(&mut walk, &format!("@collection {named}"), target, |_, _| Sql::text("1"))?;
        self.follow(&mut walk, segments)
    }

    /// A walk from a record of `target` that the request names, by conditions on its alias.
    pub(super) fn start_at(
        &mut self,
        path: &str,
        target: &str,
        on: impl Fn(&str) -> Sql,
    ) -> Result<Walk<'a>, FilterError> {
        let target = self.find(target).ok_or_else(|| FilterError::unknown(target))?;
        let mut walk = self.walk(true);
        walk.lenient = true;
        self.hop(&mut walk, path, target, |alias, _| on(alias))?;
        Ok(walk)
    }

    /// Joins `target` and goes on there. `on` gets the new alias and the one before.
    fn hop(
        &mut self,
        walk: &mut Walk<'a>,
        segment: &str,
        target: &'a Collection,
        on: impl Fn(&str, &str) -> Sql,
    ) -> Result<(), FilterError> {
        // Records that not everybody may list would leak through the comparison.
        if !walk.hidden && target.rules.list != Some("") {
            return Err(FilterError::unknown(segment));
        }
        let path = format!("{}.{segment}", walk.path);
        let source = real_table(target);
        let table = self.joins.add(&path, &source, |alias| on(alias, &walk.table))?;
        let mirror = self.joins.fresh();
        walk.mirror_joins.push(clause(&source, &mirror, &on(&mirror, &walk.mirror)));
        (walk.collection, walk.path, walk.table, walk.mirror) = (target, path, table, mirror);
        Ok(())
    }

    /// Follows the rest of a path to its last segment.
    pub(super) fn follow(&mut self, walk: &mut Walk<'a>, segments: &[&str]) -> Result<Resolved, FilterError> {
        let Some((last, relations)) = segments.split_last() else {
            return Err(FilterError::malformed("a path without a field"));
        };
        for (depth, segment) in relations.iter().enumerate() {
            let field = walk.collection.field(segment);
            if field.is_some_and(|field| field.hidden && !walk.hidden) {
                return Err(FilterError::unknown(segment));
            }
            if depth >= limits::RELATIONS {
                return Err(FilterError::Limit("relations of a path"));
            }
            let Some(field) = field else {
                match self.back_relation(walk, segment) {
                    Err(FilterError::UnknownField(_)) if walk.lenient => return Ok(Resolved::null()),
                    other => other?,
                }
                continue;
            };
            let FieldKind::Relation { collection, .. } = field.kind else {
                return Err(FilterError::unknown(segment));
            };
            refuse_multiple(field)?;
            if depth + 1 == relations.len() && *last == "id" {
                return last_segment(walk, field.name);
            }
            let target = self.find(collection).ok_or_else(|| FilterError::unknown(segment))?;
            self.hop(walk, segment, target, |new, old| {
                Sql::of("{} = {}", &[&Sql::column(new, "id"), &Sql::column(old, field.name)])
            })?;
        }
        last_segment(walk, last)
    }

    /// `comments_via_post`: the records of another collection that point here.
    fn back_relation(&mut self, walk: &mut Walk<'a>, segment: &str) -> Result<(), FilterError> {
        let unknown = || FilterError::unknown(segment);
        let (name, field) = segment.rsplit_once("_via_").ok_or_else(unknown)?;
        let target = self.find(name).ok_or_else(unknown)?;
        let field = target.field(field).ok_or_else(unknown)?;
        let FieldKind::Relation { collection, .. } = field.kind else { return Err(unknown()) };
        if collection != walk.collection.name || (field.hidden && !walk.hidden) {
            return Err(unknown());
        }
        refuse_multiple(field)?;
        let unique = |index: &crate::schema::Index| {
            index.unique && index.columns == [field.name] && index.predicate.is_empty()
        };
        self.hop(walk, segment, target, |new, old| {
            Sql::of("{} = {}", &[&Sql::column(new, field.name), &Sql::column(old, "id")])
        })?;
        walk.many |= !target.indexes.iter().any(unique);
        Ok(())
    }
}

/// The field at the end of a path, with its modifier.
fn last_segment(walk: &Walk<'_>, segment: &str) -> Result<Resolved, FilterError> {
    let (name, modifier) = split_modifier(segment)?;
    let Some(field) = walk.collection.field(name) else {
        return if walk.lenient { Ok(Resolved::null()) } else { Err(FilterError::unknown(segment)) };
    };
    if field.hidden && !walk.hidden {
        return Err(FilterError::unknown(segment));
    }
    refuse_multiple(field)?;
    let value = |table: &str| modified(&Sql::column(table, field.name), field, modifier);
    let guarded = field.kind == FieldKind::Email && walk.collection.is_auth() && !walk.hidden;
    let guard = |table: &str| Sql::of("{} = TRUE", &[&Sql::column(table, "emailVisibility")]);
    let mut resolved = Resolved::new(value(&walk.table));
    if walk.many {
        let base = quote(&walk.mirror_base);
        // The guard below sees one record only: among all of them, a hidden address is none.
        let shown = if guarded { Sql::of(" AND {}", &[&guard(&walk.mirror)]) } else { Sql::text("") };
        let parts = [
            &value(&walk.mirror),
            &Sql::text(format!("{} FROM {} AS {base}", quote(EACH), quote(walk.main))),
            &Sql::join(&walk.mirror_joins, " "),
            &Sql::text(format!("{base}.\"id\" = {}.\"id\"", quote(walk.main))),
            &shown,
        ];
        resolved.each = Some(Sql::of("SELECT {} AS {} {} WHERE {}{}", &parts));
    }
    if guarded {
        resolved.guard = Some(guard(&walk.table));
    }
    Ok(resolved)
}

/// A column under its modifier. Those that say nothing about a column leave it as it is.
fn modified(column: &Sql, field: &Field, modifier: Option<&str>) -> Sql {
    let listed =
        matches!(field.kind, FieldKind::Select { .. } | FieldKind::Relation { .. } | FieldKind::File);
    match modifier {
        Some("lower") => Sql::of("LOWER({})", &[column]),
        Some("length") if listed => {
            Sql::of("(CASE WHEN {} = '' OR {} IS NULL THEN 0 ELSE 1 END)", &[column, column])
        }
        // As an element of a list the value has no column's affinity.
        Some("each") if listed => Sql::of("(+{})", &[column]),
        _ => column.clone(),
    }
}

/// `name:modifier` apart. With several colons the whole is a name.
pub(super) fn split_modifier(segment: &str) -> Result<(&str, Option<&str>), FilterError> {
    match segment.split_once(':') {
        Some((name, modifier)) if !modifier.contains(':') => match modifier {
            "isset" | "each" | "length" | "lower" | "changed" => Ok((name, Some(modifier))),
            _ => Err(FilterError::malformed(format!("the modifier of {segment:?}"))),
        },
        _ => Ok((segment, None)),
    }
}

fn refuse_multiple(field: &Field) -> Result<(), FilterError> {
    if field.is_multiple() { Err(FilterError::unknown(field.name)) } else { Ok(()) }
}

/// Whether `name` has the shape of something that can be resolved.
fn is_allowed(name: &str) -> bool {
    let word = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let path = |text: &str| {
        let last = text.bytes().last().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
        last && text.split(['.', ':']).all(|part| part.is_empty() || word(part))
    };
    if let Some(rest) = name.strip_prefix("@request.") {
        let below =
            |kind: &str| rest.strip_prefix(kind).and_then(|rest| rest.strip_prefix('.')).is_some_and(path);
        return rest == "context"
            || rest == "method"
            || ["auth", "body", "query", "headers"].into_iter().any(below);
    }
    if let Some((collection, rest)) = name.strip_prefix("@collection.").and_then(|rest| rest.split_once('.'))
    {
        let (collection, alias) = collection.split_once(':').unwrap_or((collection, "_"));
        return word(collection) && word(alias) && path(rest);
    }
    path(name) && !name.starts_with(['.', ':'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_a_known_shape_are_looked_up() {
        for name in [
            "a",
            "a.b",
            "a..b",
            "a:lower",
            "a.b:c:d",
            "_a",
            "1a",
            "@request.method",
            "@request.context",
            "@request.auth.id",
            "@request.body.a:isset",
            "@request.query..a",
            "@request.headers.x_y",
            "@collection.a.b",
            "@collection.a:b.c.d",
        ] {
            assert!(is_allowed(name), "{name}");
        }
        for name in [
            "",
            "@",
            "@a",
            "#a",
            ".a",
            ":a",
            "a.",
            "a:",
            "a b",
            "a-b",
            "a\"b",
            "a`b",
            "@request",
            "@request.nope",
            "@request.method.a",
            "@request.auth",
            "@request.auth.",
            "@request.auth.a-b",
            "@collection.a",
            "@collection.a:.b",
            "@collection.a:b:c.d",
            "@collection..a",
            "@collections.a.b",
            "é",
        ] {
            assert!(!is_allowed(name), "{name}");
        }
    }

    #[test]
    fn no_collection_has_a_field_of_several_values() {
        for collection in crate::schema::collections() {
            assert!(!collection.fields.iter().any(Field::is_multiple), "{}", collection.name);
        }
    }
}
