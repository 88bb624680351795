use vintage_verify::{AnswerKind, Number, boxed, check, hashes, is_correct, last_number};

/// Checks the comparison of answers. The bytes are a completion, a zero byte and the known answer.
pub(crate) fn body(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let (completion, known) = text.split_once('\0').unwrap_or((&text, "42"));
    let mut correct = false;
    for kind in AnswerKind::ALL {
        let verdict = is_correct(kind, completion, known);
        let extracted = verdict.extracted.unwrap_or_default();
        assert!(completion.contains(&extracted), "{kind}: {extracted:?}");
        let comparable = check(kind, known).is_ok();
        assert!(!verdict.correct || comparable, "{kind}: equal to no answer");
        correct |= verdict.correct;
    }
    for part in [
        boxed(completion),
        hashes(completion),
        last_number(completion),
    ] {
        assert!(completion.contains(part.unwrap_or_default()));
    }
    if let (Some(a), Some(b)) = (Number::parse(completion), Number::parse(known)) {
        assert!(a.equals(&a) && a.equals(&b) == b.equals(&a));
    }
    correct
}
