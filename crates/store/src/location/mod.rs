//! Where a replica lies: replica URLs, settings, and the door that opens them.
//!
//! A URL or a config file becomes [`Settings`]; [`Settings::with_environment`] adds what the environment gives
//! (credentials, region, certificates) and [`open`] makes a store of it. Nothing here reads the process environment
//! by itself, and no text made here repeats a secret or the part of a URL that could hold one.

mod credentials;
mod provider;
mod url;

pub(crate) use credentials::GIVE_KEYS;
pub use credentials::{CredentialSource, Credentials, RoleSource, Secret};
pub(crate) use provider::Address;
pub use provider::Provider;
pub use url::ReplicaUrl;

use crate::directory::DirectoryStore;
use crate::retry::Policy;
use crate::{ErrorKind, Failure, Store, StoreError};
use litekeep_core::env::{Clock, Random};
use std::path::PathBuf;
use std::sync::Arc;

/// How a variable of the environment is looked up; an empty value counts as unset.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A replica URL or setting that can't be used: whose fault it is and what would be right, without secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct LocationError {
    text: String,
    about_keys: bool,
}

impl LocationError {
    fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), about_keys: false }
    }

    fn keys(text: impl Into<String>) -> Self {
        Self { text: text.into(), about_keys: true }
    }

    /// Whether it is the keys that are missing or can't be used: the replica can't be reached then, right as its URL may be.
    pub fn is_about_keys(&self) -> bool {
        self.about_keys
    }
}

impl From<LocationError> for StoreError {
    fn from(error: LocationError) -> Self {
        Self::new(ErrorKind::FixConfig, "open", "the replica", Failure::Text(error.text))
    }
}

/// Everything needed to open one replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settings {
    /// A directory.
    Directory(PathBuf),
    /// An S3 bucket or anything that speaks S3.
    S3(Box<S3Settings>),
}

/// An S3 replica. `None` means "as the provider and the environment say".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Settings {
    /// Bucket name, or an access point's ARN.
    pub bucket: String,
    /// What stands before the slash in front of each key, to the letter, as Litestream 0.5 has it: empty gives keys that begin
    /// with a slash. A URL's path is cleaned, and `.` where there is none. Where v0.3's files lie, see [`S3Settings::v3_path`].
    pub path: String,
    /// The service, `https://host[:port][/base]`; a bare host gets `http://` if it is local or private, else
    /// `https://`. `None` is AWS.
    pub endpoint: Option<String>,
    /// Signing region.
    pub region: Option<String>,
    /// Bucket in the path (`true`) or in the host name (`false`); by default in the path where an endpoint is given,
    /// and always where that is an IP address.
    pub force_path_style: Option<bool>,
    /// Accept any TLS certificate.
    pub skip_verify: bool,
    /// Sign a hash of each body; off sends `UNSIGNED-PAYLOAD`.
    pub sign_payload: bool,
    /// Access key id.
    pub access_key_id: Option<String>,
    /// Secret access key.
    pub secret_access_key: Option<Secret>,
    /// Session token of temporary keys.
    pub session_token: Option<Secret>,
    /// How many parts of a large object go up at once.
    pub concurrency: Option<usize>,
    /// Part size of a large object, bytes.
    pub part_size: Option<u64>,
    /// Storage class of what is written (`STANDARD_IA`, ...).
    pub storage_class: Option<String>,
    /// KMS key for server-side encryption.
    pub sse_kms_key_id: Option<String>,
    /// File with extra trusted certificates' PEM text (`AWS_CA_BUNDLE`, `SSL_CERT_FILE`), in place of the system's.
    pub ca_bundle: Option<PathBuf>,
    /// Where the keys come from; filled in by [`Settings::with_environment`].
    pub credentials: CredentialSource,
}

impl S3Settings {
    /// A bucket and a path in it, all else by default.
    pub fn new(bucket: impl Into<String>, path: impl Into<String>) -> Self {
        Self {
            bucket: bucket.into(),
            path: path.into(),
            endpoint: None,
            region: None,
            force_path_style: None,
            skip_verify: false,
            sign_payload: true,
            access_key_id: None,
            secret_access_key: None,
            session_token: None,
            concurrency: None,
            part_size: None,
            storage_class: None,
            sse_kms_key_id: None,
            ca_bundle: None,
            credentials: CredentialSource::Given,
        }
    }

    /// Where v0.3's files lie: it cleaned every path.
    pub fn v3_path(&self) -> String {
        url::clean_path(&self.path)
    }

    /// The path of one below this, as Litestream makes it for a database of a directory: cleaned, but for a slash in front.
    pub fn below(&self, name: &str) -> String {
        let slash = if self.path.starts_with('/') { "/" } else { "" };
        slash.to_owned() + &url::clean_path(&format!("{}/{name}", self.path))
    }

    /// Paths that somebody may hold for the same one, but whose keys are others: with a slash or a dot in front, with a slash
    /// behind, with one slash inside doubled.
    pub(crate) fn spellings(&self) -> Vec<String> {
        let clean = self.v3_path();
        let mut all = match clean.as_str() {
            "" => vec![String::new(), ".".to_owned(), "/".to_owned()],
            path => {
                let doubled =
                    path.match_indices('/').map(|(at, _)| format!("{}/{}", &path[..at], &path[at..]));
                let around = |front: &'static str| ["", "/"].map(|behind| format!("{front}{path}{behind}"));
                ["", "/", "./"].into_iter().flat_map(around).chain(doubled).collect()
            }
        };
        all.retain(|path| *path != self.path);
        all
    }

    /// How somebody can name the same place with another path: by a URL, if there is one that means it.
    pub(crate) fn named(&self, path: &str) -> String {
        let bucket = &self.bucket;
        match path {
            "." => format!("s3://{bucket}"),
            path if url::clean_path(path) == path => format!("s3://{bucket}/{path}"),
            path => format!("bucket {bucket} with path {path:?} (no URL means that)"),
        }
    }

    /// `s3://bucket/path`, for people.
    pub fn location(&self) -> String {
        match (self.path.as_str(), self.bucket.as_str()) {
            ("", bucket) => format!("s3://{bucket}"),
            (path, bucket) => format!("s3://{bucket}/{path}"),
        }
    }
}

impl Settings {
    /// Adds credentials, region, endpoint and certificates from the environment where the settings say nothing.
    ///
    /// Keys are looked for in this order: the settings; `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY` (with
    /// `AWS_SESSION_TOKEN`); `LITESTREAM_ACCESS_KEY_ID` and `LITESTREAM_SECRET_ACCESS_KEY`; a web identity; the
    /// profile `AWS_PROFILE` (or `default`) of the shared credentials and config files; the container's and, on AWS
    /// only, the machine's role. Half a pair is an error that names the other half.
    pub fn with_environment(self, environment: Environment<'_>) -> Result<Self, LocationError> {
        match self {
            Self::Directory(_) => Ok(self),
            Self::S3(settings) => {
                Ok(Self::S3(Box::new(credentials::with_environment(*settings, environment)?)))
            }
        }
    }

    /// What this replica shares with others that lie in the same place: what is slow or down there is so for all of them.
    /// The service and the bucket; all directories are one place.
    pub fn place(&self) -> String {
        match self {
            Self::Directory(_) => "file".to_owned(),
            Self::S3(settings) => {
                format!("{} {}", settings.endpoint.as_deref().unwrap_or(""), settings.bucket)
            }
        }
    }

    /// What to write for this place.
    pub fn named(&self) -> String {
        match self {
            Self::Directory(_) => self.location(),
            Self::S3(settings) => settings.named(&settings.path),
        }
    }

    /// `s3://bucket/path` or `file:///dir`, for people.
    pub fn location(&self) -> String {
        match self {
            Self::Directory(path) => format!("file://{}", path.display()),
            Self::S3(settings) => settings.location(),
        }
    }
}

/// Opens a replica. Nothing is asked of the store yet: a wrong bucket or key shows at the first verb.
pub fn open(
    settings: &Settings,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
) -> Result<Arc<dyn Store>, StoreError> {
    open_with(settings, Policy::default(), clock, random)
}

/// The same, with another patience; a directory needs none.
pub fn open_with(
    settings: &Settings,
    policy: Policy,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
) -> Result<Arc<dyn Store>, StoreError> {
    match settings {
        Settings::Directory(path) => Ok(Arc::new(DirectoryStore::new(path, clock, random))),
        Settings::S3(settings) => {
            Ok(Arc::new(crate::s3::S3Store::with_policy(settings, clock, random, policy)?))
        }
    }
}
