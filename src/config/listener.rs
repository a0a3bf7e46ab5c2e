//! Further places that the server listens at, each with its own rules: the tables `[[listener]]` of a file.
//!
//! Their settings are no keys of a section: they go to the table that they stand in, and no variable or flag sets them.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::error::{ConfigError, Origin};
use super::settings::{self, Setting, address, flag, name, names_of, text, texts};
use super::{Config, Draft, Entry, nearest};
use crate::transport::{ClientCertificates, Files, Version};
use crate::wire::forwarded::Networks;
use crate::wire::origin::{Hosts, Origins};
use std::collections::BTreeMap;

/// What a listener's connections speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// What the common port speaks: WebSocket and pages.
    #[default]
    Http,
    Mqtt,
}

impl Protocol {
    pub const ALL: [Self; 2] = [Self::Http, Self::Mqtt];
    /// The names in the file, in the order of `ALL`; also as TLS names them (ALPN), but for HTTP's version.
    pub const NAMES: [&str; 2] = ["http", "mqtt"];
}

/// One place that the server listens at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    pub name: String,
    pub address: SocketAddr,
    pub protocol: Protocol,
    pub certificate_files: Vec<PathBuf>,
    pub key_files: Vec<PathBuf>,
    pub version_min: Version,
    pub client_certificates: ClientCertificates,
    pub client_ca_file: Option<PathBuf>,
    /// `None`: those of `server`.
    pub hosts: Option<Hosts>,
    pub origins: Option<Origins>,
    pub has_proxy_protocol: bool,
    pub trusted_proxies: Networks,
}

impl Default for Listener {
    fn default() -> Self {
        Self::plain("", Protocol::Http, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }
}

impl Listener {
    /// As the short forms `server.listen` and `mqtt.listen` mean.
    pub fn plain(name: &str, protocol: Protocol, address: SocketAddr) -> Self {
        Self {
            name: name.to_owned(),
            address,
            protocol,
            certificate_files: Vec::new(),
            key_files: Vec::new(),
            version_min: Version::default(),
            client_certificates: ClientCertificates::default(),
            client_ca_file: None,
            hosts: None,
            origins: None,
            has_proxy_protocol: false,
            trusted_proxies: Networks::default(),
        }
    }

    pub fn has_tls(&self) -> bool {
        !self.certificate_files.is_empty()
    }

    /// Where its certificates are; `None` where it is plain.
    pub fn files(&self) -> Option<Files> {
        self.has_tls().then(|| Files {
            certificates: self.certificate_files.iter().cloned().zip(self.key_files.iter().cloned()).collect(),
            version_min: self.version_min,
            client_certificates: self.client_certificates,
            client_ca: self.client_ca_file.clone(),
            protocol: if self.protocol == Protocol::Http { "http/1.1" } else { "mqtt" },
        })
    }

    /// What its clients connect by.
    pub fn scheme(&self) -> &'static str {
        match (self.protocol, self.has_tls()) {
            (Protocol::Http, false) => "http",
            (Protocol::Http, true) => "https",
            (Protocol::Mqtt, false) => "mqtt",
            (Protocol::Mqtt, true) => "mqtts",
        }
    }
}

/// The settings of a table, which go to the listener that was begun last.
pub const SETTINGS: &[Setting] = &[
    text("listener.name", 64, |c, v| last(c).name = v),
    address("listener.address", |c, v| last(c).address = v),
    name("listener.protocol", &Protocol::NAMES, |c, v| last(c).protocol = Protocol::ALL[v]),
    texts("listener.certificate_files", "a list of files in PEM", |c, texts| {
        last(c).certificate_files = paths(texts)?;
        Ok(())
    }),
    texts("listener.key_files", "a list of files in PEM, as many as certificate_files", |c, texts| {
        last(c).key_files = paths(texts)?;
        Ok(())
    }),
    name("listener.tls_version_min", &Version::NAMES, |c, v| last(c).version_min = Version::ALL[v]),
    name("listener.client_certificates", &ClientCertificates::NAMES, |c, v| last(c).client_certificates = ClientCertificates::ALL[v]),
    text("listener.client_ca_file", 4096, |c, v| last(c).client_ca_file = (!v.is_empty()).then(|| v.into())),
    texts("listener.hosts", "a list of hosts without ports", |c, texts| {
        last(c).hosts = Some(Hosts::parse(texts)?);
        Ok(())
    }),
    texts("listener.origins", "a list of origins", |c, texts| {
        last(c).origins = Some(Origins::parse(texts)?);
        Ok(())
    }),
    flag("listener.proxy_protocol", |c, v| last(c).has_proxy_protocol = v),
    texts("listener.trusted_proxies", "a list of networks", |c, texts| {
        last(c).trusted_proxies = Networks::parse(texts)?;
        Ok(())
    }),
];

fn last(config: &mut Config) -> &mut Listener {
    config.listeners.last_mut().expect("a table has begun before its settings are taken")
}

fn paths(texts: &[String]) -> Result<Vec<PathBuf>, String> {
    match texts.iter().any(String::is_empty) {
        true => Err("an empty name is no file's".to_owned()),
        false => Ok(texts.iter().map(PathBuf::from).collect()),
    }
}

/// Where a table begins, and where its settings stand with what they were given.
pub struct Table {
    place: Origin,
    places: BTreeMap<&'static str, (Origin, String)>,
}

impl Draft {
    /// A table begins.
    pub(super) fn begin_listener(&mut self, place: Origin) {
        self.config.listeners.push(Listener::default());
        self.tables.push(Table { place, places: BTreeMap::new() });
    }

    /// A setting of the table that was begun last.
    pub(super) fn take_listener_setting(&mut self, entry: Entry) -> Result<(), ConfigError> {
        let Entry { key, given, value, place, .. } = entry;
        let Some(setting) = SETTINGS.iter().find(|setting| setting.key == key) else {
            let nearest = nearest(&key, names_of(SETTINGS)).map(str::to_owned);
            return Err(ConfigError::UnknownKey { place, key, nearest });
        };
        if let Err(allowed) = setting.apply(&mut self.config, &given) {
            return Err(ConfigError::Value { place, key: setting.key, value, allowed });
        }
        let table = self.tables.last_mut().expect("a table has begun before its settings are taken");
        table.places.insert(setting.key, (place, value));
        Ok(())
    }

    /// The rules that need more than one setting of a table, or several tables.
    pub(super) fn check_listeners(&self) -> Result<(), ConfigError> {
        for (number, (listener, table)) in self.config.listeners.iter().zip(&self.tables).enumerate() {
            for key in ["listener.name", "listener.address"] {
                if !table.places.contains_key(key) {
                    return Err(table.lacks(key));
                }
            }
            let is_taken = |other: &Listener| other.name == listener.name;
            if listener.name.is_empty() || self.config.listeners[..number].iter().any(is_taken) {
                return Err(table.refuse("listener.name", "a name that no other listener has"));
            }
            if listener.certificate_files.len() != listener.key_files.len() {
                let key = if listener.key_files.is_empty() { "listener.certificate_files" } else { "listener.key_files" };
                return Err(table.refuse(key, "as many files as listener.certificate_files and listener.key_files both have"));
            }
            table.check_clients(listener)?;
            table.check_web(listener)?;
            if !self.config.may_listen_at(&listener.address) {
                return Err(table.refuse("listener.address", &settings::only_loopback(listener.address.port())));
            }
        }
        Ok(())
    }
}

impl Table {
    fn check_clients(&self, listener: &Listener) -> Result<(), ConfigError> {
        let are_asked = listener.client_certificates != ClientCertificates::None;
        if are_asked && !listener.has_tls() {
            return Err(self.refuse("listener.client_certificates", "none, unless listener.certificate_files are there"));
        }
        if are_asked && listener.client_ca_file.is_none() {
            return Err(self.lacks("listener.client_ca_file"));
        }
        if !are_asked && listener.client_ca_file.is_some() {
            return Err(self.refuse("listener.client_ca_file", "nothing, unless listener.client_certificates is optional or required"));
        }
        if self.places.contains_key("listener.tls_version_min") && !listener.has_tls() {
            return Err(self.refuse("listener.tls_version_min", "nothing, unless listener.certificate_files are there"));
        }
        Ok(())
    }

    fn check_web(&self, listener: &Listener) -> Result<(), ConfigError> {
        if listener.has_proxy_protocol && listener.trusted_proxies.is_empty() {
            return Err(self.lacks("listener.trusted_proxies"));
        }
        let of_http = ["listener.hosts", "listener.origins"];
        let foreign = of_http.into_iter().find(|key| listener.protocol == Protocol::Mqtt && self.places.contains_key(key));
        foreign.map_or(Ok(()), |key| Err(self.refuse(key, "nothing, unless listener.protocol is http")))
    }

    /// The table needs this key, for what its others say.
    fn lacks(&self, key: &'static str) -> ConfigError {
        let setting = SETTINGS.iter().find(|setting| setting.key == key).expect("it is one of them");
        ConfigError::Missing { place: self.place.clone(), key, allowed: setting.allowed() }
    }

    fn refuse(&self, key: &'static str, allowed: &str) -> ConfigError {
        let default = || (self.place.clone(), "its default".to_owned());
        let (place, value) = self.places.get(key).cloned().unwrap_or_else(default);
        ConfigError::Value { place, key, value, allowed: allowed.to_owned() }
    }
}
