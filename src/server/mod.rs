//! Assembles the process: listeners, shards, signals, and the order in which it stops.

mod access;
mod cluster;

use crate::admin::Pages;
use crate::base::TopicId;
use crate::config::{Config, Listener, Protocol};
use crate::runtime::{self, Addresses, AuditLog, Door, Listeners, Places, Runtime, Settings, Stored};
use crate::shard::{Limits, Transport};
use crate::storage::{Options, Recovered, Store};
use crate::transport::{Certificates, Policy};
use access::Access;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use socket2::{Domain, Socket, Type};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A server that runs.
pub struct Server {
    runtime: Runtime,
    access: Access,
    /// Where it listens, those of the short forms first; the ports are the real ones.
    pub listeners: Vec<Listener>,
    /// Those of the listeners that have some, by their names.
    certificates: Vec<(String, Arc<Certificates>)>,
    /// The core of each shard.
    pub cores: Vec<usize>,
    /// What was found in the store, in words; `None` where nothing is stored.
    pub restored: Option<String>,
    /// Set by SIGTERM and SIGINT.
    stop: Arc<AtomicBool>,
    /// Set by SIGHUP: certificates are to be read again, and the audit log goes on in a new file.
    refresh: Arc<AtomicBool>,
    /// Ends after the shards, which write to it.
    audit: Option<AuditLog>,
}

/// Turns of the server's own thread after which it looks whether certificates have changed: a second.
const REFRESH_TURNS: u64 = 20;

/// Connections that may wait to be accepted, before the host's own limit.
const BACKLOG: i32 = 4096;

/// Starts to serve.
pub fn start(config: &Config, pages: Pages) -> io::Result<Server> {
    raise_open_files();
    keep_pages_small();
    ignore_file_size_signal();
    let cores = config.placement(&crate::config::usable_cores());
    let mut listeners = config.all_listeners();
    // Before anybody can connect: what is wrong with them is told, and nothing has begun.
    let certificates = listeners.iter().map(read_certificates).collect::<io::Result<Vec<_>>>()?;
    let sockets = listen_everywhere(config, &mut listeners, &cores)?;
    let doors = listeners.iter().zip(&certificates).enumerate();
    let doors: Arc<[Door]> = doors.map(|(number, (listener, certificates))| door(number as u16, listener, certificates.clone())).collect();
    let started = runtime::now();
    let place = cluster::open(config, background_core(&cores))?;
    let stored = open_store(config, &cores, place.as_ref().map_or(0, |place| place.groups))?;
    let (stored, found) = stored.unzip();
    let access = Access::start(config, stored.as_ref().map_or(&[], |stored| &stored.topics))?;
    let audit = config.audit.file.as_deref().map(start_audit).transpose()?;
    let settings = Settings {
        audit: audit.as_ref().map(AuditLog::sink),
        authenticators: access.authenticators(),
        limits: Limits {
            security: access.security.clone(),
            principals: access.principals_script(),
            groups: place.as_ref().map_or(0, |place| place.groups),
            ..limits(config, cores.len())
        },
        doors,
        handshakes_max: config.tls.handshakes_max.div_ceil(cores.len()),
        connections_by_address: Addresses::new(config.server.connections_per_address_max),
        handshakes_by_address: Addresses::new(config.tls.handshakes_per_address_max),
        server: format!("tidewire {}", env!("CARGO_PKG_VERSION")),
        start: runtime::now().0,
        node: place.as_ref().map_or(0, |place| place.node),
        spin_before_park_us: config.server.spin_before_park_us,
        shutdown_drain_ms: config.server.shutdown_drain_ms,
        pages: Arc::new(pages),
        places: config.server.geoip_file.as_deref().map(Places::read).transpose()?.map(Arc::new),
    };
    // Before anybody can know that the server is up: whoever does may end it.
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register(signal, stop.clone())?;
    }
    let refresh = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(SIGHUP, refresh.clone())?;
    let runtime = runtime::start(&settings, sockets, stored, place.map(|place| place.clustered))?;
    access.ask_sessions_by(&runtime);
    let restored = found.map(|found| format!("{found} in {} ms", runtime::now().since(started) / 1_000_000));
    let names = listeners.iter().map(|listener| listener.name.clone());
    let certificates = names.zip(certificates).filter_map(|(name, certificates)| Some((name, certificates?))).collect();
    Ok(Server { runtime, access, listeners, certificates, cores, restored, stop, refresh, audit })
}

/// Opens the store and reads what it holds; nothing where the server is ephemeral.
fn open_store(config: &Config, cores: &[usize], groups: u16) -> io::Result<Option<(Stored, String)>> {
    let wanted = &config.storage;
    if wanted.ephemeral {
        return Ok(None);
    }
    let shards = u16::try_from(cores.len()).expect("there are at most 64 shards");
    let options = Options { shards, groups, ..wanted.options };
    let (store, recovered) = Store::open(&wanted.directory, options).map_err(|error| io::Error::other(error.to_string()))?;
    let Recovered { state, logs, passing, made, torn, records, last_run } = recovered;
    if last_run.may_lack_tail() {
        tracing::warn!("{last_run}");
    }
    if groups > 0 {
        cluster::take_store(&wanted.directory, last_run.may_lack_tail())?;
    }
    let views = state.topics.values().filter(|topic| topic.view_name().is_some()).count();
    let topics = state.topics.values().filter(|topic| topic.is_topic()).count();
    let sessions = state.topics.len() - topics - views;
    let mut found = format!("{topics} topics, {views} views, {sessions} sessions, {records} records replayed");
    if let Some(torn) = torn {
        tracing::warn!("{torn}");
        found = format!("{found}, a torn tail cut");
    }
    let core = background_core(cores);
    let highest_topic = state.highest_topic;
    let topics: Vec<(TopicId, _)> = state.topics.into_iter().collect();
    let passing = passing.into_iter().collect();
    Ok(Some((Stored { store, options, core, topics, highest_topic, passing, made, logs }, found)))
}

/// A core that serves no shard, where there is one.
fn background_core(cores: &[usize]) -> Option<usize> {
    let free = crate::config::usable_cores().into_iter().rev().find(|core| !cores.contains(core));
    free.or(cores.last().copied())
}

impl Server {
    /// Where a client on this host reaches it without TLS; `None` where it cannot.
    pub fn local_address(&self) -> Option<SocketAddr> {
        let is_plain = |listener: &&Listener| listener.protocol == Protocol::Http && !listener.has_tls() && !listener.has_proxy_protocol;
        let mut address = self.listeners.iter().find(is_plain)?.address;
        if address.ip().is_unspecified() {
            address.set_ip(if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
        }
        Some(address)
    }

    /// The file with the administrator's password, where it was made at this start.
    pub fn new_administrator(&self) -> Option<&Path> {
        self.access.administrator.as_deref()
    }

    /// Serves until the process is told to end by SIGTERM or SIGINT, then takes leave of every session.
    pub fn run(self) -> io::Result<()> {
        let mut beats = self.runtime.beats();
        let mut turns: u64 = 0;
        while !self.stop.load(Ordering::Relaxed) && !self.runtime.has_failed() {
            std::thread::sleep(Duration::from_millis(50));
            turns += 1;
            // At least one tick of a shard, unless it is late by as much.
            if turns.is_multiple_of(4) {
                self.runtime.interrupt_stalled(&beats);
                beats = self.runtime.beats();
            }
            let is_asked_for = self.refresh.swap(false, Ordering::Relaxed);
            if is_asked_for {
                self.audit.iter().for_each(AuditLog::reopen);
            }
            if is_asked_for || turns.is_multiple_of(REFRESH_TURNS) {
                self.refresh_certificates(is_asked_for);
            }
        }
        tracing::info!("stopping");
        self.runtime.stop()
    }

    /// What has changed counts for connections that begin from now on.
    fn refresh_certificates(&self, is_asked_for: bool) {
        for (listener, certificates) in &self.certificates {
            match certificates.refresh(is_asked_for) {
                None => {}
                Some(Ok(())) => tracing::info!(listener, "certificates were read again"),
                Some(Err(error)) => {
                    tracing::error!(listener, error, "certificates cannot be read again; those that were read before are kept")
                }
            }
        }
    }
}

fn start_audit(path: &Path) -> io::Result<AuditLog> {
    AuditLog::start(path).map_err(|error| io::Error::other(format!("audit.file: {}: {error}", path.display())))
}

fn read_certificates(listener: &Listener) -> io::Result<Option<Arc<Certificates>>> {
    let certificates = listener.files().map(Certificates::read).transpose();
    certificates.map(|some| some.map(Arc::new)).map_err(|error| io::Error::other(format!("listener {}: {error}", listener.name)))
}

fn door(number: u16, listener: &Listener, certificates: Option<Arc<Certificates>>) -> Door {
    let transport = match listener.protocol {
        Protocol::Http => Transport::HttpOf(number),
        Protocol::Mqtt => Transport::Mqtt,
    };
    let proxies = listener.has_proxy_protocol.then(|| listener.trusted_proxies.clone());
    Door { transport, policy: Policy { proxies, certificates }, proxies: listener.trusted_proxies.clone() }
}

/// Listens at every place, with a socket for each shard; the listeners' ports are the real ones then.
fn listen_everywhere(config: &Config, listeners: &mut [Listener], cores: &[usize]) -> io::Result<Vec<Listeners>> {
    let mut all: Vec<Listeners> = cores.iter().map(|core| Listeners { sockets: Vec::new(), core: *core }).collect();
    for (number, listener) in listeners.iter_mut().enumerate() {
        let wanted = listener.address;
        let listening = listen_for_all(wanted, cores.len(), config.server.socket_send_bytes).map_err(|error| {
            let is_short = number < usize::from(config.server.listen.is_some()) + usize::from(config.mqtt.listen.is_some());
            let what = match (is_short, listener.protocol) {
                (true, Protocol::Http) => format!("cannot listen on {wanted}: {error}"),
                (true, Protocol::Mqtt) => {
                    format!("cannot listen for MQTT on {wanted}: {error}; --mqtt ADDR:PORT chooses another, --mqtt off none")
                }
                (false, _) => format!("listener {}: cannot listen on {wanted}: {error}", listener.name),
            };
            io::Error::new(error.kind(), what)
        })?;
        listener.address = listening.0;
        for (shard, socket) in all.iter_mut().zip(listening.1) {
            shard.sockets.push(socket);
        }
    }
    Ok(all)
}

/// A listener on `address` for each shard; the port is the real one.
fn listen_for_all(mut address: SocketAddr, shards: usize, socket_send_bytes: usize) -> io::Result<(SocketAddr, Vec<OwnedFd>)> {
    check_free(address)?;
    let mut listeners = Vec::new();
    for _ in 0..shards {
        let listener = listen(address, socket_send_bytes)?;
        // The first shard's port is every shard's, also where any was asked for.
        address = listener.local_addr()?.as_socket().expect("an IP socket has an IP address");
        listeners.push(OwnedFd::from(listener));
    }
    Ok((address, listeners))
}

/// The shards share their port, so a second server could join them unnoticed: a socket that does not share must find the port free.
///
/// A server that has just ended still holds it for a moment, until the kernel has taken its rings apart.
fn check_free(address: SocketAddr) -> io::Result<()> {
    let mut tries_left = 20;
    loop {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(socket2::Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        match socket.bind(&address.into()) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries_left > 0 => tries_left -= 1,
            result => return result,
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn listen(address: SocketAddr, socket_send_bytes: usize) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(socket2::Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    // Accepted sockets inherit these: small messages must not wait for each other.
    socket.set_tcp_nodelay(true)?;
    if socket_send_bytes > 0 {
        socket.set_send_buffer_size(socket_send_bytes)?;
    }
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// Those of each shard.
fn limits(config: &Config, shards: usize) -> Limits {
    let web_by_listener = config.all_listeners().iter().map(|listener| config.web(listener)).collect();
    let authenticates = !config.authentication.chain.is_empty();
    let audits = config.audit.file.is_some();
    let limits = Limits { has_mqtt: config.has_mqtt(), authenticates, audits, web_by_listener, ..config.limits.clone() };
    let mut limits = limits.split(shards);
    limits.views.language.selector = limits.selector;
    limits.authenticators = config.authentication.sessions().map(Into::into).collect();
    limits.authentication_ms = config.authentication.answer_ms_max();
    limits
}

/// A file that reaches the host's limit is a full disk: the write fails and is tried again, and the process does not end.
fn ignore_file_size_signal() {
    // SAFETY: ignoring a signal runs no code of ours in a handler.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// Every connection is an open file: take what the host allows.
fn raise_open_files() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls get a valid place; what they refuse stays as it was.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}

/// The kernel clears a huge page when it is first touched, which takes as long as clearing 512 small ones at once: where a table grows, many are touched
/// in one turn, and all that its core serves waits.
fn keep_pages_small() {
    // SAFETY: it changes how this process is given memory, and nothing that it has; a kernel without it gives pages of any size.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::MqttLimits;
    use crate::wire::origin::Hosts;

    #[test]
    fn one_shard_gets_the_default_limits_of_mqtt() {
        assert_eq!(limits(&Config::default(), 1).mqtt, MqttLimits::default());
    }

    #[test]
    fn what_is_accepted_delays_no_small_message() {
        let (address, listeners) = listen_for_all("127.0.0.1:0".parse().unwrap(), 1, 0).unwrap();
        let _peer = std::net::TcpStream::connect(address).unwrap();
        let listener = std::net::TcpListener::from(listeners.into_iter().next().expect("one for the one shard"));
        assert!(listener.accept().unwrap().0.nodelay().unwrap());
    }

    #[test]
    fn shards_share_what_the_server_may_hold() {
        let shared = limits(&Config::default(), 3);
        assert_eq!((shared.topics_max, shared.connections_max), (3_333_334, 333_334));
        assert_eq!(shared.mqtt.sessions_max, 33_334);
    }

    #[test]
    fn a_selector_of_a_view_obeys_the_limits_of_any_selector() {
        let mut config = Config::default();
        config.limits.selector.members_max = 7;
        assert_eq!(limits(&config, 1).views.language.selector, config.limits.selector);
    }

    #[test]
    fn a_server_that_others_reach_has_any_name_unless_some_are_listed() {
        let hosts = |listen: &str, listed: &[String]| {
            let mut config = Config::default();
            config.server.listen = Some(listen.parse().expect("an address"));
            config.limits.web.hosts = Hosts::parse(listed).expect("names");
            limits(&config, 1).web_of(0).hosts.clone()
        };
        let listed = ["a.example".to_owned()];
        let named = Hosts::parse(&listed).expect("names");
        assert_eq!(hosts("127.0.0.1:1", &[]), Hosts::default());
        assert_eq!(hosts("[::ffff:127.0.0.1]:1", &listed), named);
        assert_eq!(hosts("0.0.0.0:1", &[]), Hosts::Any);
        assert_eq!(hosts("[::]:1", &listed), named);
    }

    #[test]
    fn without_a_listener_no_client_of_mqtt_may_connect_and_what_sessions_hold_is_bounded_as_ever() {
        let mut config = Config::default();
        assert!(limits(&config, 1).has_mqtt);
        config.mqtt.listen = None;
        config.limits.mqtt.queued_messages_max = 7;
        let limits = limits(&config, 1);
        assert_eq!((limits.has_mqtt, limits.mqtt.queued_messages_max), (false, 7));
    }
}
