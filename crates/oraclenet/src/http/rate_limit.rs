//! How often a caller may ask: PocketBase's default rules, in windows, with bounded memory.
//!
//! A request counts against one rule, the most specific that fits: what it does in a collection first (`*:auth`),
//! then its path, a trailing `/` meaning everything below. Superusers are not limited, as in PocketBase. Unlike
//! there, a window ends when it has lasted its time, not when its caller has been quiet for that long.

use super::client_address::ClientKey;
use std::collections::HashMap;
use std::str::FromStr;
use std::time::Duration;

/// How many windows are kept; one is about 150 bytes.
pub const MAX_WINDOWS: usize = 50_000;

/// One rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// `*:action`, `collection:action`, a path, or the beginning of one with a `/` at the end.
    pub label: &'static str,
    /// Requests in a window.
    pub requests: u32,
    /// How long a window lasts.
    pub window: Duration,
}

const fn rule(label: &'static str, requests: u32, seconds: u64) -> Rule {
    Rule { label, requests, window: Duration::from_secs(seconds) }
}

/// PocketBase's rules when limits are switched on.
pub const DEFAULT_RULES: [Rule; 4] =
    [rule("*:auth", 2, 3), rule("*:create", 20, 5), rule("/api/batch", 3, 1), rule("/api/", 300, 10)];

/// `--rate-limits`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Setting {
    /// [`DEFAULT_RULES`].
    #[default]
    Default,
    /// None.
    Off,
}

impl FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "default" => Ok(Self::Default),
            "off" => Ok(Self::Off),
            other => Err(format!("--rate-limits is `default` or `off`, not {other:?}")),
        }
    }
}

impl Setting {
    /// The rules that it means.
    pub fn rules(self) -> Vec<Rule> {
        match self {
            Self::Default => DEFAULT_RULES.to_vec(),
            Self::Off => Vec::new(),
        }
    }
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Caller {
    /// Never limited.
    Superuser,
    /// An account with a valid token: collection and record.
    Account {
        /// The id of its collection.
        collection: String,
        /// Its own id.
        id: String,
    },
    /// A guest, by address.
    Guest(ClientKey),
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked<'a> {
    /// The name of the collection (never its id: that would be counted apart) and the action, `auth` or `create`.
    pub action: Option<(&'a str, &'a str)>,
    /// The path.
    pub path: &'a str,
}

/// May it be done?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Yes.
    Allowed,
    /// Not now.
    Limited {
        /// When it is worth asking again.
        retry_after: Duration,
    },
}

/// The windows that are open.
#[derive(Debug)]
pub struct RateLimits {
    rules: Vec<Rule>,
    limit: usize,
    windows: HashMap<Key, Window>,
    /// The earliest time when looking for windows that have ended is worth it.
    next_sweep: Duration,
}

/// A rule's place in the list, the collection if the rule is about one, and who asks.
type Key = (usize, String, Caller);

#[derive(Debug, Clone, Copy)]
struct Window {
    end: Duration,
    left: u32,
}

impl RateLimits {
    /// No window is open; at most `limit` will be ([`MAX_WINDOWS`]).
    pub fn new(rules: Vec<Rule>, limit: usize) -> Self {
        Self { rules, limit, windows: HashMap::new(), next_sweep: Duration::ZERO }
    }

    /// Counts a request at `now` (since boot). `address` is the client's, for sign-ins: whoever guesses passwords
    /// could do it under the tokens of many accounts, so those count by address always.
    pub fn check(&mut self, caller: &Caller, address: ClientKey, asked: Asked<'_>, now: Duration) -> Verdict {
        let found = self.find(asked).filter(|_| *caller != Caller::Superuser);
        let Some((index, collection)) = found else { return Verdict::Allowed };
        let Rule { requests, window, .. } = self.rules[index];
        let signs_in = asked.action.is_some_and(|(_, action)| action == "auth");
        let caller = if signs_in { Caller::Guest(address) } else { caller.clone() };
        let key = (index, collection.to_owned(), caller);
        if !self.windows.contains_key(&key) && !self.has_room(now) {
            return Verdict::Limited { retry_after: self.next_sweep.saturating_sub(now) };
        }
        let fresh = Window { end: now + window, left: requests };
        let open = self.windows.entry(key).or_insert(fresh);
        if open.end <= now {
            *open = fresh;
        }
        if open.left == 0 {
            return Verdict::Limited { retry_after: open.end - now };
        }
        open.left -= 1;
        Verdict::Allowed
    }

    /// How many windows are kept.
    pub fn len(&self) -> usize {
        self.windows.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.windows.is_empty()
    }

    /// The rule that fits best, and the collection that it counts in.
    fn find<'a>(&self, asked: Asked<'a>) -> Option<(usize, &'a str)> {
        if let Some((collection, action)) = asked.action {
            let named = |name: &str| {
                self.rules.iter().position(|it| it.label.split_once(':') == Some((name, action)))
            };
            if let Some(index) = named(collection).or_else(|| named("*")) {
                return Some((index, collection));
            }
        }
        let exact = self.rules.iter().position(|rule| rule.label == asked.path);
        let below = |rule: &Rule| rule.label.ends_with('/') && asked.path.starts_with(rule.label);
        let longest = || {
            let fitting = self.rules.iter().enumerate().filter(|(_, rule)| below(rule));
            fitting.max_by_key(|(_, rule)| rule.label.len()).map(|(index, _)| index)
        };
        exact.or_else(longest).map(|index| (index, ""))
    }

    /// Whether one more window fits. When all places are taken, those that have ended make room; one whole look at
    /// a time, at most once a second, so that a flood does not pay us back in sweeps.
    fn has_room(&mut self, now: Duration) -> bool {
        if self.windows.len() >= self.limit && self.next_sweep <= now {
            self.windows.retain(|_, window| window.end > now);
            self.next_sweep = now + Duration::from_secs(1);
        }
        self.windows.len() < self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    fn address(n: u32) -> ClientKey {
        IpAddr::V4(Ipv4Addr::from_bits(n)).into()
    }

    fn guest(n: u32) -> Caller {
        Caller::Guest(address(n))
    }

    fn account(id: &str) -> Caller {
        Caller::Account { collection: "oracles".to_owned(), id: id.to_owned() }
    }

    const fn path(path: &str) -> Asked<'_> {
        Asked { action: None, path }
    }

    const fn act<'a>(collection: &'a str, action: &'a str) -> Asked<'a> {
        Asked { action: Some((collection, action)), path: "/api/collections/x" }
    }

    fn limits() -> RateLimits {
        RateLimits::new(Setting::Default.rules(), MAX_WINDOWS)
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_request_counts_against_the_most_specific_rule() {
        let mut rules = DEFAULT_RULES.to_vec();
        rules.push(rule("posts:create", 1, 5));
        rules.push(rule("/api/feed/", 1, 5));
        let limits = RateLimits::new(rules, 10);
        for (asked, label) in [
            (act("oracles", "auth"), Some("*:auth")),
            (act("oracles", "create"), Some("*:create")),
            (act("posts", "create"), Some("posts:create")),
            (act("posts", "list"), Some("/api/")),
            (path("/api/batch"), Some("/api/batch")),
            (path("/api/batch/"), Some("/api/")),
            (path("/api/batches"), Some("/api/")),
            (path("/api/feed/x"), Some("/api/feed/")),
            (path("/api/"), Some("/api/")),
            (path("/api"), None),
            (path("/apis/x"), None),
            (path("/"), None),
            (path("*:auth"), Some("*:auth")),
        ] {
            assert_eq!(limits.find(asked).map(|(index, _)| limits.rules[index].label), label, "{asked:?}");
        }
    }

    #[test]
    fn each_rule_allows_its_number_in_its_time_and_then_again() {
        for (asked, requests, window) in [
            (act("oracles", "auth"), 2, 3_000),
            (act("posts", "create"), 20, 5_000),
            (path("/api/batch"), 3, 1_000),
            (path("/api/feed"), 300, 10_000),
        ] {
            let mut limits = limits();
            for round in 0..3 {
                let start = 7 + round * window;
                for n in 0..requests {
                    let verdict = limits.check(&guest(1), address(1), asked, ms(start));
                    assert_eq!(verdict, Verdict::Allowed, "{asked:?} {round} {n}");
                }
                for (at, retry_after) in [(start, window), (start + window - 1, 1)] {
                    let verdict = limits.check(&guest(1), address(1), asked, ms(at));
                    assert_eq!(verdict, Verdict::Limited { retry_after: ms(retry_after) }, "{asked:?} {at}");
                }
            }
        }
    }

    #[test]
    fn callers_are_told_apart_by_account_and_guests_by_address() {
        for (name, asked, first, second, shared) in [
            ("two guests", path("/api/batch"), (guest(1), 1), (guest(2), 2), false),
            ("one guest", path("/api/batch"), (guest(1), 1), (guest(1), 1), true),
            ("two accounts, one address", path("/api/batch"), (account("a"), 1), (account("b"), 1), false),
            ("one account, two addresses", path("/api/batch"), (account("a"), 1), (account("a"), 2), true),
            ("account and guest, one address", path("/api/batch"), (account("a"), 1), (guest(1), 1), false),
            ("sign-ins of two accounts", act("o", "auth"), (account("a"), 1), (account("b"), 1), true),
            ("sign-ins of one account", act("o", "auth"), (account("a"), 1), (account("a"), 2), false),
        ] {
            let mut limits = limits();
            let mut check = |who: &(Caller, u32)| limits.check(&who.0, address(who.1), asked, ms(0));
            while check(&first) == Verdict::Allowed {}
            assert_eq!(check(&second) != Verdict::Allowed, shared, "{name}");
        }
    }

    #[test]
    fn collections_are_counted_apart_and_superusers_not_at_all() {
        let mut limits = limits();
        while limits.check(&guest(1), address(1), act("oracles", "auth"), ms(0)) == Verdict::Allowed {}
        assert_eq!(limits.check(&guest(1), address(1), act("users", "auth"), ms(0)), Verdict::Allowed);
        let kept = limits.len();
        for _ in 0..1000 {
            let verdict = limits.check(&Caller::Superuser, address(1), path("/api/batch"), ms(0));
            assert_eq!(verdict, Verdict::Allowed);
        }
        assert_eq!(limits.len(), kept);
    }

    #[test]
    fn off_means_off() {
        assert_eq!("off".parse(), Ok(Setting::Off));
        assert_eq!("default".parse(), Ok(Setting::Default));
        assert!("on".parse::<Setting>().is_err());
        let mut limits = RateLimits::new(Setting::Off.rules(), MAX_WINDOWS);
        for _ in 0..1000 {
            let verdict = limits.check(&guest(1), address(1), act("oracles", "auth"), ms(0));
            assert_eq!(verdict, Verdict::Allowed);
        }
        assert!(limits.is_empty());
    }

    #[test]
    fn memory_is_bounded_and_comes_back() {
        let mut limits = RateLimits::new(Setting::Default.rules(), 100);
        for n in 0..10_000 {
            let verdict = limits.check(&guest(n), address(n), path("/api/x"), ms(0));
            assert_eq!(verdict == Verdict::Allowed, n < 100, "{n}");
            assert!(limits.len() <= 100);
        }
        // Those who have a window are served while strangers wait.
        assert_eq!(limits.check(&guest(99), address(99), path("/api/x"), ms(1)), Verdict::Allowed);
        let stranger = limits.check(&guest(7_000), address(7_000), path("/api/x"), ms(1));
        assert_eq!(stranger, Verdict::Limited { retry_after: ms(999) });
        assert_eq!(limits.check(&guest(7_000), address(7_000), path("/api/x"), ms(10_000)), Verdict::Allowed);
        assert_eq!(limits.len(), 1);
    }
}
