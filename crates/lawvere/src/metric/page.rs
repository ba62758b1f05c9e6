//! Small spaces of a corpus, for the report.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use lawvere_lm::LanguageModel;
use lawvere_metric::{Decomposition, PrefixForest, Space, subtext_covers};
use lawvere_report::{
    BeginningPair, Beginnings, SpacesPage, TextTree, TextsWithin, TreePart, TreeText,
};
use lawvere_text::{ContextOptions, DocumentEnd, TextSpace};

use super::between::compare_read;
use super::sources::{counted_steps, held};
use super::{ContinuationPlan, Order};
use crate::RunError;
use crate::forest::PrefixTexts;

/// Texts of a tree.
const TREE: usize = 36;
/// Tokens of the text whose subtexts are shown.
const WITHIN: usize = 7;
/// The most frequent texts of that length among which one without a repeated token is looked for.
const CANDIDATES: usize = 200;
/// Beginnings of documents, and the most tokens of one.
const BEGINNINGS: usize = 6;
const BEGINNING: usize = 12;
/// Continuations of beginnings.
const PLAN: ContinuationPlan = ContinuationPlan {
    samples: 32,
    tokens: 12,
    seed: 0,
};

/// The small spaces that a report draws; `corpus` and `read` are the forest of `texts` as the corpus and the model have it.
pub(crate) fn spaces_page(
    space: &TextSpace,
    model: &LanguageModel,
    texts: &PrefixTexts,
    [corpus, read]: [&PrefixForest; 2],
    seed: u64,
) -> Result<SpacesPage, RunError> {
    Ok(SpacesPage {
        tree: tree(space, texts, corpus, read)?,
        within: within(space)?,
        beginnings: beginnings(space, model, seed)?,
    })
}

/// The first token with the most texts after it, and the most frequent of those.
fn chosen(texts: &PrefixTexts) -> Vec<usize> {
    let mut root_of = Vec::with_capacity(texts.texts.len());
    let mut sizes: BTreeMap<usize, usize> = BTreeMap::new();
    for (i, parent) in texts.parents.iter().enumerate() {
        let root = parent.map_or(i, |p| root_of[p]);
        root_of.push(root);
        *sizes.entry(root).or_default() += 1;
    }
    let Some((&root, _)) = sizes.iter().max_by_key(|&(&root, &n)| (n, Reverse(root))) else {
        return Vec::new();
    };
    // The forest has frequent texts first and prefixes before their extensions.
    let under = (0..root_of.len()).filter(|&i| root_of[i] == root);
    under.take(TREE).collect()
}

fn tree(
    space: &TextSpace,
    texts: &PrefixTexts,
    corpus: &PrefixForest,
    read: &PrefixForest,
) -> Result<Option<TextTree>, RunError> {
    let chosen = chosen(texts);
    if chosen.len() < 2 {
        return Ok(None);
    }
    let place: HashMap<usize, usize> = chosen.iter().enumerate().map(|(k, &i)| (i, k)).collect();
    let parent = |i: usize| texts.parents[i].map(|p| place[&p]);
    let decode = |tokens: &[u32]| space.tokenizer().decode(tokens);
    let tokens: Vec<&[u32]> = chosen.iter().map(|&i| texts.texts[i].as_slice()).collect();
    let laws: Vec<HashMap<u32, f64>> = space
        .next_tokens_batch(&tokens)
        .into_iter()
        .map(|next| {
            let total = next.total().max(1) as f64;
            let share = |(token, count)| (token, count as f64 / total);
            next.counts.into_iter().map(share).collect()
        })
        .collect();
    let mut far: Vec<f64> = Vec::with_capacity(chosen.len());
    let mut steps = Vec::with_capacity(chosen.len());
    for (k, &i) in chosen.iter().enumerate() {
        far.push(parent(i).map_or(0.0, |p| far[p] + corpus.edge_distance(i)));
        steps.extend(parent(i).map(|p| (p, k, corpus.edge_distance(i))));
    }
    let metric = Space::from_steps(numbered(chosen.len()), &steps)?;
    // The token whose chances fall into the most rays, so that there is something to be seen; the likeliest of those.
    let tokens: BTreeSet<u32> = laws.iter().flat_map(HashMap::keys).copied().collect();
    let mut best: Option<(u32, Reached)> = None;
    for target in tokens {
        let found = reached(&metric, &laws, target)?;
        let size = |r: &Reached| (r.decomposition.parts.len(), r.chances[0]);
        if best.as_ref().is_none_or(|(_, b)| size(&found) > size(b)) {
            best = Some((target, found));
        }
    }
    let Some((
        target,
        Reached {
            chances,
            decomposition,
        },
    )) = best
    else {
        return Ok(None);
    };
    let mut nodes: Vec<TreeText> = Vec::with_capacity(chosen.len());
    for (k, &i) in chosen.iter().enumerate() {
        let above = parent(i).map_or(0.0, |p| nodes[p].model);
        nodes.push(TreeText {
            text: decode(&texts.texts[i])?,
            last: decode(&texts.texts[i][texts.texts[i].len() - 1..])?,
            count: texts.counts[i],
            parent: parent(i),
            corpus: far[k],
            model: above + read.edge_distance(i),
            at_once: laws[k].get(&target).copied().unwrap_or(0.0),
            reached: chances[k],
        });
    }
    let mut parts: Vec<TreePart> = (0..decomposition.parts.len())
        .map(|k| TreePart {
            // Rays are exp f on their sets: this is what the part gives the root.
            weight: (decomposition.parts[k].log_weight + decomposition.potential[0]).exp(),
            texts: decomposition.members(k),
        })
        .collect();
    parts.sort_by_key(|part| Reverse(part.texts.len()));
    Ok(Some(TextTree {
        target: (target, decode(&[target])?),
        texts: nodes,
        parts,
    }))
}

/// How a token is reached from texts by going on to others first.
struct Reached {
    /// By text, the best chance.
    chances: Vec<f64>,
    decomposition: Decomposition,
}

/// Of the costs `-log` of the chances that the token follows at once, the greatest point of P(L) below, as a point of the
/// cone.
fn reached(metric: &Space, laws: &[HashMap<u32, f64>], target: u32) -> Result<Reached, RunError> {
    let cost = |law: &HashMap<u32, f64>| law.get(&target).map_or(f64::INFINITY, |p| -p.ln());
    let costs: Vec<f64> = laws.iter().map(cost).collect();
    let below = metric.project(&costs)?.below;
    let chances: Vec<f64> = below.iter().map(|x| (-x).exp()).collect();
    Ok(Reached {
        decomposition: metric.decompose(&chances)?,
        chances,
    })
}

/// Names for spaces whose texts may read alike: those that end within a character.
fn numbered(texts: usize) -> Vec<String> {
    (0..texts).map(|i| format!("#{i}")).collect()
}

/// The most frequent text without a repeated token, with all that stands within it.
fn within(space: &TextSpace) -> Result<Option<TextsWithin>, RunError> {
    let length = WITHIN.min(space.longest_document());
    if length < 2 {
        return Ok(None);
    }
    let options = ContextOptions {
        document_end: DocumentEnd::Outcome,
        top: Some(CANDIDATES),
        blocks: None,
    };
    let table = space.contexts(length, 1, &options)?;
    let plain = |i: &usize| {
        let mut seen = HashSet::new();
        table.context(*i).iter().all(|token| seen.insert(token))
    };
    let sentence = table.context((0..table.len()).find(plain).unwrap_or(0));
    let texts = held(&[sentence.to_vec()], Order::Subtext).unwrap_or_default();
    let counts = space.count_batch(&texts);
    let steps = counted_steps(&subtext_covers(&texts), &counts);
    let names: Vec<String> = texts
        .iter()
        .map(|t| space.tokenizer().decode(t))
        .collect::<Result<_, _>>()?;
    let metric = Space::from_steps(numbered(texts.len()), &steps)?;
    let words: Vec<usize> = (0..texts.len()).filter(|&i| texts[i].len() == 1).collect();
    let whole = texts.len() - 1;
    // From a quarter to 16 nats, four to an octave.
    let temperatures = (-8..=16).map(|k| (f64::from(k) / 4.0).exp2());
    Ok(Some(TextsWithin {
        distances: (0..texts.len()).map(|i| metric.co_yoneda(i)).collect(),
        temperatures: temperatures
            .map(|t| metric.boltzmann(whole, &words, t))
            .collect::<Result<_, _>>()?,
        texts: names,
        counts,
        words,
    }))
}

/// The beginnings of some documents, evenly spread, each once.
fn beginnings(
    space: &TextSpace,
    model: &LanguageModel,
    seed: u64,
) -> Result<Option<Beginnings>, RunError> {
    let mut texts: Vec<Vec<u32>> = Vec::new();
    let documents = space.documents();
    // More places than are taken: documents may be short, or begin alike.
    let places = 8 * BEGINNINGS;
    let length = BEGINNING.min(model.context_length().saturating_sub(PLAN.tokens));
    // First those that are eight places apart, then those beside them.
    let spread = (0..places).map(|k| k % BEGINNINGS * 8 + k / BEGINNINGS);
    for place in spread.map(|k| k * documents / places) {
        let Some(mut text) = space.document_tokens(place) else {
            continue;
        };
        text.truncate(length);
        let extends = |other: &Vec<u32>| other.starts_with(&text) || text.starts_with(other);
        if text.len() >= length.clamp(1, 3) && !texts.iter().any(extends) {
            texts.push(text);
        }
        if texts.len() == BEGINNINGS {
            break;
        }
    }
    if texts.len() < 2 {
        return Ok(None);
    }
    let names: Vec<String> = texts
        .iter()
        .map(|t| space.tokenizer().decode(t))
        .collect::<Result<_, _>>()?;
    let plan = ContinuationPlan { seed, ..PLAN };
    let found = compare_read(model, &names, &texts, &[1.0], &plan, &mut |_| ())?;
    let pairs = (0..texts.len()).flat_map(|i| (i + 1..texts.len()).map(move |j| (i, j)));
    let pairs = pairs
        .zip(found.pairs)
        .filter_map(|((first, second), pair)| {
            let one = pair.divergences.first()?;
            Some(BeginningPair {
                first,
                second,
                forward: one.forward,
                back: one.back,
                direction: pair.direction,
                trajectory: pair.trajectory,
            })
        });
    Ok(Some(Beginnings {
        pairs: pairs.collect(),
        texts: names,
        samples: plan.samples,
        tokens: plan.tokens,
    }))
}
