//! `tidewire request`: asks another client, and prints what it answers; `tidewire respond`: answers others' requests, by a value or by a command.

use super::client::{Client, ClientError, Told};
use super::job::{self, Job};
use super::print::{Printer, Style, json_members, json_string, printable};
use super::read::{self, Failure, Target, error_name, exit};
use crate::value::{ValueType, scalar};
use crate::wire::native::{Ask, NULL_BIT, decode_message};
use crate::wire::varint::Reader;
use clap::Args;
use std::collections::VecDeque;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

#[derive(Args)]
pub struct RequestArguments {
    path: String,
    /// JSON text; for string and binary: raw text; binary also as hex (0x…) or @FILE
    #[arg(allow_hyphen_values = true)]
    value: String,
    /// json, string, int64, double or binary
    #[arg(long = "type", value_name = "TYPE", value_parser = read::value_type, default_value = "json")]
    kind: ValueType,
    /// Ask the session of this id, which must handle the path
    #[arg(long, value_name = "ID", conflicts_with = "filter")]
    session: Option<String>,
    /// Ask all sessions that this filter means
    #[arg(long)]
    filter: Option<String>,
    /// How long to wait for an answer; 0 for as long as the server allows
    #[arg(long, value_name = "MS", default_value_t = 0)]
    timeout: u64,
    /// One JSON object a line, also on a terminal
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Args)]
pub struct Respond {
    /// Requests to this path, and all below it that nobody nearer handles
    #[arg(required_unless_present = "authenticator")]
    path: Option<String>,
    /// Instead: what the server asks of its authenticator control:NAME, who somebody is. Question and answer are JSON, as of an endpoint
    #[arg(long, value_name = "NAME", conflicts_with = "path")]
    authenticator: Option<String>,
    /// What each request is answered
    #[arg(long, allow_hyphen_values = true, required_unless_present = "exec", conflicts_with = "exec")]
    value: Option<String>,
    /// What answers each request, run by sh: the value comes on its standard input, and what it prints is the answer. An exit code other than 0 rejects the
    /// request, with the first line of its errors. It is told REQUEST_PATH, REQUEST_TYPE and REQUEST_SESSION
    #[arg(long, value_name = "COMMAND")]
    exec: Option<String>,
    /// The type of the answers; json, with --exec that of each request
    #[arg(long = "type", value_name = "TYPE", value_parser = read::value_type)]
    kind: Option<ValueType>,
    /// Commands that run at once
    #[arg(long, value_name = "COUNT", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: u16,
    /// How long a command may take; then it is ended and the request rejected
    #[arg(long, value_name = "MS", default_value_t = 30_000)]
    timeout: u64,
    /// One JSON object a line, also on a terminal
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// The number of the one handler.
const HANDLER: u64 = 1;

/// How often commands that run are looked at.
const TURN: Duration = Duration::from_millis(5);

// Asking.

pub fn request(arguments: &RequestArguments) -> ExitCode {
    let printer = Printer::new(arguments.json);
    let run = || -> Result<(), Failure> {
        let value = read::value(arguments.kind, &arguments.value)?;
        let mut client = arguments.target.connect()?;
        let id = client.start(ask(arguments, &value))?;
        let body = client.wait(id)?;
        let failed = match arguments.filter {
            None => {
                let (kind, value) = decode_message(&mut Reader(&body)).map_err(|_| malformed())?;
                printer.print(std::iter::once(print_answer(printer, None, kind, value)?));
                0
            }
            Some(_) => {
                let asked = Reader(&body).varint().map_err(|_| malformed())?;
                print_answers(printer, &mut client, asked)?
            }
        };
        client.close()?;
        match failed {
            0 => Ok(()),
            1 => Err(Failure::Undone("one session has not answered".to_owned())),
            count => Err(Failure::Undone(format!("{count} sessions have not answered"))),
        }
    };
    exit(run())
}

fn ask<'a>(arguments: &'a RequestArguments, value: &'a [u8]) -> Ask<'a> {
    let RequestArguments { path, session, filter, timeout: timeout_ms, .. } = arguments;
    let (path, timeout_ms, kind, value) = (path.into(), *timeout_ms, arguments.kind as u8, value.into());
    match (session, filter) {
        (Some(session), _) => Ask::RequestSession { session: session.into(), path, timeout_ms, kind, value },
        (None, Some(filter)) => Ask::RequestFilter { filter: filter.into(), path, timeout_ms, kind, value },
        (None, None) => Ask::Request { path, timeout_ms, kind, value },
    }
}

/// Prints the answers of so many sessions as they come; how many have not answered.
fn print_answers(printer: Printer, client: &mut Client, asked: u64) -> Result<u64, Failure> {
    if asked == 0 {
        eprintln!("no session is meant");
    }
    let (mut left, mut failed) = (asked, 0);
    while left > 0 {
        let line = match client.next_told()? {
            Told::Response { session, kind, value } => {
                left -= 1;
                print_answer(printer, Some(&session), kind, value.as_deref())?
            }
            Told::ResponseError { session, code, message } => {
                // Without a session it is about all that have not answered.
                let of_these = if session.is_empty() { left } else { 1 };
                (left, failed) = (left - of_these, failed + of_these);
                print_error(printer, &session, code, &message)
            }
            Told::Requested { .. } | Told::Refused { .. } => continue,
        };
        printer.print(std::iter::once(line));
    }
    Ok(failed)
}

fn print_answer(printer: Printer, session: Option<&str>, kind: u8, value: Option<&[u8]>) -> Result<String, ClientError> {
    let kind = ValueType::from_number(kind).ok_or_else(malformed)?;
    if printer.is_json() {
        let session = session.map_or(String::new(), |session| format!(r#""session":{},"#, json_string(session)));
        return Ok(format!(r#"{{{session}"type":"{}"{}}}"#, kind.name(), json_members(kind, value)));
    }
    let session = session.map_or(String::new(), |session| printer.styled(Style::Path, &printable(session)) + " ");
    Ok(format!("{session}{}", printer.value(kind, value)))
}

fn print_error(printer: Printer, session: &str, code: u16, message: &str) -> String {
    let name = error_name(code);
    if printer.is_json() {
        let session = if session.is_empty() { String::new() } else { format!(r#""session":{},"#, json_string(session)) };
        return format!(r#"{{{session}"error":{{"code":{code},"name":"{name}","message":{}}}}}"#, json_string(message));
    }
    let session = if session.is_empty() { "others".to_owned() } else { printable(session) };
    let error = printer.styled(Style::Bad, &format!("error {code} {name}: {}", printable(message)));
    format!("{} {error}", printer.styled(Style::Path, &session))
}

// Answering.

/// A request of another client.
struct Asked {
    request: u64,
    path: String,
    session: String,
    kind: ValueType,
    value: Option<Vec<u8>>,
}

/// The value that it is answered, or why it is rejected.
type Answer = Result<(ValueType, Vec<u8>), String>;

pub fn respond(arguments: &Respond) -> ExitCode {
    let run = || -> Result<(), Failure> {
        let kind = arguments.kind.unwrap_or(ValueType::Json);
        let value = arguments.value.as_deref().map(|value| read::value(kind, value)).transpose()?;
        let client = arguments.target.connect()?;
        let (told, answered) = channel();
        let (printer, waiting) = (Printer::new(arguments.json), VecDeque::new());
        let mut responder =
            Responder { arguments, value: value.map(|value| (kind, value)), client, printer, waiting, running: 0, told, answered };
        responder.run()
    };
    exit(run())
}

struct Responder<'r> {
    arguments: &'r Respond,
    /// What each request is answered, where no command is run.
    value: Option<(ValueType, Vec<u8>)>,
    client: Client,
    printer: Printer,
    /// Requests whose commands do not run yet. The server has a bound for them.
    waiting: VecDeque<Asked>,
    running: usize,
    told: Sender<(Asked, Answer)>,
    answered: Receiver<(Asked, Answer)>,
}

impl Responder<'_> {
    /// Until there is no connection any more.
    fn run(&mut self) -> Result<(), Failure> {
        let Respond { path, authenticator, .. } = self.arguments;
        self.client.request(match authenticator {
            Some(name) => Ask::HandleAuthentication { handler: HANDLER, name: name.into() },
            None => {
                let path = path.as_deref().expect("a path, or a name, is required");
                Ask::HandleRequests { handler: HANDLER, path: path.into(), session_properties: Vec::new() }
            }
        })?;
        loop {
            let message = if self.running == 0 { Some(self.client.next_told()?) } else { self.client.told_within(TURN)? };
            match message {
                Some(Told::Requested { request, session, path, kind, value }) => {
                    let kind = ValueType::from_number(kind & !NULL_BIT).ok_or_else(malformed)?;
                    self.take(Asked { request, path, session, kind, value })?;
                }
                // Its time was over, or its asker gone.
                Some(Told::Refused { code, message }) => eprintln!("error {code} {}: {}", error_name(code), printable(&message)),
                Some(Told::Response { .. } | Told::ResponseError { .. }) | None => {}
            }
            while let Ok((asked, answer)) = self.answered.try_recv() {
                self.running -= 1;
                self.answer(&asked, &answer)?;
            }
            self.start_waiting();
        }
    }

    fn take(&mut self, asked: Asked) -> Result<(), ClientError> {
        if let Some(value) = self.value.clone() {
            return self.answer(&asked, &Ok(value));
        }
        self.waiting.push_back(asked);
        Ok(())
    }

    /// Starts commands while fewer run than may.
    fn start_waiting(&mut self) {
        while self.running < usize::from(self.arguments.jobs) {
            let Some(asked) = self.waiting.pop_front() else { return };
            self.running += 1;
            let (told, kind) = (self.told.clone(), self.arguments.kind.unwrap_or(asked.kind));
            let command = self.arguments.exec.clone().expect("a command, or a value, is required");
            let timeout = Duration::from_millis(self.arguments.timeout);
            std::thread::spawn(move || {
                let input = asked.value.as_deref().map(|value| as_text(asked.kind, value)).unwrap_or_default();
                let variables =
                    [("REQUEST_PATH", asked.path.as_str()), ("REQUEST_TYPE", asked.kind.name()), ("REQUEST_SESSION", &asked.session)];
                let printed = job::run(Job { command: &command, input, variables: &variables, timeout });
                let answer = printed.and_then(|printed| Ok((kind, from_text(kind, printed)?)));
                // Nobody is left to be told where the command ends meanwhile.
                let _ = told.send((asked, answer));
            });
        }
    }

    fn answer(&mut self, asked: &Asked, answer: &Answer) -> Result<(), ClientError> {
        // A message waits for no answer.
        if asked.request != 0 {
            let request = asked.request;
            self.client.start(match answer {
                Ok((kind, value)) => Ask::Respond { request, kind: *kind as u8, value: value.into() },
                Err(why) => Ask::Reject { request, message: why.into() },
            })?;
        }
        self.printer.print(std::iter::once(self.print(asked, answer)));
        Ok(())
    }

    fn print(&self, asked: &Asked, answer: &Answer) -> String {
        let Asked { path, session, kind, value, .. } = asked;
        let shown = self.arguments.authenticator.as_ref().map(|_| without_secret(value.as_deref().unwrap_or_default()));
        let value = shown.as_ref().or(value.as_ref());
        if self.printer.is_json() {
            let answer = match answer {
                Ok((kind, value)) => format!(r#""answer":{{"type":"{}"{}}}"#, kind.name(), json_members(*kind, Some(value))),
                Err(why) => format!(r#""rejected":{}"#, json_string(why)),
            };
            let (path, session, members) = (json_string(path), json_string(session), json_members(*kind, value.map(Vec::as_slice)));
            return format!(r#"{{"path":{path},"session":{session},"type":"{}"{members},{answer}}}"#, kind.name());
        }
        let asked =
            format!("{} {}", self.printer.styled(Style::Path, &printable(path)), self.printer.value(*kind, value.map(Vec::as_slice)));
        match answer {
            Ok((kind, value)) => format!("{asked} {} {}", self.printer.styled(Style::Faint, "→"), self.printer.value(*kind, Some(value))),
            Err(why) => format!("{asked} {}", self.printer.styled(Style::Bad, &format!("rejected: {}", printable(why)))),
        }
    }
}

/// A question of who somebody is, without what was shown for that.
fn without_secret(question: &[u8]) -> Vec<u8> {
    let Ok(mut question) = serde_json::from_slice::<serde_json::Value>(question) else { return b"{}".to_vec() };
    if let Some(credentials) = question.get_mut("credentials").and_then(serde_json::Value::as_object_mut) {
        credentials.retain(|name, _| name == "type");
    }
    question.to_string().into_bytes()
}

/// What a command reads.
fn as_text(kind: ValueType, value: &[u8]) -> Vec<u8> {
    match kind {
        ValueType::Json | ValueType::String | ValueType::Binary => value.to_vec(),
        ValueType::Int64 | ValueType::Double => {
            let mut text = Vec::new();
            scalar::append_json(kind, value, &mut text);
            // What is no number in JSON is a string there.
            text.retain(|byte| *byte != b'"');
            text
        }
    }
}

/// The value that a command has printed. The end of its last line is none of it, but of bytes.
fn from_text(kind: ValueType, mut printed: Vec<u8>) -> Result<Vec<u8>, String> {
    if kind == ValueType::Binary {
        return Ok(printed);
    }
    printed.pop_if(|last| *last == b'\n');
    let text = String::from_utf8(printed).map_err(|_| "the command has not printed text".to_owned())?;
    match kind {
        ValueType::Json => {
            let checked = serde_json::from_str::<serde::de::IgnoredAny>(&text);
            checked.map(|_| text.into_bytes()).map_err(|error| format!("the command has not printed JSON: {error}"))
        }
        ValueType::Int64 | ValueType::Double => {
            let mut value = Vec::new();
            let read = scalar::from_json(kind, text.trim(), &mut value);
            read.map(|()| value).map_err(|error| format!("the command has not printed a value of type {}: {}", kind.name(), error.message))
        }
        ValueType::String | ValueType::Binary => Ok(text.into_bytes()),
    }
}

fn malformed() -> ClientError {
    ClientError::Connection("the server sent a message that is not of the protocol".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: ValueType, printed: &str, expected: Result<&[u8], &str>) {
        match (from_text(kind, printed.as_bytes().to_vec()), expected) {
            (Ok(value), expected) => assert_eq!(Ok(&*value), expected, "{printed}"),
            (Err(error), Err(says)) => assert!(error.contains(says), "{error}"),
            (Err(error), Ok(_)) => panic!("{error}"),
        }
    }

    #[test]
    fn what_a_command_prints_is_a_value() {
        check(ValueType::Json, "{\"x\":1}\n", Ok(b"{\"x\":1}"));
        check(ValueType::Json, "", Err("has not printed JSON"));
        check(ValueType::Json, "yes\n", Err("has not printed JSON"));
        check(ValueType::String, "two\nlines\n", Ok(b"two\nlines"));
        check(ValueType::Int64, " 7 \n", Ok(&[0, 0, 0, 0, 0, 0, 0, 7]));
        check(ValueType::Int64, "7.5\n", Err("of type int64"));
        check(ValueType::Binary, "a\n", Ok(b"a\n"));
    }

    #[test]
    fn numbers_are_given_as_text() {
        assert_eq!(as_text(ValueType::Int64, &7_i64.to_be_bytes()), b"7");
        assert_eq!(as_text(ValueType::Double, &f64::NAN.to_be_bytes()), b"NaN");
    }
}
