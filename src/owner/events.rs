//! Time series at their owner.

use crate::base::{ShardIndex, Time};
use crate::desk::Desk;
use crate::mail::{Mail, Subscription};
use crate::owner::Owner;
use crate::protocol::{ErrorCode, Refusal};
use crate::series::{self, EventRef};
use crate::topic::path::TopicPath;
use crate::topic::publication::Publication;
use crate::topic::tree::Topic;
use crate::wire::native::{EventEntry, EventHead, Outcome};
use std::sync::Arc;

impl Owner {
    /// Answers which events a new subscriber of the topic gets; what is published from now on comes behind them.
    pub fn tell_history(&mut self, desk: &mut Desk, from: ShardIndex, path: &TopicPath, after: Option<u64>, to: Subscription) {
        let topic = self.tree.find(path.as_str()).map(|place| self.tree.topic(place));
        let events = topic.map(|topic| first_events(topic, after, desk.limits.history_bytes_max)).unwrap_or_default();
        let id = topic.map(|topic| topic.id);
        desk.mail(from, Mail::History { id, to, events });
    }

    pub(super) fn query(
        &self,
        path: &str,
        query: &series::Query,
        bytes_max: usize,
        unless_owner: Option<&(Refusal, Option<Arc<str>>)>,
    ) -> Result<Outcome, Refusal> {
        let topic = self.tree.find(path).map(|place| self.tree.topic(place));
        if let Some((refusal, principal)) = unless_owner {
            check_owner(topic, principal.as_ref(), refusal)?;
        }
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
}

/// Refuses whoever is not the topic's owner.
pub(super) fn check_owner(topic: Option<&Topic>, principal: Option<&Arc<str>>, refusal: &Refusal) -> Result<(), Refusal> {
    let owner = topic.and_then(|topic| topic.specification.owner());
    if owner.is_some() && owner == principal.map(|principal| &**principal) { Ok(()) } else { Err(refusal.clone()) }
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
