use super::answer::{decode, encode};
use super::route::{Route, call};

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::open("/auth/get_admin_token", |call| {
            Box::pin(async move {
                let request = decode(&call.body)?;
                encode(&call.services.get_admin_token(request).await?)
            })
        }),
        Route::new("/auth/get_user_token", call!(get_user_token)),
        Route::open("/auth/parse_token", |call| {
            Box::pin(async move {
                let request = decode(&call.body)?;
                encode(&call.services.parse_token(&request)?)
            })
        }),
        Route::new("/auth/force_logout", call!(force_logout)),
    ]
}
