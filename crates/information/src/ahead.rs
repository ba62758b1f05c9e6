//! What follows positions of running text.

use lawvere_observe::{Observation, Positions, Rows};

use crate::InformationError;

/// The positions of an Observation, or an error that says that it has none.
pub(crate) fn positions(observation: &Observation) -> Result<&Positions, InformationError> {
    match &observation.contexts {
        Rows::Positions(positions) => Ok(positions),
        Rows::Contexts { .. } => Err(InformationError::NeedsPositions),
    }
}

/// For every row the `count` tokens from its next token on, `W_t, W_{t+1}, ...`, as far as its window shows
/// them.
pub(crate) fn tokens_ahead(positions: &Positions, count: usize) -> Vec<Vec<u32>> {
    let rows = positions.next.len();
    (0..rows)
        .map(|row| {
            let window = positions.window[row] as usize;
            let bounds = &positions.window_offsets[window..window + 2];
            let tokens = &positions.tokens[bounds[0] as usize..bounds[1] as usize];
            let from = positions.prefix_length[row] as usize;
            let mut ahead: Vec<u32> = tokens[from..].iter().take(count).copied().collect();
            // The last token of a window is known as what followed the position before it.
            if ahead.len() < count {
                let whole = tokens.len() as u32;
                let same = (row..rows).take_while(|&r| positions.window[r] == window as u32);
                let mut at_end = same.filter(|&r| positions.prefix_length[r] == whole);
                ahead.extend(at_end.next().map(|r| positions.next[r]));
            }
            ahead
        })
        .collect()
}

/// Rows and the rows one token after them in the same window.
pub(crate) fn successors(observation: &Observation) -> Vec<(usize, usize)> {
    let Ok(positions) = positions(observation) else {
        return Vec::new();
    };
    (1..positions.next.len())
        .filter(|&row| {
            positions.window[row] == positions.window[row - 1]
                && positions.prefix_length[row] == positions.prefix_length[row - 1] + 1
        })
        .map(|row| (row - 1, row))
        .collect()
}
