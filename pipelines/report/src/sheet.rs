//! Page about many runs: paragraphs, tables and curves that the caller has computed.

use std::{fmt::Write as _, path::Path};

use vintage_control::{EvaluationResult, UpdateResult};
use vintage_store::Store;

use crate::{
    chart::{Axis, Curve, Curves, Look, Unit},
    error::Result,
    figures::{Figure, figure},
    html::Escaped,
    ink::Ink,
    page::{begin, chart, end, persist},
    record::RunRecord,
    series::finite,
};

/// Colours of the lines of a chart.
const INKS: [Ink; Drawing::MOST] = [Ink::First, Ink::Second, Ink::Third, Ink::Fourth];

/// Page about many runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Sheet {
    /// Kind of the page, in small letters above the title.
    pub kind: String,
    /// Title.
    pub title: String,
    /// Facts below the title.
    pub facts: Vec<String>,
    /// Parts, from the top.
    pub parts: Vec<Part>,
}

/// Part of a page.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// Text and a table.
    Table(Table),
    /// Charts side by side, under a heading.
    Charts {
        /// Heading.
        heading: String,
        /// Charts.
        drawings: Vec<Drawing>,
    },
}

/// Table with a text above it.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// Heading.
    pub heading: String,
    /// Paragraphs above the table.
    pub text: Vec<String>,
    /// Heads of the columns; none for a part without a table.
    pub head: Vec<String>,
    /// Cells, row by row.
    pub rows: Vec<Vec<String>>,
}

/// Chart of curves.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawing {
    /// Title.
    pub title: String,
    /// Text below the title.
    pub note: String,
    /// Horizontal axis.
    pub across: Across,
    /// Vertical axis.
    pub scale: Scale,
    /// Lines, each in a colour of its own: at most [`Drawing::MOST`], further ones are left out.
    pub lines: Vec<Line>,
}

/// Horizontal axis, by what it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Across {
    /// Versions that were evaluated.
    Versions,
    /// Updates.
    Updates,
    /// Staleness in updates.
    Staleness,
    /// New groups.
    Groups,
}

/// Vertical axis, by what it measures; all begin at 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Shares on an axis up to 100 %.
    Whole,
    /// Shares, written in percent.
    Share,
    /// Plain numbers.
    Number,
}

/// Line of a chart.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Name.
    pub name: String,
    /// Points as x and y, in the order of x.
    pub points: Vec<(f64, f64)>,
    /// Lines drawn pale behind it in the same colour, such as single runs behind their mean.
    pub behind: Vec<Vec<(f64, f64)>>,
}

impl Drawing {
    /// Largest number of lines that are told apart by colour.
    pub const MOST: usize = 4;

    fn figure(&self) -> Result<Figure> {
        let (axis, counted) = match self.across {
            Across::Versions => (Axis::Of("version"), "version"),
            Across::Updates => (Axis::Updates, "update"),
            Across::Staleness => (Axis::Of("staleness, updates"), "staleness"),
            Across::Groups => (Axis::Of("new groups"), "new groups"),
        };
        let look = match self.across {
            Across::Updates => Look::Line,
            Across::Versions | Across::Staleness | Across::Groups => Look::Dotted,
        };
        let inked = || INKS.into_iter().zip(&self.lines);
        let curve = |ink, points: &[(f64, f64)], look| Curve {
            ink,
            points: finite(points.iter().copied()),
            look,
        };
        let behind = inked().flat_map(|(ink, line)| {
            let behind = line.behind.iter();
            behind.map(move |points| curve(ink, points, Look::Pale))
        });
        let front = inked().map(|(ink, line)| curve(ink, &line.points, look));
        let curves = Curves {
            axis,
            unit: match self.scale {
                Scale::Whole | Scale::Share => Unit::Share,
                Scale::Number => Unit::Number,
            },
            log: false,
            reach: match self.scale {
                Scale::Whole => vec![0.0, 1.0],
                Scale::Share | Scale::Number => vec![0.0],
            },
            rule: None,
            lines: behind.chain(front).collect(),
        };
        let lines: Vec<_> = inked()
            .map(|(ink, line)| (ink, line.name.as_str(), finite(line.points.iter().copied())))
            .collect();
        figure(
            self.title.clone(),
            self.note.clone(),
            &lines,
            counted,
            &curves,
        )
    }
}

impl Sheet {
    /// Writes the page to a file, all of it or nothing, and returns its size in bytes.
    ///
    /// # Errors
    /// A chart that cannot be drawn, or a file that cannot be written.
    pub fn write(&self, to: &Path) -> Result<u64> {
        let page = self.render()?;
        persist(&page, to)?;
        Ok(page.len() as u64)
    }

    fn render(&self) -> Result<String> {
        let mut page = String::with_capacity(128 << 10);
        begin(&mut page, &self.title);
        let facts = self.facts.iter().map(|fact| Escaped(fact).to_string());
        let _infallible = write!(
            page,
            "<header>\n<p class=\"brand\">{}</p>\n<h1>{}</h1>\n<p class=\"facts\">{}</p>\n</header>\n",
            Escaped(&self.kind),
            Escaped(&self.title),
            facts
                .collect::<Vec<_>>()
                .join("<span class=\"dot\"> · </span>"),
        );
        for part in &self.parts {
            match part {
                Part::Table(table) => table.onto(&mut page),
                Part::Charts { heading, drawings } => charts(&mut page, heading, drawings)?,
            }
        }
        end(&mut page);
        Ok(page)
    }
}

impl Table {
    fn onto(&self, page: &mut String) {
        let heading = Escaped(&self.heading);
        let _infallible = writeln!(page, "<section class=\"account\">\n<h2>{heading}</h2>");
        for paragraph in &self.text {
            let _infallible = writeln!(page, "<p>{}</p>", Escaped(paragraph));
        }
        if !self.head.is_empty() {
            page.push_str("<div class=\"wide\"><table class=\"figures plain\"><thead><tr>");
            for name in &self.head {
                let _infallible = write!(page, "<th>{}</th>", Escaped(name));
            }
            page.push_str("</tr></thead><tbody>\n");
            for row in &self.rows {
                page.push_str("<tr>");
                for cell in row {
                    let _infallible = write!(page, "<td>{}</td>", Escaped(cell));
                }
                page.push_str("</tr>\n");
            }
            page.push_str("</tbody></table></div>\n");
        }
        page.push_str("</section>\n");
    }
}

fn charts(page: &mut String, heading: &str, drawings: &[Drawing]) -> Result<()> {
    let heading = Escaped(heading);
    let _infallible = writeln!(
        page,
        "<h3>{heading}</h3>\n<section class=\"charts\" aria-label=\"{heading}\">"
    );
    for drawing in drawings {
        chart(page, &drawing.figure()?);
    }
    page.push_str("</section>\n");
    Ok(())
}

/// Results and evaluations of a run's own learner, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct RunCourse {
    /// Results of the updates.
    pub results: Vec<UpdateResult>,
    /// Evaluations of its versions.
    pub evaluations: Vec<EvaluationResult>,
}

/// Reads results and evaluations of the run in `folder` from its store.
///
/// # Errors
/// A folder that is not a run's, or a record that cannot be read.
pub async fn read_course(folder: &Path, store: &Store) -> Result<RunCourse> {
    let record = RunRecord::outline(folder, store).await?;
    Ok(RunCourse {
        results: record.results,
        evaluations: record.evaluations,
    })
}

#[cfg(test)]
mod tests {
    use super::{Across, Drawing, Line, Part, Scale, Sheet, Table};

    fn drawing(lines: usize) -> Drawing {
        let line = |at: usize| Line {
            name: format!("loss {at}"),
            points: vec![(0.0, 0.1), (25.0, 0.5)],
            behind: vec![vec![(0.0, 0.0), (25.0, f64::NAN)]],
        };
        Drawing {
            title: "Sampled".to_owned(),
            note: "Shares.".to_owned(),
            across: Across::Versions,
            scale: Scale::Whole,
            lines: (1..=lines).map(line).collect(),
        }
    }

    #[test]
    fn a_sheet_is_one_page_with_its_tables_and_charts_and_nothing_from_elsewhere() {
        let folder = tempfile::tempdir().expect("a folder");
        let to = folder.path().join("page.html");
        let table = Table {
            heading: "Table".to_owned(),
            text: vec!["a < b".to_owned()],
            head: vec!["loss".to_owned()],
            rows: vec![vec!["<m2po>".to_owned()]],
        };
        let charts = Part::Charts {
            heading: "Charts".to_owned(),
            drawings: vec![drawing(2)],
        };
        let sheet = Sheet {
            kind: "vintage experiment".to_owned(),
            title: "Old data".to_owned(),
            facts: vec!["2 runs".to_owned()],
            parts: vec![Part::Table(table), charts],
        };
        let bytes = sheet.write(&to).expect("a page");
        let page = std::fs::read_to_string(&to).expect("the page");
        assert_eq!(bytes, page.len() as u64);
        assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
        assert!(page.contains("<p>a &lt; b</p>") && page.contains("<td>&lt;m2po&gt;</td>"));
        assert!(
            page.contains("version 25\nloss 1 50 %\nloss 2 50 %"),
            "{page}"
        );
        assert!(!page.contains("http") && !page.contains("NaN"), "{page}");
    }

    #[test]
    fn lines_beyond_the_colours_are_neither_drawn_nor_named() {
        let figure = drawing(6).figure().expect("a chart");
        assert_eq!(figure.legend.len(), Drawing::MOST);
        assert!(!figure.svg.expect("lines").contains("loss 5"));
    }
}
