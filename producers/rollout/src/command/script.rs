//! Where a reward command runs, and whether the script it names is there.

use std::path::{Path, PathBuf};

use vintage_settings::RewardConfig;

/// Programs that run the script they are given, by how their names begin.
const INTERPRETERS: [&str; 13] = [
    "python", "pypy", "node", "deno", "bun", "sh", "bash", "dash", "zsh", "ruby", "perl",
    "Rscript", "julia",
];
/// Options behind which there is no script but a text or a module.
const INLINE: [&str; 6] = ["-c", "-m", "-e", "-p", "--eval", "--print"];
/// How names of scripts end.
const EXTENSIONS: [&str; 12] = [
    "py", "sh", "bash", "js", "mjs", "cjs", "ts", "rb", "pl", "R", "r", "jl",
];

/// Where the words of a reward command are looked for.
pub(super) fn directory(config: &RewardConfig) -> PathBuf {
    let directory = config.directory.clone().unwrap_or_else(|| ".".into());
    std::path::absolute(&directory).unwrap_or(directory)
}

/// The program as it is to be started: relative to the command's directory where it is a path.
pub(super) fn program(program: &str, directory: &Path) -> PathBuf {
    if program.contains('/') {
        directory.join(program)
    } else {
        PathBuf::from(program)
    }
}

/// A script that a reward command names and that is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingScript {
    /// As the command names it.
    pub script: String,
    /// Where it was looked for.
    pub directory: PathBuf,
    /// Scripts that are there, the one with the likeliest name first.
    pub there: Vec<String>,
}

impl MissingScript {
    /// The script of `config`'s command, if an interpreter is to run one that is not there.
    pub fn find(config: &RewardConfig) -> Option<Self> {
        let directory = directory(config);
        let script = script(&config.command)?;
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

    /// What is there instead, for a message.
    pub fn instead(&self) -> String {
        match self.there.as_slice() {
            [] => "no script lies there".to_owned(),
            there => format!("there is {}", there.join(", ")),
        }
    }
}

/// The script among the words of a command: the first that looks like one, behind an interpreter.
pub(super) fn script(command: &[String]) -> Option<&str> {
    let (program, arguments) = command.split_first()?;
    let name = Path::new(program).file_name()?.to_str()?;
    let versioned = |c: char| c.is_ascii_digit() || c == '.';
    if !INTERPRETERS.contains(&name.trim_end_matches(versioned)) {
        return None;
    }
    let arguments = arguments.iter().map(String::as_str);
    let mut arguments = arguments.take_while(|word| !INLINE.contains(word) && *word != "-");
    arguments.find(|word| {
        let extension = Path::new(word).extension().and_then(|end| end.to_str());
        !word.starts_with('-') && extension.is_some_and(|end| EXTENSIONS.contains(&end))
    })
}

/// Scripts beside the one that is missing, at most three.
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

/// Letters that one name has and the other has not.
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
        let config = |name: &str| RewardConfig {
            command: words(&["python3", name]),
            directory: Some(folder.path().to_owned()),
            ..Default::default()
        };
        assert_eq!(MissingScript::find(&config("judge.py")), None);
        let missing = MissingScript::find(&config("jugde.py")).unwrap();
        assert_eq!(missing.there, ["judge.py", "train.py"]);
        assert_eq!(missing.directory, folder.path());
        assert_eq!(missing.instead(), "there is judge.py, train.py");
        let elsewhere = MissingScript::find(&config("none/judge.py")).unwrap();
        assert_eq!(elsewhere.instead(), "no script lies there");
    }
}
