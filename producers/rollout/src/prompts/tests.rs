use std::{io::Cursor, path::Path};

use super::{Form, Prompt, PromptSet};

fn read(text: &str) -> Result<PromptSet, String> {
    PromptSet::from_reader(Path::new("tasks.jsonl"), Cursor::new(text.to_owned()))
        .map_err(|error| error.to_string())
}

fn only(text: &str) -> Prompt {
    let set = read(text).unwrap();
    assert_eq!(set.len(), 1);
    set.prompts()[0].clone()
}

#[test]
fn both_layouts_are_read() {
    let own = only(
        r#"{"prompt": "2+2=", "answer": "4", "id": "a", "metadata": {"level": 3, "from": "x"}}"#,
    );
    assert_eq!((own.id.as_str(), own.text.as_str()), ("a", "2+2="));
    assert_eq!(own.answer.as_deref(), Some("4"));
    assert_eq!(own.metadata["level"], "3");
    assert_eq!(own.metadata["from"], "x");

    let published = only(concat!(
        r#"{"question": "Natalia sold clips to 48 friends. How many?", "#,
        r#""answer": "She sold 48/2 = <<48/2=24>>24.\n48+24 = 1,072 clips.\n#### 1,072"}"#
    ));
    assert_eq!(published.answer.as_deref(), Some("1,072"));
    assert_eq!(
        published.text,
        "Natalia sold clips to 48 friends. How many?"
    );

    assert_eq!(
        only(r#"{"prompt": "7=", "answer": 7}"#).answer.as_deref(),
        Some("7")
    );
    assert_eq!(only(r#"{"prompt": "7=", "answer": null}"#).answer, None);
    assert_eq!(only("\u{feff}{\"prompt\": \"7=\"}\r\n\n  \n").text, "7=");
}

#[test]
fn ids_stay_when_the_file_is_reordered() {
    let (first, second) = (
        r#"{"prompt": "1=", "answer": "1"}"#,
        r#"{"prompt": "2=", "answer": "2"}"#,
    );
    let forward = read(&format!("{first}\n{second}\n")).unwrap();
    let backward = read(&format!("{second}\n\n{first}")).unwrap();
    assert_eq!(forward.prompts()[0].id, backward.prompts()[1].id);
    assert_ne!(forward.prompts()[0].id, forward.prompts()[1].id);
    assert_eq!(forward.prompts()[0].id.len(), 16);
    // The answer is part of the prompt's identity.
    assert_ne!(
        only(r#"{"prompt": "1=", "answer": "2"}"#).id,
        forward.prompts()[0].id
    );
}

#[test]
fn refusals_name_place_and_remedy() {
    let cases = [
        (
            "{\"prompt\": \"1=\"}\n{oops}\n",
            "tasks.jsonl:2",
            "not JSON",
        ),
        ("[1]", "tasks.jsonl:1", "not a JSON object"),
        (
            r#"{"text": "1="}"#,
            "tasks.jsonl:1",
            "nor \"problem\" nor \"conversations\" (keys: text)",
        ),
        (
            r#"{"prompt": 1}"#,
            "tasks.jsonl:1",
            "a number; write a string",
        ),
        (r#"{"prompt": ""}"#, "tasks.jsonl:1", "empty"),
        (
            r#"{"prompt": "1=", "answer": [1]}"#,
            "tasks.jsonl:1",
            "a list",
        ),
        (
            r#"{"prompt": "1=", "metadata": "x"}"#,
            "tasks.jsonl:1",
            "write an object",
        ),
        (
            r#"{"question": "1?", "answer": "one"}"#,
            "tasks.jsonl:1",
            "#### <result>",
        ),
        (
            r#"{"question": "1?", "answer": "one ####  "}"#,
            "tasks.jsonl:1",
            "#### <result>",
        ),
        (
            "{\"prompt\": \"1=\", \"id\": \"a\"}\n{\"prompt\": \"2=\", \"id\": \"a\"}",
            "tasks.jsonl:2",
            "another prompt in line 1",
        ),
        (r#"{"messages": "1?"}"#, "tasks.jsonl:1", "a string"),
        (r#"{"messages": []}"#, "tasks.jsonl:1", "\"role\": \"user\""),
        (
            r#"{"messages": [{"content": "1?"}]}"#,
            "tasks.jsonl:1",
            "message 0 has no \"role\"",
        ),
        (
            r#"{"messages": [{"role": "user", "content": "1?"}], "prompt": "1"}"#,
            "tasks.jsonl:1",
            "keep one",
        ),
        ("\n\n", "tasks.jsonl", "no prompts"),
    ];
    for (text, place, remedy) in cases {
        let message = read(text).unwrap_err();
        assert!(message.contains(place), "{text}: {message}");
        assert!(message.contains(remedy), "{text}: {message}");
    }
}

#[test]
fn a_row_without_an_answer_is_refused_only_where_one_is_needed() {
    let set = read("{\"prompt\": \"1=\", \"answer\": \"1\"}\n{\"prompt\": \"2=\"}\n").unwrap();
    let message = set.require_answers().unwrap_err().to_string();
    assert!(message.contains("tasks.jsonl:2"), "{message}");
    assert!(message.contains("1 of 2 rows"), "{message}");
    assert!(message.contains("reward.command"), "{message}");
}

#[test]
fn an_unreadable_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("none.jsonl");
    let message = PromptSet::load(&missing).unwrap_err().to_string();
    assert!(message.contains("none.jsonl"), "{message}");
    // A folder can be opened but not read.
    let message = PromptSet::load(folder.path()).unwrap_err().to_string();
    assert!(message.contains("prompts are JSON lines"), "{message}");

    let binary = folder.path().join("latin1.jsonl");
    std::fs::write(&binary, b"{\"prompt\": \"1=\"}\n{\"prompt\": \"\xe9\"}\n").unwrap();
    let message = PromptSet::load(&binary).unwrap_err().to_string();
    assert!(
        message.contains("latin1.jsonl:2") && message.contains("UTF-8"),
        "{message}"
    );
}

#[test]
fn messages_become_what_the_template_makes_of_them() {
    let rows = concat!(
        r#"{"messages": [{"role": "user", "content": "1?"}], "answer": 1}"#,
        "\n",
        r#"{"prompt": "2=", "answer": "2"}"#,
    );
    let rendered = |mut set: PromptSet| {
        set.render(|messages| Ok(format!("<{messages}>"))).unwrap();
        // Rendered text is not rendered again.
        set.render(|_| Err("twice".to_owned())).unwrap();
        let prompts = set.prompts().iter();
        prompts
            .map(|prompt| (prompt.form, prompt.text.clone()))
            .collect::<Vec<_>>()
    };
    let chat = |content: &str| format!(r#"<[{{"role":"user","content":"{content}"}}]>"#);
    let first = (Form::Rendered, chat("1?"));
    let plain = read(rows).unwrap();
    assert_eq!(plain.prompts()[0].answer.as_deref(), Some("1"));
    let plain_ids: Vec<_> = plain.prompts().iter().map(|p| p.id.clone()).collect();
    assert_eq!(
        rendered(plain.clone()),
        [first.clone(), (Form::Plain, "2=".to_owned())]
    );
    let chats = plain.as_chats();
    let ids: Vec<_> = chats.prompts().iter().map(|p| p.id.clone()).collect();
    assert_eq!(ids, plain_ids, "a prompt asked as a chat keeps its name");
    assert_eq!(
        rendered(chats.clone()),
        [first, (Form::Rendered, chat("2="))]
    );
    let mut chats = chats;
    let refused = chats.render(|_| Err("no template".to_owned())).unwrap_err();
    let message = refused.to_string();
    assert!(
        message.contains("tasks.jsonl:1") && message.contains("no template"),
        "{message}"
    );
}
