//! What an operator can set about the rules. The node fills it from its configuration.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use proto::qualified::Domain;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Settings of the chat rules.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Domain under which this node federates; `None`: it does not.
    pub domain: Option<Domain>,
    /// Key of the tokens and password of the admin API.
    pub secret: String,
    /// Users with the rights of an app admin.
    pub admin_users: Vec<String>,
    /// Their names, in the same order.
    pub admin_nicknames: Vec<String>,
    /// How long a token is valid.
    pub token_expire: Duration,
    /// 0 nobody is kicked, 1 one device per platform, 4 one per class, 5 PC and one other.
    pub multi_login_policy: i32,
    /// Tokens kept per platform under policy 0.
    pub max_tokens_per_platform: usize,
    /// Only friends may send to each other.
    pub friend_verify: bool,
    /// Everybody may list the accounts of the node; otherwise app admins.
    pub open_directory: bool,
    /// Users of other nodes may only send to friends, and to whoever has written to them.
    pub consent: bool,
    /// What another node could not be given for so long is given up; 0: never.
    pub expire: Duration,
    /// New group members see what was said before they came.
    pub history_for_new_members: bool,
    /// Largest message in bytes, as encoded.
    pub message_max_bytes: usize,
    /// How long messages are kept; 0: for ever.
    pub retain: Duration,
    /// Address under which clients reach the API; empty: the one the client itself used.
    pub public_url: String,
    /// Address under which clients reach the API, where none is set and no client is asking.
    pub assumed_url: String,
    /// Folder of uploaded objects.
    pub object_folder: PathBuf,
    /// Largest object in bytes.
    pub object_max_bytes: u64,
    /// Bytes of content of other nodes that are kept.
    pub media_cache_bytes: u64,
    /// How long a link to an object works.
    pub object_url_expire: Duration,
    /// How each notification is delivered, by content type.
    pub notifications: BTreeMap<i32, NotificationSetting>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            domain: None,
            secret: String::new(),
            admin_users: vec!["imAdmin".into()],
            admin_nicknames: vec!["superAdmin".into()],
            token_expire: 90 * DAY,
            multi_login_policy: 1,
            max_tokens_per_platform: 30,
            friend_verify: false,
            open_directory: false,
            consent: false,
            expire: Duration::ZERO,
            history_for_new_members: true,
            message_max_bytes: 60 * 1024,
            retain: Duration::ZERO,
            public_url: String::new(),
            assumed_url: String::new(),
            object_folder: PathBuf::from("objects"),
            object_max_bytes: 1 << 30,
            media_cache_bytes: 10 << 30,
            object_url_expire: 7 * DAY,
            notifications: default_notifications(),
        }
    }
}

impl Settings {
    /// Address under which clients reach the API, without a slash at its end.
    pub(crate) fn api_url(&self) -> &str {
        let set = if self.public_url.is_empty() { &self.assumed_url } else { &self.public_url };
        set.trim_end_matches('/')
    }

    /// Whether a user has the rights of an app admin.
    pub fn is_admin(&self, user_id: &str) -> bool {
        self.admin_users.iter().any(|admin| admin == user_id)
    }
}

/// How one kind of notification is delivered.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NotificationSetting {
    /// It also appears in the chat.
    pub is_send_msg: bool,
    /// Users who are offline get it by push.
    pub offline_push: bool,
    /// Title of the push.
    pub title: String,
    /// Text of the push.
    pub desc: String,
    /// Extension of the push.
    pub ext: String,
}

/// The defaults: content type, config key, shown in the chat, offline push, push text.
pub const NOTIFICATIONS: &[(i32, &str, bool, bool, &str)] = &[
    (1201, "friend_application_approved", true, true, "Your friend application has been approved"),
    (1202, "friend_application_rejected", false, true, "Your friend application was declined"),
    (1203, "friend_application_added", false, true, "Somebody wants to be your friend"),
    (1205, "friend_deleted", false, false, "A friend was removed"),
    (1206, "friend_remark_set", false, false, "A remark was changed"),
    (1207, "black_added", false, false, "You were blocked"),
    (1208, "black_deleted", false, false, "You were unblocked"),
    (1209, "friend_info_updated", false, false, "A friend changed the profile"),
    (1210, "friends_info_updated", false, false, "Friends were changed"),
    (1300, "conversation_changed", false, false, "A conversation was changed"),
    (1303, "user_info_updated", false, false, "A profile was changed"),
    (1501, "group_created", true, false, "A group was created"),
    (1502, "group_info_set", false, false, "The group was changed"),
    (1503, "join_group_application", false, true, "Somebody wants to join the group"),
    (1504, "member_quit", true, false, "A member left the group"),
    (1505, "group_application_accepted", false, true, "A request to join was accepted"),
    (1506, "group_application_rejected", false, true, "A request to join was declined"),
    (1507, "group_owner_transferred", true, false, "The group has a new owner"),
    (1508, "member_kicked", true, false, "A member was removed from the group"),
    (1509, "member_invited", true, false, "A member was invited to the group"),
    (1510, "member_enter", true, false, "A member joined the group"),
    (1511, "group_dismissed", true, false, "The group was dismissed"),
    (1512, "group_member_muted", true, false, "A member was muted"),
    (1513, "group_member_cancel_muted", true, false, "A member may speak again"),
    (1514, "group_muted", true, false, "The group was muted"),
    (1515, "group_cancel_muted", true, false, "The group may speak again"),
    (1516, "group_member_info_set", false, false, "A member was changed"),
    (1517, "group_member_set_to_admin", false, false, ""),
    (1518, "group_member_set_to_ordinary_user", false, false, ""),
    (1519, "group_info_set_announcement", true, false, "The group has a new announcement"),
    (1520, "group_info_set_name", true, false, "The group has a new name"),
    (1701, "conversation_set_private", true, false, "Burn after reading was switched"),
];

/// The default delivery of every notification.
pub fn default_notifications() -> BTreeMap<i32, NotificationSetting> {
    let setting = |is_send_msg, offline_push, text: &str| NotificationSetting {
        is_send_msg,
        offline_push,
        title: text.to_owned(),
        desc: text.to_owned(),
        ext: text.to_owned(),
    };
    NOTIFICATIONS
        .iter()
        .map(|(number, _, chat, push, text)| (*number, setting(*chat, *push, text)))
        .collect()
}
