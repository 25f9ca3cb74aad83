//! One phone: a connection and what it keeps, handled as the native SDK handles them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::copy::Copy;
use super::tally::Tally;
use crate::node::unique;
use crate::{Client, Push, Result, Socket, Wire};

/// The native SDK gives up on an answer after this.
const PATIENCE: Duration = Duration::from_secs(10);

/// A device of a user.
pub(super) struct Phone {
    pub(super) client: Client,
    pub(super) copy: Copy,
    pub(super) tally: Arc<Tally>,
    socket: Option<Socket>,
    /// Pushed, not yet handled.
    backlog: Vec<Push>,
}

impl Phone {
    pub(super) fn new(client: Client, tally: Arc<Tally>) -> Self {
        Self { client, copy: Copy::default(), tally, socket: None, backlog: Vec::new() }
    }

    pub(super) fn user(&self) -> &str {
        &self.client.user_id
    }

    pub(super) fn is_online(&self) -> bool {
        self.socket.is_some()
    }

    /// Connects, and fetches what is new since the phone was last there.
    pub(super) async fn come(&mut self) -> Result {
        let socket = self.client.connect(Wire::GOB_GZIP).await?;
        self.socket = Some(socket);
        self.synchronise(&format!("come-{}", unique())).await
    }

    /// Goes away without a word; what was not handled yet is lost.
    pub(super) fn leave(&mut self) {
        if let Some(socket) = self.socket.take() {
            socket.cut();
        }
        self.backlog.clear();
    }

    /// Loses everything it keeps.
    pub(super) fn forget(&mut self) {
        self.copy = Copy::default();
    }

    /// Waits for something to be pushed; for ever if the phone is not connected. Nothing is lost if
    /// the future is dropped.
    pub(super) async fn wait(&mut self) {
        if !self.backlog.is_empty() {
            return;
        }
        let Some(socket) = &mut self.socket else { return std::future::pending().await };
        match socket.fill().await {
            Ok(()) => self.backlog.extend(socket.kept()),
            Err(error) => self.lost(&error),
        }
    }

    /// Reads whatever else has come, and handles everything that was pushed under one operation ID
    /// made of all of theirs.
    pub(super) async fn attend(&mut self) {
        self.read_on().await;
        let pushes = std::mem::take(&mut self.backlog);
        if pushes.is_empty() {
            return;
        }
        let mut ids = Vec::new();
        for push in &pushes {
            Tally::add(&self.tally.pushes);
            if let Push::Message { operation_id, .. } = push {
                self.tally.longest_pushed.fetch_max(operation_id.len(), Ordering::Relaxed);
                if ids.last() != Some(operation_id) {
                    ids.push(operation_id.clone());
                }
            }
        }
        let operation_id = match ids.len() {
            0 => format!("status-{}", unique()),
            1 => ids.swap_remove(0),
            _ => {
                Tally::add(&self.tally.batches);
                format!("Batch_{}", ids.join("$"))
            }
        };
        if let Err(error) = self.handle(&operation_id, pushes).await {
            self.lost(&error);
        }
    }

    /// Takes what has come already, without waiting.
    async fn read_on(&mut self) {
        while let Some(socket) = &mut self.socket
            && let Ok(filled) = tokio::time::timeout(Duration::ZERO, socket.fill()).await
        {
            if filled.is_err() {
                // Noticed at the next read.
                break;
            }
            let kept = socket.kept();
            self.backlog.extend(kept);
        }
    }

    /// The node has ended the connection: the phone comes back a moment later.
    pub(super) fn lost(&mut self, error: &anyhow::Error) {
        Tally::add(&self.tally.cut);
        self.tally.last_cut(format!("{}: {error:#}", self.user()));
        self.leave();
    }

    /// Calls a route while the connection is read on.
    pub(super) async fn rest(
        &mut self,
        operation_id: &str,
        path: &str,
        body: Value,
    ) -> Result<(i64, Value)> {
        self.tally.longest.fetch_max(operation_id.len(), Ordering::Relaxed);
        Tally::add(&self.tally.rest_calls);
        let began = Instant::now();
        let Client { rest, token, .. } = self.client.clone();
        let call = async move { rest.post(path, &token, operation_id, body.to_string()).await };
        let mut call = std::pin::pin!(call);
        let mut readable = true;
        let answer = loop {
            let Some(socket) = self.socket.as_mut().filter(|_| readable) else {
                break call.as_mut().await?;
            };
            tokio::select! {
                answer = call.as_mut() => break answer?,
                filled = socket.fill() => match filled {
                    Ok(()) => {
                        let kept = socket.kept();
                        self.backlog.extend(kept);
                    }
                    Err(_) => readable = false,
                }
            }
        };
        let took = began.elapsed();
        self.tally.answered(took);
        ensure!(took < PATIENCE, "{path} took {took:?}");
        let part = if answer.code == 0 { "data" } else { "errDlt" };
        Ok((answer.code, answer.body.get(part).cloned().unwrap_or_default()))
    }

    /// Calls a route that must succeed; an error is noted, and the phone lacks what it asked for.
    pub(super) async fn must(&mut self, operation_id: &str, path: &str, body: Value) -> Value {
        match self.rest(operation_id, path, body).await {
            Ok((0, data)) => data,
            Ok((code, detail)) => {
                self.tally.fault(format!("{path} answered {code}: {detail}"));
                Value::Null
            }
            Err(error) => {
                self.tally.fault(format!("{path}: {error:#}"));
                Value::Null
            }
        }
    }

    /// Sends a request over the connection and waits for its answer.
    pub(super) async fn ask<T: proto::Message + Default>(
        &mut self,
        operation_id: &str,
        opcode: i32,
        request: &impl proto::Message,
    ) -> Result<(i32, T)> {
        self.tally.longest.fetch_max(operation_id.len(), Ordering::Relaxed);
        Tally::add(&self.tally.gateway_requests);
        let began = Instant::now();
        let socket = self.socket.as_mut().context("not connected")?;
        let asked = socket.ask_as(operation_id, opcode, request.encode_to_vec()).await?;
        let answer = tokio::time::timeout(PATIENCE, socket.answer(&asked)).await;
        if answer.is_err() {
            self.tally.fault(format!("{opcode} took over {PATIENCE:?}"));
        }
        let answer = answer.with_context(|| format!("no answer to {opcode}"))??;
        self.backlog.extend(socket.kept());
        self.tally.answered(began.elapsed());
        Ok((answer.err_code, T::decode(answer.data.unwrap_or_default())?))
    }
}
