//! Who may depend on whom: rooms of the library point downwards only, and no two files depend on each other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// From the bottom to the top. What is in one place may depend on what stands before it, and on its own room.
const ROOMS: [&str; 17] = [
    "error", "seed", "matrix", "sums", "across", "draws", "panics", "registry", "modules", "site", "networks",
    "surgery", "operator", "methods", "event", "policies", "training",
];

fn source_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => source_files(&path, found),
            false => found.push(path),
        }
    }
}

/// What a file of the library refers to with `crate::` or `super::` outside of its tests, as paths of modules.
fn references(own: &str, text: &str) -> BTreeSet<Vec<String>> {
    let parent = own.rsplit_once("::").map_or(String::new(), |(parent, _)| format!("{parent}::"));
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let mut found = BTreeSet::new();
    for line in lines {
        let line = line.replace("super::", &format!("crate::{parent}"));
        for reference in line.split("crate::").skip(1) {
            let end =
                reference.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(reference.len());
            let is_module = |name: &&str| name.starts_with(|first: char| first.is_lowercase());
            found.insert(reference[..end].split("::").take_while(is_module).map(String::from).collect());
        }
    }
    found
}

/// Every file as the path of its module, and the files that it refers to.
fn graph() -> BTreeMap<String, BTreeSet<String>> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    source_files(&source, &mut files);
    let module = |file: &PathBuf| {
        let inside = file.strip_prefix(&source).unwrap().with_extension("");
        inside.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("::")
    };
    let known = files.iter().map(module).collect::<BTreeSet<_>>();
    let mut graph = BTreeMap::new();
    for file in files.iter().filter(|file| !file.ends_with("src/lib.rs")) {
        let own = module(file);
        let targets = references(&own, &fs::read_to_string(file).unwrap()).into_iter().filter_map(|path| {
            // The longest part that is a file: what follows is an item in it.
            (1..=path.len()).rev().map(|length| path[..length].join("::")).find(|target| known.contains(target))
        });
        graph.insert(own.clone(), targets.filter(|target| *target != own).collect());
    }
    graph
}

fn room(module: &str) -> usize {
    let name = module.split("::").next().unwrap_or_default();
    ROOMS.iter().position(|room| *room == name).unwrap_or_else(|| panic!("`{name}` is in no room"))
}

#[test]
fn nothing_points_upwards() {
    let graph = graph();
    assert!(graph.len() > 60 && graph["event::grower"].len() > 10, "the graph is read");
    for (file, targets) in &graph {
        for target in targets {
            assert!(room(target) <= room(file), "`{file}` depends on `{target}`, which stands above it");
        }
    }
}

#[test]
fn no_files_depend_on_each_other() {
    let graph = graph();
    // What a file needs is taken away first; what is left needs each other.
    let mut left = graph.clone();
    loop {
        let free = left.iter().find(|(_, targets)| targets.iter().all(|target| !left.contains_key(target)));
        let Some(free) = free.map(|(file, _)| file.clone()) else {
            break;
        };
        left.remove(&free);
    }
    assert!(left.is_empty(), "these depend on each other: {:?}", left.keys().collect::<Vec<_>>());
}
