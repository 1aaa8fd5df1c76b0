//! `litekeep config check`: what the configuration file comes to, without starting anything.

use crate::config::{self, Config, Judged, Setting};
use crate::flags::{self, Parsed};
use crate::output;
use crate::text::table;
use crate::trouble::{Exit, Trouble};
use crate::world::World;
use serde::Serialize;

#[derive(Serialize)]
struct Report {
    config: String,
    ok: bool,
    problems: Vec<String>,
    warnings: Vec<String>,
    mapped: Vec<String>,
    settings: Vec<Setting>,
    databases: Vec<Entry>,
    directories: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    path: String,
    settings: Vec<Setting>,
}

/// Prints every setting and where it came from, or all that must be mended.
pub(crate) fn run(world: &World, parsed: &Parsed) -> Result<Exit, Trouble> {
    match parsed.operands.first().map(String::as_str) {
        Some("check") => {}
        Some(other) => {
            return Err(Trouble::new(format!("litekeep config {other}: unknown command"))
                .hint("`litekeep config check`"));
        }
        None => {
            return Err(Trouble::new("litekeep config needs a command").hint("`litekeep config check`"));
        }
    }
    let judged = config::judge_to_replicate(world, parsed)?;
    let exit = judged.exit();
    let report = report(judged);
    if parsed.on(&flags::JSON) {
        return output::json(&report).map(|()| exit);
    }
    for problem in &report.problems {
        output::talk(&format!("Error: {problem}"));
    }
    for warning in &report.warnings {
        output::talk(&format!("Warning: {warning}"));
    }
    for mapped in &report.mapped {
        output::talk(&format!("Note: {mapped}"));
    }
    if report.ok {
        output::text(&format!("{}\n\n{}", report.config, rows(&report.settings)))?;
        for entry in report.databases.iter().chain(&report.directories) {
            output::text(&format!("\n{}\n\n{}", entry.path, rows(&entry.settings)))?;
        }
    }
    Ok(exit)
}

fn report(judged: Judged) -> Report {
    let Judged { path, config, problems, .. } = judged;
    // What a file with problems comes to is nothing that anybody should rely on.
    let (settings, databases, directories) =
        if problems.is_empty() { effective(&config) } else { Default::default() };
    Report {
        config: path.display().to_string(),
        ok: problems.is_empty(),
        problems,
        settings,
        databases,
        directories,
        warnings: config.warnings,
        mapped: config.mapped,
    }
}

fn effective(config: &Config) -> (Vec<Setting>, Vec<Entry>, Vec<Entry>) {
    let databases = config.databases.iter().map(|database| Entry {
        path: database.path.display().to_string(),
        settings: config::settings_of(database, config),
    });
    let directories = config.directories.iter().map(|directory| Entry {
        path: directory.path.display().to_string(),
        settings: config::settings_of_directory(directory, config),
    });
    (config::global_settings(config), databases.collect(), directories.collect())
}

fn rows(settings: &[Setting]) -> String {
    let head = ["setting", "value", "from"].map(str::to_owned);
    let cells = settings.iter().map(|setting| {
        let value = if setting.value.is_empty() { "-" } else { &setting.value };
        [setting.name.to_owned(), value.to_owned(), setting.from.clone()]
    });
    table::columns(&std::iter::once(head).chain(cells).collect::<Vec<_>>())
}
