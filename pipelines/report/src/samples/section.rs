//! Section `Samples` of the page.

use std::fmt::Write as _;

use vintage_human::grouped;

use super::{Excerpt, Sample, Samples, UpdateSamples};
use crate::{figures::Age, html::Escaped};

/// Adds the samples to the page.
pub(crate) fn section(page: &mut String, samples: &Samples, age: Age) {
    let last = samples.last.as_ref();
    let Some((first, last)) = samples.first.as_ref().zip(last) else {
        page.push_str("<p>No archived rollout has trained yet.</p>\n");
        return;
    };
    if first.update == last.update {
        update(page, "of the only update", first, age);
    } else {
        update(page, "of the first update", first, age);
        update(page, "of the last update", last, age);
    }
}

fn update(page: &mut String, which: &str, samples: &UpdateSamples, age: Age) {
    let number = samples.update;
    let _ = writeln!(page, "<h3>Update {number}</h3>\n<div class=\"samples\">");
    for (name, sample) in [
        ("Best", &samples.best),
        ("Worst", &samples.worst),
        ("Longest", &samples.longest),
    ] {
        article(page, &format!("{name} {which}"), sample, age);
    }
    page.push_str("</div>\n");
}

fn article(page: &mut String, name: &str, sample: &Sample, age: Age) {
    let versions = sample.versions.map(|(oldest, newest)| {
        if oldest == newest {
            format!("version {oldest}")
        } else {
            format!("versions {oldest} to {newest}")
        }
    });
    let staleness = sample
        .staleness
        .map(|age_of| format!("{} {age_of}", age.name()));
    let tokens = match sample.tokens {
        1 => "1 token".to_owned(),
        tokens => format!("{} tokens", grouped(tokens as u64)),
    };
    let ended = format!("ended by {}", Escaped(&sample.finish_reason));
    let facts: Vec<_> = [Some(tokens), versions, staleness, Some(ended)]
        .into_iter()
        .flatten()
        .collect();
    let group = sample.seq.map_or_else(String::new, |seq| format!("/{seq}"));
    let _ = write!(
        page,
        "<article>\n<h4>{name}: reward {:.3}</h4>\n<p>{}</p>\n\
         <p>group <code>{}{group}</code>, rollout {}</p>\n",
        sample.reward,
        facts.join(", "),
        Escaped(&sample.producer),
        sample.index,
    );
    excerpt(page, "Prompt", &sample.prompt);
    if let Some(answer) = &sample.answer {
        text(page, "Answer", answer);
    }
    excerpt(page, "Completion", &sample.completion);
    page.push_str("</article>\n");
}

/// Adds a text under a name; of a long one the middle is cut.
pub(crate) fn text(page: &mut String, name: &str, text: &str) {
    excerpt(page, name, &Excerpt::of_text(text));
}

fn excerpt(page: &mut String, name: &str, excerpt: &Excerpt) {
    let ids = if excerpt.unit == "tokens" {
        " (token ids; no text was recorded)"
    } else {
        ""
    };
    // A line break behind `<pre>` is dropped by HTML, one of the text's own is not.
    let _ = write!(
        page,
        "<p class=\"name\">{name}{ids}</p><pre dir=\"auto\">\n{}",
        Escaped(&excerpt.start)
    );
    if excerpt.cut > 0 {
        let _ = write!(
            page,
            "</pre><p class=\"cut\">{} {} cut</p><pre dir=\"auto\">\n{}",
            grouped(excerpt.cut as u64),
            excerpt.unit,
            Escaped(&excerpt.end)
        );
    }
    page.push_str("</pre>\n");
}
