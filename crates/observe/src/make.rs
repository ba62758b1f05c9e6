//! Making an Observation from an index and a model, in parts that a rerun finds again.

use std::fs;
use std::ops::Range;
use std::path::Path;

use lawvere_core::{Factored, Layer, NextToken, SparseRows};
use lawvere_lm::LanguageModel;
use lawvere_text::{ContextOptions, DocumentEnd, TextSpace};
use lawvere_token::disk::{partial_folder, publish_folder, resolve, write_file};
use lawvere_token::sha256_hex;
use rand::SeedableRng;
use rand::seq::SliceRandom;

use crate::ObserveError;
use crate::observation::{
    BlockSplit, Head, Info, Kind, Observation, Provenance, Rows, States, batch, frequencies,
};
use crate::positions::Positions;
use crate::write::{
    PLAN_FILE, check_destination, is_part, names, states_file, write_contexts, write_head,
    write_info, write_states, write_tokenizer,
};

/// Which layers' states are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layers {
    /// Seven, evenly spread, the first and the last among them.
    Spread,
    /// Every layer.
    All,
    /// Only the head's input.
    Last,
    /// These, and the last.
    These(Vec<usize>),
}

impl std::str::FromStr for Layers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "spread" => Ok(Self::Spread),
            "all" => Ok(Self::All),
            "last" => Ok(Self::Last),
            list => list
                .split(',')
                .map(|l| l.trim().parse().map_err(|_| ()))
                .collect::<Result<_, _>>()
                .map(Self::These)
                .map_err(|()| {
                    format!("`{list}` is neither spread, all, last nor a list like 0,15,30")
                }),
        }
    }
}

impl Layers {
    /// The layers of a model whose last one is `last`, in order.
    ///
    /// # Errors
    /// A layer that the model does not have.
    pub fn resolve(&self, last: usize) -> Result<Vec<usize>, ObserveError> {
        let mut layers = match self {
            Self::Spread => (0..=6).map(|i| (i * last + 3) / 6).collect(),
            Self::All => (0..=last).collect(),
            Self::Last => vec![last],
            Self::These(these) => [these.as_slice(), &[last]].concat(),
        };
        layers.sort_unstable();
        layers.dedup();
        match layers.iter().find(|&&l| l > last) {
            Some(l) => Err(ObserveError::Option(format!(
                "layer {l} does not exist: the model has layers 0 (embeddings) to {last} (the head's input)"
            ))),
            None => Ok(layers),
        }
    }
}

/// Which contexts are observed: the most frequent ones of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextPlan {
    /// The number of tokens of a context.
    pub order: usize,
    /// The fewest occurrences.
    pub min_count: u64,
    /// How many contexts at most.
    pub top: Option<usize>,
    /// Whether the end of a document is an outcome; `None`: it is, unless there is a model that was
    /// trained without it ([`LanguageModel::document_end`]).
    pub document_end: Option<DocumentEnd>,
}

/// Which positions of running text are observed: whole documents, drawn at random.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PositionPlan {
    /// Documents are drawn until they hold this many positions.
    pub positions: usize,
    /// The longest prefix read, in tokens. A longer document is read in windows that overlap by
    /// half, and each position is read in the first window that reaches it. `None`: 512, or as far
    /// as the model reads.
    pub window: Option<usize>,
    /// What the draw starts from.
    pub seed: u64,
}

/// Rows chosen but not read by the model yet.
#[derive(Debug, Clone)]
pub struct Draft {
    info: Info,
    rows: Rows,
    counts: SparseRows<u64>,
    weights: Vec<f64>,
    blocks: Option<BlockSplit>,
    layers: Vec<usize>,
}

impl Draft {
    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.counts.nrows()
    }

    /// How the rows were chosen, in words.
    pub fn choice(&self) -> Option<&str> {
        let provenance = self.info.provenance.as_ref();
        provenance.map(|p| p.choice.as_str())
    }

    /// How often each token followed each row.
    pub fn counts(&self) -> &SparseRows<u64> {
        &self.counts
    }

    /// The number of tokens of each context and the contexts, row after row; of positions there are
    /// none.
    pub fn contexts(&self) -> (usize, &[u32]) {
        match &self.rows {
            Rows::Contexts { order, tokens } => (*order, tokens),
            Rows::Positions(_) => (0, &[]),
        }
    }

    /// The weight of each row; they sum to 1.
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// The empirical next-token laws, the same pattern as the counts.
    pub fn laws(&self) -> SparseRows<f64> {
        frequencies(&self.counts)
    }

    /// The layers whose states will be kept.
    pub fn layers(&self) -> &[usize] {
        &self.layers
    }
}

/// What reading a draft will take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// Tokens to take through the model.
    pub tokens: usize,
    /// Floating-point operations of the forward passes.
    pub operations: f64,
    /// Bytes of states kept, on disk and in memory.
    pub state_bytes: usize,
    /// Bytes of the model's weights.
    pub weight_bytes: usize,
}

/// How far the reading is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Rows read, or found from an earlier run.
    pub done: usize,
    /// Rows in all.
    pub total: usize,
}

/// Makes Observations of one corpus and, if given, one model.
#[derive(Debug)]
pub struct Observer<'a> {
    space: &'a TextSpace,
    model: Option<&'a LanguageModel>,
    layers: Vec<usize>,
}

/// Tokens of a window of running text, where nothing else is asked for.
const DEFAULT_WINDOW: usize = 512;
/// The fewest rows in a file of states: what an interrupted run loses at most.
const SHARD_ROWS: usize = 1024;

impl<'a> Observer<'a> {
    /// An observer.
    ///
    /// # Errors
    /// An index made with another tokenizer than the model's; layers the model does not have.
    pub fn new(
        space: &'a TextSpace,
        model: Option<&'a LanguageModel>,
        layers: &Layers,
    ) -> Result<Self, ObserveError> {
        let Some(model) = model else {
            return Ok(Self {
                space,
                model: None,
                layers: Vec::new(),
            });
        };
        let index = space.tokenizer().identity();
        if let Some(own) = model
            .tokenizer()
            .map(|t| t.identity())
            .filter(|own| *own != index)
        {
            return Err(ObserveError::TokenizerMismatch {
                index: index.chars().take(12).collect(),
                model: own.chars().take(12).collect(),
            });
        }
        if space.vocab_size() > model.vocab_size() {
            return Err(ObserveError::TokenizerMismatch {
                index: format!("{} tokens", space.vocab_size()),
                model: format!("{} tokens", model.vocab_size()),
            });
        }
        let layers = layers.resolve(model.last_layer().0)?;
        Ok(Self {
            space,
            model: Some(model),
            layers,
        })
    }

    /// Chooses contexts.
    ///
    /// # Errors
    /// No context qualifies; an order of 0 or document ends as outcomes with a model that has no
    /// law for them; an order beyond the model's window.
    pub fn contexts(&self, plan: &ContextPlan) -> Result<Draft, ObserveError> {
        if let Some(model) = self.model {
            let bos = model.bos();
            let room = model.context_length() - usize::from(bos.is_some());
            if plan.order > room {
                return Err(ObserveError::Option(format!(
                    "order {} is beyond the model's window of {room} tokens",
                    plan.order
                )));
            }
            if plan.order == 0 && bos.is_none() {
                return Err(ObserveError::Option(
                    "order 0 needs a model with a beginning-of-text token; this one reads at least one token".into(),
                ));
            }
            if plan.document_end == Some(DocumentEnd::Outcome) && !self.ends() {
                return Err(ObserveError::Option(
                    "the model has no outcome for the end of a document: drop document ends, or observe the corpus alone".into(),
                ));
            }
        }
        let document_end = plan.document_end.unwrap_or(match self.ends() {
            true => DocumentEnd::Outcome,
            false => DocumentEnd::Dropped,
        });
        let options = ContextOptions {
            document_end,
            top: plan.top,
            ..ContextOptions::default()
        };
        let table = self.space.contexts(plan.order, plan.min_count, &options)?;
        let choice = format!(
            "the {} most frequent contexts of order {} among {} with at least {} occurrences",
            table.len(),
            plan.order,
            table.total_contexts,
            plan.min_count.max(1)
        );
        let mut info = self.info(Kind::Contexts, document_end, choice);
        if let Some(provenance) = &mut info.provenance {
            provenance.dropped_ends = table.dropped_ends;
            provenance.qualified = table.total_contexts;
        }
        let weights = table.weights();
        let blocks = table.blocks.map(|b| BlockSplit {
            indptr: b.indptr,
            blocks: b.blocks.into_iter().map(u32::from).collect(),
            counts: b.counts,
        });
        let counts = self.widen(table.counts)?;
        Ok(Draft {
            info,
            rows: Rows::Contexts {
                order: table.order,
                tokens: table.tokens,
            },
            counts,
            weights,
            blocks,
            layers: self.layers.clone(),
        })
    }

    /// Whether the end of a document is an outcome here: that of a corpus is, and a model's is if
    /// its token for it comes right after the tokenizer's, as in all that are trained here.
    fn ends(&self) -> bool {
        self.model.is_none_or(|m| {
            let token = m.document_end().map(|t| t as usize);
            token == Some(self.space.vocab_size())
        })
    }

    /// The model's token for the end of a document, if it has one.
    fn end_token(&self) -> Option<u32> {
        self.model.filter(|_| self.ends())?.document_end()
    }

    /// Chooses positions. With a model that has a token for the end of a document, that token stands
    /// before each document, as between documents in training, and the end is predicted as well;
    /// otherwise ends are not predicted.
    ///
    /// # Errors
    /// A window of fewer than 2 tokens or beyond the model's; no document with a position.
    pub fn positions(&self, plan: &PositionPlan) -> Result<Draft, ObserveError> {
        let bos = self.model.is_some_and(|m| m.bos().is_some());
        let limit = self
            .model
            .map_or(usize::MAX, |m| m.context_length() - usize::from(bos));
        let window = plan.window.unwrap_or(DEFAULT_WINDOW.min(limit));
        if window < 2 || window > limit {
            let right = match self.model {
                Some(_) => format!("2 to {limit}, as the model reads"),
                None => "at least 2".into(),
            };
            return Err(ObserveError::Option(format!(
                "a window of {window} tokens cannot be read: it should have {right}"
            )));
        }
        let mut order: Vec<usize> = (0..self.space.documents()).collect();
        order.shuffle(&mut rand::rngs::StdRng::seed_from_u64(plan.seed));
        let mut chosen = Vec::new();
        let end = self.end_token();
        let (mut total, shortest) = (0, usize::from(!bos || end.is_some()));
        for document in order {
            if total >= plan.positions {
                break;
            }
            let mut tokens = self.space.document_tokens(document).unwrap_or_default();
            if let Some(end) = end {
                tokens.insert(0, end);
                tokens.push(end);
            }
            if tokens.len() > shortest {
                total += tokens.len() - shortest;
                chosen.push((document, tokens));
            }
        }
        if chosen.is_empty() {
            return Err(ObserveError::Option(
                "no document holds a position: each has fewer than two tokens".into(),
            ));
        }
        let drawn = chosen.len();
        chosen.sort_unstable_by_key(|(document, _)| *document);
        let mut positions = Positions {
            window_offsets: vec![0],
            ..Positions::default()
        };
        for (document, tokens) in chosen {
            push_document(&mut positions, document as u32, &tokens, window, shortest);
        }
        let columns = self.outcomes();
        let mut counts = SparseRows::new(columns);
        for &next in &positions.next {
            counts
                .push_row([(next, 1)])
                .map_err(|e| ObserveError::Option(format!("the index is inconsistent: {e}")))?;
        }
        let rows = positions.next.len();
        let choice = format!(
            "{rows} positions of {drawn} documents drawn with seed {} (prefixes up to {} tokens{})",
            plan.seed,
            window,
            if end.is_some() {
                ", the document's boundary counted as the first"
            } else {
                ""
            }
        );
        let (document_end, dropped) = match end {
            Some(_) => (DocumentEnd::Outcome, 0),
            None => (DocumentEnd::Dropped, drawn as u64),
        };
        let mut info = self.info(Kind::Positions, document_end, choice);
        if let Some(provenance) = &mut info.provenance {
            provenance.dropped_ends = dropped;
            provenance.qualified = rows;
        }
        // Positions in one document depend on each other: a document is a block.
        let mut blocks = positions.document.clone();
        blocks.dedup();
        let block_of = |d: &u32| blocks.binary_search(d).unwrap_or(0) as u32;
        let split = BlockSplit {
            indptr: (0..=rows as u64).collect(),
            blocks: positions.document.iter().map(block_of).collect(),
            counts: vec![1; rows],
        };
        Ok(Draft {
            info,
            rows: Rows::Positions(positions),
            counts,
            weights: vec![1.0 / rows as f64; rows],
            blocks: Some(split),
            layers: self.layers.clone(),
        })
    }

    /// Outcomes of the counts: the model's vocabulary (the tokenizer's without a model) and the
    /// end of a document.
    fn outcomes(&self) -> usize {
        self.model
            .map_or(self.space.vocab_size(), |m| m.vocab_size())
            + 1
    }

    /// Counts over the model's vocabulary, which may be padded beyond the tokenizer's.
    fn widen(&self, counts: SparseRows<u64>) -> Result<SparseRows<u64>, ObserveError> {
        if counts.ncols() == self.outcomes() {
            return Ok(counts);
        }
        let parts = (
            counts.indptr().to_vec(),
            counts.indices().to_vec(),
            counts.values().to_vec(),
        );
        SparseRows::from_parts(self.outcomes(), parts.0, parts.1, parts.2)
            .map_err(|e| ObserveError::Option(format!("the index is inconsistent: {e}")))
    }

    fn info(&self, kind: Kind, document_end: DocumentEnd, choice: String) -> Info {
        let space = self.space.info();
        let norm = self.model.and_then(LanguageModel::readout_norm);
        Info {
            schema: Info::SCHEMA.into(),
            kind,
            vocab_size: self.outcomes() - 1,
            document_end,
            document_end_token: self.end_token(),
            norm_eps: norm.map(|n| n.eps),
            norm_centred: norm.is_some_and(|n| n.centred),
            soft_cap: self.model.and_then(|m| m.head().soft_cap),
            files: Default::default(),
            provenance: Some(Provenance {
                tool_version: env!("CARGO_PKG_VERSION").into(),
                corpus: space
                    .corpus_paths
                    .iter()
                    .map(|p| p.display().to_string())
                    .collect(),
                corpus_sha256: space.corpus_identity.clone(),
                tokenizer_sha256: space.tokenizer_identity.clone(),
                model: self.model.map(LanguageModel::label),
                model_sha256: self.model.map(|m| m.identity().to_owned()),
                choice,
                dropped_ends: 0,
                qualified: 0,
                plan_sha256: String::new(),
            }),
        }
    }

    /// What reading `draft` will take; `None` without a model.
    ///
    /// # Errors
    /// Positions that do not fit their windows.
    pub fn cost(&self, draft: &Draft) -> Result<Option<Cost>, ObserveError> {
        let Some(model) = self.model else {
            return Ok(None);
        };
        let tokens = batch(&draft.rows, 0..draft.rows())?.tokens();
        let states = draft.rows() * model.hidden_size() * draft.layers.len();
        Ok(Some(Cost {
            tokens,
            operations: 2.0 * tokens as f64 * model.multiply_adds_per_token() as f64,
            state_bytes: 4 * states,
            weight_bytes: 4 * model.architecture().parameters(),
        }))
    }

    /// Reads the draft's rows with the model and leaves the Observation at `destination`.
    ///
    /// States are written part by part into `destination.partial`, which becomes `destination`
    /// when all is there. If that folder holds parts of the same draft and model, from a run that
    /// was interrupted, they are kept; otherwise it is begun anew. If `destination` already is what
    /// would be made, and undamaged, it is read and returned.
    ///
    /// # Errors
    /// A destination that holds something else; what the model or writing meets.
    pub fn make(
        &self,
        draft: &Draft,
        destination: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Observation, ObserveError> {
        check_destination(destination)?;
        let destination = &resolve(destination);
        if let Some(finished) = self.finished(draft, destination) {
            return Ok(finished);
        }
        let fingerprint = self.fingerprint(draft);
        let partial = partial_folder(destination);
        begin(&partial, &fingerprint)?;
        let blocks = draft.blocks.as_ref();
        write_contexts(&partial, &draft.rows, &draft.counts, &draft.weights, blocks)?;
        write_tokenizer(&partial, &self.space.tokenizer().to_json()?)?;
        if let Some(model) = self.model {
            let layers: Vec<Layer> = draft.layers.iter().map(|&l| Layer(l)).collect();
            let total = draft.rows();
            for (shard, range) in shards(&draft.rows, total).into_iter().enumerate() {
                if !partial.join(states_file(shard)).exists() {
                    let states = model.encode(&batch(&draft.rows, range.clone())?, &layers)?;
                    let named: Vec<_> = draft.layers.iter().copied().zip(&states).collect();
                    write_states(&partial, shard, &named)?;
                }
                progress(Progress {
                    done: range.end,
                    total,
                });
            }
            write_head(&partial, model.head(), model.readout_norm())?;
        }
        let mut info = draft.info.clone();
        if let Some(provenance) = &mut info.provenance {
            provenance.plan_sha256 = fingerprint;
        }
        write_info(&partial, &info)?;
        let failed = |e| ObserveError::io(destination, e);
        publish_folder(&partial, destination).map_err(failed)?;
        // Not before: without it, a run killed in between would leave a folder nobody knows.
        fs::remove_file(destination.join(PLAN_FILE)).map_err(failed)?;
        Observation::open(destination)
    }

    /// What is at `destination`, if it is what [`make`](Self::make) would make of `draft` and is
    /// undamaged.
    pub fn finished(&self, draft: &Draft, destination: &Path) -> Option<Observation> {
        let observation = Observation::open(destination).ok()?;
        let plan = &observation.info.provenance.as_ref()?.plan_sha256;
        (*plan == self.fingerprint(draft)).then_some(observation)
    }

    /// What makes two runs the same: rows, counts, layers, model, and how they are cut into parts.
    fn fingerprint(&self, draft: &Draft) -> String {
        let mut bytes = format!(
            "{} {} {:?} {:?} {SHARD_ROWS} {:?}",
            env!("CARGO_PKG_VERSION"),
            Info::SCHEMA,
            draft.layers,
            // The identity is that of the weights; the configuration changes states too.
            self.model
                .map(|m| (m.identity(), m.architecture(), m.document_end())),
            draft.info.provenance,
        )
        .into_bytes();
        let tokens = match &draft.rows {
            Rows::Contexts { tokens, .. } => tokens,
            Rows::Positions(p) => {
                bytes.extend_from_slice(bytemuck::cast_slice(&p.window_offsets));
                bytes.extend_from_slice(bytemuck::cast_slice(&p.prefix_length));
                &p.tokens
            }
        };
        bytes.extend_from_slice(bytemuck::cast_slice(tokens));
        bytes.extend_from_slice(bytemuck::cast_slice(draft.counts.indices()));
        bytes.extend_from_slice(bytemuck::cast_slice(draft.counts.values()));
        // The corpus's hash does not know how it is cut into documents; these do.
        if let Some(split) = &draft.blocks {
            bytes.extend_from_slice(bytemuck::cast_slice(&split.blocks));
            bytes.extend_from_slice(bytemuck::cast_slice(&split.counts));
        }
        sha256_hex(&bytes)
    }
}

impl Observation {
    /// An Observation of a draft's rows and counts alone, in memory. O(entries).
    pub fn of_corpus(draft: &Draft, space: &TextSpace) -> Self {
        Self {
            info: draft.info.clone(),
            contexts: draft.rows.clone(),
            counts: draft.counts.clone(),
            weights: draft.weights.clone(),
            blocks: draft.blocks.clone(),
            states: None,
            head: None,
            tokenizer: Some(space.tokenizer().clone()),
            exact: None,
        }
    }

    /// An Observation of a draft without a model, with states and a head from elsewhere: of
    /// unconstrained features, say, that were trained on the draft's contexts. Documents' ends are
    /// the outcome after the index's tokens; a head with one more row than those has a law for them.
    ///
    /// # Errors
    /// States of another number of rows than the draft's, a head of another number of outcomes.
    pub fn of_draft(
        draft: &Draft,
        space: &TextSpace,
        states: States,
        head: Head,
    ) -> Result<Self, ObserveError> {
        let vocab_size = head.weight.nrows();
        let end = space.vocab_size() as u32;
        let rows = states.last().1.nrows();
        if rows != draft.rows() || !(end as usize..=end as usize + 1).contains(&vocab_size) {
            return Err(ObserveError::Option(format!(
                "states of {rows} rows and a head over {vocab_size} outcomes do not belong to {} contexts over {end} tokens",
                draft.rows()
            )));
        }
        let counts = &draft.counts;
        let wide = SparseRows::from_parts(
            vocab_size + 1,
            counts.indptr().to_vec(),
            counts.indices().to_vec(),
            counts.values().to_vec(),
        );
        let counts =
            wide.map_err(|e| ObserveError::Option(format!("the draft is inconsistent: {e}")))?;
        Ok(Self {
            info: Info {
                vocab_size,
                document_end_token: (vocab_size > end as usize).then_some(end),
                ..draft.info.clone()
            },
            counts,
            states: Some(states),
            head: Some(head),
            ..Self::of_corpus(draft, space)
        })
    }
}

/// Cuts a document into overlapping windows; `shortest` is the shortest prefix that has a law.
fn push_document(
    positions: &mut Positions,
    document: u32,
    tokens: &[u32],
    window: usize,
    shortest: usize,
) {
    // The last token is only predicted, so prefixes have up to `tokens.len() - 1` tokens.
    let longest = tokens.len() - 1;
    let (mut next, mut start) = (shortest, 0);
    while next <= longest {
        let end = longest.min(start + window);
        positions.tokens.extend_from_slice(&tokens[start..end]);
        positions.window_offsets.push(positions.tokens.len() as u64);
        let number = positions.window_offsets.len() as u32 - 2;
        for (length, &token) in (next..).zip(&tokens[next..=end]) {
            positions.window.push(number);
            positions.prefix_length.push((length - start) as u32);
            positions.document.push(document);
            positions.next.push(token);
        }
        next = end + 1;
        start = next.saturating_sub(window / 2);
    }
}

/// Ranges of rows that are written together; a window is never cut.
fn shards(rows: &Rows, total: usize) -> Vec<Range<usize>> {
    let mut out = Vec::new();
    let mut start = 0;
    while start < total {
        let mut end = (start + SHARD_ROWS).min(total);
        if let Rows::Positions(p) = rows {
            while end < total && p.window[end] == p.window[end - 1] {
                end += 1;
            }
        }
        out.push(start..end);
        start = end;
    }
    out
}

/// Makes the partial folder, or keeps what it holds if that belongs to the same plan.
fn begin(partial: &Path, fingerprint: &str) -> Result<(), ObserveError> {
    let failed = |e| ObserveError::io(partial, e);
    fs::create_dir_all(partial).map_err(failed)?;
    // A write that was cut off leaves a hidden temporary file behind.
    let (cut_off, found): (Vec<String>, Vec<String>) = names(partial)?
        .into_iter()
        .partition(|n| n.starts_with(".lawvere-"));
    let plan = partial.join(PLAN_FILE);
    let foreign = match found.iter().find(|n| !is_part(n)) {
        // Without a plan nothing in it is known to be ours.
        None if !plan.exists() => found.first(),
        foreign => foreign,
    };
    if let Some(name) = foreign {
        return Err(ObserveError::Destination {
            path: partial.to_owned(),
            what: format!(
                "it is needed for the parts of an unfinished observation, but holds something else ({name})"
            ),
        });
    }
    let same = fs::read_to_string(&plan).is_ok_and(|found| found == fingerprint);
    let stale = found.iter().filter(|n| !same && *n != PLAN_FILE);
    for name in cut_off.iter().chain(stale) {
        fs::remove_file(partial.join(name)).map_err(failed)?;
    }
    if same {
        return Ok(());
    }
    // Over the old plan, in one step: the folder is never without one.
    write_file(&plan, |out| {
        std::io::Write::write_all(out, fingerprint.as_bytes())
    })
    .map_err(failed)
}
