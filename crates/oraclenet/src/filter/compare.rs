//! Two operands and an operator into a condition.
//!
//! Equality follows PocketBase: the empty text and NULL are the same, nothing is cast beyond what SQLite's columns
//! do by themselves, and `!=` is `IS NOT`, so that a missing value differs from every other.

use rusqlite::types::Value;

use super::lexer::{Comparison, Sign};
use super::resolver::{EACH, Nature, Nulls, Resolved};
use super::sql::{Sql, quote};

/// The condition of one comparison. `number` makes aliases that nothing else in the query has.
pub(super) fn condition(left: &Resolved, sign: Sign, right: &Resolved, number: usize) -> Sql {
    let mut condition = plain(left, sign.comparison, right);
    if !sign.any
        && let Some(none_differs) = none_differs(left, sign.comparison, right, number)
    {
        condition = Sql::of("({} AND {})", &[&condition, &none_differs]);
    }
    for guard in [&left.guard, &right.guard].into_iter().flatten() {
        condition = Sql::of("({} AND {})", &[&condition, guard]);
    }
    condition
}

/// That no value of a many-valued operand fails the comparison.
fn none_differs(left: &Resolved, comparison: Comparison, right: &Resolved, number: usize) -> Option<Sql> {
    let one_of = |operand: &Resolved, alias: &str| Resolved {
        nulls: operand.nulls,
        ..Resolved::new(Sql::column(alias, EACH))
    };
    let other = |operand: &Resolved| Resolved { nulls: Nulls::Auto, ..operand.clone() };
    let (l, r) = (format!("__l{number}"), format!("__r{number}"));
    let named = |each: &Sql, alias: &str| Sql::of("({}) AS {}", &[each, &Sql::text(quote(alias))]);
    let (from, holds) = match (&left.each, &right.each) {
        (Some(all), Some(others)) => (
            Sql::of("{} LEFT JOIN {} ON 1", &[&named(all, &l), &named(others, &r)]),
            plain(&one_of(left, &l), comparison, &one_of(right, &r)),
        ),
        (Some(all), None) => (named(all, &l), plain(&one_of(left, &l), comparison, &other(right))),
        (None, Some(all)) => (named(all, &r), plain(&other(left), comparison, &one_of(right, &r))),
        (None, None) => return None,
    };
    Some(Sql::of("NOT EXISTS (SELECT 1 FROM {} WHERE NOT ({}))", &[&from, &holds]))
}

fn plain(left: &Resolved, comparison: Comparison, right: &Resolved) -> Sql {
    let template = match comparison {
        Comparison::Equal => return equality(true, left, right),
        Comparison::NotEqual => return equality(false, left, right),
        Comparison::Like => r"{} LIKE {} ESCAPE '\'",
        Comparison::NotLike => r"{} NOT LIKE {} ESCAPE '\'",
        Comparison::Less => "{} < {}",
        Comparison::LessOrEqual => "{} <= {}",
        Comparison::Greater => "{} > {}",
        Comparison::GreaterOrEqual => "{} >= {}",
    };
    match comparison {
        Comparison::Like | Comparison::NotLike => Sql::of(template, &[&left.sql, &pattern(right)]),
        _ => Sql::of(template, &[&left.sql, &right.sql]),
    }
}

/// `=` or, for `equal == false`, `!=`.
pub(super) fn equality(equal: bool, left: &Resolved, right: &Resolved) -> Sql {
    let (is, both, null) = if equal { ("=", "OR", "IS NULL") } else { ("IS NOT", "AND", "IS NOT NULL") };
    if left.nulls == Nulls::Disabled || right.nulls == Nulls::Disabled {
        let is = if equal { "IS" } else { "IS NOT" };
        return Sql::of(&format!("{{}} {is} {{}}"), &[&left.sql, &right.sql]);
    }
    let nothing = Sql::text("''");
    match (is_empty(left), is_empty(right)) {
        (true, true) => Sql::text(format!("'' {is} ''")),
        (true, false) | (false, true) => {
            let other = if is_empty(left) { right } else { left };
            if is_known(other) {
                return Sql::of(&format!("{{}} {is} {{}}"), &[&nothing, &other.sql]);
            }
            Sql::of(&format!("({{}} {is} '' {both} {{}} {null})"), &[&other.sql, &other.sql])
        }
        (false, false) if is_known(left) || is_known(right) => {
            Sql::of(&format!("{{}} {is} {{}}"), &[&left.sql, &right.sql])
        }
        (false, false) => {
            Sql::of(&format!("COALESCE({{}}, '') {is} COALESCE({{}}, '')"), &[&left.sql, &right.sql])
        }
    }
}

/// NULL, or a single bound value that is empty.
fn is_empty(operand: &Resolved) -> bool {
    let mut values = operand.sql.values();
    let single = values.next().is_some_and(is_nothing) && values.next().is_none();
    match operand.nature {
        Nature::Null => true,
        Nature::Open => operand.nulls == Nulls::Auto && single,
        Nature::Literal | Nature::Sent | Nature::Flag(_) | Nature::Outcome => false,
    }
}

/// Certainly neither NULL nor the empty text.
fn is_known(operand: &Resolved) -> bool {
    if operand.nulls == Nulls::Enforced {
        return false;
    }
    let mut values = operand.sql.values().peekable();
    matches!(operand.nature, Nature::Literal | Nature::Sent | Nature::Flag(_))
        || (operand.nature == Nature::Open && values.peek().is_some() && !values.any(is_nothing))
}

fn is_nothing(value: &Value) -> bool {
    matches!(value, Value::Null) || matches!(value, Value::Text(text) if text.is_empty())
}

/// The right side of `~`: a column between wildcards, or a value with wildcards unless it has its own.
fn pattern(right: &Resolved) -> Sql {
    let (nature, right) = (right.nature, &right.sql);
    if let Nature::Flag(flag) = nature {
        return Sql::value(format!("%{flag}%"));
    }
    if nature == Nature::Outcome || right.values().next().is_none() {
        return Sql::of("('%' || {} || '%')", &[right]);
    }
    right.map_values(|value| {
        let text = text_of(value);
        Value::Text(if has_wildcard(&text) { text } else { format!("%{}%", escape(&text)) })
    })
}

fn text_of(value: &Value) -> String {
    match value {
        Value::Null | Value::Blob(_) => String::new(),
        Value::Integer(number) => number.to_string(),
        Value::Real(number) => number.to_string(),
        Value::Text(text) => text.clone(),
    }
}

/// Whether there is a `%` that no backslash escapes.
fn has_wildcard(text: &str) -> bool {
    let mut escaped = false;
    text.chars().any(|c| {
        let wildcard = c == '%' && !escaped;
        escaped = c == '\\' && !escaped;
        wildcard
    })
}

/// A backslash before `\`, `%` and `_`, where there is none yet.
///
/// As in PocketBase it goes from the end, and the character before a special one is never looked at itself: of two
/// in a row only the last is escaped (`__` finds any character and an underscore).
fn escape(text: &str) -> String {
    let mut reversed = String::new();
    let mut chars = text.chars().rev();
    while let Some(c) = chars.next() {
        reversed.push(c);
        if matches!(c, '\\' | '%' | '_') {
            reversed.push('\\');
            reversed.extend(chars.next().filter(|before| *before != '\\'));
        }
    }
    reversed.chars().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_without_wildcards_of_its_own_is_escaped_once() {
        for (text, pattern) in [
            ("", "%%"),
            ("a", "%a%"),
            ("a%", "a%"),
            ("a_b", "%a\\_b%"),
            ("a\\_b", "%a\\_b%"),
            ("a\\%b", "%a\\%b%"),
            ("\\\\%", "\\\\%"),
            ("a\\b", "%a\\\\b%"),
            ("\\", "%\\\\%"),
            ("\\\\", "%\\\\%"),
            ("\\\\\\", "%\\\\\\\\%"),
            ("_", "%\\_%"),
            ("__", "%_\\_%"),
        ] {
            let sql = super::pattern(&Resolved::new(Sql::value(text.to_owned())));
            assert_eq!(sql, Sql::value(pattern.to_owned()), "{text}");
        }
        assert_eq!(super::pattern(&Resolved::new(Sql::value(1.0))), Sql::value("%1%".to_owned()));
        assert_eq!(super::pattern(&Resolved::new(Sql::value(-1.5))), Sql::value("%-1.5%".to_owned()));
    }
}
