//! What the theory predicts of a model, and when a prediction counts as seen.

use serde::Serialize;

/// A prediction that can be looked for in a given model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Claim {
    /// The mean cosine of centred states over pairs of contexts with equal supports; ideally 1.
    SubspaceCollapse,
    /// The class-distance normalised variance of contexts with equal supports, a geometric mean over
    /// pairs of supports; ideally 0.
    SupportVariability,
    /// The cosine of the contexts' centred Gram matrix with the predicted one; ideally 1, or of a prediction
    /// of leading singular triplets about the square root of the share of the energy they have.
    ContextGram,
    /// The cosine of the words' centred Gram matrix with the predicted one; ideally likewise.
    WordGram,
    /// The cosine of the logits, centred over tokens and contexts, with the proxy `S~`, whole, or with an exact
    /// prediction; ideally 1.
    Logits,
    /// The rank correlation of the strengths of the leading concepts in the logits with those in the
    /// predicted logits, both centred over contexts; ideally 1.
    ConceptStrengths,
    /// The correlation of in-support logits with `L^in`; ideally 1.
    InSupportLogOdds,
    /// NC1: the class-distance normalised variance of next tokens, a geometric mean over pairs; ideally
    /// 0.
    WithinClassVariability,
    /// NC2: the root mean square of `cosine + 1/(C - 1)` over pairs of next tokens; ideally 0.
    Equiangularity,
    /// GNC2: the mean of `log 1/distance` over pairs of next tokens; ideally `-log(2C/(C - 1))/2`.
    Uniformity,
    /// NC3: the mean cosine of class means and words, both centred; ideally 1.
    Duality,
    /// NC4: the share of contexts whose likeliest token has the nearest class mean; ideally 1.
    Agreement,
}

impl Claim {
    /// All of them, the theory's first, then those of neural collapse.
    pub const ALL: [Self; 12] = [
        Self::SubspaceCollapse,
        Self::SupportVariability,
        Self::ContextGram,
        Self::WordGram,
        Self::Logits,
        Self::ConceptStrengths,
        Self::InSupportLogOdds,
        Self::WithinClassVariability,
        Self::Equiangularity,
        Self::Uniformity,
        Self::Duality,
        Self::Agreement,
    ];

    /// What is predicted, in words.
    pub fn statement(self) -> &'static str {
        match self {
            Self::SubspaceCollapse => {
                "contexts followed by the same tokens have states in one direction"
            }
            Self::SupportVariability => {
                "contexts followed by the same tokens have states close together, compared with those of others"
            }
            Self::ContextGram => "inner products of contexts are those of the predicted geometry",
            Self::WordGram => "inner products of words are those of the predicted geometry",
            Self::Logits => "logits point in the predicted direction",
            Self::ConceptStrengths => {
                "concepts that are predicted to be stronger are stronger in the logits"
            }
            Self::InSupportLogOdds => {
                "among tokens that do follow a context, logits are the corpus's log-odds"
            }
            Self::WithinClassVariability => {
                "contexts followed by a token have states close together, compared with those of others (NC1)"
            }
            Self::Equiangularity => "class means of next tokens stand at equal angles (NC2)",
            Self::Uniformity => "class means of next tokens are spread over the sphere (GNC2)",
            Self::Duality => "words point along the class means of their contexts (NC3)",
            Self::Agreement => "the likeliest token is the one with the nearest class mean (NC4)",
        }
    }
}

/// How the states of a layer are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Space {
    /// As they are.
    Raw,
    /// As the head would read them: below the last layer through the final norm.
    Readout,
}

/// A measure with states dealt to contexts at random, several times.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Control {
    /// The mean over deals.
    pub mean: f64,
    /// The standard deviation over deals.
    pub deviation: f64,
}

/// Whether a prediction is seen in a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Nearer to the prediction than with states dealt at random, beyond what other controls explain.
    Visible,
    /// Nearer, but the last token of contexts explains most of it.
    ExplainedByLastToken,
    /// Nearer, but the same network untrained shows most of it.
    ExplainedByArchitecture,
    /// Nearer than with states dealt at random on average, but not beyond how far those scatter: with more
    /// contexts it may be seen.
    WithinChance,
    /// Not nearer than with states dealt at random.
    NotVisible,
}

impl Verdict {
    /// The verdict in words.
    pub fn phrase(self) -> &'static str {
        match self {
            Self::Visible => "visible",
            Self::ExplainedByLastToken => "explained by the last token",
            Self::ExplainedByArchitecture => "explained by the architecture",
            Self::WithinChance => "within chance",
            Self::NotVisible => "not visible",
        }
    }
}

/// The smallest share of the way from dealt states to the ideal that counts as seen.
pub const LEAST_EFFECT: f64 = 0.02;
/// How many standard deviations of a control a value must lie beyond its mean: of normal values, the
/// deviation taken from five deals, one in 200 does by chance, of ten one in 2,000.
pub const DEVIATIONS: f64 = 5.0;
/// The share of an effect from which on a control explains it.
pub const EXPLAINS: f64 = 0.8;

/// One prediction, measured in one place and judged.
///
/// *Visible* takes three things. The value covers at least [`LEAST_EFFECT`] of the way from the mean of
/// dealt states to the ideal and lies more than [`DEVIATIONS`] of their standard deviations from it. With
/// states dealt among contexts of one last token, less than [`EXPLAINS`] of that effect is left, and the
/// value lies as many deviations from there. And the untrained network has less than that share of it.
/// Controls that are not there are passed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reading {
    /// What is predicted.
    pub claim: Claim,
    /// The layer; `None` of words, which all layers share.
    pub layer: Option<usize>,
    /// How its states are taken.
    pub space: Option<Space>,
    /// What is measured.
    pub value: f64,
    /// What is predicted in the limit of training.
    pub ideal: f64,
    /// States dealt to any contexts (words: to tokens that about as many contexts allow).
    pub shuffled: Control,
    /// States dealt to contexts with the same last token; `None` where too few contexts share one.
    pub same_last: Option<Control>,
    /// The same network untrained.
    pub untrained: Option<f64>,
    /// The share of the way from dealt states to the ideal that the value covers; negative where it is
    /// further from the ideal than they are.
    pub effect: f64,
    /// The same less what the better of the other two controls covers.
    pub unexplained: f64,
    /// What follows.
    pub verdict: Verdict,
}

impl Reading {
    pub(crate) fn judged(
        claim: Claim,
        place: Option<(usize, Space)>,
        (value, ideal): (f64, f64),
        shuffled: Control,
        same_last: Option<Control>,
        untrained: Option<f64>,
    ) -> Self {
        let way = (shuffled.mean - ideal).abs();
        let covered = |x: f64| {
            if way > 0.0 {
                1.0 - (x - ideal).abs() / way
            } else {
                0.0
            }
        };
        let effect = covered(value);
        let beyond = |c: &Control| (value - c.mean).abs() > DEVIATIONS * c.deviation;
        let explains = |control: f64| covered(control) >= EXPLAINS * effect;
        let verdict = if effect < LEAST_EFFECT {
            Verdict::NotVisible
        } else if !beyond(&shuffled) {
            Verdict::WithinChance
        } else if same_last.is_some_and(|c| explains(c.mean) || !beyond(&c)) {
            Verdict::ExplainedByLastToken
        } else if untrained.is_some_and(explains) {
            Verdict::ExplainedByArchitecture
        } else {
            Verdict::Visible
        };
        let others = [same_last.map(|control| control.mean), untrained];
        let others = others.into_iter().flatten().map(covered);
        Self {
            claim,
            layer: place.map(|p| p.0),
            space: place.map(|p| p.1),
            value,
            ideal,
            shuffled,
            same_last,
            untrained,
            effect,
            unexplained: effect - others.fold(0.0, f64::max),
            verdict,
        }
    }

    /// The reading as a sentence, with the figures that decide.
    pub fn sentence(&self) -> String {
        let control = |c: &Control| format!("{:.3} ± {:.3}", c.mean, c.deviation);
        let mut text = format!(
            "{}: {} ({:.3}, ideally {:.3}; dealt at random {}",
            self.claim.statement(),
            self.verdict.phrase(),
            self.value,
            self.ideal,
            control(&self.shuffled)
        );
        if let Some(same_last) = &self.same_last {
            text += &format!(", within the same last token {}", control(same_last));
        }
        if let Some(untrained) = self.untrained {
            text += &format!(", untrained {untrained:.3}");
        }
        text + ")"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NULL: Control = Control {
        mean: 0.0,
        deviation: 0.01,
    };

    fn judged(value: f64, same_last: Option<f64>, untrained: Option<f64>) -> Reading {
        let same_last = same_last.map(|mean| Control { mean, ..NULL });
        Reading::judged(
            Claim::ContextGram,
            None,
            (value, 1.0),
            NULL,
            same_last,
            untrained,
        )
    }

    #[test]
    fn a_prediction_is_visible_only_where_no_control_explains_it() {
        let verdict = |value, same_last, untrained| judged(value, same_last, untrained).verdict;
        assert_eq!(verdict(0.5, None, None), Verdict::Visible);
        assert_eq!(verdict(0.04, None, None), Verdict::WithinChance);
        assert_eq!(verdict(0.01, None, None), Verdict::NotVisible);
        assert_eq!(verdict(-0.9, None, None), Verdict::NotVisible);
        assert_eq!(verdict(0.5, Some(0.2), Some(0.1)), Verdict::Visible);
        let last = Verdict::ExplainedByLastToken;
        assert_eq!(verdict(0.5, Some(0.41), Some(0.1)), last);
        // Within five deviations of the control, whatever the share.
        assert_eq!(verdict(0.08, Some(0.04), None), last);
        assert_eq!(verdict(0.1, Some(0.04), None), Verdict::Visible);
        let untrained = Verdict::ExplainedByArchitecture;
        assert_eq!(verdict(0.5, Some(0.2), Some(0.6)), untrained);
        assert!((judged(0.5, Some(0.2), Some(0.6)).unexplained + 0.1).abs() < 1e-12);
        assert!((judged(0.5, Some(0.2), None).unexplained - 0.3).abs() < 1e-12);
    }

    #[test]
    fn a_small_deviation_does_not_make_a_small_effect_count() {
        let exact = Control {
            mean: 0.0,
            deviation: 0.0,
        };
        let of = |value| {
            let reading = Reading::judged(Claim::Duality, None, (value, 1.0), exact, None, None);
            reading.verdict
        };
        assert_eq!(of(0.01), Verdict::NotVisible);
        assert_eq!(of(0.03), Verdict::Visible);
    }

    #[test]
    fn a_measure_whose_ideal_is_small_is_nearer_below_its_control() {
        let control = Control {
            mean: 2.0,
            deviation: 0.1,
        };
        let of = |value| {
            let claim = Claim::WithinClassVariability;
            Reading::judged(claim, None, (value, 0.0), control, None, None)
        };
        assert_eq!(of(1.0).verdict, Verdict::Visible);
        assert_eq!(of(1.0).effect, 0.5);
        assert_eq!(of(3.0).verdict, Verdict::NotVisible);
        assert!(of(1.0).sentence().contains("visible (1.000, ideally 0.000"));
    }
}
