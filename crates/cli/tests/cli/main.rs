//! The `litekeep` program from outside: arguments in; exit code, stdout and stderr out.

mod args;
mod bad;
mod config;
mod daemon;
mod doctor;
mod fields;
mod folder;
mod guide;
mod limits;
mod listing;
mod many;
mod pair;
mod replicate;
mod reset;
mod restore;
mod scrape;
mod status;
mod usage;
mod util;
mod validation;
mod verify;
