use std::path::PathBuf;
use std::str::FromStr;

use lawvere_observe::Observation;

use crate::RunError;

/// A set of rows of an observation, as a user names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContextSet {
    /// Rows FIRST to LAST, counted from 0.
    Rows(usize, usize),
    /// Contexts whose text holds this.
    Text(String),
    /// Contexts whose last token is this, spaces around it left out.
    Last(String),
    /// Row numbers in a file, one a line.
    File(PathBuf),
}

impl FromStr for ContextSet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORMS: &str =
            "rows:FIRST-LAST, text:WORDS, last:TOKEN or file:PATH (row numbers, one a line)";
        let Some((kind, value)) = text.split_once(':') else {
            return Err(format!("it must be {FORMS}"));
        };
        match kind {
            "rows" => {
                let (first, last) = value.split_once('-').unwrap_or((value, value));
                match (first.parse(), last.parse()) {
                    (Ok(first), Ok(last)) if first <= last => Ok(Self::Rows(first, last)),
                    _ => Err(
                        "rows are FIRST-LAST, two numbers of which the second is not smaller"
                            .into(),
                    ),
                }
            }
            "text" if !value.is_empty() => Ok(Self::Text(value.into())),
            "last" if !value.trim().is_empty() => Ok(Self::Last(value.trim().into())),
            "file" if !value.is_empty() => Ok(Self::File(value.into())),
            "text" | "last" | "file" => Err(format!("{kind}: is followed by nothing")),
            _ => Err(format!("`{kind}` is not known; it must be {FORMS}")),
        }
    }
}

impl ContextSet {
    /// The rows of an observation that are in the set, in order.
    ///
    /// # Errors
    /// A file that cannot be read or holds anything but row numbers.
    pub fn rows(&self, observation: &Observation) -> Result<Vec<usize>, RunError> {
        let all = 0..observation.rows();
        Ok(match self {
            Self::Rows(first, last) => {
                if *last >= observation.rows() {
                    return Err(RunError::Usage(format!(
                        "rows:{first}-{last}: row {last} does not exist; the observation has rows 0 to {}",
                        observation.rows().saturating_sub(1)
                    )));
                }
                (*first..=*last).collect()
            }
            Self::Text(words) => all
                .filter(|&row| observation.row_label(row).contains(words.as_str()))
                .collect(),
            Self::Last(token) => {
                let last = observation.last_tokens();
                let is = |row: &usize| {
                    last[*row].is_some_and(|t| observation.token_label(t).trim() == token)
                };
                all.filter(is).collect()
            }
            Self::File(path) => {
                if !path.is_file() {
                    return Err(RunError::Input {
                        path: path.clone(),
                        what: "it is not a file of row numbers, one a line".into(),
                    });
                }
                let text = std::fs::read_to_string(path).map_err(|source| RunError::Io {
                    path: path.clone(),
                    source,
                })?;
                let lines = text
                    .lines()
                    .enumerate()
                    .filter(|(_, l)| !l.trim().is_empty());
                lines
                    .map(|(number, line)| {
                        line.trim().parse().map_err(|_| RunError::Input {
                            path: path.clone(),
                            what: format!("line {}: `{line}` is not a row number", number + 1),
                        })
                    })
                    .collect::<Result<_, _>>()?
            }
        })
    }
}
