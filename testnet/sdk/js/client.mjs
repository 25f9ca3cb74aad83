// The official JS SDK under Node: what it expects of a browser, and clients that record events.
import { webcrypto } from 'node:crypto';
import WebSocket from 'ws';
import { adminToken, api, call, post, userToken, ws } from '../admin.mjs';

globalThis.crypto ??= webcrypto;
globalThis.FileReader ??= class {
  readAsArrayBuffer(blob) {
    blob.arrayBuffer().then((result) => {
      this.result = result;
      this.onload?.({ target: this });
    }, this.onerror);
  }
};

const sockets = new Map();

// Browsers hand out binary frames as blobs.
globalThis.WebSocket = class extends WebSocket {
  constructor(address) {
    super(address);
    this.binaryType = 'blob';
    const user = new URL(address).searchParams.get('sendID');
    sockets.set(user, [...(sockets.get(user) ?? []), this]);
  }
};

/** Cuts the TCP connections of a user, as a lost network does. */
export function cutConnections(userID) {
  for (const socket of sockets.get(userID) ?? []) socket.terminate();
  sockets.delete(userID);
}
globalThis.window ??= globalThis;

// The SDK logs every call; the suite prints only its own lines.
export const print = console.log.bind(console);
for (const level of ['trace', 'debug', 'log', 'info', 'warn', 'error']) {
  if (!process.env.SDK_LOG) console[level] = () => {};
}
// It handles some failures of its own in the background.
process.on('unhandledRejection', (error) => {
  if (process.env.SDK_LOG) print('in the SDK:', error);
});

const { getSDK, CbEvents } = await import(
  new URL('./node_modules/@openim/client-sdk/lib/index.modern.mjs', import.meta.url)
);
export { CbEvents };

export { adminToken, call, post, userToken };
/** One device of a user: the SDK, logged in, and every event it has reported. */
export class Device {
  constructor(userID, platformID, home = { api, ws }) {
    this.home = home;
    this.userID = userID;
    this.platformID = platformID;
    this.sdk = getSDK();
    this.events = [];
    this.waiting = [];
    for (const event of Object.values(CbEvents)) {
      this.sdk.on(event, ({ data, errCode }) => this.happened({ event, data, errCode }));
    }
  }

  async logIn(token) {
    this.token = token;
    return this.sdk.login({
      userID: this.userID,
      platformID: this.platformID,
      token,
      apiAddr: this.home.api,
      wsAddr: this.home.ws,
    });
  }

  /** Logs in and waits until everything is synchronised. */
  async start(token) {
    await this.logIn(token);
    await this.until(CbEvents.OnSyncServerFinish);
  }

  /** Calls the SDK; returns the data of its answer. */
  async run(method, ...parameters) {
    return (await this.sdk[method](...parameters)).data;
  }

  /** Sends a message made by one of the SDK's create methods. */
  async send(to, create, ...parameters) {
    const message = await this.run(create, ...parameters);
    return this.deliver(to, message);
  }

  async deliver(to, message) {
    const { recvID = '', groupID = '', isOnlineOnly } = to;
    return this.run('sendMessageNotOss', { recvID, groupID, message, isOnlineOnly });
  }

  /** The next message with this clientMsgID that is reported as new. */
  async receive(clientMsgID) {
    const batch = await this.until(CbEvents.OnRecvNewMessages, (list) =>
      list.some((message) => message.clientMsgID === clientMsgID),
    );
    return batch.find((message) => message.clientMsgID === clientMsgID);
  }

  happened(entry) {
    this.events.push(entry);
    this.waiting = this.waiting.filter((look) => !look(entry));
  }

  /** The first event of a kind (since `forget`) that fits; waits for it. */
  async until(event, fits = () => true, more = null, patience = 10_000) {
    const wanted = (entry) => entry.event === event && fits(entry.data, more);
    const found = this.events.find(wanted);
    if (found) return found.data;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(
        () => reject(new Error(`${this.userID}: no ${event} within ${patience} ms`)),
        patience,
      );
      this.waiting.push((entry) => {
        if (!wanted(entry)) return false;
        clearTimeout(timer);
        resolve(entry.data);
        return true;
      });
    });
  }

  /** How often an event of a kind that fits was reported (since `forget`). */
  count(event, fits = () => true) {
    return this.events.filter((entry) => entry.event === event && fits(entry.data)).length;
  }

  forget() {
    this.events = [];
  }
}

export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
