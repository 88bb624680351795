//! Page of `vintage staleness`: how far a policy is from the rollouts of each age.

mod by_age;
mod gradients;

use std::{fmt::Write as _, path::Path};

use vintage_ages::{AgeFigures, Answer};
use vintage_control::AlgorithmName;
use vintage_human::grouped;

pub use self::gradients::GradientsShown;
use crate::{
    chart::{Look, Unit, number},
    error::Result,
    figures::Figure,
    html::Escaped,
    ink::Ink,
    page::{begin, chart, end, persist},
    producers,
};

/// Losses whose curves are drawn; the run's own replaces the last one if it is none of them.
const DRAWN: [AlgorithmName; 4] = [
    AlgorithmName::M2po,
    AlgorithmName::Grpo,
    AlgorithmName::Gspo,
    AlgorithmName::Icepop,
];
const INKS: [Ink; 4] = [Ink::First, Ink::Second, Ink::Third, Ink::Fourth];

/// Page that shows figures by age.
#[derive(Debug, Clone, Copy)]
pub struct AgesPage<'a> {
    /// Name of the run.
    pub run: &'a str,
    /// Loss that the run trains by.
    pub algorithm: AlgorithmName,
    /// Answer in one sentence.
    pub answer: &'a Answer,
    /// Figures by age, the youngest first.
    pub ages: &'a [AgeFigures],
    /// Direction of the losses' gradients, if it was computed.
    pub gradients: Option<GradientsShown<'a>>,
}

/// Curve of a chart by age: its colour, its name and its value at an age, where there is one.
type Line<'a> = (Ink, &'a str, Box<dyn Fn(&AgeFigures) -> Option<f64> + 'a>);

impl AgesPage<'_> {
    /// Writes the page, all of it or nothing.
    ///
    /// # Errors
    /// A file that cannot be written, or a chart that cannot be drawn.
    pub fn write(&self, to: &Path) -> Result<()> {
        persist(&self.render()?, to)
    }

    /// Renders the page.
    pub(crate) fn render(&self) -> Result<String> {
        let mut page = String::with_capacity(64 << 10);
        begin(&mut page, &format!("{}: age of rollouts", self.run));
        let groups: u64 = self.ages.iter().map(|of| of.groups).sum();
        let _ = write!(
            page,
            "<header>\n<p class=\"brand\">vintage staleness</p>\n<h1>{}</h1>\n\
             <p class=\"facts\">run <b>{}</b> · algorithm <b>{}</b> · <b>{}</b> groups \
             recomputed</p>\n</header>\n<section class=\"charts\" aria-label=\"charts\">\n",
            Escaped(&self.answer.sentence),
            Escaped(self.run),
            self.algorithm.as_str(),
            grouped(groups),
        );
        for figure in self.figures()? {
            chart(&mut page, &figure);
        }
        if let Some(shown) = &self.gradients {
            chart(&mut page, &shown.figure(self.algorithm)?);
        }
        page.push_str("</section>\n");
        self.policy(&mut page);
        self.losses(&mut page);
        if let Some(shown) = &self.gradients {
            shown.tables(&mut page, self.algorithm);
        }
        end(&mut page);
        Ok(page)
    }

    fn figures(&self) -> Result<[Figure; 4]> {
        let threshold = self.answer.threshold;
        let losses = self.drawn();
        Ok([
            self.figure(
                "M2",
                &format!(
                    "Mean of the squared log-ratio, over the trust-region tokens and over all; the dashed \
                     line is M2PO's budget τ = {threshold}."
                ),
                (Unit::Number, Some(threshold)),
                &[
                    (Ink::First, "trust region", Box::new(|of| Some(of.m2))),
                    (Ink::Second, "all tokens", Box::new(|of| Some(of.m2_all))),
                ],
            )?,
            self.figure(
                "Tokens without gradient",
                "Share of tokens that a loss masks or clips.",
                (Unit::Share, None),
                &INKS.into_iter()
                    .zip(losses)
                    .map(|(ink, loss)| -> Line<'_> {
                        let name = loss.as_str();
                        let share = move |of: &AgeFigures| Some(of.losses.get(name)?.masked);
                        (ink, name, Box::new(share))
                    })
                    .collect::<Vec<_>>(),
            )?,
            self.figure(
                "Effective share",
                "Effective sample size over the number of samples, by the ratios of tokens and of whole \
                 rollouts.",
                (Unit::Share, None),
                &[
                    (Ink::First, "tokens", Box::new(|of| Some(of.effective_tokens))),
                    (Ink::Second, "rollouts", Box::new(|of| Some(of.effective_rollouts))),
                ],
            )?,
            self.figure(
                "Tails of the ratio",
                "Share of tokens whose ratio is beyond a factor, above or below 1.",
                (Unit::Share, None),
                &[
                    (Ink::First, "beyond 1.1", Box::new(|of| Some(of.beyond_tenth))),
                    (Ink::Second, "beyond 2", Box::new(|of| Some(of.beyond_double))),
                ],
            )?,
        ])
    }

    /// Returns the losses whose curves are drawn.
    fn drawn(&self) -> [AlgorithmName; 4] {
        let mut drawn = DRAWN;
        let own = self.algorithm.as_str();
        let is_measured = self.ages.iter().any(|of| of.losses.contains_key(own));
        if is_measured && !drawn.contains(&self.algorithm) {
            drawn[3] = self.algorithm;
        }
        drawn
    }

    /// Draws lines over the ages. With a rule the vertical axis is logarithmic.
    fn figure(
        &self,
        title: &str,
        note: &str,
        (unit, rule): (Unit, Option<f64>),
        lines: &[Line<'_>],
    ) -> Result<Figure> {
        let staleness: Vec<_> = self.ages.iter().map(|of| of.staleness).collect();
        let lines = lines.iter().map(|(ink, name, value)| by_age::Line {
            ink: *ink,
            name,
            look: Look::Dotted,
            values: self.ages.iter().map(value).collect(),
        });
        by_age::figure(
            title,
            note,
            (unit, rule),
            &staleness,
            &lines.collect::<Vec<_>>(),
        )
    }

    /// Writes the table of what does not depend on a loss.
    fn policy(&self, page: &mut String) {
        page.push_str(
            "<section class=\"account\">\n<h2>By staleness</h2>\n<p>Staleness is the mean of the groups. \
             Effective shares and divergence are those of a batch.</p>\n",
        );
        let heads = [
            "staleness",
            "groups",
            "tokens",
            "M2",
            "M2, all tokens",
            "effective tokens",
            "effective rollouts",
            "χ²",
            "beyond 1.1",
            "beyond 2",
            "log-ratio, 1 %",
            "99 %",
        ];
        let rows = self.ages.iter().map(|of| {
            vec![
                number(of.staleness),
                grouped(of.groups),
                grouped(of.tokens),
                number(of.m2),
                number(of.m2_all),
                Unit::Share.write(of.effective_tokens),
                Unit::Share.write(of.effective_rollouts),
                number(of.chi_square),
                Unit::Share.write(of.beyond_tenth),
                Unit::Share.write(of.beyond_double),
                format!("{:.3}", of.log_ratio_p01),
                format!("{:.3}", of.log_ratio_p99),
            ]
        });
        producers::table(page, &heads, rows);
        page.push_str("</section>\n");
    }

    /// Writes the table of what each loss discards.
    fn losses(&self, page: &mut String) {
        page.push_str(
            "<section class=\"account\">\n<h2>What each loss discards</h2>\n<p>Share of tokens without \
             gradient, and after + the share whose weight is capped.</p>\n",
        );
        let staleness: Vec<_> = self.ages.iter().map(|of| number(of.staleness)).collect();
        let heads = std::iter::once("loss").chain(staleness.iter().map(String::as_str));
        let heads: Vec<_> = heads.collect();
        let named = vintage_ages::DISCARDING.iter().map(|name| name.as_str());
        let rows = named.map(|name| {
            let cell = |of: &AgeFigures| {
                of.losses.get(name).map_or_else(
                    || "–".to_owned(),
                    |of| by_age::discarded(of.masked, of.truncated),
                )
            };
            let own = if name == self.algorithm.as_str() {
                " <small>the run's</small>"
            } else {
                ""
            };
            let first = format!("<code>{name}</code>{own}");
            std::iter::once(first)
                .chain(self.ages.iter().map(cell))
                .collect()
        });
        producers::table(page, &heads, rows);
        page.push_str("</section>\n");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use vintage_ages::{AgeFigures, Answer, Discarded};
    use vintage_control::AlgorithmName;

    use super::AgesPage;

    fn at(age: u64) -> AgeFigures {
        let discarded = |masked, truncated| Discarded { masked, truncated };
        AgeFigures {
            age,
            staleness: age as f64,
            oldest: age,
            newest: age,
            groups: 64,
            rollouts: 512,
            tokens: 4096,
            m2: 1e-4 * age as f64,
            m2_all: 2e-4 * age as f64,
            kl: 0.0,
            effective_tokens: 0.9,
            effective_rollouts: 0.5,
            chi_square: 1.0,
            beyond_tenth: 0.2,
            beyond_double: 0.01,
            log_ratio_p01: -0.3,
            log_ratio_p99: 0.3,
            losses: BTreeMap::from([
                ("m2po", discarded(0.25, None)),
                ("tis", discarded(0.0, Some(0.125))),
            ]),
            batches: Vec::new(),
        }
    }

    #[test]
    fn a_page_has_the_sentence_a_chart_of_each_kind_and_every_loss() {
        let answer = Answer {
            inside: None,
            light: None,
            beyond: Some(0),
            threshold: 0.04,
            sentence: "Rollouts <of> all ages.".to_owned(),
        };
        let mut ages = [at(0), at(1), at(2), at(4), at(512)];
        ages[4].staleness = 500.0;
        let page = AgesPage {
            run: "a<b",
            algorithm: AlgorithmName::Tis,
            answer: &answer,
            ages: &ages,
            gradients: None,
        };
        let page = page.render().unwrap();
        assert!(page.contains("<h1>Rollouts &lt;of&gt; all ages.</h1>"));
        assert!(page.contains("run <b>a&lt;b</b>"));
        assert_eq!(page.matches("<svg").count(), 4);
        // One band for each age in each chart, and the axis has powers of two.
        assert_eq!(page.matches("class=\"band\"").count(), 20);
        assert!(
            page.contains("<title>staleness 500\ntrust region 0.051"),
            "{page}"
        );
        assert!(page.contains(">\n512\n<"), "{page}");
        assert!(page.contains("<code>tis</code> <small>the run's</small>"));
        assert!(page.contains("<td>0 % + 12 %</td>"), "{page}");
        for loss in vintage_ages::DISCARDING {
            assert!(page.contains(&format!("<code>{}</code>", loss.as_str())));
        }
        assert!(!page.contains("http") && !page.contains("<script"));
    }

    #[test]
    fn an_age_alone_is_a_page_too() {
        let answer = Answer {
            inside: Some(1),
            light: Some(1),
            beyond: None,
            threshold: 0.04,
            sentence: "One.".to_owned(),
        };
        let ages = [at(1)];
        let page = AgesPage {
            run: "a",
            algorithm: AlgorithmName::Oapl,
            answer: &answer,
            ages: &ages,
            gradients: None,
        };
        assert!(page.render().unwrap().contains("staleness 1\n"));
    }
}
