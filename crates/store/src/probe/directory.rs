//! A directory is asked with the very code that replicates to it, rooted in a folder of the probe's own.

use super::{Answer, Findings, Question, Rows};
use crate::directory::DirectoryStore;
use crate::{Created, ErrorKind, Key, Scope, Store, StoreError};
use bytes::Bytes;
use litekeep_core::env::{Clock, Random};
use litekeep_formats::{Level, Txid, TxidRange};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const FIRST: &[u8] = b"litekeep doctor: the first content";
const SECOND: &[u8] = b"litekeep doctor: another content";
const KEY: Key = Key::Ltx(Level::SLOTS, TxidRange::single(Txid::FIRST));

pub(super) fn probe(
    base: &Path,
    folder: &str,
    clock: &Arc<dyn Clock>,
    random: &Arc<dyn Random>,
    stop: &dyn Fn() -> bool,
) -> Findings {
    let scratch = base.join(folder);
    let missing = missing(&scratch);
    let open = |path: &Path| DirectoryStore::new(path, Arc::clone(clock), Arc::clone(random));
    let mut probe = Probe { store: open(&scratch), rows: Rows::default(), asked: 0, stop, clock };
    if probe.reach(base) {
        probe.list(&open(base));
        if probe.write() {
            probe.questions();
        }
    }
    let mut left = Vec::new();
    remove(&scratch, &missing, &mut left);
    let interrupted = stop();
    let why_not =
        if interrupted { "not asked: interrupted" } else { "not asked: an answer above rules it out" };
    Findings {
        location: format!("file://{}", base.display()),
        rows: probe.rows.finish(Question::suits_directory, why_not),
        clock_ahead_ms: None,
        keeps_versions: false,
        unreached: ErrorKind::FixConfig,
        requests: probe.asked,
        left,
        interrupted,
    }
}

struct Probe<'a> {
    store: DirectoryStore,
    rows: Rows,
    asked: u32,
    stop: &'a dyn Fn() -> bool,
    clock: &'a Arc<dyn Clock>,
}

impl Probe<'_> {
    /// A directory, or a name at which one can be made.
    fn reach(&mut self, base: &Path) -> bool {
        let found = match std::fs::metadata(base) {
            Ok(found) if found.is_dir() => Ok("a directory"),
            Ok(_) => Err("something else than a directory stands there".to_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Ok("no directory yet: the first write makes it")
            }
            Err(error) => Err(error.to_string()),
        };
        match found {
            Ok(text) => self.rows.tell(Question::Reach, Answer::Yes, text),
            Err(text) => self.rows.tell(Question::Reach, Answer::No, text),
        }
        self.rows.get(Question::Reach) == Some(Answer::Yes)
    }

    fn list(&mut self, replica: &dyn Store) {
        let scopes = [Scope::Level(Level::SLOTS), Scope::Level(Level::SNAPSHOTS), Scope::Epochs];
        let listed = self.ask(|_| scopes.iter().try_for_each(|scope| replica.list(scope).map(drop)));
        self.permission(Question::List, listed);
    }

    fn write(&mut self) -> bool {
        let now = self.clock.wall();
        let Some(created) = self.ask(|store| store.create(&KEY, Bytes::from_static(FIRST), now)) else {
            return false;
        };
        let created = created.map(drop);
        self.permission(Question::Write, Some(created));
        self.rows.get(Question::Write) == Some(Answer::Yes)
    }

    fn questions(&mut self) {
        let read = self.ask(|store| store.read(&KEY, None));
        let same = read.map(|read| {
            read.and_then(|chunk| match chunk.bytes == FIRST {
                true => Ok(()),
                false => Err(wrong("what was read is not what was written")),
            })
        });
        self.permission(Question::Read, same);
        let now = self.clock.wall();
        let again = self.ask(|store| store.create(&KEY, Bytes::from_static(SECOND), now));
        let stands = self.ask(|store| store.read(&KEY, None)).and_then(Result::ok);
        let stands = stands.is_some_and(|chunk| chunk.bytes == FIRST);
        let (answer, text) = match again {
            Some(Ok(Created::Exists)) if stands => (Answer::Yes, "a file is never replaced".to_owned()),
            Some(Ok(_)) => (Answer::No, "a file that was there was replaced".to_owned()),
            Some(Err(error)) => (Answer::Unknown, error.cause.to_string()),
            None => (Answer::Unknown, "interrupted".to_owned()),
        };
        self.rows.tell(Question::CreateOnly, answer, text);
        let listed = self.ask(|store| store.list(&Scope::Level(Level::SLOTS)));
        self.yes_if(Question::ListAfterPut, listed, |entries| entries.iter().any(|entry| entry.key == KEY));
        let piece = self.ask(|store| store.read(&KEY, Some(2..5)));
        self.yes_if(Question::Ranges, piece, |chunk| chunk.bytes == FIRST[2..5]);
        let deleted = self.ask(|store| store.delete(&[KEY]));
        self.permission(Question::Delete, deleted);
    }

    /// `None` once the caller said stop.
    fn ask<T>(&mut self, ask: impl FnOnce(&dyn Store) -> T) -> Option<T> {
        if (self.stop)() {
            return None;
        }
        self.asked += 1;
        Some(ask(&self.store))
    }

    fn permission(&mut self, question: Question, result: Option<Result<(), StoreError>>) {
        let (answer, text) = match result {
            Some(Ok(())) => (Answer::Yes, "allowed".to_owned()),
            Some(Err(error)) => (Answer::No, error.cause.to_string()),
            None => (Answer::Unknown, "interrupted".to_owned()),
        };
        self.rows.tell(question, answer, text);
    }

    fn yes_if<T>(
        &mut self,
        question: Question,
        result: Option<Result<T, StoreError>>,
        good: impl FnOnce(&T) -> bool,
    ) {
        let (answer, text) = match result {
            Some(Ok(value)) if good(&value) => (Answer::Yes, "at once".to_owned()),
            Some(Ok(_)) => (Answer::No, "another answer came than the one that was to come".to_owned()),
            Some(Err(error)) => (Answer::No, error.cause.to_string()),
            None => (Answer::Unknown, "interrupted".to_owned()),
        };
        self.rows.tell(question, answer, text);
    }
}

fn wrong(text: &str) -> StoreError {
    let cause = crate::Failure::Text(text.to_owned());
    StoreError::new(crate::ErrorKind::DataDamaged, "read", "the probe's file", cause)
}

/// The folders on the way to `scratch` that are not there yet, the innermost first.
fn missing(scratch: &Path) -> Vec<PathBuf> {
    let is_missing = |path: &&Path| matches!(std::fs::symlink_metadata(path), Err(error) if error.kind() == io::ErrorKind::NotFound);
    scratch.ancestors().skip(1).take_while(is_missing).map(Path::to_path_buf).collect()
}

/// Takes back what the probe made, and the folders on the way to it that it made.
fn remove(scratch: &Path, made: &[PathBuf], left: &mut Vec<String>) {
    match std::fs::remove_dir_all(scratch) {
        Err(error) if error.kind() != io::ErrorKind::NotFound && scratch.symlink_metadata().is_ok() => {
            left.push(format!("file://{} ({error})", scratch.display()));
        }
        _ => {}
    }
    // The folder of all probes goes with the last of them, whoever made it.
    let shared = scratch.parent().map(Path::to_path_buf).filter(|shared| !made.contains(shared));
    for folder in shared.iter().chain(made) {
        match std::fs::remove_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => return,
            Err(error) if error.kind() != io::ErrorKind::NotFound && folder.symlink_metadata().is_ok() => {
                left.push(format!("file://{} ({error})", folder.display()));
                return;
            }
            _ => {}
        }
    }
}
