//! How a node is let in: it shows a token's secret to the node that made it, and gets an id and a certificate.
//!
//! It believes that node by the fingerprint of the cluster's authority, which is in the token. The node that admits gives it the authority's key too, so that
//! it can admit others. The token is used up by the first who shows it, whatever becomes of the answer: where that is lost, an operator makes another, and
//! the node that never came leaves no trace but a line in the table of members, which a learner that never catches up makes.

use std::fmt;
use std::fs;
use std::io;
use std::net::ToSocketAddrs;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rcgen::KeyPair;
use rustls::ClientConfig;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::consensus::NodeId;

use super::certificates::{self, Authority, Credentials, fingerprint, joining_config, server_name};
use super::files::random_id;
use super::frame::{Frame, GREETING_BYTES_MAX, Kind};
use super::hello::{MAGIC, Reason, Refusal, VERSIONS, check_clocks, check_versions};
use super::home::{Home, HomeError, Identity, check_free, directory, parse_certificate, pem};
use super::members::{MEMBERS_MAX, Member, Members, Standing, is_address, is_name};
use super::shared::{Shared, explain};
use super::token::{Token, hex, parse_hex, redeem};

/// How long each address of a token is tried.
const TRY: Duration = Duration::from_secs(10);

/// What a node says that is to be let in.
#[derive(Serialize, Deserialize)]
struct Join {
    magic: String,
    versions: (u16, u16),
    cluster: u64,
    secret: String,
    name: String,
    address: String,
    /// In hexadecimal digits.
    public_key: String,
    clock_ms: u64,
}

/// What it is told.
#[derive(Serialize, Deserialize)]
pub struct Admitted {
    node: NodeId,
    joined_ms: u64,
    certificate: String,
    authority: String,
    authority_key: String,
    members: Members,
    groups: u16,
}

/// Why a node was not let in.
#[derive(Debug)]
pub enum JoinError {
    /// The text is no token.
    Token,
    Home(HomeError),
    /// None of the token's addresses has answered; the last's reason.
    Unreached(String),
    /// Who answers is not of the token's cluster.
    Authority(String),
    Refused(Refusal),
    /// What was answered is not what was promised.
    Malformed(String),
}

impl fmt::Display for JoinError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token => write!(formatter, "the token is not one; `tidewire cluster token` prints one, to be given as it stands"),
            Self::Home(error) => error.fmt(formatter),
            Self::Unreached(why) => write!(formatter, "the server that made the token is not reached: {why}"),
            Self::Authority(why) => write!(formatter, "who answers is not a server of the token's cluster: {why}"),
            Self::Refused(refusal) => write!(formatter, "the server refuses ({}): {refusal}", refusal.name()),
            Self::Malformed(why) => write!(formatter, "the server's answer cannot be used: {why}"),
        }
    }
}

impl std::error::Error for JoinError {}

impl From<HomeError> for JoinError {
    fn from(error: HomeError) -> Self {
        Self::Home(error)
    }
}

/// Joins the cluster of a token, and makes the node's directory. Blocks; for a command.
///
/// # Errors
/// Where nothing was made, with what `JoinError` says.
pub fn join(data: &Path, token: &str, name: &str, address: &str, clock: fn() -> u64) -> Result<Identity, JoinError> {
    let token = Token::parse(token).ok_or(JoinError::Token)?;
    check_free(data, name, address)?;
    // Before a token is used up for it.
    fs::create_dir_all(data).map_err(|error| HomeError::Host(data.to_owned(), error))?;
    let key = certificates::new_key().map_err(HomeError::Certificates)?;
    let ask = Join {
        magic: MAGIC.to_owned(),
        versions: VERSIONS,
        cluster: token.cluster,
        secret: token.secret.clone(),
        name: name.to_owned(),
        address: address.to_owned(),
        public_key: hex(key.public_key_raw()),
        clock_ms: clock(),
    };
    let config = joining_config(token.fingerprint().ok_or(JoinError::Token)?).map_err(HomeError::Certificates)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| JoinError::Unreached(error.to_string()))?;
    let admitted = runtime.block_on(ask_all(&token, &ask, &config))?;
    let home = settle(data, &token, &ask, key, admitted)?;
    Ok(home.identity)
}

/// Asks at each address until one answers.
async fn ask_all(token: &Token, ask: &Join, config: &Arc<ClientConfig>) -> Result<Admitted, JoinError> {
    let mut error = JoinError::Token;
    for address in &token.addresses {
        error = match tokio::time::timeout(TRY, ask_one(token, address, ask, config)).await {
            Ok(Err(JoinError::Unreached(why))) => JoinError::Unreached(format!("{address}: {why}")),
            Ok(asked) => return asked,
            Err(_) => JoinError::Unreached(format!("{address}: it has not answered in time")),
        };
    }
    Err(error)
}

async fn ask_one(token: &Token, address: &str, ask: &Join, config: &Arc<ClientConfig>) -> Result<Admitted, JoinError> {
    let unreached = |error: io::Error| JoinError::Unreached(explain(&error));
    let addresses: Vec<_> = address.to_socket_addrs().map_err(unreached)?.collect();
    let stream = TcpStream::connect(&addresses[..]).await.map_err(unreached)?;
    let connecting = TlsConnector::from(config.clone()).connect(server_name(token.cluster, token.node), stream);
    let mut stream = connecting.await.map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => JoinError::Authority(error.to_string()),
        _ => unreached(error),
    })?;
    let body = serde_json::to_vec(ask).expect("texts and numbers");
    Frame::new(Kind::Join, 0, body).write(&mut stream).await.map_err(unreached)?;
    stream.flush().await.map_err(unreached)?;
    let frame = Frame::read(&mut stream, GREETING_BYTES_MAX).await.map_err(unreached)?;
    match frame.kind {
        Kind::Admitted => serde_json::from_slice(&frame.body).map_err(|error| JoinError::Malformed(error.to_string())),
        Kind::Refused => Err(JoinError::Refused(Refusal::read(&frame.body))),
        _ => Err(JoinError::Malformed("it is no answer".to_owned())),
    }
}

/// Makes the directory of who was admitted.
fn settle(data: &Path, token: &Token, ask: &Join, key: KeyPair, admitted: Admitted) -> Result<Home, JoinError> {
    let malformed = |why: String| JoinError::Malformed(why);
    let Admitted { node, joined_ms, certificate, authority, authority_key, members, groups } = admitted;
    let certificate = parse_certificate(certificate.as_bytes()).map_err(malformed)?;
    let authority = Authority {
        certificate: parse_certificate(authority.as_bytes()).map_err(malformed)?,
        key: KeyPair::from_pem(&authority_key).map_err(|error| malformed(error.to_string()))?,
    };
    let is_of_token = Some(fingerprint(&authority.certificate)) == token.fingerprint();
    if !is_of_token || certificates::named(&certificate) != Some((token.cluster, node)) || !members.is_valid() || groups == 0 {
        return Err(malformed("it is of another cluster or node".to_owned()));
    }
    let (name, address) = (ask.name.clone(), ask.address.clone());
    let identity = Identity { cluster: token.cluster, node, name, address, address_version: 1, joined_ms, is_founder: false, groups };
    let mut members = members;
    members.note(node, &identity.member());
    let home = Home { directory: directory(data), identity, authority, credentials: Credentials { certificate, key }, members };
    home.settle()?;
    Ok(home)
}

/// Judges whether who asks is let in, and lets it in: it is in the table from now on.
pub(super) fn admit(shared: &Rc<Shared>, body: &[u8]) -> Result<Admitted, Refusal> {
    let Ok(Join { magic, versions, cluster, secret, name, address, public_key, clock_ms }) = serde_json::from_slice(body) else {
        return Err(Refusal::new(Reason::Malformed, "what was asked cannot be read"));
    };
    let refuse = |reason, text: &str| Err(Refusal::new(reason, text));
    if magic != MAGIC {
        return refuse(Reason::Malformed, "this is no greeting of a server");
    }
    check_versions(versions)?;
    let identity = &shared.home.identity;
    if cluster != identity.cluster {
        return refuse(Reason::OtherCluster, "the token is of another cluster");
    }
    if shared.standing() != Some(Standing::Joined) {
        return refuse(Reason::Left, "the server that made the token leaves the cluster, or has left it");
    }
    let now_ms = shared.now_ms();
    check_clocks(clock_ms, now_ms, shared.options.clock_skew_max_ms)?;
    if !is_name(&name) || !is_address(&address) {
        return refuse(Reason::Name, "the name or the address cannot be used");
    }
    if shared.with_members(|members| members.called(&name)).is_some() {
        return refuse(Reason::NameTaken, "another node of the cluster has that name");
    }
    if shared.with_members(|members| members.iter().count()) >= MEMBERS_MAX {
        return refuse(Reason::Full, "the cluster has as many nodes as it can have, those that have left among them");
    }
    let node = random_id();
    let key = parse_hex(&public_key).unwrap_or_default();
    let certificate = shared.home.authority.certify(cluster, node, &key).map_err(|why| Refusal::new(Reason::Malformed, why))?;
    redeem(&shared.home.tokens(), &secret, now_ms)?;
    let member = Member { name, address, address_version: 1, joined_ms: now_ms, standing: Standing::Joined };
    tracing::info!(node, name = member.name, address = member.address, "a node joins the cluster");
    shared.change_members(|members| members.note(node, &member));
    Ok(Admitted {
        node,
        joined_ms: now_ms,
        certificate: pem(&certificate),
        authority: pem(&shared.home.authority.certificate),
        authority_key: shared.home.authority.key.serialize_pem(),
        members: shared.with_members(Members::clone),
        groups: shared.home.identity.groups,
    })
}

/// # Errors
/// Those of the connection.
pub(super) async fn tell_admitted(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), admitted: Admitted) -> io::Result<()> {
    let body = serde_json::to_vec(&admitted).expect("texts and numbers");
    Frame::new(Kind::Admitted, 0, body).write(stream).await?;
    stream.shutdown().await
}
