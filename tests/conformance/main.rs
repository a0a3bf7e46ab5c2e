//! RFC 6455 from the server's side, requirement by requirement: bytes in → bytes out, against one shard without sockets.
//!
//! A requirement is named by its section and the words it is about. What binds only a client's sending is not tested, but that the server bears it is.

mod close;
mod frames;
mod handshake;
mod messages;
mod peer;
mod split;
mod vectors;
