//! How connections begin: which are taken, and where they come from.

use super::{Held, Peer, Stage, Turns};
use crate::base::{ConnectionKey, SlabKey};
use crate::runtime::addresses::{Addresses, Counted, Full};
use crate::runtime::{Door, now};
use crate::shard::Place;
use crate::transport::Guard;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Why a connection is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// The shard holds as many as it may.
    Full,
    /// Its address has as many as it may.
    Address,
    /// As many are in their handshakes as may be, of all or of its address.
    Handshakes,
    AddressHandshakes,
}

impl NotTaken {
    /// The setting that says how many may be.
    pub fn limit(self) -> &'static str {
        match self {
            Self::Full => "limits.connections_max",
            Self::Address => "server.connections_per_address_max",
            Self::Handshakes => "tls.handshakes_max",
            Self::AddressHandshakes => "tls.handshakes_per_address_max",
        }
    }
}

/// Counts one more of the address; nothing where there is no bound.
fn count(addresses: Option<&Arc<Addresses>>, address: IpAddr) -> Result<Option<Counted>, Full> {
    addresses.map(|addresses| addresses.count(address)).transpose()
}

impl Turns {
    pub(super) fn take_connection(&mut self, descriptor: OwnedFd, listener: u32) {
        let doors = self.settings.doors.clone();
        let door = &doors[listener as usize];
        let address = peer_address(&descriptor);
        let counted = match self.count_arrival(door, address) {
            Ok(counted) => counted,
            Err(why) => return self.note_not_taken(why, address),
        };
        if self.shard.connection_count() >= self.settings.limits.connections_max {
            self.note_not_taken(NotTaken::Full, address);
            if door.policy.certificates.is_none() && door.policy.proxies.is_none() {
                self.turned_away.take(descriptor, door.transport, self.ticks);
            }
            return;
        }
        let Some(guard) = self.make_guard(&door.policy, address) else { return };
        if let Some(key) = self.shard.handle_accept(now(), door.transport) {
            if let Some(address) = address {
                self.note_origin(key, address);
            }
            let [connection, handshake] = counted;
            let socket = self.serve(key, descriptor, guard, connection);
            self.arrivals.count_handshake(socket, handshake);
        }
    }

    /// Counts a connection that comes from there, and its handshake. One of this host counts nothing, nor one of a proxy whose word on where its clients are is
    /// taken: these are counted when that is known.
    fn count_arrival(&mut self, door: &Door, address: Option<IpAddr>) -> Result<[Option<Counted>; 2], NotTaken> {
        let has_tls = door.policy.certificates.is_some();
        if has_tls && self.arrivals.is_full(self.settings.handshakes_max) {
            return Err(NotTaken::Handshakes);
        }
        let Some(address) = address.filter(|address| !address.is_loopback() && !door.proxies.contain(*address)) else {
            return Ok([None, None]);
        };
        let handshakes = self.settings.handshakes_by_address.as_ref().filter(|_| has_tls);
        let connection = count(self.settings.connections_by_address.as_ref(), address).map_err(|Full| NotTaken::Address)?;
        let handshake = count(handshakes, address).map_err(|Full| NotTaken::AddressHandshakes)?;
        Ok([connection, handshake])
    }

    /// A proxy says where the connection comes from. Whether it goes on: it ends where its address has no room for it.
    pub(super) fn locate(&mut self, key: ConnectionKey, address: IpAddr) -> bool {
        let Some(socket) = self.socket_of(key) else { return false };
        let peer = self.peers[socket as usize].as_mut().expect("it was just there");
        peer.counted = None;
        let why = match count(self.settings.connections_by_address.as_ref(), address) {
            Err(Full) => NotTaken::Address,
            Ok(counted) => {
                peer.counted = counted;
                let is_shaking_hands = peer.guard.as_ref().is_some_and(|guard| guard.is_arriving());
                match count(self.settings.handshakes_by_address.as_ref().filter(|_| is_shaking_hands), address) {
                    Err(Full) => NotTaken::AddressHandshakes,
                    Ok(handshake) => {
                        self.arrivals.count_handshake(socket, handshake);
                        self.note_origin(key, address);
                        return true;
                    }
                }
            }
        };
        self.note_not_taken(why, Some(address));
        self.end_transport(key);
        false
    }

    pub(super) fn note_not_taken(&mut self, why: NotTaken, address: Option<IpAddr>) {
        self.arrivals.note_not_taken(why);
        self.logger.log_not_taken(now(), why, address);
    }

    pub(super) fn note_origin(&mut self, key: ConnectionKey, address: IpAddr) {
        let place = self.settings.places.as_ref().map_or_else(Place::default, |places| places.find(address));
        self.shard.note_origin(key, address, place);
    }

    pub(super) fn serve(&mut self, key: ConnectionKey, descriptor: OwnedFd, guard: Option<Box<Guard>>, counted: Option<Counted>) -> u32 {
        let socket = self.ring.add(descriptor);
        if self.peers.len() <= socket as usize {
            self.peers.resize_with(socket as usize + 1, || None);
        }
        self.arrivals.note_begin(guard.as_deref());
        self.peers[socket as usize] = Some(Peer { key, stage: Stage::Open, held: Held::default(), guard, counted });
        let place = key.index() as usize;
        if self.sockets.len() <= place {
            self.sockets.resize(place + 1, u32::MAX);
        }
        self.sockets[place] = socket;
        self.ring.receive(socket);
        socket
    }
}

/// Who is at the other end; nobody where it has gone already.
fn peer_address(descriptor: &OwnedFd) -> Option<IpAddr> {
    let address = socket2::SockRef::from(descriptor).peer_addr().ok()?.as_socket()?;
    Some(address.ip().to_canonical())
}
