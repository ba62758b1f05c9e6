use std::time::Instant;
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let a = lawvere_observe::Observation::open(args[1].as_ref()).unwrap();
    let b = args
        .get(2)
        .filter(|b| *b != "-")
        .map(|b| lawvere_observe::Observation::open(b.as_ref()).unwrap());
    let t = Instant::now();
    let laws =
        lawvere_geometry::ContextLaws::of(&a, lawvere_geometry::Vocabulary::Occurring).unwrap();
    for rank in [64] {
        let p = lawvere_geometry::Prediction::from_proxy(&laws.supports, rank, 0).unwrap();
        println!(
            "rank {rank}: captured {} {:?} {}",
            p.captured(),
            t.elapsed(),
            std::fs::read_to_string("/proc/self/stat")
                .unwrap()
                .split_whitespace()
                .nth(13)
                .unwrap()
        );
    }
    let t = Instant::now();
    let c = lawvere_geometry::compare(&a, b.as_ref(), &Default::default(), 0).unwrap();
    println!(
        "{:?} cpu ticks {}",
        t.elapsed(),
        std::fs::read_to_string("/proc/self/stat")
            .unwrap()
            .split_whitespace()
            .nth(13)
            .unwrap()
    );
    for v in &c.verdicts {
        println!("{} strongest {:?}", v.sentence, v.strongest);
    }
    println!("{:?}", c.notes);
    println!("{:?}", c.loss);
    for r in &c.readings {
        println!(
            "{:?} {:?} {:?} {:.4} | {:.4}±{:.4} | {:?} | {:?} {:.3} {:.3} {:?}",
            r.claim,
            r.layer,
            r.space,
            r.value,
            r.shuffled.mean,
            r.shuffled.deviation,
            r.same_last.map(|c| c.mean),
            r.untrained,
            r.effect,
            r.unexplained,
            r.verdict
        );
    }
    if let Some(out) = args.get(3) {
        std::fs::write(out, serde_json::to_string_pretty(&c).unwrap()).unwrap();
    }
}
