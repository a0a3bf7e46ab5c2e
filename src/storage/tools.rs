//! What an operator does with a store that no server has open.

use super::base::Base;
use super::disk::{Disk, Files};
use super::groups::{self, Logs};
use super::lines::{self, LineError};
use super::open::{Lock, files, journal_path, manifest, state_path};
use super::replay::{Corruption, Journal, ReplayError, Torn, replay};
use super::{OpenError, Options};
use crate::journal::{Salt, State};
use hashbrown::HashMap;
use std::fmt;
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};

/// What a check found.
#[derive(Debug, Default)]
pub struct Report {
    pub topics: u64,
    pub views: u64,
    pub events: u64,
    pub value_bytes: u64,
    /// Records of the journal that are not checkpointed yet.
    pub records: u64,
    pub segments: u64,
    pub journal_bytes: u64,
    pub state_bytes: u64,
    /// What the next start would cut, and report.
    pub torn: Option<Torn>,
    /// What stops a start, or is wrong in itself.
    pub damage: Vec<String>,
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exported {
    pub topics: u64,
    /// Entries of groups' logs that are left out, since nothing here says that they are committed.
    pub left: u64,
}

#[derive(Debug)]
pub enum ToolError {
    Open(OpenError),
    Line(LineError),
    Host(io::Error),
    /// A store to import into has topics already.
    NotEmpty {
        topics: u64,
    },
    /// There is no store in the directory.
    NoStore(PathBuf),
}

/// What was cut.
#[derive(Debug)]
pub struct Cut {
    pub segment: u64,
    pub offset: usize,
    pub what: String,
    /// The damaged segment, whole, under its new name.
    pub kept_as: Option<PathBuf>,
    /// Segments behind it, which were renamed too.
    pub segments_behind: Vec<u64>,
}

/// A store's parts, opened for reading.
struct Parts {
    salt: Salt,
    base: Base,
    files: Files,
    _lock: Lock,
}

fn open(directory: &Path) -> Result<Parts, ToolError> {
    if !directory.join("store.json").exists() && !state_path(directory).exists() && !journal_path(directory).exists() {
        return Err(ToolError::NoStore(directory.to_owned()));
    }
    open_or_create(directory)
}

fn open_or_create(directory: &Path) -> Result<Parts, ToolError> {
    let lock = Lock::take(directory)?;
    let salt = manifest(directory)?;
    let files = files(directory)?;
    let path = state_path(directory);
    let base = Base::open(&path, Options::default().cache_bytes).map_err(OpenError::base(&path))?;
    Ok(Parts { salt, base, files, _lock: lock })
}

impl Parts {
    fn read(&mut self, directory: &Path) -> Result<(State, Logs, Journal), OpenError> {
        let path = state_path(directory);
        let mut state = self.base.restore().map_err(OpenError::base(&path))?;
        let mut logs = self.base.logs().map_err(OpenError::base(&path))?;
        self.base.passing().map_err(OpenError::base(&path))?;
        self.base.all_made().map_err(OpenError::base(&path))?;
        let through = self.base.through();
        let journal = replay(&mut self.files, self.salt, through, &mut |record| {
            state.apply(record);
            groups::apply(&mut logs, record);
        });
        let journal = journal.map_err(OpenError::replay(&journal_path(directory)))?;
        if let Some(what) = groups::missing(&logs) {
            return Err(OpenError::State { path, what });
        }
        Ok((state, logs, journal))
    }
}

/// Reads everything there is and changes nothing of it.
pub fn check(directory: &Path) -> Result<Report, ToolError> {
    let mut parts = match open(directory) {
        Ok(parts) => parts,
        Err(ToolError::Open(error)) if error.is_damage() => return Ok(Report { damage: vec![error.to_string()], ..Report::default() }),
        Err(error) => return Err(error),
    };
    let (state, _, journal) = match parts.read(directory) {
        Ok(read) => read,
        Err(error) if error.is_damage() => return Ok(Report { damage: vec![error.to_string()], ..Report::default() }),
        Err(error) => return Err(error.into()),
    };
    let mut by_path = HashMap::new();
    let mut damage = Vec::new();
    let topics = || state.topics.values().filter(|topic| topic.is_topic());
    // A view that is replaced is there twice for a moment, and the later one counts.
    for (id, topic) in state.topics.iter().filter(|(_, topic)| topic.is_topic()) {
        if let Some(other) = by_path.insert(&topic.path, id.0) {
            damage.push(format!("path '{}' belongs to two topics, {other} and {}", topic.path, id.0));
        }
    }
    Ok(Report {
        topics: topics().count() as u64,
        views: state.topics.values().filter(|topic| topic.view_name().is_some()).count() as u64,
        events: topics().map(|topic| topic.events.len() as u64).sum(),
        value_bytes: topics().map(|topic| topic.value.as_ref().map_or(0, |value| value.len() as u64)).sum(),
        records: journal.records,
        segments: journal.sealed.len() as u64,
        journal_bytes: journal.bytes,
        state_bytes: parts.base.disk_bytes(),
        torn: journal.torn,
        damage,
    })
}

/// Writes the store as lines of JSON. Of a server of a cluster `groups` is how many groups share the topics, 0 of one that stands alone.
///
/// # Errors
/// Those of a store that cannot be opened or read, and of `out`.
pub fn export(directory: &Path, groups: u16, out: &mut dyn Write) -> Result<Exported, ToolError> {
    let mut parts = open(directory)?;
    parts.base.groups = groups;
    let (mut state, logs, _) = parts.read(directory)?;
    if groups == 0 {
        // What was of a cluster's server may have lost the rest of that.
        parts.base.groups = logs.values().map(|log| log.groups).max().unwrap_or_default();
    }
    let left = parts.base.show_committed(logs, &mut state).map_err(OpenError::base(&state_path(directory)))?;
    let topics = lines::write(&state, out)?;
    out.flush()?;
    Ok(Exported { topics, left })
}

/// Fills an empty or new store from lines of JSON, with all of them or with none. Returns how many topics.
pub fn import(directory: &Path, input: &mut dyn BufRead) -> Result<u64, ToolError> {
    let state = lines::read(input)?.map_err(ToolError::Line)?;
    let mut parts = open_or_create(directory)?;
    let (present, _, journal) = parts.read(directory)?;
    if !present.topics.is_empty() || parts.base.through() > 0 || journal.next_record > 1 {
        return Err(ToolError::NotEmpty { topics: present.topics.len() as u64 });
    }
    parts.base.fill(&state).map_err(OpenError::base(&state_path(directory)))?;
    Ok(state.topics.len() as u64)
}

/// Gives up what is behind the first damage of the journal, so that a server starts again. Nothing is deleted: the damaged
/// segment and those behind it are kept under other names. `None` if nothing has to be cut.
pub fn cut(directory: &Path) -> Result<Option<Cut>, ToolError> {
    let Parts { salt, base, mut files, _lock } = open(directory)?;
    let corruption = match replay(&mut files, salt, base.through(), &mut |_| ()) {
        Ok(_) => return Ok(None),
        Err(ReplayError::Host(error)) => return Err(error.into()),
        Err(ReplayError::Corrupt(corruption)) => corruption,
    };
    let what = corruption.to_string();
    let (segment, offset) = match corruption {
        // A cut journal does not bring back what the state lost.
        Corruption::State { .. } => {
            let path = state_path(directory);
            return Err(OpenError::State { path, what }.into());
        }
        Corruption::Record { segment, damage } => (segment, damage.offset),
        Corruption::Header { segment, .. } | Corruption::Gap { segment, .. } => (segment, 0),
    };
    let mut segments_behind: Vec<u64> = files.segments()?.into_iter().filter(|other| *other > segment).collect();
    for behind in segments_behind.iter().rev() {
        files.set_aside(*behind)?;
    }
    let kept_as = if offset > 0 {
        Some(files.cut(segment, offset)?)
    } else {
        files.set_aside(segment)?;
        segments_behind.insert(0, segment);
        None
    };
    Ok(Some(Cut { segment, offset, what, kept_as, segments_behind }))
}

impl From<OpenError> for ToolError {
    fn from(error: OpenError) -> Self {
        Self::Open(error)
    }
}

impl From<io::Error> for ToolError {
    fn from(error: io::Error) -> Self {
        Self::Host(error)
    }
}

impl fmt::Display for ToolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(error) => write!(f, "{error}"),
            Self::Line(error) => write!(f, "{error}; nothing was imported"),
            Self::Host(error) => write!(f, "{error}"),
            Self::NotEmpty { topics } => write!(f, "the store is not empty, it has {topics} topics now; nothing was imported"),
            Self::NoStore(path) => write!(f, "{}: there is no store", path.display()),
        }
    }
}

impl std::error::Error for ToolError {}
