//! The geometry that contexts predict, and networks trained on them beside it: the whole experiment
//! of the implicit-geometry paper on any corpus.

mod contexts;
mod plan;
pub(crate) mod watch;

use std::path::Path as FilePath;
use std::time::Instant;

use lawvere_core::{RowMatrix, linalg};
use lawvere_geometry::{
    ContextLaws, MaxMargin, MaxMarginOptions, Path, PathOptions, Penalties, Prediction,
    finite_logits, max_margin, path, proxy,
};
use lawvere_lm::train::{Task, Trainer};
use lawvere_observe::ContextPlan;
use lawvere_report::{ImplicitProvenance, ImplicitReport, Map, NetworkRun, render_implicit};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use crate::cost::peak_memory;
use crate::report::{check_files, write_files};
use crate::train::{ALL_CONTEXTS, Source, check_memory, describe};
use crate::{Event, RunError};
use contexts::Contexts;
pub use plan::{NetworkKind, NetworkPlan, NetworkSizes};
use watch::{Target, measured_steps};

/// What [`experiment`](fn@experiment) does.
#[derive(Debug, Clone, PartialEq)]
pub struct ExperimentOptions {
    /// Where the contexts come from.
    pub source: Source,
    /// Which contexts, the most frequent first.
    pub plan: ContextPlan,
    /// Only contexts that so many different outcomes follow.
    pub min_support: usize,
    /// The networks trained.
    pub networks: Vec<NetworkPlan>,
    /// Points of the regularisation path.
    pub points: usize,
    /// The smallest penalty of the path, as a fraction of lambda_max.
    pub smallest: f64,
    /// The certified relative gap of the max-margin solution.
    pub tolerance: f64,
    /// What random choices start from.
    pub seed: u64,
    /// Threads, for the record.
    pub threads: usize,
    /// The command that reproduces the run.
    pub command: String,
}

/// Leading concepts that are named.
const CONCEPTS: usize = 8;

/// Predicts the geometry of a corpus's contexts (max-margin logits with a certificate, finite part,
/// regularisation path), trains networks on them with measures along the way, and writes one page with
/// the figures, its JSON and tables into the folder `out`.
///
/// # Errors
/// What reading the source, solving, training or writing meets; a folder that holds something else.
pub fn experiment(
    options: &ExperimentOptions,
    out: &FilePath,
    on_event: &mut dyn FnMut(Event),
) -> Result<ImplicitReport, RunError> {
    let start = Instant::now();
    check_files(out, "lawvere-implicit-geometry/")?;
    let contexts = Contexts::read(options, on_event)?;
    let laws = &contexts.laws;
    for plan in &options.networks {
        check_plan(plan, &contexts)?;
    }
    on_event(Event::Part(format!(
        "solving for the max-margin logits of {} tokens and {} contexts",
        laws.supports.vocabulary(),
        laws.supports.contexts()
    )));
    let margin_options = MaxMarginOptions {
        tolerance: options.tolerance,
        ..MaxMarginOptions::default()
    };
    let solved = max_margin(&laws.supports, &margin_options, &mut |_| {})?;
    if solved.value == 0.0 {
        return Err(RunError::Report(
            "every context may be followed by every token, so no geometry is predicted: take contexts of a longer order or more tokens".into(),
        ));
    }
    on_event(Event::Part(format!(
        "following the regularisation path: {} points",
        options.points
    )));
    let path_options = PathOptions {
        penalties: Penalties::Spread {
            points: options.points,
            from: 1.0,
            to: options.smallest,
        },
        ..PathOptions::default()
    };
    let path = path(laws, Some(&solved), &path_options, &mut |p| {
        on_event(Event::Progress {
            done: p.points,
            total: p.total,
        });
    })?;
    let prediction = Prediction::from_logits(&solved.logits())?;
    let target = Target {
        laws,
        prediction: &prediction,
        path: Some(&path),
    };
    let mut networks = Vec::new();
    for plan in &options.networks {
        networks.push(run(plan, &contexts, &target, options.seed, on_event)?);
    }
    let mut report = predicted(options, &contexts, solved, path, &prediction)?;
    report.networks = networks;
    report.provenance.wall_seconds = start.elapsed().as_secs_f64();
    report.provenance.peak_memory = peak_memory();
    on_event(Event::Part("writing the page".into()));
    let rendered = render_implicit(&report).map_err(|e| RunError::Report(e.to_string()))?;
    write_files(out, rendered)?;
    Ok(report)
}

/// Refuses what cannot be trained before anything is solved.
fn check_plan(plan: &NetworkPlan, contexts: &Contexts) -> Result<(), RunError> {
    let task = task(contexts);
    let architecture = plan
        .network
        .architecture(contexts.laws.supports.vocabulary(), &task)?;
    Trainer::check(&architecture, &plan.training, &task)?;
    check_memory(&plan.network, &architecture, &plan.training, &task)?;
    Ok(())
}

fn task(contexts: &Contexts) -> Task {
    Task::Contexts {
        labels: contexts.labels.clone(),
        batch: None,
    }
}

fn run(
    plan: &NetworkPlan,
    contexts: &Contexts,
    target: &Target<'_>,
    seed: u64,
    on_event: &mut dyn FnMut(Event),
) -> Result<NetworkRun, RunError> {
    let task = task(contexts);
    let outcomes = contexts.laws.supports.vocabulary();
    let architecture = plan.network.architecture(outcomes, &task)?;
    let mut trainer = Trainer::new(architecture, plan.training, task)?;
    let steps = plan.training.steps;
    on_event(Event::Part(format!(
        "training: {} ({}), {steps} steps",
        plan.name, plan.network
    )));
    let start = Instant::now();
    let measured = measured_steps(steps);
    let mut curve = Vec::with_capacity(measured.len());
    for step in measured {
        while (trainer.losses().len() as u64) < step {
            trainer.step()?;
            on_event(Event::Progress {
                done: trainer.losses().len(),
                total: steps as usize,
            });
        }
        curve.push(target.look(&mut trainer)?);
    }
    let states = trainer
        .context_states()
        .ok_or_else(|| RunError::Usage("the experiment needs contexts".into()))?;
    let words = trainer.head().clone();
    let mut dealt: Vec<usize> = (0..states.nrows()).collect();
    dealt.shuffle(&mut StdRng::seed_from_u64(seed));
    let shuffled = RowMatrix::from_fn(states.nrows(), states.ncols(), |j, k| {
        states.get(dealt[j], k)
    });
    let shuffled = target.measure(steps, &words, &shuffled)?.measures;
    let centred = centred_words(&words);
    Ok(NetworkRun {
        name: plan.name.clone(),
        network: plan.network.to_string(),
        settings: describe(&plan.training, ALL_CONTEXTS),
        parameters: trainer.architecture().parameters(),
        seconds: start.elapsed().as_secs_f64(),
        losses: trainer.losses().to_vec(),
        curve,
        shuffled,
        logits: product(&centred, &states),
        words: product(&centred, &centred),
        context_gram: product(&states, &states),
    })
}

/// Words less their mean, to which a softmax is blind.
fn centred_words(words: &RowMatrix<f32>) -> RowMatrix<f32> {
    let n = words.nrows().max(1) as f64;
    let mut mean = vec![0.0f64; words.ncols()];
    for row in words.rows() {
        mean.iter_mut()
            .zip(row)
            .for_each(|(m, &x)| *m += f64::from(x) / n);
    }
    RowMatrix::from_fn(words.nrows(), words.ncols(), |v, k| {
        (f64::from(words.get(v, k)) - mean[k]) as f32
    })
}

/// `A B^T`.
fn product(a: &RowMatrix<f32>, b: &RowMatrix<f32>) -> Map {
    let mut out = RowMatrix::zeros(a.nrows(), b.nrows());
    linalg::matmul(out.view_mut(), a.view(), b.view().transpose());
    Map {
        rows: a.nrows(),
        columns: b.nrows(),
        values: out.into_data(),
    }
}

fn map(matrix: &RowMatrix<f64>) -> Map {
    Map {
        rows: matrix.nrows(),
        columns: matrix.ncols(),
        values: matrix.data().iter().map(|&x| x as f32).collect(),
    }
}

fn norm(matrix: &RowMatrix<f64>) -> f64 {
    lawvere_core::sum(matrix.data().iter().map(|x| x * x)).sqrt()
}

/// All of a report but the networks.
fn predicted(
    options: &ExperimentOptions,
    contexts: &Contexts,
    solved: MaxMargin,
    path: Path,
    prediction: &Prediction,
) -> Result<ImplicitReport, RunError> {
    let laws = &contexts.laws;
    let logits = solved.logits();
    let shape = proxy(&laws.supports);
    let finite = finite_logits(laws);
    let (size, proxy_size) = (norm(&logits), norm(&shape));
    let apart = RowMatrix::from_fn(logits.nrows(), logits.ncols(), |v, j| {
        logits.get(v, j) / size - shape.get(v, j) / proxy_size
    });
    Ok(ImplicitReport {
        schema: "lawvere-implicit-geometry/1".into(),
        provenance: ImplicitProvenance {
            tool_version: env!("CARGO_PKG_VERSION").into(),
            command: options.command.clone(),
            seed: options.seed,
            threads: options.threads,
            laws_sha256: contexts.identity(),
            wall_seconds: 0.0,
            peak_memory: None,
        },
        source: contexts.source.clone(),
        choice: contexts.choice.clone(),
        order: contexts.labels.order,
        tokens: contexts.token_labels(),
        contexts: contexts.context_labels(),
        facts: contexts.facts(),
        token_order: contexts.token_order(),
        context_order: contexts.context_order(),
        classes: laws.supports.class.clone(),
        proxy_distance: norm(&apart),
        finite_norm: norm(&finite),
        probabilities: map(&dense(laws)),
        finite: map(&finite),
        max_margin_logits: map(&logits),
        proxy: map(&shape),
        predicted_words: map(&prediction.word_gram()),
        predicted_contexts: map(&prediction.context_gram()),
        concepts: contexts.concepts(CONCEPTS, options.seed)?,
        max_margin: solved,
        path,
        networks: Vec::new(),
    })
}

fn dense(laws: &ContextLaws) -> RowMatrix<f64> {
    let mut out = RowMatrix::zeros(laws.supports.vocabulary(), laws.supports.contexts());
    for (j, (tokens, law)) in laws.laws.rows().enumerate() {
        for (&v, &p) in tokens.iter().zip(law) {
            out.row_mut(v as usize)[j] = p;
        }
    }
    out
}
