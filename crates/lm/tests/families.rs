//! Every family against `transformers` in float32, on small random networks (fixtures/families).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

use lawvere_core::{ContextBatch, Factored, Layer};
use lawvere_lm::{Generation, LanguageModel, Sampling};
use safetensors::SafeTensors;
use serde_json::{Value, json};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What a variant shows, for the table of what loads.
const VARIANTS: [(&str, &str, &str); 18] = [
    (
        "gpt2",
        "GPT-2",
        "learned positions, layer norms, fused and transposed matrices, tied head",
    ),
    (
        "gpt-neox",
        "GPT-NeoX, Pythia",
        "parallel residual, half of each head rotated",
    ),
    (
        "gpt-neox-serial",
        "GPT-NeoX, Pythia",
        "serial residual, a quarter of each head rotated",
    ),
    (
        "llama-bias",
        "Llama 2",
        "biases of attention and feed-forward",
    ),
    ("llama-linear", "Llama 2", "linear rotary scaling"),
    ("llama-yarn", "Llama 2", "YaRN with borders of its own"),
    ("llama3", "Llama 3", "Llama 3's rotary scaling, tied head"),
    ("mistral", "Mistral", "a window in every layer"),
    (
        "mistral-bf16",
        "Mistral",
        "BF16 weights, an explicit head dimension",
    ),
    (
        "qwen2",
        "Qwen 2, 2.5",
        "biases of queries, keys and values, tied head",
    ),
    ("qwen2-window", "Qwen 2, 2.5", "a window in upper layers"),
    ("qwen2-yarn", "Qwen 2, 2.5", "YaRN"),
    ("qwen3", "Qwen 3", "norms of queries and keys, head by head"),
    (
        "olmo2",
        "OLMo 2",
        "norms after sub-layers, of all queries and keys",
    ),
    (
        "gemma2",
        "Gemma 2",
        "soft-caps, norms before and after, windows in every other layer",
    ),
    (
        "gemma3",
        "Gemma 3 (text)",
        "windows with rotations of their own, linear scaling elsewhere",
    ),
    ("phi3", "Phi-3", "fused matrices, a window in every layer"),
    (
        "phi3-longrope",
        "Phi-3",
        "rotary factors up to the original length",
    ),
];

/// The same as GGUF files.
const GGUF: [(&str, &str, &str); 14] = [
    ("gpt2", "GPT-2", "fused queries, keys and values"),
    (
        "gpt-neox",
        "GPT-NeoX, Pythia",
        "parallel residual, half of each head rotated",
    ),
    (
        "gpt-neox-serial",
        "GPT-NeoX, Pythia",
        "serial residual, a quarter of each head rotated",
    ),
    ("llama-bias", "Llama 2", "biases of attention"),
    ("llama-linear", "Llama 2", "linear rotary scaling"),
    ("llama3", "Llama 3", "factors of rotary angles as a tensor"),
    ("qwen2", "Qwen 2, 2.5", "biases of queries, keys and values"),
    ("qwen2-yarn", "Qwen 2, 2.5", "YaRN"),
    ("qwen3", "Qwen 3", "norms of queries and keys, head by head"),
    (
        "olmo2",
        "OLMo 2",
        "norms after sub-layers, of all queries and keys",
    ),
    (
        "gemma2",
        "Gemma 2",
        "soft-caps, windows in every other layer",
    ),
    (
        "gemma3",
        "Gemma 3 (text)",
        "windows in five layers of six, with rotations of their own",
    ),
    ("phi3", "Phi-3", "fused matrices"),
    (
        "phi3-longrope",
        "Phi-3",
        "rotary factors up to the original length",
    ),
];

fn folder(variant: &str) -> PathBuf {
    root().join("fixtures/families").join(variant)
}

struct Reference {
    rows: Vec<Vec<u32>>,
    states: Vec<Vec<f32>>,
    logits: Vec<f32>,
}

fn reference(variant: &str) -> Reference {
    reference_of(&folder(variant).join("reference.safetensors"))
}

fn reference_of(path: &Path) -> Reference {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let floats = |name: &str| -> Option<Vec<f32>> {
        let data = file.tensor(name).ok()?.data().to_vec();
        Some(
            data.as_chunks()
                .0
                .iter()
                .map(|b| f32::from_le_bytes(*b))
                .collect(),
        )
    };
    let ids = file.tensor("input_ids").unwrap();
    let tokens: Vec<u32> = ids
        .data()
        .as_chunks()
        .0
        .iter()
        .map(|b| i64::from_le_bytes(*b) as u32)
        .collect();
    Reference {
        rows: tokens.chunks(ids.shape()[1]).map(<[u32]>::to_vec).collect(),
        states: (0..)
            .map_while(|layer| floats(&format!("hidden.{layer}")))
            .collect(),
        logits: floats("logits").unwrap(),
    }
}

/// The largest difference, as a share of the spread of what is wanted.
fn off(found: &[f32], wanted: &[f32]) -> f32 {
    assert_eq!(found.len(), wanted.len());
    let spread = |values: &[f32]| {
        let max = values.iter().copied().fold(f32::MIN, f32::max);
        max - values.iter().copied().fold(f32::MAX, f32::min)
    };
    let pairs = found.iter().zip(wanted);
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / spread(wanted)
}

fn check(name: &str, model: &LanguageModel, reference: &Reference) {
    let mut batch = ContextBatch::new();
    for row in &reference.rows {
        let all: Vec<u32> = (1..=row.len() as u32).collect();
        batch.push(row, &all).unwrap();
    }
    let layers: Vec<Layer> = (0..=model.last_layer().0).map(Layer).collect();
    assert_eq!(layers.len(), reference.states.len(), "{name}");
    let states = model.encode(&batch, &layers).unwrap();
    for (layer, (found, wanted)) in states.iter().zip(&reference.states).enumerate() {
        let off = off(found.data(), wanted);
        assert!(
            off < 1e-5,
            "{name}, layer {layer}: off by {off} of the spread"
        );
    }
    let logits = model.head().logits(states.last().unwrap()).unwrap();
    let off = off(logits.data(), &reference.logits);
    assert!(off < 1e-5, "{name}, logits: off by {off} of the spread");
}

#[test]
fn states_of_every_layer_and_logits_are_those_of_transformers() {
    for (variant, ..) in VARIANTS {
        let model = LanguageModel::open(&folder(variant)).unwrap_or_else(|e| panic!("{e}"));
        check(variant, &model, &reference(variant));
    }
}

#[test]
fn gguf_files_of_every_family_are_the_same_networks() {
    for (name, ..) in GGUF {
        let path = folder("gguf").join(format!("{name}.gguf"));
        let model = LanguageModel::open(&path).unwrap_or_else(|e| panic!("{e}"));
        check(
            name,
            &model,
            &reference_of(&path.with_extension("safetensors")),
        );
    }
}

#[test]
fn networks_before_training_have_the_shapes_of_their_checkpoints() {
    for (variant, ..) in VARIANTS {
        let (own, drawn) = (
            LanguageModel::open(&folder(variant)).unwrap(),
            LanguageModel::untrained(&folder(variant), 1).unwrap(),
        );
        assert_eq!(own.architecture(), drawn.architecture());
        assert_ne!(own.identity(), drawn.identity());
        let row = reference(variant).rows[0].clone();
        let total = drawn.score(&[(&row[..1], &row[1..])]).unwrap().scores[0].total;
        // Near the uniform law.
        let uniform = -((row.len() - 1) as f64) * 61f64.ln();
        assert!(
            (total - uniform).abs() < 0.2 * uniform.abs(),
            "{variant}: {total} {uniform}"
        );
        // Weights are counted as they are stored.
        let bytes = std::fs::read(folder(variant).join("model.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let stored: usize = file
            .tensors()
            .iter()
            .map(|(_, t)| t.shape().iter().product::<usize>())
            .sum();
        assert_eq!(own.architecture().parameters(), stored, "{variant}");
    }
}

#[test]
fn generating_token_by_token_gives_the_laws_of_whole_texts() {
    for (variant, ..) in VARIANTS {
        let model = LanguageModel::open(&folder(variant)).unwrap();
        let rows = reference(variant).rows;
        let prompts: Vec<&[u32]> = vec![&rows[0][..10], &rows[1][..3]];
        let generation = Generation {
            sampling: Sampling::default(),
            samples: 2,
            most: 14,
            stop: Vec::new(),
            seed: 3,
        };
        for text in model.generate(&prompts, &generation).unwrap() {
            let questions = [(prompts[text.prompt], &text.tokens[..])];
            let scores = model.score(&questions).unwrap().scores;
            let total: f64 = text.log_probs.iter().map(|&x| f64::from(x)).sum();
            assert!(
                (scores[0].total - total).abs() < 1e-3,
                "{variant}: {} {total}",
                scores[0].total
            );
        }
    }
}

#[test]
fn attention_maps_are_laws_within_their_windows() {
    for (variant, window, layer) in [
        ("mistral", 7, 1),
        ("gemma2", 6, 1),
        ("gemma2", 24, 2),
        ("qwen2-window", 5, 2),
    ] {
        let model = LanguageModel::open(&folder(variant)).unwrap();
        let tokens = &reference(variant).rows[0];
        let maps = model.attention(tokens, &[layer]).unwrap();
        let n = tokens.len();
        for (row, weights) in maps[0].rows().enumerate() {
            let total: f32 = weights.iter().sum();
            assert!((total - 1.0).abs() < 1e-5, "{variant}");
            let seen = weights.iter().filter(|w| **w > 0.0).count();
            assert_eq!(seen, (row % n + 1).min(window), "{variant}, row {row}");
        }
    }
}

/// Two layers that see 7 tokens each, by relative positions: a state rests on the 13 tokens up to its own, wherever they are.
#[test]
fn a_window_is_the_same_in_a_long_text_and_in_a_piece_of_it() {
    let copy = changed("mistral", |c| c["max_position_embeddings"] = json!(4096));
    let model = LanguageModel::open(copy.path()).unwrap();
    let text: Vec<u32> = (0..2600u32).map(|i| (i * i + i / 7) % 61).collect();
    let places = [20, 129, 1024, 1025, 1030, 1200, 2049, 2600];
    let mut long = ContextBatch::new();
    long.push(&text, &places).unwrap();
    let pieces =
        ContextBatch::of_contexts(places.iter().map(|&p| &text[p as usize - 13..p as usize]));
    let last = [model.last_layer()];
    let (whole, parts) = (
        model.encode(&long, &last).unwrap(),
        model.encode(&pieces, &last).unwrap(),
    );
    for (k, place) in places.iter().enumerate() {
        let off = off(whole[0].row(k), parts[0].row(k));
        assert!(off < 1e-3, "token {place}: off by {off} of the spread");
    }
    // One token less, and it is not the same.
    let shorter =
        ContextBatch::of_contexts(places.iter().map(|&p| &text[p as usize - 12..p as usize]));
    let shorter = model.encode(&shorter, &last).unwrap();
    assert!(off(whole[0].data(), shorter[0].data()) > 1e-3);
}

/// A copy of a variant with another configuration.
fn changed(variant: &str, change: impl FnOnce(&mut Value)) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let read = |name: &str| std::fs::read(folder(variant).join(name)).unwrap();
    std::fs::write(
        copy.path().join("model.safetensors"),
        read("model.safetensors"),
    )
    .unwrap();
    let mut config: Value = serde_json::from_slice(&read("config.json")).unwrap();
    change(&mut config);
    std::fs::write(copy.path().join("config.json"), config.to_string()).unwrap();
    copy
}

/// Configurations as files made before transformers 5 have them.
#[test]
fn older_configurations_say_the_same() {
    let remove = |c: &mut Value, key: &str| {
        c.as_object_mut().unwrap().remove(key);
    };
    type Change<'a> = Box<dyn Fn(&mut Value) + 'a>;
    let scaled = |c: &mut Value, scaling: Value| {
        c["rope_theta"] = c["rope_parameters"]["rope_theta"].clone();
        c["rope_scaling"] = scaling;
        remove(c, "rope_parameters");
    };
    let changes: [(&str, Change); 9] = [
        (
            "llama-linear",
            Box::new(|c| scaled(c, json!({"type": "linear", "factor": 2.0}))),
        ),
        (
            "llama3",
            Box::new(|c| {
                let old = c["rope_parameters"].clone();
                scaled(c, old);
            }),
        ),
        ("mistral", Box::new(|c| scaled(c, Value::Null))),
        (
            "qwen2-window",
            Box::new(|c| {
                scaled(c, Value::Null);
                remove(c, "layer_types");
            }),
        ),
        (
            "qwen2",
            Box::new(|c| {
                scaled(c, Value::Null);
                // Named, and not used.
                c["sliding_window"] = json!(4);
                c["use_sliding_window"] = json!(false);
                remove(c, "layer_types");
            }),
        ),
        (
            "gpt-neox",
            Box::new(|c| {
                c["rotary_pct"] = json!(0.5);
                c["rotary_emb_base"] = json!(10000);
                remove(c, "rope_parameters");
            }),
        ),
        (
            "gemma2",
            Box::new(|c| {
                scaled(c, Value::Null);
                remove(c, "layer_types");
                remove(c, "tie_word_embeddings");
            }),
        ),
        (
            "gemma3",
            Box::new(|c| {
                c["rope_theta"] = json!(100000.0);
                c["rope_local_base_freq"] = json!(1000.0);
                c["rope_scaling"] = json!({"rope_type": "linear", "factor": 4.0});
                remove(c, "rope_parameters");
                remove(c, "layer_types");
                c["sliding_window_pattern"] = json!(3);
                remove(c, "_sliding_window_pattern");
            }),
        ),
        (
            "phi3-longrope",
            Box::new(|c| {
                let old = c["rope_parameters"].clone();
                scaled(
                    c,
                    json!({"type": "longrope", "short_factor": old["short_factor"], "long_factor": old["long_factor"]}),
                );
            }),
        ),
    ];
    for (variant, change) in changes {
        let new = LanguageModel::open(&folder(variant)).unwrap();
        let copy = changed(variant, |c| change(c));
        let old = LanguageModel::open(copy.path()).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(old.architecture(), new.architecture(), "{variant}");
    }
}

#[test]
fn what_is_not_supported_says_so() {
    type Case = (&'static str, fn(&mut Value), &'static str);
    let cases: [Case; 13] = [
        (
            "llama3",
            |c| c["rope_parameters"]["rope_type"] = json!("proportional"),
            "by `proportional`",
        ),
        (
            "llama3",
            |c| c["rope_parameters"]["factor"] = Value::Null,
            "`factor` is missing",
        ),
        (
            "llama3",
            |c| c["rope_parameters"]["factor"] = json!(-1),
            "positive factors",
        ),
        ("llama3", |c| c["hidden_act"] = json!("relu"), "`relu`"),
        (
            "llama3",
            |c| c["hidden_size"] = json!("wide"),
            "`hidden_size` is \"wide\"; it should be a whole number",
        ),
        (
            "llama3",
            |c| c["attention_bias"] = json!(3),
            "true or false",
        ),
        (
            "phi3-longrope",
            |c| c["rope_parameters"]["short_factor"] = json!([1.0]),
            "4 positive ones are needed",
        ),
        (
            "gemma2",
            |c| c["layer_types"] = json!(["full_attention"]),
            "1 layers have a kind of attention",
        ),
        (
            "gemma2",
            |c| c["layer_types"] = json!(["linear_attention", "a", "b"]),
            "linear_attention",
        ),
        (
            "gemma2",
            |c| c["sliding_window"] = json!(0),
            "window of attention is 0",
        ),
        (
            "gemma2",
            |c| c["attn_logit_softcapping"] = json!(-1.0),
            "soft-cap is -1",
        ),
        (
            "gemma3",
            |c| c["use_bidirectional_attention"] = json!(true),
            "sees what comes later",
        ),
        (
            "gpt2",
            |c| c["scale_attn_by_inverse_layer_idx"] = json!(true),
            "scales attention by layers",
        ),
    ];
    for (variant, change, wanted) in cases {
        let copy = changed(variant, change);
        let error = LanguageModel::open(copy.path())
            .expect_err(wanted)
            .to_string();
        assert!(
            !error.contains('\n') && error.contains("config.json") && error.contains(wanted),
            "{error}"
        );
    }
    let copy = changed("gpt2", |c| c["model_type"] = json!("mamba"));
    let error = LanguageModel::open(copy.path()).unwrap_err().to_string();
    assert!(
        error.contains("`mamba`") && error.contains("gpt_neox") && error.contains("phi3"),
        "{error}"
    );
}

#[test]
fn a_beginning_of_text_token_is_added_where_the_checkpoint_adds_one() {
    let open = |files: &[(&str, &str)]| {
        let copy = changed("llama3", |c| c["bos_token_id"] = json!(1));
        for (name, text) in files {
            std::fs::write(copy.path().join(name), text).unwrap();
        }
        let bos = LanguageModel::open(copy.path()).map(|m| m.bos());
        bos.unwrap_or_else(|e| panic!("{e}"))
    };
    assert_eq!(open(&[]), None);
    assert_eq!(
        open(&[("tokenizer_config.json", "{\"add_bos_token\": true}")]),
        Some(1)
    );
    assert_eq!(
        open(&[("tokenizer_config.json", "{\"add_bos_token\": false}")]),
        None
    );
}

/// docs/checkpoints.md lists what is tested here; `LAWVERE_BLESS=1` writes it.
#[test]
fn the_table_of_what_loads_is_what_is_tested() {
    let path = root().join("docs/checkpoints.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (start, end) = ("<!-- families -->\n", "<!-- end -->");
    let (head, rest) = page.split_once(start).unwrap();
    let (_, tail) = rest.split_once(end).unwrap();
    let mut table = String::from(
        "| family | `model_type` | held against transformers with |\n| --- | --- | --- |\n",
    );
    for (variant, family, what) in VARIANTS {
        let config: Value =
            serde_json::from_slice(&std::fs::read(folder(variant).join("config.json")).unwrap())
                .unwrap();
        let kind = config["model_type"].as_str().unwrap();
        table += &format!("| {family} | `{kind}` | {what} |\n");
    }
    table += "\n| family | `general.architecture` | as a GGUF file with |\n| --- | --- | --- |\n";
    for (name, family, what) in GGUF {
        let bytes = std::fs::read(folder("gguf").join(format!("{name}.gguf"))).unwrap();
        // The first field: its name, its type, and a text.
        let key = b"general.architecture";
        let at = bytes.windows(key.len()).position(|w| w == key).unwrap() + key.len() + 4;
        let length = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
        let kind = std::str::from_utf8(&bytes[at + 8..at + 8 + length]).unwrap();
        table += &format!("| {family} | `{kind}` | {what} |\n");
    }
    let wanted = format!("{head}{start}{table}{end}{tail}");
    if std::env::var_os("LAWVERE_BLESS").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    assert!(
        page == wanted
            || Path::new(&path).exists() && std::fs::read_to_string(&path).unwrap() == wanted,
        "docs/checkpoints.md does not list what is tested: run this test with LAWVERE_BLESS=1"
    );
}
