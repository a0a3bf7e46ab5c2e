//! Plain HTTP on the same port, and handshakes that are refused before they are WebSocket.

use crate::raw::upgrade_request;
use crate::server::Server;

/// Sends a request; the status and the body of the answer, behind which the connection ends.
fn ask(server: &Server, request: &str) -> (u16, String) {
    let mut socket = server.open_raw();
    socket.send(request.as_bytes());
    let head = socket.read_head();
    let status = head.split(' ').nth(1).expect("a status line").parse().expect("a number");
    let body = String::from_utf8(socket.read_to_end()).expect("the body is text");
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).expect("a length");
    assert_eq!(length.parse(), Ok(body.len()));
    (status, body)
}

fn check(request: &str, status: u16) {
    let server = Server::start(1);
    assert_eq!(ask(&server, request).0, status, "{request}");
}

#[test]
fn health_is_ok() {
    let server = Server::start(2);
    assert_eq!(ask(&server, "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"), (200, "ok\n".into()));
    assert_eq!(ask(&server, "GET /health?now HTTP/1.1\r\nHost: localhost\r\n\r\n").0, 200);
}

#[test]
fn latency_reports_every_shard() {
    let server = Server::start(2);
    let mut session = server.connect();
    session.subscribe("a").unwrap();
    session.add_and_set("a", tidewire::surface::value::ValueType::Json, b"1").unwrap();
    session.wait_for_value("a", b"1");
    session.set("a", tidewire::surface::value::ValueType::Json, b"2").unwrap();
    session.wait_for_value("a", b"2");
    let (status, body) = ask(&server, "GET /latency HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let report: serde_json::Value = serde_json::from_str(&body).expect("the report is JSON");
    assert_eq!(status, 200);
    assert_eq!(report["unit"], "ns");
    let shards = report["shards"].as_array().unwrap();
    assert_eq!(shards.iter().map(|shard| shard["shard"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 1]);
    let sum = |name: &str| shards.iter().map(|shard| shard["counts"][name].as_u64().expect(name)).sum::<u64>();
    assert_eq!(sum("sessions"), 1);
    assert_eq!(sum("topics"), 1);
    assert_eq!(sum("updates"), 2);
    assert_eq!(sum("deliveries"), 1, "the value that a subscription starts with is not counted");
}

#[test]
fn other_pages_are_404_and_other_methods_405() {
    check("GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n", 404);
    check("POST /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", 405);
    check("DELETE /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n", 405);
}

#[test]
fn what_is_not_http_is_400() {
    check("\u{1}\u{2}\u{3}\r\n\r\n", 400);
    check("GET /health HTTP/9.9\r\n\r\n", 400);
}

#[test]
fn a_head_longer_than_its_limit_is_431() {
    let many: String = (0..65).map(|number| format!("x-{number}: 1\r\n")).collect();
    check(&format!("GET /health HTTP/1.1\r\nHost: localhost\r\n{many}\r\n"), 431);
    let long = "x".repeat(9000);
    check(&format!("GET /health HTTP/1.1\r\nHost: localhost\r\nlong: {long}"), 431);
    check(&format!("GET /health HTTP/1.1\r\nHost: localhost\r\nlong: {long}\r\n\r\n"), 431);
}

#[test]
fn websocket_is_served_at_its_path_and_with_a_subprotocol() {
    check(&upgrade_request("/", "tidewire.1"), 404);
    check(&upgrade_request("/health", "tidewire.1"), 404);
    check(&upgrade_request("/tidewire", ""), 400);
    check(&upgrade_request("/tidewire", "mqtt, tidewire.2"), 400);
}

#[test]
fn the_first_subprotocol_that_is_known_is_in_force() {
    let server = Server::start(1);
    for (offered, accepted) in
        [("tidewire.9, tidewire.1.json, tidewire.1", "tidewire.1.json"), ("tidewire.1,tidewire.1.json", "tidewire.1")]
    {
        let mut socket = server.open_raw();
        socket.send(upgrade_request("/tidewire", offered).as_bytes());
        let head = socket.read_head();
        assert!(head.contains(&format!("\r\nSec-WebSocket-Protocol: {accepted}\r\n")), "{head}");
    }
}

#[test]
fn without_mqtt_nothing_is_at_its_path() {
    let server = Server::start(1);
    assert_eq!(server.mqtt, None);
    assert_eq!(ask(&server, &upgrade_request("/mqtt", "mqtt")).0, 404);
}

/// What a handshake is answered whose head has these fields.
fn shake_hands(server: &Server, path: &str, protocol: &str, fields: &str) -> u16 {
    let mut socket = server.open_raw();
    let request = upgrade_request(path, protocol).replacen("Host: localhost\r\n", fields, 1);
    socket.send(request.as_bytes());
    socket.read_head().split(' ').nth(1).expect("a status line").parse().expect("a number")
}

#[test]
fn a_page_of_another_origin_reaches_nothing() {
    let server = Server::start_with_mqtt(2, &[("SERVER_ORIGINS", "http://localhost:5173; null")]);
    let own = server.address;
    for (path, protocol) in [("/tidewire", "tidewire.1"), ("/tidewire", "tidewire.1.json"), ("/mqtt", "mqtt")] {
        for (fields, status) in [
            (format!("Host: {own}\r\n"), 101),
            (format!("Host: {own}\r\nOrigin: http://{own}\r\n"), 101),
            (format!("Host: {own}\r\nOrigin: http://localhost:5173\r\n"), 101),
            (format!("Host: {own}\r\nOrigin: null\r\n"), 101),
            (format!("Host: {own}\r\nOrigin: https://evil.example\r\n"), 403),
            (format!("Host: {own}\r\nOrigin: http://localhost:5174\r\n"), 403),
            ("Host: evil.example\r\n".to_owned(), 403),
            ("Host: evil.example\r\nOrigin: http://evil.example\r\n".to_owned(), 403),
        ] {
            assert_eq!(shake_hands(&server, path, protocol, &fields), status, "{path} {fields}");
        }
    }
    for path in ["/", "/health", "/latency", "/nothing"] {
        let (status, text) = ask(&server, &format!("GET {path} HTTP/1.1\r\nHost: {own}\r\nOrigin: https://evil.example\r\n\r\n"));
        assert_eq!(status, 403);
        assert!(text.contains("server.origins"), "{text}");
        let (status, text) = ask(&server, &format!("GET {path} HTTP/1.1\r\nHost: evil.example\r\n\r\n"));
        assert_eq!(status, 403);
        assert!(text.contains("server.hosts"), "{text}");
    }
}

#[test]
fn behind_a_proxy_the_names_that_are_listed_are_the_servers() {
    let server = Server::start_with(1, &[("SERVER_HOSTS", "tide.example")]);
    let page = "Host: tide.example\r\nOrigin: https://tide.example\r\n";
    assert_eq!(shake_hands(&server, "/tidewire", "tidewire.1", page), 101);
    assert_eq!(shake_hands(&server, "/tidewire", "tidewire.1", "Host: other.example\r\n"), 403);
    assert_eq!(ask(&server, "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").0, 200);
}
