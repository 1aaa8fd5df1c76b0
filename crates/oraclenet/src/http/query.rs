//! Query strings and urlencoded forms.

use crate::db::rows::Record;
use serde_json::Value;

/// Names and values, the last of each name.
pub fn parse(text: &str) -> Record {
    pairs(text).map(|(name, value)| (name, Value::String(value))).collect()
}

/// Names and values, decoded, in their order.
pub fn pairs(text: &str) -> impl Iterator<Item = (String, String)> + '_ {
    text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name), decode(value))
    })
}

/// `+` and `%xx`; what is no such sequence stays as it is.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = |offset: usize| bytes.get(at + offset).and_then(|byte| char::from(*byte).to_digit(16));
        match bytes[at] {
            b'+' => out.push(b' '),
            b'%' => match (hex(1), hex(2)) {
                (Some(high), Some(low)) => {
                    out.push(u8::try_from(high * 16 + low).unwrap_or_default());
                    at += 2;
                }
                _ => out.push(b'%'),
            },
            byte => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded_as_forms_are() {
        for (text, wanted) in [
            ("a=b", r#"{"a":"b"}"#),
            ("a=1&a=2&b", r#"{"a":"2","b":""}"#),
            ("filter=name+%3D+%22%C3%A9%22", r#"{"filter":"name = \"é\""}"#),
            ("a=%zz%4&&b=%", r#"{"a":"%zz%4","b":"%"}"#),
            ("", "{}"),
        ] {
            assert_eq!(Value::Object(parse(text)).to_string(), wanted, "{text}");
        }
    }
}
