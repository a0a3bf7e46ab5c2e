//! `tidewire set|fetch|sub|remove`: one command, one session.

use super::client::{Change, Client, ClientError};
use crate::protocol::{ErrorCode, Reason};
use crate::value::{ValueType, scalar};
use clap::Args;
use std::io::{BufWriter, IsTerminal, Write};
use std::process::ExitCode;

#[derive(Args)]
pub struct Target {
    /// The server's address
    #[arg(long, env = "TIDEWIRE_URL", default_value = "ws://127.0.0.1:8080")]
    server: String,
}

#[derive(Args)]
pub struct Set {
    path: String,
    /// JSON text; for string and binary: raw text; binary also as hex (0x…) or @FILE
    #[arg(allow_hyphen_values = true)]
    value: String,
    /// json, string, int64, double or binary; without it an existing topic's type, else json
    #[arg(long = "type", value_parser = parse_kind)]
    kind: Option<ValueType>,
    #[command(flatten)]
    target: Target,
}

#[derive(Args)]
pub struct Select {
    selector: String,
    /// One JSON object a line, also on a terminal
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Args)]
pub struct Remove {
    selector: String,
    #[command(flatten)]
    target: Target,
}

fn parse_kind(name: &str) -> Result<ValueType, String> {
    ValueType::from_name(name).ok_or_else(|| "expected json, string, int64, double or binary".to_owned())
}

/// 0 done, 1 refused by the server, 2 usage, 3 no connection.
pub fn exit(result: Result<(), ClientError>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(ClientError::Refused { code, position, message }) => {
            let name = ErrorCode::ALL.iter().find(|known| known.code() == code).map_or("unknown", |known| known.name());
            let at = position.map_or(String::new(), |position| format!(" (at byte {position})"));
            eprintln!("error {code} {name}: {message}{at}");
            ExitCode::from(1)
        }
        Err(ClientError::Connection(message)) => {
            eprintln!("error: {message}");
            ExitCode::from(3)
        }
    }
}

pub fn set(arguments: &Set) -> ExitCode {
    let mut client = match Client::connect(&arguments.target.server) {
        Ok(client) => client,
        Err(error) => return exit(Err(error)),
    };
    let kind = match arguments.kind.map_or_else(|| existing_kind(&mut client, &arguments.path), Ok) {
        Ok(kind) => kind,
        Err(error) => return exit(Err(error)),
    };
    let value = match read_value(kind, &arguments.value) {
        Ok(value) => value,
        Err(message) => {
            eprintln!("error: the value is not {}: {message}", kind.name());
            return ExitCode::from(2);
        }
    };
    exit(client.add_and_set(&arguments.path, kind, &value).and_then(|()| client.close()))
}

fn existing_kind(client: &mut Client, path: &str) -> Result<ValueType, ClientError> {
    match client.fetch(&format!(">{path}"), "", false) {
        Ok((entries, _)) => Ok(entries.first().map_or(ValueType::Json, |entry| entry.value_kind)),
        // The path does not parse: the update says so in the words of paths.
        Err(ClientError::Refused { .. }) => Ok(ValueType::Json),
        Err(error) => Err(error),
    }
}

fn read_value(kind: ValueType, text: &str) -> Result<Vec<u8>, String> {
    match kind {
        ValueType::String => Ok(text.as_bytes().to_vec()),
        ValueType::Json => Ok(text.as_bytes().to_vec()),
        ValueType::Binary => read_binary(text),
        ValueType::Int64 | ValueType::Double => {
            let mut value = Vec::new();
            scalar::from_json(kind, text, &mut value).map_err(|error| error.message.to_string())?;
            Ok(value)
        }
    }
}

fn read_binary(text: &str) -> Result<Vec<u8>, String> {
    if let Some(file) = text.strip_prefix('@') {
        return std::fs::read(file).map_err(|error| format!("{file}: {error}"));
    }
    let Some(hex) = text.strip_prefix("0x") else { return Ok(text.as_bytes().to_vec()) };
    let digits: Option<Vec<u8>> = hex.chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0).ok_or("expected an even number of hex digits behind 0x")?;
    Ok(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

pub fn fetch(arguments: &Select) -> ExitCode {
    let printer = Printer::new(arguments.json);
    let run = || -> Result<(), ClientError> {
        let mut client = Client::connect(&arguments.target.server)?;
        let mut after = String::new();
        loop {
            let (entries, has_more) = client.fetch(&arguments.selector, &after, true)?;
            if let Some(last) = entries.last() {
                after.clone_from(&last.path);
            }
            printer.print(entries.iter().map(|entry| printer.topic(&entry.path, entry.value_kind, entry.value.as_deref())));
            if !has_more {
                return client.close();
            }
        }
    };
    exit(run())
}

pub fn sub(arguments: &Select) -> ExitCode {
    let printer = Printer::new(arguments.json);
    let run = || -> Result<(), ClientError> {
        let mut client = Client::connect(&arguments.target.server)?;
        client.subscribe(&arguments.selector)?;
        loop {
            let change = client.next_change()?;
            printer.print(std::iter::once(printer.change(&change)));
        }
    };
    exit(run())
}

pub fn remove(arguments: &Remove) -> ExitCode {
    let run = || -> Result<(), ClientError> {
        let mut client = Client::connect(&arguments.target.server)?;
        let count = client.remove(&arguments.selector)?;
        eprintln!("removed {count} {}", if count == 1 { "topic" } else { "topics" });
        client.close()
    };
    exit(run())
}

/// Prints for people on a terminal, JSON lines in a pipe.
struct Printer {
    is_json: bool,
}

impl Printer {
    fn new(json: bool) -> Self {
        Self { is_json: json || !std::io::stdout().is_terminal() }
    }

    /// A reader that went away ends the command quietly.
    fn print(&self, lines: impl Iterator<Item = String>) {
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

    fn topic(&self, path: &str, kind: ValueType, value: Option<&[u8]>) -> String {
        if self.is_json {
            return format!(
                r#"{{"path":{},"type":"{}","value":{}}}"#,
                json_string(path),
                kind.name(),
                value.map_or("null".into(), |v| json_value(kind, v))
            );
        }
        let value = value.map_or("\x1b[2mno value\x1b[0m".to_owned(), |value| readable(kind, value));
        format!("\x1b[36m{}\x1b[0m \x1b[2m{}\x1b[0m {value}", printable(path), kind.name())
    }

    fn change(&self, change: &Change) -> String {
        let (event, path, kind) = match change {
            Change::Subscribed { path, kind } => ("subscribed", path, *kind),
            Change::Value { path, kind, .. } => ("value", path, *kind),
            Change::Unsubscribed { path, kind, .. } => ("unsubscribed", path, *kind),
        };
        let reason =
            |number: u8| Reason::ALL.iter().find(|reason| reason.code() == u16::from(number)).map_or("unknown", |reason| reason.name());
        if self.is_json {
            let rest = match change {
                Change::Value { value, .. } => format!(r#","value":{}"#, json_value(kind, value)),
                Change::Unsubscribed { reason: number, .. } => format!(r#","reason":"{}""#, reason(*number)),
                Change::Subscribed { .. } => String::new(),
            };
            return format!(r#"{{"event":"{event}","path":{},"type":"{}"{rest}}}"#, json_string(path), kind.name());
        }
        match change {
            Change::Value { value, .. } => self.topic(path, kind, Some(value)),
            Change::Subscribed { .. } => format!("\x1b[32m+\x1b[0m \x1b[36m{}\x1b[0m \x1b[2m{}\x1b[0m", printable(path), kind.name()),
            Change::Unsubscribed { reason: number, .. } => {
                format!("\x1b[31m-\x1b[0m \x1b[36m{}\x1b[0m \x1b[2m{}\x1b[0m", printable(path), reason(*number))
            }
        }
    }
}

fn json_string(text: &str) -> String {
    serde_json::to_string(text).expect("a string prints")
}

fn json_value(kind: ValueType, value: &[u8]) -> String {
    let mut out = Vec::new();
    scalar::append_json(kind, value, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// Text from elsewhere must not steer the terminal.
fn printable(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] }).collect()
}

fn readable(kind: ValueType, value: &[u8]) -> String {
    match kind {
        ValueType::String => printable(&String::from_utf8_lossy(value)),
        ValueType::Binary => {
            let shown: String = value.iter().take(32).map(|byte| format!("{byte:02x}")).collect();
            format!("0x{shown}{} \x1b[2m{} bytes\x1b[0m", if value.len() > 32 { "…" } else { "" }, value.len())
        }
        _ => printable(&json_value(kind, value)),
    }
}
