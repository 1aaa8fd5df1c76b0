//! A place on the disk with a database and a replica, and the `litekeep` processes that work on it.
#![allow(clippy::disallowed_methods, reason = "real processes are waited for in real time")]

use rusqlite::config::DbConfig;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use testkit::peers;

/// How long anything may take that is expected to happen. Generous: a test that waits for it fails only if it does
/// not happen at all.
const PATIENCE: Duration = Duration::from_secs(90);

/// What is waited for, in words: known before, or only when the waiting was in vain.
pub(crate) trait What {
    fn text(&self) -> String;
}

impl What for &str {
    fn text(&self) -> String {
        (*self).to_owned()
    }
}

impl<F: Fn() -> String> What for F {
    fn text(&self) -> String {
        self()
    }
}

/// Asks again and again, a little later each time, until there is an answer.
pub(crate) fn wait_for<T>(what: &dyn What, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    let mut pause = Duration::from_millis(5);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain for: {}", what.text());
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(200));
    }
}

/// The program under test: that of `cargo xtask ci`, else built here.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        if let Some(path) = std::env::var_os("LITEKEEP_TEST_BIN") {
            return PathBuf::from(path);
        }
        let built = Command::new(env!("CARGO")).args(["build", "--quiet", "-p", "litekeep-cli"]).status();
        assert!(built.is_ok_and(|status| status.success()), "litekeep does not build");
        let here = std::env::current_exe().expect("our own path");
        let profile =
            here.parent().and_then(Path::parent).expect("tests lie two folders below the profile's");
        profile.join("litekeep")
    })
}

/// The command, in a clean environment.
pub(crate) fn litekeep() -> Command {
    let mut command = peers::clean(program());
    command.stdin(Stdio::null());
    command
}

/// Where a database lives and where its replica is.
pub(crate) struct Place {
    folder: tempfile::TempDir,
    /// The replica, as the command takes it.
    pub(crate) url: String,
    /// What the commands need in their environment to reach it.
    pub(crate) environment: Vec<(String, String)>,
}

impl Place {
    /// A place whose replica is a directory.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("make a directory");
        let url = format!("file://{}", folder.path().join("replica").display());
        Self { folder, url, environment: Vec::new() }
    }

    /// A place whose replica is a prefix of its own in a bucket.
    pub(crate) fn in_bucket(bucket: &peers::Bucket, prefix: &str) -> Self {
        let folder = tempfile::tempdir().expect("make a directory");
        let unique = folder.path().file_name().expect("it has a name").to_string_lossy().replace('.', "");
        let url = format!(
            "s3://{}/{prefix}-{unique}?endpoint={}&region={}&forcePathStyle=true",
            bucket.name, bucket.endpoint, bucket.region
        );
        let environment = vec![
            ("AWS_ACCESS_KEY_ID".to_owned(), bucket.access_key_id.clone()),
            ("AWS_SECRET_ACCESS_KEY".to_owned(), bucket.secret_access_key.clone()),
        ];
        Self { folder, url, environment }
    }

    /// The same disk with another replica.
    pub(crate) fn with_replica(self, url: String) -> Self {
        Self { url, ..self }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The application's database: in a folder of its own, which is the disk that gets wiped.
    pub(crate) fn database(&self) -> PathBuf {
        let disk = self.path("disk");
        fs::create_dir_all(&disk).expect("make the disk");
        disk.join("app.db")
    }

    /// The directory of the replica.
    pub(crate) fn replica(&self) -> PathBuf {
        self.path("replica")
    }

    /// All that a container that is thrown away takes with it.
    pub(crate) fn wipe(&self) {
        fs::remove_dir_all(self.path("disk")).expect("wipe the disk");
    }

    /// `litekeep` with this place's environment.
    pub(crate) fn litekeep(&self) -> Command {
        let mut command = litekeep();
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        command
    }

    /// `litekeep replicate DATABASE URL`.
    pub(crate) fn daemon(&self) -> Daemon {
        let mut command = self.litekeep();
        command.arg("replicate").arg(self.database()).arg(&self.url);
        Daemon::start(command, self.path("daemon.log"))
    }

    /// `litekeep replicate` with a configuration: settings of the whole, settings of the database, of the replica.
    pub(crate) fn daemon_with(&self, global: &str, database: &str, replica: &str) -> Daemon {
        let file = self.path("litestream.yml");
        let text = format!(
            "{global}\ndbs:\n  - path: {}\n    {database}\n    replica:\n      url: {}\n      {replica}\n",
            self.database().display(),
            self.url
        );
        fs::write(&file, text).expect("write the configuration");
        let mut command = self.litekeep();
        command.arg("replicate").arg("-config").arg(file);
        Daemon::start(command, self.path("daemon.log"))
    }

    /// `litekeep restore` with these words into a file, which is overwritten only if the words say so.
    pub(crate) fn restore_to(&self, out: &Path, words: &[&str]) -> Output {
        let mut command = self.litekeep();
        command.arg("restore").args(words).arg("-o").arg(out).arg(&self.url);
        command.output().expect("start litekeep")
    }

    /// A restore that must succeed, into a new file.
    pub(crate) fn restored(&self, words: &[&str]) -> PathBuf {
        let folder = self.path("restored");
        fs::create_dir_all(&folder).expect("make a folder");
        let count = fs::read_dir(&folder).expect("list it").count();
        let out = folder.join(count.to_string()).join("app.db");
        let output = self.restore_to(&out, words);
        assert!(output.status.success(), "{}", said(&output));
        out
    }

    /// A restore over the application's own path.
    pub(crate) fn bring_back(&self) {
        let output = self.restore_to(&self.database(), &[]);
        assert!(output.status.success(), "{}", said(&output));
    }

    /// Waits until what a restore gives satisfies a condition; gives the restored file.
    pub(crate) fn wait_for_restore(&self, what: &str, mut good: impl FnMut(&Path) -> bool) -> PathBuf {
        let out = self.path("probe").join("app.db");
        let last = RefCell::new(String::new());
        wait_for(&|| format!("{what}; the last restore: {}", last.borrow()), || {
            let _ = fs::remove_dir_all(self.path("probe"));
            let output = self.restore_to(&out, &[]);
            let fine = output.status.success() && out.exists() && good(&out);
            *last.borrow_mut() = said(&output);
            fine.then(|| out.clone())
        })
    }

    /// Waits until at least so many rows of `t` are in the replica.
    pub(crate) fn wait_for_rows(&self, rows: usize) {
        self.wait_for_restore(&format!("{rows} rows in the replica"), |file| ids(file).len() >= rows);
    }

    /// Waits until a restore gives the very pages that the application's database has now. The application is idle.
    pub(crate) fn wait_for_image(&self) -> PathBuf {
        let database = self.database();
        self.wait_for_restore("the same pages in the replica", |file| {
            fs::read(file).is_ok_and(|it| it == image(&database))
        })
    }

    /// The files of one level of a replica in a directory, by name.
    pub(crate) fn level(&self, level: u8) -> Vec<String> {
        names(&self.replica().join("ltx").join(level.to_string()))
    }

    /// All files of the replica with their sizes.
    pub(crate) fn objects(&self) -> BTreeMap<PathBuf, u64> {
        let mut found = BTreeMap::new();
        let mut folders = vec![self.replica()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                match entry.metadata() {
                    Ok(about) if about.is_dir() => folders.push(entry.path()),
                    Ok(about) => drop(found.insert(entry.path(), about.len())),
                    Err(_) => {}
                }
            }
        }
        found
    }
}

/// The names in a folder, in order; none if it is not there.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// A running `litekeep replicate`. Killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    pub(crate) fn start(mut command: Command, log: PathBuf) -> Self {
        let file = fs::OpenOptions::new().create(true).append(true).open(&log).expect("open the log");
        let again = file.try_clone().expect("share the log");
        let child = command.stdout(file).stderr(again).spawn().expect("start litekeep");
        Self { child, log }
    }

    /// The same with stdout in a file of its own.
    pub(crate) fn start_apart(mut command: Command, log: PathBuf, out: &Path) -> Self {
        let file = fs::OpenOptions::new().create(true).append(true).open(&log).expect("open the log");
        let out = fs::File::create(out).expect("make a file");
        let child = command.stdout(out).stderr(file).spawn().expect("start litekeep");
        Self { child, log }
    }

    /// A power cut, as far as a process can have one.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("kill litekeep");
        self.child.wait().expect("litekeep ends");
    }

    /// SIGINT, and nothing else.
    pub(crate) fn interrupt(&self) {
        let process = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(process, rustix::process::Signal::INT).expect("send SIGINT");
    }

    /// SIGTERM; gives how it ended.
    pub(crate) fn end(mut self) -> ExitStatus {
        peers::terminate(self.child.id());
        wait_for(&"litekeep to end after SIGTERM", || self.child.try_wait().expect("ask for its end"))
    }

    /// Waits until it ends by itself.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        wait_for(&"litekeep to end by itself", || self.child.try_wait().expect("ask for its end"))
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("ask for its end").is_none()
    }

    /// What it and those before it at this place have said.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("read the log")
    }
}

impl Drop for Daemon {
    #[allow(clippy::print_stderr, reason = "a test that fails shows what the process said")]
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- what litekeep said:\n{}---", self.log());
        }
    }
}

/// The ids in `t`, in order.
pub(crate) fn ids(database: &Path) -> Vec<i64> {
    let link = open(database);
    let mut statement = link.prepare("SELECT id FROM t ORDER BY id").expect("the table is there");
    let rows = statement.query_map([], |row| row.get(0)).expect("read rows");
    rows.collect::<Result<_, _>>().expect("read ids")
}

/// SQLite's own verdict on a file.
pub(crate) fn integrity(database: &Path) -> String {
    open(database).query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("check the integrity")
}

fn open(database: &Path) -> rusqlite::Connection {
    rusqlite::Connection::open(database).expect("open a database")
}

/// The pages of a database as a reader sees them now, one after the other: the bytes it would have if everything in its
/// WAL were in the file. Leaves WAL and checkpoints as they are.
pub(crate) fn image(database: &Path) -> Vec<u8> {
    let link = open(database);
    link.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
        .expect("leave its checkpoints alone");
    link.busy_timeout(PATIENCE).expect("wait for locks");
    let mut statement =
        link.prepare("SELECT data FROM sqlite_dbpage ORDER BY pgno").expect("SQLite has dbpage");
    let pages = statement.query_map([], |row| row.get::<_, Vec<u8>>(0)).expect("read pages");
    pages.flat_map(|page| page.expect("read a page")).collect()
}

/// `app.db` and `-wal` make `app.db-wal`.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Everything that a process said, for the message of a failed test.
pub(crate) fn said(output: &Output) -> String {
    format!(
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// The ids that an application noted as committed.
pub(crate) fn acknowledged(file: &Path) -> Vec<i64> {
    let text = fs::read_to_string(file).unwrap_or_default();
    // The last line may be cut off by a kill.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| line.parse().expect("an id")).collect()
}

/// Asserts that restored ids are 1, 2, 3 .. without a hole, and reach at least as far as `least`.
pub(crate) fn assert_prefix(restored: &[i64], least: usize) {
    assert!(
        restored.iter().copied().eq(1..=i64::try_from(restored.len()).expect("a length")),
        "there is a hole"
    );
    assert!(restored.len() >= least, "{} rows came back, {least} had been synced", restored.len());
}

/// An application on a database in WAL mode with the table `t`. `None` without Python.
pub(crate) fn app(database: &Path, page_size: u32) -> Option<peers::App> {
    let mut app = peers::App::start(database)?;
    app.sql(&format!("PRAGMA page_size={page_size}"));
    app.sql("PRAGMA journal_mode=WAL");
    app.sql("CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, body BLOB)");
    Some(app)
}

/// Must succeed: `ask` with an answer that is rows.
pub(crate) fn done(reply: peers::Reply) -> String {
    match reply {
        peers::Reply::Rows(rows) => rows,
        peers::Reply::Failed(reason) => panic!("the application was refused: {reason}"),
    }
}

/// Lets real time pass, for the few tests whose point is that nothing happens in it.
pub(crate) fn nothing_happens_for(seconds: u64) {
    std::thread::sleep(Duration::from_secs(seconds));
}

/// As [`wait_for`], but looks without a pause, for moments that are short.
pub(crate) fn spin_until(what: &str, mut happened: impl FnMut() -> bool) {
    let start = Instant::now();
    while !happened() {
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain for: {what}");
    }
}
