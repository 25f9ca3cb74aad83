//! The control lane: one request and one answer on a link of its own.

use std::sync::Arc;

use proto::federation::{Request, Response, request, response};

use crate::frame::{MAX_CONTROL_FRAME, frames, receive, send};
use crate::shared::Shared;
use crate::transport::{Incoming, Lane};
use crate::{Domain, FederationError};

/// Asks the node of `domain`.
pub(crate) async fn ask(
    shared: &Arc<Shared>,
    domain: &Domain,
    body: request::Body,
) -> Result<Response, FederationError> {
    let mut frames = frames(shared.open(domain, Lane::Control).await?, MAX_CONTROL_FRAME);
    let request = Request {
        origin: shared.settings.domain.to_string(),
        audience: domain.to_string(),
        document: Some(shared.document()),
        instance: shared.instance,
        body: Some(body),
    };
    send(&mut frames, &request).await?;
    let response: Response = receive(&mut frames, shared.settings.timing.answer).await?;
    if let Some(bye) = response.bye {
        return Err(shared.refused_by(domain, bye));
    }
    if let Some(response::Body::Known(known)) = response.body {
        shared.judge(domain, known.mark).await?;
        shared.judge_receipt(domain, known.receipt)?;
    }
    Ok(response)
}

/// Answers one request.
pub(crate) async fn serve(shared: Arc<Shared>, incoming: Incoming) -> Result<(), FederationError> {
    let mut frames = frames(incoming.link, MAX_CONTROL_FRAME);
    let response = match answer(&shared, &mut frames, incoming.peer).await {
        Ok(response) => response,
        Err(error) => {
            let bye = Response { bye: error.bye(), ..Response::default() };
            let _ = send(&mut frames, &bye).await;
            return Err(error);
        }
    };
    send(&mut frames, &response).await
}

async fn answer(
    shared: &Arc<Shared>,
    frames: &mut crate::frame::Frames,
    key: crate::PublicKey,
) -> Result<Response, FederationError> {
    let request: Request = receive(frames, shared.settings.timing.answer).await?;
    let Request { origin, audience, document, instance, body } = request;
    let origin = shared.admit_request((&origin, &audience), &key, document, instance).await?;
    let Some(body) = body else {
        return Err(FederationError::Protocol("a request that this node does not know".into()));
    };
    if let request::Body::Greeting(_) = body {
        let body = Some(response::Body::Known(shared.known_of(&origin)?));
        return Ok(Response { body, ..Response::default() });
    }
    Ok(shared.rules.answer(&origin, body).await)
}
