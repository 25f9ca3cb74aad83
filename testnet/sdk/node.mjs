// The node that `run` has started: backed up, and started again from the backup.
import { execFile, spawn } from 'node:child_process';
import { openSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';
import { api, ws } from './admin.mjs';
import { end } from './process.mjs';

const run = promisify(execFile);
const { TESTNET_BIN: program, TESTNET_DATA: data, TESTNET_LOG: log } = process.env;
const file = `${data}.backup`;
let pid = Number(process.env.TESTNET_PID);

/** Writes a backup while the node serves. */
export async function backUp() {
  await run(program, ['backup', '--data', data, '--without-secrets', file]);
}

/** Stops the node and starts it with what the backup holds. */
export async function startFromBackup() {
  await end(pid);
  await rm(`${data}/store`, { recursive: true });
  await run(program, ['restore', '--data', data, file]);
  const host = (address) => new URL(address).host;
  const words = ['serve', '--data', data, '--api', host(api), '--ws', host(ws)];
  const node = spawn(program, words, { stdio: ['ignore', 'ignore', openSync(log, 'a')] });
  pid = node.pid;
  process.on('exit', () => node.kill());
  while (!(await answers())) await pause(50);
}

async function answers() {
  return fetch(api).then(
    () => true,
    () => false,
  );
}
