//! What the collections are: names, fields, limits, rules, indexes, in one place.
//!
//! The definitions are fixed (`define`); what an existing database adds to them, token secrets and durations, is
//! read from its `_collections` table when it is opened. Nothing here touches the database.

mod define;
mod ids;

pub use define::collections;
pub use ids::{collection_id, field_id};

/// Every collection of a server.
#[derive(Debug, Clone)]
pub struct Schema {
    collections: Vec<Collection>,
}

impl Schema {
    /// The fixed definitions, with these secrets for each auth collection.
    pub fn new(collections: Vec<Collection>) -> Self {
        Self { collections }
    }

    /// A collection by its name or id.
    pub fn find(&self, name_or_id: &str) -> Option<&Collection> {
        self.collections.iter().find(|it| it.name == name_or_id || it.id == name_or_id)
    }

    /// A collection that is known to be there.
    pub fn get(&self, name: &str) -> &Collection {
        self.find(name).expect("BUG: the fixed definitions have every collection that the code names")
    }

    /// All of them, in the order in which PocketBase made them.
    pub fn all(&self) -> &[Collection] {
        &self.collections
    }

    /// All of them, to fill in what the database knows.
    pub fn all_mut(&mut self) -> &mut [Collection] {
        &mut self.collections
    }
}

/// What a collection holds besides its own fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Records.
    Base,
    /// Records that can sign in: e-mail, password, token key.
    Auth,
}

/// One collection.
#[derive(Debug, Clone)]
pub struct Collection {
    /// `pbc_` and the CRC-32 of type and name, as PocketBase makes it.
    pub id: String,
    /// Its name, which is also the table's.
    pub name: &'static str,
    /// Base or auth.
    pub kind: Kind,
    /// One of PocketBase's own.
    pub system: bool,
    /// Its fields, in the order of the definition.
    pub fields: Vec<Field>,
    /// Who may do what.
    pub rules: Rules,
    /// Indexes beyond the primary key.
    pub indexes: Vec<Index>,
    /// What signing in needs; `None` for base collections.
    pub auth: Option<AuthOptions>,
}

impl Collection {
    /// A field by its name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// Whether its records can sign in.
    pub fn is_auth(&self) -> bool {
        self.kind == Kind::Auth
    }

    /// The collection whose accounts its rules mean by `@request.auth`; `None` if they say so themselves.
    pub fn accounts(&self) -> Option<&'static str> {
        match self.name {
            "users" => Some("users"),
            _ if self.system => None,
            _ => Some("oracles"),
        }
    }

    /// Whether these are the superusers.
    pub fn is_superusers(&self) -> bool {
        self.name == "_superusers"
    }
}

/// Filter expressions; `None` is for superusers only, an empty one for everybody.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rules {
    /// Which records a list shows.
    pub list: Option<&'static str>,
    /// Which single records may be read.
    pub view: Option<&'static str>,
    /// Which records may be made.
    pub create: Option<&'static str>,
    /// Which may be changed.
    pub update: Option<&'static str>,
    /// Which may be removed.
    pub delete: Option<&'static str>,
}

/// An index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// Its name.
    pub name: String,
    /// Whether it forbids equal rows.
    pub unique: bool,
    /// Its columns.
    pub columns: Vec<&'static str>,
    /// `WHERE` of a partial index, or nothing.
    pub predicate: &'static str,
}

/// What an auth collection needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthOptions {
    /// The second half of the key that signs its tokens (the first is the record's `tokenKey`). 50 characters.
    pub token_secret: String,
    /// How long its tokens are good, seconds.
    pub token_duration: i64,
}

/// One field.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// Its name, which is also the column's.
    pub name: &'static str,
    /// Type and limits.
    pub kind: FieldKind,
    /// May not be empty.
    pub required: bool,
    /// Never shown.
    pub hidden: bool,
    /// One of PocketBase's own.
    pub system: bool,
    /// Kept by the server: what clients send for it is ignored.
    pub managed: Managed,
}

impl Field {
    /// Whether several values fit.
    pub fn is_multiple(&self) -> bool {
        match &self.kind {
            FieldKind::Select { max, .. } | FieldKind::Relation { max, .. } => *max > 1,
            _ => false,
        }
    }
}

/// Who may write a field (`DIFFERENCES.md` says why).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Managed {
    /// Whoever may write the record.
    No,
    /// Superusers only; ignored from everybody else.
    BySuperusers,
    /// The server only: counters and karma follow from votes.
    ByServer,
}

/// Types and limits. Lengths are in characters.
#[derive(Debug, Clone, PartialEq)]
pub enum FieldKind {
    /// The record's id: 15 characters of `[a-z0-9]`.
    Id,
    /// Text.
    Text {
        /// The least length, 0 for none.
        min: usize,
        /// The greatest length; 0 means PocketBase's default of 5000.
        max: usize,
        /// What it must look like.
        pattern: Option<Pattern>,
    },
    /// A password: 8 characters or more, 71 bytes or less, kept as a bcrypt hash.
    Password,
    /// The half of the token's key that belongs to the record: 30 to 60 characters.
    TokenKey,
    /// An e-mail address.
    Email,
    /// A web address, also without a scheme.
    Url,
    /// True or false.
    Bool,
    /// A number.
    Number {
        /// The least value.
        min: Option<f64>,
        /// The greatest value.
        max: Option<f64>,
    },
    /// Set by the server.
    Autodate {
        /// Also at every change, not at creation only.
        on_update: bool,
    },
    /// A date, or nothing.
    Date,
    /// One or several of these.
    Select {
        /// What is allowed.
        values: &'static [&'static str],
        /// How many.
        max: usize,
    },
    /// Ids of records of another collection.
    Relation {
        /// Which.
        collection: &'static str,
        /// How many.
        max: usize,
    },
    /// The name of an uploaded file; there are no uploads here, so it stays what it is.
    File,
}

/// The patterns that fields use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pattern {
    /// `^0x[a-f0-9]{40}$`
    Wallet,
}

impl Pattern {
    /// The pattern as a regular expression.
    pub fn expression(self) -> &'static str {
        match self {
            Self::Wallet => "^0x[a-f0-9]{40}$",
        }
    }

    /// Whether `text` is like it.
    pub fn matches(self, text: &str) -> bool {
        match self {
            Self::Wallet => text.strip_prefix("0x").is_some_and(|hex| {
                hex.len() == 40 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
            }),
        }
    }
}
