//! `repair`: a whole database from what is left of a damaged one, which stays as it is.

use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use store::backup::NewEpoch;
use store::repair::{Base, LostCommits, LostMessages, Repaired, repair};

use crate::cli::{Data, RepairOptions};
use crate::config::Checks;
use crate::damage;
use crate::data_folder::DataFolder;
use crate::printer::Printer;
use crate::progress;

/// Makes the new database beside the damaged one.
pub(crate) fn run(
    data: &Data,
    options: &RepairOptions,
    printer: Printer,
) -> anyhow::Result<ExitCode> {
    let folder = DataFolder::new(&data.folder);
    let (damaged, made) = (folder.store(), folder.repaired());
    if !damaged.exists() {
        bail!("there is no database in {}", folder.path().display());
    }
    if fs::symlink_metadata(&made).is_ok() {
        bail!("{} is there already: move it out of the way", made.display());
    }
    let backup = options
        .backup
        .as_ref()
        .map(|file| File::open(file).with_context(|| format!("cannot read {}", file.display())));
    let mut backup = backup.transpose()?.map(|file| BufReader::with_capacity(1 << 20, file));
    let config = folder.config(data.config.as_deref(), &[], Checks::Values)?;
    let bar = progress::bar(printer, "entries");
    let repaired = repair(
        &damaged,
        backup.as_mut().map(|file| file as &mut dyn Read),
        &made,
        config.store.cache.bytes(),
        NewEpoch { salt: rand::random(), skip: options.lost },
        |done| progress::show(&bar, (done, 0)),
    );
    bar.finish_and_clear();
    let repaired = repaired.with_context(|| format!("cannot repair {}", damaged.display()))?;
    let whole = repaired.is_whole();
    let mut result = serde_json::to_value(&repaired)?;
    result["whole"] = whole.into();
    result["made"] = made.to_string_lossy().into();
    printer.print(&result, || {
        let mut lines = report(&repaired);
        let (aside, damaged) = (damaged.with_extension("damaged"), damaged.display());
        lines.push(format!(
            "The new database is {}; {damaged} is as it was. To use the new one:\n  mv {damaged} {}\n  mv {} {damaged}",
            made.display(), aside.display(), made.display()
        ));
        lines.join("\n")
    })?;
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::from(damage::EXIT_CODE) })
}

/// What was recovered and what was not.
fn report(repaired: &Repaired) -> Vec<String> {
    let base = match repaired.base {
        Base::Index => "the index and the journal behind it",
        Base::Journal => "the journal, which goes back to the beginning",
        Base::Backup if repaired.followed => "the backup and the journal behind it",
        Base::Backup => "the backup",
        Base::PartOfIndex => "what can be read of the index, and the journal",
    };
    let entries: u64 = repaired.entries.values().sum();
    let mut lines = vec![format!("Recovered {entries} entries from {base}:")];
    lines.extend(repaired.entries.iter().map(|(table, entries)| format!("  {table} {entries}")));
    if repaired.is_whole() {
        lines.push("Nothing is lost.".into());
        return lines;
    }
    lines.push("Lost:".into());
    if repaired.base == Base::PartOfIndex {
        lines
            .push("  entries of the index that cannot be told: give a backup with --backup".into());
    }
    if !repaired.followed {
        lines.push(
            "  what was done after the backup: it does not say where the journal goes on".into(),
        );
    }
    lines.extend(repaired.lost_commits.iter().map(commits));
    lines.extend(repaired.lost_messages.iter().map(messages));
    let values = repaired.lost_values.iter();
    lines.extend(values.map(|(table, values)| format!("  {values} entries of {table}")));
    lines
}

fn commits(lost: &LostCommits) -> String {
    let at = |ms: i64| {
        Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |at| at.to_string())
    };
    let mut line = format!("  {} commits", lost.commits);
    if let Some(after) = lost.after {
        line.push_str(&format!(", written after {}", at(after)));
    }
    if let Some(before) = lost.before {
        line.push_str(&format!(", before {}", at(before)));
    }
    line
}

fn messages(lost: &LostMessages) -> String {
    let seqs: Vec<String> = lost.seqs.iter().map(u64::to_string).collect();
    let more = lost.messages.saturating_sub(lost.seqs.len() as u64);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    let conversation = match lost.conversation.as_str() {
        "" => "a conversation that is not known",
        id => id,
    };
    format!("  messages of {conversation}: seq {}{more}", seqs.join(", "))
}
