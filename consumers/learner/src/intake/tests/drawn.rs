//! Tests of groups that a seed draws from an archive.

use super::*;

/// Returns the prompts of the groups that are drawn from an archive, whose groups have these ids and prompts and are
/// read in this order.
fn drawn(groups: &[(u64, i32)]) -> Vec<i32> {
    let mut intake = intake().of_archive("other");
    for (offset, (id, prompt)) in (0..).zip(groups) {
        let of = |sample| {
            let mut row = row(*id, sample);
            row.prompt_tokens = vec![*prompt];
            row
        };
        let message = message(offset, *id, (1, 1), &[of(0), of(1)]);
        intake.take(message, PermittedVersions::Any).unwrap();
    }
    let drawn = intake.draw(UpdateNumber(3), 4, 7);
    let prompt = |group: &ReadyGroup| group.parts[0].prompt_tokens(0)[0];
    drawn.iter().map(prompt).collect()
}

#[test]
fn a_draw_depends_neither_on_ids_nor_on_the_order_of_arrival() {
    let groups: Vec<_> = (0..12).map(|at| (at, at as i32 + 10)).collect();
    let first = drawn(&groups);
    assert_eq!(first.len(), 4);
    let mut others: Vec<_> = groups
        .iter()
        .map(|(id, prompt)| (id + 100, *prompt))
        .collect();
    others.reverse();
    assert_eq!(drawn(&others), first);
    // They are drawn: it is not the order of the prompts.
    assert!(first != [10, 11, 12, 13], "{first:?}");
}
