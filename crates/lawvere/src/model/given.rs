use std::path::{Path, PathBuf};

use lawvere_lm::LanguageModel;
use serde_json::Value;

use crate::RunError;

/// A text, or the ids of its tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// To be tokenized by the model's tokenizer, on its own.
    Text(String),
    /// Token ids.
    Tokens(Vec<u32>),
}

/// Where something was given; errors name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// By this argument.
    Argument(String),
    /// As the whole of a file.
    File(PathBuf),
    /// In a line of a file, counted from 1.
    Line(PathBuf, usize),
}

impl Place {
    /// An error about what is here: of usage if an argument gave it, of the run if a file did.
    pub fn error(&self, what: impl std::fmt::Display) -> RunError {
        match self {
            Self::Argument(name) => RunError::Usage(format!("{name}: {what}")),
            Self::File(path) => RunError::Input {
                path: path.clone(),
                what: what.to_string(),
            },
            Self::Line(path, line) => RunError::Input {
                path: path.clone(),
                what: format!("line {line}: {what}"),
            },
        }
    }
}

/// What a model is to read, and where it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Passage {
    pub content: Content,
    pub place: Place,
}

impl Passage {
    /// A text that an argument gave.
    pub fn argument(name: &str, text: impl Into<String>) -> Self {
        Self {
            content: Content::Text(text.into()),
            place: Place::Argument(name.to_owned()),
        }
    }

    /// The text, if it was given as one.
    pub fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Text(text) => Some(text),
            Content::Tokens(_) => None,
        }
    }

    /// The whole of a file in UTF-8; a byte order mark at its start is skipped.
    ///
    /// # Errors
    /// A file that cannot be read or is not UTF-8.
    pub fn file(path: &Path) -> Result<Self, RunError> {
        Ok(Self {
            content: Content::Text(read_text(path)?),
            place: Place::File(path.to_owned()),
        })
    }

    /// The lines of a file in UTF-8, blank ones left out.
    ///
    /// # Errors
    /// As [`file`](Self::file); a file without text.
    pub fn lines(path: &Path) -> Result<Vec<Self>, RunError> {
        let text = read_text(path)?;
        let passages: Vec<Self> = filled_lines(&text)
            .map(|(line, text)| Self {
                content: Content::Text(text.to_owned()),
                place: Place::Line(path.to_owned(), line),
            })
            .collect();
        if passages.is_empty() {
            return Err(Place::File(path.to_owned()).error("it holds no line with text"));
        }
        Ok(passages)
    }
}

/// What is asked of a model: how likely is this continuation of this prefix?
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Question {
    pub prefix: Passage,
    pub continuation: Passage,
}

impl Question {
    /// The questions of a file, one JSON object a line: `{"prefix": "...", "continuation": "..."}`,
    /// where a list of token ids may stand for a text. Other fields are ignored.
    ///
    /// # Errors
    /// A file that cannot be read, is not UTF-8 or holds no question; the first line that is none.
    pub fn read(path: &Path) -> Result<Vec<Self>, RunError> {
        let text = read_text(path)?;
        let questions: Vec<Self> = filled_lines(&text)
            .map(|(line, text)| Self::parse(text, &Place::Line(path.to_owned(), line)))
            .collect::<Result<_, _>>()?;
        if questions.is_empty() {
            return Err(Place::File(path.to_owned()).error("it holds no question"));
        }
        Ok(questions)
    }

    fn parse(line: &str, place: &Place) -> Result<Self, RunError> {
        const FORM: &str = r#"{"prefix": "...", "continuation": "..."}"#;
        let value: Value = serde_json::from_str(line)
            .map_err(|e| place.error(format!("not JSON: {e}; a question is {FORM}")))?;
        let side = |name: &str| -> Result<Passage, RunError> {
            let given = value.get(name).ok_or_else(|| {
                place.error(format!(
                    "the field `{name}` is missing; a question is {FORM}"
                ))
            })?;
            let id = |id: &Value| id.as_u64().and_then(|id| u32::try_from(id).ok());
            let content = match given {
                Value::String(text) => Some(Content::Text(text.clone())),
                Value::Array(ids) => ids
                    .iter()
                    .map(id)
                    .collect::<Option<_>>()
                    .map(Content::Tokens),
                _ => None,
            };
            let content = content.ok_or_else(|| {
                place.error(format!("`{name}` must be a text or a list of token ids"))
            })?;
            Ok(Passage {
                content,
                place: place.clone(),
            })
        };
        Ok(Self {
            prefix: side("prefix")?,
            continuation: side("continuation")?,
        })
    }
}

/// The lines with text, numbered from 1.
fn filled_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(i, line)| (i + 1, line));
    lines.filter(|(_, line)| !line.trim().is_empty())
}

pub(crate) fn read_text(path: &Path) -> Result<String, RunError> {
    let bytes = std::fs::read(path).map_err(|source| RunError::Io {
        path: path.to_owned(),
        source,
    })?;
    let text = String::from_utf8(bytes).map_err(|e| {
        Place::File(path.to_owned()).error(format!(
            "not UTF-8: byte {} begins no character; convert it to UTF-8",
            e.utf8_error().valid_up_to()
        ))
    })?;
    if let Some(offset) = text.find('\0') {
        return Err(Place::File(path.to_owned()).error(format!(
            "not a text: byte {offset} is NUL; take the text out of it first"
        )));
    }
    // As a corpus is read: without a byte-order mark, lines ending in one character.
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let text = text.replace("\r\n", "\n");
    Ok(match text.strip_suffix('\r') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}

/// The tokens of passages, each tokenized on its own and held against the model's vocabulary.
pub(crate) fn tokens(
    model: &LanguageModel,
    passages: &[&Passage],
) -> Result<Vec<Vec<u32>>, RunError> {
    let texts: Vec<&str> = passages.iter().filter_map(|p| p.text()).collect();
    let mut encoded = match (texts.is_empty(), model.tokenizer()) {
        (true, _) => Vec::new(),
        (false, Some(tokenizer)) => match tokenizer.encode_batch(&texts) {
            Ok(encoded) => encoded,
            // One by one, to name the first that cannot be tokenized.
            Err(_) => passages
                .iter()
                .filter_map(|p| Some((p, p.text()?)))
                .map(|(p, text)| tokenizer.encode(text).map_err(|e| p.place.error(e)))
                .collect::<Result<_, _>>()?,
        },
        (false, None) => {
            return Err(RunError::NoTokenizer {
                path: model.path().to_owned(),
            });
        }
    }
    .into_iter();
    let vocab_size = model.architecture().vocab_size();
    let all = passages.iter().map(|passage| {
        let tokens = match &passage.content {
            Content::Text(_) => encoded.next().unwrap_or_default(),
            Content::Tokens(tokens) => tokens.clone(),
        };
        match tokens.iter().find(|&&t| t as usize >= vocab_size) {
            Some(token) => Err(passage.place.error(format!(
                "the token id {token} is outside the vocabulary of {vocab_size} tokens"
            ))),
            None => Ok(tokens),
        }
    });
    all.collect()
}

/// Refuses what the model cannot begin with: nothing, unless it has a beginning-of-text token.
pub(crate) fn check_beginning(
    model: &LanguageModel,
    tokens: &[u32],
    place: &Place,
    what: &str,
) -> Result<(), RunError> {
    if tokens.is_empty() && model.bos().is_none() {
        return Err(place.error(format!(
            "the {what} is empty, and this model puts no beginning-of-text token before a text; give at least one token"
        )));
    }
    Ok(())
}

/// Refuses more tokens than the model reads at once.
pub(crate) fn check_length(
    model: &LanguageModel,
    tokens: usize,
    place: &Place,
) -> Result<(), RunError> {
    let bos = usize::from(model.bos().is_some());
    let limit = model.context_length() - bos;
    if tokens > limit {
        return Err(place.error(format!(
            "{tokens} tokens, more than the {limit} that this model reads at once"
        )));
    }
    Ok(())
}
