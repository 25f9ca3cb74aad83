// Processes of nodes, which others have started.
import { readFile } from 'node:fs/promises';
import { setTimeout as pause } from 'node:timers/promises';

/** Ends a node and waits until its process is gone: it still writes when it does not answer any more. */
export async function end(pid) {
  process.kill(pid, 'SIGTERM');
  // One that nobody has waited for has no command line.
  while ((await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')) !== '') await pause(50);
}
