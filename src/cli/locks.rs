//! `tidewire lock`: a command runs while a lock is held; `tidewire locks`: who holds which.
//!
//! The lock is held as long as the connection. Both sides notice a lost one, this side first: it sends PING in half of the time after which it gives up, and the
//! server gives up after twice that time. So the command is ended before another is granted the lock, as far as it ends when it is told.

use super::client::{Client, ClientError, Coming};
use super::print::{Printer, Style, json_string, printable};
use super::read::{Failure, Target, exit};
use crate::session::LockScope;
use crate::wire::native::{self, Ask, LockEntry, Outcome};
use crate::wire::text::lock_scope_name;
use crate::wire::varint::Reader;
use clap::Args;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

#[derive(Args)]
pub struct Lock {
    /// The lock's name, by the rules of topic paths
    name: String,
    /// What runs while the lock is held, with its arguments; it is told the grant's number as LOCK_NUMBER
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
    #[command(flatten)]
    target: Target,
}

#[derive(Args)]
pub struct Locks {
    /// One JSON object a line, also on a terminal
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// How often the command is looked at.
const TURN: Duration = Duration::from_millis(20);

/// So long a command may take that is told to end.
const ENDING: Duration = Duration::from_secs(5);

/// The exit code of a command that a signal has ended is this and the signal's number, as shells have it.
const EXIT_SIGNAL: i32 = 128;

pub fn lock(arguments: &Lock) -> ExitCode {
    match run(arguments) {
        Ok(status) => {
            let code = status.code().or_else(|| Some(EXIT_SIGNAL + status.signal()?)).unwrap_or(EXIT_SIGNAL);
            ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
        }
        Err(failure) => exit(Err(failure)),
    }
}

fn run(arguments: &Lock) -> Result<ExitStatus, Failure> {
    let mut session = Session::new(arguments.target.connect()?);
    let name = arguments.name.as_str();
    let body = session.ask(Ask::Lock { name: name.into(), scope: LockScope::Connection as u8 })?;
    let number = Reader(&body).varint().map_err(|_| malformed())?;
    let is_told_to_end = Arc::new(AtomicBool::new(false));
    // A command on a terminal is interrupted with this one, which waits for it.
    let is_interrupted = Arc::new(AtomicBool::new(false));
    for (signal, flag) in [(SIGTERM, &is_told_to_end), (SIGINT, &is_interrupted)] {
        signal_hook::flag::register(signal, flag.clone()).map_err(|error| Failure::Usage(error.to_string()))?;
    }
    let (program, rest) = arguments.command.split_first().expect("a command is required");
    let child = Command::new(program).args(rest).env("LOCK_NUMBER", number.to_string()).spawn();
    let mut child = child.map_err(|error| Failure::Usage(format!("cannot run {}: {error}", program.display())))?;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(|error| Failure::Usage(error.to_string()))? {
            break status;
        }
        if is_told_to_end.swap(false, Ordering::Relaxed) {
            tell_to_end(&child);
        }
        if let Err(error) = session.turn(None) {
            eprintln!("error: the lock '{}' is lost, and the command is ended", printable(name));
            end(&mut child);
            return Err(error.into());
        }
    };
    // The command is done, and the server releases what a lost connection held.
    if session.ask(Ask::Unlock { name: name.into(), number }).is_ok() {
        let _ = session.client.close();
    }
    Ok(status)
}

/// A session that notices when it may be lost.
struct Session {
    client: Client,
    heard: Instant,
    pinged: Instant,
    /// Nothing is heard for so long of a server that is there.
    silence_max: Duration,
}

impl Session {
    fn new(client: Client) -> Self {
        let (now, silence_max) = (Instant::now(), Duration::from_millis(client.keep_alive_ms));
        Self { client, heard: now, pinged: now, silence_max }
    }

    fn ask(&mut self, ask: Ask<'_>) -> Result<Vec<u8>, ClientError> {
        let id = self.client.start(ask)?;
        loop {
            if let Some(body) = self.turn(Some(id))? {
                return Ok(body);
            }
        }
    }

    /// Hears what comes in a short time; the answer to `id`, if that was in it.
    fn turn(&mut self, id: Option<u64>) -> Result<Option<Vec<u8>>, ClientError> {
        let coming = self.client.hear(id, TURN)?;
        if !matches!(coming, Coming::Nothing) {
            self.heard = Instant::now();
        }
        if self.heard.elapsed() > self.silence_max {
            return Err(ClientError::Connection(format!("the server has said nothing for {} ms", self.silence_max.as_millis())));
        }
        if self.pinged.elapsed() > self.silence_max / 2 {
            self.client.ping()?;
            self.pinged = Instant::now();
        }
        Ok(if let Coming::Answer(body) = coming { Some(body) } else { None })
    }
}

fn tell_to_end(child: &Child) {
    // SAFETY: the process is our child and not waited for yet, so its number is nobody else's.
    unsafe { libc::kill(child.id() as i32, SIGTERM) };
}

/// Ends the command, by force if it takes too long.
fn end(child: &mut Child) {
    tell_to_end(child);
    let started = Instant::now();
    while started.elapsed() < ENDING {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        std::thread::sleep(TURN);
    }
    let _ = child.kill();
    let _ = child.wait();
}

fn malformed() -> ClientError {
    ClientError::Connection("the server sent locks that are not of the protocol".to_owned())
}

// Lists.

pub fn locks(arguments: &Locks) -> ExitCode {
    let printer = Printer::new(arguments.json);
    let list = || -> Result<(), Failure> {
        let mut client = arguments.target.connect()?;
        let locks = all(&mut client)?;
        if printer.is_json() {
            printer.print(locks.iter().map(json_lock));
        } else {
            printer.print(table(printer, &locks).into_iter());
        }
        Ok(client.close()?)
    };
    exit(list())
}

/// All pages: the next one is behind the name of the last lock.
fn all(client: &mut Client) -> Result<Vec<LockEntry>, ClientError> {
    let mut all: Vec<LockEntry> = Vec::new();
    loop {
        let after = all.last().map_or("", |lock| lock.name.as_str()).to_owned();
        let body = client.request(Ask::ListLocks { after: after.into() })?;
        let Ok(Outcome::Locks { has_more, locks }) = native::decode_locks(&mut Reader(&body)) else { return Err(malformed()) };
        let is_end = locks.is_empty() || !has_more;
        all.extend(locks);
        if is_end {
            return Ok(all);
        }
    }
}

fn json_lock(lock: &LockEntry) -> String {
    let LockEntry { name, session, number, scope, waiting } = lock;
    let (name, session, scope) = (json_string(name), json_string(session), lock_scope_name(*scope));
    format!(r#"{{"name":{name},"session":{session},"number":{number},"scope":"{scope}","waiting":{waiting}}}"#)
}

/// One line a lock below a head, in columns; nothing where there is none.
fn table(printer: Printer, locks: &[LockEntry]) -> Vec<String> {
    if locks.is_empty() {
        return Vec::new();
    }
    let head = ["NAME", "NUMBER", "WAITING", "SCOPE", "SESSION"].map(str::to_owned);
    let row = |lock: &LockEntry| {
        let [number, waiting] = [lock.number, lock.waiting].map(|number| number.to_string());
        [printable(&lock.name), number, waiting, lock_scope_name(lock.scope).to_owned(), printable(&lock.session)]
    };
    let rows: Vec<[String; 5]> = locks.iter().map(row).collect();
    let width = |column: usize| std::iter::once(&head).chain(&rows).map(|row| row[column].chars().count()).max().unwrap_or(0);
    let [names, numbers, waits, scopes] = [0, 1, 2, 3].map(width);
    let line = |style: Style, [name, number, waiting, scope, session]: &[String; 5]| {
        let name = printer.styled(style, &format!("{name:names$}"));
        format!("{name}  {number:>numbers$}  {waiting:>waits$}  {scope:scopes$}  {session}")
    };
    std::iter::once(line(Style::Faint, &head)).chain(rows.iter().map(|row| line(Style::Path, row))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::print::Form;
    use super::*;
    use crate::wire::event;

    fn held(name: &str, number: u64, waiting: u64) -> LockEntry {
        LockEntry { name: name.to_owned(), session: "1f-10002".to_owned(), number, scope: (number % 2) as u8, waiting }
    }

    #[test]
    fn a_table_stands_in_columns() {
        let expected = [
            "NAME         NUMBER  WAITING  SCOPE       SESSION",
            "jobs/import       7        0  connection  1f-10002",
            "x              1200       12  session     1f-10002",
        ];
        let plain = Printer { form: Form::Plain };
        assert_eq!(table(plain, &[held("jobs/import", 7, 0), held("x", 1200, 12)]), expected);
        assert!(table(plain, &[]).is_empty());
    }

    #[test]
    fn json_is_that_of_the_text_form() {
        let lock = held("a \"lock\"", 7, 1);
        let mut answer = Vec::new();
        let outcome = Outcome::Locks { has_more: false, locks: vec![lock.clone()] };
        event::put(&mut answer, event::Form::Text, &event::Event::Ok { id: 1, outcome: &outcome });
        let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json_lock(&lock)).unwrap(), answer["locks"][0]);
    }
}
