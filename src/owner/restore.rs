//! Topics that were stored, taken up again before anybody is connected.

use super::{Owner, make_publication};
use crate::base::{ShardIndex, ShardSet, TopicId};
use crate::desk::Desk;
use crate::journal::{StoredEvent, StoredTopic};
use crate::mail::Appearance;
use crate::series::{self, EventRef};
use crate::topic::publication::{self, Publication};
use crate::topic::selector::Selector;
use crate::topic::specification::Specification;
use crate::topic::tree::Topic;
use crate::wire::mqtt::QoS;
use crate::wire::native::EventHead;
use std::sync::Arc;

impl Owner {
    /// An error says what about it this server cannot read.
    pub fn restore_topic(
        &mut self,
        desk: &mut Desk,
        id: TopicId,
        stored: StoredTopic,
        specification: Arc<Specification>,
    ) -> Result<(), String> {
        let mut topic = Topic::new(id, stored.path.clone(), specification);
        if stored.version > 0 {
            let mut publication = make_publication(&topic, stored.version, stored.value.as_deref(), desk.now);
            if let Some(message) = stored.message {
                publication = publication.with_message(publication::Message {
                    qos: QoS::from_number(message.qos).unwrap_or_default(),
                    retain: true,
                    expires: message.expires_ms.map(|ms| desk.now.after_ms(ms.saturating_sub(desk.ticked_ms()))),
                    passed_on: message.passed_on,
                    ..publication::Message::default()
                });
            }
            topic.latest = Some(Arc::new(publication));
        }
        if let Some(series) = topic.rare.as_mut().and_then(|rare| rare.series.as_mut()) {
            for event in stored.events.into_values() {
                let StoredEvent { sequence, original, timestamp_ms, author, value } = event;
                let author = if author.is_empty() { desk.anonymous.clone() } else { Arc::from(author) };
                let event = series::Event { value, sequence, timestamp_ms, author, original };
                series.restore(event).map_err(|error| format!("topic '{}': {error}", stored.path.as_str()))?;
            }
            if let Some(last) = stored.last_sequence {
                series.restore_end(last.saturating_add(1), stored.latest_ms);
            }
            series.trim(desk.ticked_ms());
            topic.latest = topic.series().and_then(|series| series.latest()).map(|event| {
                let EventRef { sequence, timestamp_ms, original, author, value } = event;
                Arc::new(Publication::event(id, desk.now, EventHead { sequence, timestamp_ms, original, author }, value))
            });
        }
        self.enter_as(desk, topic, None, Appearance::Restored);
        Ok(())
    }

    /// Sessions of the shard `home`, which were kept, select this: publications go there. Before topics are restored.
    pub fn restore_interest(&mut self, home: ShardIndex, selector: &Selector) {
        self.shards_interested.entry(selector, ShardSet::default).insert(home);
    }
}
