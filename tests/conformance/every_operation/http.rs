//! The paths that the server itself answers by HTTP; what it serves beside them are files for everybody.

use super::Verdict;
use super::Verdict::{Harmless, Refused};
use crate::peer::Peer;
use crate::permissions::{self, as_who};
use tidewire::surface::wire::http;

fn verdict(name: &str) -> (&'static str, Verdict) {
    match name {
        "HEALTH" => (http::HEALTH, Harmless("whoever starts and stops the process has to know, and has no name")),
        "LATENCY" => (http::LATENCY, Refused),
        _ => panic!("{name} has no verdict: what does it need?"),
    }
}

/// The names of the paths that `admin` matches.
fn paths() -> Vec<&'static str> {
    let arms = include_str!("../../../src/admin/mod.rs").lines().filter_map(|line| line.trim().strip_prefix("http::"));
    let names: Vec<&str> = arms.filter_map(|arm| arm.split_once(" => ")).map(|(name, _)| name).collect();
    assert!(names.len() >= 2, "the paths are found: {names:?}");
    names
}

#[test]
fn without_a_role_every_path_but_health_is_refused() {
    for name in paths() {
        let (path, verdict) = verdict(name);
        for query in ["", "?a=b"] {
            let mut peer = Peer::within(permissions::limits(""));
            peer.give(format!("GET {path}{query} HTTP/1.1\r\nHost: server.example.com\r\n\r\n").as_bytes());
            if verdict == Refused {
                assert_eq!(peer.take(), b"", "{path} waits");
                peer.identify(as_who("nobody", &["nobody"]));
            }
            let status = if verdict == Refused { "HTTP/1.1 403 " } else { "HTTP/1.1 200 " };
            let answer = String::from_utf8(peer.take()).expect("a text");
            assert!(answer.starts_with(status) && peer.is_ended(), "{path}: {answer}");
        }
    }
}
