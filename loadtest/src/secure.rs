//! TLS around a connection's bytes, as a client has it.

use rustls::client::{ClientConnectionData, Resumption, UnbufferedClientConnection};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};
use rustls::{ClientConfig, RootCertStore};
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

    pub fn connect(&self) -> io::Result<Box<Secure>> {
        Secure::new(UnbufferedClientConnection::new(self.config.clone(), self.name.clone()).map_err(io::Error::other)?)
    }
}

/// One connection's TLS. What the server says is opened from as much as a socket gives at once: it is the generator's time that has to be small.
pub struct Secure {
    connection: UnbufferedClientConnection,
    /// What has come of a record that is not whole.
    held: Vec<u8>,
    /// What the socket has not taken.
    out: Vec<u8>,
    is_over: bool,
}

/// What records add to the bytes in them, at most, for each of so many bytes.
const RECORD_BYTES: usize = 16 << 10;
const RECORD_BYTES_BESIDE: usize = 64;
/// So much is sealed at once.
const SEALED_BYTES: usize = 4 * RECORD_BYTES;

impl Secure {
    fn new(connection: UnbufferedClientConnection) -> io::Result<Box<Self>> {
        let mut secure = Box::new(Self { connection, held: Vec::new(), out: Vec::new(), is_over: false });
        // The client speaks first.
        secure.open(&mut [], &mut [])?;
        Ok(secure)
    }

    pub fn wants_write(&self) -> bool {
        !self.out.is_empty()
    }

    /// Reads what the server says into `plain`, by way of `sealed`, which is as long; how much that was, none of it at the end, and whether there may be more.
    pub fn read(&mut self, stream: &mut impl Read, sealed: &mut [u8], plain: &mut [u8]) -> io::Result<(usize, bool)> {
        loop {
            if self.is_over {
                return Ok((0, false));
            }
            let held = self.held.len();
            sealed[..held].copy_from_slice(&self.held);
            let got = stream.read(&mut sealed[held..])?;
            if got == 0 {
                return Ok((0, false));
            }
            let length = held + got;
            let (used, opened) = self.open(&mut sealed[..length], plain)?;
            self.held.clear();
            self.held.extend_from_slice(&sealed[used..length]);
            if self.held.is_empty() {
                self.held = Vec::new();
            }
            if opened > 0 {
                // Behind the end comes nothing that would tell of it.
                return Ok((opened, self.is_over || length == sealed.len()));
            }
        }
    }

    /// Opens the whole records in `sealed` into `plain`; how many bytes they took, and gave.
    fn open(&mut self, sealed: &mut [u8], plain: &mut [u8]) -> io::Result<(usize, usize)> {
        let (mut used, mut opened) = (0, 0);
        loop {
            let UnbufferedStatus { discard, state } = self.connection.process_tls_records(&mut sealed[used..]);
            let is_done = match state.map_err(invalid)? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let payload = record.map_err(invalid)?.payload;
                        plain[opened..opened + payload.len()].copy_from_slice(payload);
                        opened += payload.len();
                    }
                    false
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    put(&mut data, &mut self.out)?;
                    false
                }
                ConnectionState::TransmitTlsData(data) => {
                    data.done();
                    false
                }
                ConnectionState::PeerClosed | ConnectionState::Closed => {
                    self.is_over = true;
                    true
                }
                _ => true,
            };
            used += discard;
            if is_done {
                return Ok((used, opened));
            }
        }
    }

    /// Writes what the client has to say, of `plain` too once it may; how much of that was taken.
    pub fn write(&mut self, stream: &mut impl Write, plain: &[u8]) -> io::Result<usize> {
        let mut taken = 0;
        if self.out.is_empty() && !self.connection.is_handshaking() {
            taken = plain.len().min(SEALED_BYTES);
            self.seal(&plain[..taken])?;
        }
        while !self.out.is_empty() {
            match stream.write(&self.out) {
                Ok(written) => drop(self.out.drain(..written)),
                // It is with the connection, and goes on when there is room.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && taken > 0 => return Ok(taken),
                Err(error) => return Err(error),
            }
        }
        self.out = Vec::new();
        if taken == 0 && !plain.is_empty() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(taken) }
    }

    fn seal(&mut self, plain: &[u8]) -> io::Result<()> {
        let mut used = 0;
        loop {
            // What is held is looked at again, and is no more whole than it was.
            let UnbufferedStatus { discard, state } = self.connection.process_tls_records(&mut self.held[used..]);
            used += discard;
            match state.map_err(invalid)? {
                ConnectionState::WriteTraffic(mut traffic) => {
                    let start = self.out.len();
                    self.out.resize(start + plain.len() + (plain.len() / RECORD_BYTES + 1) * RECORD_BYTES_BESIDE, 0);
                    let length = traffic.encrypt(plain, &mut self.out[start..]).map_err(invalid)?;
                    self.out.truncate(start + length);
                    self.held.drain(..used);
                    return Ok(());
                }
                ConnectionState::EncodeTlsData(mut data) => put(&mut data, &mut self.out)?,
                ConnectionState::TransmitTlsData(data) => data.done(),
                _ => return Err(io::ErrorKind::BrokenPipe.into()),
            }
        }
    }
}

/// Appends what the connection has to say by itself.
fn put(data: &mut EncodeTlsData<'_, ClientConnectionData>, out: &mut Vec<u8>) -> io::Result<()> {
    let start = out.len();
    let needed = match data.encode(&mut []) {
        Ok(_) => return Ok(()),
        Err(EncodeError::InsufficientSize(needed)) => needed.required_size,
        Err(error) => return Err(invalid(error)),
    };
    out.resize(start + needed, 0);
    let length = data.encode(&mut out[start..]).map_err(invalid)?;
    out.truncate(start + length);
    Ok(())
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::{ServerConfig, ServerConnection};
    use std::os::unix::net::UnixStream;
    use std::process::Command;

    /// A server's end, and whom a client has to believe for it.
    fn made(place: &Path) -> (ServerConnection, Trust) {
        let (key, certificate) = (place.join("key.pem"), place.join("certificate.pem"));
        let making = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
            .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE"])
            .args(["-keyout".as_ref(), key.as_os_str(), "-out".as_ref(), certificate.as_os_str()])
            .output();
        assert!(making.expect("openssl is there").status.success());
        let chain = CertificateDer::pem_file_iter(&certificate).and_then(Iterator::collect).expect("it was just made");
        let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider())).with_safe_default_protocol_versions();
        let builder = builder.expect("it has all versions").with_no_client_auth();
        let config =
            builder.with_single_cert(chain, PrivateKeyDer::from_pem_file(&key).expect("it was just made")).expect("they belong together");
        let server = ServerConnection::new(Arc::new(config)).expect("the configuration is whole");
        (server, Trust::new("localhost", &certificate, None).expect("the file is a certificate"))
    }

    /// The server's part: echoes what the client says, by records that come in pieces, then ends.
    fn echo(mut server: ServerConnection, mut stream: UnixStream, length: usize) {
        let mut heard = vec![0; length];
        rustls::Stream::new(&mut server, &mut stream).read_exact(&mut heard).expect("the client says it");
        let mut sealed = Vec::new();
        for part in heard.chunks(30_000) {
            server.writer().write_all(part).expect("memory takes it");
            while server.wants_write() {
                server.write_tls(&mut sealed).expect("memory takes it");
            }
        }
        server.send_close_notify();
        server.write_tls(&mut sealed).expect("memory takes it");
        for part in sealed.chunks(7_001) {
            stream.write_all(part).expect("the client reads");
        }
    }

    #[test]
    fn what_a_server_says_comes_out_however_its_records_are_cut() {
        let place = std::env::temp_dir().join(format!("tidewire-secure-{}", std::process::id()));
        std::fs::create_dir_all(&place).expect("there is room");
        let (server, trust) = made(&place);
        std::fs::remove_dir_all(&place).expect("it is ours");
        let said: Vec<u8> = (0..300_000u32).map(|at| (at % 251) as u8).collect();
        let (mut stream, other) = UnixStream::pair().expect("a pair of sockets");
        let echo = std::thread::spawn({
            let length = said.len();
            move || echo(server, other, length)
        });
        let mut client = trust.connect().expect("the name is one");
        let (mut sealed, mut plain) = (vec![0; 64 << 10], vec![0; 64 << 10]);
        // The handshake comes first: nothing is taken before it, so who says something reads too.
        let (mut told, mut heard) = (0, Vec::new());
        while heard.len() < said.len() {
            while told < said.len() {
                match client.write(&mut stream, &said[told..]) {
                    Ok(taken) => told += taken,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => panic!("{error}"),
                }
            }
            if told == 0 {
                stream.set_read_timeout(Some(std::time::Duration::from_millis(1))).expect("it is a socket");
            }
            match client.read(&mut stream, &mut sealed, &mut plain) {
                Ok((0, _)) => panic!("it ended after {} bytes", heard.len()),
                Ok((got, _)) => heard.extend_from_slice(&plain[..got]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => panic!("{error}"),
            }
        }
        assert!(heard == said, "the same bytes");
        assert_eq!(client.read(&mut stream, &mut sealed, &mut plain).expect("its last word is there"), (0, false));
        echo.join().expect("the server heard all");
    }
}
