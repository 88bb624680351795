//! Values of Arrow columns as JSON text.

use arrow::{
    array::{Array, AsArray as _},
    datatypes::DataType,
    error::ArrowError,
    util::display::{ArrayFormatter, FormatOptions},
};

/// Writes a text as a JSON string.
pub(crate) fn string(text: &str, out: &mut String) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

/// Writes the value of a column in a row. Members of an object that are null are left out: tables have
/// them wherever another row has that member.
pub(crate) fn value(column: &dyn Array, row: usize, out: &mut String) -> Result<(), ArrowError> {
    if is_null(column, row) {
        out.push_str("null");
        return Ok(());
    }
    match column.data_type() {
        DataType::Struct(_) => {
            let object = column.as_struct();
            let fields = object.column_names().into_iter().zip(object.columns());
            members(fields, row, out)
        }
        DataType::List(_) => list(&column.as_list::<i32>().value(row), out),
        DataType::LargeList(_) => list(&column.as_list::<i64>().value(row), out),
        DataType::FixedSizeList(..) => list(&column.as_fixed_size_list().value(row), out),
        DataType::Map(..) => {
            let entries = column.as_map().value(row);
            let (keys, values) = (entries.column(0), entries.column(1));
            out.push('{');
            for at in 0..entries.len() {
                if at > 0 {
                    out.push_str(", ");
                }
                string(&plain(keys, at)?, out);
                out.push_str(": ");
                value(values, at, out)?;
            }
            out.push('}');
            Ok(())
        }
        // Tables of pandas have NaN where there is no number, and JSON has neither.
        DataType::Float16 | DataType::Float32 | DataType::Float64 => {
            let text = plain(column, row)?;
            let finite = text.parse::<f64>().is_ok_and(f64::is_finite);
            out.push_str(if finite { number(&text) } else { "null" });
            Ok(())
        }
        kind if kind.is_integer() || is_decimal(kind) || *kind == DataType::Boolean => {
            out.push_str(&plain(column, row)?);
            Ok(())
        }
        _ => {
            string(&plain(column, row)?, out);
            Ok(())
        }
    }
}

/// Returns true if a column has no value in a row. Arrow counts no nulls in a column of the type null.
fn is_null(column: &dyn Array, row: usize) -> bool {
    *column.data_type() == DataType::Null || column.is_null(row)
}

fn is_decimal(kind: &DataType) -> bool {
    matches!(
        kind,
        DataType::Decimal32(..)
            | DataType::Decimal64(..)
            | DataType::Decimal128(..)
            | DataType::Decimal256(..)
    )
}

/// Returns a float's text without the fraction of a whole number: tables of pandas turn whole numbers
/// into floats where one is missing.
fn number(text: &str) -> &str {
    text.strip_suffix(".0").unwrap_or(text)
}

fn members<'a>(
    fields: impl Iterator<Item = (&'a str, &'a std::sync::Arc<dyn Array>)>,
    row: usize,
    out: &mut String,
) -> Result<(), ArrowError> {
    out.push('{');
    let mut first = true;
    for (name, column) in fields.filter(|(_, column)| !is_null(column, row)) {
        if !first {
            out.push_str(", ");
        }
        first = false;
        string(name, out);
        out.push_str(": ");
        value(column, row, out)?;
    }
    out.push('}');
    Ok(())
}

fn list(elements: &dyn Array, out: &mut String) -> Result<(), ArrowError> {
    out.push('[');
    for at in 0..elements.len() {
        if at > 0 {
            out.push_str(", ");
        }
        value(elements, at, out)?;
    }
    out.push(']');
    Ok(())
}

/// Text of a value that holds no others.
fn plain(column: &dyn Array, row: usize) -> Result<String, ArrowError> {
    let options = FormatOptions::new();
    let formatter = ArrayFormatter::try_new(column, &options)?;
    formatter.value(row).try_to_string()
}
