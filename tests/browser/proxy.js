// A way to the server that can be cut and led elsewhere, while the page keeps its address.

import { connect, createServer } from 'node:net';
import { once } from 'node:events';

/** Listens on a free port; `lead` says where to, `cut` breaks all connections at once. */
export async function startProxy() {
  let target;
  const sockets = new Set();
  const server = createServer((near) => {
    if (target === undefined) return near.destroy();
    const far = connect(target);
    for (const [from, to] of [[near, far], [far, near]]) {
      sockets.add(from);
      from.on('data', (chunk) => to.write(chunk));
      from.on('error', () => {});
      from.on('close', () => {
        sockets.delete(from);
        to.destroy();
      });
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const cut = () => sockets.forEach((socket) => socket.destroy());
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    cut,
    lead(url) {
      target = url && { host: '127.0.0.1', port: Number(new URL(url).port) };
    },
    async stop() {
      cut();
      server.close();
    },
  };
}
