//! Permissions that change under load: what was published behind the answer of a change reaches nobody who may not read it, and at rest each client
//! holds, fetches and hears of exactly what it selects and may read. A lock that is free behind that answer goes to nobody who may not acquire it.
//!
//! One client changes what roles permit and who has which, and others show that they are somebody else with other roles, one change behind the other. Whoever may read what is judged here by a naive evaluation.
//! Every value has a number, by which it is known when it was published.

use crate::ask::{Asked, ListenerKind, Update, Wanted};
use crate::client::{Client, Form, Notice};
use crate::ending::check_empty;
use crate::listeners;
use crate::mqtt_client::Kind;
use crate::mqtt_workload::{self, kind, move_on};
use crate::random::Random;
use crate::topics::{Pattern, Properties, TIME_SERIES};
use crate::workload::{Tree, check_answered, fetch_all, form};
use crate::world::{Conditions, World};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tidewire::surface::security::{SecurityLimits, SecurityStore};
use tidewire::surface::value::ValueType;
use tidewire::surface::wire::native::Verb;

const PATHS: [&str; 14] = ["a", "a/1", "a/2", "a/b", "a/b/1", "a/b/2", "a/b/c/1", "b/1", "b/2", "b/c/1", "c", "c/1", "d", "e/1"];

/// Where roles have lists, and where the climb may stop.
const BRANCHES: [&str; 8] = ["a", "a/b", "a/b/c", "a/1", "b", "b/2", "c", "e/1"];
const ROLES: [&str; 4] = ["R", "S", "T", "U"];

/// Of a list: what lets a client see, whether it is both, and what lets it acquire locks.
const LISTS: [(&str, u8); 5] = [
    ("", 0),
    ("SELECT_TOPIC, READ_TOPIC, UPDATE_TOPIC, MODIFY_TOPIC, ACQUIRE_LOCK", SELECT | READ | LOCK),
    ("READ_TOPIC, UPDATE_TOPIC, ACQUIRE_LOCK", READ | LOCK),
    ("SELECT_TOPIC, MODIFY_TOPIC", SELECT),
    ("SELECT_TOPIC, READ_TOPIC", SELECT | READ),
];
const SELECT: u8 = 1;
const READ: u8 = 2;
const LOCK: u8 = 4;

const LOCKS: [&str; 2] = ["a/1", "b"];

const PATTERNS: [Pattern; 11] = [
    Pattern { text: "?.*//", matches: |_| true },
    Pattern { text: "?a//", matches: |path| within(path, "a") },
    Pattern { text: "?a/", matches: |path| path.starts_with("a/") },
    Pattern { text: "?a/b//", matches: |path| within(path, "a/b") },
    Pattern { text: "a/1", matches: |path| path == "a/1" },
    Pattern { text: ">a/b/1", matches: |path| path == "a/b/1" },
    Pattern { text: "?[bc]//", matches: |path| ["b", "c"].iter().any(|branch| within(path, branch)) },
    Pattern { text: "?c/.*", matches: |path| path.starts_with("c/") && path.split('/').count() == 2 },
    Pattern { text: "*.*1", matches: |path| path.ends_with('1') },
    Pattern { text: "#a/2////?b//", matches: |path| path == "a/2" || within(path, "b") },
    Pattern { text: "?e//", matches: |path| within(path, "e") },
];

const FILTERS: [&str; 9] = ["#", "a/#", "a/b/#", "a/1", "b/+", "+/1", "$share/g/#", "$share/g/a/#", "c/1"];

fn within(path: &str, branch: &str) -> bool {
    path == branch || path.strip_prefix(branch).is_some_and(|rest| rest.starts_with('/'))
}

/// What roles permit, and who has which.
#[derive(Clone, Default)]
struct State {
    defaults: BTreeMap<&'static str, u8>,
    lists: BTreeMap<(&'static str, &'static str), u8>,
    isolated: BTreeSet<&'static str>,
    roles: Vec<BTreeSet<&'static str>>,
}

impl State {
    /// Whether the client may select and read what is at the path.
    fn may_see(&self, at: usize, path: &str) -> bool {
        self.list(at, path) & (SELECT | READ) == SELECT | READ
    }

    /// What the client may do there: as the documentation says, path by path.
    fn list(&self, at: usize, path: &str) -> u8 {
        let roles = &self.roles[at];
        let mut here = path;
        loop {
            let mut lists =
                self.lists.iter().filter(|((role, at), _)| *at == here && roles.contains(role)).map(|(_, list)| *list).peekable();
            if lists.peek().is_some() {
                return lists.fold(0, |all, list| all | list);
            }
            if self.isolated.contains(here) {
                return 0;
            }
            let Some((above, _)) = here.rsplit_once('/') else { break };
            here = above;
        }
        self.defaults.iter().filter(|(role, _)| roles.contains(*role)).fold(0, |all, (_, list)| all | list)
    }
}

/// A state, from when it was asked for, and when its answer was heard.
struct Epoch {
    state: State,
    answered: Option<u64>,
    /// The change by which it came to be.
    by: String,
}

#[derive(Default)]
struct Rules {
    epochs: Vec<Epoch>,
    /// The change that is under way, and whose request it is.
    under_way: Option<(usize, u64)>,
    /// The selectors of each client's listener, as they were asked for: whether one more.
    listened: BTreeMap<usize, Vec<(u64, Pattern, bool)>>,
    locks: Vec<LockAsked>,
}

/// A LOCK of a client.
struct LockAsked {
    at: usize,
    name: &'static str,
    id: u64,
    /// When it was asked for, and when its client gave up what it was granted.
    asked: u64,
    given_up: Option<u64>,
    is_judged: bool,
}

impl LockAsked {
    /// Whether the client waits for it, or holds it.
    fn stands(&self, client: &Client) -> bool {
        self.given_up.is_none() && client.answers.get(&self.id).is_none_or(Option::is_none)
    }
}

impl Rules {
    fn last(&self) -> &State {
        &self.epochs.last().expect("there is a first").state
    }

    /// Whether what was published then may have come to the client by now, where it needs this.
    fn may_have_come(&self, at: usize, path: &str, published: u64, needed: u8) -> bool {
        self.states_since(published).any(|state| state.list(at, path) & needed == needed)
    }

    /// Those of which one held when something happened, or later.
    fn states_since(&self, happened: u64) -> impl Iterator<Item = &State> {
        let in_force = self.epochs.iter().rposition(|epoch| epoch.answered.is_some_and(|answered| answered < happened)).unwrap_or(0);
        self.epochs[in_force..].iter().map(|epoch| &epoch.state)
    }
}

// What happens.

fn start(random: Random, mut conditions: Conditions) -> (World, Rules) {
    let lists = |place: &str| format!("set \"ADMIN\" {place} permissions [SELECT_TOPIC, READ_TOPIC, UPDATE_TOPIC, MODIFY_TOPIC]\n");
    let mut script = lists("default path");
    script.extend(BRANCHES.map(|branch| lists(&format!("path \"{branch}\""))));
    script.push_str("set \"ADMIN\" permissions [VIEW_SECURITY, MODIFY_SECURITY, MODIFY_SESSION, VIEW_SESSION]\n");
    script.push_str("set \"R\" default path permissions [SELECT_TOPIC, READ_TOPIC, UPDATE_TOPIC, MODIFY_TOPIC, ACQUIRE_LOCK]\n");
    conditions.security = Some(Arc::new(SecurityStore::parse(&script, SecurityLimits::default()).expect("a script")));
    let mut state = State { defaults: BTreeMap::from([("R", SELECT | READ | LOCK)]), ..State::default() };
    let mut world = World::new(random, conditions);
    world.model.expect_views(number);
    for at in 0..=world.conditions.clients {
        let roles: Vec<&str> = if at == 0 { vec!["ADMIN"] } else { ROLES.into_iter().filter(|_| world.random.percent(45)).collect() };
        state.roles.push(roles.iter().copied().collect());
        world.roles.push(roles);
        let form = if at == 0 { Form::Binary { capabilities: 7 } } else { form(&mut world.random) };
        let at = world.connect(form);
        (world.links[at].client.is_mapped, world.links[at].client.may_be_denied) = (true, true);
    }
    for client in 0..world.random.within(1, 3) {
        let roles: Vec<&str> = ROLES.into_iter().filter(|_| world.random.percent(45)).collect();
        state.roles.push(roles.iter().copied().collect());
        world.mqtt_roles.push(roles);
        // What a session that is kept has taken and not acknowledged it is sent again.
        let kind = Kind { is_kept: false, ..kind(&mut world.random, client) };
        world.add_mqtt_client(kind);
        world.mqtt_clients[client].may_be_denied = true;
        world.connect_packets(client, true);
    }
    (world, Rules { epochs: vec![Epoch { state, answered: Some(0), by: String::new() }], ..Rules::default() })
}

fn conditions(random: &mut Random) -> Conditions {
    let chosen = Conditions::chosen(random);
    let mqtt = mqtt_workload::conditions(random).mqtt;
    Conditions { mqtt, bytes_max: chosen.bytes_max + 20_000, keep_alive_ms: 100_000, selections_max: 12, ..chosen }
}

fn step(world: &mut World, rules: &mut Rules) {
    world.now.0 += world.random.below(2_000_000) as u64;
    let (shards, links) = (world.shards().len(), world.links.len());
    let (shard, from, at) = (world.random.below(shards), world.random.below(shards), world.random.below(links));
    let bytes = world.random.pick(&[1, 50, 400, 4000, 4000]);
    match world.random.below(100) {
        0..3 => lock(world, rules, at),
        3..20 => act(world, at),
        20..22 => listen(world, rules, at),
        22..32 if world.random.percent(70) => packets(world),
        22..25 => change(world, rules),
        25..43 => drop(world.read(at, bytes)),
        43..58 => drop(world.listen(at, bytes)),
        58..72 => {
            for _ in 0..world.random.pick(&[1, 1, 8]) {
                world.send(shard);
            }
        }
        72..84 => drop(world.deliver(from, shard)),
        84..93 => drop(world.walk(shard)),
        93..97 => drop(world.post(shard)),
        97 if at > 0 => world.links[at].is_stalled = world.random.percent(40),
        _ => {
            world.now.0 += 20_000_000;
            world.tick(shard);
        }
    }
    check_seen(world, rules);
}

fn change(world: &mut World, rules: &mut Rules) {
    let client = &world.links[0].client;
    if rules.under_way.is_some() || !client.is_live() || client.session.is_none() {
        return;
    }
    let mut state = rules.last().clone();
    if world.random.percent(20) {
        return authenticate(world, rules, state);
    }
    let asked = if world.random.percent(25) { change_roles(world, &mut state) } else { Some(change_store(world, &mut state)) };
    let Some(asked) = asked else { return };
    let by = format!("{asked:?}");
    rules.under_way = Some((0, world.ask(0, asked)));
    rules.epochs.push(Epoch { state, answered: None, by });
}

/// A client is another from now on, or the same, with roles of its own.
fn authenticate(world: &mut World, rules: &mut Rules, mut state: State) {
    let at = world.random.within(1, world.conditions.clients);
    if !world.links[at].client.is_live() || world.links[at].client.session.is_none() {
        return;
    }
    let roles: Vec<&str> = ROLES.into_iter().filter(|_| world.random.percent(45)).collect();
    state.roles[at] = roles.iter().copied().collect();
    world.roles[at] = roles;
    let asked = Asked::Authenticate { principal: world.random.pick(&["client", "another"]) };
    let by = format!("{asked:?} of {at}");
    rules.under_way = Some((at, world.ask(at, asked)));
    rules.epochs.push(Epoch { state, answered: None, by });
}

fn change_roles(world: &mut World, state: &mut State) -> Option<Asked> {
    let at = world.random.within(1, world.conditions.clients);
    let session = world.links[at].client.session.clone()?;
    let role = world.random.pick(&ROLES);
    let (remove, add) = if state.roles[at].remove(role) {
        (vec![role], Vec::new())
    } else {
        state.roles[at].insert(role);
        (Vec::new(), vec![role])
    };
    Some(Asked::ChangeRoles { session, remove, add })
}

fn change_store(world: &mut World, state: &mut State) -> Asked {
    let mut script = String::new();
    for _ in 0..world.random.within(1, 3) {
        let (role, branch, (list, permitted)) = (world.random.pick(&ROLES), world.random.pick(&BRANCHES), world.random.pick(&LISTS));
        let line = match world.random.below(10) {
            0..3 => {
                state.defaults.insert(role, permitted);
                format!("set \"{role}\" default path permissions [{list}]\n")
            }
            3..7 => {
                state.lists.insert((role, branch), permitted);
                format!("set \"{role}\" path \"{branch}\" permissions [{list}]\n")
            }
            7 => {
                if state.lists.remove(&(role, branch)).is_none() {
                    continue;
                }
                format!("remove \"{role}\" permissions for path \"{branch}\"\n")
            }
            8 => {
                state.isolated.insert(branch);
                format!("isolate path \"{branch}\"\n")
            }
            _ => {
                if !state.isolated.remove(branch) {
                    continue;
                }
                format!("deisolate path \"{branch}\"\n")
            }
        };
        script.push_str(&line);
    }
    Asked::ApplySecurity { script }
}

fn act(world: &mut World, at: usize) {
    let client = &world.links[at].client;
    if !client.is_live() || client.outgoing.len() > 2000 {
        return;
    }
    let pattern = world.random.pick(&PATTERNS);
    let scope = world.random.pick(&["", "", "", "s"]);
    let asked = match world.random.below(100) {
        // What one that may do everything holds is no news.
        0..40 if at == 0 => update(world),
        0..25 => Asked::Subscribe { pattern, scope },
        25..34 => Asked::Unsubscribe { pattern, scope: Some(scope) },
        34..36 => Asked::Unsubscribe { pattern, scope: None },
        36..44 => Asked::Fetch(Wanted { first: world.random.below(4) as u64, ..Wanted::new(pattern) }),
        44..46 => Asked::Query { path: world.random.pick(&["b/1", "a/b/2"]), kind: 0 },
        46..50 => Asked::Remove { pattern: world.random.pick(&PATTERNS[1..]) },
        _ => update(world),
    };
    world.ask(at, asked);
}

/// What a client of MQTT does: it only subscribes.
fn packets(world: &mut World) {
    let client = world.random.below(world.mqtt_clients.len());
    let filter = world.random.pick(&FILTERS);
    let qos = world.random.below(3) as u8;
    let of = &mut world.mqtt_clients[client];
    match world.random.below(100) {
        0..12 if of.is_connected => of.subscribe(filter, qos),
        12..16 if of.is_connected => of.unsubscribe(&mut world.messages, filter),
        _ => move_on(world, client),
    }
}

fn listen(world: &mut World, rules: &mut Rules, at: usize) {
    let client = &world.links[at].client;
    if at == 0 || !client.is_live() || client.outgoing.len() > 2000 {
        return;
    }
    let (pattern, adds) = (world.random.pick(&PATTERNS), world.random.percent(60));
    let (listener, selector) = (1, pattern.text);
    let asked =
        if adds { Asked::Listen { listener, kind: ListenerKind::Topics, selector } } else { Asked::Unlisten { listener, selector } };
    let id = world.ask(at, asked);
    rules.listened.entry(at).or_default().push((id, pattern, adds));
}

/// A client asks for a lock, or gives up what it has been granted.
fn lock(world: &mut World, rules: &mut Rules, at: usize) {
    let client = &world.links[at].client;
    if at == 0 || !client.is_live() || client.outgoing.len() > 2000 {
        return;
    }
    let name = world.random.pick(&LOCKS);
    match rules.locks.iter().position(|lock| lock.at == at && lock.name == name && lock.stands(client)) {
        Some(place) => give_up(world, &mut rules.locks[place]),
        None => {
            let id = world.ask(at, Asked::Lock { name, scope: 0 });
            rules.locks.push(LockAsked { at, name, id, asked: world.model.now(), given_up: None, is_judged: false });
        }
    }
}

fn give_up(world: &mut World, lock: &mut LockAsked) {
    let Some(number) = world.links[lock.at].client.grants.get(&lock.id).copied() else { return };
    world.ask(lock.at, Asked::Unlock { name: lock.name, number });
    lock.given_up = Some(world.model.now());
}

const SERIES: Properties = &[("TIME_SERIES_EVENT_VALUE_TYPE", "json"), ("TIME_SERIES_SUBSCRIPTION_RANGE", "limit 3")];

fn properties(path: &str) -> Properties {
    match path {
        "a/2" => &[("CONFLATION", "always")],
        "a/b/1" => &[("PRIORITY", "low")],
        "b/1" | "a/b/2" => SERIES,
        "c/1" => &[("CONFLATION", "off"), ("PRIORITY", "high")],
        _ => &[],
    }
}

fn update(world: &mut World) -> Asked {
    let path = world.random.pick(&PATHS);
    let number = world.take_value_number();
    let more = "and more ".repeat(world.random.below(12));
    let value = format!(r#"{{"n":{number},"more":"{more}"}}"#).into_bytes();
    let (properties, kind) = (properties(path), ValueType::Json);
    let is_series = properties == SERIES;
    if is_series && world.random.percent(75) {
        return Asked::Append { path, kind, original: None, value };
    }
    let topic = if is_series { TIME_SERIES } else { kind as u8 };
    let verb = if is_series || world.random.percent(60) { Verb::AddAndSet } else { Verb::Set };
    Asked::Update(Update { verb, path, topic, kind, properties, value: Some(value), constraint: String::new() })
}

/// The number of a value.
fn number(value: &[u8]) -> u64 {
    let text = std::str::from_utf8(value).expect("the values are text");
    let digits: String = text.trim_start_matches(r#"{"n":"#).chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect("a value has a number")
}

// What must be true.

/// All that came since the last time may have come.
fn check_seen(world: &mut World, rules: &mut Rules) {
    for at in 0..=world.conditions.clients {
        for (path, published, how) in std::mem::take(&mut world.links[at].client.seen) {
            let by = || rules.epochs.iter().map(|epoch| (epoch.state.may_see(at, &path), epoch.answered, &epoch.by)).collect::<Vec<_>>();
            let may = at == 0 || rules.may_have_come(at, &path, published, if how == "query" { READ } else { SELECT | READ });
            assert!(
                may,
                "client {at} is told of {path} by a {how} what was published at {published}, when it might not see it: {:?}",
                by()
            );
        }
    }
    let first = world.links.len().min(world.conditions.clients + 1);
    for client in 0..world.mqtt_clients.len() {
        for (path, value) in std::mem::take(&mut world.mqtt_clients[client].seen) {
            let published = world.model.check_delivered(0, &path, &value);
            let may = rules.may_have_come(first + client, &path, published, SELECT | READ);
            assert!(may, "client {client} of MQTT is told of {path} what was published at {published}, when it might not see it");
        }
    }
    check_locks(world, rules);
    let Some((at, id)) = rules.under_way else { return };
    if let Some(code) = world.links[at].client.answers.get(&id) {
        assert_eq!(*code, None, "a change is refused");
        rules.under_way = None;
        rules.epochs.last_mut().expect("it was asked for").answered = Some(world.model.now());
    }
}

/// What was granted was free only when those before had given it up, and what was refused might not be acquired.
fn check_locks(world: &World, rules: &mut Rules) {
    for place in 0..rules.locks.len() {
        let LockAsked { at, name, id, asked, is_judged, .. } = rules.locks[place];
        let client = &world.links[at].client;
        let Some(answer) = client.answers.get(&id).filter(|_| !is_judged) else { continue };
        rules.locks[place].is_judged = true;
        let Some(grant) = client.grants.get(&id) else {
            assert_eq!(*answer, Some(110), "client {at} asks for {name}");
            assert!(rules.states_since(asked).any(|state| state.list(at, name) & LOCK == 0), "client {at} may acquire {name}");
            continue;
        };
        let earlier = rules.locks.iter().filter(|lock| lock.name == name);
        let earlier = earlier.filter(|lock| world.links[lock.at].client.grants.get(&lock.id).is_some_and(|of| of < grant));
        let free = earlier.filter_map(|lock| lock.given_up).fold(asked, u64::max);
        assert!(rules.may_have_come(at, name, free, LOCK), "client {at} is granted {name} when it might not acquire it");
    }
}

/// At rest those wait that may have it. All holders give up what they have, until nobody waits.
fn pass_locks_on(world: &mut World, rules: &mut Rules) {
    loop {
        for lock in rules.locks.iter().filter(|lock| lock.stands(&world.links[lock.at].client)) {
            let LockAsked { at, name, .. } = *lock;
            let holds = world.links[at].client.grants.contains_key(&lock.id);
            assert!(holds || rules.last().list(at, name) & LOCK != 0, "client {at} waits for {name}, which it may not acquire");
        }
        let standing = rules.locks.iter_mut().filter(|lock| lock.stands(&world.links[lock.at].client));
        let standing: Vec<&mut LockAsked> = standing.collect();
        if standing.is_empty() {
            return;
        }
        let is_held = |lock: &&mut LockAsked| world.links[lock.at].client.grants.contains_key(&lock.id);
        assert!(standing.iter().any(is_held), "somebody waits for a lock that nobody holds");
        standing.into_iter().for_each(|lock| give_up(world, lock));
        world.settle();
        check_seen(world, rules);
    }
}

fn check_rest(world: &mut World, rules: &mut Rules) {
    world.links.iter_mut().for_each(|link| link.is_stalled = false);
    world.settle();
    check_seen(world, rules);
    pass_locks_on(world, rules);
    check_answered(world);
    assert!(rules.under_way.is_none());
    let found = fetch_all(world, 0);
    for at in 1..=world.conditions.clients {
        let seen: Tree =
            found.iter().filter(|(path, _)| rules.last().may_see(at, path)).map(|(path, row)| (path.clone(), row.clone())).collect();
        check_copy(&world.links[at].client, &seen);
        check_notices(&world.links[at].client, rules.listened.get(&at).map_or(&[], Vec::as_slice), &seen);
        check_fetch(world, at, &seen);
    }
    check_seen(world, rules);
}

fn check_copy(client: &Client, seen: &Tree) {
    let held: BTreeMap<_, _> = client.topics.values().map(|held| (&held.path, held)).collect();
    assert_eq!(held.len(), client.topics.len(), "client {} holds two topics of one path", client.name);
    let wanted: BTreeMap<_, _> = seen.iter().filter(|(path, _)| client.wants(path)).collect();
    assert_eq!(held.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>(), "client {}", client.name);
    for (path, row) in wanted {
        assert_eq!(held[path].value, row.value, "client {} does not hold the last value of {path}", client.name);
    }
}

/// What the client's listener was told adds up to what it finds, by those of its selectors that were granted.
fn check_notices(client: &Client, listened: &[(u64, Pattern, bool)], seen: &Tree) {
    let mut patterns: Vec<Pattern> = Vec::new();
    for (id, pattern, adds) in listened.iter().filter(|(id, ..)| client.answers.get(id) == Some(&None)) {
        assert!(client.answers.contains_key(id));
        patterns.retain(|held| held.text != pattern.text);
        if *adds {
            patterns.push(*pattern);
        }
    }
    let listener = listeners::Listener::to_topics(patterns);
    let notices = client.notices.iter().map(|(_, notice)| notice).filter(|notice| !matches!(notice, Notice::Missing { .. }));
    listeners::check_topics(&format!("the listener of client {}", client.name), notices, &listener, seen);
}

fn check_fetch(world: &mut World, at: usize, seen: &Tree) {
    let pattern = world.random.pick(&PATTERNS);
    let expected: Vec<_> = seen.values().filter(|row| (pattern.matches)(&row.path)).cloned().collect();
    let mut rows = Vec::new();
    let mut wanted = Wanted { first: world.random.below(4) as u64, ..Wanted::new(pattern) };
    loop {
        let id = world.ask(at, Asked::Fetch(wanted.clone()));
        world.settle();
        if world.links[at].client.answers[&id].is_some() {
            break;
        }
        let page = world.links[at].client.last_page.take().expect("a page is answered at rest");
        rows.extend(page.rows);
        if !page.has_more {
            break;
        }
        wanted.after.clone_from(&rows[rows.len() - 1].path);
    }
    rows.sort_by(|one, other| one.path.cmp(&other.path));
    assert_eq!(rows, expected, "client {at} fetches '{}'", pattern.text);
}

#[test]
fn nothing_is_delivered_without_permission_while_permissions_change() {
    crate::for_each_seed(|seed| {
        let mut random = Random::new(seed);
        let conditions = conditions(&mut random);
        let (mut world, mut rules) = start(random, conditions);
        for _ in 0..3 {
            for _ in 0..world.random.within(300, 1200) {
                step(&mut world, &mut rules);
            }
            check_rest(&mut world, &mut rules);
        }
        for at in 0..world.links.len() {
            world.reset(at);
        }
        for at in 0..world.packet_links.len() {
            world.reset_packets(at);
        }
        check_empty(&mut world);
    });
}
