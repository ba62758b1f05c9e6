use std::collections::HashMap;

use super::belief::{BeliefKey, belief_key};
use super::machine::Machine;
use super::phrase::{Needs, Phrase, PhraseId, Phrases};
use crate::TextError;

/// States beyond which a grammar is refused.
const MAX_STATES: usize = 2_000_000;
type RestId = u32;
/// The end of a story: nothing is left.
const NOTHING: RestId = 0;

/// Where a story can be: what is left of the grammar, and of the entries remembered what that
/// rest will still say.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Configuration {
    rest: RestId,
    /// Variables and entries, by variable.
    bindings: Vec<(u32, u32)>,
}

/// A way on from a configuration: a word (or the end of the story), its probability, the
/// configuration after it.
type Step = (u32, f64, u32);

struct Determiniser<'a> {
    phrases: &'a Phrases,
    end: u32,
    rests: Vec<(PhraseId, RestId, Needs)>,
    rest_ids: HashMap<(PhraseId, RestId), RestId>,
    known_needs: HashMap<(PhraseId, Needs), Needs>,
    variable_needs: Vec<Needs>,
    /// For a variable and what is needed of it, the first entry that says the same.
    same: HashMap<(u32, Needs), Vec<u32>>,
    configurations: HashMap<Configuration, u32>,
    list: Vec<Configuration>,
}

/// The unifilar machine of a grammar, by weighted determinisation: a state is a belief over
/// configurations, and what is remembered of an entry is only what can still be heard of it.
///
/// O(states x ways on), the states being those that a prefix leads to.
///
/// *Source:* Mohri, *Finite-state transducers in language and speech processing* (1997), section
/// 3.3.
pub(crate) fn determinise(phrases: &Phrases) -> Result<Machine, TextError> {
    let mut run = Determiniser {
        phrases,
        end: phrases.words.len() as u32,
        rests: vec![(0, NOTHING, 0)],
        rest_ids: HashMap::new(),
        known_needs: HashMap::new(),
        variable_needs: (0..phrases.class_of.len())
            .map(|v| phrases.needs_of(v))
            .collect(),
        same: HashMap::new(),
        configurations: HashMap::new(),
        list: Vec::new(),
    };
    let rest = run.rest(phrases.story, NOTHING);
    let start = run.configuration(rest, &[]);
    let mut beliefs = vec![vec![(start, 1.0)]];
    let mut states: HashMap<BeliefKey, u32> = HashMap::from([(belief_key(&beliefs[0]), 0)]);
    let mut rows = Vec::new();
    let mut steps = Vec::new();
    let mut at = 0;
    while at < beliefs.len() {
        steps.clear();
        for (configuration, weight) in std::mem::take(&mut beliefs[at]) {
            run.steps(configuration, weight, &mut steps);
        }
        steps.sort_unstable_by_key(|s| (s.0, s.2));
        let mut row = Vec::new();
        for group in steps.chunk_by(|a, b| a.0 == b.0) {
            let symbol = group[0].0;
            let total = lawvere_core::sum(group.iter().map(|s| s.1));
            if symbol == run.end {
                row.push((symbol, total, 0));
                continue;
            }
            let same = group.chunk_by(|a, b| a.2 == b.2);
            let belief: Vec<(u32, f64)> = same
                .map(|s| (s[0].2, s.iter().map(|s| s.1).sum::<f64>() / total))
                .collect();
            let next = *states.entry(belief_key(&belief)).or_insert_with(|| {
                beliefs.push(belief);
                beliefs.len() as u32 - 1
            });
            row.push((symbol, total, next));
        }
        rows.push(row);
        at += 1;
        if beliefs.len() > MAX_STATES {
            return Err(TextError::TooMany {
                what: "states of the language",
                limit: MAX_STATES,
                remedy: "shorten the stretches over which the grammar remembers",
            });
        }
    }
    Ok(Machine::new(rows, run.end))
}

impl Determiniser<'_> {
    fn rest(&mut self, first: PhraseId, then: RestId) -> RestId {
        if let Some(&id) = self.rest_ids.get(&(first, then)) {
            return id;
        }
        let after = self.rests[then as usize].2;
        let needs = self.phrases.needs(first, after, &mut self.known_needs);
        let id = self.rests.len() as RestId;
        self.rests.push((first, then, needs));
        self.rest_ids.insert((first, then), id);
        id
    }

    fn configuration(&mut self, rest: RestId, bindings: &[(u32, u32)]) -> u32 {
        let needs = self.rests[rest as usize].2;
        let mut kept = Vec::new();
        for &(variable, entry) in bindings {
            let needed = needs & self.variable_needs[variable as usize];
            if needed != 0 {
                kept.push((variable, self.representative(variable, needed, entry)));
            }
        }
        let configuration = Configuration {
            rest,
            bindings: kept,
        };
        if let Some(&id) = self.configurations.get(&configuration) {
            return id;
        }
        let id = self.list.len() as u32;
        self.list.push(configuration.clone());
        self.configurations.insert(configuration, id);
        id
    }

    fn representative(&mut self, variable: u32, needed: Needs, entry: u32) -> u32 {
        let phrases = self.phrases;
        let first = self.same.entry((variable, needed)).or_insert_with(|| {
            let class = &phrases.classes[phrases.class_of[variable as usize]];
            let agreements = phrases.agreements.iter().enumerate();
            let forms: Vec<usize> = agreements
                .filter(|(i, _)| needed >> i & 1 == 1)
                .map(|(_, a)| a.1)
                .collect();
            let mut first = HashMap::new();
            let said = |e: usize| -> Vec<PhraseId> {
                forms.iter().map(|&form| class.texts[form][e]).collect()
            };
            let entries = 0..class.probabilities.len();
            entries
                .map(|e| *first.entry(said(e)).or_insert(e as u32))
                .collect()
        });
        first[entry as usize]
    }

    /// All ways on from a configuration, their probabilities times `weight`.
    fn steps(&mut self, configuration: u32, weight: f64, out: &mut Vec<Step>) {
        let Configuration { rest, bindings } = self.list[configuration as usize].clone();
        self.walk(rest, &bindings, weight, out);
    }

    fn walk(&mut self, rest: RestId, bindings: &[(u32, u32)], weight: f64, out: &mut Vec<Step>) {
        if rest == NOTHING {
            out.push((self.end, weight, 0));
            return;
        }
        let phrases = self.phrases;
        let (first, then, _) = self.rests[rest as usize];
        match phrases.get(first) {
            Phrase::Word(word) => {
                let next = self.configuration(then, bindings);
                out.push((*word, weight, next));
            }
            Phrase::Seq(parts) => {
                let rest = parts
                    .iter()
                    .rev()
                    .fold(then, |then, &part| self.rest(part, then));
                self.walk(rest, bindings, weight, out);
            }
            Phrase::Choice(choices) => {
                for &(probability, phrase) in choices {
                    let rest = self.rest(phrase, then);
                    self.walk(rest, bindings, weight * f64::from_bits(probability), out);
                }
            }
            &Phrase::Bind { variable, form } => {
                let class = &phrases.classes[phrases.class_of[variable]];
                let variable = variable as u32;
                let mut bound: Vec<_> = bindings
                    .iter()
                    .copied()
                    .filter(|b| b.0 != variable)
                    .collect();
                let at = bound.partition_point(|b| b.0 < variable);
                bound.insert(at, (variable, 0));
                for (entry, probability) in class.probabilities.iter().enumerate() {
                    bound[at].1 = entry as u32;
                    let rest = self.rest(class.texts[form][entry], then);
                    self.walk(rest, &bound, weight * probability, out);
                }
            }
            &Phrase::Agree { variable, form } => {
                let class = &phrases.classes[phrases.class_of[variable]];
                let bound = bindings.iter().find(|b| b.0 == variable as u32);
                // What is said is always bound: `Phrases::new` refuses any other grammar.
                if let Some(&(_, entry)) = bound {
                    let rest = self.rest(class.texts[form][entry as usize], then);
                    self.walk(rest, bindings, weight, out);
                }
            }
            &Phrase::Repeat { again, body } => {
                let again = f64::from_bits(again);
                let round = self.rest(body, rest);
                self.walk(round, bindings, weight * again, out);
                self.walk(then, bindings, weight * (1.0 - again), out);
            }
        }
    }
}
