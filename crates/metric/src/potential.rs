//! Potentials: functions whose differences are the distances.

use crate::{MetricError, Space, TOLERANCE};

impl Space {
    /// A finite f with `d(a, b) = f(b) - f(a)` wherever b extends a; 0 at the first text of every connected part. Every
    /// language model whose connected parts have a least or a greatest element has one, so every prefix forest.
    /// O(n^2).
    ///
    /// `what` is named in the error.
    ///
    /// # Errors
    /// There is none: two ways from one text to another along the order, up and down, disagree.
    pub fn potential(&self, what: &'static str) -> Result<Vec<f64>, MetricError> {
        let n = self.len();
        let mut beside: Vec<Vec<(usize, f64)>> = vec![Vec::new(); n];
        for (i, j) in self.covers() {
            beside[i].push((j, self.d(i, j)));
            beside[j].push((i, -self.d(i, j)));
        }
        let mut potential: Vec<Option<f64>> = vec![None; n];
        for first in 0..n {
            let mut stack = Vec::new();
            if potential[first].is_none() {
                potential[first] = Some(0.0);
                stack.push((first, 0.0));
            }
            while let Some((i, at)) = stack.pop() {
                for &(j, step) in &beside[i] {
                    if potential[j].is_none() {
                        potential[j] = Some(at + step);
                        stack.push((j, at + step));
                    }
                }
            }
        }
        let potential: Vec<f64> = potential.into_iter().map(|f| f.unwrap_or(0.0)).collect();
        let largest = potential.iter().fold(1.0f64, |a, f| a.max(f.abs()));
        for i in 0..n {
            for (j, &d) in self.distances().row(i).iter().enumerate() {
                let by = (potential[j] - potential[i] - d).abs();
                if d < f64::INFINITY && by > TOLERANCE * largest {
                    return Err(MetricError::NoPotential {
                        what,
                        from: self.names()[i].clone(),
                        to: self.names()[j].clone(),
                        by,
                    });
                }
            }
        }
        Ok(potential)
    }
}
