use super::answer::{decode, encode};
use super::route::{Route, call, read};

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new("/user/user_register", call!(user_register)),
        Route::new("/user/update_user_info", call!(update_user_info)),
        Route::new("/user/update_user_info_ex", call!(update_user_info_ex)),
        Route::new("/user/set_global_msg_recv_opt", call!(set_global_msg_recv_opt)),
        Route::new("/user/get_users_info", call!(get_users_info)),
        Route::new("/user/get_all_users_uid", call!(get_all_users_uid)),
        Route::new("/user/account_check", read!(account_check)),
        Route::new("/user/get_users", call!(get_users)),
        Route::new("/user/get_users_online_status", |call| {
            Box::pin(async move {
                let request = decode(&call.body)?;
                let answer = call.services.get_users_online_status(call.caller()?, &request)?;
                encode(&bare(answer.success_result))
            })
        })
        .with_bad_request(),
        Route::new("/user/get_users_online_token_detail", |call| {
            Box::pin(async move {
                let request = decode(&call.body)?;
                let list = call.services.get_users_online_token_detail(call.caller()?, &request)?;
                encode(&bare(list))
            })
        })
        .with_bad_request(),
        Route::new("/user/subscribe_users_status", read!(subscribe_users_status)),
        Route::new("/user/get_users_status", call!(get_users_status)),
        Route::new("/user/get_subscribe_users_status", read!(get_subscribe_users_status)),
        Route::new("/user/process_user_command_add", call!(process_user_command_add)),
        Route::new("/user/process_user_command_delete", call!(process_user_command_delete)),
        Route::new("/user/process_user_command_update", call!(process_user_command_update)),
        Route::new("/user/process_user_command_get", read!(process_user_command_get)),
        Route::new("/user/process_user_command_get_all", read!(process_user_command_get_all)),
        Route::new("/user/add_notification_account", call!(add_notification_account)),
        Route::new("/user/update_notification_account", call!(update_notification_account)),
        Route::new("/user/search_notification_account", read!(search_notification_account)),
        Route::new("/user/get_user_client_config", read!(get_user_client_config)),
        Route::new("/user/set_user_client_config", call!(set_user_client_config)),
        Route::new("/user/del_user_client_config", call!(del_user_client_config)),
        Route::new("/user/page_user_client_config", call!(page_user_client_config)),
    ]
}

/// A list that is the whole answer; `null` when empty.
fn bare<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}
