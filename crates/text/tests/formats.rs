//! Every format and packing gives the same documents; what is wrong with a file is said with its place.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{ArrayRef, Int32Array, LargeStringArray, RecordBatch, StringArray};
use lawvere_text::{
    BuildOptions, Corpus, CorpusOptions, CorpusReader, DocumentUnit, Format, TextSpace, Tokenizer,
    words_of,
};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use proptest::prelude::*;

const DOCUMENTS: [&str; 4] = [
    "the cat sat",
    "a \"quoted\", dog",
    "two\nlines",
    "das Ende ö",
];

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 1).unwrap()
}

fn jsonl(field: &str) -> Vec<u8> {
    let line = |d: &&str| serde_json::json!({"id": 7, field: d, "more": {"text": 1}}).to_string();
    let mut lines: Vec<String> = DOCUMENTS.iter().map(line).collect();
    lines.insert(1, String::new());
    lines.push(serde_json::json!({field: null}).to_string());
    lines.join("\n").into_bytes()
}

fn separated(separator: char) -> Vec<u8> {
    let mut out = format!("id{separator}text{separator}label\r\n");
    for d in DOCUMENTS {
        let quoted = d.replace('"', "\"\"");
        out += &format!("1{separator}\"{quoted}\"{separator}x\r\n");
    }
    out.into_bytes()
}

fn parquet(path: &Path, values: ArrayRef, compression: Compression) {
    let ids: ArrayRef = Arc::new(Int32Array::from_iter_values(0..values.len() as i32));
    let batch = RecordBatch::try_from_iter([("id", ids), ("text", values)]).unwrap();
    let options = WriterProperties::builder()
        .set_compression(compression)
        .set_max_row_group_row_count(Some(2))
        .build();
    let file = fs::File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(options)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn read(options: CorpusOptions) -> Vec<String> {
    let corpus = Corpus::read(&options).unwrap_or_else(|e| panic!("{e}"));
    corpus.documents().map(ToOwned::to_owned).collect()
}

fn refused(options: CorpusOptions) -> String {
    let error = Corpus::read(&options).unwrap_err().to_string();
    assert!(!error.contains('\n'), "{error}");
    let path = options.paths[0].display().to_string();
    assert!(error.starts_with(&path), "{error}");
    error
}

#[test]
fn every_format_and_packing_holds_the_same_documents() {
    let folder = tempfile::tempdir().unwrap();
    let mut written: Vec<PathBuf> = Vec::new();
    for (name, bytes) in [
        ("a.jsonl", jsonl("text")),
        ("a.ndjson", jsonl("text")),
        ("a.csv", separated(',')),
        ("a.tsv", separated('\t')),
    ] {
        for (suffix, packed) in [
            ("", bytes.clone()),
            (".gz", gzip(&bytes)),
            (".zst", zstd(&bytes)),
        ] {
            let path = folder.path().join(format!("{name}{suffix}"));
            fs::write(&path, packed).unwrap();
            written.push(path);
        }
    }
    for (k, compression) in [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(Default::default()),
        Compression::ZSTD(Default::default()),
        Compression::LZ4_RAW,
        Compression::BROTLI(Default::default()),
    ]
    .into_iter()
    .enumerate()
    {
        let path = folder.path().join(format!("{k}.parquet"));
        let values: ArrayRef = match k % 2 {
            0 => Arc::new(StringArray::from(DOCUMENTS.to_vec())),
            _ => Arc::new(LargeStringArray::from(
                DOCUMENTS
                    .iter()
                    .map(|d| Some(*d))
                    .chain([None])
                    .collect::<Vec<_>>(),
            )),
        };
        parquet(&path, values, compression);
        written.push(path);
    }
    for path in &written {
        assert_eq!(
            read(CorpusOptions::new([path])),
            DOCUMENTS,
            "{}",
            path.display()
        );
    }
    // Named otherwise, with another field, in one folder, by a pattern.
    let other = folder.path().join("records");
    fs::write(&other, jsonl("content")).unwrap();
    let options = CorpusOptions {
        format: Some(Format::Jsonl),
        field: Some("content".into()),
        ..CorpusOptions::new([&other])
    };
    assert_eq!(read(options), DOCUMENTS);
    let all = read(CorpusOptions::new([folder.path()]));
    assert_eq!(all.len(), written.len() * DOCUMENTS.len());
    let pattern = folder.path().join("*.csv*");
    assert_eq!(
        read(CorpusOptions::new([pattern])).len(),
        3 * DOCUMENTS.len()
    );
    // Frames and members one after the other are one file.
    let (a, b) = (b"one\n".as_slice(), b"two\n".as_slice());
    for (name, bytes) in [
        ("b.txt.gz", [gzip(a), gzip(b)].concat()),
        ("b.txt.zst", [zstd(a), zstd(b)].concat()),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        assert_eq!(read(CorpusOptions::new([&path])), ["one", "two"]);
        let whole = CorpusOptions {
            documents: DocumentUnit::File,
            ..CorpusOptions::new([&path])
        };
        assert_eq!(read(whole), ["one\ntwo\n"]);
    }
}

#[test]
fn a_corpus_indexed_as_it_is_read_is_the_one_indexed_from_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.txt.zst");
    let line = |i: usize| format!("line {} of {}", i % 97, i % 13);
    let text: Vec<String> = (0..20_000).map(line).collect();
    fs::write(&path, zstd(text.join("\n").as_bytes())).unwrap();
    let options = CorpusOptions::new([&path]);
    let corpus = Corpus::read(&options).unwrap();
    let reader = CorpusReader::open(options).unwrap();
    let words = words_of(&reader).unwrap();
    assert_eq!(
        words.identity(),
        Tokenizer::words(corpus.documents()).unwrap().identity()
    );
    assert_eq!(reader.identity().unwrap().unwrap(), corpus.identity());
    let build = BuildOptions {
        shard_symbols: 30_000,
    };
    let built = TextSpace::build_with(&corpus, &words, &build, &mut |_| {}).unwrap();
    let index = folder.path().join("index");
    let streamed = TextSpace::build_at(&index, &reader, &words, &build, &mut |_| {}).unwrap();
    assert_eq!(streamed.info().shards.len(), 4);
    built.save(&folder.path().join("saved")).unwrap();
    let saved = TextSpace::open(&folder.path().join("saved")).unwrap();
    assert_eq!(saved.info(), streamed.info());
    assert_eq!(TextSpace::open(&index).unwrap().info(), streamed.info());
}

#[test]
fn appending_is_indexing_both() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a.txt"), folder.path().join("b.jsonl"));
    fs::write(&a, "the cat sat\nthe dog\n").unwrap();
    fs::write(&b, "{\"text\": \"the cat ran\"}\n").unwrap();
    let both = CorpusReader::open(CorpusOptions::new([&a, &b])).unwrap();
    let words = words_of(&both).unwrap();
    let reader = |path: &PathBuf| CorpusReader::open(CorpusOptions::new([path])).unwrap();
    let build = BuildOptions::default();
    let at = |name: &str| folder.path().join(name);
    let one = TextSpace::build_at(&at("one"), &both, &words, &build, &mut |_| {}).unwrap();
    TextSpace::build_at(&at("two"), &reader(&a), &words, &build, &mut |_| {}).unwrap();
    let two = TextSpace::append(&at("two"), &reader(&b), &build, &mut |_| {}).unwrap();
    assert_eq!((one.info().shards.len(), two.info().shards.len()), (1, 2));
    assert_eq!(one.info().corpus_identity, two.info().corpus_identity);
    assert_eq!(one.info().sources, two.info().sources);
    assert_eq!(one.info().corpus_paths, two.info().corpus_paths);
    assert_eq!((two.tokens(), two.documents()), (8, 3));
    let ids = |text| words.encode(text).unwrap();
    for text in ["the", "the cat", "cat", "dog the"] {
        assert_eq!(
            one.next_tokens(&ids(text)),
            two.next_tokens(&ids(text)),
            "{text}"
        );
    }
    let opened = TextSpace::open(&at("two")).unwrap();
    assert_eq!(opened.info(), two.info());
    assert!(TextSpace::verify(&at("two"), &mut |_| {}).unwrap().sound);
}

#[test]
fn token_files_are_cut_at_the_end_token() {
    let folder = tempfile::tempdir().unwrap();
    let ids: Vec<u32> = vec![9, 9, 1, 2, 3, 9, 9, 4, 1, 2, 9];
    let path = |name: &str| folder.path().join(name);
    let narrow: Vec<u8> = ids
        .iter()
        .flat_map(|&id| (id as u16).to_le_bytes())
        .collect();
    let wide: Vec<u8> = ids.iter().flat_map(|&id| id.to_le_bytes()).collect();
    fs::write(path("a.bin"), &narrow).unwrap();
    fs::write(path("a.u32"), &wide).unwrap();
    fs::write(path("a.bin.zst"), zstd(&narrow)).unwrap();
    let long: Vec<u8> = ids
        .iter()
        .flat_map(|&id| i64::from(id).to_le_bytes())
        .collect();
    let tensor = |name: &str, dtype, data: &[u8]| {
        let view = safetensors::tensor::TensorView::new(dtype, vec![ids.len()], data).unwrap();
        let bytes = safetensors::serialize([("ids", view)], None).unwrap();
        fs::write(path(name), bytes).unwrap();
    };
    tensor("a.safetensors", safetensors::Dtype::U16, &narrow);
    tensor("b.safetensors", safetensors::Dtype::I64, &long);
    let numbers: Vec<String> = (0..10).map(|i| i.to_string()).collect();
    let tokenizer = Tokenizer::of_words(&numbers).unwrap();
    for name in [
        "a.bin",
        "a.u32",
        "a.bin.zst",
        "a.safetensors",
        "b.safetensors",
    ] {
        let options = CorpusOptions {
            end_token: Some(9),
            ..CorpusOptions::new([path(name)])
        };
        let reader = CorpusReader::open(options).unwrap();
        let out = path(&format!("{name}.index"));
        let build = BuildOptions::default();
        let space = TextSpace::build_at(&out, &reader, &tokenizer, &build, &mut |_| {}).unwrap();
        assert_eq!(space.documents(), 2, "{name}");
        assert_eq!(space.document_tokens(0).unwrap(), [1, 2, 3], "{name}");
        assert_eq!(space.document_tokens(1).unwrap(), [4, 1, 2], "{name}");
        assert_eq!((space.count(&[1, 2]), space.count(&[3, 4])), (2, 0));
    }
    // One that no token ends is one document.
    let reader = CorpusReader::open(CorpusOptions::new([path("a.bin")])).unwrap();
    let out = path("whole");
    let build = BuildOptions::default();
    let space = TextSpace::build_at(&out, &reader, &tokenizer, &build, &mut |_| {}).unwrap();
    assert_eq!((space.documents(), space.tokens()), (1, 11));
    let small = Tokenizer::of_words(&numbers[..4]).unwrap();
    let error = TextSpace::build_at(&out, &reader, &small, &build, &mut |_| {});
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("a.bin: token 0 is 9, outside") && error.contains("of 4"),
        "{error}"
    );
    assert!(
        words_of(&reader)
            .unwrap_err()
            .to_string()
            .contains("tokenizer")
    );
    fs::write(path("odd.bin"), &narrow[..5]).unwrap();
    let reader = CorpusReader::open(CorpusOptions::new([path("odd.bin")])).unwrap();
    let error = TextSpace::build_at(&out, &reader, &tokenizer, &build, &mut |_| {});
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("odd.bin: its size is no multiple of 2 bytes"),
        "{error}"
    );
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        CorpusOptions::new([path])
    };
    let packed = gzip(&jsonl("text"));
    let squeezed = zstd(&jsonl("text"));
    let whole = folder.path().join("whole.parquet");
    parquet(
        &whole,
        Arc::new(StringArray::from(DOCUMENTS.to_vec())),
        Compression::SNAPPY,
    );
    let table = fs::read(&whole).unwrap();
    let mut flipped = packed.clone();
    flipped[packed.len() - 6] ^= 1;
    let mut holed = table.clone();
    holed[4..60].fill(0xAB);
    let cases: Vec<(CorpusOptions, &str)> = vec![
        (
            write("a.jsonl", &jsonl("content")),
            "a.jsonl: line 1: no field `text`; there are `id`, `content`, `more`; choose with --field",
        ),
        (
            write("number.jsonl", b"{\"text\": \"a\"}\n{\"text\": 7}\n"),
            "line 2: field `text` is a number, not a string",
        ),
        (
            write("cut.jsonl", b"{\"text\": \"a\"}\n{\"text\": \"b"),
            "line 2: not an object of JSON Lines",
        ),
        (
            write("pretty.jsonl", b"[\n{\"text\": \"a\"}]\n"),
            "line 1: not an object of JSON Lines",
        ),
        (
            write("two.jsonl", b"{\"text\": \"a\"} {\"text\": \"b\"}\n"),
            "line 1: not an object of JSON Lines",
        ),
        (
            write("a.csv", b"id,content\n1,x\n"),
            "a.csv: no column `text`; there are `id`, `content`; choose with --field",
        ),
        (
            write("ragged.csv", b"id,text\n1,x\n2,y,z\n"),
            "ragged.csv: line 3: 3 columns, but the header has 2",
        ),
        (
            write("mixed.csv", b"id,text\n1,x\n2,caf\xE9\n"),
            "mixed.csv: line 3: byte 3 of the document (0xE9) is not UTF-8",
        ),
        (
            write("mixed.txt", b"caf\xC3\xA9\ncaf\xE9\n"),
            "mixed.txt: byte 9 (0xE9) is not UTF-8",
        ),
        (
            write("wide.txt", b"\xFF\xFEt\0e\0"),
            "wide.txt: looks binary: byte 3 is NUL",
        ),
        (
            write("cut.jsonl.gz", &packed[..packed.len() - 9]),
            "cut.jsonl.gz: the gzip data are damaged or cut short: they end in the middle",
        ),
        (
            write("flipped.jsonl.gz", &flipped),
            "flipped.jsonl.gz: the gzip data are damaged",
        ),
        (
            write("cut.jsonl.zst", &squeezed[..squeezed.len() - 3]),
            "cut.jsonl.zst: the zstd data are damaged or cut short",
        ),
        (
            write("cut.parquet", &table[..table.len() - 5]),
            "cut.parquet: not a whole Parquet file",
        ),
        (
            write("holed.parquet", &holed),
            "holed.parquet: not a whole Parquet file",
        ),
        (
            CorpusOptions {
                field: Some("words".into()),
                ..CorpusOptions::new([&whole])
            },
            "whole.parquet: no column `words`; there are `id`, `text`; choose with --field",
        ),
        (
            CorpusOptions {
                field: Some("id".into()),
                ..CorpusOptions::new([&whole])
            },
            "whole.parquet: column `id` is Int32, not strings",
        ),
        (
            CorpusOptions::new([folder.path().join("none*.txt")]),
            "no file matches",
        ),
    ];
    for (options, wanted) in cases {
        let error = refused(options);
        assert!(error.contains(wanted), "{error:?} does not say {wanted:?}");
    }
}

#[test]
fn a_line_of_any_length_takes_bounded_memory() {
    let folder = tempfile::tempdir().unwrap();
    // 256 MiB of one letter in a few kilobytes.
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(b"{\"text\": \"").unwrap();
    for _ in 0..256 {
        packer.write_all(&[b'a'; 1 << 20]).unwrap();
    }
    let bomb = packer.finish().unwrap();
    let limit = 1 << 20;
    let open_quote = [b"id,text\n1,\"".as_slice(), &[b'b'; 5 << 20]].concat();
    for (name, bytes, wanted) in [
        ("a.jsonl.gz", &bomb, "line 1 is longer than 1048576 bytes"),
        ("a.txt.gz", &bomb, "line 1 is longer"),
        ("a.csv", &open_quote, "is a quotation mark left open?"),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        let options = CorpusOptions {
            longest_document: limit,
            ..CorpusOptions::new([path])
        };
        let error = refused(options.clone());
        assert!(
            error.contains(wanted) && error.contains("--longest-document"),
            "{error}"
        );
        if name == "a.txt.gz" {
            let whole = CorpusOptions {
                documents: DocumentUnit::File,
                ..options
            };
            assert!(refused(whole).contains("the file is longer"));
        }
    }
}

#[test]
fn no_single_bit_of_a_table_can_bring_the_reader_down() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    let values = StringArray::from(vec!["one", "two", "one"]);
    parquet(&path, Arc::new(values), Compression::SNAPPY);
    let whole = fs::read(&path).unwrap();
    let mut refused = 0;
    for at in 0..8 * whole.len() {
        let mut bytes = whole.clone();
        bytes[at / 8] ^= 1 << (at % 8);
        fs::write(&path, &bytes).unwrap();
        if let Err(error) = Corpus::read(&CorpusOptions::new([&path])) {
            let error = error.to_string();
            assert!(
                error.contains("a.parquet") && !error.contains('\n'),
                "{error}"
            );
            refused += 1;
        }
    }
    assert!(refused > whole.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_damaged_table_is_an_error_or_read_and_never_a_panic(
        compression in prop_oneof![
            Just(Compression::UNCOMPRESSED),
            Just(Compression::SNAPPY),
            Just(Compression::ZSTD(Default::default())),
            Just(Compression::GZIP(Default::default())),
        ],
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        let documents: Vec<String> = (0..40).map(|i| format!("document {}", i % 7)).collect();
        parquet(&path, Arc::new(StringArray::from(documents)), compression);
        let mut bytes = fs::read(&path).unwrap();
        for (place, bits) in &flips {
            let at = place.index(bytes.len());
            bytes[at] ^= bits;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        fs::write(&path, &bytes).unwrap();
        match Corpus::read(&CorpusOptions::new([&path])) {
            Ok(corpus) => prop_assert!(corpus.documents().count() <= 40 * 256),
            Err(error) => {
                let error = error.to_string();
                prop_assert!(error.contains("a.parquet") && !error.contains('\n'), "{}", error);
            }
        }
    }
}
