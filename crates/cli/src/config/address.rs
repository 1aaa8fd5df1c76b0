//! URLs that stand where a path or a bucket's name belongs. Taken as they stand they would be directories named `s3:`,
//! and a backup that everybody believes to be elsewhere would lie beside its database.

use super::replica::NOT_BUILT;
use crate::trouble::without_secrets;
use litekeep_store::location::ReplicaUrl;

/// How a URL is rightly written, without secrets; `None` of what is none. A scheme that is known makes one whatever
/// the number of slashes behind it.
pub(crate) fn address(text: &str) -> Option<String> {
    if ReplicaUrl::is_url(text) {
        return Some(without_secrets(text));
    }
    let (scheme, rest) = text.split_once(':')?;
    let (scheme, rooted) = (scheme.to_ascii_lowercase(), rest.starts_with('/'));
    let rest = rest.trim_start_matches('/');
    let known = NOT_BUILT.iter().map(|(name, _)| *name).chain(["s3", "file"]).any(|name| name == scheme);
    let root = if scheme == "file" && rooted { "/" } else { "" };
    known.then(|| without_secrets(&format!("{scheme}://{root}{rest}")))
}

/// What is wrong with a path, and what to write; `sqlite://` may stand before it, as in Litestream.
pub(crate) fn no_path(text: &str) -> Option<String> {
    if text.contains('\0') {
        return Some("no path holds a NUL character (`\\0`): write it without".to_owned());
    }
    if text.starts_with("sqlite://") || text.starts_with("sqlite3://") {
        return None;
    }
    let url = address(text)?;
    Some(match url.strip_prefix("file://") {
        Some(path) => format!("a path belongs here, not a URL: write {path}"),
        None => format!("a path belongs here, not a URL; {url} is a replica's `url`"),
    })
}

/// What is wrong with a bucket's name, and what to write. The ARN of an access point has a slash of its own.
pub(super) fn no_bucket(text: &str) -> Option<String> {
    if text.starts_with("arn:") {
        return None;
    }
    let url = address(text);
    let name = match &url {
        Some(url) => url.split_once("://").map_or("", |(_, rest)| rest),
        None => text,
    };
    let (bucket, path) = match name.split_once('/') {
        Some((bucket, path)) => (bucket, path.trim_matches('/')),
        None if url.is_some() => (name, ""),
        None => return None,
    };
    let path = if path.is_empty() { String::new() } else { format!(", and {path} into the `path`") };
    Some(format!("it is the name alone, without scheme and slash: write {bucket}{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_meant_as_a_url_is_known_by_its_scheme_and_shown_without_secrets() {
        for (text, shown) in [
            ("s3://test/x", Some("s3://test/x")),
            ("s3:/test/x", Some("s3://test/x")),
            ("s3:test", Some("s3://test")),
            ("S3:/test", Some("s3://test")),
            ("s3:/id:hush@test/x?a=hush", Some("s3://test/x")),
            ("s3://id:hush@test/x", Some("s3://test/x")),
            ("file:///r", Some("file:///r")),
            ("file:/r", Some("file:///r")),
            ("file:r", Some("file://r")),
            ("sftp:/host/x", Some("sftp://host/x")),
            ("gopher://host/x", Some("gopher://host/x")),
            ("gopher:/host/x", None),
            ("./s3:/x", None),
            ("/data/s3:/x", None),
            ("c:/x", None),
            ("a.db", None),
            ("", None),
        ] {
            assert_eq!(address(text).as_deref(), shown, "{text}");
        }
    }

    #[test]
    fn a_path_that_is_written_as_a_url_is_advised_as_the_path_it_was() {
        for (text, advice) in [("file:app.db", "write app.db"), ("file:/d/app.db", "write /d/app.db")] {
            let found = no_path(text).unwrap_or_default();
            assert!(found.ends_with(advice), "{text}: {found}");
        }
    }

    #[test]
    fn a_bucket_is_a_name() {
        for (text, advice) in [
            ("test", None),
            ("arn:aws:s3:eu-1:1:accesspoint/a", None),
            ("s3://test", Some("write test")),
            ("test/", Some("write test")),
            ("test/sub/x", Some("write test, and sub/x into the `path`")),
            ("s3:/test/sub", Some("write test, and sub into the `path`")),
        ] {
            let found = no_bucket(text);
            assert_eq!(found.is_some(), advice.is_some(), "{text}: {found:?}");
            assert!(found.is_none_or(|found| found.ends_with(advice.unwrap_or_default())), "{text}");
        }
    }
}
