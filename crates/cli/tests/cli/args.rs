//! Arguments, help, and errors about them.

use crate::util::Dir;

const NONE: [&str; 0] = [];

#[test]
fn no_arguments_are_answered_with_the_usage_and_exit_code_1() {
    Dir::new().litekeep(NONE).exits(1).out_has("Usage:").out_has("replicate").out_has("restore");
}

#[test]
fn help_is_no_error() {
    let dir = Dir::new();
    for args in [&["help"] as &[&str], &["-h"], &["--help"], &["-help"], &["help", "help"]] {
        dir.litekeep(args).exits(0).out_has("Commands:");
    }
    for args in
        [&["restore", "-h"] as &[&str], &["restore", "--help"], &["help", "restore"], &["restore", "x", "-h"]]
    {
        dir.litekeep(args).exits(0).out_has("-if-replica-exists").out_has("-txid HEX");
    }
    dir.litekeep(["help", "config", "check"]).exits(0).out_has("litekeep config [flags] check");
    dir.litekeep(["help", "replicate"]).exits(0).out_has("-exec COMMAND");
    dir.litekeep(["wal", "-h"]).exits(0).out_has("litekeep wal [flags] DB_PATH");
}

#[test]
fn the_exit_codes_are_told() {
    let table = include_str!("../../../../docs/exit-codes.md");
    let seen = Dir::new().litekeep(["help", "exit-codes"]).exits(0);
    for row in table.lines().filter(|line| line.starts_with("| ") && !line.contains("meaning")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [code, name, meaning] = cells[..] else { panic!("{row}") };
        let told = seen
            .out()
            .lines()
            .any(|line| line.split_whitespace().take(2).eq([code, name]) && line.ends_with(meaning));
        assert!(told, "{row}{}", seen.all());
    }
}

#[test]
fn an_unknown_command_names_the_nearest() {
    let dir = Dir::new();
    dir.litekeep(["replciate"])
        .exits(1)
        .err_has("Error: litekeep replciate: unknown command")
        .err_has("replicate`?");
    dir.litekeep(["frobnicate"]).exits(1).err_has("`litekeep help` lists");
    dir.litekeep(["help", "frobnicate"]).exits(1).err_has("unknown command");
}

#[test]
fn an_unknown_flag_names_the_nearest() {
    let dir = Dir::new();
    dir.litekeep(["restore", "--if-replica-exist", "x"])
        .exits(1)
        .err_has("Error: flag provided but not defined: -if-replica-exist")
        .err_has("; did you mean -if-replica-exists?");
    dir.litekeep(["restore", "-g", "x"]).exits(1).err_has("not defined: -g");
}

#[test]
fn a_flag_of_a_litestream_that_is_not_here_is_told_with_what_to_do_instead() {
    let dir = Dir::new();
    let seen = dir.litekeep(["restore", "-v", "x"]).exits(1).err_has("not defined: -v");
    assert!(seen.err().contains("; ") && seen.err().contains("LOG_LEVEL=debug"), "{}", seen.all());
}

#[test]
fn a_version_is_printed() {
    let dir = Dir::new();
    assert_eq!(dir.litekeep(["version"]).exits(0).out(), format!("{}\n", env!("CARGO_PKG_VERSION")));
    dir.litekeep(["version", "-verbose"])
        .exits(0)
        .out_has("Version:     ")
        .out_has("SQLite:      3.")
        .out_has("Git Commit:  ")
        .out_has(if cfg!(target_arch = "x86_64") { "/amd64\n" } else { "OS/Arch:     " });
}

/// Arguments that are wanting or wrong, and what is said of them.
const WANTING: &[(&[&str], &str)] = &[
    (&["restore"], "database path or replica URL required"),
    (&["restore", "file:///r"], "-o is required when restoring from a replica URL"),
    (
        &["restore", "-config", "c.yml", "-o", "x", "file:///r"],
        "cannot specify a replica URL and the -config flag",
    ),
    (&["restore", "-o", "x", "-txid", "12", "file:///r"], "16 hex digits"),
    (
        &["restore", "-o", "x", "-timestamp", "yesterday", "file:///r"],
        "invalid -timestamp, must specify in ISO 8601",
    ),
    (
        &[
            "restore",
            "-o",
            "x",
            "-txid",
            "0000000000000001",
            "-timestamp",
            "2026-01-01T00:00:00Z",
            "file:///r",
        ],
        "both",
    ),
    (&["restore", "-o", "x", "-integrity-check", "some", "file:///r"], "auto, none, quick or full"),
    (&["restore", "-o", "x", "-parallelism", "many", "file:///r"], "-parallelism: `many` is not a number"),
    (&["restore", "-o", "x", "-parallelism", "", "file:///r"], "-parallelism: `` is not a number"),
    (&["restore", "-o", "x", "-parallelism", "010", "file:///r"], "-parallelism: `010` is 8 to Litestream"),
    (&["restore", "-o", "s3://b/p", "file:///r"], "-o: a path belongs here, not a URL"),
    (&["restore", "-o", "file:///x", "file:///r"], "-o: a path belongs here, not a URL: write /x"),
    (&["restore", "-o", "x", "s3:/b/p"], "two slashes stand behind the scheme of a replica URL: s3://b/p"),
    (
        &["replicate", "x.db", "s3:/test/x"],
        "two slashes stand behind the scheme of a replica URL: s3://test/x",
    ),
    (&["replicate", "s3:/test/x", "x.db"], "the database's path comes first"),
    (&["man", "config", "mend"], "litekeep config mend: unknown command"),
    (&["restore", "-o", "x", "-generation", "zz", "file:///r"], "16 hex digits"),
    (&["ltx"], "database path or replica URL required"),
    (&["ltx", "-level", "10", "file:///r"], "no level"),
    (&["replicate", "x.db"], "must specify at least one replica URL for x.db"),
    (
        &["replicate", "x.db", "file:///r", "file:///q"],
        "multiple replicas on a single database are no longer supported",
    ),
    (
        &["replicate", "-config", "c.yml", "x.db", "file:///r"],
        "cannot specify a replica URL and the -config flag",
    ),
    (&["replicate", "-once", "-exec", "true", "x.db", "file:///r"], "cannot specify -once flag with -exec"),
    (
        &["replicate", "-force-snapshot", "x.db", "file:///r"],
        "cannot specify -force-snapshot flag without -once",
    ),
    (
        &["replicate", "-enforce-retention", "x.db", "file:///r"],
        "cannot specify -enforce-retention flag without -once",
    ),
    (&["replicate", "-exec", "a | b", "x.db", "file:///r"], "sh -c"),
    (&["databases", "x"], "too many arguments"),
    (&["config"], "litekeep config check"),
    (&["config", "mend"], "unknown command"),
    (&["reset"], "database path required"),
    (&["completion"], "bash, zsh or fish"),
    (&["completion", "tcsh"], "no completions for tcsh"),
    (&["man", "frobnicate"], "unknown command"),
    (&["wal", "-generation", "zz", "file:///r"], "16 hex digits"),
    (&["generations"], "database path or replica URL required"),
    (&["snapshots", "-replica", "s3", "file:///r"], "cannot specify a replica URL and the -replica flag"),
];

#[test]
fn what_a_command_cannot_do_without_is_asked_for() {
    let dir = Dir::new();
    for (args, part) in WANTING {
        let seen = dir.litekeep(*args).exits(1).err_has(part).silent_out();
        let line = seen.err();
        assert!(line.starts_with("Error: ") && line.lines().count() == 1, "not one line{}", seen.all());
        assert!(line.contains("; "), "it does not say what to do{}", seen.all());
    }
    assert_eq!(dir.files("."), Vec::<String>::new(), "an argument error leaves nothing behind");
}

#[test]
fn r39_no_flag_that_is_a_duration_can_be_0_or_off() {
    let dir = Dir::new();
    let replicate: &[&str] = &["replicate", "-exec", "true", "x.db", "file:///r"];
    for (flag, args, code) in [
        ("-follow-interval", &["restore", "-f", "-o", "x", "file:///r"] as &[&str], 2),
        ("-hand-over", replicate, 1),
        ("-ready-timeout", replicate, 1),
        ("-timeout", &["info"], 1),
        ("-timeout", &["list"], 1),
        ("-timeout", &["sync", "x.db"], 1),
        ("-timeout", &["start", "x.db"], 1),
        ("-timeout", &["stop", "x.db"], 1),
        ("-timeout", &["register", "-replica", "file:///r", "x.db"], 1),
        ("-timeout", &["unregister", "x.db"], 1),
    ] {
        for word in ["0", "off"] {
            let (verb, rest) = args.split_first().expect("a verb");
            let seen = dir.litekeep([&[*verb, flag, word], rest].concat()).exits(code);
            let line = seen.err();
            assert!(
                line.starts_with(&format!("Error: {flag}: `{word}`: ")) && line.contains("; "),
                "{}",
                seen.all()
            );
        }
    }
    assert_eq!(dir.files("."), Vec::<String>::new());
}

#[test]
fn replicas_of_other_kinds_are_refused_by_name() {
    let dir = Dir::new();
    for url in ["gs://b/p", "abs://b/p", "sftp://h/p", "nats://h/p", "webdav://h/p", "gopher://h"] {
        let scheme = url.split(':').next().expect("a scheme");
        dir.litekeep(["restore", "-o", "x", url]).exits(1).err_has(scheme).silent_out();
    }
}

#[test]
fn a_replica_url_never_shows_its_secrets() {
    let dir = Dir::new();
    for url in
        ["s3://key:hush@bucket/path", "s3://bucket/path?secretAccessKey=hush", "gs://u:hush@b/p?token=hush"]
    {
        for args in [&["restore", "-o", "x", url] as &[&str], &["ltx", url], &["replicate", "x.db", url]] {
            dir.litekeep(args).exits(1).err_has("Error: ").never_says("hush");
        }
    }
    dir.litekeep(["restore", "a", "s3://key:hush@bucket/path"]).exits(1).never_says("hush");
    // Keys often hold slashes.
    dir.litekeep(["restore", "-o", "x", "s3://key:se/cret/hush@bucket/path"])
        .exits(1)
        .never_says("hush")
        .never_says("cret");
}

#[test]
fn a_bucket_is_asked_through_the_proxy_of_the_environment() {
    for (endpoint, first) in [
        ("http://nowhere.invalid", "GET http://nowhere.invalid/bucket"),
        ("https://nowhere.invalid", "CONNECT nowhere.invalid:443 "),
    ] {
        let asked = asked_of_a_proxy(endpoint);
        assert!(asked.starts_with(first) && !asked.contains("x-tigris-consistent"), "{asked}");
    }
    // Who is named needs none: nobody listens at this one.
    let server = s3test::Server::start(s3test::Profile::Aws).expect("a server");
    let url = format!("s3://{}/p?endpoint={}&region={}", s3test::BUCKET, server.endpoint(), s3test::REGION);
    let dir = Dir::new();
    dir.litekeep(["ltx", &url])
        .env("AWS_ACCESS_KEY_ID", s3test::ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", s3test::SECRET_KEY)
        .env("HTTP_PROXY", "http://127.0.0.1:9")
        .env("http_proxy", "http://127.0.0.1:9")
        .env("NO_PROXY", "nowhere.invalid,127.0.0.1")
        .exits(0);
}

#[test]
fn a_replica_under_another_spelling_of_its_path_is_told_by_whoever_lists_or_restores_without_a_word_of_keys()
{
    let server = s3test::Server::start(s3test::Profile::Aws).expect("a server");
    let dir = Dir::new();
    crate::restore::make_database(&dir.path("a.db"));
    let run = |args: &[&str], path: &str, code| {
        let (bucket, region) = (s3test::BUCKET, s3test::REGION);
        let url = format!("s3://{bucket}/{path}?endpoint={}&region={region}", server.endpoint());
        dir.litekeep(args.iter().copied().chain([&*url]))
            .env("AWS_ACCESS_KEY_ID", s3test::ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", s3test::SECRET_KEY)
            .exits(code)
    };
    run(&["replicate", "-once", "a.db"], "p", 0);
    assert!(server.rename(
        "p/0000/0000000000000001-0000000000000001.ltx",
        "/p/0000/0000000000000001-0000000000000001.ltx"
    ));
    for key in server.keys().iter().filter(|key| key.starts_with("p/")) {
        assert!(server.remove(key));
    }
    for args in
        [&["ltx"] as &[&str], &["ltx", "-level", "all"], &["ltx", "-level", "9"], &["restore", "-o", "b.db"]]
    {
        run(args, "p", 13)
            .err_has("there is no replica at path \"p\", but one at path \"/p\"")
            .never_says("the keys");
    }
    // Where nothing lies, the table is empty.
    run(&["ltx"], "q", 0);
}

#[test]
fn tigris_is_asked_for_what_is_newest_as_litestream_does() {
    for host in ["fly.storage.tigris.dev", "t3.storage.dev"] {
        let asked = asked_of_a_proxy(&format!("http://{host}"));
        assert!(asked.contains("\r\nx-tigris-consistent: true\r\n"), "{asked}");
    }
}

/// The first request of a bucket at this endpoint, as it comes to the proxy that the variable of its scheme names.
fn asked_of_a_proxy(endpoint: &str) -> String {
    use std::io::{Read, Write};
    let proxy = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", proxy.local_addr().expect("its address"));
    // Whoever asks is refused; what it asked for first is told.
    let asked = std::thread::spawn(move || {
        let (mut client, _) = proxy.accept().expect("a client");
        let mut request = Vec::new();
        let mut byte = [0];
        while !request.ends_with(b"\r\n\r\n") && client.read(&mut byte).is_ok_and(|read| read == 1) {
            request.push(byte[0]);
        }
        let refusal = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        client.write_all(refusal).expect("answered");
        String::from_utf8_lossy(&request).into_owned()
    });
    let url = format!("s3://bucket/path?endpoint={endpoint}&region=x&forcePathStyle=true");
    let variable = format!("{}_proxy", endpoint.split(':').next().expect("a scheme"));
    let dir = Dir::new();
    let mut running = dir
        .litekeep(["ltx", &url])
        .env("AWS_ACCESS_KEY_ID", "id")
        .env("AWS_SECRET_ACCESS_KEY", "key")
        .env(&variable.to_uppercase(), &address)
        .env(&variable, &address)
        .starts();
    let asked = asked.join().expect("asked");
    running.signal(rustix::process::Signal::KILL);
    asked
}

#[test]
fn r26b_half_a_pair_of_keys_is_refused_before_anything_else() {
    Dir::new()
        .litekeep(["restore", "-if-replica-exists", "-o", "x", "s3://bucket/path"])
        .env("AWS_ACCESS_KEY_ID", "id")
        .exits(13)
        .err_has("AWS_SECRET_ACCESS_KEY");
}

#[test]
fn an_argument_that_is_not_utf_8_is_refused_and_not_mended() {
    use std::os::unix::ffi::OsStrExt;
    let dir = Dir::new();
    let name = std::ffi::OsStr::from_bytes(b"a\xff.db");
    dir.litekeep(["restore".as_ref(), "-o".as_ref(), name, "file:///r".as_ref()])
        .exits(1)
        .err_has("is not UTF-8");
    assert_eq!(dir.files("."), Vec::<String>::new());
}

/// What bash offers for a line whose last word is being typed.
fn completed(script: &std::path::Path, line: &[&str]) -> Vec<String> {
    let run = "source \"$1\"; shift; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); _litekeep; \
               printf '%s\\n' \"${COMPREPLY[@]}\"";
    let output = std::process::Command::new("bash")
        .args(["--norc", "-c", run, "bash"])
        .arg(script)
        .args(line)
        .output()
        .expect("bash runs");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).expect("UTF-8").lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_verbs_flags_and_values() {
    let dir = Dir::new();
    let script = dir.write("litekeep.bash", dir.litekeep(["completion", "bash"]).exits(0).out());
    let checked = std::process::Command::new("bash").arg("-n").arg(&script).status().expect("bash runs");
    assert!(checked.success());
    for (line, offered) in [
        (&["litekeep", "rest"] as &[&str], &["restore"] as &[&str]),
        (&["litekeep", "restore", "-if-r"], &["-if-replica-exists"]),
        (&["litekeep", "restore", "x.db", "--time"], &["--timestamp"]),
        (&["litekeep", "restore", "-integrity-check", "q"], &["quick"]),
        (&["litekeep", "restore", "--integrity-check", "n"], &["none"]),
        (&["litekeep", "ltx", "-level", "a"], &["all"]),
        (&["litekeep", "config", ""], &["check"]),
        (&["litekeep", "completion", "z"], &["zsh"]),
        (&["litekeep", "hel"], &["help"]),
        (&["litekeep", "help", "data"], &["databases"]),
        (&["litekeep", "man", "gen"], &["generations"]),
        (&["litekeep", "restore", "-txid", "0"], &[""]),
    ] {
        assert_eq!(completed(&script, line), offered, "{line:?}");
    }
    let here = script.to_str().expect("UTF-8");
    assert_eq!(completed(&script, &["litekeep", "restore", "-config", &here[..here.len() - 3]]), [here]);
}

#[test]
fn the_other_shells_have_completions_too() {
    let dir = Dir::new();
    dir.litekeep(["completion", "zsh"]).exits(0).out_has("#compdef litekeep").out_has("-if-replica-exists[");
    dir.litekeep(["completion", "fish"]).exits(0).out_has("-o if-replica-exists -l if-replica-exists");
}

#[test]
fn a_program_that_is_called_litestream_is_completed_too() {
    let dir = Dir::new();
    for (shell, line) in [
        ("bash", "complete -o filenames -F _litekeep litekeep litestream\n"),
        ("zsh", "#compdef litekeep litestream\n"),
        ("zsh", "else compdef _litekeep litekeep litestream; fi\n"),
        ("fish", "complete -c litestream -w litekeep\n"),
    ] {
        dir.litekeep(["completion", shell]).exits(0).out_has(line);
    }
    let script = dir.write("litekeep.bash", dir.litekeep(["completion", "bash"]).exits(0).out());
    let seen = dir.run("bash", ["--norc", "-c", "source \"$1\"; complete -p litestream", "bash"]).arg(script);
    seen.exits(0).out_has("-F _litekeep litestream");
}

#[test]
fn a_manual_page_is_found_by_the_words_of_its_command() {
    let dir = Dir::new();
    for (args, page) in [
        (&["man", "config", "check"] as &[&str], &["man", "config"] as &[&str]),
        (&["man", "help"], &["man"]),
        (&["help", "help"], &["help"]),
    ] {
        assert_eq!(dir.litekeep(args).exits(0).out(), dir.litekeep(page).exits(0).out(), "{args:?}");
    }
}

#[test]
fn a_manual_page_is_rendered_without_a_complaint() {
    let dir = Dir::new();
    for (name, parts) in [
        (
            None,
            &["SYNOPSIS", "litekeep restore", "-if-replica-exists", "EXIT STATUS", "no-backup"] as &[&str],
        ),
        (Some("restore"), &["litekeep-restore", "OPTIONS", "-integrity-check auto|none|quick|full"]),
        (Some("config"), &["KEYS", "max-checkpoint-page-count", "sse-kms-key-id"]),
    ] {
        let page = dir.litekeep(["man"].into_iter().chain(name)).exits(0).out();
        assert!(page.starts_with(".TH LITEKEEP"), "{page}");
        let file = dir.write("page.1", &page);
        let groff = ["-man", "-Tascii", "-P-cbou", "-ww"];
        let Ok(output) = std::process::Command::new("groff").args(groff).arg(&file).output() else {
            eprintln!("there is no groff here: the page was not rendered");
            continue;
        };
        let shown = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        for part in parts {
            assert!(shown.contains(part), "{name:?} lacks {part:?}:\n{shown}");
        }
    }
}
