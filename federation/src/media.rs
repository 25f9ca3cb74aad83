//! The media lane: one request for content, one answer, and then its bytes.

use std::sync::Arc;

use proto::federation::{MediaAnswer, MediaRequest};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::frame::{MAX_CONTROL_FRAME, frames, receive, send};
use crate::shared::Shared;
use crate::transport::{Incoming, Lane};
use crate::{Content, Domain, FederationError};

/// Bytes sent at once.
const CHUNK_BYTES: usize = 64 * 1_024;

/// Content of another node.
pub struct Media {
    /// What that node says of it.
    pub answer: MediaAnswer,
    /// The bytes from the one that was asked for on, if the answer is not a refusal.
    pub bytes: Content,
}

/// Asks the node of `domain` for content.
pub(crate) async fn open(
    shared: &Arc<Shared>,
    domain: &Domain,
    request: MediaRequest,
) -> Result<Media, FederationError> {
    let mut frames = frames(shared.open(domain, Lane::Media).await?, MAX_CONTROL_FRAME);
    let request = MediaRequest {
        origin: shared.settings.domain.to_string(),
        audience: domain.to_string(),
        document: Some(shared.document()),
        ..request
    };
    send(&mut frames, &request).await?;
    let answer: MediaAnswer = receive(&mut frames, shared.settings.timing.answer).await?;
    if let Some(bye) = answer.bye {
        return Err(shared.refused_by(domain, bye));
    }
    // What follows the answer may have been read along with it.
    let parts = frames.into_parts();
    let begun = std::io::Cursor::new(parts.read_buf.freeze());
    let left = answer.size.saturating_sub(request.offset);
    Ok(Media { answer, bytes: Box::new(begun.chain(parts.io).take(left)) })
}

/// Serves content to another node.
pub(crate) async fn serve(shared: Arc<Shared>, incoming: Incoming) -> Result<(), FederationError> {
    let mut frames = frames(incoming.link, MAX_CONTROL_FRAME);
    let patience = shared.settings.timing.answer;
    let request: MediaRequest = receive(&mut frames, patience).await?;
    let ends = (request.origin.as_str(), request.audience.as_str());
    let origin = match shared.admit_request(ends, &incoming.peer, request.document.clone(), 0).await
    {
        Ok(origin) => origin,
        Err(error) => {
            let refusal = MediaAnswer { bye: error.bye(), ..MediaAnswer::default() };
            send(&mut frames, &refusal).await?;
            return Err(error);
        }
    };
    let (answer, content) = shared.rules.media(&origin, request).await;
    send(&mut frames, &answer).await?;
    let Some(mut content) = content else { return Ok(()) };
    let mut link = frames.into_parts().io;
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = content.read(&mut chunk).await?;
        if read == 0 {
            break;
        }
        // Who takes nothing for so long is gone.
        tokio::time::timeout(patience, link.write_all(&chunk[..read]))
            .await
            .map_err(|_| FederationError::Timeout)??;
    }
    link.flush().await?;
    link.shutdown().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::encode;

    #[tokio::test]
    async fn bytes_that_come_with_the_answer_are_not_lost() {
        let (near, mut far) = tokio::io::duplex(1 << 16);
        let answer = encode(&MediaAnswer { size: 4, ..MediaAnswer::default() });
        let length = u32::try_from(answer.len()).expect("short").to_be_bytes();
        far.write_all(&[&length, &answer[..], b"abcd"].concat()).await.expect("written");
        let mut frames = frames(Box::new(near), MAX_CONTROL_FRAME);
        let patience = std::time::Duration::from_secs(5);
        let heard: MediaAnswer = receive(&mut frames, patience).await.expect("an answer");
        assert_eq!(heard.size, 4);
        let parts = frames.into_parts();
        let mut bytes = std::io::Cursor::new(parts.read_buf.freeze()).chain(parts.io).take(4);
        let mut all = Vec::new();
        bytes.read_to_end(&mut all).await.expect("read");
        assert_eq!(all, b"abcd");
    }
}
