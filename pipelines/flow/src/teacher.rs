//! Demonstrations for the warm start. Right answers with random slips teach the skill: sampling starts
//! out poor although greedy answers are right, and reinforcement learning sharpens it. Answers whose
//! characters are shuffled teach their form alone: which order is right is left to be found.

use std::collections::BTreeSet;
use vintage_settings::{TeacherKind, WarmStartConfig};

use rand::{Rng, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use vintage_rollout::PromptSet;

/// Makes demonstrations; the same seed and step give the same ones.
#[derive(Debug, Clone)]
pub struct Teacher {
    rows: Vec<Row>,
    kind: TeacherKind,
    slip: f64,
    batch: usize,
    seed: u64,
    /// Characters of all answers, ascending; a slip of [`TeacherKind::Answers`] draws from these.
    alphabet: Vec<char>,
}

#[derive(Debug, Clone)]
struct Row {
    /// Digits of the prompt; used for running sums only.
    digits: Vec<u8>,
    /// Characters of the answer; ascending for [`TeacherKind::Shuffled`], which must not know their order.
    answer: Vec<char>,
}

/// Error of prompts that the teacher cannot demonstrate.
#[derive(Debug, thiserror::Error)]
pub enum TeacherError {
    /// Row without an answer.
    #[error(
        "{file}:{line}: no answer to demonstrate; add an \"answer\", or skip the warm start with \
         --set warm_start.steps=0"
    )]
    NoAnswer {
        /// Path of the prompt file.
        file: String,
        /// Line number, from 1.
        line: usize,
    },
    /// Row whose answer differs from the running sums that the teacher computes.
    #[error(
        "{file}:{line}: the answer {answer:?} is not the running sum modulo 10 of the digits of \
         {prompt:?} (that is {sums:?}); for answers of another kind use --set \
         warm_start.teacher=answers"
    )]
    NotRunningSum {
        /// Path of the prompt file.
        file: String,
        /// Line number, from 1.
        line: usize,
        /// Prompt of the row.
        prompt: String,
        /// Answer of the row.
        answer: String,
        /// Running sums of the prompt's digits, modulo 10.
        sums: String,
    },
}

impl Teacher {
    /// Creates a teacher of these prompts.
    ///
    /// # Errors
    /// The first row that cannot be demonstrated.
    pub fn new(
        settings: &WarmStartConfig,
        kind: TeacherKind,
        seed: u64,
        prompts: &PromptSet,
    ) -> Result<Self, TeacherError> {
        let rows = prompts.prompts().iter().map(|prompt| {
            let line = prompt.line;
            let file = || prompts.path_of(prompt).display().to_string();
            let answer = prompt.answer.as_deref();
            let answer = answer.ok_or_else(|| TeacherError::NoAnswer { file: file(), line })?;
            let digits = digits(&prompt.text);
            let sums = running_sums(&digits);
            if kind == TeacherKind::RunningSum && sums != answer {
                return Err(TeacherError::NotRunningSum {
                    file: file(),
                    line,
                    prompt: prompt.text.clone(),
                    answer: answer.to_owned(),
                    sums,
                });
            }
            let mut answer: Vec<_> = answer.chars().collect();
            if kind == TeacherKind::Shuffled {
                answer.sort_unstable();
            }
            Ok(Row { digits, answer })
        });
        let rows: Vec<_> = rows.collect::<Result<_, _>>()?;
        let alphabet: BTreeSet<_> = rows.iter().flat_map(|row| row.answer.iter()).collect();
        Ok(Self {
            alphabet: alphabet.into_iter().copied().collect(),
            kind,
            slip: settings.slip,
            batch: settings.batch,
            seed,
            rows,
        })
    }

    /// Returns the demonstrations of a step: indices of rows drawn with replacement, each with the
    /// teacher's answer.
    pub fn step(&self, step: u64) -> Vec<(usize, String)> {
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        // Each step has its own random stream, so any step can be made without those before it.
        random.set_stream(step);
        (0..self.batch)
            .map(|_| {
                let index = random.random_range(0..self.rows.len());
                (index, self.answer(&self.rows[index], &mut random))
            })
            .collect()
    }

    fn answer(&self, row: &Row, random: &mut ChaCha8Rng) -> String {
        match self.kind {
            TeacherKind::RunningSum => {
                let mut sum = 0;
                let step = |digit: &u8| {
                    sum = (sum + digit) % 10;
                    if random.random_bool(self.slip) {
                        sum = random.random_range(0..10);
                    }
                    char::from(b'0' + sum)
                };
                row.digits.iter().map(step).collect()
            }
            TeacherKind::Answers => {
                let step = |&right: &char| {
                    if random.random_bool(self.slip) {
                        self.alphabet[random.random_range(0..self.alphabet.len())]
                    } else {
                        right
                    }
                };
                row.answer.iter().map(step).collect()
            }
            TeacherKind::Shuffled => {
                let mut answer = row.answer.clone();
                answer.shuffle(random);
                answer.into_iter().collect()
            }
        }
    }
}

fn digits(text: &str) -> Vec<u8> {
    text.bytes()
        .filter(u8::is_ascii_digit)
        .map(|digit| digit - b'0')
        .collect()
}

fn running_sums(digits: &[u8]) -> String {
    let mut sum = 0;
    let step = |digit: &u8| {
        sum = (sum + digit) % 10;
        char::from(b'0' + sum)
    };
    digits.iter().map(step).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn prompts(rows: &str) -> PromptSet {
        PromptSet::from_reader(Path::new("mine.jsonl"), rows.as_bytes()).expect("prompts")
    }

    fn teacher(kind: TeacherKind, slip: f64, rows: &str) -> Result<Teacher, TeacherError> {
        let settings = WarmStartConfig {
            slip,
            batch: 500,
            ..WarmStartConfig::default()
        };
        Teacher::new(&settings, kind, 7, &prompts(rows))
    }

    const SUMS: &str = r#"{"prompt":"472913=","answer":"413236"}
{"prompt":"000000=","answer":"000000"}"#;

    #[test]
    fn steps_are_reproducible_and_differ_from_one_another() {
        let teacher = teacher(TeacherKind::RunningSum, 0.2, SUMS).expect("running sums");
        assert_eq!(teacher.step(3), teacher.clone().step(3));
        assert_ne!(teacher.step(3), teacher.step(4));
    }

    #[test]
    fn without_slips_every_answer_is_right() {
        for kind in [TeacherKind::RunningSum, TeacherKind::Answers] {
            let teacher = teacher(kind, 0.0, SUMS).expect("running sums");
            let right = ["413236", "000000"];
            assert!(
                teacher
                    .step(0)
                    .iter()
                    .all(|(row, answer)| answer == right[*row])
            );
        }
    }

    #[test]
    fn running_sums_go_on_from_a_slip() {
        let teacher = teacher(TeacherKind::RunningSum, 0.2, SUMS).expect("running sums");
        let (mut steps, mut wrong) = (0, 0);
        for (row, answer) in (0..40).flat_map(|step| teacher.step(step)) {
            let mut sum = 0;
            for (digit, said) in teacher.rows[row].digits.iter().zip(digits(&answer)) {
                steps += 1;
                wrong += u32::from((sum + digit) % 10 != said);
                sum = said;
            }
        }
        // A slip draws the right digit one time in ten: expected 0.18 of the steps, seen over
        // 120,000 of them with a standard error of 0.0011.
        let share = f64::from(wrong) / f64::from(steps);
        assert!((share - 0.18).abs() < 0.006, "{share}");
    }

    #[test]
    fn answers_slip_character_by_character_within_their_alphabet() {
        let teacher = teacher(
            TeacherKind::Answers,
            0.5,
            r#"{"prompt":"x","answer":"abcd"}"#,
        );
        let teacher = teacher.expect("answers");
        let answers: String = (0..40)
            .flat_map(|step| teacher.step(step))
            .map(|(_, answer)| answer)
            .collect();
        assert!(answers.chars().all(|c| "abcd".contains(c)));
        let wrong = answers
            .chars()
            .zip("abcd".chars().cycle())
            .filter(|(a, b)| a != b)
            .count();
        // Half slip, and a quarter of those draw the right character; 80,000 seen.
        let share = wrong as f64 / answers.len() as f64;
        assert!((share - 0.375).abs() < 0.01, "{share}");
    }

    /// Demonstrations are a function of the seed and of which characters an answer has: of its order
    /// nothing can be learnt from them.
    #[test]
    fn a_shuffled_demonstration_is_the_same_whatever_the_order_of_the_answer() {
        let shown = |answer: &str| {
            let row = format!("{{\"prompt\":\"4729=\",\"answer\":\"{answer}\"}}");
            let teacher = teacher(TeacherKind::Shuffled, 0.2, &row).expect("answers");
            (0..4)
                .flat_map(|step| teacher.step(step))
                .collect::<Vec<_>>()
        };
        let sorted = shown("2479");
        assert_eq!(sorted, shown("9274"));
        assert_eq!(sorted, shown("4729"));
    }

    #[test]
    fn shuffled_demonstrations_are_every_order_equally_often() {
        let teacher = teacher(
            TeacherKind::Shuffled,
            0.2,
            r#"{"prompt":"4729=","answer":"2479"}"#,
        );
        let teacher = teacher.expect("answers");
        let mut counts = std::collections::BTreeMap::new();
        for (_, answer) in (0..48).flat_map(|step| teacher.step(step)) {
            *counts.entry(answer).or_insert(0) += 1;
        }
        // 24 orders of 24,000 demonstrations: 1000 expected, with a standard deviation of 31.
        assert_eq!(counts.len(), 24, "{counts:?}");
        assert!(
            counts.values().all(|count| (850..1150).contains(count)),
            "{counts:?}"
        );
    }

    #[test]
    fn rows_it_cannot_teach_are_named() {
        let rows =
            "{\"prompt\":\"12=\",\"answer\":\"13\"}\n{\"prompt\":\"12+3=\",\"answer\":\"15\"}";
        let error = teacher(TeacherKind::RunningSum, 0.2, rows).expect_err("not a running sum");
        let text = error.to_string();
        assert!(
            text.starts_with("mine.jsonl:2: the answer \"15\""),
            "{text}"
        );
        assert!(text.contains("warm_start.teacher=answers"), "{text}");
        teacher(TeacherKind::Answers, 0.2, rows).expect("any answers");
        let error = teacher(TeacherKind::Answers, 0.2, "{\"prompt\":\"12=\"}").expect_err("none");
        assert!(
            error.to_string().starts_with("mine.jsonl:1: no answer"),
            "{error}"
        );
    }
}
