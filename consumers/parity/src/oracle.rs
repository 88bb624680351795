//! Files of an oracle.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::tolerance::Measured;
use crate::error::{Error, Result};

/// Model folder with its oracle.
pub(super) struct Pair {
    pub(super) name: String,
    pub(super) folder: PathBuf,
    pub(super) oracle: Oracle,
    pub(super) measured: Measured,
}

/// Models and oracles that a folder holds.
pub(super) struct Found {
    /// Models with their oracles, sorted by name.
    pub(super) pairs: Vec<Pair>,
    /// Names of the models without an oracle beside them.
    pub(super) without_oracle: Vec<String>,
    /// Names of the oracles without a model beside them.
    pub(super) without_model: Vec<String>,
}

/// Finds every model of `folder` with its oracle, or only `folder` itself if it is a model.
pub(super) fn find(folder: &Path) -> Result<Found> {
    let refuse =
        |why: String| Error::Oracle(format!("looking for models in {}: {why}", folder.display()));
    // Canonical, so that `models/a/.` has a name and a parent.
    let folder = folder
        .canonicalize()
        .map_err(|error| refuse(format!("{error}; name a folder of NAME/ and NAME.oracle/")))?;
    let is_model = |path: &Path| path.join("config.json").is_file();
    let (root, models, oracles) = if is_model(&folder) {
        let root = folder.parent().unwrap_or(&folder).to_owned();
        (root, vec![folder.clone()], Vec::new())
    } else {
        let entries = folder
            .read_dir()
            .map_err(|error| refuse(error.to_string()))?;
        let entries = entries.map(|entry| entry.map(|entry| entry.path()));
        let entries: Vec<_> = entries
            .collect::<std::io::Result<_>>()
            .map_err(|error| refuse(error.to_string()))?;
        let is_oracle =
            |path: &&PathBuf| path.is_dir() && path.extension() == Some("oracle".as_ref());
        let oracles = entries.iter().filter(is_oracle).cloned().collect();
        let mut models: Vec<_> = entries.into_iter().filter(|path| is_model(path)).collect();
        models.sort();
        (folder.clone(), models, oracles)
    };
    let tolerances = tolerances(&root)?;
    let (mut pairs, mut without) = (Vec::new(), Vec::new());
    for folder in models {
        let name = folder.file_name().unwrap_or_default();
        let name = name.to_string_lossy().into_owned();
        // Weights that are split over several files share the oracle of the unsplit ones.
        let stems = [name.as_str(), name.trim_end_matches("-sharded")];
        let found = stems.into_iter().find_map(|stem| {
            let oracle = root.join(format!("{stem}.oracle"));
            oracle.is_dir().then_some((stem, oracle))
        });
        match found {
            None => without.push(name),
            Some((stem, oracle)) => pairs.push(Pair {
                measured: Measured::of_model(&tolerances[stem]),
                oracle: Oracle { folder: oracle },
                folder,
                name,
            }),
        }
    }
    if pairs.is_empty() {
        let found = if without.is_empty() {
            "no folder in it has a config.json".to_owned()
        } else {
            format!(
                "none of {} has a NAME.oracle folder beside it",
                without.join(", ")
            )
        };
        return Err(refuse(format!(
            "{found}; name a folder of NAME/ and NAME.oracle/, or one such NAME/"
        )));
    }
    let unused = |oracle: &&PathBuf| !pairs.iter().any(|pair| pair.oracle.folder == **oracle);
    let names = oracles
        .iter()
        .filter(unused)
        .filter_map(|path| path.file_name());
    let mut without_model: Vec<_> = names
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    without_model.sort();
    Ok(Found {
        pairs,
        without_oracle: without,
        without_model,
    })
}

fn tolerances(root: &Path) -> Result<Value> {
    let path = root.join("tolerances.json");
    if !path.exists() {
        return Ok(Value::Null);
    }
    read_json(&path)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path)
        .map_err(|error| Error::Oracle(format!("reading {}: {error}", path.display())))
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    serde_json::from_slice(&read(path)?)
        .map_err(|error| Error::Oracle(format!("reading {}: {error}", path.display())))
}

/// Folder with results of another implementation.
pub(super) struct Oracle {
    folder: PathBuf,
}

impl Oracle {
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Reads a JSON file; `None` if it does not exist.
    pub(super) fn json<T: DeserializeOwned>(&self, file: &str) -> Result<Option<T>> {
        let path = self.folder.join(file);
        path.exists().then(|| read_json(&path)).transpose()
    }

    /// Reads a file of tensors; `None` if it does not exist.
    pub(super) fn tensors(&self, file: &str) -> Result<Option<Tensors>> {
        let path = self.folder.join(file);
        if !path.exists() {
            return Ok(None);
        }
        let refuse = |why: String| Error::Oracle(format!("reading {}: {why}", path.display()));
        let bytes = read(&path)?;
        let parsed = SafeTensors::deserialize(&bytes).map_err(|error| refuse(error.to_string()))?;
        let mut tensors = BTreeMap::new();
        for (name, view) in parsed.tensors() {
            let values = widen(view.dtype(), view.data()).ok_or_else(|| {
                refuse(format!(
                    "tensor {name}: dtype {:?} is not read here",
                    view.dtype()
                ))
            })?;
            let shape = view.shape().to_vec();
            tensors.insert(name, Table { shape, values });
        }
        Ok(Some(Tensors { path, tensors }))
    }

    /// Returns the steps n for which there is a file `<prefix><n>.safetensors`, ascending.
    pub(super) fn steps(&self, prefix: &str) -> Result<Vec<u64>> {
        let folder = self.folder.display();
        let refuse = |error| Error::Oracle(format!("listing {folder}: {error}"));
        let mut steps = Vec::new();
        for entry in self.folder.read_dir().map_err(refuse)? {
            let name = entry.map_err(refuse)?.file_name();
            let name = name.to_string_lossy();
            let number = name
                .strip_prefix(prefix)
                .and_then(|rest| rest.strip_suffix(".safetensors"));
            steps.extend(number.and_then(|number| number.parse::<u64>().ok()));
        }
        steps.sort_unstable();
        Ok(steps)
    }
}

/// Converts values to f64, which is exact: integers in these files are ids, positions and masks.
/// Returns `None` for dtypes that are not read.
fn widen(dtype: Dtype, bytes: &[u8]) -> Option<Vec<f64>> {
    fn numbers<const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> f64) -> Vec<f64> {
        let (numbers, _) = bytes.as_chunks::<N>();
        numbers.iter().map(|bytes| read(*bytes)).collect()
    }
    Some(match dtype {
        Dtype::F64 => numbers(bytes, f64::from_le_bytes),
        Dtype::F32 => numbers(bytes, |bytes| f64::from(f32::from_le_bytes(bytes))),
        Dtype::I64 => numbers(bytes, |bytes| i64::from_le_bytes(bytes) as f64),
        Dtype::I32 => numbers(bytes, |bytes| f64::from(i32::from_le_bytes(bytes))),
        Dtype::BOOL | Dtype::U8 => bytes.iter().map(|byte| f64::from(*byte)).collect(),
        _ => return None,
    })
}

/// Tensor with row-major values.
pub(super) struct Table {
    pub(super) shape: Vec<usize>,
    pub(super) values: Vec<f64>,
}

/// Tensors of one file.
pub(super) struct Tensors {
    path: PathBuf,
    tensors: BTreeMap<String, Table>,
}

impl Tensors {
    /// Returns names and tensors, sorted by name.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Table)> {
        self.tensors
            .iter()
            .map(|(name, table)| (name.as_str(), table))
    }

    /// Returns the tensor called `name`, if there is one.
    pub(super) fn find(&self, name: &str) -> Option<&Table> {
        self.tensors.get(name)
    }

    /// Returns the values of the tensor called `name`, which must have this shape.
    pub(super) fn shaped(&self, name: &str, shape: &[usize]) -> Result<&[f64]> {
        let table = self
            .find(name)
            .ok_or_else(|| self.refuse(name, "is missing"))?;
        if table.shape != shape {
            let problem = format!("has shape {:?}, expected {shape:?}", table.shape);
            return Err(self.refuse(name, &problem));
        }
        Ok(&table.values)
    }

    pub(super) fn refuse(&self, name: &str, problem: &str) -> Error {
        Error::Oracle(format!(
            "reading {}: tensor {name} {problem}",
            self.path.display()
        ))
    }
}
