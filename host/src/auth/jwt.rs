//! Tokens of others (RFC 7519) that are taken for keys.
//!
//! Which algorithm a signature is checked with follows from the key, never from the token alone. The claims are read
//! here and not by the library, which takes a time of the wrong type for one that is absent.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde_json::{Map, Value};

use crate::auth::Account;
use crate::config::check::keys::{NAME_BYTES_MAX, TOKEN_NAME_PREFIX};
use crate::config::{Glob, Jwt, JwtKeyKind, Tenant};
use crate::error::{Error, ErrorKind};

/// The longest token, in bytes.
const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// The most patterns of models in a token.
const MODELS_MAX: usize = 256;

/// What is wrong with a token.
type Fault = &'static str;

/// Checks tokens.
pub(crate) struct Verifier {
    keys: Vec<Key>,
    settings: Jwt,
    /// The upstreams of tenants.
    upstreams: HashMap<Arc<str>, Vec<Arc<str>>>,
}

struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
    validation: Validation,
}

impl Verifier {
    /// Prepares the keys.
    pub(crate) fn new(settings: &Jwt, tenants: &[Tenant]) -> Self {
        let keys = settings.keys.iter().map(|key| {
            let (algorithm, decoding) = match &key.kind {
                JwtKeyKind::Hmac(secret) => (Algorithm::HS256, DecodingKey::from_secret(secret)),
                JwtKeyKind::Rsa(modulus, exponent) => {
                    (Algorithm::RS256, DecodingKey::from_rsa_raw_components(modulus, exponent))
                }
            };
            Key { id: key.id.clone(), algorithm, key: decoding, validation: signature_only(algorithm) }
        });
        let pinned = tenants.iter().filter(|tenant| !tenant.upstreams.is_empty());
        let upstreams = pinned.map(|tenant| (tenant.name.clone(), tenant.upstreams.clone())).collect();
        Self { keys: keys.collect(), settings: settings.clone(), upstreams }
    }

    /// Says whom a token speaks of; none if the credential is no token at all.
    ///
    /// # Errors
    ///
    /// `Unauthenticated` when it is a token that is not good.
    pub(crate) fn verify(&self, credential: &str, now: SystemTime) -> Option<Result<Account, Error>> {
        let header = header(credential)?;
        let account = self.claims(credential, &header).and_then(|claims| self.account(&claims, now));
        Some(account.map_err(|fault| Error::new(ErrorKind::Unauthenticated, format!("the token {fault}"))))
    }

    /// The claims of a token whose signature is good.
    fn claims(&self, token: &str, header: &Map<String, Value>) -> Result<Map<String, Value>, Fault> {
        // Whoever does not know an extension that must be understood must refuse the token. Source: RFC 7515, 4.1.11.
        if header.contains_key("crit") {
            return Err("needs an extension that is not known here");
        }
        let algorithm = header.get("alg").and_then(Value::as_str);
        let named = header.get("kid").and_then(Value::as_str);
        let fits = |key: &&Key| {
            let is_named = named.is_none() || key.id.is_none() || key.id.as_deref() == named;
            algorithm == Some(name(key.algorithm)) && is_named
        };
        let mut is_any = false;
        for key in self.keys.iter().filter(fits) {
            is_any = true;
            if let Ok(decoded) = decode(token, &key.key, &key.validation) {
                return Ok(decoded.claims);
            }
        }
        Err(if is_any { "has no valid signature" } else { "is signed with a key that is not known here" })
    }

    fn account(&self, claims: &Map<String, Value>, now: SystemTime) -> Result<Account, Fault> {
        self.check_time(claims, now)?;
        self.check_parties(claims)?;
        let names = &self.settings.claims;
        let caller = party(claims, &names.caller)?.ok_or("does not name its caller")?;
        let tenant = party(claims, &names.tenant)?;
        Ok(Account {
            name: [TOKEN_NAME_PREFIX, caller].concat().into(),
            tenant: tenant.map(Arc::from),
            upstreams: tenant.and_then(|tenant| self.upstreams.get(tenant)).cloned().unwrap_or_default(),
            models: models(claims.get(&names.models))?,
            ..Account::default()
        })
    }

    fn check_time(&self, claims: &Map<String, Value>, now: SystemTime) -> Result<(), Fault> {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64();
        let leeway = self.settings.leeway.as_secs_f64();
        let moment = |name: &str, fault: Fault| match claims.get(name) {
            None => Ok(None),
            Some(value) => value.as_f64().map(Some).ok_or(fault),
        };
        let end = moment("exp", "has an `exp` that is no time")?.ok_or("has no end, `exp`")?;
        if now >= end + leeway {
            return Err("has expired, ask for a new one");
        }
        let start = moment("nbf", "has an `nbf` that is no time")?;
        if start.is_some_and(|start| now < start - leeway) {
            return Err("is not good yet");
        }
        Ok(())
    }

    fn check_parties(&self, claims: &Map<String, Value>) -> Result<(), Fault> {
        if let Some(issuer) = &self.settings.issuer
            && claims.get("iss").and_then(Value::as_str) != Some(issuer)
        {
            return Err("is from another issuer");
        }
        let audiences = &self.settings.audiences;
        let is_ours =
            |given: &Value| given.as_str().is_some_and(|name| audiences.iter().any(|own| own == name));
        let is_meant = match claims.get("aud") {
            Some(Value::Array(given)) => given.iter().any(is_ours),
            Some(given) => is_ours(given),
            None => false,
        };
        if !audiences.is_empty() && !is_meant {
            return Err("is meant for another audience");
        }
        Ok(())
    }
}

/// Looks at the signature and nothing else.
fn signature_only(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    validation
}

fn name(algorithm: Algorithm) -> &'static str {
    if algorithm == Algorithm::RS256 { "RS256" } else { "HS256" }
}

/// The header of what has the form of a token.
fn header(credential: &str) -> Option<Map<String, Value>> {
    if credential.len() > TOKEN_BYTES_MAX {
        return None;
    }
    let mut parts = credential.split('.');
    let (header, _claims, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    let is_over = parts.next().is_none();
    let bytes = URL_SAFE_NO_PAD.decode(header).ok().filter(|_| is_over)?;
    serde_json::from_slice(&bytes).ok()
}

/// A name that goes to logs, records and metrics.
fn party<'a>(claims: &'a Map<String, Value>, claim: &str) -> Result<Option<&'a str>, Fault> {
    let name = match claims.get(claim) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(name)) => name,
        Some(_) => return Err("has a name in it that is no text"),
    };
    let is_plain = name.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !is_plain {
        return Err("has a name in it that is empty, too long or not printable");
    }
    Ok(Some(name))
}

/// The patterns of models; none means all of them, so that a list which allows nothing is refused.
fn models(claim: Option<&Value>) -> Result<Vec<Glob>, Fault> {
    let patterns: Vec<&str> = match claim {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(all)) => {
            all.iter().map(Value::as_str).collect::<Option<_>>().ok_or("has a list of models that is none")?
        }
        Some(_) => return Err("has a list of models that is none"),
    };
    match patterns.len() {
        0 => Err("allows no model"),
        1..=MODELS_MAX => Ok(patterns.into_iter().map(Glob::new).collect()),
        _ => Err("names too many models"),
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{EncodingKey, Header, encode};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::config::{JwtClaims, JwtKey};

    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
    const OTHER: &[u8] = b"another secret of thirty-two bytes";
    const NOW: u64 = 1_000_000;

    fn settings(kinds: &[JwtKeyKind]) -> Jwt {
        Jwt {
            issuer: Some("us".to_owned()),
            audiences: vec!["gateway".to_owned(), "all".to_owned()],
            keys: kinds
                .iter()
                .map(|kind| JwtKey { id: Some("one".to_owned()), kind: kind.clone() })
                .collect(),
            jwks: None,
            claims: JwtClaims::default(),
            leeway: Duration::from_secs(60),
        }
    }

    fn good() -> Value {
        json!({ "sub": "alice", "iss": "us", "aud": "gateway", "exp": NOW + 100 })
    }

    fn with(changes: Value) -> Value {
        let mut claims = good();
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims
    }

    fn without(name: &str) -> Value {
        let mut claims = good();
        claims.as_object_mut().unwrap().remove(name);
        claims
    }

    fn token(header: Value, claims: &Value, secret: &[u8]) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(&header), part(claims));
        let key = EncodingKey::from_secret(secret);
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
        format!("{message}.{signature}")
    }

    fn verify(token: &str, kinds: &[JwtKeyKind]) -> Option<Result<Account, String>> {
        let verifier = Verifier::new(&settings(kinds), &[]);
        let verified = verifier.verify(token, UNIX_EPOCH + Duration::from_secs(NOW))?;
        Some(verified.map_err(|error| {
            assert_eq!(error.kind, ErrorKind::Unauthenticated);
            error.message
        }))
    }

    fn hmac() -> [JwtKeyKind; 1] {
        [JwtKeyKind::Hmac(SECRET.to_vec())]
    }

    #[track_caller]
    fn check(claims: Value, refusal: Option<&str>) {
        let token = encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET)).unwrap();
        let verified = verify(&token, &hmac()).unwrap();
        match refusal {
            None => drop(verified.unwrap()),
            Some(part) => {
                assert!(verified.clone().is_err_and(|message| message.contains(part)), "{verified:?}")
            }
        }
    }

    #[test]
    fn a_good_token_names_its_caller() {
        let claims = with(json!({ "tenant": "search", "models": ["gpt-*", "o3"] }));
        let token = token(json!({ "alg": "HS256" }), &claims, SECRET);
        let account = verify(&token, &hmac()).unwrap().unwrap();
        assert_eq!(&*account.name, "jwt:alice");
        assert_eq!(account.tenant.as_deref(), Some("search"));
        assert!(account.may_use_model("gpt-4") && account.may_use_model("o3") && !account.may_use_model("x"));
        assert_eq!(account.quota, None);
        assert!(!account.may_pass_through);
    }

    #[test]
    fn times_are_kept() {
        check(with(json!({ "exp": NOW + 1 })), None);
        check(with(json!({ "exp": NOW - 59 })), None);
        check(with(json!({ "exp": NOW as f64 + 0.5 })), None);
        check(with(json!({ "exp": NOW - 60 })), Some("has expired"));
        check(with(json!({ "exp": -1 })), Some("has expired"));
        check(with(json!({ "exp": (NOW + 100).to_string() })), Some("`exp` that is no time"));
        check(with(json!({ "exp": null })), Some("`exp` that is no time"));
        check(without("exp"), Some("no end"));
        check(with(json!({ "nbf": NOW + 60 })), None);
        check(with(json!({ "nbf": NOW + 61 })), Some("not good yet"));
        check(with(json!({ "nbf": (NOW - 1).to_string() })), Some("`nbf` that is no time"));
    }

    #[test]
    fn issuer_and_audience_are_kept() {
        check(with(json!({ "aud": ["else", "all"] })), None);
        check(with(json!({ "aud": ["else"] })), Some("another audience"));
        check(with(json!({ "aud": "gatewa" })), Some("another audience"));
        check(with(json!({ "aud": {} })), Some("another audience"));
        check(without("aud"), Some("another audience"));
        check(with(json!({ "iss": "them" })), Some("another issuer"));
        check(with(json!({ "iss": ["us"] })), Some("another issuer"));
        check(without("iss"), Some("another issuer"));
    }

    #[test]
    fn names_and_models_are_what_they_should_be() {
        check(without("sub"), Some("does not name its caller"));
        check(with(json!({ "sub": 7 })), Some("no text"));
        check(with(json!({ "sub": "" })), Some("empty"));
        check(with(json!({ "sub": "a\nb" })), Some("not printable"));
        check(with(json!({ "sub": "a".repeat(129) })), Some("too long"));
        check(with(json!({ "tenant": {} })), Some("no text"));
        check(with(json!({ "models": "gpt-*" })), None);
        check(with(json!({ "models": [] })), Some("allows no model"));
        check(with(json!({ "models": [1] })), Some("a list of models that is none"));
        check(with(json!({ "models": vec!["m"; 257] })), Some("too many models"));
    }

    #[test]
    fn the_key_decides_on_the_algorithm() {
        let rsa = vec![0xab; 256];
        let both = [JwtKeyKind::Hmac(SECRET.to_vec()), JwtKeyKind::Rsa(rsa.clone(), vec![1, 0, 1])];
        let good = good();
        let check = |token: &str, kinds: &[JwtKeyKind], part: &str| {
            let verified = verify(token, kinds).unwrap();
            assert!(verified.clone().is_err_and(|message| message.contains(part)), "{verified:?}");
        };
        let unknown = "signed with a key that is not known";
        // The public key as the secret of another algorithm.
        check(&token(json!({ "alg": "HS256" }), &good, &rsa), &both[1..], unknown);
        check(&token(json!({ "alg": "HS256" }), &good, &rsa), &both, "no valid signature");
        check(&token(json!({ "alg": "RS256" }), &good, SECRET), &both, "no valid signature");
        for algorithm in ["none", "None", "HS384", "ES256", ""] {
            check(&token(json!({ "alg": algorithm }), &good, SECRET), &both, unknown);
        }
        check(&token(json!({}), &good, SECRET), &both, unknown);
        check(&token(json!({ "alg": "HS256", "kid": "two" }), &good, SECRET), &both, unknown);
        check(&token(json!({ "alg": "HS256" }), &good, OTHER), &both, "no valid signature");
        let critical = json!({ "alg": "HS256", "crit": ["b64"], "b64": false });
        check(&token(critical, &good, SECRET), &both, "extension");
        let mut unsigned = token(json!({ "alg": "HS256" }), &good, SECRET);
        unsigned.truncate(unsigned.rfind('.').unwrap() + 1);
        check(&unsigned, &both, "no valid signature");
        assert!(
            verify(&token(json!({ "alg": "HS256", "kid": "one" }), &good, SECRET), &both).unwrap().is_ok()
        );
    }

    #[test]
    fn what_is_no_token_is_left_to_others() {
        let token = token(json!({ "alg": "HS256" }), &good(), SECRET);
        for text in ["", "sk-1", "a.b", "a.b.c", "..", &format!("{token}.x"), &token.replace('.', "")] {
            assert!(verify(text, &hmac()).is_none(), "{text}");
        }
        assert!(verify(&format!("{token}{}", "a".repeat(TOKEN_BYTES_MAX)), &hmac()).is_none());
    }

    proptest! {
        #[test]
        fn no_change_of_a_token_goes_through(at in any::<prop::sample::Index>(), byte in "[A-Za-z0-9_.-]") {
            let good = token(json!({ "alg": "HS256" }), &good(), SECRET);
            let at = at.index(good.len());
            let mut changed = good.clone();
            changed.replace_range(at..=at, &byte);
            // The last character of a signature has bits that mean nothing, which the library refuses too.
            prop_assume!(changed != good);
            prop_assert!(verify(&changed, &hmac()).is_none_or(|verified| verified.is_err()));
        }

        #[test]
        fn no_text_panics(text in ".{0,64}", claims in any::<String>()) {
            let _ = verify(&text, &hmac());
            let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#);
            let _ = verify(&format!("{header}.{}.{text}", URL_SAFE_NO_PAD.encode(claims)), &hmac());
        }
    }
}
