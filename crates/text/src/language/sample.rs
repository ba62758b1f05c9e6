use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

use super::Language;

impl Language {
    /// A story's tokens, drawn from the language, without its end.
    pub fn story(&self, rng: &mut impl Rng) -> Vec<u32> {
        let mut story = Vec::new();
        let mut state = 0;
        loop {
            let row = self.machine.row(state);
            let mut left: f64 = rng.random();
            let mut last = (self.machine.end, 0);
            for (symbol, probability, target) in row.iter() {
                last = (symbol, target);
                if left < probability {
                    break;
                }
                left -= probability;
            }
            if last.0 == self.machine.end {
                return story;
            }
            story.push(last.0);
            state = last.1;
        }
    }

    /// `count` stories, one after the other from one seed: the same on every machine, and the
    /// first ones of a longer draw. O(tokens).
    pub fn documents(&self, seed: u64, count: usize) -> Vec<Vec<u32>> {
        let mut rng = StdRng::seed_from_u64(seed);
        (0..count).map(|_| self.story(&mut rng)).collect()
    }
}
