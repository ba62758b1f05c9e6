//! One set of laws and its prediction, and the places of a model that are compared with it.

use lawvere_core::RowMatrix;
use lawvere_core::linalg::spearman;
use lawvere_observe::{Observation, States};

use crate::claims::{Claim, Space};
use crate::class_means::Classes;
use crate::collapse::Pairs;
use crate::compare::{CompareOptions, HeadFigures, LayerFigures};
use crate::embeddings::Centred;
use crate::fit::{ContextReference, LogitReference, excess};
use crate::neural_collapse::{Choice, Collapse};
use crate::{ContextLaws, GeometryError, NeuralCollapseOptions};

/// What any states of these contexts are compared with.
pub(crate) struct Scene<'a> {
    pub laws: &'a ContextLaws,
    contexts: &'a ContextReference<'a>,
    tokens: Collapse<'a>,
    supports: Collapse<'a>,
    /// Whether some support has two tokens, without which there are no log-odds.
    log_odds: bool,
    /// Whether logits are held against the prediction itself rather than the whole proxy.
    exact: bool,
}

impl<'a> Scene<'a> {
    pub fn new(
        laws: &'a ContextLaws,
        contexts: &'a ContextReference<'a>,
        options: &CompareOptions,
        seed: u64,
    ) -> Result<Self, GeometryError> {
        let of = |classes| {
            let options = NeuralCollapseOptions {
                classes,
                pair_classes: options.pair_classes,
                agreement_contexts: options.agreement_contexts,
                seed,
            };
            Collapse::new(laws, &options)
        };
        Ok(Self {
            laws,
            contexts,
            tokens: of(Classes::NextTokens)?,
            supports: of(Classes::EqualSupports)?,
            log_odds: laws.laws.rows().any(|(support, _)| support.len() > 1),
            exact: options.prediction.is_some(),
        })
    }

    /// What training is predicted to bring a claim's measure to.
    pub fn ideal(&self, claim: Claim) -> f64 {
        let classes = self.tokens.classes() as f64;
        match claim {
            Claim::SupportVariability | Claim::WithinClassVariability | Claim::Equiangularity => {
                0.0
            }
            // A Gram matrix that is all of the geometry has this cosine with its leading part.
            Claim::ContextGram | Claim::WordGram => self.contexts.prediction.captured().sqrt(),
            Claim::Uniformity => -0.5 * (2.0 * classes / (classes - 1.0)).ln(),
            _ => 1.0,
        }
    }

    /// The measures that claims are about, where row `order[j]` of the states is dealt to context j.
    /// Those that have no value here are left out.
    pub fn claims(&self, place: &Place<'_>, order: &[usize]) -> Vec<(Claim, f64)> {
        let states = &place.states;
        let projected = self.contexts.project(states, order);
        let mut classes = vec![0; order.len()];
        for (&row, class) in order.iter().zip(&self.laws.supports.class) {
            classes[row] = *class;
        }
        let mut found = Vec::new();
        let mut add = |claim: Claim, value: Option<f64>| found.extend(value.map(|v| (claim, v)));
        add(
            Claim::SubspaceCollapse,
            Pairs::grouped(&place.unit, &classes).mean(),
        );
        add(
            Claim::SupportVariability,
            self.supports.typical_variance(states, order),
        );
        let gram = self.contexts.gram(states, &projected);
        add(Claim::ContextGram, Some(gram.centred));
        if let Some(head) = &place.head {
            let logits = head
                .reference
                .logits(states, order, &projected, head.energies);
            let direction = match self.exact {
                true => logits.prediction,
                false => logits.proxy,
            };
            add(Claim::Logits, Some(direction.centred));
            let strengths = &logits.centred_strengths;
            let ranks = spearman(strengths, &self.contexts.centred_strengths());
            add(Claim::ConceptStrengths, Some(ranks));
            let finite = self
                .log_odds
                .then(|| head.reference.finite(states, order).correlation);
            add(Claim::InSupportLogOdds, finite);
            let words = Some((head.reference.words, &head.choice));
            let collapse = self.tokens.read(words, states, order);
            add(Claim::WithinClassVariability, collapse.typical_cdnv);
            add(Claim::Equiangularity, collapse.equiangularity);
            let uniformity = collapse.log_inverse_distances.map(|s| s.mean);
            add(Claim::Uniformity, uniformity);
            add(Claim::Duality, collapse.centred_duality.map(|s| s.mean));
            add(Claim::Agreement, collapse.agreement);
        }
        found
    }

    /// All measures of a layer as it is.
    pub fn figures(
        &self,
        place: &Place<'_>,
        layer: usize,
        space: Space,
        order: &[usize],
    ) -> Result<LayerFigures, GeometryError> {
        let states = &place.states;
        let projected = self.contexts.project(states, order);
        let head = place.head.as_ref().map(|head| {
            let logits = head
                .reference
                .logits(states, order, &projected, head.energies);
            let words = Some((head.reference.words, &head.choice));
            HeadFigures {
                logits_norm: head.energies.0.sqrt(),
                prediction: logits.prediction,
                proxy: logits.proxy,
                finite: head.reference.finite(states, order),
                neural_collapse: self.tokens.read(words, states, order),
            }
        });
        Ok(LayerFigures {
            layer,
            space,
            states_norm: states.raw_norm(),
            states_rank: states.ranks()?,
            context_gram: self.contexts.gram(states, &projected),
            support_variability: self.supports.typical_variance(states, order),
            head,
        })
    }

    /// CE - H over the tokens of S.
    pub fn excess(&self, place: &Place<'_>) -> Option<f64> {
        let head = place.head.as_ref()?;
        Some(excess(self.laws, head.reference.words, &place.states))
    }

    /// The strengths of the prediction's concepts in the logits.
    pub fn concepts(&self, place: &Place<'_>, order: &[usize]) -> Option<Vec<f64>> {
        let head = place.head.as_ref()?;
        let projected = self.contexts.project(&place.states, order);
        let logits = head
            .reference
            .logits(&place.states, order, &projected, head.energies);
        Some(logits.centred_strengths)
    }
}

/// The states of a layer, taken in one way, with what no deal changes.
pub(crate) struct Place<'a> {
    pub states: Centred,
    unit: RowMatrix<f64>,
    pub head: Option<PlaceHead<'a>>,
}

pub(crate) struct PlaceHead<'a> {
    reference: &'a LogitReference<'a>,
    energies: (f64, f64),
    choice: Choice,
}

/// The words of an Observation's head, the rows of the supports' tokens; `None` where they do not
/// decide the logits alone, with the reason.
pub(crate) fn head_rows(
    observation: &Observation,
    tokens: &[u32],
    notes: &mut Vec<String>,
) -> Result<Option<RowMatrix<f32>>, GeometryError> {
    let Some(head) = &observation.head else {
        notes.push("words and logits are not measured: the observation has no head".into());
        return Ok(None);
    };
    if head.soft_cap.is_some() {
        notes.push(
            "words and logits are not measured: the head caps its logits, so they are no product of words and contexts".into(),
        );
        return Ok(None);
    }
    crate::log_odds::require_outcomes(observation)?;
    let mut rows = RowMatrix::zeros(tokens.len(), head.weight.ncols());
    for (v, &token) in tokens.iter().enumerate() {
        rows.row_mut(v)
            .copy_from_slice(head.weight.row(token as usize));
    }
    Ok(Some(rows))
}

/// [`head_rows`] with the head's bias, centred.
pub(crate) fn words(
    observation: &Observation,
    laws: &ContextLaws,
    notes: &mut Vec<String>,
) -> Result<Option<Centred>, GeometryError> {
    let tokens = &laws.supports.tokens;
    let Some(rows) = head_rows(observation, tokens, notes)? else {
        return Ok(None);
    };
    let bias = observation.head.as_ref().and_then(|h| h.bias.as_ref());
    let bias = bias.map(|b| {
        let entries = tokens.iter().map(|&t| b[t as usize]);
        entries.collect::<Vec<_>>()
    });
    Centred::words(&rows, bias.as_deref()).map(Some)
}

/// A model that is compared, or its control.
pub(crate) struct Side<'a> {
    scene: &'a Scene<'a>,
    observation: &'a Observation,
    pub states: &'a States,
    pub words: Option<LogitReference<'a>>,
}

impl<'a> Side<'a> {
    pub fn new(
        scene: &'a Scene<'a>,
        observation: &'a Observation,
        words: Option<&'a Centred>,
    ) -> Result<Self, GeometryError> {
        let states = observation
            .states
            .as_ref()
            .ok_or(GeometryError::NeedsStates)?;
        Ok(Self {
            scene,
            observation,
            states,
            words: words.map(|words| LogitReference::new(scene.laws, scene.contexts, words)),
        })
    }

    /// Whether layers below the last can be read out.
    pub fn has_norm(&self) -> bool {
        let head = self.observation.head.as_ref();
        head.is_some_and(|head| head.norm.is_some())
    }

    /// Layers, `most` at most and spread evenly, and ways of taking their states: the last one only as
    /// the head reads it, others as they are and, with a final norm, read out.
    pub fn places(&self, most: Option<usize>) -> Vec<(usize, Space)> {
        let last = self.states.last().0;
        let kept: Vec<usize> = self.states.layers().map(|(layer, _)| layer).collect();
        let count = most.unwrap_or(kept.len()).clamp(1, kept.len());
        // From the last one back in equal steps; with two or more the first is among them.
        let steps = (count - 1).max(1);
        let chosen = (0..count).map(|k| kept[kept.len() - 1 - k * (kept.len() - 1) / steps]);
        let mut chosen: Vec<usize> = chosen.collect();
        chosen.reverse();
        let mut places = Vec::new();
        for layer in chosen {
            if layer != last {
                places.push((layer, Space::Raw));
            }
            if layer == last || self.has_norm() {
                places.push((layer, Space::Readout));
            }
        }
        places
    }

    /// The states of a layer, if it is kept, taken in one way.
    pub fn place(&self, layer: usize, space: Space) -> Result<Option<Place<'_>>, GeometryError> {
        let Some((_, states)) = self.states.layers().find(|(l, _)| *l == layer) else {
            return Ok(None);
        };
        let biased = self.words.as_ref().is_some_and(|w| w.words.biased());
        let (states, head) = match space {
            Space::Raw => (Centred::states(states, biased)?, None),
            Space::Readout => {
                let states = self.observation.readout(layer, states)?;
                let states = Centred::states(&states, biased)?;
                let head = self.words.as_ref().map(|reference| PlaceHead {
                    reference,
                    energies: reference.words.logit_energies(&states),
                    choice: self.scene.tokens.choice(reference.words, &states),
                });
                (states, head)
            }
        };
        Ok(Some(Place {
            unit: states.unit_rows(),
            states,
            head,
        }))
    }
}
