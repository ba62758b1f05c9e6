//! Measuring a network while it learns contexts with soft labels.

use lawvere_core::RowMatrix;
use lawvere_geometry::{
    ContextLaws, Embeddings, NeuralCollapseOptions, Path, Prediction, logits_cosine, measure,
};
use lawvere_lm::train::{SoftLabels, Trainer};
use lawvere_report::{CurvePoint, PathMatch};

use crate::RunError;

/// The steps after which a run is measured: 0, 1, 2, 5, 10, 20, 50, ... and the last.
pub(crate) fn measured_steps(steps: u64) -> Vec<u64> {
    let decades = (0..).map_while(|k| 10u64.checked_pow(k));
    let spread = decades.flat_map(|power| [1, 2, 5].map(|digit| power.saturating_mul(digit)));
    let before = spread.take_while(|&step| step < steps);
    std::iter::once(0).chain(before).chain([steps]).collect()
}

/// What trained networks are held against.
pub(crate) struct Target<'a> {
    pub laws: &'a ContextLaws,
    pub prediction: &'a Prediction,
    pub path: Option<&'a Path>,
}

impl Target<'_> {
    /// Measures a network as it stands; the outcomes of its head are the tokens of the laws.
    pub fn look(&self, trainer: &mut Trainer) -> Result<CurvePoint, RunError> {
        let step = trainer.losses().len() as u64;
        let states = trainer
            .context_states()
            .ok_or_else(|| RunError::Usage("measures need contexts with soft labels".into()))?;
        self.measure(step, trainer.head(), &states)
    }

    /// Measures words and states.
    pub fn measure(
        &self,
        step: u64,
        words: &RowMatrix<f32>,
        states: &RowMatrix<f32>,
    ) -> Result<CurvePoint, RunError> {
        let embeddings = Embeddings {
            words,
            bias: None,
            states,
        };
        let options = NeuralCollapseOptions::default();
        let measures = measure(self.laws, self.prediction, &embeddings, &options)?;
        let path = match self.path {
            Some(path) => like(path, measures.excess, &embeddings)?,
            None => None,
        };
        Ok(CurvePoint {
            step,
            measures,
            path,
        })
    }
}

/// The solution of the path whose excess loss is nearest on a logarithmic scale, 0 left out.
fn like(
    path: &Path,
    excess: f64,
    embeddings: &Embeddings<'_>,
) -> Result<Option<PathMatch>, RunError> {
    let distance = |x: f64| (x.max(1e-300).ln() - excess.max(1e-300).ln()).abs();
    let points = path.points.iter().enumerate();
    let nearest = points
        .filter(|(_, p)| p.nuclear_norm > 0.0)
        .min_by(|(_, a), (_, b)| distance(a.excess).total_cmp(&distance(b.excess)));
    let Some((place, point)) = nearest else {
        return Ok(None);
    };
    let Some(logits) = path.logits(place) else {
        return Ok(None);
    };
    Ok(Some(PathMatch {
        relative_lambda: point.relative_lambda,
        cosine: logits_cosine(embeddings, &logits)?,
    }))
}

/// The laws of soft labels, a row of the V x m matrices for every outcome.
pub(crate) fn laws_of(labels: &SoftLabels) -> Result<ContextLaws, RunError> {
    Ok(ContextLaws::new(
        labels.laws.clone(),
        labels.weights.clone(),
    )?)
}
