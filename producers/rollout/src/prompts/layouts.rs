//! Tests of rows in the published layouts: the prompt, the answer, or the key to change.

use std::{io::Cursor, path::Path};

use super::{Form, PromptSet};

fn read(text: &str) -> Result<PromptSet, String> {
    PromptSet::from_reader(Path::new("tasks.jsonl"), Cursor::new(text.to_owned()))
        .map_err(|error| error.to_string())
}

const USER: &str = r#"[{"role":"user","content":"2+2?"}]"#;

#[test]
fn published_layouts_are_understood() {
    let chat = Form::Messages;
    let cases = [
        // TRL's: prompt only, as text or messages; the answer has the name that its recipes use.
        (
            r#"{"prompt": "2+2?", "ground_truth": 4}"#,
            Form::Plain,
            "2+2?",
            "4",
        ),
        (
            r#"{"prompt": [{"role": "user", "content": "2+2?"}], "solution": "$\\boxed{4}$"}"#,
            chat,
            USER,
            "4",
        ),
        (
            r#"{"prompt": [{"role": "user", "content": "2+2?"}],
                "completion": [{"role": "assistant", "content": "So\n#### 4"}]}"#,
            chat,
            USER,
            "4",
        ),
        // verl's, which DAPO's data sets share.
        (
            r#"{"data_source": "x/y", "prompt": [{"role": "user", "content": "2+2?"}], "ability": "MATH",
                "reward_model": {"ground_truth": "4", "style": "rule"}, "extra_info": {"index": 7}}"#,
            chat,
            USER,
            "4",
        ),
        // OpenR1's: the whole conversation is stored beside the problem.
        (
            r#"{"problem": "2+2?", "solution": "It is \\boxed{4}.", "answer": "4", "uuid": "u",
                "messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]}"#,
            Form::Plain,
            "2+2?",
            "4",
        ),
        // MATH's, and data sets with its columns.
        (
            r#"{"problem": "2+2?", "solution": "We add: $2+2=\\boxed{4}$.", "level": "Level 1"}"#,
            Form::Plain,
            "2+2?",
            "4",
        ),
        // GSM8K's.
        (
            r#"{"question": "2+2?", "answer": "<<2+2=4>>4\n#### 4"}"#,
            Form::Plain,
            "2+2?",
            "4",
        ),
        (
            r#"{"question": "2+2?", "answer": 4}"#,
            Form::Plain,
            "2+2?",
            "4",
        ),
        // ShareGPT's.
        (
            r#"{"conversations": [{"from": "human", "value": "2+2?"}], "answer": "4"}"#,
            chat,
            USER,
            "4",
        ),
        // Tables store null where a row has no value.
        (
            r#"{"messages": null, "prompt": "2+2?", "answer": "4", "tools": null, "id": null}"#,
            Form::Plain,
            "2+2?",
            "4",
        ),
    ];
    for (row, form, text, answer) in cases {
        let set = read(&row.replace('\n', " ")).unwrap();
        let prompt = &set.prompts()[0];
        assert_eq!((prompt.form, prompt.text.as_str()), (form, text), "{row}");
        assert_eq!(prompt.answer.as_deref(), Some(answer), "{row}");
    }
    let verl = read(&cases[3].0.replace('\n', " ")).unwrap();
    let metadata = &verl.prompts()[0].metadata;
    assert_eq!(
        (metadata["data_source"].as_str(), metadata["index"].as_str()),
        ("x/y", "7")
    );
    assert!(
        verl.notes()[0].contains("\"ability\" (1 rows)"),
        "{:?}",
        verl.notes()
    );
}

#[test]
fn what_cannot_be_understood_is_refused_with_the_key_to_change() {
    let cases = [
        (
            r#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}"#,
            "\"messages\" end with what the assistant says (message 1)",
        ),
        (
            r#"{"prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}"#,
            "\"prompt\" end with what the assistant says",
        ),
        (
            r#"{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}"#,
            "\"continue_final_message\": true",
        ),
        (
            r#"{"conversations": [{"from": "human", "value": "a"}, {"from": "observation", "value": "b"}]}"#,
            "message 1 is from \"observation\"",
        ),
        (
            r#"{"messages": [{"role": "user", "content": "a"}], "continue_final_message": true}"#,
            "do not end with what the assistant says",
        ),
        (
            r#"{"prompt": "a", "answer": "1", "ground_truth": "2"}"#,
            "\"answer\" and \"ground_truth\" differ",
        ),
        (
            r#"{"prompt": "a", "continue_final_message": true}"#,
            "its \"prompt\" is plain text",
        ),
        (
            r#"{"prompt": "a", "reward_model": "rule"}"#,
            "\"reward_model\" is a string",
        ),
        (
            r#"{"prompt": "a", "reward_model": {"ground_truth": ["4"]}}"#,
            "\"reward_model.ground_truth\" is a list",
        ),
        (
            r#"{"problem": "a", "solution": "It is four."}"#,
            "\"solution\" marks no result",
        ),
        (
            r#"{"prompt": "a", "answer": true}"#,
            "\"answer\" is a boolean",
        ),
        (
            r#"{"prompt": "a", "answer": "1", "answer": "2"}"#,
            "\"answer\" twice",
        ),
        (
            r#"{"messages": [{"role": "user"}], "tools": {"name": "f"}}"#,
            "\"tools\" is an object",
        ),
        (
            r#"{"messages": [{"role": "user"}], "chat_template_kwargs": [1]}"#,
            "\"chat_template_kwargs\" is a list",
        ),
        (
            r#"{"messages": [{"role": "user"}], "tools": "not json"}"#,
            "\"tools\" is a string that is no JSON; write a list of objects",
        ),
        (
            r#"{"messages": [{"role": "user"}], "tools": "{\"name\": \"f\"}"}"#,
            "\"tools\" is a string that holds an object",
        ),
        (
            r#"{"prompt": "a", "system": "Be brief.", "answer": "1"}"#,
            "it has \"system\", which the model would not be shown: write both as \"messages\"",
        ),
        (
            r#"{"question": "a", "system_prompt": "Be brief.", "answer": "1"}"#,
            "it has \"system_prompt\"",
        ),
        (
            r#"{"conversations": [{"from": "human", "value": "a"}], "system": "Be brief."}"#,
            "put it in front of its \"conversations\" as a message of the role \"system\"",
        ),
        (
            r#"{"prompt": "a", "extra_info": {"index": 1}, "metadata": {"index": 2}}"#,
            "\"extra_info\" and \"metadata\" give \"index\" two values",
        ),
        (
            r#"{"prompt": "a", "data_source": "x", "metadata": {"data_source": "y"}}"#,
            "\"data_source\" and \"metadata\" give \"data_source\" two values",
        ),
        (
            r#"{"prompt": "a", "metadata": {"index": 1, "index": 2}}"#,
            "\"metadata\" has \"index\" twice",
        ),
        (
            r#"{"question": "a?", "choices": ["x", "y"], "answer": 1}"#,
            "its answer \"1\" reads as the place of one of its 2 \"choices\"",
        ),
        (
            r#"{"prompt": "a?", "options": [2, 1, 0], "answer": 2}"#,
            "as the place of one of its 3 \"options\"",
        ),
        (
            r#"{"prompt": "a?", "choices": {"label": ["A", "B"], "text": ["x", "y"]}, "answer": "B"}"#,
            "its letter where the prompt shows the choices",
        ),
        (
            r#"{"prompts": "a", "answer": "1"}"#,
            "is one meant as \"prompt\"?",
        ),
        (
            r#"{"prompt": "a", "answer": "1"},"#,
            "take the comma at its end away",
        ),
        (r#"[{"prompt": "a", "answer": "1"}]"#, "jq -c '.[]' FILE"),
        ("{\n \"prompt\": \"a\"\n}", "jq -c . FILE"),
        ("7", "not a JSON object"),
        (
            r#"{"prompt": "1+1=", "question": "9+9=", "answer": "2"}"#,
            "\"prompt\" and its \"question\" ask different things",
        ),
        (
            r#"{"prompt": "a", "metadata": {"slot": "mine"}}"#,
            "\"metadata\" has the key \"slot\"",
        ),
        (
            r#"{"prompt": "a", "extra_info": {"reference_answer": "1"}}"#,
            "\"extra_info\" has the key \"reference_answer\"",
        ),
        (
            r#"{"prompt": "\ud800", "answer": "1"}"#,
            "\"prompt\" is no text",
        ),
    ];
    for (row, why) in cases {
        let message = read(row).unwrap_err();
        assert!(message.contains("tasks.jsonl:1"), "{row}: {message}");
        assert!(message.contains(why), "{row}: {message}");
    }
}

#[test]
fn what_is_said_twice_alike_and_answers_that_are_a_choice_are_taken() {
    let system = r#"{"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "a"}], "system": "Be brief."}"#;
    for row in [
        system,
        r#"{"prompt": "a", "system": "", "system_prompt": null}"#,
        r#"{"prompt": "a", "extra_info": {"index": 1}, "metadata": {"index": 1}}"#,
        r#"{"prompt": "a? (A) x (B) y", "choices": ["x", "y"], "answer": "B"}"#,
        r#"{"prompt": "a?", "choices": ["x", "y"], "answer": "y"}"#,
        r#"{"prompt": "a?", "choices": ["3", "1"], "answer": "1"}"#,
        r#"{"prompt": "a?", "choices": [0, 1], "answer": 1}"#,
        r#"{"question": "a?", "choices": [18, 20], "answer": 20}"#,
        r#"{"prompt": "a?", "choices": null, "answer": 1}"#,
    ] {
        let set = read(row).unwrap();
        assert_eq!(set.len(), 1, "{row}");
        let notes = set.notes().join("\n");
        assert!(!notes.contains("system"), "{row}: {notes}");
    }
}

#[test]
fn numbers_and_keys_stay_as_they_are_written() {
    let answer = |number: &str| {
        let set = read(&format!(
            "{{\"prompt\": \"a\", \"answer\": {number}, \"metadata\": {{\"x\": {number}}}}}"
        ));
        let prompt = set.unwrap().prompts()[0].clone();
        assert_eq!(prompt.metadata["x"], number);
        prompt.answer.unwrap()
    };
    for number in ["0.10", "1e400", "12345678901234567890123", "-0", "1E5"] {
        assert_eq!(answer(number), number);
    }
    let row = r#"{"messages": [{"role": "user", "content": "a b"}, {"role": "assistant", "tool_calls": [{"z": 1.0, "a": {"y": 2}}]}, {"role": "tool", "content": "1"}], "answer": "1"}"#;
    assert_eq!(
        read(row).unwrap().prompts()[0].text,
        r#"[{"role":"user","content":"a b"},{"role":"assistant","tool_calls":[{"z":1.0,"a":{"y":2}}]},{"role":"tool","content":"1"}]"#
    );
}

#[test]
fn what_a_template_is_given_goes_with_the_chat() {
    let given = r#""tools": [{"name": "f"}], "chat_template_kwargs": {"enable_thinking": false}, "continue_final_message": false"#;
    let shown = |set: &mut PromptSet| {
        set.render(|chat| Ok(chat.to_owned()))
            .map_err(|error| error.to_string())?;
        Ok::<_, String>(set.prompts()[0].text.clone())
    };
    let expected = format!(
        r#"{{"messages":{USER},"tools":[{{"name":"f"}}],"chat_template_kwargs":{{"enable_thinking":false}}}}"#
    );
    let mut chat = read(&format!(r#"{{"messages": {USER}, {given}}}"#)).unwrap();
    assert_eq!(shown(&mut chat).unwrap(), expected);
    let plain = read(&format!(r#"{{"prompt": "2+2?", {given}}}"#)).unwrap();
    assert_eq!(shown(&mut plain.clone().as_chats()).unwrap(), expected);
    let refused = shown(&mut plain.clone()).unwrap_err();
    assert!(
        refused.contains("\"tools\"") && refused.contains("prompts.chat = true"),
        "{refused}"
    );
    // Other template inputs make another chat, and so another prompt.
    assert_ne!(
        chat.prompts()[0].id,
        read(&format!(r#"{{"messages": {USER}}}"#))
            .unwrap()
            .prompts()[0]
            .id
    );
    let in_text =
        r#"{"messages": [{"role": "user", "content": "2+2?"}], "tools": "[{\"name\": \"f\"}]"}"#;
    assert!(
        shown(&mut read(in_text).unwrap())
            .unwrap()
            .contains(r#""tools":[{"name":"f"}]"#)
    );
    let prefilled = r#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "It is "}], "continue_final_message": true}"#;
    let text = shown(&mut read(prefilled).unwrap()).unwrap();
    assert!(
        text.ends_with(r#""continue_final_message":true}"#),
        "{text}"
    );
}

#[test]
fn bad_rows_are_counted_and_the_first_ones_named() {
    let good = "{\"prompt\": \"1=\", \"answer\": \"1\"}\n";
    let rows = format!("{good}{{oops}}\n{good}{{\"prompt\": \"\"}}\n[]\n7\n8\n{good}");
    let message = read(&rows).unwrap_err();
    for part in [
        "tasks.jsonl:2: it is not JSON",
        "5 of 8 rows",
        "line 4: its prompt is empty",
        "line 6",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert!(!message.contains("line 7"), "{message}");
    let mut set = read(&format!(
        "{{\"messages\": {USER}}}\n{{\"messages\": {USER}}}\n{good}"
    ))
    .unwrap();
    let message = set
        .render(|_| Err("no".to_owned()))
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("tasks.jsonl:1") && message.contains("2 of 3 rows"),
        "{message}"
    );
}

#[test]
fn a_slip_in_a_key_is_told() {
    let set = read(r#"{"prompt": "1=", "anwser": "1", "levle": 3}"#).unwrap();
    let message = set.require_answers().unwrap_err().to_string();
    assert!(
        message.contains("(keys: prompt, anwser, levle)"),
        "{message}"
    );
    assert!(
        message.contains("is \"anwser\" meant as \"answer\"?"),
        "{message}"
    );
    let notes = set.notes().join("\n");
    assert!(
        notes.contains("\"anwser\" (1 rows, perhaps meant as \"answer\")"),
        "{notes}"
    );
    assert!(notes.contains("\"levle\" (1 rows)"), "{notes}");
    assert!(
        read(r#"{"prompt": "1=", "answer": "1"}"#)
            .unwrap()
            .notes()
            .is_empty()
    );
}

#[test]
fn files_of_another_format_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.jsonl");
    let utf16: Vec<u8> = "\u{feff}{\"prompt\": \"1=\"}\n"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let cases: [(&[u8], &str); 4] = [
        (
            b"PAR1\x15\x04\x15",
            "begins as a Parquet file and does not end as one",
        ),
        (b"\x1f\x8b\x08\x00\x00", "gzip data end early"),
        (b"\x28\xb5\x2f\xfd\x00", "compressed by zstd"),
        (&utf16, "rows.jsonl:1: it is UTF-16"),
    ];
    for (bytes, why) in cases {
        std::fs::write(&path, bytes).unwrap();
        let message = PromptSet::load(&path).unwrap_err().to_string();
        assert!(
            message.contains(why) && message.contains("rows.jsonl"),
            "{message}"
        );
    }
}
