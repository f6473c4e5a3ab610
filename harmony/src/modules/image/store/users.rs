//! Which files back which overlays, read from the overlays' own qcow2 headers.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use harmony_base::qcow2::{BackingName, HEADER_BYTES, Header, HeaderError, MAX_BACKING_NAME_BYTES};
use harmony_base::stamp::FileId;
use serde_json::Value;

/// QEMU gives up on longer chains too.
const LONGEST_CHAIN: usize = 200;

/// The files that are behind overlays.
#[derive(Debug, Default)]
pub struct Overlays {
    found: Vec<Overlay>,
    /// What could not be read, with the reason. What it backs onto is not known.
    pub unknown: Vec<(PathBuf, String)>,
}

#[derive(Debug)]
struct Overlay {
    path: PathBuf,
    /// Each file behind it; links to one file are one.
    backing: HashSet<FileId>,
}

impl Overlays {
    /// Reads the header of each file in `dirs`, and those of the files behind it, to the end of the chain.
    /// A directory that does not exist has no overlays.
    pub fn in_dirs(dirs: &[PathBuf]) -> Self {
        let mut overlays = Self::default();
        for dir in dirs {
            if let Err(error) = overlays.add_dir(dir) {
                overlays.unknown.push((dir.clone(), error.to_string()));
            }
        }
        overlays
    }

    fn add_dir(&mut self, dir: &Path) -> io::Result<()> {
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let path = entry?.path();
            match fs::metadata(&path) {
                Ok(metadata) if metadata.is_file() => self.add_file(path),
                // A link to nothing, or a file that has gone since.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Ok(_) => {}
                Err(error) => self.unknown.push((path, error.to_string())),
            }
        }
        Ok(())
    }

    fn add_file(&mut self, path: PathBuf) {
        let mut backing = HashSet::new();
        let mut left = vec![path.clone()];
        while let Some(file) = left.pop() {
            match backing_files(&file) {
                Ok(behind) => {
                    for file in behind {
                        let known = FileId::of(&file).ok().is_none_or(|id| !backing.insert(id));
                        if !known && backing.len() < LONGEST_CHAIN {
                            left.push(file);
                        }
                    }
                }
                // What is behind the file goes with it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => self.unknown.push((file, error.to_string())),
            }
        }
        if !backing.is_empty() {
            self.found.push(Overlay { path, backing });
        }
    }

    /// The overlays whose chain has this file.
    pub fn users_of(&self, file: &Path) -> Vec<&Path> {
        let Ok(id) = FileId::of(file) else {
            return Vec::new();
        };
        let users = self.found.iter().filter(|o| o.backing.contains(&id));
        users.map(|overlay| overlay.path.as_path()).collect()
    }
}

/// The files directly behind an image: one as a rule, none when it is no qcow2 or stands alone.
fn backing_files(path: &Path) -> io::Result<Vec<PathBuf>> {
    let file = File::open(path)?;
    let mut start = Vec::with_capacity(HEADER_BYTES);
    (&file).take(HEADER_BYTES as u64).read_to_end(&mut start)?;
    let Some(place) = name_place(&start)? else {
        return Ok(Vec::new());
    };
    let mut name = vec![0; place.length as usize];
    file.read_exact_at(&mut name, place.offset)?;
    let name =
        String::from_utf8(name).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
    let dir = path.parent().unwrap_or(Path::new("/"));
    Ok(named_files(&name)
        .iter()
        .map(|name| dir.join(name))
        .collect())
}

/// Where in a file the name of its backing file is; none when it is no qcow2 or stands alone.
fn name_place(start: &[u8]) -> io::Result<Option<BackingName>> {
    let broken = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    match Header::parse(start).map(|header| header.backing) {
        Ok(None | Some(BackingName { length: 0, .. })) | Err(HeaderError::NotQcow2) => Ok(None),
        Ok(Some(place)) if place.length <= MAX_BACKING_NAME_BYTES => Ok(Some(place)),
        Ok(Some(place)) => Err(broken(format!(
            "a qcow2 header with {} bytes of a backing file's name (expected at most {MAX_BACKING_NAME_BYTES})",
            place.length
        ))),
        Err(error) => Err(broken(format!("it {error}"))),
    }
}

/// The files that a backing file's name says: a path, `file:` and a path, or `json:` and a description of
/// block nodes.
fn named_files(name: &str) -> Vec<String> {
    if let Some(description) = name.strip_prefix("json:") {
        let mut names = Vec::new();
        if let Ok(value) = serde_json::from_str(description) {
            collect_names(&value, &mut names);
        }
        return names;
    }
    vec![name.strip_prefix("file:").unwrap_or(name).to_owned()]
}

fn collect_names(value: &Value, names: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let is_name = key == "filename" || key.ends_with(".filename");
                match value.as_str().filter(|_| is_name) {
                    Some(name) => names.push(name.to_owned()),
                    None => collect_names(value, names),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| collect_names(value, names)),
        _ => {}
    }
}

#[cfg(test)]
pub(super) mod tests;
