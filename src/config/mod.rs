//! The configuration: as written in a file, the environment and flags, and as meant.
//!
//! `default.toml` is the reference: every key, its default, its cost. Flags win over the
//! environment, which wins over the file. What is wrong is refused whole, with the
//! place, the key, the value and what is allowed; an unknown key is wrong.

mod authentication;
mod cluster;
mod error;
mod file;
mod listener;
mod settings;
#[cfg(test)]
mod tests;

use crate::desk::Limits;
use crate::storage::Options;
use crate::wire::origin::{Hosts, WebRules};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::security::SecurityLimits;
pub use authentication::{
    Authentication, Authenticator, Control, Jwt, NameRoles, Passwords as PasswordSettings, Unavailable, Webhook as WebhookSettings, is_url,
};
pub use cluster::Cluster;
use error::nearest;
pub use error::{ConfigError, EXIT_CODE, Origin};
use file::{Entry, Of};
pub use listener::{Listener, Protocol};
use settings::{Given, SETTINGS, Setting};

/// The commented reference, which `tidewire config default` prints.
pub const REFERENCE: &str = include_str!("default.toml");

/// Where a service manager wants state to be kept.
const STATE_DIRECTORY: &str = "STATE_DIRECTORY";

/// Where secrets may be sent.
const SAFE_URL: &str = "a URL of https, or of http on this host";

/// What a frame needs beside a path and a value: its header, ids, lengths.
const FRAME_BYTES_RESERVED: usize = 1024;

/// The configuration as meant: complete, and checked. `default.toml` says what each means.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    pub server: Server,
    /// As for one shard that has everything.
    pub limits: Limits,
    pub mqtt: Mqtt,
    pub tls: Tls,
    /// Beside `server.listen` and `mqtt.listen`.
    pub listeners: Vec<Listener>,
    pub storage: Storage,
    pub authentication: Authentication,
    pub security: Security,
    pub cluster: Cluster,
    pub audit: Audit,
    pub log: Log,
}

/// Where it is noted who did what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// `None`: nowhere.
    pub file: Option<PathBuf>,
}

/// What roles permit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Security {
    /// A script that says it, where nothing is stored.
    pub roles_file: Option<PathBuf>,
    pub limits: SecurityLimits,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// `None`: only where a listener is.
    pub listen: Option<SocketAddr>,
    /// Everybody may do everything, from this host only.
    pub dev: bool,
    pub shards: usize,
    pub cores: Vec<usize>,
    pub spin_before_park_us: u64,
    pub shutdown_drain_ms: u64,
    /// Of one address, or one network of IPv6; 0: no bound.
    pub connections_per_address_max: u32,
    pub socket_send_bytes: usize,
    pub geoip_file: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mqtt {
    /// `None`: only where a listener is; without one there is no MQTT, on the common port neither.
    pub listen: Option<SocketAddr>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// As for one shard.
    pub handshakes_max: usize,
    /// Of one address; 0: no bound.
    pub handshakes_per_address_max: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    pub directory: PathBuf,
    pub ephemeral: bool,
    /// As for one shard.
    pub options: Options,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    pub level: LogLevel,
    pub format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    pub const ALL: [Self; 5] = [Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];
    /// The names in the file, in the order of `ALL`.
    pub const NAMES: [&str; 5] = ["error", "warn", "info", "debug", "trace"];
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

impl LogFormat {
    pub const ALL: [Self; 2] = [Self::Text, Self::Json];
    /// The names in the file, in the order of `ALL`.
    pub const NAMES: [&str; 2] = ["text", "json"];
}

/// What the flags of `tidewire serve` say, as they were typed.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    pub dev: bool,
    pub listen: Option<String>,
    pub mqtt: Option<String>,
    pub shards: Option<String>,
    pub cores: Option<String>,
    pub data: Option<String>,
    pub ephemeral: bool,
}

/// The configuration of a server that starts on this host.
pub fn load(file: Option<&Path>, environment: impl Iterator<Item = (String, String)>, overrides: Overrides) -> Result<Config, ConfigError> {
    let mut draft = Draft::default();
    if let Some(path) = file {
        let name = path.display().to_string();
        let text =
            std::fs::read_to_string(path).map_err(|error| ConfigError::Unreadable { name: name.clone(), reason: error.to_string() })?;
        draft.take_file(&text, &name)?;
    }
    let mut environment: Vec<(String, String)> = environment.collect();
    let state_directory = environment.iter().position(|(name, _)| name == STATE_DIRECTORY).map(|at| environment.swap_remove(at).1);
    draft.take_environment(environment.into_iter())?;
    draft.take_overrides(overrides)?;
    draft.take_state_directory(state_directory.as_deref());
    draft.settle()?;
    draft.check_cores_exist(&usable_cores())?;
    Ok(draft.config)
}

/// Checks a file's text alone. Whether its cores exist is left to `load`, because a file
/// may be checked on another machine than the one that it is for.
pub fn check_text(text: &str, name: &str) -> Result<Config, ConfigError> {
    let mut draft = Draft::default();
    draft.take_file(text, name)?;
    draft.settle()?;
    Ok(draft.config)
}

/// The environment of this process, without what is not UTF-8.
pub fn process_environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// The cores that this process may run on, in ascending order.
pub fn usable_cores() -> Vec<usize> {
    let mut cores: Vec<usize> = core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect();
    cores.sort_unstable();
    cores
}

impl Config {
    /// The core of each shard, of which there are as many as cores. More shards than
    /// `usable` cores share them in turn.
    pub fn placement(&self, usable: &[usize]) -> Vec<usize> {
        let cores = if self.server.cores.is_empty() { usable } else { &self.server.cores };
        let shards = if self.server.shards == 0 { cores.len() } else { self.server.shards };
        cores.iter().copied().cycle().take(shards).collect()
    }

    /// All places that the server listens at, those of the short forms first.
    pub fn all_listeners(&self) -> Vec<Listener> {
        let http = self.server.listen.map(|address| Listener::plain("http", Protocol::Http, address));
        let mqtt = self.mqtt.listen.map(|address| Listener::plain("mqtt", Protocol::Mqtt, address));
        http.into_iter().chain(mqtt).chain(self.listeners.iter().cloned()).collect()
    }

    /// Whether clients of MQTT may connect anywhere.
    pub fn has_mqtt(&self) -> bool {
        self.all_listeners().iter().any(|listener| listener.protocol == Protocol::Mqtt)
    }

    /// Which names the server has at a listener, whose pages may ask, and whose word on others counts. Where other hosts reach it, it has any name unless some
    /// are listed.
    pub fn web(&self, listener: &Listener) -> WebRules {
        let hosts = listener.hosts.as_ref().unwrap_or(&self.limits.web.hosts).clone();
        let origins = listener.origins.as_ref().unwrap_or(&self.limits.web.origins).clone();
        let has_any = hosts.is_empty() && !is_loopback(&listener.address);
        WebRules { hosts: if has_any { Hosts::Any } else { hosts }, origins, proxies: listener.trusted_proxies.clone() }
    }

    /// Other hosts reach only a server whose clients are asked who they are.
    fn may_listen_at(&self, address: &SocketAddr) -> bool {
        is_loopback(address) || !self.authentication.chain.is_empty()
    }

    /// Who can reach the server, for the line it prints when it starts.
    pub fn exposure(&self) -> &'static str {
        if self.all_listeners().iter().all(|listener| is_loopback(&listener.address)) {
            if self.authentication.chain.is_empty() {
                "reachable from this host only, where everybody may do everything: nobody is asked who clients are"
            } else {
                "reachable from this host only; clients are asked who they are, and do what their roles permit"
            }
        } else {
            "reachable from other hosts; clients are asked who they are, and do what their roles permit"
        }
    }
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 8080))),
            dev: false,
            shards: 0,
            cores: Vec::new(),
            spin_before_park_us: 0,
            shutdown_drain_ms: 5000,
            connections_per_address_max: 10_000,
            socket_send_bytes: 128 << 10,
            geoip_file: None,
        }
    }
}

impl Default for Mqtt {
    fn default() -> Self {
        Self { listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 1883))) }
    }
}

impl Default for Tls {
    fn default() -> Self {
        Self { handshakes_max: 10_000, handshakes_per_address_max: 1000 }
    }
}

impl Default for Storage {
    fn default() -> Self {
        Self { directory: PathBuf::from("tidewire-data"), ephemeral: false, options: Options::default() }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: LogLevel::Info, format: LogFormat::Text }
    }
}

/// A configuration under way: what was taken so far, and where each key was set last.
#[derive(Default)]
struct Draft {
    config: Config,
    places: BTreeMap<&'static str, (Origin, String)>,
    /// Of `config.listeners`.
    tables: Vec<listener::Table>,
}

impl Draft {
    fn take_file(&mut self, text: &str, name: &str) -> Result<(), ConfigError> {
        for entry in file::entries(text, name)? {
            match entry.of {
                Of::Section if entry.key.split('.').next() == Some("listener") => {
                    let (place, value, allowed) = (entry.place, entry.value, file::LISTENER_ALLOWED.to_owned());
                    return Err(ConfigError::Value { place, key: "listener", value, allowed });
                }
                Of::Section => {}
                Of::ListenerBegin => {
                    self.begin_listener(entry.place);
                    continue;
                }
                Of::Listener => {
                    self.take_listener_setting(entry)?;
                    continue;
                }
            }
            let Some(setting) = settings::find(&entry.key) else {
                let nearest = nearest(&entry.key, SETTINGS.iter().map(|s| s.key)).map(str::to_owned);
                return Err(ConfigError::UnknownKey { place: entry.place, key: entry.key, nearest });
            };
            self.take(setting, entry.given, entry.value, entry.place)?;
        }
        Ok(())
    }

    /// Takes the variables that begin with a section's name; others are not ours to judge.
    fn take_environment(&mut self, variables: impl Iterator<Item = (String, String)>) -> Result<(), ConfigError> {
        for (variable, text) in variables {
            if !is_ours(&variable) {
                continue;
            }
            let place = Origin::Variable(variable.clone());
            let Some(setting) = SETTINGS.iter().find(|s| s.variable() == variable) else {
                let known: Vec<String> = SETTINGS.iter().map(Setting::variable).collect();
                let nearest = nearest(&variable, known.iter().map(String::as_str)).map(str::to_owned);
                return Err(ConfigError::UnknownKey { place, key: variable, nearest });
            };
            self.take(setting, setting.read_text(&text), text, place)?;
        }
        Ok(())
    }

    fn take_overrides(&mut self, overrides: Overrides) -> Result<(), ConfigError> {
        let dev = overrides.dev.then(|| "true".to_owned());
        let flags = [
            ("--listen", "server.listen", overrides.listen),
            ("--mqtt", "mqtt.listen", overrides.mqtt),
            ("--shards", "server.shards", overrides.shards),
            ("--cores", "server.cores", overrides.cores),
            ("--dev", "server.dev", dev),
            ("--data", "storage.directory", overrides.data),
            ("--ephemeral", "storage.ephemeral", overrides.ephemeral.then(|| "true".to_owned())),
        ];
        for (flag, key, text) in flags {
            let Some(text) = text else { continue };
            let setting = settings::find(key).expect("every flag's key is a setting, as a test shows");
            self.take(setting, setting.read_text(&text), text, Origin::Flag(flag))?;
        }
        Ok(())
    }

    /// A service manager's directory is the default where no other is named.
    fn take_state_directory(&mut self, directories: Option<&str>) {
        let first = directories.and_then(|directories| directories.split(':').next()).filter(|first| !first.is_empty());
        if let Some(first) = first.filter(|_| !self.places.contains_key("storage.directory")) {
            self.config.storage.directory = PathBuf::from(first);
        }
    }

    fn take(&mut self, setting: &'static Setting, given: Given, value: String, place: Origin) -> Result<(), ConfigError> {
        match setting.apply(&mut self.config, &given) {
            Ok(()) => {
                self.places.insert(setting.key, (place, value));
                Ok(())
            }
            Err(allowed) => Err(ConfigError::Value { place, key: setting.key, value, allowed }),
        }
    }

    /// The rules that need more than one key.
    fn settle(&mut self) -> Result<(), ConfigError> {
        self.take_dev()?;
        self.check()
    }

    fn check(&self) -> Result<(), ConfigError> {
        let Config { server, limits, mqtt, .. } = &self.config;
        self.check_listeners()?;
        self.check_cluster()?;
        if self.config.all_listeners().is_empty() {
            return Err(self.refuse("server.listen", "an address, as there is no other listener".to_owned()));
        }
        let message = ("limits.message_bytes_max", limits.message_bytes_max);
        let value = ("limits.value_bytes_max", limits.value_bytes_max);
        let selector = ("limits.selector_bytes_max", limits.selector.text_bytes_max);
        let high = ("session.queue_bytes_high", limits.queue.bytes_high);
        let queue = ("session.queue_bytes_max", limits.queue.bytes_max);
        self.check_fits(value, message, limits.path_bytes_max + FRAME_BYTES_RESERVED)?;
        self.check_fits(selector, message, FRAME_BYTES_RESERVED)?;
        self.check_fits(high, queue, 0)?;
        self.check_fits(value, queue, 0)?;
        self.check_fits(("limits.history_bytes_max", limits.history_bytes_max), queue, 0)?;
        if self.config.has_mqtt() {
            self.check_fits(("mqtt.packet_bytes_max", limits.mqtt.packet_bytes_max), message, 0)?;
        }
        self.check_authentication()?;
        self.check_exposure("server.listen", server.listen.as_ref())?;
        self.check_exposure("mqtt.listen", mqtt.listen.as_ref())?;
        if (1..server.cores.len()).any(|i| server.cores[..i].contains(&server.cores[i])) {
            return Err(self.refuse("server.cores", "each core once".to_owned()));
        }
        if !server.cores.is_empty() && server.shards > server.cores.len() {
            let allowed = format!("0 to {}, the number of cores in server.cores", server.cores.len());
            return Err(self.refuse("server.shards", allowed));
        }
        Ok(())
    }

    /// Each authenticator of the chain has what it needs, and no secret goes over the network in the clear.
    fn check_cluster(&self) -> Result<(), ConfigError> {
        let Cluster { heartbeat_ms, election_min_ms, election_max_ms, .. } = self.config.cluster;
        if election_min_ms < 2 * heartbeat_ms {
            let allowed = format!("at least twice cluster.heartbeat_ms, which is {heartbeat_ms}: leaders would fall for a late word");
            return Err(self.refuse("cluster.election_min_ms", allowed));
        }
        if election_max_ms <= election_min_ms {
            let allowed = format!("more than cluster.election_min_ms, which is {election_min_ms}: all would begin elections at once");
            return Err(self.refuse("cluster.election_max_ms", allowed));
        }
        Ok(())
    }

    fn check_authentication(&self) -> Result<(), ConfigError> {
        let Authentication { chain, passwords, jwt, webhook, .. } = &self.config.authentication;
        if passwords.memory_kib < 8 * passwords.lanes {
            let allowed = format!("at least {}, 8 for each of authentication.password_lanes", 8 * passwords.lanes);
            return Err(self.refuse("authentication.password_memory_kib", allowed));
        }
        if !webhook.url.is_empty() && !authentication::is_safe_url(&webhook.url) {
            return Err(self.refuse("webhook.url", SAFE_URL.to_owned()));
        }
        if is_url(&jwt.keys) && !authentication::is_safe_url(&jwt.keys) {
            return Err(self.refuse("jwt.keys", format!("a file's path, or {SAFE_URL}")));
        }
        if chain.contains(&Authenticator::Webhook) && webhook.url.is_empty() {
            return Err(self.refuse("webhook.url", format!("{SAFE_URL}, as authentication.chain has \"webhook\"")));
        }
        let has_either = jwt.keys.is_empty() == jwt.secret_file.is_some();
        if chain.contains(&Authenticator::Jwt) && !has_either {
            let allowed = "either this or jwt.secret_file, as authentication.chain has \"jwt\"";
            return Err(self.refuse("jwt.keys", allowed.to_owned()));
        }
        Ok(())
    }

    /// Only who is told to lets other hosts in.
    fn check_exposure(&self, key: &'static str, address: Option<&SocketAddr>) -> Result<(), ConfigError> {
        let Some(address) = address.filter(|address| !self.config.may_listen_at(address)) else {
            return Ok(());
        };
        Err(self.refuse(key, settings::only_loopback(address.port())))
    }

    /// A developer's server asks nobody who its clients are.
    fn take_dev(&mut self) -> Result<(), ConfigError> {
        if !self.config.server.dev {
            return Ok(());
        }
        if self.places.contains_key("authentication.chain") {
            return Err(self.refuse("server.dev", "false, as authentication.chain says who is asked who clients are".to_owned()));
        }
        self.config.authentication.chain.clear();
        Ok(())
    }

    fn check_cores_exist(&self, usable: &[usize]) -> Result<(), ConfigError> {
        if self.config.server.cores.iter().all(|core| usable.contains(core)) {
            return Ok(());
        }
        Err(self.refuse("server.cores", format!("the cores that this process may use: {usable:?}")))
    }

    /// Checks that `small` and `reserved` together fit into `large`. Where they do not, the
    /// one that the operator set is to blame, not the one that stands at its default.
    fn check_fits(&self, small: (&'static str, usize), large: (&'static str, usize), reserved: usize) -> Result<(), ConfigError> {
        if small.1 + reserved <= large.1 {
            return Ok(());
        }
        let reserve = if reserved == 0 { String::new() } else { format!(" and {reserved} bytes beside it") };
        if self.places.contains_key(large.0) && !self.places.contains_key(small.0) {
            let allowed = format!("at least {}, to hold {} = {}{reserve}", small.1 + reserved, small.0, small.1);
            return Err(self.refuse(large.0, allowed));
        }
        let most = large.1.saturating_sub(reserved);
        Err(self.refuse(small.0, format!("at most {most}, as {} = {} has to hold it{reserve}", large.0, large.1)))
    }

    /// Refuses the value that `key` has by now.
    fn refuse(&self, key: &'static str, allowed: String) -> ConfigError {
        let default = || (Origin::Default, "its default".to_owned());
        let (place, value) = self.places.get(key).cloned().unwrap_or_else(default);
        ConfigError::Value { place, key, value, allowed }
    }
}

/// Whether the variable names one of our sections: `TIDEWIRE_SERVER_…`.
fn is_ours(variable: &str) -> bool {
    let Some(rest) = variable.strip_prefix("TIDEWIRE_") else {
        return false;
    };
    let section = rest.split_once('_').map_or(rest, |(section, _)| section).to_lowercase();
    rest.contains('_') && SETTINGS.iter().any(|setting| setting.key.split('.').next() == Some(&section))
}

fn is_loopback(address: &SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}
