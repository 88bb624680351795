//! Tests that `schemas/README.md` agrees with the code.

use arrow::datatypes::{DataType, Field};
use vintage_trajectory::schema;

use crate::sample::{granted_headers, headers};

const README: &str = include_str!("../../../README.md");

/// Returns the code block that follows `mark`.
fn block<'a>(mark: &str, language: &str) -> &'a str {
    let (_, rest) = README.split_once(mark).unwrap();
    let (_, rest) = rest.split_once(&format!("```{language}\n")).unwrap();
    rest.split_once("\n```").unwrap().0
}

/// Returns the name of a type as pyarrow prints it.
fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::FixedSizeBinary(width) => format!("fixed_size_binary[{width}]"),
        DataType::UInt16 => "uint16".to_owned(),
        DataType::Int32 => "int32".to_owned(),
        DataType::Int64 => "int64".to_owned(),
        DataType::Float32 => "float".to_owned(),
        DataType::Boolean => "bool".to_owned(),
        DataType::Utf8 => "string".to_owned(),
        DataType::Timestamp(_, Some(zone)) => format!("timestamp[us, tz={zone}]"),
        DataType::List(item) => format!("list<{}>", line(item)),
        DataType::Struct(fields) => {
            format!(
                "struct<{}>",
                fields
                    .iter()
                    .map(|field| line(field))
                    .collect::<Vec<_>>()
                    .join(", ")
            )
        }
        DataType::Map(entries, _) => {
            let DataType::Struct(fields) = entries.data_type() else {
                panic!("{entries}")
            };
            format!(
                "map<{}, {}>",
                type_name(fields[0].data_type()),
                type_name(fields[1].data_type())
            )
        }
        other => panic!("not a type of the schema: {other}"),
    }
}

fn line(field: &Field) -> String {
    let null = if field.is_nullable() { "" } else { " not null" };
    format!("{}: {}{null}", field.name(), type_name(field.data_type()))
}

/// Appends the lines of a field's children as pyarrow prints them.
fn print(field: &Field, indent: usize, out: &mut Vec<String>) {
    let children: Vec<&Field> = match field.data_type() {
        DataType::List(child) | DataType::Map(child, _) => vec![child],
        DataType::Struct(fields) => fields.iter().map(AsRef::as_ref).collect(),
        _ => Vec::new(),
    };
    for (at, child) in children.into_iter().enumerate() {
        out.push(format!("{:indent$}child {at}, {}", "", line(child)));
        print(child, indent + 4, out);
    }
}

#[test]
fn the_schema_is_printed_as_it_is() {
    let mut lines = Vec::new();
    for field in schema().fields() {
        lines.push(line(field));
        print(field, 2, &mut lines);
    }
    lines.push("-- schema metadata --".to_owned());
    lines.push(format!("schema: '{}'", schema().metadata()["schema"]));
    assert_eq!(block("### Columns", "text"), lines.join("\n"));
}

#[test]
fn every_column_and_header_is_explained() {
    for field in schema().fields() {
        let name = format!("`{}`", field.name());
        let rows = README.lines().filter(|line| line.starts_with("| `"));
        let explained = rows.filter(|line| line.split('|').nth(1).unwrap().contains(&name));
        assert!(explained.count() >= 1, "column {name}");
    }
    let pairs = [headers(), granted_headers()].map(|headers| headers.to_pairs());
    for (key, _) in pairs.concat() {
        assert!(README.contains(&format!("\n| `{key}` | ")), "header {key}");
    }
}

#[test]
fn the_headers_are_those_of_the_golden_file() {
    let example = block("golden/headers.json", "json");
    assert_eq!(example, include_str!("../golden/headers.json").trim_end());
}
