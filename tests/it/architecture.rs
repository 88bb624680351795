//! Invariant 1: dependencies between crates, checked against `cargo metadata`.

mod arrows;

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

use self::arrows::{ARROWS, ROWS};

/// Dependencies that no source in `src` names, and the reason for which they are declared.
const EXCUSED: &[(&str, &str, &str)] = &[
    ("store", "reqwest", "object_store's client with OpenSSL"),
    ("cli", "vintage-faults", "feature `faults` turns them on"),
    (
        "python",
        "cargo_metadata",
        "features of every workspace build",
    ),
    ("python", "rustix", "features of every workspace build"),
];

/// Crates that do no IO, have no async and read no clock, and all dependencies that they may have.
const PURE: &[(&str, &[&str])] = &[
    ("control", &["serde", "serde_json", "thiserror"]),
    ("settings", &["vintage-control", "jiff", "serde"]),
    ("losses", &["thiserror"]),
    (
        "ages",
        &["serde", "thiserror", "vintage-control", "vintage-losses"],
    ),
    (
        "curate",
        &["rand_chacha", "serde", "thiserror", "vintage-control"],
    ),
    (
        "verify",
        &[
            "num-bigint",
            "num-integer",
            "num-traits",
            "thiserror",
            "vintage-settings",
        ],
    ),
    (
        "experiment",
        &[
            "rand",
            "rand_chacha",
            "rayon",
            "serde",
            "thiserror",
            "vintage-control",
            "vintage-losses",
        ],
    ),
];

/// Libraries and the only crates that may name them.
const NAMED_BY: &[(&str, &[&str])] = &[
    // The transport benchmark holds our client against librdkafka's own.
    ("rdkafka", &["bus", "bench"]),
    // The archive is Parquet, and so are many published data sets.
    ("parquet", &["archive", "table"]),
    ("object_store", &["store"]),
    // Parity compares tensors of a device.
    (
        "candle-core",
        &["model", "model-gpu", "learner-gpu", "parity"],
    ),
    ("candle-nn", &["model"]),
    ("candle-transformers", &["model"]),
    ("tokenizers", &["model"]),
    ("minijinja", &["model"]),
];

pub(crate) fn metadata() -> Metadata {
    let mut command = MetadataCommand::new();
    command
        .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .no_deps();
    command.exec().expect("cargo metadata")
}

/// Returns the names of normal dependencies by crate name without its prefix.
fn dependencies(
    metadata: &Metadata,
    kinds: &[DependencyKind],
) -> BTreeMap<String, BTreeSet<String>> {
    metadata
        .workspace_packages()
        .iter()
        .map(|package| {
            let wanted = package
                .dependencies
                .iter()
                .filter(|dep| kinds.contains(&dep.kind));
            (
                short(&package.name),
                wanted.map(|dep| dep.name.clone()).collect(),
            )
        })
        .collect()
}

pub(crate) fn short(name: &str) -> String {
    name.strip_prefix("vintage-").unwrap_or(name).to_owned()
}

#[test]
fn crates_depend_along_the_arrows_only() {
    let all = dependencies(
        &metadata(),
        &[DependencyKind::Normal, DependencyKind::Build],
    );
    for (name, arrows) in ARROWS {
        let allowed: BTreeSet<String> = arrows.iter().map(|&name| name.to_owned()).collect();
        let inside = all[*name].iter().filter(|dep| dep.starts_with("vintage-"));
        let actual: BTreeSet<_> = inside.map(|dep| short(dep)).collect();
        assert_eq!(actual, allowed, "arrows of {name}, found and drawn");
    }
    let drawn: BTreeSet<_> = ARROWS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let crates: BTreeSet<_> = all.keys().cloned().collect();
    assert_eq!(crates, drawn, "a crate without arrows: add it to ARROWS");
}

#[test]
fn no_arrow_points_to_a_row_above() {
    let row = |name: &str| ROWS.iter().position(|row| row.contains(&name));
    for (name, arrows) in ARROWS {
        for other in *arrows {
            assert!(
                row(other).is_some() && row(other) <= row(name),
                "{name} → {other}"
            );
        }
    }
}

/// Everything a crate is built from.
fn below(name: &str) -> BTreeSet<&'static str> {
    let arrows: BTreeMap<_, _> = ARROWS.iter().copied().collect();
    let mut found = BTreeSet::new();
    let mut open = vec![name];
    while let Some(next) = open.pop() {
        for &other in arrows[next] {
            if found.insert(other) {
                open.push(other);
            }
        }
    }
    found
}

/// Settings, books, reports and the archive are read on machines that never train.
#[test]
fn what_does_not_compute_is_built_without_candle() {
    for name in ["config", "audit", "prune", "report", "archive", "rollout"] {
        let below = below(name);
        assert!(!below.contains("model"), "{name}: {below:?}");
    }
}

#[test]
fn producers_and_consumers_never_meet() {
    let arrows: BTreeMap<_, _> = ARROWS.iter().copied().collect();
    for producer in ["verify", "rollout", "local", "remote", "serve"] {
        for consumer in [
            "losses",
            "curate",
            "learner",
            "learner-gpu",
            "parity",
            "archive",
        ] {
            assert!(
                !arrows[producer].contains(&consumer),
                "{producer} → {consumer}"
            );
            assert!(
                !arrows[consumer].contains(&producer),
                "{consumer} → {producer}"
            );
        }
    }
}

#[test]
fn pure_crates_have_nothing_to_do_io_with() {
    let all = dependencies(
        &metadata(),
        &[DependencyKind::Normal, DependencyKind::Build],
    );
    for (name, allowed) in PURE {
        for dependency in &all[*name] {
            assert!(
                allowed.contains(&dependency.as_str()),
                "{name} depends on {dependency}"
            );
        }
    }
}

#[test]
fn pure_crates_call_no_clock_and_no_io() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    for folder in [
        "schemas/control",
        "consumers/losses",
        "consumers/curate",
        "producers/verify",
        "pipelines/experiment",
    ] {
        for file in sources(&std::path::Path::new(root).join(folder).join("src")) {
            let text = std::fs::read_to_string(&file).expect("a source file");
            for forbidden in [
                "std::fs",
                "std::net",
                "std::time",
                "std::env",
                "std::process",
                "async fn",
            ] {
                assert!(
                    !text.contains(forbidden),
                    "{} names {forbidden}",
                    file.display()
                );
            }
        }
    }
}

/// Returns the Rust sources in a folder and below it.
pub(crate) fn sources(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in folder.read_dir().expect("a source folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

#[test]
fn libraries_are_named_where_they_belong() {
    use DependencyKind::{Build, Development, Normal};
    let all = dependencies(&metadata(), &[Normal, Build, Development]);
    for (library, owners) in NAMED_BY {
        for (name, dependencies) in &all {
            let named = dependencies.contains(*library);
            assert!(
                !named || owners.contains(&name.as_str()),
                "{name} names {library}"
            );
        }
    }
}

/// Returns true if a source names this crate, as a path or in a `use`.
fn names(text: &str, library: &str) -> bool {
    let word = |byte: Option<&u8>| byte.is_some_and(|&b| b.is_ascii_alphanumeric() || b == b'_');
    text.match_indices(library).any(|(at, _)| {
        let bytes = text.as_bytes();
        !word(at.checked_sub(1).and_then(|before| bytes.get(before)))
            && !word(bytes.get(at + library.len()))
    })
}

/// Returns the texts of the files that `file` includes as modules by path.
fn included(file: &std::path::Path, text: &str) -> Vec<String> {
    let folder = file.parent().expect("a file in a folder");
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("#[path = \"")?.strip_suffix("\"]"))
        .map(|path| std::fs::read_to_string(folder.join(path)).expect("an included module"))
        .collect()
}

/// Folders of a package that may hold sources.
const EVERYWHERE: &[&str] = &["src", "tests", "examples", "it", "fuzz"];

#[test]
fn every_declared_dependency_is_used() {
    let mut unused = Vec::new();
    for package in metadata().workspace_packages() {
        let root = package.manifest_path.parent().expect("a package's folder");
        for dependency in &package.dependencies {
            let folders: &[&str] = match dependency.kind {
                DependencyKind::Development => EVERYWHERE,
                _ if package.name.as_str() == "vintage-tests" => EVERYWHERE,
                DependencyKind::Build => &[],
                _ => &["src"],
            };
            let texts = folders
                .iter()
                .map(|folder| root.join(folder))
                .filter(|folder| folder.is_dir())
                .flat_map(|folder| sources(folder.as_std_path()))
                .chain([root.join("build.rs").into_std_path_buf()])
                .filter_map(|file| {
                    let text = std::fs::read_to_string(&file).ok()?;
                    let included = included(&file, &text);
                    Some(std::iter::once(text).chain(included))
                })
                .flatten();
            let name = short(&package.name);
            let library = dependency.name.replace('-', "_");
            let excused = EXCUSED
                .iter()
                .any(|(own, other, _)| *own == name && *other == dependency.name);
            if !excused && !texts.into_iter().any(|text| names(&text, &library)) {
                unused.push(format!("{name} declares {}", dependency.name));
            }
        }
    }
    assert!(unused.is_empty(), "no source names them: {unused:#?}");
}
