//! Tables of which one column holds the documents: comma- or tab-separated values, and Parquet.

use std::cell::Cell;
use std::fs;
use std::io::{self, Read};
use std::panic::{self, AssertUnwindSafe};
use std::rc::Rc;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};

use super::options::File;
use super::reader::{Place, Reading};
use super::stream::{Hash, Stream, shown};
use crate::TextError;

/// Rows of a Parquet file that are unpacked at once.
const ROWS: usize = 256;

/// Bytes since the last record: a quotation mark that is never closed makes a record of the whole file.
struct Limited<'a> {
    stream: &'a mut Stream,
    since: Rc<Cell<usize>>,
    limit: usize,
}

impl Read for Limited<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.stream.read(buffer)?;
        self.since.set(self.since.get() + n);
        match self.since.get() > self.limit {
            true => Err(io::Error::new(io::ErrorKind::FileTooLarge, "a long record")),
            false => Ok(n),
        }
    }
}

/// Separated values with a header.
pub(super) fn separated(
    reading: &mut Reading<'_>,
    stream: &mut Stream,
    separator: u8,
) -> Result<(), TextError> {
    const BUFFER: usize = 1 << 20;
    let path = stream.path().to_owned();
    let field = reading.options.field().to_owned();
    let limit = reading.options.longest_document;
    let since = Rc::new(Cell::new(0));
    let limited = Limited {
        stream,
        since: Rc::clone(&since),
        // What is in the buffer already may be of later records.
        limit: limit.saturating_add(2 * BUFFER),
    };
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(separator)
        .buffer_capacity(BUFFER)
        .from_reader(limited);
    let mut record = csv::ByteRecord::new();
    let mut column = None;
    let mut line = 1;
    loop {
        since.set(0);
        let found = if column.is_none() {
            // The header; a byte order mark is passed over by the reader.
            reader.byte_headers().map(|header| {
                record = header.clone();
                true
            })
        } else {
            line = reader.position().line();
            reader.read_byte_record(&mut record)
        };
        match found {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(error) => return Err(failed(error, reader.get_ref().stream, limit, line)),
        }
        let text = |cell: &[u8]| String::from_utf8_lossy(cell).into_owned();
        let Some(column) = column else {
            let wanted = |cell: &[u8]| cell == field.as_bytes();
            column = record.iter().position(wanted);
            if column.is_none() {
                return Err(TextError::NoField {
                    path,
                    line: None,
                    what: "column",
                    field,
                    found: record.iter().map(text).collect(),
                });
            }
            continue;
        };
        let cell = record.get(column).unwrap_or_default();
        if cell.len() > limit {
            return Err(TextError::LongDocument {
                path,
                what: format!("the document of line {line}"),
                limit,
            });
        }
        let place = Place {
            path: &path,
            line: Some(line),
            offset: None,
        };
        let document = reading.decode(cell, place)?;
        reading.document(&document)?;
    }
}

fn failed(error: csv::Error, stream: &Stream, limit: usize, line: u64) -> TextError {
    let path = stream.path().to_owned();
    match error.into_kind() {
        csv::ErrorKind::Io(e) if e.kind() == io::ErrorKind::FileTooLarge => {
            TextError::LongDocument {
                path,
                what: format!("the record of line {line} (is a quotation mark left open?)"),
                limit,
            }
        }
        csv::ErrorKind::Io(e) => stream.failed(e),
        csv::ErrorKind::UnequalLengths {
            pos,
            expected_len,
            len,
        } => TextError::Record {
            path,
            line: pos.map_or(line, |p| p.line()),
            problem: format!("{len} columns, but the header has {expected_len}"),
        },
        other => TextError::Record {
            path,
            line,
            problem: format!("{other:?}"),
        },
    }
}

/// A column of strings.
pub(super) fn parquet(reading: &mut Reading<'_>, file: &File) -> Result<Hash, TextError> {
    let path = shown(file);
    let wrong = |problem: String| TextError::Shape {
        path: path.clone(),
        problem,
    };
    let Some(name) = &file.path else {
        return Err(wrong(
            "Parquet cannot be read from it; name the file".into(),
        ));
    };
    let open = || fs::File::open(name).map_err(|e| TextError::reading(name, e));
    let hash = Hash::of_file(name)?;
    // What the file itself says of its columns is enough, and knows no dictionaries.
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let damaged = |e: String| wrong(format!("not a whole Parquet file: {e}"));
    let source = open()?;
    let builder =
        unharmed(|| ParquetRecordBatchReaderBuilder::try_new_with_options(source, options))
            .map_err(damaged)?;
    // The reader takes for granted that chunks begin and end somewhere.
    for chunk in builder
        .metadata()
        .row_groups()
        .iter()
        .flat_map(|g| g.columns())
    {
        let start = chunk.dictionary_page_offset().unwrap_or(0);
        if start
            .min(chunk.data_page_offset())
            .min(chunk.compressed_size())
            < 0
        {
            return Err(damaged("a column has a negative place or length".into()));
        }
    }
    let field = reading.options.field().to_owned();
    let columns = builder.schema().fields();
    let Some(column) = columns.iter().position(|f| *f.name() == field) else {
        return Err(TextError::NoField {
            path: path.clone(),
            line: None,
            what: "column",
            field,
            found: columns.iter().map(|f| f.name().clone()).collect(),
        });
    };
    let kind = columns[column].data_type().clone();
    let mask = ProjectionMask::roots(builder.parquet_schema(), [column]);
    let builder = builder.with_projection(mask).with_batch_size(ROWS);
    let mut batches = unharmed(|| builder.build()).map_err(damaged)?;
    while let Some(batch) = unharmed(|| batches.next().transpose()).map_err(damaged)? {
        let values = batch.column(0);
        let strings = |i: usize| -> Option<&[u8]> {
            if let Some(a) = values.as_string_opt::<i32>() {
                Some(a.value(i).as_bytes())
            } else if let Some(a) = values.as_string_opt::<i64>() {
                Some(a.value(i).as_bytes())
            } else if let Some(a) = values.as_binary_opt::<i32>() {
                Some(a.value(i))
            } else {
                values.as_binary_opt::<i64>().map(|a| a.value(i))
            }
        };
        for i in (0..values.len()).filter(|&i| values.is_valid(i)) {
            let Some(bytes) = strings(i) else {
                return Err(wrong(format!("column `{field}` is {kind}, not strings")));
            };
            if bytes.len() > reading.options.longest_document {
                return Err(TextError::LongDocument {
                    path: path.clone(),
                    what: "a document".into(),
                    limit: reading.options.longest_document,
                });
            }
            let place = Place {
                path: &path,
                line: None,
                offset: None,
            };
            let document = reading.decode(bytes, place)?;
            reading.document(&document)?;
        }
    }
    Ok(hash)
}

/// A step of the library that reads Parquet. It panics at some damage (a length of zero by which
/// it divides, say), which is the file's fault and is told as such.
fn unharmed<T, E: ToString>(step: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    match panic::catch_unwind(AssertUnwindSafe(step)) {
        Ok(result) => result.map_err(|e| e.to_string()),
        Err(_) => Err("its pages contradict themselves".into()),
    }
}
