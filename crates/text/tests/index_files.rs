//! An index on disk: written whole or not at all, and trusted in nothing when it is opened.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;

use lawvere_text::{
    ContextOptions, Corpus, CorpusOptions, DataKernel, TextError, TextSpace, Tokenizer, Unseen,
};
use proptest::prelude::*;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const ARRAYS: &str = "shard-00000.safetensors";

fn space_of(documents: &[&str]) -> TextSpace {
    let words = Tokenizer::words(documents.iter().copied()).unwrap();
    TextSpace::build(
        &Corpus::from_documents(documents).unwrap(),
        &words,
        &mut |_| {},
    )
    .unwrap()
}

fn space() -> TextSpace {
    space_of(&["a b a b", "b a c", "a"])
}

fn refused(folder: &Path) -> String {
    let error = TextSpace::open(folder).unwrap_err().to_string();
    assert!(!error.contains('\n'), "{error}");
    error
}

/// Changes `space.json` and makes its own checksum right again.
fn edit_info(folder: &Path, edit: impl FnOnce(&mut Value)) {
    let path = folder.join("space.json");
    let mut info: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    edit(&mut info);
    info["checksum"] = json!("");
    info["checksum"] = json!(hash(info.to_string().as_bytes()));
    fs::write(path, info.to_string()).unwrap();
}

fn hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// Puts a tokenizer in the place of an index's own and makes the checksum right again.
fn forge_tokenizer(folder: &Path, bytes: &[u8]) {
    fs::write(folder.join("tokenizer.json"), bytes).unwrap();
    let digest: String = Sha256::digest(bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    edit_info(folder, |info| info["tokenizer_checksum"] = json!(digest));
}

/// Puts a file in the place of the shard and makes the checksums right again.
fn forge(folder: &Path, bytes: &[u8]) {
    fs::write(folder.join(ARRAYS), bytes).unwrap();
    edit_info(folder, |info| {
        let sums = &mut info["shards"][0]["checksums"];
        if let Some(first) = bytes.first_chunk() {
            let length = u64::from_le_bytes(*first)
                .saturating_add(8)
                .min(bytes.len() as u64);
            sums["header"] = json!(hash(&bytes[..length as usize]));
        }
        if let Ok(tensors) = SafeTensors::deserialize(bytes) {
            for (name, tensor) in tensors.tensors() {
                sums[name] = json!(hash(tensor.data()));
            }
        }
    });
}

/// Lets `edit` change one array, and makes the checksum right again.
fn forge_array(folder: &Path, name: &str, edit: impl FnOnce(&mut Dtype, &mut Vec<u8>)) {
    let bytes = fs::read(folder.join(ARRAYS)).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut edit = Some(edit);
    let owned: Vec<(String, Dtype, Vec<u8>)> = tensors
        .tensors()
        .into_iter()
        .map(|(n, t)| {
            let (mut dtype, mut data) = (t.dtype(), t.data().to_vec());
            if n == name {
                edit.take().unwrap()(&mut dtype, &mut data);
            }
            (n, dtype, data)
        })
        .collect();
    let views = owned.iter().map(|(n, dtype, data)| {
        let length = data.len() * 8 / dtype.bitsize();
        (
            n.as_str(),
            TensorView::new(*dtype, vec![length], data).unwrap(),
        )
    });
    forge(folder, &safetensors::serialize(views, None).unwrap());
}

#[test]
fn an_index_is_three_files_that_name_their_sources() {
    let folder = tempfile::tempdir().unwrap();
    let corpus_path = folder.path().join("corpus.txt");
    fs::write(&corpus_path, "a b\nb c\n").unwrap();
    let corpus = Corpus::read(&CorpusOptions::new([corpus_path])).unwrap();
    let words = Tokenizer::words(corpus.documents()).unwrap();
    let mut stages = Vec::new();
    let built =
        TextSpace::build(&corpus, &words, &mut |stage| stages.push(stage.to_owned())).unwrap();
    assert_eq!(stages.len(), 3);
    let index = folder.path().join("new/index");
    built.save(&index).unwrap();
    let opened = TextSpace::open(&index).unwrap();
    let info = opened.info();
    assert_eq!((info.tokens, info.documents, info.bytes), (4, 2, 8));
    assert_eq!((info.shards.len(), info.shards[0].symbol_bits), (1, 16));
    assert_eq!(info.corpus_identity, corpus.identity());
    assert_eq!(info.tokenizer_identity, words.identity());
    assert_eq!(info.sources.len(), 1);
    assert_eq!(info.shards[0].checksums.len(), 6);
    // What was opened can be saved again, also in its own place.
    opened.save(&index).unwrap();
    assert_eq!(TextSpace::open(&index).unwrap().info(), info);
    let beside: Vec<_> = fs::read_dir(index.parent().unwrap())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(beside, ["index"]);
}

/// Where the child of the test below is to save its index.
#[cfg(unix)]
const KILLED_CHILD: &str = "LAWVERE_TEST_SAVE_AND_BE_KILLED";

/// An index of some hundred kilobytes.
#[cfg(unix)]
fn large_space() -> TextSpace {
    let document: Vec<String> = (0..30_000).map(|i| (i * i % 997).to_string()).collect();
    space_of(&[&document.join(" ")])
}

#[cfg(unix)]
#[test]
fn a_killed_write_leaves_nothing_or_the_old_index_under_the_final_name_and_a_rerun_succeeds() {
    use std::os::unix::process::ExitStatusExt;

    if let Some(index) = std::env::var_os(KILLED_CHILD) {
        large_space().save(Path::new(&index)).unwrap();
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let index = folder.path().join("index");
    let save_and_be_killed = || {
        // The kernel kills a process that writes more to a file than it may: here 64 blocks.
        let status = std::process::Command::new("sh")
            .args(["-c", "ulimit -c 0; ulimit -f 64; exec \"$@\"", "sh"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture"])
            .arg("a_killed_write_leaves_nothing_or_the_old_index_under_the_final_name_and_a_rerun_succeeds")
            .env(KILLED_CHILD, &index)
            .output()
            .unwrap()
            .status;
        assert!(status.signal().is_some(), "not killed: {status}");
        let left = fs::read_dir(folder.path()).unwrap().flatten().filter(|e| {
            let name = e.file_name().into_string().unwrap();
            name.starts_with(".lawvere-") && fs::read_dir(e.path()).unwrap().count() > 0
        });
        left.count()
    };
    assert_eq!(save_and_be_killed(), 1);
    assert!(!index.exists());
    assert!(refused(&index).contains("space.json: missing"));

    space().save(&index).unwrap();
    assert_eq!(save_and_be_killed(), 2);
    assert_eq!(TextSpace::open(&index).unwrap().tokens(), 8);
    large_space().save(&index).unwrap();
    assert_eq!(TextSpace::open(&index).unwrap().tokens(), 30_000);
}

#[test]
fn a_write_that_fails_leaves_the_old_index_and_no_rubbish() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "not a folder").unwrap();
    assert!(space().save(&file.join("index")).is_err());
    let names: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(names, ["file"]);
}

#[test]
fn an_index_and_an_empty_folder_are_replaced_and_anything_else_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let index = folder.path().join("index");
    fs::create_dir(&index).unwrap();
    space().save(&index).unwrap();
    let old = TextSpace::open(&index).unwrap();
    space_of(&["x y"]).save(&index).unwrap();
    assert_eq!(TextSpace::open(&index).unwrap().tokens(), 2);
    // The files of the old one are still mapped.
    assert_eq!(old.tokens(), 8);
    assert_eq!(old.count(&[]), 8);

    let precious = index.join("notes.md");
    fs::write(&precious, "mine").unwrap();
    let error = space().save(&index).unwrap_err();
    assert!(matches!(error, TextError::Destination { .. }));
    assert!(error.to_string().contains("notes.md"), "{error}");
    assert!(precious.exists());

    let error = space().save(&precious).unwrap_err().to_string();
    assert!(error.contains("a file of that name is there"), "{error}");
    let other = folder.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("tokenizer.json"), "{}").unwrap();
    let error = TextSpace::check_destination(&other)
        .unwrap_err()
        .to_string();
    assert!(error.contains("not an index"), "{error}");
}

#[test]
fn a_damaged_index_is_one_line_that_names_the_file_and_what_to_do() {
    type Damage = fn(&Path);
    let cases: [(Damage, &str); 27] = [
        (
            |f| fs::remove_file(f.join("space.json")).unwrap(),
            "space.json: missing",
        ),
        (
            |f| fs::remove_file(f.join(ARRAYS)).unwrap(),
            "shard-00000.safetensors: missing",
        ),
        (
            |f| fs::remove_file(f.join("tokenizer.json")).unwrap(),
            "tokenizer.json: missing",
        ),
        (
            |f| fs::write(f.join("space.json"), "{\"sch").unwrap(),
            "space.json: not readable as JSON",
        ),
        (
            |f| fs::write(f.join("space.json"), "{}").unwrap(),
            "space.json: no schema",
        ),
        (
            |f| edit_info(f, |i| i["schema"] = json!("lawvere-text-space/1")),
            "schema \"lawvere-text-space/1\"; this version reads",
        ),
        (
            |f| edit_info(f, |i| i["tokens"] = json!("many")),
            "space.json: invalid type",
        ),
        (
            |f| {
                let text = fs::read_to_string(f.join("space.json")).unwrap();
                fs::write(
                    f.join("space.json"),
                    text.replace("\"bytes\": 13", "\"bytes\": 14"),
                )
                .unwrap();
            },
            "space.json: damaged or edited",
        ),
        (
            |f| {
                edit_info(f, |i| {
                    i["tokens"] = json!(u64::MAX - 3);
                    i["shards"][0]["tokens"] = json!(u64::MAX - 3);
                });
            },
            "too many tokens",
        ),
        (
            |f| edit_info(f, |i| i["tokens"] = json!(9)),
            "its shards do not add up",
        ),
        (
            |f| {
                edit_info(f, |i| {
                    i["tokens"] = json!(9);
                    i["shards"][0]["tokens"] = json!(9);
                });
            },
            "tensor `symbols`",
        ),
        (
            |f| edit_info(f, |i| i["shards"][0]["symbol_bits"] = json!(8)),
            "symbols of 8 bits",
        ),
        (
            |f| edit_info(f, |i| i["shards"][0]["checksums"] = json!({})),
            "damaged or truncated",
        ),
        (
            |f| fs::write(f.join("tokenizer.json"), "{}").unwrap(),
            "tokenizer.json: damaged",
        ),
        (|f| forge_tokenizer(f, b"{}"), "not a tokenizer.json"),
        (
            |f| {
                let words = Tokenizer::words(["a b q"].into_iter()).unwrap();
                forge_tokenizer(f, words.to_json().unwrap().as_bytes());
            },
            "not the tokenizer that space.json names",
        ),
        (
            |f| {
                let bytes = fs::read(f.join(ARRAYS)).unwrap();
                fs::write(f.join(ARRAYS), &bytes[..bytes.len() - 2]).unwrap();
            },
            "shard-00000.safetensors: damaged or truncated",
        ),
        (
            |f| {
                let mut bytes = fs::read(f.join(ARRAYS)).unwrap();
                *bytes.last_mut().unwrap() ^= 1;
                fs::write(f.join(ARRAYS), bytes).unwrap();
            },
            "shard-00000.safetensors: damaged: the checksum of lcp",
        ),
        (
            |f| {
                let path = f.join("tokenizer.json");
                let mut bytes = fs::read(&path).unwrap();
                bytes[10] ^= 1;
                fs::write(path, bytes).unwrap();
            },
            "tokenizer.json: damaged or truncated",
        ),
        (|f| forge(f, b""), "damaged or truncated"),
        (|f| forge(f, &[0xFF; 64]), "damaged or truncated"),
        (
            |f| {
                let mut bytes = vec![0; 64];
                bytes[0] = 56;
                forge(f, &bytes);
            },
            "damaged or truncated: invalid",
        ),
        (
            |f| forge_array(f, "lcp", |d, _| *d = Dtype::I8),
            "tensor `lcp` is I8",
        ),
        (
            |f| forge_array(f, "suffix_array", |_, b| b.truncate(8)),
            "not U32 of shape [11]",
        ),
        (
            |f| forge_array(f, "suffix_array", |_, b| b[3] = 0x7F),
            "points beyond the text",
        ),
        (
            |f| forge_array(f, "symbols", |_, b| b[0] = 200),
            "a symbol is 200",
        ),
        (
            |f| forge_array(f, "document_starts", |_, b| b[4] = 4),
            "where documents end",
        ),
    ];
    for (damage, wanted) in cases {
        let folder = tempfile::tempdir().unwrap();
        let index = folder.path().join("index");
        space().save(&index).unwrap();
        damage(&index);
        let error = refused(&index);
        assert!(error.contains(wanted), "{error:?} does not say {wanted:?}");
        assert!(error.starts_with(&index.display().to_string()), "{error}");
        assert!(
            error.ends_with("rebuild it with `lawvere index build`"),
            "{error}"
        );
        // A damaged index may be replaced, unless nothing says that it was one.
        assert_eq!(
            space().save(&index).is_ok(),
            !wanted.starts_with("space.json: missing")
        );
    }
}

fn ask_everything(space: &TextSpace) {
    for text in [&[][..], &[0], &[0, 1], &[1, 0, 1], &[2, 2], &[9]] {
        space.count(text);
        space.next_tokens(text);
        space.longest_suffix(text);
        let _ = DataKernel::new(space, Unseen::Strict).law(text);
        let _ = DataKernel::new(space, Unseen::BackOff).law(text);
    }
    for order in 0..5 {
        let _ = space.contexts(order, 1, &ContextOptions::default());
        let document_end = lawvere_text::DocumentEnd::Dropped;
        let options = ContextOptions {
            document_end,
            top: Some(2),
            blocks: Some(2),
        };
        let _ = space.contexts(order, 1, &options);
    }
    for i in 0..space.documents() + 1 {
        space.document_tokens(i);
    }
}

proptest! {
    #[test]
    fn a_hostile_index_with_right_checksums_is_refused_or_answers_without_a_panic(
        array in 0usize..5,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), 0u8..12), 1..12),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let index = folder.path().join("index");
        space().save(&index).unwrap();
        let (name, width) = [("symbols", 2), ("suffix_array", 4), ("lcp", 1),
            ("document_starts", 4), ("token_ids", 4)][array];
        forge_array(&index, name, |_, bytes| {
            for (at, value) in &changes {
                let k = at.index(bytes.len() / width) * width;
                bytes[k] = *value;
            }
        });
        if let Ok(space) = TextSpace::open(&index) {
            ask_everything(&space);
        }
    }
}
