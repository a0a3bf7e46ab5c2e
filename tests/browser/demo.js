// The real server, started for a test, and a browser to look at it with.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

const BINARY = process.env.TIDEWIRE_BIN ?? fileURLToPath(new URL('../../target/debug/tidewire', import.meta.url));
const BROWSERS = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
const LISTENING = /listening on (http:\/\/[\w.:[\]]+)/;

/** Starts `tidewire demo` on a free port; `stop` ends it. */
export function startDemo() {
  return start(['demo', '--ephemeral']);
}

/** Starts `tidewire serve` on a free port with a store in the directory; `kill` ends it at once. */
export function startServer(directory) {
  return start(['serve', '--dev', '--data', directory]);
}

/** Starts `tidewire` with these arguments; `output` gives what it has said. */
export function startWith(command) {
  return start(command);
}

async function start(command) {
  if (!existsSync(BINARY)) throw new Error(`no server at ${BINARY}: build it, or name it in TIDEWIRE_BIN`);
  const server = spawn(BINARY, [...command, '--listen', '127.0.0.1:0', '--mqtt', 'off'], { stdio: ['ignore', 'pipe', 'pipe'] });
  const exited = once(server, 'exit');
  const kill = () => {
    server.kill('SIGKILL');
    return exited;
  };
  const said = { text: '' };
  try {
    return { url: await addressOf(server, said), stop: () => stop(server, exited), kill, output: () => said.text };
  } catch (error) {
    await stop(server, exited);
    throw error;
  }
}

function addressOf(server, said) {
  return new Promise((resolve, reject) => {
    const read = (chunk) => {
      said.text += chunk;
      const found = LISTENING.exec(said.text);
      if (found) resolve(found[1]);
    };
    // Both are read to the end: a pipe that fills would stop the server.
    server.stdout.setEncoding('utf8').on('data', read);
    server.stderr.setEncoding('utf8').on('data', read);
    server.once('error', reject);
    server.once('exit', (code) => reject(new Error(`the server ended with code ${code} before it listened:\n${said.text}`)));
  });
}

async function stop(server, exited) {
  if (server.exitCode === null && server.signalCode === null) server.kill('SIGTERM');
  await exited;
}

export function launchBrowser() {
  const executablePath = process.env.TIDEWIRE_CHROMIUM ?? BROWSERS.find((path) => existsSync(path));
  if (!executablePath) throw new Error(`no browser at ${BROWSERS.join(', ')}: install Chromium, or name it in TIDEWIRE_CHROMIUM`);
  const args = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];
  return chromium.launch({ executablePath, args });
}
