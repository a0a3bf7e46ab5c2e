//! What reading and making values needs and leaves nothing in: memory that is used again.

use super::decide::has_deltas;
use crate::desk::Desk;
use crate::topic::publication::Publication;
use crate::topic::tree::Topic;
use crate::value::delta;
use crate::value::json::{Checker, JsonError, JsonLimits};
use std::cell::RefCell;

/// See the module.
#[derive(Default)]
pub struct Workbench {
    encoder: delta::Encoder,
    delta: Vec<u8>,
    /// Deciding reads JSON and changes nothing.
    checker: RefCell<Checker>,
}

impl Workbench {
    /// JSON in its stored form.
    pub fn compact(&self, desk: &Desk, text: &[u8]) -> Result<Vec<u8>, JsonError> {
        let mut compact = Vec::with_capacity(text.len());
        let limits = JsonLimits { depth_max: desk.limits.json_depth_max };
        self.checker.borrow_mut().compact(text, limits, &mut compact)?;
        Ok(compact)
    }

    /// The hot path: makes what turns the topic's value into the one that is about to be, where somebody may have use for that.
    pub fn make_delta(&mut self, topic: &mut Topic, publication: &Publication) {
        let specification = &topic.specification;
        // Who was sent what did not become the value does not hold the value before.
        let is_followed = !topic.has_passed && !topic.interested.is_empty();
        if !has_deltas(specification.value_type()) || specification.publishes_values_only() || !is_followed {
            return;
        }
        let previous = topic.latest.as_deref().and_then(Publication::value);
        if let (Some(previous), Some(value)) = (previous, publication.value())
            && topic.gain.should_attempt()
        {
            self.delta.clear();
            let form = self.encoder.encode(previous, value, &mut self.delta);
            topic.gain.note(form.map(|_| self.delta.len()), value.len());
            if let Some(form) = form {
                publication.set_delta(form, &self.delta);
            }
        }
    }
}
