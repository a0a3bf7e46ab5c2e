//! Nodes as servers run them: each on a thread of its own, under the real clock, over TCP and TLS.

use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use tidewire::surface::consensus::{Committed, GroupId, Handle, News, Options, Proposal, Start, start};
use tidewire::surface::peers::{self, Home, Peers, found, join, wall_clock_ms};

const SLOW: GroupId = GroupId(0);

struct Server {
    folder: PathBuf,
    handle: Handle,
    thread: JoinHandle<io::Result<()>>,
    news: mpsc::Receiver<News>,
}

/// A folder that is not there, and a socket that is.
fn place(name: &str) -> (PathBuf, TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (std::env::temp_dir().join(format!("tidewire-cluster-{name}-{address}")), listener, address)
}

impl Server {
    fn start(folder: PathBuf, listener: TcpListener) -> Self {
        let home = Home::open(&folder).unwrap();
        let node = home.identity.node;
        let options = Options { groups: 0, ..Options::new(node, node) };
        let (told, news) = mpsc::channel();
        let connect = move || {
            let options = peers::Options::new(listener.local_addr()?);
            let peers = Peers::new(options, home).map_err(io::Error::other)?;
            let listener = tokio::net::TcpListener::from_std(listener)?;
            Ok((peers.dial(), move |inbox| peers.serve(listener, inbox)))
        };
        let (handle, thread) = start(options, vec![Start::default()], || {}, connect, move |news| drop(told.send(news))).unwrap();
        Self { folder, handle, thread, news }
    }

    /// Hears what there is to hear, and proposes the entry where it leads; whether the entry came.
    fn hear(&self) -> bool {
        let entry = Bytes::from_static(b"entry");
        let mut has_come = false;
        while let Ok(news) = self.news.recv_timeout(Duration::from_millis(10)) {
            match news {
                News::Committed { group, entries, bytes, .. } => {
                    has_come |= entries.iter().any(|(_, one)| matches!(one, Committed::Entry { bytes, .. } if *bytes == entry));
                    self.handle.took(group, bytes);
                }
                News::Leads { term, .. } => {
                    self.handle.propose(Proposal { group: SLOW, term, ticket: 1, entries: vec![entry.clone()] }).unwrap();
                }
                _ => {}
            }
        }
        has_come
    }

    fn stop(self) {
        self.handle.stop();
        self.thread.join().unwrap().unwrap();
        std::fs::remove_dir_all(self.folder).unwrap();
    }
}

#[test]
fn what_one_server_has_committed_its_cluster_has() {
    let (folder, listener, address) = place("a");
    let token = found(&folder, "a", &address, 2, wall_clock_ms()).unwrap().text();
    let a = Server::start(folder, listener);
    a.handle.found([Home::open(&a.folder).unwrap().identity.node].into());
    let (folder, listener, address) = place("b");
    join(&folder, &token, "b", &address, wall_clock_ms).unwrap();
    let b = Server::start(folder, listener);

    // Whoever leads proposes. The other hears of it once it is a member.
    let mut servers = [(&a, false), (&b, false)];
    while servers.iter().any(|(_, has_it)| !has_it) {
        for (server, has_it) in &mut servers {
            *has_it |= server.hear();
        }
    }
    a.stop();
    b.stop();
}
