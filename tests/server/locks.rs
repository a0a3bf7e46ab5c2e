//! Locks of real clients, over real sockets: turns, scopes, and what is written under them.

use crate::client::{Refused, Seen, Session};
use crate::server::Server;
use std::time::{Duration, Instant};
use tidewire::surface::value::ValueType;
use tidewire::surface::wire::native::{self, Ask, LockEntry, Outcome, Request};
use tidewire::surface::wire::varint::Reader;

const SESSION: u8 = 0;
const CONNECTION: u8 = 1;
const UNSATISFIED: u16 = 212;
const LOCK_LIMIT: u16 = 320;
const LOCK_LOST: u16 = 321;

fn lock_request(id: u64, name: &str, scope: u8) -> Request<'static> {
    Request { id, ask: Ask::Lock { name: name.to_owned().into(), scope } }
}

impl Session {
    fn lock(&mut self, name: &str) -> Result<u64, Refused> {
        let body = self.ask(|id| lock_request(id, name, SESSION))?;
        Ok(Reader(&body).varint().expect("a number"))
    }

    /// Whether it was held.
    fn unlock(&mut self, name: &str, number: u64) -> bool {
        let name = name.to_owned().into();
        let body = self.ask(|id| Request { id, ask: Ask::Unlock { name, number } }).expect("a path");
        body == [1]
    }

    fn locks_behind(&mut self, after: &str) -> (bool, Vec<LockEntry>) {
        let after = after.to_owned().into();
        let body = self.ask(|id| Request { id, ask: Ask::ListLocks { after } }).expect("locks are listed");
        match native::decode_locks(&mut Reader(&body)) {
            Ok(Outcome::Locks { has_more, locks }) => (has_more, locks),
            other => panic!("{other:?}"),
        }
    }

    /// The number of the grant that answers the request, when it comes.
    fn wait_for_grant(&mut self, wanted: u64) -> u64 {
        match self.next() {
            Seen::Ok(id, body) if id == wanted => Reader(&body).varint().expect("a number"),
            other => panic!("{other:?}"),
        }
    }

    fn set_under(&mut self, path: &str, value: &[u8], name: &str, number: u64) -> Result<(), Refused> {
        self.set_if(path, ValueType::Json, value, &format!(r#"{{"locked":{{"name":"{name}","number":{number}}}}}"#))
    }
}

fn wait_until(mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < crate::server::PATIENCE, "it does not come to that");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn refused(code: u16) -> Result<(), Refused> {
    Err(Refused { code, position: None })
}

#[test]
fn sessions_get_their_turns_in_the_order_in_which_they_asked() {
    let server = Server::start(2);
    let mut sessions: Vec<Session> = (0..4).map(|_| server.connect()).collect();
    let mut list = server.connect();
    let first = sessions[0].lock("jobs/import").unwrap();
    assert_eq!(sessions[0].lock("jobs/import"), Ok(first), "it holds the lock already");
    for (session, waiting) in sessions[1..].iter_mut().zip(1..) {
        session.send(&lock_request(100, "jobs/import", SESSION));
        wait_until(|| list.locks_behind("").1[0].waiting == waiting);
    }
    let (has_more, held) = list.locks_behind("");
    let session = sessions[0].id.clone();
    let expected = LockEntry { name: "jobs/import".into(), session, number: first, scope: SESSION, waiting: 3 };
    assert_eq!((has_more, held), (false, vec![expected]));
    assert!(!sessions[0].unlock("jobs/import", first + 1), "another grant is not held");
    assert!(sessions[0].unlock("jobs/import", first));
    assert!(!sessions[0].unlock("jobs/import", first), "it was held once");
    let second = sessions[1].wait_for_grant(100);
    // A session ends by its connection's end, and its turn with it.
    drop(sessions.remove(1));
    let third = sessions[1].wait_for_grant(100);
    assert!(sessions[1].unlock("jobs/import", 0), "0 stands for whatever is held");
    let fourth = sessions[2].wait_for_grant(100);
    assert!(first < second && second < third && third < fourth, "{first} {second} {third} {fourth}");
    assert!(sessions[2].unlock("jobs/import", fourth));
    assert!(sessions[0].lock("jobs/import").unwrap() > fourth, "nobody held it in between");
}

#[test]
fn an_update_is_made_only_under_the_grant_that_its_session_holds() {
    let server = Server::start(2);
    let (mut one, mut other) = (server.connect(), server.connect());
    for path in ["t/a", "t/b", "t/c", "t/d"] {
        one.add_and_set(path, ValueType::Json, b"0").unwrap();
        let name = "locks/t";
        let number = one.lock(name).unwrap();
        assert_eq!(one.set_under(path, b"1", name, number), Ok(()));
        assert_eq!(one.set_under(path, b"2", name, number + 1), refused(UNSATISFIED));
        assert_eq!(one.set_under(path, b"2", "locks/u", number), refused(UNSATISFIED));
        assert_eq!(other.set_under(path, b"2", name, number), refused(UNSATISFIED), "another session holds it");
        assert!(one.unlock(name, number));
        assert_eq!(one.set_under(path, b"2", name, number), refused(UNSATISFIED));
        let next = other.lock(name).unwrap();
        assert_eq!(other.set_under(path, b"3", name, next), Ok(()));
        assert!(other.unlock(name, next));
    }
}

#[test]
fn a_lock_outlives_a_connection_or_not_as_its_scope_says() {
    let server = Server::start(2);
    let mut holder = Session::connect_resumable(server.address, 60_000);
    let kept = holder.lock("kept").unwrap();
    holder.ask(|id| lock_request(id, "lost", CONNECTION)).unwrap();
    let mut other = server.connect();
    let waited = other.lock("waited").unwrap();
    holder.send(&lock_request(100, "waited", CONNECTION));
    holder.send(&lock_request(101, "waited/too", CONNECTION));
    assert!(matches!(holder.next(), Seen::Ok(101, _)));
    wait_until(|| other.locks_behind("waited").1.len() == 1 && other.locks_behind("lost").1[0].waiting == 1);
    // The old connection is open still when the new one takes over.
    let _old = holder.resume(server.address);
    assert_eq!(holder.next(), Seen::Error { id: 100, code: LOCK_LOST, position: None });
    assert!(other.lock("lost").is_ok() && other.lock("waited/too").is_ok(), "they were free");
    assert_eq!(holder.lock("kept"), Ok(kept));
    assert!(other.unlock("waited", waited));
    assert!(holder.lock("waited").unwrap() > waited);
    // A session that takes leave gives up all that it has.
    holder.send(&Request { id: 0, ask: Ask::Close });
    assert!(other.lock("kept").unwrap() > kept);
}

#[test]
fn who_waits_may_give_up() {
    let server = Server::start(2);
    let (mut holder, mut other) = (server.connect(), server.connect());
    let number = holder.lock("a").unwrap();
    other.send(&lock_request(100, "a", SESSION));
    assert!(!other.unlock("a", 0), "it waited only");
    assert_eq!(other.next(), Seen::Error { id: 100, code: LOCK_LOST, position: None });
    assert!(holder.unlock("a", number));
    assert!(other.locks_behind("").1.is_empty());
}

#[test]
fn names_are_paths_and_sessions_have_a_bounded_number() {
    let server = Server::start_with(2, &[("LIMITS_LOCKS_MAX", "2"), ("LIMITS_FETCH_PAGE_MAX", "2")]);
    let (mut one, mut other) = (server.connect(), server.connect());
    assert_eq!(one.lock("a//b"), Err(Refused { code: 200, position: Some(2) }));
    assert_eq!(one.lock("$SYS/a"), Err(Refused { code: 209, position: Some(0) }));
    let [b, a] = ["b", "a"].map(|name| one.lock(name).unwrap());
    assert_eq!(one.lock("c").unwrap_err().code, LOCK_LIMIT);
    assert_eq!(one.lock("a"), Ok(a), "one that is held already is no more");
    other.lock("c").unwrap();
    other.send(&lock_request(100, "a", SESSION));
    assert_eq!(other.ask(|id| lock_request(id, "a", SESSION)).unwrap_err().code, LOCK_LIMIT, "each that waits counts");
    let names = |locks: &[LockEntry]| locks.iter().map(|lock| lock.name.clone()).collect::<Vec<_>>();
    let (has_more, first) = one.locks_behind("");
    assert_eq!((has_more, names(&first)), (true, vec!["a".to_owned(), "b".to_owned()]));
    let (has_more, rest) = one.locks_behind("b");
    assert_eq!((has_more, names(&rest)), (false, vec!["c".to_owned()]));
    assert!(one.unlock("b", b) && one.lock("d").is_ok(), "there is room again");
}
