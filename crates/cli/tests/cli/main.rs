//! The `litekeep` program from outside: arguments in; exit code, stdout and stderr out.

mod args;
mod config;
mod daemon;
mod doctor;
mod listing;
mod many;
mod replicate;
mod reset;
mod restore;
mod scrape;
mod usage;
mod util;
mod verify;
