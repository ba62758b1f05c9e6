use std::collections::HashMap;

use lawvere_core::RowMatrix;
use serde::Serialize;

use crate::{Concepts, GeometryError};

/// Words, or contexts, on the same sides of some concepts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Orthant {
    /// For every concept asked for 1, -1, or 0 where the coordinate is too small to have a side.
    pub signs: Vec<i8>,
    /// The members (rows) with the norms of their coordinates along these concepts, the longest first:
    /// the longest are the most typical.
    pub members: Vec<(usize, f64)>,
}

/// Groups the rows of `coordinates` (n x k) by the signs of their entries in the columns `concepts`.
///
/// An entry counts as 0 where it is at most `small` times the norm of the row's entries in these
/// columns: the row then says nothing about this concept, whatever the sign of a rounding error. With
/// `small` = 0 only exact zeros are. Orthants come by their number of members, the largest first, ties
/// by their signs; empty ones are left out. O(n (concepts + log n)).
///
/// *Source:* arXiv 2505.08348, orthant-based clustering.
///
/// # Errors
/// A column that is not there or there twice, NaN, or a `small` outside [0, 1).
pub fn orthants(
    coordinates: &RowMatrix<f64>,
    concepts: &[usize],
    small: f64,
) -> Result<Vec<Orthant>, GeometryError> {
    let argument = |what, problem| Err(GeometryError::Argument { what, problem });
    for (i, &k) in concepts.iter().enumerate() {
        if k >= coordinates.ncols() {
            let there = coordinates.ncols();
            return argument(
                "concepts",
                format!("there are {there} (counted from 0), not {k}"),
            );
        }
        if concepts[..i].contains(&k) {
            return argument("concepts", format!("{k} is asked for twice"));
        }
    }
    if !(0.0..1.0).contains(&small) {
        return argument("small", format!("a share from 0 to below 1, not {small}"));
    }
    let mut places: HashMap<Vec<i8>, usize> = HashMap::new();
    let mut found: Vec<Orthant> = Vec::new();
    for (i, row) in coordinates.rows().enumerate() {
        let norm = concepts
            .iter()
            .map(|&k| row[k] * row[k])
            .sum::<f64>()
            .sqrt();
        if !norm.is_finite() {
            return argument("coordinates", format!("row {i} is not finite"));
        }
        let sign = |&k: &usize| {
            let x = row[k];
            if x.abs() <= small * norm {
                0
            } else {
                x.signum() as i8
            }
        };
        let signs: Vec<i8> = concepts.iter().map(sign).collect();
        let place = *places.entry(signs).or_insert_with_key(|signs| {
            found.push(Orthant {
                signs: signs.clone(),
                members: Vec::new(),
            });
            found.len() - 1
        });
        found[place].members.push((i, norm));
    }
    for orthant in &mut found {
        orthant
            .members
            .sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    }
    found.sort_by(|a, b| {
        let size = b.members.len().cmp(&a.members.len());
        size.then_with(|| b.signs.cmp(&a.signs))
    });
    Ok(found)
}

impl Concepts {
    /// The words (rows of `tokens`) by their sides of the concepts given, as [`orthants`] of their scaled
    /// analysis vectors.
    ///
    /// # Errors
    /// As [`orthants`].
    pub fn word_orthants(
        &self,
        concepts: &[usize],
        small: f64,
    ) -> Result<Vec<Orthant>, GeometryError> {
        orthants(&self.word_coordinates(), concepts, small)
    }

    /// The contexts by their sides of the concepts given.
    ///
    /// # Errors
    /// As [`orthants`].
    pub fn context_orthants(
        &self,
        concepts: &[usize],
        small: f64,
    ) -> Result<Vec<Orthant>, GeometryError> {
        orthants(&self.context_coordinates(), concepts, small)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_share_their_signs_and_come_longest_first() {
        let rows = [
            [1.0, 2.0, 9.0],
            [3.0, 4.0, 9.0],
            [-1.0, 0.01, 9.0],
            [0.0, 0.0, 9.0],
        ];
        let coordinates = RowMatrix::from_array_rows(rows.to_vec());
        let found = orthants(&coordinates, &[0, 1], 0.05).unwrap();
        assert_eq!(found[0].signs, [1, 1]);
        assert_eq!(found[0].members, [(1, 5.0), (0, 5f64.sqrt())]);
        assert_eq!(
            (found[1].signs.as_slice(), found[1].members[0].0),
            (&[0, 0][..], 3)
        );
        assert_eq!(
            (found[2].signs.as_slice(), found[2].members[0].0),
            (&[-1, 0][..], 2)
        );
        let sharp = orthants(&coordinates, &[0, 1], 0.0).unwrap();
        assert!(sharp.iter().any(|o| o.signs == [-1, 1]));
    }

    #[test]
    fn concepts_that_are_not_there_and_numbers_that_are_none_are_refused() {
        let coordinates = RowMatrix::from_array_rows(vec![[1.0, f64::NAN]]);
        for (concepts, small) in [
            (&[2][..], 0.0),
            (&[0, 0], 0.0),
            (&[1], 0.0),
            (&[0], 1.0),
            (&[0], f64::NAN),
        ] {
            assert!(orthants(&coordinates, concepts, small).is_err());
        }
        assert_eq!(orthants(&coordinates, &[], 0.0).unwrap().len(), 1);
    }
}
