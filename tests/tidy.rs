//! The house rules that a machine can check.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const FUNCTION_LINES_MAX: usize = 70;

/// Functions longer than that, which are to be cut; the list may only get shorter.
const LONGER: &[(&str, &str)] = &[("benches/views.rs", "hostile"), ("tests/sim/ask.rs", "encode_text"), ("tests/sim/streams.rs", "step")];

/// The most that `Shard` may be: it coordinates rooms, and does little else.
const SHARD_FIELDS_MAX: usize = 10;
const SHARD_METHODS_MAX: usize = 80;

/// A file of Rust: its path from the root of the repository, and its text.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// Tests may look up: their files are called so, or stand in a folder that is.
    fn is_test(&self) -> bool {
        self.path.split('/').any(|part| part == "tests" || part == "tests.rs")
    }

    /// The module of `src/lib.rs` that the file belongs to, if it is not the crate's root.
    fn room(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?;
        Some(inside.split('/').next()?.trim_end_matches(".rs"))
    }

    /// How many modules stand around the file's items: as many `super` lead to the crate's root.
    fn depth(&self) -> usize {
        let inside = self.path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
        inside.split('/').count()
    }

    /// The modules of `src/lib.rs` that the code of this file names: by a path, an import or a group of imports.
    fn rooms_named(&self, rooms: &[String]) -> BTreeSet<String> {
        let code = without_tests(&self.text);
        let mut named = BTreeSet::new();
        for root in ["crate::".to_string(), "super::".repeat(self.depth())] {
            for (at, _) in code.match_indices(&root) {
                // The last `super` of a longer chain is no path of its own, and `my_crate` is no root.
                let before = &code[..at];
                if before.ends_with("super::") || before.ends_with(|last: char| last.is_alphanumeric() || last == '_') {
                    continue;
                }
                let after = code[at + root.len()..].trim_start();
                assert!(!after.starts_with('*'), "{} imports all modules at once", self.path);
                named.extend(heads(after).into_iter().filter(|head| rooms.contains(head)));
            }
        }
        named
    }
}

fn sources() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut folders =
        vec![root.join("src"), root.join("loadtest"), root.join("tests"), root.join("benches"), root.join("sdk"), root.join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = entry.file_name().into_string().unwrap();
            if path.is_dir() && !["node_modules", "target", "data", "types"].contains(&&*name) {
                folders.push(path);
            } else if [".rs", ".js", ".md"].iter().any(|ending| name.ends_with(ending)) {
                found.push(path);
            }
        }
    }
    assert!(found.len() > 50, "the sources are found");
    found
}

fn rust_sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for path in sources().iter().filter(|path| path.extension().is_some_and(|ending| ending == "rs")) {
        let inside = path.strip_prefix(root).unwrap();
        if ["src", "loadtest", "tests", "benches"].iter().any(|folder| inside.starts_with(folder)) {
            found.push(Source { path: inside.to_str().unwrap().into(), text: fs::read_to_string(path).unwrap() });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn crate_root() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap()
}

/// The modules of the crate, in the order of `src/lib.rs`.
fn rooms() -> Vec<String> {
    let name = |line: &str| Some(visible(line).strip_prefix("mod ")?.strip_suffix(';')?.to_string());
    let found: Vec<String> = crate_root().lines().filter_map(name).collect();
    assert!(found.len() > 10, "the modules are found");
    found
}

/// What comes after the visibility of an item.
fn visible(item: &str) -> &str {
    let Some(after) = item.strip_prefix("pub") else { return item };
    match after.strip_prefix('(') {
        Some(scope) => scope.split_once(") ").map_or(item, |(_, item)| item),
        None => after.trim_start(),
    }
}

fn indentation(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// The identifier that the text begins with.
fn word(text: &str) -> &str {
    let end = text.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(text.len());
    &text[..end]
}

/// All identifiers and keywords.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| !letter.is_alphanumeric() && letter != '_').filter(|word| !word.is_empty())
}

fn without_comments(text: &str) -> String {
    text.lines().filter(|line| !line.trim_start().starts_with("//")).flat_map(|line| [line, "\n"]).collect()
}

/// The first words of what stands behind a path's `::`: one, or in braces one of each element.
fn heads(text: &str) -> Vec<String> {
    let Some(group) = text.strip_prefix('{') else { return vec![word(text).to_string()] };
    let mut found = vec![word(group.trim_start()).to_string()];
    let mut depth = 1;
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => found.push(word(group[at + 1..].trim_start()).to_string()),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    found
}

/// The code without comments and without the items that exist only for tests. An item ends where rustfmt puts its last bracket: at the
/// indentation it began with.
fn without_tests(text: &str) -> String {
    let text = without_comments(text);
    let mut code = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim() != "#[cfg(test)]" {
            code.push_str(line);
            code.push('\n');
            continue;
        }
        let first = lines.by_ref().find(|line| !line.trim_start().starts_with("#[")).unwrap();
        if first.ends_with([';', '}', ',']) {
            continue;
        }
        let is_last = |line: &str| {
            let bracket = &line[indentation(line)..];
            indentation(line) == indentation(first) && ["}", "};", "];", ");"].contains(&bracket)
        };
        lines.find(|line| is_last(line)).unwrap();
    }
    code
}

/// The name of the function that begins in this line.
fn function_name(line: &str) -> Option<&str> {
    let mut rest = visible(line.trim_start());
    while let Some(after) = ["default ", "const ", "async ", "unsafe ", "extern \"C\" "].iter().find_map(|word| rest.strip_prefix(word)) {
        rest = after;
    }
    rest.strip_prefix("fn ").map(word)
}

/// The functions with a body, and how many lines each has.
fn functions(source: &Source) -> Vec<(&str, usize)> {
    let lines: Vec<&str> = source.text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        // A signature ends with its body's brace, or with a semicolon where there is no body.
        let signature_end = lines[at..].iter().find(|line| line.ends_with(['{', '}', ';'])).unwrap();
        if signature_end.ends_with('{') {
            let is_end = |end: &&str| end.trim_start() == "}" && indentation(end) == indentation(line);
            let length = lines[at..].iter().position(is_end);
            found.push((name, length.unwrap_or_else(|| panic!("{}: `{name}` has no end", source.path)) + 1));
        }
    }
    found
}

/// Whether a block of methods of `Shard` begins in this line.
fn is_impl_of_shard(line: &str) -> bool {
    let Some(header) = line.trim_start().strip_prefix("impl").filter(|rest| rest.starts_with([' ', '<'])) else { return false };
    let header = header.trim_end_matches(['{', '}', ' ']);
    let of = header.rsplit(' ').next().unwrap();
    word(of.rsplit("::").next().unwrap()) == "Shard"
}

fn shard_fields(text: &str) -> usize {
    let fields = text.lines().skip_while(|line| *line != "pub struct Shard {").skip(1).take_while(|line| *line != "}");
    fields.filter(|line| indentation(line) == 4 && visible(line.trim_start()).starts_with(|first: char| first.is_alphabetic())).count()
}

fn shard_methods(code: &str) -> usize {
    let mut methods = 0;
    let mut block = None;
    for line in code.lines() {
        if is_impl_of_shard(line) {
            block = Some(indentation(line));
        } else if line.trim_start() == "}" && block == Some(indentation(line)) {
            block = None;
        } else if block.is_some_and(|at| indentation(line) == at + 4) && function_name(line).is_some() {
            methods += 1;
        }
    }
    methods
}

#[test]
fn no_source_file_is_longer_than_800_lines() {
    for path in sources().iter().filter(|path| path.extension().is_some_and(|ending| ending != "md")) {
        let lines = fs::read_to_string(path).unwrap().lines().count();
        assert!(lines <= 800, "{} has {lines} lines", path.display());
    }
}

#[test]
fn a_module_uses_only_those_above_it() {
    let rooms = rooms();
    for source in rust_sources().iter().filter(|source| !source.is_test()) {
        let Some(floor) = source.room().and_then(|name| rooms.iter().position(|room| room == name)) else { continue };
        let named = source.rooms_named(&rooms);
        for below in &rooms[floor + 1..] {
            assert!(!named.contains(below), "{} uses `{below}`, which stands below it", source.path);
        }
    }
}

#[test]
fn rooms_do_not_circle() {
    let rooms = rooms();
    let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in rust_sources().iter().filter(|source| !source.is_test()) {
        let Some(room) = source.room().filter(|name| rooms.iter().any(|room| room == name)) else { continue };
        let mut named = source.rooms_named(&rooms);
        named.remove(room);
        uses.entry(room.to_string()).or_default().append(&mut named);
    }
    assert!(uses["shard"].contains("topic"), "uses are found");
    for room in &rooms {
        // Whatever the room uses, also by way of others, does not use the room.
        let mut reached = BTreeSet::new();
        let mut next = vec![room];
        while let Some(user) = next.pop() {
            for used in &uses[user] {
                assert_ne!(used, room, "`{room}` uses `{user}`, perhaps by way of others, and `{user}` uses `{room}`");
                if reached.insert(used) {
                    next.push(used);
                }
            }
        }
    }
}

#[test]
fn only_the_surface_is_public() {
    let root = crate_root();
    let public: Vec<&str> = root.lines().filter(|line| line.starts_with("pub")).collect();
    assert_eq!(public, ["pub mod surface;"], "an item that nobody uses is found only behind a private module");
}

#[test]
fn the_surface_holds_only_what_others_name() {
    let sources = rust_sources();
    let is_other = |source: &&Source| !source.path.starts_with("src/") || source.path == "src/main.rs";
    let others: String = sources.iter().filter(is_other).map(|source| without_comments(&source.text)).collect();
    let named: BTreeSet<&str> = words(&others).collect();
    let surface = sources.iter().find(|source| source.path == "src/surface.rs").unwrap();
    let mut count = 0;
    for reexport in without_comments(&surface.text).split("pub use crate::").skip(1) {
        let path = reexport.split_once(';').unwrap().0;
        assert!(!path.contains('*'), "the surface names each item of `{path}`");
        let items = path.rsplit("::").next().unwrap();
        for item in words(items) {
            count += 1;
            assert!(named.contains(item), "nobody names `{item}` of `{path}`: take it from the surface");
        }
    }
    assert!(count > 100, "the items are found");
}

#[test]
fn every_module_says_what_it_is() {
    for source in rust_sources() {
        assert!(source.text.starts_with("//!"), "{} does not begin with `//!`", source.path);
    }
}

#[test]
fn functions_fit_a_screen() {
    let sources = rust_sources();
    let mut longer = BTreeSet::new();
    let mut count = 0;
    for source in &sources {
        for (name, lines) in functions(source) {
            count += 1;
            if lines > FUNCTION_LINES_MAX {
                assert!(LONGER.contains(&(&source.path, name)), "{}: `{name}` has {lines} lines", source.path);
                longer.insert((&*source.path, name));
            }
        }
    }
    assert!(count > 1000, "the functions are found");
    for cut in LONGER {
        assert!(longer.contains(cut), "{}: `{}` fits: take it from `LONGER`", cut.0, cut.1);
    }
}

#[test]
fn the_shard_stays_small() {
    let mut fields = 0;
    let mut methods = 0;
    for source in rust_sources().iter().filter(|source| source.path.starts_with("src/")) {
        if source.path.starts_with("src/shard/") {
            if !source.is_test() {
                methods += shard_methods(&without_tests(&source.text));
            }
        } else {
            assert!(!source.text.lines().any(is_impl_of_shard), "{} has methods of the shard", source.path);
        }
        if source.path == "src/shard/mod.rs" {
            fields = shard_fields(&source.text);
        }
    }
    assert!(fields > 0 && methods > 0, "the shard is found");
    assert!(fields <= SHARD_FIELDS_MAX, "the shard has {fields} fields");
    assert!(methods <= SHARD_METHODS_MAX, "the shard has {methods} methods");
}

#[test]
fn only_the_runtime_names_glommio() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for path in sources().iter().filter(|path| path.starts_with(&root) && !path.starts_with(root.join("runtime"))) {
        let text = fs::read_to_string(path).unwrap();
        assert!(!text.contains("glommio::"), "{} names glommio", path.display());
    }
}
