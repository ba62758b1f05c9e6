//! Archives of arrays: `scipy.sparse.save_npz`, and `numpy.savez` with one array.

use std::io::{self, Cursor, Read, Seek, Write};

use lawvere_core::{SparseError, SparseRows};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::npy::{Header, LONGEST_BEGINNING, write_header};
use super::{Extra, Matrix, MatrixFile, dense, room, two_dimensions};

pub(super) const MAGICS: [&[u8]; 2] = [b"PK\x03\x04", b"PK\x05\x06"];

/// An open archive; its members are arrays.
pub(super) struct Archive<'a> {
    zip: ZipArchive<Cursor<&'a [u8]>>,
}

/// One array, decompressed.
pub(super) struct Member {
    name: String,
    pub header: Header,
    pub bytes: Vec<u8>,
}

impl<'a> Archive<'a> {
    pub fn open(bytes: &'a [u8]) -> Result<Self, String> {
        let zip = ZipArchive::new(Cursor::new(bytes))
            .map_err(|e| format!("not a usable archive (is it truncated?): {e}"))?;
        if zip.has_duplicate_names() {
            return Err("two arrays of the archive have the same name".into());
        }
        Ok(Self { zip })
    }

    /// The arrays' names.
    fn names(&self) -> Vec<String> {
        let names = self.zip.file_names_raw();
        let names = names.map(|n| String::from_utf8_lossy(n).into_owned());
        names.collect()
    }

    /// An array, if the archive has it. What it claims to be is checked before its bytes are read.
    pub fn member(&mut self, name: &str) -> Result<Option<Member>, String> {
        let file = format!("{name}.npy");
        match self.zip.index_for_name(&file) {
            Some(index) => self.read(index, name).map(Some),
            None => Ok(None),
        }
    }

    fn wanted(&mut self, name: &str) -> Result<Member, String> {
        let found = self.member(name)?;
        found.ok_or_else(|| {
            format!(
                "the array `{name}` is missing; scipy.sparse.save_npz writes all that a sparse matrix has"
            )
        })
    }

    fn read(&mut self, index: usize, name: &str) -> Result<Member, String> {
        // No deflated stream grows by more.
        const MOST_GROWTH: u64 = 1040;
        let say = |what: &dyn std::fmt::Display| format!("the array `{name}`: {what}");
        let mut file = self.zip.by_index(index).map_err(|e| say(&e))?;
        let (size, packed) = (file.size(), file.compressed_size());
        if size
            > packed
                .saturating_mul(MOST_GROWTH)
                .saturating_add(MOST_GROWTH)
        {
            return Err(say(&format!(
                "{packed} bytes claim to unpack to {size}, more than deflate can"
            )));
        }
        let mut bytes = Vec::new();
        let damaged = |e: io::Error| say(&format!("damaged: {e}"));
        let mut beginning = file.by_ref().take(LONGEST_BEGINNING as u64);
        beginning.read_to_end(&mut bytes).map_err(damaged)?;
        let header = Header::parse(&bytes, size).map_err(|e| say(&e))?;
        room(size).map_err(|e| say(&e))?;
        bytes.reserve_exact((size as usize).saturating_sub(bytes.len()));
        // One byte more than it claims to have, and it is refused.
        let rest = size + 1 - (bytes.len() as u64).min(size);
        let mut rest = file.take(rest);
        rest.read_to_end(&mut bytes).map_err(damaged)?;
        if bytes.len() as u64 != size {
            return Err(say(&format!(
                "it claims to unpack to {size} bytes and does not"
            )));
        }
        Ok(Member {
            name: name.to_owned(),
            header,
            bytes,
        })
    }

    /// The one matrix of the archive.
    pub fn matrix(&mut self) -> Result<MatrixFile, String> {
        if let Some(format) = self.member("format")? {
            let name = format.header.text(&format.bytes).unwrap_or_default();
            return self.sparse(&name);
        }
        let names = self.names();
        let (only, name) = match names.as_slice() {
            [name] => (0, name.strip_suffix(".npy").unwrap_or(name)),
            _ => {
                return Err(format!(
                    "it holds the arrays {}; a matrix file holds one array (numpy.savez) or one sparse matrix (scipy.sparse.save_npz)",
                    names.join(", ")
                ));
            }
        };
        let member = self.read(only, name)?;
        dense(&member.header, &member.bytes).map_err(|e| member.say(e))
    }

    fn sparse(&mut self, format: &str) -> Result<MatrixFile, String> {
        if !["csr", "csc", "coo"].contains(&format) {
            return Err(format!(
                "a sparse matrix of format `{format}`; csr, csc and coo are read (matrix.tocsr())"
            ));
        }
        let shape = self.wanted("shape")?.whole()?;
        let shape: Vec<usize> = shape
            .iter()
            .map(|&n| usize::try_from(n).unwrap_or(usize::MAX))
            .collect();
        let (nrows, ncols) = two_dimensions(&shape)?;
        let data = self.wanted("data")?;
        let entries = data.one_dimension()?;
        let axis = |archive: &mut Self, name: &str, below: usize| {
            let member = archive.wanted(name)?;
            member.check_length(entries)?;
            member.indices(below)
        };
        let triplets = match format {
            "csr" | "csc" => {
                let (outer, inner) = match format {
                    "csr" => (nrows, ncols),
                    _ => (ncols, nrows),
                };
                let pointers = self.wanted("indptr")?.whole()?;
                let outer = spread(&pointers, outer, entries)?;
                let inner = axis(self, "indices", inner)?;
                match format {
                    "csr" => (outer, inner),
                    _ => (inner, outer),
                }
            }
            _ => match self.member("coords")? {
                None => (axis(self, "row", nrows)?, axis(self, "col", ncols)?),
                Some(coords) => {
                    if coords.header.shape != [2, entries] || coords.header.fortran {
                        return Err(coords.say("it should hold a row and a column for each entry"));
                    }
                    let both = coords.whole()?;
                    let (rows, columns) = both.split_at(entries);
                    (
                        below(rows, nrows).map_err(|e| coords.say(e))?,
                        below(columns, ncols).map_err(|e| coords.say(e))?,
                    )
                }
            },
        };
        let values = data.header.numbers(&data.bytes).map_err(|e| data.say(e))?;
        let precision = values.scalar.precision();
        let columns = columns(nrows, ncols, &triplets.0, &triplets.1, &values.floats())?;
        Ok(MatrixFile {
            matrix: Matrix::Sparse { columns },
            precision,
        })
    }
}

impl Member {
    fn say(&self, what: impl std::fmt::Display) -> String {
        format!("the array `{}`: {what}", self.name)
    }

    /// Whole numbers, none of them negative.
    pub fn whole(&self) -> Result<Vec<u64>, String> {
        let numbers = self.header.numbers(&self.bytes);
        numbers.and_then(|n| n.whole()).map_err(|e| self.say(e))
    }

    fn indices(&self, limit: usize) -> Result<Vec<u32>, String> {
        below(&self.whole()?, limit).map_err(|e| self.say(e))
    }

    fn one_dimension(&self) -> Result<usize, String> {
        match self.header.shape.as_slice() {
            &[length] => Ok(length),
            other => Err(self.say(format!("shape {other:?}; it should have one dimension"))),
        }
    }

    fn check_length(&self, entries: usize) -> Result<(), String> {
        match self.one_dimension()? {
            n if n == entries => Ok(()),
            n => Err(self.say(format!("{n} numbers for {entries} entries"))),
        }
    }
}

fn below(numbers: &[u64], limit: usize) -> Result<Vec<u32>, String> {
    match numbers.iter().find(|&&i| i >= limit as u64) {
        Some(i) => Err(format!("it holds {i}; its numbers should be below {limit}")),
        None => Ok(numbers.iter().map(|&i| i as u32).collect()),
    }
}

/// The row of each entry, from row pointers.
fn spread(pointers: &[u64], rows: usize, entries: usize) -> Result<Vec<u32>, String> {
    if pointers.len() != rows + 1 {
        return Err(format!(
            "the array `indptr`: {} numbers; a matrix of this shape has {}",
            pointers.len(),
            rows + 1
        ));
    }
    let bad = |row: usize| {
        let error = SparseError::Pointers {
            row,
            pointer: pointers[row],
            entries,
        };
        format!("the array `indptr`: {error}")
    };
    if pointers[0] != 0 {
        return Err(bad(0));
    }
    if let Some(row) = pointers.windows(2).position(|w| w[1] < w[0]) {
        return Err(bad(row + 1));
    }
    if pointers[rows] != entries as u64 {
        return Err(bad(rows));
    }
    let mut out = Vec::with_capacity(entries);
    for (row, &end) in pointers[1..].iter().enumerate() {
        out.resize(end as usize, row as u32);
    }
    Ok(out)
}

/// The columns of a matrix from its entries in any order; zeros that are stored are left out.
fn columns(
    nrows: usize,
    ncols: usize,
    row_of: &[u32],
    column_of: &[u32],
    values: &[f64],
) -> Result<SparseRows<f64>, String> {
    let kept = || (0..values.len()).filter(|&k| values[k] != 0.0);
    let mut ends = vec![0u64; ncols + 1];
    kept().for_each(|k| ends[column_of[k] as usize + 1] += 1);
    for column in 0..ncols {
        ends[column + 1] += ends[column];
    }
    let pointers = ends.clone();
    let mut order = vec![0usize; pointers[ncols] as usize];
    for k in kept() {
        let place = &mut ends[column_of[k] as usize];
        order[*place as usize] = k;
        *place += 1;
    }
    for (column, pair) in pointers.windows(2).enumerate() {
        let entries = &mut order[pair[0] as usize..pair[1] as usize];
        if !entries.is_sorted_by_key(|&k| row_of[k]) {
            entries.sort_unstable_by_key(|&k| row_of[k]);
        }
        let twice = entries.windows(2).find(|w| row_of[w[0]] == row_of[w[1]]);
        if let Some(pair) = twice {
            return Err(format!(
                "row {}, column {column} (counted from 0) is stored twice; add such entries up before saving (matrix.sum_duplicates())",
                row_of[pair[0]]
            ));
        }
    }
    let indices = order.iter().map(|&k| row_of[k]).collect();
    let values = order.iter().map(|&k| values[k]).collect();
    SparseRows::from_parts(nrows, pointers, indices, values).map_err(|e| e.to_string())
}

/// Writes a sparse matrix, given by its columns, as `scipy.sparse.save_npz` does (format csc), with
/// further arrays beside it that scipy passes over.
pub(super) fn write_columns(
    out: impl Write + Seek,
    columns: &SparseRows<f64>,
    extras: &[Extra<'_>],
) -> io::Result<()> {
    let mut zip = ZipWriter::new(out);
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    let mut array = |name: &str, dtype: &str, shape: &[usize], bytes: &[u8]| {
        let large = bytes.len() >= u32::MAX as usize - LONGEST_BEGINNING;
        zip.start_file(format!("{name}.npy"), options.large_file(large))?;
        write_header(&mut zip, dtype, shape)?;
        zip.write_all(bytes)
    };
    let (nrows, ncols, entries) = (columns.ncols(), columns.nrows(), columns.nnz());
    // scipy takes 32-bit indices wherever they suffice.
    if [nrows, ncols, entries]
        .iter()
        .all(|&n| i32::try_from(n).is_ok())
    {
        let pointers: Vec<u32> = columns.indptr().iter().map(|&p| p as u32).collect();
        let indices = bytemuck::cast_slice(columns.indices());
        array("indices", "<i4", &[entries], indices)?;
        let pointers = bytemuck::cast_slice(&pointers);
        array("indptr", "<i4", &[ncols + 1], pointers)?;
    } else {
        let indices: Vec<u64> = columns.indices().iter().map(|&i| i.into()).collect();
        let indices = bytemuck::cast_slice(&indices);
        array("indices", "<i8", &[entries], indices)?;
        let pointers = bytemuck::cast_slice(columns.indptr());
        array("indptr", "<i8", &[ncols + 1], pointers)?;
    }
    array("format", "|S3", &[], b"csc")?;
    let shape = [nrows as u64, ncols as u64];
    array("shape", "<i8", &[2], bytemuck::cast_slice(&shape))?;
    let values = bytemuck::cast_slice(columns.values());
    array("data", "<f8", &[entries], values)?;
    for extra in extras {
        let (dtype, bytes) = extra.numbers.bytes();
        array(extra.name, dtype, &extra.shape, bytes)?;
    }
    zip.finish()?;
    Ok(())
}
