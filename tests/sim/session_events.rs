//! What listeners are told of sessions, of their queues, and of who is subscribed: at rest each knows what is true, and what it is told of one session fits together.
//!
//! Sessions come and go, lose their connections and come back, change their properties and subscriptions, and do not read. Some of them listen, and do all that
//! too. The clients are plain: they have no topics of their own to check, and say by hand what they want.

use crate::client::UPGRADE;
use crate::heard::next_frame;
use crate::random::Random;
use crate::world::{Conditions, World};
use std::collections::{BTreeMap, BTreeSet};
use tidewire::surface::base::ConnectionKey;
use tidewire::surface::shard::Transport;
use tidewire::surface::wire::native::{self, Ask, Heard, Outcome, Request, SessionEntry};
use tidewire::surface::wire::varint::Reader;

const TOPICS: [&str; 4] = ["a", "a/x", "a/y", "b"];

/// The selector that is listened to, and what it matches.
const SELECTOR: &str = "?a//";

/// Who stays, makes the topics and orders what others are to be.
const KEEPER: usize = 0;

/// The numbers of the listeners that a session may have.
const SESSIONS: u64 = 1;
const FILTERED: u64 = 2;
const QUEUES: u64 = 3;
const PRESENCE: u64 = 4;
const PRESENCE_ONCE: u64 = 5;

const FILTER: &str = "Tier is '1'";

/// Sessions that do not come back in this time are over.
const STAY_MS: u64 = 400;

/// What a listener knows: of each session whether it is away, and its tier.
type Picture = BTreeMap<String, (bool, String)>;
type Pairs = BTreeSet<(String, String)>;

#[derive(Default)]
struct Peer {
    shard: usize,
    key: Option<ConnectionKey>,
    token: String,
    session: String,
    /// It wants to come back.
    stays: bool,
    is_upgraded: bool,
    is_stalled: bool,
    unread: Vec<u8>,
    processed: u64,
    said: u64,
    // What it has asked for.
    selected: BTreeSet<&'static str>,
    listens: BTreeSet<u64>,
    waiting: BTreeSet<u64>,
    answers: BTreeMap<u64, Vec<u8>>,
    // What it knows.
    pictures: [Picture; 2],
    over: BTreeSet<String>,
    pairs: [Pairs; 2],
    told: usize,
}

impl Peer {
    fn is_live(&self) -> bool {
        self.key.is_some() && !self.session.is_empty()
    }

    /// Its session is over.
    fn forget(&mut self) {
        *self = Self { shard: self.shard, stays: self.stays, ..Self::default() };
    }

    fn hear(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
        if !self.is_upgraded {
            let Some(end) = self.unread.windows(4).position(|four| four == b"\r\n\r\n") else { return };
            self.unread.drain(..end + 4);
            self.is_upgraded = true;
        }
        while let Some((first, payload)) = next_frame(&mut self.unread) {
            match first {
                0x82 => self.hear_message(&payload),
                0x88 => self.key = None,
                other => panic!("an unexpected frame 0x{other:02x}"),
            }
        }
    }

    fn hear_message(&mut self, mut message: &[u8]) {
        let mut counts = true;
        while let Some(frame) = native::next_frame(&mut message).expect("the server sends whole frames") {
            match native::decode_event(frame).expect("the server sends events of the protocol") {
                Heard::Welcome { session, token, .. } => {
                    (self.session, self.token, counts) = (session.to_owned(), token.to_owned(), false);
                }
                Heard::Ok { id, body } => {
                    assert!(self.waiting.remove(&id), "an answer to {id}, which nothing waits for");
                    self.answers.insert(id, body.to_vec());
                }
                // A session that it cannot go on with, or an update that is refused.
                Heard::Error { id, code, .. } => {
                    assert!(matches!(code, 107 | 202 | 203), "error {code}");
                    self.waiting.remove(&id);
                    if code == 107 {
                        self.forget();
                        return;
                    }
                }
                notice => self.take(notice),
            }
        }
        self.processed += u64::from(counts);
    }

    fn take(&mut self, notice: Heard<'_>) {
        self.told += 1;
        match notice {
            Heard::SessionNotice { listener, what, session, is_away, properties } => {
                let tier = properties.iter().find(|(key, _)| *key == "Tier").map_or("", |(_, value)| value).to_owned();
                self.take_session(listener, what, session, (is_away, tier));
            }
            Heard::SessionClosed { listener, session, reason } => {
                assert!((1..=6).contains(&reason));
                let before = self.pictures[listener as usize - 1].remove(session);
                assert!(before.is_some(), "{session} was not known and is over");
            }
            Heard::QueueNotice { session, is_over, .. } => {
                let is_news = if is_over { self.over.insert(session.to_owned()) } else { self.over.remove(session) };
                assert!(is_news, "{session} is told of twice: {is_over}");
            }
            Heard::PresenceNotice { listener, joined, left } => {
                let pairs = &mut self.pairs[(listener - PRESENCE) as usize];
                for entry in joined {
                    assert!(pairs.insert((entry.path.to_string(), entry.session.to_string())), "{entry:?} has joined before");
                }
                for entry in left {
                    assert!(pairs.remove(&(entry.path.to_string(), entry.session.to_string())), "{entry:?} has not joined");
                }
            }
            _ => self.told -= 1,
        }
    }

    fn take_session(&mut self, listener: u64, what: u8, session: &str, now: (bool, String)) {
        let is_filtered = listener == FILTERED;
        let picture = &mut self.pictures[listener as usize - 1];
        let before = picture.get(session).cloned();
        assert_eq!(before.is_none(), matches!(what, 1..=3), "{session} was {before:?}, and is told of by {what}");
        match (what, before) {
            (1..=3, _) => {
                assert!(!is_filtered || now.1 == "1", "{session} of {} is none that was meant", now.1);
                picture.insert(session.to_owned(), now);
            }
            (4, Some((was_away, _))) => {
                assert!(!is_filtered || now.1 == "1", "{session} of {} is meant no longer", now.1);
                picture.insert(session.to_owned(), (was_away, now.1));
            }
            (5, Some(_)) => {
                assert!(is_filtered, "who is meant by all is always meant");
                picture.remove(session);
            }
            (6 | 7, Some((was_away, tier))) => {
                assert_eq!((was_away, now.0), (what == 7, what == 6), "{session} goes away once, and comes back once");
                picture.insert(session.to_owned(), (now.0, tier));
            }
            _ => panic!("{what} is nothing that happens to a session"),
        }
    }
}

struct Stage {
    world: World,
    peers: Vec<Peer>,
    /// Topics that there are once all is carried out.
    topics: BTreeSet<&'static str>,
}

fn start(seed: u64) -> Stage {
    let mut random = Random::new(seed);
    let chosen = Conditions::chosen(&mut random);
    let bytes_high = random.pick(&[0, 200, 2000, 8000]);
    let conditions = Conditions {
        shards: random.within(1, 4) as u16,
        bytes_high,
        bytes_max: 2_000_000,
        selections_max: 100,
        fetch_page_max: random.within(1, 5),
        keep_alive_ms: 3_000_000,
        mqtt: None,
        ..chosen
    };
    let mut stage = Stage { world: World::new(random, conditions), peers: Vec::new(), topics: BTreeSet::new() };
    for at in 0..9 {
        let shard = stage.world.random.below(stage.world.shards.len());
        let stays = at != KEEPER && stage.world.random.percent(70);
        stage.peers.push(Peer { shard, stays, ..Peer::default() });
        stage.connect(at);
    }
    stage
}

impl Stage {
    fn connect(&mut self, at: usize) {
        let peer = &mut self.peers[at];
        if peer.token.is_empty() {
            peer.forget();
        } else {
            (peer.is_upgraded, peer.is_stalled) = (false, false);
            peer.unread.clear();
        }
        let shard = peer.shard;
        let Some(key) = self.world.shards[shard].handle_accept(self.world.now, Transport::Http) else { return };
        let peer = &mut self.peers[at];
        peer.key = Some(key);
        let tier = ["1", "2"][self.world.random.below(2)];
        let connect = Ask::Connect {
            version: 1,
            name: "".into(),
            capabilities: 0,
            token: peer.token.clone().into(),
            processed: peer.processed,
            resume_ms: if peer.stays { STAY_MS } else { 0 },
            properties: if peer.token.is_empty() { vec![("Tier".into(), tier.into())] } else { Vec::new() },
            durable: false,
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
        let is_answered = !matches!(ask, Ask::Connect { .. } | Ask::Processed { .. } | Ask::Close);
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
        if is_answered {
            self.peers[at].waiting.insert(id);
        }
        self.give(at, &message);
        id
    }

    /// A client hears what there is for it.
    fn listen(&mut self, at: usize) -> bool {
        let peer = &self.peers[at];
        let (Some(key), shard) = (peer.key, peer.shard) else { return false };
        if peer.is_stalled {
            return false;
        }
        let Some(send) = self.world.shards[shard].poll_transmit(self.world.now, key) else {
            // The server has waited for it long enough.
            if self.world.ended.contains(&(shard, key)) {
                self.cut(at, None);
            }
            return false;
        };
        self.world.shards[shard].handle_sent(self.world.now, key, &send);
        self.world.carry_out(shard);
        let peer = &mut self.peers[at];
        peer.hear(&send);
        if peer.is_live() && peer.stays && peer.processed > peer.said + 5 {
            peer.said = peer.processed;
            let messages = peer.processed;
            self.ask(at, Ask::Processed { messages });
        }
        if self.peers[at].key.is_none() {
            self.cut(at, Some(key));
        }
        true
    }

    /// The connection is gone.
    fn cut(&mut self, at: usize, key: Option<ConnectionKey>) {
        let peer = &mut self.peers[at];
        let shard = peer.shard;
        let Some(key) = key.or(peer.key) else { return };
        peer.key = None;
        if !peer.stays {
            peer.forget();
        }
        self.world.shards[shard].handle_closed(self.world.now, key);
        self.world.carry_out(shard);
    }

    fn step(&mut self) {
        self.world.now.0 += self.world.random.below(2_000_000) as u64;
        let at = self.world.random.below(self.peers.len());
        let shard = self.world.random.below(self.world.shards.len());
        match self.world.random.below(100) {
            0..25 => self.act(at),
            25..55 => drop(self.listen(at)),
            55..75 => {
                let from = self.world.random.below(self.world.shards.len());
                self.world.deliver(from, shard);
            }
            75..88 => drop(self.world.walk(shard)),
            88..95 => drop(self.world.post(shard)),
            _ => {
                self.world.now.0 += 20_000_000;
                self.world.tick(shard);
            }
        }
    }

    fn act(&mut self, at: usize) {
        if self.peers[at].key.is_none() {
            return self.connect(at);
        }
        if !self.peers[at].is_live() {
            return;
        }
        let topic = self.world.random.pick(&TOPICS);
        match self.world.random.below(20) {
            0 if at != KEEPER => self.cut(at, None),
            1 if at != KEEPER && self.world.random.percent(30) => {
                self.ask(at, Ask::Close);
                let key = self.peers[at].key;
                self.peers[at].stays = false;
                self.cut(at, key);
                self.peers[at].stays = self.world.random.percent(70);
            }
            2 if at != KEEPER => self.peers[at].is_stalled ^= true,
            3..7 => {
                self.peers[at].selected.insert(topic);
                self.ask(at, Ask::Subscribe { selector: topic.into(), scope: "".into() });
            }
            7..9 => {
                self.peers[at].selected.remove(topic);
                self.ask(at, Ask::Unsubscribe { selector: topic.into(), scope: "".into() });
            }
            9..12 => self.change_listener(at),
            12..14 => self.change_topic(topic),
            14..16 => self.order(),
            _ => self.publish(topic),
        }
    }

    fn change_listener(&mut self, at: usize) {
        let listener = self.world.random.within(1, 5) as u64;
        if self.peers[at].listens.contains(&listener) {
            // What comes before the answer is of the old one still, so it is heard out.
            if self.peers[at].is_stalled || self.world.random.percent(70) {
                return;
            }
            let id = self.ask(at, Ask::UnlistenSessions { listener });
            while !self.peers[at].answers.contains_key(&id) && self.listen(at) {}
            let peer = &mut self.peers[at];
            peer.listens.remove(&listener);
            match listener {
                SESSIONS | FILTERED => peer.pictures[listener as usize - 1].clear(),
                QUEUES => peer.over.clear(),
                _ => peer.pairs[(listener - PRESENCE) as usize].clear(),
            }
            return;
        }
        self.peers[at].listens.insert(listener);
        let session_properties = vec!["Tier".into()];
        self.ask(
            at,
            match listener {
                SESSIONS => Ask::ListenSessions { listener, filter: "".into(), session_properties },
                FILTERED => Ask::ListenSessions { listener, filter: FILTER.into(), session_properties },
                QUEUES => Ask::ListenQueues { listener, filter: "".into() },
                _ => Ask::ListenPresence { listener, selector: SELECTOR.into(), once: listener == PRESENCE_ONCE },
            },
        );
    }

    fn change_topic(&mut self, topic: &'static str) {
        if !self.peers[KEEPER].is_live() {
            return;
        }
        if self.topics.remove(topic) {
            self.ask(KEEPER, Ask::Remove { selector: topic.into() });
        } else {
            self.topics.insert(topic);
            let update = native::Update::new(native::Verb::Add, 2, b"");
            self.ask(KEEPER, Ask::Update { path: topic.into(), update });
        }
    }

    fn publish(&mut self, topic: &'static str) {
        if self.topics.contains(topic) && self.peers[KEEPER].is_live() {
            let value = vec![b'v'; self.world.random.pick(&[1, 100, 390])];
            let update = native::Update::new(native::Verb::Set, 2, &value);
            self.ask(KEEPER, Ask::Update { path: topic.into(), update });
        }
    }

    /// Somebody's properties, or end.
    fn order(&mut self) {
        let other = self.world.random.below(self.peers.len());
        let session = self.peers[other].session.clone();
        if session.is_empty() || !self.peers[KEEPER].is_live() {
            return;
        }
        let tier = self.world.random.pick(&["", "1", "2"]);
        match self.world.random.below(8) {
            0 if other != KEEPER => {
                self.ask(KEEPER, Ask::CloseSessions { session: session.into(), filter: "".into(), message: "".into() });
            }
            1 => {
                let conflated = self.world.random.percent(50);
                self.ask(KEEPER, Ask::ConflateSessions { session: session.into(), filter: "".into(), conflated });
            }
            _ => {
                let properties = vec![("Tier".into(), tier.into())];
                self.ask(KEEPER, Ask::SetSessionProperties { session: session.into(), filter: "".into(), properties });
            }
        }
    }

    /// Everybody reads, and nothing moves any more. Who is away is over, or stays.
    fn come_to_rest(&mut self) {
        for peer in &mut self.peers {
            peer.is_stalled = false;
        }
        // Where queues are short a notice of presence has room for a few.
        for _ in 0..40 {
            self.settle();
            self.world.now.0 += 50_000_000;
            (0..self.world.shards.len()).for_each(|shard| self.world.tick(shard));
        }
        self.settle();
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

    fn answer(&mut self, ask: Ask<'_>) -> Vec<u8> {
        let id = self.ask(KEEPER, ask);
        self.settle();
        self.peers[KEEPER].answers.remove(&id).expect("it is answered")
    }

    fn sessions(&mut self) -> Vec<SessionEntry> {
        let mut all: Vec<SessionEntry> = Vec::new();
        loop {
            let after = all.last().map_or(String::new(), |entry| entry.session.clone());
            let ask = Ask::ListSessions { filter: "".into(), after: after.into(), first: 0, slowest: false };
            let Ok(Outcome::Sessions { has_more, sessions }) = native::decode_sessions(&mut Reader(&self.answer(ask))) else {
                panic!("sessions")
            };
            all.extend(sessions);
            if !has_more {
                return all;
            }
        }
    }

    fn present(&mut self, once: bool) -> Vec<(String, String)> {
        let mut all: Vec<(String, String)> = Vec::new();
        loop {
            let (after_path, after) = all.last().cloned().unwrap_or_default();
            let ask = Ask::ListPresence { selector: SELECTOR.into(), after_path: after_path.into(), after: after.into(), first: 0, once };
            let Ok(Outcome::Presence { has_more, present }) = native::decode_presence(&mut Reader(&self.answer(ask))) else {
                panic!("who is present")
            };
            all.extend(present.into_iter().map(|entry| (entry.path.to_string(), entry.session.to_string())));
            if !has_more {
                return all;
            }
        }
    }

    fn check_at_rest(&mut self) {
        let tier = |entry: &SessionEntry| {
            let tier = entry.properties.iter().find(|(key, _)| &**key == "Tier");
            tier.map_or(String::new(), |(_, value)| value.to_string())
        };
        let sessions = self.sessions();
        let all: Picture = sessions.iter().map(|entry| (entry.session.clone(), (entry.is_away, tier(entry)))).collect();
        let filtered: Picture =
            all.iter().filter(|(_, (_, tier))| tier == "1").map(|(name, state)| (name.clone(), state.clone())).collect();
        let mut pairs = Pairs::new();
        for peer in self.peers.iter().filter(|peer| all.contains_key(&peer.session)) {
            let matched = peer.selected.intersection(&self.topics).filter(|topic| topic.starts_with('a'));
            pairs.extend(matched.map(|topic| ((*topic).to_owned(), peer.session.clone())));
        }
        let once: Pairs = pairs.iter().map(|(_, session)| (String::new(), session.clone())).collect();
        for is_once in [false, true] {
            let listed = self.present(is_once);
            let expected = if is_once { &once } else { &pairs };
            assert_eq!(listed.len(), expected.len(), "nobody is listed twice");
            assert_eq!(&listed.into_iter().collect::<Pairs>(), expected, "who is listed");
        }
        for (at, peer) in self.peers.iter().enumerate().filter(|(_, peer)| peer.is_live()) {
            assert!(peer.waiting.is_empty(), "client {at} waits for {:?}", peer.waiting);
            for (listener, expected) in [(SESSIONS, &all), (FILTERED, &filtered)].into_iter().filter(|(of, _)| peer.listens.contains(of)) {
                assert_eq!(&peer.pictures[listener as usize - 1], expected, "client {at}, listener {listener}");
            }
            for (listener, expected) in [(PRESENCE, &pairs), (PRESENCE_ONCE, &once)].into_iter().filter(|(of, _)| peer.listens.contains(of))
            {
                assert_eq!(&peer.pairs[(listener - PRESENCE) as usize], expected, "client {at}, listener {listener}");
            }
            let over: Vec<&String> = peer.over.iter().filter(|session| all.get(*session).is_none_or(|(is_away, _)| !is_away)).collect();
            assert!(over.is_empty(), "client {at} takes {over:?} for sessions that do not read");
        }
    }
}

#[test]
fn listeners_know_what_is_true_once_all_is_quiet() {
    crate::for_each_seed(|seed| {
        let mut stage = start(seed);
        for _ in 0..4 {
            (0..1500).for_each(|_| stage.step());
            stage.come_to_rest();
            stage.check_at_rest();
        }
        assert!(stage.peers.iter().map(|peer| peer.told).sum::<usize>() > 0, "nobody is told anything");
        for at in 0..stage.peers.len() {
            stage.peers[at].stays = false;
            stage.cut(at, None);
        }
        stage.world.now.0 += STAY_MS * 2_000_000;
        stage.come_to_rest();
        for shard in stage.world.shards() {
            assert_eq!((shard.session_count(), shard.audience_counts(), shard.listener_counts()), (0, [0; 5], [0; 4]));
        }
    });
}
