//! Writing so that nothing half-written ever bears a final name.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, TempDir};

/// Writes a file beside its final place, flushes it to the disk and renames it into place.
///
/// # Errors
/// What writing meets; the file under the final name is then as before.
pub fn write_file(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>,
) -> io::Result<()> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".lawvere-");
    // Temporary files are private; this one becomes an ordinary file.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let file: NamedTempFile = builder.tempfile_in(parent(path)).map_err(bare)?;
    let mut out = BufWriter::with_capacity(1 << 20, file.as_file());
    write(&mut out)?;
    out.flush()?;
    drop(out);
    file.as_file().sync_all()?;
    file.persist(path).map_err(|e| e.error)?;
    Ok(())
}

/// A folder of our own in `parent`, removed when dropped unless it was renamed away.
///
/// # Errors
/// It cannot be made.
pub fn temporary_folder(parent: &Path) -> io::Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".lawvere-");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
    builder.tempdir_in(parent).map_err(bare)
}

/// Without the path that comes with it: the name of what is not there yet is of no interest.
fn bare(error: io::Error) -> io::Error {
    error.kind().into()
}

/// Renames a finished folder to its final name. A folder already there is moved aside first and
/// deleted last: a run that is killed leaves the old one or the new one, at worst under a name
/// that begins with `.lawvere-`.
///
/// # Errors
/// What renaming meets; the old folder is then put back.
pub fn publish_folder(written: &Path, destination: &Path) -> io::Result<()> {
    sync_folder(written)?;
    let parent = parent(destination);
    if !destination.exists() {
        fs::rename(written, destination)?;
        return sync_folder(&parent);
    }
    let aside = temporary_folder(&parent)?;
    let old = aside.path().join("replaced");
    fs::rename(destination, &old)?;
    if let Err(error) = fs::rename(written, destination) {
        if fs::rename(&old, destination).is_err() {
            // It cannot be put back, and is worth more than a tidy folder.
            let _ = aside.keep();
        }
        return Err(error);
    }
    sync_folder(&parent)
}

/// Where `destination` leads, so that a link to a folder stays a link when the folder is replaced;
/// `destination` itself where nothing is there yet.
pub fn resolve(destination: &Path) -> PathBuf {
    fs::canonicalize(destination).unwrap_or_else(|_| destination.to_path_buf())
}

/// Where the parts of an unfinished `destination` are kept: beside it, with `.partial` to its name.
pub fn partial_folder(destination: &Path) -> PathBuf {
    let mut name = destination.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    destination.with_file_name(name)
}

/// The folder a path is in.
pub fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    // Folders can be opened, and so flushed, only on Unix.
    if cfg!(unix) {
        File::open(folder)?.sync_all()
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        write_file(&path, |out| out.write_all(b"old")).unwrap();
        let failed = write_file(&path, |out| {
            out.write_all(b"half of the new")?;
            Err(io::Error::other("killed"))
        });
        assert!(failed.is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_published_folder_replaces_the_old_one_whole() {
        let folder = tempfile::tempdir().unwrap();
        let (new, destination) = (folder.path().join("new"), folder.path().join("final"));
        for (path, name) in [(&new, "b"), (&destination, "a")] {
            fs::create_dir(path).unwrap();
            fs::write(path.join(name), name).unwrap();
        }
        publish_folder(&new, &destination).unwrap();
        assert!(destination.join("b").exists() && !destination.join("a").exists());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
    #[test]
    fn a_folder_that_cannot_be_published_leaves_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let destination = folder.path().join("final");
        fs::create_dir(&destination).unwrap();
        fs::write(destination.join("a"), "a").unwrap();
        assert!(publish_folder(&folder.path().join("none"), &destination).is_err());
        // What is to be published moves aside with the old folder, so the second renaming fails.
        let inside = destination.join("inside");
        fs::create_dir(&inside).unwrap();
        assert!(publish_folder(&inside, &destination).is_err());
        assert_eq!(fs::read(destination.join("a")).unwrap(), b"a");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_resolved_and_a_new_name_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("target"), folder.path().join("link"));
        assert_eq!(resolve(&link), link);
        fs::create_dir(&target).unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert_eq!(resolve(&link), fs::canonicalize(&target).unwrap());
    }
}
