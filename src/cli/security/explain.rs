//! `tidewire security explain`: whether roles, a principal or an anonymous session may do something, and by which line.
//!
//! Both scripts are taken from the server, or from files, and all is worked out here: to be told costs the server no more than to show them. Only who asks by roles
//! needs no script of principals, which servers show to few.

use super::super::client::{Client, ClientError};
use super::super::print::{Printer, printable};
use super::super::read::{Failure, Target, error_name, exit};
use super::Instead;
use super::script::{About, File, UNBOUNDED, UNBOUNDED_PRINCIPALS};
use crate::security::{Anonymous, Asked, AskedError, Author, Explanation, PrincipalStore, SessionKind};
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Args)]
pub struct Explain {
    /// What is asked for; a path where it is a permission for paths. An empty PRINCIPAL is an anonymous session
    #[arg(required = true, num_args = 1..=3, value_name = "[PRINCIPAL] PERMISSION [PATH]")]
    words: Vec<String>,
    /// The roles that the session has, with commas between, in the place of a principal's; '' for none
    #[arg(long, value_name = "ROLE,...", value_delimiter = ',')]
    roles: Option<Vec<String>>,
    /// It is a session that has not said who it is, in the place of a principal
    #[arg(long)]
    anonymous: bool,
    /// A script of principals, in the place of a server's; - for standard input
    #[arg(long, value_name = "FILE", conflicts_with = "roles")]
    principals: Option<PathBuf>,
    #[command(flatten)]
    instead: Instead,
    #[command(flatten)]
    target: Target,
}

/// Exit codes: 0 allowed, 1 not allowed, 2 where that cannot be said, 3 no connection.
pub fn explain(arguments: &Explain) -> ExitCode {
    match explained(arguments) {
        Ok((is_allowed, said)) => {
            Printer::new(false).print(said.lines().map(printable));
            ExitCode::from(u8::from(!is_allowed))
        }
        // That a script is none, or that a server does not show its own or lets nobody in, is no answer.
        Err(Failure::Undone(message)) => exit(Err(Failure::Usage(message))),
        Err(Failure::Client(ClientError::Refused { code, message, .. })) => {
            exit(Err(Failure::Usage(format!("{code} {}: {message}", error_name(code)))))
        }
        Err(failure) => exit(Err(failure)),
    }
}

/// Whether it is allowed, and why.
fn explained(arguments: &Explain) -> Result<(bool, String), Failure> {
    let Question { who, permission, path } = Question::of(arguments).map_err(Failure::Usage)?;
    let asked = Asked::parse(permission, path).map_err(|error| {
        let words = path.map_or(permission.to_owned(), |path| format!("{permission} {path}"));
        Failure::Usage(format!("{}: {error}", printable(&words)))
    })?;
    let Scripts { store, principals } = Scripts::of(arguments, &who)?;
    let (roles, kind, line) = match (who, &principals) {
        (Who::Roles(roles, kind), _) => (roles, kind, None),
        (Who::Principal(name), Some(file)) => match known(name, file)? {
            Known::Roles { roles, kind, line } => (roles, kind, Some(line)),
            Known::Denied { line } => return Ok((false, format!("refused: {line}"))),
        },
        (Who::Principal(_), None) => (Vec::new(), SessionKind::Anonymous, None),
    };
    let explanation = store.store(UNBOUNDED)?.explain(&roles, kind, asked);
    for role in roles.iter().filter(|role| !explanation.roles.contains(role)) {
        eprintln!("note: nothing is set for the role '{}'", printable(role));
    }
    Ok((explanation.is_allowed, Explanation { given_by: line, ..explanation }.to_string()))
}

/// What `explain` is asked, by its words.
#[derive(Debug)]
struct Question<'a> {
    who: Who<'a>,
    permission: &'a str,
    path: Option<&'a str>,
}

/// Of whom.
#[derive(Debug, PartialEq, Eq)]
enum Who<'a> {
    /// Whoever has these roles.
    Roles(Vec<Box<str>>, SessionKind),
    /// Empty for an anonymous session.
    Principal(&'a str),
}

impl<'a> Question<'a> {
    fn of(arguments: &'a Explain) -> Result<Self, String> {
        let words: Vec<&str> = arguments.words.iter().map(String::as_str).collect();
        let roles = |roles: &[String]| roles.iter().filter(|role| !role.is_empty()).map(|role| role.as_str().into()).collect();
        let kind = if arguments.anonymous { SessionKind::Anonymous } else { SessionKind::Named };
        let (who, words) = match (&arguments.roles, arguments.anonymous, &*words) {
            (Some(given), _, words) => (Who::Roles(roles(given), kind), words),
            (None, true, words) => (Who::Principal(""), words),
            (None, false, [first, ..]) if is_permission(first) => {
                return Err("whose? Expected PRINCIPAL PERMISSION [PATH], or --roles or --anonymous for a principal".to_owned());
            }
            (None, false, [principal, words @ ..]) => (Who::Principal(principal), words),
            (None, false, []) => return Err("expected PRINCIPAL PERMISSION [PATH]".to_owned()),
        };
        match words {
            [permission] => Ok(Self { who, permission, path: None }),
            [permission, path] => Ok(Self { who, permission, path: Some(path) }),
            _ if arguments.anonymous || arguments.roles.is_some() => {
                Err("expected PERMISSION [PATH]: --roles and --anonymous stand for a principal".to_owned())
            }
            _ => Err("expected PRINCIPAL PERMISSION [PATH]".to_owned()),
        }
    }
}

fn is_permission(word: &str) -> bool {
    !matches!(Asked::parse(word, None), Err(AskedError::UnknownPermission))
}

/// What it is worked out from.
struct Scripts {
    store: File,
    /// Not there where nobody is to be looked up.
    principals: Option<File>,
}

impl Scripts {
    fn of(arguments: &Explain, who: &Who<'_>) -> Result<Self, Failure> {
        let store = arguments.instead.file(arguments.principals.as_deref())?;
        let principals = arguments.principals.as_deref().map(File::read).transpose()?;
        match (store, who) {
            (Some(store), Who::Principal(name)) if principals.is_none() && !name.is_empty() => {
                let whose = format!("whose roles? Expected --principals FILE, in which '{}' stands beside {}", printable(name), store.name);
                Err(Failure::Usage(whose))
            }
            (Some(store), _) => Ok(Self { store, principals }),
            (None, who) => {
                let mut client = arguments.target.connect()?;
                let store = kept(About::Roles, &mut client)?;
                let principals = match (principals, who) {
                    (None, Who::Principal(_)) => Some(kept(About::Principals, &mut client)?),
                    (principals, _) => principals,
                };
                client.close()?;
                Ok(Self { store, principals })
            }
        }
    }
}

/// What the server has. That it does not show it is no answer to the question.
fn kept(about: About, client: &mut Client) -> Result<File, Failure> {
    let (name, what) = match about {
        About::Roles => ("the server's roles", "the server does not show what roles permit"),
        About::Principals => {
            ("the server's principals", "the server does not show who has which roles, so say them by --roles ('' for none)")
        }
    };
    match about.kept(client) {
        Ok(text) => Ok(File { name: name.to_owned(), text }),
        Err(Failure::Client(ClientError::Refused { code, message, .. })) => {
            Err(Failure::Usage(format!("{what}: {code} {}: {message}", error_name(code))))
        }
        Err(failure) => Err(failure),
    }
}

/// What a script of principals says of somebody, and the line that says it.
#[derive(Debug, PartialEq, Eq)]
enum Known {
    Roles {
        roles: Vec<Box<str>>,
        kind: SessionKind,
        line: String,
    },
    /// There is no such session.
    Denied {
        line: String,
    },
}

fn known(name: &str, file: &File) -> Result<Known, Failure> {
    let script = file.principals(UNBOUNDED_PRINCIPALS).map_err(Failure::Usage)?;
    let mut store = PrincipalStore::empty(UNBOUNDED_PRINCIPALS);
    // Who is asked about has shown a password already; here nobody does.
    let applied = store.apply(&script, Author::Operator, |_| Some("".into()), |_, _| true);
    applied.map_err(|error| Failure::Usage(file.locate(&error.to_string())))?;
    if name.is_empty() {
        return anonymous(&store, file);
    }
    let Some(known) = store.look_up(name) else {
        let unknown = format!("{}: there is no principal '{}'", file.name, printable(name));
        return Err(Failure::Usage(format!("{unknown}; of one whom another in authentication.chain knows, say the roles by --roles")));
    };
    Ok(Known::Roles { roles: known.roles.to_vec(), kind: SessionKind::Named, line: known.roles_line(name) })
}

fn anonymous(store: &PrincipalStore, file: &File) -> Result<Known, Failure> {
    let line = store.anonymous().to_string();
    match store.anonymous() {
        Anonymous::Allow(roles) => Ok(Known::Roles { roles: roles.to_vec(), kind: SessionKind::Anonymous, line }),
        Anonymous::Deny => Ok(Known::Denied { line }),
        Anonymous::Abstain => Err(Failure::Usage(format!(
            "{}: {line}: others in authentication.chain decide on these sessions; say their roles by --anonymous --roles",
            file.name
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        explain: Explain,
    }

    /// `expected` may be the beginning of an error.
    fn check_question(words: &[&str], expected: Result<(Who<'_>, &str, Option<&str>), &str>) {
        let line = Line::try_parse_from(["explain"].iter().chain(words)).unwrap_or_else(|error| panic!("{words:?}: {error}"));
        match (Question::of(&line.explain), expected) {
            (Ok(Question { who, permission, path }), Ok(expected)) => assert_eq!((who, permission, path), expected, "{words:?}"),
            (Err(error), Err(expected)) => assert!(error.starts_with(expected), "{words:?}: {error}"),
            (question, _) => panic!("{words:?}: {question:?}"),
        }
    }

    fn roles(names: &[&str], kind: SessionKind) -> Who<'static> {
        Who::Roles(names.iter().map(|name| Box::from(*name)).collect(), kind)
    }

    #[test]
    fn the_words_ask_about_roles_or_about_a_principal() {
        use SessionKind::{Anonymous, Named};
        check_question(&["--roles", "A,B", "read_topic", "a"], Ok((roles(&["A", "B"], Named), "read_topic", Some("a"))));
        check_question(&["VIEW_SERVER", "--roles", "A", "--roles", "B"], Ok((roles(&["A", "B"], Named), "VIEW_SERVER", None)));
        check_question(&["--roles", "", "VIEW_SERVER"], Ok((roles(&[], Named), "VIEW_SERVER", None)));
        check_question(&["--roles", "A", "--anonymous", "VIEW_SERVER"], Ok((roles(&["A"], Anonymous), "VIEW_SERVER", None)));
        check_question(&["--anonymous", "VIEW_SERVER"], Ok((Who::Principal(""), "VIEW_SERVER", None)));
        check_question(&["", "READ_TOPIC", "a"], Ok((Who::Principal(""), "READ_TOPIC", Some("a"))));
        check_question(&["ann", "VIEW_SERVER"], Ok((Who::Principal("ann"), "VIEW_SERVER", None)));
        check_question(&["--principals", "p", "ann", "READ_TOPIC", "a"], Ok((Who::Principal("ann"), "READ_TOPIC", Some("a"))));
        check_question(&["READ_TOPIC", "a"], Err("whose?"));
        check_question(&["--roles", "A", "ann", "READ_TOPIC", "a"], Err("expected PERMISSION [PATH]: "));
        check_question(&["--principals", "p", "ann"], Err("expected PRINCIPAL"));
    }

    fn check_known(text: &str, name: &str, expected: Result<Known, &str>) {
        match (known(name, &File { name: "principals".to_owned(), text: text.to_owned() }), expected) {
            (Ok(known), Ok(expected)) => assert_eq!(known, expected, "{text}"),
            (Err(Failure::Usage(error)), Err(expected)) => assert!(error.starts_with(expected), "{text}: {error}"),
            (known, expected) => panic!("{text}: {:?} in the place of {expected:?}", known.ok()),
        }
    }

    #[test]
    fn roles_are_those_of_the_principal_in_the_script() {
        let text = "add principal 'ann' 'secret' ['A', 'B']\nassign roles 'ann' ['C']\n";
        let ann = Known::Roles { roles: vec!["C".into()], kind: SessionKind::Named, line: r#"assign roles "ann" ["C"]"#.to_owned() };
        check_known(text, "ann", Ok(ann));
        check_known(text, "bob", Err("principals: there is no principal 'bob'; "));
        check_known("add principal", "ann", Err("principals:1:14: "));
    }

    #[test]
    fn anonymous_sessions_are_dealt_with_as_the_script_says() {
        let line = r#"allow anonymous connections ["A"]"#;
        let allowed = Known::Roles { roles: vec!["A".into()], kind: SessionKind::Anonymous, line: line.to_owned() };
        check_known(line, "", Ok(allowed));
        check_known("", "", Ok(Known::Denied { line: "deny anonymous connections".to_owned() }));
        check_known("abstain anonymous connections", "", Err("principals: abstain anonymous connections: others"));
    }
}
