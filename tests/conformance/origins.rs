//! Which requests are refused for the host that they name (RFC 9112 section 3.2) and the origin of the page that they come from (RFC 6454, RFC 6455
//! section 10.2): pages of others, and names that are not the server's.

use crate::peer::{Peer, limits, web};
use tidewire::surface::session::MqttLimits;
use tidewire::surface::shard::{Limits, Log};
use tidewire::surface::wire::forwarded::Networks;
use tidewire::surface::wire::origin::WebRules;

/// What a request is for.
const ASKED: [(&str, &str, u16); 5] = [
    ("/tidewire", "tidewire.1", 101),
    ("/tidewire", "tidewire.1.json", 101),
    ("/mqtt", "mqtt", 101),
    ("/latency", "", 200),
    ("/", "", 200),
];

/// The request with these fields; with a subprotocol it is a handshake.
fn request(path: &str, protocol: &str, fields: &str) -> String {
    let upgrade =
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
    match protocol {
        "" => format!("GET {path} HTTP/1.1\r\n{fields}\r\n"),
        _ => format!("GET {path} HTTP/1.1\r\n{fields}{upgrade}Sec-WebSocket-Protocol: {protocol}\r\n\r\n"),
    }
}

/// What is answered, and what the operator is told.
fn ask(web: &WebRules, request: &str) -> (u16, String, Vec<String>) {
    let limits = Limits { web: web.clone(), has_mqtt: true, mqtt: MqttLimits { sys_interval_ms: 0, ..MqttLimits::default() }, ..limits() };
    let mut peer = Peer::within(limits);
    peer.give(request.as_bytes());
    let answer = String::from_utf8(peer.take()).expect("an answer is text");
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    assert_eq!(peer.is_ended(), status != 101, "{answer}");
    let logged = peer.logged().iter().map(|log| match log {
        Log::ForeignHost { host } => format!("host {host}"),
        Log::ForeignPage { origin, host } => format!("page {origin} at {host}"),
        other => panic!("nobody has to be told: {other:?}"),
    });
    (status, answer, logged.collect())
}

/// Requests of every kind with these fields go on.
fn check_taken(web: &WebRules, fields: &str) {
    for (path, protocol, status) in ASKED {
        let (got, answer, logged) = ask(web, &request(path, protocol, fields));
        assert_eq!((got, logged), (status, vec![]), "{path} {protocol} {fields}: {answer}");
    }
}

/// Requests of every kind with these fields are refused; the client is told the key that is about it, the operator what was said.
fn check_refused(web: &WebRules, fields: &str, key: &str, told: &str) {
    for (path, protocol, _) in ASKED {
        let (status, answer, logged) = ask(web, &request(path, protocol, fields));
        assert_eq!((status, logged), (403, vec![told.to_owned()]), "{path} {protocol} {fields}: {answer}");
        assert!(answer.starts_with("HTTP/1.1 403 Forbidden\r\n") && answer.contains(key), "{answer}");
    }
}

#[test]
fn who_says_no_origin_is_no_page() {
    let loopback = WebRules::default();
    for host in ["localhost", "LOCALHOST:8080", "localhost.", "localhost.:8080", "127.0.0.1:1", "127.255.0.9", "[::1]", "[::1]:8080"] {
        check_taken(&loopback, &format!("Host: {host}\r\n"));
    }
}

#[test]
fn a_page_of_the_server_itself_may_ask() {
    let loopback = WebRules::default();
    check_taken(&loopback, "Host: localhost:8080\r\nOrigin: http://localhost:8080\r\n");
    check_taken(&loopback, "host: LocalHost:8080\r\norigin: HTTP://LOCALHOST:8080\r\n");
    check_taken(&loopback, "Host: localhost.:8080\r\nOrigin: http://localhost:8080\r\n");
    check_taken(&loopback, "Host: localhost\r\nOrigin: http://localhost:80\r\n");
    check_taken(&loopback, "Host: localhost:443\r\nOrigin: https://localhost\r\n");
    check_taken(&loopback, "Host: [::1]:8080\r\nOrigin: http://[::1]:8080\r\n");
    check_taken(&web(&["tide.example"], &[]), "Host: tide.example\r\nOrigin: https://tide.example\r\n");
}

#[test]
fn a_page_of_another_origin_is_refused() {
    let loopback = WebRules::default();
    for origin in [
        "https://evil.example",
        "http://localhost:3000",
        "http://127.0.0.1:8080",
        "https://localhost:8081",
        "null",
        "file://",
        "",
        "nonsense",
    ] {
        let told = format!("page {origin} at localhost:8080");
        check_refused(&loopback, &format!("Host: localhost:8080\r\nOrigin: {origin}\r\n"), "server.origins", &told);
    }
    check_refused(&web(&["*"], &[]), "Host: evil.example\r\nOrigin: null\r\n", "server.origins", "page null at evil.example");
}

#[test]
fn a_page_of_an_origin_that_is_listed_may_ask() {
    let listed = web(&[], &["http://localhost:3000", "null", "https://[2001:db8::1]"]);
    for origin in ["http://localhost:3000", "http://LOCALHOST:3000", "null", "https://[2001:DB8:0::1]:443"] {
        check_taken(&listed, &format!("Host: localhost:8080\r\nOrigin: {origin}\r\n"));
    }
    check_refused(
        &listed,
        "Host: localhost\r\nOrigin: http://localhost:3001\r\n",
        "server.origins",
        "page http://localhost:3001 at localhost",
    );
    check_taken(&web(&[], &["*"]), "Host: localhost:8080\r\nOrigin: https://evil.example\r\n");
}

#[test]
fn a_name_that_is_not_the_servers_is_refused() {
    let loopback = WebRules::default();
    for host in ["evil.example", "localhost.evil.example:8080", "10.0.0.1", "[::2]:8080", "localhost:x", ""] {
        let fields = format!("Host: {host}\r\nOrigin: http://{host}\r\n");
        check_refused(&loopback, &fields, "server.hosts", &format!("host {host}"));
        check_refused(&loopback, &format!("Host: {host}\r\n"), "server.hosts", &format!("host {host}"));
    }
    check_taken(&web(&["tide.example"], &[]), "Host: TIDE.example.:8443\r\n");
    check_taken(&web(&["*"], &[]), "Host: anything.example\r\nOrigin: http://anything.example\r\n");
}

#[test]
fn an_absolute_target_names_the_host() {
    let (status, ..) = ask(&WebRules::default(), "GET http://evil.example/latency HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(status, 403);
    let (status, ..) = ask(&WebRules::default(), "GET http://localhost/latency HTTP/1.1\r\nHost: evil.example\r\n\r\n");
    assert_eq!(status, 200);
}

#[test]
fn a_host_is_there_once() {
    for fields in ["", "Host: localhost\r\nHost: localhost\r\n", "Host: localhost\r\nOrigin: null\r\nOrigin: null\r\n"] {
        for (path, protocol, _) in ASKED {
            let (status, answer, logged) = ask(&web(&["*"], &["*"]), &request(path, protocol, fields));
            assert_eq!((status, logged), (400, vec![]), "{path} {fields}: {answer}");
        }
    }
    let (status, ..) = ask(&WebRules::default(), "GET /health HTTP/1.0\r\n\r\n");
    assert_eq!(status, 200, "HTTP/1.0 has no Host, and its clients are no browsers");
    let (status, ..) = ask(&WebRules::default(), "GET /health HTTP/1.0\r\nOrigin: http://localhost\r\n\r\n");
    assert_eq!(status, 403, "without a host no page is of the same origin");
}

#[test]
fn what_is_logged_of_a_name_is_cut() {
    let (_, _, logged) = ask(&WebRules::default(), &request("/", "", &format!("Host: {}\r\n", "a".repeat(5000))));
    assert_eq!(logged, [format!("host {}", "a".repeat(200))]);
}

/// Where a request with this field is said to come from, by rules that trust this network's proxies; nowhere else where `None`.
fn check_located(peer: &str, field: &str, expected: Option<&str>) {
    let web = WebRules { proxies: Networks::parse(&["10.0.0.0/8".to_owned()]).expect("a network"), ..WebRules::default() };
    let mut peer = Peer::within(Limits { web, ..limits() }).from(peer.parse().expect("an address"));
    peer.give(request("/", "", &format!("Host: localhost\r\n{field}")).as_bytes());
    let expected: Vec<_> = expected.iter().map(|address| address.parse::<std::net::IpAddr>().expect("an address")).collect();
    assert_eq!(peer.located(), expected, "{field}");
}

#[test]
fn a_trusted_proxy_says_for_whom_it_asks() {
    check_located("10.0.0.1", "X-Forwarded-For: 1.1.1.1, 2.2.2.2\r\n", Some("2.2.2.2"));
    check_located("10.0.0.1", "X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2, 10.0.0.9\r\n", Some("2.2.2.2"));
    check_located("10.0.0.1", "X-Forwarded-For: nobody\r\n", None);
    check_located("10.0.0.1", "", None);
    check_located("11.0.0.1", "X-Forwarded-For: 2.2.2.2\r\n", None);
}
