//! Passwords and their hashes: Argon2id.
//!
//! Checking one is slow by intent, so this runs on a thread of its own. A principal that nobody knows costs as much as one that is known: his password is held
//! against a hash that nobody's makes. Passwords that were right are remembered for a while by their digest (see `cache`), together with the hash that
//! they fit, so that many sessions of one principal, as of a fleet that reconnects, cost one hashing; a changed password is asked for at once, and wrong
//! ones are never remembered. That somebody's right password is checked sooner the second time tells only who knows it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};

use argon2::password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash};
use argon2::{Algorithm, Argon2, Params, Version};

use super::cache::{Cache, Digest, Digester};
use super::{Allowed, Known, Now, Principals, Question, Secret, Verdict};

const SALT_BYTES: usize = 16;

/// What a stored hash may cost to check, in KiB and passes: who can write one could stop the thread otherwise.
const MEMORY_KIB_MAX: u32 = 1 << 20;
const PASSES_MAX: u32 = 64;
const LANES_MAX: u32 = 16;

/// What a new hash costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    pub memory_kib: u32,
    pub passes: u32,
    pub lanes: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashingError;

impl fmt::Display for HashingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the password cannot be hashed")
    }
}

impl std::error::Error for HashingError {}

/// Makes hashes, and checks passwords against them.
pub struct Hasher {
    argon2: Argon2<'static>,
    /// Fits no password.
    dummy: Arc<str>,
    checks: AtomicU64,
}

impl Hasher {
    /// Hashes once. Fails where the cost is none that Argon2 has: at least 8 KiB for each lane.
    pub fn new(cost: Cost) -> Result<Self, HashingError> {
        let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, None).map_err(|_| HashingError)?;
        let mut hasher =
            Self { argon2: Argon2::new(Algorithm::Argon2id, Version::V0x13, params), dummy: Arc::from(""), checks: AtomicU64::new(0) };
        let mut nobodys = zeroize::Zeroizing::new([0; 32]);
        aws_lc_rs::rand::fill(&mut *nobodys).map_err(|_| HashingError)?;
        hasher.dummy = hasher.hash(&Secret::new(&nobodys[..]))?.into();
        Ok(hasher)
    }

    /// How many passwords it has held against a hash.
    #[cfg(test)]
    pub fn checks(&self) -> u64 {
        self.checks.load(Relaxed)
    }

    /// A new hash under a new salt, as a PHC string.
    pub fn hash(&self, password: &Secret) -> Result<Box<str>, HashingError> {
        let mut salt = [0; SALT_BYTES];
        aws_lc_rs::rand::fill(&mut salt).map_err(|_| HashingError)?;
        let hash = self.argon2.hash_password_with_salt(password.bytes(), &salt).map_err(|_| HashingError)?;
        Ok(hash.to_string().into())
    }

    /// Whether `hash` was made of this password. What is no hash, or costs too much, fits none.
    pub fn verify(&self, password: &Secret, hash: &str) -> bool {
        self.checks.fetch_add(1, Relaxed);
        let Ok(parsed) = PasswordHash::new(hash) else { return false };
        let is_cheap = |params: Params| params.m_cost() <= MEMORY_KIB_MAX && params.t_cost() <= PASSES_MAX && params.p_cost() <= LANES_MAX;
        // The comparison takes the same time wherever the two differ.
        Params::try_from(&parsed).is_ok_and(is_cheap) && self.argon2.verify_password(password.bytes(), &parsed).is_ok()
    }
}

/// Passwords that were right a short time ago. Nothing here takes long.
pub struct Remembered {
    principals: Arc<dyn Principals>,
    digester: Digester,
    verified: Mutex<Cache<()>>,
}

impl Remembered {
    pub fn new(principals: Arc<dyn Principals>, cache_ms: u64, cache_max: usize) -> Self {
        Self { principals, digester: Digester::new(), verified: Mutex::new(Cache::new(cache_ms, cache_max)) }
    }

    /// Who shows a password that was right is allowed; of anything else nothing is said.
    pub fn find(&self, question: &Question, password: &Secret, now: Now) -> Option<Verdict> {
        let Known { hash, roles } = self.principals.look_up(&question.principal)?;
        let digest = self.digest(question, &hash, password);
        self.verified().find(&digest, now.monotonic)?;
        Some(self.allow(question, roles))
    }

    fn digest(&self, question: &Question, hash: &str, password: &Secret) -> Digest {
        self.digester.digest(&[question.principal.as_bytes(), hash.as_bytes(), password.bytes()])
    }

    fn verified(&self) -> MutexGuard<'_, Cache<()>> {
        self.verified.lock().expect("nobody panics with the cache")
    }

    fn allow(&self, question: &Question, roles: Vec<Box<str>>) -> Verdict {
        let properties = self.principals.accept_properties(&question.properties);
        Verdict::Allow(Allowed { principal: question.principal.clone(), roles, properties, expires_ms: None })
    }
}

/// The passwords of the principals that the server knows itself.
pub struct Passwords {
    pub hasher: Arc<Hasher>,
    pub remembered: Arc<Remembered>,
}

impl Passwords {
    pub fn new(hasher: Arc<Hasher>, principals: Arc<dyn Principals>, cache_ms: u64, cache_max: usize) -> Self {
        Self { hasher, remembered: Arc::new(Remembered::new(principals, cache_ms, cache_max)) }
    }

    /// Who is not known is left to the rest of the chain; who is known and shows a wrong password is denied.
    pub fn check(&self, question: &Question, password: &Secret, now: Now) -> Verdict {
        let remembered = &self.remembered;
        let Some(Known { hash, roles }) = remembered.principals.look_up(&question.principal) else {
            self.hasher.verify(password, &self.hasher.dummy);
            return Verdict::Abstain;
        };
        let digest = remembered.digest(question, &hash, password);
        // Another of its fleet may have been let in while it waited.
        let was_right = remembered.verified().find(&digest, now.monotonic).is_some();
        if !was_right && !self.hasher.verify(password, &hash) {
            return Verdict::refused("wrong password");
        }
        if !was_right {
            remembered.verified().insert(digest, (), now.monotonic);
        }
        remembered.allow(question, roles)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authentication::Anonymous;
    use crate::authentication::tests::{Store, at, with_password};

    /// So cheap that tests are quick.
    const CHEAP: Cost = Cost { memory_kib: 8, passes: 1, lanes: 1 };

    fn secret(text: &str) -> Secret {
        Secret::new(text.as_bytes())
    }

    #[test]
    fn a_hash_fits_its_password_only() {
        let hasher = Hasher::new(CHEAP).unwrap();
        let hash = hasher.hash(&secret("right")).unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=8,t=1,p=1$"), "{hash}");
        assert!(hasher.verify(&secret("right"), &hash));
        for wrong in ["Right", "right ", ""] {
            assert!(!hasher.verify(&secret(wrong), &hash), "{wrong:?}");
        }
        assert_ne!(hash, hasher.hash(&secret("right")).unwrap(), "each has a salt of its own");
    }

    #[test]
    fn a_hash_made_at_another_cost_is_checked_at_that_cost() {
        let hash = Hasher::new(Cost { memory_kib: 16, passes: 2, lanes: 2 }).unwrap().hash(&secret("right")).unwrap();
        assert!(Hasher::new(CHEAP).unwrap().verify(&secret("right"), &hash));
    }

    #[test]
    fn what_is_no_hash_or_costs_too_much_fits_nothing() {
        let hasher = Hasher::new(CHEAP).unwrap();
        let good = hasher.hash(&secret("p")).unwrap();
        let dear = [("m=8", "m=4194304"), ("t=1", "t=1000"), ("m=8", "m=4294967295")].map(|(cheap, dear)| good.replace(cheap, dear));
        let broken = ["", "p", "$argon2id$", "$1$abc$def", &good[..good.len() / 2], "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ"];
        for hash in dear.iter().map(String::as_str).chain(broken) {
            assert!(!hasher.verify(&secret("p"), hash), "{hash}");
        }
    }

    #[test]
    fn a_cost_that_argon2_does_not_have_is_refused() {
        assert!(Hasher::new(Cost { memory_kib: 7, passes: 1, lanes: 1 }).is_err());
        assert!(Hasher::new(Cost { memory_kib: 8, passes: 0, lanes: 1 }).is_err());
    }

    #[test]
    fn the_hash_for_unknown_principals_costs_what_a_new_one_costs() {
        let hasher = Hasher::new(CHEAP).unwrap();
        assert!(hasher.dummy.starts_with("$argon2id$v=19$m=8,t=1,p=1$"));
        assert!(!hasher.verify(&secret(""), &hasher.dummy));
    }

    #[test]
    fn an_unknown_principal_costs_what_a_known_one_costs_and_a_right_password_is_remembered() {
        let hasher = Arc::new(Hasher::new(CHEAP).unwrap());
        let store = Store { hash: hasher.hash(&secret("right")).unwrap().into(), anonymous: Anonymous::Deny };
        let passwords = Passwords::new(hasher.clone(), Arc::new(store), 100, 10);
        let check = |principal: &str, password: &str, ms: u64, checks: u64| {
            let before = hasher.checks();
            let verdict = passwords.check(&with_password(principal, password), &secret(password), at(ms));
            assert_eq!(hasher.checks() - before, checks, "{principal} {password} {ms}");
            verdict
        };
        assert_eq!(check("bob", "right", 0, 1), Verdict::Abstain);
        assert_eq!(check("bob", "right", 0, 1), Verdict::Abstain);
        assert_eq!(check("alice", "wrong", 0, 1), Verdict::refused("wrong password"));
        assert!(matches!(check("alice", "right", 0, 1), Verdict::Allow(_)));
        assert!(matches!(check("alice", "right", 99, 0), Verdict::Allow(_)));
        let find = |principal: &str, password: &str, ms: u64| {
            passwords.remembered.find(&with_password(principal, password), &secret(password), at(ms))
        };
        assert_eq!(find("alice", "right", 99), Some(check("alice", "right", 99, 0)));
        assert_eq!((find("alice", "wrong", 99), find("bob", "right", 99), find("alice", "right", 100)), (None, None, None));
        assert_eq!(check("alice", "wrong", 99, 1), Verdict::refused("wrong password"));
        assert!(matches!(check("alice", "right", 100, 1), Verdict::Allow(_)));
    }
}
