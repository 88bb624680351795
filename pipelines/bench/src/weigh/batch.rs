//! Random batches of tokens for the benchmark of the mask.

use vintage_losses::Tokens;

/// Budget τ of the paper.
pub(super) const TAU: f64 = 0.04;

/// Tokens to be masked, as columns.
pub(super) struct Batch {
    pub(super) new: Vec<f32>,
    pub(super) behavior: Vec<f32>,
    pub(super) advantage: Vec<f32>,
    pub(super) valid: Vec<bool>,
}

impl Batch {
    /// Draws a batch whose log-ratios have the spread that `spread` returns for each token.
    pub(super) fn draw(tokens: usize, spread: impl Fn(&mut Rng) -> f64) -> Self {
        let mut rng = Rng(tokens as u64);
        let mut batch = Self {
            new: Vec::with_capacity(tokens),
            behavior: Vec::with_capacity(tokens),
            advantage: Vec::with_capacity(tokens),
            valid: vec![true; tokens],
        };
        for _ in 0..tokens {
            let spread = spread(&mut rng);
            let (log_ratio, advantage) = rng.normals();
            let behavior = rng.uniform().ln();
            batch.behavior.push(behavior as f32);
            batch.new.push((behavior + spread * log_ratio) as f32);
            batch.advantage.push(advantage as f32);
        }
        batch
    }

    /// Borrows the batch as the mask takes it.
    pub(super) fn tokens(&self) -> Tokens<'_> {
        Tokens::new(&self.new, &self.behavior, &self.advantage, &self.valid)
    }

    /// Returns the squared log-ratio of a token.
    pub(super) fn square(&self, index: usize) -> f64 {
        let log_ratio = f64::from(self.new[index]) - f64::from(self.behavior[index]);
        log_ratio * log_ratio
    }

    /// Returns true if clipping could act on a token: its ratio moved the way its advantage points.
    pub(super) fn in_trust(&self, index: usize) -> bool {
        let (advantage, up) = (
            self.advantage[index],
            self.new[index] > self.behavior[index],
        );
        (advantage > 0.0 && up) || (advantage < 0.0 && self.new[index] < self.behavior[index])
    }
}

/// Random number generator SplitMix64, chosen because the data must be the same in every run.
pub(super) struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Draws uniformly from (0, 1).
    fn uniform(&mut self) -> f64 {
        ((self.next() >> 12) as f64 + 0.5) / (1_u64 << 52) as f64
    }

    /// Draws an integer below `bound`.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Draws two independent standard normal values (Box and Muller).
    fn normals(&mut self) -> (f64, f64) {
        let radius = (-2.0 * self.uniform().ln()).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * self.uniform()).sin_cos();
        (radius * cos, radius * sin)
    }
}
