//! What views may read and make: what their creators may, by the roles that these had when they made them.
//!
//! A topic that a view's creator may not select and read, and does not own, is no source of it, and where he may not make topics it makes none, which counts as a failure. What
//! roles permit may change: then every view whose rights are others looks at all of its sources again.

use super::{View, Views};
use crate::mail::views::Creator;
use crate::owner::Owner;
use crate::security::{PathPermission, Rights, SecurityStore, SessionKind};
use crate::topic::path::TopicPath;
use crate::topic::session_filter::roles;
use crate::topic::specification::Specification;
use crate::topic::tree::Topic;
use hashbrown::HashMap;
use std::sync::Arc;

/// What roles permit.
#[derive(Default)]
pub struct Security {
    /// `None`: everything.
    store: Option<Arc<SecurityStore>>,
    /// Of those who have made views here, by whether they have a name, and their roles.
    known: HashMap<(SessionKind, Box<str>), Arc<Rights>>,
}

impl Security {
    /// What a view of the creator may. One that was made when everybody might do everything still may.
    pub fn rights_of(&mut self, creator: Option<&Creator>) -> Arc<Rights> {
        let (Some(store), Some(creator)) = (&self.store, creator) else { return Arc::new(Rights::all()) };
        let kind = if creator.principal.is_empty() { SessionKind::Anonymous } else { SessionKind::Named };
        // Views are bounded by `views.views_max`, and so are their creators.
        let rights = self.known.entry((kind, creator.roles.clone())).or_insert_with(|| {
            let names: Vec<_> = roles(&creator.roles).collect();
            Arc::new(store.rights(&names, kind))
        });
        rights.clone()
    }
}

/// Who a view reads for.
pub struct Reader {
    rights: Arc<Rights>,
    /// Empty of one without a name.
    principal: Box<str>,
}

impl Reader {
    /// Whether it may read what is at the path, whatever topic that is.
    pub fn may_read_at(&self, path: &str) -> bool {
        self.rights.may(path, PathPermission::ReadTopic)
    }

    /// Whether it could be the owner of a topic.
    pub fn may_own(&self) -> bool {
        !self.principal.is_empty()
    }

    pub fn owns(&self, specification: &Specification) -> bool {
        specification.is_owned_by(&self.principal)
    }
}

impl View {
    pub fn may_read(&self, topic: &Topic) -> bool {
        let owns = || self.creator.as_ref().is_some_and(|creator| topic.specification.is_owned_by(&creator.principal));
        self.rights.may_see(topic.path.as_str()) || owns()
    }

    pub fn may_make(&self, path: &TopicPath) -> bool {
        self.rights.may(path.as_str(), PathPermission::ModifyTopic)
    }
}

impl Views {
    /// Of a view that derives something.
    pub(super) fn reader_of(&self, view: u64) -> Reader {
        let view = self.by_place.get(&view);
        let rights = view.map(|view| view.rights.clone()).unwrap_or_default();
        let principal = view.and_then(|view| view.creator.as_ref()).map(|creator| creator.principal.clone()).unwrap_or_default();
        Reader { rights, principal }
    }
}

impl Owner {
    /// What roles permit, from now on.
    pub fn set_security(&mut self, store: Option<Arc<SecurityStore>>) {
        self.views.security = Security { store, known: HashMap::new() };
        let views = &mut self.views;
        // Bounded by `views.views_max`.
        let changed = views.by_place.iter_mut().filter_map(|(place, view)| {
            let rights = views.security.rights_of(view.creator.as_ref());
            if view.is_ending || *view.rights == *rights {
                return None;
            }
            view.rights = rights;
            view.revision += 1;
            Some(*place)
        });
        let changed: Vec<u64> = changed.collect();
        for place in changed {
            self.start_view_walk(place, None, None);
        }
    }
}
