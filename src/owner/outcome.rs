//! Updates of topics that several servers hold as one: decided where the group is led, put to its log, and applied at every server when the log says so.
//!
//! What is decided becomes an entry (`cluster`), and an entry becomes the records that applying takes, at the server that decided as at all others. Until it is
//! applied the next updates are decided from what is ahead (`ahead`). Nobody is told of anything before.
//!
//! Not built yet: what sessions of MQTT have to keep before a message is acknowledged.

use super::ahead::Ahead;
use super::decide::{Attempt, Decided};
use super::forward::{Maker, forward_of};
use super::record::{Added, Event, Record};
use super::{Owner, Paused, Waits, make_publication};
use crate::base::{SessionId, Time, TopicId};
use crate::cluster::{self, Asked, Entry, EventChange, Made, SessionName, Source};
use crate::desk::{Applied, Desk, Fate, Own, Proposed, Role, refusal_of};
use crate::journal::Expiry;
use crate::mail::Change;
use crate::protocol::{ErrorCode, Refusal};
use crate::topic::path::TopicPath;
use crate::topic::publication::{self, MessageView, Publication};
use crate::topic::specification::{Specification, SpecificationLimits, TopicType};
use crate::topic::tree::Topic;
use crate::wire::mqtt::QoS;
use crate::wire::native::{EventHead, Outcome};
use std::borrow::Cow;
use std::sync::Arc;

impl Owner {
    /// Decides on an update of a replicated topic where this server leads the group, or has the server that leads it decide.
    pub(super) fn update_replicated(
        &mut self,
        desk: &mut Desk,
        group: u16,
        (by, author): (Option<SessionId>, Option<&Arc<str>>),
        path: &str,
        change: &Change<'_>,
        received: Time,
    ) -> (Applied, Option<Waits>) {
        if desk.groups.bytes_under_way(group) > desk.limits.proposed_bytes_max {
            let why = "as much is on its way to the servers that hold the topic as limits.proposed_bytes_max allows";
            return (Err(Refusal::new(ErrorCode::Overloaded, why)), None);
        }
        let maker = Maker { server: desk.identity.node, by, author, asked: None };
        match desk.groups.role(group) {
            Role::Leads { term } if !desk.groups.has_forwarded(group) => {
                self.propose_update(desk, (group, term), maker, path, change, received)
            }
            Role::Leads { .. } | Role::Follows { .. } => {
                let number = desk.groups.forward(desk.turn.now, group, forward_of(desk, maker, path, change));
                (Ok((Outcome::Done, None)), Some(Waits::Forwarded(group, number)))
            }
        }
    }

    /// Decides on an update of a replicated topic, and puts that to the log that this server leads in the term.
    pub(super) fn propose_update(
        &mut self,
        desk: &mut Desk,
        (group, term): (u16, u64),
        maker: Maker<'_>,
        path: &str,
        change: &Change<'_>,
        received: Time,
    ) -> (Applied, Option<Waits>) {
        let Maker { server, by, author, asked } = maker;
        let now = self.tree.find(path).map(|place| self.tree.topic(place));
        let found = self.ahead.find(group, path).unwrap_or(now);
        let step = change.conditions.as_ref().and_then(|conditions| conditions.stream);
        let held = self.ahead.stream(group, path);
        // One that was lost on its way ends the stream: what comes behind it may be a difference from that.
        let follows = |last: u64| step.is_none_or(|step| step.opens || step.ordinal == last + 1);
        let stream = held.filter(|(_, last)| follows(*last)).map(|(stream, _)| stream);
        let attempt = Attempt { path, found, stream, gives_way: false, by, author, received };
        let (applied, waits, stream) = match self.decide(desk, attempt, change) {
            Ok(decided) => {
                let keeps_stream = decided.leaves_value() && decided.added.is_none();
                let Decided { added, record, outcome, .. } = decided;
                let asked = (added.is_some() || record.is_some()).then(|| asked.unwrap_or_else(|| desk.groups.take_number(group)));
                let named = asked.map(|(source, number)| Asked { source, number, made: Made::of(&outcome) });
                let entry = entry_of(desk, (path, term), (server, named), added.as_deref(), record.as_ref());
                let proposed = desk.groups.propose(group, term, entry);
                let own = if let Some(asked) = asked {
                    let path = found.map_or_else(|| TopicPath::of_branch(path), |topic| topic.path.clone());
                    self.ahead.note(proposed, &path, now, added.map(|added| *added), record.as_ref());
                    own_of(desk, asked, path)
                } else {
                    None
                };
                (
                    Ok((outcome, None)),
                    Waits::Proposed(proposed, own),
                    step.map_or(held.filter(|_| keeps_stream), |step| Some((step.stream, step.ordinal))),
                )
            }
            Err(refusal) => {
                // A stream's operation that is refused ends it.
                let stream = held.filter(|(held, _)| step.is_none_or(|step| step.stream != *held));
                (Err(refusal), Waits::Proposed(desk.groups.propose(group, term, None), None), stream)
            }
        };
        if stream != held {
            self.ahead.set_stream(group, path, stream);
        }
        (applied, Some(waits))
    }

    /// The topic at the path as it will be, where this server leads its group, else as it is.
    pub(super) fn judged<'o>(&'o self, desk: &Desk, path: &str, now: Option<&'o Topic>) -> Option<&'o Topic> {
        let led = desk.groups.of(path).filter(|group| matches!(desk.groups.role(*group), Role::Leads { .. }));
        led.and_then(|group| self.ahead.find(group, path)).unwrap_or(now)
    }

    /// Puts the removal of a topic that will be there to the log of its group, which somebody has asked for, or nobody.
    pub(super) fn propose_removal(
        &mut self,
        desk: &mut Desk,
        group: u16,
        path: &TopicPath,
        asked: Option<(Source, u64)>,
    ) -> Result<Proposed, Refusal> {
        let asked = asked.map(|(source, number)| Asked { source, number, made: Made::Removed });
        self.propose_record(desk, group, path, &Record::Removed, asked).ok_or_else(|| refusal_of(Fate::Void))
    }

    /// Puts what becomes of a topic that will be there to the log of its group; nothing where this server does not lead it.
    pub(super) fn propose_record(
        &mut self,
        desk: &mut Desk,
        group: u16,
        path: &TopicPath,
        record: &Record,
        asked: Option<Asked>,
    ) -> Option<Proposed> {
        let Role::Leads { term } = desk.groups.role(group) else { return None };
        let now = self.tree.find(path.as_str()).map(|place| self.tree.topic(place));
        let entry = entry_of(desk, (path.as_str(), term), (0, asked), None, Some(record));
        let proposed = desk.groups.propose(group, term, entry);
        self.ahead.note(proposed, path, now, None, Some(record));
        self.ahead.set_stream(group, path.as_str(), None);
        Some(proposed)
    }

    /// Removes the topic at the path, if one will be there that no view makes, for a server that this one leads the group for; with a number only the topic of that.
    pub(super) fn remove_replicated(
        &mut self,
        desk: &mut Desk,
        (group, term): (u16, u64),
        path: &str,
        id: Option<TopicId>,
        asked: (Source, u64),
    ) -> (Applied, Option<Waits>) {
        let now = self.tree.find(path).map(|place| self.tree.topic(place));
        let is_meant = |topic: &&Topic| !topic.is_reference && id.is_none_or(|id| topic.id == id);
        let found = self.judged(desk, path, now).filter(is_meant).map(|topic| topic.path.clone());
        let Some(path) = found else {
            let proposed = desk.groups.propose(group, term, None);
            return (Ok((Outcome::Removed(0), None)), Some(Waits::Proposed(proposed, None)));
        };
        match self.propose_removal(desk, group, &path, Some(asked)) {
            Ok(proposed) => (Ok((Outcome::Removed(1), None)), Some(Waits::Proposed(proposed, own_of(desk, asked, path)))),
            Err(refusal) => (Err(refusal), None),
        }
    }

    /// Removals go on that waited until less is on its way to the logs of their groups.
    pub fn resume_removals(&mut self, desk: &Desk) {
        if self.paused.is_empty() {
            return;
        }
        // One for each removal under way. Publishers stop at the limit, so it comes below.
        let bytes_max = desk.limits.proposed_bytes_max + desk.limits.proposed_bytes_max / 2;
        let may_go = |paused: &Paused| desk.groups.bytes_under_way(paused.group) <= bytes_max;
        for Paused { from, ticket, .. } in self.paused.extract_if(.., |paused| may_go(paused)) {
            self.walks.resume(from, ticket);
        }
    }

    /// Applies what the log of a group says. A topic that is added has the number `id`. `own` is the proposal of this shard that the entry is. An error says what this
    /// version cannot make of it: nothing is changed, and nothing behind it may be applied.
    pub fn apply_entry(&mut self, desk: &mut Desk, id: TopicId, own: Option<Proposed>, entry: &Entry<'_>) -> Result<(), String> {
        let mut at = self.tree.find(entry.path);
        let mut change = entry.change.as_ref();
        let mut added = entry.added.as_ref().map(|added| added_of(desk, id, entry.path, added)).transpose()?;
        if let Some(added) = &mut added
            && let Some(cluster::Change::Value { version, value, message }) = change
            && added.specification.retains_value()
        {
            let message = message.as_ref().map(|message| (message, false));
            added.value = Some(Arc::new(value_of(desk, (id, &added.specification), *version, *value, message)));
            change = None;
        }
        let of = match (&added, at) {
            (Some(added), _) => Some((added.id, added.specification.clone())),
            (None, Some(place)) => Some((self.tree.topic(place).id, self.tree.topic(place).specification.clone())),
            (None, None) => None,
        };
        let record = match (change, of) {
            (None, _) => None,
            (Some(change), Some((id, specification))) => Some(record_of(desk, (id, &specification), change)?),
            (Some(_), None) => return Err(format!("there is no topic at '{}'", entry.path)),
        };
        if let Some(added) = added {
            at = self.apply(desk, at, Record::Added(Box::new(added)));
        }
        if let Some(record) = record {
            at = self.apply(desk, at, record);
        }
        if let Some(own) = own {
            self.ahead.settle(own, entry.path, at.is_some());
        }
        Ok(())
    }

    /// What was decided here and is not applied does not count any more: this server leads the group no longer, or anew.
    pub fn forget_proposed(&mut self, group: u16) {
        self.ahead.forget(group);
    }

    /// What is decided here and not applied.
    pub fn ahead(&self) -> &Ahead {
        &self.ahead
    }
}

/// What an update is asked after by, if it is of this shard.
fn own_of(desk: &Desk, (source, number): (Source, u64), path: TopicPath) -> Option<Own> {
    (source == desk.groups.source()).then_some(Own { number, path })
}

/// The entry of what was decided, for a session of this server; `None` where it changes nothing.
fn entry_of(
    desk: &Desk,
    (path, term): (&str, u64),
    (server, asked): (u64, Option<Asked>),
    added: Option<&Added>,
    record: Option<&Record>,
) -> Option<Vec<u8>> {
    if added.is_none() && record.is_none() {
        return None;
    }
    let time_ms = desk.wall_ms();
    let first = added.and_then(|added| added.value.as_ref()).map(|publication| value_change(desk, server, publication));
    let change = record.map(|record| change_of(desk, server, record)).or(first);
    let added = added.map(|Added { specification, is_passing, creator, .. }| cluster::Added {
        kind: specification.topic_type().number(),
        properties: Cow::Owned(specification.properties().map(|(key, value)| (key.into(), value.into())).collect()),
        is_passing: *is_passing,
        creator: creator.map(|session| SessionName { server, session }),
    });
    Some(Entry { path, term, time_ms, asked, added, change }.encode())
}

fn change_of<'a>(desk: &Desk, server: u64, record: &'a Record) -> cluster::Change<'a> {
    match record {
        Record::Kept => cluster::Change::Kept,
        Record::Removed => cluster::Change::Removed,
        Record::Value(publication) => value_change(desk, server, publication),
        Record::Passed(publication) | Record::Cleared(publication) => {
            let message = message_of(desk, server, publication).expect("what passes by is a message");
            cluster::Change::Passed { version: publication.version, value: publication.value().unwrap_or_default(), message }
        }
        Record::Event(Event { publication, author, first_kept, dropped }) => {
            let EventHead { sequence, timestamp_ms, original, .. } =
                publication.event_head().expect("the publication of an event has its head");
            let value = publication.value().expect("an event has a value");
            let (first_kept, dropped) = (*first_kept, *dropped);
            cluster::Change::Event(EventChange { sequence, original, timestamp_ms, author, value, first_kept, dropped })
        }
        Record::Added(_) => unreachable!("a topic is made first, and then changed"),
    }
}

fn value_change<'a>(desk: &Desk, server: u64, publication: &'a Publication) -> cluster::Change<'a> {
    let value = if publication.is_null() { None } else { publication.value() };
    cluster::Change::Value { version: publication.version, value, message: message_of(desk, server, publication) }
}

fn message_of<'a>(desk: &Desk, server: u64, publication: &'a Publication) -> Option<cluster::Message<'a>> {
    let MessageView { qos, retain, is_clearing, expires, origin, passed_on, .. } = publication.message()?;
    let expiry = expires.map(|expires| Expiry::new(desk.wall_ms_of(expires), desk.wall_ms()));
    Some(cluster::Message {
        qos: qos as u8,
        retain,
        is_clearing,
        expiry,
        origin: origin.map(|session| SessionName { server, session }),
        passed_on,
    })
}

fn added_of(desk: &mut Desk, id: TopicId, path: &str, added: &cluster::Added<'_>) -> Result<Added, String> {
    let topic_type = TopicType::from_number(added.kind).ok_or_else(|| format!("there is no topic type {}", added.kind))?;
    let properties = added.properties.iter().map(|(key, value)| (&**key, &**value));
    let parsed = Specification::parse(topic_type, properties, SpecificationLimits::default()).map_err(|error| error.to_string())?;
    let specification = desk.specifications.intern(parsed);
    Ok(Added {
        id,
        path: TopicPath::of_branch(path),
        specification,
        is_passing: added.is_passing,
        value: None,
        creator: added.creator.and_then(|name| name.session_at(desk.identity.node)),
    })
}

fn record_of(desk: &Desk, of: (TopicId, &Specification), change: &cluster::Change<'_>) -> Result<Record, String> {
    let (id, specification) = of;
    let is_series = specification.topic_type() == TopicType::TimeSeries;
    Ok(match change {
        cluster::Change::Kept => Record::Kept,
        cluster::Change::Removed => Record::Removed,
        cluster::Change::Value { .. } if is_series => return Err("a time series has no value of its own".to_owned()),
        cluster::Change::Event(_) if !is_series => return Err("an event is of a time series".to_owned()),
        cluster::Change::Value { version, value, message } => {
            let message = message.as_ref().map(|message| (message, false));
            Record::Value(Arc::new(value_of(desk, of, *version, *value, message)))
        }
        cluster::Change::Passed { version, value, message } => {
            let publication = Arc::new(value_of(desk, of, *version, Some(value), Some((message, true))));
            if message.is_clearing { Record::Cleared(publication) } else { Record::Passed(publication) }
        }
        cluster::Change::Event(EventChange { sequence, original, timestamp_ms, author, value, first_kept, dropped }) => {
            let author: Arc<str> = if author.is_empty() { desk.anonymous.clone() } else { (*author).into() };
            let head = EventHead { sequence: *sequence, timestamp_ms: *timestamp_ms, original: *original, author: &author };
            let publication = Arc::new(Publication::event(id, desk.turn.now, head, value));
            Record::Event(Event { publication, author, first_kept: *first_kept, dropped: *dropped })
        }
    })
}

/// A value as it is published here; of a message, also whether it passes by.
fn value_of(
    desk: &Desk,
    (id, specification): (TopicId, &Specification),
    version: u64,
    value: Option<&[u8]>,
    message: Option<(&cluster::Message<'_>, bool)>,
) -> Publication {
    let publication = make_publication(id, specification, version, value, desk.turn.now);
    let Some((message, is_passing)) = message else { return publication };
    publication.with_message(publication::Message {
        qos: QoS::from_number(message.qos).unwrap_or_default(),
        retain: message.retain,
        is_passing,
        is_clearing: message.is_clearing,
        expires: message.expiry.map(|expiry| desk.turn.now.after_ms(expiry.left_ms(desk.wall_ms()))),
        origin: message.origin.and_then(|name| name.session_at(desk.identity.node)),
        publisher: None,
        passed_on: message.passed_on.into(),
    })
}
