//! Who may ask for admin pages: what `Authorization` shows (RFC 7617, RFC 6750), what is asked of authenticators, and what comes of their word.

use crate::handshake;
use crate::peer::{self, Peer};
use crate::permissions;
use tidewire::surface::session::MqttLimits;
use tidewire::surface::shard::{Claim, Identified, Limits, Shown, Who};

const SCRIPT: &str = "set \"OPERATOR\" permissions [VIEW_SERVER]\nset \"CLIENT\" permissions [VIEW_SESSION]";

fn peer() -> Peer {
    Peer::within(permissions::limits(SCRIPT))
}

fn request(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: server.example.com\r\n{fields}\r\n")
}

fn ask(peer: &mut Peer, path: &str, fields: &str) {
    peer.give(request(path, fields).as_bytes());
}

fn role(principal: &str, role: &str) -> Identified {
    Identified::As(Who::new(principal.into(), vec![role.into()], None), Box::default())
}

/// The answer, behind which the connection is over.
fn answer(peer: &mut Peer) -> String {
    let answer = String::from_utf8(peer.take()).expect("an answer is text");
    assert!(peer.is_ended(), "{answer}");
    answer
}

fn has_status(answer: &str, status: u16) -> bool {
    answer.starts_with(&format!("HTTP/1.1 {status} "))
}

/// What is asked of authenticators where a request has these fields.
fn claim(fields: &str) -> Claim {
    let mut peer = peer();
    ask(&mut peer, "/latency", fields);
    assert_eq!(peer.take(), b"", "the request waits");
    let mut claims = peer.take_claims();
    assert_eq!(claims.len(), 1, "{fields}");
    claims.remove(0)
}

#[test]
fn what_authorization_shows_is_asked_of_authenticators() {
    let anonymous = claim("");
    assert!(anonymous.principal.is_empty() && matches!(anonymous.shown, Shown::Nothing));
    // RFC 7617 section 2: the example, and one in UTF-8.
    let aladdin = claim("Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n");
    assert!(&*aladdin.principal == "Aladdin" && matches!(&aladdin.shown, Shown::Password(shown) if ***shown == *b"open sesame"));
    let test = claim("authorization: basic dGVzdDoxMjPCow==\r\n");
    assert!(&*test.principal == "test" && matches!(&test.shown, Shown::Password(shown) if ***shown == *"123\u{a3}".as_bytes()));
    // As in CONNECT, an empty password shows nothing.
    let nothing = claim("Authorization: Basic YW5uOg==\r\n");
    assert!(&*nothing.principal == "ann" && matches!(nothing.shown, Shown::Nothing));
    // RFC 6750 section 2.1.
    let token = claim("Authorization: Bearer mF_9.B5f-4.1JqM\r\n");
    assert!(token.principal.is_empty() && matches!(&token.shown, Shown::Bearer(shown) if ***shown == *b"mF_9.B5f-4.1JqM"));
    assert!(!format!("{aladdin:?}{token:?}").contains("sesame"));
}

#[test]
fn a_claim_says_where_its_client_comes_from() {
    let mut peer = peer().from("192.0.2.7".parse().unwrap());
    ask(&mut peer, "/latency", "");
    assert_eq!(peer.take_claims()[0].address.to_ipv4_mapped(), Some([192, 0, 2, 7].into()));
}

#[test]
fn authorization_that_cannot_be_read_is_401_and_nobody_is_asked() {
    for (field, why) in [
        ("Digest username=\"ann\"", "another scheme"),
        ("ann:pw", "another scheme"),
        ("", "another scheme"),
        ("Basic !!!!", "no base64"),
        ("Basic YW5u", "no colon"),
        ("Basic YW5uOv8=", "not UTF-8"),
        ("Bearer a b", "no token"),
    ] {
        let mut peer = peer();
        ask(&mut peer, "/latency", &format!("Authorization: {field}\r\n"));
        let answer = answer(&mut peer);
        assert!(has_status(&answer, 401) && answer.contains(why) && answer.contains("WWW-Authenticate: Basic"), "{field}: {answer}");
        assert!(peer.take_claims().is_empty() && peer.logged().is_empty());
    }
}

#[test]
fn two_authorizations_are_400() {
    let mut peer = peer();
    ask(&mut peer, "/latency", "Authorization: Bearer a\r\nAuthorization: Bearer a\r\n");
    assert!(has_status(&answer(&mut peer), 400) && peer.take_claims().is_empty());
}

#[test]
fn who_is_refused_is_asked_for_a_name_and_a_password() {
    for path in ["/latency", "/", "/nothing"] {
        let mut peer = peer();
        ask(&mut peer, path, "Authorization: Basic YW5uOnB3\r\n");
        peer.identify(Identified::Refused(Default::default()));
        let answer = answer(&mut peer);
        assert!(has_status(&answer, 401) && answer.contains("Authorization does not show who asks"), "{answer}");
        assert!(answer.contains("\r\nWWW-Authenticate: Basic realm=\"tidewire\", charset=\"UTF-8\"\r\n"), "{answer}");
        assert!(answer.contains("\r\nWWW-Authenticate: Bearer realm=\"tidewire\"\r\n") && !answer.contains("YW5uOnB3"), "{answer}");
    }
}

#[test]
fn latency_needs_a_permission_and_pages_need_none() {
    let asked = [
        ("/latency", "OPERATOR", 200),
        ("/latency?a=b", "OPERATOR", 200),
        ("/latency", "CLIENT", 403),
        ("/latency?a=b", "CLIENT", 403),
        ("http://server.example.com/latency", "CLIENT", 403),
        ("/", "CLIENT", 200),
        ("/", "UNKNOWN", 200),
    ];
    for (path, named, status) in asked {
        let mut peer = peer();
        ask(&mut peer, path, "Authorization: Basic YW5uOnB3\r\n");
        peer.identify(role("ann", named));
        let answer = answer(&mut peer);
        assert!(has_status(&answer, status) && answer.contains("VIEW_SERVER") == (status == 403), "{path} {named}: {answer}");
        assert!(!answer.contains("WWW-Authenticate") && answer.contains("page") == (status == 200), "{path} {named}: {answer}");
    }
}

#[test]
fn where_nothing_says_what_roles_permit_who_is_let_in_may_see_all() {
    let mut peer = Peer::within(Limits { authenticates: true, ..peer::limits() });
    ask(&mut peer, "/latency", "");
    peer.identify(Identified::As(None, Box::default()));
    assert!(has_status(&answer(&mut peer), 200));
}

#[test]
fn where_nobody_is_asked_who_he_is_pages_are_open() {
    for fields in ["", "Authorization: Basic YW5uOnB3\r\n", "Authorization: nonsense\r\n"] {
        let mut peer = Peer::new();
        ask(&mut peer, "/latency", fields);
        assert!(has_status(&answer(&mut peer), 200) && peer.take_claims().is_empty());
    }
}

#[test]
fn who_cannot_be_judged_now_is_told_in_how_many_seconds_to_come() {
    for (wait_ms, wait_s) in [(0, 1), (1234, 2), (3000, 3)] {
        let mut peer = peer();
        ask(&mut peer, "/latency", "Authorization: Basic YW5uOnB3\r\n");
        peer.identify(Identified::Later { wait_ms, said: Default::default() });
        let answer = answer(&mut peer);
        assert!(has_status(&answer, 503) && answer.contains(&format!("\r\nRetry-After: {wait_s}\r\n")), "{answer}");
    }
}

#[test]
fn health_is_open() {
    for (path, fields) in
        [("/health", ""), ("/health?now", ""), ("/health", "Authorization: Basic YW5uOnB3\r\n"), ("/health", "Authorization: x\r\n")]
    {
        let mut peer = peer();
        ask(&mut peer, path, fields);
        assert!(has_status(&answer(&mut peer), 200) && peer.take_claims().is_empty(), "{path} {fields}");
    }
    for path in ["/health/", "/Health", "//health", "/health/../latency", "/%68ealth"] {
        let mut peer = peer();
        ask(&mut peer, path, "");
        assert!(peer.take().is_empty() && peer.take_claims().len() == 1, "{path}");
    }
}

#[test]
fn other_methods_wait_too() {
    for method in ["HEAD", "POST", "OPTIONS", "DELETE"] {
        let mut peer = peer();
        peer.give(request("/latency", "Content-Length: 0\r\n").replacen("GET", method, 1).as_bytes());
        assert!(peer.take().is_empty() && peer.take_claims().len() == 1, "{method}");
        peer.identify(role("ann", "CLIENT"));
        assert!(has_status(&answer(&mut peer), 403), "{method}");
    }
}

#[test]
fn no_request_overtakes_one_that_waits_and_none_is_read_behind_it() {
    // Together, and one that comes while the first waits.
    let (first, second) = (request("/latency", "Authorization: Basic YW5uOnB3\r\n"), request("/health", ""));
    for parts in [vec![format!("{first}{second}")], vec![first.clone(), second.clone()], vec![first.clone(), "\0".repeat(100_000), second]]
    {
        let mut peer = peer();
        parts.iter().for_each(|part| peer.give(part.as_bytes()));
        assert!(peer.take().is_empty() && peer.take_claims().len() == 1);
        peer.identify(role("ann", "OPERATOR"));
        let answer = answer(&mut peer);
        // RFC 9112 section 9.6: nothing is answered behind `Connection: close`.
        assert!(has_status(&answer, 200) && answer.matches("HTTP/1.1 ").count() == 1 && answer.contains("Connection: close"), "{answer}");
        assert!(peer.take_claims().is_empty());
    }
}

#[test]
fn a_request_in_pieces_is_asked_about_once() {
    let mut peer = peer();
    for byte in request("/latency", "Authorization: Basic YW5uOnB3\r\n").bytes() {
        assert!(peer.take_claims().is_empty());
        peer.give(&[byte]);
    }
    assert!(matches!(&peer.take_claims()[..], [Claim { principal, .. }] if &**principal == "ann"));
}

#[test]
fn haste_is_the_clients_and_not_the_authenticators() {
    let limits = permissions::limits(SCRIPT);
    let late = limits.handshake_timeout_ms + 10 * limits.close_timeout_ms;
    let mut peer = peer();
    ask(&mut peer, "/latency", "");
    (1..=20).for_each(|part| peer.tick(part * late / 20));
    assert!(!peer.is_ended() && peer.take().is_empty());
    peer.identify(role("ann", "OPERATOR"));
    assert!(has_status(&answer(&mut peer), 200));
}

#[test]
fn a_word_that_nobody_waits_for_does_nothing() {
    let mut peer = peer();
    peer.identify(role("ann", "OPERATOR"));
    assert!(peer.take().is_empty() && !peer.is_ended());
    ask(&mut peer, "/latency", "");
    peer.identify(role("ann", "OPERATOR"));
    assert!(has_status(&answer(&mut peer), 200));
    peer.identify(Identified::Refused(Default::default()));
    assert!(peer.take().is_empty());
}

#[test]
fn clients_of_websocket_say_in_connect_who_they_are() {
    for field in ["", "Authorization: Basic YW5uOnB3\r\n", "Authorization: x\r\n"] {
        let limits =
            Limits { has_mqtt: true, mqtt: MqttLimits { sys_interval_ms: 0, ..MqttLimits::default() }, ..permissions::limits(SCRIPT) };
        for (path, protocol) in [("/tidewire", "tidewire.1"), ("/mqtt", "mqtt")] {
            let mut peer = Peer::within(limits.clone());
            let head =
                handshake::request(protocol).replace("/tidewire ", &format!("{path} ")).replace("Origin:", &format!("{field}Origin:"));
            peer.give(head.as_bytes());
            assert!(peer.take().starts_with(b"HTTP/1.1 101 ") && peer.take_claims().is_empty(), "{path} {field}");
        }
    }
}

#[test]
fn pages_of_others_are_refused_before_anybody_is_asked() {
    let mut peer = peer();
    ask(&mut peer, "/latency", "Origin: https://evil.example\r\nAuthorization: Basic YW5uOnB3\r\n");
    assert!(has_status(&answer(&mut peer), 403) && peer.take_claims().is_empty());
}

#[test]
fn a_head_that_is_too_long_is_431_whatever_it_shows() {
    let mut peer = peer();
    ask(&mut peer, "/latency", &format!("Authorization: Bearer {}\r\n", "a".repeat(peer::limits().http_head_bytes_max)));
    assert!(has_status(&answer(&mut peer), 431) && peer.take_claims().is_empty());
}
