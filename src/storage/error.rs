//! Why a store is not opened: each says what, where, and what an operator can do.

use super::base::BaseError;
use super::replay::{Corruption, ReplayError};
use std::any::Any;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug)]
pub enum OpenError {
    /// The host refuses: permissions, space, a failing disk.
    Host { path: PathBuf, error: io::Error },
    /// Another process has the store open.
    Locked { path: PathBuf, process: Option<u32> },
    /// Written by another version.
    Format { path: PathBuf, found: u64, expected: u64 },
    /// The store was made for another number of partitions.
    Partitions { path: PathBuf, found: u64, expected: u64 },
    /// What says what the directory is is missing or unreadable.
    Manifest { path: PathBuf, what: String },
    /// The journal, or what it says of the state, is damaged.
    Corrupt { path: PathBuf, corruption: Corruption },
    /// It has topics of a server alone, whose numbers may be those of a cluster's topics.
    Alone { path: PathBuf },
    /// The checkpointed state is damaged.
    State { path: PathBuf, what: String },
}

impl OpenError {
    pub fn host(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::Host { path, error }
    }

    pub(super) fn base(path: &Path) -> impl FnOnce(BaseError) -> Self {
        let path = path.to_owned();
        move |error| match error {
            BaseError::Engine(fjall::Error::Io(error)) => Self::Host { path, error },
            error => Self::State { path, what: error.to_string() },
        }
    }

    pub(super) fn replay(path: &Path) -> impl FnOnce(ReplayError) -> Self {
        let path = path.to_owned();
        move |error| match error {
            ReplayError::Host(error) => Self::Host { path, error },
            ReplayError::Corrupt(corruption) => Self::Corrupt { path, corruption },
        }
    }

    /// Whether the store is damaged, rather than the host unwilling.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Manifest { .. } | Self::Corrupt { .. } | Self::State { .. })
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Locked { path, process: Some(process) } => {
                write!(f, "{}: process {process} has this store open; each server needs one of its own", path.display())
            }
            Self::Locked { path, process: None } => {
                write!(f, "{}: another process has this store open; each server needs one of its own", path.display())
            }
            Self::Format { path, found, expected } => {
                write!(f, "{}: found a store of format {found}, expected {expected}; use the version that wrote it", path.display())
            }
            Self::Partitions { path, found, expected } => {
                write!(f, "{}: found a store of {found} partitions, expected {expected}; export it and import it anew", path.display())
            }
            Self::Alone { path } => {
                write!(
                    f,
                    "{}: found the store of a server that was in no cluster; a server of a cluster needs one of its own",
                    path.display()
                )
            }
            Self::Manifest { path, what } => write!(f, "{}: {what}", path.display()),
            Self::Corrupt { path, corruption } => write!(
                f,
                "{}: the journal is damaged: {corruption}. Nothing was changed. Restore a copy, or give up what is behind the damage \
                 with `tidewire storage cut`",
                path.display()
            ),
            Self::State { path, what } => {
                write!(f, "{}: the checkpointed state is damaged: {what}. Nothing was changed. Restore a copy", path.display())
            }
        }
    }
}

impl std::error::Error for OpenError {}

/// What a panic said, in one line.
pub(super) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    text.unwrap_or("no reason was given").replace('\n', " ")
}
