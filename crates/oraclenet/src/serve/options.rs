//! The flags of `oraclenet serve`, and what they mean together with the environment.
//!
//! A replica is named, declined by name, or chosen by the server only where nobody else can reach it. A setting that
//! is half there is refused, and the message names it.

use super::{Trouble, World};
use crate::db::Durability;
use crate::http::client_address::Network;
use crate::http::rate_limit::Setting;
use crate::http::state::Config;
use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A flag: its name, what it takes (nothing for a switch), what it is for (no full stop at the end).
pub type Row = (&'static str, &'static str, &'static str);

/// The flags of `serve`.
pub(super) const FLAGS: [Row; 17] = [
    ("http", "ADDR", "listen here (default 127.0.0.1:8090); plain HTTP, TLS is a proxy's business"),
    ("dir", "DIR", "the folder of the database (default pb_data beside the program)"),
    (
        "replica",
        "URL",
        "keep the data here: s3://BUCKET/PATH, file:///DIR, or none; wins over ORACLENET_REPLICA_URL.\n\
         without both, and only on a loopback address, it is the folder DIR-replica beside DIR",
    ),
    ("require-backup", "", "end at once, and make no new database, when the replica is empty"),
    (
        "durability",
        "replicated|local",
        "answer a write when the replica has it (default), or when this disk has it",
    ),
    (
        "ack-timeout",
        "SECONDS",
        "how long a write waits for the replica before it is answered with 503 (default 10)",
    ),
    (
        "hand-over",
        "SECONDS",
        "how long another server may take to hand the data over before it is taken from it; less than\n\
         --ack-timeout (default 5, or half of --ack-timeout if that is less)",
    ),
    (
        "single-writer",
        "",
        "go on with a store that replaces what is to be created only: you say that no other server\n\
         writes there, and nothing protects the data from one that does. Without this flag such a\n\
         store is refused at the start; only where nobody ever owned it is found out at the first\n\
         write, which is not applied, and the server ends",
    ),
    (
        "strict-reads",
        "",
        "let a GET wait until the replica has what it shows, as a write does (default: it may show a\n\
         write that is not answered yet)",
    ),
    ("shutdown-timeout", "SECONDS", "how long the last changes may take to reach the replica (default 60)"),
    (
        "public-url",
        "URL",
        "the address that others reach it by (default http://ADDR; also ORACLENET_PUBLIC_URL)",
    ),
    ("origins", "LIST", "the origins from which pages of others may call it, with commas (default all)"),
    (
        "trusted-proxy",
        "LIST",
        "believe the client's address that these networks (10.0.0.0/8,..) put into X-Forwarded-For;\n\
         app-platform stands for DigitalOcean's, with its do-connecting-ip. Default: believe nobody\n\
         (also ORACLENET_TRUSTED_PROXY)",
    ),
    (
        "rate-limits",
        "default|off",
        "how many requests an account may make, or an address without one (default: PocketBase's)",
    ),
    ("auto-approve-wallets", "", "let an oracle that signs in with its wallet post without an approval"),
    ("batch", "", "answer /api/batch (default: switched off, as in PocketBase)"),
    ("log", "LEVEL", "debug, info (default), warn or error; the log goes to stderr"),
];

/// How long a newcomer waits for the one before.
const HAND_OVER: Duration = Duration::from_secs(5);

/// App Platform's routers, as its containers see them.
const APP_PLATFORM: [&str; 4] = ["10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "fc00::/7"];

/// Where the data is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Replica {
    /// Here; the flag or the environment said so.
    Url(String),
    /// Nobody said anything, and only this machine can reach the server: in this folder.
    Beside(PathBuf),
    /// Nowhere, as asked for.
    None,
}

/// What to do.
#[derive(Debug, Clone)]
pub(super) struct Options {
    pub(super) http: SocketAddr,
    pub(super) dir: PathBuf,
    pub(super) replica: Replica,
    pub(super) require_backup: bool,
    pub(super) durability: Durability,
    pub(super) ack_timeout: Duration,
    pub(super) hand_over: Duration,
    pub(super) single_writer: bool,
    pub(super) shutdown_timeout: Duration,
    pub(super) rate_limits: Setting,
    pub(super) config: Config,
    pub(super) log: tracing::Level,
}

/// Words as flags, in their order of appearance; the last of each counts.
pub(super) struct Given(Vec<(&'static str, String)>);

impl Given {
    /// Reads `--name value`, `--name=value` and switches.
    pub(super) fn parse(rows: &[Row], words: &[OsString]) -> Result<(Self, Vec<String>), Trouble> {
        let mut given = Vec::new();
        let mut operands = Vec::new();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let word =
                word.to_str().ok_or_else(|| Trouble::usage(format!("{} is not UTF-8", word.display())))?;
            let Some(flag) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else {
                operands.push(word.to_owned());
                continue;
            };
            let (name, value) =
                flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value)));
            let Some((name, takes, _)) = rows.iter().find(|row| row.0 == name) else {
                let known: Vec<String> = rows.iter().map(|row| format!("--{}", row.0)).collect();
                return Err(Trouble::usage(format!("there is no flag --{name}"))
                    .hint(format!("the flags are {}", known.join(", "))));
            };
            let value = match (takes.is_empty(), value) {
                (true, None | Some("true")) => "true".to_owned(),
                (true, Some("false")) => String::new(),
                (true, Some(_)) => return Err(Trouble::usage(format!("--{name} takes no value"))),
                (false, Some(value)) => value.to_owned(),
                (false, None) => match words.next().and_then(|word| word.to_str()) {
                    Some(value) => value.to_owned(),
                    None => return Err(Trouble::usage(format!("--{name} needs {takes}"))),
                },
            };
            given.push((*name, value));
        }
        Ok((Self(given), operands))
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    fn on(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| !value.is_empty())
    }

    fn seconds(&self, name: &str, default: u64) -> Result<Duration, Trouble> {
        let Some(text) = self.get(name) else { return Ok(Duration::from_secs(default)) };
        let seconds = text.strip_suffix('s').unwrap_or(text).parse::<f64>().ok();
        let good = seconds.filter(|seconds| seconds.is_finite() && (0.0..=3600.0).contains(seconds));
        good.map(Duration::from_secs_f64).ok_or_else(|| {
            Trouble::usage(format!("--{name} is {text:?}, not a number of seconds up to 3600"))
        })
    }
}

impl Options {
    pub(super) fn read(world: &World, words: &[OsString]) -> Result<Self, Trouble> {
        let (given, operands) = Given::parse(&FLAGS, words)?;
        if let Some(operand) = operands.first() {
            return Err(Trouble::usage(format!("serve takes no {operand:?}"))
                .hint("TLS and domains are the proxy's business; the address is --http"));
        }
        let http = address(given.get("http").unwrap_or("127.0.0.1:8090"))?;
        let dir = directory(world, given.get("dir"));
        let replica = replica(world, given.get("replica"), http.ip(), &dir)?;
        let (trusted, connecting_ip) =
            trusted(&said(world, given.get("trusted-proxy"), "ORACLENET_TRUSTED_PROXY"))?;
        let durability = match given.get("durability").unwrap_or("replicated") {
            "replicated" => Durability::Replicated,
            "local" => Durability::Local,
            other => {
                return Err(Trouble::usage(format!("--durability is {other:?}, not replicated or local")));
            }
        };
        let ack_timeout = given.seconds("ack-timeout", 10)?;
        let hand_over = match given.get("hand-over") {
            Some(_) => given.seconds("hand-over", 0)?,
            None => HAND_OVER.min(ack_timeout / 2),
        };
        if hand_over >= ack_timeout {
            return Err(Trouble::usage("--hand-over is not below --ack-timeout").hint(
                "the first write waits for both: else it is answered with 503 whenever another server was killed",
            ));
        }
        let rate_limits = given.get("rate-limits").unwrap_or("default").parse();
        let origins = given.get("origins").unwrap_or("*");
        let config = Config {
            origins: origins
                .split(',')
                .map(|origin| origin.trim().to_owned())
                .filter(|it| !it.is_empty())
                .collect(),
            public_url: said(world, given.get("public-url"), "ORACLENET_PUBLIC_URL")
                .trim_end_matches('/')
                .to_owned(),
            trusted,
            connecting_ip,
            approve_wallets: given.on("auto-approve-wallets"),
            batch: given.on("batch"),
            strict_reads: given.on("strict-reads"),
        };
        Ok(Self {
            http,
            dir,
            replica,
            require_backup: given.on("require-backup"),
            durability,
            ack_timeout,
            hand_over,
            single_writer: given.on("single-writer"),
            shutdown_timeout: given.seconds("shutdown-timeout", 60)?,
            rate_limits: rate_limits
                .map_err(|_| Trouble::usage("--rate-limits is neither default nor off"))?,
            config,
            log: super::log::level(given.get("log").unwrap_or("info"))?,
        })
    }
}

/// Where the database's folder is: as PocketBase has it.
pub(super) fn directory(world: &World, given: Option<&str>) -> PathBuf {
    let dir = given.map_or_else(|| world.executable_dir.join("pb_data"), PathBuf::from);
    let path = world.directory.join(dir);
    // `pb_data/` and `pb_data` are the same folder, and `pb_data-replica` must not become `pb_data/-replica`.
    path.components().collect()
}

fn address(text: &str) -> Result<SocketAddr, Trouble> {
    let wrong =
        || Trouble::usage(format!("--http is {text:?}, not an address with a port such as 127.0.0.1:8090"));
    let full = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text.to_owned() };
    full.to_socket_addrs().map_err(|_| wrong())?.next().ok_or_else(wrong)
}

/// What a flag says, or else a variable, or else nobody.
fn said(world: &World, given: Option<&str>, variable: &str) -> String {
    given.map(str::to_owned).or_else(|| world.env(variable)).unwrap_or_default()
}

fn trusted(list: &str) -> Result<(Vec<Network>, bool), Trouble> {
    let mut networks = Vec::new();
    let mut app_platform = false;
    for word in list.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let names: &[&str] = if word == "app-platform" {
            app_platform = true;
            &APP_PLATFORM
        } else {
            &[word]
        };
        for name in names {
            let network =
                name.parse().map_err(|error| Trouble::usage(format!("--trusted-proxy: {error}")))?;
            networks.push(network);
        }
    }
    Ok((networks, app_platform))
}

/// Where the data goes. Names of variables, never their values, are in what it says.
fn replica(world: &World, given: Option<&str>, http: IpAddr, dir: &Path) -> Result<Replica, Trouble> {
    const KEYS: [&str; 2] = ["LITESTREAM_ACCESS_KEY_ID", "LITESTREAM_SECRET_ACCESS_KEY"];
    let raw = |name: &str| (world.env)(name);
    let url = match (given, raw("ORACLENET_REPLICA_URL")) {
        (Some(""), _) => {
            return Err(Trouble::usage("--replica is empty").hint("name a replica, or say --replica none"));
        }
        (Some(url), _) => Some(url.to_owned()),
        (None, Some(url)) if url.is_empty() => {
            return Err(Trouble::usage("ORACLENET_REPLICA_URL is set, and empty")
                .hint("give it a value, or unset it; a replica is also named by --replica"));
        }
        (None, url) => url,
    };
    match url.as_deref() {
        Some("none") => Ok(Replica::None),
        Some(url) => {
            let empty = KEYS.into_iter().find(|name| raw(name).is_some_and(|value| value.is_empty()));
            match empty.filter(|_| url.starts_with("s3:")) {
                Some(name) => {
                    Err(Trouble::usage(format!("the replica is a bucket, and {name} is set, and empty"))
                        .hint("give the key a value; an empty secret is often one that was not passed on"))
                }
                None => Ok(Replica::Url(url.to_owned())),
            }
        }
        None => match KEYS.into_iter().find(|name| raw(name).is_some()) {
            Some(name) => Err(Trouble::usage(format!("{name} is set, and no replica is named"))
                .hint("set ORACLENET_REPLICA_URL or --replica to s3://bucket/path")),
            None if http.is_loopback() => {
                let mut name = dir.file_name().unwrap_or_default().to_owned();
                name.push("-replica");
                Ok(Replica::Beside(dir.with_file_name(name)))
            }
            None => Err(Trouble::usage(format!("no replica is named, and {http} is open to others"))
                .hint("name one (--replica s3://bucket/path), or decline it: --replica none")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use litekeep::clock::{SystemClock, SystemRandom};
    use std::sync::Arc;

    fn read(words: &str, env: &'static [(&'static str, &'static str)]) -> Result<Options, String> {
        let world = World {
            env: Box::new(|name| {
                env.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
            }),
            executable_dir: "/opt".into(),
            directory: "/home".into(),
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom::default()),
        };
        let words: Vec<OsString> = words.split_whitespace().map(OsString::from).collect();
        Options::read(&world, &words).map_err(|trouble| trouble.what)
    }

    #[test]
    fn a_replica_is_named_declined_or_chosen_where_nobody_else_comes() {
        let url = |url: &str| Ok(Replica::Url(url.to_owned()));
        let beside = |path: &str| Ok(Replica::Beside(path.into()));
        let key: &[_] = &[("LITESTREAM_ACCESS_KEY_ID", "a")];
        let empty: &[_] = &[("LITESTREAM_SECRET_ACCESS_KEY", "")];
        let named: &[_] = &[("ORACLENET_REPLICA_URL", "file:///r")];
        for (words, env, wanted) in [
            ("", [].as_slice(), beside("/opt/pb_data-replica")),
            ("--dir=data/", &[], beside("/home/data-replica")),
            ("--http 0.0.0.0:80", &[], Err("no replica is named")),
            ("--http :80 --replica none", &[], Ok(Replica::None)),
            ("--replica s3://b/p", &[], url("s3://b/p")),
            ("--http 0.0.0.0:80", named, url("file:///r")),
            ("--replica s3://b/p", named, url("s3://b/p")),
            ("", key, Err("LITESTREAM_ACCESS_KEY_ID is set, and no replica")),
            ("--replica s3://b/p", empty, Err("LITESTREAM_SECRET_ACCESS_KEY is set, and empty")),
            ("", empty, Err("LITESTREAM_SECRET_ACCESS_KEY is set, and no replica")),
            ("", &[("ORACLENET_REPLICA_URL", "")], Err("ORACLENET_REPLICA_URL is set, and empty")),
            ("--replica=", named, Err("--replica is empty")),
        ] {
            match (read(words, env).map(|options| options.replica), wanted) {
                (Ok(got), Ok(wanted)) => assert_eq!(got, wanted, "{words}"),
                (Err(got), Err(wanted)) => assert!(got.contains(wanted), "{words}: {got}"),
                (got, _) => panic!("{words}: {got:?}"),
            }
        }
    }

    #[test]
    fn a_flag_wins_over_its_variable() {
        let env: &[_] =
            &[("ORACLENET_PUBLIC_URL", "https://env.example/"), ("ORACLENET_TRUSTED_PROXY", "app-platform")];
        for (words, url, connecting_ip, networks) in [
            ("", "https://env.example", true, APP_PLATFORM.len()),
            ("--public-url https://flag.example", "https://flag.example", true, APP_PLATFORM.len()),
            ("--trusted-proxy 10.0.0.0/8", "https://env.example", false, 1),
        ] {
            let config = read(words, env).expect(words).config;
            let got = (config.public_url.as_str(), config.connecting_ip, config.trusted.len());
            assert_eq!(got, (url, connecting_ip, networks), "{words}");
        }
    }

    #[test]
    fn the_hand_over_is_shorter_than_the_wait_for_an_answer() {
        for (words, seconds) in [
            ("", 5.0),
            ("--ack-timeout 3", 1.5),
            ("--ack-timeout 60", 5.0),
            ("--hand-over 0.5", 0.5),
            ("--hand-over 9.9", 9.9),
        ] {
            assert_eq!(read(words, &[]).expect(words).hand_over, Duration::from_secs_f64(seconds), "{words}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        for (words, wanted) in [
            ("--nope", "there is no flag --nope"),
            ("--dir", "--dir needs DIR"),
            ("--http here", "--http is \"here\""),
            ("--ack-timeout soon", "--ack-timeout is \"soon\""),
            ("--durability maybe", "--durability is \"maybe\""),
            ("--rate-limits many", "--rate-limits is neither"),
            ("--trusted-proxy 10.0.0.0/99", "--trusted-proxy"),
            ("example.com", "serve takes no \"example.com\""),
            ("--batch=perhaps", "--batch takes no value"),
            ("--hand-over 10", "--hand-over is not below"),
            ("--hand-over 2 --ack-timeout 2", "--hand-over is not below"),
            ("--ack-timeout 0", "--hand-over is not below"),
            ("--log loud", "--log is \"loud\""),
        ] {
            let told = read(words, &[]).expect_err(words);
            assert!(told.contains(wanted), "{words}: {told}");
        }
    }
}
