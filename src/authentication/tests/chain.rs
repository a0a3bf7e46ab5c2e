//! Whole chains: their order, their bounds, and the threads.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, mpsc};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use super::webhook::{Does, Server};
use super::{Store, at, question, with_password, with_token};
use crate::authentication::authenticator::{Authenticator, Busy, ControlAsker, Reply};
use crate::authentication::chain::{Chain, Counters, Event, Job, Passwords, Places};
use crate::authentication::passwords::{Cost, Hasher, Remembered};
use crate::authentication::throttle::{self, Allowance, Throttle};
use crate::authentication::{Allowed, Anonymous, Credentials, Denial, Handle, Now, Principals, Question, Secret, Verdict};
use crate::base::Time;
use crate::config::{Authentication, Authenticator as Kind, Jwt, NameRoles, PasswordSettings, Unavailable, WebhookSettings};

/// So cheap that tests are quick.
const CHEAP: PasswordSettings =
    PasswordSettings { memory_kib: 8, passes: 1, lanes: 1, threads: 1, waiting_max: 2, cache_ms: 1000, cache_max: 10 };

fn store(anonymous: Anonymous) -> Store {
    let hasher = Hasher::new(Cost { memory_kib: 8, passes: 1, lanes: 1 }).unwrap();
    Store { hash: hasher.hash(&Secret::new(&b"right"[..])).unwrap().into(), anonymous }
}

fn settings(chain: &[Kind]) -> Authentication {
    Authentication { chain: chain.to_vec(), passwords: CHEAP, ..Authentication::default() }
}

fn control(name: &str) -> Kind {
    Kind::Control(name.into())
}

/// A chain without threads: what goes to its places stays there.
struct Bench {
    chain: Chain,
    known: Receiver<Job>,
    clean: Receiver<Job>,
    suspect: Receiver<Job>,
    events: Receiver<Event>,
    sender: Sender<Event>,
    /// What sessions were asked: by which name, of whom, and how they answer.
    asked: Arc<Mutex<Vec<(String, Reply)>>>,
}

impl Bench {
    fn new(settings: &Authentication, anonymous: Anonymous) -> Self {
        let limits = throttle::Limits {
            address: Allowance { burst: 2, per_minute: 60 },
            principal: Allowance { burst: 3, per_minute: 60 },
            entries_max: 100,
        };
        let throttle = Arc::new(Mutex::new(Throttle::new(limits)));
        let [(known, knowns), (clean, cleans), (suspect, suspects)] = [(); 3].map(|()| bounded(CHEAP.waiting_max));
        let (sender, events) = unbounded();
        let asked = Arc::<Mutex<Vec<(String, Reply)>>>::default();
        let noted = asked.clone();
        let asker: ControlAsker = Box::new(move |name, _, reply| noted.lock().unwrap().push((name.to_owned(), reply)));
        let principals: Arc<dyn Principals> = Arc::new(store(anonymous));
        let remembered = Arc::new(Remembered::new(principals.clone(), 1000, 10));
        let places = Places { passwords: Passwords { remembered, known, clean, suspect }, keys: None, webhook: None };
        let chain = Chain::new(settings, principals, throttle, Arc::new(Counters::default()), sender.clone(), places, asker);
        Self { chain, known: knowns, clean: cleans, suspect: suspects, events, sender, asked }
    }

    fn ask(&mut self, question: Question, now: Now) -> mpsc::Receiver<Verdict> {
        let (reply, verdict) = reply();
        self.chain.begin(Job::new(question, reply, now.monotonic), now);
        verdict
    }

    /// What sessions answer to the question that was asked first.
    fn sessions_answer(&mut self, verdict: Verdict, now: Now) {
        let (_, reply) = self.asked.lock().unwrap().remove(0);
        reply(verdict);
        self.chain.happened(self.events.try_recv().unwrap(), now);
    }

    /// The password was looked at.
    fn return_password(&mut self, job: Job, verdict: Verdict, now: Now) {
        self.sender.send(Event::Returned(job, verdict)).unwrap();
        self.chain.happened(self.events.try_recv().unwrap(), now);
    }
}

fn reply() -> (Reply, mpsc::Receiver<Verdict>) {
    let (sender, verdict) = mpsc::channel();
    (Box::new(move |said| drop(sender.send(said))), verdict)
}

fn roles(verdict: Verdict) -> Vec<Box<str>> {
    match verdict {
        Verdict::Allow(allowed) => allowed.roles,
        other => panic!("{other:?}"),
    }
}

#[test]
fn where_all_abstain_the_asker_is_denied() {
    let mut bench = Bench::new(&settings(&[Kind::Principals, Kind::Certificate]), Anonymous::Abstain);
    let verdict = bench.ask(question(""), at(0));
    assert_eq!(verdict.try_recv(), Ok(Verdict::Deny(Denial::Unknown)));
    let mut empty = Bench::new(&settings(&[]), Anonymous::Allow(Vec::new()));
    assert_eq!(empty.ask(question(""), at(0)).try_recv(), Ok(Verdict::Deny(Denial::Unknown)));
}

#[test]
fn the_first_that_does_not_abstain_decides() {
    let certificates = vec![NameRoles::parse("*: BY_CERTIFICATE").unwrap()];
    let certified = || Question { certificate: Some("c".into()), ..question("") };
    let ask = |chain: &[Kind], anonymous: Anonymous| {
        let mut bench = Bench::new(&Authentication { certificates: certificates.clone(), ..settings(chain) }, anonymous);
        bench.ask(certified(), at(0)).try_recv().unwrap()
    };
    let both = [Kind::Principals, Kind::Certificate];
    assert_eq!(roles(ask(&both, Anonymous::Allow(vec!["ANYBODY".into()]))), ["ANYBODY".into()]);
    assert_eq!(roles(ask(&both, Anonymous::Abstain)), ["BY_CERTIFICATE".into()]);
    assert!(matches!(ask(&both, Anonymous::Deny), Verdict::Deny(Denial::Refused(_))));
    let turned = [Kind::Certificate, Kind::Principals];
    assert_eq!(roles(ask(&turned, Anonymous::Deny)), ["BY_CERTIFICATE".into()]);
}

#[test]
fn sessions_answer_in_the_order_of_the_chain() {
    let mut bench = Bench::new(&settings(&[control("a"), control("b")]), Anonymous::Deny);
    let verdict = bench.ask(with_password("x", "y"), at(0));
    bench.sessions_answer(Verdict::Abstain, at(1));
    assert_eq!(bench.asked.lock().unwrap()[0].0, "b");
    assert!(verdict.try_recv().is_err());
    bench.sessions_answer(Verdict::refused("no"), at(2));
    assert_eq!(verdict.try_recv(), Ok(Verdict::refused("no")));
}

#[test]
fn sessions_that_do_not_answer_in_time_are_not_waited_for() {
    for (unavailable, denied) in [(Unavailable::Deny, true), (Unavailable::Abstain, false)] {
        let mut settings = settings(&[control("a"), Kind::Principals]);
        settings.control.unavailable = unavailable;
        let mut bench = Bench::new(&settings, Anonymous::Allow(Vec::new()));
        let verdict = bench.ask(question(""), at(0));
        assert_eq!(bench.chain.wait_ms(at(1000).monotonic), 4000);
        bench.chain.time_out(at(4999));
        assert!(verdict.try_recv().is_err());
        bench.chain.time_out(at(5000));
        let said = verdict.try_recv().unwrap();
        assert_eq!(matches!(said, Verdict::Deny(Denial::Unavailable(_))), denied, "{said:?}");
        bench.sessions_answer(Verdict::Allow(Default::default()), at(5001));
        assert!(verdict.try_recv().is_err(), "what comes too late changes nothing");
    }
}

#[test]
fn how_many_questions_sessions_have_is_bounded() {
    let mut settings = settings(&[control("a")]);
    settings.control.waiting_max = 2;
    let mut bench = Bench::new(&settings, Anonymous::Deny);
    let verdicts = [0, 1, 2].map(|_| bench.ask(question("x"), at(0)));
    assert_eq!(bench.asked.lock().unwrap().len(), 2);
    assert!(matches!(verdicts[2].try_recv(), Ok(Verdict::Deny(Denial::Unavailable(_)))));
    bench.sessions_answer(Verdict::Allow(Default::default()), at(1));
    assert!(bench.ask(question("x"), at(1)).try_recv().is_err(), "there is room again");
}

#[test]
fn how_many_passwords_wait_is_bounded() {
    let mut bench = Bench::new(&settings(&[Kind::Principals]), Anonymous::Deny);
    let verdicts = [0, 1, 2].map(|_| bench.ask(with_password("alice", "x"), at(0)));
    assert_eq!(bench.clean.len(), 2);
    assert_eq!(verdicts[2].try_recv(), Ok(Verdict::Deny(Denial::Busy)));
    assert!(verdicts[0].try_recv().is_err());
}

#[test]
fn who_has_failed_comes_after_others_and_then_not_at_all() {
    let mut bench = Bench::new(&settings(&[Kind::Principals]), Anonymous::Deny);
    for (clean, suspect) in [(1, 0), (0, 1)] {
        let verdict = bench.ask(with_password("alice", "x"), at(0));
        assert_eq!((bench.clean.len(), bench.suspect.len()), (clean, suspect));
        let job = bench.clean.try_recv().or_else(|_| bench.suspect.try_recv()).unwrap();
        bench.return_password(job, Verdict::refused("wrong password"), at(0));
        assert_eq!(verdict.try_recv(), Ok(Verdict::refused("wrong password")));
    }
    let verdict = bench.ask(with_password("bob", "x"), at(0));
    assert_eq!(verdict.try_recv(), Ok(Verdict::Deny(Denial::Throttled)));
    assert!(bench.clean.is_empty() && bench.suspect.is_empty(), "without any work");
    assert!(bench.ask(with_password("bob", "x"), at(1000)).try_recv().is_err(), "with time, again");
    let elsewhere = Question { address: IpAddr::from([10, 0, 0, 9]), ..with_password("bob", "x") };
    bench.ask(elsewhere, at(0));
    assert_eq!(bench.clean.len(), 1, "others are not concerned");
}

#[test]
fn who_came_in_from_there_comes_first() {
    let mut bench = Bench::new(&settings(&[Kind::Principals]), Anonymous::Deny);
    bench.ask(with_password("alice", "right"), at(0));
    let job = bench.clean.try_recv().unwrap();
    bench.return_password(job, Verdict::Allow(Allowed { principal: "alice".into(), ..Allowed::default() }), at(0));
    bench.ask(with_password("alice", "wrong"), at(0));
    let job = bench.known.try_recv().unwrap();
    bench.return_password(job, Verdict::refused("wrong password"), at(0));
    bench.ask(with_password("alice", "right"), at(0));
    bench.ask(with_password("bob", "right"), at(0));
    assert_eq!((bench.known.len(), bench.clean.len(), bench.suspect.len()), (1, 0, 1));
}

#[test]
fn who_shows_nothing_fails_at_nothing() {
    let mut bench = Bench::new(&settings(&[Kind::Principals]), Anonymous::Deny);
    for _ in 0..10 {
        assert!(matches!(bench.ask(question(""), at(0)).try_recv(), Ok(Verdict::Deny(Denial::Refused(_)))));
    }
    assert!(bench.ask(with_password("alice", "x"), at(0)).try_recv().is_err());
    assert_eq!(bench.clean.len(), 1);
}

#[test]
fn credentials_have_a_bound() {
    let settings = Authentication { credentials_bytes_max: 64, ..settings(&[Kind::Principals]) };
    let mut bench = Bench::new(&settings, Anonymous::Deny);
    assert!(bench.ask(with_password("alice", &"x".repeat(59)), at(0)).try_recv().is_err());
    assert!(matches!(bench.ask(with_password("alice", &"x".repeat(60)), at(0)).try_recv(), Ok(Verdict::Deny(Denial::Refused(_)))));
    assert!(matches!(bench.ask(question(&"x".repeat(65)), at(0)).try_recv(), Ok(Verdict::Deny(Denial::Refused(_)))));
}

#[test]
fn a_question_that_is_lost_is_denied_once() {
    let mut bench = Bench::new(&settings(&[Kind::Principals]), Anonymous::Deny);
    let verdict = bench.ask(with_password("alice", "x"), at(0));
    drop(bench);
    assert!(matches!(verdict.try_recv(), Ok(Verdict::Deny(Denial::Unavailable(_)))));
    assert!(verdict.try_recv().is_err());
}

fn nobody() -> ControlAsker {
    Box::new(|_, _, _| {})
}

/// Asks, and waits for the verdict of a running one.
fn verdict(handle: &Handle, question: Question) -> Verdict {
    let (reply, verdict) = reply();
    handle.ask(question, reply).unwrap();
    verdict.recv().unwrap()
}

#[test]
fn passwords_are_checked_on_their_thread() {
    let running = Authenticator::start(&settings(&[Kind::Principals]), Arc::new(store(Anonymous::Deny)), nobody()).unwrap();
    let handle = running.handle();
    let from = |last: u8, question: Question| Question { address: [10, 0, 0, last].into(), ..question };
    let proposed = vec![("Trusted".into(), "1".into()), ("Other".into(), "2".into())];
    for _ in 0..2 {
        let question = Question { properties: proposed.clone(), ..from(1, with_password("alice", "right")) };
        let Verdict::Allow(allowed) = verdict(&handle, question) else { panic!("she is let in") };
        assert_eq!((&*allowed.principal, allowed.roles), ("alice", vec!["CLIENT".into()]));
        assert_eq!(allowed.properties, [("Trusted".into(), "1".into())]);
    }
    assert_eq!(verdict(&handle, from(2, with_password("alice", "wrong"))), Verdict::refused("wrong password"));
    assert_eq!(verdict(&handle, from(3, with_password("bob", "right"))), Verdict::Deny(Denial::Unknown));
    assert_eq!(verdict(&handle, from(4, with_password("", "right"))), Verdict::Deny(Denial::Unknown));
    assert_eq!(verdict(&handle, from(5, with_token("alice", "right"))), Verdict::Deny(Denial::Unknown));
    let counts = handle.counts();
    assert_eq!((counts.asked, counts.allowed, counts.refused), (6, 2, 4));
}

#[test]
fn failures_from_one_address_are_soon_not_hashed_any_more() {
    let mut settings = settings(&[Kind::Principals]);
    (settings.failures.address_max, settings.failures.address_per_minute) = (3, 0);
    let running = Authenticator::start(&settings, Arc::new(store(Anonymous::Deny)), nobody()).unwrap();
    let said: Vec<Verdict> = (0..5).map(|_| verdict(&running.handle(), with_password("alice", "wrong"))).collect();
    assert_eq!(said.iter().filter(|verdict| **verdict == Verdict::refused("wrong password")).count(), 3);
    assert_eq!(said.iter().filter(|verdict| **verdict == Verdict::Deny(Denial::Throttled)).count(), 2);
    assert_eq!(running.handle().counts().throttled, 2);
}

#[test]
fn one_that_has_too_much_to_do_says_so_at_once() {
    let (entered, enters) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let blocking: ControlAsker = Box::new(move |_, _, reply| {
        entered.send(()).unwrap();
        let _ = released.lock().unwrap().recv();
        reply(Verdict::Allow(Default::default()));
    });
    let settings = Authentication { questions_max: 1, ..settings(&[control("a")]) };
    let running = Authenticator::start(&settings, Arc::new(store(Anonymous::Deny)), blocking).unwrap();
    let ask = || {
        let (reply, verdict) = reply();
        running.handle().ask(question("x"), reply).map(|()| verdict)
    };
    let first = ask().unwrap();
    enters.recv().unwrap();
    let second = ask().unwrap();
    assert_eq!(ask().err(), Some(Busy));
    assert_eq!(running.handle().counts().busy, 1);
    drop(release);
    for verdict in [first, second] {
        assert!(matches!(verdict.recv(), Ok(Verdict::Allow(_))));
    }
}

#[test]
fn a_slow_endpoint_delays_no_password_and_its_questions_are_denied_at_the_end() {
    let server = Server::start(vec![Does::Hangs]);
    let mut settings = settings(&[Kind::Principals, Kind::Webhook]);
    settings.webhook = WebhookSettings { url: server.url(), timeout_ms: 600_000, connections: 1, ..WebhookSettings::default() };
    let running = Authenticator::start(&settings, Arc::new(store(Anonymous::Deny)), nobody()).unwrap();
    let slow = [0, 1].map(|_| {
        let (reply, verdict) = reply();
        running.handle().ask(Question { credentials: Credentials::Custom(Secret::new(&b"x"[..])), ..question("bob") }, reply).unwrap();
        verdict
    });
    assert!(matches!(verdict(&running.handle(), with_password("alice", "right")), Verdict::Allow(_)));
    assert!(slow[0].try_recv().is_err() && slow[1].try_recv().is_err());
    drop(running);
    drop(server);
    for verdict in slow {
        assert!(matches!(verdict.recv(), Ok(Verdict::Deny(Denial::Unavailable(_)))));
    }
}

/// A key set and a token that its key has signed.
fn key_and_token(id: &str) -> (String, String) {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
    use base64::Engine;
    let encode = |bytes: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
    let pair = Ed25519KeyPair::generate().unwrap();
    let set = serde_json::json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": id, "x": encode(pair.public_key().as_ref())}]});
    let header = serde_json::json!({"alg": "EdDSA", "kid": id}).to_string();
    let claims = serde_json::json!({"sub": id, "exp": 4_000_000_000_u64}).to_string();
    let message = format!("{}.{}", encode(header.as_bytes()), encode(claims.as_bytes()));
    let signature = encode(pair.sign(message.as_bytes()).as_ref());
    (set.to_string(), format!("{message}.{signature}"))
}

#[test]
fn keys_that_come_later_are_looked_for_and_good_ones_stay() {
    let ((old_set, old), (new_set, new)) = (key_and_token("old"), key_and_token("new"));
    let server = Server::start(vec![Does::Answers(200, old_set)]);
    let mut settings = settings(&[Kind::Jwt]);
    settings.jwt = Jwt { keys: server.url(), unknown_key_ms: 0, ..Jwt::default() };
    let running = Authenticator::start(&settings, Arc::new(store(Anonymous::Deny)), nobody()).unwrap();
    let ask = |token: &str| verdict(&running.handle(), with_token("", token));
    assert!(matches!(ask(&old), Verdict::Allow(_)));
    assert_eq!(ask(&new), Verdict::refused("token: signed with an unknown key"));
    server.now_does(Does::Answers(500, String::new()));
    assert_eq!(ask(&new), Verdict::refused("token: signed with an unknown key"));
    assert!(matches!(ask(&old), Verdict::Allow(_)), "the last good keys stay");
    server.now_does(Does::Answers(200, new_set));
    assert!(matches!(ask(&new), Verdict::Allow(_)));
}

#[test]
fn unknown_keys_do_not_make_the_server_ask_all_the_time() {
    let ((set, _), (_, stranger)) = (key_and_token("old"), key_and_token("stranger"));
    let server = Server::start(vec![Does::Answers(200, set)]);
    let mut settings = settings(&[Kind::Jwt]);
    settings.jwt = Jwt { keys: server.url(), unknown_key_ms: 86_400_000, ..Jwt::default() };
    let running = Authenticator::start(&settings, Arc::new(store(Anonymous::Deny)), nobody()).unwrap();
    for last in 0..20 {
        let question = Question { address: [10, 0, 0, last].into(), ..with_token("", &stranger) };
        assert_eq!(verdict(&running.handle(), question), Verdict::refused("token: signed with an unknown key"));
    }
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_file_that_cannot_be_used_is_told_at_the_start() {
    let check = |settings: Authentication, key: &str| {
        let error = Authenticator::start(&settings, Arc::new(store(Anonymous::Deny)), nobody()).err().expect("it is refused");
        assert_eq!(error.key, key, "{error}");
    };
    let with_jwt = |jwt: Jwt| Authentication { jwt, ..settings(&[Kind::Jwt]) };
    check(with_jwt(Jwt { keys: "/nowhere/keys".into(), ..Jwt::default() }), "jwt.keys");
    check(with_jwt(Jwt { keys: "/dev/null".into(), ..Jwt::default() }), "jwt.keys");
    check(with_jwt(Jwt { secret_file: Some("/nowhere/secret".into()), ..Jwt::default() }), "jwt.secret_file");
    check(with_jwt(Jwt { secret_file: Some("/dev/null".into()), ..Jwt::default() }), "jwt.secret_file");
    let ca_file = Some("/dev/null".into());
    check(with_jwt(Jwt { keys: "https://localhost/keys".into(), ca_file, ..Jwt::default() }), "jwt.ca_file");
}

#[test]
fn a_password_that_was_changed_is_asked_for_at_once() {
    struct Changing(Mutex<Store>);
    impl Principals for Changing {
        fn look_up(&self, principal: &str) -> Option<crate::authentication::Known> {
            self.0.lock().unwrap().look_up(principal)
        }
        fn anonymous(&self) -> Anonymous {
            Anonymous::Deny
        }
        fn accept_properties(&self, _: &[(Box<str>, Box<str>)]) -> crate::authentication::Properties {
            Vec::new()
        }
    }
    let changing = Arc::new(Changing(Mutex::new(store(Anonymous::Deny))));
    let running = Authenticator::start(&settings(&[Kind::Principals]), changing.clone(), nobody()).unwrap();
    assert!(matches!(verdict(&running.handle(), with_password("alice", "right")), Verdict::Allow(_)));
    let (sender, hashed) = mpsc::channel();
    running.handle().with_hasher(Box::new(move |hasher| drop(sender.send(hasher.hash(&Secret::new(&b"new"[..])))))).unwrap();
    changing.0.lock().unwrap().hash = hashed.recv().unwrap().unwrap().into();
    assert_eq!(verdict(&running.handle(), with_password("alice", "right")), Verdict::refused("wrong password"));
    assert!(matches!(verdict(&running.handle(), with_password("alice", "new")), Verdict::Allow(_)));
}

#[test]
fn a_question_that_has_waited_too_long_is_not_worked_on() {
    let (events, happened) = unbounded();
    let limits = throttle::Limits {
        address: Allowance { burst: 1, per_minute: 0 },
        principal: Allowance { burst: 1, per_minute: 0 },
        entries_max: 1,
    };
    let start = std::time::Instant::now();
    let context =
        crate::authentication::workers::Context { events, throttle: Arc::new(Mutex::new(Throttle::new(limits))), start, wait_ms: 0 };
    let (reply, _verdict) = reply();
    // Asked at the start, which is more than no time ago.
    context.work(Job::new(with_password("alice", "x"), reply, Time::default()), |_| panic!("it is not worked on"));
    assert!(matches!(happened.try_recv(), Ok(Event::Returned(_, Verdict::Deny(Denial::Busy)))));
}
