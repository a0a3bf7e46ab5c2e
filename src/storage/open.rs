//! Opening a store: lock, manifest, state, journal.

use super::base::Base;
use super::disk::{Files, sync_directory};
use super::ending::LastRun;
use super::groups::{self, Logs};
use super::replay::{Journal, Sealed, Torn, replay};
use super::writer::Position;
use super::{OpenError, Options};
use crate::base::TopicId;
use crate::base::placement::PARTITIONS;
use crate::cluster::{Row, Source};
use crate::journal::{Record, Salt, State, StoredTopic};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// Raised whenever the directory's layout or the meaning of its bytes changes.
const FORMAT: u64 = 1;
const MANIFEST: &str = "store.json";
const LOCK: &str = "lock";
/// What a server of a cluster has beside its store, before it has that.
const CLUSTER: &str = "cluster";

/// What the directory is; written once, when it is made.
#[derive(Serialize, Deserialize)]
struct Manifest {
    format: u64,
    partitions: u64,
    salt: u64,
}

/// An open store, ready to be handed to [`super::start`]. No other process can open it until it is dropped.
pub struct Store {
    pub(super) directory: PathBuf,
    pub(super) base: Base,
    pub(super) position: Position,
    /// Segments of earlier runs that are to be folded.
    pub(super) sealed: Vec<Sealed>,
    pub(super) last_run: LastRun,
    /// Held until the store is closed.
    pub(super) lock: Lock,
}

/// What a store holds.
#[derive(Debug)]
pub struct Recovered {
    /// All topics, by their ids, and the highest id that was ever given.
    pub state: State,
    /// What is kept of groups' logs. The state holds what they say up to their positions.
    pub logs: Logs,
    /// Topics of groups that messages are only passed through.
    pub passing: BTreeMap<TopicId, StoredTopic>,
    /// Which updates groups are known to have, by who has asked for them.
    pub made: Vec<(u16, Source, Row)>,
    /// What was on its way to the disk and is cut.
    pub torn: Option<Torn>,
    /// Records replayed from the journal.
    pub records: u64,
    /// How the run before ended.
    pub last_run: LastRun,
}

impl Store {
    /// Opens the store in `directory`, or makes one there. Anything damaged is refused and left as it is.
    pub fn open(directory: &Path, options: Options) -> Result<(Self, Recovered), OpenError> {
        let lock = Lock::take(directory)?;
        let salt = manifest(directory)?;
        let mut files = files(directory)?;
        let base_path = state_path(directory);
        let mut base = Base::open(&base_path, options.cache_bytes).map_err(OpenError::base(&base_path))?;
        base.groups = options.groups;
        let mut state = base.restore().map_err(OpenError::base(&base_path))?;
        let mut logs = base.logs().map_err(OpenError::base(&base_path))?;
        let passing = base.passing().map_err(OpenError::base(&base_path))?;
        let made = base.all_made().map_err(OpenError::base(&base_path))?;
        let journal_path = journal_path(directory);
        let mut visit = |record: &Record<'_>| {
            state.apply(record);
            groups::apply(&mut logs, record);
        };
        let journal = replay(&mut files, salt, base.through(), &mut visit).map_err(OpenError::replay(&journal_path))?;
        if let Some(what) = groups::missing(&logs) {
            return Err(OpenError::State { path: base_path, what });
        }
        if options.groups > 0 && logs.is_empty() && state.topics.keys().any(|id| id.0.is_multiple_of(2)) {
            return Err(OpenError::Alone { path: directory.to_owned() });
        }
        journal.settle(&mut files).map_err(OpenError::host(&journal_path))?;
        let Journal { sealed, torn, next_record, last_segment, records, .. } = journal;
        let last_run = LastRun::read(directory, next_record - 1);
        let position = Position { salt, next_record, last_segment, checkpoint: base.through() };
        let store = Self { directory: directory.to_owned(), base, position, sealed, last_run, lock };
        Ok((store, Recovered { state, logs, passing, made, torn, records, last_run }))
    }
}

pub(super) fn state_path(directory: &Path) -> PathBuf {
    directory.join("state")
}

pub(super) fn journal_path(directory: &Path) -> PathBuf {
    directory.join("journal")
}

pub(super) fn files(directory: &Path) -> Result<Files, OpenError> {
    let path = journal_path(directory);
    Files::open(&path).map_err(OpenError::host(&path))
}

/// A store's lock file, held as long as this stands, also over a crash of the process.
pub(super) struct Lock(#[expect(dead_code, reason = "closing the file frees it")] File);

impl Lock {
    pub(super) fn take(directory: &Path) -> Result<Self, OpenError> {
        fs::create_dir_all(directory).map_err(OpenError::host(directory))?;
        let path = directory.join(LOCK);
        let host = |error| OpenError::Host { path: path.clone(), error };
        let mut file = File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(host)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let _ = file.read_to_string(&mut text);
                return Err(OpenError::Locked { path: directory.to_owned(), process: text.trim().parse().ok() });
            }
            Err(TryLockError::Error(error)) => return Err(host(error)),
        }
        // Whose it is is a courtesy: a full disk must not keep an operator from reading the store.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self(file))
    }
}

/// Reads the manifest, or makes one where there is no store yet, and returns the store's salt.
pub(super) fn manifest(directory: &Path) -> Result<Salt, OpenError> {
    let path = directory.join(MANIFEST);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return create(directory, &path),
        Err(error) => return Err(OpenError::Host { path, error }),
    };
    let unreadable =
        |error: serde_json::Error| OpenError::Manifest { path: path.clone(), what: format!("not a store's manifest: {error}") };
    let Manifest { format, partitions, salt } = serde_json::from_slice(&text).map_err(unreadable)?;
    if format != FORMAT {
        return Err(OpenError::Format { path, found: format, expected: FORMAT });
    }
    if partitions != PARTITIONS {
        return Err(OpenError::Partitions { path, found: partitions, expected: PARTITIONS });
    }
    Ok(Salt(salt))
}

fn create(directory: &Path, path: &Path) -> Result<Salt, OpenError> {
    let host = OpenError::host;
    for entry in fs::read_dir(directory).map_err(host(directory))? {
        let name = entry.map_err(host(directory))?.file_name();
        if name != LOCK && name != CLUSTER && !name.to_string_lossy().ends_with(".new") {
            let what = format!("the manifest is missing, but there is '{}': this is another directory, or damaged", name.display());
            return Err(OpenError::Manifest { path: path.to_owned(), what });
        }
    }
    let mut random = [0; 8];
    let source = Path::new("/dev/urandom");
    File::open(source).and_then(|mut file| file.read_exact(&mut random)).map_err(host(source))?;
    let salt = u64::from_le_bytes(random);
    let text = serde_json::to_string(&Manifest { format: FORMAT, partitions: PARTITIONS, salt }).expect("three numbers");
    write_atomically(path, text.as_bytes()).map_err(host(path))?;
    Ok(Salt(salt))
}

/// The file is there wholly or not at all, whatever happens.
pub(super) fn write_atomically(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    sync_directory(path.parent().unwrap_or(Path::new(".")))
}
