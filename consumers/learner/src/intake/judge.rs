//! Checks that every group must pass before it is trained on. Whatever fails a check is refused.

use vintage_control::{PolicyVersion, RejectReason};
use vintage_settings::TEMPERATURES;
use vintage_trajectory::{LogprobMode, Part, Rows, validate};

use crate::settings::LearnerSettings;

/// Versions that a record's tokens may claim to be sampled by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PermittedVersions {
    /// Any version, because a recorded log cannot be ahead of an announcement.
    Any,
    /// Versions of the record's policy up to this one, the newest that was announced once the
    /// record had been read; `None` if none was announced.
    UpTo(Option<PolicyVersion>),
}

type Verdict = Result<(), (RejectReason, String)>;

/// Checks that the values of trainable rows are plausible. Earlier learners did not, so one of
/// their plans may name a group that is refused for this reason alone.
pub(super) fn plausible(parts: &[Part<Rows>]) -> Verdict {
    let mut rows = parts.iter().map(|part| &part.body);
    let found = rows.try_for_each(vintage_trajectory::plausible);
    found.map_err(|invalid| (invalid.reason, invalid.detail))
}

pub(super) fn judge(
    settings: &LearnerSettings,
    parts: &[Part<Rows>],
    announced: PermittedVersions,
) -> Verdict {
    let mut samples = Vec::new();
    for Part {
        headers,
        body: rows,
        ..
    } in parts
    {
        validate(rows).map_err(|invalid| (invalid.reason, invalid.detail))?;
        headers
            .check_rows(rows)
            .map_err(|error| (RejectReason::BadHeaders, error.to_string()))?;
        for row in 0..rows.len() {
            row_is_trainable(settings, rows, row)?;
            samples.push((rows.sample_index(row), rows.group_size(row)));
        }
        if let (Some(newest), PermittedVersions::UpTo(announced)) = (rows.max_version(), announced)
            && announced.is_none_or(|announced| newest > announced)
        {
            let announced = announced.map_or_else(
                || "no version is announced".to_owned(),
                |announced| format!("{announced} is the newest announced"),
            );
            let detail = format!("sampled by version {newest}, but {announced}");
            return Err((RejectReason::FutureVersion, detail));
        }
    }
    is_whole(samples)
}

fn row_is_trainable(settings: &LearnerSettings, rows: &Rows, row: usize) -> Verdict {
    if !settings.trains_on(rows.policy(row)) {
        let detail = format!("sampled by policy {:?}", rows.policy(row));
        return Err((RejectReason::OtherPolicy, detail));
    }
    let mode = rows.logprob_mode(row);
    if mode != LogprobMode::Full {
        let detail = format!("log-probs of mode {}, only full ones train", mode.as_str());
        return Err((RejectReason::LogprobMode, detail));
    }
    let temperature = rows.temperature(row);
    if !TEMPERATURES.contains(&temperature) {
        let (least, most) = TEMPERATURES.into_inner();
        let detail = format!("temperature {temperature}, not from {least} to {most}");
        return Err((RejectReason::Temperature, detail));
    }
    let length = rows.prompt_tokens(row).len() + rows.completion_tokens(row).len();
    let limit = settings.context.min(settings.learner.micro_batch_tokens);
    if length > limit {
        return Err((
            RejectReason::TooLong,
            format!("{length} tokens, more than {limit}"),
        ));
    }
    if rows.prompt_tokens(row).is_empty() {
        return Err((RejectReason::Malformed, "an empty prompt".to_owned()));
    }
    let tokens = rows
        .prompt_tokens(row)
        .iter()
        .chain(rows.completion_tokens(row));
    for &token in tokens {
        if usize::try_from(token).map_or(true, |token| token >= settings.vocabulary) {
            let detail = format!(
                "token {token} outside a vocabulary of {}",
                settings.vocabulary
            );
            return Err((RejectReason::OutOfVocabulary, detail));
        }
    }
    Ok(())
}

fn is_whole(mut samples: Vec<(u16, u16)>) -> Verdict {
    samples.sort_unstable();
    let size = samples.first().map_or(0, |(_, size)| *size);
    let whole = samples.len() == size as usize
        && samples
            .iter()
            .enumerate()
            .all(|(place, sample)| *sample == (place as u16, size));
    if whole {
        Ok(())
    } else {
        let detail = format!("{} rows of a group of {size}", samples.len());
        Err((RejectReason::Incomplete, detail))
    }
}
