//! A question and its answer as JSON: what an endpoint and other sessions are asked, and what they say.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Allowed, Credentials, Question, Verdict};

#[derive(Serialize)]
struct Asked<'a> {
    principal: &'a str,
    address: String,
    certificate: Option<&'a str>,
    credentials: Shown<'a>,
    properties: BTreeMap<&'a str, &'a str>,
}

#[derive(Serialize)]
struct Shown<'a> {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<&'a str>,
}

#[derive(Deserialize)]
struct Answer {
    verdict: Word,
    principal: Option<Box<str>>,
    #[serde(default)]
    roles: Vec<Box<str>>,
    #[serde(default)]
    properties: BTreeMap<Box<str>, Box<str>>,
    expires_in_s: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Allow,
    Deny,
    Abstain,
}

/// A question, for whoever is asked. Wiped afterwards, with what it is made from.
pub fn write(question: &Question) -> Zeroizing<Vec<u8>> {
    let (kind, secret) = match &question.credentials {
        Credentials::None => ("none", None),
        Credentials::Password(secret) => ("password", Some(secret)),
        Credentials::Token(secret) => ("token", Some(secret)),
        Credentials::Custom(secret) => ("custom", Some(secret)),
    };
    let text = secret.and_then(|secret| std::str::from_utf8(secret.bytes()).ok());
    let base64 = secret.filter(|_| text.is_none()).map(|secret| Zeroizing::new(STANDARD.encode(secret.bytes())));
    let asked = Asked {
        principal: &question.principal,
        address: question.address.to_string(),
        certificate: question.certificate.as_deref(),
        credentials: Shown { r#type: kind, text, base64: base64.as_ref().map(|base64| base64.as_str()) },
        properties: question.properties.iter().map(|(name, value)| (&**name, &**value)).collect(),
    };
    let texts = question.properties.iter().map(|(name, value)| name.len() + value.len() + 8).sum::<usize>();
    let secret_bytes = secret.map_or(0, |secret| secret.bytes().len());
    let certificate_bytes = question.certificate.as_ref().map_or(0, |name| name.len());
    // Room for everything, escaped at worst: a buffer that grows would leave copies behind.
    let mut body = Zeroizing::new(Vec::with_capacity(512 + 6 * (texts + secret_bytes + certificate_bytes + question.principal.len())));
    serde_json::to_writer(&mut *body, &asked).expect("texts can be written, and memory takes them");
    body
}

/// An answer of `who`, to a question about this principal.
pub fn read(who: &str, principal: &str, text: &[u8], wall_ms: u64) -> Result<Verdict, String> {
    let answer: Answer = serde_json::from_slice(text).map_err(|error| format!("its answer cannot be read: {error}"))?;
    Ok(match answer.verdict {
        Word::Allow => Verdict::Allow(Allowed {
            principal: answer.principal.unwrap_or_else(|| principal.into()),
            roles: answer.roles,
            properties: answer.properties.into_iter().collect(),
            expires_ms: answer.expires_in_s.map(|seconds| wall_ms.saturating_add(seconds.saturating_mul(1000))),
        }),
        Word::Deny => Verdict::refused(format!("{who}: denied")),
        Word::Abstain => Verdict::Abstain,
    })
}
