use vintage_control::Name;

/// A name known to be valid.
pub(crate) fn name(text: &str) -> Name {
    text.parse().expect("a name of letters, digits and hyphens")
}
