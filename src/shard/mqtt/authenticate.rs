//! Enhanced authentication: the steps of a method go to whoever knows it; who knows none refuses every client that names one.

use super::put_packet;
use crate::base::Key;
use crate::shard::Shard;
use crate::wire::mqtt::{self, Auth, Connect, Fault, ReasonCode, Version};

/// What comes of a step. The bytes are for the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The client has to go on.
    Continue(Vec<u8>),
    Accept(Vec<u8>),
    Refuse(ReasonCode),
    /// There is no such method.
    Unknown,
}

/// Takes the steps of all connections: which one, its method, and what the client says. It must not wait; a connection that ends is not told of.
pub type Authenticator = Box<dyn FnMut(Key, &str, &[u8]) -> Step>;

impl Shard {
    /// From now on clients may name authentication methods.
    pub fn set_authenticator(&mut self, authenticator: Authenticator) {
        self.authenticator = Some(authenticator);
    }

    fn step(&mut self, key: Key, method: &str, content: &[u8]) -> Step {
        self.authenticator.as_mut().map_or(Step::Unknown, |authenticator| authenticator(key, method, content))
    }

    /// CONNECT names a method; `body` is all of it.
    pub(super) fn begin_authentication(&mut self, key: Key, connect: &Connect<'_>, body: &[u8]) {
        let (method, content) = connect.authentication.unwrap_or_default();
        match self.step(key, method, content) {
            Step::Accept(answer) => self.admit_client(key, connect, Some(&answer)),
            Step::Continue(answer) => {
                if let Some(link) = self.link(key) {
                    link.waiting = Some(body.into());
                }
                self.put_auth(key, ReasonCode::CONTINUE_AUTHENTICATION, method, &answer);
            }
            step => self.refuse_step(key, step),
        }
    }

    /// AUTH, before CONNACK or behind it.
    pub(super) fn go_on_authenticating(&mut self, key: Key, auth: Auth<'_>) {
        let method = auth.method.unwrap_or_default();
        match self.step(key, method, auth.content) {
            Step::Continue(answer) => self.put_auth(key, ReasonCode::CONTINUE_AUTHENTICATION, method, &answer),
            Step::Accept(answer) => {
                let Some(limits) = self.mqtt_limits() else { return };
                match self.link(key).and_then(|link| link.waiting.take()) {
                    Some(body) => match mqtt::decode_connect(&body, &limits.packet) {
                        Ok(connect) => self.admit_client(key, &connect, Some(&answer)),
                        Err(fault) => self.close_faulty(key, fault),
                    },
                    None => self.put_auth(key, ReasonCode::SUCCESS, method, &answer),
                }
            }
            step => self.refuse_step(key, step),
        }
    }

    fn refuse_step(&mut self, key: Key, step: Step) {
        match step {
            Step::Refuse(code) => self.close_with(key, code, "the authentication failed"),
            _ => self.close_faulty(key, Fault::new(ReasonCode::BAD_AUTHENTICATION_METHOD, "there is no such authentication method")),
        }
    }

    fn put_auth(&mut self, key: Key, code: ReasonCode, method: &str, content: &[u8]) {
        let bytes_max = self.desk.limits.http_head_bytes_max;
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.raw.len() > bytes_max {
            return self.close_with(key, ReasonCode::QUOTA_EXCEEDED, "too many steps that are not read");
        }
        let Some(link) = connection.link.as_deref_mut().filter(|link| link.dialogue.version() == Version::V5) else { return };
        let mut packet = Vec::new();
        link.dialogue.put_auth(&mut packet, code, method, content);
        put_packet(&mut connection.raw, link.is_websocket, &packet);
        self.desk.effects.wake(key);
    }
}
