//! What the file may ask for and the daemon does not do yet: all of it in one place, so that it goes with one change.

use super::notes::Notes;
use super::yaml::File;

/// Warns of what is not done.
pub(super) fn judge(file: &File, notes: &mut Notes) {
    let interval = file.validation.as_ref().and_then(|validation| validation.interval.as_ref());
    notes.in_vain("validation: interval", interval, "replicas are not verified by interval yet");
}
