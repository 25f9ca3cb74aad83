//! Open files: each connection is one, and the store must never want for one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files kept for the database, the logs and the control socket.
const OWN: usize = 192;
/// Files that each port may use at least, however few there are.
const LEAST: usize = 16;
/// Connections that may be logging in at the same time.
const HANDSHAKES: usize = 4_096;

/// Connections that each port may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Connections {
    /// Of the REST API.
    pub(crate) api: usize,
    /// Logged in at the gateway.
    pub(crate) ws: usize,
    /// At the gateway and not logged in yet.
    pub(crate) handshakes: usize,
}

impl Connections {
    /// What was wanted, or as much of it as `files` allow; `None`: as many as are wanted.
    pub(crate) fn within(files: Option<u64>, api: usize, ws: usize) -> Self {
        let wanted = Self { api, ws, handshakes: HANDSHAKES };
        let Some(files) = files.and_then(|files| usize::try_from(files).ok()) else {
            return wanted;
        };
        let free = files.saturating_sub(OWN);
        // A request may read or write a file besides its connection.
        let few = (free / 32).max(512.min(free / 8)).max(LEAST);
        let (api, handshakes) = (api.min(few), HANDSHAKES.min(few));
        let ws = ws.min(free.saturating_sub(2 * api + handshakes)).max(LEAST);
        Self { api, ws, handshakes }
    }
}

/// Lets the node open as many files as its hard limit allows, for the usual soft limit is 1,024;
/// returns how many that is, `None` if there is no limit.
pub(crate) fn raise_limit() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return current;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        Err(error) => {
            tracing::warn!(%error, "cannot raise the limit of open files");
            current
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_the_node_its_own_files() {
        let wanted = Connections { api: 10_000, ws: 100_000, handshakes: 4_096 };
        let within = |files| Connections::within(files, wanted.api, wanted.ws);
        assert_eq!(within(None), wanted);
        assert_eq!(within(Some(1 << 20)), wanted);
        for files in [512, 1_024, 4_096, 20_000, 100_000] {
            let Connections { api, ws, handshakes } = within(Some(files));
            assert!(2 * api + ws + handshakes + OWN <= files as usize, "{files}");
            assert!(ws >= files as usize * 3 / 8, "{ws} of {files}");
        }
        let least = Connections { api: LEAST, ws: LEAST, handshakes: LEAST };
        assert_eq!(within(Some(64)), least);
    }
}
