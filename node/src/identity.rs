//! Whether the keys of a data folder are those under which its node has federated.
//!
//! The file `identity.json` holds them; the database notes under which domain and key the node has
//! federated last. Other nodes know it by both, so a file that is lost, or is another one, is found
//! before anything is said in its name.

use anyhow::bail;
use federation::identity::Identity;
use federation::{Domain, peer_id};
use store::record::FederatedAs;
use store::{Store, StoreError, Tx, View, schema};

use crate::config::Config;
use crate::damage::Damage;
use crate::data_folder::DataFolder;

/// As whom the node has federated, as far as its data tells; `None`: it has not.
pub(crate) fn federated_as(view: &View<'_>) -> Result<Option<FederatedAs>, StoreError> {
    if let Some(last) = schema::FEDERATED_AS.get(view, 0)? {
        return Ok(Some(last));
    }
    // Data of before this was noted: something was said to other nodes, or heard of them.
    let said = schema::OUTBOX_HEADS.scan(view, ()).next().transpose()?.is_some();
    let heard = schema::CURSORS.scan(view, ()).next().transpose()?.is_some();
    Ok((said || heard).then(FederatedAs::default))
}

/// Refuses keys that are not those of this node.
pub(crate) fn check(folder: &DataFolder, config: &Config, store: &Store) -> anyhow::Result<()> {
    let found = folder.identity_if_there()?;
    let Some(last) = federated_as(&store.view())? else { return Ok(()) };
    let domain = &config.federation.domain;
    if !last.domain.is_empty() && !domain.is_empty() && *domain != last.domain {
        let found = found.and_then(|identity| identity.domain());
        if found.is_some_and(|found| found.as_str() == domain) {
            let other =
                format!("it is of {domain}, and this node has federated as {}", last.domain);
            return Err(Damage::IdentityOfAnother { file: folder.identity_file(), other }.into());
        }
        bail!(
            "the data folder has federated as {}, which cannot be changed: federation.domain = \
             {domain:?} is of another node, with a data folder of its own",
            last.domain
        );
    }
    of_this_node(folder, &last)
}

fn of_this_node(folder: &DataFolder, last: &FederatedAs) -> anyhow::Result<()> {
    let file = folder.identity_file();
    let Some(identity) = folder.identity_if_there()? else {
        return Err(Damage::IdentityMissing { file, domain: last.domain.clone() }.into());
    };
    if last.key.is_empty() || identity.keys().iter().any(|key| key.public_key == last.key) {
        return Ok(());
    }
    let key = last.key.as_slice().try_into().ok().and_then(|key| peer_id::to_text(key).ok());
    let other = format!(
        "it does not hold the key {} under which the node has federated last",
        key.unwrap_or_default()
    );
    Err(Damage::IdentityOfAnother { file, other }.into())
}

/// Makes new keys for a node that has lost its own; the domain stays.
pub(crate) fn renew(folder: &DataFolder, config: &mut Config, store: &Store) -> anyhow::Result<()> {
    let file = folder.identity_file();
    let Some(last) = federated_as(&store.view())? else {
        bail!("--new-identity is for keys that are lost, and this node has not federated yet");
    };
    let domain = &mut config.federation.domain;
    if domain.is_empty() {
        domain.clone_from(&last.domain);
    }
    if domain.is_empty() {
        bail!("--new-identity needs --domain: the name under which the node has federated");
    }
    if !last.domain.is_empty() && *domain != last.domain {
        bail!("the data folder has federated as {}, which cannot be changed", last.domain);
    }
    if of_this_node(folder, &last).is_ok() {
        bail!(
            "--new-identity is for keys that are lost, and {} is in order: leave the option out",
            file.display()
        );
    }
    if let Some(aside) = folder.set_aside(&file)? {
        tracing::warn!(kept = %aside.display(), "the identity file is another one from now on");
    }
    let domain: Domain = domain.parse()?;
    let mut identity = folder.identity()?;
    identity.speak_for(&domain);
    folder.replace_identity(&identity)?;
    let now = as_of(&domain, &identity);
    store.transact_blocking(move |tx| put(tx, &now))?;
    tracing::warn!(%domain, "new keys: other nodes have to learn them");
    Ok(())
}

fn as_of(domain: &Domain, identity: &Identity) -> FederatedAs {
    FederatedAs { domain: domain.to_string(), key: identity.public_key().to_vec() }
}

fn put(tx: &mut Tx<'_>, now: &FederatedAs) -> Result<(), StoreError> {
    schema::FEDERATED_AS.put(tx, 0, now);
    Ok(())
}

/// Notes as whom the node federates from now on.
pub(crate) async fn note(
    store: &Store,
    domain: &Domain,
    identity: &Identity,
) -> Result<(), StoreError> {
    let now = as_of(domain, identity);
    if schema::FEDERATED_AS.get(&store.view(), 0)?.as_ref() == Some(&now) {
        return Ok(());
    }
    // Needed to start, and somebody may start the node to delete.
    store.transact_to_make_room(move |tx| put(tx, &now)).await
}
