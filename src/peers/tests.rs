//! Nodes over real sockets, each with its engine, on one thread.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustls::ClientConfig;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use tokio::time::sleep;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::consensus::{self, Committed, Dial, Engine, GroupId, Handle, News, NodeId, Proposal, Request, Start};

use super::files::random_id;
use super::frame::{Frame, GREETING_BYTES_MAX, Kind};
use super::hello::{Hello, LaneName, Reason, Refusal};
use super::home::Identity;
use super::join::JoinError;
use super::members::Standing;
use super::token::Token;
use super::*;

/// A folder of its own that goes with it.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Self {
        let path = std::env::temp_dir().join(format!("tidewire-peers-{}-{:016x}", std::process::id(), random_id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Where a node keeps its things, and where it is.
struct Place {
    folder: Folder,
    /// Kept, so that nobody else is given its port; what connects while no node runs waits.
    listener: TcpListener,
}

struct Node {
    peers: Peers,
    handle: Handle,
    engine: JoinHandle<()>,
    seen: Rc<RefCell<Seen>>,
}

/// What a node was told.
#[derive(Default)]
struct Seen {
    committed: Vec<Bytes>,
    /// The term that it leads in.
    leads: Option<u64>,
    /// A question that it has asked.
    request: Option<Request>,
}

const GROUP: GroupId = GroupId(0);

impl Place {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Self { folder: Folder::new(), listener }
    }

    fn address(&self) -> String {
        self.listener.local_addr().unwrap().to_string()
    }

    fn found(name: &str) -> (Self, Token) {
        let place = Self::new();
        let token = found(&place.folder.0, name, &place.address(), 2, wall_clock_ms()).unwrap();
        (place, token)
    }

    fn options(&self) -> Options {
        Options { gossip_ms: 50, backoff_ms: (10, 50), reconcile_ms: 20, ..Options::new(self.listener.local_addr().unwrap()) }
    }

    async fn join(&self, name: &str, token: &Token, clock: fn() -> u64) -> Result<NodeId, JoinError> {
        let (data, address, name, token) = (self.folder.0.clone(), self.address(), name.to_owned(), token.text());
        let joining = tokio::task::spawn_blocking(move || join(&data, &token, &name, &address, clock));
        joining.await.unwrap().map(|identity| identity.node)
    }

    async fn start(&self) -> Node {
        self.start_with(self.options()).await
    }

    async fn start_with(&self, options: Options) -> Node {
        let home = Home::open(&self.folder.0).unwrap();
        let (me, is_founder) = (home.identity.node, home.identity.is_founder);
        let peers = Peers::new(options, home).unwrap();
        let seen = Rc::new(RefCell::new(Seen::default()));
        let (asking, dial) = (seen.clone(), peers.dial());
        let dial: Dial = Rc::new(move |node, lane, request: Request| {
            asking.borrow_mut().request = Some(request.clone());
            dial(node, lane, request)
        });
        let (hearing, taking) = (seen.clone(), Rc::new(RefCell::new(None::<Handle>)));
        let took = taking.clone();
        let notify = move |news| {
            let mut seen = hearing.borrow_mut();
            match news {
                News::Committed { group, entries, bytes, .. } => {
                    seen.committed.extend(entries.into_iter().filter_map(|(_, entry)| match entry {
                        Committed::Entry { bytes, .. } => Some(bytes),
                        _ => None,
                    }));
                    if let Some(handle) = &*took.borrow() {
                        handle.took(group, bytes);
                    }
                }
                News::Leads { term, .. } => seen.leads = Some(term),
                News::Follows { .. } => seen.leads = None,
                _ => {}
            }
        };
        let options = consensus::Options { groups: 0, heartbeat_ms: 50, election_ms: (300, 600), ..consensus::Options::new(me, me) };
        let (engine, handle) = Engine::open(options, vec![Start::default()], dial, notify).await.unwrap();
        *taking.borrow_mut() = Some(handle.clone());
        peers.serve(tokio::net::TcpListener::from_std(self.listener.try_clone().unwrap()).unwrap(), engine.inbox());
        if is_founder {
            handle.found(BTreeSet::from([me]));
        }
        Node { peers, handle, engine: spawn_local(engine.run()), seen }
    }
}

impl Node {
    fn id(&self) -> NodeId {
        self.peers.0.me()
    }

    fn voters(&self) -> BTreeSet<NodeId> {
        self.peers.groups().remove(0).voters
    }

    fn reaches(&self, other: &Self) -> bool {
        self.peers.status().nodes.iter().any(|node| node.node == other.id() && node.is_reachable)
    }

    fn standing(&self, of: NodeId) -> Option<Standing> {
        self.peers.members().get(of).map(|member| member.standing)
    }

    /// Why it does not reach a node.
    fn trouble(&self, of: NodeId) -> String {
        let status = self.peers.status().nodes.into_iter().find(|node| node.node == of);
        status.and_then(|node| node.trouble).unwrap_or_default()
    }

    fn has_refused(&self, why: &str) -> bool {
        self.peers.status().refused.iter().any(|refused| refused.contains(why))
    }

    /// Ends as a process does.
    async fn stop(self) {
        self.peers.0.stop();
        self.engine.abort();
        let _ = self.engine.await;
        tokio::task::yield_now().await;
    }

    /// Ends all its connections.
    fn cut(&self) {
        self.peers.0.cut();
    }
}

/// Waits until it is so.
async fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        sleep(Duration::from_millis(5)).await;
    }
}

/// Has an entry committed by whoever leads.
async fn commit(nodes: &[&Node], entry: &'static str) {
    let bytes = Bytes::from_static(entry.as_bytes());
    loop {
        for node in nodes {
            let term = node.seen.borrow().leads;
            if let Some(term) = term {
                let _ = node.handle.propose(Proposal { group: GROUP, term, ticket: 1, entries: vec![bytes.clone()] });
            }
        }
        for _ in 0..100 {
            if nodes.iter().all(|node| node.seen.borrow().committed.contains(&bytes)) {
                return;
            }
            sleep(Duration::from_millis(5)).await;
        }
    }
}

pub fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, test);
}

/// A cluster of two, whose voters are both.
async fn two() -> (Place, Node, Place, Node) {
    let (place, token) = Place::found("a");
    let a = place.start().await;
    let other = Place::new();
    other.join("b", &token, wall_clock_ms).await.unwrap();
    let b = other.start().await;
    until(|| a.voters().len() == 2 && a.reaches(&b) && b.reaches(&a)).await;
    (place, a, other, b)
}

fn late_clock_ms() -> u64 {
    wall_clock_ms() + 120_000
}

fn next_day_ms() -> u64 {
    wall_clock_ms() + 25 * 3600 * 1000
}

#[test]
fn nodes_that_join_by_token_vote_and_commit_and_go_on_after_their_connections_are_cut() {
    run(async {
        let (_place, a, _other, b) = two().await;
        let third = Place::new();
        let token = a.peers.token().unwrap();
        third.join("c", &token, wall_clock_ms).await.unwrap();
        let c = third.start().await;
        let all = BTreeSet::from([a.id(), b.id(), c.id()]);
        until(|| [&a, &b, &c].iter().all(|node| node.voters() == all)).await;
        commit(&[&a, &b, &c], "one").await;
        for node in [&a, &b, &c] {
            node.cut();
        }
        commit(&[&a, &b, &c], "two").await;
        until(|| [&a, &b, &c].iter().all(|node| node.peers.members() == a.peers.members())).await;
    });
}

#[test]
fn a_node_that_starts_again_is_reached_again() {
    run(async {
        let (_place, a, other, b) = two().await;
        let id = b.id();
        b.stop().await;
        until(|| !a.peers.status().nodes.iter().any(|node| node.node == id && node.is_reachable)).await;
        let b = other.start().await;
        until(|| a.reaches(&b) && b.reaches(&a)).await;
    });
}

#[test]
fn a_node_that_leaves_votes_nowhere_then_and_is_refused() {
    run(async {
        let (_place, a, _other, b) = two().await;
        commit(&[&a, &b], "one").await;
        b.peers.leave().unwrap();
        until(|| a.standing(b.id()) == Some(Standing::Left) && b.standing(b.id()) == Some(Standing::Left)).await;
        until(|| a.voters() == BTreeSet::from([a.id()])).await;
        commit(&[&a], "two").await;
        until(|| a.has_refused("has left the cluster") && b.trouble(a.id()).contains("has left the cluster")).await;
        assert!(a.peers.leave().is_err(), "it is the last one");
    });
}

#[test]
fn a_node_that_is_gone_is_removed_by_another() {
    run(async {
        let (_place, a, _other, b) = two().await;
        let third = Place::new();
        third.join("c", &a.peers.token().unwrap(), wall_clock_ms).await.unwrap();
        let c = third.start().await;
        until(|| a.voters().len() == 3 && a.reaches(&c) && b.reaches(&c)).await;
        assert!(a.peers.remove("c").is_err(), "it is reached");
        assert!(a.peers.remove("d").is_err(), "it is none");
        let id = c.id();
        c.stop().await;
        until(|| !a.peers.status().nodes.iter().any(|node| node.node == id && node.is_reachable)).await;
        assert_eq!(a.peers.remove("c"), Ok(id));
        until(|| {
            [&a, &b].iter().all(|node| node.voters() == BTreeSet::from([a.id(), b.id()]) && node.standing(id) == Some(Standing::Left))
        })
        .await;
        commit(&[&a, &b], "one").await;
    });
}

#[test]
fn a_leader_that_leaves_hands_over() {
    run(async {
        let (_place, a, _other, b) = two().await;
        until(|| a.seen.borrow().leads.is_some()).await;
        a.peers.leave().unwrap();
        until(|| b.standing(a.id()) == Some(Standing::Left)).await;
        until(|| b.voters() == BTreeSet::from([b.id()]) && b.seen.borrow().leads.is_some()).await;
        commit(&[&b], "two").await;
    });
}

#[test]
fn a_question_whose_asker_has_gone_is_forgotten() {
    run(async {
        let (_place, a, _other, b) = two().await;
        let request = a.seen.borrow().request.clone().unwrap();
        let link = a.peers.0.link(b.id(), LaneName::Snapshot).unwrap();
        until(|| link.seen().0).await;
        let asking = link.ask(&request);
        let another = link.ask(&request);
        assert_eq!(link.waiting(), 2);
        drop(asking);
        assert_eq!(link.waiting(), 1);
        assert!(another.await.is_ok());
        assert_eq!(link.waiting(), 0);
        // Those that are too many are not asked.
        let many: Vec<_> = (0..a.peers.0.options.requests_max).map(|_| link.ask(&request)).collect();
        assert_eq!(link.waiting(), many.len());
        assert!(link.ask(&request).await.is_err());
        drop(many);
        assert_eq!(link.waiting(), 0);
    });
}

#[test]
fn a_server_of_another_cluster_is_refused_on_both_sides() {
    run(async {
        let (one, _) = Place::found("a");
        let (other, _) = Place::found("b");
        let a = one.start().await;
        let b = other.start().await;
        let stranger = b.peers.members().get(b.id()).unwrap().clone();
        a.peers.0.change_members(|members| members.note(b.id(), &stranger));
        until(|| !a.trouble(b.id()).is_empty() && !b.peers.status().refused.is_empty()).await;
        assert!(a.trouble(b.id()).contains("same authority"), "{}", a.trouble(b.id()));
    });
}

#[test]
fn a_second_process_of_a_node_is_refused_while_the_first_is_connected() {
    run(async {
        let (_place, a, other, b) = two().await;
        let twin = Place::new();
        copy(&other.folder.0.join("cluster"), &twin.folder.0.join("cluster"));
        let c = twin.start().await;
        assert_eq!(c.id(), b.id());
        until(|| a.has_refused("runs already") && c.trouble(a.id()).contains("runs already")).await;
        assert!(a.reaches(&b));
    });
}

#[test]
fn a_clock_that_is_far_off_is_refused_on_both_sides() {
    run(async {
        let (_place, a, other, b) = two().await;
        b.stop().await;
        let late = other.start_with(Options { clock: late_clock_ms, ..other.options() }).await;
        until(|| a.has_refused("clocks") && late.trouble(a.id()).contains("clocks")).await;
        until(|| late.has_refused("clocks") && a.trouble(late.id()).contains("clocks")).await;
    });
}

#[test]
fn who_cannot_be_let_in_is_told_why() {
    run(async {
        let (place, token) = Place::found("a");
        let a = place.start().await;
        let check = async |name: &str, token: &Token, clock: fn() -> u64, expected: &str| {
            let joining = Place::new();
            let error = joining.join(name, token, clock).await.unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert!(!home::directory(&joining.folder.0).exists());
        };
        check("b", &Token { secret: "?".to_owned(), ..token.clone() }, wall_clock_ms, "token-unknown").await;
        check("b", &Token { authority: "00".repeat(32), ..token.clone() }, wall_clock_ms, "not that of the token").await;
        check("b", &Token { node: 1, ..token.clone() }, wall_clock_ms, "not a server of the token's cluster").await;
        check("b", &Token { addresses: vec!["127.0.0.1:1".to_owned()], ..token.clone() }, wall_clock_ms, "not reached").await;
        check("a", &token, wall_clock_ms, "name-taken").await;
        check("b c", &token, wall_clock_ms, "no name of a node").await;
        check("b", &token, late_clock_ms, "clock").await;
        // It is still good, and then it is used.
        Place::new().join("b", &token, wall_clock_ms).await.unwrap();
        check("c", &token, wall_clock_ms, "token-used").await;
        until(|| a.has_refused("token was used already")).await;
        assert!(a.has_refused("another node of the cluster has that name"));
        assert_eq!(a.peers.members().iter().count(), 2);
    });
}

#[test]
fn a_token_of_yesterday_lets_nobody_in() {
    run(async {
        let (place, token) = Place::found("a");
        let a = place.start_with(Options { clock: next_day_ms, ..place.options() }).await;
        let error = Place::new().join("b", &token, next_day_ms).await.unwrap_err().to_string();
        assert!(error.contains("token-expired"), "{error}");
        assert!(a.has_refused("expired"));
    });
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten().filter(|entry| entry.path().is_file()) {
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn commands_reach_a_running_server() {
    run(async {
        let (place, a, _other, b) = two().await;
        let asking = async |command: Command| {
            let directory = directory(&place.folder.0);
            tokio::task::spawn_blocking(move || ask(&directory, &command)).await.unwrap()
        };
        until(|| a.seen.borrow().leads.is_some()).await;
        let status: Status = serde_json::from_value(asking(Command::Status).await.unwrap()).unwrap();
        assert_eq!((status.node, status.nodes.len(), status.groups.len()), (a.id(), 2, 1));
        assert!(status.nodes.iter().all(|node| node.is_reachable && node.since_ms > 0));
        assert_eq!(status.groups[0].leader, Some(a.id()));

        let transfer = |group, to: &str| Command::Transfer { group, to: to.to_owned() };
        for (group, to, expected) in [(None, "c", "no node"), (Some(1), "b", "no such group"), (None, "a", "leads it already")] {
            let error = asking(transfer(group, to)).await.unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        assert_eq!(asking(transfer(Some(0), "b")).await.unwrap()["groups"], serde_json::json!([0]));
        until(|| b.seen.borrow().leads.is_some() && a.peers.groups()[0].leader == Some(b.id())).await;
        let error = asking(transfer(None, "b")).await.unwrap_err();
        assert!(error.contains("b leads group 0, as it is to be"), "{error}");

        asking(Command::Leave).await.unwrap();
        until(|| b.standing(a.id()) == Some(Standing::Left)).await;
        assert_eq!(asking(Command::Leave).await.unwrap()["has_left"], true);
    });
}

/// What a node is told that greets another as `edit` says, by the certificate of `place`.
async fn greet(place: &Place, other: &Node, edit: impl Fn(&mut Hello)) -> Result<(), Refusal> {
    let home = Home::open(&place.folder.0).unwrap();
    let config = certificates::client_config(&home.authority.certificate, &home.credentials).unwrap();
    let mut stream = connect(other, config).await;
    let mut hello = hello(&home, other.id());
    edit(&mut hello);
    Frame::new(Kind::Hello, 0, serde_json::to_vec(&hello).unwrap()).write(&mut stream).await.unwrap();
    stream.flush().await.unwrap();
    let frame = Frame::read(&mut stream, GREETING_BYTES_MAX).await.unwrap();
    if frame.kind == Kind::Refused { Err(Refusal::read(&frame.body)) } else { Ok(()) }
}

async fn connect(other: &Node, config: Arc<ClientConfig>) -> TlsStream<TcpStream> {
    let identity = &other.peers.0.home.identity;
    let stream = TcpStream::connect(&identity.address).await.unwrap();
    TlsConnector::from(config).connect(certificates::server_name(identity.cluster, identity.node), stream).await.unwrap()
}

fn hello(home: &Home, to: NodeId) -> Hello {
    let Identity { cluster, node, .. } = home.identity;
    let (magic, versions, lane) = (hello::MAGIC.to_owned(), hello::VERSIONS, LaneName::Log);
    Hello { magic, versions, cluster, from: node, to, boot: 1, lane, clock_ms: wall_clock_ms(), members: home.members.clone() }
}

#[test]
fn each_fault_of_a_greeting_is_told_on_both_sides() {
    run(async {
        let (place, token) = Place::found("a");
        let a = place.start().await;
        let joined = Place::new();
        let b = joined.join("b", &token, wall_clock_ms).await.unwrap();
        let check = async |edit: &dyn Fn(&mut Hello), expected: Reason| {
            let refusal = greet(&joined, &a, edit).await.unwrap_err();
            assert_eq!(refusal.reason, expected);
            assert!(a.has_refused(&format!("node {b}: {}", refusal.text)), "{}", refusal.text);
        };
        check(&|hello| hello.magic.clear(), Reason::Malformed).await;
        check(&|hello| hello.versions = (9, 9), Reason::Version).await;
        check(&|hello| hello.cluster ^= 1, Reason::OtherCluster).await;
        check(&|hello| hello.from ^= 1, Reason::Certificate).await;
        check(&|hello| hello.from = hello.to, Reason::Certificate).await;
        check(&|hello| hello.to ^= 1, Reason::OtherNode).await;
        check(&|hello| hello.clock_ms += 61_000, Reason::Clock).await;
        check(&|hello| assert!(hello.members.go_on(hello.from, Standing::Left)), Reason::Left).await;
        assert_eq!(greet(&joined, &a, |_| ()).await, Ok(()));
        assert_eq!(a.standing(b), Some(Standing::Joined), "who is refused is not believed");
    });
}

#[test]
fn who_connects_to_a_wrong_server_tells_it_so() {
    run(async {
        let (place, token) = Place::found("a");
        let a = place.start().await;
        let joined = Place::new();
        let b = joined.join("b", &token, wall_clock_ms).await.unwrap();
        let home = Home::open(&joined.folder.0).unwrap();
        let config = certificates::server_config(&home.authority.certificate, &home.credentials).unwrap();
        let listener = tokio::net::TcpListener::from_std(joined.listener.try_clone().unwrap()).unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = tokio_rustls::TlsAcceptor::from(config).accept(stream).await.unwrap();
        Frame::read(&mut stream, GREETING_BYTES_MAX).await.unwrap();
        let answer = Hello { versions: (9, 9), ..hello(&home, a.id()) };
        Frame::new(Kind::Hello, 0, serde_json::to_vec(&answer).unwrap()).write(&mut stream).await.unwrap();
        stream.flush().await.unwrap();
        let frame = Frame::read(&mut stream, GREETING_BYTES_MAX).await.unwrap();
        assert_eq!((frame.kind, Refusal::read(&frame.body).reason), (Kind::Refused, Reason::Version));
        until(|| !a.trouble(b).is_empty()).await;
    });
}

#[test]
fn whatever_comes_a_server_goes_on() {
    run(async {
        let (_place, a, _other, b) = two().await;
        let home = &a.peers.0.home;
        let address = home.identity.address.clone();
        for bytes in [&b""[..], b"GET / HTTP/1.1\r\n\r\n", &[22, 3, 1, 0, 200], &[0xff; 3000]] {
            let mut stream = TcpStream::connect(&address).await.unwrap();
            let _ = stream.write_all(bytes).await;
        }
        let fingerprint = certificates::fingerprint(&home.authority.certificate);
        for kind in 0..12 {
            for length in [0, 9, 11, 1000, u32::MAX] {
                let mut stream = connect(&a, certificates::joining_config(fingerprint).unwrap()).await;
                let bytes = [&length.to_le_bytes()[..], &[kind], &[0x7b; 40]].concat();
                let _ = stream.write_all(&bytes).await;
                let _ = stream.flush().await;
            }
        }
        commit(&[&a, &b], "one").await;
    });
}

#[test]
fn who_connects_and_says_nothing_gives_its_place_back() {
    run(async {
        let (place, token) = Place::found("a");
        let a = place.start_with(Options { handshakes_max: 1, handshake_ms: 2000, ..place.options() }).await;
        let _silent = TcpStream::connect(&a.peers.0.home.identity.address).await.unwrap();
        Place::new().join("b", &token, wall_clock_ms).await.unwrap();
    });
}
