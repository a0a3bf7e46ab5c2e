//! Servers with listeners that have rules of their own, and clients that speak TLS by a rustls of their own.

use crate::mosquitto::Broker;
use crate::server::{Directory, PATIENCE, Server};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;

/// Somebody who signs certificates, and a folder for them.
pub struct Authority {
    pub directory: Directory,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        let directory = Directory::new("certificates");
        std::fs::create_dir_all(&directory.path).expect("a directory can be made");
        let mut params = CertificateParams::new(Vec::new()).expect("there is no name that could be wrong");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, directory.name());
        let key = KeyPair::generate().expect("a key can be made");
        let own = params.self_signed(&key).expect("it can sign");
        let authority = Self { directory, issuer: Issuer::new(params, key) };
        authority.write("ca.pem", &own.pem());
        authority
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path.join(name)
    }

    /// The path as text.
    pub fn file(&self, name: &str) -> String {
        self.path(name).to_str().expect("the name is text").to_owned()
    }

    /// As an operator does it who knows how: nobody sees half a file.
    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path("new"), text).expect("the directory is ours");
        std::fs::rename(self.path("new"), self.path(name)).expect("the directory is ours");
    }

    /// Signs a certificate for these names: `NAME.pem` and `NAME.key`.
    pub fn issue(&self, file: &str, names: &[&str]) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("they are names");
        params.distinguished_name.push(DnType::CommonName, file);
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params.signed_by(&key, &self.issuer).expect("it can be signed");
        self.write(&format!("{file}.key"), &key.serialize_pem());
        self.write(&format!("{file}.pem"), &certificate.pem());
    }

    /// A table of a listener that shows this certificate.
    pub fn table(&self, name: &str, certificate: &str, more: &str) -> String {
        let (certificate, key) = (self.file(&format!("{certificate}.pem")), self.file(&format!("{certificate}.key")));
        format!(
            "[[listener]]\nname = '{name}'\naddress = '127.0.0.1:0'\ncertificate_files = ['{certificate}']\nkey_files = ['{key}']\n{more}\n"
        )
    }

    pub fn start(&self, shards: usize, variables: &[(&str, &str)], configuration: &str) -> Server {
        let file = self.path("tidewire.toml");
        std::fs::write(&file, configuration).expect("the directory is ours");
        Server::start_with_file(shards, variables, &file)
    }

    /// What a client believes, and what it shows.
    pub fn client(&self, shows: Option<&str>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.path("ca.pem")).expect("it was written")).expect("it can sign");
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().expect("the provider speaks them").with_root_certificates(roots);
        let Some(shows) = shows else { return Arc::new(builder.with_no_client_auth()) };
        let chain = vec![CertificateDer::from_pem_file(self.path(&format!("{shows}.pem"))).expect("it was issued")];
        let key = PrivateKeyDer::from_pem_file(self.path(&format!("{shows}.key"))).expect("it was issued");
        Arc::new(builder.with_client_auth_cert(chain, key).expect("they fit"))
    }
}

/// A connection by TLS.
pub struct Secure {
    stream: StreamOwned<ClientConnection, TcpStream>,
}

impl Secure {
    /// Connects, and asks for this name.
    pub fn open(address: SocketAddr, name: &str, config: Arc<ClientConfig>) -> Self {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("the timeout is not zero");
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        Self { stream: StreamOwned::new(ClientConnection::new(config, name).expect("the configuration is right"), stream) }
    }

    /// The same behind these bytes.
    pub fn behind(address: SocketAddr, bytes: &[u8], config: Arc<ClientConfig>) -> Self {
        let mut secure = Self::open(address, "localhost", config);
        secure.stream.sock.write_all(bytes).expect("the server listens");
        secure
    }

    /// The first certificate that the server shows.
    pub fn shown(&mut self) -> Vec<u8> {
        while self.stream.conn.is_handshaking() {
            self.stream.conn.complete_io(&mut self.stream.sock).expect("the handshake comes to its end");
        }
        self.stream.conn.peer_certificates().expect("the server shows some")[0].to_vec()
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server takes it");
        self.stream.flush().expect("the server takes it");
    }

    pub fn read(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).expect("so much comes");
        bytes
    }

    /// What is answered to a request for `/health`, up to the end that the server tells; `None` where it does not take the client.
    pub fn ask_for_health(mut self) -> Option<String> {
        let request = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let mut answer = String::new();
        let result = self.stream.write_all(request).and_then(|()| self.stream.read_to_string(&mut answer));
        match result {
            Ok(_) => Some(answer),
            // The alert may have come while the request was written, where rustls keeps it to itself.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof && answer.is_empty() => None,
            Err(error) if [ErrorKind::InvalidData, ErrorKind::ConnectionReset, ErrorKind::BrokenPipe].contains(&error.kind()) => None,
            Err(error) => panic!("the server does not end the connection as it should: {error:?}"),
        }
    }
}

/// Where clients of MQTT connect by TLS, and what else they say.
pub struct SecureBroker(pub SocketAddr, pub Vec<String>);

impl Broker for SecureBroker {
    fn place(&self) -> Vec<String> {
        let place = ["-h".to_owned(), "localhost".to_owned(), "-p".to_owned(), self.0.port().to_string()];
        place.into_iter().chain(self.1.iter().cloned()).collect()
    }
}
