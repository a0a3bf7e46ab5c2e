//! Sessions as others see them: where their clients are, how they do, and what they select.

use crate::client::{Message, Session, connect_ask};
use crate::raw::RawSocket;
use crate::server::{Directory, PATIENCE, Server, tidewire};
use std::net::SocketAddr;
use std::time::Instant;
use tidewire::surface::value::ValueType;
use tidewire::surface::wire::native::{Ask, Outcome, Request, SelectionEntry, SessionEntry, decode_selections, decode_sessions};
use tidewire::surface::wire::varint::Reader;

fn list(asker: &mut Session, filter: &str) -> Vec<SessionEntry> {
    let filter = filter.to_owned().into();
    let body = asker.ask(|id| Request { id, ask: Ask::ListSessions { filter, after: "".into(), first: 0, slowest: false } }).unwrap();
    let Outcome::Sessions { has_more: false, sessions } = decode_sessions(&mut Reader(&body)).unwrap() else { panic!("one page") };
    sessions
}

/// Lists the one session that is meant until that holds.
fn until(asker: &mut Session, filter: &str, holds: impl Fn(&SessionEntry) -> bool) -> SessionEntry {
    let started = Instant::now();
    loop {
        assert!(started.elapsed() < PATIENCE, "it does not come to that");
        let mut listed = list(asker, filter);
        if listed.len() == 1 && holds(&listed[0]) {
            return listed.remove(0);
        }
    }
}

fn property<'e>(entry: &'e SessionEntry, wanted: &str) -> Option<&'e str> {
    entry.properties.iter().find(|(key, _)| **key == *wanted).map(|(_, value)| &**value)
}

fn check(entry: &SessionEntry, expected: &[(&str, Option<&str>)]) {
    for (key, value) in expected {
        assert_eq!(property(entry, key), *value, "{key} of {entry:?}");
    }
}

/// A session whose client says what it runs in.
fn connect(server: &Server, environment: &'static str) -> Session {
    let mut ask = connect_ask(60_000, "", 0);
    let Ask::Connect { about, .. } = &mut ask else { unreachable!() };
    about.environment = environment.into();
    Session::open(server.address, ask)
}

/// Text as MQTT carries it.
fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes()[..], text.as_bytes()].concat()
}

/// A packet of less than 128 bytes.
fn packet(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    [&[first, body.len() as u8][..], &body].concat()
}

/// A client of MQTT 3.1.1 whose session stays.
fn join(address: SocketAddr, client_id: &str) -> RawSocket {
    let mut socket = RawSocket::open(address);
    socket.send(&packet(0x10, &[&text("MQTT"), &[4, 0, 0, 60], &text(client_id)]));
    assert_eq!(socket.read_packet()[0], 0x20);
    socket
}

fn subscribe(socket: &mut RawSocket, filters: &[&str]) {
    let filters: Vec<u8> = filters.iter().flat_map(|filter| [text(filter), vec![1]].concat()).collect();
    socket.send(&packet(0x82, &[&[0, 1], &filters]));
    assert_eq!(socket.read_packet()[0], 0x90);
}

#[test]
fn a_session_shows_where_its_client_is() {
    let server = Server::start_with_mqtt(2, &[]);
    let mqtt = server.mqtt.expect("it serves MQTT");
    let mut asker = server.connect();
    let mut node = connect(&server, "NODE_linux_22.1.0");
    let silent = connect(&server, "");
    // Clients of both shards, whichever accepts them.
    let _clients: Vec<RawSocket> = (0..8).map(|number| join(mqtt, &format!("client-{number}"))).collect();
    let (nowhere, roles) = ([("$Country", None), ("$Language", None), ("$Latitude", None)], ("$Roles", Some("")));
    let of_websocket = [("$ClientIP", Some("127.0.0.1")), ("$Connector", Some("http")), ("$Transport", Some("WEBSOCKET")), roles];
    let is = |session: &Session| format!("$SessionId is '{}'", session.id);
    for (session, kind, environment) in [(&node, "JAVASCRIPT_BROWSER", "NODE_linux_22.1.0"), (&silent, "OTHER", "UNKNOWN")] {
        let listed = list(&mut asker, &is(session));
        assert_eq!(listed.len(), 1);
        check(&listed[0], &[("$ClientType", Some(kind)), ("$Environment", Some(environment))]);
        check(&listed[0], &of_websocket);
        check(&listed[0], &nowhere);
    }
    let listed = list(&mut asker, "$ClientIP is '127.0.0.1' and $Connector is 'mqtt'");
    assert_eq!(listed.len(), 8);
    for entry in &listed {
        check(entry, &[("$ClientType", Some("MQTT")), ("$Transport", Some("TCP")), ("$Environment", Some("UNKNOWN"))]);
    }
    // A connection that comes to the other shard takes along where it comes from.
    for _ in 0..6 {
        drop(node.resume(server.address));
        let listed = list(&mut asker, &is(&node));
        check(&listed[0], &of_websocket);
    }
}

#[test]
fn an_environment_is_bounded() {
    let server = Server::start(1);
    let mut socket = server.open("tidewire.1.json");
    let connect = |bytes: usize| format!(r#"{{"op":"connect","id":1,"environment":"{}"}}"#, "x".repeat(bytes));
    socket.send_text(&connect(129));
    assert!(matches!(socket.receive(), Message::Text(text) if text.contains(r#""code":319,"#)));
    socket.send_text(&connect(128));
    assert!(matches!(socket.receive(), Message::Text(text) if text.contains(r#""op":"welcome""#)));
}

#[test]
fn a_session_shows_how_it_does() {
    let server = Server::start_with_mqtt(2, &[("MQTT_QUEUED_MESSAGES_MAX", "2")]);
    let mqtt = server.mqtt.expect("it serves MQTT");
    let (mut asker, mut writer, mut reader) = (server.connect(), server.connect(), server.connect());
    reader.subscribe("a").unwrap();
    let of_reader = format!("$SessionId is '{}'", reader.id);
    let mut number = 0_u32;
    let started = Instant::now();
    while until(&mut asker, &of_reader, |_| true).sent_bytes_per_s == 0 {
        assert!(started.elapsed() < PATIENCE, "nothing is sent");
        number += 1;
        let value = format!("{number}");
        writer.add_and_set("a", ValueType::Json, value.as_bytes()).unwrap();
        reader.wait_for_value("a", value.as_bytes());
    }
    // A silent client is silent for longer and longer, until it says something.
    until(&mut asker, &of_reader, |entry| entry.idle_ms.is_some_and(|idle_ms| idle_ms >= 300));
    let started = Instant::now();
    while until(&mut asker, &of_reader, |_| true).idle_ms.expect("it has a connection") >= 300 {
        assert!(started.elapsed() < PATIENCE, "it is not heard");
        reader.subscribe("b").unwrap();
    }
    let conflate = |session: &str| Ask::ConflateSessions { session: session.to_owned().into(), filter: "".into(), conflated: true };
    asker.ask(|id| Request { id, ask: conflate(&reader.id) }).unwrap();
    assert!(until(&mut asker, &of_reader, |_| true).is_conflated);
    // One that is away has no room for all that comes.
    let mut gone = join(mqtt, "gone");
    subscribe(&mut gone, &["m"]);
    drop(gone);
    let of_gone = "$ClientType is 'MQTT'";
    until(&mut asker, of_gone, |entry| entry.is_away);
    let mut publisher = RawSocket::open(mqtt);
    publisher.send(&packet(0x10, &[&text("MQTT"), &[4, 2, 0, 60], &text("publisher")]));
    assert_eq!(publisher.read_packet()[0], 0x20);
    for id in 1..=5 {
        publisher.send(&packet(0x32, &[&text("m"), &[0, id], b"1"]));
        assert_eq!(publisher.read_packet()[0], 0x40);
    }
    publisher.send(&[0xe0, 0]);
    until(&mut asker, of_gone, |entry| entry.is_away && entry.dropped == 3);
}

fn selections(asker: &mut Session, session: &str, after: u64, first: u64) -> (bool, Vec<(String, String, u8)>) {
    let ask = Ask::ListSelections { session: session.to_owned().into(), after, first };
    let body = asker.ask(|id| Request { id, ask }).unwrap();
    let Outcome::Selections { has_more, selections } = decode_selections(&mut Reader(&body)).unwrap() else { unreachable!() };
    let plain = |SelectionEntry { scope, selector, kind }| (scope.into_string(), selector.into_string(), kind);
    (has_more, selections.into_iter().map(plain).collect())
}

#[test]
fn what_others_select_is_read() {
    let server = Server::start_with_mqtt(2, &[]);
    let (mut asker, mut reader) = (server.connect(), server.connect());
    reader.subscribe("?a//").unwrap();
    reader.unsubscribe("a/b").unwrap();
    reader.subscribe("b").unwrap();
    let entry = |selector: &str, kind| (String::new(), selector.to_owned(), kind);
    let all = [entry("?a//", 1), entry(">a/b", 0), entry(">b", 1)];
    assert_eq!(selections(&mut asker, &reader.id, 0, 0), (false, all.to_vec()));
    assert_eq!(selections(&mut asker, &reader.id, 0, 2), (true, all[..2].to_vec()));
    assert_eq!(selections(&mut asker, &reader.id, 2, 2), (false, all[2..].to_vec()));
    assert_eq!(selections(&mut asker, &reader.id, 9, 2), (false, Vec::new()));
    let mut client = join(server.mqtt.expect("it serves MQTT"), "client");
    subscribe(&mut client, &["m/+", "$share/g/x/#"]);
    let id = list(&mut asker, "$ClientType is 'MQTT'")[0].session.clone();
    assert_eq!(selections(&mut asker, &id, 0, 0), (false, vec![entry("m/+", 2), entry("$share/g/x/#", 2)]));
    let nobody = Ask::ListSelections { session: "nobody".into(), after: 0, first: 0 };
    assert_eq!(asker.ask(|id| Request { id, ask: nobody }).unwrap_err().code, 317);
}

// Where addresses are.

/// A value in the data section of MaxMind's form.
enum Field<'f> {
    Text(&'f str),
    Double(f64),
    Short(u16),
    Number(u32),
    Long(u64),
    Map(&'f [(&'f str, Field<'f>)]),
    Texts(&'f [&'f str]),
}

impl Field<'_> {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => {
                out.push(2 << 5 | text.len() as u8);
                out.extend_from_slice(text.as_bytes());
            }
            Self::Double(number) => {
                out.push(3 << 5 | 8);
                out.extend_from_slice(&number.to_be_bytes());
            }
            Self::Short(number) => {
                out.push(5 << 5 | 2);
                out.extend_from_slice(&number.to_be_bytes());
            }
            Self::Long(number) => {
                out.extend_from_slice(&[8, 9 - 7]);
                out.extend_from_slice(&number.to_be_bytes());
            }
            Self::Number(number) => {
                out.push(6 << 5 | 4);
                out.extend_from_slice(&number.to_be_bytes());
            }
            Self::Map(members) => {
                out.push(7 << 5 | members.len() as u8);
                for (key, value) in *members {
                    Field::Text(key).put(out);
                    value.put(out);
                }
            }
            Self::Texts(texts) => {
                out.extend_from_slice(&[texts.len() as u8, 11 - 7]);
                texts.iter().for_each(|text| Field::Text(text).put(out));
            }
        }
    }
}

/// A file that knows the addresses of 127.0.0.0/8, and of no others.
fn places(record: &Field<'_>) -> Vec<u8> {
    const NODES: u32 = 8;
    let mut file = Vec::new();
    for (node, bit) in (0..NODES).zip([0, 1, 1, 1, 1, 1, 1, 1]) {
        let next = if node + 1 < NODES { node + 1 } else { NODES + 16 };
        for side in 0..2 {
            let to = if side == bit { next } else { NODES };
            file.extend_from_slice(&to.to_be_bytes()[1..]);
        }
    }
    file.extend_from_slice(&[0; 16]);
    record.put(&mut file);
    file.extend_from_slice(b"\xab\xcd\xefMaxMind.com");
    let metadata = Field::Map(&[
        ("node_count", Field::Number(NODES)),
        ("record_size", Field::Short(24)),
        ("ip_version", Field::Short(4)),
        ("database_type", Field::Text("Test-City")),
        ("languages", Field::Texts(&["en"])),
        ("binary_format_major_version", Field::Short(2)),
        ("binary_format_minor_version", Field::Short(0)),
        ("build_epoch", Field::Long(1_735_689_600)),
        ("description", Field::Map(&[("en", Field::Text("a test"))])),
    ]);
    metadata.put(&mut file);
    file
}

#[test]
fn a_file_says_where_addresses_are() {
    let directory = Directory::new("geoip");
    std::fs::create_dir_all(&directory.path).unwrap();
    let file = directory.path.join("places.mmdb");
    let location = [("latitude", Field::Double(-33.4489)), ("longitude", Field::Double(-70.6693))];
    let record = [("country", Field::Map(&[("iso_code", Field::Text("CL"))])), ("location", Field::Map(&location))];
    std::fs::write(&file, places(&Field::Map(&record))).unwrap();
    let server = Server::start_with_mqtt(2, &[("SESSION_GEOIP_FILE", file.to_str().expect("the name is text"))]);
    let mut asker = server.connect();
    let _client = join(server.mqtt.expect("it serves MQTT"), "client");
    let listed = list(&mut asker, "$Country is 'CL' and $Language is 'es'");
    assert_eq!(listed.len(), 2);
    for entry in &listed {
        check(entry, &[("$Latitude", Some("-33.4489")), ("$Longitude", Some("-70.6693"))]);
    }
}

#[test]
fn a_server_does_not_start_with_a_file_that_it_cannot_read() {
    let directory = Directory::new("geoip-broken");
    std::fs::create_dir_all(&directory.path).unwrap();
    let broken = directory.path.join("broken.mmdb");
    std::fs::write(&broken, b"no such form").unwrap();
    for file in [broken, directory.path.join("missing.mmdb")] {
        let mut command = tidewire(&["serve", "--listen", "127.0.0.1:0", "--mqtt", "off", "--shards", "1", "--dev"]);
        command.env("TIDEWIRE_STORAGE_EPHEMERAL", "true").env("TIDEWIRE_SESSION_GEOIP_FILE", &file);
        let output = command.output().expect("the binary starts");
        assert!(!output.status.success());
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(errors.contains("session.geoip_file: cannot read ") && errors.contains(file.to_str().expect("text")), "{errors}");
    }
}
