//! Mathematical answers, judged by us and by PyPI's math-verify in one run.

use std::{
    collections::BTreeMap,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use vintage_tests::{python, run};
use vintage_verify::{AnswerKind, is_correct};

/// Lines of a table below its names, in fields.
fn table(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().skip(1).map(|line| line.split('\t').collect())
}

/// Both must say what the table expects, or an explanation must say why math-verify does not; the
/// page of measurements states how often they agree.
#[test]
fn we_and_math_verify_agree_but_for_what_is_explained() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let golden = root.join("../producers/verify/tests/golden");
    let read = |name: &str| -> Result<String> {
        let path = golden.join(name);
        std::fs::read_to_string(&path).with_context(|| path.display().to_string())
    };
    let (cases, explained) = (read("math.tsv")?, read("math-verify.tsv")?);
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
        .arg(golden.join("math.tsv"));
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
        let begun = Instant::now();
        let ours = is_correct(AnswerKind::Math, completion, answer).correct;
        taken += begun.elapsed();
        if ours != (*expected == "right") {
            wrong.push(format!("{answer} | {completion}: we do not say {expected}"));
        }
        let agrees = Some(ours) == theirs.as_bool();
        agreed += usize::from(agrees);
        match (agrees, explanations.remove(&(*answer, *completion))) {
            (false, None) => wrong.push(format!(
                "{answer} | {completion}: we say {ours}, math-verify {theirs}, and no line of \
                 math-verify.tsv says why"
            )),
            (true, Some(_)) => wrong.push(format!(
                "{answer} | {completion}: both say {ours}; remove the explanation"
            )),
            _ => {}
        }
    }
    ensure!(seen >= 300 && seen == theirs.len(), "{seen} cases");
    for (answer, completion) in explanations.into_keys() {
        wrong.push(format!("{answer} | {completion}: explained, and no case"));
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    let stated = format!("{agreed} of {seen}");
    let page = std::fs::read_to_string(root.join("../docs/measurements.md"))?;
    ensure!(
        page.contains(&stated),
        "docs/measurements.md does not say {stated}; we took {taken:?}, math-verify {seconds} s of \
         processor time"
    );
    Ok(())
}
