// The official JS SDK with its users on three nodes.
//
//   node federated.mjs           run all checks
//   node federated.mjs --write   write what was seen as the expectation
import { at } from '../admin.mjs';
import { federated } from '../federated.mjs';
import * as nodes from '../nodes.mjs';
import { Report } from '../report.mjs';
import { Device } from './client.mjs';

const report = new Report();
const { check } = report;
const people = { alice: 'alpha', bob: 'beta', carol: 'gamma' };
const devices = {};
const tokens = {};
for (const [name, node] of Object.entries(people)) {
  const home = nodes.home(node);
  const admin = at(home.api);
  const token = await admin.adminToken();
  const user = { userID: name, nickname: name.toUpperCase(), faceURL: '' };
  await admin.call('/user/user_register', { users: [user] }, token);
  tokens[name] = await admin.userToken(token, name, 5);
  devices[name] = new Device(name, 5, home);
  await check(`${name} logs in at ${node}`, () => devices[name].start(tokens[name]));
}

/** The same user without local data. */
async function fresh(device) {
  const other = new Device(device.userID, 5, device.home);
  await other.start(tokens[device.userID]);
  return other;
}

const file = (bytes, name, type) => new File([bytes], name, { type });

await federated({ check, ...devices, tokens, nodes: { ...nodes, fresh, file } });
process.exit((await report.finish(new URL('./federated.json', import.meta.url))) ? 0 : 1);
