//! Fuzzing: whatever the bytes, a decoder or parser answers and keeps its promises.
//!
//! A target is a plain function over bytes that panics where a promise is broken; `targets.rs` has one for each decoder
//! and parser. Each runs here as a bounded campaign, the same for the same seed:
//!
//! ```text
//! TIDEWIRE_FUZZ_RUNS=1000000 TIDEWIRE_FUZZ_SEED=7 cargo test --no-default-features --test fuzz json
//! ```
//!
//! A new target is one line below: its function, and a corpus of inputs that reach deep into it.

mod campaign;
mod targets;

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
