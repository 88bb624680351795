use crate::{error::Error, real::Real};

/// Default bound on |log-ratio| before `exp`, in nats: `exp(20) = 4.9e8`. The clamp is needed
/// because tokens with `r >> 1` and `A < 0` are outside `T`, so no variant of M2PO bounds them.
pub const DEFAULT_CLAMP: f64 = 20.0;

/// Tokens of one optimizer batch, in canonical order. All slices have one length.
///
/// Slices other than `valid` may hold any value, NaN included, at tokens that are not valid.
#[derive(Debug, Clone, Copy)]
pub struct Tokens<'a, F = f32> {
    /// `log pi_theta(a_i|s_i)` under the policy being trained, in nats.
    pub new: &'a [F],
    /// `log pi_behav(a_i|s_i)` under the policy that sampled the token, in nats.
    pub behavior: &'a [F],
    /// Advantage `A_i` of the token.
    pub advantage: &'a [F],
    /// True if the token is trained on: a completion token that its producer did not mask out.
    pub valid: &'a [bool],
    /// `log pi_prox(a_i|s_i)` under the policy as it was when the batch began, in nats. Rules that
    /// are defined around it use `new`, as a constant, where it is absent: the policy before its
    /// first step on a batch is the proximal one.
    pub prox: Option<&'a [F]>,
    /// End of each row (one completion), as an index one past its last token, ascending; the last
    /// one is the number of tokens. Rules per sequence refuse a batch without it.
    pub row_ends: Option<&'a [usize]>,
    /// Scope of each token, any numbers, such as those of its micro-batch or range of staleness.
    /// [`crate::Rule::M2poPaper`] gives every scope a budget of its own; absent, all tokens share
    /// one. No other rule reads it.
    pub scope: Option<&'a [u32]>,
    /// Bound on |log-ratio| before `exp`, in nats; above 0 and at most 700. Usually
    /// [`DEFAULT_CLAMP`].
    pub clamp: f64,
}

impl<'a, F: Real> Tokens<'a, F> {
    /// Creates a batch without a proximal policy, clamped at [`DEFAULT_CLAMP`].
    pub fn new(new: &'a [F], behavior: &'a [F], advantage: &'a [F], valid: &'a [bool]) -> Self {
        Self {
            new,
            behavior,
            advantage,
            valid,
            prox: None,
            row_ends: None,
            scope: None,
            clamp: DEFAULT_CLAMP,
        }
    }

    /// Returns the batch with the ends of its rows.
    #[must_use]
    pub fn with_rows(self, row_ends: &'a [usize]) -> Self {
        Self {
            row_ends: Some(row_ends),
            ..self
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
        if let Some(scope) = self.scope {
            same("scope", scope.len())?;
        }
        if u32::try_from(expected).is_err() {
            return Err(Error::TooManyTokens { tokens: expected });
        }
        self.row_ends
            .map_or(Ok(()), |ends| check_row_ends(ends, expected))
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

    /// Returns an error that names the first valid token of `range` with a NaN or an infinity.
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

    /// Returns `l_i = log r_i` of a token in f64, without the clamp.
    #[inline]
    pub(crate) fn log_ratio(&self, index: usize) -> f64 {
        self.new[index].into() - self.behavior[index].into()
    }

    /// Returns `log (pi_prox / pi_behav)` of a token in f64, without the clamp.
    #[inline]
    pub(crate) fn log_severity(&self, index: usize) -> f64 {
        let prox = self.prox.unwrap_or(self.new);
        prox[index].into() - self.behavior[index].into()
    }

    /// Returns `exp` of a log-ratio after the clamp.
    #[inline]
    pub(crate) fn clamped_exp(&self, log_ratio: f64) -> f64 {
        log_ratio.clamp(-self.clamp, self.clamp).exp()
    }

    /// Returns true if token i, which must be valid, is in `T`:
    /// `(A > 0 and r > 1) or (A < 0 and r < 1)`, strictly.
    #[inline]
    pub(crate) fn is_trust(&self, index: usize) -> bool {
        in_trust(self.new[index], self.behavior[index], self.advantage[index])
    }
}

fn check_row_ends(ends: &[usize], tokens: usize) -> Result<(), Error> {
    let mut from = 0;
    for (row, &end) in ends.iter().enumerate() {
        if end < from || end > tokens {
            return Err(Error::RowEnd {
                row,
                end,
                from,
                tokens,
            });
        }
        from = end;
    }
    if from == tokens {
        Ok(())
    } else {
        Err(Error::Length {
            field: "row_ends",
            got: from,
            expected: tokens,
        })
    }
}

/// Returns true if a token with these values is in the trust region. `r > 1` is tested as
/// `new > behavior`; the two agree because gradual underflow keeps the difference of unequal floats
/// nonzero.
#[inline]
#[expect(
    clippy::needless_bitwise_bool,
    reason = "lazy operators branch on coin flips"
)]
pub(crate) fn in_trust<F: Real>(new: F, behavior: F, advantage: F) -> bool {
    ((advantage > F::ZERO) & (new > behavior)) | ((advantage < F::ZERO) & (new < behavior))
}
