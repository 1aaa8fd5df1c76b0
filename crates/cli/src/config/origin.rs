//! Where each setting came from.

use super::remark::Place;
use std::collections::BTreeMap;

/// Where a setting came from; what is in no [`Origins`] is a default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The file, here.
    File(Place),
    /// A key of v0.3, here.
    Mapped(&'static str, Place),
    /// What another database says of itself, here: as in Litestream it counts for all.
    Shared(Place),
    /// The environment or what it names: a variable, a profile, a role.
    Environment(String),
}

/// The settings, by their keys, that are no defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Origins(BTreeMap<&'static str, Origin>);

impl Origins {
    /// Notes where a setting came from; the last word counts.
    pub(crate) fn set(&mut self, key: &'static str, origin: Origin) {
        self.0.insert(key, origin);
    }

    /// Where a setting came from.
    pub(crate) fn get(&self, key: &str) -> Option<&Origin> {
        self.0.get(key)
    }

    /// Changes every place.
    pub(crate) fn places(&mut self, change: impl Fn(Place) -> Place) {
        for origin in self.0.values_mut() {
            match origin {
                Origin::File(place) | Origin::Mapped(_, place) | Origin::Shared(place) => {
                    *place = change(*place);
                }
                Origin::Environment(_) => {}
            }
        }
    }
}
