//! How the last run of a store ended. A tail of the journal that was cut cleanly cannot be seen in it: whether something that was acknowledged may be missing follows
//! from what an acknowledgement survives, and from what befell the server.
//!
//! A run notes at its start under which boot of the kernel it writes, and at its end, once all is synced, that it was stopped in order and which record was its last:
//! where the journal ends elsewhere, somebody else has written or cut since. A note that cannot be made or read errs on the side of a worse end, and that something may
//! be missing is noted on until a run is stopped in order.

use super::Ack;
use super::disk::sync_directory;
use super::open::write_atomically;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;

const RUN: &str = "run.json";
const STOPPED: &str = "stopped";

/// Under which boot the kernel runs: another after each loss of power.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

#[derive(Serialize, Deserialize)]
struct Run {
    boot: Option<String>,
    ack: String,
    /// What an earlier run has acknowledged may be missing, and none was stopped in order since.
    #[serde(default)]
    lacks_tail: bool,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The store is new, or of a server that noted nothing.
    Unknown,
    /// It was stopped, and all is on the disk.
    InOrder,
    /// The process was killed, or has failed.
    Killed,
    /// The host has lost its power, or its kernel has failed.
    HostStopped,
}

/// The last run of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastRun {
    pub ending: Ending,
    /// When it acknowledged.
    pub ack: Ack,
    /// Whether something was missing before it already.
    pub lacked_tail: bool,
}

impl LastRun {
    /// Whether what was acknowledged last may be missing.
    pub fn may_lack_tail(self) -> bool {
        match self.ending {
            Ending::Unknown | Ending::InOrder => false,
            Ending::Killed => self.lacked_tail || self.ack == Ack::Memory,
            Ending::HostStopped => self.lacked_tail || self.ack != Ack::Durable,
        }
    }

    /// The last run that was noted, of a journal whose last record is this.
    pub(super) fn read(directory: &Path, last_record: u64) -> Self {
        let boot = fs::read_to_string(BOOT_ID).ok();
        Self::read_under(directory, last_record, boot.as_deref().map(str::trim))
    }

    pub(super) fn read_under(directory: &Path, last_record: u64, now: Option<&str>) -> Self {
        let text = match fs::read(directory.join(RUN)) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Self { ending: Ending::Unknown, ack: Ack::Written, lacked_tail: false };
            }
            Err(_) => Vec::new(),
        };
        // Nobody knows what the run was that left something else.
        let unread = Run { boot: None, ack: Ack::NAMES[0].to_owned(), lacks_tail: false };
        let Run { boot, ack, lacks_tail } = serde_json::from_slice(&text).unwrap_or(unread);
        let ack = Ack::ALL.into_iter().zip(Ack::NAMES).find(|(_, name)| *name == ack).map_or(Ack::Memory, |(ack, _)| ack);
        let stopped_at = fs::read_to_string(directory.join(STOPPED)).ok().and_then(|text| text.trim().parse::<u64>().ok());
        let ending = match boot {
            _ if stopped_at == Some(last_record) => Ending::InOrder,
            Some(boot) if now == Some(&boot) && stopped_at.is_none() => Ending::Killed,
            _ => Ending::HostStopped,
        };
        Self { ending, ack, lacked_tail: lacks_tail }
    }
}

impl fmt::Display for LastRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = name_of(self.ack);
        match self.ending {
            Ending::Unknown => f.write_str("nothing is known of the run before"),
            Ending::InOrder => f.write_str("the server was stopped in order"),
            Ending::Killed => {
                write!(f, "the server ended without being stopped, with storage.ack = {name}: what was acknowledged last may be missing")
            }
            Ending::HostStopped => {
                write!(f, "the host has stopped while the server ran, with storage.ack = {name}: what was acknowledged last may be missing")
            }
        }
    }
}

fn name_of(ack: Ack) -> &'static str {
    Ack::NAMES[Ack::ALL.iter().position(|other| *other == ack).expect("all are there")]
}

/// Notes that a run begins behind `last`.
pub(super) fn note_begin(directory: &Path, ack: Ack, last: LastRun) -> io::Result<()> {
    let boot = fs::read_to_string(BOOT_ID).ok().map(|boot| boot.trim().to_owned());
    let note = Run { boot, ack: name_of(ack).to_owned(), lacks_tail: last.may_lack_tail() };
    let note = serde_json::to_string(&note).expect("two texts and a truth");
    // Removing takes no room.
    match fs::remove_file(directory.join(STOPPED)) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => sync_directory(directory)?,
    }
    let path = directory.join(RUN);
    if let Err(error) = write_atomically(&path, note.as_bytes()) {
        tracing::warn!(%error, "it cannot be noted that the server has started: after a crash it is not known what may be missing");
        // What the note of an earlier run says is not true of this one. Where there is none, none is made.
        let emptied = File::options().write(true).open(&path).and_then(|file| file.set_len(0).and_then(|()| file.sync_all()));
        return match emptied {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
    }
    Ok(())
}

/// Notes that a run ends in order: everything is synced, and this is the last record.
pub(super) fn note_end(directory: &Path, last_record: u64) {
    if let Err(error) = write_atomically(&directory.join(STOPPED), last_record.to_string().as_bytes()) {
        tracing::warn!(%error, "it cannot be noted that the server was stopped in order");
    }
}
