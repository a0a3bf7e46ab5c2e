//! How the commands reach a server: by TCP, or by TLS within it.

use super::client::ClientError;
use crate::transport::trust::Trust;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use std::io::{self, Read, Write};
use std::net::TcpStream;

/// A connection to a server.
pub enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// Where a server is, as a URL says.
pub struct Place<'u> {
    pub is_secure: bool,
    /// Host and port, as they are written.
    pub authority: &'u str,
    /// Behind the first slash.
    pub path: &'u str,
    url: &'u str,
}

impl<'u> Place<'u> {
    /// Reads a URL of WebSocket or of HTTP; what is wrong with it, if anything is.
    pub fn parse(url: &'u str) -> Result<Self, ClientError> {
        let known = [("ws://", false), ("wss://", true), ("http://", false), ("https://", true)];
        let found = known.into_iter().find_map(|(scheme, is_secure)| Some((url.strip_prefix(scheme)?, is_secure)));
        let (rest, is_secure) = found.ok_or_else(|| lost(url, &"the address must begin with ws:// or wss://"))?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        Ok(Self { is_secure, authority, path, url })
    }

    /// Host and port.
    pub fn address(&self) -> String {
        let has_port = self.authority.rsplit(']').next().is_some_and(|rest| rest.contains(':'));
        let port = if self.is_secure { 443 } else { 80 };
        if has_port { self.authority.to_owned() } else { format!("{}:{port}", self.authority) }
    }

    /// Connects, and where it is to be by TLS, makes sure of the server.
    pub fn connect(&self, trust: &Trust) -> Result<Stream, ClientError> {
        let address = self.address();
        let stream = TcpStream::connect(&address).map_err(|error| lost(self.url, &error))?;
        stream.set_nodelay(true).map_err(|error| lost(self.url, &error))?;
        if !self.is_secure {
            return Ok(Stream::Plain(stream));
        }
        let config = trust.config().map_err(|error| lost(self.url, &error))?;
        let host = address.rsplit_once(':').map_or(&*address, |(host, _)| host).trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned()).map_err(|error| lost(self.url, &error))?;
        let connection = ClientConnection::new(config, name).map_err(|error| lost(self.url, &error))?;
        let mut stream = StreamOwned::new(connection, stream);
        // Here, so that what is wrong with a certificate is told as that.
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).map_err(|error| lost(self.url, &error))?;
        }
        Ok(Stream::Tls(Box::new(stream)))
    }
}

fn lost(to: &str, what: &dyn std::fmt::Display) -> ClientError {
    ClientError::Connection(format!("cannot connect to {to}: {what}"))
}

impl Stream {
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => &stream.sock,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}
