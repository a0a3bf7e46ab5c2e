//! Requests between clients end once, wherever connections break and whoever's session ends.
//!
//! Clients handle branches and give them up, ask by path, by session and by filter, answer, reject, or say nothing. The auditor knows every request by its
//! number: who asked it, who was given it, and how it ended.

use crate::ask::Asked;
use crate::client::Form;
use crate::random::Random;
use crate::resume::{any_wire, befall, check_departure, heal_connections, start};
use crate::resume_client::Resumer;
use crate::talk::{Said, Talk, Told, Whom};
use crate::world::{Conditions, World};
use std::collections::{BTreeMap, BTreeSet};
use tidewire::surface::base::Time;
use tidewire::surface::shard::Limits;

const PATHS: [&str; 6] = ["a", "a/b", "a/b/c", "a/bc", "d", "d/e/f"];

const NO_HANDLER: u16 = 310;
const TIMEOUT: u16 = 311;
const GONE: u16 = 312;
const AWAY: u16 = 313;
const BUSY: u16 = 314;
const REJECTED: u16 = 315;
const NO_SUCH_REQUEST: u16 = 316;
const NO_SUCH_LISTENER: u16 = 302;
const LOST: u16 = 336;
const OVERLOADED: u16 = 400;

/// A client's session: the client, and the number of its sessions.
type Party = (usize, usize);

/// What was asked of others.
struct Request {
    asker: Party,
    whom: Whom,
    path: &'static str,
    /// Nobody waits for an answer.
    is_message: bool,
    /// It may not be told earlier that its time is over.
    due: Time,
    given: BTreeSet<Party>,
    /// What was said to it by those.
    responded: usize,
    rejected: usize,
    ends: usize,
    /// Of one to a filter: how many were asked, and who has answered.
    told: Option<u64>,
    heard_from: BTreeSet<String>,
}

/// What a session has of others.
#[derive(Default)]
struct Standing {
    name: String,
    /// The branches of each of its handlers that may be asked still, by the identifiers of HANDLE_REQUESTS, and those that stand.
    branches: BTreeMap<u64, BTreeMap<u64, &'static str>>,
    handlers: BTreeMap<u64, &'static str>,
    /// Requests that it has not answered, with their numbers.
    todo: Vec<(u64, u64)>,
    /// The highest number of a request that it was given.
    last: u64,
    messages: usize,
    refused: usize,
}

struct Auditor {
    world: World,
    standings: BTreeMap<Party, Standing>,
    requests: BTreeMap<u64, Request>,
    /// By the asker's identifier.
    by_id: BTreeMap<u64, u64>,
    /// Every session that there ever was.
    names: BTreeMap<String, Party>,
    /// How requests ended: answered, or with an error.
    ends: BTreeMap<u16, usize>,
}

fn begin(seed: u64, change: impl Fn(&mut Conditions)) -> Auditor {
    let world = start(seed, |chosen| {
        let mut random = Random::new(seed + 1000);
        chosen.clients += 2;
        chosen.keep_alive_ms = 100_000;
        chosen.bytes_high = random.pick(&[300, 2000, 1_000_000]);
        chosen.questions_max = random.pick(&[7, 1000, 1000]);
        chosen.request_bytes_max = random.pick(&[300, 1000, 1_000_000]);
        change(chosen);
    });
    let (standings, requests, by_id, names, ends) = Default::default();
    let mut auditor = Auditor { world, standings, requests, by_id, names, ends };
    for resumer in &mut auditor.world.resuming.clients {
        // Others close its session, and nobody tells it.
        (resumer.talk, resumer.may_lose_session) = (Some(Vec::new()), true);
    }
    auditor.world.settle();
    auditor.look();
    auditor
}

fn is_within(path: &str, branch: &str) -> bool {
    path.strip_prefix(branch).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl Auditor {
    fn client(&self, at: usize) -> &Resumer {
        &self.world.resuming.clients[at]
    }

    fn party(&self, at: usize) -> Party {
        (at, self.client(at).sessions)
    }

    /// Of the client's session that there is now.
    fn standing(&mut self, at: usize) -> &mut Standing {
        let party = self.party(at);
        self.standings.entry(party).or_default()
    }

    fn clients(&self) -> Vec<usize> {
        (0..self.world.resuming.clients.len()).collect()
    }

    fn step(&mut self) {
        let world = &mut self.world;
        world.now.0 += world.random.below(2_000_000) as u64;
        let shards = usize::from(world.conditions.shards);
        let shard = world.random.below(shards);
        let client = world.random.below(world.resuming.clients.len());
        let wire = any_wire(world);
        let bytes = world.random.pick(&[1, 30, 400, 4000]);
        match world.random.below(100) {
            0..28 => self.act(client),
            28..46 => drop(world.read_wire(wire, bytes)),
            46..64 => drop(world.listen_wire(wire, bytes)),
            64..76 => while world.send(shard) {},
            76..86 => {
                let from = world.random.below(shards);
                world.deliver(from, shard);
            }
            86..90 => drop(world.walk(shard)),
            90..93 => drop(world.post(shard)),
            93..96 => drop(world.adopt_wire()),
            96 if world.random.percent(25) => befall(world, client),
            96..98 => drop(world.walk(shard)),
            _ => {
                world.now.0 += 20_000_000;
                world.tick(shard);
            }
        }
        self.look();
    }

    fn act(&mut self, at: usize) {
        let random = &mut self.world.random;
        let resumer = &mut self.world.resuming.clients[at];
        if resumer.wire.is_none() {
            if random.percent(30) {
                self.world.connect_wire(at);
            }
            return;
        }
        if resumer.unsaid() > 12 {
            return;
        }
        match random.below(100) {
            0..8 => {
                let (handler, path) = (random.within(1, 3) as u64, random.pick(&PATHS));
                self.handle(at, handler, path);
            }
            8..12 => {
                let handler = random.within(1, 3) as u64;
                self.standing(at).handlers.remove(&handler);
                self.say(at, Said::Unhandle { handler });
            }
            12..34 => self.request(at, Whom::Path),
            34..42 => {
                let session = self.any_name();
                self.request(at, Whom::Session(session));
            }
            42..48 => {
                let filter = self.any_filter();
                self.request(at, Whom::Filter(filter));
            }
            48..88 => self.answer(at),
            88 if random.percent(30) => {
                let session = self.any_name();
                self.say(at, Said::Close { session });
            }
            _ => drop(resumer.acknowledge(random)),
        }
    }

    fn say(&mut self, at: usize, said: Said) -> u64 {
        let id = self.world.take_id();
        self.world.resuming.clients[at].ask(id, Asked::Said(said));
        id
    }

    fn handle(&mut self, at: usize, handler: u64, path: &'static str) {
        let id = self.say(at, Said::Handle { handler, path });
        let standing = self.standing(at);
        standing.handlers.insert(handler, path);
        standing.branches.entry(handler).or_default().insert(id, path);
    }

    /// Of a session that there is, or was.
    fn any_name(&mut self) -> String {
        let at = self.world.random.below(self.names.len());
        self.names.keys().nth(at).expect("it is one of them").clone()
    }

    fn any_filter(&mut self) -> String {
        match self.world.random.below(4) {
            0 => "all".to_owned(),
            1 => "Tier is 'gold'".to_owned(),
            _ => {
                let names: Vec<String> = (0..3).map(|_| format!("\"{}\"", self.any_name())).collect();
                format!("$SessionId in [{}]", names.join(","))
            }
        }
    }

    fn request(&mut self, at: usize, whom: Whom) {
        let is_message = self.world.random.percent(15);
        let path = self.world.random.pick(&PATHS);
        self.request_of(at, whom, path, is_message);
    }

    /// Gives the number of the request.
    fn request_of(&mut self, at: usize, whom: Whom, path: &'static str, is_message: bool) -> u64 {
        let number = self.world.take_value_number();
        let random = &mut self.world.random;
        let (timeout_ms, filler) = (random.pick(&[0, 0, 1, 30, 1000]), random.pick(&[0, 0, 20, 250]));
        let value = format!("{number} {}", "v".repeat(filler));
        let said = Said::Request { whom: whom.clone(), path, timeout_ms, number, value };
        if is_message {
            self.world.resuming.clients[at].ask(0, Asked::Said(said));
            self.standing(at).messages += 1;
        } else {
            let id = self.say(at, said);
            self.by_id.insert(id, number);
        }
        let time_ms = if timeout_ms == 0 { Limits::default().request_ms_max } else { timeout_ms };
        let due = self.world.now.after_ms(time_ms);
        let (given, responded, rejected, ends, told, heard_from) = Default::default();
        let asker = self.party(at);
        let request = Request { asker, whom, path, is_message, due, given, responded, rejected, ends, told, heard_from };
        self.requests.insert(number, request);
        number
    }

    /// Answers something that it was asked, at times twice, or forgets it.
    fn answer(&mut self, at: usize) {
        let party = self.party(at);
        let random = &mut self.world.random;
        let Some(todo) = self.standings.get_mut(&party).map(|standing| &mut standing.todo).filter(|todo| !todo.is_empty()) else { return };
        let (request, number) = todo.swap_remove(random.below(todo.len()));
        match random.below(20) {
            0 => {}
            1..4 => self.reject(at, request, number),
            4 => {
                self.respond(at, request, number);
                self.respond(at, request, number);
            }
            _ => self.respond(at, request, number),
        }
    }

    fn respond(&mut self, at: usize, request: u64, number: u64) {
        let filler = self.world.random.pick(&[0, 0, 40, 250]);
        self.requests.get_mut(&number).expect("it was asked").responded += 1;
        self.say(at, Said::Respond { request, value: format!("{number} {}", "r".repeat(filler)) });
    }

    fn reject(&mut self, at: usize, request: u64, number: u64) {
        self.requests.get_mut(&number).expect("it was asked").rejected += 1;
        self.say(at, Said::Reject { request });
    }

    // What is heard.

    fn look(&mut self) {
        for at in 0..self.world.resuming.clients.len() {
            let talk = self.world.resuming.clients[at].talk.as_mut().expect("all talk");
            for (session, talk) in talk.iter() {
                if let Talk::Begun { session: name } = talk {
                    self.standings.entry((at, *session)).or_default().name.clone_from(name);
                    self.names.insert(name.clone(), (at, *session));
                }
            }
        }
        for at in self.clients() {
            let talk = self.world.resuming.clients[at].talk.as_mut().expect("all talk");
            std::mem::take(talk).into_iter().for_each(|(session, talk)| self.hear((at, session), talk));
        }
    }

    fn hear(&mut self, at: Party, talk: Talk) {
        match talk {
            Talk::Begun { .. } => {}
            Talk::Told(Told::Requested { handler, request, session, path, number, properties }) => {
                assert_eq!(properties, 2, "a handler is told the properties that it named");
                self.given(at, handler, request, number, (&session, &path));
            }
            Talk::Told(Told::Response { id, session, number }) => {
                assert_eq!(self.by_id[&id], number, "a response is to the request that was asked");
                assert!(self.requests[&number].responded > 0, "{number} was answered");
                self.heard_one(at, number, session);
            }
            Talk::Told(Told::ResponseError { id, session, code }) => self.heard_error(at, id, session, code),
            Talk::Answered { id, said, result } => self.answered(at, id, &said, result),
            Talk::Refused(code) => {
                let standing = self.standings.entry(at).or_default();
                standing.refused += 1;
                assert!([NO_HANDLER, AWAY, BUSY, OVERLOADED, TIMEOUT].contains(&code), "a message is refused with {code}");
                assert!(standing.refused <= standing.messages, "one error for each message at most");
            }
        }
    }

    /// A handler is given a request.
    fn given(&mut self, at: Party, handler: u64, count: u64, number: u64, (session, path): (&str, &str)) {
        let asked = self.requests.get_mut(&number).expect("it was asked");
        let standing = self.standings.entry(at).or_default();
        assert_eq!((asked.path, self.names[session]), (path, asked.asker), "it comes as it was asked, and says from whom");
        let is_own = standing.branches.get(&handler).is_some_and(|branches| branches.values().any(|branch| is_within(path, branch)));
        assert!(is_own, "handler {handler} of client {at:?} has no branch of {path}");
        match &asked.whom {
            Whom::Path => assert!(asked.given.is_empty(), "{number} is given to one only, once"),
            Whom::Session(name) => assert!(asked.given.is_empty() && *name == standing.name, "{number} is given to the one that was asked"),
            Whom::Filter(filter) => {
                assert!(filter == "all" || filter.contains(&standing.name), "{number} is given to whom the filter means")
            }
        }
        assert!(asked.given.insert(at), "{number} is given to client {at:?} twice");
        if asked.is_message {
            return assert_eq!(count, 0, "nobody waits for an answer to it");
        }
        assert!(count > standing.last, "requests are numbered as they come");
        standing.last = count;
        standing.todo.push((count, number));
    }

    fn answered(&mut self, at: Party, id: u64, said: &Said, result: Result<crate::heard::Body, u16>) {
        match (said, result) {
            (Said::Request { whom: Whom::Filter(_), number, .. }, Ok(body)) => {
                let asked = self.requests.get_mut(number).expect("it was asked");
                assert_eq!((asked.ends, asked.told.replace(body.asked())), (0, None), "how many are asked is told once");
                if body.asked() == 0 {
                    self.end(at, *number, 0);
                }
            }
            (Said::Request { number, .. }, Ok(body)) => {
                assert_eq!((self.by_id[&id], body.response()), (*number, *number), "an answer goes to who asked");
                let asked = &self.requests[number];
                assert!(asked.responded > 0 && asked.given.len() == 1, "{number} was answered by who was given it");
                self.end(at, *number, 0);
            }
            (Said::Request { number, whom, .. }, Err(code)) => {
                let is_filter = matches!(whom, Whom::Filter(_));
                assert!(!is_filter || [TIMEOUT, OVERLOADED].contains(&code) && self.requests[number].told.is_none());
                self.check_error(*number, code, self.requests[number].given.len());
                self.end(at, *number, code);
            }
            // What it was before it is asked no more.
            (Said::Handle { handler, .. }, Ok(_)) => self.branches(at, *handler).retain(|asked, _| *asked >= id),
            (Said::Handle { .. }, Err(code)) => assert_eq!(code, OVERLOADED),
            (Said::Unhandle { handler }, Ok(_)) => self.branches(at, *handler).retain(|asked, _| *asked > id),
            (Said::Unhandle { .. }, Err(code)) => assert_eq!(code, NO_SUCH_LISTENER),
            (Said::Respond { .. } | Said::Reject { .. }, result) => assert!(matches!(result, Ok(_) | Err(NO_SUCH_REQUEST)), "{result:?}"),
            (Said::Close { .. }, Ok(body)) => assert!(body.asked() < 2),
            (Said::Close { .. }, Err(code)) => assert_eq!(code, OVERLOADED),
        }
    }

    fn branches(&mut self, at: Party, handler: u64) -> &mut BTreeMap<u64, &'static str> {
        self.standings.entry(at).or_default().branches.entry(handler).or_default()
    }

    /// `given`: how many have heard of the request, of those of whom the error tells.
    fn check_error(&self, number: u64, code: u16, given: usize) {
        let asked = &self.requests[&number];
        match code {
            NO_HANDLER | AWAY | BUSY | OVERLOADED => assert_eq!(given, 0, "{number} was given to somebody, and ends with {code}"),
            TIMEOUT => assert!(self.world.now >= asked.due, "the time of {number} is not over"),
            REJECTED => assert!(asked.rejected > 0, "{number} was rejected"),
            LOST => assert!(asked.responded > 0, "{number} was answered"),
            other => assert_eq!(other, GONE, "{number}"),
        }
    }

    /// One of several answers.
    fn heard_one(&mut self, at: Party, number: u64, session: String) {
        let asked = self.requests.get_mut(&number).expect("it was asked");
        let total = asked.told.expect("how many are asked is told first");
        assert!(asked.heard_from.insert(session), "{number} is answered by each once");
        if asked.heard_from.len() as u64 == total {
            self.end(at, number, 0);
        }
    }

    fn heard_error(&mut self, at: Party, id: u64, session: String, code: u16) {
        let number = self.by_id[&id];
        if session.is_empty() {
            assert_eq!(code, TIMEOUT, "what is of no session is the end of the time");
            self.check_error(number, code, 0);
            return self.end(at, number, code);
        }
        assert_ne!(code, TIMEOUT, "the time ends for all together");
        let party = self.names.get(&session);
        let given = party.is_some_and(|party| self.requests[&number].given.contains(party));
        self.check_error(number, code, usize::from(given));
        *self.ends.entry(code).or_default() += 1;
        self.heard_one(at, number, session);
    }

    fn end(&mut self, at: Party, number: u64, code: u16) {
        let asked = self.requests.get_mut(&number).expect("it was asked");
        assert_eq!(at, asked.asker, "the end of {number} is told to who asked");
        asked.ends += 1;
        assert_eq!(asked.ends, 1, "{number} ends once");
        *self.ends.entry(code).or_default() += 1;
    }

    // At rest.

    /// Everybody is back, and the time of all that was asked is over.
    fn come_to_rest(&mut self) {
        heal_connections(&mut self.world);
        self.look();
        self.pass_time();
        let live: Vec<Party> = self.clients().into_iter().map(|at| self.party(at)).collect();
        for (number, asked) in &self.requests {
            assert!(asked.is_message || asked.ends == 1 || !live.contains(&asked.asker), "{number} has no end");
            assert!(asked.told.is_none_or(|told| told >= asked.heard_from.len() as u64), "{number} is answered by more than were asked");
        }
    }

    fn pass_time(&mut self) {
        self.settle();
        self.world.now = self.world.now.after_ms(Limits::default().request_ms_max);
        for _ in 0..2 {
            (0..usize::from(self.world.conditions.shards)).for_each(|shard| self.world.tick(shard));
            self.settle();
        }
    }

    fn settle(&mut self) {
        self.world.settle();
        self.look();
    }

    /// The handlers of the nearest branch of a path, by their clients.
    fn nearest(&self, path: &str) -> Vec<usize> {
        let handlers = || {
            let of = |at: usize| {
                self.standings.get(&self.party(at)).into_iter().flat_map(move |of| of.handlers.values().map(move |branch| (at, *branch)))
            };
            self.clients().into_iter().flat_map(of).filter(|(_, branch)| is_within(path, branch))
        };
        let longest = handlers().map(|(_, branch)| branch.len()).max();
        handlers().filter(|(_, branch)| Some(branch.len()) == longest).map(|(at, _)| at).collect()
    }

    /// Of those that are there, the nearest take what is asked of a path, and share it.
    fn check_nearest(&mut self) {
        for path in PATHS {
            let nearest = self.nearest(path);
            let count = self.clients().len();
            let asker = self.world.random.below(count);
            let numbers: Vec<u64> = (0..2 * nearest.len().max(1)).map(|_| self.request_of(asker, Whom::Path, path, false)).collect();
            self.settle();
            let mut shares = vec![0; count];
            for number in &numbers {
                let given: Vec<Party> = self.requests[number].given.iter().copied().collect();
                match given[..] {
                    [(at, _)] => shares[at] += 1,
                    _ => assert!(nearest.is_empty() && self.requests[number].ends == 1, "{path} is asked of somebody: {nearest:?}"),
                }
            }
            let mut expected = vec![0; count];
            nearest.iter().for_each(|at| expected[*at] += 2);
            assert_eq!(shares, expected, "each handler of the nearest branch of {path} has its share");
            for at in self.clients() {
                while let Some((request, number)) = self.standing(at).todo.pop() {
                    self.respond(at, request, number);
                }
            }
            self.settle();
            assert!(numbers.iter().all(|number| self.requests[number].ends == 1), "all that was asked of {path} ends");
        }
    }
}

#[test]
fn every_request_ends_once_and_is_given_once() {
    crate::for_each_seed(|seed| {
        let mut auditor = begin(seed, |_| {});
        (0..5000).for_each(|_| auditor.step());
        auditor.come_to_rest();
        // Where none is passed over, and none refused.
        let Conditions { questions_max, request_bytes_max, bytes_high, .. } = auditor.world.conditions;
        if [questions_max > 100, request_bytes_max > 100_000, bytes_high > 100_000] == [true; 3] {
            auditor.check_nearest();
        }
        let given = auditor.requests.values().filter(|asked| !asked.given.is_empty()).count();
        assert!(given > 0, "requests are given to handlers: {:?}", auditor.ends);
        check_departure(&mut auditor.world);
    });
}

/// The asker's own shard looks at its sessions last, so how many are asked is not known when those of the other have answered.
#[test]
fn answers_that_come_before_all_are_asked_wait_as_far_as_there_is_room() {
    let mut auditor = begin(1, |conditions| {
        (conditions.shards, conditions.clients, conditions.bytes_high) = (2, 0, 1_000_000);
        (conditions.questions_max, conditions.request_bytes_max, conditions.socket_bytes) = (1000, 300, 5000);
    });
    let world = &mut auditor.world;
    let clients: Vec<usize> = (0..4).map(|_| world.add_resumer(Form::Text, 60_000)).collect();
    for at in &clients {
        world.resuming.clients[*at].talk = Some(Vec::new());
        world.connect_wire_to(*at, usize::from(*at > 0));
    }
    auditor.settle();
    clients[1..].iter().for_each(|at| auditor.handle(*at, 1, "a"));
    auditor.settle();
    let number = auditor.request_of(0, Whom::Filter("all".to_owned()), "a", false);
    let wire = |auditor: &Auditor, at: usize| auditor.client(at).wire.expect("it is connected");
    while auditor.world.read_wire(wire(&auditor, 0), 4000) {}
    auditor.world.post(0);
    for _ in 0..20 {
        while auditor.world.deliver(0, 1) {}
        while auditor.world.walk(1) {}
        while auditor.world.send(1) {}
        for at in &clients[1..] {
            auditor.world.listen_wire(wire(&auditor, *at), 4000);
            auditor.look();
            while let Some((request, number)) = auditor.standing(*at).todo.pop() {
                auditor.requests.get_mut(&number).expect("it was asked").responded += 1;
                auditor.say(*at, Said::Respond { request, value: format!("{number} {}", "r".repeat(100)) });
            }
            auditor.world.read_wire(wire(&auditor, *at), 4000);
        }
        auditor.world.post(1);
        while auditor.world.deliver(1, 0) {}
    }
    assert_eq!(auditor.requests[&number].told, None, "its own shard has not looked");
    auditor.settle();
    let asked = &auditor.requests[&number];
    assert_eq!((asked.told, asked.ends, auditor.ends.get(&NO_HANDLER), auditor.ends.get(&LOST)), (Some(4), 1, Some(&1), Some(&1)));
    check_departure(&mut auditor.world);
}
