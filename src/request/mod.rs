//! What clients ask for: checked here, on the session's shard, and given to sessions and to the owners of topics.
//!
//! A request is carried out by the rooms below, but for what only the shard can do: that is given back as [`Todo`].
//!
//! - here — which request is whose.
//! - `update` — updates, update streams and appends: values, conditions, specifications.
//! - `messaging` — requests to other clients; `control` — what is asked about sessions, and of them on others' behalf.
//! - `events` — who listens to what becomes of sessions; `fetch` — fetches, and queries of time series; `views` — what is asked of topic views; `locks` — of locks;
//!   `session_trees` — of branch mapping tables; `security` — of what roles permit.

mod control;
mod events;
mod fetch;
mod locks;
mod messaging;
mod security;
mod session_trees;
mod update;
mod views;

pub use views::list;

use crate::audience::{Audience, MISSING};
use crate::desk::Desk;
use crate::gate::{self, Deed};
use crate::mail::control::Act;
use crate::mail::{Caller, Change};
use crate::owner::Owner;
use crate::protocol::{ErrorCode, Refusal};
use crate::security::Rights;
use crate::session::Step;
use crate::value::json::Checker;
use crate::wire::event::Form;
use crate::wire::native::{Ask, Outcome};
use std::borrow::Cow;

/// A request under way: the rooms, who asks, and the form of its values.
pub struct Asking<'r> {
    pub desk: &'r mut Desk,
    pub owner: &'r Owner,
    pub audience: &'r mut Audience,
    pub checker: &'r mut Checker,
    pub asker: Caller,
    pub form: Form,
}

/// What of a request is left to the shard.
pub enum Todo<'a> {
    Nothing,
    /// A change goes to its topic.
    Route {
        path: Cow<'a, str>,
        change: Change<'a>,
    },
    /// A review has begun.
    Review,
}

impl Asking<'_> {
    /// Carries the request out. `value` is memory that is used again: a checked value on its way to the owner.
    pub fn carry_out<'a>(mut self, ask: Ask<'a>, value: &'a mut Vec<u8>) -> Result<Todo<'a>, Refusal> {
        if self.desk.turn.is_stopping {
            return Err(Refusal::new(ErrorCode::ShuttingDown, "the server is stopping"));
        }
        if ask.asks_owners() {
            self.audience.check_questions(self.desk, self.asker)?;
        }
        let Self { desk, audience, asker, .. } = &mut self;
        let asker = *asker;
        match ask {
            Ask::Update { path, update } => return self.update(path, update, value),
            Ask::Append { path, kind, append, value: event } => return self.append(path, kind, append, &event),
            Ask::StreamOpen { stream, path, update } => return self.open_stream(stream, path, update, value),
            Ask::StreamSet { stream, value: set } => return self.set_by_stream(stream, &set, value),
            Ask::StreamDelta { stream, form, delta } => return self.step_stream(stream, form, delta),
            Ask::StreamClose { stream } => {
                audience.close_stream(asker, stream)?;
                audience.answer(desk, asker, Ok(Outcome::Done));
            }
            Ask::Remove { selector } => self.remove(&selector)?,
            Ask::Fetch { fetch } => self.fetch(&fetch)?,
            Ask::Query { path, query } => self.query(&path, &query)?,
            Ask::Subscribe { selector, scope } => self.subscribe(&selector, &scope)?,
            // Nobody needs leave to have less.
            Ask::Unsubscribe { selector, scope } => {
                check_scope(&scope, desk.limits.scope_bytes_max)?;
                let selector = gate::parse_selector(desk, &selector)?;
                audience.unsubscribe(desk, asker, Some(&scope), &selector)?;
            }
            Ask::UnsubscribeAllScopes { selector } => {
                let selector = gate::parse_selector(desk, &selector)?;
                audience.unsubscribe(desk, asker, None, &selector)?;
            }
            Ask::Listen { listener, kind, selector } => {
                if kind == MISSING {
                    gate::server(audience.rights(asker.session), Deed::HandleMissing)?;
                }
                audience.listen(desk, asker, listener, kind, &selector)?;
            }
            Ask::Unlisten { listener, selector } => {
                if audience.unlisten(desk, asker, listener, &selector)? {
                    return Ok(Todo::Review);
                }
            }
            Ask::CreateView { name, definition } => self.create_view(&name, &definition)?,
            Ask::RemoveView { name } => self.remove_view(&name)?,
            Ask::ListViews { after } => self.list_views(after, None)?,
            Ask::GetView { name } => self.list_views(0, Some(&name))?,
            Ask::Lock { name, scope } => self.lock(&name, scope)?,
            // Nobody needs leave to have less.
            Ask::Unlock { name, number } => self.unlock(&name, number)?,
            Ask::PutSessionTree { branch, mappings } => self.put_session_tree(&branch, &mappings)?,
            Ask::ListLocks { after } => {
                gate::server(audience.rights(asker.session), Deed::LookAtLocks)?;
                audience.list_locks(desk, asker, &after);
            }
            other => self.carry_out_of_sessions(other)?,
        }
        Ok(Todo::Nothing)
    }

    fn remove(&mut self, selector: &str) -> Result<(), Refusal> {
        let selector = gate::parse_selector(self.desk, selector)?;
        let allowed = gate::selected(self.rights(), Deed::Remove, &selector);
        let refusal = self.audience.leave_to_owner(self.desk, self.asker.session, allowed)?;
        self.audience.remove(self.desk, self.asker, &selector, refusal);
        Ok(())
    }

    fn subscribe(&mut self, selector: &str, scope: &str) -> Result<(), Refusal> {
        check_scope(scope, self.desk.limits.scope_bytes_max)?;
        let selector = gate::parse_selector(self.desk, selector)?;
        let allowed = gate::selected(self.rights(), Deed::Select, &selector);
        self.audience.leave_to_owner(self.desk, self.asker.session, allowed)?;
        self.audience.subscribe(self.desk, self.asker, scope, &selector, Step::Selects)
    }

    /// What is left to a topic's owner of what the asker wants to do at the path.
    fn leave_path(&self, deed: Deed, path: &str) -> Result<Option<Refusal>, Refusal> {
        gate::check_path(self.desk, path)?;
        self.audience.leave_to_owner(self.desk, self.asker.session, gate::at(self.rights(), deed, path))
    }

    /// What the asker may do.
    fn rights(&self) -> &Rights {
        self.audience.rights(self.asker.session)
    }

    /// What is asked of other sessions.
    fn carry_out_of_sessions(&mut self, ask: Ask<'_>) -> Result<(), Refusal> {
        match ask {
            Ask::HandleRequests { handler, path, session_properties } => self.handle_requests(handler, &path, session_properties),
            Ask::HandleAuthentication { handler, name } => self.handle_authentication(handler, &name),
            Ask::UnhandleRequests { handler } => self.audience.unhandle_requests(self.desk, self.asker, handler),
            Ask::Request { path, timeout_ms, kind, value } => self.request(&path, timeout_ms, kind, &value),
            Ask::RequestSession { session, path, timeout_ms, kind, value } => {
                self.request_of_session((&session, &path), timeout_ms, kind, &value)
            }
            Ask::RequestFilter { filter, path, timeout_ms, kind, value } => self.request_of_all((&filter, &path), timeout_ms, kind, &value),
            Ask::Respond { request, kind, value } => self.respond(request, kind, &value),
            Ask::Reject { request, message } => self.reject(request, &message),
            Ask::ListSessions { filter, after, first, slowest } => self.list_sessions(&filter, &after, first, slowest),
            Ask::ListSelections { session, after, first } => self.list_selections(&session, after, first),
            Ask::CloseSessions { session, filter, message } => self.close_sessions(&session, &filter, &message),
            Ask::SetSessionProperties { session, filter, properties } => self.set_session_properties(&session, &filter, properties),
            Ask::ChangeRoles { session, filter, remove, add } => self.change_roles(&session, &filter, &remove, &add),
            Ask::GetSecurity { offset } => self.security_script(offset),
            Ask::ApplySecurity { check, script } => self.apply_security(&script, check),
            Ask::GetPrincipals { offset } => self.principals_script(offset),
            Ask::ApplyPrincipals { check, script } => self.apply_principals(&script, check),
            Ask::ConflateSessions { session, filter, conflated } => self.control(&session, &filter, Act::Conflate(conflated)),
            Ask::SubscribeSessions { session, filter, selector, scope } => self.select_for(&session, &filter, &selector, &scope, true),
            Ask::UnsubscribeSessions { session, filter, selector, scope } => self.select_for(&session, &filter, &selector, &scope, false),
            Ask::ListenSessions { listener, filter, session_properties } => self.listen_sessions(listener, &filter, session_properties),
            Ask::ListenQueues { listener, filter } => self.listen_queues(listener, &filter),
            Ask::ListenPresence { listener, selector, once } => self.listen_presence(listener, &selector, once),
            // Nobody needs leave to have less.
            Ask::UnlistenSessions { listener } => self.audience.unlisten_to_sessions(self.desk, self.asker, listener),
            Ask::ListPresence { selector, after_path, after, first, once } => {
                self.list_presence(&selector, (&after_path, &after), first, once)
            }
            Ask::GetSessionTree { branch } => self.session_tree(&branch),
            Ask::ListSessionTrees { after } => self.session_trees(&after),
            _ => unreachable!("the door keeps all others, or they are carried out before"),
        }
    }
}

fn check_scope(scope: &str, bytes_max: usize) -> Result<(), Refusal> {
    if scope.starts_with('$') {
        return Err(Refusal::at(ErrorCode::InvalidScope, 0, "found $, which starts no scope's name"));
    }
    if scope.len() > bytes_max {
        return Err(Refusal::at(ErrorCode::InvalidScope, bytes_max, format!("a scope's name has at most {bytes_max} bytes")));
    }
    Ok(())
}
