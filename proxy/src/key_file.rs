//! Keys in files: those that somebody else keeps, and those that are made here.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use zeroize::Zeroizing;

/// A key that somebody else keeps: any secret of 32 bytes or more.
pub(crate) fn read_key(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut secret = Zeroizing::new(Vec::with_capacity(4096));
    fs::File::open(path)?.take(4096).read_to_end(&mut secret)?;
    if secret.len() < 32 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a key of at least 32 bytes is needed",
        ));
    }
    Ok(secret)
}

/// A key of our own, made where there is none.
pub(crate) fn own_key(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    match read_key(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        read => return read,
    }
    let mut secret = Zeroizing::new(vec![0; 32]);
    aws_lc_rs::rand::fill(&mut secret).map_err(|_| io::Error::other("there is no randomness"))?;
    // Whole under its name or not at all.
    let temporary = path.with_extension("new");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(&secret)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    Ok(secret)
}
