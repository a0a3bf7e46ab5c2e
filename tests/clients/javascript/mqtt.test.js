// MQTT.js against the real server: MQTT 3.1, 3.1.1 and 5, over TCP and over WebSocket, among itself and with native sessions.
//
// TIDEWIRE_URL and TIDEWIRE_MQTT say where the server is.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Client, native, WAYS, withClients } from './client.js';

const connect = Client.connect;

test('a message of any version, transport and QoS reaches every other', () =>
  withClients(WAYS.map((way) => connect(way)), async (...clients) => {
    for (const [index, client] of clients.entries()) {
      const qos = index % 3;
      assert.deepEqual((await client.subscribe('js/any/+', { qos })).map((granted) => granted.qos), [qos]);
    }
    for (const [index, publisher] of clients.entries()) {
      for (const qos of [0, 1, 2]) {
        await publisher.publish('js/any/a', `${index} ${qos}`, { qos });
        for (const [granted, client] of clients.entries()) {
          assert.deepEqual(await client.next(), ['js/any/a', `${index} ${qos}`, Math.min(qos, granted % 3), false]);
        }
      }
    }
  }));

test('many messages under way at once keep their order', async (t) => {
  for (const way of WAYS) {
    await t.test(way.name, () =>
      withClients([connect(way)], async (client) => {
        await client.subscribe('js/many', { qos: 2 });
        const sent = Array.from({ length: 300 }, (_, number) => client.publish('js/many', String(number), { qos: 2 }));
        for (let number = 0; number < 300; number += 1) assert.deepEqual(await client.next(), ['js/many', String(number), 2, false]);
        await Promise.all(sent);
      }),
    );
  }
});

test('a long payload arrives whole', async (t) => {
  const payload = Buffer.alloc(230_000, 'payload ');
  for (const way of WAYS) {
    await t.test(way.name, () =>
      withClients([connect(way)], async (client) => {
        await client.subscribe('js/long', { qos: 1 });
        await client.publish('js/long', payload, { qos: 1 });
        assert.ok((await client.message()).payload.equals(payload));
      }),
    );
  }
});

test('a retained message stays until an empty one clears it', async (t) => {
  for (const way of WAYS) {
    const topic = `js/kept/${way.name}`;
    await t.test(way.name, () =>
      withClients([connect(way), connect(way)], async (client, late) => {
        await client.publish(topic, 'kept', { qos: 1, retain: true });
        await client.subscribe(topic, { qos: 1 });
        assert.deepEqual(await client.next(), [topic, 'kept', 1, true]);
        await client.publish(topic, '', { qos: 1, retain: true });
        assert.deepEqual(await client.next(), [topic, '', 1, false]);
        await late.subscribe(topic, { qos: 1 });
        await client.publish(topic, 'end', { qos: 1 });
        assert.deepEqual(await late.next(), [topic, 'end', 1, false]);
      }),
    );
  }
});

test('the will of a lost client is published', async (t) => {
  const { session, next } = await native('?js/will//');
  for (const way of WAYS) {
    const topic = `js/will/${way.name}`;
    await t.test(way.name, () =>
      withClients([connect(), connect(way, { will: { topic, payload: Buffer.from('lost'), qos: 1, retain: true } })], async (watcher, lost) => {
        await watcher.subscribe(topic, { qos: 2 });
        await lost.lose();
        assert.deepEqual(await watcher.next(), [topic, 'lost', 1, false]);
        assert.deepEqual(await next(), [topic, 'binary', new Uint8Array(Buffer.from('lost'))]);
      }),
    );
  }
  await session.close();
});

test('the will of a client that leaves is not published', () =>
  withClients([connect()], async (watcher) => {
    await watcher.subscribe('js/left/#', { qos: 1 });
    for (const way of WAYS) {
      const leaving = await connect(way, { will: { topic: 'js/left/will', payload: Buffer.from('left'), qos: 1, retain: false } });
      await leaving.end();
    }
    await watcher.publish('js/left/end', 'end', { qos: 1 });
    assert.equal((await watcher.next())[0], 'js/left/end');
  }));

test('a session waits for its client', async (t) => {
  for (const way of WAYS) {
    const topic = `js/away/${way.name}`;
    const options = { clientId: topic, clean: false, properties: way.version === 5 ? { sessionExpiryInterval: 300 } : undefined };
    await t.test(way.name, () =>
      withClients([connect()], async (publisher) => {
        const client = await connect(way, options);
        assert.equal(client.connack.sessionPresent, false);
        await client.subscribe(topic, { qos: 2 });
        await client.end();
        for (const qos of [0, 1, 2]) await publisher.publish(topic, String(qos), { qos });
        await withClients([connect(way, options)], async (back) => {
          // MQTT 3.1 has no such flag.
          assert.equal(back.connack.sessionPresent, way.version > 3);
          assert.deepEqual([await back.next(), await back.next()], [[topic, '1', 1, false], [topic, '2', 2, false]]);
        });
      }),
    );
  }
});

test('the same client identifier again ends the first connection', async (t) => {
  for (const way of WAYS) {
    await t.test(way.name, async () => {
      const first = await connect(way, { clientId: 'js-twice' });
      const closed = new Promise((resolve) => first.mqtt.once('close', resolve));
      await withClients([connect(way, { clientId: 'js-twice' })], async () => {
        if (way.version === 5) assert.equal((await first.nextDisconnect()).reasonCode, 0x8e);
        await closed;
      });
    });
  }
});

test('a group shares what comes to its filter', () =>
  withClients(WAYS.map((way) => connect(way)), async (...members) => {
    for (const member of members) await member.subscribe('$share/js/js/shared/#', { qos: 1 });
    for (let number = 0; number < 2 * members.length; number += 1) await members[0].publish('js/shared/a', String(number), { qos: 1 });
    const received = [];
    for (const member of members) received.push((await member.next())[1], (await member.next())[1]);
    assert.deepEqual(received.map(Number).sort((a, b) => a - b), received.map((_, index) => index));
  }));

for (const transport of ['tcp', 'websocket']) {
  test(`MQTT 5 over ${transport}: a request finds its answer`, () =>
    withClients([connect({ transport }), connect({ transport })], async (asking, answering) => {
      await answering.subscribe('js/questions', { qos: 1 });
      await asking.subscribe('js/answers/+', { qos: 1 });
      const userProperties = { a: ['1', '2'], b: 'é' };
      const correlationData = Buffer.from([0, 255]);
      await asking.publish('js/questions', 'how?', { qos: 1, properties: { responseTopic: 'js/answers/7', correlationData, userProperties, contentType: 'text/plain' } });
      const { properties } = (await answering.message()).packet;
      assert.deepEqual({ ...properties.userProperties }, userProperties);
      assert.equal(properties.contentType, 'text/plain');
      await answering.publish(properties.responseTopic, 'so', { qos: 1, properties: { correlationData: properties.correlationData } });
      const answer = await asking.message();
      assert.equal(answer.topic, 'js/answers/7');
      assert.deepEqual(answer.packet.properties.correlationData, correlationData);
    }));

  test(`MQTT 5 over ${transport}: a topic alias stands for its topic in both directions`, () =>
    withClients([connect({ transport }, { autoAssignTopicAlias: true, properties: { topicAliasMaximum: 5 } })], async (client) => {
      assert.ok(client.connack.properties.topicAliasMaximum > 1);
      const aliased = [];
      client.mqtt.on('packetsend', (packet) => packet.cmd === 'publish' && aliased.push(packet.topic === ''));
      await client.subscribe('js/alias/+', { qos: 1 });
      for (const payload of ['first', 'again']) {
        for (const topic of ['js/alias/a', 'js/alias/b']) {
          await client.publish(topic, payload, { qos: 1 });
          assert.deepEqual(await client.next(), [topic, payload, 1, false]);
        }
      }
      assert.deepEqual(aliased, [false, false, true, true], 'the client used its aliases');
    }));
}

test('MQTT 5: subscriptions have options and identifiers', () =>
  withClients([connect(), connect()], async (client, other) => {
    await other.publish('js/options/kept', 'kept', { qos: 1, retain: true });
    await client.subscribe('js/options/+', { qos: 1, nl: true, rap: true, rh: 2, properties: { subscriptionIdentifier: 268435455 } });
    await client.publish('js/options/own', 'own', { qos: 1 });
    await other.publish('js/options/kept', 'newer', { qos: 1, retain: true });
    const { topic, payload, packet } = await client.message();
    assert.deepEqual([topic, payload.toString(), packet.retain], ['js/options/kept', 'newer', true]);
    assert.equal(packet.properties.subscriptionIdentifier, 268435455);
  }));

test('MQTT 5: a will has properties, and its delay ends with the session', () =>
  withClients([connect()], async (watcher) => {
    await watcher.subscribe('js/delayed', { qos: 1 });
    const properties = { willDelayInterval: 3600, userProperties: { a: 'b' }, contentType: 'text/plain' };
    const lost = await connect({}, { will: { topic: 'js/delayed', payload: Buffer.from('lost'), qos: 1, retain: false, properties } });
    await lost.lose();
    const { packet } = await watcher.message();
    assert.deepEqual({ ...packet.properties.userProperties }, { a: 'b' });
    assert.equal(packet.properties.contentType, 'text/plain');
  }));

test('what is published reaches native sessions as values', async (t) => {
  const { session, next } = await native('?js/to_native//');
  for (const way of WAYS) {
    for (const retain of [false, true]) {
      await t.test(`${way.name}, ${retain ? 'retained' : 'passing by'}`, () =>
        withClients([connect(way)], async (client) => {
          const topic = `js/to_native/${way.name}/${retain}`;
          await client.publish(topic, Buffer.from([0, 255]), { qos: 2, retain });
          assert.deepEqual(await next(), [topic, 'binary', new Uint8Array([0, 255])]);
        }),
      );
    }
  }
  await withClients([connect()], async (client) => {
    // What a message says of its payload binds no other.
    for (const [payload, properties] of [['{ "a": [1] }', { contentType: 'application/json' }], ['é', { payloadFormatIndicator: true }]]) {
      await client.publish('js/to_native/said', payload, { qos: 1, properties });
      assert.deepEqual(await next(), ['js/to_native/said', 'binary', new TextEncoder().encode(payload)]);
    }
  });
  await session.close();
});

test('what native sessions set reaches every client as payload', async () => {
  const { session } = await native('js/nothing');
  const values = [
    ['json', { a: [1, 2.5] }, '{"a":[1,2.5]}'],
    ['string', 'é', 'é'],
    ['int64', -9223372036854775808n, '-9223372036854775808'],
    ['double', 0.1, '0.1'],
    ['binary', new Uint8Array([65, 66]), 'AB'],
  ];
  await withClients(WAYS.map((way) => connect(way)), async (...clients) => {
    await Promise.all(clients.map((client) => client.subscribe('js/from_native/+', { qos: 2 })));
    for (const [type, value, payload] of values) {
      await session.topics.addAndSet(`js/from_native/${type}`, type, value);
      for (const client of clients) assert.deepEqual(await client.next(), [`js/from_native/${type}`, payload, 2, false]);
    }
    await session.topics.remove('js/from_native/string');
    await session.topics.addAndSet('js/from_native/string', 'int64', 5);
    for (const client of clients) assert.deepEqual(await client.next(), ['js/from_native/string', '5', 2, false]);
  });
  await session.close();
});

test('a payload that does not fit a native topic is refused', async () => {
  const { session, next } = await native('js/typed');
  await session.topics.addAndSet('js/typed', 'int64', 5);
  assert.deepEqual(await next(), ['js/typed', 'int64', 5]);
  await withClients([connect()], async (client) => {
    for (const qos of [1, 2]) {
      await assert.rejects(client.publish('js/typed', 'five', { qos, retain: true }), (error) => error.code === 0x99);
    }
    await client.publish('js/typed', '6', { qos: 1, retain: true });
    assert.deepEqual(await next(), ['js/typed', 'int64', 6]);
  });
  await session.close();
});
