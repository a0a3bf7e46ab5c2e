//! Whom clients of this process believe, and what they show: the command line's side of TLS.

use super::certificates::read_certificates;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a client believes and shows.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// Who signs servers' certificates; those of the host where `None`.
    pub ca: Option<PathBuf>,
    /// A certificate and its key, to be shown where the server asks.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Any server is believed.
    pub is_insecure: bool,
}

/// Where distributions keep those that sign certificates.
const BUNDLES: [&str; 4] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem", "/etc/ssl/ca-bundle.pem"];

impl Trust {
    /// Reads the files; what is wrong with them, if anything is.
    pub fn config(&self) -> Result<Arc<ClientConfig>, String> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
        let builder = builder.expect("the provider speaks every version");
        let builder = if self.is_insecure {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        } else {
            let mut roots = RootCertStore::empty();
            // Of a host's bundle not all need be of use.
            let (taken, _) = roots.add_parsable_certificates(read_certificates(&self.bundle()?)?);
            if taken == 0 {
                return Err(format!("{}: holds no certificate that could sign others", self.bundle()?.display()));
            }
            builder.with_root_certificates(roots)
        };
        let Some((certificate, key)) = &self.certificate else { return Ok(Arc::new(builder.with_no_client_auth())) };
        let private = PrivateKeyDer::from_pem_file(key).map_err(|error| format!("{}: cannot be read: {error}", key.display()))?;
        let config = builder.with_client_auth_cert(read_certificates(certificate)?, private);
        config.map(Arc::new).map_err(|error| format!("{} and {}: cannot be used together: {error}", certificate.display(), key.display()))
    }

    fn bundle(&self) -> Result<PathBuf, String> {
        let given = self.ca.clone().or_else(|| std::env::var_os("SSL_CERT_FILE").map(PathBuf::from));
        let found = given.or_else(|| BUNDLES.iter().map(PathBuf::from).find(|path| Path::exists(path)));
        found.ok_or_else(|| "this host has no file of those that sign certificates; --ca FILE names one".to_owned())
    }
}

/// Believes every certificate, and checks only that the server has its key.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
