use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use vintage_control::NumberSet;

use crate::error::Error;

const SUFFIX: &str = "acks";

/// Journal of the numbers that the log acknowledged to one producer process: file
/// `<dir>/<producer>.acks`, one decimal number a line.
///
/// The journal is the producer's own record of what was published, independent of what the learner
/// saw. Each line is a single `write`, so it has reached the kernel before the next group is
/// counted and survives a SIGKILL of the process.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    /// Open file; `None` once a write has failed. A further line could otherwise be read together
    /// with a line that a full disk cut off, as a number that was never given.
    file: Option<File>,
}

impl Journal {
    /// Creates the journal of a producer process; `producer` is the value of its `producer` header.
    pub fn create(dir: &Path, producer: &str) -> Result<Self, Error> {
        let path = dir.join(format!("{producer}.{SUFFIX}"));
        let open = || {
            fs::create_dir_all(dir)?;
            OpenOptions::new().append(true).create_new(true).open(&path)
        };
        match open() {
            Ok(file) => Ok(Self {
                path,
                file: Some(file),
            }),
            Err(source) => Err(Error::Journal {
                action: "create",
                path,
                source,
            }),
        }
    }

    /// Notes that the log has acknowledged `seq`. Every call after a failure fails too.
    pub fn acknowledge(&mut self, seq: u64) -> Result<(), Error> {
        let line = format!("{seq}\n");
        let why = loop {
            let Some(file) = &mut self.file else {
                break io::Error::other("an earlier write failed");
            };
            match file.write(line.as_bytes()) {
                Ok(written) if written == line.len() => return Ok(()),
                // A full disk shortens a write; the reader ignores the truncated line.
                Ok(_) => break io::ErrorKind::StorageFull.into(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break error,
            }
        };
        self.file = None;
        Err(Error::Journal {
            action: "extend",
            path: self.path.clone(),
            source: why,
        })
    }
}

/// Reads the journals of all producer processes: acknowledged numbers by `producer` header.
///
/// A last line without newline was cut off by a crash and is ignored. A missing folder gives an
/// empty result.
pub fn read_journals(dir: &Path) -> Result<BTreeMap<String, NumberSet>, Error> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Journal {
            action: "read",
            path,
            source,
        }
    };
    let mut by_producer = BTreeMap::new();
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(by_producer),
        Err(error) => return Err(failed(dir)(error)),
    };
    for entry in entries {
        let path = entry.map_err(failed(dir))?.path();
        if path.extension().is_none_or(|suffix| suffix != SUFFIX) {
            continue;
        }
        let text = fs::read_to_string(&path).map_err(failed(&path))?;
        let Some(producer) = path.file_stem().and_then(|stem| stem.to_str()) else {
            return Err(failed(&path)(io::ErrorKind::InvalidFilename.into()));
        };
        let mut numbers = NumberSet::default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        for (index, line) in whole.lines().enumerate() {
            let number = line.parse().map_err(|_| Error::JournalLine {
                path: path.clone(),
                line: index + 1,
                text: line.to_owned(),
            })?;
            numbers.insert(number);
        }
        by_producer.insert(producer.to_owned(), numbers);
    }
    Ok(by_producer)
}

#[cfg(test)]
mod tests {
    use std::{fs::OpenOptions, io::Write, process::Command};

    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    use super::{Journal, read_journals};

    #[test]
    fn lives_are_kept_apart_and_a_torn_line_does_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("producers");
        assert!(read_journals(&dir).unwrap().is_empty());

        let mut first = Journal::create(&dir, "local-aa").unwrap();
        for seq in 0..12 {
            first.acknowledge(seq).unwrap();
        }
        let mut second = Journal::create(&dir, "local-bb").unwrap();
        second.acknowledge(0).unwrap();
        Journal::create(&dir, "local-cc").unwrap();
        // Cut off in the middle of "120\n": must not be read as 1 or 12.
        let mut torn = OpenOptions::new()
            .append(true)
            .open(dir.join("local-bb.acks"))
            .unwrap();
        torn.write_all(b"12").unwrap();
        std::fs::write(dir.join("notes.txt"), "x").unwrap();

        let lives = read_journals(&dir).unwrap();
        assert_eq!(lives.len(), 3);
        assert_eq!(lives["local-aa"], (0..12).collect());
        assert_eq!(lives["local-bb"], [0].into_iter().collect());
        assert!(lives["local-cc"].is_empty());
    }

    #[test]
    fn a_life_has_one_journal_and_bad_lines_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::create(folder.path(), "p-1").unwrap();
        journal.acknowledge(7).unwrap();
        assert!(Journal::create(folder.path(), "p-1").is_err());
        std::fs::write(folder.path().join("p-1.acks"), "7\nx\n8\n").unwrap();
        let message = read_journals(folder.path()).unwrap_err().to_string();
        assert!(message.contains("p-1.acks:2"), "{message}");
    }

    #[test]
    fn a_full_disk_is_reported() {
        // Every write to this device fails with "no space left".
        let file = OpenOptions::new().append(true).open("/dev/full").unwrap();
        let mut journal = Journal {
            path: "full.acks".into(),
            file: Some(file),
        };
        let message = journal.acknowledge(0).unwrap_err().to_string();
        assert!(
            message.contains("full.acks") && message.contains("make room"),
            "{message}"
        );
    }

    #[test]
    fn nothing_is_written_behind_a_torn_line() {
        // The limit below applies to a whole process, so this test runs in one of its own.
        const ALONE: &str = "VINTAGE_TEST_TORN_LINE";
        if std::env::var_os(ALONE).is_none() {
            let mut alone = Command::new(std::env::current_exe().unwrap());
            alone.args([
                "--exact",
                "journal::tests::nothing_is_written_behind_a_torn_line",
            ]);
            let ran = alone.env(ALONE, "1").output().unwrap();
            let said = String::from_utf8_lossy(&ran.stdout);
            assert!(ran.status.success() && said.contains("1 passed"), "{said}");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p-1.acks");
        let mut journal = Journal::create(folder.path(), "p-1").unwrap();
        journal.acknowledge(122).unwrap();
        // The file may grow by one byte only, which holds the first byte of "123\n".
        let limits = getrlimit(Resource::Fsize);
        let (current, maximum) = (Some(5), limits.maximum);
        let narrow = Rlimit { current, maximum };
        setrlimit(Resource::Fsize, narrow).unwrap();
        let torn = journal.acknowledge(123);
        setrlimit(Resource::Fsize, limits).unwrap();
        assert!(torn.unwrap_err().to_string().contains("p-1.acks"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "122\n1");
        // There is space again, and groups in flight are still acknowledged.
        journal.acknowledge(124).unwrap_err();
        let lives = read_journals(folder.path()).unwrap();
        assert_eq!(lives["p-1"], [122].into_iter().collect());
    }
}
