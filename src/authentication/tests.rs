//! The authenticators from outside: tokens by their standards' examples, an endpoint that misbehaves, whole chains.

mod chain;
mod token;
mod webhook;

use std::net::IpAddr;
use std::sync::Arc;

use super::{Anonymous, Credentials, Known, Now, Principals, Properties, Question, Secret};
use crate::base::Time;

pub fn question(principal: &str) -> Question {
    Question {
        principal: principal.into(),
        credentials: Credentials::None,
        address: IpAddr::from([127, 0, 0, 1]),
        certificate: None,
        properties: Vec::new(),
    }
}

pub fn with_password(principal: &str, password: &str) -> Question {
    Question { credentials: Credentials::Password(Secret::new(password.as_bytes())), ..question(principal) }
}

pub fn with_token(principal: &str, token: &str) -> Question {
    Question { credentials: Credentials::Token(Secret::new(token.as_bytes())), ..question(principal) }
}

/// `ms` after the start, which is at 1,000,000 seconds since 1970.
pub fn at(ms: u64) -> Now {
    Now { monotonic: Time::default().after_ms(ms), wall_ms: 1_000_000_000 + ms }
}

/// Knows `alice`, by the hash it has.
pub struct Store {
    pub hash: Arc<str>,
    pub anonymous: Anonymous,
}

impl Principals for Store {
    fn look_up(&self, principal: &str) -> Option<Known> {
        (principal == "alice").then(|| Known { hash: self.hash.clone(), roles: vec!["CLIENT".into()] })
    }

    fn anonymous(&self) -> Anonymous {
        self.anonymous.clone()
    }

    fn accept_properties(&self, proposed: &[(Box<str>, Box<str>)]) -> Properties {
        proposed.iter().filter(|(name, _)| &**name == "Trusted").cloned().collect()
    }
}
