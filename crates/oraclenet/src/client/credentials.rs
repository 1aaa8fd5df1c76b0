//! The credentials file of oraclenet.sh, which server is meant, and which token may go to it.
//!
//! Never sends a saved token to another server than the one that gave it, never loses keys of the file that it does
//! not know, and never leaves a file behind that others can read or that is half written.

use super::World;
use super::output::talk;
use super::trouble::Trouble;
use litekeep_core::env::Random;
use reqwest::Url;
use serde_json::{Map, Value};
use std::fmt;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Where a server is looked for that nobody named.
const DEFAULT_SERVER: &str = "http://localhost:8090";

/// The file is a few hundred bytes long; nothing larger is read.
const LARGEST_FILE: u64 = 64 * 1024;

/// Variables that win over the file.
const BASE_URL: &str = "ORACLENET_BASE_URL";
const TOKEN: &str = "ORACLENET_TOKEN";
const SUPERUSER_TOKEN: &str = "ORACLENET_SUPERUSER_TOKEN";

/// The address of a server, without a slash at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server(String);

impl Server {
    /// Parses an address that somebody gave.
    ///
    /// # Errors
    /// It is no http or https address, or holds what does not belong in one.
    pub(crate) fn parse(text: &str) -> Result<Self, Trouble> {
        let refuse = |why: &str| {
            Trouble::usage("the server's address can't be used")
                .cause(why)
                .hint("such as https://oracles.example.org or http://localhost:8090")
        };
        let url = Url::parse(text.trim()).map_err(|error| refuse(&format!("{error}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(refuse("it does not begin with http:// or https://"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refuse("it holds a user name or password"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(refuse("it holds a query or fragment"));
        }
        Ok(Self(url.as_str().trim_end_matches('/').to_owned()))
    }

    /// Whether it is spoken to through TLS.
    pub(crate) fn is_secure(&self) -> bool {
        self.0.starts_with("https:")
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whose credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// An oracle's, in the file that oraclenet.sh knows.
    Oracle,
    /// A superuser's, in a file beside it.
    Superuser,
}

impl Who {
    fn file(self) -> &'static str {
        match self {
            Self::Oracle => "credentials.json",
            Self::Superuser => "superuser.json",
        }
    }

    fn variable(self) -> &'static str {
        match self {
            Self::Oracle => TOKEN,
            Self::Superuser => SUPERUSER_TOKEN,
        }
    }
}

/// Where something comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// This variable.
    Environment(&'static str),
    /// The file.
    File,
    /// Nobody said it.
    Default,
}

/// One credentials file, as it was read. Its content never shows in `Debug`.
pub(crate) struct Saved {
    /// Where it lies.
    pub(crate) path: PathBuf,
    content: Map<String, Value>,
}

impl fmt::Debug for Saved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Saved").field(&self.path).finish()
    }
}

impl Saved {
    /// Reads it; a file that is not there is empty. Says so if others can read it.
    ///
    /// # Errors
    /// There is no home, or the file cannot be read or makes no sense.
    pub(crate) fn read(world: &World, who: Who) -> Result<Self, Trouble> {
        let path = folder(world)?.join(who.file());
        let explain = |why: String| Trouble::new(format!("can't use {}", path.display())).cause(why);
        let file = match fs::File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(Self { path, content: Map::new() });
            }
            other => other.map_err(|error| explain(error.to_string()))?,
        };
        let mode = file.metadata().map_err(|error| explain(error.to_string()))?.permissions().mode();
        if mode & 0o077 != 0 {
            talk(world, &format!("Warning: others can read {0}; `chmod 600 {0}` ends that", path.display()));
        }
        let mut text = String::new();
        file.take(LARGEST_FILE).read_to_string(&mut text).map_err(|error| explain(error.to_string()))?;
        match serde_json::from_str(&text) {
            Ok(Value::Object(content)) => Ok(Self { path, content }),
            // The parser's own words may repeat a piece of the file.
            _ => Err(explain("it is not a JSON object".to_owned())
                .hint("mend it, or move it away and log in again")),
        }
    }

    /// A value that is there and not empty.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.content.get(key).and_then(Value::as_str).filter(|value| !value.is_empty())
    }

    /// Sets one; `save` writes it.
    pub(crate) fn set(&mut self, key: &str, value: &str) {
        self.content.insert(key.to_owned(), Value::String(value.to_owned()));
    }

    /// The server that it names, or the default.
    ///
    /// # Errors
    /// What it names is no address.
    pub(crate) fn server(&self) -> Result<Server, Trouble> {
        let text = self.get("base_url").unwrap_or(DEFAULT_SERVER);
        Server::parse(text).map_err(|trouble| trouble.cause(format!("{} says `{text}`", self.path.display())))
    }

    /// Writes it for the owner alone: a new file beside the old one, complete on disk before it takes its place.
    ///
    /// # Errors
    /// The file system's.
    pub(crate) fn save(&self, random: &dyn Random) -> Result<(), Trouble> {
        let text = format!("{:#}\n", Value::Object(self.content.clone()));
        // Who keeps the file elsewhere, behind a link, finds it there afterwards.
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        replace(&path, text.as_bytes(), random).map_err(|error| {
            Trouble::new(format!("can't write {}", self.path.display())).cause(error.to_string())
        })
    }
}

fn replace(path: &Path, bytes: &[u8], random: &dyn Random) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let beside = folder.join(format!(".oraclenet-{:016x}", random.next_u64()));
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    let written =
        file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written?;
    fs::File::open(folder)?.sync_all()
}

/// `$XDG_CONFIG_HOME/oraclenet`, else `~/.config/oraclenet`. A relative XDG_CONFIG_HOME is ignored, as its
/// specification says.
fn folder(world: &World) -> Result<PathBuf, Trouble> {
    let named = world.env("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home =
        || world.home.as_ref().filter(|home| !home.as_os_str().is_empty()).map(|home| home.join(".config"));
    named.or_else(home).map(|path| path.join("oraclenet")).ok_or_else(|| {
        Trouble::new("there is no home directory for the credentials").hint("set HOME or XDG_CONFIG_HOME")
    })
}

/// The server that is meant, and who said so.
///
/// # Errors
/// What was said is no address.
pub(crate) fn server(world: &World, saved: &Saved) -> Result<(Server, Source), Trouble> {
    if let Some(text) = world.env(BASE_URL) {
        let server =
            Server::parse(&text).map_err(|trouble| trouble.cause(format!("{BASE_URL} is `{text}`")))?;
        return Ok((server, Source::Environment(BASE_URL)));
    }
    let source = if saved.get("base_url").is_some() { Source::File } else { Source::Default };
    Ok((saved.server()?, source))
}

/// A token, and where it comes from.
pub(crate) struct Token {
    /// What goes into the header.
    pub(crate) text: String,
    /// Where it comes from.
    pub(crate) source: Source,
}

/// What there is to show a server.
pub(crate) enum Held {
    /// This.
    Token(Token),
    /// A token that another server gave, which is not sent to this one.
    Elsewhere(Server),
    /// Nothing.
    Nothing,
}

/// The token for this server: the environment's, else the file's if it came from there.
///
/// # Errors
/// The file names no address, or the token cannot go into a header.
pub(crate) fn token(world: &World, who: Who, saved: &Saved, server: &Server) -> Result<Held, Trouble> {
    let fits = |text: &str, whence: &str| match text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(text.to_owned()),
        false => Err(Trouble::new(format!("{whence} is no token: it has spaces or other characters in it"))),
    };
    if let Some(text) = world.env(who.variable()) {
        let text = fits(text.trim(), who.variable())?;
        return Ok(Held::Token(Token { text, source: Source::Environment(who.variable()) }));
    }
    let Some(text) = saved.get("token") else { return Ok(Held::Nothing) };
    let given_by = saved.server()?;
    if given_by != *server {
        return Ok(Held::Elsewhere(given_by));
    }
    let text = fits(text, &format!("the token in {}", saved.path.display()))?;
    Ok(Held::Token(Token { text, source: Source::File }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_whatever_slash_is_at_its_end() {
        for (text, seen) in [
            ("http://localhost:8090", Some("http://localhost:8090")),
            (" https://Example.org/ ", Some("https://example.org")),
            ("https://example.org:443/net//", Some("https://example.org/net")),
            ("localhost:8090", None),
            ("ftp://example.org", None),
            ("https://user:hush@example.org", None),
            ("https://example.org/?a=b", None),
            ("", None),
        ] {
            match (Server::parse(text), seen) {
                (Ok(server), Some(seen)) => assert_eq!(server.0, seen),
                (Err(trouble), None) => assert!(!trouble.to_string().contains("hush"), "{trouble}"),
                (other, _) => panic!("{text}: {other:?}"),
            }
        }
    }
}
