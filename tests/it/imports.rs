//! Invariant 1 inside of a crate: a file imports a name from the module that defines it.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};

use crate::architecture::sources;

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// First names of the paths behind `crate::` in a source without its comments.
fn first_names(text: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for path in text.split("crate::").skip(1) {
        let Some(list) = path.strip_prefix('{') else {
            names.extend(path.split(|c| !is_name(c)).next());
            continue;
        };
        let (mut depth, mut begins) = (0, true);
        for (at, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => begins = true,
                _ if begins && is_name(c) => {
                    names.extend(list[at..].split(|c| !is_name(c)).next());
                    begins = false;
                }
                _ => {}
            }
        }
    }
    names
}

/// Names that a crate's root re-exports with `pub use`, apart from those that its modules have too.
fn re_exported(root: &str) -> Vec<&str> {
    let uses = root.split("pub use ").skip(1);
    let trees = uses.filter_map(|rest| rest.split(';').next());
    trees
        .flat_map(|tree| {
            // In `a::{b, c::d}` the names are b and d: those that no `::` follows.
            tree.split([',', '{', '}'])
                .filter_map(|path| path.rsplit("::").next())
        })
        .map(str::trim)
        .filter(|name| !name.is_empty() && !root.contains(&format!("mod {name};")))
        .collect()
}

fn without_comments(text: &str) -> String {
    let code = text.lines().filter(|line| !line.trim().starts_with("//"));
    code.collect::<Vec<_>>().join("\n")
}

/// Names that the sources below `folder` import through the crate's root, with their files.
fn root_imports(folder: &Path) -> Result<Vec<String>> {
    let root = without_comments(&fs::read_to_string(folder.join("lib.rs"))?);
    let re_exported = re_exported(&root);
    let mut found = Vec::new();
    for file in sources(folder) {
        let inside = file.strip_prefix(folder)?;
        if inside
            .iter()
            .any(|part| part == "tests" || part == "tests.rs")
        {
            continue;
        }
        let text = without_comments(&fs::read_to_string(&file)?);
        let names = first_names(&text).into_iter();
        let bad = names.filter(|name| re_exported.contains(name));
        found.extend(bad.map(|name| format!("{}: crate::{name}", file.display())));
    }
    Ok(found)
}

#[test]
fn names_are_imported_from_the_module_that_defines_them() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let (mut found, mut crates) = (Vec::new(), 0);
    for row in ["schemas", "infra", "producers", "consumers", "pipelines"] {
        for entry in fs::read_dir(root.join(row)).context(row)? {
            let entry = entry?;
            let folder = entry.path().join("src");
            if folder.join("lib.rs").is_file() {
                found.extend(root_imports(&folder)?);
                crates += 1;
            }
        }
    }
    found.extend(root_imports(&root.join("tests/src"))?);
    ensure!(crates > 15, "{crates} crates");
    ensure!(
        found.is_empty(),
        "import these from their modules:\n{}",
        found.join("\n")
    );
    Ok(())
}

#[test]
fn an_import_through_the_root_is_found() {
    let root = "mod a;\nmod e;\npub use a::{B, a, c::D};\npub use e::F;\n";
    assert_eq!(re_exported(root), ["B", "D", "F"]);
    let text = "use crate::{\n    B,\n    a::{B, c::D},\n    e::F,\n};\nlet f = crate::F::new();\n";
    assert_eq!(first_names(text), ["B", "a", "e", "F"]);
}
