use arrow::datatypes::{ArrowNativeType, ToByteSlice};

use crate::{error::Error, template::TEMPLATE, trajectory::Trajectory};

/// Lays out a record batch's columns one after another, in the order of the IPC format. Either only
/// counts their bytes, or writes them after the template and patches its numbers.
pub(crate) struct Layout<'a> {
    out: Option<&'a mut Vec<u8>>,
    rows: &'a [Trajectory],
    node: usize,
    buffer: usize,
    body_len: usize,
}

impl<'a> Layout<'a> {
    /// Creates a layout that only counts bytes.
    pub(crate) fn counting(rows: &'a [Trajectory]) -> Self {
        Self {
            out: None,
            rows,
            node: 0,
            buffer: 0,
            body_len: 0,
        }
    }

    /// Creates a layout that appends to `out`, which already holds the template's prefix.
    pub(crate) fn writing(rows: &'a [Trajectory], out: &'a mut Vec<u8>) -> Self {
        Self {
            out: Some(out),
            ..Self::counting(rows)
        }
    }

    /// Returns the rows that are laid out.
    pub(crate) fn rows(&self) -> &'a [Trajectory] {
        self.rows
    }

    /// Ends the batch: patches the row count and the body's length, and returns that length.
    pub(crate) fn finish(self) -> usize {
        let (rows, body_len) = (self.rows.len(), self.body_len);
        if let Some(out) = self.out {
            debug_assert_eq!(
                (self.node, self.buffer),
                (TEMPLATE.validity.len(), TEMPLATE.buffers)
            );
            patch(out, TEMPLATE.rows_at, rows);
            patch(out, TEMPLATE.body_len_at, body_len);
        }
        body_len
    }

    /// Lays out a column of fixed-width values, never null.
    pub(crate) fn fixed<const N: usize>(&mut self, value: impl Fn(&Trajectory) -> [u8; N]) {
        let rows = self.rows;
        self.node(rows.len(), 0);
        self.buffer(0, |_| ());
        self.buffer(N * rows.len(), |out| {
            for row in rows {
                out.extend_from_slice(&value(row));
            }
        });
    }

    /// Lays out a column of text, null where `value` is `None`.
    pub(crate) fn text(
        &mut self,
        column: &'static str,
        value: impl Fn(&Trajectory) -> Option<&str>,
    ) -> Result<(), Error> {
        let rows = self.rows;
        self.nullable_node(|row| value(row).is_some());
        let bytes = self.offsets(column, |row| value(row).map_or(0, str::len))?;
        self.buffer(bytes, |out| {
            rows.iter()
                .filter_map(&value)
                .for_each(|text| out.extend_from_slice(text.as_bytes()));
        });
        Ok(())
    }

    /// Lays out a column of lists of numbers, never null.
    pub(crate) fn numbers<T: ArrowNativeType>(
        &mut self,
        column: &'static str,
        value: impl Fn(&Trajectory) -> &[T],
    ) -> Result<(), Error> {
        let rows = self.rows;
        self.node(rows.len(), 0);
        self.buffer(0, |_| ());
        let items = self.offsets(column, |row| value(row).len())?;
        self.leaf(items, size_of::<T>(), |out| {
            for row in rows {
                out.extend_from_slice(value(row).to_byte_slice());
            }
        });
        Ok(())
    }

    /// Lays out a column of lists of booleans, null where `value` is `None`.
    pub(crate) fn booleans(
        &mut self,
        column: &'static str,
        value: impl Fn(&Trajectory) -> Option<&[bool]>,
    ) -> Result<(), Error> {
        let rows = self.rows;
        self.nullable_node(|row| value(row).is_some());
        let items = self.offsets(column, |row| value(row).map_or(0, <[bool]>::len))?;
        self.node(items, 0);
        self.buffer(0, |_| ());
        self.buffer(items.div_ceil(8), |out| {
            let mut bits = Bits::new(out);
            rows.iter()
                .filter_map(&value)
                .for_each(|mask| bits.extend(mask));
            bits.finish();
        });
        Ok(())
    }

    /// Lays out node, validity and offsets of a column of lists of structs, null where `length` is
    /// `None`. Returns the number of structs. The caller then lays out their fields with
    /// [`Layout::leaf`] and [`Layout::leaf_text`].
    pub(crate) fn structs(
        &mut self,
        column: &'static str,
        length: impl Fn(&Trajectory) -> Option<usize>,
    ) -> Result<usize, Error> {
        self.nullable_node(|row| length(row).is_some());
        let items = self.offsets(column, |row| length(row).unwrap_or(0))?;
        self.node(items, 0);
        self.buffer(0, |_| ());
        Ok(items)
    }

    /// Lays out `items` values of `width` bytes, never null.
    pub(crate) fn leaf(&mut self, items: usize, width: usize, write: impl FnOnce(&mut Vec<u8>)) {
        self.node(items, 0);
        self.buffer(0, |_| ());
        self.buffer(items * width, write);
    }

    /// Lays out the `items` texts that `texts` yields, never null.
    pub(crate) fn leaf_text<'t, I: Iterator<Item = &'t str>>(
        &mut self,
        column: &'static str,
        items: usize,
        texts: impl Fn() -> I,
    ) -> Result<(), Error> {
        self.node(items, 0);
        self.buffer(0, |_| ());
        let bytes = self.offsets_of(column, items, || texts().map(str::len))?;
        self.buffer(bytes, |out| {
            texts().for_each(|text| out.extend_from_slice(text.as_bytes()));
        });
        Ok(())
    }

    fn nullable_node(&mut self, present: impl Fn(&Trajectory) -> bool) {
        let rows = self.rows;
        let nulls = rows.iter().filter(|row| !present(row)).count();
        self.node(rows.len(), nulls);
        let len = if nulls == 0 {
            0
        } else {
            rows.len().div_ceil(8)
        };
        self.buffer(len, |out| {
            for eight in rows.chunks(8).take(len) {
                let bit = |(i, row): (usize, &Trajectory)| u8::from(present(row)) << i;
                out.push(eight.iter().enumerate().map(bit).sum());
            }
        });
    }

    fn offsets(
        &mut self,
        column: &'static str,
        length: impl Fn(&Trajectory) -> usize,
    ) -> Result<usize, Error> {
        let rows = self.rows;
        self.offsets_of(column, rows.len(), || rows.iter().map(&length))
    }

    fn offsets_of<I: Iterator<Item = usize>>(
        &mut self,
        column: &'static str,
        items: usize,
        lengths: impl Fn() -> I,
    ) -> Result<usize, Error> {
        let elements: usize = lengths().sum();
        if i32::try_from(elements).is_err() {
            return Err(Error::TooManyElements {
                rows: self.rows.len(),
                column,
                elements,
            });
        }
        self.buffer(4 * (items + 1), |out| {
            let mut end = 0_i32;
            out.extend_from_slice(&end.to_le_bytes());
            for length in lengths() {
                end += length as i32;
                out.extend_from_slice(&end.to_le_bytes());
            }
        });
        Ok(elements)
    }

    fn node(&mut self, length: usize, nulls: usize) {
        if let Some(out) = self.out.as_deref_mut() {
            let at = TEMPLATE.nodes_at + 16 * self.node;
            patch(out, at, length);
            patch(out, at + 8, nulls);
        }
        self.node += 1;
    }

    fn buffer(&mut self, len: usize, write: impl FnOnce(&mut Vec<u8>)) {
        let padded = len.next_multiple_of(8);
        if let Some(out) = self.out.as_deref_mut() {
            let at = TEMPLATE.buffers_at + 16 * self.buffer;
            patch(out, at, self.body_len);
            patch(out, at + 8, len);
            let start = out.len();
            if len > 0 {
                write(out);
            }
            debug_assert_eq!(out.len() - start, len);
            out.resize(start + padded, 0);
        }
        self.buffer += 1;
        self.body_len += padded;
    }
}

fn patch(out: &mut [u8], at: usize, value: usize) {
    out[at..at + 8].copy_from_slice(&(value as u64).to_le_bytes());
}

/// Packer of booleans into bits, least significant first, contiguous across rows.
struct Bits<'a> {
    out: &'a mut Vec<u8>,
    pending: u64,
    filled: u32,
}

impl<'a> Bits<'a> {
    fn new(out: &'a mut Vec<u8>) -> Self {
        Self {
            out,
            pending: 0,
            filled: 0,
        }
    }

    fn extend(&mut self, values: &[bool]) {
        let mut eights = values.chunks_exact(8);
        for eight in &mut eights {
            let mut bytes = [0_u8; 8];
            bytes
                .iter_mut()
                .zip(eight)
                .for_each(|(byte, &value)| *byte = u8::from(value));
            // Gathers the low bit of each of the 8 bytes into the top byte, first byte lowest.
            let bits = u64::from_le_bytes(bytes).wrapping_mul(0x0102_0408_1020_4080) >> 56;
            self.pending |= bits << self.filled;
            self.out.push(self.pending as u8);
            self.pending >>= 8;
        }
        for &value in eights.remainder() {
            self.pending |= u64::from(value) << self.filled;
            self.filled += 1;
            if self.filled == 8 {
                self.out.push(self.pending as u8);
                (self.pending, self.filled) = (0, 0);
            }
        }
    }

    fn finish(self) {
        if self.filled > 0 {
            self.out.push(self.pending as u8);
        }
    }
}
