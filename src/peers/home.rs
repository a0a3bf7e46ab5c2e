//! What a node keeps of its cluster: the directory `cluster` beside its data.
//!
//! ```text
//! identity.json       which cluster and node this is, its name and address
//! members.json        who is in the cluster, as far as this node has heard
//! authority.pem, .key the cluster's authority; every node has its key, so every node admits
//! node.pem, .key      this node's certificate and key
//! tokens/             what lets others in, see `token`
//! control.sock        how commands reach the running server
//! ```
//! All is readable to its owner only. The directory is made under another name and renamed, so it is there wholly or not at all. Whoever can read it is this
//! node, and can admit others.

use std::fmt;
use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rcgen::KeyPair;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::consensus::NodeId;

use super::certificates::{self, Authority, Credentials};
use super::files::{random_id, sync_directory, write_privately};
use super::members::{Member, Members, Standing, is_address, is_name};
use super::token::{Token, hex, new_secret};

/// Who a node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub cluster: u64,
    pub node: NodeId,
    pub name: String,
    /// Where the others reach it.
    pub address: String,
    pub address_version: u64,
    pub joined_ms: u64,
    /// The cluster was founded here, so this node founds the groups where they are not yet.
    pub is_founder: bool,
    /// Groups that the cluster's topics are shared out among, beside the one of what changes seldom. Fixed when the cluster is founded.
    pub groups: u16,
}

/// What a node starts with.
pub struct Home {
    pub directory: PathBuf,
    pub identity: Identity,
    pub authority: Authority,
    pub credentials: Credentials,
    pub members: Members,
}

/// Why a node's directory cannot be made or read.
#[derive(Debug)]
pub enum HomeError {
    /// It is a node of a cluster already.
    IsThere(PathBuf),
    /// A server that stood alone has stored there.
    HasStore(PathBuf),
    /// It is a node of no cluster.
    Missing(PathBuf),
    Name(String),
    Address(String),
    Damaged(PathBuf, String),
    Certificates(String),
    Host(PathBuf, io::Error),
}

impl fmt::Display for HomeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IsThere(path) => write!(formatter, "{}: is there already, so this is a node of a cluster", path.display()),
            Self::HasStore(path) => {
                write!(
                    formatter,
                    "{}: has the store of a server that stood alone; a node of a cluster begins with an empty directory",
                    path.display()
                )
            }
            Self::Missing(path) => write!(formatter, "{}: is not there, so this is a node of no cluster", path.display()),
            Self::Name(name) => write!(formatter, "`{name}` is no name of a node: 1 to 64 letters, digits, `-`, `_` and `.`"),
            Self::Address(address) => write!(formatter, "`{address}` is no address: HOST:PORT, by which the others reach this node"),
            Self::Damaged(path, why) => write!(formatter, "{}: is damaged: {why}", path.display()),
            Self::Certificates(why) => write!(formatter, "the certificates cannot be made or used: {why}"),
            Self::Host(path, error) => write!(formatter, "{}: {error}", path.display()),
        }
    }
}

impl std::error::Error for HomeError {}

/// What a directory has that a server has stored in.
const STORE: &str = "store.json";

/// Where a node keeps what is of its cluster, within its data directory.
pub fn directory(data: &Path) -> PathBuf {
    data.join("cluster")
}

impl Identity {
    /// As the others know it.
    pub fn member(&self) -> Member {
        let Self { name, address, address_version, joined_ms, .. } = self.clone();
        Member { name, address, address_version, joined_ms, standing: Standing::Joined }
    }
}

/// Founds a cluster of this one node. What it gives lets the next one in.
///
/// # Errors
/// Where the node is one of a cluster already, or name or address cannot be used; those of the disk.
pub fn found(data: &Path, name: &str, address: &str, groups: u16, now_ms: u64) -> Result<Token, HomeError> {
    check_free(data, name, address)?;
    let (cluster, node) = (random_id(), random_id());
    let authority = Authority::new(cluster).map_err(HomeError::Certificates)?;
    let key = certificates::new_key().map_err(HomeError::Certificates)?;
    let certificate = authority.certify(cluster, node, key.public_key_raw()).map_err(HomeError::Certificates)?;
    let (name, address) = (name.to_owned(), address.to_owned());
    let identity = Identity { cluster, node, name, address, address_version: 1, joined_ms: now_ms, is_founder: true, groups };
    let members = Members::from_iter([(node, identity.member())]);
    let home = Home { directory: directory(data), identity, authority, credentials: Credentials { certificate, key }, members };
    home.settle()?;
    home.token(now_ms)
}

/// Whether a node may be made there, under that name and address.
pub fn check_free(data: &Path, name: &str, address: &str) -> Result<(), HomeError> {
    let directory = directory(data);
    if directory.exists() {
        return Err(HomeError::IsThere(directory));
    }
    if data.join(STORE).exists() {
        return Err(HomeError::HasStore(data.to_owned()));
    }
    if !is_name(name) {
        return Err(HomeError::Name(name.to_owned()));
    }
    if !is_address(address) {
        return Err(HomeError::Address(address.to_owned()));
    }
    Ok(())
}

impl Home {
    /// What is kept in the data directory.
    ///
    /// # Errors
    /// `HomeError::Missing` where it is a node of no cluster; what is damaged, and those of the disk.
    pub fn open(data: &Path) -> Result<Self, HomeError> {
        let directory = directory(data);
        if !directory.exists() {
            return Err(HomeError::Missing(directory));
        }
        let path = |name: &str| directory.join(name);
        let identity: Identity = read_json(&path("identity.json"))?;
        let members: Members = read_json(&path("members.json"))?;
        let authority = Authority { certificate: read_certificate(&path("authority.pem"))?, key: read_key(&path("authority.key"))? };
        let credentials = Credentials { certificate: read_certificate(&path("node.pem"))?, key: read_key(&path("node.key"))? };
        let home = Self { identity, authority, credentials, members, directory };
        if certificates::named(&home.credentials.certificate) != Some((home.identity.cluster, home.identity.node)) {
            return Err(HomeError::Damaged(home.directory.join("node.pem"), "it is another node's".to_owned()));
        }
        if !home.members.is_valid() || home.members.get(home.identity.node).is_none() {
            return Err(HomeError::Damaged(home.directory.join("members.json"), "this node is not in it".to_owned()));
        }
        Ok(home)
    }

    /// Writes all of it where there is nothing yet.
    pub fn settle(&self) -> Result<(), HomeError> {
        let data = self.directory.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(data).map_err(host(data))?;
        let new = self.directory.with_extension("new");
        // What an attempt that was cut off has left.
        match fs::remove_dir_all(&new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(HomeError::Host(new, error)),
            _ => {}
        }
        DirBuilder::new().mode(0o700).create(&new).map_err(host(&new))?;
        let files = [
            ("identity.json", json(&self.identity)),
            ("members.json", json(&self.members)),
            ("authority.pem", pem(&self.authority.certificate)),
            ("authority.key", self.authority.key.serialize_pem()),
            ("node.pem", pem(&self.credentials.certificate)),
            ("node.key", self.credentials.key.serialize_pem()),
        ];
        for (name, text) in files {
            write_privately(&new.join(name), text.as_bytes()).map_err(host(&new))?;
        }
        // It fails where something is there.
        fs::rename(&new, &self.directory).map_err(host(&self.directory))?;
        sync_directory(data).map_err(host(data))
    }

    /// A token by which one node may join at this one.
    pub fn token(&self, now_ms: u64) -> Result<Token, HomeError> {
        let directory = self.tokens();
        let secret = new_secret(&directory, now_ms).map_err(host(&directory))?;
        let Identity { cluster, node, address, .. } = self.identity.clone();
        Ok(Token {
            cluster,
            node,
            addresses: vec![address],
            authority: hex(&certificates::fingerprint(&self.authority.certificate)),
            secret,
        })
    }

    pub fn tokens(&self) -> PathBuf {
        self.directory.join("tokens")
    }

    /// The node is reached at another address from its next start on.
    pub fn move_to(&mut self, address: &str) -> Result<(), HomeError> {
        if !is_address(address) {
            return Err(HomeError::Address(address.to_owned()));
        }
        if self.identity.address != address {
            self.identity.address = address.to_owned();
            self.identity.address_version += 1;
            let path = self.directory.join("identity.json");
            write_privately(&path, json(&self.identity).as_bytes()).map_err(host(&path))?;
        }
        Ok(())
    }
}

/// Keeps the members as they are now.
pub fn write_members(directory: &Path, members: &Members) -> io::Result<()> {
    write_privately(&directory.join("members.json"), json(members).as_bytes())
}

fn json(of: &impl Serialize) -> String {
    serde_json::to_string_pretty(of).expect("texts and numbers") + "\n"
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, HomeError> {
    let text = fs::read(path).map_err(host(path))?;
    serde_json::from_slice(&text).map_err(|error| HomeError::Damaged(path.to_owned(), error.to_string()))
}

fn read_certificate(path: &Path) -> Result<CertificateDer<'static>, HomeError> {
    let text = fs::read(path).map_err(host(path))?;
    parse_certificate(&text).map_err(|why| HomeError::Damaged(path.to_owned(), why))
}

pub fn parse_certificate(pem: &[u8]) -> Result<CertificateDer<'static>, String> {
    CertificateDer::from_pem_slice(pem).map_err(|error| error.to_string())
}

fn read_key(path: &Path) -> Result<KeyPair, HomeError> {
    let text = fs::read_to_string(path).map_err(host(path))?;
    KeyPair::from_pem(&text).map_err(|error| HomeError::Damaged(path.to_owned(), error.to_string()))
}

/// A certificate as text (RFC 7468).
pub fn pem(certificate: &CertificateDer<'_>) -> String {
    use base64::Engine;
    let digits = base64::engine::general_purpose::STANDARD.encode(certificate);
    let lines: String = digits.as_bytes().chunks(64).map(|line| format!("{}\n", String::from_utf8_lossy(line))).collect();
    format!("-----BEGIN CERTIFICATE-----\n{lines}-----END CERTIFICATE-----\n")
}

fn host(path: &Path) -> impl FnOnce(io::Error) -> HomeError + '_ {
    |error| HomeError::Host(path.to_owned(), error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::tests::Folder;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_founded_node_is_opened_again_and_not_founded_twice() {
        let folder = Folder::new();
        let token = found(&folder.0, "a", "localhost:1", 2, 5).unwrap();
        let home = Home::open(&folder.0).unwrap();
        assert_eq!((home.identity.cluster, home.identity.node), (token.cluster, token.node));
        assert_eq!(home.members.voters(), [token.node].into());
        assert!(matches!(found(&folder.0, "a", "localhost:1", 2, 5), Err(HomeError::IsThere(_))));
        for entry in fs::read_dir(&home.directory).unwrap() {
            let entry = entry.unwrap();
            let expected = if entry.file_type().unwrap().is_dir() { 0o755 } else { 0o600 };
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            assert!(mode <= expected, "{:?} {mode:o}", entry.path());
        }
    }

    #[test]
    fn what_was_cut_off_while_founding_is_no_hindrance() {
        let folder = Folder::new();
        let new = directory(&folder.0).with_extension("new");
        fs::create_dir_all(&new).unwrap();
        fs::write(new.join("identity.json"), "{").unwrap();
        assert!(matches!(Home::open(&folder.0), Err(HomeError::Missing(_))));
        found(&folder.0, "a", "localhost:1", 2, 5).unwrap();
        assert!(Home::open(&folder.0).is_ok());
    }

    #[test]
    fn names_and_addresses_that_cannot_be_used_found_nothing() {
        let folder = Folder::new();
        assert!(matches!(found(&folder.0, "a b", "localhost:1", 2, 5), Err(HomeError::Name(_))));
        assert!(matches!(found(&folder.0, "a", "localhost", 2, 5), Err(HomeError::Address(_))));
        assert!(!directory(&folder.0).exists());
    }

    #[test]
    fn a_damaged_file_is_named() {
        for name in ["identity.json", "members.json", "authority.pem", "authority.key", "node.pem", "node.key"] {
            let folder = Folder::new();
            found(&folder.0, "a", "localhost:1", 2, 5).unwrap();
            let path = directory(&folder.0).join(name);
            fs::write(&path, "{}").unwrap();
            let error = Home::open(&folder.0).err().expect(name);
            assert!(matches!(&error, HomeError::Damaged(damaged, _) if *damaged == path), "{error}");
        }
        let (one, other) = (Folder::new(), Folder::new());
        for folder in [&one, &other] {
            found(&folder.0, "a", "localhost:1", 2, 5).unwrap();
        }
        fs::copy(directory(&one.0).join("node.pem"), directory(&other.0).join("node.pem")).unwrap();
        assert!(matches!(Home::open(&other.0), Err(HomeError::Damaged(..))));
    }

    #[test]
    fn a_new_address_has_a_higher_version() {
        let folder = Folder::new();
        found(&folder.0, "a", "localhost:1", 2, 5).unwrap();
        let mut home = Home::open(&folder.0).unwrap();
        home.move_to("localhost:1").unwrap();
        assert_eq!(home.identity.address_version, 1);
        home.move_to("localhost:2").unwrap();
        let home = Home::open(&folder.0).unwrap();
        assert_eq!((home.identity.address_version, &*home.identity.address), (2, "localhost:2"));
    }
}
