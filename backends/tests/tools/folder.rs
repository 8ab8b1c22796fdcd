//! Directories, copied.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// Copies a directory that may be changing; what vanishes meanwhile is left out.
pub fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_tree(&path, &target);
            continue;
        }
        match fs::copy(&path, &target) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            done => drop(done.unwrap()),
        }
    }
}
