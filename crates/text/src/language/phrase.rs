use std::collections::HashMap;

use super::grammar::{Grammar, Item, wrong};
use crate::TextError;

pub(crate) type PhraseId = u32;

/// A piece of a grammar. Equal pieces have equal ids, so that what is the same text reached on two
/// ways is found to be the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Phrase {
    Word(u32),
    Seq(Vec<PhraseId>),
    /// Alternatives with the bits of their probabilities.
    Choice(Vec<(u64, PhraseId)>),
    Bind {
        variable: usize,
        form: usize,
    },
    Agree {
        variable: usize,
        form: usize,
    },
    Repeat {
        again: u64,
        body: PhraseId,
    },
}

/// A class as the compiler reads it.
#[derive(Debug)]
pub(crate) struct Entries {
    pub probabilities: Vec<f64>,
    /// The text of every form (outer) and entry (inner).
    pub texts: Vec<Vec<PhraseId>>,
}

/// What of remembered entries is still to be said: a bit for every agreement of the grammar.
pub(crate) type Needs = u128;

/// A grammar with its names resolved.
#[derive(Debug)]
pub(crate) struct Phrases {
    pub words: Vec<String>,
    pub classes: Vec<Entries>,
    /// The class of every variable.
    pub class_of: Vec<usize>,
    pub story: PhraseId,
    /// The variable and the form of every bit of [`Needs`].
    pub agreements: Vec<(usize, usize)>,
    phrases: Vec<Phrase>,
    ids: HashMap<Phrase, PhraseId>,
}

impl Phrases {
    pub fn new(grammar: &Grammar) -> Result<Self, TextError> {
        let words: Vec<String> = grammar.words().into_iter().map(str::to_owned).collect();
        if words.is_empty() {
            return Err(wrong(1, "no story has a word"));
        }
        let mut phrases = Self {
            words,
            classes: Vec::new(),
            class_of: Vec::new(),
            story: 0,
            agreements: Vec::new(),
            phrases: Vec::new(),
            ids: HashMap::new(),
        };
        let resolve = Resolve::new(grammar)?;
        phrases.class_of = resolve.class_of.clone();
        let word_ids: HashMap<String, u32> = phrases.words.iter().cloned().zip(0..).collect();
        for class in &grammar.classes {
            let weights: Vec<f64> = (0..class.entries.len())
                .map(|r| 1.0 / (r + 8) as f64)
                .collect();
            let total: f64 = weights.iter().sum();
            let mut texts = Vec::with_capacity(class.forms.len());
            for form in 0..class.forms.len() {
                let of_entry = |entry: &super::grammar::Entry| {
                    // Forms that no rule says have words outside the language; nobody asks for them.
                    let ids = entry.texts[form].iter().filter_map(|w| word_ids.get(w));
                    let parts = ids.map(|&w| phrases.intern(Phrase::Word(w))).collect();
                    phrases.sequence(parts)
                };
                texts.push(class.entries.iter().map(of_entry).collect());
            }
            phrases.classes.push(Entries {
                probabilities: weights.iter().map(|w| w / total).collect(),
                texts,
            });
        }
        phrases.story = phrases.rule(&resolve, &word_ids, "story", 1, &mut Vec::new())?;
        if phrases.may_be_empty(phrases.story) {
            return Err(wrong(1, "a story may be empty; every story needs a word"));
        }
        let unbound = phrases.needs(phrases.story, 0, &mut HashMap::new());
        if unbound != 0 {
            let (variable, _) = phrases.agreements[unbound.trailing_zeros() as usize];
            let name = &resolve.variables[variable];
            return Err(wrong(
                1,
                format!("`{name}` can be said before it is chosen"),
            ));
        }
        Ok(phrases)
    }

    pub fn get(&self, id: PhraseId) -> &Phrase {
        &self.phrases[id as usize]
    }

    fn intern(&mut self, phrase: Phrase) -> PhraseId {
        if let Some(&id) = self.ids.get(&phrase) {
            return id;
        }
        let id = self.phrases.len() as PhraseId;
        self.phrases.push(phrase.clone());
        self.ids.insert(phrase, id);
        id
    }

    fn sequence(&mut self, parts: Vec<PhraseId>) -> PhraseId {
        match parts[..] {
            [one] => one,
            _ => self.intern(Phrase::Seq(parts)),
        }
    }

    fn rule<'g>(
        &mut self,
        resolve: &Resolve<'g>,
        words: &HashMap<String, u32>,
        name: &'g str,
        line: usize,
        open: &mut Vec<&'g str>,
    ) -> Result<PhraseId, TextError> {
        let rule = resolve
            .grammar
            .rules
            .iter()
            .find(|r| r.name == name)
            .ok_or_else(|| wrong(line, format!("there is no rule `{name}`")))?;
        if open.contains(&name) {
            let problem = format!("`{name}` leads back to itself; a loop is written `<rule*p>`");
            return Err(wrong(line, problem));
        }
        open.push(name);
        let total: f64 = rule.alternatives.iter().map(|a| a.weight).sum();
        let mut choices = Vec::with_capacity(rule.alternatives.len());
        for alternative in &rule.alternatives {
            let line = alternative.line;
            let mut parts = Vec::with_capacity(alternative.items.len());
            for item in &alternative.items {
                parts.push(match item {
                    Item::Word(word) => {
                        let id = words.get(word).copied();
                        let id = id.ok_or_else(|| wrong(line, format!("`{word}` has no id")))?;
                        self.intern(Phrase::Word(id))
                    }
                    Item::Rule(rule) => self.rule(resolve, words, rule, line, open)?,
                    Item::Repeat { rule, again } => {
                        let body = self.rule(resolve, words, rule, line, open)?;
                        if self.may_be_empty(body) {
                            let problem = format!("`<{rule}*{again}>` repeats what may be empty");
                            return Err(wrong(line, problem));
                        }
                        self.intern(Phrase::Repeat {
                            again: again.to_bits(),
                            body,
                        })
                    }
                    Item::Bind {
                        variable,
                        class,
                        form,
                    } => {
                        let (variable, form) =
                            resolve.bind(variable.as_deref(), class, form, line)?;
                        self.intern(Phrase::Bind { variable, form })
                    }
                    Item::Agree { variable, form } => {
                        let (variable, form) = resolve.agree(variable, form, line)?;
                        self.agreement(variable, form, line)?;
                        self.intern(Phrase::Agree { variable, form })
                    }
                });
            }
            choices.push(((alternative.weight / total).to_bits(), self.sequence(parts)));
        }
        open.pop();
        Ok(match choices[..] {
            [(_, one)] => one,
            _ => self.intern(Phrase::Choice(choices)),
        })
    }

    fn agreement(&mut self, variable: usize, form: usize, line: usize) -> Result<(), TextError> {
        if !self.agreements.contains(&(variable, form)) {
            self.agreements.push((variable, form));
        }
        match self.agreements.len() <= Needs::BITS as usize {
            true => Ok(()),
            false => Err(wrong(line, "more than 128 different agreements `<x.form>`")),
        }
    }

    fn may_be_empty(&self, id: PhraseId) -> bool {
        match self.get(id) {
            Phrase::Word(_) | Phrase::Bind { .. } | Phrase::Agree { .. } => false,
            Phrase::Repeat { .. } => true,
            Phrase::Seq(parts) => parts.iter().all(|&p| self.may_be_empty(p)),
            Phrase::Choice(choices) => choices.iter().any(|&(_, p)| self.may_be_empty(p)),
        }
    }

    fn bit(&self, variable: usize, form: usize) -> Needs {
        let is = |a: &(usize, usize)| *a == (variable, form);
        self.agreements.iter().position(is).map_or(0, |i| 1 << i)
    }

    /// The bits of a variable.
    pub fn needs_of(&self, variable: usize) -> Needs {
        let bits = self.agreements.iter().enumerate();
        bits.filter(|(_, a)| a.0 == variable)
            .map(|(i, _)| 1 << i)
            .sum()
    }

    /// What must be remembered before a phrase, if `after` must be after it: the live variables of
    /// data-flow analysis.
    pub fn needs(
        &self,
        id: PhraseId,
        after: Needs,
        known: &mut HashMap<(PhraseId, Needs), Needs>,
    ) -> Needs {
        if let Some(&needs) = known.get(&(id, after)) {
            return needs;
        }
        let needs = match self.get(id) {
            Phrase::Word(_) => after,
            Phrase::Seq(parts) => {
                let step = |after, &part| self.needs(part, after, known);
                parts.iter().rev().fold(after, step)
            }
            Phrase::Choice(choices) => {
                let all = choices.iter();
                all.fold(0, |needs, &(_, p)| needs | self.needs(p, after, known))
            }
            Phrase::Bind { variable, .. } => after & !self.needs_of(*variable),
            Phrase::Agree { variable, form } => after | self.bit(*variable, *form),
            // Twice round the loop carries whatever its body needs back to its beginning.
            Phrase::Repeat { body, .. } => {
                let once = after | self.needs(*body, after, known);
                once | self.needs(*body, once, known)
            }
        };
        known.insert((id, after), needs);
        needs
    }
}

/// The names of a grammar.
struct Resolve<'g> {
    grammar: &'g Grammar,
    variables: Vec<String>,
    class_of: Vec<usize>,
}

impl<'g> Resolve<'g> {
    fn new(grammar: &'g Grammar) -> Result<Self, TextError> {
        let mut resolve = Self {
            grammar,
            variables: Vec::new(),
            class_of: Vec::new(),
        };
        for alternative in grammar.rules.iter().flat_map(|r| &r.alternatives) {
            for item in &alternative.items {
                let Item::Bind {
                    variable, class, ..
                } = item
                else {
                    continue;
                };
                let name = variable.clone().unwrap_or_else(|| forgotten(class));
                let class = resolve.class(class, alternative.line)?;
                match resolve.variables.iter().position(|v| *v == name) {
                    None => {
                        resolve.variables.push(name);
                        resolve.class_of.push(class);
                    }
                    Some(known) if resolve.class_of[known] == class => {}
                    Some(_) => {
                        let problem = format!("`{name}` is chosen from two classes");
                        return Err(wrong(alternative.line, problem));
                    }
                }
            }
        }
        Ok(resolve)
    }

    fn class(&self, name: &str, line: usize) -> Result<usize, TextError> {
        let found = self.grammar.classes.iter().position(|c| c.name == name);
        found.ok_or_else(|| wrong(line, format!("there is no class `{name}`")))
    }

    fn form(&self, variable: usize, form: &str, line: usize) -> Result<usize, TextError> {
        let class = &self.grammar.classes[self.class_of[variable]];
        let found = class.forms.iter().position(|f| f == form);
        found.ok_or_else(|| wrong(line, format!("class `{}` has no form `{form}`", class.name)))
    }

    fn bind(
        &self,
        variable: Option<&str>,
        class: &str,
        form: &str,
        line: usize,
    ) -> Result<(usize, usize), TextError> {
        let name = variable.map_or_else(|| forgotten(class), str::to_owned);
        self.agree(&name, form, line)
    }

    fn agree(&self, name: &str, form: &str, line: usize) -> Result<(usize, usize), TextError> {
        let variable = self.variables.iter().position(|v| v == name);
        let variable = variable.ok_or_else(|| wrong(line, format!("`{name}` is never chosen")))?;
        Ok((variable, self.form(variable, form, line)?))
    }
}

/// The name of the variable that remembers an entry nobody refers to; no written name has a `=`.
fn forgotten(class: &str) -> String {
    format!("={class}")
}
