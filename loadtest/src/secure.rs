//! TLS around a connection's bytes, as a client has it.

use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

/// Whom the connections of a run believe.
#[derive(Clone, Debug)]
pub struct Trust {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Trust {
    /// A server of this name, which who stands in the file has signed; a certificate and its key to show to it, where it asks.
    pub fn new(host: &str, ca: &Path, shown: Option<(&Path, &Path)>) -> Result<Self, String> {
        let wrong = |path: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(ca).map_err(|error| wrong(ca, &error))? {
            roots.add(certificate.map_err(|error| wrong(ca, &error))?).map_err(|error| wrong(ca, &error))?;
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider())).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| error.to_string())?.with_root_certificates(roots);
        let mut config = match shown {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect);
                let chain = chain.map_err(|error| wrong(certificate, &error))?;
                let key = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, &error))?;
                builder.with_client_auth_cert(chain, key).map_err(|error| wrong(certificate, &error))?
            }
        };
        // Each connection is another client's, which has not been there before.
        config.resumption = Resumption::disabled();
        let name = ServerName::try_from(host.to_owned()).map_err(|error| format!("{host}: {error}"))?;
        Ok(Self { config: Arc::new(config), name })
    }

    pub fn connect(&self) -> io::Result<Box<ClientConnection>> {
        let connection = ClientConnection::new(self.config.clone(), self.name.clone());
        connection.map(Box::new).map_err(io::Error::other)
    }
}

/// What rustls reads from a socket at once: less means that the socket is empty.
const READ_BYTES: usize = 4096;

/// Reads what the server says into `buffer`; whether there may be more.
pub fn read(tls: &mut ClientConnection, stream: &mut impl Read, buffer: &mut [u8]) -> io::Result<(usize, bool)> {
    let mut is_drained = false;
    loop {
        match tls.reader().read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !is_drained => {}
            Err(error) => return Err(error),
            Ok(got) => return Ok((got, got == buffer.len() || !is_drained)),
        }
        let got = tls.read_tls(stream)?;
        if got == 0 {
            return Ok((0, false));
        }
        is_drained = got < READ_BYTES;
        tls.process_new_packets().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    }
}

/// Writes what the client has to say, of `plain` too once it may; how much of that was taken.
pub fn write(tls: &mut ClientConnection, stream: &mut impl Write, plain: &[u8]) -> io::Result<usize> {
    let mut taken = 0;
    if !tls.is_handshaking() && !tls.wants_write() {
        taken = tls.writer().write(plain)?;
    }
    while tls.wants_write() {
        match tls.write_tls(stream) {
            Ok(_) => {}
            // It is with the connection, and goes on when there is room.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && taken > 0 => return Ok(taken),
            Err(error) => return Err(error),
        }
    }
    if taken == 0 && !plain.is_empty() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(taken) }
}
