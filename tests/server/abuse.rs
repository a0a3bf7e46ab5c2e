//! Limits against abuse, over real sockets: what each address may have, what one is told for whom there is no room, and that slow and fast clients hold nobody up.

use crate::raw::{RawSocket, masked};
use crate::secure::{Authority, Secure};
use crate::server::{PATIENCE, Server};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tidewire::surface::value::ValueType;

/// Waits until it is so: the server learns of ends, and shards tell their counts, in their own time.
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

const HEALTH: &[u8] = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn is_healthy(answer: &[u8]) -> bool {
    answer.starts_with(b"HTTP/1.1 200 ")
}

/// The header of a proxy whose client is at this address.
fn header(address: [u8; 4]) -> Vec<u8> {
    [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..], &address, &[5, 6, 7, 8, 0, 80, 1, 187]].concat()
}

const ONE: [u8; 4] = [203, 0, 113, 7];
const OTHER: [u8; 4] = [203, 0, 113, 8];

fn listener(name: &str, more: &str) -> String {
    format!("[[listener]]\nname = '{name}'\naddress = '127.0.0.1:0'\ntrusted_proxies = ['127.0.0.0/8']\n{more}\n")
}

// Connections of all.

#[test]
fn who_finds_no_room_is_told_so() {
    let server = Server::start_with_mqtt(1, &[("LIMITS_CONNECTIONS_MAX", "2")]);
    let mqtt = server.mqtt.expect("it serves MQTT");
    let (first, second) = (server.connect(), server.connect());
    let told = |address: SocketAddr, bytes: &[u8]| {
        let mut socket = RawSocket::open(address);
        socket.send(bytes);
        socket.read_to_end()
    };
    let answer = String::from_utf8(told(server.address, HEALTH)).expect("text");
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\r\nRetry-After: 1\r\n"), "{answer}");
    assert!(answer.ends_with("the server holds as many connections as limits.connections_max allows\n"), "{answer}");
    assert_eq!(told(mqtt, b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01c"), b"\x20\x02\0\x03");
    assert_eq!(told(mqtt, b"\x10\x0e\0\x04MQTT\x05\x02\0\0\0\0\x01c"), b"\x20\x03\0\x89\0");
    // What is no client of MQTT, or says nothing, ends too.
    assert_eq!(told(mqtt, HEALTH), b"");
    assert_eq!(told(mqtt, b"\x10"), b"");
    drop(second);
    wait_until("its place is free", || is_healthy(&told(server.address, HEALTH)));
    drop(first);
    wait_until("all are counted", || server.count("refused_full") >= 5);
}

// Connections of an address.

/// The third connection of an address is closed, another address has its own, and one that ends makes room.
fn check_address(server: &Server, mut open: impl FnMut([u8; 4]) -> RawSocket) {
    let mut asks = |address| {
        let mut socket = open(address);
        socket.send(HEALTH);
        is_healthy(&socket.read_to_end())
    };
    wait_until("the two of it are there", || !asks(ONE));
    assert!(!asks(ONE));
    assert!(asks(OTHER));
    wait_until("it is counted", || server.count("refused_address") >= 2);
}

fn start_by_address(listener: &str) -> (Authority, Server) {
    let authority = Authority::new();
    let server = authority.start(2, &[("SERVER_CONNECTIONS_PER_ADDRESS_MAX", "2")], listener);
    (authority, server)
}

#[test]
fn an_address_behind_a_proxy_has_its_most_of_connections() {
    let (_authority, server) = start_by_address(&listener("own", "proxy_protocol = true"));
    let open = |address| {
        let mut socket = RawSocket::open(server.listeners["own"]);
        socket.send(&header(address));
        socket
    };
    let mut held = [open(ONE), open(ONE)];
    held.iter_mut().for_each(|socket| socket.connect("tidewire.1"));
    check_address(&server, open);
    drop(held);
    wait_until("its places are free", || {
        let mut socket = open(ONE);
        socket.send(HEALTH);
        is_healthy(&socket.read_to_end())
    });
}

#[test]
fn an_address_that_is_forwarded_has_its_most_of_connections() {
    let (_authority, server) = start_by_address(&listener("own", ""));
    let open = |address: [u8; 4], request: &[u8]| {
        let mut socket = RawSocket::open(server.listeners["own"]);
        let [a, b, c, d] = address;
        let said = format!("X-Forwarded-For: {a}.{b}.{c}.{d}\r\nHost: ");
        socket.send(String::from_utf8_lossy(request).replace("Host: ", &said).as_bytes());
        socket
    };
    let upgrade = crate::raw::upgrade_request("/tidewire", "tidewire.1");
    let mut held: Vec<RawSocket> = (0..2).map(|_| open(ONE, upgrade.as_bytes())).collect();
    held.iter_mut().for_each(|socket| assert!(socket.read_head().starts_with("HTTP/1.1 101 ")));
    // Nothing is done for one more, be it whole sessions of requests that come with its head.
    let mut more = open(ONE, &[upgrade.as_bytes(), &masked(0x82, &[0x01, 2, 1, 1])].concat());
    assert_eq!(more.read_to_end(), b"");
    assert_eq!(open(ONE, HEALTH).read_to_end(), b"");
    assert!(is_healthy(&open(OTHER, HEALTH).read_to_end()));
    wait_until("they are counted", || server.count("refused_address") == 2);
    drop(held);
    wait_until("its places are free", || is_healthy(&open(ONE, HEALTH).read_to_end()));
}

#[test]
fn connections_of_this_host_are_not_counted() {
    let server = Server::start_with(2, &[("SERVER_CONNECTIONS_PER_ADDRESS_MAX", "1")]);
    let mut sessions: Vec<_> = (0..4).map(|_| server.connect()).collect();
    assert!(sessions.iter_mut().all(|session| session.add("a", ValueType::Json).is_ok()));
    assert_eq!(server.count("refused_address"), 0);
}

// Handshakes.

#[test]
fn an_address_has_its_most_of_handshakes() {
    let authority = Authority::new();
    authority.issue("server", &["localhost"]);
    let more = "proxy_protocol = true\ntrusted_proxies = ['127.0.0.0/8']";
    let table = authority.table("secure", "server", more);
    let server = authority.start(2, &[("TLS_HANDSHAKES_PER_ADDRESS_MAX", "1")], &table);
    let address = server.listeners["secure"];
    let asks = |client| Secure::behind(address, &header(client), authority.client(None)).ask_for_health().is_some();
    assert!(asks(ONE), "one after the other is one at a time");
    assert!(asks(ONE));
    let mut slow = RawSocket::open(address);
    slow.send(&header(ONE));
    let mut refused = RawSocket::open(address);
    wait_until("the other is there, or this", || {
        refused = RawSocket::open(address);
        refused.send(&header(ONE));
        server.count("refused_handshakes") > 0
    });
    assert!(asks(OTHER));
}

#[test]
fn a_hello_in_single_bytes_ends_in_its_time_and_holds_nobody_up() {
    let authority = Authority::new();
    authority.issue("server", &["localhost", "127.0.0.1"]);
    let variables = [("SESSION_HANDSHAKE_TIMEOUT_MS", "1000")];
    let server = authority.start(1, &variables, &authority.table("secure", "server", ""));
    let address = server.listeners["secure"];
    let mut slow: Vec<RawSocket> = (0..100).map(|_| RawSocket::open(address)).collect();
    // A record of a handshake that says it is long, and never comes.
    let hello = [&[0x16, 3, 1, 0x20, 0, 1, 0, 0x1f, 0xfc][..], &[0; 8000]].concat();
    let mut sent = 0;
    wait_until("all have ended", || {
        for socket in &mut slow {
            socket.send(&hello[sent..=sent]);
        }
        sent += 1;
        let answer = Secure::open(address, "localhost", authority.client(None)).ask_for_health();
        assert!(answer.is_some_and(|answer| answer.starts_with("HTTP/1.1 200 ")), "{sent}");
        server.count("connections") <= 1
    });
    assert!(sent < hello.len(), "they ended while they still spoke");
}

// Pace.

#[test]
fn who_sends_too_fast_waits_and_is_answered_everything() {
    let server = Server::start_with(2, &[("SESSION_MESSAGES_PER_S_MAX", "1000")]);
    let mut socket = server.open_raw();
    socket.connect("tidewire.1");
    let mut beside = server.connect();
    // Pings of the protocol, each in a message of its own: a second's worth and half of one.
    let pings = masked(0x82, &[0x02, 0]).repeat(1500);
    socket.send(&pings);
    assert_eq!(beside.add("a", ValueType::Json), Ok(true));
    let mut pongs = 0;
    while pongs < 1500 {
        // Several may come in one frame.
        pongs += socket.read_frame().payload.len() / 2;
    }
    wait_until("it is counted", || server.count("paced") > 0);
}
