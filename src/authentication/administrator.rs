//! The administrator of a server that has just begun: a random password in a file that only its owner can read.
//!
//! There are no default passwords. `create` writes the file once, `read` takes it up again and refuses one that others can read or have made; the command line
//! `find`s it where it stands, and gives it only to a server of the same user.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rand::TryRng;
use zeroize::Zeroizing;

use super::Secret;

/// The principal that is made.
pub const PRINCIPAL: &str = "administrator";
/// The file's name in the data directory.
pub const FILE: &str = "administrator";

const FILE_BYTES_MAX: u64 = 4096;
/// 192 bits, which are 32 letters.
const RANDOM_BYTES: usize = 24;

/// Who the administrator is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Administrator {
    pub principal: Box<str>,
    pub password: Secret,
}

/// Makes the file with a new password in an existing directory. None: there is one already, which is left as it is.
///
/// It appears with all that is in it or not at all, and never takes the place of another.
pub fn create(directory: &Path) -> io::Result<Option<Administrator>> {
    let path = directory.join(FILE);
    if std::fs::symlink_metadata(&path).is_ok() {
        return Ok(None);
    }
    let password = random_text()?;
    let draft = directory.join(format!("{FILE}.{}", &*random_text()?));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW).open(&draft)?;
    let text = Zeroizing::new(format!("{PRINCIPAL}\n{}\n", &*password));
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    // A link fails where there is a file, unlike a rename.
    let linked = written.and_then(|()| std::fs::hard_link(&draft, &path));
    std::fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
        other => other?,
    }
    File::open(directory)?.sync_all()?;
    Ok(Some(Administrator { principal: PRINCIPAL.into(), password: Secret::new(password.as_bytes()) }))
}

/// Reads the file. Fails with `NotFound` where there is none, and with `PermissionDenied` where others can read it or it is another user's.
pub fn read(directory: &Path) -> io::Result<Administrator> {
    let path = directory.join(FILE);
    let refuse = |reason: &str| io::Error::new(io::ErrorKind::PermissionDenied, format!("{}: {reason}", path.display()));
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(&path)?;
    let about = file.metadata()?;
    if !about.is_file() {
        return Err(refuse("not a file"));
    }
    if about.uid() != own_user()? {
        return Err(refuse("it is another user's"));
    }
    if about.mode() & 0o077 != 0 {
        return Err(refuse("others can read it; `chmod 600` keeps them out, but its password may be known already"));
    }
    let mut text = Zeroizing::new(String::with_capacity(FILE_BYTES_MAX as usize + 1));
    file.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
    let mut lines = text.lines();
    match (lines.next(), lines.next()) {
        (Some(principal), Some(password)) if !principal.is_empty() && !password.is_empty() => {
            Ok(Administrator { principal: principal.into(), password: Secret::new(password.as_bytes()) })
        }
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, format!("{}: not a principal and a password, a line each", path.display()))),
    }
}

/// The administrator of the server at one of these addresses, from the first of the directories that has a file, if whoever listens at any of them is a process
/// of this user on this host. None otherwise, so that nobody else who took the port is shown the password.
pub fn find<'a>(addresses: &[SocketAddr], directories: impl Iterator<Item = &'a Path>) -> Option<Administrator> {
    if !addresses.iter().all(|address| address.ip().to_canonical().is_loopback()) {
        return None;
    }
    let found = directories.map(read).find_map(Result::ok)?;
    let user = own_user().ok()?;
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| std::fs::read_to_string(table).unwrap_or_default());
    let mut owners = addresses.iter().flat_map(|address| tables.iter().flat_map(|table| listeners(table, *address))).peekable();
    owners.peek().is_some().then(|| owners.all(|owner| owner == user))?.then_some(found)
}

/// The users whose sockets listen where a connection to `address`, one of loopback, may arrive.
fn listeners(table: &str, address: SocketAddr) -> Vec<u32> {
    let row = |line: &str| {
        let mut fields = line.split_whitespace();
        let (place, state) = (fields.nth(1)?, fields.nth(1)?);
        let user: u32 = fields.nth(3)?.parse().ok()?;
        let (host, port) = place.split_once(':')?;
        let listens = state == "0A" && u16::from_str_radix(port, 16).ok()? == address.port();
        let host = host_of(host)?;
        let takes = host.is_unspecified() || host.to_canonical() == address.ip().to_canonical();
        (listens && takes).then_some(user)
    };
    if address.ip().to_canonical().is_loopback() { table.lines().filter_map(row).collect() } else { Vec::new() }
}

/// An address as the kernel's tables have it: words of 32 bits as they lie in memory.
fn host_of(text: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(text.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    match text.len() {
        8 => Some(IpAddr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (at, part) in bytes.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(at * 8)?);
            }
            Some(IpAddr::from(bytes))
        }
        _ => None,
    }
}

/// The user that this process acts as, who owns its folder.
fn own_user() -> io::Result<u32> {
    Ok(std::fs::metadata("/proc/self")?.uid())
}

fn random_text() -> io::Result<Zeroizing<String>> {
    use base64::Engine;
    let mut bytes = Zeroizing::new([0; RANDOM_BYTES]);
    rand::rngs::SysRng.try_fill_bytes(&mut *bytes).map_err(io::Error::other)?;
    Ok(Zeroizing::new(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(*bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("tidewire-administrator-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_password_is_made_once_and_read_back() {
        let directory = Directory::new("once");
        let made = create(&directory.0).unwrap().expect("a new one");
        assert_eq!(made.password.bytes().len(), 32);
        assert_eq!(read(&directory.0).unwrap(), made);
        assert_eq!(create(&directory.0).unwrap(), None);
        assert_eq!(read(&directory.0).unwrap(), made, "it is left as it is");
        let names: Vec<_> = std::fs::read_dir(&directory.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, [FILE], "nothing else is left");
        assert_eq!(std::fs::metadata(directory.0.join(FILE)).unwrap().mode() & 0o777, 0o600);
        let other = Directory::new("other");
        assert_ne!(create(&other.0).unwrap().expect("a new one").password, made.password);
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let directory = Directory::new("open");
        create(&directory.0).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o666] {
            std::fs::set_permissions(directory.0.join(FILE), std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(read(&directory.0).unwrap_err().kind(), io::ErrorKind::PermissionDenied, "{mode:o}");
        }
        std::fs::set_permissions(directory.0.join(FILE), std::fs::Permissions::from_mode(0o400)).unwrap();
        assert!(read(&directory.0).is_ok());
    }

    #[test]
    fn a_link_or_a_directory_in_its_place_is_refused() {
        let (real, directory) = (Directory::new("real"), Directory::new("link"));
        create(&real.0).unwrap();
        std::os::unix::fs::symlink(real.0.join(FILE), directory.0.join(FILE)).unwrap();
        assert!(read(&directory.0).is_err());
        assert_eq!(create(&directory.0).unwrap(), None);
        std::fs::remove_file(directory.0.join(FILE)).unwrap();
        std::fs::create_dir(directory.0.join(FILE)).unwrap();
        assert!(read(&directory.0).is_err());
    }

    #[test]
    fn a_file_without_a_password_is_refused_and_one_that_is_not_there_is_not_found() {
        let directory = Directory::new("broken");
        assert_eq!(read(&directory.0).unwrap_err().kind(), io::ErrorKind::NotFound);
        for text in ["", "administrator\n", "\n\n", "administrator\n\n"] {
            let path = directory.0.join(FILE);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            assert_eq!(read(&directory.0).unwrap_err().kind(), io::ErrorKind::InvalidData, "{text:?}");
        }
    }

    #[test]
    fn it_is_found_for_a_server_of_the_same_user_on_this_host_only() {
        let (empty, directory) = (Directory::new("empty"), Directory::new("find"));
        let made = create(&directory.0).unwrap().expect("a new one");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let directories = || [&*empty.0, &*directory.0].into_iter();
        assert_eq!(find(&[address], directories()), Some(made));
        assert_eq!(find(&[SocketAddr::from(([192, 0, 2, 1], address.port()))], directories()), None);
        assert_eq!(find(&[address], [&*empty.0].into_iter()), None);
        drop(listener);
        assert_eq!(find(&[address], directories()), None, "nobody listens");
    }

    #[test]
    fn the_kernels_table_says_whose_listener_it_is() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 1 1 0 100 0 0 10 0\n\
             1: 00000000:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0\n\
             2: 0100007F:1F92 0100007F:9999 01 00000000:00000000 00:00000000 00000000     7        0 1 1 0 100 0 0 10 0\n\
             3: broken\n";
        let of = |address: &str| listeners(table, address.parse().expect("an address"));
        assert_eq!(of("127.0.0.1:8080"), [1000]);
        assert_eq!(of("127.0.0.2:8080"), [] as [u32; 0]);
        assert_eq!(of("127.0.0.1:8081"), [0]);
        assert_eq!(of("127.0.0.1:8082"), [] as [u32; 0], "a connection is no listener");
        assert_eq!(host_of("00000000000000000000000001000000"), Some("::1".parse().unwrap()));
    }
}
