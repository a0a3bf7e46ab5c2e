//! What a shard measures of itself: latencies in HDR histograms, and counts.

use hdrhistogram::Histogram;

const HIGHEST_NS: u64 = 60_000_000_000;

/// One shard's figures since its start. Times are in nanoseconds.
#[derive(Clone)]
pub struct Report {
    pub shard: u16,
    /// From an update read off its publisher's socket to its bytes handed to a subscriber's socket.
    pub publish: Histogram<u64>,
    /// How long a turn took: mail, requests, and the sends that follow.
    pub tick: Histogram<u64>,
    /// From mail sent by another shard to its handling here.
    pub ring: Histogram<u64>,
    pub connections: u64,
    pub sessions: u64,
    pub topics: u64,
    pub updates: u64,
    pub deliveries: u64,
    pub bytes_sent: u64,
    pub conflations: u64,
    pub overflows: u64,
    /// Subscriptions that ended because the session fell behind.
    pub back_pressure_ends: u64,
    /// Topics that removal policies removed.
    pub expired: u64,
    /// 1 while storage takes no updates.
    pub storage_failing: u64,
    /// Of views in all: evaluations, what came to nothing with a reason, reference topics that stand, and what waits for its turn.
    pub view_evaluations: u64,
    pub view_failures: u64,
    pub view_references: u64,
    pub view_backlog: u64,
    /// Of MQTT: messages of clients, those of them that were refused, messages that gave way or found no room, sessions without a connection.
    pub mqtt_received: u64,
    pub mqtt_refused: u64,
    pub mqtt_dropped: u64,
    pub mqtt_asleep: u64,
}

impl Report {
    pub fn new(shard: u16) -> Self {
        let histogram = || Histogram::new_with_bounds(1, HIGHEST_NS, 3).expect("the bounds are valid");
        Self {
            shard,
            publish: histogram(),
            tick: histogram(),
            ring: histogram(),
            connections: 0,
            sessions: 0,
            topics: 0,
            updates: 0,
            deliveries: 0,
            bytes_sent: 0,
            conflations: 0,
            overflows: 0,
            back_pressure_ends: 0,
            expired: 0,
            storage_failing: 0,
            view_evaluations: 0,
            view_failures: 0,
            view_references: 0,
            view_backlog: 0,
            mqtt_received: 0,
            mqtt_refused: 0,
            mqtt_dropped: 0,
            mqtt_asleep: 0,
        }
    }

    /// The histograms by their published names.
    pub fn histograms(&self) -> [(&'static str, &Histogram<u64>); 3] {
        [("publish_to_socket", &self.publish), ("tick", &self.tick), ("ring_wait", &self.ring)]
    }

    /// The counts by their published names.
    pub fn counts(&self) -> [(&'static str, u64); 19] {
        [
            ("connections", self.connections),
            ("sessions", self.sessions),
            ("topics", self.topics),
            ("updates", self.updates),
            ("deliveries", self.deliveries),
            ("bytes_sent", self.bytes_sent),
            ("conflations", self.conflations),
            ("overflows", self.overflows),
            ("back_pressure_ends", self.back_pressure_ends),
            ("expired", self.expired),
            ("storage_failing", self.storage_failing),
            ("view_evaluations", self.view_evaluations),
            ("view_failures", self.view_failures),
            ("view_references", self.view_references),
            ("view_backlog", self.view_backlog),
            ("mqtt_received", self.mqtt_received),
            ("mqtt_refused", self.mqtt_refused),
            ("mqtt_dropped", self.mqtt_dropped),
            ("mqtt_asleep", self.mqtt_asleep),
        ]
    }
}
