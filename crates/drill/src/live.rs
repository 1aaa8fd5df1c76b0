//! The same proof against a live deployment, which others use as well.
//!
//! It writes with an approved account, marks what it writes, removes it at the end or when a signal comes, and says what
//! it could not remove. It runs no command before a write of its own was acknowledged.
//! Containers are out of sight there; what is not seen is said.

use crate::api::Api;
use crate::clock::Clock;
use crate::error::DrillError;
use crate::expect::TABLE;
use crate::facts::{Event, Facts, Seen};
use crate::ledger::{Answer, Deed, Entry, Ledger};
use crate::left::Left;
use crate::load::{Account, Load, POSTS, Pen, base36, sign_in};
use crate::report::{Outcome, Program, Report, Scenario};
use crate::shown::shown;
use crate::stop::Signals;
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
/// How long a run that was interrupted goes on removing its posts.
const LEAVE: Duration = Duration::from_secs(60);
/// Tries to remove one post.
const TRIES: u32 = 3;

/// Runs `redeploy` against `url`, and removes what it wrote: also when a signal comes, for a while; a second one gives up.
///
/// # Errors
/// It could not begin, nothing could be written, or a signal came.
pub async fn run(
    world: &World,
    (url, redeploy, trail): (&str, &str, Duration),
    out: &Path,
    clock: Clock,
    left: &Left,
    signals: &mut Signals,
) -> Result<Report, DrillError> {
    let guest = signals.unless(Guest::come(world, url, out, clock)).await?;
    tell(&format!("writing to {url}; every title begins with {:?}", guest.mark));
    let posts = left.add(format!("posts at {url} whose titles begin with {:?}", guest.mark));
    // Shift 1: posts only. A vote would change counters that are not ours.
    let mut load = Load::start(&guest.pen, &vec![guest.account.clone(); WRITERS], 1);
    let stay = async {
        let facts = guest.measure(world, (redeploy, trail), &mut load, left).await?;
        Ok((facts, guest.leave(&mut load).await?))
    };
    let (facts, (entries, removed, kept)) = match signals.unless(stay).await {
        Ok(stayed) => stayed,
        Err(why) => {
            guest.leave_early(&mut load, (left, posts), signals, &why).await;
            return Err(why);
        }
    };
    let verdict = judge::judge(&entries, &facts, &TABLE[0]);
    let mut report = Report::new("a live deployment", url, "none", clock);
    report.program = Program::of(&world.executable);
    report.notes.push(format!("removed {removed} posts"));
    if kept.is_empty() {
        left.gone(posts);
    }
    report.left = kept;
    let outcome = Outcome::Judged { entries, facts: Box::new(facts), verdict };
    report.scenarios.push(Scenario::new(&TABLE[0], 0, outcome));
    Ok(report)
}

/// An account of the deployment, and what it writes there.
struct Guest {
    api: Api,
    url: String,
    account: Account,
    pen: Pen,
    ledger: Ledger,
    clock: Clock,
    /// What every title of ours begins with.
    mark: String,
    /// `lastRestore` before anything was done.
    before: Option<String>,
}

impl Guest {
    /// Signs in, and writes nothing yet.
    async fn come(world: &World, url: &str, out: &Path, clock: Clock) -> Result<Self, DrillError> {
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
        let (email, password) = (need("ORACLENET_EMAIL")?, need("ORACLENET_PASSWORD")?);
        let account = sign_in(&api, "oracles", &email, &password).await?;
        if account.approved == Some(false) {
            let what = "the account in ORACLENET_EMAIL is not approved: it may not write, so the command was not run";
            return Err(DrillError::usage(what));
        }
        let ledger = Ledger::create(&out.join("ledger.jsonl"), clock);
        let ledger = ledger.map_err(|error| DrillError::machine("the ledger", &error))?;
        let posted = std::sync::Arc::default();
        let pen = Pen { api: api.clone(), ledger: ledger.clone(), pace: PACE, mark: clock.mark(), posted };
        let mark = format!("oraclenet prove {}", base36(pen.mark));
        let before = restore(world, &api).await;
        Ok(Self { api, url: url.to_owned(), account, pen, ledger, clock, mark, before })
    }

    /// Runs the command under load, once something was acknowledged, and looks afterwards.
    async fn measure(
        &self,
        world: &World,
        (redeploy, trail): (&str, Duration),
        load: &mut Load,
        left: &Left,
    ) -> Result<Facts, DrillError> {
        let mut facts = Facts { witnesses: 1, ..Facts::default() };
        let mut event = |what: String| {
            tell(&what);
            facts.events.push(Event { at: self.clock.ms(), what });
        };
        let began = self.clock.ms();
        tokio::time::sleep(LEAD).await;
        self.wrote()?;
        event("running the given command".to_owned()); // there may be a token in it
        let command = left.add("the given command, if it still runs: it is not stopped half way");
        let status = shell(redeploy).await;
        left.gone(command);
        event(format!("the command has ended: {}", status.as_ref().map_or_else(Clone::clone, Clone::clone)));
        tokio::time::sleep(trail).await;
        load.end().await;
        facts.load = (began, self.clock.ms());
        if let Err(why) = status {
            facts.troubles.push(format!("the redeploy failed: {why}"));
        }
        let after = restore(world, &self.api).await;
        compare(self.before.as_deref(), after.as_deref(), &mut facts);
        match witness::by_api(&self.api, format!("the API of {}", self.url)).await {
            Ok(seen) => facts.seen.push(ours(seen, &self.mark)),
            Err(error) => facts.troubles.push(error.to_string()),
        }
        Ok(facts)
    }

    /// A redeploy of which nothing could be shown is not worth its risk: without an acknowledged write there is none.
    fn wrote(&self) -> Result<(), DrillError> {
        if self.ledger.acknowledged() > 0 {
            return Ok(());
        }
        let entries = self.entries()?;
        let last = entries.iter().rev().find_map(|entry| entry.answer.as_ref());
        let (said, forbidden) = match last {
            Some((_, Answer::Refused { status, said, .. })) => {
                (format!("{status} {said}"), (400..500).contains(status) && *status != 429)
            }
            Some((_, Answer::Cut(why))) => (why.clone(), false),
            _ => ("none".to_owned(), false),
        };
        let seconds = LEAD.as_secs();
        let what = format!(
            "no write was acknowledged within {seconds} s, the last answer: {said}; the command was not run"
        );
        Err(if forbidden { DrillError::usage(what) } else { DrillError::system(what) })
    }

    fn entries(&self) -> Result<Vec<Entry>, DrillError> {
        self.ledger.entries().map_err(|error| DrillError::machine("the ledger", &error))
    }

    /// Stops writing and removes what was written; gives the ledger, how many posts it removed, and the names of those
    /// that are still there.
    async fn leave(&self, load: &mut Load) -> Result<(Vec<Entry>, usize, Vec<String>), DrillError> {
        load.end().await;
        let entries = self.entries()?;
        let (removed, kept) = clean(&self.api, &self.account, &entries, &self.mark).await;
        Ok((entries, removed, kept))
    }

    /// The same after a signal or an error, for a while; what stays is on the list.
    async fn leave_early(
        &self,
        load: &mut Load,
        (left, posts): (&Left, usize),
        signals: &mut Signals,
        why: &DrillError,
    ) {
        let seconds = LEAVE.as_secs();
        tell(&format!("{why}: removing the posts, for {seconds} s at most; a signal ends that too"));
        let leave = async {
            let leave = tokio::time::timeout(LEAVE, self.leave(load)).await;
            leave.map_err(|_| DrillError::system(format!("not done within {seconds} s")))?
        };
        match signals.unless(leave).await {
            Ok((_, _, kept)) => {
                left.gone(posts);
                if kept.is_empty() {
                    tell("the posts are removed");
                }
                for post in kept {
                    let _ = left.add(post); // it stays on the list
                }
            }
            Err(error) => tell(&format!("not all posts are removed: {error}")),
        }
    }
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
    use crate::error::Kind;
    use axum::extract::Request;
    use axum::http::{Method as Verb, StatusCode};
    use axum::response::{IntoResponse as _, Response};
    use serde_json::json;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A deployment that lets everybody in and refuses every write with one status; counts the writes.
    async fn refusing(approved: Value, status: u16) -> (String, Arc<AtomicUsize>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let writes = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&writes);
        let answer = move |request: Request| async move {
            let body = match (request.method(), request.uri().path()) {
                (&Verb::POST, POSTS) => {
                    counted.fetch_add(1, Ordering::SeqCst);
                    let refused = json!({ "message": "refused" }).to_string();
                    return (StatusCode::from_u16(status).unwrap(), refused).into_response();
                }
                (&Verb::POST, _) => json!({ "record": { "id": "a", "approved": approved }, "token": "t" }),
                (&Verb::DELETE, _) => return StatusCode::NOT_FOUND.into_response(),
                _ => json!({ "items": [], "totalItems": 0 }),
            };
            Response::new(body.to_string().into())
        };
        let router = axum::Router::new().fallback(answer);
        tokio::spawn(async move { axum::serve(listener, router).await });
        (url, writes)
    }

    #[tokio::test]
    async fn nothing_is_redeployed_before_a_write_is_acknowledged() {
        for (approved, status, usage, wrote, words) in [
            (json!(false), 400, true, false, "not approved"),
            (Value::Null, 400, true, true, "the last answer: 400 refused"),
            (Value::Null, 503, false, true, "the last answer: 503 refused"),
        ] {
            let (url, writes) = refusing(approved, status).await;
            let folder = tempfile::tempdir().unwrap();
            let sign = folder.path().join("redeployed");
            let world = World {
                env: Box::new(|name| name.starts_with("ORACLENET_").then(|| "x".to_owned())),
                executable: "oraclenet".into(),
                directory: folder.path().to_owned(),
            };
            let (redeploy, left) = (format!("touch '{}'", sign.display()), Left::default());
            let asked = (url.as_str(), redeploy.as_str(), Duration::ZERO);
            let mut signals = Signals::listen().unwrap();
            let done = run(&world, asked, folder.path(), Clock::start(), &left, &mut signals).await;
            let error = done.expect_err("nobody may write");
            assert!(error.to_string().contains(words), "{error}");
            assert_eq!(error.kind() == Kind::Usage, usage, "{error}");
            assert_eq!((sign.exists(), writes.load(Ordering::SeqCst) > 0), (false, wrote), "{error}");
            assert_eq!(left.named(), Vec::<String>::new(), "{error}");
        }
    }

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
