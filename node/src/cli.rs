//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use services::platform;

use crate::config::Given;

/// A self-hosted, federated instant-messaging node for the official OpenIM clients.
#[derive(Debug, Parser)]
#[command(
    name = "entente",
    version,
    max_term_width = 100,
    after_help = "Without a command it serves.\n\n\
        Exit codes: 0 done, 1 failed, 2 wrong usage or\n        configuration, 3 data is damaged or not complete."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) data: Data,
    #[command(flatten)]
    pub(crate) serve: Serve,
    /// Print one JSON object instead of text.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// Where the data is.
#[derive(Debug, Clone, Args)]
pub(crate) struct Data {
    /// Data folder.
    #[arg(
        long = "data",
        value_name = "DIR",
        env = "ENTENTE_DATA",
        default_value = "entente-data",
        global = true
    )]
    pub(crate) folder: PathBuf,
    /// Configuration file instead of config.toml in the data folder.
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) config: Option<PathBuf>,
}

/// Options of `serve`.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    pub(crate) listen: Listen,
    /// Make new keys because identity.json is lost for good; other nodes have to learn them. For one
    /// start.
    #[arg(long)]
    pub(crate) new_identity: bool,
}

/// Addresses of `serve`.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Listen {
    /// Address of the REST API instead of the configured one.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) api: Option<String>,
    /// Address of the WebSocket gateway instead of the configured one.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) ws: Option<String>,
    /// Domain under which the node federates, instead of the configured one.
    #[arg(long, value_name = "NAME")]
    pub(crate) domain: Option<String>,
    /// UDP address on which other nodes reach this one, instead of the configured one.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) federation: Option<String>,
}

impl Listen {
    /// What is given, as keys of the configuration.
    pub(crate) fn given(&self) -> Vec<Given> {
        let given = [
            ("--api", "api", "listen", &self.api),
            ("--ws", "ws", "listen", &self.ws),
            ("--domain", "federation", "domain", &self.domain),
            ("--federation", "federation", "listen", &self.federation),
        ];
        let given = given.into_iter().filter_map(|(option, section, key, value)| {
            Some(Given { option, section, key, value: value.clone()? })
        });
        given.collect()
    }
}

/// Which entries of a list are printed.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Page {
    /// Entries to print, at most.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(crate) limit: usize,
    /// Entries to skip.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) skip: usize,
    /// Print all entries.
    #[arg(long, conflicts_with = "limit")]
    pub(crate) all: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the node; the first start makes the data folder.
    Serve(Serve),
    /// Make the data folder, its configuration and its secret, and end.
    Init,
    /// Ask the REST API of the node that serves the data folder whether it answers; ends with 1 if it
    /// does not.
    Health,
    /// Show or check the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Add and list users, issue tokens.
    #[command(subcommand)]
    User(UserCommand),
    /// Look after the federation with other nodes.
    #[command(subcommand)]
    Federation(FederationCommand),
    /// Check all data; ends with 3 if something is damaged.
    Verify,
    /// Write all that the node needs to a file, also while it serves: data, uploaded files, the
    /// configuration and, encrypted, its secrets.
    Backup(BackupOptions),
    /// Fill a data folder without a database from a backup.
    Restore(RestoreOptions),
    /// Make a whole database from what is left of a damaged one, which stays as it is.
    Repair(RepairOptions),
    /// Print the version.
    Version,
}

/// Options of `backup`.
#[derive(Debug, Args)]
#[command(subcommand_precedence_over_arg = true)]
pub(crate) struct BackupOptions {
    #[command(subcommand)]
    pub(crate) command: Option<BackupCommand>,
    /// The file to write, or a folder, in which it is named after the domain and the time; left out:
    /// the current folder. - is standard output.
    pub(crate) file: Option<PathBuf>,
    /// Replace a file that is there.
    #[arg(long)]
    pub(crate) force: bool,
    /// File whose first line is the passphrase of the secrets; without it ENTENTE_BACKUP_PASSPHRASE
    /// holds it, or it is asked for.
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Leave out the secret and the keys of the node.
    #[arg(long, conflicts_with = "passphrase_file")]
    pub(crate) without_secrets: bool,
    /// Leave out uploaded files.
    #[arg(long)]
    pub(crate) without_objects: bool,
}

/// Commands about the backups that a node makes by itself.
#[derive(Debug, Subcommand)]
pub(crate) enum BackupCommand {
    /// List the backups in a folder: of when they are, up to when the journal behind each reaches, and
    /// what came of restoring it on trial.
    List {
        /// The folder; left out: the one in which the node makes them.
        #[arg(value_name = "FOLDER")]
        within: Option<PathBuf>,
    },
    /// Let the node make one now, in the folder in which it makes them, and wait for it.
    Now,
}

/// A moment, in Unix milliseconds.
fn moment(text: &str) -> Result<i64, String> {
    if let Ok(ms) = text.parse() {
        return Ok(ms);
    }
    let parsed = text.parse::<jiff::Timestamp>().map(jiff::Timestamp::as_millisecond);
    parsed.map_err(|_| {
        "it is no time such as 2026-11-30T01:45:01Z, nor a number of Unix milliseconds".to_owned()
    })
}

/// Options of `restore`.
#[derive(Debug, Args)]
pub(crate) struct RestoreOptions {
    /// The backup; - is standard input. Of a folder, the newest, or the newest before TIME.
    pub(crate) file: PathBuf,
    /// Restore the state of this moment, such as 2026-11-30T01:45:01Z or a number of Unix
    /// milliseconds, by the journal that the node has shipped behind the backup.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) until: Option<i64>,
    /// Leave the journal behind the backup alone; without it, it is followed to its end.
    #[arg(long, conflicts_with = "until")]
    pub(crate) no_journal: bool,
    /// Most messages that one conversation can have got since the backup. So many seqs are left
    /// out: clients that still have those messages would take new ones for them.
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    pub(crate) lost: u32,
    /// File whose first line is the passphrase of the secrets; without it ENTENTE_BACKUP_PASSPHRASE
    /// holds it, or it is asked for.
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Do not restore the secrets: the folder keeps its own, or gets new ones.
    #[arg(long, conflicts_with = "passphrase_file")]
    pub(crate) without_secrets: bool,
}

/// Options of `repair`.
#[derive(Debug, Args)]
pub(crate) struct RepairOptions {
    /// A backup, for where the index is damaged; what the journal has behind it is added.
    #[arg(long, value_name = "FILE")]
    pub(crate) backup: Option<PathBuf>,
    /// Most messages of one conversation that can be lost. If anything is, so many seqs are left out:
    /// clients that still have those messages would take new ones for them.
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    pub(crate) lost: u32,
}

/// Commands about the configuration.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print a configuration file with every key and its default.
    Example,
    /// Check the configuration in force and print it, secrets left out.
    Check,
}

/// Commands about users.
#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Register a user.
    Add {
        /// User ID: letters, digits, _ and -.
        id: String,
        /// Name; the user ID if left out.
        #[arg(long, value_name = "NAME")]
        nickname: Option<String>,
        /// URL of a picture.
        #[arg(long, value_name = "URL", default_value = "")]
        face: String,
    },
    /// List the users, oldest first.
    List(Page),
    /// Issue a token with which a user logs in.
    Token {
        /// User ID.
        id: String,
        /// Platform: 1 iOS, 2 Android, 3 Windows, 4 macOS, 5 Web, 6 MiniWeb, 7 Linux,
        /// 8 Android pad, 9 iPad, 11 HarmonyOS, 12 bot.
        #[arg(long, value_name = "N", default_value_t = platform::WEB, value_parser = platform)]
        platform: i32,
    },
}

/// A platform on which somebody may log in.
fn platform(text: &str) -> Result<i32, String> {
    let known = || platform::ids().filter(|id| *id != platform::ADMIN);
    let given = text.parse().ok();
    given.filter(|given| known().any(|id| id == *given)).ok_or_else(|| {
        let known = known().map(|id| format!("{id} {}", platform::name(id)));
        format!("there are {}", known.collect::<Vec<_>>().join(", "))
    })
}

/// Commands about the federation.
#[derive(Debug, Subcommand)]
pub(crate) enum FederationCommand {
    /// The keys of this node.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Trust a key for a domain, whatever else is said, and say where its node is.
    Pin {
        /// Domain of the other node.
        domain: String,
        /// Its peer ID, as its `entente federation key show` prints it.
        peer_id: String,
        /// Where it is reached, such as /ip4/192.0.2.1/udp/10003/quic-v1.
        #[arg(required = true, num_args = 1..)]
        addresses: Vec<String>,
    },
    /// Take a pin away.
    Unpin {
        /// Domain of the other node.
        domain: String,
    },
    /// Show with whom the node federates, and what each other node may cost.
    Policy,
    /// List the other nodes: state, queued events, refusals.
    Peers(Page),
    /// Find out what keeps this node from reaching another one; ends with 1 if something does.
    Check {
        /// Its domain.
        domain: String,
    },
    /// List the events that wait for another node.
    Queue {
        /// Its domain.
        domain: String,
        #[command(flatten)]
        page: Page,
    },
    /// Events of other nodes that were put aside because they could not be applied.
    #[command(subcommand)]
    Quarantine(QuarantineCommand),
    /// Users and groups that have nothing to do with other nodes.
    #[command(subcommand)]
    LocalOnly(LocalOnlyCommand),
    /// Groups with members on several nodes: where they have their home.
    #[command(subcommand)]
    Group(GroupCommand),
    /// Proofs that the home of a group has shown two histories of it.
    #[command(subcommand)]
    Proof(ProofCommand),
    /// Check such a proof; needs no data folder.
    CheckProof {
        /// The file with the proof; - is standard input.
        file: PathBuf,
        /// Peer ID that must have signed; without it, a key of the node document in the proof.
        #[arg(long)]
        peer_id: Option<String>,
    },
}

/// Commands about what stays on its node.
#[derive(Debug, Subcommand)]
pub(crate) enum LocalOnlyCommand {
    /// List them.
    List(Page),
    /// Keep a user or a group from other nodes: to them it does not exist.
    Add(LocalOnlyWhich),
    /// Let it federate again.
    Remove(LocalOnlyWhich),
}

/// A user or a group.
#[derive(Debug, Args)]
pub(crate) struct LocalOnlyWhich {
    /// User ID, or group ID.
    pub(crate) id: String,
    /// It is a group.
    #[arg(long)]
    pub(crate) group: bool,
}

/// Commands about the homes of groups.
#[derive(Debug, Subcommand)]
pub(crate) enum GroupCommand {
    /// Show which node is the home of a group, and which one may take it over.
    Show {
        /// ID of the group.
        group: String,
    },
    /// Say which node may take a group of this one over when this one is lost.
    Successor {
        /// ID of the group.
        group: String,
        /// Domain of a node with members in the group; without it, no node may.
        domain: Option<String>,
    },
    /// Make another node the home of a group of this one.
    Move {
        /// ID of the group.
        group: String,
        /// Domain of a node with members in the group.
        domain: String,
    },
    /// Become the home of a group whose home is lost and has named this node. All nodes with members
    /// are asked for what they know of the group.
    TakeOver {
        /// ID of the group.
        group: String,
        /// Do not ask this node; what only it knows is lost.
        #[arg(long, value_name = "DOMAIN")]
        without: Vec<String>,
    },
}

/// Commands about proofs.
#[derive(Debug, Subcommand)]
pub(crate) enum ProofCommand {
    /// List them. Such a group is not followed any more.
    List(Page),
    /// Write one to a file that anybody can check.
    Export {
        /// ID of the group.
        group: String,
        /// The file to write, which must not exist; - is standard output.
        file: PathBuf,
    },
    /// Forget one, and follow the group again.
    Drop {
        /// ID of the group.
        group: String,
    },
}

/// Commands about the keys of this node.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Print the key in use; the first time, make it.
    Show,
    /// Make a new key, which is in use from the next start on; the old one holds for 30 more days,
    /// in which other nodes learn the new one.
    Rotate,
    /// Revoke a key: nothing signed with it counts any more. The key in use must be rotated first.
    Revoke {
        /// Its peer ID.
        peer_id: String,
    },
}

/// Commands about events that were put aside.
#[derive(Debug, Subcommand)]
pub(crate) enum QuarantineCommand {
    /// List them, and why.
    List(Page),
    /// Apply those of a node again.
    Retry {
        /// Its domain.
        domain: String,
    },
    /// Forget those of a node.
    Drop {
        /// Its domain.
        domain: String,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    /// The words of every command under `command`, without options.
    fn commands(command: &clap::Command, before: &str) -> Vec<String> {
        let words = format!("{before} {}", command.get_name()).trim().to_owned();
        let below = command.get_subcommands().filter(|below| below.get_name() != "help");
        let mut found: Vec<String> = below.flat_map(|below| commands(below, &words)).collect();
        let alone = !command.is_subcommand_required_set() && command.get_positionals().count() > 0;
        if found.is_empty() || alone {
            found.push(words);
        }
        found
    }

    /// A word of a command line is the name of a command, not of what it is about.
    fn is_name(word: &str) -> bool {
        word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !word.starts_with('-')
    }

    #[test]
    fn the_table_of_commands_in_the_docs_is_complete() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md");
        let page = std::fs::read_to_string(file).expect("reads");
        let rows = page.lines().filter_map(|line| line.strip_prefix("| `entente "));
        let rows = rows.filter_map(|row| row.split_once('`'));
        let mut documented: Vec<String> = rows
            .map(|(line, _)| {
                let names = line.split(' ').take_while(|word| is_name(word));
                ["entente"].into_iter().chain(names).collect::<Vec<_>>().join(" ")
            })
            .collect();
        let mut all = commands(&Cli::command(), "");
        documented.sort();
        all.sort();
        assert_eq!(documented, all);
    }

    #[test]
    fn every_option_of_a_command_is_in_the_docs() {
        fn options(command: &clap::Command, names: &mut Vec<String>) {
            let long = command.get_arguments().filter_map(clap::Arg::get_long);
            names.extend(long.map(|name| format!("--{name}")));
            command.get_subcommands().for_each(|below| options(below, names));
        }
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md");
        let page = std::fs::read_to_string(file).expect("reads");
        let mut names = Vec::new();
        options(&Cli::command(), &mut names);
        names.retain(|name| name != "--help" && name != "--version");
        for name in names {
            assert!(page.contains(&name), "{name}");
        }
    }
}
