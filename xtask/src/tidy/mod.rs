//! `cargo xtask tidy`: the rules of the house that a program can check.
//!
//! Each rule is a function from the tree to a list of complaints. It reads; it never mends.

mod layers;
mod papers;
mod sizes;
mod source;
mod supply;

use crate::Machine;
use crate::stage::read;
use std::path::{Path, PathBuf};

/// One tracked text file.
pub(crate) struct File {
    /// From the root of the repository, with `/`.
    pub(crate) path: String,
    /// What it says.
    pub(crate) text: String,
}

/// The tree that the rules look at.
pub(crate) struct Tree {
    pub(crate) root: PathBuf,
    pub(crate) files: Vec<File>,
    /// What `cargo metadata` says.
    pub(crate) metadata: serde_json::Value,
}

impl Tree {
    fn read(machine: &Machine) -> Result<Self, String> {
        let metadata = read(&mut machine.cargo(["metadata", "--format-version", "1", "--locked"]))?;
        let metadata = serde_json::from_str(&metadata).map_err(|error| format!("cargo metadata: {error}"))?;
        // Tracked files, and new ones that are not ignored.
        let words = ["ls-files", "--cached", "--others", "--exclude-standard"];
        let names = read(machine.command("git").args(words))?;
        let files = names.lines().filter_map(|path| {
            let text = std::fs::read_to_string(machine.root.join(path)).ok()?;
            Some(File { path: path.to_owned(), text })
        });
        Ok(Self { root: machine.root.clone(), files: files.collect(), metadata })
    }

    /// The Rust sources.
    pub(crate) fn rust(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| has_extension(&file.path, "rs"))
    }

    /// The papers.
    pub(crate) fn markdown(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| has_extension(&file.path, "md"))
    }

    /// One file by its path.
    pub(crate) fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }
}

pub(crate) fn has_extension(path: &str, extension: &str) -> bool {
    Path::new(path).extension().is_some_and(|it| it == extension)
}

type Rule = (&'static str, fn(&Tree) -> Vec<String>);

const RULES: [Rule; 9] = [
    ("layers: arrows between crates go one way", layers::arrows),
    ("no_std: bytes and decisions touch no machine", layers::no_std),
    ("sizes: functions and files stay readable", sizes::check),
    ("source: headers, no ignored tests, nothing left to do", sizes::habits),
    ("links: what a paper points at exists", papers::links),
    ("tests: a row that names a test names one that exists", papers::named_tests),
    ("failures: every failure on the list has its tests", papers::catalogue),
    ("words: no path of somebody's machine", papers::words),
    ("supply: licences and sources are on the list", supply::check),
];

/// Checks every rule and prints every complaint.
pub(crate) fn check(machine: &Machine) -> Result<(), String> {
    let tree = Tree::read(machine)?;
    let mut complaints = 0;
    for (name, rule) in RULES {
        let found = rule(&tree);
        println!("{} {name}", if found.is_empty() { "ok  " } else { "BAD " });
        for complaint in &found {
            println!("       {complaint}");
        }
        complaints += found.len();
    }
    if complaints == 0 { Ok(()) } else { Err(format!("{complaints} complaints")) }
}
