//! Tokens: issuing, checking, kicking.

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Validation};
use proto::OperationId;
use proto::auth::{
    ForceLogoutReq, ForceLogoutResp, GetAdminTokenReq, GetAdminTokenResp, GetUserTokenReq,
    GetUserTokenResp, ParseTokenReq, ParseTokenResp,
};
use proto::qualified::is_remote;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use store::record::TokenState;
use store::{Read, Tx, schema};

use crate::access::Caller;
use crate::error::{Result, ServiceError};
use crate::{Services, platform};

const NORMAL: i32 = 0;
const KICKED: i32 = 2;

/// Seconds by which `iat` is put back, so that clocks may differ a little.
const BACKDATED_SECONDS: i64 = 5;
/// Milliseconds for which a replaced admin token still works.
const ADMIN_GRACE_MS: i64 = 5 * 60 * 1_000;
/// Accounts from this level on do not log in.
const NOTIFICATION_ACCOUNT: i32 = 3;

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Its user.
    #[serde(rename = "UserID", default)]
    pub user_id: String,
    /// Its platform.
    #[serde(rename = "PlatformID", default)]
    pub platform_id: i32,
    /// Unix seconds at which it expires.
    pub exp: i64,
    /// Unix seconds from which it is valid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nbf: Option<i64>,
    /// Unix seconds at which it was issued.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iat: Option<i64>,
}

impl Services {
    /// Who a token stands for, if the node holds it and it is in force.
    pub fn check_token(&self, token: &str, operation_id: &OperationId) -> Result<Caller> {
        let claims = self.claims(token)?;
        let view = self.store().view();
        self.must_hold(&view, &claims, token)?;
        Ok(Caller {
            is_admin: self.settings().is_admin(&claims.user_id),
            user_id: claims.user_id,
            platform_id: claims.platform_id,
            operation_id: operation_id.clone(),
        })
    }

    /// Whether the node holds a token, in force or not.
    pub fn holds_token(&self, token: &str) -> bool {
        let claims = token.split('.').nth(1).and_then(decode_part::<Claims>);
        claims.is_some_and(|claims| {
            let platform = claims.platform_id.cast_unsigned();
            let key = (claims.user_id.as_str(), platform, &*digest(token));
            schema::TOKENS.contains(&self.store().view(), key).unwrap_or(false)
        })
    }

    fn must_hold(&self, from: &impl Read, claims: &Claims, token: &str) -> Result<()> {
        let platform = claims.platform_id.cast_unsigned();
        let key = (claims.user_id.as_str(), platform, &*digest(token));
        match schema::TOKENS.get(from, key)? {
            None => Err(ServiceError::TokenNotHeld),
            Some(held) if held.state == KICKED => Err(ServiceError::TokenKicked),
            Some(held) if held.state != NORMAL => {
                Err(ServiceError::TokenUnknown("TokenUnknownError".into()))
            }
            Some(held) if held.grace_until != 0 && held.grace_until < self.now() => {
                Err(ServiceError::TokenNotHeld)
            }
            Some(_) => Ok(()),
        }
    }

    /// The claims of a well-formed, correctly signed token that is in its time.
    fn claims(&self, token: &str) -> Result<Claims> {
        let parts: Vec<&str> = token.split('.').collect();
        if parts.len() != 3 {
            return Err(ServiceError::TokenMalformed);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| ServiceError::TokenMalformed);
        let claims: Claims = decode_part(parts[1]).ok_or(ServiceError::TokenMalformed)?;
        let algorithm = match header {
            Ok(header) => header.alg,
            // A readable header with an algorithm we do not know, such as "none".
            Err(_) if decode_part::<serde_json::Value>(parts[0]).is_some() => {
                return Err(ServiceError::TokenUnknown("signing method is invalid".into()));
            }
            Err(error) => return Err(error),
        };
        if ![Algorithm::HS256, Algorithm::HS384, Algorithm::HS512].contains(&algorithm) {
            return Err(ServiceError::TokenUnknown("signing method is invalid".into()));
        }
        let mut validation = Validation::new(algorithm);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        let key = DecodingKey::from_secret(self.settings().secret.as_bytes());
        jsonwebtoken::decode::<Claims>(token, &key, &validation)
            .map_err(|_| ServiceError::TokenUnknown("signature is invalid".into()))?;
        let now = self.now() / 1_000;
        if claims.exp <= now {
            return Err(ServiceError::TokenExpired);
        }
        if claims.nbf.is_some_and(|from| from > now) {
            return Err(ServiceError::TokenNotYetValid);
        }
        // A token of the node's own may come from before its clock was put right.
        if claims.iat.is_some_and(|issued| issued > now)
            && self.must_hold(&self.store().view(), &claims, token).is_err()
        {
            return Err(ServiceError::TokenUnknown("token used before issued".into()));
        }
        Ok(claims)
    }

    /// A token for the admin API, for whoever knows the secret.
    pub async fn get_admin_token(&self, request: GetAdminTokenReq) -> Result<GetAdminTokenResp> {
        if request.user_id.is_empty() {
            return Err(ServiceError::args("userID is empty"));
        }
        if !same_secret(&request.secret, &self.settings().secret) {
            return Err(ServiceError::denied("the secret is wrong"));
        }
        if !self.settings().is_admin(&request.user_id) {
            return Err(ServiceError::args("userID is not an app admin"));
        }
        let view = self.store().view();
        if is_remote(&request.user_id) || !schema::USERS.contains(&view, &request.user_id)? {
            return Err(ServiceError::not_found(format!("no user {}", request.user_id)));
        }
        let token = self.issue_token(&request.user_id, platform::ADMIN).await?;
        Ok(GetAdminTokenResp { token, expire_time_seconds: self.token_seconds() })
    }

    /// A token for a user, on behalf of an app admin.
    pub async fn get_user_token(
        &self,
        caller: &Caller,
        request: GetUserTokenReq,
    ) -> Result<GetUserTokenResp> {
        caller.must_be_admin()?;
        if request.platform_id == platform::ADMIN || self.settings().is_admin(&request.user_id) {
            return Err(ServiceError::denied("app admins get their token by the secret"));
        }
        let account = schema::USERS.get(&self.store().view(), &request.user_id)?;
        let Some(account) = account else {
            return Err(ServiceError::not_found(format!("no user {}", request.user_id)));
        };
        if account.app_manger_level >= NOTIFICATION_ACCOUNT {
            return Err(ServiceError::args("this account does not log in"));
        }
        let token = self.issue_token(&request.user_id, request.platform_id).await?;
        Ok(GetUserTokenResp { token, expire_time_seconds: self.token_seconds() })
    }

    /// What a token says, if it is in force.
    pub fn parse_token(&self, request: &ParseTokenReq) -> Result<ParseTokenResp> {
        if request.token.is_empty() {
            return Err(ServiceError::args("token is empty"));
        }
        let claims = self.claims(&request.token)?;
        self.must_hold(&self.store().view(), &claims, &request.token)?;
        Ok(ParseTokenResp {
            user_id: claims.user_id,
            platform_id: claims.platform_id,
            expire_time_seconds: claims.exp,
        })
    }

    /// Ends the connections and tokens of a user on one platform.
    pub async fn force_logout(
        &self,
        caller: &Caller,
        request: ForceLogoutReq,
    ) -> Result<ForceLogoutResp> {
        if request.user_id.is_empty() {
            return Err(ServiceError::args("userID is empty"));
        }
        if !platform::exists(request.platform_id) {
            return Err(ServiceError::args("platformID is invalid"));
        }
        caller.must_be_admin()?;
        let (user_id, platform) = (request.user_id.clone(), request.platform_id);
        self.change_to_make_room(caller, move |change| {
            for (key, held) in tokens_of(change.tx, &user_id)? {
                if key.0 == platform {
                    mark_kicked(change.tx, &user_id, &key, held);
                }
            }
            Ok(())
        })
        .await?;
        self.hub()
            .kick(&request.user_id, |connection| connection.platform_id == request.platform_id);
        Ok(ForceLogoutResp {})
    }

    fn token_seconds(&self) -> i64 {
        i64::try_from(self.settings().token_expire.as_secs()).unwrap_or(i64::MAX)
    }

    /// Issues a token, kicking those that the multi-login policy does not allow beside it.
    pub async fn issue_token(&self, user_id: &str, platform_id: i32) -> Result<String> {
        let caller = Caller::node(user_id);
        let (user_id, policy) = (user_id.to_owned(), self.settings().multi_login_policy);
        if ![0, 1, 4, 5].contains(&policy) {
            return Err(ServiceError::Internal(format!("unknown multi-login policy {policy}")));
        }
        let keep = self.settings().max_tokens_per_platform;
        let seconds = self.token_seconds();
        let secret = self.settings().secret.clone();
        self.change_to_make_room(&caller, move |change| {
            let now = change.now / 1_000;
            let claims = Claims {
                user_id: user_id.clone(),
                platform_id,
                exp: now + seconds,
                nbf: None,
                iat: Some(now - BACKDATED_SECONDS),
            };
            let token = sign(&claims, &secret)?;
            let mut held = Vec::new();
            for (key, state) in tokens_of(change.tx, &user_id)? {
                let over = state.grace_until != 0 && state.grace_until < change.now;
                if state.state != NORMAL || state.expires <= now || over {
                    let row = (user_id.as_str(), key.0.cast_unsigned(), key.1.as_str());
                    schema::TOKENS.delete(change.tx, row);
                } else {
                    held.push((key, state));
                }
            }
            held.sort_by_key(|(_, state)| std::cmp::Reverse(state.issued));
            for ((platform, digest), mut state) in
                held.iter().filter(|((p, _), _)| *p == platform::ADMIN).cloned()
            {
                if platform_id == platform::ADMIN && state.grace_until == 0 {
                    state.grace_until = change.now + ADMIN_GRACE_MS;
                    let row = (user_id.as_str(), platform.cast_unsigned(), digest.as_str());
                    schema::TOKENS.put(change.tx, row, &state);
                }
            }
            held.retain(|((platform, _), _)| *platform != platform::ADMIN);
            for at in surplus(policy, platform_id, keep, &held) {
                let (key, state) = held[at].clone();
                mark_kicked(change.tx, &user_id, &key, state);
            }
            let state = TokenState {
                state: NORMAL,
                expires: claims.exp,
                grace_until: 0,
                issued: change.now,
            };
            let row = (user_id.as_str(), platform_id.cast_unsigned(), &*digest(&token));
            schema::TOKENS.put(change.tx, row, &state);
            Ok(token)
        })
        .await
    }

    /// Marks tokens of a user as kicked, as a new connection demands.
    pub(crate) async fn kick_tokens(
        &self,
        user_id: &str,
        unwanted: impl Fn(i32, &str) -> bool + Send + 'static,
    ) -> Result<()> {
        let user_id = user_id.to_owned();
        self.change_to_make_room(&Caller::node(&user_id.clone()), move |change| {
            for (key, held) in tokens_of(change.tx, &user_id)? {
                if held.state == NORMAL && unwanted(key.0, &key.1) {
                    mark_kicked(change.tx, &user_id, &key, held);
                }
            }
            Ok(())
        })
        .await
    }
}

/// Platform and digest of a held token.
type TokenKey = (i32, String);

fn tokens_of(from: &impl Read, user_id: &str) -> Result<Vec<(TokenKey, TokenState)>> {
    let mut held = Vec::new();
    for row in schema::TOKENS.scan(from, user_id) {
        let ((_, platform, digest), state) = row?;
        held.push(((platform.cast_signed(), digest), state));
    }
    Ok(held)
}

fn mark_kicked(tx: &mut Tx<'_>, user_id: &str, key: &TokenKey, mut held: TokenState) {
    held.state = KICKED;
    schema::TOKENS.put(tx, (user_id, key.0.cast_unsigned(), &key.1), &held);
}

/// Which of the held tokens (newest first) must go when one for `platform_id` is issued.
fn surplus(
    policy: i32,
    platform_id: i32,
    keep: usize,
    held: &[(TokenKey, TokenState)],
) -> Vec<usize> {
    use std::collections::HashMap;
    let class = platform::class(platform_id);
    let pc = Some(platform::Class::Pc);
    let mut seen_platform: HashMap<i32, usize> = HashMap::new();
    let mut seen_class: HashMap<Option<platform::Class>, usize> = HashMap::new();
    let mut seen_not_pc = 0;
    let mut unwanted = Vec::new();
    for (at, ((platform, _), _)) in held.iter().enumerate() {
        let its_class = platform::class(*platform);
        let on_platform = seen_platform.entry(*platform).or_default();
        let in_class = seen_class.entry(its_class).or_default();
        let go = match policy {
            0 => *on_platform >= keep.saturating_sub(usize::from(*platform == platform_id)),
            1 => *platform == platform_id || *on_platform >= 1,
            4 => its_class == class || *in_class >= 1,
            _ => its_class != pc && (class != pc || seen_not_pc >= 1),
        };
        if go {
            unwanted.push(at);
            continue;
        }
        *on_platform += 1;
        *in_class += 1;
        seen_not_pc += usize::from(its_class != pc);
    }
    unwanted
}

/// A token, its header written as clients' servers write it.
fn sign(claims: &Claims, secret: &str) -> Result<String> {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let failed = |error: String| ServiceError::Internal(error);
    let claims = serde_json::to_vec(claims).map_err(|error| failed(error.to_string()))?;
    let header = URL_SAFE_NO_PAD.encode(br#"{"alg":"HS256","typ":"JWT"}"#);
    let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
    let key = EncodingKey::from_secret(secret.as_bytes());
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256)
        .map_err(|error| failed(error.to_string()))?;
    Ok(format!("{message}.{signature}"))
}

/// Name under which the node holds a token; the token itself is not stored.
pub(crate) fn digest(token: &str) -> String {
    hex::encode(Sha256::digest(token.as_bytes()))
}

fn decode_part<T: serde::de::DeserializeOwned>(part: &str) -> Option<T> {
    use base64::Engine as _;
    let json = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).ok()?;
    serde_json::from_slice(&json).ok()
}

/// Compares without telling by its time where the texts differ.
fn same_secret(given: &str, secret: &str) -> bool {
    Sha256::digest(given.as_bytes()) == Sha256::digest(secret.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_the_known_form() {
        let claims = Claims {
            user_id: "u1".into(),
            platform_id: 5,
            exp: 1_800_000_000,
            nbf: None,
            iat: Some(1_700_000_000),
        };
        assert_eq!(
            sign(&claims, "openIM123").expect("signs"),
            "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJVc2VySUQiOiJ1MSIsIlBsYXRmb3JtSUQiOjUsImV4cCI6MTgwMDAwMDAwMCwiaWF0IjoxNzAwMDAwMDAwfQ.vCAWdOjPsg5Lc5XnjvZCjAaROQQoAjPRh3BrrOtHYyw"
        );
    }

    #[test]
    fn each_policy_kicks_what_it_says() {
        let held: Vec<(TokenKey, TokenState)> = [5, 5, 2, 1, 3, 7]
            .iter()
            .map(|platform| ((*platform, String::new()), TokenState::default()))
            .collect();
        assert_eq!(surplus(0, 5, 2, &held), [1]);
        assert_eq!(surplus(1, 5, 30, &held), [0, 1]);
        assert_eq!(surplus(1, 2, 30, &held), [1, 2]);
        assert_eq!(surplus(4, 1, 30, &held), [1, 2, 3, 5]);
        assert_eq!(surplus(5, 5, 30, &held), [0, 1, 2, 3]);
        assert_eq!(surplus(5, 3, 30, &held), [1, 2, 3]);
    }
}
