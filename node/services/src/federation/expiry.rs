//! What could not be given to another node for too long: it is given up, and whoever wrote it is
//! told.

use std::time::Duration;

use proto::federation::{EventKind, Refusal};
use proto::qualified::Domain;
use store::record::Queued;
use store::{outbox, schema};

use super::Trouble;
use crate::Services;
use crate::access::Caller;
use crate::day;
use crate::error::{Result, ServiceError};

/// Time between two looks.
const LOOK: Duration = Duration::from_secs(3_600);
/// Events that are given up in one transaction.
const TOGETHER: usize = 500;

/// Whether somebody waits for an event to arrive.
fn is_awaited(queued: &Queued) -> bool {
    let kind = EventKind::try_from(queued.kind.cast_signed());
    matches!(
        kind,
        Ok(EventKind::EventChat | EventKind::EventGroupSend | EventKind::EventFriendRequest)
    )
}

impl Services {
    /// Gives up now and then what has waited for too long.
    pub(super) fn expire_now_and_then(&self) {
        if self.settings().expire.is_zero() {
            return;
        }
        let services = self.clone();
        self.inner.runtime.spawn(async move {
            loop {
                if let Err(error) = services.expire_queued().await {
                    tracing::error!(%error, "what waits for other nodes is not looked at");
                }
                tokio::time::sleep(LOOK).await;
            }
        });
    }

    /// Gives up messages and friend requests that have waited for their node for longer than they
    /// may, and tells who wrote them; returns how many.
    pub async fn expire_queued(&self) -> Result<usize> {
        let span = self.settings().expire;
        if span.is_zero() {
            return Ok(0);
        }
        let before = self.now().saturating_sub(day::ms(span));
        let names: Vec<String> = {
            let view = self.store().view();
            let heads = outbox::heads(&view).map(|row| row.map(|(name, _)| name));
            heads.collect::<std::result::Result<_, _>>()?
        };
        let mut expired = 0;
        for name in names {
            let Ok(destination) = name.parse::<Domain>() else { continue };
            loop {
                let some = self.expire_some(&destination, before).await?;
                expired += some;
                if some < TOGETHER {
                    break;
                }
            }
        }
        Ok(expired)
    }

    async fn expire_some(&self, destination: &Domain, before: i64) -> Result<usize> {
        let mut old = Vec::new();
        {
            let view = self.store().view();
            let head = outbox::head(&view, destination.as_str())?;
            for row in outbox::queued(&view, destination.as_str(), head.acknowledged) {
                let (seq, queued) = row?;
                // They were queued in the order of their times.
                if queued.time >= before || old.len() == TOGETHER {
                    break;
                }
                if is_awaited(&queued) {
                    old.push(seq);
                }
            }
        }
        if old.is_empty() {
            return Ok(0);
        }
        let destination = destination.clone();
        let span = day::in_words(self.settings().expire);
        let reason = format!("{destination} could not be reached for {span}");
        let code = ServiceError::Unreachable(String::new()).code();
        self.change_to_make_room(&Caller::other_node(destination.as_str()), move |change| {
            for seq in &old {
                let key = (destination.as_str(), *seq);
                let Some(queued) = schema::OUTBOX.get(change.tx, key)? else { continue };
                let refusal = Refusal { seq: *seq, code, reason: reason.clone() };
                let told = change.attempt(|change| change.refused(&destination, &queued, &refusal));
                if let Err(Trouble::Later(error)) = told {
                    return Err(error.into());
                }
                // Its place in the stream stays.
                let kind = EventKind::EventNothing as u32;
                let (time, mark) = (queued.time, queued.mark);
                let nothing = Queued { kind, time, mark, ..Queued::default() };
                schema::OUTBOX.put(change.tx, key, &nothing);
            }
            Ok(old.len())
        })
        .await
    }
}
