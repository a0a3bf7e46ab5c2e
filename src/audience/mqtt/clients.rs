//! Sessions of MQTT by their clients' identifiers, and shared subscriptions by their filters.
//!
//! The table has no text of its own, and compares with what the sessions have.

use crate::base::{PlaceTable, SessionKey, Slab, SlabKey};
use crate::session::Session;
use xxhash_rust::xxh3::xxh3_64;

/// See the module. A session that is in it stands in the slab that it is asked with.
#[derive(Default)]
pub struct Clients(PlaceTable);

impl Clients {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn find(&self, sessions: &Slab<Session, SessionKey>, client_id: &str) -> Option<SessionKey> {
        let place = self.0.find(short_hash(client_id), |place| is_of(sessions, place, client_id))?;
        sessions.key_at(place)
    }

    /// The session is its client's from now on, and no other one.
    pub fn insert(&mut self, sessions: &Slab<Session, SessionKey>, session: SessionKey) {
        let client_id = client_id_of(sessions, session).expect("a client's session is of MQTT");
        self.0.put(short_hash(client_id), session.index(), |place| is_of(sessions, place, client_id));
    }

    /// The session is over; its client may have another one.
    pub fn remove(&mut self, sessions: &Slab<Session, SessionKey>, session: SessionKey) {
        if let Some(client_id) = client_id_of(sessions, session) {
            self.0.remove(short_hash(client_id), session.index());
        }
    }
}

fn client_id_of(sessions: &Slab<Session, SessionKey>, session: SessionKey) -> Option<&str> {
    Some(&*sessions.get(session)?.mqtt.as_ref()?.client_id)
}

fn is_of(sessions: &Slab<Session, SessionKey>, place: u32, client_id: &str) -> bool {
    sessions.key_at(place).and_then(|session| client_id_of(sessions, session)) == Some(client_id)
}

fn short_hash(client_id: &str) -> u32 {
    xxh3_64(client_id.as_bytes()) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{SessionId, ShardIndex, Time};
    use crate::session::{Form, Life, Mqtt, MqttForm};
    use crate::wire::mqtt::Version;

    fn session(number: u64, client_id: &str) -> Session {
        let form = Form::Mqtt(MqttForm { version: Version::V5, is_websocket: false, is_shared: false });
        let mut session = Session::new(SessionId::new(ShardIndex(0), number), Life::GivenUp, form, Time(0));
        session.mqtt = Some(Box::new(Mqtt::new(client_id.into(), Version::V5)));
        session
    }

    #[test]
    fn a_client_has_its_newest_session_until_that_is_over() {
        let (mut sessions, mut clients) = (Slab::default(), Clients::default());
        let ids: Vec<String> = (0..1000).map(|number| format!("meter-{number}")).collect();
        let make = |sessions: &mut Slab<Session, SessionKey>, clients: &mut Clients, number: usize| {
            let key = sessions.insert(session(number as u64, &ids[number]));
            clients.insert(sessions, key);
            key
        };
        let first: Vec<SessionKey> = (0..ids.len()).map(|number| make(&mut sessions, &mut clients, number)).collect();
        let second: Vec<SessionKey> = (0..500).map(|number| make(&mut sessions, &mut clients, number)).collect();
        assert_eq!(clients.len(), 1000);
        // What a session leaves is not another's.
        first.iter().for_each(|key| clients.remove(&sessions, *key));
        for (number, id) in ids.iter().enumerate() {
            assert_eq!(clients.find(&sessions, id), second.get(number).copied(), "{id}");
        }
        second.iter().for_each(|key| clients.remove(&sessions, *key));
        assert_eq!((clients.len(), clients.find(&sessions, "meter-1")), (0, None));
    }
}
