/// Known units, each with the ways to write it.
const UNITS: &[(&str, &[&str])] = &[
    ("degree", &["degree", "degrees", "deg", "°"]),
    ("radian", &["radian", "radians", "rad"]),
    (
        "mm",
        &[
            "mm",
            "millimeter",
            "millimeters",
            "millimetre",
            "millimetres",
        ],
    ),
    (
        "cm",
        &[
            "cm",
            "centimeter",
            "centimeters",
            "centimetre",
            "centimetres",
        ],
    ),
    ("m", &["m", "meter", "meters", "metre", "metres"]),
    (
        "km",
        &["km", "kilometer", "kilometers", "kilometre", "kilometres"],
    ),
    ("inch", &["in", "inch", "inches"]),
    ("foot", &["ft", "foot", "feet"]),
    ("yard", &["yd", "yard", "yards"]),
    ("mile", &["mi", "mile", "miles"]),
    ("mg", &["mg", "milligram", "milligrams"]),
    ("g", &["g", "gram", "grams"]),
    ("kg", &["kg", "kilogram", "kilograms"]),
    ("pound", &["lb", "lbs", "pound", "pounds"]),
    ("ounce", &["oz", "ounce", "ounces"]),
    ("ml", &["ml", "mL", "milliliter", "milliliters"]),
    ("l", &["l", "L", "liter", "liters", "litre", "litres"]),
    ("ms", &["ms", "millisecond", "milliseconds"]),
    ("s", &["s", "sec", "second", "seconds"]),
    ("min", &["min", "minute", "minutes"]),
    ("h", &["h", "hr", "hrs", "hour", "hours"]),
    ("day", &["day", "days"]),
    ("week", &["week", "weeks"]),
    ("month", &["month", "months"]),
    ("year", &["year", "years", "yr", "yrs"]),
    ("dollar", &["dollar", "dollars", "usd"]),
    ("cent", &["cent", "cents"]),
    ("N", &["N", "newton", "newtons"]),
    ("J", &["J", "joule", "joules"]),
    ("kJ", &["kJ", "kj"]),
    ("W", &["W", "watt", "watts"]),
    ("Hz", &["Hz", "hz", "hertz"]),
    ("mph", &["mph"]),
];

/// Returns true for a word of two or more letters that is a known unit, even outside of `\text{}`.
pub(crate) fn is_unit(word: &str) -> bool {
    word.len() > 1 && unit_named(word).is_some()
}

fn unit_named(word: &str) -> Option<&'static str> {
    let found = UNITS.iter().find(|(_, names)| names.contains(&word));
    found.map(|(unit, _)| *unit)
}

/// Returns true if two units, as written, are both known and differ.
///
/// An unknown unit (`apples`) may mean anything, so it never conflicts.
pub(crate) fn units_conflict(a: &str, b: &str) -> bool {
    match (canonical_unit(a), canonical_unit(b)) {
        (Some(a), Some(b)) => a != b,
        _ => false,
    }
}

fn canonical_unit(text: &str) -> Option<String> {
    let mut canonical = String::new();
    for piece in text.split_inclusive(|c: char| !c.is_alphabetic() && c != '°') {
        let word = piece.trim_end_matches(|c: char| !c.is_alphabetic() && c != '°');
        if word == "per" {
            canonical.push('/');
            continue;
        }
        if !word.is_empty() {
            canonical.push_str(unit_named(word)?);
        }
        canonical.push_str(piece[word.len()..].trim());
    }
    Some(canonical)
}

#[cfg(test)]
mod tests {
    use super::units_conflict;

    #[test]
    fn units_conflict_where_both_are_known() {
        assert!(units_conflict("cm", "m"));
        assert!(units_conflict("cm ^2", "cm ^3"));
        assert!(units_conflict("km/h", "km"));
        assert!(!units_conflict("cm", "centimeters"));
        assert!(!units_conflict("km/h", "kilometers per hour"));
        assert!(!units_conflict("apples", "cm"));
    }
}
