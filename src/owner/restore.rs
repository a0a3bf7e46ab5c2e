//! Topics that were stored, taken up again before anybody is connected.

use super::record::{Added, Event, Record};
use super::{Owner, make_publication};
use crate::base::{ShardIndex, TopicId};
use crate::desk::Desk;
use crate::journal::{StoredEvent, StoredTopic};
use crate::mail::Appearance;
use crate::series::{Appended, Numbers, Series, SeriesError};
use crate::topic::publication::{self, Publication};
use crate::topic::selector::Selector;
use crate::topic::specification::Specification;
use crate::wire::mqtt::QoS;
use crate::wire::native::EventHead;
use std::sync::Arc;

impl Owner {
    /// Makes of the topic what its records made of it; who is interested is told of the topic as it is then. An error says what about it this server
    /// cannot read.
    pub fn restore_topic(
        &mut self,
        desk: &mut Desk,
        id: TopicId,
        stored: StoredTopic,
        specification: Arc<Specification>,
    ) -> Result<(), String> {
        let value = (stored.version > 0).then(|| Arc::new(value_of(desk, id, &stored, &specification)));
        let added = Added { id, path: stored.path.clone(), specification, is_passing: false, value, creator: None };
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
        self.enter(desk, topic, None, Appearance::Restored);
        Ok(())
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
