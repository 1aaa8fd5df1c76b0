//! What an S3 service answered, and whose move that makes it.

use crate::ErrorKind;
use crate::budget::LeftAlone;
use crate::retry::Setback;
use crate::times;
use bytes::Bytes;
use litekeep_formats::TimestampMs;
use reqwest::header::{HeaderMap, HeaderName};
use serde::Deserialize;
use std::time::Duration;

/// A complete answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Whether the request was for a key with the segment `.` or `..`.
    pub(crate) dotted: bool,
}

/// No usable answer: nobody knows whether the request was carried out.
#[derive(Debug, Clone)]
pub(crate) enum NoAnswer {
    /// It never left this machine (name lookup, connection, TLS).
    NotSent(String),
    /// It may have arrived.
    Lost(String),
    /// It can't be made: keys or configuration.
    Setup(String),
    /// Nobody knows what became of it: a fault of our own, which is there the next time as well.
    Died,
    /// It was not sent: the service asked to be left alone.
    LeftAlone(LeftAlone),
}

/// The XML body of an error.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct ErrorBody {
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) region: Option<String>,
}

impl NoAnswer {
    pub(crate) fn setback(self) -> Setback {
        match self {
            Self::NotSent(text) => Setback::new(ErrorKind::Retry, text),
            Self::Lost(text) => Setback { ambiguous: true, ..Setback::new(ErrorKind::Retry, text) },
            Self::Setup(text) => Setback::new(ErrorKind::FixConfig, text),
            Self::Died => {
                let text = "the request's task ended without an answer; the process's error output says why";
                Setback { ambiguous: true, ..Setback::new(ErrorKind::Bug, text) }
            }
            Self::LeftAlone(LeftAlone { left, said }) => Setback {
                after: Some(left),
                ..Setback::new(ErrorKind::Wait, format!("not asked, since the bucket answered {said}"))
            },
        }
    }
}

impl Answer {
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name.parse::<HeaderName>().ok()?)?.to_str().ok()
    }

    /// The parsed error body; `None` where the body is not S3's XML.
    pub(crate) fn error_body(&self) -> Option<ErrorBody> {
        parse_xml(&self.body, "Error")
    }

    /// S3's error code; empty where the body holds none.
    pub(crate) fn code(&self) -> String {
        self.error_body().unwrap_or_default().code
    }

    /// The region a bucket really lies in, from an answer that says we asked elsewhere.
    pub(crate) fn other_region(&self) -> Option<String> {
        if !matches!(self.status, 301 | 307 | 400) {
            return None;
        }
        let named = self.header("x-amz-bucket-region").map(String::from);
        named.or_else(|| self.error_body().and_then(|body| body.region)).filter(|region| !region.is_empty())
    }

    /// Seconds or a date, in 429 and 5xx answers.
    fn retry_after(&self) -> Option<Duration> {
        let text = self.header("retry-after")?.trim();
        if let Ok(seconds) = text.parse() {
            return Some(Duration::from_secs(seconds));
        }
        let (until, now) = (times::parse_http_date(text)?, self.date()?);
        Some(Duration::from_millis(u64::try_from(until.0.saturating_sub(now.0)).unwrap_or(0)))
    }

    /// Whether the service had too many requests, of whomever, and how long it wants none.
    pub(crate) fn asks_for_less(&self) -> Option<Option<Duration>> {
        let after = self.retry_after();
        let slow = match self.status {
            429 => true,
            503 => after.is_some() || self.code() == "SlowDown",
            _ => false,
        };
        slow.then_some(after)
    }

    /// The service's clock.
    pub(crate) fn date(&self) -> Option<TimestampMs> {
        times::parse_http_date(self.header("date")?)
    }

    /// An answer that is not what was asked for, as a failure. A 404 is [`ErrorKind::NotFound`] only where S3 itself
    /// says that the *key* is missing: a missing bucket or some other server's 404 page must never pass for "nothing
    /// there" (R26b).
    pub(crate) fn setback(&self) -> Setback {
        let body = self.error_body();
        let foreign = body.is_none() && !self.body.is_empty();
        let ErrorBody { code, message, .. } = body.unwrap_or_default();
        let text = describe(self.status, &code, &message);
        let kind = match (self.status, code.as_str()) {
            (404, "NoSuchBucket") => ErrorKind::FixConfig,
            (404, "NoSuchKey" | "NotFound" | "NoSuchUpload") => ErrorKind::NotFound,
            (404, _) => {
                let hint =
                    if foreign { "not an S3 answer; is the endpoint right?" } else { "no reason given" };
                return Setback::new(ErrorKind::FixConfig, format!("{text} ({hint})"));
            }
            (429, _) | (503, _) => ErrorKind::Wait,
            (_, "SlowDown" | "TooManyRequests" | "RequestLimitExceeded" | "Throttling") => ErrorKind::Wait,
            (501, _) | (_, "NotImplemented") => ErrorKind::Unsupported,
            (400, "RequestTimeout" | "IncompleteBody" | "BadDigest") | (408, _) => ErrorKind::Retry,
            (413, _) | (_, "EntityTooLarge") => ErrorKind::TooLarge,
            (409, "ConditionalRequestConflict" | "OperationAborted") => ErrorKind::Retry,
            (500.., _) => ErrorKind::Retry,
            _ => ErrorKind::FixConfig,
        };
        let after =
            if matches!(kind, ErrorKind::Wait | ErrorKind::Retry) { self.retry_after() } else { None };
        let mut text = with_hint(text, &code, self.status);
        if self.dotted && may_be_about_dots(self.status, &code) {
            text = format!("{text} ({DOTS})");
        }
        // A 5xx may come from a proxy in front of a service that went on and did it.
        Setback { kind, text, after, ambiguous: self.status >= 500 }
    }
}

fn describe(status: u16, code: &str, message: &str) -> String {
    match (code, message) {
        ("", _) => format!("HTTP status {status}"),
        (code, "") => format!("{status} {code}"),
        (code, message) => {
            let short: String = message.chars().filter(|c| !c.is_control()).take(200).collect();
            format!("{status} {code}: {short}")
        }
    }
}

/// What to do where the store is full, or an account has had what it may use.
const QUOTA: &str = "check the quota of the bucket and of the account: raise it, or free space there";

/// What to know of a service that does not take a key with such a segment.
const DOTS: &str = "the key has the segment . or .., which some services refuse and some proxies take out: reach the service directly, or move the replica to a path without";

/// Answers to such a key that may be about it without saying so: no reason at all, AWS's to a path that leads out of the
/// bucket, or a signature that was made over another path.
fn may_be_about_dots(status: u16, code: &str) -> bool {
    matches!(
        (status, code),
        (301 | 302 | 307 | 308 | 400 | 403, "") | (400, "InvalidURI") | (403, "SignatureDoesNotMatch")
    )
}

fn with_hint(text: String, code: &str, status: u16) -> String {
    let hint = match (status, code) {
        (_, "NoSuchBucket") => "check the bucket's name, region and endpoint",
        (_, "InvalidAccessKeyId") => "check the access key id and that it belongs to this endpoint",
        (_, "SignatureDoesNotMatch") => "check the secret access key and the region",
        (_, "RequestTimeTooSkewed") => "this machine's clock is off by more than 15 minutes; set it",
        (_, "ExpiredToken") => "the session token has expired; get new keys",
        (_, "AuthorizationHeaderMalformed" | "PermanentRedirect" | "IllegalLocationConstraintException") => {
            "check the region"
        }
        (_, "QuotaExceeded" | "StorageQuotaExceeded" | "InsufficientStorage" | "XMinioStorageFull")
        | (507, _) => QUOTA,
        // MinIO's word for it, of keys and of listings below such a prefix.
        (_, "XMinioInvalidResourceName" | "XMinioInvalidObjectName") => DOTS,
        // Backblaze B2 has no code of its own for it.
        (403, _) if text.contains("cap exceeded") => QUOTA,
        (403, _) => "check that these keys may list, read, write and delete in this bucket and path",
        (401, _) => "check the keys",
        (301 | 302 | 307 | 308, _) => "check endpoint and region",
        _ => return text,
    };
    format!("{text} ({hint})")
}

/// Parses a body whose outermost element must be `root`.
pub(crate) fn parse_xml<T: for<'de> Deserialize<'de>>(body: &[u8], root: &str) -> Option<T> {
    let text = std::str::from_utf8(body).ok()?;
    let mut rest = text.trim_start_matches('\u{feff}').trim_start();
    while let Some(after) = rest.strip_prefix("<?").or_else(|| rest.strip_prefix("<!")) {
        rest = after.split_once('>')?.1.trim_start();
    }
    let name = rest.strip_prefix('<')?;
    let end = name.find(|c: char| c.is_whitespace() || c == '>' || c == '/')?;
    (&name[..end] == root).then_some(())?;
    // An answer cut off before its last tag must not pass for a shorter one.
    text.trim_end().ends_with(&format!("</{root}>")).then_some(())?;
    quick_xml::de::from_str(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r62_a_quota_that_is_used_up_is_told_as_that_and_not_as_a_matter_of_keys() {
        for (status, code, message, quota) in [
            (403, "QuotaExceeded", "", true),
            (507, "InsufficientStorage", "", true),
            (507, "XMinioStorageFull", "Storage backend has reached its minimum free drive threshold.", true),
            (403, "AccessDenied", "Cannot upload files, storage cap exceeded.", true),
            (403, "AccessDenied", "Access Denied", false),
            (403, "AccessDenied", "", false),
        ] {
            let body = format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>");
            let told =
                Answer { status, headers: HeaderMap::new(), body: body.into(), dotted: false }.setback().text;
            assert_eq!(told.contains(QUOTA), quota, "{told}");
            assert_eq!(told.contains("check that these keys may"), !quota, "{told}");
        }
    }
}
