//! What the operator is told of a shard's clients, and how often: a client can give occasion to any of it as often as it likes.

use super::turn::NotTaken;
use crate::base::Time;
use crate::shard::Log;
use std::net::IpAddr;

/// Of each kind one line is logged in so long, with how many there would have been.
const PAUSE_NS: u64 = 1_000_000_000;

/// One kind's lines.
#[derive(Clone, Copy, Default)]
struct Kind {
    due: Time,
    skipped: u64,
}

/// See the module.
#[derive(Default)]
pub struct Logger {
    kinds: [Kind; 8],
    not_taken: [Kind; 4],
}

impl Kind {
    /// With how many there would have been since the last; `None` where it is too soon for another.
    fn take(&mut self, now: Time) -> Option<u64> {
        if now < self.due {
            self.skipped += 1;
            return None;
        }
        self.due = Time(now.0 + PAUSE_NS);
        Some(std::mem::take(&mut self.skipped))
    }
}

impl Logger {
    pub fn log_not_taken(&mut self, now: Time, why: NotTaken, address: Option<IpAddr>) {
        if let Some(skipped) = self.not_taken[why as usize].take(now) {
            let (limit, address) = (why.limit(), address.map(tracing::field::display));
            tracing::warn!(limit, address, skipped, "a connection was not taken: there are as many as this limit allows");
        }
    }

    pub fn log(&mut self, now: Time, news: &Log) {
        let kind = match news {
            Log::ViewTooDeep { .. } => 0,
            Log::QueueFull { .. } => 1,
            Log::WillRefused { .. } => 2,
            Log::ForeignHost { .. } => 3,
            Log::ForeignPage { .. } => 4,
            Log::Oversized { .. } => 5,
            Log::ReplyRefused { .. } => 6,
            Log::NotIdentified { .. } => 7,
        };
        let Some(skipped) = self.kinds[kind].take(now) else { return };
        match news {
            Log::ViewTooDeep { view, source } => {
                tracing::warn!(%view, %source, skipped, "a view derives too deep: what it would make of this topic, and of others, is not made");
            }
            Log::QueueFull { client_id } => tracing::warn!(
                %client_id,
                skipped,
                "an MQTT client misses messages: its session holds all that session.queue_bytes_max and mqtt.queued_messages_max allow"
            ),
            Log::WillRefused { client_id, topic, why } => {
                tracing::warn!(%client_id, %topic, %why, skipped, "the will of an MQTT client is not published");
            }
            Log::ReplyRefused { client_id, why } => {
                tracing::warn!(%client_id, %why, skipped, "the answer to a request of an MQTT client is not published to its response topic");
            }
            Log::NotIdentified { principal, why } => {
                tracing::warn!(?principal, %why, skipped, "a client was not let in");
            }
            Log::Oversized { client, limit } => {
                tracing::warn!(?client, limit, skipped, "a client sent something longer than this limit allows, which was refused");
            }
            Log::ForeignHost { host } => tracing::warn!(
                ?host,
                skipped,
                "a request was refused: the server has no such name; server.hosts names those that it has beside loopback's"
            ),
            Log::ForeignPage { origin, host } => tracing::warn!(
                ?origin,
                ?host,
                skipped,
                "a page was refused: it is of another origin than the host that it asks; server.origins names others that may ask"
            ),
        }
    }
}
