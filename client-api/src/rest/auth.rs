use proto::auth::ParseTokenReq;
use services::ServiceError;

use super::answer::{decode, encode};
use super::route::{Route, call};
use crate::guesses::{Guesses, judged};
use crate::refusal::refusal;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::open("/auth/get_admin_token", |call| {
            Box::pin(async move {
                let request = decode(&call.body)?;
                let extensions = &call.head.extensions;
                let wrong = |reason: &str| {
                    refusal("wrong secret", extensions, call.head.uri.path(), reason);
                };
                let turn = Guesses::turn(extensions).await;
                let turn = turn.inspect_err(|error| wrong(&error.detail))?;
                let answer = call.services.get_admin_token(request).await;
                match &answer {
                    Err(ServiceError::NoPermission(reason)) => {
                        wrong(reason);
                        turn.wrong().await;
                    }
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
                let (token, path) = (&request.token, call.head.uri.path());
                encode(&judged(answer, &call.services, token, extensions, path).await?)
            })
        }),
        Route::new("/auth/force_logout", call!(force_logout)),
    ]
}
