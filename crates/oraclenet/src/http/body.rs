//! Bodies: JSON, urlencoded forms, multipart forms. Bounded in bytes and in time.

use super::error::ApiError;
use super::query;
use crate::db::rows::Record;
use crate::limits;
use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use bytes::Bytes;
use futures::StreamExt as _;
use serde_json::Value;
use std::borrow::Cow;

/// The field of a form that holds JSON.
const JSON_FIELD: &str = "@jsonPayload";

/// Reads a body into fields. An empty one has none.
///
/// # Errors
/// 400 for what cannot be read, 413 for what is too long, 408 for what takes too long.
pub async fn read(headers: &HeaderMap, body: Body) -> Result<Record, ApiError> {
    let bytes = bytes(body).await?;
    if bytes.is_empty() {
        return Ok(Record::new());
    }
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (essence, _) = kind.split_once(';').unwrap_or((kind, ""));
    match essence.trim() {
        "application/json" => json(&bytes),
        "application/x-www-form-urlencoded" => {
            let text = std::str::from_utf8(&bytes).map_err(|_| ApiError::unreadable())?;
            let pairs = query::pairs(text).collect::<Option<Vec<_>>>().ok_or_else(ApiError::unreadable)?;
            form(pairs.into_iter())
        }
        "multipart/form-data" => multipart(kind, bytes).await,
        "application/xml" | "text/xml" => Err(ApiError::unreadable()),
        _ => Err(ApiError::bad_request("Unsupported Content-Type")),
    }
}

/// The bytes of a body.
///
/// # Errors
/// 413 and 408, 400 for a connection that broke off.
pub async fn bytes(body: Body) -> Result<Bytes, ApiError> {
    let collect = async {
        let mut stream = body.into_data_stream();
        let mut all = Vec::new();
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|_| ApiError::unreadable())?;
            if all.len() + chunk.len() > limits::BODY {
                return Err(ApiError::new(413, "Request entity too large"));
            }
            all.extend_from_slice(&chunk);
        }
        Ok(Bytes::from(all))
    };
    match tokio::time::timeout(limits::BODY_TIME, collect).await {
        Ok(result) => result,
        Err(_) => Err(ApiError::new(408, "The request's body took too long")),
    }
}

/// The first JSON value; what stands behind it is ignored, as in PocketBase.
fn json(bytes: &[u8]) -> Result<Record, ApiError> {
    let bytes = without_lone_surrogates(bytes);
    let mut values = serde_json::Deserializer::from_slice(&bytes).into_iter::<Value>();
    match values.next() {
        Some(Ok(Value::Object(fields))) => Ok(fields),
        Some(Ok(Value::Null)) | None => Ok(Record::new()),
        Some(Ok(_) | Err(_)) => Err(ApiError::unreadable()),
    }
}

/// JSON with `\ufffd` for each escaped half of a surrogate pair whose other half is missing: no text can hold it, and
/// Go reads it so. Everything else stays, broken or not, for the parser to judge.
fn without_lone_surrogates(json: &[u8]) -> Cow<'_, [u8]> {
    let mut json = Cow::Borrowed(json);
    let mut at = 0;
    while let Some(found) = json[at..].iter().position(|byte| *byte == b'\\') {
        at += found;
        at += match (escaped_unit(&json[at..]), json.get(at + 6..).and_then(escaped_unit)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
            (Some(0xd800..=0xdfff), _) => {
                json.to_mut()[at..at + 6].copy_from_slice(b"\\ufffd");
                6
            }
            _ => 2, // also past an escaped backslash, which begins nothing
        };
        at = at.min(json.len());
    }
    json
}

/// The number of a `\uXXXX` that `text` begins with.
fn escaped_unit(text: &[u8]) -> Option<u32> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    digits.iter().try_fold(0, |sum, digit| Some(sum * 16 + char::from(*digit).to_digit(16)?))
}

/// Fields of a form: a name that comes several times is a list.
fn form(pairs: impl Iterator<Item = (String, String)>) -> Result<Record, ApiError> {
    let mut fields = Record::new();
    for (name, text) in pairs {
        if name == JSON_FIELD {
            fields.extend(json(text.as_bytes())?);
            continue;
        }
        match fields.get_mut(&name) {
            Some(Value::Array(values)) => values.push(text.into()),
            Some(value) => *value = Value::Array(vec![value.take(), text.into()]),
            None => {
                fields.insert(name, text.into());
            }
        }
    }
    Ok(fields)
}

async fn multipart(kind: &str, bytes: Bytes) -> Result<Record, ApiError> {
    let boundary = multer::parse_boundary(kind).map_err(|_| ApiError::unreadable())?;
    let stream = futures::stream::once(async move { Ok::<_, std::io::Error>(bytes) });
    let mut parts = multer::Multipart::new(stream, boundary);
    let mut pairs = Vec::new();
    while let Some(part) = parts.next_field().await.map_err(|_| ApiError::unreadable())? {
        // There are no uploads: a file is left out, as PocketBase leaves out what belongs to no field.
        let name = part.name().filter(|_| part.file_name().is_none()).map(str::to_owned);
        let text = part.text().await.map_err(|_| ApiError::unreadable())?;
        pairs.extend(name.map(|name| (name, text)));
        if pairs.len() > limits::FORM_FIELDS {
            return Err(ApiError::unreadable());
        }
    }
    form(pairs.into_iter())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read_as(kind: &str, text: &str) -> Result<String, u16> {
        let mut headers = HeaderMap::new();
        if !kind.is_empty() {
            headers.insert(CONTENT_TYPE, kind.parse().unwrap());
        }
        let fields = read(&headers, Body::from(text.to_owned())).await;
        fields.map(|fields| Value::Object(fields).to_string()).map_err(|error| error.status)
    }

    #[tokio::test]
    async fn bodies_are_read_as_pocketbase_reads_them() {
        let part = "--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n7\r\n\
                    --x\r\nContent-Disposition: form-data; name=\"@jsonPayload\"\r\n\r\n{\"b\":true}\r\n--x--\r\n";
        let form = "application/x-www-form-urlencoded";
        for (kind, text, wanted) in [
            ("application/json", r#"{"a":1,"a":2} trailing"#, Ok(r#"{"a":2}"#)),
            ("application/json; charset=utf-8", "null", Ok("{}")),
            ("", "", Ok("{}")),
            ("application/json", "[]", Err(400)),
            ("application/json", r#"{"a":"#, Err(400)),
            ("application/json", r#"{"a":1e400}"#, Err(400)),
            ("text/plain", "a", Err(400)),
            ("", "a", Err(400)),
            ("Application/JSON", "{}", Err(400)),
            (form, "a=007&b=x&b=y", Ok(r#"{"a":"007","b":["x","y"]}"#)),
            (form, "a=%zz", Err(400)),
            (form, "a=1;b=2", Err(400)),
            ("application/json", r#"{"a":"\ud800"}"#, Ok("{\"a\":\"\u{fffd}\"}")),
            ("application/json", r#"{"a":"\udc00\ud83e\udd9e\ud83e"}"#, Ok("{\"a\":\"\u{fffd}🦞\u{fffd}\"}")),
            ("application/json", r#"{"a":"\ud83e\ud83e\udd9e"}"#, Ok("{\"a\":\"\u{fffd}🦞\"}")),
            ("application/json", r#"{"a":"\\ud800\n"}"#, Ok(r#"{"a":"\\ud800\n"}"#)),
            ("application/json", r#"{"a":"\ud8"#, Err(400)),
            ("application/json", r#"{"a":"\"#, Err(400)),
            (form, "@jsonPayload=%7B%22a%22%3A1%7D", Ok(r#"{"a":1}"#)),
            ("multipart/form-data; boundary=x", part, Ok(r#"{"a":"7","b":true}"#)),
            ("multipart/form-data", part, Err(400)),
        ] {
            assert_eq!(
                read_as(kind, text).await.as_deref(),
                wanted.as_ref().map(|text| *text),
                "{kind}: {text}"
            );
        }
    }

    #[tokio::test]
    async fn a_body_past_the_limit_is_413_and_one_at_it_is_not() {
        for (bytes, status) in [(limits::BODY, 400), (limits::BODY + 1, 413)] {
            assert_eq!(read_as("application/json", &" ".repeat(bytes)).await.err().unwrap_or(400), status);
        }
    }
}
