//! Sessions that outlive the server: after a crash, and after a stop, those that were stored are there with who they were and what they had selected, and
//! no others; no name is given twice.
//!
//! Clients come and go, select, are selected for and given properties, while the disk is late and the server is started anew with other numbers of shards. Of each
//! session the model knows every state since all was quiet: what is there after a crash is one of those. The clients are plain, and copy topics.

use crate::client::UPGRADE;
use crate::heard::next_frame;
use crate::model::Model;
use crate::random::Random;
use crate::storage::step_disk;
use crate::world::{Conditions, World};
use std::collections::{BTreeMap, BTreeSet};
use tidewire::surface::base::{ConnectionKey, SessionId, TopicId};
use tidewire::surface::shard::Transport;
use tidewire::surface::wire::native::{self, Ask, Heard, Outcome, Request, SessionEntry};
use tidewire::surface::wire::varint::Reader;

/// What clients select themselves, and what is selected for them.
const OWN: [&str; 4] = ["a", "a/x", "a/y", "b"];
const ORDERED: [&str; 3] = ["c", "c/x", "d"];
const OWN_SELECTORS: [&str; 4] = ["?a//", ">a/x", ">b", "*a"];
const ORDERED_SELECTORS: [&str; 3] = ["?c//", ">c/x", ">d"];
const TIERS: [&str; 3] = ["", "1", "2"];

/// Who stays while the server does, makes the topics and gives orders.
const KEEPER: usize = 0;

/// What is said behind a CONNECT that is refused.
const NOT_CONNECTED: u16 = 102;
const CANNOT_RESUME: u16 = 107;
const STAY_MS: u64 = 60_000;
const MS: u64 = 1_000_000;

type Selected = BTreeSet<&'static str>;

fn matched(selector: &str, topics: &[&'static str]) -> Selected {
    let is_matched = |topic: &str| match (&selector[..1], &selector[1..]) {
        ("?", branch) => {
            let branch = branch.trim_end_matches('/');
            topic.strip_prefix(branch).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
        ("*", end) => topic.ends_with(end),
        (_, path) => topic == path,
    };
    topics.iter().copied().filter(|topic| is_matched(topic)).collect()
}

/// What a session is, each state that it may have had since all was quiet.
#[derive(Default)]
struct Known {
    /// The server was started anew, so any of them may be what it is now; else that is the last.
    is_doubtful: bool,
    own: Vec<Selected>,
    ordered: Vec<Selected>,
    tiers: Vec<&'static str>,
    conflated: Vec<bool>,
}

impl Known {
    fn new(tier: &'static str) -> Self {
        Self { own: vec![Selected::new()], ordered: vec![Selected::new()], tiers: vec![tier], conflated: vec![false], is_doubtful: false }
    }

    fn settle(&mut self) {
        self.own.drain(..self.own.len() - 1);
        self.ordered.drain(..self.ordered.len() - 1);
        self.tiers.drain(..self.tiers.len() - 1);
        self.conflated.drain(..self.conflated.len() - 1);
    }
}

fn change(states: &mut Vec<Selected>, is_doubtful: bool, topics: &Selected, selects: bool) {
    let from = if is_doubtful { 0 } else { states.len() - 1 };
    let next = states[from..].iter().map(|state| if selects { state | topics } else { state - topics });
    let mut next: Vec<Selected> = next.collect();
    states.append(&mut next);
    if is_doubtful {
        states.sort_unstable();
        states.dedup();
    }
}

#[derive(Default)]
struct Peer {
    shard: usize,
    key: Option<ConnectionKey>,
    token: String,
    session: String,
    is_durable: bool,
    tier: &'static str,
    is_upgraded: bool,
    unread: Vec<u8>,
    processed: u64,
    said: u64,
    copy: BTreeMap<TopicId, (String, Vec<u8>)>,
    answers: BTreeMap<u64, Vec<u8>>,
    known: Known,
    /// Its session was stored when all was quiet, and whether it had a connection then; nobody has ended it since.
    was_stored: bool,
    was_away: bool,
    /// It has lost its connection since, or has come back.
    has_moved: bool,
    /// Somebody has ordered its end.
    is_closing: bool,
    /// What is known of its session after the restart: that it has to be there, or cannot be.
    must_be: Option<bool>,
}

impl Peer {
    fn is_live(&self) -> bool {
        self.key.is_some() && !self.session.is_empty()
    }

    /// Its session is over.
    fn forget(&mut self) {
        let Self { shard, key, is_upgraded, is_durable, .. } = *self;
        let unread = std::mem::take(&mut self.unread);
        *self = Self { shard, key, is_upgraded, is_durable, unread, ..Self::default() };
    }

    fn hear(&mut self, bytes: &[u8], names: &mut BTreeSet<String>) {
        self.unread.extend_from_slice(bytes);
        if !self.is_upgraded {
            let Some(end) = self.unread.windows(4).position(|four| four == b"\r\n\r\n") else { return };
            self.unread.drain(..end + 4);
            self.is_upgraded = true;
        }
        while let Some((first, payload)) = next_frame(&mut self.unread) {
            match first {
                0x82 => self.hear_message(&payload, names),
                0x88 => self.key = None,
                other => panic!("an unexpected frame 0x{other:02x}"),
            }
        }
    }

    fn hear_message(&mut self, mut message: &[u8], names: &mut BTreeSet<String>) {
        let mut counts = true;
        while let Some(frame) = native::next_frame(&mut message).expect("the server sends whole frames") {
            match native::decode_event(frame).expect("the server sends events of the protocol") {
                Heard::Welcome { session, token, .. } => {
                    self.hear_welcome(session, token, names);
                    counts = false;
                }
                Heard::Ok { id, body } => _ = self.answers.insert(id, body.to_vec()),
                Heard::Error { code, .. } => {
                    // A session that is over is ordered nothing.
                    let is_expected = matches!(code, CANNOT_RESUME | 317) || code == NOT_CONNECTED && self.session.is_empty();
                    assert!(is_expected, "error {code}");
                    if code == CANNOT_RESUME {
                        assert_ne!(self.must_be, Some(true), "{} was stored, and is not there", self.session);
                        self.forget();
                        counts = false;
                    }
                }
                Heard::Subscribed { topic, path, .. } => {
                    assert!(!self.copy.values().any(|(held, _)| held == path), "{} is subscribed to {path} twice", self.session);
                    self.copy.insert(topic, (path.to_owned(), Vec::new()));
                }
                Heard::Value { topic, value } => self.copy.get_mut(&topic).expect("a topic that it knows").1 = value.to_vec(),
                Heard::Unsubscribed { topic, .. } => _ = self.copy.remove(&topic).expect("a topic that it knows"),
                _ => {}
            }
        }
        self.processed += u64::from(counts);
    }

    fn hear_welcome(&mut self, session: &str, token: &str, names: &mut BTreeSet<String>) {
        if self.token.is_empty() {
            assert!(names.insert(session.to_owned()), "{session} is the name of two sessions");
            self.known = Known::new(self.tier);
        } else {
            assert_eq!(session, self.session, "the same session");
            assert_ne!(self.must_be, Some(false), "{session} goes on, and was over");
        }
        (self.session, self.token) = (session.to_owned(), token.to_owned());
    }
}

struct Stage {
    world: World,
    peers: Vec<Peer>,
    /// All names that were ever given.
    names: BTreeSet<String>,
    /// Sessions that are over: since all was quiet, and before.
    closing: Vec<String>,
    over: BTreeSet<String>,
}

fn start(seed: u64) -> Stage {
    let mut random = Random::new(seed);
    let chosen = Conditions::chosen(&mut random);
    let conditions = Conditions {
        bytes_high: random.pick(&[0, 2000, 8000]),
        bytes_max: 2_000_000,
        selections_max: 100,
        fetch_page_max: random.within(1, 5),
        keep_alive_ms: 3_000_000,
        ..chosen
    };
    let waiting_max = random.pick(&[20, 1000]);
    let world = World::stored(random, conditions, waiting_max);
    let mut stage = Stage { world, peers: Vec::new(), names: BTreeSet::new(), closing: Vec::new(), over: BTreeSet::new() };
    for at in 0..8 {
        let shard = stage.world.random.below(stage.world.shards.len());
        let is_durable = at != KEEPER && stage.world.random.percent(75);
        stage.peers.push(Peer { shard, is_durable, ..Peer::default() });
        stage.connect(at);
    }
    stage
}

impl Stage {
    fn connect(&mut self, at: usize) {
        let shards = self.world.shards.len();
        let tier = self.world.random.pick(&TIERS);
        let elsewhere = self.world.random.below(shards);
        let peer = &mut self.peers[at];
        peer.unread.clear();
        (peer.is_upgraded, peer.has_moved) = (false, true);
        if peer.token.is_empty() {
            peer.forget();
            (peer.tier, peer.shard) = (tier, elsewhere);
        } else {
            let number = peer.session.rsplit('-').next().and_then(|number| u64::from_str_radix(number, 16).ok());
            let home = SessionId::from_number(number.expect("a name has a number")).home(shards as u16);
            peer.shard = usize::from(home.0);
        }
        let shard = peer.shard;
        let Some(key) = self.world.shards[shard].handle_accept(self.world.now, Transport::Http) else { return };
        let peer = &mut self.peers[at];
        peer.key = Some(key);
        let connect = Ask::Connect {
            version: 1,
            name: "".into(),
            capabilities: 0,
            token: peer.token.clone().into(),
            processed: peer.processed,
            resume_ms: if at == KEEPER { 0 } else { STAY_MS },
            properties: if peer.token.is_empty() && !tier.is_empty() { vec![("Tier".into(), tier.into())] } else { Vec::new() },
            durable: peer.is_durable,
            about: Box::default(),
        };
        self.give(at, format!("{UPGRADE}tidewire.1\r\n\r\n").as_bytes());
        self.ask(at, connect);
    }

    /// The server reads what a client says.
    fn give(&mut self, at: usize, bytes: &[u8]) {
        let Some(key) = self.peers[at].key else { return };
        let shard = self.peers[at].shard;
        self.world.shards[shard].handle_bytes(self.world.now, key, &mut bytes.to_vec());
        self.world.carry_out(shard);
    }

    fn ask(&mut self, at: usize, ask: Ask<'_>) -> u64 {
        let id = self.world.take_id();
        let mut frame = Vec::new();
        native::put_request(&mut frame, &Request { id, ask });
        let mut message = vec![0x82];
        match u8::try_from(frame.len()) {
            Ok(length) if length < 126 => message.push(0x80 | length),
            _ => {
                message.push(0x80 | 126);
                message.extend((frame.len() as u16).to_be_bytes());
            }
        }
        message.extend([0; 4]);
        message.extend(frame);
        self.give(at, &message);
        id
    }

    /// A client hears what there is for it.
    fn listen(&mut self, at: usize) -> bool {
        let peer = &self.peers[at];
        let (Some(key), shard) = (peer.key, peer.shard) else { return false };
        let Some(send) = self.world.shards[shard].poll_transmit(self.world.now, key) else {
            if self.world.ended.contains(&(shard, key)) {
                self.cut(at, key);
            }
            return false;
        };
        self.world.shards[shard].handle_sent(self.world.now, key, &send);
        self.world.carry_out(shard);
        let peer = &mut self.peers[at];
        peer.hear(&send, &mut self.names);
        if peer.is_live() && at != KEEPER && peer.processed > peer.said + 5 {
            peer.said = peer.processed;
            let messages = peer.processed;
            self.ask(at, Ask::Processed { messages });
        }
        if self.peers[at].key.is_none() {
            self.cut(at, key);
        }
        true
    }

    /// The connection is gone.
    fn cut(&mut self, at: usize, key: ConnectionKey) {
        let peer = &mut self.peers[at];
        (peer.key, peer.has_moved) = (None, true);
        let shard = peer.shard;
        if at == KEEPER {
            peer.forget();
        }
        self.world.shards[shard].handle_closed(self.world.now, key);
        self.world.carry_out(shard);
    }

    fn step(&mut self) {
        self.world.now.0 += self.world.random.below(2 * MS as usize) as u64;
        let at = self.world.random.below(self.peers.len());
        let shard = self.world.random.below(self.world.shards.len());
        match self.world.random.below(100) {
            0..25 => self.act(at),
            25..50 => drop(self.listen(at)),
            50..65 => {
                let from = self.world.random.below(self.world.shards.len());
                self.world.deliver(from, shard);
            }
            65..75 => drop(self.world.walk(shard)),
            75..82 => drop(self.world.post(shard)),
            82..97 => step_disk(&mut self.world),
            _ => {
                self.world.now.0 += 20 * MS;
                self.world.tick(shard);
            }
        }
    }

    fn act(&mut self, at: usize) {
        let Some(key) = self.peers[at].key else { return self.connect(at) };
        if !self.peers[at].is_live() {
            // CONNECT may have been refused.
            if self.world.random.percent(10) {
                self.cut(at, key);
            }
            return;
        }
        match self.world.random.below(20) {
            0..2 if at != KEEPER => self.cut(at, key),
            2 if at != KEEPER && self.world.random.percent(40) => self.close(at),
            3..9 if at != KEEPER => {
                let (selector, selects) = (self.world.random.pick(&OWN_SELECTORS), self.world.random.percent(65));
                let known = &mut self.peers[at].known;
                change(&mut known.own, known.is_doubtful, &matched(selector, &OWN), selects);
                let (selector, scope) = (selector.into(), "".into());
                self.ask(at, if selects { Ask::Subscribe { selector, scope } } else { Ask::Unsubscribe { selector, scope } });
            }
            9..15 => self.order(),
            _ => {
                let path = if self.world.random.percent(50) { self.world.random.pick(&OWN) } else { self.world.random.pick(&ORDERED) };
                self.publish(path);
            }
        }
    }

    /// The client takes leave.
    fn close(&mut self, at: usize) {
        self.ask(at, Ask::Close);
        let key = self.peers[at].key.expect("it is live");
        self.closing.push(self.peers[at].session.clone());
        self.cut(at, key);
        self.peers[at].forget();
        self.peers[at].is_durable = self.world.random.percent(75);
    }

    fn publish(&mut self, path: &'static str) -> Vec<u8> {
        let value = self.world.take_value_number().to_string().into_bytes();
        if self.peers[KEEPER].is_live() {
            let update = native::Update::new(native::Verb::AddAndSet, 2, &value);
            self.ask(KEEPER, Ask::Update { path: path.into(), update });
        }
        value
    }

    /// The keeper orders something of somebody.
    fn order(&mut self) {
        let other = self.world.random.within(1, self.peers.len() - 1);
        let session = self.peers[other].session.clone();
        if session.is_empty() || !self.peers[KEEPER].is_live() {
            return;
        }
        let (session, filter) = (session.into(), "".into());
        let known = &mut self.peers[other].known;
        let ask = match self.world.random.below(12) {
            0 => {
                let peer = &mut self.peers[other];
                (peer.is_closing, peer.must_be) = (true, peer.must_be.filter(|must_be| !must_be));
                Ask::CloseSessions { session, filter, message: "".into() }
            }
            1..3 => {
                let conflated = self.world.random.percent(50);
                known.conflated.push(conflated);
                Ask::ConflateSessions { session, filter, conflated }
            }
            3..7 => {
                let tier = self.world.random.pick(&TIERS);
                known.tiers.push(tier);
                Ask::SetSessionProperties { session, filter, properties: vec![("Tier".into(), tier.into())] }
            }
            _ => {
                let (selector, selects) = (self.world.random.pick(&ORDERED_SELECTORS), self.world.random.percent(65));
                change(&mut known.ordered, known.is_doubtful, &matched(selector, &ORDERED), selects);
                let (selector, scope) = (selector.into(), "k".into());
                match selects {
                    true => Ask::SubscribeSessions { session, filter, selector, scope },
                    false => Ask::UnsubscribeSessions { session, filter, selector, scope },
                }
            }
        };
        self.ask(KEEPER, ask);
    }

    fn settle(&mut self) {
        loop {
            self.world.settle();
            let mut any = false;
            for at in 0..self.peers.len() {
                while self.listen(at) {
                    any = true;
                }
            }
            if !any {
                return;
            }
        }
    }

    fn come_to_rest(&mut self) {
        for _ in 0..4 {
            self.settle();
            self.world.now.0 += 50 * MS;
            (0..self.world.shards.len()).for_each(|shard| self.world.tick(shard));
        }
        self.settle();
    }

    /// All is carried out and stored.
    fn note_quiet(&mut self) {
        self.over.extend(self.closing.drain(..));
        for peer in &mut self.peers {
            if peer.is_closing {
                self.over.insert(peer.session.clone());
                peer.forget();
                continue;
            }
            if !peer.session.is_empty() {
                peer.known.settle();
                (peer.was_stored, peer.was_away, peer.has_moved) = (peer.is_durable, peer.key.is_none(), false);
            }
        }
    }

    fn sessions(&mut self) -> BTreeMap<String, SessionEntry> {
        let (mut all, mut after) = (BTreeMap::new(), String::new());
        loop {
            let ask = Ask::ListSessions { filter: "".into(), after: after.into(), first: 0, slowest: false };
            let id = self.ask(KEEPER, ask);
            self.settle();
            let answer = self.peers[KEEPER].answers.remove(&id).expect("it is answered");
            let Ok(Outcome::Sessions { has_more, sessions }) = native::decode_sessions(&mut Reader(&answer)) else { panic!("sessions") };
            after = sessions.last().map_or(String::new(), |entry| entry.session.clone());
            for entry in sessions {
                assert!(all.insert(entry.session.clone(), entry).is_none(), "two sessions have one name");
            }
            if !has_more {
                return all;
            }
        }
    }

    /// Everybody comes back: each session is in one of the states that it may be in, and holds just the topics that it selects then.
    fn check(&mut self) {
        // Some find that their session is over, and begin another one.
        for _ in 0..3 {
            for at in 0..self.peers.len() {
                if let Some(key) = self.peers[at].key.filter(|_| self.peers[at].session.is_empty()) {
                    self.cut(at, key);
                }
                if self.peers[at].key.is_none() {
                    self.connect(at);
                }
            }
            self.come_to_rest();
        }
        let values: BTreeMap<&str, Vec<u8>> = OWN.into_iter().chain(ORDERED).map(|path| (path, self.publish(path))).collect();
        self.come_to_rest();
        let listed = self.sessions();
        let is_over = listed.keys().find(|name| self.over.contains(*name));
        assert_eq!(is_over, None, "it was over, and is there again");
        self.names.extend(listed.keys().cloned());
        for peer in self.peers[1..].iter_mut().filter(|peer| !peer.is_closing) {
            peer.must_be = None;
            let (name, known) = (&peer.session, &mut peer.known);
            let entry = listed.get(name).unwrap_or_else(|| panic!("the session {name} has a connection, and is not there"));
            let tier = entry.properties.iter().find(|(key, _)| &**key == "Tier").map_or("", |(_, value)| value);
            let found = |topics: &[&'static str]| -> Selected {
                topics.iter().copied().filter(|topic| peer.copy.values().any(|(path, _)| path == topic)).collect()
            };
            let (own, ordered) = (found(&OWN), found(&ORDERED));
            assert!(known.own.contains(&own), "{name} selects {own:?}, which is none of {:?}", known.own);
            assert!(known.ordered.contains(&ordered), "for {name} {ordered:?} is selected, which is none of {:?}", known.ordered);
            assert!(known.tiers.contains(&tier), "{name} has the tier {tier}, which is none of {:?}", known.tiers);
            assert!(known.conflated.contains(&entry.is_conflated), "{name} is conflated: {}", entry.is_conflated);
            for (path, value) in peer.copy.values() {
                assert_eq!(Some(value), values.get(&**path), "{name} has another value of {path}");
            }
            let tier = TIERS.into_iter().find(|one| *one == tier).expect("it is one of them");
            let conflated = vec![entry.is_conflated];
            *known = Known { own: vec![own], ordered: vec![ordered], tiers: vec![tier], conflated, is_doubtful: false };
        }
        self.note_quiet();
    }

    /// The server is stopped, or killed, and started anew some time later.
    fn restart(&mut self) {
        let is_stopped = self.world.random.percent(30);
        if is_stopped {
            self.world.shut_down();
            self.come_to_rest();
        }
        let away_ms = self.world.random.pick(&[1000, 2000, 5000, 2 * STAY_MS]);
        let is_long = away_ms > STAY_MS;
        for peer in &mut self.peers {
            if !peer.is_durable && !peer.session.is_empty() {
                self.over.insert(peer.session.clone());
            }
            let was_stored = peer.was_stored && !peer.is_closing;
            peer.must_be = match peer.is_durable {
                false => Some(false),
                true if peer.must_be == Some(false) => Some(false),
                // Whether it was away is stored late.
                true if is_long && (is_stopped || peer.was_away && !peer.has_moved) => Some(false),
                true if was_stored && !(is_long && peer.has_moved) => Some(true),
                true => None,
            };
            peer.was_stored = peer.must_be == Some(true);
            // Where it had a connection, its time begins when the server is there again, which is stored late.
            (peer.was_away, peer.has_moved) = if is_stopped { (true, false) } else { (peer.was_away, peer.has_moved || !peer.was_away) };
            peer.key = None;
            peer.copy.clear();
            (peer.processed, peer.said) = (0, 0);
            peer.is_closing = false;
            peer.known.is_doubtful = true;
        }
        self.peers[KEEPER].forget();
        self.closing.clear();
        self.world.now.0 += away_ms * MS;
        let shards = self.world.random.within(1, 4) as u16;
        // It knows nothing of these topics.
        self.world.model = Model::default();
        self.world.crash(shards);
        self.world.ended.clear();
    }
}

#[test]
fn sessions_that_were_stored_are_there_after_a_restart_and_no_others() {
    crate::for_each_seed(|seed| {
        let mut stage = start(seed);
        stage.come_to_rest();
        stage.check();
        for _ in 0..5 {
            let steps = stage.world.random.pick(&[20, 200, 900]);
            (0..steps).for_each(|_| stage.step());
            if stage.world.random.percent(30) {
                stage.come_to_rest();
                stage.note_quiet();
                let steps = stage.world.random.pick(&[0, 30]);
                (0..steps).for_each(|_| stage.step());
            }
            stage.restart();
            if stage.world.random.percent(30) {
                // Before anybody has come back, or while they do.
                let steps = stage.world.random.pick(&[0, 100]);
                (0..steps).for_each(|_| stage.step());
                stage.restart();
            }
            stage.check();
        }
        for at in 0..stage.peers.len() {
            if let Some(key) = stage.peers[at].key {
                stage.cut(at, key);
            }
        }
        stage.come_to_rest();
        stage.world.now.0 += 2 * STAY_MS * MS;
        stage.come_to_rest();
        for shard in stage.world.shards() {
            assert_eq!((shard.session_count(), shard.audience_counts(), shard.listener_counts()), (0, [0; 5], [0; 4]));
        }
        let disk = stage.world.disk.as_ref().expect("storage is on");
        let left: Vec<&str> =
            disk.state.topics.values().map(|stored| stored.path.as_str()).filter(|path| path.contains("Durable")).collect();
        assert_eq!(left, [""; 0], "records of sessions that are over");
    });
}
