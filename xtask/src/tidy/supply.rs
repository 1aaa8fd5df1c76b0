//! What we build on: licences, sources and crates that are not welcome, by the lists in `deny.toml`.
//!
//! The same file serves `cargo deny check licenses bans sources` where that is installed. Advisories need a database
//! from the network and are not looked up here.

use super::Tree;

/// Every package in the lock file that could be built.
pub(super) fn check(tree: &Tree) -> Vec<String> {
    let Some(lists) = tree.file("deny.toml") else { return vec!["deny.toml is missing".to_owned()] };
    let allowed = list(&lists.text, "licenses", "allow");
    let denied = list(&lists.text, "bans", "deny");
    let sources = list(&lists.text, "sources", "allow-registry");
    let mut complaints = Vec::new();
    if allowed.is_empty() || denied.is_empty() || sources.is_empty() {
        complaints.push("deny.toml: a list is empty or could not be read".to_owned());
    }
    for package in tree.metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        let licence = package["license"].as_str().unwrap_or_default();
        if !permits(licence, &allowed) {
            complaints.push(format!("{name}: licence `{licence}` is not on the list"));
        }
        if denied.iter().any(|banned| banned == name) {
            complaints.push(format!("{name} is banned by deny.toml"));
        }
        let source = package["source"].as_str().map(|source| source.trim_start_matches("registry+"));
        if source.is_some_and(|source| !sources.iter().any(|known| known == source)) {
            complaints.push(format!("{name} comes from {}", source.unwrap_or_default()));
        }
    }
    complaints
}

/// Whether an SPDX expression can be met with the licences allowed.
fn permits(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let permitted = either(&words, &mut at, allowed);
    permitted && at == words.len()
}

fn either(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut permitted = both(words, at, allowed);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        permitted |= both(words, at, allowed);
    }
    permitted
}

fn both(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut permitted = one(words, at, allowed);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        permitted &= one(words, at, allowed);
    }
    permitted
}

fn one(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let Some(word) = words.get(*at) else { return false };
    *at += 1;
    if *word == "(" {
        let permitted = either(words, at, allowed);
        let closed = words.get(*at) == Some(&")");
        *at += 1;
        return permitted && closed;
    }
    let mut licence = (*word).to_owned();
    if let (Some(&"WITH"), Some(exception)) = (words.get(*at), words.get(*at + 1)) {
        licence = format!("{licence} WITH {exception}");
        *at += 2;
    }
    allowed.contains(&licence)
}

/// The strings of `key = [ .. ]` in a section: as much of TOML as `deny.toml` uses.
fn list(text: &str, section: &str, key: &str) -> Vec<String> {
    let mut inside = false;
    let mut listing = false;
    let mut found = Vec::new();
    for line in text.lines().map(|line| line.split('#').next().unwrap_or_default().trim()) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            inside = name == section;
        } else if inside && line.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('=')) {
            listing = true;
        }
        if listing {
            found.extend(line.split('"').skip(1).step_by(2).map(str::to_owned));
            listing = !line.ends_with(']');
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_is_met_by_the_licences_on_the_list() {
        let allowed =
            ["MIT".to_owned(), "Apache-2.0".to_owned(), "Apache-2.0 WITH LLVM-exception".to_owned()];
        let rows = [
            ("MIT", true),
            ("GPL-3.0", false),
            ("", false),
            ("GPL-3.0 OR MIT", true),
            ("GPL-3.0 AND MIT", false),
            ("MIT/Apache-2.0", true),
            ("(GPL-3.0 OR MIT) AND Apache-2.0", true),
            ("(GPL-3.0 OR BSD) AND Apache-2.0", false),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("MIT WITH LLVM-exception", false),
            ("MIT Apache-2.0", false),
        ];
        for (expression, permitted) in rows {
            assert_eq!(permits(expression, &allowed), permitted, "{expression}");
        }
    }

    #[test]
    fn a_list_is_read_from_its_own_section_only() {
        let text = "[a]\nallow = [\"x\"]\n[b]\nallow = [\n  \"y\", # why\n  \"z\",\n]\nother = [\"w\"]\n";
        assert_eq!(list(text, "b", "allow"), ["y", "z"]);
    }
}
