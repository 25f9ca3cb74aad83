//! How far something is that takes its time.

use indicatif::{ProgressBar, ProgressStyle};

use crate::printer::Printer;

/// Done, and of how much; 0: nobody knows yet.
pub(crate) type Done = (u64, u64);

/// A bar on a terminal; nothing where nobody looks. What `unit` says is counted.
pub(crate) fn bar(printer: Printer, unit: &'static str) -> ProgressBar {
    if printer.json {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    bar.set_style(style(&format!("{{spinner}} {{human_pos}} {unit}, {{per_sec}}, {{elapsed}}")));
    bar.set_message(unit);
    bar
}

/// Moves a bar. It is one only when it is known of how much.
pub(crate) fn show(bar: &ProgressBar, (done, total): Done) {
    if total != 0 && bar.length() != Some(total) {
        let parts = "{wide_bar} {percent} %, {human_pos} of {human_len} {msg}, {eta} left";
        bar.set_style(style(parts));
        bar.set_length(total);
    }
    bar.set_position(done);
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
