//! The state as its file spells it: JSON with a format number, and nothing that this version does not know.
//!
//! Never: reads what another version wrote as if it were its own, or decides what a state means.

use super::{State, SumsRecord};
use crate::files::FileId;
use litekeep_core::assess::Position;
use litekeep_formats::{Checksum, PageSize, Salts, TimestampMs, Txid, WalChecksum};
use serde::{Deserialize, Serialize};

/// The state file's format; another number is not read.
const FORMAT: u32 = 2;

/// The state as the file spells it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Spelled {
    format: u32,
    device: u64,
    inode: u64,
    replica: String,
    #[serde(with = "hex_txid")]
    txid: Txid,
    slot: Option<u64>,
    database: Option<u64>,
    commit: u32,
    page_size: u32,
    timestamp_ms: i64,
    salts: [u32; 2],
    frame: u32,
    frame_checksum: [u32; 2],
    tail: u64,
    /// Salts, frame, and the frame's checksum.
    #[serde(default)]
    captured: Option<[u32; 5]>,
    #[serde(default, with = "hex_txid_option")]
    rewound_from: Option<Txid>,
    #[serde(default)]
    content: Option<u64>,
    #[serde(default)]
    forward: Vec<u64>,
    sums: Option<SumsRecord>,
}

pub(super) mod hex_txid {
    use litekeep_formats::Txid;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(in crate::local) fn serialize<S: Serializer>(txid: &Txid, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(txid)
    }

    pub(in crate::local) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Txid, D::Error> {
        let text = String::deserialize(deserializer)?;
        Txid::parse_hex(&text).ok_or_else(|| D::Error::custom("not a transaction id of 16 hex digits"))
    }
}

mod hex_txid_option {
    use litekeep_formats::Txid;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(txid: &Option<Txid>, serializer: S) -> Result<S::Ok, S::Error> {
        txid.map(|txid| txid.to_string()).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Txid>, D::Error> {
        let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
        Txid::parse_hex(&text)
            .map(Some)
            .ok_or_else(|| D::Error::custom("not a transaction id of 16 hex digits"))
    }
}

impl State {
    pub(super) fn spell(&self) -> Vec<u8> {
        let spelled = Spelled {
            format: FORMAT,
            device: self.file.device,
            inode: self.file.inode,
            replica: self.replica.clone(),
            txid: self.txid,
            slot: self.slot.map(Checksum::get),
            database: self.database.map(Checksum::get),
            commit: self.commit,
            page_size: self.page_size.get(),
            timestamp_ms: self.timestamp.0,
            salts: [self.position.salts.0, self.position.salts.1],
            frame: self.position.frame,
            frame_checksum: [self.position.checksum.0, self.position.checksum.1],
            tail: self.tail,
            captured: self
                .captured
                .map(|at| [at.salts.0, at.salts.1, at.frame, at.checksum.0, at.checksum.1]),
            rewound_from: self.rewound_from,
            content: self.content.map(Checksum::get),
            forward: self.forward.iter().map(|content| content.get()).collect(),
            sums: self.sums,
        };
        let mut text = serde_json::to_vec_pretty(&spelled).unwrap_or_default();
        text.push(b'\n');
        text
    }

    /// `None` for anything that this version did not write.
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        let spelled: Spelled = serde_json::from_slice(text).ok()?;
        if spelled.format != FORMAT {
            return None;
        }
        let page_size = PageSize::new(spelled.page_size)?;
        let checksum = |field: Option<u64>| match field {
            None => Some(None),
            Some(field) => Checksum::from_stored(field).map(Some),
        };
        Some(Self {
            file: FileId { device: spelled.device, inode: spelled.inode },
            replica: spelled.replica,
            txid: spelled.txid,
            slot: checksum(spelled.slot)?,
            database: checksum(spelled.database)?,
            commit: spelled.commit,
            page_size,
            timestamp: TimestampMs(spelled.timestamp_ms),
            position: Position {
                page_size,
                salts: Salts(spelled.salts[0], spelled.salts[1]),
                frame: spelled.frame,
                checksum: WalChecksum(spelled.frame_checksum[0], spelled.frame_checksum[1]),
            },
            captured: spelled.captured.map(|[first, second, frame, high, low]| Position {
                page_size,
                salts: Salts(first, second),
                frame,
                checksum: WalChecksum(high, low),
            }),
            tail: spelled.tail,
            rewound_from: spelled.rewound_from,
            content: checksum(spelled.content)?,
            forward: spelled
                .forward
                .into_iter()
                .map(|content| checksum(Some(content))?)
                .collect::<Option<_>>()?,
            sums: spelled.sums,
        })
    }
}
