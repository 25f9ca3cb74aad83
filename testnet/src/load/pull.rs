//! Clients that fetch what they missed.

use anyhow::{Context as _, ensure};
use proto::sdkws::{
    GetMaxSeqReq, GetMaxSeqResp, PullMessageBySeqsReq, PullMessageBySeqsResp, SeqRange,
};

use super::marker::Marker;
use super::openim::{Client, NEWEST_SEQ, PULL};
use crate::Result;

/// Messages of one request, as the SDKs ask.
pub(crate) const PAGE: i64 = 100;

/// The newest seq of each conversation of a user.
pub(crate) async fn newest(client: &mut Client, user_id: &str) -> Result<GetMaxSeqResp> {
    client.call(NEWEST_SEQ, &GetMaxSeqReq { user_id: user_id.to_owned() }).await
}

/// Fetches seqs `begin..=end` of a conversation; returns who sent each, in order.
pub(crate) async fn range(
    client: &mut Client,
    user_id: &str,
    conversation_id: &str,
    begin: i64,
    end: i64,
) -> Result<Vec<Option<Marker>>> {
    let range =
        SeqRange { conversation_id: conversation_id.to_owned(), begin, end, num: end - begin + 1 };
    let request =
        PullMessageBySeqsReq { user_id: user_id.to_owned(), seq_ranges: vec![range], order: 0 };
    let mut pulled: PullMessageBySeqsResp = client.call(PULL, &request).await?;
    let page = pulled.msgs.remove(conversation_id).context("the conversation is missing")?;
    let seqs = page.msgs.iter().map(|message| message.seq);
    ensure!(seqs.eq(begin..=end), "{conversation_id} {begin} to {end} is not complete");
    Ok(page.msgs.iter().map(|message| Marker::from_id(&message.client_msg_id)).collect())
}

/// Fetches a whole conversation page by page and checks it: `count` messages of the generator, each
/// sender's in order.
pub(crate) async fn whole(
    client: &mut Client,
    user_id: &str,
    conversation_id: &str,
    count: usize,
) -> Result {
    let last = newest(client, user_id).await?.max_seqs.get(conversation_id).copied().unwrap_or(0);
    let mut next = std::collections::HashMap::<u32, u32>::new();
    let mut found = 0;
    let mut begin = 1;
    while begin <= last {
        let end = (begin + PAGE - 1).min(last);
        for marker in range(client, user_id, conversation_id, begin, end).await? {
            // A group also holds messages of the node itself.
            let Some(marker) = marker else { continue };
            let expected = next.entry(marker.sender).or_default();
            ensure!(
                marker.number == *expected,
                "message {} of session {} is stored instead of {expected}",
                marker.number,
                marker.sender
            );
            *expected += 1;
            found += 1;
        }
        begin = end + 1;
    }
    ensure!(found == count, "{found} messages are stored instead of {count}");
    Ok(())
}
