//! What is said of sessions is what they are: whatever the order in which shards hear of it, a list at rest has just those that the filter means, each once,
//! by whatever pages, and their selections as they were made; every order is answered once, also while sessions come and go.

use crate::random::Random;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use tidewire::surface::base::{SessionId, ShardIndex, Time};
use tidewire::surface::mail::Batch;
use tidewire::surface::shard::{Effect, Identity, Limits, Shard, Storing};
use tidewire::surface::wire::native::{self, Ask, Heard, Outcome, Request};
use tidewire::surface::wire::varint::Reader;

const RUN: u64 = 7;
const PAGE_MAX: usize = 5;
const TIERS: [&str; 3] = ["gold", "silver", ""];
const SELECTORS: [&str; 4] = [">a/b", "?a//", "*b", ">c"];

/// A session as its client knows it.
#[derive(Default)]
struct Own {
    tier: &'static str,
    selections: Vec<(&'static str, &'static str)>,
}

struct World {
    random: Random,
    now: Time,
    shards: Vec<Shard>,
    /// On its way from a shard to another.
    mail: HashMap<(usize, usize), VecDeque<Batch>>,
    sessions: BTreeMap<SessionId, Own>,
    asker: SessionId,
    asked: HashSet<u64>,
    /// What the asker was answered.
    answers: HashMap<u64, Result<Vec<u8>, u16>>,
    last_id: u64,
}

fn name(session: SessionId) -> String {
    format!("{RUN:016x}-{:x}", session.number())
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let count = random.within(1, 4) as u16;
        let shard = |index| {
            let identity = Identity {
                index: ShardIndex(index),
                count,
                server: "sim".to_owned(),
                run: RUN,
                start: 7,
                storing: Storing::Off,
                topics_base: 0,
                node: 0,
                secret: [index as u8; 32],
            };
            Shard::new(identity, Limits { fetch_page_max: PAGE_MAX, ..Limits::default() }, Time(1), 1_735_689_600_000)
        };
        let mut shards: Vec<Shard> = (0..count).map(shard).collect();
        let asker = shards[0].open_inside(Time(1));
        let sessions = BTreeMap::from([(asker, Own::default())]);
        let (mail, asked, answers) = (HashMap::new(), HashSet::new(), HashMap::new());
        Self { random, now: Time(1), shards, mail, sessions, asker, asked, answers, last_id: 0 }
    }

    fn shard_of(&mut self, session: SessionId) -> &mut Shard {
        let home = session.home(self.shards.len() as u16);
        &mut self.shards[usize::from(home.0)]
    }

    fn say(&mut self, session: SessionId, ask: Ask<'_>) -> u64 {
        self.last_id += 1;
        self.now.0 += 1000;
        let request = Request { id: self.last_id, ask };
        let now = self.now;
        assert!(self.shard_of(session).handle_inside(now, session, request), "the session stands");
        if session == self.asker {
            self.asked.insert(self.last_id);
        }
        self.last_id
    }

    /// The asker asks, and is answered.
    fn ask(&mut self, ask: Ask<'_>) -> Result<Vec<u8>, u16> {
        let id = self.say(self.asker, ask);
        self.settle();
        self.answers.remove(&id).expect("it is answered at rest")
    }

    // What happens.

    fn step(&mut self) {
        let shards = self.shards.len();
        let (from, to) = (self.random.below(shards), self.random.below(shards));
        match self.random.below(100) {
            0..15 => drop(self.open()),
            15..20 => self.close(),
            20..30 => self.select(),
            30..38 => self.order(),
            38..60 => self.post(from),
            60..85 => drop(self.deliver(from, to)),
            _ => self.run(from),
        }
    }

    fn open(&mut self) -> SessionId {
        let shard = self.random.below(self.shards.len());
        let session = self.shards[shard].open_inside(self.now);
        self.sessions.insert(session, Own::default());
        session
    }

    /// Any but the asker.
    fn any(&mut self) -> Option<SessionId> {
        let others: Vec<SessionId> = self.sessions.keys().copied().filter(|session| *session != self.asker).collect();
        if others.is_empty() { None } else { Some(self.random.pick(&others)) }
    }

    fn close(&mut self) {
        let Some(session) = self.any() else { return };
        let now = self.now;
        self.shard_of(session).close_inside(now, session);
        self.sessions.remove(&session);
    }

    fn select(&mut self) {
        let Some(session) = self.any() else { return };
        let (scope, selector) = (self.random.pick(&["", "s"]), self.random.pick(&SELECTORS));
        if self.random.percent(20) {
            self.say(session, Ask::Unsubscribe { selector: "?.*//".into(), scope: scope.into() });
            return self.own(session).selections.retain(|(of, _)| *of != scope);
        }
        self.say(session, Ask::Subscribe { selector: selector.into(), scope: scope.into() });
        let selections = &mut self.own(session).selections;
        selections.retain(|held| *held != (scope, selector));
        selections.push((scope, selector));
    }

    fn own(&mut self, session: SessionId) -> &mut Own {
        self.sessions.get_mut(&session).expect("it stands")
    }

    /// Somebody asks something that changes nothing, while all is under way.
    fn order(&mut self) {
        let (filter, _) = self.filter();
        let filter = filter.into();
        let ask = match self.random.below(3) {
            0 => Ask::ListSessions { filter, after: "".into(), first: 0, slowest: self.random.percent(50) },
            1 => Ask::ConflateSessions { session: "".into(), filter, conflated: false },
            _ => match self.any() {
                Some(session) => Ask::ListSelections { session: name(session).into(), after: 0, first: 0 },
                None => return,
            },
        };
        self.say(self.asker, ask);
    }

    // The runtime.

    fn post(&mut self, from: usize) {
        self.carry_out(from);
        for to in (0..self.shards.len()).filter(|to| *to != from) {
            if let Some(batch) = self.shards[from].poll_mail(ShardIndex(to as u16)) {
                self.mail.entry((from, to)).or_default().push_back(batch);
            }
        }
    }

    fn deliver(&mut self, from: usize, to: usize) -> bool {
        let Some(batch) = self.mail.get_mut(&(from, to)).and_then(VecDeque::pop_front) else { return false };
        self.shards[to].handle_mail(self.now, ShardIndex(from as u16), batch);
        true
    }

    fn run(&mut self, shard: usize) {
        self.now.0 += 1000;
        if self.shards[shard].has_walks() {
            self.shards[shard].run_slice(self.now);
        }
        self.carry_out(shard);
    }

    fn carry_out(&mut self, shard: usize) {
        while let Some(effect) = self.shards[shard].poll_effect() {
            let Effect::Inside(session) = effect else { panic!("{effect:?}") };
            let mut told = Vec::new();
            while self.shards[shard].poll_inside(self.now, session, &mut told) {}
            if session == self.asker {
                self.hear(&told);
            }
        }
    }

    fn hear(&mut self, told: &[u8]) {
        let mut rest = told;
        while let Some(frame) = native::next_frame(&mut rest).expect("frames are whole") {
            let (id, answer) = match native::decode_event(frame).expect("frames have their form") {
                Heard::Ok { id, body } => (id, Ok(body.to_vec())),
                Heard::Error { id, code, .. } => (id, Err(code)),
                other => panic!("{other:?}"),
            };
            assert!(self.asked.remove(&id), "{id} is answered once");
            self.answers.insert(id, answer);
        }
    }

    fn settle(&mut self) {
        loop {
            let mut is_busy = false;
            for from in 0..self.shards.len() {
                self.run(from);
                self.post(from);
                is_busy |= self.shards[from].has_walks();
                for to in 0..self.shards.len() {
                    while self.deliver(from, to) {
                        is_busy = true;
                    }
                }
            }
            if !is_busy {
                return assert!(self.asked.is_empty(), "all is answered at rest");
            }
        }
    }

    // What must be true.

    /// A filter, and those that it means.
    fn filter(&mut self) -> (String, Vec<String>) {
        let all: Vec<(String, &str)> = self.sessions.iter().map(|(session, own)| (name(*session), own.tier)).collect();
        let (one, other) = (&all[self.random.below(all.len())].0, &all[self.random.below(all.len())].0);
        let meant = |means: &dyn Fn(&str, &str) -> bool| {
            all.iter().filter(|(name, tier)| means(name, tier)).map(|(name, _)| name.clone()).collect::<Vec<_>>()
        };
        match self.random.below(10) {
            0 => (format!("$SessionId is '{one}'"), meant(&|name, _| name == *one)),
            1 => (format!("$SessionId in ['{one}', '{other}', 'x', '{one}']"), meant(&|name, _| name == *one || name == *other)),
            2 => (format!("Tier is 'gold' and $SessionId is '{one}'"), meant(&|name, tier| name == *one && tier == "gold")),
            3 => (format!("$SessionId is '{one}' or Tier is 'gold'"), meant(&|name, tier| name == *one || tier == "gold")),
            4 => (format!("not $SessionId is '{one}'"), meant(&|name, _| name != *one)),
            5 => ("$Principal is 'somebody'".to_owned(), Vec::new()),
            6 => ("$Principal in ['somebody', '']".to_owned(), meant(&|_, _| true)),
            7 => ("has Tier".to_owned(), meant(&|_, tier| !tier.is_empty())),
            // Another spelling of the number is no id.
            8 => (format!("$SessionId is '{}'", one.to_uppercase()), meant(&|name, _| name == *one && one.to_uppercase() == *one)),
            _ => ("all".to_owned(), meant(&|_, _| true)),
        }
    }

    fn check_list(&mut self) {
        let (filter, mut meant) = self.filter();
        let first = self.random.within(1, 2 * PAGE_MAX) as u64;
        let (mut listed, mut after) = (Vec::new(), String::new());
        loop {
            let ask = Ask::ListSessions { filter: filter.clone().into(), after: after.into(), first, slowest: false };
            let body = self.ask(ask).expect("the filter is sound");
            let Outcome::Sessions { has_more, sessions } = native::decode_sessions(&mut Reader(&body)).unwrap() else { unreachable!() };
            assert!(sessions.len() <= PAGE_MAX.min(first as usize));
            after = sessions.last().map_or(String::new(), |entry| entry.session.clone());
            listed.extend(sessions.into_iter().map(|entry| entry.session));
            if !has_more {
                break;
            }
        }
        let number = |name: &String| u64::from_str_radix(name.rsplit('-').next().expect("a number"), 16).expect("hexadecimal");
        assert!(listed.is_sorted_by_key(number), "{filter}");
        meant.sort_by_key(number);
        assert_eq!(listed, meant, "{filter}");
        let counted = self.ask(Ask::ConflateSessions { session: "".into(), filter: filter.into(), conflated: false }).unwrap();
        assert_eq!(Reader(&counted).varint(), Ok(meant.len() as u64));
    }

    fn check_selections(&mut self) {
        let Some(session) = self.any() else { return };
        let (mut read, mut has_more) = (Vec::new(), true);
        let first = self.random.within(1, PAGE_MAX) as u64;
        while has_more {
            let body = self.ask(Ask::ListSelections { session: name(session).into(), after: read.len() as u64, first }).unwrap();
            let Outcome::Selections { has_more: more, selections } = native::decode_selections(&mut Reader(&body)).unwrap() else {
                unreachable!()
            };
            has_more = more;
            read.extend(selections.into_iter().map(|entry| (entry.scope, entry.selector, entry.kind)));
        }
        let mut expected = self.sessions[&session].selections.clone();
        // By scopes, the default one first; there is one other.
        expected.sort_by_key(|(scope, _)| *scope);
        let expected: Vec<(Box<str>, Box<str>, u8)> =
            expected.into_iter().map(|(scope, selector)| (scope.into(), selector.into(), 1)).collect();
        assert_eq!(read, expected);
    }

    /// Some are given a tier, or lose theirs, by an order.
    fn set_tier(&mut self) {
        let (filter, meant) = self.filter();
        let tier = self.random.pick(&TIERS);
        let properties = vec![("Tier".into(), tier.into())];
        let counted = self.ask(Ask::SetSessionProperties { session: "".into(), filter: filter.into(), properties }).unwrap();
        assert_eq!(Reader(&counted).varint(), Ok(meant.len() as u64));
        for (session, own) in &mut self.sessions {
            if meant.contains(&name(*session)) {
                own.tier = tier;
            }
        }
    }
}

#[test]
fn a_list_is_what_the_sessions_are() {
    crate::for_each_seed(|seed| {
        let mut world = World::new(seed);
        for _ in 0..10 {
            for _ in 0..100 {
                world.step();
            }
            world.settle();
            for _ in 0..6 {
                world.check_list();
                world.check_selections();
                world.set_tier();
            }
        }
        // One that is over is no session.
        let gone = world.open();
        let now = world.now;
        world.shard_of(gone).close_inside(now, gone);
        world.sessions.remove(&gone);
        assert_eq!(world.ask(Ask::ListSelections { session: name(gone).into(), after: 0, first: 0 }), Err(317));
        for session in std::mem::take(&mut world.sessions).into_keys() {
            let now = world.now;
            world.shard_of(session).close_inside(now, session);
        }
        world.settle();
        assert!(world.shards.iter().all(|shard| shard.listener_counts() == [0; 4]), "nothing is kept of orders that are done");
    });
}
