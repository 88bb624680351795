//! Settings that do not exist or cannot be used.

use anyhow::{Result, ensure};
use vintage_tests::place;

use super::{USAGE, refused};
use crate::small;

#[test]
fn an_unknown_setting_is_named_with_its_place_and_a_suggestion() -> Result<()> {
    let (folder, out) = place()?;

    let mut typed = small::digits(folder.path(), &out)?;
    typed.args(["--set", "learner.stpes=7"]);
    let meant = ["learner.stpes", "did you mean learner.steps?"];
    refused(&typed, USAGE, &[&meant[..], &["--set"]].concat())?;

    let file = folder.path().join("mine.toml");
    std::fs::write(&file, "seed = 1\n\n[learner]\nstpes = 7\n")?;
    let mut written = small::digits(folder.path(), &out)?;
    written.arg("-c").arg(&file);
    refused(&written, USAGE, &[&meant[..], &["mine.toml:4"]].concat())?;

    let mut exported = small::digits(folder.path(), &out)?;
    exported.env("VINTAGE__LEARNER__STPES", "7");
    refused(
        &exported,
        USAGE,
        &[&meant[..], &["VINTAGE__LEARNER__STPES"]].concat(),
    )?;

    let mut value = small::digits(folder.path(), &out)?;
    value.args(["--set", "algorithm=m3po"]);
    refused(&value, USAGE, &["algorithm", "did you mean \"m2po\"?"])?;

    let mut file = small::digits(folder.path(), &out)?;
    file.arg("-c").arg(folder.path().join("absent.toml"));
    refused(
        &file,
        USAGE,
        &["absent.toml", "No such file", "check the path"],
    )?;

    ensure!(!out.exists(), "a mistyped command makes no folder");
    Ok(())
}
