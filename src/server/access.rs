//! Who may come in, and what roles permit: what is stored, else what files say, else what a new server begins with.

use crate::authentication::administrator::{self, Administrator};
use crate::authentication::{self, Authenticator, Cost, Handle, Hasher, KeptPrincipals, Question, Reply, Verdict};
use crate::base::TopicId;
use crate::config::{Authenticator as Link, Config};
use crate::journal::StoredTopic;
use crate::runtime::{Runtime, SessionQuestion, wall_ms};
use crate::security::{Author, PrincipalScript, PrincipalStore, SecurityStore};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// What the administrator of a new server may do.
const ADMINISTRATOR_ROLE: &str = "ADMINISTRATOR";

/// See the module. Nothing of it is there where nobody is asked who clients are.
#[derive(Default)]
pub struct Access {
    /// Its threads end with it.
    authenticator: Option<Authenticator>,
    principals: Option<Arc<KeptPrincipals>>,
    pub security: Option<Arc<SecurityStore>>,
    /// Of a server that has just begun: the file that has its password.
    pub administrator: Option<PathBuf>,
    sessions: Arc<OnceLock<SessionAsker>>,
}

/// Asks sessions that are authenticators.
type SessionAsker = Box<dyn Fn(SessionQuestion) + Send + Sync>;

/// What the chain asks of sessions, to any of them and back.
fn ask_sessions(sessions: Arc<OnceLock<SessionAsker>>, timeout_ms: u64) -> impl Fn(&str, &Question, Reply) + Send {
    move |name, question, reply| {
        let Some(ask) = sessions.get() else { return reply(Verdict::unavailable("the server has not started yet")) };
        let (who, principal) = (format!("control:{name}"), question.principal.clone());
        let asked = authentication::write_question(question);
        let answered = move |answer: Result<Vec<u8>, String>| {
            let verdict = answer.and_then(|text| authentication::read_answer(&who, &principal, &text, wall_ms()));
            reply(verdict.unwrap_or_else(|reason| Verdict::unavailable(format!("{who}: {reason}"))));
        };
        ask(SessionQuestion { name: name.into(), question: asked[..].into(), timeout_ms, reply: Box::new(answered) });
    }
}

impl Access {
    /// Takes up what is stored, and starts the authenticators.
    pub fn start(config: &Config, stored: &[(TopicId, StoredTopic)]) -> io::Result<Self> {
        let settings = &config.authentication;
        if settings.chain.is_empty() {
            return Ok(Self::default());
        }
        let (principals, administrator) = read_principals(config, stored)?;
        let principals = Arc::new(principals);
        let sessions = Arc::default();
        let control = ask_sessions(Arc::clone(&sessions), settings.control.timeout_ms);
        let authenticator = Authenticator::start(settings, principals.clone(), Box::new(control));
        let authenticator = authenticator.map_err(|error| io::Error::other(error.to_string()))?;
        let (authenticator, principals, security) = (Some(authenticator), Some(principals), Some(Arc::new(read_roles(config)?)));
        Ok(Self { authenticator, principals, security, administrator, sessions })
    }

    /// Sessions can be asked from now on.
    pub fn ask_sessions_by(&self, runtime: &Runtime) {
        let _ = self.sessions.set(Box::new(runtime.session_asker()));
    }

    /// Where shards ask.
    pub fn authenticators(&self) -> Option<(Handle, Arc<KeptPrincipals>)> {
        self.authenticator.as_ref().map(Authenticator::handle).zip(self.principals.clone())
    }

    /// The script that makes the principals that there are.
    pub fn principals_script(&self) -> Arc<str> {
        self.principals.as_ref().map_or_else(|| Arc::from(""), |principals| principals.current().to_script().into())
    }
}

/// What roles permit where nothing is stored.
fn read_roles(config: &Config) -> io::Result<SecurityStore> {
    let limits = config.security.limits;
    let Some(path) = &config.security.roles_file else { return Ok(SecurityStore::predefined(limits)) };
    let text = read(path, "security.roles_file")?;
    SecurityStore::parse(&text, limits).map_err(|error| named("security.roles_file", path, &error))
}

/// The principals, and the file of the administrator where it was made just now.
fn read_principals(config: &Config, stored: &[(TopicId, StoredTopic)]) -> io::Result<(KeptPrincipals, Option<PathBuf>)> {
    let (settings, limits) = (&config.authentication, config.limits.principal_limits);
    let cost = Cost { memory_kib: settings.passwords.memory_kib, passes: settings.passwords.passes, lanes: settings.passwords.lanes };
    let hasher = Hasher::new(cost).map_err(|error| io::Error::other(error.to_string()))?;
    let mut principals = PrincipalStore::empty(limits);
    let mut apply = |text: &str| {
        let script = PrincipalScript::parse(text, limits).map_err(|error| error.to_string())?;
        let applied = principals.apply(
            &script,
            Author::Operator,
            |password| hasher.hash(password).ok(),
            |password, hash| hasher.verify(password, hash),
        );
        applied.map_err(|error| error.to_string())
    };
    // Of two records, as a crash may leave them, the later one counts.
    let stored = stored.iter().filter_map(|(id, topic)| Some((*id, topic.principals_script()?))).max_by_key(|(id, _)| id.0);
    match (stored, &settings.principals_file) {
        (Some((_, script)), _) => {
            apply(script).map_err(|error| io::Error::other(format!("the principals, as they were stored: {error}")))?
        }
        (None, Some(path)) => {
            let text = read(path, "authentication.principals_file")?;
            apply(&text).map_err(|error| named("authentication.principals_file", path, &error))?;
        }
        (None, None) => {}
    }
    let mut made = None;
    if settings.chain.contains(&Link::Principals) {
        let is_new = stored.is_none() && settings.principals_file.is_none();
        let (administrator, file) = take_administrator(&config.storage.directory, is_new)?;
        made = file;
        if let Some(Administrator { principal, password }) = administrator.filter(|known| principals.look_up(&known.principal).is_none()) {
            let hash = hasher.hash(&password).map_err(|error| io::Error::other(error.to_string()))?;
            principals.put(&principal, hash, &[ADMINISTRATOR_ROLE.into()]);
        }
    }
    Ok((KeptPrincipals::new(principals), made))
}

/// The administrator of the file in the directory, and the file where it was made now: only for a server that knows nobody.
fn take_administrator(directory: &Path, is_new: bool) -> io::Result<(Option<Administrator>, Option<PathBuf>)> {
    let mut made = None;
    if is_new {
        std::fs::create_dir_all(directory)?;
        made = administrator::create(directory)?.map(|_| directory.join(administrator::FILE));
    }
    match administrator::read(directory) {
        Ok(administrator) => Ok((Some(administrator), made)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((None, made)),
        Err(error) => Err(error),
    }
}

fn read(path: &Path, key: &str) -> io::Result<String> {
    std::fs::read_to_string(path).map_err(|error| named(key, path, &error))
}

fn named(key: &str, path: &Path, what: &dyn fmt::Display) -> io::Error {
    io::Error::other(format!("{key}: {}: {what}", path.display()))
}
