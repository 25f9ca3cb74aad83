use proto::conversation::GetSortedConversationListReq;

use super::answer::{decode, encode};
use super::route::{Route, call, read};

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new("/conversation/get_all_conversations", read!(get_all_conversations)),
        Route::new("/conversation/get_conversation", read!(get_conversation)),
        Route::new("/conversation/get_conversations", read!(get_conversations)),
        Route::new("/conversation/get_owner_conversation", read!(get_owner_conversation)),
        Route::new("/conversation/get_sorted_conversation_list", |call| {
            Box::pin(async move {
                let request: GetSortedConversationListReq = decode(&call.body)?;
                let (caller, ids) = (call.caller()?, &request.conversation_ids);
                call.services.fetch_last(caller, &request.user_id, ids).await?;
                encode(&call.services.get_sorted_conversation_list(caller, &request)?)
            })
        }),
        Route::new("/conversation/set_conversations", call!(set_conversations)),
        Route::new("/conversation/get_full_conversation_ids", read!(get_full_conversation_ids)),
        Route::new(
            "/conversation/get_incremental_conversations",
            read!(get_incremental_conversations),
        ),
        Route::new(
            "/conversation/get_not_notify_conversation_ids",
            read!(get_not_notify_conversation_ids),
        ),
        Route::new("/conversation/get_pinned_conversation_ids", read!(get_pinned_conversation_ids)),
        Route::new("/conversation/delete_conversations", call!(delete_conversations)),
        Route::new(
            "/conversation/update_conversations_by_user",
            call!(update_conversations_by_user),
        ),
    ]
}
