//! Replica URLs: what may follow `litekeep replicate DB_PATH`.

use super::provider::{self, HostForm};
use super::{LocationError, S3Settings, Secret, Settings};
use std::fmt;
use std::path::PathBuf;

/// Schemes Litestream knows and we do not.
const NOT_SUPPORTED: [(&str, &str); 10] = [
    (
        "gs",
        "Google Cloud Storage (its S3 interface works: s3://BUCKET/PATH?endpoint=https://storage.googleapis.com)",
    ),
    (
        "gcs",
        "Google Cloud Storage (its S3 interface works: s3://BUCKET/PATH?endpoint=https://storage.googleapis.com)",
    ),
    ("abs", "Azure Blob Storage"),
    ("sftp", "SFTP"),
    ("webdav", "WebDAV"),
    ("webdavs", "WebDAV"),
    ("nats", "NATS"),
    (
        "oss",
        "Alibaba OSS (its S3 interface works: s3://BUCKET/PATH?endpoint=https://s3.oss-REGION.aliyuncs.com)",
    ),
    ("http", "an S3 endpoint goes into the parameter: s3://BUCKET/PATH?endpoint=http://HOST:PORT"),
    ("https", "an S3 endpoint goes into the parameter: s3://BUCKET/PATH?endpoint=https://HOST"),
];

const KNOWN_PARAMETERS: &str = "endpoint, region, forcePathStyle, skipVerify, signPayload, requireContentMD5, concurrency, partSize, \
     storageClass, sseKmsKeyId";

/// What there is.
const WRITE: &str = "write s3://BUCKET/PATH, file:///DIR or a path";

/// A parsed replica URL. Its `Display` is the location only, never a parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaUrl {
    settings: Settings,
}

impl ReplicaUrl {
    /// Whether a command line argument is a URL and not a path: it has a scheme followed by `://`.
    pub fn is_url(text: &str) -> bool {
        scheme(text).is_some()
    }

    /// Parses `s3://BUCKET/PATH?...`, `file:///DIR` or a path.
    pub fn parse(text: &str) -> Result<Self, LocationError> {
        let settings = match scheme(text) {
            None if text.is_empty() => {
                return Err(LocationError::new(format!("the replica URL is empty; {WRITE}")));
            }
            None => Settings::Directory(PathBuf::from(text)),
            Some(("file", rest)) => Settings::Directory(parse_file(rest)?),
            Some(("s3", rest)) => Settings::S3(Box::new(parse_s3(rest)?)),
            Some((scheme, _)) => return Err(not_supported(scheme)),
        };
        Ok(Self { settings })
    }

    /// The settings the URL gives.
    pub fn into_settings(self) -> Settings {
        self.settings
    }

    /// The settings the URL gives.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}

impl fmt::Display for ReplicaUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.settings.location())
    }
}

fn scheme(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
    (scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.bytes().all(legal))
        .then_some((scheme, rest))
}

fn not_supported(scheme: &str) -> LocationError {
    match NOT_SUPPORTED.iter().find(|(known, _)| *known == scheme.to_ascii_lowercase()) {
        Some((_, what)) if what.contains("s3://") => {
            LocationError::new(format!("{scheme}:// is not supported: {what}"))
        }
        Some((_, what)) => LocationError::new(format!("{scheme}:// is not supported: {what}; {WRITE}")),
        None => LocationError::new(format!("{scheme}:// is no replica this program knows; {WRITE}")),
    }
}

fn parse_file(rest: &str) -> Result<PathBuf, LocationError> {
    if rest.contains('?') {
        return Err(LocationError::new("a file:// replica takes no parameters; write file:///DIR"));
    }
    let path = clean_path(&as_go_writes_it(rest)?);
    if path.is_empty() {
        return Err(LocationError::new("file:// needs a directory; write file:///DIR"));
    }
    Ok(PathBuf::from(format!("/{path}")))
}

/// The path of a URL as Go's `URL.EscapedPath` has it: Litestream calls a directory what the URL does, `a%20b`, and one that
/// should be called `a b` too. Whoever read it otherwise would not find the backups that are there.
fn as_go_writes_it(path: &str) -> Result<String, LocationError> {
    let decoded = decode(path)?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~/$&+,:;=@".contains(&byte);
    if path.bytes().all(|byte| plain(byte) || b"%!'()*[]".contains(&byte)) {
        return Ok(path.to_owned());
    }
    let escaped = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    Ok(decoded.bytes().map(escaped).collect())
}

fn parse_s3(rest: &str) -> Result<S3Settings, LocationError> {
    let (rest, query) = match rest.split_once('?') {
        Some((rest, query)) => (rest, query),
        None => (rest, ""),
    };
    let (host, path) = split_host(rest);
    if host.contains('@') {
        return Err(LocationError::new(
            "a replica URL must not hold keys; give them as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        ));
    }
    let host = decode(host)?;
    if host.is_empty() {
        return Err(LocationError::new("s3:// needs a bucket; write s3://BUCKET/PATH"));
    }
    // As Go's `path.Clean` has it, without the slash in front: nothing at all is `.`, and Litestream's keys begin with `./`.
    let path = path.map_or(Ok(".".to_owned()), |path| decode(path).map(|path| clean_path(&path)))?;
    let mut settings = S3Settings::new("", path);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        set_parameter(&mut settings, &decode(name)?, decode_query(value)?)?;
    }
    apply_host(&mut settings, &host)?;
    Ok(settings)
}

/// Host, and the path behind the slash, if there is one. An access point's ARN has one slash of its own: `arn:aws:s3:REGION:ACCOUNT:accesspoint/NAME`.
fn split_host(rest: &str) -> (&str, Option<&str>) {
    let arn = rest.starts_with("arn:").then(|| rest.find(":accesspoint/")).flatten();
    let skip = arn.map_or(0, |at| at + ":accesspoint/".len());
    match rest[skip..].find('/') {
        Some(at) => (&rest[..skip + at], Some(&rest[skip + at + 1..])),
        None => (rest, None),
    }
}

/// With an endpoint given the host is the bucket's name as it stands; else it may name bucket and provider.
fn apply_host(settings: &mut S3Settings, host: &str) -> Result<(), LocationError> {
    let form = match settings.endpoint {
        Some(_) => HostForm::bucket_only(host),
        None => provider::parse_host(host)?,
    };
    settings.bucket = form.bucket;
    settings.endpoint = settings.endpoint.take().or(form.endpoint);
    settings.region = settings.region.take().or(form.region);
    settings.force_path_style = settings.force_path_style.or(form.force_path_style);
    Ok(())
}

fn set_parameter(settings: &mut S3Settings, name: &str, value: String) -> Result<(), LocationError> {
    let plain: String =
        name.chars().filter(|c| !matches!(c, '-' | '_')).collect::<String>().to_ascii_lowercase();
    match plain.as_str() {
        "endpoint" => settings.endpoint = Some(value),
        "region" => settings.region = Some(value),
        "forcepathstyle" => settings.force_path_style = Some(boolean(name, &value)?),
        "skipverify" => settings.skip_verify = boolean(name, &value)?,
        "signpayload" => settings.sign_payload = boolean(name, &value)?,
        // Objects are deleted one by one, so there is no batch whose MD5 a store could ask for.
        "requirecontentmd5" => drop(boolean(name, &value)?),
        "concurrency" => settings.concurrency = Some(number(name, &value)?.clamp(1, 64) as usize),
        "partsize" => settings.part_size = Some(parse_size(name, &value)?),
        "storageclass" => settings.storage_class = Some(value),
        "ssekmskeyid" => settings.sse_kms_key_id = Some(value),
        _ if ["key", "secret", "token", "password"].iter().any(|word| plain.contains(word)) => {
            drop(Secret::new(value));
            return Err(LocationError::new(format!(
                "the parameter {name:?} does not belong in a replica URL; give keys as AWS_ACCESS_KEY_ID and \
                 AWS_SECRET_ACCESS_KEY"
            )));
        }
        _ => {
            return Err(LocationError::new(format!(
                "the replica URL's parameter {name:?} is not known; known are {KNOWN_PARAMETERS}"
            )));
        }
    }
    Ok(())
}

fn boolean(name: &str, value: &str) -> Result<bool, LocationError> {
    match value.to_ascii_lowercase().as_str() {
        "" | "1" | "t" | "true" => Ok(true),
        "0" | "f" | "false" => Ok(false),
        _ => Err(LocationError::new(format!("the parameter {name} must be true or false"))),
    }
}

fn number(name: &str, value: &str) -> Result<u64, LocationError> {
    value.parse().map_err(|_| LocationError::new(format!("the parameter {name} must be a whole number")))
}

/// `5242880`, `8MB` (decimal), `8MiB` (binary); Litestream's spelling of sizes.
pub(crate) fn parse_size(name: &str, value: &str) -> Result<u64, LocationError> {
    const UNITS: [(&str, u64); 9] = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("KB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("K", 1_000),
        ("M", 1_000_000),
        ("B", 1),
    ];
    let (digits, factor) = UNITS
        .iter()
        .find_map(|(unit, factor)| Some((value.strip_suffix(unit)?, *factor)))
        .unwrap_or((value, 1));
    number(name, digits.trim())?
        .checked_mul(factor)
        .ok_or_else(|| LocationError::new(format!("the parameter {name} is too large")))
}

/// A path without `.`, `..`, doubled slashes and slashes at its ends. `..` at the top goes nowhere.
pub(crate) fn clean_path(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn decode_query(text: &str) -> Result<String, LocationError> {
    decode(&text.replace('+', "%20"))
}

/// Undoes percent-encoding. The text itself is not repeated in an error: it may hold a secret.
fn decode(text: &str) -> Result<String, LocationError> {
    let wrong = || {
        LocationError::new(
            "the replica URL has a % that is not followed by two hex digits of UTF-8; write %25 for it",
        )
    };
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else { return Err(wrong()) };
        bytes.push(u8::try_from(high * 16 + low).map_err(|_| wrong())?);
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}
