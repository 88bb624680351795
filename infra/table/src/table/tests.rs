use std::{io::Read as _, path::Path};

use flate2::{Compression, read::GzEncoder};
use sha2::Digest as _;

use super::*;

fn golden(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    std::fs::read(path.join(name)).unwrap()
}

/// All rows of a file, of which the columns are read that `is_read` returns true for.
fn rows_with(bytes: &[u8], is_read: &dyn Fn(&str) -> bool) -> io::Result<Vec<String>> {
    let mut table = Table::of(bytes, is_read)?;
    let (mut rows, mut row) = (Vec::new(), Vec::new());
    while table.next(&mut row)? {
        rows.push(String::from_utf8(row.clone()).unwrap());
    }
    let digest = vintage_control::Sha256(sha2::Sha256::digest(bytes).into());
    assert_eq!(table.sha256()?, digest, "of the file's own bytes");
    Ok(rows)
}

fn rows(bytes: &[u8]) -> io::Result<Vec<String>> {
    rows_with(bytes, &|_| true)
}

fn refused(bytes: &[u8]) -> String {
    rows(bytes).expect_err("refused").to_string()
}

#[test]
fn rows_of_published_parquet_files_are_those_of_json_lines() {
    let gsm8k = rows(&golden("gsm8k.parquet")).unwrap();
    assert_eq!(gsm8k.len(), 3);
    assert_eq!(
        gsm8k[1],
        r#"{"question": "Ann has 1 pens and buys 2 more. How many has she?", "answer": "1 + 2 = 3 pens.\n#### 3"}"#
    );
    let verl = rows(&golden("verl.parquet")).unwrap();
    let row = r#"{"data_source": "mine/sums", "prompt": [{"content": "1+2=", "role": "user"}], "ability": "math", "reward_model": {"ground_truth": "3", "style": "rule"}, "extra_info": {"index": 1, "split": "train", "hint": "\"add\""}}"#;
    assert_eq!(verl[1], row);
    // Members that are null are those of other rows.
    assert!(
        verl[0].ends_with(r#""extra_info": {"index": 0, "split": "train"}}"#),
        "{}",
        verl[0]
    );
    assert!(verl[2].ends_with(r#""extra_info": null}"#), "{}", verl[2]);
}

#[test]
fn every_kind_of_value_is_json() {
    let kinds = rows(&golden("kinds.parquet")).unwrap();
    let parsed: Vec<serde_json::Value> = kinds
        .iter()
        .map(|row| serde_json::from_str(row).unwrap())
        .collect();
    for (first, second) in [
        (r#""a.b": true"#, r#""a.b": null"#),
        (r#""whole": -9223372036854775808"#, r#""whole": 7"#),
        (r#""unsigned": 18446744073709551615"#, r#""unsigned": 0"#),
        (r#""single": 0.1,"#, r#""single": null"#),
        (r#""double": 4,"#, r#""double": 1e300"#),
        (r#""money": 1.50"#, r#""money": null"#),
        (r#""day": "2026-01-31""#, r#""day": null"#),
        (r#""large": "é\n""#, "\"large\": \"\u{2028}\\\"\\\\\""),
        (r#""names": "x""#, r#""names": "y""#),
        (r#""lists": [[1, null], []]"#, r#""lists": null"#),
        (r#""map": {"k": 1}"#, r#""map": {}"#),
        (r#""nothing": null"#, r#""nothing": null"#),
    ] {
        assert!(kinds[0].contains(first), "{first} in {}", kinds[0]);
        assert!(kinds[1].contains(second), "{second} in {}", kinds[1]);
    }
    assert_eq!(parsed.len(), 2);
}

#[test]
fn binary_columns_are_refused_where_they_are_read() {
    let file = golden("images.parquet");
    assert!(
        refused(&file).contains("column images.element.bytes holds binary"),
        "{}",
        refused(&file)
    );
    let is_read = |name: &str| name != "images";
    let rows = rows_with(&file, &is_read).unwrap();
    assert_eq!(
        rows,
        [r#"{"prompt": "1+1=", "answer": "2", "images": null}"#]
    );
}

#[test]
fn a_file_that_is_cut_or_damaged_is_refused_with_what_to_do() {
    let file = golden("gsm8k.parquet");
    for cut in [8, file.len() / 2, file.len() - 1] {
        assert!(
            refused(&file[..cut]).contains("does not end as one"),
            "{cut}"
        );
    }
    let mut damaged = file.clone();
    let end = damaged.len();
    damaged[end - 8..end - 4].copy_from_slice(&[0xff; 4]);
    assert!(
        refused(&damaged).contains("cannot be read"),
        "{}",
        refused(&damaged)
    );
    let mut encrypted = file.clone();
    encrypted[..4].copy_from_slice(b"PARE");
    assert!(refused(&encrypted).contains("encrypted"));

    let gzip = golden("plain.jsonl.gz");
    for cut in [3, 12, gzip.len() - 1] {
        assert!(
            refused(&gzip[..cut]).contains("end early"),
            "{cut}: {}",
            refused(&gzip[..cut])
        );
    }
    let mut damaged = gzip.clone();
    damaged[gzip.len() - 6] ^= 1;
    assert!(
        refused(&damaged).contains("damaged"),
        "{}",
        refused(&damaged)
    );
}

#[test]
fn gzip_is_unpacked_also_of_several_parts() {
    let mut gzip = golden("plain.jsonl.gz");
    let row = b"{\"prompt\": \"9+5=\", \"answer\": \"14\"}\n";
    let mut more = Vec::new();
    GzEncoder::new(&row[..], Compression::fast())
        .read_to_end(&mut more)
        .unwrap();
    gzip.extend(more);
    let rows = rows(&gzip).unwrap();
    assert_eq!(rows.len(), 4);
    assert_eq!(rows[3].as_bytes(), row);
}
