//! Sessions as others look at and steer them: by id, and by filter.
//!
//! An order goes to the shard of the session, or to every shard, which looks at its sessions a part at a time. A session that begins meanwhile may be met or not.

use crate::audience::Audience;
use crate::audience::messaging::parse_name;
use crate::audience::properties::Properties;
use crate::base::{SessionKey, ShardIndex};
use crate::desk::{Desk, Why};
use crate::mail::control::{Act, Control as Said, Order, Whom};
use crate::mail::messaging::Waiting;
use crate::mail::{Call, Caller, Mail};
use crate::owner::known_selector;
use crate::protocol::{ErrorCode, Refusal};
use crate::session::Life;
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
}

struct Gathered {
    asker: Caller,
    shards: u16,
    count: u64,
    /// Of a list: how many are wanted, and whether those that are furthest behind.
    wanted: Option<(usize, bool)>,
    listed: Vec<(u64, SessionEntry)>,
    has_more: bool,
}

/// How far this shard's sessions were looked at.
struct Scan {
    order: Order,
    from: u32,
    count: u64,
    /// What is listed, by its rank: the first so many of them.
    listed: BTreeMap<(Reverse<u64>, u64), SessionEntry>,
    has_more: bool,
}

/// What a slice may look at, in bytes of filters for each session that they are held against; see `properties`.
const SCANNED_BYTES_PER_SLICE: usize = 40_000;

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
        let ticket = desk.take_ticket();
        let wanted = if let Act::List { count_max, slowest, .. } = act { Some((count_max, slowest)) } else { None };
        let shards: Vec<ShardIndex> = match &whom {
            Whom::Session(session) => vec![session.shard()],
            Whom::Matching(_) => (0..desk.identity.count).map(ShardIndex).collect(),
        };
        let gathered = Gathered { asker, shards: shards.len() as u16, count: 0, wanted, listed: Vec::new(), has_more: false };
        self.control.asked.insert(ticket, gathered);
        self.control.of_session.entry(asker.session).or_default().insert(ticket);
        let order = Order { waiting: Waiting { shard: desk.identity.index, ticket }, whom, act };
        for shard in shards {
            desk.mail(shard, Mail::Control(Box::new(Said::Order(Box::new(order.clone())))));
        }
        Ok(())
    }

    pub fn control_said(&mut self, desk: &mut Desk, said: Said) {
        match said {
            Said::Order(order) => {
                self.control.scans.push_back(Scan { order: *order, from: 0, count: 0, listed: BTreeMap::new(), has_more: false });
            }
            Said::Done { ticket, count, listed, has_more } => self.order_done(desk, ticket, count, listed, has_more),
        }
    }

    fn order_done(&mut self, desk: &mut Desk, ticket: u64, count: u64, listed: Vec<(u64, SessionEntry)>, has_more: bool) {
        let Some(gathered) = self.control.asked.get_mut(&ticket) else { return };
        gathered.count += count;
        gathered.listed.extend(listed);
        gathered.has_more |= has_more;
        gathered.shards -= 1;
        if gathered.shards > 0 {
            return;
        }
        let Gathered { asker, count, wanted, mut listed, has_more, .. } = self.control.asked.remove(&ticket).expect("it was just there");
        if let Some(tickets) = self.control.of_session.get_mut(&asker.session) {
            tickets.remove(&ticket);
            if tickets.is_empty() {
                self.control.of_session.remove(&asker.session);
            }
        }
        let Some((count_max, slowest)) = wanted else { return self.answer(desk, asker, Ok(Outcome::Asked(count))) };
        // At most what one page has, of each shard.
        listed.sort_by_key(|(number, entry)| rank(slowest, entry.queue_bytes, *number));
        let has_more = has_more || listed.len() > count_max;
        listed.truncate(count_max);
        let sessions = listed.into_iter().map(|(_, entry)| entry).collect();
        self.answer(desk, asker, Ok(Outcome::Sessions { has_more, sessions }));
    }

    // On the shard of the sessions.

    pub fn has_orders(&self) -> bool {
        !self.control.scans.is_empty()
    }

    /// Goes on with the order that has waited longest: so many sessions a slice.
    pub fn run_orders(&mut self, desk: &mut Desk) {
        let Some(mut scan) = self.control.scans.pop_front() else { return };
        let next = match &scan.order.whom {
            Whom::Session(session) => {
                let found = self.find(*session);
                found.into_iter().for_each(|key| self.carry_out(desk, key, &mut scan));
                None
            }
            Whom::Matching(filter) => {
                let filter = filter.clone();
                let looked_max = (SCANNED_BYTES_PER_SLICE / filter.as_str().len().max(1)).max(16);
                let (keys, next) = self.sessions.slab.keys_from(scan.from, looked_max);
                for key in keys {
                    if self.session(key).is_some_and(|session| session.life != Life::Shared) && self.is_meant(desk, key, &filter) {
                        self.carry_out(desk, key, &mut scan);
                    }
                }
                next
            }
        };
        if let Some(from) = next {
            scan.from = from;
            return self.control.scans.push_back(scan);
        }
        let Waiting { shard, ticket } = scan.order.waiting;
        let listed = scan.listed.into_iter().map(|((_, number), entry)| (number, entry)).collect();
        desk.mail(shard, Mail::Control(Box::new(Said::Done { ticket, count: scan.count, listed, has_more: scan.has_more })));
    }

    pub(super) fn is_meant(&self, desk: &Desk, key: SessionKey, filter: &SessionFilter) -> bool {
        let properties = Properties::of(self, desk, key);
        filter.matches(|name| properties.value(name))
    }

    fn carry_out(&mut self, desk: &mut Desk, key: SessionKey, scan: &mut Scan) {
        let is_done = match &scan.order.act {
            Act::List { after, count_max, slowest } => {
                let (after, count_max, slowest) = (*after, *count_max, *slowest);
                self.list(desk, key, scan, after, count_max, slowest);
                true
            }
            Act::Close { why } => {
                let why = why.clone();
                self.close_session(desk, key, &why);
                true
            }
            Act::SetProperties(properties) => {
                let has_room = self.set_properties(key, properties);
                self.remap(desk, key);
                has_room
            }
            Act::Conflate(is_conflated) => {
                let is_conflated = *is_conflated;
                self.session_mut(key).expect("it was just there").is_conflated = is_conflated;
                self.keep_bound(desk, key);
                true
            }
            Act::Subscribe { selector, scope } => {
                let selector = known_selector(desk.limits.selector, selector);
                let caller = Caller { session: key, call: Call::Unheard };
                self.takes_selectors(key) && self.subscribe(desk, caller, scope, &selector).is_ok()
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

    fn list(&mut self, desk: &Desk, key: SessionKey, scan: &mut Scan, after: u64, count_max: usize, slowest: bool) {
        let number = self.id_of(key).expect("it was just there").number();
        if !slowest && number <= after {
            return;
        }
        let entry = self.describe(desk, key);
        scan.listed.insert(rank(slowest, entry.queue_bytes, number), entry);
        if scan.listed.len() > count_max {
            scan.listed.pop_last();
            scan.has_more = true;
        }
    }

    fn describe(&self, desk: &Desk, key: SessionKey) -> SessionEntry {
        let session = self.sessions.get(key).expect("it was just there");
        SessionEntry {
            session: self.session_id(desk, key),
            is_away: session.life.away().is_some(),
            properties: self.session_properties(desk, key).into(),
            subscriptions: session.subscriptions.len() as u64,
            queue_bytes: session.queue.bytes() as u64,
            sent_bytes: session.sent_bytes,
            conflations: u64::from(session.conflations),
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
            Life::Away(_) => self.finish_session(desk, key),
            Life::GivenUp | Life::Shared | Life::Over => {}
        }
    }

    /// The session that asked is over: nobody is answered.
    pub(super) fn end_orders(&mut self, key: SessionKey) {
        for ticket in self.control.of_session.remove(&key).unwrap_or_default() {
            self.control.asked.remove(&ticket);
        }
    }
}

/// What comes first is listed first.
fn rank(slowest: bool, queue_bytes: u64, number: u64) -> (Reverse<u64>, u64) {
    (Reverse(if slowest { queue_bytes } else { 0 }), number)
}
