//! What apps report about their devices: push tokens, badges, logs.

use proto::third::{
    DeleteLogsReq, DeleteLogsResp, FcmUpdateTokenReq, FcmUpdateTokenResp, LogInfo, SearchLogsReq,
    SearchLogsResp, SetAppBadgeReq, SetAppBadgeResp, UploadLogsReq, UploadLogsResp,
};
use store::record::{ClientLog, Number, Present, PushToken};
use store::{Direction, Read, Tx, schema};

use crate::Services;
use crate::access::Caller;
use crate::error::{Result, ServiceError};
use crate::page::{Page, STEP_ROWS};
use crate::platform;
use crate::search_text::SearchText;
use crate::user::{check_count, check_length};

/// Longest text of a report in bytes.
const MAX_TEXT_BYTES: usize = 4_096;
/// Most files in one report.
const MAX_FILES: usize = 100;
/// Most log IDs in one request.
const MAX_LOG_IDS: usize = 10_000;
/// Client logs that the node keeps; the oldest make room for new ones.
const MAX_LOGS: i64 = 100_000;
/// Name of the counter of client logs.
const CLIENT_LOGS: &str = "client_logs";
/// A text after every log ID.
const AFTER_DIGITS: &str = ":";
/// 2019-01-01 UTC: where a search without bounds starts.
const SEARCH_START_MS: i64 = 1_546_300_800_000;

impl Services {
    /// Keeps the push token of a device.
    pub async fn fcm_update_token(
        &self,
        caller: &Caller,
        request: FcmUpdateTokenReq,
    ) -> Result<FcmUpdateTokenResp> {
        if !platform::exists(request.platform_id) {
            return Err(ServiceError::args("platformID is invalid"));
        }
        if request.fcm_token.is_empty() {
            return Err(ServiceError::args("fcmToken is empty"));
        }
        if request.account.is_empty() {
            return Err(ServiceError::args("account is empty"));
        }
        check_length("fcmToken", &request.fcm_token, MAX_TEXT_BYTES)?;
        // Whoever could set it for others would get their pushes.
        caller.must_be(&request.account)?;
        self.change(caller, move |change| {
            let key = (request.account.as_str(), request.platform_id.cast_unsigned());
            let token = PushToken { token: request.fcm_token, expires: request.expire_time };
            schema::PUSH_TOKENS.put(change.tx, key, &token);
            Ok(FcmUpdateTokenResp {})
        })
        .await
    }

    /// Sets the number on the app's icon, from which pushes count on.
    pub async fn set_app_badge(
        &self,
        caller: &Caller,
        request: SetAppBadgeReq,
    ) -> Result<SetAppBadgeResp> {
        if request.user_id.is_empty() {
            return Err(ServiceError::args("userID is empty"));
        }
        caller.must_be(&request.user_id)?;
        self.change(caller, move |change| {
            let badge = Number { value: request.app_unread_count.into() };
            schema::BADGES.put(change.tx, &request.user_id, &badge);
            Ok(SetAppBadgeResp {})
        })
        .await
    }

    /// Keeps where log files of the caller's app are.
    pub async fn logs_upload(
        &self,
        caller: &Caller,
        request: UploadLogsReq,
    ) -> Result<UploadLogsResp> {
        if request.file_urls.is_empty() {
            return Err(ServiceError::Failed("fileURLs is empty".into()));
        }
        check_count("fileURLs", request.file_urls.len(), MAX_FILES)?;
        let files = request.file_urls.iter().flat_map(|file| [&file.filename, &file.url]);
        for text in files.chain([&request.app_framework, &request.version, &request.ex]) {
            check_length("each text", text, MAX_TEXT_BYTES)?;
        }
        self.change(caller, move |change| {
            // One millisecond apart, so that lists keep their order.
            for (created, file) in (change.now..).zip(request.file_urls) {
                let id = free_log_id(change.services, change.tx)?;
                let log = ClientLog {
                    user_id: change.caller.user_id.clone(),
                    platform: platform::name(request.platform).to_owned(),
                    url: file.url,
                    created,
                    filename: file.filename,
                    app_framework: request.app_framework.clone(),
                    version: request.version.clone(),
                    ex: request.ex.clone(),
                };
                schema::CLIENT_LOGS.put(change.tx, &id, &log);
                schema::CLIENT_LOG_ORDER.put(change.tx, (created, &id), &Present {});
                count_log(change.tx)?;
            }
            Ok(UploadLogsResp {})
        })
        .await
    }

    /// Logs of users whose ID contains a text, newest first.
    pub async fn logs_search(
        &self,
        caller: &Caller,
        request: SearchLogsReq,
    ) -> Result<SearchLogsResp> {
        caller.must_be_admin()?;
        if request.pagination.is_none() {
            return Err(ServiceError::args("pagination is empty"));
        }
        let page = Page::or_empty(request.pagination.as_ref());
        let unbounded = request.start_time == 0 && request.end_time == 0;
        let (start, end) = if unbounded {
            (SEARCH_START_MS, i64::MAX)
        } else {
            (request.start_time, request.end_time)
        };
        if start > end {
            return Err(ServiceError::args("startTime is after endTime"));
        }
        let text = SearchText::new("keyword", &request.keyword)?;
        let (mut total, mut logs_infos) = (0, Vec::new());
        let mut last = (end, AFTER_DIGITS.to_owned());
        self.in_steps(|view| {
            let from = last.clone();
            let newest = (from.0, from.1.as_str());
            let order = &schema::CLIENT_LOG_ORDER;
            let mut seen = 0;
            for row in order.range(view, start, newest, Direction::Descending).take(STEP_ROWS + 1) {
                let (key, _) = row?;
                seen += 1;
                // A later step begins with the row at which the one before it ended.
                if key == from {
                    continue;
                }
                last.clone_from(&key);
                let Some(log) = schema::CLIENT_LOGS.get(view, &key.1)? else { continue };
                if !text.is_in(&log.user_id) {
                    continue;
                }
                if page.contains(total) {
                    logs_infos.push(log_info(view, key.1, log)?);
                }
                total += 1;
            }
            Ok(seen > STEP_ROWS)
        })
        .await?;
        Ok(SearchLogsResp { logs_infos, total: u32::try_from(total).unwrap_or(u32::MAX) })
    }

    /// Forgets logs, all or none; the files stay where they are.
    pub async fn logs_delete(
        &self,
        caller: &Caller,
        request: DeleteLogsReq,
    ) -> Result<DeleteLogsResp> {
        caller.must_be_admin()?;
        if request.log_ids.is_empty() {
            return Err(ServiceError::Failed("logIDs is empty".into()));
        }
        check_count("logIDs", request.log_ids.len(), MAX_LOG_IDS)?;
        self.change_to_make_room(caller, move |change| {
            let mut ids = request.log_ids;
            ids.sort();
            ids.dedup();
            for id in ids {
                if !delete_log(change.tx, &id)? {
                    return Err(ServiceError::not_found(format!("no log {id}")));
                }
            }
            Ok(DeleteLogsResp {})
        })
        .await
    }
}

fn log_info(from: &impl Read, log_id: String, log: ClientLog) -> Result<LogInfo> {
    let user = schema::USERS.get(from, &log.user_id)?.unwrap_or_default();
    Ok(LogInfo {
        user_id: log.user_id,
        platform: log.platform,
        url: log.url,
        create_time: log.created,
        nickname: user.nickname,
        log_id,
        filename: log.filename,
        system_type: String::new(),
        ex: log.ex,
        version: log.version,
    })
}

fn free_log_id(services: &Services, from: &impl Read) -> Result<String> {
    loop {
        let id = services.random_digits();
        if !schema::CLIENT_LOGS.contains(from, &id)? {
            return Ok(id);
        }
    }
}

/// Counts a new log and drops the oldest if there are too many.
fn count_log(tx: &mut Tx<'_>) -> Result<()> {
    let count = schema::COUNTERS.get(tx, CLIENT_LOGS)?.unwrap_or_default().value + 1;
    schema::COUNTERS.put(tx, CLIENT_LOGS, &Number { value: count });
    if count > MAX_LOGS {
        let oldest = schema::CLIENT_LOG_ORDER.scan(tx, ()).next().transpose()?;
        if let Some(((_, id), _)) = oldest {
            delete_log(tx, &id)?;
        }
    }
    Ok(())
}

/// Deletes a log; `false` if there is none with that ID.
fn delete_log(tx: &mut Tx<'_>, id: &str) -> Result<bool> {
    let Some(log) = schema::CLIENT_LOGS.get(tx, id)? else { return Ok(false) };
    schema::CLIENT_LOGS.delete(tx, id);
    schema::CLIENT_LOG_ORDER.delete(tx, (log.created, id));
    let count = schema::COUNTERS.get(tx, CLIENT_LOGS)?.unwrap_or_default().value - 1;
    schema::COUNTERS.put(tx, CLIENT_LOGS, &Number { value: count });
    Ok(true)
}
