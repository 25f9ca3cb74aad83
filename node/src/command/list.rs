//! Lists: what is printed of them, and what is left out.

use serde_json::{Value, json};

use super::{rows, run};
use crate::cli::{Data, Page};
use crate::operation::{Operation, Part};
use crate::printer::Printer;

/// Entries that are asked for at once where all are wanted.
const AT_ONCE: usize = 20_000;

/// Prints a list, and how much of it is left out. `operation` asks for a part of it, which comes
/// under `name`; `line` is what people see of an entry.
pub(super) fn list(
    data: &Data,
    page: Page,
    printer: Printer,
    name: &str,
    operation: impl Fn(Part) -> Operation,
    line: impl Fn(&Value) -> String,
) -> anyhow::Result<()> {
    let limit = if page.all { AT_ONCE } else { page.limit };
    let mut part = Part { skip: page.skip, limit };
    let mut all = Vec::new();
    loop {
        let mut result = run(data, &operation(part), printer)?;
        let shown = rows(&result, name).len();
        part.skip += shown;
        let total = result["total"].as_u64().unwrap_or_default();
        let more = total.saturating_sub(part.skip.try_into()?);
        let goes_on = page.all && shown > 0 && more > 0;
        if printer.json {
            if let Value::Array(rows) = result[name].take() {
                all.extend(rows);
            }
            if !goes_on {
                result[name] = all.into();
                result["more"] = json!(more);
                return printer.print(&result, String::new);
            }
            continue;
        }
        let lines: Vec<String> = rows(&result, name).iter().map(&line).collect();
        printer.print(&result, || lines.join("\n"))?;
        if goes_on {
            continue;
        }
        if more > 0 {
            let (skip, more) = (part.skip, grouped(more));
            printer.hint(&format!("… and {more} more: --skip {skip} goes on, --all prints all"));
        }
        return Ok(());
    }
}

/// A number with commas between thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_apart() {
        for (number, text) in [(0, "0"), (999, "999"), (1_924, "1,924"), (1_000_000, "1,000,000")] {
            assert_eq!(grouped(number), text);
        }
    }
}
