//! The guide and the files that it shows: they are the same, they parse, their commands have these flags, and the entrypoint
//! starts an application with its database or not at all.

use crate::restore::{make_database, not_empty, url};
use crate::util::{Dir, TestCommand};
use s3test::{ACCESS_KEY, BUCKET, Profile, Server};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Files of a folder of the repository, by name.
fn files(folder: &str) -> Vec<(String, String)> {
    let entries =
        fs::read_dir(root().join(folder)).expect("listed").map(|entry| entry.expect("an entry").path());
    let mut files: Vec<_> = entries
        .map(|path| {
            (
                path.file_name().expect("a name").to_string_lossy().into_owned(),
                fs::read_to_string(path).expect("read"),
            )
        })
        .collect();
    files.sort();
    files
}

/// What stands between fences: what follows the first three signs, and the text.
fn fences(page: &str) -> Vec<(&str, String)> {
    let mut found: Vec<(&str, String)> = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        let bare = line.trim_start();
        if let Some(head) = bare.strip_prefix("```") {
            inside = !inside;
            if inside {
                found.push((head, String::new()));
            }
        } else if inside && let Some((_, text)) = found.last_mut() {
            text.push_str(line);
            text.push('\n');
        }
    }
    found
}

#[test]
fn the_guide_shows_the_files_as_they_are_and_all_of_them() {
    let mut shown = BTreeSet::new();
    for (page, text) in files("docs/guide") {
        for (head, content) in fences(&text) {
            let Some((_, path)) = head.split_once(' ') else { continue };
            let file = fs::read_to_string(root().join(path))
                .unwrap_or_else(|error| panic!("{page}: {path}: {error}"));
            assert_eq!(content, file, "{page} shows another {path}");
            shown.insert(path.to_owned());
        }
    }
    let there: BTreeSet<_> =
        files("deploy/litekeep").into_iter().map(|(name, _)| format!("deploy/litekeep/{name}")).collect();
    assert_eq!(shown, there);
}

/// The words of each command of litekeep in a script, a unit, a manifest or on a page.
fn commands(text: &str) -> Vec<Vec<String>> {
    let text = text.replace("\\\n", " ");
    let lines = text.lines().map(str::trim_start).filter(|line| !line.starts_with('#'));
    let commands = lines.filter_map(|line| {
        let at =
            line.find("litekeep ").filter(|at| *at == 0 || matches!(line.as_bytes()[at - 1], b'/' | b' '))?;
        Some(line[at + "litekeep ".len()..].split_whitespace().map(str::to_owned).collect())
    });
    commands.collect()
}

#[test]
fn every_command_of_the_guide_has_its_flags() {
    let dir = Dir::new();
    let scripts = files("deploy/litekeep").into_iter().map(|(_, text)| text);
    let pages = files("docs/guide").into_iter().flat_map(|(_, text)| {
        fences(&text).into_iter().filter(|(head, _)| *head == "sh").map(|(_, text)| text).collect::<Vec<_>>()
    });
    let manifests = files("deploy/litekeep").into_iter().filter(|(name, _)| name.ends_with(".yaml"));
    let arguments =
        manifests.flat_map(|(_, text)| documents(&text).iter().flat_map(arguments).collect::<Vec<_>>());
    let mut seen = BTreeSet::new();
    for words in scripts.chain(pages).flat_map(|text| commands(&text)).chain(arguments) {
        let Some(verb) = words.iter().find(|word| word.chars().all(|c| c.is_ascii_lowercase())) else {
            continue;
        };
        if verb == "help" {
            continue;
        }
        let help = dir.litekeep([verb.as_str(), "-h"]).exits(0).out();
        for flag in words.iter().filter(|word| word.starts_with('-')) {
            assert!(
                help.contains(&format!("\n    {flag}")),
                "litekeep {}: {flag} is no flag",
                words.join(" ")
            );
        }
        seen.insert(verb.clone());
    }
    assert_eq!(
        seen.iter().map(String::as_str).collect::<Vec<_>>(),
        ["config", "doctor", "replicate", "restore"]
    );
}

/// The arguments of each container that runs the image of litekeep.
fn arguments(document: &Value) -> Vec<Vec<String>> {
    let pod = &document["spec"]["template"]["spec"];
    let containers =
        ["initContainers", "containers"].into_iter().flat_map(|kind| pod[kind].as_array()).flatten();
    let ours = containers.filter(|it| it["image"].as_str().is_some_and(|image| image.contains("/litekeep:")));
    ours.map(|it| serde_json::from_value(it["args"].clone()).expect("a list of words")).collect()
}

/// The documents of a YAML file.
fn documents(text: &str) -> Vec<Value> {
    let parse = |text| serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    text.split("\n---\n").map(parse).collect()
}

#[test]
fn the_manifests_parse_and_allow_one_writer() {
    for (name, text) in files("deploy/litekeep").iter().filter(|(name, _)| name.ends_with(".yaml")) {
        let mut writers = 0;
        for document in documents(text) {
            if document["kind"] == "Deployment" {
                assert_eq!(
                    (&document["spec"]["replicas"], &document["spec"]["strategy"]["type"]),
                    (&1.into(), &"Recreate".into()),
                    "{name}"
                );
                assert!(
                    document["spec"]["template"]["spec"]["terminationGracePeriodSeconds"].as_u64() > Some(30),
                    "{name}"
                );
                writers += 1;
            }
            for service in document["services"].as_array().into_iter().flatten() {
                assert_eq!(service["instance_count"], 1, "{name}");
                assert!(service["termination"]["grace_period_seconds"].as_u64() > Some(30), "{name}");
                // The platform takes no file with more.
                assert!(service["health_check"]["failure_threshold"].as_u64() <= Some(50), "{name}");
                writers += 1;
            }
        }
        assert_eq!(writers, 1, "{name}");
    }
    for file in ["deploy/prometheus/alerts.yml", ".do/app.yaml"] {
        let text = fs::read_to_string(root().join(file)).expect("read");
        assert!(documents(&text)[0].is_object(), "{file}");
    }
    let dir = Dir::new();
    let config = root().join("deploy/litekeep/litestream.yml");
    let command = dir.litekeep(["config", "check", "-config"]).arg(config);
    command
        .env("LITESTREAM_ACCESS_KEY_ID", "id")
        .env("LITESTREAM_SECRET_ACCESS_KEY", "hush")
        .exits(0)
        .never_says("hush");
}

/// A container: a directory with an empty disk, `litekeep` in its path, and an application that notes that it ran, with its
/// words, and what it found.
struct Container {
    dir: Dir,
    replica: String,
}

impl Container {
    fn of(dir: Dir, replica: String) -> Self {
        fs::create_dir_all(dir.path("bin")).expect("made");
        fs::create_dir_all(dir.path("disk")).expect("made");
        symlink(env!("CARGO_BIN_EXE_litekeep"), dir.path("bin/litekeep")).expect("linked");
        dir.write("app", "for word; do echo \"<$word>\"; done >ran\nls disk >>ran\nexit 7\n");
        Self { dir, replica }
    }

    fn with_backup() -> Self {
        let dir = Dir::new();
        let replica = url(&dir.path("r"));
        make_database(&dir.path("origin.db"));
        dir.litekeep(["replicate", "-once", "origin.db", &replica]).exits(0);
        Self::of(dir, replica)
    }

    fn entrypoint(&self, words: &[&str]) -> TestCommand {
        let script = root().join("deploy/litekeep/entrypoint.sh");
        let path = format!("{}:/usr/bin:/bin", self.dir.path("bin").display());
        let command = self.dir.run("sh", [script.to_str().expect("UTF-8")]).env("PATH", &path);
        let command = command.env("DB_PATH", "disk/app.db").env("REPLICA_URL", &self.replica);
        words.iter().fold(command, |command, word| command.arg(word))
    }

    /// What the application noted; nothing if it was not started.
    fn ran(&self) -> Option<String> {
        fs::read_to_string(self.dir.path("ran")).ok()
    }

    fn is_untouched(&self, why: &str) {
        assert_eq!((self.ran(), self.dir.files("disk")), (None, Vec::new()), "{why}");
    }
}

#[test]
fn the_entrypoint_brings_a_database_back_and_ends_as_the_application_does() {
    let container = Container::with_backup();
    let words = ["sh", "app", "a b", "it's", "\"$HOME\" \\ ;", ""];
    container.entrypoint(&words).exits(7).err_has("restore complete");
    let noted = container.ran().expect("it ran");
    assert!(noted.starts_with("<a b>\n<it's>\n<\"$HOME\" \\ ;>\n<>\napp.db\n"), "{noted}");
    // With the disk still there nothing is restored.
    container.entrypoint(&["sh", "app"]).exits(7).err_has("database already exists, skipping");
}

#[test]
fn the_entrypoint_lets_only_the_very_first_start_begin_without_a_database() {
    let dir = Dir::new();
    fs::create_dir(dir.path("r")).expect("made");
    let replica = url(&dir.path("r"));
    let container = Container::of(dir, replica);
    let first = |value| container.entrypoint(&["sh", "app"]).env("FIRST_START", value);
    let told = "entrypoint: there is no backup, so the application is not started: check REPLICA_URL, or set FIRST_START=yes if \
                this is the very first start\n";
    for command in [first("no"), first(""), first("maybe"), container.entrypoint(&["sh", "app"])] {
        command.exits(10).err_has(told);
        container.is_untouched("an empty replica, and nobody says that it is the first start");
    }
    first("yes").exits(7).err_has("the first start");
    assert!(container.ran().is_some());
}

#[test]
fn no_unit_and_no_manifest_starts_fresh_by_itself() {
    let mut restores = 0;
    for (name, text) in files("deploy/litekeep") {
        let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
        for line in lines.filter(|line| line.contains("restore")) {
            assert!(!line.contains("-if-replica-exists"), "{name}: {line}");
            restores += usize::from(line.contains("-if-db-not-exists"));
        }
        assert!(!text.contains("key: FIRST_START\n        value: \"yes\""), "{name}");
        assert!(!text.contains("name: FIRST_START\n              value: \"yes\""), "{name}");
    }
    assert_eq!(restores, 3, "the entrypoint, the unit, the init container");
}

/// The unit as systemd runs it, which splits a variable without braces into words, and drops one that is not set.
#[test]
fn the_unit_starts_fresh_only_where_its_variable_says_so() {
    let dir = Dir::new();
    fs::create_dir(dir.path("r")).expect("made");
    dir.write("l.yml", "dbs:\n  - path: app.db\n    replica:\n      path: r\n");
    let unit = fs::read_to_string(root().join("deploy/litekeep/litekeep-restore.service")).expect("read");
    let line = unit
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/litekeep "))
        .expect("a line");
    let line = line.replace("/etc/litestream.yml", "l.yml").replace("/var/lib/app/app.db", "app.db");
    assert!(unit.contains("\nEnvironmentFile=-/etc/litekeep.env\n"));
    for (first, code) in [(None, 10), (Some("-if-replica-exists"), 0)] {
        let words =
            line.split(' ').filter_map(|word| if word == "$FIRST_START" { first } else { Some(word) });
        dir.litekeep(words).exits(code);
        assert_eq!(dir.files("."), ["l.yml"]);
    }
}

#[test]
fn the_unit_does_not_restart_what_a_person_must_decide() {
    let unit = fs::read_to_string(root().join("deploy/litekeep/litekeep.service")).expect("read");
    let codes =
        unit.lines().find_map(|line| line.strip_prefix("RestartPreventExitStatus=")).expect("the line");
    let table = fs::read_to_string(root().join("docs/exit-codes.md")).expect("read");
    for name in ["wiped", "damaged", "fenced", "diverged", "unfit"] {
        let row = table.lines().find(|row| row.contains(&format!("| {name} |"))).expect(name);
        let code = row.split('|').nth(1).expect("a code").trim();
        assert!(codes.split(' ').any(|prevented| prevented == code), "{name}: {codes}");
    }
}

#[test]
fn r26b_the_entrypoint_starts_nothing_beside_a_replica_that_is_not_empty() {
    for (name, code, dir) in not_empty() {
        let replica = url(&dir.path("r"));
        let container = Container::of(dir, replica);
        let seen = container.entrypoint(&["sh", "app"]).env("FIRST_START", "yes").exits(code);
        seen.err_has("the application is not started").err_has("Error: ");
        container.is_untouched(name);
    }
}

#[test]
fn r26b_the_entrypoint_starts_nothing_where_the_key_is_wrong() {
    let server = Server::start(Profile::Aws).expect("started");
    let replica =
        format!("s3://{BUCKET}/p?endpoint={}&region=us-east-1&forcePathStyle=true", server.endpoint());
    let container = Container::of(Dir::new(), replica);
    let command = container.entrypoint(&["sh", "app"]).env("AWS_ACCESS_KEY_ID", ACCESS_KEY);
    command
        .env("AWS_SECRET_ACCESS_KEY", "hush")
        .exits(13)
        .err_has("SignatureDoesNotMatch")
        .never_says("hush");
    container.is_untouched("a wrong key");
}

#[test]
fn the_entrypoint_says_what_it_needs() {
    let container = Container::with_backup();
    container.entrypoint(&[]).exits(1).err_has("which command?");
    for name in ["DB_PATH", "REPLICA_URL"] {
        let seen = container.entrypoint(&["sh", "app"]).env(name, "").exits_not(0);
        assert!(seen.err().contains(&format!("{name}: is not set")), "{}", seen.all());
    }
    container.is_untouched("settings that are missing");
}
