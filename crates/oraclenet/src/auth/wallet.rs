//! Signing in with an Ethereum wallet: a message with a nonce, and the signature that answers it.
//!
//! Plain `personal_sign` (EIP-191), as OracleNet's clients do it: they sign the message exactly as it is given. No
//! contract wallets (EIP-1271), which would need a node. Which account a wallet opens is not decided here.

use crate::random::{self, Source};
use chrono::{DateTime, SecondsFormat};
use k256::ecdsa::{RecoveryId, Signature, VerifyingKey};
use sha3::{Digest, Keccak256};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::Duration;

/// How long a nonce is good.
pub const NONCE_LIFE: Duration = Duration::from_secs(300);
/// How many nonces are kept, one for each address.
pub const MAX_NONCES: usize = 10_000;
/// The longest public URL that a message names, in characters.
pub const MAX_ORIGIN: usize = 2048;

/// A wallet's address: `0x` and 40 hexadecimal digits, small letters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address(String);

impl Address {
    /// Reads an address in small, large or mixed letters. A wrong EIP-55 checksum is no error: only who holds the
    /// key can answer for the address.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("0x")?;
        let good = digits.len() == 40 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        good.then(|| Self(text.to_ascii_lowercase()))
    }

    /// As it is stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last 20 bytes of the Keccak-256 of the public key's point.
    fn of(key: &VerifyingKey) -> Self {
        let point = key.to_sec1_point(false);
        let hash = Keccak256::digest(&point.as_bytes()[1..]);
        Self(format!("0x{}", hex(&hash[12..])))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is asked of a wallet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// 128 bits in hexadecimal.
    pub nonce: String,
    /// The text to sign.
    pub message: String,
}

/// Why no nonce was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many wallets are signing in; try again in a few minutes")]
pub struct Full;

/// Why a signature does not sign anybody in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// None was given to this address, or it has ended or was used.
    #[error("No nonce found. Call /nonce first")]
    NoNonce,
    /// The signature is wrong.
    #[error("Invalid signature: {0}")]
    Signature(#[from] BadSignature),
}

/// What is wrong with a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSignature {
    /// Not `0x` and 130 hexadecimal digits.
    #[error("it must be 0x and 130 hexadecimal digits")]
    Shape,
    /// The last byte is none of 0, 1, 27, 28.
    #[error("its last byte must be 0, 1, 27 or 28")]
    Recovery,
    /// `s` is in the upper half: the same signature in its other spelling, which no wallet makes (EIP-2).
    #[error("its s is in the upper half of the curve's order")]
    HighS,
    /// No key makes it.
    #[error("no key makes it")]
    Impossible,
    /// Another wallet made it, or it is for another message.
    #[error("it is not this wallet's answer to this message")]
    Other,
}

/// When something happens: the clock that lives are counted by, and the one that people read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Since boot; never goes back.
    pub boot: Duration,
    /// Milliseconds since 1970.
    pub wall_ms: i64,
}

/// The nonces that are out: one for each address, each good once and for [`NONCE_LIFE`], up to a limit.
#[derive(Debug)]
pub struct Nonces {
    limit: usize,
    issued: HashMap<Address, Issued>,
    /// When each ends, oldest first; the number tells those of one instant apart.
    ends: BTreeMap<(Duration, u64), Address>,
    count: u64,
}

#[derive(Debug)]
struct Issued {
    challenge: Challenge,
    end: (Duration, u64),
}

impl Default for Nonces {
    fn default() -> Self {
        Self::new(MAX_NONCES)
    }
}

impl Nonces {
    /// None are out, and no more than `limit` will be.
    pub fn new(limit: usize) -> Self {
        Self { limit, issued: HashMap::new(), ends: BTreeMap::new(), count: 0 }
    }

    /// The nonce of an address: the one that is out, until it ends or is used, or a new one. No living nonce is ever
    /// replaced or pushed out: anybody may ask for any address, and could end anybody's sign-in.
    pub fn issue(
        &mut self,
        address: Address,
        origin: &str,
        now: Now,
        source: &dyn Source,
    ) -> Result<Challenge, Full> {
        self.sweep(now.boot);
        if let Some(issued) = self.issued.get(&address) {
            return Ok(issued.challenge.clone());
        }
        if self.issued.len() >= self.limit {
            return Err(Full);
        }
        let nonce = random::nonce(source);
        let challenge = Challenge { message: message(&nonce, now.wall_ms, origin), nonce };
        self.count += 1;
        let end = (now.boot + NONCE_LIFE, self.count);
        self.ends.insert(end, address.clone());
        self.issued.insert(address, Issued { challenge: challenge.clone(), end });
        Ok(challenge)
    }

    /// Uses up the nonce of an address if `signature` is the wallet's answer to its message. A wrong answer leaves
    /// it where it is, else anybody could use up anybody's.
    pub fn redeem(&mut self, address: &Address, signature: &str, now: Now) -> Result<(), Refusal> {
        self.sweep(now.boot);
        let issued = self.issued.get(address).ok_or(Refusal::NoNonce)?;
        verify(&issued.challenge.message, signature, address)?;
        self.remove(address);
        Ok(())
    }

    /// How many are out.
    pub fn len(&self) -> usize {
        self.issued.len()
    }

    /// Whether none is out.
    pub fn is_empty(&self) -> bool {
        self.issued.is_empty()
    }

    fn remove(&mut self, address: &Address) {
        if let Some(issued) = self.issued.remove(address) {
            self.ends.remove(&issued.end);
        }
    }

    /// Forgets what has ended. Each nonce is swept once, so a request pays for its own.
    fn sweep(&mut self, now: Duration) {
        while let Some(first) = self.ends.first_entry().filter(|first| first.key().0 <= now) {
            let address = first.remove();
            self.issued.remove(&address);
        }
    }
}

/// The text to sign. `origin` is the server's public URL, so that a wallet shows whom it answers and another server
/// cannot pass the answer on.
pub fn message(nonce: &str, wall_ms: i64, origin: &str) -> String {
    let time = DateTime::from_timestamp_millis(wall_ms).unwrap_or_default();
    let time = time.to_rfc3339_opts(SecondsFormat::Millis, true);
    // One line, whatever it holds: a second one could say something else.
    let origin: String = origin.chars().filter(|c| !c.is_control()).take(MAX_ORIGIN).collect();
    format!("Sign in to OracleNet\n\nNonce: {nonce}\nTimestamp: {time}\nOrigin: {origin}")
}

/// Whether `signature` is what the wallet `address` makes of `message`: 65 bytes r, s, v in hexadecimal.
pub fn verify(message: &str, signature: &str, address: &Address) -> Result<(), BadSignature> {
    if recover(message, signature)? == *address { Ok(()) } else { Err(BadSignature::Other) }
}

/// The wallet that made `signature` of `message`.
fn recover(message: &str, signature: &str) -> Result<Address, BadSignature> {
    let bytes = unhex(signature).ok_or(BadSignature::Shape)?;
    let (signature, v) = (&bytes[..64], bytes[64]);
    let recovery = match v {
        0 | 1 => v,
        27 | 28 => v - 27,
        _ => return Err(BadSignature::Recovery),
    };
    let recovery = RecoveryId::from_byte(recovery).ok_or(BadSignature::Recovery)?;
    let signature = Signature::from_slice(signature).map_err(|_| BadSignature::Impossible)?;
    if signature.normalize_s() != signature {
        return Err(BadSignature::HighS);
    }
    let hash = personal_hash(message);
    let key = VerifyingKey::recover_from_prehash(&hash, &signature, recovery)
        .map_err(|_| BadSignature::Impossible)?;
    Ok(Address::of(&key))
}

/// EIP-191, version `E`: the length is in bytes, in decimal.
fn personal_hash(message: &str) -> [u8; 32] {
    let mut hash = Keccak256::new();
    hash.update(format!("\x19Ethereum Signed Message:\n{}", message.len()));
    hash.update(message);
    hash.finalize().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `0x` and 130 hexadecimal digits.
fn unhex(text: &str) -> Option<[u8; 65]> {
    let digits = text.strip_prefix("0x")?.as_bytes();
    if digits.len() != 130 {
        return None;
    }
    let mut bytes = [0; 65];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16).and_then(|it| u8::try_from(it).ok());
        *byte = digit(0)? << 4 | digit(1)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests;
