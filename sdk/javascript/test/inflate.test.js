// The own DEFLATE decoder against zlib's.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { constants, deflateRawSync, inflateRawSync } from 'node:zlib';
import { ProtocolError } from '../errors.js';
import { inflate } from '../inflate.js';

const NOTHING = new Uint8Array(0);

/** The same numbers in every run. */
function seeded(seed) {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

function randomBytes(random, length) {
  const alphabet = 1 + random(255);
  const bytes = Buffer.alloc(length);
  for (let index = 0; index < length; index += 1) {
    bytes[index] = index > 40 && random(2) === 0 ? bytes[index - 1 - random(40)] : random(alphabet);
  }
  return bytes;
}

function randomCase(random) {
  const bytes = randomBytes(random, random(10) === 0 ? random(80_000) : random(600));
  const dictionary = bytes.subarray(0, random(bytes.length + 1));
  const next = Buffer.concat([bytes.subarray(Math.floor(bytes.length / 3)), randomBytes(random, random(30))]);
  const options = { level: random(10), strategy: random(5), ...(dictionary.length > 0 && { dictionary: dictionary.subarray(-32768) }) };
  return { dictionary, next, options, deflated: deflateRawSync(next, options) };
}

test('what zlib deflates comes back, with any dictionary, level and strategy', () => {
  const random = seeded(1);
  for (let round = 0; round < 500; round += 1) {
    const { deflated, dictionary, next } = randomCase(random);
    assert.ok(next.equals(inflate(deflated, dictionary, next.length)), `round ${round}`);
  }
});

test('broken input is refused, or makes what zlib makes of it', () => {
  const random = seeded(2);
  for (let round = 0; round < 1500; round += 1) {
    const { deflated, dictionary, options } = randomCase(random);
    for (let count = 1 + random(3); count > 0; count -= 1) deflated[random(deflated.length)] ^= 1 << random(8);
    let mine;
    try {
      mine = inflate(deflated, dictionary, 1 << 20);
    } catch (error) {
      assert.ok(error instanceof ProtocolError, error);
      continue;
    }
    assert.ok(inflateRawSync(deflated, { ...options, maxOutputLength: 1 << 20 }).equals(mine), `round ${round}`);
  }
});

test('noise never does more than throw', () => {
  const random = seeded(3);
  for (let round = 0; round < 3000; round += 1) {
    const noise = Buffer.from({ length: random(200) }, () => 0).map(() => random(256));
    try {
      inflate(noise, NOTHING, 4096);
    } catch (error) {
      assert.ok(error instanceof ProtocolError, error);
    }
  }
});

test('every cut of the input is refused', () => {
  const deflated = deflateRawSync(Buffer.from('the quick brown fox jumps over the lazy dog, the quick brown fox'.repeat(9)));
  for (let length = 0; length < deflated.length; length += 1) {
    assert.throws(() => inflate(deflated.subarray(0, length), NOTHING, 10_000), ProtocolError);
  }
});

test('bytes behind the end are refused', () => {
  const deflated = Buffer.concat([deflateRawSync('abc'), Buffer.from([0])]);
  assert.throws(() => inflate(deflated, NOTHING, 100), /behind its end/);
});

test('the output is bounded, whatever the kind of block', () => {
  for (const options of [{ level: 0 }, { level: 9 }, { strategy: constants.Z_FIXED }, { strategy: constants.Z_HUFFMAN_ONLY }]) {
    const deflated = deflateRawSync(Buffer.alloc(100_000, 'x'), options);
    assert.equal(inflate(deflated, NOTHING, 100_000).length, 100_000);
    assert.throws(() => inflate(deflated, NOTHING, 99_999), /more bytes than a value may have/);
  }
  assert.throws(() => inflate(deflateRawSync('x'), NOTHING, 0), /more bytes/);
});
