//! Conversion of one number per update to readable curves.

/// Points of a curve, as x and y.
pub(crate) type Points = Vec<(f64, f64)>;

/// Drops points that are not finite and cannot be drawn.
pub(crate) fn finite(points: impl IntoIterator<Item = (f64, f64)>) -> Points {
    points
        .into_iter()
        .filter(|(x, y)| x.is_finite() && y.is_finite())
        .collect()
}

/// Number of neighbouring points that a trend averages: a fortieth of the run, and at least 1.
pub(crate) fn window(len: usize) -> usize {
    (len / 40).max(1)
}

/// Computes the centred moving mean; at both ends it covers only the existing points.
pub(crate) fn trend(points: &[(f64, f64)]) -> Points {
    let half = window(points.len()) / 2;
    let mut sums = vec![0.0];
    for (_, y) in points {
        sums.push(sums[sums.len() - 1] + y);
    }
    let mean = |i: usize| {
        let (start, end) = (i.saturating_sub(half), (i + half + 1).min(points.len()));
        (sums[end] - sums[start]) / (end - start) as f64
    };
    points
        .iter()
        .enumerate()
        .map(|(i, (x, _))| (*x, mean(i)))
        .collect()
}

/// Reduces a curve to at most `most` points, each the mean of adjacent ones, so that the page of a
/// long run stays small.
pub(crate) fn thin(points: &[(f64, f64)], most: usize) -> Points {
    let size = points.len().div_ceil(most.max(1)).max(1);
    let mean = |part: &[(f64, f64)]| {
        let n = part.len() as f64;
        let (x, y) = part
            .iter()
            .fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
        (x / n, y / n)
    };
    points.chunks(size).map(mean).collect()
}

/// Reduces a curve of maxima to at most `most` points, each the largest of adjacent ones.
pub(crate) fn thin_largest(points: &[(f64, f64)], most: usize) -> Points {
    let size = points.len().div_ceil(most.max(1)).max(1);
    let largest = |part: &[(f64, f64)]| part.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1));
    points.chunks(size).filter_map(largest).collect()
}

/// Computes counts per second over stretches of the run; `parts` are x, count and seconds.
pub(crate) fn rate(parts: &[(f64, f64, f64)]) -> Points {
    let size = window(parts.len());
    parts
        .chunks(size)
        .filter_map(|part| {
            let sum = |of: fn(&(f64, f64, f64)) -> f64| part.iter().map(of).sum::<f64>();
            let seconds = sum(|part| part.2);
            let x = sum(|part| part.0) / part.len() as f64;
            (seconds > 0.0).then(|| (x, sum(|part| part.1) / seconds))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trend_keeps_a_line_and_smooths_noise() {
        let line: Points = (0..200).map(|i| (f64::from(i), f64::from(2 * i))).collect();
        let close = |(a, b): (&(f64, f64), &(f64, f64))| (a.1 - b.1).abs() < 1e-9;
        assert!(line[10..190].iter().zip(&trend(&line)[10..190]).all(close));
        let noise: Points = (0..200).map(|i| (f64::from(i), f64::from(i % 2))).collect();
        assert!(trend(&noise)[100].1 > 0.3 && trend(&noise)[100].1 < 0.7);
    }

    #[test]
    fn thinning_keeps_the_mean() {
        let points: Points = (0..1000).map(|i| (f64::from(i), f64::from(i))).collect();
        let thinned = thin(&points, 100);
        assert_eq!(thinned.len(), 100);
        let mean = thinned.iter().map(|point| point.1).sum::<f64>() / 100.0;
        assert!((mean - 499.5).abs() < 1e-9);
        assert!(thin(&[], 10).is_empty());
        let spike = [(0.0, 1.0), (1.0, 9.0), (2.0, 1.0), (3.0, 2.0)];
        assert_eq!(thin_largest(&spike, 2), [(1.0, 9.0), (3.0, 2.0)]);
    }

    #[test]
    fn a_rate_is_the_sum_over_the_sum() {
        assert_eq!(rate(&[(0.0, 10.0, 2.0)]), [(0.0, 5.0)]);
        assert!(rate(&[(0.0, 10.0, 0.0)]).is_empty());
    }
}
