use rand::{Rng, RngExt};
use serde::Serialize;

use crate::{TextError, TextSpace, Unseen};

/// How text is sampled from a corpus's own laws.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SampleOptions {
    /// The most tokens.
    pub length: usize,
    /// The most tokens of context that a law is asked for; all there are, if `None`.
    pub order: Option<usize>,
    /// What happens where a context does not occur.
    pub unseen: Unseen,
}

/// Tokens drawn one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sample {
    /// The tokens.
    pub tokens: Vec<u32>,
    /// How many tokens of context each was drawn after (and the document's end, if it ended).
    pub used_lengths: Vec<usize>,
    /// Whether the document ended, rather than that it became as long as asked.
    pub ended: bool,
}

impl TextSpace {
    /// Goes on with `context` by the corpus's laws: every token is one that follows, somewhere in the corpus, the
    /// context of at most `order` tokens, all places alike. O(log N) a token.
    ///
    /// Without an order, text soon is a quotation.
    ///
    /// # Errors
    /// With [`Unseen::Strict`], a context that does not occur.
    pub fn sample<R: Rng>(
        &self,
        context: &[u32],
        options: &SampleOptions,
        rng: &mut R,
    ) -> Result<Sample, TextError> {
        let mut text = context.to_vec();
        let mut out = Sample {
            tokens: Vec::new(),
            used_lengths: Vec::new(),
            ended: false,
        };
        while out.tokens.len() < options.length && !out.ended {
            let most = options.order.unwrap_or(text.len()).min(text.len());
            let last = &text[text.len() - most..];
            let mut used = last;
            let mut places = self.intervals(used);
            if places.iter().all(|p| p.is_empty()) {
                if options.unseen == Unseen::Strict {
                    return Err(TextError::Unseen {
                        context: self.shown(last),
                    });
                }
                used = &last[last.len() - self.longest_suffix(last)..];
                places = self.intervals(used);
            }
            let all: usize = places.iter().map(ExactSizeIterator::len).sum();
            let mut chosen = rng.random_range(0..all.max(1));
            let mut next = None;
            for (shard, ranks) in self.shards.iter().zip(&places) {
                if chosen < ranks.len() {
                    let view = shard.view();
                    next = view.token_of(view.symbol_at(ranks.start + chosen, used.len()));
                    break;
                }
                chosen -= ranks.len();
            }
            out.used_lengths.push(used.len());
            match next {
                Some(token) => {
                    text.push(token);
                    out.tokens.push(token);
                }
                None => out.ended = true,
            }
        }
        Ok(out)
    }

    /// A context as text and as ids, from its last tokens if it is long.
    pub(crate) fn shown(&self, context: &[u32]) -> String {
        const TOKENS: usize = 24;
        let shown = &context[context.len().saturating_sub(TOKENS)..];
        let more = if shown.len() < context.len() {
            "..."
        } else {
            ""
        };
        let text = self.tokenizer().decode(shown).unwrap_or_default();
        format!("{more}{text:?} (tokens {more}{shown:?})")
    }
}
