use super::*;

#[test]
fn sizes_grow_by_ten_and_end_at_the_one_asked_for() {
    assert_eq!(sizes(0), [0_usize; 0]);
    assert_eq!(sizes(5), [5]);
    assert_eq!(sizes(10_000), [10_000]);
    assert_eq!(sizes(2_000_000), [10_000, 100_000, 1_000_000, 2_000_000]);
}

/// Tests that the ways agree about the mask (`run` fails if they do not), and that the report is
/// whole.
#[test]
fn reports_every_size() -> Result<()> {
    let mut out = Vec::new();
    let report = run(20_000, true, &mut out)?;
    let printed: serde_json::Value = serde_json::from_slice(&out)?;
    assert_eq!(printed["sizes"].as_array().map(Vec::len), Some(2));
    assert_eq!(printed["sizes"][1]["tokens"], 20_000);
    assert!(
        report
            .sizes
            .iter()
            .all(|size| size.masked > 0 && size.mask_ms > 0.0)
    );
    let mut table = Vec::new();
    run(100, false, &mut table)?;
    assert!(
        String::from_utf8(table)?
            .lines()
            .last()
            .unwrap_or("")
            .trim()
            .starts_with("100 ")
    );
    Ok(())
}
