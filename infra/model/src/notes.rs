//! Notes for the user on what was found in a model's files.

/// Formats "WHAT (count): the first few names"; `None` if there are no names.
pub(crate) fn note_on(what: &str, names: &[String]) -> Option<String> {
    const SHOWN: usize = 4;
    if names.is_empty() {
        return None;
    }
    let shown = names
        .iter()
        .take(SHOWN)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ");
    let more = if names.len() > SHOWN { ", …" } else { "" };
    Some(format!("{what} ({}): {shown}{more}", names.len()))
}
