//! Runs the kept corpora of the fuzz targets in the same functions, without libFuzzer.

use std::path::Path;

#[path = "../fuzz/bodies/mod.rs"]
mod bodies;

/// Tests that seeds are accepted or refused as their names say, and that former findings break no
/// guarantee.
#[test]
fn the_kept_corpora_keep_the_promises() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    // A folder that no target reads would be kept for nothing.
    let folders = corpora.read_dir().expect("the corpora").flatten();
    let mut kept: Vec<_> = folders
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    kept.sort();
    let mut targets: Vec<_> = bodies::TARGETS.iter().map(|(name, _)| *name).collect();
    targets.sort_unstable();
    assert_eq!(kept, targets, "corpora and targets");
    for (name, body) in bodies::TARGETS {
        let mut verdicts = (0, 0);
        for entry in corpora.join(name).read_dir().expect("a corpus") {
            let path = entry.expect("an entry").path();
            let accepted = body(&std::fs::read(&path).expect("a file"));
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            match file.split('-').next() {
                Some("ok") => assert!(accepted, "{name}/{file} is refused"),
                Some("no") => assert!(!accepted, "{name}/{file} is accepted"),
                Some("find") => {}
                _ => panic!("{name}/{file} does not say what must come of it"),
            }
            *if accepted {
                &mut verdicts.0
            } else {
                &mut verdicts.1
            } += 1;
        }
        assert!(
            verdicts.0 > 0 && verdicts.1 > 0,
            "{name}: one of each at least, found {verdicts:?}"
        );
    }
}
