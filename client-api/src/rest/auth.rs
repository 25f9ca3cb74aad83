use proto::auth::ParseTokenReq;
use services::ServiceError;

use super::answer::{decode, encode};
use super::route::{Route, call};
use crate::guesses::{Guesses, judged};

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::open("/auth/get_admin_token", |call| {
            Box::pin(async move {
                let request = decode(&call.body)?;
                let turn = Guesses::turn(&call.head.extensions).await?;
                let answer = call.services.get_admin_token(request).await;
                match &answer {
                    Err(ServiceError::NoPermission(_)) => turn.wrong().await,
                    _ => turn.right(),
                }
                encode(&answer?)
            })
        }),
        Route::new("/auth/get_user_token", call!(get_user_token)),
        Route::open("/auth/parse_token", |call| {
            Box::pin(async move {
                let request: ParseTokenReq = decode(&call.body)?;
                let answer = call.services.parse_token(&request);
                let extensions = &call.head.extensions;
                encode(&judged(answer, &call.services, &request.token, extensions).await?)
            })
        }),
        Route::new("/auth/force_logout", call!(force_logout)),
    ]
}
