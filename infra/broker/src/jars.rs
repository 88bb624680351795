//! Source of Kafka's jars: the user's `KAFKA_HOME`, or Maven Central by way of `mvn`.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    process::Stdio,
};

use serde::{Deserialize, Serialize};
use tokio::{process::Command, sync::Mutex};

use crate::{
    cluster::io_error,
    error::{Error, Result},
    options::LocalOptions,
};

const POM: &str = include_str!("../../kafka/pom.xml");
const PLUGIN: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies";
/// Held while this process fetches: two that fetch would have one staging folder.
static FETCHING: Mutex<()> = Mutex::const_new(());
/// Oldest major version of Java that runs Kafka 4's brokers.
const JAVA: u32 = 17;
const NEEDS_JAVA: &str = "Java 17 or newer";

/// Completion marker (`complete.json`), written last into a downloaded folder, that lists what the
/// folder must hold.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Complete {
    /// CRC-32C of the `pom.xml` from which the jars were resolved.
    pom_crc32c: u32,
    /// Length of every jar in bytes, by file name.
    jars: BTreeMap<String, u64>,
}

/// Finds a Java that can run Kafka 4: that of `JAVA_HOME`, or else the one on the path.
pub(crate) async fn java() -> Result<PathBuf> {
    let java = match std::env::var_os("JAVA_HOME").filter(|home| !home.is_empty()) {
        Some(home) => PathBuf::from(home).join("bin/java"),
        None => PathBuf::from("java"),
    };
    let missing = |found: String| Error::MissingProgram {
        needed: NEEDS_JAVA,
        found,
    };
    let output = Command::new(&java)
        .arg("-version")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| missing(format!("{} cannot be started ({error})", java.display())))?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let first = text.lines().next().unwrap_or_default();
    match major_version(&text) {
        Some(major) if major >= JAVA => Ok(java),
        _ => Err(missing(format!("{} says {first:?}", java.display()))),
    }
}

/// Parses the major version from the output of `java -version`, such as `openjdk version "17.0.15"
/// 2025-04-15` or `java version "1.8.0_402"`.
fn major_version(text: &str) -> Option<u32> {
    let quoted = text.split('"').nth(1)?;
    let mut parts = quoted.split(['.', '-', '_', '+']);
    let first: u32 = parts.next()?.parse().ok()?;
    if first == 1 {
        parts.next()?.parse().ok()
    } else {
        Some(first)
    }
}

/// Returns the folder of Kafka's jars; downloads them if `kafka_home` is not set.
pub(crate) async fn lib(options: &LocalOptions, java: &Path) -> Result<PathBuf> {
    match &options.kafka_home {
        Some(home) => home_lib(home),
        None => fetched_lib(&options.cache, java).await,
    }
}

fn home_lib(home: &Path) -> Result<PathBuf> {
    let refuse = |reason: String| Error::KafkaHome {
        home: home.to_owned(),
        reason,
    };
    let lib = home.join("libs");
    let entries = fs::read_dir(&lib)
        .map_err(|error| refuse(format!("reading {}: {error}", lib.display())))?;
    let version = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .find_map(|name| {
            let version = name.strip_prefix("kafka-clients-")?.strip_suffix(".jar")?;
            Some(version.to_owned())
        })
        .ok_or_else(|| refuse(format!("no kafka-clients jar in {}", lib.display())))?;
    match version
        .split('.')
        .next()
        .and_then(|major| major.parse::<u32>().ok())
    {
        Some(4..) => Ok(lib),
        _ => Err(refuse(format!("it is version {version}"))),
    }
}

async fn fetched_lib(cache: &Path, java: &Path) -> Result<PathBuf> {
    let version = pom_version();
    let home = cache.join(format!("kafka-{version}"));
    let lib = home.join("lib");
    let _fetching = FETCHING.lock().await;
    if is_complete(&home) {
        return Ok(lib);
    }
    let failed = |reason: String| Error::Fetch {
        version: version.to_owned(),
        into: home.clone(),
        reason,
    };
    // Staging folder next to the final one, so that it can be renamed atomically.
    let staging = cache.join(format!(".kafka-{version}.{}", std::process::id()));
    let remove = |path: &Path| match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io_error("removing", path, error))
        }
        _ => Ok(()),
    };
    remove(&staging)?;
    fs::create_dir_all(&staging).map_err(|source| io_error("creating", &staging, source))?;
    tracing::info!(
        "fetching Apache Kafka {version} from Maven Central into {}",
        home.display()
    );
    let fetched = fetch(&staging, java).await;
    if let Err(failure) = fetched {
        // The failure to fetch is what the user needs to know.
        if let Err(error) = remove(&staging) {
            tracing::warn!("{error}");
        }
        return match failure {
            Failed::NoMaven(found) => Err(Error::MissingProgram {
                needed: "Maven",
                found,
            }),
            Failed::Said(reason) => Err(failed(reason)),
        };
    }
    if !is_complete(&home) {
        remove(&home)?;
    }
    match fs::rename(&staging, &home) {
        Ok(()) => {}
        // Another process finished first; its jars are equally good.
        Err(_) if is_complete(&home) => remove(&staging)?,
        Err(source) => return Err(io_error("moving the fetched jars to", &home, source)),
    }
    Ok(lib)
}

enum Failed {
    NoMaven(String),
    Said(String),
}

async fn fetch(into: &Path, java: &Path) -> Result<(), Failed> {
    let said = |error: io::Error| Failed::Said(error.to_string());
    let pom = into.join("pom.xml");
    let lib = into.join("lib");
    fs::write(&pom, POM).map_err(said)?;
    let mut maven = Command::new("mvn");
    // Batch mode, quiet, and a wrong checksum is an error.
    maven.args(["-B", "-q", "-C", "-f"]).arg(&pom).arg(PLUGIN);
    maven
        .arg("-DincludeScope=runtime")
        .arg(format!("-DoutputDirectory={}", lib.display()));
    if let Some(home) = java
        .parent()
        .and_then(Path::parent)
        .filter(|home| home.is_absolute())
    {
        maven.env("JAVA_HOME", home);
    }
    let output = maven
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| Failed::NoMaven(format!("mvn cannot be started ({error})")))?;
    if !output.status.success() {
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text
            .lines()
            .filter(|line| line.contains("ERROR"))
            .take(3)
            .collect();
        return Err(Failed::Said(format!(
            "mvn ended with {}: {}",
            output.status,
            lines.join(" ")
        )));
    }
    let jars = sizes(&lib).map_err(said)?;
    if !jars.keys().any(|name| name.starts_with("kafka_2.13-")) {
        return Err(Failed::Said("mvn copied no kafka jar".into()));
    }
    let complete = Complete {
        pom_crc32c: crc32c::crc32c(POM.as_bytes()),
        jars,
    };
    let text = serde_json::to_string(&complete).map_err(|error| said(error.into()))?;
    fs::write(into.join("complete.json"), text + "\n").map_err(said)
}

fn is_complete(home: &Path) -> bool {
    let read = || -> io::Result<bool> {
        let complete: Complete = serde_json::from_slice(&fs::read(home.join("complete.json"))?)?;
        let same_pom = complete.pom_crc32c == crc32c::crc32c(POM.as_bytes());
        Ok(same_pom && complete.jars == sizes(&home.join("lib"))?)
    };
    read().unwrap_or(false)
}

fn sizes(lib: &Path) -> io::Result<BTreeMap<String, u64>> {
    fs::read_dir(lib)?
        .map(|entry| {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            Ok((name, entry.metadata()?.len()))
        })
        .collect()
}

fn pom_version() -> &'static str {
    let after = POM
        .split_once("<kafka.version>")
        .map_or("", |(_, after)| after);
    after.split_once('<').map_or("", |(version, _)| version)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs};

    use super::{
        Complete, POM, fetched_lib, home_lib, is_complete, java, major_version, pom_version,
    };
    use crate::error::Error;

    #[test]
    fn java_versions_are_read() {
        for (text, version) in [
            ("openjdk version \"17.0.15\" 2025-04-15", Some(17)),
            ("openjdk version \"21\" 2023-09-19", Some(21)),
            ("java version \"1.8.0_402\"", Some(8)),
            ("openjdk version \"25-ea\" 2025-09-16", Some(25)),
            ("bash: java: command not found", None),
        ] {
            assert_eq!(major_version(text), version, "{text}");
        }
    }

    #[test]
    fn the_pom_names_a_kafka_4() {
        assert!(pom_version().starts_with("4."), "{:?}", pom_version());
    }

    /// A download that was cut short, or a truncated jar, does not count as complete.
    #[test]
    fn only_a_whole_folder_counts() {
        let home = tempfile::tempdir().unwrap();
        assert!(!is_complete(home.path()));
        fs::create_dir(home.path().join("lib")).unwrap();
        fs::write(home.path().join("lib/a.jar"), b"four").unwrap();
        assert!(!is_complete(home.path()));
        let jars = BTreeMap::from([("a.jar".to_owned(), 4)]);
        let complete = Complete {
            pom_crc32c: crc32c::crc32c(POM.as_bytes()),
            jars,
        };
        let text = serde_json::to_string(&complete).unwrap();
        fs::write(home.path().join("complete.json"), text).unwrap();
        assert!(is_complete(home.path()));
        fs::write(home.path().join("lib/a.jar"), b"fou").unwrap();
        assert!(!is_complete(home.path()));
    }

    /// Checks that two brokers that one process starts on a fresh machine both find the jars.
    #[tokio::test]
    async fn two_starts_at_once_share_one_download() {
        let cache = tempfile::tempdir().unwrap();
        let java = java().await.unwrap();
        let lib = || fetched_lib(cache.path(), &java);
        let (first, second) = tokio::join!(lib(), lib());
        let first = first.unwrap();
        assert_eq!(first, second.unwrap());
        assert!(is_complete(first.parent().unwrap()));
    }

    #[test]
    fn a_kafka_home_is_checked() {
        let home = tempfile::tempdir().unwrap();
        let refused = |text: &str| match home_lib(home.path()) {
            Err(error @ Error::KafkaHome { .. }) => assert!(error.to_string().contains(text)),
            other => panic!("{other:?}"),
        };
        refused("reading");
        fs::create_dir(home.path().join("libs")).unwrap();
        refused("no kafka-clients jar");
        let jar = home.path().join("libs/kafka-clients-3.9.1.jar");
        fs::write(&jar, b"").unwrap();
        refused("version 3.9.1");
        fs::rename(&jar, home.path().join("libs/kafka-clients-4.1.0.jar")).unwrap();
        assert_eq!(home_lib(home.path()).unwrap(), home.path().join("libs"));
    }
}
