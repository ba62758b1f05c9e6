use lawvere_core::{CompensatedSum, sum};

use super::machine::Machine;

/// Probabilities of states, by state, that sum to 1.
pub(crate) type Belief = Vec<(u32, f64)>;

/// What tells beliefs apart.
pub(crate) type BeliefKey = Vec<(u32, u64)>;

/// Beliefs whose probabilities agree to this many parts are the same: weights of a grammar are
/// given with few digits, so different beliefs differ by far more, and equal ones by rounding only.
const PARTS: f64 = (1u64 << 40) as f64;

pub(crate) fn belief_key(belief: &[(u32, f64)]) -> BeliefKey {
    belief
        .iter()
        .map(|&(c, p)| (c, (p * PARTS).round() as u64))
        .collect()
}

/// What one symbol says of the state after it, preceded by anything: for every symbol its
/// stationary probability and the belief after it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AfterSymbol {
    pub probabilities: Vec<f64>,
    pub beliefs: Vec<Belief>,
}

impl AfterSymbol {
    pub fn new(machine: &Machine, stationary: &[f64]) -> Self {
        let symbols = machine.end as usize + 1;
        let mut reached: Vec<Vec<(u32, f64)>> = vec![Vec::new(); symbols];
        for (row, &mass) in machine.rows().zip(stationary) {
            for (symbol, probability, target) in row.iter() {
                reached[symbol as usize].push((target, mass * probability));
            }
        }
        let (probabilities, beliefs) = reached.into_iter().map(normalised).unzip();
        Self {
            probabilities,
            beliefs,
        }
    }
}

/// The total of some masses on states, and the belief they make.
fn normalised(mut masses: Vec<(u32, f64)>) -> (f64, Belief) {
    // Stable, so that equal states are added up in one order whatever the sort.
    masses.sort_by_key(|m| m.0);
    let total = sum(masses.iter().map(|m| m.1));
    let mut belief: Belief = Vec::with_capacity(masses.len());
    for (state, mass) in masses {
        match belief.last_mut() {
            Some(last) if last.0 == state => last.1 += mass / total,
            _ => belief.push((state, mass / total)),
        }
    }
    (total, belief)
}

impl Machine {
    /// The probability of a symbol under a belief, and the belief after it; nothing if it is 0.
    pub fn filter(&self, belief: &[(u32, f64)], symbol: u32) -> Option<(f64, Belief)> {
        if let [(state, _)] = *belief {
            let (probability, target) = self.row(state).step(symbol)?;
            return Some((probability, vec![(target, 1.0)]));
        }
        let mut masses = Vec::new();
        for &(state, mass) in belief {
            if let Some((probability, target)) = self.row(state).step(symbol) {
                masses.push((target, mass * probability));
            }
        }
        (!masses.is_empty()).then(|| normalised(masses))
    }

    /// All symbols possible under a belief, increasing, with their probabilities and the beliefs
    /// after them.
    pub fn branches(&self, belief: &[(u32, f64)]) -> Vec<(u32, f64, Belief)> {
        let mut all = Vec::new();
        for &(state, mass) in belief {
            all.extend(self.row(state).iter().map(|(s, p, t)| (s, t, mass * p)));
        }
        all.sort_by_key(|b| (b.0, b.1));
        let same_symbol = all.chunk_by(|a, b| a.0 == b.0);
        same_symbol
            .map(|group| {
                let masses = group
                    .iter()
                    .map(|&(_, target, mass)| (target, mass))
                    .collect();
                let (probability, belief) = normalised(masses);
                (group[0].0, probability, belief)
            })
            .collect()
    }
}

/// Adds up laws over the symbols; keeps its memory between uses.
#[derive(Debug)]
pub(crate) struct Mixer {
    totals: Vec<CompensatedSum>,
    touched: Vec<u32>,
}

impl Mixer {
    pub fn new(machine: &Machine) -> Self {
        Self {
            totals: vec![CompensatedSum::default(); machine.end as usize + 1],
            touched: Vec::new(),
        }
    }

    /// The next-symbol law of a belief: symbols, increasing, and their probabilities.
    pub fn law(&mut self, machine: &Machine, belief: &[(u32, f64)]) -> Vec<(u32, f64)> {
        if let [(state, _)] = *belief {
            return machine.row(state).iter().map(|(s, p, _)| (s, p)).collect();
        }
        for &(state, mass) in belief {
            for (symbol, probability, _) in machine.row(state).iter() {
                let total = &mut self.totals[symbol as usize];
                if *total == CompensatedSum::default() {
                    self.touched.push(symbol);
                }
                total.add(mass * probability);
            }
        }
        self.touched.sort_unstable();
        self.touched.dedup();
        let law: Vec<(u32, f64)> = self
            .touched
            .drain(..)
            .map(|s| (s, std::mem::take(&mut self.totals[s as usize]).value()))
            .collect();
        let total = sum(law.iter().map(|l| l.1));
        law.into_iter().map(|(s, p)| (s, p / total)).collect()
    }
}
