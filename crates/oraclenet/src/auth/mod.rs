//! Who is asking: tokens, passwords and wallets. Nothing here touches the database or the network.

pub mod password;
pub mod token;
pub mod wallet;
