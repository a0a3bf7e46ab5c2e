//! Who the load's clients say that they are, to a server that asks.

use clap::Args;
use std::fmt;
use std::path::{Path, PathBuf};

/// A name and its password; both are empty where clients are anonymous.
#[derive(Clone, Default)]
pub struct Login {
    pub principal: String,
    pub password: String,
}

/// The same on the command line. The password is never there: the list of processes shows it to everybody.
#[derive(Args, Clone, Debug, Default)]
pub struct LoginFlags {
    /// Who all connections are to the server; anonymous where not given.
    #[arg(long, env = "TIDEWIRE_PRINCIPAL", requires = "password_file")]
    pub principal: Option<String>,
    /// A file whose first line is the password.
    #[arg(long, env = "TIDEWIRE_PASSWORD_FILE", requires = "principal")]
    pub password_file: Option<PathBuf>,
}

impl LoginFlags {
    pub fn read(&self) -> Result<Login, String> {
        let (Some(principal), Some(file)) = (&self.principal, &self.password_file) else { return Ok(Login::default()) };
        let password = first_line(file).map_err(|error| format!("--password-file {}: {error}", file.display()))?;
        if principal.is_empty() || password.is_empty() {
            return Err(format!("--principal, --password-file {}: one of them is empty", file.display()));
        }
        Ok(Login { principal: principal.clone(), password })
    }
}

fn first_line(file: &Path) -> std::io::Result<String> {
    Ok(std::fs::read_to_string(file)?.lines().next().unwrap_or_default().to_owned())
}

/// Without the password, which nothing may show.
impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("principal", &self.principal).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_the_first_line_of_its_file_and_is_not_shown() {
        let path = std::env::temp_dir().join(format!("tidewire-loadtest-login-{}", std::process::id()));
        std::fs::write(&path, "hush hush\r\nmore\n").unwrap();
        let flags = LoginFlags { principal: Some("ann".to_owned()), password_file: Some(path.clone()) };
        let login = flags.read().unwrap();
        std::fs::write(&path, "\n").unwrap();
        let empty = flags.read().unwrap_err();
        std::fs::remove_file(&path).unwrap();
        assert_eq!((login.principal.as_str(), login.password.as_str()), ("ann", "hush hush"));
        assert_eq!(format!("{login:?}"), r#"Login { principal: "ann", .. }"#);
        assert!(empty.contains("empty"), "{empty}");
        assert!(flags.read().unwrap_err().contains("--password-file"));
        assert_eq!(LoginFlags::default().read().unwrap().principal, "");
    }
}
