use lawvere_core::{stoch, sum};

/// A unifilar hidden Markov model whose symbols are words and the end of a story. State 0 begins a
/// story; the end leads back to it.
///
/// States are numbered so that only loops and the end lead to a smaller number.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Machine {
    /// The symbol that ends a story, the largest.
    pub end: u32,
    /// Where each state's row begins; one more at the end.
    starts: Vec<usize>,
    symbols: Vec<u32>,
    probabilities: Vec<f64>,
    targets: Vec<u32>,
}

/// What a state says next: symbols, increasing; their probabilities; the states they lead to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row<'a> {
    pub symbols: &'a [u32],
    pub probabilities: &'a [f64],
    pub targets: &'a [u32],
}

impl Row<'_> {
    pub fn iter(&self) -> impl Iterator<Item = (u32, f64, u32)> {
        let pairs = self
            .symbols
            .iter()
            .zip(self.probabilities)
            .zip(self.targets);
        pairs.map(|((&s, &p), &t)| (s, p, t))
    }

    /// The probability of a symbol and the state it leads to.
    pub fn step(&self, symbol: u32) -> Option<(f64, u32)> {
        let at = self.symbols.binary_search(&symbol).ok()?;
        Some((self.probabilities[at], self.targets[at]))
    }
}

/// What of a recursion's values may still change when it stops, relative to the largest.
const SETTLED: f64 = 1e-17;

impl Machine {
    /// From rows of (symbol, probability, target), symbols increasing; rows are normalised.
    pub fn new(rows: Vec<Vec<(u32, f64, u32)>>, end: u32) -> Self {
        let number = topological(&rows, end);
        let mut order = vec![0; rows.len()];
        (0..)
            .zip(&number)
            .for_each(|(old, &new)| order[new as usize] = old);
        let mut machine = Self {
            end,
            starts: vec![0],
            symbols: Vec::new(),
            probabilities: Vec::new(),
            targets: Vec::new(),
        };
        for &state in &order {
            let row: &[(u32, f64, u32)] = &rows[state as usize];
            let total = sum(row.iter().map(|s| s.1));
            machine.symbols.extend(row.iter().map(|s| s.0));
            machine
                .probabilities
                .extend(row.iter().map(|s| s.1 / total));
            machine
                .targets
                .extend(row.iter().map(|s| number[s.2 as usize]));
            machine.starts.push(machine.symbols.len());
        }
        machine
    }

    pub fn states(&self) -> usize {
        self.starts.len() - 1
    }

    pub fn transitions(&self) -> usize {
        self.symbols.len()
    }

    pub fn row(&self, state: u32) -> Row<'_> {
        let range = self.starts[state as usize]..self.starts[state as usize + 1];
        Row {
            symbols: &self.symbols[range.clone()],
            probabilities: &self.probabilities[range.clone()],
            targets: &self.targets[range],
        }
    }

    pub fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        (0..self.states() as u32).map(|q| self.row(q))
    }

    /// Gives symbol `s` the number `number[s]`; `number` is a permutation of the words.
    pub fn renumber(&mut self, number: &[u32]) {
        for range in self.starts.windows(2).map(|w| w[0]..w[1]) {
            let old = &self.symbols[range.clone()];
            let named = old
                .iter()
                .map(|&s| number.get(s as usize).copied().unwrap_or(s));
            let pairs = self.probabilities[range.clone()]
                .iter()
                .zip(&self.targets[range.clone()]);
            let mut row: Vec<_> = named.zip(pairs).map(|(s, (&p, &t))| (s, p, t)).collect();
            row.sort_unstable_by_key(|s| s.0);
            for (at, (symbol, probability, target)) in range.zip(row) {
                self.symbols[at] = symbol;
                self.probabilities[at] = probability;
                self.targets[at] = target;
            }
        }
    }

    /// How often a story is in each state, on average. Mass is pushed along the transitions until
    /// what still goes round the loops is below rounding: a pass over all of them, then passes
    /// over the loops.
    pub fn visits(&self) -> Vec<f64> {
        let mut visits = vec![0.0; self.states()];
        let mut waiting = vec![0.0; self.states()];
        waiting[0] = 1.0;
        loop {
            let mut moved = 0.0;
            for state in 0..self.states() {
                let mass = std::mem::take(&mut waiting[state]);
                if mass == 0.0 {
                    continue;
                }
                visits[state] += mass;
                for (symbol, probability, target) in self.row(state as u32).iter() {
                    if symbol != self.end {
                        waiting[target as usize] += mass * probability;
                        if target as usize <= state {
                            moved += mass * probability;
                        }
                    }
                }
            }
            if moved <= SETTLED {
                return visits;
            }
        }
    }

    /// `v(q) = reward(q) + sum p v(q')` until the end of the story: the expected sum of rewards
    /// from each state on. Passes against the numbering until no value changes.
    pub fn until_end(&self, reward: &[f64]) -> Vec<f64> {
        let mut values = vec![0.0f64; self.states()];
        loop {
            let mut change = 0.0f64;
            let mut largest = 0.0f64;
            for state in (0..self.states()).rev() {
                let steps = self.row(state as u32);
                let ahead = steps.iter().filter(|s| s.0 != self.end);
                let value = reward[state] + sum(ahead.map(|(_, p, t)| p * values[t as usize]));
                change = change.max((value - values[state]).abs());
                largest = largest.max(value.abs());
                values[state] = value;
            }
            if change <= largest * f64::EPSILON {
                return values;
            }
        }
    }

    /// The entropy of each state's law, in nats.
    pub fn entropies(&self) -> Vec<f64> {
        self.rows()
            .map(|row| stoch::entropy(row.probabilities.iter().copied()))
            .collect()
    }
}

/// New numbers of the states: reverse postorder of a depth-first search, which gives every
/// transition that is not part of a loop a larger target.
fn topological(rows: &[Vec<(u32, f64, u32)>], end: u32) -> Vec<u32> {
    let mut number = vec![u32::MAX; rows.len()];
    let mut seen = vec![false; rows.len()];
    let mut next = rows.len() as u32;
    let mut open: Vec<(u32, usize)> = vec![(0, 0)];
    seen[0] = true;
    while let Some((state, at)) = open.last_mut() {
        let row = &rows[*state as usize];
        if let Some(&(symbol, _, target)) = row.get(*at) {
            *at += 1;
            if symbol != end && !std::mem::replace(&mut seen[target as usize], true) {
                open.push((target, 0));
            }
        } else {
            next -= 1;
            number[*state as usize] = next;
            open.pop();
        }
    }
    number
}
