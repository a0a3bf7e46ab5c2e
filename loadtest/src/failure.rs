//! Why a run could not be done, and the exit code that says so to a script.

use std::fmt;

/// Exit code of a run that was done, but lost, repeated or reordered something.
pub const EXIT_CHECK: u8 = 1;

/// What ended a run before it could report.
#[derive(Debug)]
pub enum Failure {
    /// The flags contradict each other or the machine. Exit code 2.
    Plan(String),
    /// A connection could not be made, or broke while the run was set up. Exit code 3.
    Connection(String),
    /// The server answered a request with an error, or closed with a code. Exit code 4.
    Refused { request: String, code: u64, name: Option<String>, message: String },
}

impl Failure {
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Plan(_) => 2,
            Self::Connection(_) => 3,
            Self::Refused { .. } => 4,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plan(text) | Self::Connection(text) => f.write_str(text),
            Self::Refused { request, code, name, message } => {
                write!(f, "the server refused {request} with {code}")?;
                if let Some(name) = name {
                    write!(f, " ({name})")?;
                }
                write!(f, ": {message}")
            }
        }
    }
}

/// The name that the protocol's table gives to an error or close code.
pub fn code_name(code: u64) -> Option<String> {
    let table: serde_json::Value =
        serde_json::from_str(include_str!("../../sdk/protocol/codes.json")).expect("the protocol's table is JSON");
    let rows = ["errors", "closes"].iter().filter_map(|key| table[key].as_array()).flatten();
    rows.into_iter().find(|row| row["code"] == code).and_then(|row| row["name"].as_str()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_named_by_the_protocols_table() {
        assert_eq!(code_name(201).as_deref(), Some("invalid_selector"));
        assert_eq!(code_name(4104).as_deref(), Some("send_queue_overflow"));
        assert_eq!(code_name(9), None);
    }
}
