//! User commands: small records, such as favourites, that a user's clients share.

use proto::user::{
    AllCommandInfoResp, CommandInfoResp, ProcessUserCommandAddReq, ProcessUserCommandAddResp,
    ProcessUserCommandDeleteReq, ProcessUserCommandDeleteResp, ProcessUserCommandGetAllReq,
    ProcessUserCommandGetAllResp, ProcessUserCommandGetReq, ProcessUserCommandGetResp,
    ProcessUserCommandUpdateReq, ProcessUserCommandUpdateResp,
};
use store::record::{Number, UserCommand};
use store::{Read, Tx, schema};

use super::check_length;
use crate::Services;
use crate::access::Caller;
use crate::error::{Result, ServiceError};

/// Most commands of one user.
const MAX_COMMANDS: i64 = 1_000;
/// Longest uuid in bytes.
const MAX_UUID_BYTES: usize = 256;
/// Longest value and longest extension in bytes.
const MAX_VALUE_BYTES: usize = 16 * 1_024;

impl Services {
    /// Adds a command; several may have the same uuid.
    pub async fn process_user_command_add(
        &self,
        caller: &Caller,
        request: ProcessUserCommandAddReq,
    ) -> Result<ProcessUserCommandAddResp> {
        check_command(&request.user_id, request.r#type, &request.uuid)?;
        let value = request.value.map(|text| text.value).unwrap_or_default();
        let ex = request.ex.map(|text| text.value).unwrap_or_default();
        check_length("uuid", &request.uuid, MAX_UUID_BYTES)?;
        check_length("value", &value, MAX_VALUE_BYTES)?;
        check_length("ex", &ex, MAX_VALUE_BYTES)?;
        caller.must_be(&request.user_id)?;
        self.change(caller, move |change| {
            let (user_id, kind) = (request.user_id.as_str(), request.r#type.cast_unsigned());
            count(change.tx, user_id, 1)?;
            let mut order = change.now.cast_unsigned();
            while schema::USER_COMMANDS.contains(change.tx, (user_id, kind, order))? {
                order += 1;
            }
            let command =
                UserCommand { uuid: request.uuid, value, created: change.now / 1_000, ex };
            schema::USER_COMMANDS.put(change.tx, (user_id, kind, order), &command);
            Ok(ProcessUserCommandAddResp {})
        })
        .await
    }

    /// Deletes the oldest command with a uuid.
    pub async fn process_user_command_delete(
        &self,
        caller: &Caller,
        request: ProcessUserCommandDeleteReq,
    ) -> Result<ProcessUserCommandDeleteResp> {
        check_command(&request.user_id, request.r#type, &request.uuid)?;
        caller.must_be(&request.user_id)?;
        self.change_to_make_room(caller, move |change| {
            let (user_id, kind) = (request.user_id.as_str(), request.r#type.cast_unsigned());
            let (order, _) = find(change.tx, user_id, kind, &request.uuid)?;
            schema::USER_COMMANDS.delete(change.tx, (user_id, kind, order));
            count(change.tx, user_id, -1)?;
            Ok(ProcessUserCommandDeleteResp {})
        })
        .await
    }

    /// Changes the oldest command with a uuid.
    pub async fn process_user_command_update(
        &self,
        caller: &Caller,
        request: ProcessUserCommandUpdateReq,
    ) -> Result<ProcessUserCommandUpdateResp> {
        check_command(&request.user_id, request.r#type, &request.uuid)?;
        for text in [&request.value, &request.ex].into_iter().flatten() {
            check_length("value or ex", &text.value, MAX_VALUE_BYTES)?;
        }
        caller.must_be(&request.user_id)?;
        if request.value.is_none() && request.ex.is_none() {
            return Ok(ProcessUserCommandUpdateResp {});
        }
        self.change(caller, move |change| {
            let (user_id, kind) = (request.user_id.as_str(), request.r#type.cast_unsigned());
            let (order, mut command) = find(change.tx, user_id, kind, &request.uuid)?;
            if let Some(value) = request.value {
                command.value = value.value;
            }
            if let Some(ex) = request.ex {
                command.ex = ex.value;
            }
            schema::USER_COMMANDS.put(change.tx, (user_id, kind, order), &command);
            Ok(ProcessUserCommandUpdateResp {})
        })
        .await
    }

    /// The commands of one type, oldest first.
    pub fn process_user_command_get(
        &self,
        caller: &Caller,
        request: &ProcessUserCommandGetReq,
    ) -> Result<ProcessUserCommandGetResp> {
        check_owner(&request.user_id)?;
        check_type(request.r#type)?;
        caller.must_be(&request.user_id)?;
        let view = self.store().view();
        let kind = request.r#type.cast_unsigned();
        let rows = schema::USER_COMMANDS.scan(&view, (request.user_id.as_str(), kind));
        let commands = rows.map(|row| {
            let (_, command) = row?;
            Ok(CommandInfoResp {
                r#type: request.r#type,
                create_time: command.created,
                uuid: command.uuid,
                value: command.value,
                ex: command.ex,
            })
        });
        Ok(ProcessUserCommandGetResp { command_resp: commands.collect::<Result<_>>()? })
    }

    /// The commands of all types, oldest first.
    pub fn process_user_command_get_all(
        &self,
        caller: &Caller,
        request: &ProcessUserCommandGetAllReq,
    ) -> Result<ProcessUserCommandGetAllResp> {
        check_owner(&request.user_id)?;
        caller.must_be(&request.user_id)?;
        let view = self.store().view();
        let mut commands = Vec::new();
        for row in schema::USER_COMMANDS.scan(&view, request.user_id.as_str()) {
            let ((_, kind, order), command) = row?;
            let info = AllCommandInfoResp {
                r#type: kind.cast_signed(),
                create_time: command.created,
                uuid: command.uuid,
                value: command.value,
                ex: command.ex,
            };
            commands.push((order, info));
        }
        commands.sort_by_key(|(order, _)| *order);
        let command_resp = commands.into_iter().map(|(_, info)| info).collect();
        Ok(ProcessUserCommandGetAllResp { command_resp })
    }
}

fn check_command(user_id: &str, kind: i32, uuid: &str) -> Result<()> {
    check_owner(user_id)?;
    check_type(kind)?;
    if uuid.is_empty() {
        return Err(ServiceError::args("uuid is empty"));
    }
    Ok(())
}

fn check_owner(user_id: &str) -> Result<()> {
    if user_id.is_empty() {
        return Err(ServiceError::args("userID is empty"));
    }
    Ok(())
}

fn check_type(kind: i32) -> Result<()> {
    if kind == 0 {
        return Err(ServiceError::args("type is missing"));
    }
    Ok(())
}

fn find(from: &impl Read, user_id: &str, kind: u32, uuid: &str) -> Result<(u64, UserCommand)> {
    for row in schema::USER_COMMANDS.scan(from, (user_id, kind)) {
        let ((_, _, order), command) = row?;
        if command.uuid == uuid {
            return Ok((order, command));
        }
    }
    Err(ServiceError::not_found(format!("no command {uuid}")))
}

/// Counts commands that come and go; refuses more than a user may have.
fn count(tx: &mut Tx<'_>, user_id: &str, more: i64) -> Result<()> {
    let name = format!("user_commands/{user_id}");
    let value = schema::COUNTERS.get(tx, &name)?.unwrap_or_default().value + more;
    if value > MAX_COMMANDS {
        return Err(ServiceError::args(format!("a user has at most {MAX_COMMANDS} commands")));
    }
    schema::COUNTERS.put(tx, &name, &Number { value });
    Ok(())
}
