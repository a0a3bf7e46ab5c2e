//! What MQTT sessions may cost, and which topics they may make.

use crate::topic::mqtt_rule::TopicRules;
use std::sync::Arc;

/// Every bound that MQTT adds to those of the shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MqttLimits {
    /// The longest packet that is accepted, its head included.
    pub packet_bytes_max: usize,
    /// QoS 1 and 2 messages of a client that are not acknowledged.
    pub receive_maximum: u16,
    /// QoS 1 and 2 messages to a client that are not acknowledged.
    pub inflight_max: u16,
    /// QoS 1 and 2 messages that wait for one session, also while its client is away.
    pub queued_messages_max: usize,
    /// QoS 2 messages of other sessions of which one session that is kept remembers that it was sent them.
    pub seen_messages_max: usize,
    /// Bytes of QoS 1 and 2 messages that all sessions of this shard hold together, a publication counted once.
    pub held_bytes_max: usize,
    /// Topic aliases of a client.
    pub topic_alias_maximum: u16,
    /// User properties of one packet.
    pub user_properties_max: usize,
    /// Filters of one SUBSCRIBE that are looked at; those behind them are refused.
    pub filters_max: usize,
    pub client_id_bytes_max: usize,
    pub session_expiry_max_s: u32,
    /// Sessions of this shard whose client is away.
    pub sessions_max: usize,
    /// 0: no bound.
    pub keep_alive_max_s: u16,
    /// How long a topic stays that was only ever published to without RETAIN.
    pub passing_topic_ms: u64,
    /// How often `$SYS` is published; 0: there is none.
    pub sys_interval_ms: u64,
    /// Where clients are sent when this server stops; empty: nowhere.
    pub server_reference: Box<str>,
    pub rules: Arc<TopicRules>,
}

impl Default for MqttLimits {
    fn default() -> Self {
        Self {
            packet_bytes_max: (1 << 20) + (64 << 10),
            receive_maximum: 1024,
            inflight_max: 1024,
            queued_messages_max: 60_000,
            held_bytes_max: 1 << 30,
            seen_messages_max: 10_000,
            topic_alias_maximum: 64,
            user_properties_max: 64,
            filters_max: 10_000,
            client_id_bytes_max: 1024,
            session_expiry_max_s: 604_800,
            sessions_max: 100_000,
            keep_alive_max_s: 0,
            passing_topic_ms: 60_000,
            sys_interval_ms: 10_000,
            server_reference: "".into(),
            rules: Arc::default(),
        }
    }
}
