//! A file's bytes as they come: hashed, unpacked, a line at a time, never more in memory than a line may have.

use std::fs;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use sha2::{Digest, Sha256};

use super::options::File;
use crate::TextError;

const BUFFER: usize = 1 << 20;

/// The SHA-256 of a file that a thread of its own is computing: reading and tokenizing do not wait for it.
pub(super) struct Hash {
    bytes: u64,
    worker: JoinHandle<io::Result<[u8; 32]>>,
}

impl Hash {
    /// Of a file that is read otherwise than from its beginning to its end.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn of_file(path: &Path) -> Result<Self, TextError> {
        let failed = |e| TextError::reading(path, e);
        let mut file = fs::File::open(path).map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        let worker = std::thread::spawn(move || {
            let mut digest = Sha256::new();
            io::copy(&mut file, &mut digest)?;
            Ok(digest.finalize().into())
        });
        Ok(Self { bytes, worker })
    }

    /// The number of bytes, and their hash when it is there.
    ///
    /// # Errors
    /// What reading met.
    pub fn wait(self) -> io::Result<(u64, [u8; 32])> {
        let stopped = |_| Err(io::Error::other("hashing stopped"));
        let digest = self.worker.join().unwrap_or_else(stopped)?;
        Ok((self.bytes, digest))
    }
}

/// Counts what is read, and has it hashed.
pub(super) struct Hashing {
    inner: Box<dyn Read + Send>,
    bytes: u64,
    pieces: SyncSender<Vec<u8>>,
    worker: JoinHandle<io::Result<[u8; 32]>>,
}

impl Hashing {
    fn new(inner: Box<dyn Read + Send>) -> Self {
        let (pieces, received) = sync_channel::<Vec<u8>>(4);
        let worker = std::thread::spawn(move || {
            let mut digest = Sha256::new();
            received.iter().for_each(|piece| digest.update(piece));
            Ok(digest.finalize().into())
        });
        Self {
            inner,
            bytes: 0,
            pieces,
            worker,
        }
    }

    /// Reads what is left, for the hash alone.
    fn finish(mut self) -> io::Result<Hash> {
        io::copy(&mut self, &mut io::sink())?;
        Ok(Hash {
            bytes: self.bytes,
            worker: self.worker,
        })
    }
}

impl Read for Hashing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.bytes += n as u64;
        if n > 0 && self.pieces.send(buffer[..n].to_vec()).is_err() {
            return Err(io::Error::other("hashing stopped"));
        }
        Ok(n)
    }
}

/// Bytes as they are in the file.
enum Raw {
    /// A file, which another thread reads too, for the hash.
    File(fs::File, Hash),
    /// What can be read only once.
    Once(Hashing),
}

impl Read for Raw {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(file, _) => file.read(buffer),
            Self::Once(hashing) => hashing.read(buffer),
        }
    }
}

/// The bytes already looked at, and the rest.
type Start = io::Chain<Cursor<Vec<u8>>, Raw>;

enum Unpacked {
    Plain(Start),
    Gzip(Box<flate2::read::MultiGzDecoder<Start>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, BufReader<Start>>>),
}

impl Read for Unpacked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(r) => r.read(buffer),
            Self::Gzip(r) => r.read(buffer),
            Self::Zstd(r) => r.read(buffer),
        }
    }
}

/// A file's content, unpacked if it begins as gzip or zstd data do.
pub(super) struct Stream {
    path: PathBuf,
    inner: BufReader<Unpacked>,
}

impl Stream {
    /// # Errors
    /// A file that cannot be opened.
    pub fn open(file: &File) -> Result<Self, TextError> {
        let path = shown(file);
        let failed = |e| TextError::reading(&path, e);
        let mut raw = match &file.path {
            None => Raw::Once(Hashing::new(Box::new(io::stdin()))),
            Some(path) => {
                let file = fs::File::open(path).map_err(failed)?;
                match file.metadata().map_err(failed)?.is_file() {
                    true => Raw::File(file, Hash::of_file(path)?),
                    false => Raw::Once(Hashing::new(Box::new(file))),
                }
            }
        };
        let mut start = Vec::new();
        let mut first = Read::by_ref(&mut raw).take(4);
        first.read_to_end(&mut start).map_err(failed)?;
        let gzip = start.starts_with(&[0x1f, 0x8b]);
        let zstd = start == [0x28, 0xb5, 0x2f, 0xfd];
        let whole = Cursor::new(start).chain(raw);
        let unpacked = if gzip {
            Unpacked::Gzip(Box::new(flate2::read::MultiGzDecoder::new(whole)))
        } else if zstd {
            let decoder = zstd::stream::read::Decoder::new(whole).map_err(failed)?;
            Unpacked::Zstd(Box::new(decoder))
        } else {
            Unpacked::Plain(whole)
        };
        Ok(Self {
            path,
            inner: BufReader::with_capacity(BUFFER, unpacked),
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What reading met, as an error that says whether it is the packing that is damaged.
    pub fn failed(&self, error: io::Error) -> TextError {
        let packing = match self.inner.get_ref() {
            Unpacked::Plain(_) => return TextError::reading(&self.path, error),
            Unpacked::Gzip(_) => "gzip",
            Unpacked::Zstd(_) => "zstd",
        };
        let problem = match error.kind() {
            io::ErrorKind::UnexpectedEof => "they end in the middle".to_owned(),
            _ => error.to_string(),
        };
        TextError::Packed {
            path: self.path.clone(),
            packing,
            problem,
        }
    }

    /// Appends a line to `line`, its end included, and says whether there was one.
    ///
    /// # Errors
    /// What reading meets; a line of more than `limit` bytes, before more of it is read.
    pub fn line(
        &mut self,
        line: &mut Vec<u8>,
        limit: usize,
        number: u64,
    ) -> Result<bool, TextError> {
        let most = limit as u64 + 1;
        let read = Read::by_ref(&mut self.inner)
            .take(most)
            .read_until(b'\n', line);
        let read = read.map_err(|e| self.failed(e))?;
        if read as u64 == most {
            return Err(TextError::LongDocument {
                path: self.path.clone(),
                what: format!("line {number}"),
                limit,
            });
        }
        Ok(read > 0)
    }

    /// Reads everything that is left.
    ///
    /// # Errors
    /// What reading meets; more than `limit` bytes.
    pub fn all(&mut self, limit: usize) -> Result<Vec<u8>, TextError> {
        let (mut all, most) = (Vec::new(), limit as u64 + 1);
        let read = Read::by_ref(&mut self.inner)
            .take(most)
            .read_to_end(&mut all);
        let read = read.map_err(|e| self.failed(e))?;
        if read as u64 == most {
            return Err(TextError::LongDocument {
                path: self.path.clone(),
                what: "the file".into(),
                limit,
            });
        }
        Ok(all)
    }

    /// The hash of the file as it is.
    ///
    /// # Errors
    /// What reading the rest meets.
    pub fn finish(self) -> Result<Hash, TextError> {
        let path = self.path;
        let raw = match self.inner.into_inner() {
            Unpacked::Plain(r) => r.into_inner().1,
            Unpacked::Gzip(r) => r.into_inner().into_inner().1,
            Unpacked::Zstd(r) => r.finish().into_inner().into_inner().1,
        };
        match raw {
            Raw::File(_, hash) => Ok(hash),
            Raw::Once(hashing) => hashing.finish().map_err(|e| TextError::reading(&path, e)),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer)
    }
}

/// What a file is called in messages.
pub(super) fn shown(file: &File) -> PathBuf {
    file.path.clone().unwrap_or_else(|| "standard input".into())
}
