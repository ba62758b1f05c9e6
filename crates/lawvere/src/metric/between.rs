use std::path::Path;

use lawvere_core::bootstrap_interval;
use lawvere_core::linalg::spearman;
use lawvere_lm::{Generation, LanguageModel, Sampling};
use lawvere_metric::{Continuation, Continuations, Estimate};
use lawvere_token::sha256_of_file;
use serde::Serialize;

use crate::model::{ModelSource, Passage, Place, check_length, open_model, tell_cost, tokens};
use crate::{Event, RunError};

/// How texts are compared by their continuations.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ContinuationPlan {
    /// Continuations drawn after each text.
    pub samples: usize,
    /// The most tokens of one; it ends before with a token that ends a text.
    pub tokens: usize,
    /// Where chance comes from.
    pub seed: u64,
}

impl ContinuationPlan {
    /// Liu's: 20 continuations of up to 20 tokens.
    pub const LIU: Self = Self {
        samples: 20,
        tokens: 20,
        seed: 0,
    };
}

/// Texts drawn after others, and what it cost.
struct Drawn {
    /// By prompt, the continuations with their own log-probabilities.
    continuations: Vec<Vec<(Vec<u32>, f64)>>,
    forwarded: usize,
}

/// Draws continuations of every text, by the model's own law.
fn draw(
    model: &LanguageModel,
    texts: &[Vec<u32>],
    plan: &ContinuationPlan,
) -> Result<Drawn, RunError> {
    let generation = Generation {
        sampling: Sampling::default(),
        samples: plan.samples,
        most: plan.tokens,
        stop: model.eos().to_vec(),
        seed: plan.seed,
    };
    let prompts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
    let mut continuations = vec![Vec::new(); texts.len()];
    // A prompt is read once, and the last token of a text is only drawn.
    let mut forwarded: usize = texts.iter().map(Vec::len).sum();
    for text in model.generate(&prompts, &generation)? {
        forwarded += text.tokens.len().saturating_sub(1);
        let total = lawvere_core::sum(text.log_probs.iter().map(|&x| f64::from(x)));
        continuations[text.prompt].push((text.tokens, total));
    }
    Ok(Drawn {
        continuations,
        forwarded,
    })
}

/// Pairs of texts, each read with the continuations of the other, and what it cost.
fn paired(
    model: &LanguageModel,
    texts: &[Vec<u32>],
    pairs: &[(usize, usize)],
    plan: &ContinuationPlan,
    on_event: &mut dyn FnMut(Event),
) -> Result<(Vec<Continuations>, usize), RunError> {
    // Each text is read, gone on with, and read with the continuations of the others: at most so much.
    let drawn = plan.samples.saturating_mul(plan.tokens);
    let read = |k: usize| texts[k].len() + drawn;
    let all: usize = (0..texts.len()).map(read).sum();
    let both: usize = pairs.iter().map(|&(a, b)| read(a) + read(b)).sum();
    let longest = texts.iter().map(Vec::len).max().unwrap_or(0) + plan.tokens;
    let laws = drawn * (texts.len() + 2 * pairs.len());
    tell_cost(model, (all + both, longest), laws, 0, on_event);
    let drawn = draw(model, texts, plan)?;
    let mut questions: Vec<(&[u32], &[u32])> = Vec::new();
    for &(a, b) in pairs {
        for (from, to) in [(a, b), (b, a)] {
            let own = drawn.continuations[from].iter();
            questions.extend(own.map(|(t, _)| (&texts[to][..], &t[..])));
        }
    }
    let scored = model.score(&questions)?;
    let mut scores = scored.scores.into_iter().map(|s| s.total);
    let mut found = Vec::with_capacity(pairs.len());
    for &(a, b) in pairs {
        let mut half = |from: usize, first: bool| -> Vec<Continuation> {
            let own = drawn.continuations[from].iter();
            own.map(|(t, total)| {
                let other = scores.next().unwrap_or(f64::NAN);
                Continuation {
                    length: t.len(),
                    after_first: if first { *total } else { other },
                    after_second: if first { other } else { *total },
                }
            })
            .collect()
        };
        found.push(Continuations {
            of_first: half(a, true),
            of_second: half(b, false),
        });
    }
    Ok((found, drawn.forwarded + scored.forwarded))
}

/// Two texts compared by how a model goes on with them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ComparedTexts {
    /// The first text.
    pub first: String,
    /// The second.
    pub second: String,
    /// By order, the Rényi divergences of the laws of continuations.
    pub divergences: Vec<OrderedDivergence>,
    /// `D_1(p_u || p_v) - D_1(p_v || p_u)`: positive where the first entails the second.
    pub direction: Estimate,
    /// Liu's distance.
    pub trajectory: Estimate,
}

/// Rényi divergences of an order.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OrderedDivergence {
    /// The order; `inf` is a lower bound without an error.
    #[serde(serialize_with = "lawvere_metric::extended::one")]
    pub order: f64,
    /// `D(p_u || p_v)`.
    pub forward: Estimate,
    /// `D(p_v || p_u)`.
    pub back: Estimate,
    /// Their mean.
    pub symmetric: Estimate,
}

/// All pairs of texts, compared.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TextComparison {
    /// Every pair, in the order of the texts.
    pub pairs: Vec<ComparedTexts>,
    /// How continuations were drawn.
    pub plan: ContinuationPlan,
    /// Tokens taken through the network.
    pub forwarded: usize,
    /// The hash of the model.
    pub model_sha256: String,
}

/// Compares texts by their continuations under a model, every two of them.
///
/// # Errors
/// Fewer than two texts, one without tokens or longer than the model reads, fewer than two continuations; an order that is
/// not positive; what opening the model meets.
pub fn compare_texts(
    model: &ModelSource,
    texts: &[String],
    orders: &[f64],
    plan: &ContinuationPlan,
    on_event: &mut dyn FnMut(Event),
) -> Result<TextComparison, RunError> {
    if texts.len() < 2 {
        return Err(RunError::Usage("give two texts or more to compare".into()));
    }
    if let Some(order) = orders.iter().find(|order| order.is_nan() || **order <= 0.0) {
        return Err(RunError::Usage(format!(
            "the order of a Renyi divergence is {order}; it should be more than 0, or inf"
        )));
    }
    check_plan(plan)?;
    let model = open_model(model, on_event)?;
    let numbered = texts.iter().zip(1..);
    let passages: Vec<Passage> = numbered
        .map(|(text, k)| Passage::argument(&format!("text {k}"), text))
        .collect();
    let read = readable(&model, &passages, plan)?;
    compare_read(&model, texts, &read, orders, plan, on_event)
}

/// As [`compare_texts`], of texts that are tokens already.
pub(super) fn compare_read(
    model: &LanguageModel,
    names: &[String],
    texts: &[Vec<u32>],
    orders: &[f64],
    plan: &ContinuationPlan,
    on_event: &mut dyn FnMut(Event),
) -> Result<TextComparison, RunError> {
    let pairs: Vec<(usize, usize)> = (0..texts.len())
        .flat_map(|i| (i + 1..texts.len()).map(move |j| (i, j)))
        .collect();
    let (found, forwarded) = paired(model, texts, &pairs, plan, on_event)?;
    let compared = pairs.iter().zip(&found).map(|(&(i, j), found)| {
        let divergence = |&order: &f64| {
            Ok(OrderedDivergence {
                order,
                forward: found.renyi(order)?,
                back: found.turned().renyi(order)?,
                symmetric: found.symmetric_renyi(order)?,
            })
        };
        Ok(ComparedTexts {
            first: names[i].clone(),
            second: names[j].clone(),
            divergences: orders
                .iter()
                .map(divergence)
                .collect::<Result<_, RunError>>()?,
            direction: found.direction()?,
            trajectory: found.trajectory_distance()?,
        })
    });
    Ok(TextComparison {
        pairs: compared.collect::<Result<_, RunError>>()?,
        plan: *plan,
        forwarded,
        model_sha256: model.identity().to_owned(),
    })
}

/// A text and how near it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NearText {
    /// The text.
    pub text: String,
    /// Its line in the file, from 1.
    pub line: usize,
    /// The mean of both Kullback-Leibler divergences of the laws of continuations, nats.
    pub divergence: Estimate,
    /// `D_1(p_u || p_v) - D_1(p_v || p_u)`, u the text asked about: positive where u entails it.
    pub direction: Estimate,
    /// Liu's distance.
    pub trajectory: Estimate,
}

/// The texts of a file by how near they are to one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Nearest {
    /// The text asked about.
    pub text: String,
    /// The nearest first.
    pub nearest: Vec<NearText>,
    /// Texts that it was held against.
    pub texts: usize,
    /// How continuations were drawn.
    pub plan: ContinuationPlan,
    /// Tokens taken through the network.
    pub forwarded: usize,
    /// The hash of the model.
    pub model_sha256: String,
    /// The hash of the file.
    pub texts_sha256: String,
}

/// Finds which texts of a file, a line each, a model goes on with most as it does with `text`: by the symmetric
/// Kullback-Leibler divergence of the laws of continuations. The `most` nearest are told.
///
/// # Errors
/// As [`compare_texts`]; what reading the file meets.
pub fn nearest_texts(
    model: &ModelSource,
    text: &str,
    file: &Path,
    most: usize,
    plan: &ContinuationPlan,
    on_event: &mut dyn FnMut(Event),
) -> Result<Nearest, RunError> {
    check_plan(plan)?;
    let mut passages = vec![Passage::argument("the text", text)];
    passages.extend(Passage::lines(file)?);
    let model = open_model(model, on_event)?;
    let read = readable(&model, &passages, plan)?;
    let pairs: Vec<(usize, usize)> = (1..read.len()).map(|k| (0, k)).collect();
    on_event(Event::Part(format!(
        "continuations of {} texts",
        read.len()
    )));
    let (found, forwarded) = paired(&model, &read, &pairs, plan, on_event)?;
    let near = found.iter().zip(&passages[1..]).map(|(found, passage)| {
        Ok(NearText {
            text: passage.text().unwrap_or_default().to_owned(),
            line: match passage.place {
                Place::Line(_, line) => line,
                _ => 0,
            },
            divergence: found.symmetric_renyi(1.0)?,
            direction: found.direction()?,
            trajectory: found.trajectory_distance()?,
        })
    });
    let mut nearest: Vec<NearText> = near.collect::<Result<_, RunError>>()?;
    // Of equal texts that of the earlier line, whatever rounding makes of them.
    let place = |near: &NearText| (near.divergence.value * 1e9).round();
    nearest.sort_by(|a, b| place(a).total_cmp(&place(b)).then(a.line.cmp(&b.line)));
    let texts = nearest.len();
    nearest.truncate(most);
    Ok(Nearest {
        text: text.to_owned(),
        nearest,
        texts,
        plan: *plan,
        forwarded,
        model_sha256: model.identity().to_owned(),
        texts_sha256: sha256_of_file(file).map_err(|source| RunError::Io {
            path: file.to_owned(),
            source,
        })?,
    })
}

/// The most continuations of a text.
const MOST_CONTINUATIONS: usize = 100_000;

fn check_plan(plan: &ContinuationPlan) -> Result<(), RunError> {
    match plan.samples {
        2..=MOST_CONTINUATIONS => Ok(()),
        0 | 1 => Err(RunError::Usage(
            "one continuation of a text has no standard error; at least 2 are needed".into(),
        )),
        more => Err(RunError::Usage(format!(
            "{more} continuations of a text are asked for; at most {MOST_CONTINUATIONS} are drawn"
        ))),
    }
}

/// The tokens of texts that can be gone on with.
fn readable(
    model: &LanguageModel,
    passages: &[Passage],
    plan: &ContinuationPlan,
) -> Result<Vec<Vec<u32>>, RunError> {
    let found = tokens(model, &passages.iter().collect::<Vec<_>>())?;
    for (text, passage) in found.iter().zip(passages) {
        if text.is_empty() {
            return Err(passage.place.error("it has no token to go on from"));
        }
        let length = text.len().saturating_add(plan.tokens);
        check_length(model, length, &passage.place)?;
    }
    Ok(found)
}

/// How well distances follow human judgements of likeness.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LikenessReport {
    /// Pairs of sentences.
    pub pairs: usize,
    /// A line a measure.
    pub measures: Vec<LikenessMeasure>,
    /// The hash of the model.
    pub model_sha256: String,
}

/// Spearman's rank correlation of a measure with the judgements.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LikenessMeasure {
    /// What it is.
    pub name: String,
    /// The correlation of its negative with the judgements.
    pub correlation: f64,
    /// Its 95 % interval, by the bootstrap over pairs.
    pub interval: [f64; 2],
    /// How continuations were drawn.
    pub plan: ContinuationPlan,
    /// Tokens taken through the network for it.
    pub forwarded: usize,
}

/// Holds distances against human judgements of likeness: a CSV of two sentences and a score a line, without a header. Liu's
/// distance, as its authors draw it, stands beside the symmetric Rényi divergences of the plan.
///
/// # Errors
/// A file of another form, fewer than three pairs; as [`compare_texts`].
pub fn evaluate_likeness(
    model: &ModelSource,
    file: &Path,
    limit: Option<usize>,
    plan: &ContinuationPlan,
    on_event: &mut dyn FnMut(Event),
) -> Result<LikenessReport, RunError> {
    check_plan(plan)?;
    let (passages, scores) = judged(file, limit)?;
    if let Some(&score) = scores.first().filter(|s| scores.iter().all(|x| x == *s)) {
        return Err(RunError::Input {
            path: file.to_owned(),
            what: format!("all scores are {score}; a rank correlation needs different ones"),
        });
    }
    let model = open_model(model, on_event)?;
    let liu = ContinuationPlan {
        seed: plan.seed,
        ..ContinuationPlan::LIU
    };
    let longer = match plan.tokens > liu.tokens {
        true => plan,
        false => &liu,
    };
    let texts = readable(&model, &passages, longer)?;
    let pairs: Vec<(usize, usize)> = (0..scores.len()).map(|k| (2 * k, 2 * k + 1)).collect();
    let mut measures = Vec::new();
    let mut add = |name: &str,
                   found: &[Continuations],
                   plan: ContinuationPlan,
                   forwarded,
                   measure: &dyn Fn(&Continuations) -> Result<f64, RunError>| {
        let distances: Vec<f64> = found.iter().map(measure).collect::<Result<_, RunError>>()?;
        let likeness: Vec<f64> = distances.iter().map(|d| -d).collect();
        measures.push(LikenessMeasure {
            name: name.to_owned(),
            correlation: spearman(&likeness, &scores),
            interval: bootstrap_interval(scores.len(), plan.seed, |chosen| {
                let of = |v: &[f64]| -> Vec<f64> { chosen.iter().map(|&i| v[i]).collect() };
                spearman(&of(&likeness), &of(&scores))
            }),
            plan,
            forwarded,
        });
        Ok::<(), RunError>(())
    };
    on_event(Event::Part(format!(
        "Liu's continuations of {} sentences",
        texts.len()
    )));
    let (found, forwarded) = paired(&model, &texts, &pairs, &liu, on_event)?;
    add("liu", &found, liu, forwarded, &|c| {
        Ok(c.trajectory_distance()?.value)
    })?;
    on_event(Event::Part(format!(
        "continuations of {} sentences",
        texts.len()
    )));
    let (found, forwarded) = paired(&model, &texts, &pairs, plan, on_event)?;
    for order in [0.25, 0.5, 1.0] {
        let name = format!("symmetric Renyi {order}");
        add(&name, &found, *plan, forwarded, &|c| {
            Ok(c.symmetric_renyi(order)?.value)
        })?;
    }
    add("trajectories", &found, *plan, forwarded, &|c| {
        Ok(c.trajectory_distance()?.value)
    })?;
    Ok(LikenessReport {
        pairs: scores.len(),
        measures,
        model_sha256: model.identity().to_owned(),
    })
}

/// Sentences, two a judgement, and the judgements.
fn judged(file: &Path, limit: Option<usize>) -> Result<(Vec<Passage>, Vec<f64>), RunError> {
    let wrong = |line: usize, what: String| Place::Line(file.to_owned(), line).error(what);
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_path(file)
        .map_err(|e| RunError::Input {
            path: file.to_owned(),
            what: e.to_string(),
        })?;
    let (mut passages, mut scores) = (Vec::new(), Vec::new());
    for record in reader.records().take(limit.unwrap_or(usize::MAX)) {
        let record = record.map_err(|e| RunError::Input {
            path: file.to_owned(),
            what: e.to_string(),
        })?;
        let line = record.position().map_or(0, |p| p.line() as usize);
        let fields: Vec<&str> = record.iter().collect();
        let [first, second, score] = fields[..] else {
            let n = fields.len();
            return Err(wrong(
                line,
                format!("{n} columns; there should be two sentences and a score"),
            ));
        };
        let Some(score) = score.trim().parse::<f64>().ok().filter(|s| s.is_finite()) else {
            return Err(wrong(
                line,
                format!("the score is `{score}`; it should be a number"),
            ));
        };
        scores.push(score);
        for text in [first, second] {
            passages.push(Passage {
                content: crate::model::Content::Text(text.to_owned()),
                place: Place::Line(file.to_owned(), line),
            });
        }
    }
    if scores.len() < 3 {
        return Err(RunError::Input {
            path: file.to_owned(),
            what: format!(
                "{} pairs; a rank correlation needs three or more",
                scores.len()
            ),
        });
    }
    Ok((passages, scores))
}
