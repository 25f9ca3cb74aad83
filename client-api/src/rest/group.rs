use super::route::{Route, call, read};

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new("/group/create_group", call!(create_group)),
        Route::new("/group/set_group_info", call!(set_group_info)),
        Route::new("/group/set_group_info_ex", call!(set_group_info_ex)),
        Route::new("/group/join_group", call!(join_group)),
        Route::new("/group/quit_group", call!(quit_group)),
        Route::new("/group/group_application_response", call!(group_application_response)),
        Route::new("/group/transfer_group", call!(transfer_group)),
        Route::new("/group/set_group_successor", call!(set_group_successor)),
        Route::new("/group/kick_group", call!(kick_group)),
        Route::new("/group/invite_user_to_group", call!(invite_user_to_group)),
        Route::new("/group/dismiss_group", call!(dismiss_group)),
        Route::new("/group/mute_group_member", call!(mute_group_member)),
        Route::new("/group/cancel_mute_group_member", call!(cancel_mute_group_member)),
        Route::new("/group/mute_group", call!(mute_group)),
        Route::new("/group/cancel_mute_group", call!(cancel_mute_group)),
        Route::new("/group/set_group_member_info", call!(set_group_member_info)),
        Route::new("/group/get_groups", call!(get_groups)),
        Route::new(
            "/group/get_group_users_req_application_list",
            call!(get_group_users_req_application_list),
        ),
        Route::new(
            "/group/get_specified_user_group_request_info",
            call!(get_specified_user_group_request_info),
        ),
        Route::new("/group/get_groups_info", call!(get_groups_info)),
        Route::new("/group/get_group_members_info", read!(get_group_members_info)),
        Route::new("/group/get_group_member_list", call!(get_group_member_list)),
        Route::new("/group/get_joined_group_list", read!(get_joined_group_list)),
        Route::new("/group/get_group_member_user_id", read!(get_group_member_user_id)),
        Route::new("/group/get_incremental_join_groups", read!(get_incremental_join_groups)),
        Route::new("/group/get_incremental_group_members", read!(get_incremental_group_members)),
        Route::new(
            "/group/get_incremental_group_members_batch",
            read!(get_incremental_group_members_batch),
        ),
        Route::new("/group/get_group_abstract_info", call!(get_group_abstract_info)),
        Route::new("/group/get_full_group_member_user_ids", read!(get_full_group_member_user_ids)),
        Route::new("/group/get_full_join_group_ids", read!(get_full_join_group_ids)),
        Route::new(
            "/group/get_group_application_unhandled_count",
            call!(get_group_application_unhandled_count),
        ),
        Route::new("/group/get_recv_group_applicationList", call!(get_recv_group_application_list)),
        Route::new(
            "/group/get_user_req_group_applicationList",
            call!(get_user_req_group_application_list),
        ),
    ]
}
