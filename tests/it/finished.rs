//! A run that is finished and started again.

use anyhow::{Result, ensure};
use vintage_tests::place;

use crate::small;

#[test]
fn a_finished_run_started_again_reads_its_summary_and_nothing_else() -> Result<()> {
    let (folder, out) = place()?;
    let first = small::finished(small::digits(folder.path(), &out)?)?;
    let written = || out.join("report.html").metadata()?.modified();
    let reported = written()?;
    // Without its records it could neither count nor report.
    for part in ["archive", "plans", "results"] {
        std::fs::rename(out.join(part), folder.path().join(part))?;
    }
    let again = small::finished(small::digits(folder.path(), &out)?)?;
    ensure!(again == first, "{again}\n{first}");
    ensure!(written()? == reported, "the report was written again");
    for part in ["archive", "plans", "results"] {
        std::fs::rename(folder.path().join(part), out.join(part))?;
    }

    std::fs::remove_file(out.join("report.html"))?;
    small::finished(small::digits(folder.path(), &out)?)?;
    ensure!(
        out.join("report.html").is_file(),
        "a missing report is written"
    );
    Ok(())
}
