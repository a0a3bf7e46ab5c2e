//! The groups that topics are replicated in, as one shard knows them: which this server leads, what it has put to their logs, and who waits for that.
//!
//! A shard puts what it has decided to a group's log as a numbered proposal and waits for nothing. An answer is held until the proposal is applied; also one that
//! nothing was changed, or that something is refused: who decided it may not lead any more, and would not know what another has changed. Such an answer waits for a
//! proposal without an entry, which is answered once it is certain that this server leads and that everything before is applied.
//!
//! Proposals of a shard to one group are applied in the order of their numbers, or not at all. What is applied is noted by who has asked for it (`cluster::once`), so that what
//! became of an update can be told after its leader has gone: to whoever forwarded it, who asks after it, and here of what this server has put to the log itself.

use super::Answer;
use super::forwards::{Back, Forwards, Leader, Outgoing, Unsent};
use crate::base::Time;
use crate::base::placement::group_of;
use crate::cluster::{Asked, Found, Once, Row, Source};
use crate::protocol::{ErrorCode, Refusal};
use crate::topic::path::TopicPath;
use crate::wire::native::Outcome;
use hashbrown::HashMap;
use std::collections::VecDeque;

/// Who decides what becomes of a group's topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Another server, or nobody that is known.
    Follows { leader: Option<Leader> },
    /// This one, since the log was applied up to where the term began.
    Leads { term: u64 },
}

/// What a shard puts to a group's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    pub group: u16,
    /// The term that it was decided in. Where it lands in another it is void.
    pub term: u64,
    /// Ascends by one for each of the shard to the group.
    pub number: u64,
    /// `None` where only the order matters: it is applied when all before is, and this server still leads.
    pub entry: Option<Vec<u8>>,
}

/// What became of proposals that were not applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// They are void, and never will be.
    Void,
    /// They may have been applied, or may be yet.
    Unknown,
}

/// Which proposal an answer waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proposed {
    pub group: u16,
    pub number: u64,
    pub term: u64,
    pub weight: Weight,
}

/// What an answer is of, where its proposal is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// Nothing is changed: nothing is unknown either.
    Nothing,
    /// The one entry.
    Entry,
}

impl Weight {
    fn fate(self, fate: Fate) -> Fate {
        match self {
            Self::Nothing => Fate::Void,
            Self::Entry => fate,
        }
    }
}

/// See the module. Without groups the server stands alone.
pub struct Groups {
    /// Who numbers what is asked for here.
    source: Source,
    groups: Vec<Group>,
    unsent: Vec<Proposal>,
    replies: Vec<Reply>,
    /// Whether what is here of some group may not be the newest, and whether clients are sent away meanwhile.
    is_stale: bool,
    closes_stale: bool,
    /// The last attempt of others' shards that was turned away, by group, server and shard.
    turned_away: HashMap<(u16, u64, u16), (u64, u64)>,
}

/// Which shard of which server has forwarded an update, by which number of its own, and in which attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forwarder {
    pub source: Source,
    pub number: u64,
    pub attempt: u64,
}

/// The answer to an update that another server has forwarded.
pub struct Reply {
    /// The number that the update came with.
    pub number: u64,
    pub said: Said,
}

/// What a server that has forwarded an update is told.
pub enum Said {
    /// With the place of the group's log that says what the update has changed; 0 where it has changed nothing.
    Result(Result<Outcome, Refusal>, u64),
    /// What it has asked after was not made.
    NotMade,
    /// This server leads no more: nothing was made, or it is not known.
    Lost(Fate),
}

/// An update that this shard has put to the log for itself, by its number there and its topic.
#[derive(Clone, Debug)]
pub struct Own {
    pub number: u64,
    pub path: TopicPath,
}

struct Group {
    role: Role,
    /// The last term in which this server has led.
    led: u64,
    /// The number of the newest proposal.
    proposed: u64,
    /// All up to this one are applied, or never will be.
    settled: u64,
    /// The last place of the log that is applied.
    applied: u64,
    /// The entries of proposals that are not settled, by number and bytes.
    under_way: VecDeque<(u64, usize)>,
    bytes: usize,
    held: VecDeque<Held>,
    forwards: Forwards,
    /// What is applied, by who asked for it.
    once: Once,
}

/// An answer that waits for a proposal.
struct Held {
    number: u64,
    term: u64,
    weight: Weight,
    answer: Answer,
    /// What is answered when it is applied.
    then: Then,
    /// What it is asked after by, if its fate comes not to be known.
    own: Option<Own>,
}

enum Then {
    Result(Result<Outcome, Refusal>),
    /// Whether this update was made.
    Find(Source, u64),
}

/// An answer, and what it is.
pub type Given = (Answer, Result<Outcome, Refusal>);

impl Groups {
    pub fn new(count: u16, source: Source) -> Self {
        let group = || Group {
            role: Role::Follows { leader: None },
            led: 0,
            proposed: 0,
            settled: 0,
            applied: 0,
            under_way: VecDeque::new(),
            bytes: 0,
            held: VecDeque::new(),
            forwards: Forwards::default(),
            once: Once::default(),
        };
        Self {
            source,
            groups: std::iter::repeat_with(group).take(usize::from(count)).collect(),
            unsent: Vec::new(),
            replies: Vec::new(),
            is_stale: false,
            closes_stale: false,
            turned_away: HashMap::new(),
        }
    }

    /// Whether what is here of some group may not be the newest.
    pub fn is_stale(&self) -> bool {
        self.is_stale
    }

    /// Clients are sent away while it may be, where the operator wants that.
    pub fn set_stale(&mut self, is_stale: bool, closes: bool) {
        (self.is_stale, self.closes_stale) = (is_stale, closes);
    }

    /// Whether clients are sent away now.
    pub fn turns_away(&self) -> bool {
        self.is_stale && self.closes_stale
    }

    pub fn count(&self) -> u16 {
        self.groups.len() as u16
    }

    /// The group that what is at the path is replicated in; `None` where the server stands alone, and for what each server has for itself.
    pub fn of(&self, path: &str) -> Option<u16> {
        group_of(path, self.count())
    }

    pub fn role(&self, group: u16) -> Role {
        self.groups[usize::from(group)].role
    }

    /// Bytes of entries that were proposed to the group and are not settled, and of updates that wait for another server.
    pub fn bytes_under_way(&self, group: u16) -> usize {
        let group = &self.groups[usize::from(group)];
        group.bytes + group.forwards.bytes()
    }

    /// Somebody else decides from now on, or this server. Whether what this server has proposed in the term that it has led in last does not count any more: in the same term it
    /// still comes before what is proposed now.
    pub fn set_role(&mut self, now: Time, group: u16, role: Role) -> bool {
        let group = &mut self.groups[usize::from(group)];
        let (leader, term) = match role {
            Role::Follows { leader } => (leader, leader.map(|leader| leader.term)),
            Role::Leads { term } => (None, Some(term)),
        };
        group.forwards.set_leader(now, leader);
        group.role = role;
        let is_over = term.is_some_and(|term| term != group.led);
        if let Role::Leads { term } = role {
            group.led = term;
        }
        is_over
    }

    /// Whether an update has to wait behind others, though this server leads: what becomes of those is not known yet.
    pub fn has_forwarded(&self, group: u16) -> bool {
        self.groups[usize::from(group)].forwards.len() > 0
    }

    /// What stands at this place of the group's log is applied; false where it was before.
    pub fn take_place(&mut self, group: u16, place: u64) -> bool {
        let applied = &mut self.groups[usize::from(group)].applied;
        let is_new = place > *applied;
        *applied = place.max(*applied);
        is_new
    }

    /// Puts an entry to the log of a group that this server leads.
    pub fn propose(&mut self, group: u16, term: u64, entry: Option<Vec<u8>>) -> Proposed {
        let at = &mut self.groups[usize::from(group)];
        at.proposed += 1;
        let (number, weight) = (at.proposed, if entry.is_some() { Weight::Entry } else { Weight::Nothing });
        if let Some(entry) = &entry {
            at.bytes += entry.len();
            at.under_way.push_back((number, entry.len()));
        }
        self.unsent.push(Proposal { group, term, number, entry });
        Proposed { group, number, term, weight }
    }

    /// What was proposed since the last time, in order.
    pub fn poll_proposals(&mut self) -> Option<Vec<Proposal>> {
        if self.unsent.is_empty() { None } else { Some(std::mem::take(&mut self.unsent)) }
    }

    /// Proposals that there was no room for come back, in front of what came since.
    pub fn return_proposals(&mut self, proposals: Vec<Proposal>) {
        let newer = std::mem::replace(&mut self.unsent, proposals);
        self.unsent.extend(newer);
    }

    /// Proposals that were not taken, and answers that wait for one.
    pub fn waiting(&self) -> usize {
        // As many as there are groups, a handful.
        self.unsent.len().max(self.groups.iter().map(|group| group.held.len() + group.forwards.len()).sum())
    }

    /// The next number of what this shard asks for in the group, and whose it is.
    pub fn take_number(&mut self, group: u16) -> (Source, u64) {
        (self.source, self.groups[usize::from(group)].forwards.take_number())
    }

    pub fn source(&self) -> Source {
        self.source
    }

    /// The update that stands at this place of the group's log is applied.
    pub fn note_made(&mut self, group: u16, asked: &Asked, time_ms: u64, index: u64) {
        self.groups[usize::from(group)].once.note(asked, time_ms, index);
    }

    /// What is known of an update of this shard, as far as the group's log is applied.
    pub fn find_made(&self, group: u16, number: u64) -> Found {
        self.groups[usize::from(group)].once.find(self.source, number)
    }

    /// What a store or another server's snapshot knows of updates that were made.
    pub fn merge_made(&mut self, group: u16, source: Source, row: &Row) {
        self.groups[usize::from(group)].once.merge(source, row);
    }

    /// Tells another server, once all that was proposed before is settled, whether the update that it asks after was made. What it has sent before that is turned away from now on.
    pub fn find(&mut self, group: u16, term: u64, from: Forwarder, answer: Answer) {
        if let Some(before) = from.attempt.checked_sub(1) {
            self.turn_away(group, from.source, before);
        }
        let Proposed { number, term, weight, .. } = self.propose(group, term, None);
        let then = Then::Find(from.source, from.number);
        self.groups[usize::from(group)].held.push_back(Held { number, term, weight, answer, then, own: None });
    }

    /// The update is to go to the server that leads the group. [`Self::hold_forwarded`] says who waits for it.
    pub fn forward(&mut self, now: Time, group: u16, request: Vec<u8>) -> u64 {
        self.groups[usize::from(group)].forwards.push(now, request)
    }

    pub fn hold_forwarded(&mut self, group: u16, ticket: u64, answer: Answer) {
        self.groups[usize::from(group)].forwards.hold(ticket, answer);
    }

    /// What goes to another server next.
    pub fn poll_forward(&mut self) -> Option<Outgoing> {
        // A handful.
        (0..).zip(&mut self.groups).find_map(|(number, group)| {
            let Group { forwards, held, .. } = group;
            forwards.poll(number, || held.iter().find_map(|held| Some(held.own.as_ref()?.number)))
        })
    }

    /// What became of an update that another server was sent; the answer to give, if that is due.
    pub fn take_back(&mut self, now: Time, group: u16, ticket: u64, back: Back) -> Option<Given> {
        let group = &mut self.groups[usize::from(group)];
        group.forwards.take_back(now, ticket, back, group.applied)
    }

    /// What waits for another server to lead, where this one does.
    pub fn take_unsent(&mut self, group: u16) -> Vec<Unsent> {
        let group = &mut self.groups[usize::from(group)];
        if matches!(group.role, Role::Leads { .. }) { group.forwards.take_unsent() } else { Vec::new() }
    }

    /// Answers that wait for nothing any more, now that the log is applied so far.
    pub fn take_seen(&mut self, group: u16) -> Vec<Given> {
        let group = &mut self.groups[usize::from(group)];
        group.forwards.take_applied(group.applied)
    }

    /// Time passes for what waits for another server.
    pub fn tick(&mut self, now: Time, patience_ms: u64) -> Vec<Given> {
        self.groups.iter_mut().flat_map(|group| group.forwards.tick(now, patience_ms)).collect()
    }

    /// Whether this server decides on an update of the group that was forwarded for this term. Where one was turned away, so is what was sent behind it: it comes again, in order.
    pub fn takes(&mut self, group: u16, term: u64, from: Forwarder) -> bool {
        if group >= self.count() {
            return false;
        }
        let last = self.last_turned_away(group, from.source);
        let takes = last.is_none_or(|last| from.attempt > last) && self.role(group) == Role::Leads { term };
        if !takes {
            self.turn_away(group, from.source, from.attempt);
        }
        takes
    }

    fn last_turned_away(&self, group: u16, source: Source) -> Option<u64> {
        let last = self.turned_away.get(&(group, source.server, source.shard));
        last.filter(|(boot, _)| *boot == source.boot).map(|(_, last)| *last)
    }

    /// What was sent in this attempt or before is taken no more.
    fn turn_away(&mut self, group: u16, source: Source, attempt: u64) {
        let last = self.last_turned_away(group, source).map_or(attempt, |last| last.max(attempt));
        // As many as servers have shards and groups.
        self.turned_away.insert((group, source.server, source.shard), (source.boot, last));
    }

    /// An update that another server has forwarded is answered.
    pub fn reply(&mut self, reply: Reply) {
        self.replies.push(reply);
    }

    /// Answers that other servers wait for, in order.
    pub fn poll_replies(&mut self) -> Vec<Reply> {
        std::mem::take(&mut self.replies)
    }

    /// Holds an answer until the proposal, which was just made, is settled. `own` is what it puts to the log for this shard, if it does.
    pub fn hold(&mut self, proposed: Proposed, answer: Answer, result: Result<Outcome, Refusal>, own: Option<Own>) {
        let Proposed { group, number, term, weight } = proposed;
        let group = &mut self.groups[usize::from(group)];
        assert!(number > group.settled && number <= group.proposed, "nothing comes between a proposal and its answer");
        group.held.push_back(Held { number, term, weight, answer, then: Then::Result(result), own });
    }

    /// The proposal of this number and term is applied, and with it all of the term before it.
    pub fn note_applied(&mut self, now: Time, group: u16, number: u64, term: u64) -> Vec<Given> {
        // What was proposed in an earlier term and has not come by now never will.
        self.settle(now, group, number, |held| (held.term != term).then(|| held.weight.fate(Fate::Void)))
    }

    /// The proposals up to this one that are not applied never will be, or it is not known: the answers that are due then.
    pub fn note_lost(&mut self, now: Time, group: u16, last: u64, fate: Fate) -> Vec<Given> {
        assert!(last <= self.groups[usize::from(group)].proposed, "only what was proposed is lost");
        self.settle(now, group, last, |held| Some(held.weight.fate(fate)))
    }

    /// Each answer is given once: as many as came.
    fn settle(&mut self, now: Time, group: u16, number: u64, judge: impl Fn(&Held) -> Option<Fate>) -> Vec<Given> {
        let group = &mut self.groups[usize::from(group)];
        group.settle(number);
        let mut given = Vec::new();
        while group.held.front().is_some_and(|held| held.number <= number) {
            let held = group.held.pop_front().expect("it was just there");
            let fate = judge(&held);
            match held.answer {
                Answer::Server { number } => self.replies.push(Reply { number, said: group.said(held.weight, held.then, fate) }),
                answer => given.extend(group.given(now, self.source, (held.then, fate), held.own, answer)),
            }
        }
        given
    }
}

impl Group {
    fn settle(&mut self, number: u64) {
        self.settled = self.settled.max(number);
        while let Some((_, bytes)) = self.under_way.front().filter(|(other, _)| *other <= number) {
            self.bytes -= bytes;
            self.under_way.pop_front();
        }
    }

    /// What another server is told of what it has forwarded, or asked after.
    fn said(&self, weight: Weight, then: Then, fate: Option<Fate>) -> Said {
        match (fate, then) {
            (Some(fate), _) => Said::Lost(fate),
            (None, Then::Result(result)) => Said::Result(result, if weight == Weight::Entry { self.applied } else { 0 }),
            (None, Then::Find(source, number)) => match self.once.find(source, number) {
                Found::Made(made, index) => Said::Result(Ok(made.outcome()), index),
                Found::NotMade => Said::NotMade,
                Found::Forgotten => Said::Result(Err(refusal_of(Fate::Unknown)), 0),
            },
        }
    }

    /// What is said here, if that is known.
    fn given(&mut self, now: Time, source: Source, (then, fate): (Then, Option<Fate>), own: Option<Own>, answer: Answer) -> Option<Given> {
        let Then::Result(result) = then else { unreachable!("only other servers ask after updates") };
        match (fate, own) {
            (None, _) => Some((answer, result)),
            (Some(Fate::Unknown), Some(Own { number, path })) => {
                if let Found::Made(..) = self.once.find(source, number) {
                    // It has come by the log, as another's would.
                    return Some((answer, result));
                }
                self.forwards.ask_after(now, (number, path.as_str()), answer);
                None
            }
            (Some(fate), _) => Some((answer, Err(refusal_of(fate)))),
        }
    }
}

/// What is said of an update that was decided and not applied.
pub fn refusal_of(fate: Fate) -> Refusal {
    match fate {
        Fate::Void => Refusal::new(ErrorCode::NoQuorum, "the update was not made: another server leads the topic's group now"),
        Fate::Unknown => {
            Refusal::new(ErrorCode::UpdateUnknown, "whether the update was made is not known: too few servers can be reached to tell")
        }
    }
}
