use lawvere_core::linalg::matmul;
use lawvere_core::vector::dot;
use lawvere_core::{RowMatrix, sum};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::index::sample;
use serde::Serialize;

use crate::class_means::{ClassMeans, ClassTable, Classes};
use crate::embeddings::{Centred, Embeddings};
use crate::pairs::{PairMoments, pairs};
use crate::spread::{Moments, Spread};
use crate::{ContextLaws, GeometryError};

/// What [`neural_collapse`] measures, and how much of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeuralCollapseOptions {
    /// What a class is.
    pub classes: Classes,
    /// Beyond this many classes, pairs are taken of this many drawn at random.
    pub pair_classes: usize,
    /// Beyond this many contexts, agreement is judged on this many drawn at random.
    pub agreement_contexts: usize,
    /// What draws start from.
    pub seed: u64,
}

impl Default for NeuralCollapseOptions {
    fn default() -> Self {
        Self {
            classes: Classes::NextTokens,
            pair_classes: 4096,
            agreement_contexts: 4096,
            seed: 0,
        }
    }
}

/// Neural collapse, NC1 to NC4, as it is measured of language models.
///
/// Class means m are centred on their unweighted mean over classes for NC2 and NC3. `None` where there
/// is nothing to measure: no pair of classes, none of them with two contexts, no classifier of a
/// support.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NeuralCollapse {
    /// What a class is.
    pub kind: Classes,
    /// Classes with a mean.
    pub classes: usize,
    /// Those of two contexts or more, whose states can vary: NC1 is theirs.
    pub varying_classes: usize,
    /// Pairs of which NC1 was taken.
    pub variance_pairs: u64,
    /// Pairs of which NC2 was taken: all of them, or those of a sample of classes.
    pub pairs: u64,
    /// Pairs left out because their means are one point, as of two tokens that follow the same contexts
    /// in the same proportion.
    pub coinciding_pairs: u64,
    /// NC1: `(s_c^2 + s_c'^2) / (2 |m_c - m_c'|^2)` over pairs, the class-distance normalised variance;
    /// towards 0. s^2 is the mean squared distance of a class's states to their mean.
    pub cdnv: Option<Spread>,
    /// The geometric mean of the same, which a few pairs of near classes do not decide; below 1e-6 a pair
    /// counts as 1e-6, so that a few collapsed ones do not decide it either.
    pub typical_cdnv: Option<f64>,
    /// The same divided by the squared distance once more, as in the published measurements; it is not
    /// free of scale.
    pub cdnv_squared: Option<Spread>,
    /// NC2, equal norms: `log |m_c|` over classes; towards deviation 0.
    pub log_norms: Option<Spread>,
    /// NC2, equal angles: cosines of means over pairs; towards -1/(C - 1) with deviation 0.
    pub cosines: Option<Spread>,
    /// The root mean square of `cosine + 1/(C - 1)`; towards 0.
    pub equiangularity: Option<f64>,
    /// GNC2, uniformity on the sphere: `log 1/|u_c - u_c'|` of the unit means u over pairs; the lower
    /// the further apart, at best `-log(2C/(C - 1))/2`.
    pub log_inverse_distances: Option<Spread>,
    /// NC3: cosines of a token's word with its class mean, words as they are; towards 1. UNC3, uniform
    /// duality, is their variation; towards 0.
    pub duality: Option<Spread>,
    /// The same of words centred on their mean, to which a softmax is blind.
    pub centred_duality: Option<Spread>,
    /// NC4: the share of contexts (weighted as pi) whose likeliest class is one whose mean is nearest;
    /// towards 1.
    pub agreement: Option<f64>,
    /// Contexts of which agreement was taken.
    pub agreement_contexts: usize,
}

/// How near a model is to neural collapse, all occurrences of contexts with their next tokens being
/// samples.
///
/// Exact in O(entries d + C^2 d + m C d) for C classes up to the limits of `options`; beyond them, on
/// samples drawn with its seed. Of classes of equal supports there are NC1 and NC2 alone.
///
/// *Source:* Wu, Papyan, *Linguistic Collapse* (arXiv 2405.17767), section 3; the normalised variance:
/// Galanti, Gyorgy, Hutter (arXiv 2112.15121); uniformity: Liu et al. (arXiv 2303.06484).
///
/// # Errors
/// Embeddings whose shapes are not those of the laws; NaN or infinite entries; a limit below 2.
pub fn neural_collapse(
    laws: &ContextLaws,
    embeddings: &Embeddings<'_>,
    options: &NeuralCollapseOptions,
) -> Result<NeuralCollapse, GeometryError> {
    embeddings.check(&laws.supports)?;
    let words = Centred::words(embeddings.words, embeddings.bias)?;
    let states = Centred::states(embeddings.states, embeddings.bias.is_some())?;
    of_centred(laws, &words, &states, options)
}

pub(crate) fn of_centred(
    laws: &ContextLaws,
    words: &Centred,
    states: &Centred,
    options: &NeuralCollapseOptions,
) -> Result<NeuralCollapse, GeometryError> {
    let collapse = Collapse::new(laws, options)?;
    let order: Vec<usize> = (0..laws.supports.contexts()).collect();
    let choice = collapse.choice(words, states);
    Ok(collapse.read(Some((words, &choice)), states, &order))
}

/// Classes and the samples of them that are looked at, whatever the states.
pub(crate) struct Collapse<'a> {
    laws: &'a ContextLaws,
    table: ClassTable,
    varying: usize,
    pairs: Sampled,
    /// Rows of states that agreement is judged on.
    rows: Vec<usize>,
}

enum Sampled {
    All,
    /// Classes for pairs, and classes that vary.
    Of(Vec<usize>, Vec<usize>),
}

/// The likeliest class after some contexts.
pub(crate) struct Choice {
    classes: Vec<usize>,
}

impl<'a> Collapse<'a> {
    pub fn new(
        laws: &'a ContextLaws,
        options: &NeuralCollapseOptions,
    ) -> Result<Self, GeometryError> {
        let limits = [
            ("pair_classes", options.pair_classes),
            ("agreement_contexts", options.agreement_contexts),
        ];
        if let Some((what, limit)) = limits.into_iter().find(|(_, limit)| *limit < 2) {
            return Err(GeometryError::Argument {
                what,
                problem: format!("it is {limit}; it should be at least 2"),
            });
        }
        let table = ClassTable::new(laws, options.classes);
        let varying: Vec<usize> = (0..table.len()).filter(|&c| table.varies(c)).collect();
        let mut rng = StdRng::seed_from_u64(options.seed);
        let mut draw = |all: usize, most: usize| {
            let mut drawn = sample(&mut rng, all, most.min(all)).into_vec();
            drawn.sort_unstable();
            drawn
        };
        let pairs = match table.len() <= options.pair_classes {
            true => Sampled::All,
            false => {
                let classes = draw(table.len(), options.pair_classes);
                let drawn = draw(varying.len(), options.pair_classes);
                Sampled::Of(classes, drawn.into_iter().map(|i| varying[i]).collect())
            }
        };
        let rows = draw(laws.supports.contexts(), options.agreement_contexts);
        Ok(Self {
            laws,
            varying: varying.len(),
            table,
            pairs,
            rows,
        })
    }

    /// C: the number of classes.
    pub fn classes(&self) -> usize {
        self.table.len()
    }

    /// The typical normalised variance alone; see [`NeuralCollapse::typical_cdnv`].
    pub fn typical_variance(&self, states: &Centred, order: &[usize]) -> Option<f64> {
        let found = self.table.means(states, order);
        let chosen: Vec<usize> = match &self.pairs {
            Sampled::Of(_, varying) => varying.clone(),
            Sampled::All => (0..self.table.len())
                .filter(|&c| self.table.varies(c))
                .collect(),
        };
        typical(&pairs_of(&found, &found.means, &chosen, true))
    }

    /// The class of the largest logit after each of the contexts that agreement is judged on.
    pub fn choice(&self, words: &Centred, states: &Centred) -> Choice {
        let tokens = &self.table.tokens;
        if tokens.is_empty() {
            return Choice {
                classes: Vec::new(),
            };
        }
        let columns = words.rows.ncols();
        let heads = RowMatrix::from_fn(tokens.len(), columns, |c, k| {
            words.rows.get(tokens[c] as usize, k)
        });
        // The mean state's part of a logit is the same after every context.
        let offsets: Vec<f64> = heads.rows().map(|word| dot(word, &states.mean)).collect();
        let mut classes = Vec::with_capacity(self.rows.len());
        self.for_each_product(&heads, states, |_, products| {
            let logits = products.iter().zip(&offsets).map(|(x, o)| x + o);
            let (mut best, mut largest) = (0, f64::NEG_INFINITY);
            for (class, logit) in logits.enumerate() {
                if logit > largest {
                    (best, largest) = (class, logit);
                }
            }
            classes.push(best);
        });
        Choice { classes }
    }

    /// The measures where row `order[j]` of the states is dealt to context j.
    pub fn read(
        &self,
        words: Option<(&Centred, &Choice)>,
        states: &Centred,
        order: &[usize],
    ) -> NeuralCollapse {
        let found = self.table.means(states, order);
        let centre = mean(&found.means);
        let means = RowMatrix::from_fn(self.table.len(), centre.len(), |c, k| {
            found.means.get(c, k) - centre[k]
        });
        let (angles, variances) = self.pair_moments(&found, &means);
        let norms = |row: &[f64]| dot(row, row).sqrt();
        let logs: Vec<f64> = means.rows().map(norms).filter(|n| *n > 0.0).collect();
        let logs: Vec<f64> = logs.into_iter().map(f64::ln).collect();
        let ideal = -1.0 / (self.table.len() as f64 - 1.0);
        let next_tokens = self.table.kind == Classes::NextTokens;
        let words = words.filter(|_| next_tokens);
        NeuralCollapse {
            kind: self.table.kind,
            classes: self.table.len(),
            varying_classes: self.varying,
            variance_pairs: variances.cdnv.count,
            pairs: angles.cosines.count,
            coinciding_pairs: angles.coinciding,
            cdnv: variances.cdnv.spread(),
            typical_cdnv: typical(&variances),
            cdnv_squared: variances.cdnv_squared.spread(),
            log_norms: Moments::of(&logs).spread(),
            cosines: angles.cosines.spread(),
            equiangularity: angles.cosines.root_mean_square_about(ideal),
            log_inverse_distances: angles.log_inverse_distances.spread(),
            duality: words.and_then(|(words, _)| self.duality(words, &words.mean, &means)),
            centred_duality: words
                .and_then(|(words, _)| self.duality(words, &vec![0.0; words.dim], &means)),
            agreement: words.map(|(_, choice)| self.agreement(choice, &found.means, states, order)),
            agreement_contexts: if words.is_some() { self.rows.len() } else { 0 },
        }
    }

    fn pair_moments(
        &self,
        found: &ClassMeans,
        means: &RowMatrix<f64>,
    ) -> (PairMoments, PairMoments) {
        let varies: Vec<bool> = (0..self.table.len())
            .map(|c| self.table.varies(c))
            .collect();
        match &self.pairs {
            Sampled::All => {
                let all = pairs(means, &found.variances, &varies);
                (all, all)
            }
            Sampled::Of(classes, varying) => (
                pairs_of(found, means, classes, false),
                pairs_of(found, means, varying, true),
            ),
        }
    }

    /// Cosines of class means with the words of their tokens, the words being `offset` further.
    fn duality(&self, words: &Centred, offset: &[f64], means: &RowMatrix<f64>) -> Option<Spread> {
        let cosine = |(&token, mean): (&u32, &[f64])| {
            let row = words.rows.row(token as usize);
            let word: Vec<f64> = row[..words.dim]
                .iter()
                .zip(offset)
                .map(|(x, o)| x + o)
                .collect();
            let mean = &mean[..words.dim];
            let norms = (dot(&word, &word) * dot(mean, mean)).sqrt();
            (norms > 0.0).then(|| dot(&word, mean) / norms)
        };
        let pairs = self.table.tokens.iter().zip(means.rows());
        Moments::of(&pairs.filter_map(cosine).collect::<Vec<f64>>()).spread()
    }

    /// A mean is nearest where no other is nearer by more than rounding.
    fn agreement(
        &self,
        choice: &Choice,
        means: &RowMatrix<f64>,
        states: &Centred,
        order: &[usize],
    ) -> f64 {
        const ROUNDING: f64 = 1e-12;
        let mut weights = vec![0.0; order.len()];
        for (&row, weight) in order.iter().zip(&self.laws.weights) {
            weights[row] = *weight;
        }
        let squares: Vec<f64> = means.rows().map(|mean| dot(mean, mean)).collect();
        let mut agreeing = Vec::with_capacity(self.rows.len());
        self.for_each_product(means, states, |i, products| {
            let apart = |(inner, square): (&f64, &f64)| square - 2.0 * inner;
            let all = products.iter().zip(&squares).map(apart);
            let least = all.fold(f64::INFINITY, f64::min);
            let class = choice.classes[i];
            let row = states.rows.row(self.rows[i]);
            let room = ROUNDING * (dot(row, row) + squares[class]);
            let agrees = apart((&products[class], &squares[class])) <= least + room;
            agreeing.push(if agrees { weights[self.rows[i]] } else { 0.0 });
        });
        sum(agreeing) / sum(self.rows.iter().map(|&row| weights[row]))
    }

    /// Hands the inner products of each of the rows judged with all rows of `others` to `visit`.
    fn for_each_product(
        &self,
        others: &RowMatrix<f64>,
        states: &Centred,
        mut visit: impl FnMut(usize, &[f64]),
    ) {
        const BLOCK: usize = 256;
        for (block, rows) in self.rows.chunks(BLOCK).enumerate() {
            let chosen = RowMatrix::from_fn(rows.len(), others.ncols(), |i, k| {
                states.rows.get(rows[i], k)
            });
            let mut products = RowMatrix::zeros(rows.len(), others.nrows());
            matmul(
                products.view_mut(),
                chosen.view(),
                others.view().transpose(),
            );
            for (i, products) in products.rows().enumerate() {
                visit(block * BLOCK + i, products);
            }
        }
    }
}

/// Pairs of the chosen classes.
fn pairs_of(
    found: &ClassMeans,
    means: &RowMatrix<f64>,
    chosen: &[usize],
    varies: bool,
) -> PairMoments {
    let rows = RowMatrix::from_fn(chosen.len(), means.ncols(), |c, k| means.get(chosen[c], k));
    let variances: Vec<f64> = chosen.iter().map(|&c| found.variances[c]).collect();
    pairs(&rows, &variances, &vec![varies; chosen.len()])
}

/// The geometric mean of the normalised variances.
fn typical(pairs: &PairMoments) -> Option<f64> {
    (pairs.log_cdnv.count > 0).then(|| pairs.log_cdnv.mean().exp())
}

fn mean(rows: &RowMatrix<f64>) -> Vec<f64> {
    let mut mean = vec![0.0; rows.ncols()];
    for row in rows.rows() {
        mean.iter_mut().zip(row).for_each(|(m, x)| *m += x);
    }
    let count = rows.nrows().max(1) as f64;
    mean.iter_mut().for_each(|m| *m /= count);
    mean
}
