use std::{
    collections::HashSet,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};
use uuid::Uuid;
use vintage_control::NumberSet;

use crate::error::Error;

/// Name of the file that holds the claims of every producer that ever shared the folder. Each line
/// is the id of a producer process, then its slots, separated by spaces.
const CLAIMS: &str = "slots";
/// Extension of the file `<id>.alive`, which a producer process keeps locked while it runs.
const ALIVE: &str = "alive";

/// Slots claimed by producers that share a folder, so that no two sample the same slot.
///
/// Each producer appends its claims to one file, and the first line that names a slot owns it. No
/// lock is taken for a claim, so a stalled producer delays no other. Claims of processes that had
/// ended when this one started are ignored: the log shows which of those groups were published.
/// Claims of a process that ends later still count until this one ends; a producer that starts
/// afterwards samples the slots left over.
#[derive(Debug)]
pub struct Claims {
    path: PathBuf,
    file: File,
    /// Life of this producer, by its id.
    life: String,
    /// Ids of the processes that had ended when this one started; their claims from before that are
    /// ignored.
    ended: HashSet<String>,
    /// Length of the claims file when this process started, in bytes.
    begun: u64,
    /// Byte offset of the first line that was not read yet.
    read: u64,
    /// Locked `<id>.alive` file of this process; the kernel releases the lock however the process
    /// ends.
    _alive: File,
}

impl Claims {
    /// Registers a new producer process in the folder `dir`. Must be called before the groups in
    /// the log are counted.
    ///
    /// # Errors
    /// The folder cannot be written or read.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(CLAIMS);
        let life = Uuid::now_v7().simple().to_string();
        let open = || {
            fs::create_dir_all(dir)?;
            let alive = begin(dir, &life)?;
            let mut options = OpenOptions::new();
            let file = options.create(true).append(true).read(true).open(&path)?;
            let begun = file.metadata()?.len();
            Ok((alive, file, begun))
        };
        let (alive, file, begun) = open().map_err(failed("create", &path))?;
        let mut claims = Self {
            file,
            life,
            ended: HashSet::new(),
            begun,
            read: 0,
            _alive: alive,
            path,
        };
        let running = running_ids(dir).map_err(failed("read", dir))?;
        let text = claims.unread()?;
        let lives = text.lines().filter_map(|line| line.split(' ').next());
        claims.ended = lives
            .filter(|life| !running.contains(*life))
            .map(str::to_owned)
            .collect();
        Ok(claims)
    }

    /// Adds to `taken` the slots that other producers claimed since the last call.
    pub(crate) fn read(&mut self, taken: &mut NumberSet) -> Result<(), Error> {
        let lines = self.next_lines()?;
        for (_, slots) in lines.into_iter().filter(|(life, _)| *life != self.life) {
            insert(taken, &slots);
        }
        Ok(())
    }

    /// Claims the `wanted` slots and returns those that no other producer claimed first. Slots that
    /// other producers claimed are added to `taken`.
    pub(crate) fn claim(
        &mut self,
        wanted: &[u64],
        taken: &mut NumberSet,
    ) -> Result<Vec<u64>, Error> {
        let slots: Vec<_> = wanted.iter().map(u64::to_string).collect();
        // The leading newline ends a line that a full disk cut off.
        let line = format!("\n{} {}\n", self.life, slots.join(" "));
        let written = self.file.write(line.as_bytes());
        let whole = written.and_then(|written| {
            if written == line.len() {
                Ok(())
            } else {
                Err(io::ErrorKind::StorageFull.into())
            }
        });
        whole.map_err(failed("extend", &self.path))?;
        let mut mine = wanted.to_vec();
        let mut claimed = false;
        for (life, slots) in self.next_lines()? {
            if life == self.life {
                claimed = true;
                continue;
            }
            if !claimed {
                mine.retain(|slot| !slots.contains(slot));
            }
            insert(taken, &slots);
        }
        Ok(mine)
    }

    /// Reads the complete lines that were not read yet, without ignored claims.
    fn next_lines(&mut self) -> Result<Vec<(String, Vec<u64>)>, Error> {
        let text = self.unread()?;
        let mut at = self.read;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let mut lines = Vec::new();
        for line in text[..whole].split_inclusive('\n') {
            let begins = at;
            at += line.len() as u64;
            let mut words = line.trim_end().split(' ');
            let life = words.next().unwrap_or_default();
            if begins < self.begun && self.ended.contains(life) {
                continue;
            }
            // The last number of a truncated line may be a wrong slot; it then stays unused for a
            // while.
            let slots: Option<Vec<u64>> = words.map(|word| word.parse().ok()).collect();
            lines.extend(slots.map(|slots| (life.to_owned(), slots)));
        }
        self.read = at;
        Ok(lines)
    }

    fn unread(&mut self) -> Result<String, Error> {
        let mut bytes = Vec::new();
        let read = self
            .file
            .seek(SeekFrom::Start(self.read))
            .and_then(|_| self.file.read_to_end(&mut bytes));
        read.map_err(failed("read", &self.path))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// Creates the `<id>.alive` file of this process. The file is locked under another name and then
/// renamed, so that no other process ever sees it unlocked.
fn begin(dir: &Path, life: &str) -> io::Result<File> {
    let staged = dir.join(format!("{life}.starting"));
    let file = File::create_new(&staged)?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    fs::rename(&staged, dir.join(format!("{life}.{ALIVE}")))?;
    Ok(file)
}

/// Returns the ids of the processes that still run, and removes the files of those that have ended.
fn running_ids(dir: &Path) -> io::Result<HashSet<String>> {
    let mut running = HashSet::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let life = path.file_stem().and_then(|stem| stem.to_str());
        let (Some(life), true) = (life, path.extension().is_some_and(|end| end == ALIVE)) else {
            continue;
        };
        let file = match File::open(&path) {
            Ok(file) => file,
            // Another producer that starts now has removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
            fs::remove_file(&path).or_else(|error| match error.kind() {
                io::ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            })?;
        } else {
            running.insert(life.to_owned());
        }
    }
    Ok(running)
}

fn insert(taken: &mut NumberSet, slots: &[u64]) {
    for &slot in slots {
        taken.insert(slot);
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Journal {
        action,
        path,
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::OpenOptions, io::Write};

    use vintage_control::NumberSet;

    use super::Claims;

    #[test]
    fn the_first_line_that_names_a_slot_owns_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut a = Claims::open(folder.path()).unwrap();
        let mut b = Claims::open(folder.path()).unwrap();
        let (mut of_a, mut of_b) = (NumberSet::default(), NumberSet::default());
        // Neither has read the other's claims.
        assert_eq!(a.claim(&[0, 1, 2], &mut of_a).unwrap(), [0, 1, 2]);
        assert_eq!(b.claim(&[1, 2, 3], &mut of_b).unwrap(), [3]);
        assert!(of_b.contains(0) && of_b.contains(2));
        a.read(&mut of_a).unwrap();
        assert!(of_a.contains(3));
    }

    #[test]
    fn claims_of_ended_lives_count_for_those_that_ran_beside_them() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = Claims::open(folder.path()).unwrap();
        let mut beside = Claims::open(folder.path()).unwrap();
        first.claim(&[0, 1], &mut NumberSet::default()).unwrap();
        drop(first);
        let mut taken = NumberSet::default();
        beside.read(&mut taken).unwrap();
        assert!(taken.contains(0) && taken.contains(1));
        beside.claim(&[2], &mut taken).unwrap();

        let mut next = Claims::open(folder.path()).unwrap();
        let mut taken = NumberSet::default();
        next.read(&mut taken).unwrap();
        assert!(!taken.contains(0) && taken.contains(2), "{taken:?}");
        // Only the `.alive` files of the two running processes are left.
        let alive = std::fs::read_dir(folder.path()).unwrap();
        let alive = alive.filter(|entry| {
            let path = entry.as_ref().unwrap().path();
            path.extension().is_some_and(|end| end == "alive")
        });
        assert_eq!(alive.count(), 2);
    }

    #[test]
    fn a_torn_line_hides_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let mut a = Claims::open(folder.path()).unwrap();
        let mut file = OpenOptions::new()
            .append(true)
            .open(folder.path().join("slots"))
            .unwrap();
        file.write_all(b"somebody 1 2 1").unwrap();
        let mut taken = NumberSet::default();
        a.read(&mut taken).unwrap();
        assert!(taken.is_empty(), "it may still be written");
        let mut b = Claims::open(folder.path()).unwrap();
        assert_eq!(a.claim(&[5], &mut taken).unwrap(), [5]);
        let mut taken = NumberSet::default();
        b.read(&mut taken).unwrap();
        assert!(taken.contains(5), "{taken:?}");
    }
}
