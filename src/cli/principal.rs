//! `tidewire principal`: prints the line of a file of principals that knows somebody by a password.

use super::client::ClientError;
use super::print::printable;
use super::read::{Failure, exit, read_secret};
use crate::authentication::{Cost, Hasher};
use crate::config::Authentication;
use crate::security::Secret;
use crate::topic::syntax::print_quoted;
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Args)]
pub struct Principal {
    /// The principal's name
    name: String,
    /// A role that it has, as often as it has some
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// A file whose first line is the password; - for standard input
    #[arg(long, value_name = "FILE", default_value = "-")]
    password_file: PathBuf,
}

/// Prints the statement. It has a hash in the place of the password.
pub fn principal(arguments: &Principal) -> ExitCode {
    exit(line(arguments).map(|line| println!("{line}")))
}

fn line(arguments: &Principal) -> Result<String, Failure> {
    let Principal { name, roles, password_file } = arguments;
    if name.is_empty() || name.contains(['\n', '\r']) {
        return Err(Failure::Usage(format!("the name '{}' is empty or has a line break", printable(name))));
    }
    let password = read_secret(password_file)?;
    if password.is_empty() {
        return Err(Failure::Usage(format!("{}: the first line, which is the password, is empty", password_file.display())));
    }
    let passwords = Authentication::default().passwords;
    let cost = Cost { memory_kib: passwords.memory_kib, passes: passwords.passes, lanes: passwords.lanes };
    let hash = Hasher::new(cost).and_then(|hasher| hasher.hash(&Secret::new(password.as_bytes())));
    let hash = hash.map_err(|error| ClientError::Connection(error.to_string()))?;
    let mut line = "add principal ".to_owned();
    print_quoted(name, &mut line);
    line.push_str(" hash ");
    print_quoted(&hash, &mut line);
    for (at, role) in roles.iter().enumerate() {
        line.push_str(if at == 0 { " [" } else { ", " });
        print_quoted(role, &mut line);
    }
    if !roles.is_empty() {
        line.push(']');
    }
    Ok(line)
}
