//! Statistics for the operator: who and what came when, and how much is said.
//!
//! Nothing is counted while messages are sent: sends stay as fast as they are, and reports read
//! the messages of the time they are about.

mod active;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use proto::group::{GroupCreateCountReq, GroupCreateCountResp};
use proto::user::{UserRegisterCountReq, UserRegisterCountResp};
use store::schema;

use crate::Services;
use crate::access::Caller;
use crate::day::{self, DAY_MS, day_of};
use crate::error::{Result, ServiceError};
use crate::user::count_users;

fn by_date(days: BTreeMap<i64, i64>) -> BTreeMap<String, i64> {
    days.into_iter().map(|(day, count)| (day::name(day), count)).collect()
}

fn check_range(start: i64, end: i64) -> Result<()> {
    if start <= 0 {
        return Err(ServiceError::args("start is invalid"));
    }
    if end <= 0 {
        return Err(ServiceError::args("end is invalid"));
    }
    if start > end {
        return Err(ServiceError::args("start is after end"));
    }
    Ok(())
}

impl Services {
    /// How many accounts there are, and how many came on each day of a range.
    pub async fn statistics_user_register(
        &self,
        caller: &Caller,
        request: UserRegisterCountReq,
    ) -> Result<UserRegisterCountResp> {
        caller.must_list_accounts(self.settings())?;
        let (start, end) = (request.start, request.end);
        check_range(start, end)?;
        let (mut before, mut days, mut cut) = (0, BTreeMap::new(), Vec::new());
        let total = {
            let view = self.store().view();
            for row in schema::REGISTRATIONS.scan(&view, ()) {
                let (day, registered) = row?;
                let first = day.saturating_mul(DAY_MS);
                let next = first.saturating_add(DAY_MS);
                if next <= start {
                    before += registered.value;
                } else if first >= start && next <= end {
                    days.insert(day, registered.value);
                } else if first < end {
                    cut.push((first, next.min(end)));
                }
            }
            count_users(&view)?
        };
        for (first, next) in cut {
            self.each_in_order(&schema::USER_ORDER, first, |_, time, _| {
                if time >= next {
                    return Ok(ControlFlow::Break(()));
                }
                if time < start {
                    before += 1;
                } else {
                    *days.entry(day_of(time)).or_default() += 1;
                }
                Ok(ControlFlow::Continue(()))
            })
            .await?;
        }
        Ok(UserRegisterCountResp { total, before, count: by_date(days) })
    }

    /// How many groups were ever made, and how many on each day of a range.
    pub async fn statistics_group_create(
        &self,
        caller: &Caller,
        request: GroupCreateCountReq,
    ) -> Result<GroupCreateCountResp> {
        let (start, end) = (request.start, request.end);
        check_range(start, end)?;
        caller.must_be_admin()?;
        let (mut total, mut before, mut days) = (0, 0, BTreeMap::new());
        self.each_in_order(&schema::GROUP_ORDER, i64::MIN, |_, time, _| {
            total += 1;
            if time < start {
                before += 1;
            } else if time < end {
                *days.entry(day_of(time)).or_default() += 1;
            }
            Ok(ControlFlow::Continue(()))
        })
        .await?;
        Ok(GroupCreateCountResp { total, before, count: by_date(days) })
    }
}
