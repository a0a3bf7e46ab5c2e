//! What is stored: found again after an end and after a kill, refused where it is damaged, and kept through a full disk.

use crate::client::{Refused, Session};
use crate::requests::series_of_json;
use crate::server::{Directory, PATIENCE, Server, terminate, tidewire};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Instant;
use tidewire::surface::topic::specification::TopicType;
use tidewire::surface::value::ValueType;
use tidewire::surface::wire::native::{Append, Entry, EventEntry, Query};

fn start(directory: &Directory, shards: usize) -> Server {
    // Nothing is noted as synced by the clock, so that a test knows what a cut may take.
    Server::start_with(shards, &[("STORAGE_DIRECTORY", directory.name()), ("STORAGE_SYNC_INTERVAL_MS", "600000")])
}

/// A start that must fail, and what it says.
fn start_in_vain(directory: &Directory) -> (Option<i32>, String) {
    let output: Output =
        tidewire(&["serve", "--listen", "127.0.0.1:0", "--mqtt", "off", "--shards", "1", "--dev", "--data", directory.name()])
            .output()
            .expect("the binary starts");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// What a server that starts in the directory warns of. It is stopped in order.
fn warnings(directory: &Directory) -> String {
    let mut command =
        tidewire(&["serve", "--listen", "127.0.0.1:0", "--mqtt", "off", "--shards", "1", "--dev", "--data", directory.name()]);
    let mut child =
        command.env("TIDEWIRE_LOG_LEVEL", "warn").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().expect("it is piped")).read_line(&mut line).expect("it serves");
    terminate(&child);
    String::from_utf8_lossy(&child.wait_with_output().expect("it is our child").stderr).into_owned()
}

#[test]
fn a_start_after_the_host_has_stopped_says_that_something_may_be_missing() {
    let directory = Directory::new("ending");
    for _ in 0..2 {
        assert_eq!(warnings(&directory), "");
    }
    start(&directory, 1).kill();
    assert_eq!(warnings(&directory), "", "what was acknowledged was written");
    start(&directory, 1).kill();
    let note = PathBuf::from(directory.name()).join("run.json");
    std::fs::write(&note, r#"{"boot":"another","ack":"written"}"#).expect("it is there");
    let said = warnings(&directory);
    assert!(said.contains("the host has stopped while the server ran, with storage.ack = written"), "{said}");
    assert_eq!(warnings(&directory), "", "the server was stopped in order since");
}

/// All that a store keeps.
type Kept = (Vec<Entry>, Vec<EventEntry>, Vec<EventEntry>);

fn kept(server: &Server) -> Kept {
    let mut session = server.connect();
    let entries = session.fetch_all("*.*");
    let query = |session: &mut Session, kind| session.query("series", Query { kind, ..Query::default() }).unwrap().1;
    (entries, query(&mut session, 0), query(&mut session, 2))
}

fn fill(server: &Server) {
    let mut session = server.connect();
    for (kind, value) in [
        (ValueType::Json, br#"{"x":[1,"a"]}"#.to_vec()),
        (ValueType::String, "Grüße".into()),
        (ValueType::Int64, 7i64.to_be_bytes().into()),
        (ValueType::Double, 0.1f64.to_be_bytes().into()),
        (ValueType::Binary, vec![0, 255]),
    ] {
        session.add_and_set(&format!("value/{}", kind.name()), kind, &value).unwrap();
        session.add(&format!("empty/{}", kind.name()), kind).unwrap();
    }
    session.add_with("with/properties", TopicType::String, &[("CONFLATION", "off"), ("PRIORITY", "high")]).unwrap();
    session.add_and_set("null", ValueType::Int64, &[0; 8]).unwrap();
    session.set_null("null", ValueType::Int64).unwrap();
    for number in 0..50 {
        session.add_and_set("often", ValueType::Json, number.to_string().as_bytes()).unwrap();
    }
    session.add_with("series", TopicType::TimeSeries, &series_of_json(&[("TIME_SERIES_RETAINED_RANGE", "limit 5")])).unwrap();
    for number in 0..9 {
        session.append_json("series", &number.to_string());
    }
    let edit = Append::Edit { original: 6 };
    session.append("series", ValueType::Json, edit, b"\"edited\"").unwrap();
    session.append("series", ValueType::Json, edit, b"\"edited again\"").unwrap();
    session.add_and_set("removed/a", ValueType::Json, b"1").unwrap();
    session.add_and_set("removed/b", ValueType::Json, b"1").unwrap();
    assert_eq!(session.remove("?removed//"), Ok(2));
}

#[test]
fn a_restart_finds_everything_whatever_the_shards() {
    let directory = Directory::new("restart");
    let mut server = start(&directory, 2);
    fill(&server);
    let before = kept(&server);
    assert_eq!((before.0.len(), before.1.len(), before.2.len()), (14, 5, 2));
    for (shards, is_killed) in [(3, false), (1, true), (2, true), (2, false)] {
        if is_killed {
            server.kill();
        }
        drop(server);
        server = start(&directory, shards);
        assert_eq!(kept(&server), before, "{shards} shards, killed {is_killed}");
    }
    let mut session = server.connect();
    assert_eq!(session.append_json("series", "9"), 11, "sequences go on");
    assert_eq!(session.set("value/int64", ValueType::Json, b"1"), Err(Refused { code: 204, position: None }));
    assert_eq!(session.add_with("with/properties", TopicType::String, &[("PRIORITY", "high"), ("CONFLATION", "off")]), Ok(false));
}

#[test]
fn a_subscriber_after_a_restart_gets_what_was_stored_and_then_deltas() {
    let directory = Directory::new("subscribe");
    let server = start(&directory, 2);
    let table = |cell: u32| format!("[{}{cell}]", "\"the same in every version\",".repeat(20)).into_bytes();
    server.connect().add_and_set("a", ValueType::Json, &table(1)).unwrap();
    drop(server);
    let server = start(&directory, 2);
    let (mut reader, mut writer) = (server.connect(), server.connect());
    reader.subscribe("a").unwrap();
    reader.wait_for_value("a", &table(1));
    writer.set("a", ValueType::Json, &table(2)).unwrap();
    reader.wait_for_value("a", &table(2));
    assert!(reader.update_frames[1].1 < 50, "{:?}", reader.update_frames);
}

#[test]
fn what_is_not_persistent_is_gone() {
    let directory = Directory::new("persistent");
    let server = start(&directory, 2);
    let mut session = server.connect();
    for (path, persistent) in [("stays", "true"), ("goes", "false")] {
        session.add_with(path, TopicType::Json, &[("PERSISTENT", persistent)]).unwrap();
        session.set(path, ValueType::Json, b"1").unwrap();
    }
    session.add_with("kept/without/value", TopicType::Json, &[("DONT_RETAIN_VALUE", "true")]).unwrap();
    session.set("kept/without/value", ValueType::Json, b"1").unwrap();
    drop((session, server));
    let server = start(&directory, 2);
    let found = server.connect().fetch_all("*.*");
    let found: Vec<_> = found.iter().map(|entry| (&*entry.path, entry.value.as_deref())).collect();
    assert_eq!(found, [("kept/without/value", None), ("stays", Some(&b"1"[..]))]);
}

#[test]
fn an_ephemeral_server_leaves_no_directory() {
    let directory = Directory::new("ephemeral");
    let server = Server::start_with(1, &[("STORAGE_DIRECTORY", directory.name()), ("STORAGE_EPHEMERAL", "true")]);
    server.connect().add_and_set("a", ValueType::Json, b"1").unwrap();
    drop(server);
    assert!(!directory.path.exists());
}

#[test]
fn a_store_that_is_in_use_is_refused() {
    let directory = Directory::new("in-use");
    let server = start(&directory, 1);
    let (code, errors) = start_in_vain(&directory);
    assert_eq!(code, Some(2), "{errors}");
    assert!(errors.contains(&format!("process {} has this store open", server.process())), "{errors}");
    assert_eq!(server.connect().add("a", ValueType::Json), Ok(true), "the first goes on");
}

/// The journal's only segment that has records.
fn journal(directory: &Directory) -> PathBuf {
    let files = std::fs::read_dir(directory.path.join("journal")).unwrap().map(|file| file.unwrap().path());
    files.max_by_key(|path| path.metadata().unwrap().len()).expect("there is a segment")
}

#[test]
fn damage_in_the_middle_is_refused_and_said_where() {
    let directory = Directory::new("damage");
    let server = start(&directory, 1);
    let mut session = server.connect();
    for number in 0..100 {
        session.add_and_set(&format!("a/{number}"), ValueType::Json, b"\"value\"").unwrap();
    }
    drop((session, server));
    let path = journal(&directory);
    let sound = std::fs::read(&path).unwrap();
    let mut damaged = sound.clone();
    damaged[sound.len() / 2] ^= 1;
    std::fs::write(&path, &damaged).unwrap();
    let (code, errors) = start_in_vain(&directory);
    assert_eq!(code, Some(2), "{errors}");
    assert!(errors.contains("journal is damaged") && errors.contains("segment 1, byte "), "{errors}");
    assert_eq!(std::fs::read(&path).unwrap(), damaged, "nothing was changed");
    std::fs::write(&path, &sound).unwrap();
    let server = start(&directory, 1);
    assert_eq!(server.connect().fetch_all("*.*").len(), 100);
}

#[test]
fn a_torn_end_is_cut_and_the_rest_served() {
    let directory = Directory::new("torn");
    let mut server = start(&directory, 1);
    let mut session = server.connect();
    for number in 0..100 {
        session.add_and_set(&format!("a/{number:03}"), ValueType::Json, b"\"value\"").unwrap();
    }
    server.kill();
    drop((session, server));
    let path = journal(&directory);
    let length = path.metadata().unwrap().len();
    std::fs::File::options().write(true).open(&path).unwrap().set_len(length - 3).unwrap();
    let server = start(&directory, 1);
    let mut session = server.connect();
    let found = session.fetch_all("*.*");
    // The last record is the value of the last topic.
    assert_eq!((found.len(), found[98].value.is_some(), found[99].value.is_some()), (100, true, false));
    session.set("a/099", ValueType::Json, b"2").unwrap();
    drop((session, server));
    assert_eq!(start(&directory, 1).connect().fetch_all("*.*")[99].value.as_deref(), Some(&b"2"[..]));
}

/// Bounds the files that the server may write.
pub fn limit_files(server: &Server, bytes: u64) {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the limit is a valid place, and the process is a child of ours that was not waited for.
    let result = unsafe { libc::prlimit(server.process() as i32, libc::RLIMIT_FSIZE, &limit, std::ptr::null_mut()) };
    assert_eq!(result, 0, "a process may limit its children");
}

#[test]
fn a_full_disk_refuses_updates_and_nothing_else() {
    for ack in ["written", "durable"] {
        let directory = Directory::new("full");
        let mut server = Server::start_with(
            2,
            &[("STORAGE_DIRECTORY", directory.name()), ("STORAGE_ACK", ack), ("STORAGE_RETRY_MS", "20"), ("LOG_LEVEL", "error")],
        );
        let (mut session, mut reader) = (server.connect(), server.connect());
        reader.subscribe("?live//").unwrap();
        session.add_with("live/not/stored", TopicType::Json, &[("PERSISTENT", "false")]).unwrap();
        session.add_and_set("live/stored", ValueType::Json, b"0").unwrap();
        limit_files(&server, 100_000);
        let value = |number: usize| format!("\"{number} {}\"", "x".repeat(1000)).into_bytes();
        let mut acknowledged = 0;
        let refusal = loop {
            match session.add_and_set(&format!("a/{acknowledged:04}"), ValueType::Json, &value(acknowledged)) {
                Ok(_) => acknowledged += 1,
                Err(refusal) => break refusal,
            }
            assert!(acknowledged < 1000, "the limit is never reached");
        };
        assert_eq!(refusal, Refused { code: 410, position: None });
        assert!(acknowledged > 10, "{acknowledged} updates fit");
        // What is stored is refused; what is not goes on, as do reads. An update that was under way when its shard heard of the
        // failure may be in memory.
        assert_eq!(session.set("live/stored", ValueType::Json, b"1"), Err(Refused { code: 410, position: None }));
        assert_eq!(session.remove("live/stored"), Err(Refused { code: 410, position: None }));
        assert_eq!(session.set("live/not/stored", ValueType::Json, b"1"), Ok(()));
        reader.wait_for_value("live/not/stored", b"1");
        let held = reader.fetch(">live/stored", "", 0).unwrap().1.remove(0).value.expect("it has one");
        assert!(held == b"0" || held == b"1", "{held:?}");
        limit_files(&server, libc::RLIM_INFINITY);
        let started = Instant::now();
        while let Err(refusal) = session.set("live/stored", ValueType::Json, b"2") {
            assert_eq!(refusal.code, 410);
            assert!(started.elapsed() < PATIENCE, "it does not recover");
        }
        reader.wait_for_value("live/stored", b"2");
        server.kill();
        drop((session, reader, server));
        let server = start(&directory, 1);
        let found = server.connect().fetch_all("*.*");
        for (number, entry) in found[..acknowledged].iter().enumerate() {
            assert_eq!((&*entry.path, entry.value.clone()), (&*format!("a/{number:04}"), Some(value(number))), "{ack}");
        }
        assert_eq!(found.last().map(|entry| (&*entry.path, entry.value.as_deref())), Some(("live/stored", Some(&b"2"[..]))));
    }
}

#[test]
fn a_state_that_cannot_grow_is_caught_up_with_once_it_can() {
    let directory = Directory::new("state");
    let mut server =
        Server::start_with(1, &[("STORAGE_DIRECTORY", directory.name()), ("STORAGE_SEGMENT_BYTES", "1048576"), ("STORAGE_RETRY_MS", "20")]);
    let mut session = server.connect();
    // A segment of six values fits, but not the slightly longer file that the state makes of it.
    limit_files(&server, 1_201_000);
    let value = |number: usize| format!("\"{number} {}\"", "x".repeat(200_000)).into_bytes();
    let path = |number: usize| format!("a/{}", number % 50);
    let mut acknowledged = 0;
    let refusal = loop {
        match session.add_and_set(&path(acknowledged), ValueType::Json, &value(acknowledged)) {
            Ok(_) => acknowledged += 1,
            Err(refusal) => break Some(refusal),
        }
        if acknowledged == 300 {
            break None;
        }
    };
    assert_eq!(refusal, Some(Refused { code: 410, position: None }), "folding fails, so segments pile up to their bound");
    limit_files(&server, libc::RLIM_INFINITY);
    let started = Instant::now();
    while let Err(refusal) = session.add_and_set(&path(acknowledged), ValueType::Json, &value(acknowledged)) {
        assert_eq!(refusal.code, 410);
        assert!(started.elapsed() < PATIENCE, "it does not recover");
    }
    server.kill();
    drop((session, server));
    let server = start(&directory, 1);
    let found = server.connect().fetch_all("*.*");
    for number in acknowledged.saturating_sub(49)..=acknowledged {
        let entry = found.iter().find(|entry| entry.path == path(number)).expect("it was acknowledged");
        assert!(entry.value.as_deref() == Some(&value(number)), "{number} of {acknowledged}");
    }
}

#[test]
fn what_is_exported_is_served_where_it_is_imported() {
    let (from, to) = (Directory::new("export"), Directory::new("import"));
    let server = start(&from, 2);
    fill(&server);
    let before = kept(&server);
    drop(server);
    let file = Directory::new("lines");
    let run = |arguments: &[&str]| {
        let output = tidewire(arguments).output().expect("the binary starts");
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(run(&["storage", "check", "--data", from.name()]).starts_with("sound: 14 topics"));
    run(&["storage", "export", "--data", from.name(), file.name()]);
    assert_eq!(run(&["storage", "import", "--data", to.name(), file.name()]), "14 topics imported\n");
    std::fs::remove_file(&file.path).unwrap();
    assert_eq!(kept(&start(&to, 2)), before);
}
