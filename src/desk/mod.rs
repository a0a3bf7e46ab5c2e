//! What every room of a shard works with: who the shard is, its bounds, its clock, its post, its records, its answers and
//! its figures.
//!
//! The desk decides nothing and knows no room. It is handed down as an argument, so a room that has it can send mail and store records, and can
//! do nothing to another room.

mod audit;
mod effects;
mod forwards;
mod groups;
mod ledger;
mod limits;

pub use audit::{Audit, AuditKind, AuditOutcome};
pub use effects::{Authentication, Claim, Effect, Effects, GivenUp, HandedNative, Handover, Log, Shown, Why};
pub use forwards::{Back, Known, Leader, Outgoing, Unsent};
pub use groups::{Fate, Forwarder, Given, Groups, Own, Proposal, Proposed, Reply, Role, Said, Weight, refusal_of};
pub use ledger::{Ledger, Ticket};
pub use limits::{DerivationLimits, Limits, ResumeLimits};

use crate::base::{SessionId, SessionKey, ShardIndex, ShardSet, Time, TopicId, placement};
use crate::cluster::Source;
use crate::mail::report::Report;
use crate::mail::{self, Asker, Batch, Mail, Part, Share};
use crate::protocol::{ErrorCode, Refusal};
use crate::session::Secret;
use crate::topic::specification::Interner;
use crate::wire::mqtt::ReasonCode;
use crate::wire::native::Outcome;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

/// Which of how many shards this is, and under which name it greets.
#[derive(Clone, Debug)]
pub struct Identity {
    pub index: ShardIndex,
    pub count: u16,
    pub server: String,
    /// Tells this run of the server from others in session ids; one that takes up sessions of an earlier run goes on with that.
    pub run: u64,
    /// Tells this start of the server from all others.
    pub start: u64,
    pub storing: Storing,
    /// Topics of earlier runs have numbers up to this one.
    pub topics_base: u64,
    /// The server's number in its cluster; 0 where it stands alone.
    pub node: u64,
    /// What the secrets of sessions are drawn from; nobody else knows it, and no other shard has the same.
    pub secret: [u8; 32],
}

/// Whether this shard's topics are stored, and when an update of one is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storing {
    /// Nothing is stored.
    Off,
    /// Stored; acknowledged at once.
    Memory,
    /// Acknowledged when storage says so.
    Stored,
}

/// What an update did, and the record that has to be stored before it is acknowledged.
pub type Applied = Result<(Outcome, Option<Ticket>), Refusal>;

/// Who is answered once a record is stored.
pub enum Answer {
    Update {
        from: ShardIndex,
        to: Asker,
    },
    Removal {
        from: ShardIndex,
        ticket: u64,
    },
    View {
        from: ShardIndex,
        ticket: u64,
    },
    /// The owner of a topic whose message sessions of this shard keep.
    Kept {
        owner: ShardIndex,
        ticket: u64,
        share: Share,
    },
    /// One that is given once all that are part of it are.
    Together(Rc<RefCell<Together>>),
    /// A change that nobody may see before something else is stored: it goes to its topic then.
    Route {
        asker: Asker,
        path: Box<str>,
        change: Box<mail::Change<'static>>,
    },
    /// A server that has forwarded an update, by the number that this came with.
    Server {
        number: u64,
    },
    /// The client of a session of MQTT that has received a message, by the connection of that number.
    Received {
        session: SessionKey,
        id: u16,
        epoch: u32,
    },
    /// The client that has released one of its own.
    Completed {
        session: SessionKey,
        id: u16,
        epoch: u32,
        code: ReasonCode,
    },
}

/// The answer of a removal that waits for several groups, and what of it is known.
pub struct Together {
    left: usize,
    /// None as long as there may be more parts.
    answer: Option<Box<Answer>>,
    removed: u64,
    refusal: Option<Refusal>,
}

impl Together {
    /// Nothing yet, and more to come until [`Desk::give_together`].
    pub fn begin() -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self { left: 1, answer: None, removed: 0, refusal: None }))
    }

    /// One more part, which is answered by this.
    pub fn part(this: &Rc<RefCell<Self>>) -> Answer {
        this.borrow_mut().left += 1;
        Answer::Together(this.clone())
    }

    fn take(&mut self, result: Result<Outcome, Refusal>) -> Option<(Answer, Result<Outcome, Refusal>)> {
        self.left -= 1;
        match result {
            Ok(Outcome::Removed(removed)) => self.removed += removed,
            Ok(_) => {}
            Err(refusal) => self.refusal = Some(refusal),
        }
        let answer = if self.left == 0 { self.answer.take()? } else { return None };
        Some((
            *answer,
            match self.refusal.take() {
                None => Ok(Outcome::Removed(self.removed)),
                // Some have gone, or may have.
                Some(refusal) if refusal.code == ErrorCode::NoQuorum && self.removed > 0 => Err(refusal_of(Fate::Unknown)),
                Some(refusal) => Err(refusal),
            },
        ))
    }
}

impl Answer {
    /// An update without an id is answered only if it fails.
    pub fn is_only_for_failures(&self) -> bool {
        matches!(self, Self::Update { to, .. } if to.hears_only_refusals())
    }
}

/// See the module.
pub struct Desk {
    pub identity: Identity,
    pub limits: Limits,
    pub turn: Turn,
    /// When the shard began, by both clocks.
    began: (Time, u64),
    post: Post,
    pub ledger: Ledger,
    pub groups: Groups,
    pub report: Report,
    /// The author of events that sessions without a principal append.
    pub anonymous: Arc<str>,
    pub effects: Effects,
    /// Whether there may be topics of the property OWNER, anywhere.
    pub has_owned: bool,
    pub specifications: Interner,
    numbers: Numbers,
    secrets: StdRng,
}

/// What holds for this turn of the shard.
pub struct Turn {
    pub now: Time,
    /// A moment, and the milliseconds since the epoch that it was.
    wall: (Time, u64),
    /// Topics that walks and reviews may still look at.
    pub walk_budget: usize,
    /// Nothing is begun any more: the server stops.
    pub is_stopping: bool,
}

/// How many there were so far of what is numbered here.
#[derive(Default)]
struct Numbers {
    topics: u64,
    sessions: u64,
    tickets: u64,
}

/// Mail on its way, and the answers that are due here.
struct Post {
    /// To this shard itself, and what has come from others.
    inbox: VecDeque<(ShardIndex, Mail)>,
    outboxes: Vec<Vec<Mail>>,
    answers: VecDeque<(Answer, Result<Outcome, Refusal>)>,
}

impl Desk {
    /// `wall_ms` is the time since the epoch.
    pub fn new(identity: Identity, limits: Limits, now: Time, wall_ms: u64) -> Self {
        assert!(identity.index.0 < identity.count && usize::from(identity.count) <= ShardSet::SHARDS_MAX);
        assert!(limits.queue.bytes_high <= limits.queue.bytes_max);
        let outboxes = (0..identity.count).map(|_| Vec::new()).collect();
        let source = Source { server: identity.node, boot: identity.start, shard: identity.index.0 };
        Self {
            began: (now, wall_ms),
            turn: Turn { now, wall: (now, wall_ms), walk_budget: limits.walk_slice, is_stopping: false },
            post: Post { inbox: VecDeque::new(), outboxes, answers: VecDeque::new() },
            ledger: Ledger::new(identity.storing),
            groups: Groups::new(limits.groups, source),
            report: Report::new(identity.index.0, now),
            anonymous: Arc::from(""),
            effects: Effects::default(),
            has_owned: false,
            specifications: Interner::default(),
            numbers: Numbers::default(),
            secrets: StdRng::from_seed(identity.secret),
            identity,
            limits,
        }
    }

    // The clock.

    /// Milliseconds since the epoch.
    pub fn wall_ms(&self) -> u64 {
        self.turn.wall.1 + self.turn.now.since(self.turn.wall.0) / 1_000_000
    }

    /// Milliseconds since the epoch at a moment that is still to come.
    pub fn wall_ms_of(&self, time: Time) -> u64 {
        self.wall_ms() + time.since(self.turn.now) / 1_000_000
    }

    /// Milliseconds since the epoch at a moment that has been, by the clock as it was set when the shard began: the same whenever it is asked for.
    pub fn began_ms(&self, time: Time) -> u64 {
        let (began, began_ms) = self.began;
        let ms = |nanoseconds: u64| nanoseconds / 1_000_000;
        if time >= began { began_ms + ms(time.since(began)) } else { began_ms.saturating_sub(ms(began.since(time))) }
    }

    /// Milliseconds since the epoch at the last tick.
    pub fn ticked_ms(&self) -> u64 {
        self.turn.wall.1
    }

    /// The host's clock may be set while the other runs on.
    pub fn tick(&mut self, now: Time, wall_ms: u64) {
        self.turn.now = now;
        self.turn.wall = (now, wall_ms);
        self.report.advance(now);
    }

    // The post.

    pub fn owner_of(&self, path: &str) -> ShardIndex {
        placement::owner_of(path, self.identity.count)
    }

    /// The number that the next topic of this shard has: no other of any shard has it, and no record of a session.
    pub fn next_topic_id(&self) -> TopicId {
        let count = u64::from(self.identity.count);
        let number = self.identity.topics_base + self.numbers.topics * count + u64::from(self.identity.index.0) + 1;
        // Even ones are those of topics that all servers have.
        TopicId(if self.groups.count() == 0 { number } else { number * 2 + 1 })
    }

    pub fn take_topic_id(&mut self) -> TopicId {
        let id = self.next_topic_id();
        self.numbers.topics += 1;
        id
    }

    /// What only one client is told, so that nobody else can go on with its session.
    pub fn take_secret(&mut self) -> Secret {
        let mut secret = Secret::default();
        self.secrets.fill_bytes(&mut secret);
        secret
    }

    /// A number below this one, or 0, by chance.
    pub fn draw(&mut self, below: u64) -> u64 {
        if below == 0 { 0 } else { self.secrets.random_range(0..below) }
    }

    /// A session's name to clients, which no session of another run of the server has.
    pub fn name_of(&self, session: SessionId) -> String {
        format!("{:016x}-{:x}", self.identity.run, session.number())
    }

    pub fn home_of(&self, session: SessionId) -> ShardIndex {
        session.home(self.identity.count)
    }

    /// A session of an earlier start goes on, of which something was stored at that time: names that were given then are not given again, also of sessions of
    /// which nothing is known any more.
    pub fn skip_names(&mut self, session: SessionId, stored_ms: u64) {
        // No shard begins 64 sessions a millisecond as long as it runs. The clock may have been set back since.
        let by_clock = self.wall_ms().max(stored_ms) << 6;
        self.numbers.sessions = self.numbers.sessions.max(session.count()).max(by_clock);
    }

    pub fn take_session_id(&mut self) -> SessionId {
        self.numbers.sessions += 1;
        SessionId::new(self.identity.index, self.numbers.sessions)
    }

    /// This shard keeps sessions from now on, or deals to who does: others wait for its word. They hear of it before they hear of what those select.
    pub fn become_keeper(&mut self) {
        let own = self.identity.index;
        if !self.ledger.keepers.contains(own) {
            self.ledger.keepers.insert(own);
            for other in (0..self.identity.count).map(ShardIndex).filter(|other| *other != own) {
                self.mail(other, Mail::Keeper { shard: own });
            }
        }
    }

    /// There is a topic of the property OWNER from now on: others are told, once.
    pub fn note_owned(&mut self) {
        if !std::mem::replace(&mut self.has_owned, true) {
            let own = self.identity.index;
            for other in (0..self.identity.count).map(ShardIndex).filter(|other| *other != own) {
                self.mail(other, Mail::Owned);
            }
        }
    }

    /// A number for what will be answered.
    pub fn take_ticket(&mut self) -> u64 {
        self.numbers.tickets += 1;
        self.numbers.tickets
    }

    pub fn mail(&mut self, to: ShardIndex, mail: Mail) {
        if to == self.identity.index {
            self.post.inbox.push_back((to, mail));
        } else {
            self.post.outboxes[usize::from(to.0)].push(mail);
        }
    }

    /// A turn's mail has come from another shard.
    pub fn take_batch(&mut self, from: ShardIndex, batch: Batch) {
        self.report.ring.record(self.turn.now.since(batch.sent));
        self.post.inbox.extend(batch.mails.into_iter().map(|mail| (from, mail)));
    }

    pub fn has_mail(&self) -> bool {
        !self.post.inbox.is_empty()
    }

    /// The next mail for this shard, and who sent it.
    pub fn poll_inbox(&mut self) -> Option<(ShardIndex, Mail)> {
        self.post.inbox.pop_front()
    }

    /// The mail of this turn for one other shard.
    pub fn poll_mail(&mut self, to: ShardIndex) -> Option<Batch> {
        let outbox = &mut self.post.outboxes[usize::from(to.0)];
        if outbox.is_empty() {
            return None;
        }
        Some(Batch { sent: self.turn.now, mails: std::mem::take(outbox) })
    }

    /// Mail that did not fit its ring comes back, in front of what came since.
    pub fn return_mail(&mut self, to: ShardIndex, batch: Batch) {
        let outbox = &mut self.post.outboxes[usize::from(to.0)];
        let newer = std::mem::replace(outbox, batch.mails);
        outbox.extend(newer);
    }

    /// Whether more mail than its mark waits for some shard.
    pub fn is_post_congested(&self) -> bool {
        self.post.outboxes.iter().any(|outbox| outbox.len() > self.limits.mail_high)
    }

    /// A client, where it is known by now, sent something that is longer than the limit of this key.
    pub fn note_oversized(&mut self, client: Box<str>, limit: &'static str) {
        self.report.oversized += 1;
        self.effects.push(Effect::Log(Log::Oversized { client, limit }));
    }

    // Records and answers.

    /// Whether topics are stored.
    pub fn stores(&self) -> bool {
        self.identity.storing != Storing::Off
    }

    /// Answers what was asked, now or once its record is stored.
    pub fn acknowledge(&mut self, applied: Applied, answer: Answer) {
        match applied {
            Ok((outcome, Some(ticket))) => {
                if let Some((answer, result)) = self.ledger.hold(ticket, answer, outcome) {
                    self.give(answer, result);
                }
            }
            Ok((outcome, None)) => self.give(answer, Ok(outcome)),
            Err(refusal) => self.give(answer, Err(refusal)),
        }
    }

    /// Gives the answer of a removal once this server is known to have led each of these groups in the terms that it was decided in, and all that was proposed to them
    /// is applied.
    ///
    /// Whatever else is part of it has its part already.
    pub fn give_together(&mut self, together: &Rc<RefCell<Together>>, groups: BTreeMap<u16, u64>, removed: u64, answer: Answer) {
        together.borrow_mut().answer = Some(Box::new(answer));
        for (group, term) in groups {
            let part = Together::part(together);
            if self.groups.role(group) == (Role::Leads { term }) {
                let proposed = self.groups.propose(group, term, None);
                self.groups.hold(proposed, part, Ok(Outcome::Done), None);
            } else {
                self.give(part, Err(refusal_of(Fate::Void)));
            }
        }
        self.give(Answer::Together(together.clone()), Ok(Outcome::Removed(removed)));
    }

    /// An answer for another room goes by mail; one for a session here waits until it is polled.
    pub fn give(&mut self, answer: Answer, result: Result<Outcome, Refusal>) {
        match answer {
            _ if answer.is_only_for_failures() && result.is_ok() => {}
            Answer::Update { from, to } if from != self.identity.index => self.mail(from, Mail::Answer { to, result }),
            Answer::Removal { from, ticket } => {
                let part = match result {
                    Ok(Outcome::Removed(count)) => Part::Removed(Ok(count)),
                    Ok(_) => Part::Removed(Ok(0)),
                    Err(refusal) => Part::Removed(Err(refusal)),
                };
                self.mail(from, Mail::Part { ticket, part });
            }
            Answer::Together(together) => {
                let whole = together.borrow_mut().take(result);
                if let Some((answer, result)) = whole {
                    self.give(answer, result);
                }
            }
            Answer::Server { number } => self.groups.reply(Reply { number, said: Said::Result(result, 0) }),
            Answer::Kept { owner, ticket, share } => self.mail(owner, Mail::Kept { ticket, share, refusal: result.err() }),
            Answer::View { from, ticket } => self.mail(from, Mail::Part { ticket, part: Part::View { result, changes_nothing: false } }),
            Answer::Update { .. } | Answer::Route { .. } | Answer::Received { .. } | Answer::Completed { .. } => {
                self.post.answers.push_back((answer, result));
            }
        }
    }

    /// The next answer that is due to a session of this shard.
    pub fn poll_answer(&mut self) -> Option<(Answer, Result<Outcome, Refusal>)> {
        self.post.answers.pop_front()
    }
}
