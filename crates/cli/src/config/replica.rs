//! Which replica a database has and where it lies. What is asked for and would not be done is refused here, not found
//! out after the first upload.

use super::address::{address, no_bucket, no_path};
use super::notes::{Notes, said};
use super::origin::{Origin, Origins};
use super::remark::Place;
use super::yaml::{Any, Covered, Db, Replica, ReplicaSettings, Text};
use super::{Pick, Settings};
use crate::world::World;
use litekeep_store::location::{CredentialSource, ReplicaUrl, RoleSource, S3Settings};
use serde_saphyr::Spanned;
use std::path::PathBuf;

/// The least size of a part that S3 takes, bytes.
const MIN_PART: u64 = 5 << 20;

/// What Litestream knows and this program does not, and what to do.
pub(super) const NOT_BUILT: [(&str, &str); 10] = [
    ("gs", "its S3 interface works: type s3, endpoint https://storage.googleapis.com"),
    ("gcs", "its S3 interface works: type s3, endpoint https://storage.googleapis.com"),
    ("oss", "its S3 interface works: type s3, endpoint https://s3.oss-REGION.aliyuncs.com"),
    ("abs", "use a bucket that speaks S3, or a directory"),
    ("sftp", "use a bucket that speaks S3, or mount it and name the directory"),
    ("webdav", "use a bucket that speaks S3, or mount it and name the directory"),
    ("webdavs", "use a bucket that speaks S3, or mount it and name the directory"),
    ("nats", "use a bucket that speaks S3, or a directory"),
    ("https", "an S3 endpoint has a key of its own: type s3, endpoint, bucket, path"),
    ("http", "an S3 endpoint has a key of its own: type s3, endpoint, bucket, path"),
];

/// What kinds of replica there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    S3,
}

/// What the replica is called: its name, else its type, as in v0.3.
pub(super) fn name(replica: &Replica) -> String {
    let by_url = replica.url.as_ref().and_then(|url| url.value.0.expose().split_once("://"));
    let by_url = by_url.map(|(scheme, _)| scheme.to_ascii_lowercase());
    said(replica.name.as_ref())
        .or(by_url)
        .or_else(|| said(replica.kind.as_ref()))
        .unwrap_or_else(|| "file".to_owned())
}

/// The one replica of a database.
pub(super) fn chosen<'a>(
    db: &'a Spanned<Db>,
    pick: Pick<'_>,
    notes: &mut Notes,
) -> Option<&'a Spanned<Replica>> {
    let (one, several) = (&db.value.replica, db.value.replicas.as_deref().unwrap_or_default());
    match (one, several, pick) {
        (Some(_), [other, ..], _) => {
            notes.problem(Place::of(other), "give `replica` or `replicas`, not both");
            None
        }
        (Some(replica), [], _) | (None, [replica], _) => Some(replica),
        (None, [], _) => {
            notes.problem(Place::of(db), "a database needs a `replica`");
            None
        }
        (None, [first, others @ ..], Pick::First) => {
            for other in others {
                notes.warn(Place::of(other), "this replica is left out: -first-replica uses the first");
            }
            Some(first)
        }
        (None, [_, second, ..], Pick::Named(wanted)) => {
            let found = several.iter().find(|replica| name(&replica.value) == wanted);
            if found.is_none() {
                let names: Vec<_> = several.iter().map(|replica| name(&replica.value)).collect();
                let text =
                    format!("none of these replicas is called {wanted}: they are {}", names.join(", "));
                notes.problem(Place::of(second), text);
            }
            found
        }
        (None, [_, second, ..], Pick::Only) => {
            let text = "multiple replicas on a single database are no longer supported: keep one of them, or let \
                 `-first-replica` use the first";
            notes.problem(Place::of(second), text);
            None
        }
    }
}

/// Where a replica lies.
pub(super) fn locate(
    world: &World,
    replica: &Spanned<Replica>,
    file: &ReplicaSettings,
    origins: &mut Origins,
    notes: &mut Notes,
) -> Option<Settings> {
    let kind = kind(&replica.value, notes)?;
    foreign(&replica.value.settings, notes);
    if kind == Kind::File {
        only_for_s3(&replica.value.settings, notes);
    }
    let (url, field) = (&replica.value.url, replica.value.path.as_ref());
    let path = match replica_path(field) {
        Ok(path) => path,
        Err(why) => {
            notes.problem(field.map_or(Place::of(replica), Place::of), why);
            return None;
        }
    };
    let url = url.as_ref().filter(|url| !url.value.0.expose().is_empty());
    let settings = inherited(&replica.value.settings, file);
    let base = match (url, kind) {
        (Some(url), _) => by_url(&replica.value, url, path.is_some(), notes)?,
        (None, Kind::File) => match path {
            Some(path) => Settings::Directory(PathBuf::from(path)),
            None => {
                notes.problem(Place::of(replica), "a replica of type file needs a `path` or a `url`");
                return None;
            }
        },
        (None, Kind::S3) => match said(settings.bucket.as_ref()) {
            Some(bucket) => {
                if let (Some(why), Some(field)) = (no_bucket(&bucket), &settings.bucket) {
                    notes.problem(Place::of(field), format!("bucket: {why}"));
                    return None;
                }
                Settings::S3(Box::new(S3Settings::new(bucket, path.unwrap_or_default())))
            }
            None => {
                notes.problem(Place::of(replica), "a replica of type s3 needs a `bucket` or a `url`");
                return None;
            }
        },
    };
    origins.set("replica", Origin::File(Place::of(replica)));
    match base {
        Settings::Directory(path) => Some(Settings::Directory(world.path(&path.to_string_lossy()))),
        Settings::S3(s3) => {
            let s3 = s3_settings(*s3, &settings, origins, notes);
            with_environment(world, s3, Place::of(replica), origins, notes)
        }
    }
}

/// The `path` of a replica, if there is one.
///
/// # Errors
/// It cannot be meant as a path, and what to write.
fn replica_path(field: Option<&Text>) -> Result<Option<String>, String> {
    let Some(path) = said(field) else { return Ok(None) };
    if let Some(url) = address(&path) {
        return Err(format!("replica path cannot be a url: write `url: {url}` in its place"));
    }
    match no_path(&path) {
        Some(why) => Err(format!("path: {why}")),
        None => Ok(Some(path)),
    }
}

/// The kind, or what to do where it is not built in.
fn kind(replica: &Replica, notes: &mut Notes) -> Option<Kind> {
    let (name, place) = match (&replica.url, &replica.kind) {
        (Some(url), _) if !url.value.0.expose().is_empty() => match url.value.0.expose().split_once("://") {
            Some((scheme, _)) => (scheme.to_ascii_lowercase(), Place::of(url)),
            None => return Some(Kind::File),
        },
        (_, Some(kind)) => (kind.value.clone(), Place::of(kind)),
        _ => return Some(Kind::File),
    };
    match name.as_str() {
        "" | "file" => Some(Kind::File),
        "s3" => Some(Kind::S3),
        name => {
            let text = match NOT_BUILT.iter().find(|(known, _)| *known == name) {
                Some((_, advice)) => format!("replicas of type {name} are not built in: {advice}"),
                None => format!("`{name}` is no type of replica: use s3 or file"),
            };
            notes.problem(place, text);
            None
        }
    }
}

fn by_url(replica: &Replica, url: &Covered, path: bool, notes: &mut Notes) -> Option<Settings> {
    let place = Place::of(url);
    let settings = &replica.settings;
    for (key, given) in [
        ("path", path),
        ("bucket", said(settings.bucket.as_ref()).is_some()),
        ("host", given(&settings.host).is_some()),
    ] {
        if given {
            notes.problem(place, format!("give the replica's `url` or its `{key}`, not both"));
            return None;
        }
    }
    let text = url.value.0.expose();
    if let Some(right) = address(text).filter(|_| !ReplicaUrl::is_url(text)) {
        notes.problem(place, format!("url: two slashes stand behind the scheme: write {right}"));
        return None;
    }
    match ReplicaUrl::parse(text) {
        Ok(url) => Some(url.into_settings()),
        Err(error) => {
            notes.problem(place, format!("url: {error}"));
            None
        }
    }
}

/// A replica's own settings, and those of the whole file where it says nothing.
fn inherited(own: &ReplicaSettings, file: &ReplicaSettings) -> ReplicaSettings {
    macro_rules! either {
        ($($field:ident),* $(,)?) => {
            ReplicaSettings { $($field: own.$field.clone().or_else(|| file.$field.clone()),)* ..own.clone() }
        };
    }
    either!(
        access_key_id,
        secret_access_key,
        region,
        bucket,
        endpoint,
        force_path_style,
        sign_payload,
        skip_verify,
        storage_class,
        part_size,
        concurrency,
        sse_kms_key_id,
    )
}

fn s3_settings(
    mut s3: S3Settings,
    settings: &ReplicaSettings,
    origins: &mut Origins,
    notes: &mut Notes,
) -> S3Settings {
    let hidden = |covered: &Option<Covered>| {
        covered.as_ref().map(|covered| covered.value.0.clone()).filter(|secret| !secret.expose().is_empty())
    };
    let switch = |key, field: &Option<Text>, notes: &mut Notes| notes.switch(key, field.as_ref());
    s3.access_key_id = hidden(&settings.access_key_id).map(|id| id.expose().to_owned());
    s3.secret_access_key = hidden(&settings.secret_access_key);
    s3.region = said(settings.region.as_ref()).or(s3.region);
    s3.endpoint = said(settings.endpoint.as_ref()).or(s3.endpoint);
    s3.storage_class = said(settings.storage_class.as_ref()).or(s3.storage_class);
    s3.sse_kms_key_id = said(settings.sse_kms_key_id.as_ref()).or(s3.sse_kms_key_id);
    s3.force_path_style =
        switch("force-path-style", &settings.force_path_style, notes).or(s3.force_path_style);
    s3.sign_payload = switch("sign-payload", &settings.sign_payload, notes).unwrap_or(s3.sign_payload);
    s3.skip_verify = switch("skip-verify", &settings.skip_verify, notes).unwrap_or(s3.skip_verify);
    // 0 is Litestream's default for both
    let count = notes.count("concurrency", settings.concurrency.as_ref()).filter(|count| *count > 0);
    s3.concurrency = count.map(|count| count.clamp(1, 64) as usize).or(s3.concurrency);
    let size = notes.size("part-size", settings.part_size.as_ref()).filter(|size| *size > 0);
    s3.part_size = size.or(s3.part_size);
    if let (Some(size), Some(field)) = (size, &settings.part_size)
        && size < MIN_PART
    {
        let text = format!("part-size: S3 takes parts of {MIN_PART} bytes (5MiB) and more");
        notes.problem(Place::of(field), text);
    }
    for (key, field) in [
        ("region", &settings.region),
        ("endpoint", &settings.endpoint),
        ("storage-class", &settings.storage_class),
        ("sse-kms-key-id", &settings.sse_kms_key_id),
        ("force-path-style", &settings.force_path_style),
        ("sign-payload", &settings.sign_payload),
        ("skip-verify", &settings.skip_verify),
        ("concurrency", &settings.concurrency),
        ("part-size", &settings.part_size),
    ] {
        if let Some(field) = field {
            origins.set(key, Origin::File(Place::of(field)));
        }
    }
    for (key, field) in
        [("access-key-id", &settings.access_key_id), ("secret-access-key", &settings.secret_access_key)]
    {
        if let Some(field) = field {
            origins.set(key, Origin::File(Place::of(field)));
        }
    }
    s3
}

/// Adds what the environment gives, and notes what it gave. Without keys the replica is still known: not all ask it.
fn with_environment(
    world: &World,
    s3: S3Settings,
    place: Place,
    origins: &mut Origins,
    notes: &mut Notes,
) -> Option<Settings> {
    let (region, endpoint) = (s3.region.is_none(), s3.endpoint.is_none());
    let lookup = |name: &str| world.env.get(name).map(str::to_owned);
    let settings = Settings::S3(Box::new(s3));
    let settings = match settings.clone().with_environment(&lookup) {
        Ok(settings) => settings,
        Err(error) => {
            notes.unusable(place, &error);
            return error.is_about_keys().then_some(settings);
        }
    };
    if let Settings::S3(s3) = &settings {
        let from = |names: &[&str], value: &str| {
            let name = names.iter().find(|name| world.env.get(name) == Some(value));
            Origin::Environment(name.map_or("a shared AWS profile".to_owned(), |name| (*name).to_owned()))
        };
        if let (true, Some(value)) = (region, &s3.region) {
            origins.set("region", from(&["AWS_REGION", "AWS_DEFAULT_REGION"], value));
        }
        if let (true, Some(value)) = (endpoint, &s3.endpoint) {
            origins.set("endpoint", from(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"], value));
        }
        let keys = |suffix: &str, value: &str| {
            let names = [format!("AWS_{suffix}"), format!("LITESTREAM_{suffix}")];
            from(&names.each_ref().map(String::as_str), value)
        };
        let (id, secret) = match &s3.credentials {
            CredentialSource::Given => return Some(settings),
            CredentialSource::Found(found) => (
                keys("ACCESS_KEY_ID", &found.access_key_id),
                keys("SECRET_ACCESS_KEY", found.secret_access_key.expose()),
            ),
            CredentialSource::Role(role) => {
                let role = Origin::Environment(role_name(role).to_owned());
                (role.clone(), role)
            }
        };
        origins.set("access-key-id", id);
        origins.set("secret-access-key", secret);
    }
    Some(settings)
}

fn role_name(role: &RoleSource) -> &'static str {
    match role {
        RoleSource::WebIdentity { .. } => "AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN",
        RoleSource::Task { .. } => "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        RoleSource::Pod { .. } => "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        RoleSource::Instance { .. } => "the machine's role",
    }
}

/// What a replica of type file has no use for. Encryption that would not happen is no matter for a warning.
fn only_for_s3(own: &ReplicaSettings, notes: &mut Notes) {
    if let Some(key) = &own.sse_kms_key_id {
        notes.problem(
            Place::of(key),
            "sse-kms-key-id: a replica of type file is not encrypted by KMS: remove it, or use type s3",
        );
    }
    let why = "the replica's type is file";
    for (key, field) in [
        ("bucket", &own.bucket),
        ("region", &own.region),
        ("endpoint", &own.endpoint),
        ("force-path-style", &own.force_path_style),
        ("sign-payload", &own.sign_payload),
        ("skip-verify", &own.skip_verify),
        ("storage-class", &own.storage_class),
        ("part-size", &own.part_size),
        ("concurrency", &own.concurrency),
    ] {
        notes.in_vain(key, field.as_ref(), why);
    }
    notes.in_vain("access-key-id", own.access_key_id.as_ref(), why);
    notes.in_vain("secret-access-key", own.secret_access_key.as_ref(), why);
}

/// Encryption that is not built in, and what belongs to types of replica that are not: an error where somebody would
/// believe in a protection that is not there, else a warning.
pub(super) fn foreign(s: &ReplicaSettings, notes: &mut Notes) {
    encryption(s, notes);
    for (key, field) in [
        ("account-key", &s.account_key),
        ("sas-token", &s.sas_token),
        ("password", &s.password),
        ("key-path", &s.key_path),
        ("host-key", &s.host_key),
        ("webdav-password", &s.webdav_password),
        ("jwt", &s.jwt),
        ("seed", &s.seed),
        ("creds", &s.creds),
        ("nkey", &s.nkey),
        ("token", &s.token),
        ("tls", &s.tls),
        ("root-cas", &s.root_cas),
        ("client-cert", &s.client_cert),
        ("client-key", &s.client_key),
    ] {
        if let Some(field) = given(field) {
            let text =
                format!("{key} protects nothing here: neither s3 nor file has such a setting; remove it");
            notes.problem(Place::of(field), text);
        }
    }
    for (key, field) in [
        ("account-name", &s.account_name),
        ("host", &s.host),
        ("user", &s.user),
        ("concurrent-writes", &s.concurrent_writes),
        ("webdav-url", &s.webdav_url),
        ("webdav-username", &s.webdav_username),
        ("username", &s.username),
        ("max-reconnects", &s.max_reconnects),
        ("reconnect-wait", &s.reconnect_wait),
        ("timeout", &s.timeout),
    ] {
        notes.in_vain(key, given(field), "it belongs to a type of replica that is not built in");
    }
}

/// What asks for something: `''` and `false` do not, in Litestream either.
fn given(field: &Option<Spanned<Any>>) -> Option<&Spanned<Any>> {
    field.as_ref().filter(|field| !field.value.empty)
}

fn encryption(s: &ReplicaSettings, notes: &mut Notes) {
    for (key, field) in [
        ("sse-customer-algorithm", &s.sse_customer_algorithm),
        ("sse-customer-key", &s.sse_customer_key),
        ("sse-customer-key-path", &s.sse_customer_key_path),
    ] {
        if let Some(field) = given(field) {
            let text = format!(
                "{key}: keys of your own are not built in: use sse-kms-key-id, or the bucket's encryption"
            );
            notes.problem(Place::of(field), text);
        }
    }
    let keys = |keys: Option<&Vec<_>>| keys.map_or(0, Vec::len);
    if let Some(age) = &s.age
        && keys(age.value.identities.as_ref()) + keys(age.value.recipients.as_ref()) > 0
    {
        let text = "age: encryption by the client is not built in, nor in Litestream 0.5: remove it, and use sse-kms-key-id \
                    or the bucket's encryption";
        notes.problem(Place::of(age), text);
    }
}
