// Who a client is, to a real server that asks: `scripts/test-sdk-server` starts one, and says by TIDEWIRE_AUTHENTICATING_URL and TIDEWIRE_TOKEN_SECRET where it is and what its
// tokens are signed with.

import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { test } from 'node:test';
import { AccessDeniedError, AuthenticationFailedError, connect } from '../tidewire.js';

const url = process.env.TIDEWIRE_AUTHENTICATING_URL;
const skip = url === undefined && 'TIDEWIRE_AUTHENTICATING_URL is not set';
const FAST = { initialDelayMs: 1, delayMaxMs: 5 };

/** A JSON Web Token of HS256 for so many seconds. As an operator its session may see sessions, also itself. */
function token(principal, seconds) {
  const encode = (part) => Buffer.from(JSON.stringify(part)).toString('base64url');
  const signed = `${encode({ alg: 'HS256', typ: 'JWT' })}.${encode({ sub: principal, roles: ['OPERATOR', 'T'], exp: Math.ceil(Date.now() / 1_000) + seconds })}`;
  return `${signed}.${createHmac('sha256', process.env.TIDEWIRE_TOKEN_SECRET).update(signed).digest('base64url')}`;
}

async function withSession(options, body) {
  const session = await connect(url, options);
  try {
    await body(session);
  } finally {
    await session.close();
  }
}

/** What the server says of the session. */
async function own(session) {
  const { sessions } = await session.clients.list({ filter: `$SessionId is '${session.id}'` });
  return sessions[0].properties;
}

test('a principal has a password, and the roles that the server gives it', { skip }, async () => {
  for (const credentials of ['pass wörd', { password: 'pass wörd' }, async () => 'pass wörd']) {
    await withSession({ principal: 'Zoë', credentials, properties: { Tier: 'gold' } }, async (session) => {
      const { $Principal: principal, $Roles: roles, Tier: tier } = await own(session);
      // Of a client's word nothing is believed.
      assert.deepEqual([session.principal, principal, roles, tier], ['Zoë', 'Zoë', '"A \\"1\\"" "B" "OPERATOR"', undefined]);
    });
  }
});

test('a token says who the client is', { skip }, async () => {
  // MQTT's clients show it in the place of a password, and so may these.
  for (const credentials of [{ bearer: token('ann', 60) }, token('ann', 60)]) {
    await withSession({ credentials }, async (session) => {
      const { $Principal: principal, $Roles: roles } = await own(session);
      assert.deepEqual([session.principal, principal, roles], ['', 'ann', '"OPERATOR" "T"']);
    });
  }
});

test('a session that has begun may be somebody else\'s from then on', { skip }, async () => {
  const sockets = [];
  const { WebSocket } = globalThis.WebSocket === undefined ? await import('ws') : globalThis;
  class Kept extends WebSocket {
    constructor(...given) {
      super(...given);
      sockets.push(this);
    }
  }
  await withSession({ principal: 'Zoë', credentials: 'pass wörd', WebSocket: Kept, reconnect: FAST }, async (session) => {
    const { id } = session;
    await assert.rejects(session.authenticate({ principal: 'Zoë', credentials: 'wrong' }), AuthenticationFailedError);
    assert.equal((await own(session)).$Principal, 'Zoë');
    await session.authenticate({ credentials: { bearer: token('ann', 60) } });
    const { $Principal: principal, $Roles: roles } = await own(session);
    assert.deepEqual([session.id, principal, roles], [id, 'ann', '"OPERATOR" "T"']);
    // By its new token it goes on after a connection too.
    const resumed = new Promise((resolve) => session.on('state', ({ state, resumed }) => state === 'connected' && resolve(resumed)));
    sockets.at(-1).close();
    assert.equal(await resumed, true);
    assert.equal((await own(session)).$Principal, 'ann');
  });
});

test('a newer token takes the place of one that ends', { skip }, async () => {
  let seconds = 2;
  await withSession({ credentials: () => ({ bearer: token('ann', seconds) }) }, async (session) => {
    seconds = 600;
    await session.authenticate();
    const { id } = session;
    await new Promise((resolve) => setTimeout(resolve, 5_000));
    assert.equal((await own(session)).$Principal, 'ann');
    assert.equal(session.id, id);
  });
});

test('a session says who others are', { skip }, async () => {
  await withSession({ principal: 'sdk-admin', credentials: 'may all' }, async (admin) => {
    const asked = [];
    const authenticator = await admin.security.addAuthenticator('sdk', async (question) => {
      asked.push(question);
      const { principal, credentials } = question;
      if (principal === 'fails') throw new Error('the directory is down');
      if (principal !== 'guest') return 'abstain';
      return credentials.text === 'let me in' ? { roles: ['OPERATOR'], properties: { Tier: 'gold' }, expiresInSeconds: 600.5 } : 'deny';
    });
    await withSession({ principal: 'guest', credentials: 'let me in', properties: { Tier: 'lead' } }, async (session) => {
      const { $Principal: principal, $Roles: roles, Tier: tier } = await own(session);
      assert.deepEqual([principal, roles, tier], ['guest', '"OPERATOR"', 'gold']);
    });
    assert.deepEqual(asked, [{ principal: 'guest', address: '127.0.0.1', certificate: null, credentials: { type: 'password', text: 'let me in' }, properties: { Tier: 'lead' } }]);
    for (const principal of ['guest', 'fails', 'other']) {
      await assert.rejects(connect(url, { principal, credentials: 'wrong', reconnect: false }), AuthenticationFailedError, principal);
    }
    await assert.rejects(admin.security.addAuthenticator('another', () => 'deny'), /control:another/);
    await authenticator.close();
    await assert.rejects(connect(url, { principal: 'guest', credentials: 'let me in', reconnect: false }), AuthenticationFailedError);
  });
  await withSession({ principal: 'sdk-client', credentials: 'may read' }, async (client) => {
    await assert.rejects(client.security.addAuthenticator('sdk', () => 'deny'), AccessDeniedError);
    for (const wrong of [[7, () => 'deny'], ['sdk', 'deny']]) await assert.rejects(client.security.addAuthenticator(...wrong), TypeError);
  });
});

test('who is unknown, or shows what is not right, may not connect', { skip }, async () => {
  for (const options of [
    {},
    { principal: 'Zoë' },
    { principal: 'Zoë', credentials: 'wrong' },
    { principal: 'nobody', credentials: 'pass wörd' },
    { principal: 'bob', credentials: { bearer: token('ann', 60) } },
    { credentials: { bearer: token('ann', -60) } },
  ]) {
    await assert.rejects(connect(url, options), (error) => error instanceof AuthenticationFailedError && error.code === 109);
  }
});

/** For as long as the server needs at most to take it up, and no longer than a test should wait. */
const SOON_S = 3;

test('where a token has expired a new session begins with the next', { skip }, async () => {
  let asked = 0;
  const credentials = () => ({ bearer: token('ann', asked++ === 0 ? SOON_S : 60) });
  const states = [];
  const onState = ({ state, code, resumed }) => states.push([state, code ?? resumed]);
  await withSession({ credentials, reconnect: FAST, onState }, async (session) => {
    const { id } = session;
    await session.subscribe('?sdk-credentials//');
    await new Promise((resolve) => session.on('state', ({ state }) => state === 'connected' && resolve()));
    assert.notEqual(session.id, id);
    assert.deepEqual(states, [['connecting', undefined], ['connected', false], ['recovering', 4108], ['connected', false]]);
    const { selections } = await session.clients.selections(session.id);
    assert.deepEqual(selections.map(({ selector }) => selector), ['?sdk-credentials//']);
    assert.equal(asked, 2);
  });
});

test('where a token has expired and there is no other the session is closed', { skip }, async () => {
  const session = await connect(url, { credentials: { bearer: token('ann', SOON_S) } });
  const { status, code, reason } = await session.closed;
  assert.deepEqual([status, code, reason], ['CLOSED_BY_SERVER', 4108, 'what the client showed is worth nothing any more']);
});
