//! Reads what strace recorded: calls on files, and what left the node through its sockets.

use std::collections::{HashMap, HashSet};
use std::io::BufRead;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};

use crate::Result;

/// What marks a clientMsgID of the workload; `MESSAGE_DIGITS` more characters follow.
pub(super) const MESSAGE_MARK: &str = "powercut-m-";
pub(super) const MESSAGE_DIGITS: usize = 14;
/// What marks an operation ID of the workload; `OPERATION_DIGITS` more characters follow.
pub(super) const OPERATION_MARK: &str = "powercut-op-";
pub(super) const OPERATION_DIGITS: usize = 10;

/// What begins the name of a folder in which the node restores a backup on trial.
const TRIAL: &str = "/.entente-trial-";

/// The calls to record.
pub(super) const CALLS: &str = "trace=open,openat,creat,write,pwrite64,writev,pwritev,pwritev2,\
    sendto,sendmsg,read,recvfrom,ftruncate,truncate,fallocate,rename,renameat,renameat2,link,\
    linkat,unlink,unlinkat,rmdir,mkdir,mkdirat,fsync,fdatasync,sync_file_range,syncfs,sync,\
    msync,lseek,copy_file_range,sendfile,mmap";

/// What one call did to the files.
#[derive(Debug)]
pub(super) enum Change {
    Create { path: PathBuf },
    MakeFolder { path: PathBuf },
    Rename { from: PathBuf, to: PathBuf },
    Remove { path: PathBuf },
    Write { file: usize, offset: u64, data: Vec<u8> },
    Truncate { file: usize, length: u64 },
    SyncFile { file: usize },
    SyncFolder { path: PathBuf },
}

/// A change with the lines of the record where the call began and returned.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) change: Change,
}

/// A request over REST: the lines where it was read and where its answer began to leave.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operation {
    pub(super) read: usize,
    pub(super) answered: Option<usize>,
}

/// A whole record. Files are numbered in the order of their creation, after the `known` ones.
#[derive(Debug, Default)]
pub(super) struct Trace {
    pub(super) events: Vec<Event>,
    /// Line at which a clientMsgID first left the node: an acknowledgement or a push.
    pub(super) messages: HashMap<String, usize>,
    pub(super) operations: HashMap<String, Operation>,
    pub(super) lines: usize,
    pub(super) bytes_written: u64,
    /// Those that went over bytes written before in this record.
    pub(super) bytes_rewritten: u64,
}

struct Reader {
    root: PathBuf,
    trace: Trace,
    /// Numbers of the files by their present path.
    names: HashMap<PathBuf, usize>,
    next_file: usize,
    /// Open files: number and position.
    open: HashMap<u64, (usize, u64)>,
    /// How far each file was written.
    tops: HashMap<usize, u64>,
    /// Requests on a socket that are not answered yet.
    asked: HashMap<String, String>,
    folders: HashSet<PathBuf>,
}

/// Reads a record of what happened below `root`, where `known` files were, numbered from 0.
pub(super) fn read(
    record: impl BufRead,
    root: &Path,
    known: &[PathBuf],
    folders: &[PathBuf],
) -> Result<Trace> {
    let mut reader = Reader {
        root: root.to_owned(),
        trace: Trace::default(),
        names: known.iter().cloned().zip(0..).collect(),
        next_file: known.len(),
        open: HashMap::new(),
        tops: HashMap::new(),
        asked: HashMap::new(),
        folders: folders.iter().cloned().collect(),
    };
    let mut unfinished: HashMap<u64, (usize, String)> = HashMap::new();
    for (at, line) in record.lines().enumerate() {
        let line = line?;
        reader.trace.lines = at + 1;
        let (thread, rest) = line.split_once(' ').context("a line without a thread")?;
        let thread: u64 = thread.parse().context("a line without a thread")?;
        let rest = rest.trim_start();
        if rest.starts_with("+++") || rest.starts_with("---") {
            continue;
        }
        if let Some(begun) = rest.strip_suffix("<unfinished ...>") {
            unfinished.insert(thread, (at, begun.to_owned()));
            continue;
        }
        if let Some(resumed) = rest.strip_prefix("<... ") {
            let (_, end) = resumed.split_once(" resumed>").context("a resumed call")?;
            let (start, begun) = unfinished.remove(&thread).context("resumed out of nothing")?;
            reader.call(start, at, &format!("{begun}{end}"))?;
        } else {
            reader.call(at, at, rest)?;
        }
    }
    // What was under way at the end may have reached the disk in part.
    let end = reader.trace.lines;
    for (start, begun) in unfinished.into_values() {
        if begun.starts_with("pwrite64(") || begun.starts_with("write(") {
            reader.call(start, end, &format!("{begun}) = 0"))?;
        }
    }
    reader.trace.events.sort_by_key(|event| event.start);
    Ok(reader.trace)
}

impl Reader {
    fn call(&mut self, start: usize, end: usize, text: &str) -> Result {
        let (name, rest) = text.split_once('(').context("no call")?;
        let Some(close) = rest.rfind(") ") else { bail!("no result: {}", short(text)) };
        let (args, result) = (rest[..close].trim_end(), rest[close + 1..].trim_start());
        let result = result.trim_start_matches('=').trim_start();
        if result.starts_with('-') || result.starts_with('?') {
            return Ok(());
        }
        match name {
            "write" | "writev" | "sendto" | "sendmsg" | "pwrite64" => {
                self.output(name, start, end, args)
            }
            "read" | "recvfrom" => self.input(start, args),
            "open" | "openat" | "creat" => self.open(start, end, name, args, result),
            "mkdir" | "mkdirat" | "rename" | "renameat" | "renameat2" | "unlink" | "unlinkat"
            | "rmdir" => self.name(start, end, name, args),
            "fsync" | "fdatasync" => self.sync(start, end, args),
            "ftruncate" => {
                let (fd, path) = descriptor(args)?;
                if self.below(&path) {
                    let length = args.rsplit(", ").next().context("no length")?.parse()?;
                    let (file, _) = *self.open.get(&fd).context("truncates an unknown file")?;
                    self.add(start, end, Change::Truncate { file, length });
                }
                Ok(())
            }
            "lseek" => {
                let (fd, _) = descriptor(args)?;
                if let Some((_, position)) = self.open.get_mut(&fd) {
                    *position = result.split(' ').next().context("no position")?.parse()?;
                }
                Ok(())
            }
            // A start copies the index to look into it; the next start removes what is left of that.
            "copy_file_range" if self.is_to_copy(args)? => Ok(()),
            // Writing out without a flush of the disk promises nothing.
            "sync_file_range" => Ok(()),
            "mmap" => {
                let shared = args.contains("MAP_SHARED") && args.contains("PROT_WRITE");
                ensure!(!shared || !self.mentions(args)?, "a data file is mapped to be written");
                Ok(())
            }
            _ => {
                ensure!(!self.mentions(args)?, "not understood: {}", short(text));
                Ok(())
            }
        }
    }

    fn add(&mut self, start: usize, end: usize, change: Change) {
        self.trace.events.push(Event { start, end, change });
    }

    /// Where a backup is restored on trial nothing is kept.
    fn below(&self, path: &Path) -> bool {
        path.starts_with(&self.root) && !path.to_string_lossy().contains(TRIAL)
    }

    /// Whether the last descriptor among the arguments is of a copy of the index.
    fn is_to_copy(&self, args: &str) -> Result<bool> {
        let (_, last) = args.rsplit_once('<').context("no descriptor")?;
        let to = path(last.split('>').next().unwrap_or_default())?;
        Ok(to.starts_with(&self.root) && to.to_string_lossy().contains("/store/entente-copy-"))
    }

    /// Whether any argument is a path below the data.
    fn mentions(&self, args: &str) -> Result<bool> {
        let hex =
            |text: &str| -> String { text.bytes().map(|byte| format!("\\x{byte:02x}")).collect() };
        Ok(args.contains(&hex(&self.root.to_string_lossy())) && !args.contains(&hex(TRIAL)))
    }

    fn output(&mut self, name: &str, start: usize, end: usize, args: &str) -> Result {
        let (fd, path) = descriptor(args)?;
        if path.starts_with("socket:") || path.to_string_lossy().starts_with("socket:") {
            return self.sent(start, &path, args);
        }
        if !self.below(&path) {
            return Ok(());
        }
        ensure!(matches!(name, "write" | "pwrite64"), "{name} on a data file");
        ensure!(!args.contains("\"..."), "the record holds only part of a write");
        let data = strings(args)?.concat();
        self.trace.bytes_written += data.len() as u64;
        let (file, position) = self.open.get_mut(&fd).context("writes to an unknown file")?;
        let offset = if name == "pwrite64" {
            args.rsplit(", ").next().context("no offset")?.parse()?
        } else {
            let at = *position;
            *position += data.len() as u64;
            at
        };
        let file = *file;
        let (top, to) = (self.tops.entry(file).or_default(), offset + data.len() as u64);
        self.trace.bytes_rewritten += to.min(*top).saturating_sub(offset);
        *top = to.max(*top);
        self.add(start, end, Change::Write { file, offset, data });
        Ok(())
    }

    fn sent(&mut self, start: usize, socket: &Path, args: &str) -> Result {
        let data = strings(args)?.concat();
        for id in marked(&data, MESSAGE_MARK, MESSAGE_DIGITS) {
            self.trace.messages.entry(id).or_insert(start);
        }
        if let Some(asked) = self.asked.remove(&*socket.to_string_lossy())
            && let Some(operation) = self.trace.operations.get_mut(&asked)
        {
            operation.answered = Some(start);
        }
        Ok(())
    }

    fn input(&mut self, start: usize, args: &str) -> Result {
        let (_, path) = descriptor(args)?;
        let socket = path.to_string_lossy();
        if !socket.starts_with("socket:") {
            return Ok(());
        }
        let data = strings(args)?.concat();
        for id in marked(&data, OPERATION_MARK, OPERATION_DIGITS) {
            self.asked.insert(socket.clone().into_owned(), id.clone());
            self.trace.operations.insert(id, Operation { read: start, answered: None });
        }
        Ok(())
    }

    fn open(&mut self, start: usize, end: usize, name: &str, args: &str, result: &str) -> Result {
        ensure!(name != "creat", "creat is not understood");
        let fd = result.split(['<', ' ']).next().context("no descriptor")?.parse()?;
        let path = self.paths(args)?.into_iter().next().context("no path")?;
        if !self.below(&path) || self.folders.contains(&path) || args.contains("O_DIRECTORY") {
            self.open.remove(&fd);
            return Ok(());
        }
        let file = match self.names.get(&path) {
            Some(file) => *file,
            None if args.contains("O_CREAT") => {
                let file = self.next_file;
                self.next_file += 1;
                self.names.insert(path.clone(), file);
                self.add(start, end, Change::Create { path });
                file
            }
            // The control socket and the like.
            None => return Ok(()),
        };
        ensure!(!args.contains("O_APPEND"), "appending is not understood");
        if args.contains("O_TRUNC") {
            self.add(start, end, Change::Truncate { file, length: 0 });
        }
        self.open.insert(fd, (file, 0));
        Ok(())
    }

    fn name(&mut self, start: usize, end: usize, name: &str, args: &str) -> Result {
        let paths = self.paths(args)?;
        let first = paths.first().context("no path")?.clone();
        if !self.below(&first) {
            return Ok(());
        }
        let change = match name {
            "mkdir" | "mkdirat" => {
                self.folders.insert(first.clone());
                Change::MakeFolder { path: first }
            }
            "rename" | "renameat" | "renameat2" => {
                let to = paths.get(1).context("no second path")?.clone();
                let file = self.names.remove(&first).context("renames an unknown file")?;
                self.names.insert(to.clone(), file);
                Change::Rename { from: first, to }
            }
            _ => {
                // The control socket is no file of ours.
                if self.names.remove(&first).is_none() && !self.folders.remove(&first) {
                    return Ok(());
                }
                Change::Remove { path: first }
            }
        };
        self.add(start, end, change);
        Ok(())
    }

    fn sync(&mut self, start: usize, end: usize, args: &str) -> Result {
        let (fd, path) = descriptor(args)?;
        if !self.below(&path) {
            return Ok(());
        }
        let change = if self.folders.contains(&path) {
            Change::SyncFolder { path }
        } else {
            let (file, _) = *self.open.get(&fd).context("syncs an unknown file")?;
            Change::SyncFile { file }
        };
        self.add(start, end, change);
        Ok(())
    }

    /// The paths among the arguments, each relative to the folder named before it.
    fn paths(&self, args: &str) -> Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        let mut folder = PathBuf::new();
        let mut rest = args;
        while let Some(at) = rest.find(['<', '"']) {
            let close = if rest[at..].starts_with('<') { '>' } else { '"' };
            let length = rest[at + 1..].find(close).context("a path without end")?;
            let path = path(&rest[at + 1..at + 1 + length])?;
            if close == '>' {
                folder = path
            } else {
                paths.push(folder.join(path))
            }
            rest = &rest[at + length + 2..];
        }
        Ok(paths)
    }
}

/// The descriptor and what is behind it: `7<path>`.
fn descriptor(args: &str) -> Result<(u64, PathBuf)> {
    let (number, rest) =
        args.split_once('<').with_context(|| format!("no descriptor: {}", short(args)))?;
    let (name, _) = rest.split_once('>').context("no path of a descriptor")?;
    Ok((number.parse()?, path(name)?))
}

fn path(hex: &str) -> Result<PathBuf> {
    Ok(PathBuf::from(String::from_utf8(bytes(hex)?)?))
}

/// Every quoted string among the arguments.
fn strings(args: &str) -> Result<Vec<Vec<u8>>> {
    args.split('"').skip(1).step_by(2).map(bytes).collect()
}

/// `\x41\x42` as bytes; what is not written so stands for itself.
fn bytes(hex: &str) -> Result<Vec<u8>> {
    let digit = |byte: u8| (byte as char).to_digit(16).context("no hexadecimal digit");
    let hex = hex.as_bytes();
    let mut out = Vec::with_capacity(hex.len() / 4);
    let mut at = 0;
    while let Some(byte) = hex.get(at) {
        match hex.get(at..at + 4) {
            Some([b'\\', b'x', high, low]) => {
                out.push(u8::try_from(digit(*high)? * 16 + digit(*low)?)?);
                at += 4;
            }
            _ => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    Ok(out)
}

/// Every text in `data` that is `mark` with `digits` characters after it.
pub(super) fn marked(data: &[u8], mark: &str, digits: usize) -> Vec<String> {
    let length = mark.len() + digits;
    let found = data.windows(length).filter(|window| window.starts_with(mark.as_bytes()));
    found.map(|window| String::from_utf8_lossy(window).into_owned()).collect()
}

fn short(text: &str) -> String {
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> String {
        text.bytes().map(|byte| format!("\\x{byte:02x}")).collect()
    }

    #[test]
    fn calls_are_put_together_and_told_apart() -> Result {
        let (db, socket) = (hex("/data/db"), hex("socket:[5]"));
        let id = format!("{MESSAGE_MARK}{:014}", 7);
        let operation = format!("{OPERATION_MARK}{:010}", 3);
        let record = [
            format!(
                "1 openat(AT_FDCWD<{}>, \"{}\", O_RDWR|O_CREAT, 0666) = 9<{db}>",
                hex("/"),
                hex("data/db")
            ),
            format!(
                "2 recvfrom(5<{socket}>, \"{}\", 99, 0, NULL, NULL) = 99",
                hex(&format!("POST {operation} x"))
            ),
            format!("1 pwrite64(9<{db}>, \"{}\", 2, 512 <unfinished ...>", hex("ab")),
            format!("3 pwrite64(9<{}>, \"{}\", 2, 0) = 2", hex("/elsewhere"), hex("no")),
            format!("2 fdatasync(9<{db}> <unfinished ...>"),
            "1 <... pwrite64 resumed>)           = 2".to_owned(),
            format!("4 sync_file_range(9<{db}>, 0, 2, SYNC_FILE_RANGE_WRITE) = 0"),
            "2 <... fdatasync resumed>)          = 0".to_owned(),
            format!("2 writev(5<{socket}>, [{{iov_base=\"{}\", iov_len=9}}], 1) = 9", hex(&id)),
            "1 +++ exited with 0 +++".to_owned(),
        ]
        .join("\n");
        let trace = read(record.as_bytes(), Path::new("/data"), &[], &["/data".into()])?;
        let seen: Vec<_> = trace.events.iter().map(|event| (event.start, event.end)).collect();
        assert_eq!(seen, [(0, 0), (2, 5), (4, 7)]);
        assert!(matches!(&trace.events[1].change,
            Change::Write { file: 0, offset: 512, data } if data == b"ab"));
        assert!(matches!(trace.events[2].change, Change::SyncFile { file: 0 }));
        assert_eq!(trace.messages.get(&id), Some(&8));
        let operation = trace.operations.get(&operation).context("the request")?;
        assert_eq!((operation.read, operation.answered), (1, Some(8)));
        Ok(())
    }

    #[test]
    fn a_call_on_the_data_that_is_not_understood_is_an_error() {
        let record = format!("1 fallocate(9<{}>, 0, 0, 5) = 0\n", hex("/data/db"));
        assert!(read(record.as_bytes(), Path::new("/data"), &[], &[]).is_err());
    }
}
