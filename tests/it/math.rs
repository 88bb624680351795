//! Mathematical answers, judged by `vintage-verify` and by PyPI's math-verify in one run.

use std::{
    collections::BTreeMap,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use vintage_tests::{python, run};
use vintage_verify::{AnswerKind, is_correct};

/// Returns the lines of a table below its header, split into fields.
fn table(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().skip(1).map(|line| line.split('\t').collect())
}

/// Compares the judgement of mathematical answers.
#[test]
fn we_and_math_verify_agree_but_for_what_is_explained() -> Result<()> {
    compare("math.tsv", "math-verify.tsv", "docs/measurements.md")
}

/// Compares the part of a completion that is taken as its answer.
#[test]
fn final_answers_are_those_of_math_verify_but_for_what_is_explained() -> Result<()> {
    compare("final.tsv", "final-math-verify.tsv", "docs/answers.md")
}

/// Checks that both say what the table expects, or that an explanation says why math-verify does
/// not; a page states how often they agree. In the table `␤` is a line feed.
fn compare(cases: &str, explained: &str, page: &str) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let golden = root.join("../producers/verify/tests/golden");
    let read = |name: &str| -> Result<String> {
        let path = golden.join(name);
        std::fs::read_to_string(&path).with_context(|| path.display().to_string())
    };
    let (table_name, explained_name) = (cases, explained);
    let (cases, explained) = (read(table_name)?, read(explained_name)?);
    let mut explanations = BTreeMap::new();
    for fields in table(&explained) {
        let [answer, completion, why] = fields.as_slice() else {
            anyhow::bail!("not three fields: {fields:?}");
        };
        ensure!(why.len() > 10, "{answer} | {completion}: no explanation");
        explanations.insert((*answer, *completion), *why);
    }

    let mut command = Command::new(python());
    command
        .arg(root.join("python/math_answers.py"))
        .arg(golden.join(table_name));
    let theirs = run(command)?.json()?;
    let seconds = theirs["seconds"].as_f64().context("no time")?;
    let theirs = theirs["right"].as_array().context("no verdicts")?;

    let (mut agreed, mut seen, mut taken) = (0, 0, Duration::ZERO);
    let mut wrong = Vec::new();
    for (fields, theirs) in table(&cases).zip(theirs) {
        let [_, answer, completion, expected] = fields.as_slice() else {
            anyhow::bail!("not four fields: {fields:?}");
        };
        seen += 1;
        let text = completion.replace('␤', "\n");
        let begun = Instant::now();
        let ours = is_correct(AnswerKind::Math, &text, answer).correct;
        taken += begun.elapsed();
        if ours != (*expected == "right") {
            wrong.push(format!("{answer} | {completion}: we do not say {expected}"));
        }
        let agrees = Some(ours) == theirs.as_bool();
        agreed += usize::from(agrees);
        match (agrees, explanations.remove(&(*answer, *completion))) {
            (false, None) => wrong.push(format!(
                "{answer} | {completion}: we say {ours}, math-verify {theirs}, and no line of \
                 {explained_name} says why"
            )),
            (true, Some(_)) => wrong.push(format!(
                "{answer} | {completion}: both say {ours}; remove the explanation"
            )),
            _ => {}
        }
    }
    ensure!(seen >= 200 && seen == theirs.len(), "{seen} cases");
    for (answer, completion) in explanations.into_keys() {
        wrong.push(format!("{answer} | {completion}: explained, and no case"));
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    let stated = format!("{agreed} of {seen}");
    let text = std::fs::read_to_string(root.join("..").join(page))?;
    ensure!(
        text.contains(&stated),
        "{page} does not say {stated}; we took {taken:?}, math-verify {seconds} s of \
         processor time"
    );
    Ok(())
}
