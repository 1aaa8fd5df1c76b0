//! `fields`: which parts of an answer are wanted. Works on any JSON.

use crate::http::error::ApiError;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Fields of one request.
const FIELDS: usize = 500;

/// What is wanted of a value.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Wanted {
    /// All of it, whatever else is named, shortened or not.
    whole: Option<Option<Excerpt>>,
    inside: BTreeMap<String, Wanted>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Excerpt {
    letters: usize,
    ellipsis: bool,
}

/// Reduces `answer` to the wanted fields; an empty `fields` wants all. In a `page` of records they name what is inside
/// `items`, and the numbers around them stay.
///
/// # Errors
/// 400: a modifier that is none (PocketBase answers 200 with an empty body).
pub fn pick(answer: Value, fields: &str, page: bool) -> Result<Value, ApiError> {
    if fields.is_empty() {
        return Ok(answer);
    }
    let wanted = parse(fields)?;
    match answer {
        Value::Object(mut object) if page => {
            if let Some(items) = object.remove("items") {
                object.insert("items".to_owned(), reduce(items, &wanted));
            }
            Ok(Value::Object(object))
        }
        answer => Ok(reduce(answer, &wanted)),
    }
}

/// Whether `fields` can be read: asked before a write, whose answer must not be an error any more.
///
/// # Errors
/// As [`pick`].
pub fn check_fields(fields: &str) -> Result<(), ApiError> {
    parse(fields).map(drop)
}

fn parse(fields: &str) -> Result<Wanted, ApiError> {
    let mut root = Wanted::default();
    for token in split(fields).into_iter().take(FIELDS) {
        let token = token.trim();
        if token.is_empty() {
            continue;
        }
        let (path, modifier) =
            token.split_once(':').map_or((token, None), |(path, modifier)| (path, Some(modifier)));
        let excerpt = modifier.map(excerpt).transpose()?;
        let mut node = &mut root;
        for name in path.strip_suffix('.').unwrap_or(path).split('.') {
            node = node.inside.entry(name.to_owned()).or_default();
        }
        node.whole = Some(excerpt);
    }
    Ok(root)
}

/// At commas, but not at those between brackets.
fn split(fields: &str) -> Vec<&str> {
    let mut inside = false;
    fields
        .split(|letter| {
            inside = match letter {
                '(' => true,
                ')' => false,
                _ => inside,
            };
            letter == ',' && !inside
        })
        .collect()
}

fn excerpt(modifier: &str) -> Result<Excerpt, ApiError> {
    let inside = modifier.strip_prefix("excerpt(").and_then(|rest| rest.strip_suffix(')'));
    let (letters, ellipsis) =
        inside.map_or(("", ""), |inside| inside.split_once(',').unwrap_or((inside, "")));
    let letters = letters.trim().parse().ok().filter(|letters| *letters > 0);
    let ellipsis = matches!(ellipsis.trim(), "true" | "1" | "t" | "T" | "TRUE" | "True");
    letters.map(|letters| Excerpt { letters, ellipsis }).ok_or_else(|| {
        ApiError::bad_request("the only modifier of a field is :excerpt(max, withEllipsis), max > 0")
    })
}

fn reduce(value: Value, wanted: &Wanted) -> Value {
    match value {
        Value::Array(values) => values.into_iter().map(|value| reduce(value, wanted)).collect(),
        Value::Object(object) if wanted.whole.is_none() && !wanted.inside.is_empty() => {
            // A star stands for every name that is not named, and only at the end of a path.
            let others = wanted.inside.get("*").filter(|star| star.whole.is_some());
            let kept = object.into_iter().filter_map(|(name, value)| {
                let wanted = wanted.inside.get(&name).or(others)?;
                Some((name, reduce(value, wanted)))
            });
            Value::Object(kept.collect::<Map<_, _>>())
        }
        Value::String(text) => Value::String(match wanted.whole {
            Some(Some(excerpt)) => excerpt.of(&text),
            _ => text,
        }),
        value => value,
    }
}

impl Excerpt {
    /// The first letters of a text without its tags, white space folded.
    fn of(self, text: &str) -> String {
        let mut plain = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find('<') {
            plain.push_str(&rest[..start]);
            let tag = rest[start + 1..]
                .starts_with(|letter: char| letter.is_ascii_alphabetic() || matches!(letter, '/' | '!'));
            match rest[start..].find('>').filter(|_| tag) {
                Some(end) => {
                    plain.push(' ');
                    rest = &rest[start + end + 1..];
                }
                None => {
                    plain.push('<');
                    rest = &rest[start + 1..];
                }
            }
        }
        plain.push_str(rest);
        let folded = plain.split_whitespace().collect::<Vec<_>>().join(" ");
        match folded.char_indices().nth(self.letters) {
            None => folded,
            Some((end, _)) => {
                format!("{}{}", folded[..end].trim_end(), if self.ellipsis { "..." } else { "" })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn answers_are_reduced_to_what_is_wanted() {
        let answer = json!({ "id": "x", "title": "T2", "content": "lorem ipsum dolor", "upvotes": 15, "author": "ada",
            "expand": { "author": { "name": "Ada", "bio": "I am ada" } } });
        for (fields, wanted) in [
            ("", answer.clone()),
            ("*", answer.clone()),
            ("id", json!({ "id": "x" })),
            ("nope", json!({})),
            (" id , title ", json!({ "id": "x", "title": "T2" })),
            ("ID", json!({})),
            ("content:excerpt(12)", json!({ "content": "lorem ipsum" })),
            ("content:excerpt(12,true)", json!({ "content": "lorem ipsum..." })),
            ("title:excerpt(3,true)", json!({ "title": "T2" })),
            ("upvotes:excerpt(1)", json!({ "upvotes": 15 })),
            ("author.name", json!({ "author": "ada" })),
            ("expand.author.bio:excerpt(2)", json!({ "expand": { "author": { "bio": "I" } } })),
            (",", answer.clone()),
            ("id.", json!({ "id": "x" })),
            ("*.name", json!({})),
            ("expand.*.name", json!({ "expand": {} })),
            (
                "expand,expand.author.name",
                json!({ "expand": { "author": { "name": "Ada", "bio": "I am ada" } } }),
            ),
            ("content:excerpt(12),content", json!({ "content": "lorem ipsum dolor" })),
            ("expand.*", json!({ "expand": { "author": { "name": "Ada", "bio": "I am ada" } } })),
        ] {
            assert_eq!(pick(answer.clone(), fields, false).unwrap(), wanted, "{fields}");
        }
    }

    #[test]
    fn in_a_page_the_items_are_reduced_and_the_numbers_stay() {
        let page = json!({ "items": [{ "id": "x", "title": "T" }], "page": 1, "perPage": 30 });
        assert_eq!(
            pick(page, "title", true).unwrap(),
            json!({ "items": [{ "title": "T" }], "page": 1, "perPage": 30 })
        );
    }

    #[test]
    fn modifiers_that_are_none_are_refused() {
        for fields in ["a:nope(1)", "a:excerpt", "a:excerpt()", "a:excerpt(-1)", "a:excerpt(x)", "a:"] {
            assert_eq!(pick(json!({ "a": "b" }), fields, false).unwrap_err().status, 400, "{fields}");
        }
    }
}
