//! Pieces of SQL that carry their values with them.
//!
//! Text comes from this module's callers only: constants, names of the schema, generated aliases. Whatever a client
//! sent is a value, and becomes a numbered parameter when the whole is rendered; it is never text.

use rusqlite::types::Value;

/// A piece of SQL.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Sql(Vec<Piece>);

#[derive(Debug, Clone, PartialEq)]
enum Piece {
    Text(String),
    Value(Value),
}

impl Sql {
    /// Text as it is.
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self(vec![Piece::Text(text.into())])
    }

    /// One bound value.
    pub(super) fn value(value: impl Into<Value>) -> Self {
        Self(vec![Piece::Value(value.into())])
    }

    /// A column, by the names of the schema or an alias.
    pub(super) fn column(table: &str, column: &str) -> Self {
        Self::text(format!("{}.{}", quote(table), quote(column)))
    }

    /// `template` with each `{}` replaced by the next of `parts`.
    pub(super) fn of(template: &str, parts: &[&Sql]) -> Self {
        let mut result = Self::default();
        let mut parts = parts.iter();
        for (index, text) in template.split("{}").enumerate() {
            if index > 0 {
                result.push(parts.next().expect("BUG: a template has as many holes as parts"));
            }
            result.push_text(text);
        }
        result
    }

    /// Several, with `separator` between.
    pub(super) fn join(parts: &[Sql], separator: &str) -> Self {
        let mut result = Self::default();
        for (index, part) in parts.iter().enumerate() {
            if index > 0 {
                result.push_text(separator);
            }
            result.push(part);
        }
        result
    }

    pub(super) fn push(&mut self, other: &Sql) {
        for piece in &other.0 {
            match piece {
                Piece::Text(text) => self.push_text(text),
                Piece::Value(_) => self.0.push(piece.clone()),
            }
        }
    }

    pub(super) fn push_text(&mut self, text: &str) {
        match self.0.last_mut() {
            Some(Piece::Text(last)) => last.push_str(text),
            _ => self.0.push(Piece::Text(text.to_owned())),
        }
    }

    /// The values in it, in the order of the text.
    pub(super) fn values(&self) -> impl Iterator<Item = &Value> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Value(value) => Some(value),
            Piece::Text(_) => None,
        })
    }

    /// The same with every value replaced.
    pub(super) fn map_values(&self, change: impl Fn(&Value) -> Value) -> Self {
        let pieces = self.0.iter().map(|piece| match piece {
            Piece::Value(value) => Piece::Value(change(value)),
            Piece::Text(text) => Piece::Text(text.clone()),
        });
        Self(pieces.collect())
    }

    /// The text, with parameters numbered from one past `offset` and `params`, to which the values are added.
    pub(super) fn render(&self, offset: usize, params: &mut Vec<Value>) -> String {
        let mut text = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(part) => text.push_str(part),
                Piece::Value(value) => {
                    params.push(value.clone());
                    text.push_str(&format!("?{}", offset + params.len()));
                }
            }
        }
        text
    }
}

/// An identifier in double quotes.
pub(super) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_numbered_parameters_in_the_order_of_the_text() {
        let one = Sql::value("a".to_owned());
        let two = Sql::value(2);
        let both = Sql::of("({} < {} OR {} IS NULL)", &[&one, &two, &one]);
        let mut params = vec![Value::Null];
        assert_eq!(both.render(5, &mut params), "(?7 < ?8 OR ?9 IS NULL)");
        let a = Value::Text("a".to_owned());
        assert_eq!(params, vec![Value::Null, a.clone(), Value::Integer(2), a]);
    }

    #[test]
    fn a_quote_in_a_name_does_not_end_it() {
        assert_eq!(Sql::column("a\"b", "c").render(0, &mut vec![]), "\"a\"\"b\".\"c\"");
    }
}
