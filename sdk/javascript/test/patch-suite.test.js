// The public test suite of RFC 6902, against a real server, where TIDEWIRE_URL names one that this test may fill and empty under `sdk-test/`.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { test } from 'node:test';
import { connect, FailedPatchError, InvalidPatchError } from '../tidewire.js';

const url = process.env.TIDEWIRE_URL;
const ROOT = `sdk-test/${process.pid}-patch`;
const require = createRequire(import.meta.url);
const cases = ['tests', 'spec_tests'].flatMap((file) => require(`json-patch-test-suite/${file}.json`).map((one, at) => ({ ...one, name: `${file} ${at}` })));

test('the suite of RFC 6902', { skip: url === undefined && 'TIDEWIRE_URL is not set' }, async () => {
  const session = await connect(url, { reconnect: false, requestTimeoutMs: 10_000 });
  const read = async (path) => (await session.topics.fetch(path)).results[0].value;
  try {
    let count = 0;
    for (const { name, comment, doc, patch, expected, error, disabled } of cases) {
      if (disabled || patch === undefined) continue;
      const path = `${ROOT}/${count}`;
      await session.topics.addAndSet(path, 'json', doc);
      const applied = session.topics.applyJsonPatch(path, patch);
      const what = `${name}: ${comment ?? error ?? ''}`;
      if (error !== undefined) {
        await assert.rejects(applied, (refused) => refused instanceof FailedPatchError || refused instanceof InvalidPatchError, what);
        assert.deepEqual(await read(path), doc, `${what}: nothing changes`);
      } else {
        await applied;
        if (expected !== undefined) assert.deepEqual(await read(path), expected, what);
      }
      count += 1;
    }
    assert.ok(count > 80, `${count} cases`);
  } finally {
    await session.topics.remove(`?${ROOT}//`);
    await session.close();
  }
});
