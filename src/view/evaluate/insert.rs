//! `insert`: puts the value of another topic, or a part of it, into the current value.
//!
//! Where the topic, its value or the part is not there, the default is inserted, or nothing. A path that cannot be
//! written, because a scalar of it is missing, names no topic.

use std::borrow::Cow;

use super::edit::Edited;
use super::{Looked, Pass, REFERENCE_STEPS, Stop, Use, source};
use crate::value::ValueType;
use crate::value::pointer::Pointer;
use crate::value::scalar;
use crate::value::tree::Node;
use crate::value::work::Work;
use crate::view::definition::{Insert, PathPart, PathTemplate, Transformation};

impl Pass<'_, '_> {
    /// `current` with what is inserted; `None` where nothing is.
    pub(super) fn insert(&mut self, insert: &Insert, current: &[u8]) -> Result<Option<Vec<u8>>, Stop> {
        let looked = match self.write_look_up(&insert.path, Some(current)) {
            Ok(()) => self.topics.look(&self.scratch.lookup_path),
            Err(Stop::Failed(_)) => Looked::Nothing,
            Err(stop) => return Err(stop),
        };
        self.work.charge(current.len())?;
        let inserted = match looked {
            Looked::Unknown => return Err(Stop::Waiting),
            Looked::Nothing => None,
            Looked::Value(kind, value) => part(kind, value, insert.key.as_ref(), &mut self.work)?,
        };
        let Some(inserted) = inserted.as_deref().or(insert.default.as_deref()) else { return Ok(None) };
        let mut edited = Edited::new(Node::Text(current));
        edited.set(&insert.at, inserted, self.limits, &mut self.work)?;
        edited.print(self.limits, &mut self.work).map(Some)
    }

    /// Asks for the topics that `transformations` need whatever comes before them, so that all are asked for at once.
    pub(super) fn ask(&mut self, transformations: &[Transformation]) -> Result<(), Stop> {
        for transformation in transformations {
            let Transformation::Insert(insert) = transformation else { continue };
            let reads_current = |part: &PathPart| !matches!(part, PathPart::Text(_) | PathPart::Path { .. });
            if !insert.path.parts.iter().any(reads_current) && self.write_look_up(&insert.path, None).is_ok() {
                self.topics.look(&self.scratch.lookup_path);
            }
        }
        Ok(())
    }

    fn write_look_up(&mut self, template: &PathTemplate, current: Option<&[u8]>) -> Result<(), Stop> {
        self.work.charge(REFERENCE_STEPS)?;
        self.scratch.lookup_path.clear();
        let mut path = self.writer(Use::LookUp);
        template.parts.iter().try_for_each(|part| path.append(part, current))
    }
}

/// What is to be inserted, as JSON.
fn part<'t>(kind: ValueType, value: &'t [u8], key: Option<&Pointer>, work: &mut Work) -> Result<Option<Cow<'t, [u8]>>, Stop> {
    let is_whole = key.is_none_or(|key| key.tokens().is_empty());
    work.charge(value.len())?;
    Ok(match (kind, key) {
        (ValueType::Json, Some(key)) => source::find(value, key, work)?.map(Cow::Borrowed),
        (ValueType::Json, None) => Some(Cow::Borrowed(value)),
        (ValueType::Binary, _) => return Err(Stop::Failed("found a topic of type binary to insert, expected json or a scalar".into())),
        _ if is_whole => {
            let mut json = Vec::with_capacity(value.len() + 2);
            scalar::append_json(kind, value, &mut json);
            Some(Cow::Owned(json))
        }
        _ => None,
    })
}
