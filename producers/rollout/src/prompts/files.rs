//! Tests of several files, other forms than lines, and columns that the settings name.

use std::path::PathBuf;

use super::*;

fn columns(named: &[(&str, &str)]) -> ColumnsConfig {
    let mut config = ColumnsConfig::default();
    for (key, column) in named {
        let place = match *key {
            "prompt" => &mut config.prompt,
            "answer" => &mut config.answer,
            "solution" => &mut config.solution,
            "id" => &mut config.id,
            "metadata" => &mut config.metadata,
            other => panic!("no key {other}"),
        };
        *place = Some((*column).to_owned());
    }
    config
}

/// Reads files of these rows, `0.jsonl` and so on.
fn read(files: &[&str], named: &[(&str, &str)]) -> Result<PromptSet, String> {
    let folder = tempfile::tempdir().unwrap();
    let write = |(number, rows): (usize, &&str)| {
        let path = folder.path().join(format!("{number}.jsonl"));
        std::fs::write(&path, rows).unwrap();
        path
    };
    let paths: Vec<PathBuf> = files.iter().enumerate().map(write).collect();
    PromptSet::load_all(&paths, &columns(named)).map_err(|error| error.to_string())
}

fn asked(set: &PromptSet) -> Vec<(&str, Option<&str>)> {
    let prompts = set.prompts().iter();
    prompts
        .map(|prompt| (prompt.text.as_str(), prompt.answer.as_deref()))
        .collect()
}

#[test]
fn published_parquet_files_are_read_by_their_layouts() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../infra/table/tests/golden");
    let gsm8k = PromptSet::load(&golden.join("gsm8k.parquet")).unwrap();
    assert_eq!(gsm8k.len(), 3);
    assert_eq!(gsm8k.prompts()[1].answer.as_deref(), Some("3"));
    assert!(gsm8k.notes().is_empty());
    let verl = PromptSet::load(&golden.join("verl.parquet")).unwrap();
    let second = &verl.prompts()[1];
    assert_eq!((second.form, second.line), (Form::Messages, 2));
    assert_eq!(second.answer.as_deref(), Some("3"));
    let metadata = [
        ("data_source", "mine/sums"),
        ("hint", "\"add\""),
        ("index", "1"),
        ("split", "train"),
    ];
    let metadata = metadata.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(second.metadata, BTreeMap::from(metadata));
    assert!(
        verl.notes()[0].contains("\"ability\" (3 rows)"),
        "{:?}",
        verl.notes()
    );
    // The same rows as lines have the same names.
    let row = r#"{"data_source": "mine/sums", "prompt": [{"role": "user", "content": "1+2="}],
        "reward_model": {"style": "rule", "ground_truth": "3"}}"#;
    let line = PromptSet::from_reader(Path::new("a.jsonl"), row.replace('\n', " ").as_bytes());
    assert_eq!(line.unwrap().prompts()[0].id, second.id);
    // Images are not read, and a note says so.
    let images = PromptSet::load(&golden.join("images.parquet")).unwrap();
    assert!(
        images.notes()[0].contains("\"images\""),
        "{:?}",
        images.notes()
    );
    let named = columns(&[("metadata", "images")]);
    let refused = PromptSet::load_all(&[golden.join("images.parquet")], &named);
    assert!(refused.unwrap_err().to_string().contains("binary"));
    assert_eq!(
        PromptSet::load(&golden.join("plain.jsonl.gz"))
            .unwrap()
            .len(),
        3
    );
}

#[test]
fn columns_of_a_layout_of_ones_own_are_named() {
    let rows = r#"{"task": "1+1=", "gold": {"final": "2", "by": {"n": 7}}, "answer": "no", "messages": 3, "uid": 4}
{"task": "1+2=", "gold": {"final": 3}, "a.b": 1, "uid": 5}"#;
    let named = [
        ("prompt", "task"),
        ("answer", "gold.final"),
        ("id", "uid"),
        ("metadata", "gold.by"),
    ];
    let set = read(&[rows], &named).unwrap();
    assert_eq!(asked(&set), [("1+1=", Some("2")), ("1+2=", Some("3"))]);
    assert_eq!(set.prompts()[1].id, "5");
    assert_eq!(set.prompts()[0].metadata["n"], "7");
    assert!(
        set.notes()[0].contains("from \"a.b\" (1 rows)"),
        "{:?}",
        set.notes()
    );
    // A column may have a dot in its name, and messages may be named too.
    let rows = r#"{"a.b": [{"role": "user", "content": "1="}], "worked": "so #### 1", "question": "x", "answer": "y"}"#;
    let set = read(&[rows], &[("prompt", "a.b"), ("solution", "worked")]).unwrap();
    assert_eq!(set.prompts()[0].form, Form::Messages);
    assert_eq!(set.prompts()[0].answer.as_deref(), Some("1"));
    // An answer that is named is no worked solution.
    let rows = r#"{"question": "1+1=", "answer": "so #### 2", "final": "two"}"#;
    assert_eq!(
        asked(&read(&[rows], &[("answer", "final")]).unwrap()),
        [("1+1=", Some("two"))]
    );
}

#[test]
fn a_named_column_that_no_row_has_is_refused() {
    let rows = r#"{"task": "1=", "answer": "1"}"#;
    let why = read(&[rows, rows], &[("prompt", "task"), ("answer", "final")]).unwrap_err();
    assert!(
        why.contains("0.jsonl and 1 more has the column \"final\""),
        "{why}"
    );
    assert!(
        why.contains("prompts.columns.answer") && why.contains("are answer, task"),
        "{why}"
    );
    // One row without it is a row without an answer.
    let rows = "{\"task\": \"1=\"}\n{\"task\": \"2=\", \"final\": \"2\"}";
    let set = read(&[rows], &[("prompt", "task"), ("answer", "final")]).unwrap();
    assert_eq!(asked(&set), [("1=", None), ("2=", Some("2"))]);
    assert!(set.require_answers().is_err());
}

#[test]
fn several_files_are_one_set_in_their_order() {
    let row = |id: &str, prompt: &str| {
        format!("{{\"id\": \"{id}\", \"prompt\": \"{prompt}\", \"answer\": \"1\"}}\n")
    };
    let (first, second) = (row("a", "1="), row("b", "2=") + &row("c", "3="));
    let set = read(&[&first, &second], &[]).unwrap();
    let places: Vec<_> = set
        .prompts()
        .iter()
        .map(|prompt| (prompt.file, prompt.line))
        .collect();
    assert_eq!(places, [(0, 1), (1, 1), (1, 2)]);
    assert_eq!(set.files().len(), 2);
    assert_ne!(set.files()[0].sha256, set.files()[1].sha256);
    // One id for two prompts names both files and lines.
    let why = read(&[&first, &(second + &row("a", "4="))], &[]).unwrap_err();
    assert!(
        why.contains("1.jsonl:3") && why.contains("line 1 of ") && why.contains("0.jsonl"),
        "{why}"
    );
    // Rows that are refused later, when the answer is needed, are named by their own file.
    let set = read(&[&first, "{\"prompt\": \"5=\"}"], &[]).unwrap();
    let why = set.require_answers().unwrap_err().to_string();
    assert!(why.contains("1.jsonl:1"), "{why}");
    assert!(read(&[&first, "\n"], &[]).unwrap_err().contains("1.jsonl"));
}
