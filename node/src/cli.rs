//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// A self-hosted, federated instant-messaging node for the official OpenIM clients.
#[derive(Debug, Parser)]
#[command(
    name = "entente",
    version,
    max_term_width = 100,
    after_help = "Without a command it serves.\n\n\
        Exit codes: 0 done, 1 failed, 2 wrong usage, 3 `verify` found damage."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) data: Data,
    #[command(flatten)]
    pub(crate) listen: Listen,
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

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the node; the first start makes the data folder.
    Serve(Listen),
    /// Make the data folder, its configuration and its secret, and end.
    Init,
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
    /// Write all data to a file, also while the node serves.
    Backup {
        /// The file to write; it must not exist.
        file: PathBuf,
    },
    /// Fill an empty data folder from a backup.
    Restore {
        /// The backup.
        file: PathBuf,
        /// Most messages that one conversation can have got since the backup. So many seqs are left
        /// out: clients that still have those messages would take new ones for them.
        #[arg(long, value_name = "N", default_value_t = 1_000)]
        lost: u32,
    },
    /// Print the version.
    Version,
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
        /// User ID: letters, digits and _.
        id: String,
        /// Name; the user ID if left out.
        #[arg(long, value_name = "NAME")]
        nickname: Option<String>,
        /// URL of a picture.
        #[arg(long, value_name = "URL", default_value = "")]
        face: String,
    },
    /// List the users, oldest first.
    List {
        /// Users to print, at most.
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
        /// Users to skip.
        #[arg(long, value_name = "N", default_value_t = 0)]
        skip: usize,
    },
    /// Issue a token with which a user logs in.
    Token {
        /// User ID.
        id: String,
        /// Platform: 1 iOS, 2 Android, 3 Windows, 4 macOS, 5 Web, 6 MiniWeb, 7 Linux,
        /// 8 Android pad, 9 iPad, 11 HarmonyOS.
        #[arg(long, value_name = "N", default_value_t = 5)]
        platform: i32,
    },
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
    Peers,
    /// Find out what keeps this node from reaching another one; ends with 1 if something does.
    Check {
        /// Its domain.
        domain: String,
    },
    /// List the events that wait for another node.
    Queue {
        /// Its domain.
        domain: String,
        /// Events to print, at most.
        #[arg(long, value_name = "N", default_value_t = 20)]
        limit: usize,
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
        /// The file with the proof.
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
    List,
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
    List,
    /// Write one to a file that anybody can check.
    Export {
        /// ID of the group.
        group: String,
        /// The file to write; it must not exist.
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
    List,
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
