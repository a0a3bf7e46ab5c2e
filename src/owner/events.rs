//! Time series at their owner.

use crate::base::ShardIndex;
use crate::base::Time;
use crate::desk::{Applied, Desk};
use crate::mail::{Content, Mail, Subscription};
use crate::owner::Owner;
use crate::protocol::{ErrorCode, Refusal};
use crate::series::{self, EventRef, SeriesError};
use crate::topic::path::TopicPath;
use crate::topic::publication::Publication;
use crate::topic::tree::{Place, Topic};
use crate::wire::mqtt::QoS;
use crate::wire::native::{Append, EventEntry, EventHead, Outcome};
use std::sync::Arc;

/// How long an event may be kept beyond its series' duration.
const AGING_MS: u64 = 2_000;

impl Owner {
    /// Appends an event, or an edit of one.
    pub(super) fn append(&mut self, desk: &mut Desk, place: Place, append: Append, content: &Content<'_>, received: Time) -> Applied {
        self.check_kind(place, content.kind)?;
        self.check_topic_storage(desk, place)?;
        let (now_ms, author) = (desk.wall_ms(), desk.anonymous.clone());
        let topic = self.tree.topic_mut(place);
        let id = topic.id;
        let Some(series) = topic.rare.as_mut().and_then(|rare| rare.series.as_mut()) else {
            let message = format!("the topic at '{}' is no time series", topic.path.as_str());
            return Err(Refusal::new(ErrorCode::IncompatibleType, message));
        };
        let value =
            content.value.as_deref().ok_or_else(|| Refusal::new(ErrorCode::InvalidValue, "an event of a time series is never null"))?;
        let (appended, original) = match append {
            Append::Original { timestamp_ms } => (series.append(value, timestamp_ms, &author, now_ms), None),
            Append::Edit { original } => (series.edit(original, value, &author, now_ms), Some(original)),
        };
        let appended = appended.map_err(refuse_event)?;
        // An event with an old timestamp may be beyond the retained range at once.
        let is_kept = series.latest().is_some_and(|latest| latest.sequence == appended.sequence);
        let keep = self.start_keeping(desk, place, QoS::ExactlyOnce);
        let topic = self.tree.topic_mut(place);
        let head = EventHead { sequence: appended.sequence, timestamp_ms: appended.timestamp_ms, original, author: &author };
        let publication = Arc::new(Publication::event(id, received, head, value).with_keep(keep));
        topic.latest = (is_kept && topic.specification.retains_value()).then(|| publication.clone());
        desk.report.updates += 1;
        for shard in topic.interested.iter() {
            desk.mail(shard, Mail::Published(publication.clone()));
        }
        self.note_publication(desk, place, &publication);
        let ticket = self.store_event(desk, place, &publication, appended);
        Ok((Outcome::Appended { sequence: appended.sequence, timestamp_ms: appended.timestamp_ms }, ticket))
    }

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
            if let Some(series) = topic.rare.as_mut().and_then(|rare| rare.series.as_mut()) {
                series.trim(now_ms);
                if series.is_empty() {
                    topic.latest = None;
                }
            }
            self.aging_wheel.insert(desk.now.after_ms(AGING_MS), key);
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

fn refuse_event(error: SeriesError) -> Refusal {
    let code = match error {
        SeriesError::TimestampBeforeLatest { .. } => ErrorCode::InvalidTimestamp,
        SeriesError::UnknownOriginal { .. } | SeriesError::NotRetained { .. } => ErrorCode::NoSuchEvent,
        SeriesError::EditOfEdit { .. } => ErrorCode::EventIsEdit,
        SeriesError::Sequence { .. } => ErrorCode::TopicLimit,
    };
    Refusal::new(code, error.to_string())
}
