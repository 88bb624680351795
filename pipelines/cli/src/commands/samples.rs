//! `vintage samples`: shows archived rollouts.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use vintage_control::PolicyVersion;
use vintage_flow::samples::{Fate, Sample, SampledText, SamplesRequest, samples as read};
use vintage_human::{grouped, one_line, prompt_line};

use super::Context;
use crate::{
    args::SamplesArgs,
    exit::CommandOutcome,
    output::{print_text, writer},
};

/// Longest line of a text that is not shown whole, in characters.
const LINE: usize = 160;

/// Runs `vintage samples DIR`.
pub(crate) async fn samples(args: &SamplesArgs, context: &Context) -> Result<CommandOutcome> {
    let request = SamplesRequest {
        folder: args.folder.clone(),
        learner: args.name.clone(),
        order: args.order(),
        update: args.update(),
        prompt: args.prompt.clone(),
        count: args.count,
    };
    let samples = read(&request).await?;
    if context.output.is_json() {
        let mut out = writer();
        for sample in &samples {
            serde_json::to_writer(&mut out, sample).context("cannot print a rollout")?;
            std::io::Write::write_all(&mut out, b"\n").context("cannot print a rollout")?;
        }
        std::io::Write::flush(&mut out).context("cannot print a rollout")?;
    } else {
        let texts: Vec<_> = samples
            .iter()
            .map(|sample| text(sample, args.full))
            .collect();
        print_text(&texts.join("\n"))?;
    }
    Ok(CommandOutcome::Done)
}

/// Returns a rollout as lines: its facts, then its texts.
fn text(sample: &Sample, full: bool) -> String {
    let mut text = format!("reward {}", sample.reward);
    if !sample.reward_parts.is_empty() {
        let parts = sample.reward_parts.iter();
        let parts: Vec<_> = parts.map(|(name, part)| format!("{name} {part}")).collect();
        let _infallible = write!(text, " ({})", parts.join(", "));
    }
    let tokens = match sample.tokens {
        1 => "1 token".to_owned(),
        tokens => format!("{} tokens", grouped(tokens)),
    };
    let _infallible = writeln!(
        text,
        ", {tokens}, ended by {}, {}{}",
        sample.finish_reason,
        versions(sample.oldest_version, sample.newest_version),
        fate(&sample.fate),
    );
    let mut line = |name: &str, of: &SampledText, shortened: fn(&str, usize) -> String| {
        let shown = match of {
            SampledText::Text(of) => of.clone(),
            SampledText::Tokens(ids) => {
                let ids: Vec<_> = ids.iter().map(i32::to_string).collect();
                format!("[token ids {}]", ids.join(" "))
            }
        };
        let shown = if full {
            whole(&shown)
        } else {
            shortened(&shown, LINE)
        };
        let _infallible = writeln!(text, "  {name:<10}  {shown}");
    };
    line("prompt", &sample.prompt, prompt_line);
    if let Some(answer) = &sample.answer {
        line("answer", &SampledText::Text(answer.clone()), one_line);
    }
    line("completion", &sample.completion, one_line);
    text
}

fn versions(oldest: Option<PolicyVersion>, newest: Option<PolicyVersion>) -> String {
    match (oldest, newest) {
        (Some(oldest), Some(newest)) if oldest != newest => {
            format!("versions {oldest} to {newest}")
        }
        (Some(version), _) => format!("version {version}"),
        (None, _) => "no version".to_owned(),
    }
}

fn fate(fate: &Fate) -> String {
    match fate {
        Fate::Trained { update, staleness } => {
            format!("; trained by update {update} at staleness {staleness}")
        }
        Fate::Rejected { update, reason } => format!("; rejected before update {update}: {reason}"),
        Fate::Pending => "; not trained so far".to_owned(),
    }
}

/// Returns a text with its line breaks, indented. Other control characters, with which a completion
/// could steer the terminal, are spelled out.
fn whole(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for char in text.trim_end().chars() {
        match char {
            '\n' => shown.push_str("\n              "),
            '\t' => shown.push(char),
            char if char.is_control() => shown.extend(char.escape_default()),
            char => shown.push(char),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::whole;

    #[test]
    fn a_whole_text_keeps_its_lines_and_steers_no_terminal() {
        assert_eq!(whole("a\n\tb\u{1b}[2J\n"), "a\n              \tb\\u{1b}[2J");
    }
}
