//! Every operation of every protocol, walked without any permission: it is refused or harmless, changes nothing, and what comes back says nothing of
//! what there is.
//!
//! An operation that stands in a protocol's own table and has no verdict here fails the build: whoever adds one says what it needs. That nothing is
//! said is shown twice: no byte has the mark that all that is seeded has in names and values, and the same bytes are sent where there is nothing at
//! all.
//!
//! - `native` — the table of requests, by the golden vectors, in both forms; of clients that have no role, and of those that have lost it.
//! - `mqtt` — the packets of a client of MQTT 3.1.1 and 5.
//! - `http` — paths of the admin pages.

mod http;
mod mqtt;
mod native;

/// In all that is seeded, names and values.
const MARK: &str = "s3cr3t";

/// What becomes of an operation without permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// `access_denied`, or what the protocol has in its place.
    Refused,
    /// It may be asked for by everybody, for this reason.
    Harmless(&'static str),
}

fn assert_unmarked(bytes: &[u8], about: &str) {
    assert!(!has_mark(bytes), "{about}: {}", String::from_utf8_lossy(bytes));
}

fn has_mark(bytes: &[u8]) -> bool {
    bytes.windows(MARK.len()).any(|window| window.eq_ignore_ascii_case(MARK.as_bytes()))
}
