//! `tidewire security show|apply|check|explain`: what roles permit, and who has which, of a server or of scripts.

mod explain;
mod script;

use super::client::ClientError;
use super::print::{Printer, printable};
use super::read::{Failure, Target, exit};
use crate::authentication::{Cost, Hasher};
use crate::protocol::ErrorCode;
use crate::security::{Author, PrincipalLimits, PrincipalStore, SecurityLimits, SecurityStore};
use clap::{Args, Subcommand};
use explain::Explain;
use script::{About, File, UNBOUNDED, UNBOUNDED_PRINCIPALS};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Subcommand)]
pub enum SecurityCommand {
    /// Print what roles permit, or the principals with hashes of their passwords, as the script that makes it from nothing
    Show(Show),
    /// Apply a script, as a whole or not at all
    Apply(Apply),
    /// Say whether a script could be applied, and if not, where it is wrong
    Check(Check),
    /// Say whether a principal or some roles may do something, and by which line. Exit code 0: allowed, 1: not allowed
    Explain(Explain),
}

#[derive(Args)]
pub struct Show {
    /// What to show
    #[arg(value_enum, value_name = "WHAT", default_value_t = About::Roles)]
    about: About,
    #[command(flatten)]
    target: Target,
}

#[derive(Args)]
pub struct Apply {
    /// The script; - for standard input
    file: PathBuf,
    /// It is a script of principals, not of roles
    #[arg(long)]
    principals: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Args)]
pub struct Check {
    /// The script; - for standard input
    file: PathBuf,
    /// It is a script of principals, not of roles; the one of --store too
    #[arg(long, conflicts_with = "predefined")]
    principals: bool,
    /// Check it without a server, for a store that is empty
    #[arg(long)]
    offline: bool,
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

pub fn security(command: &SecurityCommand) -> ExitCode {
    match command {
        SecurityCommand::Show(arguments) => exit(show(arguments)),
        SecurityCommand::Apply(arguments) => exit(apply(arguments)),
        SecurityCommand::Check(arguments) => exit(check(arguments)),
        SecurityCommand::Explain(arguments) => explain::explain(arguments),
    }
}

fn show(arguments: &Show) -> Result<(), Failure> {
    let mut client = arguments.target.connect()?;
    let script = arguments.about.kept(&mut client)?;
    let printer = Printer::new(false);
    // In a pipe it is a script, to the letter.
    printer.print(script.lines().map(|line| if printer.is_json() { line.to_owned() } else { printable(line) }));
    Ok(client.close()?)
}

fn apply(arguments: &Apply) -> Result<(), Failure> {
    let file = File::read(&arguments.file)?;
    let about = About::of(arguments.principals);
    let count = parse(about, &file)?;
    send(&arguments.target, &file, about, false)?;
    eprintln!("applied: {count} {}", if count == 1 { "statement" } else { "statements" });
    Ok(())
}

/// How many statements it has.
fn parse(about: About, file: &File) -> Result<usize, Failure> {
    let count = match about {
        About::Roles => file.roles(UNBOUNDED).map(|script| script.statements().count()),
        About::Principals => file.principals(UNBOUNDED_PRINCIPALS).map(|script| script.statements().count()),
    };
    count.map_err(Failure::Undone)
}

fn check(arguments: &Check) -> Result<(), Failure> {
    let before = arguments.instead.file(Some(&arguments.file))?;
    let file = File::read(&arguments.file)?;
    let about = About::of(arguments.principals);
    if arguments.offline || before.is_some() {
        match about {
            About::Roles => check_roles(&file, before.as_ref())?,
            About::Principals => check_principals(&file, before.as_ref())?,
        }
    } else {
        parse(about, &file)?;
        send(&arguments.target, &file, about, true)?;
    }
    println!("{}: ok", printable(&file.name));
    Ok(())
}

fn check_roles(file: &File, before: Option<&File>) -> Result<(), Failure> {
    let limits = SecurityLimits::default();
    let mut store = before.map_or(Ok(SecurityStore::empty(limits)), |before| before.store(limits))?;
    let script = file.roles(limits).map_err(Failure::Undone)?;
    store.apply(&script, Author::Operator).map_err(|error| Failure::Undone(file.locate(&error.to_string())))
}

fn check_principals(file: &File, before: Option<&File>) -> Result<(), Failure> {
    let limits = PrincipalLimits::default();
    let mut store = PrincipalStore::empty(limits);
    // Nobody gets to see these hashes, so they may be weak.
    let hasher = Hasher::new(Cost { memory_kib: 8, passes: 1, lanes: 1 }).map_err(|error| Failure::Undone(error.to_string()))?;
    let mut apply = |file: &File| {
        let script = file.principals(limits)?;
        let (hash, verify) = (|password: &_| hasher.hash(password).ok(), |password: &_, hash: &_| hasher.verify(password, hash));
        store.apply(&script, Author::Operator, hash, verify).map_err(|error| file.locate(&error.to_string()))
    };
    before.map_or(Ok(()), &mut apply).map_err(Failure::Usage)?;
    apply(file).map_err(Failure::Undone)
}

fn send(target: &Target, file: &File, about: About, check: bool) -> Result<(), Failure> {
    let mut client = target.connect()?;
    match client.request(about.order(&file.text, check)) {
        Ok(_) => Ok(client.close()?),
        Err(ClientError::Refused { code, message, .. }) if code == ErrorCode::InvalidScript.code() => {
            Err(Failure::Undone(file.locate(&message)))
        }
        Err(error @ ClientError::TooLong { .. }) => {
            let instead = "raise that, or apply it in parts, each of which holds from then on, whatever becomes of the next";
            Err(Failure::Undone(format!("{}: {error}: {instead}", printable(&file.name))))
        }
        Err(error) => Err(error.into()),
    }
}

impl Instead {
    /// The script of the store; none where a server is asked. Only one of it and `other`, which is read too, comes by standard input.
    fn file(&self, other: Option<&Path>) -> Result<Option<File>, Failure> {
        let standard_input = Some(Path::new("-"));
        match &self.store {
            Some(path) if Some(&**path) == standard_input && other == standard_input => {
                Err(Failure::Usage("standard input is read once: expected '-' for one script only".to_owned()))
            }
            Some(path) => File::read(path).map(Some),
            None if self.predefined => Ok(Some(File::predefined())),
            None => Ok(None),
        }
    }
}
