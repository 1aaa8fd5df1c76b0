//! `config`: which server is meant, and what is saved.

use super::super::World;
use super::super::credentials::{self, Held, Saved, Server, Source, Token, Who};
use super::super::flags::Parsed;
use super::super::output;
use super::super::trouble::Trouble;
use super::JSON;
use serde_json::json;

/// Shows the settings, or sets the server's address.
pub(super) fn config(world: &World, parsed: &Parsed) -> Result<(), Trouble> {
    let mut saved = Saved::read(world, Who::Oracle)?;
    if let Some(text) = parsed.operand(0) {
        let server = Server::parse(text)?;
        // A file whose address makes no sense is what this verb is there to mend; its token is nobody's.
        let before = saved.server().ok();
        if before.as_ref() != Some(&server) && saved.get("token").is_some() {
            let whose = before.map_or("another server".to_owned(), |server| server.to_string());
            saved.set("token", "");
            let note = format!(
                "Note: the saved token belongs to {whose} and was dropped; `oraclenet login` gets one for {server}"
            );
            output::talk(world, &note);
        }
        saved.set("base_url", &server.to_string());
        for key in ["token", "email", "oracle_id"] {
            // oraclenet.sh reads all four.
            let value = saved.get(key).unwrap_or_default().to_owned();
            saved.set(key, &value);
        }
        saved.save(&*world.random)?;
    }
    show(world, parsed, &saved)
}

fn show(world: &World, parsed: &Parsed, saved: &Saved) -> Result<(), Trouble> {
    let superuser = Saved::read(world, Who::Superuser)?;
    let (server, source) = credentials::server(world, saved)?;
    let mut tokens = Vec::new();
    for (who, file) in [(Who::Oracle, saved), (Who::Superuser, &superuser)] {
        tokens.push(match credentials::token(world, who, file, &server)? {
            Held::Token(Token { source: Source::Environment(name), .. }) => format!("from {name}"),
            Held::Token(_) => format!("saved in {}", file.path.display()),
            Held::Elsewhere(other) => format!("saved for {other}, not sent to {server}"),
            Held::Nothing => "none".to_owned(),
        });
    }
    let source = match source {
        Source::Environment(name) => format!("from {name}"),
        Source::File => "saved".to_owned(),
        Source::Default => "the default".to_owned(),
    };
    let [email, oracle] = ["email", "oracle_id"].map(|key| saved.get(key).unwrap_or_default());
    if parsed.on(&JSON) {
        let all = json!({
            "file": saved.path.display().to_string(), "base_url": server.to_string(), "source": source,
            "email": email, "oracle_id": oracle, "token": tokens[0], "superuser_token": tokens[1],
        });
        return output::json(world, &all);
    }
    let rows = [
        ["file", &saved.path.display().to_string()],
        ["server", &format!("{server} ({source})")],
        ["email", if email.is_empty() { "-" } else { email }],
        ["oracle id", if oracle.is_empty() { "-" } else { oracle }],
        ["token", &tokens[0]],
        ["superuser", &tokens[1]],
    ];
    output::text(world, &output::columns(&rows.map(|row| row.map(|cell| output::one_line(cell, 500)))))
}
