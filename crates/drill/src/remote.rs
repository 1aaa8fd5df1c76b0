//! A real bucket as the harness needs it: list, read, put and delete below one prefix, signed with AWS's version 4.
//!
//! It goes there directly; only containers go through the wire. It touches nothing outside its prefix.

use crate::bucket::{Place, checksum, is_data, keys};
use crate::clock::{Clock, date};
use crate::error::DrillError;
use crate::facts::Listing;
use crate::shown::shown;
use crate::wire::{Way, Wire};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use ring::hmac;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Time for one request.
const ANSWER: Duration = Duration::from_secs(60);

/// See the module's text.
pub struct Remote {
    client: reqwest::Client,
    clock: Clock,
    /// `https://host[:port]`.
    endpoint: String,
    bucket: String,
    prefix: String,
    query: String,
    region: String,
    key: String,
    secret: String,
    /// The way of the containers.
    pub wire: Wire,
    aside: Mutex<Vec<(String, Vec<u8>, HeaderMap)>>,
}

impl Remote {
    /// The bucket of `s3://BUCKET/PATH?endpoint=..&region=..`, with a prefix of this run's own below the path.
    ///
    /// # Errors
    /// The URL or the keys are missing something, or no port is free.
    pub async fn open(
        url: &str,
        environment: &dyn Fn(&str) -> Option<String>,
        clock: Clock,
    ) -> Result<Self, DrillError> {
        let rest = url
            .strip_prefix("s3://")
            .ok_or_else(|| DrillError::usage(format!("{} is not s3://BUCKET/PATH", shown(url))))?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (bucket, path) = place.split_once('/').unwrap_or((place, ""));
        let given: BTreeMap<String, String> = reqwest::Url::parse(&format!("s3://x/?{query}"))
            .map_err(|error| DrillError::usage(format!("{}: {error}", shown(url))))?
            .query_pairs()
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect();
        let first = |names: [&str; 2]| {
            names.iter().find_map(|name| environment(name).filter(|value| !value.is_empty()))
        };
        let region = given.get("region").cloned().or_else(|| environment("AWS_REGION"));
        let region = region.unwrap_or_else(|| "us-east-1".to_owned());
        let endpoint =
            given.get("endpoint").cloned().unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com"));
        let endpoint = if endpoint.contains("://") { endpoint } else { format!("https://{endpoint}") };
        let missing =
            || DrillError::usage("a bucket needs LITESTREAM_ACCESS_KEY_ID and LITESTREAM_SECRET_ACCESS_KEY");
        let way = match endpoint.strip_prefix("http://") {
            Some(target) => Way::To(target.trim_end_matches('/').to_owned()),
            None => Way::Connect,
        };
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(
                crate::api::tls(true).map_err(|error| DrillError::machine("TLS", &error))?,
            )
            .timeout(ANSWER)
            .http1_only()
            .build();
        Ok(Self {
            client: client.map_err(|error| DrillError::machine("the HTTP client", &error))?,
            clock,
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            bucket: bucket.to_owned(),
            prefix: format!("{}oraclenet-proof-{}", with_slash(path), clock.mark()),
            query: query.to_owned(),
            region,
            key: first(["LITESTREAM_ACCESS_KEY_ID", "AWS_ACCESS_KEY_ID"]).ok_or_else(missing)?,
            secret: first(["LITESTREAM_SECRET_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY"]).ok_or_else(missing)?,
            wire: Wire::start(way).await?,
            aside: Mutex::default(),
        })
    }

    /// Where this run writes.
    #[must_use]
    pub fn location(&self) -> String {
        format!("s3://{}/{}", self.bucket, self.prefix)
    }

    /// What to tell a container: by way of the wire.
    #[must_use]
    pub fn place(&self, path: &str) -> Place {
        let mut place = self.direct(path);
        if let Some(host) = self.endpoint.strip_prefix("http://") {
            place.url = place.url.replace(host, &self.wire.address.to_string());
        } else {
            place.environment.push(("HTTPS_PROXY".to_owned(), format!("http://{}", self.wire.address)));
        }
        place
    }

    /// What to tell a witness.
    #[must_use]
    pub fn direct(&self, path: &str) -> Place {
        let question = if self.query.is_empty() { "" } else { "?" };
        Place {
            url: format!("s3://{}/{}/{path}{question}{}", self.bucket, self.prefix, self.query),
            environment: keys(&self.key, &self.secret),
        }
    }

    /// Keys below `path` with the checksums of their contents.
    ///
    /// # Errors
    /// A request fails.
    pub async fn listing(&self, path: &str) -> Result<Listing, DrillError> {
        let mut found = Vec::new();
        for key in self.list(path).await? {
            let (bytes, _) = self.get(&key).await?;
            found.push((key, checksum(&bytes)));
        }
        Ok(found)
    }

    /// See `Bucket::hide_data`. What is taken away is kept in memory.
    ///
    /// # Errors
    /// A request fails.
    pub async fn hide_data(&self, path: &str, hide: bool) -> Result<usize, DrillError> {
        if hide {
            let keys: Vec<String> = self.list(path).await?.into_iter().filter(|key| is_data(key)).collect();
            for key in &keys {
                let (bytes, metadata) = self.get(key).await?;
                self.aside.lock().unwrap_or_else(PoisonError::into_inner).push((
                    key.clone(),
                    bytes,
                    metadata,
                ));
                self.send("DELETE", key, "", &HeaderMap::new(), Vec::new()).await?;
            }
            return Ok(keys.len());
        }
        let aside = std::mem::take(&mut *self.aside.lock().unwrap_or_else(PoisonError::into_inner));
        let count = aside.len();
        for (key, bytes, metadata) in aside {
            self.send("PUT", &key, "", &metadata, bytes).await?;
        }
        Ok(count)
    }

    /// Removes everything that this run wrote; gives what is still there.
    ///
    /// # Errors
    /// The bucket cannot be listed.
    pub async fn clear(&self) -> Result<Vec<String>, DrillError> {
        for key in self.list("").await? {
            let _ = self.send("DELETE", &key, "", &HeaderMap::new(), Vec::new()).await; // what stays is listed below
        }
        self.list("").await
    }

    async fn list(&self, path: &str) -> Result<Vec<String>, DrillError> {
        let (mut keys, mut token) = (Vec::new(), String::new());
        let below = format!("{}/{}", self.prefix, with_slash(path));
        loop {
            let mut query = String::new();
            if !token.is_empty() {
                let _ = write!(query, "continuation-token={}&", encode(&token, false));
            }
            let _ = write!(query, "list-type=2&prefix={}", encode(&below, false));
            let (bytes, _) = self.send("GET", "", &query, &HeaderMap::new(), Vec::new()).await?;
            let text = String::from_utf8_lossy(&bytes);
            keys.extend(elements(&text, "Key"));
            match elements(&text, "NextContinuationToken").next() {
                Some(next) => token = next,
                None => return Ok(keys),
            }
        }
    }

    async fn get(&self, key: &str) -> Result<(Vec<u8>, HeaderMap), DrillError> {
        let (bytes, headers) = self.send("GET", key, "", &HeaderMap::new(), Vec::new()).await?;
        let kept = headers.iter().filter(|(name, _)| name.as_str().starts_with("x-amz-meta-"));
        Ok((bytes, kept.map(|(name, value)| (name.clone(), value.clone())).collect()))
    }

    async fn send(
        &self,
        method: &str,
        key: &str,
        query: &str,
        metadata: &HeaderMap,
        body: Vec<u8>,
    ) -> Result<(Vec<u8>, HeaderMap), DrillError> {
        let what = format!("{method} {}/{key}", self.bucket);
        let failed = |error: &dyn std::fmt::Display| DrillError::machine(what.clone(), error);
        let path = format!("/{}/{}", self.bucket, encode(key, true));
        let path = path.trim_end_matches('/');
        let headers = self.signed(method, path, query, metadata, &body).map_err(|error| failed(&error))?;
        let question = if query.is_empty() { "" } else { "?" };
        let verb = method.parse::<reqwest::Method>().map_err(|error| failed(&error))?;
        let request = self.client.request(verb, format!("{}{path}{question}{query}", self.endpoint));
        let cut = |error: reqwest::Error| failed(&error.without_url());
        let response = request.headers(headers).body(body).send().await.map_err(cut)?;
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = response.bytes().await.map_err(cut)?.to_vec();
        if !status.is_success() {
            let code = elements(&String::from_utf8_lossy(&bytes), "Code").next().unwrap_or_default();
            return Err(failed(&format!("{status} {code}")));
        }
        Ok((bytes, headers))
    }

    fn signed(
        &self,
        method: &str,
        path: &str,
        query: &str,
        metadata: &HeaderMap,
        body: &[u8],
    ) -> Result<HeaderMap, reqwest::header::InvalidHeaderValue> {
        let stamp: String = date(self.clock.seconds()).chars().filter(|c| !matches!(c, '-' | ':')).collect();
        let (day, sum) = (&stamp[..8], checksum(body));
        let host = self.endpoint.split("://").nth(1).unwrap_or_default();
        let mut headers = metadata.clone();
        headers.insert(HeaderName::from_static("x-amz-date"), HeaderValue::from_str(&stamp)?);
        headers.insert(HeaderName::from_static("x-amz-content-sha256"), HeaderValue::from_str(&sum)?);
        let mut sorted: BTreeMap<&str, String> = BTreeMap::from([("host", host.to_owned())]);
        for (name, value) in &headers {
            sorted.insert(name.as_str(), String::from_utf8_lossy(value.as_bytes()).trim().to_owned());
        }
        let names = sorted.keys().copied().collect::<Vec<_>>().join(";");
        let lines: String = sorted.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let canonical = format!("{method}\n{path}\n{}\n{lines}\n{names}\n{sum}", sorted_query(query));
        let scope = format!("{day}/{}/s3/aws4_request", self.region);
        let signature = sign(&self.secret, &scope, &stamp, &canonical);
        let value = format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
            self.key
        );
        headers.insert(reqwest::header::AUTHORIZATION, HeaderValue::from_str(&value)?);
        Ok(headers)
    }
}

/// The signature of a canonical request; `scope` is `day/region/s3/aws4_request`.
fn sign(secret: &str, scope: &str, stamp: &str, canonical: &str) -> String {
    let hash = |key: &[u8], text: &str| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes());
    let mut key = format!("AWS4{secret}").into_bytes();
    for part in scope.split('/') {
        key = hash(&key, part).as_ref().to_vec();
    }
    let text = format!("AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{}", checksum(canonical.as_bytes()));
    hash(&key, &text).as_ref().iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

fn sorted_query(query: &str) -> String {
    let mut pairs: Vec<&str> = query.split('&').filter(|pair| !pair.is_empty()).collect();
    pairs.sort_unstable();
    pairs.join("&")
}

fn with_slash(path: &str) -> String {
    let path = path.trim_matches('/');
    if path.is_empty() { String::new() } else { format!("{path}/") }
}

/// Percent-encodes all but unreserved characters, and `/` where it separates.
fn encode(text: &str, path: bool) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b'/' if path => out.push('/'),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

/// The texts of all elements of a name.
fn elements<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = String> + 'a {
    let open = format!("<{name}>");
    let mut rest = text;
    std::iter::from_fn(move || {
        let from = rest.find(&open)? + open.len();
        let to = from + rest[from..].find("</")?;
        let found = rest[from..to]
            .replace("&quot;", "\"")
            .replace("&lt;", "<")
            .replace("&gt;", ">")
            .replace("&amp;", "&");
        rest = &rest[to..];
        Some(found)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_the_one_of_the_documentation() {
        // "GET Object" of AWS's page "Signature Calculations for the Authorization Header".
        let empty = checksum(b"");
        let canonical = format!(
            "GET\n/test.txt\n\nhost:examplebucket.s3.amazonaws.com\nrange:bytes=0-9\nx-amz-content-sha256:{empty}\n\
             x-amz-date:20130524T000000Z\n\nhost;range;x-amz-content-sha256;x-amz-date\n{empty}"
        );
        let signature = sign(
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            "20130524/us-east-1/s3/aws4_request",
            "20130524T000000Z",
            &canonical,
        );
        assert_eq!(signature, "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
    }

    #[test]
    fn elements_are_found_and_unescaped() {
        let text = "<A><Key>a&amp;b</Key><Other>x</Other><Key>c</Key></A>";
        assert_eq!(elements(text, "Key").collect::<Vec<_>>(), ["a&b", "c"]);
    }
}
