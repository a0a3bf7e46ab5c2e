//! The table of settings: every key, what it takes, where it goes.
//!
//! All sources (file, environment, flags) go through this table, so that a value is
//! allowed or refused in the same way wherever it is written.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::{Authenticator, Config, Jwt, LogFormat, LogLevel, NameRoles, Unavailable};
use crate::storage::Ack;
use crate::topic::mqtt_rule::TopicRules;
use crate::wire::origin::{Hosts, Origins};

/// One key that can be set.
pub struct Setting {
    /// `section.name`.
    pub key: &'static str,
    takes: Takes,
}

/// What a setting takes, and where it is put.
enum Takes {
    Number {
        min: u64,
        max: u64,
        put: fn(&mut Config, u64),
    },
    Flag(fn(&mut Config, bool)),
    Address(fn(&mut Config, SocketAddr)),
    /// `off` is none.
    AddressOrOff(fn(&mut Config, Option<SocketAddr>)),
    Text {
        bytes_max: usize,
        put: fn(&mut Config, String),
    },
    /// `put` says what is wrong with the texts, if anything is; `takes` says what they are.
    Texts {
        takes: &'static str,
        put: fn(&mut Config, &[String]) -> Result<(), String>,
    },
    Cores(fn(&mut Config, Vec<usize>)),
    Name {
        names: &'static [&'static str],
        put: fn(&mut Config, usize),
    },
    Path(fn(&mut Config, PathBuf)),
}

/// A value as a source gives it, not yet known to be allowed.
#[derive(Clone, Debug, PartialEq)]
pub enum Given {
    Text(String),
    Number(i64),
    Flag(bool),
    Numbers(Vec<i64>),
    Texts(Vec<String>),
    /// Something that no setting takes.
    Other,
}

impl Given {
    /// The texts of a list that may be one of texts: an empty one is a list of anything.
    fn texts(&self) -> Option<&[String]> {
        match self {
            Self::Texts(texts) => Some(texts),
            Self::Numbers(numbers) if numbers.is_empty() => Some(&[]),
            _ => None,
        }
    }
}

/// What stands in place of an address where nothing is listened on.
const OFF: &str = "off";

pub const SETTINGS: &[Setting] = &[
    address_or_off("server.listen", |c, v| c.server.listen = v),
    texts("server.hosts", "a list of hosts without ports", |c, texts| {
        c.limits.web.hosts = Hosts::parse(texts)?;
        Ok(())
    }),
    texts("server.origins", "a list of origins", |c, texts| {
        c.limits.web.origins = Origins::parse(texts)?;
        Ok(())
    }),
    flag("server.dev", |c, v| c.server.dev = v),
    number("server.shards", 0, 256, |c, v| c.server.shards = v as usize),
    cores("server.cores", |c, v| c.server.cores = v),
    number("server.spin_before_park_us", 0, 1_000_000, |c, v| c.server.spin_before_park_us = v),
    number("server.shutdown_drain_ms", 0, 600_000, |c, v| c.server.shutdown_drain_ms = v),
    number("server.connections_per_address_max", 0, 10_000_000, |c, v| c.server.connections_per_address_max = v as u32),
    number("limits.message_bytes_max", 4096, 64 << 20, |c, v| c.limits.message_bytes_max = v as usize),
    number("limits.path_bytes_max", 16, 16384, |c, v| c.limits.path_bytes_max = v as usize),
    number("limits.value_bytes_max", 1, 64 << 20, |c, v| c.limits.value_bytes_max = v as usize),
    number("limits.selector_bytes_max", 16, 65536, |c, v| c.limits.selector.text_bytes_max = v as usize),
    number("limits.selector_members_max", 1, 10_000, |c, v| c.limits.selector.members_max = v as usize),
    number("limits.selector_regexes_max", 1, 1000, |c, v| c.limits.selector.regexes_max = v as usize),
    number("limits.selector_regex_bytes_max", 4096, 16 << 20, |c, v| c.limits.selector.regex_bytes_max = v as usize),
    number("limits.selector_unicode_classes_max", 0, 1000, |c, v| c.limits.selector.unicode_classes_max = v as usize),
    number("limits.scope_bytes_max", 0, 4096, |c, v| c.limits.scope_bytes_max = v as usize),
    number("limits.constraint_bytes_max", 16, 1 << 20, |c, v| c.limits.constraint.text_bytes_max = v as usize),
    number("limits.constraint_depth_max", 1, 64, |c, v| c.limits.constraint.depth_max = v as usize),
    number("limits.constraint_parts_max", 1, 1000, |c, v| c.limits.constraint.parts_max = v as usize),
    number("limits.patch_operations_max", 1, 100_000, |c, v| c.limits.patch_operations_max = v as usize),
    number("limits.patch_handled_bytes_max", 1024, 1 << 30, |c, v| c.limits.patch_handled_bytes_max = v as usize),
    number("limits.patch_work_max", 1024, 1 << 32, |c, v| c.limits.patch_work_max = v as usize),
    number("limits.selections_max", 1, 1_000_000, |c, v| c.limits.selections_max = v as usize),
    number("limits.subscriptions_max", 0, 1_000_000_000, |c, v| c.limits.subscriptions_max = v as usize),
    number("limits.listeners_max", 0, 1_000_000, |c, v| c.limits.listeners_max = v as usize),
    number("limits.session_listeners_max", 0, 1000, |c, v| c.limits.session_listeners_max = v as usize),
    number("limits.streams_max", 0, 1_000_000, |c, v| c.limits.streams_max = v as usize),
    number("limits.locks_max", 0, 10_000, |c, v| c.limits.locks_max = v as usize),
    number("limits.questions_max", 1, 1_000_000, |c, v| c.limits.questions_max = v as usize),
    number("limits.fetch_page_max", 1, 100_000, |c, v| c.limits.fetch_page_max = v as usize),
    number("limits.query_events_max", 1, 1_000_000, |c, v| c.limits.query_events_max = v as usize),
    number("limits.history_bytes_max", 1024, 64 << 20, |c, v| c.limits.history_bytes_max = v as usize),
    number("limits.removals_max", 1, 1_000_000, |c, v| c.limits.removals_max = v as usize),
    number("limits.topics_max", 1, 1_000_000_000, |c, v| c.limits.topics_max = v as usize),
    number("limits.connections_max", 1, 10_000_000, |c, v| c.limits.connections_max = v as usize),
    number("limits.http_head_bytes_max", 512, 65536, |c, v| c.limits.http_head_bytes_max = v as usize),
    number("limits.http_fields_max", 8, 1000, |c, v| c.limits.http_fields_max = v as usize),
    number("limits.json_depth_max", 1, 1024, |c, v| c.limits.json_depth_max = v as usize),
    number("limits.walk_slice", 1, 1_000_000, |c, v| c.limits.walk_slice = v as usize),
    number("limits.mail_high", 1, 100_000_000, |c, v| c.limits.mail_high = v as usize),
    number("series.ahead_ms_max", 0, 1 << 62, |c, v| c.limits.ahead_ms_max = v),
    number("views.views_max", 0, 100_000, |c, v| c.limits.views.views_max = v as usize),
    number("views.text_bytes_max", 0, 1 << 30, |c, v| c.limits.views.text_bytes_max = v as usize),
    number("views.definition_bytes_max", 16, 64 << 10, |c, v| c.limits.views.language.text_bytes_max = v as usize),
    number("views.references_max", 1, 1_000_000, |c, v| c.limits.views.references_max = v as usize),
    number("views.events_max", 1, 1_000_000, |c, v| c.limits.views.events_max = v),
    number("views.event_bytes_max", 1024, 1 << 30, |c, v| c.limits.views.event_bytes_max = v as usize),
    number("views.work_max", 4096, 1 << 30, |c, v| c.limits.views.work_max = v as usize),
    number("views.delay_bytes_max", 0, 64 << 30, |c, v| c.limits.views.delay_bytes_max = v as usize),
    number("views.units_per_turn", 1, 1_000_000, |c, v| c.limits.views.units_per_turn = v as usize),
    number("session_trees.tables_max", 0, 1000, |c, v| c.limits.session_trees.tables_max = v as usize),
    number("session_trees.rows_max", 1, 1000, |c, v| c.limits.session_trees.rows_max = v as usize),
    number("session_trees.text_bytes_max", 0, 1 << 20, |c, v| c.limits.session_trees.text_bytes_max = v as usize),
    number("session.handshake_timeout_ms", 100, 600_000, |c, v| c.limits.handshake_timeout_ms = v),
    number("session.admission_per_s", 0, 1_000_000, |c, v| c.limits.admission_per_s = v),
    number("session.messages_per_s_max", 0, 1_000_000_000, |c, v| c.limits.messages_per_s_max = v),
    number("session.bytes_per_s_max", 0, 1 << 40, |c, v| c.limits.bytes_per_s_max = v),
    number("session.keep_alive_ms", 100, 3_600_000, |c, v| c.limits.keep_alive_ms = v),
    number("session.close_timeout_ms", 100, 600_000, |c, v| c.limits.close_timeout_ms = v),
    number("session.pong_bytes_high", 128, 1 << 20, |c, v| c.limits.pong_bytes_high = v as usize),
    number("session.queue_bytes_high", 0, 1 << 30, |c, v| c.limits.queue.bytes_high = v as usize),
    number("session.queue_bytes_max", 1024, 1 << 30, |c, v| c.limits.queue.bytes_max = v as usize),
    number("session.resume_ms", 0, 604_800_000, |c, v| c.limits.resume.stay_ms_max = v),
    number("session.away_max", 0, 100_000_000, |c, v| c.limits.resume.away_max = v as usize),
    number("session.away_queue_bytes_max", 1024, 1 << 30, |c, v| c.limits.resume.away_queue_bytes_max = v as usize),
    number("session.recovery_bytes_max", 1024, 1 << 30, |c, v| c.limits.resume.recovery_bytes_max = v as usize),
    number("session.request_ms_max", 1, 86_400_000, |c, v| c.limits.request_ms_max = v),
    number("session.request_bytes_max", 1024, 1 << 30, |c, v| c.limits.request_bytes_max = v as usize),
    number("session.transmit_bytes_max", 1024, 16 << 20, |c, v| c.limits.transmit_bytes_max = v as usize),
    number("session.socket_send_bytes", 0, 64 << 20, |c, v| c.server.socket_send_bytes = v as usize),
    text("session.geoip_file", 4096, |c, v| c.server.geoip_file = (!v.is_empty()).then(|| v.into())),
    address_or_off("mqtt.listen", |c, v| c.mqtt.listen = v),
    number("mqtt.packet_bytes_max", 64, 268_435_460, |c, v| c.limits.mqtt.packet_bytes_max = v as usize),
    number("mqtt.receive_maximum", 1, 65535, |c, v| c.limits.mqtt.receive_maximum = v as u16),
    number("mqtt.inflight_max", 1, 65535, |c, v| c.limits.mqtt.inflight_max = v as u16),
    number("mqtt.queued_messages_max", 1, 60_000, |c, v| c.limits.mqtt.queued_messages_max = v as usize),
    number("mqtt.held_bytes_max", 1 << 16, 1 << 44, |c, v| c.limits.mqtt.held_bytes_max = v as usize),
    number("mqtt.seen_messages_max", 1, 1_000_000, |c, v| c.limits.mqtt.seen_messages_max = v as usize),
    number("mqtt.topic_alias_maximum", 0, 65535, |c, v| c.limits.mqtt.topic_alias_maximum = v as u16),
    number("mqtt.user_properties_max", 0, 10_000, |c, v| c.limits.mqtt.user_properties_max = v as usize),
    number("mqtt.filters_max", 1, 100_000, |c, v| c.limits.mqtt.filters_max = v as usize),
    number("mqtt.client_id_bytes_max", 23, 65535, |c, v| c.limits.mqtt.client_id_bytes_max = v as usize),
    number("mqtt.session_expiry_max_s", 0, u32::MAX as u64, |c, v| c.limits.mqtt.session_expiry_max_s = v as u32),
    number("mqtt.sessions_max", 0, 10_000_000, |c, v| c.limits.mqtt.sessions_max = v as usize),
    number("mqtt.keep_alive_max_s", 0, 65535, |c, v| c.limits.mqtt.keep_alive_max_s = v as u16),
    number("mqtt.passing_topic_ms", 1000, 86_400_000, |c, v| c.limits.mqtt.passing_topic_ms = v),
    number("mqtt.sys_interval_ms", 0, 3_600_000, |c, v| c.limits.mqtt.sys_interval_ms = v),
    text("mqtt.server_reference", 1024, |c, v| c.limits.mqtt.server_reference = v.into()),
    texts("mqtt.topics", "a list of rules \"BRANCH: TYPE [KEY=VALUE …] [keep]\"", |c, texts| {
        let rules = TopicRules::parse(texts.iter().map(String::as_str)).map_err(|error| error.to_string())?;
        c.limits.mqtt.rules = rules.into();
        Ok(())
    }),
    number("tls.handshakes_max", 1, 10_000_000, |c, v| c.tls.handshakes_max = v as usize),
    number("tls.handshakes_per_address_max", 0, 10_000_000, |c, v| c.tls.handshakes_per_address_max = v as u32),
    path("storage.directory", |c, v| c.storage.directory = v),
    flag("storage.ephemeral", |c, v| c.storage.ephemeral = v),
    name("storage.ack", &Ack::NAMES, |c, v| c.storage.options.ack = Ack::ALL[v]),
    number("storage.segment_bytes", 1 << 20, 1 << 30, |c, v| c.storage.options.segment_bytes = v),
    number("storage.segment_age_ms", 1000, 86_400_000, |c, v| c.storage.options.segment_age_ms = v),
    number("storage.sync_interval_ms", 10, 600_000, |c, v| c.storage.options.sync_interval_ms = v),
    number("storage.retry_ms", 10, 600_000, |c, v| c.storage.options.retry_ms = v),
    number("storage.cache_bytes", 1 << 20, 64 << 30, |c, v| c.storage.options.cache_bytes = v),
    texts("authentication.chain", Authenticator::TAKES, |c, texts| {
        c.authentication.chain = Authenticator::parse_chain(texts)?;
        Ok(())
    }),
    text("authentication.principals_file", 4096, |c, v| c.authentication.principals_file = (!v.is_empty()).then(|| v.into())),
    number("authentication.principals_max", 1, 10_000_000, |c, v| c.limits.principal_limits.principals_max = v as usize),
    number("authentication.principals_bytes_max", 1024, 1 << 30, |c, v| c.limits.principal_limits.text_bytes_max = v as usize),
    number("authentication.trusted_properties_max", 0, 10_000, |c, v| c.limits.principal_limits.properties_max = v as usize),
    number("authentication.script_passwords_max", 1, 1_000_000, |c, v| c.limits.principal_limits.passwords_max = v as usize),
    number("authentication.questions_max", 1, 1_000_000, |c, v| c.authentication.questions_max = v as usize),
    number("authentication.wait_ms", 100, 600_000, |c, v| (c.authentication.wait_ms, c.limits.authentication_ms) = (v, v)),
    number("authentication.credentials_bytes_max", 64, 1 << 20, |c, v| c.authentication.credentials_bytes_max = v as usize),
    number("authentication.address_failures_max", 1, 1_000_000, |c, v| c.authentication.failures.address_max = v as u32),
    number("authentication.address_failures_per_minute", 0, 1_000_000, |c, v| c.authentication.failures.address_per_minute = v as u32),
    number("authentication.principal_failures_max", 1, 1_000_000, |c, v| c.authentication.failures.principal_max = v as u32),
    number("authentication.principal_failures_per_minute", 0, 1_000_000, |c, v| c.authentication.failures.principal_per_minute = v as u32),
    number("authentication.failures_entries_max", 1000, 100_000_000, |c, v| c.authentication.failures.entries_max = v as usize),
    number("authentication.password_memory_kib", 8, 1 << 20, |c, v| c.authentication.passwords.memory_kib = v as u32),
    number("authentication.password_passes", 1, 64, |c, v| c.authentication.passwords.passes = v as u32),
    number("authentication.password_lanes", 1, 16, |c, v| c.authentication.passwords.lanes = v as u32),
    number("authentication.password_threads", 1, 64, |c, v| c.authentication.passwords.threads = v as usize),
    number("authentication.password_waiting_max", 1, 1_000_000, |c, v| c.authentication.passwords.waiting_max = v as usize),
    number("authentication.password_cache_ms", 0, 86_400_000, |c, v| c.authentication.passwords.cache_ms = v),
    number("authentication.password_cache_max", 0, 10_000_000, |c, v| c.authentication.passwords.cache_max = v as usize),
    number("authentication.control_timeout_ms", 10, 600_000, |c, v| c.authentication.control.timeout_ms = v),
    number("authentication.control_waiting_max", 1, 1_000_000, |c, v| c.authentication.control.waiting_max = v as usize),
    name("authentication.control_unavailable", &Unavailable::NAMES, |c, v| c.authentication.control.unavailable = Unavailable::ALL[v]),
    text("jwt.keys", 4096, |c, v| c.authentication.jwt.keys = v),
    text("jwt.secret_file", 4096, |c, v| c.authentication.jwt.secret_file = (!v.is_empty()).then(|| v.into())),
    texts("jwt.algorithms", Jwt::ALGORITHMS_TAKE, |c, texts| {
        c.authentication.jwt.algorithms = Jwt::parse_algorithms(texts)?;
        Ok(())
    }),
    texts("jwt.issuers", "a list of texts", |c, texts| {
        c.authentication.jwt.issuers = texts.to_vec();
        Ok(())
    }),
    texts("jwt.audiences", "a list of texts", |c, texts| {
        c.authentication.jwt.audiences = texts.to_vec();
        Ok(())
    }),
    number("jwt.leeway_s", 0, 3600, |c, v| c.authentication.jwt.leeway_s = v),
    texts("jwt.required", "a list of claims", |c, texts| {
        c.authentication.jwt.required = texts.to_vec();
        Ok(())
    }),
    text("jwt.principal", 1024, |c, v| c.authentication.jwt.principal = v),
    text("jwt.roles", 1024, |c, v| c.authentication.jwt.roles = v),
    texts("jwt.role_map", NameRoles::TAKES, |c, texts| {
        c.authentication.jwt.role_map = NameRoles::parse_all(texts)?;
        Ok(())
    }),
    texts("jwt.properties", Jwt::PROPERTIES_TAKE, |c, texts| {
        c.authentication.jwt.properties = Jwt::parse_properties(texts)?;
        Ok(())
    }),
    number("jwt.refresh_ms", 1000, 604_800_000, |c, v| c.authentication.jwt.refresh_ms = v),
    number("jwt.unknown_key_ms", 100, 86_400_000, |c, v| c.authentication.jwt.unknown_key_ms = v),
    number("jwt.timeout_ms", 10, 600_000, |c, v| c.authentication.jwt.timeout_ms = v),
    text("jwt.ca_file", 4096, |c, v| c.authentication.jwt.ca_file = (!v.is_empty()).then(|| v.into())),
    text("webhook.url", 4096, |c, v| c.authentication.webhook.url = v),
    text("webhook.authorization_file", 4096, |c, v| c.authentication.webhook.authorization_file = (!v.is_empty()).then(|| v.into())),
    text("webhook.ca_file", 4096, |c, v| c.authentication.webhook.ca_file = (!v.is_empty()).then(|| v.into())),
    number("webhook.timeout_ms", 10, 600_000, |c, v| c.authentication.webhook.timeout_ms = v),
    number("webhook.connections", 1, 64, |c, v| c.authentication.webhook.connections = v as usize),
    number("webhook.waiting_max", 1, 1_000_000, |c, v| c.authentication.webhook.waiting_max = v as usize),
    number("webhook.cache_ms", 0, 86_400_000, |c, v| c.authentication.webhook.cache_ms = v),
    number("webhook.cache_max", 0, 10_000_000, |c, v| c.authentication.webhook.cache_max = v as usize),
    number("webhook.breaker_failures", 1, 10_000, |c, v| c.authentication.webhook.breaker_failures = v as usize),
    number("webhook.breaker_window_ms", 10, 3_600_000, |c, v| c.authentication.webhook.breaker_window_ms = v),
    number("webhook.breaker_open_ms", 10, 3_600_000, |c, v| c.authentication.webhook.breaker_open_ms = v),
    name("webhook.unavailable", &Unavailable::NAMES, |c, v| c.authentication.webhook.unavailable = Unavailable::ALL[v]),
    text("security.roles_file", 4096, |c, v| c.security.roles_file = (!v.is_empty()).then(|| v.into())),
    number("security.roles_max", 1, 1_000_000, |c, v| c.security.limits.roles_max = v as usize),
    number("security.paths_max", 1, 10_000_000, |c, v| c.security.limits.paths_max = v as usize),
    number("security.script_bytes_max", 1024, 1 << 30, |c, v| c.security.limits.text_bytes_max = v as usize),
    texts("certificate.roles", NameRoles::TAKES, |c, texts| {
        c.authentication.certificates = NameRoles::parse_all(texts)?;
        Ok(())
    }),
    text("cluster.listen", 256, |c, v| c.cluster.listen = (!v.is_empty()).then(|| v.into())),
    number("cluster.heartbeat_ms", 10, 10_000, |c, v| c.cluster.heartbeat_ms = v),
    number("cluster.election_min_ms", 50, 60_000, |c, v| c.cluster.election_min_ms = v),
    number("cluster.election_max_ms", 60, 120_000, |c, v| c.cluster.election_max_ms = v),
    number("cluster.clock_skew_max_ms", 100, 86_400_000, |c, v| c.cluster.clock_skew_max_ms = v),
    number("cluster.leader_patience_ms", 100, 600_000, |c, v| c.limits.leader_patience_ms = v),
    number("cluster.stale_after_ms", 500, 600_000, |c, v| c.cluster.stale_after_ms = v),
    name("cluster.minority", &["serve", "close"], |c, v| c.limits.closes_stale = v == 1),
    number("cluster.proposed_bytes_max", 1 << 16, 1 << 30, |c, v| c.limits.proposed_bytes_max = v as usize),
    text("audit.file", 4096, |c, v| c.audit.file = (!v.is_empty()).then(|| v.into())),
    name("log.level", &LogLevel::NAMES, |c, v| c.log.level = LogLevel::ALL[v]),
    name("log.format", &LogFormat::NAMES, |c, v| c.log.format = LogFormat::ALL[v]),
];

/// What may be listened at unless the operator wants otherwise.
pub fn only_loopback(port: u16) -> String {
    format!(
        "a loopback address such as 127.0.0.1:{port} or [::1]:{port}, as nobody is asked who clients are: \
         authentication.chain is empty"
    )
}

/// The keys of some settings.
pub fn names_of(settings: &[Setting]) -> impl Iterator<Item = &'static str> {
    settings.iter().map(|setting| setting.key)
}

pub fn find(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

impl Setting {
    /// The environment variable that sets this key.
    pub fn variable(&self) -> String {
        format!("TIDEWIRE_{}", self.key.replace('.', "_").to_uppercase())
    }

    /// The least and the most that a number may be.
    #[cfg(test)]
    pub fn range(&self) -> Option<(u64, u64)> {
        match self.takes {
            Takes::Number { min, max, .. } => Some((min, max)),
            _ => None,
        }
    }

    /// Reads `text` the way this setting is written where there are no types: in the
    /// environment and in flags. Text that cannot be read stays text.
    pub fn read_text(&self, text: &str) -> Given {
        let read = match self.takes {
            Takes::Number { .. } => number_of(text).map(Given::Number),
            Takes::Flag(_) => text.parse().ok().map(Given::Flag),
            Takes::Cores(_) if text.trim().is_empty() => Some(Given::Numbers(Vec::new())),
            Takes::Cores(_) => text.split(',').map(number_of).collect::<Option<_>>().map(Given::Numbers),
            Takes::Texts { .. } => {
                Some(Given::Texts(text.split(';').map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned).collect()))
            }
            Takes::Address(_) | Takes::AddressOrOff(_) | Takes::Text { .. } | Takes::Name { .. } | Takes::Path(_) => None,
        };
        read.unwrap_or_else(|| Given::Text(text.to_owned()))
    }

    /// Puts `given` into its place in `config`, or says what is allowed instead.
    pub fn apply(&self, config: &mut Config, given: &Given) -> Result<(), String> {
        if let (Takes::Texts { put, .. }, Some(texts)) = (&self.takes, given.texts()) {
            return put(config, texts).map_err(|wrong| format!("{}; {wrong}", self.allowed()));
        }
        self.put(config, given).ok_or_else(|| self.allowed())
    }

    fn put(&self, config: &mut Config, given: &Given) -> Option<()> {
        match (&self.takes, given) {
            (Takes::Number { min, max, put }, Given::Number(number)) => {
                let number = u64::try_from(*number).ok().filter(|n| (*min..=*max).contains(n))?;
                put(config, number);
            }
            (Takes::Flag(put), Given::Flag(flag)) => put(config, *flag),
            (Takes::Address(put), Given::Text(text)) => put(config, text.parse().ok()?),
            (Takes::AddressOrOff(put), Given::Text(text)) if text == OFF => put(config, None),
            (Takes::AddressOrOff(put), Given::Text(text)) => put(config, Some(text.parse().ok()?)),
            (Takes::Text { bytes_max, put }, Given::Text(text)) if text.len() <= *bytes_max && !text.contains('\0') => {
                put(config, text.clone())
            }
            (Takes::Cores(put), Given::Numbers(numbers)) => {
                let cores = numbers.iter().map(|n| usize::try_from(*n).ok()).collect::<Option<Vec<_>>>()?;
                put(config, cores);
            }
            (Takes::Name { names, put }, Given::Text(text)) => {
                put(config, names.iter().position(|name| name == text)?);
            }
            (Takes::Path(put), Given::Text(text)) if !text.is_empty() => put(config, PathBuf::from(text)),
            _ => return None,
        }
        Some(())
    }

    /// What this setting takes, in words that `default.toml` uses too.
    pub fn allowed(&self) -> String {
        match self.takes {
            Takes::Number { min, max, .. } => format!("{min} to {max}"),
            Takes::Flag(_) => "true or false".to_owned(),
            Takes::Address(_) => "ADDR:PORT".to_owned(),
            Takes::AddressOrOff(_) => format!("ADDR:PORT or {OFF}"),
            Takes::Text { bytes_max, .. } => format!("a text of at most {bytes_max} bytes"),
            Takes::Texts { takes, .. } => takes.to_owned(),
            Takes::Cores(_) => "a list of different cores of this host".to_owned(),
            Takes::Name { names, .. } => names.join(", "),
            Takes::Path(_) => "a directory's path".to_owned(),
        }
    }
}

fn number_of(text: &str) -> Option<i64> {
    text.trim().replace('_', "").parse().ok()
}

const fn number(key: &'static str, min: u64, max: u64, put: fn(&mut Config, u64)) -> Setting {
    Setting { key, takes: Takes::Number { min, max, put } }
}

pub(super) const fn flag(key: &'static str, put: fn(&mut Config, bool)) -> Setting {
    Setting { key, takes: Takes::Flag(put) }
}

pub(super) const fn address(key: &'static str, put: fn(&mut Config, SocketAddr)) -> Setting {
    Setting { key, takes: Takes::Address(put) }
}

const fn address_or_off(key: &'static str, put: fn(&mut Config, Option<SocketAddr>)) -> Setting {
    Setting { key, takes: Takes::AddressOrOff(put) }
}

pub(super) const fn text(key: &'static str, bytes_max: usize, put: fn(&mut Config, String)) -> Setting {
    Setting { key, takes: Takes::Text { bytes_max, put } }
}

pub(super) const fn texts(key: &'static str, takes: &'static str, put: fn(&mut Config, &[String]) -> Result<(), String>) -> Setting {
    Setting { key, takes: Takes::Texts { takes, put } }
}

const fn cores(key: &'static str, put: fn(&mut Config, Vec<usize>)) -> Setting {
    Setting { key, takes: Takes::Cores(put) }
}

const fn path(key: &'static str, put: fn(&mut Config, PathBuf)) -> Setting {
    Setting { key, takes: Takes::Path(put) }
}

pub(super) const fn name(key: &'static str, names: &'static [&'static str], put: fn(&mut Config, usize)) -> Setting {
    Setting { key, takes: Takes::Name { names, put } }
}
