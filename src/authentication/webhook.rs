//! An HTTP endpoint that says who may come in.
//!
//! Answers hold for a while (`cache`), and an endpoint that fails is left alone for a while (`breaker`); what a question comes to meanwhile is configured.
//! `remembered` is for a thread that may not wait, `ask` waits.

use std::io;
use std::sync::Mutex;

use super::breaker::{self, Breaker};
use super::cache::{Cache, Digest, Digester};
use super::client::Client;
use super::keys::read_file;
use super::words;
use super::{Credentials, Now, Question, Secret, Verdict};
use crate::config::{Unavailable, WebhookSettings};

/// The longest answer.
const ANSWER_BYTES_MAX: u64 = 64 << 10;
const AUTHORIZATION_BYTES_MAX: u64 = 8 << 10;

pub struct Webhook {
    url: Box<str>,
    client: Client,
    authorization: Option<Secret>,
    unavailable: Unavailable,
    digester: Digester,
    cache: Mutex<Cache<Verdict>>,
    breaker: Mutex<Breaker>,
}

impl Webhook {
    /// Reads the files that the configuration names.
    pub fn new(config: &WebhookSettings) -> io::Result<Self> {
        let authorization = match &config.authorization_file {
            Some(path) => {
                let text = read_file(path, AUTHORIZATION_BYTES_MAX)
                    .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
                Some(Secret::new(text.trim_ascii()))
            }
            None => None,
        };
        let WebhookSettings { breaker_failures, breaker_window_ms, breaker_open_ms, .. } = *config;
        let limits = breaker::Limits { failures: breaker_failures, window_ms: breaker_window_ms, open_ms: breaker_open_ms };
        Ok(Self {
            url: config.url.as_str().into(),
            client: Client::new(&config.url, config.timeout_ms, config.ca_file.as_deref(), ANSWER_BYTES_MAX)?,
            authorization,
            unavailable: config.unavailable,
            digester: Digester::new(),
            cache: Mutex::new(Cache::new(config.cache_ms, config.cache_max)),
            breaker: Mutex::new(Breaker::new(limits)),
        })
    }

    /// What the endpoint said to the same question a short time ago.
    pub fn remembered(&self, question: &Question, now: Now) -> Option<Verdict> {
        let verdict = self.cache.lock().expect("nobody panics with the cache").find(&self.digest(question), now.monotonic);
        verdict.filter(|verdict| !matches!(verdict, Verdict::Allow(allowed) if allowed.expires_ms.is_some_and(|end| end <= now.wall_ms)))
    }

    /// Asks, unless the breaker is open. `now` is read before and after.
    pub fn ask(&self, question: &Question, now: impl Fn() -> Now) -> Verdict {
        let began = now();
        // Another thread may have asked the same since.
        if let Some(verdict) = self.remembered(question, began) {
            return verdict;
        }
        let may_try = self.breaker.lock().expect("nobody panics with the breaker").may_try(began.monotonic);
        if !may_try {
            return self.without_answer("it has failed too often and is left alone for a while");
        }
        let answer = self.client.post_json(&self.url, self.authorization.as_ref(), &words::write(question));
        let ended = now();
        let answer = answer.map_err(|error| error.to_string());
        let verdict = answer.and_then(|text| words::read("webhook", &question.principal, &text, ended.wall_ms));
        let mut breaker = self.breaker.lock().expect("nobody panics with the breaker");
        match verdict {
            Ok(verdict) => {
                breaker.succeeded();
                let digest = self.digest(question);
                self.cache.lock().expect("nobody panics with the cache").insert(digest, verdict.clone(), ended.monotonic);
                verdict
            }
            Err(reason) => {
                breaker.failed(ended.monotonic);
                self.without_answer(&reason)
            }
        }
    }

    pub fn without_answer(&self, reason: &str) -> Verdict {
        match self.unavailable {
            Unavailable::Deny => Verdict::unavailable(format!("webhook: {reason}")),
            Unavailable::Abstain => Verdict::Abstain,
        }
    }

    /// Of everything that the endpoint is told.
    fn digest(&self, question: &Question) -> Digest {
        let (kind, secret): (&str, &[u8]) = match &question.credentials {
            Credentials::None => ("none", &[]),
            Credentials::Password(secret) => ("password", secret.bytes()),
            Credentials::Token(secret) => ("token", secret.bytes()),
            Credentials::Custom(secret) => ("custom", secret.bytes()),
        };
        let address = question.address.to_string();
        let certificate = question.certificate.as_deref();
        let has_certificate: &[u8] = if certificate.is_some() { b"1" } else { b"0" };
        let mut parts: Vec<&[u8]> = vec![question.principal.as_bytes(), kind.as_bytes(), secret, address.as_bytes()];
        parts.extend([has_certificate, certificate.unwrap_or_default().as_bytes()]);
        for (name, value) in &question.properties {
            parts.extend([name.as_bytes(), value.as_bytes()]);
        }
        self.digester.digest(&parts)
    }
}
