mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// The float type of the inputs: `f32` from a learner, `f64` from cases on file.
///
/// Every sum, square and `exp` is taken in f64 whatever the inputs are; subtraction too, where
/// the difference of two f32 log-probs is exact unless their exponents are 29 apart.
pub trait Real: Copy + PartialOrd + Into<f64> + sealed::Sealed + 'static {
    /// Zero.
    const ZERO: Self;
    /// Rounds to nearest.
    fn narrow(value: f64) -> Self;
    /// Whether the value is neither NaN nor infinite.
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
