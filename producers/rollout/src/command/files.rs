//! Files that a reward command consists of, as far as its command line names them.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use super::script::directory;
use vintage_settings::RewardConfig;

/// Returns the files that a command line names: scripts and other file arguments, also as `=FILE`
/// at the end of an argument. The program itself is included only if it is given as a path and no
/// argument is a file; otherwise it is taken for an interpreter, which belongs to the machine.
pub fn named_files(config: &RewardConfig) -> Vec<PathBuf> {
    let Some((program, arguments)) = config.command.split_first() else {
        return Vec::new();
    };
    let directory = directory(config);
    let file = |text: &str| Some(directory.join(text)).filter(|path| path.is_file());
    let of_argument = |text: &String| {
        file(text).or_else(|| text.split_once('=').and_then(|(_, value)| file(value)))
    };
    let mut files: Vec<_> = arguments.iter().filter_map(of_argument).collect();
    if files.is_empty() && program.contains('/') {
        files.extend(file(program));
    }
    files.sort();
    files.dedup();
    files
}

/// SHA-256 of a file's bytes.
///
/// # Errors
/// The file cannot be read.
pub fn file_sha256(path: &Path) -> io::Result<vintage_control::Sha256> {
    let mut digest = Sha256::new();
    io::copy(&mut File::open(path)?, &mut digest)?;
    Ok(vintage_control::Sha256(digest.finalize().into()))
}

/// Digests of a command's files at its first start. Every restart within the same process must find
/// the same contents.
#[derive(Debug)]
pub(super) struct Files(BTreeMap<PathBuf, Option<vintage_control::Sha256>>);

impl Files {
    pub(super) fn of(config: &RewardConfig) -> Self {
        let digest = |path: PathBuf| {
            let sha256 = file_sha256(&path).ok();
            (path, sha256)
        };
        Self(named_files(config).into_iter().map(digest).collect())
    }

    /// Returns the first file whose contents differ from those at the first start.
    pub(super) fn changed(&self) -> Option<&Path> {
        let changed = |(path, then): &(&PathBuf, &Option<_>)| file_sha256(path).ok() != **then;
        self.0.iter().find(changed).map(|(path, _)| path.as_path())
    }
}

#[cfg(test)]
mod tests {
    use super::{Files, named_files};
    use vintage_settings::RewardConfig;

    #[test]
    fn scripts_and_what_they_are_given_are_a_commands_files() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, name).unwrap();
            path.display().to_string()
        };
        let (judge, rules, python) = (write("judge.py"), write("rules.json"), write("python"));
        let argv = |words: &[&str]| RewardConfig {
            command: words.iter().map(|&word| word.to_owned()).collect(),
            directory: Some(folder.path().to_owned()),
            ..RewardConfig::default()
        };
        let named = |words: &[&str]| {
            let files = named_files(&argv(words)).into_iter();
            files
                .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        let given = format!("--rules={rules}");
        assert_eq!(
            named(&[&python, &judge, "-v", &given]),
            ["judge.py", "rules.json"]
        );
        assert_eq!(named(&[&judge]), ["judge.py"]);
        assert_eq!(named(&["python3", "judge.py"]), ["judge.py"]);
        assert!(named(&["python3", "-m", "judge"]).is_empty());
        assert!(named(&[]).is_empty());

        let files = Files::of(&argv(&["python3", &judge]));
        assert_eq!(files.changed(), None);
        std::fs::write(&judge, "another").unwrap();
        assert!(files.changed().unwrap().ends_with("judge.py"));
        std::fs::remove_file(&judge).unwrap();
        assert!(files.changed().is_some());
    }
}
