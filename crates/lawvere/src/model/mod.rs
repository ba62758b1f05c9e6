//! What is asked of a language model alone, without a corpus.

mod bench;
mod generate;
mod given;
mod info;
mod score;
mod states;
mod tokenize;

use std::path::{Path, PathBuf};

use lawvere_core::{Factored, NextToken};
use lawvere_lm::{Device, LanguageModel, Precision};

pub use bench::{
    BenchOptions, BenchProduct, BenchReport, BenchResult, BenchShape, BenchTimes, bench,
};
pub use generate::{Continuation, Continuations, GenerateOptions, Stop, generate};
pub use given::{Content, Passage, Place, Question};
pub(crate) use given::{check_length, read_text, tokens};
pub use info::{ModelInfo, NamedToken, TokenizerInfo};
pub use score::{Answer, Answers, DocumentReading, read_document, score};
pub use states::{STATES_SCHEMA, StatesOptions, StatesSummary, check_states_file, write_states};
pub use tokenize::{Tokenized, open_tokenizer, tokenize};

use crate::cost::operations_per_second;
use crate::{Event, RunError};

/// A checkpoint, and how it is computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelSource {
    /// A GGUF file, a folder or `hf:ORG/NAME[@REVISION]`.
    pub path: PathBuf,
    /// What its products are computed in.
    pub precision: Precision,
    /// And where.
    pub device: Device,
}

impl ModelSource {
    /// The model.
    pub(crate) fn open(&self) -> Result<LanguageModel, RunError> {
        Ok(LanguageModel::open_on(
            &self.path,
            self.precision,
            self.device,
        )?)
    }
}

/// In float32, on the processor.
impl<P: Into<PathBuf>> From<P> for ModelSource {
    fn from(path: P) -> Self {
        Self {
            path: path.into(),
            precision: Precision::F32,
            device: Device::Cpu,
        }
    }
}

/// Opens a checkpoint.
///
/// # Errors
/// [`LanguageModel::open_on`].
pub fn open_model(
    source: &ModelSource,
    on_event: &mut dyn FnMut(Event),
) -> Result<LanguageModel, RunError> {
    fetch_model(&source.path, on_event)?;
    on_event(Event::Part(format!("loading {}", source.path.display())));
    source.open()
}

/// Sees that a checkpoint named `hf:ORG/NAME` is in the hub's cache ([`lawvere_token::fetch`]), telling how far it is.
pub(crate) fn fetch_model(path: &Path, on_event: &mut dyn FnMut(Event)) -> Result<(), RunError> {
    let mut file = String::new();
    lawvere_token::fetch(path, &mut |fetching| {
        if file != fetching.file {
            fetching.file.clone_into(&mut file);
            on_event(Event::Part(format!("fetching {file}")));
        }
        on_event(Event::Progress {
            done: fetching.done as usize,
            total: fetching.total as usize,
        });
    })?;
    Ok(())
}

/// Tells what reading `tokens` tokens, in texts of `longest` at most, and making `laws` laws will take,
/// unless it is nothing to wait for.
pub(crate) fn tell_cost(
    model: &LanguageModel,
    (tokens, longest): (usize, usize),
    laws: usize,
    disk: u64,
    on_event: &mut dyn FnMut(Event),
) {
    const WORTH_TELLING: f64 = 3e11;
    let law = model.vocab_size() * model.hidden_size();
    let token = model.multiply_adds_per_token() + model.attention_multiply_adds(longest);
    let operations = 2.0 * (token as f64 * tokens as f64 + law as f64 * laws as f64);
    if operations < WORTH_TELLING {
        return;
    }
    on_event(Event::Estimate {
        tokens,
        seconds: operations / (0.5 * operations_per_second()),
        memory: model.bytes() as u64,
        disk,
    });
}

/// Tells what scoring continuations of prefixes will take, at most: what they share is not known yet.
pub(crate) fn tell_scoring(
    model: &LanguageModel,
    questions: &[(&[u32], &[u32])],
    on_event: &mut dyn FnMut(Event),
) {
    let lengths = questions.iter().map(|(p, c)| p.len() + c.len());
    let laws = questions.iter().map(|(_, c)| c.len()).sum();
    let longest = lengths.clone().max().unwrap_or(0);
    tell_cost(model, (lengths.sum(), longest), laws, 0, on_event);
}

/// The number of the model's last layer.
fn last_layer(model: &LanguageModel) -> usize {
    model.last_layer().0
}
