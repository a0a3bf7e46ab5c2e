//! Views said again without the core's code: what each of the simulation's makes of a topic, and what all of them make of all topics.

use crate::heard::{Properties, Row};
use crate::topics::{TIME_SERIES, in_path_order, value_kind};
use serde_json::Value as Json;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use tidewire::surface::value::ValueType;

/// How many topics may be derived from each other in a row.
const DEPTH_MAX: usize = 16;

/// A topic, and those that it is derived from.
#[derive(Clone, Debug, PartialEq)]
pub struct Topic {
    pub number: u8,
    pub kind: ValueType,
    pub value: Option<Vec<u8>>,
    properties: Properties,
    /// Its own path first.
    ancestry: Vec<String>,
}

/// What of a topic everybody sees: its type, its value, and its properties.
type Shown<'t> = (u8, Option<Json>, Option<&'t [u8]>, &'t [(String, String)]);

impl Topic {
    fn of_row(row: &Row) -> Self {
        Self {
            number: row.number,
            kind: value_kind(row.number, &row.properties),
            value: row.value.clone(),
            properties: row.properties.clone(),
            ancestry: vec![row.path.clone()],
        }
    }

    fn json(&self) -> Option<Json> {
        let value = self.value.as_ref().filter(|_| self.kind == ValueType::Json)?;
        Some(serde_json::from_slice(value).expect("a JSON topic holds JSON"))
    }

    /// What is compared: JSON by its meaning. The properties of series are not said again.
    fn shown(&self) -> Shown<'_> {
        let json = self.json();
        let bytes = if json.is_some() { None } else { self.value.as_deref() };
        (self.number, json, bytes, if self.number == TIME_SERIES { &[] } else { &self.properties })
    }
}

type Tree = BTreeMap<String, Topic>;

/// What a reference topic holds.
enum Made {
    /// What its source holds.
    Same,
    /// JSON in a topic of the source's type.
    Json(Json),
    Other(ValueType, Option<Vec<u8>>),
    /// A series whose latest event is the source's value.
    Collected,
}

struct Source<'a> {
    path: &'a str,
    topic: &'a Topic,
    /// Where it is JSON and has a value.
    json: Option<Json>,
    tree: &'a Tree,
}

type References = Vec<(String, Made)>;

/// A view of the simulation.
pub struct View {
    pub text: &'static str,
    selects: fn(&str) -> bool,
    makes: fn(&Source<'_>) -> Option<References>,
    /// Whether what it has made before counts.
    pub has_history: bool,
}

const fn view(text: &'static str, selects: fn(&str) -> bool, makes: fn(&Source<'_>) -> Option<References>) -> View {
    View { text, selects, makes, has_history: false }
}

pub const VIEWS: [View; 32] = [
    view("map ?s// to a/<path(1)>", is_s, |source| one(source.below("a/", 1)?, Made::Same)),
    view(
        "map ?s/.* to a/<scalar(/id)>",
        |path| is_s(path) && levels(path) == 2,
        |source| one(format!("a/{}", source.scalar("/id")?), Made::Same),
    ),
    view("map ?s// to e/<expand(/list, /id)>", is_s, |source| Some(children(source.json.as_ref()?, "e", "/list"))),
    view("map ?s// to e/<path(1,1)>/<expand(/list, /id)>/<expand(/subs, /id)>", is_s, |source| {
        let lists = children(source.json.as_ref()?, &source.segment("e/", 1)?, "/list");
        let subs = |(path, made): (String, Made)| made.json().map(|json| children(json, &path, "/subs")).unwrap_or_default();
        Some(lists.into_iter().flat_map(subs).collect())
    }),
    view("map ?s// to a/<path(1)> process { if '/ok = true' continue }", is_s, |source| {
        let holds = source.json.as_ref()?.pointer("/ok") == Some(&Json::Bool(true));
        one(source.below("a/", 1).filter(|_| holds)?, Made::Same)
    }),
    view("map ?s// to c/<path(1)> process { set(/twice, calc '/num * 2'); remove(/list) }", is_s, |source| {
        let mut json = source.json.clone()?;
        let twice = json.pointer("/num")?.as_i64()? * 2;
        json["twice"] = twice.into();
        json.as_object_mut()?.remove("list");
        one(source.below("c/", 1)?, Made::Json(json))
    }),
    view("map ?s// to d/<path(1)> insert k/<scalar(/id)> key /name at /name default 'none'", is_s, |source| {
        let inserted = source.named().unwrap_or_else(|| "none".into());
        one(source.below("d/", 1)?, Made::Json(set(source.json.clone()?, "name", Some(inserted))?))
    }),
    view("map ?s// to d/<path(1)> insert k/x at /k", is_s, |source| {
        one(source.below("d/", 1)?, Made::Json(set(source.json.clone()?, "k", source.looked("k/x"))?))
    }),
    view("map ?s// to a/<path(1)> as <value(/in)>", is_s, |source| {
        one(source.below("a/", 1)?, Made::Json(source.json.as_ref()?.pointer("/in")?.clone()))
    }),
    view("map ?a// to b/<path(1)>", |path| is_below(path, "a"), |source| one(source.below("b/", 1)?, Made::Same)),
    view(
        "map ?[ab]/.* to c/<path(1)> as <value(/n)>",
        |path| (is_below(path, "a") || is_below(path, "b")) && levels(path) == 2,
        |source| one(source.below("c/", 1)?, Made::Json(source.json.as_ref()?.pointer("/n")?.clone())),
    ),
    view("map ?s// to p/<scalar(/group)> separator '-'", is_s, |source| {
        one(format!("p/{}", source.scalar("/group")?.replace('/', "-")), Made::Same)
    }),
    view("map ?s// to p/<scalar(/group)>", is_s, |source| one(format!("p/{}", source.scalar("/group")?), Made::Same)),
    view("map ?i// to j/<path(1)> type string", is_i, |source| {
        let text = source.int64().map(|number| number.to_string().into_bytes());
        one(source.below("j/", 1)?, Made::Other(ValueType::String, text))
    }),
    view("map ?i// to j/<path(1)> type json", is_i, |source| {
        let text = source.int64().map(|number| number.to_string().into_bytes());
        one(source.below("j/", 1)?, Made::Other(ValueType::Json, text))
    }),
    view("map ?i// to j/<path(1)> throttle to 1 update every second", is_i, |source| one(source.below("j/", 1)?, Made::Same)),
    view("map ?s// to w/<path(1)> throttle to 2 updates every second", is_s, |source| one(source.below("w/", 1)?, Made::Same)),
    view("map ?s// to w/<path(1)> delay by 1 second", is_s, |source| one(source.below("w/", 1)?, Made::Same)),
    view("map ?s// to w/<expand(/list, /id)> delay by 2 seconds throttle to 1 update every second", is_s, |source| {
        Some(children(source.json.as_ref()?, "w", "/list"))
    }),
    view("map ?ts// to u/<path(1)>", is_ts, |source| one(source.below("u/", 1)?, Made::Same)),
    view("map ?ts// to u/<path(1)> delay by 1 second", is_ts, |source| one(source.below("u/", 1)?, Made::Same)),
    view("map ?ts// to u/<path(1)> insert k/<scalar(/id)> key /name at /name default 'none'", is_ts, |source| {
        let inserted = source.named().unwrap_or_else(|| "none".into());
        one(source.below("u/", 1)?, Made::Json(set(source.json.clone()?, "name", Some(inserted))?))
    }),
    view("map ?ts// to w/<scalar(/id)> type json", is_ts, |source| {
        one(format!("w/{}", source.scalar("/id")?), Made::Other(ValueType::Json, source.topic.value.clone()))
    }),
    view("map ?ts// to v/<scalar(/id)>", is_ts, |source| one(format!("v/{}", source.scalar("/id")?), Made::Same)),
    View {
        has_history: true,
        ..view("map ?s// to h/<scalar(/id)> preserve topics", is_s, |source| one(format!("h/{}", source.scalar("/id")?), Made::Same))
    },
    view("map ?s// to h/<scalar(/id)>", is_s, |source| one(format!("h/{}", source.scalar("/id")?), Made::Same)),
    view("map *n/.* to n/<path(1)>/x", |path| path.starts_with("n/"), |source| one(source.below("n/", 1)? + "/x", Made::Same)),
    view(
        "map ?[bw]// to q/<path(1)> insert a/1 key /n at /m",
        |path| is_below(path, "b") || is_below(path, "w"),
        |source| {
            let inserted = source.looked("a/1").and_then(|json| json.pointer("/n").cloned());
            one(source.below("q/", 1)?, Made::Json(set(source.json.clone()?, "m", inserted)?))
        },
    ),
    view("map ?s// to f/<scalar(/id, 1)>/<path(1)>", is_s, |source| {
        let json = source.tree.get(&source.segment("s/", 1)?).and_then(Topic::json)?;
        one(source.below(&format!("f/{}/", scalar(&json, "/id")?), 1)?, Made::Same)
    }),
    view("map ?i// to z/<path(1)> type time_series with properties 'TIME_SERIES_RETAINED_RANGE': 'limit 3'", is_i, |source| {
        one(source.below("z/", 1)?, Made::Collected)
    }),
    view(
        "map ?g// to r/<path(1)> type int64",
        |path| is_below(path, "g"),
        |source| {
            let number = |value: &Vec<u8>| std::str::from_utf8(value).ok()?.parse::<i64>().ok();
            let value = source.topic.value.as_ref().map(|value| Some(number(value)?.to_be_bytes().to_vec()));
            // A text that is no number makes no topic, null makes null.
            let value = if let Some(value) = value { Some(value?) } else { None };
            one(source.below("r/", 1)?, Made::Other(ValueType::Int64, value))
        },
    ),
    view("map ?.*/1 to x/<path(0)>", |path| levels(path) == 2 && path.ends_with("/1"), |source| one(source.below("x/", 0)?, Made::Same)),
];

pub fn view_of(text: &str) -> &'static View {
    VIEWS.iter().find(|view| view.text == text).unwrap_or_else(|| panic!("'{text}' is no view of the simulation"))
}

fn is_below(path: &str, branch: &str) -> bool {
    path.strip_prefix(branch).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn is_s(path: &str) -> bool {
    is_below(path, "s")
}

fn is_i(path: &str) -> bool {
    is_below(path, "i")
}

fn is_ts(path: &str) -> bool {
    is_below(path, "ts")
}

fn levels(path: &str) -> usize {
    path.split('/').count()
}

fn one(path: String, made: Made) -> Option<References> {
    Some(vec![(path, made)])
}

fn scalar(json: &Json, pointer: &str) -> Option<String> {
    json.pointer(pointer)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

/// Each element of the list at `pointer`, by its id.
fn children(json: &Json, path: &str, pointer: &str) -> References {
    let list = json.pointer(pointer).and_then(Json::as_array).cloned().unwrap_or_default();
    list.into_iter().filter_map(|child| Some((format!("{path}/{}", scalar(&child, "/id")?), Made::Json(child)))).collect()
}

/// With a member set, where there is something to set; nothing has members but objects.
fn set(mut json: Json, name: &str, value: Option<Json>) -> Option<Json> {
    let Some(value) = value else { return Some(json) };
    json.as_object_mut()?.insert(name.to_owned(), value);
    Some(json)
}

impl Made {
    fn json(&self) -> Option<&Json> {
        if let Self::Json(json) = self { Some(json) } else { None }
    }
}

impl Source<'_> {
    /// `branch` with the segments from `start` on.
    fn below(&self, branch: &str, start: usize) -> Option<String> {
        let rest: Vec<&str> = self.path.split('/').skip(start).collect();
        (!rest.is_empty()).then(|| branch.to_owned() + &rest.join("/"))
    }

    fn segment(&self, branch: &str, at: usize) -> Option<String> {
        self.path.split('/').nth(at).map(|segment| branch.to_owned() + segment)
    }

    fn scalar(&self, pointer: &str) -> Option<String> {
        scalar(self.json.as_ref()?, pointer)
    }

    fn int64(&self) -> Option<i64> {
        let value = self.topic.value.as_ref()?;
        Some(i64::from_be_bytes(value[..].try_into().expect("an INT64 has eight bytes")))
    }

    fn looked(&self, path: &str) -> Option<Json> {
        self.tree.get(path)?.json()
    }

    /// The name of the topic that the id leads to.
    fn named(&self) -> Option<Json> {
        self.looked(&format!("k/{}", self.scalar("/id")?))?.pointer("/name").cloned()
    }
}

/// A view as the server has it.
pub struct Placed {
    pub place: u64,
    pub view: &'static View,
}

/// What `views` make of normal topics, evaluated over and over until nothing changes.
fn evaluate(normal: &Tree, views: &[Placed]) -> Tree {
    let mut references = Tree::new();
    for _ in 0..60 {
        let mut all = references.clone();
        all.extend(normal.iter().map(|(path, topic)| (path.clone(), topic.clone())));
        let mut claims: BTreeMap<String, (u64, String, Topic)> = BTreeMap::new();
        for (path, topic) in all.iter().filter(|(_, topic)| topic.ancestry.len() <= DEPTH_MAX) {
            for placed in views.iter().filter(|placed| (placed.view.selects)(path)) {
                for (at, reference) in make(placed.view, path, topic, &all) {
                    let is_first = claims.get(&at).is_none_or(|(place, source, _)| {
                        let order = placed.place.cmp(place);
                        order == Ordering::Less || order == Ordering::Equal && in_path_order(path, source)
                    });
                    if is_first {
                        claims.insert(at, (placed.place, path.clone(), reference));
                    }
                }
            }
        }
        let claims = claims.into_iter().filter(|(path, _)| !normal.contains_key(path));
        let next: Tree = claims.map(|(path, (_, _, topic))| (path, topic)).collect();
        if next == references {
            return next;
        }
        references = next;
    }
    panic!("the views of the simulation come to no rest");
}

/// What one view makes of one topic, each path once.
fn make(view: &View, path: &str, topic: &Topic, tree: &Tree) -> Tree {
    let source = Source { path, topic, json: topic.json(), tree };
    let mut references = Tree::new();
    for (at, made) in (view.makes)(&source).unwrap_or_default() {
        if topic.ancestry.contains(&at) {
            continue;
        }
        let mut ancestry = topic.ancestry.clone();
        ancestry.insert(0, at.clone());
        let (number, kind, value) = match made {
            Made::Same => (topic.number, topic.kind, topic.value.clone()),
            Made::Json(json) => (topic.number, ValueType::Json, Some(json.to_string().into_bytes())),
            Made::Other(kind, value) => (kind as u8, kind, value),
            Made::Collected => (TIME_SERIES, topic.kind, topic.value.clone()),
        };
        let mut properties = topic.properties.clone();
        properties.retain(|(key, _)| key != "PERSISTENT" && (number == TIME_SERIES || !key.starts_with("TIME_SERIES")));
        properties.push(("PERSISTENT".to_owned(), "false".to_owned()));
        properties.sort();
        references.entry(at).or_insert(Topic { number, kind, value, properties, ancestry });
    }
    references
}

pub fn is_reference(row: &Row) -> bool {
    row.property("PERSISTENT") == Some("false")
}

/// The reference topics that were found are those that the views make of the normal ones.
pub fn check(found: &BTreeMap<String, Row>, views: &[Placed]) {
    let topics = |wanted: bool| -> Tree {
        let rows = found.values().filter(|row| is_reference(row) == wanted);
        rows.map(|row| (row.path.clone(), Topic::of_row(row))).collect()
    };
    let normal = topics(false);
    let mut expected = evaluate(&normal, views);
    let mut references = topics(true);
    if views.iter().any(|placed| placed.view.has_history) {
        // Those that are preserved are there beside those that follow from the sources as they are.
        let is_known = |path: &str| ["h/x", "h/y", "h/z"].contains(&path);
        assert!(references.keys().all(|path| !path.starts_with("h/") || is_known(path)));
        assert!(expected.keys().all(|path| references.contains_key(path) || normal.contains_key(path) || !path.starts_with("h/")));
        expected.retain(|path, _| !path.starts_with("h/"));
        references.retain(|path, _| !path.starts_with("h/"));
    }
    let texts: Vec<_> = views.iter().map(|placed| (placed.place, placed.view.text)).collect();
    let paths = |tree: &Tree| tree.keys().cloned().collect::<Vec<_>>();
    let told: Vec<_> = normal.iter().map(|(path, topic)| (path, topic.value.as_deref().map(String::from_utf8_lossy))).collect();
    assert_eq!(paths(&references), paths(&expected), "other reference topics than {texts:?} make of {told:?}");
    for (path, topic) in &references {
        let wanted = &expected[path];
        let mut shown = topic.clone();
        shown.properties.sort();
        if path.starts_with("v/") {
            // A series holds no edit of an event that leads elsewhere.
            shown.value.clone_from(&wanted.value);
        }
        assert_eq!(shown.shown(), wanted.shown(), "{path} by way of {:?}, with {texts:?}, of {told:?}", wanted.ancestry);
    }
}
