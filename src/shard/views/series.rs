//! Time series that views make of time series: an event of each event, under its sequence, timestamp and author.
//!
//! Where the newest event leads decides which series there are; each holds those events that lead there too. An event of which the view makes
//! nothing takes the series away, as a value would.

use super::reference::{Content, Step};
use super::source::{Deriving, Made, Pending};
use super::watch::Looking;
use crate::base::TopicId;
use crate::series::{Event, EventRef, Range};
use crate::shard::Shard;
use crate::topic::path::TopicPath;
use crate::topic::publication::Publication;
use crate::topic::tree::Place;
use crate::view::evaluate::{Evaluation, Input};
use crate::wire::native::EventHead;
use hashbrown::HashMap;
use std::sync::Arc;

/// Events that a view takes up when it comes to a series, or its paths change: the latest.
const EVENTS_MAX: u64 = 10_000;

/// Their bytes.
const EVENT_BYTES_MAX: usize = 8 << 20;

/// One event on the paths where it leads.
type Led = Vec<(String, Event)>;

impl Shard {
    pub(super) fn derive_events(&mut self, id: TopicId, place: Place, deriving: &Deriving<'_>, pending: Pending) {
        let Pending::Each(publications) = pending else { return self.derive_series(id, place, deriving) };
        for publication in publications {
            if deriving.is_new || !self.derive_event(id, deriving, &publication) {
                return self.derive_series(id, place, deriving);
            }
        }
    }

    /// One more event where the others are; `false` where it leads elsewhere.
    fn derive_event(&mut self, id: TopicId, deriving: &Deriving<'_>, publication: &Publication) -> bool {
        let (Some(EventHead { sequence, timestamp_ms, original, author }), Some(value)) = (publication.event_head(), publication.value())
        else {
            return false;
        };
        let author: Arc<str> = if author.is_empty() { self.anonymous.clone() } else { author.into() };
        let event = EventRef { value, sequence, timestamp_ms, author: &author, original };
        let Some(made) = self.evaluate_event(id, deriving, event) else { return true };
        let Some(derivation) = self.views.sources.get_mut(&id).and_then(|source| source.find(deriving.view)) else { return true };
        let paths: Vec<TopicPath> = derivation.outputs.iter().map(|output| output.path.clone()).collect();
        if made.is_empty() || made.len() != paths.len() || !made.iter().zip(&paths).all(|((path, _), held)| **path == *held.as_str()) {
            return false;
        }
        for ((_, event), path) in made.into_iter().zip(paths) {
            self.send_derived(deriving, path, Step::Event { event, received: publication.received });
        }
        true
    }

    /// All events from the start.
    fn derive_series(&mut self, id: TopicId, place: Place, deriving: &Deriving<'_>) {
        let Some(series) = self.tree.topic(place).series() else { return };
        let retained = deriving.specification.retained_range();
        let range = Range { limit: Some(retained.limit.unwrap_or(EVENTS_MAX).min(EVENTS_MAX)), last_ms: None };
        let events: Vec<Event> = series.subscription(&range, EVENT_BYTES_MAX).into_iter().map(|event| event.to_event()).collect();
        let mut by_path: HashMap<String, Vec<Event>> = HashMap::new();
        let mut newest: Vec<String> = Vec::new();
        for event in &events {
            let event = EventRef {
                value: &event.value,
                sequence: event.sequence,
                timestamp_ms: event.timestamp_ms,
                author: &event.author,
                original: event.original,
            };
            let Some(made) = self.evaluate_event(id, deriving, event) else {
                if let Some(derivation) = self.views.sources.get_mut(&id).and_then(|source| source.find(deriving.view)) {
                    derivation.pending = Pending::Whole;
                }
                return;
            };
            newest.clear();
            for (path, event) in made {
                newest.push(path.clone());
                by_path.entry(path).or_default().push(event);
            }
        }
        if events.is_empty() {
            // A series without events leads where its path alone does.
            newest = self.evaluate_nothing(deriving);
        }
        let kind = deriving.specification.value_type();
        let made = newest.into_iter().map(|path| {
            let events = by_path.remove(&path).unwrap_or_default();
            Made { path, kind, content: Content::Events(events) }
        });
        let made = made.collect();
        // Whatever was there before is replaced whole.
        self.settle_outputs(id, &Deriving { is_new: true, ..*deriving }, made);
    }

    fn evaluate_nothing(&mut self, deriving: &Deriving<'_>) -> Vec<String> {
        let limits = self.evaluation_limits();
        let mut evaluation = Evaluation::default();
        let input = Input { path: deriving.source.as_str(), kind: deriving.specification.value_type(), value: None };
        let mut topics = Looking::new(&self.views.watched);
        self.views.evaluator.evaluate(deriving.definition, &input, &mut topics, &limits, &mut evaluation);
        evaluation.references.into_iter().map(|derived| derived.path).collect()
    }

    /// What the view makes of one event; `None` where it has to wait for another topic.
    fn evaluate_event(&mut self, id: TopicId, deriving: &Deriving<'_>, event: EventRef<'_>) -> Option<Led> {
        let limits = self.evaluation_limits();
        let mut evaluation = Evaluation::default();
        let kind = self.views.sources.get(&id).map(|source| self.tree.topic(source.place).specification.value_type())?;
        let input = Input { path: deriving.source.as_str(), kind, value: Some(event.value) };
        let mut topics = Looking::new(&self.views.watched);
        self.views.evaluator.evaluate(deriving.definition, &input, &mut topics, &limits, &mut evaluation);
        let looked = topics.into_paths();
        self.spend_units(1 + event.value.len() / 256 + evaluation.references.len());
        let made = |derived: crate::view::evaluate::Derived<'_>| {
            let value = derived.value?.into_owned().into();
            let EventRef { sequence, timestamp_ms, author, original, .. } = event;
            Some((derived.path, Event { value, sequence, timestamp_ms, author: author.clone(), original }))
        };
        let (is_waiting, failure) = (evaluation.is_waiting, evaluation.failure.take());
        let made: Led = evaluation.references.into_iter().filter_map(made).collect();
        self.watch(id, deriving.view, looked);
        if is_waiting {
            return None;
        }
        if let Some(failure) = failure {
            self.views.note_failure(deriving.view, deriving.source.as_str(), &failure.message);
        }
        Some(made)
    }
}
