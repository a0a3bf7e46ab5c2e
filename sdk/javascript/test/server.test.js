// Every operation against a real server, where TIDEWIRE_URL names one that this test may fill and empty under `sdk-test/`.

import assert from 'node:assert/strict';
import { connect as connectSocket, createServer } from 'node:net';
import { test } from 'node:test';
import {
  connect,
  ConnectionError,
  HandlerAwayError,
  HandlerGoneError,
  IncompatibleTypeError,
  InvalidFilterError,
  InvalidSelectorError,
  InvalidSessionPropertyError,
  NoHandlerError,
  NoSuchSessionError,
  NoSuchTopicError,
  RejectedError,
  RequestTimeoutError,
  TimeoutError,
  TopicExistsError,
  TopicType,
  UnsatisfiedConstraintError,
  updateConstraints,
} from '../tidewire.js';

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

/** Asks again and again until there is something. */
async function untilFound(ask) {
  for (;;) {
    const found = await ask();
    if (found !== undefined) return found;
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

/**
 * The first connection has no session yet that could go on, and may be cut, too. Node's own WebSocket says nothing of one that ends within the answer's head, neither
 * `close` nor `error`: then it is known by the time for connecting.
 */
async function connectAtLast(address, options) {
  for (;;) {
    try {
      return await connect(address, { connectTimeoutMs: 2_000, ...options });
    } catch (error) {
      if (!(error instanceof ConnectionError || error instanceof TimeoutError)) throw error;
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

  await t.test('requests between two sessions are answered, or say why not', () =>
    withSessions(2, async (asker, handling) => {
      const path = `${ROOT}/requests`;
      const { messaging } = asker;
      await assert.rejects(messaging.sendRequest(path, 1), NoHandlerError);
      const received = [];
      const handle = (request) => {
        received.push(request);
        if (request.value === 'no') throw new Error('not today');
        if (request.value === 'never') return new Promise(() => {});
        return request.value;
      };
      const handler = await handling.messaging.addRequestHandler(path, handle, { sessionProperties: ['$SessionId'] });
      assert.deepEqual(await messaging.sendRequest(`${path}/a`, { buy: 100 }), { buy: 100 });
      const { id } = asker;
      assert.deepEqual(received, [
        { path: `${path}/a`, value: { buy: 100 }, type: 'json', sessionId: id, sessionProperties: { $SessionId: id }, isOneWay: false },
      ]);
      for (const [type, value, next] of VALUES) {
        await handling.messaging.addRequestHandler(`${path}/${type}`, () => next, { type });
        assert.deepEqual(await messaging.sendRequest(`${path}/${type}`, value, { type, responseType: type }), next);
      }
      assert.equal(await messaging.sendRequest(path, null, { type: 'string' }), null);
      assert.equal(await messaging.sendRequestToSession(handling.id, path, 7), 7);
      await assert.rejects(messaging.sendRequest(path, 'no'), (error) => error instanceof RejectedError && error.message === 'not today');
      await assert.rejects(messaging.sendRequest(path, 'never', { timeoutMs: 50 }), RequestTimeoutError);
      await assert.rejects(messaging.sendRequestToSession('nobody', path, 1), NoSuchSessionError);
      await messaging.send(path, 'one way');
      assert.equal((await untilFound(async () => received.find(({ isOneWay }) => isOneWay))).value, 'one way');
      await handler.close();
      await assert.rejects(messaging.sendRequest(path, 1), NoHandlerError);
    }),
  );

  await t.test('a handler that goes is told of', () =>
    withSessions(2, async (asker, handling) => {
      const path = `${ROOT}/gone`;
      let isAsked = false;
      await handling.messaging.addRequestHandler(path, () => ((isAsked = true), new Promise(() => {})));
      const asked = assert.rejects(asker.messaging.sendRequest(path, 1), HandlerGoneError);
      await untilFound(async () => isAsked || undefined);
      await handling.close();
      await asked;
    }),
  );

  await t.test('over connections that are cut at random moments no request is carried out twice, and each is answered', async () => {
    const path = `${ROOT}/cut`;
    const count = 500;
    const seed = Number(process.env.TIDEWIRE_SEED ?? Date.now() % 2 ** 32);
    const proxies = [await startCuttingProxy(4_000, seed), await startCuttingProxy(6_000, seed + 1)];
    const options = { reconnect: { initialDelayMs: 1, delayMaxMs: 20 } };
    const [asker, handling] = await Promise.all(proxies.map((proxy) => connectAtLast(proxy.url, options)));
    const times = new Array(count).fill(0);
    await handling.messaging.addRequestHandler(path, ({ value }) => {
      times[value] += 1;
      return value;
    });
    const ask = async (value) => {
      try {
        return await asker.messaging.sendRequest(path, value);
      } catch (error) {
        // Nobody was given it, so it can be asked again.
        if (!(error instanceof HandlerAwayError)) throw error;
        return ask(value);
      }
    };
    for (let from = 0; from < count; from += 20) {
      const values = Array.from({ length: 20 }, (_, index) => from + index);
      assert.deepEqual(await Promise.all(values.map(ask)), values, `seed ${seed}`);
    }
    assert.deepEqual(times, new Array(count).fill(1), `seed ${seed}`);
    assert.ok(proxies.every(({ cuts }) => cuts > 1), `${proxies.map(({ cuts }) => cuts)} cuts`);
    for (const proxy of proxies) proxy.isCutting = false;
    await Promise.all([asker.close(), handling.close()]);
    for (const proxy of proxies) proxy.stop();
  });

  await t.test('all sessions that a filter means are asked', () =>
    withSessions(1, async (asker) => {
      const path = `${ROOT}/many`;
      const properties = { SdkTest: `p${process.pid}` };
      const filter = `SdkTest is '${properties.SdkTest}'`;
      const others = await Promise.all(Array.from({ length: 4 }, () => connect(url, { properties })));
      const [one, two, three, four] = others;
      await one.messaging.addRequestHandler(path, () => 'one');
      await two.messaging.addRequestHandler(path, () => Promise.reject(new Error('no')));
      await three.messaging.addRequestHandler(path, () => new Promise(() => {}));
      const heard = [];
      const callbacks = {
        onResponse: (sessionId, value) => heard.push([sessionId, value]),
        onError: (sessionId, error) => heard.push([sessionId, error.name]),
      };
      assert.equal(await asker.messaging.sendRequestToFilter(filter, path, 1, { ...callbacks, timeoutMs: 500 }), 4);
      await untilFound(async () => heard[3]);
      assert.deepEqual(heard.pop(), [undefined, 'RequestTimeoutError']);
      assert.deepEqual(new Map(heard), new Map([[one.id, 'one'], [two.id, 'RejectedError'], [four.id, 'NoHandlerError']]));
      await assert.rejects(asker.messaging.sendRequestToFilter('SdkTest is', path, 1), (error) => error instanceof InvalidFilterError && error.position > 0);
      await Promise.all(others.map((session) => session.close()));
    }),
  );

  await t.test('sessions are listed, steered and closed by another', () =>
    withSessions(1, async ({ clients, topics }) => {
      const run = `c${process.pid}`;
      const [one, two] = [await connect(url, { properties: { SdkTest: run } }), await connect(url, { properties: { SdkTest: run, Tier: 'gold' } })];
      const filter = `SdkTest is '${run}'`;
      const listed = await clients.list({ filter });
      assert.equal(listed.hasMore, false);
      for (const { properties } of listed.sessions) assert.equal(properties.$Environment, `NODE_${process.platform}_${process.versions.node}`);
      const byId = new Map(listed.sessions.map((session) => [session.sessionId, session]));
      assert.deepEqual([...byId.keys()].sort(), [one.id, two.id].sort());
      const { isAway, properties, subscriptions, queueBytes } = byId.get(two.id);
      assert.deepEqual([isAway, properties.Tier, properties.$SessionId, subscriptions, queueBytes], [false, 'gold', two.id, 0, 0]);
      const first = await clients.list({ filter, first: 1 });
      assert.deepEqual([first.hasMore, first.sessions.length], [true, 1]);
      const rest = await clients.list({ filter, after: first.sessions[0].sessionId });
      assert.deepEqual([rest.hasMore, rest.sessions.length], [false, 1]);
      assert.equal((await clients.list({ filter, slowest: true })).sessions.length, 2);

      assert.equal(await clients.setProperties({ filter }, { Tier: 'tin', Desk: '7' }), 2);
      assert.equal(await clients.setProperties({ session: one.id }, { Desk: '' }), 1);
      assert.deepEqual((await clients.list({ filter: `${filter} and Tier is 'tin' and has Desk` })).sessions.map(({ sessionId }) => sessionId), [two.id]);
      await assert.rejects(clients.setProperties({ filter }, { $Principal: 'me' }), InvalidSessionPropertyError);
      await assert.rejects(connect(url, { properties: { 1: 'x' } }), InvalidSessionPropertyError);

      assert.equal(await clients.setConflated({ session: two.id }, true), 1);
      assert.equal(await clients.setConflated({ filter }, false), 2);

      const path = `${ROOT}/steered`;
      await topics.addAndSet(path, 'json', 1);
      const { until } = record(two, path, 'json');
      assert.equal(await clients.subscribe({ session: two.id }, path), 1);
      await until(2);
      const { selections } = await clients.selections(two.id);
      assert.deepEqual(selections, [{ scope: '', selector: `>${path}`, kind: 'select' }]);
      await assert.rejects(clients.selections('nobody'), NoSuchSessionError);
      assert.equal(await clients.unsubscribe({ session: two.id }, path), 1);
      assert.deepEqual(await until(3), [['subscription', path], ['value', path, 1, undefined], ['unsubscription', path, 'requested']]);

      assert.equal(await clients.close({ session: two.id }, 'the trial is over'), 1);
      const { status, code, reason } = await two.closed;
      assert.deepEqual([status, code, reason], ['CLOSED_BY_SERVER', 4106, 'the trial is over']);
      assert.equal(await clients.close({ filter }), 1);
      assert.equal((await one.closed).code, 4106);
    }),
  );

  await t.test('a lock passes from one session to another, and what is written under it with it', () =>
    withSessions(2, async (one, two) => {
      const name = `${ROOT}/lock`;
      await one.topics.add(name, 'int64');
      const first = await one.locks.lock(name);
      const waiting = two.locks.lock(name);
      const held = await untilFound(async () => (await one.locks.list()).find((lock) => lock.name === name && lock.waiting === 1));
      assert.deepEqual(held, { name, sessionId: one.id, number: first.number, scope: 'session', waiting: 1 });
      await one.topics.set(name, 1, { type: 'int64', constraint: updateConstraints().locked(first) });
      await assert.rejects(two.topics.set(name, 2, { type: 'int64', constraint: updateConstraints().locked(first) }), UnsatisfiedConstraintError);
      assert.equal(await first.unlock(), true);
      const second = await waiting;
      assert.ok(second.number > first.number);
      await two.topics.set(name, 2, { type: 'int64', constraint: updateConstraints().locked(second) });
      await assert.rejects(one.topics.set(name, 3, { type: 'int64', constraint: updateConstraints().locked(first) }), UnsatisfiedConstraintError);
      assert.equal(await first.unlock(), false);
      const third = one.locks.lock(name);
      await two.close();
      assert.ok((await third).number > second.number);
    }),
  );
});
