//! The whole schema: every table with its tag, key and value.

use proto::federation::{EquivocationProof, Signature, SignedHead};
use proto::sdkws::{MsgData, UserInfo};

use crate::key::Text;
use crate::record::*;
use crate::table::Table;

/// Version of the schema this program writes; data of a newer one is refused.
pub const VERSION: u32 = 1;

/// Names of the totals in [`COUNTERS`].
pub mod counter {
    /// Accounts.
    pub const USERS: &str = "users";
    /// Highest conversation number given away.
    pub const CONVERSATIONS: &str = "conversations";
    /// Which indices are there, beside those that came with the first schema.
    pub const INDICES: &str = "indices";
    /// A little of the hash of the secret with which the node has served last.
    pub const SECRET: &str = "secret";
}

macro_rules! tables {
    ($($(#[$doc:meta])* $name:ident = $tag:literal: $key:ty => $value:ty;)*) => {
        $($(#[$doc])* pub static $name: Table<$key, $value> = Table::new($tag, stringify!($name));)*

        /// Tag and name of every table.
        pub static TABLES: &[(u8, &str)] = &[$(($tag, stringify!($name))),*];

        /// Checks that a raw pair decodes as its table promises.
        pub fn check(key: &[u8], value: bytes::Bytes) -> Result<(), crate::StoreError> {
            match key.first() {
                $(Some(&$tag) => $name.decode(key, value).map(drop),)*
                _ => Err(crate::StoreError::Damaged {
                    table: "(unknown)",
                    reason: format!("no table has the tag of key {key:02x?}"),
                }),
            }
        }
    };
}

/// Name of the table that a raw key belongs to.
pub(crate) fn table_name(key: &[u8]) -> &'static str {
    let tag = key.first();
    TABLES.iter().find(|(known, _)| Some(known) == tag).map_or("(unknown)", |(_, name)| name)
}

tables! {
    /// The one meta record, under key 0.
    META = 0x01: u8 => Meta;
    /// Totals by name.
    COUNTERS = 0x02: Text => Number;
    /// System accounts (level 2 and above) in the order of registration: (time in ms, user ID).
    SYSTEM_ACCOUNTS = 0x03: (i64, Text) => Present;
    /// Accounts registered on a UTC day, by days since the Unix epoch.
    REGISTRATIONS = 0x04: i64 => Number;
    /// Client logs in the order they came: (time in ms, log ID).
    CLIENT_LOG_ORDER = 0x05: (i64, Text) => Present;
    /// New names and faces that not all friends have been told of, by user ID.
    PROFILE_NEWS = 0x06: Text => ProfileNews;
    /// Messages to everybody and announcements of which not all members are marked yet, by group ID.
    GROUP_CALLS = 0x07: Text => GroupCall;
    /// Dismissed groups that still have members, by group ID.
    DISMISSALS = 0x08: Text => Dismissal;
    /// Conversations with a new message that have not come back yet to all who had deleted them, by
    /// conversation ID.
    RETURNS = 0x09: Text => Present;

    /// Accounts by user ID.
    USERS = 0x10: Text => UserInfo;
    /// User IDs in the order of registration: (time in ms, user ID).
    USER_ORDER = 0x11: (i64, Text) => Present;
    /// Tokens the node holds: (user ID, platform, SHA-256 of the token in hex).
    TOKENS = 0x12: (Text, u32, Text) => TokenState;
    /// Client settings: (user ID or "" for all, key).
    CLIENT_CONFIG = 0x13: (Text, Text) => ConfigValue;
    /// Favourites and other user commands: (user ID, type, order).
    USER_COMMANDS = 0x14: (Text, u32, u64) => UserCommand;
    /// Push tokens: (user ID, platform).
    PUSH_TOKENS = 0x15: (Text, u32) => PushToken;
    /// Badge counters by user ID.
    BADGES = 0x16: Text => Number;
    /// Logs that clients reported, by log ID.
    CLIENT_LOGS = 0x17: Text => ClientLog;
    /// Success of sends over REST, by operation ID: time in ms.
    SEND_STATUS = 0x18: Text => Number;

    /// Friends: (owner, friend).
    FRIENDS = 0x20: (Text, Text) => Friend;
    /// Friend requests: (receiver, sender).
    FRIEND_REQUESTS = 0x21: (Text, Text) => FriendRequest;
    /// Friend requests by sender: (sender, receiver).
    FRIEND_REQUESTS_SENT = 0x22: (Text, Text) => Present;
    /// Blocked users: (owner, blocked).
    BLACKS = 0x23: (Text, Text) => Black;

    /// Groups by group ID.
    GROUPS = 0x30: Text => Group;
    /// Group IDs in the order of creation: (time in ms, group ID).
    GROUP_ORDER = 0x31: (i64, Text) => Present;
    /// Members: (group ID, user ID).
    MEMBERS = 0x32: (Text, Text) => Member;
    /// Members by rank: (group ID, 255 - role level, join order, user ID).
    MEMBER_ORDER = 0x33: (Text, u8, u64, Text) => Present;
    /// Groups of a user: (user ID, group ID).
    JOINED = 0x34: (Text, Text) => Present;
    /// Mutes of those who have left a group before they ended: (group ID, user ID), Unix milliseconds.
    KEPT_MUTES = 0x37: (Text, Text) => Number;
    /// Requests to join: (group ID, user ID).
    GROUP_REQUESTS = 0x35: (Text, Text) => GroupRequest;
    /// Requests to join by user: (user ID, group ID).
    GROUP_REQUESTS_SENT = 0x36: (Text, Text) => Present;

    /// Identity of a conversation by conversation ID.
    CONVERSATION_HEADS = 0x40: Text => ConversationHead;
    /// Settings of a conversation for one user: (owner, conversation ID).
    CONVERSATIONS = 0x41: (Text, Text) => Conversation;
    /// How far a user has read: (user ID, conversation ID).
    READ_POSITIONS = 0x42: (Text, Text) => ReadPosition;
    /// Messages: (conversation number, seq).
    MESSAGES = 0x43: (u64, u64) => MsgData;
    /// What happened to a message after it was stored: (conversation number, seq).
    MESSAGE_MARKS = 0x44: (u64, u64) => MessageMarks;
    /// Deleted messages: (conversation number, seq, user ID), the ID empty if it is for everybody.
    HIDDEN_MESSAGES = 0x45: (u64, u64, Text) => Present;
    /// Who has deleted a conversation from the own list until its next message: (conversation ID,
    /// owner).
    DELETED_CONVERSATIONS = 0x46: (Text, Text) => Present;
    /// Notification streams of two users, for each of this node: (user ID, stream).
    STREAMS = 0x47: (Text, Text) => Present;

    /// Version logs: (list, owner).
    VERSION_LOGS = 0x50: (u8, Text) => LogHead;
    /// Changes by version: (list, owner, version, position in the step).
    VERSION_CHANGES = 0x51: (u8, Text, u64, u32) => LogChange;
    /// Newest change of each element: (list, owner, element).
    VERSION_ELEMENTS = 0x52: (u8, Text, Text) => LogElement;

    /// Objects by name.
    OBJECTS = 0x60: Text => Object;
    /// Names that share stored content: (content key, object name).
    OBJECT_NAMES = 0x61: (Text, Text) => Present;
    /// Uploads under way, by upload ID.
    UPLOADS = 0x62: Text => Upload;

    /// Events that wait for another node: (its domain, place in the stream).
    OUTBOX = 0x70: (Text, u64) => Queued;
    /// Where the stream to another node stands, by its domain.
    OUTBOX_HEADS = 0x71: Text => OutboxHead;
    /// How far the stream of another node has been applied, by its domain.
    CURSORS = 0x72: Text => Cursor;
    /// Events that could not be applied: (domain they came from, epoch, place in the stream).
    QUARANTINE = 0x73: (Text, u64, u64) => Quarantined;
    /// Other nodes by domain.
    PEERS = 0x74: Text => Peer;
    /// Users of other nodes whose profile is among the accounts, by user ID.
    REMOTE_USERS = 0x75: Text => RemoteUser;
    /// Messages that came from the node of their author: (conversation number, seq there) to the
    /// seq here.
    AUTHOR_SEQS = 0x76: (u64, i64) => Number;
    /// Logs of groups of this node with members elsewhere, by group ID.
    GROUP_LOGS = 0x77: Text => GroupLog;
    /// Entries of these logs and of those that are followed: (group ID, epoch, seq).
    GROUP_ENTRIES = 0x78: (Text, u64, u64) => GroupEntry;
    /// Nodes with members in such a group, and how many: (group ID, domain).
    GROUP_NODES = 0x79: (Text, Text) => Number;
    /// Groups of other nodes with members here, by group ID.
    GROUP_REPLICAS = 0x7a: Text => GroupReplica;
    /// What members of other nodes sent last: (group ID, user ID).
    RECENT_SENDS = 0x7b: (Text, Text) => RecentSends;
    /// Signatures of the nodes of authors over messages in groups: (conversation number, seq).
    MESSAGE_SIGNATURES = 0x7c: (u64, u64) => Signature;
    /// The newest head that the home of a followed group has signed, by group ID.
    GROUP_HEADS = 0x7d: Text => SignedHead;
    /// Proofs that the home of a group has shown two histories, by group ID.
    PROOFS = 0x7e: Text => EquivocationProof;
    /// Groups that have moved, or may, by group ID.
    GROUP_HOMES = 0x7f: Text => GroupHome;
    /// The heads with which epochs of another home ended: (group ID, epoch).
    GROUP_EPOCHS = 0x80: (Text, u64) => SignedHead;
    /// Messages of this node's users to groups of other nodes that are not in the log yet: (group
    /// ID, order).
    WAITING_SENDS = 0x81: (Text, u64) => WaitingSend;
    /// Nodes that were asked for what a restore has lost of chats with their users: by domain, the
    /// epoch of this node's streams.
    HEALED = 0x82: Text => Number;
    /// Users and groups that have nothing to do with other nodes: (user or group, ID).
    LOCAL_ONLY = 0x83: (Text, Text) => Present;
    /// As whom this node has federated last, under key 0: without these keys it is somebody else.
    FEDERATED_AS = 0x84: u8 => FederatedAs;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn every_table_has_its_own_tag() {
        let tags: BTreeSet<u8> = super::TABLES.iter().map(|(tag, _)| *tag).collect();
        assert_eq!(tags.len(), super::TABLES.len());
    }
}
