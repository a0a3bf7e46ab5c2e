//! Sessions that say who clients are, and clients that show anew who they are.

use crate::client::{Refused, Seen, Session};
use crate::identities::{Principals, connect, text};
use crate::mosquitto::mosquitto;
use crate::server::{Server, terminate};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};
use tidewire::surface::value::ValueType;
use tidewire::surface::wire::native::{Ask, Credentials, Request};

/// A script that knows `guest` and what it shows, and leaves others to whoever comes next.
const KNOWS_GUEST: &str = r#"question=$(cat); case "$question" in
  *'"principal":"guest"'*'"text":"let me in"'*) echo '{"verdict":"allow","roles":["OPERATOR","CLIENT"],"properties":{"Tier":"gold"}}' ;;
  *'"principal":"guest"'*) echo '{"verdict":"deny"}' ;;
  *'"principal":"broken"'*) echo 'the directory is down' >&2; exit 1 ;;
  *) echo '{"verdict":"abstain"}' ;;
esac"#;

fn start(principals: &Principals) -> Server {
    principals.start(&[("AUTHENTICATION_CHAIN", "control:directory;principals"), ("AUTHENTICATION_CONTROL_UNAVAILABLE", "abstain")])
}

/// `tidewire respond` as the authenticator, by a principal that is asked of the next in the chain.
struct Authenticator {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Authenticator {
    /// It answers once this returns.
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    fn next(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line
    }
}

impl Drop for Authenticator {
    fn drop(&mut self) {
        terminate(&self.child);
        let _ = self.child.wait();
    }
}

fn authenticator(server: &Server, principals: &Principals) -> Authenticator {
    let password = principals.path("ann");
    let named = ["--principal", "ann", "--password-file", password.to_str().unwrap()];
    let arguments = [&["respond", "--authenticator", "directory", "--exec", KNOWS_GUEST][..], &named].concat();
    let authenticator = Authenticator::start(server.client(&arguments));
    // Until it is asked, whom only it knows is not let in.
    while !is_let_in(server, "guest", "let me in") {
        std::thread::yield_now();
    }
    authenticator
}

fn is_let_in(server: &Server, principal: &str, password: &str) -> bool {
    matches!(Session::begin(server.address, connect(principal, password)).next(), Seen::Welcome)
}

/// `ann` may be an authenticator here.
fn principals(name: &str) -> Principals {
    Principals::new(name, "assign roles \"ann\" [\"AUTHENTICATION_HANDLER\"]")
}

#[test]
fn a_command_says_who_clients_are() {
    let principals = principals("authenticators");
    let server = start(&principals);
    assert!(!is_let_in(&server, "guest", "let me in"));
    let mut authenticator = authenticator(&server, &principals);
    assert!(!is_let_in(&server, "guest", "wrong"));
    // Whom it does not know, and where it fails, the next one is asked.
    assert!(is_let_in(&server, "bob", "pw of bob") && !is_let_in(&server, "bob", "wrong") && !is_let_in(&server, "broken", "x"));
    for (password, is_right) in [("let me in", true), ("wrong", false)] {
        let output =
            mosquitto("mosquitto_pub", &server, "mqttv5", &["-t", "a", "-m", "1", "-u", "guest", "-P", password]).output().unwrap();
        assert_eq!(output.status.success(), is_right, "{}", text(&output));
    }
    let password = principals.path("guest");
    std::fs::write(&password, "let me in\n").unwrap();
    let listed = server.command(&["sessions", "--json", "--principal", "guest", "--password-file", password.to_str().unwrap()]);
    assert!(
        text(&listed).contains(r#""Tier":"gold""#) && text(&listed).contains(r#""$Roles":"\"CLIENT\" \"OPERATOR\"""#),
        "{}",
        text(&listed)
    );
    // What was shown is not printed.
    let mut printed = String::new();
    while !printed.contains("broken") {
        printed = authenticator.next();
        assert!(printed.contains(r#""type":"password""#) && !printed.contains("let me in") && !printed.contains("wrong"), "{printed}");
    }
    assert!(printed.contains("the directory is down"), "{printed}");
}

#[test]
fn only_who_may_is_an_authenticator() {
    let principals = principals("authenticators_permitted");
    let server = start(&principals);
    let mut bob = Session::open(server.address, connect("bob", "pw of bob"));
    let ask = |name: &'static str| move |id| Request { id, ask: Ask::HandleAuthentication { handler: 1, name: name.into() } };
    assert!(matches!(bob.ask(ask("directory")), Err(Refused { code: 110, .. })));
    let mut ann = Session::open(server.address, connect("ann", "pw of ann"));
    assert!(matches!(ann.ask(ask("other")), Err(Refused { code: 106, .. })));
    assert!(ann.ask(ask("directory")).is_ok());
}

#[test]
fn a_session_goes_on_as_somebody_else_s() {
    let principals = principals("authenticators_again");
    let server = start(&principals);
    let mut session = Session::open(server.address, connect("ann", "pw of ann"));
    assert!(matches!(session.add("a", ValueType::Json), Err(Refused { code: 110, .. })));
    let authenticate = |principal: &'static str, password: &'static str| {
        move |id| {
            let credentials = Credentials { principal: principal.into(), password: password.into(), bearer: "".into() };
            Request { id, ask: Ask::Authenticate { credentials: Box::new(credentials) } }
        }
    };
    assert!(matches!(session.ask(authenticate("bob", "wrong")), Err(Refused { code: 109, .. })));
    assert!(matches!(session.add("a", ValueType::Json), Err(Refused { code: 110, .. })));
    assert!(session.ask(authenticate("bob", "pw of bob")).is_ok());
    assert_eq!(session.add("a", ValueType::Json), Ok(true));
}

/// A packet of MQTT 5 whose rest is below 128 bytes.
fn packet(first: u8, rest: &[&[u8]]) -> Vec<u8> {
    let rest = rest.concat();
    [&[first, u8::try_from(rest.len()).unwrap()], &rest[..]].concat()
}

fn prefixed(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

/// The properties of a method and what it shows.
fn shows(method: &str, content: &str) -> Vec<u8> {
    let properties = [&[0x15][..], &prefixed(method.as_bytes()), &[0x16], &prefixed(content.as_bytes())].concat();
    [&[u8::try_from(properties.len()).unwrap()], &properties[..]].concat()
}

#[test]
fn a_client_of_mqtt_shows_anew_who_it_is() {
    let principals = principals("authenticators_mqtt");
    let server = start(&principals);
    let mut socket = TcpStream::connect(server.mqtt.unwrap()).unwrap();
    let mut heard = move |sent: &[u8], count: usize| {
        socket.write_all(sent).unwrap();
        let mut bytes = vec![0; count];
        socket.read_exact(&mut bytes).unwrap();
        bytes
    };
    let head: &[u8] = &[0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 60];
    let connack = heard(&packet(0x10, &[head, &shows("PLAIN", "\0ann\0pw of ann"), &prefixed(b"c")]), 4);
    assert_eq!((connack[0], connack[3]), (0x20, 0));
    heard(&[], usize::from(connack[1]) - 2);
    let publish = |id: u8| packet(0x32, &[&prefixed(b"a"), &[0, id], &[0], b"1"]);
    // ann may not publish: PUBACK has 0x87, and a text.
    let puback = heard(&publish(1), 5);
    assert_eq!((puback[0], puback[4]), (0x40, 0x87));
    heard(&[], usize::from(puback[1]) - 3);
    let auth = heard(&packet(0xf0, &[&[0x19], &shows("PLAIN", "\0bob\0pw of bob")]), 3);
    assert_eq!((auth[0], auth[2]), (0xf0, 0));
    heard(&[], usize::from(auth[1]) - 1);
    let puback = heard(&publish(2), 2);
    assert_eq!(puback[0], 0x40);
    let puback = heard(&[], usize::from(puback[1]));
    assert!(puback.get(2).is_none_or(|code| matches!(code, 0 | 0x10)), "{puback:?}");
    // What is wrong closes: MQTT-4.12.1-2.
    let disconnect = heard(&packet(0xf0, &[&[0x19], &shows("PLAIN", "\0bob\0wrong")]), 3);
    assert_eq!((disconnect[0], disconnect[2]), (0xe0, 0x87));
}
