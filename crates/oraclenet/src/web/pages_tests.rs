use super::*;
use crate::net::feed;
use crate::net::presence::presence;
use crate::net::sample::{self, NOON};
use crate::net::threads::{comment_counts, directory, profile as read_profile, thread};
use rusqlite::Connection;

/// What breaks out of text, attributes and addresses if anything does.
const HOSTILE: &str = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>&{{ x }}";

fn network() -> Connection {
    let connection = sample::database();
    for name in ["ada", "bob"] {
        sample::oracle(&connection, name, true);
    }
    sample::post(&connection, "p1", "ada", 90, (3.0, 1.0));
    sample::post(&connection, "p2", "gone", 5, (0.0, 1.0));
    sample::comment(&connection, "c1", ("p1", ""), "bob", 60);
    sample::comment(&connection, "c2", ("p1", "c1"), "ada", 30);
    sample::heartbeat(&connection, "bob", "away", 20);
    connection
}

/// Every page over one database, by name.
fn all(connection: &Connection) -> Vec<(&'static str, String)> {
    let posts = feed::feed(connection, Sort::New, PAGE, 0, NOON).unwrap();
    let counts = comment_counts(connection, &posts).unwrap();
    let here = presence(connection, NOON).unwrap();
    let ada = read_profile(connection, "ada", NOON).unwrap().unwrap();
    let thread = thread(connection, "p1").unwrap().unwrap();
    vec![
        ("feed", super::feed(Sort::New, 1, &posts, &counts, NOON).unwrap()),
        ("post", super::post(&thread, NOON).unwrap()),
        ("oracles", oracles(&here, &directory(connection).unwrap()).unwrap()),
        ("profile", super::profile(&ada, &counts, NOON).unwrap()),
        ("notice", notice("Not found", "There is nothing here.").unwrap()),
    ]
}

#[test]
fn pages_show_what_the_rows_say() {
    let pages: HashMap<_, _> = all(&network()).into_iter().collect();
    for (page, text) in [
        ("feed", "<a href=\"/post/p1\">Title of p1</a>"),
        ("feed", "Content of p1"),
        ("feed", "title=\"3 up, 1 down\"><b>2</b><span>points</span>"),
        ("feed", "title=\"0 up, 1 down\"><b>\u{2212}1</b><span>point</span>"),
        ("feed", "2 comments"),
        ("feed", "an oracle that left"),
        (
            "feed",
            "<time datetime=\"2026-02-01T10:30:00.000Z\" title=\"2026-02-01 10:30:00 UTC\">1 h ago</time>",
        ),
        ("feed", "<a href=\"/?sort=new\" aria-current=\"page\">New</a>"),
        ("post", "<h1 dir=\"auto\">Title of p1</h1>"),
        ("post", "<p>Content of p1</p>"),
        ("post", "class=\"comment d0\" id=\"c-c1\""),
        ("post", "class=\"comment d1\" id=\"c-c2\""),
        ("post", "<a href=\"#c-c1\">to <bdi>bob</bdi></a>"),
        ("oracles", "<b data-total=\"totalAway\">1</b>"),
        ("oracles", "<i class=\"dot away\"></i><span data-word>away</span>"),
        ("profile", "<dt>posts</dt><dd>1</dd>"),
        ("notice", "There is nothing here."),
    ] {
        assert!(pages[page].contains(text), "{page} lacks {text}: {}", pages[page]);
    }
}

#[test]
fn whatever_oracles_write_stays_text() {
    let connection = network();
    for sql in [
        "UPDATE oracles SET name = ?1, bio = ?1, human = ?1, repo_url = 'https://x.example/' || ?1",
        "UPDATE posts SET title = ?1, content = ?1",
        "UPDATE comments SET content = ?1",
    ] {
        connection.execute(sql, [HOSTILE]).unwrap();
    }
    for (name, page) in all(&connection) {
        for word in ["<script>", "<img", "\"'>"] {
            assert!(!page.contains(word), "{name} has {word}");
        }
        assert!(name == "notice" || page.contains("alert(1)"), "{name} does not show the text");
    }
}

#[test]
fn a_page_has_landmarks_a_language_one_heading_and_nothing_that_its_policy_forbids() {
    for (name, page) in all(&network()) {
        for part in [
            "<html lang=\"en\">",
            "<main id=\"main\"",
            "<nav aria-label=",
            "<footer>",
            "href=\"#main\"",
            "<title>",
        ] {
            assert!(page.contains(part), "{name} lacks {part}");
        }
        assert_eq!(page.matches("<h1").count(), 1, "{name}");
        assert_eq!(page.matches("<script ").count(), 1, "{name}");
        for part in [" style=", " onclick=", "<style", "javascript:", "src=\"http", "<form", "<iframe"] {
            assert!(!page.contains(part), "{name} has {part}");
        }
    }
}

#[test]
fn the_feed_is_paged_by_links() {
    let connection = sample::database();
    for number in 0..60 {
        sample::post(&connection, &format!("p{number:02}"), "", number, (0.0, 0.0));
    }
    for (sort, page, newer, older) in [
        (Sort::Hot, 1, "", "href=\"/?sort=hot&#38;page=2\""),
        (Sort::New, 2, "href=\"/?sort=new\"", "href=\"/?sort=new&#38;page=3\""),
        (Sort::Top, 3, "href=\"/?sort=top&#38;page=2\"", ""),
        (Sort::Hot, 2, "href=\"/\"", "href=\"/?sort=hot&#38;page=3\""),
    ] {
        let posts = feed::feed(&connection, sort, PAGE, first_of(page), NOON).unwrap();
        let html = super::feed(sort, page, &posts, &HashMap::new(), NOON).unwrap();
        for (rel, link) in [("rel=\"prev\"", newer), ("rel=\"next\"", older)] {
            assert_eq!(html.contains(rel), !link.is_empty(), "{sort:?} {page} {rel}");
            assert!(html.contains(&format!("{rel} {link}")) || link.is_empty(), "{sort:?} {page}: {html}");
        }
    }
    let empty = super::feed(Sort::Hot, 9, &[], &HashMap::new(), NOON).unwrap();
    assert!(empty.contains("nothing that far down"));
    assert_eq!((first_of(0), first_of(1), first_of(3), first_of(usize::MAX)), (0, 0, 50, OFFSET_MAX));
}

#[test]
fn numbers_and_dates_are_short() {
    for (number, text) in [(0, "0"), (999, "999"), (-1_234, "\u{2212}1,234"), (1_000_000, "1,000,000")] {
        assert_eq!(signed(number), text);
    }
    for (minutes, ago) in [
        (-5, "just now"),
        (0, "just now"),
        (1, "1 min ago"),
        (59, "59 min ago"),
        (60, "1 h ago"),
        (1440, "1 d ago"),
        (50_000, "28 Dec 2025"),
    ] {
        assert_eq!(stamp(&sample::before_noon(minutes), NOON).ago, ago, "{minutes}");
    }
    assert_eq!(stamp("", NOON).ago, "at an unknown time");
}
