// The pane that shows one topic whole: its value, how often it changed, and its course where it is a number.

import { textOf } from '/sdk/tidewire.js';
import { count, element, number, setText, sparkline } from './draw.js';

/** More lines, or bytes of a binary value, are not shown: the page stays quick whatever a value holds. */
const LINES_MAX = 1500;
const TEXT_CHARACTERS_MAX = 100_000;
const BINARY_BYTES_MAX = 1024;
/** A value is drawn at most this often: nobody reads faster. */
const DRAW_MS = 100;

export class Detail {
  constructor(model, pane) {
    this.model = model;
    this.pane = pane;
    this.path = null;
    this.drawn = { topic: null, changes: -1, at: -Infinity };
    const part = (name) => pane.querySelector(`[data-part="${name}"]`);
    this.parts = Object.fromEntries(
      ['path', 'type', 'changes', 'age', 'number', 'figure', 'chart', 'low', 'high', 'value', 'note', 'copy', 'close', 'body', 'hint'].map((name) => [name, part(name)]),
    );
    this.parts.copy.addEventListener('click', () => this.copy());
    this.parts.close.addEventListener('click', () => this.show(null));
  }

  show(path) {
    this.path = path;
    this.drawn = { topic: null, changes: -1, at: -Infinity };
    this.pane.classList.toggle('chosen', path !== null);
    this.parts.value.replaceChildren();
    if (path === null) this.pane.dispatchEvent(new Event('dismiss'));
    this.draw(performance.now());
  }

  draw(now) {
    const topic = this.path === null ? undefined : this.model.topics.get(this.path);
    const { parts } = this;
    parts.hint.hidden = this.path !== null;
    parts.body.hidden = this.path === null;
    if (this.path === null) return;
    setText(parts.path, this.path);
    setText(parts.age, ageText(topic, now));
    if (this.drawn.topic === (topic ?? null) && this.drawn.changes === topic?.changes) return;
    if (now - this.drawn.at < DRAW_MS && this.drawn.topic === topic) return;
    const isSame = this.drawn.topic === topic;
    this.drawn = { topic: topic ?? null, changes: topic?.changes ?? -1, at: now };
    if (topic) this.drawTopic(topic, isSame);
    else this.drawAbsent();
  }

  drawAbsent() {
    const { parts } = this;
    const below = this.model.node(this.path)?.count ?? 0;
    setText(parts.type, below > 0 ? 'branch' : 'absent');
    setText(parts.changes, below > 0 ? `${count(below)} topics below` : '');
    parts.number.hidden = true;
    parts.value.hidden = true;
    setText(parts.note, below > 0 ? '' : 'This topic was removed, may not be read any more, or the selector leaves it out.');
  }

  drawTopic(topic, isSame) {
    const { parts } = this;
    setText(parts.type, topic.type);
    setText(parts.changes, topic.changes === 1 ? '1 value' : `${count(topic.changes)} values`);
    parts.number.hidden = !topic.history;
    parts.value.hidden = topic.history !== null || topic.value === undefined;
    setText(parts.note, topic.value === undefined ? 'This topic has no value yet.' : '');
    if (topic.history) this.drawNumber(topic);
    else if (topic.value !== undefined) this.drawText(topic, isSame);
  }

  drawNumber(topic) {
    const { history } = topic;
    setText(this.parts.figure, topic.value === undefined ? '–' : number(topic.value));
    let [low, high] = [Infinity, -Infinity];
    for (let i = 0; i < history.size; i += 1) {
      low = Math.min(low, history.at(i));
      high = Math.max(high, history.at(i));
    }
    setText(this.parts.low, history.size ? `low ${number(low)}` : '');
    setText(this.parts.high, history.size ? `high ${number(high)}` : '');
    sparkline(this.parts.chart, history);
  }

  /** Lines that stay the same keep their elements; those that change flash. */
  drawText(topic, isSame) {
    const lines = linesOf(topic);
    const list = this.parts.value;
    lines.slice(0, LINES_MAX).forEach((text, index) => {
      const line = list.children[index] ?? list.appendChild(element('div', 'line'));
      if (line.textContent === text) return;
      line.replaceChildren(...(topic.type === 'json' ? coloured(text) : [text]));
      const wasA = line.classList.contains('flash-a');
      line.className = isSame ? `line ${wasA ? 'flash-b' : 'flash-a'}` : 'line';
    });
    while (list.children.length > Math.min(lines.length, LINES_MAX)) list.lastChild.remove();
    if (lines.length > LINES_MAX) setText(this.parts.note, `The first ${count(LINES_MAX)} of ${count(lines.length)} lines.`);
  }

  async copy() {
    const label = this.parts.copy.textContent;
    try {
      await navigator.clipboard.writeText(this.path);
      this.parts.copy.textContent = 'Copied';
    } catch {
      this.parts.copy.textContent = 'Not allowed';
    }
    setTimeout(() => { this.parts.copy.textContent = label; }, 1200);
  }
}

function ageText(topic, now) {
  if (!topic?.changedAt) return '';
  const seconds = (now - topic.changedAt) / 1000;
  if (seconds < 1) return 'changed just now';
  return seconds < 60 ? `changed ${Math.floor(seconds)} s ago` : `changed ${Math.floor(seconds / 60)} min ago`;
}

function linesOf(topic) {
  const text = topic.type === 'json' ? JSON.stringify(topic.value, null, 2) ?? '' : topic.type === 'binary' ? textOf(topic.value) : topic.value;
  if (text === undefined) return hexLines(topic.value);
  const cut = text.length > TEXT_CHARACTERS_MAX ? `${text.slice(0, TEXT_CHARACTERS_MAX)}…` : text;
  return cut.split('\n');
}

function hexLines(value) {
  const lines = [];
  for (let at = 0; at < Math.min(value.length, BINARY_BYTES_MAX); at += 16) {
    const part = [...value.slice(at, at + 16)];
    const hex = part.map((byte) => byte.toString(16).padStart(2, '0')).join(' ').padEnd(48);
    const text = part.map((byte) => (byte >= 32 && byte < 127 ? String.fromCharCode(byte) : '.')).join('');
    lines.push(`${at.toString(16).padStart(4, '0')}  ${hex} ${text}`);
  }
  if (value.length > BINARY_BYTES_MAX) lines.push(`… ${count(value.length)} bytes in all`);
  return lines;
}

const JSON_LINE = /^(\s*)("(?:[^"\\]|\\.)*": )?(.*?)(,?)$/;

/** One line of printed JSON as elements, a key and a value each in its own. */
function coloured(line) {
  const [, space, key = '', value, comma] = JSON_LINE.exec(line) ?? ['', '', '', line, ''];
  const kind = value.startsWith('"') ? 'string' : /^[-\d]/.test(value) ? 'number' : /^[tfn]/.test(value) ? 'word' : 'mark';
  const parts = [space];
  if (key) parts.push(element('span', 'key', key));
  parts.push(element('span', kind, value), element('span', 'mark', comma));
  return parts;
}
