//! Messages of MQTT of QoS 1 and 2 that sessions have to keep before they are acknowledged.
//!
//! Where topics are stored, a session that outlives its connection keeps the messages that wait for it through a restart. The publisher may forget a
//! message once it is acknowledged; so the owner of its topic answers when every shard that it was sent to has said that its sessions keep it. A group
//! that deals a message to another shard says how many more answers there will be.

use crate::base::ShardSet;
use crate::desk::{Answer, Applied, Desk, Storing};
use crate::mail::{Action, Change, Share};
use crate::owner::Owner;
use crate::protocol::{ErrorCode, Refusal};
use crate::topic::publication::Keep;
use crate::topic::tree::Place;
use crate::wire::mqtt::QoS;
use hashbrown::HashMap;

/// Messages that are not kept everywhere.
#[derive(Default)]
pub struct Keepings {
    by_ticket: HashMap<u64, Keeping>,
    /// That of the update under way.
    current: Option<u64>,
    /// Whether a client's update is under way.
    pub is_open: bool,
}

#[derive(Default)]
struct Keeping {
    /// Answers of shards that the owner sent the message to.
    waiting: u32,
    /// Answers of those to whom it was dealt; below 0 while these are ahead of who dealt.
    dealt: i64,
    refusal: Option<Refusal>,
    /// The publisher's answer, once the message is applied.
    held: Option<(Applied, Answer)>,
}

impl Keepings {
    pub fn len(&self) -> usize {
        self.by_ticket.len()
    }
}

impl Owner {
    /// A client's update of a topic is about to be sent to shards some of which keep sessions: they have to say that these keep it. `None` where
    /// nothing is to be waited for.
    pub(super) fn start_keeping(&mut self, desk: &mut Desk, place: Place, qos: QoS) -> Option<Keep> {
        let shards = self.tree.topic(place).interested.intersection(desk.keepers);
        if !self.keepings.is_open || shards.is_empty() || qos == QoS::AtMostOnce || desk.ledger.storing() != Storing::Stored {
            return None;
        }
        let ticket = desk.take_ticket();
        self.keepings.by_ticket.insert(ticket, Keeping { waiting: shards.len() as u32, ..Keeping::default() });
        self.keepings.current = Some(ticket);
        Some(Keep { owner: desk.identity.index, ticket, shards })
    }

    /// While storage fails, a message that its publisher relies on is refused where sessions would have to keep it.
    pub(super) fn check_keeping(&self, desk: &Desk, found: Option<Place>, path: &str, change: &Change<'_>) -> Result<(), Refusal> {
        let Action::Message(message) = &change.action else { return Ok(()) };
        if !desk.ledger.is_failing() || message.head.qos == QoS::AtMostOnce {
            return Ok(());
        }
        let mut interested = ShardSet::default();
        match found {
            Some(place) => interested = self.tree.topic(place).interested,
            None => self.shards_interested.for_each_match(path, |_, shards| interested = interested.union(*shards)),
        }
        if interested.intersection(desk.keepers).is_empty() {
            return Ok(());
        }
        let why = "sessions that outlive the server would have to keep the message, and storage fails";
        Err(Refusal::new(ErrorCode::StorageUnavailable, why))
    }

    /// The message that the last update sent.
    pub fn take_keeping(&mut self) -> Option<u64> {
        self.keepings.current.take()
    }

    /// Answers an update, once its message is kept.
    pub fn acknowledge_kept(&mut self, desk: &mut Desk, applied: Applied, answer: Answer, keeping: Option<u64>) {
        match keeping.and_then(|ticket| Some((ticket, self.keepings.by_ticket.get_mut(&ticket)?))) {
            None => desk.acknowledge(applied, answer),
            Some((ticket, keeping)) => {
                keeping.held = Some((applied, answer));
                self.finish_keeping(desk, ticket);
            }
        }
    }

    pub fn kept(&mut self, desk: &mut Desk, ticket: u64, share: Share, refusal: Option<Refusal>) {
        let Some(keeping) = self.keepings.by_ticket.get_mut(&ticket) else { return };
        match share {
            Share::Whole { dealt } => {
                keeping.waiting -= 1;
                keeping.dealt += i64::from(dealt);
            }
            Share::Dealt => keeping.dealt -= 1,
        }
        keeping.refusal = keeping.refusal.take().or(refusal);
        self.finish_keeping(desk, ticket);
    }

    fn finish_keeping(&mut self, desk: &mut Desk, ticket: u64) {
        let is_done = |keeping: &Keeping| keeping.waiting == 0 && keeping.dealt == 0 && keeping.held.is_some();
        if !self.keepings.by_ticket.get(&ticket).is_some_and(is_done) {
            return;
        }
        let Some(Keeping { refusal, held: Some((applied, answer)), .. }) = self.keepings.by_ticket.remove(&ticket) else { return };
        let why = |refusal: Refusal| Refusal::new(ErrorCode::StorageUnavailable, refusal.message);
        desk.acknowledge(applied.and_then(|applied| refusal.map_or(Ok(applied), |refusal| Err(why(refusal)))), answer);
    }
}
