//! A server that is one of several, as its data directory says: what it starts with.

use crate::config::Config;
use crate::consensus::{self, Inbox};
use crate::peers::{self, Home, Peers};
use crate::runtime::Clustered;
use rand::TryRng;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

/// Groups beside the one of what changes seldom. Fixed when a cluster is founded.
const GROUPS: u16 = 12;

/// A server's place in its cluster.
pub struct Place {
    pub node: u64,
    pub groups: u16,
    pub clustered: Clustered,
}

/// Nothing where the server stands alone.
pub fn open(config: &Config, core: Option<usize>) -> io::Result<Option<Place>> {
    let data = &config.storage.directory;
    if config.storage.ephemeral || !peers::directory(data).exists() {
        return Ok(None);
    }
    let home = Home::open(data).map_err(io::Error::other)?;
    let node = home.identity.node;
    let listener = listen(config, &home)?;
    let mut seed = [0; 8];
    rand::rngs::SysRng.try_fill_bytes(&mut seed).map_err(io::Error::other)?;
    let seed = u64::from_le_bytes(seed);
    let options = consensus::Options {
        groups: GROUPS,
        heartbeat_ms: config.cluster.heartbeat_ms,
        election_ms: (config.cluster.election_min_ms, config.cluster.election_max_ms),
        ..consensus::Options::new(node, seed)
    };
    let found = home.identity.is_founder.then(|| [node].into());
    let clock_skew_max_ms = config.cluster.clock_skew_max_ms;
    let peers_options = peers::Options { clock_skew_max_ms, ..peers::Options::new(listener.local_addr()?) };
    let connect = move || {
        let peers = Peers::new(peers_options, home).map_err(io::Error::other)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let dial = peers.dial();
        let serve: Box<dyn FnOnce(Inbox)> = Box::new(move |inbox| peers.serve(listener, inbox));
        Ok((dial, serve))
    };
    let clustered = Clustered { options, core, connect: Box::new(connect), found };
    Ok(Some(Place { node, groups: GROUPS, clustered }))
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
