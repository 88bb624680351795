/// Why a text has no value to compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It is no mathematics that is known here.
    NotMath,
    /// It is mathematics without a value, such as a division by 0.
    Undefined,
    /// Its value would take more time or memory than a comparison may.
    TooLarge,
}

/// Work that one comparison may still do, in operations on 64 bits or so.
///
/// Everything whose cost depends on the text burns some, so that no text, however it is made, takes
/// long: a full tank lasts for some tens of milliseconds.
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

    /// Burns what an operation on integers of so many bits costs, quadratic as division is.
    pub(crate) fn admit(&mut self, bits: u64, limit: u64) -> Result<(), Stop> {
        if bits > limit {
            return Err(Stop::TooLarge);
        }
        let words = bits / 64;
        self.burn(1 + words * words / 8)
    }
}
