//! Reading a configuration from everywhere it may come from.

use std::ffi::OsString;
use std::fs;
use std::ops::Range;
use std::path::Path;

use federation::Domain;
use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use super::agreement::{self, Origins, Wrong};
use super::origin::{Given, Origin};
use super::problem::Problems;
use super::rule::Rule;
use super::{Config, Key, SECTIONS, Section, notification, variable_name};

/// Variables that are not about the configuration.
const OTHER_VARIABLES: &[&str] = &["ENTENTE_BACKUP_PASSPHRASE", "ENTENTE_DATA", "ENTENTE_FAULT"];
/// Variables that Kubernetes and Docker set for a service, or a container, named `entente`.
const SERVICE_VARIABLES: &[&str] = &["ENTENTE_PORT", "ENTENTE_SERVICE_", "ENTENTE_ENV_"];
/// With this behind the name of a secret's variable, it names a file that holds the secret.
const OF_FILE: &str = "_FILE";

/// A key that was named after a unit and took a number of it; what is written so is still read.
struct Former {
    section: &'static str,
    name: &'static str,
    /// Its name now.
    key: &'static str,
    unit: &'static str,
}

const fn former(
    section: &'static str,
    name: &'static str,
    key: &'static str,
    unit: &'static str,
) -> Former {
    Former { section, name, key, unit }
}

const FORMER: &[Former] = &[
    former("api", "idle_seconds", "idle", "s"),
    former("ws", "max_frame_bytes", "max_frame", "B"),
    former("ws", "queue_bytes", "queue", "B"),
    former("ws", "queue_all_bytes", "queue_all", "B"),
    former("auth", "token_expire_days", "token_expire", "d"),
    former("chat", "message_max_bytes", "message_max", "B"),
    former("chat", "dedupe_hours", "dedupe", "h"),
    former("chat", "retain_days", "retain", "d"),
    former("federation", "expire_days", "expire", "d"),
    former("federation", "event_bytes_per_second", "event_bytes_per_second", "B"),
    former("federation", "event_bytes_per_second_each", "event_bytes_per_second_each", "B"),
    former("federation", "media_cache_mib", "media_cache", "MiB"),
    former("store", "cache_mib", "cache", "MiB"),
    former("store", "checkpoint_kib", "checkpoint", "KiB"),
    former("store", "reserve_mib", "reserve", "MiB"),
    former("object", "max_mib", "max", "MiB"),
    former("object", "url_days", "url_expire", "d"),
];

impl Former {
    /// The key as it is now, and the value that a number stands for.
    fn now(&self, number: &Value) -> Option<(&'static Key, Value)> {
        let keys = SECTIONS.iter().find(|known| known.name == self.section)?.keys;
        let value = format!("{} {}", number.as_integer()?, self.unit);
        Some((find(keys, self.key)?, value.into()))
    }
}

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Checks {
    /// The values, and the files and addresses that they name.
    All,
    /// Only the values: what does not serve needs neither certificates nor addresses.
    Values,
}

/// Everything that a configuration is read from.
pub(crate) struct Sources<'a> {
    /// The configuration file.
    pub(crate) file: &'a Path,
    /// It must exist.
    pub(crate) file_named: bool,
    /// Environment variables.
    pub(crate) variables: Vec<(OsString, OsString)>,
    /// Options of the command line.
    pub(crate) options: &'a [Given],
    /// The file that holds the secret if nothing else does.
    pub(crate) secret_file: &'a Path,
    /// The domain under which the data folder has federated, and the file that says so.
    pub(crate) domain: Option<(Domain, &'a Path)>,
    /// What is looked at.
    pub(crate) checks: Checks,
}

/// A configuration in the making.
struct Reading {
    /// What is right.
    table: Table,
    origins: Origins,
    /// Keys whose value is wrong.
    wrong: Wrong,
    problems: Problems,
    checks: Checks,
}

impl Sources<'_> {
    /// The configuration, or everything that is wrong with it.
    pub(crate) fn read(self) -> Result<Config, Problems> {
        let mut reading = Reading {
            table: Table::new(),
            origins: Origins::new(),
            wrong: Wrong::new(),
            problems: Problems::default(),
            checks: self.checks,
        };
        reading.file(self.file, self.file_named);
        reading.variables(self.variables);
        for given in self.options {
            let key = SECTIONS.iter().find(|section| section.name == given.section);
            let key = key.and_then(|section| Some((section.name, find(section.keys, given.key)?)));
            if let Some((section, key)) = key {
                let value = key.rule.typed(&given.value);
                reading.take(section, key, value, Origin::Option(given.option));
            }
        }
        reading.secret(self.secret_file);
        let Reading { table, origins, wrong, mut problems, checks } = reading;
        let mut config: Config = match table.try_into() {
            Ok(config) => config,
            Err(error) => {
                problems.note("configuration", None, error.to_string(), &Origin::Default);
                return Err(problems);
            }
        };
        agreement::check(&config, &origins, &wrong, checks, &mut problems);
        if let Some((domain, file)) = self.domain {
            let given = &mut config.federation.domain;
            if given.is_empty() {
                domain.as_str().clone_into(given);
            } else if given != domain.as_str() {
                let what = format!(
                    "the data folder has federated as {domain}, as {} says, and cannot change that",
                    file.display()
                );
                let from = agreement::origin(&origins, "federation", "domain");
                let value = given.clone().into();
                problems.note("federation.domain", Some(&value), what, &from);
            }
        }
        if problems.none() { Ok(config) } else { Err(problems) }
    }
}

fn find<'a>(keys: &'a [Key], name: &str) -> Option<&'a Key> {
    keys.iter().find(|key| key.name == name)
}

impl Reading {
    /// Takes a value if it is right.
    fn take(&mut self, section: &'static str, key: &'static Key, value: Value, origin: Origin) {
        if self.right(&format!("{section}.{}", key.name), key.rule, &value, &origin).is_err() {
            self.wrong.insert((section, key.name));
            return;
        }
        self.enter(section, key, value, origin);
    }

    /// Takes a number by the name that a key had when it took one.
    fn take_former(&mut self, former: &'static Former, number: &Value, origin: Origin) {
        let Some((key, value)) = former.now(number) else { return };
        if let Err(problem) = key.rule.check(&value, self.checks) {
            let name = format!("{}.{}", former.section, former.name);
            let problem = format!("it is {} now, and {problem}", former.key);
            self.problems.note(name, Some(number), problem, &origin);
            self.wrong.insert((former.section, key.name));
            return;
        }
        self.enter(former.section, key, value, origin);
    }

    fn enter(&mut self, section: &'static str, key: &'static Key, value: Value, origin: Origin) {
        self.wrong.remove(&(section, key.name));
        self.origins.insert((section, key.name), origin);
        let entry = self.table.entry(section).or_insert_with(|| Table::new().into());
        if let Some(entry) = entry.as_table_mut() {
            entry.insert(key.name.into(), value);
        }
    }

    /// Notes what is wrong with a value.
    fn right(&mut self, name: &str, rule: Rule, value: &Value, origin: &Origin) -> Result<(), ()> {
        rule.check(value, self.checks).map_err(|problem| {
            let shown = (!rule.is_secret()).then_some(value);
            self.problems.note(name, shown, problem, origin);
        })
    }

    fn file(&mut self, file: &Path, must_exist: bool) {
        let whole = Origin::File(file.to_owned(), 0);
        let text = match fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !must_exist => return,
            Err(error) => {
                self.problems.note("configuration file", None, error.to_string(), &whole);
                return;
            }
        };
        let at = |span: Range<usize>| {
            let before = text.bytes().take(span.start);
            Origin::File(file.to_owned(), 1 + before.filter(|byte| *byte == b'\n').count())
        };
        let (sections, errors) = DeTable::parse_recoverable(&text);
        for error in &errors {
            let origin = error.span().map_or_else(|| whole.clone(), at);
            self.problems.note("configuration file", None, error.message(), &origin);
        }
        if !errors.is_empty() {
            return;
        }
        let Ok(values) = text.parse::<Table>() else { return };
        for (name, section) in sections.get_ref() {
            let origin = at(name.span());
            let name = name.get_ref().as_ref();
            let (DeValue::Table(keys), Some(Value::Table(values))) =
                (section.get_ref(), values.get(name))
            else {
                self.unknown(name, section_names(), "section", &origin);
                continue;
            };
            match SECTIONS.iter().find(|section| section.name == name) {
                Some(section) => self.section(section, keys, values, &at),
                None if name == notification::SECTION => self.notifications(keys, values, &at),
                None => self.unknown(name, section_names(), "section", &origin),
            }
        }
    }

    fn section(
        &mut self,
        section: &'static Section,
        keys: &DeTable<'_>,
        values: &Table,
        at: &dyn Fn(Range<usize>) -> Origin,
    ) {
        for (name, value) in each(keys, values) {
            let origin = at(name.span());
            let name = name.get_ref().as_ref();
            let former = FORMER.iter().find(|key| key.section == section.name && key.name == name);
            if let Some(former) = former.filter(|_| value.is_integer()) {
                self.take_former(former, value, origin);
                continue;
            }
            if let Some(key) = find(section.keys, name) {
                self.take(section.name, key, value.clone(), origin);
                continue;
            }
            let full = format!("{}.{name}", section.name);
            let elsewhere = SECTIONS.iter().find(|other| find(other.keys, name).is_some());
            match elsewhere {
                _ if let Some(former) = former => {
                    let what = format!("this takes a number; use {}", former.key);
                    self.problems.note(full, Some(value), what, &origin);
                }
                Some(other) => {
                    let what = format!("there is no such key here; it belongs to [{}]", other.name);
                    self.problems.note(full, None, what, &origin);
                }
                None => {
                    let all =
                        section.keys.iter().map(|key| format!("{}.{}", section.name, key.name));
                    self.unknown(&full, all, "key", &origin);
                }
            }
        }
    }

    fn notifications(
        &mut self,
        sections: &DeTable<'_>,
        values: &Table,
        at: &dyn Fn(Range<usize>) -> Origin,
    ) {
        let mut right = Table::new();
        for (name, value) in each(sections, values) {
            let origin = at(name.span());
            let name = name.get_ref().as_ref();
            let keys = sections.get(name).and_then(|section| section.get_ref().as_table());
            let full = format!("{}.{name}", notification::SECTION);
            let known = notification::names().any(|known| known == name);
            let (true, Some(keys), Some(values)) = (known, keys, value.as_table()) else {
                let all = notification::names().map(|known| format!("notification.{known}"));
                self.unknown(&full, all, "notification", &origin);
                continue;
            };
            let mut taken = Table::new();
            for (key, value) in each(keys, values) {
                let origin = at(key.span());
                let key = key.get_ref().as_ref();
                let full = format!("{full}.{key}");
                let Some(known) = find(notification::KEYS, key) else {
                    let all = notification::KEYS.iter();
                    let all =
                        all.map(|key| format!("{}.{name}.{}", notification::SECTION, key.name));
                    self.unknown(&full, all, "key", &origin);
                    continue;
                };
                if self.right(&full, known.rule, value, &origin).is_ok() {
                    taken.insert(key.to_owned(), value.clone());
                }
            }
            right.insert(name.to_owned(), taken.into());
        }
        self.table.insert(notification::SECTION.into(), right.into());
    }

    fn variables(&mut self, variables: Vec<(OsString, OsString)>) {
        let mut given: Vec<(String, Option<String>)> = variables
            .into_iter()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok())))
            .filter(|(name, _)| name.starts_with("ENTENTE_"))
            .collect();
        given.sort();
        for (name, value) in &given {
            let origin = Origin::Variable(name.clone());
            let Some(value) = value else {
                self.problems.note(name, None, "it is not UTF-8", &origin);
                continue;
            };
            let former = FORMER.iter().find(|key| variable_name(key.section, key.name) == *name);
            if let (Some(former), Ok(number)) = (former, value.parse()) {
                self.take_former(former, &Value::Integer(number), origin);
                continue;
            }
            if let Some((section, key)) = key_of(name) {
                self.take(section, key, key.rule.typed(value), origin);
                continue;
            }
            let of_file = name.strip_suffix(OF_FILE).and_then(key_of);
            if let Some((section, key)) = of_file.filter(|(_, key)| key.rule.is_secret()) {
                let other = variable_name(section, key.name);
                if given.iter().any(|(name, _)| *name == other) {
                    self.problems.note(name, None, format!("{other} is set, too"), &origin);
                } else {
                    self.secret_in(section, key, value, name);
                }
                continue;
            }
            let of_others = SERVICE_VARIABLES.iter().any(|start| name.starts_with(start));
            if of_others || OTHER_VARIABLES.contains(&name.as_str()) {
                continue;
            }
            let all = keys().flat_map(|(section, key)| {
                let name = variable_name(section, key.name);
                let of_file = key.rule.is_secret().then(|| format!("{name}{OF_FILE}"));
                [Some(name), of_file].into_iter().flatten()
            });
            let others = OTHER_VARIABLES.iter().map(ToString::to_string);
            self.unknown(name, all.chain(others), "variable", &origin);
        }
    }

    /// Takes a secret from the file that a variable names.
    fn secret_in(&mut self, section: &'static str, key: &'static Key, file: &str, variable: &str) {
        let origin = Origin::FileOf(variable.to_owned(), file.into());
        match fs::read_to_string(file) {
            Ok(text) if text.trim().is_empty() => {
                self.problems.note(format!("{section}.{}", key.name), None, "it is empty", &origin);
            }
            Ok(text) => self.take(section, key, text.trim().into(), origin),
            Err(error) => {
                let name = format!("{section}.{}", key.name);
                self.problems.note(name, None, format!("cannot read {file}: {error}"), &origin);
            }
        }
    }

    /// Takes the secret of the data folder if no other is given.
    fn secret(&mut self, file: &Path) {
        let Some(key) = SECTIONS.iter().find(|section| section.name == "auth") else { return };
        let Some(key) = find(key.keys, "secret") else { return };
        let given = self.table.get("auth").and_then(|auth| auth.get("secret"));
        let given = given.and_then(Value::as_str).is_some_and(|secret| !secret.is_empty());
        if given || self.wrong.contains(&("auth", "secret")) {
            return;
        }
        let origin = Origin::File(file.to_owned(), 0);
        match fs::read_to_string(file) {
            Ok(text) if text.trim().is_empty() => {
                self.problems.note("auth.secret", None, "it is empty", &origin);
            }
            Ok(text) => self.take("auth", key, text.trim().into(), origin),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => self.problems.note("auth.secret", None, error.to_string(), &origin),
        }
    }

    /// Notes that there is nothing of a name, and what may have been meant.
    fn unknown(
        &mut self,
        name: &str,
        all: impl Iterator<Item = String>,
        what: &str,
        origin: &Origin,
    ) {
        let mut problem = format!("there is no such {what}");
        let near = all
            .map(|known| (strsim::damerau_levenshtein(name, &known), known))
            .min()
            .filter(|(distance, _)| *distance <= 2.max(name.len() / 4));
        if let Some((_, known)) = near {
            problem.push_str(&format!("; did you mean {known}?"));
        }
        self.problems.note(name, None, problem, origin);
    }
}

/// Every key with the name of its section.
fn keys() -> impl Iterator<Item = (&'static str, &'static Key)> {
    SECTIONS.iter().flat_map(|section| section.keys.iter().map(|key| (section.name, key)))
}

/// The key that a variable sets.
fn key_of(variable: &str) -> Option<(&'static str, &'static Key)> {
    keys().find(|(section, key)| variable_name(section, key.name) == variable)
}

fn section_names() -> impl Iterator<Item = String> {
    let names = SECTIONS.iter().map(|section| section.name).chain([notification::SECTION]);
    names.map(str::to_owned)
}

/// The entries of a table: where each is, and what it is.
fn each<'a>(
    keys: &'a DeTable<'_>,
    values: &'a Table,
) -> impl Iterator<Item = (&'a Spanned<toml::de::DeString<'a>>, &'a Value)> {
    keys.iter().filter_map(|(key, _)| Some((key, values.get(key.get_ref().as_ref())?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a file with a text, with variables.
    fn read(text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("config.toml");
        std::fs::write(&file, text).expect("writes");
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
        let sources = Sources {
            file: &file,
            file_named: true,
            variables: variables.collect(),
            options: &[],
            secret_file: &folder.path().join("secret"),
            domain: None,
            checks: Checks::All,
        };
        sources.read().map_err(|problems| problems.to_string())
    }

    #[test]
    fn the_example_is_the_default() {
        let text = super::super::example().expect("example");
        assert_eq!(read(&text, &[]).expect("reads"), Config::default());
        let uncommented: String = text
            .lines()
            .filter(|line| line.starts_with('[') || line.contains(" = "))
            .filter(|line| !line.contains("is_send_msg"))
            .map(|line| format!("{}\n", line.trim_start_matches("# ")))
            .collect();
        assert_eq!(read(&uncommented, &[]).expect("reads"), Config::default());
    }

    #[test]
    fn variables_override_the_file() {
        let variables = [
            ("ENTENTE_API_LISTEN", "127.0.0.1:1"),
            ("ENTENTE_API_GZIP", "false"),
            ("ENTENTE_AUTH_ADMIN_USERS", "a, b"),
            ("ENTENTE_STORE_CACHE", "7 MiB"),
            ("ENTENTE_API_IDLE_SECONDS", "9"),
            ("ENTENTE_SERVICE_HOST", "10.0.0.1"),
            ("ENTENTE_PORT_10002_TCP", "tcp://10.0.0.1:10002"),
        ];
        let config = read("[api]\nlisten = \"0.0.0.0:2\"\n", &variables).expect("reads");
        assert_eq!(config.api.listen, "127.0.0.1:1");
        assert!(!config.api.gzip);
        assert_eq!(config.auth.admin_users, ["a", "b"]);
        assert_eq!(config.store.cache.bytes(), 7 << 20);
        assert_eq!(config.api.idle.duration().as_secs(), 9);
    }

    #[test]
    fn names_of_before_are_read() {
        for Former { section, name, key, unit } in FORMER {
            let number = match (*key, *unit) {
                ("message_max", _) => 1_000,
                (_, "B") => 131_072,
                _ => 29,
            };
            let config = read(&format!("[{section}]\n{name} = {number}\n"), &[]);
            let config = Table::try_from(config.expect(name)).expect("a table");
            let again = read(&format!("[{section}]\n{key} = \"{number} {unit}\"\n"), &[]);
            let again = Table::try_from(again.expect(key)).expect("a table");
            assert_eq!(config, again);
            assert_ne!(config, Table::try_from(Config::default()).expect("a table"), "{name}");
        }
        let refused = read("[chat]\nretain_days = -3\n", &[]).expect_err("negative");
        assert!(
            refused.contains("chat.retain_days = -3: it is retain now, and must be a span"),
            "{refused}"
        );
        let refused = read("[chat]\nretain_days = \"3d\"\n", &[]).expect_err("a former name");
        assert!(refused.contains("this takes a number; use retain"), "{refused}");
    }

    #[test]
    fn every_rule_accepts_its_default_and_refuses_another_kind() {
        let defaults = Table::try_from(Config::default()).expect("a table");
        for (section, key) in keys() {
            let default = &defaults[section][key.name];
            assert_eq!(key.rule.check(default, Checks::All), Ok(()), "{section}.{}", key.name);
            for bad in [Value::Float(0.5), Value::Integer(-3), Value::Table(Table::new())] {
                let refused = key.rule.check(&bad, Checks::All);
                assert!(refused.is_err(), "{section}.{} = {bad}", key.name);
            }
        }
    }
}
