//! What the program is given from outside, collected once by `main`; everything else takes it as an argument.

use litekeep_core::env::{Clock, Random};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Arguments, environment, clock.
#[derive(Clone)]
pub(crate) struct World {
    /// The arguments after the program's name, or the first one that is no UTF-8.
    pub(crate) args: Result<Vec<String>, OsString>,
    /// The environment.
    pub(crate) env: Env,
    /// The clock.
    pub(crate) clock: Arc<dyn Clock>,
    /// Random numbers for jitter and instance ids.
    pub(crate) random: Arc<dyn Random>,
    /// The working directory, absolute.
    pub(crate) directory: PathBuf,
    /// What `~` is.
    pub(crate) home: Option<PathBuf>,
    /// This process.
    pub(crate) pid: u32,
    /// Whether a person looks at stderr.
    pub(crate) terminal: bool,
}

impl World {
    /// A path as Litestream takes it: an `sqlite://` before it is dropped, `~` is the home directory, what is
    /// relative starts at the working directory. `.` and `..` are resolved by name, as Go does it.
    pub(crate) fn path(&self, text: &str) -> PathBuf {
        let text = text.strip_prefix("sqlite3://").or_else(|| text.strip_prefix("sqlite://")).unwrap_or(text);
        let expanded = match (text.strip_prefix('~'), &self.home) {
            (Some(""), Some(home)) => Some(home.clone()),
            (Some(rest), Some(home)) if rest.starts_with('/') => Some(home.join(&rest[1..])),
            _ => None,
        };
        clean(&self.directory.join(expanded.unwrap_or_else(|| PathBuf::from(text))))
    }
}

/// The home directory of a user, as `/etc/passwd` has it. It goes before `$HOME`, as in Litestream: a system service has no
/// such variable, and `sudo` may leave somebody else's.
pub(crate) fn home(passwd: &str, uid: u32) -> Option<PathBuf> {
    let mut users = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let user = users.find(|user| user.get(2).is_some_and(|id| id.parse() == Ok(uid)))?;
    user.get(5).filter(|home| !home.is_empty()).map(PathBuf::from)
}

/// Drops `.` and resolves `..` without asking the file system.
fn clean(path: &Path) -> PathBuf {
    use std::path::Component;
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    out
}

/// The environment. Values never show in `Debug`: there are keys among them.
#[derive(Clone, Default)]
pub(crate) struct Env(BTreeMap<String, String>);

impl Env {
    /// A variable that is set, empty or not.
    pub(crate) fn raw(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// A variable that is set and not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

impl FromIterator<(String, String)> for Env {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(iter: I) -> Self {
        Self(iter.into_iter().collect())
    }
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use litekeep::clock::{SystemClock, SystemRandom};

    /// A world with this environment, in `/work`.
    pub(crate) fn world(env: &[(&str, &str)]) -> World {
        World {
            args: Ok(Vec::new()),
            env: env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom::default()),
            directory: PathBuf::from("/work"),
            home: env.iter().find(|(name, _)| *name == "HOME").map(|(_, home)| PathBuf::from(home)),
            pid: 42,
            terminal: false,
        }
    }

    #[test]
    fn paths_are_taken_as_litestream_takes_them() {
        let world = world(&[("HOME", "/home/ada")]);
        for (text, path) in [
            ("/a/b.db", "/a/b.db"),
            ("b.db", "/work/b.db"),
            ("./x/../b.db", "/work/b.db"),
            ("../b.db", "/b.db"),
            ("~/b.db", "/home/ada/b.db"),
            ("~", "/home/ada"),
            ("~other/b.db", "/work/~other/b.db"),
            ("sqlite:///a/b.db", "/a/b.db"),
            ("sqlite3://b.db", "/work/b.db"),
        ] {
            assert_eq!(world.path(text), Path::new(path), "{text}");
        }
    }

    #[test]
    fn the_home_of_a_user_is_the_one_that_the_system_knows() {
        let passwd =
            "root:x:0:0:root:/root:/bin/sh\n# 1\n\nada:x:1000:100:Ada,,,:/home/ada:/bin/sh\nnone:x:7:7:::\n";
        for (uid, path) in [(0, Some("/root")), (1000, Some("/home/ada")), (7, None), (100, None), (1, None)]
        {
            assert_eq!(home(passwd, uid), path.map(PathBuf::from), "{uid}");
        }
    }

    #[test]
    fn the_environment_shows_no_values() {
        let env: Env = [("KEY".to_owned(), "hush".to_owned())].into_iter().collect();
        assert_eq!(format!("{env:?}"), r#"{"KEY"}"#);
        assert_eq!(env.get("KEY"), Some("hush"));
    }
}
