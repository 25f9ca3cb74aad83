//! The control socket: how a command reaches the node that serves a data folder.
//!
//! A Unix socket in the data folder, for the owner only. A command sends one operation as a line of
//! JSON and gets lines of JSON back: progress if it asks for it, and at the end the result. What an
//! operation writes comes in pieces, each behind a line that says how long it is.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::damage::{self, Damage, in_words};
use crate::operation::{Node, Operation, Told};
use crate::progress::Done;

/// Longest line of a command.
const MAX_LINE_BYTES: u64 = 2 << 20;

/// What a command asks for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Asked {
    /// It wants to hear how much is done.
    Watched {
        watched: Operation,
    },
    Operation(Operation),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Progress(Done),
    /// So many bytes follow.
    Output(usize),
    Done(Value),
    Failed {
        error: String,
        /// It is about data that is damaged or not complete.
        damage: bool,
    },
}

/// Pieces of output that wait for a command to take them.
const WAITING_PIECES: usize = 16;
/// Largest piece of output.
const MAX_PIECE_BYTES: usize = 256 * 1024;

/// What is on its way to a command.
enum Said {
    Line(Line),
    Output(Vec<u8>),
}

/// Output of an operation, in pieces; in a thread that may block.
struct Pieces(mpsc::Sender<Said>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = bytes.get(..MAX_PIECE_BYTES).unwrap_or(bytes);
        let sent = self.0.blocking_send(Said::Output(piece.to_vec()));
        sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Longest path that the system takes for a socket.
const MAX_SOCKET_PATH_BYTES: usize = 107;

/// A path under which the system takes a socket.
struct Reachable {
    path: PathBuf,
    /// Keeps the path good.
    _folder: Option<File>,
}

/// Where the folder of a socket with a long path is reached by a short one.
fn reachable(socket: &Path) -> anyhow::Result<Reachable> {
    if socket.as_os_str().len() <= MAX_SOCKET_PATH_BYTES {
        return Ok(Reachable { path: socket.to_owned(), _folder: None });
    }
    let (Some(folder), Some(name)) = (socket.parent(), socket.file_name()) else {
        bail!("{} is no path of a socket", socket.display());
    };
    let opened = File::open(folder).with_context(|| format!("cannot open {}", folder.display()))?;
    let short = Path::new("/proc/self/fd").join(opened.as_raw_fd().to_string());
    if !short.exists() {
        bail!(
            "{} is longer than the {MAX_SOCKET_PATH_BYTES} bytes that the system takes for a socket, \
             and without /proc there is no way around that: commands cannot reach the node",
            socket.display()
        );
    }
    Ok(Reachable { path: short.join(name), _folder: Some(opened) })
}

/// Listens on `socket`; inside a runtime.
pub(crate) fn listen(socket: &Path) -> anyhow::Result<UnixListener> {
    // Whoever holds the lock of the data folder owns the socket: one left behind is stale.
    if socket.exists() {
        fs::remove_file(socket).with_context(|| format!("cannot remove {}", socket.display()))?;
    }
    let listener = UnixListener::bind(&reachable(socket)?.path)
        .with_context(|| format!("cannot listen on {}", socket.display()))?;
    fs::set_permissions(socket, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves operations until `stop`.
pub(crate) async fn serve(
    listener: UnixListener,
    socket: &Path,
    node: Node,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    loop {
        let (stream, _) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted?,
        };
        let node = node.clone();
        let stop = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                outcome = answer(stream, node) => {
                    if let Err(error) = outcome {
                        tracing::debug!(%error, "control connection failed");
                    }
                }
            }
        });
    }
    let _ = fs::remove_file(socket);
    Ok(())
}

async fn answer(mut stream: UnixStream, node: Node) -> anyhow::Result<()> {
    let (read, mut write) = stream.split();
    let mut line = String::new();
    BufReader::new(read).take(MAX_LINE_BYTES).read_line(&mut line).await?;
    let (operation, watched) = match serde_json::from_str(&line)? {
        Asked::Watched { watched } => (watched, true),
        Asked::Operation(operation) => (operation, false),
    };
    let (tell, mut said) = mpsc::channel(WAITING_PIECES);
    let run = tokio::spawn(async move {
        // Progress is told to whoever keeps up.
        let mut progress = |done| {
            let _ = tell.try_send(Said::Line(Line::Progress(done)));
        };
        let mut output = Pieces(tell.clone());
        let progress: &mut (dyn FnMut(Done) + Send) = &mut progress;
        let told = Told { progress: watched.then_some(progress), output: &mut output };
        let line = match operation.run(&node, told).await {
            Ok(result) => Line::Done(result),
            Err(error) => {
                Line::Failed { error: format!("{error:#}"), damage: damage::is_damage(&error) }
            }
        };
        let _ = tell.send(Said::Line(line)).await;
    });
    while let Some(said) = said.recv().await {
        let (line, output) = match said {
            Said::Line(line) => (line, Vec::new()),
            Said::Output(output) => (Line::Output(output.len()), output),
        };
        let mut text = serde_json::to_vec(&line)?;
        text.push(b'\n');
        write.write_all(&text).await?;
        write.write_all(&output).await?;
    }
    Ok(run.await?)
}

/// Reaches the node that listens on `socket`; `None` if none does.
async fn connect(socket: &Path) -> anyhow::Result<Option<UnixStream>> {
    use io::ErrorKind::{ConnectionRefused, NotFound};
    if !socket.try_exists().with_context(|| format!("cannot look for {}", socket.display()))? {
        return Ok(None);
    }
    match UnixStream::connect(&reachable(socket)?.path).await {
        Ok(stream) => Ok(Some(stream)),
        // Left behind by a node that did not end as it should.
        Err(error) if matches!(error.kind(), ConnectionRefused | NotFound) => Ok(None),
        Err(error) => {
            let why = in_words(&error);
            bail!("cannot reach the node through {}: {why}", socket.display())
        }
    }
}

/// Runs an operation in the node that listens on `socket`; `None` if none does.
pub(crate) async fn ask(
    socket: &Path,
    operation: &Operation,
    told: &mut Told<'_>,
) -> anyhow::Result<Option<Value>> {
    let Some(mut stream) = connect(socket).await? else { return Ok(None) };
    let operation = operation.clone();
    let asked = match told.progress {
        Some(_) => Asked::Watched { watched: operation },
        None => Asked::Operation(operation),
    };
    let mut text = serde_json::to_vec(&asked)?;
    text.push(b'\n');
    stream.write_all(&text).await?;
    let mut stream = BufReader::new(stream);
    let (mut line, mut output) = (String::new(), Vec::new());
    while stream.read_line(&mut line).await? != 0 {
        match serde_json::from_str(&line)? {
            Line::Progress(done) => {
                if let Some(progress) = &mut told.progress {
                    progress(done);
                }
            }
            Line::Output(bytes) => {
                output.resize(bytes, 0);
                stream.read_exact(&mut output).await?;
                told.output.write_all(&output).context("cannot write to standard output")?;
            }
            Line::Done(result) => {
                told.output.flush().context("cannot write to standard output")?;
                return Ok(Some(result));
            }
            Line::Failed { error, damage: true } => return Err(Damage::Told(error).into()),
            Line::Failed { error, damage: false } => bail!(error),
        }
        line.clear();
    }
    bail!("the node ended before it was done")
}
