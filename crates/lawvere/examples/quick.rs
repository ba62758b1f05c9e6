#![allow(missing_docs, clippy::unwrap_used)]
fn main() {
    let threads: usize = std::env::args().nth(1).unwrap().parse().unwrap();
    let shapes: Vec<lawvere::BenchShape> = std::env::args()
        .nth(2)
        .unwrap()
        .split(',')
        .map(|s| {
            let (a, b) = s.split_once('x').unwrap();
            lawvere::BenchShape {
                batch: a.parse().unwrap(),
                tokens: b.parse().unwrap(),
            }
        })
        .collect();
    let repeats: usize = std::env::args().nth(3).unwrap().parse().unwrap();
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()
        .unwrap();
    let r = lawvere::bench(
        &lawvere::BenchOptions {
            model: "sample/smollm2-135m-instruct-q4_1.gguf".into(),
            shapes,
            repeats,
        },
        &mut |_| {},
    )
    .unwrap();
    println!(
        "peak {:.0} GFLOP/s, memory {} MiB",
        r.peak_gflops,
        r.peak_memory.unwrap() >> 20
    );
    for s in r.shapes {
        for (n, t) in [
            ("states", &s.states),
            ("logits", &s.logits),
            ("score", &s.score),
        ] {
            let min = t.seconds.iter().copied().fold(f64::MAX, f64::min);
            println!(
                "{} {n}: median {:.3} min {:.3} s, {:.0} tok/s, {:.0} GFLOP/s, {:.2}",
                s.shape, t.median, min, t.tokens_per_second, t.gflops, t.fraction_of_peak
            );
        }
    }
}
