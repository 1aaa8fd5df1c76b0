//! The configuration file as it is written: every key that a Litestream knew, each with its place, and nothing judged.
//!
//! One declaration per section is the parser, the struct and the list of known keys. A key that is not in it is kept
//! with its place. Single values stay text: what they mean is judged where their keys are known. Secrets never show in
//! `Debug`, and an error carries a place and a reason but never the file's text.

use super::holder::holds;
use super::remark::{Place, Remark};
use litekeep_store::location::Secret;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, Spanned};
use std::fmt;

/// A configuration file longer than this is refused, bytes.
pub(crate) const MAX_FILE: u64 = 1 << 20;

/// Parses a configuration file; an empty file is an empty configuration.
///
/// # Errors
/// What is wrong, where, and what to do.
pub(crate) fn parse(text: &str) -> Result<File, Remark> {
    let options = serde_saphyr::options! { with_snippet: false, duplicate_keys: DuplicateKeyPolicy::Error };
    let parsed = serde_saphyr::from_str_with_options::<Option<File>>(text, options);
    let mut file = parsed.map(Option::unwrap_or_default).map_err(|error| Remark {
        place: error.location().map(Place::from),
        text: plain(error.without_snippet().to_string()),
    })?;
    for unknown in &mut file.unknown {
        unknown.holds = holds(text, unknown.place);
    }
    Ok(file)
}

/// What the parser says, in words for whoever wrote the file.
fn plain(said: String) -> String {
    let said = said.split(" at line ").next().unwrap_or_default();
    if let Some(key) = said.strip_prefix("duplicate mapping key: ") {
        let key = key.split(',').next().unwrap_or_default();
        return format!("{key} stands here a second time: keep one of them");
    }
    for (part, plain) in [
        ("found a tab", "a tab: indent with spaces"),
        ("tabs disallowed", "a tab: indent with spaces"),
        ("expected string scalar", "one value is expected here, not a list and not keys"),
        ("expected mapping start", "keys with values are expected here (`key: value`)"),
        ("expected sequence start", "a list is expected here: lines that begin with `- `"),
        (
            "unknown anchor",
            "an alias (`*name`) of an anchor that does not stand above it: define it by `&name`",
        ),
        ("multiple YAML documents", "a second document begins here: keep one, without `---` between"),
        (
            "mapping values are not allowed",
            "a `: ` that is not expected here: put the value into quotes, or check the indentation",
        ),
        ("unexpected character", "a character that no value begins with: put the value into quotes"),
        ("unclosed quote", "a quote that is never closed"),
    ] {
        if said.contains(part) {
            return plain.to_owned();
        }
    }
    format!("this is no YAML: {said}; check indentation, quotes and brackets")
}

/// A single value, as it is written.
pub(crate) type Text = Spanned<String>;

/// A single value that must not be shown.
pub(crate) type Covered = Spanned<Hidden>;

/// A key that no section knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unknown {
    /// The key.
    pub(crate) key: String,
    /// Where it stands.
    pub(crate) place: Place,
    /// A known key of this section that is like it.
    pub(crate) near: Option<&'static str>,
    /// It stands at the file's top, and holds what an alias uses.
    pub(crate) holds: bool,
}

/// A value that must not be shown.
#[derive(Debug, Clone)]
pub(crate) struct Hidden(pub(crate) Secret);

/// A key that is known but of whose value only this matters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Any {
    /// It is nothing, an empty text, list or section, or `false`.
    pub(crate) empty: bool,
}

impl<'de> Deserialize<'de> for Hidden {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Secret::new(text)))
    }
}

impl<'de> Deserialize<'de> for Any {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Weigh).map(|empty| Self { empty })
    }
}

/// Tells whether a value is empty.
struct Weigh;

impl<'de> Visitor<'de> for Weigh {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, on: bool) -> Result<bool, E> {
        Ok(!on)
    }

    fn visit_i64<E>(self, _: i64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_i128<E>(self, _: i128) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_u64<E>(self, _: u64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_u128<E>(self, _: u128) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_f64<E>(self, _: f64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_str<E>(self, text: &str) -> Result<bool, E> {
        Ok(text.is_empty())
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<bool, E> {
        Ok(bytes.is_empty())
    }

    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(true)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<bool, A::Error> {
        let mut empty = true;
        while seq.next_element::<IgnoredAny>()?.is_some() {
            empty = false;
        }
        Ok(empty)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        let mut empty = true;
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
            empty = false;
        }
        Ok(empty)
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
                                let place = Place::of(&key);
                                section.unknown.push(Unknown { place, key: key.value, near, holds: false });
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
        "addr" => addr: Text,
        "mcp-addr" => mcp_addr: Text,
        "exec" => exec: Text,
        "single-writer" => single_writer: Text,
        "socket" => socket: Socket,
        "logging" => logging: Logging,
        "levels" => levels: Vec<Spanned<LevelSection>>,
        "snapshot" => snapshot: Snapshot,
        "l0-retention" => l0_retention: Text,
        "l0-retention-check-interval" => l0_retention_check_interval: Text,
        "retention" => retention: Retention,
        "validation" => validation: Validation,
        "verify-compaction" => verify_compaction: Text,
        "heartbeat-url" => heartbeat_url: Covered,
        "heartbeat-interval" => heartbeat_interval: Text,
        "shutdown-sync-timeout" => shutdown_sync_timeout: Text,
        "shutdown-sync-interval" => shutdown_sync_interval: Text,
        "dbs" => dbs: Vec<Spanned<Db>>,
    } else replica: ReplicaSettings
}

section! {
    /// `socket`: the control socket.
    Socket {
        "enabled" => enabled: Text,
        "path" => path: Text,
        "permissions" => permissions: Text,
    }
}

section! {
    /// `logging`.
    Logging {
        "level" => level: Text,
        "type" => kind: Text,
        "stderr" => stderr: Text,
        "source" => source: Text,
    }
}

section! {
    /// One of `levels`.
    LevelSection {
        "interval" => interval: Text,
    }
}

section! {
    /// `snapshot`.
    Snapshot {
        "interval" => interval: Text,
        "retention" => retention: Text,
    }
}

section! {
    /// `retention`.
    Retention {
        "enabled" => enabled: Text,
    }
}

section! {
    /// `validation`.
    Validation {
        "interval" => interval: Text,
    }
}

section! {
    /// One of `dbs`.
    Db {
        "path" => path: Text,
        "dir" => dir: Text,
        "pattern" => pattern: Text,
        "recursive" => recursive: Text,
        "watch" => watch: Text,
        "meta-path" => meta_path: Text,
        "meta-dir" => meta_dir: Text,
        "monitor-interval" => monitor_interval: Text,
        "checkpoint-interval" => checkpoint_interval: Text,
        // no lock is ever waited for while another one is held, so there is nothing to time out
        "busy-timeout" => busy_timeout: Text,
        "min-checkpoint-page-count" => min_checkpoint_page_count: Text,
        "max-checkpoint-page-count" => max_checkpoint_page_count: Text,
        "truncate-page-n" => truncate_page_n: Text,
        "max-sync-wal-bytes" => max_sync_wal_bytes: Text,
        "restore-if-db-not-exists" => restore_if_db_not_exists: Text,
        "snapshot" => snapshot: Snapshot,
        "replica" => replica: Spanned<Replica>,
        "replicas" => replicas: Vec<Spanned<Replica>>,
    }
}

section! {
    /// `replica`, or one of `replicas`.
    Replica {
        "type" => kind: Text,
        "name" => name: Text,
        "path" => path: Text,
        "url" => url: Covered,
        // v0.3 only
        "retention" => retention: Text,
        "retention-check-interval" => retention_check_interval: Text,
        "snapshot-interval" => snapshot_interval: Text,
    } else settings: ReplicaSettings
}

section! {
    /// What a replica may say and the whole file may say for all of them.
    ReplicaSettings {
        "sync-interval" => sync_interval: Text,
        "max-sync-ltx-files" => max_sync_ltx_files: Text,
        "auto-recover" => auto_recover: Text,
        // ours: `frame` for those who may go back to Litestream 0.5.15 or older, which read no `block`
        "page-encoding" => page_encoding: Text,
        "validation-interval" => validation_interval: Text,
        // S3
        "access-key-id" => access_key_id: Covered,
        "secret-access-key" => secret_access_key: Covered,
        "region" => region: Text,
        "bucket" => bucket: Text,
        "endpoint" => endpoint: Text,
        "force-path-style" => force_path_style: Text,
        "sign-payload" => sign_payload: Text,
        // objects are deleted one by one, so there is no batch whose MD5 a store could ask for
        "require-content-md5" => require_content_md5: Text,
        "skip-verify" => skip_verify: Text,
        "storage-class" => storage_class: Text,
        "part-size" => part_size: Text,
        "concurrency" => concurrency: Text,
        "sse-customer-algorithm" => sse_customer_algorithm: Spanned<Any>,
        "sse-customer-key" => sse_customer_key: Spanned<Any>,
        "sse-customer-key-path" => sse_customer_key_path: Spanned<Any>,
        "sse-kms-key-id" => sse_kms_key_id: Text,
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
        parse(text).unwrap_or_else(|error| panic!("{}:\n{text}", error.shown("f")))
    }

    #[test]
    fn a_file_may_say_nothing() {
        for text in ["", "# nothing\n", "dbs:\n", "dbs: null\nlogging:\nsnapshot: ~\n"] {
            assert!(file(text).dbs.unwrap_or_default().is_empty(), "{text}");
        }
    }

    #[test]
    fn keys_that_look_like_numbers_stay_as_they_are_written() {
        for text in ["0123", "12345e5", "1_000", "0x10", "true", "\"007\""] {
            let file = file(&format!("secret-access-key: {text}\n"));
            let secret = file.replica.secret_access_key.expect("the key").value.0;
            assert_eq!(secret.expose(), text.trim_matches('"'), "{text}");
        }
    }

    #[test]
    fn anchors_and_merge_keys_are_applied() {
        let file = file(
            "x-base: &base\n  type: s3\n  bucket: b\ndbs:\n  - path: a\n    replica:\n      <<: *base\n      path: p\n",
        );
        let replica = file.dbs.expect("dbs")[0].value.replica.clone().expect("a replica").value;
        assert_eq!(replica.settings.bucket.expect("a bucket").value, "b");
        assert_eq!(replica.path.expect("a path").value, "p");
        assert_eq!(file.unknown[0].key, "x-base");
    }

    #[test]
    fn an_unknown_key_is_kept_with_its_place_and_the_key_it_is_like() {
        let file =
            file("dbs:\n  - path: a\n    replica:\n      bukcet: b\n      zzzzzz:\n        - 1\nadr: x\n");
        let replica = &file.dbs.as_ref().expect("dbs")[0].value.replica.as_ref().expect("a replica").value;
        let unknown = |key: &str, line, column, near| Unknown {
            key: key.into(),
            place: Place { line, column },
            near,
            holds: false,
        };
        let found = [unknown("bukcet", 4, 7, Some("bucket")), unknown("zzzzzz", 5, 7, None)];
        assert_eq!(replica.unknown, found);
        assert_eq!(file.unknown, [unknown("adr", 7, 1, Some("addr"))]);
    }

    #[test]
    fn what_is_no_yaml_is_told_in_one_line_with_its_place_and_never_a_secret() {
        for (text, shown) in [
            ("addr: 1\n\tb: hush\n", "1:7: a tab: indent with spaces"),
            ("dbs:\n\t- path: hush\n", "2:2: a tab: indent with spaces"),
            ("dbs:\n  - path: a\n    path: hush\n", "3:5: path stands here a second time: keep one"),
            ("a: 1\nsecret-access-key: [hush]\n", "2:20: one value is expected here, not a list"),
            ("exec: {hush: 1}\n", "1:7: one value is expected here"),
            ("secret-access-key: \"hush\n", "1:20: a quote that is never closed"),
            ("secret-access-key: @hush\n", "1:20: a character that no value begins with"),
            ("secret-access-key: hush: hush\n", "put the value into quotes"),
            (
                "secret-access-key: *hush\n",
                "1:20: an alias (`*name`) of an anchor that does not stand above it",
            ),
            ("dbs: hush\n", "1:6: a list is expected here"),
            ("dbs:\n  - hush\n", "2:5: keys with values are expected here"),
            ("- hush\n", "1:1: keys with values are expected here"),
            ("hush\n", "1:1: keys with values are expected here"),
            ("logging: hush\n", "1:10: keys with values are expected here"),
            ("dbs: [\n", "1:6: this is no YAML"),
            ("dbs:\n  - path: a\n  path: hush\n", "3:3: this is no YAML"),
            ("exec: a\n---\nexec: hush\n", ": a second document begins here"),
        ] {
            let error = parse(text).expect_err(text).shown("f");
            assert!(error.contains(shown) && !error.contains("hush"), "{text}: {error}");
            assert!(error.starts_with("f:") && !error.contains('\n'), "{text}: {error}");
        }
    }

    #[test]
    fn secrets_do_not_show_in_debug() {
        let file = file(
            "secret-access-key: hush\naccess-key-id: hush\nheartbeat-url: hush\ndbs:\n  - replica:\n      url: s3://hush@b\n",
        );
        assert!(!format!("{file:?}").contains("hush"));
    }
}
