//! Observations that are damaged, inconsistent or hostile: each is one line that names the file.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bytemuck::{NoUninit, Pod};
use common::{copy_folder, fixture, names, random_space, refused};
use lawvere_observe::{Layers, Observation, Observer, PositionPlan};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use tempfile::TempDir;

const INFO: &str = "observation.json";
const CONTEXTS: &str = "contexts.safetensors";
const STATES: &str = "states.safetensors";
const HEAD: &str = "head.safetensors";

#[derive(Clone)]
struct Array {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

type Arrays = BTreeMap<String, Array>;

/// What to spoil, and what the error is to say.
type Case<'a, T> = (&'a dyn Fn(&mut T), &'a str);

fn array<T: NoUninit>(dtype: Dtype, shape: &[usize], values: &[T]) -> Array {
    let bytes = bytemuck::cast_slice(values).to_vec();
    let shape = shape.to_vec();
    Array {
        dtype,
        shape,
        bytes,
    }
}

fn values<T: Pod>(arrays: &Arrays, name: &str) -> Vec<T> {
    let bytes = arrays[name].bytes.chunks_exact(size_of::<T>());
    bytes.map(bytemuck::pod_read_unaligned).collect()
}

/// Changes the values of a vector, and its length if they become more or fewer.
fn change<T: Pod>(arrays: &mut Arrays, name: &str, edit: impl FnOnce(&mut Vec<T>)) {
    let mut data = values::<T>(arrays, name);
    edit(&mut data);
    let array = arrays.get_mut(name).unwrap();
    array.bytes = bytemuck::cast_slice(&data).to_vec();
    if array.shape.len() == 1 {
        array.shape = vec![data.len()];
    }
}

fn read_arrays(path: &Path) -> Arrays {
    let bytes = fs::read(path).unwrap();
    let arrays = SafeTensors::deserialize(&bytes).unwrap();
    let owned = |(name, view): (String, TensorView<'_>)| {
        let array = Array {
            dtype: view.dtype(),
            shape: view.shape().to_vec(),
            bytes: view.data().to_vec(),
        };
        (name, array)
    };
    arrays.tensors().into_iter().map(owned).collect()
}

fn write_arrays(path: &Path, arrays: &Arrays) {
    let views = arrays.iter().map(|(name, a)| {
        let view = TensorView::new(a.dtype, a.shape.clone(), &a.bytes);
        (name, view.unwrap())
    });
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// An Observation of the test's own, to be spoilt; its files are without checksums.
struct Spoilt {
    folder: TempDir,
}

impl Spoilt {
    fn of(source: &Path) -> Self {
        let spoilt = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        copy_folder(source, spoilt.path());
        spoilt.info(|info| {
            for (_, hash) in info["files"].as_object_mut().unwrap() {
                *hash = Value::Null;
            }
        });
        Observation::open(spoilt.path()).unwrap();
        spoilt
    }

    fn fixture() -> Self {
        Self::of(&fixture("measures/observation"))
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    fn info(&self, edit: impl FnOnce(&mut Value)) {
        let path = self.file(INFO);
        let mut info: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        edit(&mut info);
        fs::write(path, info.to_string()).unwrap();
    }

    fn arrays(&self, name: &str, edit: impl FnOnce(&mut Arrays)) {
        let mut arrays = read_arrays(&self.file(name));
        edit(&mut arrays);
        write_arrays(&self.file(name), &arrays);
    }

    fn opens(&self) -> Observation {
        Observation::open(self.path()).unwrap()
    }

    #[track_caller]
    fn is_refused(&self, about: &str, wanted: &str) {
        let error = refused(Observation::open(self.path()), &self.file(about));
        assert!(error.contains(wanted), "{error:?} does not say {wanted:?}");
    }
}

/// Each spoils one file of the fixture.
fn check_arrays(name: &str, cases: &[Case<'_, Arrays>]) {
    for (spoil, wanted) in cases {
        let spoilt = Spoilt::fixture();
        spoilt.arrays(name, spoil);
        spoilt.is_refused(name, wanted);
    }
}

#[test]
fn what_is_no_observation_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let none = folder.path().join("none");
    let error = refused(Observation::open(&none), &none);
    assert!(error.ends_with("no such folder"), "{error}");
    let file = folder.path().join("file");
    fs::write(&file, "text").unwrap();
    let error = refused(Observation::open(&file), &file);
    assert!(error.contains("an observation is a folder"), "{error}");
    let info = folder.path().join(INFO);
    let error = refused(Observation::open(folder.path()), &info);
    assert!(error.contains("no complete observation"), "{error}");
}

#[test]
fn observation_json_is_checked_field_by_field() {
    let cases: [Case<'_, Value>; 20] = [
        (&|i| *i = json!([]), "schema is `missing`"),
        (&|i| *i = json!({"schema": 1}), "schema is `missing`"),
        (
            &|i| i["schema"] = json!("lawvere-observation/2"),
            "`lawvere-observation/2`; this version reads `lawvere-observation/1`",
        ),
        (&|i| i["kind"] = json!("rows"), "unknown variant `rows`"),
        (&|i| i["document_end"] = json!("kept"), "`kept`"),
        (&|i| i["vocab_size"] = json!(0), "vocab_size is 0"),
        (&|i| i["vocab_size"] = json!(-1), "integer `-1`"),
        (&|i| i["vocab_size"] = json!(1u64 << 40), "vocab_size is"),
        (&|i| i["files"] = json!([]), "invalid type"),
        (
            &|i| i["files"]["../a"] = Value::Null,
            "`../a` is not the name",
        ),
        (
            &|i| i["files"]["/etc/passwd"] = Value::Null,
            "is not the name",
        ),
        (
            &|i| i["files"]["a/b"] = Value::Null,
            "`a/b` is not the name",
        ),
        (&|i| i["files"][".."] = Value::Null, "`..` is not the name"),
        (&|i| i["files"]["."] = Value::Null, "`.` is not the name"),
        (&|i| i["files"]["/"] = Value::Null, "`/` is not the name"),
        (&|i| i["files"][""] = Value::Null, "`` is not the name"),
        (
            &|i| {
                i["files"].as_object_mut().unwrap().remove(STATES);
            },
            "`files` does not list states.safetensors",
        ),
        (
            &|i| {
                i.as_object_mut().unwrap().remove("norm_eps");
            },
            "`norm_eps` must be",
        ),
        (&|i| i["norm_eps"] = json!(-1e-5), "`norm_eps` must be"),
        (&|i| i["soft_cap"] = json!(0), "`soft_cap` must be positive"),
    ];
    for (spoil, wanted) in cases {
        let spoilt = Spoilt::fixture();
        spoilt.info(spoil);
        spoilt.is_refused(INFO, wanted);
    }
    let spoilt = Spoilt::fixture();
    let path = spoilt.file(INFO);
    let text = fs::read_to_string(&path).unwrap();
    for cut in [0, 1, text.len() / 2, text.len() - 2] {
        fs::write(&path, &text[..cut]).unwrap();
        spoilt.is_refused(INFO, "not readable as JSON");
    }
}

#[test]
fn a_file_that_is_listed_and_missing_is_named() {
    for name in [CONTEXTS, STATES, HEAD] {
        let spoilt = Spoilt::fixture();
        fs::remove_file(spoilt.file(name)).unwrap();
        spoilt.is_refused(name, "it is missing");
        fs::create_dir(spoilt.file(name)).unwrap();
        spoilt.is_refused(name, "");
    }
    let spoilt = Spoilt::fixture();
    spoilt.info(|i| i["files"]["states-2.safetensors"] = Value::Null);
    spoilt.is_refused("states-2.safetensors", "it is missing");
    let spoilt = Spoilt::fixture();
    fs::remove_file(spoilt.file(CONTEXTS)).unwrap();
    spoilt.info(|i| {
        i["files"].as_object_mut().unwrap().remove(CONTEXTS);
    });
    spoilt.is_refused(CONTEXTS, "");
}

#[test]
fn one_flipped_bit_anywhere_in_a_file_does_not_match_its_checksum() {
    let source = fixture("measures/observation");
    for name in [CONTEXTS, STATES, HEAD] {
        let folder = tempfile::tempdir().unwrap();
        copy_folder(&source, folder.path());
        let path = folder.path().join(name);
        let bytes = fs::read(&path).unwrap();
        for at in [0, 8, bytes.len() / 2, bytes.len() - 1] {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            fs::write(&path, flipped).unwrap();
            let error = refused(Observation::open(folder.path()), &path);
            assert!(error.contains("checksum does not match"), "{error}");
        }
        fs::write(&path, bytes).unwrap();
        Observation::open(folder.path()).unwrap();
    }
}

#[test]
fn truncated_files_are_refused_without_their_checksums_too() {
    for name in [CONTEXTS, STATES, HEAD] {
        let spoilt = Spoilt::fixture();
        let bytes = fs::read(spoilt.file(name)).unwrap();
        for cut in [0, 7, 8, 40, bytes.len() / 2, bytes.len() - 1] {
            fs::write(spoilt.file(name), &bytes[..cut]).unwrap();
            spoilt.is_refused(name, "");
        }
    }
}

#[test]
fn counts_that_are_no_laws_are_refused() {
    check_arrays(
        CONTEXTS,
        &[
            (
                &|a| change::<i64>(a, "counts.tokens", |t| t[3] = 61),
                "`counts.tokens` holds 61, which is not below 61",
            ),
            (
                &|a| change::<i64>(a, "counts.tokens", |t| t[3] = -1),
                "`counts.tokens` holds a negative number",
            ),
            (
                &|a| change::<i64>(a, "counts.tokens", |t| t.swap(0, 1)),
                "row 0: indices must increase strictly",
            ),
            (
                &|a| change::<i64>(a, "counts.tokens", |t| t[1] = t[0]),
                "row 0: indices must increase strictly",
            ),
            (
                &|a| change::<i64>(a, "counts.indptr", |p| p.swap(4, 5)),
                "row 3: indices must increase strictly",
            ),
            (
                // Rows of one token each keep their order whichever way they are cut.
                &|a| {
                    change::<i64>(a, "counts.indptr", |p| *p = vec![0, 2, 1, 3]);
                    for name in ["counts.tokens", "counts.values"] {
                        change::<i64>(a, name, |v| *v = vec![1, 2, 3]);
                    }
                },
                "never decrease, and end with the number of entries (3); the pointer of row 2 is 1",
            ),
            (
                &|a| change::<i64>(a, "counts.indptr", |p| p[0] = 1),
                "row pointers must begin with 0",
            ),
            (
                &|a| {
                    change::<i64>(a, "counts.indptr", |p| {
                        p.pop();
                    })
                },
                "row pointers must",
            ),
            (
                &|a| change::<i64>(a, "counts.indptr", |p| p[2] = i64::MAX),
                "row pointers must",
            ),
            (
                &|a| change::<i64>(a, "counts.indptr", Vec::clear),
                "row pointers must",
            ),
            (
                &|a| change::<i64>(a, "counts.indptr", |p| p.insert(7, p[7])),
                "row 7 has no next token",
            ),
            (
                &|a| change::<i64>(a, "counts.values", |v| v[2] = 0),
                "`counts.values` holds a 0",
            ),
            (
                &|a| change::<i64>(a, "counts.values", |v| v[2] = -3),
                "`counts.values` holds a negative number",
            ),
            (
                &|a| change::<i64>(a, "counts.values", |v| v[..4].fill(i64::MAX)),
                "more than a 64-bit number",
            ),
            (
                &|a| {
                    change::<i64>(a, "counts.values", |v| {
                        v.pop();
                    })
                },
                "indices do not match",
            ),
            (
                &|a| a.get_mut("counts.values").unwrap().dtype = Dtype::F64,
                "`counts.values` is F64; it should hold integers",
            ),
            (
                &|a| {
                    a.remove("counts.values");
                },
                "the array `counts.values` is missing",
            ),
            (
                &|a| {
                    a.insert("counts.indptr".into(), array(Dtype::I64, &[1], &[0i64]));
                    change::<i64>(a, "counts.tokens", Vec::clear);
                    change::<i64>(a, "counts.values", Vec::clear);
                },
                "it has no rows",
            ),
        ],
    );
}

#[test]
fn contexts_that_do_not_fit_the_counts_or_the_vocabulary_are_refused() {
    check_arrays(
        CONTEXTS,
        &[
            (
                &|a| a.get_mut("contexts").unwrap().shape = vec![96],
                "`contexts` has shape [96]; it should be [48, order]",
            ),
            (
                &|a| a.get_mut("contexts").unwrap().shape = vec![24, 4],
                "`contexts` has shape [24, 4]",
            ),
            (
                &|a| a.get_mut("contexts").unwrap().shape = vec![48, 1, 2],
                "`contexts` has shape",
            ),
            (
                // V is the end of a document, which no context holds.
                &|a| change::<i64>(a, "contexts", |t| t[10] = 60),
                "`contexts` holds 60, which is not below 60",
            ),
            (
                &|a| change::<i64>(a, "contexts", |t| t[10] = -60),
                "`contexts` holds a negative number",
            ),
            (
                &|a| {
                    a.remove("contexts");
                },
                "the array `contexts` is missing",
            ),
        ],
    );
    let spoilt = Spoilt::fixture();
    spoilt.info(|i| i["kind"] = json!("positions"));
    spoilt.is_refused(CONTEXTS, "the array `tokens` is missing");
}

#[test]
fn weights_are_a_distribution_over_the_rows() {
    let with = |weights: &[f64]| {
        let spoilt = Spoilt::fixture();
        spoilt.arrays(CONTEXTS, |a| {
            let weights = array(Dtype::F64, &[weights.len()], weights);
            a.insert("weights".into(), weights);
        });
        spoilt
    };
    let even = vec![1.0 / 48.0; 48];
    assert_eq!(with(&even).opens().weights.len(), 48);
    type Spoil = fn(&mut Vec<f64>);
    let cases: [(Spoil, &str); 7] = [
        (|w| w[0] += 1e-6, "they must sum to 1"),
        (|w| w.fill(1.0), "`weights` sum to 48"),
        (
            |w| {
                w[1] += w[0] * 2.0;
                w[0] = -w[0];
            },
            "`weights` must be positive",
        ),
        (
            |w| {
                w[1] += w[0];
                w[0] = 0.0;
            },
            "`weights` must be positive",
        ),
        (|w| w[5] = f64::NAN, "`weights` holds the value NaN"),
        (|w| w[5] = f64::INFINITY, "`weights` holds the value inf"),
        (|w| w.truncate(47), "it should be [48]"),
    ];
    for (spoil, wanted) in cases {
        let mut weights = even.clone();
        spoil(&mut weights);
        with(&weights).is_refused(CONTEXTS, wanted);
    }
}

#[test]
fn blocks_add_up_to_the_counts() {
    // Every count in two parts where it can be cut, in block 0 and block 1.
    let with = |spoil: &dyn Fn(&mut Arrays)| {
        let spoilt = Spoilt::fixture();
        spoilt.arrays(CONTEXTS, |a| {
            let (mut indptr, mut blocks, mut counts) = (vec![0u64], vec![], vec![]);
            for count in values::<i64>(a, "counts.values") {
                for (block, part) in [(0u32, count - count / 2), (1, count / 2)] {
                    if part > 0 {
                        blocks.push(block);
                        counts.push(part as u32);
                    }
                }
                indptr.push(blocks.len() as u64);
            }
            for (name, array) in [
                ("blocks.indptr", array(Dtype::U64, &[indptr.len()], &indptr)),
                ("blocks.block", array(Dtype::U32, &[blocks.len()], &blocks)),
                ("blocks.count", array(Dtype::U32, &[counts.len()], &counts)),
            ] {
                a.insert(name.into(), array);
            }
            spoil(a);
        });
        spoilt
    };
    assert_eq!(with(&|_| ()).opens().blocks.unwrap().blocks(), 2);
    let cases: [Case<'_, Arrays>; 8] = [
        (
            &|a| change::<u32>(a, "blocks.count", |c| c[9] += 1),
            "do not break the counts down",
        ),
        (
            &|a| change::<u32>(a, "blocks.count", |c| c[0] -= 1),
            "do not break the counts down",
        ),
        (
            &|a| change::<u64>(a, "blocks.indptr", |p| p.swap(3, 4)),
            "do not break the counts down",
        ),
        (
            &|a| {
                change::<u64>(a, "blocks.indptr", |p| {
                    p.pop();
                })
            },
            "do not break the counts down",
        ),
        (
            &|a| change::<u64>(a, "blocks.indptr", |p| p[5] = u64::MAX),
            "do not break the counts down",
        ),
        (
            &|a| {
                change::<u32>(a, "blocks.block", |b| {
                    b.pop();
                })
            },
            "do not break the counts down",
        ),
        (
            &|a| change::<u32>(a, "blocks.block", |b| b[0] = u32::MAX - 1),
            "`blocks.block` holds",
        ),
        (
            &|a| {
                a.remove("blocks.count");
            },
            "the array `blocks.count` is missing",
        ),
    ];
    for (spoil, wanted) in cases {
        with(spoil).is_refused(CONTEXTS, wanted);
    }
}

#[test]
fn states_are_finite_and_one_for_each_row_and_layer() {
    let narrow = array(Dtype::F32, &[48, 4], &[0f32; 192]);
    check_arrays(
        STATES,
        &[
            (
                &|a| change::<f32>(a, "layer.3", |x| x[8 * 5 + 2] = f32::NAN),
                "`layer.3` holds the value NaN at row 5, column 2",
            ),
            (
                &|a| change::<f32>(a, "layer.0", |x| x[0] = f32::NEG_INFINITY),
                "`layer.0` holds the value -inf at row 0, column 0",
            ),
            (
                &|a| {
                    for name in ["layer.0", "layer.3"] {
                        a.insert(name.into(), array(Dtype::F32, &[47, 8], &[0f32; 376]));
                    }
                },
                "does not have a state for each of the 48 rows",
            ),
            (
                &|a| {
                    a.insert(
                        "layer.0".into(),
                        array(Dtype::F32, &[49, 8], &[0f32; 49 * 8]),
                    );
                },
                "layer.0 does not have a state for each of the 48 rows",
            ),
            (
                &|a| {
                    a.insert("layer.0".into(), narrow.clone());
                },
                "expected (48, 4), found (48, 8)",
            ),
            (
                &|a| a.get_mut("layer.3").unwrap().shape = vec![384],
                "it should have two dimensions",
            ),
            (
                &|a| {
                    a.insert("layer.3".into(), array(Dtype::F32, &[48, 0], &[0f32; 0]));
                },
                "`layer.3` has no columns",
            ),
            (
                &|a| {
                    a.insert("layer.3".into(), array(Dtype::F64, &[48, 8], &[0f64; 384]));
                },
                "`layer.3` is F64",
            ),
            (&|a| a.clear(), "it holds no array layer.<number>"),
        ],
    );
    for name in [
        "layer", "layer.", "layer.x", "layer.-1", "layer.03", "layer.+3", "states",
    ] {
        let spoilt = Spoilt::fixture();
        spoilt.arrays(STATES, |a| {
            let last = a.remove("layer.3").unwrap();
            a.insert(name.into(), last);
        });
        spoilt.is_refused(STATES, "is not named layer.<number>");
    }
}

#[test]
fn several_files_of_states_hold_the_same_layers_of_consecutive_rows() {
    let second = "states-1.safetensors";
    // The fixture's states, its last rows in a file of their own.
    let cut = |spoil: &dyn Fn(&mut Arrays)| {
        let spoilt = Spoilt::fixture();
        let mut tails = Arrays::new();
        let mut heads = read_arrays(&spoilt.file(STATES));
        for (name, whole) in &mut heads {
            let tail = whole.bytes.split_off(40 * 8 * 4);
            whole.shape = vec![40, 8];
            let shape = vec![8, 8];
            tails.insert(
                name.clone(),
                Array {
                    shape,
                    bytes: tail,
                    ..*whole
                },
            );
        }
        spoil(&mut tails);
        fs::remove_file(spoilt.file(STATES)).unwrap();
        write_arrays(&spoilt.file("states-0.safetensors"), &heads);
        write_arrays(&spoilt.file(second), &tails);
        spoilt.info(|i| {
            let files = i["files"].as_object_mut().unwrap();
            files.remove(STATES);
            files.insert("states-0.safetensors".into(), Value::Null);
            files.insert(second.into(), Value::Null);
        });
        spoilt
    };
    let whole = Spoilt::fixture().opens();
    assert_eq!(cut(&|_| ()).opens().states, whole.states);
    cut(&|a| {
        a.remove("layer.0");
    })
    .is_refused(second, "other layers than the files of states before it");
    cut(&|a| {
        a.insert("layer.3".into(), array(Dtype::F32, &[16, 4], &[0f32; 64]));
    })
    .is_refused(second, "layer.3 has 4 columns, elsewhere 8");
    let short = cut(&|a| {
        a.insert("layer.3".into(), array(Dtype::F32, &[7, 8], &[0f32; 56]));
    });
    short.is_refused("states-0.safetensors", "for each of the 48 rows");
}

#[test]
fn the_head_fits_the_states_and_the_vocabulary() {
    check_arrays(
        HEAD,
        &[
            (
                &|a| a.get_mut("weight").unwrap().shape = vec![120, 4],
                "`weight` has 120 rows; the vocabulary has 60 tokens",
            ),
            (
                &|a| {
                    a.insert("weight".into(), array(Dtype::F32, &[60, 4], &[0f32; 240]));
                },
                "`weight` has 4 columns; the states have 8",
            ),
            (
                &|a| change::<f32>(a, "weight", |w| w[17] = f32::NAN),
                "`weight` holds the value NaN at row 2, column 1",
            ),
            (
                &|a| change::<f32>(a, "bias", |b| b.push(0.0)),
                "`bias` has shape [61]; it should be [60]",
            ),
            (
                &|a| change::<f32>(a, "norm.weight", |w| w.truncate(7)),
                "`norm.weight` has shape [7]; it should be [8]",
            ),
            (
                &|a| change::<f32>(a, "norm.weight", |w| w[0] = f32::INFINITY),
                "`norm.weight` holds the value inf",
            ),
            (
                &|a| {
                    a.remove("weight");
                },
                "the array `weight` is missing",
            ),
        ],
    );
    let spoilt = Spoilt::fixture();
    spoilt.info(|i| i["vocab_size"] = json!(61));
    spoilt.is_refused(HEAD, "the vocabulary has 61 tokens");
}

#[test]
fn a_tokenizer_that_cannot_be_read_is_named() {
    let spoilt = Spoilt::fixture();
    let cut_off = r#"{"version": "1.0", "added_tokens": [], "decoder": {"type": "#;
    for text in ["", "{}", "[1]", cut_off] {
        fs::write(spoilt.file("tokenizer.json"), text).unwrap();
        spoilt.is_refused("tokenizer.json", "not a tokenizer.json");
    }
    fs::write(spoilt.file("tokenizer.json"), [0xff]).unwrap();
    spoilt.is_refused("tokenizer.json", "UTF-8");
}

/// 57 positions of three documents, in windows of up to 8 tokens.
fn positions() -> Spoilt {
    let space = random_space(&[20; 3], 20);
    let observer = Observer::new(&space, None, &Layers::Last).unwrap();
    let plan = PositionPlan {
        positions: 57,
        window: Some(8),
        seed: 0,
    };
    let folder = tempfile::tempdir().unwrap();
    let made = folder.path().join("made");
    let draft = observer.positions(&plan).unwrap();
    observer.make(&draft, &made, &mut |_| {}).unwrap();
    Spoilt::of(&made)
}

#[test]
fn positions_stand_in_their_windows_and_are_followed_by_what_is_counted() {
    let cases: [Case<'_, Arrays>; 13] = [
        (
            &|a| change::<u32>(a, "position.window", |w| w[56] = 1000),
            "position 56 is in window 1000, which does not exist",
        ),
        (
            &|a| change::<u32>(a, "position.window", |w| w[56] = u32::MAX - 1),
            "which does not exist",
        ),
        (
            &|a| change::<u32>(a, "position.prefix_length", |l| l[56] = 9),
            "position 56 is beyond the end of its window",
        ),
        (
            &|a| change::<u32>(a, "position.prefix_length", |l| l[1] = l[0]),
            "position 1 is not after the one before it",
        ),
        (
            &|a| {
                change::<u32>(a, "position.document", |d| {
                    d.pop();
                })
            },
            "position arrays have different lengths",
        ),
        (
            &|a| {
                change::<u32>(a, "position.next", |n| {
                    n.pop();
                })
            },
            "56 positions do not match 57 rows of counts",
        ),
        (
            &|a| change::<u32>(a, "position.next", |n| n[4] = if n[4] == 0 { 1 } else { 0 }),
            "the counts of position 4 are not one occurrence of its `position.next`",
        ),
        (
            &|a| {
                change::<u64>(a, "counts.values", |v| v[6] = 2);
                change::<u32>(a, "blocks.count", |v| v[6] = 2);
            },
            "the counts of position 6 are not one occurrence",
        ),
        (
            &|a| change::<u64>(a, "window_offsets", |o| o[0] = 1),
            "window_offsets do not cut `tokens` into windows",
        ),
        (
            &|a| change::<u64>(a, "window_offsets", |o| o.swap(1, 2)),
            "window_offsets do not cut",
        ),
        (
            &|a| change::<u64>(a, "window_offsets", |o| *o.last_mut().unwrap() = u64::MAX),
            "window_offsets do not cut",
        ),
        (
            &|a| change::<u64>(a, "window_offsets", Vec::clear),
            "window_offsets do not cut",
        ),
        (
            &|a| change::<u32>(a, "tokens", |t| t[0] = 20_000),
            "`tokens` holds 20000",
        ),
    ];
    for (spoil, wanted) in cases {
        let spoilt = positions();
        spoilt.arrays(CONTEXTS, spoil);
        spoilt.is_refused(CONTEXTS, wanted);
    }
}

/// Asks an Observation for everything it can be asked for.
fn use_everything(observation: &Observation) {
    observation.samples();
    observation.laws();
    observation.last_tokens();
    observation.token_label(0);
    (0..observation.rows()).for_each(|row| drop(observation.row_label(row)));
    if let Some(states) = &observation.states {
        let layers: Vec<_> = states.layers().collect();
        let _ = observation.readout(layers[0].0, layers[0].1);
        assert_eq!(layers[0].1.nrows(), observation.rows());
    }
    if observation.rows() < 100 {
        observation.standard_errors(1, |r| Some(vec![r.counts.len() as f64]));
    }
}

#[test]
fn any_changed_byte_is_refused_or_opens_without_a_panic() {
    for spoilt in [Spoilt::fixture(), positions()] {
        for name in names(spoilt.path()) {
            let path = spoilt.file(&name);
            let bytes = fs::read(&path).unwrap();
            // Closer together in the header; coprime steps reach every byte of a number.
            let mut at = 0;
            while at < bytes.len() {
                let mut changed = bytes.clone();
                changed[at] ^= if at % 2 == 0 { 0x01 } else { 0x80 };
                fs::write(&path, changed).unwrap();
                match Observation::open(spoilt.path()) {
                    Ok(observation) => use_everything(&observation),
                    Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
                }
                at += if at < 600 { 3 } else { 31 };
            }
            fs::write(&path, bytes).unwrap();
        }
        spoilt.opens();
    }
}
