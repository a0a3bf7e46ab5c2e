// Branch mapping tables, against a mock server in this process.

import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { WebSocket } from 'ws';
import * as tidewire from '../tidewire.js';
import { startMockServer } from './mock-server.js';

/** What to end after a test, newest first. */
const cleanups = [];

afterEach(async () => {
  while (cleanups.length > 0) await cleanups.pop()();
});

async function start(serverOptions = {}) {
  const server = await startMockServer(serverOptions);
  cleanups.push(() => server.stop());
  const session = await tidewire.connect(server.url, { WebSocket, closeTimeoutMs: 200 });
  cleanups.push(() => session.close());
  return { server, trees: session.sessionTrees };
}

const TABLE = [
  { sessionFilter: "Tier is 'gold'", topicTreeBranch: 'backend/current' },
  { sessionFilter: 'all', topicTreeBranch: 'backend/delayed' },
];

test('a table is put, read and taken away', async () => {
  const { server, trees } = await start();
  assert.equal(await trees.putBranchMappingTable('market/prices', TABLE), undefined);
  assert.deepEqual(await trees.getBranchMappingTable('market/prices'), TABLE);
  assert.deepEqual(await trees.getBranchMappingTable('market'), [], 'a branch without a table has no rows');
  await trees.removeBranchMappingTable('market/prices');
  assert.deepEqual(await trees.getBranchMappingTable('market/prices'), []);
  assert.deepEqual(server.received.filter(({ op }) => op === 'put_session_tree').map(({ mappings }) => mappings.length), [2, 0]);
});

test('branches are listed page by page', async () => {
  const { trees } = await start({ pageMax: 2 });
  assert.deepEqual(await trees.getSessionTreeBranchesWithMappings(), []);
  const branches = ['a', 'a/b', 'b', 'c', 'd'];
  for (const branch of branches) await trees.putBranchMappingTable(branch, TABLE);
  assert.deepEqual(await trees.getSessionTreeBranchesWithMappings(), branches);
});

test('a row that is wrong is rejected, with the place in it', async () => {
  const { trees } = await start();
  await assert.rejects(trees.putBranchMappingTable('a', [{ sessionFilter: '(', topicTreeBranch: 'b' }]), (error) => {
    assert.ok(error instanceof tidewire.InvalidBranchMappingError);
    assert.equal(error.position, 1);
    return true;
  });
  for (const rows of [undefined, [undefined], [{ sessionFilter: 'all' }], [{ topicTreeBranch: 'a', sessionFilter: 1 }]]) {
    await assert.rejects(trees.putBranchMappingTable('a', rows), TypeError);
  }
  await assert.rejects(trees.putBranchMappingTable('', TABLE), Error);
});
