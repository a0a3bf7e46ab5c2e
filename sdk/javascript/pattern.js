/**
 * One regex of a selector, for matching on this side.
 *
 * The server's syntax is that of Rust's `regex` crate with `.` matching every character; it is rewritten as a JavaScript `RegExp`
 * that matches the same whole texts. What only one of the two knows is refused rather than read as something else.
 *
 * @module
 */

/** What a pattern that does not parse throws; the selector makes its error of it. */
export class PatternError extends Error {
  /**
   * @param {string} message
   * @param {number} index where in the pattern
   */
  constructor(message, index) {
    super(message);
    this.index = index;
  }
}

const METACHARACTER = /[\\.+*?()|[\]{}^$]/;

const WORD = '\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}';
const BOUNDARY = `(?:(?<=[${WORD}])(?![${WORD}])|(?<![${WORD}])(?=[${WORD}]))`;

/** Escapes of a letter: outside brackets, and inside them where that differs; null where there is no form. */
/** @type {Readonly<Record<string, readonly [string, (string | null)?]>>} */
const ESCAPES = {
  d: ['\\p{Nd}'],
  D: ['\\P{Nd}'],
  s: ['\\p{White_Space}'],
  S: ['\\P{White_Space}'],
  w: [`[${WORD}]`, WORD],
  W: [`[^${WORD}]`, null],
  b: [BOUNDARY, null],
  B: [`(?!${BOUNDARY})`, null],
  A: ['(?<![^])', null],
  z: ['(?![^])', null],
  a: ['\\x07'],
  f: ['\\f'],
  t: ['\\t'],
  n: ['\\n'],
  r: ['\\r'],
  v: ['\\v'],
};

/** @type {Readonly<Record<string, string>>} */
const POSIX_CLASSES = {
  alnum: '0-9A-Za-z',
  alpha: 'A-Za-z',
  ascii: '\\x00-\\x7F',
  blank: '\\t ',
  cntrl: '\\x00-\\x1F\\x7F',
  digit: '0-9',
  graph: '!-~',
  lower: 'a-z',
  print: ' -~',
  space: '\\t\\n\\v\\f\\r ',
  upper: 'A-Z',
  word: '0-9A-Za-z_',
  xdigit: '0-9A-Fa-f',
};

/**
 * The text that `source` means where it is no regex at all, or undefined.
 *
 * @param {string} source
 * @returns {string | undefined}
 */
export function plainText(source) {
  return METACHARACTER.test(source) ? undefined : source;
}

/**
 * A regex that matches a whole text exactly if the server's would.
 *
 * @param {string} source
 * @returns {RegExp}
 * @throws {PatternError}
 */
export function compilePattern(source) {
  const rewriter = new Rewriter(source);
  const rewritten = rewriter.rewrite();
  try {
    // Alone first: a bracket that closes too much must not close the group around it.
    new RegExp(rewritten, 'us');
    return new RegExp(`(?<![^])(?:${rewritten})(?![^])`, `us${rewriter.flags}`);
  } catch (error) {
    const reason = error instanceof Error ? error.message.replace(/^.*: /, '') : String(error);
    throw new PatternError(`the regex '${source}' does not compile: ${reason}`, 0);
  }
}

/** Goes through a regex once, from left to right. */
class Rewriter {
  /** @param {string} source */
  constructor(source) {
    this.source = source;
    this.index = 0;
    this.flags = '';
  }

  rewrite() {
    this.#leadingFlags();
    let result = '';
    while (this.index < this.source.length) result += this.#next();
    return result;
  }

  /** Flags of the whole regex, `(?i)` and `(?im)`; `s` and `u` are on anyway. */
  #leadingFlags() {
    const match = /^\(\?([imsu]+)\)/.exec(this.source);
    if (match === null) return;
    this.index = match[0].length;
    this.flags = ['i', 'm'].filter((flag) => match[1].includes(flag)).join('');
  }

  /** @returns {string} */
  #next() {
    const character = this.source[this.index];
    switch (character) {
      case '\\':
        return this.#escape(false);
      case '[':
        return this.#brackets();
      case '(':
        return this.#group();
      case '{':
        return this.#count();
      case ']':
      case '}':
        this.index += 1;
        return `\\${character}`;
      default:
        this.index += 1;
        return character;
    }
  }

  #group() {
    const rest = this.source.slice(this.index);
    if (!rest.startsWith('(?')) return this.#take('(');
    if (rest.startsWith('(?:')) return this.#take('(?:');
    if (/^\(\?(=|!|<=|<!)/.test(rest)) throw this.#refuse('look-around, which selectors do not have');
    if (rest.startsWith('(?P<')) return this.#take('(?P<', '(?<');
    if (rest.startsWith('(?<')) return this.#take('(?<');
    throw this.#refuse(`the group '${rest.slice(0, 4)}', which cannot be matched on this side (flags go to the start)`);
  }

  #count() {
    const match = /^\{(\d*)(,?)(\d*)\}/.exec(this.source.slice(this.index));
    if (match === null || (match[1] === '' && match[3] === '')) throw this.#refuse("a '{' that starts no repetition (write '\\{')");
    return this.#take(match[0], `{${match[1] || '0'}${match[2]}${match[3]}}`);
  }

  /**
   * @param {boolean} inBrackets
   * @returns {string}
   */
  #escape(inBrackets) {
    const rest = this.source.slice(this.index);
    const letter = rest[1];
    if (letter === undefined) throw this.#refuse("a '\\' with nothing behind it");
    const code = /^\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|[xuU]\{([0-9A-Fa-f]{1,8})\})/.exec(rest);
    if (code !== null) return this.#take(code[0], `\\u{${code[1] ?? code[2] ?? code[3] ?? code[4]}}`);
    const property = /^\\([pP])(?:\{(\^?)([^}]*)\}|(.))/.exec(rest);
    if (property !== null) {
      const negated = (property[1] === 'P') !== (property[2] === '^');
      return this.#take(property[0], `\\${negated ? 'P' : 'p'}{${property[3] ?? property[4]}}`);
    }
    if (/[0-9k]/.test(letter)) throw this.#refuse('a back-reference, which selectors do not have');
    const known = Object.hasOwn(ESCAPES, letter) ? ESCAPES[letter] : undefined;
    const form = known && (inBrackets && known.length > 1 ? known[1] : known[0]);
    if (form != null) return this.#take(rest.slice(0, 2), form);
    if (/[A-Za-z]/.test(letter)) throw this.#refuse(`the escape '\\${letter}', which cannot be matched on this side`);
    return this.#take(rest.slice(0, 2), literal(letter));
  }

  /** A class in brackets. */
  #brackets() {
    const start = this.index;
    let result = this.source.startsWith('[^', start) ? this.#take('[^') : this.#take('[');
    if (this.source[this.index] === ']') result += this.#take(']', '\\]');
    for (;;) {
      const rest = this.source.slice(this.index);
      const posix = /^\[:([a-z]+):\]/.exec(rest);
      if (rest === '') {
        this.index = start;
        throw this.#refuse("a '[' without its ']'");
      } else if (rest[0] === ']') {
        return result + this.#take(']');
      } else if (rest[0] === '\\') {
        result += this.#escape(true);
      } else if (posix !== null && Object.hasOwn(POSIX_CLASSES, posix[1])) {
        result += this.#take(posix[0], POSIX_CLASSES[posix[1]]);
      } else if (rest[0] === '[' || /^(&&|--|~~)/.test(rest)) {
        throw this.#refuse('a class within a class, which cannot be matched on this side');
      } else {
        result += this.#take(rest[0]);
      }
    }
  }

  /**
   * Steps over `text` and stands for it by `form`.
   *
   * @param {string} text
   */
  #take(text, form = text) {
    this.index += text.length;
    return form;
  }

  /** @param {string} found */
  #refuse(found) {
    return new PatternError(`found ${found}`, this.index);
  }
}

/**
 * An escaped character as itself. JavaScript allows the backslash only before what needs it.
 *
 * @param {string} character
 */
function literal(character) {
  if (character === '-') return '\\x2D';
  return /[\^$\\.*+?()[\]{}|/]/.test(character) ? `\\${character}` : character;
}
