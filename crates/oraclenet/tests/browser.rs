//! A page in a real browser: what somebody posts through the API appears without a reload.
//!
//! Needs chromedriver and Chromium, named by `LITEKEEP_TEST_CHROMEDRIVER` and `LITEKEEP_TEST_CHROMIUM`. Where they are
//! not named the test says so and passes, unless `CI=true`.

#![allow(clippy::disallowed_methods, clippy::print_stderr)] // a test reads the environment and waits for processes

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(30);
const SUPERUSER: (&str, &str) = ("root@oracles.example", "a long enough password");

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts `command` and returns what comes after `mark` on the first line that has it, up to the next space.
fn start(command: &mut Command, mark: &'static str) -> (Running, String) {
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    let (tell, told) = mpsc::channel();
    let streams: [Box<dyn Read + Send>; 2] =
        [Box::new(child.stdout.take().expect("a pipe")), Box::new(child.stderr.take().expect("a pipe"))];
    for stream in streams {
        let tell = tell.clone();
        // To its end, so that the program never waits for a reader.
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                if let Some((_, rest)) = line.split_once(mark) {
                    let _ = tell.send(rest.split([' ', '\u{1b}']).next().unwrap_or_default().to_owned());
                }
            }
        });
    }
    let child = Running(child);
    let found = told.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no line with {mark:?}"));
    (child, found)
}

/// One JSON request; the answer's status and body.
async fn ask(method: &str, url: &str, token: &str, body: Option<&Value>) -> (u16, Value) {
    let method = method.parse().expect("a method");
    let mut request = reqwest::Client::new().request(method, url).header("authorization", token);
    if let Some(body) = body {
        request = request.header("content-type", "application/json").body(body.to_string());
    }
    let answer = request.timeout(PATIENCE).send().await.expect(url);
    let status = answer.status().as_u16();
    let text = answer.text().await.expect(url);
    (status, serde_json::from_str(&text).unwrap_or(Value::Null))
}

/// A window of Chromium, spoken to through WebDriver.
struct Window {
    session: String,
    _driver: Running,
}

impl Window {
    async fn open(driver: &str, chromium: &str, profile: &Path) -> Self {
        let (running, port) =
            start(Command::new(driver).arg("--port=0"), "ChromeDriver was started successfully on port ");
        let driver = format!("http://127.0.0.1:{}", port.trim_end_matches('.'));
        let options = json!({
            "binary": chromium,
            "args": [
                "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                "--disable-background-networking", "--disable-component-update", "--disable-sync",
                "--disable-dev-shm-usage", format!("--user-data-dir={}", profile.display()),
            ],
        });
        let wanted = json!({ "capabilities": { "alwaysMatch": { "goog:chromeOptions": options } } });
        let (_, answer) = ask("POST", &format!("{driver}/session"), "", Some(&wanted)).await;
        let id = answer["value"]["sessionId"].as_str().unwrap_or_else(|| panic!("no session: {answer}"));
        Self { session: format!("{driver}/session/{id}"), _driver: running }
    }

    async fn go(&self, url: &str) {
        let (status, answer) =
            ask("POST", &format!("{}/url", self.session), "", Some(&json!({ "url": url }))).await;
        assert_eq!(status, 200, "{answer}");
    }

    /// What a script in the page gives.
    async fn run(&self, script: &str) -> Value {
        let body = json!({ "script": script, "args": [] });
        let (_, mut answer) = ask("POST", &format!("{}/execute/sync", self.session), "", Some(&body)).await;
        answer["value"].take()
    }

    /// Waits until a script in the page gives true.
    async fn until(&self, what: &str, script: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.run(script).await != json!(true) {
            assert!(
                Instant::now() < deadline,
                "{what}: {}",
                self.run("return document.body.innerText").await
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn close(self) {
        ask("DELETE", &self.session, "", None).await;
    }
}

/// The server, its address, and a token of an approved oracle.
async fn server(dir: &Path) -> (Running, String, String) {
    let replica = format!("file://{}", dir.join("replica").display());
    let mut command = Command::new(env!("CARGO_BIN_EXE_oraclenet"));
    command.args(["serve", "--http", "127.0.0.1:0", "--rate-limits", "off", "--replica", &replica, "--dir"]);
    command.arg(dir.join("data"));
    command.env("ORACLENET_SUPERUSER_EMAIL", SUPERUSER.0).env("ORACLENET_SUPERUSER_PASSWORD", SUPERUSER.1);
    let (running, address) = start(&mut command, "Server started at ");
    let base = address.trim_end_matches('/').to_owned();
    let collections = format!("{base}/api/collections");
    let sign_in = async |collection: &str, identity: &str, password: &str| {
        let body = json!({ "identity": identity, "password": password });
        let url = format!("{collections}/{collection}/auth-with-password");
        let (status, answer) = ask("POST", &url, "", Some(&body)).await;
        assert_eq!(status, 200, "{answer}");
        answer["token"].as_str().expect("a token").to_owned()
    };
    let ada = json!({
        "name": "Ada", "email": "ada@oracles.example", "password": "ada's password",
        "passwordConfirm": "ada's password",
    });
    let (status, made) = ask("POST", &format!("{collections}/oracles/records"), "", Some(&ada)).await;
    assert_eq!(status, 200, "{made}");
    let root = sign_in("_superusers", SUPERUSER.0, SUPERUSER.1).await;
    let url = format!("{collections}/oracles/records/{}", made["id"].as_str().expect("an id"));
    let (status, answer) = ask("PATCH", &url, &root, Some(&json!({ "approved": true }))).await;
    assert_eq!(status, 200, "{answer}");
    let token = sign_in("oracles", "ada@oracles.example", "ada's password").await;
    (running, base, token)
}

/// Where the browser is, or nothing and a word about it.
fn browser() -> Option<(String, String)> {
    let named = |name| std::env::var(name).ok().filter(|it| !it.is_empty());
    let both = named("LITEKEEP_TEST_CHROMEDRIVER").zip(named("LITEKEEP_TEST_CHROMIUM"));
    if both.is_none() {
        let ci = named("CI").is_some_and(|it| it == "true");
        assert!(!ci, "LITEKEEP_TEST_CHROMEDRIVER and LITEKEEP_TEST_CHROMIUM must name a browser");
        eprintln!("left out: LITEKEEP_TEST_CHROMEDRIVER and LITEKEEP_TEST_CHROMIUM name no browser");
    }
    both
}

#[tokio::test]
async fn a_post_appears_in_an_open_page_without_a_reload() {
    let Some((driver, chromium)) = browser() else { return };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = tempfile::tempdir().expect("a directory");
    let (_server, base, token) = server(dir.path()).await;
    let window = Window::open(&driver, &chromium, &dir.path().join("profile")).await;

    window.go(&format!("{base}/?sort=new")).await;
    window.until("connected", "return document.getElementById('live').className === 'on'").await;
    // Lost by a reload, so that it proves that there was none.
    window.run("window.same = 'page'").await;
    let hostile = json!({
        "id": "livepost0000001", "title": "Seen live",
        "content": "*now* <img src=x onerror=\"window.broken = 1\">[x](javascript:window.broken=1)",
    });
    let (status, answer) =
        ask("POST", &format!("{base}/api/collections/posts/records"), &token, Some(&hostile)).await;
    assert_eq!(status, 200, "{answer}");
    let shown = "return document.querySelector('#p-livepost0000001 h2')?.innerText === 'Seen live'";
    window.until("the post", shown).await;

    let comment = json!({ "id": "livecomment0001", "post": "livepost0000001", "content": "I see it" });
    let (status, answer) =
        ask("POST", &format!("{base}/api/collections/comments/records"), &token, Some(&comment)).await;
    assert_eq!(status, 200, "{answer}");
    let counted = "return document.querySelector('#p-livepost0000001').innerText.includes('1 comment')";
    window.until("its comment is counted", counted).await;
    assert_eq!(window.run("return window.same ?? null").await, json!("page"), "the page was loaded again");

    window.go(&format!("{base}/post/livepost0000001")).await;
    let thread = "return document.querySelector('#c-livecomment0001 .prose').innerText === 'I see it'";
    window.until("the thread", thread).await;
    let loaded =
        "return performance.getEntriesByType('resource').every((it) => it.name.startsWith(location.origin))";
    assert_eq!(window.run(loaded).await, json!(true), "something was loaded from elsewhere");
    assert_eq!(window.run("return window.broken ?? null").await, Value::Null, "a post ran a script");
    window.close().await;
}
