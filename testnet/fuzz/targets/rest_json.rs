//! Any bytes as the body of a REST request. What is read must survive writing and reading.
#![no_main]

use std::fmt::Debug;

use libfuzzer_sys::fuzz_target;
use proto::{conversation, group, json, msg, sdkws, user};
use serde::Serialize;
use serde::de::DeserializeOwned;

fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(body: &[u8]) {
    if let Ok(message) = json::from_slice::<T>(body) {
        let written = json::to_vec(&message).expect("serializes");
        assert_eq!(json::from_slice::<T>(&written).expect("own text is read"), message);
    }
}

fuzz_target!(|body: &[u8]| {
    check::<msg::SendMsgReq>(body);
    check::<sdkws::MsgData>(body);
    check::<sdkws::PullMessageBySeqsResp>(body);
    check::<group::CreateGroupReq>(body);
    check::<group::SetGroupInfoExReq>(body);
    check::<group::GetFullGroupMemberUserIDsReq>(body);
    check::<conversation::SetConversationsReq>(body);
    check::<user::GetDesignateUsersReq>(body);
});
