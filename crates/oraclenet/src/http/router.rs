//! Which request goes to which handler, and what every answer carries.

use super::error::ApiError;
use super::request::Incoming;
use super::state::AppState;
use super::{accounts, answer, live, own, query, records};
use crate::limits;
use crate::records::Target;
use crate::web;
use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_REQUEST_HEADERS, AUTHORIZATION, CONTENT_TYPE, LOCATION,
    ORIGIN, VARY,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use axum::middleware::{self, Next};
use futures::StreamExt as _;
use std::net::SocketAddr;
use std::sync::Arc;

type Answer = Result<Response<Body>, ApiError>;

/// Everything that the server answers.
pub fn router(state: Arc<AppState>, site: Arc<web::Site>) -> Router {
    web::router(site)
        .route_layer(middleware::from_fn_with_state(Arc::clone(&state), counted))
        .fallback(api)
        .method_not_allowed_fallback(api)
        .with_state(Arc::clone(&state))
        .layer(middleware::from_fn_with_state(state, around))
}

/// What is the same for every request: CORS, limits on the address, security headers.
async fn around(State(state): State<Arc<AppState>>, request: Request<Body>, next: Next) -> Response<Body> {
    let origin = request.headers().get(ORIGIN).cloned();
    let asked = request.headers().get(ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    if let Some(clean) = clean(request.uri().path()) {
        return moved(&clean, &request);
    }
    if request.method() == Method::OPTIONS {
        let mut response = answer::empty();
        if allow_origin(&state.config.origins, response.headers_mut(), origin.as_ref()) {
            preflight(response.headers_mut(), asked);
        }
        return response;
    }
    let mut response = if request.uri().to_string().len() > limits::URI {
        answer::error(&ApiError::new(414, "The address is too long"))
    } else {
        answered(&state, request, next).await
    };
    if allow_origin(&state.config.origins, response.headers_mut(), origin.as_ref()) {
        let exposed = HeaderValue::from_static(answer::TXID_HEADER);
        response.headers_mut().insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
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

/// The answer, once the replica has what it shows, if reads are strict. Its own state and that of the replica are told
/// as they are; a stream of events tells what is durable anyway.
async fn answered(state: &Arc<AppState>, request: Request<Body>, next: Next) -> Response<Body> {
    let path = request.uri().path();
    let as_is = ["/api/health", "/api/replication", "/api/realtime", "/api/info", "/status"].contains(&path)
        || path.starts_with("/assets/");
    let strict = state.config.strict_reads && !as_is;
    if !strict || !matches!(*request.method(), Method::GET | Method::HEAD) {
        return next.run(request).await;
    }
    let seen = state.db.seen();
    let response = next.run(request).await;
    match state.db.settled::<ApiError>(seen).await {
        Ok(_) => response,
        Err(_) => answer::error(&ApiError::unavailable(
            "unknown",
            "The replica does not have yet what there is to show. Try again",
            2,
        )),
    }
}

/// Counts a page like a guest's request to the API: it costs as much, and no token makes it another page.
async fn counted(State(state): State<Arc<AppState>>, request: Request<Body>, next: Next) -> Response<Body> {
    let mut asked = Request::new(Body::empty());
    *asked.uri_mut() = Uri::from_static("/api/");
    *asked.headers_mut() = request.headers().clone();
    asked.headers_mut().remove(AUTHORIZATION);
    if let Some(peer) = request.extensions().get::<ConnectInfo<SocketAddr>>() {
        asked.extensions_mut().insert(*peer);
    }
    let counted = Incoming::of(&state, asked).await.and_then(|asked| asked.limit(&state, "/api/", None));
    match counted {
        Ok(()) => next.run(request).await,
        Err(error) => web::too_many(error.retry_after.unwrap_or(1)),
    }
}

/// Lets a page of this origin read the answer, if it may; whether it is a page's request that may.
fn allow_origin(origins: &[String], headers: &mut HeaderMap, origin: Option<&HeaderValue>) -> bool {
    headers.append(VARY, HeaderValue::from_static("Origin"));
    let Some(origin) = origin else { return false };
    let any = origins.is_empty() || origins.iter().any(|allowed| allowed == "*");
    let known = || origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes());
    if any {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    } else if known() {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    } else {
        return false;
    }
    true
}

/// What a page may send, told before it does.
fn preflight(headers: &mut HeaderMap, asked: Option<HeaderValue>) {
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET,HEAD,PUT,PATCH,POST,DELETE"));
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

/// To the clean path. Go's router says so before anything else is looked at, so that this answer has no other headers.
fn moved(path: &str, request: &Request<Body>) -> Response<Body> {
    let query = request.uri().query();
    let target = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    let mut response = Response::new(Body::empty());
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        let link = format!("<a href=\"{}\">Moved Permanently</a>.\n\n", escaped(&target));
        if request.method() == Method::GET {
            *response.body_mut() = Body::from(link);
        }
        let html = HeaderValue::from_static("text/html; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, html);
    }
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    if let Ok(target) = HeaderValue::from_str(&target) {
        response.headers_mut().insert(LOCATION, target);
    }
    response
}

/// Text that can stand in an attribute of HTML.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            letter => out.push(letter),
        }
    }
    out
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
    let parts = parts_of(incoming.parts.uri.path());
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    incoming.limit(state, &format!("/{}", parts.join("/")), action(state, &method, &parts))?;
    match (method.as_str(), &parts[..]) {
        (method, parts) if is_administration(method, parts) => {
            accounts::superuser(&incoming)?;
            Err(ApiError::forbidden(
                "This server has no such interface: collections are fixed, settings are flags, and logs go to its output",
            ))
        }
        (method, ["api", "collections", collection, rest @ ..]) => {
            collections(state, incoming, method, collection, rest).await
        }
        ("GET", ["api", "health"]) => own::health(state, &incoming).await,
        ("GET", ["api", "info"]) => own::info(&incoming),
        ("GET", ["api", "oracles", "me"]) => own::me(state, &incoming),
        ("GET", ["api", "oracles", "presence"]) => own::here(state, incoming).await,
        ("GET", ["api", "feed" | "posts"]) => own::feed_of(state, incoming).await,
        ("GET", ["api", "replication"]) => own::replication(state, incoming).await,
        ("GET", ["api", "realtime"]) => listen(state, &incoming),
        ("POST", ["api", "realtime"]) => live::subscribe(state, incoming).await,
        ("POST", ["api", "batch"]) => live::batch(state, incoming).await,
        ("POST", ["api", kind @ ("posts" | "comments"), id, vote @ ("upvote" | "downvote")]) => {
            let target = if *kind == "posts" { Target::Post } else { Target::Comment };
            own::vote(state, incoming, target, id, if *vote == "upvote" { 1 } else { -1 }).await
        }
        ("POST", ["api", "files", "token"]) => accounts::file_token(&incoming),
        ("POST", ["nonce"]) => own::nonce(state, incoming).await,
        ("POST", ["verify"]) => own::verify(state, incoming).await,
        // There are no files, and backups are the replica's affair.
        ("GET", ["api", "files", _, _, _]) => Err(ApiError::not_found()),
        ("GET", ["api", "backups", _]) => {
            Err(ApiError::forbidden("Insufficient permissions to access the resource."))
        }
        (method, _) => Err(nowhere(method)),
    }
}

/// The parts of a path, each decoded by itself: an encoded slash parts nothing, and what cannot be decoded stays.
fn parts_of(path: &str) -> Vec<String> {
    let decoded = |part: &str| query::decode(part, false).unwrap_or_else(|| part.to_owned());
    path.strip_prefix('/').unwrap_or(path).split('/').map(decoded).collect()
}

/// A stream of events, which keeps its address's seat until it ends.
fn listen(state: &AppState, incoming: &Incoming) -> Answer {
    let seat = state.hub.seat(incoming.address).ok_or_else(|| ApiError::too_many(Some(10)))?;
    let response = live::connect(state)?;
    Ok(response.map(|body| {
        let seated = body.into_data_stream().map(move |bytes| {
            let _ = &seat;
            bytes
        });
        Body::from_stream(seated)
    }))
}

/// What PocketBase's dashboard uses and this server does not have.
fn is_administration(method: &str, parts: &[&str]) -> bool {
    let ["api", rest @ ..] = parts else { return false };
    match (method, rest) {
        (_, [.., ""]) => false,
        ("GET", ["collections", "meta", "scaffolds"] | ["collections"] | ["collections", _])
        | ("POST", ["collections"])
        | ("PUT", ["collections", "import"])
        | ("PATCH" | "DELETE", ["collections", _])
        | ("DELETE", ["collections", _, "truncate"])
        | ("GET" | "PATCH", ["settings"])
        | ("POST", ["settings", "test", "s3" | "email"] | ["settings", "apple", "generate-client-secret"])
        | ("GET", ["logs"] | ["logs", _])
        | ("GET", ["crons"])
        | ("POST", ["crons", _])
        | ("GET" | "POST", ["backups"])
        | ("POST", ["backups", "upload"] | ["backups", _, "restore"])
        | ("DELETE", ["backups", _]) => true,
        _ => false,
    }
}

/// PocketBase's answer for an address that nothing answers at.
fn nowhere(method: &str) -> ApiError {
    if method == "GET" { ApiError::new(404, "File not found.") } else { ApiError::not_found() }
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
        (method, _) => Err(nowhere(method)),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_cleaned_and_then_each_part_is_decoded() {
        for (path, cleaned, parts) in [
            ("/api/health", None, "api|health"),
            ("/%61pi/%68ealth", None, "api|health"),
            ("/api/a%2Fb/", None, "api|a/b|"),
            ("/api/%zz/a+b", None, "api|%zz|a+b"),
            ("//api/health", Some("/api/health"), "|api|health"),
            ("/api/./x/../health/", Some("/api/health/"), "api|.|x|..|health|"),
            ("/../..", Some("/"), "..|.."),
        ] {
            assert_eq!(clean(path).as_deref(), cleaned, "{path}");
            assert_eq!(parts_of(path).join("|"), parts, "{path}");
        }
    }

    #[test]
    fn a_link_in_a_redirection_cannot_leave_its_attribute() {
        assert_eq!(escaped("/a?b=\"><c>&d='"), "/a?b=&#34;&gt;&lt;c&gt;&amp;d=&#39;");
    }
}
