//! A made-up report with plausible numbers, and with strings that no corpus should hold.
#![allow(dead_code, clippy::unwrap_used)]

mod spaces;

use std::collections::BTreeMap;

use lawvere_core::RowMatrix;
use lawvere_geometry::{
    Claim, Concept, Control, Heatmap, LayerCollapse, LogOdds, LogOddsPoint, Reading, Space,
    Spectrum, SupportSummary, Verdict,
};
use lawvere_information::{
    Alignment, BlockBounds, Decoding, DifferenceErrors, Direction, DraftReport, FisherRao,
    LayerAlignment, LayerEnergy, LayerReading, LengthLoss, Likelihood, RowEntropies, Similarity,
    SimilarityKernel, SimilarityMap, SimilaritySpectrum, Stochasticity, SurplusBounds, Surrogate,
    UsableSurplus, UsableSurpluses, Whose,
};
use lawvere_metric::{Comparison, Isometry, Pair};
use lawvere_report::{
    CorpusFacts, DraftPage, ExactAhead, GeometryPage, InformationPage, LanguageFacts, MetricPage,
    ModelFacts, Predictions, Provenance, Report, RunningText, StatesPage, Text, TrainingFacts,
    TrainingPoint, TrueGeometry, TrueInformation, TrueMetric, Truth,
};

/// Texts that would do harm if they were taken for anything but text.
pub const HOSTILE: [&str; 11] = [
    "</script><script>alert(1)</script>",
    "<!-- <script>",
    "<img src=x onerror=alert(2)>",
    "%{x} %{customdata[0]}",
    "&lt;b&gt; &amp;",
    "\"'`\\ \\u003c $e^x$",
    "a\u{202e}txt.exe\u{2066}\u{200b}",
    "<a href=\"javascript:alert(3)\">x</a><b>bold</b><br>",
    "=1+1;@c1, @seq\n\t\u{0}\u{7}\u{2028}",
    "]]>-->{{x}}",
    "日本語 👩‍🔬",
];

/// Numbers between 0 and 1, the same every time.
pub struct Noise(u64);

impl Noise {
    pub fn next(&mut self) -> f64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Roughly normal.
    pub fn bell(&mut self) -> f64 {
        (0..6).map(|_| self.next() - 0.5).sum::<f64>() * 1.4
    }
}

const WORDS: [&str; 40] = [
    "the", "and", "of", "that", "in", "shall", "unto", "he", "LORD", "his", "him", "they", "be",
    "is", "with", "not", "all", "I", "it", "thou", "for", "my", "said", "God", "Israel", "king",
    "people", "land", "house", "children", "came", "went", "day", "saying", "against", "man",
    "from", "them", "behold", "earth",
];

const CONTEXTS: usize = 5000;
const LAYERS: [usize; 7] = [0, 5, 10, 15, 20, 25, 30];

fn word(k: usize) -> String {
    if k >= WORDS.len() && k % 17 == 3 {
        return HOSTILE[k / 17 % HOSTILE.len()].to_string();
    }
    let word = WORDS[k % WORDS.len()];
    if k < WORDS.len() {
        format!("·{word}")
    } else {
        format!("·{word}{}", k / WORDS.len())
    }
}

/// A report of m = 5000 contexts of three tokens.
pub fn report() -> Report {
    let mut noise = Noise(7);
    let mut token_labels: BTreeMap<u32, String> =
        (0..2000).map(|k| (k, word(k as usize))).collect();
    for (k, text) in HOSTILE.iter().enumerate() {
        token_labels.insert(100 + k as u32, (*text).to_string());
    }
    token_labels.insert(120, "very long ".repeat(5_000));
    let mut context_labels: Vec<String> = (0..CONTEXTS)
        .map(|i| {
            let w = |k: usize| WORDS[(i * 7 + k * 13 + i / 40) % WORDS.len()];
            format!("{} {} {}", w(0), w(1), w(2))
        })
        .collect();
    for (k, text) in HOSTILE.iter().enumerate() {
        context_labels[k] = (*text).to_string();
    }
    context_labels[HOSTILE.len()] = "endless".repeat(10_000);
    Report {
        schema: "lawvere-report/1".into(),
        provenance: provenance(),
        corpus: CorpusFacts {
            name: "King James <Bible>".into(),
            paths: vec!["sample/king-james.txt".into()],
            bytes: 4_298_239,
            documents: 31_102,
            document_unit: "line".into(),
            tokens: 1_020_304,
            distinct_tokens: 11_873,
            dropped_ends: 812,
            qualified: 38_211,
        },
        model: ModelFacts {
            name: "SmolLM2-135M-Instruct".into(),
            path: "sample/smollm2.gguf".into(),
            parameters: 134_515_008,
            layers: 30,
            hidden_size: 576,
            vocab_size: 49_152,
            context_length: Some(8192),
            training: None,
        },
        choice: "The 5000 most frequent contexts that occur at least 20 times.".into(),
        order: 3,
        caveats: vec!["The model was tuned to follow instructions, which changes its predictions on plain text.".into()],
        metric: metric(&mut noise),
        geometry: geometry(&mut noise),
        information: information(&mut noise),
        states: states(&mut noise),
        truth: None,
        token_labels,
        context_labels,
    }
}

fn provenance() -> Provenance {
    Provenance {
        tool_version: "0.1.0".into(),
        command: "lawvere report --model sample/smollm2.gguf --corpus sample/king-james.txt --seed 1 --out report".into(),
        seed: 1,
        threads: 2,
        corpus_sha256: "b55e956fcf5f187160b3d0dfa93bbac269d127902ad9fb6c8f05a5dab019f6d5".into(),
        tokenizer_sha256: "0".repeat(64),
        model_sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53".into(),
        wall_seconds: 143.2,
        parts: vec![("index".into(), 3.1), ("observe".into(), 71.8), ("metric".into(), 8.8), ("geometry".into(), 12.0), ("information".into(), 47.5)],
        peak_memory: Some(2_345_678_912),
        observation: "observation".into(),
        index: "index".into(),
    }
}

fn isometry(texts: usize, finite_pairs: usize) -> Isometry {
    Isometry {
        pairs: texts * texts,
        finite_pairs,
        yoneda_defect: 0.0,
        co_yoneda_defect: 1.8e-15,
        mismatched_infinities: 0,
        triangle_defect: 1.8e-15,
    }
}

fn metric(noise: &mut Noise) -> MetricPage {
    let mut texts: Vec<Text> = Vec::new();
    for k in 0..60 {
        let name = if k == 4 {
            HOSTILE[0].to_string()
        } else {
            WORDS[k % WORDS.len()].to_string()
        };
        let count = 60_000 / (k as u64 + 1);
        texts.push(Text {
            text: name.clone(),
            last: name,
            length: 1,
            count,
            parent: None,
            corpus_distance: 0.0,
            model_distance: 0.0,
        });
    }
    let mut at = 0;
    while texts.len() < 1000 && at < texts.len() {
        let parent = texts[at].clone();
        let mut left = parent.count as f64 * 0.9;
        for k in 0..7 {
            let count = (left * (0.15 + 0.25 * noise.next())) as u64;
            left -= count as f64;
            if count < 20 || parent.length >= 4 {
                continue;
            }
            let last = if at % 9 == 3 && k == 2 {
                HOSTILE[at % HOSTILE.len()].to_string()
            } else {
                format!("·{}", WORDS[(at * 5 + k * 3) % WORDS.len()])
            };
            let corpus = (parent.count as f64 / count as f64).ln();
            let model = if at == 11 && k == 1 {
                f64::INFINITY
            } else {
                (corpus + 0.3 + 0.7 * noise.bell()).max(0.01)
            };
            texts.push(Text {
                text: format!("{}{}", parent.text, last.replace('·', " ")),
                last,
                length: parent.length + 1,
                count,
                parent: Some(at),
                corpus_distance: corpus,
                model_distance: model,
            });
        }
        at += 1;
    }
    let mut pairs = Vec::new();
    for (to, text) in texts.iter().enumerate() {
        let (mut corpus, mut model, mut up, mut below) = (0.0, 0.0, text.parent, to);
        while let Some(from) = up {
            corpus += texts[below].corpus_distance;
            model += texts[below].model_distance;
            let p = text.count as f64 / texts[from].count as f64;
            pairs.push(Pair {
                from,
                to,
                corpus,
                model,
                corpus_error: ((1.0 - p) / text.count as f64).sqrt(),
            });
            below = from;
            up = texts[from].parent;
        }
    }
    let (n, finite) = (texts.len(), texts.len() + pairs.len());
    MetricPage {
        comparison: Comparison {
            mean_excess: 0.31,
            mean_absolute: 0.62,
            rank_correlation: 0.874,
            edges: texts.iter().filter(|t| t.parent.is_some()).count(),
            uncertain: texts.iter().filter(|t| t.parent.is_some()).count(),
            within_two_errors: 104,
            pairs,
        },
        texts,
        corpus_isometry: isometry(n, finite),
        model_isometry: isometry(n, finite - 1),
        spaces: spaces::spaces(noise),
    }
}

fn geometry(noise: &mut Noise) -> GeometryPage {
    let (rows, columns) = (40, 90);
    let log10_probs = (0..rows)
        .map(|i| {
            (0..columns)
                .map(|_| (noise.next() < 0.9 / (1.0 + i as f64 / 9.0)).then(|| -3.2 * noise.next()))
                .collect()
        })
        .collect();
    let sizes: Vec<(usize, usize)> = (1..160)
        .map(|s| {
            (
                s,
                (900.0 / (s as f64).powf(1.05) * (0.8 + 0.4 * noise.next())) as usize,
            )
        })
        .filter(|s| s.1 > 0)
        .collect();
    let singular_values: Vec<f64> = (1..=60).map(|k| 310.0 / f64::from(k).powf(0.62)).collect();
    let energy = singular_values.iter().map(|s| s * s).sum::<f64>() * 1.6;
    let concepts = (0..8)
        .map(|k: u32| Concept {
            singular_value: singular_values[k as usize],
            tokens: (0..8)
                .map(|t| (100 * k.div_ceil(4) + t + 8 * (k % 2), 0.2))
                .collect(),
            opposite_tokens: (0..8).map(|t| (8 * k + t, -0.1)).collect(),
            contexts: (0..8).map(|t| ((8 * k + t) as usize, 0.02)).collect(),
            opposite_contexts: (0..8).map(|t| (900 + t as usize, -0.02)).collect(),
        })
        .collect();
    let collapse = LAYERS
        .iter()
        .map(|&layer| {
            let x = layer as f64 / 30.0;
            LayerCollapse {
                layer,
                within: 0.22 + 0.6 * x * (1.25 - x),
                between: 0.004,
                shuffled: 0.004,
                shuffled_deviation: 0.0011,
                within_other_last: Some(0.03 + 0.5 * x * (1.25 - x)),
                between_other_last: Some(-0.002),
                between_same_last: Some(0.6 - 0.4 * x),
                within_pairs: 184_212,
                within_other_last_pairs: 88_031,
            }
        })
        .collect();
    let points: Vec<LogOddsPoint> = (0..60_000)
        .map(|k| {
            let corpus = 1.1 * noise.bell();
            LogOddsPoint {
                context: k / 12,
                token: k as u32 % 2000,
                corpus,
                model: 0.83 * corpus + 1.2 * noise.bell(),
                weight: 1.0 / 60_000.0,
            }
        })
        .collect();
    GeometryPage {
        summary: SupportSummary {
            contexts: CONTEXTS,
            samples: 412_873,
            vocabulary: 2000,
            entropy: 2.231,
            entropy_error: Some(0.0123),
            entries: 96_312,
            mean_support: 19.26,
            median_support: 9,
            largest_support: 712,
            deterministic: 611,
            full: 0,
            classes: 4_102,
            sharing: 1_021,
            sizes,
        },
        heatmap: Heatmap {
            tokens: (96..96 + rows as u32).collect(),
            contexts: (0..columns).collect(),
            log10_probs,
        },
        spectrum: Spectrum {
            singular_values,
            energy,
            residual: 3.1e-7,
            concepts,
        },
        collapse,
        log_odds: LogOdds {
            correlation: 0.612,
            correlation_error: Some(0.0081),
            slope: 0.831,
            slope_error: Some(0.012),
            shuffled_correlation: 0.003,
            contexts: 4_389,
            entries: 60_000,
            points,
        },
        predictions: Some(predictions()),
    }
}

/// Every claim, nearer to its ideal in later layers.
fn predictions() -> Predictions {
    let verdicts = [
        Verdict::Visible,
        Verdict::ExplainedByLastToken,
        Verdict::NotVisible,
    ];
    let mut readings = Vec::new();
    for (k, claim) in Claim::ALL.into_iter().enumerate() {
        let words = claim == Claim::WordGram;
        for &layer in if words { &LAYERS[..1] } else { &LAYERS[..] } {
            let effect = (layer as f64 / 40.0 - 0.1 * k as f64 + 0.4).clamp(-1.6, 0.95);
            readings.push(Reading {
                claim,
                layer: (!words).then_some(layer),
                space: (!words).then_some(Space::Readout),
                value: effect,
                ideal: 1.0,
                shuffled: Control {
                    mean: 0.0,
                    deviation: 0.004,
                },
                same_last: Some(Control {
                    mean: 0.5 * effect,
                    deviation: 0.003,
                }),
                untrained: None,
                effect,
                unexplained: 0.5 * effect,
                verdict: verdicts[k % 3],
            });
        }
    }
    Predictions {
        rank: 64,
        captured: 0.41,
        deals: 5,
        readings,
        notes: Vec::new(),
    }
}

fn information(noise: &mut Noise) -> InformationPage {
    let rows = (0..CONTEXTS)
        .map(|i| {
            let data = (2.2 + 1.1 * noise.bell()).max(0.0);
            RowEntropies {
                data,
                model: (data * 0.8 + 1.0 + 0.5 * noise.bell()).max(0.05),
                cross_entropy: data + 0.9 + 0.2 * noise.next(),
                divergence: 0.9,
                samples: 20 + 9_000 / (i as u64 + 1),
            }
        })
        .collect();
    let readings = LAYERS
        .iter()
        .map(|&layer| {
            let x = layer as f64 / 30.0;
            LayerReading {
                layer,
                information: 0.4 + 2.7 * x * x,
                information_error: Some(0.02),
                leave_one_out: 0.5 + 3.0 * x * x,
                ceiling: 7.9,
                head_entropy: 8.2 - 5.0 * x * x,
                cross_entropy: if layer == 0 {
                    f64::INFINITY
                } else {
                    11.5 - 8.3 * x
                },
            }
        })
        .collect();
    let eigenvalues: Vec<f64> = (0..576)
        .map(|k| 900.0 * (-(f64::from(k)).powf(0.55) / 2.0).exp() - if k > 570 { 1.0 } else { 0.0 })
        .collect();
    let directions = (0..8u32)
        .map(|k| Direction {
            eigenvalue: eigenvalues[k as usize],
            raised: (0..8).map(|t| (100 * (k % 2) + 8 * k + t, 0.4)).collect(),
            lowered: (0..8).map(|t| (60 + t, -0.3)).collect(),
        })
        .collect();
    let by_length = (0..9u32)
        .map(|r| LengthLoss {
            from: if r == 0 { 1 } else { (1 << (r - 1)) + 1 },
            to: 1 << r,
            positions: 200 << r,
            loss: 3.1 + 4.0 * (-f64::from(r) / 2.0).exp(),
            error: 0.09 / f64::from(r + 1),
        })
        .collect();
    InformationPage {
        likelihood: Likelihood {
            cross_entropy: 3.2614,
            divergence: 1.0304,
            entropy: 2.231,
            identity_defect: 4.4e-16,
            head_entropy: 2.731,
            cross_entropy_error: Some(0.021),
            divergence_error: Some(0.014),
            entropy_error: Some(0.0123),
            head_entropy_error: Some(0.011),
            rows,
        },
        readings,
        fisher: FisherRao {
            effective_rank: 48.3,
            anisotropy: 0.213,
            trace: eigenvalues.iter().map(|l| l.max(0.0)).sum(),
            eigenvalues,
            directions,
        },
        running: RunningText {
            choice: "Chapters drawn at random, read from their beginning.".into(),
            positions: 51_200,
            documents: 200,
            likelihood: Likelihood {
                cross_entropy: 3.381,
                divergence: 3.381,
                entropy: 0.0,
                identity_defect: 0.0,
                head_entropy: 3.02,
                cross_entropy_error: None,
                divergence_error: None,
                entropy_error: None,
                head_entropy_error: None,
                rows: Vec::new(),
            },
            by_length,
        },
    }
}

/// Every part of the chapter on states, of a model whose language is not known.
fn states(noise: &mut Noise) -> StatesPage {
    let usable = |layer: usize, ahead: usize| UsableSurplus {
        layer,
        ahead,
        gain: 0.03 * layer as f64 / ahead as f64,
        error: 0.01,
        baseline: 4.6,
        loss: 4.6 - 0.03 * layer as f64 / ahead as f64,
        fitted_on: 5300,
        positions: 2000,
        epochs: 5,
        converged: true,
    };
    let readings = [0, 15, 30]
        .iter()
        .flat_map(|&l| [1, 2, 4].map(|k| usable(l, k)));
    let block = |k: usize| {
        let k_ = k as f64;
        BlockBounds {
            tokens: k,
            lower: (2.4 + 0.5 * k_).min(3.8),
            lower_error: 0.08,
            upper: if k == 4 {
                f64::INFINITY
            } else {
                3.0 + 1.5 * k_
            },
            upper_error: if k == 4 { f64::INFINITY } else { 0.3 },
            surplus_lower: 0.4 * (k_ - 1.0),
            surplus_lower_error: 0.07,
            surplus_upper: if k == 4 {
                f64::INFINITY
            } else {
                1.5 * (k_ - 1.0)
            },
            surplus_upper_error: if k == 4 { f64::INFINITY } else { 0.2 },
            saturated: k > 2,
        }
    };
    let drafted = |deviations: f64| DraftReport {
        prefixes: 200,
        overlaps: vec![0.52, 0.41, 0.33],
        pinsker: vec![0.21, -0.2, -0.4],
        survival: vec![0.52, 0.21, 0.07],
        survived: vec![0.5, 0.2, 0.08],
        forecast: 0.8,
        forecast_error: 0.03,
        measured: 0.78,
        measured_error: 0.04,
        deviations,
        tokens_per_verification: 1.8,
        cost: 0.012,
        speedup_sequential: 1.737,
        speedup_parallel: 1.779,
    };
    let layers = LAYERS.iter().map(|&layer| {
        let x = 0.3 + 0.5 * layer as f64 / 30.0;
        LayerAlignment {
            layer,
            rank: 576,
            alignment: x,
            shuffled: 0.12,
            shuffled_deviation: 0.002,
            shuffled_expected: 0.12,
            untrained: Some(0.31),
            canonical_correlations: vec![0.99, 0.5],
            cca: 0.3,
            principal_angles: vec![0.1, 1.05],
            states_whitened: vec![0.5, 0.1],
            r_squared: x,
            prototypes_whitened: vec![0.4, 0.1],
            cka: x - 0.2,
            cka_shuffled: 0.01,
            cka_untrained: Some(0.2),
        }
    });
    let operator = |whose: Whose| Similarity {
        spectrum: SimilaritySpectrum {
            kernel: SimilarityKernel::Bhattacharyya,
            whose,
            contexts: CONTEXTS,
            landmarks: None,
            eigenvalues: (1..20).map(|k| 0.2 / f64::from(k)).collect(),
            trace: 1.0,
            captured: 1.0,
            residual: Some(1e-12),
            eigenvectors: RowMatrix::zeros(0, 0),
        },
        rows: Vec::new(),
        energies: vec![LayerEnergy {
            layer: 30,
            energies: vec![0.04, 0.06],
            mean: 0.05,
            shuffled: 0.09,
            shuffled_deviation: 0.002,
        }],
    };
    let rows: Vec<usize> = (0..24).collect();
    let map = |noise: &mut Noise| -> Vec<Vec<f64>> {
        let of = |i: usize, j: usize, x: f64| if i == j { 1.0 } else { 0.4 * x };
        rows.iter()
            .map(|&i| rows.iter().map(|&j| of(i, j, noise.next())).collect())
            .collect()
    };
    StatesPage {
        usable: Some(UsableSurpluses {
            readings: readings.collect(),
            outcomes: 1025,
            other_share: 0.11,
            test_documents: 60,
        }),
        bounds: Some(SurplusBounds {
            contexts: 48,
            groups: 2,
            ceiling: 48f64.ln(),
            blocks: (1..=4).map(block).collect(),
        }),
        exact_ahead: None,
        draft: Some(DraftPage {
            layer: 30,
            length: 3,
            drafted_tokens: 1024,
            model: drafted(-0.4),
            corpus: drafted(0.3),
            decoding: Decoding {
                texts: 100,
                rounds: 4,
                tokens_per_pass: 1.71,
                tokens_per_pass_error: 0.03,
                forecast: 1.69,
                forecast_error: 0.03,
                deviations: 0.5,
                speedup_sequential: 1.65,
                speedup_parallel: 1.69,
            },
        }),
        stochasticity: entropies(2.7, Some(0.01)),
        exact_stochasticity: None,
        alignment: Alignment {
            contexts: CONTEXTS,
            deals: 5,
            similarity_spectrum: vec![0.4, 0.2],
            layers: layers.collect(),
            surrogate: Some(Surrogate {
                kappa: 2.0,
                alignment_term: -10.0,
                norm_term: 200.0,
                constant: 9.0,
                bound: 199.0,
                cross_entropy: 3.26,
            }),
        },
        similarity: vec![operator(Whose::Model), operator(Whose::Data)],
        map: SimilarityMap {
            kernel: SimilarityKernel::Bhattacharyya,
            model: map(noise),
            data: map(noise),
            rows: rows.clone(),
        },
        along: Vec::new(),
        notes: Vec::new(),
    }
}

fn entropies(model: f64, error: Option<f64>) -> Vec<Stochasticity> {
    ["kl", "tv", "renyi:0.5"]
        .iter()
        .map(|name| Stochasticity {
            divergence: (*name).into(),
            model,
            data: 2.2,
            data_corrected: 2.3,
            gap: model - 2.3,
            model_error: error,
            data_error: error,
            gap_error: error,
        })
        .collect()
}

/// What is known of the states where the language is.
fn known_states(states: &mut StatesPage) {
    states.exact_ahead = Some(ExactAhead {
        block: vec![3.7, 4.9, 5.5, 5.8],
        single: vec![1.2, 1.35, 1.4, 1.45],
    });
    states.exact_stochasticity = Some(entropies(2.7, None));
    states.along = [0, 10, 100, 150]
        .map(|step| TrainingPoint {
            step,
            alignment: 0.1 + 0.004 * step as f64,
            shuffled: 0.04,
            cka: 0.05 + 0.004 * step as f64,
            cka_shuffled: 0.01,
            stochasticity: entropies(6.0 - 0.024 * step as f64, None),
            cross_entropy: 6.0 - 0.02 * step as f64,
        })
        .to_vec();
}

/// The report of a small decoder, trained on a corpus that was drawn from a known language.
pub fn report_with_truth() -> Report {
    let mut report = report();
    let mut noise = Noise(11);
    report.corpus.name = "stories".into();
    report.model.name = "decoder".into();
    report.model.training = Some(training(&mut noise));
    report.corpus.document_unit = "story".into();
    let metric = true_metric(&mut report, &mut noise);
    let geometry = true_geometry(&mut report, &mut noise);
    let information = true_information(&mut report, &mut noise);
    known_states(&mut report.states);
    report.truth = Some(Truth {
        language: LanguageFacts {
            name: format!("children's stories {}", HOSTILE[0]),
            words: 1999,
            states: 14_503,
            transitions: 61_220,
            entropy_rate: 1.9031,
            symbols_per_document: 61.4,
            identity: "5ca1ab1e".repeat(8),
        },
        metric,
        geometry,
        information,
    });
    report
}

fn training(noise: &mut Noise) -> TrainingFacts {
    let losses = (0..2400)
        .map(|k| {
            1.93 + 5.67 * (1.0 + f64::from(k) / 9.0).powf(-0.85) * (1.0 - f64::from(k) / 2500.0)
                + 0.05 * noise.bell()
        })
        .collect();
    TrainingFacts {
        steps: 2400,
        tokens: 2400 * 2048,
        losses,
        seconds: 41.3,
        settings: format!(
            "AdamW, rate 0.003, batches of 32 × 64 tokens {}",
            HOSTILE[2]
        ),
    }
}

/// Compares `first` and `second` distances on the report's texts, with errors from their counts.
fn comparison(texts: &[Text], first: &[f64], second: &[f64]) -> Comparison {
    let mut pairs = Vec::new();
    let mut edges = Vec::new();
    for to in 0..texts.len() {
        let (mut a, mut b, mut up, mut below) = (0.0, 0.0, texts[to].parent, to);
        while let Some(from) = up {
            a += first[below];
            b += second[below];
            let p = texts[to].count as f64 / texts[from].count as f64;
            let pair = Pair {
                from,
                to,
                corpus: a,
                model: b,
                corpus_error: ((1.0 - p) / texts[to].count as f64).sqrt(),
            };
            if texts[to].parent == Some(from) {
                edges.push(pair);
            }
            pairs.push(pair);
            below = from;
            up = texts[from].parent;
        }
    }
    let n = edges.len() as f64;
    let near = |p: &&Pair| (p.model - p.corpus).abs() <= 2.0 * p.corpus_error;
    Comparison {
        mean_excess: edges.iter().map(|p| p.model - p.corpus).sum::<f64>() / n,
        mean_absolute: edges
            .iter()
            .map(|p| (p.model - p.corpus).abs())
            .sum::<f64>()
            / n,
        rank_correlation: 0.971,
        edges: edges.len(),
        uncertain: edges.len(),
        within_two_errors: edges.iter().filter(near).count(),
        pairs,
    }
}

fn true_metric(report: &mut Report, noise: &mut Noise) -> TrueMetric {
    let texts = &mut report.metric.texts;
    let errors: Vec<f64> = texts
        .iter()
        .map(|t| {
            let p = t
                .parent
                .map_or(1.0, |up| t.count as f64 / texts[up].count as f64);
            ((1.0 - p) / t.count as f64).sqrt()
        })
        .collect();
    let distances: Vec<f64> = texts
        .iter()
        .zip(errors)
        .map(|(t, e)| (t.corpus_distance + e * noise.bell()).max(0.0))
        .collect();
    for (text, exact) in texts.iter_mut().zip(&distances) {
        if text.parent.is_some() {
            text.model_distance = (exact + 0.05 + 0.2 * noise.bell()).max(0.005);
        }
    }
    let of = |f: fn(&Text) -> f64| texts.iter().map(f).collect::<Vec<f64>>();
    let (corpus, model) = (of(|t| t.corpus_distance), of(|t| t.model_distance));
    report.metric.comparison = comparison(texts, &corpus, &model);
    TrueMetric {
        corpus: comparison(texts, &corpus, &distances),
        model: comparison(texts, &distances, &model),
        distances,
    }
}

fn true_geometry(report: &mut Report, noise: &mut Noise) -> TrueGeometry {
    let page = &mut report.geometry;
    let mut points = page.log_odds.points.clone();
    for p in &mut points {
        p.corpus += 0.25 * noise.bell();
        p.model = 0.97 * p.corpus + 0.3 * noise.bell();
    }
    for (observed, exact) in page.log_odds.points.iter_mut().zip(&points) {
        observed.model = exact.model;
    }
    // Entries that the corpus never showed.
    points.extend((0..3000).map(|k| LogOddsPoint {
        context: k,
        token: 2000 + k as u32 % 400,
        corpus: -2.5 + 0.4 * noise.bell(),
        model: -2.3 + 0.5 * noise.bell(),
        weight: 1.0 / 60_000.0,
    }));
    page.log_odds = LogOdds {
        correlation: 0.871,
        correlation_error: Some(0.0044),
        slope: 0.902,
        slope_error: Some(0.0071),
        ..page.log_odds.clone()
    };
    let sizes: Vec<(usize, usize)> = page
        .summary
        .sizes
        .iter()
        .map(|&(size, n)| (size + size / 8, n))
        .collect();
    let singular_values: Vec<f64> = page
        .spectrum
        .singular_values
        .iter()
        .enumerate()
        .map(|(k, s)| s * (1.06 - 0.001 * k as f64))
        .collect();
    TrueGeometry {
        summary: SupportSummary {
            samples: 104_021,
            entropy: 2.2620,
            entropy_error: None,
            entries: 104_021,
            mean_support: 20.8,
            median_support: 10,
            largest_support: 801,
            deterministic: 588,
            sizes,
            ..page.summary.clone()
        },
        seen: page.summary.entries,
        unseen_mass: 0.0061,
        spectrum: Spectrum {
            energy: singular_values.iter().map(|s| s * s).sum::<f64>() * 1.7,
            singular_values,
            residual: 2.2e-7,
            concepts: Vec::new(),
        },
        collapse: page
            .collapse
            .iter()
            .map(|l| LayerCollapse {
                within: l.within + 0.004 * l.layer as f64,
                between: l.between - 0.001,
                within_pairs: 201_733,
                ..*l
            })
            .collect(),
        log_odds: LogOdds {
            correlation: 0.954,
            correlation_error: None,
            slope: 0.968,
            slope_error: None,
            entries: points.len(),
            points,
            ..page.log_odds.clone()
        },
    }
}

fn true_information(report: &mut Report, noise: &mut Noise) -> TrueInformation {
    let page = &mut report.information;
    let exact: Vec<RowEntropies> = page
        .likelihood
        .rows
        .iter_mut()
        .map(|row| {
            let data = row.data + 6.0 / row.samples as f64 + 0.05 * noise.next();
            row.model = (data + 0.08 * noise.bell()).max(0.0);
            row.cross_entropy = row.data + 0.07;
            RowEntropies {
                data,
                cross_entropy: data + 0.044,
                ..*row
            }
        })
        .collect();
    let l = &mut page.likelihood;
    (l.entropy, l.divergence, l.cross_entropy) = (2.2310, 0.0712, 2.3022);
    l.head_entropy = 2.2705;
    l.divergence_error = Some(0.0019);
    for reading in &mut page.readings {
        let x = reading.layer as f64 / 30.0;
        reading.cross_entropy = 2.3022 + 6.0 * (1.0 - x).powi(2);
        reading.head_entropy = 2.2705 + 4.0 * (1.0 - x).powi(2);
    }
    let running = &mut page.running;
    for range in &mut running.by_length {
        range.loss = 1.9 + 2.4 * (-f64::from(range.from)).exp() + 0.05;
    }
    let lengths = running.by_length.iter();
    let by_length = lengths
        .clone()
        .map(|l| LengthLoss {
            loss: l.loss - 0.044,
            ..*l
        })
        .collect();
    let gap_by_length = lengths
        .map(|l| LengthLoss {
            loss: 0.044,
            error: 0.003,
            ..*l
        })
        .collect();
    running.likelihood.cross_entropy = 1.9412;
    running.likelihood.cross_entropy_error = Some(0.0108);
    TrueInformation {
        likelihood: Likelihood {
            entropy: 2.2620,
            divergence: 0.0436,
            cross_entropy: 2.3056,
            entropy_error: None,
            divergence_error: None,
            cross_entropy_error: None,
            rows: exact,
            ..page.likelihood.clone()
        },
        difference_errors: Some(DifferenceErrors {
            cross_entropy: 0.0021,
            divergence: 0.0011,
            entropy: 0.0012,
            entropy_corrected: 0.0013,
        }),
        sampling_divergence: 0.0334,
        information: 3.138,
        readings: page
            .readings
            .iter()
            .map(|r| r.cross_entropy + 0.0034)
            .collect(),
        running_loss: 1.8975,
        running_loss_error: 0.0102,
        gap: 0.0437,
        gap_error: 0.0021,
        by_length,
        gap_by_length,
    }
}
