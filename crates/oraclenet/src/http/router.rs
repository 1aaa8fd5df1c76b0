//! Which request goes to which handler, and what every answer carries.

use super::error::ApiError;
use super::request::Incoming;
use super::state::AppState;
use super::{accounts, answer, live, own, records};
use crate::limits;
use crate::records::Target;
use crate::web;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_REQUEST_HEADERS, LOCATION, ORIGIN, VARY,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use axum::middleware::{self, Next};
use std::sync::Arc;

type Answer = Result<Response<Body>, ApiError>;

/// Everything that the server answers.
pub fn router(state: Arc<AppState>, site: Arc<web::Site>) -> Router {
    web::router(site)
        .fallback(api)
        .method_not_allowed_fallback(api)
        .with_state(Arc::clone(&state))
        .layer(middleware::from_fn_with_state(state, around))
}

/// What is the same for every request: CORS, limits on the address, security headers.
async fn around(State(state): State<Arc<AppState>>, request: Request<Body>, next: Next) -> Response<Body> {
    let origin = request.headers().get(ORIGIN).cloned();
    let asked = request.headers().get(ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    let mut response = if request.method() == Method::OPTIONS {
        answer::empty()
    } else if request.uri().to_string().len() > limits::URI {
        answer::error(&ApiError::new(414, "The address is too long"))
    } else if let Some(clean) = clean(request.uri().path()) {
        moved(&clean, request.uri().query())
    } else {
        next.run(request).await
    };
    let preflight = response.status() == StatusCode::NO_CONTENT && asked.is_some();
    cors(&state.config.origins, response.headers_mut(), origin.as_ref(), asked.filter(|_| preflight));
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "SAMEORIGIN"),
        ("x-xss-protection", "1; mode=block"),
    ] {
        response
            .headers_mut()
            .entry(HeaderName::from_static(name))
            .or_insert(HeaderValue::from_static(value));
    }
    response
}

fn cors(
    origins: &[String],
    headers: &mut HeaderMap,
    origin: Option<&HeaderValue>,
    asked: Option<HeaderValue>,
) {
    headers.append(VARY, HeaderValue::from_static("Origin"));
    let Some(origin) = origin else { return };
    let any = origins.is_empty() || origins.iter().any(|allowed| allowed == "*");
    let known = || origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes());
    if any {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    } else if known() {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    } else {
        return;
    }
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET,HEAD,PUT,PATCH,POST,DELETE"));
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(answer::TXID_HEADER));
    if let Some(asked) = asked {
        headers.append(VARY, HeaderValue::from_static("Access-Control-Request-Headers"));
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked);
    }
}

/// The path without doubled slashes and dots, if it had any.
fn clean(path: &str) -> Option<String> {
    let dirty = path.contains("//") || path.split('/').any(|part| part == "." || part == "..");
    if !dirty {
        return None;
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let slash = if path.ends_with('/') && !parts.is_empty() { "/" } else { "" };
    Some(format!("/{}{slash}", parts.join("/")))
}

fn moved(path: &str, query: Option<&str>) -> Response<Body> {
    let target = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    if let Ok(target) = HeaderValue::from_str(&target) {
        response.headers_mut().insert(LOCATION, target);
    }
    response
}

/// The API: everything that is no page.
async fn api(State(state): State<Arc<AppState>>, request: Request<Body>) -> Response<Body> {
    let head = request.method() == Method::HEAD;
    let page = !request.uri().path().starts_with("/api") && wants_page(&request);
    let outcome = match Incoming::of(&state, request).await {
        Ok(incoming) => dispatch(&state, incoming).await,
        Err(error) => Err(error),
    };
    let response = match outcome {
        Err(error) if page && error.status == 404 => web::not_found(),
        outcome => outcome.unwrap_or_else(|error| answer::error(&error)),
    };
    if head { response.map(|_| Body::empty()) } else { response }
}

fn wants_page(request: &Request<Body>) -> bool {
    let accept = request.headers().get("accept").and_then(|value| value.to_str().ok()).unwrap_or_default();
    request.method() == Method::GET && accept.contains("text/html")
}

async fn dispatch(state: &Arc<AppState>, incoming: Incoming) -> Answer {
    let method = match incoming.parts.method.clone() {
        Method::HEAD => Method::GET,
        method => method,
    };
    let path = incoming.parts.uri.path().to_owned();
    let parts: Vec<&str> = path.strip_prefix('/').unwrap_or(&path).split('/').collect();
    incoming.limit(state, action(state, &method, &parts))?;
    match (method.as_str(), &parts[..]) {
        (method, ["api", "collections", collection, rest @ ..]) => {
            collections(state, incoming, method, collection, rest).await
        }
        ("GET", ["api", "health"]) => own::health(&incoming),
        ("GET", ["api", "info"]) => own::info(&incoming),
        ("GET", ["api", "oracles", "me"]) => own::me(state, &incoming),
        ("GET", ["api", "oracles", "presence"]) => own::here(state, incoming).await,
        ("GET", ["api", "feed" | "posts"]) => own::feed_of(state, incoming).await,
        ("GET", ["api", "replication"]) => own::replication(state, incoming).await,
        ("GET", ["api", "realtime"]) => live::connect(state),
        ("POST", ["api", "realtime"]) => live::subscribe(state, incoming).await,
        ("POST", ["api", "batch"]) => live::batch(state, incoming).await,
        ("POST", ["api", kind @ ("posts" | "comments"), id, vote @ ("upvote" | "downvote")]) => {
            let target = if *kind == "posts" { Target::Post } else { Target::Comment };
            own::vote(state, incoming, target, id, if *vote == "upvote" { 1 } else { -1 }).await
        }
        ("POST", ["nonce"]) => own::nonce(state, incoming).await,
        ("POST", ["verify"]) => own::verify(state, incoming).await,
        (_, ["api", "settings" | "logs" | "crons" | "backups", ..]) => {
            accounts::superuser(&incoming)?;
            Err(ApiError::forbidden(
                "This server has no such interface: settings are flags, and logs go to its output",
            ))
        }
        (method, parts) => Err(nowhere(method, parts)),
    }
}

/// PocketBase's answer for an address that nothing answers at.
fn nowhere(method: &str, parts: &[&str]) -> ApiError {
    let known = matches!(
        parts,
        ["api", "health" | "info" | "feed" | "posts" | "replication" | "realtime" | "batch"]
            | ["api", "oracles", "me" | "presence"]
            | ["api", "posts" | "comments", _, "upvote" | "downvote"]
            | ["nonce" | "verify"]
    );
    if method == "GET" && !known { ApiError::new(404, "File not found.") } else { ApiError::not_found() }
}

async fn collections(
    state: &Arc<AppState>,
    incoming: Incoming,
    method: &str,
    collection: &str,
    rest: &[&str],
) -> Answer {
    match (method, rest) {
        ("GET", ["records"]) => records::list(state, incoming, collection).await,
        ("POST", ["records"]) => records::create(state, incoming, collection).await,
        ("GET", ["records", id]) if !id.is_empty() => records::view(state, incoming, collection, id).await,
        ("PATCH", ["records", id]) if !id.is_empty() => {
            records::update(state, incoming, collection, id).await
        }
        ("DELETE", ["records", id]) if !id.is_empty() => {
            records::delete(state, incoming, collection, id).await
        }
        ("GET", ["auth-methods"]) => accounts::methods(state, &incoming, collection),
        ("POST", ["auth-with-password"]) => accounts::with_password(state, incoming, collection).await,
        ("POST", ["auth-refresh"]) => accounts::refresh(state, incoming, collection).await,
        ("POST", ["impersonate", id]) => accounts::impersonate(state, incoming, collection, id).await,
        (
            "POST",
            [
                action @ ("request-otp"
                | "auth-with-otp"
                | "auth-with-oauth2"
                | "request-password-reset"
                | "confirm-password-reset"
                | "request-verification"
                | "confirm-verification"
                | "request-email-change"
                | "confirm-email-change"),
            ],
        ) => accounts::switched_off(state, incoming, collection, action).await,
        ("GET" | "PATCH" | "DELETE" | "PUT", []) => {
            accounts::superuser(&incoming)?;
            Err(ApiError::forbidden("The collections of this server are fixed"))
        }
        ("GET", _) if !matches!(rest, ["auth-with-password" | "auth-refresh" | "impersonate", ..]) => {
            Err(ApiError::new(404, "File not found."))
        }
        _ => Err(ApiError::not_found()),
    }
}

/// The collection and action that rate limits count.
fn action<'a>(state: &'a AppState, method: &Method, parts: &[&str]) -> Option<(&'a str, &'static str)> {
    let named = |name: &str| records::named(state, name).map(|collection| collection.name);
    match (method.as_str(), parts) {
        ("POST", ["api", "collections", name, "records"]) => Some((named(name)?, "create")),
        ("POST", ["api", "collections", name, action]) if *action != "auth-refresh" => {
            Some((named(name)?, "auth"))
        }
        ("POST", ["nonce" | "verify"]) => Some(("oracles", "auth")),
        _ => None,
    }
}
