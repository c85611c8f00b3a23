//! What a file says of the tokens of others.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::{Reader, duration, text, texts};
use crate::config::file::Node;
use crate::config::{Jwt, JwtClaims, JwtKey, JwtKeyKind};

/// How far clocks may differ unless it is said.
const LEEWAY: std::time::Duration = std::time::Duration::from_secs(60);
/// The largest file of keys, in bytes.
const JWKS_BYTES_MAX: u64 = 1 << 20;
/// The most keys of such a file.
const KEYS_MAX: usize = 64;

impl Reader<'_> {
    /// The tokens that are taken for keys; none where `jwt` says nothing.
    pub(super) fn jwt(&mut self, root: &Node) -> Option<Jwt> {
        let (key, node) = root.entry("jwt").filter(|(_, node)| !node.entries().is_empty())?;
        let (secret, jwks) = (node.get("secret"), node.entry("jwks"));
        let (keys, file) = match (secret, jwks) {
            (Some(secret), None) => (self.jwt_secret(secret), None),
            (None, Some((_, jwks))) => self.jwks(jwks),
            (Some(_), Some((jwks, _))) => {
                let help = "which algorithm a token has must not be its issuer's choice; keep one of them";
                self.error(jwks.span, "`jwt` has a `secret` and a `jwks` file", help);
                (Vec::new(), None)
            }
            (None, None) => {
                let help = "add `secret` for HS256, or `jwks` with the file of the issuer's public keys";
                self.error(key.span, "`jwt` says nothing of a key", help);
                (Vec::new(), None)
            }
        };
        let usual = JwtClaims::default();
        let claims = node.get("claims");
        let claim = |name, usual| {
            let given = claims.and_then(|claims| text(claims, name)).filter(|name| !name.is_empty());
            given.map_or(usual, str::to_owned)
        };
        Some(Jwt {
            issuer: text(node, "issuer").map(str::to_owned),
            audiences: texts(node.get("audience")),
            keys: keys.into(),
            jwks: file,
            claims: JwtClaims {
                caller: claim("caller", usual.caller),
                tenant: claim("tenant", usual.tenant),
                models: claim("models", usual.models),
            },
            leeway: duration(node, "leeway").unwrap_or(LEEWAY),
        })
    }

    fn jwt_secret(&mut self, node: &Node) -> Vec<JwtKey> {
        let Some(secret) = self.secret_text(node) else { return Vec::new() };
        if secret.len() < JwtKeyKind::HMAC_BYTES_MIN {
            let message =
                format!("the `secret` of tokens must have at least {} bytes", JwtKeyKind::HMAC_BYTES_MIN);
            self.error(node.span, message, "a shorter one can be found by trying; make a new one");
            return Vec::new();
        }
        vec![JwtKey { id: None, kind: JwtKeyKind::Hmac(secret.into_bytes()) }]
    }

    fn jwks(&mut self, node: &Node) -> (Vec<JwtKey>, Option<PathBuf>) {
        let Some(path) = self.file(node) else { return (Vec::new(), None) };
        let keys = read_jwks(&path).unwrap_or_else(|fault| {
            let help = "it must be the issuer's JSON Web Key Set, with keys for RS256 or HS256";
            self.error(node.span, format!("the file of keys cannot be used: {fault}"), help);
            Vec::new()
        });
        (keys, Some(path))
    }
}

fn read_jwks(path: &Path) -> Result<Vec<JwtKey>, String> {
    let len = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if len > JWKS_BYTES_MAX {
        return Err("it is larger than 1 MiB".to_owned());
    }
    key_set(&std::fs::read(path).map_err(|error| error.to_string())?)
}

/// Reads a JSON Web Key Set; keys for other purposes and algorithms are passed over.
///
/// Source: RFC 7517, sections 4 and 5; RFC 7518, section 6.
///
/// # Errors
/// It is none, a key in it is broken or too short, or none is left.
pub(super) fn key_set(bytes: &[u8]) -> Result<Vec<JwtKey>, String> {
    let set: Value = serde_json::from_slice(bytes).map_err(|error| format!("it is not JSON: {error}"))?;
    let listed = set["keys"].as_array().ok_or("it has no list `keys`")?;
    if listed.len() > KEYS_MAX {
        return Err(format!("it has more than {KEYS_MAX} keys"));
    }
    let keys = listed.iter().filter_map(|key| {
        let kind = kind(key)?;
        let id = key["kid"].as_str().map(str::to_owned);
        let name = id.clone().unwrap_or_else(|| "without a `kid`".to_owned());
        Some(kind.map(|kind| JwtKey { id, kind }).map_err(|fault| format!("the key `{name}` {fault}")))
    });
    let keys: Vec<JwtKey> = keys.collect::<Result<_, _>>()?;
    if keys.is_empty() { Err("it has no key for RS256 or HS256".to_owned()) } else { Ok(keys) }
}

/// A key of a set; none if it is not for verifying what the gateway can verify.
fn kind(key: &Value) -> Option<Result<JwtKeyKind, &'static str>> {
    let is_or_absent = |name: &str, expected: &str| key[name].is_null() || key[name] == expected;
    let may_verify = key["key_ops"].as_array().is_none_or(|uses| uses.iter().any(|usage| usage == "verify"));
    if !is_or_absent("use", "sig") || !may_verify {
        return None;
    }
    let bytes = |name: &str| {
        let text = key[name].as_str().ok_or("lacks a part")?;
        URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|_| "is not in base64url")
    };
    match key["kty"].as_str()? {
        "RSA" if is_or_absent("alg", "RS256") => Some(bytes("n").and_then(|modulus| {
            let modulus = without_zeros(modulus);
            if modulus.len() < JwtKeyKind::MODULUS_BYTES_MIN {
                return Err("is shorter than 2048 bits");
            }
            Ok(JwtKeyKind::Rsa(modulus, without_zeros(bytes("e")?)))
        })),
        "oct" if is_or_absent("alg", "HS256") => Some(bytes("k").and_then(|secret| {
            if secret.len() < JwtKeyKind::HMAC_BYTES_MIN {
                return Err("is shorter than 256 bits");
            }
            Ok(JwtKeyKind::Hmac(secret))
        })),
        _ => None,
    }
}

/// A number without the zeros that some write before it.
fn without_zeros(number: Vec<u8>) -> Vec<u8> {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number[zeros..].to_vec()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn b64(len: usize) -> String {
        URL_SAFE_NO_PAD.encode(vec![0xab; len])
    }

    #[track_caller]
    fn check(keys: Value, expected: Result<&str, &str>) {
        let read = key_set(json!({ "keys": keys }).to_string().as_bytes());
        let shown = |key: &JwtKey| format!("{}:{:?}", key.id.as_deref().unwrap_or("-"), key.kind);
        let read = read.map(|keys| keys.iter().map(shown).collect::<Vec<_>>().join(" "));
        match (read, expected) {
            (Ok(read), Ok(expected)) => assert_eq!(read, expected),
            (Err(fault), Err(part)) => assert!(fault.contains(part), "{fault}"),
            (read, expected) => panic!("{read:?} is not {expected:?}"),
        }
    }

    #[test]
    fn keys_that_can_be_used_are_taken_and_others_passed_over() {
        let rsa = json!({ "kty": "RSA", "kid": "a", "n": b64(256), "e": "AQAB" });
        let oct = json!({ "kty": "oct", "k": b64(32), "alg": "HS256", "use": "sig" });
        let with = |name: &str, value: Value| {
            let mut key = rsa.clone();
            key[name] = value;
            key
        };
        check(json!([rsa, oct]), Ok("a:RS256 -:HS256"));
        check(json!([rsa, { "kty": "EC", "crv": "P-256" }, { "kty": "new" }, {}, 1]), Ok("a:RS256"));
        check(json!([rsa, with("use", json!("enc")), with("alg", json!("RS512"))]), Ok("a:RS256"));
        check(json!([rsa, with("key_ops", json!(["encrypt"]))]), Ok("a:RS256"));
        check(json!([with("key_ops", json!(["verify"]))]), Ok("a:RS256"));
        check(json!([]), Err("no key"));
        check(json!([with("use", json!("enc"))]), Err("no key"));
        check(json!([with("n", json!(b64(255)))]), Err("the key `a` is shorter than 2048 bits"));
        check(json!([with("n", json!("a b"))]), Err("not in base64url"));
        check(json!([with("e", Value::Null)]), Err("lacks a part"));
        check(json!([{ "kty": "oct", "k": b64(31) }]), Err("shorter than 256 bits"));
        check(json!(vec![rsa; KEYS_MAX + 1]), Err("more than"));
        check(json!("none"), Err("no list `keys`"));
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in any::<Vec<u8>>(), n in any::<String>(), kty in "RSA|oct") {
            let _ = key_set(&bytes);
            let _ = key_set(json!({ "keys": [{ "kty": kty, "n": n, "e": n, "k": n }] }).to_string().as_bytes());
        }
    }
}
