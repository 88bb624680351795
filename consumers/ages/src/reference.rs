//! The on-policy gradient of a version, from rollouts that the version sampled itself, and how well other
//! gradients agree with it.

/// Gradient on fresh rollouts, as the mean of the gradients of several batches of fresh rollouts.
///
/// A gradient is compared with the mean of all batches but one, for each batch in turn, and so is the
/// batch left out. Thus a loss and a fresh batch meet references that are equally noisy, and a loss can
/// be judged by the cosine that fresh batches have. A loss may be above it where old rollouts tell more
/// than fresh ones, such as those of a policy that was wrong more often.
#[derive(Debug, Clone)]
pub struct Reference {
    batches: Vec<Vec<f32>>,
    /// Sum of the batches.
    sum: Vec<f32>,
    /// Norm of the sum without each batch.
    norms_without: Vec<f64>,
    /// Mean norm of a batch.
    norm: f64,
    /// Mean cosine of a batch with the others.
    fresh: f64,
    /// Cosine between the sums of the even and of the odd batches.
    halves: f64,
}

/// Gradient beside an on-policy one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Agreement {
    /// Cosine with the on-policy gradient; 0 for a gradient of zeros, which leads nowhere.
    pub cosine: f64,
    /// Norm over that of a fresh batch.
    pub norm: f64,
}

impl Reference {
    /// Takes the gradients of batches of fresh rollouts; `None` if there are fewer than two of them, or
    /// no other gradient could be compared because they are zero or no numbers.
    pub fn of(batches: Vec<Vec<f32>>) -> Option<Self> {
        let zeros = || vec![0.0; batches[0].len()];
        if batches.len() < 2 {
            return None;
        }
        let (mut even, mut odd) = (zeros(), zeros());
        for (place, batch) in batches.iter().enumerate() {
            let half = if place % 2 == 0 { &mut even } else { &mut odd };
            add(half, batch);
        }
        let halves = cosine(&even, &odd);
        let mut sum = even;
        add(&mut sum, &odd);
        let squared = dot(&sum, &sum);
        let (mut norms, mut norms_without, mut cosines) = (Vec::new(), Vec::new(), Vec::new());
        for batch in &batches {
            let (own, with_sum) = (dot(batch, batch), dot(batch, &sum));
            let without = (squared - 2.0 * with_sum + own).max(0.0).sqrt();
            cosines.push(quotient(with_sum - own, own.sqrt() * without));
            norms.push(own.sqrt());
            norms_without.push(without);
        }
        let norm = mean(&norms);
        let is_there = norm > 0.0 && norms_without.iter().all(|norm| *norm > 0.0);
        (is_there && squared.is_finite()).then(|| Self {
            fresh: mean(&cosines),
            halves,
            norm,
            norms_without,
            sum,
            batches,
        })
    }

    /// Compares a gradient with the on-policy one; `None` if it has values that are no numbers.
    pub fn agreement(&self, gradient: &[f32]) -> Option<Agreement> {
        let norm = dot(gradient, gradient).sqrt();
        if !norm.is_finite() {
            return None;
        }
        let with_sum = dot(gradient, &self.sum);
        let without = self.batches.iter().zip(&self.norms_without);
        let cosines: Vec<_> = without
            .map(|(batch, without)| quotient(with_sum - dot(gradient, batch), norm * without))
            .collect();
        Some(Agreement {
            cosine: mean(&cosines),
            norm: norm / self.norm,
        })
    }

    /// Returns the cosine that a batch of fresh rollouts has with the gradient of all others.
    pub fn fresh(&self) -> f64 {
        self.fresh
    }

    /// Returns the cosine between the gradients of two halves of the fresh rollouts.
    pub fn halves(&self) -> f64 {
        self.halves
    }

    /// Returns the number of batches.
    pub fn batches(&self) -> usize {
        self.batches.len()
    }
}

/// Returns the cosine between two gradients; 0 if one is zero.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    quotient(dot(a, b), dot(a, a).sqrt() * dot(b, b).sqrt())
}

/// Returns the inner product, summed in f64 and in order.
fn dot(a: &[f32], b: &[f32]) -> f64 {
    let products = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b));
    products.sum()
}

fn add(sum: &mut [f32], other: &[f32]) {
    for (sum, other) in sum.iter_mut().zip(other) {
        *sum += other;
    }
}

fn quotient(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}
