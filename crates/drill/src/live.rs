//! The same proof against a live deployment, which others use as well.
//!
//! It writes with an approved account, marks what it writes, removes it at the end, and says what it could not remove.
//! Containers are out of sight there; what is not seen is said.

use crate::api::Api;
use crate::clock::Clock;
use crate::error::DrillError;
use crate::expect::TABLE;
use crate::facts::{Event, Facts, Seen};
use crate::ledger::{Deed, Entry, Ledger};
use crate::left::Left;
use crate::load::{Account, Load, POSTS, Pen, base36, sign_in};
use crate::report::{Outcome, Report, Scenario};
use crate::shown::shown;
use crate::{World, judge, tell, witness};
use reqwest::Method;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

/// Between two writes of one: a guest is modest, and the usual limit is 20 new records in 5 s.
const PACE: Duration = Duration::from_secs(1);
/// How many writers, all with the one account.
const WRITERS: usize = 2;
/// Load before the redeploy.
const LEAD: Duration = Duration::from_secs(5);
/// Tries to remove one post.
const TRIES: u32 = 3;

/// Runs `redeploy` against `url`.
///
/// # Errors
/// It could not begin.
pub async fn run(
    world: &World,
    (url, redeploy, trail): (&str, &str, Duration),
    out: &Path,
    clock: Clock,
    left: &Left,
) -> Result<Report, DrillError> {
    let need = |name: &str| {
        let value = (world.env)(name).filter(|value| !value.is_empty());
        value.ok_or_else(|| {
            DrillError::usage(format!("--url needs {name}: an approved account to write with"))
        })
    };
    if shown(url) != url {
        // A user in it would take the place of the account's token.
        return Err(DrillError::usage(format!("--url {} is given with a user or a query", shown(url))));
    }
    let api = Api::new(url)?;
    let account = sign_in(&api, "oracles", &need("ORACLENET_EMAIL")?, &need("ORACLENET_PASSWORD")?).await?;
    let ledger = Ledger::create(&out.join("ledger.jsonl"), clock);
    let ledger = ledger.map_err(|error| DrillError::machine("the ledger", &error))?;
    let posted = std::sync::Arc::default();
    let pen = Pen { api: api.clone(), ledger: ledger.clone(), pace: PACE, mark: clock.mark(), posted };
    let mark = format!("oraclenet prove {}", base36(pen.mark));
    tell(&format!("writing to {url}; every title begins with {mark:?}"));
    let mut facts = Facts { witnesses: 1, ..Facts::default() };
    let mut event = |what: String| {
        tell(&what);
        facts.events.push(Event { at: clock.ms(), what });
    };
    let before = restore(world, &api).await;
    let began = clock.ms();
    // Shift 1: posts only. A vote would change counters that are not ours.
    let posts = left.add(format!("posts at {url} whose titles begin with {mark:?}"));
    let load = Load::start(&pen, &vec![account.clone(); WRITERS], 1);
    tokio::time::sleep(LEAD).await;
    event("running the given command".to_owned()); // there may be a token in it
    let command = left.add("the given command, if it still runs: it is not stopped half way");
    let status = shell(redeploy).await;
    left.gone(command);
    event(format!("the command has ended: {}", status.as_ref().map_or_else(Clone::clone, Clone::clone)));
    tokio::time::sleep(trail).await;
    load.end().await;
    facts.load = (began, clock.ms());
    if let Err(why) = status {
        facts.troubles.push(format!("the redeploy failed: {why}"));
    }
    let after = restore(world, &api).await;
    compare(before.as_deref(), after.as_deref(), &mut facts);
    match witness::by_api(&api, format!("the API of {url}")).await {
        Ok(seen) => facts.seen.push(ours(seen, &mark)),
        Err(error) => facts.troubles.push(error.to_string()),
    }
    let entries = ledger.entries().map_err(|error| DrillError::machine("the ledger", &error))?;
    let verdict = judge::judge(&entries, &facts, &TABLE[0]);
    let mut report = Report::new("a live deployment", url, "none", clock);
    let (removed, kept) = clean(&api, &account, &entries, &mark).await;
    report.notes.push(format!("removed {removed} posts"));
    if kept.is_empty() {
        left.gone(posts);
    }
    report.left = kept;
    report
        .scenarios
        .push(Scenario::new(&TABLE[0], Outcome::Judged { entries, facts: Box::new(facts), verdict }));
    Ok(report)
}

/// Whether a container began between two looks at `lastRestore`. A redeploy that nobody saw shows nothing.
fn compare(before: Option<&str>, after: Option<&str>, facts: &mut Facts) {
    facts.notes.push(match (before, after) {
        (Some(before), Some(after)) if before != after => format!("the new container restored: {after}"),
        (Some(_), Some(_)) => {
            facts.not_shown.push("no restore since the command was run: was it a redeploy?".to_owned());
            "lastRestore is what it was before".to_owned()
        }
        _ => {
            facts.not_shown.push("a redeploy: it was not seen that a container began".to_owned());
            "where the database came from was not seen: that needs a superuser's account".to_owned()
        }
    });
}

/// `lastRestore` as a superuser may see it.
async fn restore(world: &World, api: &Api) -> Option<String> {
    let get = |name: &str| (world.env)(name).filter(|value| !value.is_empty());
    let (email, password) = (get("ORACLENET_SUPERUSER_EMAIL")?, get("ORACLENET_SUPERUSER_PASSWORD")?);
    let superuser = sign_in(api, "_superusers", &email, &password).await.ok()?;
    let told = api.get("/api/replication", &superuser.token).await.ok()?;
    Some(told["lastRestore"].to_string())
}

async fn shell(line: &str) -> Result<String, String> {
    let mut command = tokio::process::Command::new("/bin/sh");
    // Its words are progress, not data.
    command.arg("-c").arg(line).stdin(Stdio::null()).stdout(std::io::stderr());
    match command.status().await {
        Ok(status) if status.success() => Ok(status.to_string()),
        Ok(status) => Err(status.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// What this run wrote, of all that is there.
fn ours(mut seen: Seen, mark: &str) -> Seen {
    seen.posts.retain(|post| post.title.starts_with(mark));
    seen.votes.clear();
    seen.karma.clear();
    seen.totals = None;
    // Somebody may have voted for what we wrote; that is no counter of ours.
    seen.posts.iter_mut().for_each(|post| post.upvotes = 0);
    seen
}

/// Removes every post that may be there, and looks again: 404 is also the answer to who may not remove. Gives how many
/// it removed, and the names of those that are still there.
async fn clean(api: &Api, account: &Account, entries: &[Entry], mark: &str) -> (usize, Vec<String>) {
    let (mut removed, mut last) = (0, BTreeMap::new());
    for entry in entries {
        let Deed::Post { id, .. } = &entry.deed else { continue };
        let answer = remove(api, account, id).await;
        removed += usize::from(answer.is_ok());
        last.insert(id.as_str(), answer.err().unwrap_or_else(|| "removed".to_owned()));
    }
    let answered = |id: &str| last.get(id).map_or("nobody asked to remove it", String::as_str);
    match witness::by_api(api, String::new()).await {
        Ok(seen) => {
            let ours = ours(seen, mark).posts.into_iter();
            (removed, ours.map(|post| format!("post {}: {}", post.id, answered(&post.id))).collect())
        }
        Err(error) => {
            let unsure = last.iter().filter(|(_, answer)| *answer != "removed");
            let mut kept: Vec<String> = unsure.map(|(id, answer)| format!("post {id}: {answer}")).collect();
            kept.push(format!("perhaps others whose titles begin with {mark:?}: {error}"));
            (removed, kept)
        }
    }
}

/// Removes a post, in a few tries; `Err` is the last answer. Nobody tries again after 404.
async fn remove(api: &Api, account: &Account, id: &str) -> Result<(), String> {
    let mut last = String::new();
    for _ in 0..TRIES {
        match api.send(Method::DELETE, &format!("{POSTS}/{id}"), &account.token, &Value::Null).await {
            Ok(reply) if (200..300).contains(&reply.status) => return Ok(()),
            Ok(reply) => {
                last = format!("{} {}", reply.status, reply.said());
                if reply.status == 404 {
                    break;
                }
            }
            Err(why) => last = why,
        }
        tokio::time::sleep(PACE).await;
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_restore_shows_a_redeploy() {
        for (before, after, open) in [
            (Some("a"), Some("b"), 0),
            (Some("null"), Some("b"), 0),
            (Some("a"), Some("a"), 1),
            (Some("null"), Some("null"), 1),
            (None, Some("b"), 1),
            (Some("a"), None, 1),
            (None, None, 1),
        ] {
            let mut facts = Facts::default();
            compare(before, after, &mut facts);
            assert_eq!((facts.not_shown.len(), facts.notes.len()), (open, 1), "{before:?}, {after:?}");
        }
    }
}
