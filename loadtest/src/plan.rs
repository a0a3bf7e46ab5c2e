//! A run as meant: every number checked, every unit resolved.

use crate::clock::{MILLISECOND_NS, SECOND_NS};
use crate::dialect::{Dialect, Removal, centrifugo, mqtt};
use crate::failure::Failure;
use crate::flags::{DialectFlag, Flags, MqttVersionFlag};
use crate::login::Login;
use crate::payload::Payload;
use crate::secure::Trust;
use std::net::{SocketAddr, ToSocketAddrs};
use tidewire::surface::value::ValueType;

/// A validated scenario. `flags` is what it was made from, for the report.
#[derive(Clone, Debug)]
pub struct Plan {
    pub flags: Flags,
    /// The servers, at least one: connections are spread over them.
    pub targets: Vec<Target>,
    /// The servers of publishers.
    pub publish_targets: Vec<Target>,
    pub login: Login,
    pub dialect: Dialect,
    pub value_type: ValueType,
    /// Every update is to be answered.
    pub acknowledged: bool,
    pub fan_out: usize,
    pub duration_ns: u64,
    pub warmup_ns: u64,
    pub drain_ns: u64,
    pub ramp_per_second: f64,
    pub p99_max_ns: Option<u64>,
    pub root: String,
}

/// Where the server is.
#[derive(Clone, Debug)]
pub struct Target {
    pub address: SocketAddr,
    pub authority: String,
    pub transport: Transport,
    /// There for TLS.
    pub trust: Option<Trust>,
}

/// What carries the protocol's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    WebSocket { path: String },
    Tcp,
}

/// Streams are kept as one table of subscribers by topics.
const STREAMS_MAX: usize = 64 << 20;
/// Files that are not connections: the poll, the timer, standard streams, reports.
const FILES_RESERVED: u64 = 32;
/// Schemes, whether they mean MQTT over TCP, and whether they mean TLS; and the ports where none is named.
const SCHEMES: [(&str, bool, bool, u16); 4] =
    [("ws://", false, false, 80), ("wss://", false, true, 443), ("mqtt://", true, false, 1883), ("mqtts://", true, true, 8883)];
/// Within MQTT's 65,535 bytes; leaves room for a topic's number.
const PATH_BYTES_MAX: usize = 65_000;

impl Plan {
    /// `files_max` is how many files this process may open.
    pub fn new(flags: Flags, files_max: u64) -> Result<Self, Failure> {
        let dialect = dialect(&flags)?;
        let value_type = value_type(&flags, dialect)?;
        check_counts(&flags, files_max)?;
        let fan_out = flags.fan_out.unwrap_or(flags.subscribers);
        if fan_out > flags.subscribers {
            return wrong(format!("--fan-out {fan_out} is more than there are subscribers ({})", flags.subscribers));
        }
        check_rates(&flags)?;
        let root = flags.root.clone().unwrap_or_else(|| format!("load/{}", std::process::id()));
        check_root(&root, dialect)?;
        if flags.publishers == 0 && flags.root.is_none() {
            return wrong("--publishers 0 needs --root: the path below which the other process publishes".to_owned());
        }
        let p99_max_ns = flags.p99_max.as_deref().map(|text| duration_ns("--p99-max", text)).transpose()?;
        Ok(Self {
            targets: flags.url.iter().map(|url| target(url, &flags, dialect)).collect::<Result<_, _>>()?,
            publish_targets: publish_urls(&flags).iter().map(|url| target(url, &flags, dialect)).collect::<Result<_, _>>()?,
            login: login(&flags, dialect)?,
            dialect,
            acknowledged: flags.acknowledged || dialect.answers_updates(),
            value_type,
            fan_out,
            duration_ns: at_least_a_second_part(duration_ns("--duration", &flags.duration)?)?,
            warmup_ns: duration_ns("--warmup", &flags.warmup)?,
            drain_ns: duration_ns("--drain", &flags.drain)?,
            ramp_per_second: per_second("--ramp", &flags.ramp)?,
            p99_max_ns,
            root,
            flags,
        })
    }

    /// What connection number `index` calls itself. MQTT's clients need a name each, of at most 23 letters and digits.
    pub fn client_name(&self, index: usize) -> String {
        match self.dialect {
            Dialect::Native | Dialect::Json | Dialect::Centrifugo => "tidewire-loadtest".to_owned(),
            Dialect::Mqtt(_) => format!("load{}c{index}", std::process::id()),
        }
    }

    pub fn topic_path(&self, topic: usize) -> String {
        format!("{}/{topic}", self.root)
    }

    /// The topic of an idle connection, which never changes. It stands beside the root, so that what selects the root's
    /// topics does not select it.
    pub fn idle_path(&self, number: usize) -> String {
        if self.flags.idle_topics { format!("{}-idle/{number}", self.root) } else { format!("{}-idle", self.root) }
    }

    /// All topics of idle connections.
    pub fn idle_paths(&self) -> impl Iterator<Item = String> {
        let count = if self.flags.idle_topics { self.flags.idle } else { self.flags.idle.min(1) };
        (0..count).map(|number| self.idle_path(number))
    }

    /// Whether a subscriber has a topic. Topics are dealt out in turn, so that every topic has
    /// `fan_out` subscribers and subscribers have about equally many topics.
    pub fn is_subscribed(&self, subscriber: usize, topic: usize) -> bool {
        let count = self.flags.subscribers;
        let first = (topic % count) * (self.fan_out % count) % count;
        (subscriber + count - first) % count < self.fan_out
    }

    /// What a subscriber subscribes to: one selector for all topics, or one path for each.
    pub fn selectors(&self, subscriber: usize) -> Vec<String> {
        if self.fan_out < self.flags.subscribers {
            let topics = (0..self.flags.topics).filter(|topic| self.is_subscribed(subscriber, *topic));
            return topics.map(|topic| self.topic_path(topic)).collect();
        }
        self.all_topics()
    }

    pub fn all_topics(&self) -> Vec<String> {
        match self.dialect.selector_below(&self.root) {
            Some(selector) if self.flags.topics > 1 => vec![selector],
            _ => self.paths(),
        }
    }

    fn paths(&self) -> Vec<String> {
        (0..self.flags.topics).map(|topic| self.topic_path(topic)).collect()
    }

    /// What to remove at the end: whole selections where the protocol can.
    pub fn removals(&self) -> Vec<String> {
        let mut removals = match self.dialect.removal() {
            Removal::Selection if self.flags.idle_topics => {
                let idle = self.dialect.selector_below(&format!("{}-idle", self.root));
                return self.all_topics().into_iter().chain(idle).collect();
            }
            Removal::Selection => self.all_topics(),
            Removal::Topic => self.paths(),
            Removal::Nothing => return Vec::new(),
        };
        removals.extend(self.idle_paths());
        removals
    }

    /// The server of the connection with this number.
    pub fn target(&self, is_publisher: bool, number: usize) -> &Target {
        let targets = if is_publisher { &self.publish_targets } else { &self.targets };
        &targets[number % targets.len()]
    }

    pub fn connections(&self) -> usize {
        self.flags.publishers + self.flags.subscribers + self.flags.idle + self.flags.stalled
    }
}

fn wrong<T>(text: String) -> Result<T, Failure> {
    Err(Failure::Plan(text))
}

fn dialect(flags: &Flags) -> Result<Dialect, Failure> {
    let by_url = if flags.url.iter().any(|url| url.starts_with("mqtt")) { DialectFlag::Mqtt } else { DialectFlag::Native };
    let chosen = flags.dialect.unwrap_or(by_url);
    if flags.deltas && !matches!(chosen, DialectFlag::Native) {
        return wrong("--deltas: only --dialect native has them".to_owned());
    }
    if !matches!(chosen, DialectFlag::Mqtt) && (flags.qos > 0 || flags.retain || flags.mqtt_version.is_some()) {
        return wrong("--qos, --retain and --mqtt-version need --dialect mqtt".to_owned());
    }
    match chosen {
        DialectFlag::Native => Ok(Dialect::Native),
        DialectFlag::Json => Ok(Dialect::Json),
        DialectFlag::Centrifugo => Ok(Dialect::Centrifugo),
        DialectFlag::Mqtt => mqtt_dialect(flags),
    }
}

fn mqtt_dialect(flags: &Flags) -> Result<Dialect, Failure> {
    if flags.acknowledged && flags.qos == 0 {
        return wrong("--acknowledged: MQTT answers updates with --qos 1 and 2 only".to_owned());
    }
    Ok(Dialect::Mqtt(mqtt::Options {
        version: match flags.mqtt_version {
            Some(MqttVersionFlag::V5) => mqtt::Version::V5,
            _ => mqtt::Version::V3_1_1,
        },
        qos: match flags.qos {
            0 => mqtt::Qos::AtMostOnce,
            1 => mqtt::Qos::AtLeastOnce,
            _ => mqtt::Qos::ExactlyOnce,
        },
        updates: if flags.retain { mqtt::Updates::Retained } else { mqtt::Updates::Passing },
    }))
}

fn login(flags: &Flags, dialect: Dialect) -> Result<Login, Failure> {
    let login = flags.login.read().map_err(Failure::Plan)?;
    if dialect == Dialect::Centrifugo && !login.principal.is_empty() {
        return wrong("--principal: Centrifugo knows no passwords".to_owned());
    }
    if login.principal.len().max(login.password.len()) > PATH_BYTES_MAX {
        return wrong(format!("--principal, --password-file: expected at most {PATH_BYTES_MAX} bytes each"));
    }
    Ok(login)
}

fn check_root(root: &str, dialect: Dialect) -> Result<(), Failure> {
    let is_channel_character = |one: char| one.is_ascii_alphanumeric() || centrifugo::CHANNEL_CHARACTERS.contains(one);
    match dialect {
        Dialect::Mqtt(_) if root.contains(['#', '+', '\0']) || !(1..=PATH_BYTES_MAX).contains(&root.len()) => {
            wrong(format!("--root {root}: expected the name of an MQTT topic of at most {PATH_BYTES_MAX} bytes"))
        }
        Dialect::Json if root.contains(['"', '\\']) || root.contains(char::is_control) => {
            wrong(format!("--root {root}: expected a path that stands in JSON without escapes"))
        }
        Dialect::Centrifugo if !root.chars().all(is_channel_character) || !(1..=centrifugo::CHANNEL_BYTES_MAX).contains(&root.len()) => {
            wrong(format!(
                "--root {root}: expected at most {} letters, digits and {}",
                centrifugo::CHANNEL_BYTES_MAX,
                centrifugo::CHANNEL_CHARACTERS
            ))
        }
        _ => Ok(()),
    }
}

fn value_type(flags: &Flags, dialect: Dialect) -> Result<ValueType, Failure> {
    let name = flags.value_type.as_deref().unwrap_or(if dialect.is_text() { "json" } else { "binary" });
    let Some((value_type, min)) = ValueType::from_name(name).and_then(|found| Some((found, Payload::size_min(found)?))) else {
        return wrong(format!("--type {name}: expected binary, json or string"));
    };
    if dialect.is_text() && value_type != ValueType::Json {
        return wrong(format!("--type {name}: expected json, as {} carries values as JSON", dialect.name()));
    }
    if flags.payload < min || flags.payload > 16 << 20 {
        return wrong(format!("--payload {}: expected {min} to 16777216 bytes for {}", flags.payload, value_type.name()));
    }
    Ok(value_type)
}

fn check_counts(flags: &Flags, files_max: u64) -> Result<(), Failure> {
    if flags.topics == 0 {
        return wrong("--topics 0: expected at least 1".to_owned());
    }
    if flags.sources == 0 {
        return wrong("--sources 0: expected at least 1".to_owned());
    }
    if flags.publishers > flags.topics {
        return wrong(format!(
            "--publishers {} is more than --topics {}: a topic has one publisher, or its updates would have no order",
            flags.publishers, flags.topics
        ));
    }
    let counts = [flags.publishers, flags.subscribers, flags.idle, flags.stalled];
    let connections = counts.iter().fold(0u64, |sum, count| sum.saturating_add(*count as u64));
    if connections == 0 {
        return wrong("nothing to do: no publishers, subscribers, idle or stalled connections".to_owned());
    }
    if connections.saturating_add(FILES_RESERVED) > files_max {
        return wrong(format!(
            "{connections} connections need {} open files; this process may open {files_max} (ulimit -n)",
            connections.saturating_add(FILES_RESERVED)
        ));
    }
    if flags.subscribers.saturating_mul(flags.topics) > STREAMS_MAX {
        return wrong(format!("--subscribers × --topics: expected at most {STREAMS_MAX}"));
    }
    Ok(())
}

fn check_rates(flags: &Flags) -> Result<(), Failure> {
    if !(flags.rate > 0.0 && flags.rate * flags.topics as f64 <= 1e8) {
        return wrong(format!("--rate {}: expected more than 0, and at most 1e8 updates a second over all topics", flags.rate));
    }
    if flags.find_max && flags.publishers == 0 {
        return wrong("--find-max needs publishers of its own".to_owned());
    }
    if flags.find_max && !(flags.step > 1.0 && flags.step <= 10.0) {
        return wrong(format!("--step {}: expected more than 1 and at most 10", flags.step));
    }
    Ok(())
}

fn at_least_a_second_part(duration_ns: u64) -> Result<u64, Failure> {
    if duration_ns < 10 * MILLISECOND_NS {
        return wrong("--duration: expected at least 10ms".to_owned());
    }
    Ok(duration_ns)
}

/// `1.5s`, `200ms`, `300us`, `2m`, or `10` for seconds.
fn duration_ns(flag: &str, text: &str) -> Result<u64, Failure> {
    let units = [("ms", MILLISECOND_NS), ("us", 1000), ("µs", 1000), ("s", SECOND_NS), ("m", 60 * SECOND_NS), ("h", 3600 * SECOND_NS)];
    let parts = units.iter().find_map(|(unit, ns)| Some((text.strip_suffix(unit)?, *ns)));
    let (number, unit_ns) = parts.unwrap_or((text, SECOND_NS));
    match number.trim().parse::<f64>() {
        Ok(number) if (0.0..=1e7).contains(&number) => Ok((number * unit_ns as f64) as u64),
        _ => wrong(format!("{flag} {text}: expected a duration such as 500ms, 10s or 5m")),
    }
}

fn per_second(flag: &str, text: &str) -> Result<f64, Failure> {
    match text.strip_suffix("/s").unwrap_or(text).trim().parse::<f64>() {
        Ok(number) if number > 0.0 && number <= 1e7 => Ok(number),
        _ => wrong(format!("{flag} {text}: expected a number a second such as 2000/s")),
    }
}

fn publish_urls(flags: &Flags) -> &[String] {
    if flags.publish_url.is_empty() { &flags.url } else { &flags.publish_url }
}

fn target(url: &str, flags: &Flags, dialect: Dialect) -> Result<Target, Failure> {
    let known = SCHEMES.iter().find_map(|scheme| Some((url.strip_prefix(scheme.0)?, scheme)));
    let (rest, is_tcp, is_secure, port) = match known {
        Some((rest, (_, is_tcp, is_secure, port))) if !is_tcp || matches!(dialect, Dialect::Mqtt(_)) => (rest, *is_tcp, *is_secure, *port),
        Some(_) => return wrong(format!("--url {url}: this dialect goes over ws://host:port")),
        None => return wrong(format!("--url {url}: expected ws://host:port or mqtt://host:port, or wss:// or mqtts:// for TLS")),
    };
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    if is_tcp && path.len() > 1 {
        return wrong(format!("--url {url}: MQTT over TCP has no path"));
    }
    let path = if path.len() <= 1 { dialect.default_path() } else { path };
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let named = if has_port { authority.to_owned() } else { format!("{authority}:{port}") };
    let transport = if is_tcp { Transport::Tcp } else { Transport::WebSocket { path: path.to_owned() } };
    match named.to_socket_addrs().ok().and_then(|mut addresses| addresses.next()) {
        Some(address) => Ok(Target { address, authority: authority.to_owned(), transport, trust: trust(flags, is_secure, &named)? }),
        None => wrong(format!("--url {url}: {authority} is not a host and port that resolve")),
    }
}

fn trust(flags: &Flags, is_secure: bool, named: &str) -> Result<Option<Trust>, Failure> {
    let shown = flags.client_cert.as_deref().zip(flags.client_key.as_deref());
    match (&flags.ca, is_secure) {
        (None, false) => Ok(None),
        (Some(_), false) => wrong("--ca: only where --url has wss:// or mqtts://".to_owned()),
        (None, true) => wrong("--ca: TLS needs the file of who signs the server's certificate".to_owned()),
        (Some(ca), true) => {
            let host = named.rsplit_once(':').map_or(named, |(host, _)| host).trim_matches(['[', ']']);
            Trust::new(host, ca, shown).map(Some).or_else(|what| wrong(format!("--ca, --client-cert, --client-key: {what}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn plan(arguments: &str) -> Result<Plan, Failure> {
        let words = std::iter::once("loadtest").chain(arguments.split_whitespace());
        Plan::new(Flags::try_parse_from(words).unwrap(), 20_000)
    }

    fn check_wrong(arguments: &str, said: &str) {
        let failure = plan(arguments).unwrap_err();
        assert_eq!(failure.exit_code(), 2);
        assert!(failure.to_string().contains(said), "{arguments}: {failure}");
    }

    #[test]
    fn the_defaults_are_a_plan() {
        let plan = plan("").unwrap();
        assert_eq!(plan.fan_out, 1000);
        assert_eq!(plan.duration_ns, 10 * SECOND_NS);
        assert_eq!(plan.dialect, Dialect::Native);
        assert_eq!(plan.targets[0].transport, Transport::WebSocket { path: "/tidewire".to_owned() });
    }

    #[test]
    fn the_url_chooses_dialect_and_transport() {
        let tcp = plan("--url mqtt://127.0.0.1 --topics 3 --root load/x").unwrap();
        assert_eq!((tcp.dialect.name(), &tcp.targets[0].transport, tcp.targets[0].address.port()), ("mqtt 3.1.1", &Transport::Tcp, 1883));
        assert_eq!(tcp.selectors(0), ["load/x/+"]);
        assert_eq!(tcp.removals(), ["load/x/0", "load/x/1", "load/x/2"]);
        assert!(!tcp.acknowledged);
        let websocket = plan("--url ws://127.0.0.1:1 --dialect mqtt --mqtt-version 5 --qos 1").unwrap();
        assert_eq!(websocket.targets[0].transport, Transport::WebSocket { path: "/mqtt".to_owned() });
        assert_eq!(websocket.dialect.name(), "mqtt 5");
        assert!(websocket.acknowledged);
    }

    #[test]
    fn dialects_in_json_have_values_in_json() {
        let json = plan("--url ws://127.0.0.1:1 --dialect json --topics 3 --root load/x").unwrap();
        assert_eq!((json.dialect.name(), json.value_type), ("tidewire.1.json", ValueType::Json));
        assert_eq!(json.targets[0].transport, Transport::WebSocket { path: "/tidewire".to_owned() });
        assert_eq!((json.selectors(0), json.removals()), (vec!["?load/x//".to_owned()], vec!["?load/x//".to_owned()]));
        let channels = plan("--url ws://127.0.0.1:1 --dialect centrifugo --topics 3 --root load/x --idle 1").unwrap();
        assert_eq!(channels.targets[0].transport, Transport::WebSocket { path: "/connection/websocket".to_owned() });
        assert_eq!(channels.selectors(0), ["load/x/0", "load/x/1", "load/x/2"]);
        assert_eq!(channels.removals(), [""; 0]);
        assert!(channels.acknowledged && !json.acknowledged);
    }

    #[test]
    fn wrong_flags_are_named() {
        check_wrong("--url http://127.0.0.1:1", "expected ws://");
        check_wrong("--url mqtt://127.0.0.1:1 --dialect native", "ws://host:port");
        check_wrong("--url wss://127.0.0.1:1", "--ca");
        check_wrong("--url mqtts://127.0.0.1:1 --ca /none", "/none");
        check_wrong("--ca /none", "wss://");
        check_wrong("--url mqtt://127.0.0.1:1/mqtt", "no path");
        check_wrong("--url mqtt://127.0.0.1:1 --root a/#", "--root a/#");
        check_wrong("--url mqtt://127.0.0.1:1 --deltas", "--deltas");
        check_wrong("--url mqtt://127.0.0.1:1 --acknowledged", "--qos");
        check_wrong("--qos 1", "--dialect mqtt");
        check_wrong("--dialect json --retain", "--dialect mqtt");
        check_wrong("--dialect json --deltas", "--deltas");
        check_wrong("--dialect json --type binary", "expected json");
        check_wrong("--dialect json --root a\"b", "without escapes");
        check_wrong("--dialect centrifugo --root a:b", "letters, digits");
        check_wrong("--url mqtt://127.0.0.1:1 --dialect centrifugo", "ws://host:port");
        check_wrong("--principal ann --password-file /none", "--password-file /none");
        check_wrong("--duration soon", "--duration soon");
        check_wrong("--payload 15", "expected 16");
        check_wrong("--type int64", "expected binary, json or string");
        check_wrong("--publishers 2", "more than --topics 1");
        check_wrong("--subscribers 10 --fan-out 11", "more than there are subscribers");
        check_wrong("--idle 19000", "open files");
        check_wrong("--rate 0", "--rate 0");
        check_wrong("--ramp fast", "--ramp fast");
        check_wrong("--publishers 0", "--root");
        check_wrong("--subscribers 0 --publishers 0 --root load/x", "nothing to do");
    }

    #[test]
    fn durations_have_units() {
        for (text, ns) in
            [("1.5s", 1_500_000_000), ("200ms", 200_000_000), ("300us", 300_000), ("2m", 120 * SECOND_NS), ("3", 3 * SECOND_NS)]
        {
            assert_eq!(duration_ns("--x", text).unwrap(), ns, "{text}");
        }
    }

    #[test]
    fn every_topic_has_its_fan_out_and_subscribers_share_them() {
        let plan = plan("--topics 20 --subscribers 10 --fan-out 3").unwrap();
        for topic in 0..20 {
            assert_eq!((0..10).filter(|subscriber| plan.is_subscribed(*subscriber, topic)).count(), 3);
        }
        for subscriber in 0..10 {
            assert_eq!(plan.selectors(subscriber).len(), 6);
        }
    }

    #[test]
    fn all_topics_are_one_selection() {
        assert_eq!(plan("--topics 5 --root load/x").unwrap().selectors(0), ["?load/x//"]);
        assert_eq!(plan("--root load/x").unwrap().selectors(0), ["load/x/0"]);
    }
}
