//! Every form that numpy, scipy and safetensors write, and files that lie.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Write};
use std::path::PathBuf;

use proptest::prelude::*;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::npy::write_header;
use super::*;

fn folder(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/arrays");
    root.join(name)
}

fn files(name: &str) -> BTreeMap<String, PathBuf> {
    let entries = fs::read_dir(folder(name)).unwrap();
    entries
        .map(|e| e.unwrap())
        .map(|e| (e.file_name().into_string().unwrap(), e.path()))
        .collect()
}

fn expected() -> RowMatrix<f64> {
    let text = fs::read_to_string(folder("expected.json")).unwrap();
    let rows: Vec<Vec<f64>> = serde_json::from_str(&text).unwrap();
    let (n, m) = (rows.len(), rows[0].len());
    RowMatrix::from_vec(rows.concat(), n, m).unwrap()
}

fn wrong(path: &Path) -> String {
    match MatrixFile::read(path) {
        Err(error) => {
            let text = error.to_string();
            assert!(text.starts_with(path.to_str().unwrap()), "{text}");
            text
        }
        Ok(found) => panic!("{}: {found:?}", path.display()),
    }
}

#[test]
fn every_form_holds_the_same_matrix() {
    let expected = expected();
    let found = files("good");
    assert_eq!(found.len(), 37);
    for (name, path) in found {
        if name == "two.safetensors" {
            continue;
        }
        let file = MatrixFile::read(&path).unwrap();
        assert_eq!(file.matrix.shape(), (3, 4), "{name}");
        let sparse = matches!(file.matrix, Matrix::Sparse { .. });
        assert_eq!(
            sparse,
            name.starts_with("cs") || name.starts_with("coo"),
            "{name}"
        );
        let single = ["f2", "f4", "savez-named"]
            .iter()
            .any(|kind| name.contains(kind));
        assert_eq!(file.precision == Precision::Single, single, "{name}");
        let columns = file.matrix.clone().into_columns();
        assert_eq!(
            (columns.nrows(), columns.ncols(), columns.nnz()),
            (4, 3, 5),
            "{name}"
        );
        let dense = file.matrix.into_dense(&path).unwrap();
        let expected = match name.as_str() {
            "b1.npy" => RowMatrix::from_fn(3, 4, |i, j| f64::from(expected.get(i, j) != 0.0)),
            _ => expected.clone(),
        };
        assert_eq!(dense, expected, "{name}");
        assert_eq!(Matrix::Dense(dense).into_columns(), columns, "{name}");
    }
}

#[test]
fn one_of_several_tensors_is_chosen_by_name() {
    let path = folder("good/two.safetensors");
    assert!(wrong(&path).contains("matrix, vector; choose one"));
    let named = |name: &str| PathBuf::from(format!("{}:{name}", path.display()));
    let file = MatrixFile::read(&named("matrix")).unwrap();
    assert_eq!(file.matrix, Matrix::Dense(expected()));
    let error = MatrixFile::read(&named("other")).unwrap_err().to_string();
    assert!(
        error.contains("no tensor is called `other`; it holds matrix, vector"),
        "{error}"
    );
    let error = MatrixFile::read(&named("vector")).unwrap_err().to_string();
    assert!(error.contains("two dimensions"), "{error}");
    let (vector, precision) = read_vector(&named("vector")).unwrap();
    assert_eq!(
        (vector.as_slice(), precision),
        (expected().row(0), Precision::Double)
    );
}

#[test]
fn a_vector_has_one_row_or_one_column() {
    assert_eq!(
        read_vector(&folder("bad/vector.npy")).unwrap().0,
        [0.0, 1.0, 0.0, 2.0]
    );
    let error = read_vector(&folder("good/f8.npy")).unwrap_err().to_string();
    assert!(error.contains("[3, 4]; it should be one row"), "{error}");
    let error = read_vector(&folder("good/csr.npz"))
        .unwrap_err()
        .to_string();
    assert!(error.contains(".npy or .safetensors"), "{error}");
}

#[test]
fn what_holds_no_matrix_is_refused_by_what_is_wrong_with_it() {
    let said = [
        ("bsr.npz", "format `bsr`; csr, csc and coo are read"),
        ("complex.npy", "type <c16"),
        ("cube.npy", "[1, 3, 4]; a matrix has two dimensions"),
        ("cube.safetensors", "[1, 3, 4]; a matrix has two dimensions"),
        ("data-short.npz", "the pointer of row 3 is 5"),
        ("dates.npy", "type <M8[s]"),
        ("dia.npz", "format `dia`"),
        ("format-unknown.npz", "format `lil`"),
        (
            "index-beyond.npz",
            "`indices`: it holds 4; its numbers should be below 4",
        ),
        (
            "index-fraction.npz",
            "`indices`: it holds F64; it should hold whole numbers",
        ),
        ("long-doubles.npy", "type <f16"),
        ("negative-index.npz", "`indices`: it is negative at place 1"),
        ("number.npy", "shape []; a matrix has two dimensions"),
        (
            "objects.npy",
            "Python objects (a pickle), which are never read",
        ),
        (
            "objects.npz",
            "Python objects (a pickle), which are never read",
        ),
        (
            "one-dimension.npz",
            "shape [4]; a matrix has two dimensions",
        ),
        ("pointers-end.npz", "the pointer of row 3 is 4"),
        ("pointers-fall.npz", "the pointer of row 2 is 3"),
        (
            "pointers-short.npz",
            "`indptr`: 3 numbers; a matrix of this shape has 4",
        ),
        ("pointers-start.npz", "the pointer of row 0 is 1"),
        ("records.npy", "records"),
        ("shape-negative.npz", "`shape`: it is negative at place 1"),
        (
            "shape-three.npz",
            "shape [3, 4, 1]; a matrix has two dimensions",
        ),
        ("text.npy", "it holds text"),
        (
            "twice.npz",
            "row 1, column 2 (counted from 0) is stored twice",
        ),
        ("two-arrays.npz", "it holds the arrays a.npy, b.npy"),
        ("vector.npy", "[4]; a matrix has two dimensions"),
        ("without-data.npz", "the array `data` is missing"),
        ("without-indices.npz", "the array `indices` is missing"),
        ("without-indptr.npz", "the array `indptr` is missing"),
        ("without-shape.npz", "the array `shape` is missing"),
    ];
    let found = files("bad");
    assert_eq!(found.len(), said.len());
    for (name, what) in said {
        let error = wrong(&found[name]);
        assert!(error.contains(what), "{name}: {error}");
    }
}

#[test]
fn a_file_is_what_its_name_says_or_refused() {
    let at = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8]| {
        let path = at.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let array = fs::read(folder("good/f8.npy")).unwrap();
    let archive = fs::read(folder("good/csr.npz")).unwrap();
    let tensors = fs::read(folder("good/f8.safetensors")).unwrap();
    assert!(wrong(&put("a.npz", &array)).contains("ends in .npz, but it is an .npy file; rename"));
    assert!(wrong(&put("a.npy", &archive)).contains("it is an .npz file"));
    assert!(wrong(&put("b.npy", &tensors)).contains("it is an .safetensors file"));
    assert!(wrong(&put("c.npy", b"0,1\n1,0\n")).contains("not a .npy file"));
    assert!(wrong(&put("c.safetensors", b"")).contains("not a .safetensors file"));
    assert!(wrong(&put("c.csv", b"0,1\n1,0\n")).contains(".npy, .npz and .safetensors are read"));
    assert!(wrong(at.path()).contains("not a regular file"));
    assert!(wrong(&at.path().join("none.npy")).contains("No such file"));
    // Without an ending the contents decide.
    assert!(MatrixFile::read(&put("array", &array)).is_ok());
    assert!(MatrixFile::read(&put("archive", &archive)).is_ok());
    assert!(MatrixFile::read(&put("tensors", &tensors)).is_ok());
}

/// An array that holds no more than its header.
fn liar(version: u8, text: &str) -> Vec<u8> {
    let mut bytes = npy::MAGIC.to_vec();
    bytes.extend([version, 0]);
    match version {
        1 => bytes.extend((text.len() as u16).to_le_bytes()),
        _ => bytes.extend((text.len() as u32).to_le_bytes()),
    }
    bytes.extend(text.as_bytes());
    bytes
}

#[test]
fn a_header_that_lies_takes_no_memory() {
    let parse = |bytes: &[u8]| MatrixFile::parse(bytes, MatrixFormat::Npy, None).unwrap_err();
    let of_shape = |shape: &str| {
        let text = format!("{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}\n");
        parse(&liar(1, &text))
    };
    for shape in ["(100000, 100000)", "(1, 99999999999)", "(3, 4)"] {
        let error = of_shape(shape);
        assert!(error.contains("truncated or its header wrong"), "{error}");
    }
    for shape in ["(4294967296, 4294967296)", "(99999999999999999999, 1)"] {
        assert!(of_shape(shape).contains("beyond any file"));
    }
    assert!(of_shape("(-3, 4)").contains("negative"));
    assert!(of_shape("(0, 10000000000)").contains("fewer than 2^32"));
    assert!(of_shape("12").contains("shape must be"));
    let mut long = npy::MAGIC.to_vec();
    long.extend([2, 0]);
    long.extend(u32::MAX.to_le_bytes());
    long.extend([b' '; 100]);
    assert!(parse(&long).contains("its header claims 4294967295 bytes"));
    let deep = format!("{}{}", "(".repeat(4000), ")".repeat(4000));
    assert!(parse(&liar(3, &deep)).contains("nested deeper"));
    assert!(parse(&liar(9, "{}")).contains("version 9"));
    assert!(parse(&liar(1, "{'shape': (1, 1)}")).contains("missing key"));
    assert!(parse(&liar(1, "__import__('os')")).contains("cannot be read"));
}

/// An archive of one deflated member, `a.npy`, with these sizes claimed for it.
fn archive_claiming(contents: &[u8], size: u32) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    zip.start_file("a.npy", options).unwrap();
    zip.write_all(contents).unwrap();
    let mut bytes = zip.finish().unwrap().into_inner();
    // The size unpacked stands in the local header and in the central directory.
    let central = bytes.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
    for at in [22, central + 24] {
        bytes[at..at + 4].copy_from_slice(&size.to_le_bytes());
    }
    bytes
}

#[test]
fn an_archive_that_lies_takes_no_memory() {
    let mut contents = Vec::new();
    write_header(&mut contents, "|u1", &[100, 100]).unwrap();
    contents.resize(contents.len() + 10_000, 0);
    let true_size = contents.len() as u32;
    let parse = |size| {
        let bytes = archive_claiming(&contents, size);
        MatrixFile::parse(&bytes, MatrixFormat::Npz, None)
    };
    assert!(parse(true_size).is_ok());
    let error = parse(u32::MAX - 1).unwrap_err();
    assert!(error.contains("more than deflate can"), "{error}");
    let error = parse(true_size + 50).unwrap_err();
    assert!(error.contains("its header wrong"), "{error}");
    // Header and claim agree; the stream holds less.
    let mut promising = Vec::new();
    write_header(&mut promising, "|u1", &[200, 100]).unwrap();
    promising.resize(true_size as usize, 0);
    let bytes = archive_claiming(&promising, true_size + 10_000);
    let error = MatrixFile::parse(&bytes, MatrixFormat::Npz, None).unwrap_err();
    assert!(
        error.contains("does not") || error.contains("damaged"),
        "{error}"
    );
    // The stream holds more.
    let mut modest = Vec::new();
    write_header(&mut modest, "|u1", &[10, 10]).unwrap();
    modest.resize(true_size as usize, 0);
    let small = (true_size as usize - 10_000 + 100) as u32;
    let bytes = archive_claiming(&modest, small);
    let error = MatrixFile::parse(&bytes, MatrixFormat::Npz, None).unwrap_err();
    assert!(
        error.contains("does not") || error.contains("damaged"),
        "{error}"
    );
}

#[test]
fn what_does_not_fit_into_memory_is_refused() {
    assert!(room(1).is_ok());
    let error = room(u64::MAX).unwrap_err();
    assert!(error.contains("GB of memory"), "{error}");
    let wide = SparseRows::<f64>::from_parts(u32::MAX as usize, vec![0; 100_001], vec![], vec![]);
    let matrix = Matrix::Sparse {
        columns: wide.unwrap(),
    };
    assert!(matrix.into_dense(Path::new("wide.npz")).is_err());
}

#[test]
fn every_truncated_file_is_refused_and_no_changed_byte_brings_a_panic() {
    for (name, path) in files("good") {
        let bytes = fs::read(&path).unwrap();
        let format = MatrixFormat::of_name(&path).unwrap();
        let tensor = (name == "two.safetensors").then_some("matrix");
        assert!(MatrixFile::parse(&bytes, format, tensor).is_ok(), "{name}");
        for length in 0..bytes.len() {
            let found = MatrixFile::parse(&bytes[..length], format, tensor);
            assert!(found.is_err(), "{name} cut to {length} bytes");
        }
        for at in 0..bytes.len() {
            for change in [0x01, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[at] ^= change;
                let _ = MatrixFile::parse(&changed, format, tensor);
            }
        }
    }
}

#[test]
fn destinations_are_refused_before_the_work() {
    let at = tempfile::tempdir().unwrap();
    let refused = |name: &str, sparse: bool| {
        let error = check_matrix_destination(&at.path().join(name), sparse).unwrap_err();
        assert!(error.is_usage());
        error.to_string()
    };
    assert!(refused("a.csv", false).contains(".npy or .safetensors"));
    assert!(refused("a.csv", true).contains(".npz"));
    assert!(refused("a.npz", false).contains("dense matrix"));
    assert!(refused("none/a.npy", false).contains("does not exist"));
    fs::create_dir(at.path().join("folder.npy")).unwrap();
    assert!(refused("folder.npy", false).contains("a folder is there"));
    fs::write(at.path().join("notes.npy"), "mine").unwrap();
    assert!(refused("notes.npy", false).contains("is not replaced"));
    let place = at.path().join("a.npy");
    write_dense(&place, "a", &expected()).unwrap();
    assert!(check_matrix_destination(&place, false).is_ok());
}

#[test]
fn further_arrays_are_found_by_name() {
    let at = tempfile::tempdir().unwrap();
    let path = at.path().join("p.npz");
    let columns = Matrix::Dense(expected()).into_columns();
    let weights = [0.5, 0.25, 0.125, 0.125];
    let extras = [
        Extra {
            name: "weights",
            shape: vec![4],
            numbers: ExtraNumbers::F64(&weights),
        },
        Extra {
            name: "contexts",
            shape: vec![4, 2],
            numbers: ExtraNumbers::U32(&[0, 1, 2, 3, 4, 5, 6, 7]),
        },
    ];
    write_columns(&path, "p", &columns, &extras).unwrap();
    let file = MatrixFile::read(&path).unwrap();
    assert_eq!(file.matrix, Matrix::Sparse { columns });
    assert_eq!(read_extra(&path, "weights").unwrap().unwrap(), weights);
    assert_eq!(read_extra(&path, "other").unwrap(), None);
    assert!(read_extra(&path, "contexts").is_err());
    assert_eq!(read_extra(&folder("good/f8.npy"), "weights").unwrap(), None);
}

fn matrices() -> impl Strategy<Value = RowMatrix<f64>> {
    (0usize..7, 0usize..7).prop_flat_map(|(n, m)| {
        let entry = prop_oneof![Just(0.0), any::<f64>().prop_filter("NaN", |x| !x.is_nan())];
        let entries = proptest::collection::vec(entry, n * m);
        entries.prop_map(move |data| RowMatrix::from_vec(data, n, m).unwrap())
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(matrix in matrices()) {
        let at = tempfile::tempdir().unwrap();
        for ending in ["npy", "safetensors"] {
            let path = at.path().join(format!("a.{ending}"));
            write_dense(&path, "a", &matrix).unwrap();
            let file = MatrixFile::read(&path).unwrap();
            prop_assert_eq!(&file.matrix, &Matrix::Dense(matrix.clone()));
        }
        let columns = Matrix::Dense(matrix.clone()).into_columns();
        for ending in ["npz", "npy", "safetensors"] {
            let path = at.path().join(format!("b.{ending}"));
            write_columns(&path, "b", &columns, &[]).unwrap();
            let file = MatrixFile::read(&path).unwrap();
            prop_assert_eq!(file.matrix.shape(), (matrix.nrows(), matrix.ncols()));
            prop_assert_eq!(file.matrix.into_columns(), columns.clone());
        }
        let path = at.path().join("v.npy");
        write_vector(&path, "v", matrix.data()).unwrap();
        prop_assert_eq!(&read_vector(&path).unwrap().0, &matrix.data());
    }
}
