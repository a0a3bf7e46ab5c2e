// What a session does with topic views, against a mock server in this process.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { WebSocket } from 'ws';
import * as tidewire from '../tidewire.js';
import { errorFrame, startMockServer } from './mock-server.js';

async function withSession(body, serverOptions) {
  const server = await startMockServer(serverOptions);
  const session = await tidewire.connect(server.url, { WebSocket, closeTimeoutMs: 200 });
  try {
    await body(session.views, server);
  } finally {
    await session.close();
    await server.stop();
  }
}

const check = (name, body, serverOptions) => test(name, () => withSession(body, serverOptions));

const NEW = { isDormant: false, sources: 0, references: 0, evaluations: 0, failures: 0 };

check('a view is created once and then replaced, at its place', async (views) => {
  assert.deepEqual(await views.createView('a', 'map x to y'), { created: true });
  assert.deepEqual(await views.createView('b', 'map y to z'), { created: true });
  assert.deepEqual(await views.createView('a', 'map x to \u00fc'), { created: false });
  assert.deepEqual(await views.listViews(), [
    { name: 'a', definition: 'map x to \u00fc', place: 1, ...NEW },
    { name: 'b', definition: 'map y to z', place: 2, ...NEW },
  ]);
});

check('a definition that does not parse tells where', async (views) => {
  await assert.rejects(views.createView('a', 'map gr\u00fcn'), (error) => {
    assert.ok(error instanceof tidewire.InvalidViewError);
    assert.deepEqual([error.code, error.position, error.message], [231, 9, 'line 1, column 1: expected to']);
    return true;
  });
  assert.deepEqual(await views.listViews(), []);
});

check('a view is removed, or was not there', async (views) => {
  await views.createView('a', 'map x to y');
  assert.equal(await views.removeView('a'), true);
  assert.equal(await views.removeView('a'), false);
});

check('a view is shown with what it does, and none is null', async (views, server) => {
  await views.createView('a', 'map x to y');
  const counts = { isDormant: true, sources: 300, references: 2, evaluations: 2 ** 40, failures: 1 };
  Object.assign(server.views.get('a'), counts, { lastFailure: 'x/1: no /name' });
  assert.deepEqual(await views.getView('a'), { name: 'a', definition: 'map x to y', place: 1, ...counts, lastFailure: 'x/1: no /name' });
  assert.equal(await views.getView('b'), null);
});

check(
  'a list comes page by page',
  async (views, server) => {
    const names = Array.from({ length: 10 }, (_, index) => `v${index}`);
    for (const name of names) await views.createView(name, 'map x to y');
    assert.deepEqual((await views.listViews()).map(({ name }) => name), names);
    const asked = server.received.filter(({ op }) => op === 'list_views').map(({ after = 0 }) => after);
    assert.deepEqual(asked, [0, 4, 8]);
  },
  { pageMax: 4 },
);

check(
  'only a missing view is null',
  async (views) => {
    await assert.rejects(views.getView('a'), tidewire.OverloadedError);
    await assert.rejects(views.listViews(), tidewire.OverloadedError);
  },
  { answer: ({ id, op }, connection) => op.endsWith('_views') || op === 'get_view' ? (connection.send(errorFrame(id, 400, 'busy')), true) : false },
);

check('what is no text is not sent', async (views, server) => {
  for (const call of [() => views.createView(1, 'map x to y'), () => views.createView('a'), () => views.removeView(), () => views.getView(null)]) {
    await assert.rejects(call, TypeError);
  }
  assert.deepEqual(server.received.filter(({ op }) => op.includes('view')), []);
});
