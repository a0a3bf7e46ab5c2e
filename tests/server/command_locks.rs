//! `tidewire lock` and `tidewire locks`.

use crate::server::{PATIENCE, Server, terminate, tidewire};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// `tidewire lock NAME -- sh -c SCRIPT`.
fn lock(server: &Server, name: &str, script: &str) -> Command {
    let mut command = tidewire(&["lock", name, "--", "sh", "-c", script]);
    command.env("TIDEWIRE_URL", format!("ws://{}", server.address));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn spawn(mut command: Command) -> Child {
    command.spawn().expect("the binary starts")
}

fn held(server: &Server) -> Vec<Value> {
    let output = server.command(&["locks", "--json"]);
    assert!(output.status.success());
    String::from_utf8_lossy(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn wait_until(mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < PATIENCE, "it does not come to that");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_command_runs_while_the_lock_is_held_and_its_exit_code_is_passed_on() {
    let server = Server::start(2);
    let output = lock(&server, "a/b", "echo $LOCK_NUMBER; exit 7").output().expect("the binary starts");
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stdout).trim()), (Some(7), "1"));
    let output = lock(&server, "a/b", "kill -9 $$").output().expect("the binary starts");
    assert_eq!(output.status.code(), Some(128 + 9));
    let output = lock(&server, "a//b", "true").output().expect("the binary starts");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("error 200 invalid_path: "));
    assert!(held(&server).is_empty());
}

#[test]
fn a_second_command_waits_for_the_first() {
    let server = Server::start(2);
    let mut first = spawn(lock(&server, "a", "echo begun; exec sleep 600"));
    let mut said = BufReader::new(first.stdout.take().expect("it is piped"));
    said.read_line(&mut String::new()).expect("text");
    let second = spawn(lock(&server, "a", "echo $LOCK_NUMBER"));
    wait_until(|| held(&server).first().is_some_and(|lock| lock["waiting"] == 1));
    let listed = held(&server);
    assert_eq!((&listed[0]["name"], &listed[0]["number"], &listed[0]["scope"]), (&"a".into(), &1.into(), &"connection".into()));
    // The command is told to end when `tidewire lock` is.
    terminate(&first);
    assert_eq!(first.wait().expect("it is our child").code(), Some(128 + libc::SIGTERM));
    let output = second.wait_with_output().expect("it is our child");
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stdout).trim()), (Some(0), "2"));
}

#[test]
fn a_lost_lock_ends_the_command() {
    let mut server = Server::start(2);
    let mut child = spawn(lock(&server, "a", "echo begun; exec sleep 600"));
    let mut said = BufReader::new(child.stdout.take().expect("it is piped"));
    said.read_line(&mut String::new()).expect("text");
    server.kill();
    assert_eq!(child.wait().expect("it is our child").code(), Some(3));
    let mut errors = String::new();
    child.stderr.take().expect("it is piped").read_to_string(&mut errors).expect("text");
    assert!(errors.contains("the lock 'a' is lost, and the command is ended"), "{errors}");
}

/// A server that is there and says nothing any more may have given the lock to another.
#[test]
fn a_silent_server_ends_the_command() {
    let server = Server::start_with(1, &[("SESSION_KEEP_ALIVE_MS", "1500")]);
    let mut child = spawn(lock(&server, "a", "echo begun; exec sleep 600"));
    let mut said = BufReader::new(child.stdout.take().expect("it is piped"));
    said.read_line(&mut String::new()).expect("text");
    // As long as it answers nothing happens, though nothing else is said.
    std::thread::sleep(Duration::from_millis(2000));
    assert!(child.try_wait().expect("it is our child").is_none());
    // SAFETY: the server is our process and runs.
    unsafe { libc::kill(server.process() as i32, libc::SIGSTOP) };
    let code = child.wait().expect("it is our child").code();
    // SAFETY: as before.
    unsafe { libc::kill(server.process() as i32, libc::SIGCONT) };
    assert_eq!(code, Some(3));
}
