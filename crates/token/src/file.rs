//! Files as bytes: mapped, and named by their hash.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use memmap2::Mmap;
use sha2::{Digest, Sha256};

/// Maps a file into memory, read-only.
///
/// # Errors
/// The file cannot be opened or mapped.
#[allow(unsafe_code)]
pub fn map_file(path: &Path) -> io::Result<Mmap> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        ));
    }
    // SAFETY: the mapping is private and read-only, and every reader of it checks lengths, offsets
    // and values before use, so bytes of any content are sound. What remains is a file that another
    // process truncates or rewrites while it is mapped; Lawvere itself never does: it writes beside
    // and renames, which leaves the mapped inode alone. Reading instead of mapping would need the
    // whole index (10 to 12 bytes a token) or checkpoint in memory a second time.
    unsafe { Mmap::map(&file) }
}

/// The SHA-256 of `bytes`, in lower-case hexadecimal.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The SHA-256 of a file's contents, in lower-case hexadecimal.
///
/// # Errors
/// The file cannot be read.
pub fn sha256_of_file(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(&buffer[..read]);
    }
}

/// Bytes, such as a digest, in lower-case hexadecimal.
pub fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
