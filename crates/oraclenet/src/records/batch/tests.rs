//! Batches on a database in memory. What is expected was seen at PocketBase 0.36.1.

use super::*;
use crate::db::{adopt, tables};
use crate::filter::{AuthRecord, RequestInfo};
use crate::random::{self, Source};
use std::sync::Arc;

const ADA: &str = "ada000000000000";
const BOB: &str = "bob000000000000";
const POSTS: &str = "/api/collections/posts/records";
const ORACLES: &str = "/api/collections/oracles/records";

struct World {
    connection: Connection,
    context: Context,
}

impl World {
    fn new() -> Self {
        let source: Arc<dyn Source> = Arc::new(random::System::open().unwrap());
        let schema = Arc::new(adopt::fresh(&|| random::secret(&*source)));
        let connection = Connection::open_in_memory().unwrap();
        tables::create(&connection, &schema, "2026-01-01 00:00:00.000Z", 0).unwrap();
        let request = RequestInfo { context: "default", method: "POST".to_owned(), ..RequestInfo::default() };
        let context = Context { schema, request, now: chrono::DateTime::UNIX_EPOCH, source };
        let world = Self { connection, context };
        for id in [ADA, BOB] {
            let values = json!({
                "name": id, "email": format!("{id}@x.io"), "tokenKey": id.repeat(3), "approved": true,
                "password": format!("hash of {id}"), "id": id,
            });
            let oracles = world.context.schema.get("oracles");
            rows::insert(&world.connection, oracles, values.as_object().unwrap()).unwrap();
        }
        world
    }

    /// In whose name.
    fn by_account(mut self, id: Option<&str>) -> Self {
        let oracles = self.context.schema.get("oracles");
        self.context.request.auth = id.map(|id| {
            let record = find(&self.connection, oracles, id).unwrap().unwrap();
            AuthRecord { collection: "oracles".to_owned(), record }
        });
        self
    }

    fn parse(&self, requests: &Value) -> Result<Batch, ApiError> {
        let body = json!({ "requests": requests });
        Batch::parse(body.as_object().unwrap(), &self.context, query)
    }

    /// Runs a batch as the server does, with a hash that takes no time.
    fn run(&self, requests: &Value) -> Result<(Value, Vec<Change>), ApiError> {
        let batch = self.parse(requests)?;
        let work = batch.password_work(&self.connection)?;
        let known = work.into_iter().map(|work| {
            let opens = |password: &str, hash: &str| hash == format!("hash of {password}");
            let opened = work.compare.filter(|(password, stored)| opens(password, &stored.hash));
            let old_opened = opened.map(|(_, stored)| stored.hash);
            (work.request, Passwords { new_hash: work.hash.map(|it| format!("hash of {it}")), old_opened })
        });
        let known: Vec<_> = known.collect();
        let mut changes = Vec::new();
        let transaction = self.connection.unchecked_transaction().unwrap();
        let answers = batch.run(&transaction, &known, &mut changes)?;
        transaction.commit().unwrap();
        Ok((answers, changes))
    }

    fn count(&self, table: &str) -> i64 {
        self.connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
    }
}

fn query(text: &str) -> Record {
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.into())).collect()
}

fn request(method: &str, url: &str, body: Value) -> Value {
    json!({ "method": method, "url": url, "body": body })
}

fn post(title: &str) -> Value {
    json!({ "title": title, "content": "c", "id": "post00000000000" })
}

#[test]
fn a_batch_that_cannot_be_read_is_refused_in_the_words_of_pocketbase() {
    let world = World::new();
    let required = json!({ "code": "validation_required", "message": "Cannot be blank." });
    let method = json!({ "code": "validation_in_invalid", "message": "Must be a valid value." });
    let length = |max: usize| {
        let message = format!("The length must be no more than {max}.");
        json!({ "code": "validation_length_too_long", "message": message, "params": { "max": max, "min": 0 } })
    };
    let get = request("GET", POSTS, json!({}));
    let read = "Failed to read the submitted batch data.";
    let invalid = "Invalid batch request data.";
    for (requests, message, problem) in [
        (json!([]), invalid, required.clone()),
        (json!(null), invalid, required.clone()),
        (json!(vec![get.clone(); 51]), invalid, length(50)),
        (json!([{}]), invalid, json!({ "0": { "method": required, "url": required } })),
        (json!([get, { "url": "x" }]), invalid, json!({ "1": { "method": required } })),
        (json!([{ "method": "post", "url": "x" }]), invalid, json!({ "0": { "method": method } })),
        (json!([{ "method": "HEAD", "url": "x" }]), invalid, json!({ "0": { "method": method } })),
        (
            json!([{ "method": "PUT", "url": "x".repeat(2001) }]),
            invalid,
            json!({ "0": { "url": length(2000) } }),
        ),
        (json!("x"), read, json!(null)),
        (json!([5]), read, json!(null)),
        (json!([null]), read, json!(null)), // PocketBase: 500
        (json!([{ "method": 5, "url": "x" }]), read, json!(null)),
        (json!([{ "method": "POST", "url": "x", "body": [] }]), read, json!(null)),
        (json!([{ "method": "POST", "url": "x", "body": "x" }]), read, json!(null)),
        (json!([{ "method": "POST", "url": "x", "headers": { "a": 1 } }]), read, json!(null)),
        (json!([{ "method": "POST", "url": "x", "headers": [] }]), read, json!(null)),
    ] {
        let error = world.parse(&requests).err().expect("an error");
        let wanted = if problem.is_null() { json!({}) } else { json!({ "requests": problem }) };
        assert_eq!(error.body(), json!({ "data": wanted, "message": message, "status": 400 }), "{requests}");
    }
    let at_limits = json!(vec![request("PUT", &"x".repeat(2000), json!(null)); 50]);
    assert!(world.parse(&at_limits).is_ok());
}

#[test]
fn the_first_request_that_fails_is_named_and_nothing_is_changed() {
    let world = World::new().by_account(Some(ADA));
    let unreadable = ("Something went wrong while processing your request.", 400);
    let create = |url: &str| request("POST", url, json!({ "title": "t", "content": "c" }));
    let put = json!({ "id": "put000000000000", "title": "t", "content": "c" });
    for (failing, (message, status)) in [
        (request("GET", POSTS, json!({})), unreadable),
        (request("PATCH", POSTS, json!({})), unreadable),
        (request("DELETE", POSTS, json!({})), unreadable),
        (request("PUT", "/api/collections/posts/records/post00000000000", put), unreadable),
        (create("/api/collections/posts/records/"), unreadable),
        (create("/api/collections/posts/records/x"), unreadable),
        (create("/api/collections/posts/records#x"), unreadable),
        (create("/api/collections//records"), unreadable),
        (create("/api//collections/posts/records"), unreadable),
        (create("/API/collections/posts/records"), unreadable),
        (create("api/collections/posts/records"), unreadable),
        (create("http://x/api/collections/posts/records"), unreadable),
        (create(" /api/collections/posts/records"), unreadable),
        (create("/api/collections/oracles/auth-with-password"), unreadable),
        (create("/api/batch"), unreadable),
        (create("/api/posts/post00000000000/upvote"), unreadable),
        (create("/api/collections/posts/records?fields=title:nope(1)"), unreadable),
        (create("/api/collections/nope/records"), ("Missing collection context.", 404)),
        (create("/api/collections/po%73ts/records"), ("Missing collection context.", 404)),
        (
            request("PATCH", &format!("{POSTS}/nope"), json!({})),
            ("The requested resource wasn't found.", 404),
        ),
        (
            request("PATCH", &format!("{POSTS}/a%2Fb"), json!({})),
            ("The requested resource wasn't found.", 404),
        ),
        (
            request("DELETE", &format!("{POSTS}/nope"), json!({})),
            ("The requested resource wasn't found.", 404),
        ),
        (request("POST", POSTS, json!(null)), ("Failed to create record.", 400)),
        (
            request("POST", "/api/collections/connections/records", json!({ "following": ADA })),
            ("Cannot follow yourself.", 400),
        ),
    ] {
        let error = world.run(&json!([request("POST", POSTS, post("t")), failing])).expect_err("it fails");
        assert_eq!((error.status, error.message.as_str()), (400, "Batch transaction failed."), "{failing}");
        let requests = error.data["requests"].as_object().unwrap();
        assert_eq!(requests.keys().collect::<Vec<_>>(), ["1"], "{failing}");
        assert_eq!(requests["1"]["code"], "batch_request_failed");
        assert_eq!(requests["1"]["message"], "Batch request failed.");
        let response = &requests["1"]["response"];
        assert_eq!(
            (&response["message"], &response["status"]),
            (&json!(message), &json!(status)),
            "{failing}"
        );
        assert_eq!(world.count("posts"), 0, "{failing}");
    }
}

#[test]
fn each_request_sees_what_those_before_it_did() {
    let world = World::new().by_account(Some(ADA));
    let one = format!("{POSTS}/post00000000000");
    let (answers, changes) = world
        .run(&json!([
            request("POST", &format!("{POSTS}?fields=id,title,author"), post("a")),
            request("PATCH", &format!("{one}?fields=title,expand.author.name&expand=author"), json!({ "title": "b" })),
            request("PUT", &format!("{POSTS}?fields=title"), post("c")),
            { "Method": "DELETE", "URL": one },
            request("PUT", "/api/collections/POSTS/records?fields=title,author", post("d")),
            request("PUT", "/api/collections/pbc_1125843985/records?fields=title", json!({ "title": "e", "content": "c" })),
        ]))
        .unwrap();
    assert_eq!(
        answers,
        json!([
            { "body": { "id": "post00000000000", "title": "a", "author": ADA }, "status": 200 },
            { "body": { "title": "b", "expand": { "author": { "name": ADA } } }, "status": 200 },
            { "body": { "title": "c" }, "status": 200 },
            { "body": null, "status": 204 },
            { "body": { "title": "d", "author": ADA }, "status": 200 },
            { "body": { "title": "e" }, "status": 200 },
        ])
    );
    let actions: Vec<_> = changes.iter().map(|change| change.action).collect();
    assert_eq!(actions, ["create", "update", "update", "delete", "create", "create"]);
    assert_eq!(world.count("posts"), 2);
}

#[test]
fn everybody_may_do_in_a_batch_what_they_may_do_alone() {
    let one = format!("{POSTS}/post00000000000");
    let not_found = Some((404, "The requested resource wasn't found."));
    for (who, failing, wanted) in [
        (
            None,
            request("POST", POSTS, json!({ "title": "t", "content": "c" })),
            Some((400, "Failed to create record.")),
        ),
        (Some(BOB), request("POST", POSTS, json!({ "title": "t", "content": "c" })), None),
        (Some(BOB), request("PATCH", &one, json!({ "title": "t" })), not_found),
        (Some(BOB), request("PUT", POSTS, post("t")), not_found),
        (Some(BOB), request("DELETE", &one, json!({})), not_found),
        (Some(ADA), request("DELETE", &one, json!({})), None),
        (
            Some(BOB),
            json!({ "method": "PATCH", "url": one, "body": { "title": "t" }, "headers": { "Authorization": "x" } }),
            not_found,
        ),
    ] {
        let world = World::new().by_account(Some(ADA));
        world.run(&json!([request("POST", POSTS, post("t"))])).unwrap();
        let got = world.by_account(who).run(&json!([failing])).err();
        let response = got.as_ref().map(|error| &error.data["requests"]["0"]["response"]);
        let got = response.map(|it| (it["status"].as_i64().unwrap(), it["message"].as_str().unwrap()));
        assert_eq!(got, wanted, "{who:?} {failing}");
    }
}

#[test]
fn headers_and_method_of_a_request_are_its_own_and_its_context_is_batch() {
    let mut world = World::new();
    let kept = json!({ "authorization": "ours", "x_a": "0", "x_b": "1" });
    world.context.request.headers = kept.as_object().unwrap().clone();
    let headers = json!({ "X-A": "2", "Authorization": "theirs" });
    let batch =
        world.parse(&json!([{ "method": "PATCH", "url": "/x?a=b", "headers": headers, "body": { "c": 1 } }]));
    let request = &batch.unwrap().steps[0].context.request;
    assert_eq!(
        Value::Object(request.headers.clone()),
        json!({ "authorization": "ours", "x_a": "2", "x_b": "1" })
    );
    assert_eq!((request.context, request.method.as_str()), ("batch", "PATCH"));
    assert_eq!((request.query.clone(), &request.body["c"]), (query("a=b"), &json!(1)));
}

#[test]
fn passwords_are_listed_before_and_used_in_the_transaction() {
    let world = World::new().by_account(Some(ADA));
    let own = format!("{ORACLES}/{ADA}");
    let account = |id: &str, email: &str, password: &str| json!({ "id": id, "name": "n", "email": email, "password": password, "passwordConfirm": password });
    let change =
        |old: &str| json!({ "password": "password9", "passwordConfirm": "password9", "oldPassword": old });
    let batch = json!([
        request("POST", POSTS, json!({ "title": "t", "content": "c" })),
        request("POST", ORACLES, account("new000000000000", "new@x.io", "password1")),
        request("POST", ORACLES, account("", "other@x.io", "short")),
        request("PATCH", &own, change(ADA)),
        request("PATCH", &own, json!({ "bio": "b" })),
        request("PUT", ORACLES, json!({ "id": ADA, "oldPassword": "x" })),
        request("DELETE", &own, json!({ "password": "password1" })),
        request("POST", ORACLES, account(BOB, "bob000000000000@x.io", "password1")),
    ]);
    let work = world.parse(&batch).unwrap().password_work(&world.connection).unwrap();
    let listed: Vec<_> = work
        .iter()
        .map(|work| {
            let compare =
                work.compare.as_ref().map(|(password, stored)| (password.as_str(), stored.hash.as_str()));
            (work.request, work.hash.as_deref(), compare)
        })
        .collect();
    let (hash_of_ada, hash_of_bob) = (format!("hash of {ADA}"), format!("hash of {BOB}"));
    assert_eq!(
        listed,
        [
            (1, Some("password1"), None),
            (3, Some("password9"), Some((ADA, hash_of_ada.as_str()))),
            (5, None, Some(("x", hash_of_ada.as_str()))),
            (7, Some("password1"), Some(("password1", hash_of_bob.as_str()))),
        ]
    );

    let wrong =
        world.run(&json!([request("PATCH", &own, change("nope"))])).expect_err("the old one is wrong");
    let data = &wrong.data["requests"]["0"]["response"]["data"];
    assert_eq!(data["oldPassword"]["code"], "validation_invalid_old_password");

    // The caller stays who it was for the rest of the batch, also when its tokens end in the middle.
    let new = account("new000000000000", "new@x.io", "password1");
    let post = request("POST", POSTS, json!({ "title": "t", "content": "c" }));
    let done = world.run(&json!([request("POST", ORACLES, new), request("PATCH", &own, change(ADA)), post]));
    assert_eq!(done.unwrap().0.as_array().unwrap().len(), 3);
    let oracles = world.context.schema.get("oracles");
    for (id, hash) in [(ADA, "hash of password9"), ("new000000000000", "hash of password1")] {
        assert_eq!(rows::text(&find(&world.connection, oracles, id).unwrap().unwrap(), "password"), hash);
    }
    let world = world.by_account(Some(ADA)); // with the new token key
    let unhashed =
        world.parse(&json!([request("POST", ORACLES, account("", "a@x.io", "password1"))])).unwrap();
    let refused =
        unhashed.run(&world.connection, &[], &mut Vec::new()).expect_err("no account without a password");
    assert_eq!(refused.status, 500);
}

#[test]
fn a_batch_in_the_name_of_an_account_that_is_gone_does_nothing() {
    let world = World::new().by_account(Some(ADA));
    let requests = json!([request("POST", POSTS, post("a"))]);
    for (statement, expected) in
        [("UPDATE oracles SET bio = 'x'", Ok(1)), ("UPDATE oracles SET tokenKey = id", Err(401))]
    {
        world.connection.execute(statement, []).unwrap();
        world.connection.execute("DELETE FROM posts", []).unwrap();
        let run = world.run(&requests).map(|_| world.count("posts")).map_err(|error| error.status);
        assert_eq!(run, expected, "{statement}");
    }
    assert_eq!(world.count("posts"), 0);
}

#[test]
fn what_a_batch_makes_is_counted_by_collection() {
    let world = World::new();
    let requests = json!([
        request("POST", POSTS, post("a")),
        request("PUT", ORACLES, json!({ "id": ADA })),
        request("PATCH", &format!("{POSTS}/post00000000000"), json!({})),
        request("DELETE", &format!("{POSTS}/post00000000000"), json!({})),
        request("POST", "/api/collections/nope/records", json!({})),
    ]);
    let made: Vec<&str> = world.parse(&requests).unwrap().creates().collect();
    assert_eq!(made, ["posts", "oracles"]);
}
