//! How the last run of a store ended. A tail of the journal that was cut cleanly cannot be seen in it: whether something that was acknowledged may be missing follows
//! from what an acknowledgement survives, and from what befell the server.
//!
//! A run notes at its start under which boot of the kernel it writes, and at its end, once all is synced, that it was stopped in order. A note that cannot be made
//! errs on the side of a worse end.

use super::Ack;
use super::disk::sync_directory;
use super::open::write_atomically;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

const RUN: &str = "run.json";
const STOPPED: &str = "stopped";

/// Under which boot the kernel runs: another after each loss of power.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

#[derive(Serialize, Deserialize)]
struct Run {
    boot: Option<String>,
    ack: String,
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
}

impl LastRun {
    /// Whether what it acknowledged last may be missing.
    pub fn may_lack_tail(self) -> bool {
        match self.ending {
            Ending::Unknown | Ending::InOrder => false,
            Ending::Killed => self.ack == Ack::Memory,
            Ending::HostStopped => self.ack != Ack::Durable,
        }
    }

    /// The last run that was noted.
    pub(super) fn read(directory: &Path) -> Self {
        let boot = fs::read_to_string(BOOT_ID).ok();
        Self::read_under(directory, boot.as_deref().map(str::trim))
    }

    pub(super) fn read_under(directory: &Path, now: Option<&str>) -> Self {
        let note = fs::read(directory.join(RUN)).ok().and_then(|bytes| serde_json::from_slice::<Run>(&bytes).ok());
        let Some(Run { boot, ack }) = note else { return Self { ending: Ending::Unknown, ack: Ack::Written } };
        let ack = Ack::ALL.into_iter().zip(Ack::NAMES).find(|(_, name)| *name == ack).map_or(Ack::Memory, |(ack, _)| ack);
        let ending = match boot {
            _ if directory.join(STOPPED).exists() => Ending::InOrder,
            Some(boot) if now == Some(&boot) => Ending::Killed,
            _ => Ending::HostStopped,
        };
        Self { ending, ack }
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

/// Notes that a run begins. Where the disk takes nothing the note of the last one stays, of which nobody can say any more that it ended in order.
pub(super) fn note_begin(directory: &Path, ack: Ack) -> io::Result<()> {
    let boot = fs::read_to_string(BOOT_ID).ok().map(|boot| boot.trim().to_owned());
    let note = serde_json::to_string(&Run { boot, ack: name_of(ack).to_owned() }).expect("two texts");
    // Removing takes no room.
    match fs::remove_file(directory.join(STOPPED)) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => sync_directory(directory)?,
    }
    if let Err(error) = write_atomically(&directory.join(RUN), note.as_bytes()) {
        tracing::warn!(%error, "it cannot be noted that the server has started: after a crash it is not known what may be missing");
    }
    Ok(())
}

/// Where a run notes that it ends in order.
#[derive(Clone, Debug)]
pub(super) struct EndNote(PathBuf);

impl EndNote {
    pub(super) fn of(directory: &Path) -> Self {
        Self(directory.join(STOPPED))
    }

    /// Everything is synced.
    pub(super) fn write(&self) {
        if let Err(error) = write_atomically(&self.0, b"") {
            tracing::warn!(%error, "it cannot be noted that the server was stopped in order");
        }
    }
}
