//! `backup` and `restore`.

use std::fs::File;
use std::io::{self, BufReader, IsTerminal as _, Read};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use indicatif::ProgressBar;
use serde_json::json;
use store::backup::{self, NewEpoch};

use super::{run, run_into};
use crate::cli::Data;
use crate::config::Checks;
use crate::data_folder::DataFolder;
use crate::operation::Operation;
use crate::printer::Printer;
use crate::progress;

/// In place of a file: standard output, or standard input.
pub(super) const STANDARD: &str = "-";

/// `backup FILE`.
pub(crate) fn write(data: &Data, file: &Path, printer: Printer) -> anyhow::Result<ExitCode> {
    if file.as_os_str() == STANDARD {
        let out = io::stdout();
        if out.is_terminal() {
            bail!("a backup is nothing for a terminal: lead it into a file or a program");
        }
        let result = run_into(data, &Operation::BackupStream, printer, out)?;
        printer.beside(&result, &format!("Wrote {} entries.", result["entries"]));
        return Ok(ExitCode::SUCCESS);
    }
    let file = std::path::absolute(file)?;
    let result = run(data, &Operation::Backup { file: file.clone() }, printer)?;
    printer
        .print(&result, || format!("Wrote {} entries to {}.", result["entries"], file.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// `restore FILE`.
pub(crate) fn restore(
    data: &Data,
    file: &Path,
    lost: u32,
    printer: Printer,
) -> anyhow::Result<ExitCode> {
    let folder = DataFolder::new(&data.folder);
    let (input, bytes): (Box<dyn Read>, u64) = if file.as_os_str() == STANDARD {
        (Box::new(io::stdin()), 0)
    } else {
        let input = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
        let bytes = input.metadata()?.len();
        (Box::new(input), bytes)
    };
    let config = folder.config(data.config.as_deref(), &[], Checks::Values)?;
    folder.make()?;
    let bar = progress::bar(printer, "bytes");
    let input = Watched { input, read: 0, total: bytes, bar: &bar };
    let restored = backup::restore(
        BufReader::with_capacity(1 << 20, input),
        &folder.store(),
        config.store.cache_mib << 20,
        NewEpoch { salt: rand::random(), skip: lost },
        |_| {},
    )?;
    bar.finish_and_clear();
    let result = json!({ "data": folder.path(), "entries": restored.records });
    printer.print(&result, || {
        format!("Restored {} entries into {}.", restored.records, folder.path().display())
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Shows how much was read.
struct Watched<'a> {
    input: Box<dyn Read>,
    read: u64,
    total: u64,
    bar: &'a ProgressBar,
}

impl Read for Watched<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(into)?;
        self.read += u64::try_from(read).unwrap_or_default();
        progress::show(self.bar, (self.read, self.total));
        Ok(read)
    }
}
