//! `heartbeat`: presence, once or until a signal.

use super::super::World;
use super::super::api::{Api, Needs, field};
use super::super::credentials::{Saved, Source, Who};
use super::super::flags::Parsed;
use super::super::http::NoAnswer;
use super::super::id::Id;
use super::super::output;
use super::super::text;
use super::super::trouble::Trouble;
use super::{EVERY, WAIT};
use reqwest::Method;
use serde_json::{Map, Value, json};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::time::Duration;
use tokio::sync::watch;

/// An oracle counts as present for this long after a heartbeat.
const WINDOW: Duration = Duration::from_secs(5 * 60);
/// Nobody's presence is news more often than this.
const SHORTEST: Duration = Duration::from_secs(1);
/// The first wait after an error; it doubles up to the usual interval.
const FIRST: Duration = Duration::from_secs(1);
/// A token lives for a week; it is renewed after a day, which leaves six for a server that is away.
const RENEW: Duration = Duration::from_secs(24 * 3600);

/// Says that the caller is there.
pub(super) fn heartbeat(world: &World, parsed: &Parsed) -> Result<(), Trouble> {
    let status = parsed.operand(0).unwrap_or("online");
    if !matches!(status, "online" | "away") {
        return Err(Trouble::usage(format!("`{status}` is no presence")).hint("online or away"));
    }
    let Some(every) = parsed.given(&EVERY) else { return once(world, parsed, status) };
    if parsed.given(&WAIT).is_some() {
        return Err(Trouble::usage("--every tries for ever, so --wait makes no sense with it"));
    }
    let every = text::duration("every", every)?;
    if !(SHORTEST..WINDOW).contains(&every) {
        return Err(Trouble::usage(format!("--every: {} is out of bounds", text::spelled(every)))
            .cause("a heartbeat holds for 5 minutes, and one a second is plenty"));
    }
    let api = Api::open_until(world, parsed, Who::Oracle, signals()?)?;
    if api.token.is_none() {
        return Err(api.nobody());
    }
    keep(api, status, every)
}

fn once(world: &World, parsed: &Parsed, status: &str) -> Result<(), Trouble> {
    let api = Api::logged_in(world, parsed, Who::Oracle)?;
    let fields = Map::from_iter([("status".to_owned(), status.into())]);
    let created = api.create("the heartbeat was not taken", "heartbeats", &Id::new(&*world.random), fields);
    let record = created.map_err(|trouble| api.explained(trouble, Needs::Login))?;
    if api.json { output::json(world, &record) } else { output::text(world, &format!("You are {status}.\n")) }
}

/// What one heartbeat of many came to.
enum Beat {
    Taken(Value),
    /// It was not taken, for a reason that passes.
    Missed(String),
    Stopped,
}

/// One heartbeat after another. Each has an id of its own, so a lost one is simply followed by the next.
fn keep(mut api: Api<'_>, status: &str, every: Duration) -> Result<(), Trouble> {
    let world = api.world;
    let mut renewed = None;
    let (mut missed, mut said) = (0_u32, false);
    loop {
        let wait = match beat(&api, status)? {
            Beat::Stopped => break,
            Beat::Taken(record) => {
                if api.json {
                    output::json_line(world, &record)?;
                } else if !said || missed > 0 {
                    let more = if said { " again" } else { "" };
                    output::talk(
                        world,
                        &format!("You are {status}{more}; the next heartbeat is in {}", text::spelled(every)),
                    );
                }
                (missed, said) = (0, true);
                // The first one at once: nobody knows how old the saved token is.
                let due = renewed.is_none_or(|then| world.clock.boot().saturating_sub(then) >= RENEW);
                if due && renew(&mut api) {
                    renewed = Some(world.clock.boot());
                }
                every
            }
            Beat::Missed(reason) => {
                let wait = FIRST.saturating_mul(1 << missed.min(10)).min(every);
                missed += 1;
                let server = api.http.server();
                output::talk(
                    world,
                    &format!("No heartbeat at {server}: {reason}; again in {}", text::spelled(wait)),
                );
                wait
            }
        };
        if !api.http.pause(wait) {
            break;
        }
    }
    output::talk(world, "Stopped.");
    Ok(())
}

/// Sends one.
///
/// # Errors
/// The server refuses it for good: the token is not valid any more.
fn beat(api: &Api<'_>, status: &str) -> Result<Beat, Trouble> {
    let mut ask = api.request(Method::POST, "/api/collections/heartbeats/records");
    ask.body = Some(json!({"id": Id::new(&*api.world.random).as_str(), "status": status}));
    let answer = match api.http.send(&ask) {
        Ok(answer) => answer,
        Err(NoAnswer::Lost(reason) | NoAnswer::NotSent(reason)) => {
            return Ok(Beat::Missed(output::one_line(&reason, 200)));
        }
        Err(NoAnswer::Stopped) => return Ok(Beat::Stopped),
    };
    let passing = answer.status >= 500 || answer.status == 429 || answer.body.is_err();
    if passing {
        let body = answer.body.as_ref().ok();
        let message = body.map_or("that is no answer of an OracleNet server", |body| field(body, "message"));
        return Ok(Beat::Missed(format!("{} (HTTP {})", output::one_line(message, 200), answer.status)));
    }
    match api.taken("the heartbeat was not taken", answer) {
        Ok(record) => Ok(Beat::Taken(record)),
        Err(trouble) => Err(api.explained(trouble, Needs::Login)),
    }
}

/// Gets a fresh token for the one in use, and saves it if that one is still the saved one. A failure waits for the
/// next heartbeat.
fn renew(api: &mut Api<'_>) -> bool {
    let ask = api.request(Method::POST, "/api/collections/oracles/auth-refresh");
    let Ok(answer) = api.http.send(&ask) else { return false };
    let (200, Ok(body)) = (answer.status, answer.body) else { return false };
    let (Some(old), fresh) = (api.token.as_mut(), field(&body, "token")) else { return false };
    if fresh.is_empty() || !fresh.bytes().all(|byte| byte.is_ascii_graphic()) {
        return false;
    }
    let before = std::mem::replace(&mut old.text, fresh.to_owned());
    output::talk(api.world, "The login is renewed");
    if old.source == Source::File {
        match Saved::read(api.world, Who::Oracle) {
            Ok(mut saved) if saved.get("token") == Some(&before) => {
                saved.set("token", fresh);
                if let Err(trouble) = saved.save(&*api.world.random) {
                    output::talk(api.world, &trouble.to_string());
                }
            }
            _ => {}
        }
    }
    true
}

/// Turns true with the first SIGINT or SIGTERM.
fn signals() -> Result<watch::Receiver<bool>, Trouble> {
    let (tell, stop) = watch::channel(false);
    let explain = |error: std::io::Error| Trouble::new("can't listen for signals").cause(error.to_string());
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(explain)?;
    let wait = move || {
        for _ in signals.forever() {
            let _ = tell.send(true);
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(wait).map_err(explain)?;
    Ok(stop)
}
