//! Reads every file from its beginning to its end, several ranges at a time, in bounded memory, and keeps what each
//! one says about itself.

use crate::restore::{Budget, CHUNK_BYTES, FetchError, Flaw, Object, Ranged, check_header, fetch, key};
use litekeep_core::restore::LtxFile;
use litekeep_formats::crc::page_checksum;
use litekeep_formats::ltx::{DecodeError, Decoder, Header, Marks, Trailer};
use litekeep_formats::source::ByteSource;
use litekeep_formats::{Checksum, Level, PageNo};
use litekeep_store::{ErrorKind, Store, StoreError};

/// How often a file that changes while it is read is begun anew.
const TRIES: u32 = 3;

/// What a whole file says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told {
    pub(super) file: LtxFile,
    pub(super) header: Header,
    pub(super) trailer: Trailer,
}

impl Told {
    /// The database checksum that it states for its end.
    pub(super) fn database(&self) -> Option<Checksum> {
        self.header.seal().and_then(|seal| seal.database).or(self.trailer.post_apply)
    }
}

/// What came of reading one file.
#[derive(Debug)]
pub(super) enum Seen {
    Whole(Told),
    /// It is no good.
    Bad(LtxFile, Flaw),
    /// It was cut short on the way, or is shorter than the store says.
    Short(LtxFile, String),
    /// It is not there (any more).
    Gone(LtxFile),
}

/// Reads `files` in their order. `each` gets what came of every one, and how many bytes were read so far.
///
/// # Errors
/// The store's, where it says nothing about the file.
pub(super) fn walk(
    store: &dyn Store,
    files: &[LtxFile],
    parallelism: usize,
    each: &mut dyn FnMut(Seen, u64),
) -> Result<(), StoreError> {
    let objects: Vec<Object> = files.iter().map(|file| Object { key: key(file), size: file.size }).collect();
    fetch(store, &objects, Budget::of(parallelism), |fetched| {
        for (at, file) in files.iter().enumerate() {
            let mut outcome = read(file, fetched.open(at));
            for _ in 0..TRIES {
                if !matches!(outcome, Err(DecodeError::Source(FetchError::Changed { .. }))) {
                    break;
                }
                outcome = read_again(store, file);
            }
            each(seen(file, outcome)?, fetched.consumed());
        }
        Ok(())
    })
}

fn seen(file: &LtxFile, outcome: Outcome) -> Result<Seen, StoreError> {
    Ok(match outcome {
        Ok(Ok(told)) => Seen::Whole(told),
        Ok(Err(flaw)) => Seen::Bad(*file, flaw),
        Err(DecodeError::Format(error)) => Seen::Bad(*file, error.into()),
        Err(DecodeError::Source(FetchError::Store(error))) => match error.kind() {
            ErrorKind::NotFound => Seen::Gone(*file),
            ErrorKind::DataDamaged => Seen::Short(*file, error.cause.to_string()),
            _ => return Err(error),
        },
        Err(DecodeError::Source(error)) => Seen::Short(*file, error.to_string()),
    })
}

/// A file that was replaced by another one of its name: as it is now.
fn read_again(store: &dyn Store, file: &LtxFile) -> Outcome {
    let head = store.head(&key(file)).map_err(|error| DecodeError::Source(FetchError::Store(error)))?;
    let object = Object { key: key(file), size: head.size };
    read(
        &LtxFile { size: head.size, modified: head.modified, ..*file },
        Ranged::new(store, object, CHUNK_BYTES),
    )
}

type Outcome = Result<Result<Told, Flaw>, DecodeError<FetchError>>;

fn read<S: ByteSource<Error = FetchError>>(file: &LtxFile, source: S) -> Outcome {
    let mut decoder = Decoder::new(source)?;
    let header = *decoder.header();
    match check_header(file, &header) {
        // Whether level 9 has it, the listing says.
        Ok(()) | Err(Flaw::ContentElsewhere) => {}
        Err(flaw) => return Ok(Err(flaw)),
    }
    let marks = header.seal().map_or(Marks::NONE, |seal| seal.marks);
    let elsewhere = file.level != Level::SNAPSHOTS && marks.contains(Marks::CONTENT_IN_LEVEL_9);
    let whole = !elsewhere && (file.range.is_snapshot() || marks.contains(Marks::FULL_IMAGE));
    let (mut pages, mut database) = (0, Checksum::EMPTY);
    let mut page = vec![0; header.page_size.bytes()];
    while let Some(number) = decoder.next_page(&mut page)? {
        pages += 1;
        if whole {
            database = database.toggle(page_checksum(number, &page));
        }
    }
    let told = Told { file: *file, header, trailer: decoder.finish()? };
    if whole && let Err(flaw) = check_image(&told, pages, database) {
        return Ok(Err(flaw));
    }
    Ok(Ok(told))
}

/// An image of the whole database has every page but SQLite's lock page, and they give the checksum that it states.
fn check_image(told: &Told, pages: u32, computed: Checksum) -> Result<(), Flaw> {
    let header = &told.header;
    let lock_page = u32::from(header.page_size.lock_page().get() <= header.commit);
    if pages < header.commit - lock_page {
        let last = PageNo::new(header.commit).unwrap_or(PageNo::FIRST);
        return Err(Flaw::MissingPage(last));
    }
    match told.database() {
        Some(sealed) if sealed != computed => Err(Flaw::Database { sealed, computed }),
        _ => Ok(()),
    }
}
