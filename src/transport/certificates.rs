//! A listener's certificates: read from files, chosen by the name that a client asks for, read again where the files change.
//!
//! What is read is a whole configuration of TLS, or nothing: a file that is broken, or does not fit the others, leaves what there was. With a new one come
//! new keys for tickets, so nobody goes on by a session that began under the old.

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};

/// Whether clients show certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientCertificates {
    /// None is asked for.
    #[default]
    None,
    /// Who shows one that is not trusted is refused; who shows none is not.
    Optional,
    Required,
}

impl ClientCertificates {
    pub const ALL: [Self; 3] = [Self::None, Self::Optional, Self::Required];
    /// The names in the file, in the order of `ALL`.
    pub const NAMES: [&str; 3] = ["none", "optional", "required"];
}

/// The oldest version of TLS that is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    #[default]
    Tls12,
    Tls13,
}

impl Version {
    pub const ALL: [Self; 2] = [Self::Tls12, Self::Tls13];
    /// The names in the file, in the order of `ALL`.
    pub const NAMES: [&str; 2] = ["1.2", "1.3"];

    fn spoken(self) -> &'static [&'static SupportedProtocolVersion] {
        match self {
            Self::Tls12 => rustls::ALL_VERSIONS,
            Self::Tls13 => ONLY_TLS13,
        }
    }
}

const ONLY_TLS13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// Where a listener's certificates are, and what it asks of clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// Certificates with the chains behind them, and their keys. The first is shown to who asks for no name that another has.
    pub certificates: Vec<(PathBuf, PathBuf)>,
    pub version_min: Version,
    pub client_certificates: ClientCertificates,
    /// Who signs those.
    pub client_ca: Option<PathBuf>,
    /// What is spoken within (ALPN).
    pub protocol: &'static str,
}

/// See the module.
pub struct Certificates {
    files: Files,
    current: RwLock<Arc<ServerConfig>>,
    /// What the files looked like when they were read last.
    stamps: Mutex<Vec<Stamp>>,
}

/// Which file a path leads to, when that was changed last, and its length; `None` where it is not there.
type Stamp = Option<[u64; 5]>;

impl Certificates {
    /// Reads the files; what is wrong with them, if anything is.
    pub fn read(files: Files) -> Result<Self, String> {
        // Before they are read: what changes meanwhile is read again.
        let stamps = Mutex::new(files.stamps());
        let current = RwLock::new(Arc::new(files.read()?));
        Ok(Self { files, current, stamps })
    }

    /// What a connection that begins now is to use.
    pub fn current(&self) -> Arc<ServerConfig> {
        self.current.read().expect("nobody panics while changing it").clone()
    }

    /// Reads the files again where one has changed, or where that is asked for; `None` where they were not read. An error leaves what there was.
    pub fn refresh(&self, is_asked_for: bool) -> Option<Result<(), String>> {
        let found = self.files.stamps();
        let mut stamps = self.stamps.lock().expect("nobody panics while changing it");
        if !is_asked_for && *stamps == found {
            return None;
        }
        *stamps = found;
        Some(self.files.read().map(|config| *self.current.write().expect("nobody panics while changing it") = Arc::new(config)))
    }
}

impl Files {
    fn stamps(&self) -> Vec<Stamp> {
        let stamp = |path: &PathBuf| {
            let data = std::fs::metadata(path).ok()?;
            // A renewed certificate may have the old one's length, and by a link that leads elsewhere now even its time.
            Some([data.dev(), data.ino(), data.ctime() as u64, data.ctime_nsec() as u64, data.len()])
        };
        self.certificates.iter().flat_map(|(certificate, key)| [certificate, key]).chain(&self.client_ca).map(stamp).collect()
    }

    fn read(&self) -> Result<ServerConfig, String> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let keys = self.certificates.iter().map(|(certificate, key)| read_certified(certificate, key, &provider));
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(self.version_min.spoken());
        let builder = builder.expect("the provider speaks every version");
        let builder = match (&self.client_ca, self.client_certificates) {
            (Some(file), wanted @ (ClientCertificates::Optional | ClientCertificates::Required)) => {
                let roots = read_roots(file)?;
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
                let verifier = if wanted == ClientCertificates::Optional { verifier.allow_unauthenticated() } else { verifier };
                let verifier = verifier.build().map_err(|error| format!("{}: cannot be used: {error}", file.display()))?;
                builder.with_client_cert_verifier(verifier)
            }
            _ => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(Chosen(keys)));
        config.alpn_protocols = vec![self.protocol.into()];
        // What a client needs to go on faster it holds itself, in a ticket.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(|error| format!("there are no keys for tickets: {error}"))?;
        Ok(config)
    }
}

fn read_certified(certificate: &Path, key: &Path, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, String> {
    let chain = read_certificates(certificate)?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| match error {
        pem::Error::NoItemsFound => format!("{}: holds no private key in PEM", key.display()),
        error => format!("{}: cannot be read: {error}", key.display()),
    })?;
    let certified = CertifiedKey::from_der(chain, private, provider);
    let certified =
        certified.map_err(|error| format!("{} and {}: cannot be used together: {error}", certificate.display(), key.display()))?;
    Ok(Arc::new(certified))
}

/// The certificates in a file, at least one.
pub fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("{}: cannot be read: {error}", file.display());
    let found = CertificateDer::pem_file_iter(file).map_err(|error| wrong(&error))?;
    let found = found.collect::<Result<Vec<_>, _>>().map_err(|error| wrong(&error))?;
    if found.is_empty() {
        return Err(format!("{}: holds no certificate in PEM", file.display()));
    }
    Ok(found)
}

/// Those that sign certificates.
fn read_roots(file: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(file)? {
        roots.add(certificate).map_err(|error| format!("{}: holds a certificate that cannot sign others: {error}", file.display()))?;
    }
    Ok(roots)
}

/// Chooses the first certificate that has the name and that the client can check; else the first that it can check.
#[derive(Debug)]
struct Chosen(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for Chosen {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let checkable = || self.0.iter().filter(|certified| certified.key.choose_scheme(hello.signature_schemes()).is_some());
        let named = name.and_then(|name| checkable().find(|certified| is_of(certified, &name)));
        named.or_else(|| checkable().next()).or_else(|| self.0.first()).cloned()
    }
}

fn is_of(certified: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let certificate = certified.cert.first().and_then(|first| webpki::EndEntityCert::try_from(first).ok());
    certificate.is_some_and(|certificate| certificate.verify_is_valid_for_subject_name(name).is_ok())
}
