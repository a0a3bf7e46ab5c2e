//! What the commands read: where the server is, types, values, properties.

use super::client::{Client, ClientError, Identity};
use super::print::printable;
use super::stream::{Place, Stream};
use crate::authentication::administrator;
use crate::protocol::ErrorCode;
use crate::topic::specification::TopicType;
use crate::transport::trust::Trust;
use crate::value::{ValueType, scalar};
use crate::wire::native;
use base64::Engine;
use clap::Args;
use std::io::{self, BufRead};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use zeroize::Zeroizing;

#[derive(Args)]
pub struct Target {
    /// The server's address; wss:// for TLS
    #[arg(long, env = "TIDEWIRE_URL", default_value = "ws://127.0.0.1:8080")]
    pub server: String,
    /// Who you are to the server; else the administrator of a server of your own on this host, or anonymous
    #[arg(long, env = "TIDEWIRE_PRINCIPAL", value_name = "NAME")]
    principal: Option<String>,
    /// A file whose first line is the password; - for standard input
    #[arg(long, env = "TIDEWIRE_PASSWORD_FILE", value_name = "FILE", requires = "principal")]
    password_file: Option<PathBuf>,
    /// A file whose first line is a JSON Web Token; - for standard input
    #[arg(long, env = "TIDEWIRE_BEARER_FILE", value_name = "FILE", conflicts_with = "password_file")]
    bearer_file: Option<PathBuf>,
    /// Who signs the server's certificate (PEM) [default: $SSL_CERT_FILE, else those that the host trusts]
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    ca: Option<PathBuf>,
    /// A certificate to show to the server (PEM)
    #[arg(long, value_name = "FILE", requires = "client_key", help_heading = "TLS")]
    client_cert: Option<PathBuf>,
    /// The certificate's key (PEM)
    #[arg(long, value_name = "FILE", requires = "client_cert", help_heading = "TLS")]
    client_key: Option<PathBuf>,
    /// Believe whatever server answers: anybody on the way can read and change what is said
    #[arg(long, conflicts_with = "ca", help_heading = "TLS")]
    tls_insecure: bool,
}

impl Target {
    /// Connects, as who the flags say. Secrets come from files: the list of processes shows every argument.
    pub fn connect(&self) -> Result<Client, ClientError> {
        Client::connect(&self.server, &self.trust(), &self.identity()?)
    }

    /// A connection for plain HTTP, and the host that it is to.
    pub fn connect_http(&self) -> Result<(Stream, &str), ClientError> {
        let place = Place::parse(&self.server)?;
        Ok((place.connect(&self.trust())?, place.authority))
    }

    /// The field of HTTP that says who the flags say; empty for nobody. It ends in a line break.
    pub fn authorization(&self) -> Result<Zeroizing<String>, Failure> {
        authorization(&self.identity()?)
    }

    fn identity(&self) -> Result<Identity, ClientError> {
        let read = |file: &Option<PathBuf>| file.as_deref().map(read_secret).transpose().map(Option::unwrap_or_default);
        if self.principal.is_none() && self.bearer_file.is_none() {
            // Of a server of the same user on this host: who can read its files may do anything with it anyway.
            return Ok(self.administrator().unwrap_or_default());
        }
        let principal = self.principal.clone().unwrap_or_default();
        Ok(Identity { principal, password: read(&self.password_file)?, bearer: read(&self.bearer_file)? })
    }

    fn administrator(&self) -> Option<Identity> {
        let place = Place::parse(&self.server).ok()?;
        let addresses: Vec<SocketAddr> = place.address().to_socket_addrs().ok()?.collect();
        let named = ["TIDEWIRE_STORAGE_DIRECTORY", "STATE_DIRECTORY"].into_iter().filter_map(std::env::var_os).map(PathBuf::from);
        let directories: Vec<PathBuf> = named.chain(["tidewire-data", "/var/lib/tidewire"].map(PathBuf::from)).collect();
        let administrator = administrator::find(&addresses, directories.iter().map(|path| &**path))?;
        let password = Zeroizing::new(std::str::from_utf8(administrator.password.bytes()).ok()?.to_owned());
        Some(Identity { principal: administrator.principal.into(), password, ..Identity::default() })
    }

    fn trust(&self) -> Trust {
        if self.tls_insecure {
            eprintln!("warning: --tls-insecure: nobody checks who the server is, so anybody on the way can read and change what is said");
        }
        let certificate = self.client_cert.clone().zip(self.client_key.clone());
        Trust { ca: self.ca.clone(), certificate, is_insecure: self.tls_insecure }
    }
}

fn authorization(identity: &Identity) -> Result<Zeroizing<String>, Failure> {
    let Identity { principal, password, bearer } = identity;
    // Of some room, so that nothing of it stays where it grew out of.
    let mut field = Zeroizing::new(String::with_capacity(64 + 2 * (principal.len() + password.len()) + bearer.len()));
    if !bearer.is_empty() {
        if !bearer.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Failure::Usage("the token has characters that no token has".to_owned()));
        }
        for part in ["Authorization: Bearer ", bearer, "\r\n"] {
            field.push_str(part);
        }
    } else if !principal.is_empty() {
        if principal.contains(':') {
            return Err(Failure::Usage(format!("HTTP cannot say a name with a colon: {}", printable(principal))));
        }
        let shown = Zeroizing::new([principal, ":", password].concat());
        field.push_str("Authorization: Basic ");
        base64::engine::general_purpose::STANDARD.encode_string(shown.as_bytes(), &mut field);
        field.push_str("\r\n");
    }
    Ok(field)
}

/// The first line of a file, or of standard input.
pub fn read_secret(file: &Path) -> Result<Zeroizing<String>, ClientError> {
    let failed = |error: io::Error| ClientError::Connection(format!("{}: {error}", file.display()));
    let mut line = Zeroizing::new(String::new());
    if file == Path::new("-") {
        io::stdin().read_line(&mut line).map_err(failed)?;
    } else {
        let mut reader = io::BufReader::new(std::fs::File::open(file).map_err(failed)?);
        reader.read_line(&mut line).map_err(failed)?;
    }
    let length = line.trim_end_matches(['\r', '\n']).len();
    line.truncate(length);
    Ok(line)
}

/// Why a command ends without its work done.
pub enum Failure {
    /// What is asked for makes no sense.
    Usage(String),
    /// What was asked for was not done, or not all of it.
    Undone(String),
    Client(ClientError),
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

/// The name of an error by its code.
pub fn error_name(code: u16) -> &'static str {
    ErrorCode::ALL.iter().find(|known| known.code() == code).map_or("unknown", |known| known.name())
}

/// 0 done, 1 refused by the server or not done, 2 usage, 3 no connection.
pub fn exit(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(message)) => {
            eprintln!("error: {message}");
            ExitCode::from(2)
        }
        Err(Failure::Undone(message)) => {
            eprintln!("error: {message}");
            ExitCode::from(1)
        }
        Err(Failure::Client(ClientError::Refused { code, position, message })) => {
            let name = error_name(code);
            // Of a patch that fails, the position is the operation's, which the message names.
            let at = position.filter(|_| code != ErrorCode::FailedPatch.code());
            eprintln!("error {code} {name}: {message}{}", at.map_or(String::new(), |position| format!(" (at byte {position})")));
            ExitCode::from(1)
        }
        Err(Failure::Client(error @ ClientError::TooLong { .. })) => {
            eprintln!("error: {error}");
            ExitCode::from(1)
        }
        Err(Failure::Client(ClientError::Connection(message))) => {
            eprintln!("error: {message}");
            ExitCode::from(3)
        }
    }
}

pub fn topic_type(name: &str) -> Result<TopicType, String> {
    TopicType::from_name(name).ok_or_else(|| "expected json, string, int64, double, binary or time_series".to_owned())
}

pub fn value_type(name: &str) -> Result<ValueType, String> {
    ValueType::from_name(name).ok_or_else(|| "expected json, string, int64, double or binary".to_owned())
}

/// `KEY=VALUE`.
pub fn property(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

pub fn to_wire(properties: &[(String, String)]) -> native::Properties<'_> {
    properties.iter().map(|(key, value)| (key.as_str().into(), value.as_str().into())).collect()
}

/// A value of the type, from what stands on the command line.
pub fn value(kind: ValueType, text: &str) -> Result<Vec<u8>, Failure> {
    let read = match kind {
        ValueType::String | ValueType::Json => Ok(text.as_bytes().to_vec()),
        ValueType::Binary => binary(text),
        ValueType::Int64 | ValueType::Double => {
            let mut value = Vec::new();
            scalar::from_json(kind, text, &mut value).map(|()| value).map_err(|error| error.message)
        }
    };
    read.map_err(|message| Failure::Usage(format!("the value is not {}: {message}", kind.name())))
}

fn binary(text: &str) -> Result<Vec<u8>, String> {
    if let Some(file) = text.strip_prefix('@') {
        return std::fs::read(file).map_err(|error| format!("{file}: {error}"));
    }
    let Some(hex) = text.strip_prefix("0x") else { return Ok(text.as_bytes().to_vec()) };
    let digits: Option<Vec<u8>> = hex.chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0).ok_or("expected an even number of hex digits behind 0x")?;
    Ok(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(principal: &str, password: &str, bearer: &str, field: Option<&str>) {
        let secret = |text: &str| Zeroizing::new(text.to_owned());
        let identity = Identity { principal: principal.to_owned(), password: secret(password), bearer: secret(bearer) };
        assert_eq!(authorization(&identity).ok().as_ref().map(|field| field.as_str()), field);
    }

    #[test]
    fn who_asks_by_http_is_said_in_one_field() {
        check("", "", "", Some(""));
        check("Aladdin", "open sesame", "", Some("Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n"));
        check("test", "123\u{a3}", "", Some("Authorization: Basic dGVzdDoxMjPCow==\r\n"));
        check("ann", "", "", Some("Authorization: Basic YW5uOg==\r\n"));
        check("ann", "", "a.b", Some("Authorization: Bearer a.b\r\n"));
        check("a:b", "pw", "", None);
        check("", "", "a\rb", None);
    }
}
