//! The head of a connection of the common port: who asks, and for what: an upgrade to WebSocket, or a page.

use super::mqtt::Link;
use super::native::Native;
use super::{Doors, Effect, Stage, Unidentified, in_six};
use crate::audience::Audience;
use crate::base::ConnectionKey;
use crate::desk::{Desk, Log};
use crate::wire::event::Form;
use crate::wire::http;
use crate::wire::origin::Foreign;

/// What is logged of a name that somebody sent.
const LOGGED_CHARACTERS_MAX: usize = 200;

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

    /// Reads the head, where it is whole, by the rules of the listener that it came by; how many bytes that was.
    pub(super) fn read_head(
        &mut self,
        desk: &mut Desk,
        audience: &mut Audience,
        (key, listener): (ConnectionKey, u16),
        bytes: &[u8],
    ) -> usize {
        let head = http::parse_head(bytes, desk.limits.http_fields_max);
        let head_bytes = head.as_ref().map_or(0, |head| head.as_ref().map_or(bytes.len(), |head| head.length));
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
            Ok(Some(head)) => {
                self.note_forwarded(desk, (key, listener), &head);
                match desk.limits.web_of(listener).check(head.host.as_deref(), head.origin.as_deref()) {
                    Err(foreign) => self.refuse_foreign(desk, audience, key, &head, foreign),
                    Ok(()) => self.take_head(desk, audience, key, head),
                }
                head_bytes
            }
        }
    }

    /// The request may be another's than its connection: a proxy's word is taken where the listener's rules trust it.
    fn note_forwarded(&mut self, desk: &mut Desk, (key, listener): (ConnectionKey, u16), head: &http::Head) {
        let connection = self.connections.get_mut(key).expect("its head was just read");
        let (Some(forwarded), Some(arrival)) = (&head.forwarded, connection.arrival.as_deref_mut()) else { return };
        let peer = arrival.address.to_canonical();
        let client = desk.limits.web_of(listener).proxies.client(peer, forwarded);
        if client != peer {
            arrival.address = in_six(client);
            desk.effects.push(Effect::Locate(key, client));
        }
    }

    fn take_head(&mut self, desk: &mut Desk, audience: &mut Audience, key: ConnectionKey, head: http::Head) {
        match head.asks {
            http::Asks::Request(request) => self.take_request(desk, audience, key, request, head.authorization),
            // Its client says in CONNECT who it is.
            http::Asks::Upgrade(upgrade) => self.upgrade(desk, audience, key, &upgrade),
        }
    }

    /// The operator is told too: whose page it was may be one of his own.
    fn refuse_foreign(&mut self, desk: &mut Desk, audience: &mut Audience, key: ConnectionKey, head: &http::Head, foreign: Foreign) {
        let said =
            |text: &Option<String>| text.as_deref().unwrap_or_default().chars().take(LOGGED_CHARACTERS_MAX).collect::<String>().into();
        let host = said(&head.host);
        let (log, text) = match foreign {
            Foreign::Host => (Log::ForeignHost { host }, "the server has no such name; server.hosts names those that it has"),
            Foreign::Page => {
                let log = Log::ForeignPage { origin: said(&head.origin), host };
                (log, "the page is of another origin than the server; server.origins names others that may ask")
            }
        };
        desk.effects.push(Effect::Log(log));
        let said = Unidentified { principal: "".into(), why: text.into() };
        self.note_no_page(desk, key, None, (403, &said));
        self.respond_text(desk, audience, key, 403, text);
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
