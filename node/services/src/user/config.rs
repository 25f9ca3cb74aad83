//! Client settings that the operator gives to everybody or to one user.

use std::collections::BTreeMap;

use proto::user::{
    ClientConfig, DelUserClientConfigReq, DelUserClientConfigResp, GetUserClientConfigReq,
    GetUserClientConfigResp, PageUserClientConfigReq, PageUserClientConfigResp,
    SetUserClientConfigReq, SetUserClientConfigResp,
};
use store::record::ConfigValue;
use store::{Direction, schema};

use super::{check_count, check_length, must_exist};
use crate::Services;
use crate::access::Caller;
use crate::error::{Result, ServiceError};
use crate::page::{Page, STEP_ROWS};

/// Most settings of one user, and most of all users together.
const MAX_SETTINGS: usize = 1_000;
/// Longest key in bytes.
const MAX_KEY_BYTES: usize = 256;
/// Longest value in bytes.
const MAX_VALUE_BYTES: usize = 16 * 1_024;

impl Services {
    /// The settings in force for a user: those for everybody, overlaid by the user's own.
    pub fn get_user_client_config(
        &self,
        caller: &Caller,
        request: &GetUserClientConfigReq,
    ) -> Result<GetUserClientConfigResp> {
        let user_id = request.user_id.as_str();
        let view = self.store().view();
        if !user_id.is_empty() {
            caller.must_be(user_id)?;
            must_exist(&view, user_id)?;
        }
        let mut configs = BTreeMap::new();
        for owner in ["", user_id] {
            for row in schema::CLIENT_CONFIG.scan(&view, owner) {
                let ((_, key), setting) = row?;
                configs.insert(key, setting.value);
            }
        }
        Ok(GetUserClientConfigResp { configs })
    }

    /// Sets settings of a user, or of everybody if the user ID is empty.
    pub async fn set_user_client_config(
        &self,
        caller: &Caller,
        request: SetUserClientConfigReq,
    ) -> Result<SetUserClientConfigResp> {
        caller.must_be_admin()?;
        check_count("configs", request.configs.len(), MAX_SETTINGS)?;
        for (key, value) in &request.configs {
            check_length("a key", key, MAX_KEY_BYTES)?;
            check_length("a value", value, MAX_VALUE_BYTES)?;
        }
        self.change(caller, move |change| {
            let owner = request.user_id.as_str();
            if !owner.is_empty() {
                must_exist(change.tx, owner)?;
            }
            for (key, value) in request.configs {
                let known = schema::CLIENT_CONFIG.get(change.tx, (owner, &key))?;
                let created = known.map_or(change.now, |setting| setting.created);
                let setting = ConfigValue { value, created };
                schema::CLIENT_CONFIG.put(change.tx, (owner, &key), &setting);
            }
            let count = schema::CLIENT_CONFIG.scan(change.tx, owner).take(MAX_SETTINGS + 1).count();
            if count > MAX_SETTINGS {
                return Err(ServiceError::args(format!("at most {MAX_SETTINGS} settings")));
            }
            Ok(SetUserClientConfigResp {})
        })
        .await
    }

    /// Deletes settings of a user, or of everybody if the user ID is empty.
    pub async fn del_user_client_config(
        &self,
        caller: &Caller,
        request: DelUserClientConfigReq,
    ) -> Result<DelUserClientConfigResp> {
        caller.must_be_admin()?;
        check_count("keys", request.keys.len(), MAX_SETTINGS)?;
        self.change_to_make_room(caller, move |change| {
            for key in &request.keys {
                schema::CLIENT_CONFIG.delete(change.tx, (request.user_id.as_str(), key.as_str()));
            }
            Ok(DelUserClientConfigResp {})
        })
        .await
    }

    /// A page of the settings of one user, or of all owners if the user ID is empty.
    pub async fn page_user_client_config(
        &self,
        caller: &Caller,
        request: PageUserClientConfigReq,
    ) -> Result<PageUserClientConfigResp> {
        caller.must_be_admin()?;
        let page = Page::or_empty(request.pagination.as_ref());
        let (user_id, key) = (request.user_id, request.key);
        let (mut total, mut configs) = (0, Vec::new());
        let mut next = (user_id.clone(), String::new());
        self.in_steps(|view| {
            let from = next.clone();
            let first = (from.0.as_str(), from.1.as_str());
            let mut seen = 0;
            let rows = schema::CLIENT_CONFIG.range(view, first, (), Direction::Ascending);
            for row in rows.take(STEP_ROWS) {
                let ((owner, name), setting) = row?;
                if !user_id.is_empty() && owner != user_id {
                    return Ok(false);
                }
                seen += 1;
                // The least key after this one.
                next = (owner.clone(), format!("{name}\0"));
                if !key.is_empty() && name != key {
                    continue;
                }
                if page.contains(total) {
                    configs.push(ClientConfig { key: name, user_id: owner, value: setting.value });
                }
                total += 1;
            }
            Ok(seen == STEP_ROWS)
        })
        .await?;
        Ok(PageUserClientConfigResp { total: i64::try_from(total).unwrap_or(i64::MAX), configs })
    }
}
