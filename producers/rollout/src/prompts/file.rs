//! Detection of a prompt file's format by its first bytes.

/// File formats that are not read, by their first bytes, and how to convert each to JSON lines.
const FOREIGN: [(&[u8], &str); 6] = [
    (
        b"\x28\xb5\x2f\xfd",
        "it is compressed by zstd: unpack it with zstd -d FILE",
    ),
    (
        b"\xfd7zXZ\x00",
        "it is compressed by xz: unpack it with xz -dk FILE",
    ),
    (
        b"BZh",
        "it is compressed by bzip2: unpack it with bzip2 -dk FILE",
    ),
    (
        b"PK\x03\x04",
        "it is a zip archive: unpack it with unzip FILE",
    ),
    (
        b"ARROW1",
        "it is an Arrow file: write its table as JSON lines, as datasets' to_json does",
    ),
    (
        b"SQLite format 3",
        "it is a database of SQLite: write a table of it as JSON lines",
    ),
];

/// Returns the reason for which a file that begins with these bytes is not read, and what to do.
pub(super) fn foreign(begin: &[u8]) -> Option<&'static str> {
    let found = FOREIGN.iter().find(|(mark, _)| begin.starts_with(mark));
    found.map(|(_, what)| *what)
}

/// Returns true if these bytes begin a text in UTF-16.
pub(super) fn is_utf16(begin: &[u8]) -> bool {
    begin.starts_with(b"\xff\xfe") || begin.starts_with(b"\xfe\xff")
}
