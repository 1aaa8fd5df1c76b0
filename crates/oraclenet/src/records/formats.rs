//! What counts as an e-mail address: the same as for PocketBase, found by trying.
//!
//! It says what an address may look like, not that it exists. Case is kept: PocketBase tells `A@b.co` from `a@b.co`.

/// The longest address, in bytes. PocketBase has no limit; RFC 5321 knows none longer than 254.
const MAX_EMAIL: usize = 255;

/// Whether PocketBase takes `text` as an e-mail address: dotted atoms, an `@`, and a name of two parts or more.
pub fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else { return false };
    text.len() <= MAX_EMAIL && is_local_part(local) && is_domain(domain.strip_suffix('.').unwrap_or(domain))
}

/// Atoms with single dots between them.
fn is_local_part(text: &str) -> bool {
    let atom = |c: char| is_letter(c) || c.is_ascii_digit() || "!#$%&'*+-/=?^_`{|}~".contains(c);
    text.split('.').all(|part| !part.is_empty() && part.chars().all(atom))
}

/// A last part that begins and ends with a letter, and before it something that does so with a letter or digit.
/// Between those PocketBase takes dots as they come, so `b..c.co` passes.
fn is_domain(text: &str) -> bool {
    let either = |c: char| is_letter(c) || c.is_ascii_digit();
    let good = text.chars().all(|c| either(c) || "-._~".contains(c));
    good && text.rsplit_once('.').is_some_and(|(rest, last)| {
        rest.starts_with(either)
            && rest.ends_with(either)
            && last.starts_with(is_letter)
            && last.ends_with(is_letter)
    })
}

/// A letter of any script in the basic plane; no emoji.
fn is_letter(c: char) -> bool {
    c.is_ascii_alphabetic()
        || matches!(c, '\u{a0}'..='\u{d7ff}' | '\u{f900}'..='\u{fdcf}' | '\u{fdf0}'..='\u{ffef}')
}

/// Characters that an address of the web is shorter than.
const MAX_URL: usize = 2083;

/// Whether PocketBase takes `text` as an address of the web: a scheme and a user's name that may both be missing, a
/// host, a port, a path. What it accepts is what one long regular expression of its library accepts.
pub fn is_url(text: &str) -> bool {
    if text.len() <= 3 || text.chars().count() >= MAX_URL || text.starts_with('.') || !is_parsed_by_go(text) {
        return false;
    }
    let schemes = ["ftp", "tcp", "udp", "ws", "wss", "http", "https"];
    let rest = text.split_once("://").filter(|(scheme, _)| schemes.contains(scheme)).map(|(_, rest)| rest);
    [Some(text), rest].into_iter().flatten().any(|text| {
        let after_a_name =
            text.match_indices('@').filter(|(at, _)| *at > 0 && !text[..*at].contains(is_blank));
        is_host_and_rest(text) || after_a_name.into_iter().any(|(at, _)| is_host_and_rest(&text[at + 1..]))
    })
}

/// What Go's `url.Parse` refuses and the regular expression would not, and what has neither a host nor a point.
fn is_parsed_by_go(text: &str) -> bool {
    let authority = match text.split_once("://") {
        Some((_, rest)) => Some(rest),
        None if text.contains(':') => Some(text),
        None => None,
    };
    let to_path = |text: &str| text.len() - text.trim_start_matches(|c| !"/?#".contains(c)).len();
    let authority = authority.map(|rest| &rest[..to_path(rest)]);
    let in_name = |c: char| c.is_ascii_alphanumeric() || "-._:~!$&'()*+,;=%@".contains(c);
    let good_name =
        authority.and_then(|it| it.rsplit_once('@')).is_none_or(|(name, _)| name.chars().all(in_name));
    let (before, fragment) = text.split_once('#').unwrap_or((text, ""));
    let path = before.split('?').next().unwrap_or_default();
    let decodes = |text: &str| crate::http::query::decode(text, false).is_some();
    let somewhere = authority.is_some_and(|it| !it.is_empty()) || path.is_empty() || path.contains('.');
    good_name
        && decodes(path)
        && decodes(fragment)
        && somewhere
        && !text.contains(|c: char| c.is_ascii_control())
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{c}')
}

/// A host, and then perhaps a port and a path.
fn is_host_and_rest(text: &str) -> bool {
    let (host, rest) = match text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        Some((address, rest)) if address.parse::<std::net::IpAddr>().is_ok() => (None, rest),
        Some(_) => return false,
        None => {
            let (host, rest) = text.split_at(text.find([':', '/', '?', '#']).unwrap_or(text.len()));
            (Some(host), rest)
        }
    };
    let rest = match rest.strip_prefix(':') {
        Some(rest) => {
            let path = rest.trim_start_matches(|c: char| c.is_ascii_digit());
            if !(1..=5).contains(&(rest.len() - path.len())) {
                return false;
            }
            path
        }
        None => rest,
    };
    let good_path = rest.is_empty() || (rest.starts_with(['/', '?', '#']) && !rest.contains(is_blank));
    good_path && host.is_none_or(|host| is_ipv4(host.strip_suffix('.').unwrap_or(host)) || is_host(host))
}

fn is_ipv4(text: &str) -> bool {
    let first = |address: std::net::Ipv4Addr| address.octets()[0];
    text.parse().is_ok_and(|address| matches!(first(address), 1..=223 | 240..=255))
}

/// A name, as an automaton of the expression's three parts: one of two kinds of beginning or none, then letters, digits
/// and pairs of hyphens, then perhaps a last part of letters. Each bit is a place in the expression where it may be.
fn is_host(text: &str) -> bool {
    // One beginning: two characters or more, then parts after single separators.
    const FIRST: u32 = 1;
    const BODY: u32 = 1 << 1;
    const BODY_MARK: u32 = 1 << 2;
    const MARK: u32 = 1 << 3;
    const TAIL: u32 = 1 << 4;
    // The other: single separators anywhere, two characters, a point, the rest.
    const ONE: u32 = 1 << 5;
    const TWO: u32 = 1 << 6;
    const BETWEEN: u32 = 1 << 7;
    const POINT: u32 = 1 << 8;
    const END: u32 = 1 << 9;
    // What follows either: the name, its hyphens, the last part, a closing point.
    const NAME: u32 = 1 << 10;
    const HYPHEN: u32 = 1 << 11;
    const HYPHENS: u32 = 1 << 12;
    const DOT: u32 = 1 << 13;
    const LAST: u32 = 1 << 14;
    let wide = |c: char| ('\u{a1}'..='\u{ffff}').contains(&c);
    let mut at = 0;
    for (index, c) in text.chars().enumerate() {
        let (start, plain) = (index == 0, c.is_ascii_alphanumeric());
        let on = |wanted: u32, fits: bool, then: u32| if at & wanted != 0 && fits { then } else { 0 };
        let mut next = 0;
        next |= if start && plain { FIRST | ONE } else { 0 };
        next |= on(FIRST | BODY | BODY_MARK, plain, BODY)
            | on(FIRST | BODY | BODY_MARK, "-_".contains(c), BODY_MARK);
        next |= on(BODY | TAIL, "-.".contains(c), MARK) | on(MARK | TAIL, plain, TAIL);
        next |=
            on(ONE | TWO, plain, TWO) | on(ONE | TWO, "-_.".contains(c), BETWEEN) | on(BETWEEN, plain, ONE);
        next |= on(TWO, c == '.', POINT) | on(POINT | END, plain, END);
        let name_begins = start || at & (BODY | TAIL | END) != 0 || (index == 4 && text.starts_with("www."));
        let goes_on = at & (NAME | HYPHEN | HYPHENS) != 0;
        next |= if (name_begins || goes_on) && (plain || wide(c)) { NAME } else { 0 };
        next |= on(NAME, c == '-', HYPHEN) | on(HYPHEN, c == '-', HYPHENS) | on(NAME, c == '.', DOT);
        next |= on(DOT | LAST, c.is_ascii_alphabetic() || wide(c), LAST);
        let closes = c == '.' && index + 1 == text.chars().count();
        at = next | on(LAST, closes, LAST);
    }
    at & (NAME | DOT | LAST) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_that_pocketbase_takes() {
        // Each was sent to PocketBase 0.36.1.
        for (good, addresses) in [
            (
                true,
                &[
                    "a@b.co",
                    "A.B@Example.COM",
                    "a+b@b.co",
                    "a.b.c@b.co",
                    "a@b_c.co",
                    "a@b.c",
                    "a@b.co.",
                    "\u{fc}@b.co",
                    "a@\u{fc}.de",
                    "!#$%&'*+-/=?^_`{|}~@b.co",
                    "a@b.c-d",
                    "a@b~c.co",
                    "1@2.com",
                    "a@x.y.z.example.org",
                    "a@b..c.co",
                    "a@1.c",
                    "a@b.\u{fc}",
                ][..],
            ),
            (
                false,
                &[
                    "",
                    "a@b",
                    ".a@b.co",
                    "a.@b.co",
                    "a..b@b.co",
                    "a@b..co",
                    "a@-b.co",
                    "a@b-.co",
                    "a@b.c1",
                    "a@b.1c",
                    "a@.co",
                    "a@1.2.3.4",
                    "a@[1.2.3.4]",
                    "a b@b.co",
                    "\"a b\"@b.co",
                    "a@b.co ",
                    " a@b.co",
                    "a@@b.co",
                    "@b.co",
                    "a@",
                    "a,b@b.co",
                    "a@b,c.co",
                    "a@b.co-",
                    "a(x)@b.co",
                    "<a@b.co>",
                    "\"ab\"@b.co",
                    "a@b.c..d",
                    "a@b.co..",
                    "a@b.c.1",
                    "\u{1f99e}@b.co",
                    "a\tb@b.co",
                    "a@b.co\n",
                ][..],
            ),
        ] {
            for address in addresses {
                assert_eq!(is_email(address), good, "{address:?}");
            }
        }
        for (length, good) in [(MAX_EMAIL, true), (MAX_EMAIL + 1, false)] {
            assert_eq!(is_email(&format!("{}@b.co", "a".repeat(length - 5))), good, "{length}");
        }
    }

    #[test]
    fn web_addresses_are_those_that_pocketbase_takes() {
        // Each was sent to PocketBase 0.36.1.
        for (good, addresses) in [
            (
                true,
                &[
                    "http://a",
                    "a_b.co",
                    "http://[::1]/",
                    "http://[::1]:80/x",
                    "user@a.b",
                    "a.b.",
                    "http://\u{e9}.x",
                    "http://a.b:99999",
                    "http://a.b?x",
                    "mailto:a@b.c",
                    "localhost:80",
                    "http://x",
                    "http://a--b.c",
                    "tcp://a.b",
                    "http://\u{e9}",
                    "a/b.c",
                    "http://@a.b",
                    "ab.c1d",
                    "http://a.b#x",
                    "http://u:p@h",
                    "http://a/",
                    "ws://a.b",
                    "wss://a.b",
                    "udp://a.b",
                    "http://a.b/\u{a0}",
                    "http://a-b-c.d",
                    "http://\u{65e5}\u{672c}.jp",
                    "http://a\u{65e5}.jp",
                    "http://\u{65e5}-a.jp",
                    "http://1a.2b.3c",
                ][..],
            ),
            (
                false,
                &[
                    "a.b",
                    "abc",
                    "http://a_b",
                    "http://1.2.3",
                    "http://-a.b",
                    "http://a-.b",
                    "http://a..b",
                    "http://a.b:123456",
                    "http://a.b:x",
                    "HTTP://a.b",
                    "gopher://a.b",
                    ".a.b",
                    "a.b/c d",
                    "http://a.b/%zz",
                    "a.1",
                    "http://a.b_c",
                    "http://a---b.c",
                    "//a.b",
                    "/a.b",
                    "?a.b",
                    "http://a.b\\",
                    "http://?x",
                    "http://a.-b",
                    "http://a.b:",
                    "http://a b.c",
                    "http://www.a_b.c",
                    "http://a_b_c.d",
                    "http://_a.b",
                    "http://a_.b",
                    "http://999.1.1.1",
                    "http://1.1.1.999",
                    "http://a.b.1.c1",
                    "http://a.b..",
                    "http://a.b.\u{e9}1",
                    "http://a.b:80a",
                    "1.2",
                    "1234",
                    "a:b",
                    "http://",
                    "http://\u{1f99e}.x",
                    "x@y",
                    "http://a~b.c",
                    "http://a%20b.c",
                    "http://a!b.c",
                    "git@github.com:a/b.git",
                    "http://a.b-",
                    "http://a.b-c",
                    "http://a-b_c.d",
                    "http://abc-def.x_y.z",
                    "http://a.b.c.d.e",
                    "http://a.b.3-c",
                ][..],
            ),
        ] {
            for address in addresses {
                assert_eq!(is_url(address), good, "{address:?}");
            }
        }
    }
}
