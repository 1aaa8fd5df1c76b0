//! What of a URL may be shown: a password or a token in it has no place in a report.

/// The URL without what stands before `@` in its authority, without its query and its fragment.
#[must_use]
pub fn shown(url: &str) -> String {
    let end = url.find(['?', '#']).unwrap_or(url.len());
    let (scheme, rest) = url[..end].split_once("://").unwrap_or(("", &url[..end]));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let separator = if scheme.is_empty() { "" } else { "://" };
    format!("{scheme}{separator}{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn passwords_and_queries_are_not_shown() {
        for (url, wanted) in [
            ("https://x.org/a", "https://x.org/a"),
            ("https://me:secret@x.org:8080/a/b?token=t#f", "https://x.org:8080/a/b"),
            ("https://me:se@cret@x.org", "https://x.org"),
            ("https://x.org/a@b", "https://x.org/a@b"),
            ("s3://bucket/path?endpoint=https://me:secret@host", "s3://bucket/path"),
            ("me:secret@x.org/a", "x.org/a"),
            ("file:///d", "file:///d"),
        ] {
            assert_eq!(shown(url), wanted);
        }
    }
}
