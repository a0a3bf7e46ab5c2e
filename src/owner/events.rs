//! Time series at their owner.

use crate::base::{ShardIndex, Time};
use crate::desk::Desk;
use crate::mail::{Mail, Subscription};
use crate::owner::Owner;
use crate::protocol::{ErrorCode, Refusal};
use crate::series::{self, EventRef};
use crate::topic::path::TopicPath;
use crate::topic::publication::Publication;
use crate::topic::tree::{Place, Topic};
use crate::wire::native::{EventEntry, EventHead, Outcome};
use std::sync::Arc;

/// How long an event may be kept beyond its series' duration.
const AGING_MS: u64 = 2_000;

impl Owner {
    /// Answers which events a new subscriber of the topic gets; what is published from now on comes behind them.
    pub fn tell_history(&mut self, desk: &mut Desk, from: ShardIndex, path: &TopicPath, after: Option<u64>, to: Subscription) {
        let topic = self.tree.find(path.as_str()).map(|place| self.tree.topic(place));
        let events = topic.map(|topic| first_events(topic, after, desk.limits.history_bytes_max)).unwrap_or_default();
        let id = topic.map(|topic| topic.id);
        desk.mail(from, Mail::History { id, to, events });
    }

    pub(super) fn query(&self, path: &str, query: &series::Query, bytes_max: usize) -> Result<Outcome, Refusal> {
        let topic = self.tree.find(path).map(|place| self.tree.topic(place));
        let topic = topic.ok_or_else(|| Refusal::new(ErrorCode::NoSuchTopic, format!("there is no topic at '{path}'")))?;
        let series =
            topic.series().ok_or_else(|| Refusal::new(ErrorCode::IncompatibleType, format!("the topic at '{path}' is no time series")))?;
        let selection = series.query(query, bytes_max);
        let is_complete = selection.is_complete;
        let events = selection.events.into_iter().map(|event| EventEntry {
            sequence: event.sequence,
            timestamp_ms: event.timestamp_ms,
            original: event.original,
            author: event.author.clone(),
            value: event.value.to_vec(),
        });
        Ok(Outcome::Events { is_complete, kind: topic.specification.value_type(), events: events.collect() })
    }

    /// From here on the series of `place` is looked at now and then, where its retained range has a duration.
    pub(super) fn start_aging(&mut self, desk: &Desk, place: Place) {
        let topic = self.tree.topic(place);
        if topic.series().is_some_and(|series| series.retained().last_ms.is_some()) {
            let key = self.aging.insert((topic.id, topic.path.clone()));
            self.aging_wheel.insert(desk.now.after_ms(AGING_MS), key);
        }
    }

    /// Drops events that have become too old.
    pub fn tick_aging(&mut self, desk: &Desk) {
        let mut due = Vec::new();
        self.aging_wheel.advance(desk.now, &mut due);
        let now_ms = desk.wall_ms();
        for key in due {
            let Some((id, path)) = self.aging.get(key) else { continue };
            let place = self.tree.find(path.as_str()).filter(|place| self.tree.topic(*place).id == *id);
            let Some(topic) = place.map(|place| self.tree.topic_mut(place)) else {
                self.aging.remove(key);
                continue;
            };
            drop_aged(topic, now_ms);
            self.aging_wheel.insert(desk.now.after_ms(AGING_MS), key);
        }
    }
}

/// Drops the events that are too old.
pub(super) fn drop_aged(topic: &mut Topic, now_ms: u64) {
    if let Some(series) = topic.series_mut() {
        series.trim(now_ms);
        if series.is_empty() {
            topic.latest = None;
        }
    }
}

/// The subscription range's events; with `after`, every event kept from that sequence on.
fn first_events(topic: &Topic, after: Option<u64>, bytes_max: usize) -> Vec<Arc<Publication>> {
    let Some(series) = topic.series() else { return Vec::new() };
    let range = match (after, topic.specification.subscription_range()) {
        (Some(after), _) => series::Range { limit: Some(series.next_sequence().saturating_sub(after)), last_ms: None },
        (None, Some(range)) => series::Range { limit: range.limit, last_ms: range.last_ms },
        (None, None) => return Vec::new(),
    };
    let latest = topic.latest.as_ref();
    let publication = |event: EventRef<'_>| match latest.filter(|latest| latest.version == event.sequence) {
        Some(latest) => latest.clone(),
        None => {
            let EventRef { sequence, timestamp_ms, original, author, value } = event;
            Arc::new(Publication::event(topic.id, Time(0), EventHead { sequence, timestamp_ms, original, author }, value))
        }
    };
    let selected = series.subscription(&range, bytes_max).into_iter();
    selected.filter(|event| after.is_none_or(|after| event.sequence >= after)).map(publication).collect()
}
