//! Playing one seed: act, compare, act again.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use proto::sdkws::MsgData;

use super::action::{Action, Chat, choose, follow};
use super::content::{content, seen_of, seq_carried, text_of};
use super::copy::Copies;
use super::device::Device;
use super::expected::{Outcome, Seen, State, kind};
use super::message::Words;
use super::request::{expect, request};
use super::world::{Arrival, World};
use crate::Result;
use crate::random::Random;

/// Actions between two looks of some users at everything that they can read; in the end all look.
const LOOK_EVERY: usize = 40;
/// In between one user looks at the lists, after one action of so many.
const PEEK_ONCE_IN: usize = 12;
/// Messages that are sent side by side have times one after the other; nothing else may have them.
const LEAST_MS: i64 = 16;

/// Whether the node of a seed hides from new members what was said before.
pub(super) fn hides_history(seed: u64) -> bool {
    seed.is_multiple_of(3)
}

/// Plays a seed of `steps` actions; an error says where the world and the model part.
pub(super) async fn play<W: World>(world: W, seed: u64, steps: usize, trace: bool) -> Result {
    let mut player = Player {
        world,
        state: State { hides_history: hides_history(seed), ..State::default() },
        random: Random::new(seed),
        messages: 0,
        groups: 0,
        last: BTreeMap::new(),
        copies: BTreeMap::new(),
    };
    let mut next = None;
    for step in 0..steps {
        let action = match next.take() {
            Some(action) => action,
            None => choose(&mut player.random, &player.state, W::PAUSED),
        };
        if trace {
            say(&format!("{step}: {action:?}"));
        }
        player.state.step = step as i64 + 1;
        let done = player.act(&action).await;
        done.with_context(|| format!("step {step}, {action:?}"))?;
        next = follow(&mut player.random, &player.state, &action);
        let last = step + 1 == steps;
        let looked = if (step + 1) % LOOK_EVERY == 0 || last {
            player.look(last).await
        } else if player.random.once_in(PEEK_ONCE_IN) {
            player.peek().await
        } else {
            Ok(())
        };
        looked.with_context(|| format!("looking after step {step}"))?;
    }
    player.world.end().await
}

#[expect(clippy::print_stdout, reason = "asked for with --trace")]
fn say(line: &str) {
    println!("{line}");
}

pub(super) struct Player<W> {
    pub(super) world: W,
    pub(super) state: State,
    pub(super) random: Random,
    messages: u64,
    groups: u64,
    /// The last message of each device, and where it went.
    last: BTreeMap<Device, (MsgData, Chat)>,
    /// What devices have of the lists.
    pub(super) copies: BTreeMap<Device, Copies>,
}

impl<W: World> Player<W> {
    async fn act(&mut self, action: &Action) -> Result {
        // Time passes in any case; nothing may depend on two things having the same.
        let ms = LEAST_MS + self.random.below(40) as i64;
        self.world.pass(ms);
        self.state.now += ms;
        let outcome = match action {
            Action::Send(devices, to) => return self.send(devices, to).await,
            Action::Carry { device, chat, kind, seq } => {
                return self.carry(*device, chat, *kind, *seq).await;
            }
            Action::Repeat(device) => {
                let Some((message, to)) = self.last.get(device).cloned() else { return Ok(()) };
                return self.deliver(vec![(*device, message)], &to).await;
            }
            Action::Pass(ms) => {
                self.world.pass(*ms);
                self.state.now += ms;
                Outcome::default()
            }
            Action::LogIn(device) => {
                if !self.world.log_in(*device).await? {
                    self.state.cut(*device);
                }
                self.state.log_in(*device)
            }
            Action::Cut(device) => {
                self.world.cut(*device).await?;
                self.state.cut(*device);
                Outcome::default()
            }
            Action::Return(device) => {
                let back = self.world.connect(*device).await?;
                let counts = self.state.comes_back(*device);
                ensure!(back == counts, "connected: {back} instead of {counts}");
                Outcome::default()
            }
            Action::ReturnStale(device) => {
                let back = self.world.connect_stale(*device).await?;
                ensure!(back != Some(true), "an old token connects");
                Outcome::default()
            }
            Action::ForceLogout(device) => {
                self.world.force_logout(*device).await?;
                self.state.force_logout(*device)
            }
            Action::Restart => {
                self.world.restart().await?;
                self.state.restart();
                Outcome::default()
            }
            Action::Sync(device) => {
                self.sync(*device).await?;
                Outcome::default()
            }
            Action::Forget(device) => {
                self.copies.remove(device);
                self.sync(*device).await?;
                Outcome::default()
            }
            action => return self.call(action).await,
        };
        self.compare(&outcome).await
    }

    /// Carries out what is a call of the REST API.
    async fn call(&mut self, action: &Action) -> Result {
        if matches!(action, Action::CreateGroup { .. }) {
            self.groups += 1;
        }
        let new_group = format!("g{}", self.groups);
        let (by, path, body) = request(action, &new_group)?;
        let (code, data) = self.world.call(by, path, body).await?;
        let outcome = expect(&mut self.state, action, &new_group);
        ensure!(code == outcome.code, "code {code} instead of {}: {data}", outcome.code);
        self.compare(&outcome).await
    }

    /// Sends a new message from each device.
    async fn send(&mut self, devices: &[Device], to: &Chat) -> Result {
        let mut messages = Vec::new();
        for device in devices {
            let mut message = self.message(*device, to, kind::TEXT);
            message.content = content(kind::TEXT, &self.text(), None).into();
            self.last.insert(*device, (message.clone(), to.clone()));
            messages.push((*device, message));
        }
        self.deliver(messages, to).await
    }

    /// Sends a message that carries the one at `seq`.
    async fn carry(&mut self, device: Device, to: &Chat, kind: i32, seq: i64) -> Result {
        let mut message = self.message(device, to, kind);
        let conversation = to.conversation(device.user);
        let carried = self.state.quotable(device.user, &conversation, seq);
        let carried = carried.map(|entry| (seq, entry));
        message.content = content(kind, &self.text(), carried).into();
        self.last.insert(device, (message.clone(), to.clone()));
        self.deliver(vec![(device, message)], to).await
    }

    /// The text of the newest message.
    fn text(&self) -> String {
        format!("text {}", self.messages)
    }

    /// A new message, still empty.
    fn message(&mut self, device: Device, to: &Chat, content_type: i32) -> MsgData {
        self.messages += 1;
        let mut message = MsgData {
            send_id: device.user.id(),
            sender_platform_id: device.platform,
            client_msg_id: format!("{:032x}", self.messages),
            session_type: 1,
            msg_from: 100,
            content_type,
            create_time: 1,
            status: 1,
            ..MsgData::default()
        };
        match to {
            Chat::Pair(user) => message.recv_id = user.id(),
            Chat::Group(group) => {
                message.group_id.clone_from(group);
                message.session_type = 3;
            }
        }
        message
    }

    async fn deliver(&mut self, messages: Vec<(Device, MsgData)>, to: &Chat) -> Result {
        for (device, _) in &messages {
            ensure!(self.state.is_online(*device), "{device} is not online");
        }
        let codes = self.world.send(messages.clone()).await?;
        let mut stored = Vec::new();
        for ((device, message), code) in messages.into_iter().zip(codes) {
            let wanted = self.state.may_send(device.user, to);
            ensure!(code == wanted, "{device}: code {code} instead of {wanted}");
            if code == 0 && !self.state.is_stored(&message.client_msg_id) {
                stored.push((device, message));
            }
        }
        // Sent side by side, they may be stored in any order: in the one that was told.
        let arrivals = self.world.settle().await?;
        let place = |id: &str| {
            let all = arrivals.iter().flat_map(|(_, arrivals)| arrivals);
            all.filter_map(|arrival| match arrival {
                Arrival::Message(_, message) if message.client_msg_id == id => Some(message.seq),
                _ => None,
            })
            .next()
        };
        stored.sort_by_key(|(_, message)| place(&message.client_msg_id));
        let mut outcome = Outcome::default();
        for (device, message) in stored {
            let words = Words {
                client_msg_id: message.client_msg_id.clone(),
                kind: message.content_type,
                text: text_of(&message),
                carries: seq_carried(&message),
            };
            self.state.send(&mut outcome, device.user, to, words);
        }
        self.compare_with(&outcome, arrivals)
    }

    async fn compare(&mut self, outcome: &Outcome) -> Result {
        let arrivals = self.world.settle().await?;
        self.compare_with(outcome, arrivals)
    }

    /// Compares what came to each device with what had to.
    fn compare_with(&self, outcome: &Outcome, arrivals: Vec<(Device, Vec<Arrival>)>) -> Result {
        let mut wanted: BTreeMap<Device, Vec<Seen>> = BTreeMap::new();
        for device in self.state.online() {
            let seen = outcome.seen.iter().filter(|(users, _)| users.contains(&device.user));
            wanted.insert(device, seen.map(|(_, seen)| seen.clone()).collect());
        }
        let mut came: BTreeMap<Device, Vec<Seen>> = BTreeMap::new();
        let mut kicked = Vec::new();
        for (device, arrivals) in arrivals {
            let seen = came.entry(device).or_default();
            for arrival in arrivals {
                match arrival {
                    Arrival::Message(conversation, message) => {
                        seen.push(seen_of(conversation, &message));
                    }
                    Arrival::Kicked => kicked.push(device),
                }
            }
        }
        ensure!(kicked == outcome.kicked, "kicked {kicked:?} instead of {:?}", outcome.kicked);
        came.retain(|device, seen| !seen.is_empty() || wanted.contains_key(device));
        for (device, wanted) in &mut wanted {
            let came = came.remove(device).unwrap_or_default();
            in_order(&came).with_context(|| device.to_string())?;
            let mut sorted = came;
            sorted.sort();
            wanted.sort();
            ensure!(sorted == *wanted, "{device} got {sorted:#?} instead of {wanted:#?}");
        }
        ensure!(came.is_empty(), "got by devices that are not there: {came:?}");
        Ok(())
    }
}

/// Within each conversation, what has a seq must come in the order of the seqs.
fn in_order(seen: &[Seen]) -> Result {
    let mut last: BTreeMap<&str, i64> = BTreeMap::new();
    for Seen { conversation, seq, .. } in seen.iter().filter(|seen| seen.seq != 0) {
        let before = last.insert(conversation, *seq).unwrap_or(0);
        ensure!(before < *seq, "{conversation}: seq {seq} came after {before}");
    }
    Ok(())
}
