//! Small languages that users write: durations, sizes, times, command lines. Pure functions over text.

pub(crate) mod duration;
pub(crate) mod glob;
pub(crate) mod size;
pub(crate) mod table;
pub(crate) mod time;
pub(crate) mod whole;
pub(crate) mod words;
