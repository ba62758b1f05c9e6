//! The linear equations that make every text's image out of those of its neighbours.

use lawvere_core::{RowMatrix, TropicalMatrix};

use crate::{MetricError, Space};

impl Space {
    /// All Yoneda images by `Y(a_k) = δ_k ⊕ min_j (d_jk + Y(a_j))` over the texts j that k covers, δ_k being 0 at k and
    /// `+inf` elsewhere: column k. Only distances of covering pairs are used. O(n covers).
    ///
    /// The equations are those of a language model; in any other directed metric they hold with essential pairs,
    /// the distances that no third text shortens, in the place of covering ones, and those are what
    /// [`covered_by`](Self::covered_by) tells.
    ///
    /// *Source:* Gaubert, Vlassopoulos (arXiv 2405.12264), on linear equations of texts.
    pub fn yoneda_from_covers(&self) -> Result<TropicalMatrix, MetricError> {
        let n = self.len();
        // A row an image.
        let mut images = RowMatrix::from_fn(n, n, |_, _| f64::INFINITY);
        for &k in self.sorted() {
            let mut image = vec![f64::INFINITY; n];
            image[k] = 0.0;
            for &j in self.covered_by(k) {
                let step = self.d(j, k);
                let known = image.iter_mut().zip(images.row(j));
                known.for_each(|(slot, x)| *slot = slot.min(step + x));
            }
            images.row_mut(k).copy_from_slice(&image);
        }
        Ok(TropicalMatrix::new(images)?.transpose())
    }

    /// All co-Yoneda images by `Y^(a_j) = δ_j ⊕ min_k (d_jk + Y^(a_k))` over the texts k that cover j: row j. O(n covers).
    ///
    /// # Errors
    /// None on a space that was made.
    pub fn co_yoneda_from_covers(&self) -> Result<TropicalMatrix, MetricError> {
        let n = self.len();
        let mut above = vec![Vec::new(); n];
        self.covers().for_each(|(j, k)| above[j].push(k));
        let mut images = RowMatrix::from_fn(n, n, |_, _| f64::INFINITY);
        for &j in self.sorted().iter().rev() {
            let mut image = vec![f64::INFINITY; n];
            image[j] = 0.0;
            for &k in &above[j] {
                let step = self.d(j, k);
                let known = image.iter_mut().zip(images.row(k));
                known.for_each(|(slot, x)| *slot = slot.min(step + x));
            }
            images.row_mut(j).copy_from_slice(&image);
        }
        Ok(TropicalMatrix::new(images)?)
    }
}
