//! Requests made from a seed: filters, sorts, expansions, fields, bodies. The same seed makes the same requests.
//!
//! A failure prints the seed; `ORACLENET_TEST_SEED=N` plays that one alone, and `ORACLENET_TEST_SEEDS=N` plays N seeds
//! instead of the few that every run plays.

use super::common::variable;
use super::run::{Pair, SETUP, json_body};
use super::scenario::{Case, Step, encode_marked, parse};
use serde_json::{Map, Value, json};

/// Seeds and requests of an ordinary run.
const SEEDS: u64 = 3;
const REQUESTS: usize = 150;

/// Rows beyond the setup, so that relations have something to find; the scores are set by votes.
const MORE: &str = "\
ada POST /api/posts/post20000000000/upvote
bob POST /api/posts/post00000000000/upvote
ada POST /api/posts/post30000000000/downvote
bob POST /api/posts/post30000000000/downvote
bob POST /api/comments/comment10000000/upvote
ada POST /api/collections/connections/records {\"id\":\"follow000000000\",\"following\":\"bob000000000000\"}
eve POST /api/collections/connections/records {\"id\":\"follow100000000\",\"following\":\"ada000000000000\"}
eve POST /api/collections/heartbeats/records {\"id\":\"beat00000000000\",\"status\":\"online\"}
bob POST /api/collections/heartbeats/records {\"id\":\"beat10000000000\",\"status\":\"away\"}
ada POST /api/collections/comments/records {\"id\":\"comment30000000\",\"post\":\"post20000000000\",\"content\":\"third_1%\",\"parent\":\"\"}
bob POST /api/collections/posts/records {\"id\":\"post40000000000\",\"title\":\"\\\"\",\"content\":\"100\"}
";

/// Plays the seeds.
pub(crate) fn check() {
    let number = |name: &str| {
        variable(name)
            .map(|text| text.parse::<u64>().unwrap_or_else(|error| panic!("{name}={text}: {error}")))
    };
    let seeds: Vec<u64> = match number("ORACLENET_TEST_SEED") {
        Some(seed) => vec![seed],
        None => (1..=number("ORACLENET_TEST_SEEDS").unwrap_or(SEEDS)).collect(),
    };
    for seed in seeds {
        let mut random = Random::new(seed);
        let cases: Vec<Case> = (0..REQUESTS).map(|index| random.case(seed, index)).collect();
        let mut texts = vec![SETUP, MORE];
        texts.extend(cases.iter().filter_map(|case| case.body.as_ref()).map(|(_, text)| text.as_str()));
        let Some(mut pair) = Pair::start("generated requests", &texts) else { return };
        pair.play(parse("setup", SETUP));
        pair.play(parse("more", MORE));
        pair.play(cases.iter().map(|case| Step::Ask(Box::new(case.clone()))).collect());
        pair.conclude(&format!(
            "replay: ORACLENET_TEST_SEED={seed} cargo test -p oraclenet --test differential generated"
        ));
    }
}

/// xorshift64*, started from a mixed seed.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit).expect("a small number");
        usize::try_from((self.next() >> 33) % limit).expect("a small number")
    }

    fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn case(&mut self, seed: u64, index: usize) -> Case {
        let origin = format!("seed {seed}, request {index}");
        match self.below(10) {
            0..8 => self.reading(origin),
            _ => self.writing(origin, &format!("gen{seed:04}{index:08}")),
        }
    }

    fn reading(&mut self, origin: String) -> Case {
        let collection =
            self.of(&["posts", "posts", "posts", "comments", "comments", "oracles", "connections", "votes"]);
        let mut who = self.of(&["guest", "guest", "ada", "bob", "su"]);
        let mut target = format!("/api/collections/{collection}/records?perPage={}", self.below(6));
        let mut add = |name: &str, value: String| target.push_str(&format!("&{name}=\u{1}{value}\u{1}"));
        if self.chance(75) {
            add("filter", self.filter(collection, 3));
        }
        // A vote's id is the server's own, and an order by it is too.
        add(
            "sort",
            if self.chance(50) && collection != "votes" {
                self.sort(collection)
            } else {
                "@rowid".to_owned()
            },
        );
        if self.chance(35) {
            add("expand", self.expand(collection));
        }
        if self.chance(40) {
            add("fields", self.fields(collection));
        }
        // A superuser may compare by hashes and keys, which are another server's by chance.
        if who == "su" && (target.contains("tokenKey") || target.contains("password")) {
            who = "guest";
        }
        Case { origin, who: who.to_owned(), method: "GET".to_owned(), target, ..Case::default() }
    }

    /// A boolean expression; one in twelve is spoiled.
    fn filter(&mut self, collection: &str, depth: usize) -> String {
        let mut text = self.expression(collection, depth);
        if self.chance(8) {
            let at = self.below(text.chars().count() + 1);
            let spoil =
                self.of(&["(", ")", "\"", "&", "|", "=", " ", ".", ":", "?", "!", "@", "1", "//", "\\"]);
            let place = text.char_indices().nth(at).map_or(text.len(), |(place, _)| place);
            text.insert_str(place, spoil);
        }
        text
    }

    fn expression(&mut self, collection: &str, depth: usize) -> String {
        if depth == 0 || self.chance(45) {
            return self.comparison(collection);
        }
        let (left, right) = (self.expression(collection, depth - 1), self.expression(collection, depth - 1));
        let joint = self.of(&["&&", "||", " && ", " || ", "\n&&\t"]);
        if self.chance(50) { format!("({left}){joint}{right}") } else { format!("{left}{joint}{right}") }
    }

    fn comparison(&mut self, collection: &str) -> String {
        const OPERATORS: [&str; 16] =
            ["=", "!=", ">", ">=", "<", "<=", "~", "!~", "?=", "?!=", "?>", "?>=", "?<", "?<=", "?~", "?!~"];
        let (left, right) = match self.below(8) {
            0 => (self.literal(), self.operand(collection)),
            1 | 2 => (self.operand(collection), self.operand(collection)),
            _ => (self.operand(collection), self.literal()),
        };
        let space = self.of(&["", " "]);
        format!("{left}{space}{}{space}{right}", self.of(&OPERATORS))
    }

    fn operand(&mut self, collection: &str) -> String {
        let path = self.path(collection, 3);
        match self.below(14) {
            0 => format!("{path}:lower"),
            1 => format!("{path}:{}", self.of(&["length", "each", "isset", "changed", "nope"])),
            2 => format!("strftime(\"%Y\",{path})"),
            3 => self.of(&["@now", "@yesterday", "@todayStart", "@yearEnd", "@nope"]).to_owned(),
            _ => path,
        }
    }

    fn literal(&mut self) -> String {
        const LITERALS: [&str; 33] = [
            "\"\"",
            "''",
            "\"Post 0\"",
            "'post 2'",
            "\"post\"",
            "\"%0\"",
            "\"_\"",
            "\"1%\"",
            "\"\\%\"",
            "\"\\\"\"",
            "\"É\"",
            "\"first\"",
            "\"Ada\"",
            "\"ada000000000000\"",
            "\"bob000000000000\"",
            "\"post00000000000\"",
            "\"2020-01-01\"",
            "\"2099\"",
            "\"1\"",
            "\"0\"",
            "0",
            "1",
            "-1",
            "2",
            "1.5",
            "100",
            "true",
            "false",
            "null",
            "\"post\"",
            "\"comment\"",
            "\"true\"",
            "\"null\"",
        ];
        self.of(&LITERALS).to_owned()
    }

    /// A path to a field, over relations, both ways; now and then to one that does not exist.
    fn path(&mut self, collection: &str, hops: usize) -> String {
        if hops > 0 && self.chance(35) {
            let (step, next) = self.relation(collection);
            return format!("{step}.{}", self.path(next, hops - 1));
        }
        let fields: &[&str] = match collection {
            "posts" => {
                &["id", "title", "content", "author", "upvotes", "downvotes", "score", "created", "updated"]
            }
            "comments" => &["id", "post", "content", "author", "parent", "upvotes", "downvotes", "created"],
            "oracles" => {
                &["id", "name", "bio", "human", "approved", "karma", "verified", "email", "repo_url"]
            }
            "connections" => &["id", "follower", "following", "created"],
            "votes" => &["oracle", "value", "target_type", "target_post", "target_comment"],
            _ => &["oracle", "status", "created"],
        };
        if self.chance(3) { self.of(&["nope", "password", "tokenKey", "ID"]) } else { self.of(fields) }
            .to_owned()
    }

    fn relation(&mut self, collection: &str) -> (&'static str, &'static str) {
        let relations: &[(&str, &str)] = match collection {
            "posts" => &[
                ("author", "oracles"),
                ("comments_via_post", "comments"),
                ("votes_via_target_post", "votes"),
            ],
            "comments" => &[
                ("post", "posts"),
                ("author", "oracles"),
                ("parent", "comments"),
                ("comments_via_parent", "comments"),
                ("votes_via_target_comment", "votes"),
            ],
            "oracles" => &[
                ("posts_via_author", "posts"),
                ("comments_via_author", "comments"),
                ("connections_via_follower", "connections"),
                ("votes_via_oracle", "votes"),
            ],
            "connections" => &[("follower", "oracles"), ("following", "oracles")],
            _ => &[("oracle", "oracles"), ("target_post", "posts"), ("target_comment", "comments")],
        };
        relations[self.below(relations.len())]
    }

    /// Always ends with the row, so that no order is left to chance.
    fn sort(&mut self, collection: &str) -> String {
        let mut parts = Vec::new();
        for _ in 0..=self.below(2) {
            parts.push(format!("{}{}", self.of(&["", "-", "+", "-"]), self.path(collection, 1)));
        }
        // Only superusers sort by addresses here; that they do is a scenario's to show. Where a path meets several
        // records SQLite's plan chooses the one that counts, so there is nothing to compare.
        parts.retain(|part| !part.ends_with("email") && !part.contains("_via_"));
        parts.push("@rowid".to_owned());
        parts.join(",")
    }

    fn expand(&mut self, collection: &str) -> String {
        let mut paths = Vec::new();
        for _ in 0..=self.below(2) {
            let mut at = collection;
            let mut path = Vec::new();
            for _ in 0..=self.below(3) {
                let (step, next) = self.relation(at);
                path.push(if self.chance(5) { "nope" } else { step });
                at = next;
            }
            paths.push(path.join("."));
        }
        paths.join(",")
    }

    fn fields(&mut self, collection: &str) -> String {
        let mut parts = Vec::new();
        for _ in 0..=self.below(3) {
            let field = self.path(collection, 0);
            let (step, next) = self.relation(collection);
            let part = match self.below(7) {
                // A piece of an id that a server made up cannot be recognised as one.
                _ if field == "id" => field,
                0 => "*".to_owned(),
                1 => format!("expand.{step}.{}", self.path(next, 0)),
                2 => "expand".to_owned(),
                3 => format!("{field}:excerpt({})", self.below(12) + 1),
                4 => format!("{field}:excerpt({},true)", self.below(12) + 1),
                _ => field,
            };
            parts.push(part);
        }
        parts.join(",")
    }

    /// A write with an odd body. What it may change is chosen so that no deliberate difference is met.
    fn writing(&mut self, origin: String, id: &str) -> Case {
        const ROWS: [(&str, &str, &[&str]); 5] = [
            ("POST", "posts/records", &["title", "content"]),
            ("PATCH", "posts/records/post00000000000", &["title", "content", "title+", "content-"]),
            ("POST", "comments/records", &["post", "content", "parent"]),
            ("PATCH", "comments/records/comment10000000", &["content", "parent", "parent+", "parent-"]),
            (
                "PATCH",
                "oracles/records/ada000000000000",
                &["name", "bio", "human", "repo_url", "emailVisibility"],
            ),
        ];
        let (method, path, names) = ROWS[self.below(ROWS.len())];
        let mut body = Map::new();
        if method == "POST" {
            // Ids are compared in filters and sorts, so none may be the server's own.
            body.insert("id".to_owned(), json!(id));
        }
        for name in names {
            if self.chance(70) {
                body.insert((*name).to_owned(), self.value());
            }
        }
        // In which order PocketBase applies two modifiers of one field differs from run to run (seed 43 showed it).
        if body.contains_key("parent+") {
            body.remove("parent-");
        }
        let who = self.of(&["ada", "ada", "ada", "bob", "eve", "guest"]).to_owned();
        let target = format!("/api/collections/{path}");
        Case {
            origin,
            who,
            method: method.to_owned(),
            target,
            body: json_body(&Value::Object(body)),
            ..Case::default()
        }
    }

    fn value(&mut self) -> Value {
        let texts = [
            "",
            " ",
            "a",
            "Post 0",
            "<i>x</i>",
            "🦞",
            "post10000000000",
            "comment00000000",
            "nope",
            "http://x.io",
        ];
        match self.below(12) {
            0 => Value::Null,
            1 => json!(self.chance(50)),
            2 => json!(self.below(1000)),
            3 => json!(-1.25),
            4 => json!([self.of(&texts), self.of(&texts)]),
            5 => json!({"a": 1}),
            6 => json!("é".repeat(self.below(300))),
            _ => json!(self.of(&texts)),
        }
    }
}

#[test]
fn a_seed_makes_the_same_requests_again() {
    let made = |seed: u64| {
        let mut random = Random::new(seed);
        (0..50)
            .map(|index| random.case(seed, index))
            .map(|case| encode_marked(&case.target))
            .collect::<Vec<_>>()
    };
    assert_eq!(made(7), made(7));
    assert_ne!(made(7), made(8));
}
