use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use lawvere_core::{Factored, NextToken};
use lawvere_geometry::{CompareOptions, GeometryError, Supports};
use lawvere_information::{
    Likelihood, fisher_rao, layer_readings, likelihood, loss_by_prefix_length,
};
use lawvere_lm::LanguageModel;
use lawvere_lm::train::{Optimizer, Training};
use lawvere_metric::{compare, yoneda_isometry};
use lawvere_observe::{ContextPlan, Draft, Layers, Observation, Observer, PositionPlan, Rows};
use lawvere_report::{
    CorpusFacts, GeometryPage, InformationPage, MetricPage, ModelFacts, Predictions, Provenance,
    Rendered, Report, RunningText, Text, TrainingFacts, TrueMetric, Truth, render,
};
use lawvere_text::{BuildOptions, Corpus, CorpusOptions, DocumentUnit, Language, TextSpace};
use lawvere_token::disk::write_file;

use crate::cost::peak_memory;
use crate::defaults;
use crate::forest::prefix_texts;
use crate::index::index_with;
use crate::metric::spaces_page;
use crate::model::open_model;
use crate::observe::make;
use crate::states::{StatesMaterial, checkpoint_steps};
use crate::train::{fresh_seed, train};
use crate::{
    Event, Labels, Measures, NetworkChoice, RunError, Source, TrainOptions, TrainingRecord, truth,
};

/// What a report is about.
#[derive(Debug, Clone, PartialEq)]
pub enum Subject {
    /// A model on a corpus.
    Given {
        /// The corpus.
        corpus: CorpusOptions,
        /// The checkpoint.
        model: PathBuf,
    },
    /// The built-in language, and a network trained on stories of it.
    BuiltIn {
        /// The language's number of words.
        words: usize,
        /// Stories that the network learns from and the corpus's counts are taken of.
        stories: usize,
        /// The network.
        network: NetworkChoice,
        /// Windows a step.
        batch: usize,
        /// Tokens of a window.
        length: usize,
        /// How it is trained.
        training: Training,
    },
}

impl Subject {
    /// The built-in language with the decoder and the settings of [`defaults`].
    pub fn built_in(words: usize, stories: usize, steps: Option<u64>, seed: u64) -> Self {
        Self::BuiltIn {
            words,
            stories,
            network: NetworkChoice::Decoder {
                layers: defaults::LAYERS,
                width: defaults::WIDTH,
                heads: defaults::HEADS,
                feed_forward: defaults::WIDTH * 8 / 3,
            },
            batch: defaults::BATCH,
            length: defaults::WINDOW,
            training: Training {
                steps: steps.unwrap_or(defaults::STEPS),
                optimizer: Optimizer::ADAMW,
                learning_rate: defaults::RATE,
                warmup: defaults::WARMUP,
                final_rate: defaults::FINAL_RATE,
                weight_decay: 0.0,
                ridge: 0.0,
                clip: Some(defaults::CLIP),
                seed,
            },
        }
    }
}

/// What [`report`](fn@report) does.
#[derive(Debug, Clone, PartialEq)]
pub struct ReportOptions {
    /// What it is about.
    pub subject: Subject,
    /// How many contexts.
    pub contexts: usize,
    /// Tokens of a context.
    pub order: usize,
    /// The fewest occurrences of a context.
    pub min_count: u64,
    /// Which layers.
    pub layers: Layers,
    /// Positions of running text.
    pub positions: usize,
    /// The longest prefix in running text.
    pub window: usize,
    /// Texts in the prefix forest.
    pub texts: usize,
    /// What random choices start from.
    pub seed: u64,
    /// Threads, for the record.
    pub threads: usize,
    /// The command that reproduces the report.
    pub command: String,
}

const SPECTRUM_RANK: usize = 64;
const SHOWN_CONCEPTS: usize = 6;
/// Layers in which the predictions are looked for.
const PREDICTED_LAYERS: usize = 7;
const HEATMAP: (usize, usize) = (80, 240);
/// Passes through the head over the contexts: two a kept layer, one for the log-odds, one for the
/// likelihood, and three of the metric's (one more product of the same size).
const PASSES_BESIDE_LAYERS: f64 = 5.0;

/// Measures a model on a corpus with all three lenses and writes the page, its data, the index and
/// the Observations into the folder `out`. Finished parts of an earlier, interrupted run with the
/// same options are used again.
///
/// # Errors
/// What any part meets; no file is then left half-written under its final name.
pub fn report(
    options: &ReportOptions,
    out: &Path,
    on_event: &mut dyn FnMut(Event),
) -> Result<Report, RunError> {
    let start = Instant::now();
    let mut clock = Clock {
        last: start,
        parts: Vec::new(),
    };
    let io = |path: &Path, source| RunError::Io {
        path: path.to_owned(),
        source,
    };
    let ours = check_destination(out)?;
    std::fs::create_dir_all(out).map_err(|e| io(out, e))?;

    let Ready {
        model,
        space,
        known,
        training,
        trained,
    } = prepare(options, out, ours, &mut clock, on_event)?;

    let observer = Observer::new(&space, Some(&model), &options.layers)?;
    let context_plan = ContextPlan {
        order: options.order,
        min_count: options.min_count,
        top: Some(options.contexts),
        document_end: None,
    };
    let draft = observer.contexts(&context_plan)?;
    worth_measuring(options, &draft)?;
    let head_pass = 2.0 * draft.rows() as f64 * (model.vocab_size() * model.hidden_size()) as f64;
    let passes = 2.0 * draft.layers().len() as f64 + PASSES_BESIDE_LAYERS;
    let folder = out.join("observation");
    let observation = make(
        &observer,
        &draft,
        &folder,
        "reading contexts",
        passes * head_pass,
        on_event,
    )?;
    clock.part("reading the contexts");

    let plan = PositionPlan {
        positions: options.positions,
        window: Some(options.window.min(model.context_length() - 1)),
        seed: options.seed,
    };
    // A network that was trained on the corpus is read on stories it has not seen.
    let fresh = known.as_ref().map_or(&space, |k| &k.fresh);
    let running = Observer::new(fresh, Some(&model), &options.layers)?;
    let draft = running.positions(&plan)?;
    let folder = out.join("running-text");
    let positions = make(
        &running,
        &draft,
        &folder,
        "reading running text",
        0.0,
        on_event,
    )?;
    clock.part("reading running text");

    on_event(Event::Part("metric lens".into()));
    let (metric, true_metric) = metric_page(options, &space, &model, known.as_ref())?;
    clock.part("metric lens");

    on_event(Event::Part("geometry lens".into()));
    let supports = Supports::new(&observation)?;
    let geometry = GeometryPage {
        summary: supports.summary(&observation, options.seed),
        heatmap: supports.heatmap(&observation, HEATMAP.0, HEATMAP.1),
        spectrum: lawvere_geometry::spectrum(
            &supports,
            SPECTRUM_RANK,
            SHOWN_CONCEPTS,
            options.seed,
        )?,
        collapse: lawvere_geometry::collapse(&observation, &supports, options.seed)?,
        log_odds: lawvere_geometry::log_odds(&observation, options.seed)?,
        predictions: predictions(&observation, options.seed)?,
    };
    clock.part("geometry lens");

    on_event(Event::Part("information lens".into()));
    let information =
        information_page(options, &observation, &positions, known.is_some(), on_event)?;
    clock.part("information lens");

    let material = StatesMaterial {
        model: &model,
        space: &space,
        contexts: &observation,
        plan: &context_plan,
        positions: &positions,
        language: known.as_ref().map(|k| &k.language),
        trained: trained
            .as_ref()
            .map(|(path, steps)| (path.as_path(), steps.as_slice())),
        layers: &options.layers,
        seed: options.seed,
        out,
    };
    let states = material.page(on_event)?;
    clock.part("states");

    let truth = match (&known, true_metric) {
        (Some(known), Some(metric)) => {
            on_event(Event::Part("the truth".into()));
            let (language, seed) = (&known.language, options.seed);
            let exact = truth::contexts(language, &observation)?;
            let size = (SPECTRUM_RANK, SHOWN_CONCEPTS);
            let running = &information.running.likelihood;
            let truth = Truth {
                language: truth::facts(language),
                metric,
                geometry: truth::geometry(&observation, &exact, size, seed)?,
                information: truth::information(
                    language,
                    &observation,
                    &exact,
                    &positions,
                    running,
                    seed,
                )?,
            };
            clock.part("the truth");
            Some(truth)
        }
        _ => None,
    };

    let mut corpus = corpus_facts(&space, &observation);
    let mut model_facts = model_facts(&model, training);
    if known.is_some() {
        corpus.name = "the built-in stories".into();
        model_facts.name = "A small decoder".into();
    }
    on_event(Event::Part("writing the page".into()));
    let report = Report {
        schema: "lawvere-report/1".into(),
        corpus,
        model: model_facts,
        choice: choice(&observation),
        order: options.order,
        caveats: {
            let mut caveats = caveats(&model, &information, known.is_some());
            caveats.extend(states.notes.iter().cloned());
            caveats
        },
        token_labels: token_labels(&observation, &supports, &information),
        context_labels: (0..observation.rows())
            .map(|row| observation.row_label(row))
            .collect(),
        metric,
        geometry,
        information,
        states,
        truth,
        provenance: Provenance {
            tool_version: env!("CARGO_PKG_VERSION").into(),
            command: options.command.clone(),
            seed: options.seed,
            threads: options.threads,
            corpus_sha256: space.info().corpus_identity.clone(),
            tokenizer_sha256: space.info().tokenizer_identity.clone(),
            model_sha256: model.identity().into(),
            wall_seconds: start.elapsed().as_secs_f64(),
            parts: clock.parts,
            peak_memory: peak_memory(),
            observation: "observation".into(),
            index: "index".into(),
        },
    };
    write_page(&report, out)?;
    Ok(report)
}

/// What the lenses are pointed at.
struct Ready {
    model: LanguageModel,
    space: TextSpace,
    known: Option<Known>,
    training: Option<TrainingFacts>,
    /// What was trained for the report, and the steps of its checkpoints.
    trained: Option<(PathBuf, Vec<u64>)>,
}

/// A language whose kernel is known, and stories of it that no model was trained on.
struct Known {
    language: Language,
    fresh: TextSpace,
}

/// Stories that running text is drawn from.
const FRESH_STORIES: usize = 1000;

fn prepare(
    options: &ReportOptions,
    out: &Path,
    ours: bool,
    clock: &mut Clock,
    on_event: &mut dyn FnMut(Event),
) -> Result<Ready, RunError> {
    let index_folder = out.join("index");
    let (corpus, model_path, built_in) = match &options.subject {
        Subject::Given { corpus, model } => (corpus.clone(), model.clone(), None),
        Subject::BuiltIn {
            words,
            stories,
            network,
            batch,
            length,
            training,
        } => {
            let language = Language::stories(*words)?;
            let corpus = out.join("stories.txt");
            write_stories(&language, options.seed, *stories, &corpus, ours)?;
            clock.part("telling stories");
            let plan = TrainOptions {
                source: Source::Stories {
                    words: *words,
                    stories: *stories,
                },
                network: network.clone(),
                labels: Labels::Text {
                    batch: *batch,
                    window: *length,
                },
                training: *training,
                measures: Measures::None,
                checkpoints: checkpoint_steps(training.steps),
                threads: options.threads,
                command: options.command.clone(),
            };
            let model = out.join("model");
            train(&plan, &model, on_event)?;
            clock.part("training");
            let steps = plan.checkpoints;
            let corpus = CorpusOptions::new([corpus]);
            (corpus, model, Some((language, steps)))
        }
    };
    let model = open_model(&model_path.clone().into(), on_event)?;
    let tokenizer = model.tokenizer().ok_or_else(|| RunError::NoTokenizer {
        path: model_path.clone(),
    })?;
    clock.part("loading the model");
    let space = index_with(
        &corpus,
        Some(tokenizer),
        &BuildOptions::default(),
        &index_folder,
        on_event,
    )?;
    clock.part("indexing the corpus");
    let (known, trained) = match built_in {
        None => (None, None),
        Some((language, steps)) => {
            let stories = language.documents(fresh_seed(options.seed), FRESH_STORIES);
            let texts: Vec<String> = stories.iter().map(|s| language.text(s)).collect();
            let corpus = Corpus::from_documents(texts.iter().map(String::as_str))?;
            let fresh = TextSpace::build(&corpus, tokenizer, &mut |_| {})?;
            (
                Some(Known { language, fresh }),
                Some((model_path.clone(), steps)),
            )
        }
    };
    let training = TrainingRecord::beside(&model_path).map(|record| TrainingFacts {
        steps: record.training.steps,
        tokens: record.tokens,
        losses: record.losses,
        seconds: record.seconds,
        settings: record.settings,
    });
    Ok(Ready {
        model,
        space,
        known,
        training,
        trained,
    })
}

/// Writes stories, one a line, unless the file holds them already. A file that holds something else
/// is replaced only if `ours`.
pub(crate) fn write_stories(
    language: &Language,
    seed: u64,
    stories: usize,
    path: &Path,
    ours: bool,
) -> Result<(), RunError> {
    let mut text = String::new();
    for story in language.documents(seed, stories) {
        text += &language.text(&story);
        text.push('\n');
    }
    let io = |source| RunError::Io {
        path: path.to_owned(),
        source,
    };
    if path.exists() {
        let metadata = std::fs::metadata(path).map_err(io)?;
        // Not read if it cannot be the same: it may be a device without an end.
        let same = metadata.is_file()
            && metadata.len() == text.len() as u64
            && std::fs::read(path).is_ok_and(|found| found == text.as_bytes());
        if same {
            return Ok(());
        }
        if !(ours && metadata.is_file()) {
            return Err(RunError::Usage(format!(
                "{}: it is there already and holds something else, and is not replaced; choose another name for the stories",
                path.display()
            )));
        }
    }
    write_file(path, |file| file.write_all(text.as_bytes())).map_err(io)
}

/// Refuses a folder with files of a report's names that are not of a report.
fn check_destination(out: &Path) -> Result<bool, RunError> {
    let ours = check_files(out, "lawvere-report/")?;
    let begun = ["model", "model.partial", "index", "observation"];
    Ok(ours || begun.iter().any(|name| out.join(name).exists()))
}

/// Whether a report of this kind is in a folder; refuses one that holds another's files.
pub(crate) fn check_files(out: &Path, schema: &str) -> Result<bool, RunError> {
    let report = out.join("report.json");
    let mark = format!("\"schema\": \"{schema}");
    let ours = std::fs::read_to_string(&report).is_ok_and(|text| text.contains(&mark));
    let foreign = ["report.html", "report.json"]
        .into_iter()
        .find(|name| !ours && out.join(name).exists());
    match foreign {
        Some(name) => Err(RunError::Usage(format!(
            "{}: the folder holds {name}, which is not of a report made here, and is not replaced; choose another place for the report",
            out.display()
        ))),
        None => Ok(ours),
    }
}

/// Refuses, before the model reads anything, contexts that the lenses could say nothing about.
fn worth_measuring(options: &ReportOptions, draft: &Draft) -> Result<(), RunError> {
    let open = draft
        .counts()
        .rows()
        .filter(|(tokens, _)| tokens.len() > 1)
        .count();
    if draft.rows() >= 2 && open >= 1 {
        return Ok(());
    }
    Err(RunError::Contexts {
        path: match &options.subject {
            Subject::Given { corpus, .. } => corpus.paths[0].clone(),
            Subject::BuiltIn { .. } => PathBuf::from("the built-in language"),
        },
        contexts: draft.rows(),
        order: options.order,
        open,
    })
}

struct Clock {
    last: Instant,
    parts: Vec<(String, f64)>,
}

impl Clock {
    fn part(&mut self, name: &str) {
        let now = Instant::now();
        self.parts
            .push((name.into(), (now - self.last).as_secs_f64()));
        self.last = now;
    }
}

fn metric_page(
    options: &ReportOptions,
    space: &TextSpace,
    model: &LanguageModel,
    known: Option<&Known>,
) -> Result<(MetricPage, Option<TrueMetric>), RunError> {
    let texts = prefix_texts(space, options.order + 1, options.texts)?;
    let corpus = texts.corpus_forest()?;
    let read = texts.model_forest(model)?;
    let comparison = compare(&corpus, &read, &texts.counts)?;
    let decode = |tokens: &[u32]| space.tokenizer().decode(tokens);
    let nodes = texts
        .texts
        .iter()
        .enumerate()
        .map(|(i, tokens)| {
            Ok(Text {
                text: decode(tokens)?,
                last: decode(&tokens[tokens.len() - 1..])?,
                length: tokens.len(),
                count: texts.counts[i],
                parent: texts.parents[i],
                corpus_distance: corpus.edge_distance(i),
                model_distance: read.edge_distance(i),
            })
        })
        .collect::<Result<_, RunError>>()?;
    let exact = known
        .map(|k| truth::metric(&k.language, &texts, &corpus, &read))
        .transpose()?;
    let page = MetricPage {
        texts: nodes,
        comparison,
        corpus_isometry: yoneda_isometry(&corpus.distances())?,
        model_isometry: yoneda_isometry(&read.distances())?,
        spaces: spaces_page(space, model, &texts, [&corpus, &read], options.seed)?,
    };
    Ok((page, exact))
}

/// What the theory predicts, in the observation's layers. Where all supports are full it predicts nothing.
fn predictions(observation: &Observation, seed: u64) -> Result<Option<Predictions>, RunError> {
    let options = CompareOptions {
        layers: Some(PREDICTED_LAYERS),
        ..CompareOptions::default()
    };
    match lawvere_geometry::compare(observation, None, &options, seed) {
        Ok(comparison) => Ok(Some(comparison.into())),
        Err(GeometryError::Argument {
            what: "prediction", ..
        }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn information_page(
    options: &ReportOptions,
    contexts: &Observation,
    positions: &Observation,
    known: bool,
    on_event: &mut dyn FnMut(Event),
) -> Result<InformationPage, RunError> {
    let layers = contexts.states.as_ref().map_or(0, |s| s.layers().len());
    let mut done = 0;
    let readings = layer_readings(contexts, &mut |_| {
        done += 1;
        on_event(Event::Progress {
            done,
            total: layers,
        });
    })?;
    let running = likelihood(positions, options.seed)?;
    let documents = match &positions.contexts {
        Rows::Positions(p) => {
            let mut documents = p.document.clone();
            documents.dedup();
            documents.len()
        }
        Rows::Contexts { .. } => 0,
    };
    Ok(InformationPage {
        likelihood: likelihood(contexts, options.seed)?,
        readings,
        fisher: fisher_rao(contexts, SHOWN_CONCEPTS)?,
        running: RunningText {
            choice: choice(positions)
                + if known {
                    ", none of them trained on"
                } else {
                    ""
                },
            positions: positions.rows(),
            documents,
            by_length: loss_by_prefix_length(positions, &losses(&running))?,
            likelihood: running,
        },
    })
}

fn choice(observation: &Observation) -> String {
    let provenance = observation.info.provenance.as_ref();
    provenance.map_or(String::new(), |p| p.choice.clone())
}

fn losses(likelihood: &Likelihood) -> Vec<f64> {
    likelihood.rows.iter().map(|r| r.cross_entropy).collect()
}

fn corpus_facts(space: &TextSpace, observation: &Observation) -> CorpusFacts {
    let info = space.info();
    let name = |p: &PathBuf| {
        p.file_name()
            .unwrap_or(p.as_os_str())
            .to_string_lossy()
            .into_owned()
    };
    let provenance = observation.info.provenance.as_ref();
    CorpusFacts {
        name: info
            .corpus_paths
            .iter()
            .map(name)
            .collect::<Vec<_>>()
            .join(", "),
        paths: info
            .corpus_paths
            .iter()
            .map(|p| p.display().to_string())
            .collect(),
        bytes: info.bytes,
        documents: info.documents,
        document_unit: match info.reading.as_ref().map(|r| r.documents) {
            Some(DocumentUnit::File) => "file".into(),
            _ => "line".into(),
        },
        tokens: info.tokens,
        distinct_tokens: space.token_ids().len(),
        dropped_ends: provenance.map_or(0, |p| p.dropped_ends),
        qualified: provenance.map_or(0, |p| p.qualified),
    }
}

fn model_facts(model: &LanguageModel, training: Option<TrainingFacts>) -> ModelFacts {
    ModelFacts {
        name: model.origin().name.clone(),
        path: model.path().display().to_string(),
        parameters: model.architecture().parameters(),
        layers: model.last_layer().0,
        hidden_size: model.hidden_size(),
        vocab_size: model.vocab_size(),
        context_length: Some(model.context_length()).filter(|&l| l < usize::MAX),
        training,
    }
}

/// What a reader should hold against these particular figures.
fn caveats(model: &LanguageModel, information: &InformationPage, known: bool) -> Vec<String> {
    let origin = model.origin();
    let mut out = Vec::new();
    if model.bos().is_none() && model.document_end().is_none() {
        let first = information.running.by_length.first().filter(|l| l.to == 1);
        let cold = first.map_or(String::new(), |first| {
            format!(
                " On running text its loss after a single token is {:.2} nats, over all positions {:.2}: distances from one-token texts measure this cold start as much as the language.",
                first.loss, information.running.likelihood.cross_entropy
            )
        });
        out.push(format!(
            "The checkpoint puts no beginning-of-text token before a text, so the tokens of a context are all the model reads.{cold}"
        ));
    }
    if origin.chat_template {
        out.push(
            "The checkpoint carries a chat template: it was tuned on conversations, and its laws on plain text are not those of the base model it came from.".into(),
        );
    }
    let exact = ["F32", "F16", "BF16"];
    let stored = origin.storage.iter();
    let quantised: Vec<_> = stored
        .filter(|(kind, _)| !exact.contains(&kind.as_str()))
        .collect();
    if !quantised.is_empty() {
        let kinds: Vec<_> = quantised
            .iter()
            .map(|(kind, n)| format!("{n} in {kind}"))
            .collect();
        out.push(format!(
            "The weights are quantised ({} of {} tensors: {}); they are dequantised to float32 before use, so the figures are those of the quantised model, not of the original.",
            quantised.iter().map(|(_, n)| **n).sum::<usize>(),
            origin.storage.values().sum::<usize>(),
            kinds.join(", ")
        ));
    }
    if known {
        out.push(
            "The model was trained on the very stories whose counts it is compared with, so that on the contexts its loss is a little lower than it would be on new ones. Running text is of stories it has not seen.".into(),
        );
        return out;
    }
    out.push(
        "Whether the model was trained on this text is not known from the checkpoint. A text that is public and old very likely was in its training data; agreement then measures memory as well as language.".into(),
    );
    out
}

fn token_labels(
    observation: &Observation,
    supports: &Supports,
    information: &InformationPage,
) -> BTreeMap<u32, String> {
    let directions = information.fisher.directions.iter();
    let named = directions
        .flat_map(|d| d.raised.iter().chain(&d.lowered))
        .map(|(token, _)| *token);
    supports
        .tokens
        .iter()
        .copied()
        .chain(named)
        .map(|t| (t, observation.token_label(t)))
        .collect()
}

fn write_page(report: &Report, out: &Path) -> Result<(), RunError> {
    let rendered = render(report).map_err(|e| RunError::Report(e.to_string()))?;
    write_files(out, rendered)
}

/// Writes a page, its JSON and its tables into a folder.
pub(crate) fn write_files(out: &Path, rendered: Rendered) -> Result<(), RunError> {
    let data = out.join("data");
    std::fs::create_dir_all(&data).map_err(|source| RunError::Io {
        path: data.clone(),
        source,
    })?;
    let tables = rendered
        .tables
        .into_iter()
        .map(|(name, text)| (data.join(name), text));
    let files = tables.chain([
        (out.join("report.json"), rendered.json),
        // Last: a page that is there has all its data.
        (out.join("report.html"), rendered.html),
    ]);
    for (path, text) in files {
        write_file(&path, |file| file.write_all(text.as_bytes()))
            .map_err(|source| RunError::Io { path, source })?;
    }
    Ok(())
}
