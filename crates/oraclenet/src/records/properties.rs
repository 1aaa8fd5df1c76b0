//! Whatever is asked, in whatever order and by whomever: counters and karma follow from the votes, and nobody acts as
//! somebody else.

use super::write::prepare_create;
use super::{Context, Passwords, Target, create, delete, still_signed_in, switched, update, vote};
use crate::db::rows::{self, Record};
use crate::db::{adopt, tables};
use crate::filter::{AuthRecord, RequestInfo};
use crate::random::{Source, System};
use crate::schema::Schema;
use chrono::DateTime;
use proptest::prelude::*;
use rusqlite::Connection;
use serde_json::{Value, json};
use std::sync::Arc;

/// Who asks: three approved oracles, one that is not, a superuser, a guest, and an account of `users` that has the id
/// of an oracle (an adopted database may hold one).
const CALLERS: [&str; 7] = ["ada", "bob", "cyd", "eve", "root", "", STRANGER];
const STRANGER: &str = "ada of users";
const ORACLES: [&str; 4] = ["ada", "bob", "cyd", "eve"];
const TARGETS: usize = 4;

fn id(name: &str, number: usize) -> String {
    format!("{name}{number:0width$}", width = 15 - name.len())
}

struct World {
    connection: Connection,
    schema: Arc<Schema>,
    source: Arc<dyn Source>,
}

impl World {
    fn new() -> Self {
        let source: Arc<dyn Source> = Arc::new(System::open().unwrap());
        let schema = Arc::new(adopt::fresh(&|| "s".repeat(50)));
        let connection = Connection::open_in_memory().unwrap();
        tables::create(&connection, &schema, "2026-11-25 20:00:00.000Z", 0).unwrap();
        for name in ORACLES {
            let approved = name != "eve";
            let mut record = super::hooks::blank(schema.get("oracles"));
            let fields = json!({ "id": id(name, 0), "name": name, "email": format!("{name}@x.io"),
                "tokenKey": name.repeat(12), "approved": approved });
            record.extend(fields.as_object().cloned().unwrap());
            rows::insert(&connection, schema.get("oracles"), &record).unwrap();
        }
        let mut record = super::hooks::blank(schema.get("users"));
        let fields = json!({ "id": id("ada", 0), "email": "stranger@x.io", "tokenKey": "s".repeat(50) });
        record.extend(fields.as_object().cloned().unwrap());
        rows::insert(&connection, schema.get("users"), &record).unwrap();
        Self { connection, schema, source }
    }

    fn context(&self, caller: &str, body: Value) -> Context {
        let auth = match caller {
            "" => None,
            "root" => Some(AuthRecord {
                collection: "_superusers".to_owned(),
                record: json!({ "id": id("root", 0) }).as_object().cloned().unwrap(),
            }),
            STRANGER => {
                let found =
                    rows::find(&self.connection, self.schema.get("users"), "id = ?1", &[&id("ada", 0)]);
                found.unwrap().map(|record| AuthRecord { collection: "users".to_owned(), record })
            }
            name => {
                let found =
                    rows::find(&self.connection, self.schema.get("oracles"), "id = ?1", &[&id(name, 0)]);
                found.unwrap().map(|record| AuthRecord { collection: "oracles".to_owned(), record })
            }
        };
        let body = body.as_object().cloned().unwrap_or_default();
        let request = RequestInfo {
            context: "default",
            method: "POST".to_owned(),
            body,
            auth,
            ..RequestInfo::default()
        };
        let now = DateTime::from_timestamp_millis(1_795_640_113_000).unwrap();
        Context { schema: Arc::clone(&self.schema), request, now, source: Arc::clone(&self.source) }
    }

    /// One request, in a transaction that is undone when it is refused, as the writer does it.
    fn ask(&self, step: &Step) {
        let caller = CALLERS[step.caller];
        let context = self.context(caller, step.body());
        let transaction = self.connection.unchecked_transaction().unwrap();
        let collection = self.schema.get(step.collection());
        let (mut changes, passwords) = (Vec::new(), Passwords::default());
        let before = self.rows();
        let target = id(&step.collection()[..4], step.target);
        let done = match step.action {
            Action::Create => create(&transaction, &context, collection, &passwords, &mut changes).map(drop),
            Action::Update => {
                update(&transaction, &context, collection, &target, &passwords, &mut changes).map(drop)
            }
            Action::Delete => delete(&transaction, &context, collection, &target, &mut changes),
            Action::Vote => {
                let kind = if step.kind.is_multiple_of(2) { Target::Post } else { Target::Comment };
                let id = id(if kind == Target::Post { "post" } else { "comm" }, step.target);
                // As the routes do it.
                switched(&transaction, &context, kind, &id, step.value)
                    .and_then(|value| vote(&transaction, &context, kind, &id, value, &mut changes))
                    .map(drop)
            }
        };
        match done {
            Ok(()) => transaction.commit().unwrap(),
            Err(error) => {
                assert!(error.status < 500, "{step:?}: {error:?}");
                drop(transaction);
                assert_eq!(self.rows(), before, "refused, and yet changed: {step:?}");
            }
        }
        self.nobody_acted_as_another(caller, &before, step);
    }

    /// Every row of what oracles write, by collection.
    fn rows(&self) -> Vec<(&'static str, Vec<Record>)> {
        ["posts", "comments", "votes", "connections"]
            .map(|name| {
                let collection = self.schema.get(name);
                let text = format!("SELECT {} FROM \"{name}\" ORDER BY id", rows::columns(collection));
                let mut statement = self.connection.prepare(&text).unwrap();
                let found = statement.query_map([], |row| rows::record(collection, row)).unwrap();
                (name, found.map(Result::unwrap).collect())
            })
            .to_vec()
    }

    /// A row that is new, gone or changed belongs to the caller (or a superuser asked, or it only went with its target,
    /// or only its counters changed).
    fn nobody_acted_as_another(&self, caller: &str, before: &[(&'static str, Vec<Record>)], step: &Step) {
        if caller == "root" {
            return;
        }
        // Nothing is the stranger's, whatever its id is.
        let caller = if matches!(caller, "" | STRANGER) { String::new() } else { id(caller, 0) };
        let after = self.rows();
        for ((name, old), (_, new)) in before.iter().zip(&after) {
            let owner = match *name {
                "votes" => "oracle",
                "connections" => "follower",
                _ => "author",
            };
            let bare = |record: &Record| {
                let counted = ["upvotes", "downvotes", "score", "updated", "parent"];
                record
                    .iter()
                    .filter(|(name, _)| !counted.contains(&name.as_str()))
                    .map(|(n, v)| (n.clone(), v.clone()))
                    .collect::<Record>()
            };
            for record in new {
                let same = old.iter().find(|it| it["id"] == record["id"]);
                if same.map(bare) != Some(bare(record)) {
                    assert_eq!(record[owner], json!(caller), "{step:?} made {record:?} of {same:?}");
                    assert!(
                        same.is_none_or(|same| same[owner] == json!(caller)),
                        "{step:?} took over {same:?}"
                    );
                }
            }
            let gone = old.iter().filter(|record| !new.iter().any(|it| it["id"] == record["id"]));
            for record in gone {
                let with_its_target =
                    *name == "votes" && step.action == Action::Delete && step.collection() != "votes";
                assert!(with_its_target || record[owner] == json!(caller), "{step:?} removed {record:?}");
            }
        }
    }

    /// Counters equal the votes that are there.
    fn counters_agree(&self) {
        for (table, target, score) in
            [("posts", "target_post", ", score - (upvotes - downvotes)"), ("comments", "target_comment", "")]
        {
            let text = format!(
                "SELECT id, upvotes - (SELECT count(*) FROM votes WHERE {target} = t.id AND value = 1)
                   , downvotes - (SELECT count(*) FROM votes WHERE {target} = t.id AND value = -1){score} FROM {table} t"
            );
            let mut statement = self.connection.prepare(&text).unwrap();
            let columns = statement.column_count();
            let mut found = statement.query([]).unwrap();
            while let Some(row) = found.next().unwrap() {
                for column in 1..columns {
                    let off: i64 = row.get(column).unwrap();
                    assert_eq!(off, 0, "{table} {}: column {column}", row.get::<_, String>(0).unwrap());
                }
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Create,
    Update,
    Delete,
    Vote,
}

#[derive(Debug, Clone)]
struct Step {
    action: Action,
    caller: usize,
    kind: usize,
    target: usize,
    value: i64,
    /// Whose name stands in the body, and what is voted on there.
    other: usize,
    number: usize,
}

impl Step {
    fn collection(&self) -> &'static str {
        ["posts", "comments", "votes", "connections"][self.kind % 4]
    }

    /// A body that tries everything: others' names, counters, karma.
    fn body(&self) -> Value {
        let other = id(ORACLES[self.other % 4], 0);
        let collection = self.collection();
        let mut body = json!({ "title": "T", "content": "C", "post": id("post", self.other % TARGETS),
            "upvotes": 99, "downvotes+": 7, "score": -5, "karma": 1000, "following": other, "value": self.value,
            "target_type": if self.number.is_multiple_of(2) { "post" } else { "comment" } });
        if self.number.is_multiple_of(2) {
            body["target_post"] = id("post", self.other % TARGETS).into();
        } else {
            body["target_comment"] = id("comm", self.other % TARGETS).into();
        }
        if self.action == Action::Create {
            body["id"] = id(&collection[..4], self.target).into();
        }
        if self.number.is_multiple_of(3) {
            for name in ["author", "oracle", "follower"] {
                body[name] = other.clone().into();
            }
        }
        body
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let action = prop_oneof![
        4 => Just(Action::Create),
        3 => Just(Action::Update),
        2 => Just(Action::Delete),
        4 => Just(Action::Vote)
    ];
    let value = prop_oneof![Just(1_i64), Just(-1), Just(0), Just(2)];
    let step = (action, 0..CALLERS.len(), 0..4_usize, 0..TARGETS, value, 0..4_usize, 0..6_usize);
    let step = step.prop_map(|(action, caller, kind, target, value, other, number)| {
        // The routes vote one up or one down; other values come through the collection only.
        let value = if action == Action::Vote && value.abs() != 1 { 1 } else { value };
        Step { action, caller, kind, target, value, other, number }
    });
    prop::collection::vec(step, 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_requests_makes_counters_disagree_with_votes_or_lets_one_act_as_another(steps in steps()) {
        let world = World::new();
        for step in &steps {
            world.ask(step);
            world.counters_agree();
        }
    }
}

#[test]
fn karma_is_what_others_votes_add_up_to_while_nothing_is_removed() {
    let world = World::new();
    let karma = |name: &str| -> i64 {
        let text = "SELECT karma FROM oracles WHERE id = ?1";
        world.connection.query_row(text, [id(name, 0)], |row| row.get(0)).unwrap()
    };
    let step = |action, caller: &str, kind, value, number| Step {
        action,
        caller: CALLERS.iter().position(|it| *it == caller).unwrap(),
        kind,
        target: 0,
        value,
        other: 0,
        number,
    };
    world.ask(&step(Action::Create, "ada", 0, 0, 1));
    for (who, value, karma_after) in [
        ("bob", 1, 1),
        ("cyd", 1, 2),
        ("ada", 1, 2),
        ("bob", -1, 0),
        ("bob", -1, 1),
        ("eve", -1, 1),
        ("cyd", -1, -1),
    ] {
        world.ask(&step(Action::Vote, who, 0, value, 0));
        assert_eq!(karma("ada"), karma_after, "{who} {value}");
        world.counters_agree();
    }
}

#[test]
fn an_account_of_another_collection_is_nobody_to_the_rules_even_with_an_oracles_id() {
    let world = World::new();
    let mut changes = Vec::new();
    let post = world.context("ada", json!({ "id": id("post", 0), "title": "T", "content": "C" }));
    let (schema, passwords) = (Arc::clone(&world.schema), Passwords::default());
    create(&world.connection, &post, schema.get("posts"), &passwords, &mut changes).unwrap();
    let (ada, eve) = (id("ada", 0), id("eve", 0));
    for (collection, target) in [("oracles", &ada), ("posts", &id("post", 0))] {
        let collection = schema.get(collection);
        let change = world.context(STRANGER, json!({ "bio": "mine now", "title": "mine now" }));
        let changed = update(&world.connection, &change, collection, target, &passwords, &mut changes);
        assert_eq!(changed.unwrap_err().status, 404, "{}", collection.name);
        let gone = delete(&world.connection, &change, collection, target, &mut changes);
        assert_eq!(gone.unwrap_err().status, 404, "{}", collection.name);
    }
    for (collection, body) in [
        ("heartbeats", json!({ "status": "online" })),
        ("connections", json!({ "following": eve })),
        ("posts", json!({ "title": "T", "content": "C" })),
    ] {
        let asked = world.context(STRANGER, body);
        let made = create(&world.connection, &asked, schema.get(collection), &passwords, &mut changes);
        assert_eq!(made.unwrap_err().status, 400, "{collection}");
    }
}

#[test]
fn no_account_is_made_under_the_id_of_an_account_of_another_collection() {
    let world = World::new();
    let (bob, free) = (id("bob", 0), id("new", 0));
    for (collection, id, refused) in
        [("users", &bob, true), ("_superusers", &bob, true), ("oracles", &bob, true), ("users", &free, false)]
    {
        let body = json!({ "id": id, "name": "B", "email": "new@x.io", "password": "password-bob",
            "passwordConfirm": "password-bob" });
        let asked = world.context("root", body);
        let prepared = prepare_create(&world.connection, &asked, world.schema.get(collection));
        let code = prepared.err().map(|error| error.data["id"]["code"].clone());
        assert_eq!(code, refused.then(|| json!("validation_not_unique")), "{collection} {id}");
    }
}

#[test]
fn what_an_account_may_do_is_looked_at_again_when_it_is_done() {
    let changed = |statement: &str| {
        let world = World::new();
        let passwords = Passwords::default();
        let post = world.context("bob", json!({ "id": id("post", 0), "title": "T", "content": "C" }));
        create(&world.connection, &post, world.schema.get("posts"), &passwords, &mut Vec::new()).unwrap();
        let asked = world.context("ada", json!({}));
        world.connection.execute(statement, [id("ada", 0)]).unwrap();
        let voted = vote(&world.connection, &asked, Target::Post, &id("post", 0), 1, &mut Vec::new());
        let signed_in = still_signed_in(&world.connection, &asked);
        (voted.err().map(|it| it.status), signed_in.err().map(|it| it.status))
    };
    for (statement, expected) in [
        ("UPDATE oracles SET bio = 'x' WHERE id = ?1", (None, None)),
        ("UPDATE oracles SET approved = FALSE WHERE id = ?1", (Some(403), None)),
        ("UPDATE oracles SET tokenKey = 'another' WHERE id = ?1", (Some(401), Some(401))),
        ("DELETE FROM oracles WHERE id = ?1", (Some(401), Some(401))),
    ] {
        assert_eq!(changed(statement), expected, "{statement}");
    }
}

#[test]
fn addresses_of_wallets_are_given_by_the_server_only() {
    let world = World::new();
    for (caller, email, refused) in [
        ("", "00000000000000000000000000000000000000aa@wallet.oraclenet", true),
        ("ada", "Anything@Wallet.OracleNet", true),
        ("root", "00000000000000000000000000000000000000aa@wallet.oraclenet", false),
        ("", "wallet.oraclenet@x.io", false),
    ] {
        let body =
            json!({ "name": "N", "email": email, "password": "password-n", "passwordConfirm": "password-n" });
        let prepared =
            prepare_create(&world.connection, &world.context(caller, body), world.schema.get("oracles"));
        let code = prepared.err().map(|error| error.data["email"]["code"].clone());
        assert_eq!(code, refused.then(|| json!("validation_invalid_value")), "{caller} {email}");
    }
}

#[test]
fn an_id_that_is_in_use_is_refused_unless_the_same_author_repeats_a_create() {
    let world = World::new();
    let beat = id("beat", 0);
    let row = "INSERT INTO heartbeats (id, oracle, status) VALUES (?1, ?2, 'online')";
    world.connection.execute(row, [&beat, &id("ada", 0)]).unwrap();
    for (caller, expected) in [("ada", None), ("bob", Some("validation_not_unique"))] {
        let asked = world.context(caller, json!({ "id": beat, "status": "away" }));
        let prepared = prepare_create(&world.connection, &asked, world.schema.get("heartbeats"));
        let code = prepared.err().map(|error| error.data["id"]["code"].clone());
        assert_eq!(code, expected.map(Value::from), "{caller}");
    }
}
