//! The bucket under the containers: where it is, what it holds, and how to be unkind to it.

use crate::error::DrillError;
use crate::facts::Listing;
use crate::wire::{Way, Weather, Wire};
use ring::digest::{SHA256, digest};
use s3test::{Fault, Profile, Rule};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

/// Where objects are put out of the way; no program lists it.
const ASIDE: &str = "aside";

/// Where data lies in a directory: Litestream 0.5's layout, and 0.3's.
const DATA: [&str; 2] = ["ltx", "generations"];

/// The names of the keys in a container's environment.
const KEYS: [&str; 2] = ["LITESTREAM_ACCESS_KEY_ID", "LITESTREAM_SECRET_ACCESS_KEY"];

/// A bucket that a run may use.
pub enum Bucket {
    /// An S3 server in this process, with the habits of Ceph and so of DigitalOcean Spaces.
    Here {
        /// The server.
        server: s3test::Server,
        /// The way to it.
        wire: Wire,
    },
    /// A directory.
    Directory(PathBuf),
    /// A real bucket.
    Remote(crate::remote::Remote),
}

/// What a container is told about its replica.
#[derive(Debug, Clone, Default)]
pub struct Place {
    /// The replica's URL.
    pub url: String,
    /// Variables for its environment.
    pub environment: Vec<(String, String)>,
}

impl Bucket {
    /// The S3 server in this process.
    ///
    /// # Errors
    /// No port is free.
    pub async fn here() -> Result<Self, DrillError> {
        let server = s3test::Server::start(Profile::Ceph)
            .map_err(|error| DrillError::machine("the bucket", &error))?;
        let target = server.endpoint().trim_start_matches("http://").to_owned();
        let wire = Wire::start(Way::To(target)).await?;
        Ok(Self::Here { server, wire })
    }

    /// What to tell a container whose replica is `path` in it.
    #[must_use]
    pub fn place(&self, path: &str) -> Place {
        match self {
            Self::Here { wire, .. } => Place {
                url: format!(
                    "s3://{}/{path}?endpoint=http://{}&region={}&forcePathStyle=true",
                    s3test::BUCKET,
                    wire.address,
                    s3test::REGION
                ),
                environment: keys(s3test::ACCESS_KEY, s3test::SECRET_KEY),
            },
            Self::Directory(folder) => {
                Place { url: format!("file://{}", folder.join(path).display()), environment: Vec::new() }
            }
            Self::Remote(remote) => remote.place(path),
        }
    }

    /// The same place for a witness, which goes there directly.
    #[must_use]
    pub fn direct(&self, path: &str) -> Place {
        match self {
            Self::Here { server, wire } => {
                let mut place = self.place(path);
                place.url = place.url.replace(&format!("http://{}", wire.address), server.endpoint());
                place
            }
            Self::Directory(_) => self.place(path),
            Self::Remote(remote) => remote.direct(path),
        }
    }

    /// Whether it can be slowed and cut off.
    #[must_use]
    pub fn wire(&self) -> Option<&Wire> {
        match self {
            Self::Here { wire, .. } => Some(wire),
            Self::Directory(_) => None,
            Self::Remote(remote) => Some(&remote.wire),
        }
    }

    /// Sets the way to it; `false` where there is none.
    pub fn weather(&self, weather: Weather) -> bool {
        self.wire().map(|wire| wire.set(weather)).is_some()
    }

    /// Makes every listing fail with 403, as a key without that right does; `false` where that cannot be done.
    pub fn deny_listing(&self, deny: bool) -> bool {
        let Self::Here { server, .. } = self else { return false };
        server.clear_rules();
        if deny {
            let fault = Fault::Answer { status: 403, code: "AccessDenied", retry_after: None };
            server.add_rule(Rule::always("GET", "", fault));
        }
        true
    }

    /// All keys below `path` with a checksum of their content.
    ///
    /// # Errors
    /// It cannot be listed.
    pub async fn listing(&self, path: &str) -> Result<Listing, DrillError> {
        match self {
            Self::Here { server, .. } => {
                let below = format!("{path}/");
                let keys = server.keys().into_iter().filter(|key| key.starts_with(&below));
                let sum = |key: String| Some((key.clone(), checksum(&server.object(&key)?)));
                Ok(keys.filter_map(sum).collect())
            }
            Self::Directory(folder) => {
                let mut found = BTreeMap::new();
                walk(&folder.join(path), &mut found).map_err(|error| DrillError::machine(path, &error))?;
                Ok(found
                    .into_iter()
                    .map(|(file, bytes)| (file.display().to_string(), checksum(&bytes)))
                    .collect())
            }
            Self::Remote(remote) => remote.listing(path).await,
        }
    }

    /// Takes all data objects of `path` out of the way (`true`), or puts them back. What says that an epoch was opened
    /// stays. Gives how many.
    ///
    /// # Errors
    /// Something cannot be moved.
    pub async fn hide_data(&self, path: &str, hide: bool) -> Result<usize, DrillError> {
        match self {
            Self::Here { server, .. } => {
                let (from, to) = if hide {
                    (path.to_owned(), format!("{ASIDE}/{path}"))
                } else {
                    (format!("{ASIDE}/{path}"), path.to_owned())
                };
                let below = format!("{from}/");
                let data = server.keys().into_iter().filter(|key| key.starts_with(&below) && is_data(key));
                Ok(data.filter(|key| server.rename(key, &key.replacen(&from, &to, 1))).count())
            }
            Self::Directory(folder) => {
                let aside = folder.join(format!("{ASIDE}-{path}"));
                let moved = move_data(&folder.join(path), &aside, hide);
                moved.map_err(|error| DrillError::machine(aside.display().to_string(), &error))
            }
            Self::Remote(remote) => remote.hide_data(path, hide).await,
        }
    }
}

/// Moves what holds data between a replica's directory and one beside it.
fn move_data(replica: &Path, aside: &Path, hide: bool) -> io::Result<usize> {
    std::fs::create_dir_all(aside)?;
    let (from, to) = if hide { (replica, aside) } else { (aside, replica) };
    let mut moved = 0;
    for name in DATA {
        if from.join(name).is_dir() {
            std::fs::rename(from.join(name), to.join(name))?;
            moved += 1;
        }
    }
    Ok(moved)
}

/// Whether an object holds data, in the layouts of Litestream 0.5 and 0.3.
#[must_use]
pub fn is_data(key: &str) -> bool {
    key.ends_with(".ltx") || key.contains("/generations/")
}

/// Variables with a key and its secret.
#[must_use]
pub fn keys(key: &str, secret: &str) -> Vec<(String, String)> {
    KEYS.iter().zip([key, secret]).map(|(name, value)| ((*name).to_owned(), value.to_owned())).collect()
}

/// The same variables with a secret that opens nothing; `None` where there are no keys.
#[must_use]
pub fn wrong_secret(environment: &[(String, String)]) -> Option<Vec<(String, String)>> {
    let mut wrong = environment.to_vec();
    let secret = wrong.iter_mut().find(|(name, _)| name == KEYS[1])?;
    secret.1 = "wrong".repeat(8);
    Some(wrong)
}

/// SHA-256 as hex.
#[must_use]
pub fn checksum(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in digest(&SHA256, bytes).as_ref() {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn walk(folder: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            walk(&path, found)?;
        } else {
            found.insert(path.clone(), std::fs::read(&path)?);
        }
    }
    Ok(())
}
