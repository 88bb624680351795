mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// Float type of a batch's log-probs and advantages: `f32` from a learner, `f64` from cases in JSON
/// files.
///
/// Every sum, square and `exp` is computed in f64 for both types. Subtraction is in f64 as well:
/// there the difference of two f32 log-probs is exact unless their exponents differ by 29 or more.
pub trait Real: Copy + PartialOrd + Into<f64> + sealed::Sealed + 'static {
    /// Value 0.
    const ZERO: Self;
    /// Rounds an f64 to the nearest value of this type.
    fn narrow(value: f64) -> Self;
    /// Returns true if the value is neither NaN nor infinite.
    fn finite(self) -> bool;
}

impl Real for f32 {
    const ZERO: Self = 0.0;
    #[inline]
    fn narrow(value: f64) -> Self {
        value as f32
    }
    #[inline]
    fn finite(self) -> bool {
        self.is_finite()
    }
}

impl Real for f64 {
    const ZERO: Self = 0.0;
    #[inline]
    fn narrow(value: f64) -> Self {
        value
    }
    #[inline]
    fn finite(self) -> bool {
        self.is_finite()
    }
}
