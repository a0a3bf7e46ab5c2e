//! `tidewire security show|apply|check|explain`: what roles permit, of a server or of a script, and which line decides.
//!
//! Exit codes of `explain`: 0 allowed, 1 not allowed, 2 where that cannot be said, 3 no connection.

use super::client::{Client, ClientError};
use super::print::{Printer, printable};
use super::read::{Failure, Target, error_name, exit};
use crate::protocol::ErrorCode;
use crate::security::{
    Asked, Author, Explanation, PrincipalLimits, PrincipalScript, PrincipalStore, SecurityLimits, SecurityScript, SecurityStore,
    SessionKind,
};
use crate::wire::native::{self, Ask, Outcome};
use crate::wire::varint::Reader;
use clap::{Args, Subcommand};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Subcommand)]
pub enum SecurityCommand {
    /// Print what roles permit, as the script that makes it from nothing
    Show(Show),
    /// Apply a script, as a whole or not at all
    Apply(Apply),
    /// Say whether a script could be applied, and if not, where it is wrong
    Check(Check),
    /// Say whether roles permit something, and by which line. Exit code 0: allowed, 1: not allowed
    Explain(Explain),
}

#[derive(Args)]
pub struct Show {
    #[command(flatten)]
    target: Target,
}

#[derive(Args)]
pub struct Apply {
    /// The script; - for standard input
    file: PathBuf,
    #[command(flatten)]
    target: Target,
}

#[derive(Args)]
pub struct Check {
    /// The script; - for standard input
    file: PathBuf,
    /// Check it without a server, for a store without roles
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    instead: Instead,
    #[command(flatten)]
    target: Target,
}

#[derive(Args)]
pub struct Explain {
    /// What is asked for; a path where it is a permission for paths. Without --roles and --anonymous the principal comes first
    #[arg(required = true, num_args = 1..=3, value_name = "[PRINCIPAL] PERMISSION [PATH]")]
    words: Vec<String>,
    /// The roles that the session has, with commas between
    #[arg(long, value_name = "ROLE,...", value_delimiter = ',')]
    roles: Vec<String>,
    /// It is a session that has not said who it is
    #[arg(long)]
    anonymous: bool,
    /// A script of principals, from which the principal has its roles; - for standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["roles", "anonymous"])]
    principals: Option<PathBuf>,
    #[command(flatten)]
    instead: Instead,
    #[command(flatten)]
    target: Target,
}

/// What stands in the place of a server's store, so that none is asked.
#[derive(Args)]
#[group(multiple = false)]
pub struct Instead {
    /// A script that makes the store, in the place of a server's; - for standard input
    #[arg(long, value_name = "FILE")]
    store: Option<PathBuf>,
    /// The roles that every server begins with, in the place of a server's
    #[arg(long)]
    predefined: bool,
}

/// What a server has or may take is its own to bound.
const UNBOUNDED: SecurityLimits = SecurityLimits { roles_max: usize::MAX, paths_max: usize::MAX, text_bytes_max: usize::MAX };

/// How often a script of several parts is read until it was the same twice: others may change it meanwhile.
const READINGS_MAX: usize = 5;

pub fn security(command: &SecurityCommand) -> ExitCode {
    match command {
        SecurityCommand::Show(arguments) => exit(show(arguments)),
        SecurityCommand::Apply(arguments) => exit(apply(arguments)),
        SecurityCommand::Check(arguments) => exit(check(arguments)),
        SecurityCommand::Explain(arguments) => explain(arguments),
    }
}

fn show(arguments: &Show) -> Result<(), Failure> {
    let mut client = arguments.target.connect()?;
    let script = stored_script(&mut client)?;
    let printer = Printer::new(false);
    // In a pipe it is a script, to the letter.
    printer.print(script.lines().map(|line| if printer.is_json() { line.to_owned() } else { printable(line) }));
    Ok(client.close()?)
}

fn stored_script(client: &mut Client) -> Result<String, Failure> {
    let (mut script, mut parts) = read_script(client)?;
    for _ in 1..READINGS_MAX {
        let before = script;
        if parts == 1 {
            return Ok(before);
        }
        (script, parts) = read_script(client)?;
        if script == before {
            return Ok(script);
        }
    }
    Err(Failure::Undone("what roles permit changes too often to be read as a whole".to_owned()))
}

/// All parts of the script, the next one from where the last one ends, and how many there were.
fn read_script(client: &mut Client) -> Result<(String, usize), ClientError> {
    let (mut script, mut parts) = (String::new(), 0);
    loop {
        let body = client.request(Ask::GetSecurity { offset: script.len() as u64 })?;
        let part = native::decode_script(&mut Reader(&body));
        let Ok(Outcome::Script { has_more, text }) = part else { return Err(malformed()) };
        script += &text;
        parts += 1;
        if !has_more {
            return Ok((script, parts));
        }
        if text.is_empty() {
            return Err(malformed());
        }
    }
}

fn malformed() -> ClientError {
    ClientError::Connection("the server sent a script that is not of the protocol".to_owned())
}

fn apply(arguments: &Apply) -> Result<(), Failure> {
    let file = File::read(&arguments.file)?;
    let script = file.parse(UNBOUNDED).map_err(Failure::Undone)?;
    send(&arguments.target, &file, false)?;
    let count = script.statements().count();
    eprintln!("applied: {count} {}", if count == 1 { "statement" } else { "statements" });
    Ok(())
}

fn check(arguments: &Check) -> Result<(), Failure> {
    let file = File::read(&arguments.file)?;
    let limits = SecurityLimits::default();
    let store = match arguments.instead.store(limits)? {
        None if arguments.offline => Some(SecurityStore::empty(limits)),
        store => store,
    };
    if let Some(mut store) = store {
        let script = file.parse(limits).map_err(Failure::Undone)?;
        store.apply(&script, Author::Operator).map_err(|error| Failure::Undone(file.locate(&error.to_string())))?;
    } else {
        file.parse(UNBOUNDED).map_err(Failure::Undone)?;
        send(&arguments.target, &file, true)?;
    }
    println!("{}: ok", printable(&file.name));
    Ok(())
}

fn send(target: &Target, file: &File, check: bool) -> Result<(), Failure> {
    let mut client = target.connect()?;
    match client.request(Ask::ApplySecurity { check, script: file.text.as_str().into() }) {
        Ok(_) => Ok(client.close()?),
        Err(ClientError::Refused { code, message, .. }) if code == ErrorCode::InvalidScript.code() => {
            Err(Failure::Undone(file.locate(&message)))
        }
        Err(error) => Err(error.into()),
    }
}

fn explain(arguments: &Explain) -> ExitCode {
    match explained(arguments) {
        Ok(explanation) => {
            Printer::new(false).print(explanation.to_string().lines().map(printable));
            ExitCode::from(u8::from(!explanation.is_allowed))
        }
        // That a script is none, or that a server does not show its own, is no answer.
        Err(Failure::Undone(message)) => exit(Err(Failure::Usage(message))),
        Err(Failure::Client(ClientError::Refused { code, message, .. })) => {
            exit(Err(Failure::Usage(format!("the server does not show what roles permit: {code} {}: {message}", error_name(code)))))
        }
        Err(failure) => exit(Err(failure)),
    }
}

fn explained(arguments: &Explain) -> Result<Explanation, Failure> {
    let Question { principal, permission, path } = Question::of(arguments).map_err(Failure::Usage)?;
    let asked = Asked::parse(permission, path).map_err(|error| {
        let words = path.map_or(permission.to_owned(), |path| format!("{permission} {path}"));
        Failure::Usage(format!("{}: {error}", printable(&words)))
    })?;
    let roles = match (principal, &arguments.principals) {
        (Some(principal), Some(file)) => roles_of(principal, &File::read(file)?)?,
        _ => arguments.roles.iter().map(|role| role.as_str().into()).collect(),
    };
    let store = match arguments.instead.store(UNBOUNDED)? {
        Some(store) => store,
        None => {
            let mut client = arguments.target.connect()?;
            let script = stored_script(&mut client)?;
            client.close()?;
            File { name: "the server's script".to_owned(), text: script }.store(UNBOUNDED)?
        }
    };
    let kind = if arguments.anonymous { SessionKind::Anonymous } else { SessionKind::Named };
    let explanation = store.explain(&roles, kind, asked);
    for role in roles.iter().filter(|role| !explanation.roles.contains(role)) {
        eprintln!("note: nothing is set for the role '{}'", printable(role));
    }
    Ok(explanation)
}

/// What `explain` is asked, by its words.
#[derive(Debug)]
struct Question<'a> {
    principal: Option<&'a str>,
    permission: &'a str,
    path: Option<&'a str>,
}

impl<'a> Question<'a> {
    fn of(arguments: &'a Explain) -> Result<Self, String> {
        let words: Vec<&str> = arguments.words.iter().map(String::as_str).collect();
        let has_roles = arguments.anonymous || !arguments.roles.is_empty();
        match (has_roles, &*words) {
            (true, [permission]) => Ok(Self { principal: None, permission, path: None }),
            (true, [permission, path]) => Ok(Self { principal: None, permission, path: Some(path) }),
            (false, _) if arguments.principals.is_none() => {
                Err("whose? Expected --roles or --anonymous, or --principals FILE for a principal".to_owned())
            }
            (false, [principal, permission]) => Ok(Self { principal: Some(principal), permission, path: None }),
            (false, [principal, permission, path]) => Ok(Self { principal: Some(principal), permission, path: Some(path) }),
            (true, _) => Err("expected PERMISSION [PATH]".to_owned()),
            (false, _) => Err("expected PRINCIPAL PERMISSION [PATH]".to_owned()),
        }
    }
}

fn roles_of(principal: &str, file: &File) -> Result<Vec<Box<str>>, Failure> {
    let limits = PrincipalLimits::default();
    let script = PrincipalScript::parse(&file.text, limits).map_err(|error| Failure::Usage(file.locate(&error.to_string())))?;
    let mut store = PrincipalStore::empty(limits);
    // Who is asked about has shown a password already; here nobody does.
    let applied = store.apply(&script, Author::Operator, |_| Some("".into()), |_, _| true);
    applied.map_err(|error| Failure::Usage(file.locate(&error.to_string())))?;
    let known = store.look_up(principal);
    let known = known.ok_or_else(|| Failure::Usage(format!("{}: there is no principal '{}'", file.name, printable(principal))))?;
    Ok(known.roles.to_vec())
}

impl Instead {
    /// None where a server is asked.
    fn store(&self, limits: SecurityLimits) -> Result<Option<SecurityStore>, Failure> {
        match &self.store {
            Some(path) => Ok(Some(File::read(path)?.store(limits)?)),
            None if self.predefined => Ok(Some(SecurityStore::predefined(limits))),
            None => Ok(None),
        }
    }
}

/// A script as it was read.
struct File {
    /// As errors show it.
    name: String,
    text: String,
}

impl File {
    fn read(path: &Path) -> Result<Self, Failure> {
        let (name, text) = if path == Path::new("-") {
            let mut text = String::new();
            ("standard input".to_owned(), io::stdin().read_to_string(&mut text).map(|_| text))
        } else {
            (path.display().to_string(), std::fs::read_to_string(path))
        };
        match text {
            Ok(text) => Ok(Self { name, text }),
            Err(error) => Err(Failure::Usage(format!("{name}: {error}"))),
        }
    }

    fn parse(&self, limits: SecurityLimits) -> Result<SecurityScript, String> {
        SecurityScript::parse(&self.text, limits).map_err(|error| self.locate(&error.to_string()))
    }

    /// The store that the script makes from nothing. That it makes none is the fault of who names it.
    fn store(&self, limits: SecurityLimits) -> Result<SecurityStore, Failure> {
        SecurityStore::parse(&self.text, limits).map_err(|error| Failure::Usage(self.locate(&error)))
    }

    /// An error of the script behind the place that it begins with: `FILE:LINE:COLUMN: …`, as editors read it. Servers say it in the same words.
    fn locate(&self, error: &str) -> String {
        let located = || {
            let (place, what) = error.strip_prefix("line ")?.split_once(": ")?;
            let (line, column) = place.split_once(", column ").map_or((place, None), |(line, column)| (line, Some(column)));
            let are_numbers = [line, column.unwrap_or("1")].iter().all(|number| number.parse::<u64>().is_ok());
            let column = column.map(|column| format!(":{column}")).unwrap_or_default();
            are_numbers.then(|| format!("{}:{line}{column}: {what}", self.name))
        };
        printable(&located().unwrap_or_else(|| format!("{}: {error}", self.name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(subcommand)]
        command: SecurityCommand,
    }

    #[test]
    fn errors_stand_behind_their_place() {
        let check = |error: &str, located: &str| {
            assert_eq!(File { name: "roles".to_owned(), text: String::new() }.locate(error), located);
        };
        check("line 3, column 5: found `x`, expected `y`: or z", "roles:3:5: found `x`, expected `y`: or z");
        check("line 3: roles include each other", "roles:3: roles include each other");
        check("line three: x", "roles: line three: x");
        check("no room", "roles: no room");
        check("line 1: \u{1b}[2J", &format!("roles:1: {}", printable("\u{1b}[2J")));
    }

    /// `expected` may be the beginning of an error.
    fn check_question(words: &[&str], expected: Result<(Option<&str>, &str, Option<&str>), &str>) {
        let line = Line::try_parse_from(["security", "explain"].iter().chain(words)).unwrap_or_else(|error| panic!("{words:?}: {error}"));
        let SecurityCommand::Explain(arguments) = line.command else { unreachable!() };
        match (Question::of(&arguments), expected) {
            (Ok(Question { principal, permission, path }), Ok(expected)) => {
                assert_eq!((principal, permission, path), expected, "{words:?}")
            }
            (Err(error), Err(expected)) => assert!(error.starts_with(expected), "{words:?}: {error}"),
            (question, _) => panic!("{words:?}: {question:?}"),
        }
    }

    #[test]
    fn the_words_ask_about_roles_or_about_a_principal() {
        check_question(&["--roles", "A,B", "read_topic", "a"], Ok((None, "read_topic", Some("a"))));
        check_question(&["VIEW_SERVER", "--roles", "A", "--roles", "B"], Ok((None, "VIEW_SERVER", None)));
        check_question(&["--anonymous", "VIEW_SERVER"], Ok((None, "VIEW_SERVER", None)));
        check_question(&["--principals", "p", "ann", "VIEW_SERVER"], Ok((Some("ann"), "VIEW_SERVER", None)));
        check_question(&["--principals", "p", "ann", "READ_TOPIC", "a"], Ok((Some("ann"), "READ_TOPIC", Some("a"))));
        check_question(&["ann", "READ_TOPIC", "a"], Err("whose?"));
        check_question(&["--roles", "A", "ann", "READ_TOPIC", "a"], Err("expected PERMISSION"));
        check_question(&["--principals", "p", "ann"], Err("expected PRINCIPAL"));
    }

    #[test]
    fn roles_are_those_of_the_principal_in_the_file() {
        let text = "add principal 'ann' 'secret' ['A', 'B']\nassign roles 'ann' ['C']\n";
        let file = File { name: "principals".to_owned(), text: text.to_owned() };
        assert!(matches!(roles_of("ann", &file), Ok(roles) if *roles == ["C".into()]));
        assert!(matches!(roles_of("bob", &file), Err(Failure::Usage(error)) if error == "principals: there is no principal 'bob'"));
        let file = File { text: "add principal".to_owned(), ..file };
        assert!(matches!(roles_of("ann", &file), Err(Failure::Usage(error)) if error.starts_with("principals:1:14: ")));
    }
}
