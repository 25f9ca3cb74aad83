use super::route::{Route, call};

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new("/third/fcm_update_token", call!(fcm_update_token)),
        Route::new("/third/set_app_badge", call!(set_app_badge)),
        Route::new("/third/logs/upload", call!(logs_upload)),
        Route::new("/third/logs/delete", call!(logs_delete)),
        Route::new("/third/logs/search", call!(logs_search)),
    ]
}
