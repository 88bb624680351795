use vintage_control::{PolicyVersion, UpdateNumber};
use vintage_trajectory::{GroupId, Identity, LogprobMode, PolicySpan, Rows, Trajectory, encode};

use super::{Excerpt, Samples, section};
use crate::figures::Age;

fn trajectory(reward: f32, tokens: i32, text: Option<&str>) -> Trajectory {
    Trajectory {
        group_id: GroupId([1; 16]),
        group_size: 3,
        sample_index: 0,
        policy: "lead".to_owned(),
        batch: -1,
        prompt_id: "1".to_owned(),
        prompt_tokens: vec![7, 8],
        completion_tokens: (0..tokens).collect(),
        behavior_logprobs: vec![-0.5; tokens as usize],
        loss_mask: None,
        policy_spans: vec![
            PolicySpan {
                start: 0,
                version: PolicyVersion(2),
            },
            PolicySpan {
                start: 1,
                version: PolicyVersion(4),
            },
        ],
        reward,
        reward_parts: None,
        finish_reason: "stop".to_owned(),
        temperature: 1.0,
        top_p: 1.0,
        top_k: 0,
        logprob_mode: LogprobMode::Full,
        engine: "test".to_owned(),
        created_at_us: 0,
        generation_seconds: 0.0,
        prompt_text: None,
        completion_text: text.map(str::to_owned),
        metadata: None,
    }
}

fn add(samples: &mut Samples, update: u64, rollouts: &[Trajectory]) {
    let rows = Rows::decode(&encode(rollouts).unwrap()).unwrap();
    let identity = Identity {
        producer: Some("<i>\u{202e}".to_owned()),
        producer_seq: Some(9),
        ..Identity::default()
    };
    for row in 0..rows.len() {
        samples.add(UpdateNumber(update), &rows, row, &identity, Some(3));
    }
}

#[test]
fn best_worst_and_longest_of_the_first_and_last_update_are_kept() {
    let mut samples = Samples::default();
    // The archive's order is not that of the updates.
    for update in [4, 1, 9, 6, 1, 9] {
        let base = update as f32;
        add(
            &mut samples,
            update,
            &[
                trajectory(base, 3, Some("best")),
                trajectory(-base, 2, Some("worst")),
                trajectory(0.0, 5, None),
            ],
        );
    }
    for (kept, update) in [(samples.first, 1), (samples.last, 9)] {
        let kept = kept.expect("samples");
        assert_eq!(kept.update, UpdateNumber(update));
        assert_eq!(
            (kept.best.reward, kept.worst.reward),
            (update as f32, -(update as f32))
        );
        assert_eq!(kept.best.completion.start, "best");
        assert_eq!(
            (kept.longest.tokens, kept.longest.completion.start.as_str()),
            (5, "0 1 2 3 4")
        );
        assert_eq!(
            kept.longest.versions,
            Some((PolicyVersion(2), PolicyVersion(4)))
        );
    }
}

#[test]
fn texts_of_rollouts_cannot_break_the_page() {
    let hostile = "</pre><script>alert(1)</script>\u{202e}\0\u{1b}[2J";
    let mut samples = Samples::default();
    add(&mut samples, 0, &[trajectory(1.0, 2, Some(hostile))]);
    let mut page = String::new();
    section::section(&mut page, &samples, Age::Staleness);
    assert!(!page.contains("<script") && !page.contains("<i>"), "{page}");
    assert!(page.contains("&lt;/pre&gt;&lt;script&gt;alert(1)&lt;/script&gt;[U+202E][U+0000]"));
    assert!(!page.contains('\u{202e}') && !page.contains('\0'));
    assert_eq!(page.matches("<pre").count(), page.matches("</pre>").count());
    for text in [
        "Best of the only update",
        "2 tokens, versions 2 to 4, staleness 3",
        "token ids",
    ] {
        assert!(page.contains(text), "no {text:?} in {page}");
    }
}

#[test]
fn long_texts_keep_both_ends_and_say_what_was_cut() {
    let text: String = ('a'..='z').cycle().take(1_700).collect::<String>() + "ü";
    let excerpt = Excerpt::of_text(&text);
    assert_eq!(excerpt.cut, 101);
    assert_eq!(excerpt.start.chars().count(), 1200);
    assert!(text.starts_with(&excerpt.start) && text.ends_with(&excerpt.end));
    assert_eq!(excerpt.end.chars().count(), 400);
    let short = Excerpt::of_text("1+1=");
    assert_eq!((short.start.as_str(), short.cut), ("1+1=", 0));
}

#[test]
fn rows_without_text_are_token_ids() {
    let tokens: Vec<i32> = (0..200).collect();
    let excerpt = Excerpt::of_tokens(&tokens);
    assert_eq!((excerpt.cut, excerpt.unit), (72, "tokens"));
    assert!(excerpt.start.starts_with("0 1 2") && excerpt.end.ends_with("198 199"));
    assert_eq!(Excerpt::of_tokens(&[]).start, "");
}
