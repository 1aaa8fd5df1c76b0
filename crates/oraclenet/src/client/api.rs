//! The server's API as verbs use it: ask, list, create; each in the way in which it may be repeated.
//!
//! [`Api::ask`] repeats as it is, so it is only for what can be done twice. [`Api::create`] repeats with the same id.
//! What is neither (votes) keeps its own loop with [`Tries`].

use super::World;
use super::credentials::{self, Held, Saved, Server, Token, Who};
use super::flags::Parsed;
use super::http::{Answer, Ask, Http};
use super::id::Id;
use super::output;
use super::retry::{Patience, Seen, Setback, USUAL};
use super::text;
use super::trouble::Trouble;
use super::verbs::{JSON, WAIT};
use reqwest::Method;
use serde_json::{Map, Value};
use std::time::Duration;
use tokio::sync::watch;

/// Rows of one page of a list that is read to its end.
const PAGE: u32 = 500;
/// Pages of such a list, at most.
const PAGES: u32 = 200;

/// What a write asks of the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// That it is logged in.
    Login,
    /// That it is approved as well.
    Approval,
}

/// One server, one caller.
pub(crate) struct Api<'a> {
    pub(crate) world: &'a World,
    pub(crate) http: Http,
    pub(crate) saved: Saved,
    who: Who,
    pub(crate) token: Option<Token>,
    /// The other server that the saved token is for.
    elsewhere: Option<Server>,
    pub(crate) json: bool,
    patience: Patience,
}

impl<'a> Api<'a> {
    /// Finds the server and the token; nothing is sent yet.
    ///
    /// # Errors
    /// The credentials or the flags cannot be used.
    pub(crate) fn open(world: &'a World, parsed: &Parsed, who: Who) -> Result<Self, Trouble> {
        // Nobody says stop: the process dies of its signal.
        let (_, stop) = watch::channel(false);
        Self::open_until(world, parsed, who, stop)
    }

    /// The same; everything ends when `stop` turns true.
    ///
    /// # Errors
    /// See [`Api::open`].
    pub(crate) fn open_until(
        world: &'a World,
        parsed: &Parsed,
        who: Who,
        stop: watch::Receiver<bool>,
    ) -> Result<Self, Trouble> {
        let oracle = Saved::read(world, Who::Oracle)?;
        let (server, _) = credentials::server(world, &oracle)?;
        let saved = if who == Who::Oracle { oracle } else { Saved::read(world, who)? };
        let (token, elsewhere) = match credentials::token(world, who, &saved, &server)? {
            Held::Token(token) => (Some(token), None),
            Held::Elsewhere(other) => (None, Some(other)),
            Held::Nothing => (None, None),
        };
        let wait = parsed.given(&WAIT).map(|text| text::duration("wait", text)).transpose()?;
        let patience = Patience { total: wait.unwrap_or(USUAL), insist: wait.is_some() };
        let http = Http::new(server, stop)?;
        Ok(Self { world, http, saved, who, token, elsewhere, json: parsed.on(&JSON), patience })
    }

    /// The same, or an error that says how to log in.
    ///
    /// # Errors
    /// Nobody is logged in, and those of [`Api::open`].
    pub(crate) fn logged_in(world: &'a World, parsed: &Parsed, who: Who) -> Result<Self, Trouble> {
        let api = Self::open(world, parsed, who)?;
        if api.token.is_some() { Ok(api) } else { Err(api.nobody()) }
    }

    /// Nobody is logged in.
    pub(crate) fn nobody(&self) -> Trouble {
        let server = self.http.server();
        let trouble = match self.who {
            Who::Oracle => Trouble::new(format!("you are not logged in at {server}"))
                .hint("`oraclenet login EMAIL PASSWORD`, or `oraclenet register NAME EMAIL PASSWORD`"),
            Who::Superuser => Trouble::new(format!("no superuser is logged in at {server}"))
                .hint("`oraclenet login --superuser EMAIL PASSWORD`, or set ORACLENET_SUPERUSER_TOKEN"),
        };
        match &self.elsewhere {
            Some(other) => trouble.cause(format!("the saved token is for {other} and is sent nowhere else")),
            None => trouble,
        }
    }

    /// A GET with the caller's token.
    pub(crate) fn get(&self, path: impl Into<String>) -> Ask {
        self.request(Method::GET, path)
    }

    /// A request with the caller's token.
    pub(crate) fn request(&self, method: Method, path: impl Into<String>) -> Ask {
        let token = self.token.as_ref().map(|token| token.text.clone());
        Ask { token, ..Ask::new(method, path) }
    }

    /// Sends what may be done twice until there is an answer, and gives the JSON of a good one.
    ///
    /// # Errors
    /// It was refused, or there was no answer in time; `what` says in the past tense what did not happen.
    pub(crate) fn ask(&self, what: &str, ask: &Ask) -> Result<Value, Trouble> {
        self.taken(what, self.answer(what, ask)?.0)
    }

    /// The answer, and whether an earlier try may have been done already.
    pub(crate) fn answer(&self, what: &str, ask: &Ask) -> Result<(Answer, bool), Trouble> {
        let mut tries = Tries::new(self, what);
        loop {
            match Seen::of(self.http.send(ask)) {
                Seen::Answer(answer) => return Ok((answer, tries.doubt)),
                Seen::Setback(setback) => tries.again(setback)?,
                Seen::Stopped => return Err(stopped(what)),
            }
        }
    }

    /// The JSON of a good answer.
    ///
    /// # Errors
    /// The server refused, or is none of ours.
    pub(crate) fn taken(&self, what: &str, answer: Answer) -> Result<Value, Trouble> {
        match (answer.status, answer.body) {
            (200..=299, Ok(body)) => Ok(body),
            (status, body) => Err(self.refused(what, status, answer.location, body)),
        }
    }

    /// Creates a record under this id, so that a repeat is recognised; gives the record.
    ///
    /// # Errors
    /// See [`Api::ask`].
    pub(crate) fn create(
        &self,
        what: &str,
        collection: &str,
        id: &Id,
        fields: Map<String, Value>,
    ) -> Result<Value, Trouble> {
        let path = format!("/api/collections/{collection}/records");
        let mut ask = self.request(Method::POST, path.as_str());
        let mut body = fields.clone();
        body.insert("id".to_owned(), id.as_str().into());
        ask.body = Some(body.into());
        let (answer, doubt) = self.answer(what, &ask)?;
        // A PocketBase refuses the second of two equal creates; then the first one's record is the answer.
        if answer.status == 400 && not_unique(&answer) {
            let there = self.answer(what, &self.get(format!("{path}/{id}")))?.0;
            if let (200, Ok(record)) = (there.status, there.body)
                && same(&record, &fields)
                && self.owns(&record, doubt)
            {
                return Ok(record);
            }
        }
        self.taken(what, answer)
    }

    /// Whether a record that carries our id is ours: its author is the caller. A record without an owner in it (an
    /// account) is ours when this run has asked for it before.
    fn owns(&self, record: &Value, doubt: bool) -> bool {
        let owner = ["author", "oracle", "follower"].into_iter().find_map(|key| record.get(key)?.as_str());
        match owner {
            Some(owner) => self.my_id().is_ok_and(|me| me.as_str() == owner),
            None => doubt,
        }
    }

    /// The first `count` records of a list.
    ///
    /// # Errors
    /// See [`Api::ask`].
    pub(crate) fn list(
        &self,
        what: &str,
        collection: &str,
        count: u32,
        query: &[(&'static str, String)],
    ) -> Result<Value, Trouble> {
        let mut ask = self.get(format!("/api/collections/{collection}/records"));
        ask.query = vec![("perPage", count.to_string())];
        ask.query.extend(query.iter().cloned());
        self.ask(what, &ask)
    }

    /// All records of a list, page by page. The query must sort by something that does not change.
    ///
    /// # Errors
    /// See [`Api::ask`]; and the list does not end.
    pub(crate) fn list_all(
        &self,
        what: &str,
        collection: &str,
        query: &[(&'static str, String)],
    ) -> Result<Vec<Value>, Trouble> {
        let mut all = Vec::new();
        for page in 1..=PAGES {
            let mut query = query.to_vec();
            query.push(("page", page.to_string()));
            query.push(("skipTotal", "1".to_owned()));
            let list = self.list(what, collection, PAGE, &query)?;
            let items = items(&list);
            all.extend_from_slice(items);
            if items.len() < PAGE as usize {
                return Ok(all);
            }
        }
        Err(Trouble::new(what).cause(format!("there are more than {} records", PAGE * PAGES)))
    }

    /// The caller's own account.
    ///
    /// # Errors
    /// The token is not valid any more, and those of [`Api::ask`].
    pub(crate) fn me(&self) -> Result<Value, Trouble> {
        let what = "your account could not be read";
        let (answer, _) = self.answer(what, &self.get("/api/oracles/me"))?;
        if answer.status == 401 {
            return Err(self.expired());
        }
        self.taken(what, answer)
    }

    /// The caller's id: the saved one where the token is the saved one, else the server is asked.
    ///
    /// # Errors
    /// See [`Api::me`].
    pub(crate) fn my_id(&self) -> Result<Id, Trouble> {
        let from_file = self.token.as_ref().is_some_and(|token| token.source == credentials::Source::File);
        let saved = self.saved.get("oracle_id").filter(|_| from_file).and_then(Id::of);
        match saved {
            Some(id) => Ok(id),
            None => Id::of(field(&self.me()?, "id"))
                .ok_or_else(|| Trouble::new("the server gave no id for your account")),
        }
    }

    /// The token is not valid any more.
    pub(crate) fn expired(&self) -> Trouble {
        let again = match self.who {
            Who::Oracle => "`oraclenet login EMAIL PASSWORD` gets a new one",
            Who::Superuser => "`oraclenet login --superuser EMAIL PASSWORD` gets a new one",
        };
        Trouble::new(format!("{} does not accept your token", self.http.server()))
            .cause("it has expired, the password was changed, or it is for another server")
            .hint(again)
            .status(401)
    }

    /// Says why a write was refused where the server does not: to it, an expired token and an account that is not
    /// approved are both only a rule that was not met.
    pub(crate) fn explained(&self, trouble: Trouble, needs: Needs) -> Trouble {
        if !(matches!(trouble.status, Some(400 | 401 | 403 | 404)) && trouble.unexplained()) {
            return trouble;
        }
        match self.me() {
            Err(expired) if expired.status == Some(401) => trouble
                .cause("your token is not valid any more")
                .hint("`oraclenet login EMAIL PASSWORD` gets a new one"),
            Ok(me) if me["approved"] == false && needs == Needs::Approval => trouble
                .cause("your account is not approved yet")
                .hint("a superuser of the server has to approve it; `oraclenet me` shows when that has happened"),
            _ => trouble,
        }
    }

    /// Repeats what the server said; with `--json` its own JSON goes to stdout as well.
    fn refused(
        &self,
        what: &str,
        status: u16,
        location: Option<String>,
        body: Result<Value, String>,
    ) -> Trouble {
        let server = self.http.server();
        let trouble = match &body {
            _ if (300..400).contains(&status) => {
                Trouble::new(format!("{what}: {server} answers with a redirect (HTTP {status})"))
                    .cause(format!("it points to {}", location.as_deref().unwrap_or("nowhere")))
                    .hint("`oraclenet config URL` sets the server's own address")
            }
            Err(text) => Trouble::new(format!("{what}: the answer of {server} is no JSON (HTTP {status})"))
                .cause(output::one_line(text, 200))
                .hint("is this the address of an OracleNet server? `oraclenet config URL` sets it"),
            Ok(body) => {
                if self.json && !body.is_null() {
                    let _ = output::json(self.world, body);
                }
                let said = body.get("message").and_then(Value::as_str).unwrap_or("no reason given");
                let trouble = Trouble::new(format!("{what}: {said} (HTTP {status})"));
                let reasons = body.get("data").and_then(Value::as_object).into_iter().flatten();
                reasons.fold(trouble, |trouble, (name, reason)| {
                    match reason.get("message").and_then(Value::as_str) {
                        Some(message) => trouble.cause(format!("{name}: {message}")),
                        None => trouble.cause(format!("{name}: {reason}")),
                    }
                })
            }
        };
        let trouble = trouble.status(status);
        if status == 429 {
            trouble.hint("the server limits how often you may ask; wait a little")
        } else {
            trouble
        }
    }
}

/// One request's tries.
pub(crate) struct Tries<'a> {
    api: &'a Api<'a>,
    what: &'a str,
    begun: Duration,
    count: u32,
    /// Whether the server was there once.
    met: bool,
    /// Whether one of the tries may have been done.
    pub(crate) doubt: bool,
}

impl<'a> Tries<'a> {
    /// None yet.
    pub(crate) fn new(api: &'a Api<'a>, what: &'a str) -> Self {
        Self { api, what, begun: api.world.clock.boot(), count: 0, met: false, doubt: false }
    }

    /// Waits for the next one.
    ///
    /// # Errors
    /// There is none: it has taken too long, or there never was a server.
    pub(crate) fn again(&mut self, setback: Setback) -> Result<(), Trouble> {
        self.count += 1;
        self.doubt |= setback.doubt;
        let (api, world) = (self.api, self.api.world);
        let spent = world.clock.boot().saturating_sub(self.begun);
        let wait = api.patience.next(&setback, self.met, self.count, spent, world.random.next_u64());
        self.met |= setback.contact;
        let Some(wait) = wait else { return Err(self.given_up(&setback, spent)) };
        output::talk(
            world,
            &format!(
                "{}: {}; again in {}",
                api.http.server(),
                output::one_line(&setback.text, 200),
                text::spelled(wait)
            ),
        );
        if api.http.pause(wait) { Ok(()) } else { Err(stopped(self.what)) }
    }

    fn given_up(&self, setback: &Setback, spent: Duration) -> Trouble {
        let (what, server) = (self.what, self.api.http.server());
        if !setback.contact && !self.met {
            return Trouble::unreachable(format!("{what}: {server} can't be reached"))
                .cause(setback.text.clone())
                .hint("is the server running, and is this its address? `oraclenet config URL` sets it");
        }
        let trouble = Trouble::unreachable(format!(
            "{what}: {server} gave no good answer within {}",
            text::spelled(spent)
        ))
        .cause(output::one_line(&setback.text, 200));
        match self.doubt {
            true => trouble.cause("whether it was done all the same is not known"),
            false => trouble.hint("nothing was changed; try again later, or with --wait 5m"),
        }
    }
}

/// A signal came.
pub(crate) fn stopped(what: &str) -> Trouble {
    Trouble::new(format!("{what}: stopped by a signal"))
}

/// A text of a record; empty where there is none.
pub(crate) fn field<'v>(record: &'v Value, name: &str) -> &'v str {
    record.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// The records of a list.
pub(crate) fn items(list: &Value) -> &[Value] {
    list.get("items").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Whether some field was refused because a record has that value already.
pub(crate) fn not_unique(answer: &Answer) -> bool {
    let data = answer.body.as_ref().ok().and_then(|body| body.get("data")).and_then(Value::as_object);
    data.into_iter().flatten().any(|(_, reason)| reason["code"] == "validation_not_unique")
}

/// Whether a record holds what was sent; what a server does not show (passwords, a hidden address) is not compared.
fn same(record: &Value, sent: &Map<String, Value>) -> bool {
    let hidden = ["password", "passwordConfirm", "email"];
    sent.iter()
        .filter(|(name, _)| !hidden.contains(&name.as_str()))
        .all(|(name, value)| record.get(name) == Some(value))
}

/// A text as a literal of the filter language, where that can express it: its only escape is a quote's.
pub(crate) fn quoted(text: &str) -> Option<String> {
    let quote = ['\'', '"'].into_iter().find(|quote| !text.contains(*quote))?;
    (!text.contains('\\')).then(|| format!("{quote}{text}{quote}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_literal_is_made_only_where_the_language_has_one() {
        for (text, literal) in [
            ("Ada", Some("'Ada'")),
            ("O'Hara", Some("\"O'Hara\"")),
            ("say \"hi\"", Some("'say \"hi\"'")),
            ("'\"", None),
            ("back\\", None),
        ] {
            assert_eq!(quoted(text).as_deref(), literal, "{text}");
        }
    }

    #[test]
    fn a_record_is_the_one_that_was_sent_only_with_the_same_content() {
        let record = json!({"title": "a", "content": "b", "author": "c", "upvotes": 3});
        for (sent, equal) in [
            (json!({"title": "a", "content": "b"}), true),
            (json!({"title": "a", "password": "hush"}), true),
            (json!({"title": "a", "content": "c"}), false),
            (json!({"title": "a", "parent": "x"}), false),
        ] {
            assert_eq!(same(&record, sent.as_object().expect("an object")), equal, "{sent}");
        }
    }
}
