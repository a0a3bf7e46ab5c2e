//! `tidewire series append|edit|query`: events of a time series.

use super::client::ClientError;
use super::instant;
use super::print::{Printer, Style, json_event_members};
use super::read::{self, Failure, Target, exit};
use crate::value::ValueType;
use crate::wire::native::{self, Append, Ask, EventEntry, Outcome, Query, QueryRange};
use crate::wire::varint::Reader;
use clap::{Args, Subcommand, ValueEnum};
use std::process::ExitCode;

#[derive(Subcommand)]
pub enum SeriesCommand {
    /// Append an event, and print its sequence and timestamp
    Append(AppendArguments),
    /// Override the value of an event; the original is kept
    Edit(EditArguments),
    /// Print events: by default all, each with its latest value
    Query(QueryArguments),
}

#[derive(Args)]
pub struct AppendArguments {
    path: String,
    /// JSON text; for string and binary: raw text; binary also as hex (0x…) or @FILE
    #[arg(allow_hyphen_values = true)]
    value: String,
    /// When it happened: milliseconds since 1970 or a time such as 2026-03-01T12:30:00Z; without it the server's clock
    #[arg(long, value_parser = instant::parse)]
    timestamp: Option<u64>,
    /// The type of the events: json, string, int64, double or binary; without it the topic's
    #[arg(long = "type", value_name = "TYPE", value_parser = read::value_type)]
    kind: Option<ValueType>,
    #[command(flatten)]
    target: Target,
}

#[derive(Args)]
pub struct EditArguments {
    path: String,
    /// The sequence of the event whose value is overridden
    original: u64,
    /// The new value
    #[arg(allow_hyphen_values = true)]
    value: String,
    /// The type of the events: json, string, int64, double or binary; without it the topic's
    #[arg(long = "type", value_name = "TYPE", value_parser = read::value_type)]
    kind: Option<ValueType>,
    #[command(flatten)]
    target: Target,
}

#[derive(Clone, Copy, ValueEnum)]
enum Edits {
    /// Of each event its latest edit
    Latest,
    /// All edits
    All,
}

#[derive(Args)]
pub struct QueryArguments {
    path: String,
    /// Where to begin: start, seq:N, time:WHEN, last:N (events) or last:10s (also ms, m, h, d)
    #[arg(long, value_name = "ANCHOR", value_parser = anchor)]
    from: Option<(u8, u64)>,
    /// How far to go: end, seq:N, time:WHEN, next:N, next:10s, until-last:N, until-last:10s, previous:N or previous:10s
    #[arg(long, value_name = "SPAN", value_parser = span)]
    to: Option<(u8, u64)>,
    /// Edits instead of values
    #[arg(long)]
    edits: Option<Edits>,
    /// Only edits from here on; as --from
    #[arg(long, value_name = "ANCHOR", value_parser = anchor)]
    edit_from: Option<(u8, u64)>,
    /// Only edits up to here; as --to
    #[arg(long, value_name = "SPAN", value_parser = span)]
    edit_to: Option<(u8, u64)>,
    /// Only the latest N of the events selected
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// One JSON object a line, also on a terminal
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// What follows the colon: events, or a duration where it has a unit.
enum Figure {
    Events(u64),
    Ms(u64),
}

const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("found '{text}', expected a number"))
}

fn figure(text: &str) -> Result<Figure, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (count, unit) = text.split_at(digits);
    if unit.is_empty() {
        return number(count).map(Figure::Events);
    }
    let (_, ms) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(|| format!("found '{unit}', expected ms, s, m, h or d"))?;
    let count = number(count)?;
    count.checked_mul(*ms).map(Figure::Ms).ok_or_else(|| format!("{text} is longer than milliseconds can say"))
}

/// The wire's number of an anchor, and its figure.
fn anchor(text: &str) -> Result<(u8, u64), String> {
    Ok(match text.split_once(':') {
        None if text == "start" => (0, 0),
        Some(("seq", at)) => (1, number(at)?),
        Some(("time", at)) => (2, instant::parse(at)?),
        Some(("last", count)) => match figure(count)? {
            Figure::Events(events) => (3, events),
            Figure::Ms(ms) => (4, ms),
        },
        _ => return Err("expected start, seq:N, time:WHEN, last:N or last:10s".to_owned()),
    })
}

/// The wire's number of a span, and its figure.
fn span(text: &str) -> Result<(u8, u64), String> {
    let counted = |count: &str, events: u8, ms: u8| {
        Ok(match figure(count)? {
            Figure::Events(count) => (events, count),
            Figure::Ms(count) => (ms, count),
        })
    };
    match text.split_once(':') {
        None if text == "end" => Ok((0, 0)),
        Some(("seq", at)) => Ok((1, number(at)?)),
        Some(("time", at)) => Ok((2, instant::parse(at)?)),
        Some(("next", count)) => counted(count, 3, 4),
        Some(("until-last", count)) => counted(count, 5, 6),
        Some(("previous", count)) => counted(count, 7, 8),
        _ => Err("expected end, seq:N, time:WHEN, next:N, next:10s, until-last:N, until-last:10s, previous:N or previous:10s".to_owned()),
    }
}

pub fn series(command: &SeriesCommand) -> ExitCode {
    exit(match command {
        SeriesCommand::Append(AppendArguments { path, value, timestamp, kind, target }) => {
            append(target, path, *kind, Append::Original { timestamp_ms: *timestamp }, value)
        }
        SeriesCommand::Edit(EditArguments { path, original, value, kind, target }) => {
            append(target, path, *kind, Append::Edit { original: *original }, value)
        }
        SeriesCommand::Query(arguments) => query(arguments),
    })
}

fn append(target: &Target, path: &str, kind: Option<ValueType>, append: Append, value: &str) -> Result<(), Failure> {
    let mut client = target.connect()?;
    let kind = match kind {
        Some(kind) => kind,
        None => client.find(path)?.map_or(ValueType::Json, |entry| entry.value_kind),
    };
    let value = read::value(kind, value)?;
    let body = client.request(Ask::Append { path: path.into(), kind: kind as u8, append, value: value.into() })?;
    let mut reader = Reader(&body);
    let (Ok(sequence), Ok(timestamp)) = (reader.varint(), reader.varint()) else { return Err(malformed().into()) };
    let printer = Printer::new(false);
    let line = match printer.is_json() {
        true => format!(r#"{{"sequence":{sequence},"timestamp":{timestamp}}}"#),
        false => format!("#{sequence} at {}", instant::print(timestamp)),
    };
    printer.print(std::iter::once(line));
    Ok(client.close()?)
}

fn query(arguments: &QueryArguments) -> Result<(), Failure> {
    let range = |from: Option<(u8, u64)>, to: Option<(u8, u64)>| QueryRange { anchor: from.unwrap_or((0, 0)), span: to.unwrap_or((0, 0)) };
    let has_edit_range = arguments.edit_from.is_some() || arguments.edit_to.is_some();
    let query = Query {
        kind: match arguments.edits {
            None => 0,
            Some(Edits::Latest) => 1,
            Some(Edits::All) => 2,
        },
        range: range(arguments.from, arguments.to),
        edit_range: has_edit_range.then(|| range(arguments.edit_from, arguments.edit_to)),
        limit: arguments.limit.unwrap_or(0),
    };
    let mut client = arguments.target.connect()?;
    let body = client.request(Ask::Query { path: arguments.path.as_str().into(), query })?;
    let Ok(Outcome::Events { is_complete, kind, events }) = native::decode_events(&mut Reader(&body)) else {
        return Err(malformed().into());
    };
    let printer = Printer::new(arguments.json);
    if printer.is_json() {
        printer.print(events.iter().map(|event| format!("{{{}}}", json_event_members(kind, event))));
    } else {
        printer.print(table(printer, kind, &events).into_iter());
    }
    if !is_complete {
        eprintln!("there are earlier ones: these are the latest {}", events.len());
    }
    Ok(client.close()?)
}

fn table(printer: Printer, kind: ValueType, events: &[EventEntry]) -> Vec<String> {
    let has_authors = events.iter().any(|event| !event.author.is_empty());
    let author_width = events.iter().map(|event| event.author.chars().count()).max().unwrap_or(0).max(6);
    let author = |text: &str| if has_authors { format!("  {text:author_width$}") } else { String::new() };
    let head = format!("{:>10}  {:24}  {:>10}{}  VALUE", "SEQUENCE", "TIME", "EDITS", author("AUTHOR"));
    let row = |event: &EventEntry| {
        let original = event.original.map_or(String::new(), |original| original.to_string());
        let original = printer.styled(Style::Changed, &format!("{original:>10}"));
        let (time, value) = (instant::print(event.timestamp_ms), printer.value(kind, Some(&event.value)));
        format!("{:>10}  {time}  {original}{}  {value}", event.sequence, author(&super::print::printable(&event.author)))
    };
    std::iter::once(printer.styled(Style::Faint, &head)).chain(events.iter().map(row)).collect()
}

fn malformed() -> ClientError {
    ClientError::Connection("the server sent something that is not of the protocol".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchors_are_the_wires() {
        for (text, expected) in [
            ("start", (0, 0)),
            ("seq:7", (1, 7)),
            ("time:1000", (2, 1000)),
            ("time:1970-01-01T00:00:01Z", (2, 1000)),
            ("last:10", (3, 10)),
            ("last:10s", (4, 10_000)),
            ("last:5ms", (4, 5)),
            ("last:2d", (4, 172_800_000)),
        ] {
            assert_eq!(anchor(text), Ok(expected), "{text}");
        }
        for text in ["", "end", "seq", "seq:", "seq:x", "last:10y", "last:s", "next:1", "last:-1", "last:99999999999999999999d"] {
            assert!(anchor(text).is_err(), "{text}");
        }
    }

    #[test]
    fn spans_are_the_wires() {
        for (text, expected) in [
            ("end", (0, 0)),
            ("seq:7", (1, 7)),
            ("time:1000", (2, 1000)),
            ("next:3", (3, 3)),
            ("next:3s", (4, 3000)),
            ("until-last:5", (5, 5)),
            ("until-last:1m", (6, 60_000)),
            ("previous:2", (7, 2)),
            ("previous:1h", (8, 3_600_000)),
        ] {
            assert_eq!(span(text), Ok(expected), "{text}");
        }
        for text in ["", "start", "next", "next:", "last:1", "until-last:1y"] {
            assert!(span(text).is_err(), "{text}");
        }
    }
}
