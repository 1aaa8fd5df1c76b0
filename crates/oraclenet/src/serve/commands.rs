//! The server's commands as its help shows them. Parsing and help use the same tables of flags.

use super::options::Row;
use super::{options, superuser};

/// A command of the server.
#[derive(Debug)]
pub struct Command {
    /// What it is called by.
    pub name: &'static str,
    /// What may follow it, one line of usage each.
    pub operands: &'static [&'static str],
    /// One line for an overview; no full stop at the end.
    pub summary: &'static str,
    /// The head of its help.
    pub doc: &'static str,
    /// Its flags, in the order of its help.
    pub flags: &'static [Row],
    /// The foot of its help: the environment, and what it ends with.
    pub notes: &'static str,
}

/// All commands of the server.
pub static COMMANDS: [Command; 3] = [
    Command {
        name: "serve",
        operands: &["[FLAGS]"],
        summary: "start the server",
        doc: "Starts the server: it restores the database from the replica when the folder has none, and\n\
              answers a write only when the replica has it. SIGTERM ends it in order.",
        flags: &options::FLAGS,
        notes: SERVE_NOTES,
    },
    Command {
        name: "superuser",
        operands: &[
            "create EMAIL PASSWORD",
            "update EMAIL PASSWORD",
            "upsert EMAIL PASSWORD",
            "delete EMAIL",
        ],
        summary: "make, change or delete the accounts that approve others",
        doc: "Makes, changes (update), makes or changes (upsert) or deletes the account of a superuser,\n\
              while the server runs or not; one that is a standby becomes the owner for it. The database\n\
              is made, or restored, by the first serve; only --replica none makes one here. It takes away\n\
              the tokens of an account whose password changes.",
        flags: &superuser::FLAGS,
        notes: SUPERUSER_NOTES,
    },
    Command {
        name: "prove",
        operands: &["[SCENARIO]... [FLAGS]"],
        summary: "show that nothing is lost: redeploys, kills and wiped disks under load",
        doc: "Runs this program on a simulated platform, writes to it, redeploys, kills and wipes it, and compares\n\
              what was acknowledged with what is there. It ends with a table and a verdict, and leaves the\n\
              evidence as JSON and as one HTML page.",
        flags: &drill::options::FLAGS,
        notes: drill::options::NOTES,
    },
];

/// What is not in the flags of `serve`.
const SERVE_NOTES: &str = "\
Environment:

    ORACLENET_REPLICA_URL
        where the data is kept, for example
        s3://BUCKET/PATH?endpoint=https://nyc3.digitaloceanspaces.com&region=nyc3
    LITESTREAM_ACCESS_KEY_ID, LITESTREAM_SECRET_ACCESS_KEY
        the keys of the bucket; AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY do as well
    ORACLENET_SUPERUSER_EMAIL, ORACLENET_SUPERUSER_PASSWORD
        the first superuser, made when there is none of that e-mail address; a password that was
        changed since stays. ORACLENET_SUPERUSER_PASSWORD_FILE names a file that holds the password;
        PB_ADMIN_EMAIL and PB_ADMIN_PASSWORD do as well
    ORACLENET_PUBLIC_URL, ORACLENET_TRUSTED_PROXY
        as --public-url and --trusted-proxy, which win

It ends with 0 after SIGTERM or SIGINT, 1 when something failed, 2 when the arguments or the
environment make no sense, 10 when the replica is empty and --require-backup was given. It starts
nothing fresh when the replica was wiped (11), is damaged (12) or out of reach (13). 20 says that
the last changes did not reach the replica, 21 that another server took the replica over while
this one ended, 22 that the database and the replica do not belong together, 23 that the store
does not keep create-only puts (--single-writer).
";

const SUPERUSER_NOTES: &str = "\
Arguments show in process lists: where others can read those, start the server with
ORACLENET_SUPERUSER_EMAIL and ORACLENET_SUPERUSER_PASSWORD_FILE for the first account.
It ends with 0 when it is done, 1 when it failed, 2 when the arguments make no sense.
";

#[cfg(test)]
mod tests {
    use super::SERVE_NOTES;
    use crate::serve::exit;
    use litekeep::restore::exit as restore;

    #[test]
    fn the_help_of_serve_tells_each_exit_code() {
        let told: Vec<&str> = SERVE_NOTES.split(|letter: char| !letter.is_ascii_alphanumeric()).collect();
        for code in [
            restore::EMPTY,
            restore::WIPED,
            restore::DAMAGED,
            restore::UNREACHABLE,
            exit::FAILED,
            exit::USAGE,
            exit::NOT_SYNCED,
            exit::FENCED,
            exit::BESIDE,
            exit::UNFIT,
        ] {
            assert!(told.contains(&code.to_string().as_str()), "{code}");
        }
    }
}
