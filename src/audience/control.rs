//! Sessions as others look at and steer them: by id, and by filter.
//!
//! An order goes to the shard of the session, or to every shard, which looks at its sessions a part at a time. A session that begins meanwhile may be met or not.

use super::audit;
use crate::audience::Audience;
use crate::audience::look::{LastReceived, Looks, PAGE_BYTES_MAX};
use crate::audience::messaging::parse_name;
use crate::audience::properties::{Properties, SCANNED_BYTES_PER_SLICE};
use crate::base::{SessionKey, ShardIndex};
use crate::desk::{Audit, AuditOutcome, Desk, Effect, Why};
use crate::mail::control::{Act, Control as Said, Order, Whom};
use crate::mail::messaging::Waiting;
use crate::mail::{Call, Caller, Mail};
use crate::owner::known_selector;
use crate::protocol::{ErrorCode, Refusal};
use crate::session::{Ended, Life, Step};
use crate::topic::session_filter::SessionFilter;
use crate::wire::native::{Outcome, SessionEntry};
use hashbrown::HashMap;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// See the module.
#[derive(Default)]
pub struct Control {
    /// Orders of sessions here, until every shard has done its share.
    asked: HashMap<u64, Gathered>,
    /// Those of each session here that has any.
    of_session: HashMap<SessionKey, BTreeSet<u64>>,
    /// Orders of which not all sessions here were looked at.
    scans: VecDeque<Scan>,
    /// When those sessions here were looked at that ever were.
    pub(super) looks: Looks,
}

struct Gathered {
    asker: Caller,
    shards: u16,
    count: u64,
    /// A shard had too many orders to take it.
    is_refused: bool,
    /// Of a list: how many are wanted, and whether those that are furthest behind.
    wanted: Option<(usize, bool)>,
    listed: Vec<(u64, SessionEntry)>,
    has_more: bool,
    /// How far the list goes where a shard has more: what others list behind that is left for the next page.
    end: Option<(Reverse<u64>, u64)>,
    /// What is noted of it; nothing of one that changes nothing.
    audit: Option<Box<Audit>>,
}

/// How far this shard's sessions were looked at.
struct Scan {
    order: Order,
    /// Where to go on; `None` when all were.
    from: Option<u32>,
    count: u64,
    /// Sessions that have lost roles, and still have something that they may not have any more.
    revoked: Vec<SessionKey>,
    /// Who is to be listed, by rank: the first so many of them. They are described when all were looked at, since that costs far more.
    found: BTreeMap<Rank, SessionKey>,
    listed: Vec<(u64, SessionEntry)>,
    listed_bytes: usize,
    has_more: bool,
}

/// What comes first is listed first.
type Rank = (Reverse<u64>, u64);

/// What an order to one session takes of what a slice may look at, and the description of one that is listed.
const BYTES_OF_ONE: usize = 1000;
const BYTES_OF_DESCRIPTION: usize = 600;
/// The most orders that wait on a shard: they outlive who gave them, so what each session may have under way bounds them not.
const ORDERS_MAX: usize = 10_000;

impl Scan {
    fn new(order: Order) -> Self {
        Self {
            order,
            from: Some(0),
            count: 0,
            revoked: Vec::new(),
            found: BTreeMap::new(),
            listed: Vec::new(),
            listed_bytes: 0,
            has_more: false,
        }
    }
}

impl Control {
    pub fn len(&self) -> usize {
        self.asked.len() + self.scans.len()
    }
}

impl Audience {
    /// Sends an order to whoever has to carry it out, and answers when all have.
    pub fn order(
        &mut self,
        desk: &mut Desk,
        asker: Caller,
        (name, filter): (&str, Option<SessionFilter>),
        act: Act,
    ) -> Result<(), Refusal> {
        let questions_max = desk.limits.questions_max;
        if self.control.of_session.get(&asker.session).is_some_and(|tickets| tickets.len() >= questions_max) {
            return Err(Refusal::new(
                ErrorCode::Overloaded,
                format!("the session has {questions_max} orders under way, as many as it may"),
            ));
        }
        let whom = match filter {
            Some(filter) => Whom::Matching(filter),
            None => Whom::Session(parse_name(desk, name)?),
        };
        self.send_order(desk, asker, whom, act);
        Ok(())
    }

    fn send_order(&mut self, desk: &mut Desk, asker: Caller, whom: Whom, act: Act) {
        let ticket = desk.take_ticket();
        let wanted = if let Act::List { count_max, slowest, .. } = act { Some((count_max, slowest)) } else { None };
        let shards: Vec<ShardIndex> = match &whom {
            Whom::Session(session) => vec![desk.home_of(*session)],
            Whom::Matching(_) => (0..desk.identity.count).map(ShardIndex).collect(),
        };
        let gathered = Gathered {
            asker,
            shards: shards.len() as u16,
            count: 0,
            is_refused: false,
            wanted,
            listed: Vec::new(),
            has_more: false,
            end: None,
            audit: self.audit_order(desk, asker.session, &whom, &act),
        };
        self.control.asked.insert(ticket, gathered);
        self.control.of_session.entry(asker.session).or_default().insert(ticket);
        let order = Order { waiting: Waiting { shard: desk.identity.index, ticket }, whom, act };
        for shard in shards {
            desk.mail(shard, Mail::Control(Box::new(Said::Order(Box::new(order.clone())))));
        }
    }

    pub fn control_said(&mut self, desk: &mut Desk, said: Said) {
        match said {
            Said::Order(order) if self.control.scans.len() >= ORDERS_MAX => {
                let Waiting { shard, ticket } = order.waiting;
                desk.mail(shard, Mail::Control(Box::new(Said::Refused { ticket })));
            }
            Said::Order(order) => match (&order.whom, &order.act) {
                (Whom::Session(session), Act::ReadSelections { after, count_max }) => {
                    let read = self.find(*session).map(|key| self.selections_of(key, *after, *count_max));
                    let Waiting { shard, ticket } = order.waiting;
                    desk.mail(shard, Mail::Control(Box::new(Said::Selections { ticket, read })));
                }
                _ => self.control.scans.push_back(Scan::new(*order)),
            },
            Said::Refused { ticket } => {
                if let Some(gathered) = self.control.asked.get_mut(&ticket) {
                    gathered.is_refused = true;
                }
                self.order_done(desk, ticket, 0, Vec::new(), false);
            }
            Said::Selections { ticket, read } => {
                let Some(gathered) = self.take_gathered(ticket) else { return };
                let result = match read {
                    Some((has_more, selections)) => Ok(Outcome::Selections { has_more, selections }),
                    None => Err(Refusal::new(ErrorCode::NoSuchSession, "the session is over")),
                };
                self.answer(desk, gathered.asker, result);
            }
            Said::Done { ticket, count, listed, has_more } => self.order_done(desk, ticket, count, listed, has_more),
        }
    }

    fn take_gathered(&mut self, ticket: u64) -> Option<Gathered> {
        let gathered = self.control.asked.remove(&ticket)?;
        let tickets = self.control.of_session.get_mut(&gathered.asker.session).expect("it is noted with its session");
        tickets.remove(&ticket);
        if tickets.is_empty() {
            self.control.of_session.remove(&gathered.asker.session);
        }
        Some(gathered)
    }

    fn order_done(&mut self, desk: &mut Desk, ticket: u64, count: u64, listed: Vec<(u64, SessionEntry)>, has_more: bool) {
        let Some(gathered) = self.control.asked.get_mut(&ticket) else { return };
        gathered.count += count;
        if let (true, Some((number, last)), Some((_, slowest))) = (has_more, listed.last(), gathered.wanted) {
            let last = rank(slowest, last.queue_bytes, *number);
            gathered.end = Some(gathered.end.map_or(last, |end| end.min(last)));
        }
        gathered.listed.extend(listed);
        gathered.has_more |= has_more;
        gathered.shards -= 1;
        if gathered.shards > 0 {
            return;
        }
        let Gathered { asker, count, is_refused, wanted, mut listed, has_more, end, audit, .. } =
            self.take_gathered(ticket).expect("it was just there");
        if is_refused {
            let message =
                format!("a shard has {ORDERS_MAX} orders that wait, as many as it may: of its sessions none was met, of others {count}");
            let result = Err(Refusal::new(ErrorCode::Overloaded, message));
            audit::tell(desk, audit, &result);
            return self.answer(desk, asker, result);
        }
        let Some((count_max, slowest)) = wanted else {
            let result = Ok(Outcome::Asked(count));
            audit::tell(desk, audit, &result);
            return self.answer(desk, asker, result);
        };
        // At most what one page has, of each shard.
        listed.sort_by_key(|(number, entry)| rank(slowest, entry.queue_bytes, *number));
        listed.retain(|(number, entry)| end.is_none_or(|end| rank(slowest, entry.queue_bytes, *number) <= end));
        let mut bytes = 0;
        let fitting = listed.iter().take(count_max).take_while(|(_, entry)| {
            let fits = bytes <= PAGE_BYTES_MAX;
            bytes += properties_bytes(entry);
            fits
        });
        let fitting = fitting.count();
        let has_more = has_more || listed.len() > fitting;
        listed.truncate(fitting);
        let sessions = listed.into_iter().map(|(_, entry)| entry).collect();
        self.answer(desk, asker, Ok(Outcome::Sessions { has_more, sessions }));
    }

    // On the shard of the sessions.

    pub fn has_orders(&self) -> bool {
        !self.control.scans.is_empty()
    }

    /// Goes on with the orders that have waited longest: so many sessions a slice. One ends before the next begins, so of two orders to a session the later
    /// one stands.
    pub fn run_orders(&mut self, desk: &mut Desk, last_received: &LastReceived<'_>) {
        let mut left = SCANNED_BYTES_PER_SLICE;
        while left > 0
            && let Some(mut scan) = self.control.scans.pop_front()
        {
            if let Some(from) = scan.from {
                let (next, spent) = self.look_for_meant(desk, &mut scan, from, left);
                scan.from = next;
                left = left.saturating_sub(spent);
            }
            while left > 0 && scan.from.is_none() && !scan.found.is_empty() {
                self.describe_first(desk, &mut scan, last_received);
                left = left.saturating_sub(BYTES_OF_DESCRIPTION);
            }
            if scan.from.is_some() || !scan.found.is_empty() {
                self.control.scans.push_front(scan);
                continue;
            }
            // Nobody is told that it is done while somebody has what it may not have.
            while let Some(key) = scan.revoked.last() {
                if !self.finish_revoking(desk, *key) {
                    return self.control.scans.push_front(scan);
                }
                scan.revoked.pop();
            }
            let Scan { order, count, listed, has_more, .. } = scan;
            let Waiting { shard, ticket } = order.waiting;
            desk.mail(shard, Mail::Control(Box::new(Said::Done { ticket, count, listed, has_more })));
        }
    }

    /// Looks at the next so many sessions, and carries out what is ordered of those that are meant. Where to go on, and what of `left` is spent.
    fn look_for_meant(&mut self, desk: &mut Desk, scan: &mut Scan, from: u32, left: usize) -> (Option<u32>, usize) {
        let filter = match &scan.order.whom {
            Whom::Session(session) => {
                let found = self.find(*session);
                found.into_iter().for_each(|key| self.carry_out(desk, key, scan));
                return (None, BYTES_OF_ONE);
            }
            Whom::Matching(filter) => filter.clone(),
        };
        let (keys, next) = self.next_candidates(desk, &filter, from, left);
        let spent = (keys.len() + 1) * filter.as_str().len().max(1);
        for key in keys {
            if self.session(key).is_some_and(|session| session.life != Life::Shared) && self.is_meant(desk, key, &filter) {
                self.carry_out(desk, key, scan);
            }
        }
        (next, spent)
    }

    /// Describes the first of those that are to be listed; where this is as much as a page has, the others are left for the next one.
    fn describe_first(&mut self, desk: &Desk, scan: &mut Scan, last_received: &LastReceived<'_>) {
        let Some(((_, number), key)) = scan.found.pop_first() else { return };
        // It may have ended meanwhile.
        if self.session(key).is_some() {
            let entry = self.describe(desk, key, last_received);
            scan.listed_bytes += properties_bytes(&entry);
            scan.listed.push((number, entry));
        }
        if scan.listed_bytes > PAGE_BYTES_MAX && !scan.found.is_empty() {
            scan.found.clear();
            scan.has_more = true;
        }
    }

    pub(super) fn is_meant(&self, desk: &Desk, key: SessionKey, filter: &SessionFilter) -> bool {
        let properties = Properties::of(self, desk, key);
        filter.matches(|name| properties.value(name))
    }

    fn carry_out(&mut self, desk: &mut Desk, key: SessionKey, scan: &mut Scan) {
        let is_done = match &scan.order.act {
            Act::List { after, count_max, slowest } => {
                let (after, count_max, slowest) = (*after, *count_max, *slowest);
                self.list(key, scan, after, count_max, slowest);
                true
            }
            Act::ReadSelections { .. } => unreachable!("they are read at once"),
            Act::Close { why } => {
                let why = why.clone();
                self.close_session(desk, key, &why);
                true
            }
            Act::SetProperties(properties) => {
                self.note_durable(desk, key);
                let has_room = self.set_properties(desk, key, properties);
                self.remap(desk, key);
                has_room
            }
            Act::ChangeRoles { remove, add } => {
                let (remove, add) = (remove.clone(), add.clone());
                self.change_roles(desk, key, &remove, &add);
                if !self.finish_revoking(desk, key) {
                    scan.revoked.push(key);
                }
                true
            }
            Act::Conflate(is_conflated) => {
                let is_conflated = *is_conflated;
                self.session_mut(key).expect("it was just there").is_conflated = is_conflated;
                self.note_durable(desk, key);
                self.keep_bound(desk, key);
                true
            }
            Act::Subscribe { selector, scope } => {
                let selector = known_selector(desk.limits.selector, selector);
                let caller = Caller { session: key, call: Call::Unheard };
                self.takes_selectors(key) && self.subscribe(desk, caller, scope, &selector, Step::Ordered).is_ok()
            }
            Act::Unsubscribe { selector, scope } => {
                let selector = known_selector(desk.limits.selector, selector);
                let caller = Caller { session: key, call: Call::Unheard };
                self.takes_selectors(key) && self.unsubscribe(desk, caller, Some(scope), &selector).is_ok()
            }
        };
        scan.count += u64::from(is_done);
    }

    /// Clients of MQTT have filters of their own.
    fn takes_selectors(&self, key: SessionKey) -> bool {
        self.session(key).is_some_and(|session| session.mqtt.is_none())
    }

    fn list(&self, key: SessionKey, scan: &mut Scan, after: u64, count_max: usize, slowest: bool) {
        let session = self.sessions.get(key).expect("it was just there");
        let number = session.id.number();
        if !slowest && number <= after {
            return;
        }
        scan.found.insert(rank(slowest, session.queue.bytes() as u64, number), key);
        if scan.found.len() > count_max {
            scan.found.pop_last();
            scan.has_more = true;
        }
    }

    /// The session is over, and its connection is closed.
    fn close_session(&mut self, desk: &mut Desk, key: SessionKey, why: &str) {
        let session = self.session_mut(key).expect("it was just there");
        match session.life {
            Life::Connected(_) | Life::Inside { .. } => {
                if let Some(mqtt) = &mut session.mqtt {
                    mqtt.expiry_s = 0;
                }
                self.give_up(desk, key, Why::Closed(why.into()));
            }
            Life::Away(_) => {
                session.end_by(Ended::ByControl);
                self.finish_session(desk, key);
            }
            Life::GivenUp | Life::Shared | Life::Over => {}
        }
    }

    /// The session that asked is over: nobody is answered.
    pub(super) fn end_orders(&mut self, desk: &mut Desk, key: SessionKey) {
        self.control.looks.remove(&key);
        for ticket in self.control.of_session.remove(&key).unwrap_or_default() {
            // Its orders are carried out all the same.
            if let Some(audit) = self.control.asked.remove(&ticket).and_then(|gathered| gathered.audit) {
                desk.effects.push(Effect::Audit(Box::new(audit.with_outcome(AuditOutcome::Ordered))));
            }
        }
    }
}

fn properties_bytes(entry: &SessionEntry) -> usize {
    entry.properties.iter().map(|(key, value)| key.len() + value.len()).sum()
}

fn rank(slowest: bool, queue_bytes: u64, number: u64) -> Rank {
    (Reverse(if slowest { queue_bytes } else { 0 }), number)
}
