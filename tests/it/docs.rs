//! Doc comments are understood alone: in a hover, in search results, without the lines above.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

/// Words that no doc comment begins with: questions, pronouns, and words that lean on a sentence
/// before them.
const LEANING: &[&str] = &[
    "What", "Whether", "Where", "How", "Why", "Which", "Who", "Whose", "When", "It", "Its", "They",
    "Their", "This", "That", "These", "Those", "He", "She", "And", "Or", "But", "So", "Of", "With",
    "For", "In", "On", "At", "As", "If", "From", "To", "By",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in folder.read_dir()? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && !name.starts_with('.') && name != "target" {
            sources(&path, found)?;
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

/// First lines of the doc comments of a source, with their line numbers.
fn first_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut inside = false;
    text.lines().enumerate().filter_map(move |(at, line)| {
        let line = line.trim_start();
        let doc = line
            .strip_prefix("///")
            .or_else(|| line.strip_prefix("//!"))
            .filter(|doc| !doc.starts_with('/'));
        let first = doc.filter(|_| !inside);
        inside = doc.is_some();
        first.map(|doc| (at + 1, doc.trim()))
    })
}

fn leans(doc: &str) -> bool {
    let word = doc.split(|c: char| !c.is_alphabetic()).next();
    word.is_some_and(|word| LEANING.contains(&word)) || doc.starts_with("The same")
}

#[test]
fn doc_comments_begin_with_what_they_are_about() -> Result<()> {
    let mut files = Vec::new();
    for folder in [
        "schemas",
        "infra",
        "producers",
        "consumers",
        "pipelines",
        "tests",
    ] {
        sources(&root().join(folder), &mut files)?;
    }
    ensure!(files.len() > 400, "{} sources", files.len());
    let mut found = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file)?;
        for (line, doc) in first_lines(&text).filter(|(_, doc)| leans(doc)) {
            found.push(format!("{}:{line}: {doc}", file.display()));
        }
    }
    ensure!(
        found.is_empty(),
        "begin with a noun phrase or a verb in the third person:\n{}",
        found.join("\n")
    );
    Ok(())
}

/// An example shows at once what a library is for, and is compiled and run with the tests.
#[test]
fn every_library_begins_with_an_example() -> Result<()> {
    let mut without = Vec::new();
    for package in cargo_metadata::MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .exec()?
        .workspace_packages()
    {
        let libraries = package.targets.iter().filter(|target| target.is_lib());
        for library in libraries.filter(|_| package.name.as_str() != "vintage-tests") {
            let text = std::fs::read_to_string(&library.src_path)?;
            let shown = text
                .lines()
                .take_while(|line| line.starts_with("//!"))
                .any(|line| line.trim_end() == "//! ```");
            if !shown || !library.doctest {
                without.push(package.name.to_string());
            }
        }
    }
    ensure!(without.is_empty(), "no example that runs: {without:?}");
    Ok(())
}

#[test]
fn the_rule_knows_good_from_bad() {
    for bad in [
        "What samples.",
        "And with them.",
        "The same of it.",
        "Its name.",
    ] {
        assert!(leans(bad), "{bad}");
    }
    for good in [
        "Inference engine.",
        "Isolation level.",
        "Offset of the first record.",
    ] {
        assert!(!leans(good), "{good}");
    }
    let text = "/// One.\n/// And two.\nfn a() {}\n    //! Three.\n";
    let firsts: Vec<_> = first_lines(text).collect();
    assert_eq!(firsts, [(1, "One."), (4, "Three.")]);
}
