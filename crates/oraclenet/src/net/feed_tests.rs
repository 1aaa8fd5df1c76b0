use super::*;
use crate::net::sample::{self, NOON};
use testkit::random::SeededRandom;

/// The feed computed as the original does it: every post, every rank, one sort.
fn naive(connection: &Connection, sort: Sort, now: TimestampMs) -> Vec<String> {
    let mut statement = connection.prepare("SELECT id, score, created FROM posts ORDER BY rowid").unwrap();
    let mut rows = statement.query([]).unwrap();
    let mut all = Vec::new();
    while let Some(entry) = entry(&mut rows).unwrap() {
        let age = age_hours(&entry.created, now);
        let s = entry.score;
        let sign = if s > 0.0 {
            1.0
        } else if s < 0.0 {
            -1.0
        } else {
            0.0
        };
        let rank = match sort {
            Sort::Hot => sign * s.abs().max(1.0).log10() - age / 12.0,
            Sort::Rising => s / (age + 1.0),
            Sort::Top => s,
            Sort::New | Sort::Inserted => 0.0,
        };
        all.push((rank, entry.created, entry.id));
    }
    if sort != Sort::Inserted {
        all.sort_by(|a, b| b.0.partial_cmp(&a.0).unwrap().then(b.1.cmp(&a.1)).then(a.2.cmp(&b.2)));
    }
    all.into_iter().map(|(_, _, id)| id).collect()
}

/// A network with `posts` posts over `minutes` minutes, scores up to `spread`.
fn network(random: &SeededRandom, posts: u64, minutes: u64, spread: u64, sunk: bool) -> Connection {
    let connection = sample::database();
    sample::oracle(&connection, "ada", true);
    for number in 0..posts {
        let age = i64::try_from(random.below(minutes)).unwrap() - 30;
        let votes = || f64::from(u32::try_from(random.below(spread + 1)).unwrap()) / 2.0;
        let votes = if sunk { (0.0, votes() + 0.5) } else { (votes() * votes(), votes() * votes()) };
        sample::post(&connection, &format!("p{number:03}"), "ada", age, votes);
    }
    connection
}

fn check(connection: &Connection, sort: Sort, what: &str) {
    let all = naive(connection, sort, NOON);
    for (limit, offset) in [(1, 0), (25, 0), (7, 20), (100, 0), (30, 150), (5, 1000)] {
        let found = feed(connection, sort, limit, offset, NOON).unwrap();
        let found: Vec<&str> = found.iter().map(|post| post.id.as_str()).collect();
        let expected: Vec<&str> = all.iter().skip(offset).take(limit).map(String::as_str).collect();
        assert_eq!(found, expected, "{sort:?}, {limit} from {offset}, {what}");
    }
}

#[test]
fn every_order_is_that_of_the_whole_table_sorted() {
    let random = SeededRandom::new(7);
    let shapes = [
        (0, 1, 0),
        (1, 100, 0),
        (200, 100, 0),
        (200, 2_000, 2),
        (200, 20_000, 9),
        (200, 40, 40),
        (120, 9_000, 4),
    ];
    for (posts, minutes, spread) in shapes {
        for sunk in [false, true] {
            let connection = network(&random, posts, minutes, spread, sunk);
            let what = format!("{posts} posts, {minutes} min, spread {spread}, sunk {sunk}");
            for sort in [Sort::Hot, Sort::New, Sort::Top, Sort::Rising, Sort::Inserted] {
                check(&connection, sort, &what);
            }
        }
    }
}

#[test]
fn equal_posts_come_newest_first_and_then_by_id() {
    let connection = sample::database();
    for (id, minutes) in [("c", 5), ("a", 5), ("b", 5), ("z", 1)] {
        sample::post(&connection, id, "", minutes, (0.0, 0.0));
    }
    for sort in [Sort::New, Sort::Top, Sort::Hot, Sort::Rising] {
        let ids: Vec<_> =
            feed(&connection, sort, 9, 0, NOON).unwrap().into_iter().map(|post| post.id).collect();
        assert_eq!(ids, ["z", "a", "b", "c"], "{sort:?}");
    }
}

#[test]
fn a_ranking_stops_long_before_the_end_of_a_large_table() {
    let connection = sample::database();
    for number in 0..3_000 {
        let votes = (f64::from(number * 7 % 100), f64::from(number % 40));
        sample::post(&connection, &format!("p{number:04}"), "", i64::from(number) * 20, votes);
    }
    for (sort, most) in [(Sort::Hot, 900), (Sort::Rising, 900)] {
        let mut newest = connection.prepare_cached(NEWEST).unwrap();
        let mut best = connection.prepare_cached(if sort == Sort::Hot { BEST } else { BEST_ABOVE }).unwrap();
        let rank = if sort == Sort::Hot { hot_rank } else { rising_rank };
        let (newest, best) = (walk(&mut newest).unwrap(), walk(&mut best).unwrap());
        let found = side_by_side(newest, best, Best::new(25), NOON, rank, |entry| entry.score > 0.0).unwrap();
        assert!(found.seen.len() < most, "{sort:?} looked at {} of 3000 posts", found.seen.len());
    }
}

#[test]
fn no_order_reads_the_table_where_an_index_will_do() {
    for posts in [0, 1_000] {
        let connection = network(&SeededRandom::new(3), posts, 9_000, 20, false);
        if posts > 0 {
            connection.execute("ANALYZE", []).unwrap();
        }
        for (sql, index) in [
            (NEW, "idx_posts_created"),
            (TOP, "idx_posts_score"),
            (NEWEST, "idx_posts_created"),
            (BEST, "idx_posts_score"),
            (BEST_ABOVE, "idx_posts_score"),
            (BEST_BELOW, "idx_posts_score"),
            (ZEROS, "idx_posts_score"),
            (OLDEST, "idx_posts_created"),
        ] {
            let plan = sample::plan(&connection, sql);
            assert!(plan.iter().any(|step| step.contains(index)), "{posts} posts, {sql}: {plan:?}");
            for step in &plan {
                let reads = step.starts_with("SCAN posts") && !step.contains("USING");
                assert!(!reads && step != "USE TEMP B-TREE FOR ORDER BY", "{posts} posts, {sql}: {plan:?}");
            }
        }
    }
}

#[test]
fn parameters_are_read_as_the_original_reads_them() {
    for (text, limit) in [
        ("", 25),
        ("0", 25),
        ("1", 1),
        ("100", 100),
        ("101", 25),
        ("-3", 25),
        ("x", 25),
        ("7.5", 25),
        ("+7", 7),
    ] {
        assert_eq!(parse_limit(text), limit, "{text:?}");
    }
    for (text, sort) in [
        ("", Sort::Hot),
        ("hot", Sort::Hot),
        ("new", Sort::New),
        ("top", Sort::Top),
        ("rising", Sort::Rising),
        ("Hot", Sort::Inserted),
        ("-created", Sort::Inserted),
    ] {
        assert_eq!(Sort::parse(text), sort, "{text:?}");
    }
}

#[test]
fn the_answer_has_the_keys_and_types_of_the_original() {
    let connection = sample::database();
    sample::oracle(&connection, "ada", true);
    sample::post(&connection, "half", "ada", 1, (3.5, 1.0));
    sample::post(&connection, "orphan", "gone", 2, (0.0, 0.5));
    let posts = feed(&connection, Sort::parse("zzz"), 25, 0, NOON).unwrap();
    // As PocketBase with the original's routes answered, ids and dates apart.
    let expected = json!({
        "count": 2,
        "posts": [
            {
                "author": { "id": "ada", "name": "ada" }, "content": "Content of half",
                "created": "2026-02-01 11:59:00.000Z", "downvotes": 1, "id": "half", "score": 2,
                "title": "Title of half", "upvotes": 3,
            },
            {
                "author": null, "content": "Content of orphan", "created": "2026-02-01 11:58:00.000Z",
                "downvotes": 0, "id": "orphan", "score": 0, "title": "Title of orphan", "upvotes": 0,
            },
        ],
        "sort": "zzz",
        "success": true,
    });
    assert_eq!(feed_json("zzz", &posts), expected);
    assert_eq!(feed_json("", &[]), json!({ "count": 0, "posts": [], "sort": "hot", "success": true }));
}
