//! Signing in by wallet, as the original's clients do it: ask for a nonce, sign the message as it is given, verify.

use crate::common::ADMIN;
use crate::rig::{Place, Reply, Running, start};
use k256::ecdsa::SigningKey;
use serde_json::{Value, json};
use sha3::{Digest, Keccak256};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A wallet that signs what it is shown (`personal_sign`, EIP-191).
struct Wallet(SigningKey);

impl Wallet {
    fn new(seed: u8) -> Self {
        Self(SigningKey::from_slice(&[seed; 32]).expect("a key"))
    }

    fn address(&self) -> String {
        let point = self.0.verifying_key().to_sec1_point(false);
        format!("0x{}", hex(&Keccak256::digest(&point.as_bytes()[1..])[12..]))
    }

    fn sign(&self, message: &str) -> String {
        let text = format!("\x19Ethereum Signed Message:\n{}{message}", message.len());
        let digest = Keccak256::digest(text.as_bytes());
        let (signature, recovery) = self.0.sign_prehash_recoverable(&digest);
        format!("0x{}{:02x}", hex(&signature.to_bytes()), 27 + recovery.to_byte())
    }

    fn sign_in(&self, server: &Running, name: &str) -> Reply {
        let nonce = server.call("POST", "/nonce", "", &json!({ "address": self.address() }));
        let message = nonce.body["message"].as_str().expect("a message").to_owned();
        assert!(message.starts_with("Sign in to OracleNet\n\nNonce: "), "{message}");
        assert!(message.contains(&format!("\nOrigin: http://{}", server.address)), "{message}");
        let body = json!({ "address": self.address(), "signature": self.sign(&message), "name": name });
        server.call("POST", "/verify", "", &body)
    }
}

#[test]
fn a_wallet_signs_its_oracle_in_once_a_nonce_and_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let (data, place) = (folder.path().join("pb_data"), Place::directory(&folder.path().join("bucket")));
    let server = start(&data, &place, &[]).unwrap();
    let (wallet, thief) = (Wallet::new(7), Wallet::new(8));
    let made = wallet.sign_in(&server, "Walter");
    assert_eq!(made.status, 200, "{made:?}");
    assert!(made.header("x-replicated-txid").is_some(), "an account is answered when it is in the replica");
    let oracle = &made.body["oracle"];
    assert_eq!((&made.body["created"], &oracle["name"]), (&json!(true), &json!("Walter")));
    assert_eq!((&oracle["approved"], &oracle["karma"]), (&json!(false), &json!(0)), "approval is a person's");
    assert_eq!(oracle["wallet_address"], json!(wallet.address()));

    // What the original let anybody do: the address is public, and was the password.
    let mail = format!("{}@wallet.oraclenet", wallet.address().trim_start_matches("0x"));
    let guess = json!({ "identity": mail, "password": wallet.address() });
    assert_eq!(server.call("POST", "/api/collections/oracles/auth-with-password", "", &guess).status, 400);

    // Another wallet's signature, a second use, a nonce that was never given.
    let nonce = server.call("POST", "/nonce", "", &json!({ "address": wallet.address() }));
    let message = nonce.body["message"].as_str().unwrap();
    let verify = |wallet: &Wallet, signature: String| {
        server.call("POST", "/verify", "", &json!({ "address": wallet.address(), "signature": signature }))
    };
    assert_eq!(verify(&wallet, thief.sign(message)).status, 401);
    assert_eq!(verify(&thief, thief.sign(message)).status, 400);
    let again = verify(&wallet, wallet.sign(message));
    assert_eq!((again.status, &again.body["created"]), (200, &json!(false)));
    assert_eq!(again.body["oracle"]["id"], oracle["id"]);
    assert_eq!(verify(&wallet, wallet.sign(message)).status, 400, "a nonce is good once");

    server.kill();
    std::fs::remove_dir_all(&data).unwrap();
    let server = start(&data, &place, &["--auto-approve-wallets"]).unwrap();
    let back = wallet.sign_in(&server, "");
    assert_eq!((&back.body["created"], &back.body["oracle"]["id"]), (&json!(false), &oracle["id"]));
    assert_eq!(back.body["oracle"]["approved"], json!(false), "only new ones are approved by themselves");
    let second = thief.sign_in(&server, "");
    assert_eq!(second.body["oracle"]["approved"], json!(true));
    let name = format!("Oracle-{}", &thief.address()[..6]);
    assert_eq!(second.body["oracle"]["name"], json!(name));
    let token = second.body["token"].as_str().unwrap();
    let post = json!({ "title": "T", "content": "C" });
    assert_eq!(server.call("POST", "/api/collections/posts/records", token, &post).status, 200);
    let admin = server.sign_in("_superusers", ADMIN.0, ADMIN.1);
    let info = server.call(
        "GET",
        "/api/collections/oracles/records?filter=wallet_address!=''",
        &admin,
        &Value::Null,
    );
    assert_eq!(info.body["totalItems"], json!(2));
}
