// Small drawings and texts that several parts of the page share.

import { textOf } from '/sdk/tidewire.js';

/** Draws numbers as a line with a soft area below. `floor` and `ceiling`, where given, hold the scale still. */
export function sparkline(canvas, history, { floor, ceiling, color } = {}) {
  const context = fitted(canvas);
  if (!context) return;
  const { width, height } = canvas.getBoundingClientRect();
  context.clearRect(0, 0, width, height);
  if (history.size === 0) return;
  const scale = scaleOf(history, floor, ceiling);
  // One number is a flat line.
  const last = Math.max(history.size - 1, 1);
  const y = (number) => height - 1.5 - ((number - scale.low) / scale.range) * (height - 3);
  context.beginPath();
  for (let i = 0; i <= last; i += 1) context.lineTo((i * width) / last, y(history.at(i)));
  context.strokeStyle = color ?? getComputedStyle(canvas).color;
  context.lineWidth = 1.5;
  context.lineJoin = 'round';
  context.stroke();
  context.lineTo(width, height);
  context.lineTo(0, height);
  context.globalAlpha = 0.13;
  context.fillStyle = context.strokeStyle;
  context.fill();
  context.globalAlpha = 1;
}

/** Two lines on one scale: `first` in the canvas's colour, `second` in `secondColor`. */
export function sparklines(canvas, first, second, secondColor) {
  const context = fitted(canvas);
  if (!context || first.size < 2) return;
  const { width, height } = canvas.getBoundingClientRect();
  context.clearRect(0, 0, width, height);
  let high = 1;
  for (const history of [first, second]) {
    for (let i = 0; i < history.size; i += 1) high = Math.max(high, history.at(i));
  }
  for (const [history, color] of [[first, getComputedStyle(canvas).color], [second, secondColor]]) {
    context.beginPath();
    for (let i = 0; i < history.size; i += 1) {
      context.lineTo((i * width) / (history.size - 1), height - 1.5 - (history.at(i) / high) * (height - 3));
    }
    context.strokeStyle = color;
    context.lineWidth = 1.5;
    context.lineJoin = 'round';
    context.stroke();
  }
}

function scaleOf(history, floor, ceiling) {
  let low = floor ?? Infinity;
  let high = ceiling ?? -Infinity;
  for (let i = 0; i < history.size; i += 1) {
    low = Math.min(low, history.at(i));
    high = Math.max(high, history.at(i));
  }
  // A number that stands still is a line in the middle.
  if (high === low) return { low: low - 1, range: 2 };
  return { low, range: high - low };
}

/** The canvas's context in CSS pixels, sharp on every screen; null while the canvas is not shown. */
function fitted(canvas) {
  const { width, height } = canvas.getBoundingClientRect();
  if (width === 0 || height === 0) return null;
  const ratio = window.devicePixelRatio || 1;
  const [wide, high] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== wide || canvas.height !== high) {
    canvas.width = wide;
    canvas.height = high;
  }
  const context = canvas.getContext('2d');
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return context;
}

/** An element with a class and a text; values of topics are only ever set as text. */
export function element(tag, className = '', text = '') {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

/** Sets a text only where it differs: most of a frame's texts do not. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

const BYTE_UNITS = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];

export function bytes(count) {
  let number = Number(count) || 0;
  let unit = 0;
  while (Math.abs(number) >= 999.5 && unit < BYTE_UNITS.length - 1) {
    number /= 1000;
    unit += 1;
  }
  const digits = unit === 0 || number >= 100 ? 0 : 1;
  return `${number.toFixed(digits)} ${BYTE_UNITS[unit]}`;
}

const WHOLE = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const DECIMAL = new Intl.NumberFormat('en', { maximumFractionDigits: 3 });

export function count(number) {
  return WHOLE.format(number);
}

/** A number as the tree shows it. */
export function number(value) {
  if (typeof value === 'bigint') return WHOLE.format(value);
  if (!Number.isFinite(value)) return String(value);
  return Math.abs(value) >= 1e15 ? String(value) : DECIMAL.format(value);
}

export function duration(seconds) {
  const minutes = Math.floor(seconds / 60);
  const [days, hours] = [Math.floor(minutes / 1440), Math.floor(minutes / 60) % 24];
  if (days > 0) return `${days} d ${hours} h`;
  if (hours > 0) return `${hours} h ${minutes % 60} min`;
  return minutes > 0 ? `${minutes} min` : `${Math.floor(seconds)} s`;
}

const PREVIEW_CHARACTERS_MAX = 160;

/** A value in one short line. */
export function preview(topic) {
  const { type, value } = topic;
  if (value === undefined) return 'no value';
  if (type === 'int64' || type === 'double') return number(value);
  if (type === 'string') return value.slice(0, PREVIEW_CHARACTERS_MAX);
  if (type === 'binary') return textOf(value)?.slice(0, PREVIEW_CHARACTERS_MAX) ?? `${count(value.length)} bytes`;
  return previewJson(value, PREVIEW_CHARACTERS_MAX);
}

/** The beginning of a JSON value, without making the text of all of it. */
function previewJson(value, room) {
  if (value === null || typeof value !== 'object') return (JSON.stringify(value) ?? '').slice(0, room);
  const isArray = Array.isArray(value);
  const parts = [];
  for (const key in value) {
    if (room <= 0) {
      parts.push('…');
      break;
    }
    const inner = previewJson(value[key], Math.min(room, 40));
    const part = isArray ? inner : `${key}: ${inner}`;
    room -= part.length + 2;
    parts.push(part);
  }
  return isArray ? `[${parts.join(', ')}]` : `{${parts.join(', ')}}`;
}
