//! What `replicate` refuses at once of a file that is understood: a command that cannot be run, folders that are not what
//! they must be, databases that are none, nothing to replicate. Looks at the disk, and changes nothing.
//!
//! A restore does not ask: it has to work with a file whose command or folders are gone.

use super::local_state;
use super::origin::{Origin, Origins};
use super::remark::{Place, Remark};
use super::{Config, Database, Directory};
use crate::daemon::{verdict, verifier};
use crate::text::words;
use crate::verbs::input;
use litekeep::local;
use litekeep_store::location::Settings;
use std::path::Path;

/// Finds them; `own_command` is the file's, unless a flag goes before it.
pub(super) fn judge(config: &Config, own_command: bool) -> Vec<Remark> {
    let mut found = Vec::new();
    if let Some(line) = config.exec.as_deref().filter(|_| own_command)
        && let Err(why) = words::split(line)
    {
        let text =
            format!("exec: {why}; quote it as a shell would, what needs a shell goes to `sh -c '...'`");
        found.push(Remark { place: place(&config.origins, "exec"), text });
    }
    // Databases may come by the control socket, but not to a command.
    let may_come = config.socket.enabled && config.exec.is_none() && own_command;
    if config.databases.is_empty() && config.directories.is_empty() && !may_come {
        let text = "there is no database to replicate: list them under `dbs:`".to_owned();
        found.push(Remark { place: None, text });
    }
    found.extend(config.databases.iter().filter_map(state));
    found.extend(config.databases.iter().filter_map(file));
    found.extend(config.databases.iter().filter_map(|database| {
        Some(Remark { text: entangled(database)?, place: place(&database.origins, "path") })
    }));
    found.extend(config.directories.iter().flat_map(folders));
    found.sort();
    found
}

/// A local state that has no place.
fn state(database: &Database) -> Option<Remark> {
    let meta = database.settings.meta_path.as_deref();
    let key = if meta.is_some() { "meta-path" } else { "path" };
    let text = no_folder(&local_state(&database.path, meta))?;
    Some(Remark { place: place(&database.origins, key), text: format!("{key}: {text}") })
}

/// A database that is none.
fn file(database: &Database) -> Option<Remark> {
    let trouble = input::judge(&database.path).err()?;
    Some(Remark { place: place(&database.origins, "path"), text: format!("path: {trouble}") })
}

/// Why a replica can't lie in a directory where something else of its database has its place.
pub(crate) fn entangled(database: &Database) -> Option<String> {
    let Settings::Directory(replica) = &database.replica else { return None };
    let state = local_state(&database.path, database.settings.meta_path.as_deref());
    if replica.starts_with(&database.path) {
        Some("the replica's `path` is the database itself: name a directory of its own".to_owned())
    } else if replica.strip_prefix(&state).is_ok_and(is_the_states) {
        let state = state.display();
        Some(format!(
            "the replica lies where the local state in {state} has files: name a directory of its own"
        ))
    } else {
        None
    }
}

/// Whether the local state has, or sweeps away, what this path begins with; or it is the state's own directory.
fn is_the_states(below: &Path) -> bool {
    let Some(name) = below.iter().next().map(|name| name.to_string_lossy()) else { return true };
    local::is_ours(&name) || [verdict::FILE, verifier::SCRATCH].contains(&&*name)
}

fn folders(directory: &Directory) -> Vec<Remark> {
    let remark = |key, text| Remark { place: place(&directory.template.origins, key), text };
    let unread = std::fs::read_dir(&directory.path).err().map(|error| {
        let text = format!("dir: can't read the directory {}: {error}", directory.path.display());
        remark("dir", format!("{text}; make it, or let this user read it"))
    });
    let meta = directory.meta_dir.as_deref();
    let same = match &directory.template.replica {
        Settings::Directory(replica) => meta == Some(replica.as_path()),
        Settings::S3(_) => false,
    };
    let same = same.then(|| "the replica lies in the same directory: give each its own".to_owned());
    let meta = meta.and_then(no_folder).or(same);
    unread.into_iter().chain(meta.map(|text| remark("meta-dir", format!("meta-dir: {text}")))).collect()
}

/// Why the local state can't go there: what is not there yet is made.
fn no_folder(path: &Path) -> Option<String> {
    let there = std::fs::metadata(path).ok()?;
    let shown = path.display();
    (!there.is_dir()).then(|| {
        format!("the local state goes into {shown}, which is no directory: name one, or move it away")
    })
}

fn place(origins: &Origins, key: &str) -> Option<Place> {
    match origins.get(key)? {
        Origin::File(place) | Origin::Mapped(_, place) | Origin::Shared(place) => Some(*place),
        Origin::Environment(_) => None,
    }
}
