//! Adding texts: the two Kan extensions of a vector from some texts to all.

use lawvere_core::tropical::{hom, plus};

use crate::{MetricError, Space};

impl Space {
    /// The space of some of the texts, with their distances: every directed metric restricts.
    ///
    /// # Errors
    /// Texts that there are not, or one twice.
    pub fn restricted(&self, texts: &[usize]) -> Result<Self, MetricError> {
        self.require_texts(texts)?;
        let names = texts.iter().map(|&i| self.names()[i].clone()).collect();
        let of = |a: usize, b: usize| self.d(texts[a], texts[b]);
        let entries = lawvere_core::RowMatrix::from_fn(texts.len(), texts.len(), of);
        Self::from_distances(names, lawvere_core::TropicalMatrix::new(entries)?)
    }

    /// The greatest extension of x from `texts` to all, `i_!(x)_k = min_j (d_kj + x_j)`. It is in P(L) and, where x is in
    /// the polyhedron of the texts alone, restricts to x; every other extension in P(L) lies between
    /// [`least_extension`](Self::least_extension) and it. Both embed isometrically. O(n texts).
    ///
    /// (Texts are added to a space whose distances stay. More documents in a corpus change counts, hence distances: that
    /// is something else.)
    ///
    /// # Errors
    /// Texts that there are not, or one twice; a vector of another length or with NaN.
    ///
    /// *Source:* Gaubert, Vlassopoulos (arXiv 2405.12264), on adding texts; the left Kan extension.
    pub fn greatest_extension(&self, texts: &[usize], x: &[f64]) -> Result<Vec<f64>, MetricError> {
        self.require_part(texts, x)?;
        let at = |k: usize| {
            let terms = texts.iter().zip(x).map(|(&j, &x)| plus(self.d(k, j), x));
            terms.fold(f64::INFINITY, f64::min)
        };
        Ok((0..self.len()).map(at).collect())
    }

    /// The least extension of x from `texts` to all, `i_*(x)_k = max_j hom(d_jk, x_j)`: the right Kan extension. `-inf`
    /// where none of the texts is below k. O(n texts).
    ///
    /// # Errors
    /// As [`greatest_extension`](Self::greatest_extension).
    pub fn least_extension(&self, texts: &[usize], x: &[f64]) -> Result<Vec<f64>, MetricError> {
        self.require_part(texts, x)?;
        let at = |k: usize| {
            let terms = texts.iter().zip(x).map(|(&j, &x)| hom(self.d(j, k), x));
            terms.fold(f64::NEG_INFINITY, f64::max)
        };
        Ok((0..self.len()).map(at).collect())
    }

    fn require_part(&self, texts: &[usize], x: &[f64]) -> Result<(), MetricError> {
        self.require_texts(texts)?;
        if x.len() != texts.len() {
            return Err(MetricError::VectorLength {
                what: "the vector on the chosen texts",
                expected: texts.len(),
                found: x.len(),
            });
        }
        match x.iter().position(|x| x.is_nan()) {
            None => Ok(()),
            Some(place) => Err(MetricError::VectorEntry {
                what: "the vector on the chosen texts",
                text: self.names()[texts[place]].clone(),
                value: x[place],
                wanted: "a number, or infinite",
            }),
        }
    }
}
