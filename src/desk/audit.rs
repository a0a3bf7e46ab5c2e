//! What is noted for whoever looks later at who did what: who came, what was refused, what was changed of security, and what sessions did to others.
//!
//! One note is a line of JSON, bounded: texts and lists are cut. Nothing is noted that a client showed for a principal, and no text that may hold it: no
//! password, token or hash, no script and no word why one is none. Time is put on by whoever writes the line.

use serde::ser::{Serialize, SerializeMap, Serializer};
use std::net::Ipv6Addr;

/// Bytes of one text; what is longer is cut.
const TEXT_BYTES_MAX: usize = 1024;

/// Texts of one list, and the bytes of each.
const TEXTS_MAX: usize = 64;
const LISTED_BYTES_MAX: usize = 256;

/// One note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    kind: AuditKind,
    outcome: AuditOutcome,
    /// Whose doing it was; empty of somebody without a name. Of one who was not let in, what it said.
    principal: Box<str>,
    /// Where it came from, an IPv4 address mapped; unspecified where nobody knows.
    address: Ipv6Addr,
    /// The session's name; empty where there is none.
    session: Box<str>,
    details: Vec<(&'static str, Detail)>,
}

/// What it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditKind {
    /// Somebody wanted to connect, or to go on with a session.
    Connect,
    /// The client of a session showed anew who it is.
    Authenticate,
    /// A session was ended by the server.
    SessionEnd,
    /// A session wanted to do what it may not.
    Denied,
    /// A script of roles or of principals.
    Security,
    /// What a session did to others.
    Control,
    View,
    SessionTree,
    /// A page was asked for.
    Http,
    /// These notes themselves.
    Log,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditOutcome {
    Allowed,
    Refused,
    /// It could not be said at that time.
    Later,
    Expired,
    Done,
    Applied,
    /// Only looked at.
    Checked,
    /// Whoever ordered it was gone before it was known what came of it.
    Ordered,
    Lost,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Detail {
    Text(Box<str>),
    Number(u64),
    Flag(bool),
    Texts(Box<[Box<str>]>),
}

impl Audit {
    pub fn new(kind: AuditKind, outcome: AuditOutcome) -> Self {
        let nobody = Box::<str>::default();
        Self { kind, outcome, principal: nobody.clone(), address: Ipv6Addr::UNSPECIFIED, session: nobody, details: Vec::new() }
    }

    /// So many notes found no room before this one.
    pub fn lost(count: u64) -> Self {
        Self::new(AuditKind::Log, AuditOutcome::Lost).number("lost", count)
    }

    pub fn by(mut self, principal: &str, address: Ipv6Addr) -> Self {
        self.principal = cut(principal, TEXT_BYTES_MAX);
        self.address = address;
        self
    }

    pub fn in_session(mut self, session: &str) -> Self {
        self.session = session.into();
        self
    }

    /// The name of a detail is none of those that every line has.
    pub fn text(mut self, name: &'static str, text: &str) -> Self {
        self.details.push((name, Detail::Text(cut(text, TEXT_BYTES_MAX))));
        self
    }

    pub fn number(mut self, name: &'static str, number: u64) -> Self {
        self.details.push((name, Detail::Number(number)));
        self
    }

    pub fn flag(mut self, name: &'static str, flag: bool) -> Self {
        self.details.push((name, Detail::Flag(flag)));
        self
    }

    pub fn texts<'t>(mut self, name: &'static str, mut texts: impl Iterator<Item = &'t str>) -> Self {
        let mut listed: Vec<Box<str>> = texts.by_ref().take(TEXTS_MAX).map(|text| cut(text, LISTED_BYTES_MAX)).collect();
        let more = texts.count();
        if more > 0 {
            listed.push(format!("… {more} more").into());
        }
        self.details.push((name, Detail::Texts(listed.into())));
        self
    }

    /// It came to that in the end.
    pub fn with_outcome(mut self, outcome: AuditOutcome) -> Self {
        self.outcome = outcome;
        self
    }

    /// Appends the line, with its end, of what happened at `wall_ms` since the epoch.
    pub fn put_line(&self, wall_ms: u64, out: &mut Vec<u8>) {
        serde_json::to_writer(&mut *out, &Line { audit: self, wall_ms }).expect("texts and numbers are JSON, and memory takes them");
        out.push(b'\n');
    }
}

impl AuditKind {
    fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Authenticate => "authenticate",
            Self::SessionEnd => "session_end",
            Self::Denied => "denied",
            Self::Security => "security",
            Self::Control => "control",
            Self::View => "view",
            Self::SessionTree => "session_tree",
            Self::Http => "http",
            Self::Log => "audit",
        }
    }
}

impl AuditOutcome {
    fn name(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Refused => "refused",
            Self::Later => "later",
            Self::Expired => "expired",
            Self::Done => "done",
            Self::Applied => "applied",
            Self::Checked => "checked",
            Self::Ordered => "ordered",
            Self::Lost => "lost",
        }
    }
}

struct Line<'a> {
    audit: &'a Audit,
    wall_ms: u64,
}

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Audit { kind, outcome, principal, address, session, details } = self.audit;
        let mut members = serializer.serialize_map(None)?;
        members.serialize_entry("time", &rfc3339(self.wall_ms))?;
        members.serialize_entry("event", kind.name())?;
        members.serialize_entry("outcome", outcome.name())?;
        members.serialize_entry("principal", principal)?;
        members.serialize_entry("address", &written(*address))?;
        members.serialize_entry("session", session)?;
        for (name, detail) in details {
            match detail {
                Detail::Text(text) => members.serialize_entry(name, text)?,
                Detail::Number(number) => members.serialize_entry(name, number)?,
                Detail::Flag(flag) => members.serialize_entry(name, flag)?,
                Detail::Texts(texts) => members.serialize_entry(name, texts)?,
            }
        }
        members.end()
    }
}

/// As people write it; empty where nobody knows it.
fn written(address: Ipv6Addr) -> String {
    if address.is_unspecified() { String::new() } else { address.to_canonical().to_string() }
}

fn cut(text: &str, bytes_max: usize) -> Box<str> {
    if text.len() <= bytes_max {
        return text.into();
    }
    let end = (0..=bytes_max).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}…", &text[..end]).into()
}

/// A moment in UTC, in milliseconds since the epoch.
fn rfc3339(wall_ms: u64) -> String {
    let (days, of_day) = (wall_ms / 86_400_000, wall_ms % 86_400_000);
    let (hours, minutes, seconds, ms) = (of_day / 3_600_000, of_day / 60_000 % 60, of_day / 1000 % 60, of_day % 1000);
    let (year, month, day) = date_of(days);
    format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{ms:03}Z")
}

/// Year, month and day so many days after 1970-01-01. Years are counted from March, so that the odd day is each one's last.
fn date_of(days: u64) -> (u64, u64, u64) {
    const DAYS_IN_400_YEARS: u64 = 146_097;
    const DAYS_TO_1970: u64 = 719_468;
    let days = days + DAYS_TO_1970;
    let (era, day) = (days / DAYS_IN_400_YEARS, days % DAYS_IN_400_YEARS);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let from_march = (5 * day + 2) / 153;
    let day = day - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(audit: &Audit) -> serde_json::Value {
        let mut out = Vec::new();
        audit.put_line(1_735_689_600_007, &mut out);
        assert_eq!((out.pop(), out.contains(&b'\n')), (Some(b'\n'), false));
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn a_note_is_one_line_whatever_its_texts_are() {
        let audit = Audit::new(AuditKind::Control, AuditOutcome::Done).by("a\n\"b\"", Ipv6Addr::from(0xffff_7f00_0001)).in_session("1-2");
        let audit = audit.text("what", "\u{7}").number("count", u64::MAX).flag("yes", true).texts("add", ["x", "\n"].into_iter());
        let expected = serde_json::json!({
            "time": "2025-01-01T00:00:00.007Z", "event": "control", "outcome": "done", "principal": "a\n\"b\"", "address": "127.0.0.1",
            "session": "1-2", "what": "\u{7}", "count": u64::MAX, "yes": true, "add": ["x", "\n"],
        });
        assert_eq!(line(&audit), expected);
        assert_eq!(line(&Audit::new(AuditKind::Http, AuditOutcome::Refused))["address"], "");
    }

    #[test]
    fn what_is_long_is_cut() {
        let long = "ä".repeat(TEXT_BYTES_MAX);
        let names: Vec<String> = (0..TEXTS_MAX + 3).map(|number| format!("{number}{long}")).collect();
        let audit = Audit::new(AuditKind::Denied, AuditOutcome::Refused).by(&long, Ipv6Addr::LOCALHOST).text("why", &long);
        let line = line(&audit.texts("names", names.iter().map(|name| &**name)));
        let cut = format!("{}…", "ä".repeat(TEXT_BYTES_MAX / 2));
        assert_eq!((line["principal"].as_str(), line["why"].as_str()), (Some(&*cut), Some(&*cut)));
        let names = line["names"].as_array().unwrap();
        assert_eq!((names.len(), names[TEXTS_MAX].as_str()), (TEXTS_MAX + 1, Some("… 3 more")));
        assert!(names.iter().all(|name| name.as_str().unwrap().len() <= LISTED_BYTES_MAX + 3));
    }

    #[test]
    fn moments_are_written_as_dates() {
        let moments = [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_709_251_199_000, "2024-02-29T23:59:59.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (1_767_225_599_999, "2025-12-31T23:59:59.999Z"),
        ];
        for (ms, text) in moments {
            assert_eq!(rfc3339(ms), text, "{ms}");
        }
    }
}
