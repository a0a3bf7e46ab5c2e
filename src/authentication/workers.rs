//! The threads on which questions wait, or are worked on for long: passwords, keys of tokens, the endpoint.
//!
//! Each takes questions from a channel of bounded length, and ends when nobody can send there any more.

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, never, select_biased};

use super::authenticator::StartError;
use super::chain::{self, Event, Job};
use super::keys::{Keys, Source};
use super::passwords::{Hasher, Passwords};
use super::throttle::{Standing, Throttle};
use super::token::{Outcome, Rules};
use super::webhook::Webhook;
use super::{Credentials, Denial, Now, Verdict};
use crate::config::{PasswordSettings, WebhookSettings};

/// What somebody wants done with the hasher.
pub type HasherWork = Box<dyn FnOnce(&Hasher) + Send>;

/// What threads that hash are nicer by than others: shards come first, but where all cores are busy logins still go on, by a tenth of a core.
const NICENESS: i32 = 10;

/// What every thread needs.
#[derive(Clone)]
pub struct Context {
    pub events: Sender<Event>,
    pub throttle: Arc<Mutex<Throttle>>,
    pub start: Instant,
    /// A question that is older is not worked on any more.
    pub wait_ms: u64,
}

impl Context {
    /// What is said of a question without working on it: who asked is gone, or has failed too often since.
    fn dismiss(&self, job: &Job) -> Option<Verdict> {
        let now = Now::read(self.start).monotonic;
        if now.since(job.asked) > self.wait_ms.saturating_mul(1_000_000) {
            return Some(Verdict::Deny(Denial::Busy));
        }
        let may_try = matches!(job.question.credentials, Credentials::None)
            || self.throttle.lock().expect("nobody panics with the throttle").may_try(job.question.address, &job.question.principal, now);
        (!may_try).then_some(Verdict::Deny(Denial::Throttled))
    }

    fn is_suspect(&self, job: &Job) -> bool {
        let mut throttle = self.throttle.lock().expect("nobody panics with the throttle");
        let now = Now::read(self.start).monotonic;
        throttle.standing(job.question.address, &job.question.principal, now) == Standing::Suspect
    }

    pub fn work(&self, job: Job, check: impl FnOnce(&Job) -> Verdict) {
        let verdict = self.dismiss(&job).unwrap_or_else(|| check(&job));
        // Where nobody hears it any more the question is denied as it is dropped.
        let _ = self.events.send(Event::Returned(job, verdict));
    }
}

/// The keys of tokens, and what is made of tokens.
pub struct Tokens {
    pub rules: Rules,
    pub keys: Keys,
    /// None: there is a secret.
    pub source: Option<Source>,
}

pub fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StartError> {
    let failed = |error: std::io::Error| StartError { key: "authentication", reason: format!("no thread: {error}") };
    std::thread::Builder::new().name(name.to_owned()).spawn(run).map_err(failed)
}

pub fn start_passwords(
    context: &Context,
    passwords: Passwords,
    work: Receiver<HasherWork>,
    settings: &PasswordSettings,
) -> Result<chain::Passwords, StartError> {
    let (known, knowns) = bounded(settings.waiting_max);
    let (clean, cleans) = bounded(settings.waiting_max);
    let (suspect, suspects) = bounded(settings.waiting_max);
    let passwords = Arc::new(passwords);
    for _ in 0..settings.threads {
        let (context, passwords) = (context.clone(), passwords.clone());
        let waiting = Waiting { known: knowns.clone(), clean: cleans.clone(), suspect: suspects.clone(), behind: suspect.clone() };
        let work = work.clone();
        spawn("passwords", move || {
            give_way();
            hash_passwords(&context, &passwords, work, &waiting);
        })?;
    }
    Ok(chain::Passwords { remembered: passwords.remembered.clone(), known, clean, suspect })
}

/// Questions by their standings.
struct Waiting {
    known: Receiver<Job>,
    clean: Receiver<Job>,
    suspect: Receiver<Job>,
    /// Where one goes that has failed since it was asked.
    behind: Sender<Job>,
}

fn hash_passwords(context: &Context, passwords: &Passwords, mut work: Receiver<HasherWork>, waiting: &Waiting) {
    let check = |job: Job| {
        context.work(job, |job| match &job.question.credentials {
            Credentials::Password(password) => passwords.check(&job.question, password, Now::read(context.start)),
            _ => Verdict::Abstain,
        });
    };
    loop {
        select_biased! {
            recv(work) -> asked => match asked {
                Ok(asked) => asked(&passwords.hasher),
                // All handles are gone; questions may wait still.
                Err(_) => work = never(),
            },
            recv(waiting.known) -> job => match job {
                Ok(job) => check(job),
                Err(_) => return,
            },
            recv(waiting.clean) -> job => match job {
                // Of very many questions of one address all were asked before the first was found wrong.
                Ok(job) if context.is_suspect(&job) => {
                    if let Err(refused) = waiting.behind.try_send(job) {
                        let _ = context.events.send(Event::Returned(refused.into_inner(), Verdict::Deny(Denial::Busy)));
                    }
                }
                Ok(job) => check(job),
                Err(_) => return,
            },
            recv(waiting.suspect) -> job => match job {
                Ok(job) => check(job),
                Err(_) => return,
            },
        }
    }
}

/// The calling thread gets less of a core where others want it.
fn give_way() {
    // SAFETY: it takes numbers only; 0 is the calling thread.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS) };
}

pub fn start_keys(context: &Context, tokens: Arc<Tokens>, waiting_max: usize) -> Result<Sender<Job>, StartError> {
    let (sender, jobs) = bounded(waiting_max);
    let context = context.clone();
    spawn("keys", move || read_keys(&context, &tokens, &jobs))?;
    Ok(sender)
}

fn read_keys(context: &Context, tokens: &Tokens, jobs: &Receiver<Job>) {
    let source = tokens.source.as_ref().expect("keys that are read again have a source");
    let refresh = || {
        if let Err(reason) = tokens.keys.refresh(|| source.read(), Now::read(context.start).monotonic) {
            tracing::warn!("the keys of tokens cannot be read, those that were there stay: {reason}");
        }
    };
    loop {
        let wait_ms = tokens.keys.wait_ms(Now::read(context.start).monotonic);
        match jobs.recv_timeout(Duration::from_millis(wait_ms)) {
            Ok(job) => context.work(job, |job| {
                if tokens.keys.may_look(Now::read(context.start).monotonic) {
                    refresh();
                }
                match tokens.rules.check(&job.question, &tokens.keys.current(), Now::read(context.start).wall_ms) {
                    Outcome::Verdict(verdict) => verdict,
                    Outcome::UnknownKey => Verdict::refused("token: signed with an unknown key"),
                }
            }),
            Err(RecvTimeoutError::Timeout) => refresh(),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

pub fn start_webhook(context: &Context, webhook: &Arc<Webhook>, settings: &WebhookSettings) -> Result<Sender<Job>, StartError> {
    let (sender, jobs) = bounded::<Job>(settings.waiting_max);
    for _ in 0..settings.connections {
        let (context, webhook, jobs) = (context.clone(), webhook.clone(), jobs.clone());
        spawn("webhook", move || {
            for job in jobs {
                context.work(job, |job| webhook.ask(&job.question, || Now::read(context.start)));
            }
        })?;
    }
    Ok(sender)
}
