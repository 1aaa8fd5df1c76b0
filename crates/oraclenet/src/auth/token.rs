//! PocketBase's tokens: a JSON Web Token signed by HS256 with the record's `tokenKey` and the collection's secret.
//!
//! A token made by PocketBase is good here and the other way round, byte for byte. A token is never believed before
//! [`verify`]; [`peek`] only says whose key would have signed it. A bad token is `None`, whatever is wrong with it:
//! the request goes on as a guest's, and the sender learns nothing about the key.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde::{Deserialize, Serialize};

/// The `type` of a token that signs a request.
pub const AUTH: &str = "auth";
/// `{"alg":"HS256","typ":"JWT"}`, as PocketBase writes it.
const HEADER: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9";
/// Bytes of a token. Ours have 232; more than this is not looked at.
const MAX_TOKEN: usize = 2048;
/// Bytes of an HMAC-SHA256 in base64.
const SIGNATURE_TEXT: usize = 43;
/// PocketBase refuses collection secrets that are shorter, in bytes.
const MIN_SECRET: usize = 30;

/// What a token says, once it is verified. The fields stand in the order in which PocketBase writes them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claims {
    /// The account's collection.
    pub collection_id: String,
    /// When it ends, in seconds since 1970.
    pub exp: i64,
    /// The account.
    pub id: String,
    /// Whether `auth-refresh` gives a new one for it.
    pub refreshable: bool,
    /// [`AUTH`]; PocketBase has others for files and mails.
    #[serde(rename = "type")]
    pub kind: String,
}

impl Claims {
    /// The claims of a token that signs requests until `exp`, in seconds since 1970.
    pub fn auth(collection_id: &str, id: &str, refreshable: bool, exp: i64) -> Self {
        let (collection_id, id) = (collection_id.to_owned(), id.to_owned());
        Self { collection_id, exp, id, refreshable, kind: AUTH.to_owned() }
    }
}

/// What a token claims without proof: good for finding the key, for nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unverified {
    /// The account's collection, if it is true.
    pub collection_id: String,
    /// The account, if it is true.
    pub id: String,
    /// The `type`, if it is true.
    pub kind: String,
    /// When it ends, in seconds since 1970, if it is true.
    pub exp: i64,
    /// Whether it may be renewed, if it is true.
    pub refreshable: bool,
}

/// What signs the tokens of one account. Its `Debug` does not show it.
#[derive(Debug, Clone)]
pub struct Key(hmac::Key);

impl Key {
    /// From the record's `tokenKey` and the secret of its collection. `None` if one of them is missing: tokens could
    /// then be forged, or could not be called back.
    pub fn new(token_key: &str, secret: &str) -> Option<Self> {
        if token_key.is_empty() || secret.len() < MIN_SECRET {
            return None;
        }
        let key = [token_key.as_bytes(), secret.as_bytes()].concat();
        Some(Self(hmac::Key::new(hmac::HMAC_SHA256, &key)))
    }
}

/// Makes the token that says `claims`.
pub fn mint(claims: &Claims, key: &Key) -> String {
    let body = serde_json::to_vec(claims).expect("BUG: strings, a number and a bool are JSON");
    let signed = format!("{HEADER}.{}", URL_SAFE_NO_PAD.encode(body));
    let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key.0, signed.as_bytes()));
    format!("{signed}.{signature}")
}

/// What a token claims, unproven. Takes nothing else than HS256 with the claims of a PocketBase token.
pub fn peek(token: &str) -> Option<Unverified> {
    let Claims { collection_id, exp, id, refreshable, kind } = Parts::of(token)?.claims()?;
    Some(Unverified { collection_id, id, kind, exp, refreshable })
}

/// What a token says, if `key` signed it, it is for requests, and it has not ended at `now` (seconds since 1970).
pub fn verify(token: &str, key: &Key, now: i64) -> Option<Claims> {
    let parts = Parts::of(token)?;
    let signature = decode(parts.signature)?;
    // Compares in constant time.
    hmac::verify(&key.0, parts.signed.as_bytes(), &signature).ok()?;
    parts.claims().filter(|claims| claims.kind == AUTH && now < claims.exp)
}

/// A token taken apart, its header found good.
struct Parts<'a> {
    /// Header, dot and body.
    signed: &'a str,
    body: &'a str,
    signature: &'a str,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    typ: Option<String>,
}

impl<'a> Parts<'a> {
    fn of(token: &'a str) -> Option<Self> {
        if token.len() > MAX_TOKEN {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, body) = signed.split_once('.')?;
        if signature.len() != SIGNATURE_TEXT {
            return None;
        }
        // `none` and every other way to sign end here, before a key is looked for.
        let header: Header = serde_json::from_slice(&decode(header)?).ok()?;
        let known = header.alg == "HS256" && header.typ.is_none_or(|it| it == "JWT");
        known.then_some(Self { signed, body, signature })
    }

    fn claims(&self) -> Option<Claims> {
        serde_json::from_slice(&decode(self.body)?).ok()
    }
}

/// Strict: the URL's alphabet, no padding, no bits left over. So a token has one spelling.
fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    // What PocketBase 0.36.1 made for an account of a server that is gone.
    const TOKEN_KEY: &str = "Tbma3UA477CqLalInq3yyNlJoNEOVdLbj2WSEDm3NTMmmRrjVO";
    const SECRET: &str = "w6xRuaKl7bnw6qqmWViQp5ymNLznOf3IZE4GgoTgNhNa2UZqz9";
    const FROM_LOGIN: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJjb2xsZWN0aW9uSWQiOiJwYmNfMTY1MDYyMzcyMSIsImV4cCI6MTc5NjI0NTIzMiwiaWQiOiJxbGlybG9rcjd5Y3U3dTciLCJyZWZyZXNoYWJsZSI6dHJ1ZSwidHlwZSI6ImF1dGgifQ.5dnZia3zzQCBiMfjFq8BG2_g0GuaI6097C6C59v3mGY";
    const FROM_IMPERSONATE: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJjb2xsZWN0aW9uSWQiOiJwYmNfMTY1MDYyMzcyMSIsImV4cCI6MTc5NTY0NDAzMiwiaWQiOiJxbGlybG9rcjd5Y3U3dTciLCJyZWZyZXNoYWJsZSI6ZmFsc2UsInR5cGUiOiJhdXRoIn0.AThtSqNRgHCT9IlWY3mFNctJyLvbLR-EgLGas1ELHUI";
    const ENDS: i64 = 1_796_245_232;

    fn key() -> Key {
        Key::new(TOKEN_KEY, SECRET).expect("a key")
    }

    fn golden() -> Claims {
        Claims::auth("pbc_1650623721", "qlirlokr7ycu7u7", true, ENDS)
    }

    /// A token with any header and body, signed well.
    fn signed(header: &str, body: &str) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(body));
        let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key().0, signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    #[test]
    fn tokens_are_those_of_pocketbase_byte_for_byte() {
        let impersonated = Claims::auth("pbc_1650623721", "qlirlokr7ycu7u7", false, 1_795_644_032);
        for (token, claims) in [(FROM_LOGIN, golden()), (FROM_IMPERSONATE, impersonated)] {
            assert_eq!(verify(token, &key(), claims.exp - 1).as_ref(), Some(&claims));
            assert_eq!(mint(&claims, &key()), token);
            let Claims { collection_id, exp, id, refreshable, kind } = claims;
            assert_eq!(peek(token), Some(Unverified { collection_id, id, kind, exp, refreshable }));
        }
    }

    #[test]
    fn a_token_ends_at_its_second() {
        for (now, good) in [(0, true), (ENDS - 1, true), (ENDS, false), (i64::MAX, false)] {
            assert_eq!(verify(FROM_LOGIN, &key(), now).is_some(), good, "{now}");
        }
    }

    #[test]
    fn only_the_right_key_opens_a_token() {
        for (token_key, secret) in [
            ("Tbma3UA477CqLalInq3yyNlJoNEOVdLbj2WSEDm3NTMmmRrjVo", SECRET),
            (TOKEN_KEY, "w6xRuaKl7bnw6qqmWViQp5ymNLznOf3IZE4GgoTgNhNa2UZqz8"),
            (SECRET, TOKEN_KEY),
        ] {
            let key = Key::new(token_key, secret).expect("a key");
            assert_eq!(verify(FROM_LOGIN, &key, 0), None, "{token_key} {secret}");
        }
    }

    #[test]
    fn a_key_without_one_of_its_halves_is_none() {
        for (token_key, secret) in [("", SECRET), (TOKEN_KEY, ""), ("", ""), (TOKEN_KEY, &SECRET[..29])] {
            assert!(Key::new(token_key, secret).is_none(), "{token_key:?} {secret:?}");
        }
        assert!(Key::new(TOKEN_KEY, &SECRET[..30]).is_some());
    }

    #[test]
    fn a_key_is_not_shown() {
        let shown = format!("{:?}", key());
        assert!(!shown.contains("Tbma3UA") && !shown.contains("w6xRu"), "{shown}");
    }

    #[test]
    fn no_change_of_a_token_passes() {
        for at in 0..FROM_LOGIN.len() {
            for letter in ['A', 'z', '.', '=', '_'] {
                let mut changed = FROM_LOGIN.to_owned();
                changed.replace_range(at..=at, letter.encode_utf8(&mut [0; 4]));
                assert_eq!(verify(&changed, &key(), 0).is_some(), changed == FROM_LOGIN, "{at} {changed}");
            }
            assert_eq!(verify(&FROM_LOGIN[..at], &key(), 0), None, "cut at {at}");
        }
    }

    #[test]
    fn what_is_well_signed_must_still_be_a_token_for_requests() {
        let header = r#"{"alg":"HS256","typ":"JWT"}"#;
        let body = r#"{"collectionId":"c","exp":9,"id":"i","refreshable":true,"type":"auth"}"#;
        for (name, header, body, good) in [
            ("as it should be", header, body, true),
            ("no typ", r#"{"alg":"HS256"}"#, body, true),
            ("more claims", header, &body.replace("\"exp\"", "\"iat\":1,\"exp\""), true),
            ("alg none", r#"{"alg":"none","typ":"JWT"}"#, body, false),
            ("alg in small letters", r#"{"alg":"hs256","typ":"JWT"}"#, body, false),
            ("another alg", r#"{"alg":"HS512","typ":"JWT"}"#, body, false),
            ("alg twice", r#"{"alg":"none","alg":"HS256"}"#, body, false),
            ("no alg", r#"{"typ":"JWT"}"#, body, false),
            ("another typ", r#"{"alg":"HS256","typ":"JWE"}"#, body, false),
            ("header no object", "[]", body, false),
            ("for files", header, &body.replace("\"auth\"", "\"file\""), false),
            ("without an end", header, &body.replace("\"exp\":9,", ""), false),
            ("an end in words", header, &body.replace('9', "\"9\""), false),
            ("a fraction of an end", header, &body.replace('9', "9.5"), false),
            ("an end twice", header, &body.replace("\"exp\"", "\"exp\":99,\"exp\""), false),
            ("without an id", header, &body.replace("\"id\":\"i\",", ""), false),
            ("an id that is no text", header, &body.replace("\"i\"", "7"), false),
            ("not JSON", header, "hello", false),
            ("empty", header, "", false),
        ] {
            assert_eq!(verify(&signed(header, body), &key(), 8).is_some(), good, "{name}");
        }
    }

    #[test]
    fn what_is_no_token_is_none() {
        let long = mint(&Claims::auth("c", &"i".repeat(MAX_TOKEN), true, ENDS), &key());
        let unsigned = &FROM_LOGIN[..FROM_LOGIN.len() - SIGNATURE_TEXT];
        for token in [
            "",
            ".",
            "..",
            "...",
            "a.b.c",
            "Bearer",
            "ünïcödé.ünïcödé.ünïcödé",
            unsigned,
            &format!("{FROM_LOGIN}="),
            &format!("{FROM_LOGIN}."),
            &format!("{FROM_LOGIN}.x"),
            &format!(" {FROM_LOGIN}"),
            &long,
        ] {
            assert_eq!(verify(token, &key(), 0), None, "{token}");
            assert_eq!(peek(token), None, "{token}");
        }
    }

    #[test]
    fn a_token_at_the_limit_passes_and_one_past_it_does_not() {
        let of = |length: usize| mint(&Claims::auth("c", &"i".repeat(length), true, ENDS), &key());
        // Three bytes of an id are four of the token.
        let longest = (1..MAX_TOKEN).rev().find(|length| of(*length).len() <= MAX_TOKEN).expect("one fits");
        for (length, good) in [(longest, true), (longest + 1, false)] {
            assert_eq!(verify(&of(length), &key(), 0).is_some(), good, "{length}");
        }
    }
}
