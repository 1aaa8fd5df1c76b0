//! Whose address a request comes from, when there may be proxies before us.
//!
//! A header is believed only from a peer that the operator named (`--trusted-proxy`): everybody else could write
//! anything into it and so escape the rate limits, or have somebody else limited.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// The most entries of `X-Forwarded-For` that are looked at, from the right.
const MAX_HOPS: usize = 32;

/// A range of addresses: `10.0.0.0/8`, `fd00::/8`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    /// Leading bits that are the same.
    prefix: u32,
}

/// Not a range of addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a network; write an address such as 10.0.0.1 or a range such as 10.0.0.0/8 or fd00::/8"
)]
pub struct NotANetwork(String);

impl FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let wrong = || NotANetwork(text.to_owned());
        let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => bits,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().map_err(|_| wrong())?
            }
            Some(_) => return Err(wrong()),
        };
        // `::ffff:10.0.0.0/104` means the same as 10.0.0.0/8, and peers are compared in that form.
        match address.to_canonical() {
            _ if prefix > bits => Err(wrong()),
            IpAddr::V4(v4) if bits == 128 && prefix >= 96 => {
                Ok(Self { address: IpAddr::V4(v4), prefix: prefix - 96 })
            }
            _ => Ok(Self { address, prefix }),
        }
    }
}

impl Network {
    /// Whether an address is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                (ours.to_bits() ^ theirs.to_bits()).leading_zeros() >= self.prefix
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => {
                (ours.to_bits() ^ theirs.to_bits()).leading_zeros() >= self.prefix
            }
            _ => false,
        }
    }
}

/// The headers that say where a request came from, as bytes: what is not text must end the walk, not vanish.
#[derive(Debug, Clone, Copy, Default)]
pub struct Forwarded<'a> {
    /// Every `do-connecting-ip`.
    pub connecting: &'a [&'a [u8]],
    /// Every `X-Forwarded-For`, in the order in which they came.
    pub forwarded_for: &'a [&'a [u8]],
}

/// Whom limits are counted for: an IPv4 address, or the /64 of an IPv6 one, since one subscriber has all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientKey(IpAddr);

impl From<IpAddr> for ClientKey {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))),
            v4 => v4,
        })
    }
}

impl fmt::Display for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(v4) => write!(f, "{v4}"),
            IpAddr::V6(v6) => write!(f, "{v6}/64"),
        }
    }
}

/// The client's address. Without trusted proxies it is the peer's, whatever the headers say.
///
/// From a trusted peer: `do-connecting-ip` if there is one and only one good one, which App Platform's edge sets;
/// else the right-most address of `X-Forwarded-For` that is no trusted proxy. What is no address ends the walk at
/// the last good one: what stands left of it was written by nobody we trust.
pub fn client_address(peer: IpAddr, trusted: &[Network], headers: &Forwarded<'_>) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    let peer = peer.to_canonical();
    if !is_trusted(peer) {
        return peer;
    }
    if let [connecting] = headers.connecting
        && let Some(address) = parse(connecting)
    {
        return address;
    }
    let entries = headers.forwarded_for.iter().rev().flat_map(|line| line.rsplit(|byte| *byte == b','));
    let mut client = peer;
    for entry in entries.take(MAX_HOPS) {
        let Some(address) = parse(entry) else { break };
        client = address;
        if !is_trusted(address) {
            break;
        }
    }
    client
}

/// An address with nothing around it but spaces. With a port it is not one: no proxy that we know of writes it.
fn parse(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?.trim_matches([' ', '\t']);
    text.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn network(text: &str) -> Network {
        text.parse().expect("a network")
    }

    #[test]
    fn networks_are_read_and_hold_their_addresses() {
        for (text, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("10.1.2.3/8", "10.255.0.1", "11.0.0.0"),
            ("10.0.0.1", "10.0.0.1", "10.0.0.2"),
            ("10.0.0.1", "::ffff:10.0.0.1", "::ffff:10.0.0.2"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("fd00::/8", "fdff::1", "fe00::1"),
            ("::1", "::1", "::2"),
            ("::/0", "ffff::", "10.0.0.1"),
            ("::ffff:10.0.0.0/104", "10.1.1.1", "11.1.1.1"),
        ] {
            assert!(network(text).contains(ip(inside)), "{text} {inside}");
            assert!(!network(text).contains(ip(outside)), "{text} {outside}");
        }
        for text in ["", "10.0.0.0/", "10.0.0.0/33", "::/129", "10.0.0/8", "10.0.0.0/+8", "x", "10.0.0.0/8/8"]
        {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }

    /// (name, peer, do-connecting-ip, X-Forwarded-For, the client)
    type Case =
        (&'static str, &'static str, &'static [&'static [u8]], &'static [&'static [u8]], &'static str);

    fn check(trusted: &[&str], cases: &[Case]) {
        let trusted: Vec<Network> = trusted.iter().map(|text| network(text)).collect();
        for (name, peer, connecting, forwarded_for, client) in cases {
            let headers = Forwarded { connecting, forwarded_for };
            assert_eq!(client_address(ip(peer), &trusted, &headers), ip(client), "{name}");
        }
    }

    #[test]
    fn nobody_is_believed_without_being_trusted() {
        check(
            &[],
            &[
                ("no headers", "9.9.9.9", &[], &[], "9.9.9.9"),
                ("both headers", "9.9.9.9", &[b"1.1.1.1"], &[b"1.1.1.1"], "9.9.9.9"),
                ("from this machine", "127.0.0.1", &[b"1.1.1.1"], &[b"1.1.1.1"], "127.0.0.1"),
            ],
        );
        check(&["10.0.0.0/8"], &[("a stranger", "11.0.0.1", &[b"1.1.1.1"], &[b"1.1.1.1"], "11.0.0.1")]);
    }

    #[test]
    fn a_trusted_proxy_says_who_the_client_is() {
        check(
            &["10.0.0.0/8", "fd00::/8"],
            &[
                ("nothing said", "10.0.0.1", &[], &[], "10.0.0.1"),
                ("App Platform", "10.0.0.1", &[b"1.1.1.1"], &[b"2.2.2.2"], "1.1.1.1"),
                ("a mapped peer", "::ffff:10.0.0.1", &[b"1.1.1.1"], &[], "1.1.1.1"),
                ("garbage of App Platform", "10.0.0.1", &[b"x"], &[b"2.2.2.2"], "2.2.2.2"),
                ("two of App Platform", "10.0.0.1", &[b"1.1.1.1", b"3.3.3.3"], &[b"2.2.2.2"], "2.2.2.2"),
                ("one hop", "10.0.0.1", &[], &[b"2.2.2.2"], "2.2.2.2"),
                ("two hops", "10.0.0.1", &[], &[b"2.2.2.2, 10.0.0.2"], "2.2.2.2"),
                ("IPv6", "fd00::1", &[], &[b"2001:db8::1, fd00::2"], "2001:db8::1"),
                ("spaces", "10.0.0.1", &[], &[b"  2.2.2.2\t,10.0.0.2 "], "2.2.2.2"),
                ("only trusted", "10.0.0.1", &[], &[b"10.0.0.3, 10.0.0.2"], "10.0.0.3"),
                ("several headers", "10.0.0.1", &[], &[b"6.6.6.6", b"2.2.2.2", b"10.0.0.2"], "2.2.2.2"),
            ],
        );
    }

    #[test]
    fn what_a_client_writes_into_the_headers_is_not_believed() {
        check(
            &["10.0.0.0/8"],
            &[
                ("an address before", "10.0.0.1", &[], &[b"6.6.6.6, 2.2.2.2"], "2.2.2.2"),
                ("a trusted one before", "10.0.0.1", &[], &[b"10.6.6.6, 2.2.2.2"], "2.2.2.2"),
                ("a header of its own", "10.0.0.1", &[], &[b"6.6.6.6", b"2.2.2.2"], "2.2.2.2"),
                ("garbage before", "10.0.0.1", &[], &[b"6.6.6.6, unknown, 10.0.0.2"], "10.0.0.2"),
                ("only garbage", "10.0.0.1", &[], &[b"unknown"], "10.0.0.1"),
                ("empty", "10.0.0.1", &[], &[b""], "10.0.0.1"),
                ("a comma at the end", "10.0.0.1", &[], &[b"2.2.2.2,"], "10.0.0.1"),
                ("no text", "10.0.0.1", &[], &[b"6.6.6.6", b"\xff"], "10.0.0.1"),
                ("a port", "10.0.0.1", &[], &[b"2.2.2.2:80"], "10.0.0.1"),
                ("brackets", "10.0.0.1", &[], &[b"[::1]"], "10.0.0.1"),
                ("octal", "10.0.0.1", &[], &[b"010.1.1.1"], "10.0.0.1"),
            ],
        );
        let many = format!("6.6.6.6{}", ", 10.0.0.2".repeat(MAX_HOPS));
        let headers = Forwarded { connecting: &[], forwarded_for: &[many.as_bytes()] };
        assert_eq!(client_address(ip("10.0.0.1"), &[network("10.0.0.0/8")], &headers), ip("10.0.0.2"));
    }

    #[test]
    fn an_ipv6_client_is_its_whole_64() {
        for (address, key) in [
            ("1.2.3.4", "1.2.3.4"),
            ("::ffff:1.2.3.4", "1.2.3.4"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
            ("2001:db8:1:2::", "2001:db8:1:2::/64"),
            ("2001:db8:1:3::", "2001:db8:1:3::/64"),
        ] {
            assert_eq!(ClientKey::from(ip(address)).to_string(), key, "{address}");
        }
    }
}
