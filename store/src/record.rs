//! Values of the tables. Field numbers are part of the stored format: never reuse one.

use prost::Message;
use proto::federation::{Mark, SignedMandate};

/// An entry that only has to exist.
#[derive(Clone, PartialEq, Message)]
pub struct Present {}

/// A number.
#[derive(Clone, PartialEq, Message)]
pub struct Number {
    /// Its value.
    #[prost(int64, tag = "1")]
    pub value: i64,
}

/// Facts about the data as a whole.
#[derive(Clone, PartialEq, Message)]
pub struct Meta {
    /// Version of the schema it was written with.
    #[prost(uint32, tag = "1")]
    pub schema: u32,
    /// Counts restores from a backup, from 1.
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    /// 16 random bytes, new in every epoch.
    #[prost(bytes = "vec", tag = "3")]
    pub salt: Vec<u8>,
    /// Seqs that every conversation leaves out, in all, because of restores: clients may know
    /// messages with them that are newer than the backup.
    #[prost(int64, tag = "4")]
    pub skipped: i64,
    /// Epochs that the streams of this node had before, oldest first.
    #[prost(uint64, repeated, tag = "5")]
    pub past: Vec<u64>,
    /// Unix milliseconds at which the node has begun the present epoch by itself, because its data went
    /// back in time; 0: it has not.
    #[prost(int64, tag = "6")]
    pub taken: i64,
}

/// A token the node has issued.
#[derive(Clone, PartialEq, Message)]
pub struct TokenState {
    /// 0 normal, 2 kicked.
    #[prost(int32, tag = "1")]
    pub state: i32,
    /// Unix seconds at which it expires.
    #[prost(int64, tag = "2")]
    pub expires: i64,
    /// Unix milliseconds until which a replaced admin token still works; 0 for all others.
    #[prost(int64, tag = "3")]
    pub grace_until: i64,
    /// Unix milliseconds at which it was issued.
    #[prost(int64, tag = "4")]
    pub issued: i64,
}

/// A new name or face of which a user's friends are being told.
#[derive(Clone, PartialEq, Message)]
pub struct ProfileNews {
    /// The first friend who has not been told yet.
    #[prost(string, tag = "1")]
    pub next: String,
    /// Who made the change.
    #[prost(string, tag = "2")]
    pub from: String,
    /// Operation ID of the change.
    #[prost(string, tag = "3")]
    pub operation_id: String,
}

/// Something that concerns everybody in a group, whose members' conversations are being marked.
#[derive(Clone, PartialEq, Message)]
pub struct GroupCall {
    /// The last member looked at.
    #[prost(string, tag = "1")]
    pub after: String,
    /// Who sent the message.
    #[prost(string, tag = "2")]
    pub sender: String,
    /// Members it mentions by name too; they are marked already.
    #[prost(string, repeated, tag = "3")]
    pub named: Vec<String>,
    /// Operation ID of the send.
    #[prost(string, tag = "4")]
    pub operation_id: String,
    /// The mark they get; 0: mentioned with everybody.
    #[prost(int32, tag = "5")]
    pub mark: i32,
}

/// A dismissed group whose members are being let go.
#[derive(Clone, PartialEq, Message)]
pub struct Dismissal {
    /// The group when it was dismissed.
    #[prost(message, optional, tag = "1")]
    pub group: Option<proto::sdkws::GroupInfo>,
    /// Who dismissed it.
    #[prost(message, optional, tag = "2")]
    pub op_user: Option<proto::sdkws::GroupMemberFullInfo>,
    /// Operation ID of the request.
    #[prost(string, tag = "3")]
    pub operation_id: String,
    /// Nobody is told.
    #[prost(bool, tag = "4")]
    pub silent: bool,
    /// It is told in the chat too.
    #[prost(bool, tag = "5")]
    pub in_chat: bool,
}

/// A client setting.
#[derive(Clone, PartialEq, Message)]
pub struct ConfigValue {
    /// Its text.
    #[prost(string, tag = "1")]
    pub value: String,
    /// Unix milliseconds at which it was first set; lists keep this order.
    #[prost(int64, tag = "2")]
    pub created: i64,
}

/// A user command, for example a favourite.
#[derive(Clone, PartialEq, Message)]
pub struct UserCommand {
    /// ID chosen by the client.
    #[prost(string, tag = "1")]
    pub uuid: String,
    /// Its content.
    #[prost(string, tag = "2")]
    pub value: String,
    /// Unix seconds.
    #[prost(int64, tag = "3")]
    pub created: i64,
    /// Extension of the client.
    #[prost(string, tag = "4")]
    pub ex: String,
}

/// Token of a push provider.
#[derive(Clone, PartialEq, Message)]
pub struct PushToken {
    /// The provider's token.
    #[prost(string, tag = "1")]
    pub token: String,
    /// Unix seconds at which it expires; 0 never.
    #[prost(int64, tag = "2")]
    pub expires: i64,
}

/// A log file that a client uploaded.
#[derive(Clone, PartialEq, Message)]
pub struct ClientLog {
    /// Who uploaded it.
    #[prost(string, tag = "1")]
    pub user_id: String,
    /// Name of the platform.
    #[prost(string, tag = "2")]
    pub platform: String,
    /// Where it is.
    #[prost(string, tag = "3")]
    pub url: String,
    /// Unix milliseconds.
    #[prost(int64, tag = "4")]
    pub created: i64,
    /// File name.
    #[prost(string, tag = "5")]
    pub filename: String,
    /// Framework of the app.
    #[prost(string, tag = "6")]
    pub app_framework: String,
    /// Version of the SDK.
    #[prost(string, tag = "7")]
    pub version: String,
    /// Extension of the client.
    #[prost(string, tag = "8")]
    pub ex: String,
}

/// A friend in the owner's list.
#[derive(Clone, PartialEq, Message)]
pub struct Friend {
    /// Name given by the owner.
    #[prost(string, tag = "1")]
    pub remark: String,
    /// Unix milliseconds.
    #[prost(int64, tag = "2")]
    pub created: i64,
    /// 1 imported, 2 by application.
    #[prost(int32, tag = "3")]
    pub add_source: i32,
    /// Who made the friendship.
    #[prost(string, tag = "4")]
    pub operator_user_id: String,
    /// Extension of the owner.
    #[prost(string, tag = "5")]
    pub ex: String,
    /// Shown first.
    #[prost(bool, tag = "6")]
    pub pinned: bool,
    /// Place in the order of creation.
    #[prost(uint64, tag = "7")]
    pub order: u64,
}

/// A friend request.
#[derive(Clone, PartialEq, Message)]
pub struct FriendRequest {
    /// 0 not handled, 1 agreed, -1 refused.
    #[prost(int32, tag = "1")]
    pub handle_result: i32,
    /// Words of the applicant.
    #[prost(string, tag = "2")]
    pub req_msg: String,
    /// Unix milliseconds of the latest application.
    #[prost(int64, tag = "3")]
    pub created: i64,
    /// Who agreed.
    #[prost(string, tag = "4")]
    pub handler_user_id: String,
    /// Words of the answer.
    #[prost(string, tag = "5")]
    pub handle_msg: String,
    /// Unix milliseconds of the answer.
    #[prost(int64, tag = "6")]
    pub handled: i64,
    /// Extension of the applicant.
    #[prost(string, tag = "7")]
    pub ex: String,
}

/// A blocked user.
#[derive(Clone, PartialEq, Message)]
pub struct Black {
    /// Unix milliseconds.
    #[prost(int64, tag = "1")]
    pub created: i64,
    /// Who blocked.
    #[prost(string, tag = "2")]
    pub operator_user_id: String,
    /// Extension of the owner.
    #[prost(string, tag = "3")]
    pub ex: String,
    /// Place in the order of creation.
    #[prost(uint64, tag = "4")]
    pub order: u64,
}

/// A group.
#[derive(Clone, PartialEq, Message)]
pub struct Group {
    /// Info as clients see it; owner and member count are kept current.
    #[prost(message, required, tag = "1")]
    pub info: proto::sdkws::GroupInfo,
    /// Place in the join order for the next member.
    #[prost(uint64, tag = "2")]
    pub next_join: u64,
}

/// A member of a group.
#[derive(Clone, PartialEq, Message)]
pub struct Member {
    /// 100 owner, 60 admin, 20 ordinary.
    #[prost(int32, tag = "1")]
    pub role_level: i32,
    /// Unix milliseconds.
    #[prost(int64, tag = "2")]
    pub joined: i64,
    /// Name in the group; empty: the profile's.
    #[prost(string, tag = "3")]
    pub nickname: String,
    /// Face in the group; empty: the profile's.
    #[prost(string, tag = "4")]
    pub face_url: String,
    /// 1 by admin, 2 by invitation, 3 by search, 4 by QR code, 0 directly.
    #[prost(int32, tag = "5")]
    pub join_source: i32,
    /// Who let the member in.
    #[prost(string, tag = "6")]
    pub operator_user_id: String,
    /// Who invited the member.
    #[prost(string, tag = "7")]
    pub inviter_user_id: String,
    /// Extension.
    #[prost(string, tag = "8")]
    pub ex: String,
    /// Unix milliseconds until which the member is muted.
    #[prost(int64, tag = "9")]
    pub mute_end: i64,
    /// Place in the join order.
    #[prost(uint64, tag = "10")]
    pub order: u64,
}

/// A request to join a group.
#[derive(Clone, PartialEq, Message)]
pub struct GroupRequest {
    /// 0 not handled, 1 agreed, -1 refused.
    #[prost(int32, tag = "1")]
    pub handle_result: i32,
    /// Words of the applicant.
    #[prost(string, tag = "2")]
    pub req_msg: String,
    /// Words of the answer.
    #[prost(string, tag = "3")]
    pub handle_msg: String,
    /// Unix milliseconds.
    #[prost(int64, tag = "4")]
    pub requested: i64,
    /// Who answered.
    #[prost(string, tag = "5")]
    pub handle_user_id: String,
    /// Unix milliseconds of the answer.
    #[prost(int64, tag = "6")]
    pub handled: i64,
    /// Extension of the applicant.
    #[prost(string, tag = "7")]
    pub ex: String,
    /// As [`Member::join_source`].
    #[prost(int32, tag = "8")]
    pub join_source: i32,
    /// Who invited; empty for an application.
    #[prost(string, tag = "9")]
    pub inviter_user_id: String,
}

/// What a conversation ID stands for.
#[derive(Clone, PartialEq, Message)]
pub struct ConversationHead {
    /// Number under which its messages are stored.
    #[prost(uint64, tag = "1")]
    pub number: u64,
    /// 1 single, 3 group, 4 notification chat.
    #[prost(int32, tag = "2")]
    pub session_type: i32,
    /// The two users, sorted; empty for a group.
    #[prost(string, repeated, tag = "3")]
    pub pair: Vec<String>,
    /// The group; empty for a pair.
    #[prost(string, tag = "4")]
    pub group_id: String,
    /// Lowest seq that anybody may see; 0 and 1 mean all.
    #[prost(int64, tag = "5")]
    pub min_seq: i64,
    /// [`Meta::skipped`] as far as this conversation has followed it.
    #[prost(int64, tag = "6")]
    pub skipped: i64,
    /// Seqs that were left out, in order.
    #[prost(message, repeated, tag = "7")]
    pub gaps: Vec<SeqGap>,
    /// Messages up to this seq are with the home node of the group, as far as they are not here.
    #[prost(int64, tag = "8")]
    pub elsewhere_to: i64,
    /// Somebody has deleted it from the own list until its next message.
    #[prost(bool, tag = "9")]
    pub awaited: bool,
}

/// Seqs that no message of a conversation ever gets.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct SeqGap {
    /// The seq before the first of them.
    #[prost(int64, tag = "1")]
    pub after: i64,
    /// The last of them.
    #[prost(int64, tag = "2")]
    pub until: i64,
}

impl ConversationHead {
    /// How many seqs between `seq` and `max_seq`, the newest, never had a message.
    pub fn left_out(&self, seq: i64, max_seq: i64) -> i64 {
        let gaps = self.gaps.iter().filter(|gap| gap.until <= max_seq);
        gaps.map(|gap| (gap.until - gap.after.max(seq)).max(0)).sum()
    }

    /// Whether both stand for the same users or the same group.
    pub fn same_parties(&self, other: &Self) -> bool {
        self.pair == other.pair && self.group_id == other.group_id
    }
}

/// A conversation in one user's list.
#[derive(Clone, PartialEq, Message)]
pub struct Conversation {
    /// 1 single, 3 group, 4 notification chat.
    #[prost(int32, tag = "1")]
    pub session_type: i32,
    /// The other user; empty for a group.
    #[prost(string, tag = "2")]
    pub user_id: String,
    /// The group; empty for a pair.
    #[prost(string, tag = "3")]
    pub group_id: String,
    /// 0 receive, 1 do not receive, 2 receive without offline push.
    #[prost(int32, tag = "4")]
    pub recv_msg_opt: i32,
    /// Shown first.
    #[prost(bool, tag = "5")]
    pub pinned: bool,
    /// Text of the client.
    #[prost(string, tag = "6")]
    pub attached_info: String,
    /// Messages burn after reading.
    #[prost(bool, tag = "7")]
    pub private_chat: bool,
    /// 0 none, 1 at me, 2 at all, 3 both, 4 announcement.
    #[prost(int32, tag = "8")]
    pub group_at_type: i32,
    /// Extension of the client.
    #[prost(string, tag = "9")]
    pub ex: String,
    /// Seconds a burning message lives after it was read.
    #[prost(int32, tag = "10")]
    pub burn_duration: i32,
    /// Lowest seq the user may see; 0: no bound.
    #[prost(int64, tag = "11")]
    pub min_seq: i64,
    /// Highest seq the user may see; 0: no bound.
    #[prost(int64, tag = "12")]
    pub max_seq: i64,
    /// Seconds after which messages disappear for the user.
    #[prost(int64, tag = "13")]
    pub destruct_time: i64,
    /// Unix milliseconds of the last pass that made messages disappear; 0 never.
    #[prost(int64, tag = "14")]
    pub destructed: i64,
    /// Whether messages disappear.
    #[prost(bool, tag = "15")]
    pub destruct: bool,
    /// Place in the order of creation.
    #[prost(uint64, tag = "16")]
    pub order: u64,
    /// Deleted from the user's list; it comes back with a message above this seq.
    #[prost(int64, optional, tag = "17")]
    pub hidden_through: Option<i64>,
}

/// How far a user has read a conversation.
#[derive(Clone, PartialEq, Message)]
pub struct ReadPosition {
    /// Highest seq that counts as read; sending raises it too.
    #[prost(int64, tag = "1")]
    pub read_seq: i64,
    /// Highest seq the user has reported as read.
    #[prost(int64, tag = "2")]
    pub receipt_seq: i64,
}

/// What happened to a message after it was stored.
#[derive(Clone, PartialEq, Message)]
pub struct MessageMarks {
    /// Set when it was revoked.
    #[prost(message, optional, tag = "1")]
    pub revoke: Option<Revoke>,
    /// Read by its receiver, where that does not follow from the read position.
    #[prost(bool, tag = "3")]
    pub read: bool,
}

/// Who revoked a message.
#[derive(Clone, PartialEq, Message)]
pub struct Revoke {
    /// Role of the revoker in the group, or app level in a single chat.
    #[prost(int32, tag = "1")]
    pub role: i32,
    /// The revoker.
    #[prost(string, tag = "2")]
    pub user_id: String,
    /// The revoker's name then.
    #[prost(string, tag = "3")]
    pub nickname: String,
    /// Unix milliseconds.
    #[prost(int64, tag = "4")]
    pub time: i64,
}

/// Version of a log.
#[derive(Clone, PartialEq, Message)]
pub struct LogHead {
    /// Current version.
    #[prost(uint64, tag = "1")]
    pub version: u64,
}

/// One change in a log.
#[derive(Clone, PartialEq, Message)]
pub struct LogChange {
    /// What changed.
    #[prost(string, tag = "1")]
    pub element: String,
    /// 1 insert, 2 delete, 3 update.
    #[prost(int32, tag = "2")]
    pub change: i32,
}

/// Where an element's newest change is.
#[derive(Clone, PartialEq, Message)]
pub struct LogElement {
    /// Version of the change.
    #[prost(uint64, tag = "1")]
    pub version: u64,
    /// Place within the step.
    #[prost(uint32, tag = "2")]
    pub position: u32,
}

/// A named object.
#[derive(Clone, PartialEq, Message)]
pub struct Object {
    /// Where its content is.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Content hash as clients compute it.
    #[prost(string, tag = "2")]
    pub hash: String,
    /// Bytes.
    #[prost(int64, tag = "3")]
    pub size: i64,
    /// MIME type.
    #[prost(string, tag = "4")]
    pub content_type: String,
    /// What it was uploaded for.
    #[prost(string, tag = "5")]
    pub cause: String,
    /// Unix milliseconds.
    #[prost(int64, tag = "6")]
    pub created: i64,
    /// SHA-256 of the content; empty where it was not computed.
    #[prost(bytes = "vec", tag = "7")]
    pub sha256: Vec<u8>,
    /// Random text in links to the object, without which strangers do not get it; empty for objects of
    /// before there were such texts, and for those of other nodes.
    #[prost(string, tag = "8")]
    pub mark: String,
}

/// An upload under way.
#[derive(Clone, PartialEq, Message)]
pub struct Upload {
    /// Who uploads.
    #[prost(string, tag = "1")]
    pub user_id: String,
    /// Announced content hash.
    #[prost(string, tag = "2")]
    pub hash: String,
    /// Announced bytes.
    #[prost(int64, tag = "3")]
    pub size: i64,
    /// Bytes per part.
    #[prost(int64, tag = "4")]
    pub part_size: i64,
    /// Unix milliseconds at which it is given up.
    #[prost(int64, tag = "5")]
    pub expires: i64,
    /// Object name.
    #[prost(string, tag = "6")]
    pub name: String,
    /// MIME type.
    #[prost(string, tag = "7")]
    pub content_type: String,
    /// What it is for.
    #[prost(string, tag = "8")]
    pub cause: String,
}

/// An event that waits to be delivered to another node.
#[derive(Clone, PartialEq, Message)]
pub struct Queued {
    /// What it is, an `EventKind` of the federation protocol.
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    /// Its encoded body, unless it follows from a stored message.
    #[prost(bytes = "bytes", tag = "2")]
    pub body: bytes::Bytes,
    /// Unix milliseconds of the change that it tells of.
    #[prost(int64, tag = "3")]
    pub time: i64,
    /// Number of the conversation of the message it carries; 0: none.
    #[prost(uint64, tag = "4")]
    pub conversation: u64,
    /// Seq of that message.
    #[prost(int64, tag = "5")]
    pub seq: i64,
    /// Tells it, and all before it in the stream, from others; 0: not known.
    #[prost(fixed64, tag = "6")]
    pub mark: u64,
}

/// Where the stream of events to another node stands.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct OutboxHead {
    /// Seq of the newest event.
    #[prost(uint64, tag = "1")]
    pub last: u64,
    /// Seq up to which the other node has them; those are no longer kept.
    #[prost(uint64, tag = "2")]
    pub acknowledged: u64,
    /// Mark of the newest event.
    #[prost(fixed64, tag = "3")]
    pub mark: u64,
    /// Mark of the last one that is no longer kept.
    #[prost(fixed64, tag = "4")]
    pub acknowledged_mark: u64,
    /// With what the other node has acknowledged it.
    #[prost(message, optional, tag = "5")]
    pub receipt: Option<Mark>,
}

/// As whom this node has federated last.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct FederatedAs {
    /// Its domain.
    #[prost(string, tag = "1")]
    pub domain: String,
    /// Its public key, 32 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub key: Vec<u8>,
}

/// How far the stream of events from another node has been applied.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Cursor {
    /// Epoch of the stream; the other node begins a new one after a restore.
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
    /// Seq of the last event that was applied, refused or put aside.
    #[prost(uint64, tag = "2")]
    pub seq: u64,
    /// The newest mark that came with one of them.
    #[prost(message, optional, tag = "3")]
    pub mark: Option<Mark>,
}

/// An event of another node that could not be applied.
#[derive(Clone, PartialEq, Message)]
pub struct Quarantined {
    /// What it is, an `EventKind` of the federation protocol.
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    /// Its encoded body.
    #[prost(bytes = "bytes", tag = "2")]
    pub body: bytes::Bytes,
    /// Unix milliseconds, as its origin says.
    #[prost(int64, tag = "3")]
    pub time: i64,
    /// Unix milliseconds at which it came.
    #[prost(int64, tag = "4")]
    pub received: i64,
    /// Why it was not applied.
    #[prost(string, tag = "5")]
    pub reason: String,
}

/// What is known of another node.
#[derive(Clone, PartialEq, Message)]
pub struct Peer {
    /// Public keys that the operator trusts whatever else is said.
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub pinned_keys: Vec<Vec<u8>>,
    /// Addresses that the operator gave, as multiaddrs.
    #[prost(string, repeated, tag = "2")]
    pub pinned_addresses: Vec<String>,
    /// Its newest node document, a `SignedDocument`; empty: none.
    #[prost(bytes = "bytes", tag = "3")]
    pub document: bytes::Bytes,
    /// Unix milliseconds at which the document came.
    #[prost(int64, tag = "4")]
    pub document_received: i64,
}

/// A user of another node whose profile is kept among the accounts.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct RemoteUser {
    /// Unix milliseconds at which the profile was last confirmed.
    #[prost(int64, tag = "1")]
    pub confirmed: i64,
}

/// The log of a group of this node that has members elsewhere.
#[derive(Clone, PartialEq, Message)]
pub struct GroupLog {
    /// Which run of the log it is, from 1.
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
    /// Seq of the newest entry.
    #[prost(uint64, tag = "2")]
    pub seq: u64,
    /// Its hash; of the last one of the epoch before, before the first; empty before all.
    #[prost(bytes = "vec", tag = "3")]
    pub hash: Vec<u8>,
    /// Epoch of this node's streams when it was written: another one after a restore.
    #[prost(uint64, tag = "4")]
    pub stream: u64,
}

/// One entry of such a log.
#[derive(Clone, PartialEq, Message)]
pub struct GroupEntry {
    /// The encoded header, as the hash covers it.
    #[prost(bytes = "bytes", tag = "1")]
    pub header: bytes::Bytes,
}

/// The newest messages of one member of another node in a group.
#[derive(Clone, PartialEq, Message)]
pub struct RecentSends {
    /// Oldest first.
    #[prost(message, repeated, tag = "1")]
    pub sends: Vec<RecentSend>,
}

/// One of them.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct RecentSend {
    /// Seq of the message.
    #[prost(int64, tag = "1")]
    pub seq: i64,
    /// Its clientMsgID.
    #[prost(string, tag = "2")]
    pub client_msg_id: String,
}

/// How far this node follows the log of a group of another one.
#[derive(Clone, PartialEq, Message)]
pub struct GroupReplica {
    /// Epoch of the log.
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
    /// Seq of the newest entry that was applied.
    #[prost(uint64, tag = "2")]
    pub seq: u64,
    /// Its hash.
    #[prost(bytes = "vec", tag = "3")]
    pub hash: Vec<u8>,
    /// Qualified ID of the member up to whom the list was fetched.
    #[prost(string, tag = "4")]
    pub members_to: String,
    /// The whole list is here.
    #[prost(bool, tag = "5")]
    pub members_complete: bool,
}

/// Where a group has its home, if that is not as its ID says, and where it may go.
#[derive(Clone, PartialEq, Message)]
pub struct GroupHome {
    /// Domain of the home; empty: as the ID says.
    #[prost(string, tag = "1")]
    pub domain: String,
    /// The home is this node. With a domain that is this node's and without this: what the log has
    /// lost in a restore is being fetched from the members.
    #[prost(bool, tag = "2")]
    pub here: bool,
    /// The new home has not said anything yet.
    #[prost(bool, tag = "3")]
    pub opening: bool,
    /// Who may become the home.
    #[prost(message, optional, tag = "4")]
    pub mandate: Option<SignedMandate>,
    /// How the group came from the home in its ID to the one it has.
    #[prost(message, repeated, tag = "5")]
    pub warrants: Vec<SignedMandate>,
    /// Users of whom the next epoch says again whether they are members.
    #[prost(string, repeated, tag = "6")]
    pub members_again: Vec<String>,
    /// The next epoch says the info again.
    #[prost(bool, tag = "7")]
    pub info_again: bool,
}

/// A message to a group of another node until it comes back in the log.
#[derive(Clone, PartialEq, Message)]
pub struct WaitingSend {
    /// Its clientMsgID.
    #[prost(string, tag = "1")]
    pub client_msg_id: String,
    /// An encoded `GroupSend`.
    #[prost(bytes = "bytes", tag = "2")]
    pub send: bytes::Bytes,
}
