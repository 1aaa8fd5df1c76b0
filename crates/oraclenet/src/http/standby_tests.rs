//! What does not move ownership: every kind of request that is refused, and every one that writes nothing, sent to a
//! standby whose node counts who asks it for ownership. And what is refused by nobody who may be behind.

use super::accounts;
use super::doubts::{Asked, Doubt, Doubts};
use super::rate_limit::{RateLimits, Setting};
use super::router::router;
use super::state::{AppState, Config};
use crate::auth::password::{self, Limits, Passwords};
use crate::db::rows::{self, Record};
use crate::db::{
    Db, Durability, Gate, Keeping, Owning, Replica, Standing, WriteError, Written, adopt, open, tables,
};
use crate::random::{self, Source};
use crate::realtime::Hub;
use crate::records::Target;
use crate::replication::{Replication, Told};
use crate::web::{LagRing, Place, Site, status};
use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use litekeep::clock::SystemClock;
use litekeep::error::KeepError;
use litekeep::node::{Application as _, Role};
use litekeep_core::env::Clock;
use litekeep_formats::Txid;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tower::ServiceExt as _;

/// How many times the node was asked for ownership, and whether the replica can be asked.
#[derive(Default)]
struct Counting {
    asked: AtomicUsize,
    away: AtomicBool,
}

impl Replica for Counting {
    fn ask_to_own(&self) {
        self.asked.fetch_add(1, Ordering::SeqCst);
    }

    fn holds(&self) -> bool {
        false
    }

    fn look(&self, _: Duration) -> Result<Option<Txid>, KeepError> {
        if self.away.load(Ordering::SeqCst) { Err(KeepError::Timeout(1.0)) } else { Ok(None) }
    }

    fn sync(&self, _: Duration) -> Result<Option<Txid>, KeepError> {
        Err(KeepError::NotOwner)
    }
}

const PASSWORD: &str = "a-good-password";
const ADA: &str = "ada000000000000";
const BOB: &str = "bob000000000000";
const EVE: &str = "eve000000000000";
const ROOT: &str = "root00000000000";
const POST: &str = "post00000000000";

struct Rig {
    state: Arc<AppState>,
    node: Arc<Counting>,
    router: Router,
    _dir: tempfile::TempDir,
}

fn config() -> Config {
    Config {
        origins: Vec::new(),
        public_url: "http://127.0.0.1:1".to_owned(),
        trusted: Vec::new(),
        connecting_ip: false,
        approve_wallets: false,
        batch: true,
        strict_reads: false,
    }
}

/// Ada and Bob are approved, Eve is not; Ada wrote a post, Bob a comment on it, and Bob follows Ada.
fn fill(connection: &rusqlite::Connection, schema: &crate::schema::Schema, source: &dyn Source) {
    tables::create(connection, schema, "2026-01-01 00:00:00.000Z", 0).unwrap();
    adopt::set_mark(connection, "2026-01-01 00:00:00.000Z").unwrap();
    let hash = password::hash_now(PASSWORD, source).unwrap();
    let insert = |collection: &str, values: Value| {
        let mut record: Record = values.as_object().unwrap().clone();
        if schema.get(collection).is_auth() {
            let id = rows::text(&record, "id").to_owned();
            record.insert("email".to_owned(), format!("{id}@x.io").into());
            record.insert("tokenKey".to_owned(), random::token_key(source).into());
            record.insert("password".to_owned(), hash.clone().into());
        }
        rows::insert(connection, schema.get(collection), &record).unwrap();
    };
    insert("_superusers", json!({ "id": ROOT }));
    for (id, approved) in [(ADA, true), (BOB, true), (EVE, false)] {
        insert("oracles", json!({ "id": id, "name": id, "approved": approved }));
    }
    insert("posts", json!({ "id": POST, "title": "T", "content": "C", "author": ADA }));
    insert("comments", json!({ "id": "comment00000000", "post": POST, "content": "C", "author": BOB }));
    insert("connections", json!({ "id": "follow000000000", "follower": BOB, "following": ADA }));
}

impl Rig {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data.db");
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let source: Arc<dyn Source> = Arc::new(random::System::open().unwrap());
        let schema = Arc::new(adopt::fresh(&|| random::secret(&*source)));
        let connection = open::writer(&path).unwrap();
        open::use_wal(&connection).unwrap();
        fill(&connection, &schema, &*source);
        let node = Arc::new(Counting::default());
        let (standing, gate) = (Arc::new(Standing::starting()), Gate::shut(Arc::clone(&clock)));
        let owning = Owning {
            standing: Arc::clone(&standing),
            gate: Arc::clone(&gate),
            before: Box::new(|_| Ok(())),
            after: Box::new(|| ()),
        };
        owning.role(Role::Standby);
        let keeping = Keeping {
            standing: Arc::clone(&standing),
            gate: Arc::clone(&gate),
            replica: Some(Arc::clone(&node) as _),
            clock: Arc::clone(&clock),
        };
        let told = Told { place: Place::Nowhere, durability: Durability::Replicated, restore: None };
        let state = Arc::new(AppState {
            schema: Arc::clone(&schema),
            db: Db::start(&path, keeping, Duration::from_millis(50)).unwrap(),
            clock: Arc::clone(&clock),
            source: Arc::clone(&source),
            passwords: Passwords::new(Limits { at_once: 2, waiting: 8 }, Arc::clone(&source)),
            nonces: Mutex::default(),
            doubts: Doubts::default(),
            limits: Mutex::new(RateLimits::new(Setting::Off.rules(), 1)),
            hub: Arc::new(Hub::new(Arc::clone(&schema), source, Arc::clone(&clock))),
            replication: Arc::new(Replication::new(None, told, standing, gate, Arc::clone(&clock))),
            config: config(),
        });
        let site = Site {
            db: state.db.clone(),
            clock,
            schema,
            base_url: String::new(),
            replication: Arc::new(|| (status::tests::view(), LagRing::default())),
        };
        let router = router(Arc::clone(&state), Arc::new(site));
        Self { state, node, router, _dir: dir }
    }

    async fn token(&self, collection: &'static str, id: &'static str) -> String {
        let schema = Arc::clone(&self.state.schema);
        let find = move |connection: &rusqlite::Connection| {
            rows::find(connection, schema.get(collection), "id = ?1", &[&id])
        };
        let record = self.state.db.read(find).await.unwrap().unwrap();
        accounts::mint(&self.state, self.state.schema.get(collection), &record, true, 0).unwrap()
    }

    async fn call(&self, method: &str, path: &str, token: &str, body: &Value) -> u16 {
        self.ask(method, path, token, body).await.status().as_u16()
    }

    async fn ask(&self, method: &str, path: &str, token: &str, body: &Value) -> Response<Body> {
        let mut request = Request::builder().method(method).uri(path);
        if !token.is_empty() {
            request = request.header("authorization", token);
        }
        let body = match body {
            Value::Null => Body::empty(),
            Value::String(raw) => Body::from(raw.clone()),
            body => Body::from(body.to_string()),
        };
        let request = request.header("content-type", "application/json").body(body).unwrap();
        self.router.clone().oneshot(request).await.unwrap()
    }

    fn asked(&self) -> usize {
        self.node.asked.load(Ordering::SeqCst)
    }
}

/// A request as the tables below have it: method, path, who asks, body, the answer's status.
type Row = (&'static str, String, &'static str, Value, u16);

async fn check(rig: &Rig, rows: Vec<Row>) {
    let tokens = [
        ("ada", rig.token("oracles", ADA).await),
        ("bob", rig.token("oracles", BOB).await),
        ("eve", rig.token("oracles", EVE).await),
        ("root", rig.token("_superusers", ROOT).await),
        ("forged", format!("{}x", rig.token("oracles", ADA).await)),
        ("", String::new()),
    ];
    for (method, path, who, body, status) in rows {
        let token = &tokens.iter().find(|(name, _)| *name == who).unwrap().1;
        assert_eq!(rig.call(method, &path, token, &body).await, status, "{method} {path} {who} {body}");
        assert_eq!(rig.asked(), 0, "asked for ownership: {method} {path} {who} {body}");
    }
}

fn records(collection: &str) -> String {
    format!("/api/collections/{collection}/records")
}

fn record(collection: &str, id: &str) -> String {
    format!("/api/collections/{collection}/records/{id}")
}

fn account(id: &str, email: &str, password: &str) -> Value {
    json!({ "id": id, "name": "n", "email": email, "password": password, "passwordConfirm": password })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_leaves_a_standby_a_standby() {
    let rig = Rig::new();
    let good = || json!({ "title": "T", "content": "C" });
    let ada = format!("{ADA}@x.io");
    check(
        &rig,
        vec![
            ("POST", records("posts"), "", good(), 400),
            ("POST", records("posts"), "forged", good(), 400),
            ("POST", records("posts"), "eve", good(), 400),
            ("POST", records("posts"), "ada", json!({ "title": "", "content": "C" }), 400),
            ("POST", records("posts"), "ada", json!("{\"title\":"), 400),
            ("POST", records("posts"), "bob", json!({ "id": POST, "title": "T", "content": "C" }), 400),
            ("POST", format!("{}?fields=title:nope", records("posts")), "ada", good(), 400),
            ("POST", records("nothing"), "ada", good(), 404),
            ("POST", records("_superusers"), "ada", account("", "z@x.io", PASSWORD), 403),
            ("POST", records("comments"), "ada", json!({ "post": "nopost000000000", "content": "C" }), 400),
            ("POST", records("connections"), "ada", json!({ "following": ADA }), 400),
            ("POST", records("connections"), "bob", json!({ "following": ADA }), 400),
            ("POST", records("votes"), "eve", json!({ "value": 1, "target_type": "post" }), 400),
            ("POST", records("heartbeats"), "", json!({ "status": "online" }), 400),
            ("POST", records("heartbeats"), "ada", json!({ "status": "asleep" }), 400),
            ("POST", records("oracles"), "", account("", &ada, PASSWORD), 400),
            ("POST", records("oracles"), "", account("", "new@x.io", "short"), 400),
            ("POST", records("oracles"), "", account("", "a@wallet.oraclenet", PASSWORD), 400),
            ("POST", records("oracles"), "", account(ADA, &ada, "another-password"), 400),
            ("PATCH", record("posts", POST), "bob", json!({ "title": "mine" }), 404),
            ("PATCH", record("posts", POST), "ada", json!({ "title": "" }), 400),
            ("PATCH", record("posts", "nopost000000000"), "ada", json!({ "title": "x" }), 404),
            ("PATCH", record("heartbeats", "nobeat000000000"), "ada", json!({}), 403),
            ("PATCH", record("oracles", ADA), "ada", json!({ "approved": true }), 404),
            (
                "PATCH",
                record("oracles", ADA),
                "ada",
                json!({ "oldPassword": "wrong", "password": "long-enough", "passwordConfirm": "long-enough" }),
                400,
            ),
            ("PATCH", record("oracles", ADA), "root", json!({ "email": format!("{BOB}@x.io") }), 400),
            ("DELETE", record("posts", POST), "", Value::Null, 404),
            ("DELETE", record("posts", POST), "bob", Value::Null, 404),
            ("DELETE", record("posts", POST), "ada", Value::Null, 400),
            ("DELETE", record("oracles", ADA), "ada", Value::Null, 400),
            ("DELETE", record("_superusers", ROOT), "root", Value::Null, 400),
            ("POST", format!("/api/posts/{POST}/upvote"), "", Value::Null, 401),
            ("POST", format!("/api/posts/{POST}/upvote"), "eve", Value::Null, 403),
            ("POST", "/api/posts/nopost000000000/upvote".into(), "ada", Value::Null, 404),
            ("POST", "/api/comments/nocomment000000/downvote".into(), "ada", Value::Null, 404),
            ("POST", "/verify".into(), "", json!({ "address": format!("0x{}", "a".repeat(40)), "signature": "0x" }), 400),
            ("POST", "/api/realtime".into(), "ada", json!({ "clientId": "nobody", "subscriptions": [] }), 404),
            ("POST", "/api/collections".into(), "root", json!({ "name": "x" }), 403),
            ("POST", "/api/nowhere".into(), "ada", good(), 404),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_refused_leaves_a_standby_a_standby() {
    let rig = Rig::new();
    let step = |method: &str, url: String, body: Value| json!({ "method": method, "url": url, "body": body });
    let good = || step("POST", records("posts"), json!({ "title": "T", "content": "C" }));
    let batch = |steps: Vec<Value>| json!({ "requests": steps });
    let path = || "/api/batch".to_owned();
    check(
        &rig,
        vec![
            ("POST", path(), "ada", json!({ "requests": "x" }), 400),
            ("POST", path(), "ada", batch(vec![]), 400),
            ("POST", path(), "", batch(vec![good()]), 400),
            ("POST", path(), "eve", batch(vec![good(), good()]), 400),
            ("POST", path(), "ada", batch(vec![step("GET", records("posts"), json!({}))]), 400),
            ("POST", path(), "ada", batch(vec![good(), step("POST", "/api/nowhere".into(), json!({}))]), 400),
            ("POST", path(), "ada", batch(vec![good(), step("POST", records("nothing"), json!({}))]), 400),
            (
                "POST",
                path(),
                "ada",
                batch(vec![good(), step("POST", records("_superusers"), json!({}))]),
                400,
            ),
            (
                "POST",
                path(),
                "bob",
                batch(vec![step("PATCH", record("posts", POST), json!({ "title": "x" }))]),
                400,
            ),
            ("POST", path(), "bob", batch(vec![step("DELETE", record("posts", POST), json!({}))]), 400),
            (
                "POST",
                path(),
                "",
                batch(vec![step(
                    "POST",
                    records("oracles"),
                    account(ADA, &format!("{ADA}@x.io"), "wrong-password"),
                )]),
                400,
            ),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_writes_nothing_is_answered_by_a_standby() {
    let rig = Rig::new();
    let login = |password: &str| json!({ "identity": format!("{ADA}@x.io"), "password": password });
    let oracles = |action: &str| format!("/api/collections/oracles/{action}");
    let mut rows: Vec<Row> = vec![
        ("POST", oracles("auth-with-password"), "", login(PASSWORD), 200),
        ("POST", oracles("auth-with-password"), "", login("wrong"), 400),
        ("POST", oracles("auth-refresh"), "ada", Value::Null, 200),
        ("POST", oracles(&format!("impersonate/{ADA}")), "root", json!({}), 200),
        ("POST", oracles(&format!("impersonate/{ADA}")), "ada", json!({}), 403),
        ("POST", oracles("request-password-reset"), "", json!({ "email": "a@x.io" }), 204),
        ("POST", "/nonce".into(), "", json!({ "address": format!("0x{}", "a".repeat(40)) }), 200),
        ("POST", records("heartbeats"), "ada", json!({ "status": "online" }), 200),
        ("POST", records("heartbeats"), "bob", json!({ "id": "beat00000000000", "status": "online" }), 200),
        ("POST", records("heartbeats"), "bob", json!({ "id": "beat00000000000", "status": "online" }), 200),
        ("POST", records("posts"), "ada", json!({ "id": POST, "title": "T", "content": "C" }), 200),
        ("POST", records("oracles"), "", account(ADA, &format!("{ADA}@x.io"), PASSWORD), 200),
    ];
    for path in [
        "/",
        "/oracles",
        "/status",
        "/skill.md",
        "/api/health",
        "/api/info",
        "/api/feed",
        "/api/oracles/presence",
        "/api/replication",
        "/api/collections/posts/records",
        "/api/collections/heartbeats/records",
    ] {
        rows.push(("GET", path.to_owned(), "", Value::Null, 200));
    }
    check(&rig, rows).await;
}

/// What it lacks may have been acknowledged elsewhere: whoever is refused for that is told to come again.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_cannot_ask_the_replica_refuses_no_write_by_what_it_lacks() {
    let post = |id: &str| format!("/api/posts/{id}/upvote");
    let good = || json!({ "title": "T", "content": "C" });
    let login = |id: &str, password: &str| json!({ "identity": format!("{id}@x.io"), "password": password });
    let sign_in = || "/api/collections/oracles/auth-with-password".to_owned();
    let batch = |steps: Value| json!({ "requests": steps });
    let rows = vec![
        ("POST", post("nopost000000000"), "ada", Value::Null, 404, 503),
        ("POST", post(POST), "eve", Value::Null, 403, 503),
        ("POST", records("comments"), "ada", json!({ "post": "nopost000000000", "content": "C" }), 400, 503),
        ("POST", records("connections"), "bob", json!({ "following": ADA }), 400, 503),
        ("POST", records("posts"), "eve", good(), 400, 503),
        ("POST", records("posts"), "elsewhere", good(), 400, 503),
        ("POST", "/api/collections/oracles/auth-refresh".into(), "elsewhere", Value::Null, 401, 503),
        ("POST", records("oracles"), "", account(ADA, &format!("{ADA}@x.io"), "another-password"), 400, 503),
        ("PATCH", record("posts", "nopost000000000"), "ada", json!({ "title": "x" }), 404, 503),
        ("DELETE", record("posts", "nopost000000000"), "ada", Value::Null, 404, 503),
        (
            "POST",
            "/api/batch".into(),
            "bob",
            batch(json!([{ "method": "DELETE", "url": record("posts", "nopost000000000") }])),
            400,
            503,
        ),
        ("POST", sign_in(), "", login("new", PASSWORD), 400, 503),
        ("POST", sign_in(), "", login(ADA, "changed-elsewhere"), 400, 503),
        // What no state makes right is told at once, and what is here serves as long as it is enough.
        ("POST", records("posts"), "ada", json!("{\"title\":"), 400, 400),
        ("POST", records("nothing"), "ada", good(), 404, 404),
        ("POST", post(POST), "", Value::Null, 401, 401),
        ("POST", sign_in(), "", login(ADA, PASSWORD), 200, 200),
        ("POST", "/api/collections/oracles/auth-refresh".into(), "ada", Value::Null, 200, 200),
        ("POST", records("posts"), "ada", json!({ "id": POST, "title": "T", "content": "C" }), 200, 200),
        ("GET", record("posts", "nopost000000000"), "", Value::Null, 404, 404),
        ("GET", record("posts", POST), "elsewhere", Value::Null, 200, 200),
    ];
    for away in [false, true] {
        let rig = Rig::new();
        let schema = &rig.state.schema;
        let stranger = json!({ "id": "new000000000000", "tokenKey": random::token_key(&*rig.state.source) });
        let stranger = stranger.as_object().unwrap();
        let tokens = [
            ("ada", rig.token("oracles", ADA).await),
            ("bob", rig.token("oracles", BOB).await),
            ("eve", rig.token("oracles", EVE).await),
            ("elsewhere", accounts::mint(&rig.state, schema.get("oracles"), stranger, true, 0).unwrap()),
            ("", String::new()),
        ];
        rig.node.away.store(away, Ordering::SeqCst);
        for (method, path, who, body, met, behind) in &rows {
            let token = &tokens.iter().find(|(name, _)| name == who).unwrap().1;
            let status = if away { *behind } else { *met };
            let answer = rig.ask(method, path, token, body).await;
            let told = format!("away: {away}; {method} {path} {who} {body}");
            assert_eq!(answer.status().as_u16(), status, "{told}");
            assert_eq!(answer.headers().contains_key("retry-after"), status == 503, "{told}");
            assert_eq!(rig.asked(), 0, "asked for ownership: {told}");
        }
    }
}

/// What the first vote came to, whether the file has that, and what its repetition is answered here.
#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_vote_is_answered_if_it_is_there_and_made_again_if_it_was_undone() {
    let path = format!("/api/posts/{POST}/upvote");
    for (came_to, status) in [(0, 200), (1, 503)] {
        let rig = Rig::new();
        let (doubt, asked) = (Doubt::Vote(ADA.to_owned(), Target::Post, POST.to_owned()), Asked::default());
        asked.came_to.set(came_to).unwrap();
        let asked = Asked { what: "1".to_owned(), ..asked };
        let unknown: Result<Written<()>, _> = Err(WriteError::<()>::Unknown);
        rig.state.doubts.settle(doubt.clone(), asked, &unknown);
        let token = rig.token("oracles", ADA).await;
        assert_eq!(rig.call("POST", &path, &token, &Value::Null).await, status, "{came_to}");
        assert_eq!(rig.asked() > 0, status == 503, "{came_to}");
        assert_eq!(rig.state.doubts.recall(&doubt).is_some(), status == 503, "{came_to}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_valid_write_asks_for_ownership_and_says_that_nothing_was_changed_if_it_does_not_come() {
    for (method, path, body) in [
        ("POST", records("posts"), json!({ "title": "T", "content": "C" })),
        ("PATCH", record("posts", POST), json!({ "title": "Another" })),
        ("POST", format!("/api/posts/{POST}/upvote"), Value::Null),
        (
            "POST",
            "/api/batch".to_owned(),
            json!({ "requests": [{ "method": "PATCH", "url": record("posts", POST), "body": { "title": "x" } }] }),
        ),
    ] {
        let rig = Rig::new();
        let token = rig.token("oracles", ADA).await;
        assert_eq!(rig.call(method, &path, &token, &body).await, 503, "{method} {path}");
        assert!(rig.asked() > 0, "{method} {path}");
    }
}
