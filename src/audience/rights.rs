//! What the clients of sessions may do: by their roles, and by the store that says what those permit.
//!
//! Sessions of the same roles share their rights, which are compiled once. Where no store says anything everybody may do everything.

use super::ask::tell_carried_out;
use crate::audience::Audience;
use crate::base::{SessionKey, TopicId};
use crate::desk::Desk;
use crate::mail::views::{Creator, Told};
use crate::mail::{Caller, Viewer};
use crate::protocol::{ErrorCode, Refusal};
use crate::security::{GlobalPermission, Rights, SecurityStore, SessionKind};
use crate::session::{Entry, Life, Session, Who};
use crate::topic::path::TopicPath;
use crate::topic::session_filter::roles;
use crate::wire::native::Outcome;
use hashbrown::HashMap;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::{Arc, Weak};

/// How many rights that nobody has any more are kept before they are looked for.
const STALE_MAX: usize = 64;

/// How many sessions are looked at when a scan has its turn.
const SCANNED_PER_SLICE: usize = 256;

/// See the module.
#[derive(Default)]
pub struct Security {
    store: Option<Arc<SecurityStore>>,
    /// Those of all roles, as `$Roles` has them, that sessions here have.
    by_roles: HashMap<(SessionKind, Box<str>), Weak<Rights>>,
    /// Of everybody where nobody says what roles permit, and of the server itself.
    everything: Option<Arc<Rights>>,
    /// How many there may be before those that nobody has are forgotten.
    swept_at: usize,
    /// Of the writer: where the store is kept, if it is.
    pub(super) record: Option<TopicId>,
    pub(super) principals_record: Option<TopicId>,
    /// The script that makes the principals that the server knows.
    pub(super) principals: Arc<str>,
    scans: VecDeque<Scan>,
    /// Those who are told when their sessions have nothing any more that they may not have.
    revoked: VecDeque<Revoked>,
}

/// Who is told when a session has nothing any more that it may not have.
pub enum Revoked {
    Answer(Caller, Outcome),
    /// A client of MQTT, by this packet on this of its connections.
    Packet(SessionKey, u32, Box<[u8]>),
}

impl Revoked {
    fn session(&self) -> SessionKey {
        match self {
            Self::Answer(asker, _) => asker.session,
            Self::Packet(session, ..) => *session,
        }
    }
}

/// How far this shard's sessions were looked at since what roles permit has changed, and who is told at the end.
struct Scan {
    from: Option<u32>,
    to: Told,
    changes: Changes,
    /// Those who have not lost all yet that they may not have. They have their new rights.
    revoking: Vec<SessionKey>,
}

/// What one scan has found to be different, by the rights before and behind: very many sessions share these.
#[derive(Default)]
struct Changes(Vec<Changed>);

struct Changed {
    before: Arc<Rights>,
    behind: Arc<Rights>,
    branches: Rc<[TopicPath]>,
}

impl Changes {
    fn between(&mut self, before: &Arc<Rights>, behind: &Arc<Rights>) -> Rc<[TopicPath]> {
        let known = self.0.iter().find(|known| Arc::ptr_eq(&known.before, before) && Arc::ptr_eq(&known.behind, behind));
        if let Some(known) = known {
            return known.branches.clone();
        }
        let branches: Rc<[TopicPath]> = before.changed_branches(behind).into();
        self.0.push(Changed { before: before.clone(), behind: behind.clone(), branches: branches.clone() });
        branches
    }
}

impl Security {
    pub(super) fn store(&self) -> Option<&Arc<SecurityStore>> {
        self.store.as_ref()
    }

    /// What roles permit from now on.
    pub(super) fn set(&mut self, store: Arc<SecurityStore>) {
        self.store = Some(store);
        self.by_roles.clear();
    }

    fn everything(&mut self) -> Arc<Rights> {
        self.everything.get_or_insert_with(|| Arc::new(Rights::all())).clone()
    }

    /// Those of a client.
    fn of(&mut self, who: Option<&Who>) -> Arc<Rights> {
        let Some(store) = &self.store else { return self.everything() };
        let (principal, named) = who.map_or(("", ""), |who| (&*who.principal, &*who.roles));
        let kind = if principal.is_empty() { SessionKind::Anonymous } else { SessionKind::Named };
        let known = self.by_roles.get(&(kind, named.into())).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            let names: Vec<_> = roles(named).collect();
            let rights = Arc::new(store.rights(&names, kind));
            if self.by_roles.len() > self.swept_at {
                self.by_roles.retain(|_, rights| rights.strong_count() > 0);
                self.swept_at = 2 * self.by_roles.len() + STALE_MAX;
            }
            self.by_roles.insert((kind, named.into()), Arc::downgrade(&rights));
            rights
        })
    }
}

impl Audience {
    /// An audience without sessions.
    pub fn of(desk: &Desk) -> Self {
        let security = Security { store: desk.limits.security.clone(), principals: desk.limits.principals.clone(), ..Security::default() };
        Self { security, ..Self::default() }
    }

    /// What roles permit; `None`: everything.
    pub fn kept_security(&self) -> Option<Arc<SecurityStore>> {
        self.security.store.clone()
    }

    /// What the session's client may do.
    pub fn rights(&self, session: SessionKey) -> &Rights {
        self.sessions.get(session).map_or(Rights::nothing(), |session| session.rights())
    }

    /// What a client may do that has no session.
    pub fn rights_of(&mut self, who: Option<&Who>) -> Arc<Rights> {
        self.security.of(who)
    }

    /// Who makes a view, where roles permit something.
    pub fn creator(&self, session: SessionKey) -> Option<Creator> {
        self.security.store.as_ref()?;
        let session = self.sessions.get(session)?;
        Some(Creator { principal: session.principal().into(), roles: session.roles().into() })
    }

    pub fn author_of(&self, session: SessionKey) -> Option<Arc<str>> {
        self.sessions.get(session).and_then(Session::author)
    }

    /// The same, to be sent along with a question.
    pub fn shared_rights(&self, session: SessionKey) -> Arc<Rights> {
        self.sessions.get(session).and_then(Session::shared_rights).unwrap_or_default()
    }

    pub fn viewer(&self, session: SessionKey) -> Viewer {
        Viewer { rights: self.shared_rights(session), principal: self.author_of(session) }
    }

    /// What is refused by its client's roles may be allowed to the owner of a topic: then who owns the topic decides.
    pub fn leave_to_owner(&self, desk: &Desk, session: SessionKey, allowed: Result<(), Refusal>) -> Result<Option<Refusal>, Refusal> {
        match allowed {
            Ok(()) => Ok(None),
            Err(refusal) if refusal.code == ErrorCode::AccessDenied && desk.has_owned && self.author_of(session).is_some() => {
                Ok(Some(refusal))
            }
            Err(refusal) => Err(refusal),
        }
    }

    /// The session may do what its client's roles permit. Where that may be another than before, topics that have an owner mean something else to it.
    pub(super) fn renew_rights_of(&mut self, desk: &mut Desk, key: SessionKey, is_another: bool) {
        let is_another = is_another && self.security.store.is_some();
        let has_other_topics = is_another && (desk.has_owned || self.trees.concern(key));
        self.renew_by(desk, key, &mut Changes::default(), has_other_topics);
        if is_another && self.mqtt(key).is_some() {
            self.tell_groups_rights(desk, key);
        }
    }

    fn renew_by(&mut self, desk: &mut Desk, key: SessionKey, changes: &mut Changes, has_other_topics: bool) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        // The server's own may do everything, and groups what each of their members may.
        if matches!(session.life, Life::Inside { .. } | Life::Shared | Life::Over) {
            return;
        }
        let (before, behind) = (session.shared_rights(), self.security.of(session.who.as_deref()));
        session.give_rights(behind.clone());
        // One that has just begun has nothing yet.
        let Some(before) = before.filter(|before| has_other_topics || !Arc::ptr_eq(before, &behind)) else { return };
        if session.mqtt.is_some() {
            self.tell_groups_rights(desk, key);
        }
        self.end_unpermitted(desk, key, &before, &behind);
        let branches = changes.between(&before, &behind);
        if branches.is_empty() && !has_other_topics {
            return;
        }
        // What such a session finds at its paths may be anywhere.
        let everywhere = [TopicPath::of_branch("")];
        let branches = if has_other_topics || self.trees.concern(key) { &everywhere } else { &*branches };
        self.sweep_rights(key, branches);
        self.review_rights(key, branches);
    }

    /// What the session listens to, handles and waits for ends with the permission for it. Of the first two clients are not told: nothing more comes.
    fn end_unpermitted(&mut self, desk: &mut Desk, key: SessionKey, before: &Rights, behind: &Rights) {
        let has_lost = |permission| before.allows(permission) && !behind.allows(permission);
        if has_lost(GlobalPermission::ViewSession) {
            self.refuse_event_listeners(desk, key);
        }
        if has_lost(GlobalPermission::RegisterHandler) {
            self.end_handling(desk, key);
        } else if has_lost(GlobalPermission::Authenticate) {
            self.end_authenticators(desk, key);
        }
        self.end_unpermitted_locks(desk, key, behind);
    }

    /// What roles permit has changed: every session is looked at, and then who wants to know is told.
    pub(super) fn scan_rights(&mut self, to: Told) {
        self.security.scans.push_back(Scan { from: Some(0), to, changes: Changes::default(), revoking: Vec::new() });
    }

    pub fn has_rights_scans(&self) -> bool {
        !self.security.scans.is_empty() || !self.security.revoked.is_empty()
    }

    /// Tells when the session has nothing any more that it may not have.
    pub fn tell_when_revoked(&mut self, desk: &mut Desk, told: Revoked) {
        if !self.finish_revoking(desk, told.session()) {
            return self.security.revoked.push_back(told);
        }
        match told {
            Revoked::Answer(asker, outcome) => self.answer(desk, asker, Ok(outcome)),
            Revoked::Packet(session, epoch, bytes) => {
                let is_same = self.mqtt(session).is_some_and(|mqtt| mqtt.epoch == epoch);
                if is_same && self.is_connected(session) {
                    self.push(desk, session, Entry::Control(bytes));
                }
            }
        }
    }

    /// Goes on with the scan that has waited longest: so many sessions a slice.
    pub fn run_rights_scans(&mut self, desk: &mut Desk) {
        if let Some(told) = self.security.revoked.pop_front() {
            self.tell_when_revoked(desk, told);
        }
        let Some(mut scan) = self.security.scans.pop_front() else { return };
        if let Some(from) = scan.from {
            let (keys, next) = self.sessions.slab.keys_from(from, SCANNED_PER_SLICE);
            for key in keys {
                self.renew_by(desk, key, &mut scan.changes, false);
                if !self.finish_revoking(desk, key) {
                    scan.revoking.push(key);
                }
            }
            scan.from = next;
            return self.security.scans.push_front(scan);
        }
        // Nobody is told that all is done while somebody has what it may not have.
        while let Some(key) = scan.revoking.pop() {
            if !self.finish_revoking(desk, key) {
                scan.revoking.push(key);
                return self.security.scans.push_front(scan);
            }
        }
        tell_carried_out(desk, Some(scan.to));
    }

    /// Whether it may be asked now who the session's client is from now on: what came of the last time has to be carried out.
    pub fn check_identifiable(&mut self, desk: &mut Desk, asker: Caller) -> Result<(), Refusal> {
        if !self.finish_revoking(desk, asker.session) {
            let message = "what the session may not have any more is still being withdrawn; this changed nothing";
            return Err(Refusal::new(ErrorCode::Overloaded, message));
        }
        self.check_questions(desk, asker)
    }

    /// The session is the server's own, or stands for many, each of whom may do what it may.
    pub fn give_all_rights(&mut self, key: SessionKey) {
        let everything = self.security.everything();
        if let Some(session) = self.sessions.get_mut(key) {
            session.give_rights(everything);
        }
    }
}
