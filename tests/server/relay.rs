//! A door in front of servers that come and go: clients know its address only, and it can be cut like a cable.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Passes connections on to the server behind it. Its thread ends with the process.
pub struct Relay {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// `None`: connections end at once.
    target: Option<SocketAddr>,
    open: Vec<TcpStream>,
}

impl Relay {
    pub fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let state = Arc::new(Mutex::new(State { target: Some(target), open: Vec::new() }));
        let held = state.clone();
        std::thread::spawn(move || listener.incoming().map_while(Result::ok).for_each(|client| accept(&held, client)));
        Self { address, state }
    }

    /// Ends every connection, and lets none through.
    pub fn cut(&self) {
        let mut state = self.state.lock().expect("nobody panics with it");
        state.target = None;
        state.open.drain(..).for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
    }

    /// Lets connections through to this server from now on.
    pub fn mend(&self, target: SocketAddr) {
        self.state.lock().expect("nobody panics with it").target = Some(target);
    }
}

fn accept(state: &Mutex<State>, client: TcpStream) {
    let mut state = state.lock().expect("nobody panics with it");
    let Some(server) = state.target.and_then(|target| TcpStream::connect(target).ok()) else { return };
    for (from, to) in [(&client, &server), (&server, &client)] {
        let copies = [from, to].map(|stream| stream.try_clone().expect("a socket can be copied"));
        state.open.push(copies[0].try_clone().expect("a socket can be copied"));
        std::thread::spawn(move || copy(copies));
    }
}

fn copy([mut from, mut to]: [TcpStream; 2]) {
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
