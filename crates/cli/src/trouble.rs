//! What went wrong, for the person at the terminal, and what the process ends with.
//!
//! One line: `Error: `, what happened to what, `: ` why, `; ` what to try. Nobody has to look at a second line, and a script
//! that looks for a message finds the way out beside it. No secret gets here: replica URLs pass through
//! [`without_secrets`].

use litekeep::restore::exit as restore;
use litekeep_store::{ErrorKind, StoreError};
use std::error::Error;
use std::fmt;

/// What the process ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exit(pub(crate) u8);

impl Exit {
    /// All is well.
    pub(crate) const OK: Self = Self(0);
    /// Everything that has no code of its own: arguments, configuration, local files.
    pub(crate) const FAILED: Self = Self(1);
    /// The last changes did not reach the replica before the process ended.
    pub(crate) const NOT_SYNCED: Self = Self(20);
    /// Somebody else writes to the replica.
    pub(crate) const FENCED: Self = Self(21);
    /// The local database is not the replica's newest state, nor one that follows it.
    pub(crate) const DIVERGED: Self = Self(22);
    /// The store lacks something that litekeep needs to run safely there.
    pub(crate) const UNFIT: Self = Self(23);
}

/// One row of the table of exit codes: help, the manual and `docs/exit-codes.md` are made from it.
#[derive(Debug)]
pub(crate) struct ExitCode {
    /// What the process ends with.
    pub(crate) code: u8,
    /// What it is called.
    pub(crate) name: &'static str,
    /// What it means.
    pub(crate) meaning: &'static str,
}

/// Every exit code of the program's own.
pub(crate) static EXITS: &[ExitCode] = &[
    exit(0, "ok", "all is well, or there was nothing to do and the flags allow that"),
    exit(1, "failed", "arguments, configuration, local files: all that has no code of its own"),
    exit(2, "misuse", "restore -f: the flags contradict each other"),
    exit(
        restore::EMPTY,
        "no-backup",
        "nothing was ever replicated there; only now may an application start fresh",
    ),
    exit(restore::WIPED, "wiped", "there was a replica, and it holds no data now"),
    exit(restore::DAMAGED, "damaged", "objects of the replica are missing or damaged"),
    exit(
        restore::UNREACHABLE,
        "unreachable",
        "the replica can't be reached or read: network, bucket, keys, permissions",
    ),
    exit(restore::OUTPUT, "output-exists", "restore: something stands where the database is to go"),
    exit(restore::NOT_AVAILABLE, "not-available", "restore: the replica has no such transaction or time"),
    exit(Exit::NOT_SYNCED.0, "not-synced", "the final sync failed: the last changes are not in the replica"),
    exit(Exit::FENCED.0, "fenced", "somebody else writes to the replica, or did"),
    exit(Exit::DIVERGED.0, "diverged", "the local database does not follow from the replica"),
    exit(Exit::UNFIT.0, "unfit", "the store lacks something that litekeep needs"),
];

/// The codes that are not in the table.
pub(crate) const EXIT_OF_A_COMMAND: &str = "With -exec: the command's own code if that is not 0; 128 and the number of the \
     signal that ended it, unless that was HUP, INT, QUIT or TERM and litekeep passed it on. Where a signal ended doctor, \
     verify or a restore, also that of replicate -restore-if-db-not-exists, or a second one restore -f: 128 and its number.";

const fn exit(code: u8, name: &'static str, meaning: &'static str) -> ExitCode {
    ExitCode { code, name, meaning }
}

/// Words by which a store's answer says what to do.
const STORE_TOLD: [&str; 6] = [
    "(check ",
    ": check ",
    "clock is off",
    "get new keys",
    "; set AWS_ACCESS_KEY_ID",
    "a path counts as it is spelled",
];

/// An error on its way to the terminal.
#[derive(Debug)]
pub(crate) struct Trouble {
    what: String,
    causes: Vec<String>,
    hint: Option<String>,
    /// What the process ends with.
    pub(crate) exit: Exit,
}

impl Trouble {
    /// An error with exit code 1 and nothing to add.
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), causes: Vec::new(), hint: None, exit: Exit::FAILED }
    }

    /// Adds why: an error and all that is under it. A link that only repeats what its parent said is left out.
    pub(crate) fn because(mut self, error: &(dyn Error + 'static)) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            let text = error.to_string();
            if !self.causes.last().unwrap_or(&self.what).contains(&text) {
                self.causes.push(text);
            }
            next = error.source();
        }
        self
    }

    /// Adds why, as text.
    pub(crate) fn cause(mut self, text: impl Into<String>) -> Self {
        self.causes.push(text.into());
        self
    }

    /// Adds what to try; the last hint stays.
    pub(crate) fn hint(mut self, text: impl Into<String>) -> Self {
        self.hint = Some(text.into());
        self
    }

    /// Adds what to try about a store, unless it has said so itself: it knows it better.
    pub(crate) fn about_store(self, error: &StoreError) -> Self {
        self.about_place(error.kind(), error.is_of_directory())
    }

    /// The same by what kind of trouble it is, and whether in a directory: that has no keys, no endpoint and no network.
    pub(crate) fn about_place(self, kind: ErrorKind, directory: bool) -> Self {
        let told = |text: &String| STORE_TOLD.iter().any(|words| text.contains(words));
        if self.hint.is_some() || told(&self.what) || self.causes.iter().any(told) {
            return self;
        }
        self.hint(match kind {
            ErrorKind::FixConfig if directory => {
                "check the path, and that this user may read and write there"
            }
            ErrorKind::Wait | ErrorKind::Retry | ErrorKind::NotFound if directory => {
                "check the path and its disk, and try again"
            }
            ErrorKind::FixConfig => "check the replica's URL, the keys and what they are allowed to do",
            ErrorKind::DataDamaged => {
                "`litekeep verify` tells what is damaged and what can still be restored"
            }
            ErrorKind::Unsupported => "`litekeep doctor` tells what this store can do",
            ErrorKind::TooLarge => "let the store, and what stands before it, take larger objects",
            ErrorKind::Wait | ErrorKind::Retry | ErrorKind::NotFound => {
                "check the endpoint and the network, and try again"
            }
            ErrorKind::Bug => "please report this",
        })
    }

    /// What happened; and why and what to try: one line each.
    pub(crate) fn parts(self) -> (String, Option<String>) {
        let Self { what, causes, hint, .. } = self;
        let details: Vec<String> = causes.iter().chain(&hint).map(|text| one_line(text)).collect();
        (one_line(&what), (!details.is_empty()).then(|| details.join("; ")))
    }

    /// Sets what the process ends with.
    pub(crate) fn exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&one_line(&self.what))?;
        for cause in &self.causes {
            write!(f, ": {}", one_line(cause))?;
        }
        match &self.hint {
            Some(hint) => write!(f, "; {}", one_line(hint)),
            None => Ok(()),
        }
    }
}

/// A text without line breaks and other control characters: what a store or a file says is not to write over the terminal.
fn one_line(text: &str) -> String {
    let parts: Vec<&str> =
        text.split(char::is_control).map(str::trim).filter(|part| !part.is_empty()).collect();
    parts.join(" ")
}

/// A replica URL, or what was given in place of one, without what may be a secret: user, password and query. A key that
/// nobody has encoded may hold a slash, and what cannot be told from one goes as well.
pub(crate) fn without_secrets(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let (rest, query) = rest.find(['?', '#']).map_or((rest, ""), |at| rest.split_at(at));
    if rest.contains(':') && query.contains('@') {
        return format!("{scheme}://(hidden)");
    }
    let rest = match rest.rsplit_once('@') {
        Some((user, place)) if user.contains(':') => place,
        _ => rest,
    };
    let (host, path) = rest.split_once('/').map_or((rest, None), |(host, path)| (host, Some(path)));
    let host = host.rsplit('@').next().unwrap_or_default();
    match path {
        Some(path) => format!("{scheme}://{host}/{path}"),
        None => format!("{scheme}://{host}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_from_what_to_why_to_what_to_try() {
        let trouble = |what: &str| Trouble::new(what);
        for (trouble, line) in [
            (trouble("x"), "x"),
            (trouble("x").hint("look again"), "x; look again"),
            (
                trouble("can't read a.yml").cause("no such file").hint("look"),
                "can't read a.yml: no such file; look",
            ),
            (trouble("x").cause("first").cause("second"), "x: first: second"),
            (trouble("a\nb").cause("one\r\n\ttwo\n").hint("\u{1b}[2Jc\n\nd"), "a b: one two; [2Jc d"),
        ] {
            assert_eq!(trouble.to_string(), line);
            let (what, why) = trouble.parts();
            assert!(!format!("{what}{why:?}").contains("\\n"), "{what} {why:?}");
        }
    }

    #[test]
    fn a_chain_of_errors_is_told_once() {
        #[derive(Debug)]
        struct Outer(std::io::Error);
        impl fmt::Display for Outer {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "list s3://b: {}", self.0)
            }
        }
        impl Error for Outer {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                Some(&self.0)
            }
        }
        let text = Trouble::new("x").because(&Outer(std::io::Error::other("reset"))).to_string();
        assert_eq!(text, "x: list s3://b: reset");
    }

    #[test]
    fn what_to_try_about_a_store_fits_the_place_and_is_told_once() {
        use ErrorKind::{FixConfig, Retry};
        let none = "no keys: this machine's role gave none; set AWS_ACCESS_KEY_ID and the other";
        for (kind, object, text, hint) in [
            (
                FixConfig,
                "s3://b/x",
                "no",
                Some("check the replica's URL, the keys and what they are allowed to do"),
            ),
            (
                FixConfig,
                "file:///r/x",
                "no",
                Some("check the path, and that this user may read and write there"),
            ),
            (Retry, "s3://b/x", "no", Some("check the endpoint and the network, and try again")),
            (Retry, "file:///r/x", "no", Some("check the path and its disk, and try again")),
            (FixConfig, "s3://b/x", "403 (check the keys)", None),
            (FixConfig, "s3://b/x", none, None),
            (FixConfig, "file:///r/x", "denied: check owner and permissions of the replica directory", None),
        ] {
            let error = StoreError::new(kind, "list", object, litekeep_store::Failure::Text(text.to_owned()));
            let told = Trouble::new("x").because(&error).about_store(&error);
            let wanted = hint.map_or(String::new(), |hint| format!("; {hint}"));
            assert_eq!(told.to_string(), format!("x: list {object}: {text}{wanted}"));
        }
    }

    #[test]
    fn a_url_loses_its_secrets_and_nothing_else() {
        for (url, shown) in [
            ("s3://b/p", "s3://b/p"),
            ("s3://b", "s3://b"),
            ("s3://b/p@q?secret=hush#hush", "s3://b/p@q"),
            ("s3://key:hush@b/p?secret=hush#hush", "s3://b/p"),
            ("s3://key:hu/sh@b/p", "s3://b/p"),
            ("s3://key:/hush/hu@sh@b/p", "s3://b/p"),
            ("s3://key:hu?sh@b/p", "s3://(hidden)"),
            ("s3://key:hu/sh#hush@b/p", "s3://(hidden)"),
            ("s3://b:9000/p?secret=hu@sh", "s3://(hidden)"),
            ("s3://b/p?endpoint=http://h:9000&secret=hu@sh", "s3://b/p"),
            ("s3://b:9000/p", "s3://b:9000/p"),
            ("s3://hush@b/p", "s3://b/p"),
            ("s3://key:hu@sh@b/p", "s3://b/p"),
            ("file:///a/b", "file:///a/b"),
            ("/a/b?c", "/a/b?c"),
        ] {
            assert_eq!(without_secrets(url), shown, "{url}");
        }
    }

    #[test]
    fn the_document_of_exit_codes_is_the_table() {
        let mut wanted = String::from(
            "# Exit codes\n\n`litekeep help exit-codes` prints this table; a test keeps both the same. \
             `oraclenet serve` ends with the same codes from 10 on; `oraclenet help serve` has its others.\n\n\
             | code | name | meaning |\n|---|---|---|\n",
        );
        for exit in EXITS {
            wanted.push_str(&format!("| {} | {} | {} |\n", exit.code, exit.name, exit.meaning));
        }
        wanted.push_str(&format!("\n{EXIT_OF_A_COMMAND}\n"));
        let document = include_str!("../../../docs/exit-codes.md");
        assert_eq!(document, wanted, "docs/exit-codes.md should read:\n{wanted}");
    }

    #[test]
    fn no_exit_code_means_two_things() {
        for pair in EXITS.windows(2) {
            assert!(pair[0].code < pair[1].code, "{pair:?}");
        }
    }
}
