//! What a process has used: CPU, memory, disk. Read from `/proc`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

use crate::Result;

/// Figures of one process at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// CPU seconds since it started, user and system.
    pub(crate) cpu_seconds: f64,
    /// Resident memory in bytes.
    pub(crate) resident: u64,
    /// Bytes it gave to write calls. What the kernel counts as written to disk can be far more: a
    /// whole block of the page cache for a few bytes of it.
    pub(crate) written: u64,
    /// Times it made its data durable, if it tells.
    pub(crate) syncs: u64,
}

impl Usage {
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let read = |file: &str| {
            let path = format!("/proc/{pid}/{file}");
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
        };
        let stat = read("stat")?;
        // The name in parentheses may hold blanks; utime and stime are fields 14 and 15.
        let fields: Vec<&str> =
            stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
        let ticks = ticks(11).zip(ticks(12)).context("no CPU times")?;
        let per_second = rustix::param::clock_ticks_per_second() as f64;
        let kib = number(&read("status")?, "VmRSS:").context("no VmRSS")?;
        // Not readable for processes of others.
        let written = read("io").ok().and_then(|io| number(&io, "wchar:")).unwrap_or(0);
        Ok(Self {
            cpu_seconds: (ticks.0 + ticks.1) as f64 / per_second,
            resident: kib * 1024,
            written,
            syncs: 0,
        })
    }

    pub(crate) fn of_this_process() -> Result<Self> {
        Self::of(std::process::id())
    }
}

fn number(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(key))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// How a node does at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Condition {
    /// Resident memory in bytes.
    pub(crate) resident: u64,
    /// Open descriptors.
    pub(crate) files: u64,
    /// Tasks of its runtime.
    pub(crate) tasks: u64,
}

impl Condition {
    /// Of the process `pid` that serves the folder `data`.
    pub(crate) fn of(pid: u32, data: &Path) -> Result<Self> {
        let counters = counters(data)?;
        let number = |name: &str| counters[name].as_u64().with_context(|| format!("no {name}"));
        let files = std::fs::read_dir(format!("/proc/{pid}/fd"))?.count();
        Ok(Self {
            resident: Usage::of(pid)?.resident,
            files: files as u64,
            tasks: number("tasks")?,
        })
    }
}

/// Commits of the node that serves a data folder, each with one sync.
pub(crate) fn commits(data: &Path) -> Result<u64> {
    counters(data)?["commits"].as_u64().context("no commits")
}

/// What the node that serves a data folder counts; asked over its control socket.
fn counters(data: &Path) -> Result<serde_json::Value> {
    let mut stream = UnixStream::connect(data.join("control.sock"))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(b"\"counters\"\n")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    let answer: serde_json::Value = serde_json::from_str(&line)?;
    Ok(answer["done"].clone())
}

/// Bytes of all files below a folder.
pub(crate) fn bytes_below(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        // Files come and go while the node runs.
        let Ok(kind) = entry.metadata() else { continue };
        bytes += if kind.is_dir() { bytes_below(&entry.path())? } else { kind.len() };
    }
    Ok(bytes)
}

/// Lets this process, and those it starts, open as many files as the system allows.
pub(crate) fn raise_file_limit(wanted: u64) -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    let enough = now.current.is_none_or(|current| current >= wanted);
    if !enough {
        let maximum = now.maximum.map(|maximum| maximum.max(wanted));
        // Only root may raise the hard limit; without it, up to the hard limit is still something.
        for limit in [
            Rlimit { current: Some(wanted), maximum },
            Rlimit { current: now.maximum, maximum: now.maximum },
        ] {
            if setrlimit(Resource::Nofile, limit).is_ok() {
                break;
            }
        }
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
