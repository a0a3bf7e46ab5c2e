//! The keys that tokens may be signed with: a set that is read anew, and stays as it is where that fails.
//!
//! Read from a file or by HTTP, as a JSON Web Key Set (RFC 7517) or one public key in PEM form. Keys that are of no use here are passed over: for encryption,
//! of kinds that are not known, and symmetric ones, which are secrets and have a file of their own.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};

use super::client::Client;
use crate::base::Time;

/// More than a set has in practice: each one costs memory, and without a `kid` a try.
const KEYS_MAX: usize = 64;

pub struct Key {
    id: Option<Box<str>>,
    /// The one algorithm that it is for, where it says so.
    algorithm: Option<Algorithm>,
    pub key: DecodingKey,
}

#[derive(Default)]
pub struct KeySet {
    keys: Vec<Key>,
}

impl KeySet {
    /// A set with one secret for HMAC, of at least the 32 bytes that RFC 7518 asks for.
    pub fn of_secret(secret: &[u8]) -> Result<Self, String> {
        if secret.len() < 32 {
            return Err(format!("a secret of {} bytes; at least 32 are needed", secret.len()));
        }
        let key = DecodingKey::from_secret(secret).map_err(|error| error.to_string())?;
        Ok(Self { keys: vec![Key { id: None, algorithm: None, key }] })
    }

    /// A key set, or a key in PEM form.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        if text.trim_ascii_start().starts_with(b"-----BEGIN") {
            let read = [DecodingKey::from_rsa_pem, DecodingKey::from_ec_pem, DecodingKey::from_ed_pem];
            let key = read.iter().find_map(|read| read(text).ok()).ok_or("not a public key of RSA, EC or Ed25519 in PEM form")?;
            return Ok(Self { keys: vec![Key { id: None, algorithm: None, key }] });
        }
        let value: serde_json::Value = serde_json::from_slice(text).map_err(|error| format!("neither PEM nor JSON: {error}"))?;
        let listed = value.get("keys").and_then(|keys| keys.as_array()).ok_or("not a key set: it has no list `keys`")?;
        let keys: Vec<Key> = listed.iter().filter_map(usable).take(KEYS_MAX).collect();
        if keys.is_empty() {
            return Err("the set has no key that signatures can be checked with".to_owned());
        }
        Ok(Self { keys })
    }

    /// The keys that may have made a signature of this algorithm; `id` is the token's `kid`.
    pub fn candidates(&self, id: Option<&str>, algorithm: Algorithm) -> impl Iterator<Item = &Key> {
        self.keys.iter().filter(move |key| {
            let has_id = match (id, &key.id) {
                (Some(id), Some(known)) => id == &**known,
                // A key without a name, in PEM form for one, is tried for any.
                (_, None) | (None, _) => true,
            };
            has_id && key.key.family() == algorithm.family() && key.algorithm.is_none_or(|only| only == algorithm)
        })
    }

    /// Whether there are keys of this family at all.
    pub fn has_family(&self, family: AlgorithmFamily) -> bool {
        self.keys.iter().any(|key| key.key.family() == family)
    }
}

fn usable(value: &serde_json::Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(value.clone()).ok()?;
    let is_for_signatures = !matches!(jwk.common.public_key_use, Some(PublicKeyUse::Encryption | PublicKeyUse::Other(_)));
    let is_public = !matches!(jwk.algorithm, AlgorithmParameters::OctetKey(_) | AlgorithmParameters::Other(_));
    if !is_for_signatures || !is_public {
        return None;
    }
    let algorithm = match jwk.common.key_algorithm {
        Some(named) => Some(Algorithm::try_from(named).ok()?),
        None => None,
    };
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    Some(Key { id: jwk.common.key_id.map(Into::into), algorithm, key })
}

/// Where keys are read from.
pub enum Source {
    File(PathBuf),
    Url(Box<str>, Client),
}

impl Source {
    pub fn read(&self) -> Result<KeySet, String> {
        match self {
            Self::File(path) => KeySet::parse(&read_file(path, u64::MAX).map_err(|error| format!("{}: {error}", path.display()))?)
                .map_err(|reason| format!("{}: {reason}", path.display())),
            Self::Url(url, client) => client
                .get(url)
                .map_err(|error| error.to_string())
                .and_then(|text| KeySet::parse(&text))
                .map_err(|reason| format!("{url}: {reason}")),
        }
    }
}

/// A file's bytes, of which there may be so many.
pub fn read_file(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(std::fs::File::open(path)?, bytes_max), &mut bytes)?;
    Ok(bytes)
}

/// When keys are read again.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub period_ms: u64,
    /// Because of a key that is not there, at most this often.
    pub unknown_ms: u64,
}

/// The keys as they were read last.
pub struct Keys {
    current: Mutex<Arc<KeySet>>,
    pace: Pace,
    tried: Mutex<Option<Time>>,
}

impl Keys {
    /// Keys that were not read yet.
    pub fn new(pace: Pace) -> Self {
        Self { current: Mutex::default(), pace, tried: Mutex::new(None) }
    }

    /// Keys that were read before anything else.
    pub fn with(set: KeySet, pace: Pace, now: Time) -> Self {
        Self { current: Mutex::new(Arc::new(set)), pace, tried: Mutex::new(Some(now)) }
    }

    pub fn current(&self) -> Arc<KeySet> {
        self.current.lock().expect("nobody panics with the keys").clone()
    }

    /// How long until they are read again because it is time, in milliseconds.
    pub fn wait_ms(&self, now: Time) -> u64 {
        let tried = *self.tried.lock().expect("nobody panics with the time");
        tried.map_or(0, |tried| tried.after_ms(self.pace.period_ms).since(now).div_ceil(1_000_000))
    }

    /// Whether a key that is not there may be looked for by who asks at `now`. Who has asked before the last reading began waits for what that brings.
    pub fn may_look(&self, now: Time) -> bool {
        let tried = *self.tried.lock().expect("nobody panics with the time");
        tried.is_none_or(|tried| now < tried || now >= tried.after_ms(self.pace.unknown_ms))
    }

    /// Reads them anew. Where that fails, those that were there stay.
    pub fn refresh(&self, read: impl FnOnce() -> Result<KeySet, String>, now: Time) -> Result<(), String> {
        *self.tried.lock().expect("nobody panics with the time") = Some(now);
        let set = Arc::new(read()?);
        *self.current.lock().expect("nobody panics with the keys") = set;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace { period_ms: 1000, unknown_ms: 100 };

    fn at(ms: u64) -> Time {
        Time::default().after_ms(ms)
    }

    fn secret() -> Result<KeySet, String> {
        KeySet::of_secret(&[1; 32])
    }

    #[test]
    fn who_has_asked_before_a_reading_began_waits_for_it() {
        let keys = Keys::new(PACE);
        let _ = keys.refresh(|| Err("gone".to_owned()), at(500));
        assert!(keys.may_look(at(499)), "the keys may be on their way");
        assert!(!keys.may_look(at(500)) && !keys.may_look(at(599)));
        assert!(keys.may_look(at(600)));
    }

    #[test]
    fn the_last_good_keys_stay_where_reading_fails() {
        let keys = Keys::new(PACE);
        assert!(keys.may_look(at(0)) && keys.wait_ms(at(0)) == 0);
        keys.refresh(secret, at(0)).unwrap();
        assert!(keys.current().has_family(AlgorithmFamily::Hmac));
        assert!(keys.refresh(|| Err("gone".to_owned()), at(1000)).is_err());
        assert!(keys.current().has_family(AlgorithmFamily::Hmac));
    }

    #[test]
    fn unknown_keys_are_looked_for_so_often_also_where_that_fails() {
        let keys = Keys::with(secret().unwrap(), PACE, at(0));
        assert!(!keys.may_look(at(99)) && keys.may_look(at(100)));
        let _ = keys.refresh(|| Err("gone".to_owned()), at(100));
        assert!(!keys.may_look(at(199)) && keys.may_look(at(200)));
        assert_eq!(keys.wait_ms(at(200)), 900);
        assert_eq!(keys.wait_ms(at(2000)), 0);
    }

    #[test]
    fn a_short_secret_is_refused() {
        assert_eq!(KeySet::of_secret(&[1; 31]).err().as_deref(), Some("a secret of 31 bytes; at least 32 are needed"));
    }

    #[test]
    fn what_is_no_set_is_refused() {
        for text in ["", "{}", "[]", r#"{"keys":{}}"#, r#"{"keys":[]}"#, "-----BEGIN PUBLIC KEY-----", "keys"] {
            assert!(KeySet::parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn keys_that_are_of_no_use_are_passed_over() {
        let text = r#"{"keys":[
            {"kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"},
            {"kty":"new","crv":"x"}, 7,
            {"kty":"OKP","crv":"Ed25519","use":"enc","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
            {"kty":"OKP","crv":"Ed25519","alg":"RSA-OAEP","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
            {"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
        let set = KeySet::parse(text.as_bytes()).unwrap();
        assert_eq!(set.keys.len(), 1);
        assert_eq!(set.candidates(Some("a"), Algorithm::EdDSA).count(), 1);
        assert_eq!(set.candidates(None, Algorithm::EdDSA).count(), 1);
        assert_eq!(set.candidates(Some("b"), Algorithm::EdDSA).count(), 0);
        assert_eq!(set.candidates(Some("a"), Algorithm::HS256).count(), 0);
    }
}
