//! Section `Held out, before and after` of the page: greedy completions of the same prompts by the first
//! and by the last version that was evaluated.

use std::fmt::Write as _;

use vintage_control::{EvaluationExample, EvaluationResult};

use crate::{html::Escaped, samples::section::text};

/// Adds the section, if evaluations have examples.
pub(crate) fn section(page: &mut String, evaluations: &[EvaluationResult]) {
    let mut shown = evaluations.iter().filter(|one| !one.examples.is_empty());
    let Some(first) = shown.next() else { return };
    let last = shown.next_back();
    page.push_str(
        "<section class=\"account\">\n<h2>Held out, before and after</h2>\n\
         <p>The likeliest completions of the first held-out prompts.</p>\n<div class=\"samples\">",
    );
    for example in &first.examples {
        let same = |after: &&EvaluationExample| after.prompt_id == example.prompt_id;
        let after = last.and_then(|last| Some((last, last.examples.iter().find(same)?)));
        let name = Escaped(&example.prompt_id);
        let _ = writeln!(page, "<article>\n<h4>Prompt {name}</h4>");
        text(page, "Prompt", &example.prompt);
        if let Some(answer) = &example.answer {
            text(page, "Answer", answer);
        }
        completion(page, first, example);
        if let Some((last, after)) = after {
            completion(page, last, after);
        }
        page.push_str("</article>\n");
    }
    page.push_str("</div>\n</section>\n");
}

fn completion(page: &mut String, of: &EvaluationResult, example: &EvaluationExample) {
    let name = format!("Version {}, reward {:.3}", of.version, example.reward);
    text(page, &name, &example.completion);
}
