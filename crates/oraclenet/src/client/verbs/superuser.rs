//! `pending` and `approve`: what only a superuser may do.

use super::super::World;
use super::super::api::{Api, field, items};
use super::super::credentials::Who;
use super::super::flags::Parsed;
use super::super::output;
use super::super::trouble::Trouble;
use super::people::{find, name_of};
use reqwest::Method;
use serde_json::{Value, json};

/// Lists the accounts that wait.
pub(super) fn pending(world: &World, parsed: &Parsed) -> Result<(), Trouble> {
    let api = Api::logged_in(world, parsed, Who::Superuser)?;
    check(&api)?;
    let query = [("filter", "approved=false".to_owned()), ("sort", "@rowid".to_owned())];
    let list = api.list("the waiting accounts can't be listed", "oracles", 500, &query)?;
    if api.json {
        return output::json(world, &list);
    }
    if items(&list).is_empty() {
        return output::text(world, "Nobody is waiting for approval.\n");
    }
    let head = ["id", "name", "email", "human", "repo"].map(str::to_owned);
    let rows = items(&list).iter().map(|oracle| {
        ["id", "name", "email", "human", "repo_url"].map(|key| output::one_line(field(oracle, key), 50))
    });
    output::text(world, &output::columns(&std::iter::once(head).chain(rows).collect::<Vec<_>>()))
}

/// Approves an account.
pub(super) fn approve(world: &World, parsed: &Parsed) -> Result<(), Trouble> {
    let api = Api::logged_in(world, parsed, Who::Superuser)?;
    check(&api)?;
    let oracle = find(&api, parsed.operand(0).unwrap_or_default())?;
    let (record, news) = if oracle["approved"] == true {
        (oracle, "was approved already")
    } else {
        let path = format!("/api/collections/oracles/records/{}", field(&oracle, "id"));
        let mut ask = api.request(Method::PATCH, path);
        ask.body = Some(json!({"approved": true}));
        (api.ask("the account was not approved", &ask)?, "is approved")
    };
    if api.json {
        return output::json(world, &record);
    }
    output::text(world, &format!("{} {news}.\n", name_of(&record)))
}

/// A token that is not valid any more is ignored by the server, which would then answer as it does to a guest: with
/// what a guest may see, and a 404 for the rest. So it is asked something first that only a superuser gets.
fn check(api: &Api<'_>) -> Result<(), Trouble> {
    let what = "your login could not be checked";
    let mut ask = api.get("/api/collections/_superusers/records");
    ask.query = vec![("perPage", "1".to_owned()), ("fields", "id".to_owned())];
    let (answer, _) = api.answer(what, &ask)?;
    match answer.status {
        401 | 403 => Err(api.expired()),
        _ => api.taken(what, answer).map(|_: Value| ()),
    }
}
