//! Tokens of others that are taken for keys.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use witgate_tests::audit::wait;
use witgate_tests::gateway::Launch;
use witgate_tests::{Gateway, Reply, Request, Upstream};

use super::{SECRET, chat, key, refused};

/// What an issuer of these tests signs with, and publishes.
const PRIVATE: &str = include_str!("issuer.pem");
const PUBLIC: &str = include_str!("issuer.jwks.json");
/// What another one shares with the gateway.
const SHARED: &str = "a secret of two parties with more than 32 bytes";

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is right").as_secs()
}

fn claims(changes: Value) -> Value {
    let mut claims = json!({ "sub": "alice", "iss": "them", "aud": ["witgate"], "exp": now() + 600 });
    for (name, value) in changes.as_object().expect("changes are an object") {
        claims[name] = value.clone();
    }
    claims
}

fn rs256(kid: Option<&str>, claims: &Value) -> String {
    let key = EncodingKey::from_rsa_pem(PRIVATE.as_bytes()).expect("it is a key");
    let header = Header { kid: kid.map(str::to_owned), ..Header::new(Algorithm::RS256) };
    encode(&header, claims, &key).expect("it can be signed")
}

fn hs256(secret: &str, claims: &Value) -> String {
    encode(&Header::default(), claims, &EncodingKey::from_secret(secret.as_bytes()))
        .expect("it can be signed")
}

/// A gateway that takes tokens.
fn start(upstream: &Upstream, jwt: &str, keys: &str) -> Gateway {
    Launch::default().file("issuer.json", PUBLIC).start(&format!(
        "server: {{ key_secret: '{SECRET}' }}\njwt: {{ issuer: them, audience: witgate, {jwt} }}\n{keys}upstreams:\n  \
         - {{ name: one, base_url: '{}', api_key: k, default: true }}\n",
        upstream.url()
    ))
}

#[test]
fn a_token_of_the_issuer_is_a_key() {
    let upstream = Upstream::new(Reply::echo);
    let gateway = start(&upstream, "jwks: issuer.json", &format!("keys:\n{}", key("a", "")));
    let token = rs256(Some("one"), &claims(json!({ "tenant": "t", "models": ["gpt-*"] })));
    gateway.send(&chat("gpt-4", &token)).expect(200);
    assert_eq!(upstream.last().header("authorization"), Some("Bearer k"));
    refused(gateway.send(&chat("o3", &token)), 403, "the model `o3`");
    let files = Request::get("/v1/files").header("api-key", &token);
    refused(gateway.send(&files), 403, "that the key may use");
    gateway.send(&chat("o3", &rs256(None, &claims(json!({}))))).expect(200);
    // Keys are good beside them.
    gateway.send(&chat("o3", "sk-a")).expect(200);
    refused(gateway.send(&chat("o3", "sk-b")), 401, "not known");
    let rows = wait(&gateway, 6);
    assert_eq!((&rows[0]["caller"], &rows[0]["key"]), (&json!("jwt:alice"), &json!("jwt:alice")));
    assert_eq!(rows[0]["tenant"], "t");
    let text = std::fs::read(witgate_tests::audit::file(&gateway)).expect("it has recorded");
    assert!(!String::from_utf8_lossy(&text).contains(&token) && !gateway.stderr().contains(&token));
}

#[test]
fn a_token_that_is_not_good_is_refused() {
    let upstream = Upstream::new(Reply::echo);
    let gateway = start(&upstream, "jwks: issuer.json", "");
    let one = Some("one");
    let good = rs256(one, &claims(json!({})));
    let (message, signature) = good.rsplit_once('.').expect("a token has parts");
    let other = rs256(one, &claims(json!({ "sub": "mallory" })));
    let modulus = serde_json::from_str::<Value>(PUBLIC).expect("it is JSON")["keys"][1]["n"].clone();
    for (token, part) in [
        (rs256(one, &claims(json!({ "exp": now() - 61 }))), "has expired"),
        (rs256(one, &claims(json!({ "exp": null }))), "`exp`"),
        (rs256(one, &claims(json!({ "nbf": now() + 600 }))), "not good yet"),
        (rs256(one, &claims(json!({ "iss": "us" }))), "another issuer"),
        (rs256(one, &claims(json!({ "aud": "others" }))), "another audience"),
        (rs256(Some("two"), &claims(json!({}))), "a key that is not known"),
        (rs256(Some("other"), &claims(json!({}))), "a key that is not known"),
        // Another algorithm with what everybody knows.
        (hs256(PUBLIC, &claims(json!({}))), "a key that is not known"),
        (hs256(modulus.as_str().expect("it is a text"), &claims(json!({}))), "a key that is not known"),
        (format!("{message}."), "no valid signature"),
        (
            format!("{}.{signature}", other.rsplit_once('.').expect("a token has parts").0),
            "no valid signature",
        ),
    ] {
        refused(gateway.send(&chat("m", &token)), 401, part);
    }
    gateway.send(&chat("m", &good)).expect(200);
    assert_eq!(upstream.count(), 1);
}

#[test]
fn a_secret_may_be_shared_and_claims_called_otherwise() {
    let upstream = Upstream::new(Reply::echo);
    let jwt =
        format!("secret: {SHARED}, claims: {{ caller: email, tenant: team, models: allowed }}, leeway: 0s");
    let gateway = start(&upstream, &jwt, "");
    let named = json!({ "email": "a@b.example", "team": "t", "allowed": "m" });
    gateway.send(&chat("m", &hs256(SHARED, &claims(named.clone())))).expect(200);
    refused(gateway.send(&chat("x", &hs256(SHARED, &claims(named.clone())))), 403, "the model `x`");
    refused(gateway.send(&chat("m", &hs256(SHARED, &claims(json!({}))))), 401, "does not name its caller");
    let other = format!("{SHARED}!");
    refused(gateway.send(&chat("m", &hs256(&other, &claims(named.clone())))), 401, "no valid signature");
    refused(gateway.send(&chat("m", &rs256(None, &claims(named)))), 401, "a key that is not known");
    let rows = wait(&gateway, 5);
    assert_eq!((&rows[0]["caller"], &rows[0]["tenant"]), (&json!("jwt:a@b.example"), &json!("t")));
    assert!(!gateway.send_admin(&Request::get("/admin/config")).text().contains(SHARED));
}

// parity: 134
#[test]
fn a_tokens_tenant_decides_on_the_upstream() {
    let (one, two) = (Upstream::new(Reply::echo), Upstream::new(Reply::echo));
    let tenants = "tenants: [{ name: s, upstreams: [one] }, { name: t, upstreams: [two] }]\n";
    let gateway = Launch::default().file("issuer.json", PUBLIC).start(&format!(
        "jwt: {{ jwks: issuer.json }}\n{tenants}upstreams:\n  - {{ name: one, base_url: '{}' }}\n  \
         - {{ name: two, base_url: '{}' }}\n",
        one.url(),
        two.url()
    ));
    for number in 1..=10 {
        for tenant in ["s", "t"] {
            let token = rs256(None, &claims(json!({ "tenant": tenant })));
            gateway.send(&chat(&format!("m{number}"), &token)).expect(200);
        }
        assert_eq!((one.count(), two.count()), (number, number));
    }
}

#[test]
fn an_issuers_new_keys_are_taken_without_a_restart() {
    let upstream = Upstream::new(Reply::echo);
    let gateway = start(&upstream, "jwks: issuer.json", "");
    let token = |kid| rs256(Some(kid), &claims(json!({})));
    gateway.send(&chat("m", &token("one"))).expect(200);
    refused(gateway.send(&chat("m", &token("next"))), 401, "a key that is not known");
    let next = PUBLIC.replace("\"one\"", "\"next\"");
    std::fs::write(gateway.folder().join("issuer.json"), next).expect("the folder is writable");
    witgate_tests::eventually("the new key", || {
        (gateway.send(&chat("m", &token("next"))).status() == 200).then_some(())
    });
    refused(gateway.send(&chat("m", &token("one"))), 401, "a key that is not known");
}
