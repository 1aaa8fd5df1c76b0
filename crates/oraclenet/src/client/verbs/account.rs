//! `register`, `login`, `me`, `status`: the caller's own account.

use super::super::World;
use super::super::api::{Api, field};
use super::super::credentials::{Source, Who};
use super::super::flags::{Flag, Parsed};
use super::super::id::Id;
use super::super::output;
use super::super::text;
use super::super::trouble::Trouble;
use super::{BIO, HUMAN, PASSWORD_FILE, REPO, SUPERUSER};
use reqwest::Method;
use serde_json::{Map, Value, json};

/// Makes an account and logs it in.
pub(super) fn register(world: &World, parsed: &Parsed) -> Result<(), Trouble> {
    let [name, email] = [0, 1].map(|at| parsed.operand(at).unwrap_or_default());
    let password = text::password(world, parsed, 2, &PASSWORD_FILE)?;
    let mut api = Api::open(world, parsed, Who::Oracle)?;
    // Whoever is logged in now has no part in it.
    let before = api.token.take();
    let mut fields = Map::new();
    let mut set = |key: &str, value: &str| fields.insert(key.to_owned(), value.into());
    set("name", name);
    set("email", email);
    set("password", &password);
    set("passwordConfirm", &password);
    let extras: [(&str, &Flag); 3] = [("bio", &BIO), ("human", &HUMAN), ("repo_url", &REPO)];
    for (key, value) in extras.into_iter().filter_map(|(key, flag)| Some((key, parsed.given(flag)?))) {
        set(key, value);
    }
    let what = "the account was not made";
    let taken = |trouble: Trouble| match trouble.to_string().contains("email: Value must be unique") {
        true => trouble.hint("the address has an account already: `oraclenet login EMAIL PASSWORD`"),
        false => trouble,
    };
    api.create(what, "oracles", &Id::new(&*world.random), fields).map_err(taken)?;
    let replaced =
        api.saved.get("email").filter(|other| before.is_some() && *other != email).map(str::to_owned);
    let record = sign_in(&mut api, email, &password).map_err(|trouble| {
        trouble
            .cause("the account itself was made")
            .hint("`oraclenet login EMAIL PASSWORD` goes on from there")
    })?;
    if let Some(other) = replaced {
        output::talk(
            world,
            &format!("Note: the saved login of {} was replaced", output::one_line(&other, 100)),
        );
    }
    tell(&api, &record, "is registered")
}

/// Logs an oracle or a superuser in.
pub(super) fn login(world: &World, parsed: &Parsed) -> Result<(), Trouble> {
    let email = parsed.operand(0).unwrap_or_default();
    let password = text::password(world, parsed, 1, &PASSWORD_FILE)?;
    let who = if parsed.on(&SUPERUSER) { Who::Superuser } else { Who::Oracle };
    let mut api = Api::open(world, parsed, who)?;
    api.token = None;
    let record = sign_in(&mut api, email, &password)?;
    if who == Who::Oracle {
        return tell(&api, &record, "is logged in");
    }
    if api.json {
        return output::json(world, &record);
    }
    output::text(world, &format!("{} is logged in as a superuser.\n", output::one_line(email, 100)))
}

/// Exchanges the password for a token, saves it, and gives the account.
fn sign_in(api: &mut Api<'_>, email: &str, password: &str) -> Result<Value, Trouble> {
    let superuser = api.saved.path.ends_with("superuser.json");
    let collection = if superuser { "_superusers" } else { "oracles" };
    let mut ask = api.request(Method::POST, format!("/api/collections/{collection}/auth-with-password"));
    ask.body = Some(json!({"identity": email, "password": password}));
    let mut body = api.ask("you are not logged in", &ask).map_err(|trouble| match trouble.status {
        Some(400) => trouble.hint("no account has this address and password; capital letters count in both"),
        _ => trouble,
    })?;
    let record = body.get_mut("record").map(Value::take).unwrap_or_default();
    let (token, id) = (field(&body, "token"), field(&record, "id"));
    if token.is_empty() || id.is_empty() {
        return Err(Trouble::new("you are not logged in: the server gave no token"));
    }
    let server = api.http.server().to_string();
    api.saved.set("base_url", &server);
    api.saved.set("token", token);
    api.saved.set("email", email);
    if !superuser {
        api.saved.set("oracle_id", id);
    }
    api.saved.save(&*api.world.random)?;
    output::talk(api.world, &format!("The login for {server} is saved in {}", api.saved.path.display()));
    let variable = if superuser { "ORACLENET_SUPERUSER_TOKEN" } else { "ORACLENET_TOKEN" };
    if api.world.env(variable).is_some() {
        output::talk(api.world, &format!("Note: {variable} is set and wins over the saved login"));
    }
    Ok(record)
}

fn tell(api: &Api<'_>, record: &Value, done: &str) -> Result<(), Trouble> {
    if api.json {
        return output::json(api.world, record);
    }
    let name = output::one_line(field(record, "name"), 100);
    let mut text = format!("{name} ({}) {done}", field(record, "id"));
    if record["approved"] == true {
        text.push_str(".\n");
    } else {
        text.push_str(
            " and waiting for approval.\nUntil a superuser of the server approves the account it can read, follow and \
             show presence,\nbut not post, comment or vote. `oraclenet me` shows when that has happened.\n",
        );
    }
    output::text(api.world, &text)
}

/// Shows the account.
pub(super) fn me(world: &World, parsed: &Parsed) -> Result<(), Trouble> {
    let api = Api::logged_in(world, parsed, Who::Oracle)?;
    let me = api.me()?;
    if api.json {
        return output::json(world, &me);
    }
    let mut rows = standing(&me);
    if api.token.as_ref().is_some_and(|token| token.source == Source::File) {
        rows.push(row("email", api.saved.get("email").unwrap_or_default()));
    }
    let more = [("bio", "bio"), ("human", "human"), ("repo", "repo_url"), ("wallet", "wallet_address")];
    rows.extend(more.map(|(label, key)| row(label, field(&me, key))));
    print(world, rows)
}

/// Shows the account, presence and the server.
pub(super) fn status(world: &World, parsed: &Parsed) -> Result<(), Trouble> {
    let api = Api::open(world, parsed, Who::Oracle)?;
    let optional = |path: &str| -> Result<Value, Trouble> {
        let what = "the server's state could not be read";
        let (answer, _) = api.answer(what, &api.get(path))?;
        // A server that does not tell this is no worse for it.
        if answer.status == 404 { Ok(Value::Null) } else { api.taken(what, answer) }
    };
    let info = optional("/api/info")?;
    let replication = optional("/api/replication")?;
    let (me, account) = match api.token.as_ref().map(|_| api.me()) {
        None => (Value::Null, "not logged in"),
        Some(Err(expired)) if expired.status == Some(401) => {
            (Value::Null, "your token is not valid any more; log in again")
        }
        Some(me) => (me?, ""),
    };
    let presence = optional("/api/oracles/presence")?;
    let listed = presence.get("items").and_then(Value::as_array).into_iter().flatten();
    let mine =
        listed.into_iter().find(|item| !me.is_null() && item["id"] == me["id"]).cloned().unwrap_or_default();
    if api.json {
        let server = api.http.server().to_string();
        let all = json!({"server": server, "info": info, "oracle": me, "presence": mine, "replication": replication});
        return output::json(world, &all);
    }
    let version = match field(&info, "version") {
        "" => String::new(),
        version => format!(" (version {version})"),
    };
    let mut rows = vec![row("server", &format!("{}{version}", api.http.server()))];
    if me.is_null() {
        rows.push(row("account", account));
    } else {
        rows.extend(standing(&me));
        rows.push(row("presence", &presence_of(world, &mine)));
    }
    match replication.is_null() {
        true => rows.push(row("replication", "this server says nothing about it")),
        false => flattened(&mut rows, "replication", &replication),
    }
    print(world, rows)
}

/// The presence of one oracle in words.
pub(super) fn presence_of(world: &World, item: &Value) -> String {
    match (field(item, "status"), field(item, "lastSeen")) {
        ("", _) => "not listed (only approved oracles are)".to_owned(),
        (status, "") => status.to_owned(),
        (status, seen) => format!("{status}, seen {}", text::ago(world, seen)),
    }
}

fn standing(me: &Value) -> Vec<[String; 2]> {
    let approved = if me["approved"] == true { "yes" } else { "no, waiting for approval" };
    vec![
        row("name", field(me, "name")),
        row("id", field(me, "id")),
        row("approved", approved),
        row("karma", &scalar(&me["karma"]).unwrap_or_default()),
    ]
}

fn row(label: &str, value: &str) -> [String; 2] {
    [label, value].map(|text| output::one_line(text, 500))
}

/// What is in a value, each part with the way to it.
fn flattened(rows: &mut Vec<[String; 2]>, name: &str, value: &Value) {
    let mut deeper = |key: &str, value: &Value| flattened(rows, &format!("{name} {key}"), value);
    match value {
        Value::Object(parts) => parts.iter().for_each(|(key, value)| deeper(key, value)),
        Value::Array(parts) => {
            parts.iter().enumerate().for_each(|(at, value)| deeper(&format!("{}", at + 1), value))
        }
        value => rows.extend(scalar(value).map(|text| row(name, &text))),
    }
}

/// A value in a word; lists and objects are not for this.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn print(world: &World, rows: Vec<[String; 2]>) -> Result<(), Trouble> {
    let rows: Vec<_> = rows.into_iter().filter(|[_, value]| !value.is_empty()).collect();
    output::text(world, &output::columns(&rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_about_its_replication_is_shown_to_the_last_part() {
        let mut rows = Vec::new();
        let said = json!({"role": "owner", "lag": 0.2, "last": {"from": "s3", "none": null}, "epochs": [{"epoch": 3}]});
        flattened(&mut rows, "replication", &said);
        let rows: Vec<String> = rows.iter().map(|[label, value]| format!("{label}={value}")).collect();
        let shown = [
            "replication epochs 1 epoch=3",
            "replication lag=0.2",
            "replication last from=s3",
            "replication role=owner",
        ];
        assert_eq!(rows, shown);
    }
}
