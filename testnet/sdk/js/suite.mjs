// Drives the official JS SDK against a node and compares what it reports with expected.json.
//
//   node suite.mjs           run all checks
//   node suite.mjs --write   write what was seen as the expectation
import { Report } from '../report.mjs';
import { Device, adminToken, call, userToken } from './client.mjs';

const report = new Report();
const { check } = report;

/** The error code a refused call ends with. */
async function refused(work) {
  try {
    await work();
  } catch (error) {
    return `refused: ${error.errMsg}`;
  }
  throw new Error('it was not refused');
}

const admin = await adminToken();
const names = ['alice', 'bob', 'carol'];
await call(
  '/user/user_register',
  { users: names.map((name) => ({ userID: name, nickname: name.toUpperCase(), faceURL: '' })) },
  admin,
);
const [alice, bob, carol] = names.map((name) => new Device(name, 5));
for (const device of [alice, bob, carol]) {
  await check(`${device.userID} logs in and synchronises`, async () =>
    device.start(await userToken(admin, device.userID, 5)),
  );
}
const suite = { check, refused, admin, alice, bob, carol };

for (const subject of ['account', 'friend', 'message', 'conversation', 'group', 'visibility', 'connection']) {
  const { default: checks } = await import(`./checks/${subject}.mjs`);
  await checks(suite);
}

process.exit((await report.finish(new URL('./expected.json', import.meta.url))) ? 0 : 1);
