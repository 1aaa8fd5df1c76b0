//! The hub over a database of its own.

use super::{ClientId, Hub, Receiver, limits};
use crate::db::rows::{self, Record};
use crate::db::{Change, Db, Keeping, adopt, open, tables};
use crate::filter::AuthRecord;
use crate::random;
use crate::schema::Schema;
use futures::StreamExt as _;
use serde_json::{Value, json};
use std::sync::{Arc, Weak};
use std::time::Duration;
use testkit::clock::SimClock;

const ADA: &str = "ada000000000000";
const BOB: &str = "bob000000000000";
const USER: &str = "user00000000000";
/// Every client hears of this one; what it heard before is all that it heard.
const LAST: &str = "heartbeats/last00000000000";

struct World {
    hub: Arc<Hub>,
    db: Db,
    schema: Arc<Schema>,
    clock: SimClock,
    _dir: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data.db");
        let source: Arc<dyn random::Source> = Arc::new(random::System::open().unwrap());
        let schema = Arc::new(adopt::fresh(&|| random::secret(&*source)));
        let connection = open::writer(&path).unwrap();
        tables::create(&connection, &schema, "2026-01-01 00:00:00.000Z", 0).unwrap();
        let clock = SimClock::new();
        let hub = Arc::new(Hub::new(Arc::clone(&schema), source, Arc::new(clock.clone())));
        let listener: Weak<Hub> = Arc::downgrade(&hub);
        let keeping = Keeping::alone(Arc::new(clock.clone()));
        keeping.gate.listen(Box::new(move |changes: Vec<Change>| {
            listener.upgrade().into_iter().for_each(|hub| hub.publish(changes.clone()))
        }));
        let db = Db::start(&path, keeping, Duration::from_secs(10)).unwrap();
        Self { hub, db, schema, clock, _dir: dir }
    }

    fn run(&self) {
        let (hub, db) = (Arc::clone(&self.hub), self.db.clone());
        tokio::spawn(async move { hub.run(db).await });
    }

    /// Writes a record, and says so.
    async fn put(&self, collection: &'static str, action: &'static str, id: &str, values: Value) -> Record {
        let schema = Arc::clone(&self.schema);
        let mut values = values.as_object().unwrap().clone();
        values.insert("id".to_owned(), id.into());
        let written = self.db.write(move |connection, changes| {
            let collection = schema.get(collection);
            let id = rows::text(&values, "id").to_owned();
            let mut record = rows::find(connection, collection, "id = ?1", &[&id])?.unwrap_or_default();
            record.extend(values);
            match action {
                "create" => rows::insert(connection, collection, &record)?,
                "update" => rows::update(connection, collection, &record)?,
                _ => rows::delete(connection, collection, &id)?,
            }
            let record = rows::find(connection, collection, "id = ?1", &[&id])?.unwrap_or(record);
            changes.push(Change { collection: collection.name, action, record: record.clone() });
            Ok::<_, rusqlite::Error>(record)
        });
        written.await.unwrap().value
    }

    async fn account(&self, collection: &'static str, id: &str) -> AuthRecord {
        let values = json!({
            "name": id, "email": format!("{id}@x.io"), "tokenKey": format!("{id}-key"), "approved": true,
            "emailVisibility": false,
        });
        let record = self.put(collection, "create", id, values).await;
        AuthRecord { collection: collection.to_owned(), record }
    }

    fn client(&self, topics: &[&str], auth: Option<&AuthRecord>) -> (ClientId, Receiver) {
        let (id, receiver) = self.hub.connect().unwrap();
        self.subscribe(&id, topics, auth).unwrap();
        (id, receiver)
    }

    fn subscribe(&self, id: &ClientId, topics: &[&str], auth: Option<&AuthRecord>) -> Result<(), u16> {
        let topics: Vec<String> = topics.iter().copied().chain([LAST]).map(str::to_owned).collect();
        self.hub.subscribe(id, &topics, auth).map_err(|error| error.status)
    }

    /// Says the last thing.
    async fn last(&self) {
        let action = "update";
        let record = json!({ "id": "last00000000000" }).as_object().unwrap().clone();
        self.hub.publish(vec![Change { collection: "heartbeats", action, record }]);
    }
}

/// The next frame, or `None` at the end of the stream.
async fn next(receiver: &mut Receiver) -> Option<String> {
    let frame =
        tokio::time::timeout(Duration::from_secs(20), receiver.next()).await.expect("a frame, or the end");
    frame.map(|Ok(bytes)| String::from_utf8(bytes.to_vec()).unwrap())
}

/// Event names and data up to the last thing.
async fn heard(receiver: &mut Receiver) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    while let Some(frame) = next(receiver).await {
        let (_, rest) = frame.split_once("\nevent:").unwrap();
        let (event, data) = rest.split_once("\ndata:").unwrap();
        match event {
            "PB_CONNECT" => {}
            LAST => return all,
            event => all.push((event.to_owned(), serde_json::from_str(data).unwrap())),
        }
    }
    panic!("the stream ended before the last thing; heard so far: {all:?}");
}

#[tokio::test]
async fn each_client_hears_what_its_account_its_filter_and_its_fields_let_it_hear() {
    let world = World::new();
    world.run();
    let ada = world.account("oracles", ADA).await;
    let user = world.account("users", USER).await;
    let superuser = world.account("_superusers", "super0000000000").await;
    world.account("oracles", BOB).await;
    let post = json!({ "title": "a<b", "content": "lorem ipsum", "author": ADA });
    world.put("posts", "create", "post00000000000", post).await;
    let options = |text: &str| format!("?options={{\"query\":{text}}}");
    let short = r#"{"fields":"id"}"#;
    let mut checks = Vec::new();
    for (who, auth) in
        [("guest", None), ("ada", Some(&ada)), ("user", Some(&user)), ("super", Some(&superuser))]
    {
        for (topic, query, hears) in [
            ("posts/*", short, "guest ada user super"),
            ("posts", short, "guest ada user super"),
            ("posts/post00000000000", short, "guest ada user super"),
            ("posts/other0000000000", short, ""),
            ("comments/*", short, ""),
            ("users/*", short, "user super"),
            ("users/user00000000000", short, "user super"),
            ("_superusers/*", short, "super"),
            ("posts/*", r#"{"fields":"id","filter":"title~'A<'"}"#, "guest ada user super"),
            ("posts/*", r#"{"fields":"id","filter":"title='x'"}"#, ""),
            (
                "posts/*",
                r#"{"fields":"id","filter":"author.name='ada000000000000'"}"#,
                "guest ada user super",
            ),
            ("posts/*", r#"{"fields":"id","filter":"nope=1"}"#, ""),
            ("posts/*", r#"{"fields":"id","filter":" "}"#, ""),
            ("posts/*", r#"{"fields":"id","filter":"@request.context='realtime'"}"#, "super"),
            ("oracles/*", r#"{"fields":"id","filter":"tokenKey!=''"}"#, "super"),
        ] {
            let topic = format!("{topic}{}", options(query));
            let (_, receiver) = world.client(&[&topic], auth);
            checks.push((who, topic, hears.split(' ').any(|name| name == who), receiver));
        }
    }
    world.put("posts", "update", "post00000000000", json!({ "upvotes": 1 })).await;
    world.put("users", "update", USER, json!({ "name": "u" })).await;
    world.put("_superusers", "update", "super0000000000", json!({ "verified": true })).await;
    world.put("oracles", "update", BOB, json!({ "bio": "b" })).await;
    world.last().await;
    for (who, topic, hears, mut receiver) in checks {
        let heard = heard(&mut receiver).await;
        assert_eq!(heard.len(), usize::from(hears), "{who} {topic}: {heard:?}");
        if let Some((event, data)) = heard.first() {
            assert_eq!(event, &topic);
            assert_eq!(data["action"], "update");
            assert_eq!(
                data["record"].as_object().unwrap().keys().collect::<Vec<_>>(),
                ["id"],
                "{who} {topic}"
            );
        }
    }
}

#[tokio::test]
async fn an_event_is_the_frame_of_pocketbase_with_relations_and_without_what_is_hidden() {
    let world = World::new();
    world.run();
    let ada = world.account("oracles", ADA).await;
    let expand = r#"posts/*?options={"query":{"expand":"author,nope","fields":"title,expand.author.email,expand.author.name"}}"#;
    let odd = r#"posts/*?options={"query":{"fields":"title:nope(1)"}}"#;
    let own = format!("oracles/{ADA}");
    let (id, mut receiver) = world.client(&[expand, odd, &own], Some(&ada));
    let (_, mut guest) = world.client(&[expand, &own], None);
    let dates = json!({ "created": "c", "updated": "u" });
    let mut post =
        json!({ "title": "T&", "content": "c", "author": ADA, "upvotes": 1, "downvotes": 0, "score": 1 });
    post.as_object_mut().unwrap().extend(dates.as_object().unwrap().clone());
    world.put("posts", "create", "post00000000000", post).await;
    world.put("oracles", "update", ADA, json!({ "bio": "b" })).await;
    world.put("posts", "delete", "post00000000000", json!({})).await;
    world.last().await;
    let name = id.as_str();
    assert_eq!(
        next(&mut receiver).await.unwrap(),
        format!("id:{name}\nevent:PB_CONNECT\ndata:{{\"clientId\":\"{name}\"}}\n\n")
    );
    assert_eq!(
        next(&mut receiver).await.unwrap(),
        format!(
            "id:{name}\nevent:{expand}\ndata:{{\"record\":{{\"expand\":{{\"author\":{{\"email\":\"{ADA}@x.io\",\
             \"name\":\"{ADA}\"}}}},\"title\":\"T\\u0026\"}},\"action\":\"create\"}}\n\n"
        )
    );
    assert_eq!(
        next(&mut receiver).await.unwrap(),
        format!(
            "id:{name}\nevent:{odd}\ndata:{{\"record\":{{\"author\":\"{ADA}\",\"collectionId\":\"pbc_1125843985\",\
             \"collectionName\":\"posts\",\"content\":\"c\",\"created\":\"c\",\"downvotes\":0,\"id\":\"post00000000000\",\
             \"score\":1,\"title\":\"T\\u0026\",\"updated\":\"u\",\"upvotes\":1}},\"action\":\"create\"}}\n\n"
        )
    );
    let rest = heard(&mut receiver).await;
    let events: Vec<_> =
        rest.iter().map(|(event, data)| (event.as_str(), data["action"].as_str().unwrap())).collect();
    assert_eq!(events, [(own.as_str(), "update"), (expand, "delete"), (odd, "delete")]);
    assert_eq!(rest[0].1["record"]["email"], format!("{ADA}@x.io"));
    let of_guest = heard(&mut guest).await;
    assert_eq!(of_guest[0].1["record"], json!({ "expand": { "author": { "name": ADA } }, "title": "T&" }));
    assert_eq!(of_guest[1].1["record"].get("email"), None);
    for (_, data) in rest.iter().chain(&of_guest) {
        assert_eq!(data["record"].get("tokenKey").or(data["record"].get("password")), None, "{data}");
    }
}

#[tokio::test]
async fn everybody_hears_everything_in_the_order_of_the_commits() {
    let world = World::new();
    world.run();
    let mut clients: Vec<_> = (0..5).map(|_| world.client(&["posts/*"], None)).collect();
    let titles: Vec<String> = (0..100).map(|at| format!("t{at}")).collect();
    for title in &titles {
        let action = if title == "t0" { "create" } else { "update" };
        world.put("posts", action, "post00000000000", json!({ "title": title })).await;
    }
    world.last().await;
    for (_, receiver) in &mut clients {
        let heard = heard(receiver).await;
        let got: Vec<_> = heard.iter().map(|(_, data)| data["record"]["title"].as_str().unwrap()).collect();
        assert_eq!(got, titles);
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_is_dropped_and_the_others_hear_on() {
    let world = World::new();
    world.run();
    let (slow, mut never_reads) = world.client(&["posts/*"], None);
    let (_, mut reads) = world.client(&["posts/*"], None);
    assert!(next(&mut reads).await.unwrap().contains("PB_CONNECT"));
    for at in 0..limits::WAITING_EVENTS + 10 {
        let action = if at == 0 { "create" } else { "update" };
        world.put("posts", action, "post00000000000", json!({ "score": at })).await;
        let frame = next(&mut reads).await.unwrap();
        assert!(frame.contains(&format!("\"score\":{at},")), "{frame}");
    }
    assert_eq!(world.hub.clients(), 1);
    assert_eq!(next(&mut never_reads).await, None);
    assert_eq!(world.subscribe(&slow, &[], None), Err(404));
}

#[tokio::test]
async fn whose_stream_it_is_changes_only_from_guest_to_account_until_the_account_ends() {
    let world = World::new();
    world.run();
    let (ada, bob) = (world.account("oracles", ADA).await, world.account("oracles", BOB).await);
    let user = world.account("users", USER).await;
    let (id, mut receiver) = world.client(&["users/*"], None);
    for (auth, wanted) in [
        (None, Ok(())),
        (Some(&ada), Ok(())),
        (Some(&ada), Ok(())),
        (Some(&bob), Err(403)),
        (Some(&user), Err(403)),
        (None, Err(403)),
    ] {
        assert_eq!(world.subscribe(&id, &["users/*"], auth), wanted);
    }
    assert_eq!(world.subscribe(&ClientId::from("nope"), &[], None), Err(404));

    // A new token key ends the tokens, and with them what the stream may hear.
    let (own, mut of_user) = world.client(&["users/*"], Some(&user));
    world.put("users", "update", USER, json!({ "name": "1" })).await;
    world.last().await;
    let names: Vec<_> =
        heard(&mut of_user).await.iter().map(|(_, data)| data["record"]["name"].clone()).collect();
    assert_eq!(names, ["1"]); // heard before the next change: an account is looked up as it is by then
    let renewed = world.put("users", "update", USER, json!({ "tokenKey": "another" })).await;
    world.put("users", "update", USER, json!({ "name": "2" })).await;
    world.last().await;
    assert_eq!(heard(&mut of_user).await.len(), 0, "its tokens have ended");
    assert_eq!(world.subscribe(&own, &["users/*"], None), Ok(()));

    // Who is deleted hears of that, and is a guest afterwards.
    let user = AuthRecord { record: renewed, ..user };
    assert_eq!(world.subscribe(&own, &["users/*"], Some(&user)), Ok(()));
    world.put("users", "delete", USER, json!({})).await;
    world.put("users", "create", USER, json!({ "tokenKey": "third" })).await;
    world.last().await;
    let actions: Vec<_> = heard(&mut of_user).await.iter().map(|(_, data)| data["action"].clone()).collect();
    assert_eq!(actions, ["delete"]);
    assert_eq!(world.subscribe(&own, &[], None), Ok(()));
    for _ in 0..3 {
        assert_eq!(heard(&mut receiver).await.len(), 0, "ada hears nothing of users");
    }
}

#[tokio::test]
async fn who_hears_nothing_for_five_minutes_is_sent_away_and_who_hears_something_is_not() {
    let world = World::new();
    world.run();
    let (_, mut quiet) = world.client(&[], None);
    let (_, mut busy) = world.client(&["posts/*"], None);
    world.clock.advance(limits::IDLE - Duration::from_secs(1));
    world.put("posts", "create", "post00000000000", json!({ "title": "t" })).await;
    assert!(next(&mut busy).await.unwrap().contains("PB_CONNECT"));
    assert!(next(&mut busy).await.unwrap().contains("\"create\""));
    assert_eq!(world.hub.clients(), 2);
    world.clock.advance(Duration::from_secs(1));
    world.put("posts", "update", "post00000000000", json!({ "title": "u" })).await;
    assert!(next(&mut busy).await.unwrap().contains("\"update\""));
    assert_eq!(next(&mut quiet).await, None);
    assert_eq!(world.hub.clients(), 1);
}

#[tokio::test]
async fn a_receiver_that_is_dropped_makes_room_and_there_is_room_for_so_many_only() {
    let world = World::new();
    let mut all: Vec<_> = (0..limits::CLIENTS).map(|_| world.hub.connect().unwrap()).collect();
    assert!(world.hub.connect().is_none());
    let (id, receiver) = all.pop().unwrap();
    drop(receiver);
    assert_eq!(world.subscribe(&id, &[], None), Err(404));
    assert!(world.hub.connect().is_some());

    let topic = |at: usize| format!("posts/{:0>width$}", at, width = limits::SUBSCRIPTION_BYTES - 6);
    let topics: Vec<String> = (0..limits::SUBSCRIPTIONS).map(topic).collect();
    let each = limits::SUBSCRIPTIONS * limits::SUBSCRIPTION_BYTES;
    let fit = limits::ALL_SUBSCRIPTION_BYTES / each;
    let subscribe = |at: usize| world.hub.subscribe(&all[at].0, &topics, None).map_err(|error| error.status);
    assert!((0..fit).all(|at| subscribe(at) == Ok(())));
    assert_eq!(subscribe(fit), Err(429));
    assert_eq!(subscribe(0), Ok(()), "in place of its own");
    drop(all.remove(0));
    let subscribe = |at: usize| world.hub.subscribe(&all[at].0, &topics, None).map_err(|error| error.status);
    assert_eq!(subscribe(fit), Ok(()), "what was another's is free");
}

#[tokio::test]
async fn changes_that_nobody_can_keep_up_with_send_everybody_away() {
    let world = World::new(); // nobody looks at the changes
    let (_, mut receiver) = world.client(&["posts/*"], None);
    for _ in 0..limits::WAITING_COMMITS {
        world.hub.publish(Vec::new());
    }
    assert_eq!(world.hub.clients(), 1);
    world.hub.publish(Vec::new());
    assert_eq!(world.hub.clients(), 0);
    assert_eq!(next(&mut receiver).await, None);
    assert!(world.hub.connect().is_some());
}

#[tokio::test]
async fn a_closed_hub_ends_its_task_and_its_streams_and_takes_nobody() {
    let world = World::new();
    let (hub, db) = (Arc::clone(&world.hub), world.db.clone());
    let task = tokio::spawn(async move { hub.run(db).await });
    let (_, mut receiver) = world.client(&["posts/*"], None);
    world.hub.close();
    tokio::time::timeout(Duration::from_secs(20), task).await.expect("it ends").unwrap();
    assert_eq!(next(&mut receiver).await, None);
    assert!(world.hub.connect().is_none());
}

#[tokio::test]
async fn a_subscription_hears_of_what_comes_after_it_also_when_it_is_said_again() {
    let world = World::new();
    let change = |title: &str| {
        let record = json!({ "id": "post00000000000", "title": title }).as_object().unwrap().clone();
        vec![Change { collection: "posts", action: "update", record }]
    };
    let topics = [r#"posts/*?options={"query":{"fields":"title"}}"#];
    world.hub.publish(change("before"));
    let (id, mut receiver) = world.client(&topics, None);
    world.hub.publish(change("on its way"));
    world.subscribe(&id, &topics, None).unwrap();
    world.hub.publish(change("after"));
    world.run();
    world.last().await;
    let titles: Vec<_> =
        heard(&mut receiver).await.iter().map(|(_, data)| data["record"]["title"].clone()).collect();
    assert_eq!(titles, ["on its way", "after"]);
}

#[tokio::test]
async fn so_many_subscriptions_of_a_client_may_have_a_filter() {
    let world = World::new();
    let (id, _receiver) = world.hub.connect().unwrap();
    let options = |number: usize| {
        format!("posts/*?options=%7B%22query%22%3A%7B%22filter%22%3A%22score%3E{number}%22%7D%7D")
    };
    for (count, outcome) in [(limits::FILTERED, Ok(())), (limits::FILTERED + 1, Err(400))] {
        let topics: Vec<String> = (0..count).map(options).chain(["posts/*".to_owned()]).collect();
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        assert_eq!(world.subscribe(&id, &topics, None), outcome, "{count}");
    }
}

#[test]
fn an_address_has_so_many_seats_and_this_machine_has_more() {
    let world = World::new();
    for (address, limited) in [("192.0.2.1", true), ("2001:db8::1", true), ("127.0.0.1", false)] {
        let address: std::net::IpAddr = address.parse().unwrap();
        let mut seats: Vec<_> = (0..limits::OF_ONE).map(|_| world.hub.seat(address).unwrap()).collect();
        assert_eq!(world.hub.seat(address).is_none(), limited, "{address}");
        seats.pop();
        assert!(world.hub.seat(address).is_some(), "{address}: one has gone");
    }
}
