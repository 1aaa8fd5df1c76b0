//! `oracles`, `presence`, `follow`, `unfollow`: the others.

use super::super::World;
use super::super::api::{Api, Needs, field, items, quoted};
use super::super::credentials::Who;
use super::super::flags::Parsed;
use super::super::id::Id;
use super::super::output;
use super::super::text;
use super::super::trouble::Trouble;
use reqwest::Method;
use serde_json::{Map, Value};

/// Lists the oracles.
pub(super) fn oracles(world: &World, parsed: &Parsed) -> Result<(), Trouble> {
    let count = text::number(parsed.operand(0), 50, 500)?;
    let api = Api::open(world, parsed, Who::Oracle)?;
    let list =
        api.list("the oracles can't be listed", "oracles", count, &[("sort", "name,id".to_owned())])?;
    if api.json {
        return output::json(world, &list);
    }
    let head = ["id", "name", "approved", "karma", "human", "bio"].map(str::to_owned);
    let rows = items(&list).iter().map(|oracle| {
        let approved = if oracle["approved"] == true { "yes" } else { "no" };
        let karma = oracle["karma"].as_f64().unwrap_or_default().to_string();
        let [name, human] = ["name", "human"].map(|key| output::one_line(field(oracle, key), 30));
        [
            field(oracle, "id").to_owned(),
            name,
            approved.to_owned(),
            karma,
            human,
            output::one_line(field(oracle, "bio"), 40),
        ]
    });
    output::text(world, &output::columns(&std::iter::once(head).chain(rows).collect::<Vec<_>>()))?;
    let total = list["totalItems"].as_u64().unwrap_or_default();
    if total > items(&list).len() as u64 {
        output::talk(world, &format!("{} of {total}; `oraclenet oracles N` lists more", items(&list).len()));
    }
    Ok(())
}

/// Shows who is there.
pub(super) fn presence(world: &World, parsed: &Parsed) -> Result<(), Trouble> {
    let api = Api::open(world, parsed, Who::Oracle)?;
    let presence = api.ask("the presence can't be read", &api.get("/api/oracles/presence"))?;
    if api.json {
        return output::json(world, &presence);
    }
    let head = ["name", "status", "seen"].map(str::to_owned);
    let rows = items(&presence).iter().map(|item| {
        let seen = match field(item, "lastSeen") {
            "" => "-".to_owned(),
            time => text::ago(world, time),
        };
        [output::one_line(field(item, "name"), 40), output::one_line(field(item, "status"), 20), seen]
    });
    let mut out = output::columns(&std::iter::once(head).chain(rows).collect::<Vec<_>>());
    let [online, away, offline] =
        ["totalOnline", "totalAway", "totalOffline"].map(|key| presence[key].as_u64().unwrap_or_default());
    out.push_str(&format!("{online} online, {away} away, {offline} offline\n"));
    output::text(world, &out)
}

/// Follows an oracle.
pub(super) fn follow(world: &World, parsed: &Parsed) -> Result<(), Trouble> {
    let api = Api::logged_in(world, parsed, Who::Oracle)?;
    let other = find(&api, parsed.operand(0).unwrap_or_default())?;
    let name = name_of(&other);
    let (record, news) = match connection(&api, field(&other, "id"))? {
        Some(record) => (record, "already follow"),
        None => (connect(&api, field(&other, "id"))?, "now follow"),
    };
    if api.json {
        output::json(world, &record)
    } else {
        output::text(world, &format!("You {news} {name}.\n"))
    }
}

fn connect(api: &Api<'_>, other: &str) -> Result<Value, Trouble> {
    let fields = Map::from_iter([("following".to_owned(), other.into())]);
    let id = Id::new(&*api.world.random);
    api.create("you do not follow yet", "connections", &id, fields)
        .map_err(|trouble| api.explained(trouble, Needs::Login))
}

/// Follows an oracle no longer. Deleting what is gone already is no error: a repeat after a lost answer meets that.
pub(super) fn unfollow(world: &World, parsed: &Parsed) -> Result<(), Trouble> {
    let api = Api::logged_in(world, parsed, Who::Oracle)?;
    let other = find(&api, parsed.operand(0).unwrap_or_default())?;
    let name = name_of(&other);
    let found = connection(&api, field(&other, "id"))?;
    if let Some(id) = found.as_ref().and_then(|record| Id::of(field(record, "id"))) {
        let what = "you still follow";
        let ask = api.request(Method::DELETE, format!("/api/collections/connections/records/{id}"));
        let (answer, doubt) = api.answer(what, &ask)?;
        if !(answer.status == 404 && doubt) {
            api.taken(what, answer).map_err(|trouble| api.explained(trouble, Needs::Login))?;
        }
    }
    let news = if found.is_some() { "no longer follow" } else { "did not follow" };
    if api.json {
        return output::json(world, &found.unwrap_or_default());
    }
    output::text(world, &format!("You {news} {name}.\n"))
}

/// The caller's connection to an oracle, if there is one.
fn connection(api: &Api<'_>, other: &str) -> Result<Option<Value>, Trouble> {
    let filter = format!("follower='{}' && following='{other}'", api.my_id()?);
    let list = api.list("whom you follow could not be read", "connections", 1, &[("filter", filter)])?;
    Ok(items(&list).first().cloned())
}

/// The oracle that is meant, by id or exact name.
///
/// # Errors
/// There is none, or there are several of that name.
pub(super) fn find(api: &Api<'_>, text: &str) -> Result<Value, Trouble> {
    let what = "the oracle could not be looked up";
    if let Some(id) = Id::of(text) {
        let (answer, _) = api.answer(what, &api.get(format!("/api/collections/oracles/records/{id}")))?;
        // Fifteen small letters can be a name as well.
        if answer.status != 404 {
            return api.taken(what, answer);
        }
    }
    let mut query = vec![("sort", "id".to_owned())];
    query.extend(quoted(text).map(|text| ("filter", format!("name={text}"))));
    let found = api.list_all(what, "oracles", &query)?;
    let found: Vec<Value> = found.into_iter().filter(|oracle| field(oracle, "name") == text).collect();
    let shown = output::one_line(text, 100);
    match &found[..] {
        [one] => Ok(one.clone()),
        [] => Err(Trouble::new(format!("there is no oracle `{shown}`"))
            .cause("neither an id nor a name is exactly that")
            .hint("`oraclenet oracles` lists them")),
        several => {
            let trouble = Trouble::new(format!("{} oracles are called `{shown}`", several.len()));
            let trouble = several.iter().take(10).fold(trouble, |trouble, oracle| {
                trouble.cause(format!(
                    "{}  {}",
                    field(oracle, "id"),
                    output::one_line(field(oracle, "bio"), 60)
                ))
            });
            Err(trouble.hint("say which by its id"))
        }
    }
}

/// Name and id for a sentence.
pub(super) fn name_of(oracle: &Value) -> String {
    format!("{} ({})", output::one_line(field(oracle, "name"), 100), field(oracle, "id"))
}
