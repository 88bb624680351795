//! Tests of the tokenizer as transformers loads it: special tokens, end tokens, tokens without a
//! row.

use std::path::Path;

use serde_json::{Value, json};
use vintage_model::{Messages, ModelFolder, ParamSet, Tokenizer};

use crate::folder::{digits, write};
use crate::models::config;

/// Opens a folder with a model of 14 rows and a tokenizer of 12 tokens. The template and the named
/// tokens are those that the chat is rendered with.
fn folder(dir: &Path, files: &[(&str, Value)]) -> vintage_model::Result<ModelFolder> {
    let config = config("llama", json!({"vocab_size": 14}));
    write(dir, "config.json", config.to_json());
    write(dir, "tokenizer.json", digits().to_json().unwrap());
    let params = ParamSet::init(&config, 3).unwrap();
    write(dir, "model.safetensors", params.to_safetensors().unwrap());
    for (name, content) in files {
        let text = content
            .as_str()
            .map_or_else(|| content.to_string(), str::to_owned);
        write(dir, name, text);
    }
    ModelFolder::open(dir)
}

fn opened(files: &[(&str, Value)]) -> ModelFolder {
    folder(tempfile::tempdir().unwrap().path(), files).unwrap()
}

fn refused(files: &[(&str, Value)]) -> String {
    let dir = tempfile::tempdir().unwrap();
    folder(dir.path(), files).unwrap_err().to_string()
}

#[test]
fn a_tokenizer_s_truncation_and_padding_are_off() {
    let text = "0123456789".repeat(4);
    let baked = [
        (
            "truncation",
            json!({"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}),
        ),
        (
            "padding",
            json!({"strategy": {"Fixed": 64}, "direction": "Left", "pad_to_multiple_of": null,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "<pad>"}),
        ),
    ];
    for (key, value) in baked {
        let mut file: Value = serde_json::from_str(&digits().to_json().unwrap()).unwrap();
        file[key] = value;
        let tokenizer = Tokenizer::from_json(file.to_string()).unwrap();
        let expected = digits().encode(&text).unwrap();
        assert_eq!(tokenizer.encode(&text).unwrap(), expected, "{key}");
        assert_eq!(tokenizer.encode_rendered(&text).unwrap(), expected, "{key}");
        // The saved file does not have them either.
        let saved: Value = serde_json::from_str(&tokenizer.to_json().unwrap()).unwrap();
        assert_eq!(saved[key], Value::Null);
    }
}

/// Precedence of the files as in transformers 5.23; `tests/it` compares with the installed version.
#[test]
fn special_tokens_are_those_of_the_file_that_wins() {
    let config = |keys: Value| ("tokenizer_config.json", keys);
    let map = |keys: Value| ("special_tokens_map.json", keys);
    let object = |token: &str| json!({"content": token, "lstrip": false, "rstrip": true});
    let decoder = json!({"1": {"content": "<eos>", "special": true}});
    let cases = [
        (vec![config(json!({"eos_token": "<eos>"}))], "|<eos>"),
        (
            vec![map(
                json!({"bos_token": "<pad>", "eos_token": object("<eos>")}),
            )],
            "<pad>|<eos>",
        ),
        (
            vec![
                config(json!({"bos_token": "<pad>", "eos_token": "<eos>"})),
                map(json!({"eos_token": "7"})),
            ],
            "<pad>|7",
        ),
        (
            vec![
                config(json!({"bos_token": "<pad>", "eos_token": "<eos>"})),
                map(json!({"bos_token": null})),
            ],
            "|<eos>",
        ),
        (
            vec![
                config(json!({"eos_token": "<eos>", "added_tokens_decoder": decoder})),
                map(json!({"bos_token": "<pad>", "eos_token": "7"})),
            ],
            "|<eos>",
        ),
        (
            vec![config(
                json!({"bos_token": object("<pad>"), "add_bos_token": true}),
            )],
            "<pad>|",
        ),
    ];
    for (mut files, expected) in cases {
        let shown = format!("{files:?}");
        files.push((
            "chat_template.jinja",
            json!("{{ bos_token }}|{{ eos_token }}"),
        ));
        let chat = opened(&files).chat.unwrap();
        let messages = Messages::from_json(r#"[{"role": "user", "content": "1"}]"#).unwrap();
        assert_eq!(chat.render(&messages, true).unwrap(), expected, "{shown}");
    }
    let message = refused(&[("special_tokens_map.json", json!({"eos_token": 7}))]);
    assert!(
        message.contains("special_tokens_map.json: key eos_token"),
        "{message}"
    );
    let message = refused(&[("special_tokens_map.json", json!("{"))]);
    assert!(
        message.contains("special_tokens_map.json: no valid JSON"),
        "{message}"
    );
}

#[test]
fn tokens_that_only_the_files_beside_it_have_get_the_next_ids() {
    let ids = |files: &[(&str, Value)], text: &str| {
        let folder = opened(files);
        let notes = folder.notes().join("\n");
        (folder.tokenizer.encode(text).unwrap(), notes)
    };
    let named = [(
        "tokenizer_config.json",
        json!({"bos_token": "<s>", "additional_special_tokens": ["<x>"]}),
    )];
    let (found, notes) = ids(&named, "<s>1<x>");
    assert_eq!(found, [12, 3, 13]);
    assert!(
        notes.contains("\"<s>\", \"<x>\"") && notes.contains("not in tokenizer.json"),
        "{notes}"
    );
    let added = [("added_tokens.json", json!({"<y>": 13, "<x>": 12}))];
    assert_eq!(ids(&added, "<x>1<y>").0, [12, 3, 13]);
    // A token's stated properties replace the existing ones, and a name makes it special.
    let stated = [(
        "tokenizer_config.json",
        json!({"eos_token": "<eos>", "added_tokens_decoder": {"1": {"content": "<eos>", "lstrip": true,
            "rstrip": false, "normalized": false, "single_word": false, "special": false}}}),
    )];
    let folder = opened(&stated);
    assert_eq!(folder.tokenizer.decode(&[3, 1]).unwrap(), "1");
    // Saving and opening again preserves the special tokens.
    let dir = tempfile::tempdir().unwrap();
    let folder = opened(&named);
    folder.save(dir.path()).unwrap();
    let again = ModelFolder::open(dir.path()).unwrap();
    assert_eq!(again.files().unwrap(), folder.files().unwrap());
    assert_eq!(again.tokenizer.encode("<s>1<x>").unwrap(), [12, 3, 13]);
    let split = [(
        "tokenizer_config.json",
        json!({"split_special_tokens": true}),
    )];
    let error = opened(&split)
        .tokenizer
        .encode("<eos>")
        .unwrap_err()
        .to_string();
    assert!(error.contains("'<'"), "taken for plain text: {error}");
}

#[test]
fn every_file_that_names_an_end_is_asked() {
    let generation = |ids: Value| ("generation_config.json", json!({"eos_token_id": ids}));
    let config = |token: &str| ("tokenizer_config.json", json!({"eos_token": token}));
    let map = |token: &str| ("special_tokens_map.json", json!({"eos_token": token}));
    let cases = [
        (vec![generation(json!([1, 0]))], vec![1, 0], 0),
        (vec![generation(json!(1)), config("<eos>")], vec![1], 0),
        (vec![config("<eos>")], vec![1], 0),
        (vec![generation(json!(0)), config("<eos>")], vec![0, 1], 1),
        (
            vec![generation(json!(0)), config("<eos>"), map("9")],
            vec![0, 1, 11],
            2,
        ),
        // A token without a row in the model can never be sampled.
        (
            vec![generation(json!(0)), config("<none>"), map("<eos>")],
            vec![0, 1],
            1,
        ),
    ];
    for (files, expected, noted) in cases {
        let folder = opened(&files);
        assert_eq!(folder.tokenizer.eos_ids(), expected, "{files:?}");
        assert_eq!(folder.config.eos_token_id, expected, "{files:?}");
        let notes = folder
            .notes()
            .iter()
            .filter(|note| note.contains("ends a completion"));
        assert_eq!(notes.count(), noted, "{files:?}: {:?}", folder.notes());
    }
    let folder = opened(&[generation(json!(0)), config("<eos>")]);
    assert!(
        folder.notes()[0].contains("\"<eos>\" (id 1)"),
        "{:?}",
        folder.notes()
    );
    assert_eq!(folder.generation_eos_ids(), [0]);
    let message = refused(&[generation(json!([1, 14]))]);
    assert!(
        message.contains("generation_config.json: key eos_token_id: id 14"),
        "{message}"
    );
    let message = refused(&[generation(json!("</s>"))]);
    assert!(
        message.contains("generation_config.json: key eos_token_id"),
        "{message}"
    );
}

#[test]
fn an_added_token_without_a_row_is_named_where_a_text_has_it() {
    let config = config("llama", json!({"vocab_size": 12}));
    let mut tokenizer: Value = serde_json::from_str(&digits().to_json().unwrap()).unwrap();
    let mut pad = tokenizer["added_tokens"][0].clone();
    (pad["id"], pad["content"]) = (json!(12), json!("[PAD]"));
    tokenizer["added_tokens"].as_array_mut().unwrap().push(pad);
    let tokenizer = Tokenizer::from_json(tokenizer.to_string()).unwrap();
    let params = ParamSet::init(&config, 3).unwrap();
    let folder = ModelFolder::new(config, tokenizer, params).unwrap();
    assert_eq!(folder.tokenizer.encode("12").unwrap(), [3, 4]);
    let [note] = folder.notes() else {
        panic!("{:?}", folder.notes())
    };
    assert!(
        note.contains("embedding (1)") && note.contains("\"[PAD]\" (id 12)"),
        "{note}"
    );
    for text in [
        folder.tokenizer.encode("1[PAD]"),
        folder.tokenizer.encode_rendered("1[PAD]"),
    ] {
        let message = text.unwrap_err().to_string();
        let parts = [
            "\"[PAD]\" (id 12)",
            "embedding of 12",
            "resize_token_embeddings",
        ];
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    }
}
