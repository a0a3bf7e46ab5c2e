//! The sessions themselves, by key and by name.

use super::life::Schedule;
use crate::base::{SessionId, SessionKey, Slab};
use crate::session::Session;
use hashbrown::HashMap;

#[derive(Default)]
pub struct Sessions {
    slab: Slab<Session, SessionKey>,
    by_id: HashMap<SessionId, SessionKey>,
    /// Those that are away.
    pub away: Schedule,
}

impl Sessions {
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    pub fn insert(&mut self, session: Session) -> SessionKey {
        let id = session.id;
        let key = self.slab.insert(session);
        self.by_id.insert(id, key);
        key
    }

    pub fn get(&self, key: SessionKey) -> Option<&Session> {
        self.slab.get(key)
    }

    pub fn get_mut(&mut self, key: SessionKey) -> Option<&mut Session> {
        self.slab.get_mut(key)
    }

    pub fn remove(&mut self, key: SessionKey) -> Option<Session> {
        let session = self.slab.remove(key)?;
        self.by_id.remove(&session.id);
        Some(session)
    }

    /// The session of this name, if it is here and not over.
    pub fn find(&self, id: SessionId) -> Option<SessionKey> {
        self.by_id.get(&id).copied()
    }

    pub fn keys(&self) -> impl Iterator<Item = SessionKey> + '_ {
        self.slab.keys()
    }
}
