//! What reading and making values needs and leaves nothing in: memory that is used again.

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

    /// Makes what turns the topic's value into the one that is about to be, where that pays.
    pub fn make_delta(&mut self, topic: &mut Topic, publication: &Publication) {
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
