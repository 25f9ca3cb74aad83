// The nodes that `run` has started for a federated suite: stopped, and started again.
import { spawn } from 'node:child_process';
import { openSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { end } from './process.mjs';

/** Name, addresses, command line and process of each node, by name. */
const nodes = new Map(JSON.parse(process.env.TESTNET_NODES ?? '[]').map((node) => [node.name, node]));

/** Addresses of a node. */
export const home = (name) => ({ api: nodes.get(name).api, ws: nodes.get(name).ws });

const answers = ({ api }) =>
  fetch(api).then(
    () => true,
    () => false,
  );

/** Stops a node and waits until it is gone. */
export async function stop(name) {
  await end(nodes.get(name).pid);
}

/** Starts a node that was stopped and waits until it answers. */
export async function start(name) {
  const node = nodes.get(name);
  const [program, ...words] = node.command;
  const child = spawn(program, words, { stdio: ['ignore', 'ignore', openSync(node.log, 'a')] });
  node.pid = child.pid;
  process.on('exit', () => child.kill());
  while (!(await answers(node))) await pause(50);
}
