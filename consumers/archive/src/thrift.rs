//! Checks that the lists in a Parquet footer can be as long as they claim.
//!
//! The Parquet reader skips fields it does not know, and skips a list of booleans without reading a
//! byte for each: a few bytes that claim 2³¹ of them cost it seconds. It reads the fields that it
//! does know as their expected types, whatever types they name. To follow the reader exactly, this
//! walk requires that a known field names its type and that there are no lists of booleans: the
//! format has none, and other readers of Thrift read a byte for each.

mod shape;

use shape::{FILE, Fields, Kind};

/// Maximum nesting of structs, lists and maps; a footer has seven levels.
const DEPTH: u32 = 64;

/// Checks `bytes`, a Parquet file's metadata in Thrift's compact protocol, in a time that their
/// number bounds.
///
/// # Errors
/// Reason for which the bytes are not such metadata: a collection of more elements than there are
/// bytes left, a premature end, or a type that does not exist or that the field does not have.
pub(crate) fn check(bytes: &[u8]) -> Result<(), String> {
    Walk { left: bytes }.structure(FILE, DEPTH)
}

struct Walk<'a> {
    left: &'a [u8],
}

impl Walk<'_> {
    /// Walks a struct, of whose fields `fields` are known.
    fn structure(&mut self, fields: Fields, depth: u32) -> Result<(), String> {
        let mut field = 0;
        loop {
            let head = self.byte()?;
            if head == 0 {
                return Ok(());
            }
            field = match head >> 4 {
                0 => self.field_number()?,
                more => field + i64::from(more),
            };
            let kind = fields.iter().find(|known| known.0 == field);
            let kind = kind.map(|known| &known.1);
            let wire = head & 15;
            if kind.is_some_and(|kind| !kind.may_be(wire)) {
                return Err(format!("its field {field} is of type {wire}"));
            }
            // A boolean field has its value in the type.
            if !matches!(wire, 1 | 2) {
                self.value(wire, kind, depth)?;
            }
        }
    }

    /// Reads a field number that is written in full and not as a difference: zigzag, and never
    /// negative.
    fn field_number(&mut self) -> Result<i64, String> {
        let zigzag = self.varint()?;
        match i16::try_from(zigzag >> 1) {
            Ok(number) if zigzag & 1 == 0 => Ok(i64::from(number)),
            _ => Err(format!("it has a field of number {zigzag} in zigzag")),
        }
    }

    fn value(&mut self, wire: u8, kind: Option<&Kind>, depth: u32) -> Result<(), String> {
        let depth = depth.checked_sub(1).ok_or("its values are too deep")?;
        match wire {
            3 => self.byte().map(drop),
            4..=6 => self.varint().map(drop),
            7 => self.pass(8),
            8 => {
                let length = self.varint()?;
                self.pass(length)
            }
            9 | 10 => {
                let head = self.byte()?;
                let count = match head >> 4 {
                    15 => self.varint()?,
                    count => u64::from(count),
                };
                let element = match kind {
                    Some(Kind::List(element)) => Some(*element),
                    _ => None,
                };
                self.elements(count, &[head & 15], element, depth)
            }
            11 => {
                let count = self.varint()?;
                if count == 0 {
                    return Ok(());
                }
                let wires = self.byte()?;
                self.elements(count, &[wires >> 4, wires & 15], None, depth)
            }
            12 => match kind {
                Some(Kind::Struct(fields)) => self.structure(fields, depth),
                _ => self.structure(&[], depth),
            },
            13 => self.pass(16),
            1 | 2 => Err("it has a collection of booleans".to_owned()),
            _ => Err(format!("it has a value of type {wire}, which there is not")),
        }
    }

    /// Walks the elements of a collection; each takes at least one byte.
    fn elements(
        &mut self,
        count: u64,
        wires: &[u8],
        kind: Option<&Kind>,
        depth: u32,
    ) -> Result<(), String> {
        let left = self.left.len() as u64;
        if count > left {
            return Err(format!(
                "it claims a collection of {count} elements in its last {left} bytes"
            ));
        }
        for wire in (0..count).flat_map(|_| wires) {
            if kind.is_some_and(|kind| !kind.may_be(*wire)) {
                return Err(format!("it has a list whose elements are of type {wire}"));
            }
            self.value(*wire, kind, depth)?;
        }
        Ok(())
    }

    fn byte(&mut self) -> Result<u8, String> {
        let (first, left) = self.left.split_first().ok_or("it ends too early")?;
        self.left = left;
        Ok(*first)
    }

    fn varint(&mut self) -> Result<u64, String> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err("it has a number of more than 64 bits".to_owned())
    }

    fn pass(&mut self, count: u64) -> Result<(), String> {
        let count = usize::try_from(count).ok();
        let left = count.and_then(|count| self.left.get(count..));
        self.left = left.ok_or("it ends too early")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn a_collection_is_no_longer_than_its_bytes() {
        // Field 20, a list of three i32; a map of one string to an i32; a struct in a struct.
        check(&[0x09, 40, 0x35, 2, 4, 6, 0]).unwrap();
        check(&[0x0b, 40, 1, 0x85, 1, b'k', 1, 0]).unwrap();
        check(&[0x0c, 40, 0x1c, 0x15, 2, 0, 0, 0]).unwrap();
        // Booleans of a field take no byte; as elements, one or none, as the reader has it.
        check(&[0x01, 40, 0x12, 0]).unwrap();
        for booleans in [
            &[0x09, 40, 0x21, 1, 2, 0][..],
            &[0x0b, 40, 1, 0x52, 2, 1, 0],
        ] {
            let reason = check(booleans).unwrap_err();
            assert!(reason.contains("booleans"), "{reason}");
        }
        let many = [0x09, 40, 0xf1, 0xff, 0xff, 0xff, 0xff, 7, 0];
        let reason = check(&many).unwrap_err();
        assert!(
            reason.contains("a collection of 2147483647 elements"),
            "{reason}"
        );
        let map = check(&[0x0b, 40, 9, 0x55, 1, 0]).unwrap_err();
        assert!(map.contains("of 9"), "{map}");
        let text = check(&[0x08, 40, 200, 1]).unwrap_err();
        assert!(text.contains("too early"), "{text}");
        assert!(check(&[0x0f, 40, 0]).unwrap_err().contains("type 15"));
        assert!(
            check(&[0x0c, 40].repeat(500))
                .unwrap_err()
                .contains("too deep")
        );
        assert!(check(&[]).is_err());
    }

    #[test]
    fn a_known_field_is_of_its_type() {
        // The version, an i32; the rows, an i64; a schema of one element that has a name.
        check(&[0x15, 2, 0x26, 4, 0]).unwrap();
        check(&[0x29, 0x1c, 0x48, 1, b'a', 0, 0]).unwrap();
        let refused: [(&[u8], &str); 5] = [
            (&[0x18, 1, b'a', 0], "field 1 is of type 8"),
            (&[0x11, 0], "field 1 is of type 1"),
            (&[0x29, 0x15, 2, 0], "elements are of type 5"),
            (&[0x29, 0x1c, 0x45, 2, 0, 0], "field 4 is of type 5"),
            // The number 4 in full, and one beyond all.
            (&[0x05, 8, 2, 0], "field 4 is of type 5"),
        ];
        for (bytes, expected) in refused {
            let reason = check(bytes).unwrap_err();
            assert!(reason.contains(expected), "{reason}");
        }
        for number in [&[0x80, 0x80, 4][..], &[0x61]] {
            let reason = check(&[&[0x05], number, &[2, 0]].concat()).unwrap_err();
            assert!(reason.contains("zigzag"), "{reason}");
        }
    }
}
