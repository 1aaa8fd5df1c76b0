//! The proof on one screen: an application writes, litekeep replicates, both are killed and the disk is wiped; then the
//! database is restored and counted. `cargo xtask demo` builds and runs it.
//!
//!     litekeep-demo LITEKEEP [REPLICA_URL]
//!
//! Without a URL the replica is a directory. What was synced is found out the hard way: by a restore into another file
//! while everything still runs.
#![allow(clippy::print_stdout, reason = "it shows what it does")]
#![allow(clippy::disallowed_methods, reason = "it waits for real processes in real time")]

use rusqlite::Connection;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["write", database] => write(Path::new(database)),
        [litekeep] => Demo::new(litekeep, None)?.run(),
        [litekeep, url] => Demo::new(litekeep, Some(url))?.run(),
        _ => Err("usage: litekeep-demo LITEKEEP [REPLICA_URL]".into()),
    }
}

/// The application: one order after the other, each a transaction of its own, until it is killed.
fn write(database: &Path) -> Outcome<()> {
    let link = Connection::open(database)?;
    link.pragma_update(None, "journal_mode", "WAL")?;
    link.execute_batch("CREATE TABLE IF NOT EXISTS orders(id INTEGER PRIMARY KEY AUTOINCREMENT, what BLOB)")?;
    loop {
        link.execute("INSERT INTO orders(what) VALUES (randomblob(200))", [])?;
    }
}

struct Demo {
    folder: tempfile::TempDir,
    litekeep: PathBuf,
    url: String,
}

impl Demo {
    fn new(litekeep: &str, url: Option<&str>) -> Outcome<Self> {
        let folder = tempfile::tempdir()?;
        let bucket = format!("file://{}", folder.path().join("bucket").display());
        let litekeep = fs::canonicalize(litekeep)?;
        Ok(Self { litekeep, url: url.map_or(bucket, str::to_owned), folder })
    }

    fn run(&self) -> Outcome<()> {
        println!("a disk:    {}\na replica: {}\n", self.disk().display(), self.url);
        let mut before = 0;
        for round in 1..=3 {
            before = self.round(round, before)?;
        }
        println!("Every order that was synced is there. Lost: 0.");
        Ok(())
    }

    /// Writes, kills, wipes, restores, counts. Gives how many orders there are.
    fn round(&self, round: u32, before: i64) -> Outcome<i64> {
        let database = self.disk().join("app.db");
        fs::create_dir_all(self.disk())?;
        let mut application =
            self.start(Command::new(std::env::current_exe()?).arg("write").arg(&database))?;
        println!("[{round}] $ litekeep replicate app.db {}", self.short_url());
        let mut keeper = self.start(self.command("replicate").arg(&database).arg(&self.url))?;
        let synced = self.wait_for_orders(before + 2000)?;
        println!("[{round}] an application writes; {synced} orders are known to be in the replica");
        println!("[{round}] $ kill -9 the application, kill -9 litekeep, rm -rf the disk");
        keeper.kill()?;
        application.kill()?;
        keeper.wait()?;
        application.wait()?;
        fs::remove_dir_all(self.disk())?;
        println!("[{round}] $ litekeep restore -o app.db {}", self.short_url());
        let start = Instant::now();
        let restored = self.command("restore").arg("-o").arg(&database).arg(&self.url).output()?;
        if !restored.status.success() {
            return Err(String::from_utf8_lossy(&restored.stderr).into_owned().into());
        }
        let (orders, greatest) = count(&database)?;
        let verdict: String =
            Connection::open(&database)?.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
        println!(
            "[{round}] {orders} orders are back after {:.2} s; numbers without a gap: {}; integrity: {verdict}\n",
            start.elapsed().as_secs_f64(),
            orders == greatest
        );
        if orders < synced || orders != greatest || verdict != "ok" {
            return Err(format!("{} orders were lost", (synced - orders).max(greatest - orders)).into());
        }
        Ok(orders)
    }

    /// Restores beside the running database until so many orders are in the replica.
    fn wait_for_orders(&self, least: i64) -> Outcome<i64> {
        let probe = self.folder.path().join("probe");
        let start = Instant::now();
        loop {
            let _ = fs::remove_dir_all(&probe);
            let file = probe.join("app.db");
            let output = self.command("restore").arg("-o").arg(&file).arg(&self.url).output()?;
            if output.status.success() {
                let (orders, _) = count(&file)?;
                if orders >= least {
                    return Ok(orders);
                }
            }
            if start.elapsed() > Duration::from_secs(60) {
                return Err(format!("nothing arrives: {}", String::from_utf8_lossy(&output.stderr)).into());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn disk(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    fn short_url(&self) -> &str {
        self.url.split('?').next().unwrap_or(&self.url)
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.litekeep);
        command.arg(verb);
        command
    }

    /// A process whose words go to a file: they are many.
    fn start(&self, command: &mut Command) -> Outcome<Process> {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.folder.path().join("log"))?;
        Ok(Process(command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?))
    }
}

/// A child that does not outlive the demonstration.
struct Process(Child);

impl Process {
    fn kill(&mut self) -> Outcome<()> {
        Ok(self.0.kill()?)
    }

    fn wait(&mut self) -> Outcome<()> {
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How many orders there are, and the greatest number among them; none before the table is there.
fn count(database: &Path) -> Outcome<(i64, i64)> {
    let link = Connection::open(database)?;
    let made: i64 =
        link.query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'orders'", [], |row| row.get(0))?;
    if made == 0 {
        return Ok((0, 0));
    }
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
    Ok(link.query_row("SELECT count(*), coalesce(max(id), 0) FROM orders", [], read)?)
}
