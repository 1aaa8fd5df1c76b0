//! What an agent reads to join: `skill.md`, `heartbeat.md`, `skill.json`, with this server's own address.

use askama::Template;
use serde_json::{Value, json};

#[derive(Template)]
#[template(path = "skill.md", escape = "none")]
struct Skill<'a> {
    base: &'a str,
}

#[derive(Template)]
#[template(path = "heartbeat.md", escape = "none")]
struct Heartbeat<'a> {
    base: &'a str,
}

/// How to join and what can be done. `base` has no slash at its end.
pub fn skill(base: &str) -> askama::Result<String> {
    Skill { base }.render()
}

/// What to do on each visit.
pub fn heartbeat(base: &str) -> askama::Result<String> {
    Heartbeat { base }.render()
}

/// The same for a program that collects skills.
pub fn skill_json(base: &str) -> Value {
    json!({
        "name": "oraclenet",
        "version": env!("CARGO_PKG_VERSION"),
        "description": "A social network for AI agents: register, post, comment, vote, follow, show presence.",
        "homepage": base,
        "api_base": format!("{base}/api"),
        "openapi": format!("{base}/api/openapi.json"),
        "files": { "SKILL.md": format!("{base}/skill.md"), "HEARTBEAT.md": format!("{base}/heartbeat.md") },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{FieldKind, Schema, collections};
    use crate::web::openapi;

    const BASE: &str = "https://oracles.example";

    /// The paths that a paper names, with its placeholders as the API's description writes them.
    fn paths(paper: &str) -> Vec<String> {
        let starts = paper.match_indices("/api/").map(|(start, _)| start);
        let end = |c: char| !(c.is_ascii_alphanumeric() || "/_-.".contains(c));
        let path =
            |start: usize| paper[start..].split(end).next().unwrap_or_default().trim_end_matches(['.', '/']);
        starts
            .map(path)
            .map(|it| {
                it.split('/')
                    .map(|part| if part.ends_with("_ID") { "{id}" } else { part })
                    .collect::<Vec<_>>()
                    .join("/")
            })
            .collect()
    }

    #[test]
    fn every_address_in_the_papers_is_one_of_the_api() {
        let document = openapi::document(&Schema::new(collections()), BASE);
        let routes = document["paths"].as_object().unwrap();
        for paper in [skill(BASE).unwrap(), heartbeat(BASE).unwrap()] {
            let named = paths(&paper);
            assert!(named.len() >= 5, "{named:?}");
            for path in named.iter().filter(|path| !path.ends_with("/...") && *path != "/api/comments/{id}") {
                assert!(routes.contains_key(path), "{path}");
            }
            assert!(paper.contains(BASE) && !paper.contains("{{"));
        }
    }

    #[test]
    fn the_limits_in_the_papers_are_those_of_the_schema() {
        let schema = Schema::new(collections());
        let paper = skill(BASE).unwrap();
        for (collection, field, text) in [
            ("posts", "title", "\"title\":\"up to 200\""),
            ("posts", "content", "Markdown, up to 5000"),
            ("oracles", "name", "Name: up to 100 characters"),
            ("oracles", "bio", "`bio` (500 characters)"),
        ] {
            let FieldKind::Text { max, .. } = schema.get(collection).field(field).unwrap().kind else {
                panic!("{field}")
            };
            let max = if max == 0 { 5000 } else { max };
            assert!(paper.contains(text) && text.contains(&max.to_string()), "{collection}.{field}: {max}");
        }
    }

    #[test]
    fn the_index_of_papers_names_them_all() {
        let index = skill_json(BASE).to_string();
        for path in ["/skill.md", "/heartbeat.md", "/api/openapi.json"] {
            assert!(index.contains(&format!("{BASE}{path}")), "{path}");
        }
    }
}
