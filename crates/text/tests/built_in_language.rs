#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use lawvere_text::*;
use std::time::Instant;

#[test]
fn try_it() {
    let text = include_str!("../src/language/stories.txt");
    let l = Language::from_grammar(&Grammar::parse(text).unwrap()).unwrap();
    println!("WHOLE {}", l.vocab_size());
    let mut by: std::collections::BTreeMap<String, (f64, f64)> = Default::default();
    for q in 0..l.state_count() {
        let (ss, ps, ts) = l.law_of_state(q).unwrap();
        for ((s, p), t) in ss.iter().zip(ps).zip(ts) {
            let w = l
                .words()
                .get(*s as usize)
                .cloned()
                .unwrap_or("<end>".into());
            let e = by.entry(w).or_default();
            e.0 += l.stationary()[q] * p;
            e.1 += l.stationary()[q] * p * l.state_entropies()[*t as usize];
        }
    }
    let mut v: Vec<_> = by.into_iter().collect();
    v.sort_by(|a, b| b.1.0.total_cmp(&a.1.0));
    for (w, (m, h)) in v.iter().take(40) {
        print!("{w} {m:.4} {:.3}; ", h / m);
    }
    for words in [100, 400, 4000] {
        let t = Instant::now();
        let l = Language::stories(words).unwrap();
        println!(
            "{words}: V {} states {} transitions {} in {:?}",
            l.vocab_size(),
            l.state_count(),
            l.transition_count(),
            t.elapsed()
        );
        println!(
            "  rate {} = {} ; {} symbols; wordlist {:?}",
            l.entropy_rate(),
            l.story_entropy() / l.symbols_per_story(),
            l.symbols_per_story(),
            l.words().iter().rev().take(5).collect::<Vec<_>>()
        );
        let t = Instant::now();
        for d in l.documents(3, 4) {
            println!("  * {}", l.text(&d));
        }
        for n in 1..4 {
            let t = Instant::now();
            match l.contexts(n, 300000) {
                Ok(c) => println!("  order {n}: {} contexts {:?}", c.len(), t.elapsed()),
                Err(e) => println!("{e}"),
            }
        }
        if words == 400 {
            println!("  {:?} {:?}", l.conditional_entropies(3), t.elapsed());
        }
    }
}
