// The admin's side of a suite: registering users and issuing tokens over the REST API.

export const api = process.env.ENTENTE_API ?? 'http://127.0.0.1:10002';
export const ws = process.env.ENTENTE_WS ?? 'ws://127.0.0.1:10001';
const secret = process.env.ENTENTE_AUTH_SECRET ?? 'openIM123';

let operation = 0;

/** Calls a REST route; returns the whole answer. */
export async function post(path, body, token) {
  const headers = { operationID: `suite-${++operation}`, ...(token && { token }) };
  const response = await fetch(api + path, { method: 'POST', headers, body: JSON.stringify(body) });
  return response.json();
}

/** Calls a REST route that must succeed; returns its data. */
export async function call(path, body, token) {
  const answer = await post(path, body, token);
  if (answer.errCode !== 0) throw new Error(`${path}: ${JSON.stringify(answer)}`);
  return answer.data;
}

/** Token of the app admin. */
export async function adminToken() {
  return (await call('/auth/get_admin_token', { secret, userID: 'imAdmin' })).token;
}

/** Token of a user for one platform. */
export async function userToken(admin, userID, platformID) {
  return (await call('/auth/get_user_token', { userID, platformID }, admin)).token;
}
