//! Lists of all accounts and searching them.

use std::collections::HashSet;
use std::ops::ControlFlow;

use proto::user::{
    GetAllUserIdReq, GetAllUserIdResp, GetPaginationUsersReq, GetPaginationUsersResp,
};
use store::schema;

use super::count_users;
use crate::Services;
use crate::access::Caller;
use crate::error::Result;
use crate::page::Page;
use crate::search_text::SearchText;

impl Services {
    /// IDs of all accounts, oldest first.
    pub async fn get_all_users_uid(
        &self,
        caller: &Caller,
        request: GetAllUserIdReq,
    ) -> Result<GetAllUserIdResp> {
        caller.must_list_accounts(self.settings())?;
        let page = Page::required(request.pagination.as_ref())?;
        let total = count_users(&self.store().view())?;
        let (mut user_ids, mut index) = (Vec::new(), 0);
        if !page.is_empty() {
            self.each_in_order(&schema::USER_ORDER, i64::MIN, |_, _, user_id| {
                if page.ends_before(index) {
                    return Ok(ControlFlow::Break(()));
                }
                if page.contains(index) {
                    user_ids.push(user_id);
                }
                index += 1;
                Ok(ControlFlow::Continue(()))
            })
            .await?;
        }
        Ok(GetAllUserIdResp { total: clamped(total), user_ids })
    }

    /// People, oldest first, whose ID or nickname contains a text.
    pub async fn get_users(
        &self,
        caller: &Caller,
        request: GetPaginationUsersReq,
    ) -> Result<GetPaginationUsersResp> {
        caller.must_list_accounts(self.settings())?;
        let page = Page::required(request.pagination.as_ref())?;
        let by_id = SearchText::if_any("userID", &request.user_id)?;
        let by_name = SearchText::if_any("nickName", &request.nick_name)?;
        let (total, system) = {
            let view = self.store().view();
            let system = schema::SYSTEM_ACCOUNTS.scan(&view, ()).map(|row| Ok(row?.0.1));
            (count_users(&view)?, system.collect::<Result<HashSet<String>>>()?)
        };
        let all = by_id.is_none() && by_name.is_none();
        let total = total.saturating_sub_unsigned(system.len() as u64);
        let (mut users, mut found) = (Vec::new(), 0);
        if all && page.is_empty() {
            return Ok(GetPaginationUsersResp { total: clamped(total), users });
        }
        self.each_in_order(&schema::USER_ORDER, i64::MIN, |view, _, user_id| {
            if all && page.ends_before(found) {
                return Ok(ControlFlow::Break(()));
            }
            if system.contains(&user_id) {
                return Ok(ControlFlow::Continue(()));
            }
            let matches_id = by_id.as_ref().is_some_and(|text| text.is_in(&user_id));
            if all || matches_id {
                if page.contains(found) {
                    users.extend(schema::USERS.get(view, &user_id)?);
                }
                found += 1;
            } else if let Some(by_name) = &by_name
                && let Some(user) = schema::USERS.get(view, &user_id)?
                && by_name.is_in(&user.nickname)
            {
                if page.contains(found) {
                    users.push(user);
                }
                found += 1;
            }
            Ok(ControlFlow::Continue(()))
        })
        .await?;
        let total = if all { total } else { i64::try_from(found).unwrap_or(i64::MAX) };
        Ok(GetPaginationUsersResp { total: clamped(total), users })
    }
}

fn clamped(total: i64) -> i32 {
    i32::try_from(total).unwrap_or(i32::MAX)
}
