//! One version of a topic's value, encoded once for everybody.

use crate::base::{Time, TopicId};
use crate::value::delta::Form;
use crate::wire::native;
use std::sync::Arc;

/// Immutable; shared by reference count between the owner, other shards and every queue that still wants it.
#[derive(Debug)]
pub struct Publication {
    pub topic: TopicId,
    /// 1 for the topic's first value; each update adds one.
    pub version: u64,
    /// When the update was read from its publisher.
    pub received: Time,
    frame: Box<[u8]>,
    value_at: u32,
    /// The frame that makes this version from the one before, where that is smaller.
    delta: Option<(Form, Box<[u8]>)>,
}

impl Publication {
    pub fn new(topic: TopicId, version: u64, received: Time, value: &[u8], delta: Option<(Form, &[u8])>) -> Arc<Self> {
        let (frame, value_at) = native::value_frame(topic, value);
        let delta = delta.map(|(form, bytes)| (form, native::delta_frame(topic, form, bytes).into_boxed_slice()));
        Arc::new(Self { topic, version, received, frame: frame.into_boxed_slice(), value_at: value_at as u32, delta })
    }

    pub fn value(&self) -> &[u8] {
        &self.frame[self.value_at as usize..]
    }

    /// The VALUE frame of the binary form.
    pub fn frame(&self) -> &[u8] {
        &self.frame
    }

    /// The shortest frame for a session that holds the version before and decodes `forms`.
    pub fn step_frame(&self, forms: DeltaForms) -> &[u8] {
        match &self.delta {
            Some((form, frame)) if forms.has(*form) => frame,
            _ => &self.frame,
        }
    }
}

/// The delta forms that a session decodes: the capability bits of the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct DeltaForms(u8);

impl DeltaForms {
    pub fn from_capabilities(bits: u64) -> Self {
        Self((bits & (native::CAPABILITY_DEFLATE | native::CAPABILITY_COPY)) as u8)
    }

    pub fn capabilities(self) -> u64 {
        u64::from(self.0)
    }

    fn has(self, form: Form) -> bool {
        let bit = match form {
            Form::Deflate => native::CAPABILITY_DEFLATE,
            Form::Copy => native::CAPABILITY_COPY,
        };
        u64::from(self.0) & bit != 0
    }
}
