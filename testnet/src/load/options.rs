//! What a user of `testnet load` can set.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::Wire;

/// Options of `testnet load`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Exit code 1: a message was lost, doubled or out of order, or a run failed."
)]
pub struct Options {
    /// What to run, in this order; everything but `soak`, `overload`, `between` and `hostile` if left out.
    #[arg(value_enum, value_name = "SCENARIO")]
    pub(crate) scenarios: Vec<Scenario>,
    /// Program to start over a new data folder.
    #[arg(long, value_name = "PROGRAM", default_value = "target/release/entente")]
    pub(crate) server: PathBuf,
    /// Drive the node with this REST API instead, such as http://127.0.0.1:10002.
    #[arg(long, value_name = "URL", requires = "ws", requires = "secret")]
    pub(crate) api: Option<String>,
    /// Its gateway, such as ws://127.0.0.1:10001.
    #[arg(long, value_name = "URL", requires = "api")]
    pub(crate) ws: Option<String>,
    /// Its secret.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) secret: String,
    /// Its app admin.
    #[arg(long, value_name = "USER", default_value = "imAdmin")]
    pub(crate) admin: String,
    /// Its process ID, to measure CPU and memory.
    #[arg(long, value_name = "PID", requires = "api")]
    pub(crate) pid: Option<u32>,
    /// How frames are encoded: gob as the native SDK, json as the JavaScript SDK.
    #[arg(long, value_enum, default_value_t = Frames::Gob)]
    pub(crate) frames: Frames,
    /// Pairs of users who chat.
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    pub(crate) pairs: usize,
    /// Bytes of the content of a message.
    #[arg(long, value_name = "BYTES", default_value_t = 700)]
    pub(crate) content: usize,
    /// Messages of one sender that may wait for their acknowledgement.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) window: usize,
    /// Messages per second where the rate is fixed.
    #[arg(long, value_name = "N", default_value_t = 1_700)]
    pub(crate) rate: u32,
    /// Members of a group who are online, at most.
    #[arg(long, value_name = "N", default_value_t = 2_000)]
    pub(crate) online: usize,
    /// Idle connections.
    #[arg(long, value_name = "N", default_value_t = 50_000)]
    pub(crate) connections: usize,
    /// Clients that come back after a restart.
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    pub(crate) returning: usize,
    /// Messages that each client has missed in `catch-up`.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub(crate) missed: usize,
    /// Logins per second.
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    pub(crate) logins: u32,
    /// Messages stored in `start`.
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub(crate) stored: u64,
    /// Events that wait for the other node in `between`.
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub(crate) queued: u64,
    /// Members of the group in `between`.
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub(crate) members: usize,
    /// Messages in it.
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub(crate) group_messages: u64,
    /// MiB of the file in `between`.
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub(crate) file_mib: usize,
    /// Seconds of `soak`.
    #[arg(long, value_name = "N", default_value_t = 1_800)]
    pub(crate) soak: u64,
    /// Seconds for which `overload` offers ten times what the node can do.
    #[arg(long, value_name = "N", default_value_t = 60)]
    pub(crate) flood: u64,
    /// Seconds that are measured.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) seconds: u64,
    /// Seconds before that.
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub(crate) warm_up: u64,
    /// Most messages that one run sends.
    #[arg(long, value_name = "N", default_value_t = 2_000_000)]
    pub(crate) messages: u64,
    /// Threads of the generator.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) threads: usize,
    /// Leave out the raw relay.
    #[arg(long)]
    pub(crate) no_raw: bool,
    /// In `chat`, put the same work on ejabberd and Prosody, which must be installed.
    #[arg(long)]
    pub(crate) peers: bool,
    /// Write the results to a file as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write plots (SVG) into a folder.
    #[arg(long, value_name = "DIR")]
    pub(crate) plots: Option<PathBuf>,
}

impl Options {
    pub(crate) fn wire(&self) -> Wire {
        match self.frames {
            Frames::Gob => Wire::GOB_GZIP,
            Frames::Json => Wire::JSON,
        }
    }

    pub(crate) fn measured(&self) -> Duration {
        Duration::from_secs(self.seconds.max(1))
    }
}

/// Encodings of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Frames {
    Gob,
    Json,
}

/// What can be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// Pairs chat as fast as they are acknowledged.
    Chat,
    /// Pairs chat at a fixed rate.
    Paced,
    /// One pair, a message now and then: each is a commit of its own.
    Lone,
    /// Pairs chat as fast as they are acknowledged, with contents of up to 56 KiB.
    Sizes,
    /// A group of 10: as fast as acknowledged, then at a fixed rate.
    #[value(name = "group-10")]
    Group10,
    /// A group of 500.
    #[value(name = "group-500")]
    Group500,
    /// A group of 100,000.
    #[value(name = "group-100000")]
    Group100000,
    /// One conversation, 5,000 messages as fast as they go.
    Flood,
    /// Clients fetch thousands of missed messages.
    CatchUp,
    /// Chats, groups, typing, read receipts, history and REST reads together.
    Mix,
    /// Logins at a fixed rate.
    Logins,
    /// Connections that do nothing but keep themselves alive.
    Idle,
    /// The node restarts and every client comes back.
    Storm,
    /// Memory, size and time to start with many messages stored.
    Start,
    /// Half of what the node can do for half an hour, with clients and members coming and going.
    Soak,
    /// Ten times what the node can do, clients that never read and handshakes that never end.
    Overload,
    /// Two nodes: latency, rate, catching up, a large group and a file across.
    Between,
    /// Two nodes, and others that do not keep to the protocol.
    Hostile,
}

impl Scenario {
    /// Runs only where it is named.
    pub(crate) fn is_long(self) -> bool {
        matches!(self, Self::Soak | Self::Overload | Self::Between | Self::Hostile)
    }
}
