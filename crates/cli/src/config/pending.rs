//! What the file may ask for and the daemon does not do yet: all of it in one place, so that it goes with one change.

use super::notes::Notes;
use super::remark::Place;
use super::yaml::File;

/// Refuses directories, and warns of what is not served.
pub(super) fn judge(file: &File, notes: &mut Notes) {
    for dir in file.dbs.iter().flatten().filter_map(|db| db.value.dir.as_ref()) {
        notes.problem(Place::of(dir), "`dir` is not supported yet: list each database by its `path`");
    }
    notes.in_vain("heartbeat-url", file.heartbeat_url.as_ref(), "no heartbeat is sent yet");
    let interval = file.validation.as_ref().and_then(|validation| validation.interval.as_ref());
    notes.in_vain("validation: interval", interval, "replicas are not verified by interval yet");
}
