//! Working directory of a command, and the check that the script it names exists.

use std::path::{Path, PathBuf};

use super::settings::CommandSettings;

/// Interpreters that run a script given as an argument, named without version suffix (`python` for
/// `python3.12`).
const INTERPRETERS: [&str; 13] = [
    "python", "pypy", "node", "deno", "bun", "sh", "bash", "dash", "zsh", "ruby", "perl",
    "Rscript", "julia",
];
/// Options followed by code or a module name instead of a script.
const INLINE: [&str; 6] = ["-c", "-m", "-e", "-p", "--eval", "--print"];
/// File name extensions of scripts.
const EXTENSIONS: [&str; 12] = [
    "py", "sh", "bash", "js", "mjs", "cjs", "ts", "rb", "pl", "R", "r", "jl",
];

/// Absolute path of the directory that a command runs in; relative paths in its command line
/// start there.
pub(super) fn directory(command: &CommandSettings) -> PathBuf {
    let directory = command.directory.clone().unwrap_or_else(|| ".".into());
    std::path::absolute(&directory).unwrap_or(directory)
}

/// Path of the program to start: relative to the command's directory if it contains a slash,
/// otherwise looked up in `PATH`.
pub(super) fn program(program: &str, directory: &Path) -> PathBuf {
    if program.contains('/') {
        directory.join(program)
    } else {
        PathBuf::from(program)
    }
}

/// Script that a command names but that does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingScript {
    /// Path of the script, as the command names it.
    pub script: String,
    /// Directory from which the path was resolved.
    pub directory: PathBuf,
    /// Names of at most three scripts that do exist beside it, the most similar name first.
    pub there: Vec<String>,
}

impl MissingScript {
    /// Returns the missing script if `command` has an interpreter run one that does not
    /// exist.
    pub fn find(command: &CommandSettings) -> Option<Self> {
        let directory = directory(command);
        let script = script(&command.argv)?;
        if directory.join(script).exists() {
            return None;
        }
        let there = neighbours(script, &directory);
        Some(Self {
            script: script.to_owned(),
            directory,
            there,
        })
    }

    /// Describes the scripts that exist there instead, for an error message.
    pub fn instead(&self) -> String {
        match self.there.as_slice() {
            [] => "no script is there".to_owned(),
            there => format!("there is {}", there.join(", ")),
        }
    }
}

/// Returns true if a program is an interpreter by its name, in whatever folder it is.
pub(super) fn is_interpreter(program: &str) -> bool {
    INTERPRETERS.contains(&bare_name(program))
}

/// Returns the name of a program without folder and version suffix.
fn bare_name(program: &str) -> &str {
    let name = program.rsplit('/').next().unwrap_or(program);
    name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.')
}

/// Returns the module that Python runs by `-m NAME` or `-mNAME`, at whatever position of the command
/// line Python is.
pub(super) fn python_module(command: &[String]) -> Option<&str> {
    let is_python = |word: &String| matches!(bare_name(word), "python" | "pypy");
    let at = command.iter().position(is_python)?;
    let mut options = command[at + 1..].iter().map(String::as_str);
    while let Some(option) = options.next() {
        match option {
            "-m" => return options.next(),
            // Options whose value is the next word.
            "-X" | "-W" => {
                options.next()?;
            }
            "-c" | "-" => return None,
            _ if option.starts_with("-m") => return Some(&option[2..]),
            _ if option.starts_with('-') => {}
            _script => return None,
        }
    }
    None
}

/// Returns the script of a command line: the first argument of an interpreter that looks like one.
pub(super) fn script(command: &[String]) -> Option<&str> {
    let (program, arguments) = command.split_first()?;
    if !is_interpreter(program) {
        return None;
    }
    let arguments = arguments.iter().map(String::as_str);
    let mut arguments = arguments.take_while(|word| !INLINE.contains(word) && *word != "-");
    arguments.find(|word| {
        let extension = Path::new(word).extension().and_then(|end| end.to_str());
        !word.starts_with('-') && extension.is_some_and(|end| EXTENSIONS.contains(&end))
    })
}

/// Lists at most three files with the missing script's extension in the same folder, the most
/// similar name first.
fn neighbours(script: &str, directory: &Path) -> Vec<String> {
    let wanted = directory.join(script);
    let (Some(folder), Some(name)) = (wanted.parent(), wanted.file_name()) else {
        return Vec::new();
    };
    let name = name.to_string_lossy().into_owned();
    let extension = Path::new(script).extension();
    let entries = folder.read_dir().into_iter().flatten().flatten();
    let mut there: Vec<String> = entries
        .filter(|entry| entry.path().extension() == extension)
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    there.sort_by_cached_key(|other| (unlike(&name, other), other.clone()));
    there.truncate(3);
    there
}

/// Number of letters that only one of two names has, counted with multiplicity.
fn unlike(a: &str, b: &str) -> usize {
    let mut left: Vec<char> = b.chars().collect();
    let mut missing = 0;
    for letter in a.chars() {
        match left.iter().position(|other| *other == letter) {
            Some(at) => {
                left.swap_remove(at);
            }
            None => missing += 1,
        }
    }
    missing + left.len()
}

#[cfg(test)]
mod tests {
    use super::{MissingScript, script};
    use crate::command::settings::CommandSettings;
    use vintage_settings::RewardConfig;

    fn words(command: &[&str]) -> Vec<String> {
        command.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn a_script_is_known_behind_an_interpreter_only() {
        let found = |command: &[&str]| script(&words(command)).map(str::to_owned);
        let of = |name: &str| Some(name.to_owned());
        assert_eq!(found(&["python3", "judge.py"]), of("judge.py"));
        assert_eq!(
            found(&[
                "/usr/bin/python3.12",
                "-u",
                "-X",
                "dev",
                "a/judge.py",
                "b.py"
            ]),
            of("a/judge.py")
        );
        assert_eq!(found(&["sh", "judge.sh"]), of("judge.sh"));
        for none in [
            &["python3", "-m", "judge.py"][..],
            &["python3", "-c", "import judge.py"],
            &["docker", "run", "image", "python3", "judge.py"],
            &["./judge.py"],
            &["python3", "judge"],
            &["python3", "-"],
            &[],
        ] {
            assert_eq!(found(none), None, "{none:?}");
        }
    }

    #[test]
    fn a_script_that_is_not_there_is_named_with_what_is() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["judge.py", "train.py", "notes.txt"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let config = |name: &str| {
            CommandSettings::from(&RewardConfig {
                command: words(&["python3", name]),
                directory: Some(folder.path().to_owned()),
                ..Default::default()
            })
        };
        assert_eq!(MissingScript::find(&config("judge.py")), None);
        let missing = MissingScript::find(&config("jugde.py")).unwrap();
        assert_eq!(missing.there, ["judge.py", "train.py"]);
        assert_eq!(missing.directory, folder.path());
        assert_eq!(missing.instead(), "there is judge.py, train.py");
        let elsewhere = MissingScript::find(&config("none/judge.py")).unwrap();
        assert_eq!(elsewhere.instead(), "no script is there");
    }
}
