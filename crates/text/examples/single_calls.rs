//! How many questions a second one thread is answered, one call after the other, and what the machine's memory
//! allows. `cargo run --release --example single_calls INDEX PAIRS`, a pair of texts as token ids on each line of PAIRS.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::hint::black_box;
use std::time::Instant;

use lawvere_text::TextSpace;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let [_, index, pairs] = &args[..] else {
        panic!("single_calls INDEX PAIRS");
    };
    let space = TextSpace::open(index.as_ref()).unwrap();
    let ids = |text: &str| -> Vec<u32> { text.split(' ').map(|t| t.parse().unwrap()).collect() };
    let text = std::fs::read_to_string(pairs).unwrap();
    let lines = text.lines().take(200_000);
    let pairs: Vec<(Vec<u32>, Vec<u32>)> = lines
        .map(|line| {
            let (a, b) = line.split_once('\t').unwrap();
            (ids(a), ids(b))
        })
        .collect();
    let start = Instant::now();
    space.prepare();
    println!("prepared in {:.3} s", start.elapsed().as_secs_f64());
    let rate = |what: &str, calls: usize, ask: &mut dyn FnMut(usize)| {
        let start = Instant::now();
        (0..calls).for_each(ask);
        let rate = calls as f64 / start.elapsed().as_secs_f64();
        println!("{what}: {rate:.0} a second");
    };
    rate("distances", pairs.len(), &mut |i| {
        black_box(space.distance(&pairs[i].0, &pairs[i].1));
    });
    rate("counts", pairs.len(), &mut |i| {
        black_box(space.count(&pairs[i].1));
    });
    rate("next-token laws", pairs.len() / 10, &mut |i| {
        black_box(space.next_tokens(&pairs[i].1));
    });

    // A walk through memory in which each place names the next one, and one straight through it.
    let n = 1 << 26;
    let mut next: Vec<u32> = (0..n as u32).collect();
    let mut state = 1u64;
    for i in (1..n).rev() {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        next.swap(i, (state >> 33) as usize % i);
    }
    let start = Instant::now();
    let steps = 5_000_000;
    let end = (0..steps).fold(0u32, |at, _| next[at as usize]);
    let latency = start.elapsed().as_secs_f64() / f64::from(steps);
    let start = Instant::now();
    let total: u64 = next.iter().map(|&x| u64::from(x)).sum();
    let bandwidth = 4.0 * n as f64 / start.elapsed().as_secs_f64();
    black_box((end, total));
    println!(
        "memory: {:.0} ns from one random place of 256 MiB to the next, {:.1} GB/s read straight through",
        1e9 * latency,
        bandwidth / 1e9
    );
}
