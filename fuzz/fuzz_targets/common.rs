use std::path::{Path, PathBuf};

use lawvere_lm::LanguageModel;

/// Opens a checkpoint, and reads a text with it if that works: whatever the bytes are, neither may panic.
pub fn open(path: &Path) {
    let Ok(model) = LanguageModel::open(path) else {
        return;
    };
    let last = model.architecture().vocab_size().saturating_sub(1) as u32;
    let _ = model.score(&[(&[0][..], &[last, 0, last][..])]);
}

/// A folder in memory that holds a fixture's checkpoint.
pub fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let folder = match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    };
    let folder = folder.expect("a folder for the checkpoint");
    for (name, bytes) in files {
        std::fs::write(folder.path().join(name), bytes).expect("a file of the checkpoint");
    }
    folder
}

/// Writes what is tried into the folder.
pub fn put(folder: &tempfile::TempDir, name: &str, data: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, data).expect("what is tried");
    path
}
