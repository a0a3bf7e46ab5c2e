//! The certificates of a cluster: one authority of its own, and one for each node, whose only name says which cluster and which node it is.
//!
//! Nobody else is believed, and the certificates never expire: who has left is known by the table of members.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
    SignatureAlgorithm,
};
use rustls::client::Resumption;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};

use crate::consensus::NodeId;

/// An uncompressed point of P-256.
const PUBLIC_KEY_BYTES: usize = 65;

/// Why certificates could not be made or used, for an operator.
pub type Fault = String;

/// The certificate of the cluster's authority, and the key by which it signs.
pub struct Authority {
    pub certificate: CertificateDer<'static>,
    pub key: KeyPair,
}

/// A node's own.
pub struct Credentials {
    pub certificate: CertificateDer<'static>,
    pub key: KeyPair,
}

/// A key that another has.
struct PublicKey<'a>(&'a [u8]);

impl PublicKeyData for PublicKey<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

/// A new key.
pub fn new_key() -> Result<KeyPair, Fault> {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(|error| error.to_string())
}

fn authority_params(cluster: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("Tidewire cluster {cluster:016x}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

/// The name in a node's certificate.
fn name(cluster: u64, node: NodeId) -> String {
    format!("n{node:016x}.c{cluster:016x}.tidewire")
}

/// What [`name`] was made of.
fn parse_name(name: &str) -> Option<(u64, NodeId)> {
    let (node, cluster) = name.strip_suffix(".tidewire")?.split_once('.')?;
    let number = |text: &str, first: char| {
        let digits = text.strip_prefix(first).filter(|digits| digits.len() == 16)?;
        u64::from_str_radix(digits, 16).ok()
    };
    Some((number(cluster, 'c')?, number(node, 'n')?))
}

/// The cluster and the node that a certificate names, which was checked before.
pub fn named(certificate: &CertificateDer<'_>) -> Option<(u64, NodeId)> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    certificate.valid_dns_names().find_map(parse_name)
}

impl Authority {
    pub fn new(cluster: u64) -> Result<Self, Fault> {
        let key = new_key()?;
        let certificate = authority_params(cluster).self_signed(&key).map_err(|error| error.to_string())?;
        Ok(Self { certificate: certificate.der().clone(), key })
    }

    /// A certificate for the node that has the key of this public one, as [`KeyPair::public_key_raw`] gives it.
    ///
    /// # Errors
    /// Where it is no key of the one kind that is taken.
    pub fn certify(&self, cluster: u64, node: NodeId, public_key: &[u8]) -> Result<CertificateDer<'static>, Fault> {
        if public_key.len() != PUBLIC_KEY_BYTES || public_key[0] != 4 {
            return Err("the public key is none of P-256".to_owned());
        }
        let mut params = CertificateParams::new(vec![name(cluster, node)]).map_err(|error| error.to_string())?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, format!("Tidewire node {node}"));
        let authority = authority_params(cluster);
        let issuer = Issuer::from_params(&authority, &self.key);
        let certificate = params.signed_by(&PublicKey(public_key), &issuer).map_err(|error| error.to_string())?;
        Ok(certificate.der().clone())
    }
}

/// SHA-256 of a certificate.
pub fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    sha256(certificate)
}

pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = ::aws_lc_rs::digest::digest(&::aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn roots(authority: &CertificateDer<'static>) -> Result<Arc<RootCertStore>, Fault> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone()).map_err(|error| error.to_string())?;
    Ok(Arc::new(roots))
}

fn private(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()))
}

/// How connections are taken. Who shows no certificate comes in too, and may only ask to be admitted.
pub fn server_config(authority: &CertificateDer<'static>, own: &Credentials) -> Result<Arc<ServerConfig>, Fault> {
    let clients = WebPkiClientVerifier::builder_with_provider(roots(authority)?, provider()).allow_unauthenticated();
    let clients = clients.build().map_err(|error| error.to_string())?;
    let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13]);
    let builder = builder.map_err(|error| error.to_string())?.with_client_cert_verifier(clients);
    // Who is admitted knows the authority by its fingerprint, so that is shown too.
    let chain = vec![own.certificate.clone(), authority.clone()];
    let mut config = builder.with_single_cert(chain, private(&own.key)).map_err(|error| error.to_string())?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// How other nodes are connected to.
pub fn client_config(authority: &CertificateDer<'static>, own: &Credentials) -> Result<Arc<ClientConfig>, Fault> {
    let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13]);
    let builder = builder.map_err(|error| error.to_string())?.with_root_certificates(roots(authority)?);
    let chain = vec![own.certificate.clone()];
    let mut config = builder.with_client_auth_cert(chain, private(&own.key)).map_err(|error| error.to_string())?;
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// How a node that is to be admitted connects: it knows the authority by the fingerprint in its token.
pub fn joining_config(fingerprint: [u8; 32]) -> Result<Arc<ClientConfig>, Fault> {
    let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13]);
    let builder = builder.map_err(|error| error.to_string())?.dangerous();
    let mut config = builder.with_custom_certificate_verifier(Arc::new(Known { fingerprint, provider: provider() })).with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

pub fn server_name(cluster: u64, node: NodeId) -> ServerName<'static> {
    ServerName::try_from(name(cluster, node)).expect("letters, digits and dots are a name")
}

/// Believes whoever was certified by an authority of this fingerprint, which the server shows beside its own certificate.
#[derive(Debug)]
struct Known {
    fingerprint: [u8; 32],
    provider: Arc<CryptoProvider>,
}

/// What a server is told that is not of the cluster of the token.
pub const NOT_KNOWN: &str = "its authority is not that of the token";

impl ServerCertVerifier for Known {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        stapled: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let fault = |text: String| rustls::Error::General(text);
        let authority = others.iter().find(|other| fingerprint(other) == self.fingerprint).ok_or_else(|| fault(NOT_KNOWN.to_owned()))?;
        let roots = roots(&authority.clone().into_owned()).map_err(fault)?;
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, self.provider.clone()).build();
        verifier.map_err(|error| fault(error.to_string()))?.verify_server_cert(certificate, &[], name, stapled, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_names_its_cluster_and_node() {
        let authority = Authority::new(7).unwrap();
        let key = new_key().unwrap();
        let certificate = authority.certify(7, u64::MAX >> 1, key.public_key_raw()).unwrap();
        assert_eq!(named(&certificate), Some((7, u64::MAX >> 1)));
        assert_eq!(named(&authority.certificate), None);
    }

    #[test]
    fn only_a_key_of_the_one_kind_is_certified() {
        let authority = Authority::new(7).unwrap();
        for key in [&[][..], &[4; 64], &[5; 65]] {
            assert!(authority.certify(7, 1, key).is_err());
        }
    }

    #[test]
    fn only_whole_names_are_read() {
        assert_eq!(parse_name("n0000000000000002.c0000000000000001.tidewire"), Some((1, 2)));
        for name in ["", "n2.c1.tidewire", "n0000000000000002.c0000000000000001", "c0000000000000001.n0000000000000002.tidewire"] {
            assert_eq!(parse_name(name), None, "{name}");
        }
    }
}
