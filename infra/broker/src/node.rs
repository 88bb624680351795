//! Process of one node of a local broker. Only processes that this crate started are signalled:
//! their command line names the settings file in the broker's own folder.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    cluster::{Cluster, Ports, io_error},
    error::{Error, Result},
};

/// Interval at which a process that was asked to end is checked. It may not be a child of this
/// process, so that its end cannot be awaited.
const LOOK: Duration = Duration::from_millis(20);
const KILLED_WITHIN: Duration = Duration::from_secs(10);
const FROZEN_WITHIN: Duration = Duration::from_secs(10);
const TAIL_BYTES: u64 = 4096;

#[derive(Debug)]
pub(crate) struct Node {
    ports: Ports,
    cluster: PathBuf,
    dir: PathBuf,
    child: Option<Child>,
}

impl Node {
    pub(crate) fn new(cluster: &Cluster, ports: Ports) -> Self {
        let dir = cluster.dir().join(format!("n{}", ports.node));
        Self {
            ports,
            cluster: cluster.dir().to_owned(),
            dir,
            child: None,
        }
    }

    pub(crate) fn id(&self) -> u16 {
        self.ports.node
    }

    /// Formats the data folder with the cluster's identity, unless that was done before.
    pub(crate) async fn format(&self, java: &Path, lib: &Path, cluster_id: &str) -> Result<()> {
        if self.dir.join("data/meta.properties").exists() {
            return Ok(());
        }
        let output = tokio::process::Command::new(java)
            .args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx256m"])
            .arg(self.log4j())
            .arg("-cp")
            .arg(lib.join("*"))
            .args(["kafka.tools.StorageTool", "format", "--ignore-formatted"])
            .args(["-t", cluster_id, "-c"])
            .arg(self.settings())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .map_err(|source| io_error("starting", java, source))?;
        if output.status.success() {
            return Ok(());
        }
        let tail = [output.stdout, output.stderr].concat();
        Err(self.failed_with(
            "could not be formatted".into(),
            &String::from_utf8_lossy(&tail),
        ))
    }

    pub(crate) fn start(&mut self, java: &Path, lib: &Path, heap_mib: u32) -> Result<()> {
        let mut command = Command::new(java);
        command
            .args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xss512k"])
            .args(["-XX:MaxDirectMemorySize=128m", "-Djava.awt.headless=true"])
            .arg(format!("-Xms{}m", heap_mib.min(256)))
            .arg(format!("-Xmx{heap_mib}m"))
            .arg(self.log4j())
            .arg("-cp")
            .arg(lib.join("*"))
            .arg("kafka.Kafka")
            .arg(self.settings());
        self.spawn(&mut command)
    }

    fn spawn(&mut self, command: &mut Command) -> Result<()> {
        let path = self.log();
        let log = File::options().create(true).append(true).open(&path);
        let log = log.map_err(|source| io_error("opening", &path, source))?;
        let errors = log
            .try_clone()
            .map_err(|source| io_error("opening", &path, source))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            // A terminal sends ^C to its whole process group. The nodes get a group of their own,
            // so that a run can drain first.
            .process_group(0)
            .spawn()
            .map_err(|source| io_error("starting", Path::new(command.get_program()), source))?;
        let pid = child.id();
        self.child = Some(child);
        let path = self.pid_file();
        fs::write(&path, format!("{pid}\n")).map_err(|source| io_error("writing", &path, source))
    }

    /// Returns true if the node's process runs, no matter which process started it.
    pub(crate) fn is_running(&mut self) -> bool {
        // A child that ended is reaped first; otherwise its process id would seem to be in use.
        if let Some(child) = &mut self.child
            && !matches!(child.try_wait(), Ok(None))
        {
            self.child = None;
        }
        self.pid().is_some()
    }

    /// Checks that the node's process runs.
    ///
    /// # Errors
    /// [`Error::Node`] if its process has ended.
    pub(crate) fn check_alive(&mut self) -> Result<()> {
        let ended = match &mut self.child {
            Some(child) => child
                .try_wait()
                .ok()
                .flatten()
                .map(|status| status.to_string()),
            None => self.pid().is_none().then(|| "it is gone".to_owned()),
        };
        ended.map_or(Ok(()), |how| Err(self.failed(format!("ended ({how})"))))
    }

    /// Shuts the node down cleanly, and kills it if that takes longer than `grace`. Returns false
    /// if it was not running.
    pub(crate) async fn terminate(&mut self, grace: Duration) -> Result<bool> {
        if !self.signal(Signal::TERM)? {
            return Ok(false);
        }
        // A frozen process handles the signal only after it is resumed.
        self.thaw()?;
        if !self.ended_within(grace).await {
            tracing::warn!(
                node = self.id(),
                "broker node did not shut down: killing it"
            );
            self.kill().await?;
        }
        Ok(true)
    }

    pub(crate) async fn kill(&mut self) -> Result<()> {
        if self.signal(Signal::KILL)? && !self.ended_within(KILLED_WITHIN).await {
            return Err(self.failed("does not die".into()));
        }
        Ok(())
    }

    /// Kills the node's process without async code, for use in `Drop`. A child of this process is
    /// reaped when this returns; a node that another process started may still be ending.
    pub(crate) fn kill_now(&mut self) {
        if let Err(error) = self.signal(Signal::KILL) {
            tracing::warn!("{error}");
        }
        if let Some(child) = &mut self.child
            && let Err(error) = child.wait()
        {
            tracing::warn!(
                node = self.ports.node,
                "waiting for a killed broker node: {error}"
            );
        }
    }

    /// Stops the node's process (SIGSTOP), and returns once all its threads are stopped: a thread
    /// on another core stops only when it next enters the kernel.
    pub(crate) fn freeze(&mut self) -> Result<()> {
        if !self.signal(Signal::STOP)? {
            return Ok(());
        }
        let begun = Instant::now();
        while let Some(pid) = self.pid() {
            if is_stopped(pid).map_err(|source| io_error("looking at", &self.dir, source))? {
                break;
            }
            if begun.elapsed() > FROZEN_WITHIN {
                return Err(self.failed("does not stop on SIGSTOP".into()));
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    pub(crate) fn thaw(&mut self) -> Result<()> {
        self.signal(Signal::CONT).map(drop)
    }

    /// Builds an error about the node, with the end of its log.
    pub(crate) fn failed(&self, reason: String) -> Error {
        let tail = tail(&self.log()).unwrap_or_else(|error| format!("(unreadable: {error})"));
        self.failed_with(reason, &tail)
    }

    fn failed_with(&self, reason: String, tail: &str) -> Error {
        let tail = tail.trim_end().to_owned();
        Error::Node {
            node: self.id(),
            dir: self.cluster.clone(),
            reason,
            tail,
        }
    }

    async fn ended_within(&mut self, limit: Duration) -> bool {
        let begun = Instant::now();
        while self.is_running() {
            if begun.elapsed() > limit {
                return false;
            }
            tokio::time::sleep(LOOK).await;
        }
        true
    }

    /// Sends a signal to the node's process; returns false if there is none.
    fn signal(&mut self, signal: Signal) -> Result<bool> {
        if !self.is_running() {
            return Ok(false);
        }
        let Some(pid) = self.pid() else {
            return Ok(false);
        };
        match kill_process(pid, signal) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::SRCH) => Ok(false),
            Err(error) => Err(io_error("signalling", &self.pid_file(), error.into())),
        }
    }

    /// Finds the live process that uses this node's settings file; `None` if there is none.
    fn pid(&self) -> Option<Pid> {
        // A child that was not waited for keeps its process id. Its command line proves nothing,
        // because Linux resumes the parent before it shows the new program's command line.
        if let Some(child) = &self.child {
            return Some(Pid::from_child(child));
        }
        let number: i32 = fs::read_to_string(self.pid_file())
            .ok()?
            .trim()
            .parse()
            .ok()?;
        // The command line is empty for a process that has ended and was not waited for.
        let line = fs::read(format!("/proc/{number}/cmdline")).ok()?;
        let settings = self.settings();
        let ours = line
            .split(|byte| *byte == 0)
            .any(|part| part == settings.as_os_str().as_encoded_bytes());
        if ours { Pid::from_raw(number) } else { None }
    }

    fn settings(&self) -> PathBuf {
        self.dir.join("server.properties")
    }

    fn pid_file(&self) -> PathBuf {
        self.dir.join("pid")
    }

    fn log(&self) -> PathBuf {
        self.dir.join("out.log")
    }

    fn log4j(&self) -> String {
        format!(
            "-Dlog4j2.configurationFile={}",
            self.dir.join("log4j2.properties").display()
        )
    }
}

/// Returns true if every thread of a process is stopped.
fn is_stopped(pid: Pid) -> io::Result<bool> {
    for thread in fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero()))? {
        let stat = match fs::read_to_string(thread?.path().join("stat")) {
            // The thread ended meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            stat => stat?,
        };
        // The state follows the name, which is in brackets and may hold any character.
        let state = stat.rsplit(')').next().unwrap_or_default().trim_start();
        if !state.starts_with('T') {
            return Ok(false);
        }
    }
    Ok(true)
}

fn tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let start = file.metadata()?.len().saturating_sub(TAIL_BYTES);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(if start > 0 {
        text.split_once('\n')
            .map_or("", |(_, rest)| rest)
            .to_owned()
    } else {
        text.into()
    })
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, path::Path, process::Command};

    use super::{Cluster, Node, is_stopped};

    /// Starts a node whose program is a shell instead of Java.
    fn started(dir: &Path, script: &str) -> Node {
        let cluster = Cluster::prepare(dir, Some(1), None).unwrap();
        cluster.write_settings(&BTreeMap::new()).unwrap();
        let mut node = Node::new(&cluster, cluster.nodes()[0]);
        node.spawn(Command::new("sh").args(["-c", script])).unwrap();
        node
    }

    /// A child counts as running even while its command line is empty, as right after the start.
    /// Once, such a node was not waited for, and topics were requested with 0 replicas.
    #[test]
    fn a_child_runs_whatever_its_command_line_says() {
        let dir = tempfile::tempdir().unwrap();
        let mut node = started(dir.path(), "exec sleep 1000");
        assert!(node.is_running());
        node.check_alive().unwrap();
        // Waits for ever if the signal reaches no process.
        node.kill_now();
        assert!(!node.is_running());
    }

    #[test]
    fn a_child_that_ended_is_missed_with_its_status() {
        let dir = tempfile::tempdir().unwrap();
        let mut node = started(dir.path(), "echo no such setting; exit 3");
        node.child.as_mut().unwrap().wait().unwrap();
        let error = node.check_alive().unwrap_err().to_string();
        assert!(error.contains("exit status: 3"), "{error}");
        assert!(error.contains("no such setting"), "{error}");
        assert!(!node.is_running());
    }

    #[test]
    fn a_frozen_node_is_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let mut node = started(dir.path(), "while :; do :; done");
        let pid = node.pid().unwrap();
        assert!(!is_stopped(pid).unwrap());
        node.freeze().unwrap();
        assert!(is_stopped(pid).unwrap());
        node.thaw().unwrap();
        node.kill_now();
    }
}
