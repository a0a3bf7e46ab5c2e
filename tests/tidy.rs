//! The house rules that a machine can check.

use std::fs;
use std::path::{Path, PathBuf};

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

#[test]
fn no_source_file_is_longer_than_800_lines() {
    for path in sources().iter().filter(|path| path.extension().is_some_and(|ending| ending != "md")) {
        let lines = fs::read_to_string(path).unwrap().lines().count();
        assert!(lines <= 800, "{} has {lines} lines", path.display());
    }
}

#[test]
fn a_module_uses_only_those_above_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let map = fs::read_to_string(root.join("lib.rs")).unwrap();
    let order: Vec<&str> = map.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    for path in sources().iter().filter(|path| path.starts_with(&root)) {
        let inside = path.strip_prefix(&root).unwrap();
        let name = inside.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs");
        let Some(floor) = order.iter().position(|module| *module == name) else { continue };
        let text = fs::read_to_string(path).unwrap();
        // Tests stand last in their file and may look up.
        let code = text.split("#[cfg(test)]").next().unwrap();
        for above in order.iter().skip(floor + 1) {
            for written in [format!("crate::{above}::"), format!("crate::{above};")] {
                assert!(
                    !code.contains(&written) || inside.ends_with("tests.rs"),
                    "{} uses `{above}`, which stands above it",
                    inside.display()
                );
            }
        }
    }
}

#[test]
fn only_the_runtime_names_glommio() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for path in sources().iter().filter(|path| path.starts_with(&root) && !path.starts_with(root.join("runtime"))) {
        let text = fs::read_to_string(path).unwrap();
        assert!(!text.contains("glommio::"), "{} names glommio", path.display());
    }
}
