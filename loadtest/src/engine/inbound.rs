//! What a connection's bytes do: the set-up dialogue, and values into the record.

use crate::connection::{Connection, Inbound, Role, State};
use crate::dialect::{Answer, DeltaForm, Dialect, Event, Request};
use crate::failure::Failure;
use crate::in_flight::InFlight;
use crate::payload::Payload;
use crate::plan::Plan;
use crate::record::{Record, histogram};
use crate::websocket::Opcode;
use hdrhistogram::Histogram;
use mio::Events;
use std::collections::HashMap;
use tidewire::surface::value::delta;

/// What all connections share on the receiving side.
pub struct Shared {
    pub record: Record,
    pub payload: Payload,
    pub keep_alive_ms: u64,
    /// The first refusal of a request during set-up.
    pub refused: Option<Failure>,
    /// Updates that the server refused, and what it said first.
    pub updates_refused: u64,
    pub updates_refused_first: Option<String>,
    pub acknowledged: u64,
    pub acknowledgement: Histogram<u64>,
    pub deltas: u64,
    /// Deliveries that the measured subscribers have acknowledged.
    pub deliveries_acknowledged: u64,
    pub(super) events: Events,
    topics: Topics,
    /// Each stream's value, where deltas are applied.
    values: Vec<Vec<u8>>,
    verify: bool,
    /// Maps the id of an acknowledged update to when it was due.
    due_start_ns: u64,
    due_interval_ns: f64,
    due_from_ns: u64,
}

impl Shared {
    pub fn new(plan: &Plan) -> Self {
        let (subscribers, topics) = (plan.flags.subscribers, plan.flags.topics);
        Self {
            record: Record::new(subscribers, topics),
            payload: Payload::new(plan.value_type, plan.flags.payload),
            keep_alive_ms: 0,
            refused: None,
            updates_refused: 0,
            updates_refused_first: None,
            acknowledged: 0,
            acknowledgement: histogram(),
            deltas: 0,
            deliveries_acknowledged: 0,
            events: Events::with_capacity(super::EVENTS_MAX),
            topics: if plan.dialect.numbers_by_path() { Topics::numbered(topics) } else { Topics::default() },
            values: if plan.flags.deltas { vec![Vec::new(); subscribers * topics] } else { Vec::new() },
            verify: plan.flags.verify || plan.flags.deltas,
            due_start_ns: 0,
            due_interval_ns: 0.0,
            due_from_ns: u64::MAX,
        }
    }

    /// Takes answers to updates as those of `publishing` from now on.
    pub fn begin(&mut self, publishing: &super::Publishing) {
        self.due_start_ns = publishing.due_ns(0);
        self.due_interval_ns = (publishing.due_ns(1_000_000) - publishing.due_ns(0)) as f64 / 1e6;
        self.due_from_ns = publishing.measure_from_ns();
        self.acknowledgement.reset();
        self.acknowledged = 0;
        // First values were acknowledged when they were subscribed to.
        self.deliveries_acknowledged = 0;
    }

    /// Takes a connection's bytes; what is not whole stays with the connection. The error is why the
    /// connection ends.
    pub fn handle_bytes(
        &mut self,
        plan: &Plan,
        connection: &mut Connection,
        index: usize,
        bytes: &[u8],
        now_ns: u64,
        encoded: &mut Vec<u8>,
    ) -> Result<(), String> {
        let mut start = 0;
        if let State::Upgrading(upgrade) = &connection.state {
            match upgrade.answer(bytes)? {
                None => return connection.keep(bytes),
                Some(length) => start = length,
            }
            connection.state = State::Connecting;
            greet(plan, connection, index, encoded);
        }
        // The frames need the connection's state and its deframer at once; the latter is copied out.
        let mut deframer = std::mem::take(connection.deframer());
        let mut end = None;
        let subscriber = if let Role::Subscriber(subscriber) = connection.role { Some(subscriber) } else { None };
        let used = deframer.feed(plan.dialect, &bytes[start..], |inbound| match (inbound, subscriber) {
            (Inbound::Event(Event::Value { topic, value }), Some(subscriber)) => self.handle_value(subscriber, topic, value, now_ns),
            (Inbound::Event(Event::Delta { topic, form, delta }), Some(subscriber)) => {
                self.handle_delta(subscriber, topic, form, delta, now_ns);
            }
            (Inbound::Event(Event::Assured { topic, value, answer }), Some(subscriber)) => {
                self.handle_value(subscriber, topic, value, now_ns);
                self.answer(plan, connection, answer, encoded);
            }
            (Inbound::Event(Event::Assured { answer, .. } | Event::Step { answer }), _) => self.answer(plan, connection, answer, encoded),
            (Inbound::Event(event), _) => self.handle_event(plan, connection, event, now_ns, encoded, &mut end),
            (Inbound::WebSocketPing(payload), _) => connection.message(Opcode::Pong, payload),
            (Inbound::Close { code, reason }, _) => {
                end.get_or_insert_with(|| closed_text(plan.dialect, code, reason));
            }
        })?;
        *connection.deframer() = deframer;
        if let Some(reason) = end {
            return Err(reason);
        }
        connection.keep(&bytes[start + used..])
    }

    #[inline]
    fn handle_value(&mut self, subscriber: usize, number: u64, value: &[u8], now_ns: u64) {
        let (Some(topic), Some(stamp)) = (self.topics.index(number), self.payload.stamp(value)) else {
            return self.record.deliver_corrupt();
        };
        if self.verify && !self.payload.is_intact(value) {
            return self.record.deliver_corrupt();
        }
        let stream = self.record.stream(subscriber, topic);
        if let Some(kept) = self.values.get_mut(stream) {
            kept.clear();
            kept.extend_from_slice(value);
        }
        self.record.deliver(stream, stamp, now_ns);
    }

    /// Answers a delivery, or a step of its handshake; what one read brought is answered with one send.
    #[inline]
    fn answer(&mut self, plan: &Plan, connection: &mut Connection, answer: Answer, encoded: &mut Vec<u8>) {
        if matches!(connection.role, Role::Subscriber(_)) {
            self.deliveries_acknowledged += u64::from(answer.ends_delivery());
        }
        connection.request(plan.dialect, &Request::Answer(answer), encoded);
    }

    fn handle_delta(&mut self, subscriber: usize, number: u64, form: DeltaForm, bytes: &[u8], now_ns: u64) {
        self.deltas += 1;
        let Some(topic) = self.topics.index(number) else { return self.record.deliver_corrupt() };
        let stream = self.record.stream(subscriber, topic);
        let Some(old) = self.values.get(stream) else { return self.record.deliver_corrupt() };
        let form = match form {
            DeltaForm::Deflate => delta::Form::Deflate,
            DeltaForm::Copy => delta::Form::Copy,
        };
        match delta::apply(form, old, bytes, self.payload.size()) {
            Ok(value) => self.handle_value(subscriber, number, &value, now_ns),
            Err(_) => self.record.deliver_corrupt(),
        }
    }

    #[cold]
    fn handle_event(
        &mut self,
        plan: &Plan,
        connection: &mut Connection,
        event: Event<'_>,
        now_ns: u64,
        encoded: &mut Vec<u8>,
        end: &mut Option<String>,
    ) {
        match event {
            Event::Welcome { keep_alive_ms, in_flight_max } => {
                self.keep_alive_ms = keep_alive_ms;
                if let Some(in_flight) = &mut connection.in_flight {
                    **in_flight = InFlight::new(in_flight_max.max(1));
                }
                self.subscribe(plan, connection, encoded);
            }
            Event::Topic { topic, path } => {
                if let Some(index) = path.strip_prefix(plan.root.as_str()).and_then(|rest| rest.strip_prefix('/')) {
                    let index = index.parse::<usize>().ok().filter(|index| *index < plan.flags.topics);
                    self.topics.insert(topic, index);
                }
            }
            Event::Accepted { id } => match (connection.take_in_flight(id), &connection.state) {
                (Some(id), _) => self.handle_acknowledgement(id, now_ns),
                (None, State::Asking(1)) => connection.state = State::Ready,
                (None, State::Asking(count)) => connection.state = State::Asking(count - 1),
                _ => self.handle_acknowledgement(id, now_ns),
            },
            Event::Refused { id, code, message } => {
                connection.take_in_flight(id);
                self.handle_refused(plan, connection, code, message, end);
            }
            Event::Later { wait_ms } => {
                end.get_or_insert_with(|| format!("the server takes nobody now: come again in {wait_ms} ms"));
            }
            Event::Ping => connection.request(plan.dialect, &Request::Pong, encoded),
            Event::Closing { code, message } => {
                end.get_or_insert_with(|| closed_text(plan.dialect, code, message));
            }
            Event::Value { .. } | Event::Delta { .. } | Event::Assured { .. } | Event::Step { .. } | Event::Other => {}
        }
    }

    fn subscribe(&mut self, plan: &Plan, connection: &mut Connection, encoded: &mut Vec<u8>) {
        let selectors = match connection.role {
            Role::Publisher => Vec::new(),
            Role::Subscriber(subscriber) => plan.selectors(subscriber),
            Role::Idle(number) => vec![plan.idle_path(number)],
            Role::Stalled => plan.all_topics(),
        };
        connection.state = if selectors.is_empty() { State::Ready } else { State::Asking(selectors.len()) };
        for (index, selector) in selectors.iter().enumerate() {
            connection.request(plan.dialect, &Request::Subscribe { id: index as u64 + 2, selector }, encoded);
        }
        let Role::Subscriber(subscriber) = connection.role else { return };
        for topic in (0..plan.flags.topics).filter(|topic| plan.is_subscribed(subscriber, *topic)) {
            match plan.flags.publishers {
                0 => self.record.expect_any(subscriber, topic),
                _ => self.record.expect(subscriber, topic),
            }
        }
    }

    fn handle_acknowledgement(&mut self, id: u64, now_ns: u64) {
        self.acknowledged += 1;
        let due_ns = self.due_start_ns + (id.saturating_sub(1) as f64 * self.due_interval_ns) as u64;
        if due_ns >= self.due_from_ns {
            self.acknowledgement.saturating_record(now_ns.saturating_sub(due_ns));
        }
    }

    fn handle_refused(&mut self, plan: &Plan, connection: &mut Connection, code: u64, message: &str, end: &mut Option<String>) {
        let request = match (&connection.state, connection.role) {
            (State::Ready, _) => {
                self.updates_refused += 1;
                self.updates_refused_first.get_or_insert_with(|| closed_text(plan.dialect, code, message));
                return;
            }
            (State::Asking(_), Role::Publisher) => format!("to create or remove topics at {}", plan.root),
            (State::Asking(_), Role::Idle(number)) => format!("to subscribe to {}", plan.idle_path(number)),
            (State::Asking(_), Role::Subscriber(subscriber)) => format!("to subscribe to {}", listed(&plan.selectors(subscriber))),
            (State::Asking(_), Role::Stalled) => format!("to subscribe to {}", listed(&plan.all_topics())),
            _ => "to connect".to_owned(),
        };
        let refusal = Failure::Refused { request, code, name: plan.dialect.code_name(code), message: message.to_owned() };
        end.get_or_insert_with(|| refusal.to_string());
        self.refused.get_or_insert(refusal);
    }
}

/// Asks for a session: a connection's first request.
pub(super) fn greet(plan: &Plan, connection: &mut Connection, index: usize, encoded: &mut Vec<u8>) {
    let capabilities = if plan.flags.deltas { plan.dialect.delta_capabilities() } else { 0 };
    let connect = Request::Connect { id: 1, name: &plan.client_name(index), capabilities, login: &plan.login };
    connection.request(plan.dialect, &connect, encoded);
}

/// The first few of many.
fn listed(selectors: &[String]) -> String {
    match selectors {
        [first, second, third, _, ..] => format!("{first}, {second}, {third} and {} more", selectors.len() - 3),
        few => few.join(", "),
    }
}

fn closed_text(dialect: Dialect, code: u64, message: &str) -> String {
    let name = dialect.code_name(code).unwrap_or_else(|| "unnamed".to_owned());
    format!("{code} ({name}): {message}")
}

/// The numbers that deliveries call this run's topics by.
#[derive(Default)]
struct Topics {
    /// The number seen last: with one topic, always the one.
    last: Option<(u64, usize)>,
    indices: HashMap<u64, usize>,
}

impl Topics {
    /// Topics whose number is their place.
    fn numbered(count: usize) -> Self {
        Self { last: None, indices: (0..count).map(|index| (index as u64, index)).collect() }
    }

    fn insert(&mut self, number: u64, index: Option<usize>) {
        if let Some(index) = index {
            self.indices.insert(number, index);
        }
    }

    #[inline]
    fn index(&mut self, number: u64) -> Option<usize> {
        match self.last {
            Some((last, index)) if last == number => Some(index),
            _ => {
                let index = *self.indices.get(&number)?;
                self.last = Some((number, index));
                Some(index)
            }
        }
    }
}
