//! A command that is given some input and prints some output, within bounds.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

pub struct Job<'j> {
    /// What `sh` runs.
    pub command: &'j str,
    pub input: Vec<u8>,
    pub variables: &'j [(&'j str, &'j str)],
    pub timeout: Duration,
}

/// More than that of what a command prints is not read.
const OUTPUT_BYTES_MAX: u64 = 64 << 20;

/// The longest first line of errors that is told on.
const REASON_CHARACTERS_MAX: usize = 200;

/// How often the command is looked at.
const TURN: Duration = Duration::from_millis(2);

/// What it has printed; where it fails, why: the first line of its errors, if it says any.
pub fn run(job: Job<'_>) -> Result<Vec<u8>, String> {
    let Job { command, input, variables, timeout } = job;
    let mut child = Command::new("sh");
    child.args(["-c", command]).envs(variables.iter().copied()).process_group(0);
    let child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.map_err(|error| format!("cannot run sh: {error}"))?;
    let mut stdin = child.stdin.take().expect("it is piped");
    // A command need not read it all.
    std::thread::spawn(move || stdin.write_all(&input));
    let printed = read(child.stdout.take().expect("it is piped"));
    let errors = read(child.stderr.take().expect("it is piped"));
    let started = Instant::now();
    let status = wait(&mut child, started, timeout)?;
    // What it has left running may hold its output open.
    let within = |output: &Receiver<Vec<u8>>| output.recv_timeout(timeout.saturating_sub(started.elapsed()).max(TURN));
    if !status.success() {
        let errors = within(&errors).unwrap_or_default();
        return Err(reason(&errors, status));
    }
    within(&printed).map_err(|_| "the command has ended, and not what it prints".to_owned())
}

fn read(mut output: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (told, heard) = channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = output.by_ref().take(OUTPUT_BYTES_MAX).read_to_end(&mut bytes);
        told.send(bytes)
    });
    heard
}

fn wait(child: &mut Child, started: Instant, timeout: Duration) -> Result<ExitStatus, String> {
    loop {
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            return Ok(status);
        }
        if started.elapsed() > timeout {
            // SAFETY: the process is our child and not waited for yet, so the group of its number is its own.
            unsafe { libc::kill(-(child.id() as i32), libc::SIGKILL) };
            let _ = child.wait();
            return Err(format!("the command took longer than {} ms", timeout.as_millis()));
        }
        std::thread::sleep(TURN);
    }
}

fn reason(errors: &[u8], status: ExitStatus) -> String {
    let errors = String::from_utf8_lossy(errors);
    match errors.lines().next().map(str::trim).filter(|line| !line.is_empty()) {
        Some(line) => line.chars().take(REASON_CHARACTERS_MAX).collect(),
        None => format!("the command failed: {status}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(command: &str, timeout: Duration, expected: Result<&str, &str>) {
        let variables = [("NAME", "x")];
        let got = run(Job { command, input: b"in".to_vec(), variables: &variables, timeout });
        assert_eq!(got, expected.map(|printed| printed.as_bytes().to_vec()).map_err(str::to_owned), "{command}");
    }

    #[test]
    fn a_command_prints_or_says_why_not() {
        let long = Duration::from_secs(600);
        check("cat; echo $NAME", long, Ok("inx\n"));
        check("true", long, Ok(""));
        check("echo no >&2; echo really >&2; exit 3", long, Err("no"));
        check("exit 3", long, Err("the command failed: exit status: 3"));
        check("exec sleep 600", Duration::from_millis(1), Err("the command took longer than 1 ms"));
    }
}
