//! Sessions as earlier servers kept them: without what says which messages were sent, and which group dealt one.

use super::record::{EventRecord, FilterRecord, MessageRecord, SessionRecord, WillRecord};
use rkyv::rancor::Failure;
use rkyv::{Archive, Deserialize, Serialize};

#[derive(Archive, Serialize, Deserialize, Debug)]
pub struct OldSession {
    version: u8,
    expiry_s: u32,
    expires_ms: Option<u64>,
    filters: Vec<FilterRecord>,
    will: Option<WillRecord>,
}

#[derive(Archive, Serialize, Deserialize, Debug)]
pub enum OldEvent {
    Message(OldMessage),
    Released { sequence: u64 },
    Inbound { id: u16, number: u64 },
    Seen { publisher: u64, number: u64 },
}

#[derive(Archive, Serialize, Deserialize, Debug)]
pub struct OldMessage {
    path: String,
    payload: Vec<u8>,
    qos: u8,
    retain: bool,
    subscription_ids: Vec<u32>,
    passed_on: Vec<u8>,
    expires_ms: Option<u64>,
    publisher: Option<(u64, u64)>,
}

/// `None` where the bytes are no such record.
pub fn decode_session(bytes: &[u8]) -> Option<SessionRecord> {
    let OldSession { version, expiry_s, expires_ms, filters, will } = rkyv::from_bytes::<OldSession, Failure>(bytes).ok()?;
    Some(SessionRecord { version, expiry_s, expires_ms, sent: None, filters, will, roles: String::new(), principal: None })
}

/// A session as it was kept when its principal was a property of its topic.
#[derive(Archive, Serialize, Deserialize, Debug)]
pub struct SessionWithoutPrincipal {
    version: u8,
    expiry_s: u32,
    expires_ms: Option<u64>,
    sent: Option<Vec<u64>>,
    filters: Vec<FilterRecord>,
    will: Option<WillRecord>,
    roles: String,
}

/// `None` where the bytes are no such record.
pub fn decode_session_without_principal(bytes: &[u8]) -> Option<SessionRecord> {
    let record = rkyv::from_bytes::<SessionWithoutPrincipal, Failure>(bytes).ok()?;
    let SessionWithoutPrincipal { version, expiry_s, expires_ms, sent, filters, will, roles } = record;
    Some(SessionRecord { version, expiry_s, expires_ms, sent, filters, will, roles, principal: None })
}

/// A session as it was kept when clients had no roles.
#[derive(Archive, Serialize, Deserialize, Debug)]
pub struct SessionWithoutRoles {
    version: u8,
    expiry_s: u32,
    expires_ms: Option<u64>,
    sent: Option<Vec<u64>>,
    filters: Vec<FilterRecord>,
    will: Option<WillRecord>,
}

/// `None` where the bytes are no such record.
pub fn decode_session_without_roles(bytes: &[u8]) -> Option<SessionRecord> {
    let record = rkyv::from_bytes::<SessionWithoutRoles, Failure>(bytes).ok()?;
    let SessionWithoutRoles { version, expiry_s, expires_ms, sent, filters, will } = record;
    Some(SessionRecord { version, expiry_s, expires_ms, sent, filters, will, roles: String::new(), principal: None })
}

/// `None` where the bytes are no such record.
pub fn decode_event(bytes: &[u8]) -> Option<EventRecord> {
    Some(match rkyv::from_bytes::<OldEvent, Failure>(bytes).ok()? {
        OldEvent::Message(OldMessage { path, payload, qos, retain, subscription_ids, passed_on, expires_ms, publisher }) => {
            // Whether it was sent nobody noted: it may have been.
            let (group, is_sent) = (None, true);
            EventRecord::Message(MessageRecord {
                path,
                payload,
                qos,
                retain,
                subscription_ids,
                passed_on,
                expires_ms,
                publisher,
                group,
                is_sent,
            })
        }
        OldEvent::Released { sequence } => EventRecord::Released { sequence },
        OldEvent::Inbound { id, number } => EventRecord::Inbound { id, number },
        OldEvent::Seen { publisher, number } => EventRecord::Seen { publisher, number },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_server_kept_is_read() {
        let filter =
            FilterRecord { text: "a/#".into(), qos: 1, no_local: false, retain_as_published: true, retain_handling: 2, id: Some(7) };
        let old = OldSession { version: 5, expiry_s: 600, expires_ms: Some(1), filters: vec![filter], will: None };
        let bytes = rkyv::to_bytes::<Failure>(&old).expect("memory takes it");
        let read = SessionRecord::decode(&bytes).expect("it is a record");
        assert_eq!((read.version, read.expiry_s, read.expires_ms, read.sent.clone(), read.filters.len()), (5, 600, Some(1), None, 1));
        assert_eq!(SessionRecord::decode(&read.encode()), Some(read));
        let message = |path: &str| OldMessage {
            path: path.into(),
            payload: b"1".to_vec(),
            qos: 1,
            retain: false,
            subscription_ids: Vec::new(),
            passed_on: Vec::new(),
            expires_ms: None,
            publisher: Some((3, 4)),
        };
        // Whatever an old record begins with, it is not taken for a new one.
        for path in ["a", "\u{2}", "\u{2}\u{2}\u{2}\u{2}\u{2}\u{2}\u{2}\u{2}\u{2}\u{2}\u{2}\u{2}\u{2}\u{2}\u{2}\u{2}"] {
            let bytes = rkyv::to_bytes::<Failure>(&OldEvent::Message(message(path))).expect("memory takes it");
            let Some((read @ EventRecord::Message(_), None)) = EventRecord::decode(&bytes) else { panic!("it is a message") };
            let EventRecord::Message(MessageRecord { path: read_path, publisher, is_sent, .. }) = &read else { panic!("it is one") };
            assert_eq!((read_path.as_str(), *publisher, *is_sent), (path, Some((3, 4)), true));
            assert_eq!(EventRecord::decode(&read.encode()), Some((read, None)));
        }
        for (old, new) in [
            (OldEvent::Released { sequence: 2 }, EventRecord::Released { sequence: 2 }),
            (OldEvent::Inbound { id: 2, number: 2 }, EventRecord::Inbound { id: 2, number: 2 }),
            (OldEvent::Seen { publisher: 2, number: 3 }, EventRecord::Seen { publisher: 2, number: 3 }),
        ] {
            let bytes = rkyv::to_bytes::<Failure>(&old).expect("memory takes it");
            assert_eq!(EventRecord::decode(&bytes), Some((new, None)), "{old:?}");
        }
        assert_eq!((SessionRecord::decode(&[]), EventRecord::decode(&[])), (None, None));
    }
}
