//! `litekeep completion` and `litekeep man`: what is made from the table of flags.

use super::find;
use crate::flags::{Parsed, completion, man};
use crate::output;
use crate::trouble::{Exit, Trouble};
use crate::world::World;

/// Prints a shell's completions.
pub(crate) fn completion(_: &World, parsed: &Parsed) -> Result<Exit, Trouble> {
    let script = match parsed.operands.first().map(String::as_str) {
        Some("bash") => completion::bash(),
        Some("zsh") => completion::zsh(),
        Some("fish") => completion::fish(),
        Some(other) => {
            let what = format!("there are no completions for {other}");
            return Err(Trouble::new(what).hint("bash, zsh or fish"));
        }
        None => return Err(Trouble::new("no shell is named").hint("bash, zsh or fish")),
    };
    output::text(&script).map(|()| Exit::OK)
}

/// Prints a manual page.
pub(crate) fn man(_: &World, parsed: &Parsed) -> Result<Exit, Trouble> {
    let page = match &parsed.operands[..] {
        [] => man::overview(),
        [name] if name == "help" => man::overview(),
        [name] => man::page(find(name)?),
        // the page of `config` is that of `config check`
        [name, command, ..] if find(name)?.operands.contains(&command.as_str()) => man::page(find(name)?),
        [name, command, ..] => return find(&format!("{name} {command}")).map(|_| Exit::OK),
    };
    output::text(&page).map(|()| Exit::OK)
}
