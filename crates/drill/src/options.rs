//! The command line of `oraclenet prove`.

use crate::error::DrillError;
use crate::expect::{self, Row, TABLE};
use std::ffi::OsString;
use std::time::Duration;

/// A flag: its name, what it takes, what it is for. The program that has this verb shows them in its help.
pub type Flag = (&'static str, &'static str, &'static str);

/// All flags but the one by which the run starts its own small application.
pub const FLAGS: [Flag; 9] = [
    (
        "replica",
        "URL",
        "a bucket or directory to run against: s3://BUCKET/PATH?endpoint=.. or file:///DIR\n(default: an S3 server in this process)",
    ),
    ("url", "URL", "run against a live deployment instead; needs --redeploy and an approved account"),
    ("redeploy", "COMMAND", "what redeploys the live deployment, for a shell"),
    (
        "trail",
        "SECONDS",
        "how long --url goes on writing after that command has ended: the platform may still\nbe switching then (default 60)",
    ),
    (
        "engine",
        "oraclenet|litestream|none",
        "what runs in the containers (default oraclenet); litestream is version 0.3.13\nbeside an application that writes to SQLite, none is that application alone",
    ),
    (
        "litestream",
        "PROGRAM",
        "Litestream 0.3.13 for --engine litestream (default: litestream in the PATH); without\nthat engine the command is shown that measures it here",
    ),
    (
        "official",
        "FILE",
        "an official Litestream 0.5.16 or newer as second witness: the program, or the VFS\nextension (default: the extension or the program, where it is installed)",
    ),
    (
        "previous",
        "PROGRAM",
        "an older oraclenet, which is deployed first and rolled back to (default: this one)",
    ),
    ("out", "DIR", "where the evidence goes (default oraclenet-proof-TIME)"),
];

/// What goes with containers of our own only.
const NOT_LIVE: [&str; 4] = ["replica", "previous", "official", "litestream"];

/// How long the writers of `--url` go on after the command, if nobody says.
const TRAIL: Duration = Duration::from_secs(60);

/// The flag of the small application.
const PLAIN: Flag = ("serve-plain", "DIR", "");

/// What stands below the flags in the help.
pub const NOTES: &str = "\
Scenarios, all by default:

    redeploy, rollback, crash, wipe, slow-bucket, bucket-outage, straggler, two-at-once,
    fresh-over-backup, wrong-key

Environment:

    LITESTREAM_ACCESS_KEY_ID, LITESTREAM_SECRET_ACCESS_KEY
        the keys of the bucket in --replica
    ORACLENET_EMAIL, ORACLENET_PASSWORD
        the approved account with which --url writes
    ORACLENET_SUPERUSER_EMAIL, ORACLENET_SUPERUSER_PASSWORD
        with them --url also asks where the new container's database came from; without them
        a redeploy is not shown

It ends with 0 when everything held, 1 when something did not, 2 when the arguments make no sense,
3 when everything that could be run held and something could not be run, not be shown, or not be
removed in the end.
";

/// Where the run takes place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Where {
    /// On the platform of this process.
    Here {
        /// The bucket; nothing for the S3 server in this process.
        replica: Option<String>,
    },
    /// On a deployment that others use as well.
    Live {
        /// Its address.
        url: String,
        /// What redeploys it.
        redeploy: String,
        /// How long writers go on after that has ended.
        trail: Duration,
    },
    /// Not a run: the small application, on this directory.
    Plain(String),
}

/// What runs in the containers; see `engine::Engine`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum System {
    /// This program.
    OracleNet,
    /// Litestream 0.3.13 beside a small application.
    Litestream,
    /// The small application alone.
    None,
}

/// What to do.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where.
    pub place: Where,
    /// Which rows.
    pub rows: Vec<Row>,
    /// What runs in the containers.
    pub system: System,
    /// Litestream 0.3.13.
    pub program: Option<String>,
    /// The official second witness.
    pub official: Option<String>,
    /// The release before.
    pub previous: Option<String>,
    /// Where evidence goes.
    pub out: Option<String>,
}

impl Options {
    /// Reads the words after the verb.
    ///
    /// # Errors
    /// A word is unknown, or flags do not go together.
    pub fn read(words: &[OsString]) -> Result<Self, DrillError> {
        let (mut given, mut rows) = (Vec::new(), Vec::new());
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let word =
                word.to_str().ok_or_else(|| DrillError::usage(format!("{} is not UTF-8", word.display())))?;
            let Some(flag) = word.strip_prefix("--") else {
                let row = *expect::find(word).ok_or_else(|| unknown(word))?;
                if !rows.iter().any(|known: &Row| known.name == row.name) {
                    rows.push(row); // each has one folder, and one path in the bucket
                }
                continue;
            };
            let (name, value) =
                flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value)));
            let known = FLAGS.iter().chain([&PLAIN]).find(|known| known.0 == name);
            let (name, takes, _) =
                known.ok_or_else(|| DrillError::usage(format!("there is no flag --{name}")))?;
            let value = value.or_else(|| words.next().and_then(|word| word.to_str()));
            let value = value.ok_or_else(|| DrillError::usage(format!("--{name} needs {takes}")))?;
            given.push((*name, value.to_owned()));
        }
        let get =
            |name: &str| given.iter().rev().find(|(known, _)| *known == name).map(|(_, value)| value.clone());
        let system = match get("engine").as_deref().unwrap_or("oraclenet") {
            "oraclenet" => System::OracleNet,
            "litestream" => System::Litestream,
            "none" => System::None,
            other => {
                let known = "oraclenet, litestream or none";
                return Err(DrillError::usage(format!("--engine is {other:?}, not {known}")));
            }
        };
        let place = match (get("serve-plain"), get("url"), get("redeploy")) {
            (Some(directory), ..) => Where::Plain(directory),
            (None, None, None) => Where::Here { replica: get("replica") },
            (None, Some(url), Some(redeploy)) => {
                Where::Live { url, redeploy, trail: get("trail").map_or(Ok(TRAIL), |text| seconds(&text))? }
            }
            (None, Some(_), None) => return Err(DrillError::usage("--url needs --redeploy COMMAND")),
            (None, None, Some(_)) => return Err(DrillError::usage("--redeploy needs --url URL")),
        };
        let live = matches!(place, Where::Live { .. });
        if !live && get("trail").is_some() {
            return Err(DrillError::usage("--trail needs --url URL"));
        }
        let beside = NOT_LIVE.iter().find(|name| live && get(name).is_some());
        if let Some(name) = beside {
            return Err(DrillError::usage(format!(
                "--{name} says nothing of a live deployment: not with --url"
            )));
        }
        if live && (system != System::OracleNet || rows.iter().any(|row: &Row| row.name != "redeploy")) {
            return Err(DrillError::usage("a live deployment has one scenario: redeploy"));
        }
        if rows.is_empty() {
            rows = if live { vec![TABLE[0]] } else { TABLE.to_vec() };
        }
        Ok(Self {
            place,
            rows,
            system,
            program: get("litestream"),
            official: get("official"),
            previous: get("previous"),
            out: get("out"),
        })
    }
}

fn seconds(text: &str) -> Result<Duration, DrillError> {
    let parsed = text.parse().map(|seconds: u16| Duration::from_secs(seconds.into()));
    parsed.map_err(|_| DrillError::usage(format!("--trail is {text:?}, not a number of seconds")))
}

fn unknown(word: &str) -> DrillError {
    let names = TABLE.map(|row| row.name).join(", ");
    DrillError::usage(format!("there is no scenario {word:?}; there are {names}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_a_run_or_a_reason() {
        let here = |replica: Option<&str>| Where::Here { replica: replica.map(str::to_owned) };
        let live = |seconds| Where::Live {
            url: "https://x".to_owned(),
            redeploy: "make deploy".to_owned(),
            trail: Duration::from_secs(seconds),
        };
        for (words, wanted) in [
            (vec![], Ok((here(None), 10))),
            (vec!["wipe", "crash"], Ok((here(None), 2))),
            (vec!["--replica", "file:///d", "wipe"], Ok((here(Some("file:///d")), 1))),
            (vec!["--replica=s3://b/p"], Ok((here(Some("s3://b/p")), 10))),
            (vec!["--url=https://x", "--redeploy", "make deploy"], Ok((live(60), 1))),
            (vec!["--url=https://x", "--redeploy", "make deploy", "--trail=5"], Ok((live(5), 1))),
            (vec!["--url=https://x", "--redeploy", "make deploy", "--trail=soon"], Err("not a number")),
            (vec!["--trail=5"], Err("--trail needs --url")),
            (vec!["--serve-plain", "d"], Ok((Where::Plain("d".to_owned()), 10))),
            (vec!["--url=https://x"], Err("needs --redeploy")),
            (vec!["--redeploy=x"], Err("needs --url")),
            (vec!["--url=https://x", "--redeploy=y", "wipe"], Err("one scenario")),
            (vec!["wipe", "crash", "wipe"], Ok((here(None), 2))),
            (vec!["--url=https://x", "--redeploy=y", "--replica=file:///d"], Err("--replica says nothing")),
            (vec!["--url=https://x", "--redeploy=y", "--previous=old"], Err("--previous says nothing")),
            (vec!["--url=https://x", "--redeploy=y", "--official=l.so"], Err("--official says nothing")),
            (vec!["storm"], Err("there is no scenario \"storm\"")),
            (vec!["--storm"], Err("there is no flag --storm")),
            (vec!["--out"], Err("--out needs DIR")),
            (vec!["--engine=mysql"], Err("--engine is \"mysql\"")),
        ] {
            let given: Vec<OsString> = words.iter().map(OsString::from).collect();
            match (Options::read(&given), wanted) {
                (Ok(options), Ok(wanted)) => {
                    assert_eq!((options.place, options.rows.len()), wanted, "{words:?}")
                }
                (Err(error), Err(wanted)) => {
                    assert!(error.to_string().contains(wanted), "{words:?}: {error}")
                }
                (got, _) => panic!("{words:?}: {got:?}"),
            }
        }
    }

    #[test]
    fn the_notes_name_every_scenario() {
        assert!(TABLE.iter().all(|row| NOTES.contains(row.name)));
    }
}
