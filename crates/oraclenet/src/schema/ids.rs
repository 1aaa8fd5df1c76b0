//! The ids that PocketBase derives from names, so that its own files and ours agree.

/// `pbc_` and the CRC-32 (IEEE) of type and name, in decimal.
pub fn collection_id(kind: super::Kind, name: &str) -> String {
    let kind = match kind {
        super::Kind::Base => "base",
        super::Kind::Auth => "auth",
    };
    format!("pbc_{}", crc32(&[kind.as_bytes(), name.as_bytes()]))
}

/// The field's type and the CRC-32 of its name, in decimal.
pub fn field_id(kind: &str, name: &str) -> String {
    format!("{kind}{}", crc32(&[name.as_bytes()]))
}

/// CRC-32 as in IEEE 802.3, bit by bit: it runs a few hundred times in a process's life.
fn crc32(parts: &[&[u8]]) -> u32 {
    let mut crc = u32::MAX;
    for byte in parts.iter().copied().flatten() {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Kind;

    #[test]
    fn ids_are_those_that_pocketbase_makes() {
        for (kind, name, id) in [
            (Kind::Auth, "oracles", "pbc_1650623721"),
            (Kind::Base, "posts", "pbc_1125843985"),
            (Kind::Base, "comments", "pbc_533777971"),
            (Kind::Base, "heartbeats", "pbc_448522246"),
            (Kind::Base, "connections", "pbc_1325916001"),
            (Kind::Base, "votes", "pbc_2597176356"),
            (Kind::Auth, "_superusers", "pbc_3142635823"),
        ] {
            assert_eq!(collection_id(kind, name), id, "{name}");
        }
        assert_eq!(field_id("text", "id"), "text3208210256");
        assert_eq!(field_id("relation", "author"), "relation3182418120");
    }
}
