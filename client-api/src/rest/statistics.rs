use super::route::{Route, call};

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new("/statistics/user/register", call!(statistics_user_register)),
        Route::new("/statistics/user/active", call!(statistics_user_active)),
        Route::new("/statistics/group/create", call!(statistics_group_create)),
        Route::new("/statistics/group/active", call!(statistics_group_active)),
    ]
}
