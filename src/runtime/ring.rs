//! The shard's ring: what its sockets, its clock and its wakes do, in one system call a turn.
//!
//! Everything is asked for in the submission queue, carried out when the ring is entered, and told by completions. Sockets are received from as long as
//! they last (multishot, into buffers that all share); what is sent goes to the kernel within the enter, and is told of only where the socket did not take all
//! of it: then the ring sends the rest when there is room, and tells when that is done.
//!
//! This is the only file of the runtime in which the kernel is given memory. What makes that sound:
//! 1. A descriptor that an entry names is owned by the ring, by the shard's listeners, or by a mailbox that outlives the ring; the ring closes one of
//!    its own only when nothing is under way with it, so no entry meets a descriptor that was closed, or given to another.
//! 2. The bytes of a send are behind an `Rc` that the ring holds until an enter that took it has returned and no completion is left, or, where a rest is
//!    under way, until that has completed. Nobody changes what is behind a shared `Rc`.
//! 3. A receive buffer is the kernel's from `offer` to the completion that names it, and from then on that of whoever has the [`Received`], which
//!    cannot be copied and is given back by value. The memory neither moves nor is freed while the ring stands.
//! 4. At the end everything is cancelled and waited for; what would not end is leaked with its memory, and the kernel may go on to write there.

#[cfg(test)]
mod tests;

use crate::shard::Send;
use io_uring::{IoUring, cqueue, opcode, squeue, types};
use std::alloc::Layout;
use std::collections::HashMap;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

/// How large the ring's parts are.
#[derive(Clone, Copy)]
pub struct Sizes {
    /// Entries that are submitted at once; more than that enter the ring in between.
    pub submissions: u32,
    /// Buffers that all sockets are received into, a power of two, and the bytes of each.
    pub buffers: u16,
    pub buffer_bytes: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { submissions: 1024, buffers: 128, buffer_bytes: 16 << 10 }
    }
}

/// Completions that the ring holds; further ones the kernel keeps until there is room.
const COMPLETIONS: u32 = 8192;

/// How long an enter waits at most where the shard waits for something that wakes nobody.
const NAP_TIME: Duration = Duration::from_millis(1);

/// The group of the receive buffers; there is one.
const GROUP: u16 = 0;

/// What an entry of the submission queue is, in the high half of its number.
const ACCEPT: u64 = 1 << 32;
const RECEIVE: u64 = 2 << 32;
const SEND: u64 = 3 << 32;
const REST: u64 = 4 << 32;
const TICK: u64 = 5 << 32;
const NAP: u64 = 6 << 32;
const BELL: u64 = 7 << 32;
/// Of which nothing need be known.
const DONE: u64 = 8 << 32;

/// IORING_ENTER_GETEVENTS: look for completions, which this kind of ring makes only then.
const GETEVENTS: u32 = 1;

/// What came of something.
pub enum Completion {
    /// A listener, by its number, has a connection.
    Accepted(u32, OwnedFd),
    /// Nothing is accepted there until that is asked for again.
    AcceptFailed(u32, io::Error),
    Received(Received),
    /// Nothing more is received from the socket until that is asked for again.
    ReceiveEnded(u32, Ended),
    /// What the socket did not take at once is sent; or will never be, if it failed.
    RestSent(u32),
    Tick,
}

/// Bytes of a socket, until they are given back.
pub struct Received {
    pub socket: u32,
    buffer: u16,
    length: u32,
}

impl Received {
    pub fn len(&self) -> usize {
        self.length as usize
    }
}

/// Why nothing more is received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The peer has ended, or the connection failed.
    Over,
    /// There was no buffer, it was stopped, or the kernel wants to be asked again.
    Paused,
}

/// See the module.
pub struct Ring {
    ring: IoUring,
    sockets: Vec<Option<Socket>>,
    free: Vec<u32>,
    /// Sends that are not known to have gone, with their sockets, and how many of them the kernel has been given.
    batch: Vec<(u32, Rc<Send>)>,
    entered: usize,
    /// What sockets did not take at once, and how much of it they took.
    rests: HashMap<u32, (Rc<Send>, usize)>,
    buffers: Buffers,
    /// Receives and rests under way, which have memory of ours.
    under_way: usize,
    listeners: Vec<RawFd>,
    bell: RawFd,
    period: Box<types::Timespec>,
    /// How long a nap is, which ends an enter that waits.
    nap: Box<types::Timespec>,
    is_napping: bool,
    /// What is told next.
    next: Option<Completion>,
}

struct Socket {
    descriptor: OwnedFd,
    is_receiving: bool,
    /// It is received from no more, once the kernel has heard.
    is_stopping: bool,
    is_sending: bool,
    /// It is closed once nothing is under way.
    is_closing: bool,
}

/// The memory that sockets are received into.
struct Buffers {
    /// What the kernel takes buffers from.
    ring: NonNull<types::BufRingEntry>,
    memory: NonNull<u8>,
    count: u16,
    bytes: usize,
    tail: u16,
}

impl Ring {
    /// A ring of the calling thread. `bell` is an event descriptor that wakes it; `listeners` are accepted from by their numbers. Both must stay open as
    /// long as the ring.
    pub fn new(sizes: Sizes, bell: RawFd, listeners: Vec<RawFd>, period: Duration) -> io::Result<Self> {
        let mut builder = IoUring::builder();
        builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag().setup_submit_all().setup_cqsize(COMPLETIONS);
        let ring = builder.build(sizes.submissions).map_err(|error| match error.raw_os_error() {
            Some(libc::EINVAL) => io::Error::other("the kernel lacks deferred task work for io_uring, which Linux has from 6.1 on"),
            _ => error,
        })?;
        let buffers = Buffers::new(sizes.buffers, sizes.buffer_bytes);
        // SAFETY: the memory holds as many entries, and is there as long as the ring (3, 4).
        unsafe { ring.submitter().register_buf_ring_with_flags(buffers.ring.as_ptr() as u64, sizes.buffers, GROUP, 0)? };
        let mut ring = Self {
            ring,
            sockets: Vec::new(),
            free: Vec::new(),
            batch: Vec::new(),
            entered: 0,
            rests: HashMap::new(),
            buffers,
            under_way: 0,
            listeners,
            bell,
            period: Box::new(timespec(period)),
            nap: Box::new(timespec(NAP_TIME)),
            is_napping: false,
            next: None,
        };
        (0..ring.buffers.count).for_each(|buffer| ring.buffers.offer(buffer));
        ring.listen_to_bell();
        (0..ring.listeners.len() as u32).for_each(|listener| ring.accept(listener));
        ring.tick();
        Ok(ring)
    }

    /// A descriptor of the ring by which others wake it.
    pub fn try_clone_descriptor(&self) -> io::Result<OwnedFd> {
        // SAFETY: the ring is open.
        unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) }.try_clone_to_owned()
    }

    // What is asked for.

    pub fn accept(&mut self, listener: u32) {
        let descriptor = types::Fd(self.listeners[listener as usize]);
        let entry = opcode::AcceptMulti::new(descriptor).flags(libc::SOCK_CLOEXEC).build();
        self.push(entry.user_data(ACCEPT | u64::from(listener)));
    }

    /// Nothing more is accepted; who is accepted already is still told.
    pub fn stop_accepting(&mut self) {
        for listener in 0..self.listeners.len() as u64 {
            self.push(opcode::AsyncCancel::new(ACCEPT | listener).build().user_data(DONE));
        }
    }

    /// A completion comes when the period is over, once.
    pub fn tick(&mut self) {
        let period: *const types::Timespec = &*self.period;
        self.push(opcode::Timeout::new(period).build().user_data(TICK));
    }

    /// The next enter waits for a millisecond at most.
    pub fn nap(&mut self) {
        if !std::mem::replace(&mut self.is_napping, true) {
            let nap: *const types::Timespec = &*self.nap;
            self.push(opcode::Timeout::new(nap).build().user_data(NAP));
        }
    }

    fn listen_to_bell(&mut self) {
        let entry = opcode::PollAdd::new(types::Fd(self.bell), libc::POLLIN as u32).multi(true).build();
        self.push(entry.user_data(BELL));
    }

    /// Wakes another ring, whose descriptor must be open until this one was entered.
    pub fn wake(&mut self, other: RawFd) {
        let entry = opcode::MsgRingData::new(types::Fd(other), 0, DONE, None).build();
        self.push(entry.flags(squeue::Flags::SKIP_SUCCESS).user_data(DONE));
    }

    /// Takes a connected socket. Its number is another's once it is closed or taken out, and nothing is told of it any more.
    pub fn add(&mut self, descriptor: OwnedFd) -> u32 {
        let socket = Some(Socket { descriptor, is_receiving: false, is_stopping: false, is_sending: false, is_closing: false });
        if let Some(place) = self.free.pop() {
            self.sockets[place as usize] = socket;
            return place;
        }
        self.sockets.push(socket);
        u32::try_from(self.sockets.len() - 1).expect("a process has fewer descriptors")
    }

    fn socket(&mut self, socket: u32) -> &mut Socket {
        self.sockets[socket as usize].as_mut().expect("a socket is named while it is there")
    }

    /// Receives from the socket until `ReceiveEnded`.
    pub fn receive(&mut self, number: u32) {
        let socket = self.socket(number);
        socket.is_stopping = false;
        if std::mem::replace(&mut socket.is_receiving, true) {
            return;
        }
        let descriptor = types::Fd(socket.descriptor.as_raw_fd());
        self.under_way += 1;
        self.push(opcode::RecvMulti::new(descriptor, GROUP).build().user_data(RECEIVE | u64::from(number)));
    }

    pub fn is_receiving(&self, socket: u32) -> bool {
        self.sockets[socket as usize].as_ref().is_some_and(|socket| socket.is_receiving)
    }

    /// Ends receiving; what has come until then is told, then `ReceiveEnded`.
    pub fn stop_receiving(&mut self, socket: u32) {
        self.socket(socket).is_stopping = true;
        let entry = opcode::AsyncCancel::new(RECEIVE | u64::from(socket)).build();
        self.push(entry.flags(squeue::Flags::SKIP_SUCCESS).user_data(DONE));
    }

    /// Whether the socket has not taken all of an earlier send: nothing else is sent until `RestSent`.
    pub fn has_rest(&self, socket: u32) -> bool {
        self.rests.contains_key(&socket)
    }

    /// Whether what was given to the socket has not all gone: nothing else may be sent there.
    pub fn is_sending(&self, socket: u32) -> bool {
        self.sockets[socket as usize].as_ref().is_some_and(|socket| socket.is_sending)
    }

    /// Sends in the next enter what the socket takes, and the rest when it takes more, which is told. Nothing else may be under way there.
    pub fn send(&mut self, number: u32, send: Rc<Send>) {
        let (bytes, length) = (send.as_ptr(), send.len() as u32);
        let socket = self.socket(number);
        debug_assert!(!socket.is_sending, "a socket's bytes go one after the other");
        socket.is_sending = true;
        let descriptor = types::Fd(socket.descriptor.as_raw_fd());
        self.batch.push((number, send));
        let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL | libc::MSG_DONTWAIT;
        let entry = opcode::Send::new(descriptor, bytes, length).flags(flags).build();
        self.push(entry.flags(squeue::Flags::SKIP_SUCCESS).user_data(SEND | u64::from(number)));
    }

    /// Ends one or both directions. A peer that is gone already is no error here.
    pub fn shut_down(&mut self, socket: u32, how: Shutdown) {
        let _ = socket2::SockRef::from(&self.socket(socket).descriptor).shutdown(how);
    }

    /// Ends the connection, and closes it once nothing is under way there. Nothing is told of it any more.
    pub fn close(&mut self, number: u32) {
        self.shut_down(number, Shutdown::Both);
        self.socket(number).is_closing = true;
        self.close_if_quiet(number);
    }

    fn close_if_quiet(&mut self, number: u32) {
        let socket = self.socket(number);
        if socket.is_closing && !socket.is_receiving && !socket.is_sending {
            self.sockets[number as usize] = None;
            self.free.push(number);
        }
    }

    /// Takes a socket out with which nothing is under way: it goes on elsewhere.
    pub fn take(&mut self, number: u32) -> Option<OwnedFd> {
        let socket = self.socket(number);
        if socket.is_receiving || socket.is_sending {
            return None;
        }
        self.free.push(number);
        self.sockets[number as usize].take().map(|socket| socket.descriptor)
    }

    /// Sockets that are not closed yet.
    pub fn socket_count(&self) -> usize {
        self.sockets.len() - self.free.len()
    }

    /// The bytes that were received, which may be changed.
    pub fn bytes(&mut self, received: &Received) -> &mut [u8] {
        self.buffers.bytes(received)
    }

    pub fn give_back(&mut self, received: Received) {
        self.buffers.offer(received.buffer);
    }

    fn push(&mut self, entry: squeue::Entry) {
        loop {
            // SAFETY: what the entry points to stays as the module says (1, 2).
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                return;
            }
            self.enter(false);
        }
    }

    // What came of it.

    /// Carries out what was asked for, and waits for a completion if there is none.
    pub fn enter(&mut self, waits: bool) {
        let length = {
            let mut submissions = self.ring.submission();
            submissions.sync();
            submissions.len() as u32
        };
        // SAFETY: there is no argument.
        let result = unsafe { self.ring.submitter().enter::<libc::sigset_t>(length, u32::from(waits), GETEVENTS, None) };
        if result.as_ref().is_ok_and(|submitted| *submitted == length as usize) {
            self.entered = self.batch.len();
        }
        match result.as_ref().map_err(io::Error::raw_os_error) {
            // What was not submitted is, the next time.
            Ok(_) | Err(Some(libc::EINTR | libc::EBUSY | libc::EAGAIN)) => {}
            Err(_) => panic!("the kernel refuses to go on with a ring: {result:?}"),
        }
    }

    /// Whether an enter that does not wait would find something.
    pub fn has_completions(&mut self) -> bool {
        !self.ring.completion().is_empty() || self.ring.submission().taskrun()
    }

    pub fn poll_completion(&mut self) -> Option<Completion> {
        if self.next.is_some() {
            return self.next.take();
        }
        loop {
            let entry = self.ring.completion().next()?;
            let (kind, number) = (entry.user_data() >> 32 << 32, entry.user_data() as u32);
            let has_more = cqueue::more(entry.flags());
            match kind {
                ACCEPT => match entry.result() {
                    // SAFETY: the kernel has made this descriptor for us just now.
                    descriptor @ 0.. => {
                        if !has_more {
                            self.accept(number);
                        }
                        return Some(Completion::Accepted(number, unsafe { OwnedFd::from_raw_fd(descriptor) }));
                    }
                    error if error == -libc::ECANCELED => {}
                    error => return Some(Completion::AcceptFailed(number, io::Error::from_raw_os_error(-error))),
                },
                RECEIVE => {
                    if let Some(completion) = self.received(number, &entry) {
                        return Some(completion);
                    }
                }
                SEND => self.fell_short(number, entry.result()),
                REST if self.rest_sent(number, entry.result()) => return Some(Completion::RestSent(number)),
                TICK => return Some(Completion::Tick),
                NAP => self.is_napping = false,
                BELL if !has_more => self.listen_to_bell(),
                _ => {}
            }
        }
    }

    fn received(&mut self, number: u32, entry: &cqueue::Entry) -> Option<Completion> {
        let (has_more, result) = (cqueue::more(entry.flags()), entry.result());
        let received = cqueue::buffer_select(entry.flags()).map(|buffer| Received { socket: number, buffer, length: result.max(0) as u32 });
        if !has_more {
            self.under_way -= 1;
            self.socket(number).is_receiving = false;
        }
        if self.socket(number).is_closing {
            received.into_iter().for_each(|received| self.give_back(received));
            if !has_more {
                self.close_if_quiet(number);
            }
            return None;
        }
        match received {
            // Asked for again by itself: only an end without bytes is told.
            Some(received) if result > 0 => {
                if !has_more && self.socket(number).is_stopping {
                    self.next = Some(Completion::ReceiveEnded(number, Ended::Paused));
                } else if !has_more {
                    self.receive(number);
                }
                Some(Completion::Received(received))
            }
            received => {
                received.into_iter().for_each(|received| self.give_back(received));
                let is_paused = matches!(-result, libc::ENOBUFS | libc::ECANCELED | libc::EINTR | libc::EAGAIN);
                (!has_more).then_some(Completion::ReceiveEnded(number, if is_paused { Ended::Paused } else { Ended::Over }))
            }
        }
    }

    /// The socket took only so much of a send of this turn: the ring goes on with the rest.
    fn fell_short(&mut self, number: u32, result: i32) {
        let place = self.batch.iter().position(|(socket, _)| *socket == number).expect("what fell short is not known to have gone");
        let (_, send) = self.batch.remove(place);
        // It may have been entered with only a part of the others.
        self.entered = self.entered.saturating_sub(1);
        if result < 0 && result != -libc::EAGAIN {
            // The receiver is told.
            return self.send_over(number);
        }
        self.send_rest(number, send, result.max(0) as usize);
    }

    fn send_rest(&mut self, number: u32, send: Rc<Send>, sent: usize) {
        let rest = &send[sent..];
        let (bytes, length) = (rest.as_ptr(), rest.len() as u32);
        let descriptor = types::Fd(self.socket(number).descriptor.as_raw_fd());
        self.under_way += 1;
        self.rests.insert(number, (send, sent));
        let entry = opcode::Send::new(descriptor, bytes, length).flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL).build();
        self.push(entry.user_data(REST | u64::from(number)));
    }

    /// Whether that was all of it, which is told.
    fn rest_sent(&mut self, number: u32, result: i32) -> bool {
        self.under_way -= 1;
        let (send, mut sent) = self.rests.remove(&number).expect("a rest that was under way is there");
        sent += result.max(0) as usize;
        let goes_on = result > 0 || matches!(-result, libc::EINTR | libc::EAGAIN);
        if goes_on && sent < send.len() && !self.socket(number).is_closing {
            self.send_rest(number, send, sent);
            return false;
        }
        let is_closing = self.socket(number).is_closing;
        self.send_over(number);
        !is_closing
    }

    fn send_over(&mut self, number: u32) {
        self.socket(number).is_sending = false;
        self.close_if_quiet(number);
    }

    /// The sends that the kernel was given are over, but for rests, once no completion is left. Gives their bytes to be used again.
    pub fn finish_sends(&mut self, mut give_up: impl FnMut(u32, Rc<Send>)) {
        if self.next.is_some() || !self.ring.completion().is_empty() {
            return;
        }
        let mut batch = std::mem::take(&mut self.batch);
        for (number, send) in batch.drain(..std::mem::take(&mut self.entered)) {
            self.send_over(number);
            give_up(number, send);
        }
        self.batch = batch;
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        for socket in self.sockets.iter_mut().flatten() {
            socket.is_closing = true;
            let _ = socket2::SockRef::from(&socket.descriptor).shutdown(Shutdown::Both);
        }
        self.enter(false);
        let _ = self.ring.submitter().register_sync_cancel(Some(types::Timespec::new().sec(1)), types::CancelBuilder::any());
        for _ in 0..100 {
            self.enter(false);
            while self.poll_completion().is_some() {}
            if self.under_way == 0 && self.ring.submission().is_empty() {
                return self.buffers.free();
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        // The kernel may still write there (4).
        std::mem::forget((std::mem::take(&mut self.rests), std::mem::take(&mut self.batch)));
    }
}

fn timespec(duration: Duration) -> types::Timespec {
    types::Timespec::new().sec(duration.as_secs()).nsec(duration.subsec_nanos())
}

impl Buffers {
    fn new(count: u16, bytes: usize) -> Self {
        assert!(count.is_power_of_two() && bytes > 0, "the kernel takes powers of two");
        let (ring, memory) = Self::layouts(count, bytes);
        // SAFETY: neither layout is empty.
        let (ring_at, memory_at) = unsafe { (std::alloc::alloc_zeroed(ring), std::alloc::alloc_zeroed(memory)) };
        let (Some(ring_at), Some(memory_at)) = (NonNull::new(ring_at), NonNull::new(memory_at)) else {
            std::alloc::handle_alloc_error(memory);
        };
        Self { ring: ring_at.cast(), memory: memory_at, count, bytes, tail: 0 }
    }

    /// Those of the ring, which the kernel wants at a page's beginning, and of the memory.
    fn layouts(count: u16, bytes: usize) -> (Layout, Layout) {
        let ring = Layout::from_size_align(usize::from(count) * size_of::<types::BufRingEntry>(), 4096);
        let memory = Layout::from_size_align(usize::from(count) * bytes, 4096);
        (ring.expect("65,536 entries fit"), memory.expect("the buffers fit in memory"))
    }

    /// Gives a buffer to the kernel.
    fn offer(&mut self, buffer: u16) {
        // SAFETY: the entry and the buffer are within what was allocated, and the buffer is nobody's (3). The tail is what the kernel reads, so it comes last.
        unsafe {
            let entry = &mut *self.ring.as_ptr().add(usize::from(self.tail & (self.count - 1)));
            entry.set_addr(self.memory.as_ptr().add(usize::from(buffer) * self.bytes) as u64);
            entry.set_len(self.bytes as u32);
            entry.set_bid(buffer);
            self.tail = self.tail.wrapping_add(1);
            let tail = types::BufRingEntry::tail(self.ring.as_ptr()).cast::<AtomicU16>();
            (*tail).store(self.tail, Ordering::Release);
        }
    }

    fn bytes(&mut self, received: &Received) -> &mut [u8] {
        // SAFETY: the kernel has filled so much of the buffer, and whoever has `received` owns it (3).
        unsafe {
            let start = self.memory.as_ptr().add(usize::from(received.buffer) * self.bytes);
            std::slice::from_raw_parts_mut(start, received.len())
        }
    }

    /// To be called when the kernel has none of them.
    fn free(&mut self) {
        let (ring, memory) = Self::layouts(self.count, self.bytes);
        // SAFETY: both were allocated so, and this is called once, at the end.
        unsafe {
            std::alloc::dealloc(self.ring.as_ptr().cast(), ring);
            std::alloc::dealloc(self.memory.as_ptr(), memory);
        }
    }
}
