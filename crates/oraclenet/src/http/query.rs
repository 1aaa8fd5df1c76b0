//! Query strings and urlencoded forms.

use crate::db::rows::Record;
use serde_json::Value;

/// The parameters of a query: the first of each name. What cannot be decoded is left out, as in PocketBase.
pub fn parse(text: &str) -> Record {
    let mut query = Record::new();
    for (name, value) in pairs(text).flatten() {
        query.entry(name).or_insert(Value::String(value));
    }
    query
}

/// Names and values, decoded, in their order; `None` for a pair that cannot be decoded.
pub fn pairs(text: &str) -> impl Iterator<Item = Option<(String, String)>> + '_ {
    text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        // A semicolon once stood between pairs; Go refuses it, so that nobody reads it so.
        if pair.contains(';') { None } else { Some((decode(name, true)?, decode(value, true)?)) }
    })
}

/// `%xx`, and `+` for a blank in a `form`; `None` where a `%` begins no such sequence.
pub fn decode(text: &str, form: bool) -> Option<String> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = |offset: usize| char::from(*bytes.get(at + offset)?).to_digit(16);
        match bytes[at] {
            b'+' if form => out.push(b' '),
            b'%' => {
                out.push(u8::try_from(hex(1)? * 16 + hex(2)?).ok()?);
                at += 2;
            }
            byte => out.push(byte),
        }
        at += 1;
    }
    Some(String::from_utf8_lossy(&out).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded_as_forms_are() {
        for (text, wanted) in [
            ("a=b", r#"{"a":"b"}"#),
            ("a=1&a=2&b", r#"{"a":"1","b":""}"#),
            ("filter=name+%3D+%22%C3%A9%22", r#"{"filter":"name = \"é\""}"#),
            ("a=%zz&b=%4&c=%&d=1;e=2&&f=%ff", "{\"f\":\"\u{fffd}\"}"),
            ("", "{}"),
        ] {
            assert_eq!(Value::Object(parse(text)).to_string(), wanted, "{text}");
        }
    }
}
