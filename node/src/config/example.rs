//! The configuration written out: an example file, and the reference in the docs.

use toml::Table;

use super::{Config, SECTIONS};

/// A commented configuration file with all defaults.
pub(crate) fn example() -> anyhow::Result<String> {
    let defaults = Table::try_from(Config::default())?;
    let mut text = String::from(
        "# Configuration of an Entente node. Every key may be left out; what is shown is the\n\
         # default. The environment variable ENTENTE_<SECTION>_<KEY> overrides a key.\n",
    );
    for section in SECTIONS {
        text.push('\n');
        for line in section.doc {
            text.push_str(&format!("#{line}\n"));
        }
        text.push_str(&format!("[{}]\n", section.name));
        for key in section.keys {
            for line in key.doc {
                text.push_str(&format!("#{line}\n"));
            }
            let value = defaults.get(section.name).and_then(|s| s.get(key.name));
            let value = value.map(ToString::to_string).unwrap_or_default();
            text.push_str(&format!("# {} = {value}\n", key.name));
        }
    }
    text.push_str(
        "\n# How a notification is delivered, for example that quitting a group is not told in the\n\
         # chat; docs/operations.md lists the names.\n\
         # [notification.member_quit]\n# is_send_msg = false\n",
    );
    Ok(text)
}

#[cfg(test)]
mod tests {
    use services::settings::NOTIFICATIONS;

    use super::super::variable_name;
    use super::*;

    /// The reference in `docs/operations.md`.
    fn reference() -> String {
        let defaults = Table::try_from(Config::default()).expect("a table");
        let mut text = String::new();
        for section in SECTIONS {
            let about = section.doc.join("");
            text.push_str(&format!("\n### `[{}]`\n\n{}\n\n", section.name, about.trim()));
            text.push_str("| key | default | variable | is | |\n|---|---|---|---|---|\n");
            for key in section.keys {
                let value = defaults[section.name][key.name].to_string();
                let (variable, about) = (variable_name(section.name, key.name), key.doc.join(""));
                let about = about.trim();
                text.push_str(&format!(
                    "| `{}` | `{value}` | `{variable}` | {} | {about} |\n",
                    key.name, key.rule
                ));
            }
        }
        text.push_str(
            "\n### `[notification.NAME]`\n\nHow a notification is delivered: `is_send_msg` (it also \
             appears in the chat), `offline_push`, `title`, `desc` and `ext` of the push.\n\n\
             | name | content type | in the chat | offline push |\n|---|---|---|---|\n",
        );
        for (number, name, chat, push, _) in NOTIFICATIONS {
            text.push_str(&format!("| `{name}` | {number} | {chat} | {push} |\n"));
        }
        text
    }

    /// With UPDATE_DOCS set it writes the reference instead.
    #[test]
    fn the_reference_in_the_docs_is_current() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md");
        let page = std::fs::read_to_string(file).expect("reads");
        let (start, end) = ("<!-- generated: configuration -->\n", "<!-- end -->");
        let (before, rest) = page.split_once(start).expect("start mark");
        let (_, after) = rest.split_once(end).expect("end mark");
        let current = format!("{before}{start}{}\n{end}{after}", reference());
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(file, &current).expect("writes");
        } else {
            assert!(page == current, "stale: run UPDATE_DOCS=1 cargo test --workspace");
        }
    }
}
