//! A node alone, on a thread of its own and under the real clock, as a server runs it.

use std::io;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread::JoinHandle;

use bytes::Bytes;
use tidewire::surface::consensus::{Committed, Dial, GroupId, Handle, News, Options, Proposal, Start, Unreached, start};

struct Alone {
    handle: Handle,
    thread: JoinHandle<io::Result<()>>,
    news: mpsc::Receiver<News>,
}

const SLOW: GroupId = GroupId(0);

impl Alone {
    /// A node of the slow group only.
    fn start() -> Self {
        let options = Options { groups: 0, heartbeat_ms: 10, election_ms: (30, 60), ..Options::new(1, 1) };
        assert_eq!(options.slow_group(), SLOW);
        let (told, news) = mpsc::channel();
        let connect = || {
            let dial: Dial = Rc::new(|_, _, _| Box::pin(async { Err(Unreached::Unsent) }));
            Ok((dial, drop))
        };
        let (handle, thread) = start(options, vec![Start::default()], || {}, connect, move |news| drop(told.send(news))).unwrap();
        Self { handle, thread, news }
    }

    /// What `find` finds in the news that come.
    fn find<T>(&self, find: impl Fn(&News) -> Option<T>) -> T {
        loop {
            if let Some(found) = find(&self.news.recv().unwrap()) {
                return found;
            }
        }
    }

    fn propose(&self, term: u64, ticket: u64, entry: &'static str) {
        let entries = vec![Bytes::from_static(entry.as_bytes())];
        self.handle.propose(Proposal { group: SLOW, term, ticket, entries }).unwrap();
    }
}

/// The entries of a news that has any but openraft's own.
fn entries(news: &News) -> Option<Vec<Committed>> {
    let News::Committed { entries, .. } = news else { return None };
    let entries: Vec<Committed> = entries.iter().map(|(_, committed)| committed.clone()).collect();
    (entries != [Committed::Nothing]).then_some(entries)
}

#[test]
fn a_node_alone_commits_what_it_judged_and_not_what_was_judged_before() {
    let alone = Alone::start();
    alone.handle.found([1].into());
    let term = alone.find(|news| match news {
        News::Leads { term, .. } => Some(*term),
        _ => None,
    });
    alone.propose(term - 1, 1, "old");
    assert_eq!(alone.find(entries), [Committed::Void { ticket: Some(1) }]);
    alone.propose(term, 2, "new");
    assert_eq!(alone.find(entries), [Committed::Entry { term, bytes: Bytes::from_static(b"new"), ticket: Some(2) }]);
    // There is nobody that could lead in its place.
    alone.handle.falters(true);
    alone.find(|news| matches!(news, News::Heirless { group: SLOW }).then_some(()));
    alone.handle.stop();
    alone.find(|news| matches!(news, News::Ended { .. }).then_some(()));
    alone.thread.join().unwrap().unwrap();
}
