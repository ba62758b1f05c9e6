//! Training as a run: what is read, the steps, what is left.

mod along;
mod choice;
mod material;
mod record;

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use lawvere_lm::train::{Architecture, Task, Trainer, Training, is_state};
use lawvere_observe::Observation;
use lawvere_token::disk::{partial_folder, publish_folder, resolve, write_file};

pub use along::Along;
use along::Watch;
pub(crate) use choice::{ALL_CONTEXTS, describe};
pub use choice::{Labels, Measures, NetworkChoice, Source, TrainOptions};
pub(crate) use material::Material;
pub(crate) use material::fresh_seed;
use record::{CHECKPOINTS, FILES, MEASURES, OBSERVATION, RECORD, STATE, finished, hashes};
pub use record::{ExactLoss, HeldOut, TrainingRecord, checkpoint_folder};

use crate::cost::{available_memory, operations_per_second, peak_memory};
use crate::{Event, RunError};

/// What is left after training.
#[derive(Debug)]
pub struct Trained {
    /// The contents of `training.json`.
    pub record: TrainingRecord,
    /// Whether it was found finished rather than trained now.
    pub found: bool,
}

/// How often the state is written, unless writing takes more than a twentieth of that.
const SAVE_EVERY: Duration = Duration::from_secs(2);

/// Trains a network and leaves it in the folder `out`: a checkpoint that
/// [`LanguageModel::open`](lawvere_lm::LanguageModel::open) reads, or, of unconstrained features, an
/// Observation in `out/observation`; beside it `training.json`. On soft labels the network is held
/// against the geometry that the contexts predict along its training: `measures.jsonl` has a line of
/// [measures](lawvere_geometry::GeometryMeasures) after 0, 1, 2, 5, 10, ... steps and the last.
///
/// Checkpoints on the way are in `out/checkpoints/step-N` ([`checkpoint_folder`]).
///
/// While it goes on, its state is in `out.partial`, written every other second; the same run begun
/// again goes on from there, bit for bit.
///
/// # Errors
/// What reading the source, training or writing meets; a destination that holds something else.
pub fn train(
    options: &TrainOptions,
    out: &Path,
    on_event: &mut dyn FnMut(Event),
) -> Result<Trained, RunError> {
    check_destination(out, false)?;
    if let (NetworkChoice::Features { .. }, Labels::Text { .. }) =
        (&options.network, &options.labels)
    {
        return Err(RunError::Usage(
            "unconstrained features are one vector a context and read no text; train them on soft labels".into(),
        ));
    }
    let seed = options.training.seed;
    check_checkpoints(options)?;
    let material = Material::read(&options.source, &options.labels, seed, on_event)?;
    let (task, held_out) = material.task(options)?;
    let architecture = options
        .network
        .architecture(material.end() as usize + 1, &task)?;
    let needed = check_memory(&options.network, &architecture, &options.training, &task)?;
    let mut trainer = Trainer::new(architecture, options.training, task)?;
    let tokenizer = material.tokenizer.identity().to_owned();
    if let Some(record) = finished(out, trainer.identity(), &tokenizer, &options.checkpoints) {
        on_event(Event::Part(format!("using the model in {}", out.display())));
        return Ok(Trained {
            record,
            found: true,
        });
    }
    let out = &resolve(out);
    let partial = partial_folder(out);
    check_destination(&partial, true)?;
    let io = |path: &Path, source| RunError::Io {
        path: path.to_owned(),
        source,
    };
    std::fs::create_dir_all(&partial).map_err(|e| io(&partial, e))?;
    let _lock = lock(&partial)?;
    let state = partial.join(STATE);
    if trainer.restore(&state)? {
        let done = trainer.losses().len();
        on_event(Event::Part(format!("going on after step {done}")));
    } else {
        // What is there is of another run of ours.
        clear(&partial).map_err(|e| io(&partial, e))?;
    }
    let mut watch = Watch::new(options.measures, &material, &trainer, &partial, on_event)?;
    let keep = |trainer: &mut Trainer, step: u64| -> Result<(), RunError> {
        if !options.checkpoints.contains(&step) {
            return Ok(());
        }
        let folder = checkpoint_folder(&partial, step);
        std::fs::create_dir_all(&folder).map_err(|e| io(&folder, e))?;
        material.write(trainer, &folder)
    };
    let steps = run_steps(
        &mut trainer,
        &state,
        needed,
        watch.as_mut(),
        &keep,
        on_event,
    );
    let seconds = steps.inspect_err(|_| {
        // If nothing was saved yet, nothing is left; a folder that holds something stays.
        let _ = std::fs::remove_dir(&partial);
    })?;
    let held_out = match &held_out {
        Some(documents) => Some(material.judge(&mut trainer, documents)?),
        None => None,
    };
    let along = watch.map(|watch| watch.finish(&mut trainer)).transpose()?;
    material.write(&mut trainer, &partial)?;
    let record = TrainingRecord {
        files: hashes(&partial)?,
        schema: TrainingRecord::SCHEMA.into(),
        tool_version: env!("CARGO_PKG_VERSION").into(),
        command: options.command.clone(),
        seed: options.training.seed,
        threads: options.threads,
        run_sha256: trainer.identity().into(),
        tokenizer_sha256: tokenizer,
        source: material.name.clone(),
        network: options.network.to_string(),
        parameters: trainer.architecture().parameters(),
        settings: choice::settings(options),
        training: options.training,
        tokens: (trainer.tokens_a_step() as u64).saturating_mul(options.training.steps),
        losses: trainer.losses().to_vec(),
        seconds,
        peak_memory: peak_memory(),
        held_out,
        along,
        checkpoints: options.checkpoints.clone(),
    };
    let path = partial.join(RECORD);
    let text = serde_json::to_string_pretty(&record).map_err(|e| io(&path, e.into()))?;
    write_file(&path, |file| writeln!(file, "{text}")).map_err(|e| io(&path, e))?;
    if state.exists() {
        std::fs::remove_file(&state).map_err(|e| io(&state, e))?;
    }
    publish_folder(&partial, out).map_err(|e| io(out, e))?;
    Ok(Trained {
        record,
        found: false,
    })
}

fn run_steps(
    trainer: &mut Trainer,
    state: &Path,
    memory: f64,
    mut watch: Option<&mut Watch>,
    keep: &dyn Fn(&mut Trainer, u64) -> Result<(), RunError>,
    on_event: &mut dyn FnMut(Event),
) -> Result<f64, RunError> {
    let total = trainer.training().steps as usize;
    let left = total.saturating_sub(trainer.losses().len());
    let weights = 4 * trainer.architecture().parameters() as u64;
    if left > 0 {
        // About a third of the peak is reached by products of these shapes and what lies between.
        let operations = left as f64 * trainer.operations_a_step();
        on_event(Event::Estimate {
            tokens: left.saturating_mul(trainer.tokens_a_step()),
            seconds: operations / (0.35 * operations_per_second()),
            memory: memory as u64,
            disk: 4 * weights,
        });
        on_event(Event::Part(format!("training: {left} steps")));
    }
    let start = Instant::now();
    let (mut saved, mut pause) = (start, SAVE_EVERY);
    loop {
        if let Some(watch) = &mut watch {
            watch.look(trainer)?;
        }
        keep(trainer, trainer.losses().len() as u64)?;
        if trainer.step()?.is_none() {
            break;
        }
        on_event(Event::Progress {
            done: trainer.losses().len(),
            total,
        });
        if saved.elapsed() > pause {
            let writing = Instant::now();
            save(trainer, watch.as_deref(), state)?;
            saved = Instant::now();
            pause = SAVE_EVERY.max(20 * writing.elapsed());
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    // Judging and writing come after; an interruption there must not cost the training.
    save(trainer, watch.as_deref(), state)?;
    Ok(seconds)
}

/// What was measured up to the state, and then the state, which says that all before it is there.
fn save(trainer: &Trainer, watch: Option<&Watch>, state: &Path) -> Result<(), RunError> {
    if let Some(watch) = watch {
        watch.save()?;
    }
    Ok(trainer.save(state)?)
}

/// Refuses checkpoints that the run does not reach, or of a network that has none.
fn check_checkpoints(options: &TrainOptions) -> Result<(), RunError> {
    let steps = options.training.steps;
    if let Some(step) = options.checkpoints.iter().find(|s| **s > steps) {
        return Err(RunError::Usage(format!(
            "--checkpoints {step}: the training has {steps} steps"
        )));
    }
    match (&options.network, options.checkpoints.is_empty()) {
        (NetworkChoice::Features { .. }, false) => Err(RunError::Usage(
            "--checkpoints: unconstrained features leave an observation, no checkpoint".into(),
        )),
        _ => Ok(()),
    }
}

/// Keeps other runs out of a folder as long as it is held.
fn lock(folder: &Path) -> Result<Option<std::fs::File>, RunError> {
    if !cfg!(unix) {
        // Folders cannot be opened to be locked.
        return Ok(None);
    }
    let io = |source| RunError::Io {
        path: folder.to_owned(),
        source,
    };
    let handle = std::fs::File::open(folder).map_err(io)?;
    match handle.try_lock() {
        Ok(()) => Ok(Some(handle)),
        Err(std::fs::TryLockError::WouldBlock) => Err(RunError::Usage(format!(
            "{}: another run is training there; wait for it, or choose another place for the model",
            folder.display()
        ))),
        // Not every file system has locks.
        Err(std::fs::TryLockError::Error(_)) => Ok(None),
    }
}

/// Refuses a network that would not fit.
pub(crate) fn check_memory(
    network: &NetworkChoice,
    architecture: &Architecture,
    training: &Training,
    task: &Task,
) -> Result<f64, RunError> {
    let needed = Trainer::memory(architecture, training, task);
    match available_memory().filter(|&a| needed > a as f64) {
        None => Ok(needed),
        Some(available) => Err(RunError::Usage(format!(
            "training {network} needs about {:.1} GB of memory, and {:.1} GB are available: take a smaller network, batch or window",
            needed / 1e9,
            available as f64 / 1e9
        ))),
    }
}

/// Refuses a folder that holds anything but a trained model.
fn check_destination(out: &Path, partial: bool) -> Result<(), RunError> {
    let refused = |what: String| {
        Err(RunError::Usage(format!(
            "{}: {what}; choose another place for the model",
            out.display()
        )))
    };
    if !out.exists() {
        return Ok(());
    }
    if !out.is_dir() {
        return refused("a file of that name is there".into());
    }
    let entries = std::fs::read_dir(out).map_err(|source| RunError::Io {
        path: out.to_owned(),
        source,
    })?;
    let names: Vec<String> = entries
        .filter_map(Result::ok)
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .filter(|n| !n.starts_with(".lawvere-"))
        .collect();
    if let Some(name) = names.iter().find(|n| !FILES.contains(&n.as_str())) {
        return refused(format!(
            "the folder holds {name}, which is not part of a trained model, and is not replaced"
        ));
    }
    // A checkpoint from elsewhere has files of the same names.
    let ours = TrainingRecord::beside(out).is_some() || is_state(&out.join(STATE));
    // What comes before the first state of a run that was stopped then.
    let begun = partial && names.iter().all(|n| n == MEASURES || n == CHECKPOINTS);
    let ours = ours || begun;
    if !names.is_empty() && !ours {
        return refused(format!(
            "the folder holds {}, but no {RECORD} or {STATE} of ours: it was not trained here, and is not replaced",
            names.join(", ")
        ));
    }
    let observation = out.join(OBSERVATION);
    if observation.exists() {
        Observation::check_destination(&observation)?;
    }
    Ok(())
}

/// Empties a folder that [`check_destination`] found to be ours.
fn clear(folder: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            std::fs::remove_dir_all(path)?;
        } else {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}
