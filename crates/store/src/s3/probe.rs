//! The raw requests of a probe: conditions, permissions and clock of a service, told from its answers.
//!
//! All questions are asked of one object, so that a service that lets us write but not delete is left with one.

use super::answer::{Answer, parse_xml};
use super::client::Ask;
use super::{NoAnswer, S3Store, Setback, Shared, upload};
use crate::ErrorKind;
use crate::probe::{Answer as Said, Findings, Question, Rows};
use bytes::Bytes;
use reqwest::Method;
use serde::Deserialize;
use std::time::Duration;

const FIRST: &[u8] = b"litekeep doctor: the first content";
const SECOND: &[u8] = b"litekeep doctor: another content, longer than the first";

/// An ETag that no object has.
const NO_ETAG: &str = "\"00000000000000000000000000000000\"";

/// Looks at a listing that does not show the object yet, and the pause between two.
const LOOKS: u32 = 6;
const PAUSE: Duration = Duration::from_millis(300);

/// With these codes a 403 says what we may not; with any other, that it does not know us (a wrong key, a wrong time).
const FORBIDDEN: [&str; 5] = ["", "AccessDenied", "AllAccessDisabled", "UnauthorizedAccess", "Forbidden"];

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listing {
    #[serde(default)]
    contents: Vec<Listed>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    key: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Begun {
    upload_id: String,
}

/// No answer to judge.
enum Halt {
    Stopped,
    Silent(ErrorKind, String),
}

impl S3Store {
    /// Asks everything, in a folder of the replica that is the probe's alone.
    pub(crate) fn probe(&self, folder: &str, stop: &dyn Fn() -> bool) -> Findings {
        let key = self.shared.full(&format!("{folder}/object"));
        let mut probe = Probe {
            shared: &self.shared,
            prefix: self.shared.full(&format!("{folder}/")),
            key,
            stop,
            rows: Rows::default(),
            requests: 0,
            etag: None,
            written: false,
            upload: None,
            keeps_versions: false,
            unreached: ErrorKind::FixConfig,
            left: Vec::new(),
        };
        probe.questions();
        let interrupted = stop();
        probe.clean();
        probe.findings(interrupted)
    }
}

struct Probe<'a> {
    shared: &'a Shared,
    prefix: String,
    key: String,
    stop: &'a dyn Fn() -> bool,
    rows: Rows,
    requests: u32,
    /// The object's ETag as the service spelled it last.
    etag: Option<String>,
    /// A put was sent: the object may stand, whatever the answer was.
    written: bool,
    /// An upload that was begun and not ended; `Some(None)` if the answer with its id was lost.
    upload: Option<Option<String>>,
    keeps_versions: bool,
    unreached: ErrorKind,
    left: Vec<String>,
}

impl Probe<'_> {
    fn questions(&mut self) {
        if !self.reach() {
            return;
        }
        if self.write() {
            self.read();
            self.create_only();
            self.list_after_put();
            self.ranges();
            self.if_match();
            self.multipart();
            self.conditional_delete();
        } else {
            self.read_nothing();
        }
        self.delete();
    }

    /// Sends a request until it has an answer that is more than passing trouble; with it, how often that was tried.
    fn tried(&mut self, ask: Ask) -> Result<(Answer, u32), Halt> {
        if (self.stop)() {
            return Err(Halt::Stopped);
        }
        self.send(ask)
    }

    fn ask(&mut self, ask: Ask) -> Result<Answer, Halt> {
        self.tried(ask).map(|(answer, _)| answer)
    }

    /// The same, also after the caller said stop.
    fn send(&mut self, ask: Ask) -> Result<(Answer, u32), Halt> {
        let about = self.shared.object(ask.key.as_deref().unwrap_or(&self.prefix));
        let (mut tries, shared) = (0, self.shared);
        let answer = shared.retry("probe", &about, |_| {
            tries += 1;
            let answer = shared.client.ask(ask.clone()).map_err(NoAnswer::setback)?;
            let passing = |setback: &Setback| matches!(setback.kind, ErrorKind::Retry | ErrorKind::Wait);
            match (!answer.is_success()).then(|| answer.setback()).filter(passing) {
                Some(setback) => Err(setback),
                None => Ok(answer),
            }
        });
        self.requests = self.requests.saturating_add(tries);
        answer
            .map(|answer| (answer, tries))
            .map_err(|error| Halt::Silent(error.kind(), error.cause.to_string()))
    }

    fn tell(&mut self, question: Question, said: Said, detail: impl Into<String>) {
        self.rows.tell(question, said, detail);
    }

    fn unknown(&mut self, question: Question, halt: Halt) {
        let text = match halt {
            Halt::Stopped => "not asked: interrupted".to_owned(),
            Halt::Silent(_, text) => text,
        };
        self.tell(question, Said::Unknown, text);
    }

    /// A permission, by the answer to what needs it.
    fn permission(&mut self, question: Question, answer: &Answer) -> bool {
        let said = match answer.status {
            200..=299 => Said::Yes,
            401 | 403 => Said::No,
            _ => Said::Unknown,
        };
        let text = if said == Said::Yes { "allowed".to_owned() } else { answer.setback().text };
        self.tell(question, said, text);
        said == Said::Yes
    }

    fn listing(&self) -> Ask {
        Ask::new(Method::GET, None).query("list-type", "2").query("prefix", self.prefix.as_str())
    }

    fn put(&mut self, content: &'static [u8]) -> Ask {
        self.written = true;
        let ask = Ask::new(Method::PUT, Some(self.key.clone())).body(Bytes::from_static(content));
        self.as_an_object(ask)
    }

    /// With the headers of every object of a replica: a bucket's policy may ask for them.
    fn as_an_object(&self, ask: Ask) -> Ask {
        self.shared.new_object(ask, self.shared.clock.wall())
    }

    fn get(&self) -> Ask {
        Ask::new(Method::GET, Some(self.key.clone()))
    }

    /// The first listing says whether we are at the right place at all.
    fn reach(&mut self) -> bool {
        let answer = match self.ask(self.listing()) {
            Ok(answer) => answer,
            Err(Halt::Silent(kind, text)) => {
                self.unreached = kind;
                self.tell(Question::Reach, Said::No, text);
                return false;
            }
            Err(halt) => {
                self.unknown(Question::Reach, halt);
                return false;
            }
        };
        let known = FORBIDDEN.contains(&answer.code().as_str());
        match answer.status {
            200..=299 if parse_xml::<Listing>(&answer.body, "ListBucketResult").is_some() => {
                self.permission(Question::List, &answer);
            }
            403 if known => {
                self.permission(Question::List, &answer);
            }
            200..=299 => {
                let text = "the answer is no listing; is this an S3 endpoint?";
                self.tell(Question::Reach, Said::No, text);
                return false;
            }
            _ => {
                let setback = answer.setback();
                self.unreached = setback.kind;
                self.tell(Question::Reach, Said::No, setback.text);
                return false;
            }
        }
        self.tell(Question::Reach, Said::Yes, "it answers, and knows these keys");
        true
    }

    /// The first put, create-only where the service takes that.
    fn write(&mut self) -> bool {
        let ask = self.put(FIRST).header("if-none-match", "*");
        let (answer, tries) = match self.tried(ask) {
            Ok(answered) => answered,
            Err(halt) => {
                self.unknown(Question::Write, halt);
                return false;
            }
        };
        let answer = match answer.status {
            // The name is random: whoever took it was an earlier try, whose answer was lost.
            412 if tries > 1 => {
                self.tell(Question::Write, Said::Yes, "allowed");
                return true;
            }
            400 | 501 if answer.setback().kind == ErrorKind::Unsupported => {
                let text = format!("refused: {}", answer.setback().text);
                self.tell(Question::CreateOnly, Said::No, text);
                let plain = self.put(FIRST);
                match self.ask(plain) {
                    Ok(answer) => answer,
                    Err(halt) => {
                        self.unknown(Question::Write, halt);
                        return false;
                    }
                }
            }
            _ => answer,
        };
        self.note_put(&answer);
        self.permission(Question::Write, &answer)
    }

    /// What the answer to a put tells about the object.
    fn note_put(&mut self, answer: &Answer) {
        if !answer.is_success() {
            return;
        }
        self.keeps_versions |= answer.header("x-amz-version-id").is_some_and(|version| version != "null");
        if let Some(etag) = answer.header("etag") {
            self.etag = Some(etag.to_owned());
        }
    }

    fn read(&mut self) {
        match self.ask(self.get()) {
            Ok(answer) if answer.is_success() => {
                self.etag = answer.header("etag").map(str::to_owned).or(self.etag.take());
                match answer.body == FIRST {
                    true => self.tell(Question::Read, Said::Yes, "allowed"),
                    false => self.tell(Question::Read, Said::No, "what was read is not what was written"),
                }
            }
            Ok(answer) => {
                self.permission(Question::Read, &answer);
            }
            Err(halt) => self.unknown(Question::Read, halt),
        }
    }

    /// Without an object of ours: S3 tells a missing key only to who may read (and list).
    fn read_nothing(&mut self) {
        match self.ask(self.get()) {
            Ok(answer) if answer.status == 404 => self.tell(Question::Read, Said::Yes, "allowed"),
            Ok(answer) if answer.status == 403 && self.rows.get(Question::List) != Some(Said::Yes) => {
                let text = "a missing object and a forbidden one look alike where listing is forbidden";
                self.tell(Question::Read, Said::Unknown, text);
            }
            Ok(answer) => {
                self.permission(Question::Read, &answer);
            }
            Err(halt) => self.unknown(Question::Read, halt),
        }
    }

    fn create_only(&mut self) {
        if self.rows.get(Question::CreateOnly).is_some() {
            return;
        }
        let again = self.put(SECOND).header("if-none-match", "*");
        let answer = match self.ask(again) {
            Ok(answer) => answer,
            Err(halt) => return self.unknown(Question::CreateOnly, halt),
        };
        self.note_put(&answer);
        match (answer.status, answer.code().as_str()) {
            (200..=299, _) => {
                self.tell(Question::CreateOnly, Said::No, "ignored: the object was replaced all the same");
            }
            (304 | 412, _) | (409, "PreconditionFailed") => match self.ask(self.get()) {
                Ok(read) if read.is_success() && read.body != FIRST => {
                    self.tell(Question::CreateOnly, Said::No, "refused, yet the object was replaced");
                }
                _ => self.tell(Question::CreateOnly, Said::Yes, "kept: a second put of the name is refused"),
            },
            _ => self.tell(Question::CreateOnly, Said::Unknown, answer.setback().text),
        }
    }

    fn list_after_put(&mut self) {
        if self.rows.get(Question::List) != Some(Said::Yes) {
            return;
        }
        for look in 0..LOOKS {
            if look > 0 {
                self.shared.clock.sleep(PAUSE);
            }
            let answer = match self.ask(self.listing()) {
                Ok(answer) => answer,
                Err(halt) => return self.unknown(Question::ListAfterPut, halt),
            };
            let listing: Option<Listing> = parse_xml(&answer.body, "ListBucketResult");
            if listing.is_some_and(|listing| listing.contents.iter().any(|listed| listed.key == self.key)) {
                let text = match look {
                    0 => "at once".to_owned(),
                    looks => format!("after {:.1} s", (PAUSE * looks).as_secs_f64()),
                };
                return self.tell(Question::ListAfterPut, Said::Yes, text);
            }
        }
        let text = format!("not within {:.1} s: listings lag", (PAUSE * (LOOKS - 1)).as_secs_f64());
        self.tell(Question::ListAfterPut, Said::No, text);
    }

    fn ranges(&mut self) {
        if self.rows.get(Question::Read) != Some(Said::Yes) {
            return;
        }
        match self.ask(self.get().header("range", "bytes=2-4")) {
            Ok(answer) if answer.status == 206 && answer.body == FIRST[2..5] => {
                self.tell(Question::Ranges, Said::Yes, "the range alone comes");
            }
            // The second content where the condition before was ignored.
            Ok(answer) if answer.status == 206 && answer.body == SECOND[2..5] => {
                self.tell(Question::Ranges, Said::Yes, "the range alone comes");
            }
            Ok(answer) if answer.status == 206 => {
                self.tell(Question::Ranges, Said::No, "other bytes came than were asked for");
            }
            Ok(answer) if answer.is_success() => {
                self.tell(Question::Ranges, Said::No, "the whole object comes");
            }
            Ok(answer) => self.tell(Question::Ranges, Said::Unknown, answer.setback().text),
            Err(halt) => self.unknown(Question::Ranges, halt),
        }
    }

    fn if_match(&mut self) {
        let Some(etag) = self.etag.clone() else { return };
        let bare = |etag: &str| etag.trim_matches('"').to_owned();
        self.right_etag(Question::IfMatchQuoted, format!("\"{}\"", bare(&etag)));
        // A put may have given the object another ETag, though its content is the same.
        let etag = self.etag.clone().unwrap_or(etag);
        self.right_etag(Question::IfMatchUnquoted, bare(&etag));
        let wrong = self.put(FIRST).header("if-match", NO_ETAG);
        let answer = self.ask(wrong);
        self.condition(Question::IfMatchKept, answer, "ignored: a put with a wrong ETag goes through");
    }

    fn right_etag(&mut self, question: Question, etag: String) {
        let put = self.put(FIRST).header("if-match", etag);
        match self.ask(put) {
            Ok(answer) if answer.is_success() => {
                self.note_put(&answer);
                self.tell(question, Said::Yes, "the put goes through");
            }
            Ok(answer) => {
                let text = answer.setback().text;
                self.tell(question, Said::No, format!("refused, though the ETag is right: {text}"));
            }
            Err(halt) => self.unknown(question, halt),
        }
    }

    /// The answer to a request whose condition does not hold.
    fn condition(&mut self, question: Question, answer: Result<Answer, Halt>, ignored: &str) {
        let answer = match answer {
            Ok(answer) => answer,
            Err(halt) => return self.unknown(question, halt),
        };
        self.note_put(&answer);
        match answer.status {
            200..=299 if answer.code() == "PreconditionFailed" => self.tell(question, Said::Yes, "kept"),
            200..=299 => self.tell(question, Said::No, ignored),
            304 | 412 => self.tell(question, Said::Yes, "kept"),
            _ if answer.setback().kind == ErrorKind::Unsupported => {
                self.tell(question, Said::No, format!("refused: {}", answer.setback().text));
            }
            _ => self.tell(question, Said::Unknown, answer.setback().text),
        }
    }

    fn multipart(&mut self) {
        let question = Question::ConditionalMultipart;
        let begin = self.as_an_object(Ask::new(Method::POST, Some(self.key.clone())).query("uploads", ""));
        self.upload = Some(None);
        let answer = match self.ask(begin) {
            Ok(answer) => answer,
            Err(halt) => {
                if matches!(halt, Halt::Stopped) {
                    self.upload = None;
                }
                return self.unknown(question, halt);
            }
        };
        let begun: Option<Begun> = parse_xml(&answer.body, "InitiateMultipartUploadResult");
        let Some(Begun { upload_id: id }) = begun.filter(|_| answer.is_success()) else {
            self.upload = None;
            return self.tell(question, Said::Unknown, answer.setback().text);
        };
        self.upload = Some(Some(id.clone()));
        let part = Ask::new(Method::PUT, Some(self.key.clone()))
            .query("partNumber", "1")
            .query("uploadId", id.as_str())
            .body(Bytes::from_static(FIRST));
        let etag = match self.ask(part) {
            Ok(answer) if answer.is_success() => answer.header("etag").unwrap_or_default().to_owned(),
            Ok(answer) => return self.tell(question, Said::Unknown, answer.setback().text),
            Err(halt) => return self.unknown(question, halt),
        };
        let complete = Ask::new(Method::POST, Some(self.key.clone()))
            .query("uploadId", id)
            .header("content-type", "application/xml")
            .header("if-none-match", "*")
            .body(Bytes::from(upload::complete_body(&[etag])));
        let answer = self.ask(complete);
        if answer.as_ref().is_ok_and(|answer| answer.is_success() && answer.code().is_empty()) {
            self.upload = None;
        }
        self.condition(question, answer, "ignored: the upload replaces what stands there");
    }

    fn conditional_delete(&mut self) {
        let question = Question::ConditionalDelete;
        let delete = Ask::new(Method::DELETE, Some(self.key.clone())).header("if-match", NO_ETAG);
        let answer = self.ask(delete);
        let stands = match self.ask(Ask::new(Method::HEAD, Some(self.key.clone()))) {
            Ok(head) => head.is_success(),
            Err(halt) => return self.unknown(question, halt),
        };
        match answer {
            Ok(answer) if answer.is_success() && stands => {
                self.tell(question, Said::Yes, "kept, though the answer says that it was deleted");
            }
            Ok(answer) if answer.status == 403 => {
                self.tell(question, Said::Unknown, "not known: deleting is forbidden");
            }
            answer => self.condition(question, answer, "ignored: the object is deleted whatever its ETag"),
        }
    }

    fn delete(&mut self) {
        match self.ask(Ask::new(Method::DELETE, Some(self.key.clone()))) {
            Ok(answer) if answer.is_success() => match self.ask(self.get()) {
                Ok(read) if read.is_success() => {
                    self.tell(Question::Delete, Said::No, "answered as done, and the object is still there");
                }
                _ => {
                    self.written = false;
                    self.tell(Question::Delete, Said::Yes, "allowed");
                }
            },
            Ok(answer) => {
                self.permission(Question::Delete, &answer);
            }
            Err(halt) => self.unknown(Question::Delete, halt),
        }
    }

    /// Removes what may still stand, and names what stays. Also after an interruption.
    fn clean(&mut self) {
        if let Some(id) = self.upload.take() {
            let gone = id.as_ref().is_some_and(|id| {
                let abort = Ask::new(Method::DELETE, Some(self.key.clone())).query("uploadId", id.as_str());
                self.is_gone(abort)
            });
            if !gone {
                let which =
                    id.map_or_else(|| "an upload whose id never came".into(), |id| format!("upload {id}"));
                self.left.push(format!("{} ({which}, unfinished)", self.shared.object(&self.key)));
            }
        }
        if self.written {
            // A service that says that it deletes and does not is asked no more: the answer would be the same.
            let in_vain = self.rows.get(Question::Delete) == Some(Said::No);
            let delete = Ask::new(Method::DELETE, Some(self.key.clone()));
            if in_vain || !self.is_gone(delete) {
                // A write that was refused has left nothing either.
                let head = Ask::new(Method::HEAD, Some(self.key.clone()));
                if !matches!(self.send(head), Ok((answer, _)) if answer.status == 404) {
                    let wrote = self.rows.get(Question::Write) != Some(Said::No);
                    self.left.extend(wrote.then(|| self.shared.object(&self.key)));
                }
            }
        }
        if self.keeps_versions {
            let object = self.shared.object(&self.key);
            self.left.push(format!("{object} (older versions: this bucket keeps them)"));
        }
    }

    fn is_gone(&mut self, ask: Ask) -> bool {
        match self.send(ask) {
            Ok((answer, _)) => answer.is_success() || answer.setback().kind == ErrorKind::NotFound,
            Err(_) => false,
        }
    }

    fn findings(mut self, interrupted: bool) -> Findings {
        let ours = self.shared.clock.wall();
        let ahead = self.shared.client.server_time().map(|theirs| ours.0.saturating_sub(theirs.0));
        if let Some(ahead) = ahead {
            let seconds = ahead / 1000;
            let side = if ahead >= 0 { "ahead of" } else { "behind" };
            let (said, text) = match seconds.unsigned_abs() {
                0..=5 => (Said::Yes, "they agree".to_owned()),
                off @ 6..=59 => (Said::Yes, format!("this machine's is {off} s {side} the store's")),
                off => (Said::No, format!("this machine's is {} minutes {side} the store's", off / 60)),
            };
            self.tell(Question::Clock, said, text);
        }
        let why_not = match interrupted {
            true => "not asked: interrupted",
            false => "not asked: an answer above rules it out",
        };
        Findings {
            location: self.shared.client.settings().location(),
            rows: self.rows.finish(|_| true, why_not),
            clock_ahead_ms: ahead,
            keeps_versions: self.keeps_versions,
            unreached: self.unreached,
            requests: self.requests,
            left: self.left,
            interrupted,
        }
    }
}
