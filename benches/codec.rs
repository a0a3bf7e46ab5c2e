//! What the words on the wire and the questions asked of a path cost: frames and packets, there and back, and whether a selector matches.
//!
//! `cargo bench --no-default-features --bench codec` prints the median and the worst batch of each in nanoseconds. `--test` runs each few times.

use std::hint::black_box;
use std::time::Instant;
use tidewire::surface::base::TopicId;
use tidewire::surface::topic::selector::{Selector, SelectorLimits};
use tidewire::surface::value::ValueType;
use tidewire::surface::wire::mqtt::{PacketLimits, PublishHead, QoS, Version};
use tidewire::surface::wire::native::{self, Ask, Request, Update, Verb};
use tidewire::surface::wire::{mqtt, text};

const BATCH: usize = 1000;
const PATH: &str = "prices/europe/equities/DE0007164600";
const JSON: &[u8] =
    br#"{"bid":121.34,"ask":121.36,"last":121.35,"volume":1843221,"time":1735689600000,"state":"open","venue":"XETR","currency":"EUR"}"#;

/// Prints what one run takes.
fn measure(batches: usize, name: &str, mut run: impl FnMut()) {
    let mut times: Vec<u128> = (0..batches)
        .map(|_| {
            let start = Instant::now();
            (0..BATCH).for_each(|_| run());
            start.elapsed().as_nanos() / BATCH as u128
        })
        .collect();
    times.sort_unstable();
    println!("{name:<52} {:>10} {:>10}", times[times.len() / 2], times[times.len() - 1]);
}

fn native(batches: usize) {
    let update = Update::new(Verb::Set, 0, JSON);
    let request = Request { id: 7, ask: Ask::Update { path: PATH.into(), update } };
    let mut encoded = Vec::new();
    measure(batches, "native: put an update", || {
        encoded.clear();
        native::put_request(&mut encoded, black_box(&request));
    });
    measure(batches, "native: read an update", || {
        let mut rest = black_box(&encoded[..]);
        let frame = native::next_frame(&mut rest).expect("whole").expect("a frame");
        assert_eq!(native::decode_request(frame).id, 7);
    });
    measure(batches, "native: put a value", || {
        black_box(native::value_frame(TopicId(1234), black_box(JSON)));
    });
}

fn json_text(batches: usize) {
    let request = format!(r#"{{"op":"set","id":7,"path":"{PATH}","value":{}}}"#, std::str::from_utf8(JSON).expect("JSON is UTF-8"));
    measure(batches, "text: read an update", || {
        assert_eq!(text::decode_request(black_box(&request)).expect("a request").id, 7);
    });
    let mut out = Vec::new();
    measure(batches, "text: put a value", || {
        out.clear();
        text::put_value(&mut out, TopicId(1234), PATH, ValueType::Json, black_box(JSON));
    });
}

fn packets(batches: usize) {
    let limits = PacketLimits { packet_bytes_max: 1 << 20, user_properties_max: 64 };
    for (version, qos, name) in [
        (Version::V311, QoS::AtMostOnce, "3.1.1, QoS 0"),
        (Version::V5, QoS::AtMostOnce, "5, QoS 0"),
        (Version::V5, QoS::AtLeastOnce, "5, QoS 1"),
    ] {
        let id = if qos == QoS::AtMostOnce { 0 } else { 9 };
        let head = PublishHead {
            is_duplicate: false,
            qos,
            retain: false,
            topic: PATH,
            id,
            alias: None,
            expiry_s: None,
            subscription_ids: &[],
            passed_on: &[],
            missed: 0,
        };
        let mut packet = Vec::new();
        measure(batches, &format!("MQTT {name}: put a PUBLISH"), || {
            packet.clear();
            mqtt::put_publish(&mut packet, version, black_box(&head), JSON);
        });
        measure(batches, &format!("MQTT {name}: read a PUBLISH"), || {
            let head = mqtt::parse_head(black_box(&packet), limits.packet_bytes_max).expect("sound").expect("whole");
            let body = &packet[head.head_len..][..head.body_len];
            black_box(mqtt::decode(version, head.first, body, &limits).expect("a packet"));
        });
    }
}

fn selectors(batches: usize) {
    for (selector, matches) in [
        (">prices/europe/equities/DE0007164600", true),
        ("?prices/europe//", true),
        ("?prices/.*/equities//", true),
        ("?prices/europe/equities/DE.*", true),
        ("?prices/asia//", false),
        ("*.*/[A-Z]{2}[0-9]{10}", true),
        ("#>a/b////?news//////?prices/.*/equities//", true),
    ] {
        let parsed = Selector::parse(selector, SelectorLimits::default()).expect("a selector");
        measure(batches, &format!("selector {selector}"), || assert_eq!(parsed.matches(black_box(PATH)), matches));
    }
}

fn main() {
    let batches = if std::env::args().any(|argument| argument == "--test") { 5 } else { 500 };
    println!("{:<52} {:>10} {:>10}", "nanoseconds", "median", "worst");
    native(batches);
    json_text(batches);
    packets(batches);
    selectors(batches);
}
