//! Requests that nobody means well with: each has an answer, none has an effect, and the server goes on.

use crate::rig::{Place, Reply, Running, id, start, try_call};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

fn server(more: &[&str]) -> (Running, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::directory(&folder.path().join("bucket"));
    (start(&folder.path().join("pb_data"), &place, more).unwrap(), folder)
}

/// Sends bytes as they are; the status of what comes back, 0 for none.
fn raw(server: &Running, bytes: &[u8]) -> u16 {
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let _ = stream.write_all(bytes); // it may be refused half-way
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer); // or reset
    let answer = String::from_utf8_lossy(&answer);
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

fn post(target: &str, kind: &str, token: &str, body: &[u8]) -> Vec<u8> {
    let auth = if token.is_empty() { String::new() } else { format!("Authorization: {token}\r\n") };
    let length = body.len();
    let mut bytes = format!(
        "POST {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{auth}Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

fn get(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").into_bytes()
}

#[test]
fn hostile_requests_have_their_answers_and_no_effect() {
    let (server, _folder) = server(&[]);
    let (oracle, token) = server.oracle("ada");
    let first = json!({ "id": id(1, 1), "title": "T", "content": "C" });
    assert_eq!(server.call("POST", "/api/collections/posts/records", &token, &first).status, 200);
    let posts = "/api/collections/posts/records";
    let json = "application/json";
    let large = format!("{{\"title\":\"{}\"}}", "x".repeat(1024 * 1024));
    let deep = format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
    let long_filter = format!("{posts}?filter={}", "a".repeat(3501));
    let many = format!("{posts}?filter={}", vec!["id!=''"; 201].join("%26%26"));
    let forged = {
        let mut parts: Vec<&str> = token.split('.').collect();
        parts[0] = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0"; // {"alg":"none","typ":"JWT"}
        parts.join(".")
    };
    let unsigned = format!("{}.", token.rsplit_once('.').unwrap().0);
    let patch = format!("/api/collections/oracles/records/{oracle}");
    for (what, bytes, status) in [
        ("a body past the limit", post(posts, json, &token, large.as_bytes()), 413),
        ("JSON nested deeply", post(posts, json, &token, deep.as_bytes()), 400),
        ("JSON that ends early", post(posts, json, &token, b"{\"title\":"), 400),
        ("bytes that are no text", post(posts, json, &token, b"{\"title\":\"\xff\xfe\"}"), 400),
        ("a form without its boundary", post(posts, "multipart/form-data", &token, b"--x--"), 400),
        ("a type nobody knows", post(posts, "text/plain", &token, b"x"), 400),
        ("a token of no algorithm", post(posts, json, &forged, br#"{"title":"T","content":"C"}"#), 400),
        (
            "a token without its signature",
            post(posts, json, &unsigned, br#"{"title":"T","content":"C"}"#),
            400,
        ),
        (
            "a header past the limit",
            format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(400_000)).into_bytes(),
            431,
        ),
        ("an address past the limit", get(&format!("/{}", "x".repeat(20_000))), 414),
        ("SQL in a filter", get(&format!("{posts}?filter=id=''%20OR%201=1%3BDROP%20TABLE%20posts--")), 400),
        ("SQL in a sort", get(&format!("{posts}?sort=id%3BDROP%20TABLE%20posts")), 400),
        ("SQL in an id", get(&format!("{posts}/'%20OR%20'1'='1")), 404),
        ("a filter past its length", get(&long_filter), 400),
        ("a filter of too many parts", get(&many), 400),
        ("a filter for password hashes", get("/api/collections/oracles/records?filter=password~'a'"), 400),
        ("a sort by token keys", get("/api/collections/oracles/records?sort=tokenKey"), 400),
        ("a filter for the caller's rights", get(&format!("{posts}?filter=@request.auth.id!=''")), 403),
        ("another's collection", get("/api/collections/_superusers/records"), 403),
        ("files of the machine", get("/../../etc/passwd"), 301),
        ("files of the machine, in disguise", get("/assets/..%2f..%2fetc%2fpasswd"), 404),
        ("no HTTP at all", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(), 400),
    ] {
        assert_eq!(raw(&server, &bytes), status, "{what}");
    }
    let patched = try_call(
        server.address,
        "PATCH",
        &patch,
        &token,
        &json!({ "karma": 1000, "wallet_address": format!("0x{}", "a".repeat(40)) }),
    );
    assert_eq!(
        patched.map(|reply| (reply.body["karma"].clone(), reply.body["wallet_address"].clone())),
        Some((json!(0), json!("")))
    );
    let list = server.call("GET", posts, "", &Value::Null);
    assert_eq!(list.body["totalItems"], json!(1), "{list:?}");
}

#[test]
fn a_flood_of_logins_is_told_to_wait_and_starves_nobody() {
    let (server, _folder) = server(&[]);
    let address = server.address;
    let flood: Vec<_> = (0..120)
        .map(|_| {
            std::thread::spawn(move || {
                let body = json!({ "identity": "nobody@x.io", "password": "12345678" });
                let target = "/api/collections/oracles/auth-with-password";
                try_call(address, "POST", target, "", &body).map(|reply| reply.status)
            })
        })
        .collect();
    for _ in 0..20 {
        assert_eq!(server.call("GET", "/api/health", "", &Value::Null).status, 200);
        assert_eq!(server.call("GET", "/api/feed", "", &Value::Null).status, 200);
    }
    let answers: Vec<u16> = flood.into_iter().filter_map(|thread| thread.join().unwrap()).collect();
    assert_eq!(answers.len(), 120, "every one is answered");
    let count = |status| answers.iter().filter(|it| **it == status).count();
    assert_eq!(count(400) + count(429), 120, "{answers:?}");
    assert!(count(400) > 0 && count(429) > 0, "{answers:?}");
}

#[test]
fn limits_count_the_address_that_is_known_and_not_the_one_that_is_claimed() {
    let (server, _folder) = server(&["--rate-limits", "default"]);
    let create = |number: usize| -> Reply {
        let body = format!("{{\"name\":\"n\",\"email\":\"n{number}@x.io\"}}");
        let bytes = format!(
            "POST /api/collections/oracles/records HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Forwarded-For: 9.9.9.{number}\r\n\
             do-connecting-ip: 8.8.8.{number}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.write_all(bytes.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, _) = answer.split_once("\r\n\r\n").unwrap();
        Reply { status: head[9..12].parse().unwrap(), head: head.to_owned(), body: Value::Null }
    };
    // 20 in 5 seconds are allowed; the clock may begin a new window once in between.
    let answers: Vec<Reply> = (0..60).map(create).collect();
    let limited: Vec<&Reply> = answers.iter().filter(|reply| reply.status == 429).collect();
    assert!(limited.len() >= 20, "{} of 60", limited.len());
    assert!(limited.iter().all(|reply| reply.header("retry-after").is_some()));
    assert!(answers.iter().all(|reply| matches!(reply.status, 400 | 429)));
}

#[test]
fn passwords_are_not_guessed_faster_through_a_create_or_a_batch_than_through_a_login() {
    let (server, _folder) = server(&["--rate-limits", "default", "--batch"]);
    let records = "/api/collections/oracles/records";
    let account = |number: usize| {
        let password = format!("password-{number}");
        json!({ "id": "ada000000000000", "name": "Ada", "email": "ada@x.io", "password": password,
            "passwordConfirm": password })
    };
    assert_eq!(server.call("POST", records, "", &account(0)).status, 200);
    let create = |number: usize| server.call("POST", records, "", &account(number));
    let batch = |number: usize| {
        let body = json!({ "requests": [{ "method": "POST", "url": records, "body": account(number) }] });
        server.call("POST", "/api/batch", "", &body)
    };
    let ways: [(&str, &dyn Fn(usize) -> Reply); 2] = [("create", &create), ("batch", &batch)];
    for (way, ask) in ways {
        // Two in three seconds are allowed; creates alone would be 20 in five, batches 3 in one.
        let answers: Vec<u16> = (1..=6).map(|number| ask(number).status).collect();
        let guessed = answers.iter().filter(|status| **status == 400).count();
        assert!(answers.contains(&429) && guessed <= 4, "{way}: {answers:?}");
    }
    let many: Vec<Value> =
        (0..21).map(|_| json!({ "method": "POST", "url": records, "body": { "name": "n" } })).collect();
    let answer = server.call("POST", "/api/batch", "", &json!({ "requests": many }));
    assert_eq!(answer.status, 429, "21 creates are too many in a batch as well");
}

#[test]
fn a_heartbeat_with_the_id_of_anothers_is_refused_and_reading_goes_on() {
    let (server, _folder) = server(&[]);
    let records = "/api/collections/oracles/records";
    let beats = "/api/collections/heartbeats/records";
    let tokens = ["ada", "bob"].map(|name| {
        let (email, password) = (format!("{name}@x.io"), format!("password-{name}"));
        let body = json!({ "name": name, "email": email, "password": password, "passwordConfirm": password });
        assert_eq!(server.call("POST", records, "", &body).status, 200);
        let body = json!({ "identity": email, "password": password });
        let reply = server.call("POST", "/api/collections/oracles/auth-with-password", "", &body);
        reply.body["token"].as_str().unwrap().to_owned()
    });
    let beat = json!({ "id": "beat00000000000", "status": "online" });
    for (token, status) in [(&tokens[0], 200), (&tokens[1], 400), (&tokens[0], 200)] {
        assert_eq!(server.call("POST", beats, token, &beat).status, status);
    }
    let listed = server.call("GET", beats, "", &Value::Null);
    assert_eq!((listed.status, listed.body["totalItems"].clone()), (200, json!(1)));
}

#[test]
fn connections_that_say_nothing_keep_nobody_out() {
    let (server, _folder) = server(&[]);
    let silent: Vec<TcpStream> = (0..300).map(|_| TcpStream::connect(server.address).unwrap()).collect();
    let mut half = TcpStream::connect(server.address).unwrap();
    half.write_all(b"POST /api/collections/oracles/records HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{").unwrap();
    for _ in 0..20 {
        assert_eq!(server.call("GET", "/api/health", "", &Value::Null).status, 200);
    }
    drop((silent, half));
    assert_eq!(server.stop().code(), Some(0));
}

#[test]
fn pages_are_counted_like_requests_to_the_api() {
    let (server, _folder) = server(&["--rate-limits", "default"]);
    // More than two windows can hold.
    let limited = (0..700).find_map(|_| {
        let reply = server.call("GET", "/status", "", &Value::Null);
        (reply.status != 200).then_some(reply)
    });
    let limited = limited.expect("an end of the patience");
    assert_eq!(limited.status, 429, "{limited:?}");
    assert!(limited.header("retry-after").is_some(), "{limited:?}");
}
