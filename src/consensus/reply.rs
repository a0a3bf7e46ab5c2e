//! What became of one proposed entry, as openraft says it.

use std::marker::PhantomData;
use std::rc::Rc;

use openraft::error::ClientWriteError;
use openraft::raft::ClientWriteResult;
use openraft::raft::responder::Responder;

use super::group::Group;
use super::types::Types;
use super::{Fate, News};

/// An entry that was proposed at this node, until its fate is known. Dropped without a word, its fate is as far as it had come.
pub struct Asked {
    group: Rc<Group>,
    /// Of its parts.
    tickets: Box<[u64]>,
    bytes: usize,
    fate: Option<Fate>,
}

impl Asked {
    /// Counts the entry as open. It is not with openraft yet.
    pub fn new(group: Rc<Group>, tickets: Box<[u64]>, bytes: usize) -> Self {
        group.add_open(bytes);
        Self { group, tickets, bytes, fate: Some(Fate::NotCommitted) }
    }

    /// From now on it may be in a log.
    pub fn hand_over(mut self) -> Reply<ClientWriteResult<Types>> {
        self.fate = Some(Fate::Unknown);
        Reply { asked: self, settle: Asked::settle, of: PhantomData }
    }

    fn settle(&mut self, result: ClientWriteResult<Types>) {
        self.fate = match result {
            Ok(applied) => {
                self.group.note_tickets(applied.log_id.index, std::mem::take(&mut self.tickets));
                None
            }
            // It was refused before it was in the log.
            Err(ClientWriteError::ForwardToLeader(_)) => Some(Fate::NotCommitted),
            // It was cut from this node's log, but another that has it may still lead.
            Err(_) => Some(Fate::Unknown),
        };
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.group.remove_open(self.bytes);
        if let Some(fate) = self.fate {
            self.tickets.iter().for_each(|ticket| self.group.tell(News::Lost { group: self.group.id, ticket: *ticket, fate }));
        }
    }
}

/// The responder of openraft for one entry.
pub struct Reply<T> {
    asked: Asked,
    settle: fn(&mut Asked, T),
    of: PhantomData<fn(T)>,
}

impl<T: 'static> Responder<Types, T> for Reply<T> {
    fn on_complete(mut self, result: T) {
        (self.settle)(&mut self.asked, result);
    }
}
