//! The head of a connection of the common port: an upgrade to WebSocket, or a request for a page.

use super::mqtt::Link;
use super::native::Native;
use super::{Doors, Effect, Stage};
use crate::audience::Audience;
use crate::base::ConnectionKey;
use crate::desk::Desk;
use crate::wire::event::Form;
use crate::wire::http;

impl Doors {
    /// Answers an admin request.
    pub fn respond(&mut self, desk: &mut Desk, audience: &mut Audience, key: ConnectionKey, status: u16, page: (&str, &[u8])) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let (content_type, body) = page;
        http::put_response(&mut connection.raw, status, content_type, body);
        self.end(desk, audience, key);
    }

    pub(super) fn respond_text(&mut self, desk: &mut Desk, audience: &mut Audience, key: ConnectionKey, status: u16, text: &str) {
        self.respond(desk, audience, key, status, ("text/plain; charset=utf-8", format!("{text}\n").as_bytes()));
    }

    /// Reads the head, where it is whole; how many bytes that was.
    pub(super) fn read_head(&mut self, desk: &mut Desk, audience: &mut Audience, key: ConnectionKey, bytes: &[u8]) -> usize {
        let head = http::parse_head(bytes, desk.limits.http_fields_max);
        let head_bytes = head.as_ref().map_or(0, |head| head.as_ref().map_or(bytes.len(), |(length, _)| *length));
        if head_bytes > desk.limits.http_head_bytes_max {
            self.respond_text(desk, audience, key, 431, "the request's head is too long");
            return 0;
        }
        match head {
            Ok(None) => 0,
            Err(refusal) => {
                self.respond_text(desk, audience, key, refusal.status, refusal.reason);
                0
            }
            Ok(Some((length, http::Head::Request(request)))) => {
                self.connections.get_mut(key).expect("its head was just read").stage = Stage::Page;
                desk.effects.push(Effect::Http(key, request));
                length
            }
            Ok(Some((length, http::Head::Upgrade(upgrade)))) => {
                self.upgrade(desk, audience, key, &upgrade);
                length
            }
        }
    }

    fn upgrade(&mut self, desk: &mut Desk, audience: &mut Audience, key: ConnectionKey, upgrade: &http::Upgrade) {
        let (has_mqtt, offers) = (desk.limits.has_mqtt, &upgrade.protocols);
        match upgrade.path.as_str() {
            "/mqtt" if has_mqtt => {
                // MQTT-6.0.0-3 and 4: the client offers `mqtt`, and the server chooses it; `mqttv3.1` is that of MQTT 3.1.
                match offers.iter().find_map(|offered| ["mqtt", "mqttv3.1"].into_iter().find(|name| name == offered)) {
                    Some(name) => self.switch(desk, key, Stage::Mqtt(Link::new(true)), upgrade, name),
                    None => self.respond_text(desk, audience, key, 400, "Sec-WebSocket-Protocol must offer mqtt or mqttv3.1"),
                }
            }
            "/tidewire" => {
                let known = [("tidewire.1", Form::Binary), ("tidewire.1.json", Form::Text)];
                match offers.iter().find_map(|offered| known.into_iter().find(|(name, _)| name == offered)) {
                    Some((name, form)) => self.switch(desk, key, Stage::Native(Native::new(form)), upgrade, name),
                    None => {
                        self.respond_text(desk, audience, key, 400, "Sec-WebSocket-Protocol must offer tidewire.1 or tidewire.1.json");
                    }
                }
            }
            _ => {
                let paths = if has_mqtt { "/tidewire and /mqtt" } else { "/tidewire" };
                self.respond_text(desk, audience, key, 404, &format!("WebSocket is served at {paths}"));
            }
        }
    }

    fn switch(&mut self, desk: &mut Desk, key: ConnectionKey, stage: Stage, upgrade: &http::Upgrade, protocol: &str) {
        let connection = self.connections.get_mut(key).expect("its head was just read");
        connection.stage = stage;
        http::put_switching(&mut connection.raw, &upgrade.accept_key, protocol);
        desk.effects.wake(key);
    }
}
