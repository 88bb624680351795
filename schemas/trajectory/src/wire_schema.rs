use arrow::{
    datatypes::{DataType, Field, TimeUnit},
    ipc,
};

use crate::{
    error::Error,
    schema::{self, mismatch},
    version::{SCHEMA_KEY, SchemaVersion},
};

/// Compares the schema of a message with that of the version it names, and returns the version.
///
/// Walks the flatbuffer along the expected schema without building anything. Flatbuffers may share
/// parts, so a few forged kilobytes could take gigabytes once turned into an Arrow schema.
pub(crate) fn check(found: ipc::Schema<'_>) -> Result<SchemaVersion, Error> {
    let version = SchemaVersion::of_metadata(name_of(found))?;
    let expected = version.schema();
    if found.endianness() != ipc::Endianness::Little {
        return Err(mismatch("*", &DataType::Null, "big-endian"));
    }
    let count = found.fields().map_or(0, |fields| fields.len());
    for (index, field) in expected.fields().iter().enumerate() {
        if index >= count {
            return Err(mismatch(field.name(), field.data_type(), "absent"));
        }
        let other = found.fields().map(|fields| fields.get(index));
        let other = other.ok_or_else(|| mismatch(field.name(), field.data_type(), "absent"))?;
        let name = other.name().unwrap_or_default();
        if name != field.name() {
            let name: String = name.chars().take(80).collect();
            return Err(mismatch(
                field.name(),
                field.data_type(),
                &format!("named {name:?}"),
            ));
        }
        check_type(field.name(), field.data_type(), other)?;
    }
    match count.cmp(&expected.fields().len()) {
        std::cmp::Ordering::Greater => Err(Error::Schema {
            column: format!("#{}", expected.fields().len()),
            expected: "nothing".to_owned(),
            found: format!("the first of {} more", count - expected.fields().len()),
        }),
        _ => Ok(version),
    }
}

/// Returns the schema's name from its own metadata.
fn name_of(found: ipc::Schema<'_>) -> Option<&str> {
    let pairs = found.custom_metadata()?;
    pairs
        .iter()
        .find(|pair| pair.key() == Some(SCHEMA_KEY))
        .and_then(|pair| pair.value())
}

fn check_type(column: &str, expected: &DataType, found: ipc::Field<'_>) -> Result<(), Error> {
    if found.dictionary().is_some() {
        return Err(mismatch(column, expected, "dictionary-encoded"));
    }
    let same = match expected {
        DataType::Boolean => found.type_as_bool().is_some(),
        DataType::Utf8 => found.type_as_utf_8().is_some(),
        DataType::UInt16 => is_int(found, 16, false),
        DataType::Int32 => is_int(found, 32, true),
        DataType::Int64 => is_int(found, 64, true),
        DataType::Float32 => found
            .type_as_floating_point()
            .is_some_and(|float| float.precision() == ipc::Precision::SINGLE),
        DataType::FixedSizeBinary(width) => found
            .type_as_fixed_size_binary()
            .is_some_and(|binary| binary.byteWidth() == *width),
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            found.type_as_timestamp().is_some_and(|time| {
                time.unit() == ipc::TimeUnit::MICROSECOND && time.timezone() == zone.as_deref()
            })
        }
        DataType::List(item) => {
            return if found.type_as_list().is_some() {
                check_children(column, expected, &[item.as_ref()], found, false)
            } else {
                Err(wrong_type(column, expected, found))
            };
        }
        DataType::Map(entries, _) => {
            return if found.type_as_map().is_some() {
                check_children(column, expected, &[entries.as_ref()], found, false)
            } else {
                Err(wrong_type(column, expected, found))
            };
        }
        DataType::Struct(fields) => {
            let fields: Vec<_> = fields.iter().map(AsRef::as_ref).collect();
            // Fields of a map's entries are not compared by name, because Arrow leaves these names
            // to the writer.
            let named = fields.iter().all(|field| field.name() != "key");
            return if found.type_as_struct_().is_some() {
                check_children(column, expected, &fields, found, named)
            } else {
                Err(wrong_type(column, expected, found))
            };
        }
        _ => false,
    };
    if same {
        Ok(())
    } else {
        Err(wrong_type(column, expected, found))
    }
}

fn check_children(
    column: &str,
    expected: &DataType,
    children: &[&Field],
    found: ipc::Field<'_>,
    named: bool,
) -> Result<(), Error> {
    let found_children = found
        .children()
        .filter(|found_children| found_children.len() == children.len());
    let found_children =
        found_children.ok_or_else(|| mismatch(column, expected, "of another number of fields"))?;
    for (child, other) in children.iter().zip(found_children) {
        if named && other.name() != Some(child.name()) {
            return Err(mismatch(column, expected, "of fields with other names"));
        }
        check_type(column, child.data_type(), other)?;
    }
    Ok(())
}

fn is_int(found: ipc::Field<'_>, bits: i32, signed: bool) -> bool {
    found
        .type_as_int()
        .is_some_and(|int| int.bitWidth() == bits && int.is_signed() == signed)
}

fn wrong_type(column: &str, expected: &DataType, found: ipc::Field<'_>) -> Error {
    let kind = found.type_type().variant_name().unwrap_or("unknown");
    let detail = found.type_as_int().map(|int| {
        format!(
            " of {} bits, {}signed",
            int.bitWidth(),
            if int.is_signed() { "" } else { "un" }
        )
    });
    mismatch(
        column,
        expected,
        &format!("{kind}{}", detail.unwrap_or_default()),
    )
}

/// Refuses a batch whose Arrow schema is not v1's; returns the version that it names.
pub(crate) fn check_batch(found: &arrow::datatypes::Schema) -> Result<SchemaVersion, Error> {
    let name = found.metadata().get(SCHEMA_KEY).map(String::as_str);
    let version = SchemaVersion::of_metadata(name)?;
    schema::check(found)?;
    Ok(version)
}
