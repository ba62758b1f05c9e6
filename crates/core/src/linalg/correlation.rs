/// Weighted Pearson correlation; 0 where one side does not vary.
pub fn pearson(x: &[f64], y: &[f64], weights: &[f64]) -> f64 {
    let total: f64 = weights.iter().sum();
    let mean = |v: &[f64]| v.iter().zip(weights).map(|(v, w)| v * w).sum::<f64>() / total;
    let (mx, my) = (mean(x), mean(y));
    let size = |v: &[f64]| v.iter().zip(weights).map(|(v, w)| w * v * v).sum::<f64>();
    // What is below is the rounding of the means.
    let nothing = |v: &[f64]| f64::EPSILON * f64::EPSILON * v.len() as f64 * size(v);
    let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
    for ((x, y), w) in x.iter().zip(y).zip(weights) {
        xx += w * (x - mx) * (x - mx);
        yy += w * (y - my) * (y - my);
        xy += w * (x - mx) * (y - my);
    }
    if xx > nothing(x) && yy > nothing(y) {
        xy / (xx * yy).sqrt()
    } else {
        0.0
    }
}

/// Spearman's rank correlation, ties sharing their mean rank; 0 where one side does not vary.
pub fn spearman(x: &[f64], y: &[f64]) -> f64 {
    pearson(&ranks(x), &ranks(y), &vec![1.0; x.len()])
}

fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_unstable_by(|&i, &j| values[i].total_cmp(&values[j]));
    let mut ranks = vec![0.0; values.len()];
    let mut first = 0;
    for ties in order.chunk_by(|&i, &j| values[i] == values[j]) {
        let mean = first as f64 + (ties.len() - 1) as f64 / 2.0;
        ties.iter().for_each(|&i| ranks[i] = mean);
        first += ties.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rank_correlation_sees_order_only_and_shares_ties() {
        let x = [1.0, 2.0, 2.0, 50.0];
        assert!((spearman(&x, &[0.1, 0.2, 0.2, 0.3]) - 1.0).abs() < 1e-12);
        assert!((spearman(&x, &[4.0, 3.0, 2.0, 1.0]) + 0.9486832980505138).abs() < 1e-12);
        assert_eq!(spearman(&x, &[1.0; 4]), 0.0);
        // The mean of three tenths is not a tenth in binary.
        assert_eq!(pearson(&[0.1; 3], &[0.1; 3], &[1.0; 3]), 0.0);
    }
}
