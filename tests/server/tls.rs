//! Listeners with TLS, with proxies, and with rules of their own, as real clients meet them.

use crate::mosquitto::{Subscriber, VERSIONS, publish};
use crate::raw::RawSocket;
use crate::secure::{Authority, Secure, SecureBroker};
use crate::server::{PATIENCE, Server, tidewire};
use serde_json::Value;
use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const HEALTH: &str = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// A listener of HTTP that shows a certificate of `localhost`.
fn start(authority: &Authority, shards: usize, variables: &[(&str, &str)], more: &str) -> (Server, SocketAddr) {
    authority.issue("server", &["localhost", "127.0.0.1"]);
    let server = authority.start(shards, variables, &authority.table("secure", "server", more));
    let address = server.listeners["secure"];
    (server, address)
}

fn is_healthy(authority: &Authority, address: SocketAddr, shows: Option<&str>) -> bool {
    let answer = Secure::open(address, "localhost", authority.client(shows)).ask_for_health();
    answer.is_some_and(|answer| answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("ok\n"))
}

fn command(address: SocketAddr, arguments: &[&str]) -> Output {
    let url = format!("wss://localhost:{}", address.port());
    tidewire(arguments).args(["--server", &url]).stdin(Stdio::null()).output().expect("the binary starts")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Shards tell these ten times a second.
fn wait_for_counts(server: &Server, begun: u64, failed: u64) {
    let started = Instant::now();
    let counts = || (server.count("handshakes"), server.count("handshakes_failed"));
    while counts() != (begun, failed) {
        assert!(started.elapsed() < PATIENCE, "{:?}", counts());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_command_line_speaks_wss_and_makes_sure_of_the_server() {
    let authority = Authority::new();
    let (_server, address) = start(&authority, 2, &[], "");
    let ca = authority.file("ca.pem");
    let long = format!("\"{}\"", "x".repeat(100_000));
    for value in ["1", &*long] {
        let output = command(address, &["set", "a/b", value, "--ca", &ca]);
        assert!(output.status.success(), "{}", stderr(&output));
    }
    let output = command(address, &["fetch", "a/b", "--ca", &ca]);
    assert!(String::from_utf8_lossy(&output.stdout).contains(&long), "{}", stderr(&output));
    let output = command(address, &["latency", "--ca", &ca]);
    assert!(output.status.success(), "{}", stderr(&output));

    let stranger = Authority::new();
    let output = command(address, &["fetch", "a/b", "--ca", &stranger.file("ca.pem")]);
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains("certificate"), "{}", stderr(&output));
    let output = command(address, &["fetch", "a/b", "--tls-insecure"]);
    assert!(output.status.success() && stderr(&output).contains("warning: --tls-insecure"), "{}", stderr(&output));
}

/// Runs a client that asks for `/health` on its input.
fn ask_by(mut command: Command) -> String {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it is installed");
    child.stdin.as_mut().expect("it is piped").write_all(HEALTH.as_bytes()).expect("it reads");
    // Its input stays open until it ends: the server closes first.
    let stdin = child.stdin.take();
    let output = child.wait_with_output().expect("it is our child");
    drop(stdin);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn openssl_speaks_both_versions_unless_one_is_too_old() {
    let authority = Authority::new();
    authority.issue("server", &["localhost"]);
    let tables = authority.table("both", "server", "") + &authority.table("new", "server", "tls_version_min = '1.3'");
    let server = authority.start(1, &[], &tables);
    let ask = |listener: &str, version: &str| {
        let mut openssl = Command::new("openssl");
        openssl.args(["s_client", "-quiet", "-verify_return_error", "-servername", "localhost", "-verify_hostname", "localhost", version]);
        openssl.args(["-CAfile", &authority.file("ca.pem"), "-connect", &server.listeners[listener].to_string()]);
        ask_by(openssl).ends_with("ok\n")
    };
    assert!(ask("both", "-tls1_2") && ask("both", "-tls1_3") && ask("new", "-tls1_3"));
    assert!(!ask("new", "-tls1_2"));
}

#[test]
fn curl_gets_pages_by_https() {
    let authority = Authority::new();
    authority.issue("server", &["tide.example"]);
    let server = authority.start(1, &[], &authority.table("secure", "server", "hosts = ['tide.example']"));
    let port = server.listeners["secure"].port();
    let curl = |name: &str, ca: &str| {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--noproxy", "*", "--resolve", &format!("{name}:{port}:127.0.0.1"), "--cacert", ca]);
        command.arg(format!("https://{name}:{port}/health")).output().expect("curl is installed")
    };
    let output = curl("tide.example", &authority.file("ca.pem"));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "ok\n", "{}", stderr(&output));
    assert!(!curl("other.example", &authority.file("ca.pem")).status.success());
    assert!(!curl("tide.example", &Authority::new().file("ca.pem")).status.success());
}

#[test]
fn mosquitto_speaks_mqtts_on_every_shard() {
    let authority = Authority::new();
    let (server, address) = start(&authority, 3, &[], "protocol = 'mqtt'");
    let broker = SecureBroker(address, vec!["--cafile".into(), authority.file("ca.pem")]);
    for version in VERSIONS {
        let topic = format!("t/{version}");
        let subscriber = Subscriber::start(&broker, version, &["-t", &topic, "-q", "1", "-i", &format!("s-{version}")]);
        // A client belongs to a shard by its name: some of these go on at another than they came to.
        for number in 0..6 {
            publish(&broker, version, &["-t", &topic, "-q", "1", "-i", &format!("p{number}"), "-m", &number.to_string()]);
            subscriber.expect(&format!("{topic} 1 0 {number}"));
        }
    }
    let large = authority.path("large");
    std::fs::write(&large, vec![b'x'; 300_000]).unwrap();
    publish(&broker, "mqttv5", &["-t", "large", "-r", "-f", large.to_str().unwrap()]);
    let subscriber = Subscriber::start_unheard(&broker, "mqttv5", &["-t", "large", "-C", "1"]);
    assert_eq!(subscriber.next(), format!("large 0 1 {}", "x".repeat(300_000)));
    drop(server);
}

fn certificate(authority: &Authority, name: &str) -> Vec<u8> {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    CertificateDer::from_pem_file(authority.path(name)).expect("it was issued").to_vec()
}

#[test]
fn a_client_is_shown_the_certificate_of_the_name_that_it_asks_for() {
    let authority = Authority::new();
    authority.issue("one", &["one.example", "localhost"]);
    authority.issue("two", &["two.example", "*.two.example"]);
    let files = |ending: &str| format!("['{}', '{}']", authority.file(&format!("one.{ending}")), authority.file(&format!("two.{ending}")));
    let table = format!(
        "[[listener]]\nname = 'secure'\naddress = '127.0.0.1:0'\ncertificate_files = {}\nkey_files = {}\n",
        files("pem"),
        files("key")
    );
    let server = authority.start(1, &[], &table);
    for (name, shown) in [("one.example", "one.pem"), ("two.example", "two.pem"), ("a.two.example", "two.pem"), ("localhost", "one.pem")] {
        let mut client = Secure::open(server.listeners["secure"], name, authority.client(None));
        assert_eq!(client.shown(), certificate(&authority, shown), "{name}");
    }
}

#[test]
fn clients_show_certificates_where_they_have_to_or_may() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    authority.issue("client", &["client.example"]);
    stranger.issue("client", &["client.example"]);
    authority.issue("server", &["localhost", "127.0.0.1"]);
    let ca = format!("client_ca_file = '{}'", authority.file("ca.pem"));
    let tables =
        ["optional", "required"].map(|wanted| authority.table(wanted, "server", &format!("client_certificates = '{wanted}'\n{ca}")));
    let server = authority.start(2, &[], &tables.concat());
    let (optional, required) = (server.listeners["optional"], server.listeners["required"]);
    assert!(is_healthy(&authority, optional, None) && !is_healthy(&authority, required, None));
    assert!(is_healthy(&authority, optional, Some("client")) && is_healthy(&authority, required, Some("client")));
    // Its own authority signs nothing here.
    std::fs::copy(stranger.path("client.pem"), authority.path("other.pem")).unwrap();
    std::fs::copy(stranger.path("client.key"), authority.path("other.key")).unwrap();
    assert!(!is_healthy(&authority, optional, Some("other")) && !is_healthy(&authority, required, Some("other")));

    let (pem, key, ca) = (authority.file("client.pem"), authority.file("client.key"), authority.file("ca.pem"));
    let output = command(required, &["set", "a", "1", "--ca", &ca, "--client-cert", &pem, "--client-key", &key]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(command(required, &["set", "a", "1", "--ca", &ca]).status.code(), Some(3));
    wait_for_counts(&server, 4, 4);
}

#[test]
fn certificates_are_read_again_and_broken_ones_are_not_taken() {
    let authority = Authority::new();
    let (server, address) = start(&authority, 2, &[], "");
    let shown = || Secure::open(address, "localhost", authority.client(None)).shown();
    let mut early = Secure::open(address, "localhost", authority.client(None));
    let first = early.shown();
    assert_eq!(first, certificate(&authority, "server.pem"));

    authority.write("server.pem", "no certificate");
    server.refresh();
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(shown(), first);

    // By the change alone.
    authority.issue("server", &["localhost"]);
    let second = certificate(&authority, "server.pem");
    let started = Instant::now();
    while shown() != second {
        assert!(started.elapsed() < PATIENCE, "the new certificate is shown");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(early.ask_for_health().is_some_and(|answer| answer.ends_with("ok\n")), "who was there goes on");
}

#[test]
fn who_speaks_no_tls_is_told_and_ended() {
    let authority = Authority::new();
    let (server, address) = start(&authority, 1, &[], "");
    let mut socket = RawSocket::open(address);
    socket.send(HEALTH.as_bytes());
    let answer = socket.read_to_end();
    assert!(answer.len() == 7 && answer[..3] == [21, 3, 3], "{answer:?}");
    let mut socket = RawSocket::open(address);
    socket.send(&[0x10, 12, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 60, 0, 0]);
    assert_eq!(socket.read_to_end()[0], 21);
    assert!(is_healthy(&authority, address, None));
    wait_for_counts(&server, 1, 2);
}

#[test]
fn a_handshake_that_takes_too_long_is_ended_and_holds_nobody_up() {
    let authority = Authority::new();
    let (server, address) = start(&authority, 1, &[("SESSION_HANDSHAKE_TIMEOUT_MS", "300")], "");
    let mut slow: Vec<RawSocket> = (0..20).map(|_| RawSocket::open(address)).collect();
    for (number, socket) in slow.iter_mut().enumerate() {
        socket.send(&[22, 3, 1, 2, 0, 1, 0, 1][..number % 8]);
    }
    assert!(is_healthy(&authority, address, None));
    for socket in &mut slow {
        assert!(socket.read_to_end().is_empty(), "nothing is said before there are keys");
    }
    assert!(is_healthy(&authority, address, None));
    drop(server);
}

#[test]
fn no_more_are_in_their_handshakes_than_is_allowed() {
    let authority = Authority::new();
    let (server, address) = start(&authority, 1, &[("TLS_HANDSHAKES_MAX", "2")], "");
    let waiting: Vec<RawSocket> = (0..2).map(|_| RawSocket::open(address)).collect();
    let mut more = RawSocket::open(address);
    assert!(more.read_to_end().is_empty());
    drop(waiting);
    let started = Instant::now();
    while server.count("connections") > 1 {
        assert!(started.elapsed() < PATIENCE, "those that have gone are forgotten");
    }
    assert!(is_healthy(&authority, address, None));
}

#[test]
fn clients_that_go_in_the_middle_leave_nothing() {
    let authority = Authority::new();
    let (server, address) = start(&authority, 2, &[], "");
    for _ in 0..10 {
        let mut socket = RawSocket::open(address);
        socket.send(&[22, 3, 1, 0, 100]);
        drop(Secure::open(address, "localhost", authority.client(None)));
        // Behind the handshake, with no word of its end.
        let mut client = Secure::open(address, "localhost", authority.client(None));
        client.shown();
    }
    let started = Instant::now();
    // The one that asks is there.
    while server.count("connections") > 1 {
        assert!(started.elapsed() < PATIENCE, "those that have gone are forgotten");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The addresses of all sessions but the command's own.
fn addresses(server: &Server) -> Vec<String> {
    let output = server.command(&["sessions"]);
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let sessions = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let mut found: Vec<String> = sessions.map(|session| session["properties"]["$ClientIP"].as_str().expect("text").to_owned()).collect();
    let own = found.iter().position(|address| address == "127.0.0.1").expect("the command's own");
    found.remove(own);
    found
}

const HEADER: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x01\x02\x03\x04\x05\x06\x07\x08\0\x50\x01\xbb";

#[test]
fn a_proxy_says_for_whom_it_connects() {
    let authority = Authority::new();
    let table = |name: &str, proxies: &str| {
        format!("[[listener]]\nname = '{name}'\naddress = '127.0.0.1:0'\nproxy_protocol = true\ntrusted_proxies = ['{proxies}']\n")
    };
    authority.issue("server", &["localhost"]);
    let more = "proxy_protocol = true\ntrusted_proxies = ['127.0.0.0/8']";
    let server = authority.start(
        2,
        &[],
        &(table("own", "127.0.0.0/8") + &table("others", "10.0.0.0/8") + &authority.table("secure", "server", more)),
    );
    let mut socket = RawSocket::open(server.listeners["own"]);
    socket.send(HEADER);
    socket.connect("tidewire.1");
    assert_eq!(addresses(&server), ["1.2.3.4"]);
    let mut without = RawSocket::open(server.listeners["own"]);
    without.send(HEALTH.as_bytes());
    assert!(without.read_to_end().is_empty());
    let mut other = RawSocket::open(server.listeners["others"]);
    other.send(HEADER);
    assert!(other.read_to_end().is_empty());
    let mut secure = Secure::behind(server.listeners["secure"], HEADER, authority.client(None));
    secure.send(HEALTH.as_bytes());
    assert_eq!(secure.read(15), b"HTTP/1.1 200 OK");
}

#[test]
fn a_request_is_whose_a_trusted_proxy_says() {
    let authority = Authority::new();
    let table =
        |name: &str, proxies: &str| format!("[[listener]]\nname = '{name}'\naddress = '127.0.0.1:0'\ntrusted_proxies = {proxies}\n");
    let server = authority.start(2, &[], &(table("trusting", "['127.0.0.1', '9.9.9.9']") + &table("doubting", "[]")));
    let connect = |listener: &str| {
        let mut socket = RawSocket::open(server.listeners[listener]);
        let request = crate::raw::upgrade_request("/tidewire", "tidewire.1");
        socket.send(request.replace("Host: ", "X-Forwarded-For: 8.8.8.8, 1.2.3.4, 9.9.9.9\r\nHost: ").as_bytes());
        assert!(socket.read_head().starts_with("HTTP/1.1 101 "));
        socket.send(&crate::raw::masked(0x82, &[0x01, 2, 1, 1]));
        socket.read_frame();
        socket
    };
    let _one = connect("trusting");
    assert_eq!(addresses(&server), ["1.2.3.4"]);
    let _other = connect("doubting");
    let mut found = addresses(&server);
    found.sort();
    assert_eq!(found, ["1.2.3.4", "127.0.0.1"]);
}

#[test]
fn each_listener_has_its_own_origins() {
    let authority = Authority::new();
    let table = "[[listener]]\nname = 'own'\naddress = '127.0.0.1:0'\norigins = ['https://app.example']\n";
    let server = authority.start(1, &[], table);
    let status = |address: SocketAddr| {
        let mut socket = RawSocket::open(address);
        let request = crate::raw::upgrade_request("/tidewire", "tidewire.1");
        socket.send(request.replace("Host: ", "Origin: https://app.example\r\nHost: ").as_bytes());
        socket.read_head()[9..12].to_owned()
    };
    assert_eq!((status(server.listeners["own"]), status(server.address)), ("101".to_owned(), "403".to_owned()));
}

#[test]
fn what_is_wrong_with_certificates_is_told_at_the_start() {
    let authority = Authority::new();
    let file = authority.path("tidewire.toml");
    std::fs::write(&file, authority.table("secure", "none", "")).unwrap();
    let output =
        tidewire(&["serve", "--listen", "127.0.0.1:0", "--mqtt", "off", "--dev", "--ephemeral", "--config", file.to_str().unwrap()]);
    let output = { output }.stdin(Stdio::null()).output().expect("the binary starts");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).starts_with(&format!("error: listener secure: {}: cannot be read: ", authority.file("none.pem"))),
        "{}",
        stderr(&output)
    );
}
