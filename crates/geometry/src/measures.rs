use lawvere_core::{RowMatrix, sum};
use serde::Serialize;

use crate::class_means::Classes;
use crate::collapse::Pairs;
use crate::embeddings::{Centred, Embeddings, Ranks};
use crate::fit::{ContextReference, Cosine, FiniteFit, LogitReference, excess};
use crate::neural_collapse::{NeuralCollapse, NeuralCollapseOptions, of_centred};
use crate::{ContextLaws, GeometryError, Prediction};

/// How far a model's words, contexts and logits have the geometry that the theory predicts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GeometryMeasures {
    /// CE: `-sum_j pi_j sum_z p_jz log softmax(L_j)_z` over the tokens of the supports, nats.
    pub cross_entropy: f64,
    /// H: the empirical conditional entropy, the least that CE can be, nats.
    pub entropy: f64,
    /// CE - H, summed as divergences, so that it keeps its digits near 0.
    pub excess: f64,
    /// `|W|_F`.
    pub words_norm: f64,
    /// `|H|_F`.
    pub states_norm: f64,
    /// `|L|_F`, logits centred over tokens.
    pub logits_norm: f64,
    /// Dimensions that words fill.
    pub words_rank: Ranks,
    /// Dimensions that states fill.
    pub states_rank: Ranks,
    /// The cosine of the contexts' Gram matrix, m x m, with the predicted one.
    pub context_gram: Cosine,
    /// The cosine of the words' Gram matrix, V x V, with the predicted one.
    pub word_gram: Cosine,
    /// The cosine of the logits with the prediction's.
    pub prediction: Cosine,
    /// The cosine of the logits with the proxy `S~`, whole.
    pub proxy: Cosine,
    /// What stays finite in training against `L^in`.
    pub finite: FiniteFit,
    /// `u_k^T L v_k`: the strength of each of the prediction's concepts in the logits; towards
    /// proportional to its singular value.
    pub concepts: Vec<f64>,
    /// Subspace collapse: the mean cosine of centred states over pairs of contexts with equal supports;
    /// `None` if there is no such pair.
    pub within: Option<f64>,
    /// The same over pairs with different supports.
    pub between: Option<f64>,
    /// Neural collapse, a class being a next token.
    pub neural_collapse: NeuralCollapse,
    /// Neural collapse, a class being a support.
    pub support_collapse: NeuralCollapse,
}

/// Measures embeddings against the predicted geometry, at a step of training or of a finished model.
///
/// `options` limit the pairs and contexts of neural collapse; their `classes` are not read, as both
/// kinds are measured. Cost: O((m + V) d (d + k) + m V d + entries d) and [`neural_collapse`]'s; memory
/// O((m + V)(d + k)). Nothing m x m, V x V or V x m is formed.
///
/// *Source:* arXiv 2408.15417, sections 3 to 5.
///
/// # Errors
/// A prediction or embeddings whose shapes are not those of the laws; NaN or infinite entries.
///
/// [`neural_collapse`]: crate::neural_collapse()
pub fn measure(
    laws: &ContextLaws,
    prediction: &Prediction,
    embeddings: &Embeddings<'_>,
    options: &NeuralCollapseOptions,
) -> Result<GeometryMeasures, GeometryError> {
    let supports = &laws.supports;
    prediction.check(supports)?;
    embeddings.check(supports)?;
    let words = Centred::words(embeddings.words, embeddings.bias)?;
    let states = Centred::states(embeddings.states, embeddings.bias.is_some())?;
    let order: Vec<usize> = (0..supports.contexts()).collect();
    let contexts = ContextReference::new(prediction);
    let reference = LogitReference::new(laws, &contexts, &words);
    let projected = contexts.project(&states, &order);
    let energies = words.logit_energies(&states);
    let logits = reference.logits(&states, &order, &projected, energies);
    let excess = excess(laws, &words, &states);
    let entropy = laws.entropy();
    let unit = states.unit_rows();
    let within = Pairs::grouped(&unit, &supports.class);
    let every = Pairs::grouped(&unit, &vec![(); supports.contexts()]);
    let collapse = |classes| {
        let options = NeuralCollapseOptions {
            classes,
            ..*options
        };
        of_centred(laws, &words, &states, &options)
    };
    Ok(GeometryMeasures {
        cross_entropy: entropy + excess,
        entropy,
        excess,
        words_norm: words.raw_norm(),
        states_norm: states.raw_norm(),
        logits_norm: energies.0.sqrt(),
        words_rank: words.ranks()?,
        states_rank: states.ranks()?,
        context_gram: contexts.gram(&states, &projected),
        word_gram: reference.word_gram(None),
        prediction: logits.prediction,
        proxy: logits.proxy,
        finite: reference.finite(&states, &order),
        concepts: logits.strengths,
        within: within.mean(),
        between: every.minus(within).mean(),
        neural_collapse: collapse(Classes::NextTokens)?,
        support_collapse: collapse(Classes::EqualSupports)?,
    })
}

/// The cosine of a model's logits, centred over tokens, with any others, V x m, centred likewise: with
/// those of a regularised minimiser, say. O(V m d); nothing of their size is formed beyond `others`. 0
/// where one of the two vanishes.
///
/// # Errors
/// Shapes that do not fit; NaN or infinite entries.
pub fn logits_cosine(
    embeddings: &Embeddings<'_>,
    others: &RowMatrix<f64>,
) -> Result<f64, GeometryError> {
    let (vocabulary, contexts) = (embeddings.words.nrows(), embeddings.states.nrows());
    crate::check_shape("logits", others, vocabulary, contexts)?;
    embeddings.check_against(vocabulary, contexts)?;
    let words = Centred::words(embeddings.words, embeddings.bias)?;
    let states = Centred::states(embeddings.states, embeddings.bias.is_some())?;
    // <W H^T, X> = <W, X H>; with W centred over tokens, X's own means do not matter in it.
    let mut image = RowMatrix::zeros(vocabulary, words.rows.ncols());
    lawvere_core::linalg::matmul(image.view_mut(), others.view(), states.rows.view());
    let totals: Vec<f64> = others.rows().map(|row| sum(row.iter().copied())).collect();
    let shared =
        sum(words
            .rows
            .rows()
            .zip(image.rows())
            .zip(&totals)
            .map(|((word, image), total)| {
                let terms = word.iter().zip(image).zip(&states.mean);
                terms.map(|((w, x), m)| w * (x + total * m)).sum()
            }));
    let square = sum(others.data().iter().map(|x| x * x));
    let means = sum((0..contexts).map(|j| {
        let total = sum((0..vocabulary).map(|v| others.get(v, j)));
        total * total / vocabulary as f64
    }));
    let norms = (words.logit_energies(&states).0 * (square - means).max(0.0)).sqrt();
    Ok(if norms > 0.0 { shared / norms } else { 0.0 })
}
