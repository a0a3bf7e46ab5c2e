//! How commands on the same host reach the running server: a socket in its directory, one JSON line in, one out.
//!
//! Whoever can open the socket is the server's owner. What a command comes to says a closure, at once; what takes longer is asked again.

use std::fs::{self, Permissions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

/// The longest command, in bytes.
const COMMAND_BYTES_MAX: u64 = 4096;
/// The longest answer, in bytes: a cluster of the most nodes fits.
const ANSWER_BYTES_MAX: u64 = 4 << 20;
/// Commands that are served at a time; more wait.
const COMMANDS_MAX: usize = 8;
/// How long one may take to say what it wants, and to hear the answer.
const COMMAND: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase")]
pub enum Command {
    Status,
    /// Says how far it is, when it is asked again.
    Leave,
    /// Another node has left, which is not there any more to say so.
    Remove {
        name: String,
    },
    Transfer {
        /// All that the node leads where `None`.
        group: Option<u16>,
        /// The name of who is to lead.
        to: String,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Reply {
    Ok(Value),
    Error(String),
}

/// What a command comes to, or why not, for an operator.
pub type Answer = Result<Value, String>;

/// Where the socket of a server is.
pub fn socket(directory: &Path) -> PathBuf {
    directory.join("control.sock")
}

/// A socket for [`run`]. One that a server has left is taken away.
///
/// # Errors
/// `AddrInUse` where a server listens there; those of the system, which takes no path of more than some 100 bytes.
pub fn listen(directory: &Path) -> io::Result<UnixListener> {
    let path = socket(directory);
    if std::os::unix::net::UnixStream::connect(&path).is_ok() {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers commands until its task ends.
pub async fn run(listener: UnixListener, answer: impl Fn(Command) -> Answer + 'static) {
    let answer = Rc::new(answer);
    let places = Arc::new(Semaphore::new(COMMANDS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let answer = answer.clone();
                spawn_local(async move {
                    if !matches!(timeout(COMMAND, serve(stream, &*answer)).await, Ok(Ok(()))) {
                        tracing::debug!("a command has gone before it was answered");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a command could not be taken");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve(mut stream: UnixStream, answer: &impl Fn(Command) -> Answer) -> io::Result<()> {
    let (reading, mut writing) = stream.split();
    let mut line = Vec::new();
    tokio::io::BufReader::new(reading).take(COMMAND_BYTES_MAX).read_until(b'\n', &mut line).await?;
    let reply = match serde_json::from_slice(&line) {
        Ok(command) => answer(command).map_or_else(Reply::Error, Reply::Ok),
        Err(error) => Reply::Error(format!("no command that this server knows: {error}")),
    };
    let mut text = serde_json::to_vec(&reply).expect("texts and numbers");
    text.push(b'\n');
    writing.write_all(&text).await
}

/// Has a server carry out a command. Blocks; for a command line.
///
/// # Errors
/// Why there is no answer, or the server's own reason.
pub fn ask(directory: &Path, command: &Command) -> Answer {
    let path = socket(directory);
    let unreached = |error: io::Error| format!("{}: no server is reached, {error}", path.display());
    let mut stream = std::os::unix::net::UnixStream::connect(&path).map_err(unreached)?;
    stream.set_read_timeout(Some(COMMAND)).map_err(unreached)?;
    let mut line = serde_json::to_vec(command).expect("texts and numbers");
    line.push(b'\n');
    stream.write_all(&line).map_err(unreached)?;
    let mut text = Vec::new();
    BufReader::new(stream).take(ANSWER_BYTES_MAX).read_until(b'\n', &mut text).map_err(unreached)?;
    match serde_json::from_slice(&text).map_err(|error| format!("the server's answer cannot be read: {error}"))? {
        Reply::Ok(value) => Ok(value),
        Reply::Error(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::tests::{Folder, run as run_local};
    use serde_json::json;

    #[test]
    fn a_command_is_answered_and_what_is_none_is_refused() {
        run_local(async {
            let folder = Folder::new();
            let listener = listen(&folder.0).unwrap();
            assert_eq!(listen(&folder.0).err().map(|error| error.kind()), Some(io::ErrorKind::AddrInUse));
            assert_eq!(fs::metadata(socket(&folder.0)).unwrap().permissions().mode() & 0o777, 0o600);
            let serving = spawn_local(run(listener, |command| match command {
                Command::Transfer { group, to } => Ok(json!([group, to])),
                command => Err(format!("not {command:?}")),
            }));
            let asking = async |command| {
                let directory = folder.0.clone();
                tokio::task::spawn_blocking(move || ask(&directory, &command)).await.unwrap()
            };
            assert_eq!(asking(Command::Transfer { group: Some(1), to: "a".to_owned() }).await, Ok(json!([1, "a"])));
            assert_eq!(asking(Command::Leave).await, Err("not Leave".to_owned()));
            for line in ["\n", "?\n", "{\"do\":\"fly\"}\n", &format!("{}\n", " ".repeat(5000))] {
                let mut stream = UnixStream::connect(socket(&folder.0)).await.unwrap();
                // More than is read may be refused while it is written.
                let _ = stream.write_all(line.as_bytes()).await;
                let mut text = String::new();
                let _ = stream.read_to_string(&mut text).await;
                assert!(text.is_empty() || text.starts_with("{\"error\":\"no command"), "{text}");
            }
            serving.abort();
            let _ = serving.await;
            let error = asking(Command::Status).await.unwrap_err();
            assert!(error.contains("no server is reached"), "{error}");
            assert!(listen(&folder.0).is_ok(), "what a server has left is no hindrance");
        });
    }
}
