//! Updates of one group that another server decides on, in the order in which they were asked for, until they are answered.
//!
//! They go to the server that leads, one behind the other, and wait here as long as nobody is known to. What a server says it has not decided, because it does not lead any more,
//! goes to the next one. One that may have been decided and is not answered is open: whoever leads then is asked after it by its number (`cluster::once`), and decides on it only
//! where it was not made. Nothing of what came behind it goes before that is known, or the order of updates would be lost. Where nobody says it in time, it is unknown.
//!
//! What this server has put to the log itself, while it led, and does not know the fate of, is asked after too. It is not put there again: what was not made is refused.
//!
//! Loops here are over what is with a leader, which is bounded, or over what waits, which `limits.proposed_bytes_max` bounds, and is looked at once for each change of the leader.

use super::{Answer, Fate, Given, refusal_of};
use crate::base::Time;
use crate::cluster::{Forward, WINDOW};
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
    /// The shard's number for the update, each time that it is sent.
    pub number: u64,
    /// What the answer is to be given to: another each time.
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
    /// It was asked after, and was not made.
    NotMade,
    /// It may have been done, or may be yet.
    Unknown,
}

/// An update that waits, where this server decides itself.
pub struct Unsent {
    pub number: u64,
    pub known: Known,
    pub request: Arc<[u8]>,
    pub answer: Answer,
}

/// What is known of an update that is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// It was not made by anything that was sent before.
    NotMade,
    /// It may have been made.
    Open,
    /// This server may have put it to the log. What waits is no update, but asks after it.
    Put,
}

/// So long a leader that leads no more may take to say what became of what it was sent.
const FATE_OPEN_MS: u64 = 300;

/// So many of a shard and group are with a leader at a time.
const IN_FLIGHT_MAX: usize = 256;

#[derive(Default)]
pub struct Forwards {
    /// By rising numbers.
    waiting: VecDeque<Waiting>,
    /// All before this one are with a leader.
    next: usize,
    /// So many are with a leader, and so many of them are only asked after.
    in_flight: usize,
    questions: usize,
    last_number: u64,
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
    number: u64,
    /// When it came, or was found to be open.
    since: Time,
    known: Known,
    request: Arc<[u8]>,
    /// None only until it is held.
    answer: Option<Answer>,
    sent: Option<Sent>,
}

/// Who has it.
#[derive(Clone, Copy)]
struct Sent {
    to: Leader,
    ticket: u64,
    /// It is asked after.
    is_question: bool,
}

impl Forwards {
    /// Of what waits.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// A number for what this shard asks for in the group, here or elsewhere.
    pub fn take_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// An update is to go to whoever leads. [`Self::hold`] says who waits for it.
    pub fn push(&mut self, now: Time, request: Vec<u8>) -> u64 {
        let number = self.take_number();
        self.bytes += request.len();
        let known = Known::NotMade;
        self.waiting.push_back(Waiting { number, since: now, known, request: request.into(), answer: None, sent: None });
        number
    }

    /// The update that was pushed last is answered so.
    pub fn hold(&mut self, number: u64, answer: Answer) {
        let last = self.waiting.back_mut().filter(|last| last.number == number).expect("nothing comes between an update and its answer");
        last.answer = Some(answer);
    }

    /// What became of an update that this server has put to the log itself is not known: whoever leads is asked after it.
    pub fn ask_after(&mut self, now: Time, (number, path): (u64, &str), answer: Answer) {
        let request: Arc<[u8]> = Forward::find(path).encode().into();
        self.bytes += request.len();
        let at = self.waiting.partition_point(|waiting| waiting.number < number);
        let known = Known::Put;
        self.waiting.insert(at, Waiting { number, since: now, known, request, answer: Some(answer), sent: None });
        self.next = self.next.min(at);
    }

    /// Somebody else leads, or nobody is known to, or this server does.
    pub fn set_leader(&mut self, now: Time, leader: Option<Leader>) {
        if self.leader != leader {
            (self.leader, self.changed, self.is_held) = (leader, Some(now), false);
        }
    }

    /// What goes to the leader next. `put` is the number of the oldest update that this server has put to the log itself, if the fate of one is open.
    pub fn poll(&mut self, group: u16, put: impl FnOnce() -> Option<u64>) -> Option<Outgoing> {
        let leader = self.leader.filter(|_| !self.is_held)?;
        // Some are with a leader behind one that has come back: it waits for what becomes of those.
        let is_in_order = self.in_flight == self.next;
        let last_to = self.next.checked_sub(1).and_then(|before| self.waiting[before].sent);
        if !is_in_order || last_to.is_some_and(|sent| sent.to != leader) || self.in_flight >= IN_FLIGHT_MAX {
            return None;
        }
        let next = self.waiting.get(self.next)?;
        let is_question = next.known != Known::NotMade;
        // Whoever applies the update forgets those that are so far behind it.
        let first = self.waiting.front().map_or(next.number, |first| first.number);
        let is_far = next.number >= put().map_or(first, |put| put.min(first)).saturating_add(WINDOW);
        // What is asked after may have to go before it.
        if !is_question && (is_far || self.questions > 0) {
            return None;
        }
        self.last_ticket += 1;
        let next = &mut self.waiting[self.next];
        next.sent = Some(Sent { to: leader, ticket: self.last_ticket, is_question });
        self.next += 1;
        self.in_flight += 1;
        self.questions += usize::from(is_question);
        let (number, ticket, attempt) = (next.number, self.last_ticket, self.attempt);
        Some(Outgoing { group, to: leader, number, ticket, attempt, request: next.to_send() })
    }

    /// What became of one that was sent; the answer to give, if that is due. `applied` is the last place of the log that is applied here.
    pub fn take_back(&mut self, now: Time, ticket: u64, back: Back, applied: u64) -> Option<Given> {
        // What comes late is of no account: it was asked after meanwhile. Mostly it is the first.
        let at = self.waiting.iter().position(|waiting| waiting.sent.is_some_and(|sent| sent.ticket == ticket))?;
        match back {
            Back::NotDone => {
                self.come_back(at);
                None
            }
            Back::Unknown => {
                self.waiting[at].open(now);
                self.come_back(at);
                None
            }
            Back::NotMade if self.waiting[at].known == Known::Put => self.take(at).map(|answer| (answer, Err(refusal_of(Fate::Void)))),
            Back::NotMade => {
                let is_held = self.is_held;
                self.come_back(at);
                self.is_held = is_held;
                self.waiting[at].known = Known::NotMade;
                None
            }
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

    /// It is to be sent again, and all behind it.
    fn come_back(&mut self, at: usize) {
        let sent = self.waiting[at].sent.take();
        self.count_back(sent);
        self.is_held |= sent.map(|sent| sent.to) == self.leader;
        self.attempt += 1;
        self.next = self.next.min(at);
    }

    /// The answers that wait for no later place of the log than this one.
    pub fn take_applied(&mut self, applied: u64) -> Vec<Given> {
        if self.behind.first_key_value().is_none_or(|(index, _)| *index > applied) {
            return Vec::new();
        }
        let later = self.behind.split_off(&(applied + 1));
        std::mem::replace(&mut self.behind, later).into_values().flatten().collect()
    }

    /// What has waited as long as `patience_ms` for a leader that can be reached is refused, or is unknown where it is open; and what an earlier leader does not say is asked after.
    pub fn tick(&mut self, now: Time, patience_ms: u64) -> Vec<Given> {
        self.is_held = false;
        if self.changed.is_some_and(|changed| now.since(changed) >= FATE_OPEN_MS * 1_000_000) {
            self.changed = None;
            self.open_others(now);
        }
        let is_late = |waiting: &Waiting| waiting.sent.is_none() && now.since(waiting.since) >= patience_ms * 1_000_000;
        // Who led last is believed in as long as nobody else is elected, so a leader that is known may be none.
        if !self.waiting.iter().skip(self.next).any(is_late) {
            return Vec::new();
        }
        let why = "the update was not made: no server that leads the topic's group is reached, since too few reach each other";
        let refusal = |known| match known {
            Known::NotMade => Refusal::new(ErrorCode::NoQuorum, why),
            Known::Open | Known::Put => refusal_of(Fate::Unknown),
        };
        let late = self.drain_if(is_late);
        late.into_iter().filter_map(|waiting| Some((waiting.answer?, Err(refusal(waiting.known))))).collect()
    }

    /// What is with others than who leads now is open.
    fn open_others(&mut self, now: Time) {
        let leader = self.leader;
        for waiting in self.waiting.iter_mut().filter(|waiting| waiting.sent.is_some_and(|sent| Some(sent.to) != leader)) {
            waiting.sent = None;
            waiting.open(now);
        }
        self.count();
        self.attempt += 1;
    }

    /// What waits, where this server decides itself; nothing as long as any is with another, which comes before the others.
    pub fn take_unsent(&mut self) -> Vec<Unsent> {
        if self.in_flight > 0 {
            return Vec::new();
        }
        let unsent = self.drain_if(|_| true);
        let unsent = unsent.into_iter();
        unsent
            .filter_map(|Waiting { number, known, request, answer, .. }| Some(Unsent { number, known, request, answer: answer? }))
            .collect()
    }

    fn take(&mut self, at: usize) -> Option<Answer> {
        let taken = self.waiting.remove(at)?;
        self.bytes -= taken.request.len();
        self.count_back(taken.sent);
        self.next -= usize::from(at < self.next);
        taken.answer
    }

    fn count_back(&mut self, sent: Option<Sent>) {
        self.in_flight -= usize::from(sent.is_some());
        self.questions -= usize::from(sent.is_some_and(|sent| sent.is_question));
    }

    fn drain_if(&mut self, goes: impl Fn(&Waiting) -> bool) -> Vec<Waiting> {
        let (gone, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut self.waiting).into_iter().partition(|waiting| goes(waiting));
        self.waiting = kept.into();
        self.bytes -= gone.iter().map(|waiting| waiting.request.len()).sum::<usize>();
        self.count();
        gone
    }

    fn count(&mut self) {
        let sent = self.waiting.iter().filter_map(|waiting| waiting.sent);
        (self.in_flight, self.questions) = (sent.clone().count(), sent.filter(|sent| sent.is_question).count());
        self.next = self.waiting.iter().position(|waiting| waiting.sent.is_none()).unwrap_or(self.waiting.len());
    }
}

impl Waiting {
    /// It may have been made.
    fn open(&mut self, now: Time) {
        if self.known == Known::NotMade {
            (self.known, self.since) = (Known::Open, now);
        }
    }

    fn to_send(&self) -> Arc<[u8]> {
        match (self.known, Forward::access(&self.request)) {
            (Known::Open, Some(forward)) => Forward::find(&forward.path).encode().into(),
            _ => self.request.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ShardIndex;
    use crate::cluster::ArchivedDeed;
    use crate::session::Asker;

    const FIRST: Leader = Leader { server: 1, term: 1 };
    const SECOND: Leader = Leader { server: 2, term: 2 };
    const PATIENCE_MS: u64 = 3000;

    /// So many updates that wait, each of its own path.
    fn waiting(count: u64) -> Forwards {
        let mut forwards = Forwards::default();
        for number in 1..=count {
            let request = Forward::removal(&number.to_string(), None).encode();
            assert_eq!(forwards.push(Time(1), request), number);
            forwards.hold(number, answer());
        }
        forwards
    }

    fn answer() -> Answer {
        Answer::Update { from: ShardIndex(0), to: Asker::Server }
    }

    /// What goes to whom: the update of this number, or a question after it.
    fn sent(forwards: &mut Forwards) -> Vec<(u64, Leader, What)> {
        std::iter::from_fn(|| forwards.poll(0, || None)).map(|outgoing| (outgoing.number, outgoing.to, what(&outgoing))).collect()
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum What {
        Update,
        Question,
    }
    use What::{Question, Update};

    fn what(outgoing: &Outgoing) -> What {
        let forward = Forward::access(&outgoing.request).expect("it was made here");
        assert_eq!(forward.path.parse(), Ok(outgoing.number));
        if matches!(forward.deed, ArchivedDeed::Find) { Question } else { Update }
    }

    /// The ticket of what was sent of this number last.
    fn ticket(forwards: &Forwards, number: u64) -> u64 {
        let waiting = forwards.waiting.iter().find(|waiting| waiting.number == number);
        waiting.and_then(|waiting| waiting.sent).expect("it is with a leader").ticket
    }

    fn back(forwards: &mut Forwards, number: u64, back: Back) -> Option<Result<Outcome, Refusal>> {
        let ticket = ticket(forwards, number);
        forwards.take_back(Time(2), ticket, back, 0).map(|(_, result)| result)
    }

    fn done() -> Back {
        Back::Answered(Ok(Outcome::Done), 0)
    }

    fn codes(given: Vec<Given>) -> Vec<ErrorCode> {
        given.into_iter().map(|(_, result)| result.expect_err("it is refused").code).collect()
    }

    #[test]
    fn what_waits_goes_to_the_leader_in_order_and_once() {
        let mut forwards = waiting(3);
        assert_eq!(sent(&mut forwards), []);
        forwards.set_leader(Time(1), Some(FIRST));
        assert_eq!(sent(&mut forwards), [(1, FIRST, Update), (2, FIRST, Update), (3, FIRST, Update)]);
        assert_eq!(sent(&mut forwards), []);
        let ticket = ticket(&forwards, 2);
        assert!(forwards.take_back(Time(2), ticket, done(), 0).is_some());
        assert!(forwards.take_back(Time(2), ticket, done(), 0).is_none(), "it is answered once");
        assert_eq!(forwards.len(), 2);
    }

    #[test]
    fn what_was_not_done_goes_to_the_next_leader_before_what_came_behind_it() {
        let mut forwards = waiting(3);
        forwards.set_leader(Time(1), Some(FIRST));
        assert_eq!(sent(&mut forwards).len(), 3);
        forwards.set_leader(Time(2), Some(SECOND));
        assert!(back(&mut forwards, 1, Back::NotDone).is_none());
        assert_eq!(sent(&mut forwards), [], "the fate of those behind it is open");
        assert!(back(&mut forwards, 3, Back::NotDone).is_none());
        assert!(back(&mut forwards, 2, done()).is_some());
        assert_eq!(sent(&mut forwards), [(1, SECOND, Update), (3, SECOND, Update)]);
    }

    #[test]
    fn a_leader_that_is_not_reached_is_tried_again_at_the_next_tick() {
        let mut forwards = waiting(1);
        forwards.set_leader(Time(1), Some(FIRST));
        assert_eq!(sent(&mut forwards).len(), 1);
        assert!(back(&mut forwards, 1, Back::NotDone).is_none());
        assert_eq!(sent(&mut forwards), []);
        assert_eq!(forwards.tick(Time(2), PATIENCE_MS).len(), 0);
        assert_eq!(sent(&mut forwards), [(1, FIRST, Update)]);
    }

    #[test]
    fn the_next_leader_is_asked_after_what_the_former_does_not_answer() {
        let mut forwards = waiting(3);
        forwards.set_leader(Time(1), Some(FIRST));
        assert!(forwards.poll(0, || None).is_some() && forwards.poll(0, || None).is_some());
        let late = ticket(&forwards, 1);
        forwards.set_leader(Time(1), Some(SECOND));
        assert_eq!(forwards.tick(Time(1).after_ms(FATE_OPEN_MS - 1), PATIENCE_MS).len(), 0);
        assert_eq!(sent(&mut forwards), []);
        assert_eq!(forwards.tick(Time(1).after_ms(FATE_OPEN_MS), PATIENCE_MS).len(), 0);
        assert_eq!(sent(&mut forwards), [(1, SECOND, Question), (2, SECOND, Question)], "what came behind them waits");
        assert!(forwards.take_back(Time(2), late, done(), 0).is_none(), "whoever led before is believed no more");
        assert!(matches!(back(&mut forwards, 1, done()), Some(Ok(Outcome::Done))));
        assert_eq!(sent(&mut forwards), []);
        assert!(back(&mut forwards, 2, Back::NotMade).is_none());
        assert_eq!(sent(&mut forwards), [(2, SECOND, Update), (3, SECOND, Update)]);
    }

    #[test]
    fn what_was_not_made_goes_again_before_all_behind_it() {
        let mut forwards = waiting(3);
        forwards.set_leader(Time(1), Some(FIRST));
        sent(&mut forwards);
        (1..=3).for_each(|number| assert!(back(&mut forwards, number, Back::Unknown).is_none()));
        assert_eq!(sent(&mut forwards), [], "it is not reached");
        assert_eq!(forwards.tick(Time(3), PATIENCE_MS).len(), 0);
        assert_eq!(sent(&mut forwards).len(), 3);
        assert!(back(&mut forwards, 2, Back::NotMade).is_none());
        assert_eq!(sent(&mut forwards), []);
        assert!(back(&mut forwards, 1, Back::NotMade).is_none());
        assert!(back(&mut forwards, 3, Back::NotDone).is_none());
        assert_eq!(forwards.tick(Time(4), PATIENCE_MS).len(), 0);
        assert_eq!(sent(&mut forwards), [(1, FIRST, Update), (2, FIRST, Update), (3, FIRST, Question)]);
    }

    #[test]
    fn an_update_that_stays_open_is_unknown_after_a_while() {
        let mut forwards = waiting(2);
        forwards.set_leader(Time(1), Some(FIRST));
        assert!(forwards.poll(0, || None).is_some());
        forwards.set_leader(Time(1), None);
        let opened = Time(1).after_ms(FATE_OPEN_MS);
        assert_eq!(forwards.tick(opened, PATIENCE_MS).len(), 0);
        assert_eq!(codes(forwards.tick(Time(1).after_ms(PATIENCE_MS), PATIENCE_MS)), [ErrorCode::NoQuorum], "the other was not sent");
        assert_eq!(codes(forwards.tick(opened.after_ms(PATIENCE_MS), PATIENCE_MS)), [ErrorCode::UpdateUnknown]);
        assert_eq!((forwards.len(), forwards.bytes()), (0, 0));
    }

    #[test]
    fn what_this_server_has_put_to_the_log_is_asked_after_and_not_sent() {
        let mut forwards = Forwards::default();
        let numbers = [1, 2].map(|_| forwards.take_number());
        let request = Forward::removal("3", None).encode();
        assert_eq!(forwards.push(Time(1), request), 3);
        forwards.hold(3, answer());
        for number in numbers.into_iter().rev() {
            forwards.ask_after(Time(1), (number, &number.to_string()), answer());
        }
        forwards.set_leader(Time(1), Some(FIRST));
        assert_eq!(sent(&mut forwards), [(1, FIRST, Question), (2, FIRST, Question)]);
        assert!(matches!(back(&mut forwards, 2, done()), Some(Ok(Outcome::Done))));
        let refused = back(&mut forwards, 1, Back::NotMade).expect("it is answered").expect_err("it was not made");
        assert_eq!(refused.code, ErrorCode::NoQuorum);
        assert_eq!(sent(&mut forwards), [(3, FIRST, Update)]);
    }

    #[test]
    fn nothing_goes_so_far_ahead_that_what_has_no_answer_is_forgotten() {
        let mut forwards = waiting(3 * WINDOW);
        forwards.set_leader(Time(1), Some(FIRST));
        let mut last = 0;
        loop {
            let outgoing: Vec<u64> = sent(&mut forwards).into_iter().map(|(number, ..)| number).collect();
            let Some(newest) = outgoing.last() else { break };
            last = *newest;
            // All but the first are answered.
            outgoing.iter().filter(|number| **number > 1).for_each(|number| assert!(back(&mut forwards, *number, done()).is_some()));
        }
        assert_eq!(last, WINDOW);
        assert!(back(&mut forwards, 1, done()).is_some());
        assert!(forwards.poll(0, || Some(1)).is_none(), "nor what this server has put to the log");
        assert_eq!(sent(&mut forwards)[0], (WINDOW + 1, FIRST, Update));
    }

    #[test]
    fn without_a_leader_updates_are_refused_after_a_while() {
        let mut forwards = waiting(2);
        assert_eq!(forwards.tick(Time(1).after_ms(PATIENCE_MS - 1), PATIENCE_MS).len(), 0);
        let given = forwards.tick(Time(1).after_ms(PATIENCE_MS), PATIENCE_MS);
        assert_eq!(codes(given), [ErrorCode::NoQuorum; 2]);
        assert_eq!((forwards.len(), forwards.bytes()), (0, 0));
    }

    #[test]
    fn who_asked_sees_his_update_when_he_is_answered() {
        let mut forwards = waiting(2);
        forwards.set_leader(Time(1), Some(FIRST));
        sent(&mut forwards);
        let at = |index| Back::Answered(Ok(Outcome::Done), index);
        let tickets = [1, 2].map(|number| ticket(&forwards, number));
        assert!(forwards.take_back(Time(2), tickets[0], at(7), 6).is_none());
        assert_eq!(forwards.take_applied(6).len(), 0);
        assert_eq!(forwards.take_applied(7).len(), 1);
        assert!(forwards.take_back(Time(2), tickets[1], at(7), 7).is_some());
    }

    #[test]
    fn a_server_that_leads_now_decides_on_what_waits() {
        let mut forwards = waiting(3);
        forwards.set_leader(Time(1), Some(FIRST));
        assert!(forwards.poll(0, || None).is_some());
        forwards.set_leader(Time(2), None);
        assert_eq!(forwards.take_unsent().len(), 0, "what the first was sent comes before");
        assert!(back(&mut forwards, 1, Back::Unknown).is_none());
        let known: Vec<_> = forwards.take_unsent().into_iter().map(|unsent| (unsent.number, unsent.known)).collect();
        assert_eq!(known, [(1, Known::Open), (2, Known::NotMade), (3, Known::NotMade)]);
    }
}
