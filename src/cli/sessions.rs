//! `tidewire sessions`: who is connected, and how each does; `tidewire session`: steers sessions, by id or by filter.

use super::client::{Client, ClientError};
use super::print::{Printer, Style, json_object, json_string, printable};
use super::read::{self, Failure, Target, exit};
use super::table::{self, Column};
use crate::wire::native::{self, Ask, Outcome, SelectionEntry, SessionEntry};
use crate::wire::text::selection_name;
use crate::wire::varint::Reader;
use clap::{Args, Subcommand};
use std::process::ExitCode;

#[derive(Args)]
pub struct Sessions {
    /// Only those that this filter means, such as "Tier is 'gold' and not has Desk"
    #[arg(long)]
    filter: Option<String>,
    /// Those for which most bytes wait, the slowest first
    #[arg(long)]
    slowest: bool,
    /// At most so many; 20 of the slowest, else all
    #[arg(long, value_name = "COUNT")]
    first: Option<u64>,
    /// One JSON object a line, also on a terminal
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Subcommand)]
pub enum SessionCommand {
    /// End sessions for good, those too that have no connection now
    Close {
        /// A session's id, where no filter is given
        session: Option<String>,
        /// All that this filter means
        #[arg(long)]
        filter: Option<String>,
        /// What their clients are told
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
        #[command(flatten)]
        target: Target,
    },
    /// Have only the newest value of a topic wait for sessions, where its CONFLATION allows that
    Conflate {
        /// A session's id, where no filter is given
        session: Option<String>,
        /// All that this filter means
        #[arg(long)]
        filter: Option<String>,
        /// Undo it
        #[arg(long)]
        off: bool,
        #[command(flatten)]
        target: Target,
    },
    /// Set properties of sessions
    Set {
        /// A session's id, where no filter is given, then KEY=VALUE for each property; an empty value takes it away
        #[arg(required = true, value_name = "ID | KEY=VALUE")]
        words: Vec<String>,
        /// All that this filter means
        #[arg(long)]
        filter: Option<String>,
        #[command(flatten)]
        target: Target,
    },
    /// Give roles to sessions and take roles from them, until their clients show anew who they are
    Roles {
        /// A session's id, where no filter is given
        session: Option<String>,
        /// All that this filter means
        #[arg(long)]
        filter: Option<String>,
        /// A role that they get, as often as there are some
        #[arg(long, value_name = "ROLE")]
        add: Vec<String>,
        /// A role that they lose, as often as there are some
        #[arg(long, value_name = "ROLE")]
        remove: Vec<String>,
        #[command(flatten)]
        target: Target,
    },
    /// Print what a session selects
    Selections {
        session: String,
        /// One JSON object a line, also on a terminal
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        target: Target,
    },
}

/// How many of the slowest are shown.
const SLOWEST: u64 = 20;

pub fn sessions(arguments: &Sessions) -> ExitCode {
    let printer = Printer::new(arguments.json);
    let list = || -> Result<(), Failure> {
        let mut client = arguments.target.connect()?;
        let sessions = all(&mut client, arguments)?;
        if printer.is_json() {
            printer.print(sessions.iter().map(json_session));
        } else {
            printer.print(table::print(printer, &columns(&sessions)).into_iter());
        }
        Ok(client.close()?)
    };
    exit(list())
}

/// All pages: the next one is behind the last session. Of the slowest there is one page.
fn all(client: &mut Client, arguments: &Sessions) -> Result<Vec<SessionEntry>, ClientError> {
    let Sessions { filter, slowest, first, .. } = arguments;
    let first = first.unwrap_or(if *slowest { SLOWEST } else { u64::MAX });
    let filter = filter.as_deref().unwrap_or_default();
    let mut all: Vec<SessionEntry> = Vec::new();
    while (all.len() as u64) < first {
        let after = all.last().map_or("", |entry| entry.session.as_str()).to_owned();
        let first = first - all.len() as u64;
        let first = if first > u64::from(u32::MAX) { 0 } else { first };
        let body = client.request(Ask::ListSessions { filter: filter.into(), after: after.into(), first, slowest: *slowest })?;
        let Ok(Outcome::Sessions { has_more, sessions }) = native::decode_sessions(&mut Reader(&body)) else { return Err(malformed()) };
        let is_end = sessions.is_empty() || !has_more || *slowest;
        all.extend(sessions);
        if is_end {
            break;
        }
    }
    Ok(all)
}

pub fn session(command: &SessionCommand) -> ExitCode {
    match command {
        SessionCommand::Close { session, filter, reason, target } => {
            order(target, session.as_deref(), filter.as_deref(), "closed", |meant| {
                let Meant { session, filter } = meant;
                Ask::CloseSessions { session: session.into(), filter: filter.into(), message: reason.into() }
            })
        }
        SessionCommand::Conflate { session, filter, off, target } => {
            let done = if *off { "no longer conflated" } else { "conflated" };
            order(target, session.as_deref(), filter.as_deref(), done, |Meant { session, filter }| Ask::ConflateSessions {
                session: session.into(),
                filter: filter.into(),
                conflated: !off,
            })
        }
        SessionCommand::Set { words, filter, target } => set(words, filter.as_deref(), target),
        SessionCommand::Roles { add, remove, .. } if add.is_empty() && remove.is_empty() => {
            exit(Err(Failure::Usage("expected roles, by --add or --remove".to_owned())))
        }
        SessionCommand::Roles { session, filter, add, remove, target } => {
            let roles = |names: &'_ [String]| names.iter().map(|name| name.clone().into()).collect();
            order(target, session.as_deref(), filter.as_deref(), "changed", |Meant { session, filter }| Ask::ChangeRoles {
                session: session.into(),
                filter: filter.into(),
                remove: roles(remove),
                add: roles(add),
            })
        }
        SessionCommand::Selections { session, json, target } => selections(session, *json, target),
    }
}

fn set(words: &[String], filter: Option<&str>, target: &Target) -> ExitCode {
    let (session, words) = match (filter, words) {
        (None, [session, words @ ..]) => (Some(session.as_str()), words),
        _ => (None, words),
    };
    let properties: Result<Vec<(String, String)>, String> =
        words.iter().map(|word| read::property(word).map_err(|error| format!("'{word}': {error}"))).collect();
    match properties {
        Ok(properties) if !properties.is_empty() => order(target, session, filter, "set", |Meant { session, filter }| {
            Ask::SetSessionProperties { session: session.into(), filter: filter.into(), properties: read::to_wire(&properties) }
        }),
        Ok(_) => exit(Err(Failure::Usage("expected KEY=VALUE behind the session's id".to_owned()))),
        Err(error) => exit(Err(Failure::Usage(error))),
    }
}

/// Which sessions are meant: one of these is empty.
struct Meant<'m> {
    session: &'m str,
    filter: &'m str,
}

fn order<'a>(
    target: &Target,
    session: Option<&'a str>,
    filter: Option<&'a str>,
    done: &str,
    ask: impl FnOnce(Meant<'a>) -> Ask<'a>,
) -> ExitCode {
    let run = || -> Result<(), Failure> {
        let meant = match (session, filter) {
            (Some(session), None) if !session.is_empty() => Meant { session, filter: "" },
            (None, Some(filter)) if !filter.is_empty() => Meant { session: "", filter },
            _ => return Err(Failure::Usage("expected either the id of a session or --filter".to_owned())),
        };
        let mut client = target.connect()?;
        let body = client.request(ask(meant))?;
        let count = Reader(&body).varint().map_err(|_| malformed())?;
        client.close()?;
        if let (0, Some(session)) = (count, session) {
            return Err(Failure::Undone(format!("there is no session '{}' any more", printable(session))));
        }
        eprintln!("{done}: {count} {}", if count == 1 { "session" } else { "sessions" });
        Ok(())
    };
    exit(run())
}

fn selections(session: &str, json: bool, target: &Target) -> ExitCode {
    let printer = Printer::new(json);
    let run = || -> Result<(), Failure> {
        let mut client = target.connect()?;
        let mut after = 0;
        loop {
            let body = client.request(Ask::ListSelections { session: session.into(), after, first: 0 })?;
            let Ok(Outcome::Selections { has_more, selections }) = native::decode_selections(&mut Reader(&body)) else {
                return Err(malformed().into());
            };
            after += selections.len() as u64;
            printer.print(selections.iter().map(|selection| print_selection(printer, selection)));
            if !has_more {
                return Ok(client.close()?);
            }
        }
    };
    exit(run())
}

fn print_selection(printer: Printer, selection: &SelectionEntry) -> String {
    let SelectionEntry { scope, selector, kind } = selection;
    let name = selection_name(*kind);
    if printer.is_json() {
        return format!(r#"{{"scope":{},"selector":{},"kind":"{name}"}}"#, json_string(scope), json_string(selector));
    }
    let style = if *kind == native::SELECTION_DESELECTS { Style::Bad } else { Style::Good };
    let scope = if scope.is_empty() { String::new() } else { printer.styled(Style::Faint, &format!("  scope {}", printable(scope))) };
    format!("{} {}{scope}", printer.styled(style, &format!("{name:8}")), printer.styled(Style::Path, &printable(selector)))
}

fn malformed() -> ClientError {
    ClientError::Connection("the server sent sessions that are not of the protocol".to_owned())
}

fn json_session(entry: &SessionEntry) -> String {
    let SessionEntry { session, is_away, subscriptions, queue_bytes, sent_bytes, conflations, is_conflated, dropped, .. } = entry;
    let properties = json_object(entry.properties.iter().map(|(key, value)| (&**key, &**value)));
    let idle = entry.idle_ms.map_or(String::new(), |idle_ms| format!(r#","idle_ms":{idle_ms}"#));
    let (session, rate) = (json_string(session), entry.sent_bytes_per_s);
    format!(
        r#"{{"session":{session},"away":{is_away},"properties":{properties},"subscriptions":{subscriptions},"queue_bytes":{queue_bytes},"sent_bytes":{sent_bytes},"conflations":{conflations},"conflated":{is_conflated},"dropped":{dropped},"sent_bytes_per_s":{rate}{idle}}}"#
    )
}

/// The columns of the table. Where they do not fit the least wanted go.
fn columns(sessions: &[SessionEntry]) -> Vec<Column> {
    let property = |entry: &SessionEntry, wanted: &str| {
        let found = entry.properties.iter().find(|(key, _)| **key == *wanted);
        found.map_or(String::new(), |(_, value)| printable(value))
    };
    let column = |head, rank, cell: &dyn Fn(&SessionEntry) -> String| Column::new(head, rank, sessions.iter().map(cell).collect());
    let state = |entry: &SessionEntry| match (entry.is_away, entry.is_conflated) {
        (true, true) => "away, conflated".to_owned(),
        (true, false) => "away".to_owned(),
        (false, true) => "conflated".to_owned(),
        (false, false) => String::new(),
    };
    let own = |entry: &SessionEntry| {
        let own = entry.properties.iter().filter(|(key, _)| !key.starts_with('$'));
        own.map(|(key, value)| format!("{key}={}", printable(value))).collect::<Vec<_>>().join(" ")
    };
    vec![
        column("SESSION", 0, &|entry| printable(&entry.session)),
        column("QUEUE", 0, &|entry| bytes(entry.queue_bytes)).right(),
        column("SENT/S", 1, &|entry| bytes(entry.sent_bytes_per_s)).right(),
        column("IDLE", 2, &|entry| entry.idle_ms.map_or(String::new(), duration)).right(),
        column("CONFLATIONS", 4, &|entry| count(entry.conflations)).right(),
        column("DROPPED", 4, &|entry| count(entry.dropped)).right(),
        column("TOPICS", 6, &|entry| entry.subscriptions.to_string()).right(),
        column("SENT", 8, &|entry| bytes(entry.sent_bytes)).right(),
        column("STATE", 3, &state),
        column("ADDRESS", 5, &|entry| property(entry, "$ClientIP")),
        column("CLIENT", 7, &|entry| property(entry, "$ClientType")),
        column("PROPERTIES", 9, &own).cut(),
    ]
}

/// A column of nothing but these is not shown.
fn count(number: u64) -> String {
    if number == 0 { String::new() } else { number.to_string() }
}

/// Three digits at least, as in `48.1K`.
fn bytes(number: u64) -> String {
    let units = [(1 << 40, "T"), (1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")];
    match units.into_iter().find(|(unit, _)| number >= *unit) {
        Some((unit, name)) => {
            let tenths = u128::from(number) * 10 / u128::from(unit);
            if tenths < 1000 { format!("{}.{}{name}", tenths / 10, tenths % 10) } else { format!("{}{name}", tenths / 10) }
        }
        None => number.to_string(),
    }
}

fn duration(ms: u64) -> String {
    match ms {
        0..10_000 => format!("{}.{}s", ms / 1000, ms % 1000 / 100),
        10_000..600_000 => format!("{}s", ms / 1000),
        600_000..36_000_000 => format!("{}m", ms / 60_000),
        _ => format!("{}h", ms / 3_600_000),
    }
}

#[cfg(test)]
mod tests {
    use super::super::print::Form;
    use super::*;
    use crate::wire::event;

    fn entry() -> SessionEntry {
        SessionEntry {
            session: "1f-10002".to_owned(),
            is_away: true,
            properties: [("$ClientIP".into(), "10.0.0.7".into()), ("Tier".into(), "\"gold\"".into())].into(),
            subscriptions: 3,
            queue_bytes: 48_112,
            sent_bytes: 70_000,
            conflations: 41,
            is_conflated: false,
            dropped: 0,
            sent_bytes_per_s: 1500,
            idle_ms: Some(820),
        }
    }

    fn check_json(entry: &SessionEntry) {
        let mut answer = Vec::new();
        let outcome = Outcome::Sessions { has_more: false, sessions: vec![entry.clone()] };
        event::put(&mut answer, event::Form::Text, &event::Event::Ok { id: 1, outcome: &outcome });
        let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json_session(entry)).unwrap(), answer["sessions"][0]);
    }

    #[test]
    fn json_is_that_of_the_text_form() {
        check_json(&entry());
        check_json(&SessionEntry { idle_ms: None, is_conflated: true, ..entry() });
        let selection = SelectionEntry { scope: "s".into(), selector: "?a//".into(), kind: 0 };
        let line = print_selection(Printer { form: Form::Json }, &selection);
        assert_eq!(line, r#"{"scope":"s","selector":"?a//","kind":"deselect"}"#);
    }

    #[test]
    fn figures_are_short() {
        for (number, shown) in [(0, "0"), (1023, "1023"), (1024, "1.0K"), (48_112, "46.9K"), (102_400, "100K"), (3 << 20, "3.0M")] {
            assert_eq!(bytes(number), shown);
        }
        for (ms, shown) in [(820, "0.8s"), (9999, "9.9s"), (45_000, "45s"), (900_000, "15m"), (90_000_000, "25h")] {
            assert_eq!(duration(ms), shown);
        }
    }

    #[test]
    fn the_table_has_what_there_is_to_say() {
        let expected = [
            "SESSION   QUEUE  SENT/S  IDLE  CONFLATIONS  TOPICS   SENT  STATE  ADDRESS   PROPERTIES",
            "1f-10002  46.9K    1.4K  0.8s           41       3  68.3K  away   10.0.0.7  Tier=\"gold\"",
        ];
        assert_eq!(table::fit(Printer { form: Form::Plain }, &columns(&[entry()]), None), expected);
    }
}
