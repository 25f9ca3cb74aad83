//! Refusals in the log. Others can cause as many as they like, so only some of a kind and of an address
//! are written, and at the end of a minute how many there were besides.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Target of events that tell of a refusal.
const TARGET: &str = "refused";
/// Time after which counting begins anew.
const WINDOW: Duration = Duration::from_secs(60);
/// Refusals of a kind that are written: of an address, and of all.
const WRITTEN_OF_ADDRESS: u64 = 5;
const WRITTEN: u64 = 60;
/// Addresses that are told apart in a window; the others count as one.
const ADDRESSES: usize = 4_096;

/// What was refused in this window.
#[derive(Clone, Default)]
pub(crate) struct Refusals(Arc<Mutex<HashMap<String, Kind>>>);

/// Refusals of one kind. The kinds are words in the program, so there are few.
#[derive(Default)]
struct Kind {
    written: u64,
    unwritten: u64,
    addresses: HashMap<String, u64>,
}

impl Refusals {
    /// Counts one; returns whether it is written.
    fn count(&self, kind: String, address: &str) -> bool {
        let mut kinds = self.0.lock();
        let kind = kinds.entry(kind).or_default();
        let mut address = block(address);
        if kind.addresses.len() >= ADDRESSES && !kind.addresses.contains_key(&address) {
            address = String::new();
        }
        // What has no address is the same thing again and again.
        let most = if address.is_empty() { 1 } else { WRITTEN_OF_ADDRESS };
        let count = kind.addresses.entry(address).or_default();
        *count += 1;
        let is_written = *count <= most && kind.written < WRITTEN;
        *if is_written { &mut kind.written } else { &mut kind.unwritten } += 1;
        is_written
    }

    /// Says at the end of each minute what was not written, until `stop`.
    pub(crate) async fn sum_up(self, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(WINDOW)).await.is_some() {
            self.close_window();
        }
    }

    fn close_window(&self) {
        let kinds = std::mem::take(&mut *self.0.lock());
        for (kind, Kind { unwritten, addresses, .. }) in kinds {
            if unwritten == 0 {
                continue;
            }
            let most = addresses.iter().max_by_key(|(_, count)| **count);
            let most = most.map(|(address, _)| address.as_str()).unwrap_or_default();
            let addresses = addresses.len();
            tracing::warn!(kind, addresses, most, "and {unwritten} more in the last minute");
        }
    }
}

/// The addresses that count as one; the peer IDs of nodes each by itself.
fn block(address: &str) -> String {
    let parsed = address.parse().map(client_api::block);
    parsed.map_or_else(|_| address.to_owned(), |block| block.to_string())
}

impl<S: Subscriber> Layer<S> for Refusals {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        if event.metadata().target() != TARGET {
            return true;
        }
        let mut seen = Seen::default();
        event.record(&mut seen);
        self.count(seen.kind, &seen.address)
    }
}

/// What an event says that counts here.
#[derive(Default)]
struct Seen {
    kind: String,
    address: String,
}

impl Visit for Seen {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "kind" => value.clone_into(&mut self.kind),
            "address" => value.clone_into(&mut self.address),
            _ => {}
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn written(refusals: &Refusals, address: &str, times: usize) -> usize {
        (0..times).filter(|_| refusals.count("wrong secret".into(), address)).count()
    }

    #[test]
    fn a_few_of_each_address_are_written() {
        let refusals = Refusals::default();
        assert_eq!(written(&refusals, "192.0.2.1", 400), 5);
        assert_eq!(written(&refusals, "192.0.2.2", 3), 3);
        assert_eq!(written(&refusals, "2001:db8::1", 4), 4);
        assert_eq!(written(&refusals, "2001:db8::2", 4), 1, "the same network");
        assert_eq!(written(&refusals, "", 4), 1);
        refusals.close_window();
        assert_eq!(written(&refusals, "192.0.2.1", 400), 5);
    }

    #[test]
    fn many_addresses_take_neither_memory_nor_the_log() {
        let refusals = Refusals::default();
        let all = (0..100_000_u32).map(|n| IpAddr::V4(n.into()).to_string());
        let count: usize = all.map(|address| written(&refusals, &address, 1)).sum();
        assert_eq!(count as u64, WRITTEN);
        let kinds = refusals.0.lock();
        assert_eq!(kinds["wrong secret"].addresses.len(), ADDRESSES + 1);
        assert_eq!(kinds["wrong secret"].unwritten, 100_000 - WRITTEN);
    }
}
