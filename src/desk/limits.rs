//! Every bound that a shard obeys.

use crate::protocol::{ErrorCode, Refusal};
use crate::session::{MqttLimits, QueueLimits};
use crate::topic::path::{PathErrorKind, check_path};
use crate::topic::selector::{Selector, SelectorLimits};
use crate::view::ViewLimits;
use crate::view::catalogue::CatalogueLimits;

/// Every bound a shard obeys. All required: the caller chooses.
#[derive(Clone, Debug)]
pub struct Limits {
    pub message_bytes_max: usize,
    pub path_bytes_max: usize,
    pub value_bytes_max: usize,
    pub selector: SelectorLimits,
    pub selections_max: usize,
    /// Selectors of one session's listeners.
    pub listeners_max: usize,
    /// Update streams of one session.
    pub streams_max: usize,
    /// Questions of one session to the owners of topics that are under way.
    pub questions_max: usize,
    pub fetch_page_max: usize,
    /// Events of one query's answer.
    pub query_events_max: usize,
    /// Bytes of events that a new subscriber of a time series is sent at first: the latest that fit.
    pub history_bytes_max: usize,
    /// Topics of this shard.
    pub topics_max: usize,
    /// Connections of this shard.
    pub connections_max: usize,
    pub http_head_bytes_max: usize,
    pub json_depth_max: usize,
    pub queue: QueueLimits,
    /// One send's bytes, exceeded by at most one frame.
    pub transmit_bytes_max: usize,
    pub handshake_timeout_ms: u64,
    pub keep_alive_ms: u64,
    /// Topics that all walks together look at in one turn.
    pub walk_slice: usize,
    /// Mail that may wait for one shard, or records for storage, before this one stops reading its publishers.
    pub mail_high: usize,
    pub views: DerivationLimits,
    /// `None`: there is no MQTT.
    pub mqtt: Option<MqttLimits>,
}

impl Limits {
    pub fn check_path(&self, path: &str) -> Result<(), Refusal> {
        check_path(path, self.path_bytes_max).map_err(|error| {
            let code = if error.kind == PathErrorKind::Reserved { ErrorCode::ReservedPath } else { ErrorCode::InvalidPath };
            Refusal::at(code, error.position, error.to_string())
        })
    }

    pub fn parse_selector(&self, text: &str) -> Result<Selector, Refusal> {
        Selector::parse(text, self.selector).map_err(|error| Refusal::at(ErrorCode::InvalidSelector, error.position, error.to_string()))
    }
}

/// Every bound on views.
#[derive(Clone, Debug)]
pub struct DerivationLimits {
    pub views_max: usize,
    /// Of all definitions together.
    pub text_bytes_max: usize,
    pub language: ViewLimits,
    /// Reference topics that one view makes of one topic.
    pub references_max: usize,
    /// Bytes looked at or copied to evaluate one view for one value.
    pub work_max: usize,
    /// What one turn may do.
    pub units_per_turn: usize,
    /// What waits for its delay, in all views of a shard.
    pub delay_bytes_max: usize,
}

impl Default for DerivationLimits {
    fn default() -> Self {
        Self {
            views_max: 1000,
            text_bytes_max: 4 << 20,
            language: ViewLimits::default(),
            references_max: 10_000,
            work_max: 16 << 20,
            units_per_turn: 300,
            delay_bytes_max: 64 << 20,
        }
    }
}

impl DerivationLimits {
    /// Those of the writer's list of views.
    pub fn catalogue(&self) -> CatalogueLimits {
        CatalogueLimits { views_max: self.views_max, text_bytes_max: self.text_bytes_max }
    }
}
