//! What a shard measures of itself: latencies in HDR histograms, and counts.

use crate::base::{Latencies, Time};

/// The significant digits of latencies.
const DIGITS: u8 = 3;

/// Makes the report of the counters that are listed: each is a field and is told by the same name, so a counter is one line.
macro_rules! report {
    ($($(#[$about:meta])* $counter:ident,)*) => {
        /// One shard's figures since its start. Times are in nanoseconds.
        #[derive(Clone)]
        pub struct Report {
            pub shard: u16,
            /// From an update read off its publisher's socket to its bytes handed to a subscriber's socket, where the subscriber was there: what a value
            /// was published before its subscription, or before the client came back, says nothing of the server.
            pub publish: Latencies,
            /// How long a turn took: mail, requests, and the sends that follow.
            pub tick: Latencies,
            /// From mail sent by another shard to its handling here.
            pub ring: Latencies,
            $($(#[$about])* pub $counter: u64,)*
        }

        impl Report {
            const COUNTERS: usize = [$(stringify!($counter)),*].len();

            pub fn new(shard: u16, now: Time) -> Self {
                let none = Latencies::new(DIGITS, now);
                Self { shard, publish: none.clone(), tick: none.clone(), ring: none, $($counter: 0,)* }
            }

            pub fn advance(&mut self, now: Time) {
                for latencies in [&mut self.publish, &mut self.tick, &mut self.ring] {
                    latencies.advance(now);
                }
            }

            /// The counts by their published names.
            pub fn counts(&self) -> [(&'static str, u64); Self::COUNTERS] {
                [$((stringify!($counter), self.$counter),)*]
            }
        }
    };
}

report! {
    /// Connections that are open.
    connections,
    /// Sessions, those too that have no connection now.
    sessions,
    /// Topics that are here.
    topics,
    /// Values that topics took, and messages that passed by.
    updates,
    /// Those of them that were handed to subscribers' sockets.
    deliveries,
    /// Handed to clients' sockets, whatever they say.
    bytes_sent,
    /// How often older values in a session's queue gave way to newer ones.
    conflations,
    /// Topics of which a session that was away has lost values.
    gaps,
    /// Sessions that were closed because they fell behind.
    overflows,
    /// Sessions that were closed because they selected more topics than they may be subscribed to.
    sessions_overfull,
    /// Subscriptions that ended because the session fell behind.
    back_pressure_ends,
    /// Topics that removal policies removed, and retained messages that expired.
    expired,
    /// Packets, messages and payloads of clients that were longer than their limits.
    oversized,
    /// 1 while storage takes no updates.
    storage_failing,
    /// 1 while what the server shows may not be the newest of its cluster.
    cluster_stale,
    /// How often a view was evaluated.
    view_evaluations,
    /// Evaluations that came to nothing, with a reason.
    view_failures,
    /// Reference topics that stand.
    view_references,
    /// What waits for its turn, in all views.
    view_backlog,
    /// Messages of MQTT's clients.
    mqtt_received,
    /// Those of them and wills that were refused.
    mqtt_refused,
    /// Messages to MQTT's clients that gave way or found no room, and sessions for which there was none.
    mqtt_dropped,
    /// Sessions of MQTT without a connection.
    mqtt_asleep,
    /// Sessions of the native protocol without a connection, whose clients may come back.
    sessions_away,
    /// Those whose clients came back.
    sessions_resumed,
    /// Clients without a session that were told to come later.
    sessions_deferred,
    /// How often a client was not read for a while because it sent more than its session may in a second.
    paced,
    /// Bytes of messages of QoS 1 and 2 that wait or are under way.
    mqtt_held_bytes,
    /// Connections that have begun by TLS or a proxy's header.
    handshakes,
    /// Those that could not: what came was wrong, or there were too many.
    handshakes_failed,
    /// Connections that were not taken: the shard held its part of `limits.connections_max`, their addresses had as many as they may, or too many were in
    /// their handshakes, of all or of an address.
    refused_full,
    refused_address,
    refused_handshakes,
    /// How often the shard was interrupted because it did not tick: it was busy, had no core, or slept over what it had to do.
    interruptions,
}

/// What has become of connections before a shard heard of them, since the start. The counters of the report have the same names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrivals {
    pub handshakes: u64,
    pub handshakes_failed: u64,
    pub refused_full: u64,
    pub refused_address: u64,
    pub refused_handshakes: u64,
}

impl Report {
    /// The histograms by their published names.
    pub fn histograms(&self) -> [(&'static str, &Latencies); 3] {
        [("publish_to_socket", &self.publish), ("tick", &self.tick), ("ring_wait", &self.ring)]
    }
}
