//! What training reads, and what it is judged by.

use std::io::Write;
use std::path::Path;

use lawvere_core::{ContextBatch, SparseRows, ratio_of_sums, sum};
use lawvere_lm::train::{Architecture, SoftLabels, Task, Trainer};
use lawvere_observe::{Draft, Head, Layers, Observation, Observer, States};
use lawvere_text::{Corpus, Language, Reading, TextSpace};
use lawvere_token::Tokenizer;
use lawvere_token::disk::write_file;

use crate::train::choice::{Labels, Source, TrainOptions};
use crate::train::record::{ExactLoss, HeldOut, OBSERVATION};
use crate::{Event, RunError};

/// The tokens of each document.
pub(crate) type Documents = Vec<Vec<u32>>;

/// One document in so many is kept from training, 500 at most.
const HELD_OUT_SHARE: usize = 20;
const HELD_OUT_MOST: usize = 500;

/// What training reads, in memory.
pub(crate) struct Material {
    pub name: String,
    pub tokenizer: Tokenizer,
    documents: Documents,
    /// Documents of the same language that are not among them, and the language.
    language: Option<(Language, Documents)>,
    /// Contexts with soft labels, and the index they are of.
    contexts: Option<(Draft, TextSpace)>,
}

impl Material {
    pub fn read(
        source: &Source,
        labels: &Labels,
        seed: u64,
        on_event: &mut dyn FnMut(Event),
    ) -> Result<Self, RunError> {
        let mut language = None;
        let (name, space) = match source {
            Source::Stories { words, stories } => {
                on_event(Event::Part(format!("telling {stories} stories")));
                let spoken = Language::stories(*words)?;
                let documents = spoken.documents(seed, *stories);
                let count = held_out_count(documents.len());
                let fresh = spoken.documents(fresh_seed(seed), count);
                let name = format!("{stories} stories of the built-in language of {words} words");
                if let Labels::Text { .. } = labels {
                    return Ok(Self {
                        name,
                        tokenizer: spoken.tokenizer()?,
                        documents,
                        language: Some((spoken, fresh)),
                        contexts: None,
                    });
                }
                let texts: Vec<String> = documents.iter().map(|d| spoken.text(d)).collect();
                let corpus = Corpus::from_documents(texts.iter().map(String::as_str))?;
                let tokenizer = spoken.tokenizer()?;
                language = Some((spoken, fresh));
                (name, TextSpace::build(&corpus, &tokenizer, &mut |_| {})?)
            }
            Source::Index(path) => (path.display().to_string(), TextSpace::open(path)?),
            Source::Corpus { corpus, tokenizer } => {
                let paths = corpus.paths.iter().map(|p| p.display().to_string());
                let name = paths.collect::<Vec<_>>().join(", ");
                (name, crate::index::space(corpus, tokenizer, on_event)?)
            }
        };
        let tokenizer = space.tokenizer().clone();
        Ok(match labels {
            Labels::Text { .. } => Self {
                name,
                tokenizer,
                documents: (0..space.documents())
                    .filter_map(|d| space.document_tokens(d))
                    .collect(),
                language,
                contexts: None,
            },
            Labels::Contexts { plan, .. } => {
                let draft = Observer::new(&space, None, &Layers::Last)?.contexts(plan)?;
                Self {
                    name,
                    tokenizer,
                    documents: Vec::new(),
                    language,
                    contexts: Some((draft, space)),
                }
            }
        })
    }

    /// The token that stands for the end of a document.
    pub fn end(&self) -> u32 {
        self.tokenizer.vocab_size() as u32
    }

    /// A document between two boundaries.
    fn bounded(&self, tokens: &[u32]) -> Vec<u32> {
        let end = [self.end()];
        [&end, tokens, &end].concat()
    }

    /// The task, and the documents that are kept from it.
    pub fn task(&self, options: &TrainOptions) -> Result<(Task, Option<Documents>), RunError> {
        match (&options.labels, &self.contexts) {
            (Labels::Contexts { batch, .. }, Some((draft, _))) => {
                let labels = soft_labels_of(draft);
                let batch = *batch;
                Ok((Task::Contexts { labels, batch }, None))
            }
            (Labels::Text { batch, window }, _) => {
                let (learned, held_out): (Vec<&[u32]>, Documents) = match &self.language {
                    Some((_, fresh)) => (
                        self.documents.iter().map(Vec::as_slice).collect(),
                        fresh.clone(),
                    ),
                    None => {
                        // Evenly spread, the last of each stretch.
                        let count = held_out_count(self.documents.len());
                        let stride = self
                            .documents
                            .len()
                            .checked_div(count)
                            .unwrap_or(usize::MAX);
                        let (out, learned): (Vec<_>, Vec<_>) = self
                            .documents
                            .iter()
                            .enumerate()
                            .partition(|(i, _)| (i + 1).is_multiple_of(stride));
                        (
                            learned.iter().map(|(_, d)| d.as_slice()).collect(),
                            out.into_iter().map(|(_, d)| d.clone()).collect(),
                        )
                    }
                };
                let mut stream = vec![self.end()];
                for document in learned {
                    stream.extend(document);
                    stream.push(self.end());
                }
                let task = Task::Text {
                    stream,
                    batch: *batch,
                    window: *window,
                };
                Ok((task, Some(held_out).filter(|h| !h.is_empty())))
            }
            (Labels::Contexts { .. }, None) => Err(RunError::Usage(
                "soft labels need an index to take contexts from".into(),
            )),
        }
    }

    /// Whether there are contexts with soft labels.
    pub fn has_contexts(&self) -> bool {
        self.contexts.is_some()
    }

    /// Contexts with soft labels, and the counts their laws come from.
    pub fn soft_labels(&self) -> Result<(SoftLabels, &SparseRows<u64>), RunError> {
        match &self.contexts {
            Some((draft, _)) => Ok((soft_labels_of(draft), draft.counts())),
            None => Err(RunError::Usage(
                "soft labels need an index to take contexts from".into(),
            )),
        }
    }

    /// How the contexts were chosen, in words.
    pub fn choice(&self) -> String {
        let draft = self.contexts.as_ref().map(|(draft, _)| draft);
        draft.and_then(Draft::choice).unwrap_or_default().to_owned()
    }

    pub fn judge(
        &self,
        trainer: &mut Trainer,
        documents: &[Vec<u32>],
    ) -> Result<HeldOut, RunError> {
        // A decoder reads as far as it was made for, the others whole documents.
        let longest = documents.iter().map(|d| d.len() + 1).max().unwrap_or(1);
        let window = match trainer.architecture() {
            Architecture::Decoder(config) => config.context_length,
            _ => longest,
        };
        let bounded: Vec<Vec<u32>> = documents.iter().map(|d| self.bounded(d)).collect();
        let losses = trainer.document_losses(&bounded, window)?;
        let symbols: Vec<usize> = documents.iter().map(|d| d.len() + 1).collect();
        let mean = |losses: &[f64]| {
            let documents = losses.iter().copied().zip(symbols.iter().copied());
            ratio_of_sums(documents)
        };
        let (loss, loss_error) = mean(&losses);
        let exact = match &self.language {
            None => None,
            Some((language, _)) => {
                let exact = exact_losses(language, &bounded)?;
                let gaps: Vec<f64> = losses.iter().zip(&exact).map(|(l, e)| l - e).collect();
                let (gap, gap_error) = mean(&gaps);
                Some(ExactLoss {
                    entropy_rate: language.entropy_rate(),
                    loss: mean(&exact).0,
                    gap,
                    gap_error,
                })
            }
        };
        Ok(HeldOut {
            documents: documents.len(),
            symbols: symbols.iter().sum(),
            loss,
            loss_error,
            exact,
        })
    }

    pub fn write(&self, trainer: &mut Trainer, folder: &Path) -> Result<(), RunError> {
        if matches!(trainer.architecture(), Architecture::Features(_)) {
            return self.write_observation(trainer, folder);
        }
        trainer.write_model(folder, Some(self.end()))?;
        let own = serde_json::json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "add_bos_token": false,
        });
        for (name, text) in [
            ("tokenizer.json", self.tokenizer.to_json()?),
            ("tokenizer_config.json", format!("{own:#}\n")),
        ] {
            let path = folder.join(name);
            write_file(&path, |file| file.write_all(text.as_bytes()))
                .map_err(|source| RunError::Io { path, source })?;
        }
        Ok(())
    }

    /// Unconstrained features know their contexts only: what is left of them is an Observation.
    fn write_observation(&self, trainer: &mut Trainer, folder: &Path) -> Result<(), RunError> {
        let (Some((draft, space)), Some(states)) = (&self.contexts, trainer.context_states())
        else {
            return Err(RunError::Usage("features need contexts".into()));
        };
        let head = Head {
            weight: trainer.head().clone(),
            bias: None,
            soft_cap: None,
            norm: None,
        };
        let states = States::new(vec![(0, states)])?;
        let observation = Observation::of_draft(draft, space, states, head)?;
        Ok(observation.save(&folder.join(OBSERVATION))?)
    }
}

/// The sum of k_true's losses over each document between its boundaries, given its whole prefix.
fn exact_losses(language: &Language, bounded: &[Vec<u32>]) -> Result<Vec<f64>, RunError> {
    let mut batch = ContextBatch::new();
    for tokens in bounded {
        let positions: Vec<u32> = (1..tokens.len() as u32).collect();
        batch.push(&tokens[..tokens.len() - 1], &positions)?;
    }
    let next: Vec<u32> = bounded.iter().flat_map(|d| &d[1..]).copied().collect();
    let losses = language.kernel(Reading::FullPrefix).losses(&batch, &next)?;
    let mut losses = losses.into_iter();
    let document = |d: &Vec<u32>| sum(losses.by_ref().take(d.len() - 1));
    Ok(bounded.iter().map(document).collect())
}

/// The seed of stories that are not among those of `seed`: users' seeds are small, this one is not.
pub(crate) fn fresh_seed(seed: u64) -> u64 {
    !seed
}

fn held_out_count(documents: usize) -> usize {
    (documents / HELD_OUT_SHARE).min(HELD_OUT_MOST)
}

fn soft_labels_of(draft: &Draft) -> SoftLabels {
    let (order, tokens) = draft.contexts();
    SoftLabels {
        order,
        tokens: tokens.to_vec(),
        weights: draft.weights().to_vec(),
        laws: draft.laws(),
    }
}
