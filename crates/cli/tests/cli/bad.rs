//! What people get wrong.
use crate::restore::make_database;
use crate::util::Dir;
use rustix::process::Signal;
use s3test::{ACCESS_KEY, BUCKET, Profile, SECRET_KEY, Server};
use std::time::Duration;

#[test]
fn explore() {
    for case in ["bucket", "key", "secret", "clock", "port", "host", "nokeys", "dir", "nowal", "unreadable", "notdb", "missing", "missingdir", "emptyfile"] {
        for verb in ["restore", "replicate", "once", "exec"] {
            let server = Server::start(Profile::Aws).expect("s");
            let dir = Dir::new();
            let mut bucket = BUCKET;
            let mut key = ACCESS_KEY;
            let mut secret = SECRET_KEY;
            let mut endpoint = server.endpoint().to_owned();
            make_database(&dir.path("a.db"));
            rusqlite::Connection::open(dir.path("a.db")).unwrap().execute_batch("PRAGMA journal_mode=WAL").unwrap();
            match case {
                "bucket" => bucket = "tset",
                "key" => key = "nobody",
                "secret" => secret = "wrong",
                "clock" => { server.skew_clock(3_600_000); server.refuse_skew(true); }
                "port" => endpoint = "http://127.0.0.1:9".into(),
                "host" => endpoint = "http://nowhere.invalid".into(),
                "dir" => { std::fs::remove_file(dir.path("a.db")).unwrap(); std::fs::create_dir(dir.path("a.db")).unwrap(); }
                "nowal" => { std::fs::remove_file(dir.path("a.db")).unwrap(); make_database(&dir.path("a.db")); }
                "unreadable" => { use std::os::unix::fs::PermissionsExt; std::fs::set_permissions(dir.path("a.db"), std::fs::Permissions::from_mode(0)).unwrap(); }
                "notdb" => { dir.write("a.db", "not a database at all, but long enough to be looked at as one; ".repeat(20)); }
                "emptyfile" => { dir.write("a.db", ""); }
                "missing" => { std::fs::remove_file(dir.path("a.db")).unwrap(); }
                "missingdir" => { std::fs::remove_file(dir.path("a.db")).unwrap(); }
                _ => {}
            }
            let path = if case == "missingdir" { "no/such/a.db" } else { "a.db" };
            let url = format!("s3://{bucket}/p?endpoint={endpoint}&region=us-east-1&forcePathStyle=true");
            let args: Vec<&str> = match verb {
                "restore" if matches!(case, "bucket"|"key"|"secret"|"clock"|"port"|"host"|"nokeys") => vec!["restore", "-o", "b.db", &url],
                "restore" => vec!["restore", "-o", path, &url],
                "replicate" => vec!["replicate", path, &url],
                "exec" => vec!["replicate", "-exec", "sleep 5", path, &url],
                _ => vec!["replicate", "-once", path, &url],
            };
            let mut c = std::process::Command::new("timeout");
            c.arg("8").arg(env!("CARGO_BIN_EXE_litekeep")).args(&args).current_dir(dir.path(".")).env_clear().env("PATH","/usr/bin:/bin");
            if case != "nokeys" { c.env("AWS_ACCESS_KEY_ID", key).env("AWS_SECRET_ACCESS_KEY", secret); }
            let start = std::time::Instant::now();
            let o = c.output().unwrap();
            println!("==== {case} {verb} -> {:?} {:?}\n{}{}", o.status.code(), start.elapsed(), String::from_utf8_lossy(&o.stdout), String::from_utf8_lossy(&o.stderr));
        }
    }
    let _ = (Signal::TERM, Duration::ZERO);
}
