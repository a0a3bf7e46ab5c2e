//! Which update is due when, and its way into the publishers' sockets.
//!
//! Open loop: update `n` of a stage is due at its start plus `n` intervals, whatever happens. What
//! is late goes out at once, and its latency still counts from when it was due.

use super::Engine;
use crate::clock::SECOND_NS;
use crate::connection::{Connection, State};
use crate::dialect::{Dialect, Request};
use crate::failure::Failure;
use crate::payload::{Payload, Stamp};
use crate::plan::Plan;
use crate::record::histogram;
use hdrhistogram::Histogram;

/// More than this in a publisher's queue, and nothing is added: the server does not read.
const PENDING_BYTES_MAX: usize = 256 * 1024;

/// One stage's schedule. Updates go round the topics, so each topic has its own even rhythm.
pub struct Publishing {
    dialect: Dialect,
    start_ns: u64,
    interval_ns: f64,
    total: u64,
    next: u64,
    topics: u64,
    /// Updates that each topic had before this stage.
    base: u64,
    acknowledged: bool,
    paths: Vec<String>,
    value: Vec<u8>,
    measure_from_ns: u64,
    /// How late updates went out: what the generator itself adds.
    pub late: Histogram<u64>,
}

impl Publishing {
    /// Updates at `rate` a topic from `start_ns` on, for the plan's warm-up and duration.
    pub fn new(plan: &Plan, rate: f64, start_ns: u64, base: u64) -> Self {
        let topics = plan.flags.topics as u64;
        let seconds = (plan.warmup_ns + plan.duration_ns) as f64 / SECOND_NS as f64;
        Self {
            dialect: plan.dialect,
            start_ns,
            interval_ns: SECOND_NS as f64 / (rate * topics as f64),
            // Whole rounds, so that every topic ends on the same number.
            total: (seconds * rate).round().max(1.0) as u64 * topics,
            next: 0,
            topics,
            base,
            acknowledged: plan.acknowledged,
            paths: (0..plan.flags.topics).map(|topic| plan.topic_path(topic)).collect(),
            value: Vec::new(),
            measure_from_ns: start_ns + plan.warmup_ns,
            late: histogram(),
        }
    }

    pub fn due_ns(&self, update: u64) -> u64 {
        self.start_ns + (update as f64 * self.interval_ns) as u64
    }

    pub fn measure_from_ns(&self) -> u64 {
        self.measure_from_ns
    }

    /// When the next update is due, while there is one.
    pub fn next_due_ns(&self) -> Option<u64> {
        (self.next < self.total).then(|| self.due_ns(self.next))
    }

    pub fn sent(&self) -> u64 {
        self.next
    }

    pub fn total(&self) -> u64 {
        self.total
    }

    /// The last update that went out to a topic.
    pub fn last_sequence(&self, topic: usize) -> u64 {
        self.base + (self.next + self.topics - 1 - topic as u64) / self.topics
    }

    /// Appends one update to its publisher's queue; false when that is full, or enough is in flight.
    fn encode_next(&mut self, payload: &Payload, connection: &mut Connection, encoded: &mut Vec<u8>, now_ns: u64) -> bool {
        let id = if self.acknowledged { self.next + 1 } else { 0 };
        if connection.pending_bytes() > PENDING_BYTES_MAX || !connection.may_send(id) {
            return false;
        }
        let due_ns = self.due_ns(self.next);
        let topic = (self.next % self.topics) as usize;
        self.value.clear();
        payload.encode(Stamp { due_ns, sequence: self.base + self.next / self.topics + 1 }, &mut self.value);
        let request = Request::Set { id, path: &self.paths[topic], value_type: payload.value_type(), value: &self.value };
        connection.request(self.dialect, &request, encoded);
        if let Some(in_flight) = &mut connection.in_flight {
            in_flight.push(id);
        }
        if due_ns >= self.measure_from_ns {
            self.late.saturating_record(now_ns.saturating_sub(due_ns));
        }
        self.next += 1;
        true
    }
}

impl Engine {
    /// Sends everything that is due at `now_ns`; returns that time.
    #[inline]
    pub(super) fn publish_due(&mut self, now_ns: u64) -> Result<u64, Failure> {
        match &self.publishing {
            Some(publishing) if publishing.next_due_ns().is_some_and(|due| due <= now_ns) => self.publish_now(now_ns),
            _ => Ok(now_ns),
        }
    }

    fn publish_now(&mut self, now_ns: u64) -> Result<u64, Failure> {
        let Some(publishing) = &mut self.publishing else { return Ok(now_ns) };
        self.touched.clear();
        while publishing.next_due_ns().is_some_and(|due| due <= now_ns) {
            let topic = publishing.next % publishing.topics;
            let index = self.publishers[topic as usize % self.publishers.len()];
            let connection = &mut self.connections[index];
            if let State::Closed(reason) = &connection.state {
                return Err(Failure::Connection(format!("a publisher's connection ended: {reason}")));
            }
            if self.touched.last() != Some(&index) {
                self.touched.push(index);
            }
            if !publishing.encode_next(&self.shared.payload, connection, &mut self.encoded, now_ns) {
                break;
            }
        }
        for index in &self.touched {
            if let Err(error) = self.connections[*index].flush(now_ns) {
                return Err(Failure::Connection(format!("a publisher's connection ended: {error}")));
            }
        }
        Ok(now_ns)
    }
}
