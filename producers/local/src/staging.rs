//! Folders of versions, in the layout of Hugging Face, for programs that read weights from a disk.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;

/// Age from which a folder that an earlier process left is deleted. A server reads a folder within
/// minutes of being told of it, and another producer may have written it for its servers.
const LEFT_BEHIND: Duration = Duration::from_secs(3600);

/// Folder in which versions are written for programs, such as inference servers.
#[derive(Debug)]
pub struct Staging {
    /// Path as this process sees it.
    here: PathBuf,
    /// Path as the servers see it.
    there: String,
    /// Beginning of the names of this policy's folders.
    prefix: String,
    kept: usize,
    written: Vec<String>,
}

impl Staging {
    /// Creates a writer of folders whose names begin with `prefix`; the newest `kept` stay.
    pub fn new(here: PathBuf, there: Option<String>, prefix: String, kept: usize) -> Self {
        let there = there.unwrap_or_else(|| {
            let whole = std::path::absolute(&here).unwrap_or_else(|_| here.clone());
            whole.display().to_string()
        });
        Self {
            here,
            there: there.trim_end_matches('/').to_owned(),
            prefix,
            kept,
            written: Vec::new(),
        }
    }

    /// Path of the folder in this process.
    pub fn here(&self) -> &Path {
        &self.here
    }

    /// Returns the path of a version's folder as the servers see it, if it was written before, and
    /// keeps it like one that was written now.
    pub fn find(&mut self, name: &str) -> Option<String> {
        if !self.here.join(name).is_dir() {
            return None;
        }
        self.written.retain(|written| written != name);
        self.written.push(name.to_owned());
        Some(format!("{}/{name}", self.there))
    }

    /// Writes a version into a folder of its own, which appears whole or not at all, and returns its
    /// path as the servers see it. Folders of older versions are deleted.
    ///
    /// A server that is given a path a second time may read the first weights again, so every
    /// version has a path of its own.
    ///
    /// # Errors
    /// The folder cannot be written, or an old one cannot be deleted.
    pub fn write(&mut self, name: &str, files: &[(&'static str, Bytes)]) -> io::Result<String> {
        let folder = self.here.join(name);
        if !folder.is_dir() {
            fs::create_dir_all(&self.here)?;
            if self.written.is_empty() {
                self.sweep()?;
            }
            let unfinished = self
                .here
                .join(format!(".{name}-{}", uuid::Uuid::now_v7().simple()));
            fs::create_dir(&unfinished)?;
            for (name, bytes) in files {
                let mut file = File::create(unfinished.join(name))?;
                file.write_all(bytes)?;
                file.sync_all()?;
            }
            File::open(&unfinished)?.sync_all()?;
            if let Err(error) = fs::rename(&unfinished, &folder) {
                fs::remove_dir_all(&unfinished)?;
                // Another producer was faster with the same bytes.
                if !folder.is_dir() {
                    return Err(error);
                }
            }
            File::open(&self.here)?.sync_all()?;
        }
        self.written.retain(|written| written != name);
        self.written.push(name.to_owned());
        while self.written.len() > self.kept {
            let oldest = self.written.remove(0);
            match fs::remove_dir_all(self.here.join(oldest)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(format!("{}/{name}", self.there))
    }

    /// Returns true if a folder has the name of a version, which the name of a folder of somebody
    /// else has not by chance.
    fn is_own(&self, name: &str) -> bool {
        let digits = |text: &str, most: usize, of: fn(&char) -> bool| {
            (1..=most).contains(&text.len()) && text.chars().all(|digit| of(&digit))
        };
        let mut parts = name
            .strip_prefix(&self.prefix)
            .into_iter()
            .flat_map(|rest| rest.split('-'));
        let (version, hash) = (parts.next(), parts.next());
        version.is_some_and(|version| digits(version, 20, char::is_ascii_digit))
            && hash
                .is_some_and(|hash| digits(hash, 12, char::is_ascii_hexdigit) && hash.len() == 12)
    }

    /// Deletes what earlier processes left: versions, and folders that were never finished.
    fn sweep(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.here)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let own = self.is_own(name.trim_start_matches('.'));
            // Another process may sweep as well.
            let Ok(about) = entry.metadata() else {
                continue;
            };
            let age = about.modified()?.elapsed().unwrap_or_default();
            if own && about.is_dir() && age > LEFT_BEHIND {
                match fs::remove_dir_all(entry.path()) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        fs::{self, File},
        time::{Duration, SystemTime},
    };

    use bytes::Bytes;

    use super::{LEFT_BEHIND, Staging};

    #[test]
    fn old_folders_of_the_policy_are_swept_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path();
        let place = |name: &str, old: bool| {
            fs::create_dir(here.join(name)).unwrap();
            fs::write(here.join(name).join("config.json"), "{}").unwrap();
            if old {
                let then = SystemTime::now() - LEFT_BEHIND - Duration::from_secs(60);
                File::open(here.join(name))
                    .unwrap()
                    .set_modified(then)
                    .unwrap();
            }
        };
        place("lead-3-00112233aabb", true);
        place(".lead-4-00112233aabb-0190f0", true);
        place("lead-9-00112233aabb", false);
        place("photos", true);
        place("lead-of-photos", true);
        let mut staging = Staging::new(here.to_owned(), None, "lead-".to_owned(), 3);
        let files = [("model.safetensors", Bytes::from_static(b"weights"))];
        assert_eq!(staging.find("lead-10-00112233aabb"), None);
        let path = staging.write("lead-10-00112233aabb", &files).unwrap();
        assert_eq!(staging.find("lead-10-00112233aabb"), Some(path.clone()));
        assert!(path.ends_with("/lead-10-00112233aabb"), "{path}");
        let left: BTreeSet<_> = fs::read_dir(here)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(
            left,
            [
                "lead-10-00112233aabb",
                "lead-9-00112233aabb",
                "lead-of-photos",
                "photos"
            ]
            .map(str::to_owned)
            .into()
        );
    }
}
