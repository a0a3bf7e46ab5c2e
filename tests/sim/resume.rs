//! Sessions that outlive their connections miss nothing and are told nothing twice, wherever their connections are cut and whichever shard they come back to.
//!
//! Clients check all they hear: of a topic whose values may not give way each number comes once and in order, unless a gap is told; every request is
//! carried out once, since all that they write is numbered, and answered once. At rest each holds the last value of what it selects.

use crate::ask::{Asked, ListenerKind, Wanted};
use crate::client::Form;
use crate::ending::check_empty;
use crate::random::Random;
use crate::resume_client::number_of;
use crate::resume_topics::{Kind, Own};
use crate::topics::{Pattern, everything};
use crate::workload::{fetch_all, form};
use crate::world::{Conditions, World};
use tidewire::surface::shard::ResumeLimits;

/// What the server allows.
const STAY_MS_MAX: u64 = 300_000;

const PATTERNS: [Pattern; 7] = [
    Pattern { text: "?off//", matches: |path| path.starts_with("off/") },
    Pattern { text: "?low//", matches: |path| path.starts_with("low/") },
    Pattern { text: "?conflate//", matches: |path| path.starts_with("conflate/") },
    Pattern { text: "?always//", matches: |path| path.starts_with("always/") },
    Pattern { text: "?series//", matches: |path| path.starts_with("series/") },
    Pattern { text: "?stream//", matches: |path| path.starts_with("stream/") },
    Pattern { text: "?.*//", matches: |_| true },
];

fn conditions(random: &mut Random) -> Conditions {
    let recovery_bytes_max = random.pick(&[1, 300, 2000, 100_000]);
    let resume = ResumeLimits { away_queue_bytes_max: 500_000, recovery_bytes_max, ..ResumeLimits::default() };
    Conditions {
        shards: random.within(1, 4) as u16,
        clients: random.within(2, 5),
        steps: 3000,
        bytes_high: random.pick(&[0, 500, 5000, 1_000_000]),
        bytes_max: 2_000_000,
        selections_max: 1000,
        walk_slice: random.within(1, 8),
        keep_alive_ms: random.pick(&[300, 100_000, 100_000]),
        resume,
        ..Conditions::chosen(random)
    }
}

pub fn start(seed: u64, change: impl Fn(&mut Conditions)) -> World {
    let mut random = Random::new(seed);
    let mut conditions = conditions(&mut random);
    change(&mut conditions);
    let mut world = World::new(random, conditions);
    // Who is closed for its silence cannot tell since when it is away.
    let stays: &[u64] = if world.conditions.keep_alive_ms < 1000 { &[60_000] } else { &[400, 60_000] };
    let stay_ms = world.random.pick(stays);
    for _ in 0..world.conditions.clients {
        let form = form(&mut world.random);
        let at = world.add_resumer(form, stay_ms);
        world.resuming.clients[at].is_lazy = world.random.percent(30);
        world.resuming.clients[at].recovery_bytes_max = world.conditions.resume.recovery_bytes_max;
        world.connect_wire(at);
    }
    world
}

/// On each shard a client that selects everything all the time. Where a shard loses interest in a topic and takes it again, who subscribes meanwhile may
/// begin with a value that is not the newest, and goes on with that.
fn keep_interests(world: &mut World) {
    for shard in 0..usize::from(world.conditions.shards) {
        let form = form(&mut world.random);
        let at = world.add_resumer(form, STAY_MS_MAX);
        world.resuming.clients[at].is_steady = true;
        world.resuming.clients[at].recovery_bytes_max = world.conditions.resume.recovery_bytes_max;
        world.connect_wire_to(at, shard);
        ask(world, at, Asked::subscribe(everything()));
    }
    world.settle();
}

fn run(seed: u64, change: impl Fn(&mut Conditions)) -> World {
    let mut world = start(seed, change);
    keep_interests(&mut world);
    for _ in 0..world.conditions.steps {
        step(&mut world);
    }
    world
}

fn step(world: &mut World) {
    world.now.0 += world.random.below(2_000_000) as u64;
    let shards = usize::from(world.conditions.shards);
    let shard = world.random.below(shards);
    let client = world.random.below(world.resuming.clients.len());
    let wire = any_wire(world);
    let bytes = world.random.pick(&[1, 7, 50, 400, 4000, 4000]);
    match world.random.below(100) {
        0..25 => act(world, client),
        25..45 => drop(world.read_wire(wire, bytes)),
        45..64 => drop(world.listen_wire(wire, bytes)),
        64..78 => {
            for _ in 0..world.random.pick(&[1, 1, 8]) {
                world.send(shard);
            }
        }
        78..88 => {
            let from = world.random.below(shards);
            world.deliver(from, shard);
        }
        88..92 => drop(world.walk(shard)),
        92..95 => drop(world.post(shard)),
        95..98 => drop(world.adopt_wire()),
        98 => befall(world, client),
        _ => {
            world.now.0 += 20_000_000;
            world.tick(shard);
        }
    }
}

/// One that is not over, if there is any.
pub fn any_wire(world: &mut World) -> usize {
    let wires = &world.resuming.wires;
    let live: Vec<usize> = (0..wires.len()).rev().filter(|at| !wires[*at].is_over()).take(9).collect();
    if live.is_empty() { 0 } else { world.random.pick(&live) }
}

fn act(world: &mut World, client: usize) {
    let resumer = &mut world.resuming.clients[client];
    if resumer.is_gone() {
        return;
    }
    let is_lost = resumer.wire.is_none();
    if resumer.is_steady && !is_lost {
        resumer.acknowledge(&mut world.random);
        return;
    }
    if is_lost && world.random.percent(20) {
        return world.connect_wire(client);
    }
    if world.resuming.clients[client].unsaid() > 12 {
        return;
    }
    match world.random.below(100) {
        0..62 => write(world, client),
        62..76 => {
            let pattern = world.random.pick(&PATTERNS);
            let selects = world.random.percent(65);
            ask(world, client, if selects { Asked::subscribe(pattern) } else { Asked::unsubscribe(pattern) });
        }
        76..80 => {
            let wanted = Wanted { first: 3, ..Wanted::new(everything()) };
            ask(world, client, Asked::Fetch(wanted));
        }
        80..82 if world.resuming.clients[client].noticed.is_none() => {
            world.resuming.clients[client].noticed = Some(Default::default());
            ask(world, client, Asked::Listen { listener: 1, kind: ListenerKind::Topics, selector: "?off//" });
        }
        82..86 => ask(world, client, Asked::Nonsense),
        86..90 if !is_lost => world.resuming.clients[client].ping(&mut world.random),
        _ => {
            let resumer = &mut world.resuming.clients[client];
            if !resumer.is_lazy {
                resumer.acknowledge(&mut world.random);
            }
        }
    }
}

fn ask(world: &mut World, client: usize, asked: Asked) {
    let id = world.take_id();
    world.resuming.clients[client].ask(id, asked);
}

/// The next value of one of its topics, or the topic's end.
fn write(world: &mut World, client: usize) {
    let kind = world.random.pick(&Kind::ALL);
    let filler = world.random.pick(&[0, 0, 3, 12]);
    let is_removed = world.random.percent(12);
    let breadth = if kind == Kind::Stream { 1 } else { world.resuming.clients[client].breadth };
    let number = world.random.below(breadth);
    let resuming = &mut world.resuming;
    let resumer = &mut resuming.clients[client];
    let path = format!("{}/{client}x{}/{number}", kind.name(), resumer.sessions);
    let place = resumer.own.iter().position(|own| own.path == path).unwrap_or_else(|| {
        resumer.own.push(Own::new(kind, &path));
        resumer.own.len() - 1
    });
    let has_deltas = resumer.form != Form::Text;
    let own = &mut resumer.own[place];
    if is_removed && let Some(asked) = own.remove(&mut resuming.ledger) {
        return ask(world, client, asked);
    }
    for asked in own.write(filler, has_deltas, &mut resuming.ledger) {
        let is_silent = !matches!(asked, Asked::Append { .. }) && world.random.percent(30);
        let id = if is_silent { 0 } else { world.take_id() };
        world.resuming.clients[client].ask(id, asked);
    }
}

pub fn befall(world: &mut World, client: usize) {
    let Some(wire) = world.resuming.clients[client].wire else { return };
    if world.resuming.clients[client].is_steady {
        return;
    }
    match world.random.below(12) {
        0..3 => world.cut_wire(wire),
        3..6 => {
            world.cut_wire(wire);
            world.connect_wire(client);
        }
        // The server does not learn that the old one is dead.
        6 | 7 => world.connect_wire(client),
        8 => {
            world.connect_wire(client);
            for _ in 0..world.random.below(20) {
                step_quietly(world);
            }
            world.connect_wire(client);
        }
        9 => world.resuming.wires[wire].is_stalled = !world.resuming.wires[wire].is_stalled,
        10 => stay_away(world, wire),
        _ => world.give_wire_up(wire),
    }
}

/// Something that is under way moves on.
fn step_quietly(world: &mut World) {
    let shards = usize::from(world.conditions.shards);
    let (shard, from, wire) = (world.random.below(shards), world.random.below(shards), any_wire(world));
    match world.random.below(5) {
        0 => drop(world.read_wire(wire, 4000)),
        1 => drop(world.listen_wire(wire, 4000)),
        2 => drop(world.send(shard)),
        3 => drop(world.deliver(from, shard)),
        _ => drop(world.adopt_wire()),
    }
}

/// The client comes back when its session is over, or just before.
fn stay_away(world: &mut World, wire: usize) {
    if world.conditions.keep_alive_ms < 1000 {
        return;
    }
    let client = world.resuming.wires[wire].client;
    let stay_ms = world.resuming.clients[client].stay_ms;
    world.cut_wire(wire);
    for _ in 0..50 {
        world.read_wire(wire, 4000);
    }
    let away_ms = world.random.pick(&[stay_ms - 1, stay_ms, stay_ms + 20]);
    world.now = world.now.after_ms(away_ms);
    if world.random.percent(60) {
        (0..usize::from(world.conditions.shards)).for_each(|shard| world.tick(shard));
    }
    if world.random.percent(70) {
        world.connect_wire(client);
    }
}

/// Faults end, everybody comes back, and everything arrives.
fn heal(world: &mut World) {
    heal_connections(world);
    for resumer in &mut world.resuming.clients {
        if resumer.is_open && !resumer.is_gone() {
            resumer.ping(&mut world.random);
        }
    }
    world.settle();
}

pub fn heal_connections(world: &mut World) {
    for at in 0..world.resuming.wires.len() {
        world.resuming.wires[at].is_stalled = false;
    }
    // A client that is refused connects again by itself; one that the server closes for its silence does so here.
    for _ in 0..100 {
        for client in 0..world.resuming.clients.len() {
            if world.resuming.clients[client].wire.is_none() && !world.resuming.clients[client].is_gone() {
                world.connect_wire(client);
            }
        }
        world.settle();
        if world.resuming.clients.iter().all(|resumer| resumer.is_open || resumer.is_gone()) {
            break;
        }
    }
}

fn check(world: &mut World) {
    heal(world);
    let found = fetch_all(world, 3).into_iter().map(|(path, row)| (path, row.value.map(|value| number_of(&value)))).collect();
    for resumer in world.resuming.clients.iter().filter(|resumer| !resumer.is_gone()) {
        assert!(resumer.is_open, "client {} has no connection", resumer.name);
        resumer.check_at_rest(&found);
    }
}

/// Everybody leaves or is lost for good, and nothing is left of them.
pub fn check_departure(world: &mut World) {
    for client in 0..world.resuming.clients.len() {
        match (world.resuming.clients[client].wire, world.random.below(3)) {
            (Some(_), 0) if world.resuming.clients[client].is_open => world.resuming.clients[client].leave(&mut world.random),
            (Some(wire), _) => world.cut_wire(wire),
            _ => {}
        }
    }
    world.settle();
    world.now = world.now.after_ms(STAY_MS_MAX + 1);
    for at in 0..world.resuming.wires.len() {
        world.resuming.wires[at].is_stalled = false;
        world.cut_wire(at);
    }
    world.settle();
    world.now = world.now.after_ms(STAY_MS_MAX + 1);
    check_empty(world);
    for shard in 0..world.shards().len() {
        assert_eq!(world.shards()[shard].resume_bytes_most(), [0, 0], "shard {shard}");
    }
}

#[test]
fn nothing_is_missed_and_nothing_comes_twice() {
    crate::for_each_seed(|seed| {
        let mut world = run(seed, |_| {});
        check(&mut world);
        check_departure(&mut world);
    });
}

/// Nobody keeps the interests of shards: they end with sessions and come back with them.
#[test]
fn interests_that_end_while_sessions_are_away_lose_no_last_value() {
    crate::for_each_seed(|seed| {
        let mut world = start(seed, |conditions| conditions.clients = 3);
        world.resuming.ledger.has_interests_lost = true;
        for _ in 0..world.conditions.steps {
            step(&mut world);
        }
        check(&mut world);
        check_departure(&mut world);
    });
}

/// A client that knows how it stands says more with CONNECT, in the same message and behind it, whichever shard that has to go to.
#[test]
fn requests_with_connect_go_to_the_sessions_shard() {
    crate::for_each_seed(|seed| {
        let mut world = start(seed, |conditions| (conditions.clients, conditions.keep_alive_ms) = (2, 100_000));
        keep_interests(&mut world);
        for _ in 0..15 {
            heal(&mut world);
            let client = world.random.below(2);
            let wire = world.resuming.clients[client].wire.expect("it is connected");
            world.cut_wire(wire);
            (0..world.random.within(1, 6)).for_each(|_| write(&mut world, client));
            world.connect_wire(client);
            for _ in 0..world.random.below(60) {
                let (wire, bytes) = (any_wire(&mut world), world.random.pick(&[1, 30, 200, 400]));
                world.read_wire(wire, bytes);
                step_quietly(&mut world);
            }
        }
        check(&mut world);
        assert!(world.resuming.clients.iter().all(|resumer| resumer.sessions == 1));
    });
}

/// Selections of more topics than one turn looks at, and than wait in a queue, are under way when connections break.
#[test]
fn what_is_gone_through_slice_by_slice_goes_on() {
    crate::for_each_seed(|seed| {
        let mut world = start(seed, |conditions| {
            (conditions.clients, conditions.steps, conditions.keep_alive_ms) = (3, 1500, 100_000);
            conditions.bytes_high = [0, 500, 2000][seed as usize % 3];
        });
        keep_interests(&mut world);
        for writer in 0..3 {
            world.resuming.clients[writer].breadth = 25;
            (0..120).for_each(|_| write(&mut world, writer));
        }
        world.settle();
        for number in 0..world.conditions.steps {
            if number % 9 == 0 {
                let reader = world.random.below(3);
                let pattern = world.random.pick(&PATTERNS);
                let selects = world.random.percent(65);
                ask(&mut world, reader, if selects { Asked::subscribe(pattern) } else { Asked::unsubscribe(pattern) });
            }
            step(&mut world);
        }
        check(&mut world);
        check_departure(&mut world);
    });
}

/// Where little may wait, topics have gaps, and who is owed too many answers loses its session.
#[test]
fn what_is_too_much_to_keep_is_told_as_a_gap() {
    crate::for_each_seed(|seed| {
        let mut world = start(seed, |conditions| {
            let recovery_bytes_max = conditions.resume.recovery_bytes_max.min(2000);
            let away_queue_bytes_max = [600, 1500, 4000][seed as usize % 3];
            conditions.resume = ResumeLimits { away_queue_bytes_max, recovery_bytes_max, ..ResumeLimits::default() };
        });
        keep_interests(&mut world);
        for client in &mut world.resuming.clients {
            client.may_lose_session = true;
        }
        for _ in 0..world.conditions.steps {
            step(&mut world);
        }
        check(&mut world);
        check_departure(&mut world);
    });
}

/// Few may be away, and little may wait also for who is connected: sessions end, at any moment, and nothing is left of them.
#[test]
fn sessions_that_end_before_their_time_leave_nothing() {
    crate::for_each_seed(|seed| {
        let mut world = start(seed, |conditions| {
            (conditions.bytes_high, conditions.bytes_max) = (300, 2500);
            let away_max = [0, 1, 2, 1000][seed as usize % 4];
            conditions.resume = ResumeLimits { away_max, away_queue_bytes_max: 1500, recovery_bytes_max: 300, ..ResumeLimits::default() };
        });
        keep_interests(&mut world);
        for client in &mut world.resuming.clients {
            client.may_lose_session = true;
        }
        // What keeps the interests may be lost too.
        world.resuming.ledger.has_interests_lost = true;
        for _ in 0..world.conditions.steps {
            step(&mut world);
        }
        check_departure(&mut world);
    });
}

/// Nobody is heard any more, so nothing waits for what clients have processed.
#[test]
fn a_stopping_server_sends_all_that_waits() {
    crate::for_each_seed(|seed| {
        let mut world = run(seed, |conditions| conditions.steps = 1500);
        heal_connections(&mut world);
        for _ in 0..100 {
            let client = world.random.below(world.resuming.clients.len());
            write(&mut world, client);
            step_quietly(&mut world);
        }
        let open: Vec<usize> = (0..world.resuming.clients.len()).filter(|client| world.resuming.clients[*client].is_open).collect();
        world.shut_down();
        world.settle();
        for client in open {
            assert_eq!(world.resuming.clients[client].close_code, Some(1001), "client {client}");
        }
        // Sessions that were away are, until the process ends.
        world.now = world.now.after_ms(STAY_MS_MAX + 1);
        check_empty(&mut world);
    });
}

/// Whoever says CLOSE is sent all that waits, also what an earlier connection did not bring.
#[test]
fn who_leaves_is_sent_all_that_waits() {
    crate::for_each_seed(|seed| {
        let mut world = run(seed, |conditions| conditions.steps = 1500);
        heal_connections(&mut world);
        let client = world.random.below(world.conditions.clients);
        world.resuming.clients[client].is_lazy = true;
        for _ in 0..100 {
            let client = world.random.below(world.resuming.clients.len());
            write(&mut world, client);
            step_quietly(&mut world);
        }
        // It comes back, and what it misses is on its way when it leaves.
        let wire = world.resuming.clients[client].wire.expect("it is connected");
        world.cut_wire(wire);
        world.connect_wire(client);
        for _ in 0..1000 {
            step_quietly(&mut world);
            if world.resuming.clients[client].is_open {
                break;
            }
        }
        if world.resuming.clients[client].is_open {
            world.resuming.clients[client].leave(&mut world.random);
            world.settle();
            assert_eq!(world.resuming.clients[client].close_code, Some(1000));
        }
        check(&mut world);
        check_departure(&mut world);
    });
}

/// Two clients that nothing befalls: one writes, the other has subscribed and has no connection.
fn start_apart(seed: u64, change: impl Fn(&mut Conditions)) -> (World, usize, usize) {
    let mut world = start(seed, |conditions| {
        (conditions.clients, conditions.keep_alive_ms, conditions.bytes_high) = (2, 100_000, 500);
        change(conditions);
    });
    keep_interests(&mut world);
    let (writer, reader) = (0, 1);
    ask(&mut world, reader, Asked::subscribe(everything()));
    world.settle();
    let wire = world.resuming.clients[reader].wire.expect("it is connected");
    world.cut_wire(wire);
    world.settle();
    (world, writer, reader)
}

#[test]
fn no_more_waits_for_who_is_away_than_may_wait_when_it_is_back() {
    crate::for_each_seed(|seed| {
        let (mut world, writer, reader) = start_apart(seed, |conditions| {
            conditions.bytes_max = 5000;
            conditions.resume = ResumeLimits { away_queue_bytes_max: 100_000, ..ResumeLimits::default() };
        });
        for _ in 0..400 {
            write(&mut world, writer);
            world.settle_rounds(4);
        }
        world.connect_wire(reader);
        check(&mut world);
        assert_eq!(world.resuming.clients[reader].sessions, 1, "it is not closed for what has waited");
    });
}

#[test]
fn no_token_but_the_sessions_own_goes_on_with_it() {
    crate::for_each_seed(|seed| {
        let mut world = run(seed, |conditions| conditions.steps = 800);
        heal_connections(&mut world);
        let victim = world.random.below(world.conditions.clients);
        let (token, form) = (world.resuming.clients[victim].token.clone(), world.resuming.clients[victim].form);
        let resumed = world.resuming.clients[victim].resumed;
        for (token, form) in wrong_tokens(&token, form) {
            let thief = world.add_resumer(form, 60_000);
            let resumer = &mut world.resuming.clients[thief];
            (resumer.token, resumer.may_lose_session) = (token.clone(), true);
            resumer.recovery_bytes_max = world.conditions.resume.recovery_bytes_max;
            world.connect_wire(thief);
            if world.random.percent(50) {
                (0..200).for_each(|_| step_quietly(&mut world));
            }
            world.settle();
            let resumer = &world.resuming.clients[thief];
            assert!(resumer.is_open && resumer.resumed == 0 && resumer.sessions == 2, "{token} is refused, and a new session begins");
        }
        assert!(world.resuming.clients[victim].is_open && world.resuming.clients[victim].resumed == resumed, "it notices nothing");
        check(&mut world);
        check_departure(&mut world);
    });
}

/// Tokens that are none, or are another form's.
fn wrong_tokens(token: &str, form: Form) -> Vec<(String, Form)> {
    let other_form = if form == Form::Text { Form::Binary { capabilities: 0 } } else { Form::Text };
    let last = if token.ends_with('0') { "1" } else { "0" };
    let parts: Vec<&str> = token.split('-').collect();
    let wrong = [
        "nonsense".to_owned(),
        format!("{}{last}", &token[..token.len() - 1]),
        token[..token.len() - 1].to_owned(),
        format!("{}0", token),
        format!("{:016x}-{}-{}", 8, parts[1], parts[2]),
        format!("{}-{}ffff-{}", parts[0], &parts[1][..parts[1].len() - 4], parts[2]),
        format!("{}-fff{}-{}", parts[0], parts[1], parts[2]),
    ];
    wrong.into_iter().map(|token| (token, form)).chain([(token.to_owned(), other_form)]).collect()
}

/// The count of messages says what a client has: neither more than it was sent, nor fewer than it has said.
#[test]
fn a_client_that_miscounts_changes_nothing() {
    crate::for_each_seed(|seed| {
        let (mut world, writer, reader) = start_apart(seed, |_| {});
        (0..20).for_each(|_| write(&mut world, writer));
        world.settle();
        let resumer = &mut world.resuming.clients[reader];
        let processed = std::mem::replace(&mut resumer.processed, 1_000_000);
        resumer.expected_refusal = Some(108);
        world.connect_wire(reader);
        world.settle();
        let resumer = &mut world.resuming.clients[reader];
        assert_eq!(resumer.expected_refusal, None, "the count is refused");
        resumer.processed = processed;
        // The same connection may say it better; a new one does here.
        world.connect_wire(reader);
        check(&mut world);
        assert_eq!(world.resuming.clients[reader].sessions, 1);
    });
}
