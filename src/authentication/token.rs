//! JSON Web Tokens: whether one is good, and whom it makes of its bearer.
//!
//! The algorithm is the configuration's and the key's, never the token's alone: a key is tried only for its own family, so a public key is never taken for
//! a shared secret, and there is no `none`. The time is an argument.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Validation, decode, decode_header};
use serde_json::Value;

use super::keys::{Key, KeySet};
use super::{Allowed, Credentials, Properties, Question, Secret, Verdict};
use crate::config::Jwt;

/// The most roles and properties that are taken from a token.
const TAKEN_MAX: usize = 256;

pub struct Rules {
    config: Jwt,
    algorithms: Vec<Algorithm>,
}

/// What came of a token.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    Verdict(Verdict),
    /// It is signed with a key that is not there; it may have come since.
    UnknownKey,
}

impl Rules {
    pub fn new(config: &Jwt) -> Self {
        let known = |name: &&str| name.parse().expect("the configuration has names of algorithms only");
        Self { config: config.clone(), algorithms: config.algorithms.iter().map(known).collect() }
    }

    /// Judges the question's token. A password that is one by its form counts as one, as clients of MQTT have no other place for it.
    pub fn check(&self, question: &Question, keys: &KeySet, wall_ms: u64) -> Outcome {
        let token = match &question.credentials {
            Credentials::Token(token) | Credentials::Password(token) => token,
            Credentials::None | Credentials::Custom(_) => return Outcome::Verdict(Verdict::Abstain),
        };
        if !has_form(token.bytes()) {
            return Outcome::Verdict(Verdict::Abstain);
        }
        match self.claims(token, keys) {
            Ok(claims) => Outcome::Verdict(self.judge(question, &claims, wall_ms).map_or_else(Verdict::refused, Verdict::Allow)),
            Err(Wrong::UnknownKey) => Outcome::UnknownKey,
            Err(Wrong::Refused(reason)) => Outcome::Verdict(Verdict::refused(format!("token: {reason}"))),
        }
    }

    /// What a token says whose signature, issuer and audience are good.
    fn claims(&self, token: &Secret, keys: &KeySet) -> Result<Value, Wrong> {
        let header =
            decode_header(token.bytes()).map_err(|_| Wrong::Refused("its header is none, or of an unknown algorithm".to_owned()))?;
        if !self.algorithms.contains(&header.alg) {
            return Err(Wrong::Refused("its algorithm is not taken".to_owned()));
        }
        let mut wrong = Wrong::UnknownKey;
        for Key { key, .. } in keys.candidates(header.kid.as_deref(), header.alg) {
            match decode::<Value>(token.bytes(), key, &self.validation(header.alg)) {
                Ok(decoded) => return Ok(decoded.claims),
                Err(error) if matches!(error.kind(), ErrorKind::InvalidSignature) => wrong = Wrong::Refused("wrong signature".to_owned()),
                // The signature is good, so no other key's is; or the token is broken for every key.
                Err(error) => return Err(Wrong::Refused(error.to_string())),
            }
        }
        // Where keys have no names the right one may have come since.
        if header.kid.is_none() && !keys.has_family(header.alg.family()) {
            wrong = Wrong::UnknownKey;
        }
        Err(wrong)
    }

    /// Times are checked elsewhere, by the time that is given.
    fn validation(&self, algorithm: Algorithm) -> Validation {
        let Jwt { issuers, audiences, .. } = &self.config;
        let mut validation = Validation::new(algorithm);
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.required_spec_claims.clear();
        if !issuers.is_empty() {
            validation.set_issuer(issuers);
            validation.required_spec_claims.insert("iss".to_owned());
        }
        if !audiences.is_empty() {
            validation.set_audience(audiences);
            validation.required_spec_claims.insert("aud".to_owned());
        }
        validation
    }

    fn judge(&self, question: &Question, claims: &Value, wall_ms: u64) -> Result<Allowed, String> {
        let Jwt { leeway_s, required, principal, roles, properties, .. } = &self.config;
        if !claims.is_object() {
            return Err("token: its claims are no object".to_owned());
        }
        if let Some(missing) = required.iter().find(|claim| find(claims, claim).is_none()) {
            return Err(format!("token: it has no {missing}"));
        }
        let leeway_ms = leeway_s * 1000;
        let expires_ms = time_ms(claims, "exp")?.map(|end| end.saturating_add(leeway_ms));
        if expires_ms.is_some_and(|end| wall_ms >= end) {
            return Err("token: it has expired".to_owned());
        }
        if time_ms(claims, "nbf")?.is_some_and(|begin| wall_ms.saturating_add(leeway_ms) < begin) {
            return Err("token: it is not valid yet".to_owned());
        }
        let name = find(claims, principal).and_then(Value::as_str).filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| format!("token: it has no text {principal}"))?;
        if !question.principal.is_empty() && *question.principal != *name {
            return Err("token: it is another principal's".to_owned());
        }
        let theirs = if roles.is_empty() { Vec::new() } else { find(claims, roles).map_or_else(Vec::new, texts) };
        let taken = properties.iter().filter_map(|(name, claim)| Some((name.clone(), plain(find(claims, claim)?)?)));
        let properties: Properties = taken.take(TAKEN_MAX).collect();
        Ok(Allowed { principal: name.into(), roles: self.map_roles(&theirs), properties, expires_ms })
    }

    fn map_roles(&self, theirs: &[&str]) -> Vec<Box<str>> {
        let rows = &self.config.role_map;
        let mut roles: Vec<Box<str>> = Vec::new();
        for their in theirs.iter().take(TAKEN_MAX) {
            let as_it_is = rows.is_empty().then(|| Box::from(*their));
            let mapped = rows.iter().filter(|row| row.has(their)).flat_map(|row| row.roles.iter().cloned());
            for role in as_it_is.into_iter().chain(mapped) {
                if !roles.contains(&role) {
                    roles.push(role);
                }
            }
        }
        roles
    }
}

enum Wrong {
    UnknownKey,
    Refused(String),
}

/// Whether the bytes are three parts of base64url, of which the first is an object.
fn has_form(token: &[u8]) -> bool {
    let mut parts = token.split(|byte| *byte == b'.');
    let (Some(header), Some(_), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else { return false };
    let is_base64 = token.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte));
    is_base64 && URL_SAFE_NO_PAD.decode(header).is_ok_and(|json| serde_json::from_slice::<Value>(&json).is_ok_and(|json| json.is_object()))
}

/// A claim by its name, or by a JSON pointer.
fn find<'a>(claims: &'a Value, claim: &str) -> Option<&'a Value> {
    let found = if claim.starts_with('/') { claims.pointer(claim) } else { claims.get(claim) };
    found.filter(|value| !value.is_null())
}

/// A NumericDate (RFC 7519, 2), of seconds since 1970.
fn time_ms(claims: &Value, claim: &str) -> Result<Option<u64>, String> {
    let Some(value) = find(claims, claim) else { return Ok(None) };
    let seconds = value.as_f64().filter(|seconds| (0.0..1e15).contains(seconds));
    seconds.map(|seconds| Some((seconds * 1000.0) as u64)).ok_or_else(|| format!("token: {claim} is no time"))
}

fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => text.split_whitespace().collect(),
        Value::Array(values) => values.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn plain(value: &Value) -> Option<Box<str>> {
    match value {
        Value::String(text) => Some(text.as_str().into()),
        Value::Number(number) => Some(number.to_string().into()),
        Value::Bool(flag) => Some(flag.to_string().into()),
        _ => None,
    }
}
