//! Whether a footer's lists can be as long as they say.
//!
//! The Parquet reader passes over fields it does not know, and over a list of booleans without
//! looking at a byte for each: a few bytes that claim 2³¹ of them cost it seconds.

/// Structs, lists and maps in one another; a footer has seven.
const DEPTH: u32 = 64;

/// Walks `bytes`, one struct in Thrift's compact protocol, in a time that their number bounds.
///
/// # Errors
/// Why they are no such struct: a collection of more elements than there are bytes left, an end
/// before its own, a type that there is not.
pub(crate) fn check(bytes: &[u8]) -> Result<(), String> {
    Walk { left: bytes }.structure(DEPTH)
}

struct Walk<'a> {
    left: &'a [u8],
}

impl Walk<'_> {
    fn structure(&mut self, depth: u32) -> Result<(), String> {
        loop {
            let head = self.byte()?;
            if head == 0 {
                return Ok(());
            }
            if head >> 4 == 0 {
                self.varint()?; // the field's number, which is not told as a difference
            }
            // A boolean field is its type.
            if !matches!(head & 15, 1 | 2) {
                self.value(head & 15, depth)?;
            }
        }
    }

    fn value(&mut self, kind: u8, depth: u32) -> Result<(), String> {
        let depth = depth.checked_sub(1).ok_or("its values are too deep")?;
        match kind {
            1..=3 => self.byte().map(drop),
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
                self.elements(count, &[head & 15], depth)
            }
            11 => {
                let count = self.varint()?;
                if count == 0 {
                    return Ok(());
                }
                let kinds = self.byte()?;
                self.elements(count, &[kinds >> 4, kinds & 15], depth)
            }
            12 => self.structure(depth),
            13 => self.pass(16),
            _ => Err(format!("it has a value of type {kind}, which there is not")),
        }
    }

    /// Each takes a byte at least.
    fn elements(&mut self, count: u64, kinds: &[u8], depth: u32) -> Result<(), String> {
        let left = self.left.len() as u64;
        if count > left {
            return Err(format!(
                "it claims a collection of {count} elements in its last {left} bytes"
            ));
        }
        for kind in (0..count).flat_map(|_| kinds) {
            self.value(*kind, depth)?;
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
        // Field 1, a list of three i32; a map of one string to a boolean; a struct in a struct.
        check(&[0x19, 0x35, 2, 4, 6, 0]).unwrap();
        check(&[0x1b, 1, 0x81, 1, b'k', 1, 0]).unwrap();
        check(&[0x1c, 0x15, 2, 0, 0]).unwrap();
        // Booleans of a field take no byte, those of a list one each.
        check(&[0x11, 0x12, 0x19, 0x21, 1, 2, 0]).unwrap();
        let many = [0x19, 0xf1, 0xff, 0xff, 0xff, 0xff, 7, 0];
        let why = check(&many).unwrap_err();
        assert!(why.contains("a collection of 2147483647 elements"), "{why}");
        assert!(check(&[0x1b, 9, 0x11, 1, 0]).unwrap_err().contains("of 9"));
        assert!(check(&[0x18, 200, 1]).unwrap_err().contains("too early"));
        assert!(check(&[0x1f, 0]).unwrap_err().contains("type 15"));
        assert!(check(&[0x1c; 1000]).unwrap_err().contains("too deep"));
        assert!(check(&[]).is_err());
    }
}
