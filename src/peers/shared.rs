//! One server among the others: its table of members, its connections, and what it does by itself as long as it runs.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::{AbortHandle, spawn_local};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::consensus::{Dial, GroupStatus, Inbox, NodeId, Unreached};

use super::certificates::{client_config, named, server_config};
use super::files::random_id;
use super::frame::{Frame, Kind};
use super::gossip::{Gossip, Leads, Led};
use super::hello::{Boots, Hello, Judge, LaneName, MAGIC, Reason, Refusal, VERSIONS};
use super::home::{Home, HomeError, write_members};
use super::link::Link;
use super::members::{Members, Standing};
use super::reconcile::next_change;
use super::token::Token;
use super::{Options, accept, commands, control, leave};

/// Refusals that are remembered, for an operator to see.
const REFUSED_MAX: usize = 16;

/// Each with the task that runs it.
pub(super) type Links = BTreeMap<(NodeId, LaneName), (Rc<Link>, AbortHandle)>;

/// See the module. Cheap to clone; on the engine's thread.
#[derive(Clone)]
pub struct Peers(pub(super) Rc<Shared>);

pub(super) struct Shared {
    pub options: Options,
    pub home: Home,
    /// Of this process.
    boot: u64,
    pub started_ms: u64,
    pub acceptor: TlsAcceptor,
    pub connector: TlsConnector,
    members: RefCell<Members>,
    boots: RefCell<Boots>,
    pub links: RefCell<Links>,
    /// Connections of others to this node, by the task that serves each.
    incoming: RefCell<BTreeMap<(NodeId, LaneName), AbortHandle>>,
    /// Whom this node has refused, and why; the newest last.
    pub refused: RefCell<VecDeque<String>>,
    pub leads: RefCell<Leads>,
    /// Not there before the engine is.
    inbox: RefCell<Option<Inbox>>,
    pub is_leaving: Cell<bool>,
    tasks: RefCell<Vec<AbortHandle>>,
}

/// A process of a node is connected for as long as this is held.
pub(super) struct Held {
    shared: Rc<Shared>,
    node: NodeId,
}

impl Peers {
    /// A server that speaks with nobody before [`Self::serve`].
    ///
    /// # Errors
    /// Those of the certificates.
    pub fn new(options: Options, home: Home) -> Result<Self, HomeError> {
        let client = client_config(&home.authority.certificate, &home.credentials).map_err(HomeError::Certificates)?;
        let server = server_config(&home.authority.certificate, &home.credentials).map_err(HomeError::Certificates)?;
        let mut members = home.members.clone();
        // It may have moved since it was last written.
        members.note(home.identity.node, &home.identity.member());
        let shared = Shared {
            started_ms: (options.clock)(),
            options,
            home,
            boot: random_id(),
            acceptor: TlsAcceptor::from(server),
            connector: TlsConnector::from(client),
            members: RefCell::new(members),
            boots: RefCell::default(),
            links: RefCell::default(),
            incoming: RefCell::default(),
            refused: RefCell::default(),
            leads: RefCell::default(),
            inbox: RefCell::new(None),
            is_leaving: Cell::new(false),
            tasks: RefCell::default(),
        };
        Ok(Self(Rc::new(shared)))
    }

    /// How consensus asks the others.
    pub fn dial(&self) -> Dial {
        let shared = self.0.clone();
        Rc::new(move |node, lane, request| {
            let link = shared.links.borrow().get(&(node, lane.into())).map(|(link, _)| link.clone());
            match link {
                Some(link) => link.ask(&request),
                None => Box::pin(async { Err(Unreached::Unsent) }),
            }
        })
    }

    /// A listener for [`Self::serve`], within the engine's runtime.
    ///
    /// # Errors
    /// Those of the system.
    pub fn listen(&self) -> io::Result<TcpListener> {
        let listener = std::net::TcpListener::bind(self.0.options.listen)?;
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    }

    /// Answers others by `inbox` from now on, connects to them, and has the groups' members follow the cluster's.
    pub fn serve(&self, listener: TcpListener, inbox: Inbox) {
        let shared = &self.0;
        *shared.inbox.borrow_mut() = Some(inbox.clone());
        shared.connect_to_members();
        let accepting = spawn_local(accept::run(shared.clone(), listener));
        let reconciling = spawn_local(reconcile(shared.clone(), inbox));
        shared.tasks.borrow_mut().extend([accepting.abort_handle(), reconciling.abort_handle()]);
        match control::listen(&shared.home.directory) {
            Ok(listener) => {
                let peers = self.clone();
                let controlling = spawn_local(control::run(listener, move |command| commands::carry_out(&peers, command)));
                shared.tasks.borrow_mut().push(controlling.abort_handle());
            }
            Err(error) => tracing::error!(%error, "commands cannot reach this server"),
        }
        if shared.standing() == Some(Standing::Leaving) {
            spawn_local(leave::finish(shared.clone()));
        }
    }

    /// A token by which one node may join here.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn token(&self) -> Result<Token, HomeError> {
        self.0.home.token(self.0.now_ms())
    }

    pub fn members(&self) -> Members {
        self.0.members.borrow().clone()
    }

    /// The groups, as this node knows them; none before [`Self::serve`].
    pub fn groups(&self) -> Vec<GroupStatus> {
        self.0.groups()
    }
}

impl Shared {
    pub fn me(&self) -> NodeId {
        self.home.identity.node
    }

    pub fn now_ms(&self) -> u64 {
        (self.options.clock)()
    }

    pub fn inbox(&self) -> Option<Inbox> {
        self.inbox.borrow().clone()
    }

    pub fn groups(&self) -> Vec<GroupStatus> {
        self.inbox.borrow().as_ref().map(Inbox::statuses).unwrap_or_default()
    }

    pub fn with_members<T>(&self, look: impl FnOnce(&Members) -> T) -> T {
        look(&self.members.borrow())
    }

    pub fn standing(&self) -> Option<Standing> {
        self.with_members(|members| members.get(self.me()).map(|member| member.standing))
    }

    pub fn hello(&self, to: NodeId, lane: LaneName) -> Vec<u8> {
        let hello = Hello {
            magic: MAGIC.to_owned(),
            versions: VERSIONS,
            cluster: self.home.identity.cluster,
            from: self.me(),
            to,
            boot: self.boot,
            lane,
            clock_ms: self.now_ms(),
            members: self.members.borrow().clone(),
        };
        serde_json::to_vec(&hello).expect("texts and numbers")
    }

    /// Judges a greeting and notes what it says. The other's process counts as connected while what is returned is held.
    pub fn greet(self: &Rc<Self>, hello: &Hello, certified: Option<(u64, NodeId)>) -> Result<Held, Refusal> {
        {
            let (members, boots) = (self.members.borrow(), self.boots.borrow());
            let judge = Judge {
                cluster: self.home.identity.cluster,
                me: self.me(),
                certified,
                clock_ms: self.now_ms(),
                clock_skew_max_ms: self.options.clock_skew_max_ms,
                members: &members,
                boots: &boots,
            };
            judge.judge(hello)?;
        }
        self.boots.borrow_mut().hold(hello.from, hello.boot);
        let held = Held { shared: self.clone(), node: hello.from };
        self.merge(&hello.members);
        Ok(held)
    }

    /// Takes what others know of the members.
    pub fn merge(self: &Rc<Self>, others: &Members) {
        self.change_members(|members| members.merge(others));
    }

    /// Changes the table, where `change` says that it has; keeps it, tells the others, and connects to whom it says.
    pub fn change_members(self: &Rc<Self>, change: impl FnOnce(&mut Members) -> bool) {
        if !change(&mut self.members.borrow_mut()) {
            return;
        }
        if let Err(error) = self.keep_members() {
            tracing::error!(%error, "the members of the cluster could not be written to disk");
        }
        self.spread();
        self.connect_to_members();
    }

    /// It waits for the disk: the table changes when a node comes, moves or goes.
    pub fn keep_members(&self) -> io::Result<()> {
        write_members(&self.home.directory, &self.members.borrow())
    }

    /// Tells all that are connected what this node knows.
    fn spread(&self) {
        let gossip = self.gossip();
        for ((_, lane), (link, _)) in self.links.borrow().iter() {
            if *lane == LaneName::Heartbeat {
                link.tell(Frame::new(Kind::Gossip, 0, gossip.clone()));
            }
        }
    }

    pub fn gossip(&self) -> Vec<u8> {
        let leads = self.groups().iter().filter_map(Led::of).collect();
        serde_json::to_vec(&Gossip { members: self.members.borrow().clone(), leads }).expect("texts and numbers")
    }

    pub fn hear_gossip(self: &Rc<Self>, gossip: Gossip) {
        // A leader that does not know yet that this node leaves may be about to take it in.
        if gossip.members.get(self.me()).map(|member| member.standing) == self.standing() {
            gossip.leads.into_iter().for_each(|led| self.leads.borrow_mut().note(led));
        }
        self.merge(&gossip.members);
    }

    /// Has a link to each that is in the cluster, and to nobody else.
    fn connect_to_members(self: &Rc<Self>) {
        if self.inbox.borrow().is_none() {
            return;
        }
        let members = self.members.borrow();
        let is_out = members.has_left(self.me());
        let mut links = self.links.borrow_mut();
        for (node, _) in members.iter().filter(|(node, _)| *node != self.me()) {
            for lane in LaneName::ALL {
                if members.has_left(node) {
                    // What is left to say is said first: that this node has left, if it is this node.
                    if let Some((link, task)) = links.remove(&(node, lane)) {
                        link.close("it has left the cluster");
                        task.abort();
                    }
                    if let Some(task) = self.incoming.borrow_mut().remove(&(node, lane)) {
                        task.abort();
                    }
                } else if !is_out {
                    links.entry((node, lane)).or_insert_with(|| Link::start(self.clone(), node, lane));
                }
            }
        }
    }

    /// Notes which task serves a connection of another. One that was there before is not needed any more.
    pub fn note_incoming(&self, node: NodeId, lane: LaneName, task: AbortHandle) {
        if let Some(before) = self.incoming.borrow_mut().insert((node, lane), task) {
            before.abort();
        }
    }

    /// Notes whom this node refuses, and why.
    pub fn note_refused(&self, who: &str, refusal: &Refusal) {
        self.note(format!("{who}: {refusal}"), refusal.reason);
    }

    /// Notes that a node which had connected refuses this one.
    pub fn note_refused_by(&self, node: NodeId, refusal: &Refusal) {
        self.note(format!("by node {node}: {refusal}"), refusal.reason);
    }

    /// In the log where it was not said lately.
    fn note(&self, text: String, reason: Reason) {
        let mut refused = self.refused.borrow_mut();
        if !refused.contains(&text) {
            tracing::warn!(?reason, "a connection between servers of the cluster is refused: {text}");
            refused.push_back(text);
            if refused.len() > REFUSED_MAX {
                refused.pop_front();
            }
        }
    }
}

#[cfg(test)]
impl Shared {
    pub fn link(&self, node: NodeId, lane: LaneName) -> Option<Rc<Link>> {
        self.links.borrow().get(&(node, lane)).map(|(link, _)| link.clone())
    }

    /// Ends all connections of others to this node.
    pub fn cut(&self) {
        self.incoming.borrow_mut().values().for_each(AbortHandle::abort);
    }

    /// Speaks with nobody any more, as a process that has ended.
    pub fn stop(&self) {
        self.cut();
        self.links.borrow().values().for_each(|(_, task)| task.abort());
        self.tasks.borrow().iter().for_each(AbortHandle::abort);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shared.boots.borrow_mut().release(self.node);
    }
}

/// The cluster and the node that the other side's certificate names.
pub(super) fn certified(connection: &rustls::CommonState) -> Option<(u64, NodeId)> {
    named(connection.peer_certificates()?.first()?)
}

/// What an error of a connection says to an operator.
pub(super) fn explain(error: &io::Error) -> String {
    let text = error.to_string();
    let is_unknown = text.contains("UnknownIssuer") || text.contains("UnknownCA") || text.contains("CertificateUnknown");
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return "the connection has ended".to_owned();
    }
    if is_unknown { format!("the two servers are not certified by the same authority, so not of one cluster ({text})") } else { text }
}

async fn reconcile(shared: Rc<Shared>, inbox: Inbox) {
    loop {
        tokio::time::sleep(Duration::from_millis(shared.options.reconcile_ms)).await;
        for group in inbox.statuses() {
            let change = shared.with_members(|members| next_change(&group, shared.me(), members));
            if let Some(change) = change {
                tracing::info!(group = group.group.0, ?change, "the members of a group follow the cluster's");
                inbox.change(group.group, change);
            }
        }
    }
}
