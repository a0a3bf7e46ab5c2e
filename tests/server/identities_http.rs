//! Who may ask for pages: by curl and by the command line, with passwords, tokens, and an authenticator that takes its time.

use crate::identities::{Principals, text};
use crate::server::{PATIENCE, Server};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::sync::mpsc;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Of `tom`, signed with the secret, until 2100.
const TOKEN: &str =
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ0b20iLCJyb2xlcyI6WyJDTElFTlQiXSwiZXhwIjo0MTAyNDQ0ODAwfQ.9ePPsm7glU8ddXFjEjas41hsYuBs0YfgQP_ZRuQcock";

/// The status of a page, and the answer as it came.
fn curl(server: &Server, path: &str, arguments: &[&str]) -> (u16, String) {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--noproxy", "*", "--include"]).args(arguments);
    let output = command.arg(format!("http://{}{path}", server.address)).output().expect("curl is installed");
    let answer = text(&output);
    (answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{answer}")), answer)
}

fn with_tokens(principals: &Principals, more: &[(&str, &str)]) -> Server {
    let file = principals.path("secret");
    std::fs::write(&file, SECRET).unwrap();
    let tokens =
        [("AUTHENTICATION_CHAIN", "principals; jwt"), ("JWT_SECRET_FILE", file.to_str().unwrap()), ("JWT_ROLE_MAP", "CLIENT: OPERATOR")];
    principals.start(&[&tokens, more].concat())
}

#[test]
fn curl_shows_a_password_or_a_token() {
    let principals = Principals::new("identities_http", "");
    let server = with_tokens(&principals, &[]);
    assert_eq!(curl(&server, "/health", &[]).0, 200);
    let bearer = format!("Authorization: Bearer {TOKEN}");
    for shown in [&["-u", "ann:pw of ann"][..], &["-H", &bearer], &["--oauth2-bearer", TOKEN], &["--anyauth", "-u", "ann:pw of ann"]] {
        let (_, answer) = curl(&server, "/latency", shown);
        assert!(answer.contains("200 OK") && answer.contains("\"shards\""), "{shown:?}: {answer}");
        assert!(curl(&server, "/nothing", shown).1.contains("404 Not Found"), "{shown:?}");
    }
    let forged = format!("{bearer}x");
    for shown in [&[][..], &["-u", "ann:pw of bob"], &["-u", "carl:x"], &["-H", &forged], &["-H", "Authorization: Basic ?"]] {
        for path in ["/latency", "/nothing"] {
            let (status, answer) = curl(&server, path, shown);
            assert!(
                status == 401 && answer.contains("WWW-Authenticate: Basic realm=\"tidewire\", charset=\"UTF-8\""),
                "{shown:?}: {answer}"
            );
            assert!(!answer.contains("shards"), "{answer}");
        }
    }
    assert_eq!(curl(&server, "/latency", &["-H", &bearer, "-H", "Authorization: Basic YQ=="]).0, 400);
}

#[test]
fn who_asks_may_be_anybody_where_the_file_says_so() {
    let principals = Principals::new("identities_http_anonymous", "allow anonymous connections [\"OPERATOR\"]");
    let server = principals.start(&[]);
    assert_eq!(curl(&server, "/latency", &[]).0, 200);
    assert_eq!(curl(&server, "/latency", &["-u", "ann:wrong"]).0, 401);
}

#[test]
fn the_command_line_shows_who_it_is_by_http_too() {
    let principals = Principals::new("identities_http_command", "");
    let server = with_tokens(&principals, &[]);
    let token = principals.path("token");
    std::fs::write(&token, format!("{TOKEN}\n")).unwrap();
    let (password, other, token) = (principals.path("ann"), principals.path("bob"), token);
    let latency = |arguments: &[&str]| server.command(&[&["latency"], arguments].concat());
    for shown in [&["--principal", "ann", "--password-file", password.to_str().unwrap()][..], &["--bearer-file", token.to_str().unwrap()]] {
        let output = latency(shown);
        assert!(output.status.success() && text(&output).contains("since the start"), "{}", text(&output));
    }
    for shown in [&[][..], &["--principal", "ann", "--password-file", other.to_str().unwrap()]] {
        let output = latency(shown);
        assert!(output.status.code() == Some(1) && text(&output).contains("error 109 authentication_failed"), "{}", text(&output));
    }
    let output = latency(&["--principal", "a:b", "--password-file", password.to_str().unwrap()]);
    assert!(output.status.code() == Some(2) && text(&output).contains("colon"), "{}", text(&output));
}

#[test]
fn a_request_that_waits_is_answered_alone_and_holds_nobody_up() {
    let endpoint = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", endpoint.local_addr().unwrap());
    let (asked, questions) = mpsc::channel();
    std::thread::spawn(move || endpoint.accept().map(|(stream, _)| asked.send(stream)));
    let server = Server::start_with(
        1,
        &[("AUTHENTICATION_CHAIN", "webhook"), ("WEBHOOK_URL", &url), ("WEBHOOK_TIMEOUT_MS", "60000"), ("AUTHENTICATION_WAIT_MS", "60000")],
    );
    let mut socket = TcpStream::connect(server.address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.write_all(b"GET /latency HTTP/1.1\r\nHost: localhost\r\n\r\nGET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    // It says nothing more, and still hears its answer.
    socket.shutdown(Shutdown::Write).unwrap();
    let mut question = questions.recv_timeout(PATIENCE).expect("the endpoint is asked");
    assert!(server.ask_for_health().expect("it is taken").ends_with("ok\n"));
    let body = r#"{"verdict":"allow","roles":["OPERATOR"]}"#;
    let mut read = Vec::new();
    while !read.ends_with(b"}") {
        let mut part = [0; 1000];
        let length = question.read(&mut part).unwrap();
        assert!(length > 0, "the question is whole");
        read.extend_from_slice(&part[..length]);
    }
    write!(question, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("\"shards\""), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
}
