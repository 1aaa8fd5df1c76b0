//! What counts as an e-mail address (and, in `url`, as a web address): the same as for PocketBase, found by trying.
//!
//! It says what an address may look like, not that it exists. Case is kept: PocketBase tells `A@b.co` from `a@b.co`.

pub use super::url::is_url;

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
}
