use std::{
    collections::VecDeque,
    io,
    path::Path,
    pin::pin,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};

use super::{fault::CommandFault, script};
use crate::reward::FailureReason;

/// Longest line that a command may write, in bytes.
const LONGEST_LINE: usize = 1 << 20;
/// Number of standard error lines that are kept for an error message.
const KEPT_LINES: usize = 5;
/// Longest wait for a dying process's exit status and the rest of its standard error.
const EXIT_WAIT: Duration = Duration::from_secs(1);
/// Longest time a command may take to exit after its standard input was closed.
const GRACE: Duration = Duration::from_secs(5);

/// Running process of a reward command. Dropping it kills the command and its children.
///
/// The command runs in its own process group, because the terminal's ^C, which asks this program to
/// drain, must not reach it.
pub(super) struct Process {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    line: Vec<u8>,
    words: Arc<Mutex<VecDeque<String>>>,
    listener: JoinHandle<()>,
    group: ProcessGroup,
}

impl Process {
    /// Starts a program with its arguments in `directory`.
    pub(super) fn spawn(argv: &[String], directory: &Path) -> io::Result<Self> {
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
        let listener = tokio::spawn(listen(stderr, Arc::clone(&words)));
        Ok(Self {
            child,
            stdin,
            stdout,
            line: Vec::new(),
            words,
            listener,
            group,
        })
    }

    /// Writes `questions` and passes every output line to `answer`, until that returns false
    /// because all questions are answered. Fails if no line arrives for `patience`.
    pub(super) async fn converse(
        &mut self,
        questions: &[u8],
        patience: Duration,
        answer: &mut (dyn FnMut(&[u8]) -> Result<bool, CommandFault> + Send),
    ) -> Result<(), CommandFault> {
        let Self {
            stdin,
            stdout,
            line,
            ..
        } = self;
        let mut write = pin!(async move {
            stdin.write_all(questions).await?;
            stdin.flush().await
        });
        let (mut written, mut owed) = (false, !questions.is_empty());
        let mut deadline = Instant::now() + patience;
        while owed || !written {
            let step = tokio::select! {
                // A broken pipe means that the process ended; reading its output gives a clearer
                // error.
                _ = &mut write, if !written => { written = true; continue }
                read = read_line(stdout, line), if owed => read,
                () = sleep_until(deadline) => return Err(CommandFault {
                    reason: FailureReason::Timeout,
                    detail: format!(
                        "the reward command gave no answer for {} s; make it faster, or raise \
                         rollout.reward.timeout_seconds",
                        patience.as_secs_f64()
                    ),
                }),
            };
            match step {
                Ok(Line::Whole) => {
                    owed = answer(line)?;
                    line.clear();
                    deadline = Instant::now() + patience;
                }
                Ok(Line::TooLong) => {
                    return Err(CommandFault {
                        reason: FailureReason::Garbage,
                        detail: format!(
                            "the reward command wrote a line of over {LONGEST_LINE} bytes; write one \
                         JSON object a line"
                        ),
                    });
                }
                Ok(Line::End) => return Err(self.exit_fault().await),
                Err(error) => {
                    return Err(CommandFault {
                        reason: FailureReason::Died,
                        detail: format!("cannot read what the reward command writes: {error}"),
                    });
                }
            }
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
            format!(
                "its last words: {}",
                words.iter().cloned().collect::<Vec<_>>().join(" | ")
            )
        };
        CommandFault {
            reason: FailureReason::Died,
            detail: format!("the reward command {status} while it owed an answer; {last}"),
        }
    }

    /// Kills the command and its children at once.
    pub(super) async fn kill(mut self) {
        self.group.kill();
        // Reaps the process; if that takes longer, tokio reaps it in the background.
        let _ = timeout(EXIT_WAIT, self.child.wait()).await;
    }

    /// Closes the command's standard input and waits up to [`GRACE`] for it to exit.
    pub(super) async fn finish(self) {
        let Self {
            mut child,
            stdin,
            mut group,
            listener,
            ..
        } = self;
        drop(stdin);
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

/// Logs the command's standard error and keeps its last lines.
async fn listen(stderr: ChildStderr, words: Arc<Mutex<VecDeque<String>>>) {
    let mut lines = BufReader::new(stderr).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        tracing::info!(target: "vintage_rollout::reward_command", "{text}");
        let mut kept = words.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT_LINES {
            kept.pop_front();
        }
        kept.push_back(text);
    }
}
