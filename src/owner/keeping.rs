//! Messages of MQTT of QoS 1 and 2 that sessions have to keep before they are acknowledged.
//!
//! Where topics are stored, a session that outlives its connection keeps the messages that wait for it through a restart. The publisher may forget a
//! message once it is acknowledged; so the owner of its topic answers when every shard that it was sent to has said that its sessions keep it. A group
//! that deals a message to another shard says how many more answers there will be.

use crate::base::{ShardIndex, ShardSet};
use crate::desk::{Answer, Applied, Desk, Storing};
use crate::mail::{MessageChange, Share};
use crate::owner::Owner;
use crate::owner::decide::Attempt;
use crate::owner::record::Record;
use crate::protocol::{ErrorCode, Refusal};
use crate::topic::publication::Keep;
use crate::topic::tree::Place;
use crate::wire::mqtt::QoS;
use hashbrown::HashMap;
use std::sync::Arc;

/// Messages that are not kept everywhere.
#[derive(Default)]
pub struct Keepings {
    under_way: HashMap<Keeping, Waiting>,
    /// Shards whose sessions hold about as many messages as they may.
    full: ShardSet,
}

/// A message that has to be kept before its publisher is answered: the ticket that shards answer it by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Keeping(u64);

#[derive(Default)]
struct Waiting {
    /// How many shards that the owner sent the message to have not answered.
    waiting: u32,
    /// How many shards that groups dealt it to have not answered; below 0 while such answers are ahead of that of the group's shard, which counts
    /// them.
    dealt: i64,
    refusal: Option<Refusal>,
    /// The publisher's answer, once the message is applied.
    held: Option<(Applied, Answer)>,
}

impl Keepings {
    pub fn len(&self) -> usize {
        self.under_way.len()
    }
}

impl Owner {
    /// A client's update of a topic is about to be sent to shards. Those that keep sessions have to say that the sessions keep it; `None` where
    /// none has to.
    pub(super) fn start_keeping(&mut self, desk: &mut Desk, place: Place, record: &mut Record) -> Option<Keeping> {
        let shards = self.tree.topic(place).interested.intersection(desk.ledger.keepers);
        if shards.is_empty() || desk.identity.storing != Storing::Stored {
            return None;
        }
        let publication = record.publication_mut().filter(|publication| publication.qos() != QoS::AtMostOnce)?;
        let ticket = desk.take_ticket();
        let keep = Keep { owner: desk.identity.index, ticket, shards };
        Arc::get_mut(publication).expect("nobody was told of it yet").set_keep(keep);
        self.keepings.under_way.insert(Keeping(ticket), Waiting { waiting: shards.len() as u32, ..Waiting::default() });
        Some(Keeping(ticket))
    }

    pub fn shard_is_full(&mut self, shard: ShardIndex, is_full: bool) {
        if is_full {
            self.keepings.full.insert(shard);
        } else {
            self.keepings.full.remove(shard);
        }
    }

    /// A message that its publisher relies on is refused where sessions could not keep it: while storage fails and they would have to, and while the
    /// sessions of a shard hold as much as they may together.
    pub(super) fn check_keeping(&self, desk: &Desk, attempt: &Attempt<'_>, message: &MessageChange<'_>) -> Result<(), Refusal> {
        let is_failing = desk.ledger.is_failing();
        if !is_failing && self.keepings.full.is_empty() || message.head.qos == QoS::AtMostOnce {
            return Ok(());
        }
        let interested = match attempt.found {
            Some(topic) => topic.interested,
            None => self.interests.selecting(attempt.path),
        };
        if is_failing && !interested.intersection(desk.ledger.keepers).is_empty() {
            let why = "sessions that outlive the server would have to keep the message, and storage fails";
            return Err(Refusal::new(ErrorCode::StorageUnavailable, why));
        }
        if !interested.intersection(self.keepings.full).is_empty() {
            let why = "the sessions of MQTT together hold as many bytes of messages as mqtt.held_bytes_max allows";
            return Err(Refusal::new(ErrorCode::Overloaded, why));
        }
        Ok(())
    }

    /// Answers an update once its message is kept.
    pub(super) fn hold_answer(&mut self, desk: &mut Desk, applied: Applied, answer: Answer, keeping: Keeping) {
        let waiting = self.keepings.under_way.get_mut(&keeping).expect("a message is under way until its answer is held");
        waiting.held = Some((applied, answer));
        self.finish_keeping(desk, keeping);
    }

    pub fn kept(&mut self, desk: &mut Desk, ticket: u64, share: Share, refusal: Option<Refusal>) {
        let keeping = Keeping(ticket);
        let Some(waiting) = self.keepings.under_way.get_mut(&keeping) else { return };
        match share {
            Share::Whole { dealt } => {
                waiting.waiting -= 1;
                waiting.dealt += i64::from(dealt);
            }
            Share::Dealt => waiting.dealt -= 1,
        }
        waiting.refusal = waiting.refusal.take().or(refusal);
        self.finish_keeping(desk, keeping);
    }

    fn finish_keeping(&mut self, desk: &mut Desk, keeping: Keeping) {
        let waiting = self.keepings.under_way.get_mut(&keeping).expect("it was just there");
        if waiting.waiting > 0 || waiting.dealt != 0 {
            return;
        }
        let Some((applied, answer)) = waiting.held.take() else { return };
        let refusal = waiting.refusal.take();
        self.keepings.under_way.remove(&keeping);
        let why = |refusal: Refusal| Refusal::new(ErrorCode::StorageUnavailable, refusal.message);
        desk.acknowledge(applied.and_then(|applied| refusal.map_or(Ok(applied), |refusal| Err(why(refusal)))), answer);
    }
}
