//! A replica in an S3 bucket, at Amazon or anywhere else that speaks its protocol.
//!
//! What is asked of a service is little: single `PUT` (with `If-None-Match: *` to create), ranged `GET`, `HEAD`,
//! `DELETE`, `ListObjectsV2` and multipart uploads for what is large. Never sent, because some service or other
//! rejects or ignores it: chunked signatures, checksum trailers, batch deletes, `If-Match`, conditional deletes and
//! conditions on a multipart upload (R61; `docs/providers.md` tells who does what).

mod answer;
mod body;
pub(crate) mod client;
mod listing;
mod probe;
mod sigv4;
mod tls;
mod upload;
mod verbatim;

use crate::body::Source;
use crate::layout::{self, Layout, Spellings};
use crate::location::{Provider, S3Settings};
use crate::retry::{About, Policy, Retrier, Setback};
use crate::{
    Chunk, Created, Entry, ErrorKind, Failure, Head, Key, Limits, Scope, Store, StoreError, Upload, Version,
    times,
};
use answer::Answer;
pub(crate) use answer::NoAnswer;
use bytes::Bytes;
pub(crate) use client::encode_path;
use client::{Ask, Client};
use litekeep_core::env::{Clock, Random};
use litekeep_formats::{Level, TimestampMs};
use reqwest::Method;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The largest single put, bytes: what AWS and all others known take.
const SINGLE_PUT: u64 = 5 << 30;

/// Requests under way at once when many objects are deleted or asked about.
const MANY: usize = 16;

/// The metadata entry for a file's own time, as Litestream writes it.
const TIMESTAMP: &str = "x-amz-meta-litestream-timestamp";

/// A replica in a bucket; clones share it.
#[derive(Clone)]
pub struct S3Store {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    client: Client,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    policy: Policy,
    spellings: Arc<Spellings>,
    /// Nothing is known to lie under another spelling of the path.
    spelled: AtomicBool,
}

impl S3Store {
    /// Opens a replica without asking the service anything yet.
    pub fn open(
        settings: &S3Settings,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, StoreError> {
        Self::with_policy(settings, clock, random, Policy::default())
    }

    /// The same, with another patience.
    pub fn with_policy(
        settings: &S3Settings,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        policy: Policy,
    ) -> Result<Self, StoreError> {
        let client = Client::open(settings, Arc::clone(&clock), policy.answer).map_err(|trouble| {
            let setback = trouble.setback();
            StoreError::new(setback.kind, "open", settings.location(), Failure::Text(setback.text))
        })?;
        let spellings = Arc::default();
        let spelled = AtomicBool::new(false);
        Ok(Self { shared: Arc::new(Shared { client, clock, random, policy, spellings, spelled }) })
    }

    fn key(&self, key: &Key) -> String {
        self.shared.full(&self.shared.spellings.path(Layout::Bucket, key))
    }

    fn list_scope(&self, scope: &Scope) -> Result<Vec<Entry>, Setback> {
        let folder = Layout::Bucket.folder(scope);
        let after = match scope {
            Scope::From(level) if *level > Level::SLOTS => Some(Layout::Bucket.level(*level)),
            _ => None,
        };
        let folders = match scope {
            Scope::V3Snapshots => listing::folders(&self.shared, &folder, listing::Depth::All)?
                .iter()
                .filter_map(|name| layout::parse_v3_generation(name))
                .map(layout::v3_snapshot_folder)
                .collect(),
            _ => vec![folder],
        };
        let mut entries = Vec::new();
        for folder in folders {
            for object in listing::objects(&self.shared, &folder, after.as_deref())? {
                let spellings = &self.shared.spellings;
                let Some(key) = spellings.parse(Layout::Bucket, scope, &object.path) else { continue };
                let (size, modified) = (object.size, object.modified);
                entries.push(Entry { key, size, modified, timestamp: None });
            }
        }
        entries.sort_unstable_by_key(|entry| entry.key);
        entries.dedup_by_key(|entry| entry.key);
        Ok(entries)
    }

    fn try_head(&self, key: &str) -> Result<Head, Setback> {
        let answer = self.shared.client.ask(Ask::new(Method::HEAD, Some(key.into())));
        self.head_of(key, answer)
    }

    fn head_of(&self, key: &str, answer: Result<Answer, NoAnswer>) -> Result<Head, Setback> {
        let answer = answer.map_err(NoAnswer::setback)?;
        match answer.status {
            200..=299 => head_from(&answer),
            // A HEAD has no body to tell a missing bucket from a missing key; a GET does.
            404 => match self.try_read(key, Some(0..1)) {
                Ok(_) => Err(Setback::new(ErrorKind::Retry, "the object appeared while it was asked about")),
                Err(setback) => Err(setback),
            },
            _ => Err(answer.setback()),
        }
    }

    fn try_read(&self, key: &str, range: Option<Range<u64>>) -> Result<Chunk, Setback> {
        let range = match range {
            Some(range) if range.start >= range.end => {
                let head = self.try_head(key)?;
                return Ok(Chunk { bytes: Bytes::new(), total: head.size, version: head.version });
            }
            range => range,
        };
        let mut ask = Ask::new(Method::GET, Some(key.into()));
        ask.wanted = (0, u64::MAX);
        if let Some(range) = &range {
            ask = ask.header("range", range_header(range));
            ask.wanted = (0, range.end - range.start);
        }
        let answer = self.shared.client.ask(ask).map_err(NoAnswer::setback)?;
        match (answer.status, range) {
            (416, Some(_)) => {
                let head = self.try_head(key)?;
                Ok(Chunk { bytes: Bytes::new(), total: head.size, version: head.version })
            }
            (206, Some(range)) => part(answer, &range),
            (200..=299, None) => whole(answer),
            // A service or proxy that knows no ranges: the answer began at 0.
            (200..=299, Some(range)) => self.read_unranged(key, range),
            _ => Err(answer.setback()),
        }
    }

    fn read_unranged(&self, key: &str, range: Range<u64>) -> Result<Chunk, Setback> {
        let mut ask = Ask::new(Method::GET, Some(key.into()));
        ask.wanted = (range.start, range.end - range.start);
        let answer = self.shared.client.ask(ask).map_err(NoAnswer::setback)?;
        if !answer.is_success() {
            return Err(answer.setback());
        }
        let total = length(&answer)?;
        let promised = range.end.min(total).saturating_sub(range.start);
        exactly(&answer, promised)?;
        let version = version_of(&answer, total);
        Ok(Chunk { bytes: answer.body, total, version })
    }

    fn put_ask(&self, key: &Key, body: Bytes, timestamp: TimestampMs) -> Ask {
        self.shared.new_object(Ask::new(Method::PUT, Some(self.key(key))).body(body), timestamp)
    }

    /// One try at a create-only put. `doubt` is whether an earlier try of the same call may have done it.
    fn try_create(&self, ask: &Ask, doubt: &mut bool) -> Result<Created, Setback> {
        let answer = self.shared.client.ask(ask.clone()).map_err(NoAnswer::setback);
        let answer = answer.inspect_err(|setback| *doubt |= setback.ambiguous)?;
        match (answer.status, answer.code().as_str()) {
            (200..=299, _) => Ok(Created::Yes),
            (304 | 412, _) | (409, "PreconditionFailed") if *doubt => self.whose(ask),
            (304 | 412, _) | (409, "PreconditionFailed") => Ok(Created::Exists),
            (400 | 501, "NotImplemented") => Err(Setback::new(
                ErrorKind::Unsupported,
                "this store knows no create-only put (If-None-Match: *)",
            )),
            _ => {
                let setback = answer.setback();
                *doubt |= setback.ambiguous;
                Err(setback)
            }
        }
    }

    /// After a create without an answer: is what stands there what we sent? Not there means *not yet*.
    fn whose(&self, ask: &Ask) -> Result<Created, Setback> {
        match self.same(ask) {
            Ok(true) => Ok(Created::Yes),
            Ok(false) => Ok(Created::Exists),
            Err(setback) if setback.kind == ErrorKind::NotFound => Err(Setback {
                ambiguous: true,
                ..Setback::new(ErrorKind::Retry, "created, it seems, but not readable yet")
            }),
            Err(setback) => Err(setback),
        }
    }

    /// Whether the object holds what was to be sent; compared piece by piece.
    fn same(&self, ask: &Ask) -> Result<bool, Setback> {
        let key = ask.key.as_deref().unwrap_or_default();
        let mut at = 0;
        loop {
            let ours =
                ask.body.piece(at).map_err(|error| Setback::new(ErrorKind::Retry, error.to_string()))?;
            let end = at + (ours.len() as u64).max(1);
            let theirs = self.try_read(key, Some(at..end))?;
            if theirs.total != ask.body.len() || theirs.bytes != ours {
                return Ok(false);
            }
            at = end;
            if at >= ask.body.len() {
                return Ok(true);
            }
        }
    }

    fn create_with(&self, key: &Key, ask: Ask) -> Result<Created, StoreError> {
        let ask = ask.header("if-none-match", "*");
        let about = self.shared.object(&self.key(key));
        let mut doubt = false;
        let created = self.shared.retry("create", &about, |_| self.try_create(&ask, &mut doubt));
        match created {
            // Time is up and the last word was no answer: a look is worth more than an error.
            Err(error) if doubt && matches!(error.kind, ErrorKind::Retry | ErrorKind::Wait) => {
                self.whose(&ask).map_err(|_| error)
            }
            created => created,
        }
    }

    /// Asks about many objects, [`MANY`] at a time; whatever did not succeed at once is then tried one by one.
    fn each<T>(
        &self,
        operation: &'static str,
        keys: &[Key],
        method: Method,
        judge: impl Fn(&str, Result<Answer, NoAnswer>) -> Result<T, Setback>,
    ) -> Result<Vec<T>, StoreError> {
        let paths: Vec<String> = keys.iter().map(|key| self.key(key)).collect();
        let ask = |path: &String| Ask::new(method.clone(), Some(path.clone()));
        let mut pending = VecDeque::new();
        let mut done = Vec::with_capacity(paths.len());
        let mut next = paths.iter();
        loop {
            while pending.len() < MANY
                && let Some(path) = next.next()
            {
                pending.push_back((path, self.shared.client.begin(ask(path))));
            }
            let Some((path, begun)) = pending.pop_front() else { return Ok(done) };
            let mut first = Some(begun.and_then(client::Pending::wait));
            let about = self.shared.object(path);
            done.push(self.shared.retry(operation, &about, |_| {
                let answer = first.take().unwrap_or_else(|| self.shared.client.ask(ask(path)));
                judge(path, answer)
            })?);
        }
    }
}

impl Store for S3Store {
    fn list(&self, scope: &Scope) -> Result<Vec<Entry>, StoreError> {
        let about = self.shared.object(&self.shared.full(&Layout::Bucket.folder(scope)));
        let entries = self.shared.retry("list", &about, |_| self.list_scope(scope))?;
        if entries.is_empty() && *scope == Scope::From(Level::SLOTS) {
            self.shared.retry("list", &about, |_| self.shared.is_spelled_right())?;
        }
        Ok(entries)
    }

    fn head(&self, key: &Key) -> Result<Head, StoreError> {
        let path = self.key(key);
        self.shared.retry("head", &self.shared.object(&path), |_| self.try_head(&path))
    }

    fn heads(&self, keys: &[Key]) -> Result<Vec<Option<Head>>, StoreError> {
        self.each("head", keys, Method::HEAD, |path, answer| match self.head_of(path, answer) {
            Ok(head) => Ok(Some(head)),
            Err(setback) if setback.kind == ErrorKind::NotFound => Ok(None),
            Err(setback) => Err(setback),
        })
    }

    fn read(&self, key: &Key, range: Option<Range<u64>>) -> Result<Chunk, StoreError> {
        let path = self.key(key);
        self.shared.retry("read", &self.shared.object(&path), |_| self.try_read(&path, range.clone()))
    }

    fn create(&self, key: &Key, body: Bytes, timestamp: TimestampMs) -> Result<Created, StoreError> {
        self.create_with(key, self.put_ask(key, body, timestamp))
    }

    fn create_from(
        &self,
        key: &Key,
        source: &Arc<dyn Source>,
        timestamp: TimestampMs,
    ) -> Result<Created, StoreError> {
        let ask = Ask::new(Method::PUT, Some(self.key(key))).source(Arc::clone(source));
        let ask = ask.map_err(|error| {
            let about = self.shared.object(&self.key(key));
            StoreError::new(ErrorKind::Retry, "create", about, Failure::Io(error))
        })?;
        self.create_with(key, self.shared.new_object(ask, timestamp))
    }

    fn put(&self, key: &Key, body: Bytes, timestamp: TimestampMs) -> Result<(), StoreError> {
        let ask = self.put_ask(key, body, timestamp);
        let about = self.shared.object(&self.key(key));
        self.shared.retry("put", &about, |_| self.shared.succeed(ask.clone())).map(drop)
    }

    fn upload(&self, key: &Key, timestamp: TimestampMs) -> Result<Box<dyn Upload>, StoreError> {
        let upload = upload::S3Upload::new(Arc::clone(&self.shared), self.key(key), timestamp);
        Ok(Box::new(upload))
    }

    fn delete(&self, keys: &[Key]) -> Result<(), StoreError> {
        let gone = |_: &str, answer: Result<Answer, NoAnswer>| {
            let answer = answer.map_err(NoAnswer::setback)?;
            let setback = if answer.is_success() { return Ok(()) } else { answer.setback() };
            if setback.kind == ErrorKind::NotFound { Ok(()) } else { Err(setback) }
        };
        self.each("delete", keys, Method::DELETE, gone).map(drop)
    }

    fn for_chores(&self) -> Option<Arc<dyn Store>> {
        let Shared { client, clock, random, policy, spellings, spelled } = &*self.shared;
        let shared = Shared {
            client: client.for_chores(),
            clock: Arc::clone(clock),
            random: Arc::clone(random),
            policy: *policy,
            spellings: Arc::clone(spellings),
            spelled: AtomicBool::new(spelled.load(Ordering::Relaxed)),
        };
        Some(Arc::new(Self { shared: Arc::new(shared) }))
    }

    fn neighbours(&self) -> Result<Vec<String>, StoreError> {
        let about = self.shared.object(&self.shared.full(""));
        self.shared.retry("list", &about, |_| listing::neighbours(&self.shared))
    }

    fn server_time(&self) -> Option<TimestampMs> {
        self.shared.client.server_time()
    }

    fn limits(&self) -> Limits {
        Limits { single_put: SINGLE_PUT }
    }

    fn location(&self) -> String {
        self.shared.client.settings().location()
    }
}

impl Shared {
    /// A key of the bucket from a path of the replica.
    fn full(&self, path: &str) -> String {
        let settings = self.client.settings();
        if !path.starts_with(layout::V3) {
            return format!("{}/{path}", settings.path);
        }
        match settings.v3_path().as_str() {
            "" => path.to_owned(),
            base => format!("{base}/{path}"),
        }
    }

    /// A replica without a slot is none only if there is none under another spelling of its path either: whoever looked at
    /// the wrong one would begin anew beside it.
    fn is_spelled_right(&self) -> Result<(), Setback> {
        if self.spelled.load(Ordering::Relaxed) {
            return Ok(());
        }
        let settings = self.client.settings();
        let old = || listing::names_if_allowed(self, &self.full(layout::V3)).map(|names| !names.is_empty());
        let here = listing::is_replica(self, &settings.path)? || old()?;
        let others = if here { Vec::new() } else { settings.spellings() };
        let Some(other) = listing::first_replica(self, others)? else {
            self.spelled.store(true, Ordering::Relaxed);
            return Ok(());
        };
        let text = format!(
            "there is no replica at path {:?}, but one at path {other:?}: a path counts as it is spelled, in Litestream too; to \
             use that one, name it: {}",
            settings.path,
            settings.named(&other)
        );
        Err(Setback::new(ErrorKind::FixConfig, text))
    }

    /// An object's location, for people.
    fn object(&self, key: &str) -> String {
        format!("s3://{}/{}", self.client.settings().bucket, key)
    }

    fn retry<T>(
        &self,
        operation: &'static str,
        object: &str,
        attempt: impl FnMut(u32) -> Result<T, Setback>,
    ) -> Result<T, StoreError> {
        let retrier = Retrier { clock: &*self.clock, random: &*self.random, policy: self.policy };
        retrier.run(About { operation, object }, attempt)
    }

    /// The answer to a request that must succeed.
    fn succeed(&self, ask: Ask) -> Result<Answer, Setback> {
        let answer = self.client.ask(ask).map_err(NoAnswer::setback)?;
        if answer.is_success() { Ok(answer) } else { Err(answer.setback()) }
    }

    /// The headers every new object gets.
    fn new_object(&self, ask: Ask, timestamp: TimestampMs) -> Ask {
        let mut ask = ask
            .header("content-type", "application/octet-stream")
            .header(TIMESTAMP, times::format_rfc3339(timestamp));
        if let Some(class) = &self.client.settings().storage_class {
            ask = ask.header("x-amz-storage-class", class);
        }
        if let Some(id) = &self.client.settings().sse_kms_key_id {
            ask = ask
                .header("x-amz-server-side-encryption", "aws:kms")
                .header("x-amz-server-side-encryption-aws-kms-key-id", id);
        }
        ask
    }

    /// Parts that may be under way at once.
    fn concurrency(&self) -> usize {
        let usual = if self.client.provider() == Provider::R2 { 2 } else { 3 };
        self.client.settings().concurrency.unwrap_or(usual).max(1)
    }
}

/// `bytes=FIRST-LAST`; without LAST where the number is past what services read as one (a signed 64-bit integer).
fn range_header(range: &Range<u64>) -> String {
    match i64::try_from(range.end) {
        Ok(_) => format!("bytes={}-{}", range.start, range.end - 1),
        Err(_) => format!("bytes={}-", range.start),
    }
}

fn length(answer: &Answer) -> Result<u64, Setback> {
    let length = answer.header("content-length").and_then(|text| text.parse().ok());
    length.ok_or_else(|| Setback::new(ErrorKind::Retry, "the answer does not tell the object's length"))
}

fn head_from(answer: &Answer) -> Result<Head, Setback> {
    let size = length(answer)?;
    let modified = answer.header("last-modified").and_then(times::parse_http_date);
    let modified =
        modified.ok_or_else(|| Setback::new(ErrorKind::Retry, "the answer has no Last-Modified"))?;
    let timestamp = answer.header(TIMESTAMP).and_then(times::parse_rfc3339).unwrap_or(modified);
    Ok(Head { size, modified, timestamp, version: version_of(answer, size) })
}

/// The ETag, or length and time where a service gives none.
fn version_of(answer: &Answer, total: u64) -> Version {
    let made = || format!("{total}@{}", answer.header("last-modified").unwrap_or_default());
    Version(answer.header("etag").map_or_else(made, String::from))
}

fn exactly(answer: &Answer, promised: u64) -> Result<(), Setback> {
    let came = answer.body.len() as u64;
    if came == promised {
        return Ok(());
    }
    let text = format!("{came} bytes came where the answer promised {promised}");
    Err(Setback::new(ErrorKind::DataDamaged, text))
}

fn whole(answer: Answer) -> Result<Chunk, Setback> {
    let total = match answer.header("content-length") {
        Some(_) => length(&answer)?,
        None => answer.body.len() as u64,
    };
    exactly(&answer, total)?;
    let version = version_of(&answer, total);
    Ok(Chunk { bytes: answer.body, total, version })
}

/// A 206: the piece must be the one asked for.
fn part(answer: Answer, range: &Range<u64>) -> Result<Chunk, Setback> {
    let told = answer.header("content-range").and_then(parse_content_range);
    let Some((start, end, total)) = told else {
        return Err(Setback::new(ErrorKind::DataDamaged, "a partial answer without a usable Content-Range"));
    };
    if start != range.start || end != range.end.min(total) {
        let text = format!("asked for bytes {}..{}, got {start}..{end} of {total}", range.start, range.end);
        return Err(Setback::new(ErrorKind::DataDamaged, text));
    }
    exactly(&answer, end - start)?;
    let version = version_of(&answer, total);
    Ok(Chunk { bytes: answer.body, total, version })
}

/// `bytes FIRST-LAST/TOTAL` as start, end (exclusive) and total.
fn parse_content_range(text: &str) -> Option<(u64, u64, u64)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (start, end, total) =
        (first.parse().ok()?, last.parse::<u64>().ok()?.checked_add(1)?, total.parse().ok()?);
    (start < end && end <= total).then_some((start, end, total))
}
