//! What a view makes of one source topic: the reference topics, with their paths and values.
//!
//! A pure function of the source, of the other topics that the view looks up, and of the limits. Every part of the
//! definition either gives its result, or the reference topic is left out: silently where a condition says so, counted as
//! a failure with its reason otherwise. What is the same as in the source is borrowed from it, never copied.
//!
//! When a view is evaluated, what its reference topics replace, and who may read what is left to others.

mod calculation;
mod condition;
mod convert;
mod edit;
mod insert;
mod path;
mod process;
mod source;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::definition::{Definition, PathPart, Transformation};
use crate::topic::path::check_path;
use crate::topic::specification::TopicType;
use crate::value::ValueType;
use crate::value::json::walk;
use crate::value::patch::{Patch, PatchLimits};
use crate::value::pointer::Pointer;
use crate::value::work::{Exhausted, Work};
use path::PathWriter;

/// What making one reference topic costs beyond its bytes, in steps.
const REFERENCE_STEPS: usize = 200;

/// Every bound on one evaluation.
#[derive(Clone, Copy, Debug)]
pub struct EvaluationLimits {
    /// The most reference topics of one source. A source that would make more makes none.
    pub references_max: usize,
    /// The longest value of a reference topic, and on the way to it.
    pub value_bytes_max: usize,
    pub path_bytes_max: usize,
    /// The most arrays and objects within each other.
    pub depth_max: usize,
    /// The most steps: bytes looked at or copied, members passed over, and so much for each reference topic and look-up.
    /// A source that needs more makes no reference topics.
    pub work_max: usize,
}

impl Default for EvaluationLimits {
    fn default() -> Self {
        Self { references_max: 10_000, value_bytes_max: 256 * 1024, path_bytes_max: 1024, depth_max: 128, work_max: 16 * 1024 * 1024 }
    }
}

/// A source topic.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    pub path: &'a str,
    /// The type of its value, or of the events of a time series.
    pub kind: ValueType,
    /// Checked, in the stored form; of a time series the latest event's. None where there is no value, or null.
    pub value: Option<&'a [u8]>,
}

/// What is known of another topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looked<'t> {
    Value(ValueType, &'t [u8]),
    /// There is no such topic, or it has no value.
    Nothing,
    /// Not known yet. Who answers so evaluates again when it is.
    Unknown,
}

/// The other topics, for `insert` and for `scalar` with a level.
pub trait Topics {
    fn look(&mut self, path: &str) -> Looked<'_>;
}

/// In the stored form; `None` for null, or where there is none yet.
pub type Value<'a> = Option<Cow<'a, [u8]>>;

/// A reference topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Derived<'a> {
    /// A valid topic path.
    pub path: String,
    pub kind: ValueType,
    pub value: Value<'a>,
}

/// What came of one evaluation.
#[derive(Debug, Default)]
pub struct Evaluation<'a> {
    /// In the order of the source's value, each path once.
    pub references: Vec<Derived<'a>>,
    /// How many reference topics are missing for reasons other than a condition.
    pub failures: u64,
    /// The last of them.
    pub failure: Option<Failure>,
    /// Whether a topic that is needed is not known yet. Then `references` is empty and says nothing.
    pub is_waiting: bool,
}

/// Why there is no reference topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The path it would have had, where that could be told.
    pub path: Option<String>,
    /// What was found, and what was expected.
    pub message: String,
}

/// Evaluates one view after the other in the same memory.
#[derive(Default)]
pub struct Evaluator {
    path: String,
    lookup_path: String,
    computed: Vec<u8>,
    /// Indices of references, by their paths.
    by_path: HashTable<usize>,
    hash_builder: DefaultHashBuilder,
}

impl Evaluator {
    /// Leaves in `out` what `definition` makes of `input`, and nothing of what was there. That the selector matches is for
    /// the caller to know.
    pub fn evaluate<'a>(
        &mut self,
        definition: &Definition,
        input: &Input<'a>,
        topics: &mut dyn Topics,
        limits: &EvaluationLimits,
        out: &mut Evaluation<'a>,
    ) {
        out.references.clear();
        (out.failures, out.failure, out.is_waiting) = (0, None, false);
        self.path.clear();
        self.by_path.clear();
        let work = Work::new(limits.work_max);
        let mut pass = Pass { definition, input: *input, topics, limits, work, scratch: self, out };
        let result = pass.source();
        if let Err(stop) = result.or_else(|stop| pass.note(stop)) {
            pass.give_up(stop);
        }
        if out.is_waiting {
            out.references.clear();
        }
    }
}

/// Why there is no reference topic.
#[derive(Debug)]
enum Stop {
    /// No branch of an `if` holds.
    Filtered,
    /// A topic that is needed is not known yet.
    Waiting,
    Failed(String),
    /// The source is beyond a bound, and makes no reference topics at all.
    Fatal(String),
}

impl From<String> for Stop {
    fn from(message: String) -> Self {
        Self::Failed(message)
    }
}

impl From<Exhausted> for Stop {
    fn from(exhausted: Exhausted) -> Self {
        Self::Fatal(exhausted.to_string())
    }
}

/// One evaluation under way.
struct Pass<'e, 'a> {
    definition: &'e Definition,
    input: Input<'a>,
    topics: &'e mut dyn Topics,
    limits: &'e EvaluationLimits,
    work: Work,
    scratch: &'e mut Evaluator,
    out: &'e mut Evaluation<'a>,
}

impl<'a> Pass<'_, 'a> {
    fn source(&mut self) -> Result<(), Stop> {
        if reads_value(self.definition) {
            match self.input.value {
                None => return Ok(()),
                Some(_) if self.input.kind != ValueType::Json => {
                    return Err(Stop::Failed(format!("found a source of type {}, expected json", self.input.kind.name())));
                }
                Some(_) => {}
            }
        }
        self.walk(&self.definition.path.parts, self.input.value, 0)
    }

    /// Writes the path by `parts`, then makes the reference topic; an `expand` does both for each child. Calls itself
    /// once for each of those, at most `depth_max` deep.
    fn walk(&mut self, parts: &[PathPart], element: Option<&'a [u8]>, expansions: usize) -> Result<(), Stop> {
        for (index, part) in parts.iter().enumerate() {
            match (part, element) {
                (PathPart::Expand { source, name }, Some(element)) => {
                    if expansions == self.limits.depth_max {
                        let max = self.limits.depth_max;
                        return Err(Stop::Failed(format!("found one more expand within others, expected at most {max}")));
                    }
                    let expand = Expand { source, name: name.as_ref(), rest: &parts[index + 1..], expansions: expansions + 1 };
                    return self.expand(&expand, element);
                }
                _ => {
                    let appended = self.writer(Use::Path).append(part, element);
                    if matches!(appended, Err(Stop::Waiting)) {
                        self.ask(&self.definition.transformations)?;
                    }
                    appended?;
                }
            }
        }
        self.make(element)
    }

    fn expand(&mut self, expand: &Expand<'_>, element: &'a [u8]) -> Result<(), Stop> {
        let children = source::find(element, expand.source, &mut self.work)?;
        let Some(children) = children.filter(|text| matches!(text.first(), Some(b'[' | b'{'))) else {
            let found = children.map_or("nothing", walk::noun);
            return Err(Stop::Failed(format!("found {found} at \"{}\", expected an array or object to expand", expand.source.brief())));
        };
        self.work.charge(children.len())?;
        for member in walk::members(children) {
            self.child(expand, member.value, |path| path.append_string(member.name))?;
        }
        for (index, (_, value)) in walk::elements(children).enumerate() {
            self.child(expand, value, |path| path.append_index(index))?;
        }
        Ok(())
    }

    /// One child of what is expanded. Its failures are its own; only what ends the whole source is passed on.
    fn child(
        &mut self,
        expand: &Expand<'_>,
        value: &'a [u8],
        append_key: impl FnOnce(&mut PathWriter<'_, 'a>) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        self.work.charge(REFERENCE_STEPS)?;
        let path_bytes = self.scratch.path.len();
        let mut path = self.writer(Use::Path);
        let named = match expand.name {
            Some(pointer) => path.append_scalar(value, pointer),
            None => append_key(&mut path),
        };
        let result = named.and_then(|()| self.walk(expand.rest, Some(value), expand.expansions));
        self.scratch.path.truncate(path_bytes);
        result.or_else(|stop| self.note(stop))
    }

    /// Makes the reference topic whose path is written.
    fn make(&mut self, element: Option<&'a [u8]>) -> Result<(), Stop> {
        let failures = self.out.failures;
        match self.derive(element) {
            Ok((kind, value)) => self.keep(kind, value),
            Err(stop) => self.note(stop)?,
        }
        if let Some(failure) = self.out.failure.as_mut().filter(|_| self.out.failures > failures) {
            failure.path = Some(self.scratch.path.clone());
        }
        Ok(())
    }

    fn derive(&mut self, element: Option<&'a [u8]>) -> Result<(ValueType, Value<'a>), Stop> {
        let path = &self.scratch.path;
        self.work.charge(REFERENCE_STEPS + path.len())?;
        check_path(path, self.limits.path_bytes_max).map_err(|error| Stop::Failed(error.to_string()))?;
        if self.is_kept(path) {
            return Err(Stop::Failed("found the path again, expected each at most once from a source".into()));
        }
        let value = match element {
            Some(element) => Some(self.transform(element)?),
            None => None,
        };
        let kind = target_kind(self.definition, self.input.kind);
        let value = if kind == self.input.kind {
            value
        } else {
            self.work.charge(value.as_deref().map_or(0, <[u8]>::len))?;
            let value = convert::convert(self.input.kind, value, kind)?;
            self.check_bytes(value.as_deref())?;
            value
        };
        if self.out.references.len() >= self.limits.references_max {
            let max = self.limits.references_max;
            return Err(Stop::Fatal(format!("found more than {max} reference topics of one source, expected at most that many")));
        }
        Ok((kind, value))
    }

    /// The transformations in their order, then `value`.
    fn transform(&mut self, element: &'a [u8]) -> Result<Cow<'a, [u8]>, Stop> {
        let mut current = Cow::Borrowed(element);
        let transformations = &self.definition.transformations;
        for (index, transformation) in transformations.iter().enumerate() {
            self.work.charge(REFERENCE_STEPS)?;
            let changed = match transformation {
                Transformation::Process(block) => process::apply(block, &current, self.limits, &mut self.work, &mut self.scratch.computed),
                Transformation::Patch(patch) => self.patch(patch, &current),
                Transformation::Insert(insert) => self.insert(insert, &current),
            };
            match changed {
                Ok(Some(changed)) => {
                    self.check_bytes(Some(&changed))?;
                    current = Cow::Owned(changed);
                }
                Ok(None) => {}
                Err(Stop::Failed(message)) => return Err(Stop::Failed(format!("transformation {}: {message}", index + 1))),
                Err(stop) => {
                    if matches!(stop, Stop::Waiting) {
                        self.ask(&transformations[index + 1..])?;
                    }
                    return Err(stop);
                }
            }
        }
        match &self.definition.value {
            Some(pointer) => self.part(current, pointer),
            None => Ok(current),
        }
    }

    fn patch(&mut self, patch: &Patch, current: &[u8]) -> Result<Option<Vec<u8>>, Stop> {
        let limits = PatchLimits {
            value_bytes_max: self.limits.value_bytes_max,
            handled_bytes_max: usize::MAX,
            depth_max: self.limits.depth_max,
            ..PatchLimits::default()
        };
        self.work.charge(current.len())?;
        patch.apply_within(current, limits, &mut self.work).map(Some).map_err(|error| Stop::Failed(error.to_string()))
    }

    fn part(&mut self, current: Cow<'a, [u8]>, pointer: &Pointer) -> Result<Cow<'a, [u8]>, Stop> {
        let missing = || Stop::Failed(format!("found nothing at \"{}\", expected the value", pointer.brief()));
        Ok(match &current {
            Cow::Borrowed(text) => Cow::Borrowed(source::find(text, pointer, &mut self.work)?.ok_or_else(missing)?),
            Cow::Owned(text) => Cow::Owned(source::find(text, pointer, &mut self.work)?.ok_or_else(missing)?.to_vec()),
        })
    }

    fn check_bytes(&self, value: Option<&[u8]>) -> Result<(), Stop> {
        let bytes = value.map_or(0, <[u8]>::len);
        if bytes > self.limits.value_bytes_max {
            return Err(Stop::Failed(format!("found a value of {bytes} bytes, expected at most {}", self.limits.value_bytes_max)));
        }
        Ok(())
    }

    fn is_kept(&self, path: &str) -> bool {
        let references = &self.out.references;
        if references.is_empty() {
            return false;
        }
        let hash = self.scratch.hash_builder.hash_one(path);
        self.scratch.by_path.find(hash, |&index| references[index].path == path).is_some()
    }

    fn keep(&mut self, kind: ValueType, value: Value<'a>) {
        let path = self.scratch.path.clone();
        // Only an `expand` makes a second one, so without it nothing is asked for.
        if expands(self.definition) {
            let (hash_builder, references) = (&self.scratch.hash_builder, &self.out.references);
            let hash = hash_builder.hash_one(&*path);
            let rehash = |&index: &usize| hash_builder.hash_one(&*references[index].path);
            self.scratch.by_path.insert_unique(hash, references.len(), rehash);
        }
        self.out.references.push(Derived { path, kind, value });
    }

    /// Counts what is missing, and why. Passes on what ends the whole source.
    fn note(&mut self, stop: Stop) -> Result<(), Stop> {
        match stop {
            Stop::Filtered => Ok(()),
            Stop::Waiting => {
                self.out.is_waiting = true;
                Ok(())
            }
            Stop::Failed(message) if self.work.is_exhausted() => Err(Stop::Fatal(message)),
            Stop::Failed(message) => {
                self.out.failures += 1;
                self.out.failure = Some(Failure { path: None, message });
                Ok(())
            }
            Stop::Fatal(_) => Err(stop),
        }
    }

    fn give_up(&mut self, stop: Stop) {
        let message = match stop {
            Stop::Failed(message) | Stop::Fatal(message) => message,
            Stop::Filtered | Stop::Waiting => return,
        };
        self.out.references.clear();
        self.out.failures += 1;
        self.out.failure = Some(Failure { path: None, message });
    }

    /// For the path of the reference topic, or of one to be looked up.
    fn writer(&mut self, place: Use) -> PathWriter<'_, 'a> {
        let out = match place {
            Use::Path => &mut self.scratch.path,
            Use::LookUp => &mut self.scratch.lookup_path,
        };
        PathWriter {
            out,
            input: self.input,
            topics: &mut *self.topics,
            separator: self.definition.separator.as_deref(),
            path_bytes_max: self.limits.path_bytes_max,
            work: &mut self.work,
        }
    }
}

enum Use {
    Path,
    LookUp,
}

/// An `expand`, and what of the template is behind it.
struct Expand<'d> {
    source: &'d Pointer,
    name: Option<&'d Pointer>,
    rest: &'d [PathPart],
    /// How many there are up to it.
    expansions: usize,
}

fn expands(definition: &Definition) -> bool {
    definition.path.parts.iter().any(|part| matches!(part, PathPart::Expand { .. }))
}

/// Whether without the source's value there is nothing to be made.
fn reads_value(definition: &Definition) -> bool {
    let reads = |part: &PathPart| matches!(part, PathPart::Expand { .. } | PathPart::Scalar { level: None, .. });
    !definition.transformations.is_empty() || definition.value.is_some() || definition.path.parts.iter().any(reads)
}

/// The type of the reference topics' values, or events.
fn target_kind(definition: &Definition, source: ValueType) -> ValueType {
    match definition.topic_type {
        None => source,
        Some(TopicType::TimeSeries) => super::specification::event_type(definition).unwrap_or(source),
        Some(topic_type) => topic_type.value_type().unwrap_or(source),
    }
}
