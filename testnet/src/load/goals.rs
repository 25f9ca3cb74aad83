//! What a node should reach, beside what it has reached.

use std::fmt::Write as _;

use super::latency::Percentiles;
use super::report::{Report, readable};

/// A figure that is wanted.
struct Goal {
    what: &'static str,
    unit: &'static str,
    floor: f64,
    goal: f64,
    /// Less is better.
    less: bool,
    /// Finds it in the reports.
    find: fn(&[Report]) -> Option<f64>,
}

/// For two cores with the generator on the same machine.
const GOALS: &[Goal] = &[
    Goal {
        what: "1:1 acknowledged",
        unit: "/s",
        floor: 8_000.0,
        goal: 20_000.0,
        less: false,
        find: |all| chat(all)?.value("acknowledged"),
    },
    Goal {
        what: "1:1 delivered",
        unit: "/s",
        floor: 8_000.0,
        goal: 20_000.0,
        less: false,
        find: |all| chat(all)?.value("delivered"),
    },
    Goal {
        what: "1:1 share of raw",
        unit: "",
        floor: 0.5,
        goal: 0.65,
        less: false,
        find: |all| chat(all)?.value("share of raw"),
    },
    Goal {
        what: "1:1 against the better of the peers",
        unit: "×",
        floor: 3.0,
        goal: 10.0,
        less: false,
        find: |all| chat(all)?.value("times the better peer"),
    },
    Goal {
        what: "1:1 at a fixed rate, delivered, p50",
        unit: "ms",
        floor: f64::NAN,
        goal: 3.0,
        less: true,
        find: |all| Some(delivered(paced(all)?)?.p50),
    },
    Goal {
        what: "1:1 at a fixed rate, delivered, p99",
        unit: "ms",
        floor: 50.0,
        goal: 20.0,
        less: true,
        find: |all| Some(delivered(paced(all)?)?.p99),
    },
    Goal {
        what: "1:1 at a fixed rate, delivered, max",
        unit: "ms",
        floor: f64::NAN,
        goal: 100.0,
        less: true,
        find: |all| Some(delivered(paced(all)?)?.max),
    },
    Goal {
        what: "1:1 at a fixed rate, CPU of a message",
        unit: "µs",
        floor: 300.0,
        goal: 150.0,
        less: true,
        find: |all| paced(all)?.value("server CPU for each"),
    },
    Goal {
        what: "a lone message, delivered, p50",
        unit: "ms",
        floor: 1.1,
        goal: 0.6,
        less: true,
        find: |all| Some(delivered(all.iter().find(|r| r.kind == "lone" && is_ours(r))?)?.p50),
    },
    Goal {
        what: "group of 100,000, last one has it, p99",
        unit: "ms",
        floor: 500.0,
        goal: 100.0,
        less: true,
        find: |all| Some(latency(open(all, "group of 100000")?, "send to last one has it")?.p99),
    },
    Goal {
        what: "memory per idle connection",
        unit: "KiB",
        floor: 12.0,
        goal: 7.0,
        less: true,
        find: |all| first(all, "memory per idle connection"),
    },
    Goal {
        what: "restart, all clients synced",
        unit: "s",
        floor: 30.0,
        goal: 10.0,
        less: true,
        find: |all| first(all, "ready to all synced"),
    },
    Goal {
        what: "idle memory, nothing stored",
        unit: "MiB",
        floor: 25.0,
        goal: 20.0,
        less: true,
        find: |all| first(all, "memory, nothing stored"),
    },
    Goal {
        what: "idle memory, messages stored",
        unit: "MiB",
        floor: 60.0,
        goal: 40.0,
        less: true,
        find: |all| first(all, "memory after starting again"),
    },
    Goal {
        what: "start to first answer",
        unit: "ms",
        floor: 500.0,
        goal: 300.0,
        less: true,
        find: |all| first(all, "start to first answer"),
    },
    Goal {
        what: "start to first answer after a kill",
        unit: "ms",
        floor: 2_000.0,
        goal: 1_000.0,
        less: true,
        find: |all| first(all, "start after a kill"),
    },
    Goal {
        what: "on disk, times the content",
        unit: "×",
        floor: 1.35,
        goal: 1.2,
        less: true,
        find: |all| first(all, "on disk, times the content"),
    },
    Goal {
        what: "login to first push, p99",
        unit: "ms",
        floor: 200.0,
        goal: 50.0,
        less: true,
        find: |all| all.iter().find_map(|r| Some(latency(r, "login to first push")?.p99)),
    },
];

fn chat(all: &[Report]) -> Option<&Report> {
    all.iter().find(|r| r.kind == "chat" && is_ours(r))
}

fn paced(all: &[Report]) -> Option<&Report> {
    all.iter().find(|r| r.kind == "paced" && is_ours(r))
}

fn is_ours(report: &Report) -> bool {
    ["entente", "node"].contains(&report.target.as_str())
}

/// The run at a fixed rate of a scenario that has two.
fn open<'a>(all: &'a [Report], name: &str) -> Option<&'a Report> {
    all.iter().find(|r| r.scenario.starts_with(name) && r.scenario.ends_with("/s"))
}

fn latency<'a>(report: &'a Report, name: &str) -> Option<&'a Percentiles> {
    report.latencies.iter().find(|latency| latency.name == name && latency.count > 0)
}

fn delivered(report: &Report) -> Option<&Percentiles> {
    latency(report, "send to delivered")
}

fn first(all: &[Report], name: &str) -> Option<f64> {
    all.iter().filter(|report| is_ours(report)).find_map(|report| report.value(name))
}

/// The table of goals, as far as the reports tell.
pub(crate) fn table(reports: &[Report]) -> String {
    let mut text = String::new();
    for Goal { what, unit, floor, goal, less, find } in GOALS {
        let Some(value) = find(reports) else { continue };
        let reaches = |wanted: f64| if *less { value <= wanted } else { value >= wanted };
        let verdict = match () {
            () if reaches(*goal) => "goal reached",
            () if floor.is_nan() => "goal not reached",
            () if reaches(*floor) => "floor reached",
            () => "FLOOR NOT REACHED",
        };
        let floor = if floor.is_nan() { "-".to_owned() } else { readable(*floor) };
        let _ = writeln!(
            text,
            "{what:<40} {:>10} {unit:<4} floor {floor:>7}  goal {:>7}  {verdict}",
            readable(value),
            readable(*goal)
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_what_was_measured() {
        let mut report = Report { kind: "idle", target: "entente".into(), ..Report::default() };
        report.number("memory per idle connection", 8.0, "KiB");
        let text = table(&[report]);
        assert!(text.contains("8.00 KiB"), "{text}");
        assert!(text.ends_with("floor reached\n"), "{text}");
        assert_eq!(text.lines().count(), 1);
    }
}
