//! `vote`: makes the caller's vote what it is to be.
//!
//! The server's routes toggle: the same vote again takes it back. So a vote whose answer was lost is never repeated
//! before the vote that now stands has been read, and after any doubt it is read once more.

use super::super::World;
use super::super::api::{Api, Needs, Tries, field, items, stopped};
use super::super::credentials::Who;
use super::super::flags::Parsed;
use super::super::http::Answer;
use super::super::id::Id;
use super::super::output;
use super::super::retry::Seen;
use super::super::trouble::Trouble;
use super::COMMENT;
use reqwest::Method;
use serde_json::{Value, json};

/// What a vote is on.
struct Target {
    /// `post` or `comment`.
    kind: &'static str,
    id: Id,
}

/// A vote, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Vote {
    Up,
    Down,
    None,
}

impl Vote {
    fn parse(text: &str) -> Result<Self, Trouble> {
        match text {
            "up" => Ok(Self::Up),
            "down" => Ok(Self::Down),
            "none" => Ok(Self::None),
            _ => {
                Err(Trouble::usage(format!("`{text}` is no vote")).hint("up, down, or none to take it back"))
            }
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::None => "none",
        }
    }

    /// The route that turns `now` into `self`; `None` if nothing is to do.
    fn route(self, now: Self) -> Option<&'static str> {
        match (self, now) {
            (Self::Up, Self::Down | Self::None) | (Self::None, Self::Up) => Some("upvote"),
            (Self::Down, Self::Up | Self::None) | (Self::None, Self::Down) => Some("downvote"),
            (Self::Up, Self::Up) | (Self::Down, Self::Down) | (Self::None, Self::None) => None,
        }
    }
}

/// Votes.
pub(super) fn vote(world: &World, parsed: &Parsed) -> Result<(), Trouble> {
    let wanted = Vote::parse(parsed.operand(0).unwrap_or_default())?;
    let target = match (parsed.operand(1), parsed.given(&COMMENT)) {
        (Some(text), None) => Target { kind: "post", id: Id::parse("post", text)? },
        (None, Some(text)) => Target { kind: "comment", id: Id::parse("comment", text)? },
        (Some(_), Some(_)) => return Err(Trouble::usage("a post and --comment can't be given together")),
        (None, None) => {
            return Err(Trouble::usage("the id of a post is needed, or --comment with a comment's"));
        }
    };
    let api = Api::logged_in(world, parsed, Who::Oracle)?;
    let me = api.my_id()?;
    let said = match settle(&api, &me, &target, wanted)
        .map_err(|trouble| api.explained(trouble, Needs::Approval))?
    {
        Some(said) => said,
        None => standing(&api, &target, wanted)?,
    };
    if api.json {
        return output::json(world, &said);
    }
    let [up, down] = ["upvotes", "downvotes"].map(|key| said[key].as_f64().unwrap_or_default());
    output::text(
        world,
        &format!("Your vote: {}. The {} has {up} up, {down} down.\n", wanted.words(), target.kind),
    )
}

/// Brings the vote about; gives what the server said to it, or nothing if it stood already when it was last read.
fn settle(api: &Api<'_>, me: &Id, target: &Target, wanted: Vote) -> Result<Option<Value>, Trouble> {
    let what = "the vote was not cast";
    let mut tries = Tries::new(api, what);
    loop {
        let now = mine(api, me, target)?;
        let Some(route) = wanted.route(now) else { return Ok(None) };
        let ask = api.request(Method::POST, format!("/api/{}s/{}/{route}", target.kind, target.id));
        match Seen::of(api.http.send(&ask)) {
            Seen::Setback(setback) => tries.again(setback)?,
            Seen::Stopped => return Err(stopped(what)),
            // A vote of which the answer was lost may have arrived in between and been taken back by this one.
            Seen::Answer(Answer { status: 200..=299, .. }) if tries.doubt => tries.doubt = false,
            Seen::Answer(answer) => return api.taken(what, answer).map(Some),
        }
    }
}

/// The vote that stands.
fn mine(api: &Api<'_>, me: &Id, target: &Target) -> Result<Vote, Trouble> {
    let filter = format!("oracle='{me}' && target_{}='{}'", target.kind, target.id);
    let list = api.list("your vote could not be read", "votes", 1, &[("filter", filter)])?;
    let value = items(&list).first().and_then(|vote| vote["value"].as_f64()).unwrap_or_default();
    Ok(match value {
        value if value > 0.0 => Vote::Up,
        value if value < 0.0 => Vote::Down,
        _ => Vote::None,
    })
}

/// What the vote routes would answer, for a vote that they were not asked for.
fn standing(api: &Api<'_>, target: &Target, wanted: Vote) -> Result<Value, Trouble> {
    let path = format!("/api/collections/{}s/records/{}", target.kind, target.id);
    let record = api.ask("the vote stands, but its target can't be read", &api.get(path))?;
    let [up, down] = ["upvotes", "downvotes"].map(|key| record[key].clone());
    let score = up.as_f64().unwrap_or_default() - down.as_f64().unwrap_or_default();
    #[allow(
        clippy::cast_possible_truncation,
        reason = "counts of votes; the routes cut them to whole numbers too"
    )]
    let score = score as i64;
    let author = json!({"id": field(&record, "author")});
    let message = format!("Your vote is {}.", wanted.words());
    Ok(
        json!({"success": true, "message": message, "upvotes": up, "downvotes": down, "score": score, "author": author}),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_toggling_routes_lead_from_any_vote_to_any() {
        // What the server makes of a vote.
        let toggled = |now: Vote, route: &str| match (now, route) {
            (Vote::Up, "upvote") | (Vote::Down, "downvote") => Vote::None,
            (_, "upvote") => Vote::Up,
            (_, _) => Vote::Down,
        };
        for now in [Vote::Up, Vote::Down, Vote::None] {
            for wanted in [Vote::Up, Vote::Down, Vote::None] {
                let then = wanted.route(now).map_or(now, |route| toggled(now, route));
                assert_eq!(then, wanted, "from {now:?}");
            }
        }
    }
}
