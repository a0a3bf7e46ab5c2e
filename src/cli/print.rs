//! What the commands print: for people on a terminal, JSON lines in a pipe.
//!
//! Colour is for terminals whose user did not set NO_COLOR. Text from elsewhere never steers the terminal.

use super::client::{Change, Notice, Topic};
use super::instant;
use crate::protocol::Reason;
use crate::topic::specification::TopicType;
use crate::value::{ValueType, scalar};
use crate::wire::native::{Entry, EventEntry, PresenceEntry, Shown};
use std::io::{BufWriter, IsTerminal, Write};

/// The names of what a notice tells, from 1.
const WHAT: [&str; 4] = ["added", "removed", "selected", "deselected"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Json,
    Plain,
    Colour,
}

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Printer {
    pub form: Form,
}

/// A style of the terminal.
#[derive(Clone, Copy)]
pub enum Style {
    Path,
    Faint,
    Good,
    Bad,
    Changed,
}

impl Printer {
    /// JSON where it is asked for, or where nobody is there to read.
    pub fn new(json: bool) -> Self {
        let is_for_people = !json && std::io::stdout().is_terminal();
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            form: match (is_for_people, no_color || is_dumb) {
                (false, _) => Form::Json,
                (true, true) => Form::Plain,
                (true, false) => Form::Colour,
            },
        }
    }

    pub fn is_json(self) -> bool {
        self.form == Form::Json
    }

    /// A reader that went away ends the command quietly.
    pub fn print(self, lines: impl Iterator<Item = String>) {
        let mut out = BufWriter::new(std::io::stdout().lock());
        let write = || -> std::io::Result<()> {
            for line in lines {
                writeln!(out, "{line}")?;
            }
            out.flush()
        };
        if write().is_err() {
            std::process::exit(0);
        }
    }

    pub fn styled(self, style: Style, text: &str) -> String {
        let code = match style {
            Style::Path => 36,
            Style::Faint => 2,
            Style::Good => 32,
            Style::Bad => 31,
            Style::Changed => 33,
        };
        if self.form == Form::Colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn path(self, path: &str) -> String {
        self.styled(Style::Path, &printable(path))
    }

    pub fn entry(self, entry: &Entry, shown: Shown) -> String {
        let properties = || entry.properties.iter().map(|(key, value)| (&**key, &**value));
        let kind = type_name(entry.kind);
        if self.is_json() {
            let mut line = format!(r#"{{"path":{},"type":"{kind}""#, json_string(&entry.path));
            if shown.values {
                line += &json_members(entry.value_kind, entry.value.as_deref());
            }
            if shown.properties {
                line += &format!(r#","properties":{}"#, json_object(properties()));
            }
            if shown.sizes {
                line += &format!(r#","size":{}"#, entry.size.map_or("null".to_owned(), |size| size.to_string()));
            }
            return line + "}";
        }
        let mut line = format!("{} {}", self.path(&entry.path), self.styled(Style::Faint, kind));
        if let Some(size) = entry.size.filter(|_| shown.sizes) {
            line += &self.styled(Style::Faint, &format!(" {size} {}", if size == 1 { "byte" } else { "bytes" }));
        }
        if shown.properties {
            line += &self.properties(properties());
        }
        if shown.values {
            line += &format!(" {}", self.value(entry.value_kind, entry.value.as_deref()));
        }
        line
    }

    /// With a space before each.
    fn properties<'a>(self, properties: impl Iterator<Item = (&'a str, &'a str)>) -> String {
        properties.map(|(key, value)| self.styled(Style::Faint, &format!(" {key}={}", printable(value)))).collect()
    }

    pub fn value(self, kind: ValueType, value: Option<&[u8]>) -> String {
        let Some(value) = value else { return self.styled(Style::Faint, "no value") };
        match kind {
            ValueType::String => printable(&String::from_utf8_lossy(value)),
            ValueType::Binary if let Some(text) = text_of(value) => printable(text),
            ValueType::Binary => {
                let shown: String = value.iter().take(32).map(|byte| format!("{byte:02x}")).collect();
                let more = if value.len() > 32 { "…" } else { "" };
                format!("0x{shown}{more} {}", self.styled(Style::Faint, &format!("{} bytes", value.len())))
            }
            _ => printable(&json_value(kind, value)),
        }
    }

    pub fn change(self, change: &Change) -> String {
        match change {
            Change::Notice(notice) => self.notice(notice),
            change if self.is_json() => json_change(change),
            Change::Value(topic, value) => {
                let kind = self.styled(Style::Faint, topic.kind.name());
                format!("{} {kind} {}", self.path(&topic.path), self.value(topic.value_kind, value.as_deref()))
            }
            Change::Event(topic, event) => {
                let number = match event.original {
                    None => format!("#{}", event.sequence),
                    Some(original) => self.styled(Style::Changed, &format!("#{} edits #{original}", event.sequence)),
                };
                let at = self.styled(Style::Faint, &instant::print(event.timestamp_ms));
                format!("{} {number} {at} {}", self.path(&topic.path), self.value(topic.value_kind, Some(&event.value)))
            }
            Change::Subscribed(topic) => {
                let properties = self.properties(topic.properties.iter().map(|(key, value)| (&**key, &**value)));
                let kind = self.styled(Style::Faint, topic.kind.name());
                format!("{} {} {kind}{properties}", self.styled(Style::Good, "+"), self.path(&topic.path))
            }
            Change::Unsubscribed(topic, number) => {
                format!("{} {} {}", self.styled(Style::Bad, "-"), self.path(&topic.path), self.styled(Style::Faint, reason(*number)))
            }
        }
    }

    /// A session at a topic; whether it has just joined or left.
    pub fn presence(self, entry: &PresenceEntry, joins: Option<bool>) -> String {
        let PresenceEntry { path, session, principal } = entry;
        if self.is_json() {
            let event = joins.map_or("", |joins| if joins { r#""event":"joined","# } else { r#""event":"left","# });
            let (path, session, principal) = (json_string(path), json_string(session), json_string(principal));
            return format!(r#"{{{event}"path":{path},"session":{session},"principal":{principal}}}"#);
        }
        let mark = joins.map(|joins| if joins { self.styled(Style::Good, "+") } else { self.styled(Style::Bad, "-") });
        // Where each session is told once there is no path, and an anonymous one has no principal.
        let path = (!path.is_empty()).then(|| self.path(path));
        let principal = (!principal.is_empty()).then(|| self.styled(Style::Faint, &printable(principal)));
        [mark, path, Some(printable(session)), principal].into_iter().flatten().collect::<Vec<_>>().join(" ")
    }

    fn notice(self, notice: &Notice) -> String {
        if self.is_json() && !matches!(notice, Notice::Presence { .. }) {
            return json_notice(notice);
        }
        let mark = |what: u8| match what {
            1 | 3 => self.styled(Style::Good, what_name(what)),
            _ => self.styled(Style::Bad, what_name(what)),
        };
        match notice {
            Notice::Topic { what, path, kind, properties } => {
                let properties = self.properties(properties.iter().map(|(key, value)| (&**key, &**value)));
                format!("{} {} {}{properties}", mark(*what), self.path(path), self.styled(Style::Faint, type_name(*kind)))
            }
            Notice::Descendant { what, path } => format!("{} {} below what is selected", mark(*what), self.path(path)),
            Notice::Subscribers { path, has_subscribers } => {
                let what = if *has_subscribers { "has subscribers" } else { "has no subscribers any more" };
                format!("{} {what}", self.path(path))
            }
            Notice::Missing { selector, session, .. } => {
                format!("{} {} {}", self.styled(Style::Changed, "missing"), self.path(selector), self.styled(Style::Faint, session))
            }
            Notice::Presence { joins, entry } => self.presence(entry, Some(*joins)),
        }
    }
}

fn json_change(change: &Change) -> String {
    let line = |event: &str, topic: &Topic, rest: String| {
        format!(r#"{{"event":"{event}","path":{},"type":"{}"{rest}}}"#, json_string(&topic.path), topic.kind.name())
    };
    match change {
        Change::Subscribed(topic) => {
            let properties = json_object(topic.properties.iter().map(|(key, value)| (&**key, &**value)));
            line("subscribed", topic, format!(r#","properties":{properties}"#))
        }
        Change::Value(topic, value) => line("value", topic, json_members(topic.value_kind, value.as_deref())),
        Change::Event(topic, event) => line("event", topic, format!(",{}", json_event_members(topic.value_kind, event))),
        Change::Unsubscribed(topic, number) => line("unsubscribed", topic, format!(r#","reason":"{}""#, reason(*number))),
        Change::Notice(notice) => json_notice(notice),
    }
}

fn json_notice(notice: &Notice) -> String {
    let object = |properties: &[(String, String)]| json_object(properties.iter().map(|(key, value)| (&**key, &**value)));
    match notice {
        Notice::Topic { what, path, kind, properties } => format!(
            r#"{{"notice":"topic","what":"{}","path":{},"type":"{}","properties":{}}}"#,
            what_name(*what),
            json_string(path),
            type_name(*kind),
            object(properties)
        ),
        Notice::Descendant { what, path } => {
            format!(r#"{{"notice":"descendant","what":"{}","path":{}}}"#, what_name(*what), json_string(path))
        }
        Notice::Subscribers { path, has_subscribers } => {
            format!(r#"{{"notice":"subscribers","path":{},"has_subscribers":{has_subscribers}}}"#, json_string(path))
        }
        Notice::Missing { selector, session, properties } => format!(
            r#"{{"notice":"missing","selector":{},"session":{},"properties":{}}}"#,
            json_string(selector),
            json_string(session),
            object(properties)
        ),
        Notice::Presence { .. } => unreachable!("it has lines of its own"),
    }
}

/// The members of an event's JSON object.
pub fn json_event_members(kind: ValueType, event: &EventEntry) -> String {
    let original = event.original.map_or(String::new(), |original| format!(r#""original":{original},"#));
    let (sequence, timestamp, author) = (event.sequence, event.timestamp_ms, json_string(&event.author));
    let value = json_members(kind, Some(&event.value));
    format!(r#""sequence":{sequence},"timestamp":{timestamp},{original}"author":{author}{value}"#)
}

pub fn json_string(text: &str) -> String {
    serde_json::to_string(text).expect("a string prints")
}

pub fn json_object<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let members: Vec<String> = pairs.map(|(key, value)| format!("{}:{}", json_string(key), json_string(value))).collect();
    format!("{{{}}}", members.join(","))
}

fn json_value(kind: ValueType, value: &[u8]) -> String {
    let mut out = Vec::new();
    scalar::append_json(kind, value, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// The members that say a value, with a comma before each. A BINARY value stands there as base64 in any case, and as text too where it is that.
pub fn json_members(kind: ValueType, value: Option<&[u8]>) -> String {
    let shown = value.map_or("null".to_owned(), |value| json_value(kind, value));
    let text = value.filter(|_| kind == ValueType::Binary).and_then(text_of);
    let text = text.map_or(String::new(), |text| format!(r#","text":{}"#, json_string(text)));
    format!(r#","value":{shown}{text}"#)
}

/// The text that bytes are, as the payloads of most clients of MQTT: UTF-8, and no control characters but white space.
fn text_of(value: &[u8]) -> Option<&str> {
    let is_text = |text: &&str| !text.is_empty() && !text.chars().any(|c| c.is_control() && !matches!(c, '\t' | '\n' | '\r'));
    std::str::from_utf8(value).ok().filter(is_text)
}

fn reason(number: u8) -> &'static str {
    Reason::ALL.iter().find(|reason| reason.code() == u16::from(number)).map_or("unknown", |reason| reason.name())
}

fn what_name(number: u8) -> &'static str {
    WHAT.get(usize::from(number).wrapping_sub(1)).copied().unwrap_or("unknown")
}

fn type_name(number: u8) -> &'static str {
    TopicType::from_number(number).map_or("unknown", TopicType::name)
}

pub fn printable(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: &[u8], plain: &str, members: &str) {
        assert_eq!(Printer { form: Form::Plain }.value(ValueType::Binary, Some(value)), plain);
        assert_eq!(json_members(ValueType::Binary, Some(value)), members);
    }

    #[test]
    fn a_line_of_presence_is_who_is_where() {
        let (plain, json) = (Printer { form: Form::Plain }, Printer { form: Form::Json });
        let entry = PresenceEntry { path: "a/b".into(), session: "1f-10002".into(), principal: "".into() };
        assert_eq!(plain.presence(&entry, None), "a/b 1f-10002");
        assert_eq!(plain.presence(&entry, Some(false)), "- a/b 1f-10002");
        let once = PresenceEntry { path: "".into(), principal: "admin".into(), ..entry };
        assert_eq!(plain.presence(&once, Some(true)), "+ 1f-10002 admin");
        assert_eq!(json.presence(&once, Some(true)), r#"{"event":"joined","path":"","session":"1f-10002","principal":"admin"}"#);
        assert_eq!(json.presence(&once, None), r#"{"path":"","session":"1f-10002","principal":"admin"}"#);
    }

    #[test]
    fn bytes_that_are_text_are_shown_as_text() {
        check(b"21.5", "21.5", r#","value":"MjEuNQ==","text":"21.5""#);
        check(br#"{"on":true}"#, r#"{"on":true}"#, r#","value":"eyJvbiI6dHJ1ZX0=","text":"{\"on\":true}""#);
        check("1 °C\n".as_bytes(), "1 °C\\n", r#","value":"MSDCsEMK","text":"1 °C\n""#);
        check(b"\xff\xfe", "0xfffe 2 bytes", r#","value":"//4=""#);
        check(b"a\0", "0x6100 2 bytes", r#","value":"YQA=""#);
        check(b"", "0x 0 bytes", r#","value":"""#);
    }
}
