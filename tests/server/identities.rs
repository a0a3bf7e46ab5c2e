//! Who may connect: principals of a file, over WebSocket, over MQTT and by the command line.

use crate::client::{Refused, Seen, Session};
use crate::mosquitto::{Subscriber, mosquitto, publish};
use crate::server::{Directory, Server, tidewire};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use tidewire::surface::wire::native::{Ask, Request};

/// A file of principals, `ann` with the password `pw of ann` and so on, and one of each one's password.
pub struct Principals {
    directory: Directory,
}

impl Principals {
    pub fn new(name: &str, more: &str) -> Self {
        let principals = Self { directory: Directory::new(name) };
        std::fs::create_dir_all(principals.directory.name()).unwrap();
        let lines: Vec<String> = ["ann", "bob"].iter().map(|name| principals.add(name)).collect();
        std::fs::write(principals.path("principals"), format!("# people\n{}\n{more}\n", lines.join("\n"))).unwrap();
        principals
    }

    pub fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(self.directory.name()).join(name)
    }

    /// The line that the command prints of a password that it is given.
    fn add(&self, name: &str) -> String {
        std::fs::write(self.path(name), format!("pw of {name}\nand a line\n")).unwrap();
        let mut command =
            tidewire(&["principal", name, "--role", "CLIENT", "--role", "TOPIC_CONTROL", "--role", "OPERATOR", "--role", "of \"gold\""]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        writeln!(child.stdin.take().unwrap(), "pw of {name}").unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        let line = String::from_utf8(output.stdout).unwrap().trim_end().to_owned();
        assert!(
            line.starts_with(&format!("add principal \"{name}\" hash \"$argon2id$"))
                && line.ends_with(r#"["CLIENT", "TOPIC_CONTROL", "OPERATOR", "of \"gold\""]"#),
            "{line}"
        );
        line
    }

    pub fn start(&self, more: &[(&str, &str)]) -> Server {
        let file = self.path("principals");
        let mut variables = vec![("AUTHENTICATION_CHAIN", "principals"), ("AUTHENTICATION_PRINCIPALS_FILE", file.to_str().unwrap())];
        variables.extend_from_slice(more);
        Server::start_with_mqtt(2, &variables)
    }
}

pub fn connect(principal: &str, password: &str) -> Ask<'static> {
    let mut ask = Ask::connect("test", 3);
    let Ask::Connect { about, .. } = &mut ask else { unreachable!() };
    let credentials = &mut about.credentials;
    (credentials.principal, credentials.password) = (principal.to_owned().into(), password.to_owned().into());
    ask
}

pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn who_shows_a_right_password_is_known_by_name_and_others_are_not_let_in() {
    let principals = Principals::new("identities", "");
    let server = principals.start(&[]);
    let mut ann = Session::open(server.address, connect("ann", "pw of ann"));
    assert_eq!(ann.add("a", tidewire::surface::value::ValueType::Json), Ok(true));
    for (principal, password) in [("ann", "pw of bob"), ("carl", "pw of ann"), ("", "")] {
        let mut refused = Session::begin(server.address, connect(principal, password));
        assert!(matches!(refused.next(), Seen::Error { code: 109, position: None, .. }), "{principal}");
        assert_eq!(refused.next(), Seen::Closed(4108), "{principal}");
    }
    let password = principals.path("ann");
    let command =
        |arguments: &[&str]| server.command(&[arguments, &["--principal", "ann", "--password-file", password.to_str().unwrap()]].concat());
    let listed = text(&command(&["sessions", "--json", "--filter", "$Principal is 'ann' and hasRoles ['CLIENT']"]));
    assert_eq!(listed.matches(r#""$Principal":"ann""#).count(), 2, "{listed}");
    let refused = server.command(&["fetch", "?.*//"]);
    assert!(!refused.status.success() && text(&refused).contains("authentication_failed"), "{}", text(&refused));
}

#[test]
fn anonymous_clients_are_let_in_where_the_file_says_so() {
    let principals = Principals::new("identities_anonymous", "allow anonymous connections [\"CLIENT\", \"OPERATOR\"]");
    let server = principals.start(&[]);
    let listed = text(&server.command(&["sessions", "--json"]));
    assert!(listed.contains(r#""$Principal":"""#) && listed.contains(r#""$Roles":"\"CLIENT\" \"OPERATOR\"""#), "{listed}");
    let mut refused = Session::begin(server.address, connect("ann", "wrong"));
    assert!(matches!(refused.next(), Seen::Error { code: 109, position: None, .. }));
}

#[test]
fn clients_of_mqtt_have_user_names_and_nobody_gets_another_s_session() {
    let principals = Principals::new("identities_mqtt", "");
    let store = Directory::new("identities_mqtt_store");
    let mut server = principals.start(&[("STORAGE_DIRECTORY", store.name()), ("STORAGE_ACK", "written")]);
    let (ann, bob) = (["-u", "ann", "-P", "pw of ann"], ["-u", "bob", "-P", "pw of bob"]);
    let kept = ["-i", "phone", "-c", "-q", "1", "-t", "a/#"];
    let subscriber = Subscriber::start(&server, "mqttv311", &[&kept[..], &ann].concat());
    publish(&server, "mqttv5", &[&["-t", "a/b", "-q", "1", "-m", "1"][..], &bob].concat());
    subscriber.expect("a/b 1 0 1");
    drop(subscriber);
    for (version, said) in [("mqttv311", "bad user name or password"), ("mqttv5", "Bad User Name or Password")] {
        for wrong in [&["-u", "ann", "-P", "pw of bob"][..], &["-u", "carl", "-P", "x"], &[]] {
            let output = mosquitto("mosquitto_pub", &server, version, &[&["-t", "a/b", "-m", "2"][..], wrong].concat()).output().unwrap();
            assert!(!output.status.success() && text(&output).to_lowercase().contains(&said.to_lowercase()), "{}", text(&output));
        }
    }
    for restarted in [false, true] {
        if restarted {
            server.kill();
            server = principals.start(&[("STORAGE_DIRECTORY", store.name()), ("STORAGE_ACK", "written")]);
        }
        publish(&server, "mqttv5", &[&["-t", "a/b", "-q", "1", "-m", "kept"][..], &bob].concat());
        let output = mosquitto("mosquitto_sub", &server, "mqttv5", &[&kept[..], &["-W", "2"], &bob].concat()).output().unwrap();
        assert!(!text(&output).contains("kept") && text(&output).to_lowercase().contains("not authorized"), "{}", text(&output));
        let again = Subscriber::start_unheard(&server, "mqttv311", &[&kept[..], &ann].concat());
        again.expect("a/b 1 0 kept");
    }
}

#[test]
fn a_new_server_has_one_administrator_whom_the_command_line_finds() {
    let store = Directory::new("identities_first_start");
    let start = || {
        Server::start_with_mqtt(
            2,
            &[("AUTHENTICATION_CHAIN", "principals"), ("STORAGE_DIRECTORY", store.name()), ("STORAGE_ACK", "written")],
        )
    };
    let mut server = start();
    let known = std::fs::read_to_string(PathBuf::from(store.name()).join("administrator")).unwrap();
    let mut lines = known.lines();
    let (principal, password) = (lines.next().unwrap(), lines.next().unwrap());
    assert!(principal == "administrator" && password.len() == 32, "{principal}");
    let mode = std::fs::metadata(PathBuf::from(store.name()).join("administrator")).unwrap().mode();
    assert_eq!(mode & 0o777, 0o600);
    // Who does not say who it is does not come in, and a wrong password does not help.
    assert!(text(&server.command(&["fetch", "?.*//"])).contains("authentication_failed"));
    let refused = mosquitto("mosquitto_pub", &server, "mqttv5", &["-t", "a", "-m", "1"]).output().unwrap();
    assert!(!refused.status.success() && text(&refused).contains("Bad User Name"), "{}", text(&refused));
    let find = |server: &Server, arguments: &[&str]| {
        let url = format!("ws://{}", server.address);
        tidewire(arguments).args(["--server", &url]).env("TIDEWIRE_STORAGE_DIRECTORY", store.name()).output().unwrap()
    };
    assert!(find(&server, &["set", "a", "1"]).status.success());
    // Another one, who is stored, and may then come in without that file.
    let mut admin = Session::open(server.address, connect(principal, password));
    let script = r#"add principal "ann" "pw of ann" ["CLIENT"]"#;
    admin.ask(|id| Request { id, ask: Ask::ApplyPrincipals { check: false, script: script.into() } }).unwrap();
    drop(Session::open(server.address, connect("ann", "pw of ann")));
    server.kill();
    let server = start();
    let mut ann = Session::open(server.address, connect("ann", "pw of ann"));
    assert!(matches!(ann.add("b", tidewire::surface::value::ValueType::Json), Err(Refused { code: 110, .. })));
    assert!(find(&server, &["fetch", "a"]).status.success());
}
