//! Stores in real directories: what comes back, what is refused, and what operators' tools make of them.

use super::faulty::{Fault, Faulty};
use super::sample::{added, appends, edit, event, removed, state, value};
use crate::base::{ShardIndex, TopicId};
use crate::journal::{Change, DURABLE_BRANCH, DURABLE_KIND, Frame, Header, Record, SESSION_KIND, SESSIONS_BRANCH, Salt, State, encode};
use crate::storage::base::{Base, BaseError};
use crate::storage::disk::{Disk, Files};
use crate::storage::fold::Folder;
use crate::storage::handle::start_on;
use crate::storage::open::{Store, journal_path};
use crate::storage::{Ack, Answer, Handle, OpenError, Options, ToolError, check, cut, export, import, start};
use crate::topic::path::TopicPath;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// A directory that goes when the test ends.
pub struct Directory(pub PathBuf);

impl Directory {
    pub fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("tidewire-storage-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub const SMALL: Options = Options {
    ack: Ack::Written,
    shards: 1,
    segment_bytes: 4000,
    segment_age_ms: 600_000,
    segments_waiting_max: 8,
    fold_patience_ms: 30_000,
    group_bytes_max: 1000,
    queue_messages_max: 16,
    sync_interval_ms: 20,
    retry_ms: 10,
    cache_bytes: 1 << 20,
    garbage_events_max: 7,
    groups: 0,
};

pub struct Running {
    handle: Handle,
    answers: Receiver<Answer>,
    ticket: u64,
}

pub fn run(directory: &Directory, options: Options) -> (Running, State) {
    let (store, recovered) = Store::open(&directory.0, options).unwrap();
    let (sender, answers) = channel();
    let handle = start(store, options, None, move |_, answer| drop(sender.send(answer))).unwrap();
    (Running { handle, answers, ticket: 0 }, recovered.state)
}

impl Running {
    /// Hands over and waits for the acknowledgement.
    fn write(&mut self, changes: &[Change]) {
        for part in changes.chunks(10) {
            let mut appends = appends(self.ticket + 1, part.to_vec());
            self.ticket += part.len() as u64;
            while let Err(refused) = self.handle.sender(ShardIndex(0)).try_send(appends) {
                appends = refused;
                std::thread::yield_now();
            }
        }
        loop {
            match self.answers.recv_timeout(Duration::from_secs(20)).expect("an answer comes") {
                Answer::Acknowledged { through } if through == self.ticket => return,
                Answer::Acknowledged { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }

    pub fn write_and_fail(mut self, changes: &[Change]) {
        self.write(changes);
        self.handle.stop_failed();
    }

    pub fn write_and_stop(mut self, changes: &[Change]) {
        self.write(changes);
        self.handle.stop();
    }
}

fn reopen(directory: &Directory) -> State {
    Store::open(&directory.0, SMALL).unwrap_or_else(|error| panic!("{error}")).1.state
}

/// Topics with values, a series that is trimmed, removals, and a path that is added again.
fn story() -> Vec<Change> {
    let mut changes = Vec::new();
    for topic in 1..=50 {
        changes.push(added(topic, &format!("t/{topic}")));
        changes.push(value(topic, 1, "one"));
    }
    changes.push(added(60, "series"));
    for sequence in 1..=200_u64 {
        changes.push(event(60, sequence, sequence.saturating_sub(30)));
        changes.push(value(sequence % 50 + 1, 1 + sequence, &format!("value {sequence}")));
    }
    changes.extend((1..=20).map(removed));
    changes.push(added(61, "t/5"));
    changes.push(Change::NoValue { topic: TopicId(30), version: 1000 });
    changes
}

#[test]
fn a_restart_restores_everything_at_any_point_of_a_story() {
    let changes = story();
    for split in (0..changes.len()).step_by(97) {
        for ack in [Ack::Memory, Ack::Written, Ack::Durable] {
            let directory = Directory::new();
            let options = Options { ack, ..SMALL };
            let (running, found) = run(&directory, options);
            assert_eq!(found, State::default());
            if split > 0 {
                running.write_and_stop(&changes[..split]);
            } else {
                running.handle.stop();
            }
            let (running, found) = run(&directory, options);
            assert_eq!(found, state(&changes[..split]), "{ack:?}, {split}");
            running.write_and_stop(&changes[split..]);
            assert_eq!(reopen(&directory), state(&changes), "{ack:?}, {split}");
            let report = check(&directory.0).unwrap();
            assert_eq!((report.topics, report.damage), (32, vec![]));
        }
    }
}

/// Two ended segments and their changes, and what folds them.
fn ended_segments(directory: &Path) -> (Vec<Change>, Store) {
    let (store, _) = Store::open(directory, SMALL).unwrap();
    let mut files = Files::open(&journal_path(directory)).unwrap();
    let changes = story();
    let salt = store.position.salt;
    let mut number = 1;
    for (segment, part) in (1..).zip(changes.chunks(changes.len() / 2 + 1)) {
        let mut bytes = Header { segment, first_record: number, checkpoint: 0, synced: number - 1, salt }.encode().to_vec();
        for change in part {
            encode(salt, Frame { number, synced: number - 1 }, &Record::from(change), &mut bytes);
            number += 1;
        }
        files.create(segment, &bytes[..64]).unwrap();
        files.write(64, &bytes[64..]).unwrap();
    }
    drop(store);
    (changes, Store::open(directory, SMALL).unwrap().0)
}

fn folder(directory: &Path, store: Store) -> Folder {
    let files = Files::open(&journal_path(directory)).unwrap();
    let salt = store.position.salt;
    let Store { base, sealed, .. } = store;
    Folder { base, files, salt, options: SMALL, counters: Arc::default(), waiting: sealed.into(), has_garbage: true, builds: Vec::new() }
}

#[test]
fn a_crash_at_any_step_of_a_checkpoint_loses_and_repeats_nothing() {
    for steps in 0..12 {
        for are_deletions_lost in [false, true] {
            let directory = Directory::new();
            let (changes, store) = ended_segments(&directory.0);
            let copies: Vec<_> = (1..=2).map(|segment| (segment, read_segment(&directory.0, segment))).collect();
            let mut folder = folder(&directory.0, store);
            for _ in 0..steps {
                folder.step().unwrap();
            }
            drop(folder);
            if are_deletions_lost {
                copies.iter().for_each(|(segment, bytes)| write_segment(&directory.0, *segment, bytes));
            }
            assert_eq!(reopen(&directory), state(&changes), "after step {steps}");
        }
    }
}

fn segment_path(directory: &Path, segment: u64) -> PathBuf {
    Files::open(&journal_path(directory)).unwrap().path(segment)
}

fn read_segment(directory: &Path, segment: u64) -> Vec<u8> {
    std::fs::read(segment_path(directory, segment)).unwrap()
}

fn write_segment(directory: &Path, segment: u64, bytes: &[u8]) {
    std::fs::write(segment_path(directory, segment), bytes).unwrap();
}

#[test]
fn a_state_that_is_older_than_the_journal_says_stops_the_start() {
    let directory = Directory::new();
    let (_, store) = ended_segments(&directory.0);
    let old = Directory::new();
    drop(store);
    copy(&directory.0.join("state"), &old.0);
    let mut folder = folder(&directory.0, Store::open(&directory.0, SMALL).unwrap().0);
    folder.step().unwrap();
    folder.step().unwrap();
    let (through, salt) = (folder.base.through(), folder.salt);
    drop(folder);
    let header = Header { segment: 3, first_record: through + 1, checkpoint: through, synced: through, salt };
    write_segment(&directory.0, 3, &header.encode());
    assert!(Store::open(&directory.0, SMALL).is_ok());
    std::fs::remove_dir_all(directory.0.join("state")).unwrap();
    copy(&old.0, &directory.0.join("state"));
    let error = Store::open(&directory.0, SMALL).err().expect("the state lost records").to_string();
    assert!(error.contains("holds the records up to 0, but segment 3 says that it held those up to"), "{error}");
    assert!(matches!(cut(&directory.0), Err(ToolError::Open(OpenError::State { .. }))));
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() { copy(&entry.path(), &to) } else { std::fs::copy(entry.path(), to).map(|_| ()).unwrap() }
    }
}

/// Folds the changes as the next segment.
fn fold(base: &mut Base, changes: &[Change]) {
    let (salt, first) = (Salt(1), base.through() + 1);
    let mut bytes = vec![0; 64];
    for (number, change) in (first..).zip(changes) {
        encode(salt, Frame { number, synced: 0 }, &Record::from(change), &mut bytes);
    }
    base.fold(&bytes, salt, first, first + changes.len() as u64).unwrap();
}

#[test]
fn the_events_of_removed_and_trimmed_series_are_deleted_bit_by_bit() {
    let directory = Directory::new();
    let path = directory.0.join("state");
    std::fs::create_dir_all(&directory.0).unwrap();
    let mut base = Base::open(&path, 1 << 20).unwrap();
    let mut changes = vec![added(1, "removed"), added(2, "trimmed")];
    changes.extend((1..=30).flat_map(|sequence| [event(1, sequence, 0), event(2, sequence, 0)]));
    fold(&mut base, &changes);
    let later = vec![removed(1), event(2, 31, 25), added(3, "removed")];
    fold(&mut base, &later);
    changes.extend(later);
    let mut passes = 1;
    while base.collect_garbage(7).unwrap() {
        passes += 1;
        assert_eq!(base.restore().unwrap(), state(&changes));
    }
    assert!(passes > 5, "30 and 24 events, 7 at once");
    assert_eq!(base.entries(), 1 + 2 + 1 + 7, "checkpoint, topics, series, events");
    drop(base);
    assert_eq!(Base::open(&path, 1 << 20).unwrap().restore().unwrap(), state(&changes));
}

#[test]
fn edits_that_gave_way_are_deleted_from_the_state() {
    let directory = Directory::new();
    std::fs::create_dir_all(&directory.0).unwrap();
    let mut base = Base::open(&directory.0.join("state"), 1 << 20).unwrap();
    let mut changes = vec![added(1, "series"), event(1, 0, 0)];
    changes.extend((1..=10).map(|sequence| edit(1, sequence, None)));
    fold(&mut base, &changes);
    for first in [11, 41] {
        let later: Vec<Change> = (first..first + 30).map(|sequence| edit(1, sequence, Some(sequence - 10))).collect();
        fold(&mut base, &later);
        changes.extend(later);
        assert_eq!(base.restore().unwrap(), state(&changes));
        assert_eq!(base.entries(), 1 + 1 + 1 + 1 + 10, "checkpoint, topic, series, the original, its edits");
    }
}

#[test]
fn a_panic_under_a_checkpoint_is_an_error_and_the_next_attempt_goes_on() {
    let directory = Directory::new();
    std::fs::create_dir_all(&directory.0).unwrap();
    let mut base = Base::open(&directory.0.join("state"), 1 << 20).unwrap();
    let mut changes = vec![added(1, "a"), value(1, 1, "one")];
    fold(&mut base, &changes);
    for version in 2..5 {
        let result = base.attempt(|_| -> Result<(), BaseError> { panic!("a block\nis damaged") });
        assert!(matches!(&result, Err(BaseError::Panicked(what)) if what == "a block is damaged"), "{result:?}");
        let later = [value(1, version, "more")];
        fold(&mut base, &later);
        changes.extend(later);
        assert_eq!((base.restore().unwrap(), base.through()), (state(&changes), changes.len() as u64));
    }
}

#[test]
fn a_series_that_has_no_events_left_goes_on_after_a_restart_and_an_import() {
    let directory = Directory::new();
    std::fs::create_dir_all(&directory.0).unwrap();
    let changes = [added(1, "s"), event(1, 0, 0), event(1, 1, 2)];
    let (running, _) = run(&directory, SMALL);
    running.write_and_stop(&changes);
    let check = |directory: &Directory| {
        let found = &reopen(directory).topics[&TopicId(1)];
        assert_eq!((found.events.len(), found.last_sequence, found.latest_ms, found.first_kept), (0, Some(1), 10, 2));
    };
    check(&directory);
    let mut folder = folder(&directory.0, Store::open(&directory.0, SMALL).unwrap().0);
    folder.step().unwrap();
    assert!(folder.waiting.is_empty());
    drop(folder);
    check(&directory);
    let other = Directory::new();
    import(&other.0, &mut exported(&directory).as_bytes()).unwrap();
    check(&other);
}

#[test]
fn a_second_server_is_refused_with_the_firsts_process() {
    let directory = Directory::new();
    let first = Store::open(&directory.0, SMALL).unwrap();
    match Store::open(&directory.0, SMALL) {
        Err(OpenError::Locked { process, .. }) => assert_eq!(process, Some(std::process::id())),
        other => panic!("{:?}", other.err()),
    }
    assert!(matches!(check(&directory.0), Err(ToolError::Open(OpenError::Locked { .. }))));
    drop(first);
    assert!(Store::open(&directory.0, SMALL).is_ok());
}

#[test]
fn other_versions_and_other_directories_are_refused() {
    let directory = Directory::new();
    drop(Store::open(&directory.0, SMALL).unwrap());
    let manifest = directory.0.join("store.json");
    let refused = |text: &str| {
        std::fs::write(&manifest, text).unwrap();
        Store::open(&directory.0, SMALL).err().unwrap().to_string()
    };
    assert!(refused(r#"{"format":7,"partitions":64,"salt":1}"#).contains("found a store of format 7, expected 1"));
    assert!(refused(r#"{"format":1,"partitions":8,"salt":1}"#).contains("found a store of 8 partitions, expected 64"));
    assert!(refused("x").contains("not a store's manifest"));
    std::fs::remove_file(&manifest).unwrap();
    let error = Store::open(&directory.0, SMALL).err().unwrap().to_string();
    assert!(error.contains("the manifest is missing"), "{error}");
}

#[test]
fn a_corrupt_middle_stops_the_start_and_a_cut_brings_back_what_is_before() {
    let directory = Directory::new();
    let (changes, store) = ended_segments(&directory.0);
    drop(store);
    let mut bytes = read_segment(&directory.0, 1);
    let at = bytes.len() / 2;
    bytes[at] ^= 0x20;
    write_segment(&directory.0, 1, &bytes);
    let error = Store::open(&directory.0, SMALL).err().unwrap();
    assert!(matches!(&error, OpenError::Corrupt { .. }) && error.to_string().contains("segment 1, byte "), "{error}");
    assert_eq!(check(&directory.0).unwrap().damage, [error.to_string()]);
    let done = cut(&directory.0).unwrap().expect("there is damage");
    assert_eq!((done.segment, done.segments_behind), (1, vec![2]));
    assert!(at - 200 < done.offset && done.offset <= at);
    assert_eq!(std::fs::read(done.kept_as.unwrap()).unwrap(), bytes);
    let found = reopen(&directory);
    assert!((1..changes.len()).any(|count| state(&changes[..count]) == found));
    assert!(cut(&directory.0).unwrap().is_none());
}

#[test]
fn a_torn_tail_is_cut_and_reported() {
    let directory = Directory::new();
    let (changes, store) = ended_segments(&directory.0);
    drop(store);
    let bytes = read_segment(&directory.0, 2);
    write_segment(&directory.0, 2, &bytes[..bytes.len() - 3]);
    let (store, recovered) = Store::open(&directory.0, SMALL).unwrap();
    assert_eq!(recovered.state, state(&changes[..changes.len() - 1]));
    assert_eq!(recovered.torn.as_ref().map(|torn| (torn.segment, torn.records_behind)), Some((2, 0)));
    drop(store);
    // What is written next follows the cut.
    let (running, _) = run(&directory, SMALL);
    running.write_and_stop(&[added(99, "next")]);
    let mut expected = changes[..changes.len() - 1].to_vec();
    expected.push(added(99, "next"));
    assert_eq!(reopen(&directory), state(&expected));
}

fn exported(directory: &Directory) -> String {
    let mut out = Vec::new();
    export(&directory.0, 0, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn what_is_exported_is_imported() {
    let directory = Directory::new();
    let (running, _) = run(&directory, SMALL);
    let mut changes =
        vec![added(1, "a"), value(1, 4, r#"{"x":[1,"é"]}"#), added(2, "b"), Change::NoValue { topic: TopicId(2), version: 3 }];
    changes.extend([added(3, "s"), event(3, 5, 4), event(3, 6, 4), removed(2), added(4, "b")]);
    running.write_and_stop(&changes);
    let text = exported(&directory);
    let first = r#"{"path":"a","type":"json","properties":{"PRIORITY":"high"},"version":4,"value":{"x":[1,"é"]}}"#;
    assert_eq!(text.lines().next(), Some(first));
    let other = Directory::new();
    assert_eq!(import(&other.0, &mut text.as_bytes()).unwrap(), 3);
    assert_eq!(exported(&other), text);
    assert!(matches!(import(&other.0, &mut text.as_bytes()), Err(ToolError::NotEmpty { topics: 3 })));
    let (running, found) = run(&other, SMALL);
    assert_eq!((found.topics.len(), found.highest_topic), (3, 3));
    running.write_and_stop(&[value(1, 5, "5")]);
    assert_eq!(reopen(&other).topics[&TopicId(1)].version, 5);
}

#[test]
fn branch_mapping_tables_are_imported_and_exported() {
    let row = r#"{"filter":"Tier is \"gold\"","branch":"x"},{"filter":"all","branch":"y/z"}"#;
    let text = format!("{{\"session_tree\":{{\"branch\":\"a/b\",\"mappings\":[{row}]}}}}\n");
    let directory = Directory::new();
    import(&directory.0, &mut text.as_bytes()).unwrap();
    assert_eq!(exported(&directory), text);
    let found = reopen(&directory);
    let table = found.topics.values().next().unwrap();
    assert_eq!((table.session_tree_branch(), table.is_topic(), table.properties.len()), (Some("a/b"), false, 2));
}

#[test]
fn roles_and_principals_are_imported_and_exported_and_so_is_who_has_made_a_view() {
    let roles = r#"{"security":{"store":"roles","script":"set \"R\" path \"a\" permissions [READ_TOPIC]\n"}}"#;
    let principals = r#"{"security":{"store":"principals","script":"deny anonymous connections\nadd principal \"ann\" hash \"$argon2id$h\" [\"R\"]\n"}}"#;
    let view = r#"{"view":{"name":"v","place":1,"definition":"map a to b","principal":"ann","roles":"\"R\""}}"#;
    let text = format!("{roles}\n{principals}\n{view}\n");
    let directory = Directory::new();
    import(&directory.0, &mut text.as_bytes()).unwrap();
    assert_eq!(exported(&directory), text);
    let found = reopen(&directory);
    assert!(found.topics.values().all(|topic| !topic.is_topic()));
    assert_eq!(found.topics.values().filter(|topic| topic.security_script().is_some() != topic.principals_script().is_some()).count(), 2);
}

/// They are their clients', and of a run of this store.
#[test]
fn sessions_are_not_exported() {
    let directory = Directory::new();
    let (running, _) = run(&directory, SMALL);
    let session = |topic, branch, kind| {
        let path = TopicPath::of_branch(&format!("{branch}0000000000000007-10000"));
        Change::Added { topic: TopicId(topic), path, kind, properties: Arc::from([]) }
    };
    let sessions = [session(1, SESSIONS_BRANCH, SESSION_KIND), session(2, DURABLE_BRANCH, DURABLE_KIND)];
    running.write_and_stop(&[&sessions[..], &[value(2, 1, "kept"), added(3, "a")]].concat());
    assert_eq!(exported(&directory).lines().count(), 1);
}

#[test]
fn a_bad_line_imports_nothing_and_is_named() {
    let good = r#"{"path":"a","type":"int64","version":1,"value":7}"#;
    for (bad, reason) in [
        (r#"{"path":"a//b","type":"json"}"#, "path 'a//b'"),
        (r#"{"path":"a","type":"json"}"#, "a second time"),
        (r#"{"path":"b","type":"text"}"#, "found type 'text'"),
        (r#"{"path":"b","type":"int64","version":1,"value":"x"}"#, "INT64"),
        (r#"{"path":"b","type":"int64","value":1}"#, "version 0"),
        (r#"{"event":{"sequence":1,"timestamp":1}}"#, "value"),
        (r#"{"session_tree":{"branch":"a/","mappings":[{"filter":"all","branch":"b"}]}}"#, "branch 'a/'"),
        (r#"{"session_tree":{"branch":"a","mappings":[{"filter":"al","branch":"b"}]}}"#, "the filter of row 1"),
        (r#"{"session_tree":{"branch":"a","mappings":[]}}"#, "expected one table of 'a', with rows"),
        (r#"{"security":{"store":"roles","script":"set"}}"#, "the script of roles: line 1"),
        (r#"{"security":{"store":"principals","script":"set"}}"#, "the script of principals: line 1"),
        (r#"{"security":{"store":"keys","script":""}}"#, "found the store 'keys'"),
        (r#"{"view":{"name":"v","place":1,"definition":"map a to b","roles":""}}"#, "both principal and roles"),
        ("", "expected a topic or an event"),
    ] {
        let directory = Directory::new();
        let text = format!("{good}\n{bad}\n");
        match import(&directory.0, &mut text.as_bytes()) {
            Err(ToolError::Line(error)) => assert!(error.line == 2 && error.reason.contains(reason), "{error}"),
            other => panic!("{other:?}"),
        }
        assert!(matches!(check(&directory.0), Err(ToolError::NoStore(_))));
        assert_eq!(import(&directory.0, &mut good.as_bytes()).unwrap(), 1);
    }
}

/// `TIDEWIRE_SMALL_DISK=DIR cargo test --lib storage::tests::files::a_real_full_disk -- --ignored`, where DIR is an empty file
/// system of 24 MiB.
#[test]
#[ignore = "needs a file system of its own"]
fn a_real_full_disk_is_said_and_left_behind() {
    let parent = PathBuf::from(std::env::var("TIDEWIRE_SMALL_DISK").unwrap());
    let (directory, filler) = (Directory(parent.join("store")), parent.join("filler"));
    std::fs::write(&filler, vec![1; 19 << 20]).unwrap();
    let options = Options { segment_bytes: 1 << 20, ..SMALL };
    let (mut running, _) = run(&directory, options);
    let text = "x".repeat(1000);
    let changes: Vec<Change> = (1..=8000).flat_map(|topic| [added(topic, &format!("t/{topic}")), value(topic, 1, &text)]).collect();
    let (mut acknowledged, mut failed, mut recovered) = (0, 0, 0);
    let mut parts = changes.chunks(10);
    let mut message = None;
    while acknowledged < changes.len() as u64 {
        if let Some(part) = message.take().or_else(|| {
            let part = parts.next()?;
            running.ticket += part.len() as u64;
            Some(appends(running.ticket + 1 - part.len() as u64, part.to_vec()))
        }) {
            message = running.handle.sender(ShardIndex(0)).try_send(part).err();
        }
        match running.answers.recv_timeout(Duration::from_millis(5)) {
            Ok(Answer::Acknowledged { through }) => acknowledged = through,
            Ok(Answer::Failing { reason }) => {
                println!("after {acknowledged}: {reason}");
                failed += 1;
                let _ = std::fs::remove_file(&filler);
            }
            Ok(Answer::Recovered) => recovered += 1,
            Err(_) => {}
        }
    }
    assert!(failed > 0 && failed == recovered, "{failed} {recovered}");
    println!("{failed} failures, {:?}", running.handle.counters());
    running.handle.stop();
    assert_eq!(reopen(&directory), state(&changes));
}

/// Every file below, with its path.
fn all_files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { all_files(&path, found) } else { found.push(path) }
    }
}

#[test]
fn a_flipped_byte_in_the_state_stops_the_start_or_changes_nothing() {
    let directory = Directory::new();
    let (changes, store) = ended_segments(&directory.0);
    let mut folder = folder(&directory.0, store);
    while !folder.waiting.is_empty() || folder.has_garbage {
        folder.step().unwrap();
    }
    drop(folder);
    let mut paths = Vec::new();
    all_files(&directory.0.join("state"), &mut paths);
    let (mut refused, mut unchanged) = (0, 0);
    for path in paths {
        let whole = std::fs::read(&path).unwrap();
        for at in (0..whole.len()).step_by(whole.len() / 12 + 1) {
            let copied = Directory::new();
            copy(&directory.0, &copied.0);
            let mut bytes = whole.clone();
            bytes[at] ^= 0x11;
            std::fs::write(copied.0.join(path.strip_prefix(&directory.0).unwrap()), bytes).unwrap();
            match Store::open(&copied.0, SMALL) {
                Err(error) => refused += u32::from(!error.to_string().is_empty()),
                Ok((_, recovered)) => {
                    assert_eq!(recovered.state, state(&changes), "{}, byte {at}", path.display());
                    unchanged += 1;
                }
            }
        }
    }
    assert!(refused > 15, "{refused} refused, {unchanged} unchanged");
}

/// The reason that updates are refused for.
fn wait_for_failure(running: &Running) -> Arc<str> {
    loop {
        match running.answers.recv_timeout(Duration::from_secs(20)).expect("storage says that it fails") {
            Answer::Failing { reason } => return reason,
            Answer::Acknowledged { .. } => {}
            Answer::Recovered => panic!("it did not fail"),
        }
    }
}

/// Makes every table of a state unreadable while it is open.
fn damage_tables(directory: &Path) {
    let mut paths = Vec::new();
    all_files(&directory.join("state"), &mut paths);
    for path in paths.iter().filter(|path| path.parent().is_some_and(|parent| parent.ends_with("tables"))) {
        let zeros = vec![0xa5; std::fs::metadata(path).unwrap().len() as usize];
        std::fs::File::options().write(true).open(path).unwrap().write_all_at(&zeros, 0).unwrap();
    }
}

#[test]
fn a_state_that_is_damaged_under_way_fails_its_checkpoints_and_then_updates() {
    let directory = Directory::new();
    let (_, store) = ended_segments(&directory.0);
    let mut folder = folder(&directory.0, store);
    while !folder.waiting.is_empty() {
        folder.step().unwrap();
    }
    drop(folder);
    let options = Options { segments_waiting_max: 2, segment_bytes: 500, cache_bytes: 0, ..SMALL };
    let (mut running, _) = run(&directory, options);
    damage_tables(&directory.0);
    let removals = (21..=50).chain([60, 61]).map(removed);
    let changes: Vec<Change> = removals.chain((100..200).map(|topic| added(topic, &format!("n/{topic}")))).collect();
    let sender = running.handle.sender(ShardIndex(0));
    for part in changes.chunks(10) {
        // What has no room stays with the shard.
        let _ = sender.try_send(appends(running.ticket + 1, part.to_vec()));
        running.ticket += part.len() as u64;
    }
    let reason = wait_for_failure(&running);
    assert!(reason.contains("segments cannot be checkpointed: "), "{reason}");
    assert!(running.handle.counters().is_checkpoint_failing.load(Ordering::Relaxed));
    running.handle.stop();
}

#[test]
fn updates_are_refused_when_the_thread_that_folds_has_ended() {
    let directory = Directory::new();
    let (store, _) = Store::open(&directory.0, SMALL).unwrap();
    let (disk, (sender, answers)) = (Faulty::default(), channel());
    let notify = move |_, answer| drop(sender.send(answer));
    let handle = start_on(Box::new(disk.clone()), store, SMALL, None, notify).unwrap();
    let mut running = Running { handle, answers, ticket: 0 };
    disk.set_fault(Fault::Panic);
    running.write(&[added(1, "a")]);
    let reason = wait_for_failure(&running);
    assert!(reason.contains("until the server starts again") && reason.contains("the disk is gone"), "{reason}");
    running.handle.stop();
}

#[test]
fn updates_are_refused_when_no_checkpoint_comes_to_an_end() {
    let directory = Directory::new();
    let (running, _) = run(&directory, Options { segments_waiting_max: 0, fold_patience_ms: 0, ..SMALL });
    let reason = wait_for_failure(&running);
    assert!(reason.contains("none was checkpointed for 0 s"), "{reason}");
    running.handle.stop();
}

#[test]
fn what_was_handed_over_is_there_after_a_stop() {
    let changes = story();
    // With none that may wait nothing is taken before the end, whether that is said or not.
    for (segments_waiting_max, fold_patience_ms) in [(8, 30_000), (0, 30_000), (0, 0)] {
        for ack in [Ack::Memory, Ack::Written, Ack::Durable] {
            let directory = Directory::new();
            let options = Options { ack, segments_waiting_max, fold_patience_ms, queue_messages_max: 1000, ..SMALL };
            let (running, _) = run(&directory, options);
            for (number, part) in (0..).zip(changes.chunks(10)) {
                running.handle.sender(ShardIndex(0)).try_send(appends(number * 10 + 1, part.to_vec())).expect("there is room");
            }
            running.handle.stop();
            assert_eq!(reopen(&directory), state(&changes), "{ack:?}");
        }
    }
}
