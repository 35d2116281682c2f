//! Files into sections, keys and values, each with the place it came from.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ini::{Ini, ParseOption};

use super::lines::{self, BadLine, Plain, shown};
use super::{ConfigError, MAIN, Warning, keys};

/// A configuration is a few lines; what is longer was named by mistake.
const LONGEST: u64 = 1 << 20;

/// Words that people write for keys that are called otherwise.
const SYNONYMS: [(&str, &str); 3] = [
    ("ADDRESSES", keys::IP_POOL),
    ("POOL", keys::IP_POOL),
    ("INTERFACE", keys::OUTSIDE_INTERFACE),
];

/// Sections that are in files of the original's and say nothing to it: of Python's
/// ConfigParser, and of the library that read it.
const OTHERS: [&str; 2] = ["DEFAULT", "GENERAL"];

/// Where something stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub path: Arc<Path>,
    /// The line, counted from 1; `None` for a whole section, which has several.
    pub line: Option<usize>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)?;
        match self.line {
            Some(line) => write!(f, ", line {line}"),
            None => Ok(()),
        }
    }
}

/// Sections by their names in capitals.
pub(super) type Sections = BTreeMap<String, Section>;

/// A section, merged from all files.
#[derive(Debug)]
pub(super) struct Section {
    /// Its name as it was written.
    pub(super) name: String,
    /// Where it came first.
    pub(super) place: Place,
    /// How many other sections came before it.
    pub(super) rank: usize,
    entries: BTreeMap<String, Entry>,
}

/// A value, and where it stands.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) place: Place,
    pub(super) value: String,
}

impl Section {
    /// A section with nothing in it.
    pub(super) fn new(name: &str, path: Arc<Path>, rank: usize) -> Self {
        Self {
            name: name.to_owned(),
            place: Place { path, line: None },
            rank,
            entries: BTreeMap::new(),
        }
    }

    /// The two words of its name: what it describes, and which.
    pub(super) fn word_and_name(&self) -> (&str, &str) {
        let (word, name) = self
            .name
            .split_once(char::is_whitespace)
            .unwrap_or((&self.name, ""));
        (word, name.trim())
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
        let parts = self.entry(key)?.value.split(',').map(str::trim);
        Some(parts.filter(|part| !part.is_empty()).collect())
    }

    /// Yes or no, in the words of Python's ConfigParser.
    pub(super) fn flag(&self, key: &'static str) -> Result<Option<bool>, ConfigError> {
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
    pub(super) fn wrong(&self, key: &'static str, value: &str, why: impl ToString) -> ConfigError {
        let entry = self.entry(key);
        ConfigError::Value {
            place: entry.map_or(&self.place, |entry| &entry.place).clone(),
            section: shown(&self.name).into_owned(),
            key,
            value: value.chars().take(80).collect(),
            why: why.to_string(),
        }
    }
}

/// The file and its fragments, `FILE.d/*.conf` in the order of their names.
/// Fragments alone are a configuration, too, unless the file `must_be_there`.
pub(super) fn with_fragments(
    path: &Path,
    must_be_there: bool,
) -> Result<Vec<PathBuf>, ConfigError> {
    let mut directory = path.as_os_str().to_owned();
    directory.push(".d");
    let directory = PathBuf::from(directory);
    let fail = |source| ConfigError::Read {
        path: directory.clone(),
        source,
    };
    let mut files = Vec::new();
    match std::fs::read_dir(&directory) {
        Ok(entries) => {
            for entry in entries {
                files.push(entry.map_err(fail)?.path());
            }
        }
        // What is wrong with the way there, reading the file itself says.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
        Err(source) => return Err(fail(source)),
    }
    files.retain(|file| {
        file.extension()
            .is_some_and(|extension| extension == "conf")
    });
    files.sort();
    let is_missing = path.try_exists().is_ok_and(|exists| !exists);
    if files.is_empty() || must_be_there || !is_missing {
        files.insert(0, path.to_owned());
    }
    Ok(files)
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
    String::from_utf8(bytes).or_else(|error| without_other_text(path, error.as_bytes()))
}

/// A text whose comments are of another character set, without these.
fn without_other_text(path: &Path, bytes: &[u8]) -> Result<String, ConfigError> {
    let mut text = String::new();
    for (number, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let readable = line.utf8_chunks().next().map_or("", |chunk| chunk.valid());
        if readable.len() < line.len() && lines::comment(readable).is_none() {
            return Err(ConfigError::Syntax {
                path: path.to_owned(),
                line: number + 1,
                why: "it is not UTF-8 text, which only comments need not be".to_owned(),
            });
        }
        text.push_str(readable);
        text.push('\n');
    }
    Ok(text)
}

/// Adds what a file says; its keys replace those of the files before it.
pub(super) fn merge(
    sections: &mut Sections,
    path: &Path,
    text: &str,
    warnings: &mut Vec<Warning>,
) -> Result<(), ConfigError> {
    let syntax = |line, why| ConfigError::Syntax {
        path: path.to_owned(),
        line,
        why,
    };
    let Plain { text, keys } =
        lines::plain(text).map_err(|BadLine { line, why }| syntax(line, why))?;
    let options = ParseOption {
        enabled_quote: false,
        enabled_escape: false,
        ..ParseOption::default()
    };
    let ini = Ini::load_from_str_opt(&text, options)
        .map_err(|error| syntax(error.line, error.msg.into_owned()))?;

    let path: Arc<Path> = path.into();
    let mut lines = keys.into_iter();
    let mut seen = BTreeSet::new();
    for (name, properties) in &ini {
        let Some(name) = name else {
            // Nothing stands before the first section.
            continue;
        };
        let capitals = capitals(name);
        if let Some(others) = OTHERS.iter().find(|others| **others == capitals) {
            for ((key, _), line) in properties.iter().zip(lines.by_ref()) {
                let place = Place {
                    path: path.clone(),
                    line: Some(line),
                };
                warnings.push(of_others(place, others, key)?);
            }
            continue;
        }
        let known = known_keys(&capitals).ok_or_else(|| ConfigError::UnknownSection {
            path: path.to_path_buf(),
            section: shown(name).into_owned(),
        })?;
        let rank = sections.len();
        let section = sections
            .entry(capitals.clone())
            .or_insert_with(|| Section::new(name.trim(), path.clone(), rank));
        for (key, value) in properties.iter() {
            let place = Place {
                path: path.clone(),
                line: lines.next(),
            };
            let key = key.trim().to_ascii_uppercase();
            let section_name = || shown(&section.name).into_owned();
            if !is_known(&capitals, &key) {
                return Err(ConfigError::UnknownKey {
                    place,
                    section: section_name(),
                    hint: hint(&key, known),
                    key: shown(&key).into_owned(),
                });
            }
            if !seen.insert((capitals.clone(), key.clone())) {
                return Err(ConfigError::Twice {
                    place,
                    section: section_name(),
                    key,
                });
            }
            let value = value.trim().to_owned();
            section.entries.insert(key, Entry { place, value });
        }
    }
    Ok(())
}

/// What becomes of a key in a section that the original did not look at. One that it
/// would have looked at elsewhere was meant to count, and did from `[DEFAULT]`.
fn of_others(place: Place, section: &'static str, key: &str) -> Result<Warning, ConfigError> {
    let key = key.trim().to_ascii_uppercase();
    let shown_key = shown(&key).into_owned();
    if is_known(MAIN, &key) {
        return Err(ConfigError::UnknownKey {
            place,
            section: section.to_owned(),
            hint: hint(&key, &keys::MAIN),
            key: shown_key,
        });
    }
    Ok(Warning::OfOthers {
        place,
        section,
        key: shown_key,
    })
}

/// `pool  dmz` and `POOL dmz` are the same section; the name of a pool, user or
/// group keeps its case.
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
    } else if section.starts_with("USER ") || section.starts_with("GROUP ") {
        Some(&keys::LIMIT)
    } else {
        None
    }
}

/// Whether the section has the key, or had it in the original.
fn is_known(section: &str, key: &str) -> bool {
    let gone = section == MAIN && keys::GONE.iter().any(|(gone, _)| *gone == key);
    gone || known_keys(section).is_some_and(|known| known.contains(&key))
}

/// What somebody who wrote this key may have meant.
fn hint(key: &str, known: &[&'static str]) -> String {
    let synonym = SYNONYMS.iter().find(|(word, _)| *word == key);
    let (distance, nearest) = known
        .iter()
        .map(|other| (distance(key, other), *other))
        .min()
        .expect("every section has keys");
    if let Some((_, meant)) = synonym {
        format!("it is called {meant}")
    } else if is_known(MAIN, key) {
        "it belongs in the section [IPFLOATER]".to_owned()
    } else if distance <= nearest.len() / 2 {
        format!("did you mean {nearest}?")
    } else {
        format!("there are {}", known.join(", "))
    }
}

/// How many letters have to be changed (Levenshtein's distance).
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.bytes().enumerate() {
            let changed = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}
