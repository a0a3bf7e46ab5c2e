//! `tidewire view try`: what a view would make of topics that are given on the command line. It asks no server.
//!
//! Each source is evaluated for itself. Which of two views, or of two sources, wins a path is for a server to decide.

use super::super::print::{Printer, Style, json_string, printable};
use super::super::read::{self, Failure, exit};
use super::{parse, text};
use crate::topic::path::check_path;
use crate::topic::specification::{Specification, SpecificationLimits};
use crate::value::json::{Checker, JsonLimits};
use crate::value::{ValueType, scalar};
use crate::view::Definition;
use crate::view::evaluate::{Derived, Evaluation, EvaluationLimits, Evaluator, Failure as ViewFailure, Input, Looked, Topics};
use crate::view::specification::reference_specification;
use crate::wire::native::{Entry, Shown};
use clap::Args;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

#[derive(Args)]
pub struct Try {
    /// The definition; - reads it from stdin, @FILE from a file
    #[arg(value_name = "TEXT")]
    definition: String,
    /// A topic that the view may map; values are JSON, or as --type says
    #[arg(long = "source", value_name = "PATH=VALUE", value_parser = topic, required = true)]
    sources: Vec<(String, String)>,
    /// A topic that the view only looks up, as sources are too
    #[arg(long = "topic", value_name = "PATH=VALUE", value_parser = topic)]
    topics: Vec<(String, String)>,
    /// What one of those topics is: json, string, int64, double or binary
    #[arg(long = "type", value_name = "PATH=TYPE", value_parser = kind)]
    kinds: Vec<(String, ValueType)>,
    /// One JSON object for each source, also on a terminal
    #[arg(long)]
    json: bool,
}

/// Something was left out of what the view would make.
const EXIT_FAILURES: u8 = 1;

fn topic(text: &str) -> Result<(String, String), String> {
    let (path, value) = text.split_once('=').ok_or("expected PATH=VALUE")?;
    Ok((checked(path)?, value.to_owned()))
}

fn kind(text: &str) -> Result<(String, ValueType), String> {
    let (path, name) = text.split_once('=').ok_or("expected PATH=TYPE")?;
    Ok((checked(path)?, read::value_type(name)?))
}

fn checked(path: &str) -> Result<String, String> {
    check_path(path, EvaluationLimits::default().path_bytes_max).map_err(|error| error.to_string())?;
    Ok(path.to_owned())
}

pub fn run(arguments: &Try) -> ExitCode {
    let (topics, definition) = match Given::read(arguments).and_then(|topics| Ok((topics, text::read(&arguments.definition)?))) {
        Ok(read) => read,
        Err(failure) => return exit(Err(failure)),
    };
    let definition = match parse(&definition) {
        Ok(definition) => definition,
        Err(code) => return code,
    };
    let trials: Vec<Trial> = arguments.sources.iter().map(|(path, _)| topics.try_source(&definition, path)).collect();
    let printer = Printer::new(arguments.json);
    printer.print(trials.iter().flat_map(|trial| if printer.is_json() { vec![trial.json()] } else { trial.lines(printer) }));
    let failures: u64 = trials.iter().map(|trial| trial.failures).sum();
    if failures > 0 { ExitCode::from(EXIT_FAILURES) } else { ExitCode::SUCCESS }
}

/// The topics of the command line, as a server would store them.
struct Given(BTreeMap<String, (ValueType, Vec<u8>)>);

impl Given {
    fn read(arguments: &Try) -> Result<Self, Failure> {
        let mut topics = BTreeMap::new();
        for (path, value) in arguments.sources.iter().chain(&arguments.topics) {
            let kind = arguments.kinds.iter().find(|(of, _)| of == path).map_or(ValueType::Json, |(_, kind)| *kind);
            if topics.insert(path.clone(), (kind, stored(path, kind, value)?)).is_some() {
                return Err(Failure::Usage(format!("'{}' is given twice", printable(path))));
            }
        }
        match arguments.kinds.iter().find(|(path, _)| !topics.contains_key(path)) {
            Some((path, _)) => Err(Failure::Usage(format!("--type is given for '{}', but no value", printable(path)))),
            None => Ok(Self(topics)),
        }
    }

    fn try_source(&self, definition: &Definition, path: &str) -> Trial {
        let (kind, value) = &self.0[path];
        let mut trial = Trial { source: path.to_owned(), is_matched: definition.selector.matches(path), ..Trial::default() };
        if !trial.is_matched {
            return trial;
        }
        let specification = match specification(definition, *kind) {
            Ok(specification) => specification,
            Err(message) => {
                (trial.failures, trial.last_failure) = (1, message);
                return trial;
            }
        };
        let mut looking = Looking { topics: &self.0, paths: Vec::new() };
        let mut evaluation = Evaluation::default();
        let input = Input { path, kind: *kind, value: Some(value) };
        Evaluator::default().evaluate(definition, &input, &mut looking, &EvaluationLimits::default(), &mut evaluation);
        trial.references = evaluation.references.into_iter().map(|reference| entry(reference, &specification)).collect();
        trial.failures = evaluation.failures;
        trial.last_failure = evaluation.failure.map(said).unwrap_or_default();
        trial.looked_up = looking.paths.into_iter().map(|path| (self.0.contains_key(&path), path)).collect();
        trial
    }
}

fn stored(path: &str, kind: ValueType, given: &str) -> Result<Vec<u8>, Failure> {
    let of = |error: &dyn std::fmt::Display| Failure::Usage(format!("{}: {error}", printable(path)));
    let value = read::value(kind, given).map_err(|failure| match failure {
        Failure::Usage(message) => of(&message),
        other => other,
    })?;
    if kind != ValueType::Json {
        return scalar::check(kind, &value).map(|()| value).map_err(|error| of(&error.message));
    }
    let mut compact = Vec::new();
    Checker::new().compact(&value, JsonLimits::default(), &mut compact).map_err(|error| of(&format!("the value is not json: {error}")))?;
    Ok(compact)
}

/// What the reference topics of a plain topic of that type are.
fn specification(definition: &Definition, kind: ValueType) -> Result<Specification, String> {
    let plain = Specification::parse(kind.into(), std::iter::empty(), SpecificationLimits::default()).map_err(|error| error.to_string())?;
    reference_specification(definition, &plain)
}

/// Answers from what is given, and notes what was asked for.
struct Looking<'t> {
    topics: &'t BTreeMap<String, (ValueType, Vec<u8>)>,
    /// Each once, in the order asked.
    paths: Vec<String>,
}

impl Topics for Looking<'_> {
    fn look(&mut self, path: &str) -> Looked<'_> {
        if !self.paths.iter().any(|known| known == path) {
            self.paths.push(path.to_owned());
        }
        self.topics.get(path).map_or(Looked::Nothing, |(kind, value)| Looked::Value(*kind, value))
    }
}

/// The server makes every reference topic PERSISTENT=false; that is not worth showing.
fn entry(reference: Derived<'_>, specification: &Specification) -> Entry {
    let properties = specification.properties().filter(|(key, _)| *key != "PERSISTENT");
    let properties: Arc<[(Box<str>, Box<str>)]> = properties.map(|(key, value)| (key.into(), value.into())).collect();
    Entry {
        path: reference.path,
        kind: specification.topic_type().number(),
        value_kind: reference.kind,
        value: reference.value.map(|value| value.into_owned()),
        properties,
        size: None,
    }
}

fn said(failure: ViewFailure) -> String {
    failure.path.map_or(String::new(), |path| format!("{path}: ")) + &failure.message
}

/// What came of one source.
#[derive(Default)]
struct Trial {
    source: String,
    is_matched: bool,
    references: Vec<Entry>,
    failures: u64,
    last_failure: String,
    /// Whether it was there, and its path.
    looked_up: Vec<(bool, String)>,
}

const SHOWN: Shown = Shown { values: true, properties: true, sizes: false };

impl Trial {
    fn json(&self) -> String {
        let (source, is_matched, failures, last_failure) =
            (json_string(&self.source), self.is_matched, self.failures, json_string(&self.last_failure));
        let printer = Printer { form: super::super::print::Form::Json };
        let references: Vec<String> = self.references.iter().map(|entry| printer.entry(entry, SHOWN)).collect();
        let looked_up = |(is_found, path): &(bool, String)| format!(r#"{{"path":{},"found":{is_found}}}"#, json_string(path));
        let looked_up: Vec<String> = self.looked_up.iter().map(looked_up).collect();
        format!(
            r#"{{"source":{source},"matched":{is_matched},"references":[{}],"failures":{failures},"last_failure":{last_failure},"looked_up":[{}]}}"#,
            references.join(","),
            looked_up.join(",")
        )
    }

    /// The source, and below it what it makes.
    fn lines(&self, printer: Printer) -> Vec<String> {
        let source = printer.styled(Style::Path, &printable(&self.source));
        if !self.is_matched {
            return vec![format!("{source} {}", printer.styled(Style::Faint, "is not what the selector matches"))];
        }
        let count = self.references.len();
        let makes = match (count, self.failures) {
            (0, 0) => "makes no topic".to_owned(),
            (1, _) => "makes 1 topic".to_owned(),
            _ => format!("makes {count} topics"),
        };
        let references = self.references.iter().map(|entry| format!("  {}", printer.entry(entry, SHOWN)));
        let failed = (self.failures > 0).then(|| {
            let what = printer.styled(Style::Bad, &format!("{} left out", self.failures));
            let last = if self.failures > 1 { "the last because of " } else { "" };
            format!("  {what}, {last}{}", printable(&self.last_failure))
        });
        let looked_up = self.looked_up.iter().map(|(is_found, path)| {
            let (style, what) = if *is_found { (Style::Faint, "looked up") } else { (Style::Changed, "looked up in vain") };
            format!("  {} {}", printer.styled(style, what), printable(path))
        });
        let head = format!("{source} {}", printer.styled(Style::Faint, &makes));
        std::iter::once(head).chain(references).chain(failed).chain(looked_up).collect()
    }
}
