//! Results as a person reads them.

use lawvere::information::{
    AheadReport, Alignment, DraftReport, DraftRun, FisherReport, KernelReport, LayerReading,
    LayerReport, Likelihoods, Measured, PredictiveDistances, RepresentationDivergence,
    SimilarityReport, Stochasticities,
};

use crate::geometry::two_columns;

fn plus_minus(value: f64, error: Option<f64>) -> String {
    match error {
        Some(error) => format!("{value:.4} ± {error:.4}"),
        None => format!("{value:.4}"),
    }
}

fn rests_on<T>(measured: &Measured<T>) -> String {
    let kind = match measured.kind {
        lawvere::observation::Kind::Contexts => "contexts",
        lawvere::observation::Kind::Positions => "positions of running text",
    };
    format!("{} {kind}", measured.rows)
}

pub fn kernel(found: &KernelReport) -> String {
    let finite = found.per_row.iter().filter(|h| h.is_finite()).count();
    two_columns(&[
        ("kernel", format!("{} x {}", found.inputs, found.outcomes)),
        ("divergence", found.divergence.clone()),
        ("categorical entropy, mean", format!("{:.6}", found.mean)),
        (
            "rows with a finite one",
            format!("{finite} of {}", found.inputs),
        ),
        (
            "mutual information",
            format!("{:.6}", found.mutual_information),
        ),
    ])
}

pub fn nll(found: &Measured<Likelihoods>) -> String {
    let r = &found.result;
    let l = &r.likelihood;
    let mut rows = vec![
        ("of", rests_on(found)),
        (
            "cross-entropy",
            format!(
                "{} nats a token",
                plus_minus(l.cross_entropy, l.cross_entropy_error)
            ),
        ),
        ("= divergence", plus_minus(l.divergence, l.divergence_error)),
        ("+ entropy of data", plus_minus(l.entropy, l.entropy_error)),
        (
            "  corrected for few samples",
            format!("{:.4}", r.entropy_corrected),
        ),
        (
            "entropy of the head",
            plus_minus(l.head_entropy, l.head_entropy_error),
        ),
        ("bits a token", format!("{:.4}", r.bits_per_token)),
    ];
    if let Some(bits) = r.bits_per_byte {
        rows.push(("bits a byte", format!("{bits:.4}")));
    }
    let mut text = two_columns(&rows);
    if let Some(contexts) = &r.contexts {
        text += &format!(
            "\n\n{:>9} {:>9} {:>9} {:>9} {:>7}  context",
            "CE", "KL", "H data", "H model", "seen"
        );
        for c in contexts {
            text += &format!(
                "\n{:9.4} {:9.4} {:9.4} {:9.4} {:7}  {}",
                c.cross_entropy, c.divergence, c.entropy, c.model_entropy, c.occurrences, c.context
            );
        }
    }
    text
}

pub fn stochasticity(found: &Measured<Stochasticities>) -> String {
    let mut lines = vec![
        format!("mean categorical entropies of {}", rests_on(found)),
        format!(
            "{:12} {:>18} {:>12} {:>18} {:>18}",
            "divergence", "model", "data", "data, corrected", "gap"
        ),
    ];
    for d in &found.result.divergences {
        lines.push(format!(
            "{:12} {:>18} {:>12} {:>18} {:>18}",
            d.divergence,
            plus_minus(d.model, d.model_error),
            format!("{:.4}", d.data),
            plus_minus(d.data_corrected, d.data_error),
            plus_minus(d.gap, d.gap_error),
        ));
    }
    lines.join("\n")
}

fn readings(layers: &[LayerReading]) -> Vec<String> {
    let mut lines = vec![format!(
        "{:>5} {:>18} {:>14} {:>14} {:>14}",
        "layer", "I(S;W)", "leave-one-out", "head entropy", "cross-entropy"
    )];
    for r in layers {
        lines.push(format!(
            "{:>5} {:>18} {:>14.4} {:>14.4} {:>14.4}",
            r.layer,
            plus_minus(r.information, r.information_error),
            r.leave_one_out,
            r.head_entropy,
            r.cross_entropy
        ));
    }
    if let Some(first) = layers.first() {
        lines.push(format!(
            "I(S;W) is at most {:.4} nats, the entropy of the rows' weights",
            first.ceiling
        ));
    }
    lines
}

pub fn layers(found: &Measured<LayerReport>) -> String {
    let mut lines = vec![format!("{}, nats", rests_on(found))];
    lines.extend(readings(&found.result.layers));
    lines.push(
        "\ncoherence of successive states (linear CKA), beside states dealt at random".into(),
    );
    for c in &found.result.coherence {
        let [a, b] = c.layers;
        let what = match a == b {
            true => format!("layer {a}, one token on"),
            false => format!("layers {a} and {b}"),
        };
        lines.push(format!("{what:24} {:.4}  ({:.4})", c.cka, c.shuffled));
    }
    lines.join("\n")
}

pub fn surplus(found: &Measured<AheadReport>) -> String {
    let r = &found.result;
    let mut lines = vec![format!(
        "what states tell of the tokens after the next, {}",
        rests_on(found)
    )];
    if let Some(usable) = &r.usable {
        lines.push(format!(
            "\nusable surplus: held-out gain of a head on state and next token over one on the next token, nats\n{} outcomes, all other tokens ({:.1} %) one of them; fitted on {} positions, {} documents held out",
            usable.outcomes,
            100.0 * usable.other_share,
            usable.readings.iter().map(|r| r.fitted_on).max().unwrap_or(0),
            usable.test_documents
        ));
        lines.push(format!(
            "{:>5} {:>5} {:>18} {:>10} {:>10} {:>10}",
            "layer", "k", "gain", "w alone", "s and w", "positions"
        ));
        for u in &usable.readings {
            lines.push(format!(
                "{:>5} {:>5} {:>18} {:>10.4} {:>10.4} {:>10}{}",
                u.layer,
                u.ahead,
                plus_minus(u.gain, Some(u.error)),
                u.baseline,
                u.loss,
                u.positions,
                if u.converged { "" } else { "  not converged" }
            ));
        }
        lines.push("(the sum over k is no bound of a block's surplus)".into());
    }
    if let Some(b) = &r.bounds {
        lines.push(format!(
            "\nbounds of what the context tells of the block of k tokens that the model draws after it\n{} groups of {} contexts ({} different, with {} different states); no lower bound exceeds log {} = {:.4}",
            b.bounds.groups,
            b.bounds.contexts,
            b.distinct_contexts,
            b.distinct_states,
            b.bounds.contexts,
            b.bounds.ceiling
        ));
        lines.push(format!(
            "{:>5} {:>18} {:>18} {:>18} {:>18}",
            "k", "I at least", "I at most", "surplus at least", "surplus at most"
        ));
        for k in &b.bounds.blocks {
            lines.push(format!(
                "{:>5} {:>18} {:>18} {:>18} {:>18}{}",
                k.tokens,
                plus_minus(k.lower, Some(k.lower_error)),
                plus_minus(k.upper, Some(k.upper_error)),
                plus_minus(k.surplus_lower, Some(k.surplus_lower_error)),
                plus_minus(k.surplus_upper, Some(k.surplus_upper_error)),
                if k.saturated { "  saturated" } else { "" }
            ));
        }
    }
    lines.extend(r.notes.iter().map(|note| format!("note: {note}")));
    lines.join("\n")
}

pub fn draft(found: &Measured<DraftRun>) -> String {
    let r = &found.result;
    let mut lines = vec![format!(
        "{} tokens drafted from layer {} among {} tokens",
        r.length, r.layer, r.drafted_tokens
    )];
    for (name, d) in [
        ("prefixes drawn by the model", &r.model_prefixes),
        ("prefixes of held-out documents", &r.corpus_prefixes),
    ] {
        lines.push(format!("\n{name}: {}", d.prefixes));
        lines.extend(drafted(d));
    }
    let d = &r.decoding;
    lines.push(format!(
        "\ndecoding {} texts with drafts, {} rounds each: {} tokens a pass, forecast {} ({:+.2} standard errors apart)",
        d.texts,
        d.rounds,
        plus_minus(d.tokens_per_pass, Some(d.tokens_per_pass_error)),
        plus_minus(d.forecast, Some(d.forecast_error)),
        d.deviations
    ));
    lines.push(format!(
        "a head costs {:.4} passes: {:.3} times as fast with heads side by side, {:.3} one after the other",
        r.model_prefixes.cost, d.speedup_parallel, d.speedup_sequential
    ));
    lines.join("\n")
}

fn drafted(d: &DraftReport) -> Vec<String> {
    let mut lines = vec![format!(
        "{:>5} {:>10} {:>14} {:>18} {:>10}",
        "k", "overlap", "1-√(KL/2)", "first k accepted", "run"
    )];
    for k in 0..d.survival.len() {
        lines.push(format!(
            "{:>5} {:>10.4} {:>14.4} {:>18.4} {:>10.4}",
            k + 1,
            d.overlaps[k],
            d.pinsker[k],
            d.survival[k],
            d.survived[k]
        ));
    }
    lines.push(format!(
        "accepted: forecast {}, run {} ({:+.2} standard errors apart)",
        plus_minus(d.forecast, Some(d.forecast_error)),
        plus_minus(d.measured, Some(d.measured_error)),
        d.deviations
    ));
    lines
}

pub fn fisher(found: &Measured<FisherReport>) -> String {
    let r = &found.result;
    let mut lines = vec![rests_on(found)];
    if let Some(mean) = &r.mean {
        lines.push(format!(
            "mean metric at the head's input: trace {:.4}, effective rank {:.1} of {}, anisotropy {:.4}",
            mean.trace,
            mean.effective_rank,
            mean.eigenvalues.len(),
            mean.anisotropy
        ));
        let name = |tokens: &[(u32, f64)]| {
            let names = tokens.iter().take(6).filter_map(|(t, _)| r.tokens.get(t));
            names.cloned().collect::<Vec<_>>().join(" ")
        };
        for (k, d) in mean.directions.iter().enumerate() {
            lines.push(format!(
                "{:>3} {:10.4}  raises {}  lowers {}",
                k + 1,
                d.eigenvalue,
                name(&d.raised),
                name(&d.lowered)
            ));
        }
    }
    lines.push(format!(
        "\nsingle contexts ({})\n{:>5} {:>9} {:>22} {:>20} {:>14} {:>14}",
        "mean and deviation over contexts",
        "layer",
        "contexts",
        "effective rank",
        "anisotropy",
        "rank of mean",
        "its anisotropy"
    ));
    for l in &r.layers {
        lines.push(format!(
            "{:>5} {:>9} {:>22} {:>20} {:>14.1} {:>14.4}",
            l.layer,
            l.contexts,
            format!("{:.1} ± {:.1}", l.effective_rank.0, l.effective_rank.1),
            format!("{:.4} ± {:.4}", l.anisotropy.0, l.anisotropy.1),
            l.mean_effective_rank,
            l.mean_anisotropy
        ));
    }
    if let Some(mean) = &r.mean_lengths {
        lines.push(format!(
            "\n{} pairs: Fisher-Rao distance {:.4} <= straight path {:.4} <= {:.4} on average; out of order: {}",
            r.paths.len(),
            mean.distance,
            mean.straight,
            mean.bound,
            r.violations
        ));
    }
    lines.extend(r.notes.iter().map(|note| format!("note: {note}")));
    lines.join("\n")
}

pub fn distances(found: &Measured<PredictiveDistances>) -> String {
    let d = &found.result;
    let mut lines = vec![
        format!("{}; CE - H = {:.4} nats", rests_on(found), d.divergence),
        format!(
            "{:16} {:>18} {:>10} {:>18} {:>10}",
            "distance", "E d²", "at most", "distortion", "at most"
        ),
    ];
    for (name, b) in [
        ("total variation", &d.total_variation),
        ("Hellinger", &d.hellinger),
    ] {
        lines.push(format!(
            "{name:16} {:>18} {:>10.4} {:>18} {:>10.4}",
            plus_minus(b.mean_square, b.mean_square_error),
            b.bound,
            plus_minus(b.distortion, b.distortion_error),
            b.distortion_bound
        ));
    }
    lines.push(match d.all {
        true => format!("distortion of all pairs of {} contexts", d.contexts),
        false => format!(
            "distortion of the pairs of {} contexts drawn by their weights",
            d.contexts
        ),
    });
    lines.join("\n")
}

pub fn similarity(found: &Measured<SimilarityReport>) -> String {
    let mut lines = vec![rests_on(found)];
    for operator in &found.result.operators {
        let s = &operator.spectrum;
        let shown: Vec<String> = s
            .eigenvalues
            .iter()
            .take(8)
            .map(|l| format!("{l:.4}"))
            .collect();
        lines.push(format!(
            "\n{} of the {}'s laws, {} contexts{}: trace {:.4}\nspectrum {}{}",
            s.kernel,
            match s.whose {
                lawvere::information::Whose::Data => "data",
                lawvere::information::Whose::Model => "model",
            },
            s.contexts,
            s.landmarks
                .map_or(String::new(), |l| format!(" ({l} landmarks)")),
            s.trace,
            shown.join(" "),
            if s.eigenvalues.len() > shown.len() {
                " ..."
            } else {
                ""
            }
        ));
        for e in &operator.energies {
            lines.push(format!(
                "layer {:>3}: Dirichlet energy of states {:.4}, dealt at random {:.4} ± {:.4}",
                e.layer, e.mean, e.shuffled, e.shuffled_deviation
            ));
        }
    }
    lines.join("\n")
}

pub fn alignment(found: &Measured<Alignment>) -> String {
    let a = &found.result;
    let mut lines = vec![
        format!("{}; {} random deals", rests_on(found), a.deals),
        format!(
            "{:>5} {:>5} {:>10} {:>18} {:>10} {:>8} {:>8} {:>8} {:>10}",
            "layer", "rank", "alignment", "shuffled", "untrained", "CCA", "R²", "CKA", "shuffled"
        ),
    ];
    for l in &a.layers {
        lines.push(format!(
            "{:>5} {:>5} {:>10.4} {:>18} {:>10} {:>8.4} {:>8.4} {:>8.4} {:>10.4}",
            l.layer,
            l.rank,
            l.alignment,
            plus_minus(l.shuffled, Some(l.shuffled_deviation)),
            l.untrained.map_or("-".into(), |u| format!("{u:.4}")),
            l.cca,
            l.r_squared,
            l.cka,
            l.cka_shuffled
        ));
    }
    if let Some(s) = &a.surrogate {
        lines.push(format!(
            "\ncross-entropy {:.4} <= {:.4} = {:.4} (alignment) + {:.4} (norms, kappa {:.4}) + {:.4}",
            s.cross_entropy, s.bound, s.alignment_term, s.norm_term, s.kappa, s.constant
        ));
    }
    lines.join("\n")
}

pub fn divergence(found: &Measured<RepresentationDivergence>) -> String {
    let r = &found.result;
    let mut lines = vec![
        format!(
            "{} and {} contexts, read out of layer {}",
            r.rows[0], r.rows[1], r.layer
        ),
        format!(
            "{:12} {:>18} {:>20} {:>10}",
            "divergence", "model", "by chance", "data"
        ),
    ];
    for d in &r.divergences {
        lines.push(format!(
            "{:12} {:>18} {:>20} {:>10.4}",
            d.divergence,
            plus_minus(d.model, d.model_error),
            plus_minus(d.by_chance, Some(d.by_chance_deviation)),
            d.data
        ));
    }
    lines.join("\n")
}
