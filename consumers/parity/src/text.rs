//! Comparison of token ids, decoded text, the rendered chat and the stop tokens.

use serde::Deserialize;
use vintage_model::{Messages, ModelFolder};

use crate::{difference::Mismatches, error::Result, oracle::Oracle, report::ParityReport};

#[derive(Deserialize)]
struct Texts {
    #[serde(default)]
    cases: Vec<Case>,
    chat: Option<Chat>,
}

#[derive(Deserialize)]
struct Case {
    text: String,
    ids: Vec<u32>,
    ids_without_special: Option<Vec<u32>>,
    decoded: Option<String>,
}

#[derive(Deserialize)]
struct Chat {
    messages: Messages,
    #[serde(default)]
    add_generation_prompt: bool,
    rendered: String,
    ids: Option<Vec<u32>>,
}

#[derive(Deserialize)]
struct Ends {
    eos_token_ids: Option<Vec<u32>>,
}

pub(super) fn compare(
    oracle: &Oracle,
    folder: &ModelFolder,
    report: &mut ParityReport,
) -> Result<()> {
    match oracle.json::<Texts>("tokenizer.json")? {
        None => report.absent("tokenizer.json"),
        Some(texts) => {
            cases(&texts.cases, folder, report)?;
            match texts.chat {
                None => report.absent("tokenizer.json: chat"),
                Some(expected) => chat(&expected, folder, report)?,
            }
        }
    }
    // Without stop tokens in a generation config, the two sides may read other files for them; a
    // model here also stops at those of the other files.
    let ends = oracle.json::<Ends>("m2po.json")?;
    if let Some(expected) = ends.and_then(|ends| ends.eos_token_ids)
        && !folder.generation_eos_ids().is_empty()
    {
        let mut seen = Mismatches::default();
        let found = folder.generation_eos_ids();
        seen.see(&found, &&expected[..], "eos_token_id");
        report.equal("stop_ids", seen);
    }
    Ok(())
}

fn cases(cases: &[Case], folder: &ModelFolder, report: &mut ParityReport) -> Result<()> {
    let tokenizer = &folder.tokenizer;
    let (mut ids, mut plain, mut decoded) = <(Mismatches, Mismatches, Mismatches)>::default();
    for case in cases {
        let place = format!("{:?}", case.text);
        ids.see(&tokenizer.encode(&case.text)?, &case.ids, &place);
        if let Some(expected) = &case.ids_without_special {
            plain.see(&tokenizer.encode_rendered(&case.text)?, expected, &place);
        }
        if let Some(expected) = &case.decoded {
            decoded.see(&tokenizer.decode_all(&case.ids)?, expected, &place);
        }
    }
    report.equal("token_ids", ids);
    report.equal("token_ids_without_special", plain);
    report.equal("decoded_text", decoded);
    Ok(())
}

fn chat(expected: &Chat, folder: &ModelFolder, report: &mut ParityReport) -> Result<()> {
    let mut rendered = Mismatches::default();
    let text = match &folder.chat {
        None => None,
        Some(chat) => Some(chat.render(&expected.messages, expected.add_generation_prompt)?),
    };
    rendered.see(&text.as_ref(), &Some(&expected.rendered), "the chat");
    report.equal("rendered_chat", rendered);
    if let Some(expected_ids) = &expected.ids {
        let mut ids = Mismatches::default();
        let found = folder.tokenizer.encode_rendered(&expected.rendered)?;
        ids.see(&found, expected_ids, "the chat");
        report.equal("chat_ids", ids);
    }
    Ok(())
}
