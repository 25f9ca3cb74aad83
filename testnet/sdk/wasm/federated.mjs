// The official WASM SDK in Chromium with its users on three nodes.
//
//   node federated.mjs           run all checks
//   node federated.mjs --write   write what was seen as the expectation
import { at } from '../admin.mjs';
import { federated } from '../federated.mjs';
import * as nodes from '../nodes.mjs';
import { Report } from '../report.mjs';
import { Device, launch, servePage } from './browser.mjs';

const report = new Report();
const { check } = report;
const people = { alice: 'alpha', bob: 'beta', carol: 'gamma' };
const address = await servePage();
const browser = await launch();
const devices = {};
const tokens = {};
for (const [name, node] of Object.entries(people)) {
  const home = nodes.home(node);
  const admin = at(home.api);
  const token = await admin.adminToken();
  const user = { userID: name, nickname: name.toUpperCase(), faceURL: '' };
  await admin.call('/user/user_register', { users: [user] }, token);
  tokens[name] = await admin.userToken(token, name, 5);
  const device = new Device(await browser.newContext(), address, name, 5, home);
  devices[name] = device;
  await check(`${name} logs in at ${node}`, async () => {
    await device.open();
    await device.start(tokens[name]);
  });
}

/** The same user in a browser without local data. */
async function fresh({ userID, home }) {
  const other = new Device(await browser.newContext(), address, userID, 5, home);
  await other.open();
  await other.start(tokens[userID]);
  return other;
}

/** What the page makes a file of. */
const file = (bytes, name, type) => ({ fileBytes: [...bytes], name, type });

await federated({ check, ...devices, tokens, nodes: { ...nodes, fresh, file } });
const fine = await report.finish(new URL('./federated.json', import.meta.url));
await browser.close();
process.exit(fine ? 0 : 1);
