//! Hosts on this machine with cables between them: network namespaces, for which one must be root.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

use crate::Result;

/// Hosts that exist until this is dropped.
pub(crate) struct Network {
    /// What the names of its hosts begin with, so that two networks are not confused.
    prefix: String,
    hosts: Vec<String>,
}

impl Network {
    pub(crate) fn new() -> Self {
        Self { prefix: format!("entente{}", std::process::id()), hosts: Vec::new() }
    }

    /// Adds a host, which passes on packets as a router does.
    pub(crate) fn add(&mut self, host: &str) -> Result {
        let name = self.name(host);
        run("ip", &["netns", "add", &name]).context("hosts need root and iproute2")?;
        self.hosts.push(host.to_owned());
        self.ip(host, "link set lo up")?;
        self.run(host, "sysctl -qw net.ipv4.ip_forward=1")
    }

    /// Lays a cable: each end is a host, the name of its interface, and its address with the length
    /// of the network's prefix.
    pub(crate) fn cable(&self, one: (&str, &str, &str), other: (&str, &str, &str)) -> Result {
        let ((host, interface, _), (peer, peers, _)) = (one, other);
        let (here, there) = (self.name(host), self.name(peer));
        let cable =
            format!("link add {interface} netns {here} type veth peer name {peers} netns {there}");
        run("ip", &cable.split(' ').collect::<Vec<_>>())?;
        for (host, interface, address) in [one, other] {
            self.ip(host, &format!("addr add {address} dev {interface}"))?;
            self.ip(host, &format!("link set {interface} up"))?;
        }
        Ok(())
    }

    /// Lays a cable from this machine itself to a host, to drive what runs there.
    pub(crate) fn cable_from_here(&self, host: &str, here: &str, there: &str) -> Result {
        // The name of an interface has at most 15 bytes.
        let outside = format!("e{}{host}", std::process::id());
        let name = self.name(host);
        let cable = format!("link add {outside} type veth peer name drive netns {name}");
        run("ip", &cable.split(' ').collect::<Vec<_>>())?;
        run("ip", &["addr", "add", here, "dev", &outside])?;
        run("ip", &["link", "set", &outside, "up"])?;
        self.ip(host, &format!("addr add {there} dev drive"))?;
        self.ip(host, "link set drive up")
    }

    /// Runs `ip` on a host.
    pub(crate) fn ip(&self, host: &str, words: &str) -> Result {
        self.run(host, &format!("ip {words}"))
    }

    fn run(&self, host: &str, words: &str) -> Result {
        let under = self.under(host);
        let words: Vec<&str> =
            under.iter().skip(1).map(String::as_str).chain(words.split(' ')).collect();
        run("ip", &words)
    }

    /// Adds to the packet filter of a host, in the language of nft.
    pub(crate) fn filter(&self, host: &str, rules: &str) -> Result {
        let mut nft = Command::new("ip")
            .args(["netns", "exec", &self.name(host), "nft", "-f", "-"])
            .stdin(Stdio::piped())
            .spawn()?;
        let mut input = nft.stdin.take().context("no input")?;
        input.write_all(rules.as_bytes())?;
        drop(input);
        ensure!(nft.wait()?.success(), "nft refused on {host}: {rules}");
        Ok(())
    }

    /// Packets that a named counter of a host's packet filter has seen.
    pub(crate) fn counted(&self, host: &str, counter: &str) -> Result<u64> {
        let words =
            ["netns", "exec", &self.name(host), "nft", "list", "counter", "ip", "way", counter];
        let output = Command::new("ip").args(words).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let mut words = text.split_whitespace().skip_while(|word| *word != "packets").skip(1);
        Ok(words.next().with_context(|| format!("no counter {counter} on {host}"))?.parse()?)
    }

    /// Words before those of a program that is to run on a host.
    pub(crate) fn under(&self, host: &str) -> Vec<String> {
        ["ip", "netns", "exec", &self.name(host)].map(str::to_owned).into()
    }

    fn name(&self, host: &str) -> String {
        format!("{}-{host}", self.prefix)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for host in &self.hosts {
            // Nothing is left to do if it cannot be removed.
            let _ = run("ip", &["netns", "del", &self.name(host)]);
        }
    }
}

fn run(program: &str, words: &[&str]) -> Result {
    let output = Command::new(program).args(words).output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {}: {error}", words.join(" "));
    Ok(())
}
