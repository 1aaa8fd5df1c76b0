//! Wallets against vectors of web3.js and against every way to bend a signature.

use super::*;
use crate::random::System;
use k256::ecdsa::SigningKey;

/// The example of web3.js' documentation (`eth.accounts.sign`).
const KEY: &str = "4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318";
const WALLET: &str = "0x2c7536E3605D9C16a7a3D7b1898e529396a65c23";
const SIGNATURE: &str = "0xb91467e570a6466aa9e9876cbcd013baba02900b8979d43fe208a4a4f339f5fd6007e74cd82e037b800186422fc2da167c747ef045e5d18a5f5d4300f8e1a0291c";
const ORIGIN: &str = "https://oracles.example";

fn address(text: &str) -> Address {
    Address::parse(text).expect("an address")
}

fn at(seconds: u64) -> Now {
    Now { boot: Duration::from_secs(seconds), wall_ms: 1_769_904_000_123 }
}

fn bytes(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex")).collect()
}

/// What the wallet of web3.js' example answers.
fn sign(message: &str) -> String {
    let key = SigningKey::from_slice(&bytes(KEY)).expect("a key");
    let (signature, recovery) = key.sign_prehash_recoverable(&personal_hash(message));
    format!("0x{}{:02x}", hex(&signature.to_bytes()), recovery.to_byte() + 27)
}

/// The other spelling of a signature: -s and the other v.
fn twin(signature: &str) -> String {
    let all = bytes(&signature[2..]);
    let (r, s) = Signature::from_slice(&all[..64]).expect("a signature").split_scalars();
    let high = Signature::from_scalars(r, -s).expect("a signature");
    format!("0x{}{:02x}", hex(&high.to_bytes()), 27 + (28 - all[64]))
}

#[test]
fn a_signature_of_web3_is_its_wallet_s() {
    assert_eq!(verify("Some data", SIGNATURE, &address(WALLET)), Ok(()));
    assert_eq!(
        hex(&personal_hash("Some data")),
        "1da44b586eb0729ff70a73c326926f6ed5a25f5b056e7f47fbc6e58d86871655"
    );
    assert_eq!(sign("Some data"), SIGNATURE, "the tests' wallet is the same one");
}

#[test]
fn the_length_of_a_message_is_in_bytes() {
    let message = "gr\u{fc}\u{df}e \u{1f99e}";
    assert_eq!(verify(message, &sign(message), &address(WALLET)), Ok(()));
}

#[test]
fn a_bent_signature_is_refused_for_what_is_wrong_with_it() {
    use BadSignature::{HighS, Impossible, Other, Recovery, Shape};
    let (r, s) = (&SIGNATURE[2..66], &SIGNATURE[66..130]);
    let with_v = |v: &str| format!("0x{r}{s}{v}");
    let order = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";
    let zero = "0".repeat(64);
    for (name, signature, expected) in [
        ("as it is", SIGNATURE.to_owned(), Ok(())),
        ("v 1 for 28", with_v("01"), Ok(())),
        ("in capitals", format!("0x{}", SIGNATURE[2..].to_uppercase()), Ok(())),
        ("the other v", with_v("1b"), Err(Other)),
        ("the other v, 0", with_v("00"), Err(Other)),
        ("v 2", with_v("02"), Err(Recovery)),
        ("v 26", with_v("1a"), Err(Recovery)),
        ("v 29", with_v("1d"), Err(Recovery)),
        ("v of EIP-155", with_v("25"), Err(Recovery)),
        ("v 255", with_v("ff"), Err(Recovery)),
        ("the high twin", twin(SIGNATURE), Err(HighS)),
        ("r zero", format!("0x{zero}{s}1c"), Err(Impossible)),
        ("s zero", format!("0x{r}{zero}1c"), Err(Impossible)),
        ("r the order", format!("0x{order}{s}1c"), Err(Impossible)),
        ("s the order", format!("0x{r}{order}1c"), Err(Impossible)),
        ("nothing", String::new(), Err(Shape)),
        ("0x", "0x".to_owned(), Err(Shape)),
        ("without 0x", SIGNATURE[2..].to_owned(), Err(Shape)),
        ("a byte short", SIGNATURE[..130].to_owned(), Err(Shape)),
        ("half a byte short", SIGNATURE[..131].to_owned(), Err(Shape)),
        ("a byte long", format!("{SIGNATURE}00"), Err(Shape)),
        ("compact (EIP-2098)", format!("0x{r}{s}"), Err(Shape)),
        ("no digit", SIGNATURE.replacen('b', "g", 1), Err(Shape)),
        ("a sign for a digit", SIGNATURE.replacen("b9", "+9", 1), Err(Shape)),
        ("other letters", format!("0x{}", "\u{e9}".repeat(65)), Err(Shape)),
        ("far too long", format!("0x{}", "1b".repeat(100_000)), Err(Shape)),
    ] {
        assert_eq!(verify("Some data", &signature, &address(WALLET)), expected, "{name}");
    }
    assert_eq!(verify("Some datb", SIGNATURE, &address(WALLET)), Err(Other));
    let other = address("0x2c7536e3605d9c16a7a3d7b1898e529396a65c24");
    assert_eq!(verify("Some data", SIGNATURE, &other), Err(Other));
}

#[test]
fn addresses_are_stored_in_small_letters() {
    let small = WALLET.to_lowercase();
    for (text, good) in [
        (WALLET, true),
        (small.as_str(), true),
        ("0x2C7536E3605D9C16A7A3D7B1898E529396A65C23", true),
        ("0X2c7536e3605d9c16a7a3d7b1898e529396a65c23", false),
        ("2c7536e3605d9c16a7a3d7b1898e529396a65c23", false),
        ("0x2c7536e3605d9c16a7a3d7b1898e529396a65c2", false),
        ("0x2c7536e3605d9c16a7a3d7b1898e529396a65c230", false),
        ("0x2c7536e3605d9c16a7a3d7b1898e529396a65c2g", false),
        (" 0x2c7536e3605d9c16a7a3d7b1898e529396a65c2", false),
        ("0x", false),
        ("", false),
    ] {
        let parsed = Address::parse(text);
        assert_eq!(parsed.as_ref().map(Address::as_str), good.then_some(small.as_str()), "{text}");
    }
}

#[test]
fn the_message_is_that_of_the_original_with_the_origin() {
    assert_eq!(
        message("0123", 1_769_904_000_123, ORIGIN),
        "Sign in to OracleNet\n\nNonce: 0123\nTimestamp: 2026-02-01T00:00:00.123Z\nOrigin: https://oracles.example"
    );
    assert_eq!(
        message("0", 0, "https://a.example\nNonce: 1\r\u{85}"),
        "Sign in to OracleNet\n\nNonce: 0\nTimestamp: 1970-01-01T00:00:00.000Z\nOrigin: https://a.exampleNonce: 1"
    );
}

#[test]
fn a_nonce_is_good_once_and_for_five_minutes() {
    let source = System::open().expect("a source");
    let wallet = address(WALLET);
    for (name, after, expected) in [
        ("at once", 0, Ok(())),
        ("in the last second", 299, Ok(())),
        ("after five minutes", 300, Err(Refusal::NoNonce)),
    ] {
        let mut nonces = Nonces::default();
        let challenge = nonces.issue(wallet.clone(), ORIGIN, at(7), &source).expect("room");
        assert_eq!(challenge.nonce.len(), 32);
        assert!(challenge.message.contains(&challenge.nonce));
        let answer = sign(&challenge.message);
        assert_eq!(nonces.redeem(&wallet, &answer, at(7 + after)), expected, "{name}");
        assert_eq!(nonces.redeem(&wallet, &answer, at(7 + after)), Err(Refusal::NoNonce), "{name}: again");
        assert!(nonces.is_empty() && nonces.ends.is_empty(), "{name}");
    }
}

#[test]
fn a_living_nonce_is_handed_out_again_and_a_wrong_answer_takes_nothing() {
    let source = System::open().expect("a source");
    let wallet = address(WALLET);
    let mut nonces = Nonces::default();
    let first = nonces.issue(wallet.clone(), ORIGIN, at(0), &source).expect("room");
    // Somebody else asks for this address while its owner signs.
    assert_eq!(nonces.issue(wallet.clone(), ORIGIN, at(200), &source).expect("room"), first);
    assert_eq!((nonces.len(), nonces.ends.len()), (1, 1));
    let wrong = Err(Refusal::Signature(BadSignature::Other));
    assert_eq!(nonces.redeem(&wallet, &sign("another message"), at(201)), wrong);
    let other = address("0x0000000000000000000000000000000000000001");
    assert_eq!(nonces.redeem(&other, &sign(&first.message), at(201)), Err(Refusal::NoNonce));
    assert_eq!(nonces.redeem(&wallet, &sign(&first.message), at(299)), Ok(()));
    let next = nonces.issue(wallet.clone(), ORIGIN, at(299), &source).expect("room");
    assert_ne!(next.nonce, first.nonce, "the first was used");
    let last = nonces.issue(wallet, ORIGIN, at(599), &source).expect("room");
    assert_ne!(last.nonce, next.nonce, "the second has ended, as it would have if nobody had asked again");
}

#[test]
fn nonces_fill_up_to_their_limit_and_make_room_when_they_end() {
    let source = System::open().expect("a source");
    let nth = |n: u64| address(&format!("0x{n:040x}"));
    let mut nonces = Nonces::new(3);
    for n in 0..3 {
        assert!(nonces.issue(nth(n), ORIGIN, at(n), &source).is_ok(), "{n}");
    }
    assert_eq!(nonces.issue(nth(3), ORIGIN, at(299), &source), Err(Full));
    assert!(nonces.issue(nth(1), ORIGIN, at(299), &source).is_ok(), "who has one is told it again");
    assert!(nonces.issue(nth(3), ORIGIN, at(300), &source).is_ok(), "the first has ended");
    assert_eq!(nonces.issue(nth(4), ORIGIN, at(300), &source), Err(Full));
    assert!(nonces.issue(nth(4), ORIGIN, at(301), &source).is_ok(), "the second has ended");
    assert_eq!((nonces.len(), nonces.ends.len()), (3, 3));
    for n in 0..1000 {
        nonces.issue(nth(4), ORIGIN, at(303 + n % 2), &source).expect("the same again");
        assert_eq!((nonces.len(), nonces.ends.len()), (2, 2), "asking again takes no memory");
    }
}
