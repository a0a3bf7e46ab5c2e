//! Topics that were stored, taken up again before anybody is connected.

use super::record::{Added, Event, Record};
use super::walk::known_selector;
use super::{Owner, make_publication};
use crate::base::{ShardIndex, TopicId};
use crate::desk::Desk;
use crate::journal::{StoredEvent, StoredTopic};
use crate::mail::Appearance;
use crate::series::{Appended, Numbers, Series, SeriesError};
use crate::topic::publication::{self, Publication};
use crate::topic::selector::Selector;
use crate::topic::specification::Specification;
use crate::topic::tree::{Direction, Onward, Place, Span};
use crate::wire::mqtt::QoS;
use crate::wire::native::EventHead;
use hashbrown::{HashMap, HashSet};
use std::sync::Arc;

/// Snapshots of other servers on their way into the tree.
#[derive(Default)]
pub struct Installs {
    /// Topics that have come, by group.
    coming: HashMap<u16, HashSet<TopicId>>,
    /// All have come; what else is there of the group goes. One for each group at most, a handful.
    sweeps: Vec<(Sweep, Span)>,
}

/// The topics of a group that a snapshot has not.
struct Sweep {
    group: u16,
    /// Those with this number or above were added behind the snapshot.
    first_later: TopicId,
    kept: HashSet<TopicId>,
    everything: Selector,
}

impl Owner {
    /// Makes of the topic what its records made of it; who is interested is told of the topic as it is then. An error says what about it this server
    /// cannot read.
    pub fn restore_topic(
        &mut self,
        desk: &mut Desk,
        id: TopicId,
        stored: StoredTopic,
        (specification, is_passing): (Arc<Specification>, bool),
        appearance: Appearance,
    ) -> Result<(), String> {
        let value = (stored.version > 0).then(|| Arc::new(value_of(desk, id, &stored, &specification)));
        let added = Added { id, path: stored.path.clone(), specification, is_passing, value, creator: None };
        let mut topic = added.into_topic();
        // When the server starts, before anybody is served.
        for event in stored.events.into_values() {
            let Some(series) = topic.series() else { break };
            let event = event_of(desk, id, series, event).map_err(|error| format!("topic '{}': {error}", stored.path.as_str()))?;
            Record::Event(event).change(&mut topic);
        }
        if let Some(series) = topic.series_mut() {
            // Nobody waits yet.
            drop(series.take_gone());
            if let Some(last) = stored.last_sequence {
                series.restore_end(last.saturating_add(1), stored.latest_ms);
            }
        }
        if is_passing {
            self.expiries.passing().note(desk, id, &topic.path);
        }
        self.enter(desk, topic, None, appearance);
        Ok(())
    }

    /// The topic takes the place of what is at its path, as another server's snapshot of the group has it. Where the same is there already, it is brought on: who is
    /// interested is told what it did not have.
    pub fn install_topic(
        &mut self,
        desk: &mut Desk,
        group: u16,
        (id, stored): (TopicId, StoredTopic),
        specification: (Arc<Specification>, bool),
    ) -> Result<(), String> {
        self.installs.coming.entry(group).or_default().insert(id);
        let Some(place) = self.tree.find(stored.path.as_str()) else {
            return self.restore_topic(desk, id, stored, specification, Appearance::Made);
        };
        let topic = self.tree.topic(place);
        // Of a series that was trimmed without a new event that is kept, nothing says what was.
        let lacks = |series: &Series| stored.events.range(series.next_sequence()..).next().is_some();
        if topic.id != id || topic.series().is_some_and(|series| series.first_kept() < stored.first_kept && !lacks(series)) {
            self.make_way(desk, place);
            return self.restore_topic(desk, id, stored, specification, Appearance::Made);
        }
        if topic.is_passing && !specification.1 {
            self.apply(desk, Some(place), Record::Kept);
        }
        if self.tree.topic(place).series().is_some() {
            return self.bring_on(desk, place, stored);
        }
        let is_newer = self.tree.topic(place).latest.as_ref().map_or(0, |latest| latest.version) < stored.version;
        if is_newer {
            let record = Record::Value(Arc::new(value_of(desk, id, &stored, &specification.0)));
            self.apply(desk, Some(place), record);
        }
        Ok(())
    }

    /// The series there gets the events that it lacks, in order. As many as are retained.
    fn bring_on(&mut self, desk: &mut Desk, place: Place, mut stored: StoredTopic) -> Result<(), String> {
        let next = self.tree.topic(place).series().map_or(0, Series::next_sequence);
        let lacking = stored.events.split_off(&next);
        for event in lacking.into_values() {
            let topic = self.tree.topic(place);
            let series = topic.series().expect("it has one");
            let mut event = event_of(desk, topic.id, series, event).map_err(|error| format!("topic '{}': {error}", topic.path.as_str()))?;
            event.first_kept = event.first_kept.max(stored.first_kept);
            self.apply(desk, Some(place), Record::Event(event));
        }
        if let (Some(series), Some(last)) = (self.tree.topic_mut(place).series_mut(), stored.last_sequence) {
            series.restore_end(last.saturating_add(1), stored.latest_ms);
        }
        Ok(())
    }

    /// All topics of the snapshot have come: others of the group go, but those that were added behind it, whose numbers begin at `first_later`.
    pub fn finish_install(&mut self, desk: &Desk, group: u16, first_later: TopicId) {
        let everything = known_selector(desk.limits.selector, "?.*//");
        let kept = self.installs.coming.remove(&group).unwrap_or_default();
        self.installs.sweeps.push((Sweep { group, first_later, kept, everything }, Span::default()));
    }

    /// Does all of that at once, of one group.
    pub fn end_install(&mut self, desk: &mut Desk, group: u16) {
        let (sweeps, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.installs.sweeps).into_iter().partition(|(sweep, _)| sweep.group == group);
        self.installs.sweeps = others;
        for (sweep, mut rest) in sweeps {
            while let Some(next) = self.sweep_group(desk, &sweep, &rest) {
                rest = next;
            }
        }
    }

    pub(super) fn has_installs(&self) -> bool {
        !self.installs.sweeps.is_empty()
    }

    /// Goes on with that, a part at a time.
    pub fn run_installs(&mut self, desk: &mut Desk) {
        for (sweep, rest) in std::mem::take(&mut self.installs.sweeps) {
            let next = self.sweep_group(desk, &sweep, &rest);
            self.installs.sweeps.extend(next.map(|rest| (sweep, rest)));
        }
    }

    fn sweep_group(&mut self, desk: &mut Desk, sweep: &Sweep, rest: &Span) -> Option<Span> {
        let mut paths = Vec::new();
        let next = self.tree.scan(&sweep.everything, rest, Direction::Forward, desk.limits.walk_slice, |_, topic| {
            let is_of_group = desk.groups.of(topic.path.as_str()) == Some(sweep.group) && !topic.is_reference;
            if is_of_group && topic.id < sweep.first_later && !sweep.kept.contains(&topic.id) {
                paths.push(topic.path.clone());
            }
            Onward::Next
        });
        for path in paths {
            let place = self.tree.find(path.as_str()).expect("the removal of one topic takes no other along");
            self.apply(desk, Some(place), Record::Removed);
        }
        next
    }

    /// Sessions of the shard `home` that were kept select by this selector: publications go there. To be called before topics are restored.
    pub fn restore_interest(&mut self, home: ShardIndex, selector: &Selector) {
        self.interests.select(selector, home);
    }
}

fn value_of(desk: &Desk, id: TopicId, stored: &StoredTopic, specification: &Specification) -> Publication {
    let publication = make_publication(id, specification, stored.version, stored.value.as_deref(), desk.turn.now);
    let Some(message) = &stored.message else { return publication };
    publication.with_message(publication::Message {
        qos: QoS::from_number(message.qos).unwrap_or_default(),
        retain: true,
        expires: message.expiry.map(|expiry| desk.turn.now.after_ms(expiry.left_ms(desk.ticked_ms()))),
        passed_on: message.passed_on.clone(),
        ..publication::Message::default()
    })
}

/// The next event of a stored series.
fn event_of(desk: &Desk, id: TopicId, series: &Series, stored: StoredEvent) -> Result<Event, SeriesError> {
    let StoredEvent { sequence, original, timestamp_ms, author, value } = stored;
    let author: Arc<str> = if author.is_empty() { desk.anonymous.clone() } else { author.into() };
    let Appended { first_kept, dropped, .. } = series.plan_foreign(Numbers { sequence, timestamp_ms, original })?;
    let head = EventHead { sequence, timestamp_ms, original, author: &author };
    let publication = Arc::new(Publication::event(id, desk.turn.now, head, &value));
    Ok(Event { publication, author, first_kept, dropped })
}
