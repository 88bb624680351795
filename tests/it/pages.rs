//! The pages of the repository: their commands run, and the things they name exist.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use vintage_control::Metric;
use vintage_tests::{binary, run, scrubbed};

/// Settings under which a page's commands take seconds instead of minutes.
const SHORT: [(&str, &str); 6] = [
    ("VINTAGE__LEARNER__STEPS", "4"),
    ("VINTAGE__LEARNER__PROMPTS_PER_UPDATE", "4"),
    ("VINTAGE__WARM_START__STEPS", "30"),
    ("VINTAGE__WARM_START__BATCH", "16"),
    ("VINTAGE__EVALUATION__PROMPTS", "8"),
    ("VINTAGE__EVALUATION__EVERY", "4"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ is in the repository")
        .to_owned()
}

/// Collects the files below a folder with this extension, except build products and other
/// checkouts.
fn files(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            if name != "target" && name != "runs" && !name.starts_with('.') {
                files(&path, extension, found)?;
            }
        } else if path.extension().is_some_and(|own| own == extension) {
            found.push(path);
        }
    }
    Ok(())
}

/// Returns the pages with their texts.
fn pages() -> Result<Vec<(PathBuf, String)>> {
    let mut found = Vec::new();
    files(&root(), "md", &mut found)?;
    found.sort();
    found
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            Ok((path, text))
        })
        .collect()
}

/// Returns the fenced blocks of a page: the text after the fence, and the lines inside.
pub(crate) fn blocks(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in text.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(info)) => open = Some((info.trim().to_owned(), String::new())),
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some((_, inside)), None) => {
                inside.push_str(line);
                inside.push('\n');
            }
            (None, None) => {}
        }
    }
    found
}

/// Returns the texts between single backticks outside of fenced blocks.
fn quoted(text: &str) -> Vec<String> {
    let mut outside = String::new();
    let mut inside = false;
    for line in text.lines() {
        if line.starts_with("```") {
            inside = !inside;
        } else if !inside {
            outside.push_str(line);
            outside.push('\n');
        }
    }
    outside
        .split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// Writes prompts and a held-out set for the guide's commands.
pub(crate) fn write_prompts(folder: &Path) -> Result<()> {
    let row = |a: u32, b: u32| format!("{{\"prompt\": \"{a}+{b}=\", \"answer\": \"{}\"}}\n", a + b);
    let train: String = (10..40).map(|a| row(a, 7)).collect();
    let heldout: String = (40..48).map(|a| row(a, 7)).collect();
    fs::write(folder.join("train.jsonl"), train)?;
    fs::write(folder.join("heldout.jsonl"), heldout)?;
    Ok(())
}

/// Returns the text of a page.
pub(crate) fn page(name: &str) -> Result<String> {
    fs::read_to_string(root().join(name)).with_context(|| name.to_owned())
}

/// Returns the command of a script of a page, in a folder, with the built program on its path.
pub(crate) fn script(folder: &Path, script: &str) -> Command {
    let mut command = Command::new("bash");
    command.arg("-c").arg(script).current_dir(folder);
    scrubbed(&mut command);
    command.envs(SHORT);
    let program = binary();
    let programs = program.parent().expect("it is in a folder");
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{path}", programs.display()));
    command
}

/// Runs a page's commands in order, in a folder of their own.
fn follow(page: &str) -> Result<()> {
    let text = fs::read_to_string(root().join(page))?;
    let folder = tempfile::tempdir()?;
    write_prompts(folder.path())?;
    let mut script = String::from("set -euo pipefail\n");
    for (info, inside) in blocks(&text) {
        if info == "python"
            && let Some(rest) = inside.strip_prefix("# ")
            && let Some((name, _)) = rest.split_once(':')
        {
            fs::write(folder.path().join(name), &inside)?;
        } else if info == "sh run" {
            script.push_str(&inside);
        }
    }
    let ended = run(self::script(folder.path(), &script))?;
    ensure!(
        ended.status.success(),
        "{page}, followed as it says:\n{script}\n{}\n{}",
        ended.stdout,
        ended.stderr
    );
    Ok(())
}

#[test]
fn a_shell_block_is_run_or_says_why_not() -> Result<()> {
    let root = root();
    for (path, text) in pages()? {
        let page = path.strip_prefix(&root)?;
        if page.parent() != Some(Path::new("")) && !page.starts_with("docs") {
            continue;
        }
        for (info, inside) in blocks(&text) {
            let marked = info == "sh run"
                || info
                    .strip_prefix("sh not-run: ")
                    .is_some_and(|reason| reason.len() > 5);
            ensure!(
                !info.starts_with("sh") && !info.starts_with("bash") || marked,
                "{}: a block is neither `sh run` nor `sh not-run: reason`:\n{inside}",
                page.display()
            );
        }
    }
    Ok(())
}

#[test]
fn the_readme_can_be_followed() -> Result<()> {
    follow("README.md")
}

#[test]
fn the_guide_can_be_followed() -> Result<()> {
    follow("docs/guide.md")
}

#[test]
fn what_a_page_names_exists() -> Result<()> {
    let root = root();
    let mut sources = Vec::new();
    files(&root, "rs", &mut sources)?;
    let mut code = String::new();
    for path in &sources {
        code.push_str(&fs::read_to_string(path)?);
    }
    let mut missing = Vec::new();
    for (path, text) in pages()? {
        let page = path.strip_prefix(&root)?.display().to_string();
        let folder = path.parent().context("a page has a folder")?;
        for name in quoted(&text) {
            let test_name = name.matches('_').count() > 2
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
                && !name.starts_with("vintage_");
            if test_name && !code.contains(&format!("fn {name}(")) && !code.contains(&name) {
                missing.push(format!("{page}: no `{name}` in the sources"));
            }
            let top = [
                "schemas/",
                "infra/",
                "producers/",
                "consumers/",
                "pipelines/",
                "docs/",
            ];
            let is_path = (top.iter().any(|top| name.starts_with(top))
                || name.starts_with("tests/"))
                && !name.contains([' ', '{', '<', '*', '…'])
                && !name.contains("NAME");
            if is_path && !root.join(&name).exists() && !page.starts_with("CHANGELOG") {
                missing.push(format!("{page}: no {name}"));
            }
        }
        for link in text.split("](").skip(1) {
            let target = link.split([')', '#']).next().unwrap_or_default();
            let local = !target.is_empty() && !target.contains("://") && !target.contains(' ');
            if local && !folder.join(target).exists() {
                missing.push(format!("{page}: the link {target} leads nowhere"));
            }
        }
    }
    ensure!(missing.is_empty(), "{}", missing.join("\n"));
    Ok(())
}

#[test]
fn front_pages_stay_short() -> Result<()> {
    let readme = fs::read_to_string(root().join("README.md"))?;
    ensure!(
        readme.lines().count() < 200,
        "README.md has 200 lines or more"
    );
    let architecture = fs::read_to_string(root().join("ARCHITECTURE.md"))?;
    let words = architecture.split_whitespace().count();
    ensure!(words < 3000, "ARCHITECTURE.md has {words} words");
    Ok(())
}

#[test]
fn every_metric_is_on_the_reference_page() -> Result<()> {
    let counted: BTreeSet<String> = Metric::ALL
        .iter()
        .map(|metric| metric.name.to_owned())
        .collect();
    // A name anywhere else would be one that the table lacks.
    let mut sources = Vec::new();
    for folder in ["infra", "producers", "consumers", "pipelines"] {
        files(&root().join(folder), "rs", &mut sources)?;
    }
    for path in sources {
        let code = fs::read_to_string(&path)?;
        for call in ["counter!(\"", "gauge!(\"", "histogram!(\""] {
            ensure!(!code.contains(call), "{}: {call}", path.display());
        }
    }
    let page = fs::read_to_string(root().join("docs/reference.md"))?;
    let listed: BTreeSet<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `vintage_"))
        .map(|rest| {
            let name = rest.split(['`', '{']).next().unwrap_or_default();
            format!("vintage_{name}")
        })
        .collect();
    ensure!(
        counted == listed,
        "counted and not listed: {:?}; listed and not counted: {:?}",
        counted.difference(&listed),
        listed.difference(&counted)
    );
    Ok(())
}
