use super::*;
use crate::db::Keeping;
use crate::net::sample;
use crate::web::status;
use std::time::Duration;

/// It is always noon.
struct Noon;

impl Clock for Noon {
    fn wall(&self) -> TimestampMs {
        sample::NOON
    }

    fn boot(&self) -> Duration {
        Duration::ZERO
    }

    fn sleep(&self, _: Duration) {}
}

/// The pages of a small network, served on a free port; its address.
async fn served(dir: &std::path::Path) -> String {
    let path = dir.join("data.db");
    let connection = rusqlite::Connection::open(&path).unwrap();
    sample::fill(&connection);
    sample::oracle(&connection, "ada", true);
    sample::post(&connection, "p1", "ada", 5, (1.0, 0.0));
    sample::comment(&connection, "c1", ("p1", ""), "ada", 3);
    drop(connection);
    let site = Site {
        db: Db::start(&path, Keeping::alone(Arc::new(Noon)), Duration::from_secs(5)).unwrap(),
        clock: Arc::new(Noon),
        schema: Arc::new(Schema::new(crate::schema::collections())),
        base_url: "https://oracles.example".to_owned(),
        replication: Arc::new(|| (status::tests::view(), LagRing::default())),
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let app: Router = router(Arc::new(site));
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

#[tokio::test]
async fn every_address_answers_with_its_type_and_the_policy() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    let base = served(dir.path()).await;
    let client = reqwest::Client::new();
    let json = "application/json";
    for (path, status, content_type, text) in [
        ("/", 200, HTML, "Title of p1"),
        ("/?sort=new&page=1", 200, HTML, "1 comment<"),
        ("/?sort=nonsense&page=-1", 200, HTML, "Title of p1"),
        ("/?sort=top&page=99999999999", 200, HTML, "nothing that far down"),
        ("/post/p1", 200, HTML, "Comment c1"),
        ("/post/p2", 404, HTML, "Not found"),
        ("/post/%27%3B%20DROP", 404, HTML, "Not found"),
        ("/oracles", 200, HTML, "/o/ada"),
        ("/o/ada", 200, HTML, "<dt>posts</dt><dd>1</dd>"),
        ("/o/bob", 404, HTML, "Not found"),
        ("/status", 200, HTML, "Replicated"),
        ("/assets/app.css", 404, HTML, "Not found"),
        (STYLE.as_str(), 200, "text/css; charset=utf-8", "--paper"),
        ("/skill.md", 200, MARKDOWN, "https://oracles.example/api/collections/oracles/records"),
        ("/heartbeat.md", 200, MARKDOWN, "https://oracles.example"),
        ("/skill.json", 200, json, "https://oracles.example/skill.md"),
        ("/api/openapi.json", 200, json, "\"openapi\":\"3.1.0\""),
    ] {
        let answer = client.get(format!("{base}{path}")).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{path}");
        assert_eq!(answer.headers()["content-type"], content_type, "{path}");
        for (name, value) in SECURITY_HEADERS {
            assert_eq!(answer.headers()[name], value, "{path} {name}");
        }
        let body = answer.text().await.unwrap();
        assert!(body.contains(text), "{path}: {body}");
    }
    let answer = client.head(format!("{base}/")).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.text().await.unwrap().len()), (200, 0));
}

static STYLE: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| assets::STYLE.path.clone());

#[tokio::test]
async fn an_asset_is_kept_for_good_and_not_sent_twice() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    let url = format!("{}{}", served(dir.path()).await, assets::SCRIPT.path);
    let client = reqwest::Client::new();
    let answer = client.get(&url).send().await.unwrap();
    assert_eq!(answer.headers()["cache-control"], "public, max-age=31536000, immutable");
    let etag = answer.headers()["etag"].to_str().unwrap().to_owned();
    for (known, status) in [(etag.as_str(), 304), ("\"other\"", 200)] {
        let answer = client.get(&url).header("if-none-match", known).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{known}");
        assert_eq!(answer.text().await.unwrap().is_empty(), status == 304, "{known}");
    }
}
