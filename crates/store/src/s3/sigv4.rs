//! AWS's signature, version 4, of a request to S3: over its path exactly as it is sent.
//!
//! `object_store`'s signer is used wherever it can be. It can't for a path with the segment `.` or `..`: it reads the
//! URL as browsers do, which resolves them, and signs what is left. Nothing is sent here and no clock is read.

use http::header::{AUTHORIZATION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use http::{Request, Uri};
use litekeep_formats::TimestampMs;
use object_store::aws::AwsCredential;
use ring::{digest, hmac};
use std::collections::BTreeMap;
use std::fmt::Write as _;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// In place of the digest of a body that is not signed.
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

/// Whose signature, for which region, made when.
pub(super) struct Signer<'a> {
    pub(super) keys: &'a AwsCredential,
    pub(super) region: &'a str,
    pub(super) time: TimestampMs,
}

impl Signer<'_> {
    /// Adds the headers that sign a request; `digest` is the SHA-256 of its body, `None` leaves the body unsigned.
    /// Path and query must be percent-encoded as S3 encodes them. The error says what can't be part of a header.
    pub(super) fn sign<B>(&self, request: &mut Request<B>, digest: Option<&[u8; 32]>) -> Result<(), String> {
        let time = chrono::DateTime::<chrono::Utc>::from_timestamp_millis(self.time.0).unwrap_or_default();
        let time = time.format("%Y%m%dT%H%M%SZ").to_string();
        let content = digest.map_or_else(|| UNSIGNED.to_owned(), |digest| hex(digest));
        let host = host(request.uri()).ok_or("its URL has no host")?;
        let token = self.keys.token.as_ref();
        let added = [
            (HOST, Some(&host)),
            (HeaderName::from_static("x-amz-content-sha256"), Some(&content)),
            (HeaderName::from_static("x-amz-date"), Some(&time)),
            (HeaderName::from_static("x-amz-security-token"), token),
        ];
        for (name, value) in added {
            if let Some(value) = value {
                let value = value.parse().map_err(|_| format!("{name} can't hold its value"))?;
                request.headers_mut().insert(name, value);
            }
        }
        let (names, headers) = canonical_headers(request.headers())?;
        let (method, uri) = (request.method(), request.uri());
        let (path, query) = (uri.path(), canonical_query(uri.query().unwrap_or_default()));
        let canonical = format!("{method}\n{path}\n{query}\n{headers}\n{names}\n{content}");
        let scope = format!("{}/{}/s3/aws4_request", &time[..8], self.region);
        let hashed = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
        let signature = self.signature(&scope, &format!("{ALGORITHM}\n{time}\n{scope}\n{hashed}"));
        let key_id = &self.keys.key_id;
        let value =
            format!("{ALGORITHM} Credential={key_id}/{scope}, SignedHeaders={names}, Signature={signature}");
        let value = HeaderValue::from_str(&value).map_err(|_| "a header can't hold the keys")?;
        request.headers_mut().insert(AUTHORIZATION, value);
        Ok(())
    }

    /// The key is derived along the scope, one field at a time.
    fn signature(&self, scope: &str, text: &str) -> String {
        let keyed = |key: &[u8], text: &str| {
            hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
        };
        let secret = format!("AWS4{}", self.keys.secret_key).into_bytes();
        let key = scope.split('/').fold(secret, |key, field| keyed(&key, field));
        hex(&keyed(&key, text))
    }
}

/// What the `Host` header holds: no port where it is the scheme's own.
fn host(uri: &Uri) -> Option<String> {
    let own = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    let port = uri.port_u16().filter(|port| *port != own);
    Some(format!("{}{}", uri.host()?, port.map(|port| format!(":{port}")).unwrap_or_default()))
}

/// The signed headers' names, and their lines; what is set or changed on the way is not signed.
fn canonical_headers(headers: &HeaderMap) -> Result<(String, String), String> {
    let mut lines = BTreeMap::<&str, Vec<String>>::new();
    for (name, value) in headers {
        if [AUTHORIZATION, CONTENT_LENGTH, USER_AGENT].contains(name) {
            continue;
        }
        let value = value.to_str().map_err(|_| format!("{name} is no text"))?;
        let words: Vec<&str> = value.split_whitespace().collect();
        lines.entry(name.as_str()).or_default().push(words.join(" "));
    }
    let names: Vec<&str> = lines.keys().copied().collect();
    let text = lines.iter().map(|(name, values)| format!("{name}:{}\n", values.join(","))).collect();
    Ok((names.join(";"), text))
}

/// The parameters in order, each with its `=`.
fn canonical_query(query: &str) -> String {
    let parameters = query.split('&').filter(|parameter| !parameter.is_empty());
    let mut parameters: Vec<(&str, &str)> =
        parameters.map(|parameter| parameter.split_once('=').unwrap_or((parameter, ""))).collect();
    parameters.sort_unstable();
    let parameters: Vec<String> = parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
    parameters.join("&")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        // Writing to a String can't fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::NaiveDateTime;
    use object_store::aws::AwsAuthorizer;
    use object_store::client::HttpRequestBody;

    fn keys(token: Option<&str>) -> AwsCredential {
        AwsCredential {
            key_id: "AKIAIOSFODNN7EXAMPLE".into(),
            secret_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into(),
            token: token.map(Into::into),
        }
    }

    fn request<B>(method: &str, url: &str, headers: &[(&'static str, &str)], body: B) -> Request<B> {
        let mut request = Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(body).unwrap()
    }

    fn sha256(bytes: &[u8]) -> [u8; 32] {
        digest::digest(&digest::SHA256, bytes).as_ref().try_into().unwrap()
    }

    /// Method, path and query, headers, body; the names of the signed headers and the signature.
    type Example<'a> = (&'a str, &'a str, &'a [(&'static str, &'a str)], &'a [u8], &'a str, &'a str);

    /// Amazon S3 API Reference, "Signature Calculations for the Authorization Header: Transferring Payload in a
    /// Single Chunk", its four examples.
    #[test]
    fn the_signatures_of_the_documentation_come_out() {
        let put = [("date", "Fri, 24 May 2013 00:00:00 GMT"), ("x-amz-storage-class", "REDUCED_REDUNDANCY")];
        let rows: [Example<'_>; 4] = [
            (
                "GET",
                "/test.txt",
                &[("range", "bytes=0-9")],
                b"",
                "host;range;x-amz-content-sha256;x-amz-date",
                "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
            ),
            (
                "PUT",
                "/test%24file.text",
                &put,
                b"Welcome to Amazon S3.",
                "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
                "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
            ),
            (
                "GET",
                "/?lifecycle",
                &[],
                b"",
                "host;x-amz-content-sha256;x-amz-date",
                "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
            ),
            (
                "GET",
                "/?max-keys=2&prefix=J",
                &[],
                b"",
                "host;x-amz-content-sha256;x-amz-date",
                "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
            ),
        ];
        let keys = keys(None);
        // 2013-05-24T00:00:00Z
        let signer = Signer { keys: &keys, region: "us-east-1", time: TimestampMs(1_369_353_600_000) };
        for (method, path, headers, body, names, signature) in rows {
            let url = format!("https://examplebucket.s3.amazonaws.com{path}");
            let mut request = request(method, &url, headers, ());
            signer.sign(&mut request, Some(&sha256(body))).unwrap();
            let wanted = format!(
                "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, \
                 SignedHeaders={names}, Signature={signature}"
            );
            assert_eq!(request.headers()["authorization"], wanted, "{method} {path}");
        }
    }

    /// One row: a request, signed here and by `object_store` at the same second.
    fn check(method: &str, url: &str, headers: &[(&'static str, &str)], keys: &AwsCredential, signed: bool) {
        let digest = sha256(b"some body");
        let mut theirs = request(method, url, headers, HttpRequestBody::empty());
        AwsAuthorizer::new(keys, "s3", "eu-west-1")
            .with_sign_payload(signed)
            .try_authorize(&mut theirs, Some(&digest))
            .unwrap();
        let time = theirs.headers()["x-amz-date"].to_str().unwrap();
        let time = NaiveDateTime::parse_from_str(time, "%Y%m%dT%H%M%SZ").unwrap().and_utc();
        let time = TimestampMs(time.timestamp_millis());
        let mut ours = request(method, url, headers, ());
        let signer = Signer { keys, region: "eu-west-1", time };
        signer.sign(&mut ours, signed.then_some(&digest)).unwrap();
        // Theirs takes it off again: the HTTP client sets the same one.
        assert!(ours.headers_mut().remove("host").is_some());
        assert_eq!(ours.headers(), theirs.headers(), "{method} {url}");
    }

    #[test]
    fn a_path_without_dots_is_signed_as_object_store_signs_it() {
        let put = [
            ("if-none-match", "*"),
            ("content-type", "application/octet-stream"),
            ("content-length", "9"),
            ("x-amz-meta-litestream-timestamp", "2026-11-23T08:50:33.12Z"),
            ("x-amz-storage-class", "  STANDARD_IA  or   other "),
        ];
        let (plain, temporary) = (keys(None), keys(Some("a/session+token==")));
        for keys in [&plain, &temporary] {
            for signed in [true, false] {
                check("PUT", "http://127.0.0.1:9000/b/a%20b/%C3%BC~%2B%26/0000/1.ltx", &put, keys, signed);
                check("GET", "https://b.example.com/0000/1.ltx", &[("range", "bytes=0-9")], keys, signed);
                check("HEAD", "https://b.example.com:443//0000/1.ltx", &[], keys, signed);
                check("GET", "http://b.example.com:80/a.b/..c/...", &[], keys, signed);
                check("DELETE", "http://[::1]:9000/b/%252e/x", &[], keys, signed);
                check("POST", "https://h/b/k?uploads=", &put, keys, signed);
                check("PUT", "https://h/b/k?partNumber=2&uploadId=a%2Fb%3D%3D~", &[], keys, signed);
                check("GET", "https://h/b?list-type=2&prefix=.%2F&delimiter=%2F", &[], keys, signed);
            }
        }
    }

    #[test]
    fn dots_in_a_path_are_part_of_what_is_signed() {
        let keys = keys(None);
        let signer = Signer { keys: &keys, region: "us-east-1", time: TimestampMs(0) };
        let mut seen = BTreeMap::new();
        for path in ["/b/a", "/b/./a", "/b//a", "/b/x/../a", "/b/%2E/a", "/b/a/."] {
            let mut request = request("GET", &format!("https://h{path}"), &[], ());
            signer.sign(&mut request, None).unwrap();
            let other =
                seen.insert(request.headers()["authorization"].clone().to_str().unwrap().to_owned(), path);
            assert_eq!(other, None, "{path}");
        }
    }
}
