use super::route::{Route, call, read};

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new("/friend/add_friend", call!(add_friend)),
        Route::new("/friend/add_friend_response", call!(add_friend_response)),
        Route::new("/friend/delete_friend", call!(delete_friend)),
        Route::new("/friend/get_friend_apply_list", read!(get_friend_apply_list)),
        Route::new("/friend/get_self_friend_apply_list", read!(get_self_friend_apply_list)),
        Route::new("/friend/get_designated_friend_apply", read!(get_designated_friend_apply)),
        Route::new("/friend/get_self_unhandled_apply_count", read!(get_self_unhandled_apply_count)),
        Route::new("/friend/get_friend_list", read!(get_friend_list)),
        Route::new("/friend/get_designated_friends", read!(get_designated_friends)),
        Route::new("/friend/get_specified_friends_info", read!(get_specified_friends_info)),
        Route::new("/friend/set_friend_remark", call!(set_friend_remark)),
        Route::new("/friend/update_friends", call!(update_friends)),
        Route::new("/friend/import_friend", call!(import_friend)),
        Route::new("/friend/is_friend", read!(is_friend)),
        Route::new("/friend/get_friend_id", read!(get_friend_id)),
        Route::new("/friend/get_incremental_friends", read!(get_incremental_friends)),
        Route::new("/friend/get_full_friend_user_ids", read!(get_full_friend_user_ids)),
        Route::new("/friend/add_black", call!(add_black)),
        Route::new("/friend/remove_black", call!(remove_black)),
        Route::new("/friend/get_black_list", read!(get_black_list)),
        Route::new("/friend/get_specified_blacks", read!(get_specified_blacks)),
        Route::new("/friend/get_incremental_blacks", read!(get_incremental_blacks)),
    ]
}
