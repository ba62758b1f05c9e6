use std::time::Instant;

use lawvere_lm::{Finish, Generated, Generation, LanguageModel, Sampling};
use lawvere_token::Tokenizer;
use serde::Serialize;

use super::given::{check_beginning, check_length, tokens};
use super::{Passage, tell_cost};
use crate::{Event, RunError};

/// What ends a text before its longest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// The model's own tokens for it ([`LanguageModel::eos`]).
    Own,
    /// Nothing.
    Never,
    /// These; each must be one token of the vocabulary.
    At(Vec<String>),
}

/// How prompts are gone on with.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateOptions {
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Texts for each prompt.
    pub samples: usize,
    /// The most tokens of a text.
    pub most: usize,
    /// What ends a text.
    pub stop: Stop,
    /// Where chance comes from.
    pub seed: u64,
}

/// A text that goes on a prompt.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Continuation {
    /// The prompt's place among the prompts.
    pub prompt: usize,
    /// Its number among those of its prompt.
    pub sample: usize,
    /// What follows the prompt, a token that ended it left out; none without a tokenizer.
    pub text: Option<String>,
    /// Its tokens.
    pub tokens: Vec<u32>,
    /// The model's log-probability of each, in nats, before temperature and cuts.
    pub log_probs: Vec<f32>,
    /// Why it ends.
    pub finish: Finish,
}

/// Texts prompt by prompt, and what they took.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Continuations {
    /// `samples` for each prompt.
    pub texts: Vec<Continuation>,
    /// Tokens generated.
    pub generated: usize,
    /// Seconds, loading and tokenizing left out.
    pub seconds: f64,
    /// Generated tokens a second.
    pub tokens_per_second: f64,
}

/// More texts than anyone reads, and few enough to be held in memory.
const MOST_TEXTS: usize = 1_000_000;

/// Goes on every prompt; texts come prompt by prompt.
///
/// # Errors
/// A choice that [`Sampling::check`] refuses, a stop that is not one token, a text for a model without
/// tokenizer, an empty prompt where the model has no beginning-of-text token, a prompt longer than the
/// model reads.
pub fn generate(
    model: &LanguageModel,
    prompts: &[Passage],
    options: &GenerateOptions,
    on_event: &mut dyn FnMut(Event),
) -> Result<Continuations, RunError> {
    options.sampling.check()?;
    let count = prompts.len().saturating_mul(options.samples);
    if count > MOST_TEXTS {
        return Err(RunError::Usage(format!(
            "--samples {}: {count} texts in all; at most {MOST_TEXTS} are generated in one run",
            options.samples
        )));
    }
    let passages: Vec<&Passage> = prompts.iter().collect();
    let read = tokens(model, &passages)?;
    for (tokens, prompt) in read.iter().zip(prompts) {
        check_beginning(model, tokens, &prompt.place, "prompt")?;
        check_length(model, tokens.len(), &prompt.place)?;
    }
    let generation = Generation {
        sampling: options.sampling,
        samples: options.samples,
        most: options.most,
        stop: stop_tokens(model, &options.stop)?,
        seed: options.seed,
    };
    // At most, and a token a step costs more than one among many.
    let longest = read.iter().map(Vec::len).max().unwrap_or(0);
    let most = count.saturating_mul(options.most.min(model.context_length()));
    let all = most.saturating_add(read.iter().map(Vec::len).sum());
    tell_cost(
        model,
        (
            all,
            longest
                .saturating_add(options.most)
                .min(model.context_length()),
        ),
        most,
        0,
        on_event,
    );
    on_event(Event::Part(format!(
        "generating: {count} texts of at most {} tokens",
        options.most
    )));
    let start = Instant::now();
    let slices: Vec<&[u32]> = read.iter().map(Vec::as_slice).collect();
    let generated = model.generate(&slices, &generation)?;
    let seconds = start.elapsed().as_secs_f64();
    let total: usize = generated.iter().map(|text| text.tokens.len()).sum();
    let texts = generated.into_iter().map(|text| {
        let Generated {
            prompt,
            sample,
            tokens,
            log_probs,
            finish,
        } = text;
        let shown = match finish {
            Finish::Stop => &tokens[..tokens.len() - 1],
            _ => &tokens,
        };
        let tokenizer = model.tokenizer();
        let text = tokenizer.map(|t| decode_after(t, &read[prompt], shown));
        Ok(Continuation {
            prompt,
            sample,
            text: text.transpose()?,
            tokens,
            log_probs,
            finish,
        })
    });
    Ok(Continuations {
        texts: texts.collect::<Result<_, RunError>>()?,
        generated: total,
        seconds,
        tokens_per_second: total as f64 / seconds,
    })
}

/// The text of `tokens` as it stands after `prompt`: decoders treat the beginning of a text, and the
/// pieces of a character cut in two, in their own way.
fn decode_after(tokenizer: &Tokenizer, prompt: &[u32], tokens: &[u32]) -> Result<String, RunError> {
    let whole = tokenizer.decode(&[prompt, tokens].concat())?;
    Ok(match whole.strip_prefix(&tokenizer.decode(prompt)?) {
        Some(text) => text.to_owned(),
        None => tokenizer.decode(tokens)?,
    })
}

fn stop_tokens(model: &LanguageModel, stop: &Stop) -> Result<Vec<u32>, RunError> {
    let texts = match stop {
        Stop::Own => return Ok(model.eos().to_vec()),
        Stop::Never => return Ok(Vec::new()),
        Stop::At(texts) => texts,
    };
    let Some(tokenizer) = model.tokenizer() else {
        return Err(RunError::NoTokenizer {
            path: model.path().to_owned(),
        });
    };
    let token = |text: &String| {
        // A name such as <|im_end|> is one token of the vocabulary, and several as text.
        if let Some(id) = tokenizer.id(text) {
            return Ok(id);
        }
        match tokenizer.encode(text).as_deref() {
            Ok([id]) => Ok(*id),
            Ok(ids) => Err(RunError::Usage(format!(
                "--stop {text:?}: a stop must be exactly one token of the vocabulary, and this text has {}",
                ids.len()
            ))),
            Err(error) => Err(RunError::Usage(format!("--stop {text:?}: {error}"))),
        }
    };
    texts.iter().map(token).collect()
}
