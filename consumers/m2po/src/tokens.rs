use crate::{Error, Real};

/// Bound on |log-ratio| before `exp`: `exp(20) = 4.9e8`. Tokens with `r >> 1` and `A < 0` are
/// outside `T`, so no variant bounds them.
pub const DEFAULT_CLAMP: f64 = 20.0;

/// The tokens of one optimizer batch, in canonical order, all slices of one length.
///
/// Where `valid` is false the other slices may hold anything, NaN included.
#[derive(Debug, Clone, Copy)]
pub struct Tokens<'a, F = f32> {
    /// `log pi_theta(a_i|s_i)`, nats: the policy being trained.
    pub new: &'a [F],
    /// `log pi_behav(a_i|s_i)`, nats: the policy that sampled the token.
    pub behavior: &'a [F],
    /// `A_i`.
    pub advantage: &'a [F],
    /// Whether token i is trained on (a completion token, not masked out by its producer).
    pub valid: &'a [bool],
    /// `log pi_prox(a_i|s_i)`, nats: the policy as it was when the batch began. Read by
    /// `M2poAreal` only, which takes `new` where it is absent.
    pub prox: Option<&'a [F]>,
    /// Bound on |log-ratio| before `exp`, nats; [`DEFAULT_CLAMP`].
    pub clamp: f64,
}

impl<'a, F: Real> Tokens<'a, F> {
    /// Tokens without a proximal policy, clamped at [`DEFAULT_CLAMP`].
    pub fn new(new: &'a [F], behavior: &'a [F], advantage: &'a [F], valid: &'a [bool]) -> Self {
        Self {
            new,
            behavior,
            advantage,
            valid,
            prox: None,
            clamp: DEFAULT_CLAMP,
        }
    }

    pub(crate) fn check_lengths(&self) -> Result<(), Error> {
        let expected = self.new.len();
        let same = |field, got| {
            if got == expected {
                Ok(())
            } else {
                Err(Error::Length {
                    field,
                    got,
                    expected,
                })
            }
        };
        same("behavior", self.behavior.len())?;
        same("advantage", self.advantage.len())?;
        same("valid", self.valid.len())?;
        if let Some(prox) = self.prox {
            same("prox", prox.len())?;
        }
        if u32::try_from(expected).is_err() {
            return Err(Error::TooManyTokens { tokens: expected });
        }
        Ok(())
    }

    pub(crate) fn check_clamp(&self) -> Result<(), Error> {
        // exp(700) is still finite in f64.
        if self.clamp > 0.0 && self.clamp <= 700.0 {
            Ok(())
        } else {
            Err(Error::Setting {
                name: "clamp",
                value: self.clamp,
                range: "above 0, at most 700",
            })
        }
    }

    /// Names the first valid token of `range` that holds NaN or an infinity.
    pub(crate) fn check_finite(&self, range: std::ops::Range<usize>) -> Result<(), Error> {
        for index in range {
            if !self.valid[index] {
                continue;
            }
            let refuse = |field, slice: &[F]| {
                if slice[index].finite() {
                    Ok(())
                } else {
                    Err(Error::NonFinite {
                        field,
                        index,
                        value: slice[index].into(),
                    })
                }
            };
            refuse("new", self.new)?;
            refuse("behavior", self.behavior)?;
            refuse("advantage", self.advantage)?;
            if let Some(prox) = self.prox {
                refuse("prox", prox)?;
            }
        }
        Ok(())
    }

    /// `l_i = log r_i` in f64, not clamped.
    #[inline]
    pub(crate) fn log_ratio(&self, index: usize) -> f64 {
        self.new[index].into() - self.behavior[index].into()
    }

    /// Whether valid token i is in `T`: `(A > 0 and r > 1) or (A < 0 and r < 1)`, strictly.
    #[inline]
    pub(crate) fn is_trust(&self, index: usize) -> bool {
        in_trust(self.new[index], self.behavior[index], self.advantage[index])
    }
}

/// `r > 1` is `new > behavior`: gradual underflow makes the difference of unlike floats nonzero.
#[inline]
#[expect(
    clippy::needless_bitwise_bool,
    reason = "lazy operators branch on coin flips"
)]
pub(crate) fn in_trust<F: Real>(new: F, behavior: F, advantage: F) -> bool {
    ((advantage > F::ZERO) & (new > behavior)) | ((advantage < F::ZERO) & (new < behavior))
}
