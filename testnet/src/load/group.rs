//! A group: few write, everybody who is online gets it.

use anyhow::Context as _;
use serde_json::json;
use tokio::sync::mpsc;

use super::chat::{Loop, connect};
use super::drive::{Pace, Shared, Sizes, Work};
use super::openim::Login;
use super::peer::To;
use super::report::Report;
use super::run::{Cast, Span, run};
use super::stage::Stage;
use super::text::Texts;
use super::{pacer, population};
use crate::Result;

/// Members invited by one request.
const INVITED_AT_ONCE: usize = 500;
/// Members who write.
const WRITERS: usize = 10;

/// Writes into a group of `members`, as fast as acknowledged and then at a fixed rate.
pub(crate) async fn group(stage: &Stage<'_>, members: usize) -> Result<Vec<Report>> {
    let Stage { target, options, .. } = stage;
    let online = members.min(options.online);
    stage.says("making the group");
    let (group_id, users) = make(stage, members, online).await?;
    // Every message costs as many pushes as there are members online.
    let rate = (options.rate / u32::try_from(online)?).max(2);
    let mut reports = Vec::new();
    for pace in [Loop::Closed(1), Loop::Open(rate)] {
        stage.says("connecting");
        let clients = connect(target, &users, options.wire()).await?;
        let shared = Shared::new(options.messages);
        let texts = Texts::new(1);
        let mut arrivals = Vec::new();
        let mut sessions = Vec::with_capacity(online);
        for (number, client) in (0_u32..).zip(clients) {
            let pace = match pace {
                _ if number as usize >= WRITERS => Pace::Silent,
                Loop::Closed(window) => Pace::Window(window),
                Loop::Open(_) => {
                    let (tell, told) = mpsc::unbounded_channel();
                    arrivals.push(tell);
                    Pace::Arrivals(told)
                }
            };
            let work = Work {
                number,
                to: To::Group(group_id.clone()),
                reaches: online as u64 - 1,
                pace,
                sizes: Sizes::Fixed(options.content),
                texts: texts.fork(number.into()),
            };
            sessions.push((client, work));
        }
        let name =
            format!("group of {members}, {online} online, {} bytes, {pace}", options.content);
        let mut report = Report::new(name, target);
        let pacer = match pace {
            Loop::Open(rate) => Some(pacer::start(rate, arrivals, shared.clone())),
            Loop::Closed(_) => None,
        };
        let cast = Cast { sessions, shared };
        run(target, cast, Span::of(options), stage.progress, &mut report).await?;
        pacer::join(pacer)?;
        reports.push(report);
    }
    Ok(reports)
}

/// A new group with so many members, and logins of those who will be online.
pub(crate) async fn make(
    stage: &Stage<'_>,
    members: usize,
    online: usize,
) -> Result<(String, Vec<Login>)> {
    let ids = population::names(members)?;
    population::register(stage.target, &ids).await?;
    let admin = stage.target.admin.as_ref().context("the relay has no groups")?;
    let (owner, others) = ids.split_first().context("a group needs an owner")?;
    let (first, rest) = others.split_at(others.len().min(INVITED_AT_ONCE));
    let made = admin
        .client
        .call(
            "/group/create_group",
            json!({
                "ownerUserID": owner,
                "memberUserIDs": first,
                "groupInfo": { "groupName": "load", "groupType": 2 },
            }),
        )
        .await?;
    let group_id = made["groupInfo"]["groupID"].as_str().context("no groupID")?.to_owned();
    for some in rest.chunks(INVITED_AT_ONCE) {
        let body = json!({ "groupID": group_id, "reason": "", "invitedUserIDs": some });
        admin.client.call("/group/invite_user_to_group", body).await?;
        stage.progress.tick();
    }
    let ids = ids.into_iter().take(online).collect();
    Ok((group_id, population::log_in(stage.target, ids).await?))
}
