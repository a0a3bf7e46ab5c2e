//! Where journal segments live: a directory of files, or for tests a memory that fails as disks do.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Syncs what one segment held when it was asked for; may run on any thread.
pub type Sync = Box<dyn FnOnce() -> io::Result<()> + Send>;

/// Segments by number. One of them, the one created last, is written to.
pub trait Disk: Send {
    /// The segments' numbers, ascending.
    fn segments(&mut self) -> io::Result<Vec<u64>>;
    /// The first `bytes_max` bytes of a segment.
    fn read(&mut self, segment: u64, bytes_max: usize) -> io::Result<Vec<u8>>;
    /// Creates a segment, or empties one of that number, and returns when its header and its name survive a loss of power.
    fn create(&mut self, segment: u64, header: &[u8]) -> io::Result<()>;
    /// Writes at an offset of the segment created last. After an error any part of it may have been written.
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    fn truncate(&mut self, length: u64) -> io::Result<()>;
    /// Returns when what was written survives a loss of power. After an error nothing is known of what was not synced before.
    fn sync(&mut self) -> io::Result<()>;
    /// [`Self::sync`] for another thread; of the segment created last.
    fn sync_later(&mut self) -> io::Result<Sync>;
    /// Makes a segment of an earlier run survive a loss of power, whoever wrote it.
    fn sync_old(&mut self, segment: u64) -> io::Result<()>;
    fn remove(&mut self, segment: u64) -> io::Result<()>;
    /// Renames a segment so that it is none any more, but not lost.
    fn set_aside(&mut self, segment: u64) -> io::Result<()>;
}

/// Segments as files of a directory.
pub struct Files {
    directory: PathBuf,
    active: Option<File>,
}

const ENDING: &str = ".journal";

impl Files {
    pub fn open(directory: &Path) -> io::Result<Self> {
        if !directory.is_dir() {
            fs::create_dir(directory)?;
            sync_directory(directory.parent().unwrap_or(Path::new(".")))?;
        }
        Ok(Self { directory: directory.to_owned(), active: None })
    }

    pub fn path(&self, segment: u64) -> PathBuf {
        self.directory.join(format!("{segment:016}{ENDING}"))
    }

    fn active(&self) -> io::Result<&File> {
        self.active.as_ref().ok_or_else(|| io::Error::other("no segment was created"))
    }

    /// Replaces a segment by its first `length` bytes; the whole one is kept under the returned name.
    pub fn cut(&mut self, segment: u64, length: usize) -> io::Result<PathBuf> {
        let (path, aside) = (self.path(segment), self.aside(segment));
        let whole = fs::read(&path)?;
        fs::rename(&path, &aside)?;
        let mut file = File::create(&path)?;
        io::Write::write_all(&mut file, &whole[..length])?;
        file.sync_all()?;
        sync_directory(&self.directory)?;
        Ok(aside)
    }

    /// A name that no file has.
    fn aside(&self, segment: u64) -> PathBuf {
        let name = |copy: u32| self.directory.join(format!("{segment:016}.damaged-{copy}"));
        (1..).map(name).find(|path| !path.exists()).expect("numbers do not run out")
    }
}

pub fn sync_directory(path: &Path) -> io::Result<()> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    File::open(path)?.sync_all()
}

impl Disk for Files {
    fn segments(&mut self) -> io::Result<Vec<u64>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let name = entry?.file_name();
            if let Some(number) = name.to_str().and_then(|name| name.strip_suffix(ENDING)?.parse().ok()) {
                found.push(number);
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    fn read(&mut self, segment: u64, bytes_max: usize) -> io::Result<Vec<u8>> {
        let file = File::open(self.path(segment))?;
        let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX).min(bytes_max);
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    fn create(&mut self, segment: u64, header: &[u8]) -> io::Result<()> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(self.path(segment))?;
        file.write_all_at(header, 0)?;
        file.sync_all()?;
        sync_directory(&self.directory)?;
        self.active = Some(file);
        Ok(())
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.active()?.write_all_at(bytes, offset)
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.active()?.set_len(length)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.active()?.sync_data()
    }

    fn sync_later(&mut self) -> io::Result<Sync> {
        let file = self.active()?.try_clone()?;
        Ok(Box::new(move || file.sync_data()))
    }

    fn sync_old(&mut self, segment: u64) -> io::Result<()> {
        File::open(self.path(segment))?.sync_all()
    }

    fn remove(&mut self, segment: u64) -> io::Result<()> {
        fs::remove_file(self.path(segment))
    }

    fn set_aside(&mut self, segment: u64) -> io::Result<()> {
        fs::rename(self.path(segment), self.aside(segment))?;
        sync_directory(&self.directory)
    }
}
