//! Bytes of the messages that wait in sessions of MQTT, or are under way to their clients, until they are acknowledged.
//!
//! Counted for all sessions of a shard together, and a publication once, however many of them it waits for: it is held once.

use super::Outgoing;
use std::cell::Cell;
use std::rc::Rc;

/// What a message takes beside its publication: itself, and its place in a queue.
const MESSAGE_BYTES: usize = 160;

/// The count, which every message that is part of it shares.
#[derive(Clone, Default)]
pub struct HeldBytes(Rc<Cell<usize>>);

/// One message's part of the count, which ends with it.
pub struct Hold {
    held: HeldBytes,
    outgoing: Rc<Outgoing>,
}

impl HeldBytes {
    pub fn get(&self) -> usize {
        self.0.get()
    }

    pub fn hold(&self, outgoing: &Rc<Outgoing>) -> Hold {
        let publication = if outgoing.holds.get() == 0 { outgoing.bytes() } else { 0 };
        outgoing.holds.set(outgoing.holds.get() + 1);
        self.0.set(self.get() + MESSAGE_BYTES + publication);
        Hold { held: self.clone(), outgoing: outgoing.clone() }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let Self { held, outgoing } = self;
        outgoing.holds.set(outgoing.holds.get() - 1);
        let publication = if outgoing.holds.get() == 0 { outgoing.bytes() } else { 0 };
        held.0.set(held.get() - MESSAGE_BYTES - publication);
    }
}
