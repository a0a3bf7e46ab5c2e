//! The principals that the server keeps: whom it knows by which password, and what becomes of those who do not say who they are.
//!
//! They are one store (`security::PrincipalStore`), which scripts change as a whole. Who asks sees what was there before or what is there behind.

use super::{Anonymous, Known, Principals, Properties};
use crate::authentication::Hasher;
use crate::security::{self, ApplyError, Author, PrincipalScript, PrincipalStore};
use std::sync::{Arc, Mutex, RwLock};

/// See the module.
pub struct KeptPrincipals {
    current: RwLock<Arc<PrincipalStore>>,
    /// Whoever changes them has it: hashing takes its time.
    changing: Mutex<()>,
}

impl KeptPrincipals {
    pub fn new(store: PrincipalStore) -> Self {
        Self { current: RwLock::new(Arc::new(store)), changing: Mutex::new(()) }
    }

    pub fn current(&self) -> Arc<PrincipalStore> {
        self.current.read().expect("nobody panics while changing it").clone()
    }

    /// Applies a script, as a whole or not at all, and does `then` with the outcome before another one is applied. It takes as long as hashing its passwords.
    pub fn change(
        &self,
        hasher: &Hasher,
        (script, by): (&PrincipalScript, Author<'_>),
        checks_only: bool,
        then: impl FnOnce(Result<Arc<PrincipalStore>, ApplyError>),
    ) {
        let _changing = self.changing.lock().expect("nobody panics while changing them");
        let mut next = PrincipalStore::clone(&self.current());
        let applied = next.apply(script, by, |password| hasher.hash(password).ok(), |password, hash| hasher.verify(password, hash));
        then(applied.map(|()| {
            let next = Arc::new(next);
            if !checks_only {
                *self.current.write().expect("nobody panics while changing it") = next.clone();
            }
            next
        }));
    }
}

impl Principals for KeptPrincipals {
    fn look_up(&self, principal: &str) -> Option<Known> {
        let store = self.current();
        store.look_up(principal).map(|known| Known { hash: known.hash.clone(), roles: known.roles.to_vec() })
    }

    fn anonymous(&self) -> Anonymous {
        match self.current().anonymous() {
            security::Anonymous::Allow(roles) => Anonymous::Allow(roles.to_vec()),
            security::Anonymous::Deny => Anonymous::Deny,
            security::Anonymous::Abstain => Anonymous::Abstain,
        }
    }

    fn accept_properties(&self, proposed: &[(Box<str>, Box<str>)]) -> Properties {
        self.current().accept_properties(proposed.iter().map(|(name, value)| (&**name, &**value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authentication::Cost;
    use crate::security::PrincipalLimits;

    #[test]
    fn a_change_is_seen_as_a_whole_or_not_at_all() {
        let hasher = Hasher::new(Cost { memory_kib: 8, passes: 1, lanes: 1 }).unwrap();
        let kept = KeptPrincipals::new(PrincipalStore::empty(PrincipalLimits::default()));
        let change = |text: &str, checks_only: bool| {
            let script = PrincipalScript::parse(text, PrincipalLimits::default()).unwrap();
            let mut is_applied = false;
            kept.change(&hasher, (&script, Author::Operator), checks_only, |applied| is_applied = applied.is_ok());
            is_applied
        };
        assert!(change(r#"add principal "ann" "pw" ["CLIENT"]"#, true) && kept.look_up("ann").is_none());
        assert!(change("add principal \"ann\" \"pw\" [\"CLIENT\"]\ntrust client proposed property \"Tier\" if value in [\"gold\"]", false));
        let known = kept.look_up("ann").unwrap();
        assert!(hasher.verify(&security::Secret::new(&b"pw"[..]), &known.hash) && known.roles == ["CLIENT".into()]);
        assert!(matches!(kept.anonymous(), Anonymous::Deny));
        assert!(!change("allow anonymous connections []\nadd principal \"ann\" \"other\"", false));
        assert!(matches!(kept.anonymous(), Anonymous::Deny));
        let proposed = [("Tier".into(), "gold".into()), ("Tier".into(), "lead".into()), ("Else".into(), "x".into())];
        assert_eq!(kept.accept_properties(&proposed), [("Tier".into(), "gold".into())]);
    }
}
