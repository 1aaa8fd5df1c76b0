//! A small application that writes to SQLite as most do: it answers when COMMIT returns. It is what Litestream stands
//! beside in `--engine litestream`.
//!
//! It has the routes that the ledger needs, in the shape of OracleNet's, and knows nothing of replicas. Its accounts
//! have no secrets: it is for this machine only.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension as _, params};
use serde_json::{Map, Value, json};
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// Tables with the columns that are read back.
const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS oracles (id TEXT PRIMARY KEY, name TEXT NOT NULL, karma INTEGER NOT NULL DEFAULT 0);
    CREATE TABLE IF NOT EXISTS posts (id TEXT PRIMARY KEY, title TEXT NOT NULL, content TEXT NOT NULL,
        author TEXT NOT NULL, upvotes INTEGER NOT NULL DEFAULT 0);
    CREATE TABLE IF NOT EXISTS votes (id INTEGER PRIMARY KEY, oracle TEXT NOT NULL, target_post TEXT NOT NULL,
        value INTEGER NOT NULL, UNIQUE (oracle, target_post));";

/// As an application beside Litestream is told to wait for it.
const BUSY: Duration = Duration::from_secs(5);

#[derive(Clone)]
struct App(Arc<Mutex<Connection>>);

/// Serves `directory/data.db` on a free port of this machine until SIGTERM.
///
/// # Errors
/// The database or the port cannot be opened.
pub async fn serve(directory: &std::path::Path) -> Result<(), Box<dyn std::error::Error>> {
    let connection = Connection::open(directory.join("data.db"))?;
    connection.busy_timeout(BUSY)?;
    connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;")?;
    connection.execute_batch(SCHEMA)?;
    let app = App(Arc::new(Mutex::new(connection)));
    let router = Router::new()
        .route("/api/health", get(async || (StatusCode::OK, "{}")))
        .route("/api/collections/{name}/auth-with-password", post(sign_in))
        .route("/api/collections/{name}/records", get(list).post(create))
        .route("/api/collections/{name}/records/{id}", get(view).patch(async || (StatusCode::OK, "{}")))
        .route("/api/posts/{id}/upvote", post(upvote))
        .with_state(app);
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    writeln!(std::io::stderr(), "Server started at http://{}", listener.local_addr()?)?;
    let mut asked = signal(SignalKind::terminate())?;
    let ended = async move {
        asked.recv().await;
    };
    axum::serve(listener, router).with_graceful_shutdown(ended).await?;
    Ok(())
}

fn answer(status: StatusCode, body: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

impl App {
    /// Runs one piece of work on the connection; what SQLite refuses is 400.
    fn with(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<Value>) -> Response {
        let connection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match work(&connection) {
            Ok(value) => answer(StatusCode::OK, &value),
            Err(error) => answer(StatusCode::BAD_REQUEST, &json!({ "message": error.to_string() })),
        }
    }
}

/// The account is the one of that name; its id is its token.
async fn sign_in(State(app): State<App>, Path(_): Path<String>, body: Bytes) -> Response {
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    let name =
        asked["identity"].as_str().unwrap_or_default().split('@').next().unwrap_or_default().to_owned();
    app.with(|connection| {
        let id: Option<String> = connection
            .query_row("SELECT id FROM oracles WHERE name = ?1", [&name], |row| row.get(0))
            .optional()?;
        let id = id.unwrap_or_default();
        Ok(json!({ "token": id, "record": { "id": id } }))
    })
}

async fn create(
    State(app): State<App>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    let text = |field: &str| asked[field].as_str().unwrap_or_default().to_owned();
    app.with(|connection| {
        if name == "oracles" {
            let id = text("name");
            connection.execute("INSERT INTO oracles (id, name) VALUES (?1, ?1)", [&id])?;
            return Ok(json!({ "id": id }));
        }
        connection.execute(
            "INSERT INTO posts (id, title, content, author) VALUES (?1, ?2, ?3, ?4)",
            params![text("id"), text("title"), text("content"), caller(&headers)],
        )?;
        Ok(json!({ "id": text("id") }))
    })
}

async fn upvote(State(app): State<App>, Path(id): Path<String>, request: Request) -> Response {
    let oracle = caller(request.headers());
    app.with(|connection| {
        let transaction = connection.unchecked_transaction()?;
        transaction.execute(
            "INSERT INTO votes (oracle, target_post, value) SELECT ?1, id, 1 FROM posts WHERE id = ?2",
            [&oracle, &id],
        )?;
        transaction.execute("UPDATE posts SET upvotes = upvotes + 1 WHERE id = ?1", [&id])?;
        let author =
            "UPDATE oracles SET karma = karma + 1 WHERE id = (SELECT author FROM posts WHERE id = ?1)";
        if transaction.execute(author, [&id])? == 0 {
            return Err(rusqlite::Error::QueryReturnedNoRows); // a vote for nothing is undone
        }
        transaction.commit()?;
        Ok(json!({ "success": true }))
    })
}

async fn view(State(app): State<App>, Path((_, id)): Path<(String, String)>) -> Response {
    let connection = app.0.lock().unwrap_or_else(PoisonError::into_inner);
    let asked = "SELECT title FROM posts WHERE id = ?1";
    match connection.query_row(asked, [&id], |row| row.get::<_, String>(0)) {
        Ok(title) => answer(StatusCode::OK, &json!({ "id": id, "title": title })),
        Err(rusqlite::Error::QueryReturnedNoRows) => answer(StatusCode::NOT_FOUND, &json!({})),
        Err(error) => answer(StatusCode::BAD_REQUEST, &json!({ "message": error.to_string() })),
    }
}

fn caller(headers: &HeaderMap) -> String {
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.trim_start_matches("Bearer ").to_owned()
}

async fn list(State(app): State<App>, Path(name): Path<String>, uri: Uri) -> Response {
    let number = |wanted: &str, default: i64| {
        let pairs = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(name, _)| *name == wanted).find_map(|(_, value)| value.parse().ok()).unwrap_or(default)
    };
    let (page, size) = (number("page", 1), number("perPage", 30));
    let Some(table) = ["oracles", "posts", "votes"].into_iter().find(|table| *table == name) else {
        return answer(StatusCode::NOT_FOUND, &json!({}));
    };
    app.with(|connection| {
        let total: i64 =
            connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))?;
        let mut statement =
            connection.prepare(&format!("SELECT * FROM {table} ORDER BY id LIMIT ?1 OFFSET ?2"))?;
        let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
        let rows = statement.query_map([size, (page - 1) * size], |row| {
            let mut item = Map::new();
            for (index, name) in names.iter().enumerate() {
                let value = match row.get_ref(index)? {
                    ValueRef::Integer(number) => json!(number),
                    ValueRef::Text(text) => json!(String::from_utf8_lossy(text)),
                    _ => Value::Null,
                };
                item.insert(name.clone(), value);
            }
            Ok(Value::Object(item))
        })?;
        let items = rows.collect::<Result<Vec<_>, _>>()?;
        Ok(json!({ "items": items, "totalItems": total }))
    })
}
