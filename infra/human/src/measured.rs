/// Measure of an evaluation on held-out prompts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measured {
    /// Share of right answers: every reward is 0 or 1.
    Accuracy,
    /// Mean of rewards that a program gave, which may be any numbers.
    MeanReward,
}

impl Measured {
    /// Returns the measure of rewards that a program gives, or of those that compare answers.
    pub fn of(judged_by_program: bool) -> Self {
        if judged_by_program {
            Self::MeanReward
        } else {
            Self::Accuracy
        }
    }

    /// Returns `accuracy` or `mean reward`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::MeanReward => "mean reward",
        }
    }

    /// Formats a value: a share in percent, a reward as a number.
    pub fn value(self, value: f64) -> String {
        match self {
            Self::Accuracy => format!("{:.1} %", 100.0 * value),
            Self::MeanReward => format!("{value:.3}"),
        }
    }

    /// Formats a difference between two values, with its sign: in percentage points, or as a number.
    pub fn change(self, difference: f64) -> String {
        match self {
            Self::Accuracy => format!("{:+.1} points", 100.0 * difference),
            Self::MeanReward => format!("{difference:+.3}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Measured;

    #[test]
    fn shares_are_percent_and_rewards_are_numbers() {
        let shown = |of: Measured| [of.name().to_owned(), of.value(0.25), of.change(-0.5)];
        assert_eq!(
            shown(Measured::of(false)),
            ["accuracy", "25.0 %", "-50.0 points"]
        );
        assert_eq!(
            shown(Measured::of(true)),
            ["mean reward", "0.250", "-0.500"]
        );
    }
}
