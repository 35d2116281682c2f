//! Files into sections, keys and values, each with the place it came from.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use ini::{Ini, ParseOption};

use super::{ConfigError, MAIN, keys};

/// A configuration is a few lines; what is longer was named by mistake.
const LONGEST: u64 = 1 << 20;

/// Sections by their names in capitals.
pub(super) type Sections = BTreeMap<String, Section>;

/// A section, merged from all files.
#[derive(Debug)]
pub(super) struct Section {
    /// Its name as it was written.
    pub(super) name: String,
    entries: BTreeMap<String, Entry>,
}

/// A value, and the file that it came from.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) path: PathBuf,
    pub(super) value: String,
}

impl Section {
    /// A section with nothing in it.
    pub(super) fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            entries: BTreeMap::new(),
        }
    }

    /// The value of a key, with its place.
    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// The value of a key, unless it is empty.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.entry(key)
            .map(|entry| entry.value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// The parts of a value between commas, without the empty ones.
    pub(super) fn list(&self, key: &str) -> Option<Vec<&str>> {
        let parts = self.entry(key)?.value.split([',', '\n']);
        Some(
            parts
                .map(str::trim)
                .filter(|part| !part.is_empty())
                .collect(),
        )
    }

    /// Yes or no, in the words of Python's ConfigParser.
    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, ConfigError> {
        let Some(text) = self.text(key) else {
            return Ok(None);
        };
        match text.to_ascii_lowercase().as_str() {
            "1" | "yes" | "true" | "on" => Ok(Some(true)),
            "0" | "no" | "false" | "off" => Ok(Some(false)),
            _ => Err(self.wrong(key, text, "write yes or no")),
        }
    }

    /// The error that names this place.
    pub(super) fn wrong(&self, key: &str, value: &str, why: impl ToString) -> ConfigError {
        ConfigError::Value {
            path: self
                .entry(key)
                .map(|entry| entry.path.clone())
                .unwrap_or_default(),
            section: self.name.clone(),
            key: key.to_owned(),
            value: value.chars().take(80).collect(),
            why: why.to_string(),
        }
    }
}

/// The file and its fragments, `FILE.d/*.conf` in the order of their names.
pub(super) fn with_fragments(path: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let mut directory = path.as_os_str().to_owned();
    directory.push(".d");
    let directory = PathBuf::from(directory);
    let mut fragments = Vec::new();
    match std::fs::read_dir(&directory) {
        Ok(files) => {
            for file in files {
                let file = file.map_err(|source| ConfigError::Read {
                    path: directory.clone(),
                    source,
                })?;
                if file
                    .path()
                    .extension()
                    .is_some_and(|extension| extension == "conf")
                {
                    fragments.push(file.path());
                }
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(source) => {
            return Err(ConfigError::Read {
                path: directory,
                source,
            });
        }
    }
    fragments.sort();
    // Fragments alone are a configuration, too.
    if fragments.is_empty() || path.exists() {
        fragments.insert(0, path.to_owned());
    }
    Ok(fragments)
}

/// Reads a file as text.
pub(super) fn read(path: &Path) -> Result<String, ConfigError> {
    let fail = |source: std::io::Error| match source.kind() {
        ErrorKind::NotFound => ConfigError::Missing(path.to_owned()),
        _ => ConfigError::Read {
            path: path.to_owned(),
            source,
        },
    };
    let no_text = |why| ConfigError::NoText {
        path: path.to_owned(),
        why,
    };
    let file = std::fs::File::open(path).map_err(fail)?;
    let mut bytes = Vec::new();
    file.take(LONGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(fail)?;
    if bytes.len() as u64 > LONGEST {
        return Err(no_text("it is longer than 1 MiB"));
    }
    String::from_utf8(bytes).map_err(|_| no_text("it is not UTF-8 text"))
}

/// Adds what a file says; its keys replace those of the files before it.
pub(super) fn merge(sections: &mut Sections, path: &Path, text: &str) -> Result<(), ConfigError> {
    let options = ParseOption {
        enabled_quote: false,
        enabled_escape: false,
        // Python's continuation lines.
        enabled_indented_mutiline_value: true,
        ..ParseOption::default()
    };
    let ini = Ini::load_from_str_opt(text, options).map_err(|error| ConfigError::Syntax {
        path: path.to_owned(),
        line: error.line + 1,
        why: error.msg.into_owned(),
    })?;
    let mut seen = Vec::new();
    for (name, properties) in &ini {
        let Some(name) = name else {
            if let Some((key, _)) = properties.iter().next() {
                let why =
                    format!("{key} stands before the first section; write [IPFLOATER] above it");
                return Err(ConfigError::Syntax {
                    path: path.to_owned(),
                    line: 1,
                    why,
                });
            }
            continue;
        };
        let capitals = capitals(name);
        let known = known_keys(&capitals).ok_or_else(|| ConfigError::UnknownSection {
            path: path.to_owned(),
            section: name.trim().to_owned(),
        })?;
        let section = sections
            .entry(capitals.clone())
            .or_insert_with(|| Section::named(name.trim()));
        for (key, value) in properties.iter() {
            let key = key.trim().to_ascii_uppercase();
            let gone = capitals == MAIN && keys::GONE.iter().any(|(gone, _)| *gone == key);
            if !gone && !known.contains(&key.as_str()) {
                let nearest = nearest(&key, known);
                let (path, section) = (path.to_owned(), section.name.clone());
                return Err(ConfigError::UnknownKey {
                    path,
                    section,
                    key,
                    nearest,
                });
            }
            if seen.contains(&(capitals.clone(), key.clone())) {
                let (path, section) = (path.to_owned(), section.name.clone());
                return Err(ConfigError::Twice { path, section, key });
            }
            seen.push((capitals.clone(), key.clone()));
            let value = without_comments(value);
            section.entries.insert(
                key,
                Entry {
                    path: path.to_owned(),
                    value,
                },
            );
        }
    }
    Ok(())
}

/// `pool  dmz` and `POOL dmz` are the same section; the name of a pool keeps
/// its case.
fn capitals(name: &str) -> String {
    match name.trim().split_once(char::is_whitespace) {
        Some((word, rest)) => format!("{} {}", word.to_ascii_uppercase(), rest.trim()),
        None => name.trim().to_ascii_uppercase(),
    }
}

fn known_keys(section: &str) -> Option<&'static [&'static str]> {
    if section == MAIN {
        Some(&keys::MAIN)
    } else if section.starts_with("POOL ") {
        Some(&keys::POOL)
    } else {
        None
    }
}

/// A value may be followed by white space and a comment.
fn without_comments(value: &str) -> String {
    let line = |line: &str| {
        let comment = line
            .char_indices()
            .zip(std::iter::once(' ').chain(line.chars()))
            .find(|((_, c), before)| matches!(c, '#' | ';') && before.is_whitespace());
        let end = comment.map_or(line.len(), |((at, _), _)| at);
        line[..end].trim().to_owned()
    };
    value
        .lines()
        .map(line)
        .collect::<Vec<_>>()
        .join("\n")
        .trim()
        .to_owned()
}

/// The known key with the fewest letters to change (Levenshtein's distance).
fn nearest(key: &str, known: &[&'static str]) -> &'static str {
    let distance = |other: &str| {
        let mut row: Vec<usize> = (0..=other.len()).collect();
        for (i, a) in key.bytes().enumerate() {
            let mut diagonal = row[0];
            row[0] = i + 1;
            for (j, b) in other.bytes().enumerate() {
                let changed = diagonal + usize::from(a != b);
                diagonal = row[j + 1];
                row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
            }
        }
        row[other.len()]
    };
    known
        .iter()
        .min_by_key(|other| distance(other))
        .expect("every section has keys")
}
