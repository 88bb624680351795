//! Prints one message, as JSON lines or as text.

use std::io::{self, Read as _, Write};

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};
use vintage_bus::Header;
use vintage_trajectory::{Rows, Trajectory, plausible, validate};

use super::Context;
use crate::{exit::Usage, output::writer};

/// Message from any source.
pub(super) struct ShownMessage<'a> {
    /// Partition and offset; `None` for a message from standard input.
    pub(super) place: Option<(i32, i64)>,
    pub(super) timestamp_ms: Option<i64>,
    pub(super) headers: &'a [Header],
    /// Rows, or the reason for which there are none.
    pub(super) rows: Result<&'a Rows, String>,
}

/// Reads one message from standard input and prints it.
pub(super) fn stdin(context: &Context) -> Result<()> {
    let mut bytes = Vec::new();
    io::stdin()
        .lock()
        .read_to_end(&mut bytes)
        .context("cannot read standard input")?;
    // kcat ends a message with a newline unless configured otherwise.
    let trimmed = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let rows = Rows::decode(&bytes).or_else(|error| Rows::decode(trimmed).map_err(|_| error));
    let rows = rows.map_err(|error| {
        Usage::new(format!(
            "standard input is not a trajectory message: {error}"
        ))
        .hint("give exactly one message, for example from kcat -C -c 1")
    })?;
    let message = ShownMessage {
        place: None,
        timestamp_ms: None,
        headers: &[],
        rows: Ok(&rows),
    };
    let mut out = writer();
    message.write(context.output.is_json(), &mut out)?;
    out.flush().context("cannot print the message")
}

impl ShownMessage<'_> {
    /// Writes one JSON line per row (or one with a `problem` if there are no rows), or text.
    pub(super) fn write(&self, json: bool, out: &mut impl Write) -> Result<()> {
        let written = if json {
            self.write_json(out)
        } else {
            self.write_text(out)
        };
        written.context("cannot print the message")
    }

    fn write_json(&self, out: &mut impl Write) -> io::Result<()> {
        let head = self.head();
        let rows = match &self.rows {
            Ok(rows) => rows.to_trajectories(),
            Err(problem) => {
                let mut line = head;
                line.insert("problem".to_owned(), json!(problem));
                return writeln!(out, "{}", Value::Object(line));
            }
        };
        for row in rows {
            let mut line = head.clone();
            if let Ok(Value::Object(mut fields)) = serde_json::to_value(&row) {
                keep_not_finite(&row, &mut fields);
                line.extend(fields);
            }
            writeln!(out, "{}", Value::Object(line))?;
        }
        Ok(())
    }

    fn head(&self) -> Map<String, Value> {
        let mut head = Map::new();
        if let Some((partition, offset)) = self.place {
            head.insert("partition".to_owned(), json!(partition));
            head.insert("offset".to_owned(), json!(offset));
            head.insert("timestamp_ms".to_owned(), json!(self.timestamp_ms));
            // A list: Kafka keeps the order of headers, and names may repeat.
            let headers = self.headers.iter().map(header);
            head.insert("headers".to_owned(), headers.collect());
        }
        head
    }

    fn write_text(&self, out: &mut impl Write) -> io::Result<()> {
        if let Some((partition, offset)) = self.place {
            write!(out, "partition {partition} offset {offset}")?;
            if let Some(time) = self
                .timestamp_ms
                .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
            {
                write!(out, "  {}", time.strftime("%Y-%m-%d %H:%M:%S%.3f"))?;
            }
            writeln!(out)?;
        }
        let headers: Vec<_> = self
            .headers
            .iter()
            .map(|header| format!("{}={}", header.key, text(header)))
            .collect();
        if !headers.is_empty() {
            writeln!(out, "  {}", headers.join(" "))?;
        }
        let rows = match &self.rows {
            Ok(rows) => *rows,
            Err(problem) => return writeln!(out, "  not a trajectory message: {problem}"),
        };
        for row in rows.to_trajectories() {
            writeln!(out, "  {}", line(&row))?;
        }
        if let Err(invalid) = validate(rows).and_then(|()| plausible(rows)) {
            writeln!(
                out,
                "  a learner would reject it: {}: {}",
                invalid.reason.as_str(),
                invalid.detail
            )?;
        }
        Ok(())
    }
}

/// Formats a rollout in one line.
fn line(row: &Trajectory) -> String {
    let versions: Vec<_> = row
        .policy_spans
        .iter()
        .map(|span| span.version.to_string())
        .collect();
    let texts = match (&row.prompt_text, &row.completion_text) {
        (Some(prompt), Some(completion)) => format!("  {} → {}", short(prompt), short(completion)),
        (None, Some(completion)) => format!("  {}", short(completion)),
        _ => String::new(),
    };
    format!(
        "{:>3}  reward {:.3}  {} tokens by version {}  {}{texts}",
        row.sample_index,
        row.reward,
        row.completion_tokens.len(),
        versions.join(", "),
        row.finish_reason,
    )
}

/// Quotes a text, cut to 60 characters.
fn short(text: &str) -> String {
    const MOST: usize = 60;
    let cut: String = text.chars().take(MOST).collect();
    let more = if cut.len() < text.len() { "…" } else { "" };
    format!("{cut:?}{more}")
}

/// Formats a header: its text, no value, or bytes in hexadecimal if they are not text.
fn header(header: &Header) -> Value {
    match header
        .value
        .as_deref()
        .map(|bytes| (bytes, str::from_utf8(bytes)))
    {
        Some((bytes, Err(_))) => json!({"key": header.key, "value_hex": hex::encode(bytes)}),
        Some((_, Ok(text))) => json!({"key": header.key, "value": text}),
        None => json!({"key": header.key, "value": null}),
    }
}

/// Replaces non-finite numbers by their names. JSON has no number for NaN and the infinities, and
/// `null` would mean an absent value.
fn keep_not_finite(row: &Trajectory, fields: &mut Map<String, Value>) {
    let named = |value: f32| match value {
        value if value.is_nan() => "NaN",
        f32::INFINITY => "Infinity",
        _ => "-Infinity",
    };
    let numbers = [
        ("reward", row.reward),
        ("temperature", row.temperature),
        ("top_p", row.top_p),
        ("generation_seconds", row.generation_seconds),
    ];
    for (name, value) in numbers.into_iter().filter(|(_, value)| !value.is_finite()) {
        fields.insert(name.to_owned(), json!(named(value)));
    }
    let logprobs = fields
        .get_mut("behavior_logprobs")
        .and_then(Value::as_array_mut);
    for (field, &value) in logprobs.into_iter().flatten().zip(&row.behavior_logprobs) {
        if !value.is_finite() {
            *field = json!(named(value));
        }
    }
    for (part, &value) in row.reward_parts.iter().flatten() {
        if !value.is_finite()
            && let Some(field) = fields
                .get_mut("reward_parts")
                .and_then(|parts| parts.get_mut(part))
        {
            *field = json!(named(value));
        }
    }
}

fn text(header: &Header) -> String {
    header.value.as_ref().map_or_else(String::new, |value| {
        String::from_utf8_lossy(value).into_owned()
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use vintage_control::PolicyVersion;
    use vintage_trajectory::{GroupId, LogprobMode, PolicySpan, encode};

    use super::*;

    fn rows() -> Rows {
        let row = |index: u16| Trajectory {
            group_id: GroupId([7; 16]),
            group_size: 2,
            sample_index: index,
            policy: "lead".to_owned(),
            batch: -1,
            prompt_id: "p".to_owned(),
            prompt_tokens: vec![1, 2],
            completion_tokens: vec![3],
            behavior_logprobs: vec![-0.5],
            loss_mask: None,
            policy_spans: vec![PolicySpan {
                start: 0,
                version: PolicyVersion(4),
            }],
            reward: 1.0,
            reward_parts: None,
            finish_reason: "stop".to_owned(),
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            logprob_mode: LogprobMode::Full,
            engine: "local".to_owned(),
            created_at_us: 0,
            generation_seconds: 0.5,
            prompt_text: Some("12=".to_owned()),
            completion_text: Some("13".to_owned()),
            metadata: Some(BTreeMap::new()),
        };
        Rows::decode(&encode(&[row(0), row(1)]).expect("encoded")).expect("decoded")
    }

    fn written(message: &ShownMessage<'_>, json: bool) -> String {
        let mut out = Vec::new();
        message.write(json, &mut out).expect("written");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_message_is_a_json_line_a_row() {
        let rows = rows();
        let header = |key: &str, value: Option<&'static [u8]>| Header {
            key: key.to_owned(),
            value: value.map(Into::into),
        };
        let headers = [
            header("run", Some(b"a")),
            header("x-tag", Some(b"1")),
            header("x-tag", Some(b"2")),
            header("x-null", None),
            header("x-bin", Some(b"\xff\0")),
        ];
        let message = ShownMessage {
            place: Some((3, 9)),
            timestamp_ms: Some(1000),
            headers: &headers,
            rows: Ok(&rows),
        };
        let text = written(&message, true);
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[1]["sample_index"], 1);
        assert_eq!(lines[1]["offset"], 9);
        assert_eq!(
            lines[1]["headers"],
            json!([
                {"key": "run", "value": "a"},
                {"key": "x-tag", "value": "1"},
                {"key": "x-tag", "value": "2"},
                {"key": "x-null", "value": null},
                {"key": "x-bin", "value_hex": "ff00"},
            ])
        );
        assert_eq!(lines[0]["completion_text"], "13");
        let text = written(&message, false);
        assert!(text.contains("partition 3 offset 9"), "{text}");
        assert!(
            text.contains("reward 1.000  1 tokens by version 4  stop  \"12=\" → \"13\""),
            "{text}"
        );
    }

    #[test]
    fn a_number_that_json_has_not_is_kept_by_its_name() {
        let mut row = rows().to_trajectories().remove(0);
        row.batch = i64::MAX;
        row.reward = f32::NAN;
        row.behavior_logprobs = vec![f32::NEG_INFINITY];
        row.reward_parts = Some(BTreeMap::from([("length".to_owned(), f32::INFINITY)]));
        let rows = Rows::decode(&encode(&[row]).expect("encoded")).expect("decoded");
        let message = ShownMessage {
            place: None,
            timestamp_ms: None,
            headers: &[],
            rows: Ok(&rows),
        };
        let line: Value = serde_json::from_str(&written(&message, true)).expect("JSON");
        assert_eq!(line["batch"], i64::MAX);
        assert_eq!(line["reward"], "NaN");
        assert_eq!(line["behavior_logprobs"], json!(["-Infinity"]));
        assert_eq!(line["reward_parts"]["length"], "Infinity");
        assert_eq!(line["temperature"], 1.0);
    }

    #[test]
    fn what_cannot_be_decoded_is_told() {
        let message = ShownMessage {
            place: Some((0, 1)),
            timestamp_ms: None,
            headers: &[],
            rows: Err("no schema".to_owned()),
        };
        assert!(written(&message, true).contains("\"problem\":\"no schema\""));
        assert!(written(&message, false).contains("not a trajectory message: no schema"));
    }
}
