use std::collections::{BTreeSet, HashMap};

use crate::TextError;

/// A grammar of stories: classes of words and rules with weighted alternatives.
///
/// It is read from a plain notation, one declaration or line of it to a line of text:
///
/// ```text
/// # a comment
/// class animal: kind home
///   fox | den
///   @2 mole | little hole
/// rule story:
///   3 a <a=animal.kind> ran . <walk*0.4> it went back to the <a.home> .
///   1 nothing happened .
/// rule walk:
///   1 it walked on .
///   1 -
/// ```
///
/// * A *class* has entries and every entry the same *forms*, each a text. Entry `r` of a class,
///   counted from 0, has a weight proportional to `1 / (r + 8)` (the law of Zipf and Mandelbrot).
/// * A *rule* has alternatives, each begun by its weight; `-` is the empty text. The rule `story`
///   is the whole.
/// * `<rule>` is one of the rule's alternatives; `<rule*p>` is any number of them, one after the
///   other, each with probability `p`.
/// * `<x=class.form>` chooses an entry, remembers it as `x` and says a form of it; `<x.form>` says
///   a form of the entry remembered; `<=class.form>` chooses and forgets.
/// * A line begun with `@tier` belongs only to larger languages, see
///   [`Language::stories`](crate::Language::stories).
#[derive(Debug, Clone, PartialEq)]
pub struct Grammar {
    pub(crate) classes: Vec<Class>,
    pub(crate) rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Class {
    pub name: String,
    pub forms: Vec<String>,
    pub entries: Vec<Entry>,
    pub line: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub tier: u8,
    pub line: usize,
    /// The words of every form.
    pub texts: Vec<Vec<String>>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rule {
    pub name: String,
    pub alternatives: Vec<Alternative>,
    pub line: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Alternative {
    pub weight: f64,
    pub tier: u8,
    pub line: usize,
    pub items: Vec<Item>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Item {
    Word(String),
    Rule(String),
    Repeat {
        rule: String,
        again: f64,
    },
    Bind {
        variable: Option<String>,
        class: String,
        form: String,
    },
    Agree {
        variable: String,
        form: String,
    },
}

/// The most that a repetition may be continued with, so that stories end and sums over them
/// converge quickly.
const MAX_AGAIN: f64 = 0.95;

pub(crate) fn wrong(line: usize, problem: impl Into<String>) -> TextError {
    TextError::Grammar {
        line,
        problem: problem.into(),
    }
}

impl Grammar {
    /// A grammar from the notation above. O(length of the text).
    ///
    /// # Errors
    /// [`TextError::Grammar`] with the line: a line that is not in the notation, a weight that is
    /// not positive, a repetition with a probability outside (0, 0.95], an entry with too few or
    /// too many forms, a name declared twice, a class or rule without lines, no rule `story`.
    /// What the names refer to is checked when the grammar becomes a language.
    pub fn parse(text: &str) -> Result<Self, TextError> {
        let mut grammar = Self {
            classes: Vec::new(),
            rules: Vec::new(),
        };
        let mut in_class = None;
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some((name, forms)) = declaration(line, "class ") {
                grammar.classes.push(Class {
                    name: name.to_owned(),
                    forms: forms.split_whitespace().map(str::to_owned).collect(),
                    entries: Vec::new(),
                    line: number,
                });
                in_class = Some(true);
            } else if let Some((name, rest)) = declaration(line, "rule ") {
                if !rest.trim().is_empty() {
                    return Err(wrong(
                        number,
                        "a rule's alternatives begin on the next line",
                    ));
                }
                grammar.rules.push(Rule {
                    name: name.to_owned(),
                    alternatives: Vec::new(),
                    line: number,
                });
                in_class = Some(false);
            } else if in_class == Some(true) {
                if let Some(class) = grammar.classes.last_mut() {
                    class.entries.push(entry(line, number, class.forms.len())?);
                }
            } else if let Some(rule) = grammar.rules.last_mut() {
                rule.alternatives.push(alternative(line, number)?);
            } else {
                return Err(wrong(number, "a line before the first `class` or `rule`"));
            }
        }
        grammar.check()?;
        Ok(grammar)
    }

    fn check(&self) -> Result<(), TextError> {
        let classes = self
            .classes
            .iter()
            .map(|c| (&c.name, c.line, c.entries.is_empty()));
        let rules = self
            .rules
            .iter()
            .map(|r| (&r.name, r.line, r.alternatives.is_empty()));
        let mut seen = BTreeSet::new();
        for (name, line, empty) in classes.chain(rules) {
            if !seen.insert(name) {
                return Err(wrong(line, format!("`{name}` is declared twice")));
            }
            if empty {
                return Err(wrong(line, format!("`{name}` has no line under it")));
            }
        }
        match self.rules.iter().any(|r| r.name == "story") {
            true => Ok(()),
            false => Err(wrong(1, "there is no rule `story`, which is the whole")),
        }
    }

    /// The grammar with its unmarked lines and the first `optional` of those marked with a tier,
    /// lower tiers first, then in the order of the text.
    pub(crate) fn cut(&self, optional: usize) -> Self {
        let mut marked = self.marked();
        marked.truncate(optional);
        let kept: BTreeSet<usize> = marked.into_iter().map(|(_, line)| line).collect();
        let mut grammar = self.clone();
        let keep = |tier: u8, line: usize| tier == 0 || kept.contains(&line);
        for class in &mut grammar.classes {
            class.entries.retain(|e| keep(e.tier, e.line));
        }
        for rule in &mut grammar.rules {
            rule.alternatives.retain(|a| keep(a.tier, a.line));
        }
        grammar
    }

    /// The number of lines marked with a tier.
    pub(crate) fn optional_lines(&self) -> usize {
        self.marked().len()
    }

    fn marked(&self) -> Vec<(u8, usize)> {
        let entries = self
            .classes
            .iter()
            .flat_map(|c| &c.entries)
            .map(|e| (e.tier, e.line));
        let lines = self
            .rules
            .iter()
            .flat_map(|r| &r.alternatives)
            .map(|a| (a.tier, a.line));
        let mut marked: Vec<_> = entries.chain(lines).filter(|m| m.0 > 0).collect();
        marked.sort_unstable();
        marked
    }

    /// Appends an entry to a class, the texts in the order of its forms.
    pub(crate) fn append(&mut self, class: &str, texts: Vec<Vec<String>>) -> Result<(), TextError> {
        let class = find(&mut self.classes, |c| c.name == class)
            .ok_or_else(|| wrong(1, format!("there is no class `{class}`")))?;
        let line = class.line;
        class.entries.push(Entry {
            tier: 0,
            line,
            texts,
        });
        Ok(())
    }

    /// The different words that stories can hold. Every alternative and entry has positive
    /// probability, so these are the words of all rules that `story` leads to, and of the forms
    /// that those rules say.
    pub(crate) fn words(&self) -> BTreeSet<&str> {
        let mut class_of = HashMap::new();
        let mut said = BTreeSet::new();
        let mut words = BTreeSet::new();
        let mut reached = BTreeSet::from(["story"]);
        let mut open = vec!["story"];
        while let Some(name) = open.pop() {
            let rule = self.rules.iter().find(|r| r.name == name);
            for item in rule
                .iter()
                .flat_map(|r| &r.alternatives)
                .flat_map(|a| &a.items)
            {
                match item {
                    Item::Word(word) => {
                        words.insert(word.as_str());
                    }
                    Item::Rule(rule) | Item::Repeat { rule, .. } => {
                        if reached.insert(rule) {
                            open.push(rule);
                        }
                    }
                    Item::Bind {
                        variable,
                        class,
                        form,
                    } => {
                        said.insert((Err(class.as_str()), form.as_str()));
                        if let Some(variable) = variable {
                            class_of.insert(variable.as_str(), class.as_str());
                        }
                    }
                    Item::Agree { variable, form } => {
                        said.insert((Ok(variable.as_str()), form.as_str()));
                    }
                }
            }
        }
        for (whose, form) in said {
            let class = match whose {
                Ok(variable) => class_of.get(variable).copied(),
                Err(class) => Some(class),
            };
            let Some(class) = self.classes.iter().find(|c| Some(c.name.as_str()) == class) else {
                continue;
            };
            if let Some(form) = class.forms.iter().position(|f| f == form) {
                let texts = class.entries.iter().flat_map(|e| &e.texts[form]);
                words.extend(texts.map(String::as_str));
            }
        }
        words
    }
}

fn find<T>(all: &mut [T], is: impl Fn(&T) -> bool) -> Option<&mut T> {
    all.iter_mut().find(|x| is(x))
}

fn declaration<'a>(line: &'a str, keyword: &str) -> Option<(&'a str, &'a str)> {
    let (name, rest) = line.strip_prefix(keyword)?.split_once(':')?;
    Some((name.trim(), rest))
}

/// A line without its `@tier`, and the tier.
fn tier(line: &str, number: usize) -> Result<(u8, &str), TextError> {
    let Some(marked) = line.strip_prefix('@') else {
        return Ok((0, line));
    };
    let (tier, rest) = marked.split_once(' ').unwrap_or((marked, ""));
    match tier.parse() {
        Ok(tier) if tier > 0 => Ok((tier, rest.trim())),
        _ => Err(wrong(
            number,
            format!("`@{tier}`: a tier is a number from 1 to 255"),
        )),
    }
}

fn entry(line: &str, number: usize, forms: usize) -> Result<Entry, TextError> {
    let (tier, line) = tier(line, number)?;
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
    let texts: Vec<Vec<String>> = line.split('|').map(words).collect();
    if texts.len() != forms || texts.iter().any(Vec::is_empty) {
        let problem = format!("an entry of this class is {forms} texts with `|` between them");
        return Err(wrong(number, problem));
    }
    Ok(Entry {
        tier,
        line: number,
        texts,
    })
}

fn alternative(line: &str, number: usize) -> Result<Alternative, TextError> {
    let (tier, line) = tier(line, number)?;
    let (weight, text) = line.split_once(' ').unwrap_or((line, ""));
    let weight = weight
        .parse::<f64>()
        .ok()
        .filter(|w| w.is_finite() && *w > 0.0);
    let Some(weight) = weight else {
        return Err(wrong(
            number,
            "an alternative begins with its weight, a positive number",
        ));
    };
    let text = text.trim();
    if text.is_empty() {
        return Err(wrong(
            number,
            "an alternative without text; the empty one is written `-`",
        ));
    }
    let words = text.split_whitespace().filter(|_| text != "-");
    let items = words
        .map(|word| item(word, number))
        .collect::<Result<_, _>>()?;
    Ok(Alternative {
        weight,
        tier,
        line: number,
        items,
    })
}

fn item(word: &str, number: usize) -> Result<Item, TextError> {
    let Some(inside) = word.strip_prefix('<') else {
        return Ok(Item::Word(word.to_owned()));
    };
    let inside = inside.strip_suffix('>').ok_or_else(|| {
        wrong(
            number,
            format!("`{word}` has no closing `>` before the space"),
        )
    })?;
    let formed = |text: &str| {
        let (of, form) = text.split_once('.').ok_or_else(|| {
            wrong(
                number,
                format!("`{word}` names no form; write `<x=class.form>`"),
            )
        })?;
        Ok::<_, TextError>((of.to_owned(), form.to_owned()))
    };
    if let Some((variable, chosen)) = inside.split_once('=') {
        let (class, form) = formed(chosen)?;
        let variable = (!variable.is_empty()).then(|| variable.to_owned());
        return Ok(Item::Bind {
            variable,
            class,
            form,
        });
    }
    if let Some((rule, again)) = inside.split_once('*') {
        let again = again
            .parse::<f64>()
            .ok()
            .filter(|p| *p > 0.0 && *p <= MAX_AGAIN);
        let again = again.ok_or_else(|| {
            let problem = format!("`{word}`: a repetition's probability is in (0, {MAX_AGAIN}]");
            wrong(number, problem)
        })?;
        return Ok(Item::Repeat {
            rule: rule.to_owned(),
            again,
        });
    }
    if inside.contains('.') {
        let (variable, form) = formed(inside)?;
        return Ok(Item::Agree { variable, form });
    }
    Ok(Item::Rule(inside.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_not_in_the_notation_is_named() {
        for (text, line) in [
            ("rule story:\n 1 a <b", 2),
            ("rule story:\n a", 2),
            ("rule story:\n -1 a", 2),
            ("rule story:\n 1", 2),
            ("rule story:\n 1 <s*1>", 2),
            ("rule story:\n\n 1 <x=y>", 3),
            ("class c: f g\n a", 2),
            ("class c: f\n @0 a", 2),
            ("class c: f\n a\nrule c:\n 1 a", 3),
            ("rule story:", 1),
            ("rule tale:\n 1 a", 1),
            ("a", 1),
        ] {
            match Grammar::parse(text) {
                Err(TextError::Grammar { line: named, .. }) => assert_eq!(named, line, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_cut_keeps_unmarked_lines_and_lower_tiers_first() {
        let text = "class c: f\n a\n @2 b\n @1 d\nrule story:\n 1 <=c.f> x\n @1 1 y";
        let grammar = Grammar::parse(text).unwrap();
        let words = |k| {
            grammar
                .cut(k)
                .words()
                .into_iter()
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(
            [0, 1, 2, 3].map(words),
            ["a x", "a d x", "a d x y", "a b d x y"]
        );
        assert_eq!(grammar.optional_lines(), 3);
    }
}
