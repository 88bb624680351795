//! Tests of what follows a completion, on templates like those of published models.

use std::collections::BTreeMap;
use std::path::Path;

use vintage_model::{ChatTemplate, Following, Messages, Rewriting};

fn template(name: &str) -> ChatTemplate {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/chats");
    let source = std::fs::read_to_string(folder.join(name).with_extension("jinja")).unwrap();
    let tokens = [
        ("bos_token", "<s>"),
        ("eos_token", "</s>"),
        ("pad_token", "<pad>"),
    ];
    let tokens = tokens.map(|(name, token)| (name.to_owned(), token.to_owned()));
    ChatTemplate::new(&source, BTreeMap::from(tokens)).unwrap()
}

/// Follows a completion of "What is 6*7?" with one message.
fn following(name: &str, completion: &str, role: &str) -> vintage_model::Result<Following> {
    let chat = serde_json::json!([
        {"role": "user", "content": "What is 6*7?"},
        {"role": "assistant", "content": completion},
        {"role": role, "content": "no"},
    ]);
    let chat = Messages::from_json(&chat.to_string()).unwrap();
    template(name).following(&chat, 1)
}

#[test]
fn what_follows_is_the_template_s_text_after_the_completion() {
    for (name, role, text) in [
        (
            "im-tools",
            "user",
            "<|im_end|>\n<|im_start|>user\nno<|im_end|>\n<|im_start|>assistant\n",
        ),
        (
            "im-tools",
            "tool",
            "<|im_end|>\n<|im_start|>user\n<result>\nno\n</result><|im_end|>\n<|im_start|>assistant\n",
        ),
        (
            "im-thinking",
            "tool",
            "<|im_end|>\n<|im_start|>user\n<result>\nno\n</result><|im_end|>\n<|im_start|>assistant\n",
        ),
        (
            "separator-turns",
            "user",
            "<|im_end|><|im_start|>user<|sep|>no<|im_end|><|im_start|>assistant<|sep|>",
        ),
        ("plain-words", "user", "</s>USER: no ASSISTANT:"),
        (
            "header-turns",
            "user",
            "<|turn|><|start|>user<|end|>\n\nno<|turn|><|start|>assistant<|end|>\n\n",
        ),
        (
            "ends-differ-on-last",
            "user",
            "</s>\n<|user|>\nno\n<|assistant|>\n",
        ),
    ] {
        for completion in ["41", " 41\n"] {
            let found = following(name, completion, role).unwrap();
            assert_eq!(found.text, text, "{name} {role}");
            assert_eq!(found.rewriting, None, "{name} {role} {completion:?}");
        }
    }
}

/// Reasoning is the usual reason for which a template writes the past anew.
#[test]
fn a_template_that_renders_the_past_anew_is_found_out() {
    let thought = "<think>\n6*7, that is\n</think>\n\n41";
    // A result of a tool leaves the thought in place, and a user's message removes it.
    let kept = following("im-thinking", thought, "tool").unwrap();
    assert_eq!(kept.rewriting, None);
    let dropped = following("im-thinking", thought, "user").unwrap();
    assert_eq!(dropped.rewriting, Some(Rewriting::Completion));
    assert_eq!(
        dropped.text,
        "<|im_end|>\n<|im_start|>user\nno<|im_end|>\n<|im_start|>assistant\n"
    );
    // This one opens a thought for the model, and has none in the history.
    let opened = following("reasoner", "that is\n</think>\n\n41", "user").unwrap();
    assert_eq!(opened.rewriting, Some(Rewriting::Before));
    assert!(
        opened
            .rewriting
            .unwrap()
            .to_string()
            .contains("before the completion")
    );
}

#[test]
fn earlier_turns_that_vanish_count_as_the_text_before() {
    let chat = serde_json::json!([
        {"role": "user", "content": "1"},
        {"role": "assistant", "content": "<think>\na\n</think>\n\nb"},
        {"role": "tool", "content": "2"},
        {"role": "assistant", "content": "c"},
        {"role": "user", "content": "3"},
    ]);
    let chat = Messages::from_json(&chat.to_string()).unwrap();
    let found = template("im-thinking").following(&chat, 3).unwrap();
    assert_eq!(found.rewriting, Some(Rewriting::Before));
}

#[test]
fn a_template_without_the_completion_is_refused() {
    let chat = Messages::from_json(
        r#"[{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"},
            {"role": "user", "content": "3"}]"#,
    );
    let chat = chat.unwrap();
    for source in [
        "{{ messages[-1].content }}",
        "{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}",
    ] {
        let template = ChatTemplate::new(source, BTreeMap::new()).unwrap();
        let message = template.following(&chat, 1).unwrap_err().to_string();
        assert!(message.contains("its end cannot be found"), "{message}");
    }
}
