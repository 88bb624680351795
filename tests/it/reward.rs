//! `vintage reward test`: built-in reward, a judge, a model, and what cannot be tried.

use anyhow::{Result, ensure};
use serde_json::Value;
use vintage_tests::{Ended, place, run, vintage};

use crate::small;

fn tested(folder: &std::path::Path, arguments: &[&str]) -> Result<Ended> {
    let mut command = vintage(["reward", "test", "--output", "json", "--count", "2"]);
    command.arg("--prompts").arg(small::prompts(folder)?);
    command.args(arguments);
    run(command)
}

/// Returns what was judged of a prompt, as origin, completion and reward.
fn judged(trial: &Value, prompt: usize) -> Vec<(&str, &str, Option<f64>)> {
    let all = trial["prompts"][prompt]["completions"].as_array();
    all.into_iter()
        .flatten()
        .map(|one| {
            let text = |key: &str| one[key].as_str().unwrap_or_default();
            (text("origin"), text("completion"), one["reward"].as_f64())
        })
        .collect()
}

#[test]
fn answers_and_given_completions_are_judged_by_the_built_in_reward() -> Result<()> {
    let (folder, _) = place()?;
    let trial = tested(folder.path(), &["--completion", "1"])?.json()?;
    ensure!(trial["prompts"][1]["prompt"] == "1=", "{trial}");
    let expected = [
        ("known_answer", "1", Some(1.0)),
        ("empty", "", Some(0.0)),
        ("given", "1", Some(1.0)),
    ];
    assert_eq!(judged(&trial, 1), expected);
    assert_eq!(judged(&trial, 0)[2], ("given", "1", Some(0.0)));
    assert_eq!(
        (&trial["failed"], &trial["unrewarded_answers"]),
        (&0.into(), &0.into())
    );
    Ok(())
}

#[test]
fn a_judge_shows_its_parts_and_where_it_gives_no_reward() -> Result<()> {
    let (folder, out) = place()?;
    let script = folder.path().join("judge.py");
    std::fs::write(
        &script,
        "import json, sys\n\
         for line in sys.stdin:\n    \
             item = json.loads(line)\n    \
             score = float('nan') if item['completion'] == 'odd' else 0.5\n    \
             print(json.dumps({'id': item['id'], 'reward': score, 'parts': {'same': 0.5}}), flush=True)\n",
    )?;
    let command = format!("rollout.reward.command=['python3', '{}']", script.display());
    let ended = tested(folder.path(), &["--completion", "odd", "--set", &command])?;
    assert_eq!(ended.status.code(), Some(3), "{}", ended.stderr);
    let trial: Value = serde_json::from_str(&ended.stdout)?;
    assert_eq!(judged(&trial, 0)[0], ("known_answer", "0", Some(0.5)));
    assert_eq!(trial["prompts"][0]["completions"][0]["parts"]["same"], 0.5);
    let failure = trial["prompts"][0]["completions"][2]["failure"].as_str();
    ensure!(
        failure.is_some_and(|why| why.contains("non_finite")),
        "{trial}"
    );
    assert_eq!(
        (&trial["failed"], &trial["unrewarded_answers"]),
        (&2.into(), &2.into())
    );

    let misspelt = command.replace("judge.py", "jugde.py");
    let ended = tested(folder.path(), &["--set", &misspelt])?;
    assert_eq!(ended.status.code(), Some(2), "{}", ended.stderr);
    ensure!(ended.stderr.contains("jugde.py"), "{}", ended.stderr);
    ensure!(!out.exists(), "something was written");
    Ok(())
}

#[test]
fn a_run_samples_completions_of_its_own_prompts() -> Result<()> {
    let (folder, out) = place()?;
    small::finished(small::digits(folder.path(), &out)?)?;
    let mut command = vintage(["reward", "test", "--output", "json", "--samples", "3"]);
    command.arg(&out);
    let trial = run(command)?.json()?;
    let prompts = trial["prompts"].as_array().map_or(0, Vec::len);
    assert_eq!(prompts, 3, "{trial}");
    let tried = judged(&trial, 2);
    assert_eq!(tried.len(), 2 + 3, "{trial}");
    ensure!(tried[2..].iter().all(|(origin, _, reward)| {
        *origin == "sampled" && reward.is_some_and(|reward| [0.0, 1.0].contains(&reward))
    }));
    // The same seed gives the same completions.
    let mut again = vintage(["reward", "test", "--output", "json", "--samples", "3"]);
    again.arg(&out);
    assert_eq!(run(again)?.json()?, trial);
    Ok(())
}

#[test]
fn a_chat_needs_the_template_of_a_model() -> Result<()> {
    let (folder, _) = place()?;
    let chats = folder.path().join("chats.jsonl");
    let row = r#"{"prompt":[{"role":"user","content":"2+2?"}],"answer":"4"}"#;
    std::fs::write(&chats, format!("{row}\n"))?;
    let mut command = vintage(["reward", "test", "--prompts"]);
    command.arg(&chats);
    let ended = run(command)?;
    assert_eq!(ended.status.code(), Some(2), "{}", ended.stderr);
    ensure!(
        ended.stderr.contains("chats.jsonl:1") && ended.stderr.contains("template"),
        "{}",
        ended.stderr
    );
    Ok(())
}
