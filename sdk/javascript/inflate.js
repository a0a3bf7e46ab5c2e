/**
 * Raw DEFLATE (RFC 1951) with a preset dictionary, in one go.
 *
 * The platform's `DecompressionStream` takes no dictionary, and a page loads this SDK without a bundler. The output is
 * bounded; broken input throws and never reads or writes out of bounds.
 *
 * @module
 */

import { ProtocolError } from './errors.js';

const WINDOW_BYTES = 32768;
const CODE_BITS_MAX = 15;
/** Codes up to this length are found by one look into a table; longer ones are rare. */
const TABLE_BITS = 10;
const TABLE_MASK = (1 << TABLE_BITS) - 1;
/** What is kept of the output buffer between calls. */
const SCRATCH_BYTES_KEPT = 1 << 20;

const END_OF_BLOCK = 256;

const LENGTH_BASE = [3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258];
const LENGTH_EXTRA = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
const DISTANCE_BASE = [
  1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385,
  24577,
];
const DISTANCE_EXTRA = [0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13];
/** The order in which the lengths of the code length codes are written. */
const LENGTHS_ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/** A canonical Huffman code, ready to decode. */
class Huffman {
  /** @param {number} symbolsMax */
  constructor(symbolsMax) {
    /** Symbol and code length by the next bits of the input: `symbol << 4 | length`; 0 where the code is longer. */
    this.table = new Uint16Array(1 << TABLE_BITS);
    /** How many codes have each length. */
    this.counts = new Uint16Array(CODE_BITS_MAX + 1);
    /** Symbols in the order of their codes. */
    this.symbols = new Uint16Array(symbolsMax);
  }

  /**
   * Builds the code from the lengths of its symbols' codes.
   *
   * @param {Uint8Array} lengths
   */
  build(lengths) {
    const { counts, symbols, table } = this;
    counts.fill(0);
    table.fill(0);
    for (const length of lengths) counts[length] += 1;
    const used = lengths.length - counts[0];
    counts[0] = 0;
    checkComplete(counts, used);
    const offsets = new Uint16Array(CODE_BITS_MAX + 2);
    const codes = new Uint16Array(CODE_BITS_MAX + 2);
    for (let length = 1; length <= CODE_BITS_MAX; length += 1) {
      offsets[length + 1] = offsets[length] + counts[length];
      codes[length + 1] = (codes[length] + counts[length]) << 1;
    }
    for (let symbol = 0; symbol < lengths.length; symbol += 1) {
      const length = lengths[symbol];
      if (length === 0) continue;
      symbols[offsets[length]++] = symbol;
      const code = codes[length]++;
      if (length <= TABLE_BITS) fillTable(table, reverse(code, length), length, symbol);
    }
  }
}

/**
 * A code with too many symbols is ambiguous. One with too few is only allowed with a single code of one bit, or with none.
 *
 * @param {Uint16Array} counts
 * @param {number} used
 */
function checkComplete(counts, used) {
  let left = 1;
  for (let length = 1; length <= CODE_BITS_MAX; length += 1) {
    left = left * 2 - counts[length];
    if (left < 0) throw broken('a code with too many symbols');
  }
  if (left > 0 && used > 0 && !(used === 1 && counts[1] === 1)) throw broken('an incomplete code');
}

/**
 * @param {Uint16Array} table
 * @param {number} first the code as the input's bits have it
 * @param {number} length
 * @param {number} symbol
 */
function fillTable(table, first, length, symbol) {
  const entry = (symbol << 4) | length;
  for (let index = first; index <= TABLE_MASK; index += 1 << length) table[index] = entry;
}

/**
 * @param {number} code
 * @param {number} length
 */
function reverse(code, length) {
  let reversed = 0;
  for (let index = 0; index < length; index += 1) reversed |= ((code >> index) & 1) << (length - 1 - index);
  return reversed;
}

const literals = new Huffman(288);
const distances = new Huffman(32);
const codeLengths = new Huffman(19);
const fixedLiterals = new Huffman(288);
const fixedDistances = new Huffman(32);

fixedLiterals.build(
  Uint8Array.from({ length: 288 }, (_, symbol) => (symbol < 144 ? 8 : symbol < 256 ? 9 : symbol < 280 ? 7 : 8)),
);
fixedDistances.build(new Uint8Array(32).fill(5));

// Decoding is one synchronous call, so its state can live here and the buffers serve every call.
/** @type {Uint8Array} */
let input = new Uint8Array(0);
let position = 0;
/** Bits taken from the input and not yet used, the next one lowest. */
let bits = 0;
let bitCount = 0;
let output = new Uint8Array(1 << 16);
let written = 0;
let writtenMax = 0;

/**
 * Inflates `deflated`, whose matches may reach back into the end of `dictionary`.
 *
 * @param {Uint8Array} deflated
 * @param {Uint8Array} dictionary only its last 32,768 bytes count
 * @param {number} lengthMax the most bytes of output
 * @returns {Uint8Array}
 * @throws {ProtocolError} where the input is broken, goes on behind its end, or makes more than `lengthMax` bytes
 */
export function inflate(deflated, dictionary, lengthMax) {
  const start = Math.min(dictionary.length, WINDOW_BYTES);
  input = deflated;
  position = 0;
  bits = 0;
  bitCount = 0;
  written = 0;
  writtenMax = start + lengthMax;
  reserve(start);
  output.set(dictionary.subarray(dictionary.length - start), 0);
  written = start;
  try {
    let final = false;
    while (!final) final = inflateBlock();
    if (position - (bitCount >> 3) < input.length) throw broken('bytes behind its end');
    return output.slice(start, written);
  } finally {
    input = new Uint8Array(0);
    if (output.length > SCRATCH_BYTES_KEPT) output = new Uint8Array(SCRATCH_BYTES_KEPT);
  }
}

/** @returns {boolean} whether it was the last one */
function inflateBlock() {
  const final = takeBits(1) === 1;
  switch (takeBits(2)) {
    case 0:
      copyStored();
      break;
    case 1:
      inflateCodes(fixedLiterals, fixedDistances);
      break;
    case 2:
      readCodes();
      inflateCodes(literals, distances);
      break;
    default:
      throw broken('a block of unknown kind');
  }
  return final;
}

function copyStored() {
  // What is left of the current byte is padding; whole bytes that wait in `bits` are given back.
  position -= bitCount >> 3;
  bits = 0;
  bitCount = 0;
  if (input.length - position < 4) throw early();
  const length = input[position] | (input[position + 1] << 8);
  const complement = input[position + 2] | (input[position + 3] << 8);
  if (length !== (complement ^ 0xffff)) throw broken('a stored block whose length does not fit its check');
  position += 4;
  if (length > input.length - position) throw early();
  reserve(length);
  output.set(input.subarray(position, position + length), written);
  position += length;
  written += length;
}

/** Reads the codes of a dynamic block into `literals` and `distances`. */
function readCodes() {
  const literalCount = takeBits(5) + 257;
  const distanceCount = takeBits(5) + 1;
  const lengthCount = takeBits(4) + 4;
  if (literalCount > 286 || distanceCount > 30) throw broken('more symbols than there are');
  const lengthLengths = new Uint8Array(19);
  for (let index = 0; index < lengthCount; index += 1) lengthLengths[LENGTHS_ORDER[index]] = takeBits(3);
  codeLengths.build(lengthLengths);
  const lengths = new Uint8Array(literalCount + distanceCount);
  let index = 0;
  while (index < lengths.length) {
    const symbol = takeSymbol(codeLengths);
    if (symbol < 16) {
      lengths[index++] = symbol;
      continue;
    }
    if (symbol === 16 && index === 0) throw broken('a repeated length without one before it');
    const value = symbol === 16 ? lengths[index - 1] : 0;
    const count = symbol === 16 ? 3 + takeBits(2) : symbol === 17 ? 3 + takeBits(3) : 11 + takeBits(7);
    if (index + count > lengths.length) throw broken('more code lengths than symbols');
    lengths.fill(value, index, index + count);
    index += count;
  }
  if (lengths[END_OF_BLOCK] === 0) throw broken('a block that cannot end');
  literals.build(lengths.subarray(0, literalCount));
  distances.build(lengths.subarray(literalCount));
}

/**
 * @param {Huffman} literalCode
 * @param {Huffman} distanceCode
 */
function inflateCodes(literalCode, distanceCode) {
  for (;;) {
    const symbol = takeSymbol(literalCode);
    if (symbol < END_OF_BLOCK) {
      if (written === output.length || written >= writtenMax) reserve(1);
      output[written++] = symbol;
    } else if (symbol === END_OF_BLOCK) {
      return;
    } else {
      copyMatch(symbol - 257, distanceCode);
    }
  }
}

/**
 * @param {number} lengthSymbol
 * @param {Huffman} distanceCode
 */
function copyMatch(lengthSymbol, distanceCode) {
  if (lengthSymbol >= LENGTH_BASE.length) throw broken('a length that does not exist');
  const length = LENGTH_BASE[lengthSymbol] + takeBits(LENGTH_EXTRA[lengthSymbol]);
  const distanceSymbol = takeSymbol(distanceCode);
  if (distanceSymbol >= DISTANCE_BASE.length) throw broken('a distance that does not exist');
  const distance = DISTANCE_BASE[distanceSymbol] + takeBits(DISTANCE_EXTRA[distanceSymbol]);
  if (distance > written) throw broken('a match that starts before the dictionary');
  reserve(length);
  const from = written - distance;
  if (distance >= length) {
    output.copyWithin(written, from, from + length);
  } else {
    // The match overlaps what it makes, so it has to go byte by byte.
    for (let index = 0; index < length; index += 1) output[written + index] = output[from + index];
  }
  written += length;
}

/**
 * @param {Huffman} code
 * @returns {number}
 */
function takeSymbol(code) {
  while (bitCount < CODE_BITS_MAX && position < input.length) {
    bits |= input[position++] << bitCount;
    bitCount += 8;
  }
  const entry = code.table[bits & TABLE_MASK];
  const length = entry & 15;
  if (entry === 0) return takeLongSymbol(code);
  if (length > bitCount) throw early();
  bits >>>= length;
  bitCount -= length;
  return entry >> 4;
}

/**
 * Walks the canonical code bit by bit.
 *
 * @param {Huffman} code
 * @returns {number}
 */
function takeLongSymbol(code) {
  let value = 0;
  let first = 0;
  let index = 0;
  for (let length = 1; length <= CODE_BITS_MAX; length += 1) {
    value |= takeBits(1);
    const count = code.counts[length];
    if (value - first < count) return code.symbols[index + value - first];
    index += count;
    first = (first + count) << 1;
    value <<= 1;
  }
  throw broken('a code that stands for nothing');
}

/**
 * @param {number} count at most 15
 * @returns {number}
 */
function takeBits(count) {
  while (bitCount < count) {
    if (position >= input.length) throw early();
    bits |= input[position++] << bitCount;
    bitCount += 8;
  }
  const taken = bits & ((1 << count) - 1);
  bits >>>= count;
  bitCount -= count;
  return taken;
}

/** @param {number} count */
function reserve(count) {
  const needed = written + count;
  if (needed > writtenMax) throw broken('more bytes than a value may have');
  if (needed <= output.length) return;
  const grown = new Uint8Array(Math.max(needed, output.length * 2));
  grown.set(output.subarray(0, written));
  output = grown;
}

/** @param {string} found */
function broken(found) {
  return new ProtocolError(`expected a DEFLATE stream from the server, found ${found}`);
}

function early() {
  return broken('its end too early');
}
