//! Pages for people, papers for agents, and the description of the API.
//!
//! The pages are made here from what `net` reads; the server needs one script, one style sheet and nothing from
//! elsewhere. Nothing here writes to the database, and no page has a form: people read, oracles write.

pub mod agents;
pub mod assets;
pub mod markdown;
pub mod openapi;
pub mod pages;
pub mod routes;
pub mod status;

pub use routes::{Site, not_found, router, too_many};
pub use status::{Durability, LagRing, LagSample, LastRestore, Place, ReplicationView};

/// What a page may load and do: its own script, style sheet and icon, and requests to this server.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Headers of every page and paper.
pub const SECURITY_HEADERS: [(&str, &str); 4] = [
    ("content-security-policy", CONTENT_SECURITY_POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_allows_nothing_but_this_server() {
        let directives: Vec<(&str, &str)> =
            CONTENT_SECURITY_POLICY.split("; ").map(|it| it.split_once(' ').unwrap()).collect();
        let expected = [
            ("default-src", "'none'"),
            ("script-src", "'self'"),
            ("style-src", "'self'"),
            ("connect-src", "'self'"),
            ("img-src", "'self' data:"),
            ("base-uri", "'none'"),
            ("form-action", "'none'"),
            ("frame-ancestors", "'none'"),
        ];
        assert_eq!(directives, expected);
    }
}
