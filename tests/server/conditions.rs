//! Updates that depend: constraints, patches, update streams.

use crate::client::{Refused, Seen, Session};
use crate::server::Server;
use tidewire::surface::value::ValueType;
use tidewire::surface::value::delta::{Encoder, Form};
use tidewire::surface::wire::native::{Ask, Request, Update, Verb, op};

fn refused<T>(code: u16) -> Result<T, Refused> {
    Err(Refused { code, position: None })
}

fn value(session: &mut Session, path: &str) -> Option<String> {
    let entry = session.fetch(path, "", 0).unwrap().1.into_iter().next()?;
    Some(String::from_utf8(entry.value?).unwrap())
}

#[test]
fn of_many_who_race_each_step_is_won_once() {
    const STEPS: u64 = 40;
    let server = Server::start(2);
    server.connect().add_and_set("count", ValueType::Json, b"0").unwrap();
    let address = server.address;
    let race = move || {
        let mut session = Session::connect(address, 0);
        let mut won = 0;
        while won < STEPS {
            let now: u64 = value(&mut session, "count").unwrap().parse().unwrap();
            let constraint = format!(r#"{{"value":{{"is":{now}}}}}"#);
            match session.set_if("count", ValueType::Json, (now + 1).to_string().as_bytes(), &constraint) {
                Ok(()) => won += 1,
                Err(lost) => assert_eq!(lost.code, 212),
            }
        }
    };
    let racers: Vec<_> = (0..4).map(|_| std::thread::spawn(race)).collect();
    racers.into_iter().for_each(|racer| racer.join().unwrap());
    assert_eq!(value(&mut server.connect(), "count"), Some((4 * STEPS).to_string()));
}

#[test]
fn one_of_many_adds_a_topic() {
    let server = Server::start(2);
    let mut sessions: Vec<Session> = (0..5).map(|_| server.connect()).collect();
    let constraint = br#"{"no_topic":true}"#;
    for (id, session) in sessions.iter_mut().enumerate() {
        let update = Update { constraint: constraint[..].into(), ..Update::new(Verb::AddAndSet, 1, id.to_string().into_bytes()) };
        session.send(&Request { id: 9, ask: Ask::Update { path: "a".into(), update } });
    }
    let answers: Vec<Seen> = sessions.iter_mut().map(Session::next).collect();
    let won: Vec<usize> = (0..5).filter(|at| answers[*at] == Seen::Ok(9, vec![1])).collect();
    assert_eq!(won.len(), 1, "{answers:?}");
    assert_eq!(value(&mut sessions[0], "a"), Some(won[0].to_string()));
}

/// Whether an update of `{"a":{"b":5},"c":"x"}` under the constraint is made.
fn check(constraint: &str, result: Result<(), Refused>) {
    let server = Server::start(2);
    let mut session = server.connect();
    session.add_and_set("t", ValueType::Json, br#"{"a":{"b":5},"c":"x"}"#).unwrap();
    assert_eq!(session.set_if("t", ValueType::Json, b"1", constraint), result, "{constraint}");
    assert_eq!(value(&mut session, "t").as_deref() == Some("1"), result.is_ok(), "{constraint}");
}

#[test]
fn constraints_look_into_the_value() {
    check(r#"{"json":[{"at":"/a/b","ge":5},{"at":"/d","absent":true}]}"#, Ok(()));
    check(r#"{"or":[{"no_value":true},{"json":[{"at":"/c","eq":"x"}]}]}"#, Ok(()));
    check(r#"{"value":{"is":{"a":{"b":5},"c":"x"}}}"#, Ok(()));
    check(r#"{"json":[{"at":"/a/b","gt":5}]}"#, refused(212));
    check(r#"{"no_topic":true}"#, refused(212));
    check(r#"{"value":{"is":5,"type":"int64"}}"#, refused(212));
    check(r#"{"and":[{"no_topic":true},{"no_value":true}]}"#, Err(Refused { code: 213, position: Some(26) }));
    check(r#"{"locked":{"name":"a","number":1}}"#, refused(212));
    check(r#"{"locked":"a"}"#, Err(Refused { code: 213, position: Some(10) }));
    check("{", Err(Refused { code: 213, position: Some(1) }));
}

#[test]
fn patches_change_what_they_name_and_go_out_as_deltas() {
    let server = Server::start(2);
    let (mut writer, mut reader) = (server.connect(), server.connect());
    let rest = "\"padding\",".repeat(30);
    writer.add_and_set("t", ValueType::Json, format!(r#"{{"x":1,"rest":[{rest}0]}}"#).as_bytes()).unwrap();
    reader.subscribe("t").unwrap();
    reader.settle();
    writer
        .patch(
            "t",
            r#"[{"op":"test","path":"/x","value":1},{"op":"replace","path":"/x","value":22},{"op":"add","path":"/rest/-","value":1}]"#,
        )
        .unwrap();
    assert_eq!(reader.next(), Seen::Value("t".into(), format!(r#"{{"x":22,"rest":[{rest}0,1]}}"#).into()));
    assert_ne!(reader.update_frames[1].0, op::VALUE);
    let at = |code, position| Err(Refused { code, position: Some(position) });
    assert_eq!(writer.patch("t", r#"[{"op":"add","path":"/y","value":1},{"op":"remove","path":"/none"}]"#), at(215, 1));
    assert_eq!(writer.patch("t", r#"[{"op":"lift","path":"/x"}]"#), at(214, 7));
    assert_eq!(writer.patch("none", "[]"), refused(202));
    writer.add_and_set("s", ValueType::String, b"text").unwrap();
    assert_eq!(writer.patch("s", "[]"), refused(204));
    assert_eq!(reader.settle(), [], "a patch that fails changes nothing");
}

// Streams.

fn open(session: &mut Session, stream: u64, path: &'static str) -> Result<(), Refused> {
    session
        .ask(|id| Request { id, ask: Ask::StreamOpen { stream, path: path.into(), update: Update::new(Verb::Check, 1, &b""[..]) } })
        .map(drop)
}

fn set(session: &mut Session, stream: u64, value: &[u8]) -> Result<(), Refused> {
    let value = value.to_vec().into();
    session.ask(|id| Request { id, ask: Ask::StreamSet { stream, value } }).map(drop)
}

fn step(session: &mut Session, stream: u64, form: u8, delta: Vec<u8>) -> Result<(), Refused> {
    session.ask(|id| Request { id, ask: Ask::StreamDelta { stream, form, delta: delta.into() } }).map(drop)
}

fn close(session: &mut Session, stream: u64) -> Result<(), Refused> {
    session.ask(|id| Request { id, ask: Ask::StreamClose { stream } }).map(drop)
}

fn table(version: usize) -> Vec<u8> {
    let row = |number| format!(r#"{{"row":{number},"price":{}}}"#, 1000 + number * 3 + if number == version % 30 { version } else { 0 });
    format!("[{}]", (0..30).map(row).collect::<Vec<_>>().join(",")).into_bytes()
}

#[test]
fn a_stream_goes_on_by_deltas() {
    let server = Server::start(2);
    let (mut writer, mut reader) = (server.connect(), server.connect());
    writer.add("t", ValueType::Json).unwrap();
    reader.subscribe("t").unwrap();
    reader.settle();
    open(&mut writer, 7, "t").unwrap();
    set(&mut writer, 7, &table(0)).unwrap();
    assert_eq!(reader.next(), Seen::Value("t".into(), table(0)));
    let mut encoder = Encoder::new();
    for version in 1..20 {
        let mut delta = Vec::new();
        let form = encoder.encode(&table(version - 1), &table(version), &mut delta).expect("one cell differs");
        let form = if form == Form::Copy { op::DELTA_COPY } else { op::DELTA_DEFLATE };
        step(&mut writer, 7, form, delta).unwrap();
        assert_eq!(reader.next(), Seen::Value("t".into(), table(version)));
    }
    assert_eq!(open(&mut writer, 7, "t"), refused(221));
    close(&mut writer, 7).unwrap();
    assert_eq!(set(&mut writer, 7, b"1"), refused(220));
    open(&mut writer, 7, "t").unwrap();
}

#[test]
fn a_stream_ends_when_another_writes_or_the_topic_goes() {
    let server = Server::start(2);
    let (mut writer, mut other) = (server.connect(), server.connect());
    for path in ["a", "b", "c"] {
        writer.add_and_set(path, ValueType::Json, b"1").unwrap();
    }
    open(&mut writer, 1, "a").unwrap();
    other.set("a", ValueType::Json, b"2").unwrap();
    assert_eq!(set(&mut writer, 1, b"3"), refused(220));
    open(&mut writer, 2, "b").unwrap();
    open(&mut other, 2, "b").unwrap();
    assert_eq!(set(&mut writer, 2, b"3"), refused(220));
    assert_eq!(set(&mut other, 2, b"4"), Ok(()));
    open(&mut writer, 3, "c").unwrap();
    other.remove("c").unwrap();
    assert_eq!(set(&mut writer, 3, b"3"), refused(220));
    open(&mut writer, 4, "a").unwrap();
    assert_eq!(set(&mut writer, 4, b"{"), Err(Refused { code: 205, position: Some(1) }));
    assert_eq!(set(&mut writer, 4, b"1"), refused(220), "an operation that fails ends it");
    assert_eq!((value(&mut writer, "a"), value(&mut writer, "b")), (Some("2".into()), Some("4".into())));
}

#[test]
fn a_delta_that_does_not_apply_changes_nothing() {
    let server = Server::start(2);
    let mut session = server.connect();
    session.add_and_set("a", ValueType::Json, b"1").unwrap();
    for (form, delta) in [(op::DELTA_COPY, &[200, 1][..]), (op::DELTA_DEFLATE, b"nonsense"), (0x77, b"")] {
        open(&mut session, 1, "a").unwrap();
        assert_eq!(step(&mut session, 1, form, delta.to_vec()), refused(205), "{form:#x}");
        assert_eq!(set(&mut session, 1, b"2"), refused(220));
        let _ = close(&mut session, 1);
    }
    assert_eq!(value(&mut session, "a").as_deref(), Some("1"));
}
