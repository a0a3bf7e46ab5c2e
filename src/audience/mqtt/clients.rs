//! Sessions of MQTT by their clients' identifiers, and shared subscriptions by their filters.
//!
//! There may be hundreds of thousands: the table has no text of its own, and compares with what the sessions have. It holds hashes, so that it grows
//! without a look at every session.

use crate::base::{SessionKey, Slab};
use crate::session::Session;
use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

/// See the module. A session that is in it stands in the slab that it is asked with.
#[derive(Default)]
pub struct Clients(HashTable<Slot>);

struct Slot {
    session: SessionKey,
    hash: u32,
}

impl Clients {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn find(&self, sessions: &Slab<Session, SessionKey>, client_id: &str) -> Option<SessionKey> {
        let hash = short_hash(client_id);
        let is_of = |slot: &Slot| slot.hash == hash && client_id_of(sessions, slot.session) == Some(client_id);
        self.0.find(spread(hash), is_of).map(|slot| slot.session)
    }

    /// The session is its client's from now on, and no other one.
    pub fn insert(&mut self, sessions: &Slab<Session, SessionKey>, session: SessionKey) {
        let client_id = client_id_of(sessions, session).expect("a client's session is of MQTT");
        let hash = short_hash(client_id);
        let is_of = |slot: &Slot| slot.hash == hash && client_id_of(sessions, slot.session) == Some(client_id);
        match self.0.find_mut(spread(hash), is_of) {
            Some(slot) => slot.session = session,
            None => drop(self.0.insert_unique(spread(hash), Slot { session, hash }, |slot| spread(slot.hash))),
        }
    }

    /// The session is over; its client may have another one.
    pub fn remove(&mut self, sessions: &Slab<Session, SessionKey>, session: SessionKey) {
        let Some(client_id) = client_id_of(sessions, session) else { return };
        if let Ok(entry) = self.0.find_entry(spread(short_hash(client_id)), |slot| slot.session == session) {
            entry.remove();
        }
    }
}

fn client_id_of(sessions: &Slab<Session, SessionKey>, session: SessionKey) -> Option<&str> {
    Some(&*sessions.get(session)?.mqtt.as_ref()?.client_id)
}

fn short_hash(client_id: &str) -> u32 {
    xxh3_64(client_id.as_bytes()) as u32
}

/// The table uses the low bits of a hash, and its highest ones.
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
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
