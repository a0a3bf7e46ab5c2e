//! The groups at work: what this shard has decided on its way to their logs, and what the logs say on its way to topics.

use super::Shard;
use super::restore::specification_of;
use crate::base::{Time, TopicId};
use crate::cluster::{Entry, topic_id};
use crate::cluster::{Found, Row, Source};
use crate::desk::{Answer, Back, Fate, Forwarder, Given, Known, Outgoing, Proposal, Proposed, Role, Said, Unsent, Weight, refusal_of};
use crate::journal::StoredTopic;
use crate::owner::{replied, reply_of};
use crate::protocol::{ErrorCode, Refusal};

/// A shard as whoever carries its groups' logs sees it. After each method poll the shard as ever.
pub struct Replication<'s> {
    shard: &'s mut Shard,
}

/// What stands in a group's log, at which place and in which term.
#[derive(Clone, Copy, Debug)]
pub struct Landed<'a> {
    pub group: u16,
    /// Its place in the log: rising. See `cluster::place`.
    pub place: u64,
    pub term: u64,
    /// The number that this shard has proposed it by in this run.
    pub own: Option<u64>,
    pub entry: &'a [u8],
}

impl<'s> Replication<'s> {
    pub fn of(shard: &'s mut Shard, now: Time) -> Self {
        shard.desk.turn.now = now;
        Self { shard }
    }

    /// Topics more than there are now, once all that was decided here is applied.
    pub fn topics_ahead(&self) -> isize {
        self.shard.owner.ahead().more()
    }

    /// What is to be put to logs, in order.
    pub fn poll_proposals(&mut self) -> Option<Vec<Proposal>> {
        self.shard.desk.groups.poll_proposals()
    }

    /// Proposals that there was no room for come back, in front of what came since.
    pub fn return_proposals(&mut self, proposals: Vec<Proposal>) {
        self.shard.desk.groups.return_proposals(proposals);
    }

    /// Whether what is here may not be the newest from now on.
    pub fn handle_staleness(&mut self, is_stale: bool) {
        let Shard { desk, audience, .. } = &mut *self.shard;
        let closes = desk.limits.closes_stale;
        if desk.groups.is_stale() != is_stale {
            desk.groups.set_stale(is_stale, closes);
            audience.staleness_changed();
        }
    }

    /// This server leads the group from now on, of whose log all before the term is applied here; or it does not, and what was decided here and is not applied
    /// may never be. Who waits for that is told once its fate is known.
    pub fn handle_role(&mut self, group: u16, role: Role) {
        let Shard { desk, owner, .. } = &mut *self.shard;
        if matches!(role, Role::Leads { .. }) {
            // Whoever decides sees no topic that a snapshot has not.
            owner.end_install(desk, group);
        }
        if desk.groups.set_role(desk.turn.now, group, role) {
            owner.forget_proposed(group);
        }
        self.decide_waiting(group);
    }

    /// Another server's snapshot takes the place of what is here of a group's topics: some of them. Those of other shards are passed over. An error says what this version
    /// cannot make of one.
    pub fn handle_installed(&mut self, group: u16, topics: Vec<(TopicId, StoredTopic, bool)>) -> Result<(), String> {
        let Shard { desk, owner, .. } = &mut *self.shard;
        for (id, topic, is_passing) in topics {
            let specification = specification_of(&mut desk.specifications, &topic)?;
            owner.install_topic(desk, group, (id, topic), (specification, is_passing))?;
        }
        self.shard.settle();
        Ok(())
    }

    /// That was all of the group's, as of this place of its log, and these are the updates that it is known to have: what else is here of the group goes, a part at a time.
    pub fn handle_all_installed(&mut self, group: u16, place: u64, made: &[(Source, Row)]) {
        let Shard { desk, owner, .. } = &mut *self.shard;
        made.iter().for_each(|(source, row)| desk.groups.merge_made(group, *source, row));
        desk.groups.take_place(group, place);
        owner.finish_install(desk, group, topic_id(0, desk.groups.count(), place + 1));
        let seen = desk.groups.take_seen(group);
        self.give(seen);
    }

    /// What is to be sent to the servers that lead, in order.
    pub fn poll_forward(&mut self) -> Option<Outgoing> {
        self.shard.desk.groups.poll_forward()
    }

    /// An update that a server has forwarded, which takes this one to lead in this term. `number` is the caller's own, which the reply has.
    pub fn handle_forwarded(&mut self, (group, term): (u16, u64), from: Forwarder, number: u64, request: &[u8]) -> Option<Vec<u8>> {
        let Shard { desk, owner, .. } = &mut *self.shard;
        if !desk.groups.takes(group, term, from) {
            return Some(reply_of(&Said::Lost(Fate::Void)));
        }
        let answer = Answer::Server { number };
        if let Err(what) = owner.update_for_server(desk, (group, term), from, request, answer) {
            let refusal =
                Refusal::new(ErrorCode::MalformedFrame, format!("the server that leads the topic's group cannot read the update: {what}"));
            return Some(reply_of(&Said::Result(Err(refusal), 0)));
        }
        self.shard.settle();
        None
    }

    /// The answers to updates that other servers have forwarded, with the numbers that these came with.
    pub fn poll_replies(&mut self) -> Vec<(u64, Vec<u8>)> {
        let replies = self.shard.desk.groups.poll_replies();
        replies.into_iter().map(|reply| (reply.number, reply_of(&reply.said))).collect()
    }

    /// What became of an update that was sent to a server that leads: its reply, or that there is none.
    pub fn handle_reply(&mut self, group: u16, ticket: u64, reply: Result<&[u8], Fate>) {
        let back = match reply.map(replied) {
            Ok(Some(Said::Result(result, index))) => Back::Answered(result, index),
            Ok(Some(Said::NotMade)) => Back::NotMade,
            Ok(Some(Said::Lost(Fate::Void))) | Err(Fate::Void) => Back::NotDone,
            Ok(Some(Said::Lost(Fate::Unknown)) | None) | Err(Fate::Unknown) => Back::Unknown,
        };
        let Shard { desk, .. } = &mut *self.shard;
        let given = desk.groups.take_back(desk.turn.now, group, ticket, back);
        self.give(given.into_iter().collect());
        self.decide_waiting(group);
    }

    /// Where this server leads, it decides on what waits for somebody to.
    fn decide_waiting(&mut self, group: u16) {
        let waiting = self.shard.desk.groups.take_unsent(group);
        if waiting.is_empty() {
            return;
        }
        let Role::Leads { term } = self.shard.desk.groups.role(group) else { return };
        // As many as came while nobody was known to lead, which is bounded.
        for Unsent { number, known, request, answer } in waiting {
            let Shard { desk, owner, .. } = &mut *self.shard;
            // All before the term is applied here, and in this one nothing of it was put to the log.
            match (known, desk.groups.find_made(group, number)) {
                (Known::Open | Known::Put, Found::Made(made, _)) => self.give(vec![(answer, Ok(made.outcome()))]),
                (Known::Open | Known::Put, Found::Forgotten) => self.give(vec![(answer, Err(refusal_of(Fate::Unknown)))]),
                (Known::Put, Found::NotMade) => self.give(vec![(answer, Err(refusal_of(Fate::Void)))]),
                (Known::Open, Found::NotMade) | (Known::NotMade, _) => {
                    let from = Forwarder { source: desk.groups.source(), number, attempt: 0 };
                    owner.update_for_server(desk, (group, term), from, &request, answer).expect("this server has made it");
                }
            }
        }
        self.shard.settle();
    }

    /// The log of a group says something of a topic of this shard. What stands in a group's log comes in its order; what was applied before is passed over. An entry that
    /// was decided in another term is void. An error says what this version cannot make of the entry: nothing behind it may be applied.
    pub fn handle_entry(&mut self, landed: Landed<'_>) -> Result<(), String> {
        let Landed { group, place, term, own, entry } = landed;
        let entry = Entry::decode(entry).map_err(|_| "the entry has a form that is not known".to_owned())?;
        let Shard { desk, owner, .. } = &mut *self.shard;
        if !desk.groups.take_place(group, place) {
            return Ok(());
        }
        if entry.term != term {
            if let Some(number) = own {
                self.handle_lost(group, number, Fate::Void);
            }
            return Ok(());
        }
        let id = topic_id(group, desk.groups.count(), place);
        let proposed = own.map(|number| Proposed { group, number, term, weight: Weight::Entry });
        owner.apply_entry(desk, id, proposed, &entry)?;
        if let Some(asked) = &entry.asked {
            desk.groups.note_made(group, asked, entry.time_ms, place);
        }
        let seen = self.shard.desk.groups.take_seen(group);
        // What the update caused comes before its answer.
        self.shard.settle();
        if let Some(number) = own {
            self.handle_confirmed(group, number, term);
        }
        if !seen.is_empty() {
            self.give(seen);
        }
        Ok(())
    }

    /// A proposal without an entry: this server led the group in this term when all before it was applied.
    pub fn handle_confirmed(&mut self, group: u16, number: u64, term: u64) {
        let Shard { desk, .. } = &mut *self.shard;
        let given = desk.groups.note_applied(desk.turn.now, group, number, term);
        self.give(given);
    }

    /// The proposals up to this one that were not applied never will be, or it is not known.
    pub fn handle_lost(&mut self, group: u16, last: u64, fate: Fate) {
        let Shard { desk, .. } = &mut *self.shard;
        let given = desk.groups.note_lost(desk.turn.now, group, last, fate);
        self.give(given);
        self.decide_waiting(group);
    }

    /// Time passes for what waits for other servers.
    pub(super) fn tick(&mut self) {
        let (now, patience_ms) = (self.shard.desk.turn.now, self.shard.desk.limits.leader_patience_ms);
        let given = self.shard.desk.groups.tick(now, patience_ms);
        given.into_iter().for_each(|(answer, result)| self.shard.give(answer, result));
        (0..self.shard.desk.groups.count()).for_each(|group| self.decide_waiting(group));
    }

    fn give(&mut self, given: Vec<Given>) {
        let Shard { desk, owner, .. } = &mut *self.shard;
        owner.resume_removals(desk);
        // Publishers are not read where more than `limits.mail_high` answers wait.
        for (answer, result) in given {
            self.shard.give(answer, result);
        }
        self.shard.settle();
    }
}
