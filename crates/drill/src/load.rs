//! The writers: accounts of their own, one write at a time, at a steady rate, never a second try.

use crate::api::Api;
use crate::clock::{Clock, Ms};
use crate::engine::SUPERUSER;
use crate::error::DrillError;
use crate::expect::FRESH;
use crate::ledger::{Answer, Deed, Ledger};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Where posts are made and listed.
pub const POSTS: &str = "/api/collections/posts/records";

/// Every so many writes of a writer one is a vote.
const VOTE_EVERY: u64 = 4;

/// An account that may write.
#[derive(Debug, Clone)]
pub struct Account {
    /// Its record's id.
    pub id: String,
    /// Its token.
    pub token: String,
    /// Whether the record says that it may write; nothing where it does not say.
    pub approved: Option<bool>,
}

/// Signs in.
///
/// # Errors
/// It is refused.
pub async fn sign_in(
    api: &Api,
    collection: &str,
    identity: &str,
    password: &str,
) -> Result<Account, DrillError> {
    let path = format!("/api/collections/{collection}/auth-with-password");
    let body = json!({ "identity": identity, "password": password });
    let told = api.must(Method::POST, &path, "", &body).await?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let approved = told["record"]["approved"].as_bool();
    Ok(Account { id: text(&told["record"]["id"]), token: text(&told["token"]), approved })
}

/// Registers and approves `count` oracles; gives them and the superuser's token.
///
/// # Errors
/// A request of this is not answered with 2xx.
pub async fn register(api: &Api, count: usize) -> Result<(Vec<Account>, String), DrillError> {
    let superuser = sign_in(api, "_superusers", SUPERUSER.0, SUPERUSER.1).await?;
    let mut accounts = Vec::new();
    for number in 1..=count {
        let email = format!("writer-{number}@oraclenet.local");
        let password = format!("a-password-of-writer-{number}");
        let body = json!({
            "name": format!("writer-{number}"), "email": email, "password": password, "passwordConfirm": password,
        });
        let made = api.must(Method::POST, "/api/collections/oracles/records", "", &body).await?;
        let id = made["id"].as_str().unwrap_or_default();
        let path = format!("/api/collections/oracles/records/{id}");
        api.must(Method::PATCH, &path, &superuser.token, &json!({ "approved": true })).await?;
        accounts.push(sign_in(api, "oracles", &email, &password).await?);
    }
    Ok((accounts, superuser.token))
}

/// What all writers of a scenario share.
#[derive(Clone)]
pub struct Pen {
    /// Where they write to.
    pub api: Api,
    /// What they keep.
    pub ledger: Ledger,
    /// Between two writes of one writer, unless the first takes longer.
    pub pace: Duration,
    /// Names what this run writes.
    pub mark: u64,
    /// The last acknowledged post of each writer: what others vote for.
    pub posted: Arc<Mutex<Vec<Option<String>>>>,
}

/// Writers at work.
pub struct Load {
    tasks: Vec<JoinHandle<()>>,
    stop: watch::Sender<bool>,
}

impl Load {
    /// Lets each account write. `shift` tells the writers of several loads apart.
    #[must_use]
    pub fn start(pen: &Pen, accounts: &[Account], shift: usize) -> Self {
        let (stop, stopped) = watch::channel(false);
        pen.posted.lock().unwrap_or_else(PoisonError::into_inner).resize(accounts.len(), None);
        let tasks = accounts.iter().enumerate().map(|(number, account)| {
            let (pen, account, stopped) = (pen.clone(), account.clone(), stopped.clone());
            tokio::spawn(write(pen, account, number, shift, stopped))
        });
        Self { tasks: tasks.collect(), stop }
    }

    /// Lets each finish the write it is at. Who gives up waiting has asked them all the same, and may wait again.
    pub async fn end(&mut self) {
        self.stop.send_replace(true);
        while let Some(task) = self.tasks.last_mut() {
            let _ = task.await; // a panic in a writer shows as an entry without an answer
            self.tasks.pop();
        }
    }
}

async fn write(pen: Pen, account: Account, number: usize, shift: usize, stopped: watch::Receiver<bool>) {
    let name = format!("w{shift}{number}");
    let mut ticks = tokio::time::interval(pen.pace);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut voted = String::new();
    let mut own = VecDeque::new();
    for count in 0_u64.. {
        ticks.tick().await;
        if *stopped.borrow() {
            return;
        }
        let candidate = if count % VOTE_EVERY == VOTE_EVERY - 1 { pen.neighbour(number) } else { None };
        let deed = match candidate.filter(|post| *post != voted && shift == 0) {
            Some(post) => {
                voted.clone_from(&post);
                Deed::Vote { oracle: account.id.clone(), post }
            }
            None => pen.post(&name, shift * 10 + number, count),
        };
        let done = pen.act(&name, &account.token, deed.clone()).await;
        if let (true, Deed::Post { id, title }) = (done, deed) {
            pen.posted.lock().unwrap_or_else(PoisonError::into_inner)[number] = Some(id.clone());
            own.push_back((pen.ledger.now(), id, title));
        }
        if let Some((id, title)) = last_that_must_show(&mut own, pen.ledger.now()) {
            pen.read(&name, id, title).await;
        }
    }
}

/// The last of a writer's own posts that is acknowledged for so long that every container must show it.
fn last_that_must_show(own: &mut VecDeque<(Ms, String, String)>, now: Ms) -> Option<(&str, &str)> {
    let old = |post: &(Ms, String, String)| post.0 + FRESH <= now;
    while own.get(1).is_some_and(old) {
        own.pop_front();
    }
    own.front().filter(|post| old(post)).map(|(_, id, title)| (id.as_str(), title.as_str()))
}

impl Pen {
    /// A post that nobody has written before.
    #[must_use]
    pub fn post(&self, name: &str, writer: usize, count: u64) -> Deed {
        let id =
            format!("{:0>8}{writer:02}{:0>5}", base36(self.mark / 1_000_000 % 36_u64.pow(8)), base36(count));
        Deed::Post { id, title: format!("oraclenet prove {} {name} {count}", base36(self.mark)) }
    }

    /// Writes down, sends, writes down what came; whether it was 2xx.
    pub async fn act(&self, writer: &str, token: &str, deed: Deed) -> bool {
        let (path, body) = match &deed {
            Deed::Post { id, title } => {
                let content = "Written by `oraclenet prove`, which counts what is still there.";
                (POSTS.to_owned(), json!({ "id": id, "title": title, "content": content }))
            }
            Deed::Vote { post, .. } => (format!("/api/posts/{post}/upvote"), Value::Null),
            Deed::Read { .. } => return false, // see `read`
        };
        let entry = self.ledger.send(writer, deed);
        let answer = match self.api.send(Method::POST, &path, token, &body).await {
            Ok(reply) if (200..300).contains(&reply.status) => Answer::Acknowledged,
            Ok(reply) => {
                Answer::Refused { status: reply.status, retry_after: reply.retry_after, said: reply.said() }
            }
            Err(why) => Answer::Cut(why),
        };
        let done = answer == Answer::Acknowledged;
        self.ledger.answer(entry, answer);
        done
    }

    /// Looks at a post as any reader does; what came is in the ledger too.
    pub async fn read(&self, reader: &str, post: &str, title: &str) {
        let entry = self.ledger.send(reader, Deed::Read { post: post.to_owned() });
        let answer = match self.api.send(Method::GET, &format!("{POSTS}/{post}"), "", &Value::Null).await {
            Ok(reply) if reply.status == 200 && reply.body["title"] == title => Answer::Found,
            Ok(reply) if matches!(reply.status, 200 | 404) => Answer::Missing,
            Ok(reply) => {
                Answer::Refused { status: reply.status, retry_after: reply.retry_after, said: reply.said() }
            }
            Err(why) => Answer::Cut(why),
        };
        self.ledger.answer(entry, answer);
    }

    /// The last post of the writer beside.
    fn neighbour(&self, number: usize) -> Option<String> {
        let posted = self.posted.lock().unwrap_or_else(PoisonError::into_inner);
        posted.get((number + 1) % posted.len().max(1)).cloned().flatten()
    }
}

/// Waits until `enough` writes were answered with 2xx; `false` if that takes longer than `ms`.
pub async fn wait_for(ledger: &Ledger, enough: usize, clock: Clock, ms: u64) -> bool {
    let until = clock.ms() + ms;
    while ledger.acknowledged() < enough {
        if clock.ms() > until {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    true
}

/// Digits and small letters.
#[must_use]
pub fn base36(mut number: u64) -> String {
    let mut digits = Vec::new();
    loop {
        digits.push(char::from_digit(u32::try_from(number % 36).unwrap_or(0), 36).unwrap_or('0'));
        number /= 36;
        if number == 0 {
            return digits.into_iter().rev().collect();
        }
    }
}
