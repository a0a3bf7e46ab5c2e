//! Tokens: the examples of RFC 7515 and RFC 8037, every algorithm, and all that may be wrong with one.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaSignatureEncoding};
use aws_lc_rs::{hmac, rsa};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::authentication::keys::KeySet;
use crate::authentication::tests::{question, with_password, with_token};
use crate::authentication::token::{Outcome, Rules};
use crate::authentication::{Allowed, Credentials, Denial, Question, Secret, Verdict};
use crate::config::{Jwt, NameRoles};

const HOUR_MS: u64 = 3_600_000;
/// When the tests' tokens are shown, in seconds.
const NOW_S: u64 = 1_700_000_000;
const NOW_MS: u64 = NOW_S * 1000;

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Signs by the library beneath, and not by the one that checks.
struct Signer {
    secret: [u8; 64],
    rsa: rsa::KeyPair,
    p256: EcdsaKeyPair,
    p384: EcdsaKeyPair,
    ed: Ed25519KeyPair,
}

impl Signer {
    fn new() -> Self {
        Self {
            secret: [7; 64],
            rsa: rsa::KeyPair::generate(rsa::KeySize::Rsa2048).unwrap(),
            p256: EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
            p384: EcdsaKeyPair::generate(&signature::ECDSA_P384_SHA384_FIXED_SIGNING).unwrap(),
            ed: Ed25519KeyPair::generate().unwrap(),
        }
    }

    fn sign(&self, algorithm: &str, header: Value, claims: &Value) -> String {
        let message = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
        let signature = self.signature(algorithm, message.as_bytes());
        format!("{message}.{}", encode(signature))
    }

    fn signature(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let by_secret = |algorithm| hmac::sign(&hmac::Key::new(algorithm, &self.secret), message).as_ref().to_vec();
        let by_rsa = |encoding: &'static RsaSignatureEncoding| {
            let mut signature = vec![0; self.rsa.public_modulus_len()];
            self.rsa.sign(encoding, &SystemRandom::new(), message, &mut signature).unwrap();
            signature
        };
        let by_curve = |pair: &EcdsaKeyPair| pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec();
        match algorithm {
            "HS256" => by_secret(hmac::HMAC_SHA256),
            "HS384" => by_secret(hmac::HMAC_SHA384),
            "HS512" => by_secret(hmac::HMAC_SHA512),
            "RS256" => by_rsa(&signature::RSA_PKCS1_SHA256),
            "RS384" => by_rsa(&signature::RSA_PKCS1_SHA384),
            "RS512" => by_rsa(&signature::RSA_PKCS1_SHA512),
            "PS256" => by_rsa(&signature::RSA_PSS_SHA256),
            "PS384" => by_rsa(&signature::RSA_PSS_SHA384),
            "PS512" => by_rsa(&signature::RSA_PSS_SHA512),
            "ES256" => by_curve(&self.p256),
            "ES384" => by_curve(&self.p384),
            "EdDSA" => self.ed.sign(message).as_ref().to_vec(),
            _ => Vec::new(),
        }
    }

    /// The public keys, named `rsa`, `p256`, `p384` and `ed`.
    fn public(&self) -> KeySet {
        let modulus = self.rsa.public_key().modulus().big_endian_without_leading_zero().to_vec();
        let exponent = self.rsa.public_key().exponent().big_endian_without_leading_zero().to_vec();
        let curve = |name: &str, id: &str, pair: &EcdsaKeyPair| {
            let (x, y) = pair.public_key().as_ref()[1..].split_at((pair.public_key().as_ref().len() - 1) / 2);
            json!({"kty": "EC", "crv": name, "kid": id, "x": encode(x), "y": encode(y)})
        };
        let set = json!({"keys": [
            {"kty": "RSA", "kid": "rsa", "n": encode(modulus), "e": encode(exponent)},
            curve("P-256", "p256", &self.p256),
            curve("P-384", "p384", &self.p384),
            {"kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": encode(self.ed.public_key().as_ref())},
        ]});
        KeySet::parse(set.to_string().as_bytes()).unwrap()
    }

    fn shared(&self) -> KeySet {
        KeySet::of_secret(&self.secret).unwrap()
    }
}

fn claims() -> Value {
    json!({"sub": "alice", "exp": NOW_S + 60, "roles": ["CLIENT"]})
}

fn allowed(outcome: Outcome) -> Allowed {
    match outcome {
        Outcome::Verdict(Verdict::Allow(allowed)) => allowed,
        other => panic!("{other:?}"),
    }
}

fn refusal(outcome: Outcome) -> String {
    match outcome {
        Outcome::Verdict(Verdict::Deny(Denial::Refused(reason))) => reason.into(),
        other => panic!("{other:?}"),
    }
}

/// A token of HS256 under the tests' secret.
fn signed(claims: &Value) -> String {
    let message = format!("{}.{}", encode(r#"{"alg":"HS256"}"#), encode(claims.to_string()));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &[7; 64]), message.as_bytes());
    format!("{message}.{}", encode(signature))
}

/// What comes of claims that are signed well.
fn judge(config: &Jwt, claims: &Value, principal: &str) -> Outcome {
    Rules::new(config).check(&with_token(principal, &signed(claims)), &KeySet::of_secret(&[7; 64]).unwrap(), NOW_MS)
}

#[test]
fn the_example_of_rfc_7515_with_a_shared_secret() {
    let secret = URL_SAFE_NO_PAD.decode("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow").unwrap();
    check_rfc_7515(
        "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9",
        "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
        &KeySet::of_secret(&secret).unwrap(),
    );
}

#[test]
fn the_example_of_rfc_7515_with_rsa() {
    let modulus = concat!(
        "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOW",
        "vG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9k",
        "G4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"
    );
    let signature = concat!(
        "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4",
        "BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqv",
        "hJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"
    );
    let set = json!({"keys": [{"kty": "RSA", "n": modulus, "e": "AQAB"}]});
    check_rfc_7515("eyJhbGciOiJSUzI1NiJ9", signature, &KeySet::parse(set.to_string().as_bytes()).unwrap());
}

#[test]
fn the_example_of_rfc_7515_with_an_elliptic_curve() {
    let set = json!({"keys": [{
        "kty": "EC",
        "crv": "P-256",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    }]});
    let signature = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    check_rfc_7515("eyJhbGciOiJFUzI1NiJ9", signature, &KeySet::parse(set.to_string().as_bytes()).unwrap());
}

/// The three have the same claims, which are `joe`'s until 1300819380.
fn check_rfc_7515(header: &str, signature: &str, keys: &KeySet) {
    let payload = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let token = format!("{header}.{payload}.{signature}");
    let config = Jwt {
        principal: "iss".to_owned(),
        issuers: vec!["joe".to_owned()],
        properties: vec![("Root".into(), "/http:~1~1example.com~1is_root".into())],
        ..Jwt::default()
    };
    let rules = Rules::new(&config);
    let end_ms = (1_300_819_380 + 30) * 1000;
    let alice = allowed(rules.check(&with_token("", &token), keys, end_ms - 1));
    assert_eq!((&*alice.principal, alice.expires_ms), ("joe", Some(end_ms)));
    assert_eq!(alice.properties, [("Root".into(), "true".into())]);
    assert_eq!(refusal(rules.check(&with_token("", &token), keys, end_ms)), "token: it has expired");
    // Every letter of the signature counts, but for bits that base64 leaves over.
    for at in [0, signature.len() / 2, signature.len() - 2] {
        let mut forged = token.clone().into_bytes();
        let place = header.len() + payload.len() + 2 + at;
        forged[place] = if forged[place] == b'A' { b'B' } else { b'A' };
        let forged = String::from_utf8(forged).unwrap();
        assert_eq!(refusal(rules.check(&with_token("", &forged), keys, end_ms - 1)), "token: wrong signature", "{at}");
    }
}

#[test]
fn the_example_of_rfc_8037_is_signed_well_and_has_no_claims() {
    let set = br#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
    let message = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
    let signature = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    let check = |signature: &str| {
        let token = with_token("", &format!("{message}.{signature}"));
        refusal(Rules::new(&Jwt::default()).check(&token, &KeySet::parse(set).unwrap(), NOW_MS))
    };
    assert_eq!(check(&signature.replacen('h', "i", 1)), "token: wrong signature");
    let reason = check(signature);
    assert!(reason.starts_with("token: ") && !reason.contains("signature"), "the text is no JSON: {reason}");
}

#[test]
fn every_algorithm_is_checked() {
    let signer = Signer::new();
    let (public, shared) = (signer.public(), signer.shared());
    let rules = Rules::new(&Jwt::default());
    for algorithm in Jwt::ALGORITHMS {
        let keys = if algorithm.starts_with("HS") { &shared } else { &public };
        let token = signer.sign(algorithm, json!({"alg": algorithm}), &claims());
        assert_eq!(&*allowed(rules.check(&with_token("", &token), keys, NOW_MS)).principal, "alice", "{algorithm}");
        let forged = token.replacen(&encode(claims().to_string()), &encode(json!({"sub": "root", "exp": NOW_S + 60}).to_string()), 1);
        assert_ne!(forged, token);
        assert_eq!(refusal(rules.check(&with_token("", &forged), keys, NOW_MS)), "token: wrong signature", "{algorithm}");
    }
}

#[test]
fn an_algorithm_that_is_not_configured_is_refused() {
    let signer = Signer::new();
    let rules = Rules::new(&Jwt { algorithms: vec!["PS256", "EdDSA"], ..Jwt::default() });
    for (algorithm, is_taken) in [("PS256", true), ("EdDSA", true), ("RS256", false), ("ES256", false)] {
        let token = with_token("", &signer.sign(algorithm, json!({"alg": algorithm}), &claims()));
        let outcome = rules.check(&token, &signer.public(), NOW_MS);
        if is_taken {
            allowed(outcome);
        } else {
            assert_eq!(refusal(outcome), "token: its algorithm is not taken");
        }
    }
}

#[test]
fn a_token_without_a_signature_is_refused() {
    let signer = Signer::new();
    for name in ["none", "None", "NONE", "nOnE", ""] {
        let token = signer.sign("none", json!({"alg": name}), &claims());
        assert!(token.ends_with('.'));
        let reason = refusal(Rules::new(&Jwt::default()).check(&with_token("", &token), &signer.public(), NOW_MS));
        assert_eq!(reason, "token: its header is none, or of an unknown algorithm", "{name}");
    }
    for algorithm in ["HS256", "RS256", "ES256", "EdDSA"] {
        let keys = if algorithm == "HS256" { signer.shared() } else { signer.public() };
        let token = signer.sign("none", json!({"alg": algorithm}), &claims());
        refusal(Rules::new(&Jwt::default()).check(&with_token("", &token), &keys, NOW_MS));
    }
}

#[test]
fn a_public_key_is_never_a_shared_secret() {
    let signer = Signer::new();
    let public = signer.rsa.public_key().as_ref().to_vec();
    let message = format!("{}.{}", encode(json!({"alg": "HS256", "kid": "rsa"}).to_string()), encode(claims().to_string()));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &public), message.as_bytes());
    let token = format!("{message}.{}", encode(signature));
    assert_eq!(Rules::new(&Jwt::default()).check(&with_token("", &token), &signer.public(), NOW_MS), Outcome::UnknownKey);
}

#[test]
fn a_key_is_found_by_its_name_and_kind() {
    let signer = Signer::new();
    let check = |algorithm: &str, header: Value| {
        let token = signer.sign(algorithm, header, &claims());
        Rules::new(&Jwt::default()).check(&with_token("", &token), &signer.public(), NOW_MS)
    };
    allowed(check("RS256", json!({"alg": "RS256", "kid": "rsa"})));
    allowed(check("ES384", json!({"alg": "ES384", "kid": "p384"})));
    assert_eq!(check("RS256", json!({"alg": "RS256", "kid": "new"})), Outcome::UnknownKey);
    assert_eq!(check("RS256", json!({"alg": "RS256", "kid": "ed"})), Outcome::UnknownKey, "that key is of another kind");
    assert_eq!(refusal(check("RS256", json!({"alg": "PS256", "kid": "rsa"}))), "token: wrong signature");
    refusal(check("ES256", json!({"alg": "ES384", "kid": "p384"})));
}

#[test]
fn an_extension_that_must_be_understood_is_refused() {
    let signer = Signer::new();
    let token = signer.sign("HS256", json!({"alg": "HS256", "crit": ["exp2"], "exp2": 1}), &claims());
    refusal(Rules::new(&Jwt::default()).check(&with_token("", &token), &signer.shared(), NOW_MS));
}

fn check_claims(claims: Value, expected: &str) {
    let said = match judge(&Jwt::default(), &claims, "") {
        Outcome::Verdict(Verdict::Allow(allowed)) => allowed.principal.into(),
        outcome => refusal(outcome),
    };
    assert_eq!(said, expected, "{claims}");
}

#[test]
fn times_are_kept_with_some_leeway() {
    check_claims(json!({"sub": "a", "exp": NOW_S - 29}), "a");
    check_claims(json!({"sub": "a", "exp": NOW_S - 29, "nbf": NOW_S + 30}), "a");
    check_claims(json!({"sub": "a", "exp": NOW_S - 30}), "token: it has expired");
    check_claims(json!({"sub": "a", "exp": 0}), "token: it has expired");
    check_claims(json!({"sub": "a", "exp": NOW_S as f64 + 0.5}), "a");
    check_claims(json!({"sub": "a", "exp": NOW_S + 60, "nbf": NOW_S + 31}), "token: it is not valid yet");
    check_claims(json!({"sub": "a"}), "token: it has no exp");
    check_claims(json!({"sub": "a", "exp": null}), "token: it has no exp");
    for exp in [json!("soon"), json!(-1), json!(1e300), json!(u64::MAX)] {
        check_claims(json!({"sub": "a", "exp": exp}), "token: exp is no time");
        check_claims(json!({"sub": "a", "exp": NOW_S + 60, "nbf": exp}), "token: nbf is no time");
    }
}

#[test]
fn a_time_that_is_no_number_at_all_is_refused() {
    for claims in [json!({"sub": "a", "exp": [1]}), json!({"sub": "a", "exp": {"x": 1}}), json!({"sub": "a", "exp": true})] {
        refusal(judge(&Jwt::default(), &claims, ""));
    }
}

#[test]
fn when_it_ends_is_told() {
    let outcome = judge(&Jwt::default(), &json!({"sub": "a", "exp": NOW_S + 60}), "");
    assert_eq!(allowed(outcome).expires_ms, Some(NOW_MS + 90_000));
    let for_ever = Jwt { required: Vec::new(), ..Jwt::default() };
    assert_eq!(allowed(judge(&for_ever, &json!({"sub": "a"}), "")).expires_ms, None);
}

#[test]
fn the_principal_is_a_text_and_nobody_else() {
    check_claims(json!({"exp": NOW_S + 60}), "token: it has no text sub");
    check_claims(json!({"sub": 7, "exp": NOW_S + 60}), "token: it has no text sub");
    check_claims(json!({"sub": "", "exp": NOW_S + 60}), "token: it has no text sub");
    assert_eq!(&*allowed(judge(&Jwt::default(), &claims(), "alice")).principal, "alice");
    assert_eq!(refusal(judge(&Jwt::default(), &claims(), "root")), "token: it is another principal's");
}

#[test]
fn issuers_and_audiences_are_those_that_are_configured() {
    let config = Jwt { issuers: vec!["i".into(), "j".into()], audiences: vec!["tide".into()], ..Jwt::default() };
    let with = |issuer: Value, audience: Value| {
        let claims = json!({"sub": "a", "exp": NOW_S + 60, "iss": issuer, "aud": audience});
        matches!(judge(&config, &claims, ""), Outcome::Verdict(Verdict::Allow(_)))
    };
    assert!(with(json!("i"), json!("tide")));
    assert!(with(json!("j"), json!(["other", "tide"])));
    for (issuer, audience) in [
        (json!("k"), json!("tide")),
        (json!(null), json!("tide")),
        (json!({"i": 1}), json!("tide")),
        (json!("i"), json!("other")),
        (json!("i"), json!([])),
        (json!("i"), json!(null)),
        (json!("i"), json!({"tide": 1})),
    ] {
        assert!(!with(issuer.clone(), audience.clone()), "{issuer} {audience}");
    }
    assert!(matches!(
        judge(&Jwt::default(), &json!({"sub": "a", "exp": NOW_S + 60, "aud": "somebody"}), ""),
        Outcome::Verdict(Verdict::Deny(_))
    ));
}

#[test]
fn roles_and_properties_are_taken_from_claims() {
    let claims = json!({
        "sub": "a", "exp": NOW_S + 60, "realm": {"roles": ["ops-1", "ops-2", 7, "x"]}, "scope": "CLIENT  OTHER", "tenant": "t", "n": 5, "list": [1],
    });
    let with = |roles: &str, rows: &[&str]| {
        let role_map = rows.iter().map(|row| NameRoles::parse(row).expect(row)).collect();
        let properties = [("Tenant", "tenant"), ("N", "/n"), ("List", "list"), ("Missing", "missing")];
        let properties = properties.map(|(name, claim)| (name.into(), claim.into())).to_vec();
        let outcome = judge(&Jwt { roles: roles.into(), role_map, properties, ..Jwt::default() }, &claims, "");
        let allowed = allowed(outcome);
        assert_eq!(allowed.properties, [("Tenant".into(), "t".into()), ("N".into(), "5".into())]);
        allowed.roles.join(" ")
    };
    assert_eq!(with("/realm/roles", &[]), "ops-1 ops-2 x");
    assert_eq!(with("scope", &[]), "CLIENT OTHER");
    assert_eq!(with("/realm/roles", &["ops-*: OPERATOR CLIENT", "ops-2: ADMINISTRATOR"]), "OPERATOR CLIENT ADMINISTRATOR");
    assert_eq!(with("missing", &[]), "");
    assert_eq!(with("n", &[]), "");
    assert_eq!(with("", &[]), "");
}

#[test]
fn what_is_no_token_is_left_to_the_rest_of_the_chain() {
    let signer = Signer::new();
    let rules = Rules::new(&Jwt::default());
    let check = |question: &Question| rules.check(question, &signer.shared(), NOW_MS);
    for text in ["", ".", "..", "a.b.c", "opaque", "e30", "e30.e30", "e30.e30.e30.e30", "W10.e30.e30", "e30=.e30.e30", "e30.e3 0.e30"] {
        assert_eq!(check(&with_token("", text)), Outcome::Verdict(Verdict::Abstain), "{text}");
        assert_eq!(check(&with_password("a", text)), Outcome::Verdict(Verdict::Abstain), "{text}");
    }
    assert_eq!(check(&question("a")), Outcome::Verdict(Verdict::Abstain));
    let token = signer.sign("HS256", json!({"alg": "HS256"}), &claims());
    allowed(check(&with_password("alice", &token)));
    let custom = Question { credentials: Credentials::Custom(Secret::new(token.as_bytes())), ..question("") };
    assert_eq!(check(&custom), Outcome::Verdict(Verdict::Abstain));
}

#[test]
fn no_reason_holds_what_was_shown() {
    let signer = Signer::new();
    let token = signer.sign("HS256", json!({"alg": "HS256"}), &json!({"sub": "alice", "exp": "HUSH-HUSH"}));
    let reason = refusal(Rules::new(&Jwt::default()).check(&with_token("", &token), &signer.shared(), NOW_MS));
    assert!(!reason.contains("HUSH") && !reason.contains(&token), "{reason}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn whatever_is_shown_is_never_taken_and_never_stops_the_server(
        header in prop_oneof![Just(r#"{"alg":"HS256"}"#.to_owned()), Just(r#"{"alg":"HS512","kid":"x"}"#.to_owned()), ".{0,40}"],
        payload in prop_oneof![Just(claims().to_string()), ".{0,60}"],
        signature in proptest::collection::vec(any::<u8>(), 0..70),
        noise in "[A-Za-z0-9._=-]{0,30}",
        at in 0usize..200,
    ) {
        let keys = KeySet::of_secret(&[7; 64]).unwrap();
        let mut token = format!("{}.{}.{}", encode(header), encode(payload), encode(signature));
        if !noise.is_empty() {
            token.insert_str(at % (token.len() + 1), &noise);
        }
        let outcome = Rules::new(&Jwt::default()).check(&with_token("", &token), &keys, NOW_MS + HOUR_MS);
        prop_assert!(!matches!(outcome, Outcome::Verdict(Verdict::Allow(_))));
    }

    #[test]
    fn whatever_claims_are_signed_are_judged(claims in json_value()) {
        let token = signed(&claims);
        let keys = KeySet::of_secret(&[7; 64]).unwrap();
        let config = Jwt { required: Vec::new(), principal: "/a".into(), roles: "/b/0".into(), ..Jwt::default() };
        Rules::new(&config).check(&with_token("", &token), &keys, NOW_MS);
    }

    #[test]
    fn whatever_is_read_as_keys_is_refused_or_taken(text in prop_oneof![
        ".{0,80}",
        json_value().prop_map(|value| json!({"keys": [value]}).to_string()),
        json_value().prop_map(|value| json!({"keys": [{"kty": "RSA", "n": value, "e": "AQAB"}]}).to_string()),
        "-----BEGIN PUBLIC KEY-----\n[A-Za-z0-9+/=]{0,80}\n-----END PUBLIC KEY-----\n",
    ]) {
        let _ = KeySet::parse(text.as_bytes());
    }
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        "[a-z~/]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        let name = prop_oneof![Just("a"), Just("b"), Just("exp"), Just("nbf"), Just("iss"), Just("aud"), Just("sub"), Just("")];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((name.prop_map(str::to_owned), inner), 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}
