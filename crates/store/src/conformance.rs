//! What every store must do, as runnable rules: the contract of [`Store`] in code.
//!
//! Each rule gets a fresh, empty replica and tells what was broken. The suite runs on memory, directories, the
//! in-process S3 server with each provider's habits and a real Ceph gateway; a new backend is done when it passes.

use crate::reader::RangeReader;
use crate::{Created, Entry, EpochRecord, ErrorKind, Key, Scope, Source, Store, StoreError, V3Generation};
use bytes::Bytes;
use litekeep_formats::{Epoch, Level, TimestampMs, Txid, TxidRange};
use std::collections::BTreeSet;
use std::fmt;
use std::io::Read as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};

/// Opens an empty replica at a path of this name; asked again for the same name it opens the same replica.
pub type Factory<'a> = &'a dyn Fn(&str) -> Result<Arc<dyn Store>, StoreError>;

/// How much work the suite does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effort {
    /// Objects in the listing rule; more than one page of the store's listing makes it worth most.
    pub objects: u64,
    /// Threads that race to create one name, and how often.
    pub racers: usize,
    /// Rounds of that race.
    pub rounds: u64,
    /// Size of the large upload, bytes; above 16 MiB it is a multipart one on S3.
    pub large: usize,
}

impl Default for Effort {
    fn default() -> Self {
        Self { objects: 60, racers: 50, rounds: 3, large: 20 << 20 }
    }
}

/// A rule that a store did not keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The rule's name.
    pub rule: &'static str,
    /// What happened instead.
    pub how: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.how)
    }
}

impl std::error::Error for Broken {}

type Outcome = Result<(), String>;
type Rule = fn(&Arc<dyn Store>, Effort) -> Outcome;

/// The rules by name.
pub const RULES: [(&str, Rule); 14] = [
    ("a new replica is empty", new_is_empty),
    ("a create is refused where something stands", create_refuses),
    ("a create from a source is whole, and refused where something stands", create_from_is_whole),
    ("one of many creators wins", one_creator_wins),
    ("a put replaces", put_replaces),
    ("a file keeps its own time", time_is_kept),
    ("a listing is complete, typed and ascending", listing_is_complete),
    ("scopes do not leak into each other", scopes_are_apart),
    ("ranges are cut at the end", ranges_are_cut),
    ("what is not there is told as such", missing_is_told),
    ("a delete is repeatable", delete_is_repeatable),
    ("an upload appears whole or not at all", upload_is_atomic),
    ("a reader gives the bytes of one version", reader_reads),
    ("the store tells its time", time_is_told),
];

/// Runs every rule, each on a replica of its own; the first that is broken ends it.
pub fn check(make: Factory<'_>, effort: Effort) -> Result<(), Broken> {
    for (index, (rule, run)) in RULES.into_iter().enumerate() {
        let outcome = make(&format!("rule-{index:02}")).map_err(|error| error.to_string());
        outcome.and_then(|store| run(&store, effort)).map_err(|how| Broken { rule, how })?;
    }
    Ok(())
}

/// The slot of a TXID; a name for tests.
pub fn slot(txid: u64) -> Key {
    let txid = Txid::new(txid).unwrap_or(Txid::FIRST);
    Key::Ltx(Level::SLOTS, TxidRange::single(txid))
}

fn snapshot(max: u64) -> Key {
    let max = Txid::new(max).unwrap_or(Txid::FIRST);
    Key::Ltx(Level::SNAPSHOTS, TxidRange::new(Txid::FIRST, max).unwrap_or(TxidRange::single(Txid::FIRST)))
}

/// A time that is neither now nor a whole second.
const TIME: TimestampMs = TimestampMs(1_700_000_000_120);

fn says(error: StoreError) -> String {
    error.to_string()
}

fn ensure(holds: bool, how: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(how()) }
}

fn pattern(len: usize, seed: u8) -> Bytes {
    (0..len).map(|at| (at.wrapping_mul(31) >> 3).to_le_bytes()[0] ^ seed).collect::<Vec<u8>>().into()
}

fn new_is_empty(store: &Arc<dyn Store>, _: Effort) -> Outcome {
    let scopes = [
        Scope::Level(Level::SLOTS),
        Scope::Level(Level::SNAPSHOTS),
        Scope::From(Level::SLOTS),
        Scope::Epochs,
        Scope::V3Snapshots,
        Scope::V3Wal(V3Generation(1)),
        Scope::OtherLayout(Level::SLOTS),
    ];
    for scope in scopes {
        let entries = store.list(&scope).map_err(says)?;
        ensure(entries.is_empty(), || format!("{scope:?} holds {entries:?}"))?;
    }
    Ok(())
}

fn create_refuses(store: &Arc<dyn Store>, _: Effort) -> Outcome {
    let (first, other) = (pattern(100, 1), pattern(100, 2));
    let created = store.create(&slot(1), first.clone(), TIME).map_err(says)?;
    ensure(created == Created::Yes, || "the first create was refused".into())?;
    for body in [other, first.clone()] {
        let again = store.create(&slot(1), body, TIME).map_err(says)?;
        ensure(again == Created::Exists, || "a second create was accepted".into())?;
    }
    let chunk = store.read(&slot(1), None).map_err(says)?;
    ensure(chunk.bytes == first, || "a refused create changed the object".into())
}

/// A source that notes how much of it was asked for at once.
struct Metered(Bytes, AtomicUsize);

impl Source for Metered {
    fn len(&self) -> u64 {
        Source::len(&self.0)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<usize> {
        self.1.fetch_max(buf.len(), Ordering::SeqCst);
        // Fewer bytes than were asked for are no end.
        let less = buf.len().min(77_777);
        self.0.read_at(&mut buf[..less], offset)
    }
}

fn create_from_is_whole(store: &Arc<dyn Store>, effort: Effort) -> Outcome {
    let lengths = [0, 1, 1 << 20, (1 << 20) + 1, effort.large];
    for (n, length) in (1..).zip(lengths) {
        let body = pattern(length, 7);
        let metered = Arc::new(Metered(body.clone(), AtomicUsize::new(0)));
        let source: Arc<dyn Source> = Arc::<Metered>::clone(&metered);
        let created = store.create_from(&slot(n), &source, TIME).map_err(says)?;
        ensure(created == Created::Yes, || format!("{length} bytes were refused"))?;
        let chunk = store.read(&slot(n), None).map_err(says)?;
        ensure(chunk.bytes == body, || format!("{} of {length} bytes stand", chunk.total))?;
        let head = store.head(&slot(n)).map_err(says)?;
        ensure(head.timestamp == TIME, || "the source's object has another time".into())?;
        let most = metered.1.load(Ordering::SeqCst);
        ensure(most <= 1 << 20, || format!("{most} bytes of the source were asked for at once"))?;
        let other: Arc<dyn Source> = Arc::new(pattern(length + 1, 8));
        for source in [&other, &source] {
            let again = store.create_from(&slot(n), source, TIME).map_err(says)?;
            ensure(again == Created::Exists, || "a second create was accepted".into())?;
        }
        let chunk = store.read(&slot(n), None).map_err(says)?;
        ensure(chunk.bytes == body, || "a refused create changed the object".into())?;
    }
    Ok(())
}

fn one_creator_wins(store: &Arc<dyn Store>, effort: Effort) -> Outcome {
    for round in 1..=effort.rounds {
        let start = Barrier::new(effort.racers);
        let answers = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..effort.racers)
                .map(|racer| {
                    let (store, start) = (Arc::clone(store), &start);
                    scope.spawn(move || {
                        let body = Bytes::from(format!("racer {racer}"));
                        start.wait();
                        store.create(&slot(round), body, TIME)
                    })
                })
                .collect();
            racers.into_iter().map(|racer| racer.join()).collect::<Vec<_>>()
        });
        let mut winners = Vec::new();
        for (racer, answer) in answers.into_iter().enumerate() {
            let answer = answer.map_err(|_| "a racer panicked".to_string())?;
            if answer.map_err(says)? == Created::Yes {
                winners.push(racer);
            }
        }
        ensure(winners.len() == 1, || format!("{} of {} creators won", winners.len(), effort.racers))?;
        let stands = store.read(&slot(round), None).map_err(says)?.bytes;
        ensure(stands == format!("racer {}", winners[0]).as_bytes(), || {
            "the winner's bytes do not stand".into()
        })?;
    }
    Ok(())
}

fn put_replaces(store: &Arc<dyn Store>, _: Effort) -> Outcome {
    for seed in 0..3 {
        let body = pattern(1000 + usize::from(seed), seed);
        store.put(&snapshot(5), body.clone(), TIME).map_err(says)?;
        let chunk = store.read(&snapshot(5), None).map_err(says)?;
        ensure(chunk.bytes == body, || format!("put number {seed} does not stand"))?;
        ensure(chunk.total == body.len() as u64, || format!("{} bytes in all", chunk.total))?;
    }
    Ok(())
}

fn time_is_kept(store: &Arc<dyn Store>, _: Effort) -> Outcome {
    let times = [TIME, TimestampMs(1_700_000_000_000), TimestampMs(1_700_000_000_001)];
    let mut keys = Vec::new();
    for (index, time) in times.into_iter().enumerate() {
        let key = slot(index as u64 + 1);
        store.create(&key, pattern(10, 0), time).map_err(says)?;
        keys.push(key);
    }
    store.put(&snapshot(3), pattern(10, 0), TIME).map_err(says)?;
    let mut upload = store.upload(&snapshot(4), TIME).map_err(says)?;
    upload.write(&pattern(10, 0)).map_err(says)?;
    upload.finish().map_err(says)?;
    keys.extend([snapshot(3), snapshot(4), slot(99)]);
    let heads = store.heads(&keys).map_err(says)?;
    let kept: Vec<_> = heads.iter().map(|head| head.as_ref().map(|head| head.timestamp)).collect();
    let wanted = times.into_iter().chain([TIME, TIME]).map(Some).chain([None]).collect::<Vec<_>>();
    ensure(kept == wanted, || format!("{kept:?} were kept of {wanted:?}"))
}

fn listing_is_complete(store: &Arc<dyn Store>, effort: Effort) -> Outcome {
    // Not in order, and listed right after the last create.
    for n in (1..=effort.objects).rev() {
        store.create(&slot(n), pattern((n % 7) as usize, 0), TIME).map_err(says)?;
    }
    let entries = store.list(&Scope::Level(Level::SLOTS)).map_err(says)?;
    let keys: Vec<Key> = entries.iter().map(|entry| entry.key).collect();
    let wanted: Vec<Key> = (1..=effort.objects).map(slot).collect();
    ensure(keys == wanted, || format!("{} of {} names, or not in order", keys.len(), wanted.len()))?;
    let right = |(n, entry): (u64, &Entry)| entry.size == n % 7 && entry.timestamp.is_none_or(|t| t == TIME);
    ensure((1..).zip(&entries).all(right), || "a size or time is wrong".into())
}

fn scopes_are_apart(store: &Arc<dyn Store>, _: Effort) -> Outcome {
    let level = |n| Level::new(n).unwrap_or(Level::SLOTS);
    let range = TxidRange::single(Txid::FIRST);
    let (epoch, generation) = (Epoch::new(0x1f), V3Generation(0xfeed));
    let epoch = epoch.ok_or("no such epoch")?;
    let groups = [
        (Scope::Level(level(0)), vec![Key::Ltx(level(0), range)]),
        (Scope::Level(level(1)), vec![Key::Ltx(level(1), range)]),
        (Scope::Level(level(9)), vec![Key::Ltx(level(9), range)]),
        (
            Scope::Epochs,
            [EpochRecord::Claim, EpochRecord::Open, EpochRecord::Closed]
                .map(|r| Key::Epoch(epoch, r))
                .to_vec(),
        ),
        (
            Scope::V3Snapshots,
            vec![
                Key::V3Snapshot(V3Generation(1), 0),
                Key::V3Snapshot(generation, 0),
                Key::V3Snapshot(generation, 7),
            ],
        ),
        (
            Scope::V3Wal(generation),
            vec![
                Key::V3Wal(generation, 0, 0),
                Key::V3Wal(generation, 0, 0x1038),
                Key::V3Wal(generation, 7, 1 << 40),
            ],
        ),
        (Scope::V3Wal(V3Generation(1)), vec![Key::V3Wal(V3Generation(1), 0, 0)]),
        (Scope::OtherLayout(level(0)), vec![]),
        (Scope::From(level(0)), [0, 1, 9].map(|n| Key::Ltx(level(n), range)).to_vec()),
        (Scope::From(level(1)), [1, 9].map(|n| Key::Ltx(level(n), range)).to_vec()),
        (Scope::From(level(2)), vec![Key::Ltx(level(9), range)]),
    ];
    let once: BTreeSet<&Key> = groups.iter().flat_map(|(_, keys)| keys).collect();
    for key in once {
        store.create(key, Bytes::from(key.to_string()), TIME).map_err(says)?;
    }
    for (scope, keys) in &groups {
        let listed: Vec<Key> = store.list(scope).map_err(says)?.iter().map(|entry| entry.key).collect();
        ensure(listed == *keys, || format!("{scope:?} holds {listed:?}"))?;
        for key in keys {
            let bytes = store.read(key, None).map_err(says)?.bytes;
            ensure(bytes == key.to_string().as_bytes(), || format!("{key} holds another's bytes"))?;
        }
    }
    Ok(())
}

fn ranges_are_cut(store: &Arc<dyn Store>, _: Effort) -> Outcome {
    let body = pattern(5000, 3);
    store.create(&slot(1), body.clone(), TIME).map_err(says)?;
    store.create(&slot(2), Bytes::new(), TIME).map_err(says)?;
    let version = store.head(&slot(1)).map_err(says)?.version;
    let rows = [0..5000, 0..1, 4999..5000, 10..20, 4990..9000, 5000..5001, 9000..u64::MAX, 7..7, 0..u64::MAX];
    for range in rows {
        let chunk = store.read(&slot(1), Some(range.clone())).map_err(says)?;
        let cut = |at: u64| usize::try_from(at.min(5000)).unwrap_or(0);
        let wanted = &body[cut(range.start)..cut(range.end).max(cut(range.start))];
        ensure(chunk.bytes == wanted, || format!("{range:?} gave {} bytes", chunk.bytes.len()))?;
        ensure(chunk.total == 5000, || format!("{range:?} told a size of {}", chunk.total))?;
        ensure(chunk.version == version, || format!("{range:?} told another version"))?;
    }
    for range in [None, Some(0..10)] {
        let chunk = store.read(&slot(2), range).map_err(says)?;
        ensure(chunk.bytes.is_empty() && chunk.total == 0, || "an empty object is not read as such".into())?;
    }
    Ok(())
}

fn missing_is_told(store: &Arc<dyn Store>, _: Effort) -> Outcome {
    let kind = |result: Result<(), StoreError>| result.err().map(|error| error.kind);
    let rows = [
        ("head", kind(store.head(&slot(1)).map(drop))),
        ("read", kind(store.read(&slot(1), None).map(drop))),
        ("ranged read", kind(store.read(&slot(1), Some(5..9)).map(drop))),
    ];
    for (verb, kind) in rows {
        ensure(kind == Some(ErrorKind::NotFound), || format!("{verb} of a missing object: {kind:?}"))?;
    }
    Ok(())
}

fn delete_is_repeatable(store: &Arc<dyn Store>, effort: Effort) -> Outcome {
    let keys: Vec<Key> = (1..=effort.objects.min(40)).map(slot).collect();
    for key in &keys {
        store.create(key, pattern(3, 0), TIME).map_err(says)?;
    }
    for _ in 0..2 {
        store.delete(&keys).map_err(says)?;
        let left = store.list(&Scope::Level(Level::SLOTS)).map_err(says)?;
        ensure(left.is_empty(), || format!("{} objects outlived their deletion", left.len()))?;
    }
    store.delete(&[]).map_err(says)?;
    let again = store.create(&slot(1), pattern(3, 1), TIME).map_err(says)?;
    ensure(again == Created::Yes, || "a freed name can't be created".into())
}

fn upload_is_atomic(store: &Arc<dyn Store>, effort: Effort) -> Outcome {
    let listed = || store.list(&Scope::Level(Level::SNAPSHOTS)).map(|entries| entries.len()).map_err(says);
    let body = pattern(effort.large, 5);
    let mut dropped = store.upload(&snapshot(9), TIME).map_err(says)?;
    dropped.write(&body).map_err(says)?;
    ensure(listed()? == 0, || "an unfinished upload is listed".into())?;
    drop(dropped);
    ensure(listed()? == 0, || "an abandoned upload is listed".into())?;
    // Twice: an upload may replace an older object.
    for seed in [0, 1] {
        let body = pattern(effort.large + usize::from(seed), seed);
        let mut upload = store.upload(&snapshot(9), TIME).map_err(says)?;
        for piece in body.chunks(1_000_003) {
            upload.write(piece).map_err(says)?;
        }
        upload.finish().map_err(says)?;
        let chunk = store.read(&snapshot(9), None).map_err(says)?;
        ensure(chunk.bytes == body, || "the upload's bytes do not stand".into())?;
    }
    let empty = store.upload(&snapshot(10), TIME).map_err(says)?;
    empty.finish().map_err(says)?;
    ensure(listed()? == 2, || "an upload without bytes makes no object".into())
}

fn reader_reads(store: &Arc<dyn Store>, _: Effort) -> Outcome {
    let body = pattern(100_000, 9);
    store.create(&slot(1), body.clone(), TIME).map_err(says)?;
    for (range, piece) in [(0..u64::MAX, 4096), (0..100_000, 99_999), (500..50_500, 1000), (0..1, 1)] {
        let mut read = Vec::new();
        let mut reader = RangeReader::range(&**store, slot(1), range.clone()).with_piece(piece);
        reader.read_to_end(&mut read).map_err(|error| error.to_string())?;
        let cut = |at: u64| usize::try_from(at.min(100_000)).unwrap_or(0);
        ensure(read == body[cut(range.start)..cut(range.end)], || {
            format!("{range:?} by {piece}: {}", read.len())
        })?;
    }
    Ok(())
}

fn time_is_told(store: &Arc<dyn Store>, _: Effort) -> Outcome {
    store.create(&slot(1), pattern(1, 0), TIME).map_err(says)?;
    let modified = store.head(&slot(1)).map_err(says)?.modified;
    let now = store.server_time().ok_or("no time after two answers")?;
    // A directory's file carries its own time, so nothing ties it to now.
    let apart = now.0.abs_diff(modified.0);
    ensure(modified == TIME || apart < 60_000, || {
        format!("the store's clock is {apart} ms off its own writes")
    })
}
