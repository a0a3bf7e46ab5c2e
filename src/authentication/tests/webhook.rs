//! An endpoint that answers, and one that is slow, broken, closed or says too much.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crate::authentication::tests::{at, question, with_password};
use crate::authentication::webhook::Webhook;
use crate::authentication::{Allowed, Credentials, Denial, Question, Secret, Verdict};
use crate::config::{Unavailable, WebhookSettings};

/// What a server does with the next request. The last one stays.
#[derive(Clone)]
pub enum Does {
    /// Status and body.
    Answers(u16, String),
    Sends(Vec<u8>),
    Closes,
    /// Keeps the connection until the server ends, and says nothing.
    Hangs,
}

/// A small server of HTTP on loopback.
pub struct Server {
    pub address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    script: Arc<Mutex<Vec<Does>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start(script: Vec<Does>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, script, stop) = (Arc::<Mutex<Vec<String>>>::default(), Arc::new(Mutex::new(script)), Arc::<AtomicBool>::default());
        let (heard, does, stopped) = (requests.clone(), script.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let mut kept = Vec::new();
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let mut stream = stream.unwrap();
                let Some(request) = read_request(&mut stream) else { continue };
                heard.lock().unwrap().push(request);
                let next = {
                    let mut does = does.lock().unwrap();
                    if does.len() > 1 { does.remove(0) } else { does[0].clone() }
                };
                // A client that has gone away already is as good as one that reads.
                match next {
                    Does::Answers(status, body) => {
                        let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
                        let _ = stream.write_all(format!("{head}{body}").as_bytes());
                    }
                    Does::Sends(bytes) => {
                        let _ = stream.write_all(&bytes);
                    }
                    Does::Closes => {}
                    Does::Hangs => kept.push(stream),
                }
            }
        });
        Self { address, requests, script, stop, thread: Some(thread) }
    }

    pub fn url(&self) -> String {
        format!("http://{}/ask", self.address)
    }

    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    pub fn now_does(&self, does: Does) {
        *self.script.lock().unwrap() = vec![does];
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        let _ = self.thread.take().unwrap().join();
    }
}

fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut request = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ").map(str::to_owned));
            if body.len() >= length.map_or(0, |length| length.trim().parse().unwrap()) {
                return Some(text);
            }
        }
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => return None,
            Ok(count) => request.extend_from_slice(&piece[..count]),
        }
    }
}

fn settings(url: String) -> WebhookSettings {
    WebhookSettings {
        url,
        timeout_ms: 20_000,
        breaker_failures: 2,
        breaker_window_ms: 1000,
        breaker_open_ms: 500,
        ..WebhookSettings::default()
    }
}

fn allow(text: &str) -> Does {
    Does::Answers(200, text.to_owned())
}

fn is_unavailable(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Deny(Denial::Unavailable(_)))
}

#[test]
fn it_is_told_the_question_and_says_who_comes_in() {
    let answer = r#"{"verdict":"allow","principal":"al","roles":["R","S"],"properties":{"Tenant":"t"},"expires_in_s":60,"more":1}"#;
    let server = Server::start(vec![allow(answer)]);
    let webhook = Webhook::new(&settings(server.url())).unwrap();
    let question =
        Question { certificate: Some("cert".into()), properties: vec![("A".into(), "\"b\"".into())], ..with_password("alice", "s3cret\n") };
    let expected = Allowed {
        principal: "al".into(),
        roles: vec!["R".into(), "S".into()],
        properties: vec![("Tenant".into(), "t".into())],
        expires_ms: Some(1_000_000_000 + 60_000),
    };
    assert_eq!(webhook.ask(&question, || at(0)), Verdict::Allow(expected));
    let request = &server.requests()[0];
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /ask HTTP/1.1\r\n") && head.to_lowercase().contains("content-type: application/json"), "{head}");
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    let told = serde_json::json!({
        "principal": "alice", "address": "127.0.0.1", "certificate": "cert",
        "credentials": {"type": "password", "text": "s3cret\n"}, "properties": {"A": "\"b\""},
    });
    assert_eq!(body, told);
}

#[test]
fn bytes_that_are_no_text_are_told_in_base64() {
    let server = Server::start(vec![allow(r#"{"verdict":"abstain"}"#)]);
    let webhook = Webhook::new(&settings(server.url())).unwrap();
    let credentials = Credentials::Custom(Secret::new(&[0xff, 0x00][..]));
    assert_eq!(webhook.ask(&Question { credentials, ..question("") }, || at(0)), Verdict::Abstain);
    assert!(server.requests()[0].ends_with(r#""credentials":{"type":"custom","base64":"/wA="},"properties":{}}"#));
}

#[test]
fn an_answer_holds_for_the_same_question() {
    let server = Server::start(vec![allow(r#"{"verdict":"deny"}"#), allow(r#"{"verdict":"allow","expires_in_s":5}"#)]);
    let webhook = Webhook::new(&settings(server.url())).unwrap();
    let ask = |question: &Question, ms| webhook.ask(question, || at(ms));
    let denied = Verdict::refused("webhook: denied");
    assert_eq!(ask(&with_password("a", "p"), 0), denied);
    assert_eq!(ask(&with_password("a", "p"), 9_999), denied);
    assert_eq!(server.requests().len(), 1);
    assert!(matches!(ask(&with_password("a", "p"), 10_000), Verdict::Allow(_)), "no longer than that");
    assert!(matches!(ask(&with_password("a", "p"), 14_999), Verdict::Allow(_)));
    assert_eq!(server.requests().len(), 2);
    ask(&with_password("a", "p"), 15_000);
    assert_eq!(server.requests().len(), 3, "it holds no longer than it allows");
    for other in [
        with_password("a", "q"),
        with_password("b", "p"),
        Question { address: [10, 0, 0, 1].into(), ..with_password("a", "p") },
        Question { certificate: Some("".into()), ..with_password("a", "p") },
        Question { properties: vec![("x".into(), "y".into())], ..with_password("a", "p") },
        Question { credentials: Credentials::Custom(Secret::new(&b"p"[..])), ..question("a") },
    ] {
        let before = server.requests().len();
        ask(&other, 15_001);
        assert_eq!(server.requests().len(), before + 1, "{other:?}");
    }
}

#[test]
fn what_is_no_answer_is_a_failure() {
    let huge = format!(r#"{{"verdict":"allow","principal":"{}"}}"#, "x".repeat(1 << 20));
    let endless_head = format!("HTTP/1.1 200 X\r\n{}", "a: b\r\n".repeat(1 << 16)).into_bytes();
    let redirect = b"HTTP/1.1 307 X\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_vec();
    let cases = [
        Does::Answers(500, r#"{"verdict":"allow"}"#.into()),
        Does::Answers(401, r#"{"verdict":"allow"}"#.into()),
        Does::Answers(200, String::new()),
        Does::Answers(200, "allow".into()),
        Does::Answers(200, r#"{"verdict":"ALLOW"}"#.into()),
        Does::Answers(200, r#"{"verdict":"allow","roles":"R"}"#.into()),
        Does::Answers(200, huge),
        Does::Sends(endless_head),
        Does::Sends(redirect),
        Does::Sends(b"HTTP/1.1 200 X\r\ncontent-length: 100\r\n\r\n{\"verdict\":\"allow\"}".to_vec()),
        Does::Sends(b"SSH-2.0-x\r\n".to_vec()),
        Does::Closes,
    ];
    for (number, does) in cases.into_iter().enumerate() {
        let server = Server::start(vec![does]);
        let webhook = Webhook::new(&settings(server.url())).unwrap();
        let verdict = webhook.ask(&with_password("alice", "HUSH"), || at(0));
        assert!(is_unavailable(&verdict), "case {number}: {verdict:?}");
        assert!(!format!("{verdict:?}").contains("HUSH"), "case {number}: {verdict:?}");
        assert_eq!(webhook.remembered(&with_password("alice", "HUSH"), at(0)), None, "case {number}");
    }
}

#[test]
fn an_endpoint_that_says_nothing_is_not_waited_for_for_ever() {
    let server = Server::start(vec![Does::Hangs]);
    let webhook = Webhook::new(&WebhookSettings { timeout_ms: 50, ..settings(server.url()) }).unwrap();
    assert!(is_unavailable(&webhook.ask(&question("a"), || at(0))));
}

#[test]
fn what_an_endpoint_that_cannot_be_reached_means_is_configured() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{closed}/");
    for (unavailable, denies) in [(Unavailable::Deny, true), (Unavailable::Abstain, false)] {
        let webhook = Webhook::new(&WebhookSettings { unavailable, ..settings(url.clone()) }).unwrap();
        let verdict = webhook.ask(&question("a"), || at(0));
        assert_eq!((is_unavailable(&verdict), verdict == Verdict::Abstain), (denies, !denies), "{verdict:?}");
    }
}

#[test]
fn an_endpoint_that_fails_is_left_alone_and_tried_once_later() {
    let server = Server::start(vec![Does::Answers(500, String::new())]);
    let webhook = Webhook::new(&settings(server.url())).unwrap();
    let ask = |name: &str, ms| webhook.ask(&question(name), || at(ms));
    for (ms, requests) in [(0, 1), (10, 2), (20, 2), (509, 2), (510, 3), (520, 3)] {
        assert!(is_unavailable(&ask("a", ms)));
        assert_eq!(server.requests().len(), requests, "at {ms} ms");
    }
    server.now_does(allow(r#"{"verdict":"allow"}"#));
    assert!(matches!(ask("a", 1010), Verdict::Allow(_)));
    assert!(matches!(ask("b", 1011), Verdict::Allow(_)));
    assert_eq!(server.requests().len(), 5);
}

#[test]
fn a_file_says_who_the_server_is() {
    let path = std::env::temp_dir().join(format!("tidewire-webhook-{}", std::process::id()));
    std::fs::write(&path, "Bearer t0ken\n").unwrap();
    let server = Server::start(vec![allow(r#"{"verdict":"abstain"}"#)]);
    let with_file = WebhookSettings { authorization_file: Some(path.clone()), ..settings(server.url()) };
    Webhook::new(&with_file).unwrap().ask(&question("a"), || at(0));
    std::fs::remove_file(&path).unwrap();
    assert!(server.requests()[0].to_lowercase().contains("\r\nauthorization: bearer t0ken\r\n"));
    assert!(Webhook::new(&with_file).is_err(), "a file that is not there is told at the start");
}
