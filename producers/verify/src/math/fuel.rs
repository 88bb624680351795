/// Reason for which a text has no value to compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Text that is not mathematics known here.
    NotMath,
    /// Mathematics without a value, such as a division by 0.
    Undefined,
    /// Value that would take more time or memory than a comparison may.
    TooLarge,
}

/// Amount of work that one comparison may still do, in operations on about 64 bits.
///
/// Every operation whose cost depends on the text burns some, so that no text can take long: a full
/// tank lasts for some tens of milliseconds.
#[derive(Debug)]
pub(crate) struct Fuel(u64);

impl Fuel {
    pub(crate) fn full() -> Self {
        Self(200_000)
    }

    pub(crate) fn burn(&mut self, amount: u64) -> Result<(), Stop> {
        self.0 = self.0.checked_sub(amount).ok_or(Stop::TooLarge)?;
        Ok(())
    }

    /// Burns the cost of an operation on integers of `bits` bits, which is quadratic as in
    /// division. Refuses more than `limit` bits.
    pub(crate) fn admit(&mut self, bits: u64, limit: u64) -> Result<(), Stop> {
        if bits > limit {
            return Err(Stop::TooLarge);
        }
        let words = bits / 64;
        self.burn(1 + words * words / 8)
    }
}
