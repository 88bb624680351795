use vintage_config::{Layers, Resolved, RunConfig};

/// Checks that accepted settings are accepted again as recorded. The bytes are lines of `--set`, a
/// line `---` and a file of settings.
pub(crate) fn body(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    let (sets, file) = text.split_once("---\n").unwrap_or(("", text));
    let Some(resolved) = resolve(sets, file) else {
        return false;
    };
    let recorded = resolved.to_toml();
    let again = resolve("", &recorded).expect("settings that were taken are taken again");
    assert!(
        again.config == resolved.config,
        "a run goes on with what it wrote"
    );
    true
}

fn resolve(sets: &str, file: &str) -> Option<Resolved<RunConfig>> {
    let mut layers = Layers::new().toml(file, "fuzz").ok()?;
    for set in sets.lines() {
        layers = layers.set(set).ok()?;
    }
    layers.resolve().ok()
}
