//! Matrices in the files of numpy, scipy and safetensors.

mod npy;
mod npz;
mod numbers;
mod open;
mod tensors;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use lawvere_core::{RowMatrix, SparseRows};
use lawvere_token::disk::{parent, write_file};

use self::npy::Header;
use self::npz::Archive;
pub use self::open::MatrixFormat;
use self::open::Opened;
use crate::RunError;
use crate::cost::available_memory;

/// A matrix of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct MatrixFile {
    /// The matrix.
    pub matrix: Matrix,
    /// How exactly the file held it.
    pub precision: Precision,
}

/// How exactly a file holds numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// Whole numbers or float64.
    Double,
    /// float32 or fewer bits: sums may be off by some 1e-6.
    Single,
}

/// A matrix as its file holds it.
#[derive(Debug, Clone, PartialEq)]
pub enum Matrix {
    /// From .npy, .safetensors, or an .npz of `numpy.savez`.
    Dense(RowMatrix<f64>),
    /// From an .npz of `scipy.sparse.save_npz`.
    Sparse {
        /// The matrix's columns, each a sparse row over the matrix's rows: of a support matrix V x m,
        /// contexts x tokens. Entries are not 0.
        columns: SparseRows<f64>,
    },
}

/// A further array in a sparse .npz: `numpy.load(FILE)[name]` opens it, scipy passes it over.
#[derive(Debug, Clone, PartialEq)]
pub struct Extra<'a> {
    /// Its name.
    pub name: &'static str,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its numbers, row after row.
    pub numbers: ExtraNumbers<'a>,
}

/// The numbers of an [`Extra`].
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)]
pub enum ExtraNumbers<'a> {
    U32(&'a [u32]),
    F64(&'a [f64]),
}

impl ExtraNumbers<'_> {
    fn bytes(&self) -> (&'static str, &[u8]) {
        match self {
            Self::U32(numbers) => ("<u4", bytemuck::cast_slice(numbers)),
            Self::F64(numbers) => ("<f8", bytemuck::cast_slice(numbers)),
        }
    }
}

impl MatrixFile {
    /// Reads a matrix with any numbers: bool, integers, float16 to float64, in row or column order, in
    /// either byte order. `FILE.safetensors:NAME` chooses one of several tensors. A sparse matrix
    /// never becomes dense; what a file claims is checked before memory is taken for it.
    ///
    /// # Errors
    /// A file that cannot be read, is truncated or not what its name or header says, holds anything
    /// but one matrix of numbers, holds an entry twice, or is larger than memory.
    pub fn read(path: &Path) -> Result<Self, RunError> {
        let opened = Opened::new(path)?;
        let file = Self::parse(&opened.map, opened.format, opened.tensor.as_deref());
        file.map_err(|what| opened.error(what))
    }

    fn parse(bytes: &[u8], format: MatrixFormat, tensor: Option<&str>) -> Result<Self, String> {
        match format {
            MatrixFormat::Npy => {
                let header = Header::parse(bytes, bytes.len() as u64)?;
                dense(&header, bytes)
            }
            MatrixFormat::Npz => Archive::open(bytes)?.matrix(),
            MatrixFormat::Safetensors => tensors::matrix(bytes, tensor),
        }
    }
}

impl Matrix {
    /// Rows and columns.
    pub fn shape(&self) -> (usize, usize) {
        match self {
            Self::Dense(matrix) => (matrix.nrows(), matrix.ncols()),
            Self::Sparse { columns } => (columns.ncols(), columns.nrows()),
        }
    }

    /// The columns, zeros left out.
    pub fn into_columns(self) -> SparseRows<f64> {
        let matrix = match self {
            Self::Sparse { columns } => return columns,
            Self::Dense(matrix) => matrix,
        };
        let (nrows, ncols) = (matrix.nrows(), matrix.ncols());
        let mut columns = SparseRows::new(nrows);
        for j in 0..ncols {
            let entries = (0..nrows as u32).map(|i| (i, matrix.get(i as usize, j)));
            let pushed = columns.push_row(entries.filter(|(_, x)| *x != 0.0));
            debug_assert!(pushed.is_ok());
        }
        columns
    }

    /// The matrix with its zeros; `path` is where it came from, for errors.
    ///
    /// # Errors
    /// One larger than memory.
    pub fn into_dense(self, path: &Path) -> Result<RowMatrix<f64>, RunError> {
        match self {
            Self::Dense(matrix) => Ok(matrix),
            Self::Sparse { columns } => densified(&columns).map_err(|what| RunError::Input {
                path: path.to_owned(),
                what,
            }),
        }
    }
}

/// Reads a vector: an array of one dimension, or a matrix of one row or one column.
///
/// # Errors
/// As [`MatrixFile::read`].
pub fn read_vector(path: &Path) -> Result<(Vec<f64>, Precision), RunError> {
    let opened = Opened::new(path)?;
    let bytes = &opened.map[..];
    let vector = match opened.format {
        MatrixFormat::Npy => Header::parse(bytes, bytes.len() as u64).and_then(|header| {
            check_vector(&header.shape)?;
            let numbers = header.numbers(bytes)?;
            Ok((numbers.floats(), numbers.scalar.precision()))
        }),
        MatrixFormat::Safetensors => tensors::vector(bytes, opened.tensor.as_deref()),
        MatrixFormat::Npz => Err("a vector is read from .npy or .safetensors".into()),
    };
    vector.map_err(|what| opened.error(what))
}

/// Reads a further array of an .npz, of floating-point numbers and one dimension; `None` where the
/// file is not an .npz or has no such array.
///
/// # Errors
/// An array that is damaged or of another kind.
pub fn read_extra(path: &Path, name: &str) -> Result<Option<Vec<f64>>, RunError> {
    let opened = Opened::new(path)?;
    if opened.format != MatrixFormat::Npz {
        return Ok(None);
    }
    let found = Archive::open(&opened.map).and_then(|mut archive| {
        let Some(member) = archive.member(name)? else {
            return Ok(None);
        };
        check_vector(&member.header.shape).map_err(|e| format!("the array `{name}`: {e}"))?;
        let numbers = member.header.numbers(&member.bytes)?;
        Ok(Some(numbers.floats()))
    });
    found.map_err(|what| opened.error(what))
}

fn check_vector(shape: &[usize]) -> Result<(), String> {
    match shape {
        [_] | [1, _] | [_, 1] => Ok(()),
        other => Err(format!("shape {other:?}; it should be one row of numbers")),
    }
}

/// Refuses a place for a matrix before the work that makes it: a name without a known ending, a folder
/// that does not exist, a folder or a file of another kind that is there.
///
/// # Errors
/// Those.
pub fn check_matrix_destination(path: &Path, sparse: bool) -> Result<(), RunError> {
    let refused = |what: &str| Err(RunError::Usage(format!("{}: {what}", path.display())));
    let format = match (MatrixFormat::of_name(path), sparse) {
        (Some(MatrixFormat::Npz), false) => {
            return refused("a dense matrix is written as .npy or .safetensors");
        }
        (Some(format), _) => format,
        (None, false) => return refused("its name should end in .npy or .safetensors"),
        (None, true) => {
            return refused(
                "its name should end in .npz (sparse, for scipy), .npy or .safetensors",
            );
        }
    };
    if path.is_dir() {
        return refused("a folder is there; choose the name of a file");
    }
    if !parent(path).is_dir() {
        return refused("the folder it is to be written in does not exist");
    }
    if path.exists() && Opened::new(path).ok().map(|o| o.format) != Some(format) {
        return refused(
            "a file of another kind is there, and is not replaced; choose another name",
        );
    }
    Ok(())
}

/// [`check_matrix_destination`] of several places, which are neither one another nor a file that is read.
///
/// # Errors
/// Those.
pub(crate) fn check_matrix_destinations(
    places: &[&Option<PathBuf>],
    inputs: &[&Path],
    sparse: bool,
) -> Result<(), RunError> {
    // A file that is not there yet has no name but that in its folder.
    let whole = |path: &Path| -> Option<PathBuf> {
        let folder = parent(path).canonicalize().ok()?;
        Some(folder.join(path.file_name()?))
    };
    let mut taken: Vec<PathBuf> = inputs.iter().filter_map(|path| whole(path)).collect();
    for path in places.iter().copied().flatten() {
        check_matrix_destination(path, sparse)?;
        let Some(name) = whole(path) else { continue };
        if taken.contains(&name) {
            return Err(RunError::Usage(format!(
                "{}: it is read, or written as another result too; choose another name",
                path.display()
            )));
        }
        taken.push(name);
    }
    Ok(())
}

/// Writes a dense matrix as .npy, or as the tensor `name` of a .safetensors; beside and renamed.
///
/// # Errors
/// [`check_matrix_destination`], what writing meets.
pub fn write_dense(path: &Path, name: &str, matrix: &RowMatrix<f64>) -> Result<(), RunError> {
    check_matrix_destination(path, false)?;
    let shape = [matrix.nrows(), matrix.ncols()];
    write_numbers(path, name, &shape, matrix.data())
}

/// Writes a vector; as [`write_dense`].
///
/// # Errors
/// As [`write_dense`].
pub fn write_vector(path: &Path, name: &str, vector: &[f64]) -> Result<(), RunError> {
    check_matrix_destination(path, false)?;
    write_numbers(path, name, &[vector.len()], vector)
}

fn write_numbers(path: &Path, name: &str, shape: &[usize], data: &[f64]) -> Result<(), RunError> {
    written(path, |out| match MatrixFormat::of_name(path) {
        Some(MatrixFormat::Safetensors) => tensors::write(out, name, shape, data),
        _ => {
            npy::write_header(out, "<f8", shape)?;
            out.write_all(bytemuck::cast_slice(data))
        }
    })
}

/// Writes a sparse matrix given by its columns: as an .npz that `scipy.sparse.load_npz` opens, with
/// `extras` in it, or dense by the name's ending.
///
/// # Errors
/// [`check_matrix_destination`], a dense matrix larger than memory, what writing meets.
pub fn write_columns(
    path: &Path,
    name: &str,
    columns: &SparseRows<f64>,
    extras: &[Extra<'_>],
) -> Result<(), RunError> {
    check_matrix_destination(path, true)?;
    if MatrixFormat::of_name(path) == Some(MatrixFormat::Npz) {
        return written(path, |out| npz::write_columns(out, columns, extras));
    }
    let matrix = densified(columns)
        .map_err(|what| RunError::Usage(format!("{}: {what}", path.display())))?;
    write_dense(path, name, &matrix)
}

fn written(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>,
) -> Result<(), RunError> {
    write_file(path, write).map_err(|source| RunError::Io {
        path: path.to_owned(),
        source,
    })
}

fn densified(columns: &SparseRows<f64>) -> Result<RowMatrix<f64>, String> {
    let (nrows, ncols) = (columns.ncols(), columns.nrows());
    let bytes = (nrows as u64)
        .saturating_mul(ncols as u64)
        .saturating_mul(8);
    room(bytes)?;
    let mut matrix = RowMatrix::zeros(nrows, ncols);
    for (j, (rows, values)) in columns.rows().enumerate() {
        for (&i, &value) in rows.iter().zip(values) {
            matrix.row_mut(i as usize)[j] = value;
        }
    }
    Ok(matrix)
}

/// Whether so many bytes can be had.
pub(crate) fn room(bytes: u64) -> Result<(), String> {
    // Less is not worth asking for.
    const LITTLE: u64 = 1 << 24;
    let available = || available_memory().filter(|&available| bytes > available);
    match (bytes > LITTLE).then(available).flatten() {
        None => Ok(()),
        Some(available) => Err(format!(
            "it needs {:.1} GB of memory, and {:.1} GB are available",
            bytes as f64 / 1e9,
            available as f64 / 1e9
        )),
    }
}

/// The matrix of an array with two dimensions.
fn dense(header: &Header, bytes: &[u8]) -> Result<MatrixFile, String> {
    let numbers = header.numbers(bytes)?;
    let (nrows, ncols) = two_dimensions(&header.shape)?;
    let wide = (nrows as u64)
        .saturating_mul(ncols as u64)
        .saturating_mul(8);
    room(if header.fortran { 2 * wide } else { wide })
        .map_err(|what| what + "; keep it sparse (scipy.sparse.save_npz)")?;
    let values = numbers.floats();
    let shaped = |nrows, ncols| RowMatrix::from_vec(values, nrows, ncols);
    let matrix = match header.fortran {
        false => shaped(nrows, ncols).map_err(|e| e.to_string())?,
        true => {
            let stored = shaped(ncols, nrows).map_err(|e| e.to_string())?;
            RowMatrix::from_fn(nrows, ncols, |i, j| stored.get(j, i))
        }
    };
    Ok(MatrixFile {
        matrix: Matrix::Dense(matrix),
        precision: numbers.scalar.precision(),
    })
}

/// Rows and columns, few enough to make lists of them: a matrix without entries can claim any number.
fn two_dimensions(shape: &[usize]) -> Result<(usize, usize), String> {
    const BYTES_EACH: u64 = 64;
    let &[nrows, ncols] = shape else {
        return Err(format!(
            "an array of shape {shape:?}; a matrix has two dimensions"
        ));
    };
    let lines = (nrows as u64).saturating_add(ncols as u64);
    if lines >= u64::from(u32::MAX) {
        return Err(format!(
            "{nrows} rows and {ncols} columns; there should be fewer than 2^32"
        ));
    }
    room(lines * BYTES_EACH)?;
    Ok((nrows, ncols))
}
