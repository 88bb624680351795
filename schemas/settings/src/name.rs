use vintage_control::Name;

/// Parses a name that is known to be valid.
pub(crate) fn name(text: &str) -> Name {
    text.parse().expect("a name of letters, digits and hyphens")
}
