//! Files that are there wholly or not at all, and that nobody else reads; and chance that nobody may guess.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Writes a file that only its owner may read. It is there wholly or not at all, whatever happens.
pub fn write_privately(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    // One that was left there may be readable to others.
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    sync_directory(path.parent().unwrap_or(Path::new(".")))
}

pub fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Bytes that nobody can guess.
pub fn random<const BYTES: usize>() -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system has chance to give");
    bytes
}

/// A number of 63 bits that is not 0, so that it is the same number wherever it is read.
pub fn random_id() -> u64 {
    loop {
        let id = u64::from_le_bytes(random()) >> 1;
        if id != 0 {
            return id;
        }
    }
}
