//! Asks by HTTP, and waits: one request, one answer of bounded size, in bounded time.
//!
//! Redirects are not followed, as what is sent are secrets, and no proxy of the environment is taken. Which certificates are trusted is one file's, or the
//! host's.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ureq::Agent;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig};

use super::Secret;

/// Where hosts have the authorities that they trust.
const TRUSTED: [&str; 2] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];

/// What an answer may have beside its body.
const HEAD_BYTES_MAX: usize = 16 << 10;

pub struct Client {
    agent: Agent,
    body_bytes_max: u64,
}

/// Why there is no answer. Never holds what was sent.
#[derive(Debug)]
pub enum AskError {
    /// No answer of 2xx.
    Status(u16),
    /// It could not be reached, broke off, took too long or said too much.
    Failed(String),
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "status {status}"),
            Self::Failed(reason) => f.write_str(reason),
        }
    }
}

impl Client {
    /// `timeout_ms` is for all of one question. Certificates are read only where one of `urls` needs them.
    pub fn new(url: &str, timeout_ms: u64, ca_file: Option<&Path>, body_bytes_max: u64) -> io::Result<Self> {
        let mut config = Agent::config_builder()
            .timeout_global(Some(Duration::from_millis(timeout_ms)))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .max_response_header_size(HEAD_BYTES_MAX)
            .user_agent(concat!("tidewire/", env!("CARGO_PKG_VERSION")));
        if url.starts_with("https:") {
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let tls = TlsConfig::builder().unversioned_rustls_crypto_provider(provider).root_certs(trusted(ca_file)?);
            config = config.tls_config(tls.build());
        }
        Ok(Self { agent: config.build().new_agent(), body_bytes_max })
    }

    pub fn get(&self, url: &str) -> Result<Vec<u8>, AskError> {
        self.read(self.agent.get(url).header("accept", "application/json").call())
    }

    pub fn post_json(&self, url: &str, authorization: Option<&Secret>, body: &[u8]) -> Result<Vec<u8>, AskError> {
        let mut request = self.agent.post(url).header("content-type", "application/json").header("accept", "application/json");
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization.bytes());
        }
        self.read(request.send(body))
    }

    fn read(&self, answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Vec<u8>, AskError> {
        let failed = |error: ureq::Error| AskError::Failed(error.to_string());
        let mut answer = answer.map_err(failed)?;
        if !answer.status().is_success() {
            return Err(AskError::Status(answer.status().as_u16()));
        }
        answer.body_mut().with_config().limit(self.body_bytes_max).read_to_vec().map_err(failed)
    }
}

fn trusted(ca_file: Option<&Path>) -> io::Result<RootCerts> {
    let hosts = TRUSTED.map(Path::new).into_iter().find(|path| path.exists());
    let path = ca_file.or(hosts).ok_or_else(|| {
        let remedy = "ca_file names a file of those that are trusted";
        io::Error::new(io::ErrorKind::NotFound, format!("this host has no certificates of authorities; {remedy}"))
    })?;
    let wrong = |reason: String| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {reason}", path.display()));
    let text = std::fs::read(path).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    let mut certificates: Vec<Certificate<'static>> = Vec::new();
    for item in ureq::tls::parse_pem(&text) {
        if let PemItem::Certificate(certificate) = item.map_err(|error| wrong(error.to_string()))? {
            certificates.push(certificate);
        }
    }
    if certificates.is_empty() {
        return Err(wrong("has no certificate in PEM form".to_owned()));
    }
    Ok(RootCerts::Specific(Arc::new(certificates)))
}
