//! Equal specifications, kept once.

use std::sync::Arc;

use hashbrown::HashSet;

use super::{Specification, SpecificationLimits, TopicType};

/// Fewer than this many are not worth looking through.
const SWEEP_LEN_MIN: usize = 64;

/// The specifications of a shard's topics. It forgets those that no topic has any more, now and then: it holds at most
/// twice as many as were in use at the last sweep, and sweeping costs a constant share of adding.
#[derive(Default)]
pub struct Interner {
    known: HashSet<Arc<Specification>>,
    /// How many may be known before the next sweep; below [`SWEEP_LEN_MIN`], that many.
    sweep_len: usize,
    /// Those without properties, by the number of the topic's type.
    plain: [Option<Arc<Specification>>; 8],
}

impl Interner {
    /// The one that equals `specification`.
    pub fn intern(&mut self, specification: Specification) -> Arc<Specification> {
        if let Some(known) = self.known.get(&specification) {
            return known.clone();
        }
        if self.known.len() >= self.sweep_len.max(SWEEP_LEN_MIN) {
            // Twice as many were added since the last time as were in use then, at least.
            self.known.retain(|specification| Arc::strong_count(specification) > 1);
            self.sweep_len = self.known.len() * 2;
        }
        let specification = Arc::new(specification);
        self.known.insert(specification.clone());
        if specification.properties().next().is_none() {
            self.plain[usize::from(specification.topic_type().number())] = Some(specification.clone());
        }
        specification
    }

    /// The one without properties, if it was met before.
    pub fn known_plain(&self, topic_type: TopicType) -> Option<Arc<Specification>> {
        self.plain[usize::from(topic_type.number())].clone()
    }

    /// The one without properties of a type that needs none.
    pub fn plain(&mut self, topic_type: TopicType) -> Arc<Specification> {
        self.known_plain(topic_type).unwrap_or_else(|| {
            let parsed = Specification::parse(topic_type, std::iter::empty(), SpecificationLimits::default());
            self.intern(parsed.expect("the types of values need no properties"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{SpecificationLimits, TopicType};
    use super::*;

    fn specification(owner: usize) -> Specification {
        let owner = format!("$Principal is '{owner}'");
        Specification::parse(TopicType::Json, [("OWNER", &*owner)].into_iter(), SpecificationLimits::default()).unwrap()
    }

    #[test]
    fn equal_specifications_are_one() {
        let mut interner = Interner::default();
        let first = interner.intern(specification(1));
        assert!(Arc::ptr_eq(&first, &interner.intern(specification(1))));
        assert!(!Arc::ptr_eq(&first, &interner.intern(specification(2))));
        assert_eq!(interner.known.len(), 2);
    }

    #[test]
    fn what_is_in_use_is_kept_and_the_rest_is_bounded() {
        let mut interner = Interner::default();
        let kept: Vec<_> = (0..100).map(|owner| interner.intern(specification(owner))).collect();
        for owner in 100..10_000 {
            interner.intern(specification(owner));
            assert!(interner.known.len() <= 2 * kept.len() + 1);
        }
        for (owner, known) in kept.iter().enumerate() {
            assert!(Arc::ptr_eq(known, &interner.intern(specification(owner))));
        }
        drop(kept);
        for owner in 0..1000 {
            interner.intern(specification(owner));
        }
        assert!(interner.known.len() <= SWEEP_LEN_MIN);
    }
}
