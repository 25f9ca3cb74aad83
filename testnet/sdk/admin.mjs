// The admin's side of a suite: registering users and issuing tokens over the REST API.

export const api = process.env.TESTNET_API ?? 'http://127.0.0.1:10002';
export const ws = process.env.TESTNET_WS ?? 'ws://127.0.0.1:10001';
const secret = process.env.ENTENTE_AUTH_SECRET ?? 'openIM123';

let operation = 0;

/** The admin's side of the node whose REST API is at `base`. */
export function at(base) {
  /** Calls a REST route; returns the whole answer. */
  async function post(path, body, token) {
    const headers = { operationID: `suite-${++operation}`, ...(token && { token }) };
    const request = { method: 'POST', headers, body: JSON.stringify(body) };
    return (await fetch(base + path, request)).json();
  }

  /** Calls a REST route that must succeed; returns its data. */
  async function call(path, body, token) {
    const answer = await post(path, body, token);
    if (answer.errCode !== 0) throw new Error(`${path}: ${JSON.stringify(answer)}`);
    return answer.data;
  }

  /** Token of the app admin. */
  const adminToken = async () =>
    (await call('/auth/get_admin_token', { secret, userID: 'imAdmin' })).token;

  /** Token of a user for one platform. */
  const userToken = async (admin, userID, platformID) =>
    (await call('/auth/get_user_token', { userID, platformID }, admin)).token;

  return { post, call, adminToken, userToken };
}

export const { post, call, adminToken, userToken } = at(api);
