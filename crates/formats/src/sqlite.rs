//! The database header: the first 100 bytes of page 1.

use crate::fields::Fields;
use crate::types::PageSize;

/// The first 16 bytes of every SQLite database.
pub const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Why bytes are not a database header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DatabaseHeaderError {
    /// Fewer than 100 bytes.
    #[error("shorter than a SQLite database header (100 bytes)")]
    Short,
    /// Something else, or an encrypted database.
    #[error("not a SQLite database (its first 16 bytes differ)")]
    Magic,
    /// A page size that SQLite does not have.
    #[error("a SQLite database cannot have the page size field {0:#06x}")]
    PageSize(u16),
}

/// What the engine needs of the database header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DatabaseHeader {
    /// Bytes of a page.
    pub page_size: PageSize,
    /// 2 in WAL mode, 1 with a rollback journal.
    pub write_version: u8,
    /// 2 in WAL mode, 1 with a rollback journal.
    pub read_version: u8,
    /// Bytes at the end of each page that SQLite leaves alone.
    pub reserved_space: u8,
    /// Counts changes; in WAL mode only now and then.
    pub change_counter: u32,
    /// Pages of the database, if [`Self::page_count_is_valid`].
    pub page_count: u32,
    /// Pages on the free list.
    pub freelist_count: u32,
    /// Counts schema changes.
    pub schema_cookie: u32,
    /// The application's `PRAGMA user_version`.
    pub user_version: u32,
    /// The application's `PRAGMA application_id`.
    pub application_id: u32,
    /// The change counter when the page count was written.
    pub version_valid_for: u32,
    /// `SQLITE_VERSION_NUMBER` of the last writer.
    pub sqlite_version: u32,
}

impl DatabaseHeader {
    /// Bytes.
    pub const LEN: usize = 100;

    /// Parses the first 100 bytes of a database; more are ignored.
    ///
    /// # Errors
    /// [`DatabaseHeaderError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, DatabaseHeaderError> {
        let bytes: &[u8; Self::LEN] = bytes.first_chunk().ok_or(DatabaseHeaderError::Short)?;
        let mut fields = Fields::new(bytes);
        if fields.take::<16>().as_ref() != Some(MAGIC) {
            return Err(DatabaseHeaderError::Magic);
        }
        let field = fields.u16_be().ok_or(DatabaseHeaderError::Short)?;
        let page_size = PageSize::from_db_header(field).ok_or(DatabaseHeaderError::PageSize(field))?;
        Self::rest(page_size, fields).ok_or(DatabaseHeaderError::Short)
    }

    fn rest(page_size: PageSize, mut fields: Fields<'_>) -> Option<Self> {
        let write_version = fields.u8()?;
        let read_version = fields.u8()?;
        let reserved_space = fields.u8()?;
        fields.skip(3)?; // payload fractions, constants
        let change_counter = fields.u32_be()?;
        let page_count = fields.u32_be()?;
        fields.skip(4)?; // first page of the free list
        let freelist_count = fields.u32_be()?;
        let schema_cookie = fields.u32_be()?;
        fields.skip(16)?; // schema format, cache size, largest root page, text encoding
        let user_version = fields.u32_be()?;
        fields.skip(4)?; // incremental vacuum
        let application_id = fields.u32_be()?;
        fields.skip(20)?; // for expansion
        Some(Self {
            page_size,
            write_version,
            read_version,
            reserved_space,
            change_counter,
            page_count,
            freelist_count,
            schema_cookie,
            user_version,
            application_id,
            version_valid_for: fields.u32_be()?,
            sqlite_version: fields.u32_be()?,
        })
    }

    /// Whether the file is in WAL mode.
    pub const fn is_wal(&self) -> bool {
        self.write_version == 2 && self.read_version == 2
    }

    /// Whether [`Self::page_count`] may be believed; else the file's length counts.
    pub const fn page_count_is_valid(&self) -> bool {
        self.page_count != 0 && self.change_counter == self.version_valid_for
    }
}
