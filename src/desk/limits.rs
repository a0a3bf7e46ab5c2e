//! Every bound that a shard obeys, with its default.
//!
//! A limit is defined here, or in the limits of a part that stand in here. The configuration sets these fields: `config/settings.rs` says by which key and
//! within which range, `config/default.toml` says to the operator what each costs.

use crate::security::{PrincipalLimits, SecurityStore};
use crate::session::{MqttLimits, QueueLimits};
use crate::session_tree::SessionTreeLimits;
use crate::topic::constraint::ConstraintLimits;
use crate::topic::selector::SelectorLimits;
use crate::value::json::JsonLimits;
use crate::view::ViewLimits;
use crate::view::catalogue::CatalogueLimits;
use crate::view::evaluate::EvaluationLimits;
use crate::wire::origin::WebRules;
use std::sync::Arc;

/// Every bound a shard obeys. The default is that of the configuration for one shard that has everything, without MQTT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// What roles permit when the server starts; `None` where everybody may do everything.
    pub security: Option<Arc<SecurityStore>>,
    /// The script that makes the principals that the server knows when it starts; empty where it knows nobody.
    pub principals: Arc<str>,
    pub principal_limits: PrincipalLimits,
    /// The longest message of a WebSocket.
    pub message_bytes_max: usize,
    pub path_bytes_max: usize,
    /// The longest value, which fits a message beside the longest path.
    pub value_bytes_max: usize,
    pub selector: SelectorLimits,
    /// The longest name of a scope.
    pub scope_bytes_max: usize,
    /// Of an update's condition; how deep its values of JSON may be says `json_depth_max`.
    pub constraint: ConstraintLimits,
    /// Operations of one patch.
    pub patch_operations_max: usize,
    /// Bytes that one patch tests, moves and copies in all.
    pub patch_handled_bytes_max: usize,
    /// Steps that one patch takes in all.
    pub patch_work_max: usize,
    /// Selectors that one session subscribes to.
    pub selections_max: usize,
    /// Selectors of one session's listeners.
    pub listeners_max: usize,
    /// Listeners of one session to what becomes of others.
    pub session_listeners_max: usize,
    /// Update streams of one session.
    pub streams_max: usize,
    /// Locks that one session holds or waits for.
    pub locks_max: usize,
    /// Questions of one session to the owners of topics that are under way.
    pub questions_max: usize,
    /// How long a request to another client waits for its response.
    pub request_ms_max: u64,
    /// Values of one session's requests to others that are under way, and of answers to them that wait to be told.
    pub request_bytes_max: usize,
    /// Results of one answer to a fetch.
    pub fetch_page_max: usize,
    /// Events of one query's answer.
    pub query_events_max: usize,
    /// Bytes of events that a new subscriber of a time series is sent at first: the latest that fit.
    pub history_bytes_max: usize,
    /// How far ahead of the server's clock the timestamp may be that a client gives an event.
    pub ahead_ms_max: u64,
    /// Selectors of removal policies that wait on this shard until what they match is removed.
    pub removals_max: usize,
    /// Topics of this shard.
    pub topics_max: usize,
    /// Topics that a session is subscribed to; 0: no bound.
    pub subscriptions_max: usize,
    /// The groups that topics are replicated in, of all servers that hold them; 0: this one stands alone.
    pub groups: u16,
    /// Bytes of entries of this shard that are on their way to the log of a group, exceeded by one entry, or those of one slice of a removal.
    pub proposed_bytes_max: usize,
    /// How long an update waits for a server to lead the group of its topic, before it is refused.
    pub leader_patience_ms: u64,
    /// Whether connections are closed, and no sessions begin, while what is here of a group may not be the newest.
    pub closes_stale: bool,
    /// Connections of this shard.
    pub connections_max: usize,
    /// The longest head of a request of HTTP.
    pub http_head_bytes_max: usize,
    /// Header fields of one head.
    pub http_fields_max: usize,
    /// Arrays and objects within each other.
    pub json_depth_max: usize,
    pub queue: QueueLimits,
    pub resume: ResumeLimits,
    /// One send's bytes, exceeded by at most one frame.
    pub transmit_bytes_max: usize,
    /// Whether clients are asked who they are.
    pub authenticates: bool,
    /// The names of those who say it that are sessions.
    pub authenticators: Arc<[Box<str>]>,
    /// Whether it is noted who did what: `Effect::Audit`.
    pub audits: bool,
    /// From a connection's first byte to its session.
    pub handshake_timeout_ms: u64,
    /// How long it may take until it is known who a client is; its CONNECT waits meanwhile.
    pub authentication_ms: u64,
    /// Sessions that begin in a second; 0: no bound.
    pub admission_per_s: u64,
    /// Messages, and bytes, of one session's client that are read in a second; 0: no bound.
    pub messages_per_s_max: u64,
    pub bytes_per_s_max: u64,
    /// After so much silence the server asks whether the client is there; after twice as much it closes.
    pub keep_alive_ms: u64,
    /// How long a peer may take over closing, and then to end its side of the transport.
    pub close_timeout_ms: u64,
    /// Where so many bytes wait beside the session's queue, a ping of WebSocket is not answered.
    pub pong_bytes_high: usize,
    /// Topics that all walks together look at in one turn.
    pub walk_slice: usize,
    /// Mail that may wait for one shard, or records for storage, before this one stops reading its publishers.
    pub mail_high: usize,
    /// Which names the server has, and whose pages may ask; and where listeners have rules of their own, by the listener's number.
    pub web: WebRules,
    pub web_by_listener: Vec<WebRules>,
    pub views: DerivationLimits,
    pub session_trees: SessionTreeLimits,
    /// Whether clients of MQTT may connect. Sessions of theirs that were kept stand in any case, and are bounded as ever.
    pub has_mqtt: bool,
    pub mqtt: MqttLimits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            security: None,
            principals: Arc::from(""),
            principal_limits: PrincipalLimits::default(),
            message_bytes_max: (1 << 20) + (64 << 10),
            path_bytes_max: 1024,
            value_bytes_max: 1 << 20,
            selector: SelectorLimits::default(),
            scope_bytes_max: 256,
            constraint: ConstraintLimits::default(),
            patch_operations_max: 1000,
            patch_handled_bytes_max: 8 << 20,
            patch_work_max: 64 << 20,
            selections_max: 10_000,
            listeners_max: 1000,
            session_listeners_max: 16,
            streams_max: 10_000,
            locks_max: 100,
            questions_max: 1000,
            request_ms_max: 30_000,
            request_bytes_max: 16 << 20,
            fetch_page_max: 1000,
            query_events_max: 10_000,
            history_bytes_max: 2 << 20,
            ahead_ms_max: 86_400_000,
            removals_max: 10_000,
            topics_max: 10_000_000,
            subscriptions_max: 0,
            groups: 0,
            proposed_bytes_max: 16 << 20,
            leader_patience_ms: 3000,
            closes_stale: false,
            connections_max: 1_000_000,
            http_head_bytes_max: 8192,
            http_fields_max: 64,
            json_depth_max: JsonLimits::default().depth_max,
            queue: QueueLimits::default(),
            resume: ResumeLimits::default(),
            transmit_bytes_max: 64 << 10,
            authenticates: false,
            authenticators: [].into(),
            audits: false,
            handshake_timeout_ms: 10_000,
            authentication_ms: 20_000,
            admission_per_s: 10_000,
            messages_per_s_max: 0,
            bytes_per_s_max: 0,
            keep_alive_ms: 30_000,
            close_timeout_ms: 2000,
            pong_bytes_high: 4096,
            walk_slice: 1000,
            mail_high: 100_000,
            web: WebRules::default(),
            web_by_listener: Vec::new(),
            views: DerivationLimits::default(),
            session_trees: SessionTreeLimits::default(),
            has_mqtt: false,
            mqtt: MqttLimits::default(),
        }
    }
}

impl Limits {
    /// Of requests that come by this listener.
    pub fn web_of(&self, listener: u16) -> &WebRules {
        self.web_by_listener.get(usize::from(listener)).unwrap_or(&self.web)
    }

    /// Whether sessions are read at a bounded pace.
    pub fn has_pace(&self) -> bool {
        self.messages_per_s_max | self.bytes_per_s_max > 0
    }

    /// What each of so many shards may hold, so that together they hold what one was allowed.
    pub fn split(self, shards: usize) -> Self {
        let mqtt = MqttLimits {
            sessions_max: self.mqtt.sessions_max.div_ceil(shards),
            held_bytes_max: self.mqtt.held_bytes_max.div_ceil(shards),
            ..self.mqtt
        };
        let resume = ResumeLimits { away_max: self.resume.away_max.div_ceil(shards), ..self.resume };
        let (topics_max, connections_max) = (self.topics_max.div_ceil(shards), self.connections_max.div_ceil(shards));
        Self { topics_max, connections_max, resume, mqtt, ..self }
    }
}

/// Every bound on sessions of the native protocol that outlive their connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResumeLimits {
    /// The longest that one stands without a connection; 0 for none.
    pub stay_ms_max: u64,
    /// Such sessions that have no connection.
    pub away_max: usize,
    /// Bytes that wait for one of them.
    pub away_queue_bytes_max: usize,
    /// Bytes that one is sent before its client says that it has processed some.
    pub recovery_bytes_max: usize,
}

impl Default for ResumeLimits {
    fn default() -> Self {
        Self { stay_ms_max: 300_000, away_max: 1_000_000, away_queue_bytes_max: 1 << 20, recovery_bytes_max: 1 << 20 }
    }
}

/// Every bound on views.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DerivationLimits {
    pub views_max: usize,
    /// Of all definitions together.
    pub text_bytes_max: usize,
    pub language: ViewLimits,
    /// Reference topics that one view makes of one topic.
    pub references_max: usize,
    /// Events of a time series that one view takes up when it comes to the series, or its paths change: the latest.
    pub events_max: u64,
    /// Bytes of those events.
    pub event_bytes_max: usize,
    /// Bytes looked at or copied to evaluate one view for one value.
    pub work_max: usize,
    /// What one turn may do.
    pub units_per_turn: usize,
    /// What waits for its delay, in all views of a shard.
    pub delay_bytes_max: usize,
}

impl Default for DerivationLimits {
    fn default() -> Self {
        let EvaluationLimits { references_max, work_max, .. } = EvaluationLimits::default();
        Self {
            views_max: 1000,
            text_bytes_max: 4 << 20,
            language: ViewLimits::default(),
            references_max,
            events_max: 10_000,
            event_bytes_max: 8 << 20,
            work_max,
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
