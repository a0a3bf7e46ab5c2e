/**
 * Deltas: a topic's next value from the one before it, byte for byte.
 *
 * The two forms are described in `sdk/protocol/README.md`, *Delta forms*. A delta that breaks a rule throws: this client's copy
 * is then not what the server takes it for, and the connection has to be made anew. Deltas that this side makes are of the copy form.
 *
 * @module
 */

import { Reader, Writer } from './bytes.js';
import { ProtocolError } from './errors.js';
import { inflate } from './inflate.js';

const NOTHING = new Uint8Array(0);
const NUMBER_MAX = 0xffff_ffff;

const INSERT_EXTENDED = 7;
const COPY_EXTENDED = 15;

/** What stands before the literal bytes of a delta made here: three numbers and a token. */
const HEAD_BYTES_MAX = 16;

/**
 * @param {import('./decode.js').DeltaForm} form
 * @param {Uint8Array} previous
 * @param {Uint8Array} delta
 * @param {number} lengthMax the most bytes of a value
 * @returns {Uint8Array}
 */
export function applyDelta(form, previous, delta, lengthMax) {
  return form === 'deflate' ? inflate(delta, previous, lengthMax) : applyCopy(previous, delta, lengthMax);
}

/**
 * A delta of the copy form: what is new between the first and the last bytes that both values share.
 *
 * @param {Uint8Array} previous
 * @param {Uint8Array} next
 * @returns {Uint8Array | undefined} undefined where it would not be shorter than the value
 */
export function makeDelta(previous, next) {
  const shorter = Math.min(previous.length, next.length);
  let copied = 0;
  while (copied < shorter && previous[copied] === next[copied]) copied += 1;
  let kept = 0;
  while (kept < shorter - copied && previous[previous.length - 1 - kept] === next[next.length - 1 - kept]) kept += 1;
  const insert = next.subarray(copied, next.length - kept);
  if (insert.length >= next.length) return undefined;
  const writer = new Writer(insert.length + HEAD_BYTES_MAX);
  writer.varint(copied * 2);
  if (copied < next.length) writeStep(writer, insert, previous.length - kept - copied - insert.length);
  return writer.length < next.length ? writer.take() : undefined;
}

/**
 * A step that copies what is left of the value before.
 *
 * @param {Writer} writer
 * @param {Uint8Array} insert
 * @param {number} move
 */
function writeStep(writer, insert, move) {
  writer.u8((move === 0 ? 0 : 0x80) | (Math.min(insert.length, INSERT_EXTENDED) << 4));
  if (insert.length >= INSERT_EXTENDED) writer.varint(insert.length - INSERT_EXTENDED);
  if (move !== 0) writer.varint(move < 0 ? -2 * move - 1 : 2 * move);
  writer.raw(insert);
}

/**
 * @param {Uint8Array} previous
 * @param {Uint8Array} delta
 * @param {number} lengthMax
 * @returns {Uint8Array}
 */
function applyCopy(previous, delta, lengthMax) {
  const reader = new Reader(delta);
  const head = number(reader);
  const copied = head >>> 1;
  const program = head & 1 ? inflate(reader.rest(), NOTHING, lengthMax) : reader.rest();
  if (copied > previous.length) throw broken('more bytes copied first than the value before has');
  const next = new Uint8Array(runProgram(program, previous, copied, lengthMax, undefined));
  next.set(previous.subarray(0, copied));
  runProgram(program, previous, copied, lengthMax, next);
  return next;
}

/**
 * Runs the steps and returns the length of what they make. Without `next` they are only checked and measured, so that
 * the value can be made in a buffer of the right length, which a hostile delta cannot make large for little.
 *
 * @param {Uint8Array} program
 * @param {Uint8Array} previous
 * @param {number} copied
 * @param {number} lengthMax
 * @param {Uint8Array | undefined} next
 * @returns {number}
 */
function runProgram(program, previous, copied, lengthMax, next) {
  const reader = new Reader(program);
  let position = copied;
  let length = copied;
  while (reader.more) {
    const token = reader.u8();
    let insert = (token >> 4) & 7;
    let copy = token & 15;
    if (insert === INSERT_EXTENDED) insert += number(reader);
    if (copy === COPY_EXTENDED) copy += number(reader);
    const move = token >> 7 ? unzigzag(number(reader)) : 0;
    const inserted = reader.take(insert);
    position += insert + move;
    if (position < 0 || position > previous.length) throw broken('a copy that starts outside the value before');
    if ((token & 15) === 0) copy = previous.length - position;
    if (copy > previous.length - position) throw broken('a copy that runs over the end of the value before');
    next?.set(inserted, length);
    next?.set(previous.subarray(position, position + copy), length + insert);
    position += copy;
    length += insert + copy;
    if (length > lengthMax) throw broken('more bytes than a value may have');
  }
  return length;
}

/**
 * A number of the form, all of which are below 2^32.
 *
 * @param {Reader} reader
 * @returns {number}
 */
function number(reader) {
  const value = reader.size();
  if (value > NUMBER_MAX) throw broken('a number of more than 32 bits');
  return value;
}

/** @param {number} value */
function unzigzag(value) {
  return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
}

/** @param {string} found */
function broken(found) {
  return new ProtocolError(`expected a delta of the copy form, found ${found}`);
}
