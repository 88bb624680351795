//! Python's operators for which the engine differs. [`super::rewrite`] calls them by these names.

use minijinja::formatting::{FormatStyle, format};
use minijinja::value::{Rest, Tuple, Value, ValueKind};
use minijinja::{Environment, Error};

use super::arguments::{iterable, wrong};
use super::python::{spelling, text};

/// Function for `a + b + …`.
pub(super) const ADD: &str = "python_add";
/// Function for `a ~ b ~ …`.
pub(super) const CONCAT: &str = "python_concat";
/// Function for `a % b`.
pub(super) const REMAINDER: &str = "python_remainder";
/// Function for `a[start:stop:step]`.
pub(super) const SLICE: &str = "python_slice";
/// Function for the iterable of a `for` loop.
pub(super) const ITERATE: &str = "python_iterate";
/// Function for `a.items` and other methods of dictionaries without a call.
pub(super) const ATTRIBUTE: &str = "python_attribute";

/// Adds the operators to an environment.
pub(super) fn add(environment: &mut Environment<'static>) {
    environment.add_function(ADD, |parts: Rest<Value>| sum(&parts));
    environment.add_function(CONCAT, |parts: Rest<Value>| {
        parts.iter().map(text).collect::<String>()
    });
    environment.add_function(REMAINDER, |a: &Value, b: &Value| remainder(a, b));
    environment.add_function(
        SLICE,
        |value: &Value, start: &Value, stop: &Value, step: &Value| slice(value, start, stop, step),
    );
    environment.add_function(ITERATE, |value: &Value| iterable(value));
    environment.add_function(ATTRIBUTE, |value: &Value, name: &str| {
        attribute(value, name)
    });
}

fn sum(parts: &[Value]) -> Result<Value, Error> {
    let Some((first, rest)) = parts.split_first() else {
        return Ok(Value::UNDEFINED);
    };
    if first.as_str().is_some() {
        let mut whole = String::new();
        for part in parts {
            whole += part.as_str().ok_or_else(|| mismatch("+", first, part))?;
        }
        return Ok(Value::from(whole));
    }
    let mut whole = first.clone();
    for part in rest {
        whole = added(&whole, part)?;
    }
    Ok(whole)
}

fn added(a: &Value, b: &Value) -> Result<Value, Error> {
    let is_list = |value: &Value| matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable);
    let is_tuple = |value: &Value| value.downcast_object_ref::<Tuple>().is_some();
    if let (Some(a), Some(b)) = (integer(a), integer(b)) {
        let sum = a
            .checked_add(b)
            .ok_or_else(|| wrong("a sum is too large"))?;
        return Ok(small(sum));
    }
    if let (Some(a), Some(b)) = (float(a), float(b)) {
        return Ok(Value::from(a + b));
    }
    if is_list(a) && is_list(b) && is_tuple(a) == is_tuple(b) {
        let items: Vec<Value> = a.try_iter()?.chain(b.try_iter()?).collect();
        return Ok(if is_tuple(a) {
            Value::from(Tuple::from(items))
        } else {
            Value::from(items)
        });
    }
    Err(mismatch("+", a, b))
}

fn remainder(a: &Value, b: &Value) -> Result<Value, Error> {
    if let Some(pattern) = a.as_str() {
        let given = match b.downcast_object_ref::<Tuple>() {
            Some(_) => b.try_iter()?.collect(),
            None => vec![b.clone()],
        };
        return format(FormatStyle::Printf, pattern, &given).map(Value::from);
    }
    if let (Some(a), Some(b)) = (integer(a), integer(b)) {
        let rest = a
            .checked_rem(b)
            .ok_or_else(|| wrong("a remainder of a division by 0"))?;
        let below = rest != 0 && (rest < 0) != (b < 0);
        return Ok(small(if below { rest + b } else { rest }));
    }
    match (float(a), float(b)) {
        (Some(_), Some(0.0)) => Err(wrong("a remainder of a division by 0")),
        (Some(a), Some(b)) => {
            let rest = a % b;
            let below = rest != 0.0 && (rest < 0.0) != (b < 0.0);
            Ok(Value::from(if below { rest + b } else { rest }))
        }
        _ => Err(mismatch("%", a, b)),
    }
}

fn slice(value: &Value, start: &Value, end: &Value, step: &Value) -> Result<Value, Error> {
    let bound = |value: &Value| match value.kind() {
        ValueKind::None => Ok(None),
        _ => i64::try_from(value.clone()).map(Some),
    };
    let places = (bound(start)?, bound(end)?, bound(step)?.unwrap_or(1));
    if places.2 == 0 {
        return Err(wrong("a slice cannot have a step of 0"));
    }
    if let Some(text) = value.as_str() {
        let characters: Vec<char> = text.chars().collect();
        let picked = picked(characters.len(), places).map(|place| characters[place]);
        return Ok(Value::from(picked.collect::<String>()));
    }
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => {
            let items: Vec<Value> = value.try_iter()?.collect();
            let picked: Vec<_> = picked(items.len(), places)
                .map(|at| items[at].clone())
                .collect();
            Ok(match value.downcast_object_ref::<Tuple>() {
                Some(_) => Value::from(Tuple::from(picked)),
                None => Value::from(picked),
            })
        }
        kind => Err(wrong(format!("what is {kind} cannot be sliced"))),
    }
}

/// Returns the indices that `[start:end:step]` selects from `length` items, in order.
fn picked(
    length: usize,
    (start, end, step): (Option<i64>, Option<i64>, i64),
) -> impl Iterator<Item = usize> {
    let length = i64::try_from(length).unwrap_or(i64::MAX);
    let forward = step > 0;
    let (lowest, highest) = if forward {
        (0, length)
    } else {
        (-1, length - 1)
    };
    let bound = |given: Option<i64>, default: i64| {
        given.map_or(default, |at| {
            let at = if at < 0 {
                at.saturating_add(length)
            } else {
                at
            };
            at.clamp(lowest, highest)
        })
    };
    let (first, behind) = if forward {
        (bound(start, 0), bound(end, length))
    } else {
        (bound(start, length - 1), bound(end, -1))
    };
    std::iter::successors(Some(first), move |at| at.checked_add(step))
        .take_while(move |at| if forward { *at < behind } else { *at > behind })
        .filter_map(|at| usize::try_from(at).ok())
}

fn attribute(value: &Value, name: &str) -> Result<Value, Error> {
    let object = value.as_object();
    let is_namespace = object.is_some_and(|object| object.type_name().ends_with("Namespace"));
    if value.kind() == ValueKind::Map && !is_namespace {
        return Err(wrong(format!(
            "of a dictionary, .{name} is Python's method and not what it holds: write \
             ['{name}'] in the template, or call it"
        )));
    }
    value.get_attr(name)
}

fn integer(value: &Value) -> Option<i128> {
    let counts = value.is_integer() || value.kind() == ValueKind::Bool;
    counts.then(|| i128::try_from(value.clone()).ok()).flatten()
}

fn float(value: &Value) -> Option<f64> {
    let counts = matches!(value.kind(), ValueKind::Number | ValueKind::Bool);
    counts.then(|| f64::try_from(value.clone()).ok()).flatten()
}

pub(super) fn small(number: i128) -> Value {
    i64::try_from(number).map_or_else(|_| Value::from(number), Value::from)
}

fn mismatch(operator: &str, a: &Value, b: &Value) -> Error {
    let shown = |value: &Value| {
        let spelled = spelling(value);
        match spelled.char_indices().nth(40) {
            Some((end, _)) => format!("{}…", &spelled[..end]),
            None => spelled,
        }
    };
    wrong(format!("{} {operator} {} has no value", shown(a), shown(b)))
}

#[cfg(test)]
mod tests {
    use super::picked;

    #[test]
    fn slices_pick_what_python_s_pick() {
        let all =
            |length, start, stop, step| picked(length, (start, stop, step)).collect::<Vec<_>>();
        assert_eq!(all(0, None, None, -1), [0_usize; 0]);
        assert_eq!(all(3, None, None, -1), [2, 1, 0]);
        assert_eq!(all(3, Some(1), None, 1), [1, 2]);
        assert_eq!(all(3, Some(-5), Some(-1), 1), [0, 1]);
        assert_eq!(all(3, Some(5), None, 1), [0_usize; 0]);
        assert_eq!(all(4, Some(-1), Some(-9), -2), [3, 1]);
        assert_eq!(all(4, None, Some(2), 2), [0]);
    }
}
