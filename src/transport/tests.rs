//! Guards against a real client of rustls, however the bytes are cut, and against what is no client.

use super::*;
use crate::transport::trust::Trust;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// A folder with a certificate that signs itself, which goes with this.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tidewire-transport-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        let folder = Self(path);
        folder.make("a.example");
        folder
    }

    fn make(&self, name: &str) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
        std::fs::write(self.0.join("certificate"), certificate.pem()).unwrap();
        std::fs::write(self.0.join("key"), key.serialize_pem()).unwrap();
    }

    fn files(&self) -> Files {
        Files { certificates: vec![(self.0.join("certificate"), self.0.join("key"))], protocol: "mqtt", ..Files::default() }
    }

    fn policy(&self) -> Policy {
        Policy { proxies: None, certificates: Some(Arc::new(Certificates::read(self.files()).unwrap())) }
    }

    fn client(&self) -> Arc<ClientConfig> {
        Trust { ca: Some(self.0.join("certificate")), ..Trust::default() }.config().unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn guard(policy: &Policy) -> Guard {
    *Guard::new(policy).unwrap().expect("it is needed")
}

fn connect(config: Arc<ClientConfig>) -> ClientConnection {
    let mut client = ClientConnection::new(config, ServerName::try_from("a.example").unwrap()).unwrap();
    client.set_buffer_limit(None);
    client
}

/// All that the client has to send.
fn said(client: &mut ClientConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).unwrap();
    }
    bytes
}

/// What the client makes of these bytes.
fn tell(client: &mut ClientConnection, mut bytes: &[u8], heard: &mut Vec<u8>) {
    while !bytes.is_empty() {
        client.read_tls(&mut bytes).unwrap();
        client.process_new_packets().unwrap();
        // It fails where no more has come.
        let _ = client.reader().read_to_end(heard);
    }
}

/// Passes what both have to say, in parts of so many bytes, until neither has anything; what each said to the other, the client first.
fn run(client: &mut ClientConnection, guard: &mut Guard, part: usize) -> [Vec<u8>; 2] {
    let (mut plain, mut heard) = (Vec::new(), Vec::new());
    loop {
        let bytes = said(client);
        if bytes.is_empty() && guard.out.is_empty() {
            return [plain, heard];
        }
        for part in bytes.chunks(part) {
            assert_eq!(guard.hear(&mut part.to_vec(), &mut plain), Ok(Heard::GoesOn));
        }
        for part in std::mem::take(&mut guard.out).chunks(part) {
            tell(client, part, &mut heard);
        }
    }
}

#[test]
fn what_is_said_arrives_however_it_is_cut() {
    let folder = Folder::new();
    let policy = folder.policy();
    let long: Vec<u8> = (0..100_000u32).map(|number| number as u8).collect();
    for part in [1, 2, 7, 100, 1000, 20_000] {
        let (mut client, mut guard) = (connect(folder.client()), guard(&policy));
        assert!(guard.is_arriving());
        run(&mut client, &mut guard, part);
        assert!(!guard.is_arriving() && !client.is_handshaking());
        for message in [&b"hello"[..], &long] {
            client.writer().write_all(message).unwrap();
            assert_eq!(run(&mut client, &mut guard, part), [message, b""], "parts of {part}");
            guard.seal(message).unwrap();
            assert_eq!(run(&mut client, &mut guard, part), [b"", message], "parts of {part}");
        }
    }
}

#[test]
fn both_sides_end_with_a_word() {
    let folder = Folder::new();
    let (mut client, mut guard) = (connect(folder.client()), guard(&folder.policy()));
    run(&mut client, &mut guard, 1000);
    client.writer().write_all(b"last").unwrap();
    client.send_close_notify();
    let mut plain = Vec::new();
    assert_eq!(guard.hear(&mut said(&mut client), &mut plain), Ok(Heard::Ended));
    assert_eq!(plain, b"last");
    guard.seal(b"answer").unwrap();
    let farewell = guard.take_farewell().expect("there is a last word");
    let mut heard = Vec::new();
    tell(&mut client, &farewell, &mut heard);
    assert_eq!(guard.take_farewell(), None);
    client.reader().read_to_end(&mut heard).expect("the end was told");
    assert_eq!(heard, b"answer");
}

#[test]
fn a_key_is_changed_when_the_client_wants_it() {
    let folder = Folder::new();
    let (mut client, mut guard) = (connect(folder.client()), guard(&folder.policy()));
    run(&mut client, &mut guard, 1000);
    for _ in 0..5 {
        client.refresh_traffic_keys().unwrap();
        client.writer().write_all(b"more").unwrap();
        assert_eq!(run(&mut client, &mut guard, 3), [&b"more"[..], b""]);
        guard.seal(b"answer").unwrap();
        assert_eq!(run(&mut client, &mut guard, 3), [&b""[..], b"answer"]);
    }
}

#[test]
fn what_is_no_tls_is_answered_by_an_alert_and_goes_no_further() {
    let folder = Folder::new();
    let policy = folder.policy();
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 100], &[22, 3, 1, 0, 5, 1, 0, 0, 1, 0], &[21, 3, 3, 0, 2, 2, 40]] {
        let (mut guard, mut plain) = (guard(&policy), Vec::new());
        assert!(guard.hear(&mut garbage.to_vec(), &mut plain).is_err(), "{garbage:?}");
        assert!(plain.is_empty() && guard.seal(b"x").is_err());
        let farewell = guard.take_farewell().unwrap_or_default();
        // An alert of two bytes is not answered by another.
        assert!(farewell.len() == 7 && farewell[0] == 21 || garbage[0] == 21 && farewell.is_empty(), "{farewell:?}");
    }
}

#[test]
fn a_record_that_was_changed_ends_the_connection() {
    let folder = Folder::new();
    let policy = folder.policy();
    let mut at = 0;
    loop {
        let (mut client, mut guard, mut plain) = (connect(folder.client()), guard(&policy), Vec::new());
        run(&mut client, &mut guard, 1000);
        client.writer().write_all(b"12345678").unwrap();
        let mut bytes = said(&mut client);
        let Some(byte) = bytes.get_mut(at) else { break };
        *byte ^= 0x20;
        let heard = guard.hear(&mut bytes, &mut plain);
        // A length that was changed makes the record longer, and the rest is awaited. A record's version says nothing (RFC 8446 section 5.1).
        assert!(heard.is_err() || heard == Ok(Heard::GoesOn) && (plain.is_empty() || at == 2), "{at}");
        at += 1;
    }
    assert!(at > 20);
}

/// Nothing that a peer sends may end more than its connection.
#[test]
fn whatever_comes_however_it_is_cut_ends_no_more_than_its_connection() {
    let (folder, client) = (Folder::new(), Folder::new());
    let with_clients = |client_certificates, client_ca: &Folder| {
        let files = Files { client_certificates, client_ca: Some(client_ca.0.join("certificate")), ..folder.files() };
        Policy { proxies: None, certificates: Some(Arc::new(Certificates::read(files).unwrap())) }
    };
    // The client's certificate is wanted and trusted, wanted and not trusted, or not asked for.
    let policies =
        [with_clients(ClientCertificates::Required, &client), with_clients(ClientCertificates::Optional, &folder), folder.policy()];
    let certificate = Some((client.0.join("certificate"), client.0.join("key")));
    let config = Trust { ca: Some(folder.0.join("certificate")), certificate, ..Trust::default() }.config().unwrap();
    let mut random = StdRng::seed_from_u64(1);
    let mut ends = [0; 2];
    for round in 0..600 {
        let (mut client, mut guard) = (connect(config.clone()), guard(&policies[round % 3]));
        let (mut plain, mut is_well) = (Vec::new(), true);
        for turn in 0..8 {
            if turn == 4 {
                let _ = client.writer().write_all(&[7; 5000]);
            }
            let mut bytes = said(&mut client);
            if random.random_bool(0.2) && !bytes.is_empty() {
                let at = random.random_range(0..bytes.len());
                match random.random_range(0..3) {
                    0 => bytes[at] ^= 1 << random.random_range(0..8),
                    1 => bytes.truncate(at),
                    _ => drop(bytes.splice(at..at, [random.random(), random.random()])),
                }
            }
            let mut rest = &mut bytes[..];
            while !rest.is_empty() {
                let longest = [2, 40, 700, 20_000][random.random_range(0..4)];
                let part = random.random_range(1..=rest.len().min(longest));
                let (first, behind) = rest.split_at_mut(part);
                is_well &= guard.hear(first, &mut plain).is_ok();
                if random.random_bool(0.2) {
                    let _ = guard.seal(&[9; 300]);
                }
                rest = behind;
            }
            if random.random_bool(0.02) {
                let farewell = guard.take_farewell().unwrap_or_default();
                guard.out = farewell;
            }
            let (mut out, mut out_heard) = (&std::mem::take(&mut guard.out)[..], Vec::new());
            while !out.is_empty() && client.read_tls(&mut out).is_ok_and(|read| read > 0) {
                is_well &= client.process_new_packets().is_ok();
                let _ = client.reader().read_to_end(&mut out_heard);
            }
        }
        let _ = guard.take_farewell();
        ends[usize::from(is_well)] += 1;
        assert!(plain.iter().all(|byte| *byte == 7), "what was changed is not taken for what was said");
    }
    assert!(ends.iter().all(|count| *count > 50), "{ends:?}");
}

#[test]
fn a_header_comes_before_all_else_and_is_taken_off() {
    let folder = Folder::new();
    let header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x01\x02\x03\x04\x05\x06\x07\x08\0\x50\x01\xbb";
    let proxies = Some(Networks::default());
    let (mut plainly, mut plain) = (guard(&Policy { proxies: proxies.clone(), certificates: None }), Vec::new());
    for byte in header.iter().chain(b"GET") {
        assert_eq!(plainly.hear(&mut [*byte], &mut plain), Ok(Heard::GoesOn));
    }
    let address = Some("1.2.3.4".parse().unwrap());
    assert_eq!((plain.as_slice(), plainly.take_arrived().address), (&b"GET"[..], address));
    assert!(plainly.is_idle());

    let (mut client, mut guard) = (connect(folder.client()), guard(&Policy { proxies, ..folder.policy() }));
    let mut first = [&header[..], &said(&mut client)].concat();
    assert_eq!(guard.hear(&mut first, &mut plain), Ok(Heard::GoesOn));
    run(&mut client, &mut guard, 10);
    client.writer().write_all(b"hello").unwrap();
    assert_eq!(run(&mut client, &mut guard, 10), [&b"hello"[..], b""]);
    assert_eq!(guard.take_arrived().address, address);
}

#[test]
fn who_shows_a_certificate_is_known_by_it_from_the_end_of_the_handshake() {
    let (folder, client) = (Folder::new(), Folder::new());
    let files = |client_ca| Files { client_certificates: ClientCertificates::Optional, client_ca: Some(client_ca), ..folder.files() };
    let policy = |client_ca| Policy { proxies: None, certificates: Some(Arc::new(Certificates::read(files(client_ca)).unwrap())) };
    let shown = Some((client.0.join("certificate"), client.0.join("key")));
    let config = Trust { ca: Some(folder.0.join("certificate")), certificate: shown, ..Trust::default() }.config().unwrap();
    let (mut known, mut guard_of_known) = (connect(config.clone()), guard(&policy(client.0.join("certificate"))));
    run(&mut known, &mut guard_of_known, 100);
    // rcgen's own common name.
    assert_eq!(guard_of_known.take_arrived().principal.as_deref(), Some("rcgen self signed cert"));
    // All at once: the certificate, the end of the handshake, and what the client says at once behind it.
    for part in [1, 100, 1000, 20_000] {
        let (mut hasty, mut guard) = (connect(config.clone()), guard(&policy(client.0.join("certificate"))));
        hasty.writer().write_all(b"hello").unwrap();
        assert_eq!(run(&mut hasty, &mut guard, part), [&b"hello"[..], b""], "parts of {part}");
        assert!(!guard.is_arriving());
    }
    let (mut unknown, mut guard_of_unknown) = (connect(folder.client()), guard(&policy(client.0.join("certificate"))));
    run(&mut unknown, &mut guard_of_unknown, 100);
    assert_eq!(guard_of_unknown.take_arrived(), Arrived::default());
}

#[test]
fn a_connection_without_rules_needs_no_guard() {
    assert!(Guard::new(&Policy::default()).unwrap().is_none());
}

#[test]
fn files_are_read_again_where_they_change_and_kept_where_they_are_broken() {
    let folder = Folder::new();
    let certificates = Certificates::read(folder.files()).unwrap();
    let before = certificates.current();
    assert_eq!(certificates.refresh(false), None);
    std::fs::write(folder.0.join("certificate"), "nothing").unwrap();
    let wrong = certificates.refresh(false).expect("it was read").unwrap_err();
    assert!(wrong.ends_with("certificate: holds no certificate in PEM"), "{wrong}");
    assert_eq!(certificates.refresh(false), None, "it is told once");
    assert!(Arc::ptr_eq(&before, &certificates.current()));
    folder.make("another-and-longer.example");
    assert_eq!(certificates.refresh(false), Some(Ok(())));
    assert!(!Arc::ptr_eq(&before, &certificates.current()));
    assert_eq!(certificates.refresh(true), Some(Ok(())));
}

#[test]
fn a_link_that_leads_to_another_file_is_a_change_whatever_that_file_s_time() {
    let (one, other, live) = (Folder::new(), Folder::new(), Folder::new());
    let lead_to = |folder: &Folder| {
        for name in ["certificate", "key"] {
            let link = live.0.join(name);
            std::fs::remove_file(&link).unwrap();
            std::os::unix::fs::symlink(folder.0.join(name), link).unwrap();
            let file = std::fs::File::open(folder.0.join(name)).unwrap();
            file.set_modified(std::time::UNIX_EPOCH).unwrap();
        }
    };
    lead_to(&one);
    let certificates = Certificates::read(live.files()).unwrap();
    assert_eq!(certificates.refresh(false), None);
    lead_to(&other);
    assert_eq!(certificates.refresh(false), Some(Ok(())));
}

#[test]
fn a_key_of_another_certificate_is_told() {
    let (one, other) = (Folder::new(), Folder::new());
    let files = Files { certificates: vec![(one.0.join("certificate"), other.0.join("key"))], ..Files::default() };
    let wrong = Certificates::read(files).err().expect("they do not fit");
    assert!(wrong.contains("cannot be used together"), "{wrong}");
    let files = Files { certificates: vec![(one.0.join("key"), one.0.join("key"))], ..Files::default() };
    assert!(Certificates::read(files).err().expect("it is no certificate").contains("holds no certificate in PEM"));
    let files = Files { certificates: vec![(one.0.join("certificate"), one.0.join("none"))], ..Files::default() };
    assert!(Certificates::read(files).err().expect("there is no key").contains("none: cannot be read"));
}
