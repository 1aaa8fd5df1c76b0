//! Where Litestream's replica lies, where that is elsewhere: to Litestream the whole of `${NAME:-DEFAULT}` is nothing, set or
//! not. Whoever comes from it would be told "no backup" in silence.

use super::notes::{Notes, said};
use super::origin::Origins;
use super::remark::{Place, Remark};
use super::yaml::{Db, File, Replica};
use super::{Pick, Settings, replica};
use crate::world::World;
use serde_saphyr::Spanned;

/// See [`find`].
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Elsewhere {
    /// What Litestream takes for the replica; `None` where it takes none, or where nobody knows.
    pub(crate) replica: Option<Settings>,
    /// What the reader should know, and what to do.
    pub(crate) remark: Remark,
    /// The same as a line, once the file's name is known.
    pub(crate) warning: String,
}

/// The replica of a database by the file as Litestream expands it, where a default makes it another one.
pub(super) fn find(
    world: &World,
    (file, db): (&File, &Spanned<Db>),
    (their_file, their_db): (&File, &Spanned<Db>),
    pick: Pick<'_>,
    notes: &mut Notes,
) -> Option<Elsewhere> {
    let mut unheard = Notes::default();
    let one = replica::chosen(db, pick, &mut unheard)?;
    let theirs = replica::chosen(their_db, pick, &mut unheard)?;
    let differing = [
        ("path", path(&one.value), path(&theirs.value)),
        ("url", url(&one.value), url(&theirs.value)),
        ("bucket", bucket(&one.value, file), bucket(&theirs.value, their_file)),
    ];
    let there = replica::locate(world, theirs, &their_file.replica, &mut Origins::default(), &mut unheard);
    let mut first = None;
    for (key, ours, theirs) in differing {
        let Some((place, ours)) = ours else { continue };
        if theirs.is_some_and(|(_, theirs)| theirs == ours) {
            continue;
        }
        let text = told(key, there.as_ref());
        notes.warn(place, text.clone());
        first.get_or_insert(Remark { place: Some(place), text });
    }
    first.map(|remark| Elsewhere { replica: there, remark, warning: String::new() })
}

fn told(key: &str, there: Option<&Settings>) -> String {
    let there = match there {
        Some(there) => {
            format!("a backup that it made lies at {}; to go on with that, write what it used", there.named())
        }
        None => "it makes no replica of this, and does not start; no backup of its lies elsewhere".to_owned(),
    };
    format!(
        "{key}: Litestream makes nothing of all of `${{NAME:-DEFAULT}}`, whether NAME is set or not: {there}; to have one place \
         for both, set the variable and write $NAME"
    )
}

/// A text that says something, with its place.
type Field = Option<(Place, String)>;

fn path(replica: &Replica) -> Field {
    Some((Place::of(replica.path.as_ref()?), said(replica.path.as_ref())?))
}

fn url(replica: &Replica) -> Field {
    let url = replica.url.as_ref()?;
    Some((Place::of(url), url.value.0.expose().to_owned())).filter(|(_, url)| !url.is_empty())
}

/// The bucket counts where there is no URL and the type is s3.
fn bucket(replica: &Replica, file: &File) -> Field {
    let s3 = replica.kind.as_ref().is_some_and(|kind| kind.value == "s3");
    let bucket = replica.settings.bucket.as_ref().or(file.replica.bucket.as_ref());
    let bucket = bucket.filter(|_| s3 && url(replica).is_none())?;
    Some((Place::of(bucket), said(Some(bucket))?))
}
