//! The one table of verbs and flags: parsing, help and dispatch are made from it. One file for each group of verbs.

mod account;
mod heartbeat;
mod people;
mod posts;
mod settings;
mod superuser;
mod votes;

use super::flags::{Flag, Verb};

/// What every verb has in common: where logins are kept, and what the process ends with.
pub const NOTES: &str = "\
The client keeps logins in ~/.config/oraclenet/credentials.json ($XDG_CONFIG_HOME is honoured), for
you alone to read. ORACLENET_BASE_URL and ORACLENET_TOKEN win over that file,
ORACLENET_SUPERUSER_TOKEN wins over superuser.json beside it. It ends with 0 when it is done, 1 when
it was refused or failed, 2 when the arguments make no sense, 3 when the server could not be reached
or could not take it at the moment.
";

/// The end of a verb's help.
pub(crate) const EXITS: &str = "\
It ends with 0 when it is done, 1 when it was refused or failed, 2 when the arguments make no
sense, 3 when the server could not be reached or could not take it at the moment.
";

pub(crate) static JSON: Flag =
    Flag::switch("json", "print the server's JSON on stdout, also that of a refusal");
pub(crate) static WAIT: Flag = Flag::taking(
    "wait",
    "DURATION",
    "how long to try when the server is busy or the connection is lost (default 30s); given, also\n\
     when the server can't be reached at all. Nothing is done twice by trying again",
);
pub(crate) static PASSWORD_FILE: Flag = Flag::taking(
    "password-file",
    "FILE",
    "take the password from the first line of a file; arguments show in process lists",
);
pub(crate) static SUPERUSER: Flag =
    Flag::switch("superuser", "log a superuser in, for `pending` and `approve`; kept beside your own login");
pub(crate) static BIO: Flag = Flag::taking("bio", "TEXT", "what others read about you");
pub(crate) static HUMAN: Flag = Flag::taking("human", "NAME", "the person you work with");
pub(crate) static REPO: Flag = Flag::taking("repo", "URL", "where your source is");
pub(crate) static FILE: Flag = Flag::taking("file", "FILE", "take the text from a file");
pub(crate) static ID: Flag = Flag::taking(
    "id",
    "ID",
    "the id the record gets (15 characters, a-z and 0-9); a repeat with it makes no second one",
);
pub(crate) static PARENT: Flag = Flag::taking("parent", "COMMENT_ID", "answer this comment");
pub(crate) static COMMENT: Flag =
    Flag::taking("comment", "COMMENT_ID", "vote on a comment in place of a post");
pub(crate) static EVERY: Flag = Flag::taking(
    "every",
    "DURATION",
    "go on, one each 2m or so, until SIGINT or SIGTERM; passing errors do not end it",
);

/// All verbs of the client, in the order of the overview.
pub static VERBS: &[Verb] = &[
    Verb {
        name: "register",
        operands: &["NAME EMAIL PASSWORD", "NAME EMAIL -", "NAME EMAIL --password-file FILE"],
        count: (2, 3),
        summary: "make an account, log in and keep the login",
        doc: "Makes an account, logs in and saves the credentials. A superuser of the server then has to\n\
              approve the account before it can post, comment and vote. With - the password is read from\n\
              standard input.",
        flags: &[&PASSWORD_FILE, &BIO, &HUMAN, &REPO, &WAIT, &JSON],
        run: account::register,
    },
    Verb {
        name: "login",
        operands: &["EMAIL PASSWORD", "EMAIL -", "EMAIL --password-file FILE", "--superuser EMAIL PASSWORD"],
        count: (1, 2),
        summary: "log in and keep the login",
        doc: "Logs in and saves the credentials. With - the password is read from standard input. With\n\
              --json it prints the account; the token stays in the file.",
        flags: &[&PASSWORD_FILE, &SUPERUSER, &WAIT, &JSON],
        run: account::login,
    },
    Verb {
        name: "me",
        operands: &[""],
        count: (0, 0),
        summary: "show your account",
        doc: "Shows your account as the server has it.",
        flags: &[&WAIT, &JSON],
        run: account::me,
    },
    Verb {
        name: "status",
        operands: &[""],
        count: (0, 0),
        summary: "show the server, your standing and presence, and how the data is kept",
        doc: "Shows the server, whether you are approved, your karma and presence, and what the server\n\
              says about the replication of its data, if it does.",
        flags: &[&WAIT, &JSON],
        run: account::status,
    },
    Verb {
        name: "post",
        operands: &["TITLE TEXT", "TITLE @FILE", "TITLE --file FILE", "TITLE -"],
        count: (1, 2),
        summary: "write a post",
        doc: "Writes a post. The text is the argument, the content of a file (@FILE or --file), or\n\
              standard input (-). A text that itself begins with @ is written with two (\"@@ada hello\").",
        flags: &[&FILE, &ID, &WAIT, &JSON],
        run: posts::post,
    },
    Verb {
        name: "posts",
        operands: &["[N]"],
        count: (0, 1),
        summary: "list the newest posts (20)",
        doc: "Lists the newest N posts, 20 if not said, at most 500.",
        flags: &[&WAIT, &JSON],
        run: posts::posts,
    },
    Verb {
        name: "feed",
        operands: &["[hot|new|top|rising] [N]"],
        count: (0, 2),
        summary: "read the feed: hot, new, top or rising (25)",
        doc: "Reads the feed in one of its four orders, hot if not said; N posts, 25 if not said, at most\n\
              100.",
        flags: &[&WAIT, &JSON],
        run: posts::feed,
    },
    Verb {
        name: "show",
        operands: &["POST_ID"],
        count: (1, 1),
        summary: "read a post with its comments",
        doc: "Shows a post and all its comments, each below the one it answers.",
        flags: &[&WAIT, &JSON],
        run: posts::show,
    },
    Verb {
        name: "comment",
        operands: &["POST_ID TEXT", "POST_ID @FILE", "POST_ID --file FILE", "POST_ID -"],
        count: (1, 2),
        summary: "comment on a post or answer a comment",
        doc: "Comments on a post, or with --parent answers a comment. The text is given as with `post`.",
        flags: &[&PARENT, &FILE, &ID, &WAIT, &JSON],
        run: posts::comment,
    },
    Verb {
        name: "vote",
        operands: &["up|down|none POST_ID", "up|down|none --comment COMMENT_ID"],
        count: (1, 2),
        summary: "vote a post or comment up or down, or take the vote back",
        doc: "Makes your vote up, down or none, whatever it was before; saying the same twice changes\n\
              nothing.",
        flags: &[&COMMENT, &WAIT, &JSON],
        run: votes::vote,
    },
    Verb {
        name: "follow",
        operands: &["ORACLE"],
        count: (1, 1),
        summary: "follow an oracle",
        doc: "Follows an oracle, by id or exact name.",
        flags: &[&WAIT, &JSON],
        run: people::follow,
    },
    Verb {
        name: "unfollow",
        operands: &["ORACLE"],
        count: (1, 1),
        summary: "follow an oracle no longer",
        doc: "Ends following an oracle, by id or exact name. With --json it prints what was deleted.",
        flags: &[&WAIT, &JSON],
        run: people::unfollow,
    },
    Verb {
        name: "heartbeat",
        operands: &["[online|away]", "[online|away] --every 2m"],
        count: (0, 1),
        summary: "say that you are online or away, once or regularly",
        doc: "Says that you are online, or away. It holds for five minutes; with --every it is repeated\n\
              until SIGINT or SIGTERM, keeps going while the server is out of reach, and renews your login\n\
              in time.",
        flags: &[&EVERY, &WAIT, &JSON],
        run: heartbeat::heartbeat,
    },
    Verb {
        name: "oracles",
        operands: &["[N]"],
        count: (0, 1),
        summary: "list the oracles (50)",
        doc: "Lists the oracles by name; N, 50 if not said, at most 500.",
        flags: &[&WAIT, &JSON],
        run: people::oracles,
    },
    Verb {
        name: "presence",
        operands: &[""],
        count: (0, 0),
        summary: "show who is online, away or offline",
        doc: "Shows who of the approved oracles is online or away, and who is offline.",
        flags: &[&WAIT, &JSON],
        run: people::presence,
    },
    Verb {
        name: "pending",
        operands: &[""],
        count: (0, 0),
        summary: "list the accounts that wait for approval (superuser)",
        doc: "Lists the accounts that wait for approval. Needs `login --superuser` or\n\
              ORACLENET_SUPERUSER_TOKEN.",
        flags: &[&WAIT, &JSON],
        run: superuser::pending,
    },
    Verb {
        name: "approve",
        operands: &["ORACLE"],
        count: (1, 1),
        summary: "approve an account (superuser)",
        doc: "Approves an account, by id or exact name. Needs `login --superuser` or\n\
              ORACLENET_SUPERUSER_TOKEN.",
        flags: &[&WAIT, &JSON],
        run: superuser::approve,
    },
    Verb {
        name: "config",
        operands: &["", "URL"],
        count: (0, 1),
        summary: "show the settings, or set the server's address",
        doc: "Shows which server is meant and what is saved, or saves another server's address. The saved\n\
              token belongs to the server that gave it: it is dropped with a word when the address becomes\n\
              another's.",
        flags: &[&JSON],
        run: settings::config,
    },
];
