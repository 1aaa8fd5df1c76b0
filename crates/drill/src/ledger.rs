//! The ledger: every write is in it before it is sent, and its answer after it came.
//!
//! It lies outside the system under test, in memory and in a file of lines. It never judges.

use crate::clock::{Clock, Ms};
use serde::Serialize;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// What a client asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Deed {
    /// A post with an id and a title of the client's own.
    Post {
        /// Its record id.
        id: String,
        /// Its title, which no other post has.
        title: String,
    },
    /// A vote for a post; nobody votes twice for one.
    Vote {
        /// The id of the account that votes.
        oracle: String,
        /// The post.
        post: String,
    },
    /// A look at a post that was acknowledged to the same writer. No write.
    Read {
        /// The post.
        post: String,
    },
}

/// How it ended for the client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// 2xx: from now on it must be there.
    Acknowledged,
    /// To a read: the post was there, as it was written.
    Found,
    /// To a read: an answer without it.
    Missing,
    /// Any other answer.
    Refused {
        /// HTTP status.
        status: u16,
        /// Whether it said when to come again.
        retry_after: bool,
        /// The server's words.
        said: String,
    },
    /// No answer, or not all of it.
    Cut(String),
}

/// One write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Which client.
    pub writer: String,
    /// What it asked for.
    pub deed: Deed,
    /// When it was sent.
    pub sent: Ms,
    /// When the answer was there, and which; nothing while it is under way.
    pub answer: Option<(Ms, Answer)>,
}

impl Entry {
    /// When it ended; never, for one that is still under way.
    #[must_use]
    pub fn ended(&self) -> Ms {
        self.answer.as_ref().map_or(Ms::MAX, |(at, _)| *at)
    }

    /// Whether it is a write that was answered with 2xx.
    #[must_use]
    pub fn acknowledged(&self) -> bool {
        matches!(self.answer, Some((_, Answer::Acknowledged)))
    }
}

/// The ledger of one scenario, shared by its writers.
#[derive(Clone)]
pub struct Ledger {
    clock: Clock,
    book: Arc<Mutex<Book>>,
}

struct Book {
    file: File,
    entries: Vec<Entry>,
    trouble: Option<io::Error>,
}

impl Ledger {
    /// A new one, with its lines in `path`.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn create(path: &Path, clock: Clock) -> io::Result<Self> {
        let book = Book { file: File::create(path)?, entries: Vec::new(), trouble: None };
        Ok(Self { clock, book: Arc::new(Mutex::new(book)) })
    }

    /// Now, by the clock of its entries.
    #[must_use]
    pub fn now(&self) -> Ms {
        self.clock.ms()
    }

    /// Writes down what will be sent next; gives its number.
    pub fn send(&self, writer: &str, deed: Deed) -> usize {
        self.with(|book, now| {
            let entry = Entry { writer: writer.to_owned(), deed, sent: now, answer: None };
            book.line(&entry);
            book.entries.push(entry);
            book.entries.len() - 1
        })
    }

    /// Writes down what became of it.
    pub fn answer(&self, number: usize, answer: Answer) {
        self.with(|book, now| {
            if let Some(entry) = book.entries.get_mut(number) {
                entry.answer = Some((now, answer));
                let entry = entry.clone();
                book.line(&entry);
            }
        });
    }

    /// A copy of all entries.
    ///
    /// # Errors
    /// A line could not be written: then the file does not say what memory says.
    pub fn entries(&self) -> io::Result<Vec<Entry>> {
        self.with(|book, _| book.trouble.take().map_or_else(|| Ok(book.entries.clone()), Err))
    }

    /// How many were answered with 2xx so far.
    #[must_use]
    pub fn acknowledged(&self) -> usize {
        self.with(|book, _| book.entries.iter().filter(|entry| entry.acknowledged()).count())
    }

    /// When the first 2xx after `since` came.
    #[must_use]
    pub fn first_success(&self, since: Ms) -> Option<Ms> {
        self.with(|book, _| {
            let after = book.entries.iter().filter(|entry| entry.acknowledged() && entry.ended() > since);
            after.map(Entry::ended).min()
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut Book, Ms) -> T) -> T {
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.ms();
        work(&mut book, now)
    }
}

impl Book {
    fn line(&mut self, entry: &Entry) {
        let written = serde_json::to_string(entry).map_err(io::Error::other);
        if let Err(error) = written.and_then(|line| writeln!(self.file, "{line}")) {
            self.trouble.get_or_insert(error);
        }
    }
}
