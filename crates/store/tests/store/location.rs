//! Replica URLs, settings and credentials.

use litekeep_store::location::{CredentialSource, LocationError, ReplicaUrl, S3Settings, Secret, Settings};
use std::collections::BTreeMap;
use std::path::PathBuf;

fn s3(url: &str) -> S3Settings {
    match ReplicaUrl::parse(url).unwrap_or_else(|error| panic!("{url}: {error}")).into_settings() {
        Settings::S3(settings) => *settings,
        other => panic!("{url} is {other:?}"),
    }
}

#[test]
fn hosts_of_the_known_providers_are_understood() {
    // URL; then bucket, path, endpoint, region and style, `-` for what the URL leaves open.
    let rows = [
        ("s3://bkt/path/to/db", "bkt path/to/db - - -"),
        ("s3://my.dotted.bkt//a/./b/../c/", "my.dotted.bkt a/c - - -"),
        ("s3://bkt.s3.amazonaws.com/db", "bkt db - - -"),
        ("s3://bkt.s3.eu-west-1.amazonaws.com/db", "bkt db - eu-west-1 -"),
        ("s3://a.b.s3.eu-west-1.amazonaws.com/db", "a.b db - eu-west-1 -"),
        ("s3://bkt.s3-us-west-2.amazonaws.com/db", "bkt db - us-west-2 -"),
        (
            "s3://bkt.s3.cn-north-1.amazonaws.com.cn/db",
            "bkt db https://s3.cn-north-1.amazonaws.com.cn cn-north-1 path",
        ),
        ("s3://bkt.nyc3.digitaloceanspaces.com/db", "bkt db https://nyc3.digitaloceanspaces.com nyc3 host"),
        (
            "s3://bkt.0123abcd.r2.cloudflarestorage.com/db",
            "bkt db https://0123abcd.r2.cloudflarestorage.com auto path",
        ),
        (
            "s3://bkt.0123abcd.eu.r2.cloudflarestorage.com/db",
            "bkt db https://0123abcd.eu.r2.cloudflarestorage.com auto path",
        ),
        (
            "s3://bkt.s3.us-west-004.backblazeb2.com/db",
            "bkt db https://s3.us-west-004.backblazeb2.com us-west-004 path",
        ),
        ("s3://bkt.s3.fr-par.scw.cloud/db", "bkt db https://s3.fr-par.scw.cloud fr-par path"),
        ("s3://bkt.fsn1.your-objectstorage.com/db", "bkt db https://fsn1.your-objectstorage.com fsn1 path"),
        ("s3://bkt.s3.filebase.com/db", "bkt db https://s3.filebase.com us-east-1 path"),
        ("s3://bkt.fly.storage.tigris.dev/db", "bkt db https://fly.storage.tigris.dev auto path"),
        ("s3://bkt.t3.storage.dev/db", "bkt db https://t3.storage.dev auto path"),
        ("s3://bkt.storage.googleapis.com/db", "bkt db https://storage.googleapis.com auto path"),
        ("s3://bkt.localhost:9000/db", "bkt db http://localhost:9000 - path"),
        ("s3://bkt.minio.example:9000/db", "bkt db http://minio.example:9000 - path"),
        ("s3://bkt.10.0.0.7:9000/db", "bkt db http://10.0.0.7:9000 - path"),
        ("s3://bkt.minio.example:443/db", "bkt db https://minio.example:443 - path"),
        ("s3://bkt/db?endpoint=http://h:1&region=r", "bkt db http://h:1 r -"),
        ("s3://b.c:1/db?endpoint=h&forcePathStyle=true", "b.c:1 db h - path"),
        (
            "s3://arn:aws:s3:eu-west-1:123456789012:accesspoint/ap/db",
            "arn:aws:s3:eu-west-1:123456789012:accesspoint/ap db - eu-west-1 -",
        ),
        ("s3://bkt/a%2Fb/%C3%BC?force-path-style=false", "bkt a/b/ü - - host"),
    ];
    for (url, wanted) in rows {
        let got = s3(url);
        let style = match got.force_path_style {
            None => "-",
            Some(true) => "path",
            Some(false) => "host",
        };
        let or = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
        let shown = [got.bucket.clone(), got.path.clone(), or(&got.endpoint), or(&got.region), style.into()];
        assert_eq!(shown.join(" "), wanted, "{url}");
    }
    // As Litestream 0.5 takes them: the keys begin with `./`, or with a slash.
    for (path, wanted) in [
        ("", "."),
        ("?region=r", "."),
        ("/", ""),
        ("//.", ""),
        ("/..", ""),
        ("/a/b/", "a/b"),
        ("//a/.//x/../b", "a/b"),
    ] {
        let got = s3(&format!("s3://bkt{path}"));
        assert_eq!((got.bucket.as_str(), got.path.as_str()), ("bkt", wanted), "{path:?}");
    }
}

#[test]
fn a_path_that_is_set_counts_to_the_letter_and_what_lies_below_is_cleaned_but_for_its_slash() {
    for (path, v3, below, location) in [
        ("", "", "x/y.db", "s3://b"),
        (".", "", "x/y.db", "s3://b/."),
        ("/", "", "/x/y.db", "s3://b//"),
        ("a/b", "a/b", "a/b/x/y.db", "s3://b/a/b"),
        ("/a/b", "a/b", "/a/b/x/y.db", "s3://b//a/b"),
        ("a/b/", "a/b", "a/b/x/y.db", "s3://b/a/b/"),
        ("./a", "a", "a/x/y.db", "s3://b/./a"),
        ("a//b", "a/b", "a/b/x/y.db", "s3://b/a//b"),
        ("a/../b", "b", "b/x/y.db", "s3://b/a/../b"),
    ] {
        let settings = S3Settings::new("b", path);
        let got = [settings.path.clone(), settings.v3_path(), settings.below("x/y.db"), settings.location()];
        assert_eq!(got, [path, v3, below, location]);
    }
}

#[test]
fn parameters_may_be_spelled_in_camel_case_or_with_hyphens() {
    for query in [
        "skipVerify=true&signPayload=false&partSize=10MiB&storageClass=STANDARD_IA&concurrency=4&requireContentMD5=false",
        "skip-verify=1&sign-payload=0&part-size=10485760&storage-class=STANDARD_IA&concurrency=4",
    ] {
        let got = s3(&format!("s3://b/p?{query}"));
        assert!(got.skip_verify && !got.sign_payload, "{query}");
        assert_eq!((got.part_size, got.concurrency), (Some(10 << 20), Some(4)));
        assert_eq!(got.storage_class.as_deref(), Some("STANDARD_IA"));
    }
}

#[test]
fn directories_are_paths_or_file_urls() {
    for (text, path) in [
        ("/var/lib/replica", "/var/lib/replica"),
        ("replica", "replica"),
        ("./a b", "./a b"),
        ("file:///var/lib//replica/", "/var/lib/replica"),
        ("file://var/replica", "/var/replica"),
    ] {
        let settings = ReplicaUrl::parse(text).unwrap().into_settings();
        assert_eq!(settings, Settings::Directory(PathBuf::from(path)), "{text}");
    }
    assert!(ReplicaUrl::is_url("s3://b/p") && ReplicaUrl::is_url("file:///x"));
    assert!(!ReplicaUrl::is_url("/x") && !ReplicaUrl::is_url("C:\\x") && !ReplicaUrl::is_url("a/b://c"));
}

#[test]
fn a_file_url_means_the_directory_that_litestream_makes_of_it() {
    // What 0.3.13 and 0.5.17 made on a disk.
    for (name, made) in [
        ("a b", "a%20b"),
        ("a%20b", "a%20b"),
        ("a%2Fb", "a%2Fb"),
        ("ä", "%C3%A4"),
        ("%C3%A4", "%C3%A4"),
        ("a!b'()", "a!b'()"),
        ("a[1]", "a[1]"),
        ("[x", "[x"),
        ("a=b;c,d@e:f&g$h+i~j*k", "a=b;c,d@e:f&g$h+i~j*k"),
        ("a\"b", "a%22b"),
        ("a\\b", "a%5Cb"),
        ("a{b}", "a%7Bb%7D"),
        ("a^b|c", "a%5Eb%7Cc"),
        ("a<b>`", "a%3Cb%3E%60"),
        ("a%2e%2e", "a%2e%2e"),
        ("ab %41", "ab%20A"),
        ("a//b/../c", "a/c"),
    ] {
        let settings = ReplicaUrl::parse(&format!("file:///r/{name}")).unwrap().into_settings();
        assert_eq!(settings, Settings::Directory(PathBuf::from(format!("/r/{made}"))), "{name}");
    }
}

#[test]
fn what_can_not_be_used_is_named_and_secrets_are_not_repeated() {
    let rows = [
        ("gs://b/p", "Google Cloud Storage"),
        ("abs://a@b/p", "Azure Blob Storage"),
        ("sftp://user:hunter2@h/p", "SFTP"),
        ("webdav://user:hunter2@h/p", "WebDAV"),
        ("nats://h/p", "NATS"),
        ("oss://b/p", "Alibaba OSS"),
        ("https://b.s3.amazonaws.com/p", "endpoint"),
        ("ftp://h/p", "no replica this program knows"),
        ("", "empty"),
        ("s3://", "needs a bucket"),
        ("s3:///path", "needs a bucket"),
        ("s3://AKIA:hunter2@b/p", "must not hold keys"),
        ("s3://b/p?accessKeyId=AKIA&secretAccessKey=hunter2", "does not belong in a replica URL"),
        ("s3://b/p?secret-access-key=hunter2", "does not belong in a replica URL"),
        ("s3://b/p?session-token=hunter2", "does not belong in a replica URL"),
        ("s3://b/p?regoin=x", "\"regoin\" is not known; known are endpoint"),
        ("s3://b/p?skipVerify=maybe", "true or false"),
        ("s3://b/p?partSize=lots", "whole number"),
        ("s3://b/%zz", "two hex digits"),
        ("s3://b.h:99999/p", "port"),
        ("s3://localhost:9000/p", "names a server but no bucket"),
        ("s3://nyc3.digitaloceanspaces.com/p", "names a provider but no bucket"),
        ("s3://s3.eu-west-1.amazonaws.com/p", "names a provider but no bucket"),
        ("s3://s3.us-west-004.backblazeb2.com/p", "names a provider but no bucket"),
        ("file://", "needs a directory"),
        ("file:///x?y=hunter2", "no parameters"),
    ];
    for (url, wanted) in rows {
        let error = ReplicaUrl::parse(url).expect_err(url).to_string();
        assert!(error.contains(wanted), "{url}: {error}");
        assert!(!error.contains("hunter2"), "{url}: {error}");
    }
    let shown = s3("s3://b/p?endpoint=https://h");
    assert_eq!(ReplicaUrl::parse("s3://b/p?endpoint=https://h").unwrap().to_string(), "s3://b/p");
    assert_eq!(shown.location(), "s3://b/p");
}

/// Settings completed by an environment of these variables.
fn resolved(settings: S3Settings, variables: &[(&str, &str)]) -> Result<S3Settings, LocationError> {
    let map: BTreeMap<String, String> =
        variables.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    match Settings::S3(Box::new(settings)).with_environment(&|name| map.get(name).cloned())? {
        Settings::S3(settings) => Ok(*settings),
        Settings::Directory(_) => unreachable!(),
    }
}

/// Access key, secret and token that were found, as one text.
fn found(settings: &S3Settings) -> String {
    match &settings.credentials {
        CredentialSource::Found(keys) => {
            let token = keys.session_token.as_ref().map_or("", Secret::expose);
            format!("{}/{}/{token}", keys.access_key_id, keys.secret_access_key.expose())
        }
        other => format!("{other:?}"),
    }
}

const AWS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "A"), ("AWS_SECRET_ACCESS_KEY", "S")];
const LITESTREAM: [(&str, &str); 2] =
    [("LITESTREAM_ACCESS_KEY_ID", "LA"), ("LITESTREAM_SECRET_ACCESS_KEY", "LS")];

#[test]
fn keys_are_taken_from_the_environment_in_litestreams_order() {
    let bucket = || S3Settings::new("b", "p");
    let both = [AWS, LITESTREAM].concat();
    let with_token = [&AWS[..], &[("AWS_SESSION_TOKEN", "T")]].concat();
    let empty = [&[("AWS_ACCESS_KEY_ID", ""), ("AWS_SECRET_ACCESS_KEY", "")], &LITESTREAM[..]].concat();
    for (variables, wanted) in [
        (&AWS[..], "A/S/"),
        (&LITESTREAM, "LA/LS/"),
        (&both, "A/S/"),
        (&with_token, "A/S/T"),
        (&empty, "LA/LS/"),
    ] {
        assert_eq!(found(&resolved(bucket(), variables).unwrap()), wanted, "{variables:?}");
    }
    let given = S3Settings {
        access_key_id: Some("G".into()),
        secret_access_key: Some(Secret::new("GS")),
        ..bucket()
    };
    assert_eq!(resolved(given, &AWS).unwrap().credentials, CredentialSource::Given);
}

#[test]
fn half_a_pair_of_keys_is_an_error_that_names_the_other_half() {
    let given = S3Settings { access_key_id: Some("G".into()), ..S3Settings::new("b", "p") };
    type Row<'a> = (S3Settings, &'a [(&'a str, &'a str)], &'a str);
    let rows: [Row<'_>; 5] = [
        (S3Settings::new("b", "p"), &AWS[..1], "AWS_SECRET_ACCESS_KEY is not"),
        (S3Settings::new("b", "p"), &AWS[1..], "AWS_ACCESS_KEY_ID is not"),
        (S3Settings::new("b", "p"), &LITESTREAM[..1], "LITESTREAM_SECRET_ACCESS_KEY is not"),
        (given, &AWS, "secret-access-key is not"),
        (S3Settings::new("b", "p"), &[("AWS_WEB_IDENTITY_TOKEN_FILE", "/t")], "AWS_ROLE_ARN is not"),
    ];
    for (settings, variables, wanted) in rows {
        let error = resolved(settings, variables).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn keys_that_no_request_can_hold_are_refused_without_being_repeated() {
    let bucket = || S3Settings::new("b", "p");
    let (id, secret, token) = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN");
    for (variables, wanted) in [
        ([(id, "hunter2\n"), (secret, "S"), (token, "T")], "AWS_ACCESS_KEY_ID ends with a line break"),
        ([(id, "A"), (secret, "hunter2\r\n"), (token, "T")], "AWS_SECRET_ACCESS_KEY ends with a line break"),
        ([(id, "A"), (secret, "S"), (token, "hunter2\n")], "AWS_SESSION_TOKEN ends with a line break"),
        ([(id, "A"), (secret, "hun\nter2"), (token, "T")], "AWS_SECRET_ACCESS_KEY holds a line break"),
        ([(id, "hunter2 "), (secret, "S"), (token, "T")], "AWS_ACCESS_KEY_ID holds a space"),
        ([(id, "hunter2\u{201d}"), (secret, "S"), (token, "T")], "AWS_ACCESS_KEY_ID holds a character"),
    ] {
        let error = resolved(bucket(), &variables).unwrap_err();
        assert!(error.is_about_keys(), "{error}");
        let text = error.to_string();
        assert!(text.starts_with(wanted) && !text.contains("hun"), "{text}");
    }
    // A server of one's own may have any password for a secret.
    let odd = [(id, "A"), (secret, "correct horse"), (token, "T")];
    assert_eq!(found(&resolved(bucket(), &odd).unwrap()), "A/correct horse/T");
}

#[test]
fn an_endpoint_or_a_region_that_no_request_can_go_to_is_refused_with_the_settings() {
    for (url, wanted) in [
        ("s3://b/p?region=us%0Aeast", "the region"),
        ("s3://b/p?endpoint=http://127.0.0.1:99999", "the endpoint's port"),
    ] {
        let error = resolved(s3(url), &AWS).unwrap_err();
        assert!(error.to_string().contains(wanted) && !error.is_about_keys(), "{url}: {error}");
    }
}

#[test]
fn profiles_are_read_from_the_shared_files() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    let credentials = "# c\n[default]\naws_access_key_id = D\naws_secret_access_key= DS=x\n\n[work]\n\
                       aws_access_key_id=W\naws_secret_access_key=WS\naws_session_token = WT\n[half]\n\
                       aws_access_key_id=H\n";
    let config = "[default]\nregion = eu-north-1\n[profile work]\nregion=ap-south-1\nendpoint_url = \
                  https://s3.example.com\ns3 =\n  region = nested\n[profile sso]\nsso_start_url = https://x\n";
    std::fs::write(at("credentials"), credentials).unwrap();
    std::fs::write(at("config"), config).unwrap();
    let (credentials, config) = (at("credentials"), at("config"));
    let files = [("AWS_SHARED_CREDENTIALS_FILE", credentials.as_str()), ("AWS_CONFIG_FILE", config.as_str())];
    let with = |profile| [&files[..], &[("AWS_PROFILE", profile)]].concat();
    let bucket = || S3Settings::new("b", "p");

    assert_eq!(found(&resolved(bucket(), &files).unwrap()), "D/DS=x/");
    let work = resolved(bucket(), &with("work")).unwrap();
    assert_eq!(found(&work), "W/WS/WT");
    assert_eq!(work.endpoint.as_deref(), Some("https://s3.example.com"));
    assert_eq!(work.region.as_deref(), Some("ap-south-1"));
    for (profile, wanted) in [
        ("half", "aws_secret_access_key is not"),
        ("sso", "sso_start_url, which is not supported"),
        ("nobody", "\"nobody\""),
    ] {
        let error = resolved(bucket(), &with(profile)).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
    // A profile that is broken does no harm where its keys are not needed.
    let needless = [&with("nobody")[..], &AWS[..]].concat();
    assert_eq!(found(&resolved(bucket(), &needless).unwrap()), "A/S/");
}

#[test]
fn roles_are_asked_for_last_and_only_where_they_can_help() {
    let bucket = || S3Settings::new("b", "p");
    let elsewhere =
        || S3Settings { endpoint: Some("https://nyc3.digitaloceanspaces.com".into()), ..bucket() };
    let web: [(&str, &str); 2] = [("AWS_WEB_IDENTITY_TOKEN_FILE", "/t"), ("AWS_ROLE_ARN", "arn:r")];
    let task = [("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/x")];
    let off = [("AWS_EC2_METADATA_DISABLED", "true")];
    for (settings, variables, wanted) in
        [(bucket(), &web[..], "WebIdentity"), (bucket(), &task, "Task"), (bucket(), &[], "Instance")]
    {
        let got = resolved(settings, variables).unwrap();
        assert!(found(&got).contains(wanted), "{got:?}");
    }
    for (settings, variables) in [(elsewhere(), &[][..]), (bucket(), &off)] {
        let error = resolved(settings, variables).unwrap_err().to_string();
        assert!(error.starts_with("no credentials for s3://b/p: set AWS_ACCESS_KEY_ID"), "{error}");
    }
}

#[test]
fn regions_come_from_where_the_bucket_is() {
    let at = |endpoint: &str| S3Settings { endpoint: Some(endpoint.into()), ..S3Settings::new("b", "p") };
    let variables = [&AWS[..], &[("AWS_REGION", "us-west-2")]].concat();
    for (settings, wanted) in [
        (S3Settings::new("b", "p"), None), // asked for at the first request
        (at("https://nyc3.digitaloceanspaces.com"), None), // told by the host
        (at("https://minio.example:9000"), Some("us-west-2")),
    ] {
        assert_eq!(resolved(settings, &variables).unwrap().region.as_deref(), wanted);
    }
    let url = [&AWS[..], &[("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9000")]].concat();
    let got = resolved(S3Settings::new("b", "p"), &url).unwrap();
    assert_eq!(got.endpoint.as_deref(), Some("http://127.0.0.1:9000"));
}
