//! All that the telemetry asks of the operating system: files below a root, units, space on file systems.
//!
//! Everything may be missing or vanish between two reads; that is `None`, never an error.

use std::borrow::Cow;
use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// More than any file read here holds on a large host; what is longer is cut.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads files below `root` into one buffer that is used again.
pub(super) struct Host {
    root: PathBuf,
    buffer: Vec<u8>,
    pub units: Units,
}

/// What the kernel's numbers count in.
#[derive(Clone, Copy)]
pub(super) struct Units {
    pub ticks_per_second: f64,
    pub page_bytes: u64,
}

/// A file system's room in bytes.
pub(super) struct Space {
    pub total: u64,
    /// What a user without privileges may still fill.
    pub available: u64,
    pub used: u64,
}

impl Host {
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), buffer: Vec::with_capacity(16 << 10), units: Units::of_kernel() }
    }

    /// The text of a file, or `None` where it cannot be read. Bytes that are not UTF-8 are replaced.
    pub fn read(&mut self, path: &str) -> Option<Cow<'_, str>> {
        self.buffer.clear();
        let file = File::open(self.root.join(path)).ok()?;
        file.take(FILE_BYTES_MAX).read_to_end(&mut self.buffer).ok()?;
        Some(String::from_utf8_lossy(&self.buffer))
    }

    /// A file's text without the white space around it.
    pub fn read_trimmed(&mut self, path: &str) -> Option<String> {
        let text = self.read(path)?.trim().to_owned();
        (!text.is_empty()).then_some(text)
    }

    /// The names in a folder; none where it cannot be read.
    pub fn names(&self, path: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.root.join(path)) else { return Vec::new() };
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }

    pub fn space(&self, mount: &str) -> Option<Space> {
        let path = self.root.join(mount.trim_start_matches('/'));
        let path = CString::new(path.as_os_str().as_bytes()).ok()?;
        let mut stat = std::mem::MaybeUninit::<libc::statvfs>::uninit();
        // SAFETY: `path` ends in a zero byte and `stat` has room for what the call writes.
        let code = unsafe { libc::statvfs(path.as_ptr(), stat.as_mut_ptr()) };
        if code != 0 {
            return None;
        }
        // SAFETY: the call returned 0, so it filled `stat`.
        let stat = unsafe { stat.assume_init() };
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        let used = stat.f_blocks.saturating_sub(stat.f_bfree);
        Some(Space { total: bytes(stat.f_blocks), available: bytes(stat.f_bavail), used: bytes(used) })
    }
}

impl Units {
    fn of_kernel() -> Self {
        // SAFETY: `sysconf` only reads its argument.
        let value = |name| unsafe { libc::sysconf(name) };
        Self {
            ticks_per_second: if value(libc::_SC_CLK_TCK) > 0 { value(libc::_SC_CLK_TCK) as f64 } else { 100.0 },
            page_bytes: u64::try_from(value(libc::_SC_PAGESIZE)).unwrap_or(4096),
        }
    }
}
