//! Files that a command consists of, as far as its command line names them.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    path::{Component, Path, PathBuf},
};

use sha2::{Digest, Sha256};

use super::{
    script::{directory, is_interpreter, python_module},
    settings::CommandSettings,
};

/// File that a command names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamedFile {
    /// Path from the directory that the command runs in, or the word of the command line where the
    /// file is outside of it; distinguishes files of one name in two folders.
    pub name: String,
    /// Absolute path.
    pub path: PathBuf,
}

/// Returns the files that a command line names, sorted by name: every word that is a file, also as
/// `=FILE` at the end of one; the program, if it is given as a path and is no interpreter (which
/// belongs to the machine, as a program found in `PATH` does); and the files of a module that
/// Python runs by `-m`. What these files import, or start themselves, is not followed.
pub fn named_files(command: &CommandSettings) -> Vec<NamedFile> {
    let Some((program, arguments)) = command.argv.split_first() else {
        return Vec::new();
    };
    let directory = directory(command);
    let file = |word: &str| {
        let path = directory.join(word);
        path.is_file().then(|| NamedFile {
            name: name_from(&path, word, &directory),
            path,
        })
    };
    let of_argument = |text: &String| {
        file(text).or_else(|| text.split_once('=').and_then(|(_, value)| file(value)))
    };
    let mut files: Vec<_> = arguments.iter().filter_map(of_argument).collect();
    if program.contains('/') && !is_interpreter(program) {
        files.extend(file(program));
    }
    if let Some(module) = python_module(&command.argv) {
        let base = module.replace('.', "/");
        for end in [".py", "/__init__.py", "/__main__.py"] {
            files.extend(file(&format!("{base}{end}")));
        }
    }
    files.sort();
    files.dedup_by(|a, b| a.name == b.name);
    files
}

/// Returns the path from `directory` of a file inside it, and `word` for one outside.
fn name_from(path: &Path, word: &str, directory: &Path) -> String {
    let Ok(inside) = path.strip_prefix(directory) else {
        return word.to_owned();
    };
    let parts = inside
        .components()
        .filter(|part| *part != Component::CurDir);
    parts.collect::<PathBuf>().to_string_lossy().into_owned()
}

/// Returns the files that records of a run's inputs held before [`named_files`] distinguished files
/// of one name: arguments that are files, or else the program if it is given as a path.
pub fn files_by_base_name(command: &CommandSettings) -> Vec<PathBuf> {
    let Some((program, arguments)) = command.argv.split_first() else {
        return Vec::new();
    };
    let directory = directory(command);
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
pub(super) struct CommandFiles(BTreeMap<PathBuf, Option<vintage_control::Sha256>>);

impl CommandFiles {
    pub(super) fn of(command: &CommandSettings) -> Self {
        let digest = |NamedFile { path, .. }| {
            let sha256 = file_sha256(&path).ok();
            (path, sha256)
        };
        Self(named_files(command).into_iter().map(digest).collect())
    }

    /// Returns the first file whose contents differ from those at the first start.
    pub(super) fn changed(&self) -> Option<&Path> {
        let changed = |(path, then): &(&PathBuf, &Option<_>)| file_sha256(path).ok() != **then;
        self.0.iter().find(changed).map(|(path, _)| path.as_path())
    }
}

#[cfg(test)]
mod tests {
    use super::{CommandFiles, named_files};
    use crate::command::settings::CommandSettings;
    use vintage_settings::RewardConfig;

    struct TestFolder(tempfile::TempDir);

    impl TestFolder {
        fn new(files: &[&str]) -> Self {
            let place = Self(tempfile::tempdir().unwrap());
            for name in files {
                let path = place.0.path().join(name);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, name).unwrap();
            }
            place
        }

        fn path(&self, name: &str) -> String {
            self.0.path().join(name).display().to_string()
        }

        fn argv(&self, words: &[&str]) -> CommandSettings {
            CommandSettings::from(&RewardConfig {
                command: words.iter().map(|&word| word.to_owned()).collect(),
                directory: Some(self.0.path().to_owned()),
                ..RewardConfig::default()
            })
        }

        fn named(&self, words: &[&str]) -> Vec<String> {
            let files = named_files(&self.argv(words)).into_iter();
            files.map(|file| file.name).collect()
        }
    }

    #[test]
    fn every_word_that_is_a_file_is_a_commands_file_under_its_path_from_the_directory() {
        let place =
            TestFolder::new(&["judge.py", "a/rules.json", "b/rules.json", "bin/python3.12"]);
        let given = format!("--rules={}", place.path("a/rules.json"));
        for (words, files) in [
            (
                &["./judge.py", &given, "b/rules.json", "-v"][..],
                &["a/rules.json", "b/rules.json", "judge.py"][..],
            ),
            (&[&place.path("judge.py")], &["judge.py"]),
            (&["python3", "judge.py", "./judge.py"], &["judge.py"]),
            (&["bin/python3.12", "judge.py"], &["judge.py"]),
            (&["bash", "-c", "python3 judge.py"], &[]),
            (&["judge.py"], &[]),
            (&[], &[]),
        ] {
            assert_eq!(place.named(words), files, "{words:?}");
        }
        let elsewhere = TestFolder::new(&["judge.py"]);
        let outside = elsewhere.path("judge.py");
        let words = ["python3", &outside, "judge.py"];
        let mut both = vec![outside.clone(), "judge.py".to_owned()];
        both.sort();
        assert_eq!(place.named(&words), both);
    }

    #[test]
    fn a_module_that_python_runs_is_found_in_the_directory() {
        let place = TestFolder::new(&[
            "judge.py",
            "of/__init__.py",
            "of/__main__.py",
            "of/maths.py",
        ]);
        for (words, files) in [
            (&["python3", "-m", "judge"][..], &["judge.py"][..]),
            (&["uv", "run", "python", "-u", "-mjudge"], &["judge.py"]),
            (&["python3", "-m", "of.maths"], &["of/maths.py"]),
            (
                &["python3", "-X", "dev", "-m", "of"],
                &["of/__init__.py", "of/__main__.py"],
            ),
            (&["python3", "-m", "installed"], &[]),
            (&["python3", "-c", "pass", "-m", "judge"], &[]),
            (&["other", "-m", "judge"], &[]),
        ] {
            assert_eq!(place.named(words), files, "{words:?}");
        }
    }

    #[test]
    fn a_file_that_changes_between_two_starts_is_found() {
        let place = TestFolder::new(&["judge.py", "a/rules.json", "b/rules.json"]);
        for (words, file) in [
            (&["./judge.py", "a/rules.json"][..], "judge.py"),
            (&["python3", "-m", "judge"], "judge.py"),
            (
                &["./judge.py", "a/rules.json", "b/rules.json"],
                "a/rules.json",
            ),
            (
                &["./judge.py", "a/rules.json", "b/rules.json"],
                "b/rules.json",
            ),
        ] {
            std::fs::write(place.path(file), "one").unwrap();
            let files = CommandFiles::of(&place.argv(words));
            assert_eq!(files.changed(), None);
            std::fs::write(place.path(file), "another").unwrap();
            assert!(files.changed().unwrap().ends_with(file), "{words:?}");
            std::fs::remove_file(place.path(file)).unwrap();
            assert!(files.changed().is_some());
            std::fs::write(place.path(file), "one").unwrap();
        }
    }
}
