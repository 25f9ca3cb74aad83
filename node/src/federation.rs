//! Starting to federate.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use entente::bridge::federate;
use federation::transport::{Endpoint, Limits, Quic, Reach};
use federation::{Federation, Settings, Timing, peer_id};
use services::{Environment, Services};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::data_folder::DataFolder;
use crate::fetch;
use crate::identity;

/// Links of other nodes that wait to be served.
const WAITING_LINKS: usize = 256;

/// Starts to federate if a domain is configured.
pub(crate) async fn start(
    folder: &DataFolder,
    config: &Config,
    services: &Services,
    environment: &Environment,
    stop: &CancellationToken,
) -> anyhow::Result<Option<Federation>> {
    let Some(domain) = services.settings().domain.clone() else { return Ok(None) };
    let mut identity = folder.identity()?;
    let known = identity.domain().as_ref() == Some(&domain);
    identity.speak_for(&domain);
    let listen = address(&config.federation.listen).await?;
    let (links, incoming) = mpsc::channel(WAITING_LINKS);
    let given = config.federation.addresses.iter();
    let addresses =
        given.map(|address| peer_id::check_address(address)).collect::<Result<_, _>>()?;
    let relay_for = config.federation.relay_for.iter().map(|id| peer_id::parse(id));
    let reach = Reach {
        relays: config.federation.relays.clone(),
        relay_for: relay_for.collect::<Result<_, _>>().context("federation.relay_for")?,
        addresses,
    };
    let endpoint = Endpoint { listen, limits: Limits::default(), reach };
    let quic = Quic::start(&identity, endpoint, links, stop.clone())
        .await
        .with_context(|| format!("cannot listen on federation.listen = {listen}"))?;
    if !known {
        // The folder is bound to the domain only once the node speaks for it.
        folder.replace_identity(&identity)?;
    }
    identity::note(services.store(), &domain, &identity).await?;
    let addresses = quic.addresses().to_vec();
    let settings = Settings {
        domain,
        addresses,
        policies: config.federation.policies()?,
        first_use: config.federation.trust_first_use,
        budget: config.federation.budget(),
        timing: Timing::default(),
    };
    let (clock, links) = (Arc::clone(&environment.clock), (Arc::new(quic) as _, incoming));
    let fetch = Some(fetch::https(&config.federation.ca)?);
    let federation =
        federate(services, clock, settings, identity, fetch, links, stop.clone()).await?;
    Ok(Some(federation))
}

async fn address(listen: &str) -> anyhow::Result<SocketAddr> {
    let mut found = tokio::net::lookup_host(listen)
        .await
        .with_context(|| format!("federation.listen = {listen}"))?;
    match found.next() {
        Some(address) => Ok(address),
        None => bail!("federation.listen = {listen} is no address"),
    }
}
