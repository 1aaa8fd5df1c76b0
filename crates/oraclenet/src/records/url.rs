//! What counts as a web address: the same as for PocketBase, found by trying.
//!
//! PocketBase asks twice: whether the text parses as a URL at all ([`parses`]), and whether it looks like one of the
//! web ([`looks_right`]), with or without a scheme, a user, a port. Both are needed and neither is strict. Every step
//! here takes time in proportion to the text.

use std::net::Ipv6Addr;

/// More bytes than this are needed.
const MORE_THAN_BYTES: usize = 3;
/// Fewer letters than this.
const FEWER_THAN_LETTERS: usize = 2083;
/// The schemes of the web, in small letters only.
const SCHEMES: [&str; 7] = ["http://", "https://", "ftp://", "ws://", "wss://", "tcp://", "udp://"];

/// Whether PocketBase takes `text` as a web address.
pub fn is_url(text: &str) -> bool {
    let sized = text.len() > MORE_THAN_BYTES && text.chars().count() < FEWER_THAN_LETTERS;
    sized && !text.contains(['\t', '\n', '\u{c}', '\r', ' ']) && {
        // A port is no scheme.
        let bare = text.contains(':') && !text.contains("://");
        let parsed = if bare { parses(&format!("http://{text}")) } else { parses(text) };
        !text.starts_with('.') && parsed && looks_right(text)
    }
}

/// Whether the parts of a URL can be told apart and have no broken escapes; and, where there is no host, whether the
/// path could be one.
fn parses(text: &str) -> bool {
    let (text, fragment) = text.split_once('#').unwrap_or((text, ""));
    let Some((scheme, rest)) = scheme(text) else { return false };
    if text.contains(|letter: char| letter.is_ascii_control()) || !escapes_are_whole(fragment) {
        return false;
    }
    let (rest, _) = rest.split_once('?').unwrap_or((rest, ""));
    if !rest.starts_with('/') {
        let first = rest.split('/').next().unwrap_or_default();
        let opaque = !scheme.is_empty(); // `a:b` has no host and no path
        return opaque
            || (!first.contains(':') && escapes_are_whole(rest) && (rest.is_empty() || rest.contains('.')));
    }
    let authority = rest.strip_prefix("//").filter(|more| !scheme.is_empty() || !more.starts_with('/'));
    let Some(more) = authority else { return escapes_are_whole(rest) && rest.contains('.') };
    let (authority, path) = more.split_at(more.find('/').unwrap_or(more.len()));
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let user_is_good = user.chars().all(|c| c.is_ascii_alphanumeric() || "-._:~!$&'()*+,;=%@".contains(c));
    user_is_good
        && escapes_are_whole(user)
        && host_parses(host)
        && escapes_are_whole(path)
        && (!host.is_empty() || path.is_empty() || path.contains('.'))
}

/// The scheme, or none, and what follows it; `None` where a colon comes first.
fn scheme(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || "+-.".contains(c)));
    let is_name = text.starts_with(|c: char| c.is_ascii_alphabetic());
    match end.filter(|end| text[*end..].starts_with(':')) {
        Some(0) => None,
        Some(end) if is_name => Some((&text[..end], &text[end + 1..])),
        _ => Some(("", text)),
    }
}

fn host_parses(host: &str) -> bool {
    let port_is_good = |port: &str| {
        port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()))
    };
    if let Some(rest) = host.strip_prefix('[') {
        return rest.rsplit_once(']').is_some_and(|(_, port)| port_is_good(port));
    }
    let port = host.rfind(':').map_or("", |at| &host[at..]);
    let letter = |c: char| !c.is_ascii() || c.is_ascii_alphanumeric() || "-_.~!$&'()*+,;=:[]<>\"".contains(c);
    port_is_good(port) && host.chars().all(letter) && !host.starts_with('.')
}

/// Two hexadecimal digits after every `%`.
fn escapes_are_whole(text: &str) -> bool {
    let digits = |rest: &str| rest.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    text.split('%').skip(1).all(digits)
}

/// Whether the text is a scheme or none, a user or none, a host, a port or none, and a path or none. What stands
/// before an `@` may be anything, also a scheme.
fn looks_right(text: &str) -> bool {
    let scheme = SCHEMES.iter().filter_map(|scheme| text.strip_prefix(scheme));
    let user = text.match_indices('@').filter(|(at, _)| *at > 0).map(|(at, _)| &text[at + 1..]);
    std::iter::once(text).chain(scheme).chain(user).any(|rest| {
        let end = rest.find(['/', '?', '#', '@']).unwrap_or(rest.len());
        !rest[end..].starts_with('@') && authority_looks_right(&rest[..end])
    })
}

fn authority_looks_right(text: &str) -> bool {
    let is_port = |port: &str| (1..=5).contains(&port.len()) && port.bytes().all(|b| b.is_ascii_digit());
    let host = text.rsplit_once(':').filter(|(_, port)| is_port(port)).map_or(text, |(host, _)| host);
    let host = host.strip_suffix('.').unwrap_or(host);
    let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    bracketed.is_some_and(is_ipv6) || is_ipv4(host) || is_name(host)
}

/// An address as in RFC 4291, with a zone only where it is written as link-local, and with an IPv4 address only behind
/// `::`, four groups at most and `::`, or the prefixes of addresses that are mapped or translated.
fn is_ipv6(text: &str) -> bool {
    let (address, zone) = text.split_once('%').map_or((text, None), |(address, zone)| (address, Some(zone)));
    let zone_is_good = zone.is_none_or(|zone| {
        let rest = address.strip_prefix("fe80:");
        let few = rest.is_some_and(|rest| rest.starts_with(':') && rest.matches(':').count() <= 4);
        few && zone.len() > 2 && zone.starts_with("25") && zone.bytes().all(|b| b.is_ascii_alphanumeric())
    });
    let before_ipv4 =
        address.rsplit_once(':').filter(|(_, last)| last.contains('.')).map(|(before, _)| before);
    let ipv4_is_good = before_ipv4.is_none_or(|before| match before.strip_suffix(':') {
        Some(groups) => groups.is_empty() || (!groups.contains("::") && groups.split(':').count() <= 4),
        None => {
            let zeros = before.strip_prefix("::ffff").map(|rest| rest.strip_prefix(':').unwrap_or(rest));
            zeros.is_some_and(|zeros| zeros.bytes().all(|b| b == b'0'))
        }
    });
    zone_is_good && ipv4_is_good && address.parse::<Ipv6Addr>().is_ok()
}

/// Four numbers up to 255, the first from 1 and not of the range of multicast.
fn is_ipv4(text: &str) -> bool {
    let mut parts = text.split('.');
    let number = |part: &str| {
        let digits = !part.is_empty() && part.len() <= 3 && part.bytes().all(|b| b.is_ascii_digit());
        part.parse::<u8>().ok().filter(|number| digits && (part.len() < 3 || *number >= 100))
    };
    let first = parts.next().filter(|part| !part.starts_with('0')).and_then(number);
    first.is_some_and(|first| !(224..240).contains(&first))
        && parts.clone().count() == 3
        && parts.all(|part| number(part).is_some())
}

/// A name: at the end a word and perhaps a last part of letters; before it, at any place of the word, something of
/// ASCII that may have dots.
fn is_name(text: &str) -> bool {
    let last_dot = text.rfind('.');
    let after = last_dot.map_or(0, |dot| dot + 1);
    // Where the word can begin if it ends with the text, and if it ends at the last dot.
    let ends_with_text = after + word_begins(&text[after..]);
    let ends_at_dot = last_dot.filter(|_| is_last(&text[after..])).map(|dot| {
        let before = text[..dot].rfind('.').map_or(0, |dot| dot + 1);
        before + word_begins(&text[before..dot])..dot
    });
    let begins = |at: usize| {
        text[at..].starts_with(is_word_letter)
            && (at >= ends_with_text || ends_at_dot.as_ref().is_some_and(|places| places.contains(&at)))
    };
    let (mut leading, mut subdomain) = (Leading::default(), Subdomain::default());
    begins(0)
        || text.char_indices().take_while(|(_, letter)| letter.is_ascii()).any(|(at, letter)| {
            let may_end = leading.take(letter) | subdomain.take(letter) | (&text[..=at] == "www.");
            may_end && begins(at + 1)
        })
}

/// The first place from which the rest is a word, if a letter or digit stands there: letters and digits, with at most
/// two hyphens at a time between them. The end if there is none.
fn word_begins(text: &str) -> usize {
    if !text.ends_with(is_word_letter) {
        return text.len();
    }
    let mut hyphens = 0;
    let stop = text.char_indices().rev().find(|(_, letter)| {
        hyphens = if *letter == '-' { hyphens + 1 } else { 0 };
        hyphens > 2 || (*letter != '-' && !is_word_letter(*letter))
    });
    stop.map_or(0, |(at, letter)| at + letter.len_utf8())
}

fn is_word_letter(c: char) -> bool {
    is_letter(c) || c.is_ascii_digit()
}

fn is_letter(c: char) -> bool {
    c.is_ascii_alphabetic() || ('\u{a1}'..='\u{ffff}').contains(&c)
}

fn is_last(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_letter)
}

/// Letter by letter: a word of two or more with `-` and `_` inside, then words with single `-` or `.` between.
#[derive(Default)]
struct Leading {
    letters: usize,
    after_dot: bool,
    before: Option<char>,
    failed: bool,
}

impl Leading {
    /// Takes the next letter; whether it could end here.
    fn take(&mut self, letter: char) -> bool {
        let plain = letter.is_ascii_alphanumeric();
        let after_plain = self.before.is_some_and(|c| c.is_ascii_alphanumeric());
        self.failed |= match letter {
            _ if plain => false,
            '.' => !after_plain || self.letters < 2,
            '-' if self.after_dot => !after_plain,
            '-' | '_' => self.after_dot || self.before.is_none(),
            _ => true,
        };
        self.after_dot |= letter == '.';
        self.letters += 1;
        self.before = Some(letter);
        !self.failed && plain && self.letters >= 2
    }
}

/// Letter by letter: words with single `-`, `_` or `.` between, then two letters or digits, a dot, and a word.
#[derive(Default)]
struct Subdomain {
    plain_run: usize,
    /// Behind a dot that came after two plain ones, and nothing but plain ones since.
    in_last: bool,
    failed: bool,
}

impl Subdomain {
    fn take(&mut self, letter: char) -> bool {
        if letter.is_ascii_alphanumeric() {
            self.plain_run += 1;
            return self.in_last && !self.failed;
        }
        self.failed |= !"-_.".contains(letter) || self.plain_run == 0;
        self.in_last = letter == '.' && self.plain_run >= 2;
        self.plain_run = 0;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each row was sent to PocketBase 0.36.1; so were 12,000 random texts of the same parts, which agreed too.
    const GOOD: &[&str] = &[
        "github.com/x",
        "ftp://x.io/a?b=c#d",
        "http://localhost:8090/x",
        "http://127.0.0.1",
        "localhost:8080",
        "http://localhost",
        "http://x",
        "http://x:80",
        "https://a.b",
        "mailto:a@b.co",
        "tcp://a.b",
        "udp://a.b",
        "ws://a.b",
        "wss://a.b",
        "a.b:80",
        "a.b:0",
        "a.b:1",
        "a.b:65535",
        "a.b:65536",
        "a.b:99999",
        "a.b/",
        "a.b/a%20b",
        "a.b?x",
        "a.b/?x=1",
        "a.b#x",
        "a.b/#x",
        "a.b/#",
        "a.b?",
        "a.b/\u{e9}",
        "\u{e9}.de",
        "m\u{fc}nchen.de",
        "http://\u{e9}.de",
        "xn--a.de",
        "a_b.co",
        "a-b.co",
        "a.b.",
        "1.2.3.4",
        "1.2.3.4:80",
        "http://1.2.3.4/x",
        "http://[::1]",
        "http://[::1]:80/",
        "[::1]",
        "user@a.b",
        "user:pass@a.b",
        "http://user:pass@a.b",
        "http://user:@a.b",
        "http://@a.b",
        "http://:p@a.b",
        "http://us%40er@a.b",
        "http://a.b@c.d@e.f",
        "a.b/<x>",
        "a.b/\"",
        "a.b/{x}",
        "a.b/|",
        "a.b/\\",
        "a.b/[x]",
        "a.b/`",
        "a.b/^",
        "a.b?%zz",
        "http://a",
        "http://a/",
        "http://a:80/x",
        "a:80",
        "a:80/x",
        "http//a.b",
        "foo.bar#.baz",
        "a.b/!",
        "a.b/(x)",
        "a.b/@x",
        "a.b/:x",
        "a.b/~x",
        "a.b/*",
        "a.b/$",
        "a.b/'",
        "http://www.a.b",
        "www.a.b",
        "www.a",
        "wwww.a",
        "a.co.uk/path/to?x=1&y=2#frag",
        "http://a.b.",
        "http://foo_bar.com",
        "https://x.io:443/",
        "http://1",
        "http://a.",
        "\u{e9}.\u{e9}",
        "http://a\u{3002}b",
        "\u{feff}a.b",
        "a.b/\u{1f99e}",
        "\u{65e5}\u{672c}.jp",
        "http://\u{65e5}\u{672c}",
        "a.b?#",
        "a.b??",
        "a.b##",
        "a.b/?/#",
        "a.b/#/x?y",
        "a.b#/",
        "a.b:80?x",
        "a.b:80#x",
        "1.2.3.4/x",
        "1.2.3.4?x",
        "http://1.2.3.4?x",
        "http://[1:2:3:4:5:6:7:8]",
        "http://[fe80::1%25en0]",
        "http://[::ffff:1.2.3.4]",
        "http://[1::]",
        "http://a.b/[::1]",
        "http://10.1.1.0",
        "http://123.123.123",
        "http://3628126748",
        "http://www.foo.bar./",
        "http://a.b/?q=Test%20URL-encoded%20stuff",
        "http://1337.net",
        "http://223.255.255.254",
        "http://foo.bar/?q=Test%20",
        "http://\u{272a}df.ws/123",
        "http://\u{27a1}.ws/\u{4a39}",
        "http://userid:password@example.com:8080/",
        "http://userid@example.com",
        "http://\u{645}\u{62b}\u{627}\u{644}.\u{625}\u{62e}\u{62a}\u{628}\u{627}\u{631}",
        "http://j.mp",
        "http://x@[::1]",
        "_1::@\u{e9}",
        "http://a1a_b1.a",
        "1a-_b\u{e9}.",
        "http://xabb1.\u{e9}",
        "-.@2a",
        "1.2.3.4?www.1.2.3.4_[::1]http://.12",
        "http://\u{e9}21",
        "http://a_b1",
        "http://a_a1b1",
        "http://@a",
        "b1\u{e9}a.",
        "http://.:@aba2",
        "\u{e9}.www.",
        "a1\u{e9}:1",
        "_a_2.@1",
        "\u{e9}1/.21@-",
        "http://a\u{e9}.//_12%25ftp://",
        "http://1____b1.aa",
        "http://1_@_@2",
        "/@2.\u{e9}:22",
        "http://b1_1aa",
        "a/11_.a\u{e9}@",
        "1\u{e9}b1a:80",
        "http://a@-b-:-@b",
        "http://[fe80::%25en0]",
        "http://[fe80::1]",
        "http://[::1.2.3.4]",
        "http://[1:2::1.2.3.4]",
        "http://[::ffff:0:1.2.3.4]",
        "http://[::]",
        "http://[1:2:3:4:5:6:7::]",
        "http://[::2:3:4:5:6:7:8]",
        "http://[fe80:0:0:0:1:2:3:4]",
        "http://[64:ff9b::192.0.2.33]",
        "http://[1:2:3:4::1.2.3.4]",
    ];
    const BAD: &[&str] = &[
        "x",
        "http://",
        "javascript:alert(1)",
        "not a url",
        "::",
        "localhost",
        "HTTP://A.B",
        "Https://a.b",
        "ftps://a.b",
        "sftp://a.b",
        "ssh://a.b",
        "git://a.b",
        "git@github.com:x/y",
        "irc://a.b",
        "rtmp://a.b",
        "file:///a",
        "//a.b",
        "//a",
        "/a",
        "a.b",
        "a.b.c",
        "a.b:100000",
        "a.b:",
        "a.b:x",
        "a.b/a b",
        "\u{fc}",
        "-a.co",
        "a-.co",
        "a..b",
        ".a.b",
        "a.1",
        "1.a",
        "1.2",
        "256.1.1.1",
        "1.2.3",
        "http://[::1",
        "http://::1",
        "http://a b@a.b",
        " a.b",
        "a.b ",
        "a.b\n",
        "a\n.b",
        "a.b/\n",
        "a.b/\t",
        "a.b\\c",
        "a.b?q=a b",
        "http://a.b/%zz",
        "a.b/%zz",
        "a.b/%",
        "a.b#%zz",
        "a/b",
        "x.",
        "http://.",
        "http://..",
        "http://../",
        "http://?",
        "http://??/",
        "http://#",
        "http://##/",
        "http:///a",
        "http:// a.b",
        "http:/a.b",
        "http:a.b",
        "://a.b",
        "h://a.b",
        "foo.bar,baz",
        "a,b.c",
        "a.b,c",
        "a.b;c",
        "a.b!",
        "(a.b)",
        "a~b.c",
        "a+b.c",
        "a*b.c",
        "a$b.c",
        "http://www.-a.b",
        "www.-a.b",
        "WWW.a.b",
        "http://a-b.c-d",
        "http://a.b-",
        "http://a_",
        "http://_a.b",
        "_a.b",
        "a._b",
        "http://a.b:80:80",
        "http://a.b:80a",
        "1",
        "http://0x7f.1",
        "http://10.0.0.1.5",
        "ab",
        "abc",
        "a.",
        "\u{1f99e}.de",
        "a.\u{1f99e}",
        "\u{65e5}\u{672c}",
        "http://[fe80::1%en0]",
        "http://[x]",
        "http://[]",
        "a.b.c.d.e.f.g",
        "a.b2",
        "a.2b",
        "a.b-c",
        "a.b_c",
        "a.bc_",
        "http://foo.bar?q=Spaces should be encoded",
        "http://-error-.invalid/",
        "http://a.b--c.de/",
        "http://-a.b.co",
        "http://a.b-.co",
        "http://0.0.0.0",
        "http://224.1.1.1",
        "http://1.1.1.1.1",
        "http://.www.foo.bar/",
        "http://.www.foo.bar./",
        "rdar://1234",
        "h://test",
        "http:// shouldfail.com",
        ":// should fail",
        "http://foo.bar/foo(bar)baz quux",
        "ftps://foo.bar/",
        "http://\u{263a}.damowmow.com/",
        "a.",
        "12?x*ftp://1\u{b}.",
        "http://-\u{e9}@\u{e9}-.21",
        "a-1-.",
        "www.[12.://https://--",
        "1_1-.-.",
        "a./",
        "1_._1a.1b1",
        "http://..-1",
        "_b1a.-",
        "._",
        "b1-.",
        "http://.1ab1a_1_1",
        "/b.:-1",
        "http://-aa.\u{e9}.2@-",
        "_11ab1ab1.b1",
        ":80[::1]a[::1]%41x.",
        "._a_b1b1b1ab1",
        "http://-b1-b1--a.",
        "*ab12www.%25://://:@",
        "http://::\u{e9}:2:.:2",
        "b1.a..1a_b1",
        "12:80].-\u{e9}-#",
        "b1_b1b1_.-.1",
        "\u{e9}a_-:@.:b",
        "http://[fe80:1::1%25en0]",
        "http://[2001:db8::1%25en0]",
        "http://[FE80::1%25en0]",
        "http://[1:2:3:4:5:6:1.2.3.4]",
        "http://[1.2.3.4]",
        "http://[01234::]",
        "http://[::01.2.3.4]",
        "http://[fe80::1%25en-0]",
        "http://[fe80::1:2:3:4:5%25e]",
        "http://[1:2:3:4:5::1.2.3.4]",
    ];

    #[test]
    fn addresses_are_those_that_pocketbase_takes() {
        for (rows, good) in [(GOOD, true), (BAD, false)] {
            for url in rows {
                assert_eq!(is_url(url), good, "{url:?}");
            }
        }
        let long = |letters: usize| format!("a.b/{}", "\u{e9}".repeat(letters - 4));
        for (letters, good) in [(FEWER_THAN_LETTERS - 1, true), (FEWER_THAN_LETTERS, false)] {
            assert_eq!(is_url(&long(letters)), good, "{letters} letters");
        }
        let labels = |length: usize| format!("{}.com", "a".repeat(length));
        assert!(is_url(&labels(63)) && is_url(&labels(64)), "a part of a name may have any length");
    }
}
