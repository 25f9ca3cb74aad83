// Checks of a suite: collects what each saw and compares it with what is expected.
import { readFile, writeFile } from 'node:fs/promises';

const print = console.log.bind(console);

/** A list of checks whose results are compared with a JSON file. */
export class Report {
  results = {};

  /** Runs one check; what it returns is compared with the expectation. */
  check = async (name, work) => {
    if (name in this.results) throw new Error(`two checks are named ${name}`);
    const started = Date.now();
    try {
      this.results[name] = (await work()) ?? true;
    } catch (error) {
      this.results[name] = `FAILED: ${error?.errMsg ?? error?.message ?? JSON.stringify(error)}`;
    }
    if (process.env.SDK_LOG) print(name, Date.now() - started, 'ms');
  };

  /** Compares with `file` (or, with --write, writes it); returns whether all is as expected. */
  async finish(file) {
    if (process.argv.includes('--write')) {
      await writeFile(file, `${JSON.stringify(this.results, null, 2)}\n`);
    }
    const expected = JSON.parse(await readFile(file, 'utf8'));
    const names = new Set([...Object.keys(expected), ...Object.keys(this.results)]);
    let failed = 0;
    for (const name of names) {
      const [want, got] = [JSON.stringify(expected[name]), JSON.stringify(this.results[name])];
      if (want === got && !got.includes('FAILED')) {
        print(`ok    ${name}`);
      } else {
        failed += 1;
        print(`WRONG ${name}\n      expected ${want}\n      got      ${got}`);
      }
    }
    print(`${names.size - failed} passed, ${failed} failed`);
    return failed === 0;
  }
}
