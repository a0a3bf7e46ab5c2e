//! The tasks of one shard, and the turn they share: inputs go into the shard, effects are carried out, sends follow together.

use super::log::Logger;
use super::mesh::{Adoption, Command, Links};
use super::socket::{self, Socket};
use super::tick::{self, TICK};
use super::{Listeners, Settings, now, wall_ms};
use crate::admin::{self, Answer};
use crate::base::{ConnectionKey, ShardIndex, SlabKey};
use crate::shard::{Effect, Handover, Shard, Transport, Verdict};
use crate::storage::Answer as StorageAnswer;
use glommio::net::{TcpListener, TcpStream};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::net::Shutdown;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::rc::Rc;
use std::task::{Poll, Waker, ready};
use std::time::Duration;

/// One read takes at most this much; the buffer is the shard's, not the connection's.
const READ_BYTES: usize = 256 << 10;
/// Batches handled for one ring before others get their turn.
const BATCHES_A_TURN: usize = 64;

type Slot = Option<(u32, Rc<Socket>)>;

/// What a read brought.
enum Read {
    Bytes,
    End,
    /// The connection is another shard's by now.
    HandedOver,
}

/// What the tasks of one shard share.
struct World {
    shard: RefCell<Shard>,
    settings: Settings,
    links: RefCell<Links>,
    logger: RefCell<Logger>,
    index: ShardIndex,
    /// By the index of the connection's key, with its generation.
    sockets: RefCell<Vec<Slot>>,
    /// Connections that have something to send, and who sends.
    wakes: RefCell<VecDeque<ConnectionKey>>,
    sender: RefCell<Option<Waker>>,
    read_buffer: RefCell<Vec<u8>>,
    /// Sockets whose peers may still read, by where they are in memory, and for how many ticks more.
    lingering: RefCell<HashMap<*const Socket, (u64, Rc<Socket>)>>,
    report_requests: RefCell<HashMap<u64, ConnectionKey>>,
    is_stopping: Cell<bool>,
    /// Whether anything came, or was sent, since the last tick.
    has_traffic: Cell<bool>,
}

/// Runs the shard until it is told to stop and has taken leave.
pub async fn run(shard: Shard, settings: Settings, listeners: Listeners, links: Links) {
    let index = links.rings.outgoing.iter().position(Option::is_none).expect("a shard has no ring to itself") as u16;
    let mailbox = links.mailboxes[usize::from(index)].clone();
    let drain_ms = settings.shutdown_drain_ms;
    let world = Rc::new(World {
        shard: RefCell::new(shard),
        settings,
        links: RefCell::new(links),
        logger: RefCell::default(),
        index: ShardIndex(index),
        sockets: RefCell::default(),
        wakes: RefCell::default(),
        sender: RefCell::default(),
        read_buffer: RefCell::new(vec![0; READ_BYTES]),
        lingering: RefCell::default(),
        report_requests: RefCell::default(),
        is_stopping: Cell::new(false),
        has_traffic: Cell::new(false),
    });
    let mut tasks = vec![
        glommio::spawn_local(accept(world.clone(), listeners.http, Transport::Http)),
        glommio::spawn_local(send(world.clone())),
        glommio::spawn_local(receive_mail(world.clone())),
    ];
    tasks.extend(listeners.mqtt.map(|listener| glommio::spawn_local(accept(world.clone(), listener, Transport::Mqtt))));
    mailbox.begin();
    let mut ticks_left = ticks_of(drain_ms);
    loop {
        tick::wait(world.has_traffic.take()).await;
        mailbox.beat();
        world.shard.borrow_mut().note_interruptions(mailbox.interruptions());
        world.shard.borrow_mut().handle_tick(now(), wall_ms());
        world.carry_out();
        world.tick_lingering();
        if world.is_stopping.get() {
            if world.is_done() || ticks_left == 0 {
                break;
            }
            ticks_left -= 1;
        }
    }
    for task in tasks {
        task.cancel().await;
    }
    world.give_up_records();
    mailbox.end();
}

/// The ticks that take at least so long.
fn ticks_of(ms: u64) -> u64 {
    ms.div_ceil(TICK.as_millis() as u64)
}

async fn accept(world: Rc<World>, listener: OwnedFd, transport: Transport) {
    // SAFETY: the descriptor is a listening socket that nobody else owns.
    let listener = unsafe { TcpListener::from_raw_fd(listener.into_raw_fd()) };
    loop {
        match listener.accept().await {
            Ok(stream) => world.take_connection(stream, transport),
            Err(error) => {
                // Out of descriptors, most likely: those that wait are taken when others end.
                tracing::warn!(%error, "cannot accept a connection");
                glommio::timer::sleep(TICK).await;
            }
        }
        if world.is_stopping.get() {
            return;
        }
    }
}

async fn read(world: Rc<World>, key: ConnectionKey, socket: Rc<Socket>) {
    loop {
        while world.is_reading_paused(key) {
            glommio::timer::sleep(Duration::from_millis(1)).await;
        }
        let read = poll_fn(|context| {
            let mut buffer = world.read_buffer.borrow_mut();
            Poll::Ready(match ready!(socket.poll_read(context, &mut buffer)) {
                None => Read::HandedOver,
                Some(Ok(0) | Err(_)) => Read::End,
                Some(Ok(length)) => {
                    world.has_traffic.set(true);
                    world.shard.borrow_mut().handle_bytes(now(), key, &mut buffer[..length]);
                    Read::Bytes
                }
            })
        })
        .await;
        match read {
            Read::HandedOver => return,
            Read::End => break,
            Read::Bytes => world.carry_out(),
        }
        glommio::yield_if_needed().await;
    }
    world.shard.borrow_mut().handle_closed(now(), key);
    world.forget_socket(key);
    world.lingering.borrow_mut().remove(&Rc::as_ptr(&socket));
    world.carry_out();
    // A writer that waits for this peer sees the end.
    socket.shut_down(Shutdown::Both);
}

/// Sends for every connection that has something: one send each, all together.
async fn send(world: Rc<World>) {
    loop {
        poll_fn(|context| {
            if !world.wakes.borrow().is_empty() || world.shard.borrow().has_walks() {
                return Poll::Ready(());
            }
            *world.sender.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
        let started = now();
        if world.shard.borrow().has_walks() {
            world.shard.borrow_mut().run_slice(started);
            world.carry_out();
        }
        world.shard.borrow_mut().begin_sends();
        let mut left = world.wakes.borrow().len();
        // One send for each connection that was woken before this round; each as long as `limits.transmit_bytes_max` says.
        while left > 0 {
            left -= 1;
            let Some(key) = world.wakes.borrow_mut().pop_front() else { break };
            world.send_to(key);
            if glommio::executor().need_preempt() {
                world.carry_out();
                glommio::executor().yield_task_queue_now().await;
            }
        }
        world.carry_out();
        world.shard.borrow_mut().handle_turn(now().since(started));
        glommio::executor().yield_task_queue_now().await;
    }
}

async fn receive_mail(world: Rc<World>) {
    let mailbox = world.links.borrow().mailboxes[usize::from(world.index.0)].clone();
    loop {
        poll_fn(|context| {
            // Registered before looking, so that what comes in between wakes.
            mailbox.register(context.waker());
            if !world.take_mail() {
                return Poll::Pending;
            }
            world.has_traffic.set(true);
            Poll::Ready(())
        })
        .await;
        world.carry_out();
        glommio::yield_if_needed().await;
    }
}

/// Sends the rest of what did not fit, when the socket takes more.
async fn write_tail(world: Rc<World>, key: ConnectionKey, socket: Rc<Socket>) {
    loop {
        match poll_fn(|context| socket.poll_write_tail(context)).await {
            None => return,
            Some(Ok(length)) if length > 0 => drop(socket.tail.borrow_mut().drain(..length)),
            Some(_) => return socket.shut_down(Shutdown::Both),
        }
        if !socket.has_tail() {
            break;
        }
    }
    socket.tail.replace(Vec::new());
    if socket.is_ending.get() {
        socket.shut_down(Shutdown::Write);
    }
    world.wake(key);
}

impl World {
    fn take_connection(self: &Rc<Self>, stream: TcpStream, transport: Transport) {
        if socket::prepare(&stream).is_err() {
            return;
        }
        let Some(key) = self.shard.borrow_mut().handle_accept(now(), transport) else { return };
        self.serve(key, Socket::new(stream, Vec::new()));
    }

    /// Goes on with a connection that another shard has begun.
    fn adopt(self: &Rc<Self>, adoption: Adoption) {
        let Adoption { descriptor, tail, handover } = adoption;
        // SAFETY: the descriptor is a connected socket that nobody else owns.
        let stream = unsafe { TcpStream::from_raw_fd(descriptor.into_raw_fd()) };
        if socket::prepare(&stream).is_err() {
            return;
        }
        let Some(key) = self.shard.borrow_mut().handle_handed(now(), *handover) else { return };
        self.serve(key, Socket::new(stream, tail));
    }

    /// Gives a connection to another shard. What the peer sends meanwhile waits in its socket.
    fn hand_over(&self, key: ConnectionKey, to: ShardIndex, handover: Box<Handover>) {
        let Some(socket) = self.forget_socket(key) else { return };
        match socket.hand_over() {
            Some(Ok((descriptor, tail))) => self.links.borrow().hand_over(to, Adoption { descriptor, tail, handover }),
            Some(Err(error)) => tracing::warn!(%error, "a connection that another shard has to go on with ends"),
            None => {}
        }
    }

    fn serve(self: &Rc<Self>, key: ConnectionKey, socket: Socket) {
        let socket = Rc::new(socket);
        let mut sockets = self.sockets.borrow_mut();
        let place = key.index() as usize;
        if sockets.len() <= place {
            sockets.resize_with(place + 1, || None);
        }
        sockets[place] = Some((key.generation(), socket.clone()));
        drop(sockets);
        if socket.has_tail() {
            glommio::spawn_local(write_tail(self.clone(), key, socket.clone())).detach();
        }
        glommio::spawn_local(read(self.clone(), key, socket)).detach();
    }

    fn socket(&self, key: ConnectionKey) -> Option<Rc<Socket>> {
        let sockets = self.sockets.borrow();
        let (generation, socket) = sockets.get(key.index() as usize)?.as_ref()?;
        (*generation == key.generation()).then(|| socket.clone())
    }

    fn forget_socket(&self, key: ConnectionKey) -> Option<Rc<Socket>> {
        let socket = self.socket(key)?;
        self.sockets.borrow_mut()[key.index() as usize] = None;
        Some(socket)
    }

    fn wake(&self, key: ConnectionKey) {
        self.wakes.borrow_mut().push_back(key);
        self.wake_sender();
    }

    fn wake_sender(&self) {
        if let Some(waker) = self.sender.borrow_mut().take() {
            waker.wake();
        }
    }

    fn send_to(self: &Rc<Self>, key: ConnectionKey) {
        let Some(socket) = self.socket(key) else { return };
        if socket.has_tail() {
            return;
        }
        let mut shard = self.shard.borrow_mut();
        let Some(bytes) = shard.poll_transmit(now(), key) else { return };
        let is_sent = socket.send(bytes);
        self.has_traffic.set(true);
        shard.handle_sent(now(), key);
        let wants_more = shard.wants_to_send(key);
        drop(shard);
        if !is_sent {
            glommio::spawn_local(write_tail(self.clone(), key, socket)).detach();
        } else if wants_more {
            self.wakes.borrow_mut().push_back(key);
        }
    }

    /// Whether the connection is not read now: its shard has too much to do, or waits for a word on who its client is.
    fn is_reading_paused(&self, key: ConnectionKey) -> bool {
        let shard = self.shard.borrow();
        shard.is_congested() || shard.is_waiting(key)
    }

    /// Whether every session has been taken leave of, and storage has what it has to keep: where acknowledgements do not wait
    /// for it, some records may still be here.
    fn is_done(&self) -> bool {
        let shard = self.shard.borrow();
        shard.connection_count() == 0 && self.lingering.borrow().is_empty() && !shard.persistence().has_to_send()
    }

    /// The end: what storage does not take now, nobody keeps.
    fn give_up_records(&self) {
        self.send_records();
        let lost = self.shard.borrow().persistence().unsent();
        if lost > 0 {
            tracing::error!(shard = self.index.0, records = lost, "records of stored topics are lost: storage did not take them in time");
        }
    }

    /// Does what the shard wants done.
    fn carry_out(self: &Rc<Self>) {
        loop {
            let effect = self.shard.borrow_mut().poll_effect();
            match effect {
                None => break,
                Some(Effect::Wake(key)) => self.wakes.borrow_mut().push_back(key),
                Some(Effect::Close(key)) => self.end_transport(key),
                Some(Effect::Http(key, request)) => self.answer_request(key, &request.method, &request.path),
                Some(Effect::HandOver(key, to, handover)) => self.hand_over(key, to, handover),
                Some(Effect::Reports(ticket)) => self.answer_reports(ticket),
                Some(Effect::Inside(_) | Effect::InsideOver(_)) => unreachable!("nothing in the process has a session"),
                // This server knows no method.
                Some(Effect::Authenticate(key, asked)) => {
                    self.shard.borrow_mut().handle_authenticated(now(), key, &asked.method, Verdict::Unknown);
                }
                Some(Effect::Log(news)) => self.logger.borrow_mut().log(now(), &news),
            }
        }
        self.send_mail();
        self.send_records();
        if !self.wakes.borrow().is_empty() || self.shard.borrow().has_walks() {
            self.wake_sender();
        }
    }

    /// Ends our side; the peer may still be reading what was sent.
    fn end_transport(&self, key: ConnectionKey) {
        self.shard.borrow_mut().handle_closed(now(), key);
        let Some(socket) = self.forget_socket(key) else { return };
        if socket.has_tail() {
            socket.is_ending.set(true);
        } else {
            socket.shut_down(Shutdown::Write);
        }
        let ticks = ticks_of(self.settings.limits.close_timeout_ms);
        self.lingering.borrow_mut().insert(Rc::as_ptr(&socket), (ticks, socket));
    }

    fn tick_lingering(&self) {
        // For `limits.close_timeout_ms` every connection that ended, which `limits.connections_max` bounds.
        self.lingering.borrow_mut().retain(|_, (ticks, socket)| {
            *ticks -= 1;
            if *ticks == 0 {
                socket.shut_down(Shutdown::Both);
            }
            *ticks > 0
        });
    }

    fn answer_request(&self, key: ConnectionKey, method: &str, path: &str) {
        let mut shard = self.shard.borrow_mut();
        match admin::answer(&self.settings.pages, method, path) {
            Answer::Page { status, content_type, body } => shard.respond(key, status, content_type, body),
            Answer::Latency => {
                let ticket = shard.request_reports();
                self.report_requests.borrow_mut().insert(ticket, key);
            }
        }
    }

    fn answer_reports(&self, ticket: u64) {
        let mut shard = self.shard.borrow_mut();
        let reports = shard.take_reports(ticket);
        if let Some(key) = self.report_requests.borrow_mut().remove(&ticket) {
            shard.respond(key, 200, "application/json", &admin::print_reports(&reports, self.links.borrow().counters.as_deref()));
        }
    }

    /// Puts the shard's mail into the rings; what does not fit goes back and is tried again with the next.
    fn send_mail(&self) {
        let mut links = self.links.borrow_mut();
        let mut shard = self.shard.borrow_mut();
        let Links { rings, mailboxes, .. } = &mut *links;
        for (to, ring) in rings.outgoing.iter_mut().enumerate() {
            let Some(ring) = ring else { continue };
            let to_shard = ShardIndex(to as u16);
            let Some(batch) = shard.poll_mail(to_shard) else { continue };
            if let Err(rtrb::PushError::Full(batch)) = ring.push(batch) {
                shard.return_mail(to_shard, batch);
            }
            mailboxes[to].wake();
        }
    }

    /// Hands what is to be stored to storage; what it has no room for goes back and is tried again with the next, or the next tick.
    fn send_records(&self) {
        let links = self.links.borrow();
        let Some(storage) = &links.storage else { return };
        let mut shard = self.shard.borrow_mut();
        let Some(records) = shard.poll_records() else { return };
        if let Err(records) = storage.try_send(records) {
            shard.return_records(records);
        }
    }

    /// Takes what came from other shards and from other threads; tells whether there was anything.
    fn take_mail(self: &Rc<Self>) -> bool {
        let mut adoptions = Vec::new();
        let any = self.open_mail(&mut adoptions);
        // One for each client that another shard has handed over since the last turn.
        for adoption in adoptions {
            // What was wanted so far comes first: a connection that is over may be about to leave its place to this one.
            self.carry_out();
            self.adopt(adoption);
        }
        any
    }

    /// Leaves the connections that come from other shards to the caller: serving one begins at once, and needs the shard.
    fn open_mail(&self, adoptions: &mut Vec<Adoption>) -> bool {
        let mut links = self.links.borrow_mut();
        let mut shard = self.shard.borrow_mut();
        let mut any = false;
        for (from, ring) in links.rings.incoming.iter_mut().enumerate() {
            let Some(ring) = ring else { continue };
            for _ in 0..BATCHES_A_TURN {
                let Ok(batch) = ring.pop() else { break };
                any = true;
                shard.handle_mail(now(), ShardIndex(from as u16), batch);
            }
        }
        // What other threads have said since the last turn: storage once for each group.
        while let Ok(command) = links.commands.try_recv() {
            any = true;
            match command {
                Command::ShutDown => {
                    self.is_stopping.set(true);
                    shard.shut_down(now());
                }
                Command::Adopt(adoption) => adoptions.push(adoption),
                Command::Storage(StorageAnswer::Acknowledged { through }) => shard.handle_stored(now(), through),
                Command::Storage(StorageAnswer::Failing { reason }) => shard.handle_storage_failure(now(), &reason),
                Command::Storage(StorageAnswer::Recovered) => shard.handle_storage_recovery(now()),
            }
        }
        any
    }
}
