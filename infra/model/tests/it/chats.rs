//! Tests of chat templates like those of published models, over a grid of chats, against what
//! transformers renders. `tests/python/chats.py` writes `rendered.jsonl`; the integration tests
//! compare that file with the installed transformers.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use vintage_model::{ChatTemplate, Messages};

#[test]
fn chats_are_rendered_as_transformers_renders_them() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/chats");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let chats = read("chats.tsv");
    let chats: BTreeMap<_, _> = chats
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .collect();
    let tokens = [
        ("bos_token", "<s>"),
        ("eos_token", "</s>"),
        ("pad_token", "<pad>"),
    ];
    let tokens: BTreeMap<_, _> = tokens
        .map(|(name, token)| (name.to_owned(), token.to_owned()))
        .into();
    let mut templates = BTreeMap::new();
    let mut wrong = Vec::new();
    let (mut same, mut refused) = (0, 0);
    for line in read("rendered.jsonl").lines() {
        let expected: Value = serde_json::from_str(line).unwrap();
        let name = expected["template"].as_str().unwrap();
        let chat = chats[expected["chat"].as_str().unwrap()];
        let template = templates.entry(name.to_owned()).or_insert_with(|| {
            let source = read(&format!("{name}.jinja"));
            ChatTemplate::new(&source, tokens.clone()).unwrap()
        });
        let rendered = Messages::from_json(chat).and_then(|chat| template.render(&chat, true));
        match (rendered, expected["text"].as_str()) {
            (Ok(ours), Some(theirs)) if ours == theirs => same += 1,
            (Err(_), None) => refused += 1,
            (Ok(ours), Some(theirs)) => {
                let lines = ours.split('\n').zip(theirs.split('\n'));
                let first = lines.enumerate().find(|(_, (ours, theirs))| ours != theirs);
                wrong.push(format!("{name}, {}: {first:?}", expected["chat"]));
            }
            (Ok(_), None) => wrong.push(format!("{name}, {}: only ours", expected["chat"])),
            (Err(why), _) => wrong.push(format!("{name}, {}: {why}", expected["chat"])),
        }
    }
    let shown = &wrong[..wrong.len().min(5)];
    assert!(
        wrong.is_empty(),
        "{} differ:\n{}",
        wrong.len(),
        shown.join("\n")
    );
    assert!(
        same > 400 && refused > 50,
        "{same} the same, {refused} refused by both"
    );
}
