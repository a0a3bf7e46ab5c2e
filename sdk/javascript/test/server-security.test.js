// What sessions may do, on a real server: `scripts/test-sdk-server` starts one that asks who clients are, and says by TIDEWIRE_AUTHENTICATING_URL where it is; and one that asks
// nobody, by TIDEWIRE_URL.

import assert from 'node:assert/strict';
import { connect as connectSocket, createServer } from 'node:net';
import { test } from 'node:test';
import { AccessDeniedError, AuthenticationFailedError, connect, InvalidScriptError } from '../tidewire.js';

const url = process.env.TIDEWIRE_AUTHENTICATING_URL;
const openUrl = process.env.TIDEWIRE_URL;
const skip = url === undefined && 'TIDEWIRE_AUTHENTICATING_URL is not set';
const ROOT = `sdk-security/${process.pid}`;
/** The server puts at most half of a message into a part of a script. */
const MESSAGE_BYTES_MAX = 1_114_112;

const ADMIN = { principal: 'sdk-admin', credentials: 'may all' };
const CLIENT = { principal: 'sdk-client', credentials: 'may read' };

async function withSession(address, options, body) {
  const session = await connect(address, options);
  try {
    await body(session);
  } finally {
    await session.close();
  }
}

/** As an administrator and as a client; what is below the root is removed afterwards. */
async function withAdminAndClient(body) {
  const sessions = await Promise.all([ADMIN, CLIENT].map((who) => connect(url, { ...who, reconnect: false })));
  const [admin] = sessions;
  try {
    await body(...sessions);
  } finally {
    await admin.topics.remove(`?${ROOT}//`);
    await Promise.all(sessions.map((session) => session.close()));
  }
}

/** A function that notes events, and a way to wait until there are so many. */
function recorder() {
  const events = [];
  let check = () => {};
  const note = (event) => {
    events.push(event);
    check();
  };
  const until = (count) =>
    new Promise((resolve) => {
      check = () => events.length >= count && resolve(events);
      check();
    });
  return { note, until };
}

/** The lines of a script. */
const linesOf = (script) => script.split('\n').filter((line) => line !== '');

test('a script is checked, applied and read back', { skip }, () =>
  withAdminAndClient(async ({ security }) => {
    const before = await security.script();
    const line = `isolate path "${ROOT}/é"`;
    await security.check(line);
    assert.equal(await security.script(), before);
    await security.apply(line);
    assert.deepEqual(linesOf(await security.script()).sort(), [...linesOf(before), line].sort());
    await security.apply(`de${line}`);
    assert.equal(await security.script(), before);
  }),
);

test('a script is read back over several parts', { skip }, () =>
  withAdminAndClient(async ({ security }) => {
    const before = await security.script();
    const lines = Array.from({ length: 1_200 }, (_, index) => `isolate path "${ROOT}/${index}/${'é'.repeat(450)}"`);
    const halves = [lines.slice(0, 600), lines.slice(600)];
    for (const half of halves) await security.apply(half.join('\n'));
    const script = await security.script();
    assert.ok(Buffer.byteLength(script) > MESSAGE_BYTES_MAX);
    assert.deepEqual(linesOf(script).sort(), [...linesOf(before), ...lines].sort());
    for (const half of halves) await security.apply(half.map((line) => `de${line}`).join('\n'));
    assert.equal(await security.script(), before);
  }),
);

test('a script with a line that is wrong changes nothing, and the refusal says where', { skip }, () =>
  withAdminAndClient(async ({ security }) => {
    const before = await security.script();
    for (const method of ['check', 'apply']) {
      await assert.rejects(security[method](`isolate path "${ROOT}"\nset "X" permissions [FLY]`), (error) => {
        assert.ok(error instanceof InvalidScriptError);
        assert.equal(error.code, 111);
        assert.match(error.message, /line 2, column 22\b/);
        return true;
      });
    }
    assert.equal(await security.script(), before);
  }),
);

test('a client is refused what its roles do not permit', { skip }, () =>
  withAdminAndClient(async (admin, client) => {
    const path = `${ROOT}/refused`;
    await admin.topics.addAndSet(path, 'json', 1);
    const refused = [
      [() => client.topics.set(path, 2, 'json'), `UPDATE_TOPIC at '${path}'`],
      [() => client.topics.add(`${path}/below`, 'json'), `MODIFY_TOPIC at '${path}/below'`],
      [() => client.security.script(), 'VIEW_SECURITY'],
      [() => client.security.check(''), 'MODIFY_SECURITY'],
      [() => client.security.apply(''), 'MODIFY_SECURITY'],
      [() => client.security.principals(), 'MODIFY_SECURITY'],
      [() => client.security.applyPrincipals(''), 'MODIFY_SECURITY'],
      [() => client.clients.changeRoles({ session: client.id }, { add: ['ADMINISTRATOR'] }), 'MODIFY_SESSION'],
    ];
    for (const [request, permission] of refused) {
      await assert.rejects(request, (error) => {
        assert.ok(error instanceof AccessDeniedError && error.code === 110, error);
        assert.ok(error.message.includes(permission), error.message);
        return true;
      });
    }
    assert.deepEqual((await client.topics.fetch(path)).results, [{ path, type: 'json', value: 1 }]);
  }),
);

test('a topic that may not be read for a while ends, and comes back', { skip }, () =>
  withAdminAndClient(async (admin, client) => {
    const path = `${ROOT}/taken`;
    await admin.topics.addAndSet(path, 'json', 1);
    const { note, until } = recorder();
    client.addStream(path, 'json', {
      value: (_, __, value, oldValue) => note([value, oldValue]),
      unsubscription: (_, __, reason) => note(reason),
    });
    await client.subscribe(path);
    await until(1);
    // Administrators have the list of clients, too; what they write by stands beside it.
    await admin.security.apply(`set "CLIENT" path "${path}" permissions []\nset "TOPIC_CONTROL" path "${path}" permissions [UPDATE_TOPIC]`);
    await until(2);
    assert.deepEqual((await client.topics.fetch(`?${ROOT}//`)).results, []);
    await admin.topics.set(path, 2, 'json');
    const undo = ['CLIENT', 'TOPIC_CONTROL'].map((role) => `remove "${role}" permissions for path "${path}"`);
    await admin.security.apply(undo.join('\n'));
    assert.deepEqual(await until(3), [[1, undefined], 'access_denied', [2, undefined]]);
  }),
);

test('roles are given to a session and taken from it', { skip }, () =>
  withAdminAndClient(async (admin, client) => {
    const path = `${ROOT}/given`;
    const roles = { session: client.id };
    assert.equal(await admin.clients.changeRoles(roles, { add: ['TOPIC_CONTROL'] }), 1);
    await client.topics.addAndSet(path, 'json', 1);
    await client.topics.set(path, 2, 'json');
    const stream = client.topics.recoverableUpdateStream(path, { specification: 'json', retry: { intervalMs: 1, attempts: Infinity } });
    await stream.set(3);
    assert.equal(await admin.clients.changeRoles(roles, { remove: ['TOPIC_CONTROL'] }), 1);
    await assert.rejects(stream.set(4), AccessDeniedError);
    assert.equal(stream.isRecoverable(), false);
    await assert.rejects(stream.recover(), AccessDeniedError);
    assert.deepEqual((await client.topics.fetch(path)).results, [{ path, type: 'json', value: 3 }]);
  }),
);

/** Stands between a client and the server: `cut` ends the connections, and there are no more until `mend`. */
async function startProxy() {
  const { hostname, port } = new URL(url);
  const sockets = new Set();
  let isMended = true;
  const server = createServer((client) => {
    if (!isMended) return client.destroy();
    const upstream = connectSocket(Number(port), hostname);
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ]) {
      sockets.add(from);
      from.on('error', () => {});
      from.on('close', () => (sockets.delete(from), to.destroy()));
      from.pipe(to);
    }
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const cut = () => {
    isMended = false;
    for (const socket of sockets) socket.destroy();
  };
  return { url: `ws://127.0.0.1:${server.address().port}`, cut, mend: () => (isMended = true), stop: () => server.close() };
}

test('a client is told of the events that came while it had no session, and of the latest edits of those', { skip }, () =>
  withAdminAndClient(async (admin) => {
    const path = `${ROOT}/series`;
    await admin.topics.add(path, { type: 'time_series', properties: { TIME_SERIES_EVENT_VALUE_TYPE: 'double' } });
    await admin.timeSeries.append(path, 1);
    const proxy = await startProxy();
    const client = await connect(proxy.url, { ...CLIENT, resumeMs: 0, reconnect: { initialDelayMs: 1, delayMaxMs: 5 } });
    try {
      const { note, until } = recorder();
      client.addTimeSeriesStream(path, 'double', {
        value: (_, __, { sequence, value, isEdit }) => note([sequence, value, isEdit]),
        error: ({ name, first, last }) => note([name, first, last]),
      });
      await client.subscribe(path);
      await until(1);
      await assert.rejects(client.timeSeries.rangeQuery().forEdits().allEdits().selectFrom(path), AccessDeniedError);
      const { id } = client;
      const lost = new Promise((resolve) => client.on('state', ({ state }) => state === 'recovering' && resolve()));
      proxy.cut();
      await lost;
      for (const value of [2, 3]) await admin.timeSeries.edit(path, 0, value);
      for (const value of [4, 5]) await admin.timeSeries.append(path, value);
      proxy.mend();
      assert.deepEqual(await until(5), [
        [0, 1, false],
        ['MissedEventsError', 1, 1],
        [2, 3, true],
        [3, 4, false],
        [4, 5, false],
      ]);
      assert.notEqual(client.id, id);
    } finally {
      await client.close();
      proxy.stop();
    }
  }),
);

test('a principal that is added may connect, until it is removed', { skip }, () =>
  withAdminAndClient(async ({ security }) => {
    const principal = `${ROOT}/é`;
    const credentials = 'correct horse';
    const before = await security.principals();
    assert.match(before, /^add principal "sdk-client" hash "\$argon2id\$.*" \["CLIENT"\]$/m);
    const line = `add principal "${principal}" "${credentials}" ["CLIENT"]`;
    await security.checkPrincipals(line);
    assert.equal(await security.principals(), before);
    await security.applyPrincipals(line);
    assert.ok(!(await security.principals()).includes(credentials));
    for (const method of ['checkPrincipals', 'applyPrincipals']) {
      await assert.rejects(security[method](line), (error) => error instanceof InvalidScriptError && error.message.includes('line 1'));
    }
    await withSession(url, { principal, credentials, reconnect: false }, async ({ topics }) => {
      await security.applyPrincipals(`remove principal "${principal}"`);
      assert.equal(await security.principals(), before);
      await assert.rejects(connect(url, { principal, credentials }), AuthenticationFailedError);
      // Sessions that have begun are not touched by it.
      assert.deepEqual((await topics.fetch(`?${ROOT}//`)).results, []);
    });
  }),
);

test('a server that asks nobody who clients are keeps no roles', { skip: openUrl === undefined && 'TIDEWIRE_URL is not set' }, () =>
  withSession(openUrl, { reconnect: false }, async ({ security }) => {
    for (const method of ['script', 'check', 'apply', 'principals', 'checkPrincipals', 'applyPrincipals']) {
      await assert.rejects(security[method](''), (error) => error instanceof AccessDeniedError && error.code === 110);
    }
  }),
);
