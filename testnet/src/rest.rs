use anyhow::{Context as _, ensure};
use serde::Serialize;
use serde_json::{Value, json};

use crate::Result;
use crate::node::unique;
use crate::socket::{Socket, Wire};

/// Addresses of a node and an HTTP client.
#[derive(Clone)]
pub struct Rest {
    http: reqwest::Client,
    api: String,
    ws: String,
}

/// An answer of the REST API as it came.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// `errCode`, -1 if the body is no envelope.
    pub code: i64,
    /// The whole body; `null` if it is no JSON.
    pub body: Value,
    /// The body as text.
    pub text: String,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Rest {
    /// A node at two base URLs, such as `http://127.0.0.1:10002` and `ws://127.0.0.1:10001`.
    pub fn new(api: String, ws: String) -> Self {
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
        Self::with_client(client.build().unwrap_or_default(), api, ws)
    }

    /// The same with an HTTP client of its own, which may trust a certificate, say.
    pub fn with_client(http: reqwest::Client, api: String, ws: String) -> Self {
        Self { http, api, ws }
    }

    /// Base URL of the REST API.
    pub fn api(&self) -> &str {
        &self.api
    }

    /// Base URL of the gateway.
    pub fn ws(&self) -> &str {
        &self.ws
    }

    /// The HTTP client.
    pub fn http(&self) -> &reqwest::Client {
        &self.http
    }

    pub(crate) async fn is_up(&self) -> bool {
        self.http.get(&self.api).send().await.is_ok()
    }

    /// Posts `body` to `path`; empty `token` and `operation_id` are left out.
    pub async fn post(
        &self,
        path: &str,
        token: &str,
        operation_id: &str,
        body: String,
    ) -> Result<Answer> {
        let mut request = self.http.post(format!("{}{path}", self.api)).body(body);
        for (name, value) in [("token", token), ("operationID", operation_id)] {
            if !value.is_empty() {
                request = request.header(name, value);
            }
        }
        let response = request.send().await?;
        let status = response.status().as_u16();
        let headers = response
            .headers()
            .iter()
            .map(|(n, v)| (n.to_string(), String::from_utf8_lossy(v.as_bytes()).into_owned()))
            .collect();
        let text = response.text().await?;
        let body: Value = serde_json::from_str(&text).unwrap_or_default();
        let code = body.get("errCode").and_then(Value::as_i64).unwrap_or(-1);
        Ok(Answer { status, code, body, text, headers })
    }
}

/// An app admin.
#[derive(Clone)]
pub struct Admin {
    /// The admin's own client.
    pub client: Client,
}

impl Admin {
    /// Logs in with the secret.
    pub async fn log_in(rest: Rest, user_id: &str, secret: &str) -> Result<Self> {
        let body = json!({ "secret": secret, "userID": user_id });
        let answer = rest.post("/auth/get_admin_token", "", "log-in", body.to_string()).await?;
        ensure!(answer.code == 0, "log in: {}", answer.text);
        let token = answer.body["data"]["token"].as_str().context("no token")?.to_owned();
        Ok(Self { client: Client { rest, user_id: user_id.into(), platform_id: 10, token } })
    }

    /// Registers users named after their IDs.
    pub async fn register(&self, user_ids: &[&str]) -> Result {
        let users: Vec<Value> = user_ids
            .iter()
            .map(|id| json!({ "userID": id, "nickname": id, "faceURL": format!("face-{id}") }))
            .collect();
        self.client.call("/user/user_register", json!({ "users": users })).await?;
        Ok(())
    }

    /// A registered user's device with a new token.
    pub async fn client(&self, user_id: &str, platform_id: i32) -> Result<Client> {
        let body = json!({ "userID": user_id, "platformID": platform_id });
        let data = self.client.call("/auth/get_user_token", body).await?;
        let token = data["token"].as_str().context("no token")?.to_owned();
        let rest = self.client.rest.clone();
        Ok(Client { rest, user_id: user_id.into(), platform_id, token })
    }

    /// Registers a user and returns a device (platform Web).
    pub async fn user(&self, user_id: &str) -> Result<Client> {
        self.register(&[user_id]).await?;
        self.client(user_id, 5).await
    }

    /// Registers users and returns a device of each.
    pub async fn users<const N: usize>(&self, user_ids: [&str; N]) -> Result<[Client; N]> {
        self.register(&user_ids).await?;
        let mut clients = Vec::new();
        for user_id in user_ids {
            clients.push(self.client(user_id, 5).await?);
        }
        clients.try_into().map_err(|_| anyhow::anyhow!("a client is missing"))
    }
}

/// One device of a user.
#[derive(Clone)]
pub struct Client {
    /// Its node.
    pub rest: Rest,
    /// Its user.
    pub user_id: String,
    /// Its platform.
    pub platform_id: i32,
    /// Its token.
    pub token: String,
}

impl Client {
    /// Calls a route and returns the answer, whatever it is.
    pub async fn post(&self, path: &str, body: impl Serialize) -> Result<Answer> {
        let operation_id = format!("op-{}", unique());
        self.rest.post(path, &self.token, &operation_id, serde_json::to_string(&body)?).await
    }

    /// Calls a route that must succeed; returns `data`, `null` if there is none.
    pub async fn call(&self, path: &str, body: impl Serialize) -> Result<Value> {
        let answer = self.post(path, body).await?;
        ensure!(answer.code == 0, "{path}: {}", answer.text);
        Ok(answer.body.get("data").cloned().unwrap_or_default())
    }

    /// Calls a route that must be refused; returns the error code.
    pub async fn refused(&self, path: &str, body: impl Serialize) -> Result<i64> {
        let answer = self.post(path, body).await?;
        ensure!(answer.code != 0, "{path} was not refused: {}", answer.text);
        Ok(answer.code)
    }

    /// Logs in on a socket.
    pub async fn connect(&self, wire: Wire) -> Result<Socket> {
        Socket::connect(self, wire).await
    }
}
