//! Section 4: the opening handshake.

use crate::peer::Peer;

pub fn request(protocol: &str) -> String {
    format!(
        "GET /tidewire HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://example.com\r\nSec-WebSocket-Protocol: {protocol}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
}

/// What a head is answered with.
fn answer(request: &str) -> String {
    let mut peer = Peer::new();
    peer.give(request.as_bytes());
    let answer = String::from_utf8(peer.take()).expect("a head is text");
    assert_eq!(peer.is_ended(), !answer.starts_with("HTTP/1.1 101 "), "a refusal ends the transport");
    answer
}

/// The status that answers the RFC's handshake with one part of it replaced.
fn check(requirement: &str, from: &str, to: &str, status: u16) {
    let valid = request("tidewire.1");
    assert!(valid.contains(from), "{from}");
    let answer = answer(&valid.replace(from, to));
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{requirement}: {to}: {answer}");
}

#[test]
fn the_handshake_is_answered() {
    let answer = answer(&request("tidewire.1"));
    let (head, rest) = answer.split_once("\r\n\r\n").expect("an empty line ends the head");
    assert_eq!(rest, "");
    let mut lines = head.split("\r\n");
    assert_eq!(lines.next(), Some("HTTP/1.1 101 Switching Protocols"), "4.2.2: a status line with 101");
    let headers: Vec<(&str, &str)> = lines.map(|line| line.split_once(": ").expect("name: value")).collect();
    let expected = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        ("Sec-WebSocket-Protocol", "tidewire.1"),
    ];
    assert_eq!(headers, expected, "4.2.2: these and no extension");
}

#[test]
fn the_first_line_is_a_get_of_http_1_1() {
    check("4.2.1 1: GET", "GET ", "POST ", 400);
    check("4.2.1 1: HTTP/1.1 or higher", "HTTP/1.1", "HTTP/1.0", 400);
    check("4.2.1 1: the resource", "/tidewire", "/elsewhere", 404);
    check("4.2.1 1: the resource may have a query", "/tidewire", "/tidewire?a=b", 101);
    check("4.2.1 1: the resource may be an absolute URI", "/tidewire", "http://server.example.com/tidewire", 101);
}

#[test]
fn host_is_required() {
    check("4.2.1 2: a Host header field", "Host: server.example.com\r\n", "", 400);
}

#[test]
fn upgrade_and_connection_are_tokens_without_case() {
    check("4.2.1 3: Upgrade, compared without case", "Upgrade: websocket", "upgrade: WebSocket", 101);
    check("4.2.1 4: Connection, compared without case", "Connection: Upgrade", "CONNECTION: upgrade", 101);
    check("4.2.1 4: Connection includes a token", "Connection: Upgrade", "Connection: keep-alive, Upgrade", 101);
    check("4.2.1 4: Connection includes a token", "Connection: Upgrade", "Connection: keep-alive\r\nConnection: Upgrade", 101);
    check("4.2.1 4: Connection includes a token", "Connection: Upgrade\r\n", "", 400);
    check("4.2.1 4: Connection includes a token", "Connection: Upgrade", "Connection: Upgrades", 400);
}

#[test]
fn the_key_has_16_bytes() {
    let key = "dGhlIHNhbXBsZSBub25jZQ==";
    check("4.2.1 5: a key", &format!("Sec-WebSocket-Key: {key}\r\n"), "", 400);
    for broken in
        ["", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZQ==x", "c2hvcnQ=", "dGhlIHNhbXBsZSBub25jZSE=", "????????????????????????"]
    {
        check("4.2.1 5: 16 bytes in base64", key, broken, 400);
    }
    check("4.2.1 5: the key is taken without the white space around it", key, "  dGhlIHNhbXBsZSBub25jZQ== ", 101);
}

#[test]
fn another_version_is_told_which_is_spoken() {
    for version in ["", "0", "8", "14", "131", "x"] {
        let answer = answer(&request("tidewire.1").replace("Version: 13", &format!("Version: {version}")));
        assert!(answer.starts_with("HTTP/1.1 426 "), "4.2.2: {version}: {answer}");
        assert!(answer.contains("\r\nSec-WebSocket-Version: 13\r\n"), "4.4: {version}: {answer}");
    }
    check("4.2.1 6: a version", "Sec-WebSocket-Version: 13\r\n", "", 426);
}

#[test]
fn one_of_the_subprotocols_offered_is_chosen() {
    let protocol = "Sec-WebSocket-Protocol: tidewire.1";
    check("4.2.2 /subprotocol/: the client lists several", protocol, "Sec-WebSocket-Protocol: x, tidewire.1", 101);
    check("11.3.4: the field may appear several times", protocol, "Sec-WebSocket-Protocol: x\r\nSec-WebSocket-Protocol: tidewire.1", 101);
    check("1.9: without a known one there is nothing to talk", protocol, "Sec-WebSocket-Protocol: x", 400);
    check("1.9: without a known one there is nothing to talk", protocol, "X: y", 400);
}

#[test]
fn extensions_are_not_taken_up() {
    let offer = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits";
    check("9.1: a server may decline every extension", "Sec-WebSocket-Version: 13", offer, 101);
    let answer = answer(&request("tidewire.1").replace("Sec-WebSocket-Version: 13", offer));
    assert!(!answer.to_ascii_lowercase().contains("extensions"), "{answer}");
}

#[test]
fn what_is_not_http_is_refused() {
    for broken in ["\r\n\r\n\0", "GET\r\n\r\n", "GET /tidewire HTTP/1.1\r\nno colon\r\n\r\n", "\u{16}\u{3}\u{1}\u{2}"] {
        let answer = answer(broken);
        assert!(answer.starts_with("HTTP/1.1 400 "), "{broken:?}: {answer}");
    }
}
