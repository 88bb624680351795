use vintage_trajectory::Headers;

/// Checks that headers which parse are written again to the same headers. The bytes are read by
/// [`headers_of`].
pub(crate) fn body(bytes: &[u8]) -> bool {
    let pairs = headers_of(bytes);
    let pairs = pairs.iter().map(|(key, value)| (key.as_str(), *value));
    let Ok(parsed) = Headers::parse(pairs) else {
        return false;
    };
    let written = parsed.to_pairs();
    let written = written
        .iter()
        .map(|(key, value)| (key.as_str(), Some(value.as_slice())));
    assert_eq!(Headers::parse(written).ok(), Some(parsed));
    true
}

/// Reads header pairs from bytes: length of a name, the name, length of a value (255: null), the
/// value, repeated.
fn headers_of(mut bytes: &[u8]) -> Vec<(String, Option<&[u8]>)> {
    let mut pairs = Vec::new();
    while let Some((key, rest)) = take(bytes) {
        let key = String::from_utf8_lossy(key).into_owned();
        let (value, rest) = match rest {
            [255, rest @ ..] => (None, rest),
            rest => match take(rest) {
                Some((value, rest)) => (Some(value), rest),
                None => break,
            },
        };
        pairs.push((key, value));
        bytes = rest;
    }
    pairs
}

fn take(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first()?;
    Some(rest.split_at(usize::from(*length).min(rest.len())))
}
