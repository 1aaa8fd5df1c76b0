//! The configuration file as it is written: every key that Litestream knows, each with its type, and nothing judged.
//!
//! One declaration per section is the parser, the struct and the list of known keys. A key that is not in it is kept
//! with its line, for a warning. Values of secret keys never show in `Debug`, and an error carries a line and a
//! reason but never the file's text.

use crate::text::{duration, size};
use litekeep_store::location::Secret;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, Spanned};
use std::fmt;
use std::time::Duration;

/// A configuration file longer than this is refused, bytes.
pub(crate) const MAX_FILE: u64 = 1 << 20;

/// Parses a configuration file; the last of equal keys counts, an empty file is an empty configuration.
///
/// # Errors
/// What is wrong and in which line.
pub(crate) fn parse(text: &str) -> Result<File, String> {
    let options =
        serde_saphyr::options! { with_snippet: false, duplicate_keys: DuplicateKeyPolicy::LastWins };
    serde_saphyr::from_str_with_options::<Option<File>>(text, options)
        .map(Option::unwrap_or_default)
        .map_err(|error| error.to_string())
}

/// A key that no section knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unknown {
    /// The key.
    pub(crate) key: String,
    /// Where it stands, from 1.
    pub(crate) line: u64,
    /// A known key that is like it.
    pub(crate) near: Option<&'static str>,
}

/// A duration in Go's spelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Interval(pub(crate) Duration);

/// A size in bytes, as a number or `5MB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

/// A value that must not be shown.
#[derive(Debug, Clone)]
pub(crate) struct Hidden(pub(crate) Secret);

/// A key that is known but whose value does not matter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Any;

impl<'de> Deserialize<'de> for Interval {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        duration::parse(&String::deserialize(deserializer)?).map(Self).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        size::parse(&String::deserialize(deserializer)?).map(Self).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Hidden {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Secret::new(text)))
    }
}

impl<'de> Deserialize<'de> for Any {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

/// A mapping of the file: its keys and types. `else` names a section whose keys may stand here as well.
macro_rules! section {
    ($(#[$meta:meta])* $name:ident { $($key:literal => $field:ident: $type:ty,)* } $(else $inner:ident: $inner_type:ty)?) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Default)]
        pub(crate) struct $name {
            $(pub(crate) $field: Option<$type>,)*
            $(pub(crate) $inner: $inner_type,)?
            /// Keys that are not known here.
            pub(crate) unknown: Vec<Unknown>,
        }

        impl $name {
            /// The keys that may stand here.
            pub(crate) fn keys() -> Vec<&'static str> {
                #[allow(unused_mut, reason = "only a section with an inner one adds to it")]
                let mut keys = vec![$($key),*];
                $(keys.extend(<$inner_type>::keys());)?
                keys
            }

            /// Takes the value of a key of this section, or says that it is none.
            fn accept<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error> {
                match key {
                    $($key => self.$field = map.next_value()?,)*
                    _ => {
                        $(if self.$inner.accept(key, map)? { return Ok(true); })?
                        return Ok(false);
                    }
                }
                Ok(true)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Section;
                impl<'de> Visitor<'de> for Section {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("keys with values")
                    }

                    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<$name, A::Error> {
                        let mut section = $name::default();
                        while let Some(key) = map.next_key::<Spanned<String>>()? {
                            if !section.accept(&key.value, &mut map)? {
                                map.next_value::<IgnoredAny>()?;
                                let near = crate::flags::nearest(&key.value, $name::keys());
                                section.unknown.push(Unknown { line: key.referenced.line(), key: key.value, near });
                            }
                        }
                        Ok(section)
                    }
                }
                deserializer.deserialize_map(Section)
            }
        }
    };
}

section! {
    /// The whole file. Replica settings here are the defaults of every replica.
    File {
        "addr" => addr: Spanned<String>,
        "mcp-addr" => mcp_addr: Spanned<String>,
        "exec" => exec: Spanned<String>,
        "socket" => socket: Socket,
        "logging" => logging: Logging,
        "levels" => levels: Vec<LevelSection>,
        "snapshot" => snapshot: Snapshot,
        "l0-retention" => l0_retention: Spanned<Interval>,
        "l0-retention-check-interval" => l0_retention_check_interval: Spanned<Interval>,
        "retention" => retention: Retention,
        "validation" => validation: Validation,
        "verify-compaction" => verify_compaction: Spanned<bool>,
        "heartbeat-url" => heartbeat_url: Spanned<Any>,
        "heartbeat-interval" => heartbeat_interval: Spanned<Interval>,
        "shutdown-sync-timeout" => shutdown_sync_timeout: Spanned<Interval>,
        "shutdown-sync-interval" => shutdown_sync_interval: Spanned<Interval>,
        "dbs" => dbs: Vec<Spanned<Db>>,
    } else replica: ReplicaSettings
}

section! {
    /// `socket`: the control socket.
    Socket {
        "enabled" => enabled: Spanned<bool>,
        "path" => path: Any,
        "permissions" => permissions: Any,
    }
}

section! {
    /// `logging`.
    Logging {
        "level" => level: Spanned<String>,
        "type" => kind: Spanned<String>,
        "stderr" => stderr: Spanned<bool>,
        "source" => source: Spanned<bool>,
    }
}

section! {
    /// One of `levels`.
    LevelSection {
        "interval" => interval: Spanned<Interval>,
    }
}

section! {
    /// `snapshot`.
    Snapshot {
        "interval" => interval: Spanned<Interval>,
        "retention" => retention: Spanned<Interval>,
    }
}

section! {
    /// `retention`.
    Retention {
        "enabled" => enabled: Spanned<bool>,
    }
}

section! {
    /// `validation`.
    Validation {
        "interval" => interval: Spanned<Interval>,
    }
}

section! {
    /// One of `dbs`.
    Db {
        "path" => path: Spanned<String>,
        "dir" => dir: Spanned<String>,
        "pattern" => pattern: Any,
        "recursive" => recursive: Any,
        "watch" => watch: Any,
        "meta-path" => meta_path: Spanned<String>,
        "meta-dir" => meta_dir: Spanned<String>,
        "monitor-interval" => monitor_interval: Spanned<Interval>,
        "checkpoint-interval" => checkpoint_interval: Spanned<Interval>,
        // no lock is ever waited for while another one is held, so there is nothing to time out
        "busy-timeout" => busy_timeout: Spanned<Interval>,
        "min-checkpoint-page-count" => min_checkpoint_page_count: Spanned<i64>,
        "max-checkpoint-page-count" => max_checkpoint_page_count: Spanned<i64>,
        "truncate-page-n" => truncate_page_n: Spanned<i64>,
        "max-sync-wal-bytes" => max_sync_wal_bytes: Spanned<Size>,
        "restore-if-db-not-exists" => restore_if_db_not_exists: Spanned<bool>,
        "snapshot" => snapshot: Snapshot,
        "replica" => replica: Spanned<Replica>,
        "replicas" => replicas: Vec<Spanned<Replica>>,
    }
}

section! {
    /// `replica`, or one of `replicas`.
    Replica {
        "type" => kind: Spanned<String>,
        "name" => name: Any,
        "path" => path: Spanned<String>,
        "url" => url: Spanned<Hidden>,
    } else settings: ReplicaSettings
}

section! {
    /// What a replica may say and the whole file may say for all of them.
    ReplicaSettings {
        "sync-interval" => sync_interval: Spanned<Interval>,
        "max-sync-ltx-files" => max_sync_ltx_files: Spanned<Any>,
        "auto-recover" => auto_recover: Spanned<bool>,
        // ours: `frame` for those who may go back to Litestream 0.5.15 or older, which read no `block`
        "page-encoding" => page_encoding: Spanned<String>,
        "validation-interval" => validation_interval: Spanned<Any>,
        // v0.3 only
        "retention" => retention: Spanned<Any>,
        "retention-check-interval" => retention_check_interval: Spanned<Any>,
        "snapshot-interval" => snapshot_interval: Spanned<Any>,
        // S3
        "access-key-id" => access_key_id: Hidden,
        "secret-access-key" => secret_access_key: Hidden,
        "region" => region: String,
        "bucket" => bucket: Spanned<String>,
        "endpoint" => endpoint: String,
        "force-path-style" => force_path_style: bool,
        "sign-payload" => sign_payload: bool,
        "require-content-md5" => require_content_md5: bool,
        "skip-verify" => skip_verify: bool,
        "storage-class" => storage_class: String,
        "part-size" => part_size: Spanned<Size>,
        "concurrency" => concurrency: Spanned<u32>,
        "sse-customer-algorithm" => sse_customer_algorithm: Spanned<Any>,
        "sse-customer-key" => sse_customer_key: Spanned<Any>,
        "sse-customer-key-path" => sse_customer_key_path: Spanned<Any>,
        "sse-kms-key-id" => sse_kms_key_id: String,
        "age" => age: Spanned<Age>,
        // of the types that are not supported
        "account-name" => account_name: Spanned<Any>,
        "account-key" => account_key: Spanned<Any>,
        "sas-token" => sas_token: Spanned<Any>,
        "host" => host: Spanned<Any>,
        "user" => user: Spanned<Any>,
        "password" => password: Spanned<Any>,
        "key-path" => key_path: Spanned<Any>,
        "host-key" => host_key: Spanned<Any>,
        "concurrent-writes" => concurrent_writes: Spanned<Any>,
        "webdav-url" => webdav_url: Spanned<Any>,
        "webdav-username" => webdav_username: Spanned<Any>,
        "webdav-password" => webdav_password: Spanned<Any>,
        "jwt" => jwt: Spanned<Any>,
        "seed" => seed: Spanned<Any>,
        "creds" => creds: Spanned<Any>,
        "nkey" => nkey: Spanned<Any>,
        "username" => username: Spanned<Any>,
        "token" => token: Spanned<Any>,
        "tls" => tls: Spanned<Any>,
        "root-cas" => root_cas: Spanned<Any>,
        "client-cert" => client_cert: Spanned<Any>,
        "client-key" => client_key: Spanned<Any>,
        "max-reconnects" => max_reconnects: Spanned<Any>,
        "reconnect-wait" => reconnect_wait: Spanned<Any>,
        "timeout" => timeout: Spanned<Any>,
    }
}

section! {
    /// `age`: v0.3's encryption.
    Age {
        "identities" => identities: Vec<Any>,
        "recipients" => recipients: Vec<Any>,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> File {
        parse(text).unwrap_or_else(|error| panic!("{error}:\n{text}"))
    }

    #[test]
    fn a_file_may_say_nothing() {
        for text in ["", "# nothing\n", "dbs:\n", "dbs: null\nlogging:\nsnapshot: ~\n"] {
            assert!(file(text).dbs.unwrap_or_default().is_empty(), "{text}");
        }
    }

    #[test]
    fn the_last_of_equal_keys_counts() {
        let file = file("dbs:\n  - path: a\n    path: b\n");
        assert_eq!(file.dbs.expect("dbs")[0].value.path.as_ref().expect("a path").value, "b");
    }

    #[test]
    fn booleans_are_read_in_the_spellings_of_yaml_1_1() {
        for (text, expected) in
            [("yes", true), ("on", true), ("True", true), ("no", false), ("OFF", false), ("false", false)]
        {
            let file = file(&format!("retention:\n  enabled: {text}\n"));
            assert_eq!(file.retention.and_then(|r| r.enabled).map(|e| e.value), Some(expected), "{text}");
        }
    }

    #[test]
    fn keys_that_look_like_numbers_stay_as_they_are_written() {
        for text in ["0123", "12345e5", "1_000", "0x10", "true", "\"007\""] {
            let file = file(&format!("secret-access-key: {text}\n"));
            let secret = file.replica.secret_access_key.expect("the key").0;
            assert_eq!(secret.expose(), text.trim_matches('"'), "{text}");
        }
    }

    #[test]
    fn anchors_and_merge_keys_are_applied() {
        let file = file(
            "x: &base\n  type: s3\n  bucket: b\ndbs:\n  - path: a\n    replica:\n      <<: *base\n      path: p\n",
        );
        let replica = file.dbs.expect("dbs")[0].value.replica.clone().expect("a replica").value;
        assert_eq!(replica.settings.bucket.expect("a bucket").value, "b");
        assert_eq!(replica.path.expect("a path").value, "p");
        assert_eq!(file.unknown[0].key, "x");
    }

    #[test]
    fn an_unknown_key_is_kept_with_its_line_and_the_key_it_is_like() {
        let file =
            file("dbs:\n  - path: a\n    replica:\n      bukcet: b\n      zzzzzz:\n        - 1\nadr: x\n");
        let replica = &file.dbs.as_ref().expect("dbs")[0].value.replica.as_ref().expect("a replica").value;
        assert_eq!(
            replica.unknown,
            [
                Unknown { key: "bukcet".into(), line: 4, near: Some("bucket") },
                Unknown { key: "zzzzzz".into(), line: 5, near: None }
            ]
        );
        assert_eq!(file.unknown, [Unknown { key: "adr".into(), line: 7, near: Some("addr") }]);
    }

    #[test]
    fn an_error_names_its_line_and_never_a_secret() {
        for (text, line) in [
            ("a: 1\nsecret-access-key: [hush]\n", "line 2"),
            ("secret-access-key: \"hush\n", "line 1"),
            ("secret-access-key: @hush\n", "line 1"),
            ("secret-access-key: hush: hush\n", "line 1"),
            ("retention:\n  enabled: hush\n", "line 2"),
            ("dbs: hush\n", "line 1"),
            ("dbs:\n  - hush\n", "line 2"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(line) && !error.contains("hush"), "{text}: {error}");
        }
        let error = parse("\nl0-retention: 5\n").expect_err("no unit");
        assert!(error.contains("line 2") && error.contains("no unit"), "{error}");
    }

    #[test]
    fn secrets_do_not_show_in_debug() {
        let file = file(
            "secret-access-key: hush\naccess-key-id: hush\ndbs:\n  - replica:\n      url: s3://hush@b\n",
        );
        assert!(!format!("{file:?}").contains("hush"));
    }
}
