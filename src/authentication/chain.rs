//! Leads each question through the chain.
//!
//! What can be said at once is said here; what takes time goes to a place of its own and comes back as an event. The time is an argument but in `run`.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, select};
use hashbrown::HashMap;

use super::authenticator::{ControlAsker, Reply};
use super::certificate;
use super::passwords::Remembered;
use super::throttle::{Standing, Throttle};
use super::token::Outcome;
use super::webhook::Webhook;
use super::workers::Tokens;
use super::{Allowed, Anonymous, Credentials, Denial, Now, Principals, Question, Verdict};
use crate::base::Time;
use crate::config::{Authentication, Authenticator as Kind, Control, NameRoles, Unavailable};

/// A question on its way. It is answered once: where it is lost, it is denied.
pub struct Job {
    pub question: Question,
    pub asked: Time,
    /// Whom of the chain it is asked next.
    next: usize,
    reply: Option<Reply>,
}

impl Job {
    pub fn new(question: Question, reply: Reply, asked: Time) -> Self {
        Self { question, asked, next: 0, reply: Some(reply) }
    }

    fn answer(mut self, verdict: Verdict) {
        if let Some(reply) = self.reply.take() {
            reply(verdict);
        }
    }

    /// It was never taken: the asker knows otherwise.
    pub fn forget(mut self) {
        self.reply = None;
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if let Some(reply) = self.reply.take() {
            reply(Verdict::unavailable("authentication has ended"));
        }
    }
}

/// What comes back.
pub enum Event {
    /// From a place, with what its authenticator says.
    Returned(Job, Verdict),
    /// From sessions, about the question of this number.
    Answered(u64, Verdict),
    Stop,
}

/// Where questions go that take time.
pub struct Places {
    pub passwords: Passwords,
    pub keys: Option<Sender<Job>>,
    pub webhook: Option<Sender<Job>>,
}

/// Those wait by their standings.
pub struct Passwords {
    /// Those that were right lately need no place.
    pub remembered: Arc<Remembered>,
    pub known: Sender<Job>,
    pub clean: Sender<Job>,
    pub suspect: Sender<Job>,
}

#[derive(Default)]
pub struct Counters {
    asked: AtomicU64,
    allowed: AtomicU64,
    refused: AtomicU64,
    throttled: AtomicU64,
    busy: AtomicU64,
    unavailable: AtomicU64,
}

/// How many questions there were since the start, and what they came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub asked: u64,
    pub allowed: u64,
    pub refused: u64,
    pub throttled: u64,
    pub busy: u64,
    pub unavailable: u64,
}

impl Counters {
    pub fn note_asked(&self) {
        self.asked.fetch_add(1, Relaxed);
    }

    pub fn note_busy(&self) {
        self.busy.fetch_add(1, Relaxed);
    }

    fn note(&self, verdict: &Verdict) {
        let counter = match verdict {
            Verdict::Allow(_) => &self.allowed,
            Verdict::Abstain | Verdict::Deny(Denial::Refused(_) | Denial::Unknown) => &self.refused,
            Verdict::Deny(Denial::Throttled) => &self.throttled,
            Verdict::Deny(Denial::Busy) => &self.busy,
            Verdict::Deny(Denial::Unavailable(_)) => &self.unavailable,
        };
        counter.fetch_add(1, Relaxed);
    }

    pub fn read(&self) -> Counts {
        Counts {
            asked: self.asked.load(Relaxed),
            allowed: self.allowed.load(Relaxed),
            refused: self.refused.load(Relaxed),
            throttled: self.throttled.load(Relaxed),
            busy: self.busy.load(Relaxed),
            unavailable: self.unavailable.load(Relaxed),
        }
    }
}

/// Use: `begin` with each question, `happened` with each event, `time_out` when `wait_ms` says so.
pub struct Chain {
    links: Vec<Kind>,
    credentials_bytes_max: usize,
    principals: Arc<dyn Principals>,
    certificates: Vec<NameRoles>,
    tokens: Option<Arc<Tokens>>,
    webhook: Option<Arc<Webhook>>,
    throttle: Arc<Mutex<Throttle>>,
    counters: Arc<Counters>,
    events: Sender<Event>,
    places: Places,
    control: Control,
    asker: ControlAsker,
    waiting: HashMap<u64, Job>,
    /// When the waiting ones end, the first in front; some have been answered.
    ends: VecDeque<(Time, u64)>,
    next_number: u64,
}

/// What a link of the chain does with a question.
enum Step {
    Said(Verdict),
    Passwords,
    Keys,
    Webhook,
    Control(Box<str>),
}

impl Chain {
    pub fn new(
        settings: &Authentication,
        principals: Arc<dyn Principals>,
        throttle: Arc<Mutex<Throttle>>,
        counters: Arc<Counters>,
        events: Sender<Event>,
        places: Places,
        asker: ControlAsker,
    ) -> Self {
        Self {
            links: settings.chain.clone(),
            credentials_bytes_max: settings.credentials_bytes_max,
            principals,
            certificates: settings.certificates.clone(),
            tokens: None,
            webhook: None,
            throttle,
            counters,
            events,
            places,
            control: settings.control.clone(),
            asker,
            waiting: HashMap::new(),
            ends: VecDeque::new(),
            next_number: 0,
        }
    }

    /// With what is needed for links that the chain has.
    pub fn with(self, tokens: Option<Arc<Tokens>>, webhook: Option<Arc<Webhook>>) -> Self {
        Self { tokens, webhook, ..self }
    }

    /// Works until it is told to stop.
    pub fn run(mut self, questions: &Receiver<Job>, happened: &Receiver<Event>, start: Instant) {
        loop {
            let wait = Duration::from_millis(self.wait_ms(Now::read(start).monotonic));
            select! {
                recv(happened) -> event => match event {
                    Ok(Event::Stop) | Err(_) => return,
                    Ok(event) => self.happened(event, Now::read(start)),
                },
                recv(questions) -> job => match job {
                    Ok(job) => self.begin(job, Now::read(start)),
                    // There is always a handle as long as it was not told to stop.
                    Err(_) => return,
                },
                default(wait) => {}
            }
            self.time_out(Now::read(start));
        }
    }

    pub fn begin(&mut self, job: Job, now: Now) {
        let Question { principal, credentials, address, .. } = &job.question;
        let shown = secret_bytes(credentials);
        if principal.len() + shown.unwrap_or_default() > self.credentials_bytes_max {
            return self.finish(job, Verdict::refused("principal and credentials are too long"), now);
        }
        let may_try = shown.is_none() || self.throttle().may_try(*address, principal, now.monotonic);
        if !may_try {
            return self.finish(job, Verdict::Deny(Denial::Throttled), now);
        }
        self.advance(job, now);
    }

    pub fn happened(&mut self, event: Event, now: Now) {
        match event {
            Event::Returned(job, verdict) => self.go_on(job, verdict, now),
            Event::Answered(number, verdict) => {
                // Too late: it was not waited for.
                if let Some(job) = self.waiting.remove(&number) {
                    let verdict = match verdict {
                        Verdict::Deny(Denial::Unavailable(reason)) => self.without_control(&reason),
                        verdict => verdict,
                    };
                    self.go_on(job, verdict, now);
                }
            }
            Event::Stop => {}
        }
    }

    /// How long until `time_out` has something to do, in milliseconds.
    pub fn wait_ms(&self, now: Time) -> u64 {
        self.ends.front().map_or(3_600_000, |(end, _)| end.since(now).div_ceil(1_000_000))
    }

    /// Goes on with what sessions have not answered in time.
    pub fn time_out(&mut self, now: Now) {
        while self.ends.front().is_some_and(|(end, number)| *end <= now.monotonic || !self.waiting.contains_key(number)) {
            let number = self.ends.pop_front().map(|(_, number)| number);
            if let Some(job) = number.and_then(|number| self.waiting.remove(&number)) {
                self.go_on(job, self.without_control("no answer in time"), now);
            }
        }
    }

    fn throttle(&self) -> std::sync::MutexGuard<'_, Throttle> {
        self.throttle.lock().expect("nobody panics with the throttle")
    }

    fn go_on(&mut self, mut job: Job, verdict: Verdict, now: Now) {
        match verdict {
            Verdict::Abstain => {
                job.next += 1;
                self.advance(job, now);
            }
            verdict => self.finish(job, verdict, now),
        }
    }

    fn advance(&mut self, mut job: Job, now: Now) {
        loop {
            let Some(link) = self.links.get(job.next) else { return self.finish(job, Verdict::Deny(Denial::Unknown), now) };
            let place = match self.step(link, &job.question, now) {
                Step::Said(Verdict::Abstain) => {
                    job.next += 1;
                    continue;
                }
                Step::Said(verdict) => return self.finish(job, verdict, now),
                Step::Control(name) => match self.ask_sessions(&name, job, now) {
                    Some(passed_over) => {
                        job = passed_over;
                        job.next += 1;
                        continue;
                    }
                    None => return,
                },
                Step::Passwords => {
                    let places = &self.places.passwords;
                    Some(match self.throttle().standing(job.question.address, &job.question.principal, now.monotonic) {
                        Standing::Known => &places.known,
                        Standing::Clean => &places.clean,
                        Standing::Suspect => &places.suspect,
                    })
                }
                Step::Keys => self.places.keys.as_ref(),
                Step::Webhook => self.places.webhook.as_ref(),
            };
            // It waits there from now on.
            job.asked = now.monotonic;
            let sent = place.expect("a link of the chain has its place").try_send(job);
            return match sent {
                Ok(()) => {}
                Err(TrySendError::Full(job)) => self.finish(job, Verdict::Deny(Denial::Busy), now),
                Err(TrySendError::Disconnected(job)) => self.finish(job, Verdict::unavailable("its thread has ended"), now),
            };
        }
    }

    fn step(&self, link: &Kind, question: &Question, now: Now) -> Step {
        match link {
            Kind::Principals => self.step_principals(question, now),
            Kind::Certificate => Step::Said(certificate::check(&self.certificates, question)),
            Kind::Control(name) => Step::Control(name.clone()),
            Kind::Jwt => {
                let tokens = self.tokens.as_ref().expect("a chain with tokens has their keys");
                match tokens.rules.check(question, &tokens.keys.current(), now.wall_ms) {
                    Outcome::Verdict(verdict) => Step::Said(verdict),
                    Outcome::UnknownKey if self.places.keys.is_some() && tokens.keys.may_look(now.monotonic) => Step::Keys,
                    Outcome::UnknownKey => Step::Said(Verdict::refused("token: signed with an unknown key")),
                }
            }
            Kind::Webhook => {
                let webhook = self.webhook.as_ref().expect("a chain with a webhook has it");
                webhook.remembered(question, now).map_or(Step::Webhook, Step::Said)
            }
        }
    }

    fn step_principals(&self, question: &Question, now: Now) -> Step {
        match &question.credentials {
            Credentials::Password(password) if !question.principal.is_empty() => {
                // Who waits behind those who guess would not come in, though nothing has to be hashed.
                self.places.passwords.remembered.find(question, password, now).map_or(Step::Passwords, Step::Said)
            }
            Credentials::None if question.principal.is_empty() => Step::Said(match self.principals.anonymous() {
                Anonymous::Allow(roles) => {
                    let properties = self.principals.accept_properties(&question.properties);
                    Verdict::Allow(Allowed { roles, properties, ..Allowed::default() })
                }
                Anonymous::Deny => Verdict::refused("anonymous sessions are denied"),
                Anonymous::Abstain => Verdict::Abstain,
            }),
            _ => Step::Said(Verdict::Abstain),
        }
    }

    /// Gives the question back where the chain goes on without the sessions.
    fn ask_sessions(&mut self, name: &str, job: Job, now: Now) -> Option<Job> {
        if self.waiting.len() >= self.control.waiting_max {
            return match self.without_control("too many questions wait for their answers") {
                Verdict::Abstain => Some(job),
                verdict => {
                    self.finish(job, verdict, now);
                    None
                }
            };
        }
        let number = self.next_number;
        self.next_number += 1;
        let events = self.events.clone();
        let reply = move |verdict| {
            let _ = events.send(Event::Answered(number, verdict));
        };
        (self.asker)(name, &job.question, Box::new(reply));
        self.waiting.insert(number, job);
        self.ends.push_back((now.monotonic.after_ms(self.control.timeout_ms), number));
        None
    }

    fn without_control(&self, reason: &str) -> Verdict {
        match self.control.unavailable {
            Unavailable::Deny => Verdict::unavailable(format!("control authenticator: {reason}")),
            Unavailable::Abstain => Verdict::Abstain,
        }
    }

    fn finish(&self, job: Job, verdict: Verdict, now: Now) {
        let Question { principal, credentials, address, .. } = &job.question;
        if secret_bytes(credentials).is_some() {
            match &verdict {
                Verdict::Allow(allowed) => self.throttle().succeeded(*address, &allowed.principal),
                Verdict::Deny(denial) if denial.is_failure() => self.throttle().failed(*address, principal, now.monotonic),
                Verdict::Deny(_) | Verdict::Abstain => {}
            }
        }
        self.counters.note(&verdict);
        job.answer(verdict);
    }
}

/// How long what is shown is, if anything is.
fn secret_bytes(credentials: &Credentials) -> Option<usize> {
    match credentials {
        Credentials::None => None,
        Credentials::Password(secret) | Credentials::Token(secret) | Credentials::Custom(secret) => Some(secret.bytes().len()),
    }
}
