//! Starts the threads, and takes questions.
//!
//! One thread (`chain`) leads each question through the chain and gives all verdicts; what takes time is done elsewhere (`workers`): passwords on threads
//! of low priority, keys and the endpoint on threads that wait. Each question is answered once, also where a thread has ended.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use crossbeam_channel::{Sender, bounded, unbounded};

use super::chain::{Chain, Counters, Counts, Event, Job, Places};
use super::keys::{KeySet, Keys, Pace, Source, read_file};
use super::passwords::{Cost, Hasher, Passwords};
use super::throttle::{self, Allowance, Throttle};
use super::token::Rules;
use super::webhook::Webhook;
use super::workers::{self, HasherWork, Tokens};
use super::{Now, Principals, Question, Verdict};
use crate::config::{Authentication, Authenticator as Kind, Jwt, is_url};

/// Called once with the verdict, on the thread of the chain: it must not take time.
pub type Reply = Box<dyn FnOnce(Verdict) + Send>;

/// Asks the sessions that are registered as authenticators by this name. Called on the thread of the chain: it must not take time. The reply may be called from
/// anywhere; if it is not called in time, it is not waited for.
pub type ControlAsker = Box<dyn Fn(&str, &Question, Reply) + Send>;

/// How much work with the hasher waits that is no question.
const HASHER_WORK_MAX: usize = 64;

/// The largest set of keys that is read.
const KEYS_BYTES_MAX: u64 = 1 << 20;

/// Too many questions wait: the reply will not be called. The asker may come again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

/// Something that the configuration names cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartError {
    pub key: &'static str,
    pub reason: String,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.reason)
    }
}

impl std::error::Error for StartError {}

/// The running threads. They end when it is dropped, with all questions that wait denied.
pub struct Authenticator {
    handle: Handle,
    events: Sender<Event>,
    thread: Option<JoinHandle<()>>,
}

/// Where questions are given, from any thread.
#[derive(Clone)]
pub struct Handle {
    asked: Sender<Job>,
    hasher_work: Sender<HasherWork>,
    counters: Arc<Counters>,
    start: Instant,
}

impl Handle {
    /// Takes a question, without waiting.
    pub fn ask(&self, question: Question, reply: Reply) -> Result<(), Busy> {
        self.counters.note_asked();
        let job = Job::new(question, reply, Now::read(self.start).monotonic);
        self.asked.try_send(job).map_err(|refused| {
            refused.into_inner().forget();
            self.counters.note_busy();
            Busy
        })
    }

    /// Does something with the hasher on the thread of passwords, as hashing those of a script. Without waiting.
    pub fn with_hasher(&self, work: HasherWork) -> Result<(), Busy> {
        self.hasher_work.try_send(work).map_err(|_| Busy)
    }

    #[cfg_attr(not(test), expect(dead_code, reason = "figures show them with the others"))]
    pub fn counts(&self) -> Counts {
        self.counters.read()
    }
}

impl Authenticator {
    /// Reads the files that the settings name, which may take a moment, and starts. Keys from a URL are read later: who signs tokens need not be up yet.
    pub fn start(settings: &Authentication, principals: Arc<dyn Principals>, control: ControlAsker) -> Result<Self, StartError> {
        let start = Instant::now();
        let cost = Cost { memory_kib: settings.passwords.memory_kib, passes: settings.passwords.passes, lanes: settings.passwords.lanes };
        let failed = |key| move |reason: String| StartError { key, reason };
        let hasher = Hasher::new(cost).map_err(|error| failed("authentication.password_memory_kib")(error.to_string()))?;
        let tokens = if settings.chain.contains(&Kind::Jwt) { Some(Arc::new(tokens(&settings.jwt, start)?)) } else { None };
        let webhook = if settings.chain.contains(&Kind::Webhook) {
            Some(Arc::new(Webhook::new(&settings.webhook).map_err(|error| failed("webhook")(error.to_string()))?))
        } else {
            None
        };
        let throttle = Arc::new(Mutex::new(Throttle::new(throttle_limits(settings))));
        let counters = Arc::new(Counters::default());
        let (asked, questions) = bounded(settings.questions_max);
        let (events, happened) = unbounded();
        let (hasher_work, work) = bounded(HASHER_WORK_MAX);
        let context = workers::Context { events: events.clone(), throttle: throttle.clone(), start, wait_ms: settings.wait_ms };
        let of_passwords = &settings.passwords;
        let passwords = Passwords::new(Arc::new(hasher), principals.clone(), of_passwords.cache_ms, of_passwords.cache_max);
        let places = Places {
            passwords: workers::start_passwords(&context, passwords, work, of_passwords)?,
            keys: match &tokens {
                Some(tokens) if tokens.source.is_some() => Some(workers::start_keys(&context, tokens.clone(), settings.questions_max)?),
                _ => None,
            },
            webhook: match &webhook {
                Some(webhook) => Some(workers::start_webhook(&context, webhook, &settings.webhook)?),
                None => None,
            },
        };
        let chain = Chain::new(settings, principals, throttle, counters.clone(), events.clone(), places, control).with(tokens, webhook);
        let thread = workers::spawn("authentication", move || chain.run(&questions, &happened, start))?;
        let handle = Handle { asked, hasher_work, counters, start };
        Ok(Self { handle, events, thread: Some(thread) })
    }

    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

impl Drop for Authenticator {
    fn drop(&mut self) {
        // The others end when the chain has: nobody has their channels then. Nobody waits for one that waits for the network.
        let _ = self.events.send(Event::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn throttle_limits(settings: &Authentication) -> throttle::Limits {
    let failures = &settings.failures;
    throttle::Limits {
        address: Allowance { burst: failures.address_max, per_minute: failures.address_per_minute },
        principal: Allowance { burst: failures.principal_max, per_minute: failures.principal_per_minute },
        entries_max: failures.entries_max,
    }
}

fn tokens(jwt: &Jwt, start: Instant) -> Result<Tokens, StartError> {
    let pace = Pace { period_ms: jwt.refresh_ms, unknown_ms: jwt.unknown_key_ms };
    let now = Now::read(start).monotonic;
    let failed = |key| move |reason: String| StartError { key, reason };
    let rules = Rules::new(jwt);
    if let Some(path) = &jwt.secret_file {
        let named = |reason: String| failed("jwt.secret_file")(format!("{}: {reason}", path.display()));
        let bytes = zeroize::Zeroizing::new(read_file(path, KEYS_BYTES_MAX).map_err(|error| named(error.to_string()))?);
        let secret = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let secret = secret.strip_suffix(b"\r").unwrap_or(secret);
        return Ok(Tokens { rules, keys: Keys::with(KeySet::of_secret(secret).map_err(named)?, pace, now), source: None });
    }
    if is_url(&jwt.keys) {
        let client = super::client::Client::new(&jwt.keys, jwt.timeout_ms, jwt.ca_file.as_deref(), KEYS_BYTES_MAX)
            .map_err(|error| failed("jwt.ca_file")(error.to_string()))?;
        return Ok(Tokens { rules, keys: Keys::new(pace), source: Some(Source::Url(jwt.keys.as_str().into(), client)) });
    }
    let source = Source::File(jwt.keys.as_str().into());
    let set = source.read().map_err(failed("jwt.keys"))?;
    Ok(Tokens { rules, keys: Keys::with(set, pace, now), source: Some(source) })
}
