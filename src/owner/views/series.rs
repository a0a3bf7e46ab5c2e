//! Time series that views make of time series: an event of each event, under its sequence, timestamp and author.
//!
//! Where the newest event leads decides which series there are; each holds those events that lead there too. An event of which the view makes
//! nothing takes the series away, as a value would. The other topics that its events look at are watched all together.

use super::source::{Deriving, Made, Pending};
use super::watch::Looking;
use crate::base::TopicId;
use crate::desk::Desk;
use crate::mail::views::{ClaimChange, Content};
use crate::owner::Owner;
use crate::owner::views::evaluation_limits;
use crate::series::{Event, EventRef, Range};
use crate::topic::path::TopicPath;
use crate::topic::publication::Publication;
use crate::topic::tree::Place;
use crate::view::evaluate::{Evaluation, Input};
use crate::wire::native::EventHead;
use hashbrown::HashMap;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Topics that a series may watch beyond two for each of its events, before it is made anew and lets go of those that only events of the past
/// looked at.
const WATCHES_SPARE: u64 = 16;

/// One event on the paths where it leads; `None` where it has to wait for another topic.
type Led = Option<Vec<(String, Event)>>;

/// The other topics that an evaluation looked at.
type LookedAt = Vec<TopicPath>;

impl Owner {
    pub(super) fn derive_events(&mut self, desk: &mut Desk, id: TopicId, place: Place, deriving: &Deriving<'_>, pending: Pending) {
        let Pending::Each(publications) = pending else { return self.derive_series(desk, id, place, deriving) };
        // What waits is counted into the backlog, at whose mark publishers are not read.
        for publication in publications {
            if deriving.is_new || !self.derive_event(desk, id, deriving, &publication) {
                return self.derive_series(desk, id, place, deriving);
            }
        }
    }

    /// One more event where the others are; `false` where it leads elsewhere.
    fn derive_event(&mut self, desk: &mut Desk, id: TopicId, deriving: &Deriving<'_>, publication: &Publication) -> bool {
        let head = publication.event_head().expect("a time series publishes events");
        let value = publication.value().expect("an event has a value");
        let EventHead { sequence, timestamp_ms, original, author } = head;
        let author: Arc<str> = if author.is_empty() { desk.anonymous.clone() } else { author.into() };
        let event = EventRef { value, sequence, timestamp_ms, author: &author, original };
        let (made, looked) = self.evaluate_event(desk, id, deriving, event);
        if !self.watch_more(desk, id, deriving, looked) {
            return false;
        }
        let joined = self.joined(id, deriving);
        let derivation = self.views.derivation(id, deriving.view);
        let Some(made) = made else {
            // The series keeps the event until all of it can be looked at.
            derivation.pending = Pending::Whole;
            return true;
        };
        let paths: Vec<TopicPath> = derivation.outputs.iter().map(|output| output.path.clone()).collect();
        if derivation.joined != joined
            || made.is_empty()
            || made.len() != paths.len()
            || !made.iter().zip(&paths).all(|((path, _), held)| **path == *held.as_str())
        {
            return false;
        }
        for ((_, event), path) in made.into_iter().zip(paths) {
            self.send_derived(desk, deriving, path, ClaimChange::Event { event, received: publication.received });
        }
        true
    }

    /// Watches these topics too; `false` where the series watches so many that some must be of the past.
    fn watch_more(&mut self, desk: &mut Desk, id: TopicId, deriving: &Deriving<'_>, looked: LookedAt) -> bool {
        let source = self.views.sources.get_mut(&id).expect("what derives has its source");
        let events = self.tree.topic(source.place).series().expect("events are of a time series").len() as u64;
        let held = source.find(deriving.view).expect("what derives stands").watches.len();
        let more: Vec<TopicPath> = looked.into_iter().filter(|path| !self.is_watching(id, deriving.view, path)).collect();
        let is_room = (held + more.len()) as u64 <= 2 * events + WATCHES_SPARE;
        for path in &more {
            self.depend(desk, id, deriving.view, path);
        }
        self.views.derivation(id, deriving.view).watches.extend(more);
        is_room
    }

    /// All events from the start.
    fn derive_series(&mut self, desk: &mut Desk, id: TopicId, place: Place, deriving: &Deriving<'_>) {
        let series = self.tree.topic(place).series().expect("events are of a time series");
        let (events_max, bytes_max) = (desk.limits.views.events_max, desk.limits.views.event_bytes_max);
        let retained = deriving.specification.retained_range().limit.unwrap_or(events_max);
        let latest = series.subscription(&Range { limit: Some(events_max), last_ms: None }, bytes_max);
        let latest: Vec<EventRef<'_>> = latest.into_iter().collect();
        // A retained range counts originals; their edits follow them.
        let mut originals = latest.iter().enumerate().rev().filter(|(_, event)| event.original.is_none());
        let start = originals.nth(usize::try_from(retained).unwrap_or(usize::MAX).saturating_sub(1)).map_or(0, |(at, _)| at);
        let events: Vec<Event> = latest[start..].iter().map(|event| event.to_event()).collect();
        let mut by_path: HashMap<String, Vec<Event>> = HashMap::new();
        let mut newest: Vec<String> = Vec::new();
        let mut looked = BTreeSet::new();
        let mut is_waiting = false;
        // Bounded by `views.events_max`.
        for event in &events {
            let event = EventRef {
                value: &event.value,
                sequence: event.sequence,
                timestamp_ms: event.timestamp_ms,
                author: &event.author,
                original: event.original,
            };
            let (made, looked_at) = self.evaluate_event(desk, id, deriving, event);
            looked.extend(looked_at);
            is_waiting |= made.is_none();
            newest.clear();
            for (path, event) in made.unwrap_or_default() {
                newest.push(path.clone());
                by_path.entry(path).or_default().push(event);
            }
        }
        if events.is_empty() {
            // A series without events leads where its path alone does.
            let (made, looked_at) = self.evaluate_nothing(desk, deriving);
            looked.extend(looked_at);
            is_waiting = made.is_none();
            newest = made.unwrap_or_default();
        }
        self.watch(desk, id, deriving.view, looked.into_iter().collect());
        if is_waiting {
            // What is awaited queues the derivation again.
            self.views.derivation(id, deriving.view).pending = Pending::Whole;
            return;
        }
        let kind = deriving.specification.value_type();
        let made = newest.into_iter().map(|path| {
            let events = by_path.remove(&path).unwrap_or_default();
            Made { path, kind, content: Content::Events(events) }
        });
        let made = made.collect();
        // Whatever was there before is replaced whole.
        self.settle_outputs(desk, id, &Deriving { is_new: true, ..*deriving }, made);
    }

    fn evaluate_nothing(&mut self, desk: &Desk, deriving: &Deriving<'_>) -> (Option<Vec<String>>, LookedAt) {
        let limits = evaluation_limits(desk);
        let mut evaluation = Evaluation::default();
        let input = Input { path: deriving.source.as_str(), kind: deriving.specification.value_type(), value: None };
        let reader = self.views.reader_of(deriving.view);
        let mut topics = Looking::new(&self.views.watches, &reader);
        self.views.evaluator.evaluate(deriving.definition, &input, &mut topics, &limits, &mut evaluation);
        let paths = evaluation.references.into_iter().map(|derived| derived.path).collect();
        ((!evaluation.is_waiting).then_some(paths), topics.into_paths())
    }

    /// What the view makes of one event.
    fn evaluate_event(&mut self, desk: &Desk, id: TopicId, deriving: &Deriving<'_>, event: EventRef<'_>) -> (Led, LookedAt) {
        let limits = evaluation_limits(desk);
        let mut evaluation = Evaluation::default();
        let source = self.views.sources.get(&id).expect("what derives has its source");
        let kind = self.tree.topic(source.place).specification.value_type();
        let input = Input { path: deriving.source.as_str(), kind, value: Some(event.value) };
        let reader = self.views.reader_of(deriving.view);
        let mut topics = Looking::new(&self.views.watches, &reader);
        self.views.evaluator.evaluate(deriving.definition, &input, &mut topics, &limits, &mut evaluation);
        let looked = topics.into_paths();
        self.views.work.spend(1 + event.value.len() / 256 + evaluation.references.len());
        let made = |derived: crate::view::evaluate::Derived<'_>| {
            let value = derived.value?.into_owned().into();
            let EventRef { sequence, timestamp_ms, author, original, .. } = event;
            Some((derived.path, Event { value, sequence, timestamp_ms, author: author.clone(), original }))
        };
        let (is_waiting, failure) = (evaluation.is_waiting, evaluation.failure.take());
        let made = evaluation.references.into_iter().filter_map(made).collect();
        if is_waiting {
            return (None, looked);
        }
        if let Some(failure) = failure {
            self.views.note_failure(deriving.view, deriving.source.as_str(), &failure.message);
        }
        (Some(made), looked)
    }
}
