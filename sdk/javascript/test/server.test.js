// Every operation against a real server, where TIDEWIRE_URL names one that this test may fill and empty under `sdk-test/`.

import assert from 'node:assert/strict';
import { connect as connectSocket, createServer } from 'node:net';
import { test } from 'node:test';
import { connect, ConnectionError, IncompatibleTypeError, InvalidSelectorError, NoSuchTopicError, TopicExistsError, TopicType } from '../tidewire.js';

const url = process.env.TIDEWIRE_URL;
const ROOT = `sdk-test/${process.pid}`;

const VALUES = [
  ['json', { a: [1, 2.5, 'é', null, true] }, { a: [1, 2.5, 'é', null, false] }],
  ['string', 'héllo 😀', ''],
  ['int64', 9223372036854775807n, -5],
  ['double', 1.5, Infinity],
  ['binary', new Uint8Array([0, 255]), new Uint8Array()],
];

async function withSessions(count, body) {
  const sessions = await Promise.all(Array.from({ length: count }, () => connect(url, { reconnect: false, requestTimeoutMs: 10_000 })));
  try {
    await body(...sessions);
  } finally {
    await sessions[0].topics.remove(`?${ROOT}//`);
    await Promise.all(sessions.map((session) => session.close()));
  }
}

/** A stream's events, and a way to wait until there are so many. */
function record(session, selector, type) {
  const events = [];
  let check = () => {};
  const note = (event) => {
    events.push(event);
    check();
  };
  session.addStream(selector, type, {
    subscription: (path) => note(['subscription', path]),
    value: (path, _, value, oldValue) => note(['value', path, value, oldValue]),
    unsubscription: (path, _, reason) => note(['unsubscription', path, reason]),
    error: (error) => note(['error', error]),
  });
  const until = (count) =>
    new Promise((resolve) => {
      check = () => events.length >= count && resolve(events);
      check();
    });
  return { events, until };
}

/** Numbers that are the same for the same seed. */
function random(seed) {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

/**
 * Stands between clients and the server, and cuts each connection after some bytes of either direction, in the middle of whatever they are: after more and
 * more, for a message that is longer than any connection lasts would never arrive.
 */
async function startCuttingProxy(bytesMax, seed) {
  const { hostname, port } = new URL(url);
  const below = random(seed);
  const proxy = { cuts: 0, isCutting: true };
  const forward = (from, to, cut) => {
    let left = 300 + below(bytesMax * (1 + proxy.cuts / 8));
    from.on('data', (bytes) => {
      to.write(proxy.isCutting ? bytes.subarray(0, left) : bytes);
      left -= bytes.length;
      if (left < 0 && proxy.isCutting) cut();
    });
    from.on('close', () => to.destroy());
    from.on('error', () => {});
  };
  const server = createServer((client) => {
    const upstream = connectSocket(Number(port), hostname);
    const cut = () => {
      if (client.destroyed) return;
      proxy.cuts += 1;
      // What the server has been sent arrives; what it sends is lost, or was in part.
      client.destroy();
      upstream.destroySoon();
    };
    proxy.cut = cut;
    forward(client, upstream, cut);
    forward(upstream, client, cut);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return Object.assign(proxy, { url: `ws://127.0.0.1:${server.address().port}`, stop: () => server.close() });
}

/** The first connection has no session yet that could go on, and may be cut, too. */
async function connectAtLast(address, options) {
  for (;;) {
    try {
      return await connect(address, options);
    } catch (error) {
      if (!(error instanceof ConnectionError)) throw error;
    }
  }
}

test('a real server', { skip: url === undefined && 'TIDEWIRE_URL is not set' }, async (t) => {
  for (const [type, value, next] of VALUES) {
    await t.test(`${type}: one session writes, another reads`, () =>
      withSessions(2, async (writer, reader) => {
        const path = `${ROOT}/${type}`;
        const { until } = record(reader, path, type);
        assert.deepEqual(await writer.topics.add(path, type), { path, added: true });
        assert.deepEqual(await writer.topics.add(path, type), { path, added: false });
        assert.deepEqual(await reader.topics.fetch(path), { results: [{ path, type }], hasMore: false });
        await reader.subscribe(path);
        await writer.topics.set(path, value);
        assert.deepEqual(await writer.topics.addAndSet(path, type, next), { path, added: false });
        await until(3);
        assert.deepEqual((await reader.topics.fetch(path)).results, [{ path, type, value: next }]);
        assert.deepEqual(await writer.topics.remove(path), { removedCount: 1 });
        assert.deepEqual(await until(4), [
          ['subscription', path],
          ['value', path, value, undefined],
          ['value', path, next, value],
          ['unsubscription', path, 'removed'],
        ]);
      }),
    );
  }

  await t.test('refusals have their classes', () =>
    withSessions(1, async ({ topics }) => {
      await assert.rejects(topics.set(`${ROOT}/a`, 1, 'json'), NoSuchTopicError);
      await topics.add(`${ROOT}/a`, 'json');
      await assert.rejects(topics.add(`${ROOT}/a`, 'string'), TopicExistsError);
      await assert.rejects(topics.set(`${ROOT}/a`, 'x', 'string'), IncompatibleTypeError);
      await assert.rejects(topics.remove('?('), (error) => error instanceof InvalidSelectorError && error.position === 1);
    }),
  );

  await t.test('long values and small changes to them arrive', () =>
    withSessions(2, async (writer, reader) => {
      const path = `${ROOT}/long`;
      const rows = Array.from({ length: 300 }, (_, index) => ({ index, name: `row ${index}`, price: index * 1.25 }));
      await writer.topics.addAndSet(path, TopicType.JSON, rows);
      const { until, events } = record(reader, path, TopicType.JSON);
      await reader.subscribe(path);
      for (let step = 0; step < 20; step += 1) {
        rows[step * 7].price += 1;
        await writer.topics.set(path, rows);
        // Each is waited for, so that none is conflated away.
        await until(3 + step);
        assert.deepEqual(events.at(-1)[2], rows);
      }
    }),
  );

  await t.test('pages follow each other in path order', () =>
    withSessions(1, async ({ topics }) => {
      const paths = Array.from({ length: 25 }, (_, index) => `${ROOT}/page/${String(index).padStart(2, '0')}`);
      await Promise.all(paths.map((path, index) => topics.addAndSet(path, TopicType.INT64, index)));
      const first = await topics.fetch(`?${ROOT}/page/`, { first: 10, withValues: false });
      assert.deepEqual(first, { results: paths.slice(0, 10).map((path) => ({ path, type: 'int64' })), hasMore: true });
      const all = [];
      for await (const { path, value } of topics.fetchAll(`?${ROOT}/page/`, { first: 4 })) all.push([path, value]);
      assert.deepEqual(all, paths.map((path, index) => [path, index]));
      assert.deepEqual(await topics.remove(`?${ROOT}/page/`), { removedCount: 25 });
    }),
  );

  await t.test('selections are a sequence', () =>
    withSessions(2, async (writer, reader) => {
      const { events, until } = record(reader, `?${ROOT}/`, TopicType.JSON);
      await reader.subscribe(`?${ROOT}/`);
      await reader.unsubscribe(`?${ROOT}/hidden//`);
      await writer.topics.addAndSet(`${ROOT}/hidden/a`, TopicType.JSON, 1);
      await writer.topics.addAndSet(`${ROOT}/shown`, TopicType.JSON, 2);
      await until(2);
      await reader.unsubscribe(`?${ROOT}//`);
      assert.deepEqual(events, [
        ['subscription', `${ROOT}/shown`],
        ['value', `${ROOT}/shown`, 2, undefined],
        ['unsubscription', `${ROOT}/shown`, 'requested'],
      ]);
    }),
  );

  await t.test('connections that are cut at random moments lose nothing and bring nothing twice', () =>
    withSessions(1, async ({ topics }) => {
      const path = `${ROOT}/every`;
      const count = 2_000;
      const seed = Number(process.env.TIDEWIRE_SEED ?? Date.now() % 2 ** 32);
      await topics.add(path, { type: TopicType.INT64, properties: { CONFLATION: 'off' } });
      const proxies = [await startCuttingProxy(4_000, seed), await startCuttingProxy(8_000, seed + 1)];
      const states = [];
      const onState = ({ state, resumed, previous }) => states.push([previous, state, resumed]);
      const options = { reconnect: { initialDelayMs: 1, delayMaxMs: 20 }, onState };
      const [reader, writer] = await Promise.all(proxies.map((proxy) => connectAtLast(proxy.url, options)));
      const { events, until } = record(reader, path, TopicType.INT64);
      await reader.subscribe(path);
      // Some at a time, so that some are under way at each cut.
      for (let value = 0; value < count; value += 20) {
        await Promise.all(Array.from({ length: 20 }, (_, index) => writer.topics.set(path, value + index, TopicType.INT64)));
      }
      await until(1 + count);
      for (const proxy of proxies) proxy.isCutting = false;
      const values = events.filter(([kind]) => kind === 'value').map(([, , value]) => value);
      assert.deepEqual(values, Array.from({ length: count }, (_, value) => value), `seed ${seed}`);
      assert.deepEqual(events[0], ['subscription', path]);
      assert.ok(proxies.every(({ cuts }) => cuts > 2), `${proxies.map(({ cuts }) => cuts)} cuts`);
      // It was always the same session.
      const came = states.filter(([previous, state]) => previous === 'recovering' && state === 'connected');
      assert.ok(came.length > 4 && came.every(([, , resumed]) => resumed), `seed ${seed}: ${JSON.stringify(states)}`);
      await Promise.all([reader.close(), writer.close()]);
      for (const proxy of proxies) proxy.stop();
    }),
  );

  await t.test('more arrives than the server keeps to be sent again', () =>
    withSessions(1, async ({ topics }) => {
      const path = `${ROOT}/much`;
      const reader = await connect(url);
      await topics.add(path, { type: TopicType.BINARY, properties: { CONFLATION: 'off', PUBLISH_VALUES_ONLY: 'true' } });
      const { until } = record(reader, path, TopicType.BINARY);
      await reader.subscribe(path);
      // Five times as much, in half the time in which the server is told at the latest.
      for (let value = 0; value < 250; value += 1) await topics.set(path, new Uint8Array(20_000).map((_, index) => value * index * 31));
      await until(251);
      await reader.close();
    }),
  );

  await t.test('a session that is over is followed by a new one', () =>
    withSessions(1, async ({ topics }) => {
      const path = `${ROOT}/over`;
      const proxy = await startCuttingProxy(2_000, 1);
      proxy.isCutting = false;
      const states = [];
      const reader = await connect(proxy.url, { resumeMs: 1, reconnect: { initialDelayMs: 50 }, onState: ({ state, resumed }) => states.push([state, resumed]) });
      await topics.addAndSet(path, TopicType.INT64, 1);
      const { events, until } = record(reader, path, TopicType.INT64);
      await reader.subscribe(path);
      const { id } = reader;
      proxy.cut();
      await topics.set(path, 2);
      await until(3);
      assert.deepEqual(events.at(-1), ['value', path, 2, 1]);
      assert.notEqual(reader.id, id);
      await reader.topics.set(path, 3);
      assert.deepEqual(states, [['connecting', undefined], ['connected', false], ['recovering', undefined], ['connected', false]]);
      await reader.close();
      proxy.stop();
    }),
  );
});
