// The official WASM SDK in Chromium: pages that each hold one device of a user.
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname } from 'node:path';
import { chromium } from 'playwright-core';
import { api, ws } from '../admin.mjs';

const here = new URL('./', import.meta.url);
const sdk = new URL('./node_modules/@openim/wasm-client-sdk/', import.meta.url);
const types = {
  '.html': 'text/html',
  '.js': 'text/javascript',
  '.wasm': 'application/wasm',
};

/** Serves the page, the SDK and its assets; returns the address. */
export async function servePage() {
  const server = createServer(async (request, response) => {
    const path = new URL(request.url, 'http://localhost').pathname;
    const file = path.startsWith('/sdk/')
      ? new URL(path.slice(5), sdk)
      : path === '/'
        ? new URL('page.html', here)
        : new URL(`assets/${path.split('/').at(-1)}`, sdk);
    try {
      const content = await readFile(file);
      response.writeHead(200, {
        'content-type': types[extname(file.pathname)] ?? 'application/octet-stream',
        'content-length': content.length,
        etag: `"${content.length}"`,
      });
      response.end(request.method === 'HEAD' ? undefined : content);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return `http://127.0.0.1:${server.address().port}/`;
}

export const launch = () =>
  chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-dev-shm-usage'],
  });

/** One device of a user in a page of its own. */
export class Device {
  constructor(context, address, userID, platformID, home = { api, ws }) {
    Object.assign(this, { context, address, userID, platformID, home });
  }

  async open() {
    this.page = await this.context.newPage();
    if (process.env.SDK_LOG) this.page.on('console', (line) => console.log(this.userID, line.text()));
    await this.page.goto(this.address);
    await this.page.waitForFunction(() => window.ready);
  }

  /** Logs in and waits until everything is synchronised. */
  async start(token) {
    const { userID, platformID } = this;
    await this.run('login', {
      userID,
      platformID,
      token,
      apiAddr: this.home.api,
      wsAddr: this.home.ws,
      logLevel: process.env.SDK_LOG ? 6 : 1,
    });
    await this.until('OnSyncServerFinish');
  }

  /** Calls the SDK; returns the data of its answer. */
  async run(method, ...parameters) {
    const call = this.page.evaluate(([m, p]) => window.run(m, p), [method, parameters]);
    const late = new Promise((_, reject) => {
      setTimeout(() => reject(new Error(`${method} did not answer`)), 20_000).unref();
    });
    const { data, error } = await Promise.race([call, late]);
    if (error !== undefined) throw new Error(error);
    return data;
  }

  /** The first event of a kind (since `forget`) that `fits`, a function of its data and `more`. */
  async until(event, fits = () => true, more = null, timeout = 15_000) {
    const handle = await this.page
      .waitForFunction(
        ({ event, fits, more }) => {
          const look = new Function(`return (${fits})`)();
          const found = window.events.find((e) => e.event === event && look(e.data, more));
          return found && { data: found.data };
        },
        { event, fits: fits.toString(), more },
        { timeout, polling: 20 },
      )
      .catch(() => {
        throw new Error(`${this.userID}: no ${event}`);
      });
    return (await handle.jsonValue()).data;
  }

  forget() {
    return this.page.evaluate(() => void window.forget());
  }

  count(event) {
    return this.page.evaluate((e) => window.events.filter((x) => x.event === e).length, event);
  }

  async send(to, create, parameters) {
    const message = await this.run(create, parameters);
    return this.deliver(to, message);
  }

  async deliver(to, message) {
    const { recvID = '', groupID = '' } = to;
    return this.run('sendMessageNotOss', { recvID, groupID, message });
  }

  /** The message with this clientMsgID as it was reported. */
  async receive(clientMsgID) {
    const list = await this.until(
      'OnRecvNewMessages',
      (messages, id) => messages.some((m) => m.clientMsgID === id),
      clientMsgID,
    );
    return list.find((m) => m.clientMsgID === clientMsgID);
  }

  async history(conversationID, count = 20, startClientMsgID = '') {
    const { messageList } = await this.run('getAdvancedHistoryMessageList', {
      conversationID,
      startClientMsgID,
      count,
      viewType: 0,
    });
    return messageList ?? [];
  }
}
