//! Lays the planned files over each other, newest first, into an [`Image`].
//!
//! Every file is read in full and its checksum verified; neighbours are checked against each other's seals. Reading
//! ends early once every page is there: what is older then plays no part in the result.

use crate::files::File;
use crate::restore::fetch::{Budget, FetchError, Object, fetch};
use crate::restore::image::Image;
use litekeep_core::restore::{LtxFile, Plan};
use litekeep_formats::ltx::{DecodeError, Decoder, Header, LtxError, Seal, Trailer};
use litekeep_formats::{Checksum, Level, PageNo, PageSize, TimestampMs};
use litekeep_store::{Key, Store};
use std::io;
use std::sync::Arc;

/// The store's name of a listed file.
pub(crate) fn key(file: &LtxFile) -> Key {
    Key::Ltx(file.level, file.range)
}

/// Why a plan could not be carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    /// Bytes could not be had.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// This file is no good; another way around it may be.
    #[error("{}: {what}", key(file))]
    Bad {
        /// Which.
        file: LtxFile,
        /// What is wrong with it.
        what: Flaw,
    },
    /// A v0.3 object is no good.
    #[error("{0}")]
    V3(String),
    /// The files are whole, what they add up to is not.
    #[error("{0}")]
    Wrong(Flaw),
    /// The local disk.
    #[error(transparent)]
    Local(#[from] io::Error),
}

/// What can be wrong with a file or with what files add up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// The file itself.
    #[error(transparent)]
    Format(#[from] LtxError),
    /// Its header covers other TXIDs than its name.
    #[error("its header does not cover the TXIDs of its name")]
    Name,
    /// A slot that only points to level 9, without the level 9 file.
    #[error("its content lies in a level 9 file that is not there")]
    ContentElsewhere,
    /// Another page size than the newer files, which do not hold every page.
    #[error(
        "its pages have {older} bytes, those of the files after it {newer}, and these are no whole image"
    )]
    PageSize {
        /// This file's.
        older: u32,
        /// The one after it.
        newer: u32,
    },
    /// The next file names another predecessor.
    #[error(
        "the file after it was built on another one (a slot of another writer, or one that was replaced)"
    )]
    Predecessor,
    /// The next file's epoch is lower.
    #[error("its epoch {older:x} is higher than that of the file after it, {newer:x}: a foreign writer")]
    Epoch {
        /// This file's.
        older: u64,
        /// The one after it.
        newer: u64,
    },
    /// Pages that no file holds (R05).
    #[error("no file holds page {0}")]
    MissingPage(PageNo),
    /// The rolling checksum.
    #[error("the database checksum is sealed as {sealed}, the pages give {computed}")]
    Database {
        /// By the newest file.
        sealed: Checksum,
        /// Of the pages written.
        computed: Checksum,
    },
    /// A database of no pages.
    #[error("it says that the database has no pages")]
    NoPages,
}

/// What came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Applied {
    pub(crate) page_size: PageSize,
    pub(crate) commit: u32,
    pub(crate) pages: u32,
    /// The newest file's time.
    pub(crate) timestamp: TimestampMs,
    /// The newest file's seal and checksum.
    pub(crate) seal: Option<Seal>,
    pub(crate) file: Checksum,
    /// Of the pages written.
    pub(crate) database: Checksum,
    /// Whether the newest file stated that checksum (and it is right).
    pub(crate) sealed: bool,
    /// How many of the files were needed.
    pub(crate) files_read: usize,
    /// How many bytes that took.
    pub(crate) bytes: u64,
    /// How many of those carry no seal.
    pub(crate) unsealed: usize,
}

/// What a file has told about itself.
struct Told {
    header: Header,
    trailer: Trailer,
}

/// See `Decisions::is_whole`.
pub(crate) type IsWhole = fn(Checksum, Checksum) -> bool;

/// How far an [`apply`] or a replay is: bytes of objects read, and bytes of the database, 0 while unknown.
pub(crate) type Tick<'a> = dyn FnMut(u64, u64) + 'a;

/// Carries out a plan.
pub(crate) fn apply(
    store: &dyn Store,
    plan: &Plan,
    budget: Budget,
    target: (Arc<dyn File>, Option<Arc<dyn File>>),
    is_whole: IsWhole,
    tick: &mut Tick<'_>,
) -> Result<Applied, ApplyError> {
    let newest_first: Vec<LtxFile> = plan.files.iter().rev().copied().collect();
    let objects: Vec<Object> =
        newest_first.iter().map(|file| Object { key: key(file), size: file.size }).collect();
    fetch(store, &objects, budget, |fetched| {
        let mut layers = Layers { target, is_whole, image: None, newest: None, newer: None, unsealed: 0 };
        let mut files_read = 0;
        for (at, file) in newest_first.iter().enumerate() {
            let mut seen = 0;
            let told = layers.add(file, Decoder::new(fetched.open(at)), &mut |database| {
                if seen != fetched.consumed() {
                    seen = fetched.consumed();
                    tick(seen, database);
                }
            })?;
            files_read += 1;
            layers.check_neighbour(file, &told)?;
            layers.newest.get_or_insert((told.header, told.trailer));
            layers.newer = Some((*file, told));
            if layers.image.as_ref().is_some_and(Image::is_complete) {
                break;
            }
        }
        layers.finish(files_read, fetched.consumed())
    })
}

struct Layers {
    target: (Arc<dyn File>, Option<Arc<dyn File>>),
    is_whole: IsWhole,
    image: Option<Image>,
    newest: Option<(Header, Trailer)>,
    newer: Option<(LtxFile, Told)>,
    unsealed: usize,
}

impl Layers {
    /// Reads one file into the image.
    fn add<S: litekeep_formats::ByteSource<Error = FetchError>>(
        &mut self,
        file: &LtxFile,
        decoder: Result<Decoder<S>, DecodeError<FetchError>>,
        tick: &mut dyn FnMut(u64),
    ) -> Result<Told, ApplyError> {
        let bad = |what: Flaw| ApplyError::Bad { file: *file, what };
        let failed = |error: DecodeError<FetchError>| match error {
            DecodeError::Source(error) => ApplyError::Fetch(error),
            DecodeError::Format(error) => bad(error.into()),
        };
        let mut decoder = decoder.map_err(failed)?;
        let header = *decoder.header();
        check_header(file, &header).map_err(bad)?;
        let (target, sums) = &self.target;
        if header.commit == 0 {
            return Err(bad(Flaw::NoPages));
        }
        let image = self.image.get_or_insert_with(|| {
            Image::new(Arc::clone(target), sums.clone(), header.page_size, header.commit)
        });
        if image.page_size() != header.page_size {
            // Only a whole image may change the page size, and reading ends behind one.
            return Err(bad(Flaw::PageSize {
                older: header.page_size.get(),
                newer: image.page_size().get(),
            }));
        }
        let mut page = vec![0; header.page_size.bytes()];
        while let Some(number) = decoder.next_page(&mut page).map_err(failed)? {
            tick(u64::from(header.commit) * u64::from(header.page_size.get()));
            image.page(number, &page)?;
        }
        let trailer = match decoder.finish() {
            Err(DecodeError::Format(LtxError::FileChecksum { stored, computed }))
                if (self.is_whole)(stored, computed) =>
            {
                Trailer { post_apply: None, file: stored }
            }
            other => other.map_err(failed)?,
        };
        self.unsealed += usize::from(header.seal().is_none());
        Ok(Told { header, trailer })
    }

    /// Compares a file with the one after it in the chain.
    fn check_neighbour(&self, file: &LtxFile, told: &Told) -> Result<(), ApplyError> {
        let Some((newer, above)) = &self.newer else { return Ok(()) };
        neighbours((file, &told.header, &told.trailer), (newer, &above.header))
            .map_err(|what| ApplyError::Bad { file: *file, what })
    }

    fn finish(self, files_read: usize, bytes: u64) -> Result<Applied, ApplyError> {
        let (Some(image), Some((header, trailer))) = (self.image, self.newest) else {
            return Err(ApplyError::Wrong(Flaw::NoPages));
        };
        if let Some(page) = image.first_missing() {
            return Err(ApplyError::Wrong(Flaw::MissingPage(page)));
        }
        let pages = image.written();
        let computed = image.finish()?;
        let seal = header.seal();
        let stated = [seal.and_then(|seal| seal.database), trailer.post_apply];
        for sealed in stated.into_iter().flatten() {
            if !(self.is_whole)(sealed, computed) {
                return Err(ApplyError::Wrong(Flaw::Database { sealed, computed }));
            }
        }
        Ok(Applied {
            page_size: header.page_size,
            commit: header.commit,
            pages,
            timestamp: header.timestamp,
            seal,
            file: trailer.file,
            database: computed,
            sealed: stated.into_iter().any(|sealed| sealed.is_some()),
            files_read,
            bytes,
            unsealed: self.unsealed,
        })
    }
}

/// What a header must say whatever stands around it.
pub(crate) fn check_header(file: &LtxFile, header: &Header) -> Result<(), Flaw> {
    if header.range != file.range {
        return Err(Flaw::Name);
    }
    if file.level != Level::SNAPSHOTS && header.content_is_elsewhere() {
        return Err(Flaw::ContentElsewhere);
    }
    Ok(())
}

/// What a file and the one after it in the chain must agree on. The predecessor's checksum is that of a *slot*, so
/// it can be compared only where the older file is the slot right below.
pub(crate) fn neighbours(
    (older, header, trailer): (&LtxFile, &Header, &Trailer),
    (newer, above): (&LtxFile, &Header),
) -> Result<(), Flaw> {
    let Some(seal_above) = above.seal() else { return Ok(()) };
    if let Some(seal) = header.seal()
        && seal.epoch > seal_above.epoch
    {
        return Err(Flaw::Epoch { older: seal.epoch.get(), newer: seal_above.epoch.get() });
    }
    let adjacent = older.level == Level::SLOTS && older.range.max().next() == newer.range.min();
    if adjacent && seal_above.predecessor.is_some_and(|predecessor| predecessor != trailer.file) {
        return Err(Flaw::Predecessor);
    }
    Ok(())
}
