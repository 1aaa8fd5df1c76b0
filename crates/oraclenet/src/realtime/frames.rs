//! Events as bytes, as PocketBase writes them: every frame repeats the client's id, and nothing stands after a colon.

use bytes::Bytes;
use serde_json::Value;

/// The name of the first event.
pub(super) const CONNECT: &str = "PB_CONNECT";

/// One frame of an event stream. `data` has no line breaks, since it is JSON.
pub(super) fn frame(client: &str, event: &str, data: &[u8]) -> Bytes {
    let parts = [b"id:", client.as_bytes(), b"\nevent:", event.as_bytes(), b"\ndata:", data, b"\n\n"];
    Bytes::from(parts.concat())
}

/// What the first event says.
pub(super) fn connect_data(client: &str) -> Bytes {
    Bytes::from(format!(r#"{{"clientId":"{client}"}}"#))
}

/// What the event of a change says.
pub(super) fn change_data(record: &Value, action: &str) -> Bytes {
    Bytes::from(format!(r#"{{"record":{},"action":"{action}"}}"#, go_json(record)))
}

/// JSON with the escapes that Go adds; outside of texts none of these letters stands in JSON.
fn go_json(value: &Value) -> String {
    let plain = value.to_string();
    let mut out = String::with_capacity(plain.len());
    for letter in plain.chars() {
        match letter {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            letter => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn frames_are_those_of_pocketbase_byte_for_byte() {
        // Recorded from PocketBase 0.36.1, ids aside.
        for (event, data, bytes) in [
            (
                CONNECT,
                connect_data("anyhLGiRBEu4f75iqckv6acpJuN9mq2IT5P7feUl"),
                "id:C\nevent:PB_CONNECT\ndata:{\"clientId\":\"anyhLGiRBEu4f75iqckv6acpJuN9mq2IT5P7feUl\"}\n\n",
            ),
            (
                "posts/*?options={\"query\":{\"fields\":\"id\"}}",
                change_data(&json!({ "id": "q7nev7mgl2uqjbq" }), "update"),
                "id:C\nevent:posts/*?options={\"query\":{\"fields\":\"id\"}}\n\
                 data:{\"record\":{\"id\":\"q7nev7mgl2uqjbq\"},\"action\":\"update\"}\n\n",
            ),
            (
                "posts",
                change_data(&json!({ "title": "t<&>", "content": "c\u{2028}x\"\\ é\n" }), "create"),
                "id:C\nevent:posts\ndata:{\"record\":{\"content\":\"c\\u2028x\\\"\\\\ é\\n\",\
                 \"title\":\"t\\u003c\\u0026\\u003e\"},\"action\":\"create\"}\n\n",
            ),
            (
                "posts/*",
                change_data(&json!({}), "delete"),
                "id:C\nevent:posts/*\ndata:{\"record\":{},\"action\":\"delete\"}\n\n",
            ),
        ] {
            assert_eq!(frame("C", event, &data), bytes);
        }
    }
}
