//! How notifications are delivered.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use services::settings::{NOTIFICATIONS, NotificationSetting, default_notifications};

use super::rule::Rule;
use super::{Config, Key};

/// How one notification is delivered; what is left out keeps its default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Notification {
    is_send_msg: Option<bool>,
    offline_push: Option<bool>,
    title: Option<String>,
    desc: Option<String>,
    ext: Option<String>,
}

/// Name of the section of sections about one notification each.
pub(super) const SECTION: &str = "notification";

/// What can be said of each.
pub(super) const KEYS: &[Key] = &[
    Key { name: "is_send_msg", doc: &["It also appears in the chat."], rule: Rule::Flag },
    Key { name: "offline_push", doc: &["Users who are offline get it."], rule: Rule::Flag },
    Key { name: "title", doc: &["Title of the push."], rule: Rule::Text },
    Key { name: "desc", doc: &["Text of the push."], rule: Rule::Text },
    Key { name: "ext", doc: &["Extension of the push."], rule: Rule::Text },
];

/// The names of all notifications.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    NOTIFICATIONS.iter().map(|(_, name, ..)| *name)
}

impl Config {
    /// The delivery of every notification.
    pub(crate) fn notifications(&self) -> BTreeMap<i32, NotificationSetting> {
        let mut settings = default_notifications();
        for (number, name, ..) in NOTIFICATIONS {
            let (Some(given), Some(setting)) =
                (self.notification.get(*name), settings.get_mut(number))
            else {
                continue;
            };
            let given = given.clone();
            setting.is_send_msg = given.is_send_msg.unwrap_or(setting.is_send_msg);
            setting.offline_push = given.offline_push.unwrap_or(setting.offline_push);
            for (text, slot) in [
                (given.title, &mut setting.title),
                (given.desc, &mut setting.desc),
                (given.ext, &mut setting.ext),
            ] {
                if let Some(text) = text {
                    *slot = text;
                }
            }
        }
        settings
    }
}
