use std::{
    collections::VecDeque,
    io,
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};

use super::{fault::CommandFault, script, settings::CommandRole};
use crate::reward::FailureReason;

/// Longest line that a command may write, in bytes.
const LONGEST_LINE: usize = 1 << 20;
/// Number of standard error lines that are kept for an error message.
const KEPT_LINES: usize = 5;
/// Longest wait for a dying process's exit status and the rest of its standard error.
const EXIT_WAIT: Duration = Duration::from_secs(1);
/// Longest time a command may take to exit after its standard input was closed.
const GRACE: Duration = Duration::from_secs(5);

/// Running process of a command. Dropping it kills the command and its children.
///
/// The command runs in its own process group, because the terminal's ^C, which asks this program to
/// drain, must not reach it.
pub(crate) struct Process {
    role: CommandRole,
    child: Child,
    /// Lines for standard input, written by a task of their own: a command that writes while it is
    /// written to would otherwise wait for this process, and this process for it.
    lines: mpsc::UnboundedSender<Vec<u8>>,
    stdout: BufReader<ChildStdout>,
    line: Vec<u8>,
    words: Arc<Mutex<VecDeque<String>>>,
    listener: JoinHandle<()>,
    group: ProcessGroup,
}

impl Process {
    /// Starts a program with its arguments in `directory`.
    pub(crate) fn spawn(role: CommandRole, argv: &[String], directory: &Path) -> io::Result<Self> {
        let (program, arguments) = argv
            .split_first()
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        if !directory.is_dir() {
            let why = format!("there is no folder {}", directory.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, why));
        }
        let mut command = Command::new(script::program(program, directory));
        // Python buffers its output to a pipe until 8 KiB are full, so a judge that forgets to
        // flush would never deliver its answers.
        if std::env::var_os("PYTHONUNBUFFERED").is_none() {
            command.env("PYTHONUNBUFFERED", "1");
        }
        let mut child = command
            .args(arguments)
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let group = ProcessGroup(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
        let missing = || io::Error::other("the command's pipes were not opened");
        let stdin = child.stdin.take().ok_or_else(missing)?;
        let stdout = BufReader::new(child.stdout.take().ok_or_else(missing)?);
        let words = Arc::new(Mutex::new(VecDeque::new()));
        let stderr = child.stderr.take().ok_or_else(missing)?;
        let listener = tokio::spawn(listen(stderr, role, Arc::clone(&words)));
        let (lines, to_write) = mpsc::unbounded_channel();
        // Ends with the process, whose end of the pipe is closed then, or with its last line.
        tokio::spawn(write(stdin, to_write));
        Ok(Self {
            role,
            child,
            lines,
            stdout,
            line: Vec::new(),
            words,
            listener,
            group,
        })
    }

    /// Has lines written to the command; does not wait for it to read them.
    pub(crate) fn write(&self, lines: Vec<u8>) {
        // The writer has ended if the process has, which reading shows with a clearer error.
        let _ = self.lines.send(lines);
    }

    /// Waits for the next line that the command writes. May be dropped at any await.
    pub(crate) async fn line(&mut self) -> Result<Vec<u8>, CommandFault> {
        match read_line(&mut self.stdout, &mut self.line).await {
            Ok(Line::Whole) => Ok(std::mem::take(&mut self.line)),
            Ok(Line::TooLong) => Err(CommandFault {
                reason: FailureReason::Garbage,
                detail: format!(
                    "the {} wrote a line of over {LONGEST_LINE} bytes; write one JSON object a line",
                    self.role
                ),
            }),
            Ok(Line::End) => Err(self.exit_fault().await),
            Err(error) => Err(CommandFault {
                reason: FailureReason::Died,
                detail: format!("cannot read what the {} writes: {error}", self.role),
            }),
        }
    }

    /// Builds the fault for a command that did not answer for `patience`.
    pub(crate) fn silence(&self, patience: Duration) -> CommandFault {
        CommandFault {
            reason: FailureReason::Timeout,
            detail: format!(
                "the {} gave no answer for {} s; make it faster, or raise {}.timeout_seconds",
                self.role,
                patience.as_secs_f64(),
                self.role.section()
            ),
        }
    }

    /// Writes `questions` and passes every output line to `answer`, until that returns false
    /// because all questions are answered. Fails if no line arrives for `patience`.
    pub(crate) async fn converse(
        &mut self,
        questions: Vec<u8>,
        patience: Duration,
        answer: &mut (dyn FnMut(&[u8]) -> Result<bool, CommandFault> + Send),
    ) -> Result<(), CommandFault> {
        let mut owed = !questions.is_empty();
        self.write(questions);
        while owed {
            let deadline = Instant::now() + patience;
            let line = tokio::select! {
                line = self.line() => line?,
                () = sleep_until(deadline) => return Err(self.silence(patience)),
            };
            owed = answer(&line)?;
        }
        Ok(())
    }

    /// Builds the fault for a process that closed its output, with exit status and last error
    /// lines.
    async fn exit_fault(&mut self) -> CommandFault {
        let status = match timeout(EXIT_WAIT, self.child.wait()).await {
            Ok(Ok(status)) => {
                self.group.forget();
                format!("ended with {status}")
            }
            Ok(Err(error)) => format!("ended ({error})"),
            Err(_) => "closed its standard output".to_owned(),
        };
        // A grandchild may hold standard error open; the lines read so far are used then.
        let _ = timeout(EXIT_WAIT, &mut self.listener).await;
        let words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        let last = if words.is_empty() {
            "it wrote nothing to standard error".to_owned()
        } else {
            // A traceback keeps its lines.
            let lines = words.iter().map(|line| format!("\n    {line}"));
            format!("its last words:{}", lines.collect::<String>())
        };
        CommandFault {
            reason: FailureReason::Died,
            detail: format!("the {} {status} while it owed an answer; {last}", self.role),
        }
    }

    /// Kills the command and its children at once.
    pub(crate) async fn kill(mut self) {
        self.group.kill();
        // Reaps the process; if that takes longer, tokio reaps it in the background.
        let _ = timeout(EXIT_WAIT, self.child.wait()).await;
    }

    /// Closes the command's standard input and waits up to [`GRACE`] for it to exit.
    pub(crate) async fn finish(self) {
        let Self {
            mut child,
            lines,
            mut group,
            listener,
            ..
        } = self;
        // Its task closes standard input once everything is written.
        drop(lines);
        if timeout(GRACE, child.wait()).await.is_ok() {
            group.forget();
            let _ = timeout(EXIT_WAIT, listener).await;
        }
    }
}

/// Process group of a command, killed when dropped.
struct ProcessGroup(Option<Pid>);

impl ProcessGroup {
    fn kill(&mut self) {
        if let Some(pid) = self.0.take() {
            // An error means that the group has ended already.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }

    /// Disarms the kill. Must be called once the command was reaped, because the kernel may then
    /// reuse its process group id.
    fn forget(&mut self) {
        self.0 = None;
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Outcome of reading one line.
enum Line {
    /// Complete line, stored in the buffer.
    Whole,
    /// End of the stream.
    End,
    /// Line of more than [`LONGEST_LINE`] bytes.
    TooLong,
}

/// Appends to `line` until a newline. Safe to cancel at any await without losing bytes.
async fn read_line(stdout: &mut BufReader<ChildStdout>, line: &mut Vec<u8>) -> io::Result<Line> {
    loop {
        let chunk = stdout.fill_buf().await?;
        if chunk.is_empty() {
            return Ok(Line::End);
        }
        let end = chunk.iter().position(|&byte| byte == b'\n');
        let taken = end.map_or(chunk.len(), |end| end + 1);
        line.extend_from_slice(&chunk[..taken]);
        stdout.consume(taken);
        if line.len() > LONGEST_LINE {
            return Ok(Line::TooLong);
        }
        if end.is_some() {
            return Ok(Line::Whole);
        }
    }
}

/// Writes lines until there are no more; closes standard input then.
async fn write(mut stdin: ChildStdin, mut lines: mpsc::UnboundedReceiver<Vec<u8>>) {
    while let Some(lines) = lines.recv().await {
        // A broken pipe means that the process ended; reading its output gives a clearer error.
        if stdin.write_all(&lines).await.is_err() || stdin.flush().await.is_err() {
            return;
        }
    }
}

/// Logs the command's standard error and keeps its last lines.
async fn listen(stderr: ChildStderr, role: CommandRole, words: Arc<Mutex<VecDeque<String>>>) {
    let mut lines = BufReader::new(stderr).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        match role {
            CommandRole::Reward => {
                tracing::info!(target: "vintage_rollout::reward_command", "{text}");
            }
            CommandRole::Environment => {
                tracing::info!(target: "vintage_rollout::environment_command", "{text}");
            }
        }
        let mut kept = words.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT_LINES {
            kept.pop_front();
        }
        kept.push_back(text);
    }
}
