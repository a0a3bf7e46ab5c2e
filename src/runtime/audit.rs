//! The audit log: what shards note of who did what, as lines of a file.
//!
//! One thread writes it. Shards give it their notes by a bounded channel and never wait: what finds no room is counted, and a line says how many are lost. Lines of
//! one shard stand in the order of what happened. What cannot be written is tried again, whole: no line is torn where the disk was full for a while.

use crate::shard::Audit;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Notes of all shards that wait for the thread.
const NOTES_MAX: usize = 10_000;

/// Bytes that wait to be written, beyond which no more notes are taken: the disk is full, or slow.
const WAITING_BYTES_MAX: usize = 1 << 20;

/// Bytes after which nothing waits for more.
const WRITE_BYTES: usize = 64 << 10;

/// How long a line waits for others.
const PAUSE: Duration = Duration::from_millis(100);

/// See the module. Dropping it writes what is left; nobody may give notes any more then.
pub struct AuditLog {
    sink: AuditSink,
    orders: Arc<Orders>,
    thread: Option<JoinHandle<()>>,
}

/// Where a shard gives its notes.
#[derive(Clone)]
pub struct AuditSink {
    sender: Sender<Note>,
    lost: Arc<AtomicU64>,
}

struct Note {
    wall_ms: u64,
    audit: Box<Audit>,
}

#[derive(Default)]
struct Orders {
    reopen: AtomicBool,
    stop: AtomicBool,
}

impl AuditLog {
    /// Opens the file, or makes one that nobody else reads, and starts the thread.
    pub fn start(path: &Path) -> io::Result<Self> {
        let file = open(path)?;
        let (sender, receiver) = crossbeam_channel::bounded(NOTES_MAX);
        let (orders, lost) = (Arc::<Orders>::default(), Arc::<AtomicU64>::default());
        let writer = Writer { path: path.to_owned(), file, waiting: Vec::new(), written: 0, is_failing: false };
        let (told, counted) = (orders.clone(), lost.clone());
        let thread = std::thread::Builder::new().name("audit".into()).spawn(move || run(writer, &receiver, &told, &counted))?;
        Ok(Self { sink: AuditSink { sender, lost }, orders, thread: Some(thread) })
    }

    pub fn sink(&self) -> AuditSink {
        self.sink.clone()
    }

    /// Goes on in the file that is at the path now: the one before was given another name.
    pub fn reopen(&self) {
        self.orders.reopen.store(true, Ordering::Release);
    }
}

impl Drop for AuditLog {
    fn drop(&mut self) {
        self.orders.stop.store(true, Ordering::Release);
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the thread of the audit log has failed");
        }
    }
}

impl AuditSink {
    /// Gives a note of what happened at this time since the epoch. Never waits.
    pub fn note(&self, wall_ms: u64, audit: Box<Audit>) {
        if let Err(TrySendError::Full(_)) = self.sender.try_send(Note { wall_ms, audit }) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn run(mut writer: Writer, receiver: &Receiver<Note>, orders: &Orders, lost: &AtomicU64) {
    let mut since = Instant::now();
    loop {
        // Before the notes are taken: those that were given earlier are taken then.
        let is_over = orders.stop.load(Ordering::Acquire);
        if writer.waiting.is_empty() {
            since = Instant::now();
        }
        let pause = if is_over { Duration::ZERO } else { PAUSE.saturating_sub(since.elapsed()) };
        if writer.has_room() {
            take(&mut writer, receiver, pause);
            let count = lost.swap(0, Ordering::Relaxed);
            if count > 0 {
                writer.put(&Note { wall_ms: super::wall_ms(), audit: Box::new(Audit::lost(count)) });
            }
        } else {
            std::thread::sleep(PAUSE);
        }
        if orders.reopen.swap(false, Ordering::Acquire) {
            writer.reopen();
        }
        if is_over || writer.waiting.len() >= WRITE_BYTES || since.elapsed() >= PAUSE {
            writer.write();
            since = Instant::now();
        }
        if is_over && (receiver.is_empty() || writer.is_failing) {
            return writer.leave(receiver.len());
        }
    }
}

/// Takes notes until there is enough to write, or none came for so long.
fn take(writer: &mut Writer, receiver: &Receiver<Note>, pause: Duration) {
    match receiver.recv_timeout(pause) {
        Ok(note) => writer.put(&note),
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
    }
    while writer.waiting.len() < WRITE_BYTES
        && let Ok(note) = receiver.try_recv()
    {
        writer.put(&note);
    }
}

/// The file, and the lines that are not in it.
struct Writer {
    path: PathBuf,
    file: File,
    /// Lines, of whose first bytes so many are written.
    waiting: Vec<u8>,
    written: usize,
    is_failing: bool,
}

impl Writer {
    fn has_room(&self) -> bool {
        self.waiting.len() < WAITING_BYTES_MAX
    }

    fn put(&mut self, note: &Note) {
        note.audit.put_line(note.wall_ms, &mut self.waiting);
    }

    /// Writes what waits, as far as the disk takes it.
    fn write(&mut self) {
        while self.written < self.waiting.len() {
            match self.file.write(&self.waiting[self.written..]) {
                Ok(0) => return self.fail(&io::ErrorKind::WriteZero.into()),
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.fail(&error),
            }
        }
        self.waiting.clear();
        self.written = 0;
        if std::mem::take(&mut self.is_failing) {
            tracing::info!(path = %self.path.display(), "the audit log is written again");
        }
    }

    /// It is told once, until the file takes something again.
    fn fail(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.is_failing, true) {
            tracing::error!(path = %self.path.display(), %error, "the audit log cannot be written; what waits is tried again, and what finds no room is counted");
        }
    }

    /// What waits goes to the file that it is for, as far as that takes it; a line of which that has only a part stands in the next file too.
    fn reopen(&mut self) {
        self.write();
        match open(&self.path) {
            Ok(file) => {
                self.file = file;
                let whole = self.waiting[..self.written].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
                self.waiting.drain(..whole);
                self.written = 0;
            }
            Err(error) => {
                tracing::error!(path = %self.path.display(), %error, "the audit log cannot be opened again; it goes on in the file that it had");
            }
        }
    }

    /// The end. `left` notes were not taken.
    fn leave(self, left: usize) {
        let lines = self.waiting[self.written..].iter().filter(|byte| **byte == b'\n').count() + left;
        if lines > 0 {
            tracing::error!(path = %self.path.display(), lines, "lines of the audit log are lost: they could not be written");
        }
    }
}

/// The file at the path, to be written at its end, which is that of a line.
fn open(path: &Path) -> io::Result<File> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    // What is no file has no end.
    if file.metadata()?.is_file() && file.seek(SeekFrom::End(0))? > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("tidewire-audit-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn lines(&self, name: &str) -> Vec<serde_json::Value> {
            let text = std::fs::read_to_string(self.0.join(name)).unwrap();
            assert!(text.is_empty() || text.ends_with('\n'), "{text}");
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn note(number: u64) -> Box<Audit> {
        Box::new(Audit::lost(number))
    }

    fn numbers(lines: &[serde_json::Value]) -> Vec<u64> {
        lines.iter().map(|line| line["lost"].as_u64().unwrap()).collect()
    }

    fn writer(path: &Path) -> Writer {
        Writer { path: path.to_owned(), file: open(path).unwrap(), waiting: Vec::new(), written: 0, is_failing: false }
    }

    #[test]
    fn what_was_given_is_written_at_the_end_and_nobody_else_reads_it() {
        let directory = Directory::new("end");
        let path = directory.0.join("log");
        for start in 0..2 {
            let log = AuditLog::start(&path).unwrap();
            let sink = log.sink();
            (0..300).for_each(|number| sink.note(number, note(start * 300 + number)));
        }
        assert_eq!(numbers(&directory.lines("log")), (0..600).collect::<Vec<_>>());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(AuditLog::start(&directory.0).is_err());
    }

    #[test]
    fn a_torn_line_of_an_earlier_start_stands_alone() {
        let directory = Directory::new("torn");
        std::fs::write(directory.0.join("log"), "{\"time").unwrap();
        let mut writer = writer(&directory.0.join("log"));
        writer.put(&Note { wall_ms: 1, audit: note(7) });
        writer.write();
        let text = std::fs::read_to_string(directory.0.join("log")).unwrap();
        assert!(text.starts_with("{\"time\n{\"time\":\"1970"), "{text}");
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let directory = Directory::new("room");
        let (sender, receiver) = crossbeam_channel::bounded(2);
        let sink = AuditSink { sender, lost: Arc::default() };
        (0..5).for_each(|number| sink.note(number, note(number + 100)));
        let orders = Orders { stop: AtomicBool::new(true), ..Orders::default() };
        run(writer(&directory.0.join("log")), &receiver, &orders, &sink.lost);
        assert_eq!(numbers(&directory.lines("log")), [100, 101, 3]);
    }

    #[test]
    fn a_full_disk_tears_no_line_and_what_waits_is_written_once_there_is_room() {
        let directory = Directory::new("full");
        let path = directory.0.join("log");
        let mut writer = writer(&path);
        writer.file = OpenOptions::new().write(true).open("/dev/full").unwrap();
        (0..3).for_each(|number| writer.put(&Note { wall_ms: 1, audit: note(number) }));
        writer.write();
        assert!(writer.is_failing && writer.written == 0);
        // It has taken the first line and a part of the second.
        writer.written = writer.waiting.iter().position(|byte| *byte == b'\n').unwrap() + 5;
        writer.reopen();
        writer.write();
        assert!(!writer.is_failing && writer.waiting.is_empty());
        assert_eq!(numbers(&directory.lines("log")), [1, 2]);
    }
}
