//! `$SYS`: figures of the server as topics, from the first time that somebody looks for them.
//!
//! Shard 0 asks all for their reports and sets the topics, again and again. They are the server's own: no client can change them.

use crate::audience::FIGURES_WRITER;
use crate::base::Time;
use crate::mail::report::Report;
use crate::mail::{Action, Asker, Change, Content};
use crate::shard::Shard;
use crate::topic::specification::{Specification, SpecificationLimits, TopicType};
use crate::value::ValueType;
use std::borrow::Cow;
use std::sync::Arc;

/// When the figures are told next.
#[derive(Default)]
pub struct Sys {
    is_wanted: bool,
    next: Time,
    /// The number of the request for reports that is under way.
    ticket: Option<u64>,
}

impl Shard {
    pub(in crate::shard) fn sys_wanted(&mut self) {
        self.sys.is_wanted = true;
        if self.sys.next <= self.desk.turn.now {
            self.ask_figures();
        }
    }

    pub(in crate::shard) fn tick_sys(&mut self) {
        if self.sys.is_wanted && self.desk.identity.index == FIGURES_WRITER && self.sys.next <= self.desk.turn.now {
            self.ask_figures();
        }
    }

    fn ask_figures(&mut self) {
        self.sys.next = self.desk.turn.now.after_ms(self.desk.limits.mqtt.sys_interval_ms);
        if self.sys.ticket.is_none() && !self.desk.turn.is_stopping {
            self.sys.ticket = Some(self.ask_reports());
        }
    }

    /// All shards have reported. Sets the figures, where the reports were asked for them; tells whether they were.
    pub(in crate::shard) fn take_figures(&mut self, ticket: u64) -> bool {
        if self.sys.ticket != Some(ticket) {
            return false;
        }
        self.sys.ticket = None;
        let reports = self.take_reports(ticket);
        let text = format!("Tidewire {}", env!("CARGO_PKG_VERSION"));
        self.set_figure("$SYS/broker/version", TopicType::String, text.as_bytes());
        let uptime_s = self.desk.turn.now.since(self.started) / 1_000_000_000;
        for (name, figure) in figures(&reports, uptime_s) {
            let figure = i64::try_from(figure).unwrap_or(i64::MAX);
            self.set_figure(&name, TopicType::Int64, &figure.to_be_bytes());
        }
        true
    }

    fn set_figure(&mut self, path: &str, topic_type: TopicType, value: &[u8]) {
        let properties = [("PERSISTENT", "false")].into_iter();
        let parsed = Specification::parse(topic_type, properties, SpecificationLimits::default());
        let specification: Arc<Specification> = self.desk.specifications.intern(parsed.expect("the properties are of every type"));
        let kind = topic_type.value_type().unwrap_or(ValueType::String);
        let content = Content { kind, value: Some(Cow::Borrowed(value)) };
        let change = Change { action: Action::AddAndSet(specification, content), conditions: None };
        self.route_change(Asker::Server, path, change);
    }
}

/// The figures of all shards together, by their topics.
fn figures(reports: &[Report], uptime_s: u64) -> Vec<(Cow<'static, str>, u64)> {
    let mut sums: Vec<(&'static str, u64)> = Vec::new();
    for report in reports {
        for (at, (name, count)) in report.counts().into_iter().enumerate() {
            match sums.get_mut(at) {
                Some((_, sum)) => *sum += count,
                None => sums.push((name, count)),
            }
        }
    }
    let sum = |wanted: &str| sums.iter().find(|(name, _)| *name == wanted).map_or(0, |(_, sum)| *sum);
    let asleep = sum("mqtt_asleep");
    let connected = sum("connections");
    let mut figures: Vec<(Cow<'static, str>, u64)> = vec![
        ("$SYS/broker/uptime".into(), uptime_s),
        ("$SYS/broker/clients/connected".into(), connected),
        ("$SYS/broker/clients/disconnected".into(), asleep),
        ("$SYS/broker/clients/total".into(), connected + asleep),
        ("$SYS/broker/publish/messages/received".into(), sum("mqtt_received")),
        ("$SYS/broker/publish/messages/sent".into(), sum("deliveries")),
        ("$SYS/broker/publish/messages/dropped".into(), sum("mqtt_dropped")),
        ("$SYS/broker/bytes/sent".into(), sum("bytes_sent")),
    ];
    figures.extend(sums.iter().map(|(name, sum)| (format!("$SYS/tidewire/{name}").into(), *sum)));
    figures
}
