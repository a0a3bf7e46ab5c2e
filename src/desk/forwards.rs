//! Updates of one group that another server decides on, in the order in which they were asked for, until they are answered.
//!
//! They go to the server that leads, one behind the other, and wait here as long as nobody is known to. What a server says it has not decided, because it does not lead any more,
//! goes to the next one. Nothing goes to a new leader while the fate of what an earlier one was sent is open, or the order of updates would be lost; where that one does not
//! say it in time it counts as unknown.
//!
//! Loops here are over what waits, which `limits.proposed_bytes_max` bounds, and each is looked at once for each change of the leader.

use super::{Answer, Fate, Given, refusal_of};
use crate::base::Time;
use crate::protocol::{ErrorCode, Refusal};
use crate::wire::native::Outcome;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// The server that leads a group, and since which term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leader {
    pub server: u64,
    pub term: u64,
}

/// What is to be sent to the leader of a group.
#[derive(Clone, Debug)]
pub struct Outgoing {
    pub group: u16,
    pub to: Leader,
    /// What the answer is to be given to.
    pub ticket: u64,
    /// Rises whenever something has come back undone: what was sent with it or before is to be sent again, in order.
    pub attempt: u64,
    pub request: Arc<[u8]>,
}

/// What became of an update that was sent.
#[derive(Clone, Debug)]
pub enum Back {
    /// What its leader says, which had applied the group's log up to this place.
    Answered(Result<Outcome, Refusal>, u64),
    /// Nothing was done: it was not sent, or who got it does not lead in the term.
    NotDone,
    /// It may have been done, or may be yet.
    Unknown,
}

/// So long a leader that leads no more may take to say what became of what it was sent.
const FATE_OPEN_MS: u64 = 300;

/// So many of a shard and group are with a leader at a time.
const IN_FLIGHT_MAX: usize = 256;

#[derive(Default)]
pub struct Forwards {
    /// By rising tickets.
    waiting: VecDeque<Waiting>,
    /// All before this one are with a leader.
    next: usize,
    /// So many are with a leader.
    in_flight: usize,
    last_ticket: u64,
    attempt: u64,
    bytes: usize,
    leader: Option<Leader>,
    /// The leader was not reached, or does not lead any more: nothing goes there before the next tick.
    is_held: bool,
    /// When the leader changed, if updates may be with another since.
    changed: Option<Time>,
    /// Answers of updates that are not applied here yet, by the place of the log that they wait for.
    behind: BTreeMap<u64, Vec<Given>>,
}

struct Waiting {
    ticket: u64,
    since: Time,
    request: Arc<[u8]>,
    /// None only until it is held.
    answer: Option<Answer>,
    sent_to: Option<Leader>,
}

impl Forwards {
    /// Of what waits.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// An update is to go to whoever leads. [`Self::hold`] says who waits for it.
    pub fn push(&mut self, now: Time, request: Vec<u8>) -> u64 {
        self.last_ticket += 1;
        self.bytes += request.len();
        self.waiting.push_back(Waiting { ticket: self.last_ticket, since: now, request: request.into(), answer: None, sent_to: None });
        self.last_ticket
    }

    /// The update that was pushed last is answered so.
    pub fn hold(&mut self, ticket: u64, answer: Answer) {
        let last = self.waiting.back_mut().filter(|last| last.ticket == ticket).expect("nothing comes between an update and its answer");
        last.answer = Some(answer);
    }

    /// Somebody else leads, or nobody is known to, or this server does.
    pub fn set_leader(&mut self, now: Time, leader: Option<Leader>) {
        if self.leader != leader {
            (self.leader, self.changed, self.is_held) = (leader, Some(now), false);
        }
    }

    /// What goes to the leader next.
    pub fn poll(&mut self, group: u16) -> Option<Outgoing> {
        let leader = self.leader.filter(|_| !self.is_held)?;
        // Some are with a leader behind one that has come back: it waits for what becomes of those.
        let is_in_order = self.in_flight == self.next;
        let last_to = self.next.checked_sub(1).and_then(|before| self.waiting[before].sent_to);
        if !is_in_order || last_to.is_some_and(|to| to != leader) || self.in_flight >= IN_FLIGHT_MAX {
            return None;
        }
        let next = self.waiting.get_mut(self.next)?;
        next.sent_to = Some(leader);
        self.next += 1;
        self.in_flight += 1;
        Some(Outgoing { group, to: leader, ticket: next.ticket, attempt: self.attempt, request: next.request.clone() })
    }

    /// What became of one that was sent; the answer to give, if that is due. `applied` is the last place of the log that is applied here.
    pub fn take_back(&mut self, ticket: u64, back: Back, applied: u64) -> Option<Given> {
        let at = self.waiting.binary_search_by_key(&ticket, |waiting| waiting.ticket).ok()?;
        match back {
            Back::NotDone => {
                let sent_to = self.waiting[at].sent_to.take();
                self.in_flight -= usize::from(sent_to.is_some());
                self.is_held |= sent_to == self.leader;
                self.attempt += 1;
                self.next = self.next.min(at);
                None
            }
            Back::Unknown => self.take(at).map(|answer| (answer, Err(refusal_of(Fate::Unknown)))),
            Back::Answered(result, index) => {
                let answer = self.take(at)?;
                if index <= applied {
                    return Some((answer, result));
                }
                self.behind.entry(index).or_default().push((answer, result));
                None
            }
        }
    }

    /// The answers that wait for no later place of the log than this one.
    pub fn take_applied(&mut self, applied: u64) -> Vec<Given> {
        if self.behind.first_key_value().is_none_or(|(index, _)| *index > applied) {
            return Vec::new();
        }
        let later = self.behind.split_off(&(applied + 1));
        std::mem::replace(&mut self.behind, later).into_values().flatten().collect()
    }

    /// What has waited as long as `patience_ms` for a leader that can be reached is refused, and the fate of what an earlier leader does not say counts as unknown.
    pub fn tick(&mut self, now: Time, patience_ms: u64) -> Vec<Given> {
        let mut given = Vec::new();
        self.is_held = false;
        if self.changed.is_some_and(|changed| now.since(changed) >= FATE_OPEN_MS * 1_000_000) {
            self.changed = None;
            let leader = self.leader;
            let open = self.drain_if(|waiting| waiting.sent_to.is_some() && waiting.sent_to != leader);
            given.extend(open.into_iter().filter_map(|waiting| Some((waiting.answer?, Err(refusal_of(Fate::Unknown))))));
        }
        let is_late = |waiting: &Waiting| waiting.sent_to.is_none() && now.since(waiting.since) >= patience_ms * 1_000_000;
        // Who led last is believed in as long as nobody else is elected, so a leader that is known may be none.
        if self.waiting.get(self.next).is_some_and(is_late) {
            let why = "the update was not made: no server that leads the topic's group is reached, since too few reach each other";
            let late = self.drain_if(is_late);
            given.extend(late.into_iter().filter_map(|waiting| Some((waiting.answer?, Err(Refusal::new(ErrorCode::NoQuorum, why))))));
        }
        given
    }

    /// What waits, where this server decides itself; nothing as long as the fate of any is open, which comes before the others.
    pub fn take_unsent(&mut self) -> Vec<(Arc<[u8]>, Answer)> {
        if self.in_flight > 0 {
            return Vec::new();
        }
        let unsent = self.drain_if(|_| true);
        unsent.into_iter().filter_map(|Waiting { request, answer, .. }| Some((request, answer?))).collect()
    }

    fn take(&mut self, at: usize) -> Option<Answer> {
        let taken = self.waiting.remove(at)?;
        self.bytes -= taken.request.len();
        self.in_flight -= usize::from(taken.sent_to.is_some());
        self.next -= usize::from(at < self.next);
        taken.answer
    }

    fn drain_if(&mut self, goes: impl Fn(&Waiting) -> bool) -> Vec<Waiting> {
        let (gone, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut self.waiting).into_iter().partition(|waiting| goes(waiting));
        self.waiting = kept.into();
        self.bytes -= gone.iter().map(|waiting| waiting.request.len()).sum::<usize>();
        self.in_flight = self.waiting.iter().filter(|waiting| waiting.sent_to.is_some()).count();
        self.next = self.waiting.iter().position(|waiting| waiting.sent_to.is_none()).unwrap_or(self.waiting.len());
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ShardIndex;
    use crate::session::Asker;

    const FIRST: Leader = Leader { server: 1, term: 1 };
    const SECOND: Leader = Leader { server: 2, term: 2 };
    const PATIENCE_MS: u64 = 3000;

    /// So many updates that wait, of a byte each.
    fn waiting(count: u64) -> Forwards {
        let mut forwards = Forwards::default();
        for ticket in 1..=count {
            assert_eq!(forwards.push(Time(1), vec![0]), ticket);
            forwards.hold(ticket, Answer::Update { from: ShardIndex(0), to: Asker::Server });
        }
        forwards
    }

    fn sent(forwards: &mut Forwards) -> Vec<(u64, Leader)> {
        std::iter::from_fn(|| forwards.poll(0)).map(|outgoing| (outgoing.ticket, outgoing.to)).collect()
    }

    fn done(index: u64) -> Back {
        Back::Answered(Ok(Outcome::Done), index)
    }

    #[test]
    fn what_waits_goes_to_the_leader_in_order_and_once() {
        let mut forwards = waiting(3);
        assert_eq!(sent(&mut forwards), []);
        forwards.set_leader(Time(1), Some(FIRST));
        assert_eq!(sent(&mut forwards), [(1, FIRST), (2, FIRST), (3, FIRST)]);
        assert_eq!(sent(&mut forwards), []);
        assert!(forwards.take_back(2, done(0), 0).is_some());
        assert!(forwards.take_back(2, done(0), 0).is_none(), "it is answered once");
        assert_eq!((forwards.len(), forwards.bytes()), (2, 2));
    }

    #[test]
    fn what_was_not_done_goes_to_the_next_leader_before_what_came_behind_it() {
        let mut forwards = waiting(3);
        forwards.set_leader(Time(1), Some(FIRST));
        assert_eq!(sent(&mut forwards).len(), 3);
        forwards.set_leader(Time(2), Some(SECOND));
        assert!(forwards.take_back(1, Back::NotDone, 0).is_none());
        assert_eq!(sent(&mut forwards), [], "the fate of those behind it is open");
        assert!(forwards.take_back(3, Back::NotDone, 0).is_none());
        assert!(forwards.take_back(2, done(0), 0).is_some());
        assert_eq!(sent(&mut forwards), [(1, SECOND), (3, SECOND)]);
    }

    #[test]
    fn a_leader_that_is_not_reached_is_tried_again_at_the_next_tick() {
        let mut forwards = waiting(1);
        forwards.set_leader(Time(1), Some(FIRST));
        assert_eq!(sent(&mut forwards).len(), 1);
        assert!(forwards.take_back(1, Back::NotDone, 0).is_none());
        assert_eq!(sent(&mut forwards), []);
        assert_eq!(forwards.tick(Time(2), PATIENCE_MS).len(), 0);
        assert_eq!(sent(&mut forwards), [(1, FIRST)]);
    }

    #[test]
    fn the_fate_of_what_a_former_leader_does_not_answer_is_unknown() {
        let mut forwards = waiting(2);
        forwards.set_leader(Time(1), Some(FIRST));
        assert!(forwards.poll(0).is_some());
        forwards.set_leader(Time(1), Some(SECOND));
        assert_eq!(forwards.tick(Time(1).after_ms(FATE_OPEN_MS - 1), PATIENCE_MS).len(), 0);
        let given = forwards.tick(Time(1).after_ms(FATE_OPEN_MS), PATIENCE_MS);
        assert!(matches!(&given[..], [(_, Err(refusal))] if refusal.code == ErrorCode::UpdateUnknown));
        assert_eq!(sent(&mut forwards), [(2, SECOND)]);
    }

    #[test]
    fn without_a_leader_updates_are_refused_after_a_while() {
        let mut forwards = waiting(2);
        assert_eq!(forwards.tick(Time(1).after_ms(PATIENCE_MS - 1), PATIENCE_MS).len(), 0);
        let given = forwards.tick(Time(1).after_ms(PATIENCE_MS), PATIENCE_MS);
        assert!(given.iter().all(|(_, result)| result.as_ref().is_err_and(|refusal| refusal.code == ErrorCode::NoQuorum)));
        assert_eq!((given.len(), forwards.len(), forwards.bytes()), (2, 0, 0));
    }

    #[test]
    fn who_asked_sees_his_update_when_he_is_answered() {
        let mut forwards = waiting(2);
        forwards.set_leader(Time(1), Some(FIRST));
        sent(&mut forwards);
        assert!(forwards.take_back(1, done(7), 6).is_none());
        assert_eq!(forwards.take_applied(6).len(), 0);
        assert_eq!(forwards.take_applied(7).len(), 1);
        assert!(forwards.take_back(2, done(7), 7).is_some());
    }

    #[test]
    fn a_server_that_leads_now_decides_on_what_waits() {
        let mut forwards = waiting(3);
        forwards.set_leader(Time(1), Some(FIRST));
        assert!(forwards.poll(0).is_some());
        forwards.set_leader(Time(2), None);
        assert_eq!(forwards.take_unsent().len(), 0, "what the first was sent comes before");
        assert!(forwards.take_back(1, Back::NotDone, 0).is_none());
        assert_eq!(forwards.take_unsent().len(), 3);
    }
}
