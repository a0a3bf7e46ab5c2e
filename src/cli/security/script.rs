//! Scripts as files, which of the two stores they are about, and those that a server keeps.

use super::super::client::{Client, ClientError};
use super::super::print::printable;
use super::super::read::Failure;
use crate::security::{PrincipalLimits, PrincipalScript, ScriptError, SecurityLimits, SecurityScript, SecurityStore};
use crate::wire::native::{self, Ask, Outcome};
use crate::wire::varint::Reader;
use clap::ValueEnum;
use std::io::{self, Read};
use std::path::Path;

/// What a server has or may take is its own to bound.
pub const UNBOUNDED: SecurityLimits = SecurityLimits { roles_max: usize::MAX, paths_max: usize::MAX, text_bytes_max: usize::MAX };

/// The same of principals.
pub const UNBOUNDED_PRINCIPALS: PrincipalLimits =
    PrincipalLimits { principals_max: usize::MAX, properties_max: usize::MAX, passwords_max: usize::MAX, text_bytes_max: usize::MAX };

/// How often a script of several parts is read until it was the same twice: others may change it meanwhile.
const READINGS_MAX: usize = 5;

/// Which store a script is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum About {
    /// What roles permit
    Roles,
    /// Who is known, by which hash of a password and with which roles
    Principals,
}

impl About {
    pub fn of(principals: bool) -> Self {
        if principals { Self::Principals } else { Self::Roles }
    }

    /// What asks a server to apply the script, or only to check it.
    pub fn order(self, script: &str, check: bool) -> Ask<'_> {
        match self {
            Self::Roles => Ask::ApplySecurity { check, script: script.into() },
            Self::Principals => Ask::ApplyPrincipals { check, script: script.into() },
        }
    }

    /// The script that makes what the server has, as a whole.
    pub fn kept(self, client: &mut Client) -> Result<String, Failure> {
        let (mut script, mut parts) = self.read(client)?;
        for _ in 1..READINGS_MAX {
            let before = script;
            if parts == 1 {
                return Ok(before);
            }
            (script, parts) = self.read(client)?;
            if script == before {
                return Ok(script);
            }
        }
        Err(Failure::Undone("the script that the server keeps changes too often to be read as a whole".to_owned()))
    }

    /// All parts of the script, the next one from where the last one ends, and how many there were.
    fn read(self, client: &mut Client) -> Result<(String, usize), ClientError> {
        let (mut script, mut parts) = (String::new(), 0);
        loop {
            let offset = script.len() as u64;
            let body = client.request(match self {
                Self::Roles => Ask::GetSecurity { offset },
                Self::Principals => Ask::GetPrincipals { offset },
            })?;
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
}

fn malformed() -> ClientError {
    ClientError::Connection("the server sent a script that is not of the protocol".to_owned())
}

/// A script as it was read.
pub struct File {
    /// As errors show it.
    pub name: String,
    pub text: String,
}

impl File {
    pub fn read(path: &Path) -> Result<Self, Failure> {
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

    /// That of a new server.
    pub fn predefined() -> Self {
        let store = SecurityStore::predefined(SecurityLimits::default());
        Self { name: "the predefined roles".to_owned(), text: store.to_script() }
    }

    /// As a script of roles.
    pub fn roles(&self, limits: SecurityLimits) -> Result<SecurityScript, String> {
        self.located(SecurityScript::parse(&self.text, limits))
    }

    /// As a script of principals.
    pub fn principals(&self, limits: PrincipalLimits) -> Result<PrincipalScript, String> {
        self.located(PrincipalScript::parse(&self.text, limits))
    }

    fn located<T>(&self, parsed: Result<T, ScriptError>) -> Result<T, String> {
        parsed.map_err(|error| self.locate(&error.to_string()))
    }

    /// The store that the script makes from nothing. That it makes none is the fault of who names it.
    pub fn store(&self, limits: SecurityLimits) -> Result<SecurityStore, Failure> {
        SecurityStore::parse(&self.text, limits).map_err(|error| Failure::Usage(self.locate(&error)))
    }

    /// An error of the script behind the place that it begins with: `FILE:LINE:COLUMN: …`, as editors read it. Servers say it in the same words.
    pub fn locate(&self, error: &str) -> String {
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
}
