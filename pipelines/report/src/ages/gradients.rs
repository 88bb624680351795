//! Part of the page of `vintage staleness` about gradients: one chart, and a table for each quantity.

use std::fmt::Write as _;

use vintage_ages::{AgeDirections, Estimate, LossDirection};
use vintage_control::AlgorithmName;

use super::by_age::{self, Line};
use crate::{
    chart::{Look, Unit, number},
    error::Result,
    figures::Figure,
    html::Escaped,
    ink::Ink,
    producers,
};

/// Losses whose curves are drawn if they were compared, after the run's own.
const DRAWN: [AlgorithmName; 3] = [
    AlgorithmName::M2po,
    AlgorithmName::Grpo,
    AlgorithmName::None,
];
const INKS: [Ink; 3] = [Ink::First, Ink::Second, Ink::Third];

/// Direction of losses' gradients, as a page shows it.
#[derive(Debug, Clone, Copy)]
pub struct GradientsShown<'a> {
    /// Sentence that says what was found.
    pub sentence: Option<&'a str>,
    /// Losses, in the order of the rows.
    pub losses: &'a [AlgorithmName],
    /// Figures by age, the youngest first; at least one.
    pub ages: &'a [AgeDirections],
}

/// Table by loss and age: its heading, its explanation and the text of a cell.
type Table = (&'static str, &'static str, fn(&LossDirection) -> String);

impl GradientsShown<'_> {
    /// Draws the cosines of a few losses, and of a fresh batch.
    pub(super) fn figure(&self, own: AlgorithmName) -> Result<Figure> {
        let drawn = self.drawn(own);
        let cosines = |name: &str, value: fn(&LossDirection) -> f64| -> Vec<_> {
            let of = self.ages.iter().map(|of| of.losses.get(name));
            of.map(|of| of.map(value)).collect()
        };
        let mut lines: Vec<_> = INKS
            .into_iter()
            .zip(&drawn)
            .map(|(ink, loss)| Line {
                ink,
                name: loss.as_str(),
                look: Look::Dotted,
                values: cosines(loss.as_str(), |of| of.cosine.mean),
            })
            .collect();
        let first = drawn.first().map_or("", |loss| loss.as_str());
        lines.push(Line {
            ink: Ink::Fourth,
            name: "fresh rollouts",
            look: Look::Line,
            values: cosines(first, |of| of.fresh.mean),
        });
        let staleness: Vec<_> = self.ages.iter().map(|of| of.staleness).collect();
        by_age::figure(
            "Direction of the gradient",
            "Cosine of a batch's gradient with the on-policy gradient. A batch of fresh rollouts has the noise \
             of its size and nothing else.",
            (Unit::Number, None),
            &staleness,
            &lines,
        )
    }

    /// Returns the losses whose curves are drawn: three of them at most.
    fn drawn(&self, own: AlgorithmName) -> Vec<AlgorithmName> {
        let wanted = std::iter::once(own)
            .chain(DRAWN)
            .chain(self.losses.iter().copied());
        let mut drawn: Vec<AlgorithmName> = Vec::new();
        for name in wanted {
            if self.losses.contains(&name) && !drawn.contains(&name) && drawn.len() < INKS.len() {
                drawn.push(name);
            }
        }
        drawn
    }

    /// Writes a table for each quantity.
    pub(super) fn tables(&self, page: &mut String, own: AlgorithmName) {
        let tables: [Table; 4] = [
            (
                "Direction of the gradients",
                "Cosine with the on-policy gradient, with the half-width of its 95 % interval over versions; \
                 after / that of a fresh batch.",
                |of| format!("{} / {:.2}", interval(of.cosine), of.fresh.mean),
            ),
            (
                "Norm of the gradients",
                "Norm over that of a fresh batch of as many groups. Losses that are means over rows, or \
                 regressions, have scales of their own.",
                |of| interval(of.norm),
            ),
            (
                "What each gradient throws away",
                "Share of tokens without gradient, and after + the share whose weight is capped.",
                |of| by_age::discarded(of.masked, of.truncated),
            ),
            (
                "What remains",
                "Effective share of the tokens by the weights that the loss gives them.",
                |of| Unit::Share.write(of.effective),
            ),
        ];
        for (place, (title, note, cell)) in tables.into_iter().enumerate() {
            let _ = writeln!(
                page,
                "<section class=\"account\">\n<h2>{title}</h2>\n<p>{note}</p>"
            );
            if let Some(sentence) = self.sentence.filter(|_| place == 0) {
                let _ = writeln!(page, "<p>{}</p>", Escaped(sentence));
            }
            self.table(page, own, cell);
            page.push_str("</section>\n");
        }
    }

    fn table(&self, page: &mut String, own: AlgorithmName, cell: fn(&LossDirection) -> String) {
        let staleness: Vec<_> = self.ages.iter().map(|of| number(of.staleness)).collect();
        let heads = std::iter::once("loss").chain(staleness.iter().map(String::as_str));
        let heads: Vec<_> = heads.collect();
        let rows = self.losses.iter().map(|loss| {
            let name = loss.as_str();
            let mark = if *loss == own {
                " <small>the run's</small>"
            } else {
                ""
            };
            let cells = self.ages.iter().map(|of| {
                let found = of.losses.get(name);
                found.map_or_else(|| "–".to_owned(), cell)
            });
            std::iter::once(format!("<code>{name}</code>{mark}"))
                .chain(cells)
                .collect()
        });
        producers::table(page, &heads, rows);
    }
}

fn interval(of: Estimate) -> String {
    let half = of.half.map(|half| format!(" ± {half:.2}"));
    format!("{:.2}{}", of.mean, half.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use vintage_ages::{AgeDirections, BatchDirection, Directions};
    use vintage_control::{AlgorithmName, PolicyVersion};

    use super::GradientsShown;

    fn ages() -> Vec<AgeDirections> {
        let mut directions = Directions::default();
        for (age, cosine) in [(0, 0.6), (8, 0.4), (64, -0.1)] {
            for version in [100, 200] {
                let batch = |less: f64| BatchDirection {
                    version: PolicyVersion(version),
                    groups: 16,
                    staleness: age as f64,
                    cosine: cosine - less,
                    fresh: 0.65,
                    norm: 1.5,
                    masked: 0.25,
                    truncated: Some(0.125),
                    effective: 0.5,
                };
                directions.add(age, AlgorithmName::Tis, Some(batch(0.0)));
                directions.add(age, AlgorithmName::Grpo, Some(batch(0.1)));
                let fails = (age == 0).then(|| batch(0.2));
                directions.add(age, AlgorithmName::M2poFork, fails);
            }
        }
        directions.figures(AlgorithmName::Tis)
    }

    #[test]
    fn a_page_has_a_curve_of_each_loss_drawn_and_a_row_of_every_loss() {
        let ages = ages();
        let losses = [
            AlgorithmName::Grpo,
            AlgorithmName::M2poFork,
            AlgorithmName::Tis,
        ];
        let shown = GradientsShown {
            sentence: Some("So <it> is."),
            losses: &losses,
            ages: &ages,
        };
        let figure = shown.figure(AlgorithmName::Tis).unwrap();
        let names: Vec<_> = figure.legend.iter().map(|(_, name)| &**name).collect();
        assert_eq!(names, ["tis", "grpo", "m2po_fork", "fresh rollouts"]);
        let svg = figure.svg.unwrap();
        assert_eq!(svg.matches("class=\"band\"").count(), 3);
        assert!(
            svg.contains("staleness 64\ntis -0.1\ngrpo -0.2\nfresh rollouts 0.65"),
            "{svg}"
        );
        let mut page = String::new();
        shown.tables(&mut page, AlgorithmName::Tis);
        assert_eq!(page.matches("<table").count(), 4);
        assert!(page.contains("So &lt;it&gt; is."), "{page}");
        assert!(
            page.contains("<code>tis</code> <small>the run's</small></td><td>0.60 ± 0.00 / 0.65"),
            "{page}"
        );
        // What could not be weighed at an age is not there.
        assert!(
            page.contains("<td>0.40 ± 0.00 / 0.65</td><td>–</td><td>–</td>"),
            "{page}"
        );
        assert!(page.contains("<td>25 % + 12 %</td>"), "{page}");
    }
}
