//! Fuzzing: whatever the bytes, a decoder or parser answers and keeps its promises.
//!
//! A target is a plain function over bytes that panics where a promise is broken; `targets.rs` has one for each parser of
//! texts and values, `wire.rs` for what a peer sends. Each runs here as a bounded campaign, the same for the same seed:
//!
//! ```text
//! TIDEWIRE_FUZZ_RUNS=1000000 TIDEWIRE_FUZZ_SEED=7 cargo test --no-default-features --test fuzz json
//! ```
//!
//! A new target is one line below: its function, and a corpus of inputs that reach deep into it.

mod campaign;
mod targets;
mod wire;

use campaign::run;

#[test]
fn path() {
    run(targets::path, &[b"a/b/c\na/bc", b"Tidewire/x", b"//a/", "\u{e9}/\u{1f30a}\n\u{e9}!".as_bytes()]);
}

#[test]
fn selector() {
    run(
        targets::selector,
        &[
            b"?foo/.*/[a-c]+//\nfoo/x/abc/d",
            b"#>a/b//////?b|c/(d)?/////*(?i)x.*\\d{2,3}\nb/",
            b"*a/(?:b|c)*/\\w\\pL$//\na/b/1x",
            b"?(?x)a\\Q*+b\\x2f\\1(?=a)[^/&&[a--b]]\na",
            b"a/b//\na/b",
        ],
    );
}

#[test]
fn json() {
    run(
        targets::json,
        &[
            br#"{"a b": [1, -0.5e+10, "\u00e9\ud83c\udf0a\\", true], "a": null}"#,
            "[[[{\"\":{}}]], \"\u{e9}\u{1f30a}\", 12345678901234567890123, 1e308]".as_bytes(),
            b" \"long enough to fill more than one block of sixty-four bytes \\\" \\\\\" ",
        ],
    );
}

#[test]
fn scalar_from_json() {
    run(
        targets::scalar_from_json,
        &[
            br#""a\u00e9\ud83c\udf0a\/\n""#,
            b"-9223372036854775808",
            b"1.7976931348623157e308",
            b"1.79769313486231587e308",
            b"\"-Infinity\"",
            b"\"//79/A==\"",
        ],
    );
}

#[test]
fn scalar() {
    run(targets::scalar, &[b"a\"\\\n\x01", b"\x7f\xf0\0\0\0\0\0\0", b"\x80\0\0\0\0\0\0\x01", b"\x3f\xb9\x99\x99\x99\x99\x99\x9a"]);
}

#[test]
fn native_request() {
    run(
        wire::native_request,
        &[
            b"\x01\x0b\x01\x01\x01\x03sim\x02\x01\x03\x02\x00\x03\x00",
            b"\x10\x07\x01\x03a/b\x01\x00\x11\x08\x02\x03a/b\x02hi",
            b"\x12\x09\x02\x03a/b\x02\x00hi\x12\x0d\x02\x03a/b\x02\x01\x01k\x01vhi",
            b"\x18\x07\x01\x04?a//\x00\x19\x07\x01\x04?a//\x00\x13\x06\x03\x04?a//",
            b"\x14\x09\x04\x04?a//\x00\x00\x01\x04\x00",
        ],
    );
}

#[test]
fn native_event() {
    run(
        wire::native_event,
        &[
            b"\x81\x0b\x01\x01\x01\x03sim\x04\x02\x80\x10\x02\x00",
            b"\x82\x0b\x01\x01\x01\x03a/b\x02\x03hi",
            b"\x83\x06\x01\xc8\x01\x02no\x98\x02\x07\x01",
            b"\x90\x07\x07\x03a/b\x02\x00\x91\x03\x07hi\x92\x03\x07\x03\x00\x93\x03\x07\x02\x00",
        ],
    );
}

#[test]
fn text_request() {
    run(
        wire::text_request,
        &[
            br#"{"op":"connect","id":1,"version":1,"client":"\u00e9"}"#,
            br#"{"op":"set","id":3,"path":"a/b","type":"json","value":{"x":[1,"]"]},"properties":{"a":"b"}}"#,
            br#"{"op":"fetch","id":6,"selector":"?a//","after":"","first":10,"values":true}"#,
            b"{\n\"op\": \"subscribe\",\n\"id\": \"x\", \"selector\": 7}",
        ],
    );
}

#[test]
fn http_head() {
    run(
        wire::http_head,
        &[
            b"GET /tidewire?x HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n\
              Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: x, tidewire.1\r\n\r\nmore",
            b"GET /health HTTP/1.0\r\nA: b\r\n\r\n",
        ],
    );
}

#[test]
fn websocket_head() {
    run(
        wire::websocket_head,
        &[
            &[0x82, 0x83, 1, 2, 3, 4, 5, 6, 7],
            &[0x02, 0xfe, 0, 126, 1, 2, 3, 4],
            &[0x81, 0xff, 0, 0, 0, 0, 0, 0, 1, 0, 1, 2, 3, 4],
            &[0x88, 0x82, 0, 0, 0, 0, 3, 0xe8],
        ],
    );
}

#[test]
fn delta() {
    run(
        wire::delta,
        &[
            b"the quick brown fox jumps over the lazy dog, 1 time.the quick brown fox jumps over the lazy dog, 22 times",
            b"{\"a\":[1,2,3,4,5,6,7,8,9],\"b\":\"long enough\"}{\"a\":[1,2,3,4,5,6,7,8,8],\"b\":\"long enough\"}",
            b"previous bytes\x08\x24ab\xf3\x01\x02\x05\x10\x01",
        ],
    );
}

#[test]
fn shard() {
    run(
        wire::shard,
        &[
            b"\x09\x00\x09\x18\x07\x01\x04?a//\x00\x09\x00\x0b\x12\x09\x02\x03a/b\x02\x00hi\x05\x00\x00\x09\x00\x08\x13\x06\x03\x04?a//",
            b"\x09\x00\x0b\x12\x09\x02\x03a/b\x02\x00hi\x09\x00\x0b\x14\x09\x04\x04?a//\x00\x00\x01\x04\x00\x00\x05\x00\x00\x03\x00\xff",
            b"\x09\x01\x2b{\"op\":\"subscribe\",\"id\":1,\"selector\":\"?a//\"}\x09\x00\x0a\x11\x08\x02\x03a/b\x02hi\x05\x01\x00\x02\x01\x00",
            b"\x06\x00\x00\x09\x02\x09\x18\x07\x01\x04?a//\x00\x09\x02\x02\x04\x00\x09\x00\x0b\x12\x09\x02\x03a/c\x02\x00hi\x05\x02\x00",
            b"\x00\x00\x00\x01\x02\x1cGET /health HTTP/1.1\r\nA: b\r\n\x01\x02\x02\r\n\x05\x02\x00",
        ],
    );
}
