//! A server that is one of several, as its data directory says: what it starts with.

use crate::config::Config;
use crate::consensus::{self, Inbox};
use crate::peers::{self, Home, Peers};
use crate::runtime::Clustered;
use rand::TryRng;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;

/// A server's place in its cluster.
pub struct Place {
    pub node: u64,
    pub groups: u16,
    pub clustered: Clustered,
}

/// Nothing where the server stands alone.
pub fn open(config: &Config, core: Option<usize>) -> io::Result<Option<Place>> {
    let data = &config.storage.directory;
    if !peers::directory(data).exists() {
        return Ok(None);
    }
    if config.storage.ephemeral {
        let why = format!("{}: is of a server of a cluster, which stores what it holds; it cannot be ephemeral", data.display());
        return Err(io::Error::other(why));
    }
    check_store(data)?;
    let home = Home::open(data).map_err(io::Error::other)?;
    let (node, groups) = (home.identity.node, home.identity.groups);
    let listener = listen(config, &home)?;
    let mut seed = [0; 8];
    rand::rngs::SysRng.try_fill_bytes(&mut seed).map_err(io::Error::other)?;
    let seed = u64::from_le_bytes(seed);
    let options = consensus::Options {
        groups,
        heartbeat_ms: config.cluster.heartbeat_ms,
        election_ms: (config.cluster.election_min_ms, config.cluster.election_max_ms),
        stale_ms: config.cluster.stale_after_ms,
        ..consensus::Options::new(node, seed)
    };
    let found = home.identity.is_founder.then(|| [node].into());
    let clock_skew_max_ms = config.cluster.clock_skew_max_ms;
    let mut peers_options = peers::Options { clock_skew_max_ms, ..peers::Options::new(listener.local_addr()?) };
    // What a client may send in one message is an entry beside others at most.
    let longest = config.limits.message_bytes_max.max(config.limits.value_bytes_max);
    peers_options.frame_bytes_max = peers_options.frame_bytes_max.max(2 * longest + (4 << 20));
    let connect = move || {
        let peers = Peers::new(peers_options, home).map_err(io::Error::other)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let dial = peers.dial();
        let serve: Box<dyn FnOnce(Inbox)> = Box::new(move |inbox| peers.serve(listener, inbox));
        Ok((dial, serve))
    };
    let clustered = Clustered { options, core, connect: Box::new(connect), found };
    Ok(Some(Place { node, groups, clustered }))
}

/// What says in a node's directory that it has had a store.
const BEGAN: &str = "began";

/// What an operator has put there by `tidewire cluster recover`.
const RECOVERED: &str = "recovered";

/// A node whose store is gone has lost its votes with it: under its old name it might vote twice.
fn check_store(data: &Path) -> io::Result<()> {
    if peers::directory(data).join(BEGAN).exists() && !data.join("store.json").exists() {
        let why = "this server's store is gone, and with it its votes: have another `tidewire cluster remove` it, and join anew with an empty directory";
        return Err(io::Error::other(format!("{}: {why}", data.display())));
    }
    Ok(())
}

/// The store is open. `may_lack` where what was acknowledged may be missing at its end: then the server must not go on under its old votes, unless an operator says so.
pub fn take_store(data: &Path, may_lack: bool) -> io::Result<()> {
    let directory = peers::directory(data);
    let recovered = directory.join(RECOVERED);
    if may_lack && !recovered.exists() {
        let why = "what this server had acknowledged may be missing, so it does not go on under its old votes: have another `tidewire cluster remove` it, and join anew with \
                   an empty directory; where most servers are so, `tidewire cluster recover DIR` has each go on with what it has";
        return Err(io::Error::other(format!("{}: {why}", data.display())));
    }
    match std::fs::remove_file(recovered) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::fs::write(directory.join(BEGAN), b"")
}

/// Where the others are heard. The port is the kernel's choice where 0 is asked for, which only tests do.
fn listen(config: &Config, home: &Home) -> io::Result<std::net::TcpListener> {
    let wanted = config.cluster.listen.as_deref().unwrap_or(&home.identity.address);
    let explain = |error: io::Error| io::Error::new(error.kind(), format!("cannot listen for the cluster on {wanted}: {error}"));
    let addresses: Vec<SocketAddr> = wanted.to_socket_addrs().map_err(explain)?.collect();
    let listener = std::net::TcpListener::bind(&addresses[..]).map_err(explain)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
