//! Which crate may know which: bytes, decisions, effects, products, one direction.

use super::Tree;
use serde_json::Value;

/// A crate of ours and what of ours it may depend on. A new arrow changes ARCHITECTURE.md in the same commit.
const ARROWS: [(&str, &[&str]); 10] = [
    ("litekeep-formats", &[]),
    ("litekeep-core", &["litekeep-formats"]),
    ("litekeep-store", &["litekeep-formats", "litekeep-core"]),
    ("litekeep", &["litekeep-formats", "litekeep-core", "litekeep-store"]),
    ("litekeep-cli", &["litekeep-formats", "litekeep-core", "litekeep-store", "litekeep"]),
    ("oraclenet", &["litekeep-formats", "litekeep-core", "litekeep-store", "litekeep", "drill"]),
    // It judges from outside: of ours it links only the bucket of its platform, which knows none of ours.
    ("drill", &["s3test"]),
    ("s3test", &[]),
    ("testkit", &["litekeep-formats", "litekeep-core", "litekeep-store", "litekeep", "s3test"]),
    ("xtask", &[]),
];

/// Other crates' tests may use these.
const FOR_TESTS: [&str; 2] = ["testkit", "s3test"];

/// What the two pure crates may use of others' work.
const PURE: [(&str, &[&str]); 2] =
    [("litekeep-formats", &["crc-fast", "lz4_flex", "thiserror"]), ("litekeep-core", &["thiserror"])];

/// Each crate depends only on those below it.
pub(super) fn arrows(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    let ours: Vec<&Value> = packages(tree).filter(|package| package["source"].is_null()).collect();
    let names: Vec<&str> = ours.iter().filter_map(|package| package["name"].as_str()).collect();
    for package in &ours {
        let name = package["name"].as_str().unwrap_or_default();
        let Some((_, allowed)) = ARROWS.iter().find(|(known, _)| *known == name) else {
            complaints.push(format!("{name} has no place among the layers"));
            continue;
        };
        for (dependency, kind) in dependencies(package) {
            let below = allowed.contains(&dependency) || (kind == "dev" && FOR_TESTS.contains(&dependency));
            if names.contains(&dependency) && !below {
                complaints
                    .push(format!("{name} -> {dependency} ({kind}) is not an arrow of ARCHITECTURE.md"));
            }
        }
    }
    complaints
}

/// The pure crates say `no_std` and lean on nothing that could reach the machine.
pub(super) fn no_std(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for (name, allowed) in PURE {
        let folder = name.trim_start_matches("litekeep-");
        let path = format!("crates/{folder}/src/lib.rs");
        let says = tree.file(&path).is_some_and(|file| file.text.lines().any(|line| line == "#![no_std]"));
        if !says {
            complaints.push(format!("{path} does not say #![no_std]"));
        }
        let package = packages(tree).find(|package| package["name"] == name);
        for (dependency, kind) in package.into_iter().flat_map(dependencies) {
            if kind != "dev" && !dependency.starts_with("litekeep-") && !allowed.contains(&dependency) {
                complaints.push(format!("{name} uses {dependency}, which is not on its list"));
            }
        }
    }
    complaints
}

fn packages(tree: &Tree) -> impl Iterator<Item = &Value> {
    tree.metadata["packages"].as_array().into_iter().flatten()
}

/// Name and kind (`normal`, `dev`, `build`) of what a package declares.
fn dependencies(package: &Value) -> impl Iterator<Item = (&str, &str)> {
    package["dependencies"].as_array().into_iter().flatten().map(|dependency| {
        let name = dependency["name"].as_str().unwrap_or_default();
        (name, dependency["kind"].as_str().unwrap_or("normal"))
    })
}
