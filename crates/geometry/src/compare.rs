use lawvere_observe::Observation;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rayon::prelude::*;
use serde::Serialize;

use crate::alignment::matched;
use crate::claims::{Claim, Control, Reading, Space, Verdict};
use crate::class_means::groups;
use crate::collapse::mean_and_deviation;
use crate::embeddings::Ranks;
use crate::fit::{ContextReference, Cosine, FiniteFit};
use crate::neural_collapse::NeuralCollapse;
use crate::scene::{Place, Scene, Side, words};
use crate::{ContextLaws, GeometryError, LayerCollapse, Prediction, Vocabulary, collapse};

/// How a given model is compared with the predicted geometry.
#[derive(Debug, Clone)]
pub struct CompareOptions {
    /// The tokens that are rows of S.
    pub vocabulary: Vocabulary,
    /// How many leading singular triplets of the proxy are the prediction.
    pub rank: usize,
    /// Another prediction, of the exact max-margin logits say; then `rank` is not read.
    pub prediction: Option<Prediction>,
    /// How many times states are dealt to contexts for each control.
    pub deals: usize,
    /// At most so many layers, spread evenly, the last among them; `None` for all that are kept.
    pub layers: Option<usize>,
    /// Beyond this many classes, pairs for neural collapse are taken of so many drawn at random.
    pub pair_classes: usize,
    /// Beyond this many contexts, agreement (NC4) is judged on so many drawn at random.
    pub agreement_contexts: usize,
}

impl Default for CompareOptions {
    fn default() -> Self {
        Self {
            vocabulary: Vocabulary::Occurring,
            rank: 64,
            prediction: None,
            deals: 5,
            layers: None,
            pair_classes: 1024,
            agreement_contexts: 256,
        }
    }
}

/// Which of the theory's predictions a model shows, layer by layer, with controls.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// m: contexts.
    pub contexts: usize,
    /// V: tokens that are rows of S.
    pub vocabulary: usize,
    /// H, nats.
    pub entropy: f64,
    /// The prediction's singular values.
    pub singular_values: Vec<f64>,
    /// The share of the squares of all singular values that these have.
    pub captured: f64,
    /// How many times states were dealt for each control.
    pub deals: usize,
    /// The share of contexts whose last token another context has too.
    pub sharing_last_token: f64,
    /// The loss over the tokens of S, of the head's input; `None` without a head that can be read.
    pub loss: Option<Loss>,
    /// Dimensions that words fill.
    pub words_rank: Option<Ranks>,
    /// The strengths `u_k^T L v_k` of the prediction's concepts in the logits of the head's input,
    /// centred over contexts.
    pub concepts: Option<Vec<f64>>,
    /// Subspace collapse by last token, states as they are.
    pub collapse: Vec<LayerCollapse>,
    /// All measures, layer by layer.
    pub layers: Vec<LayerFigures>,
    /// Every prediction in every place, with its controls.
    pub readings: Vec<Reading>,
    /// Every prediction at the head's input.
    pub verdicts: Vec<ClaimVerdict>,
    /// What was left out, and why.
    pub notes: Vec<String>,
}

/// The cross-entropy over the tokens of S.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Loss {
    /// Nats.
    pub cross_entropy: f64,
    /// Its excess over H, nats.
    pub excess: f64,
    /// That of the untrained network.
    pub untrained_excess: Option<f64>,
}

/// The measures of a layer's states, taken in one way.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerFigures {
    /// The layer.
    pub layer: usize,
    /// How its states are taken.
    pub space: Space,
    /// `|H|_F`.
    pub states_norm: f64,
    /// Dimensions that they fill.
    pub states_rank: Ranks,
    /// The cosine of their Gram matrix with the predicted one.
    pub context_gram: Cosine,
    /// The class-distance normalised variance of contexts with equal supports, a geometric mean.
    pub support_variability: Option<f64>,
    /// What needs the head.
    pub head: Option<HeadFigures>,
}

/// The measures of a layer read out through the head.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HeadFigures {
    /// `|L|_F`, centred over tokens.
    pub logits_norm: f64,
    /// The cosine of the logits with the prediction's.
    pub prediction: Cosine,
    /// The cosine of the logits with the proxy.
    pub proxy: Cosine,
    /// The logits' finite part against `L^in`.
    pub finite: FiniteFit,
    /// NC1 to NC4, a class being a next token.
    pub neural_collapse: NeuralCollapse,
}

/// What is seen of a prediction where the head reads.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClaimVerdict {
    /// What is predicted.
    pub claim: Claim,
    /// The same in words, with the figures that decide.
    pub sentence: String,
    /// Whether it is seen in the head's input (of the word Gram matrix: in the head).
    pub verdict: Verdict,
    /// Where most of it is left that controls do not explain: the layer, and how its states are taken.
    pub strongest: Option<(usize, Space)>,
}

/// Below this share of contexts that have their last token in common with another, dealing states
/// among those is no control: too many keep their own.
const LEAST_SHARING: f64 = 0.5;

/// Compares a given model with the geometry that the theory predicts of the corpus it was observed on:
/// every kept layer as it is and read out through the final norm, each measure beside
///
/// * *dealt states*: the states of contexts dealt to other contexts at random, several times (words: dealt
///   among tokens that about as many contexts allow);
/// * *the same last token*: the same among contexts with one last token, which leaves all that a last
///   token alone can explain;
/// * *the untrained network*, if an Observation of it is given: the same contexts read by the same
///   architecture with weights drawn at random.
///
/// [`Reading`] says when a prediction counts as visible. `seed` decides the deals, the samples and the
/// start of the truncated decomposition; results do not depend on the number of threads.
///
/// Cost, a layer and way: `2 deals + 1` times O(entries d + m d k + C^2 d + m' V d) with `pair_classes`
/// classes C and `agreement_contexts` contexts m'; and one pass O(m V d) through the head. Memory: that
/// of a few matrices m x d and V x d in f64.
///
/// *Source:* arXiv 2408.15417, section 5, for the measures; the controls are ours.
///
/// # Errors
/// An Observation of positions or without states, document ends that the head has no outcome for, an
/// untrained one of other contexts, options of 0, NaN or infinite states.
pub fn compare(
    observation: &Observation,
    untrained: Option<&Observation>,
    options: &CompareOptions,
    seed: u64,
) -> Result<Comparison, GeometryError> {
    if options.deals < 2 {
        return Err(GeometryError::Argument {
            what: "deals",
            problem: format!(
                "it is {}; a control needs at least 2, to have a deviation",
                options.deals
            ),
        });
    }
    if options.layers == Some(0) {
        return Err(GeometryError::Argument {
            what: "layers",
            problem: "it is 0; the head's input is one of them".into(),
        });
    }
    let laws = ContextLaws::of(observation, options.vocabulary)?;
    if let Some(untrained) = untrained {
        same_contexts(observation, untrained)?;
    }
    let prediction = match &options.prediction {
        Some(prediction) => prediction.clone(),
        None => Prediction::from_proxy(&laws.supports, options.rank, seed)?,
    };
    prediction.check(&laws.supports)?;
    let mut notes = Vec::new();
    let contexts = ContextReference::new(&prediction);
    let scene = Scene::new(&laws, &contexts, options, seed)?;
    let own_words = words(observation, &laws, &mut notes)?;
    let before_words = match untrained {
        Some(untrained) => words(untrained, &laws, &mut Vec::new())?,
        None => None,
    };
    let side = Side::new(&scene, observation, own_words.as_ref())?;
    if !side.has_norm() && side.states.layers().len() > 1 {
        notes.push(
            "layers below the last are not read out: the observation has no final norm".into(),
        );
    }
    let before_words = before_words.as_ref();
    let control = untrained
        .map(|untrained| Side::new(&scene, untrained, before_words))
        .transpose()?;
    let last = observation.last_tokens();
    let deals = Deals::new(&last, options.deals, seed);
    if deals.same_last.is_none() {
        notes.push(format!(
            "dealing states among contexts with the same last token is no control here: only {:.0} % of the contexts share theirs",
            100.0 * deals.sharing
        ));
    }
    let mut layers = Vec::new();
    let mut readings = Vec::new();
    let (mut loss, mut concepts) = (None, None);
    if let Some(reference) = &side.words {
        let mut rng = StdRng::seed_from_u64(seed);
        let tokens = within(
            &matched(&laws.supports.token_widths()),
            options.deals,
            &mut rng,
        );
        let dealt = tokens.iter().map(|o| reference.word_gram(Some(o)).centred);
        let before = control.as_ref().and_then(|side| side.words.as_ref());
        readings.push(Reading::judged(
            Claim::WordGram,
            None,
            (
                reference.word_gram(None).centred,
                scene.ideal(Claim::WordGram),
            ),
            control_of(&dealt.collect::<Vec<f64>>()),
            None,
            before.map(|reference| reference.word_gram(None).centred),
        ));
    }
    let last_layer = side.states.last().0;
    for (layer, space) in side.places(options.layers) {
        let Some(place) = side.place(layer, space)? else {
            continue;
        };
        let before = match &control {
            Some(control) if space == Space::Raw || layer == last_layer || control.has_norm() => {
                control.place(layer, space)?
            }
            _ => None,
        };
        readings.extend(judge(
            &scene,
            (layer, space),
            &place,
            before.as_ref(),
            &deals,
        ));
        if layer == last_layer {
            loss = scene.excess(&place).map(|excess| Loss {
                cross_entropy: laws.entropy() + excess,
                excess,
                untrained_excess: before.as_ref().and_then(|place| scene.excess(place)),
            });
            concepts = scene.concepts(&place, &deals.identity);
        }
        layers.push(scene.figures(&place, layer, space, &deals.identity)?);
    }
    let verdicts = verdicts(&readings, last_layer);
    Ok(Comparison {
        contexts: laws.supports.contexts(),
        vocabulary: laws.supports.vocabulary(),
        entropy: laws.entropy(),
        singular_values: prediction.singular_values.clone(),
        captured: prediction.captured(),
        deals: options.deals,
        sharing_last_token: deals.sharing,
        loss,
        words_rank: match &side.words {
            Some(reference) => Some(reference.words.ranks()?),
            None => None,
        },
        concepts,
        collapse: collapse(observation, &laws.supports, seed)?,
        layers,
        readings,
        verdicts,
        notes,
    })
}

/// Every claim in one place, with its controls.
fn judge(
    scene: &Scene<'_>,
    place: (usize, Space),
    states: &Place<'_>,
    before: Option<&Place<'_>>,
    deals: &Deals,
) -> Vec<Reading> {
    type Values = Vec<(Claim, f64)>;
    let of = |orders: &[Vec<usize>]| -> Vec<Values> {
        let claims = |order: &Vec<usize>| scene.claims(states, order);
        orders.par_iter().map(claims).collect()
    };
    let shuffled = of(&deals.any);
    let same_last = deals.same_last.as_deref().map(of);
    let untrained = before.map(|before| scene.claims(before, &deals.identity));
    let value_of = |claim: Claim, values: &Values| {
        values
            .iter()
            .find(|(c, _)| *c == claim)
            .map(|(_, value)| *value)
    };
    let control = |claim: Claim, dealt: &[Values]| {
        let values: Vec<f64> = dealt.iter().filter_map(|v| value_of(claim, v)).collect();
        (!values.is_empty()).then(|| control_of(&values))
    };
    let judged = |(claim, value): (Claim, f64)| {
        Some(Reading::judged(
            claim,
            Some(place),
            (value, scene.ideal(claim)),
            control(claim, &shuffled)?,
            same_last.as_ref().and_then(|dealt| control(claim, dealt)),
            untrained
                .as_ref()
                .and_then(|values| value_of(claim, values)),
        ))
    };
    let values = scene.claims(states, &deals.identity);
    values.into_iter().filter_map(judged).collect()
}

/// What each prediction comes to at the head's input.
fn verdicts(readings: &[Reading], last_layer: usize) -> Vec<ClaimVerdict> {
    let judged = |claim: Claim| {
        let of_claim = || readings.iter().filter(move |r| r.claim == claim);
        let last = of_claim().find(|r| r.layer.is_none_or(|layer| layer == last_layer))?;
        let left = of_claim().filter(|r| r.unexplained > 0.0);
        let strongest = left.max_by(|a, b| a.unexplained.total_cmp(&b.unexplained));
        Some(ClaimVerdict {
            claim,
            sentence: last.sentence(),
            verdict: last.verdict,
            strongest: strongest.and_then(|r| r.layer.zip(r.space)),
        })
    };
    Claim::ALL.into_iter().filter_map(judged).collect()
}

/// Orders in which states are dealt to contexts.
struct Deals {
    identity: Vec<usize>,
    any: Vec<Vec<usize>>,
    same_last: Option<Vec<Vec<usize>>>,
    sharing: f64,
}

impl Deals {
    fn new(last: &[Option<u32>], count: usize, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let groups = groups(last);
        let shared = groups.iter().filter(|group| group.len() > 1);
        let sharing = shared.map(Vec::len).sum::<usize>() as f64 / last.len() as f64;
        let any = permutations(last.len(), count, &mut rng);
        let same_last = (sharing >= LEAST_SHARING).then(|| within(&groups, count, &mut rng));
        Self {
            identity: (0..last.len()).collect(),
            any,
            same_last,
            sharing,
        }
    }
}

fn permutations(n: usize, count: usize, rng: &mut StdRng) -> Vec<Vec<usize>> {
    (0..count)
        .map(|_| {
            let mut order: Vec<usize> = (0..n).collect();
            order.shuffle(rng);
            order
        })
        .collect()
}

/// Orders that deal only within groups: each member takes the place of the next in a random circle, so
/// that none keeps its own but those that are alone.
fn within(groups: &[Vec<usize>], count: usize, rng: &mut StdRng) -> Vec<Vec<usize>> {
    let n = groups.iter().map(Vec::len).sum();
    let deal = |_| {
        let mut order = vec![0; n];
        for group in groups {
            let mut rows = group.clone();
            rows.shuffle(rng);
            let next = rows.iter().skip(1).chain(rows.first());
            rows.iter().zip(next).for_each(|(&j, &row)| order[j] = row);
        }
        order
    };
    (0..count).map(deal).collect()
}

fn control_of(values: &[f64]) -> Control {
    let (mean, deviation) = mean_and_deviation(values);
    Control { mean, deviation }
}

/// Whether the control reads what the model reads.
fn same_contexts(observation: &Observation, untrained: &Observation) -> Result<(), GeometryError> {
    if observation.contexts == untrained.contexts && observation.counts == untrained.counts {
        return Ok(());
    }
    Err(GeometryError::Argument {
        what: "the untrained observation",
        problem: "its contexts or their counts are not those of the observation: make it with the same index and options, and --untrained".into(),
    })
}
